"""The bytes that a node holds for clients at one moment, all calls together, within one budget.

Batches on their way into the log or to another node, and answers on their way to readers. Above it large unary calls
are refused and told when to come back, streams are not read from, and readers get little at once. Nobody is kept out:
large calls get a half of the budget, small ones still have room when the others have used it up, and one call always
fits, since it would never do otherwise.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from node import limits
from node.api.room import Room

SMALL_BYTES: Final = limits.MIB // 4
COUNTED_BYTES: Final = limits.MIB // 64
"""Answers without records that are smaller do not count: calls are bounded, too."""
COPIES: Final = 2
"""Of a unary request: as it came, which gRPC keeps to the end of the call, and parsed; of an answer: its pieces, and
the message made of them."""


class Growing:
    """An answer in the making, whose size is what is stored."""

    def __init__(self, in_flight: "InFlight") -> None:
        self._in_flight = in_flight
        self.size_bytes = 0

    def add(self, size_bytes: int) -> None:
        """Raises THROTTLING_QUOTA_EXCEEDED where there is no room for so many bytes more."""
        self._in_flight.check(size_bytes)
        self._in_flight.take(size_bytes)
        self.size_bytes += size_bytes


class InFlight:
    """Counts on the data loop."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        self.large = Room(limit_bytes // limits.LARGE_SHARE)
        """For large requests of clients at work."""
        self.large_passed_on = Room(limit_bytes // limits.LARGE_SHARE)
        """And for those that another node passed on: were it the same, two nodes could wait for each other."""
        self._room = asyncio.Event()
        self._room.set()

    def fits(self, size_bytes: int) -> bool:
        return not self.used_bytes or self.used_bytes + size_bytes <= self._allowed(size_bytes)

    def _allowed(self, size_bytes: int) -> int:
        return 2 * self.limit_bytes if size_bytes <= SMALL_BYTES else self.limit_bytes // 2

    @property
    def full(self) -> bool:
        return self.used_bytes >= self.limit_bytes

    def check(self, size_bytes: int) -> None:
        """Raises THROTTLING_QUOTA_EXCEEDED where there is no room for so many bytes."""
        if not self.fits(size_bytes):
            raise limits.throttled(
                f"{self.used_bytes} bytes are in flight at this node and {size_bytes} more are asked for",
                f"{self._allowed(size_bytes)} are allowed for calls of this size",
                limits.IN_FLIGHT_RETRY_MS,
            )

    def take(self, size_bytes: int) -> None:
        self.used_bytes += size_bytes
        if self.used_bytes >= self.limit_bytes:
            self._room.clear()

    def give(self, size_bytes: int) -> None:
        before = self.used_bytes
        self.used_bytes -= size_bytes
        if before >= self.limit_bytes > self.used_bytes:
            self._room.set()

    @contextmanager
    def growing(self) -> Iterator[Growing]:
        """Counts an answer while it is made. What it holds to the end is counted again by who sends it."""
        growing = Growing(self)
        try:
            yield growing
        finally:
            self.give(growing.size_bytes)

    async def room(self) -> None:
        """Waits until there is any room."""
        while self.full:
            await self._room.wait()
