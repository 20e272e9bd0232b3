"""The ordered segments of one log: look-ups over them, and a bound on how many keep file and index open."""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from ottla.protocol.batch import CorruptBatch, check_header_crc, read_varint
from storage.segment import Segment, StoredBatch

OPEN_CLOSED_MAX: Final = 8
"""How many segments behind the active one keep a descriptor and an index (24 bytes per 4 KiB of log) for readers."""

_BASE_OFFSET_AT: Final = 11  # in the header: after format and size, and the field's tag


@dataclass(frozen=True, slots=True)
class Slice:
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


class SegmentList:
    """At least one segment; each starts where the one before it ends, the last is the active one."""

    def __init__(self, segments: list[Segment], seed: int) -> None:
        self._segments = segments
        self._bases = [segment.base_offset for segment in segments]
        self._seed = seed
        self._open: dict[Segment, None] = {}

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
            self._open.pop(gone, None)
        return removed

    def remove_head(self, count: int) -> list[Segment]:
        """Takes the `count` oldest out and returns them."""
        removed = self._segments[:count]
        del self._segments[:count], self._bases[:count]
        for gone in removed:
            self._open.pop(gone, None)
        return removed

    def replace(self, old: list[Segment], new: Segment) -> None:
        """Puts `new` in the place of neighbours that it covers exactly."""
        at = self._segments.index(old[0])
        self._segments[at : at + len(old)] = [new]
        self._bases[at : at + len(old)] = [new.base_offset]
        for gone in old:
            self._open.pop(gone, None)
        self._note_use(new)

    def read(self, offset: int, max_bytes: int, end_offset: int, *, min_one: bool) -> Slice:
        """See `Log.read`; `offset` and `end_offset` are within the log."""
        at = max(bisect_right(self._bases, offset) - 1, 0)
        # A compacted segment can end in offsets that have no batch any more: then the next one goes on.
        for segment in self._segments[at:]:
            start = segment.position_of(offset)
            if start < segment.size_bytes:
                self._note_use(segment)
                return self._read_in(segment, start, offset, max_bytes, end_offset, min_one)
        return Slice(b"", offset, offset)

    def _read_in(
        self, segment: Segment, start: int, offset: int, max_bytes: int, end_offset: int, min_one: bool
    ) -> Slice:
        if end_offset >= segment.next_offset:
            stop, next_offset = segment.size_bytes, segment.next_offset
        else:
            stop = segment.position_of(end_offset)
            next_offset = min(end_offset, next(segment.walk(stop))[1])
        if stop <= start:
            return Slice(b"", offset, offset)
        if stop - start > max_bytes:
            _, _, first_next, first_length = next(segment.walk(start))
            if first_length > max_bytes:
                if not min_one:
                    return Slice(b"", offset, offset)
                stop, next_offset = start + first_length, first_next
            else:
                stop, next_offset = segment.batches_within(start, start + max_bytes)
        data = segment.file.pread(stop - start, start)
        _, body = read_varint(data, 1)
        if len(data) != stop - start or not check_header_crc(data, body, self._seed):
            raise CorruptBatch(f"{segment.path} at byte {start}: header checksum does not match")
        base_at = body + _BASE_OFFSET_AT
        base_offset = int.from_bytes(data[base_at : base_at + 8], "little")
        return Slice(data, base_offset, next_offset)

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
        """See `Log.offset_for_time`; nothing below `start` counts."""
        for segment in self.reaching_beyond(start):
            if segment.max_timestamp < timestamp_ms:
                continue
            self._note_use(segment)
            for batch in segment.headers(segment.index.position_before_time(timestamp_ms)):
                header = batch.header
                if header.base_offset >= end_offset:
                    return None
                if header.max_timestamp >= timestamp_ms and header.next_offset > start:
                    return Found(header.base_offset, header.base_timestamp, header.max_timestamp)
        return None

    def _note_use(self, segment: Segment) -> None:
        """Keeps closed segments from holding descriptors and indexes for ever: the least recently used one lets go."""
        if segment is self.active:
            return
        self._open.pop(segment, None)
        self._open[segment] = None
        if len(self._open) > OPEN_CLOSED_MAX:
            oldest = next(iter(self._open))
            del self._open[oldest]
            oldest.release()
