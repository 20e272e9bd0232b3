"""What the core wants done. The order of the fields is the order of durability.

The shell drains one `Effects` after every input and
1. writes, in this order, `reset_log`, `truncate_from`, `append` and `hard_state`, then syncs all of it (one thread,
   first in, first out);
2. sends `send_now` and `send_chunks` at once: nothing in them depends on the writes;
3. once the writes of this and every earlier `Effects` are synced, sends `send_after_sync` and then, if `synced` is set,
   hands it back with `Raft.persisted`; a message of an older term than the newest that is synced by then is dropped,
   for what it acknowledges may have been cut again;
4. loads `load_snapshot`, then applies `apply`, in order, on its own pace.
A crash in any of it is legal: on disk is a prefix of the writes, and nothing that left the node depends on the rest.
"""

from dataclasses import dataclass, field
from enum import Enum

from raft.messages import Message, SnapshotChunk
from raft.model import Entry, PeerId, SnapshotMeta


class Role(Enum):
    """What a node is in its term. A node outside the voter set is a follower that never stands: an observer."""

    FOLLOWER = "follower"
    PROSPECTIVE = "prospective"
    CANDIDATE = "candidate"
    LEADER = "leader"


@dataclass(frozen=True, slots=True)
class HardState:
    """What a node must never forget (Raft figure 2): without it, it could vote twice in a term.

    `refetch`: damage cut the log, which had reached this (index, term) at most; (0, 0) once it is whole again
    (`RaftState.is_whole`).

    `voters`: everybody in the newest voter set known to be committed or in a later one, kept beside the log that also
    holds them, for a damaged log may have lost them, and any of them may be the only one with a committed entry.
    """

    term: int
    voted_for: PeerId | None
    voters: tuple[PeerId, ...] = ()
    refetch: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class Persisted:
    """Names a sync: the log up to `index` as this node held it in `term`, and the hard state of `term`.

    The term tells two writes of one index apart: within a term a node follows one log, so a late completion of an
    overwritten entry, even of one that came back with its old (term, index), never vouches for what replaced it.
    """

    term: int
    index: int


@dataclass(frozen=True, slots=True)
class ChunkWrite:
    """Bytes of a snapshot on its way in: write them at `offset` of the one receiving file (0 starts it anew).

    `complete`: check the file, make it durable, then call `Raft.snapshot_stored`; a bad file is
    `Raft.snapshot_rejected`.
    """

    snapshot: SnapshotMeta
    size_bytes: int
    offset: int
    data: bytes
    complete: bool


@dataclass(frozen=True, slots=True)
class ReadResult:
    """A read may be served once everything up to `index` is applied; None: leadership was lost, ask again elsewhere."""

    request_id: int
    index: int | None


@dataclass(frozen=True, slots=True)
class LeaderChange:
    """The newest view of who leads."""

    role: Role
    term: int
    leader: PeerId | None


@dataclass(slots=True)
class Effects:
    """Everything one input caused; see the module text for what to do in which order."""

    reset_log: SnapshotMeta | None = None
    """Drop the whole log, go on after this snapshot (already durable)."""
    truncate_from: int | None = None
    append: list[Entry] = field(default_factory=list)
    hard_state: HardState | None = None
    synced: Persisted | None = None
    send_now: list[Message] = field(default_factory=list)
    send_chunks: list[SnapshotChunk] = field(default_factory=list)
    """Fill `data` with up to `snapshot_chunk_bytes` from the named snapshot's file at `offset`, then send."""
    send_after_sync: list[Message] = field(default_factory=list)
    snapshot_writes: list[ChunkWrite] = field(default_factory=list)
    drop_log_to: int | None = None
    """Entries up to this index are covered by a durable snapshot: they may be deleted, whenever it suits after the
    writes before this; those may still put other entries in their place."""
    load_snapshot: SnapshotMeta | None = None
    apply: list[Entry] = field(default_factory=list)
    reads: list[ReadResult] = field(default_factory=list)
    leader_change: LeaderChange | None = None
    deadline_ms: int | None = None
    """Call `Raft.tick` at this time; None: nothing to wait for."""
