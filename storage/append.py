"""The open end of a log: what is in it, appends, rolls, reads, and what it says of itself on disk.

After a failed write or sync the log only serves reads until it is opened again: what the file holds is then unknown
(fsync-gate, KAFKA-10778). A full disk is not such a failure: the partial append is undone.
"""

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple, NoReturn

from ottla.protocol.batch import BatchHeader, CorruptBatch, stamp_batch
from ottla.protocol.checksum import crc32c
from ottla.protocol.payloads import KIND_FROM, sealed
from storage.config import LogConfig
from storage.errors import BatchTooLarge, InvariantError, LogDamaged, LogFailed, OffsetOutOfRange, refusal
from storage.fs import PASSING, Buffer, Directory, FileSystem
from storage.recovery import LogState, Recovered
from storage.segment import Segment, StoredBatch, checked_batches
from storage.segments import Found, OpenSegments, SegmentList, Slice
from storage.sync import Durability, note_failure


class AppendResult(NamedTuple):
    """Where the batches went: offsets inclusive, `size_bytes` as stored."""

    base_offset: int
    last_offset: int
    size_bytes: int


class AppendLog:
    """See the module. `storage.cut` takes away from it, `storage.log` opens it and does the long jobs on it."""

    def __init__(
        self, fs: FileSystem, directory: str, seed: int, config: LogConfig, recovered: Recovered, recovery_point: int
    ) -> None:
        self.directory = directory
        self.config = config
        self.recovery = recovered.report
        self.damaged_at = recovered.report.damaged_at
        self.damage = recovered.report.damage
        self.epochs = recovered.epochs
        self.log_start_offset = recovered.log_start_offset
        self.log_end_offset = recovered.segments[-1].next_offset
        self.failed: str | None = None
        self.refetching = False
        self.mixed = recovered.mixed
        """Whether there may be batches whose payload is not of Ottla's own kind. What is scanned at the next start says
        so itself, what lies before that `state` must say, as with epochs."""
        self._fs = fs
        self._seed = seed
        self._segments = SegmentList(recovered.segments, seed)
        self._beyond = recovered.beyond
        self._compaction = recovered.compaction
        self._durable = Durability(recovered.recovery_point, recovery_point)
        self._state_dirty = not recovered.report.clean
        self._new_files = recovered.fresh
        self._new_directory = not recovered.report.clean
        self._closed = False

    @property
    def synced_end_offset(self) -> int:
        """Everything below is durable (exclusive)."""
        return min(self._durable.end_offset, self.log_end_offset)

    @property
    def recovery_point(self) -> int:
        """What the owner is to remember and give to `open`: below it everything was synced. That is the synced end, but
        behind the log end while the log is damaged: forgotten, the damage would be a torn tail at the next start."""
        return self._durable.end_offset

    @property
    def size_bytes(self) -> int:
        return sum(segment.size_bytes for segment in self._segments)

    @property
    def segment_count(self) -> int:
        return len(self._segments)

    @property
    def first_offset(self) -> int:
        """Where the oldest segment begins: from there to the log start is what was trimmed and is still there."""
        return self._segments.base_offset

    @property
    def active_base_offset(self) -> int:
        """Where the segment begins that is appended to: another one after each roll."""
        return self._segments.active.base_offset

    # ---- append

    def append_as_leader(
        self, header: BatchHeader, payload: Buffer, payload_field: int, *, leader_epoch: int, now_ms: int
    ) -> AppendResult:
        """Appends one batch at the log end, with offset, epoch, size and both checksums stamped here.

        A non-zero `header.payload_crc` is checked against the payload, and so is the checksum of a Kafka batch. The
        payload is written as it is, not copied, but for the header of a Kafka batch, which says what `header` does.
        Raises CorruptBatch, BatchTooLarge, DiskFull, LogFailed, LogDamaged; nothing is appended then.
        """
        self._check_writable()
        if header.last_offset_delta < 0:
            raise CorruptBatch(f"last_offset_delta {header.last_offset_delta} is negative")
        latest = self.epochs.latest_epoch
        if latest is not None and leader_epoch < latest:
            raise InvariantError(f"append in epoch {leader_epoch}, but the log has seen epoch {latest}")
        base_offset = self.log_end_offset
        kept = header.attributes >> KIND_FROM
        if kept:
            head, rest, payload_crc = sealed(header, payload, base_offset, leader_epoch)
        else:
            head, rest, payload_crc = b"", memoryview(payload), crc32c(payload)
            if header.payload_crc not in (0, payload_crc):
                raise CorruptBatch("payload checksum does not match the payload")
        prefix = stamp_batch(header, self._seed, len(payload), payload_field, base_offset, leader_epoch, payload_crc)
        length = len(prefix) + len(payload)
        limited = len(payload) if kept else length  # Kafka's clients count their batch, not what is around it
        if limited > self.config.max_message_bytes:
            raise BatchTooLarge(f"batch of {limited} bytes; max.message.bytes is {self.config.max_message_bytes}")
        segment = self._segment_for(length, now_ms)
        self._write(segment, (prefix + head, rest))
        next_offset = base_offset + header.last_offset_delta + 1
        if leader_epoch != latest and self.epochs.assign(leader_epoch, base_offset):
            self._state_dirty = True
        if kept and not self.mixed:
            self.mixed = self._state_dirty = True
        segment.note(base_offset, next_offset, length, header.max_timestamp)
        self.log_end_offset = next_offset
        return AppendResult(base_offset, next_offset - 1, length)

    def append_as_follower(self, data: Buffer, *, leader_epoch: int, now_ms: int) -> list[BatchHeader]:
        """Appends whole stored batches as the leader has them, after checking every one of them; returns their headers.

        Offsets go on from the log end (gaps are legal: the leader's log may be compacted), epochs never go back and
        never beyond `leader_epoch`, the one in which the leader is followed.
        All or nothing: a slice is written at once, into one segment (which a slice above `segment_bytes` fills beyond
        it). Raises CorruptBatch, OffsetsOutOfOrder, DiskFull,
        LogFailed, LogDamaged.
        """
        self._check_writable()
        batches = checked_batches(data, self._seed, self.log_end_offset, self.epochs.latest_epoch, leader_epoch)
        if not batches:
            return []
        segment = self._segment_for(len(data), now_ms)
        self._write(segment, (data,))
        headers = [batch.header for batch in batches]
        for batch, header in zip(batches, headers, strict=True):
            if self.epochs.assign(header.leader_epoch, header.base_offset):
                self._state_dirty = True
            if header.attributes >> KIND_FROM and not self.mixed:
                self.mixed = self._state_dirty = True
            segment.note(header.base_offset, header.next_offset, batch.end - batch.start, header.max_timestamp)
        self.log_end_offset = segment.next_offset
        return headers

    def _segment_for(self, length: int, now_ms: int) -> Segment:
        """The active segment, rolled first if a batch of `length` bytes does not belong into it any more."""
        segment = self._segments.active
        if segment.size_bytes == 0:
            segment.first_append_ms = now_ms
        elif segment.size_bytes + length > self.config.segment_bytes or self._is_old(segment, now_ms):
            segment = self._roll()
            segment.first_append_ms = now_ms
        return segment

    def _is_old(self, segment: Segment, now_ms: int) -> bool:
        limit_ms = self.config.segment_ms
        if "compact" in self.config.cleanup_policy:
            limit_ms = min(limit_ms, self.config.max_compaction_lag_ms)
        return now_ms - segment.first_append_ms >= limit_ms

    def roll_if_needed(self, now_ms: int) -> bool:
        """Closes the active segment if its first batch is older than `segment_ms`; True if it did."""
        active = self._segments.active
        if self.failed is not None or self.damaged_at is not None or active.size_bytes == 0:
            return False
        if not self._is_old(active, now_ms):
            return False
        self._roll()
        return True

    def _roll(self) -> Segment:
        active = self._segments.active
        active.write_index()
        try:
            # Segments behind this one are scanned after a crash, those before are not: their epochs must be known.
            if self._state_dirty:
                self._write_state()
            interval_bytes = self.config.index_interval_bytes
            segment = self._segments.create(self._fs, self.directory, self.log_end_offset, interval_bytes)
        except OSError as error:
            self._refuse(error)
        self._segments.roll_to(segment)
        self._new_files = True
        return segment

    def _write(self, segment: Segment, buffers: Sequence[Buffer]) -> None:
        try:
            segment.file.write_at(segment.size_bytes, buffers)
        except OSError as error:
            try:
                segment.file.truncate(segment.size_bytes)
            except OSError as second:
                self._fail(second)
            self._refuse(error)

    def _refuse(self, error: OSError) -> NoReturn:
        """What passes refuses one operation; any other error means that the log no longer knows its files."""
        if error.errno in PASSING:
            raise refusal(self.directory, error) from error
        self._fail(error)

    def _fail(self, error: OSError) -> NoReturn:
        if self.failed is None:
            self.failed = str(error)
        note_failure(self._fs, self.directory)
        raise LogFailed(f"{self.directory} serves only reads after: {self.failed}") from error

    def _check_writable(self) -> None:
        if self._closed:
            raise LogFailed(f"{self.directory} is closed")
        if self.failed is not None:
            raise LogFailed(f"{self.directory} serves only reads after: {self.failed}")
        if self.damaged_at is not None:
            raise LogDamaged(f"{self.directory} is damaged at offset {self.damaged_at}: {self.damage}")

    # ---- read

    def read(self, offset: int, max_bytes: int, end_offset: int, *, min_one: bool, verify: bool = False) -> Slice:
        """Whole batches from the one that holds `offset` (or the next one) on, none that reaches `end_offset`.

        At most `max_bytes`, but with `min_one` the first batch whatever its size (KIP-74); somewhat less where the
        index knows a place to stop. Never crosses a segment. `verify`: every checksum, but those of bytes that this
        process wrote to the active segment; otherwise the first header's only. Raises OffsetOutOfRange outside
        [log start, log end], CorruptBatch, OSError.
        """
        if not self.log_start_offset <= offset <= self.log_end_offset:
            raise OffsetOutOfRange(offset, self.log_start_offset, self.log_end_offset)
        return self._segments.read(
            offset, max_bytes, min(end_offset, self.log_end_offset), min_one=min_one, verify=verify
        )

    def scan(self, start: int, end: int) -> Iterator[StoredBatch]:
        """Headers of the batches that hold offsets in [start, end), in order, read on demand. Raises CorruptBatch."""
        return self._segments.scan(start, end)

    def offset_for_time(self, timestamp_ms: int, end_offset: int, start: int = 0) -> Found | None:
        """The first batch from the one that holds `start` on, below `end_offset`, that has records and says it has one
        as late as `timestamp_ms` or later (ListOffsets).

        Batches carry their largest time, so only a look into the batch finds the record - or that it is one that lies
        below the log start: then the search goes on behind that batch. Timestamps may be out of
        order. Raises CorruptBatch, OSError.
        """
        return self._segments.offset_for_time(timestamp_ms, max(start, self.log_start_offset), end_offset)

    def max_timestamp(self, end_offset: int, start: int = 0) -> int:
        """The largest timestamp of a batch from the one that holds `start` on, below `end_offset`, in ms, -1: none.
        Raises CorruptBatch, OSError."""
        return self._segments.max_timestamp(max(start, self.log_start_offset), end_offset)

    # ---- its state on disk

    def _unsynced_directories(self) -> list[str]:
        """The directories in which something was made that is not durable, inner ones first."""
        found = [self.directory] if self._new_files or self._new_directory else []
        return [*found, os.path.dirname(self.directory)] if self._new_directory else found

    def _open_unsynced(self, held: contextlib.ExitStack) -> list[Directory]:
        """The directories that `_sync_directories` is to sync after a change in this one. Raises OSError."""
        paths = self._unsynced_directories() or [self.directory]
        return [held.enter_context(contextlib.closing(self._fs.open_dir(path))) for path in paths]

    def _sync_directories(self, directories: Sequence[Directory]) -> None:
        for directory in directories:
            directory.sync()
        self._new_files = self._new_directory = False

    def _try_write_state(self) -> None:
        """Writes the state where an older one is no lie, only a longer scan at the next start: not on a full disk."""
        try:
            self._write_state()
        except OSError as error:
            if error.errno not in PASSING:
                raise
            self._state_dirty = True

    def _write_state(self) -> None:
        state = LogState(self.log_start_offset, self._durable.recovery_limit, self.epochs, self._compaction, self.mixed)
        state.write(self._fs, self.directory)
        self._state_dirty = False

    def share_open_segments(self, open_segments: OpenSegments) -> None:
        """Bounds descriptors and indexes together with other logs of the same owner."""
        self._segments.share(open_segments)

    def update_config(self, config: LogConfig) -> None:
        """Takes a changed configuration; it holds from the next append, roll or retention on."""
        self.config = config
