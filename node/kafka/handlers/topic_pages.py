"""DescribeTopicPartitions: topics by name, a page of partitions at a time, with their eligible leaders (KIP-966)."""

from collections.abc import Iterator
from typing import Final, NamedTuple

from node import limits, turns
from node.kafka.connection import Call
from node.kafka.handlers.cluster import TOPIC_OPERATIONS, is_name, offline
from node.kafka.handlers.cluster_facts import NOT_ASKED, ClusterFacts
from node.kafka.messages.describe_topic_partitions import (
    Cursor,
    DescribeTopicPartitionsRequest,
    DescribeTopicPartitionsResponse,
    DescribeTopicPartitionsResponsePartition,
    DescribeTopicPartitionsResponseTopic,
)
from node.kafka.wire import Message
from node.metadata.image import NO_LEADER, Image, Partition
from ottla.protocol.acls import DESCRIBE, TOPIC
from ottla.v1 import error_pb2 as pb

LOW, HIGH = 0, 0
PARTITIONS_MAX: Final = 2000
"""Of one answer, as in Kafka."""


class _Page(NamedTuple):
    """Where an answer begins."""

    name: str = ""
    partition: int = 0


class TopicPagesHandler:
    def __init__(self, facts: ClusterFacts) -> None:
        self._facts = facts

    async def __call__(self, request: Message, call: Call) -> Message:
        assert isinstance(request, DescribeTopicPartitionsRequest)
        named = {topic.name for topic in request.topics}
        cursor = request.cursor
        page = _Page() if cursor is None else _Page(cursor.topic_name, cursor.partition_index)
        if page.partition < 0 or (cursor is not None and named and page.name not in named):
            return DescribeTopicPartitionsResponse(
                topics=[_failed(name, pb.ERROR_CODE_INVALID_REQUEST, NOT_ASKED) for name in sorted(named)]
            )
        image = self._facts.view.image
        access = self._facts.view.access
        known = named or {name for name in image.names if access.may(DESCRIBE, TOPIC, name)}
        names = sorted(name for name in known if name >= page.name)
        left = max(1, min(request.response_partition_limit, PARTITIONS_MAX))
        topics: list[DescribeTopicPartitionsResponseTopic] = []
        for count, name in enumerate(names, 1):
            if count % limits.AT_ONCE == 0:
                await turns.give_way()
            if left <= 0:
                return DescribeTopicPartitionsResponse(topics=topics, next_cursor=Cursor(name, 0))
            first = page.partition if name == page.name else 0
            found = self._topic(image, name, first, left)
            topics.append(found)
            left -= len(found.partitions)
            end = first + len(found.partitions)
            topic = image.topic_named(name)
            if topic is not None and not found.error_code and end < len(topic.partitions):
                return DescribeTopicPartitionsResponse(topics=topics, next_cursor=Cursor(name, end))
        return DescribeTopicPartitionsResponse(topics=topics)

    def _topic(self, image: Image, name: str, first: int, left: int) -> DescribeTopicPartitionsResponseTopic:
        topic = image.topic_named(name)
        access = self._facts.view.access
        if not access.lets(DESCRIBE, TOPIC, name):
            access.denied(DESCRIBE, TOPIC, name)
            return _failed(name, pb.ERROR_CODE_TOPIC_AUTHORIZATION_FAILED, NOT_ASKED)
        if topic is None:
            known = is_name(name)
            code = pb.ERROR_CODE_UNKNOWN_TOPIC_OR_PARTITION if known else pb.ERROR_CODE_INVALID_TOPIC_EXCEPTION
            return _failed(name, code)
        return DescribeTopicPartitionsResponseTopic(
            name=name,
            topic_id=topic.topic_id,
            is_internal=topic.internal,
            partitions=list(self._partitions(image, topic.partitions[first : first + left])),
            topic_authorized_operations=access.operations(TOPIC, name, TOPIC_OPERATIONS),
        )

    def _partitions(
        self, image: Image, states: tuple[Partition, ...]
    ) -> Iterator[DescribeTopicPartitionsResponsePartition]:
        for state in states:
            reachable = state.leader != NO_LEADER and self._facts.serves(state.leader)
            yield DescribeTopicPartitionsResponsePartition(
                error_code=0 if reachable else pb.ERROR_CODE_LEADER_NOT_AVAILABLE,
                partition_index=state.partition,
                leader_id=state.leader if reachable else NO_LEADER,
                leader_epoch=state.leader_epoch,
                replica_nodes=state.replicas,
                isr_nodes=state.isr,
                eligible_leader_replicas=state.elr,
                last_known_elr=state.last_known_elr,
                offline_replicas=offline(image, state),
            )


def _failed(name: str, code: int, operations: int = TOPIC_OPERATIONS) -> DescribeTopicPartitionsResponseTopic:
    return DescribeTopicPartitionsResponseTopic(error_code=code, name=name, topic_authorized_operations=operations)
