"""Which offset is where: the ends of a partition, and the record of a time."""

from typing import Final, NamedTuple

from node.broker.broker import EARLIEST, LATEST, Broker
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

    def epoch_end(self, topic_id: bytes, number: int, leader_epoch: int, current_leader_epoch: int | None) -> EpochEnd:
        """The largest epoch at or below the asked-for one, and where it ends (KIP-320). Raises ApiError."""
        return EpochEnd(*self._broker.epoch_end(topic_id, number, leader_epoch, current_leader_epoch))
