"""Looking at groups, and deleting them, by either door."""

import asyncio
import struct
from pathlib import Path
from typing import Any

import pytest

from node.groups.classic import Limits
from node.groups.embedded import assigned, subscribed
from node.kafka.messages.delete_groups import DeleteGroupsRequest
from node.kafka.messages.describe_groups import DescribeGroupsRequest
from node.kafka.messages.join_group import JoinGroupRequest, JoinGroupRequestProtocol
from node.kafka.messages.list_groups import ListGroupsRequest
from node.kafka.messages.offset_delete import (
    OffsetDeleteRequest,
    OffsetDeleteRequestPartition,
    OffsetDeleteRequestTopic,
)
from ottla.v1 import group_pb2, group_pb2_grpc
from tests.node.kafka.test_handlers import World
from tests.node.kafka.test_members import JOIN, begin_join, begin_sync, leave, stable, told
from tests.node.kafka.test_members import world as world_of_members
from tests.node.kafka.test_positions import OFFSET_DELETE, codes, commit, grpc_stub, part
from tests.node.services.planes import Planes

DESCRIBE, LIST, DELETE = 15, 16, 42
OPERATIONS = 0x0D48
world = world_of_members


def text(name: str) -> bytes:
    return struct.pack(">h", len(name)) + name.encode()


def subscription(*topics: str) -> bytes:
    return struct.pack(">hi", 1, len(topics)) + b"".join(map(text, topics)) + struct.pack(">i", -1)


def assignment(topic: str, *numbers: int) -> bytes:
    return struct.pack(">hi", 1, 1) + text(topic) + struct.pack(f">i{len(numbers)}i", len(numbers), *numbers)


async def consumer(world: World) -> str:
    """A member as consumers are, with everything of topic t."""
    protocols = [JoinGroupRequestProtocol("range", subscription("t", "gone"))]
    request = JoinGroupRequest("g", 10_000, 10_000, "", None, "consumer", protocols)
    member_id: str = (await told(world.begin(JOIN, 3, request))).member_id
    await told(begin_sync(world, member_id, 1, **{member_id: assignment("t", 0, 1)}))
    return member_id


async def listed(world: World, version: int = 5, **filters: Any) -> list[tuple[str, str, str, str]]:
    answer = await world.ask(LIST, version, ListGroupsRequest(**filters))
    assert answer.error_code == 0
    return [(each.group_id, each.protocol_type, each.group_state, each.group_type) for each in answer.groups]


async def described(world: World, *group_ids: str, version: int = 5, operations: bool = False) -> Any:
    request = DescribeGroupsRequest(groups=group_ids, include_authorized_operations=operations)
    answer = await world.ask(DESCRIBE, version, request)
    assert [each.group_id for each in answer.groups] == list(group_ids)
    return answer.groups


async def of_ours(world: World, group_id: str) -> None:
    async with world.planes.channel(1) as channel:
        session = group_pb2_grpc.GroupServiceStub(channel).Session()
        await session.write(group_pb2.SessionRequest(join=group_pb2.Join(group_id=group_id, topics=["t"])))
        await asyncio.wait_for(session.read(), 10)


async def test_groups_are_listed_by_state_and_type(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    assert await listed(world) == []
    await stable(world)
    monkeypatch.setattr("node.groups.classics.LIMITS", Limits(initial_delay_ms=10_000))
    await commit(world, part(0, 1), group_id="positions")
    begin_join(world, group_id="waiting", version=3)
    await of_ours(world, "ours")
    everything = [
        ("g", "consumer", "Stable", "classic"),
        ("ours", "consumer", "Stable", "consumer"),
        ("positions", "", "Empty", "classic"),
        ("waiting", "consumer", "PreparingRebalance", "classic"),
    ]
    assert await listed(world) == everything
    assert await listed(world, states_filter=["stable", "Unheard"]) == everything[:2]
    assert (
        await listed(world, types_filter=["Classic"], states_filter=["Empty", "PreparingRebalance"]) == everything[2:]
    )
    assert [each[0] for each in await listed(world, 0)] == ["g", "ours", "positions", "waiting"]
    answer = await grpc_stub(world, "ListGroups", group_pb2.ListGroupsRequest())
    assert [(each.group_id, each.type, each.state, each.member_count) for each in answer.groups] == [
        ("g", "classic", "stable", 2),
        ("ours", "consumer", "stable", 1),
        ("positions", "", "empty", 0),
        ("waiting", "classic", "reconciling", 1),
    ]


async def test_a_group_is_described_with_its_members(world: World) -> None:
    member_id = await consumer(world)
    for version in (0, 3, 4, 5, 6):
        [found] = await described(world, "g", version=version, operations=True)
        shown = (found.error_code, found.group_state, found.protocol_type, found.protocol_data)
        assert shown == (0, "Stable", "consumer", "range")
        assert found.authorized_operations == OPERATIONS
        [member] = found.members
        assert (member.member_id, member.client_id, member.client_host) == (member_id, "test", "/127.0.0.1")
        assert member.member_metadata == subscription("t", "gone")
        assert member.member_assignment == assignment("t", 0, 1)
    waiting = begin_join(world, protocols=("range",), version=3)
    [found] = await described(world, "g")
    assert (found.group_state, found.protocol_data, found.members[0].member_assignment) == (
        "PreparingRebalance",
        "",
        b"",
    )
    await leave(world, (member_id, None))
    await told(waiting)


async def test_what_is_no_classic_group_is_dead(world: World) -> None:
    await of_ours(world, "ours")
    for version, code in ((5, 0), (6, 69)):
        for found in await described(world, "none", "ours", version=version):
            assert (found.error_code, found.group_state, found.authorized_operations) == (code, "Dead", -(2**31))
        [found] = await described(world, "none", version=version, operations=True)
        assert (found.authorized_operations == -(2**31)) == (code != 0), "none of an error"
    await commit(world, part(0, 1))
    assert [(each.error_code, each.group_state) for each in await described(world, "g", "")] == [(0, "Empty"), (24, "")]


async def test_grpc_shows_who_has_what_in_a_classic_group(world: World) -> None:
    member_id = await consumer(world)
    await commit(world, part(0, 0), member_id=member_id, generation_id_or_member_epoch=1)
    answer = await grpc_stub(world, "DescribeGroups", group_pb2.DescribeGroupsRequest(group_ids=["g"]))
    [group] = answer.groups
    assert (group.type, group.state, group.group_epoch, group.assignor) == ("classic", "stable", 1, "range")
    [member] = group.members
    assert (member.member_id, member.client_id, member.client_host) == (member_id, "test", "127.0.0.1")
    assert list(member.topics) == ["t", "gone"]
    assert [(each.partition.partition, each.member_id) for each in group.partitions] == [(0, member_id), (1, member_id)]


async def test_groups_without_members_are_deleted(world: World) -> None:
    ids, _ = await stable(world)
    await commit(world, part(0, 1), group_id="positions")
    request = DeleteGroupsRequest(groups_names=["g", "positions", "none", "", "g"])
    answer = await world.ask(DELETE, 2, request)
    told_codes = [(each.group_id, each.error_code) for each in answer.results]
    assert told_codes == [("g", 68), ("positions", 0), ("none", 69), ("", 24)]
    await leave(world, *((member_id, None) for member_id in ids))
    assert (await world.ask(DELETE, 2, DeleteGroupsRequest(groups_names=["g"]))).results[0].error_code == 0
    assert await listed(world) == []
    assert (await stable(world, 1))[1] == 1, "the next group of that name begins anew"


async def test_positions_in_topics_that_classic_members_consume_stay(world: World) -> None:
    async def delete() -> Any:
        named = OffsetDeleteRequestTopic(name="t", partitions=[OffsetDeleteRequestPartition(0)])
        answer = await world.ask(OFFSET_DELETE, 0, OffsetDeleteRequest(group_id="g", topics=[named]))
        return answer.error_code or codes(answer)

    await commit(world, part(0, 5))
    member_id = await consumer(world)
    assert await delete() == [86]
    await leave(world, (member_id, None))
    await stable(world, 1)  # whose members say something that is no subscription
    assert await delete() == 68


async def test_another_coordinators_groups_are_not_told(tmp_path: Path) -> None:
    async with Planes(tmp_path, 2, kafka=True) as planes:
        planes.create_topic("__consumer_offsets", [2], internal=True, cleanup_policy="compact")
        world = World(planes)
        assert await listed(world) == []
        [found] = await described(world, "g")
        assert found.error_code == 16
        assert (await world.ask(DELETE, 2, DeleteGroupsRequest(groups_names=["g"]))).results[0].error_code == 16


@pytest.mark.parametrize("data", [b"", b"\0", b"\0\1\0\0", struct.pack(">hi", 1, 2**31 - 1), struct.pack(">hi", 1, -5)])
def test_what_is_no_consumers_word_is_passed_over(data: bytes) -> None:
    assert subscribed(data) is None
    assert assigned(data) == []


def test_what_consumers_say_is_read() -> None:
    assert subscribed(subscription("a", "b")) == ["a", "b"]
    assert subscribed(struct.pack(">hi", 1, 1) + struct.pack(">h", 5) + b"abc") is None
    assert subscribed(struct.pack(">hi", 1, 1) + struct.pack(">h", 1) + b"\xff") is None
    assert assigned(assignment("t", 0, 5)) == [("t", 0), ("t", 5)]
    assert assigned(assignment("t", 0, 5)[:-1]) == []
