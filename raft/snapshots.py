"""Snapshots replace the head of the log: taken locally, or sent in chunks to a follower too far behind (Raft 7,
KIP-630).
"""

from dataclasses import replace

from raft import replication
from raft.effects import ChunkWrite, Role
from raft.messages import SnapshotChunk, SnapshotChunkResponse
from raft.model import SnapshotMeta
from raft.progress import Flow
from raft.state import IncomingSnapshot, RaftState


def on_chunk_response(s: RaftState, m: SnapshotChunkResponse) -> None:
    """Go on where the receiver says, also if that is back at the start: it may have restarted.

    An answer that repeats the offset on its way is to an earlier chunk or to a copy: answered with another chunk, every
    copy would be a stream of its own. If the chunk itself was lost, it is sent again in time.
    """
    p = replication.contact(s, m.sender)
    if p is None or p.flow is not Flow.SNAPSHOT or p.snapshot is None or p.snapshot.last_index != m.last_index:
        return
    if not 0 <= m.next_offset <= p.snapshot_size_bytes:
        s.drop("absurd_offset")
        return
    if m.next_offset == p.snapshot_offset:
        return
    p.snapshot_offset = m.next_offset
    if m.next_offset < p.snapshot_size_bytes:
        p.waiting_since_ms = None
        replication.send_to(s, m.sender)
    else:
        # All of it is there: the next word is AppendAccepted, once it is durable. If that is lost, the last byte is
        # asked about again.
        p.waiting_since_ms = s.now_ms


def on_chunk(s: RaftState, m: SnapshotChunk) -> None:
    """Write the chunk if it is the next one, else say which is (LogCabin 174: a restarted receiver starts over)."""
    replication.follow(s, m.sender)
    if m.snapshot.last_index <= s.commit_index:
        replication.accept(s, m.sender, s.commit_index)
        return
    if s.log.term_at(m.snapshot.last_index) == m.snapshot.last_term:
        # The log already holds what the snapshot stands for, and perhaps acknowledged entries after it: keep all of it
        # (Raft figure 13, 6).
        s.verified_index = max(s.verified_index, m.snapshot.last_index)
        s.commit_to(m.snapshot.last_index)
        replication.accept(s, m.sender, m.snapshot.last_index)
        return
    incoming = s.incoming
    if incoming is None or incoming.snapshot != m.snapshot or incoming.size_bytes != m.size_bytes:
        incoming = s.incoming = IncomingSnapshot(m.snapshot, m.size_bytes)
    if m.offset == incoming.received_bytes and m.data:
        incoming.received_bytes += len(m.data)
        complete = incoming.received_bytes == m.size_bytes
        s.effects.snapshot_writes.append(ChunkWrite(m.snapshot, m.size_bytes, m.offset, m.data, complete))
    s.send(SnapshotChunkResponse(s.cluster_id, s.me, m.sender, s.term, m.snapshot.last_index, incoming.received_bytes))


def stored(s: RaftState, snapshot: SnapshotMeta, size_bytes: int) -> None:
    """A snapshot, taken here or received, is durable: it becomes the newest one, whatever happened while it was
    written.

    - not newer than the newest: nothing changes (hashicorp/raft 248);
    - the log agrees with it: only the head of the log goes (camunda 6092);
    - otherwise the log ends before it or conflicts with it: it replaces the log as a whole (hashicorp/raft 697).
    """
    if s.incoming is not None and s.incoming.snapshot.last_index <= snapshot.last_index:
        s.incoming = None
    if snapshot.last_index <= s.log.snapshot.last_index:
        return
    if s.log.term_at(snapshot.last_index) == snapshot.last_term:
        # A received snapshot may be ahead of what was handed to the state machine, which gets those entries one by one:
        # dropped here, they would be missing there for good.
        undelivered = snapshot.last_index - s.delivered_index
        s.log.compact(snapshot, max(s.config.keep_entries, undelivered))
        s.effects.drop_log_to = s.log.base_index
    elif snapshot.last_index <= s.commit_index or s.role is Role.LEADER:
        s.drop("conflicts_with_committed")
        return
    else:
        s.log.reset(snapshot)
        s.effects.reset_log = snapshot
        s.effects.load_snapshot = snapshot
        s.write_from = snapshot.last_index + 1
        s.delivered_index = snapshot.last_index
        s.verified_index = max(s.verified_index, snapshot.last_index)
        if s.leader is not None:
            replication.accept(s, s.leader, snapshot.last_index)
    s.snapshot_size_bytes = size_bytes
    s.commit_to(snapshot.last_index)


def chunk_is_well_formed(m: SnapshotChunk, max_bytes: int) -> bool:
    """Whether the chunk lies inside a snapshot that a correct leader of its term can have."""
    inside = m.offset >= 0 and m.offset + len(m.data) <= m.size_bytes and 0 < m.size_bytes <= max_bytes
    return inside and m.snapshot.last_index > 0 and 0 < m.snapshot.last_term <= m.term and bool(m.snapshot.voters)


def rejected(s: RaftState, snapshot: SnapshotMeta) -> None:
    """The received bytes are not a readable snapshot: start the transfer over when the leader asks again."""
    s.drop("bad_snapshot")
    if s.incoming is not None and s.incoming.snapshot == snapshot:
        s.incoming = replace(s.incoming, received_bytes=0)
