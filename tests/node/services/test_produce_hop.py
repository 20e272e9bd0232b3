"""A stream to a leader that ends under the hand: what was passed on is unknown and may be sent again, never failed."""

import asyncio
from typing import Any

import grpc
import pytest

from node import limits
from node.api.in_flight import InFlight
from node.services.produce_stream import Producing, _Hop, _Stream
from ottla.protocol.errors import ApiError
from ottla.v1 import error_pb2 as pb
from ottla.v1.error_pb2 import Error


class EndedCall:
    """The client side of a stream whose connection is gone, as gRPC shows it to whoever writes."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    async def write(self, _message: object) -> None:
        raise self._error

    async def read(self) -> object:
        return await asyncio.get_running_loop().create_future()

    def cancel(self) -> None:
        pass


class Channel:
    def __init__(self, call: EndedCall) -> None:
        self._call = call

    def stream_stream(self, *_: object, **__: object) -> Any:
        return lambda **_: self._call


class Request:
    client_id = "a client"
    partitions: tuple[Any, ...] = ()


class Running:
    request = Request()
    acks = -1
    timeout_ms = 1000


@pytest.mark.parametrize("error", [asyncio.InvalidStateError("RPC already finished."), grpc.aio.UsageError("over")])
async def test_a_write_to_an_ended_stream_is_unknown_and_retriable(error: Exception) -> None:
    found: list[ApiError | Error | None] = []
    told = asyncio.Event()

    def arrived(_running: Producing, _index: int, _leader: int, fault: ApiError | Error | None) -> None:
        found.append(fault)
        told.set()

    hop = _Hop(Channel(EndedCall(error)), 2, arrived)  # type: ignore[arg-type]
    hop._waiting[7] = (Running(), [0], 1e18)  # type: ignore[assignment]
    hop.send(Running(), [])  # type: ignore[arg-type]
    async with asyncio.timeout(10):
        await told.wait()
    [fault] = found
    assert isinstance(fault, ApiError)
    assert fault.code == pb.ERROR_CODE_NETWORK_EXCEPTION
    assert fault.retriable
    assert hop.closed


async def test_a_stream_that_ends_in_the_middle_gives_back_the_room_of_its_large_requests() -> None:
    in_flight = InFlight(8 * limits.LARGE_BYTES)
    stream = _Stream(None, None, in_flight)  # type: ignore[arg-type]
    for size_bytes in (limits.LARGE_BYTES, limits.LARGE_BYTES - 1):
        running: Any = Running()
        running.size_bytes = size_bytes
        stream.started(running)
    await stream.large.entered(limits.LARGE_BYTES)
    stream.close()
    assert (stream.large.used_bytes, in_flight.used_bytes) == (0, 0)
