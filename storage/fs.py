"""The file system as a port: the few operations the log needs, and the real implementation.

tests/storage/forgetful.py is the twin that forgets what was not synced; both pass the same contract suite. Every
operation raises OSError. Names are full paths. A directory entry (new file, rename, unlink) is durable only after
`sync_dir` of its directory, a file's bytes and length only after `File.sync`.
"""

import contextlib
import errno
import fcntl
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol, Self, TypeVar

Buffer = bytes | bytearray | memoryview
NO_SPACE: Final = (errno.ENOSPC, errno.EDQUOT)
"""Errors of a disk that is full, not broken."""
NO_DESCRIPTORS: Final = (errno.EMFILE, errno.ENFILE)
"""Errors of a process or a machine that has too many files open: nothing is wrong with any of them."""
PASSING: Final = (*NO_SPACE, *NO_DESCRIPTORS)
"""What the operating system says of the moment, not of the disk: nothing was changed, and the same can work later."""
_ZEROS: Final = 1024 * 1024
_FILE_MODE: Final = 0o600
_DIRECTORY_MODE: Final = 0o700
"""Records are for who is allowed to read topics, not for who has an account on the machine."""
_LASTING: Final = ".log"
Opened = TypeVar("Opened")


class File(Protocol):
    """An open file. Reads and writes name their position, so no cursor has to survive an error."""

    def write_at(self, position: int, buffers: Sequence[Buffer]) -> None:
        """Writes all buffers one after the other from `position`; on OSError any prefix of them may be in the file."""

    def pread(self, length: int, position: int) -> bytes:
        """Up to `length` bytes from `position`; shorter only at the end of the file."""

    def truncate(self, size: int) -> None: ...

    def allocate(self, size: int) -> None:
        """Makes an empty file `size` bytes long, zeros, with room on the disk behind all of them."""

    def size(self) -> int: ...

    def sync(self) -> None:
        """Returns when bytes and length are durable. After an OSError the unsynced bytes are lost for good."""

    def dup(self) -> Self:
        """A second handle with a life of its own, so that the sync thread never holds a closed descriptor."""

    def close(self) -> None: ...


class Directory(Protocol):
    """An open directory: who is to sync it after a change that cannot be taken back opens it before."""

    def sync(self) -> None:
        """As `FileSystem.sync_dir`."""

    def close(self) -> None: ...


class FileSystem(Protocol):
    """Files and directories by full path."""

    def open(self, path: str, *, create: bool = False) -> File:
        """Opens for reading and writing. `create` makes a new file and fails with EEXIST if there is one."""

    def lock(self, path: str) -> File | None:
        """Takes the exclusive lock of a (created) file; None if another process holds it. Closing releases it."""

    def listdir(self, path: str) -> list[str]:
        """Names in the directory, sorted. Missing directory: FileNotFoundError."""

    def size(self, path: str) -> int: ...

    def is_directory(self, path: str) -> bool:
        """Whether it is a directory itself, not a link to one: what a link leads to is not ours to clean."""

    def makedirs(self, path: str, *, durable: bool = True) -> None:
        """Makes the directory and its parents; it is no error if it is there. `durable` False: the last one's entry is
        left to a `sync_dir` of its parent."""

    def rename(self, old: str, new: str) -> None:
        """Atomically replaces `new`."""

    def unlink(self, path: str) -> None: ...

    def rmdir(self, path: str) -> None: ...

    def open_dir(self, path: str) -> Directory: ...

    def sync_dir(self, path: str) -> None: ...


class Spares:
    """Descriptors that are held only to be given up: when all others are taken, by connections say, what must be
    written still finds one. One set for the whole process, for any thread.

    Segments stay open, everything else is open for a moment only. So segments get half of the spares at most: a vote or
    a checkpoint always finds one.
    """

    def __init__(self) -> None:
        self._count = 0
        self._held: list[int] = []

    def hold(self, count: int) -> None:
        """Holds that many from now on, as far as there are as many."""
        self._count = count
        while len(self._held) > count:
            os.close(self._held.pop())
        self.refill()

    def refill(self) -> None:
        """After a descriptor was closed: it may take the place of a spare that was given up."""
        with contextlib.suppress(OSError):
            while len(self._held) < self._count:
                self._held.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))

    def opening(self, call: Callable[[], Opened], *, lasting: bool = False) -> Opened:
        """The result of a call that opens something. Raises its OSError where no spare is left for it."""
        while True:
            try:
                return call()
            except OSError as error:
                if error.errno not in NO_DESCRIPTORS or len(self._held) <= (self._count // 2 if lasting else 0):
                    raise
            with contextlib.suppress(IndexError):  # another thread took the last one
                os.close(self._held.pop())


spares = Spares()


class OsFile:
    """A file descriptor of the operating system."""

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def write_at(self, position: int, buffers: Sequence[Buffer]) -> None:
        written = os.pwritev(self._fd, buffers, position)
        total = sum(map(len, buffers))
        if written == total:
            return
        # A short write is legal (signal, nearly full disk): go on with what is left until it is all there or fails.
        rest = [memoryview(buffer).cast("B") for buffer in buffers]
        while written < total:
            position += written
            total -= written
            rest = list(_drop(rest, written))
            written = os.pwritev(self._fd, rest, position)
            if written == 0:
                raise OSError(errno.EIO, "the file takes no more bytes")

    def pread(self, length: int, position: int) -> bytes:
        data = os.pread(self._fd, length, position)
        if len(data) == length or not data:
            return data
        parts = [data]
        have = len(data)
        while have < length:
            more = os.pread(self._fd, length - have, position + have)
            if not more:
                break
            parts.append(more)
            have += len(more)
        return b"".join(parts) if len(parts) > 1 else data

    def truncate(self, size: int) -> None:
        os.ftruncate(self._fd, size)

    def allocate(self, size: int) -> None:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(self._fd, 0, size)
            return
        zeros = bytes(_ZEROS)
        for position in range(0, size, _ZEROS):
            self.write_at(position, [zeros[: min(_ZEROS, size - position)]])

    def size(self) -> int:
        return os.fstat(self._fd).st_size

    def sync(self) -> None:
        _sync_data(self._fd)

    def dup(self) -> Self:
        return type(self)(spares.opening(lambda: os.dup(self._fd)))

    def close(self) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)
            spares.refill()


class OsDirectory:
    """A directory's descriptor."""

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def sync(self) -> None:
        os.fsync(self._fd)

    def close(self) -> None:
        os.close(self._fd)
        spares.refill()


class OsFileSystem:
    """The operating system's files."""

    def open(self, path: str, *, create: bool = False) -> OsFile:
        return OsFile(self._descriptor(path, create=create))

    def _descriptor(self, path: str, *, create: bool) -> int:
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | (os.O_CREAT | os.O_EXCL if create else 0)
        return spares.opening(lambda: os.open(path, flags, _FILE_MODE), lasting=path.endswith(_LASTING))

    def lock(self, path: str) -> OsFile | None:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, _FILE_MODE)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return None
        except BaseException:
            os.close(fd)
            raise
        return OsFile(fd)

    def listdir(self, path: str) -> list[str]:
        found = sorted(spares.opening(lambda: os.listdir(path)))
        spares.refill()
        return found

    def size(self, path: str) -> int:
        return os.stat(path, follow_symlinks=False).st_size

    def is_directory(self, path: str) -> bool:
        return os.path.isdir(path) and not os.path.islink(path)

    def makedirs(self, path: str, *, durable: bool = True) -> None:
        if os.path.isdir(path):
            return
        parent = os.path.dirname(os.path.abspath(path))
        self.makedirs(parent)
        with contextlib.closing(self.open_dir(parent)) as above:
            with contextlib.suppress(FileExistsError):
                os.mkdir(path, _DIRECTORY_MODE)
            if durable:
                above.sync()

    def rename(self, old: str, new: str) -> None:
        os.rename(old, new)

    def unlink(self, path: str) -> None:
        os.unlink(path)

    def rmdir(self, path: str) -> None:
        os.rmdir(path)

    def open_dir(self, path: str) -> OsDirectory:
        return OsDirectory(spares.opening(lambda: os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)))

    def sync_dir(self, path: str) -> None:
        with contextlib.closing(self.open_dir(path)) as directory:
            directory.sync()


def boot_id() -> str | None:
    """The kernel's boot id: equal before and after means the page cache survived. None where there is none (macOS)."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip() or None
    except OSError:
        return None


def read_file(fs: FileSystem, path: str) -> bytes:
    """The whole content. Missing: FileNotFoundError."""
    file = fs.open(path)
    try:
        return file.pread(file.size(), 0)
    finally:
        file.close()


def remove_if_there(fs: FileSystem, path: str) -> bool:
    """Unlinks and says whether there was anything to unlink."""
    try:
        fs.unlink(path)
    except FileNotFoundError:
        return False
    return True


def _drop(buffers: Iterable[memoryview], count: int) -> Iterable[memoryview]:
    for buffer in buffers:
        if count >= len(buffer):
            count -= len(buffer)
        else:
            yield buffer[count:]
            count = 0


def _sync_data(fd: int) -> None:
    if hasattr(os, "fdatasync"):
        os.fdatasync(fd)
    else:
        # macOS has no fdatasync, and its fsync does not reach the platter: F_FULLFSYNC does.
        fcntl.fcntl(fd, getattr(fcntl, "F_FULLFSYNC", 51))
