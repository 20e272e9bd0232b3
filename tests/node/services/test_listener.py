"""What a server's limits do to one client must not do anything to another."""

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import structlog.testing

from node.api.in_flight import COUNTED_BYTES, InFlight
from node.limits import NODE_STREAMS_MAX as STREAMS_MAX
from node.metrics import Metrics
from node.services.listener import add_service, make_server
from ottla.v1 import cluster_pb2, data_pb2, group_pb2
from tests.cluster.test_hostile import BEGIN, headers_of_a_call

ECHO = "/test.Service/Echo"


async def test_streams_of_one_connection_fail_no_call_of_another() -> None:
    """As many streams as one connection may open, while the loop is too busy to take any of them."""

    async def echo(request: bytes, _context: Any) -> bytes:
        return request

    server = make_server(2**20)
    handler = grpc.unary_unary_rpc_method_handler(echo)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Service", {"Echo": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    flooded = threading.Event()

    def call(number: int) -> bytes:
        assert flooded.wait(20)
        with grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            answer: bytes = channel.unary_unary(ECHO)(b"%d" % number, timeout=30)
            return answer

    def flood(hostile: socket.socket) -> None:
        """Keeps the loop, which runs it, from everything else until the others' calls are there, too."""
        hostile.sendall(BEGIN + b"".join(headers_of_a_call(2 * n + 1, ECHO) for n in range(STREAMS_MAX)))
        time.sleep(0.5)
        flooded.set()
        time.sleep(0.5)

    others = [asyncio.create_task(asyncio.to_thread(call, number)) for number in range(4)]
    await asyncio.sleep(0)
    with socket.create_connection(("127.0.0.1", port), timeout=20) as hostile:
        flood(hostile)
        assert await asyncio.gather(*others) == [b"0", b"1", b"2", b"3"]
    await server.stop(None)


CLUSTER = cluster_pb2.DESCRIPTOR.services_by_name["ClusterService"]


@pytest.fixture
async def clusters() -> AsyncIterator[grpc.aio.Channel]:
    """A ClusterService that answers everything with nothing."""

    async def answer(_request: Any, _context: Any) -> cluster_pb2.Metadata:
        return cluster_pb2.Metadata()

    async def watch(_request: Any, context: Any) -> None:
        await context.write(cluster_pb2.MetadataEvent())

    handlers: dict[str, Any] = {method.name: answer for method in CLUSTER.methods} | {"WatchMetadata": watch}
    server = make_server(2**20)
    add_service(server, CLUSTER, handlers, Metrics())
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel
    await server.stop(None)


@pytest.mark.parametrize("method", ["GetMetadata", "WatchMetadata"])
@pytest.mark.parametrize(
    ("request_bytes", "said"),
    [
        (b"\xff\xff", "INVALID_REQUEST: the 2 bytes of the request are no ottla.v1.GetMetadataRequest"),
        (b"\x0a\x00" * 10_001, "INVALID_REQUEST: items of "),
        (b"\x0a" * (2**20 + 1), "MESSAGE_TOO_LARGE: a request of "),
    ],
)
async def test_a_request_that_is_none_is_refused_in_words(
    clusters: grpc.aio.Channel, method: str, request_bytes: bytes, said: str
) -> None:
    path = f"/{CLUSTER.full_name}/{method}"
    call: Any = clusters.unary_stream if method == "WatchMetadata" else clusters.unary_unary
    running = call(path)(request_bytes, timeout=10)
    with structlog.testing.capture_logs() as logged, pytest.raises(grpc.aio.AioRpcError) as raised:
        await (running.read() if method == "WatchMetadata" else running)
    too_large = said.startswith("MESSAGE_TOO_LARGE")
    assert raised.value.code() is grpc.StatusCode["RESOURCE_EXHAUSTED" if too_large else "INVALID_ARGUMENT"]
    assert said in (raised.value.details() or "")
    assert logged == []


GROUPS = group_pb2.DESCRIPTOR.services_by_name["GroupService"]
DATA = data_pb2.DESCRIPTOR.services_by_name["DataService"]


def busy(seconds: float) -> None:
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass


async def _nothing(*_: Any) -> None:
    raise AssertionError


async def test_a_crowd_of_sessions_is_not_before_the_next_record() -> None:
    """Each method has a queue to itself."""
    crowd = 150
    begun = 0
    first = asyncio.Event()

    async def session(context: Any) -> None:
        nonlocal begun
        begun += 1
        first.set()
        busy(0.003)
        await context.read()

    async def send(_request: Any, _context: Any) -> data_pb2.SendResponse:
        return data_pb2.SendResponse()

    server = make_server(2**20)
    for service, own in ((GROUPS, {"Session": session}), (DATA, {"Send": send})):
        handlers: dict[str, Any] = {method.name: _nothing for method in service.methods} | own
        add_service(server, service, handlers, Metrics())
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with (
        grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.use_local_subchannel_pool", 1)]) as many,
        grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.use_local_subchannel_pool", 1)]) as other,
    ):
        await other.channel_ready()
        sessions = [many.stream_stream(f"/{GROUPS.full_name}/Session")() for _ in range(crowd)]
        reads = [asyncio.ensure_future(each.read()) for each in sessions]
        await first.wait()
        rpc: Any = other.unary_unary(f"/{DATA.full_name}/Send")
        await rpc(b"", timeout=20)
        assert begun < crowd
        for read in reads:
            read.cancel()
    await server.stop(None)


async def test_an_answer_is_in_flight_until_it_has_left() -> None:
    in_flight = InFlight(2**26)
    held: list[int] = []

    async def large(_request: Any, _context: Any) -> cluster_pb2.Metadata:
        held.append(in_flight.used_bytes)
        return cluster_pb2.Metadata(cluster_id="x" * COUNTED_BYTES)

    server = make_server(2**20)
    handlers: dict[str, Any] = dict.fromkeys([method.name for method in CLUSTER.methods], large)
    add_service(server, CLUSTER, handlers, Metrics(), in_flight=in_flight)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    taken: list[int] = []
    take = in_flight.take
    in_flight.take = lambda size: (taken.append(size), take(size))[1]  # type: ignore[func-returns-value, method-assign]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        rpc: Any = channel.unary_unary(f"/{CLUSTER.full_name}/GetMetadata")
        answer = await rpc(b"", timeout=10)
    assert taken == [len(answer)]
    await server.stop(None)
    async with asyncio.timeout(10):
        while in_flight.used_bytes:  # noqa: ASYNC110 (gRPC's tasks end when they do)
            await asyncio.sleep(0.005)
