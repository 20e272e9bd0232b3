"""What can go wrong in the log, as a tree. Every message says what happened and what the log does about it.

StorageError
  OffsetOutOfRange    the asked offset is not in [log start, log end]
  OffsetsOutOfOrder   replicated batches do not continue this log
  BatchTooLarge       one batch is above `max_message_bytes`
  Refused             nothing was changed, the log stays usable: try again
    DiskFull            the disk lacks room
    OutOfDescriptors    the process, or the machine, lacks file descriptors
  LogFailed           an earlier write or sync failed: only reads are served until the log is opened again
  LogDamaged          a batch below the recovery point is bad: appends wait until the owner truncates below it
  DirectoryLocked     another live process owns the directory
  CorruptFile         a small file (state, checkpoint, metadata) does not carry its checksum
InvariantError        a bug in the caller or here; stops the node (from `ottla.protocol.invariant`)
CorruptBatch          from `ottla.protocol.batch`
"""

from ottla.protocol.batch import CorruptBatch
from ottla.protocol.invariant import InvariantError
from storage.fs import NO_DESCRIPTORS, NO_SPACE

__all__ = [
    "BatchTooLarge",
    "CorruptBatch",
    "CorruptFile",
    "DirectoryLocked",
    "DiskFull",
    "InvariantError",
    "LogDamaged",
    "LogFailed",
    "OffsetOutOfRange",
    "OffsetsOutOfOrder",
    "OutOfDescriptors",
    "Refused",
    "StorageError",
    "passing",
    "refusal",
]


class StorageError(Exception):
    """The log could not do what was asked; it is still consistent."""


class OffsetOutOfRange(StorageError):
    """The offset lies outside [start, end]; both ends are there so that the answer can name them."""

    def __init__(self, offset: int, start: int, end: int) -> None:
        super().__init__(f"offset {offset} is outside of this log: it starts at {start} and ends at {end}")
        self.offset = offset
        self.start = start
        self.end = end


class OffsetsOutOfOrder(StorageError):
    """Replicated batches start below the log end, or their leader epoch goes back or beyond their leader's."""


class BatchTooLarge(StorageError):
    """The batch has more encoded bytes than `max_message_bytes`."""


class Refused(StorageError):
    """The moment lacks something and nothing is broken: what was begun is undone; retry."""


class DiskFull(Refused):
    """The file system has no space."""


class OutOfDescriptors(Refused):
    """EMFILE or ENFILE: says nothing about the disk or about any file."""


class LogFailed(StorageError):
    """A write or sync failed earlier, so what the file holds is unknown: only reads are served (KAFKA-10778)."""


class LogDamaged(StorageError):
    """A batch below the recovery point is bad. Its bytes stay until the owner decides on `truncate_to(damaged_at)`."""


class DirectoryLocked(StorageError):
    """Another process holds the lock of this directory and is alive."""


class CorruptFile(StorageError):
    """A small file does not carry the checksum of its content."""


def passing(error: BaseException) -> bool:
    """Whether what failed can work later as it is: nothing was changed, and nothing is broken."""
    return isinstance(error, Refused) or (isinstance(error, OSError) and error.errno in NO_DESCRIPTORS)


def refusal(directory: str, error: OSError) -> Refused:
    """An error of `fs.PASSING`, as what the caller of a log gets."""
    kind = DiskFull if error.errno in NO_SPACE else OutOfDescriptors
    return kind(f"{directory}: {error.strerror}; nothing was changed, try again later")
