"""The ordered segments of one log: look-ups over them, and a bound on how many keep file and index open."""

import contextlib
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from ottla.protocol.batch import EXTENT_BYTES, CorruptBatch, check_header_crc, read_extent, read_varint
from ottla.protocol.payloads import verify_slice
from storage.fs import NO_DESCRIPTORS, FileSystem
from storage.index import NO_TIMESTAMP
from storage.segment import Segment, StoredBatch

OPEN_CLOSED_MAX: Final = 8
"""How many closed segments of a log that shares with nobody keep a descriptor and an index for readers."""

_BASE_OFFSET_AT: Final = 11  # in the header: after format and size, and the field's tag


class Slice(NamedTuple):
    """Whole stored batches, or none: `base_offset` is the first one's, `next_offset` is where to read on."""

    data: bytes
    base_offset: int
    next_offset: int


@dataclass(frozen=True, slots=True)
class Found:
    """What a time look-up found: the first batch with a late enough record. Times in ms."""

    base_offset: int
    base_timestamp: int
    max_timestamp: int


class OpenSegments:
    """The closed segments that hold a descriptor and an index (24 bytes per `index.interval.bytes` of log): when there
    are more than `limit`, the least recently used one lets go. Logs of one owner's thread may share it."""

    def __init__(self, limit: int = OPEN_CLOSED_MAX) -> None:
        self._limit = limit
        self._used: dict[Segment, None] = {}

    def __len__(self) -> int:
        return len(self._used)

    def use(self, segment: Segment) -> None:
        self._used.pop(segment, None)
        self._used[segment] = None
        if len(self._used) > self._limit:
            oldest = next(iter(self._used))
            del self._used[oldest]
            oldest.release()

    def let_go(self) -> bool:
        """All of them let go: the process has no descriptor left. Whether there were any."""
        had, self._used = self._used, {}
        for segment in had:
            segment.release()
        return bool(had)

    def forget(self, segment: Segment) -> None:
        """It is closed, gone or active again: whoever says so looks after its files."""
        self._used.pop(segment, None)


class SegmentList:
    """At least one segment; each starts where the one before it ends, the last is the active one."""

    def __init__(self, segments: list[Segment], seed: int) -> None:
        self._segments = segments
        self._bases = [segment.base_offset for segment in segments]
        self._seed = seed
        self._open = OpenSegments()

    def __len__(self) -> int:
        return len(self._segments)

    def __iter__(self) -> Iterator[Segment]:
        return iter(self._segments)

    @property
    def active(self) -> Segment:
        return self._segments[-1]

    @property
    def base_offset(self) -> int:
        return self._bases[0]

    def closed(self) -> list[Segment]:
        """All but the active one."""
        return self._segments[:-1]

    def create(self, fs: FileSystem, directory: str, base_offset: int, interval_bytes: int) -> Segment:
        """A file for the next segment. Raises OSError."""
        try:
            return Segment.create(fs, directory, base_offset, interval_bytes)
        except OSError as error:
            # Descriptors that only readers have are worth less than appends.
            if error.errno not in NO_DESCRIPTORS or not self._open.let_go():
                raise
        return Segment.create(fs, directory, base_offset, interval_bytes)

    def roll_to(self, segment: Segment) -> None:
        """Makes `segment` the active one."""
        before = self.active
        self._segments.append(segment)
        self._bases.append(segment.base_offset)
        self._note_use(before)

    def containing(self, offset: int) -> Segment:
        """The segment `offset` falls into; the first or the last one if it lies outside."""
        return self._segments[max(bisect_right(self._bases, offset) - 1, 0)]

    def reaching_beyond(self, offset: int) -> list[Segment]:
        """Those with batches at or above `offset`."""
        at = max(bisect_right(self._bases, offset) - 1, 0)
        return [segment for segment in self._segments[at:] if segment.next_offset > offset]

    def remove_after(self, segment: Segment) -> list[Segment]:
        """Takes the segments behind `segment` out and returns them; that one is the active one now."""
        at = self._segments.index(segment) + 1
        removed = self._segments[at:]
        del self._segments[at:], self._bases[at:]
        for gone in (*removed, segment):
            self._open.forget(gone)
        return removed

    def remove_head(self, count: int) -> list[Segment]:
        """Takes the `count` oldest out and returns them."""
        removed = self._segments[:count]
        del self._segments[:count], self._bases[:count]
        for gone in removed:
            self._open.forget(gone)
        return removed

    def replace_all(self, new: Segment) -> None:
        """Puts one segment in the place of all."""
        for gone in self._segments:
            self._open.forget(gone)
        self._segments[:] = [new]
        self._bases[:] = [new.base_offset]

    def replace(self, old: list[Segment], new: Segment) -> None:
        """Puts `new` in the place of neighbours that it covers exactly."""
        at = self._segments.index(old[0])
        self._segments[at : at + len(old)] = [new]
        self._bases[at : at + len(old)] = [new.base_offset]
        for gone in old:
            self._open.forget(gone)
        self._note_use(new)

    def read(self, offset: int, max_bytes: int, end_offset: int, *, min_one: bool, verify: bool) -> Slice:
        """See `Log.read`; `offset` and `end_offset` are within the log."""
        at = max(bisect_right(self._bases, offset) - 1, 0)
        # A compacted segment can end in offsets that have no batch any more: then the next one goes on.
        for segment in self._segments[at:]:
            start = segment.position_of(offset)
            if start < segment.size_bytes:
                self._note_use(segment)
                return self._read_in(segment, start, offset, max_bytes, end_offset, min_one, verify)
        return Slice(b"", offset, offset)

    def _read_in(
        self,
        segment: Segment,
        start: int,
        offset: int,
        max_bytes: int,
        end_offset: int,
        min_one: bool,
        verify: bool,
    ) -> Slice:
        stop, next_offset = self._stop(segment, start + max_bytes, end_offset)
        if stop <= start:
            return Slice(b"", offset, offset)
        data = b""
        if stop - start > max_bytes:
            # Stop where the index knows a batch to start: that costs no look into the file.
            known = segment.index.before_position(start + max_bytes)
            if known is not None and known[1] > start:
                next_offset, stop = known
            else:
                data, next_offset = self._read_few(segment, start, max_bytes, min_one=min_one)
                if not data:
                    return Slice(b"", offset, offset)
                stop = start + len(data)
        data = data or segment.file.pread(stop - start, start)
        if len(data) != stop - start:
            raise CorruptBatch(f"{segment.path} ends at byte {start + len(data)}, it should have {segment.size_bytes}")
        _, body = read_varint(data, 1)
        try:
            if verify and (segment is not self.active or start < segment.own_from):
                verify_slice(data, self._seed)
            elif not check_header_crc(data, body, self._seed):
                raise CorruptBatch("header checksum does not match")
        except CorruptBatch as error:
            raise CorruptBatch(f"{segment.path}, read from byte {start}: {error}") from None
        base_at = body + _BASE_OFFSET_AT
        base_offset = int.from_bytes(data[base_at : base_at + 8], "little")
        return Slice(data, base_offset, next_offset)

    @staticmethod
    def _read_few(segment: Segment, start: int, max_bytes: int, *, min_one: bool) -> tuple[bytes, int]:
        """As many batches as fit, or the first one with `min_one`, and the offset to go on from."""
        _, _, after, length = next(segment.walk(start, EXTENT_BYTES))
        if length > max_bytes:
            return (segment.file.pread(length, start), after) if min_one else (b"", start)
        data = segment.file.pread(max_bytes, start)
        size, next_offset = length, after
        while True:
            try:
                _, after, length = read_extent(data, size)
            except CorruptBatch:
                break  # the limit lies inside of the next header
            if size + length > max_bytes:
                break
            size, next_offset = size + length, after
        return data[:size], next_offset

    @staticmethod
    def _stop(segment: Segment, limit: int, end_offset: int) -> tuple[int, int]:
        """Where a read ends at the latest, as position and offset; exact only where that lies before `limit`."""
        if end_offset >= segment.next_offset:
            return segment.size_bytes, segment.next_offset
        known = segment.index.before_offset(end_offset)
        if known is not None and known[1] > limit:
            return known[1], known[0]
        stop, base_offset = segment.place_of(end_offset)
        return stop, min(end_offset, base_offset)

    def scan(self, start: int, end: int) -> Iterator[StoredBatch]:
        """See `Log.scan`."""
        for segment in self.reaching_beyond(start):
            if segment.base_offset >= end:
                return
            self._note_use(segment)
            for batch in segment.headers(segment.position_of(start)):
                if batch.header.base_offset >= end:
                    return
                yield batch

    def offset_for_time(self, timestamp_ms: int, start: int, end_offset: int) -> Found | None:
        """See `Log.offset_for_time`; nothing below `start` counts. Reads at most two index intervals of one segment."""
        for segment in self.reaching_beyond(start):
            if segment.max_timestamp < timestamp_ms:
                continue
            self._note_use(segment)
            position = segment.position_of(start)
            while (interval := segment.index.as_late(position, timestamp_ms)) is not None:
                begin, stop = interval
                for batch in segment.headers(max(begin, position)):
                    header = batch.header
                    if header.base_offset >= end_offset:
                        return None
                    if stop is not None and batch.position >= stop:
                        break
                    if header.max_timestamp >= timestamp_ms and header.record_count:
                        return Found(header.base_offset, header.base_timestamp, header.max_timestamp)
                if stop is None:
                    break
                # The one that is late enough was trimmed: it lies before `start` in the same interval.
                position = stop
        return None

    def max_timestamp(self, start: int, end_offset: int) -> int:
        """See `Log.max_timestamp`; nothing below `start` counts."""
        newest = NO_TIMESTAMP
        for segment in self.reaching_beyond(start):
            if segment.base_offset >= end_offset:
                break
            if segment.max_timestamp <= newest:
                continue
            if segment.base_offset < start or segment.next_offset > end_offset:
                self._note_use(segment)
                newest = max(newest, segment.newest_between(start, end_offset))
            else:
                newest = segment.max_timestamp
        return newest

    def share(self, open_segments: OpenSegments) -> None:
        """From now on closed segments count among others' too."""
        for segment in self.closed():
            self._open.forget(segment)
            segment.release()
        self._open = open_segments

    def close(self) -> None:
        """Closes all files."""
        for segment in self._segments:
            self._open.forget(segment)
            with contextlib.suppress(OSError):
                segment.close()

    def _note_use(self, segment: Segment) -> None:
        if segment is not self.active:
            self._open.use(segment)
