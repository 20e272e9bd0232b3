"""ListOffsets and OffsetForLeaderEpoch, which partitions' leaders answer, and InitProducerId."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final, TypeVar

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
from ottla.protocol.acls import DESCRIBE
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


Part = TypeVar("Part")
Answer = TypeVar("Answer")


class _OfLeaders:
    """What a partition's leader answers, each by itself: one that fails fails no other."""

    def __init__(self, api: OffsetsApi, facts: ClusterFacts, metrics: Metrics) -> None:
        self._api = api
        self._facts = facts
        self._metrics = metrics

    async def _each(
        self,
        name: str,
        topics: Iterable[tuple[str, Sequence[Part]]],
        one: Callable[[str, Part], Awaitable[Answer]],
        failed: Callable[[Part, int], Answer],
    ) -> list[tuple[str, list[Answer]]]:
        """Asks `one` for each partition; where that fails, the answer is `failed` with the code. A request that names
        many takes turns with others."""
        told: list[tuple[str, list[Answer]]] = []
        count = 0
        for topic, parts in topics:
            answers: list[Answer] = []
            for part in parts:
                count += 1
                if count % limits.AT_ONCE == 0:
                    await turns.give_way()
                try:
                    answers.append(await one(topic, part))
                except Exception as error:
                    code = error.code if isinstance(error, ApiError) else unexpected(name, error).code
                    self._metrics.refused(f"Kafka{name}", code)
                    answers.append(failed(part, code))
            told.append((topic, answers))
        return told

    def _led(self, name: str, number: int) -> bytes:
        """The id of the topic, of which this node leads that partition. Raises ApiError."""
        view = self._facts.view
        topic, state = view.partition(name, b"", number, DESCRIBE)
        if state.leader != view.node_id:
            raise view.not_leader(topic, state)
        return topic.topic_id


def _epoch(number: int) -> int | None:
    return number if number >= 0 else None


class ListOffsetsHandler(_OfLeaders):
    async def __call__(self, request: Message, call: Call) -> Message:
        assert isinstance(request, ListOffsetsRequest)

        async def one(name: str, part: ListOffsetsPartition) -> ListOffsetsPartitionResponse:
            return await self._one(name, part, call.version)

        def failed(part: ListOffsetsPartition, code: int) -> ListOffsetsPartitionResponse:
            if code == pb.ERROR_CODE_OFFSET_NOT_AVAILABLE and call.version < 5:
                code = pb.ERROR_CODE_LEADER_NOT_AVAILABLE
            return ListOffsetsPartitionResponse(partition_index=part.partition_index, error_code=code)

        asked = [(topic.name, topic.partitions) for topic in request.topics]
        told = await self._each(LIST_OFFSETS, asked, one, failed)
        return ListOffsetsResponse(topics=[ListOffsetsTopicResponse(name=name, partitions=each) for name, each in told])

    async def _one(self, name: str, part: ListOffsetsPartition, version: int) -> ListOffsetsPartitionResponse:
        topic_id = self._led(name, part.partition_index)
        timestamp = part.timestamp
        if timestamp < EARLIEST and version < _SINCE.get(timestamp, version + 1):
            raise ApiError(
                pb.ERROR_CODE_UNSUPPORTED_VERSION, f"timestamp {timestamp} is not known in version {version}"
            )
        if timestamp in (LATEST_TIERED, EARLIEST_TO_TIER):
            return ListOffsetsPartitionResponse(partition_index=part.partition_index)  # there are no tiers
        if timestamp == EARLIEST_LOCAL:
            timestamp = EARLIEST
        epoch = _epoch(part.current_leader_epoch)
        found = await self._api.look_up(topic_id, part.partition_index, timestamp, epoch)
        if found.offset is None:
            return ListOffsetsPartitionResponse(partition_index=part.partition_index)
        return ListOffsetsPartitionResponse(
            partition_index=part.partition_index,
            timestamp=-1 if found.timestamp_ms is None else found.timestamp_ms,
            offset=found.offset,
            leader_epoch=found.leader_epoch,
        )


class OffsetForLeaderEpochHandler(_OfLeaders):
    """Where an epoch ends: consumers ask after each change of a leader, and read on when they know."""

    async def __call__(self, request: Message, call: Call) -> Message:
        assert isinstance(request, OffsetForLeaderEpochRequest)
        asked = [(topic.topic, topic.partitions) for topic in request.topics]
        told = await self._each(OFFSET_FOR_LEADER_EPOCH, asked, self._one, _no_epoch_end)
        return OffsetForLeaderEpochResponse(
            topics=[OffsetForLeaderTopicResult(topic=name, partitions=each) for name, each in told]
        )

    async def _one(self, name: str, part: OffsetForLeaderPartition) -> EpochEndOffset:
        topic_id = self._led(name, part.partition)
        current = _epoch(part.current_leader_epoch)
        found = self._api.epoch_end(topic_id, part.partition, part.leader_epoch, current)
        return EpochEndOffset(partition=part.partition, leader_epoch=found.leader_epoch, end_offset=found.end_offset)


def _no_epoch_end(part: OffsetForLeaderPartition, code: int) -> EpochEndOffset:
    return EpochEndOffset(error_code=code, partition=part.partition)


class InitProducerIdHandler:
    """Ids for idempotent producers. Who brings an old one gets a fresh one."""

    def __init__(self, allocate: Callable[[], Awaitable[int]]) -> None:
        self._allocate = allocate

    async def __call__(self, request: Message, call: Call) -> Message:
        assert isinstance(request, InitProducerIdRequest)
        if request.transactional_id is not None:
            code = TRANSACTIONAL_ID_AUTHORIZATION_FAILED if request.transactional_id else pb.ERROR_CODE_INVALID_REQUEST
            return InitProducerIdResponse(error_code=code, producer_epoch=-1)
        if (request.producer_id == -1) != (request.producer_epoch == -1):
            return InitProducerIdResponse(error_code=pb.ERROR_CODE_INVALID_REQUEST, producer_epoch=-1)
        try:
            return InitProducerIdResponse(producer_id=await self._allocate())
        except ApiError as error:
            return InitProducerIdResponse(error_code=error.code, producer_epoch=-1)
