"""OffsetCommit, OffsetFetch and OffsetDelete: positions of groups, the same that gRPC's groups have."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Final

from node import limits, turns
from node.api.groups import GroupsApi, Stored, stored_bytes
from node.api.in_flight import Growing, InFlight
from node.groups.model import CommittedOffset
from node.groups.offsets import ClassicCommitter, Position, Where
from node.kafka.connection import Call
from node.kafka.handlers.cluster_facts import ClusterFacts, unexpected
from node.kafka.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitResponse,
    OffsetCommitResponsePartition,
    OffsetCommitResponseTopic,
)
from node.kafka.messages.offset_delete import (
    OffsetDeleteRequest,
    OffsetDeleteResponse,
    OffsetDeleteResponsePartition,
    OffsetDeleteResponseTopic,
)
from node.kafka.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopic,
    OffsetFetchResponse,
    OffsetFetchResponseGroup,
    OffsetFetchResponsePartition,
    OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
)
from node.kafka.wire import NO_ID, Message
from node.metrics import Metrics
from ottla.protocol.acls import DESCRIBE
from ottla.protocol.errors import ApiError
from ottla.v1 import error_pb2 as pb

COMMIT_LOW, COMMIT_HIGH = 1, 10
FETCH_LOW, FETCH_HIGH = 1, 10
DELETE_LOW, DELETE_HIGH = 0, 0
IDS: Final = 10
"""From here on topics are named by their ids."""
BATCHED: Final = 8
"""From here on an OffsetFetch names several groups."""
GROUPS_NOT_FOUND: Final = 9
"""From here on a commit of a generation to a group that is not there hears that."""
MEMBER_EPOCHS: Final = 9
"""From here on a commit's generation may be a member's epoch, and who fetches says which member it is."""
GROUP_ERRORS: Final = 2
"""From here on an answer has an error of its own, beside those of its partitions."""
_WAITS: Final = frozenset(
    {
        pb.ERROR_CODE_COORDINATOR_LOAD_IN_PROGRESS,
        pb.ERROR_CODE_COORDINATOR_NOT_AVAILABLE,
        pb.ERROR_CODE_LEADER_NOT_AVAILABLE,
        pb.ERROR_CODE_NOT_ENOUGH_REPLICAS,
        pb.ERROR_CODE_NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        pb.ERROR_CODE_REQUEST_TIMED_OUT,
    }
)
_MOVED: Final = frozenset(
    {
        pb.ERROR_CODE_FENCED_LEADER_EPOCH,
        pb.ERROR_CODE_KAFKA_STORAGE_ERROR,
        pb.ERROR_CODE_NOT_COORDINATOR,
        pb.ERROR_CODE_NOT_LEADER_OR_FOLLOWER,
        pb.ERROR_CODE_UNKNOWN_LEADER_EPOCH,
    }
)


def code_of(error: ApiError) -> int:
    """What clients of groups know: what happened to the log that keeps the group is the coordinator's matter."""
    if error.code in _MOVED:
        return pb.ERROR_CODE_NOT_COORDINATOR
    if error.code == pb.ERROR_CODE_THROTTLING_QUOTA_EXCEEDED:
        return pb.ERROR_CODE_COORDINATOR_LOAD_IN_PROGRESS
    if error.code in _WAITS and error.code != pb.ERROR_CODE_COORDINATOR_LOAD_IN_PROGRESS:
        return pb.ERROR_CODE_COORDINATOR_NOT_AVAILABLE
    return error.code


def _fence(code: int, version: int) -> int:
    """That a member has another epoch is one code here, and one of a generation to clients that know no epochs."""
    if code not in (pb.ERROR_CODE_FENCED_MEMBER_EPOCH, pb.ERROR_CODE_STALE_MEMBER_EPOCH):
        return code
    return pb.ERROR_CODE_STALE_MEMBER_EPOCH if version >= MEMBER_EPOCHS else pb.ERROR_CODE_ILLEGAL_GENERATION


class OffsetCommitHandler:
    def __init__(self, api: GroupsApi, facts: ClusterFacts, metrics: Metrics) -> None:
        self._api = api
        self._facts = facts
        self._metrics = metrics

    async def __call__(self, request: Message, call: Call) -> Message:
        assert isinstance(request, OffsetCommitRequest)
        positions = [
            _position(_where(topic.name, topic.topic_id, part.partition_index, call.version), part)
            for topic in request.topics
            for part in topic.partitions
        ]
        try:
            errors = await self._api.commit(request.group_id, _committer(request), positions)
            codes = [
                0 if error is None else _fence(self._code(position.where, error), call.version)
                for position, error in zip(positions, errors, strict=True)
            ]
        except ApiError as error:
            code = _fence(code_of(error), call.version)
            if code == pb.ERROR_CODE_GROUP_ID_NOT_FOUND and call.version < GROUPS_NOT_FOUND:
                code = pb.ERROR_CODE_ILLEGAL_GENERATION
            codes = [code] * len(positions)
        for code in filter(None, codes):
            self._metrics.refused("KafkaOffsetCommit", code)
        told = iter(codes)
        return OffsetCommitResponse(
            topics=[
                OffsetCommitResponseTopic(
                    name=topic.name,
                    topic_id=topic.topic_id,
                    partitions=[
                        OffsetCommitResponsePartition(partition_index=part.partition_index, error_code=next(told))
                        for part in topic.partitions
                    ],
                )
                for topic in request.topics
            ]
        )

    def _code(self, where: Where, error: ApiError) -> int:
        unknown = error.code == pb.ERROR_CODE_UNKNOWN_TOPIC_OR_PARTITION and self._facts.is_unknown(where.topic_id)
        return pb.ERROR_CODE_UNKNOWN_TOPIC_ID if unknown else code_of(error)


def _where(name: str, topic_id: bytes, number: int, version: int) -> Where:
    return Where("", topic_id, number) if version >= IDS else Where(name, b"", number)


def _committer(request: OffsetCommitRequest) -> ClassicCommitter:
    return ClassicCommitter(request.member_id, request.group_instance_id, request.generation_id_or_member_epoch)


def _position(where: Where, part: OffsetCommitRequestPartition) -> Position:
    epoch = part.committed_leader_epoch if part.committed_leader_epoch >= 0 else None
    return Position(where, part.committed_offset, epoch, part.committed_metadata or "")


class OffsetFetchHandler:
    """What was never committed is -1 and no error, whatever it is: the group, the topic, the partition; but an id that
    no topic has is told."""

    def __init__(self, api: GroupsApi, facts: ClusterFacts, in_flight: InFlight, metrics: Metrics) -> None:
        self._api = api
        self._facts = facts
        self._in_flight = in_flight
        self._metrics = metrics

    async def __call__(self, request: Message, call: Call) -> Message:
        assert isinstance(request, OffsetFetchRequest)
        if call.version >= BATCHED:
            with self._in_flight.growing() as answer:
                return OffsetFetchResponse(groups=await self._groups(request, call.version, answer))
        wanted = _wanted(request.topics)
        found, code = await self._found(request.group_id, wanted)
        if code and call.version < GROUP_ERRORS:
            found = [(where, None) for where in wanted or ()]
        topics = _topics(found, 0 if call.version >= GROUP_ERRORS else code)
        for topic in topics:
            for part in topic.partitions:
                part.error_code = part.error_code or self._wrong(topic.name, b"", call.version)
        return OffsetFetchResponse(topics=topics, error_code=code)

    async def _groups(
        self, request: OffsetFetchRequest, version: int, answer: Growing
    ) -> list[OffsetFetchResponseGroup]:
        """All of them together are not more than those of one may be."""
        groups = []
        for each in request.groups:
            is_member = each.member_id or each.member_epoch >= 0
            reader = (each.member_id or "", each.member_epoch) if is_member else None
            found: list[Stored] = []
            code: int = pb.ERROR_CODE_INVALID_REQUEST
            if answer.size_bytes <= limits.GROUP_ANSWER_MAX_BYTES:
                found, code = await self._found(each.group_id, _wanted_in(each, version), reader)
                try:
                    answer.add(sum(map(stored_bytes, found)))
                except ApiError as error:
                    found, code = [], code_of(error)
            groups.append(self._group(each.group_id, found, code, version))
            await turns.give_way()
        return groups

    def _group(self, group_id: str, found: list[Stored], code: int, version: int) -> OffsetFetchResponseGroup:
        topics = [
            OffsetFetchResponseTopics(
                name=name,
                topic_id=topic_id or NO_ID,
                partitions=[
                    OffsetFetchResponsePartitions(*_told(where, position), self._wrong(name, topic_id, version))
                    for where, position in some
                ],
            )
            for (name, topic_id), some in _by_topic(found)
        ]
        return OffsetFetchResponseGroup(group_id=group_id, topics=topics, error_code=code)

    def _wrong(self, name: str, topic_id: bytes, version: int) -> int:
        if not self._facts.view.may_name(name, topic_id, DESCRIBE):
            return pb.ERROR_CODE_TOPIC_AUTHORIZATION_FAILED
        return pb.ERROR_CODE_UNKNOWN_TOPIC_ID if version >= IDS and self._facts.is_unknown(topic_id) else 0

    async def _found(
        self, group_id: str, wanted: Sequence[Where] | None, reader: tuple[str, int] | None = None
    ) -> tuple[list[Stored], int]:
        view = self._facts.view
        try:
            if wanted is None or not view.access.on:
                return await self._api.positions(group_id, wanted, reader), 0
            may = [where for where in wanted if view.may_name(where.topic, where.topic_id, DESCRIBE)]
            stored = iter(await self._api.positions(group_id, may, reader))
            allowed = set(may)
            return [next(stored) if where in allowed else (where, None) for where in wanted], 0
        except ApiError as error:
            code = _fence(code_of(error), MEMBER_EPOCHS)
        except Exception as error:
            code = unexpected("OffsetFetch", error).code
        self._metrics.refused("KafkaOffsetFetch", code)
        return [], code


def _wanted_in(group: OffsetFetchRequestGroup, version: int) -> list[Where] | None:
    if group.topics is None:
        return None
    return [
        _where(topic.name, topic.topic_id, number, version)
        for topic in group.topics
        for number in topic.partition_indexes
    ]


def _wanted(topics: Sequence[OffsetFetchRequestTopic] | None) -> list[Where] | None:
    if topics is None:
        return None
    return [Where(topic.name, b"", number) for topic in topics for number in topic.partition_indexes]


def _topics(found: list[Stored], code: int) -> list[OffsetFetchResponseTopic]:
    return [
        OffsetFetchResponseTopic(
            name=name,
            partitions=[OffsetFetchResponsePartition(*_told(where, position), code) for where, position in some],
        )
        for (name, _), some in _by_topic(found)
    ]


def _by_topic(found: list[Stored]) -> Iterator[tuple[tuple[str, bytes], Iterator[Stored]]]:
    """By name and id, as far as they were given."""
    return groupby(found, key=lambda stored: stored[0][:2])


def _told(where: Where, position: CommittedOffset | None) -> tuple[int, int, int, str]:
    """Partition, offset, epoch, metadata."""
    if position is None:
        return where.partition, -1, -1, ""
    epoch = -1 if position.leader_epoch is None else position.leader_epoch
    return where.partition, position.offset, epoch, position.metadata


class OffsetDeleteHandler:
    def __init__(self, api: GroupsApi, metrics: Metrics) -> None:
        self._api = api
        self._metrics = metrics

    async def __call__(self, request: Message, call: Call) -> Message:
        assert isinstance(request, OffsetDeleteRequest)
        wanted = [Where(topic.name, b"", part.partition_index) for topic in request.topics for part in topic.partitions]
        try:
            errors = iter(await self._api.delete_positions(request.group_id, wanted))
        except ApiError as error:
            self._metrics.refused("KafkaOffsetDelete", error.code)
            return OffsetDeleteResponse(error_code=code_of(error))
        return OffsetDeleteResponse(
            topics=[
                OffsetDeleteResponseTopic(
                    name=topic.name,
                    partitions=[
                        OffsetDeleteResponsePartition(part.partition_index, 0 if error is None else code_of(error))
                        for part, error in zip(topic.partitions, errors, strict=False)
                    ],
                )
                for topic in request.topics
            ]
        )
