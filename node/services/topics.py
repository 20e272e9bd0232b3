"""The controller's part of `node.api.topics`: values in, the contract's messages to the controller, values out."""

from collections.abc import Sequence
from typing import Any, Final

import grpc

from node import limits
from node.api.topics import (
    Changes,
    Config,
    ConfigLevel,
    Created,
    Deleted,
    Described,
    Elected,
    GrownTopic,
    Move,
    NewTopic,
)
from node.services.admin import AdminForwarder
from node.services.faults import refusal_in
from node.turns import Places
from ottla.protocol.errors import ApiError
from ottla.v1 import admin_pb2, data_pb2
from ottla.v1 import error_pb2 as pb

TIMEOUT_MS: Final = 30_000
MARGIN_S: Final = 0.5


class ControllerTopics:
    """A few calls are under way at once, as of AdminService; the others wait."""

    def __init__(self, admin: AdminForwarder) -> None:
        self._admin = admin
        self._places = Places(limits.ADMIN_IN_FLIGHT_MAX)

    async def create(self, topics: Sequence[NewTopic], timeout_ms: int, *, validate_only: bool) -> Sequence[Created]:
        request = admin_pb2.CreateTopicsRequest(validate_only=validate_only, timeout_ms=timeout_ms)
        for topic in topics:
            request.topics.add(
                name=topic.name,
                num_partitions=topic.partitions,
                replication_factor=topic.replication_factor,
                assignments=_assignments(topic.assignments),
                configs=topic.configs,
            )
        answer = admin_pb2.CreateTopicsResponse.FromString(await self.ask("CreateTopics", request, timeout_ms))
        return [Created(error_of(r), r.topic_id, r.num_partitions, r.replication_factor) for r in answer.topics]

    async def delete(self, topics: Sequence[tuple[str, bytes]], timeout_ms: int) -> Sequence[Deleted]:
        refs = [admin_pb2.TopicRef(name=name, topic_id=topic_id) for name, topic_id in topics]
        request = admin_pb2.DeleteTopicsRequest(topics=refs, timeout_ms=timeout_ms)
        answer = admin_pb2.DeleteTopicsResponse.FromString(await self.ask("DeleteTopics", request, timeout_ms))
        return [Deleted(error_of(r), r.name, r.topic_id) for r in answer.topics]

    async def describe(self, resources: Sequence[tuple[int, str]]) -> Sequence[Described]:
        wanted = [admin_pb2.ConfigResource(type=kind, name=name) for kind, name in resources]  # type: ignore[arg-type]
        request = admin_pb2.DescribeConfigsRequest(resources=wanted)
        answer = admin_pb2.DescribeConfigsResponse.FromString(await self.ask("DescribeConfigs", request, TIMEOUT_MS))
        return [Described(error_of(r), [_config(entry) for entry in r.entries]) for r in answer.resources]

    async def alter(self, resources: Sequence[Changes], *, validate_only: bool) -> Sequence[ApiError | None]:
        request = admin_pb2.AlterConfigsRequest(validate_only=validate_only)
        for kind, name, changes in resources:
            request.resources.add(
                resource=admin_pb2.ConfigResource(type=kind, name=name),  # type: ignore[arg-type]
                changes=[admin_pb2.ConfigChange(key=k, value=v, operation=o) for k, v, o in changes],  # type: ignore[arg-type]
            )
        answer = admin_pb2.AlterConfigsResponse.FromString(await self.ask("AlterConfigs", request, TIMEOUT_MS))
        return [error_of(r) for r in answer.resources]

    async def grow(
        self, topics: Sequence[GrownTopic], timeout_ms: int, *, validate_only: bool
    ) -> Sequence[ApiError | None]:
        request = admin_pb2.CreatePartitionsRequest(validate_only=validate_only, timeout_ms=timeout_ms)
        for name, total_count, assignments in topics:
            request.topics.add(name=name, total_count=total_count, assignments=_assignments(assignments))
        answer = admin_pb2.CreatePartitionsResponse.FromString(await self.ask("CreatePartitions", request, timeout_ms))
        return [error_of(r) for r in answer.topics]

    async def elect(
        self, partitions: Sequence[tuple[str, int]], timeout_ms: int, *, unclean: bool
    ) -> Sequence[Elected]:
        kind = admin_pb2.ELECTION_TYPE_UNCLEAN if unclean else admin_pb2.ELECTION_TYPE_PREFERRED
        wanted = [data_pb2.TopicPartition(topic=name, partition=number) for name, number in partitions]
        request = admin_pb2.ElectLeadersRequest(type=kind, partitions=wanted)
        answer = admin_pb2.ElectLeadersResponse.FromString(await self.ask("ElectLeaders", request, timeout_ms))
        return [Elected(r.partition.topic, r.partition.partition, error_of(r)) for r in answer.partitions]

    async def reassign(self, moves: Sequence[Move], timeout_ms: int) -> Sequence[ApiError | None]:
        request = admin_pb2.ReassignPartitionsRequest(timeout_ms=timeout_ms)
        for topic, number, replicas in moves:
            where = data_pb2.TopicPartition(topic=topic, partition=number)
            request.partitions.add(partition=where, replicas=replicas or (), cancel=replicas is None)
        answer = await self.ask("ReassignPartitions", request, timeout_ms)
        return [error_of(r) for r in admin_pb2.ReassignPartitionsResponse.FromString(answer).partitions]

    async def unregister(self, node_id: int, timeout_ms: int) -> ApiError | None:
        request = admin_pb2.UnregisterBrokerRequest(node_id=node_id, timeout_ms=timeout_ms)
        answer = await self.ask("UnregisterBroker", request, timeout_ms)
        return error_of(admin_pb2.UnregisterBrokerResponse.FromString(answer))

    async def ask(self, method: str, request: Any, timeout_ms: int) -> bytes:
        """The controller's answer to a call of AdminService, as bytes. Raises ApiError."""
        await self._places.take()
        try:
            return await self._admin.call(method, request.SerializeToString(), timeout_ms / 1000 + MARGIN_S)
        except grpc.aio.AioRpcError as error:
            raise refusal_in(error) or ApiError(
                pb.ERROR_CODE_NETWORK_EXCEPTION, f"the controller refused {method}: {error.code().name}"
            ) from None
        finally:
            self._places.give()


def _assignments(wanted: Sequence[tuple[int, Sequence[int]]]) -> list[admin_pb2.ReplicaAssignment]:
    return [admin_pb2.ReplicaAssignment(partition=number, replicas=replicas) for number, replicas in wanted]


def error_of(result: Any) -> ApiError | None:
    return ApiError.from_proto(result.error) if result.HasField("error") else None


def _config(entry: admin_pb2.ConfigEntry) -> Config:
    levels = [ConfigLevel(each.key, each.value, each.source) for each in entry.synonyms]
    return Config(entry.key, entry.value, entry.source, entry.read_only, levels, entry.documentation)
