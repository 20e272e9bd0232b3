"""Groups of the classic protocol in the coordinator's log: whole generations or none, types, expiry."""

import pytest

from node.groups import classics
from node.groups.classic import ClassicGroup, Join, State, StoredGeneration, StoredMember
from node.groups.coordinator import Coordinator
from node.groups.model import Groups, Record
from node.groups.offsets import ClassicCommitter, Position, Where
from node.groups.stage import GroupSettings
from ottla.protocol.errors import ApiError
from ottla.v1 import error_pb2 as pb
from tests.node.groups.support import World

GROUP = "g"


def member(member_id: str, share: bytes = b"", instance_id: str | None = None) -> StoredMember:
    return StoredMember(member_id, instance_id, "client", "host", 10_000, 10_000, b"topics", share)


def generation(number: int, *member_ids: str) -> StoredGeneration:
    leader = member_ids[0] if member_ids else ""
    members = tuple(member(each, b"%d of %s" % (number, each.encode())) for each in member_ids)
    return StoredGeneration(number, "consumer", "range" if member_ids else None, leader, members)


def begun(world: World) -> None:
    world.done(world.coordinator.begin_classic(GROUP, world.wall))


def store(world: World, stored: StoredGeneration) -> list[Record]:
    outcome = world.coordinator.store_classic(GROUP, stored, world.wall)
    world.done(outcome)
    return outcome.records


def loaded(log: list[Record]) -> ClassicGroup:
    groups = Groups()
    for record in log:
        groups.replay(record)
    found = Coordinator(groups, GroupSettings(), World().topics, 0).classic(GROUP, 0)
    assert found is not None
    return found


def test_a_stored_generation_is_what_the_next_coordinator_has() -> None:
    world = World()
    begun(world)
    store(world, generation(3, "a", "b"))
    found = loaded(world.log)
    assert (found.state, found.generation, found.leader, found.protocol) == (State.STABLE, 3, "a", "range")
    assert {each.member_id: each.assignment for each in found.members.values()} == {"a": b"3 of a", "b": b"3 of b"}
    assert found.deadline_ms() == 10_000, "each member has its session time-out to come back"


@pytest.mark.parametrize("after", [generation(4, "b", "c"), generation(4), generation(3, "a", "x")])
def test_each_prefix_of_a_generation_is_a_whole_one_or_none(after: StoredGeneration) -> None:
    world = World()
    begun(world)
    store(world, generation(3, "a", "b"))
    before = list(world.log)
    records = store(world, after)
    for cut in range(len(records) + 1):
        found = loaded(before + records[:cut])
        shares = {each.assignment for each in found.members.values()}
        if found.members:
            assert found.state is State.STABLE
            assert shares in ({b"3 of a", b"3 of b"}, {each.assignment for each in after.members}), cut
        else:
            assert found.generation == 4 or after.generation == 3, "no generation that was begun is begun again"
    assert set(loaded(before + records).members) == {each.member_id for each in after.members}


def test_a_group_of_which_only_a_part_is_there_begins_anew_with_a_higher_generation() -> None:
    world = World()
    begun(world)
    store(world, generation(3, "a", "b"))
    before = list(world.log)
    found = loaded(before + store(world, generation(4, "a", "b"))[:1])
    assert (found.state, found.members) == (State.PREPARING, {})
    [stored] = found.tick(0)
    assert stored.generation == StoredGeneration(5, None, None, "", ())  # type: ignore[union-attr]
    assert found.heartbeat("a", None, 4, 0) == pb.ERROR_CODE_UNKNOWN_MEMBER_ID


def test_positions_of_an_empty_classic_group_expire_and_of_one_with_members_never() -> None:
    world = World(settings=GroupSettings(offsets_retention_ms=1_000))
    begun(world)
    assert world.commit(7) == 0
    store(world, generation(1, "a"))
    world.tick(10_000)
    assert world.committed() == 7
    store(world, generation(2))
    world.tick(900)
    assert world.committed() == 7
    world.tick(200)
    assert world.committed() is None
    assert world.coordinator.group(GROUP) is None
    groups = Groups()
    for record in world.log:
        groups.replay(record)
    assert not groups.by_id, "nothing of it stays in the log"


def test_groups_of_the_classic_protocol_are_bounded_with_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.limits.GROUPS_MAX", 1)
    world = World()
    begun(world)
    with pytest.raises(ApiError) as caught:
        world.coordinator.begin_classic("other", 0)
    assert caught.value.code == pb.ERROR_CODE_POLICY_VIOLATION
    assert world.commit(1, group_id="other") == pb.ERROR_CODE_POLICY_VIOLATION


def test_a_deadline_that_moves_away_is_looked_at_once_and_not_at_each_heartbeat() -> None:
    group = ClassicGroup.load(generation(1, "a", "b"), classics.LIMITS, 0)
    for now_ms in range(0, 9_000, 3_000):
        assert group.heartbeat("a", None, 1, now_ms) == 0
        assert group.heartbeat("b", None, 1, now_ms) == 0
        assert group.deadline_ms() == 10_000
    assert group.tick(10_000) == []
    assert group.deadline_ms() == 16_000


def test_members_and_what_they_say_of_themselves_are_bounded() -> None:
    bounds = classics.LIMITS.__class__(members_max=2, bytes_max=100)
    group = ClassicGroup(bounds)

    def join(number: int, size: int = 1, member_id: str = "") -> object:
        protocols = (("range", bytes(size)),)
        request = Join(member_id, None, "", "", 10_000, 0, "consumer", protocols, f"m{number}", may_need_id=False)
        return [each.answer.error_code for each in group.join(request, number, 0)]  # type: ignore[union-attr]

    assert join(1, 200) == [pb.ERROR_CODE_GROUP_MAX_SIZE_REACHED]
    assert (join(1, 60), group.held_bytes) == ([], 65)
    assert join(2, 60) == [pb.ERROR_CODE_GROUP_MAX_SIZE_REACHED]
    assert (join(2, 20), group.held_bytes) == ([], 90)
    assert join(3) == [pb.ERROR_CODE_GROUP_MAX_SIZE_REACHED]
    group.leave([("m1", None), ("m2", None)], 0)
    assert group.held_bytes == 0


def test_a_commit_counts_in_the_current_generation_only() -> None:
    world = World()
    begun(world)
    store(world, generation(3, "a"))
    world.move()

    def commit(member_id: str, number: int) -> int:
        who = ClassicCommitter(member_id, None, number)
        try:
            outcome, [error] = world.coordinator.commit(GROUP, who, [Position(Where("t", b"", 0), 5)], world.wall)
        except ApiError as refused:
            return refused.code
        assert error is None
        world.done(outcome)
        return 0

    assert commit("a", 2) == commit("a", 4) == pb.ERROR_CODE_ILLEGAL_GENERATION
    assert commit("b", 3) == commit("", -1) == pb.ERROR_CODE_UNKNOWN_MEMBER_ID
    assert world.committed() is None
    assert commit("a", 3) == 0
    assert world.committed() == 5


def test_who_joins_by_the_other_protocol_is_refused_while_there_are_members() -> None:
    world = World()
    begun(world)
    store(world, generation(1, "a"))
    for _ in range(2):  # the second time after a move, when nobody has been heard of yet
        with pytest.raises(ApiError) as caught:
            world.join()
        assert caught.value.code == pb.ERROR_CODE_INCONSISTENT_GROUP_PROTOCOL
        world.move()
    store(world, generation(2))
    world.move()
    one = world.join()
    assert one.owned
    with pytest.raises(ApiError) as caught:
        begun(world)
    assert caught.value.code == pb.ERROR_CODE_INCONSISTENT_GROUP_PROTOCOL
