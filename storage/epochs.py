"""Which leader epoch wrote from which offset on (KIP-101, KIP-279): the table that truncation is decided by."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable

from storage.errors import InvariantError


class EpochTable:
    """Entries (epoch, start offset), strictly increasing in both columns.

    An entry whose batches were all trimmed stays, with its start moved up, so that the last epoch of an idle or empty
    log is never forgotten (KAFKA-15608).
    """

    __slots__ = ("_epochs", "_starts")

    def __init__(self, entries: Iterable[tuple[int, int]] = ()) -> None:
        self._epochs: list[int] = []
        self._starts: list[int] = []
        for epoch, start in entries:
            self.assign(epoch, start)

    @property
    def latest_epoch(self) -> int | None:
        """The epoch of the last batch, or None for a log that has never seen one."""
        return self._epochs[-1] if self._epochs else None

    def entries(self) -> list[tuple[int, int]]:
        return list(zip(self._epochs, self._starts, strict=True))

    def assign(self, epoch: int, start_offset: int) -> bool:
        """Notes that `epoch` writes from `start_offset` on; True if that is news.

        An epoch that wrote nothing (same start as its successor) leaves the table. Raises InvariantError if the epoch
        or the offset goes back: that would make two histories out of one.
        """
        if self._epochs:
            if epoch == self._epochs[-1]:
                return False
            if epoch < self._epochs[-1] or start_offset < self._starts[-1]:
                raise InvariantError(
                    f"epoch {epoch} at offset {start_offset} after epoch {self._epochs[-1]} at {self._starts[-1]}"
                )
            if start_offset == self._starts[-1]:
                self._epochs[-1] = epoch
                return True
        self._epochs.append(epoch)
        self._starts.append(start_offset)
        return True

    def end_offset_for(self, epoch: int, log_end_offset: int) -> tuple[int, int] | None:
        """The largest known epoch <= `epoch` and the offset where it ends (KIP-279); None if all known are larger."""
        at = bisect_right(self._epochs, epoch) - 1
        if at < 0:
            return None
        end = self._starts[at + 1] if at + 1 < len(self._starts) else log_end_offset
        return self._epochs[at], end

    def epoch_at(self, offset: int) -> int | None:
        """The epoch that wrote (or would have written) `offset`; None below the first entry."""
        at = bisect_right(self._starts, offset) - 1
        return self._epochs[at] if at >= 0 else None

    def truncate_to(self, end_offset: int) -> bool:
        """Forgets epochs that start at or after `end_offset`; True if any did."""
        keep = bisect_left(self._starts, end_offset)
        changed = keep < len(self._starts)
        del self._epochs[keep:], self._starts[keep:]
        return changed

    def advance_start(self, start_offset: int) -> bool:
        """Forgets epochs that end at or below `start_offset`; the one that covers it now starts there."""
        drop = bisect_right(self._starts, start_offset) - 1
        if drop < 0 or (drop == 0 and self._starts[0] == start_offset):
            return False
        del self._epochs[:drop], self._starts[:drop]
        self._starts[0] = start_offset
        return True
