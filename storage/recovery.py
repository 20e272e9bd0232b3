"""What a log does with the files it finds: trust, scan, cut a torn tail, or report damage.

Rules (protocol.md section 1, KAFKA-10101, FAST'18 "Protocol-aware recovery"):
- A clean marker vouches for the exact file sizes it names, and then nothing is scanned.
- Otherwise segments below the recovery point are trusted by their index files, the others are read as a whole.
- A bad or incomplete batch at or above the recovery point is a torn tail: cut, with everything after it.
- A bad batch below it is damage: nothing is cut, the log ends before it until its owner decides.
Every step can be cut short by a crash and run again.
"""

import errno
import os
import re
from dataclasses import dataclass
from typing import Any, Final

from ottla.protocol.payloads import KIND_FROM
from storage.compaction import CompactionState
from storage.config import LogConfig
from storage.durable import DELETED_SUFFIX, read_durable, write_durable
from storage.epochs import EpochTable
from storage.errors import CorruptBatch, CorruptFile
from storage.fs import FileSystem, remove_if_there
from storage.index import SegmentSummary
from storage.segment import CLEANED_SUFFIX, IncompleteBatch, Segment

STATE_FILE: Final = "state"
CLEAN_FILE: Final = "clean"
REFETCH_FILE: Final = "refetch"
"""There while the log lacks what it once had: written before damage is cut, removed by `Log.refetched`."""
_SEGMENT_NAME: Final = re.compile(r"([0-9]{20})\.log")


def mark_lost(fs: FileSystem, directory: str) -> None:
    """Before a log is made anew in the place of one whose directory is gone: it lacks what that one had acknowledged.
    Raises OSError."""
    fs.makedirs(directory)
    write_durable(fs, os.path.join(directory, REFETCH_FILE), {"from": 0})


@dataclass(frozen=True, slots=True)
class Recovery:
    """What opening a log found and did. `damaged_at` is the offset of the first bad batch below the recovery point;
    `damaged_bytes` is what there is from there on.
    """

    clean: bool
    scanned_bytes: int = 0
    truncated_bytes: int = 0
    damaged_at: int | None = None
    damage: str = ""
    damaged_bytes: int = 0


@dataclass(slots=True)
class LogState:
    """What a log keeps durably beside its segments.

    `recovery_limit`: recovery points above it are stale, because the log was truncated below them since (or None).
    `mixed`: there may be batches whose payload is not of Ottla's own kind.
    """

    log_start_offset: int
    recovery_limit: int | None
    epochs: EpochTable
    compaction: CompactionState
    mixed: bool = False

    def write(self, fs: FileSystem, directory: str) -> None:
        content: dict[str, Any] = {
            "log_start_offset": self.log_start_offset,
            "recovery_limit": self.recovery_limit,
            "epochs": self.epochs.entries(),
            "cleaned_end_offset": self.compaction.cleaned_end_offset,
            "tombstones_due_ms": self.compaction.tombstones_due_ms,
        }
        if self.mixed:
            content["mixed"] = True
        write_durable(fs, os.path.join(directory, STATE_FILE), content)

    @classmethod
    def read(cls, fs: FileSystem, directory: str) -> "LogState | None":
        """None if there is none, or it is damaged: then everything is scanned, and the epochs come from the batches."""
        try:
            content = read_durable(fs, os.path.join(directory, STATE_FILE))
        except CorruptFile:
            return None
        if content is None:
            return None
        epochs = EpochTable((int(epoch), int(start)) for epoch, start in content["epochs"])
        compaction = CompactionState(content["cleaned_end_offset"], content["tombstones_due_ms"])
        mixed = bool(content.get("mixed"))
        return cls(content["log_start_offset"], content["recovery_limit"], epochs, compaction, mixed)


@dataclass(slots=True)
class Recovered:
    """The pieces of an opened log. `beyond`: segment files that lie behind the damage and are kept untouched. `fresh`:
    there was nothing. What recovery changed in the directory is not synced; the log does that with its next state."""

    segments: list[Segment]
    epochs: EpochTable
    log_start_offset: int
    recovery_point: int
    report: Recovery
    beyond: list[str]
    compaction: CompactionState
    fresh: bool = False
    mixed: bool = False


def recover(
    fs: FileSystem,
    directory: str,
    seed: int,
    config: LogConfig,
    *,
    now_ms: int,
    recovery_point: int | None,
    log_start_offset: int | None,
    complete_is_damage: bool,
) -> Recovered:
    """Opens what is in `directory`, making it if needed. Raises OSError; bad content is reported, never raised."""
    # Not durable yet: a thousand new logs are not to cost a thousand syncs, and there is nothing in them to lose.
    fs.makedirs(directory, durable=False)
    if not fs.is_directory(directory):
        raise NotADirectoryError(errno.ENOTDIR, "a log is a directory, and this is a link", directory)
    names = fs.listdir(directory)
    for name in names:
        if name.endswith((DELETED_SUFFIX, CLEANED_SUFFIX, ".tmp")):
            fs.unlink(os.path.join(directory, name))
    bases = [int(match[1]) for name in names if (match := _SEGMENT_NAME.fullmatch(name))]
    clean = _clean_marker(fs, directory)
    state = LogState.read(fs, directory)
    if state is None and not bases and not recovery_point:
        start = log_start_offset or 0
        first = Segment.create(fs, directory, start, config.index_interval_bytes)
        return Recovered([first], EpochTable(), start, 0, Recovery(clean=False), [], CompactionState(), fresh=True)
    segments = [Segment(fs, directory, base, config.index_interval_bytes) for base in bases]
    if clean is not None and state is not None and _fits(fs, clean, segments):
        for segment, summary in zip(segments, clean, strict=True):
            segment.take_summary(summary)
        end = segments[-1].next_offset
        start = min(max(state.log_start_offset, log_start_offset or 0, segments[0].base_offset), end)
        # A marker that outlived its unlink can be older than the state: appends may have come and gone in between.
        _fit_epochs(state.epochs, start, end)
        return Recovered(
            segments, state.epochs, start, end, Recovery(clean=True), [], state.compaction, mixed=state.mixed
        )
    return _Scan(fs, directory, seed, config, now_ms, complete_is_damage).run(
        segments, state, recovery_point, log_start_offset
    )


class _Scan:
    """One recovery of a log that was not closed cleanly."""

    def __init__(
        self, fs: FileSystem, directory: str, seed: int, config: LogConfig, now_ms: int, complete_is_damage: bool
    ) -> None:
        self._fs = fs
        self._directory = directory
        self._seed = seed
        self._config = config
        self._now_ms = now_ms
        self._complete_is_damage = complete_is_damage
        self._scanned = 0
        self._truncated = 0
        self._epochs_cut = False
        self._mixed = False

    def run(
        self, found: list[Segment], state: LogState | None, recovery_point: int | None, log_start: int | None
    ) -> Recovered:
        point = recovery_point or 0
        start = state.log_start_offset if state is not None else (found[0].base_offset if found else 0)
        # A retention that was cut short leaves segments that lie wholly below the durable start.
        while len(found) > 1 and found[1].base_offset <= start:
            self._remove(found.pop(0))
        if state is not None and state.recovery_limit is not None:
            point = min(point, state.recovery_limit)
        # Without the state file the epochs have to come from the batches: then nothing is trusted.
        scan_from = 0
        if state is not None:
            scan_from = max((i for i, segment in enumerate(found) if segment.base_offset <= point), default=0)
        epochs = state.epochs if state is not None else EpochTable()
        kept, covered, broken = self._join(found, start, scan_from, epochs)
        expected = kept[-1].next_offset if kept else min(found[0].base_offset, start) if found else start
        if broken is None and expected < point:
            broken = CorruptBatch(f"{self._directory} ends at offset {expected}, below its recovery point {point}")
        damaged = broken is not None and (
            expected < point or (self._complete_is_damage and not isinstance(broken, IncompleteBatch))
        )
        beyond = found[len(kept) + len(covered) :]
        if broken is not None and not damaged:
            self._cut(kept[-1] if kept else None, beyond)
            beyond = []
        if not damaged:
            for segment in covered:
                self._remove(segment)
        if not damaged and kept and expected < start:
            # Everything below the durable start was trimmed, and nothing at or above it survived.
            for segment in reversed(kept):
                self._remove(segment)
            kept, expected = [], start
        if not kept:
            kept.append(Segment.create(self._fs, self._directory, expected, self._config.index_interval_bytes))

        end = kept[-1].next_offset
        start = min(max(start, log_start or 0, kept[0].base_offset), end)
        _fit_epochs(epochs, start, end)
        last = kept[-1]
        behind = last.file.size() - last.size_bytes + sum(segment.file.size() for segment in beyond)
        report = Recovery(
            clean=False,
            scanned_bytes=self._scanned,
            truncated_bytes=self._truncated,
            damaged_at=end if damaged else None,
            damage=str(broken) if damaged else "",
            damaged_bytes=behind if damaged else 0,
        )
        compaction = state.compaction if state is not None else CompactionState()
        # Damage keeps its recovery point: forgotten, the same bytes would be a torn tail at the next start.
        point = point if damaged else min(point, end)
        mixed = self._mixed or (state is not None and state.mixed)
        return Recovered(kept, epochs, start, point, report, [s.path for s in beyond], compaction, mixed=mixed)

    def _join(
        self, found: list[Segment], start: int, scan_from: int, epochs: EpochTable
    ) -> tuple[list[Segment], list[Segment], CorruptBatch | None]:
        """Loads segments as long as each goes on where the one before it ends, reading those from `scan_from` on.

        Returns the segments that do, those that another one covers, and what ended it before the last one's end.
        """
        kept: list[Segment] = []
        covered: list[Segment] = []
        for number, segment in enumerate(found):
            expected = kept[-1].next_offset if kept else min(segment.base_offset, start)
            if segment.base_offset < expected:
                # A compaction that was cut short: the segment before has replaced this one.
                covered.append(segment)
                continue
            if segment.base_offset > expected:
                return kept, covered, IncompleteBatch(f"{segment.path} should begin at offset {expected}")
            kept.append(segment)
            broken = self._load(segment) if number < scan_from else self._read(segment, epochs)
            if broken is not None:
                return kept, covered, broken
            if number < len(found) - 1:
                # A log of many segments must not open them all at once.
                if number >= scan_from:
                    segment.write_index()
                segment.release()
        return kept, covered, None

    def _load(self, segment: Segment) -> CorruptBatch | None:
        """A segment below the recovery point: believed by its index file, read as a whole only without one."""
        if segment.load_stored():
            return None
        return self._read(segment, None)

    def _read(self, segment: Segment, epochs: EpochTable | None) -> CorruptBatch | None:
        """Scans a segment into its index, and into `epochs`. Returns what stopped the scan before the file's end."""
        segment.start_over()
        file_bytes = segment.file.size()
        try:
            for _, batch in segment.scan(self._seed, file_bytes):
                header, length = batch.header, batch.end - batch.start
                self._scanned += length
                self._mixed = self._mixed or bool(header.attributes >> KIND_FROM)
                if header.base_offset < segment.next_offset:
                    raise CorruptBatch(f"{segment.path}: offset {header.base_offset} comes a second time")
                if epochs is not None:
                    if not self._epochs_cut:
                        # From here on the batches themselves say which epochs there are.
                        epochs.truncate_to(header.base_offset)
                        self._epochs_cut = True
                    latest = epochs.latest_epoch
                    if latest is not None and header.leader_epoch < latest:
                        raise CorruptBatch(f"{segment.path}: epoch {header.leader_epoch} comes after {latest}")
                    epochs.assign(header.leader_epoch, header.base_offset)
                if segment.size_bytes == 0:
                    segment.first_append_ms = min(self._now_ms, header.max_timestamp)
                segment.note(header.base_offset, header.next_offset, length, header.max_timestamp)
        except CorruptBatch as error:
            return error
        return None

    def _cut(self, last: Segment | None, behind: list[Segment]) -> None:
        # From the end backwards, so that a crash in between leaves a log that ends in a torn tail again.
        for segment in reversed(behind):
            self._truncated += self._fs.size(segment.path)
            self._remove(segment)
        if last is not None:
            self._truncated += last.file.size() - last.size_bytes
            last.cut_file(last.size_bytes)

    def _remove(self, segment: Segment) -> None:
        segment.close()
        remove_if_there(self._fs, segment.index_path)
        self._fs.unlink(segment.path)


def _fit_epochs(epochs: EpochTable, start: int, end: int) -> None:
    """An empty log keeps the epoch of what it once held (KAFKA-15608); any other knows only those it has batches of."""
    epochs.truncate_to(end if end > start else start + 1)
    epochs.advance_start(start)


def _clean_marker(fs: FileSystem, directory: str) -> list[SegmentSummary] | None:
    try:
        content = read_durable(fs, os.path.join(directory, CLEAN_FILE))
    except CorruptFile:
        return None
    return [SegmentSummary(*map(int, row)) for row in content["segments"]] if content is not None else None


def _fits(fs: FileSystem, clean: list[SegmentSummary], segments: list[Segment]) -> bool:
    """Whether the marker names exactly the files that are there. Then a marker that outlived its unlink is no lie:
    the bytes it names were synced before it was written, and a log that was truncated since has made the unlink
    durable first."""
    return len(clean) == len(segments) > 0 and all(
        summary.base_offset == segment.base_offset and summary.size_bytes == fs.size(segment.path)
        for summary, segment in zip(clean, segments, strict=True)
    )


def write_clean_marker(fs: FileSystem, directory: str, segments: list[Segment]) -> None:
    """Says that these files hold exactly what the summaries say, all of it synced."""
    rows: list[list[int]] = []
    for segment in segments:
        s = segment.summary
        rows.append([s.base_offset, s.next_offset, s.size_bytes, s.max_timestamp, s.first_append_ms])
    content: dict[str, Any] = {"segments": rows}
    write_durable(fs, os.path.join(directory, CLEAN_FILE), content)
