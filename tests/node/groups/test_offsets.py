"""Positions of a group: who may store them, how long they live, and that none is not 0."""

from typing import Any

import pytest

from node.groups.offsets import Committer, Position, Where
from node.groups.stage import GroupSettings
from node.limits import METADATA_MAX_BYTES
from ottla.protocol.errors import ApiError
from ottla.v1 import error_pb2 as pb
from tests.node.groups.support import World, topic_id

DAY_MS = 24 * 3_600_000


def test_none_is_not_0() -> None:
    world = World(t=2)
    one = world.join()
    assert one.commit(0) == 0
    assert world.committed(("t", 0)) == 0
    assert world.committed(("t", 1)) is None
    again = world.join()
    told = {p.partition.partition: p for m in (one, again) if m.last for p in m.last.partitions}
    assert told[0].HasField("committed_offset")
    assert told[0].committed_offset == 0
    assert not told[1].HasField("committed_offset")


def test_a_position_is_kept_with_its_epoch_and_metadata() -> None:
    world = World(t=1)
    one = world.join()
    assert one.commit(7, leader_epoch=3, metadata="m" * METADATA_MAX_BYTES) == 0
    (found,) = world.coordinator.offsets("g", world.coordinator.stored("g"))
    assert found is not None
    assert (found.offset, found.leader_epoch, len(found.metadata)) == (7, 3, METADATA_MAX_BYTES)
    one.lose()
    one.resume()
    one.read()
    assert one.last is not None
    assert one.last.partitions[0].committed_leader_epoch == 3


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"member_epoch": 1}, pb.ERROR_CODE_STALE_MEMBER_EPOCH),
        ({"member_epoch": -1}, pb.ERROR_CODE_STALE_MEMBER_EPOCH),
        ({"member_epoch": 3}, pb.ERROR_CODE_FENCED_MEMBER_EPOCH),
        ({"member_epoch": 2**31 - 1}, pb.ERROR_CODE_FENCED_MEMBER_EPOCH),
        ({"member_id": "nobody"}, pb.ERROR_CODE_UNKNOWN_MEMBER_ID),
        ({"member_id": ""}, pb.ERROR_CODE_UNKNOWN_MEMBER_ID),
        ({"at": ("t", 99)}, pb.ERROR_CODE_UNKNOWN_TOPIC_OR_PARTITION),
        ({"at": ("t", -1)}, pb.ERROR_CODE_UNKNOWN_TOPIC_OR_PARTITION),
        ({"at": ("nothing", 0)}, pb.ERROR_CODE_UNKNOWN_TOPIC_OR_PARTITION),
        ({"at": ("__consumer_offsets", 0)}, pb.ERROR_CODE_UNKNOWN_TOPIC_OR_PARTITION),
        ({"offset": -1}, pb.ERROR_CODE_INVALID_REQUEST),
        ({"offset": -(2**63)}, pb.ERROR_CODE_INVALID_REQUEST),
        ({"metadata": "m" * (METADATA_MAX_BYTES + 1)}, pb.ERROR_CODE_OFFSET_METADATA_TOO_LARGE),
        ({"metadata": "é" * (METADATA_MAX_BYTES // 2 + 1)}, pb.ERROR_CODE_OFFSET_METADATA_TOO_LARGE),
    ],
    ids=str,
)
def test_a_bad_commit_stores_nothing(changes: dict[str, Any], code: int) -> None:
    world = World(t=4)
    one = world.join()
    world.join()
    assert one.epoch == 2
    mine = min(one.owned)
    before = list(world.log)
    assert one.commit(changes.pop("offset", 5), changes.pop("at", mine), **changes) == code
    assert world.log == before


def test_one_bad_position_fails_no_other() -> None:
    world = World(t=2)
    one = world.join()
    positions = [Position(Where("t", b"", number), 3) for number in (0, 9, 1)]
    outcome, errors = world.coordinator.commit("g", Committer(one.member_id, one.epoch), positions, world.wall)
    world.done(outcome)
    assert [error is not None for error in errors] == [False, True, False]
    assert (world.committed(("t", 0)), world.committed(("t", 1))) == (3, 3)


def test_a_hundred_thousand_positions_are_refused_one_by_one() -> None:
    world = World(t=1)
    one = world.join()
    positions = [Position(Where("t", b"", number), 3) for number in range(1, 100_001)]
    outcome, errors = world.coordinator.commit("g", Committer(one.member_id, one.epoch), positions, world.wall)
    assert not outcome.records
    assert {error and error.code for error in errors} == {pb.ERROR_CODE_UNKNOWN_TOPIC_OR_PARTITION}


def test_what_is_being_given_back_may_still_be_committed_and_then_not_any_more() -> None:
    world = World(t=2)
    one = world.join()
    two = world.join(settle=False)
    one.read()
    (lost,) = {("t", 0), ("t", 1)} - one.owned
    assert one.commit(5, lost) == 0
    one.confirm()
    one.read()
    assert one.commit(6, lost) == pb.ERROR_CODE_STALE_MEMBER_EPOCH
    two.read()
    assert two.owned == {lost}
    assert two.last is not None
    assert two.last.partitions[0].committed_offset == 5, "the new owner goes on where the old one stopped"


def test_the_group_s_positions_are_anybody_s_while_it_is_empty() -> None:
    world = World(t=1)
    assert world.commit(3) == 0
    one = world.join()
    assert one.last is not None
    assert one.last.partitions[0].committed_offset == 3
    assert world.commit(1) == pb.ERROR_CODE_UNKNOWN_MEMBER_ID
    one.leave()
    assert world.commit(2) == 0
    assert world.committed() == 2


def test_positions_expire_when_the_group_was_empty_for_long() -> None:
    world = World(settings=GroupSettings(offsets_retention_ms=7 * DAY_MS), t=1)
    one = world.join()
    assert one.commit(5) == 0
    one.leave()
    world.tick(7 * DAY_MS)
    assert world.committed() == 5
    world.tick(1)
    assert world.committed() is None
    assert world.state == "none"


def test_a_group_without_members_ever_expires_too_and_a_commit_keeps_it() -> None:
    world = World(settings=GroupSettings(offsets_retention_ms=DAY_MS), t=1)
    world.commit(5)
    world.tick(DAY_MS)
    world.commit(6)
    world.tick(DAY_MS)
    assert world.committed() == 6
    world.tick(1)
    assert world.state == "none"


def test_positions_of_a_deleted_topic_go_and_a_new_topic_of_its_name_has_none() -> None:
    world = World(t=1, u=1)
    world.commit(5)
    world.commit(6, ("u", 0))
    world.topics_are(u=1)
    assert world.committed(("u", 0)) == 6
    world.topics_are(t=1, u=1)
    assert world.committed() is None


def test_only_an_empty_group_is_reset_or_deleted() -> None:
    world = World(t=1)
    one = world.join()
    before = list(world.log)
    for change in (
        lambda: world.coordinator.reset("g", [((topic_id("t"), 0), 1)], 0),
        lambda: world.coordinator.delete("g"),
    ):
        with pytest.raises(ApiError) as caught:
            change()
        assert caught.value.code == pb.ERROR_CODE_NON_EMPTY_GROUP
    assert world.log == before
    one.leave()
    world.done(world.coordinator.reset("g", [((topic_id("t"), 0), 1)], world.wall))
    assert world.committed() == 1
    world.done(world.coordinator.delete("g"))
    assert world.committed() is None
    for change in (lambda: world.coordinator.reset("g", [], 0), lambda: world.coordinator.delete("g")):
        with pytest.raises(ApiError) as caught:
            change()
        assert caught.value.code == pb.ERROR_CODE_GROUP_ID_NOT_FOUND


def test_a_group_id_is_checked_everywhere() -> None:
    world = World(t=1)
    for group_id in ("", "x" * 256, "a\tb", "\x00"):
        assert world.commit(1, group_id=group_id) == pb.ERROR_CODE_INVALID_GROUP_ID
        with pytest.raises(ApiError) as caught:
            world.coordinator.offsets(group_id, [])
        assert caught.value.code == pb.ERROR_CODE_INVALID_GROUP_ID
    assert not world.log


def test_a_name_and_an_id_that_do_not_belong_together_are_refused() -> None:
    world = World(t=1, u=1)
    where = Where("u", topic_id("t"), 0)
    outcome, [error] = world.coordinator.commit("g", Committer(), [Position(where, 3)], world.wall)
    assert error is not None
    assert error.code == pb.ERROR_CODE_INCONSISTENT_TOPIC_ID
    assert "'t'" not in error.message, "whoever asks may not be allowed to see that one"
    assert not outcome.records
    with pytest.raises(ApiError) as caught:
        world.coordinator.offsets("g", [where])
    assert caught.value.code == pb.ERROR_CODE_INCONSISTENT_TOPIC_ID
    where = where._replace(topic="t")
    outcome, [error] = world.coordinator.commit("g", Committer(), [Position(where, 3)], world.wall)
    assert error is None
    assert outcome.records
