"""Exports and imports of topics: slices of logs as they are, out of one cluster and into another one."""

from typing import NamedTuple

from node import audit, limits
from node.broker import imports
from node.broker.broker import Broker
from node.broker.host import ACKS_ALL, Appended, ReadResult
from node.broker.partition import Partition
from node.metadata.image import Topic
from ottla.protocol.errors import ApiError
from ottla.v1 import error_pb2 as pb

SLICE_MAX_BYTES = limits.MIB
EARLIEST = -2


class Progress(NamedTuple):
    """How far a partition's log is: it ends there, all of it committed, and can be read from its start."""

    log_end_offset: int
    log_start_offset: int


class Brought(NamedTuple):
    """What a call brings: see ImportBatchesRequest."""

    import_id: bytes
    source_topic_id: bytes
    log_end_offset: int
    log_start_offset: int
    batches: bytes


class ImportsApi:
    """For the partitions that this node leads."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    def export(self, topic: Topic, number: int, offset: int, max_bytes: int) -> ReadResult:
        """Committed batches as they are stored, from the one that holds `offset` on; -2: the log start. Raises
        ApiError."""
        partition = self._led(topic, number)
        start = partition.log.log_start_offset if offset == EARLIEST else offset
        room = min(max_bytes or SLICE_MAX_BYTES, SLICE_MAX_BYTES)
        return partition.read(start, room, min_one=True, current_leader_epoch=None, last_fetched_epoch=None)

    async def bring(self, topic: Topic, number: int, brought: Brought, timeout_ms: int) -> Progress:
        """Appends batches of an import and waits until they are committed. Raises ApiError."""
        if not topic.import_id:
            raise ApiError(
                pb.ERROR_CODE_INVALID_REQUEST,
                f"{topic.name} is open: only a topic that an import creates takes batches of one",
            )
        if brought.import_id != topic.import_id:
            raise ApiError(
                pb.ERROR_CODE_INVALID_REQUEST,
                f"{topic.name} is filled by import {topic.import_id.hex()}, not by {brought.import_id[:16].hex()}",
                next_step="go on with the file that it was begun with, or delete the topic first",
            )
        batches = []
        if brought.batches:
            ids_end = self._broker.image.next_producer_id
            args = (brought.batches, brought.source_topic_id, number, ids_end)
            batches = await self._broker.in_thread(imports.checked, *args)
        # The leader may be another one by now, and so may be the log.
        partition = self._led(topic, number)
        start = partition.log.log_start_offset
        epoch, end = imports.append(partition, batches, brought.log_end_offset, self._broker.wall_ms())
        place = (topic.topic_id, number, epoch)
        await self._broker.acknowledged(Appended(*place, start, end, -1, start, 0, ACKS_ALL, False), timeout_ms)
        if start < brought.log_start_offset <= end and partition.settings.importing:
            with audit.changing("ImportBatches", topic=topic.name, partition=number, start=brought.log_start_offset):
                partition.leading(epoch)  # another one has yet to know that it is committed
                partition.trim(brought.log_start_offset)
                start = await self._broker.trimmed(topic.topic_id, number, brought.log_start_offset)
        return Progress(end, start)

    def _led(self, topic: Topic, number: int) -> Partition:
        partition = self._broker.partition(topic.topic_id, number)
        if partition is None:
            raise ApiError(
                pb.ERROR_CODE_NOT_LEADER_OR_FOLLOWER,
                f"node {self._broker.node_id} has no replica of {topic.name}-{number} at hand",
            )
        return partition
