"""A client that logs in: produce and consume with a password, what is said where that is wrong, and new passwords."""

import asyncio
import dataclasses
import itertools
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import ottla.sync
from node import logins
from node.services import sessions
from ottla import Admin, AuthenticationFailed, Client, ConfigError, Consumer, OttlaError, Producer
from ottla.client import connection, login
from ottla.protocol import scram
from ottla.protocol.scram import SHA_512
from tests.node.services.planes import Planes
from tests.node.services.test_sessions import Users, credential, key, removal


@pytest.fixture
async def users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Users]:
    monkeypatch.setattr(logins, "FAILED_S", 0.02)
    monkeypatch.setattr(connection, "REFUSED_S", 0.2)
    monkeypatch.setattr(connection, "RENEW_LOOK_S", 0.05)
    async with Users(tmp_path) as made:
        made.change(key(1), credential("alice", "pencil"), credential("bob", "pen", SHA_512))
        made.create_topic("t", [1, 2])
        producer_ids = itertools.count(1)

        async def allocate() -> int:
            return next(producer_ids)

        for plane in made.planes.values():
            plane.broker.allocate_producer_id = allocate  # type: ignore[method-assign]
        yield made


@pytest.mark.parametrize(("user", "password"), [("alice", "pencil"), ("bob", "pen")])
async def test_who_logs_in_writes_and_reads(users: Users, tmp_path: Path, user: str, password: str) -> None:
    file = tmp_path / "password"
    file.write_text(password + "\n")
    async with Producer(users.address(1), user=user, password=password) as producer:
        for i in range(20):
            await producer.send("t", value=b"%d" % i, partition=i % 2)
    async with Consumer("t", bootstrap=users.address(2), user=user, password_file=file) as consumer:
        async with asyncio.timeout(20):
            assert sorted([int((await anext(consumer)).value or b"") for _ in range(20)]) == list(range(20))


@pytest.mark.parametrize(("user", "password"), [("alice", "pen"), ("carol", "pencil")])
async def test_a_wrong_login_fails_at_once(users: Users, user: str, password: str) -> None:
    began = time.monotonic()
    with pytest.raises(AuthenticationFailed, match="wrong user or password") as raised:
        async with Admin(users.address(1), user=user, password=password):
            pass
    assert time.monotonic() - began < 5
    assert password not in raised.value.message
    assert raised.value.retriable is False


async def test_who_has_no_user_hears_that_one_is_wanted(users: Users) -> None:
    with pytest.raises(AuthenticationFailed, match=r"wants users to log in.*OTTLA_PASSWORD_FILE"):
        async with Client(users.address(1)):
            pass


async def test_a_user_is_no_hindrance_where_none_is_wanted(tmp_path: Path) -> None:
    """So clients may have theirs before the nodes ask for them, one after the other."""
    async with Planes(tmp_path, nodes=1) as planes:
        planes.change(key(1), credential("alice", "pencil"))
        async with Client(planes.address(1), user="alice", password="pencil") as client:
            assert client._token is not None
        with pytest.raises(AuthenticationFailed, match="wrong user or password"):
            async with Client(planes.address(1), user="alice", password="pen"):
                pass


async def test_a_node_of_an_older_build_lets_users_in(users: Users, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Client(users.address(1), user="alice", password="pencil") as client:
        assert client._login is not None
        async with users.channel(1, "replication") as channel:
            assert await client._login(channel, users.address(1), encrypted=False) is None


async def test_before_there_are_sessions_the_way_is_told_at_once(tmp_path: Path) -> None:
    async with Users(tmp_path) as users:
        users.change(credential("alice", "pencil"))
        with pytest.raises(OttlaError, match="ottla cluster finalize"):
            async with Client(users.address(1), user="alice", password="pencil", connect_timeout_ms=60_000):
                pass


async def test_the_environment_names_user_and_file(
    users: Users, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "password"
    file.write_bytes(b"pencil")
    monkeypatch.setenv("OTTLA_USER", "alice")
    with pytest.raises(ConfigError, match="OTTLA_PASSWORD_FILE is not"):
        Client(users.address(1))
    monkeypatch.setenv("OTTLA_PASSWORD_FILE", str(file))
    async with Client(users.address(1)) as client:
        assert client.view.topics["t"]


async def test_another_password_in_the_file_is_taken(users: Users, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("pencil\n")
    async with Producer(users.address(1), user="alice", password_file=file, delivery_timeout_ms=20_000) as producer:
        await producer.send("t", value=b"1", partition=0)
        await producer.flush()
        file.write_text("staple\n")
        users.change(credential("alice", "staple"))
        for partition in (0, 1):
            await producer.send("t", value=b"2", partition=partition)
        await producer.flush()


async def test_a_removed_user_is_told_so(users: Users) -> None:
    async with (
        Consumer("t", bootstrap=users.address(1), user="alice", password="pencil") as consumer,
        Client(users.address(1), user="alice", password="pencil") as client,
        Admin(client) as admin,
    ):
        reading = asyncio.ensure_future(anext(consumer))
        await asyncio.sleep(0.3)
        users.change(removal("alice"))
        async with asyncio.timeout(20):
            while client._refused is None:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
            with pytest.raises(AuthenticationFailed, match="wrong user or password"):
                await admin.describe_cluster()
        users.change(credential("alice", "pencil"))
        await asyncio.sleep(1)
        async with Producer(users.address(2), user="bob", password="pen") as producer:
            await producer.send("t", value=b"again", partition=0)
        async with asyncio.timeout(10):
            assert (await reading).value == b"again"
            assert await client.home()


async def test_tokens_are_renewed_in_time(users: Users, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "LIFE_MS", 900)
    async with Client(users.address(1), user="alice", password="pencil") as client:
        seen = set()
        began = time.monotonic()
        while len(seen) < 3:
            assert time.monotonic() - began < 20
            assert client._token is not None
            seen.add(client._token.text)
            await client.on_any_node(partial(connection._get_topic, "t"), 1_000, repeatable=False)
            await asyncio.sleep(0.05)
    assert time.monotonic() - began > 0.9, "each is used for most of its life"


async def test_a_token_that_no_node_takes_any_more_is_replaced(users: Users) -> None:
    async with Client(users.address(1), user="alice", password="pencil") as client:
        before = client._token
        assert before is not None
        users.change(key(2))
        users.change(key(3))
        client._home = None
        await users[1]._servers[0].stop(None)
        async with asyncio.timeout(10):
            while client._token is before or client._home is None:  # noqa: ASYNC110
                await asyncio.sleep(0.02)


async def test_a_session_is_not_carried_over_the_network_in_the_open(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client("192.0.2.1:9192", user="alice", password="pencil")
    assert client._login is not None
    with pytest.raises(ConfigError, match="without TLS"):
        await client._login(None, "192.0.2.1:9192", encrypted=False)  # type: ignore[arg-type]
    for address, own in (("localhost:1", True), ("127.0.0.9:1", True), ("[::1]:1", True), ("example.com:1", False)):
        assert login._is_loopback(address) is own


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"password": "x"}, "without a user"),
        ({"password_file": "x"}, "without a user"),
        ({"user": "alice"}, "either a password or a password_file"),
        ({"user": "alice", "password": "x", "password_file": "y"}, "either"),
        ({"user": "alice", "password": ""}, "has 0 bytes"),
        ({"user": "alice", "password": "x" * 1025}, "has 1025 bytes"),
        ({"user": " alice", "password": "x"}, "printable"),
        ({"user": "alice", "password_file": "/nowhere/at/all"}, "cannot be read"),
    ],
)
def test_what_makes_no_login_is_told(given: dict[str, str], said: str) -> None:
    makes: tuple[Any, ...] = (Client, Producer, Admin, ottla.sync.Admin, ottla.sync.Producer)
    for make in makes:
        with pytest.raises(ConfigError, match=said):
            make("127.0.0.1:1", **given)


@pytest.mark.parametrize("content", [b"", b"\n", b"swordfish\ntwo", b"\xff", b"x" * 2000])
def test_a_file_with_no_password_is_told_without_it(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "password"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match="password") as raised:
        login.password_in(file)
    assert "swordfish" not in raised.value.message


async def test_a_node_that_does_not_know_the_user_is_not_believed(
    users: Users, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(exchange: scram.ServerExchange, message: bytes) -> bytes:
        proof = bytearray(final(exchange, message))
        proof[2] = ord("B") if proof[2] == ord("A") else ord("A")
        return bytes(proof)

    final = scram.ServerExchange.final
    monkeypatch.setattr(scram.ServerExchange, "final", wrong)
    with pytest.raises(AuthenticationFailed, match="does not prove"):
        async with Client(users.address(1), user="alice", password="pencil"):
            pass


async def test_few_iterations_are_not_agreed_to(users: Users) -> None:
    kept = credential("dave", "secret")
    weak = dataclasses.replace(scram.credential(scram.SHA_256, b"s" * 32, b"saltsalt", 4096), iterations=100)
    record = kept.user_scram_credential
    record.iterations = weak.iterations
    users.change(kept)
    with pytest.raises(OttlaError, match="100 iterations"):
        async with Client(users.address(1), user="dave", password="secret"):
            pass
