"""ConsumerGroupHeartbeat and ConsumerGroupDescribe: groups whose partitions the server assigns (KIP-848), Ottla's own
kind."""

from collections.abc import Iterable, Mapping
from typing import Final

from node import limits, principal, turns
from node.api.groups import GroupsApi
from node.groups.assign import TopicPartition
from node.groups.classics import CONSUMER, Shown
from node.groups.model import Member, pack
from node.groups.polling import JOINS, STEPS_OUT, Heartbeat, Told
from node.kafka.connection import Call
from node.kafka.handlers.cluster_facts import NOT_ASKED, ClusterFacts
from node.kafka.handlers.groups import GROUP_OPERATIONS
from node.kafka.handlers.members import client_host, client_name
from node.kafka.handlers.positions import code_of
from node.kafka.messages import consumer_group_describe as describing
from node.kafka.messages.consumer_group_describe import (
    ConsumerGroupDescribeRequest,
    ConsumerGroupDescribeResponse,
    DescribedGroup,
)
from node.kafka.messages.consumer_group_heartbeat import (
    Assignment,
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse,
    TopicPartitions,
)
from node.kafka.wire import Message
from node.metrics import Metrics
from ottla.protocol.acls import DESCRIBE, GROUP, TOPIC
from ottla.protocol.errors import ApiError
from ottla.v1 import error_pb2 as pb

HEARTBEAT_LOW, HEARTBEAT_HIGH = 0, 1
DESCRIBE_LOW, DESCRIBE_HIGH = 0, 1
CLIENT_CHOOSES_ID: Final = 1
"""From here on who joins has an id of its own."""
_TOLD: Final[Mapping[int, int]] = {pb.ERROR_CODE_POLICY_VIOLATION: pb.ERROR_CODE_GROUP_MAX_SIZE_REACHED}
"""The group, or the partition that keeps it, has as many of something as there may be: clients know it as this."""
DEFAULT_ASSIGNOR: Final = "uniform"
CONSUMER_MEMBER: Final = 1
MEMBER_BYTES: Final = 200
PARTITION_BYTES: Final = 8
"""Of a description, about."""


class ConsumerHandlers:
    def __init__(self, api: GroupsApi, facts: ClusterFacts, metrics: Metrics) -> None:
        self._api = api
        self._facts = facts
        self._metrics = metrics

    async def heartbeat(self, request: Message, call: Call) -> Message:
        assert isinstance(request, ConsumerGroupHeartbeatRequest)
        try:
            _check(request, call.version)
            told = await self._api.poll(request.group_id, _heartbeat(request, call))
        except ApiError as error:
            code = _TOLD.get(error.code, code_of(error))
            self._metrics.refused("KafkaConsumerGroupHeartbeat", code)
            return ConsumerGroupHeartbeatResponse(error_code=code, error_message=error.message)
        return self._answer(told)

    def _answer(self, told: Told) -> ConsumerGroupHeartbeatResponse:
        return ConsumerGroupHeartbeatResponse(
            member_id=told.member_id,
            member_epoch=told.member_epoch,
            heartbeat_interval_ms=0 if told.member_epoch < 0 else self._api.heartbeat_interval_ms,
            assignment=None if told.assigned is None else Assignment(_partitions(told.assigned)),
        )

    async def describe(self, request: Message, call: Call) -> Message:
        assert isinstance(request, ConsumerGroupDescribeRequest)
        described: list[DescribedGroup] = []
        size = 0
        for group_id in request.group_ids:
            await turns.give_way()
            try:
                found = await self._found(group_id, size)
            except ApiError as error:
                self._metrics.refused("KafkaConsumerGroupDescribe", error.code)
                described.append(DescribedGroup(code_of(error), error.message, group_id))
                continue
            size += sum(map(_size, found.consumers))
            operations = NOT_ASKED
            if request.include_authorized_operations:
                operations = self._facts.view.access.operations(GROUP, group_id, GROUP_OPERATIONS)
            described.append(await self._described(found, operations))
        return ConsumerGroupDescribeResponse(groups=described)

    async def _found(self, group_id: str, size: int) -> Shown:
        if size > limits.GROUP_ANSWER_MAX_BYTES:
            raise ApiError(pb.ERROR_CODE_INVALID_REQUEST, "describe fewer groups at once")
        found = await self._api.described(group_id)
        if found is None or found.type != CONSUMER:
            why = "there is no such group" if found is None else "the server does not assign its partitions"
            raise ApiError(pb.ERROR_CODE_GROUP_ID_NOT_FOUND, why)
        self._check_topics(found)
        return found

    def _check_topics(self, found: Shown) -> None:
        """As in Kafka, a group is described to whoever may describe all that it consumes. Raises
        TOPIC_AUTHORIZATION_FAILED."""
        view = self._facts.view
        if not view.access.on:
            return
        ids = {at[0] for member, target in found.consumers for at in member.assigned | target}
        names = {name for member, _ in found.consumers for name in member.topics}
        names |= {topic.name for topic_id in ids if (topic := view.image.topics.get(topic_id)) is not None}
        if not all(view.access.may(DESCRIBE, TOPIC, name) for name in names):
            raise ApiError(
                pb.ERROR_CODE_TOPIC_AUTHORIZATION_FAILED,
                f"group {found.group_id!r} consumes topics that {principal.current()} may not describe",
            )

    async def _described(self, found: Shown, operations: int) -> DescribedGroup:
        members = []
        for count, (member, target) in enumerate(found.consumers, 1):
            if count % limits.AT_ONCE == 0:
                await turns.give_way()
            members.append(self._member(member, target))
        return DescribedGroup(
            group_id=found.group_id,
            group_state=found.state,
            group_epoch=found.generation,
            assignment_epoch=found.target_epoch,
            assignor_name=found.protocol or DEFAULT_ASSIGNOR,
            members=members,
            authorized_operations=operations,
        )

    def _member(self, member: Member, target: frozenset[TopicPartition]) -> describing.Member:
        return describing.Member(
            self._named(member.assigned),
            self._named(target),
            member_id=member.member_id,
            instance_id=member.instance_id or None,
            member_epoch=member.member_epoch,
            client_id=member.client_id,
            client_host=f"/{member.client_host}",
            subscribed_topic_names=member.topics,
            subscribed_topic_regex=member.topic_regex,
            member_type=CONSUMER_MEMBER,
        )

    def _named(self, partitions: frozenset[TopicPartition]) -> describing.Assignment:
        topics = self._facts.view.image.topics
        return describing.Assignment(
            [
                describing.TopicPartitions(each.topic_id, topics[each.topic_id].name, each.partitions)
                for each in pack(partitions)
                if each.topic_id in topics
            ]
        )


def _size(consumer: tuple[Member, frozenset[TopicPartition]]) -> int:
    member, target = consumer
    return MEMBER_BYTES + sum(map(len, member.topics)) + PARTITION_BYTES * (len(member.assigned) + len(target))


def _check(request: ConsumerGroupHeartbeatRequest, version: int) -> None:
    """What a request of its kind must and must not say. Raises INVALID_REQUEST."""
    joins = request.member_epoch == JOINS
    names_member = request.member_id or (joins and version < CLIENT_CHOOSES_ID)
    wrong = {
        "the group id is empty": not request.group_id,
        "the member id is empty": not names_member,
        "the instance id is empty": request.instance_id == "",
        "the rack id is empty": request.rack_id == "",
        "who joins must say its rebalance time-out": joins and request.rebalance_timeout_ms == -1,
        "who joins owns no partitions, and must say so": joins
        and (request.topic_partitions is None or _owned(request)),
        "who joins must subscribe, to nothing maybe": joins
        and request.subscribed_topic_names is None
        and request.subscribed_topic_regex is None,
        "only a member with an instance id can leave for a while": request.member_epoch == STEPS_OUT
        and request.instance_id is None,
    }
    for what, holds in wrong.items():
        if holds:
            raise ApiError(pb.ERROR_CODE_INVALID_REQUEST, what)


def _heartbeat(request: ConsumerGroupHeartbeatRequest, call: Call) -> Heartbeat:
    names = request.subscribed_topic_names
    waits_ms = request.rebalance_timeout_ms
    return Heartbeat(
        request.member_id,
        request.member_epoch,
        request.instance_id,
        client_name(call),
        client_host(call),
        None if names is None else tuple(names),
        request.subscribed_topic_regex,
        request.server_assignor,
        None if waits_ms == -1 else waits_ms,
        _owned(request),
    )


def _owned(request: ConsumerGroupHeartbeatRequest) -> frozenset[TopicPartition] | None:
    topics = request.topic_partitions
    if topics is None:
        return None
    return frozenset((topic.topic_id, number) for topic in topics for number in topic.partitions)


def _partitions(assigned: Iterable[TopicPartition]) -> list[TopicPartitions]:
    return [TopicPartitions(topic.topic_id, topic.partitions) for topic in pack(assigned)]
