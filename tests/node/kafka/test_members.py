"""Members of groups of Kafka's classic protocol, over the coordinator's real log."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from node import limits
from node.groups.classic import Limits
from node.kafka.messages.heartbeat import HeartbeatRequest
from node.kafka.messages.join_group import JoinGroupRequest, JoinGroupRequestProtocol
from node.kafka.messages.leave_group import LeaveGroupRequest, MemberIdentity
from node.kafka.messages.sync_group import SyncGroupRequest, SyncGroupRequestAssignment
from ottla.v1 import group_pb2, group_pb2_grpc
from tests.node.kafka.test_handlers import Asked, World
from tests.node.kafka.test_positions import commit, fetched, grpc_stub, part
from tests.node.services.planes import Planes

JOIN, HEARTBEAT, LEAVE, SYNC = 11, 12, 13, 14
LOADS = 14


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    short = Limits(500, 60_000, limits.GROUP_MEMBERS_MAX, 20, limits.GROUP_BYTES_MAX)
    for name in ("node.groups.classics.LIMITS", "node.groups.shell.LIMITS"):
        monkeypatch.setattr(name, short)
    async with Planes(tmp_path, 1, kafka=True) as planes:
        planes.create_topic("__consumer_offsets", [1], internal=True, cleanup_policy="compact")
        planes.create_topic("t", [1, 1])
        made = World(planes)
        assert await fetched(made, 0)  # the log is read
        yield made


def begin_join(world: World, member_id: str = "", *, version: int = 9, **fields: Any) -> Asked:
    protocols = [JoinGroupRequestProtocol(name, b"me") for name in fields.pop("protocols", ("range", "sticky"))]
    request = JoinGroupRequest(
        **{
            "group_id": "g",
            "session_timeout_ms": 10_000,
            "rebalance_timeout_ms": 10_000,
            "member_id": member_id,
            "protocol_type": "consumer",
            "protocols": protocols,
            **fields,
        }
    )
    return world.begin(JOIN, version, request)


async def told(call: Asked) -> Any:
    return await asyncio.wait_for(call.answered, 10)


async def join(world: World, member_id: str = "", **fields: Any) -> Any:
    return await told(begin_join(world, member_id, **fields))


def begin_sync(world: World, member_id: str, generation: int, **assignments: bytes) -> Asked:
    shares = [SyncGroupRequestAssignment(of, share) for of, share in assignments.items()]
    return world.begin(SYNC, 5, SyncGroupRequest("g", generation, member_id, None, "consumer", "range", shares))


async def beat(world: World, member_id: str, generation: int, group_id: str = "g", **fields: Any) -> int:
    answer = await world.ask(HEARTBEAT, 4, HeartbeatRequest(group_id, generation, member_id, **fields))
    assert isinstance(answer.error_code, int)
    return answer.error_code


async def leave(world: World, *who: tuple[str, str | None], version: int = 5) -> Any:
    members = [MemberIdentity(member_id, instance_id) for member_id, instance_id in who]
    return await world.ask(LEAVE, version, LeaveGroupRequest(group_id="g", member_id=who[0][0], members=members))


async def stable(world: World, count: int = 2, **fields: Any) -> tuple[list[str], int]:
    """Members in a stable generation, the leader first; each has its number as its assignment."""
    ids = [(await join(world, **fields)).member_id for _ in range(count)]
    calls = [begin_join(world, member_id, **fields) for member_id in ids]
    answers = [await told(call) for call in calls]
    generation = answers[0].generation_id
    leader = answers[0].leader
    ids.sort(key=lambda member_id: member_id != leader)
    syncs = [begin_sync(world, member_id, generation) for member_id in ids[1:]]
    syncs.insert(0, begin_sync(world, leader, generation, **{m: b"%d" % n for n, m in enumerate(ids)}))
    assert [(await told(call)).assignment for call in syncs] == [b"%d" % n for n in range(count)]
    return ids, generation


async def move(world: World) -> None:
    """Another leader of the offsets' partition: here the same node in a new epoch."""
    before = world.plane._groups.shards()
    world.planes.lead(world.planes.image.names["__consumer_offsets"], 0, 1)
    assert world.plane._groups.shards() != before
    while await beat(world, "", 0) == LOADS:  # noqa: ASYNC110
        await asyncio.sleep(0.005)


@pytest.mark.parametrize("version", range(10))
async def test_members_join_share_and_leave(world: World, version: int) -> None:
    first = await join(world, version=version)
    if version >= 4:
        assert (first.error_code, first.generation_id) == (79, -1)
        first = await join(world, first.member_id, version=version)
    assert (first.error_code, first.generation_id, first.leader) == (0, 1, first.member_id)
    assert [(each.member_id, each.metadata) for each in first.members] == [(first.member_id, b"me")]
    assert first.protocol_name == "range"
    synced = await told(begin_sync(world, first.member_id, 1, **{first.member_id: b"all"}))
    assert (synced.error_code, synced.assignment, synced.protocol_name) == (0, b"all", "range")
    assert await beat(world, first.member_id, 1) == 0
    left = await leave(world, (first.member_id, None), version=min(version, 5))
    assert (left.error_code, [each.error_code for each in left.members]) == (0, [0] if version >= 3 else [])
    assert await beat(world, first.member_id, 1) == 25


async def test_a_move_of_the_coordinator_is_noticed_by_no_member(world: World) -> None:
    ids, generation = await stable(world)
    for _ in range(2):
        await move(world)
        assert [await beat(world, member_id, generation) for member_id in ids] == [0, 0]
        assert (await told(begin_sync(world, ids[1], generation))).assignment == b"1"
        assert await commit(world, part(0, 7), member_id=ids[0], generation_id_or_member_epoch=generation) == [(0, 0)]
    assert (await join(world, ids[1])).generation_id == generation


async def test_what_waits_at_a_coordinator_that_moves_is_told_to_look_for_it(world: World) -> None:
    ids, generation = await stable(world)
    waiting = begin_join(world, ids[0])
    await asyncio.sleep(0.05)
    assert not waiting.answered.done()
    assert await beat(world, ids[1], generation) == 27
    await move(world)
    assert (await told(waiting)).error_code == 16
    assert await beat(world, ids[1], generation) == 0, "the stored generation is the one that members have"


async def test_commits_are_fenced_by_generation(world: World) -> None:
    ids, generation = await stable(world)

    async def of(member_id: str, number: int, **fields: Any) -> int:
        [(_, code)] = await commit(
            world, part(0, 5), member_id=member_id, generation_id_or_member_epoch=number, **fields
        )
        return code

    assert await of(ids[0], generation) == 0
    assert await of(ids[0], generation - 1) == 22
    assert await of(ids[0], generation + 1) == 22
    assert await of("somebody", generation) == 25
    assert await of("", -1) == 25, "somebody outside, while there are members"
    assert await of(ids[0], -1) == 22
    assert await of(ids[0], 1, group_id="none") == 22
    assert await of(ids[0], 1, group_id="none", version=9) == 69
    calls = [begin_join(world, member_id) for member_id in ids]
    answers = [await told(call) for call in calls]
    assert await of(ids[0], generation) == 22
    assert await of(ids[0], answers[0].generation_id) == 27, "it has no share of this generation yet"


async def test_a_member_that_falls_silent_is_out_and_its_share_is_given_away(world: World) -> None:
    ids, generation = await stable(world, session_timeout_ms=700)
    for _ in range(40):
        code = await beat(world, ids[0], generation)
        if code == 27:
            break
        await asyncio.sleep(0.05)
    assert code == 27
    again = await join(world, ids[0], session_timeout_ms=700)
    assert (again.error_code, len(again.members)) == (0, 1)
    assert await beat(world, ids[1], generation) == 25


async def test_a_group_is_of_one_type_while_it_has_members(world: World) -> None:
    await commit(world, part(0, 3))
    ids, _ = await stable(world)
    async with world.planes.channel(1) as channel:
        stub = group_pb2_grpc.GroupServiceStub(channel)

        async def session() -> Any:
            call = stub.Session()
            await call.write(group_pb2.SessionRequest(join=group_pb2.Join(group_id="g", topics=["t"])))
            return call, await asyncio.wait_for(call.read(), 10)

        _, answer = await session()
        assert answer.error.code == 23
        assert "classic" in answer.error.message
        for call, request in (
            ("DeleteGroups", group_pb2.DeleteGroupsRequest(group_ids=["g"])),
            ("ResetOffsets", group_pb2.ResetOffsetsRequest(group_id="g", offset=0)),
        ):
            refused = await grpc_stub(world, call, request)
            assert (refused.groups[0].error if call == "DeleteGroups" else refused.error).code == 68
        refused = await grpc_stub(world, "CommitOffsets", group_pb2.CommitOffsetsRequest(group_id="g"))
        assert refused.error.code == 25
        await leave(world, *((member_id, None) for member_id in ids))
        member, answer = await session()
        assert answer.assignment.partitions[0].committed_offset == 3, "positions stay when the type changes"
        assert (await join(world)).error_code == 23
        assert await beat(world, ids[0], 1) == 25
        await member.write(group_pb2.SessionRequest(leave=group_pb2.Leave()))
        await member.done_writing()
        await member.read()
    await stable(world, 1)
    await move(world)
    assert await fetched(world, 0) == [(3, -1, "")]


async def test_a_static_member_that_comes_back_takes_its_place_and_moves_nothing(world: World) -> None:
    first = await join(world, group_instance_id="one")
    assert first.error_code == 0
    await told(begin_sync(world, first.member_id, 1, **{first.member_id: b"all"}))
    await move(world)
    again = await join(world, group_instance_id="one")
    assert (again.error_code, again.generation_id, again.skip_assignment) == (0, 1, True)
    assert again.member_id != first.member_id
    assert await beat(world, first.member_id, 1, group_instance_id="one") == 82
    await move(world)
    assert await beat(world, again.member_id, 1, group_instance_id="one") == 0
    assert (await leave(world, ("", "one"))).members[0].error_code == 0


async def test_a_refused_append_is_told_and_tried_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from ottla.protocol.errors import ApiError

    first = await join(world, (await join(world)).member_id)
    real = world.plane.broker.append

    def append(*arguments: Any, **terms: Any) -> Any:
        raise ApiError(19, "too few replicas")

    monkeypatch.setattr(world.plane.broker, "append", append)
    assert (await told(begin_sync(world, first.member_id, 1, **{first.member_id: b"all"}))).error_code == 15
    monkeypatch.setattr(world.plane.broker, "append", real)
    second = await join(world, first.member_id)
    assert second.error_code == 0
    synced = await told(begin_sync(world, first.member_id, second.generation_id, **{first.member_id: b"all"}))
    assert synced.assignment == b"all"


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"group_id": ""}, 24),
        ({"session_timeout_ms": 10}, 26),
        ({"session_timeout_ms": -1}, 26),
        ({"session_timeout_ms": 2**31 - 1}, 26),
        ({"protocols": ()}, 23),
        ({"protocol_type": ""}, 23),
        ({"member_id": "somebody"}, 25),
        ({"protocols": [f"p{n}" for n in range(51)]}, 42),
        ({"protocols": ["p" * 300]}, 42),
        ({"group_instance_id": "i" * 300}, 42),
    ],
    ids=str,
)
async def test_a_join_that_comes_to_nothing_makes_no_group(world: World, fields: dict[str, Any], code: int) -> None:
    assert (await join(world, **fields)).error_code == code
    assert (await grpc_stub(world, "ListGroups", group_pb2.ListGroupsRequest())).groups == []


async def test_what_members_say_of_themselves_has_bounds(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    large = [JoinGroupRequestProtocol("range", bytes(limits.GROUP_METADATA_MAX_BYTES + 1))]
    request = JoinGroupRequest("g", 10_000, 10_000, "", None, "consumer", large)
    assert (await world.ask(JOIN, 3, request)).error_code == 42
    ids, generation = await stable(world, 1)
    share = bytes(limits.GROUP_METADATA_MAX_BYTES + 1)
    assert (await told(begin_sync(world, ids[0], generation, **{ids[0]: share}))).error_code == 42
    monkeypatch.setattr(limits, "CLASSIC_BYTES_MAX", 5)
    assert (await join(world)).error_code == 81
    assert await beat(world, ids[0], generation) == 0


async def test_who_is_not_known_is_told_so(world: World) -> None:
    assert await beat(world, "m", 1, group_id="none") == 25
    assert await beat(world, "m", 1, group_id="") == 24
    assert (await told(begin_sync(world, "m", 1))).error_code == 25
    assert (await leave(world, ("m", None), version=2)).error_code == 25
    left = await leave(world, ("m", None), ("", "i"))
    assert (left.error_code, [each.error_code for each in left.members]) == (0, [25, 25]), "each by itself"
    ids, generation = await stable(world, 1)
    assert await beat(world, ids[0], generation + 1) == 22
    left = await leave(world, ("m", None), (ids[0], None), ("", "i"))
    assert [each.error_code for each in left.members] == [25, 0, 25]


async def test_a_sync_names_its_protocol(world: World) -> None:
    first = await join(world)
    first = await join(world, first.member_id)
    for version, kind, name, code in ((5, None, None, 23), (5, "consumer", None, 23), (4, None, None, 0)):
        request = SyncGroupRequest("g", first.generation_id, first.member_id, None, kind, name, [])
        assert (await told(world.begin(SYNC, version, request))).error_code == code
