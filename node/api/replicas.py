"""What a node stores: its data directory, and the size of each replica there."""

import os
from typing import NamedTuple

from node.api.view import ClusterView
from node.broker.broker import Broker


class Replica(NamedTuple):
    """`lag`: records that it has not got yet of those that are committed, as far as it knows."""

    size_bytes: int
    lag: int


class Disk(NamedTuple):
    total_bytes: int
    free_bytes: int


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
