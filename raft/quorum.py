"""Majority arithmetic, small enough to compare with brute force (tests/raft/test_quorum.py)."""

from collections.abc import Collection, Mapping, Sequence
from enum import Enum

from raft.model import PeerId


class Outcome(Enum):
    """Where an election stands."""

    PENDING = 0
    WON = 1
    LOST = 2


class Vote(Enum):
    """IF_ALL is the vote of a member that lost a part of its log: it counts only together with everybody else's.

    Without it a power cut that tears the last entry of every member would leave a cluster without a leader for ever.
    With all voters in favour the log is at least as complete as every log there is: no committed entry is missing.
    """

    NO = 0
    YES = 1
    IF_ALL = 2


def majority(members: int) -> int:
    """Return how many of `members` any two majorities share at least one of."""
    return members // 2 + 1


def majority_reached(values: Sequence[int]) -> int:
    """Return the largest number that a majority of `values` has reached. There must be at least one value."""
    return sorted(values, reverse=True)[majority(len(values)) - 1]


def election_outcome(
    voters: Collection[PeerId],
    votes: Mapping[PeerId, Vote],
    dead: Collection[PeerId] = (),
    others: Collection[PeerId] = (),
) -> Outcome:
    """Count `votes` of `voters`; a vote from anybody else is nothing, a voter known `dead` will not answer any more.

    `others` may be voters too, for all that a candidate with a damaged log knows: "all" includes them.
    """
    needed = majority(len(voters))
    given = [votes.get(voter, Vote.NO if voter in dead else None) for voter in voters]
    by_others = [votes.get(other, Vote.NO if other in dead else None) for other in others]
    yes, silent = given.count(Vote.YES), given.count(None)
    refused = Vote.NO in given or Vote.NO in by_others
    if yes >= needed or not (refused or silent or None in by_others):
        return Outcome.WON
    if yes + silent < needed and refused:
        return Outcome.LOST
    return Outcome.PENDING
