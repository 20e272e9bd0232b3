"""Majority arithmetic, small enough to compare with brute force (tests/raft/test_quorum.py)."""

from collections.abc import Collection, Mapping, Sequence
from enum import Enum

from raft.model import PeerId


class Outcome(Enum):
    """Where an election stands."""

    PENDING = 0
    WON = 1
    LOST = 2


def majority(members: int) -> int:
    """Return how many of `members` any two majorities share at least one of."""
    return members // 2 + 1


def majority_reached(values: Sequence[int]) -> int:
    """Return the largest number that a majority of `values` has reached. There must be at least one value."""
    return sorted(values, reverse=True)[majority(len(values)) - 1]


def election_outcome(
    voters: Collection[PeerId], votes: Mapping[PeerId, bool], dead: Collection[PeerId] = ()
) -> Outcome:
    """Count `votes` of `voters`; a vote from anybody else is nothing, a voter known `dead` will not answer any more."""
    needed = majority(len(voters))
    if sum(1 for voter in voters if votes.get(voter) is True) >= needed:
        return Outcome.WON
    if sum(1 for voter in voters if votes.get(voter, voter not in dead)) < needed:
        return Outcome.LOST
    return Outcome.PENDING
