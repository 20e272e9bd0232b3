"""Moving partitions to other nodes, and looking at the moves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

from grpc import aio

from ottla.client import arguments
from ottla.client.connection import Client
from ottla.v1 import admin_pb2, data_pb2
from ottla.v1.admin_pb2_grpc import AdminServiceStub

_CALL_MARGIN_S = 2.0


@dataclass(frozen=True, slots=True)
class Moved:
    """What became of a wish to move a partition. `moving`: it is under way, and not complete already. `reason`: why the
    cluster moves it, where it was not named itself."""

    topic: str
    partition: int
    replicas_before: tuple[int, ...]
    replicas: tuple[int, ...]
    moving: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Reassignment:
    """A move that is under way: `replicas` are all there are now, `target` is what they become. `waits_for` says what
    it lacks; `cancelled`: it was called off, and goes back to where it began."""

    topic: str
    partition: int
    replicas: tuple[int, ...]
    adding: tuple[int, ...]
    removing: tuple[int, ...]
    target: tuple[int, ...]
    isr: tuple[int, ...]
    leader: int | None
    waits_for: str
    cancelled: bool


class MoveAdmin:
    """The part of `Admin` that is about where partitions are."""

    _client: Client
    _timeout_ms: int

    async def move_partition(
        self, topic: str, partition: int, replicas: Sequence[int] | None, *, validate_only: bool = False
    ) -> Moved:
        """Moves a partition to these nodes, the preferred leader first; None calls its move off. Returns when the move
        has begun: it goes on by itself until all of them are in sync. One that is under way is replaced."""
        wish = admin_pb2.PartitionMove(
            partition=data_pb2.TopicPartition(**arguments.place((topic, partition))._asdict()),
            replicas=() if replicas is None else arguments.node_ids("replicas", replicas),
            cancel=replicas is None,
        )
        check = arguments.flag("validate_only", validate_only)
        (moved,) = await self._reassigned(
            admin_pb2.ReassignPartitionsRequest(partitions=[wish], validate_only=check, timeout_ms=self._timeout_ms)
        )
        return moved

    async def drain_node(self, node_id: int, *, validate_only: bool = False) -> list[Moved]:
        """Moves every replica of a node to other live nodes, racks kept apart. It gets no new ones from then on and
        hands its leaderships over, until `resume_node`. Returns when the moves have begun. Raises OttlaError, without
        any change, where there are too few nodes for all replicas of a partition."""
        return await self._reassigned(
            admin_pb2.ReassignPartitionsRequest(
                drain_node_id=arguments.node_id(node_id),
                validate_only=arguments.flag("validate_only", validate_only),
                timeout_ms=self._timeout_ms,
            )
        )

    async def balance(
        self, sizes: Mapping[tuple[str, int], int] = MappingProxyType({}), *, validate_only: bool = False
    ) -> list[Moved]:
        """Moves replicas until each node has as many as the others, give or take one, and leads as many partitions, as
        far as racks allow: with the fewest moves, and of those the smallest by `sizes`, in bytes. Returns when the
        moves have begun, at most 1 000 at once; without any where all is even."""
        known = [
            admin_pb2.PartitionSize(
                partition=data_pb2.TopicPartition(**arguments.place(place)._asdict()),
                bytes=arguments.whole("a size", size, 0, arguments.INT64_MAX),
            )
            for place, size in arguments.mapping("sizes", sizes)
        ]
        check = arguments.flag("validate_only", validate_only)
        return await self._reassigned(
            admin_pb2.ReassignPartitionsRequest(
                balance=True, sizes=known, validate_only=check, timeout_ms=self._timeout_ms
            )
        )

    async def resume_node(self, node_id: int) -> None:
        """The node is drained no longer: it gets new replicas again, and leads. What has left it comes back by
        moves alone, and moves that are under way go on."""
        resource = admin_pb2.ConfigResource(
            type=admin_pb2.CONFIG_RESOURCE_TYPE_BROKER, name=str(arguments.node_id(node_id))
        )
        change = admin_pb2.ConfigChange(key="broker.draining", operation=admin_pb2.CONFIG_OPERATION_DELETE)
        request = admin_pb2.AlterConfigsRequest(
            resources=[admin_pb2.ResourceConfigChanges(resource=resource, changes=[change])]
        )
        timeout_s = self._timeout_ms / 1000 + _CALL_MARGIN_S
        await self._client.until_done(
            lambda channel: AdminServiceStub(channel).AlterConfigs(request, timeout=timeout_s),
            self._timeout_ms,
            lambda answer: [result.error for result in answer.resources],
        )

    async def unregister_node(self, node_id: int, *, validate_only: bool = False) -> None:
        """Takes a node off the register, for good: one that has no replica and no vote, and is down or drained. With
        the data directory that it had it never comes back. Raises OttlaError: BROKER_ID_NOT_REGISTERED,
        INVALID_REQUEST."""
        request = admin_pb2.UnregisterBrokerRequest(
            node_id=arguments.node_id(node_id),
            validate_only=arguments.flag("validate_only", validate_only),
            timeout_ms=self._timeout_ms,
        )
        timeout_s = self._timeout_ms / 1000 + _CALL_MARGIN_S
        await self._client.until_done(
            lambda channel: AdminServiceStub(channel).UnregisterBroker(request, timeout=timeout_s),
            self._timeout_ms,
            lambda answer: [answer.error],
            repeatable=False,
        )

    async def list_reassignments(self) -> list[Reassignment]:
        """The moves that are under way, by topic and number."""
        answer = await self._client.on_any_node(partial(_list, self._timeout_ms), self._timeout_ms)
        return [
            Reassignment(
                each.partition.topic,
                each.partition.partition,
                tuple(each.replicas),
                tuple(each.adding_replicas),
                tuple(each.removing_replicas),
                tuple(each.target_replicas),
                tuple(each.isr),
                each.leader if each.leader >= 0 else None,
                each.waits_for,
                each.cancelled,
            )
            for each in answer.partitions
        ]

    async def _reassigned(self, request: admin_pb2.ReassignPartitionsRequest) -> list[Moved]:
        timeout_s = self._timeout_ms / 1000 + _CALL_MARGIN_S
        answer = await self._client.until_done(
            lambda channel: AdminServiceStub(channel).ReassignPartitions(request, timeout=timeout_s),
            self._timeout_ms,
            lambda answer: [result.error for result in answer.partitions],
            repeatable=False,
        )
        return [
            Moved(
                result.partition.topic,
                result.partition.partition,
                tuple(result.replicas_before),
                tuple(result.replicas),
                result.moving,
                result.reason,
            )
            for result in answer.partitions
        ]


async def _list(timeout_ms: int, channel: aio.Channel) -> admin_pb2.ListReassignmentsResponse:
    request = admin_pb2.ListReassignmentsRequest()
    return await AdminServiceStub(channel).ListReassignments(request, timeout=timeout_ms / 1000)
