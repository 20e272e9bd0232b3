"""The least that a replicated log is: bytes appended to a file with a checksum, and positions. For both ceilings."""

import os
from collections import deque
from pathlib import Path

from ottla.protocol.checksum import crc32c

READ_MAX = 1 << 20


class Log:
    """An append-only file. `end` is its length in bytes."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        self.end = 0
        self.checksum = 0

    def append(self, data: bytes | memoryview) -> None:
        self.checksum = crc32c(data)
        left = memoryview(data)
        while left:
            left = left[os.write(self._fd, left) :]
        self.end += len(data)

    def read(self, position: int) -> bytes:
        return os.pread(self._fd, min(READ_MAX, self.end - position), position)


class Acknowledgements:
    """Which batches all followers hold: ends of appended batches, in order, against the lowest follower position."""

    def __init__(self, followers: int) -> None:
        self._positions = dict.fromkeys(range(followers), 0)
        self._ends: deque[int] = deque()
        self._done = 0

    def appended(self, end: int) -> None:
        self._ends.append(end)

    def reached(self, follower: int, position: int) -> None:
        self._positions[follower] = position

    def count(self, end: int) -> int:
        """How many batches are acknowledged since the start; without followers, the log's `end` alone decides."""
        committed = min(self._positions.values(), default=end)
        while self._ends and self._ends[0] <= committed:
            self._ends.popleft()
            self._done += 1
        return self._done
