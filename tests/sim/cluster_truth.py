"""What the simulation knows of a partition: what was ever committed, and what each node's log of it holds."""

from bisect import bisect_right
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, NamedTuple

from node.groups.model import Groups
from node.metadata.image import NO_LEADER

Key = tuple[bytes, int]


class Entry(NamedTuple):
    """A batch in a log. `what` tells it from another one at the same place."""

    base: int
    next: int
    epoch: int
    what: tuple[int, int, int, int, int]
    producer_id: int
    producer_epoch: int
    sequence: int


NEXT = attrgetter("next")


class Led(NamedTuple):
    """A leadership that the metadata gave to a node, the last one."""

    leader_epoch: int
    replicas: tuple[int, ...]
    effective_min_isr: int
    pending: None = None


@dataclass(slots=True)
class Shadow:
    """What a node's log of a partition holds, as of the last look. It stays while the process is down."""

    log: Any
    entries: list[Entry]
    start: int = 0
    end: int = 0
    mark: int = 0
    synced: int = 0
    leader: Any = None
    epoch: int = -1
    damaged: bool = False
    cuts: int = 0
    gap: int = 0
    """Where it began again behind its own end: what producers wrote before that it cannot know."""
    departures: int = 0
    """How often the replica had left its partition when the log was opened; -1: it had left, and did not know."""
    unsure: bool = False
    """Its machine lost power: what it still has shows at the next start."""

    def at(self, offset: int) -> int:
        """Index of the entry that holds `offset`, or of the next one."""
        return bisect_right(self.entries, offset, key=NEXT)


@dataclass
class Truth:
    """All that is known of a partition."""

    name: str
    number: int
    internal: bool
    compacted: bool
    flush_ack: bool
    entries: list[Entry] = field(default_factory=list)
    end: int = 0
    payloads: list[list[tuple[bytes | None, bytes | None]]] = field(default_factory=list)
    appenders: dict[int, tuple[int, int]] = field(default_factory=dict)
    identity: dict[tuple[int, int], tuple[int, ...]] = field(default_factory=dict)
    leader: tuple[int, int] = (-1, NO_LEADER)
    marks: tuple[int, int] = (-1, 0)
    """The highest (epoch, high watermark) that a client could see."""
    producers: dict[int, tuple[int, int]] = field(default_factory=dict)
    trimmed: int = 0
    cuts: int = 0
    """How often committed records were lost in an allowed way."""
    lost: dict[Entry, list[tuple[bytes | None, bytes | None]]] = field(default_factory=dict)
    """Those records, with what is in them."""
    lost_end: int = 0
    """The highest end that the truth had before a cut."""
    groups: Groups = field(default_factory=Groups)
    group_epochs: dict[str, int] = field(default_factory=dict)
    member_epochs: dict[tuple[str, str], int] = field(default_factory=dict)

    @property
    def label(self) -> str:
        return f"{self.name}-{self.number}"
