"""The sparse index of one segment: from offset, position or time to a place near enough to walk from.

One table serves all three look-ups. An entry is a batch's (base offset, position, largest timestamp of the segment
before it); a new one is made when `interval_bytes` have been written since the last, so a walk from an entry passes at
most the interval plus one batch. The file beside the segment is a cache: it carries a checksum and the segment's size,
and is rebuilt from the segment when it is missing or does not fit.
"""

import struct
import sys
from array import array
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import Final

from crc32c import crc32c

NO_TIMESTAMP: Final = -1
_MAGIC: Final = b"OTIX\x00\x00\x00\x01"
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
    """Offsets, positions and running timestamps of some of a segment's batches, in order."""

    __slots__ = ("_interval_bytes", "_max_before", "_offsets", "_positions")

    def __init__(self, interval_bytes: int) -> None:
        self._interval_bytes = interval_bytes
        self._offsets = array("q")
        self._positions = array("q")
        self._max_before = array("q")

    def __len__(self) -> int:
        return len(self._offsets)

    def add(self, base_offset: int, position: int, max_timestamp_before: int) -> None:
        """Told of every batch in order; keeps those that are far enough from the last kept one."""
        if not self._positions or position - self._positions[-1] >= self._interval_bytes:
            self._offsets.append(base_offset)
            self._positions.append(position)
            self._max_before.append(max_timestamp_before)

    def position_before_offset(self, offset: int) -> int:
        """Position of a batch that starts at or before the one that holds `offset`."""
        at = bisect_right(self._offsets, offset) - 1
        return self._positions[at] if at >= 0 else 0

    def position_before(self, position: int) -> int:
        """The last known batch start at or before `position`."""
        at = bisect_right(self._positions, position) - 1
        return self._positions[at] if at >= 0 else 0

    def position_before_time(self, timestamp_ms: int) -> int:
        """Position before which every batch is older than `timestamp_ms`, even where timestamps are out of order."""
        at = bisect_left(self._max_before, timestamp_ms) - 1
        return self._positions[at] if at >= 0 else 0

    def newest_before(self, position: int) -> tuple[int, int]:
        """(position of an entry at or before `position`, largest timestamp of the segment before that entry)."""
        at = bisect_right(self._positions, position) - 1
        return (self._positions[at], self._max_before[at]) if at >= 0 else (0, NO_TIMESTAMP)

    def truncate_to(self, size_bytes: int) -> None:
        """Forgets the batches that start at or after position `size_bytes`."""
        keep = bisect_left(self._positions, size_bytes)
        del self._offsets[keep:], self._positions[keep:], self._max_before[keep:]

    def encode(self, summary: SegmentSummary) -> bytes:
        """The index file's bytes; `decode` reads them. docs/storage-format.md has the layout."""
        s = summary
        head = _HEAD.pack(
            _MAGIC, s.base_offset, s.next_offset, s.size_bytes, s.max_timestamp, s.first_append_ms, len(self)
        )
        body = b"".join((head, *map(_little_endian, (self._offsets, self._positions, self._max_before))))
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
        columns = (index._offsets, index._positions, index._max_before)
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
