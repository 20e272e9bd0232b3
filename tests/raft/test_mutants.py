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
        "test_hazards.py::test_row_3_stepping_down_inside_a_term_keeps_the_vote[heartbeat]",
    "the vote is forgotten by a restart":
        "test_hazards.py::test_row_1_a_vote_answered_before_a_crash_is_remembered_after_it",
    "two votes in a term":
        "test_paper.py::test_5_2_one_vote_per_term_first_come_first_served",
    "no pre-vote":
        "test_paper.py::test_5_2_a_campaign_waits_for_no_silence_but_still_asks_first",
    "no stickiness":
        "test_paper.py::test_5_2_a_campaign_waits_for_no_silence_but_still_asks_first",
    "no check-quorum":
        "(nothing could run)",
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
}
# fmt: on
"""A test of tests/raft, or a seed of the simulation."""


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_every_planted_bug_still_finds_its_place(mutant, tmp_path):
    plant(mutant, tmp_path)


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("mutant", [m for m in MUTANTS if m.name in NOTICED_BY], ids=lambda mutant: mutant.name)
def test_the_planted_bug_is_noticed(mutant, tmp_path):
    plant(mutant, tmp_path)
    noticed_by = NOTICED_BY[mutant.name]
    if isinstance(noticed_by, int):
        assert run_seeds(tmp_path, noticed_by, noticed_by + 1) is not None
    else:
        assert run_tests(tmp_path, noticed_by)
