"""Refusals of local calls. What a peer sends never raises: it is dropped and counted (`Raft.dropped`).

RaftError
 +-- NotLeaderError      ask the leader it names
 +-- RefusedError        this node leads, but not now or not that; the message says what would help
InvariantError           the core contradicts itself: stop the node
"""

from ottla.protocol.invariant import InvariantError as InvariantError
from raft.model import PeerId


class RaftError(Exception):
    """Base of every refusal."""


class NotLeaderError(RaftError):
    """This node does not lead `term`; `leader` does, if known."""

    def __init__(self, leader: PeerId | None, term: int) -> None:
        super().__init__(f"not the leader of term {term}; the leader is {leader if leader is not None else 'unknown'}")
        self.leader = leader
        self.term = term


class RefusedError(RaftError):
    """The leader refuses this call; `retriable` says whether the same call may succeed later."""

    def __init__(self, message: str, *, retriable: bool) -> None:
        super().__init__(message)
        self.retriable = retriable
