"""ConsumerGroupHeartbeat and what goes with it, over the coordinator's real log."""

import asyncio
from typing import Any

import pytest

from node import limits
from node.kafka.messages.consumer_group_describe import ConsumerGroupDescribeRequest
from node.kafka.messages.consumer_group_heartbeat import ConsumerGroupHeartbeatRequest, TopicPartitions
from node.kafka.messages.offset_fetch import OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics
from ottla.v1 import group_pb2, group_pb2_grpc
from tests.node.kafka.test_groups import listed
from tests.node.kafka.test_handlers import World
from tests.node.kafka.test_members import stable
from tests.node.kafka.test_members import world as world_of_members
from tests.node.kafka.test_positions import OFFSET_FETCH, commit, part

HEARTBEAT, DESCRIBE = 68, 69
LOADS = 14
world = world_of_members
JOINS: dict[str, Any] = {
    "group_id": "g",
    "member_id": "one",
    "member_epoch": 0,
    "rebalance_timeout_ms": 60_000,
    "subscribed_topic_names": ["t"],
    "topic_partitions": [],
}


async def beat(world: World, version: int = 1, **fields: Any) -> Any:
    return await world.ask(HEARTBEAT, version, ConsumerGroupHeartbeatRequest(**fields))


async def join(world: World, member_id: str = "one", *, version: int = 1, **fields: Any) -> Any:
    return await beat(world, version, **{**JOINS, "member_id": member_id, **fields})


async def on(world: World, member_id: str, epoch: int, **fields: Any) -> Any:
    return await beat(world, **{"group_id": "g", "member_id": member_id, "member_epoch": epoch, **fields})


def assigned(answer: Any) -> list[int] | None:
    """Numbers of topic t's partitions; None where the answer says nothing of them."""
    if answer.assignment is None:
        return None
    return [number for topic in answer.assignment.topic_partitions for number in topic.partitions]


async def test_who_joins_hears_its_epoch_its_partitions_and_when_to_ask_again(world: World) -> None:
    topic_id = world.planes.image.names["t"]
    told = await join(world)
    assert (told.error_code, told.error_message, told.throttle_time_ms) == (0, None, 0)
    assert (told.member_id, told.member_epoch, told.heartbeat_interval_ms) == ("one", 1, 1_000)
    assert [(each.topic_id, each.partitions) for each in told.assignment.topic_partitions] == [(topic_id, [0, 1])]
    later = await on(world, "one", 1)
    assert (later.error_code, later.member_epoch, later.assignment) == (0, 1, None)
    whole = await on(
        world,
        "one",
        1,
        rebalance_timeout_ms=1_000,
        subscribed_topic_regex="",
        topic_partitions=[TopicPartitions(topic_id, [0, 1])],
    )
    assert assigned(whole) == [0, 1], "who says everything asks for everything"


async def test_in_version_0_the_server_chooses_the_member_id(world: World) -> None:
    one, two = await join(world, "", version=0), await join(world, "", version=0)
    assert one.member_id != two.member_id
    assert (one.error_code, two.error_code, (await on(world, one.member_id, 1)).error_code) == (0, 0, 0)
    assert (await join(world, "", version=1)).error_code == 42


async def test_members_share_by_epochs_and_leave(world: World) -> None:
    topic_id = world.planes.image.names["t"]
    await join(world)
    await asyncio.sleep(0.12)  # a target of its own
    two = await join(world, "two")
    assert (two.member_epoch, assigned(two)) == (2, [])
    [kept] = assigned(await on(world, "one", 1)) or [None]
    assert assigned(await on(world, "two", 2)) is None
    one = await on(world, "one", 1, topic_partitions=[TopicPartitions(topic_id, [kept or 0])])
    assert one.member_epoch == 2
    assert assigned(await on(world, "two", 2)) == [1 - (kept or 0)]
    assert await listed(world) == [("g", "consumer", "Stable", "consumer")]
    left = await on(world, "one", -1)
    assert (left.error_code, left.member_id, left.member_epoch, left.heartbeat_interval_ms) == (0, "one", -1, 0)
    await asyncio.sleep(0.12)
    assert assigned(await on(world, "two", 2)) == [0, 1]
    await on(world, "two", -1)
    assert await listed(world) == [("g", "consumer", "Empty", "consumer")]


async def test_members_of_both_doors_share_a_group(world: World) -> None:
    async with world.planes.channel(1) as channel:
        session = group_pb2_grpc.GroupServiceStub(channel).Session()
        await session.write(group_pb2.SessionRequest(join=group_pb2.Join(group_id="g", topics=["t"])))
        first = (await asyncio.wait_for(session.read(), 10)).assignment
        assert len(first.partitions) == 2
        await asyncio.sleep(0.12)
        assert assigned(await join(world)) == []
        news = (await asyncio.wait_for(session.read(), 10)).assignment
        owned = [each.partition for each in news.partitions]
        assert len(owned) == 1
        await session.write(
            group_pb2.SessionRequest(owned=group_pb2.Owned(assignment_id=news.assignment_id, partitions=owned))
        )
        async with asyncio.timeout(10):
            while (mine := assigned(await on(world, "one", 2))) is None:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert mine == [1 - owned[0].partition]
        assert await listed(world) == [("g", "consumer", "Stable", "consumer")]


async def test_a_group_of_classic_members_takes_no_other_and_the_other_way_round(world: World) -> None:
    ids, _ = await stable(world)
    told = await join(world)
    assert told.error_code == 23
    assert "classic" in told.error_message
    assert (await on(world, ids[0], 1)).error_code == 23


async def test_a_new_coordinator_goes_on_with_its_members(world: World) -> None:
    await join(world)
    world.planes.lead(world.planes.image.names["__consumer_offsets"], 0, 1)
    while (told := await on(world, "one", 1)).error_code == LOADS:  # noqa: ASYNC110
        await asyncio.sleep(0.005)
    assert (told.error_code, told.member_epoch, assigned(told)) == (0, 1, [0, 1])


BAD: list[tuple[dict[str, Any], int, str]] = [
    ({"group_id": ""}, 42, "group id"),
    ({"group_id": "g" * 256}, 24, "256 characters"),
    ({"member_id": ""}, 42, "member id"),
    ({"member_id": "m" * 256}, 42, "member_id"),
    ({"instance_id": ""}, 42, "instance id"),
    ({"rack_id": ""}, 42, "rack id"),
    ({"rebalance_timeout_ms": -1}, 42, "rebalance time-out"),
    ({"rebalance_timeout_ms": -(2**31)}, 42, "negative"),
    ({"topic_partitions": None}, 42, "owns no partitions"),
    ({"topic_partitions": [TopicPartitions(b"x" * 16, [0])]}, 42, "owns no partitions"),
    ({"subscribed_topic_names": None}, 42, "subscribe"),
    ({"subscribed_topic_names": [f"t{n}" for n in range(1001)]}, 42, "1001 topics"),
    ({"subscribed_topic_names": ["a b"]}, 17, "a b"),
    ({"subscribed_topic_regex": "["}, 128, "compile"),
    ({"server_assignor": "sticky"}, 112, "uniform"),
    ({"member_epoch": 5}, 25, "no member"),
    ({"member_epoch": -1}, 25, "no member"),
    ({"member_epoch": -2}, 42, "instance id"),
    ({"member_epoch": -2, "instance_id": "i"}, 25, "no member"),
    ({"member_epoch": -3}, 42, "-3"),
]


@pytest.mark.parametrize(("fields", "code", "why"), BAD, ids=lambda value: str(value)[:40])
async def test_what_is_wrong_is_said(world: World, fields: dict[str, Any], code: int, why: str) -> None:
    told = await join(world, **fields)
    assert (told.error_code, told.assignment, told.member_epoch) == (code, None, 0)
    assert why in told.error_message
    assert await listed(world) == []


async def test_fences_are_told_by_their_codes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await join(world, "static", instance_id="i")
    assert (await join(world, "second", instance_id="i")).error_code == 111
    assert (await on(world, "second", 1, instance_id="i")).error_code == 82
    assert (await on(world, "static", 9)).error_code == 110
    assert (await on(world, "static", -2, instance_id="i")).member_epoch == -2
    again = await join(world, "second", instance_id="i")
    assert (again.error_code, assigned(again)) == (0, [0, 1])
    monkeypatch.setattr("node.limits.GROUP_MEMBERS_MAX", 1)
    full = await join(world, "third")
    assert (full.error_code, "1 are allowed" in full.error_message) == (81, True)


async def test_positions_are_committed_and_read_by_member_epoch(world: World) -> None:
    await join(world)

    async def of(epoch: int, member_id: str = "one", version: int = 9) -> int:
        fields = {"member_id": member_id, "generation_id_or_member_epoch": epoch}
        [(_, code)] = await commit(world, part(0, 5), version=version, **fields)
        return code

    assert [await of(1), await of(0), await of(2), await of(-1), await of(1, "two")] == [0, 113, 113, 113, 25]
    assert [await of(1, version=8), await of(2, version=8), await of(-1, "")] == [0, 22, 25]

    async def read(member_id: str | None, epoch: int) -> tuple[int, list[int]]:
        group = OffsetFetchRequestGroup("g", member_id, epoch, [OffsetFetchRequestTopics("t", partition_indexes=[0])])
        [told] = (await world.ask(OFFSET_FETCH, 9, OffsetFetchRequest(groups=[group]))).groups
        return told.error_code, [each.committed_offset for topic in told.topics for each in topic.partitions]

    assert await read("one", 1) == await read(None, -1) == await read("", -1) == (0, [5])
    assert [await read("one", 0), await read("one", 2), await read("two", 1)] == [(113, []), (113, []), (25, [])]


async def described(world: World, *group_ids: str, version: int = 1, operations: bool = False) -> Any:
    answer = await world.ask(DESCRIBE, version, ConsumerGroupDescribeRequest(group_ids, operations))
    assert [each.group_id for each in answer.groups] == list(group_ids)
    return answer.groups


def shown(assignment: Any) -> list[tuple[str, list[int]]]:
    return [(each.topic_name, list(each.partitions)) for each in assignment.topic_partitions]


@pytest.mark.parametrize("version", [0, 1])
async def test_a_group_is_described_with_what_each_has_and_is_to_have(world: World, version: int) -> None:
    await join(world, instance_id="i", server_assignor="range")
    await asyncio.sleep(0.12)
    await join(world, "two", server_assignor="range", subscribed_topic_regex="t.*")
    [group] = await described(world, "g", version=version, operations=True)
    assert (group.error_code, group.error_message, group.group_state) == (0, None, "Reconciling")
    assert (group.group_epoch, group.assignment_epoch, group.assignor_name) == (2, 2, "range")
    assert group.authorized_operations == 0x0D48
    one, two = group.members
    assert (one.member_id, one.instance_id, one.rack_id, one.member_epoch) == ("one", "i", None, 1)
    assert (one.client_id, one.client_host, one.member_type) == ("test", "/127.0.0.1", 1)
    assert (one.subscribed_topic_names, one.subscribed_topic_regex) == (("t",), "")
    assert (two.member_id, two.instance_id, two.subscribed_topic_regex) == ("two", None, "t.*")
    assert [shown(each.assignment) for each in (one, two)] == [[("t", [0, 1])], []]
    assert [shown(each.target_assignment) for each in (one, two)] == [[("t", [0])], [("t", [1])]]


async def test_what_is_no_such_group_is_not_found(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await stable(world)
    await commit(world, part(0, 1), group_id="positions")
    await join(world, group_id="ours")
    await beat(world, group_id="ours", member_id="one", member_epoch=-1)
    asked = await described(world, "ours", "g", "positions", "none", "")
    assert [each.error_code for each in asked] == [0, 69, 69, 69, 24]
    assert all(each.error_message for each in asked[1:])
    ours = asked[0]
    assert (ours.group_state, ours.assignor_name, ours.members) == ("Empty", "uniform", [])
    assert ours.authorized_operations == -(2**31)
    monkeypatch.setattr(limits, "GROUP_ANSWER_MAX_BYTES", 0)
    await join(world, group_id="ours")
    assert [each.error_code for each in await described(world, "ours", "ours")] == [0, 42]
