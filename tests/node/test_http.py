"""The HTTP server answers what it knows and survives what it does not."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from node import http
from node.http import Asking, HttpServer, Reply


async def _fine() -> Reply:
    return Reply(200, b"fine\n")


BIG = b"x" * 20_000_000


async def _big() -> Reply:
    return Reply(200, BIG)


async def _broken() -> Reply:
    raise RuntimeError("a bug")


@pytest.fixture
async def port() -> AsyncIterator[int]:
    server = HttpServer({"/healthz": _fine, "/broken": _broken, "/big": _big})
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
        (b"GET /other HTTP/1.1\r\n\r\n", 404, b"there is nothing here; try /big, /broken, /healthz\n"),
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
    monkeypatch.setattr(http, "REQUEST_S", 0.1)
    assert await ask(port, b"GET /") == b""


async def test_bytes_that_trickle_do_not_move_the_deadline(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "REQUEST_S", 0.3)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    loop = asyncio.get_running_loop()
    started = loop.time()
    with contextlib.suppress(ConnectionError):
        while not (reader.at_eof() or reader.exception()) and loop.time() - started < 10:
            writer.write(b"x")
            await asyncio.sleep(0.02)
    assert loop.time() - started < 5
    writer.close()


@pytest.mark.parametrize(
    "sent", [b"", b"GET /he", b"GET /big HTTP/1.1\r\n\r\n"], ids=["silent", "half", "reads nothing"]
)
async def test_those_who_hold_connections_stop_nobody(port: int, sent: bytes) -> None:
    held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(http.CONNECTIONS_MAX)]
    for _, writer in held:
        writer.write(sent)
    await asyncio.sleep(0.1)
    for _ in range(5):
        assert b"200 OK" in await ask(port, b"GET /healthz HTTP/1.1\r\n\r\n")
        more = await asyncio.open_connection("127.0.0.1", port)
        more[1].write(sent)
        held.append(more)
    for _, writer in held:
        writer.transport.abort()


async def test_the_one_that_goes_is_the_oldest(port: int) -> None:
    held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(http.CONNECTIONS_MAX)]
    await asyncio.sleep(0.05)
    assert b"200 OK" in await ask(port, b"GET /healthz HTTP/1.1\r\n\r\n")
    with contextlib.suppress(ConnectionError):
        assert await asyncio.wait_for(held[0][0].read(), 10) == b""
    held[1][1].write(b"GET /healthz HTTP/1.1\r\n\r\n")
    assert b"200 OK" in await asyncio.wait_for(held[1][0].read(), 10)
    for _, writer in held:
        writer.close()


async def test_a_big_answer_arrives_whole_at_a_slow_reader(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1000)
    writer.write(b"GET /big HTTP/1.1\r\n\r\n")
    await asyncio.sleep(0.3)
    assert (await reader.read()).endswith(BIG)
    writer.close()


async def test_who_is_not_let_in_hears_of_health_alone() -> None:
    async def guard(asking: Asking) -> Reply | None:
        return None if asking.authorization == "Basic eA==" else Reply(401, b"who are you?\n")

    server = HttpServer({"/healthz": _fine, "/metrics": _fine}, guard=guard)
    await server.start("127.0.0.1", 0)
    assert server._server is not None
    port = server._server.sockets[0].getsockname()[1]
    assert b" 200 OK" in await ask(port, b"GET /healthz HTTP/1.1\r\n\r\n")
    refused = await ask(port, b"GET /metrics HTTP/1.1\r\n\r\n")
    assert refused.startswith(b"HTTP/1.1 401 Unauthorized\r\n")
    assert b'\r\nWWW-Authenticate: Basic realm="ottla"\r\n' in refused
    assert b" 401 " in await ask(port, b"POST /hooks HTTP/1.1\r\n\r\n"), "nobody hears what there is"
    assert b" 200 OK" in await ask(port, b"GET /metrics HTTP/1.1\r\nauthorization:  Basic eA==\r\n\r\n")
    await server.stop()
