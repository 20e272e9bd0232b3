"""Positions of groups for clients of Kafka: the same that gRPC's groups have."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from node import limits
from node.kafka.codec import write_body
from node.kafka.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from node.kafka.messages.offset_delete import (
    OffsetDeleteRequest,
    OffsetDeleteRequestPartition,
    OffsetDeleteRequestTopic,
)
from node.kafka.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopic,
    OffsetFetchRequestTopics,
)
from node.kafka.wire import NO_ID
from ottla.v1 import data_pb2, group_pb2, group_pb2_grpc
from ottla.v1 import error_pb2 as pb
from tests.node.kafka.test_handlers import World
from tests.node.services.planes import Planes

OFFSET_COMMIT, OFFSET_FETCH, OFFSET_DELETE = 8, 9, 47
NOTHING = (-1, -1, "")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with Planes(tmp_path, 1, kafka=True) as planes:
        planes.create_topic("__consumer_offsets", [1], internal=True, cleanup_policy="compact")
        planes.create_topic("t", [1, 1, 1])
        yield World(planes)


def part(number: int, offset: int, epoch: int = -1, metadata: str | None = "") -> OffsetCommitRequestPartition:
    return OffsetCommitRequestPartition(number, offset, epoch, -1, metadata)


async def commit(
    world: World, *parts: OffsetCommitRequestPartition, topic: str = "t", version: int = 8, **fields: Any
) -> list[tuple[int, int]]:
    request = OffsetCommitRequest(
        **{"group_id": "g", **fields}, topics=[OffsetCommitRequestTopic(name=topic, partitions=parts)]
    )
    answer = await until_there(world, OFFSET_COMMIT, version, request)
    [told] = answer.topics
    assert told.name == topic
    return [(each.partition_index, each.error_code) for each in told.partitions]


async def until_there(world: World, key: int, version: int, request: Any) -> Any:
    """The answer of a coordinator that has read its log: clients ask again, too."""
    while True:
        answer = await world.ask(key, version, request)
        if 14 not in (answer.error_code if hasattr(answer, "error_code") else 0, *codes(answer)):
            return answer


def codes(answer: Any) -> list[int]:
    return [part.error_code for topic in answer.topics for part in topic.partitions]


async def fetched(world: World, *numbers: int, topic: str = "t", version: int = 7, group_id: str = "g") -> list[Any]:
    """(offset, epoch, metadata) of each."""
    names = OffsetFetchRequestTopic(name=topic, partition_indexes=numbers)
    answer = await until_there(world, OFFSET_FETCH, version, OffsetFetchRequest(group_id=group_id, topics=[names]))
    assert answer.error_code == 0
    [told] = answer.topics
    assert [each.partition_index for each in told.partitions] == list(numbers)
    return [(each.committed_offset, each.committed_leader_epoch, each.metadata) for each in told.partitions]


async def grpc_stub(world: World, call: str, request: Any) -> Any:
    async with world.planes.channel(1) as channel:
        return await getattr(group_pb2_grpc.GroupServiceStub(channel), call)(request, timeout=10)


@pytest.mark.parametrize("version", range(1, 10))
async def test_what_one_door_commits_the_other_sees(world: World, version: int) -> None:
    epoch = 4 if version >= 6 else -1
    assert await commit(world, part(0, 5, epoch, "é"), part(2, 0, metadata=None), version=version) == [(0, 0), (2, 0)]
    seen = await grpc_stub(world, "FetchOffsets", group_pb2.FetchOffsetsRequest(group_id="g"))
    stored = {each.partition.partition: (each.offset, each.leader_epoch, each.metadata) for each in seen.offsets}
    assert stored == {0: (5, max(epoch, 0), "é"), 2: (0, 0, "")}
    where = data_pb2.TopicPartition(topic="t", partition=1)
    item = group_pb2.OffsetCommit(partition=where, offset=9, leader_epoch=3, metadata="by gRPC")
    await grpc_stub(world, "CommitOffsets", group_pb2.CommitOffsetsRequest(group_id="g", offsets=[item]))
    if version < 8:
        assert await fetched(world, 0, 1, 2, version=version) == [(5, epoch, "é"), (9, 3, "by gRPC"), (0, -1, "")]
        assert await fetched(world, 0, group_id="other", version=version) == [NOTHING]


async def test_nothing_committed_is_no_error(world: World) -> None:
    for version in (1, 2, 7):
        assert await fetched(world, 0, 99, -1, version=version) == [NOTHING] * 3
        assert await fetched(world, 0, topic="missing", version=version) == [NOTHING]
    answer = await world.ask(OFFSET_FETCH, 7, OffsetFetchRequest(group_id="g", topics=None))
    assert (answer.error_code, answer.topics) == (0, [])


async def test_topics_are_named_by_their_ids(world: World) -> None:
    known, unknown = b"t".ljust(16, b"_"), b"?" * 16
    inside = b"__consumer_offsets"[:16]
    parts = [part(0, 5, 4, "é"), part(9, 1)]
    topics = [OffsetCommitRequestTopic(topic_id=each, partitions=parts) for each in (known, unknown, NO_ID, inside)]
    answer = await until_there(world, OFFSET_COMMIT, 10, OffsetCommitRequest(group_id="g", topics=topics))
    told = [(each.topic_id, [p.error_code for p in each.partitions]) for each in answer.topics]
    assert told == [(known, [0, 3]), (unknown, [100, 100]), (NO_ID, [100, 100]), (inside, [3, 3])]
    assert await fetched(world, 0) == [(5, 4, "é")]
    asked = [
        OffsetFetchRequestTopics(topic_id=each, partition_indexes=[0, 9]) for each in (known, unknown, NO_ID, inside)
    ]
    groups = [OffsetFetchRequestGroup(group_id="g", topics=asked), OffsetFetchRequestGroup(group_id="g", topics=None)]
    answer = await world.ask(OFFSET_FETCH, 10, OffsetFetchRequest(groups=groups))
    assert write_body(OFFSET_FETCH, 10, answer)
    some, everything = (
        [
            (t.topic_id, [(p.partition_index, p.committed_offset, p.error_code) for p in t.partitions])
            for t in each.topics
        ]
        for each in answer.groups
    )
    none = [(0, -1, 100), (9, -1, 100)]
    assert some == [
        (known, [(0, 5, 0), (9, -1, 0)]), (unknown, none), (NO_ID, none), (inside, [(0, -1, 0), (9, -1, 0)]),
    ]  # fmt: skip
    assert everything == [(known, [(0, 5, 0)])]


@pytest.mark.parametrize("version", [8, 9])
async def test_several_groups_are_asked_for_at_once(world: World, version: int) -> None:
    await commit(world, part(0, 5), part(1, 6))
    await commit(world, part(1, 7), group_id="h")
    some = [OffsetFetchRequestTopics(name="t", partition_indexes=[1, 2])]
    groups = [
        OffsetFetchRequestGroup(group_id=group_id, topics=topics)
        for group_id, topics in (("g", None), ("h", some), ("none", some), ("", None))
    ]
    answer = await world.ask(OFFSET_FETCH, version, OffsetFetchRequest(groups=groups))
    told = {
        each.group_id: [(p.partition_index, p.committed_offset) for topic in each.topics for p in topic.partitions]
        for each in answer.groups
    }
    assert told == {"g": [(0, 5), (1, 6)], "h": [(1, 7), (2, -1)], "none": [(1, -1), (2, -1)], "": []}
    assert [each.error_code for each in answer.groups] == [0, 0, 0, 24]


async def test_a_bad_position_fails_no_other(world: World) -> None:
    parts = [part(0, 1), part(9, 1), part(1, -1), part(2, 1, metadata="m" * 4097), part(2, 1, metadata="m" * 4096)]
    assert await commit(world, *parts) == [(0, 0), (9, 3), (1, 42), (2, 12), (2, 0)]
    assert await commit(world, part(0, 1), topic="missing") == [(0, 3)]
    assert await commit(world, part(0, 1), topic="__consumer_offsets") == [(0, 3)]
    assert await commit(world, part(0, 1), group_id="") == [(0, 24)]
    assert await fetched(world, 0, 1, 2) == [(1, -1, ""), NOTHING, (1, -1, "m" * 4096)]


async def test_many_positions_go_in_parts(world: World) -> None:
    parts = [part(0, number) for number in range(1201)]
    assert {code for _, code in await commit(world, *parts)} == {0}
    assert await fetched(world, 0) == [(1200, -1, "")]
    assert len(await fetched(world, *[0] * 1201)) == 1201


async def test_another_coordinator_is_to_be_asked(tmp_path: Path) -> None:
    async with Planes(tmp_path, 2, kafka=True) as planes:
        planes.create_topic("t", [1])
        world = World(planes)
        assert await commit(world, part(0, 1)) == [(0, 15)]
        planes.create_topic("__consumer_offsets", [2], internal=True, cleanup_policy="compact")
        assert await commit(world, part(0, 1)) == [(0, 16)]
        names = [OffsetFetchRequestTopic(name="t", partition_indexes=[0])]
        for version, told in ((1, [(0, -1, 16)]), (7, [])):
            answer = await world.ask(OFFSET_FETCH, version, OffsetFetchRequest(group_id="g", topics=names))
            found = [(p.partition_index, p.committed_offset, p.error_code) for t in answer.topics for p in t.partitions]
            assert (answer.error_code, found) == (16, told)


async def test_positions_are_deleted_but_not_under_members(world: World) -> None:
    async def delete(*numbers: int, group_id: str = "g", topic: str = "t") -> Any:
        parts = [OffsetDeleteRequestPartition(number) for number in numbers]
        request = OffsetDeleteRequest(
            group_id=group_id, topics=[OffsetDeleteRequestTopic(name=topic, partitions=parts)]
        )
        answer = await until_there(world, OFFSET_DELETE, 0, request)
        return answer.error_code or codes(answer)

    assert await delete(0) == 69
    assert await delete(0, group_id="") == 24
    await commit(world, part(0, 5), part(1, 6))
    assert await delete(0, 2, 9) == [0, 0, 3]
    assert await fetched(world, 0, 1) == [NOTHING, (6, -1, "")]
    async with world.planes.channel(1) as channel:
        session = group_pb2_grpc.GroupServiceStub(channel).Session()
        await session.write(group_pb2.SessionRequest(join=group_pb2.Join(group_id="g", topics=["t"])))
        await session.read()
        assert await delete(1) == [86]
        assert await commit(world, part(1, 7)) == [(1, 25)]
        await session.write(group_pb2.SessionRequest(leave=group_pb2.Leave()))
        await session.done_writing()
        await session.read()
    assert await delete(1) == [0]
    assert await fetched(world, 1) == [NOTHING]
    group = await grpc_stub(world, "DescribeGroups", group_pb2.DescribeGroupsRequest(group_ids=["g"]))
    assert group.groups[0].error.code == 0


async def test_a_group_without_its_last_position_is_no_more(world: World) -> None:
    await commit(world, part(0, 5))
    parts = [OffsetDeleteRequestPartition(0)]
    request = OffsetDeleteRequest(group_id="g", topics=[OffsetDeleteRequestTopic(name="t", partitions=parts)])
    assert codes(await world.ask(OFFSET_DELETE, 0, request)) == [0]
    assert (await world.ask(OFFSET_DELETE, 0, request)).error_code == 69


async def test_positions_of_many_groups_are_bounded_together_and_need_room(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await commit(world, part(0, 5))
    one = OffsetFetchRequestGroup("g", topics=[OffsetFetchRequestTopics("t", partition_indexes=[0])])

    async def asked() -> list[int]:
        answer = await world.ask(OFFSET_FETCH, 9, OffsetFetchRequest(groups=[one] * 3))
        return [group.error_code for group in answer.groups]

    assert await asked() == [0, 0, 0]
    in_flight = world.plane._in_flight
    in_flight.take(2 * in_flight.limit_bytes)
    assert await asked() == [14, 14, 14], "clients ask again"
    in_flight.give(2 * in_flight.limit_bytes)
    monkeypatch.setattr(limits, "GROUP_ANSWER_MAX_BYTES", 100)
    assert await asked() == [0, 0, 42]
    assert in_flight.used_bytes == 0


async def test_grpc_refuses_positions_without_room(world: World) -> None:
    await commit(world, part(0, 5))
    in_flight = world.plane._in_flight
    ask = group_pb2.FetchOffsetsRequest(group_id="g")
    in_flight.take(2 * in_flight.limit_bytes)
    assert (await grpc_stub(world, "FetchOffsets", ask)).error.code == pb.ERROR_CODE_THROTTLING_QUOTA_EXCEEDED
    in_flight.give(2 * in_flight.limit_bytes)
    assert len((await grpc_stub(world, "FetchOffsets", ask)).offsets) == 1
    assert in_flight.used_bytes == 0
