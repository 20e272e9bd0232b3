"""One append-only log: a partition's, or the raft log.

Segments of batches with an epoch table over them. Everything here runs on one owner thread, except `SyncTicket.run`.
Offsets `*_end_offset` are exclusive. After a failed write or sync the log only serves reads until it is opened again:
what the file holds is then unknown (fsync-gate, KAFKA-10778). A full disk is not such a failure: the partial append is
undone.
"""

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple, NoReturn

from ottla.protocol.batch import BatchHeader, CorruptBatch, crc_seed, stamp_batch
from ottla.protocol.checksum import crc32c
from storage.compaction import DEDUPE_BUFFER_BYTES, CompactionRun, CompactionState, plan, swap
from storage.config import LogConfig
from storage.durable import DELETED_SUFFIX, remove_directory, write_durable
from storage.epochs import EpochTable
from storage.errors import BatchTooLarge, InvariantError, LogDamaged, LogFailed, OffsetOutOfRange, refusal
from storage.fs import NO_DESCRIPTORS, NO_SPACE, PASSING, Buffer, Directory, FileSystem, remove_if_there
from storage.recovery import CLEAN_FILE, REFETCH_FILE, LogState, Recovered, recover, write_clean_marker
from storage.retention import deletable
from storage.scrub import ScrubRun
from storage.segment import Segment, StoredBatch, checked_batches
from storage.segments import Found, OpenSegments, SegmentList, Slice
from storage.sync import Durability, SyncTicket, failure_noted, forget_failure, note_failure


class AppendResult(NamedTuple):
    """Where the batches went: offsets inclusive, `size_bytes` as stored."""

    base_offset: int
    last_offset: int
    size_bytes: int


class Log:
    """See the module. Made by `Log.open`."""

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
        self._fs = fs
        self._seed = seed
        self._segments = SegmentList(recovered.segments, seed)
        self._beyond = recovered.beyond
        self._compaction = recovered.compaction
        self._compacting: CompactionRun | None = None
        self._scrubbing: ScrubRun | None = None
        self._scrubbed_end = 0
        self._expiring: list[tuple[int, str]] = []
        self._durable = Durability(recovered.recovery_point, recovery_point)
        self._state_dirty = not recovered.report.clean
        self._new_files = recovered.fresh
        self._new_directory = not recovered.report.clean
        self._closed = False

    @classmethod
    def open(
        cls,
        fs: FileSystem,
        directory: str,
        identity: bytes,
        partition: int,
        config: LogConfig,
        *,
        now_ms: int,
        recovery_point: int | None = None,
        log_start_offset: int | None = None,
        complete_is_damage: bool = False,
    ) -> "Log":
        """Opens or makes the log in `directory`; recovery happens here and `log.recovery` says what it did.

        `identity` (topic id, or cluster id for the raft log) and `partition` seed the header checksums.
        `recovery_point`: everything below was synced, as remembered by the owner (None: nothing is known).
        `log_start_offset`: the remembered start, if it is above the segments'. `complete_is_damage`: a complete but
        bad batch is damage even above the recovery point - right for the raft log, and wherever the machine has not
        crashed. Raises OSError.
        """
        if len(identity) != 16:
            raise InvariantError(f"a log's identity has 16 bytes, not {len(identity)}")
        seed = crc_seed(identity, partition)
        recovered = recover(
            fs,
            directory,
            seed,
            config,
            now_ms=now_ms,
            recovery_point=recovery_point,
            log_start_offset=log_start_offset,
            complete_is_damage=complete_is_damage,
        )
        log = cls(fs, directory, seed, config, recovered, recovery_point or 0)
        remove_if_there(fs, os.path.join(directory, CLEAN_FILE))
        names = fs.listdir(directory)
        log.refetching = REFETCH_FILE in names
        if not recovered.report.clean and not recovered.fresh:
            log._make_found_durable(again=failure_noted(names))
            if log.damaged_at is None:
                log._durable.all_until(log.log_end_offset)
                log._try_write_state()
        return log

    def _make_found_durable(self, *, again: bool) -> None:
        """What a killed process wrote may still be only in the page cache: nothing that is found may count as durable
        before it is. `again`: a sync of it has failed, so that the next one saves only what is written anew."""
        try:
            for segment in self._segments.reaching_beyond(self.synced_end_offset):
                if again:
                    segment.write_again(segment.position_of(self.synced_end_offset))
                segment.file.sync()
                if segment is not self._segments.active:
                    segment.release()
            with contextlib.ExitStack() as held:
                self._sync_directories(self._open_unsynced(held))
            if again:
                forget_failure(self._fs, self.directory)
        except OSError as error:
            if error.errno not in NO_DESCRIPTORS:
                note_failure(self._fs, self.directory)
            raise

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
    def active_base_offset(self) -> int:
        """Where the segment begins that is appended to: another one after each roll."""
        return self._segments.active.base_offset

    # ---- append

    def append_as_leader(
        self, header: BatchHeader, payload: Buffer, payload_field: int, *, leader_epoch: int, now_ms: int
    ) -> AppendResult:
        """Appends one batch at the log end, with offset, epoch, size and both checksums stamped here.

        A non-zero `header.payload_crc` is checked against the payload. The payload is written as it is, not copied.
        Raises CorruptBatch, BatchTooLarge, DiskFull, LogFailed, LogDamaged; nothing is appended then.
        """
        self._check_writable()
        payload_crc = crc32c(payload)
        if header.payload_crc not in (0, payload_crc):
            raise CorruptBatch("payload checksum does not match the payload")
        if header.last_offset_delta < 0:
            raise CorruptBatch(f"last_offset_delta {header.last_offset_delta} is negative")
        latest = self.epochs.latest_epoch
        if latest is not None and leader_epoch < latest:
            raise InvariantError(f"append in epoch {leader_epoch}, but the log has seen epoch {latest}")
        base_offset = self.log_end_offset
        prefix = stamp_batch(header, self._seed, len(payload), payload_field, base_offset, leader_epoch, payload_crc)
        length = len(prefix) + len(payload)
        if length > self.config.max_message_bytes:
            raise BatchTooLarge(f"batch of {length} bytes; max.message.bytes is {self.config.max_message_bytes}")
        segment = self._segment_for(length, now_ms)
        self._write(segment, (prefix, payload))
        next_offset = base_offset + header.last_offset_delta + 1
        if leader_epoch != latest and self.epochs.assign(leader_epoch, base_offset):
            self._state_dirty = True
        segment.note(base_offset, next_offset, length, header.max_timestamp)
        self.log_end_offset = next_offset
        return AppendResult(base_offset, next_offset - 1, length)

    def append_as_follower(self, data: Buffer, *, now_ms: int) -> list[BatchHeader]:
        """Appends whole stored batches as the leader has them, after checking every one of them; returns their headers.

        Offsets go on from the log end (gaps are legal: the leader's log may be compacted) and epochs never go back.
        All or nothing: a slice is written at once, into one segment (which a slice above `segment_bytes` fills beyond
        it). Raises CorruptBatch, OffsetsOutOfOrder, DiskFull,
        LogFailed, LogDamaged.
        """
        self._check_writable()
        batches = checked_batches(data, self._seed, self.log_end_offset, self.epochs.latest_epoch)
        if not batches:
            return []
        segment = self._segment_for(len(data), now_ms)
        self._write(segment, (data,))
        headers = [batch.header for batch in batches]
        for batch, header in zip(batches, headers, strict=True):
            if self.epochs.assign(header.leader_epoch, header.base_offset):
                self._state_dirty = True
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

    # ---- cut, trim, reset

    # A cut begins only with every descriptor in hand that it needs: what was begun never ends for want of one.

    def truncate_to(self, offset: int) -> None:
        """Cuts the tail durably: afterwards no batch holds `offset` or a later one, and the log goes on at its end.

        An offset in the middle of a batch removes the batch; below the log start everything goes, and the log goes on
        at `offset`. At or below `damaged_at` this is also the owner's consent to drop the damaged bytes. Raises
        LogFailed, DiskFull.
        """
        self._check_truncatable()
        if offset < self.log_start_offset:
            self.reset_to(offset)
            return
        if offset >= self.log_end_offset and self.damaged_at is None:
            # An empty log may still name the epoch of what it once held: that, too, can be what diverges.
            self._state_dirty |= self.epochs.truncate_to(offset)
            return
        end = min(offset, self.log_end_offset)
        last = self._segments.containing(offset)
        epochs = EpochTable(self.epochs.entries())
        self._note_refetch()
        with contextlib.ExitStack() as held:
            try:
                cut = last.position_of(end)
                if cut < last.size_bytes:
                    end = min(end, next(last.walk(cut))[1])
                last.file.size()  # open from here on
                directories = self._open_unsynced(held)
            except OSError as error:
                self._refuse(error)
            try:
                epochs.truncate_to(end)
                # The cut may have moved below a start that lies inside its batch.
                self._forget_from(end, min(self.log_start_offset, end), epochs)
                # From the end backwards: a crash in between leaves a shorter log, never one with a hole.
                for path in reversed(self._beyond):
                    self._fs.unlink(path)
                self._beyond = []
                for segment in reversed(self._segments.remove_after(last)):
                    self._unlink(segment)
                last.truncate_to(cut)
                self._sync_directories(directories)
            except OSError as error:
                self._fail(error)
        self.damaged_at = None
        self.log_end_offset = last.next_offset

    def reset_to(self, offset: int, epoch: int | None = None) -> None:
        """Drops everything and goes on at `offset`, durably; `epoch` is that of the data before it, if it is known.

        Raises LogFailed, DiskFull.
        """
        self._check_truncatable()
        self._note_refetch()
        with contextlib.ExitStack() as held:
            try:
                directories = self._open_unsynced(held)
                empty = Segment.create_aside(self._fs, self.directory, offset, self.config.index_interval_bytes)
            except OSError as error:
                self._refuse(error)
            unused = held.enter_context(contextlib.ExitStack())
            unused.callback(empty.close)
            try:
                kept_end = min(offset, self._segments.base_offset)
                self._forget_from(kept_end, offset, EpochTable([(epoch, offset)] if epoch is not None else []))
                for path in reversed(self._beyond):
                    self._fs.unlink(path)
                self._beyond = []
                for segment in reversed(list(self._segments)):
                    self._unlink(segment)
                empty.put_in_place()
                self._segments.replace_all(empty)
                unused.pop_all()
                self._sync_directories(directories)
            except OSError as error:
                self._fail(error)
        self.damaged_at = None
        self.log_end_offset = offset
        self._durable.all_until(offset)

    def _note_refetch(self) -> None:
        """Before damage is cut: from now on this log may lack what it once had and acknowledged, and forgets that with
        the damage. That must outlive the process."""
        if self.damaged_at is None or self.refetching:
            return
        try:
            write_durable(self._fs, os.path.join(self.directory, REFETCH_FILE), {"from": self.damaged_at})
        except OSError as error:
            self._refuse(error)
        self.refetching = True

    def refetched(self) -> None:
        """The owner has everything again that was cut as damaged. Raises LogFailed, DiskFull."""
        try:
            remove_if_there(self._fs, os.path.join(self.directory, REFETCH_FILE))
        except OSError as error:
            self._refuse(error)
        self.refetching = False

    def _check_truncatable(self) -> None:
        if self.damaged_at is None:
            self._check_writable()
        elif self.failed is not None or self._closed:
            raise LogFailed(f"{self.directory} serves only reads after: {self.failed or 'close'}")

    def _forget_from(self, end: int, start: int, epochs: EpochTable) -> None:
        """Makes durable, before any byte goes, that the log starts at `start`, has these epochs, and that recovery
        points above `end` are not true any more. Raises OSError; DiskFull if nothing has changed."""
        before = (self.log_start_offset, self.epochs, self._compaction)
        self._durable.cut(end)
        self.log_start_offset, self.epochs = start, epochs
        if self._compaction.cleaned_end_offset > end:
            self._compaction = CompactionState(end, self._compaction.tombstones_due_ms)
        try:
            self._write_state()
        except OSError as error:
            if error.errno not in PASSING:
                raise
            self.log_start_offset, self.epochs, self._compaction = before
            self._refuse(error)

    def advance_log_start(self, offset: int) -> bool:
        """Trims the head logically: lower offsets are refused from now on, whole segments go with `apply_retention`.

        True if that is news. Raises OffsetOutOfRange above the log end.
        """
        if offset > self.log_end_offset:
            raise OffsetOutOfRange(offset, self.log_start_offset, self.log_end_offset)
        if offset <= self.log_start_offset:
            return False
        self.log_start_offset = offset
        self.epochs.advance_start(offset)
        self._state_dirty = True
        return True

    def apply_retention(self, now_ms: int, high_watermark: int, *, by_age: bool = True) -> int:
        """Deletes whole segments that are trimmed, too old or too much; returns how many. Raises LogFailed, DiskFull.

        Only below the high watermark, from the oldest on, stopping at the first that stays. The active segment goes
        only by age, by being rolled first (L5). Files are renamed now and unlinked by `delete_expired_files`.
        """
        if self.failed is not None or self.damaged_at is not None or self._closed:
            return 0
        segments = list(self._segments)
        count = deletable(
            segments,
            self.config,
            now_ms=now_ms,
            high_watermark=high_watermark,
            log_start_offset=self.log_start_offset,
            by_age=by_age,
        )
        if count == len(segments):
            self._roll()
        if count:
            self._drop_head(count, now_ms)
        return count

    def _drop_head(self, count: int, now_ms: int) -> None:
        dropped = list(self._segments)[:count]
        self.log_start_offset = max(self.log_start_offset, dropped[-1].next_offset)
        self.epochs.advance_start(self.log_start_offset)
        try:
            # Durable first: a crash may keep any of the renames, and then recovery knows which files are leftovers.
            try:
                self._write_state()
            except OSError as error:
                if error.errno not in NO_SPACE:
                    raise
                # A full disk must not keep its room from being made: the indexes of what goes are worth that much.
                for segment in dropped:
                    remove_if_there(self._fs, segment.index_path)
                self._write_state()
            for segment in dropped:
                segment.close()
                self._fs.rename(segment.path, segment.path + DELETED_SUFFIX)
                remove_if_there(self._fs, segment.index_path)
                self._expiring.append((now_ms + self.config.file_delete_delay_ms, segment.path + DELETED_SUFFIX))
        except OSError as error:
            self._refuse(error)
        self._segments.remove_head(count)

    def delete_expired_files(self, now_ms: int, *, at_once: bool = False) -> int:
        """Unlinks the files of deleted segments whose delay is over, `at_once` all; returns how many. Raises OSError.

        Nothing here reads a deleted segment by its name, so the delay is for whoever copies files; a full disk may
        not have the time.
        """
        due = [path for due_ms, path in self._expiring if at_once or due_ms <= now_ms]
        for path in due:
            remove_if_there(self._fs, path)
        self._expiring = [entry for entry in self._expiring if entry[1] not in due]
        return len(due)

    def _unlink(self, segment: Segment) -> None:
        segment.close()
        remove_if_there(self._fs, segment.index_path)
        self._fs.unlink(segment.path)

    # ---- compaction

    def begin_compaction(
        self, now_ms: int, high_watermark: int, dedupe_buffer_bytes: int = DEDUPE_BUFFER_BYTES
    ) -> CompactionRun | None:
        """A run to be given to another thread; None if there is nothing worth it, or another run is out.

        Nothing at or above the high watermark is touched. Raises OSError.
        """
        if self.failed is not None or self.damaged_at is not None or self._closed or self._compacting is not None:
            return None
        if "compact" not in self.config.cleanup_policy:
            return None
        self._compacting = plan(
            self._fs,
            self.directory,
            self._seed,
            self._segments.closed(),
            self.config,
            self._compaction,
            now_ms=now_ms,
            # What is not durable yet may be cut by a crash, and its replacement would not be.
            end_offset=min(high_watermark, self.synced_end_offset),
            dedupe_buffer_bytes=dedupe_buffer_bytes,
        )
        return self._compacting

    def complete_compaction(self, run: CompactionRun) -> int:
        """Puts the cleaned segments in place; returns by how many bytes the log shrank.

        A run that failed, or whose segments were cut meanwhile, changes nothing. Raises CorruptBatch (the run found
        rot), OutOfDescriptors (nothing has changed), LogFailed.
        """
        if run is not self._compacting:
            raise InvariantError("this compaction was not the one that is out")
        self._compacting = None
        stands = run.still_stands(self._segments.closed())
        if not run.done or not stands or self._closed or self.failed is not None:
            run.discard()
            if isinstance(run.error, CorruptBatch) and stands:
                raise run.error
            return 0
        before = self.size_bytes
        try:
            directory = self._fs.open_dir(self.directory)
        except OSError as error:
            run.discard()
            self._refuse(error)
        try:
            if run.groups:
                swap(self._fs, directory, run.groups)
            for group in run.groups:
                self._segments.replace(group.old, group.new)
                group.new.write_index()
            self._compaction = run.after
            self._try_write_state()
        except OSError as error:
            self._fail(error)
        finally:
            directory.close()
        return before - self.size_bytes

    # ---- scrub

    def begin_scrub(self, suspect: int | None = None) -> ScrubRun | None:
        """The next closed segment to verify on another thread, in turn, or that of the offset `suspect`, which is
        closed for it; None if there is none, or one is out. Raises OSError, LogFailed, DiskFull.
        """
        if self._scrubbing is not None or self._closed or self.damaged_at is not None:
            return None
        if suspect is not None:
            found = self._segments.reaching_beyond(suspect)
            if found and found[0] is self._segments.active:
                self._check_writable()
                self._roll()
            segment = found[0] if found else None
        else:
            closed = self._segments.closed()
            segment = next((s for s in closed if s.base_offset >= self._scrubbed_end), closed[0] if closed else None)
        if segment is None:
            return None
        self._scrubbing = ScrubRun(segment, segment.reader(), segment.summary, self._seed)
        return self._scrubbing

    def complete_scrub(self, run: ScrubRun, *, mark: bool = True) -> bool:
        """Takes a run back; True if it found rot. Without `mark` that is all, and the rest of the log is served on.

        Otherwise `damaged_at` is set and the log ends there, as after a start that finds damage: nothing behind it is
        served, appends are refused, its bytes stay. A replica that has a leader cuts there (`truncate_to`) and fetches
        the rest again; a leader has to give up leading.
        """
        if run is not self._scrubbing:
            raise InvariantError("this scrub was not the one that is out")
        self._scrubbing = None
        self._scrubbed_end = run.summary.next_offset
        segment = run.segment
        if run.damaged_at is None or segment not in self._segments.closed() or segment.summary != run.summary:
            return False
        if not mark:
            return True
        for behind in self._segments.remove_after(segment):
            behind.release()
            self._beyond.append(behind.path)
        segment.end_at(run.good_bytes, run.damaged_at)
        # Without its index file the segment is read as a whole at the next start, which finds the damage again.
        with contextlib.suppress(OSError):
            remove_if_there(self._fs, segment.index_path)
        self.damaged_at, self.damage = run.damaged_at, run.damage
        self.log_start_offset = min(self.log_start_offset, run.damaged_at)
        self.epochs.truncate_to(run.damaged_at)
        self.log_end_offset = run.damaged_at
        return True

    # ---- durability

    def begin_sync(self) -> SyncTicket | None:
        """A ticket for everything appended so far; None if all is durable or another ticket is still out."""
        self._check_writable()
        if self._durable.in_flight or (self.synced_end_offset == self.log_end_offset and not self._new_files):
            return None
        ticket = SyncTicket(self.log_end_offset, [], self._fs, self.directory, self._unsynced_directories())
        try:
            for segment in self._segments.reaching_beyond(self.synced_end_offset):
                ticket.files.append(segment.file.dup())
        except OSError as error:
            ticket.release()
            self._refuse(error)
        self._new_files = self._new_directory = False
        return self._durable.begin(ticket)

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

    def complete_sync(self, ticket: SyncTicket) -> int:
        """Takes a ticket back after `run`: returns the new `synced_end_offset`. Raises LogFailed if the sync failed,
        Refused if it could not be made: begin another one."""
        try:
            if self._durable.complete(ticket) and self.failed is None:
                self._try_write_state()
        except OSError as error:
            if error.errno in NO_DESCRIPTORS:
                # A directory could not be opened: what was new in it still is.
                self._new_files, self._new_directory = True, self._new_directory or len(ticket.directories) > 1
                self._refuse(error)
            self._fail(error)
        return self.synced_end_offset

    def _try_write_state(self) -> None:
        """Writes the state where an older one is no lie, only a longer scan at the next start: not on a full disk."""
        try:
            self._write_state()
        except OSError as error:
            if error.errno not in PASSING:
                raise
            self._state_dirty = True

    def _write_state(self) -> None:
        state = LogState(self.log_start_offset, self._durable.recovery_limit, self.epochs, self._compaction)
        state.write(self._fs, self.directory)
        self._state_dirty = False

    def share_open_segments(self, open_segments: OpenSegments) -> None:
        """Bounds descriptors and indexes together with other logs of the same owner."""
        self._segments.share(open_segments)

    def update_config(self, config: LogConfig) -> None:
        """Takes a changed configuration; it holds from the next append, roll or retention on."""
        self.config = config

    def close(self, clean: bool = True) -> None:
        """Closes all files. With `clean` everything is synced first, and only then the clean marker is written, so that
        the next open scans nothing. A failed or damaged log never gets the marker. Raises LogFailed."""
        if self._closed:
            return
        try:
            if clean and self.failed is None and self.damaged_at is None:
                for segment in self._segments.reaching_beyond(self.synced_end_offset):
                    segment.file.sync()
                self._durable.all_until(self.log_end_offset)
                self._segments.active.write_index()
                if self._state_dirty:
                    self._write_state()
                if self._new_directory:
                    with contextlib.ExitStack() as held:
                        self._sync_directories(self._open_unsynced(held))
                write_clean_marker(self._fs, self.directory, list(self._segments))
        except OSError as error:
            self._fail(error)
        finally:
            self._closed = True
            self._segments.close()

    def delete(self) -> None:
        """Removes the log, renamed first so that no crash leaves half of it under its name. Raises OSError."""
        self.close(clean=False)
        remove_directory(self._fs, self.directory)
