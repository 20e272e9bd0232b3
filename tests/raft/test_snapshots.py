"""Bugs that other systems had with snapshots, one scenario each; the rest is in test_hazards.py."""

from collections import Counter

import pytest

from raft.config import RaftConfig
from raft.messages import (
    AppendAccepted,
    AppendRequest,
    Heartbeat,
    Message,
    SnapshotChunk,
    SnapshotChunkResponse,
)
from raft.model import Entry, EntryKind, SnapshotMeta
from tests.raft.cluster import CLUSTER, Cluster, kind, peer, to

SMALL = RaftConfig(keep_entries=0, snapshot_chunk_bytes=40)


def diverged(config: RaftConfig = SMALL) -> Cluster:
    """Node 1 holds a long uncommitted tail of term 1; nodes 2 and 3 went on in term 2 and have compacted their logs."""
    cluster = Cluster(3, config=config)
    cluster.elect(1)
    cluster.propose(1, *[b"lost"] * 20)
    cluster.sync(1)
    cluster.drop()
    cluster.elect(2, without=(1,))
    cluster.propose(2, *[b"kept"] * 5)
    cluster.settle(without=(1,))
    cluster.snapshot(2)
    cluster.snapshot(3)
    return cluster


def install(cluster: Cluster, leader: int, follower: int, rounds: int = 30) -> None:
    """Let the leader's heartbeats and chunks run until the follower has the snapshot."""
    for _ in range(rounds):
        if cluster.deadlines[leader] <= cluster.now_ms or not cluster.wire:
            cluster.tick(leader)
        cluster.sync()
        cluster.fill_chunks()
        cluster.deliver()
        complete = [write for write in cluster.chunk_writes[follower] if write.complete]
        cluster.chunk_writes[follower] = []
        for write in complete:
            cluster.store(follower, write.snapshot, write.size_bytes)
        cluster.sync()


def test_row_10_a_snapshot_replaces_a_log_that_conflicts_at_its_end():
    """hashicorp/raft 697: the conflicting entry was kept, every append after it refused, the snapshot sent for ever."""
    cluster = diverged()
    assert cluster.rafts[1].log.last_index > cluster.rafts[2].log.snapshot.last_index
    install(cluster, 2, 1)
    cluster.propose(2, b"after")
    install(cluster, 2, 1, rounds=6)
    assert cluster.data(1) == [b"after"], "what came before is in the snapshot"
    assert cluster.disks[1].snapshot == cluster.rafts[2].log.snapshot
    chunks = [line for line in cluster.story if "SnapshotChunk " in line and "->1 " in line]
    assert len(chunks) <= 4, "three chunks and at most one repeated question"


def test_row_11_a_snapshot_at_or_below_the_commit_index_changes_nothing():
    """camunda 6092: entries newer than an old snapshot were lost."""
    cluster = Cluster(3, config=SMALL)
    cluster.elect(1)
    cluster.propose(1, *[b"x"] * 5)
    cluster.settle()
    old = SnapshotMeta(3, 1, cluster.initial)
    chunk = SnapshotChunk(CLUSTER, peer(1), peer(2), 1, old, 10, 0, b"0123456789")
    cluster.inject(chunk, at=2)
    assert cluster.chunk_writes[2] == []
    assert cluster.rafts[2].log.last_index == 6
    cluster.sync(2)
    (answer,) = cluster.drop(kind(AppendAccepted))
    assert answer.match_index == cluster.rafts[2].commit_index


def test_row_11_acknowledged_entries_behind_a_late_snapshot_stay():
    """The follower's commit index lags: entries 3-6 are acknowledged, and a majority may have counted them."""
    cluster = Cluster(3, config=SMALL)
    cluster.elect(1)
    cluster.propose(1, *[b"x"] * 5)
    cluster.deliver(to(2))
    cluster.sync(2)
    assert cluster.rafts[2].commit_index < 3
    chunk = SnapshotChunk(CLUSTER, peer(1), peer(2), 1, SnapshotMeta(3, 1, cluster.initial), 10, 0, b"0123456789")
    cluster.inject(chunk, at=2)
    assert cluster.rafts[2].log.last_index == 6
    assert cluster.rafts[2].commit_index == 3


@pytest.mark.parametrize("found", ["old log", "no log"])
def test_row_12_a_crash_between_storing_a_snapshot_and_resetting_the_log_is_seen_at_the_start(found):
    """openraft 559: snapshot state beside a conflicting log."""
    cluster = diverged()
    snapshot = cluster.disks[2].snapshot
    if found == "no log":
        cluster.disks[1].entries = []
    cluster.disks[1].snapshot = snapshot
    cluster.restart(1)
    assert cluster.rafts[1].log_was_dropped == (found == "old log")
    assert cluster.rafts[1].log.last_index == snapshot.last_index
    cluster.propose(2, b"after")
    for _ in range(6):
        cluster.heartbeat(2)
    assert cluster.data(1) == [b"after"]


def test_row_12_a_log_that_agrees_with_the_snapshot_is_kept():
    cluster = Cluster(3, config=RaftConfig(keep_entries=2))
    cluster.elect(1)
    cluster.propose(1, *[b"%d" % i for i in range(9)])
    cluster.settle()
    cluster.snapshot(1, 6)
    cluster.restart(1)
    assert not cluster.rafts[1].log_was_dropped
    assert cluster.rafts[1].log.last_index == 10


def test_row_13_an_own_snapshot_that_finishes_late_does_not_replace_a_newer_one():
    """hashicorp/raft 248: last-snapshot index went back and left a gap in the log."""
    cluster = Cluster(1, config=SMALL)
    cluster.tick(1)
    cluster.settle()
    cluster.propose(1, *[b"x"] * 9)
    cluster.settle()
    slow = cluster.rafts[1].snapshot_meta(4)
    cluster.snapshot(1, 8)
    cluster.store(1, slow)
    assert cluster.rafts[1].log.snapshot.last_index == 8
    assert cluster.rafts[1].log.base_index == 8


def test_row_13_a_received_snapshot_drops_no_entry_that_was_not_applied_yet():
    """Seed 1479: while the snapshot is stored, the log it stands for arrives too, not known to be committed."""
    cluster = Cluster(3, config=SMALL)
    snapshot = SnapshotMeta(3, 1, cluster.initial)
    cluster.inject(SnapshotChunk(CLUSTER, peer(1), peer(2), 1, snapshot, 10, 0, b"0123456789"), at=2)
    assert cluster.chunk_writes[2][-1].complete
    entries = tuple(Entry(i, 1, EntryKind.DATA, b"%d" % i) for i in range(1, 5))
    cluster.inject(AppendRequest(CLUSTER, peer(1), peer(2), 1, 0, 0, 0, entries), at=2)
    cluster.sync(2)
    cluster.store(2, snapshot)
    assert cluster.data(2) == [b"1", b"2", b"3"]
    assert cluster.rafts[2].log.snapshot.last_index == 3
    cluster.inject(Heartbeat(CLUSTER, peer(1), peer(2), 1, 4, 0), at=2)
    assert cluster.data(2) == [b"1", b"2", b"3", b"4"]


def test_row_14_a_receiver_that_restarts_in_mid_transfer_starts_over():
    """LogCabin 174: it panicked on every further chunk."""
    cluster = diverged()
    for _ in range(12):
        cluster.tick(2)
        cluster.sync()
        cluster.fill_chunks()
        cluster.deliver()
        if cluster.chunk_writes[1]:
            break
    assert cluster.chunk_writes[1][0].offset == 0
    cluster.restart(1)
    install(cluster, 2, 1)
    assert cluster.disks[1].snapshot == cluster.rafts[2].log.snapshot


def test_row_14_duplicate_and_reordered_chunks_are_written_once_and_in_order():
    cluster = Cluster(3, config=SMALL)
    meta = SnapshotMeta(50, 1, cluster.initial)

    def chunk(offset: int) -> SnapshotChunk:
        return SnapshotChunk(CLUSTER, peer(1), peer(2), 1, meta, 30, offset, b"0123456789")

    for offset in (10, 0, 0, 20, 10, 10, 20, 20):
        cluster.inject(chunk(offset), at=2)
    assert [(w.offset, w.complete) for w in cluster.chunk_writes[2]] == [(0, False), (10, False), (20, True)]


def test_row_14_a_snapshot_that_cannot_be_read_is_asked_for_again_from_its_start():
    cluster = Cluster(3, config=SMALL)
    meta = SnapshotMeta(50, 1, cluster.initial)
    chunk = SnapshotChunk(CLUSTER, peer(1), peer(2), 1, meta, 10, 0, b"0123456789")
    cluster.inject(chunk, at=2)
    cluster.rafts[2].snapshot_rejected(meta, cluster.now_ms)
    cluster.drain(2)
    cluster.inject(SnapshotChunk(CLUSTER, peer(1), peer(2), 1, meta, 10, 10, b""), at=2)
    cluster.sync(2)
    answers = [m.next_offset for m in cluster.wire if isinstance(m, SnapshotChunkResponse)]
    assert answers == [10, 0]


def test_row_15_a_follower_whose_snapshot_ends_at_the_last_entry_streams_again():
    cluster = diverged()
    assert cluster.rafts[2].log.snapshot.last_index == cluster.rafts[2].log.last_index
    install(cluster, 2, 1)
    status = {p.peer.node_id: p for p in cluster.rafts[2].status().peers}
    assert status[1].flow == "replicate"
    assert status[1].lag == 0


def test_row_15_a_log_compacted_further_during_the_transfer_is_caught_up_with_the_next_snapshot():
    """Found by simulation: the acknowledgement of the first snapshot was taken for useless, and nothing followed it."""
    cluster = diverged()
    for _ in range(12):
        cluster.tick(2)
        cluster.sync()
        cluster.fill_chunks()
        cluster.deliver()
        if cluster.chunk_writes[1]:
            break
    cluster.propose(2, *[b"more"] * 3)
    cluster.settle(without=(1,))
    cluster.snapshot(2)
    install(cluster, 2, 1, rounds=40)
    assert cluster.rafts[1].commit_index == cluster.rafts[2].commit_index


@pytest.mark.parametrize("copies", [1, 2])
def test_over_a_slow_way_each_chunk_is_sent_about_once(copies):
    """A round trip of 500 ms beside a resend after 400 ms: each resend began a stream of its own, and 52 times the
    snapshot was sent. Copies of answers did the same.
    """
    cluster = diverged(RaftConfig(keep_entries=0, snapshot_chunk_bytes=2))
    on_the_way: list[tuple[int, Message]] = []
    sent: Counter[int] = Counter()
    begin_ms = cluster.now_ms
    while not any(write.complete for write in cluster.chunk_writes[1]):
        assert cluster.now_ms < begin_ms + 90_000, f"never done; {sent.total()} chunks sent"
        cluster.fill_chunks()
        for message in cluster.drop():
            times = copies if isinstance(message, SnapshotChunkResponse) else 1
            on_the_way += [(cluster.now_ms + 250, message)] * times
            if isinstance(message, SnapshotChunk):
                sent[message.offset] += 1
        cluster.now_ms += 50
        cluster.wire = [message for due_ms, message in on_the_way if due_ms <= cluster.now_ms]
        on_the_way = [(due_ms, message) for due_ms, message in on_the_way if due_ms > cluster.now_ms]
        cluster.deliver()
        if cluster.deadlines[2] <= cluster.now_ms:
            cluster.tick(2)
        cluster.sync()
    assert len(sent) == 50
    assert sent.total() <= 55


def test_who_was_away_is_sent_what_was_lost_soon():
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.propose(1, b"x")
    cluster.drop(to(3))
    for _ in range(60):
        cluster.heartbeat(1, without=(3,))
    assert cluster.data(3) == []
    back_ms = cluster.now_ms
    while cluster.rafts[3].log.last_index < 2:
        cluster.heartbeat(1)
        assert cluster.now_ms - back_ms <= 1000


def test_a_snapshot_without_a_bound_is_not_received():
    cluster = Cluster(2)
    cluster.elect(1)
    voters = cluster.initial
    for size_bytes in (1 << 40, (1 << 30) + 1):
        chunk = SnapshotChunk(CLUSTER, peer(1), peer(2), 1, SnapshotMeta(10**9, 1, voters), size_bytes, 0, b"x" * 100)
        cluster.inject(chunk, at=2)
    assert cluster.chunk_writes[2] == []
    assert cluster.rafts[2].dropped == {"malformed_chunk": 2}
