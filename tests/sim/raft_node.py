"""One simulated member: the real core over a disk that forgets what was not synced.

This is the shell of `node/quorum/driver.py` in virtual time: write, sync, send, apply, in the order `raft.effects`
prescribes.
"""

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any
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
    promised_index: int = 0
    """What the log once reached, before damage took synced entries from its end."""

    @property
    def is_whole(self) -> bool:
        index, term = self.hard_state.refetch
        last_term = self.entries[-1].term if self.entries else self.snapshot.meta.last_term
        return max(self.last_index, self.snapshot.meta.last_index) >= index or last_term > term

    def damage(self, keep: int, guess: int) -> None:
        """Lose synced entries: all but `keep` of those behind the snapshot. Like a disk that returns bad bytes. Nobody
        can say how many entries they were: `guess` more than there were is what is remembered.
        """
        first = self.snapshot.meta.last_index + 1
        lost = [entry for entry in self.entries if entry.index >= first][keep:]
        if lost:
            before = self.hard_state.refetch if not self.is_whole else (0, 0)
            self.promised_index = max(lost[-1].index, self.promised_index if before[0] else 0)
            reached = max(lost[-1].index + guess, before[0])
            term = max(self.hard_state.term, lost[-1].term, before[1])
            self.hard_state = replace(self.hard_state, refetch=(reached, term))
            del self.entries[lost[0].index - self.first_index :]

    @property
    def last_index(self) -> int:
        return self.first_index + len(self.entries) - 1

    def term_at(self, index: int) -> int | None:
        position = index - self.first_index
        if 0 <= position < len(self.entries):
            return self.entries[position].term
        return self.snapshot.meta.last_term if index == self.snapshot.meta.last_index else None

    def write(self, effects: Effects) -> None:
        """Make the writes of one `Effects` durable."""
        self.write_log(effects)
        if effects.hard_state is not None:
            self.hard_state = effects.hard_state

    def write_log(self, effects: Effects, *, upto: int = 4, entries: int | None = None) -> None:
        """The log's part; a crash in the middle leaves fewer than all writes, or `entries` of the third one."""
        if effects.reset_log is not None and upto > 0:
            self.entries = []
            self.first_index = effects.reset_log.last_index + 1
        if effects.truncate_from is not None and upto > 1:
            del self.entries[effects.truncate_from - self.first_index :]
        if effects.append and upto > 2:
            if not self.entries:
                self.first_index = effects.append[0].index
            assert effects.append[0].index == self.last_index + 1, "the core writes a gap"
            self.entries.extend(effects.append[:entries])
        if effects.drop_log_to is not None and upto > 3:
            gone = min(effects.drop_log_to - self.first_index + 1, len(self.entries))
            if gone > 0:
                del self.entries[:gone]
                self.first_index += gone


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
        on_failed_sync: "Callable[[SimNode], None]",
        contacts: tuple[PeerId, ...],
        counts: Counter[str],
    ) -> None:
        self.me = me
        self.scheduler = scheduler
        self.rng = rng
        self.config = config
        self.contacts = contacts
        self._send = send
        self._check = check
        self._on_failed_sync = on_failed_sync
        self.counts = counts
        self.disk = DiskImage(HardState(0, None), StoredSnapshot(SnapshotMeta(0, 0, voters), b"%010d" % 0))
        self.raft: Raft | None = None
        self.incarnation = 0
        self.sync_ms = 1.0
        self.fails_next_sync = False
        self.paused = False
        self.clock_offset_ms = 0.0
        self.clock_rate = 1.0
        self._waiting: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        """What happened to a paused process: it sees it when it goes on."""
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
            now_ms=self.now_ms(),
        )
        if not disk.is_whole:
            self.counts["start with a damaged log"] += 1
        if self.raft.log_was_dropped:
            self.counts["start drops a log that its snapshot replaces"] += 1
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
        """Lose memory, and of the unsynced writes keep a random part.

        The log is one file: a prefix of its writes stays, the last of them maybe torn. The hard state is another, which
        is written after the log of the same sync.
        """
        pending = list(self._queue)
        keep_log = self.rng.randint(0, len(pending))
        keep_state = self.rng.randint(0, keep_log)
        if pending:
            self.counts["crash with unsynced writes"] += 1
        for position, effects in enumerate(pending):
            if position < keep_log:
                self.disk.write_log(effects)
            elif position == keep_log:
                upto = self.rng.randint(0, 3)
                entries = self.rng.randint(0, max(0, len(effects.append) - 1))
                self.disk.write_log(effects, upto=upto, entries=entries)
                if upto or entries:
                    self.counts["crash that tears a write"] += 1
            if position < keep_state and effects.hard_state is not None:
                self.disk.hard_state = effects.hard_state
        self.raft = None
        self._queue.clear()
        self._syncing = 0
        self._receiving.clear()
        self._timer.cancel()
        self._waiting.clear()
        self.paused = self.fails_next_sync = False
        self.incarnation += 1

    def pause(self) -> None:
        """Stop running, like a process under SIGSTOP: what comes meanwhile waits."""
        self.paused = True

    def resume(self) -> None:
        """Go on, with the clock where it is by now: the timers are due first, or what came on the wire is."""
        if not self.paused:
            return
        self.paused = False
        waiting, self._waiting = self._waiting, []
        if self.rng.random() < 0.5:
            waiting.sort(key=lambda due: due[0] != self._tick)
        for call, args in waiting:
            self.scheduler.after(0, call, *args)

    def _must_wait(self, call: Callable[..., None], *args: Any) -> bool:
        """Whether the process is paused; then it makes this call when it goes on."""
        if self.paused:
            self._waiting.append((call, args))
        return self.paused

    # --- inputs

    def now_ms(self) -> int:
        """This node's clock: it runs at a rate of its own, and may have been set."""
        # The small part keeps a timer that is due from being a rounding error early, for ever.
        return int(self.scheduler.now_ms * self.clock_rate + self.clock_offset_ms + 1e-6)

    def set_clock(self, change_ms: float) -> None:
        """Jump. What is due by the new time is due now."""
        self.clock_offset_ms += change_ms
        self._timer.cancel()
        self._tick(self.incarnation)

    def receive(self, message: Message) -> None:
        if self.raft is not None and not self._must_wait(self.receive, message):
            self.raft.step(message, self.now_ms())
            self.drain()

    def meet(self, peer: PeerId) -> None:
        """A new connection with `peer` stands."""
        if self.raft is not None and not self._must_wait(self.meet, peer):
            self.raft.peer_alive(peer, self.now_ms())
            self.drain()

    def _tick(self, incarnation: int) -> None:
        if incarnation == self.incarnation and self.raft is not None and not self._must_wait(self._tick, incarnation):
            self.raft.tick(self.now_ms())
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
        drops = effects.drop_log_to is not None and self.rng.random() < 0.7
        if effects.synced is not None or effects.send_after_sync or drops:
            keeps_head = effects.drop_log_to is not None and not drops
            self._queue.append(replace(effects, drop_log_to=None) if keeps_head else effects)
            if effects.synced is None and len(self._queue) == 1:
                self._done(1)
            elif not self._syncing:
                self._sync()
        if len(self._files) > 1:
            in_use = self.raft.snapshots_in_use
            self._files = {index: file for index, file in self._files.items() if index in in_use}
        self._timer.cancel()
        if effects.deadline_ms is not None:
            wait_ms = (effects.deadline_ms - self.clock_offset_ms) / self.clock_rate - self.scheduler.now_ms
            self._timer = self.scheduler.after(wait_ms, self._tick, self.incarnation)
        self._check(self, effects)

    def _sync(self) -> None:
        """One sync thread: it takes everything queued when it starts."""
        self._syncing = len(self._queue)
        delay_ms = self.rng.expovariate(1 / self.sync_ms)
        self.scheduler.after(delay_ms, self._sync_done, self.incarnation, self._syncing)

    def _sync_done(self, incarnation: int, count: int) -> None:
        if incarnation != self.incarnation or self.raft is None:
            return
        if not self._must_wait(self._sync_done, incarnation, count) and not self._sync_fails():
            self._done(count)

    def _done(self, count: int) -> None:
        assert self.raft is not None
        done = [self._queue.popleft() for _ in range(count)]
        self._syncing = 0
        newest: Persisted | None = None
        for effects in done:
            self.disk.write(effects)
            newest = effects.synced or newest
        for effects in done:
            for message in effects.send_after_sync:
                if newest is None or message.term >= newest.term:
                    self._send(self.me, message.to, message)
        if self._queue:
            self._sync()
        if newest is not None:
            if newest.term != self.raft.term:
                self.counts["sync that ends in a newer term"] += 1
            self.raft.persisted(newest, self.now_ms())
            self.drain()

    def _sync_fails(self) -> bool:
        """A failed sync ends the process; what the disk holds of the unsynced writes is anybody's guess."""
        if not self.fails_next_sync:
            return False
        self.crash()
        self._on_failed_sync(self)
        return True

    def _receive_chunk(self, write: ChunkWrite) -> None:
        key = write.snapshot.last_index
        if write.offset == 0 and self._receiving:
            self.counts["snapshot transfer started over"] += 1
        so_far = b"" if write.offset == 0 else self._receiving.get(key, b"")
        assert len(so_far) == write.offset, "a chunk that does not follow the last one"
        self._receiving = {key: so_far + write.data}
        if write.complete:
            self.counts["snapshot received whole"] += 1
            self._store_later(StoredSnapshot(write.snapshot, self._receiving.pop(key)))

    def _store_later(self, snapshot: StoredSnapshot) -> None:
        delay_ms = min(3000.0, self.rng.expovariate(1 / (20 * self.sync_ms)))
        self.scheduler.after(delay_ms, self._stored, self.incarnation, snapshot)

    def _stored(self, incarnation: int, snapshot: StoredSnapshot) -> None:
        if incarnation != self.incarnation or self.raft is None:
            return
        if self._must_wait(self._stored, incarnation, snapshot) or self._sync_fails():
            return
        # A file per snapshot: an older one that finishes later is a file nobody reads.
        if snapshot.meta.last_index > self.disk.snapshot.meta.last_index:
            self.disk.snapshot = self._files[snapshot.meta.last_index] = snapshot
        self.raft.snapshot_stored(snapshot.meta, len(snapshot.data), self.now_ms())
        self.drain()
