"""Metadata, DescribeCluster and FindCoordinator: who is where."""

import asyncio
from typing import Final

from node import limits, turns
from node.api.coordination import Coordination
from node.kafka import metadata as encoded
from node.kafka.codec import Encoded
from node.kafka.connection import Call
from node.kafka.handlers.cluster_facts import NOT_ASKED, ClusterFacts
from node.kafka.handlers.offsets import TRANSACTIONAL_ID_AUTHORIZATION_FAILED
from node.kafka.messages.describe_cluster import (
    DescribeClusterBroker,
    DescribeClusterRequest,
    DescribeClusterResponse,
)
from node.kafka.messages.find_coordinator import Coordinator, FindCoordinatorRequest, FindCoordinatorResponse
from node.kafka.messages.metadata import (
    MetadataRequest,
    MetadataResponse,
    MetadataResponseBroker,
    MetadataResponsePartition,
    MetadataResponseTopic,
)
from node.kafka.wire import NO_ID, Message
from node.metadata.image import NO_LEADER, Image, Partition, Topic
from ottla.protocol.acls import CLUSTER, CLUSTER_NAME, DESCRIBE, GROUP, TOPIC
from ottla.protocol.errors import ApiError
from ottla.protocol.names import check_topic_name
from ottla.v1 import error_pb2 as pb

METADATA_LOW, METADATA_HIGH = 0, 13
CLUSTER_LOW, CLUSTER_HIGH = 0, 2
OF_BROKERS, OF_CONTROLLERS = 1, 2
MISMATCHED_ENDPOINT_TYPE, UNSUPPORTED_ENDPOINT_TYPE = 114, 115
COORDINATOR_LOW, COORDINATOR_HIGH = 0, 6
CREATED_S: Final = 1.0
"""How long an answer waits for a topic that it made by naming it."""
CLUSTER_OPERATIONS: Final = 0x1FA0
TOPIC_OPERATIONS: Final = 0x0DF8
"""Everything that Kafka 4.3 names."""
GROUPS: Final = 0


class MetadataHandler:
    def __init__(self, facts: ClusterFacts) -> None:
        self._facts = facts
        self._kept = encoded.TopicBytes()

    async def __call__(self, request: Message, call: Call) -> Message:
        assert isinstance(request, MetadataRequest)
        view = self._facts.view
        everything = request.topics is None or (call.version == 0 and not request.topics)
        wanted = [] if request.topics is None else [(topic.name, topic.topic_id) for topic in request.topics]
        if view.create_topic is not None and request.allow_auto_topic_creation:
            await self._made([name for name, _ in wanted if name and view.access.may(DESCRIBE, TOPIC, name)])
        image = view.image
        with_operations = request.include_topic_authorized_operations
        topics: list[bytes] = []
        seen = (name for name in image.names if view.access.may(DESCRIBE, TOPIC, name)) if everything else ()
        names = [(name, NO_ID) for name in seen] if everything else wanted
        for count, (name, topic_id) in enumerate(names, 1):
            if count % limits.AT_ONCE == 0:
                await turns.give_way()
            topics.append(self._topic(image, call.version, name, topic_id, with_operations))
        return Encoded(encoded.response_parts(call.version, self._head(request, call), topics))

    async def _made(self, names: list[str]) -> None:
        """Has topics made that do not exist yet, and waits a little until they have leaders."""
        view = self._facts.view
        loop = asyncio.get_running_loop()
        deadline = loop.time() + CREATED_S
        missing = [name for name in names if view.image.topic_named(name) is None and is_name(name)]
        for name in missing:
            view.unknown_topic(name)
        while loop.time() < deadline and not all(_has_leaders(view.image.topic_named(name)) for name in missing):
            await view.changed(deadline - loop.time())

    def _topic(self, image: Image, version: int, name: str | None, topic_id: bytes, with_operations: bool) -> bytes:
        topic = image.topic_named(name) if name else image.topic(topic_id)
        access = self._facts.view.access
        if access.asks and (name or topic is not None):
            shown = name or (topic.name if topic is not None else "")
            if not access.lets(DESCRIBE, TOPIC, shown):
                access.denied(DESCRIBE, TOPIC, shown)
                return encoded.topic_bytes(version, _denied(name, topic_id))
            if with_operations and topic is not None:
                return encoded.topic_bytes(version, self._described(topic, with_operations))
        if topic is None:
            return encoded.topic_bytes(version, _unknown(name, topic_id, with_operations))
        state = image.index, image.term
        return self._kept.get(
            state, version, topic.name, with_operations, lambda: self._described(topic, with_operations)
        )

    def _described(self, topic: Topic, with_operations: bool) -> MetadataResponseTopic:
        return MetadataResponseTopic(
            name=topic.name,
            topic_id=topic.topic_id,
            is_internal=topic.internal,
            partitions=[self._partition(each) for each in topic.partitions],
            topic_authorized_operations=self._facts.view.access.operations(TOPIC, topic.name, TOPIC_OPERATIONS)
            if with_operations
            else NOT_ASKED,
        )

    def _partition(self, state: Partition) -> MetadataResponsePartition:
        reachable = state.leader != NO_LEADER and self._facts.serves(state.leader)
        return MetadataResponsePartition(
            error_code=0 if reachable else pb.ERROR_CODE_LEADER_NOT_AVAILABLE,
            partition_index=state.partition,
            leader_id=state.leader if reachable else NO_LEADER,
            leader_epoch=state.leader_epoch,
            replica_nodes=state.replicas,
            isr_nodes=state.isr,
            offline_replicas=offline(self._facts.view.image, state),
        )

    def _head(self, request: MetadataRequest, call: Call) -> MetadataResponse:
        return MetadataResponse(
            brokers=[
                MetadataResponseBroker(node_id=at.node_id, host=at.host, port=at.port, rack=at.rack)
                for _, at in self._facts.nodes(call)
            ],
            cluster_id=self._facts.cluster_id or None,
            controller_id=self._facts.controller(call),
            cluster_authorized_operations=(
                self._facts.view.access.operations(CLUSTER, CLUSTER_NAME, CLUSTER_OPERATIONS)
                if request.include_cluster_authorized_operations
                else NOT_ASKED
            ),
        )


def offline(image: Image, state: Partition) -> list[int]:
    """The partition's replicas that are down, or were not heard from."""
    brokers = image.brokers
    return [node for node in state.replicas if node not in brokers or brokers[node].fenced]


def is_name(name: str) -> bool:
    try:
        check_topic_name(name)
    except ApiError:
        return False
    return True


def _has_leaders(topic: Topic | None) -> bool:
    return topic is not None and all(each.leader != NO_LEADER for each in topic.partitions)


def _denied(name: str | None, topic_id: bytes) -> MetadataResponseTopic:
    """Whether there is one of that name is not told, and of an id as much as of one that is none's."""
    if name:
        return MetadataResponseTopic(pb.ERROR_CODE_TOPIC_AUTHORIZATION_FAILED, name)
    return MetadataResponseTopic(error_code=pb.ERROR_CODE_UNKNOWN_TOPIC_ID, name=None, topic_id=topic_id)


def _unknown(name: str | None, topic_id: bytes, with_operations: bool) -> MetadataResponseTopic:
    """As in Kafka, operations are told of a name, whether or not there is such a topic, and not of an unknown id."""
    if not name and topic_id != NO_ID:
        return MetadataResponseTopic(error_code=pb.ERROR_CODE_UNKNOWN_TOPIC_ID, name=None, topic_id=topic_id)
    known = is_name(name or "")
    code = pb.ERROR_CODE_UNKNOWN_TOPIC_OR_PARTITION if known else pb.ERROR_CODE_INVALID_TOPIC_EXCEPTION
    operations = TOPIC_OPERATIONS if with_operations else NOT_ASKED
    return MetadataResponseTopic(code, name or "", topic_id, topic_authorized_operations=operations)


class DescribeClusterHandler:
    def __init__(self, facts: ClusterFacts) -> None:
        self._facts = facts

    def __call__(self, request: Message, call: Call) -> Message:
        assert isinstance(request, DescribeClusterRequest)
        if request.endpoint_type != OF_BROKERS:
            known = request.endpoint_type == OF_CONTROLLERS
            return DescribeClusterResponse(
                error_code=MISMATCHED_ENDPOINT_TYPE if known else UNSUPPORTED_ENDPOINT_TYPE,
                error_message=f"brokers ({OF_BROKERS}) are told of here, not endpoints of type {request.endpoint_type}",
            )
        nodes = self._facts.nodes(call) + (self._facts.fenced(call) if request.include_fenced_brokers else [])
        return DescribeClusterResponse(
            cluster_id=self._facts.cluster_id,
            controller_id=self._facts.controller(call),
            brokers=[
                DescribeClusterBroker(at.node_id, at.host, at.port, at.rack, is_fenced=broker.fenced)
                for broker, at in nodes
            ],
            cluster_authorized_operations=(
                self._facts.view.access.operations(CLUSTER, CLUSTER_NAME, CLUSTER_OPERATIONS)
                if request.include_cluster_authorized_operations
                else NOT_ASKED
            ),
        )


class FindCoordinatorHandler:
    def __init__(self, coordination: Coordination, facts: ClusterFacts) -> None:
        self._coordination = coordination
        self._facts = facts

    async def __call__(self, request: Message, call: Call) -> Message:
        assert isinstance(request, FindCoordinatorRequest)
        if call.version >= 4:
            found = [await self._find(key, request.key_type, call) for key in request.coordinator_keys]
            return FindCoordinatorResponse(coordinators=found, error_message=None)
        one = await self._find(request.key, request.key_type, call)
        return FindCoordinatorResponse(
            error_code=one.error_code,
            error_message=one.error_message,
            node_id=one.node_id,
            host=one.host,
            port=one.port,
        )

    async def _find(self, key: str, key_type: int, call: Call) -> Coordinator:
        if key_type != GROUPS:
            code = TRANSACTIONAL_ID_AUTHORIZATION_FAILED if key_type == 1 else pb.ERROR_CODE_INVALID_REQUEST
            return _no_coordinator(key, code, "only groups have coordinators: transactions are not served")
        try:
            self._facts.view.access.check(DESCRIBE, GROUP, key)
            node_id = await self._coordination.coordinator(key)
        except ApiError as error:
            final = error.code in (pb.ERROR_CODE_INVALID_GROUP_ID, pb.ERROR_CODE_GROUP_AUTHORIZATION_FAILED)
            code = error.code if final else pb.ERROR_CODE_COORDINATOR_NOT_AVAILABLE
            return _no_coordinator(key, code, error.message)
        at = self._facts.endpoint(node_id, call)
        if at is None:
            why = f"node {node_id} coordinates the group and does not listen for clients of Kafka, or is down"
            return _no_coordinator(key, pb.ERROR_CODE_COORDINATOR_NOT_AVAILABLE, why)
        return Coordinator(key=key, node_id=node_id, host=at.host, port=at.port, error_message=None)


def _no_coordinator(key: str, code: int, message: str) -> Coordinator:
    return Coordinator(key=key, node_id=-1, host="", port=-1, error_code=code, error_message=message)
