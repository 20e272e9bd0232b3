"""Calls on their way to the controller: how many, how long, and that none is sent twice."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import pytest

from node import limits
from node.api.view import ClusterView, QuorumView
from node.metrics import Metrics
from node.services import faults
from node.services.admin import SERVICE, AdminForwarder
from ottla.protocol.errors import ApiError
from ottla.v1 import admin_pb2
from ottla.v1 import error_pb2 as pb

DESCRIBE = admin_pb2.DescribeConfigsRequest().SerializeToString()


class Context:
    """As much of a gRPC context as the forwarder uses."""

    def __init__(self, remaining_s: float | None = None) -> None:
        self._remaining_s = remaining_s

    def time_remaining(self) -> float | None:
        return self._remaining_s

    def invocation_metadata(self) -> None:
        """None is said."""


class Controllers:
    """Two nodes that answer DescribeConfigs as they are told; `asked` has who was asked."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.answer: Callable[[int], Awaitable[bytes]] = self.good
        self.view = ClusterView(9, {})
        self.forwarder = AdminForwarder(self.view, Metrics())
        self.call: Any = self.forwarder.handlers()["DescribeConfigs"]
        self._servers: list[grpc.aio.Server] = []

    async def good(self, _node_id: int) -> bytes:
        return b""

    async def start(self) -> None:
        addresses: dict[int, str] = {}
        for node_id in (1, 2):

            async def describe(_context: Any, node_id: int = node_id) -> bytes:
                self.asked.append(node_id)
                return await self.answer(node_id)

            server = grpc.aio.server()
            handler = grpc.stream_unary_rpc_method_handler(faults.unary("DescribeConfigs", Metrics(), describe))
            server.add_generic_rpc_handlers(
                (grpc.method_handlers_generic_handler(SERVICE.full_name, {"DescribeConfigs": handler}),)
            )
            addresses[node_id] = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
            await server.start()
            self._servers.append(server)
        self.view._voters = addresses
        self.lead(1)

    def lead(self, node_id: int | None) -> None:
        self.view.set_quorum(QuorumView(leader_id=node_id))

    async def stop(self) -> None:
        await self.forwarder.stop()
        for server in self._servers:
            await server.stop(None)


@pytest.fixture
async def controllers() -> AsyncIterator[Controllers]:
    made = Controllers()
    await made.start()
    yield made
    await made.stop()


async def test_a_call_that_cost_the_controller_its_seat_is_not_sent_to_the_next(controllers: Controllers) -> None:
    never = asyncio.Event()

    async def loses_its_seat(_node_id: int) -> bytes:
        controllers.lead(2)
        await never.wait()
        return b""

    controllers.answer = loses_its_seat
    with pytest.raises(ApiError) as raised:
        await controllers.call(DESCRIBE, Context(10))
    assert raised.value.code == pb.ERROR_CODE_NETWORK_EXCEPTION
    assert controllers.asked == [1]


async def test_a_controller_that_says_it_is_none_is_followed_by_the_next(controllers: Controllers) -> None:
    async def hands_over(node_id: int) -> bytes:
        if node_id == 1:
            controllers.lead(2)
            raise ApiError(pb.ERROR_CODE_NOT_CONTROLLER, "not any more")
        return b"yes"

    controllers.answer = hands_over
    assert await controllers.call(DESCRIBE, Context(10)) == b"yes"
    assert controllers.asked == [1, 2]


async def test_calls_under_way_are_bounded_and_the_next_one_is_told_when_to_come_back(
    controllers: Controllers,
) -> None:
    go, all_there = asyncio.Event(), asyncio.Event()

    async def waits(_node_id: int) -> bytes:
        if len(controllers.asked) == limits.ADMIN_IN_FLIGHT_MAX:
            all_there.set()
        await go.wait()
        return b""

    controllers.answer = waits
    calls = [asyncio.ensure_future(controllers.call(DESCRIBE, Context(10))) for _ in range(limits.ADMIN_IN_FLIGHT_MAX)]
    async with asyncio.timeout(10):
        await all_there.wait()
    with pytest.raises(ApiError) as raised:
        await controllers.call(DESCRIBE, Context(10))
    assert raised.value.code == pb.ERROR_CODE_THROTTLING_QUOTA_EXCEEDED
    assert raised.value.retry_after_ms == limits.ADMIN_RETRY_MS
    go.set()
    await asyncio.gather(*calls)
    assert await controllers.call(DESCRIBE, Context(10)) == b""


async def test_without_a_controller_a_call_fails_soon_and_says_why(
    controllers: Controllers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.services.admin.NO_CONTROLLER_S", 0.05)
    controllers.lead(None)
    with pytest.raises(ApiError) as raised:
        await asyncio.wait_for(controllers.call(DESCRIBE, Context(None)), 5)
    assert raised.value.code == pb.ERROR_CODE_NOT_CONTROLLER
    assert "a majority of the quorum must be up" in raised.value.message


async def test_a_call_ends_with_the_time_out_that_it_asks_for(controllers: Controllers) -> None:
    controllers.lead(None)
    create: Any = controllers.forwarder.handlers()["CreateTopics"]
    request = admin_pb2.CreateTopicsRequest(timeout_ms=50).SerializeToString()
    with pytest.raises(ApiError, match="NOT_CONTROLLER"):
        await asyncio.wait_for(create(request, Context(None)), 10)


async def test_what_is_no_request_is_refused_here(controllers: Controllers) -> None:
    create: Any = controllers.forwarder.handlers()["CreateTopics"]
    with pytest.raises(ApiError, match="INVALID_REQUEST"):
        await create(b"\xff\xff", Context(10))
