"""Which offset is where: the ends of a partition, and the record of a time; and moving its start."""

import asyncio
from typing import Final, NamedTuple

from node import audit
from node.broker import refusals
from node.broker.broker import EARLIEST, LATEST, Broker
from node.metadata.image import Topic
from ottla.protocol.errors import ApiError
from ottla.v1 import error_pb2 as pb

MAX_TIMESTAMP: Final = -3


class Found(NamedTuple):
    """`offset` None: no committed record is as late. `timestamp_ms` None: an end was asked for."""

    offset: int | None
    timestamp_ms: int | None
    leader_epoch: int


class EpochEnd(NamedTuple):
    """Where an epoch ends; -1 and -1: none that is as old is known."""

    leader_epoch: int
    end_offset: int


class OffsetsApi:
    """Answers for the partitions that this node leads."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def look_up(self, topic_id: bytes, number: int, timestamp_ms: int, current_leader_epoch: int | None) -> Found:
        """Of -1 latest, -2 earliest, -3 the largest timestamp, or a time in ms. Raises ApiError."""
        if timestamp_ms < MAX_TIMESTAMP:
            raise ApiError(
                pb.ERROR_CODE_INVALID_REQUEST,
                f"timestamp_ms {timestamp_ms} is neither -1 (latest), -2 (earliest), -3 (largest timestamp) nor a time",
            )
        if timestamp_ms in (LATEST, EARLIEST):
            offset, epoch = self._broker.list_offset(topic_id, number, timestamp_ms, current_leader_epoch)
            return Found(offset, None, epoch)
        return Found(*await self._broker.offset_for_time(topic_id, number, timestamp_ms, current_leader_epoch))

    def log_size(self, topic_id: bytes, number: int) -> int | None:
        """What the log takes on this node's disk, in bytes; None where it is not here."""
        partition = self._broker.partition(topic_id, number)
        return None if partition is None else partition.log.size_bytes

    def epoch_end(self, topic_id: bytes, number: int, leader_epoch: int, current_leader_epoch: int | None) -> EpochEnd:
        """The largest epoch at or below the asked-for one, and where it ends (KIP-320). Raises ApiError."""
        return EpochEnd(*self._broker.epoch_end(topic_id, number, leader_epoch, current_leader_epoch))

    async def delete_records(
        self, topic: Topic, number: int, before: int, deadline_s: float, *, validate_only: bool = False
    ) -> int:
        """Moves the start of a log up to `before` (-1: the high watermark); returns the first offset that is left on
        every live replica. `deadline_s` is of the loop's clock. Raises ApiError, INVALID_TOPIC_EXCEPTION and
        POLICY_VIOLATION among others; after REQUEST_TIMED_OUT the records may be gone."""
        self._check_may_delete(topic, number)
        if validate_only:
            return self._checked_start(topic, number, before)
        with audit.changing("DeleteRecords", topic=topic.name, partition=number, before_offset=before):
            try:
                async with asyncio.timeout_at(deadline_s):
                    return await self._broker.delete_records(topic.topic_id, number, before)
            except TimeoutError:
                raise ApiError(
                    pb.ERROR_CODE_REQUEST_TIMED_OUT,
                    f"not all replicas of {topic.name}-{number} said in time that they did",
                ) from None

    def _check_may_delete(self, topic: Topic, number: int) -> None:
        """Raises INVALID_TOPIC_EXCEPTION or POLICY_VIOLATION."""
        if topic.internal:
            raise ApiError(
                pb.ERROR_CODE_INVALID_TOPIC_EXCEPTION, f"{topic.name} is internal: only the cluster trims it"
            )
        partition = self._broker.partition(topic.topic_id, number)
        if partition is not None and "delete" not in partition.settings.log.cleanup_policy:
            raise ApiError(
                pb.ERROR_CODE_POLICY_VIOLATION,
                f"{topic.name} has cleanup.policy=compact, where the last record of each key is kept: delete keys by "
                "records without a value, or set cleanup.policy=compact,delete first",
            )

    def _checked_start(self, topic: Topic, number: int, before: int) -> int:
        """Where the log would start after the deletion. Raises as that would."""
        end, _ = self._broker.list_offset(topic.topic_id, number, -1, None)
        start, _ = self._broker.list_offset(topic.topic_id, number, -2, None)
        wanted = end if before == -1 else before
        if not 0 <= wanted <= end:
            raise refusals.out_of_range(f"{topic.name}-{number}", before, start, end)
        return max(start, wanted)
