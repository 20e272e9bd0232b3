"""The HTTP server answers what it knows and survives what it does not."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from node import http
from node.http import HttpServer, Reply


async def _fine() -> Reply:
    return Reply(200, b"fine\n")


async def _broken() -> Reply:
    raise RuntimeError("a bug")


@pytest.fixture
async def port() -> AsyncIterator[int]:
    server = HttpServer({"/healthz": _fine, "/broken": _broken})
    await server.start("127.0.0.1", 0)
    assert server._server is not None
    yield server._server.sockets[0].getsockname()[1]
    await server.stop()


async def ask(port: int, sent: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    try:
        async with asyncio.timeout(5):
            return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


@pytest.mark.parametrize(
    ("sent", "status", "body"),
    [
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", 200, b"fine\n"),
        (b"GET /healthz?verbose HTTP/1.0\r\n\r\n", 200, b"fine\n"),
        (b"HEAD /healthz HTTP/1.1\r\n\r\n", 200, b""),
        (b"POST /healthz HTTP/1.1\r\n\r\n", 405, b"only GET and HEAD are served here\n"),
        (b"GET /other HTTP/1.1\r\n\r\n", 404, b"there is nothing here; try /broken, /healthz\n"),
        (b"\x16\x03\x01\x02\x00 hello\r\n\r\n", 400, b"this is not HTTP/1.1\n"),
        (b"GET /broken HTTP/1.1\r\n\r\n", 500, b"the node's log says what went wrong\n"),
    ],
)
async def test_answers(port: int, sent: bytes, status: int, body: bytes) -> None:
    answer = await ask(port, sent)
    head, _, found = answer.partition(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} ".encode())
    assert found == body


async def test_a_head_without_end_is_cut_off(port: int) -> None:
    assert await ask(port, b"GET / HTTP/1.1\r\n" + b"x" * 20_000) == b""
    assert b"200 OK" in await ask(port, b"GET /healthz HTTP/1.1\r\n\r\n")


async def test_silence_is_cut_off(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "READ_TIMEOUT_S", 0.1)
    assert await ask(port, b"GET /") == b""


async def test_too_many_connections_are_closed_at_once(port: int) -> None:
    idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(http.CONNECTIONS_MAX)]
    await asyncio.sleep(0.05)
    assert await ask(port, b"GET /healthz HTTP/1.1\r\n\r\n") == b""
    for _, writer in idle:
        writer.close()
    await asyncio.sleep(0.05)
    assert b"200 OK" in await ask(port, b"GET /healthz HTTP/1.1\r\n\r\n")
