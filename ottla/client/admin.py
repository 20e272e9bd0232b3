"""Changing and describing the cluster. Any node takes these calls; the active controller carries them out."""

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal, Protocol, Self, TypeVar

from grpc import aio

from ottla.client import arguments
from ottla.client.acl_admin import AclAdmin
from ottla.client.connection import Client, client_for
from ottla.client.errors import OttlaError, TopicAlreadyExists, UnknownTopic, from_server
from ottla.client.feature_admin import FeatureAdmin
from ottla.client.group_admin import GroupAdmin
from ottla.client.move_admin import MoveAdmin
from ottla.client.offsets import LATEST, list_offsets, log_size_of
from ottla.client.quorum_admin import QuorumAdmin
from ottla.client.quota_admin import QuotaAdmin
from ottla.client.records import TopicPartition
from ottla.client.tls import PathText, Tls
from ottla.client.user_admin import UserAdmin
from ottla.client.view import ClusterView, TopicInfo, view_of
from ottla.client.why_admin import WhyAdmin
from ottla.v1 import admin_pb2 as admin_messages
from ottla.v1 import cluster_pb2, data_pb2
from ottla.v1 import error_pb2 as pb
from ottla.v1.admin_pb2_grpc import AdminServiceStub
from ottla.v1.cluster_pb2_grpc import ClusterServiceStub

if TYPE_CHECKING:
    from ottla.v1.admin_pb2_grpc import AdminServiceAsyncStub

_CALL_MARGIN_S = 2.0

T = TypeVar("T")
R = TypeVar("R", bound="_Result")


@dataclass(frozen=True, slots=True)
class CreatedTopic:
    """A topic that was created; `is_new` is False where it was there already (`exists_ok`)."""

    name: str
    topic_id: bytes
    num_partitions: int
    replication_factor: int
    is_new: bool = True


@dataclass(frozen=True, slots=True)
class ConfigValue:
    """A config in force. `source` is where it comes from: TOPIC, DYNAMIC_BROKER, DYNAMIC_DEFAULT_BROKER, STATIC_BROKER
    or DEFAULT."""

    key: str
    value: str
    source: str
    read_only: bool
    documentation: str


class Admin(AclAdmin, FeatureAdmin, GroupAdmin, MoveAdmin, QuorumAdmin, QuotaAdmin, UserAdmin, WhyAdmin):
    """Administers a cluster: `async with Admin("host:9192") as admin`. Everything raises OttlaError: with the server's
    code where it refused, RequestTimedOut or ConnectionFailed where the outcome of a change is unknown.

    `bootstrap` is host:port of one or more nodes, or a Client to share.
    """

    def __init__(
        self,
        bootstrap: str | Sequence[str] | Client | None = None,
        *,
        client_id: str = "ottla-python",
        request_timeout_ms: int = 30_000,
        tls: Tls | PathText | None = None,
        user: str | None = None,
        password: str | None = None,
        password_file: PathText | None = None,
    ) -> None:
        self._owns_client = not isinstance(bootstrap, Client)
        self._client = client_for(
            bootstrap, tls, user=user, password=password, password_file=password_file, client_id=client_id
        )
        self._timeout_ms = arguments.whole("request_timeout_ms", request_timeout_ms, 1, arguments.INT32_MAX)

    async def start(self) -> None:
        """Connects. Raises ConnectionFailed if no node answers."""
        if self._owns_client:
            await self._client.start()

    async def close(self) -> None:
        """Disconnects."""
        if self._owns_client:
            await self._client.close()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    # -- topics ----------------------------------------------------------------------------------------------------

    async def create_topic(
        self,
        name: str,
        *,
        partitions: int | None = None,
        replication_factor: int | None = None,
        configs: Mapping[str, str] | None = None,
        assignments: Mapping[int, Sequence[int]] | None = None,
        exists_ok: bool = False,
        validate_only: bool = False,
    ) -> CreatedTopic:
        """Creates a topic and returns when every live broker knows it. What is not given is the cluster's default;
        `assignments` names the nodes of each partition instead, the preferred leader first. Raises TopicAlreadyExists;
        with `exists_ok` a topic that is there is answered as it is, whatever its partitions and configs are."""
        arguments.flag("exists_ok", exists_ok)
        topic = admin_messages.NewTopic(
            name=arguments.topic_name(name),
            num_partitions=_count("partitions", partitions),
            replication_factor=_count("replication_factor", replication_factor),
            assignments=_assignments(assignments),
            configs={key: value or "" for key, value in arguments.texts("configs", configs or {}).items()},
        )
        request = admin_messages.CreateTopicsRequest(
            topics=[topic],
            validate_only=arguments.flag("validate_only", validate_only),
            timeout_ms=self._timeout_ms,
        )
        try:
            result: admin_messages.CreateTopicResult = await self._change(
                lambda stub, timeout: stub.CreateTopics(request, timeout=timeout), lambda answer: answer.topics
            )
        except TopicAlreadyExists:
            if not exists_ok:
                raise
            there = await self.describe_topic(name)
            replicas = max((len(partition.replicas) for partition in there.partitions), default=0)
            return CreatedTopic(name, there.topic_id, len(there.partitions), replicas, is_new=False)
        return CreatedTopic(result.name, result.topic_id, result.num_partitions, result.replication_factor)

    async def delete_topic(self, name: str, *, missing_ok: bool = False, validate_only: bool = False) -> None:
        """Deletes a topic and its data. Raises UnknownTopic, unless `missing_ok`."""
        arguments.flag("missing_ok", missing_ok)
        request = admin_messages.DeleteTopicsRequest(
            topics=[admin_messages.TopicRef(name=arguments.topic_name(name))],
            validate_only=arguments.flag("validate_only", validate_only),
            timeout_ms=self._timeout_ms,
        )
        try:
            await self._change(
                lambda stub, timeout: stub.DeleteTopics(request, timeout=timeout), lambda answer: answer.topics
            )
        except UnknownTopic:
            if not missing_ok:
                raise

    async def create_partitions(
        self,
        name: str,
        total_count: int,
        *,
        assignments: Mapping[int, Sequence[int]] | None = None,
        validate_only: bool = False,
    ) -> None:
        """Gives a topic more partitions: `total_count` in all. Keys may move to other partitions by this."""
        topic = admin_messages.GrowTopic(
            name=arguments.topic_name(name),
            total_count=arguments.whole("total_count", total_count, 0, arguments.INT32_MAX),
            assignments=_assignments(assignments),
        )
        request = admin_messages.CreatePartitionsRequest(
            topics=[topic],
            validate_only=arguments.flag("validate_only", validate_only),
            timeout_ms=self._timeout_ms,
        )
        await self._change(
            lambda stub, timeout: stub.CreatePartitions(request, timeout=timeout), lambda answer: answer.topics
        )

    async def list_topics(self, *, internal: bool = False) -> list[str]:
        """Names of the topics; the cluster's own only if asked for."""
        arguments.flag("internal", internal)
        view = await self.describe_cluster()
        return sorted(name for name, topic in view.topics.items() if internal or not topic.internal)

    async def describe_topic(self, name: str) -> TopicInfo:
        """Partitions, leaders, replicas and ISR of a topic, fresh from a node."""
        metadata = await self._metadata(cluster_pb2.GetMetadataRequest(topics=[arguments.topic_name(name)]))
        _one(metadata.topics)
        return view_of(metadata).topics[name]

    async def describe_cluster(self) -> ClusterView:
        """Brokers and topics, fresh from a node."""
        return view_of(await self._metadata(cluster_pb2.GetMetadataRequest()))

    # -- configs ---------------------------------------------------------------------------------------------------

    async def alter_topic_configs(
        self, name: str, changes: Mapping[str, str | None], *, validate_only: bool = False
    ) -> None:
        """Sets configs of a topic, all or none; None puts one back to its default."""
        await self._alter(_resource("topic", arguments.topic_name(name)), changes, validate_only)

    async def alter_broker_configs(
        self, node_id: int | None, changes: Mapping[str, str | None], *, validate_only: bool = False
    ) -> None:
        """Sets configs of a broker at run time, or of all brokers where `node_id` is None."""
        await self._alter(
            _resource("broker", "" if node_id is None else str(arguments.node_id(node_id))), changes, validate_only
        )

    async def describe_topic_configs(self, name: str, *keys: str) -> dict[str, ConfigValue]:
        """Configs of a topic by key, all or those named."""
        return await self._describe_configs(_resource("topic", arguments.topic_name(name)), keys)

    async def describe_broker_configs(self, node_id: int, *keys: str) -> dict[str, ConfigValue]:
        """Configs of a broker by key, all or those named."""
        return await self._describe_configs(_resource("broker", str(arguments.node_id(node_id))), keys)

    async def _alter(
        self, resource: admin_messages.ConfigResource, changes: Mapping[str, str | None], validate_only: bool
    ) -> None:
        items = [
            admin_messages.ConfigChange(
                key=key,
                value=value or "",
                operation=admin_messages.CONFIG_OPERATION_DELETE
                if value is None
                else admin_messages.CONFIG_OPERATION_SET,
            )
            for key, value in arguments.texts("changes", changes, or_none=True).items()
        ]
        request = admin_messages.AlterConfigsRequest(
            resources=[admin_messages.ResourceConfigChanges(resource=resource, changes=items)],
            validate_only=arguments.flag("validate_only", validate_only),
        )
        await self._change(
            lambda stub, timeout: stub.AlterConfigs(request, timeout=timeout), lambda answer: answer.resources
        )

    async def _describe_configs(
        self, resource: admin_messages.ConfigResource, keys: Sequence[str]
    ) -> dict[str, ConfigValue]:
        request = admin_messages.DescribeConfigsRequest(
            resources=[resource], keys=[arguments.name("config key", key) for key in keys]
        )
        answer = await self._client.on_any_node(partial(_describe_configs, request, self._timeout_ms), self._timeout_ms)
        return {
            entry.key: ConfigValue(
                entry.key,
                entry.value,
                admin_messages.ConfigSource.Name(entry.source).removeprefix("CONFIG_SOURCE_"),
                entry.read_only,
                entry.documentation,
            )
            for entry in _one(answer.resources).entries
        }

    # -- data ------------------------------------------------------------------------------------------------------

    async def list_offsets(self, wanted: Mapping[tuple[str, int], int]) -> dict[TopicPartition, int | None]:
        """For each (topic, partition) the first offset at or after a time in ms since the epoch; -1 = latest, -2 =
        earliest. None where no record is that new."""
        questions = {
            arguments.place(where): arguments.whole("timestamp", timestamp, -2, arguments.INT64_MAX)
            for where, timestamp in arguments.mapping("wanted", wanted)
        }
        return _known(await list_offsets(self._client, questions, self._timeout_ms))

    async def log_sizes(self, partitions: Iterable[tuple[str, int]]) -> dict[TopicPartition, int | None]:
        """What each partition takes on its leader's disk, in bytes: batches as they are stored, without indexes. None
        where the leader is of a version that does not say."""
        questions = dict.fromkeys(arguments.places("partitions", partitions), LATEST)
        return _known(await list_offsets(self._client, questions, self._timeout_ms, log_size_of))

    async def delete_records(
        self, topic: str, partition: int, before_offset: int, *, validate_only: bool = False
    ) -> int:
        """Drops the records before an offset (-1 = all that can be read). Answers the first offset there is now, or,
        with `validate_only`, would be."""
        request = admin_messages.DeleteRecordsRequest(
            partitions=[
                admin_messages.DeleteRecordsPartition(
                    partition=_where(topic, partition),
                    before_offset=arguments.whole("before_offset", before_offset, -1, arguments.INT64_MAX),
                )
            ],
            timeout_ms=self._timeout_ms,
            validate_only=arguments.flag("validate_only", validate_only),
        )
        done: admin_messages.DeleteRecordsResult = await self._change(
            lambda stub, timeout: stub.DeleteRecords(request, timeout=timeout), lambda answer: answer.partitions
        )
        return done.low_watermark

    async def elect_leader(
        self, topic: str, partition: int, *, unclean: bool = False, validate_only: bool = False
    ) -> int | None:
        """Gives leadership to the preferred replica; with `unclean` to any live one, which may lose records. Answers
        the leader afterwards, or who it would be. An election that changes nothing is no error."""
        request = admin_messages.ElectLeadersRequest(
            type=admin_messages.ELECTION_TYPE_UNCLEAN
            if arguments.flag("unclean", unclean)
            else admin_messages.ELECTION_TYPE_PREFERRED,
            partitions=[_where(topic, partition)],
            validate_only=arguments.flag("validate_only", validate_only),
        )
        done: admin_messages.ElectLeadersResult = await self._change(
            lambda stub, timeout: stub.ElectLeaders(request, timeout=timeout),
            lambda answer: answer.partitions,
            no_errors=(pb.ERROR_CODE_ELECTION_NOT_NEEDED,),
        )
        return done.leader_id if done.HasField("leader_id") else None

    # -- inside ----------------------------------------------------------------------------------------------------

    async def _change(
        self,
        call: Callable[["AdminServiceAsyncStub", float], Awaitable[T]],
        results: Callable[[T], Sequence[R]],
        no_errors: Collection[int] = (),
    ) -> R:
        """The one result of a change of one item, which must not be repeated when its answer is lost. Raises what the
        server said about it."""
        timeout_s = self._timeout_ms / 1000 + _CALL_MARGIN_S

        async def run(channel: aio.Channel) -> T:
            return await call(AdminServiceStub(channel), timeout_s)

        def errors(answer: T) -> list[pb.Error]:
            return [result.error for result in results(answer) if result.error.code not in no_errors]

        return _first(results(await self._client.until_done(run, self._timeout_ms, errors, repeatable=False)))

    async def _metadata(self, request: cluster_pb2.GetMetadataRequest) -> cluster_pb2.Metadata:
        return await self._client.on_any_node(partial(_get_metadata, request, self._timeout_ms), self._timeout_ms)


class _Result(Protocol):
    """An item of a multi-item answer."""

    @property
    def error(self) -> pb.Error: ...


def _known(answers: Mapping[TopicPartition, int | OttlaError | None]) -> dict[TopicPartition, int | None]:
    """All answers, or the first error."""
    found: dict[TopicPartition, int | None] = {}
    for tp, answer in answers.items():
        if isinstance(answer, OttlaError):
            raise answer
        found[tp] = answer
    return found


def _first(results: Sequence[R]) -> R:
    """The result of a request with one item."""
    if not results:
        raise OttlaError("the server's answer has no result. Next: check that client and server have the same version")
    return results[0]


def _one(results: Sequence[R]) -> R:
    """The result of a request with one item. Raises what the server said about it."""
    result = _first(results)
    if result.error.code:
        raise from_server(result.error)
    return result


def _assignments(assignments: Mapping[int, Sequence[int]] | None) -> list[admin_messages.ReplicaAssignment]:
    return [
        admin_messages.ReplicaAssignment(partition=partition, replicas=nodes)
        for partition, nodes in arguments.assignments(assignments or {}).items()
    ]


def _count(what: str, value: object) -> int | None:
    return None if value is None else arguments.whole(what, value, 0, arguments.INT32_MAX)


def _where(topic: object, partition: object) -> data_pb2.TopicPartition:
    return data_pb2.TopicPartition(**arguments.place((topic, partition))._asdict())


def _resource(kind: Literal["topic", "broker"], name: str) -> admin_messages.ConfigResource:
    return admin_messages.ConfigResource(
        type=admin_messages.CONFIG_RESOURCE_TYPE_TOPIC
        if kind == "topic"
        else admin_messages.CONFIG_RESOURCE_TYPE_BROKER,
        name=name,
    )


async def _get_metadata(
    request: cluster_pb2.GetMetadataRequest, timeout_ms: int, channel: aio.Channel
) -> cluster_pb2.Metadata:
    return await ClusterServiceStub(channel).GetMetadata(request, timeout=timeout_ms / 1000)


async def _describe_configs(
    request: admin_messages.DescribeConfigsRequest, timeout_ms: int, channel: aio.Channel
) -> admin_messages.DescribeConfigsResponse:
    return await AdminServiceStub(channel).DescribeConfigs(request, timeout=timeout_ms / 1000)
