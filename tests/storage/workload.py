"""A random life of a log beside a list that knows what must be in it: for the crash tests."""

import contextlib
import errno
import random
from dataclasses import dataclass

from crc32c import crc32c

from ottla.protocol.batch import PAYLOAD_RECORDS, BatchHeader, crc_seed, encode_batch, read_batch
from storage.config import LogConfig
from storage.errors import LogFailed
from storage.fs import FileSystem
from storage.log import Log
from tests.storage.forgetful import ForgetfulFileSystem

IDENTITY = bytes(range(16))
SEED = crc_seed(IDENTITY, 0)
CONFIG = LogConfig(segment_bytes=900, index_interval_bytes=150, retention_ms=-1, file_delete_delay_ms=0)

Batch = tuple[int, int, int, bytes]
"""(base offset, next offset, epoch, stored bytes)"""


@dataclass(frozen=True)
class Version:
    """What a log may hold: all its batches since `base` (trimmed ones too), and how much of that must be there."""

    base: int
    batches: tuple[Batch, ...]
    start: int
    floor: int

    @property
    def end(self) -> int:
        return self.batches[-1][1] if self.batches else self.base


def open_log(fs: FileSystem, checkpoint: int | None, config: LogConfig = CONFIG) -> Log:
    return Log.open(fs, "/data/log", IDENTITY, 0, config, now_ms=1000, recovery_point=checkpoint)


def batches_of(log: Log) -> list[Batch]:
    """Everything the log serves, read as a consumer does."""
    found: list[Batch] = []
    offset = log.log_start_offset
    while offset < log.log_end_offset:
        piece = log.read(offset, 500, log.log_end_offset, min_one=True)
        assert piece.data, f"no data at {offset}, the log ends at {log.log_end_offset}"
        at = 0
        while at < len(piece.data):
            batch = read_batch(piece.data, at)
            assert batch is not None
            header = batch.header
            found.append((header.base_offset, header.next_offset, header.leader_epoch, piece.data[at : batch.end]))
            at = batch.end
        assert found[-1][1] <= piece.next_offset, "compaction leaves gaps"
        offset = piece.next_offset
    return found


def mismatch(log: Log, version: Version) -> str | None:
    """Why the log is not what this version allows it to be after a crash; None if it is."""
    have, want = batches_of(log), list(version.batches)
    if log.damaged_at is not None:
        return f"damaged at {log.damaged_at}: {log.recovery.damage}"
    if log.log_end_offset < version.floor:
        return f"synced up to {version.floor}, but the log ends at {log.log_end_offset}"
    if log.log_start_offset > max(version.start, version.base):
        return f"starts at {log.log_start_offset}, was trimmed to {version.start}"
    if have:
        first = next((i for i, batch in enumerate(want) if batch[0] == have[0][0]), None)
        if first is None or want[first : first + len(have)] != have:
            return "batches differ from those that were appended"
        if not have[0][0] <= log.log_start_offset < have[0][1]:
            return "the log start is not in its first batch"
    elif log.log_start_offset != log.log_end_offset:
        return "no batches between start and end"
    ends = {version.base, version.start, *(batch[1] for batch in want)}
    # An empty log may also end at an earlier start, which was the durable one: what lies between was trimmed.
    if log.log_end_offset not in ends and (have or log.log_end_offset > version.start):
        return f"ends at {log.log_end_offset}, where nothing ended"
    epochs: list[tuple[int, int]] = []
    for base, _, epoch, _ in have:
        if not epochs or epochs[-1][0] != epoch:
            epochs.append((epoch, max(base, log.log_start_offset)))
    if have and log.epochs.entries() != epochs:
        return f"epoch table {log.epochs.entries()}, the batches say {epochs}"
    return None


class Life:
    """Runs `steps` random operations; after a crash `versions` says what the log may hold."""

    def __init__(self, fs: ForgetfulFileSystem, seed: int, steps: int) -> None:
        self._rng = random.Random(seed)
        self._fs = fs
        self._steps = steps
        self._epoch = 1
        self._serial = 0
        self.checkpoint: int | None = None
        self.now = Version(0, (), 0, 0)
        self.versions = [self.now]
        self.history: list[str] = []

    def run(self) -> Log:
        log = open_log(self._fs, self.checkpoint)
        for _ in range(self._steps):
            log = self._step(log)
        return log

    def _step(self, log: Log) -> Log:
        rng, now = self._rng, self.now
        kind = rng.choices(
            (
                *("leader", "follower", "sync", "failed sync", "checkpoint", "truncate", "trim", "retain", "reset"),
                *("reopen", "epoch"),
            ),
            (30, 15, 15, 3, 6, 6, 4, 4, 1, 3, 5),
        )[0]
        self.history.append(f"{kind} {now.start}..{now.end} floor {now.floor}")
        if kind == "leader":
            batch = self._batch(now.end)
            self._may_become(Version(now.base, (*now.batches, batch), now.start, now.floor))
            stored = read_batch(batch[3], 0)
            assert stored is not None
            field, payload = stored.payload(batch[3])
            log.append_as_leader(stored.header, payload, field, leader_epoch=self._epoch, now_ms=1000)
        elif kind == "follower":
            more = list[Batch]()
            for _ in range(rng.randint(1, 5)):
                self._epoch += rng.random() < 0.2
                more.append(self._batch(more[-1][1] if more else now.end))
            self._may_become(Version(now.base, (*now.batches, *more), now.start, now.floor))
            log.append_as_follower(b"".join(batch[3] for batch in more), leader_epoch=self._epoch, now_ms=1000)
        elif kind == "sync":
            ticket = log.begin_sync()
            if ticket is not None:
                ticket.run()
                log.complete_sync(ticket)
            self._may_become(Version(now.base, now.batches, now.start, log.synced_end_offset))
        elif kind == "failed sync":
            ticket = log.begin_sync()
            if ticket is not None and ticket.files:
                self._fs.fail("sync", errno.EIO)
                with contextlib.suppress(OSError):
                    ticket.run()
                with contextlib.suppress(LogFailed):
                    log.complete_sync(ticket)
                log = self._reopened(log)
            elif ticket is not None:
                ticket.run()
                log.complete_sync(ticket)
        elif kind == "checkpoint":
            self.checkpoint = log.synced_end_offset
        elif kind == "truncate":
            offset = rng.randint(now.start, max(now.start, now.end))
            kept = tuple(batch for batch in now.batches if batch[1] <= offset)
            end = kept[-1][1] if kept else now.base
            floor = min(now.floor, end)
            if end < now.start:
                # The cut went through the batch that holds the log start.
                self._may_become(Version(end, kept, end, floor), Version(now.base, now.batches, now.start, floor))
            else:
                self._may_become(
                    Version(now.base, kept, now.start, floor), Version(now.base, now.batches, now.start, floor)
                )
            log.truncate_to(offset)
            self._epoch += 1
            self.now = Version(self.now.base, kept, log.log_start_offset, floor)
        elif kind == "trim":
            offset = rng.randint(now.start, max(now.start, now.end))
            self._may_become(Version(now.base, now.batches, offset, now.floor))
            log.advance_log_start(offset)
        elif kind == "retain":
            log.apply_retention(1000, now.end)
            log.delete_expired_files(1000)
        elif kind == "reset":
            offset = rng.choice((now.start, now.end, now.end + rng.randint(1, 50)))
            self._may_become(Version(offset, (), offset, offset), Version(now.base, now.batches, now.start, 0))
            log.reset_to(offset)
        elif kind == "reopen":
            log = self._reopened(log, clean=rng.random() < 0.7)
        else:
            self._epoch += 1
        self.versions = [self.now]
        assert log.log_end_offset == self.now.end, kind
        return log

    def _reopened(self, log: Log, *, clean: bool = True) -> Log:
        now = self.now
        log.close(clean=clean)
        log = open_log(self._fs, self.checkpoint)
        assert log.log_end_offset == now.end
        # Opening an unclean log syncs what it finds.
        start = min(now.start, log.log_start_offset)
        self._may_become(Version(now.base, now.batches, start, now.end))
        return log

    def _may_become(self, then: Version, before: Version | None = None) -> None:
        self.versions = [before or self.now, then]
        self.now = then

    def _batch(self, base_offset: int) -> Batch:
        self._serial += 1
        count = self._rng.randint(1, 4)
        payload = b"%06d" % self._serial * self._rng.choice((1, 4, 20, 120, 250))
        header = BatchHeader(
            base_offset, self._epoch, count, count - 1, max_timestamp=self._serial, payload_crc=crc32c(payload)
        )
        data = b"".join(encode_batch(header, SEED, payload, PAYLOAD_RECORDS))
        return base_offset, base_offset + count, self._epoch, data
