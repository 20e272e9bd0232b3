"""CreateTopics, DeleteTopics and CreatePartitions, which any node passes on to the controller."""

from collections import Counter
from collections.abc import Sequence
from typing import Final

from node import turns
from node.api.topics import Config, Created, Deleted, GrownTopic, NewTopic, TopicsApi
from node.kafka import topic_configs
from node.kafka.connection import Call
from node.kafka.handlers.cluster_facts import wait_ms
from node.kafka.handlers.configs import AT_ONCE, TOPIC, described_by
from node.kafka.messages.create_partitions import (
    CreatePartitionsRequest,
    CreatePartitionsResponse,
    CreatePartitionsTopic,
    CreatePartitionsTopicResult,
)
from node.kafka.messages.create_topics import (
    CreatableTopic,
    CreatableTopicConfigs,
    CreatableTopicResult,
    CreateTopicsRequest,
    CreateTopicsResponse,
)
from node.kafka.messages.delete_topics import DeletableTopicResult, DeleteTopicsRequest, DeleteTopicsResponse
from node.kafka.wire import NO_ID, Message
from ottla.protocol.errors import ApiError
from ottla.v1 import error_pb2 as pb

CREATE_LOW, CREATE_HIGH = 0, 7
DELETE_LOW, DELETE_HIGH = 0, 6
GROW_LOW, GROW_HIGH = 0, 3
TELLS_CONFIGS: Final = 5
"""From here on an answer has the configs of the topics that it made"""
TOLD_MAX: Final = 100
"""of so many of them, or of none: who makes more asks for them."""
_TWICE: Final = ApiError(pb.ERROR_CODE_INVALID_REQUEST, "the request names the topic more than once")
_NOT_ONE: Final = ApiError(
    pb.ERROR_CODE_INVALID_REQUEST, "a topic is named by its name or by its id, and by one of them"
)


class CreateTopicsHandler:
    def __init__(self, api: TopicsApi) -> None:
        self._api = api

    async def __call__(self, request: Message, call: Call) -> Message:
        assert isinstance(request, CreateTopicsRequest)
        named = Counter(topic.name for topic in request.topics)
        topics = {topic.name: topic for topic in request.topics if named[topic.name] == 1}
        results: dict[str, Created] = {}
        new: list[NewTopic] = []
        for name, topic in topics.items():
            try:
                new.append(_new(topic))
            except ApiError as error:
                results[name] = Created(error)
        if new:
            try:
                created = await self._api.create(new, wait_ms(request.timeout_ms), validate_only=request.validate_only)
            except ApiError as error:
                created = [Created(error)] * len(new)
            results.update(zip([topic.name for topic in new], created, strict=True))
        configs = await self._configs(results, request, call.version)
        return CreateTopicsResponse(
            topics=[
                _created(name, results.get(name, Created(_TWICE)), configs.get(name), call.version) for name in named
            ]
        )

    async def _configs(
        self, results: dict[str, Created], request: CreateTopicsRequest, version: int
    ) -> dict[str, Sequence[Config]]:
        made = [name for name, created in results.items() if created.error is None]
        found: dict[str, Sequence[Config]] = {}
        if version < TELLS_CONFIGS or request.validate_only or len(made) > TOLD_MAX:
            return found
        for start in range(0, len(made), AT_ONCE):
            described = await described_by(self._api, [(TOPIC, name) for name in made[start : start + AT_ONCE]])
            found.update((name, each.configs) for (_, name), each in described.items())
            await turns.give_way()
        return found


def _new(topic: CreatableTopic) -> NewTopic:
    return NewTopic(
        topic.name,
        None if topic.num_partitions == -1 else topic.num_partitions,
        None if topic.replication_factor == -1 else topic.replication_factor,
        [(each.partition_index, each.broker_ids) for each in topic.assignments],
        _configs(topic),
    )


def _configs(topic: CreatableTopic) -> dict[str, str]:
    """Raises INVALID_CONFIG."""
    kept = {}
    for name, value in ((each.name, each.value) for each in topic.configs):
        if value is None:
            raise ApiError(pb.ERROR_CODE_INVALID_CONFIG, f"config {name[:100]!r} has no value")
        if name in topic_configs.PASSED_OVER:
            topic_configs.check(name, value)
        else:
            kept[name] = value
    return kept


def _created(name: str, result: Created, configs: Sequence[Config] | None, version: int) -> CreatableTopicResult:
    if result.error is not None:
        return CreatableTopicResult(name=name, error_code=result.error.code, error_message=result.error.message)
    return CreatableTopicResult(
        name=name,
        topic_id=result.topic_id or NO_ID,
        error_message=None,
        num_partitions=result.partitions,
        replication_factor=result.replication_factor,
        configs=[
            CreatableTopicConfigs(name=each.name, value=each.value, read_only=each.read_only, config_source=each.source)
            for each in configs or ()
        ],
    )


class DeleteTopicsHandler:
    def __init__(self, api: TopicsApi) -> None:
        self._api = api

    async def __call__(self, request: Message, call: Call) -> Message:
        assert isinstance(request, DeleteTopicsRequest)
        if call.version >= 6:
            wanted = [
                (topic.name or "", b"" if topic.topic_id == NO_ID else topic.topic_id) for topic in request.topics
            ]
        else:
            wanted = [(name, b"") for name in request.topic_names]
        times = Counter(wanted)
        results = {at: Deleted(_NOT_ONE if bool(at[0]) == bool(at[1]) else _TWICE) for at in times}
        wanted = [at for at, count in times.items() if count == 1 and bool(at[0]) != bool(at[1])]
        try:
            found = list(await self._api.delete(wanted, wait_ms(request.timeout_ms))) if wanted else []
        except ApiError as error:
            found = [Deleted(error)] * len(wanted)
        results.update(zip(wanted, found, strict=True))
        return DeleteTopicsResponse(
            responses=[
                _deleted(name or each.name, topic_id or each.topic_id, each.error)
                for (name, topic_id), each in results.items()
            ]
        )


def _deleted(name: str, topic_id: bytes, error: ApiError | None) -> DeletableTopicResult:
    return DeletableTopicResult(
        name=name or None,
        topic_id=topic_id or NO_ID,
        error_code=0 if error is None else error.code,
        error_message=None if error is None else error.message,
    )


class CreatePartitionsHandler:
    def __init__(self, api: TopicsApi) -> None:
        self._api = api

    async def __call__(self, request: Message, call: Call) -> Message:
        assert isinstance(request, CreatePartitionsRequest)
        named = Counter(topic.name for topic in request.topics)
        topics = [topic for topic in request.topics if named[topic.name] == 1]
        errors: dict[str, ApiError | None] = dict.fromkeys(named, _TWICE)
        if topics:
            wanted = [_grown(topic) for topic in topics]
            try:
                found = await self._api.grow(wanted, wait_ms(request.timeout_ms), validate_only=request.validate_only)
            except ApiError as error:
                found = [error] * len(wanted)
            errors.update(zip([topic.name for topic in topics], found, strict=True))
        return CreatePartitionsResponse(
            results=[
                CreatePartitionsTopicResult(name, 0, None)
                if error is None
                else CreatePartitionsTopicResult(name, error.code, error.message)
                for name, error in errors.items()
            ]
        )


def _grown(topic: CreatePartitionsTopic) -> GrownTopic:
    """Replicas come in the order of the new partitions, which are the last ones."""
    assignments = topic.assignments or ()
    first = max(0, topic.count - len(assignments))
    return GrownTopic(
        topic.name, topic.count, [(first + index, each.broker_ids) for index, each in enumerate(assignments)]
    )
