"""What quorum members say to each other.

Every message names the cluster, sender and addressee, and carries the sender's own current term - pre-vote requests
too, so that nobody ever learns a term that no real election has reached (KIP-996). Messages are values: never changed
after they were made.
"""

from dataclasses import dataclass

from raft.model import Entry, PeerId, SnapshotMeta


@dataclass(frozen=True, slots=True)
class Message:
    """The envelope. A wrong cluster or addressee is dropped before the term is looked at."""

    cluster_id: bytes
    sender: PeerId
    to: PeerId
    term: int


@dataclass(frozen=True, slots=True)
class PreVoteRequest(Message):
    """Would you vote for me in the next term? Changes nothing at the receiver (Raft dissertation 9.6, KIP-996)."""

    last_log_index: int
    last_log_term: int


@dataclass(frozen=True, slots=True)
class PreVoteResponse(Message):
    """The answer; `granted` binds nobody. `if_all`: see `raft.quorum.Vote`; `voters` are all that the sender knows of,
    who may know more of them than the candidate.
    """

    granted: bool
    if_all: bool = False
    voters: tuple[PeerId, ...] = ()


@dataclass(frozen=True, slots=True)
class VoteRequest(Message):
    """Vote for me in `term` (Raft 5.2). `transfer`: the old leader asked for this election, so its followers need not
    protect it.
    """

    last_log_index: int
    last_log_term: int
    transfer: bool


@dataclass(frozen=True, slots=True)
class VoteResponse(Message):
    """The vote, durable before it is sent. `if_all`, `voters`: as in `PreVoteResponse`."""

    granted: bool
    if_all: bool = False
    voters: tuple[PeerId, ...] = ()


@dataclass(frozen=True, slots=True)
class AppendRequest(Message):
    """Entries that follow (prev_log_index, prev_log_term) in the leader's log (Raft 5.3)."""

    prev_log_index: int
    prev_log_term: int
    commit_index: int
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class AppendAccepted(Message):
    """The sender's synced log equals the leader's up to and including `match_index`."""

    match_index: int


@dataclass(frozen=True, slots=True)
class AppendRefused(Message):
    """The entry before `prev_log_index + 1` differs or is missing; the logs can agree at (hint_index, hint_term) or
    before.
    """

    prev_log_index: int
    hint_index: int
    hint_term: int


@dataclass(frozen=True, slots=True)
class Heartbeat(Message):
    """I lead. `round` only grows within a term: its echo proves leadership after that moment (Raft dissertation
    6.4).
    """

    commit_index: int
    round: int
    loss: int = 0
    """Echo of the loss that the receiver told of, and where the leader's log ended when it first heard of it."""
    whole_index: int = 0


@dataclass(frozen=True, slots=True)
class HeartbeatResponse(Message):
    """Echo of a heartbeat. It never waits for a disk, and says nothing about the log but `loss`, which is not 0 while
    the sender lacks what it may have acknowledged: a number drawn at its start.
    """

    round: int
    loss: int = 0


@dataclass(frozen=True, slots=True)
class SnapshotChunk(Message):
    """Bytes [offset, offset + len(data)) of a snapshot of `size_bytes` (Raft 7). `data` is read by the sender's
    shell.
    """

    snapshot: SnapshotMeta
    size_bytes: int
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class SnapshotChunkResponse(Message):
    """The receiver holds `next_offset` bytes of the snapshot that ends at `last_index`; go on from there."""

    last_index: int
    next_offset: int


@dataclass(frozen=True, slots=True)
class TimeoutNow(Message):
    """The leader hands over: stand for election at once (Raft dissertation 3.10)."""


@dataclass(frozen=True, slots=True)
class FollowRequest(Message):
    """A node outside the voter set asks whoever leads to send it the log."""

    last_log_index: int
