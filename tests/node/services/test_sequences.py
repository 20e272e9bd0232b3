"""Sequence numbers through the door (invariants.md 3, 2.5): the right refusal, and nothing in the log."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ottla.v1 import data_pb2, data_pb2_grpc, record_pb2
from ottla.v1 import error_pb2 as pb
from tests.node.services.planes import Planes

EPOCH = 3
LAST = 2**31 - 1


@pytest.fixture
async def planes(tmp_path: Path) -> AsyncIterator[Planes]:
    async with Planes(tmp_path) as made:
        made.create_topic("t", [1, 2])
        yield made


def part(
    sequence: int, count: int = 1, *, epoch: int = EPOCH, producer_id: int = 7, partition: int = 0
) -> data_pb2.ProducePartition:
    records = record_pb2.Records(records=[record_pb2.Record(value=b"%d" % i) for i in range(count)])
    batch = record_pb2.RecordBatch(
        records=records, producer_id=producer_id, producer_epoch=epoch, base_sequence=sequence
    )
    return data_pb2.ProducePartition(topic="t", partition=partition, batch=batch)


async def send(planes: Planes, via: int, *parts: data_pb2.ProducePartition) -> list[data_pb2.ProduceResult]:
    async with planes.channel(via) as channel:
        request = data_pb2.ProduceRequest(partitions=parts, timeout_ms=3000)
        return list((await data_pb2_grpc.DataServiceStub(channel).Produce(request, timeout=10)).partitions)


async def end(planes: Planes, number: int = 0) -> int:
    async with planes.channel(3) as channel:
        question = data_pb2.ListOffsetsPartition(topic="t", partition=number, timestamp_ms=-1)
        request = data_pb2.ListOffsetsRequest(partitions=[question], timeout_ms=3000)
        return (await data_pb2_grpc.DataServiceStub(channel).ListOffsets(request, timeout=10)).partitions[0].offset


BAD = {
    "a gap": (part(9), pb.ERROR_CODE_OUT_OF_ORDER_SEQUENCE_NUMBER),
    "an overlap": (part(4, 3), pb.ERROR_CODE_OUT_OF_ORDER_SEQUENCE_NUMBER),
    "an older epoch": (part(6, epoch=EPOCH - 1), pb.ERROR_CODE_INVALID_PRODUCER_EPOCH),
    "a newer epoch that does not start at 0": (part(6, epoch=EPOCH + 1), pb.ERROR_CODE_OUT_OF_ORDER_SEQUENCE_NUMBER),
    "an unknown producer that does not start at 0": (
        part(1, producer_id=8),
        pb.ERROR_CODE_OUT_OF_ORDER_SEQUENCE_NUMBER,
    ),
    "the largest sequence": (part(LAST), pb.ERROR_CODE_OUT_OF_ORDER_SEQUENCE_NUMBER),
    "a negative sequence": (part(-1), pb.ERROR_CODE_INVALID_RECORD),
    "a negative epoch": (part(6, epoch=-1), pb.ERROR_CODE_INVALID_RECORD),
    "a negative producer": (part(6, producer_id=-7), pb.ERROR_CODE_INVALID_RECORD),
}


@pytest.mark.parametrize("via", [1, 3], ids=["at the leader", "forwarded"])
async def test_a_bad_sequence_is_refused_alone_and_appends_nothing(planes: Planes, via: int) -> None:
    assert [r.base_offset for r in await send(planes, via, part(0, 3), part(0, partition=1))] == [0, 0]
    assert [r.base_offset for r in await send(planes, via, part(3, 3))] == [3]
    for place, (what, (bad, code)) in enumerate(BAD.items(), start=1):
        refused, other = await send(planes, via, bad, part(place, partition=1))
        assert refused.error.code == code, f"{what}: {refused.error}"
        assert not other.HasField("error"), what
        assert await end(planes) == 6, what
    (again,) = await send(planes, via, part(6))
    assert again.base_offset == 6, "the refusals left no trace"
    assert await end(planes, 1) == 1 + len(BAD)


async def test_66_nothing_follows_a_batch_that_was_not_stored(planes: Planes) -> None:
    """Redpanda 16706: batch n failed, n + 1 went on. The one after a refused batch is out of order."""
    await send(planes, 1, part(0))
    (refused,) = await send(planes, 1, part(1, epoch=EPOCH - 1))
    assert refused.HasField("error")
    (later,) = await send(planes, 1, part(2))
    assert later.error.code == pb.ERROR_CODE_OUT_OF_ORDER_SEQUENCE_NUMBER
    assert await end(planes) == 1


async def test_67_a_former_leader_says_that_it_is_none_and_nothing_fatal(planes: Planes) -> None:
    """Redpanda 12759: it judged a sequence by its stale state, and the producer gave up."""
    await send(planes, 1, part(0))
    planes.lead(planes.image.names["t"], 0, 2, only=(1, 2))
    async with planes.channel(1, "replication") as channel:
        request = data_pb2.ProduceRequest(partitions=[part(9)], timeout_ms=3000)
        (answer,) = (await data_pb2_grpc.DataServiceStub(channel).Produce(request, timeout=10)).partitions
    assert answer.error.code == pb.ERROR_CODE_NOT_LEADER_OR_FOLLOWER
    assert answer.error.retriable


@pytest.mark.parametrize("back", range(5))
async def test_65_any_of_the_last_five_is_known_to_the_next_leader_too(planes: Planes, back: int) -> None:
    for sequence in range(7):
        await send(planes, 1, part(sequence))
    planes.lead(planes.image.names["t"], 0, 2)
    (again,) = await send(planes, 3, part(6 - back))
    assert not again.HasField("error"), again.error
    assert again.base_offset == 6 - back
    assert await end(planes) == 7
