"""Planted bugs: each of these changes to the client must turn a test red. docs/testing.md lists them."""

import asyncio
from random import Random

import pytest

from tests.ottla.client import test_arguments, test_fetch_state, test_membership, test_positions, test_producer_state
from tests.planted import Bug, listed, plant

STATE = "ottla.client.producer_state:ProducerState"
PARTITION = "ottla.client.fetch_state:PartitionState"
WORK = "ottla.client.group_work:GroupWork"
MEMBER = "ottla.client.group:Membership"


def histories() -> None:
    """Random lives of a producer, until one shows a loss, a repeat or a changed order."""
    for seed in range(40):
        test_producer_state.run_history(Random(seed), steps=600)


def planted_seal() -> None:
    with pytest.MonkeyPatch.context() as patch:
        test_arguments.test_a_batch_that_can_not_be_sealed_fails_alone(patch)


BUGS = [
    Bug(
        "a retry takes a new sequence",
        f"{STATE}._mark_sent",
        "batch.attempt += 1",
        "batch.attempt += 1\n    batch.attempt > 1 and self._number(queue, batch)",
        histories,
    ),
    Bug(
        "a batch overtakes one that waits for its retry",
        f"{STATE}._take_next",
        "return None\n            return self._mark_sent",
        "continue\n            return self._mark_sent",
        test_producer_state.test_out_of_order_is_retried_unless_it_was_the_lowest,
    ),
    Bug(
        "a sixth batch is sent",
        f"{STATE}._take_next",
        "len(queue.in_flight) >= MAX_IN_FLIGHT",
        "len(queue.in_flight) > MAX_IN_FLIGHT",
        test_producer_state.test_five_batches_are_in_flight_at_most,
    ),
    Bug(
        "out of order always begins a new epoch",
        f"{STATE}._sequence_refused",
        "if not batch.sent_as_lowest:",
        "if False:",
        test_producer_state.test_out_of_order_is_retried_unless_it_was_the_lowest,
    ),
    Bug(
        "a new epoch begins while batches are on their way",
        f"{STATE}._begin_epoch",
        "and not any(batch.is_sent for batch in in_flight)",
        "",
        test_producer_state.test_a_refused_batch_fails_alone_and_its_followers_start_a_new_epoch,
    ),
    Bug(
        "a new epoch renumbers an unresolved batch",
        f"{STATE}._begin_epoch",
        "in_flight[0].new_epoch",
        "any(b.new_epoch for b in in_flight)",
        test_producer_state.test_a_refusal_in_the_middle_does_not_renumber_an_unknown_one_before_it,
    ),
    Bug(
        "a certain failure leaves its gap",
        f"{STATE}._fail",
        "batch.sequence >= 0 and",
        "False and",
        test_producer_state.test_a_refused_batch_fails_alone_and_its_followers_start_a_new_epoch,
    ),
    Bug(
        "a failure that may be written gives its sequence away",
        f"{STATE}._fail",
        "(batch.new_epoch or not error.maybe_written)",
        "True",
        histories,
    ),
    Bug(
        "a forgotten producer sends what may be stored again",
        f"{STATE}._sequence_refused",
        "code != pb.ERROR_CODE_OUT_OF_ORDER_SEQUENCE_NUMBER and batch.maybe_written",
        "False",
        test_producer_state.test_a_forgotten_producer_does_not_risk_a_second_copy,
    ),
    Bug(
        "not leader counts as not written",
        f"{STATE}.on_result",
        "code not in NOT_WRITTEN",
        "code not in NOT_WRITTEN | {pb.ERROR_CODE_NOT_LEADER_OR_FOLLOWER}",
        lambda: test_producer_state.test_delivery_timeout_says_whether_it_may_have_been_written(
            test_producer_state.pb.ERROR_CODE_NOT_LEADER_OR_FOLLOWER, True
        ),
    ),
    Bug(
        "a lost connection counts as not written",
        f"{STATE}._unknown",
        "batch.maybe_written = True",
        "pass",
        histories,
    ),
    Bug(
        "an old leader's late answer decides",
        f"{STATE}._queue_of",
        "or batch.attempt != attempt",
        "",
        test_producer_state.test_a_new_leader_in_the_metadata_ends_what_is_in_flight_to_the_old_one,
    ),
    Bug(
        "older metadata wins",
        f"{STATE}.on_metadata",
        "leader.epoch > queue.leader.epoch or",
        "True or",
        test_producer_state.test_older_metadata_is_ignored,
    ),
    Bug(
        "an error in one partition starts epochs everywhere",
        f"{STATE}._sequence_refused",
        "batch.new_epoch = True",
        "for other in self.outstanding():\n        other.new_epoch, other.sent_to = True, None",
        test_producer_state.test_out_of_order_for_the_lowest_begins_a_new_epoch_for_this_partition_alone,
    ),
    Bug(
        "a finished batch keeps its memory",
        f"{STATE}._complete",
        "self.buffered_bytes -= batch.size_bytes + BATCH_OVERHEAD_BYTES",
        "pass",
        test_producer_state.test_buffer_memory_counts_until_the_outcome,
    ),
    Bug(
        "a seek keeps what is buffered",
        f"{PARTITION}.rewind",
        "self.generation += 1",
        "pass",
        test_fetch_state.test_a_seek_makes_what_is_buffered_stale,
    ),
    Bug(
        "a truncation is skipped in silence",
        f"{PARTITION}._diverged",
        "self.position <= end.end_offset",
        "True",
        test_fetch_state.test_truncated_records_that_the_user_saw_are_an_error_with_the_way_out,
    ),
    Bug(
        "a new leader is not told what was read",
        f"{PARTITION}.take",
        "self.fetched_epoch = last.leader_epoch",
        "pass",
        test_fetch_state.test_a_new_leader_is_told_how_far_and_in_which_epoch,
    ),
    Bug(
        "the position counts records",
        f"{PARTITION}.records",
        "self.position = max(self.position, chunk.next_offset)",
        "pass",
        test_fetch_state.test_a_gap_left_by_compaction_is_passed,
    ),
    Bug(
        "damage is skipped",
        f"{PARTITION}.corrupt",
        "self.rewind()",
        "self.position = self.fetch_offset",
        test_fetch_state.test_damage_is_read_again_and_then_reported,
    ),
    Bug(
        "a commit does not see a seek",
        f"{PARTITION}.seek",
        "self.stored = None",
        "pass",
        test_positions.test_what_was_sought_back_to_is_what_is_committed,
    ),
    Bug(
        "a seek leaves its record at work",
        f"{PARTITION}.begin",
        "self.finished()",
        "pass",
        test_positions.test_a_seek_ends_what_was_at_work,
    ),
    Bug(
        "auto commit counts the record at work",
        f"{PARTITION}.to_commit",
        "done = self.done",
        "done = Position(self.position, self.position_epoch)",
        test_positions.test_what_is_at_work_is_not_committed,
    ),
    Bug(
        "a commit that failed counts as made",
        f"{WORK}.commit",
        "state.stored = None",
        "state.stored = state.done",
        test_positions.test_a_commit_that_failed_is_made_again,
    ),
    Bug(
        "a commit overtakes the one before it",
        "ottla.client.group_session:GroupSession.commit",
        "async with self._commits:",
        "if True:",
        test_positions.test_commits_reach_the_coordinator_in_the_order_in_which_they_were_made,
    ),
    Bug(
        "what can't be encoded is sent again for ever",
        f"{STATE}.on_unsendable",
        "[self._fail(queue, batch, _unsendable(batch, error))]",
        "self.on_unknown(batch, attempt, 0)",
        test_arguments.test_an_attempt_that_can_not_be_encoded_is_no_lost_connection,
    ),
    Bug(
        "a batch that can't be sealed is sent",
        f"{STATE}._take_next",
        "batch.seal_error is not None",
        "False",
        planted_seal,
    ),
    Bug(
        "a float is taken for a time",
        "ottla.client.arguments:timestamp",
        "whole(what, value, -INT64_MAX - 1, INT64_MAX)",
        "value",
        lambda: asyncio.run(
            test_arguments.test_a_bad_record_is_refused_whole("timestamp", {"timestamp": 1.5, "partition": 0})
        ),
    ),
    Bug(
        "what may be stored is split",
        f"{STATE}.on_result",
        "and not batch.maybe_written",
        "",
        test_producer_state.test_what_may_be_stored_is_not_split,
    ),
    Bug(
        "halves are numbered anew",
        "ottla.client.producer_batch:Batch._part",
        "self.sequence + first",
        "self.sequence",
        lambda: test_producer_state.test_a_batch_that_is_too_large_is_split_in_its_place("none"),
    ),
    Bug(
        "halves go to the end of the line",
        f"{STATE}._split",
        "queue.in_flight[position : position + 1] = halves",
        "queue.in_flight.remove(batch)\n    queue.in_flight.extend(halves)",
        lambda: test_producer_state.test_a_batch_that_is_too_large_is_split_in_its_place("none"),
    ),
    Bug(
        "more than five are sent after a split",
        f"{STATE}._take_next",
        "or position >= MAX_IN_FLIGHT",
        "",
        test_producer_state.test_no_more_than_five_are_on_their_way_after_a_split,
    ),
    Bug(
        "a silent member goes on",
        f"{MEMBER}.may_hand_out",
        "and now_ms - self.last_heard_ms < self.silence_ms",
        "",
        test_membership.test_silence_stops_the_hand_out_until_an_assignment_proves_the_membership,
    ),
    Bug(
        "an old tick revives a member",
        f"{MEMBER}.heard",
        "now_ms - self.last_heard_ms < self.silence_ms",
        "True",
        test_membership.test_silence_stops_the_hand_out_until_an_assignment_proves_the_membership,
    ),
    Bug(
        "a fenced member keeps its partitions",
        f"{MEMBER}.fenced",
        "self.owned.clear()",
        "pass",
        test_membership.test_a_fenced_member_starts_anew_with_nothing,
    ),
    Bug(
        "no commit is answered as offset 0",
        f"{MEMBER}.to_start",
        'p.committed_offset if p.HasField("committed_offset") else None',
        "p.committed_offset",
        test_membership.test_the_start_is_the_commit_or_zero_or_the_policys,
    ),
]


@pytest.mark.parametrize("bug", BUGS, ids=[bug.what.replace(" ", "-") for bug in BUGS])
def test_a_planted_bug_is_caught(bug: Bug, monkeypatch: pytest.MonkeyPatch) -> None:
    bug.caught_by()
    plant(bug, monkeypatch)
    with pytest.raises(
        (AssertionError, StopIteration, KeyError, ValueError, IndexError, TypeError, pytest.fail.Exception)
    ):
        bug.caught_by()


def test_every_planted_bug_is_listed_in_the_documentation() -> None:
    assert listed("client") == [bug.what for bug in BUGS]
