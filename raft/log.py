"""The log in memory: everything since the last snapshot, plus a tail behind it for followers that are a little late.

The metadata log is small, so the core holds it whole and the disk only ever sees writes. The voter set belongs to the
log: the newest VOTERS entry counts as soon as it is appended, committed or not (Raft dissertation 4.1), and truncation
takes it back.
"""

from bisect import bisect_right
from collections.abc import Sequence

from raft.errors import InvariantError
from raft.model import Entry, EntryKind, PeerId, SnapshotMeta


def reconcile(snapshot: SnapshotMeta, entries: Sequence[Entry]) -> Sequence[Entry]:
    """Return the entries found on disk that still belong beside the durable `snapshot`.

    A crash between storing a received snapshot and resetting the log leaves a log that ends before the snapshot or
    disagrees at its last entry: the snapshot is committed, so that log is dropped as a whole. Raises InvariantError if
    entries are missing in between.
    """
    if not entries:
        return ()
    first, last = entries[0].index, entries[-1].index
    if first > snapshot.last_index + 1:
        raise InvariantError(f"the log starts at {first} but the newest snapshot ends at {snapshot.last_index}")
    if last < snapshot.last_index:
        return ()
    if first <= snapshot.last_index and entries[snapshot.last_index - first].term != snapshot.last_term:
        return ()
    return entries


class RaftLog:
    """Contiguous entries after a base (index, term), the newest snapshot, and the voter sets in force along them."""

    def __init__(self, snapshot: SnapshotMeta, entries: Sequence[Entry] = ()) -> None:
        """Hold the reconciled `entries` beside `snapshot`; both as loaded from disk."""
        entries = reconcile(snapshot, entries)
        self.snapshot = snapshot
        self.base_index = snapshot.last_index
        self.base_term = snapshot.last_term
        self._entries: list[Entry] = []
        self._voter_sets: list[tuple[int, tuple[PeerId, ...]]] = [(snapshot.last_index, snapshot.voters)]
        if entries and entries[0].index <= snapshot.last_index:
            # The term before the first entry is on no disk: that entry becomes the base the others are compared
            # against.
            self.base_index, self.base_term = entries[0].index, entries[0].term
            entries = entries[1:]
        for entry in entries:
            self.append(entry, loading=True)

    @property
    def last_index(self) -> int:
        """Index of the newest entry, or of the base."""
        return self.base_index + len(self._entries)

    @property
    def last_term(self) -> int:
        """Term of the newest entry, or of the base."""
        return self._entries[-1].term if self._entries else self.base_term

    @property
    def voters(self) -> tuple[PeerId, ...]:
        """The voter set in force: that of the newest VOTERS entry."""
        return self._voter_sets[-1][1]

    @property
    def voters_index(self) -> int:
        """Where the voter set in force was appended."""
        return self._voter_sets[-1][0]

    @property
    def previous_voters(self) -> tuple[PeerId, ...]:
        """The voter set before the one in force; empty if the snapshot no longer knows it."""
        return self._voter_sets[-2][1] if len(self._voter_sets) > 1 else ()

    def voters_since(self, index: int) -> tuple[PeerId, ...]:
        """Everybody who is in the voter set in force at `index` or in a later one."""
        at = bisect_right(self._voter_sets, index, key=lambda pair: pair[0])
        sets = self._voter_sets[max(at - 1, 0) :]
        return tuple(dict.fromkeys(voter for _, voters in sets for voter in voters))

    def term_at(self, index: int) -> int | None:
        """Return the term of the entry at `index`, None if it is compacted away or not there yet."""
        position = index - self.base_index
        if position == 0:
            return self.base_term
        if 0 < position <= len(self._entries):
            return self._entries[position - 1].term
        return None

    def agreement_at_most(self, index: int, term: int) -> int:
        """Return the largest index <= `index` whose term is <= `term`; the base if there is none above it.

        Terms never fall along a log, so two logs can agree only at or before that index: one step per term instead of
        one per entry (Raft 5.3, the back-off at its end).
        """
        upto = min(index, self.last_index) - self.base_index
        if upto <= 0:
            return self.base_index
        return self.base_index + bisect_right(self._entries, term, 0, upto, key=lambda entry: entry.term)

    def entries_from(self, index: int, max_bytes: int) -> tuple[Entry, ...]:
        """Return entries from `index` (above the base) on, at least one if there is one, up to `max_bytes`."""
        taken: list[Entry] = []
        size = 0
        for position in range(index - self.base_index - 1, len(self._entries)):
            entry = self._entries[position]
            size += entry.size_bytes
            if taken and size > max_bytes:
                break
            taken.append(entry)
        return tuple(taken)

    def slice(self, first: int, last: int) -> list[Entry]:
        """Return the entries `first`..`last`, both inclusive. Raises InvariantError if one of them is not held."""
        if first <= self.base_index or last > self.last_index:
            raise InvariantError(f"entries {first}..{last} of {self.base_index + 1}..{self.last_index} are asked for")
        return self._entries[first - self.base_index - 1 : last - self.base_index]

    def append(self, entry: Entry, *, loading: bool = False) -> None:
        """Add the next entry. While loading, the voter sets before the snapshot's end are the snapshot's business."""
        if entry.index != self.last_index + 1 or entry.term < self.last_term:
            raise InvariantError(f"({entry.index}, {entry.term}) after ({self.last_index}, {self.last_term})")
        self._entries.append(entry)
        if entry.kind is EntryKind.VOTERS and not (loading and entry.index <= self.snapshot.last_index):
            self._voter_sets.append((entry.index, entry.voters))

    def truncate_from(self, index: int) -> None:
        """Drop the entry at `index` and all after it; voter sets among them go too."""
        if index <= max(self.base_index, self.snapshot.last_index):
            raise InvariantError(f"truncation at {index} reaches into the snapshot at {self.snapshot.last_index}")
        del self._entries[index - self.base_index - 1 :]
        while self._voter_sets[-1][0] >= index:
            self._voter_sets.pop()

    def snapshot_meta(self, index: int) -> SnapshotMeta:
        """Return what a snapshot of everything up to `index` stands for; `index` must be held."""
        term = self.term_at(index)
        if term is None or index < self.snapshot.last_index:
            raise InvariantError(
                f"no snapshot can be described at {index}: {self.snapshot.last_index}..{self.last_index}"
            )
        return SnapshotMeta(index, term, next(v for i, v in reversed(self._voter_sets) if i <= index))

    def compact(self, snapshot: SnapshotMeta, keep_entries: int) -> None:
        """Make `snapshot`, which the log agrees with, the newest one and drop entries more than `keep_entries` behind
        it.
        """
        self.snapshot = snapshot
        later = [pair for pair in self._voter_sets if pair[0] > snapshot.last_index]
        self._voter_sets = [(snapshot.last_index, snapshot.voters), *later]
        new_base = snapshot.last_index - keep_entries
        if new_base > self.base_index:
            term = self.term_at(new_base)
            assert term is not None
            del self._entries[: new_base - self.base_index]
            self.base_index, self.base_term = new_base, term

    def reset(self, snapshot: SnapshotMeta) -> None:
        """Forget every entry and start again after `snapshot`."""
        self.snapshot = snapshot
        self.base_index, self.base_term = snapshot.last_index, snapshot.last_term
        self._entries.clear()
        self._voter_sets = [(snapshot.last_index, snapshot.voters)]
