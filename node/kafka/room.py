"""Room for large requests: who asks while there is none waits, in order, and is not read from meanwhile.

A request of Kafka's says its size before it comes, so that nothing has to be refused, and sent once more, for want of
room. There is one for requests on their way, and one for those at work, to their answers: what is appended faster than
followers copy it would cost them their place in the ISR.
"""

from collections.abc import Callable


class Room:
    """`limit_bytes`, shared by all connections; a request above it gets in alone."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        self._waiting: dict[Callable[[], None], int] = {}

    @property
    def crowded(self) -> bool:
        """Whether somebody waits."""
        return bool(self._waiting)

    def enter(self, size_bytes: int, came: Callable[[], None]) -> bool:
        """Takes room; False: `came` is called once that was done."""
        if not self._waiting and self._fits(size_bytes):
            self.used_bytes += size_bytes
            return True
        self._waiting[came] = size_bytes
        return False

    def leave(self, size_bytes: int) -> None:
        """Gives room back, to those that wait for it."""
        self.used_bytes -= size_bytes
        while self._waiting:
            came, wanted_bytes = next(iter(self._waiting.items()))
            if not self._fits(wanted_bytes):
                return
            del self._waiting[came]
            self.used_bytes += wanted_bytes
            came()

    def forget(self, came: Callable[[], None]) -> None:
        """Who waited, if it did, does so no more."""
        if self._waiting.pop(came, None) is not None:
            self.leave(0)

    def _fits(self, size_bytes: int) -> bool:
        return not self.used_bytes or self.used_bytes + size_bytes <= self.limit_bytes
