"""One port in front of two: what begins as TLS goes to one, everything else to the other, byte for byte.

gRPC's servers take either the one or the other. So while a cluster changes from one to the other, and then only, a
thread of this process stands before them. gRPC sees connections from this machine then: `peer` tells where they are
from.
"""

import asyncio
import socket
import threading
from collections.abc import Callable
from typing import Any, Final, cast

import uvloop

from node.sniff import Sniffer, peer_of

CONNECT_S: Final = 5.0
REMEMBER_S: Final = 60.0
"""A call may be looked at a while after its connection has gone."""
BUFFER_BYTES: Final = 256 << 10
_LOOPBACK: Final = "127.0.0.1"
_behind: dict[str, str] = {}
"""By how gRPC names the near end of a connection: how it would name the far one."""


def peer(context: Any) -> str:
    """Where a call is from, as gRPC says it."""
    seen: str = context.peer()
    return _behind.get(seen, seen) if _behind else seen


class Relay:
    """A thread with a loop of its own, and the ports that it stands before. It ends with the process."""

    def __init__(self) -> None:
        self._loop = uvloop.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._open = 0
        threading.Thread(target=self._loop.run_forever, name="relay", daemon=True).start()

    def add(self, listening: socket.socket, plain_port: int, tls_port: int, connections_max: int) -> None:
        """`plain_port` and `tls_port`: of this machine. More than so many connections are closed at once."""

        def take(connection: socket.socket, is_tls: bool) -> None:
            if self._open >= connections_max:
                connection.close()
                return
            task = self._loop.create_task(self._join(connection, tls_port if is_tls else plain_port))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        async def start() -> None:
            Sniffer(take).start(listening)

        asyncio.run_coroutine_threadsafe(start(), self._loop).result(CONNECT_S)

    async def _join(self, connection: socket.socket, port: int) -> None:
        self._open += 1
        there = socket.socket()
        there.setblocking(False)
        name = ""
        far = _Half(self._forget)
        try:
            there.bind((_LOOPBACK, 0))  # so that it has a name before the server sees it
            far.name = name = f"ipv4:{_LOOPBACK}:{there.getsockname()[1]}"
            _behind[name] = _named(connection)
            async with asyncio.timeout(CONNECT_S):
                await self._loop.sock_connect(there, (_LOOPBACK, port))
            await self._loop.create_connection(lambda: far, sock=there)
        except (OSError, TimeoutError):
            there.close()
            connection.close()
            self._forget(name)
            return
        near = _Half(other=far)
        far.other = near
        try:
            await self._loop.connect_accepted_socket(lambda: near, connection)
        except OSError:
            connection.close()
            far.close()

    def _forget(self, name: str) -> None:
        self._open -= 1
        told = _behind.get(name)

        def later() -> None:
            if told is not None and _behind.get(name) is told:
                del _behind[name]

        self._loop.call_later(REMEMBER_S, later)


class _Half(asyncio.Protocol):
    """One of the two connections that are one. The far one, to the server, is there first, and keeps what a server
    that speaks first has said until the near one is there: uvloop reads on where a protocol says in `connection_made`
    that it should not. `on_lost` is called once, with the far one's name."""

    def __init__(self, on_lost: Callable[[str], None] | None = None, other: "_Half | None" = None) -> None:
        self.other = other
        self.name = ""
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None
        self._early: list[bytes] | None = []
        """What came before the other one was there; None: it has been."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it
        self._transport.set_write_buffer_limits(BUFFER_BYTES)
        if self.other is None:
            return
        self._early = None
        early, self.other._early = self.other._early or (), None
        self.other.read(True)
        self._transport.writelines(early)
        if self.other._transport is None:
            self.close()  # it has gone meanwhile

    def data_received(self, data: bytes) -> None:
        if self._early is not None:
            self._early.append(data)
            self.read(False)
        elif self.other is not None and self.other._transport is not None:
            self.other._transport.write(data)

    def pause_writing(self) -> None:
        if self.other is not None:
            self.other.read(False)

    def resume_writing(self) -> None:
        if self.other is not None:
            self.other.read(True)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._on_lost is not None:
            self._on_lost(self.name)
        if self.other is not None:
            self.other.close()

    def read(self, wanted: bool) -> None:
        """Goes on reading, or rests."""
        if self._transport is None or self._transport.is_closing():
            return
        if wanted:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def close(self) -> None:
        """What is written already still leaves."""
        if self._transport is not None:
            self._transport.close()


def _named(connection: socket.socket) -> str:
    found = peer_of(connection)
    if found is None:
        return "unknown"
    host, port = found
    return f"ipv6:%5B{host}%5D:{port}" if ":" in host else f"ipv4:{host}:{port}"
