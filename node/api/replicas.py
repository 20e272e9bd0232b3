"""What a node stores: its data directory, and the size of each replica there."""

import os
from typing import NamedTuple

from node.api.view import ClusterView
from node.broker.broker import Broker
from ottla.protocol.acls import READ
from ottla.protocol.errors import ApiError
from ottla.v1 import error_pb2 as pb


class Replica(NamedTuple):
    """`lag`: records that it has not got yet of those that are committed, as far as it knows."""

    size_bytes: int
    lag: int


class Disk(NamedTuple):
    total_bytes: int
    free_bytes: int


class Writer(NamedTuple):
    """A producer that a replica remembers. `last_written_ms` is wall-clock time."""

    producer_id: int
    epoch: int
    last_sequence: int
    last_written_ms: int


class ReplicasApi:
    def __init__(self, broker: Broker, view: ClusterView) -> None:
        self._broker = broker
        self._view = view
        self.path = os.path.abspath(broker.directory.path)
        """Of the data directory."""

    def disk(self) -> Disk:
        """The file system of the data directory. Raises OSError."""
        stats = os.statvfs(self.path)
        return Disk(stats.f_blocks * stats.f_frsize, stats.f_bavail * stats.f_frsize)

    def partitions(self) -> dict[str, list[int]]:
        """Of which partitions there are replicas here, by topic."""
        found: dict[str, list[int]] = {}
        for topic_id, number in sorted(self._broker.partitions):
            topic = self._view.image.topic(topic_id)
            if topic is not None:
                found.setdefault(topic.name, []).append(number)
        return found

    def replica(self, topic_name: str, number: int) -> Replica | None:
        """None where it is not here."""
        topic = self._view.image.topic_named(topic_name)
        found = None if topic is None else self._broker.partition(topic.topic_id, number)
        if found is None:
            return None
        return Replica(found.log.size_bytes, max(0, found.high_watermark - found.log.log_end_offset))

    def producers(self, topic_name: str, number: int) -> list[Writer]:
        """What the replica of this node remembers. Raises ApiError, NOT_LEADER_OR_FOLLOWER where there is none."""
        topic, state = self._view.partition(topic_name, b"", number, READ)
        found = self._broker.partition(topic.topic_id, number)
        if found is None:
            raise ApiError(
                pb.ERROR_CODE_NOT_LEADER_OR_FOLLOWER,
                f"node {self._view.node_id} has no replica of {topic_name}-{number}; nodes {list(state.replicas)} have",
            )
        start_ms = self._broker.wall_ms() - self._broker.clock_ms()
        return [
            Writer(producer_id, producer.epoch, producer.batches[-1].last_sequence, start_ms + producer.last_written_ms)
            for producer_id, producer in found.producers.items()
        ]
