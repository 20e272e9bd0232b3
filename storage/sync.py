"""Making appended batches durable on another thread, without a lock."""

from dataclasses import dataclass, field

from storage.fs import File, FileSystem


@dataclass(slots=True)
class SyncTicket:
    """One sync in flight: taken by `Log.begin_sync` on the owner's thread, run on any, given to `complete_sync`.

    The ticket owns duplicates of the descriptors, so the log may roll, trim or delete segments meanwhile. `end_offset`
    (exclusive) is read and lowered on the owner's thread only: a truncation must not let the ticket vouch for the
    bytes that are written in the place of those it syncs.
    """

    end_offset: int
    files: list[File]
    fs: FileSystem
    directory: str | None
    error: OSError | None = field(default=None)
    done: bool = field(default=False)

    def run(self) -> None:
        """Syncs file contents, then the directory if files were made. Raises OSError; the log must then be told."""
        try:
            for file in self.files:
                file.sync()
            if self.directory is not None:
                self.fs.sync_dir(self.directory)
        except OSError as error:
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
