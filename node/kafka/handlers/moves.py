"""AlterPartitionReassignments and ListPartitionReassignments (KIP-455): partitions move to other nodes;
UnregisterBroker: a node that has none leaves."""

from typing import Final

from node import limits, turns
from node.api.topics import Move, TopicsApi
from node.api.view import ClusterView
from node.kafka.connection import Call
from node.kafka.handlers.cluster_facts import wait_ms
from node.kafka.messages.alter_partition_reassignments import (
    AlterPartitionReassignmentsRequest,
    AlterPartitionReassignmentsResponse,
    ReassignablePartitionResponse,
    ReassignableTopicResponse,
)
from node.kafka.messages.list_partition_reassignments import (
    ListPartitionReassignmentsRequest,
    ListPartitionReassignmentsResponse,
    OngoingPartitionReassignment,
    OngoingTopicReassignment,
)
from node.kafka.messages.unregister_broker import UnregisterBrokerRequest, UnregisterBrokerResponse
from node.kafka.wire import Message
from node.metadata.image import Partition, moving
from ottla.protocol.acls import ALTER, DESCRIBE
from ottla.protocol.errors import ApiError

ALTER_LOW: Final = 0
ALTER_HIGH: Final = 0
LIST_LOW: Final = 0
LIST_HIGH: Final = 0
UNREGISTER_LOW: Final = 0
UNREGISTER_HIGH: Final = 0
UNREGISTER_MS: Final = 5000
"""The request says no time."""


class MoveHandlers:
    def __init__(self, api: TopicsApi, view: ClusterView) -> None:
        self._api = api
        self._view = view

    async def alter(self, request: Message, call: Call) -> Message:
        """Begins moves, or calls them off, where the partition has no replicas in the request."""
        assert isinstance(request, AlterPartitionReassignmentsRequest)
        moves = [
            Move(topic.name, each.partition_index, each.replicas)
            for topic in request.topics
            for each in topic.partitions
        ]
        try:
            self._view.access.check_cluster(ALTER)
            results = iter(await self._api.reassign(moves, wait_ms(request.timeout_ms)) if moves else ())
        except ApiError as error:
            return AlterPartitionReassignmentsResponse(error_code=error.code, error_message=error.message)
        return AlterPartitionReassignmentsResponse(
            error_message=None,
            responses=[
                ReassignableTopicResponse(
                    topic.name, [_result(each.partition_index, next(results)) for each in topic.partitions]
                )
                for topic in request.topics
            ],
        )

    async def unregister(self, request: Message, call: Call) -> Message:
        assert isinstance(request, UnregisterBrokerRequest)
        error: ApiError | None
        try:
            self._view.access.check_cluster(ALTER)
            error = await self._api.unregister(request.broker_id, UNREGISTER_MS)
        except ApiError as refused:
            error = refused
        if error is None:
            return UnregisterBrokerResponse(error_message=None)
        return UnregisterBrokerResponse(error_code=error.code, error_message=error.message)

    async def list(self, request: Message, call: Call) -> Message:
        """As this node's metadata has them."""
        assert isinstance(request, ListPartitionReassignmentsRequest)
        try:
            self._view.access.check_cluster(DESCRIBE)
        except ApiError as error:
            return ListPartitionReassignmentsResponse(error_code=error.code, error_message=error.message)
        image = self._view.image
        wanted = None
        if request.topics is not None:
            ids = {topic.name: image.names.get(topic.name, b"") for topic in request.topics}
            wanted = {(ids[topic.name], number) for topic in request.topics for number in topic.partition_indexes}
        topics = []
        for count, topic in enumerate(sorted(image.all_topics(), key=lambda topic: topic.name), 1):
            if count % limits.AT_ONCE == 0:
                await turns.give_way()
            if found := [_ongoing(state) for state in moving(topic, wanted)]:
                topics.append(OngoingTopicReassignment(topic.name, found))
        return ListPartitionReassignmentsResponse(error_message=None, topics=topics)


def _result(number: int, error: ApiError | None) -> ReassignablePartitionResponse:
    if error is None:
        return ReassignablePartitionResponse(number, 0, None)
    return ReassignablePartitionResponse(number, error.code, error.message)


def _ongoing(state: Partition) -> OngoingPartitionReassignment:
    return OngoingPartitionReassignment(state.partition, state.replicas, state.joining, state.leaving)
