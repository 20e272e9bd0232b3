"""The values that users hand in and get back."""

from collections.abc import Sequence
from typing import NamedTuple

Headers = Sequence[tuple[str, bytes | None]]
"""Name and value pairs. Order and duplicates are kept; None is null, which is not the same as empty."""


class TopicPartition(NamedTuple):
    """One partition of a topic."""

    topic: str
    partition: int


class Position(NamedTuple):
    """The next offset to read, and the epoch of the record before it."""

    offset: int
    leader_epoch: int | None


class RecordMetadata(NamedTuple):
    """Where a record was stored. `offset` is -1 where it is not known (acks=0, or a repeat the server only remembers
    as stored). `timestamp` is in ms since the epoch. The three after the epoch say how safe the record was when the
    leader answered; they never overstate, and are 0 with acks=0. `duplicate`: an earlier try had stored it already."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    leader_epoch: int
    replicas_holding: int
    replicas_synced: int
    high_watermark: int
    duplicate: bool


class ConsumerRecord(NamedTuple):
    """A record that was read. `timestamp` is in ms since the epoch; key, value and header values may be null."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    leader_epoch: int

    @property
    def topic_partition(self) -> TopicPartition:
        return TopicPartition(self.topic, self.partition)
