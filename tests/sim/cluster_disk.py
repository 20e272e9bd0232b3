"""A node's disk: it forgets what was not synced, and can be slow, full, failing, rotten or swapped for a new one.

The forgetting is that of `tests/storage/forgetful.py`: after a power loss any part of what was not synced may be there,
single sectors of a write, a length without its bytes. Here are the faults of one run on top of it.
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random

from tests.storage.forgetful import ForgetfulFileSystem, _Directory, _Inode


class Disk(ForgetfulFileSystem):
    """`capacity_bytes` as in the base; what is used is counted from time to time, not at each write."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self.trace = _Nothing()  # type: ignore[assignment]
        self.slow_ms = 0.0
        self.hung_until_ms: dict[str, float] = {}
        """Directories of logs whose syncs do not come back before."""
        self._lost: list[_Inode] = []

    def power_loss(self, crash_at: int | None = None) -> "Disk":
        after = Disk(self.rng.randrange(2**32))
        after._root = self._root.after_power_loss(self.rng)
        self._crashed = True
        return after

    def kill(self) -> "Disk":
        after = Disk(self.rng.randrange(2**32))
        after._root, after._lost = self._root, self._lost
        for node in self.inodes():
            node.locked = False
        self._crashed = True  # nothing that is left of the old process may write
        return after

    def inodes(self) -> list[_Inode]:
        found: list[_Inode] = []
        stack: list[_Directory] = [self._root]
        while stack:
            for node in stack.pop().entries.values():
                if isinstance(node, _Directory):
                    stack.append(node)
                else:
                    found.append(node)
        return found

    def has_unsynced_writes(self) -> bool:
        return any(node.pending for node in self.inodes())

    def used_bytes(self) -> int:
        return sum(len(node.content) for node in self.inodes())

    def exists(self, path: str) -> bool:
        try:
            self.size(path)
        except OSError:
            return False
        return True

    def fill(self) -> None:
        """No room for one more byte, until `capacity_bytes` is None again."""
        self.capacity_bytes = self.used_bytes()

    def fail_next(self, rng: Random) -> str:
        """One write, sync or new file fails with EIO."""
        operation = rng.choice(("write", "sync", "sync", "truncate"))
        self.fail(operation, errno.EIO)
        return operation

    def heal(self) -> None:
        self._fail.clear()
        self.capacity_bytes = None
        self.slow_ms = 0.0
        self.hung_until_ms.clear()
        for node in self.inodes():
            node.failing = False

    @contextmanager
    def seen_from_outside(self) -> Iterator[None]:
        """Inside, files that fail are read: by whoever judges the simulation, not by a node."""
        failing = [node for node in self._lost if node.failing]
        for node in failing:
            node.failing = False
        try:
            yield
        finally:
            for node in failing:
                node.failing = True

    def lose(self, directory: str) -> None:
        """Whatever touches the files that are in it fails with EIO."""
        for node in self._directory(directory).entries.values():
            if isinstance(node, _Inode):
                node.failing = True
                self._lost.append(node)

    def remove(self, directory: str) -> None:
        """Somebody else deletes it; who has its files open goes on writing to them."""
        parent, name = self._parent(directory)
        parent.entries.pop(name)
        parent.durable.pop(name, None)

    def rot(self, path: str, rng: Random) -> bool:
        """Flips a bit in the cold part of a file; False where there is none."""
        inode = self._file(path)
        if len(inode.content) < 16:
            return False
        self.flip_bit(path, rng.randrange(8 * len(inode.content)))
        return True


class _Nothing:
    def append(self, _: str) -> None: ...
