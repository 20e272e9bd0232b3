"""How a reader of many partitions waits, and how many of them all readers may have."""

import asyncio
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import grpc
import pytest

from node import limits
from node.api.throttle import Throttle
from node.services.faults import refusal_in
from node.services.fetch import Found, Terms
from node.services.fetch_stream import _Reader, _Room
from ottla.v1 import data_pb2, data_pb2_grpc
from ottla.v1 import error_pb2 as pb
from tests.node.services.planes import Planes
from tests.node.services.test_data_service import produce, values_of


class Fetcher:
    """Finds nothing, and keeps how long it was to wait for that."""

    def __init__(self) -> None:
        self.waits_ms: list[int] = []
        self.throttle = Throttle()

    def within_budget(self, terms: Terms) -> tuple[Terms, bool]:
        return terms, True

    async def gather(self, wanted: Any, terms: Terms, remaining_s: float | None, turn: int) -> Found:
        self.waits_ms.append(terms.max_wait_ms)
        return Found()


@pytest.mark.parametrize(("rest_s", "waited_ms"), [(None, 500), (2.0, 500), (0.1, 100), (0.0004, 1), (1e-9, 1)])
async def test_what_is_left_of_a_rest_is_waited_for_however_little_it_is(rest_s: float | None, waited_ms: int) -> None:
    """Without a wait at all, the others are asked again and again until it is over."""
    fetcher: Any = Fetcher()
    no: Any = None
    reader = _Reader(fetcher, no, no, _Room())
    reader._terms = Terms(500, 1, 1 << 20, frozenset(), 0, "")
    reader._credit = 1 << 20
    commands = asyncio.create_task(asyncio.sleep(60))
    assert await reader._read_or_changed([data_pb2.FetchPartition(topic="t")], commands, rest_s) is not None
    commands.cancel()
    assert fetcher.waits_ms == [waited_ms]


async def test_where_positions_are_too_many_the_client_with_the_most_loses_its_largest_stream(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """And it alone, though it is another one that asks for more."""
    monkeypatch.setattr(limits, "STREAMS_POSITIONS_MAX", 1000)
    async with Planes(tmp_path) as planes:
        planes.create_topic("t", [1])
        own = [("grpc.use_local_subchannel_pool", 1)]
        address = planes.address(1)
        async with (
            grpc.aio.insecure_channel(address, own) as much,
            grpc.aio.insecure_channel(address, own) as little,
        ):
            first, second, third = (
                data_pb2_grpc.DataServiceStub(channel).FetchStream() for channel in (much, much, little)
            )
            for stream, count in ((first, 300), (second, 500), (third, 150), (third, 100)):
                wanted = [data_pb2.FetchPartition(topic=f"none{stream is third}{count}.{n}") for n in range(count)]
                await stream.write(data_pb2.FetchStreamRequest(add=wanted, credit_bytes=1000))
                assert len((await stream.read()).partitions) == count
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await second.read()
            error = refusal_in(refused.value)
            assert error is not None
            assert error.code == pb.ERROR_CODE_THROTTLING_QUOTA_EXCEEDED
            assert error.retry_after_ms
            assert "those of your connection 800" in error.message
            for stream in (first, third):
                await stream.write(
                    data_pb2.FetchStreamRequest(add=[data_pb2.FetchPartition(topic="t")], credit_bytes=1000)
                )
            await produce(planes, 1, "t", 0, b"x")
            for stream in (first, third):
                assert [values_of(found) for found in (await stream.read()).partitions] == [[b"x"]]


def test_what_a_stream_no_longer_keeps_is_free() -> None:
    refused: list[Any] = []
    reader: Any = Mock(client="a", refused=None, refuse=refused.append)
    room = _Room()
    for _ in range(3):
        room.keep(reader, limits.STREAMS_POSITIONS_MAX)
        room.keep(reader, 0)
    assert not refused
    room.keep(reader, limits.STREAMS_POSITIONS_MAX + 1)
    assert len(refused) == 1
    reader.refused = refused[0]
    room.keep(reader, limits.STREAMS_POSITIONS_MAX + 1)
    assert len(refused) == 1
