"""Whether this node's wall clock may say what is old: retention by time and compaction ask before they delete.

A clock that runs ahead makes young records old. So it must agree with the cluster's: heartbeats carry it to the
controller, which answers how far it is ahead of the middle one. Between two answers, and without a controller, the
monotonic clock carries the cluster's time on, so a jump shows at once.
"""

from collections.abc import Callable
from typing import Final

import structlog

log = structlog.get_logger(__name__)

AHEAD_MAX_MS: Final = 60_000
"""How far ahead a clock may be and still count: this much too early a record may go (docs/storage.md)."""


class ClusterClock:
    """What this node knows of the cluster's time; times in ms. A node that is `alone` has only its own start to compare
    with. `trusted`: as it was at the last look where it was known."""

    def __init__(self, wall_ms: Callable[[], int], clock_ms: Callable[[], int], alone: Callable[[], bool]) -> None:
        self._wall_ms, self._clock_ms, self._alone = wall_ms, clock_ms, alone
        self._started_offset_ms = wall_ms() - clock_ms()
        self._offset_ms: int | None = None
        self.trusted = True

    def told(self, ahead_ms: int, wall_ms: int, clock_ms: int) -> None:
        """The controller's answer about the wall clock as it was at that moment."""
        self._offset_ms = wall_ms - ahead_ms - clock_ms
        self.look()

    def ahead_ms(self) -> int | None:
        """How far the wall clock is ahead of the cluster's; None: not known."""
        offset_ms = self._started_offset_ms if self._alone() else self._offset_ms
        return None if offset_ms is None else self._wall_ms() - self._clock_ms() - offset_ms

    def now_ms(self) -> int | None:
        """The cluster's time, or the wall clock's where that is behind: by it nothing is old too early. None: not
        known."""
        ahead_ms = self.ahead_ms()
        return None if ahead_ms is None else self._wall_ms() - max(0, ahead_ms)

    def stamp_ms(self) -> int:
        """The wall clock's time, or the cluster's where that is later, as far as it is known: what carries an earlier
        time would be old too early for whoever's clock is right."""
        return self._wall_ms() + max(0, -(self.ahead_ms() or 0))

    def look(self) -> bool:
        """Whether the wall clock may say what is old. Says so in the log where that changes."""
        ahead_ms = self.ahead_ms()
        if ahead_ms is None:
            return False
        trusted, before = ahead_ms <= AHEAD_MAX_MS, self.trusted
        self.trusted = trusted
        if trusted and not before:
            log.warning("clock_agrees_again", ahead_ms=ahead_ms)
        elif before and not trusted:
            log.error(
                "clock_ahead",
                ahead_ms=ahead_ms,
                limit_ms=AHEAD_MAX_MS,
                next_step="nothing is deleted by age on this node: set its clock right (NTP), or restart it if it is "
                "right and the only one",
            )
        return trusted
