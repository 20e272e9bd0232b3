"""DescribeProducers: which idempotent producers a replica of this node remembers, as Kafka's tools ask for it."""

from collections import defaultdict
from typing import Final

from node import limits, turns
from node.api.replicas import ReplicasApi
from node.kafka.connection import Call
from node.kafka.messages.describe_producers import (
    DescribeProducersRequest,
    DescribeProducersResponse,
    PartitionResponse,
    ProducerState,
    TopicResponse,
)
from node.kafka.wire import Message
from ottla.protocol.errors import ApiError
from ottla.v1 import error_pb2 as pb

LOW, HIGH = 0, 0
NO_COORDINATOR: Final = -1
"""There are no transactions."""


class DescribeProducersHandler:
    def __init__(self, api: ReplicasApi) -> None:
        self._api = api

    async def __call__(self, request: Message, call: Call) -> Message:
        assert isinstance(request, DescribeProducersRequest)
        told: dict[str, list[PartitionResponse]] = defaultdict(list)
        left = limits.PRODUCERS_MAX
        for topic in request.topics:
            for number in topic.partition_indexes:
                found = self._partition(topic.name, number, left)
                left -= len(found.active_producers)
                told[topic.name].append(found)
                await turns.give_way()
        return DescribeProducersResponse(topics=[TopicResponse(name, parts) for name, parts in told.items()])

    def _partition(self, name: str, number: int, most: int) -> PartitionResponse:
        try:
            producers = self._api.producers(name, number)
        except ApiError as error:
            return PartitionResponse(number, error.code, error.message)
        if len(producers) > most:
            why = f"{name}-{number} has {len(producers)} producers, and an answer {limits.PRODUCERS_MAX}: ask for less"
            return PartitionResponse(number, pb.ERROR_CODE_INVALID_REQUEST, why)
        return PartitionResponse(
            number,
            active_producers=[
                ProducerState(each.producer_id, each.epoch, each.last_sequence, each.last_written_ms, NO_COORDINATOR)
                for each in producers
            ],
        )
