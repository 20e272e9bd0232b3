"""GroupService over real planes: any node answers for any group, wherever its coordinator and its partitions are."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ottla.v1 import data_pb2, data_pb2_grpc, group_pb2, group_pb2_grpc, record_pb2
from tests.node.services.planes import Planes

HERE, COORDINATOR, LEADER = 1, 2, 3


@pytest.fixture
async def planes(tmp_path: Path) -> AsyncIterator[Planes]:
    """Three nodes that are one thing each to group `g`: the one asked, its coordinator, the leader of topic `t`."""
    async with Planes(tmp_path) as made:
        made.create_topic("__consumer_offsets", [COORDINATOR], internal=True, cleanup_policy="compact")
        made.create_topic("t", [LEADER])
        yield made


async def produce(planes: Planes, count: int) -> None:
    records = record_pb2.Records(records=[record_pb2.Record(value=b"%d" % value) for value in range(count)])
    part = data_pb2.ProducePartition(topic="t", batch=record_pb2.RecordBatch(records=records))
    async with planes.channel(LEADER) as channel:
        request = data_pb2.ProduceRequest(partitions=[part], timeout_ms=3000)
        (result,) = (await data_pb2_grpc.DataServiceStub(channel).Produce(request, timeout=5)).partitions
    assert not result.HasField("error"), result.error


async def commit(planes: Planes, offset: int) -> None:
    where = data_pb2.TopicPartition(topic="t")
    request = group_pb2.CommitOffsetsRequest(
        group_id="g", offsets=[group_pb2.OffsetCommit(partition=where, offset=offset)]
    )
    async with planes.channel(HERE) as channel:
        answer = await group_pb2_grpc.GroupServiceStub(channel).CommitOffsets(request, timeout=10)
    assert not answer.HasField("error"), answer.error


@pytest.mark.parametrize("via", [HERE, COORDINATOR, LEADER])
async def test_positions_are_reset_through_any_node(planes: Planes, via: int) -> None:
    await produce(planes, 5)
    await commit(planes, 2)
    async with planes.channel(via) as channel:
        stub = group_pb2_grpc.GroupServiceStub(channel)
        request = group_pb2.ResetOffsetsRequest(group_id="g", timestamp_ms=-1, validate_only=True)
        answer = await stub.ResetOffsets(request, timeout=10)
        (moved,) = answer.partitions
        assert (moved.old_offset, moved.new_offset) == (2, 5), answer


@pytest.mark.parametrize("via", [HERE, COORDINATOR, LEADER])
async def test_lag_is_told_through_any_node(planes: Planes, via: int) -> None:
    await produce(planes, 5)
    await commit(planes, 2)
    async with planes.channel(via) as channel:
        stub = group_pb2_grpc.GroupServiceStub(channel)
        answer = await stub.DescribeGroups(group_pb2.DescribeGroupsRequest(group_ids=["g"]), timeout=10)
    (lag,) = answer.groups[0].partitions
    assert (lag.committed_offset, lag.high_watermark, lag.lag_records) == (2, 5, 3)
    assert lag.HasField("lag_ms")
    assert answer.groups[0].coordinator_id == COORDINATOR
