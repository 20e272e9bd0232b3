"""What the contract spares a client that is nothing but a generated stub."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ottla.v1 import data_pb2, data_pb2_grpc
from ottla.v1 import error_pb2 as pb
from tests.node.services.planes import Planes
from tests.node.services.test_data_service import fetch, produce, values_of

LATEST, EARLIEST = -1, -2
STUB_TAKES_BYTES = 4 * 2**20
"""What gRPC lets into a client that was not told otherwise."""


@pytest.fixture
async def planes(tmp_path: Path) -> AsyncIterator[Planes]:
    async with Planes(tmp_path) as made:
        yield made


async def fetch_at(planes: Planes, via: int, offset: int) -> data_pb2.FetchResult:
    async with planes.channel(via) as channel:
        request = data_pb2.FetchRequest(
            partitions=[data_pb2.FetchPartition(topic="t", offset=offset)], max_wait_ms=20_000
        )
        return (await data_pb2_grpc.DataServiceStub(channel).Fetch(request, timeout=10)).partitions[0]


@pytest.mark.parametrize("via", [1, 2])
async def test_positions_by_name(planes: Planes, via: int) -> None:
    """A reader without a position needs no ListOffsets; it is told at once where to go on, new or not."""
    planes.create_topic("t", [1])
    empty = await fetch_at(planes, via, LATEST)
    assert (empty.next_offset, values_of(empty), empty.HasField("error")) == (0, [], False)
    for number in range(4):
        assert not (await produce(planes, 1, "t", 0, b"%d" % number)).HasField("error")
    latest = await fetch_at(planes, via, LATEST)
    assert (latest.next_offset, values_of(latest)) == (4, [])
    await planes[1].broker.delete_records(planes.image.names["t"], 0, 2)
    earliest = await fetch_at(planes, via, EARLIEST)
    assert (earliest.next_offset, values_of(earliest)) == (4, [b"2", b"3"])
    nowhere = await fetch_at(planes, via, -3)
    assert nowhere.error.code == pb.ERROR_CODE_OFFSET_OUT_OF_RANGE


@pytest.mark.parametrize("via", [1, 2])
async def test_a_stream_from_a_position_by_name(planes: Planes, via: int) -> None:
    planes.create_topic("t", [1])
    await produce(planes, 1, "t", 0, b"before")
    async with planes.channel(via) as channel:
        stream = data_pb2_grpc.DataServiceStub(channel).FetchStream(timeout=20)
        position = data_pb2.FetchPartition(topic="t", offset=LATEST)
        await stream.write(data_pb2.FetchStreamRequest(add=[position], credit_bytes=1 << 20))
        first = await stream.read()
        assert isinstance(first, data_pb2.FetchResponse)
        assert (first.partitions[0].next_offset, values_of(first.partitions[0])) == (1, [])
        await produce(planes, 1, "t", 0, b"after")
        second = await stream.read()
        assert isinstance(second, data_pb2.FetchResponse)
        assert values_of(second.partitions[0]) == [b"after"]
        await stream.done_writing()


async def test_send_refuses_record_by_record(planes: Planes) -> None:
    """What a topic's name is wrong about is the records' error, not the call's: one way to tell a retry, everywhere."""
    async with planes.channel(1) as channel:
        stub = data_pb2_grpc.DataServiceStub(channel)
        records = [data_pb2.SendRecord(value=b"a"), data_pb2.SendRecord(value=b"b")]
        results = (await stub.Send(data_pb2.SendRequest(topic="nowhere", records=records), timeout=5)).results
        assert [(each.partition, each.offset, each.error.code) for each in results] == [
            (-1, -1, pb.ERROR_CODE_UNKNOWN_TOPIC_OR_PARTITION)
        ] * 2
        assert results[0].error.retriable
        nobody = await stub.Send(data_pb2.SendRequest(topic="nowhere", acks=0, records=records), timeout=5)
        assert not nobody.results
        planes.create_topic("t", [1])
        bad = await stub.Send(data_pb2.SendRequest(topic="t", acks=7, records=records), timeout=5)
        assert [each.error.code for each in bad.results] == [pb.ERROR_CODE_INVALID_REQUIRED_ACKS] * 2
        times = [data_pb2.SendRecord(value=b"x", timestamp_ms=at) for at in (-(2**63), 2**40, 2**63 - 1)]
        late = await stub.Send(data_pb2.SendRequest(topic="t", records=times), timeout=5)
        assert [each.error.code for each in late.results] == [pb.ERROR_CODE_INVALID_TIMESTAMP] * 3
        now = await stub.Send(data_pb2.SendRequest(topic="t", records=[times[0], records[0]]), timeout=5)
        assert [each.error.code for each in now.results] == [pb.ERROR_CODE_INVALID_TIMESTAMP, 0]


async def test_an_answer_fits_a_stub_that_was_told_nothing(planes: Planes) -> None:
    planes.create_topic("t", [1, 1, 2, 2, 3, 3])
    for number in range(6):
        for _ in range(2):
            assert not (await produce(planes, 1, "t", number, b"x" * 900_000)).HasField("error")
    for via in (1, 2, 3):
        answer = await fetch(planes, via, "t", *range(6))
        assert 0 < answer.ByteSize() < STUB_TAKES_BYTES
