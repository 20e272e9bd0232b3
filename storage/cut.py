"""A log loses batches: its tail to another leader, its head to time and size, all of it to a new beginning.

A cut begins only with every descriptor in hand that it needs: what was begun never ends for want of one.
"""

import contextlib
import os

from storage.append import AppendLog
from storage.compaction import CompactionState
from storage.config import LogConfig
from storage.durable import DELETED_SUFFIX, write_durable
from storage.epochs import EpochTable
from storage.errors import LogFailed, OffsetOutOfRange
from storage.fs import NO_SPACE, PASSING, FileSystem, remove_if_there
from storage.recovery import REFETCH_FILE, Recovered
from storage.retention import deletable
from storage.segment import Segment


class CutLog(AppendLog):
    """See the module."""

    def __init__(
        self, fs: FileSystem, directory: str, seed: int, config: LogConfig, recovered: Recovered, recovery_point: int
    ) -> None:
        super().__init__(fs, directory, seed, config, recovered, recovery_point)
        self._expiring: list[tuple[int, str]] = []

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
