"""Planted bugs: each of these changes to the groups must turn a test red. docs/testing.md lists them."""

from functools import partial

import pytest

from ottla.protocol.errors import ApiError
from ottla.protocol.invariant import InvariantError
from ottla.v1 import error_pb2 as pb
from tests.node.groups import test_assign, test_coordinator_random, test_hazards, test_members, test_offsets
from tests.planted import Bug, listed, plant

COORDINATOR = "node.groups.coordinator:Coordinator"
GROUPS = "node.groups.model:Groups"
ASSIGN = "node.groups.assign"


def schedules() -> None:
    """Random schedules of clients and coordinators, until one shows two owners or a partition without any."""
    for seed in range(25):
        test_coordinator_random.run_schedule(seed)


BUGS = [
    Bug(
        "a partition goes to its next owner before the last has confirmed",
        f"{COORDINATOR}._reconcile",
        "revoking = member.revoking | (surplus - gone)",
        "revoking = member.revoking",
        schedules,
    ),
    Bug(
        "any confirmation counts, also of a replaced assignment",
        f"{COORDINATOR}.confirm",
        "owned.assignment_id == latest and ",
        "",
        test_members.test_the_confirmation_of_a_replaced_assignment_frees_nothing,
    ),
    Bug(
        "a replaced stream still speaks for the member",
        f"{COORDINATOR}._connect",
        "self._by_session.pop(old.session, None)",
        "pass",
        test_members.test_a_member_is_one_stream_at_a_time,
    ),
    Bug(
        "a member takes the new epoch before it has given back",
        f"{COORDINATOR}._reconcile",
        "if member.revoking or self._away(group, member):",
        "if self._away(group, member):",
        test_members.test_a_member_takes_the_new_epoch_when_it_has_given_back,
    ),
    Bug(
        "who is away is given partitions",
        f"{COORDINATOR}._away",
        "return held is None or held.session is None",
        "return False",
        test_members.test_who_is_away_takes_nothing_new,
    ),
    Bug(
        "any epoch resumes a membership",
        "node.groups.coordinator:_resume",
        "if join.member_epoch not in (member.member_epoch, member.previous_epoch):",
        "if False:",
        test_members.test_only_the_current_and_the_previous_epoch_resume,
    ),
    Bug(
        "a join whose answer was lost makes a second member",
        f"{COORDINATOR}.join",
        "member_id=join.member_id or new_member_id,",
        "member_id=new_member_id,",
        partial(test_members.test_a_join_whose_answer_was_lost_makes_no_second_member, True),
    ),
    Bug(
        "who joins anew gives back what it had",
        f"{COORDINATOR}.join",
        "elif known is not None:",
        "elif False:",
        test_members.test_who_joins_anew_under_its_id_gives_back_nothing_by_that,
    ),
    Bug(
        "a commit of an older epoch is stored",
        f"{COORDINATOR}._check_committer",
        "if request.member_epoch < member.member_epoch:",
        "if False:",
        partial(test_offsets.test_a_bad_commit_stores_nothing, {"member_epoch": 1}, pb.ERROR_CODE_STALE_MEMBER_EPOCH),
    ),
    Bug(
        "a member commits what another owns",
        f"{COORDINATOR}._check_commit",
        "if member is not None and at not in member.assigned and at not in member.revoking:",
        "if False:",
        test_offsets.test_what_is_being_given_back_may_still_be_committed_and_then_not_any_more,
    ),
    Bug(
        "a removed member's commit is stored",
        f"{COORDINATOR}._check_committer",
        "if member is None:",
        "if member is None:\n        return\n    if member is None:",
        test_hazards.test_84_a_removed_member_can_neither_commit_nor_resume,
    ),
    Bug(
        "no position is answered as 0",
        f"{COORDINATOR}.offsets",
        "if at is not None and (value := stored.get(at)) is not None:",
        "entry.offset = 0\n        if at is not None and (value := stored.get(at)) is not None:",
        test_offsets.test_none_is_not_0,
    ),
    Bug(
        "positions of a live group expire",
        f"{COORDINATOR}.tick",
        "not group.members\n            and group.empty_since_ms",
        "group.empty_since_ms >= 0",
        test_hazards.test_81_positions_of_a_group_in_a_long_rebalance_do_not_expire,
    ),
    Bug(
        "the last member's leaving starts no clock",
        f"{COORDINATOR}._remove_members",
        "empty_since_ms=wall_ms, bump=True",
        "empty_since_ms=0, bump=True",
        test_offsets.test_positions_expire_when_the_group_was_empty_for_long,
    ),
    Bug(
        "a lost forwarder counts as a lost client",
        f"{COORDINATOR}.closed",
        "held.lost_client = by_client",
        "held.lost_client = True",
        test_members.test_a_lost_forwarder_is_not_a_lost_client,
    ),
    Bug(
        "a static member is replaced after 300 ms",
        f"{COORDINATOR}._expired",
        " and not member.instance_id",
        "",
        test_members.test_a_static_member_keeps_its_place_for_its_time_out_and_no_longer,
    ),
    Bug(
        "a second living member takes over an instance id",
        f"{COORDINATOR}._take_over_instance",
        "if held is not None and held.session is not None:",
        "if False:",
        test_members.test_a_second_living_member_with_the_same_instance_id_is_refused,
    ),
    Bug(
        "a static member's past is not fenced",
        f"{COORDINATOR}._take_over_instance",
        "self._emit(member_record(group.group_id, old.member_id, None), outcome)",
        "pass",
        partial(test_hazards.test_82_a_static_member_is_replaced_in_every_state_and_fences_its_past, "stable"),
    ),
    Bug(
        "new partitions start where the policy says",
        f"{COORDINATOR}._push_assignment",
        "entry.new_partition = at[1] >= group.seen_topics.get(at[0], (at[1] + 1, 0))[0]",
        "entry.new_partition = False",
        test_members.test_new_partitions_and_new_topics_start_at_0_and_old_ones_do_not,
    ),
    Bug(
        "partitions stop being new when somebody looks away",
        f"{COORDINATOR}._write_group",
        "for topic_id, (first, count) in sorted(group.seen_topics.items())",
        "for topic_id, (first, count) in []",
        test_members.test_partitions_that_are_new_stay_new_for_who_comes_later,
    ),
    Bug(
        "the epoch starts over when the group is empty",
        f"{COORDINATOR}._write_group",
        "epoch = group.group_epoch + bump",
        "epoch = 1",
        test_hazards.test_23_the_group_s_epoch_never_goes_back_also_through_emptiness_and_moves,
    ),
    Bug(
        "what a member revokes is nobody's after a move",
        f"{GROUPS}._replay_member",
        "for tp in member.assigned | member.revoking:\n            group.owners",
        "for tp in member.assigned:\n            group.owners",
        schedules,
    ),
    Bug(
        "sharing out starts from nothing each time",
        f"{ASSIGN}:uniform",
        "for tp in current.get(member, frozenset())",
        "for tp in frozenset()",
        test_assign.test_what_a_leaver_had_goes_round_and_nothing_else_moves,
    ),
    Bug(
        "shares differ by two",
        f"{ASSIGN}:_move_one",
        "len(owned[giver]) - len(owned[taker]) < 2",
        "len(owned[giver]) - len(owned[taker]) < 3",
        test_assign.test_uniform_is_even_and_moves_no_more_than_it_must,
    ),
    Bug(
        "an expression matches a part of a name",
        "node.groups.coordinator:compile_topic_regex",
        "compiled.fullmatch(name)",
        "compiled.match(name)",
        test_members.test_an_expression_matches_whole_names,
    ),
]


@pytest.mark.parametrize("bug", BUGS, ids=[bug.what.replace(" ", "-") for bug in BUGS])
def test_a_planted_bug_is_caught(bug: Bug, monkeypatch: pytest.MonkeyPatch) -> None:
    bug.caught_by()
    plant(bug, monkeypatch, (test_assign, test_coordinator_random))
    with pytest.raises((AssertionError, ApiError, InvariantError, KeyError, pytest.fail.Exception)):
        bug.caught_by()


def test_every_planted_bug_is_listed_in_the_documentation() -> None:
    assert listed("groups") == [bug.what for bug in BUGS]
