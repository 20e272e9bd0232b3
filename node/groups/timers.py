"""What falls due when: a heap of deadlines by key. Only the earliest deadline of a key counts. Pure."""

import heapq
from collections.abc import Iterable
from typing import Generic, TypeVar

K = TypeVar("K")


class Timers(Generic[K]):
    """A deadline that moves away need not be armed anew: who is found due too early arms it again."""

    def __init__(self) -> None:
        self._at_ms: dict[K, int] = {}
        self._heap: list[tuple[int, int, K]] = []
        self._count = 0

    def arm(self, key: K, at_ms: int) -> None:
        """The key is due at `at_ms`, or earlier if it was armed for that."""
        armed = self._at_ms.get(key)
        if armed is None or at_ms < armed:
            self._at_ms[key] = at_ms
            self._count += 1  # keys are not compared
            heapq.heappush(self._heap, (at_ms, self._count, key))

    def next_ms(self) -> int | None:
        """When the next key is due."""
        while self._heap and self._at_ms.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def due(self, now_ms: int, most: int) -> list[K]:
        """At most so many keys that are due, the earliest first. They stay armed until they are settled."""
        found: list[tuple[int, int, K]] = []
        while len(found) < most and (at_ms := self.next_ms()) is not None and at_ms <= now_ms:
            found.append(heapq.heappop(self._heap))
        for entry in found:
            heapq.heappush(self._heap, entry)
        return [key for _, _, key in found]

    def settle(self, keys: Iterable[K]) -> None:
        """What these keys were due for is done: they are armed no longer."""
        for key in keys:
            self._at_ms.pop(key, None)
