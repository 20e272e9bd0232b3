"""`ottla.testing` for tests without asyncio: the same names, which block.

@pytest.fixture
def cluster():
    with ottla.testing.sync.cluster(3) as c:
        yield c

def test_my_program_survives_a_dead_leader(cluster):
    with ottla.sync.Producer(cluster.bootstrap) as producer:
        producer.send("events", b"hello")
        cluster.kill(cluster.leader("events"))
        ...
"""

import asyncio
from collections.abc import Collection, Coroutine, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from ottla import testing
from ottla.testing import ClusterFailed

__all__ = ["Cluster", "ClusterFailed", "Node", "cluster"]

T = TypeVar("T")


class Node:
    """One node; see `ottla.testing.Node`."""

    def __init__(self, node: testing.Node, owner: "Cluster") -> None:
        self._node = node
        self._owner = owner

    @property
    def node_id(self) -> int:
        return self._node.node_id

    @property
    def address(self) -> str:
        """host:port for clients."""
        return self._node.address

    @property
    def kafka_address(self) -> str:
        """host:port for clients of Apache Kafka."""
        return self._node.kafka_address

    @property
    def data(self) -> Path:
        """Its disk."""
        return self._node.data

    @property
    def pid(self) -> int | None:
        return self._node.pid

    @property
    def running(self) -> bool:
        """Whether its process is there, paused or not."""
        return self._node.running

    @property
    def log(self) -> str:
        """All it has printed so far."""
        return self._node.log

    def http(self, path: str, method: str = "GET") -> tuple[int, str]:
        """(status, body) of /readyz, /healthz or /metrics; status 0 where nobody answers within 2 s."""
        return self._owner.run(self._node.http(path, method))

    def hook(self, **faults: object) -> None:
        """Sets faults, for `cluster(faults=True)`; see `ottla.testing.Node.hook`."""
        self._owner.run(self._node.hook(**faults))


class Cluster:
    """Nodes 1 to n. Use it in a `with` block; entering waits until all of them are ready. Not where an event loop runs:
    there is `ottla.testing.cluster`."""

    def __init__(self, inner: testing.Cluster) -> None:
        self._inner = inner
        self._runner: asyncio.Runner | None = None

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs a coroutine of the cluster and waits for it. Raises ClusterFailed outside of the `with` block, and where
        an event loop runs."""
        if self._runner is None:
            work.close()
            raise ClusterFailed("the cluster is not there. Next: use it in a `with` block")
        if asyncio._get_running_loop() is not None:
            work.close()
            raise ClusterFailed("an event loop runs here, and would stand still. Next: use ottla.testing.cluster")
        return self._runner.run(work)

    def __enter__(self) -> Self:
        self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)  # the program's own loop stays what it is
        try:
            self.run(self._inner.__aenter__())
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.run(self._inner.__aexit__(kind, error, trace))
        finally:
            self._end()

    def _end(self) -> None:
        runner, self._runner = self._runner, None
        if runner is not None:
            runner.close()

    def __getitem__(self, node_id: int) -> Node:
        return Node(self._inner[node_id], self)

    @property
    def nodes(self) -> dict[int, Node]:
        """By id."""
        return {node_id: self[node_id] for node_id in self._inner.nodes}

    @property
    def bootstrap(self) -> str:
        """The addresses of all nodes."""
        return self._inner.bootstrap

    @property
    def kafka_bootstrap(self) -> str:
        """The same for clients of Apache Kafka."""
        return self._inner.kafka_bootstrap

    def kill(self, *node_ids: int) -> None:
        """kill -9: the processes are gone when this returns. What they wrote stays."""
        self._inner.kill(*node_ids)

    def pause(self, *node_ids: int) -> None:
        """SIGSTOP: the connections stay open, and nothing answers."""
        self._inner.pause(*node_ids)

    def resume(self, *node_ids: int) -> None:
        """SIGCONT: goes on in the middle of whatever it did."""
        self._inner.resume(*node_ids)

    def partition(self, *groups: Collection[int]) -> None:
        """Cuts the network between groups of nodes; see `ottla.testing.Cluster.partition`."""
        self._inner.partition(*groups)

    def heal(self) -> None:
        """Ends the partition: what waited is delivered."""
        self._inner.heal()

    def wipe(self, node_id: int) -> None:
        """Replaces a dead node's disk by an empty one."""
        self._inner.wipe(node_id)

    def stop(self, *node_ids: int) -> None:
        """SIGTERM: the nodes hand over what they lead, and end. Returns when they are gone."""
        self.run(self._inner.stop(*node_ids))

    def start(self, *node_ids: int) -> None:
        """Starts these nodes on what they left on their disks. Returns when they are ready."""
        self.run(self._inner.start(*node_ids))

    def restart(self, node_id: int) -> None:
        """Stops a node in an orderly way if it runs, and starts it. Returns when it is ready."""
        self.run(self._inner.restart(node_id))

    def leader(self, topic: str, partition: int = 0) -> int:
        """The node that leads a partition, as soon as one that runs does."""
        return self.run(self._inner.leader(topic, partition))


def cluster(
    nodes: int = 3,
    *,
    settings: Mapping[str, object] | None = None,
    directory: Path | None = None,
    timeout_s: float = 30.0,
    faults: bool = False,
) -> Cluster:
    """A cluster to be entered with `with`; the arguments are those of `ottla.testing.cluster`."""
    return Cluster(testing.cluster(nodes, settings=settings, directory=directory, timeout_s=timeout_s, faults=faults))
