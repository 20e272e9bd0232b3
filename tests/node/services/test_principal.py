"""Whose a call is, at the node that it came to and at those that it is passed on to."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from node import audit, principal
from node.metrics import Metrics
from node.principal import ANONYMOUS, Principal
from node.services.listener import add_service, make_server
from node.services.peers import forwarded
from node.transport import PLAIN, PRINCIPAL, Context, for_whom
from node.turns import Turns
from ottla.protocol.errors import ApiError
from ottla.v1 import admin_pb2, admin_pb2_grpc, cluster_pb2, data_pb2
from ottla.v1 import error_pb2 as pb
from tests.node.services.planes import Planes

CLUSTER = cluster_pb2.DESCRIPTOR.services_by_name["ClusterService"]
VERSION = f"/{CLUSTER.full_name}/GetVersion"


class Certified:
    """A transport of which everybody has the certificate that the test says."""

    def __init__(self) -> None:
        self.node_id: int | None = 2

    def caller(self, _context: Context) -> int:
        if self.node_id is None:
            raise ApiError(pb.ERROR_CODE_CLUSTER_AUTHORIZATION_FAILED, "not a node")
        return self.node_id


class Asked:
    """A server whose one call tells whose it is, of itself or of the node that it passes the call on to."""

    def __init__(self, identify: Callable[[Context], Principal] | None, onwards: "Asked | None" = None) -> None:
        self.server = make_server(2**20)
        handlers = dict.fromkeys((method.name for method in CLUSTER.methods), self.answer)
        self._onwards = onwards
        add_service(
            self.server, CLUSTER, handlers, Metrics(), turns=Turns(), forwarded=onwards is None, identify=identify
        )
        self.port = self.server.add_insecure_port("127.0.0.1:0")

    async def answer(self, _request: Any, _context: Any) -> Any:
        if self._onwards is not None:
            return cluster_pb2.GetVersionResponse.FromString(await self._onwards.ask(*forwarded()))
        return cluster_pb2.GetVersionResponse(version=str(principal.current()))

    async def ask(self, *metadata: tuple[str, str | bytes]) -> bytes:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{self.port}") as channel:
            rpc: Any = channel.unary_unary(VERSION)
            answer: bytes = await rpc(b"", metadata=metadata)
            return answer

    async def says(self, *metadata: tuple[str, str | bytes]) -> str:
        return cluster_pb2.GetVersionResponse.FromString(await self.ask(*metadata)).version


@pytest.fixture
async def started() -> AsyncIterator[Callable[[Asked], Any]]:
    servers = []

    async def start(asked: Asked) -> Asked:
        servers.append(asked.server)
        await asked.server.start()
        return asked

    yield start
    for server in servers:
        await server.stop(None)


@pytest.mark.parametrize("who", [Principal("User", "älice:b"), ANONYMOUS, principal.node(7)])
async def test_a_call_that_is_passed_on_stays_its_clients(started: Any, who: Principal) -> None:
    certified: Any = Certified()
    leader = await started(Asked(for_whom(certified)))
    door = await started(Asked(lambda _: who, leader))
    assert await door.says() == str(who)


async def test_a_client_is_not_who_it_says(started: Any) -> None:
    """What nodes say of a call's client counts at the listeners of nodes only."""
    leader = await started(Asked(for_whom(PLAIN)))
    for identify, expected in ((None, "User:ANONYMOUS"), (lambda _: principal.user("bob"), "User:bob")):
        door = await started(Asked(identify, leader))
        assert await door.says((PRINCIPAL, b"User:admin")) == expected


async def test_a_call_of_a_node_is_its_own_or_whose_it_says(started: Any) -> None:
    certified: Any = Certified()
    node = await started(Asked(for_whom(certified)))
    assert await node.says() == "Node:2"
    assert await node.says((PRINCIPAL, b"User:alice")) == "User:alice"
    certified.node_id = None
    with pytest.raises(grpc.aio.AioRpcError, match="CLUSTER_AUTHORIZATION_FAILED"):
        await node.says((PRINCIPAL, b"User:alice"))


async def test_without_certificates_nodes_are_believed(started: Any) -> None:
    node = await started(Asked(for_whom(PLAIN)))
    assert await node.says() == "User:ANONYMOUS"
    assert await node.says((PRINCIPAL, b"User:alice")) == "User:alice"


async def test_what_a_client_calls_itself_is_known_while_its_call_is_under_way(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """And is in the line about what it changed, also where nobody proves anything; the next call has its own."""
    told: list[Any] = []
    monkeypatch.setattr(audit, "tell", lambda event, **facts: told.append((event, facts["call"], facts["client_id"])))
    async with Planes(tmp_path) as planes:
        planes.create_topic("t", [1])
        async with planes.channel(1) as channel:
            admin = admin_pb2_grpc.AdminServiceStub(channel)
            request = admin_pb2.DeleteRecordsRequest(
                partitions=[
                    admin_pb2.DeleteRecordsPartition(
                        partition=data_pb2.TopicPartition(topic="t", partition=0), before_offset=0
                    )
                ]
            )
            for metadata in ((("ottla-client-id", "tool"),), None):
                await admin.DeleteRecords(request, metadata=metadata, timeout=10)
    assert told == [("change", "DeleteRecords", "tool"), ("change", "DeleteRecords", "")]
