"""ListOffsets, and InitProducerId."""

from collections.abc import Awaitable, Callable
from typing import Final

from node import limits, turns
from node.api.offsets import MAX_TIMESTAMP, OffsetsApi
from node.kafka.connection import Call
from node.kafka.handlers.cluster_facts import ClusterFacts, unexpected
from node.kafka.messages.init_producer_id import InitProducerIdRequest, InitProducerIdResponse
from node.kafka.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsPartitionResponse,
    ListOffsetsRequest,
    ListOffsetsResponse,
    ListOffsetsTopicResponse,
)
from node.kafka.messages.offset_for_leader_epoch import (
    EpochEndOffset,
    OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochResponse,
    OffsetForLeaderPartition,
    OffsetForLeaderTopicResult,
)
from node.kafka.wire import Message
from node.metrics import Metrics
from ottla.protocol.errors import ApiError
from ottla.v1 import error_pb2 as pb

LIST_OFFSETS: Final = "ListOffsets"
OFFSET_FOR_LEADER_EPOCH: Final = "OffsetForLeaderEpoch"
LIST_LOW, LIST_HIGH = 1, 11
EPOCH_LOW, EPOCH_HIGH = 2, 4
INIT_LOW, INIT_HIGH = 0, 4
EARLIEST: Final = -2
EARLIEST_LOCAL, LATEST_TIERED, EARLIEST_TO_TIER = -4, -5, -6
_SINCE: Final = {MAX_TIMESTAMP: 7, EARLIEST_LOCAL: 8, LATEST_TIERED: 9, EARLIEST_TO_TIER: 11}
"""Special timestamps, and the version that brought them."""
TRANSACTIONAL_ID_AUTHORIZATION_FAILED: Final = 53
"""What ends a client's attempt to begin transactions at once."""


class ListOffsetsHandler:
    def __init__(self, api: OffsetsApi, facts: ClusterFacts, metrics: Metrics) -> None:
        self._api = api
        self._facts = facts
        self._metrics = metrics

    async def __call__(self, request: Message, call: Call) -> Message:
        assert isinstance(request, ListOffsetsRequest)
        topics = []
        count = 0
        for topic in request.topics:
            partitions = []
            for part in topic.partitions:
                count += 1
                if count % limits.AT_ONCE == 0:
                    await turns.give_way()
                try:
                    partitions.append(await self._one(topic.name, part, call.version))
                except ApiError as error:
                    partitions.append(self._failed(part, error, call.version))
                except Exception as error:
                    partitions.append(self._failed(part, unexpected(LIST_OFFSETS, error), call.version))
            topics.append(ListOffsetsTopicResponse(name=topic.name, partitions=partitions))
        return ListOffsetsResponse(topics=topics)

    async def _one(self, name: str, part: ListOffsetsPartition, version: int) -> ListOffsetsPartitionResponse:
        view = self._facts.view
        topic, state = view.partition(name, b"", part.partition_index)
        if state.leader != view.node_id:
            raise view.not_leader(topic, state)
        timestamp = part.timestamp
        if timestamp < EARLIEST and version < _SINCE.get(timestamp, version + 1):
            raise ApiError(
                pb.ERROR_CODE_UNSUPPORTED_VERSION, f"timestamp {timestamp} is not known in version {version}"
            )
        if timestamp in (LATEST_TIERED, EARLIEST_TO_TIER):
            return ListOffsetsPartitionResponse(partition_index=part.partition_index)  # there are no tiers
        if timestamp == EARLIEST_LOCAL:
            timestamp = EARLIEST
        epoch = part.current_leader_epoch if part.current_leader_epoch >= 0 else None
        found = await self._api.look_up(topic.topic_id, part.partition_index, timestamp, epoch)
        if found.offset is None:
            return ListOffsetsPartitionResponse(partition_index=part.partition_index)
        return ListOffsetsPartitionResponse(
            partition_index=part.partition_index,
            timestamp=-1 if found.timestamp_ms is None else found.timestamp_ms,
            offset=found.offset,
            leader_epoch=found.leader_epoch,
        )

    def _failed(self, part: ListOffsetsPartition, error: ApiError, version: int) -> ListOffsetsPartitionResponse:
        self._metrics.refused(f"Kafka{LIST_OFFSETS}", error.code)
        code = error.code
        if code == pb.ERROR_CODE_OFFSET_NOT_AVAILABLE and version < 5:
            code = pb.ERROR_CODE_LEADER_NOT_AVAILABLE
        return ListOffsetsPartitionResponse(partition_index=part.partition_index, error_code=code)


class OffsetForLeaderEpochHandler:
    """Where an epoch ends: consumers ask after each change of a leader, and read on when they know."""

    def __init__(self, api: OffsetsApi, facts: ClusterFacts, metrics: Metrics) -> None:
        self._api = api
        self._facts = facts
        self._metrics = metrics

    async def __call__(self, request: Message, call: Call) -> Message:
        assert isinstance(request, OffsetForLeaderEpochRequest)
        topics = []
        count = 0
        for topic in request.topics:
            partitions = []
            for part in topic.partitions:
                count += 1
                if count % limits.AT_ONCE == 0:
                    await turns.give_way()
                partitions.append(self._one(topic.topic, part))
            topics.append(OffsetForLeaderTopicResult(topic=topic.topic, partitions=partitions))
        return OffsetForLeaderEpochResponse(topics=topics)

    def _one(self, name: str, part: OffsetForLeaderPartition) -> EpochEndOffset:
        view = self._facts.view
        try:
            topic, state = view.partition(name, b"", part.partition)
            if state.leader != view.node_id:
                raise view.not_leader(topic, state)
            current = part.current_leader_epoch if part.current_leader_epoch >= 0 else None
            found = self._api.epoch_end(topic.topic_id, part.partition, part.leader_epoch, current)
        except ApiError as error:
            self._metrics.refused(f"Kafka{OFFSET_FOR_LEADER_EPOCH}", error.code)
            return EpochEndOffset(error_code=error.code, partition=part.partition)
        return EpochEndOffset(partition=part.partition, leader_epoch=found.leader_epoch, end_offset=found.end_offset)


class InitProducerIdHandler:
    """Ids for idempotent producers. Who brings an old one gets a fresh one."""

    def __init__(self, allocate: Callable[[], Awaitable[int]]) -> None:
        self._allocate = allocate

    async def __call__(self, request: Message, call: Call) -> Message:
        assert isinstance(request, InitProducerIdRequest)
        if request.transactional_id is not None:
            code = TRANSACTIONAL_ID_AUTHORIZATION_FAILED if request.transactional_id else pb.ERROR_CODE_INVALID_REQUEST
            return InitProducerIdResponse(error_code=code, producer_epoch=-1)
        try:
            return InitProducerIdResponse(producer_id=await self._allocate())
        except ApiError as error:
            return InitProducerIdResponse(error_code=error.code, producer_epoch=-1)
