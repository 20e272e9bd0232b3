"""What of a log is durable, and making more of it so on another thread, without a lock."""

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from storage.errors import InvariantError
from storage.fs import NO_DESCRIPTORS, File, FileSystem

_UNSYNCED_FILE: Final = "unsynced"


def note_failure(fs: FileSystem, directory: str) -> None:
    """After a failed sync the kernel may count pages as clean that are not on the disk, and then no later sync writes
    them. As long as they can be read, and so believed, the next to open the log has to know. The note is not synced: it
    is in the same page cache, and a crash that takes it takes them.
    """
    with contextlib.suppress(OSError):
        fs.open(os.path.join(directory, _UNSYNCED_FILE), create=True).close()


def failure_noted(names: Sequence[str]) -> bool:
    """Whether the log with these files had a failure that `forget_failure` has not followed."""
    return _UNSYNCED_FILE in names


def forget_failure(fs: FileSystem, directory: str) -> None:
    """Everything was written again and synced. Raises OSError."""
    fs.unlink(os.path.join(directory, _UNSYNCED_FILE))


@dataclass(slots=True)
class SyncTicket:
    """One sync in flight: taken by `Log.begin_sync` on the owner's thread, run on any, given to `complete_sync`.

    The ticket owns duplicates of the descriptors, so the log may roll, trim or delete segments meanwhile. `end_offset`
    (exclusive) is read and lowered on the owner's thread only: a truncation must not let the ticket vouch for the
    bytes that are written in the place of those it syncs. `directories`: those to sync, inner ones first.
    """

    end_offset: int
    files: list[File]
    fs: FileSystem
    log_directory: str
    directories: Sequence[str]
    error: OSError | None = field(default=None)
    done: bool = field(default=False)

    def run(self) -> None:
        """Syncs file contents, then the directories in which something was made. Raises OSError; the log must then be
        told."""
        try:
            for file in self.files:
                file.sync()
            for directory in self.directories:
                self.fs.sync_dir(directory)
        except OSError as error:
            if error.errno not in NO_DESCRIPTORS:  # which is a directory that was not even opened
                # Here and not when the log is told: the process may end in between.
                note_failure(self.fs, self.log_directory)
            self.error = error
            raise
        else:
            self.done = True
        finally:
            self.release()

    def release(self) -> None:
        """Closes the duplicates; for a ticket that will not be run."""
        while self.files:
            self.files.pop().close()


class Durability:
    """How far a log is synced, and up to where recovery points may be remembered that are not true any more.

    A recovery point is remembered outside of the log (`LogDirectory.write_checkpoints`) and may be old: from before a
    truncation it says "synced" of offsets that were written anew since. `recovery_limit` is what the log itself
    remembers against that, until it has synced as far again.
    """

    __slots__ = ("_stale_end", "_ticket", "end_offset")

    def __init__(self, end_offset: int, remembered: int) -> None:
        self.end_offset = end_offset
        self._stale_end = remembered
        self._ticket: SyncTicket | None = None

    @property
    def recovery_limit(self) -> int | None:
        """Remembered recovery points above this are stale; None if none is."""
        return self.end_offset if self.end_offset < self._stale_end else None

    @property
    def in_flight(self) -> bool:
        return self._ticket is not None

    def begin(self, ticket: SyncTicket) -> SyncTicket:
        self._ticket = ticket
        return ticket

    def complete(self, ticket: SyncTicket) -> bool:
        """Takes the ticket back; True if by it all remembered recovery points have become true again.

        Raises the OSError of a sync that failed, InvariantError for a ticket that is not out or was not run.
        """
        if ticket is not self._ticket:
            raise InvariantError("this ticket was not the one that is out")
        self._ticket = None
        if ticket.error is not None:
            raise ticket.error
        if not ticket.done:
            raise InvariantError("the ticket was not run")
        were_stale = self.recovery_limit is not None
        self.end_offset = max(self.end_offset, ticket.end_offset)
        return were_stale and self.recovery_limit is None

    def all_until(self, end_offset: int) -> None:
        """The owner has synced everything itself."""
        self.end_offset = end_offset

    def cut(self, end_offset: int) -> None:
        """What lies at or above `end_offset` goes; a sync that is out no longer counts for it."""
        self._stale_end = max(self._stale_end, self.end_offset)
        self.end_offset = min(self.end_offset, end_offset)
        if self._ticket is not None:
            self._ticket.end_offset = min(self._ticket.end_offset, end_offset)
