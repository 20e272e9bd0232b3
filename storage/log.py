"""One append-only log: a partition's, or the raft log.

Segments of batches with an epoch table over them. Everything here runs on one owner thread, except `SyncTicket.run`.
Offsets `*_end_offset` are exclusive. Appends and reads are in `storage.append`, cuts in `storage.cut`; here it is
opened and closed, and here are the jobs that run on another thread, each with its begin and its complete.
"""

import contextlib
import os

from ottla.protocol.batch import CorruptBatch, crc_seed
from storage.compaction import DEDUPE_BUFFER_BYTES, CompactionRun, plan, swap
from storage.config import LogConfig
from storage.cut import CutLog
from storage.durable import remove_directory
from storage.errors import InvariantError
from storage.fs import NO_DESCRIPTORS, FileSystem, remove_if_there
from storage.recovery import CLEAN_FILE, REFETCH_FILE, Recovered, recover, write_clean_marker
from storage.scrub import ScrubRun
from storage.sync import SyncTicket, failure_noted, forget_failure, note_failure


class Log(CutLog):
    """See the module. Made by `Log.open`."""

    def __init__(
        self, fs: FileSystem, directory: str, seed: int, config: LogConfig, recovered: Recovered, recovery_point: int
    ) -> None:
        super().__init__(fs, directory, seed, config, recovered, recovery_point)
        self._compacting: CompactionRun | None = None
        self._scrubbing: ScrubRun | None = None
        self._scrubbed_end = 0

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
        `log_start_offset`: the remembered start, if it is above the segments'; where a new log begins.
        `complete_is_damage`: a complete but bad batch is damage even above the recovery point - right for the raft log,
        and wherever the machine has not crashed. Raises OSError.
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
