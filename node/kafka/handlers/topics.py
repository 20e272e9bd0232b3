"""CreateTopics, DeleteTopics and DescribeConfigs, which any node passes on to the controller."""

from collections import Counter
from collections.abc import Sequence
from typing import Final

from node import limits
from node.api.topics import Config, Created, Described, NewTopic, TopicsApi
from node.kafka.connection import Call
from node.kafka.messages.create_topics import (
    CreatableTopic,
    CreatableTopicConfigs,
    CreatableTopicResult,
    CreateTopicsRequest,
    CreateTopicsResponse,
)
from node.kafka.messages.delete_topics import DeletableTopicResult, DeleteTopicsRequest, DeleteTopicsResponse
from node.kafka.messages.describe_configs import (
    DescribeConfigsRequest,
    DescribeConfigsResource,
    DescribeConfigsResourceResult,
    DescribeConfigsResponse,
    DescribeConfigsResult,
    DescribeConfigsSynonym,
)
from node.kafka.wire import NO_ID, Message
from ottla.protocol.configs import BROKER_KEYS, TOPIC_KEYS
from ottla.protocol.errors import ApiError
from ottla.v1 import error_pb2 as pb

CREATE_LOW, CREATE_HIGH = 0, 7
DELETE_LOW, DELETE_HIGH = 0, 6
DESCRIBE_LOW, DESCRIBE_HIGH = 0, 4
TOPIC: Final = 2
BROKER: Final = 4
_DEFAULT_SOURCE: Final = 5
_TYPES: Final = {"boolean": 1, "string": 2, "int": 3, "long": 5, "double": 6, "list": 7}
PASSED_OVER: Final = frozenset(
    {
        "flush.messages",
        "flush.ms",
        "follower.replication.throttled.replicas",
        "leader.replication.throttled.replicas",
        "local.retention.bytes",
        "local.retention.ms",
        "message.downconversion.enable",
        "message.format.version",
        "message.timestamp.difference.max.ms",
        "preallocate",
        "remote.copy.disable",
        "remote.log.delete.on.disable",
        "segment.index.bytes",
        "segment.jitter.ms",
        "unclean.leader.election.enable",
    }
    - TOPIC_KEYS.keys()
)
"""Configs of Kafka's that programs set and that mean nothing here: taken, and not kept."""


def _wait_ms(timeout_ms: int) -> int:
    return max(1, min(timeout_ms, limits.WAIT_MAX_MS))


class CreateTopicsHandler:
    def __init__(self, api: TopicsApi) -> None:
        self._api = api

    async def __call__(self, request: Message, call: Call) -> Message:
        assert isinstance(request, CreateTopicsRequest)
        named = Counter(topic.name for topic in request.topics)
        topics = {topic.name: topic for topic in request.topics if named[topic.name] == 1}
        results: dict[str, Created] = {}
        if topics:
            new = [_new(topic) for topic in topics.values()]
            try:
                created = await self._api.create(new, _wait_ms(request.timeout_ms), validate_only=request.validate_only)
                results = dict(zip(topics, created, strict=True))
            except ApiError as error:
                results = dict.fromkeys(topics, Created(error))
        configs = await self._configs(results, request, call.version)
        twice = Created(ApiError(pb.ERROR_CODE_INVALID_REQUEST, "the request names the topic more than once"))
        return CreateTopicsResponse(
            topics=[_created(name, results.get(name, twice), configs.get(name), call.version) for name in named]
        )

    async def _configs(
        self, results: dict[str, Created], request: CreateTopicsRequest, version: int
    ) -> dict[str, Sequence[Config]]:
        made = [name for name, created in results.items() if created.error is None]
        if version < 5 or request.validate_only or not made:
            return {}
        try:
            described = await self._api.describe([(TOPIC, name) for name in made])
        except ApiError:
            return {}  # they are made all the same
        return {name: each.configs for name, each in zip(made, described, strict=True)}


def _new(topic: CreatableTopic) -> NewTopic:
    return NewTopic(
        topic.name,
        None if topic.num_partitions == -1 else topic.num_partitions,
        None if topic.replication_factor == -1 else topic.replication_factor,
        [(each.partition_index, each.broker_ids) for each in topic.assignments],
        {each.name: each.value or "" for each in topic.configs if each.name not in PASSED_OVER},
    )


def _created(name: str, result: Created, configs: Sequence[Config] | None, version: int) -> CreatableTopicResult:
    if result.error is not None:
        return CreatableTopicResult(
            name=name, error_code=result.error.code, error_message=result.error.message, configs=None
        )
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
        wanted = list(dict.fromkeys(wanted))
        try:
            results = await self._api.delete(wanted, _wait_ms(request.timeout_ms)) if wanted else []
        except ApiError as error:
            return DeleteTopicsResponse(responses=[_deleted(*at, error) for at in wanted])
        return DeleteTopicsResponse(
            responses=[
                _deleted(name or each.name, topic_id or each.topic_id, each.error)
                for (name, topic_id), each in zip(wanted, results, strict=True)
            ]
        )


def _deleted(name: str, topic_id: bytes, error: ApiError | None) -> DeletableTopicResult:
    return DeletableTopicResult(
        name=name or None,
        topic_id=topic_id or NO_ID,
        error_code=0 if error is None else error.code,
        error_message=None if error is None else error.message,
    )


class DescribeConfigsHandler:
    def __init__(self, api: TopicsApi) -> None:
        self._api = api

    async def __call__(self, request: Message, call: Call) -> Message:
        assert isinstance(request, DescribeConfigsRequest)
        known = [each for each in request.resources if each.resource_type in (TOPIC, BROKER)]
        found: dict[int, Described] = {}
        if known:
            try:
                described = await self._api.describe([(each.resource_type, each.resource_name) for each in known])
                found = {id(each): one for each, one in zip(known, described, strict=True)}
            except ApiError as error:
                found = {id(each): Described(error) for each in known}
        other = Described(ApiError(pb.ERROR_CODE_INVALID_REQUEST, "only topics (2) and brokers (4) have configs here"))
        return DescribeConfigsResponse(
            results=[_described(each, found.get(id(each), other), request) for each in request.resources]
        )


def _described(
    resource: DescribeConfigsResource, found: Described, request: DescribeConfigsRequest
) -> DescribeConfigsResult:
    wanted = resource.configuration_keys
    return DescribeConfigsResult(
        error_code=0 if found.error is None else found.error.code,
        error_message=None if found.error is None else found.error.message,
        resource_type=resource.resource_type,
        resource_name=resource.resource_name,
        configs=[_config(each, request) for each in found.configs if wanted is None or each.name in wanted],
    )


def _config(config: Config, request: DescribeConfigsRequest) -> DescribeConfigsResourceResult:
    levels = config.levels if request.include_synonyms else ()
    key = TOPIC_KEYS.get(config.name) or BROKER_KEYS.get(config.name)
    return DescribeConfigsResourceResult(
        name=config.name,
        value=config.value,
        read_only=config.read_only,
        config_source=config.source,
        is_default=config.source == _DEFAULT_SOURCE,
        synonyms=[DescribeConfigsSynonym(name=n, value=v, source=s) for n, v, s in levels],
        config_type=0 if key is None else _TYPES[key.kind],
        documentation=config.documentation if request.include_documentation else None,
    )
