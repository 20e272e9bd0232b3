"""A file that only takes up room, to be given back when the disk is full: then what must always be written - votes,
deletes, truncations, changes of the metadata - still finds space."""

import contextlib
import os
from typing import Final

from storage.fs import FileSystem, remove_if_there

BALLAST_FILE: Final = "ballast"
_MIN_BYTES: Final = 16 * 2**20
_MAX_BYTES: Final = 64 * 2**20


def ballast_bytes(total_bytes: int) -> int:
    """The ballast's size on a disk of `total_bytes`: a hundredth, but 16 to 64 MiB; none where that is most of it."""
    size = min(max(_MIN_BYTES, total_bytes // 100), _MAX_BYTES)
    return size if 3 * size <= total_bytes else 0


class Ballast:
    """The ballast of one data directory. `held`: the room is taken up now."""

    def __init__(self, fs: FileSystem, directory: str, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self._fs = fs
        self._path = os.path.join(directory, BALLAST_FILE)
        self.held = size_bytes > 0 and self._is_there()

    @property
    def missing_bytes(self) -> int:
        """Room that looks free and is not: the ballast is to come back."""
        return 0 if self.held else self.size_bytes

    def hold(self) -> bool:
        """Takes the room up; False if there is not enough of it, and then nothing stays behind. Blocks a little."""
        if self.held or not self.size_bytes:
            return self.held
        try:
            remove_if_there(self._fs, self._path)
            file = self._fs.open(self._path, create=True)
            try:
                file.allocate(self.size_bytes)
            finally:
                file.close()
        except OSError:
            with contextlib.suppress(OSError):
                remove_if_there(self._fs, self._path)
            return False
        self.held = True
        return True

    def release(self) -> bool:
        """Gives the room back; whether there was any. Raises OSError."""
        was_held, self.held = self.held, False
        return remove_if_there(self._fs, self._path) or was_held

    def _is_there(self) -> bool:
        try:
            return self._fs.size(self._path) == self.size_bytes
        except OSError:
            return False
