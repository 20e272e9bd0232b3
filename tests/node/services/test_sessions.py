"""Users of the gRPC listener: who is let in, by what, and for how long."""

import asyncio
import time
from base64 import b64encode, urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import structlog.testing
from google.protobuf.descriptor import ServiceDescriptor
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from node import logins, principal
from node.metadata.apply import credential_record
from node.services import sessions
from ottla.internal.v1 import metadata_pb2 as records
from ottla.protocol import scram
from ottla.protocol.errors import ApiError
from ottla.protocol.scram import SHA_256, SHA_512, ClientExchange, Mechanism
from ottla.v1 import admin_pb2, cluster_pb2, data_pb2, group_pb2, login_pb2
from tests.node.services.planes import Planes

MODULES = (admin_pb2, cluster_pb2, data_pb2, group_pb2, login_pb2, health_pb2, reflection_pb2)
SERVICES: list[ServiceDescriptor] = [s for m in MODULES for s in m.DESCRIPTOR.services_by_name.values()]
RPCS = [f"/{service.full_name}/{method.name}" for service in SERVICES for method in service.methods]
OPEN = {
    "/ottla.v1.LoginService/BeginScram",
    "/ottla.v1.LoginService/FinishScram",
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/List",
    "/grpc.health.v1.Health/Watch",
}
VERSION, WATCH = "/ottla.v1.ClusterService/GetVersion", "/ottla.v1.ClusterService/WatchMetadata"


def credential(name: str, password: str, mechanism: Mechanism = SHA_256) -> records.MetadataRecord:
    salted = scram.salted_password(mechanism, password, b"saltsalt", 4096)
    kept = scram.credential(mechanism, salted, b"saltsalt", 4096)
    return records.MetadataRecord(user_scram_credential=credential_record(name, mechanism.number, kept))


def removal(name: str, mechanism: Mechanism = SHA_256) -> records.MetadataRecord:
    record = records.RemoveUserScramCredentialRecord(user=name, mechanism=mechanism.number)
    return records.MetadataRecord(remove_user_scram_credential=record)


def key(key_id: int) -> records.MetadataRecord:
    return records.MetadataRecord(session_key=records.SessionKeyRecord(id=key_id, key=bytes([key_id]) * 32))


def basic(name: str, password: str) -> str:
    return "Basic " + b64encode(f"{name}:{password}".encode()).decode()


class Users(Planes):
    """Two nodes with users."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, nodes=2, settings=["public.authentication=token"])

    async def says(self, authorization: str = "", rpc: str = VERSION, *, node_id: int = 1) -> str:
        """OK, or the status and the message. Of a stream the first message counts. A client that is refused while it
        writes may be told so by its own core alone: it asks again."""
        while (told := await self._says_once(authorization, rpc, node_id)) == "INTERNAL Internal error from Core":
            continue
        return told

    async def _says_once(self, authorization: str, rpc: str, node_id: int) -> str:
        metadata = (("authorization", authorization),) if authorization else ()
        async with self.channel(node_id) as channel:
            begin: Any = channel.stream_stream(rpc)
            call = begin(iter([b""]), metadata=metadata, timeout=10)
            try:
                await call.read()
                return "OK" if (code := await _ended(call)) is None or code is grpc.StatusCode.OK else str(code.name)
            except grpc.aio.AioRpcError as error:
                return f"{error.code().name} {error.details()}"
            finally:
                call.cancel()

    async def log_in(self, name: str, password: str, mechanism: Mechanism = SHA_256, *nodes: int) -> str:
        """By calls to two nodes. Raises AioRpcError."""
        begin_at, finish_at = nodes or (1, 2)
        exchange = ClientExchange(mechanism, name, password, "nonce")
        number = admin_pb2.ScramMechanism.ValueType(mechanism.number)
        async with self.channel(begin_at) as one, self.channel(finish_at) as other:
            first = await _call(
                one, "BeginScram", login_pb2.BeginScramRequest(mechanism=number, message=exchange.first)
            )
            final = exchange.final(first.message)
            answer = await _call(other, "FinishScram", login_pb2.FinishScramRequest(message=final, state=first.state))
        exchange.check(answer.message)
        assert answer.lifetime_ms == 15 * 60 * 1000
        return str(answer.token)


async def _ended(call: Any) -> grpc.StatusCode | None:
    return await call.code() if call.done() else None


async def _call(channel: grpc.aio.Channel, name: str, request: Any) -> Any:
    method = sessions.SERVICE.methods_by_name[name]
    answer = getattr(login_pb2, method.output_type.name)
    rpc: Any = channel.unary_unary(
        f"/{sessions.SERVICE.full_name}/{name}",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=answer.FromString,
    )
    return await rpc(request, timeout=10)


@pytest.fixture
async def users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Users]:
    monkeypatch.setattr(logins, "FAILED_S", 0.02)
    async with Users(tmp_path) as made:
        made.change(key(1), credential("alice", "pencil"), credential("bob", "pen", SHA_512))
        yield made


async def test_who_names_no_user_gets_refusals_alone(users: Users) -> None:
    """Every RPC that there is: one that is new is refused, too, or this fails."""
    said = {rpc: await users.says(rpc=rpc) for rpc in RPCS}
    refused = {
        rpc for rpc, answer in said.items() if answer.startswith("UNAUTHENTICATED SASL_AUTHENTICATION_FAILED: this")
    }
    assert set(RPCS) - refused == OPEN, said
    assert "docs/security.md" in said[VERSION]
    assert said["/grpc.health.v1.Health/Check"] == "OK"


@pytest.mark.parametrize(("name", "password", "mechanism"), [("alice", "pencil", SHA_256), ("bob", "pen", SHA_512)])
async def test_a_token_counts_at_every_node(users: Users, name: str, password: str, mechanism: Mechanism) -> None:
    token = await users.log_in(name, password, mechanism)
    for node_id in (1, 2):
        assert await users.says(f"Bearer {token}", node_id=node_id) == "OK"
        assert await users.says(f"bearer {token}", WATCH, node_id=node_id) == "OK"


@pytest.mark.parametrize("nodes", [(1, 1), (1, 2)])
async def test_a_wrong_user_and_a_wrong_password_are_the_same(users: Users, nodes: tuple[int, int]) -> None:
    said = set()
    for name, password, mechanism in (("alice", "pen", SHA_256), ("carol", "pencil", SHA_256), ("bob", "pen", SHA_256)):
        with structlog.testing.capture_logs() as lines, pytest.raises(grpc.aio.AioRpcError) as raised:
            await users.log_in(name, password, mechanism, *nodes)
        said.add((raised.value.code(), raised.value.details()))
        assert [line["user"] for line in lines if line["event"] == "login_failed"] == [
            "'(unknown)'" if name == "carol" else f"'{name}'"
        ]
    [(code, text)] = said
    assert code is grpc.StatusCode.UNAUTHENTICATED
    assert "wrong user or password" in text


async def test_a_password_is_enough_for_a_call(users: Users) -> None:
    for _ in range(2):
        assert await users.says(basic("alice", "pencil")) == "OK"
        assert await users.says(basic("bob", "pen")) == "OK"
    passwords = ("pen", "", "pencil\0", "\0pencil")
    for wrong in (*(basic("alice", each) for each in passwords), basic("carol", "pencil"), basic("", "")):
        assert "wrong user or password" in await users.says(wrong)
    for none in ("Basic", "Basic !", "Basic " + b64encode(b"alice").decode(), "Basic " + "x" * 5000, "Basic gA=="):
        assert (await users.says(none)).startswith("UNAUTHENTICATED SASL_AUTHENTICATION_FAILED: Basic is followed"), (
            none
        )


async def test_a_password_is_checked_once(users: Users, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    check = scram.is_password

    def counted(*about: Any) -> bool:
        asked.append(1)
        return check(*about)

    monkeypatch.setattr(scram, "is_password", counted)
    for _ in range(5):
        assert await users.says(basic("alice", "pencil")) == "OK"
    assert len(asked) == 1
    users.change(credential("alice", "other"))
    assert "wrong" in await users.says(basic("alice", "pencil"))
    assert await users.says(basic("alice", "other")) == "OK"


async def test_a_password_is_not_shown_to_a_listener_without_tls(users: Users, monkeypatch: pytest.MonkeyPatch) -> None:
    token = await users.log_in("alice", "pencil")
    monkeypatch.setattr(sessions, "is_loopback", lambda _: False)
    assert "has no TLS" in await users.says(basic("alice", "pencil"))
    assert await users.says(f"Bearer {token}") == "OK"


def _changed(token: str, at: int) -> str:
    data = bytearray(urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    data[at] ^= 1
    return urlsafe_b64encode(data).decode().rstrip("=")


async def test_a_token_that_is_changed_anywhere_is_none(users: Users) -> None:
    token = await users.log_in("alice", "pencil")
    users.change(credential("alicd", "pencil"))
    size = len(urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    for at in range(size):
        with pytest.raises(ApiError, match=r"the (token|session)") as refused:
            users[1]._sessions._by_token(_changed(token, at))
        assert refused.value.name == "SASL_AUTHENTICATION_FAILED"
    for other in ("", "x", "x" * 5000, token[:-4], token[:9] + "!" + token[9:], token + "="):
        assert (await users.says(f"Bearer {other}")).startswith("UNAUTHENTICATED"), other
    assert await users.says(f"Bearer {token}") == "OK"


async def test_a_token_ends_with_its_time(users: Users, monkeypatch: pytest.MonkeyPatch) -> None:
    token = await users.log_in("alice", "pencil")
    assert await users.says(f"Bearer {token}") == "OK"
    later = sessions.LIFE_MS + 1000
    for plane in users.planes.values():
        monkeypatch.setattr(plane._sessions, "_now_ms", lambda: int(time.time() * 1000) + later)
    for node_id in (1, 2):
        assert "has expired" in await users.says(f"Bearer {token}", node_id=node_id)


async def test_a_token_outlives_one_key_and_not_two(users: Users) -> None:
    token = await users.log_in("alice", "pencil")
    users.change(key(2))
    assert await users.says(f"Bearer {token}") == "OK"
    newer = await users.log_in("alice", "pencil")
    users.change(key(3))
    assert "too old" in await users.says(f"Bearer {token}")
    assert await users.says(f"Bearer {newer}") == "OK"


@pytest.mark.parametrize("change", [removal("alice"), credential("alice", "other")])
@pytest.mark.parametrize("how", ["Bearer", "Basic"])
async def test_a_session_ends_with_its_user_or_password(users: Users, change: Any, how: str) -> None:
    """Calls that are under way, too: streams, and those that wait."""
    users.create_topic("t", [1])
    alice = f"Bearer {await users.log_in('alice', 'pencil')}" if how == "Bearer" else basic("alice", "pencil")
    bob = f"Bearer {await users.log_in('bob', 'pen', SHA_512)}"
    poll = data_pb2.FetchRequest(
        partitions=[data_pb2.FetchPartition(topic="t", partition=0, offset=0)], max_wait_ms=20_000, min_bytes=1
    ).SerializeToString()
    async with users.channel(1) as channel:
        mine: list[Any] = []
        others: list[Any] = []
        for who, calls in ((alice, mine), (bob, others)):
            metadata = (("authorization", who),)
            for rpc in ("ClusterService/WatchMetadata", "DataService/FetchStream", "GroupService/Session"):
                calls.append(channel.stream_stream(f"/ottla.v1.{rpc}")(metadata=metadata))
            await calls[0].write(b"")
            await calls[0].read()
            fetch: Any = channel.unary_unary("/ottla.v1.DataService/Fetch")
            calls.append(fetch(poll, metadata=metadata))
        await asyncio.sleep(0.3)
        users.change(change)
        async with asyncio.timeout(5):
            codes = [await call.code() for call in mine]
        assert codes == [grpc.StatusCode.UNAUTHENTICATED] * 4
        assert "removed, or has another password" in str(await mine[1].details())
        assert not any(call.done() for call in others)
        for call in others:
            call.cancel()
    assert not users[1]._sessions._ended
    for node_id in (1, 2):
        assert (await users.says(alice, node_id=node_id)).startswith("UNAUTHENTICATED")
        assert await users.says(bob, node_id=node_id) == "OK"


async def test_the_state_of_a_login_is_this_clusters_and_recent(users: Users, monkeypatch: pytest.MonkeyPatch) -> None:
    exchange = ClientExchange(SHA_256, "alice", "pencil", "nonce")
    async with users.channel(1) as channel:
        begun = await _call(channel, "BeginScram", login_pb2.BeginScramRequest(mechanism=1, message=exchange.first))  # type: ignore[arg-type]
        final = exchange.final(begun.message)
        wrong = [
            b"",
            b"x" * 200,
            *(
                begun.state[:at] + bytes([begun.state[at] ^ 1]) + begun.state[at + 1 :]
                for at in range(0, len(begun.state), 7)
            ),
        ]
        for state in wrong:
            with pytest.raises(grpc.aio.AioRpcError, match="none that BeginScram gave"):
                await _call(channel, "FinishScram", login_pb2.FinishScramRequest(message=final, state=state))
        for mechanism, message in ((0, exchange.first), (3, exchange.first), (1, b""), (1, b"p=tls,,n=a,r=b")):
            with pytest.raises(grpc.aio.AioRpcError, match="SASL"):
                await _call(channel, "BeginScram", login_pb2.BeginScramRequest(mechanism=mechanism, message=message))  # type: ignore[arg-type]
        late = sessions.LOGIN_MS + 1000
        monkeypatch.setattr(users[1]._sessions, "_now_ms", lambda: int(time.time() * 1000) + late)
        with pytest.raises(grpc.aio.AioRpcError, match="within the last minute"):
            await _call(channel, "FinishScram", login_pb2.FinishScramRequest(message=final, state=begun.state))


async def test_before_there_is_a_key_the_way_is_told(tmp_path: Path) -> None:
    async with Users(tmp_path) as users:
        users.change(credential("alice", "pencil"))
        with pytest.raises(grpc.aio.AioRpcError, match="ottla cluster finalize"):
            await users.log_in("alice", "pencil")
        assert await users.says(basic("alice", "pencil")) == "OK"


async def test_a_call_is_its_users(users: Users, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    forwarder = users[1]._admin

    async def call(*_: Any) -> bytes:
        asked.append(str(principal.current()))
        return b""

    monkeypatch.setattr(forwarder, "call", call)
    token = await users.log_in("alice", "pencil")
    for who in (f"Bearer {token}", basic("bob", "pen"), basic("bob", "pen")):
        assert await users.says(who, "/ottla.v1.AdminService/DescribeFeatures") == "OK"
    assert asked == ["User:alice", "User:bob", "User:bob"]


@pytest.mark.parametrize(
    ("peer", "address"),
    [("ipv4:127.0.0.1:5000", "127.0.0.1"), ("ipv6:%5B::1%5D:5000", "::1"), ("ipv6:[fe80::1%25eth0]:1", "fe80::1%eth0")],
)
def test_the_address_of_a_peer(peer: str, address: str) -> None:
    assert sessions._address(peer) == address
