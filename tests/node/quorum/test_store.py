"""The quorum's files: a crash at every operation, damage, full disks, snapshots."""

import contextlib
import random
from dataclasses import replace

import pytest

from node.quorum.store import Formation, QuorumStore, decode_snapshot, encode_snapshot
from raft.effects import Effects, HardState
from raft.log import reconcile
from raft.model import Entry, EntryKind, PeerId, SnapshotMeta
from storage.errors import CorruptFile, DiskFull
from tests.storage.forgetful import Crashed, ForgetfulFileSystem

VOTERS = (PeerId(1, b"1" * 16), PeerId(2, b"2" * 16))
FORMATION = Formation(b"C" * 16, VOTERS)
PATH = "/data/quorum"


def entry(index: int, term: int, data: bytes = b"x") -> Entry:
    return Entry(index, term, EntryKind.DATA, data * 30)


class Life:
    """A random life of a store. `promised`: what a sync has returned for, the newest; `written`: all it was given."""

    def __init__(self, fs: ForgetfulFileSystem, seed: int) -> None:
        self.fs = fs
        self.rng = random.Random(seed)
        self.promised: tuple[HardState, list[Entry], SnapshotMeta] | None = None
        self.log: list[Entry] = []
        self.hard_state = HardState(0, None)
        self.snapshot = SnapshotMeta(0, 0, VOTERS)

    def run(self, steps: int) -> None:
        self.fs.makedirs("/data")
        self.store = QuorumStore(self.fs, PATH)
        self.store.keep_formation(FORMATION)
        self.store.open(0)
        self.promised = (self.hard_state, [], self.snapshot)
        for _ in range(steps):
            self.rng.choice((self.append, self.append, self.overwrite, self.vote, self.take_snapshot))()

    def sync(self, effects: Effects, hard_state: HardState | None) -> None:
        self.store.write(effects, 0)
        job = self.store.begin_sync(hard_state)
        job.run()
        self.store.complete_sync(job)
        self.promised = (self.hard_state, list(self.log), self.snapshot)

    @property
    def last(self) -> tuple[int, int]:
        return (
            (self.log[-1].index, self.log[-1].term) if self.log else (self.snapshot.last_index, self.snapshot.last_term)
        )

    def append(self) -> None:
        index, term = self.last
        new = [entry(index + 1 + i, max(term, 1)) for i in range(self.rng.randint(1, 3))]
        self.log += new
        self.sync(Effects(append=list(new)), None)

    def overwrite(self) -> None:
        """A new leader's entries in the place of a tail that was not committed."""
        if len(self.log) < 2:
            return
        at = self.rng.randrange(1, len(self.log))
        index, term = self.log[at].index, self.last[1] + 1
        self.log = [*self.log[:at], entry(index, term, b"y")]
        self.promised = None  # either log may be found until the sync is back
        self.hard_state = HardState(term, None, VOTERS)
        self.sync(Effects(truncate_from=index, append=[self.log[-1]]), self.hard_state)

    def vote(self) -> None:
        self.hard_state = HardState(max(self.hard_state.term, self.last[1]) + 1, VOTERS[1], VOTERS)
        self.promised = None
        self.sync(Effects(), self.hard_state)

    def take_snapshot(self) -> None:
        if not self.log:
            return
        at = self.rng.randrange(len(self.log))
        meta = SnapshotMeta(self.log[at].index, self.log[at].term, VOTERS)
        self.store.write_snapshot(meta, encode_snapshot(meta, b"state %d" % meta.last_index))
        self.snapshot = meta
        self.store.keep_snapshots({meta.last_index})
        self.log = self.log[at + 1 :]
        self.sync(Effects(drop_log_to=meta.last_index), None)


@pytest.mark.parametrize("seed", range(4))
def test_what_a_sync_returned_for_survives_a_power_loss_at_every_operation(seed):
    whole = ForgetfulFileSystem(seed, None)
    Life(whole, seed).run(12)
    for crash_at in range(1, whole.operations + 1):
        fs = ForgetfulFileSystem(seed, crash_at)
        life = Life(fs, seed)
        with contextlib.suppress(Crashed):
            life.run(12)
        if life.promised is None:
            continue
        hard_state, log, snapshot = life.promised
        store = QuorumStore(fs.power_loss(), PATH)
        assert store.formation == FORMATION
        found = store.open(0)
        assert found.hard_state.term >= hard_state.term
        if found.hard_state.term == hard_state.term:
            assert replace(found.hard_state, refetch=(0, 0)) == hard_state
        assert found.snapshot.last_index >= snapshot.last_index
        if found.snapshot.last_index > 0:
            assert found.snapshot_data == b"state %d" % found.snapshot.last_index
        if found.hard_state.refetch == (0, 0):
            entries = {e.index: e for e in reconcile(found.snapshot, found.entries)}
            for e in log:
                assert e.index <= found.snapshot.last_index or entries[e.index] == e, f"crash at {crash_at}"


def opened(entries: int = 5) -> tuple[ForgetfulFileSystem, QuorumStore]:
    fs = ForgetfulFileSystem(1, None)
    fs.makedirs("/data")
    store = QuorumStore(fs, PATH)
    store.keep_formation(FORMATION)
    store.open(0)
    store.write(Effects(append=[entry(i, 1) for i in range(1, entries + 1)]), 0)
    job = store.begin_sync(HardState(3, VOTERS[0], VOTERS))
    job.run()
    store.complete_sync(job)
    return fs, store


def test_everything_comes_back():
    fs, store = opened()
    voters = Entry(6, 2, EntryKind.VOTERS, b"", VOTERS[:1])
    store.write(Effects(append=[voters, Entry(7, 2, EntryKind.NOOP)]), 0)
    store.close(clean=True)
    found = QuorumStore(fs, PATH).open(0)
    assert found.hard_state == HardState(3, VOTERS[0], VOTERS)
    assert found.entries == [*(entry(i, 1) for i in range(1, 6)), voters, Entry(7, 2, EntryKind.NOOP)]
    assert (found.snapshot, found.snapshot_data) == (SnapshotMeta(0, 0, VOTERS), None)


@pytest.mark.parametrize("clean", [False, True])
def test_a_flipped_bit_is_damage_that_is_remembered_over_restarts(clean):
    fs, store = opened()
    store.close(clean=clean)
    (name,) = [name for name in fs.listdir(f"{PATH}/log") if name.endswith(".log")]
    file = fs.open(f"{PATH}/log/{name}")
    size = file.size()
    byte = file.pread(1, size // 2)[0]
    file.write_at(size // 2, [bytes([byte ^ 4])])
    file.close()
    for _ in range(2):
        store = QuorumStore(fs, PATH)
        found = store.open(0)
        assert [e.index for e in found.entries] == [1, 2]
        assert 5 <= found.hard_state.refetch[0] <= 7, "as far as it really reached, and not much further"
        assert found.hard_state.refetch[1] == 3
        store.close(clean=True)


def test_a_full_disk_delays_a_write_that_then_goes_on_where_it_stopped():
    fs, store = opened()
    effects = Effects(append=[entry(i, 1) for i in range(6, 20)])
    fs.capacity_bytes = sum(fs.size(f"{PATH}/log/{name}") for name in fs.listdir(f"{PATH}/log")) + 600
    with pytest.raises(DiskFull):
        store.write(effects, 0)
    assert 0 < len(effects.append) <= 14
    fs.capacity_bytes = None
    store.write(effects, 0)
    store.close(clean=True)
    assert [e.index for e in QuorumStore(fs, PATH).open(0).entries] == list(range(1, 20))


def test_a_damaged_snapshot_is_not_loaded():
    meta = SnapshotMeta(7, 2, VOTERS)
    raw = encode_snapshot(meta, b"state")
    assert decode_snapshot(raw) == (meta, b"state")
    for position in range(len(raw)):
        bad = bytes([*raw[:position], raw[position] ^ 1, *raw[position + 1 :]])
        with pytest.raises(CorruptFile):
            decode_snapshot(bad)


def test_a_newer_snapshot_file_is_never_removed_for_an_older_one():
    """It is there a moment before the quorum knows of it."""
    fs, store = opened()
    for index in (2, 3, 4):
        meta = SnapshotMeta(index, 1, VOTERS)
        store.write_snapshot(meta, encode_snapshot(meta, b"s"))
    store.keep_snapshots({3})
    assert [name[:20] for name in fs.listdir(PATH) if name.endswith(".snapshot")] == [f"{3:020d}", f"{4:020d}"]
