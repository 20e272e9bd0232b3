"""The ceiling without gRPC: the same leader, followers and client over plain TCP on uvloop.

    python -m bench.tcp_pipeline leader PORT FOLLOWERS FILE
    python -m bench.tcp_pipeline follower PORT NUMBER FILE

A frame is its length (4 bytes), a kind (1 byte) and the rest: a batch, a count of acknowledged batches, a follower's
number and the position it holds, or a piece of the log.
"""

import asyncio
import struct
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from bench.log import Acknowledgements, Log
from bench.process import run

HEADER = struct.Struct("<IB")
COUNT = struct.Struct("<q")
HOLDING = struct.Struct("<qq")
BATCH, COUNTED, HELD, PIECE = range(4)
UNACKNOWLEDGED_MAX = 2 << 20
BUFFER_BYTES = 4 << 20


class Frames(asyncio.BufferedProtocol):
    """Cuts a connection's bytes into frames; `on_frame` gets a view that is valid during the call only."""

    def __init__(self, on_frame: "Callable[[Frames, int, memoryview], None]") -> None:
        self._on_frame = on_frame
        self._buffer = bytearray(BUFFER_BYTES)
        self._filled = 0
        self._writable = asyncio.Event()
        self._writable.set()
        self.closed = asyncio.Event()
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's own class, with the same methods
        self.transport.set_write_buffer_limits(high=2 << 20)

    def get_buffer(self, sizehint: int) -> memoryview:
        return memoryview(self._buffer)[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        self._filled += nbytes
        view = memoryview(self._buffer)
        at = 0
        while self._filled - at >= HEADER.size:
            length, kind = HEADER.unpack_from(view, at)
            end = at + HEADER.size + length
            if end > self._filled:
                break
            self._on_frame(self, kind, view[at + HEADER.size : end])
            at = end
        if at:
            self._buffer[: self._filled - at] = self._buffer[at : self._filled]
            self._filled -= at

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed.set()
        self._writable.set()

    def send(self, kind: int, data: bytes) -> None:
        self.transport.writelines((HEADER.pack(len(data), kind), data))

    async def writable(self) -> None:
        await self._writable.wait()


@dataclass
class Sent:
    """What a follower was sent, and what it said it holds."""

    position: int = 0
    acknowledged: int = 0


class Leader:
    """Pushes: each follower gets what was appended since the last piece, up to a bound of unacknowledged bytes."""

    def __init__(self, followers: int, path: Path) -> None:
        self._log = Log(path)
        self._acknowledgements = Acknowledgements(followers)
        self._producer: Frames | None = None
        self._followers: dict[Frames, Sent] = {}
        self._told = 0
        self._due = False

    def on_frame(self, connection: Frames, kind: int, data: memoryview) -> None:
        if kind == BATCH:
            self._producer = connection
            self._log.append(data)
            self._acknowledgements.appended(self._log.end)
        elif kind == HELD:
            follower, position = HOLDING.unpack(data)
            self._acknowledgements.reached(follower, position)
            self._followers.setdefault(connection, Sent()).acknowledged = position
        # Once per turn of the loop: what arrived together is answered together.
        if not self._due:
            self._due = True
            asyncio.get_running_loop().call_soon(self._serve)

    def _serve(self) -> None:
        self._due = False
        for connection, sent in self._followers.items():
            while sent.position < self._log.end and sent.position - sent.acknowledged < UNACKNOWLEDGED_MAX:
                piece = self._log.read(sent.position)
                connection.send(PIECE, piece)
                sent.position += len(piece)
        count = self._acknowledgements.count(self._log.end)
        if self._producer is not None and count > self._told:
            self._producer.send(COUNTED, COUNT.pack(count))
            self._told = count


async def lead(port: int, followers: int, path: Path) -> None:
    leader = Leader(followers, path)
    server = await asyncio.get_running_loop().create_server(lambda: Frames(leader.on_frame), "127.0.0.1", port)
    await server.serve_forever()


async def connect(port: int, on_frame: Callable[[Frames, int, memoryview], None]) -> Frames:
    """Dials until the leader is there."""
    while True:
        try:
            _, frames = await asyncio.get_running_loop().create_connection(lambda: Frames(on_frame), "127.0.0.1", port)
        except ConnectionRefusedError:
            await asyncio.sleep(0.05)
        else:
            return frames


async def follow(port: int, number: int, path: Path) -> None:
    log = Log(path)

    def on_piece(connection: Frames, _kind: int, data: memoryview) -> None:
        log.append(data)
        connection.send(HELD, HOLDING.pack(number, log.end))

    connection = await connect(port, on_piece)
    connection.send(HELD, HOLDING.pack(number, 0))
    await connection.closed.wait()


class TcpLink:
    """The client's end."""

    def __init__(self, connection: Frames, counts: asyncio.Queue[int]) -> None:
        self._connection = connection
        self._counts = counts

    @classmethod
    async def open(cls, port: int) -> "TcpLink":
        counts: asyncio.Queue[int] = asyncio.Queue()
        return cls(await connect(port, lambda _c, _k, data: counts.put_nowait(COUNT.unpack(data)[0])), counts)

    async def send(self, batch: bytes) -> None:
        await self._connection.writable()
        self._connection.send(BATCH, batch)

    async def acknowledged(self) -> AsyncIterator[range]:
        told = 0
        while True:
            count = await self._counts.get()
            yield range(told, count)
            told = count

    async def close(self) -> None:
        self._connection.transport.close()


if __name__ == "__main__":
    role, at, which, file = sys.argv[1:]
    run((lead if role == "leader" else follow)(int(at), int(which), Path(file)))
