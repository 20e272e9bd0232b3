"""Memory as on a server that has run for a while: none is free, and new pages come from what the page cache gives up.

Many virtual machines hand free memory back to their host (free page reporting), and get each page anew when it is
written first, which costs more than the whole copy into it: 26 us for 128 KB become 115. Who writes most pays most,
and how much depends on what ran before. With a full page cache nobody pays.
"""

import os
from pathlib import Path
from tempfile import TemporaryFile

import psutil

_HOLE_BYTES = 1 << 40  # of a sparse file, which takes no disk
_STEP_BYTES = 256 << 20


class FullPageCache:
    """Fills the page cache with a file's holes; each part of the file is read once."""

    def __init__(self, directory: Path) -> None:
        self._file = TemporaryFile(dir=directory)  # noqa: SIM115 - open as long as its pages are to be kept
        self._file.truncate(_HOLE_BYTES)
        self._at = 0
        self._buffer = bytearray(4 << 20)

    def fill(self) -> None:
        """Reads until that takes no more free memory."""
        start, free = self._at, psutil.virtual_memory().free
        while self._at - start < psutil.virtual_memory().total:
            end = self._at + _STEP_BYTES
            while self._at < end:
                self._at += os.preadv(self._file.fileno(), [self._buffer], self._at % _HOLE_BYTES)
            before, free = free, psutil.virtual_memory().free
            if free > before - _STEP_BYTES // 2:
                return
