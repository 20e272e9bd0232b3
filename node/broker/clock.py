"""Whether this node's wall clock may say what is old: retention by time and compaction ask before they delete.

A clock that runs ahead makes young records old. So it must agree with the cluster's: heartbeats carry it to the
controller, which answers how far it is ahead of the middle one. Between two answers, and without a controller, the
monotonic clock carries the cluster's time on, so a jump shows at once.
"""

from typing import Final

AHEAD_MAX_MS: Final = 60_000
"""How far ahead a clock may be and still count: this much too early a record may go (docs/storage.md)."""


class ClusterClock:
    """What this node knows of the cluster's time. Wall and monotonic times in ms."""

    def __init__(self, wall_ms: int, clock_ms: int) -> None:
        self._started_offset_ms = wall_ms - clock_ms
        self._offset_ms: int | None = None

    def told(self, ahead_ms: int, wall_ms: int, clock_ms: int) -> None:
        """The controller's answer about the wall clock as it was at that moment."""
        self._offset_ms = wall_ms - ahead_ms - clock_ms

    def ahead_ms(self, wall_ms: int, clock_ms: int, *, alone: bool) -> int | None:
        """How far the wall clock is ahead of the cluster's; None: not known. A node that is `alone` has only its own
        start to compare with."""
        offset_ms = self._started_offset_ms if alone else self._offset_ms
        return None if offset_ms is None else wall_ms - clock_ms - offset_ms
