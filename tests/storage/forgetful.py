"""A file system in memory that forgets what was not synced: the twin of `storage.fs.OsFileSystem`.

Reads see everything that was written, as with a page cache. `power_loss` gives the file system a machine finds after a
crash: of what was not synced, any part may be there - single sectors of a write, a length without its bytes, a rename
without the file that was made before it. `kill` keeps everything: the process died, the machine did not.

`crash_at` stops the world at the n-th changing operation: a part of it may be done, and every later call raises
`Crashed`, which is no OSError, so that nothing under test can handle it.
"""

import errno
import os
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from storage.fs import Buffer

SECTOR = 512


class Crashed(BaseException):
    """The machine stopped at the chosen operation."""


@dataclass
class _Inode:
    content: bytearray = field(default_factory=bytearray)
    durable: bytes = b""
    # Not synced: (position, bytes) of a write, (size, None) of a truncation; in order.
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)
    locked: bool = False
    failing: bool = False

    def units(self) -> list[tuple[int, int]]:
        """The smallest things that may be lost one by one: (number of the change, number of its sector)."""
        found: list[tuple[int, int]] = []
        for number, (position, data) in enumerate(self.pending):
            last = position if data is None else position + len(data) - 1
            sectors = 1 if data is None else last // SECTOR - position // SECTOR + 1
            found.extend((number, sector) for sector in range(sectors))
        return found

    def with_units(self, chosen: "Sequence[tuple[object, tuple[int, int]]]") -> "_Inode":
        kept = bytearray(self.durable)
        for node, (number, sector) in chosen:
            if node is not self:
                continue
            position, data = self.pending[number]
            if data is None:
                _apply(kept, position, None, None)
                continue
            start = max(position, (position // SECTOR + sector) * SECTOR)
            stop = min(position + len(data), (position // SECTOR + sector + 1) * SECTOR)
            _apply(kept, start, data[start - position : stop - position], None)
        return _Inode(kept, bytes(kept))

    def after_power_loss(self, rng: random.Random) -> "_Inode":
        kept = bytearray(self.durable)
        how = rng.choice(("nothing", "all", "prefix", "some", "sectors"))
        count = rng.randint(0, len(self.pending))
        for number, (position, data) in enumerate(self.pending):
            if how == "nothing" or (how == "prefix" and number >= count):
                break
            if how == "some" and rng.random() < 0.5:
                continue
            _apply(kept, position, data, rng if how == "sectors" else None)
        return _Inode(bytearray(kept), bytes(kept))


def _apply(content: bytearray, position: int, data: bytes | None, rng: random.Random | None) -> None:
    if data is None:
        if rng is None or rng.random() < 0.5:
            del content[position:]
            content.extend(bytes(position - len(content)))
        return
    end = position + len(data)
    grown = end if rng is None else rng.randint(position, end)
    if len(content) < grown:
        content.extend(bytes(grown - len(content)))
    at = position
    while at < min(end, len(content)):
        stop = min((at // SECTOR + 1) * SECTOR, end, len(content))
        if rng is None or rng.random() < 0.5:
            content[at:stop] = data[at - position : stop - position]
        at = stop


@dataclass
class _Directory:
    entries: "dict[str, _Inode | _Directory]" = field(default_factory=dict)
    durable: "dict[str, _Inode | _Directory]" = field(default_factory=dict)
    # Not synced: (name that goes or None, name that comes or None, what comes); a rename has both names.
    pending: "list[tuple[str | None, str | None, _Inode | _Directory | None]]" = field(default_factory=list)

    def change(self, gone: str | None, come: str | None, node: "_Inode | _Directory | None") -> None:
        _change(self.entries, gone, come, node)
        self.pending.append((gone, come, node))

    def units(self) -> list[tuple[int, int]]:
        return [(number, 0) for number in range(len(self.pending))]

    def with_units(self, chosen: "Sequence[tuple[object, tuple[int, int]]]") -> "_Directory":
        kept = dict(self.durable)
        for node, (number, _) in chosen:
            if node is self:
                _change(kept, *self.pending[number])
        after = {name: node.with_units(chosen) for name, node in kept.items()}
        return _Directory(dict(after), dict(after))

    def after_power_loss(self, rng: random.Random) -> "_Directory":
        kept = dict(self.durable)
        how = rng.choice(("nothing", "all", "prefix", "some"))
        count = rng.randint(0, len(self.pending))
        for number, change in enumerate(self.pending):
            if how == "nothing" or (how == "prefix" and number >= count):
                break
            if how != "some" or rng.random() < 0.5:
                _change(kept, *change)
        after: dict[str, _Inode | _Directory] = {
            name: node.after_power_loss(rng) for name, node in sorted(kept.items(), key=lambda item: item[0])
        }
        return _Directory(after, dict(after))


def _change(
    entries: "dict[str, _Inode | _Directory]",
    gone: str | None,
    come: str | None,
    node: "_Inode | _Directory | None",
) -> None:
    if gone is not None:
        entries.pop(gone, None)
    if come is not None and node is not None:
        entries[come] = node


class ForgetfulFile:
    def __init__(self, fs: "ForgetfulFileSystem", inode: _Inode) -> None:
        self._fs = fs
        self._inode: _Inode | None = inode
        self._holds_lock = False
        fs.open_files += 1

    @property
    def _node(self) -> _Inode:
        if self._inode is None:
            raise OSError(errno.EBADF, "the file is closed")
        if self._inode.failing:
            raise OSError(errno.EIO, "injected error of this file")
        return self._inode

    def write_at(self, position: int, buffers: Sequence[Buffer]) -> None:
        node, data = self._node, b"".join(bytes(buffer) for buffer in buffers)
        allowed = self._fs.room_for(node, position + len(data)) - position
        if allowed < len(data):
            self._put(node, position, data[: max(allowed, 0)])
            raise OSError(errno.ENOSPC, "no space left")
        error = self._fs.step("write", lambda: self._put(node, position, data[: self._fs.rng.randint(0, len(data))]))
        if error:
            self._put(node, position, data[: self._fs.rng.randint(0, len(data))])
            raise error
        self._put(node, position, data)

    def _put(self, node: _Inode, position: int, data: bytes) -> None:
        if data:
            _apply(node.content, position, data, None)
            node.pending.append((position, data))

    def pread(self, length: int, position: int) -> bytes:
        node = self._node
        self._fs.read_step("read")
        return bytes(node.content[position : position + length])

    def truncate(self, size: int) -> None:
        node = self._node
        error = self._fs.step("truncate", lambda: None)
        if error:
            raise error
        _apply(node.content, size, None, None)
        node.pending.append((size, None))

    def allocate(self, size: int) -> None:
        self.write_at(0, [bytes(size)])

    def size(self) -> int:
        return len(self._node.content)

    def sync(self) -> None:
        node = self._node
        error = self._fs.step("sync", lambda: None)
        if error:
            # What Linux does: the error is told once, the pages count as clean, and no later sync, of any process,
            # writes their bytes. The length is metadata, which the journal keeps.
            node.pending = [change for change in node.pending if change[1] is None]
            raise error
        synced = bytearray(node.durable)
        for position, data in node.pending:
            _apply(synced, position, data, None)
        node.durable = bytes(synced)
        node.pending.clear()

    def dup(self) -> "ForgetfulFile":
        self._fs.read_step("dup")
        return ForgetfulFile(self._fs, self._node)

    def close(self) -> None:
        if self._inode is not None:
            if self._holds_lock:
                self._inode.locked = False
            self._inode = None
            self._fs.open_files -= 1


class ForgetfulDirectory:
    def __init__(self, fs: "ForgetfulFileSystem", node: _Directory) -> None:
        self._fs = fs
        self._node: _Directory | None = node
        fs.open_files += 1

    def sync(self) -> None:
        assert self._node is not None
        self._fs._sync_step(self._node)

    def close(self) -> None:
        if self._node is not None:
            self._node = None
            self._fs.open_files -= 1


class ForgetfulFileSystem:
    """See the module. `operations` counts what changed something; `fail` makes chosen operations raise OSError."""

    def __init__(self, seed: int = 0, crash_at: int | None = None) -> None:
        self.rng = random.Random(seed)
        self.crash_at = crash_at
        self.operations = 0
        self.open_files = 0
        self.capacity_bytes: int | None = None
        self.trace: list[str] = []
        self._fail: dict[str, list[int]] = {}
        self._crashed = False
        self._root = _Directory()

    def fail(self, operation: str, error: int, times: int = 1) -> None:
        """The next `times` operations of this kind (write, sync, truncate, open, rename ...) raise that errno."""
        self._fail.setdefault(operation, []).extend([error] * times)

    def power_loss(self, crash_at: int | None = None) -> "ForgetfulFileSystem":
        after = ForgetfulFileSystem(self.rng.randrange(2**32), crash_at)
        after._root = self._root.after_power_loss(self.rng)
        return after

    def every_power_loss(self) -> "Iterator[ForgetfulFileSystem]":
        """Every subset of the unsynced sectors, truncations and directory changes: for very small cases only."""
        parts = [node for node in _nodes(self._root) if node.pending]
        units = [(node, unit) for node in parts for unit in node.units()]
        assert len(units) <= 14, f"{len(units)} things are not synced: more than 2^14 cases"
        for mask in range(1 << len(units)):
            chosen = [unit for number, unit in enumerate(units) if mask >> number & 1]
            after = ForgetfulFileSystem(mask)
            root = self._root.with_units(chosen)
            assert isinstance(root, _Directory)
            after._root = root
            yield after

    def kill(self) -> "ForgetfulFileSystem":
        after = ForgetfulFileSystem(self.rng.randrange(2**32))
        after._root = self._root
        after.capacity_bytes = self.capacity_bytes
        for node in _inodes(self._root):
            node.locked = False
        return after

    def flip_bit(self, path: str, bit: int) -> None:
        """Rot: in the page cache and on the disk."""
        inode = self._file(path)
        inode.content[bit // 8] ^= 1 << bit % 8
        inode.durable = bytes(inode.content)
        inode.pending.clear()

    # ---- the port

    def open(self, path: str, *, create: bool = False) -> ForgetfulFile:
        parent, name = self._parent(path)
        self.read_step("open")
        node = parent.entries.get(name)
        if create:
            if node is not None:
                raise FileExistsError(errno.EEXIST, "file exists", path)
            node = _Inode()
            self._entry_step(parent, "create", None, name, node)
        if node is None:
            raise FileNotFoundError(errno.ENOENT, "no such file", path)
        if isinstance(node, _Directory):
            raise IsADirectoryError(errno.EISDIR, "is a directory", path)
        return ForgetfulFile(self, node)

    def lock(self, path: str) -> ForgetfulFile | None:
        parent, name = self._parent(path)
        if name not in parent.entries:
            self.open(path, create=True).close()
        inode = self._file(path)
        if inode.locked:
            return None
        inode.locked = True
        file = ForgetfulFile(self, inode)
        file._holds_lock = True
        return file

    def listdir(self, path: str) -> list[str]:
        return sorted(self._directory(path).entries)

    def size(self, path: str) -> int:
        return len(self._file(path).content)

    def is_directory(self, path: str) -> bool:
        try:
            self._directory(path)
        except OSError:
            return False
        return True

    def makedirs(self, path: str, *, durable: bool = True) -> None:
        node = self._root
        names = _parts(path)
        for number, name in enumerate(names, 1):
            if name not in node.entries:
                self._entry_step(node, "mkdir", None, name, _Directory())
                if durable or number < len(names):
                    self._sync_step(node)
            child = node.entries[name]
            if not isinstance(child, _Directory):
                raise NotADirectoryError(errno.ENOTDIR, "not a directory", path)
            node = child

    def rename(self, old: str, new: str) -> None:
        parent, name = self._parent(old)
        other, new_name = self._parent(new)
        assert parent is other, "renames stay in one directory"
        if name not in parent.entries:
            raise FileNotFoundError(errno.ENOENT, "no such file", old)
        self._entry_step(parent, "rename", name, new_name, parent.entries[name])

    def unlink(self, path: str) -> None:
        parent, name = self._parent(path)
        self._file(path)
        self._entry_step(parent, "unlink", name, None, None)

    def rmdir(self, path: str) -> None:
        parent, name = self._parent(path)
        if self._directory(path).entries:
            raise OSError(errno.ENOTEMPTY, "not empty", path)
        self._entry_step(parent, "rmdir", name, None, None)

    def open_dir(self, path: str) -> "ForgetfulDirectory":
        self.read_step("open_dir")
        return ForgetfulDirectory(self, self._directory(path))

    def sync_dir(self, path: str) -> None:
        self._sync_step(self._directory(path))

    # ---- steps

    def step(self, operation: str, partly: Callable[[], None]) -> OSError | None:
        """Counts a changing operation, crashes in it (after doing it `partly`), or gives the error it is to raise."""
        self.read_step(operation, raising=False)
        self.operations += 1
        self.trace.append(operation)
        if self.operations == self.crash_at:
            partly()
            self._crashed = True
            raise Crashed
        errors = self._fail.get(operation)
        return OSError(errors.pop(0), f"injected {operation} error") if errors else None

    def read_step(self, operation: str, raising: bool = True) -> None:
        if self._crashed:
            raise Crashed
        errors = self._fail.get(operation)
        if raising and errors:
            raise OSError(errors.pop(0), f"injected {operation} error")

    def room_for(self, node: _Inode, wanted: int) -> int:
        if self.capacity_bytes is None:
            return wanted
        others = sum(len(inode.content) for inode in _inodes(self._root) if inode is not node)
        return min(wanted, max(self.capacity_bytes - others, len(node.content)))

    def _entry_step(
        self, parent: _Directory, operation: str, gone: str | None, come: str | None, node: "_Inode | _Directory | None"
    ) -> None:
        def maybe() -> None:
            if self.rng.random() < 0.5:
                parent.change(gone, come, node)

        error = self.step(operation, maybe)
        if error:
            raise error
        parent.change(gone, come, node)

    def _sync_step(self, node: _Directory) -> None:
        error = self.step("sync_dir", lambda: None)
        if error:
            raise error
        node.durable = dict(node.entries)
        node.pending.clear()

    def _directory(self, path: str) -> _Directory:
        node: _Inode | _Directory = self._root
        for name in _parts(path):
            if not isinstance(node, _Directory) or name not in node.entries:
                raise FileNotFoundError(errno.ENOENT, "no such directory", path)
            node = node.entries[name]
        if not isinstance(node, _Directory):
            raise NotADirectoryError(errno.ENOTDIR, "not a directory", path)
        return node

    def _parent(self, path: str) -> tuple[_Directory, str]:
        return self._directory(os.path.dirname(path)), os.path.basename(path)

    def _file(self, path: str) -> _Inode:
        parent, name = self._parent(path)
        node = parent.entries.get(name)
        if not isinstance(node, _Inode):
            raise FileNotFoundError(errno.ENOENT, "no such file", path)
        return node


def _parts(path: str) -> list[str]:
    return [name for name in path.split("/") if name]


def _nodes(directory: _Directory) -> "list[_Inode | _Directory]":
    found: list[_Inode | _Directory] = [directory]
    for node in directory.entries.values():
        found.extend(_nodes(node) if isinstance(node, _Directory) else [node])
    return found


def _inodes(directory: _Directory) -> list[_Inode]:
    found: list[_Inode] = []
    for node in directory.entries.values():
        found.extend(_inodes(node) if isinstance(node, _Directory) else [node])
    return found
