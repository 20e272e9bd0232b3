"""SASL on the listener for clients of Kafka: who gets in, what the others get, and when a session ends."""

import asyncio
import struct
from collections.abc import AsyncIterator
from types import MappingProxyType
from typing import Any

import pytest
import structlog.testing

from node import logins, principal
from node.kafka import login
from node.kafka.codec import API_VERSIONS
from node.kafka.connection import Call, Listener
from node.kafka.frames import FrameLimits
from node.kafka.messages.heartbeat import HeartbeatResponse
from node.kafka.registry import Registry
from node.kafka.wire import Message
from node.metadata.image import Image
from node.turns import Turns
from ottla.protocol import scram
from ottla.protocol.scram import SHA_256, Credential, Mechanism
from tests.node.kafka.test_codec import frame
from tests.node.kafka.test_connection import HEARTBEAT, Transport, heartbeat, sized
from tests.ottla.protocol.test_scram import proof

HANDSHAKE, AUTHENTICATE = 17, 36
FAILED, ILLEGAL, UNSUPPORTED = 58, 34, 33


def made(mechanism: Mechanism, password: str) -> Credential:
    salted = scram.salted_password(mechanism, password, b"saltsalt", 4096)
    return scram.credential(mechanism, salted, b"saltsalt", 4096)


def both(password: str) -> dict[int, Credential]:
    return {number: made(each, password) for number, each in scram.MECHANISMS.items()}


class Peer(Transport):
    def __init__(self, host: str, tls: bool) -> None:
        super().__init__()
        self._extra: dict[str, Any] = {"peername": (host, 5000), "sockname": (host, 9092)}
        if tls:
            self._extra["sslcontext"] = object()


class Door:
    """A listener with users, and clients of it."""

    def __init__(self) -> None:
        self.users: dict[str, dict[int, Credential]] = {"alice": both("pencil"), "bob": {1: made(SHA_256, "pen")}}
        self.registry = Registry()
        self.registry.add(HEARTBEAT, 0, 3, self.heartbeat)
        self.registry.add(HANDSHAKE, 0, 1, lambda m, call: self.of(call).handshake(m, call))
        self.registry.add(AUTHENTICATE, 0, 2, lambda m, call: self.of(call).authenticate(m, call))
        self.gate = logins.Gate(lambda: Image(users=MappingProxyType(self.users)))
        self.listener = Listener(
            self.registry,
            FrameLimits(1 << 20, {0: 32 << 20}),
            turns=Turns(lambda: 0.0),  # the loop's turns are young
            login=lambda: login.Login(self.gate),
        )
        self.asked: list[str] = []

    def heartbeat(self, message: Message, call: Call) -> Message | None:
        assert principal.current() == call.connection.principal
        self.asked.append(str(principal.current()))
        return HeartbeatResponse()

    @staticmethod
    def of(call: Call) -> login.Login:
        assert call.connection.login is not None
        return call.connection.login

    def client(self, host: str = "127.0.0.1", *, tls: bool = False) -> "Client":
        return Client(self, host, tls)


class Client:
    def __init__(self, door: Door, host: str, tls: bool) -> None:
        self.transport = Peer(host, tls)
        self.connection = door.listener.connection()
        self.connection.connection_made(self.transport)
        self._read = 0

    def send(self, data: bytes) -> None:
        at = 0
        while at < len(data) and not self.transport.closed:
            space = self.connection.get_buffer(-1)
            count = min(len(space), len(data) - at)
            space[:count] = data[at : at + count]
            self.connection.buffer_updated(count)
            at += count

    async def answer(self, wait_s: float = 5.0) -> bytes | None:
        """The next answer without its size; None where the connection is at its end."""
        give_up = asyncio.get_running_loop().time() + wait_s
        while len(self.transport.written) < self._read + 4 and not self.transport.closed:
            assert asyncio.get_running_loop().time() < give_up, "no answer"
            await asyncio.sleep(0.002)
        data = self.transport.written[self._read :]
        if len(data) < 4:
            return None
        size = int.from_bytes(data[:4], "big")
        self._read += 4 + size
        return data[4 : 4 + size]

    async def handshake(self, mechanism: str, version: int = 1) -> tuple[int, list[str]]:
        name = mechanism.encode()
        self.send(sized(frame(HANDSHAKE, version, struct.pack(">h", len(name)) + name)))
        answer = await self.answer()
        assert answer is not None
        code, count = struct.unpack_from(">hi", answer, 4)
        at, offered = 10, []
        for _ in range(count):
            (length,) = struct.unpack_from(">h", answer, at)
            offered.append(answer[at + 2 : at + 2 + length].decode())
            at += 2 + length
        return code, offered

    async def authenticate(self, token: bytes, version: int = 1) -> tuple[int, bytes]:
        self.send(sized(frame(AUTHENTICATE, version, struct.pack(">i", len(token)) + token)))
        answer = await self.answer()
        assert answer is not None
        code, length = struct.unpack_from(">hh", answer, 4)
        at = 8 + max(length, 0)
        (size,) = struct.unpack_from(">i", answer, at)
        return code, answer[8:at] if code else answer[at + 4 : at + 4 + size]

    async def log_in(self, mechanism: str, user: str, password: str) -> tuple[int, bytes]:
        assert (await self.handshake(mechanism))[0] == 0
        if mechanism == "PLAIN":
            return await self.authenticate(f"\0{user}\0{password}".encode())
        bare = f"n={user},r=client"
        code, first = await self.authenticate(f"n,,{bare}".encode())
        assert code == 0
        last = f"c=biws,{first.decode().split(',')[0]}"
        right = proof(scram.BY_NAME[mechanism], password, bare, first, last)
        return await self.authenticate(f"{last},p={right}".encode())


@pytest.fixture
async def door(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Door]:
    monkeypatch.setattr(logins, "FAILED_S", 0.02)
    monkeypatch.setattr(login, "GOODBYE_S", 0.01)
    opened = Door()
    yield opened
    opened.gate.stop()


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256", "SCRAM-SHA-512", "PLAIN"])
async def test_a_user_with_the_right_password_is_known_by_name(door: Door, mechanism: str) -> None:
    client = door.client()
    code, last = await client.log_in(mechanism, "alice", "pencil")
    assert (code, last[:2]) == (0, b"" if mechanism == "PLAIN" else b"v=")
    client.send(heartbeat(7))
    assert await client.answer() == struct.pack(">ih", 7, 0)
    assert door.asked == ["User:alice"]
    assert door.listener.connections == {client.connection}


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256", "SCRAM-SHA-512", "PLAIN"])
async def test_a_wrong_user_and_a_wrong_password_are_the_same(door: Door, mechanism: str) -> None:
    said = []
    for user, password in (("alice", "pencils"), ("mallory", "pencil"), ("bob", "pencil")):
        client = door.client()
        said.append(await client.log_in(mechanism, user, password))
        assert await client.answer() is None
        assert client.connection.principal == principal.ANONYMOUS
        client.send(heartbeat(1))
    assert set(said) == {(FAILED, b"authentication failed: wrong user or password")}
    assert door.asked == []


async def test_the_first_answer_does_not_tell_who_is_there(door: Door) -> None:
    async def first(user: str) -> list[str]:
        client = door.client()
        await client.handshake("SCRAM-SHA-256")
        return (await client.authenticate(f"n,,n={user},r=client".encode()))[1].decode().split(",")[1:]

    assert await first("mallory") == await first("mallory")
    assert await first("mallory") != await first("mallorY")


async def test_nothing_else_is_answered_before_a_login(door: Door) -> None:
    for key in [*range(100), -1, 32_767]:
        if key in (API_VERSIONS, HANDSHAKE, AUTHENTICATE):
            continue
        for sent in (b"", b"\0" * 20):
            client = door.client()
            client.send(sized(frame(key, 0, sent)))
            assert client.transport.closed, key
            assert client.transport.written == b""
    client = door.client()
    client.send(sized(frame(API_VERSIONS, 0, b"")))
    answer = await client.answer()
    assert answer is not None
    assert struct.pack(">hhh", HANDSHAKE, 0, 1) + struct.pack(">hhh", API_VERSIONS, 0, 4) in answer
    await client.handshake("SCRAM-SHA-256")
    await client.authenticate(b"n,,n=alice,r=x")
    client.send(heartbeat(1))
    assert client.transport.closed
    assert door.asked == []


async def test_what_comes_behind_a_login_that_is_not_done_waits_and_then_gets_nothing(door: Door) -> None:
    client = door.client()
    await client.handshake("PLAIN")
    token = b"\0alice\0wrong"
    client.send(sized(frame(AUTHENTICATE, 1, struct.pack(">i", len(token)) + token)) + heartbeat(1))
    answer = await client.answer()
    assert answer is not None
    assert struct.unpack_from(">h", answer, 4) == (FAILED,)
    assert await client.answer() is None
    client = door.client()
    await client.handshake("PLAIN")
    token = b"\0alice\0pencil"
    client.send(sized(frame(AUTHENTICATE, 1, struct.pack(">i", len(token)) + token)) + heartbeat(1))
    await client.answer()
    assert await client.answer() == struct.pack(">ih", 1, 0)
    assert door.asked == ["User:alice"]


async def test_there_is_one_try_to_a_connection(door: Door) -> None:
    client = door.client()
    await client.handshake("SCRAM-SHA-256")
    bad = sized(frame(AUTHENTICATE, 1, struct.pack(">i", 1) + b"x"))
    name = struct.pack(">h", 13) + b"SCRAM-SHA-256"
    client.send(bad + sized(frame(HANDSHAKE, 1, name)) + bad + heartbeat(1))
    assert await client.answer() is not None
    assert await client.answer() is None
    assert door.asked == []


@pytest.mark.parametrize(
    ("host", "tls", "offered"),
    [
        ("127.0.0.1", False, True),
        ("::1", False, True),
        ("::ffff:127.0.0.1", False, True),
        ("192.0.2.7", True, True),
        ("192.0.2.7", False, False),
        ("::ffff:192.0.2.7", False, False),
        ("fe80::1%eth0", False, False),
    ],
)
async def test_plain_is_for_tls_and_loopback(door: Door, host: str, tls: bool, offered: bool) -> None:
    client = door.client(host, tls=tls)
    code, mechanisms = await client.handshake("PLAIN")
    assert (code, "PLAIN" in mechanisms) == (0 if offered else UNSUPPORTED, offered)
    if not offered:
        assert await client.answer() is None


@pytest.mark.parametrize("mechanism", ["GSSAPI", "", "plain", "SCRAM-SHA-1", "x" * 5000])
async def test_a_mechanism_that_there_is_not(door: Door, mechanism: str) -> None:
    client = door.client()
    assert await client.handshake(mechanism) == (UNSUPPORTED, ["SCRAM-SHA-256", "SCRAM-SHA-512", "PLAIN"])
    assert await client.answer() is None


async def test_messages_out_of_order(door: Door) -> None:
    client = door.client()
    assert (await client.authenticate(b"n,,n=alice,r=x"))[0] == ILLEGAL
    assert await client.answer() is None
    client = door.client()
    await client.handshake("PLAIN")
    assert (await client.handshake("PLAIN"))[0] == ILLEGAL
    assert await client.answer() is None
    for again in ("handshake", "authenticate"):
        client = door.client()
        await client.log_in("PLAIN", "alice", "pencil")
        await getattr(client, again)("PLAIN" if again == "handshake" else b"\0bob\0pen")
        assert await client.answer() is None
        assert client.connection.principal == principal.ANONYMOUS


@pytest.mark.parametrize(
    "token",
    [
        b"",
        b"\0",
        b"\0\0",
        b"alice\0pencil",
        b"\0alice\0",
        b"\0\0pencil",
        b"\0alice\0pencil\0",
        b"bob\0alice\0pencil",
        b"\0alice\0\xff",
        b"\0alice\0" + b"p" * 5000,
        b"\0" * 10_000,
    ],
)
async def test_a_plain_message_that_is_none(door: Door, token: bytes) -> None:
    client = door.client()
    await client.handshake("PLAIN")
    assert (await client.authenticate(token))[0] == FAILED
    assert await client.answer() is None


@pytest.mark.parametrize("token", [b"", b"\xff", b"n,,n=alice", b"p=x,,n=alice,r=x", b"n,,n=alice,r=" + b"x" * 60_000])
async def test_a_scram_message_that_is_none(door: Door, token: bytes) -> None:
    client = door.client()
    await client.handshake("SCRAM-SHA-512")
    assert (await client.authenticate(token))[0] == FAILED
    assert await client.answer() is None


async def test_before_a_login_requests_are_small(door: Door) -> None:
    client = door.client()
    client.send(struct.pack(">ih", 100_000, 0) + bytes(50))
    assert client.transport.closed
    client = door.client()
    await client.log_in("SCRAM-SHA-256", "bob", "pen")
    client.send(struct.pack(">ih", 20_000_000, 0) + bytes(50))
    assert not client.transport.closed


@pytest.mark.parametrize("password", ["pencil", "wrong"])
async def test_the_first_version_of_the_handshake_has_messages_that_are_no_requests(door: Door, password: str) -> None:
    client = door.client()
    assert (await client.handshake("PLAIN", version=0))[0] == 0
    client.send(sized(f"\0alice\0{password}".encode()))
    assert await client.answer() == (b"" if password == "pencil" else None)
    if password == "pencil":
        client.send(heartbeat(5))
        assert await client.answer() == struct.pack(">ih", 5, 0)
    client = door.client()
    await client.handshake("SCRAM-SHA-256", version=0)
    client.send(sized(b"n,,n=alice,r=client"))
    first = await client.answer()
    assert first is not None
    last = f"c=biws,{first.decode().split(',')[0]}"
    right = proof(SHA_256, password, "n=alice,r=client", first, last)
    client.send(sized(f"{last},p={right}".encode()))
    answer = await client.answer()
    assert (answer or b"")[:2] == (b"v=" if password == "pencil" else b"")


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256", "SCRAM-SHA-512", "PLAIN"])
async def test_a_session_ends_with_its_credential_and_with_no_other(door: Door, mechanism: str) -> None:
    client, other = door.client(), door.client()
    await client.log_in(mechanism, "alice", "pencil")
    await other.log_in("SCRAM-SHA-256", "bob", "pen")
    door.users["carol"] = both("pen")
    login.end_withdrawn(door.listener.connections)
    assert not client.transport.closed
    door.users["alice"] = both("other")
    with structlog.testing.capture_logs() as lines:
        login.end_withdrawn(door.listener.connections)
    assert (client.transport.closed, other.transport.closed) == (True, False)
    assert [line["reason"] for line in lines] == ["the user 'alice' was removed, or has another password"]
    del door.users["bob"]
    login.end_withdrawn(door.listener.connections)
    assert other.transport.closed


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256", "PLAIN"])
async def test_a_password_that_changes_during_the_login(
    door: Door, mechanism: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = door.client()
    await client.handshake(mechanism)
    if mechanism == "PLAIN":
        token = b"\0alice\0pencil"
        client.send(sized(frame(AUTHENTICATE, 1, struct.pack(">i", len(token)) + token)))
        del door.users["alice"]
        answer = await client.answer()
        assert answer is not None
        assert struct.unpack_from(">h", answer, 4) == (FAILED,)
        return
    bare = "n=alice,r=client"
    _, first = await client.authenticate(f"n,,{bare}".encode())
    door.users["alice"] = both("other")
    last = f"c=biws,{first.decode().split(',')[0]}"
    assert (await client.authenticate(f"{last},p={proof(SHA_256, 'pencil', bare, first, last)}".encode()))[0] == FAILED


async def test_a_right_password_is_checked_once_and_a_wrong_one_each_time(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    checks: list[str] = []

    def counted(mechanism: Mechanism, kept: Credential, password: str) -> bool:
        checks.append(password)
        return original(mechanism, kept, password)

    original = scram.is_password
    monkeypatch.setattr(scram, "is_password", counted)
    monkeypatch.setattr(logins, "KNOWN_MAX", 1)
    for password in ("pencil", "pencil", "wrong", "wrong", "pencil"):
        await door.client().log_in("PLAIN", "alice", password)
    assert checks == ["pencil", "wrong", "wrong"]
    door.users["alice"] = both("pencil")  # the same password, set anew
    await door.client().log_in("PLAIN", "alice", "pencil")
    await door.client().log_in("PLAIN", "bob", "pen")
    await door.client().log_in("PLAIN", "alice", "pencil")
    assert checks == ["pencil", "wrong", "wrong", "pencil", "pen", "pencil"]
    assert not any(b"pencil" in repr(each).encode() for each in door.gate.passwords._known.values())


async def test_passwords_that_wait_for_their_check_are_bounded(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that find no place hear nothing: a client would take a failed login for good."""
    monkeypatch.setattr(logins, "CHECKS_MAX", 2)
    clients = [door.client() for _ in range(4)]
    for number, client in enumerate(clients):
        await client.handshake("PLAIN")
        token = f"\0alice\0pencil{number or ''}".encode()
        client.send(sized(frame(AUTHENTICATE, 1, struct.pack(">i", len(token)) + token)))
    answers = [await client.answer() for client in clients]
    assert [None if each is None else struct.unpack_from(">h", each, 4)[0] for each in answers] == [
        0,
        FAILED,
        None,
        None,
    ]
    assert not door.gate.passwords._checks


async def test_clients_with_one_password_share_its_check(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of a node's clients come back at once when it starts again."""
    checks: list[str] = []

    def counted(mechanism: Mechanism, kept: Credential, password: str) -> bool:
        checks.append(password)
        return original(mechanism, kept, password)

    original = scram.is_password
    monkeypatch.setattr(scram, "is_password", counted)
    clients = [door.client() for _ in range(50)]
    for client in clients:
        await client.handshake("PLAIN")
    token = b"\0alice\0pencil"
    for client in clients:
        client.send(sized(frame(AUTHENTICATE, 1, struct.pack(">i", len(token)) + token)))
    await asyncio.sleep(0)
    clients[0].connection.connection_lost(None)
    for client in clients[1:]:
        answer = await client.answer()
        assert answer is not None
        assert struct.unpack_from(">h", answer, 4) == (0,)
    assert checks == ["pencil"]


async def test_logins_of_an_address_fail_one_after_the_other(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logins, "FAILED_S", 0.1)
    loop = asyncio.get_running_loop()

    async def failed_s(host: str) -> float:
        began = loop.time()
        await door.client(host, tls=True).log_in("SCRAM-SHA-256", "alice", "wrong")
        return loop.time() - began

    *guesses, other = await asyncio.gather(*(failed_s(host) for host in ("192.0.2.1",) * 4 + ("192.0.2.2",)))
    assert max(guesses) > 0.39
    assert other < sorted(guesses)[2], "it waits for no other address"
    assert not door.gate._failing


async def test_the_answer_comes_before_the_end(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """kafka-python does not look at an answer that has the end right behind it."""
    monkeypatch.setattr(login, "GOODBYE_S", 0.1)
    client = door.client()
    assert (await client.log_in("SCRAM-SHA-256", "alice", "wrong"))[0] == FAILED
    assert not client.transport.closed
    client.connection.resume_writing()
    client.send(heartbeat(1))
    await asyncio.sleep(0.15)
    assert client.transport.closed
    assert door.asked == []


async def test_a_client_that_goes_does_not_leave_its_failure_behind(door: Door) -> None:
    client = door.client()
    await client.handshake("SCRAM-SHA-256")
    client.send(sized(frame(AUTHENTICATE, 1, struct.pack(">i", 1) + b"x")))
    await asyncio.sleep(0)
    client.connection.connection_lost(None)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not door.gate._failing


async def test_a_connection_without_a_login_has_a_deadline(door: Door) -> None:
    client, other = door.client(), door.client()
    await client.handshake("SCRAM-SHA-256")
    await other.log_in("SCRAM-SHA-256", "alice", "pencil")
    now = asyncio.get_running_loop().time()
    for after, closed in ((19, False), (21, True)):
        client.connection.last_read = other.connection.last_read = now + after
        door.listener.close_idle(now + after, 600)
        assert (client.transport.closed, other.transport.closed) == (closed, False)


async def test_the_log_has_who_failed_but_nothing_that_may_be_a_password(door: Door) -> None:
    with structlog.testing.capture_logs() as lines:
        for mechanism in ("PLAIN", "SCRAM-SHA-256"):
            await door.client().log_in(mechanism, "alice", "swordfish")
            await door.client().log_in(mechanism, "swordfish", "swordfish")
        await asyncio.sleep(0.05)
    assert [line["user"] for line in lines] == ["'alice'", "'(unknown)'"] * 2
    assert {line["event"] for line in lines} == {"kafka_connection_closed"}
    assert "swordfish" not in repr(lines)


async def test_without_a_gate_everybody_is_let_in_and_nobody_is_known(door: Door) -> None:
    door.listener.login = None
    client = door.client()
    client.send(heartbeat(3))
    assert await client.answer() == struct.pack(">ih", 3, 0)
    assert door.asked == ["User:ANONYMOUS"]
