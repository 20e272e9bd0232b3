"""How full the disk is, and what follows: refuse producers, give the ballast back, take it up again (protocol.md 10).

Two watermarks. Below the first one producers are refused, here and at every leader of a replica here, before the disk
is full. Below the second one, or at the first write that finds no room, the ballast goes: its room is for what must be
written all the same. It counts as used all the time, so producers only come back when there is room for it, too.
"""

from dataclasses import dataclass, replace
from typing import Final

from storage.ballast import Ballast

EMPTY_PART: Final = 4
"""The second one: a quarter of the first."""
REFUSED_MS: Final = 1000
"""How long a write without room counts, whatever the disk says: a quota does not show in its free bytes."""


@dataclass(frozen=True, slots=True)
class Space:
    """Bytes of the file system that the data directory is on."""

    total: int
    free: int
    watermark_bytes: int = 256 * 2**20
    watermark_percent: int = 5

    @property
    def low_bytes(self) -> int:
        """The first watermark; the part counts on a small disk."""
        return min(self.watermark_bytes, self.total * self.watermark_percent // 100)


class DiskGuard:
    """The state of one data directory's disk. `full`: producers are refused; `free_bytes`: at the last look."""

    def __init__(self, ballast: Ballast) -> None:
        self.ballast = ballast
        self.full = False
        self.free_bytes = 0
        self._refused_until_ms = 0

    def look(self, space: Space, now_ms: int, *, refused: bool = False) -> bool:
        """Takes a look at the disk into account; whether `full` changed. `refused`: a write found no room just now.
        `now_ms` is monotonic.

        Between full and not full lies half of the watermark, so that the state does not change with every batch.
        Raises OSError.
        """
        before, low = self.full, space.low_bytes
        self.free_bytes = space.free
        if refused:
            self._refused_until_ms = now_ms + REFUSED_MS
        if self.ballast.held and (refused or space.free < low // EMPTY_PART):
            self.ballast.release()
            space = replace(space, free=space.free + self.ballast.size_bytes)
        left = space.free - self.ballast.missing_bytes
        self.full = now_ms < self._refused_until_ms or left < (low * 3 // 2 if self.full else low)
        if not self.full and not self.ballast.held:
            self.ballast.hold()
        return self.full != before
