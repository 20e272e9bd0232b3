"""Batches that are small on the way and large afterwards: order kept, the loop left to others, every reader goes on."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from node.broker import codecs
from ottla.v1 import data_pb2, data_pb2_grpc
from ottla.v1 import error_pb2 as pb
from ottla.v1.record_pb2 import Codec, Record, RecordBatch, Records
from tests.node.loop_watch import LoopWatch
from tests.node.services.planes import Planes


@pytest.fixture
async def planes(tmp_path: Path) -> AsyncIterator[Planes]:
    async with Planes(tmp_path) as made:
        yield made


def packed(plain: bytes) -> RecordBatch:
    return RecordBatch(attributes=Codec.CODEC_ZSTD, compressed_records=bytes(codecs.compress(Codec.CODEC_ZSTD, plain)))


def records(*values: bytes) -> Records:
    return Records(records=[Record(value=value) for value in values])


def part(batch: RecordBatch) -> data_pb2.ProducePartition:
    return data_pb2.ProducePartition(topic="t", partition=0, batch=batch)


@pytest.mark.parametrize("via", [1, 2])
async def test_small_batches_do_not_overtake_heavy_ones(planes: Planes, via: int) -> None:
    planes.create_topic("t", [1])
    heavy = packed(records(bytes(4_000_000)).SerializeToString())
    light = RecordBatch(records=records(b"x"))
    async with planes.channel(via) as channel:
        call = data_pb2_grpc.DataServiceStub(channel).ProduceStream()
        for number in range(5):
            await call.write(data_pb2.ProduceRequest(request_id=2 * number, partitions=[part(heavy), part(light)]))
            await call.write(data_pb2.ProduceRequest(request_id=2 * number + 1, partitions=[part(light)]))
        offsets: dict[int, list[int]] = {}
        while len(offsets) < 10:
            message = await call.read()
            assert isinstance(message, data_pb2.ProduceStreamResponse)
            for response in message.responses:
                offsets[response.request_id] = [result.base_offset for result in response.partitions]
        call.cancel()
    assert [offset for number in range(10) for offset in offsets[number]] == list(range(15))


async def test_the_loop_turns_while_a_batch_unfolds(planes: Planes) -> None:
    planes.create_topic("t", [1])
    heavy = packed(b"\x0a\x00" * (1 << 19))
    async with LoopWatch() as watch, planes.channel(1) as channel:
        stub = data_pb2_grpc.DataServiceStub(channel)
        answer = await stub.Produce(data_pb2.ProduceRequest(partitions=[part(heavy)] * 4), timeout=20)
        too_many = packed(b"\x0a\x00" * ((1 << 19) + 1))
        refused = await stub.Produce(data_pb2.ProduceRequest(partitions=[part(too_many)]), timeout=20)
    assert [result.base_offset for result in answer.partitions] == [number << 19 for number in range(4)]
    assert refused.partitions[0].error.code == pb.ERROR_CODE_MESSAGE_TOO_LARGE
    assert watch.longest_s < 0.2


@pytest.mark.parametrize("via", [1, 2])
async def test_a_reader_without_codec_gets_past_every_batch(planes: Planes, via: int) -> None:
    planes.create_topic("t", [1])
    values = [bytes([number]) * 1_000_000 for number in range(6)]
    async with planes.channel(via) as channel:
        stub = data_pb2_grpc.DataServiceStub(channel)
        many, one = packed(records(*values).SerializeToString()), packed(records(bytes(6_000_000)).SerializeToString())
        sent = [part(many), part(one), part(RecordBatch(records=records(b"end")))]
        await stub.Produce(data_pb2.ProduceRequest(partitions=sent), timeout=20)
        offset, found = 0, []
        while offset < 6:
            wanted = data_pb2.FetchPartition(topic="t", partition=0, offset=offset)
            [result] = (await stub.Fetch(data_pb2.FetchRequest(partitions=[wanted]), timeout=20)).partitions
            assert not result.HasField("error"), result.error
            for batch in result.batches:
                for place, record in enumerate(batch.records.records):
                    found.append((batch.base_offset + place, record.value))
            assert result.next_offset > offset
            offset = result.next_offset
        assert found == list(enumerate(values))
        wanted = data_pb2.FetchPartition(topic="t", partition=0, offset=6)
        [result] = (await stub.Fetch(data_pb2.FetchRequest(partitions=[wanted]), timeout=20)).partitions
        assert result.error.code == pb.ERROR_CODE_UNSUPPORTED_COMPRESSION_TYPE
        assert "offset 6" in result.error.message
        wanted.offset = 7
        [result] = (await stub.Fetch(data_pb2.FetchRequest(partitions=[wanted]), timeout=20)).partitions
        assert [record.value for batch in result.batches for record in batch.records.records] == [b"end"]
        question = data_pb2.ListOffsetsPartition(topic="t", partition=0, timestamp_ms=-3)
        answer = await stub.ListOffsets(data_pb2.ListOffsetsRequest(partitions=[question]), timeout=20)
        assert answer.partitions[0].offset in (0, 6, 7)
