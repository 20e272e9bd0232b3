"""Planted bugs: each of these changes to the groups must turn a test red. docs/testing.md lists them."""

from collections.abc import Callable
from functools import partial

import pytest

from ottla.protocol.errors import ApiError
from ottla.protocol.invariant import InvariantError
from ottla.v1 import error_pb2 as pb
from tests.node.groups import (
    test_assign,
    test_classic_groups,
    test_coordinator_random,
    test_crowds,
    test_hazards,
    test_members,
    test_offsets,
    test_polling,
    test_stage,
)
from tests.node.groups.support import short_turns
from tests.planted import Bug, listed, plant

MEMBERSHIP = "node.groups.membership"
TARGETS = "node.groups.targets"
OFFSETS = "node.groups.offsets"
CONTACT = "node.groups.sessions:Contact"
ASSIGN = "node.groups.assign"


def schedules() -> None:
    """Random schedules of clients and coordinators, until one shows two owners or a partition without any."""
    for seed in range(25):
        test_coordinator_random.run_schedule(seed)


def schedules_of_short_turns() -> None:
    """The same where each target takes several turns."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        short_turns(monkeypatch)
        schedules()


def patched(test: Callable[[pytest.MonkeyPatch], None]) -> Callable[[], None]:
    """A test that sets bounds of its own."""

    def call() -> None:
        with pytest.MonkeyPatch.context() as monkeypatch:
            test(monkeypatch)

    return call


BUGS = [
    Bug(
        "a partition goes to its next owner before the last has confirmed",
        f"{TARGETS}:_give_back",
        "revoking = member.revoking | (surplus - gone)",
        "revoking = member.revoking",
        schedules,
    ),
    Bug(
        "any confirmation counts, also of a replaced assignment",
        f"{MEMBERSHIP}:confirm",
        "owned.assignment_id == latest and ",
        "",
        test_members.test_the_confirmation_of_a_replaced_assignment_frees_nothing,
    ),
    Bug(
        "a replaced stream still speaks for the member",
        "node.groups.sessions:Sessions._forget_stream",
        "self.by_session.pop(old, None)",
        "pass",
        test_members.test_a_member_is_one_stream_at_a_time,
    ),
    Bug(
        "a member takes the new epoch before it has given back",
        f"{TARGETS}:_take",
        "if member.revoking or _away(stage, group, member):",
        "if _away(stage, group, member):",
        test_members.test_a_member_takes_the_new_epoch_when_it_has_given_back,
    ),
    Bug(
        "who is away is given partitions",
        f"{TARGETS}:_away",
        "return stage.sessions.connected((group.group_id, member.member_id)) is None",
        "return False",
        test_members.test_who_is_away_takes_nothing_new,
    ),
    Bug(
        "any epoch resumes a membership",
        f"{MEMBERSHIP}:_resume",
        "if join.member_epoch not in (member.member_epoch, member.previous_epoch):",
        "if False:",
        test_members.test_only_the_current_and_the_previous_epoch_resume,
    ),
    Bug(
        "a join whose answer was lost makes a second member",
        f"{MEMBERSHIP}:join",
        "member_id=join.member_id or new_member_id",
        "member_id=new_member_id",
        partial(test_members.test_a_join_whose_answer_was_lost_makes_no_second_member, True),
    ),
    Bug(
        "who joins anew gives back what it had",
        f"{MEMBERSHIP}:join",
        "elif known is not None:",
        "elif False:",
        test_members.test_who_joins_anew_under_its_id_gives_back_nothing_by_that,
    ),
    Bug(
        "a commit of an older epoch is stored",
        f"{OFFSETS}:_check_epoch",
        "if epoch < member.member_epoch:",
        "if False:",
        partial(test_offsets.test_a_bad_commit_stores_nothing, {"member_epoch": 1}, pb.ERROR_CODE_STALE_MEMBER_EPOCH),
    ),
    Bug(
        "a member commits what another owns",
        f"{OFFSETS}:_check_commit",
        "if member is not None and at not in member.assigned and at not in member.revoking:",
        "if False:",
        test_offsets.test_what_is_being_given_back_may_still_be_committed_and_then_not_any_more,
    ),
    Bug(
        "a removed member's commit is stored",
        f"{OFFSETS}:_check_committer",
        "if member is None:",
        "if member is None:\n        return\n    if member is None:",
        test_hazards.test_84_a_removed_member_can_neither_commit_nor_resume,
    ),
    Bug(
        "no position is answered as 0",
        f"{OFFSETS}:_position",
        "group.offsets.get(at)",
        "group.offsets.get(at, CommittedOffset(0, None, '', 0))",
        test_offsets.test_none_is_not_0,
    ),
    Bug(
        "positions of a live group expire",
        "node.groups.model:Group.is_expired",
        "return not self.has_members and (self.own.forgotten or long_ago)",
        "return self.own.forgotten or wall_ms - self.empty_since_ms > retention_ms",
        test_hazards.test_81_an_empty_group_that_is_joined_in_time_keeps_its_positions,
    ),
    Bug(
        "the last member's leaving starts no clock",
        f"{MEMBERSHIP}:remove",
        "group.seen_topics, wall_ms)",
        "group.seen_topics, 0)",
        test_offsets.test_positions_expire_when_the_group_was_empty_for_long,
    ),
    Bug(
        "a lost forwarder counts as a lost client",
        "node.groups.sessions:Sessions.closed",
        "lost_client=by_client",
        "lost_client=True",
        test_members.test_a_lost_forwarder_is_not_a_lost_client,
    ),
    Bug(
        "a static member is replaced after 300 ms",
        f"{CONTACT}.expires_ms",
        " and not member.instance_id",
        "",
        test_members.test_a_static_member_keeps_its_place_for_its_time_out_and_no_longer,
    ),
    Bug(
        "a second living member takes over an instance id",
        f"{MEMBERSHIP}:_take_over_instance",
        "if stage.sessions.connected((group.group_id, old.member_id)) is not None:",
        "if False:",
        test_members.test_a_second_living_member_with_the_same_instance_id_is_refused,
    ),
    Bug(
        "a static member's past is not fenced",
        f"{MEMBERSHIP}:_take_over_instance",
        "stage.remove_member(group.group_id, old.member_id)",
        "pass",
        partial(test_hazards.test_82_a_static_member_is_replaced_in_every_state_and_fences_its_past, "stable"),
    ),
    Bug(
        "new partitions start where the policy says",
        f"{TARGETS}:push_assignment",
        "entry.new_partition = at[1] >= group.seen_topics.get(at[0], (at[1] + 1, 0))[0]",
        "entry.new_partition = False",
        test_members.test_new_partitions_and_new_topics_start_at_0_and_old_ones_do_not,
    ),
    Bug(
        "partitions stop being new when somebody looks away",
        f"{MEMBERSHIP}:remove",
        "GroupState(epoch, epoch, group.seen_topics, wall_ms)",
        "GroupState(epoch, epoch, {}, wall_ms)",
        test_members.test_partitions_that_are_new_stay_new_for_who_comes_later,
    ),
    Bug(
        "the epoch starts over when the group is empty",
        f"{MEMBERSHIP}:remove",
        "epoch = group.group_epoch + 1",
        "epoch = 1",
        test_hazards.test_23_the_group_s_epoch_never_goes_back_also_through_emptiness_and_moves,
    ),
    Bug(
        "what a member revokes is nobody's after a move",
        "node.groups.model:_held",
        "member.assigned | member.revoking",
        "member.assigned",
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
        f"{ASSIGN}:_Loads._move_from",
        "(top := self._top(heap))[0] >= 2",
        "(top := self._top(heap))[0] >= 3",
        test_assign.test_uniform_is_even_and_moves_no_more_than_it_must,
    ),
    Bug(
        "an expression matches a part of a name",
        "node.groups.subscriptions:compile_topic_regex",
        "compiled.fullmatch(name)",
        "compiled.match(name)",
        test_members.test_an_expression_matches_whole_names,
    ),
    Bug(
        "each change gets a target of its own",
        "node.groups.model:Group.target_due_ms",
        "return self.targeted_ms + min(TARGET_EVERY_MAX_MS, TARGET_EVERY_MS + len(self.members) // 2)",
        "return 0",
        test_crowds.test_changes_that_come_at_once_share_a_target,
    ),
    Bug(
        "a target that is due later is never made",
        "node.groups.stage:State.watch",
        "self.targets.arm(group_id, group.target_due_ms())",
        "pass",
        test_crowds.test_changes_that_come_at_once_share_a_target,
    ),
    Bug(
        "a target that was due is forgotten when the coordinator moves",
        "node.groups.model:Group.target_is_due",
        "self.target_epoch < self.group_epoch",
        "self.target_epoch < self.group_epoch and self.targeted_ms is not None",
        test_crowds.test_a_target_that_is_due_is_made_by_the_next_coordinator,
    ),
    Bug(
        "whom a target leaves as it was is written again",
        f"{TARGETS}:_planned",
        "is_new or is_behind(group, member)",
        "True",
        test_crowds.test_whom_a_target_leaves_as_it_was_is_neither_written_nor_told,
    ),
    Bug(
        "what changes while a target is under way is forgotten",
        f"{TARGETS}:changed",
        "own.target_epoch if group.plan is None else group.plan.epoch",
        "own.target_epoch",
        patched(test_crowds.test_what_changes_while_a_target_is_under_way_has_the_next_one),
    ),
    Bug(
        "a partition changes hands while a target is under way",
        f"{TARGETS}:reconcile",
        "if group.plan is not None:",
        "if False:",
        patched(test_crowds.test_no_partition_changes_hands_while_a_target_is_under_way),
    ),
    Bug(
        "who is for a later turn is forgotten",
        f"{TARGETS}:reconcile",
        "group.behind[member_id] = reason",
        "pass",
        schedules_of_short_turns,
    ),
    Bug(
        "who takes a place over while a target is under way has nothing",
        f"{MEMBERSHIP}:_take_over_instance",
        "if group.plan is not None:",
        "if False:",
        patched(test_crowds.test_who_takes_a_place_over_while_a_target_is_under_way_has_its_share),
    ),
    Bug(
        "a decision changes what it only looks at",
        "node.groups.model:_StagedById.__getitem__",
        "group.staged()",
        "group",
        test_stage.test_a_join_that_dies_half_way_leaves_nothing,
    ),
    Bug(
        "a first heartbeat starts no clock",
        "node.groups.coordinator:Coordinator.heartbeat",
        "self._watch(self._state.sessions.heard(session, now_ms, heartbeat=True))",
        "self._state.sessions.heard(session, now_ms, heartbeat=True)",
        test_members.test_who_has_sent_heartbeats_must_go_on_and_others_need_not,
    ),
    Bug(
        "positions in a topic that is gone stay where there are many",
        f"{OFFSETS}:sweep",
        "stage.swept = rest",
        "stage.swept = []",
        patched(test_crowds.test_positions_of_many_groups_in_a_topic_that_is_gone_go_part_by_part),
    ),
    Bug(
        "a topic's name that belongs to another id is not looked at",
        f"{OFFSETS}:resolve",
        "elif topic_id and where.topic and",
        "elif False and",
        test_offsets.test_a_name_and_an_id_that_do_not_belong_together_are_refused,
    ),
    Bug(
        "a part of a generation counts as a whole one",
        "node.groups.model:Group.stored_generation",
        " and each.generation == state.generation",
        "",
        partial(
            test_classic_groups.test_each_prefix_of_a_generation_is_a_whole_one_or_none,
            test_classic_groups.generation(4, "b", "c"),
        ),
    ),
    Bug(
        "a commit of an older generation is stored",
        f"{OFFSETS}:_check_classic_committer",
        "if code:",
        "if False:",
        test_classic_groups.test_a_commit_counts_in_the_current_generation_only,
    ),
    Bug(
        "a group has members of both protocols",
        f"{MEMBERSHIP}:check_type",
        "if count := stage.classic_member_count(group_id):",
        "if False:",
        test_classic_groups.test_who_joins_by_the_other_protocol_is_refused_while_there_are_members,
    ),
    Bug(
        "who has no stream is moved before it asks",
        f"{TARGETS}:_bring_closer",
        " and not polls((group.group_id, m))",
        "",
        test_polling.test_an_epoch_is_never_another_than_the_last_answer_s,
    ),
    Bug(
        "what is given back while a target is under way is forgotten",
        f"{TARGETS}:come_closer",
        "if owned is not None and",
        "if group.plan is None and owned is not None and",
        patched(test_polling.test_who_gives_back_while_a_target_is_under_way_is_heard),
    ),
    Bug(
        "who does not give back in time stays",
        f"{CONTACT}.expires_ms",
        "min(silent_ms, self.revoke_by_ms)",
        "silent_ms",
        test_polling.test_who_does_not_give_back_in_time_is_no_member_any_more,
    ),
    Bug(
        "any epoch is good in a heartbeat",
        "node.groups.polling:_known",
        "member.away or (said.member_epoch != member.member_epoch and not is_before)",
        "False",
        partial(test_polling.test_epochs_that_were_never_given_out_are_fenced, 1),
    ),
    Bug(
        "a new coordinator takes for told what another may have told",
        "node.groups.polling:heartbeat",
        "not was_here or ",
        "",
        test_polling.test_a_move_of_the_coordinator_is_noticed_by_no_member,
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
