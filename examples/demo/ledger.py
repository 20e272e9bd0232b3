"""The demo's bookkeeping: what was sent, acknowledged and read, and what follows from that. No I/O, no clock."""

import zlib
from array import array
from dataclasses import dataclass
from typing import Final

_NEVER: Final = -1
# What is shorter is not kept: there may be one for each event.
_PAUSE_MIN_S: Final = 0.005


@dataclass(frozen=True)
class Verdict:
    """What the demo ends with. `ok` only if every acknowledged event was read unchanged, once, in order."""

    sent: int
    acknowledged: int
    read: int
    lost: int
    duplicated: int
    changed: int
    misplaced: int
    out_of_order: int

    @property
    def ok(self) -> bool:
        return (
            self.acknowledged == self.sent > 0
            and not self.lost
            and not self.duplicated
            and not self.changed
            and not self.misplaced
            and not self.out_of_order
        )


class Ledger:
    """Events 0..capacity-1, sent in this order. What is read may be read before its acknowledgement arrives."""

    def __init__(self, capacity: int, partitions: int) -> None:
        self._checksum = array("I", [0]) * capacity
        self._acked_offset = array("q", [_NEVER]) * capacity
        self._acked_partition = array("q", [_NEVER]) * capacity
        self._read_offset = array("q", [_NEVER]) * capacity
        self._read_partition = array("q", [_NEVER]) * capacity
        self._last_read = [_NEVER] * partitions
        self._last_ack_s: list[float | None] = [None] * partitions
        self._faults: dict[str, int] = {"duplicated": 0, "changed": 0, "out_of_order": 0}
        self._pauses: list[tuple[float, float, int]] = []
        self.sent = self.acknowledged = self.read = 0

    def on_sent(self, number: int, value: bytes) -> None:
        self._checksum[number] = zlib.crc32(value)
        self.sent += 1

    def on_acknowledged(self, number: int, partition: int, offset: int, now_s: float) -> None:
        """An acknowledgement that says where the event is. `now_s` never goes back."""
        self._acked_partition[number] = partition
        self._acked_offset[number] = offset
        self.acknowledged += 1
        last = self._last_ack_s[partition]
        if last is not None and now_s - last > _PAUSE_MIN_S:
            self._pauses.append((last, now_s, partition))
        self._last_ack_s[partition] = now_s

    def on_read(self, number: int, partition: int, offset: int, value: bytes) -> None:
        """An event as the consumer got it."""
        if self._read_offset[number] != _NEVER:
            self._faults["duplicated"] += 1
            return
        self.read += 1
        self._read_partition[number] = partition
        self._read_offset[number] = offset
        self._faults["changed"] += self._checksum[number] != zlib.crc32(value)
        self._faults["out_of_order"] += number < self._last_read[partition]
        self._last_read[partition] = number

    def unread(self) -> int:
        """Acknowledged events that were not read so far."""
        pairs = zip(self._acked_offset, self._read_offset, strict=True)
        return sum(acked != _NEVER and read == _NEVER for acked, read in pairs)

    def longest_pause(self, from_s: float, to_s: float) -> tuple[float, int] | None:
        """Seconds and partition of the longest time without an acknowledgement that overlaps the span; None if none."""
        pauses = [(end - start, partition) for start, end, partition in self._pauses if end > from_s and start < to_s]
        return max(pauses, default=None)

    def verdict(self) -> Verdict:
        """Where things stand. Final once the stream is over and everything was read."""
        places = zip(self._acked_partition, self._acked_offset, self._read_partition, self._read_offset, strict=True)
        misplaced = sum(ao != _NEVER and ro != _NEVER and (ap, ao) != (rp, ro) for ap, ao, rp, ro in places)
        return Verdict(self.sent, self.acknowledged, self.read, lost=self.unread(), misplaced=misplaced, **self._faults)
