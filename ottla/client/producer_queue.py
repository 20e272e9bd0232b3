"""The values that the producer's state machine keeps and answers with."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from ottla.client.partitioner import StickyPartitioner
from ottla.client.producer_batch import Batch
from ottla.v1 import error_pb2 as pb

NOT_WRITTEN: Final = frozenset(
    {
        pb.ERROR_CODE_UNKNOWN_TOPIC_OR_PARTITION,
        pb.ERROR_CODE_UNKNOWN_TOPIC_ID,
        pb.ERROR_CODE_INCONSISTENT_TOPIC_ID,
        pb.ERROR_CODE_LEADER_NOT_AVAILABLE,
        pb.ERROR_CODE_NOT_ENOUGH_REPLICAS,
        pb.ERROR_CODE_MESSAGE_TOO_LARGE,
        pb.ERROR_CODE_RECORD_LIST_TOO_LARGE,
        pb.ERROR_CODE_INVALID_RECORD,
        pb.ERROR_CODE_INVALID_TIMESTAMP,
        pb.ERROR_CODE_INVALID_REQUEST,
        pb.ERROR_CODE_INVALID_REQUIRED_ACKS,
        pb.ERROR_CODE_CORRUPT_MESSAGE,
        pb.ERROR_CODE_OUT_OF_ORDER_SEQUENCE_NUMBER,
        pb.ERROR_CODE_INVALID_PRODUCER_EPOCH,
        pb.ERROR_CODE_UNKNOWN_PRODUCER_ID,
        pb.ERROR_CODE_FENCED_LEADER_EPOCH,
        pb.ERROR_CODE_UNKNOWN_LEADER_EPOCH,
        pb.ERROR_CODE_UNSUPPORTED_COMPRESSION_TYPE,
        pb.ERROR_CODE_THROTTLING_QUOTA_EXCEEDED,
        pb.ERROR_CODE_POLICY_VIOLATION,
        pb.ERROR_CODE_TOPIC_AUTHORIZATION_FAILED,
        pb.ERROR_CODE_CLUSTER_AUTHORIZATION_FAILED,
    }
)
"""Codes that say that this attempt appended nothing. Every other one leaves it open, NOT_LEADER_OR_FOLLOWER too: the
leader may have lost its office after the append (KAFKA-13574)."""


class Leader(NamedTuple):
    """Who leads a partition, as far as the client knows; None = nobody."""

    node_id: int | None
    epoch: int


NO_LEADER: Final = Leader(None, -1)


@dataclass(slots=True)
class Queue:
    """One partition's batches."""

    topic: str
    partition: int
    batch_size: int
    leader: Leader = NO_LEADER
    waiting: deque[Batch] = field(default_factory=deque)
    """Never sent; only the last may be open."""
    in_flight: list[Batch] = field(default_factory=list)
    """With a sequence and without an outcome, in the order of sequences."""
    epoch: int = 0
    next_sequence: int = 0
    next_needs_epoch: bool = False

    def batches(self) -> Iterator[Batch]:
        yield from self.in_flight
        yield from self.waiting


@dataclass(slots=True)
class Topic:
    """One topic's partitions; the id tells a topic from its namesake that was deleted."""

    topic_id: bytes
    queues: list[Queue]
    partitioner: StickyPartitioner

    def fits(self, size_bytes: int) -> None:
        """No batch shall be larger than this from now on: a larger one was refused."""
        self.partitioner.batch_size = min(self.partitioner.batch_size, size_bytes)
        for queue in self.queues:
            queue.batch_size = self.partitioner.batch_size


class Transmit(NamedTuple):
    """Batches of different partitions to send to their leader as one request."""

    leader_id: int
    batches: list[Batch]


@dataclass(slots=True)
class Actions:
    """What to do now. `next_poll_ms` is when to ask again if nothing else happens; None = not before something does."""

    transmits: list[Transmit] = field(default_factory=list)
    completed: list[Batch] = field(default_factory=list)
    abandoned: set[int] = field(default_factory=set)
    """Leaders that let a request time out: close the connection, it may be a dead one."""
    needs_producer_id: bool = False
    next_poll_ms: int | None = None
