"""How a whole call fails: a status that generic tools understand."""

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import grpc
import pytest
import structlog.testing
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from node.metrics import Metrics
from node.services import faults
from ottla.protocol.errors import ApiError
from ottla.v1 import error_pb2 as pb


@pytest.fixture
async def call() -> AsyncIterator[Callable[[Exception], Any]]:
    """Calls a method over loopback that fails as it is told."""
    wanted: list[Exception] = []

    async def fail(_context: Any) -> bytes:
        raise wanted[-1]

    handler = grpc.stream_unary_rpc_method_handler(faults.unary("Fail", Metrics(), fail))
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Service", {"Fail": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:

        async def failed(error: Exception) -> grpc.aio.AioRpcError:
            wanted.append(error)
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await channel.unary_unary("/test.Service/Fail")(b"", timeout=5)
            return raised.value

        yield failed
    await server.stop(None)


async def test_a_retriable_refusal_says_when_to_come_back_and_whom_to_ask(call: Callable[[Exception], Any]) -> None:
    error = ApiError(
        pb.ERROR_CODE_LEADER_NOT_AVAILABLE, "nobody", leader=2, epoch=7, address="127.0.0.1:9193", retry_after_ms=150
    )
    failed = await call(error)
    assert failed.code() is grpc.StatusCode.UNAVAILABLE
    assert failed.details().startswith("LEADER_NOT_AVAILABLE: nobody")
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    first, second = rpc_status.from_call(failed).details
    assert first.Unpack(info)
    assert (info.reason, info.domain) == ("LEADER_NOT_AVAILABLE", "ottla")
    assert dict(info.metadata) == {
        "code": "5",
        "retriable": "true",
        "leader": "2",
        "epoch": "7",
        "address": "127.0.0.1:9193",
    }
    assert second.Unpack(retry)
    assert retry.retry_delay.ToMilliseconds() == 150


async def test_a_final_refusal_has_no_time_to_come_back(call: Callable[[Exception], Any]) -> None:
    failed = await call(ApiError(pb.ERROR_CODE_INVALID_REQUEST, "bad"))
    assert failed.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert len(rpc_status.from_call(failed).details) == 1


async def test_a_bug_of_ours_shows_its_kind_and_nothing_else(call: Callable[[Exception], Any]) -> None:
    failed = await call(ValueError("a secret"))
    assert failed.code() is grpc.StatusCode.UNKNOWN
    assert "ValueError" in failed.details()
    assert "secret" not in failed.details()


@pytest.mark.parametrize("wait_ms", [0, 1, 999, 1500, 30_000])
async def test_a_long_wait_is_said_in_full(call: Callable[[Exception], Any], wait_ms: int) -> None:
    failed = await call(ApiError(pb.ERROR_CODE_THROTTLING_QUOTA_EXCEEDED, "slower", retry_after_ms=wait_ms))
    retry = error_details_pb2.RetryInfo()
    assert rpc_status.from_call(failed).details[1].Unpack(retry)
    assert retry.retry_delay.ToMilliseconds() == (wait_ms or faults.RETRY_MS)


async def test_a_client_that_is_gone_before_an_answer_is_no_fault_of_ours() -> None:
    metrics = Metrics()

    async def serve(_context: Any) -> None:
        raise grpc.aio.InternalError  # what a write raises when the cancellation is still on its way

    with structlog.testing.capture_logs() as lines, pytest.raises(asyncio.CancelledError):
        await faults.stream("Gone", metrics, serve)(None, None)  # type: ignore[arg-type]
    assert lines == []
    assert "UNKNOWN_SERVER_ERROR" not in metrics.render().decode()


async def test_a_request_that_grpc_could_not_take_is_no_fault_of_ours() -> None:
    metrics = Metrics()

    async def serve(_context: Any) -> None:
        raise grpc.aio.InternalError  # what a read raises of a message that is too large, or whose client is gone

    with pytest.raises(asyncio.CancelledError):
        await faults.unary("Produce", metrics, serve)(None, None)  # type: ignore[arg-type]


async def test_a_server_that_stops_is_no_bug_of_the_calls_under_way() -> None:
    waiting = asyncio.Event()

    async def reads_when_it_is_too_late(context: Any) -> None:
        waiting.set()
        try:
            await asyncio.sleep(20)
        finally:
            await context.read()

    metrics = Metrics()
    handler = grpc.stream_stream_rpc_method_handler(faults.stream("Listen", metrics, reads_when_it_is_too_late))
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Service", {"Listen": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call: Any = channel.stream_stream("/test.Service/Listen")()
        await call.write(b"")
        await waiting.wait()
        with structlog.testing.capture_logs() as logged:
            await server.stop(None)
            with pytest.raises(grpc.aio.AioRpcError):
                await call.read()
            await asyncio.sleep(0.05)
    assert logged == []


class Request:
    """Something large."""


@pytest.mark.parametrize("shape", ["unary", "stream"])
@pytest.mark.parametrize("wrong", [partial(ApiError, pb.ERROR_CODE_INVALID_REQUEST, "no"), ValueError, None])
async def test_nothing_of_a_failed_call_stays_until_the_collector_comes_by(
    shape: str, wrong: Callable[[], Exception] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faults.log, "error", lambda *_, **__: None)
    held: list[weakref.ref[Request]] = []

    async def fail(_context: Any) -> Any:
        request = Request()
        held.append(weakref.ref(request))
        try:
            if wrong is None:
                await asyncio.sleep(60)
            raise KeyError("what it comes from")
        except KeyError:
            assert wrong is not None
            raise wrong() from None

    if shape == "unary":
        handler = grpc.stream_unary_rpc_method_handler(faults.unary("Fail", Metrics(), fail))
    else:
        handler = grpc.stream_stream_rpc_method_handler(faults.stream("Fail", Metrics(), fail))
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Service", {"Fail": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    gc.collect()
    gc.disable()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            with pytest.raises(grpc.aio.AioRpcError):
                await channel.unary_unary("/test.Service/Fail")(b"", timeout=0.2 if wrong is None else 5)
            for _ in range(500):
                if held[0]() is None:
                    break
                await asyncio.sleep(0.01)
            assert held[0]() is None
    finally:
        gc.enable()
        await server.stop(None)
