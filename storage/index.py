"""The sparse index of one segment: from offset, position or time to a place near enough to walk from.

One table serves all three look-ups. An entry is a batch's base offset and position, and the largest timestamp from
there up to the next entry; a new one is made when `interval_bytes` have been written since the last, so a walk from an
entry passes at most the interval plus one batch. The file beside the segment is a cache: it carries a checksum and the
segment's size, and is rebuilt from the segment when it is missing or does not fit.
"""

import struct
import sys
from array import array
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import Final

from ottla.protocol.checksum import crc32c

NO_TIMESTAMP: Final = -1
_MAGIC: Final = b"OTIX\x00\x00\x00\x02"
_STRIDE: Final = 1024
_HEAD: Final = struct.Struct("<8sqqqqqq")


@dataclass(frozen=True, slots=True)
class SegmentSummary:
    """What must be known of a segment without reading it. `next_offset` is exclusive, times are in ms."""

    base_offset: int
    next_offset: int
    size_bytes: int
    max_timestamp: int
    first_append_ms: int


class SparseIndex:
    """Offsets and positions of some of a segment's batches in order, and the newest timestamp from each to the next."""

    __slots__ = ("_interval_bytes", "_newest", "_offsets", "_positions")

    def __init__(self, interval_bytes: int) -> None:
        self._interval_bytes = interval_bytes
        self._offsets = array("q")
        self._positions = array("q")
        self._newest = array("q")

    def __len__(self) -> int:
        return len(self._offsets)

    def add(self, base_offset: int, position: int, max_timestamp: int) -> None:
        """Told of every batch in order; keeps those that are far enough from the last kept one."""
        if not self._positions or position - self._positions[-1] >= self._interval_bytes:
            self._offsets.append(base_offset)
            self._positions.append(position)
            self._newest.append(max_timestamp)
        elif max_timestamp > self._newest[-1]:
            self._newest[-1] = max_timestamp

    def before_offset(self, offset: int) -> tuple[int, int] | None:
        """(base offset, position) of a batch that starts at or before the one that holds `offset`; None if empty."""
        at = bisect_right(self._offsets, offset) - 1
        return (self._offsets[at], self._positions[at]) if at >= 0 else None

    def before_position(self, position: int) -> tuple[int, int] | None:
        """(base offset, position) of the last known batch that starts at or before `position`; None if empty."""
        at = bisect_right(self._positions, position) - 1
        return (self._offsets[at], self._positions[at]) if at >= 0 else None

    def as_late(self, position: int, timestamp_ms: int) -> tuple[int, int | None] | None:
        """The first interval, from the one around `position` on, with a batch as late as `timestamp_ms` or later: where
        it begins, and where it ends (None: with the segment). None if there is none. Timestamps may be out of order."""
        newest = self._newest
        at = max(bisect_right(self._positions, position) - 1, 0)
        while at < len(newest):
            if max(newest[at : at + _STRIDE]) >= timestamp_ms:
                at = next(i for i in range(at, len(newest)) if newest[i] >= timestamp_ms)
                return self._positions[at], self._positions[at + 1] if at + 1 < len(newest) else None
            at += _STRIDE
        return None

    def newest_within(self, start: int, stop: int) -> tuple[int, int, int] | None:
        """(first entry at or after `start`, last entry at or before `stop`, the newest timestamp between the two), as
        positions; None unless there are two such entries."""
        first = bisect_left(self._positions, start)
        last = bisect_right(self._positions, stop) - 1
        if first >= last:
            return None
        return self._positions[first], self._positions[last], max(self._newest[first:last])

    def newest_before(self, position: int) -> tuple[int, int]:
        """(position of the last entry at or before `position`, largest timestamp of the segment before that entry)."""
        at = bisect_right(self._positions, position) - 1
        if at < 0:
            return 0, NO_TIMESTAMP
        return self._positions[at], max(self._newest[:at], default=NO_TIMESTAMP)

    def truncate_to(self, size_bytes: int, newest: int | None = None) -> None:
        """Forgets the batches that start at or after position `size_bytes`. `newest`: the largest timestamp that is
        left from the last entry on, if it is known; otherwise it may be that of a forgotten batch."""
        keep = bisect_left(self._positions, size_bytes)
        del self._offsets[keep:], self._positions[keep:], self._newest[keep:]
        if keep and newest is not None:
            self._newest[-1] = newest

    def encode(self, summary: SegmentSummary) -> bytes:
        """The index file's bytes; `decode` reads them. docs/storage-format.md has the layout."""
        s = summary
        head = _HEAD.pack(
            _MAGIC, s.base_offset, s.next_offset, s.size_bytes, s.max_timestamp, s.first_append_ms, len(self)
        )
        body = b"".join((head, *map(_little_endian, (self._offsets, self._positions, self._newest))))
        return body + struct.pack("<I", crc32c(body))

    @classmethod
    def decode(cls, data: bytes, interval_bytes: int) -> "tuple[SparseIndex, SegmentSummary] | None":
        """The index and the summary, or None if these are not the bytes of an index file."""
        if len(data) < _HEAD.size + 4 or crc32c(data[:-4]) != struct.unpack_from("<I", data, len(data) - 4)[0]:
            return None
        magic, base_offset, next_offset, size_bytes, max_timestamp, first_append_ms, count = _HEAD.unpack_from(data)
        if magic != _MAGIC or len(data) != _HEAD.size + 24 * count + 4:
            return None
        index = cls(interval_bytes)
        columns = (index._offsets, index._positions, index._newest)
        for number, column in enumerate(columns):
            start = _HEAD.size + number * 8 * count
            column.frombytes(data[start : start + 8 * count])
            if sys.byteorder == "big":
                column.byteswap()
        return index, SegmentSummary(base_offset, next_offset, size_bytes, max_timestamp, first_append_ms)


def _little_endian(column: "array[int]") -> bytes:
    if sys.byteorder == "big":
        column = array("q", column)
        column.byteswap()
    return column.tobytes()
