"""Majority arithmetic against brute force."""

from itertools import combinations, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raft.quorum import Outcome, Vote, election_outcome, majority, majority_reached
from tests.raft.cluster import peer


@pytest.mark.parametrize("members", range(1, 10))
def test_two_majorities_share_a_member_and_one_less_does_not(members):
    everybody = range(members)
    size = majority(members)
    assert all(set(a) & set(b) for a, b in product(combinations(everybody, size), repeat=2))
    if size > 1 and members > 1:
        small = [set(c) for c in combinations(everybody, (members + 1) // 2 - (members % 2))]
        assert any(not a & b for a, b in product(small, repeat=2))


@given(st.lists(st.integers(0, 20), min_size=1, max_size=9))
def test_majority_reached_is_the_largest_value_a_majority_has(values):
    brute = max(n for n in range(21) if sum(v >= n for v in values) * 2 > len(values))
    assert majority_reached(values) == brute


@given(st.lists(st.sampled_from(["yes", "no", "if all", "silent", "dead"]), min_size=1, max_size=6))
def test_an_election_is_decided_exactly_when_no_further_answer_can_change_it(states):
    voters = [peer(i) for i in range(1, len(states) + 1)]
    named = {"yes": Vote.YES, "no": Vote.NO, "if all": Vote.IF_ALL}
    votes = {v: named[s] for v, s in zip(voters, states, strict=True) if s in named}
    dead = {v for v, s in zip(voters, states, strict=True) if s == "dead"}
    results = set()
    for answers in product(Vote, repeat=states.count("silent")):
        given_votes = [*votes.values(), *answers]
        everybody = len(given_votes) == len(voters) and Vote.NO not in given_votes
        results.add(given_votes.count(Vote.YES) * 2 > len(voters) or everybody)
    expected = Outcome.PENDING if len(results) == 2 else (Outcome.WON if results == {True} else Outcome.LOST)
    assert election_outcome(voters, votes, dead) is expected


def test_strangers_do_not_vote():
    voters = [peer(1), peer(2), peer(3)]
    assert (
        election_outcome(voters, {peer(1): Vote.YES, peer(4): Vote.YES, peer(2, disk=1): Vote.YES}) is Outcome.PENDING
    )
