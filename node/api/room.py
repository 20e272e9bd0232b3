"""Room for large requests: who asks while there is none waits, in order, and is not read from meanwhile.

So nothing has to be refused, and sent once more, for want of room. What is at work has it until it is answered: what is
appended faster than followers copy it would cost them their place in the ISR.
"""

import asyncio
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

    async def entered(self, size_bytes: int) -> None:
        """Returns when room is taken."""
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        has_come = False

        def came() -> None:
            nonlocal has_come
            has_come = True
            if not waiting.done():
                waiting.set_result(None)

        if self.enter(size_bytes, came):
            return
        try:
            await waiting
        except asyncio.CancelledError:
            if has_come:
                self.leave(size_bytes)
            else:
                self.forget(came)
            raise

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
