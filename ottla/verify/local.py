"""A cluster of processes on this machine as the target: signals, a proxy between the nodes, hooks for their disks."""

import random
import shutil
import signal
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Final

from ottla import server
from ottla.cli.local import KAFKA, LISTENERS, LocalCluster, LocalNode, free_base_port
from ottla.verify.digest import digests_in
from ottla.verify.links import Link, Links
from ottla.verify.target import Disk
from ottla.verify.traces import flaws_in

_START_S: Final = 60.0
_STOP_S: Final = 30.0
# What a node's hooks are told (node/hooks.py).
HOOKS: Final[Mapping[Disk, str]] = {"": "write=&sync_ms=0", "full": "write=ENOSPC", "slow": "sync_ms=300"}
_BETWEEN: Final = ("control", "replication")


class LocalTarget:
    """Nodes 1..n below a directory, on free ports. `proxied`: they dial each other through `Links`, to be cut; `kafka`:
    they take clients of Kafka."""

    name = "local"

    def __init__(self, nodes: int, directory: Path, *, proxied: bool, kafka: bool = False) -> None:
        server.require()
        # Below the range of outgoing connections; another run beside this one looks elsewhere.
        base_port = free_base_port(nodes, random.sample(range(10_000, 32_000, 10), 200))
        self.directory = directory
        self._links: Links | None = None
        ids = range(1, nodes + 1)
        if proxied:
            owners = {base_port + LISTENERS[listener] + i - 1: i for listener in _BETWEEN for i in ids}
            self._links = Links(ids, owners)
        self._cluster = LocalCluster(
            nodes,
            directory,
            base_port,
            flags=["--test-hooks"],
            environment=self._links.environment if self._links else lambda _: {},
            # One that is frozen at the time would never act on a SIGTERM.
            orphaned=signal.SIGKILL,
            kafka_port=base_port + LISTENERS[KAFKA] if kafka else 0,
        )

    @property
    def nodes(self) -> Sequence[int]:
        return [node.node_id for node in self._cluster.nodes]

    @property
    def bootstrap(self) -> str:
        return self._cluster.bootstrap

    @property
    def kafka_bootstrap(self) -> str:
        return self._cluster.kafka_bootstrap or ""

    @property
    def logs(self) -> str:
        return str(self.directory / "node-*.log")

    def start(self, on_ready: Callable[[LocalNode], None] = lambda _: None) -> None:
        self._cluster.start()
        self._cluster.wait_ready(_START_S, on_ready)

    def close(self) -> None:
        for node in self._cluster.nodes:
            self._cluster.kill(node)
        if self._links is not None:
            self._links.close()

    def _node(self, node: int) -> LocalNode:
        return self._cluster.nodes[node - 1]

    def kill(self, node: int) -> None:
        self._cluster.kill(self._node(node))

    def terminate(self, node: int) -> int:
        process = self._node(node).process
        assert process is not None
        process.terminate()
        return process.wait(_STOP_S)

    def start_node(self, node: int) -> None:
        if not self.running(node):
            self._cluster.start_node(self._node(node))

    def pause(self, node: int) -> None:
        self._signal(node, signal.SIGSTOP)

    def resume(self, node: int) -> None:
        self._signal(node, signal.SIGCONT)

    def _signal(self, node: int, number: signal.Signals) -> None:
        process = self._node(node).process
        if process is not None:
            process.send_signal(number)

    def cut(self, links: Collection[Link]) -> None:
        if self._links is not None:
            self._links.cut(links)

    def disk(self, node: int, state: Disk) -> None:
        if not self.running(node):
            return  # its next start has no faults
        if self._node(node).ask("POST", f"/hooks?{HOOKS[state]}", 5) != 200:
            raise OSError(f"the hooks of node {node} do not answer")

    def wipe(self, node: int) -> None:
        shutil.rmtree(self.directory / f"node-{node}")

    def running(self, node: int) -> bool:
        return self._node(node).running

    def digests(self, topic_id: bytes) -> dict[int, dict[int, str]]:
        return {node: digests_in(self.directory / f"node-{node}", topic_id) for node in self.nodes}

    def missing(self, fault: str) -> str:
        if fault in ("cut", "one-way", "link") and self._links is None:
            return "the nodes were not started behind a proxy"
        return ""

    def flaws(self) -> list[str]:
        logs = {node.node_id: node.log.read_text(errors="replace").splitlines() for node in self._cluster.nodes}
        return flaws_in(logs)
