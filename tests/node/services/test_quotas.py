"""Clients of gRPC that have used up their quotas wait, as far as their deadlines allow it; nobody else does."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from node.metadata.apply import quota_record
from ottla.internal.v1 import metadata_pb2 as records
from ottla.protocol.quotas import CLIENT_ID, FETCH, PRODUCE, entity_of
from ottla.v1 import admin_pb2, admin_pb2_grpc, data_pb2, data_pb2_grpc
from tests.node.services.planes import Planes
from tests.node.services.test_data_service import batch

RATE = 20_000
SLOW = entity_of([(CLIENT_ID, "slow")])


@pytest.fixture
async def planes(tmp_path: Path) -> AsyncIterator[Planes]:
    """Node 1 leads t-0, node 2 t-1; the client id `slow` has its quotas at both."""
    async with Planes(tmp_path, 2) as made:
        made.create_topic("t", [1, 2])
        made.change(
            *(records.MetadataRecord(client_quota=quota_record(SLOW, key, float(RATE))) for key in (PRODUCE, FETCH))
        )
        yield made


def request(size: int, client_id: str = "slow", partition: int = 0, **fields: int) -> data_pb2.ProduceRequest:
    part = data_pb2.ProducePartition(topic="t", partition=partition, batch=batch(bytes(size)))
    return data_pb2.ProduceRequest(partitions=[part], client_id=client_id, **fields)


def reading(offset: int = 0, partition: int = 0, client_id: str = "slow") -> data_pb2.FetchRequest:
    wanted = data_pb2.FetchPartition(topic="t", partition=partition, offset=offset)
    return data_pb2.FetchRequest(partitions=[wanted], client_id=client_id, max_wait_ms=10)


async def produce(planes: Planes, asked: data_pb2.ProduceRequest, timeout: float = 10) -> data_pb2.ProduceResponse:
    async with planes.channel(1) as channel:
        return await data_pb2_grpc.DataServiceStub(channel).Produce(asked, timeout=timeout)


async def fetch(planes: Planes, asked: data_pb2.FetchRequest, timeout: float = 10) -> data_pb2.FetchResponse:
    async with planes.channel(1) as channel:
        return await data_pb2_grpc.DataServiceStub(channel).Fetch(asked, timeout=timeout)


@pytest.mark.parametrize("partition", [0, 1])
async def test_an_answer_is_held_back_and_says_for_how_long(planes: Planes, partition: int) -> None:
    """Passed on or not, a request counts once: half a second less the quarter that may be used at once."""
    began_s = time.monotonic()
    answer = await produce(planes, request(RATE // 2, partition=partition))
    assert time.monotonic() - began_s > 0.2
    assert answer.throttle_time_ms == pytest.approx(255, abs=20)
    assert not answer.partitions[0].HasField("error")


async def test_memory_is_free_while_an_answer_is_held_back(planes: Planes) -> None:
    calling = asyncio.create_task(produce(planes, request(9 * RATE)))
    written, used = planes[1].broker.partitions[planes.image.names["t"], 0].log, planes[1]._in_flight
    async with asyncio.timeout(8):
        while not written.log_end_offset or used.used_bytes:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert not calling.done()
    calling.cancel()


async def test_a_deadline_is_kept_and_what_is_owed_stays(planes: Planes) -> None:
    answer = await produce(planes, request(3 * RATE), timeout=0.6)
    assert (answer.throttle_time_ms > 2500, answer.partitions[0].base_offset) == (True, 0)
    # Others notice nothing, and who owes more than ten seconds is refused.
    began_s = time.monotonic()
    assert (await produce(planes, request(3 * RATE, client_id="other"))).throttle_time_ms == 0
    assert time.monotonic() - began_s < 2.5
    await produce(planes, request(10 * RATE), timeout=0.5)
    with pytest.raises(grpc.aio.AioRpcError, match="THROTTLING_QUOTA_EXCEEDED") as refused:
        await produce(planes, request(10), timeout=5)
    assert "ahead of its producer_byte_rate" in (refused.value.details() or "")


async def test_a_reader_waits_first_and_is_told_where_it_cannot(planes: Planes) -> None:
    await produce(planes, request(3 * RATE // 2, client_id="other"))
    assert (await fetch(planes, reading(client_id="other"))).throttle_time_ms == 0
    began_s = time.monotonic()
    first = await fetch(planes, reading())
    assert (len(first.partitions[0].batches), first.throttle_time_ms > 1000) == (1, True)
    # Its deadline is before it has paid: an empty answer, in time.
    told = await fetch(planes, reading(), timeout=0.4)
    assert (list(told.partitions), 0 < told.throttle_time_ms < 1250) == ([], True)
    again = await fetch(planes, reading())
    assert 1.2 < time.monotonic() - began_s < 10
    assert len(again.partitions[0].batches) == 1


async def test_streams_are_not_read_and_not_written_meanwhile(planes: Planes) -> None:
    async with planes.channel(1) as channel:
        stub = data_pb2_grpc.DataServiceStub(channel)
        stream = stub.ProduceStream()
        began_s = time.monotonic()
        for number in range(4):
            await stream.write(request(RATE // 4, request_id=number + 1))
        seen: dict[int, int] = {}
        while len(seen) < 4:
            for each in (await stream.read()).responses:
                seen[each.request_id] = each.throttle_time_ms
        assert 0.4 < time.monotonic() - began_s < 8
        assert max(seen.values()) > 200
        stream.cancel()
        reader = stub.FetchStream()
        began_s = time.monotonic()
        await reader.write(
            data_pb2.FetchStreamRequest(
                add=[data_pb2.FetchPartition(topic="t", partition=0)], credit_bytes=1 << 20, client_id="slow"
            )
        )
        got = 0
        while got < 4:
            got += sum(len(part.batches) for part in (await reader.read()).partitions)
        assert 0.4 < time.monotonic() - began_s < 8
        reader.cancel()


async def test_a_stream_that_waits_ends_with_its_client(planes: Planes) -> None:
    async with planes.channel(1) as channel:
        stream = data_pb2_grpc.DataServiceStub(channel).ProduceStream()
        await stream.write(request(100 * RATE))
        assert (await stream.read()).responses[0].throttle_time_ms > 90_000
        stream.cancel()
    gauge = planes[1].metrics.open_streams.labels(rpc="ProduceStream")
    for _ in range(150):
        if not gauge._value.get():
            return
        await asyncio.sleep(0.02)
    pytest.fail("it waits on")


async def test_without_quotas_there_is_nothing_to_wait_for(planes: Planes) -> None:
    planes.change(*(records.MetadataRecord(client_quota=quota_record(SLOW, key, None)) for key in (PRODUCE, FETCH)))
    assert not planes[1].view.throttle.on
    assert (await produce(planes, request(50 * RATE))).throttle_time_ms == 0


async def test_an_export_counts_as_reading(planes: Planes) -> None:
    await produce(planes, request(RATE // 2, client_id="other"))
    asked = admin_pb2.ExportBatchesRequest(partition=data_pb2.TopicPartition(topic="t"), offset=-2)
    async with planes.channel(1) as channel:
        began_s = time.monotonic()
        called = admin_pb2_grpc.AdminServiceStub(channel).ExportBatches
        answer = await called(asked, timeout=10, metadata=(("ottla-client-id", "slow"),))
    assert (answer.next_offset, time.monotonic() - began_s > 0.2) == (1, True)
