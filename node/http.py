"""A small HTTP/1.1 server for /healthz, /readyz and /metrics. It knows GET and HEAD and closes after each answer."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple, Protocol

import structlog

from node.fail_stop import stop_if_broken

log = structlog.get_logger(__name__)

HEAD_MAX_BYTES: Final = 8192
READ_TIMEOUT_S: Final = 5.0
CONNECTIONS_MAX: Final = 64
_REASONS: Final = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


class Reply(NamedTuple):
    """What a route answers."""

    status: int
    body: bytes
    content_type: str = "text/plain; charset=utf-8"


Route = Callable[[], Awaitable[Reply]]


class Posted(Protocol):
    """What takes a POST, by its query string."""

    path: str

    def show(self) -> Reply: ...
    def set(self, query: str) -> Reply: ...


class HttpServer:
    """Serves fixed paths. A client that sends nothing, too much or something else is answered or cut off."""

    def __init__(self, routes: dict[str, Route], posted: Posted | None = None) -> None:
        self._routes = routes
        self._posted = posted
        self._server: asyncio.Server | None = None
        self._open: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def start(self, host: str, port: int) -> None:
        """Raises OSError that names the listener where the address cannot be had."""
        try:
            self._server = await asyncio.start_server(self._serve, host, port, limit=HEAD_MAX_BYTES)
        except OSError as error:
            raise OSError(f"the http listener cannot have {host}:{port}: {error.strerror}") from None

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            tasks = list(self._open)
            for writer in self._open.values():
                writer.transport.abort()
            await asyncio.gather(*tasks)
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open[task] = writer
        try:
            if len(self._open) <= CONNECTIONS_MAX:
                async with asyncio.timeout(READ_TIMEOUT_S):
                    head = await reader.readuntil(b"\r\n\r\n")
                writer.write(await self._answer(head))
                async with asyncio.timeout(READ_TIMEOUT_S):
                    await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            del self._open[task]
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _answer(self, head: bytes) -> bytes:
        parts = head.split(b"\r\n", 1)[0].split(b" ")
        if len(parts) != 3 or not parts[2].startswith(b"HTTP/1."):
            return _render(Reply(400, b"this is not HTTP/1.1\n"), body=True)
        method, target, _ = parts
        path, _, query = target.decode("latin-1").partition("?")
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


def _render(reply: Reply, *, body: bool) -> bytes:
    head = (
        f"HTTP/1.1 {reply.status} {_REASONS[reply.status]}\r\n"
        f"Content-Type: {reply.content_type}\r\n"
        f"Content-Length: {len(reply.body)}\r\n"
        "Connection: close\r\n\r\n"
    )
    return head.encode() + (reply.body if body else b"")
