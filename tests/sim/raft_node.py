"""One simulated member: the real core over a disk that forgets what was not synced.

This is the shell of `node/quorum/driver.py` in virtual time: write, sync, send, apply, in the order `raft.effects`
prescribes.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random
from zlib import crc32

from raft.config import RaftConfig
from raft.core import Raft
from raft.effects import ChunkWrite, Effects, HardState, Persisted
from raft.messages import Message
from raft.model import Entry, PeerId, SnapshotMeta
from tests.sim.scheduler import Scheduler, Timer

CLUSTER = b"C" * 16


def chain(previous: int, entry: Entry) -> int:
    """The hash of a log up to `entry`, given the hash before it: two logs are equal up to an index if these are."""
    what = f"{entry.index},{entry.term},{entry.kind.value},".encode()
    return crc32(entry.data + repr(entry.voters).encode() if entry.voters else entry.data, crc32(what, previous))


@dataclass
class StoredSnapshot:
    """A snapshot file: what it stands for, and the state as bytes (the chain hash at its last entry, padded)."""

    meta: SnapshotMeta
    data: bytes

    @property
    def state(self) -> int:
        return int(self.data[:10])


@dataclass
class DiskImage:
    """What survives a crash. `entries` may start before the snapshot's end."""

    hard_state: HardState
    snapshot: StoredSnapshot
    first_index: int = 1
    entries: list[Entry] = field(default_factory=list)
    refetch: tuple[int, int] = (0, 0)
    """(index, term) the log once reached, before damage took synced entries from its end."""

    @property
    def is_whole(self) -> bool:
        term = self.entries[-1].term if self.entries else self.snapshot.meta.last_term
        return max(self.last_index, self.snapshot.meta.last_index) >= self.refetch[0] or term > self.refetch[1]

    def damage(self, keep: int) -> None:
        """Lose synced entries: all but `keep` of those behind the snapshot. Like a disk that returns bad bytes."""
        first = self.snapshot.meta.last_index + 1
        lost = [entry for entry in self.entries if entry.index >= first][keep:]
        if lost:
            reached = max(lost[-1].index, self.refetch[0] if not self.is_whole else 0)
            self.refetch = (reached, max(self.hard_state.term, lost[-1].term))
            del self.entries[lost[0].index - self.first_index :]

    @property
    def last_index(self) -> int:
        return self.first_index + len(self.entries) - 1

    def term_at(self, index: int) -> int | None:
        position = index - self.first_index
        if 0 <= position < len(self.entries):
            return self.entries[position].term
        return self.snapshot.meta.last_term if index == self.snapshot.meta.last_index else None

    def write(self, effects: Effects, *, log_ops: int = 3, hard_state: bool = True) -> None:
        """Make the writes of one `Effects` durable; fewer than all `log_ops` is a crash in the middle."""
        if effects.reset_log is not None and log_ops > 0:
            self.entries = []
            self.first_index = effects.reset_log.last_index + 1
        if effects.truncate_from is not None and log_ops > 1:
            del self.entries[effects.truncate_from - self.first_index :]
        if effects.append and log_ops > 2:
            if not self.entries:
                self.first_index = effects.append[0].index
            assert effects.append[0].index == self.last_index + 1, "the core writes a gap"
            self.entries.extend(effects.append)
        if effects.hard_state is not None and hard_state:
            self.hard_state = effects.hard_state


class SimNode:
    """A member that can crash and come back. `raft` is None while it is down."""

    def __init__(
        self,
        *,
        me: PeerId,
        voters: tuple[PeerId, ...],
        scheduler: Scheduler,
        rng: Random,
        config: RaftConfig,
        send: Callable[[PeerId, PeerId, Message], None],
        check: "Callable[[SimNode, Effects], None]",
        contacts: tuple[PeerId, ...],
    ) -> None:
        self.me = me
        self.scheduler = scheduler
        self.rng = rng
        self.config = config
        self.contacts = contacts
        self._send = send
        self._check = check
        self.disk = DiskImage(HardState(0, None), StoredSnapshot(SnapshotMeta(0, 0, voters), b"%010d" % 0))
        self.raft: Raft | None = None
        self.incarnation = 0
        self.sync_ms = 1.0
        self.chains: dict[int, int] = {0: 0}
        """Chain hash per index of the log in memory."""
        self.applied_index = 0
        self.applied_state = 0
        self.applied: list[Entry] = []
        """Entries applied since the last check."""
        self.reads: list[tuple[int, int | None]] = []
        self._queue: deque[Effects] = deque()
        self._syncing = 0
        self._timer = Timer()
        self._receiving: dict[int, bytes] = {}
        self._files: dict[int, StoredSnapshot] = {}
        """Snapshot files by last index: the newest, and those still on their way to a follower."""

    # --- life

    def start(self) -> None:
        disk = self.disk
        self.incarnation += 1
        self._files = {disk.snapshot.meta.last_index: disk.snapshot}
        self.raft = Raft(
            cluster_id=CLUSTER,
            me=self.me,
            config=self.config,
            randint=self.rng.randint,
            hard_state=disk.hard_state,
            snapshot=disk.snapshot.meta,
            snapshot_size_bytes=len(disk.snapshot.data),
            entries=disk.entries,
            now_ms=int(self.scheduler.now_ms),
            refetch=disk.refetch,
        )
        if self.raft.log_was_dropped:
            disk.entries = []
            disk.first_index = disk.snapshot.meta.last_index + 1
        self.applied_index = disk.snapshot.meta.last_index
        self.applied_state = disk.snapshot.state
        self.applied.clear()
        self.reads.clear()
        self.chains = {self.applied_index: self.applied_state}
        for entry in disk.entries:
            if entry.index > self.applied_index:
                self.chains[entry.index] = chain(self.chains[entry.index - 1], entry)
        self.raft.set_contacts(self.contacts)
        self.drain()

    def crash(self) -> None:
        """Lose memory, and of the unsynced writes keep a random prefix; the hard state is a file of its own."""
        pending = list(self._queue)
        keep = self.rng.randint(0, len(pending))
        for position, effects in enumerate(pending):
            hard_state = position < keep or (position == keep and self.rng.random() < 0.5)
            if position < keep:
                self.disk.write(effects, hard_state=hard_state)
            elif position == keep:
                self.disk.write(effects, log_ops=self.rng.randint(0, 2), hard_state=hard_state)
        self.raft = None
        self._queue.clear()
        self._syncing = 0
        self._receiving.clear()
        self._timer.cancel()
        self.incarnation += 1

    # --- inputs

    def receive(self, message: Message) -> None:
        if self.raft is not None:
            self.raft.step(message, int(self.scheduler.now_ms))
            self.drain()

    def _tick(self, incarnation: int) -> None:
        if incarnation == self.incarnation and self.raft is not None:
            self.raft.tick(int(self.scheduler.now_ms))
            self.drain()

    def take_snapshot(self) -> None:
        """Start to store a snapshot of what is applied; it is durable some time later."""
        assert self.raft is not None
        if self.applied_index <= self.raft.log.snapshot.last_index:
            return
        meta = self.raft.snapshot_meta(self.applied_index)
        data = b"%010d" % self.applied_state + b"." * self.rng.randint(0, 300)
        self._store_later(StoredSnapshot(meta, data))

    # --- effects

    def drain(self) -> None:
        assert self.raft is not None
        effects = self.raft.drain()
        now_ms = self.scheduler.now_ms
        if effects.reset_log is not None:
            self.chains = {effects.reset_log.last_index: self.disk.snapshot.state}
        if effects.truncate_from is not None:
            for index in range(effects.truncate_from, max(self.chains) + 1):
                del self.chains[index]
        for entry in effects.append:
            self.chains[entry.index] = chain(self.chains[entry.index - 1], entry)
        if effects.load_snapshot is not None:
            self.applied_index = effects.load_snapshot.last_index
            self.applied_state = self.disk.snapshot.state
        for message in effects.send_now:
            self._send(self.me, message.to, message)
        for request in effects.send_chunks:
            data = self._files[request.snapshot.last_index].data
            data = data[request.offset : request.offset + self.config.snapshot_chunk_bytes]
            self._send(self.me, request.to, replace(request, data=data))
        for write in effects.snapshot_writes:
            self._receive_chunk(write)
        for entry in effects.apply:
            assert entry.index == self.applied_index + 1, "applied out of order"
            self.applied_index = entry.index
            self.applied_state = chain(self.applied_state, entry)
        self.applied.extend(effects.apply)
        self.reads.extend((read.request_id, read.index) for read in effects.reads)
        if effects.drop_log_to is not None and self.rng.random() < 0.7:
            self._drop_log_to(effects.drop_log_to)
        if effects.synced is not None or effects.send_after_sync:
            self._queue.append(effects)
            if effects.synced is None and len(self._queue) == 1:
                self._sync_done(self.incarnation, 1)
            elif not self._syncing:
                self._sync()
        if len(self._files) > 1:
            in_use = self.raft.snapshots_in_use
            self._files = {index: file for index, file in self._files.items() if index in in_use}
        self._timer.cancel()
        if effects.deadline_ms is not None:
            self._timer = self.scheduler.after(effects.deadline_ms - now_ms, self._tick, self.incarnation)
        self._check(self, effects)

    def _sync(self) -> None:
        """One sync thread: it takes everything queued when it starts."""
        self._syncing = len(self._queue)
        delay_ms = self.rng.expovariate(1 / self.sync_ms)
        self.scheduler.after(delay_ms, self._sync_done, self.incarnation, self._syncing)

    def _sync_done(self, incarnation: int, count: int) -> None:
        if incarnation != self.incarnation or self.raft is None:
            return
        done = [self._queue.popleft() for _ in range(count)]
        self._syncing = 0
        newest: Persisted | None = None
        for effects in done:
            self.disk.write(effects)
            newest = effects.synced or newest
        for effects in done:
            for message in effects.send_after_sync:
                self._send(self.me, message.to, message)
        if self._queue:
            self._sync()
        if newest is not None:
            self.raft.persisted(newest, int(self.scheduler.now_ms))
            self.drain()

    def _receive_chunk(self, write: ChunkWrite) -> None:
        key = write.snapshot.last_index
        so_far = b"" if write.offset == 0 else self._receiving.get(key, b"")
        assert len(so_far) == write.offset, "a chunk that does not follow the last one"
        self._receiving = {key: so_far + write.data}
        if write.complete:
            self._store_later(StoredSnapshot(write.snapshot, self._receiving.pop(key)))

    def _store_later(self, snapshot: StoredSnapshot) -> None:
        delay_ms = min(3000.0, self.rng.expovariate(1 / (20 * self.sync_ms)))
        self.scheduler.after(delay_ms, self._stored, self.incarnation, snapshot)

    def _stored(self, incarnation: int, snapshot: StoredSnapshot) -> None:
        if incarnation != self.incarnation or self.raft is None:
            return
        # A file per snapshot: an older one that finishes later is a file nobody reads.
        if snapshot.meta.last_index > self.disk.snapshot.meta.last_index:
            self.disk.snapshot = self._files[snapshot.meta.last_index] = snapshot
        self.raft.snapshot_stored(snapshot.meta, len(snapshot.data), int(self.scheduler.now_ms))
        self.drain()

    def _drop_log_to(self, index: int) -> None:
        gone = min(index - self.disk.first_index + 1, len(self.disk.entries))
        if gone > 0:
            del self.disk.entries[:gone]
            self.disk.first_index += gone
