"""One segment: a file of batches, its sparse index, and walks over it. Decides nothing about offsets or durability."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from ottla.protocol.batch import (
    BATCH_TAG,
    EXTENT_BYTES,
    HEADER_BYTES,
    BatchAt,
    BatchHeader,
    CorruptBatch,
    check_header_crc,
    decode_header,
    read_batch,
    read_extent,
    read_varint,
)
from ottla.protocol.payloads import verify_batch
from storage.errors import OffsetsOutOfOrder
from storage.fs import Buffer, File, FileSystem, read_file, remove_if_there
from storage.index import NO_TIMESTAMP, SegmentSummary, SparseIndex

_WALK_BYTES: Final = 8192
_SCAN_BYTES: Final = 1024 * 1024
LOG_SUFFIX: Final = ".log"
INDEX_SUFFIX: Final = ".index"
CLEANED_SUFFIX: Final = ".cleaned"
TEMPORARY_SUFFIX: Final = ".tmp"


def segment_path(directory: str, base_offset: int) -> str:
    return os.path.join(directory, f"{base_offset:020d}{LOG_SUFFIX}")


@dataclass(frozen=True, slots=True)
class StoredBatch:
    """A batch's header and where it lies: byte position and length (tag and prefix included) in its segment file."""

    header: BatchHeader
    position: int
    length: int


class Segment:
    """Batches from `base_offset` up to `next_offset` (exclusive) in the first `size_bytes` bytes of a file.

    `own_from`: from this position on this process has written the bytes itself, or verified them when it started.
    """

    __slots__ = (
        "_file",
        "_fs",
        "_index",
        "_interval_bytes",
        "base_offset",
        "first_append_ms",
        "max_timestamp",
        "next_offset",
        "own_from",
        "path",
        "size_bytes",
    )

    def __init__(self, fs: FileSystem, directory: str, base_offset: int, interval_bytes: int) -> None:
        self.path = segment_path(directory, base_offset)
        self.base_offset = base_offset
        self.next_offset = base_offset
        self.size_bytes = 0
        self.max_timestamp = NO_TIMESTAMP
        self.first_append_ms = 0
        self.own_from = 0
        self._fs = fs
        self._interval_bytes = interval_bytes
        self._file: File | None = None
        self._index: SparseIndex | None = None

    @classmethod
    def create(
        cls, fs: FileSystem, directory: str, base_offset: int, interval_bytes: int, path: str | None = None
    ) -> "Segment":
        """A new empty segment, at `path` until it is renamed. Raises OSError; the directory is not synced here."""
        segment = cls(fs, directory, base_offset, interval_bytes)
        segment.path = path or segment.path
        segment._file = fs.open(segment.path, create=True)
        segment._index = SparseIndex(interval_bytes)
        return segment

    @classmethod
    def create_aside(cls, fs: FileSystem, directory: str, base_offset: int, interval_bytes: int) -> "Segment":
        """As `create`, under a name that the next start removes; `put_in_place` gives it its own. Raises OSError."""
        path = segment_path(directory, base_offset) + TEMPORARY_SUFFIX
        remove_if_there(fs, path)
        return cls.create(fs, directory, base_offset, interval_bytes, path)

    def put_in_place(self) -> None:
        """Takes its name, which no other file has. Raises OSError."""
        path = self.path.removesuffix(TEMPORARY_SUFFIX)
        self._fs.rename(self.path, path)
        self.path = path

    @property
    def file(self) -> File:
        if self._file is None:
            self._file = self._fs.open(self.path)
        return self._file

    @property
    def index_path(self) -> str:
        return self.path.removesuffix(LOG_SUFFIX) + INDEX_SUFFIX

    @property
    def index(self) -> SparseIndex:
        if self._index is None:
            self._index = self._stored_index() or self._rebuilt_index()
        return self._index

    @property
    def summary(self) -> SegmentSummary:
        return SegmentSummary(
            self.base_offset, self.next_offset, self.size_bytes, self.max_timestamp, self.first_append_ms
        )

    def take_summary(self, summary: SegmentSummary) -> None:
        """Trusts a summary that was stored for exactly this file; the index follows at the first read."""
        self.next_offset = summary.next_offset
        self.size_bytes = summary.size_bytes
        self.max_timestamp = summary.max_timestamp
        self.first_append_ms = summary.first_append_ms
        self.own_from = summary.size_bytes

    def load_stored(self) -> bool:
        """Takes summary and index from the index file if it fits the segment file; says whether it did."""
        self.size_bytes = self.file.size()
        stored = self._read_index_file()
        if stored is None:
            return False
        self._index = stored[0]
        self.take_summary(stored[1])
        return True

    def reader(self) -> "Segment":
        """The same segment over a handle of its own, for another thread. Raises OSError."""
        other = self.later_reader()
        other._file = self.file.dup()
        return other

    def later_reader(self) -> "Segment":
        """The same, opened by its name when it is first read: if that is another file by then, the owner notices."""
        other = Segment(self._fs, os.path.dirname(self.path), self.base_offset, self._interval_bytes)
        other.take_summary(self.summary)
        return other

    def note(self, base_offset: int, next_offset: int, length: int, max_timestamp: int) -> None:
        """Takes over a batch that was just written (or found) at the segment's end."""
        self.index.add(base_offset, self.size_bytes, max_timestamp)
        self.size_bytes += length
        self.next_offset = next_offset
        if max_timestamp > self.max_timestamp:
            self.max_timestamp = max_timestamp

    def start_over(self) -> None:
        """Forgets what is known about the file's content, for a scan from its beginning."""
        self.next_offset = self.base_offset
        self.size_bytes = 0
        self.max_timestamp = NO_TIMESTAMP
        self.first_append_ms = 0
        self.own_from = 0
        self._index = SparseIndex(self._interval_bytes)

    def position_of(self, offset: int) -> int:
        """Position of the first batch that ends after `offset`; the segment's size if there is none."""
        return self.place_of(offset)[0]

    def place_of(self, offset: int) -> tuple[int, int]:
        """(position, base offset) of the first batch that ends after `offset`; the segment's end if there is none.

        Reads nothing where the index knows the batch, and otherwise what lies between two entries, at most the index
        interval and a header.
        """
        if offset >= self.next_offset:
            return self.size_bytes, self.next_offset
        known = self.index.before_offset(offset)
        if known is not None and known[0] == offset:
            return known[1], offset
        start = 0 if known is None else known[1]
        for position, base_offset, next_offset, _ in self.walk(start, self._interval_bytes + EXTENT_BYTES):
            if next_offset > offset:
                return position, base_offset
        return self.size_bytes, self.next_offset

    def newest_between(self, start: int, end: int) -> int:
        """The largest timestamp of the batches that hold offsets from `start` on and end at or before `end`."""
        first, stop = self.position_of(start), self.position_of(end)
        known = self.index.newest_within(first, stop)
        gaps = [(first, stop)] if known is None else [(first, known[0]), (known[1], stop)]
        newest = NO_TIMESTAMP if known is None else known[2]
        for begin, limit in gaps:
            for batch in self.headers(begin) if begin < limit else ():
                if batch.position >= limit:
                    break
                newest = max(newest, batch.header.max_timestamp)
        return newest

    def walk(self, position: int, window_bytes: int = _WALK_BYTES) -> Iterator[tuple[int, int, int, int]]:
        """(position, base offset, next offset, length) of each batch from the one at `position` on.

        Reads at most `window_bytes` at a time. Raises CorruptBatch where no batch starts. No checksum is checked.
        """
        size, window = self.size_bytes, max(EXTENT_BYTES, min(window_bytes, _WALK_BYTES))
        data, start = b"", position
        while position < size:
            at = position - start
            if len(data) - at < EXTENT_BYTES and start + len(data) < size:
                data, start, at = self.file.pread(min(window, size - position), position), position, 0
            try:
                base_offset, next_offset, length = read_extent(data, at)
            except CorruptBatch as error:
                raise CorruptBatch(f"{self.path} at byte {position}: {error}") from None
            if position + length > size:
                raise CorruptBatch(f"{self.path} at byte {position}: the batch ends after the segment")
            yield position, base_offset, next_offset, length
            position += length

    def headers(self, position: int) -> Iterator[StoredBatch]:
        """The batches from the one at `position` on, with their whole headers; checks each header's shape."""
        for at, _, _, length in self.walk(position):
            head = self.file.pread(min(length, 11 + HEADER_BYTES), at)
            _, body = read_varint(head, 1)
            yield StoredBatch(decode_header(head, body), at, length)

    def scan(self, seed: int, file_bytes: int) -> Iterator[tuple[bytes, BatchAt]]:
        """(bytes, batch in them) of each whole batch in the file's first `file_bytes` bytes, both checksums verified.

        Ends at the end of the file. Raises IncompleteBatch where the bytes end inside a batch, CorruptBatch where they
        are no batch of this log. Holds one window (or one batch, if larger) in memory.
        """
        file = self.file
        data, start, position = b"", 0, 0
        while position < file_bytes:
            at = position - start
            batch = self._batch_in(data, at, seed) if at < len(data) and data[at] == BATCH_TAG else None
            if batch is None:
                # The header's own checksum was not seen yet: never let a damaged length decide how much is read.
                need = self._length_at(position, file_bytes, seed)
                if position + need > file_bytes:
                    raise IncompleteBatch(f"{self.path} ends inside the batch at byte {position}")
                data = file.pread(min(max(need, _SCAN_BYTES), file_bytes - position), position)
                start = position
                batch = self._batch_in(data, 0, seed)
                if batch is None:
                    raise IncompleteBatch(f"{self.path} ends inside the batch at byte {position}")
            yield data, batch
            position = start + batch.end

    def truncate_to(self, cut: int) -> None:
        """Removes the batches from position `cut` on, durably. Raises OSError, CorruptBatch."""
        at, newest = self.index.newest_before(cut - 1)
        next_offset, last = self.base_offset, NO_TIMESTAMP
        for batch in self.headers(at):
            if batch.position >= cut:
                break
            next_offset = batch.header.next_offset
            last = max(last, batch.header.max_timestamp)
        self.cut_file(cut)
        self.index.truncate_to(cut, last)
        self.size_bytes, self.next_offset, self.max_timestamp = cut, next_offset, max(newest, last)

    def end_at(self, size_bytes: int, next_offset: int) -> None:
        """Takes what lies behind a batch boundary for absent; the file stays as it is."""
        # The end first: an index that must be made anew is made of what lies before it, for the rest may be no batches.
        self.size_bytes, self.next_offset = size_bytes, next_offset
        self.index.truncate_to(size_bytes)

    def cut_file(self, size_bytes: int) -> None:
        """Makes the file that long at most, durably, and drops the stored index, which is not true any more."""
        remove_if_there(self._fs, self.index_path)
        if self.file.size() > size_bytes:
            self.file.truncate(size_bytes)
        # Without the sync, old bytes could come back behind new ones after a crash and pass for their continuation.
        self.file.sync()

    def write_again(self, position: int) -> None:
        """Puts the same bytes in the same place, from `position` on, so that the next sync writes them. Raises
        OSError."""
        for at in range(position, self.size_bytes, _SCAN_BYTES):
            self.file.write_at(at, [self.file.pread(min(_SCAN_BYTES, self.size_bytes - at), at)])

    def write_index(self) -> None:
        """Stores index and summary beside the segment: a cache, so it is neither synced nor needed."""
        data = self.index.encode(self.summary)
        try:
            remove_if_there(self._fs, self.index_path)
            file = self._fs.open(self.index_path, create=True)
            try:
                file.write_at(0, [data])
            finally:
                file.close()
        except OSError:
            with contextlib.suppress(OSError):
                self._fs.unlink(self.index_path)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def release(self) -> None:
        """Gives file and index back; the next read opens them again."""
        self.close()
        self._index = None

    def _stored_index(self) -> SparseIndex | None:
        stored = self._read_index_file()
        return stored[0] if stored is not None and stored[1] == self.summary else None

    def _read_index_file(self) -> tuple[SparseIndex, SegmentSummary] | None:
        try:
            stored = SparseIndex.decode(read_file(self._fs, self.index_path), self._interval_bytes)
        except OSError:
            return None
        if stored is None or stored[1].base_offset != self.base_offset or stored[1].size_bytes != self.size_bytes:
            return None
        return stored

    def _rebuilt_index(self) -> SparseIndex:
        index = SparseIndex(self._interval_bytes)
        for batch in self.headers(0):
            index.add(batch.header.base_offset, batch.position, batch.header.max_timestamp)
        return index

    def _batch_in(self, data: bytes, at: int, seed: int) -> BatchAt | None:
        try:
            batch = read_batch(data, at)
            if batch is not None:
                verify_batch(data, batch, seed)
        except CorruptBatch as error:
            raise CorruptBatch(f"{self.path}: {error}") from None
        return batch

    def _length_at(self, position: int, file_bytes: int, seed: int) -> int:
        head = self.file.pread(min(11 + HEADER_BYTES, file_bytes - position), position)
        if not head:
            raise IncompleteBatch(f"{self.path} ends at byte {position}, it should have {file_bytes}")
        if head[0] == 0 and self._only_zeros(position, file_bytes):
            raise IncompleteBatch(f"{self.path} holds only zeros from byte {position} on")
        try:
            _, _, length = read_extent(head, 0)
        except CorruptBatch as error:
            if len(head) < EXTENT_BYTES and head[0] == BATCH_TAG:
                raise IncompleteBatch(f"{self.path} ends inside the batch header at byte {position}") from None
            raise CorruptBatch(f"{self.path} at byte {position}: {error}") from None
        _, body = read_varint(head, 1)
        if len(head) - body >= HEADER_BYTES and not check_header_crc(head, body, seed):
            raise CorruptBatch(f"{self.path} at byte {position}: header checksum does not match")
        return length

    def _only_zeros(self, position: int, file_bytes: int) -> bool:
        while position < file_bytes:
            data = self.file.pread(min(_SCAN_BYTES, file_bytes - position), position)
            if data.strip(b"\0"):
                return False
            position += len(data)
        return True


def checked_batches(
    data: Buffer, seed: int, log_end: int, latest_epoch: int | None, leader_epoch: int
) -> list[BatchAt]:
    """The batches of a slice that is to continue a log which ends at `log_end`, everything about them checked.

    No log has an epoch above that of the leader it is from: a log that took one could never be appended to in the
    epochs that come before it.
    Raises CorruptBatch (shape, checksums, an incomplete batch), OffsetsOutOfOrder.
    """
    batches: list[BatchAt] = []
    at, expected, epoch = 0, log_end, latest_epoch
    while at < len(data):
        batch = read_batch(data, at)
        if batch is None:
            raise CorruptBatch(f"the slice ends inside the batch at byte {at}")
        verify_batch(data, batch, seed)
        header = batch.header
        if header.base_offset < expected:
            raise OffsetsOutOfOrder(f"batch at offset {header.base_offset}, but the log ends at {expected}")
        if epoch is not None and header.leader_epoch < epoch:
            raise OffsetsOutOfOrder(
                f"batch at offset {header.base_offset} has epoch {header.leader_epoch}, epoch {epoch} came before"
            )
        if header.leader_epoch > leader_epoch:
            raise OffsetsOutOfOrder(
                f"batch at offset {header.base_offset} has epoch {header.leader_epoch}, its leader leads {leader_epoch}"
            )
        batches.append(batch)
        at, expected, epoch = batch.end, header.next_offset, header.leader_epoch
    return batches


class IncompleteBatch(CorruptBatch):
    """The file ends before the batch does: what a torn write looks like."""
