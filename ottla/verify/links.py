"""The network between the nodes of one machine, as something that can be cut.

gRPC dials through a proxy where the environment names one (`grpc_proxy`). Each node is given an address of its own
here, so that of every connection both ends are known: who dialled, and whose listener was dialled. A cut is of one
direction of one pair of nodes and works as in a real network: bytes stop, connections stay, nobody is told; what waits
is delivered when the link heals. The nodes are as they are, and no rights are needed.

The proxy is a process of its own (`python -m ottla.verify.links`), so that it never waits for the workload's turn. It
ends with its standard input.
"""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Final, cast

Link = tuple[int, int]
"""(from, to): the direction in which bytes travel."""
HOST: Final = "127.0.0.1"
_HEAD_MAX_BYTES: Final = 8192
# Above this a side that does not read holds up the other, as TCP does.
_HIGH_WATER_BYTES: Final = 1 << 20


class Links:
    """The proxy process, as its user has it. `owners`: port of a listener -> the node that listens there."""

    def __init__(self, nodes: Iterable[int], owners: Mapping[int, int]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", __name__, json.dumps([list(nodes), list(owners.items())])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._ports = {int(node): port for node, port in json.loads(self._answer()).items()}

    def environment(self, node_id: int) -> dict[str, str]:
        """What makes a node dial through the proxy, whatever the user's own environment says about proxies."""
        return {"grpc_proxy": f"http://{HOST}:{self._ports[node_id]}", "no_grpc_proxy": "nobody.invalid"}

    def cut(self, links: Iterable[Link]) -> None:
        """From now on exactly these directions are cut."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(sorted(set(links))) + "\n")
        self._process.stdin.flush()
        self._answer()

    def close(self) -> None:
        """Ends the process, and every connection with it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise OSError("the process that carries the nodes' connections ended")
        return line


class _Switch:
    """Which directions are cut, and the connections to hold or to let go. Everything here lives in the proxy."""

    def __init__(self, owners: Mapping[int, int]) -> None:
        self.owners = owners
        self.cut: frozenset[Link] = frozenset()
        self.pipes: set[_Pipe] = set()
        self.waiting: set[_Door] = set()

    def set(self, cut: Iterable[Link]) -> None:
        self.cut = frozenset(cut)
        for pipe in list(self.pipes):
            pipe.look()
        for door in list(self.waiting):
            door.look()


class _Pipe(asyncio.Protocol):
    """One side of a connection: what it reads goes out at the other side, unless its direction is cut."""

    def __init__(self, switch: _Switch, link: Link) -> None:
        self._switch = switch
        self._link = link
        self._transport: asyncio.Transport | None = None
        self._other_is_full = False
        self._over = False
        self.other: _Pipe | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(_HIGH_WATER_BYTES)
        self._switch.pipes.add(self)
        self.look()

    def data_received(self, data: bytes) -> None:
        # What arrives for a side that has just gone is lost, as it would be.
        if self.other is not None and self.other._transport is not None and not self.other._transport.is_closing():
            self.other._transport.write(data)

    def pause_writing(self) -> None:
        if self.other is not None:
            self.other._other_is_full = True
            self.other.look()

    def resume_writing(self) -> None:
        if self.other is not None:
            self.other._other_is_full = False
            self.other.look()

    def connection_lost(self, error: Exception | None) -> None:
        self._over = True
        self.look()

    def look(self) -> None:
        """Hold or let go, as things are now. That a side has closed travels as its bytes do: not over a cut link."""
        transport = self._transport
        if transport is None:
            return
        is_cut = self._link in self._switch.cut
        if self._over:
            if not is_cut:
                self._switch.pipes.discard(self)
                if self.other is not None and self.other._transport is not None:
                    self.other._transport.close()
            return
        if is_cut or self._other_is_full:
            transport.pause_reading()
        else:
            transport.resume_reading()


class _Door(_Pipe):
    """The side that a node dialled: first it says in one HTTP head where it wants to go."""

    def __init__(self, switch: _Switch, node_id: int) -> None:
        super().__init__(switch, (node_id, node_id))
        self._node_id = node_id
        self._head = b""
        self._target: tuple[str, int] | None = None
        self._dialling: asyncio.Task[None] | None = None

    def data_received(self, data: bytes) -> None:
        if self.other is not None:
            super().data_received(data)
            return
        self._head += data
        head, end, _ = self._head.partition(b"\r\n\r\n")
        words = head.split(b"\r\n", 1)[0].split()
        if not end and len(self._head) <= _HEAD_MAX_BYTES:
            return
        assert self._transport is not None
        if not end or len(words) != 3 or words[0] != b"CONNECT":
            self._transport.abort()
            return
        host, _, port = words[1].decode("latin-1").rpartition(":")
        self._target = host.strip("[]"), int(port)
        self._link = self._node_id, self._switch.owners.get(int(port), self._node_id)
        self._switch.waiting.add(self)
        self.look()

    def connection_lost(self, error: Exception | None) -> None:
        self._switch.waiting.discard(self)
        super().connection_lost(error)

    def look(self) -> None:
        """Nobody hears a dialling node over a cut link, and it hears nobody."""
        there, back = self._link, self._link[::-1]
        if self in self._switch.waiting and not {there, back} & self._switch.cut:
            self._switch.waiting.discard(self)
            self._dialling = asyncio.get_running_loop().create_task(self._dial())
        super().look()

    async def _dial(self) -> None:
        assert self._transport is not None
        assert self._target is not None
        far = _Pipe(self._switch, self._link[::-1])
        # A server speaks first: not before both ends know each other, and the node that dialled its answer.
        far._other_is_full = True
        try:
            await asyncio.get_running_loop().create_connection(lambda: far, *self._target)
        except OSError:
            if self._transport.is_closing():
                return
            self._transport.write(b"HTTP/1.1 502 Bad Gateway\r\n\r\n")
            self._transport.close()
            return
        self.other, far.other = far, self
        if self._over:
            self.look()
            return
        self._transport.write(b"HTTP/1.1 200 OK\r\n\r\n")
        far._other_is_full = False
        far.look()


async def _serve(nodes: list[int], owners: Mapping[int, int]) -> None:
    loop = asyncio.get_running_loop()
    switch = _Switch(owners)
    servers = {node: await loop.create_server(partial(_Door, switch, node), HOST, 0) for node in nodes}
    print(json.dumps({node: server.sockets[0].getsockname()[1] for node, server in servers.items()}), flush=True)
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        switch.set((source, target) for source, target in json.loads(line))
        print("ok", flush=True)


def main() -> None:
    """The proxy process: serves until its standard input ends."""
    import uvloop

    nodes, owners = json.loads(sys.argv[1])
    uvloop.run(_serve(nodes, dict(owners)))


if __name__ == "__main__":
    main()
