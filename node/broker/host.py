"""What a partition answers, and what it asks of the node it lives on."""

from asyncio import TimerHandle
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from node.broker.replica import IsrChange

if TYPE_CHECKING:
    from node.broker.partition import Partition
    from node.broker.producers import ProducerTable

ACKS_ALL: Final = -1
WITHHELD: Final = -1
"""A high watermark that a new leader does not show yet (KIP-207)."""


class Appended(NamedTuple):
    """What became of a batch. `end_offset` (exclusive) must be committed for acks=all. Times in ms, -1 = the
    producer's own. `duplicate`: it was stored before, by an earlier try, and these are its places."""

    topic_id: bytes
    partition: int
    leader_epoch: int
    base_offset: int
    end_offset: int
    log_append_time_ms: int
    log_start_offset: int
    size_bytes: int
    acks: int
    duplicate: bool


class Copies(NamedTuple):
    """Who has a batch now; zeros where this node does not lead in its epoch any more."""

    high_watermark: int = 0
    replicas_holding: int = 0
    replicas_synced: int = 0


class ReadResult(NamedTuple):
    """Committed batches from an offset on. `high_watermark` is -1 while a new leader withholds it; `diverging` (epoch,
    end offset) means that the reader's position was truncated away, and then there is no data."""

    data: bytes
    high_watermark: int
    log_start_offset: int
    leader_epoch: int
    next_offset: int
    diverging: tuple[int, int] | None = None
    mixed: bool = False
    """Whether there may be batches of other kinds than Ottla's own."""

    def holding(self, data: bytes, next_offset: int | None) -> "ReadResult":
        """With other data in the place of its own; `next_offset` None: as far as it went."""
        if data is self.data:
            return self
        return self._replace(data=data, next_offset=self.next_offset if next_offset is None else next_offset)


class Watcher(Protocol):
    """A follower's fetch stream, as the partition sees it."""

    def grew(self, partition: "Partition") -> None:
        """The log has new batches."""

    def marked(self, partition: "Partition") -> None:
        """The high watermark or the log start moved."""


class Host(Protocol):
    """What a partition asks of the node it lives on."""

    node_id: int

    def clock_ms(self) -> int:
        """Monotonic time."""

    def call_in(self, delay_ms: int, call: Callable[[], None]) -> TimerHandle:
        """Calls once that time has passed, on the data loop."""

    def sync_soon(self, partition: "Partition") -> None:
        """The log has bytes that must become durable; `Partition.synced` follows."""

    def position_moved(self, partition: "Partition") -> None:
        """A follower has synced more: its leader should know."""

    def producer_id_given(self, producer_id: int) -> bool:
        """Whether a producer has this id, as far as this node knows: its metadata may be a moment old."""

    def alter_isr(self, partition: "Partition", change: IsrChange) -> None:
        """Asks the controller; `LeaderReplica.altered` or `.refused` follows."""

    def log_failed(self, partition: "Partition", error: Exception) -> None:
        """The log takes no more writes: the partition must move to another node."""

    def checkpoint_soon(self) -> None:
        """The log start moved and must be remembered; `Partition.checkpointed` follows."""

    def suspect(self, partition: "Partition", offset: int) -> None:
        """A read met a bad batch at or behind an offset."""

    def no_space(self) -> None:
        """A write found the disk full."""

    def log_cut(self, partition: "Partition", producers: "ProducerTable | None") -> None:
        """The log is about to lose its tail: what was saved about later offsets must go first. `producers` as they are
        afterwards, None: not known yet."""

    def address_of(self, node_id: int) -> str:
        """Where clients reach a node; "" if it is not known."""
