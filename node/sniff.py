"""Ports whose connections are looked at before anybody takes them: a first byte tells TLS from everything else.

Whoever comes speaks first, in all protocols that are served here. The byte stays where it is: who takes the connection
reads it.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Final

TLS_HANDSHAKE: Final = 0x16
FIRST_BYTE_S: Final = 5.0
SILENT_MAX: Final = 256
"""Connections that have said nothing yet; for another one the oldest goes."""
BACKLOG: Final = 512
AT_ONCE: Final = 64
"""Connections that are taken in one turn of the loop."""
FULL_S: Final = 0.5
"""How long no connection is taken where there is no descriptor for it."""


class Sniffer:
    """Used on one loop. `take` gets each connection, and whether it begins as TLS does."""

    def __init__(self, take: Callable[[socket.socket, bool], object]) -> None:
        self._take = take
        self._listening: socket.socket | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._silent: dict[socket.socket, asyncio.TimerHandle] = {}

    def start(self, listening: socket.socket) -> None:
        """`listening`: as `bound` makes it."""
        self._loop = asyncio.get_running_loop()
        self._listening = listening
        self._loop.add_reader(listening, self._accept)

    @property
    def address(self) -> tuple[str, int]:
        assert self._listening is not None
        name: tuple[str, int] = self._listening.getsockname()[:2]
        return name

    def stop(self) -> None:
        """Whoever has said nothing yet is closed; what was taken is not touched."""
        for waiting in list(self._silent):
            self._drop(waiting)
        if self._listening is not None and self._loop is not None:
            self._loop.remove_reader(self._listening)
            self._listening.close()
            self._listening = None

    def _accept(self) -> None:
        assert self._loop is not None
        for _ in range(AT_ONCE):
            if self._listening is None:
                return
            try:
                connection, _ = self._listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError:
                self._loop.remove_reader(self._listening)
                self._loop.call_later(FULL_S, self._go_on)
                return
            connection.setblocking(False)
            with contextlib.suppress(OSError):
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._look(connection)

    def _go_on(self) -> None:
        if self._listening is not None and self._loop is not None:
            self._loop.add_reader(self._listening, self._accept)

    def _look(self, connection: socket.socket) -> None:
        try:
            first = connection.recv(1, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            self._wait_for(connection)
            return
        except OSError:
            first = b""
        self._forget(connection)
        if first:
            self._take(connection, first[0] == TLS_HANDSHAKE)
        else:
            connection.close()

    def _wait_for(self, connection: socket.socket) -> None:
        assert self._loop is not None
        if connection in self._silent:
            return
        if len(self._silent) >= SILENT_MAX:
            self._drop(next(iter(self._silent)))
        self._silent[connection] = self._loop.call_later(FIRST_BYTE_S, self._drop, connection)
        self._loop.add_reader(connection, self._look, connection)

    def _drop(self, connection: socket.socket) -> None:
        self._forget(connection)
        connection.close()

    def _forget(self, connection: socket.socket) -> None:
        timer = self._silent.pop(connection, None)
        if timer is not None and self._loop is not None:
            timer.cancel()
            self._loop.remove_reader(connection)


def bound(host: str, port: int) -> socket.socket:
    """Listens there. Raises OSError."""
    host = host.strip("[]")
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.setblocking(False)
        made.bind(address)
        made.listen(BACKLOG)
    except OSError:
        made.close()
        raise
    return made


def peer_of(connection: socket.socket) -> tuple[str, int] | None:
    """Who is at the other end; None: it has gone."""
    try:
        name: tuple[str, int] = connection.getpeername()[:2]
    except OSError:
        return None
    return name
