"""A real cluster for the tests of your program: `async with ottla.testing.cluster(3) as c: ...`, ready within a second.

    @pytest.fixture
    async def cluster():
        async with ottla.testing.cluster(3) as c:
            yield c

    async def test_my_program_survives_a_dead_leader(cluster):
        async with ottla.Producer(cluster.bootstrap) as producer:
            await producer.send("events", b"hello")
            cluster.kill(await cluster.leader("events"))
            ...

`cluster(3, faults=True)` can also cut the nodes off from each other (`partition`), and has disks that fail, clocks that
are wrong and calls that nobody answers (`hook`).

The nodes are processes with the code paths, disks and sockets of production, on loopback and on free ports; `kill` is
kill -9, `pause` is SIGSTOP. They start fast because they are forked from a helper that has imported the server already.
No process is left behind, also if the program is killed, and, unless you name a directory, no file.
"""

import asyncio
import contextlib
import os
import random
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlencode

from ottla import server
from ottla.cli.local import HOST, KAFKA, LISTENERS, free_base_port
from ottla.testing.nursery import Nursery
from ottla.verify.links import Link, Links

__all__ = ["Cluster", "ClusterFailed", "Node", "cluster"]

_LOOK_S: Final = 0.01
_PORTS: Final = range(12_000, 31_000, 10)
"""Below the range from which systems take the ports of outgoing connections."""
_ATTEMPTS: Final = 3
_BETWEEN: Final = ("control", "replication")
"""The listeners on which nodes talk to each other."""


class ClusterFailed(AssertionError):
    """The cluster does not do what was asked; the text has the end of a node's log."""


class Node:
    """One node: `log` is what it printed, `data` its disk."""

    def __init__(self, node_id: int, port: int, directory: Path) -> None:
        self.node_id = node_id
        self.port = port
        self.data = directory / f"node-{node_id}"
        self.log_path = directory / f"node-{node_id}.log"
        self.pid: int | None = None
        self.paused = False

    @property
    def address(self) -> str:
        """host:port for clients."""
        return f"{HOST}:{self.port}"

    @property
    def kafka_address(self) -> str:
        """host:port for clients of Apache Kafka."""
        return f"{HOST}:{self.port + LISTENERS[KAFKA]}"

    @property
    def running(self) -> bool:
        """Whether its process is there, paused or not."""
        if self.pid is not None:
            try:
                os.kill(self.pid, 0)
            except ProcessLookupError:
                self.pid = None
        return self.pid is not None

    @property
    def log(self) -> str:
        """All it has printed so far."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    async def http(self, path: str, method: str = "GET") -> tuple[int, str]:
        """(status, body) of /readyz, /healthz or /metrics; status 0 where nobody answers."""
        try:
            async with asyncio.timeout(2):
                reader, writer = await asyncio.open_connection(HOST, self.port + LISTENERS["http"])
                try:
                    writer.write(f"{method} {path} HTTP/1.1\r\n\r\n".encode())
                    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
                finally:
                    writer.close()
        except (OSError, TimeoutError):
            return 0, ""
        words = head.split(b" ", 2)
        return (int(words[1]) if len(words) > 2 else 0), body.decode()

    async def hook(self, **faults: object) -> None:
        """Sets faults, for `cluster(faults=True)`; a start ends them. What is not named stays, None ends it.

        write="ENOSPC"          writes, new files and new directories fail
        sync="EIO"              syncs fail; sync_ms=500: they take longer
        path=".*/quorum/.*"     the three above are for files and directories whose whole path matches
        clock_ms=3_600_000      the wall clock is off by so much, in the times of records and in retention, too
        drop="Fetch|Raft.*"     calls whose method matches are never answered; fail="Produce": they are refused at once
        share=0.3               of those calls, so many
        """
        query = urlencode({name: "" if value is None else value for name, value in faults.items()})
        status, body = await self.http(f"/hooks?{query}", "POST")
        if status != 200:
            hint = " Next: make the cluster with faults=True" if status in (404, 405) else ""
            raise ClusterFailed(f"node {self.node_id} does not take {faults}: {status} {body.strip()}{hint}")


class Cluster:
    """Nodes 1 to n. Use it as a context manager; entering waits until all of them are ready."""

    def __init__(
        self, nodes: int, settings: Mapping[str, object], directory: Path | None, timeout_s: float, faults: bool
    ) -> None:
        if nodes < 1:
            raise ValueError(f"a cluster has at least one node, not {nodes}")
        self._count = nodes
        self._settings = dict(settings)
        self._given_directory = directory
        self._timeout_s = timeout_s
        self._directory = Path()
        self._faults = faults
        self._links: Links | None = None
        self.nodes: dict[int, Node] = {}

    def __getitem__(self, node_id: int) -> Node:
        return self.nodes[node_id]

    @property
    def bootstrap(self) -> str:
        """The addresses of all nodes, for Client, Producer, Consumer and Admin."""
        return ",".join(node.address for node in self.nodes.values())

    @property
    def kafka_bootstrap(self) -> str:
        """The same for clients of Apache Kafka: their `bootstrap.servers`."""
        return ",".join(node.kafka_address for node in self.nodes.values())

    # -- life ------------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        if wrong := server.lack():
            raise ClusterFailed(f"{wrong}. Next: {server.NEXT_STEP}")
        self._directory = self._given_directory or Path(tempfile.mkdtemp(prefix="ottla-"))
        self._directory.mkdir(parents=True, exist_ok=True)
        for attempt in range(_ATTEMPTS):
            base = free_base_port(self._count, random.sample(_PORTS, 200))
            self.nodes = {i: Node(i, base + i - 1, self._directory) for i in range(1, self._count + 1)}
            try:
                if self._faults:
                    owners = {node.port + LISTENERS[name]: i for i, node in self.nodes.items() for name in _BETWEEN}
                    self._links = await asyncio.to_thread(Links, list(self.nodes), owners)
                await self.start(*self.nodes)
                return self
            except BaseException as error:
                lost_a_port = isinstance(error, ClusterFailed) and "listener cannot have" in str(error)
                self._end()
                if not lost_a_port or attempt == _ATTEMPTS - 1:
                    self._clean_up()
                    raise
        raise AssertionError("unreachable")

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()
        self._clean_up()

    def _end(self) -> None:
        for node_id, node in self.nodes.items():
            if node.running:
                self.kill(node_id)
        if self._links is not None:
            self._links.close()
            self._links = None

    def _clean_up(self) -> None:
        if self._given_directory is None:
            shutil.rmtree(self._directory, ignore_errors=True)

    # -- faults ----------------------------------------------------------------------------------------------------

    def kill(self, *node_ids: int) -> None:
        """kill -9: the processes are gone when this returns. What they wrote stays."""
        nodes = [self.nodes[node_id] for node_id in node_ids]
        for node in nodes:
            self._signal(node, signal.SIGKILL)
            node.paused = False
        deadline = time.monotonic() + 10
        while any(node.running for node in nodes):
            if time.monotonic() > deadline:
                raise ClusterFailed(f"nodes {node_ids} outlive kill -9")
            time.sleep(0.001)

    def pause(self, *node_ids: int) -> None:
        """SIGSTOP: the connections stay open, and nothing answers."""
        for node_id in node_ids:
            self._signal(self.nodes[node_id], signal.SIGSTOP)
            self.nodes[node_id].paused = True

    def resume(self, *node_ids: int) -> None:
        """SIGCONT: goes on in the middle of whatever it did."""
        for node_id in node_ids:
            self._signal(self.nodes[node_id], signal.SIGCONT)
            self.nodes[node_id].paused = False

    def partition(self, *groups: Collection[int]) -> None:
        """Cuts the network between the nodes: those of a group hear each other, and nobody else; a node that is in no
        group is alone. Bytes stop, connections stay, nobody is told, as in a real network. Clients reach every node."""
        group_of = {node_id: number for number, group in enumerate(groups) for node_id in group}
        if unknown := group_of.keys() - self.nodes.keys():
            raise ValueError(f"there are no nodes {sorted(unknown)}, only 1 to {self._count}")
        self._cut(
            (a, b) for a in self.nodes for b in self.nodes if a != b and group_of.get(a, -a) != group_of.get(b, -b)
        )

    def heal(self) -> None:
        """Ends the partition: what waited is delivered."""
        self._cut(())

    def _cut(self, links: Iterable[Link]) -> None:
        if self._links is None:
            raise ClusterFailed("the network can't be cut. Next: make the cluster with faults=True")
        self._links.cut(links)

    async def stop(self, *node_ids: int) -> None:
        """SIGTERM: the nodes hand over what they lead, and end. Returns when they are gone."""
        for node_id in node_ids:
            self._signal(self.nodes[node_id], signal.SIGTERM)
        nodes = [self.nodes[node_id] for node_id in node_ids]
        await self._until(lambda: not any(node.running for node in nodes), f"nodes {node_ids} do not stop", nodes)

    async def start(self, *node_ids: int) -> None:
        """Starts these nodes on what they left on their disks. Returns when they are ready."""
        nodes = [self.nodes[node_id] for node_id in node_ids]
        for node in nodes:
            if node.running:
                raise ClusterFailed(f"node {node.node_id} runs already")
            nursery = Nursery.shared(proxied=self._faults)
            environment = self._links.environment(node.node_id) if self._links is not None else {}
            node.pid = await asyncio.to_thread(nursery.start, self._arguments(node), node.log_path, environment)
            node.paused = False
        await asyncio.gather(*map(self._ready, nodes))

    async def restart(self, node_id: int) -> None:
        """Stops a node in an orderly way if it runs, and starts it. Returns when it is ready."""
        if self.nodes[node_id].running:
            await self.stop(node_id)
        await self.start(node_id)

    def wipe(self, node_id: int) -> None:
        """Replaces a dead node's disk by an empty one."""
        if self.nodes[node_id].running:
            raise ClusterFailed(f"node {node_id} runs. Next: kill or stop it first")
        shutil.rmtree(self.nodes[node_id].data, ignore_errors=True)

    # -- looking ---------------------------------------------------------------------------------------------------

    async def leader(self, topic: str, partition: int = 0) -> int:
        """The node that leads a partition, as soon as one that runs does."""
        from ottla.client.admin import Admin

        deadline = time.monotonic() + self._timeout_s
        async with Admin([node.address for node in self.nodes.values() if node.running and not node.paused]) as admin:
            while True:
                leader = (await admin.describe_topic(topic)).partitions[partition].leader_id
                if leader is not None and self.nodes[leader].running:
                    return leader
                if time.monotonic() > deadline:
                    raise ClusterFailed(f"{topic}-{partition} has no leader after {self._timeout_s:g} s")
                await asyncio.sleep(_LOOK_S)

    # -- small parts -----------------------------------------------------------------------------------------------

    def _arguments(self, node: Node) -> list[str]:
        base = self.nodes[1].port
        settings: dict[str, object] = {
            "node.id": node.node_id,
            "data.dir": node.data,
            "base.port": base,
            "controller.quorum.voters": ",".join(
                f"{i}@{HOST}:{base + LISTENERS['control'] + i - 1}" for i in self.nodes
            ),
            **self._settings,
        }
        flags = ["--test-hooks"] if self._faults else []
        return [*flags, *(part for key, value in settings.items() for part in ("--set", f"{key}={_text(value)}"))]

    async def _ready(self, node: Node) -> None:
        deadline = time.monotonic() + self._timeout_s
        while (await node.http("/readyz"))[0] != 200:
            if not node.running:
                raise self._failed(f"node {node.node_id} ended", node)
            if time.monotonic() > deadline:
                raise self._failed(f"node {node.node_id} is not ready after {self._timeout_s:g} s", node)
            await asyncio.sleep(_LOOK_S)

    async def _until(self, holds: Callable[[], bool], otherwise: str, nodes: list[Node]) -> None:
        deadline = time.monotonic() + self._timeout_s
        while not holds():
            if time.monotonic() > deadline:
                raise self._failed(otherwise, nodes[0])
            await asyncio.sleep(_LOOK_S)

    def _signal(self, node: Node, number: signal.Signals) -> None:
        if node.pid is None or not node.running:
            raise ClusterFailed(f"node {node.node_id} does not run")
        with contextlib.suppress(ProcessLookupError):
            os.kill(node.pid, number)

    def _failed(self, what: str, node: Node) -> ClusterFailed:
        return ClusterFailed(f"{what}; the end of its log:\n" + "\n".join(node.log.splitlines()[-20:]))


def cluster(
    nodes: int = 3,
    *,
    settings: Mapping[str, object] | None = None,
    directory: Path | None = None,
    timeout_s: float = 30.0,
    faults: bool = False,
) -> Cluster:
    """A cluster to be entered with `async with`. `settings` are the nodes', with their dotted names; `directory` keeps
    data and logs; `timeout_s` bounds every wait for the nodes; `faults`: `partition` and `hook` work."""
    return Cluster(nodes, settings or {}, directory, timeout_s, faults)


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
