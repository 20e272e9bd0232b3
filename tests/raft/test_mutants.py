"""Each planted bug that was seen to be noticed still is: `pytest -m long tests/raft/test_mutants.py`."""

import pytest

from tests.raft.mutants import MUTANTS, plant, run_seeds, run_tests

# fmt: off
NOTICED_BY = {
    "a vote is sent before it is synced":
        "test_paper.py::test_figure_2_votes_and_terms_are_on_disk_before_anything_leaves_in_them",
    "a vote is not written":
        2,
    "messages leave in a term that is not on disk":
        "test_paper.py::test_figure_2_votes_and_terms_are_on_disk_before_anything_leaves_in_them",
    "appends are acknowledged before they are synced":
        0,
    "the leader counts its own unsynced copy":
        "test_paper.py::test_10_2_1_the_leader_counts_its_own_copy_when_it_is_synced",
    "entries of earlier terms are committed by counting":
        "test_paper.py::test_5_4_2_entries_of_earlier_terms_are_committed_by_one_of_the_own_term_only",
    "the longer log wins, whatever its term":
        "test_paper.py::test_5_4_1_a_log_with_an_older_last_term_gets_no_vote_however_long_it_is",
    "any log wins":
        "test_paper.py::test_5_4_1_a_log_with_an_older_last_term_gets_no_vote_however_long_it_is",
    "the vote is forgotten when stepping down inside a term":
        "test_hazards.py::test_row_3_stepping_down_inside_a_term_keeps_the_vote",
    "the vote is forgotten by a restart":
        "test_hazards.py::test_row_1_a_vote_answered_before_a_crash_is_remembered_after_it",
    "two votes in a term":
        "test_paper.py::test_5_2_one_vote_per_term_first_come_first_served",
    "no pre-vote":
        "test_paper.py::test_5_2_a_campaign_waits_for_no_silence_but_still_asks_first",
    "no stickiness":
        "test_paper.py::test_5_2_a_campaign_waits_for_no_silence_but_still_asks_first",
    "no check-quorum":
        "test_paper.py::test_6_2_a_leader_without_a_majority_resigns_within_its_window",
    "no no-op":
        "test_paper.py::test_5_2_a_follower_that_hears_nothing_stands_and_a_majority_elects_it",
    "voters change before the leader has committed in its term":
        "test_hazards.py::test_row_5_no_voter_change_before_the_leader_committed_in_its_own_term",
    "two voter changes at once":
        "test_paper.py::test_4_1_changes_are_refused_one_beside_the_other_and_for_the_wrong_peers",
    "a removed leader counts itself":
        "test_hazards.py::test_row_8_a_leader_that_removed_itself_hands_over_and_its_followers_go_on",
    "a removed leader goes on leading":
        "test_hazards.py::test_row_8_a_leader_that_removed_itself_hands_over_and_its_followers_go_on",
    "a member whose removal is open does not stand":
        "test_hazards.py::test_row_8_a_leader_whose_own_removal_is_open_can_still_win_to_commit_it",
    "a truncated voter change stays in force":
        "test_paper.py::test_a_truncated_voter_change_is_taken_back",
    "a heartbeat's commit index is taken unchecked":
        "test_paper.py::test_figure_2_a_follower_commits_only_what_is_known_to_equal_the_leaders_log",
    "the leader's heartbeat claims its whole commit index, and the follower believes it":
        23,
    "every append cuts the log":
        "test_paper.py::test_5_3_an_append_that_repeats_known_entries_cuts_nothing",
    "conflicting entries stay":
        "test_paper.py::test_5_3_entries_follow_on_and_differing_tails_are_replaced",
    "the entry before the new ones is not compared":
        "test_paper.py::test_5_3_entries_follow_on_from_an_entry_of_the_same_term_only",
    "an old leader's appends are taken":
        "test_table.py::test_an_older_term_changes_nothing_and_askers_learn_the_newer_one",
    "a late completion vouches for another term":
        "test_paper.py::test_a_completion_of_an_older_term_vouches_for_nothing",
    "a snapshot that conflicts with the log leaves it in place":
        "test_snapshots.py::test_row_10_a_snapshot_replaces_a_log_that_conflicts_at_its_end",
    "a received snapshot drops entries that were not applied":
        "test_snapshots.py::test_row_13_a_received_snapshot_drops_no_entry_that_was_not_applied_yet",
    "an older snapshot replaces a newer one":
        13,
    "a received snapshot drops acknowledged entries behind it":
        "test_snapshots.py::test_row_11_acknowledged_entries_behind_a_late_snapshot_stay",
    "chunks are written in the order they come":
        "test_snapshots.py::test_row_14_duplicate_and_reordered_chunks_are_written_once_and_in_order",
    "a log that the snapshot made worthless is kept at a restart":
        "test_snapshots.py::test_row_12_a_crash_between_storing_a_snapshot_and_resetting_the_log_is_seen_at_the_start",
    "a read is confirmed by any echo":
        "test_paper.py::test_6_4_a_read_is_answered_after_a_round_of_its_own",
    "a read reuses the round before it":
        "test_paper.py::test_6_4_a_read_is_answered_after_a_round_of_its_own",
    "reads before a commit in the own term":
        1,
    "what was lost on the way is not sent again":
        "test_paper.py::test_5_3_entries_follow_on_and_differing_tails_are_replaced",
    "a follower's lost entries are not believed":
        "test_hazards.py::test_row_22_a_follower_that_lost_acknowledged_entries_is_refilled",
    "the vote of a damaged voter counts like any other":
        "test_hazards.py::test_row_22_the_vote_of_a_damaged_voter_does_not_make_a_majority",
    "a repaired voter stays half a one":
        "test_hazards.py::test_row_22_a_damaged_voter_is_a_full_one_again_once_it_holds_what_its_leader_held",
    "a word about an earlier loss ends this one":
        "test_hazards.py::test_row_22_a_damaged_voter_is_not_whole_by_a_word",
    "a damaged voter is whole before it holds what the leader held":
        "test_hazards.py::test_row_22_a_damaged_voter_is_not_whole_by_a_word",
    "the leader forgets when it heard of the loss":
        "test_hazards.py::test_row_22_the_leader_says_where_its_log_ended_when_it_first_heard_of_a_loss",
    "whom a damaged voter names need not agree":
        "test_hazards.py::test_row_22_a_damaged_voter_says_who_else_must_agree",
    "whom a damaged voter names is not asked":
        "test_hazards.py::test_row_22_who_votes_without_knowing_it_stands_where_its_log_is_needed",
    "who is counted as a voter by others alone does not stand":
        "test_hazards.py::test_row_22_who_votes_without_knowing_it_stands_where_its_log_is_needed",
    "a new voter set counts before it is synced":
        "test_hazards.py::test_row_22_a_voter_change_counts_once_its_leader_cannot_forget_it",
    "observers count":
        4,
    "half of the voters are a majority":
        "test_paper.py::test_4_1_a_voter_set_counts_as_soon_as_it_is_appended",
    "many small jumps reach the last term":
        "test_forged.py::test_many_small_jumps_do_not_use_the_terms_up",
    "a jump of the term is never forgiven":
        "test_forged.py::test_many_small_jumps_do_not_use_the_terms_up",
    "every answer is followed by a chunk":
        "test_snapshots.py::test_over_a_slow_way_each_chunk_is_sent_about_once",
    "a slow way is taken for a lossy one, again and again":
        "test_snapshots.py::test_over_a_slow_way_each_chunk_is_sent_about_once",
    "who was away is asked again as seldom as before":
        "test_snapshots.py::test_who_was_away_is_sent_what_was_lost_soon",
    "a snapshot of any size is received":
        "test_snapshots.py::test_a_snapshot_without_a_bound_is_not_received",
    "the term of a malformed message is adopted":
        "test_forged.py::test_an_entry_that_is_not_what_its_kind_says_changes_nothing",
    "entries that are not what their kind says are appended":
        "test_forged.py::test_an_entry_that_is_not_what_its_kind_says_changes_nothing",
    "any term is adopted":
        "test_table.py::test_a_wrong_envelope_is_dropped_before_anything_is_learned_from_it",
    "a second leader of a term is followed":
        "test_forged.py::test_a_term_has_one_leader_whoever_says_to_be_another",
    "messages for another directory are taken":
        "test_table.py::test_a_wrong_envelope_is_dropped_before_anything_is_learned_from_it",
}
# fmt: on
"""A test of tests/raft, or a seed of the simulation."""


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_every_planted_bug_still_finds_its_place(mutant, tmp_path):
    plant(mutant, tmp_path)


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_planted_bug_is_noticed(mutant, tmp_path):
    plant(mutant, tmp_path)
    noticed_by = NOTICED_BY[mutant.name]
    if isinstance(noticed_by, int):
        assert run_seeds(tmp_path, noticed_by, noticed_by + 1) is not None
    else:
        assert run_tests(tmp_path, noticed_by)
