"""Quorums of one test process: real gRPC on loopback, real files, one loop."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import grpc

from node.config import load
from node.quorum.driver import Leadership, Quorum
from storage.directory import LogDirectory
from storage.fs import OsFileSystem
from tests.cluster.harness import free_base_port


class Recorder:
    """A listener that keeps what it is told."""

    def __init__(self) -> None:
        self.committed: list[tuple[int, int, bytes]] = []
        self.snapshots: list[tuple[int, bytes]] = []
        self.leadership: list[Leadership] = []
        self.dead: list[int] = []
        self.alive: list[int] = []

    def on_committed(self, index: int, term: int, data: bytes) -> None:
        self.committed.append((index, term, data))

    def on_snapshot(self, index: int, term: int, data: bytes) -> None:
        self.snapshots.append((index, data))
        self.committed.clear()

    def on_leadership(self, leadership: Leadership) -> None:
        self.leadership.append(leadership)

    def on_peer_dead(self, node_id: int) -> None:
        self.dead.append(node_id)

    def on_peer_alive(self, node_id: int) -> None:
        self.alive.append(node_id)

    @property
    def data(self) -> list[bytes]:
        return [data for _, _, data in self.committed if data]

    def state(self) -> bytes:
        """The state machine as bytes: everything committed so far."""
        earlier = self.snapshots[-1][1] if self.snapshots else b""
        return earlier + b"".join(data + b"\n" for data in self.data)


class Node:
    """One quorum with its own server."""

    def __init__(self, node_id: int, path: Path, port: int, voters: str, extra: tuple[str, ...] = ()) -> None:
        self.node_id = node_id
        self.path = path
        self.port = port
        flags = (f"node.id={node_id}", f"data.dir={path}", f"controller.quorum.voters={voters}", *extra)
        self.settings = load(None, flags, {})
        self.recorder = Recorder()
        self.quorum: Quorum
        self.fs = OsFileSystem()

    async def start(self, *, directory_byte: int | None = None) -> None:
        new_id = bytes([directory_byte if directory_byte is not None else self.node_id]) * 16
        self.directory = LogDirectory.open(
            self.fs, str(self.path), node_id=self.node_id, new_directory_id=new_id, boot_id="test"
        )
        self.recorder = Recorder()
        self.quorum = Quorum(self.settings, self.directory, self.fs)
        self.quorum.add_listener(self.recorder)
        self.quorum.set_snapshot_source(self.recorder.state)
        self.server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        self.quorum.add_to(self.server)
        self.server.add_insecure_port(f"127.0.0.1:{self.port}")
        await self.server.start()
        await self.quorum.start()

    async def stop(self, *, transfer: bool = True) -> None:
        await self.quorum.stop(transfer=transfer)
        await self.server.stop(None)
        self.directory.close(clean=True)

    async def crash(self) -> None:
        """End without a word to anybody: no hand-over, nothing closed cleanly."""
        self.quorum._running = False
        self.quorum._disk.stop()
        if self.quorum._timer is not None:
            self.quorum._timer.cancel()
        await self.quorum._members.stop()
        await self.server.stop(None)
        self.quorum._thread.shutdown()
        self.directory.close(clean=False)


class Nodes:
    """A cluster of `Node`s; stops what still runs at the end."""

    def __init__(self, path: Path, voters: int, observers: int = 0, extra: tuple[str, ...] = ()) -> None:
        count = voters + observers
        base_port = free_base_port(count)
        ports = range(base_port, base_port + count)
        seats = ",".join(f"{i}@127.0.0.1:{ports[i - 1]}" for i in range(1, voters + 1))
        self.by_id = {i: Node(i, path / str(i), ports[i - 1], seats, extra) for i in range(1, count + 1)}
        self.running: set[int] = set()

    def __getitem__(self, node_id: int) -> Node:
        return self.by_id[node_id]

    async def __aenter__(self) -> "Nodes":
        return self

    async def __aexit__(self, *_: object) -> None:
        for node_id in sorted(self.running):
            await self.by_id[node_id].stop(transfer=False)

    async def start(self, *node_ids: int) -> None:
        for node_id in node_ids or tuple(self.by_id):
            node = self.by_id[node_id]
            await node.start()
            self.running.add(node_id)
            for other in self.by_id.values():
                # As the metadata tells where the brokers are.
                node.quorum.set_address(other.node_id, f"127.0.0.1:{other.port}")

    async def stop(self, node_id: int) -> None:
        self.running.discard(node_id)
        await self.by_id[node_id].stop()

    async def crash(self, node_id: int) -> None:
        self.running.discard(node_id)
        await self.by_id[node_id].crash()

    async def leader(self) -> Node:
        """The node that leads and serves, once all running nodes agree on it."""

        def agreed() -> bool:
            leaders = {self.by_id[i].quorum.leadership.leader_id for i in self.running}
            (leader,) = leaders if len(leaders) == 1 else (None,)
            return leader in self.running and self.by_id[leader].quorum.leadership.serving

        await until(agreed)
        (leader,) = {self.by_id[i].quorum.leadership.leader_id for i in self.running}
        assert leader is not None
        return self.by_id[leader]


async def until(condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
    """Wait until `condition()` holds. Raises TimeoutError."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event, on purpose
            await asyncio.sleep(0.005)


def propose(node: Node, data: bytes) -> int:
    return node.quorum.propose(data, node.quorum.leadership.term)
