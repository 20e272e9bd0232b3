"""A port that takes TLS and plaintext: who comes is brought to the right place, whole, and is known there."""

import asyncio
import os
import socket
import ssl
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import pytest

from node import relay, sniff
from node.relay import Relay, _Half, peer
from node.sniff import Sniffer, bound
from ottla.secure.issue import Authority, asked_node


class Echo:
    """A server that says where its client seems to be, then sends back what it reads."""

    def __init__(self, name: bytes) -> None:
        self._name = name

    async def start(self, tls: ssl.SSLContext | None = None) -> int:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=tls)
        return int(server.sockets[0].getsockname()[1])

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, port = writer.get_extra_info("peername")
        seen = peer(SimpleNamespace(peer=lambda: f"ipv4:{host}:{port}"))
        writer.write(self._name + b" " + seen.encode() + b"\n")
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()


@pytest.fixture
def tls(tmp_path: Path) -> ssl.SSLContext:
    files = Authority.make(tmp_path, None, replace=False).issue(asked_node(1, []), 30, replace=False)
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(files.cert, files.key)
    return made


async def test_each_comes_to_the_server_that_it_speaks_to(tls: ssl.SSLContext) -> None:
    listening = bound("127.0.0.1", 0)
    port = listening.getsockname()[1]
    Relay().add(listening, await Echo(b"plain").start(), await Echo(b"tls").start(tls), 10)
    careless = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    careless.check_hostname, careless.verify_mode = False, ssl.CERT_NONE
    for context, expected in ((None, b"plain"), (careless, b"tls")):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        writer.write(b"x")
        here = writer.get_extra_info("sockname")
        assert await reader.readline() == expected + f" ipv4:{here[0]}:{here[1]}\n".encode()
        assert await reader.readexactly(1) == b"x"
        sent = os.urandom(3_000_000)
        writing = asyncio.ensure_future(_written(writer, sent))
        await asyncio.sleep(0.1)  # what is on its way fills all buffers: nobody reads yet
        assert await reader.readexactly(len(sent)) == sent
        await writing
        writer.close()


async def _written(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(data)
    await writer.drain()


def test_a_server_that_speaks_first_is_heard_whole() -> None:
    """Before the client's side is there, and although it has gone by then."""
    to_server, to_client = Mock(), Mock()
    to_server.is_closing.return_value = False
    for gone in (False, True):
        far = _Half(lambda _: None)
        far.connection_made(to_server)
        far.data_received(b"who ")
        near = far.other = _Half(other=far)
        far.data_received(b"are you?")
        if gone:
            far.connection_lost(None)
        near.connection_made(to_client)
        to_client.writelines.assert_called_with([b"who ", b"are you?"])
        assert (to_client.close.called, to_server.resume_reading.called) == (gone, True)


async def test_the_end_of_either_side_is_that_of_the_other_and_more_than_may_be_are_closed() -> None:
    listening = bound("127.0.0.1", 0)
    port = listening.getsockname()[1]
    gone = asyncio.Event()
    ends_first = False

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.read(1) == b"a"
        if ends_first:
            writer.close()
        else:
            assert await reader.read() == b""
            gone.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    Relay().add(listening, server.sockets[0].getsockname()[1], 1, 1)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"a")
    await asyncio.sleep(0.1)
    more = await asyncio.open_connection("127.0.0.1", port)
    more[1].write(b"a")
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await more[0].readexactly(1)
    writer.transport.abort()
    await asyncio.wait_for(gone.wait(), 5)
    await asyncio.sleep(0.05)
    ends_first = True
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"a")
    assert await asyncio.wait_for(reader.read(), 5) == b""


async def test_a_place_that_is_not_there_ends_the_connection() -> None:
    listening = bound("127.0.0.1", 0)
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        Relay().add(listening, nobody.getsockname()[1], 1, 10)
        reader, writer = await asyncio.open_connection(*listening.getsockname())
        writer.write(b"a")
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)


async def test_who_says_nothing_is_closed_and_stops_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sniff, "SILENT_MAX", 3)
    monkeypatch.setattr(sniff, "FIRST_BYTE_S", 0.5)
    taken: list[tuple[bytes, bool]] = []

    def take(connection: socket.socket, is_tls: bool) -> None:
        taken.append((connection.recv(100), is_tls))
        connection.close()

    sniffer = Sniffer(take)
    sniffer.start(bound("127.0.0.1", 0))
    silent = [await asyncio.open_connection(*sniffer.address) for _ in range(5)]
    assert await asyncio.wait_for(silent[0][0].read(), 5) == b"", "the oldest went for another one"
    for number, sent in enumerate((b"\x16\x03", b"GET /"), 1):
        _, writer = await asyncio.open_connection(*sniffer.address)
        writer.write(sent)
        async with asyncio.timeout(20):
            while len(taken) < number:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    assert taken == [(b"\x16\x03", True), (b"GET /", False)]
    assert await asyncio.wait_for(silent[4][0].read(), 5) == b"", "and the others in their time"
    address = sniffer.address
    sniffer.stop()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(*address)


def test_where_somebody_was_is_known_a_while_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "_behind", {"ipv4:127.0.0.1:7": "ipv4:10.0.0.1:9"})
    assert peer(SimpleNamespace(peer=lambda: "ipv4:127.0.0.1:7")) == "ipv4:10.0.0.1:9"
    assert peer(SimpleNamespace(peer=lambda: "ipv4:127.0.0.1:8")) == "ipv4:127.0.0.1:8"
