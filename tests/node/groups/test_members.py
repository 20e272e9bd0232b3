"""Members of a group by example: epochs, reconciliation, subscriptions, static members, and who is dead when."""

from typing import Any

import pytest

from node.groups.sessions import LOST_CLIENT_GRACE_MS
from node.groups.stage import GroupSettings
from ottla.protocol.errors import ApiError
from ottla.v1 import error_pb2 as pb
from ottla.v1 import group_pb2
from tests.node.groups.support import GROUP, Member, World


def owned(*members: Member) -> list[int]:
    return [len(member.owned) for member in members]


# --- epochs and reconciliation ------------------------------------------------------------------------------------


def test_the_first_member_gets_everything() -> None:
    world = World(t=4)
    one = world.join()
    assert one.owned == {("t", number) for number in range(4)}
    assert one.epoch == world.group_epoch == 1
    assert world.state == "stable"


def test_a_partition_waits_for_its_owner_to_confirm() -> None:
    world = World(t=4)
    one = world.join()
    two = world.join(settle=False)
    two.read()
    assert two.owned == set()
    assert world.state == "reconciling"
    one.read()
    assert owned(one) == [2]
    two.read()
    assert two.owned == set(), "not given away before the owner says so"
    one.confirm()
    two.read()
    assert owned(one, two) == [2, 2]
    assert not one.owned & two.owned


def test_a_member_takes_the_new_epoch_when_it_has_given_back() -> None:
    world = World(t=4)
    one = world.join()
    world.join(settle=False)
    one.read()
    assert one.epoch == 1, "what it is still to give back was assigned in this epoch"
    one.confirm()
    one.read()
    assert one.epoch == world.group_epoch == 2


def test_the_confirmation_of_a_replaced_assignment_frees_nothing() -> None:
    world = World(t=4)
    one = world.join()
    first = one.last
    assert first is not None
    world.join(settle=False)
    one.read()
    two = world.members[1]
    one.confirm(assignment_id=first.assignment_id)
    two.read()
    assert two.owned == set()


def test_an_idle_member_steps_in_when_one_leaves() -> None:
    world = World(t=2)
    one, two, three = world.join(), world.join(), world.join()
    assert sorted(owned(one, two, three)) == [0, 1, 1]
    (idle,) = [member for member in (one, two, three) if not member.owned]
    busy = one if one is not idle else two
    gone = set(busy.owned)
    busy.leave()
    world.settle()
    assert idle.owned == gone


def test_others_keep_what_they_have_when_one_joins_or_leaves() -> None:
    world = World(t=12)
    members = [world.join() for _ in range(3)]
    before = {member.session: set(member.owned) for member in members}
    newcomer = world.join()
    assert all(member.owned < before[member.session] for member in members)
    assert sum(len(before[m.session] - m.owned) for m in members) == len(newcomer.owned) == 3
    after = {member.session: set(member.owned) for member in members}
    newcomer.leave()
    world.settle()
    assert all(member.owned > after[member.session] for member in members)


def test_the_assignment_says_why_it_changed() -> None:
    world = World(t=4)
    one = world.join()
    two = world.join()
    assert one.last is not None
    assert "joined" in one.last.reason or "given back" in one.last.reason
    two.leave()
    world.settle()
    assert one.last.reason == "a member left"


# --- what is subscribed to ----------------------------------------------------------------------------------------


def test_topics_made_later_are_picked_up_by_name_and_by_expression() -> None:
    world = World(logs=1)
    by_name = world.join("logs", "later")
    by_regex = world.join(topic_regex="log.*")
    world.topics_are(logs=1, later=2, logins=3, other=4)
    world.settle()
    topics = {topic for member in (by_name, by_regex) for topic, _ in member.owned}
    assert topics == {"logs", "later", "logins"}
    assert {topic for topic, _ in by_name.owned} <= {"logs", "later"}
    assert {topic for topic, _ in by_regex.owned} <= {"logs", "logins"}


def test_an_expression_matches_whole_names() -> None:
    world = World(log=1, catalog=1, logs=1)
    one = world.join(topic_regex="log")
    assert one.owned == {("log", 0)}


def test_new_partitions_and_new_topics_start_at_0_and_old_ones_do_not() -> None:
    world = World(old=2)
    one = world.join(topic_regex=".*")
    assert one.last is not None
    assert {p.new_partition for p in one.last.partitions} == {False}
    world.topics_are(old=3, made_later=1)
    world.settle()
    new = {(p.partition.topic, p.partition.partition): p.new_partition for p in one.last.partitions}
    assert new == {("old", 0): False, ("old", 1): False, ("old", 2): True, ("made_later", 0): True}


def test_a_topic_that_was_there_when_it_was_subscribed_to_is_not_new() -> None:
    world = World(a=1, b=1)
    one = world.join("a")
    one.resume(topics=["a", "b"])
    world.settle()
    assert one.last is not None
    assert [p.new_partition for p in one.last.partitions] == [False, False]


def test_partitions_that_are_new_stay_new_for_who_comes_later() -> None:
    world = World(t=1)
    one = world.join()
    world.topics_are(t=2)
    world.settle()
    one.leave()
    world.move()
    two = world.join()
    assert two.last is not None
    assert {p.partition.partition: p.new_partition for p in two.last.partitions} == {0: False, 1: True}


def test_a_deleted_topic_is_taken_away_without_waiting_for_anybody() -> None:
    world = World(t=2, u=1)
    one = world.join("t", "u")
    world.topics_are(t=2)
    one.read()
    assert one.owned == {("t", 0), ("t", 1)}
    assert world.state == "stable"


def test_the_assignor_that_most_ask_for_is_used() -> None:
    world = World(t=4, u=4)
    one, two = world.join("t", "u", assignor="range"), world.join("t", "u", assignor="range")
    for member in (one, two):
        numbers = {number for topic, number in member.owned if topic == "t"}
        assert numbers == {number for topic, number in member.owned if topic == "u"}
        assert numbers in ({0, 1}, {2, 3})


# --- coming back --------------------------------------------------------------------------------------------------


def test_a_lost_client_may_resume_and_nothing_moves() -> None:
    world = World(t=4)
    one, two = world.join(), world.join()
    before, epoch = set(one.owned), world.group_epoch
    one.lose()
    world.tick(LOST_CLIENT_GRACE_MS)
    one.resume()
    world.settle()
    assert (one.owned, world.group_epoch, one.error) == (before, epoch, 0)
    world.tick(5_000)
    assert world.state == "stable"
    assert owned(one, two) == [2, 2]


def test_a_lost_client_is_replaced_after_300_ms() -> None:
    world = World(t=4)
    one, two = world.join(), world.join()
    one.lose()
    world.tick(LOST_CLIENT_GRACE_MS + 1)
    world.settle()
    assert owned(two) == [4]
    with pytest.raises(ApiError) as caught:
        one.resume()
    assert caught.value.code == pb.ERROR_CODE_UNKNOWN_MEMBER_ID


def test_a_lost_forwarder_is_not_a_lost_client() -> None:
    world = World(t=4)
    one, two = world.join(session_timeout_ms=5_000), world.join()
    one.lose(by_client=False)
    world.tick(5_000)
    world.settle()
    assert owned(two) == [2]
    world.tick(1)
    world.settle()
    assert owned(two) == [4]


def test_who_has_sent_heartbeats_must_go_on_and_others_need_not() -> None:
    world = World(t=4)
    one, two = world.join(session_timeout_ms=2_000), world.join()
    world.coordinator.heartbeat(one.session, world.now)
    world.tick(2_001)
    world.settle()
    assert one.error == pb.ERROR_CODE_UNKNOWN_MEMBER_ID
    assert owned(two) == [4]
    world.tick(3_600_000)
    world.settle()
    assert owned(two) == [4], "its stream's keepalive vouches for it"


def test_a_member_is_one_stream_at_a_time() -> None:
    world = World(t=4)
    one = world.join()
    everything, old = set(one.owned), one.session
    two = world.join(settle=False)
    one.read()
    assert one.last is not None
    one.owned = everything
    one.resume()
    one.read()
    give_back = group_pb2.Owned(assignment_id=one.last.assignment_id)
    late = world.coordinator.confirm(old, give_back, world.now)
    assert not late.records, "a stream that was replaced gives nothing away"
    two.read()
    assert owned(two) == [0]


@pytest.mark.parametrize("moves", [False, True], ids=["the stream was lost", "the coordinator moved"])
def test_a_join_whose_answer_was_lost_makes_no_second_member(moves: bool) -> None:
    """KIP-1082: the client names the member, or the one that nobody speaks for keeps partitions until its time-out."""
    world = World(t=4)
    one, two = world.join(member_id="one"), world.join(member_id="two", settle=False)
    two.inbox.clear()
    if moves:
        world.move()
        one.resume()
    else:
        two.lose(by_client=False)
    again = world.join(member_id="two")
    assert (again.member_id, owned(one, again)) == ("two", [2, 2])
    group = world.coordinator.group(GROUP)
    assert group is not None
    assert group.members.keys() == {"one", "two"}
    assert world.state == "stable"


def test_who_joins_anew_under_its_id_gives_back_nothing_by_that() -> None:
    world = World(t=4)
    one = world.join(member_id="one")
    two = world.join(member_id="two", settle=False)
    one.inbox.clear()
    again = world.join(member_id="one", settle=False)
    two.read()
    assert owned(two) == [0], "what the first has not confirmed may still be read"
    again.read()
    again.confirm()
    two.read()
    assert owned(again, two) == [2, 2]


def test_only_the_current_and_the_previous_epoch_resume() -> None:
    world = World(t=4)
    one = world.join()
    for _ in range(3):
        world.join()
    assert (one.epoch, len(one.owned)) == (3, 1), "the last target left it as it was"
    one.resume()
    one.read()
    assert (one.epoch, len(one.owned)) == (4, 1), "who comes back takes the group's epoch"
    for epoch, good in ((4, True), (3, True), (2, False), (0, False), (5, False), (-1, False), (2**31 - 1, False)):
        if good:
            one.resume(member_epoch=epoch)
            continue
        with pytest.raises(ApiError) as caught:
            one.resume(member_epoch=epoch)
        assert caught.value.code == pb.ERROR_CODE_FENCED_MEMBER_EPOCH


def test_a_resuming_member_that_gave_back_meanwhile_has_given_back() -> None:
    world = World(t=4)
    one = world.join()
    two = world.join(settle=False)
    one.read()
    one.lose()
    one.resume()
    world.settle()
    assert owned(one, two) == [2, 2]


def test_who_is_away_takes_nothing_new() -> None:
    world = World(t=2)
    one, two = world.join(), world.join()
    two.lose(by_client=False)
    one.leave()
    assert (two.member_id, len(two.owned)) == ("m2", 1)
    group = world.coordinator.group("g")
    assert group is not None
    assert len(group.members["m2"].assigned) == 1
    two.resume()
    world.settle()
    assert owned(two) == [2]


# --- static members (KIP-345) -------------------------------------------------------------------------------------


def test_a_static_member_that_restarts_finds_its_partitions() -> None:
    world = World(t=4)
    one, two = world.join(instance_id="a"), world.join(instance_id="b")
    before, epoch, others = set(one.owned), world.group_epoch, set(two.owned)
    one.leave()
    world.settle()
    assert two.owned == others
    again = world.join(instance_id="a")
    assert (again.owned, two.owned, world.group_epoch) == (before, others, epoch)
    assert again.member_id != one.member_id


def test_a_static_member_keeps_its_place_for_its_time_out_and_no_longer() -> None:
    world = World(t=4)
    one, two = world.join(instance_id="a", session_timeout_ms=3_000), world.join(instance_id="b")
    one.lose()
    world.tick(LOST_CLIENT_GRACE_MS + 1)
    world.settle()
    assert owned(two) == [2]
    world.tick(3_000)
    world.settle()
    assert owned(two) == [4]


def test_a_second_living_member_with_the_same_instance_id_is_refused() -> None:
    world = World(t=4)
    one = world.join(instance_id="a")
    before = list(world.log)
    with pytest.raises(ApiError) as caught:
        world.join(instance_id="a")
    assert caught.value.code == pb.ERROR_CODE_UNRELEASED_INSTANCE_ID
    assert world.log == before
    assert owned(one) == [4]


# --- settings and bad input (invariants.md 3) ------------------------------------------------------------------

BAD_JOINS: list[tuple[dict[str, Any], int]] = [
    ({"group_id": ""}, pb.ERROR_CODE_INVALID_GROUP_ID),
    ({"group_id": "x" * 256}, pb.ERROR_CODE_INVALID_GROUP_ID),
    ({"group_id": "x" * 10_000}, pb.ERROR_CODE_INVALID_GROUP_ID),
    ({"group_id": "a\nb"}, pb.ERROR_CODE_INVALID_GROUP_ID),
    ({"session_timeout_ms": 999}, pb.ERROR_CODE_INVALID_SESSION_TIMEOUT),
    ({"session_timeout_ms": -1}, pb.ERROR_CODE_INVALID_SESSION_TIMEOUT),
    ({"session_timeout_ms": 2**31 - 1}, pb.ERROR_CODE_INVALID_SESSION_TIMEOUT),
    ({"assignor": "sticky"}, pb.ERROR_CODE_UNSUPPORTED_ASSIGNOR),
    ({"topics": [], "topic_regex": ""}, pb.ERROR_CODE_INVALID_REQUEST),
    ({"topics": [f"t{i}" for i in range(1001)]}, pb.ERROR_CODE_INVALID_REQUEST),
    ({"topics": ["x" * 250]}, pb.ERROR_CODE_INVALID_TOPIC_EXCEPTION),
    ({"topics": ["../../x"]}, pb.ERROR_CODE_INVALID_TOPIC_EXCEPTION),
    ({"topic_regex": "("}, pb.ERROR_CODE_INVALID_REGULAR_EXPRESSION),
    ({"topic_regex": "a" * 1001}, pb.ERROR_CODE_INVALID_REGULAR_EXPRESSION),
    ({"topic_regex": r"(a)\1"}, pb.ERROR_CODE_INVALID_REGULAR_EXPRESSION),
    ({"instance_id": "i" * 256}, pb.ERROR_CODE_INVALID_REQUEST),
    ({"client_id": "c" * 2_000_000}, pb.ERROR_CODE_INVALID_REQUEST),
    ({"member_id": "m" * 256}, pb.ERROR_CODE_INVALID_REQUEST),
    ({"member_id": "m\x1b[31m"}, pb.ERROR_CODE_INVALID_REQUEST),
    ({"instance_id": "i\n"}, pb.ERROR_CODE_INVALID_REQUEST),
    ({"client_id": "c\u202e"}, pb.ERROR_CODE_INVALID_REQUEST),
    ({"rack": "r\x9b"}, pb.ERROR_CODE_INVALID_REQUEST),
    ({"group_id": "g\u2028"}, pb.ERROR_CODE_INVALID_GROUP_ID),
    ({"member_id": "of another group", "member_epoch": 1}, pb.ERROR_CODE_UNKNOWN_MEMBER_ID),
]


@pytest.mark.parametrize(("fields", "code"), BAD_JOINS, ids=lambda value: str(value)[:40])
def test_a_bad_join_is_refused_and_changes_nothing(fields: dict[str, Any], code: int) -> None:
    world = World(t=4)
    one = world.join()
    before, epoch = list(world.log), world.group_epoch
    with pytest.raises(ApiError) as caught:
        world.join(**fields)
    assert caught.value.code == code
    assert (world.log, world.group_epoch, owned(one)) == (before, epoch, [4])
    assert not one.inbox


def test_a_pattern_made_to_run_for_ever_matches_at_once() -> None:
    world = World(**{"a" * 60: 1})
    assert world.join(topic_regex="(a*)*b").owned == set()


def test_a_group_has_a_largest_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.limits.GROUP_MEMBERS_MAX", 3)
    world = World(t=4)
    for _ in range(3):
        world.join()
    with pytest.raises(ApiError) as caught:
        world.join()
    assert caught.value.code == pb.ERROR_CODE_POLICY_VIOLATION


def test_joins_without_a_client_behind_them_do_not_pile_up() -> None:
    world = World(t=4)
    for _ in range(100):
        world.join(settle=False).lose()
    world.tick(LOST_CLIENT_GRACE_MS + 1)
    assert world.state == "empty"


def test_words_after_leaving_count_for_nothing() -> None:
    world = World(t=4)
    one = world.join()
    one.leave()
    before = list(world.log)
    one.confirm()
    one.leave()
    world.coordinator.heartbeat(one.session, world.now)
    one.lose()
    assert world.log == before


def test_the_default_session_timeout_is_told() -> None:
    world = World(settings=GroupSettings(session_timeout_ms=7_000), t=1)
    one = world.join()
    assert one.last is not None
    assert one.last.session_timeout_ms == 7_000
