"""The nouns of the log: who takes part, what an entry is, what a snapshot stands for.

Indexes are inclusive and start at 1; index 0 with term 0 is "before the first entry".
"""

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple


class PeerId(NamedTuple):
    """A quorum member by node id *and* directory id (KIP-853): a wiped disk is somebody else, whatever its node id
    says.
    """

    node_id: int
    directory_id: bytes

    def __str__(self) -> str:
        return f"{self.node_id}@{self.directory_id.hex()[:8]}"


class EntryKind(Enum):
    """What an entry means to consensus; the state machine looks at DATA only."""

    DATA = 0
    NOOP = 1
    VOTERS = 2


@dataclass(frozen=True, slots=True)
class Entry:
    """One position of the replicated log. `voters` is the whole new voter set of a VOTERS entry, else empty."""

    index: int
    term: int
    kind: EntryKind
    data: bytes = b""
    voters: tuple[PeerId, ...] = ()

    @property
    def is_sound(self) -> bool:
        """Whether it has what its kind has, and nothing else: a voter set of different members, or data."""
        if self.kind is EntryKind.VOTERS:
            return bool(self.voters) and len(set(self.voters)) == len(self.voters) and not self.data
        return not self.voters and not (self.data and self.kind is EntryKind.NOOP)

    @property
    def size_bytes(self) -> int:
        """What the entry counts against message and memory limits; the constant stands for its framing."""
        return len(self.data) + 32 * len(self.voters) + 128


@dataclass(frozen=True, slots=True)
class SnapshotMeta:
    """The prefix of the log a snapshot replaces, and the voter set in force at its last entry.

    `last_index` 0 is the formation: no entries, only the first voter set.
    """

    last_index: int
    last_term: int
    voters: tuple[PeerId, ...]
