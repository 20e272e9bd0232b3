"""A small HTTP/1.1 server for /healthz, /readyz and /metrics. It knows GET and HEAD and closes after each answer.

With TLS the port still takes who comes without: health is told to everybody, all else to whom the guard lets in.

Whoever asks gets an answer, however many others hold connections: with too many of them the one goes that has sent no
whole request for longest. A request has a deadline, from the first byte of the connection to the last of the answer.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import structlog

from node.fail_stop import stop_if_broken
from node.sniff import Sniffer, bound

if TYPE_CHECKING:
    import ssl

log = structlog.get_logger(__name__)

HEAD_MAX_BYTES: Final = 8192
REQUEST_S: Final = 5.0
"""From the connection to the end of the request's head, and from there to the end of the answer."""
CONNECTIONS_MAX: Final = 64
OPEN: Final = frozenset({"/healthz", "/readyz"})
"""What whoever asks is told."""
_REASONS: Final = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    500: "Internal Server Error",
    503: "Service Unavailable",
}
_ASKS: Final = 'WWW-Authenticate: Basic realm="ottla"\r\n'


class Reply(NamedTuple):
    """What a route answers."""

    status: int
    body: bytes
    content_type: str = "text/plain; charset=utf-8"


class Asking(NamedTuple):
    """Who asks: the certificate as `ssl` tells of it, the header Authorization, and where he is."""

    encrypted: bool
    certificate: Any
    authorization: str
    host: str


Route = Callable[[], Awaitable[Reply]]
Guard = Callable[[Asking], Awaitable[Reply | None]]
"""Answers with a refusal, or lets in."""


class Posted(Protocol):
    """What takes a POST, by its query string."""

    path: str

    def show(self) -> Reply: ...
    def set(self, query: str) -> Reply: ...


class HttpServer:
    """Serves fixed paths. A client that sends nothing, too much or something else is answered or cut off."""

    def __init__(
        self,
        routes: dict[str, Route],
        posted: Posted | None = None,
        *,
        connections_max: int = CONNECTIONS_MAX,
        guard: Guard | None = None,
    ) -> None:
        """`guard`: without one everybody is let in."""
        self._guard = guard
        self._connections_max = connections_max
        self._routes = routes
        self._posted = posted
        self._server: asyncio.Server | None = None
        self._sniffer: Sniffer | None = None
        self._shaking: set[asyncio.Task[None]] = set()
        # Both in the order in which they came.
        self._open: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._asking: dict[asyncio.StreamWriter, None] = {}

    async def start(self, host: str, port: int, tls: "Callable[[], ssl.SSLContext] | None" = None) -> None:
        """`tls`: what the next client uses, if it begins so. Raises OSError that names the listener where the address
        cannot be had."""
        try:
            if tls is None:
                self._server = await asyncio.start_server(self._serve, host, port, limit=HEAD_MAX_BYTES)
            else:
                self._sniffer = Sniffer(self._with(tls))
                self._sniffer.start(bound(host, port))
        except OSError as error:
            raise OSError(f"the http listener cannot have {host}:{port}: {error.strerror}") from None

    def _with(self, tls: "Callable[[], ssl.SSLContext]") -> Callable[[socket.socket, bool], None]:
        loop = asyncio.get_running_loop()

        async def shake(connection: socket.socket, context: "ssl.SSLContext | None") -> None:
            reader = asyncio.StreamReader(limit=HEAD_MAX_BYTES)
            protocol = asyncio.StreamReaderProtocol(reader, self._serve)
            try:
                await loop.connect_accepted_socket(
                    lambda: protocol, connection, ssl=context, ssl_handshake_timeout=REQUEST_S if context else None
                )
            except (OSError, TimeoutError):
                connection.close()

        def take(connection: socket.socket, is_tls: bool) -> None:
            if len(self._shaking) >= self._connections_max:
                connection.close()
                return
            task = loop.create_task(shake(connection, tls() if is_tls else None))
            self._shaking.add(task)
            task.add_done_callback(self._shaking.discard)

        return take

    async def stop(self) -> None:
        if self._sniffer is not None:
            self._sniffer.stop()
        if self._server is not None:
            self._server.close()
        tasks = list(self._open)
        for writer in self._open.values():
            writer.transport.abort()
        await asyncio.gather(*tasks, *self._shaking, return_exceptions=True)
        if self._server is not None:
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._open) >= self._connections_max:
            self._drop_oldest()
        self._open[task] = writer
        self._asking[writer] = None
        try:
            async with asyncio.timeout(REQUEST_S):
                head = await reader.readuntil(b"\r\n\r\n")
            self._asking.pop(writer, None)
            async with asyncio.timeout(REQUEST_S):
                writer.write(await self._answer(head, writer))
                writer.close()
                await writer.wait_closed()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            self._open.pop(task, None)
            self._asking.pop(writer, None)
            writer.transport.abort()

    def _drop_oldest(self) -> None:
        """Of those that have not asked yet; else of those that do not take their answer."""
        for task, writer in self._open.items():
            if not self._asking or writer in self._asking:
                del self._open[task]
                self._asking.pop(writer, None)
                writer.transport.abort()
                return

    async def _answer(self, head: bytes, writer: asyncio.StreamWriter | None = None) -> bytes:
        parts = head.split(b"\r\n", 1)[0].split(b" ")
        if len(parts) != 3 or not parts[2].startswith(b"HTTP/1."):
            return _render(Reply(400, b"this is not HTTP/1.1\n"), body=True)
        method, target, _ = parts
        path, _, query = target.decode("latin-1").partition("?")
        if self._guard is not None and path not in OPEN:
            refusal = await self._guard(_asking(head, writer))
            if refusal is not None:
                return _render(refusal, body=method != b"HEAD")
        if self._posted is not None and path == self._posted.path:
            return _render(self._posted.set(query) if method == b"POST" else self._posted.show(), body=True)
        if method not in (b"GET", b"HEAD"):
            return _render(Reply(405, b"only GET and HEAD are served here\n"), body=True)
        route = self._routes.get(path)
        if route is None:
            paths = ", ".join(sorted(self._routes))
            reply = Reply(404, f"there is nothing here; try {paths}\n".encode())
        else:
            try:
                reply = await route()
            except Exception as error:
                stop_if_broken(error)
                log.error("http_failed", path=target.decode("latin-1"), exc_info=error)
                reply = Reply(500, b"the node's log says what went wrong\n")
        return _render(reply, body=method == b"GET")


def _asking(head: bytes, writer: asyncio.StreamWriter | None) -> Asking:
    authorization = ""
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"authorization":
            authorization = value.strip().decode("latin-1")
    if writer is None:
        return Asking(False, None, authorization, "")
    peer = writer.get_extra_info("peername")
    encrypted = writer.get_extra_info("sslcontext") is not None
    certificate = writer.get_extra_info("peercert") if encrypted else None
    return Asking(encrypted, certificate, authorization, str(peer[0]) if isinstance(peer, tuple) else "")


def _render(reply: Reply, *, body: bool) -> bytes:
    head = (
        f"HTTP/1.1 {reply.status} {_REASONS[reply.status]}\r\n"
        f"Content-Type: {reply.content_type}\r\n"
        f"Content-Length: {len(reply.body)}\r\n"
        f"{_ASKS if reply.status == 401 else ''}"
        "Connection: close\r\n\r\n"
    )
    return head.encode() + (reply.body if body else b"")
