"""Groups as front ends ask for them, at the node that coordinates them. What is told is committed."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any, Final, TypeVar

from node import audit, limits
from node.api.in_flight import Growing, InFlight
from node.api.view import ClusterView
from node.groups.assign import TopicPartition
from node.groups.classic import Join, JoinAnswer, SyncAnswer
from node.groups.classics import Shown
from node.groups.coordinator import Coordinator
from node.groups.model import CommittedOffset
from node.groups.offsets import ClassicCommitter, Committer, Position, Where
from node.groups.polling import JOINS, Heartbeat, Told
from node.groups.shell import GroupShell, Shard
from ottla.protocol.acls import CLUSTER, CLUSTER_NAME, DELETE, DESCRIBE, GROUP, READ, TOPIC
from ottla.protocol.errors import ApiError
from ottla.protocol.names import check_group_id, check_id
from ottla.v1 import error_pb2 as pb

POSITIONS_AT_ONCE: Final = 500
"""Positions that one decision is about, so that nobody waits for the whole."""
GROUP_BYTES: Final = 60
POSITION_BYTES: Final = 60
"""Of an answer, beside names and metadata."""
TARGET_WAIT_S: Final = 5.0
TARGET_LOOK_S: Final = 0.05

T = TypeVar("T")
Response = TypeVar("Response", bound=Any)
Stored = tuple[Where, CommittedOffset | None]
"""A partition, and the position there; None where none was committed."""


class GroupsApi:
    """All methods raise NOT_COORDINATOR, COORDINATOR_NOT_AVAILABLE or COORDINATOR_LOAD_IN_PROGRESS where this node does
    not coordinate the group, or not yet; and INVALID_GROUP_ID."""

    def __init__(self, shell: GroupShell, in_flight: InFlight, view: ClusterView) -> None:
        self._shell = shell
        self._in_flight = in_flight
        self._view = view
        self._access = view.access

    def _check(self, group_id: str, operation: int = READ) -> None:
        """Raises GROUP_AUTHORIZATION_FAILED."""
        self._access.check(operation, GROUP, group_id)

    # --- looking at groups, and deleting them ---------------------------------------------------------------------

    def check_member(self, group_id: str, topics: Iterable[str]) -> None:
        """Raises GROUP_ or TOPIC_AUTHORIZATION_FAILED for who may not be a member that consumes these."""
        self._check(group_id)
        for name in topics if self._access.asks else ():
            self._view.check_named(name, b"", DESCRIBE)

    def may_list(self, group_id: str) -> bool:
        """Whether whoever asks hears of that group: of others lists say nothing."""
        access = self._access
        return access.may(DESCRIBE, CLUSTER, CLUSTER_NAME) or access.may(DESCRIBE, GROUP, group_id)

    def may_see(self, topic: str) -> bool:
        return self._access.may(DESCRIBE, TOPIC, topic)

    def seen(self, partitions: Iterable[TopicPartition]) -> list[TopicPartition]:
        """Those in topics that whoever asks may describe: a group's description says nothing of others."""
        return sorted(at for at in partitions if self._view.may_name("", at[0], DESCRIBE))

    def heard(self, response: Response) -> Response:
        """What a member hears: nothing of topics that an expression matched and it may not describe."""
        if response is None or not self._access.on or not response.HasField("assignment"):
            return response
        told: Response = type(response)()
        told.CopyFrom(response)
        del told.assignment.partitions[:]
        told.assignment.partitions.extend(
            each
            for each in response.assignment.partitions
            if self._view.may_name("", each.partition.topic_id, DESCRIBE)
        )
        return told

    async def listed(self) -> list[Shown]:
        """The groups that this node coordinates. Raises THROTTLING_QUOTA_EXCEEDED where there is no room for them."""
        with self._in_flight.growing() as answer:
            return await self._listed(answer)

    async def _listed(self, answer: Growing) -> list[Shown]:
        found: list[Shown] = []
        for shard in self._shell.shards():
            ids = await self._shell.look(shard, lambda c: [group.group_id for group in c.groups()])
            ids = list(filter(self.may_list, ids))
            for start in range(0, len(ids), limits.AT_ONCE):
                some = ids[start : start + limits.AT_ONCE]
                answer.add(sum(GROUP_BYTES + len(group_id) for group_id in some))
                found += await self._shell.look(shard, partial(_shown, some))
                await asyncio.sleep(0)
        return found

    async def described(self, group_id: str) -> Shown | None:
        """None where there is no such group."""
        check_group_id(group_id)
        self._check(group_id, DESCRIBE)

        def look(coordinator: Coordinator) -> Shown | None:
            group = coordinator.group(group_id)
            return None if group is None else coordinator.shown(group, with_members=True)

        return await self._shell.look(self._shell.shard(group_id), look)

    async def delete(self, group_id: str, *, validate_only: bool = False) -> None:
        """Raises NON_EMPTY_GROUP or GROUP_ID_NOT_FOUND."""
        self._check(group_id, DELETE)
        with nullcontext() if validate_only else audit.changing("DeleteGroups", group_id=group_id):
            await self._shell.decide(group_id, lambda c: (c.delete(group_id, validate_only), None))

    # --- members of Kafka's classic protocol: some answers come later, by the callable -----------------------------

    def new_member_id(self, client_id: str) -> str:
        return self._shell.new_member_id(client_id)

    def join(self, group_id: str, request: Join, answer: Callable[[JoinAnswer], None]) -> None:
        """Raises ApiError, as when the group has members that the server assigns to: INCONSISTENT_GROUP_PROTOCOL."""
        check_group_id(group_id)
        self._check(group_id)
        for what, name in (("client_id", request.client_id), ("group_instance_id", request.instance_id or "")):
            check_id(what, name)
        for name in (request.protocol_type, *(name for name, _ in request.protocols)):
            check_id("protocol", name)
        if len(request.protocols) > limits.GROUP_PROTOCOLS_MAX:
            raise limits.too_many("JoinGroup: protocols", len(request.protocols), limits.GROUP_PROTOCOLS_MAX)
        _check_bytes("metadata", sum(len(metadata) for _, metadata in request.protocols))
        self._shell.join_classic(group_id, request, answer)

    def sync(
        self,
        group_id: str,
        who: ClassicCommitter,
        assignments: Mapping[str, bytes],
        protocol: tuple[str | None, str | None],
        answer: Callable[[SyncAnswer], None],
    ) -> None:
        """`protocol`: type and name, as the member was told; None = it does not say. Raises ApiError."""
        check_group_id(group_id)
        self._check(group_id)
        _check_bytes("assignment", max(map(len, assignments.values()), default=0))
        self._shell.sync_classic(group_id, who, assignments, protocol, answer)

    def heartbeat(self, group_id: str, who: ClassicCommitter) -> int:
        """The error code of the answer. Raises ApiError."""
        check_group_id(group_id)
        self._check(group_id)
        return self._shell.heartbeat_classic(group_id, who)

    def leave(self, group_id: str, leaving: Sequence[tuple[str, str | None]]) -> list[int] | None:
        """(member id, instance id) each: error codes in their order; None where there is no such group. Raises
        ApiError."""
        check_group_id(group_id)
        self._check(group_id)
        return self._shell.leave_classic(group_id, leaving)

    # --- members without a stream (KIP-848) ------------------------------------------------------------------------

    @property
    def heartbeat_interval_ms(self) -> int:
        return self._shell.heartbeat_interval_ms

    async def poll(self, group_id: str, said: Heartbeat) -> Told:
        """A heartbeat. Who joins is told when it has an epoch: the first target of a large group takes a while. Raises
        ApiError."""
        self.check_member(group_id, said.topics or ())
        if said.member_epoch == JOINS and not said.member_id:
            said = said._replace(member_id=self._shell.new_member_id(said.client_id))
        loop = asyncio.get_running_loop()
        deadline, look_s = loop.time() + TARGET_WAIT_S, TARGET_LOOK_S
        while not (told := await self._shell.poll(group_id, said)).member_epoch:
            if loop.time() > deadline:
                raise ApiError(
                    pb.ERROR_CODE_COORDINATOR_LOAD_IN_PROGRESS,
                    f"group {group_id!r} is so large that its partitions are still being shared out: try again",
                )
            await asyncio.sleep(look_s)
            look_s *= 2
        if told.assigned is None or not self._access.on:
            return told
        # What an expression matched and the member may not describe it does not hear of.
        return told._replace(assigned=frozenset(self.seen(told.assigned)))

    # --- positions ------------------------------------------------------------------------------------------------

    async def commit(
        self, group_id: str, who: Committer | ClassicCommitter, positions: Sequence[Position]
    ) -> list[ApiError | None]:
        """Stores positions, some after the others; what is wrong with each. Each part is judged by what the group is
        then. Raises ApiError: nothing is stored."""

        async def part(some: Sequence[Position]) -> list[ApiError | None]:
            return await self._shell.decide(group_id, lambda c: c.commit(group_id, who, some, self._shell.wall_ms()))

        self._check(group_id)
        refused, allowed = self._sorted_out([position.where for position in positions])
        errors = _merged(refused, await _in_parts([positions[index] for index in allowed], part))
        if isinstance(who, ClassicCommitter) and who.member_id:
            self._shell.heard_classic(group_id, who.member_id)
        return errors

    async def positions(
        self, group_id: str, wanted: Sequence[Where] | None, reader: tuple[str, int] | None = None
    ) -> list[Stored]:
        """The positions that are asked for, or all. `reader`: the member that asks, and its epoch. Raises
        INVALID_REQUEST where that is too much for an answer, TOPIC_AUTHORIZATION_FAILED, and UNKNOWN_MEMBER_ID,
        STALE_MEMBER_EPOCH or FENCED_MEMBER_EPOCH where the reader is no such member. THROTTLING_QUOTA_EXCEEDED: there
        is no room for an answer now."""
        self._check(group_id, DESCRIBE)
        for where in wanted or () if self._access.asks else ():
            self._view.check_named(where.topic, where.topic_id, DESCRIBE)
        with self._in_flight.growing() as answer:
            return await self._positions(group_id, wanted, reader, answer)

    async def _positions(
        self, group_id: str, wanted: Sequence[Where] | None, reader: tuple[str, int] | None, answer: Growing
    ) -> list[Stored]:
        shard = self._shell.shard(group_id)
        if reader is not None:
            await self._shell.look(shard, lambda c: c.check_reader(group_id, *reader))
        if wanted is None:
            stored = await self._shell.look(shard, lambda c: c.stored(group_id))
            wanted = [where for where in stored if self._view.may_name(where.topic, where.topic_id, DESCRIBE)]
        found: list[Stored] = []
        for start in range(0, len(wanted), POSITIONS_AT_ONCE):
            some = wanted[start : start + POSITIONS_AT_ONCE]
            positions = await self._stored(shard, group_id, some)
            more = list(zip(some, positions, strict=True))
            found += more
            answer.add(sum(map(stored_bytes, more)))
            if answer.size_bytes > limits.GROUP_ANSWER_MAX_BYTES:
                raise ApiError(
                    pb.ERROR_CODE_INVALID_REQUEST,
                    f"the {len(wanted)} positions have more than {limits.GROUP_ANSWER_MAX_BYTES} bytes, the limit of "
                    "an answer: name fewer partitions at once",
                )
            await asyncio.sleep(0)
        return found

    async def _stored(self, shard: Shard, group_id: str, some: Sequence[Where]) -> list[CommittedOffset | None]:
        return await self._shell.look(shard, lambda c: c.offsets(group_id, some))

    async def delete_positions(self, group_id: str, wanted: Sequence[Where]) -> list[ApiError | None]:
        """Forgets positions in topics that no member consumes; what is wrong with each. Raises GROUP_ID_NOT_FOUND."""

        async def part(some: Sequence[Where]) -> list[ApiError | None]:
            return await self._shell.decide(group_id, lambda c: c.delete_positions(group_id, some))

        self._check(group_id, DELETE)
        refused, allowed = self._sorted_out(wanted)
        with audit.changing("OffsetDelete", group_id=group_id, positions=len(allowed)):
            return _merged(refused, await _in_parts([wanted[index] for index in allowed], part))

    def _sorted_out(self, wanted: Sequence[Where]) -> tuple[list[ApiError | None], list[int]]:
        """Why each must not be touched by whoever asks, and the indexes of those that may."""
        refused: list[ApiError | None] = [None] * len(wanted)
        if not self._access.asks:
            return refused, list(range(len(wanted)))
        for index, where in enumerate(wanted):
            try:
                self._view.check_named(where.topic, where.topic_id, READ)
            except ApiError as error:
                refused[index] = error
        return refused, [index for index, error in enumerate(refused) if error is None]


def _merged(refused: list[ApiError | None], others: Sequence[ApiError | None]) -> list[ApiError | None]:
    """What became of all, where `others` are those that were not refused before."""
    left = iter(others)
    return [next(left) if error is None else error for error in refused]


def stored_bytes(stored: Stored) -> int:
    """Of an answer."""
    where, position = stored
    return POSITION_BYTES + len(where.topic) + (0 if position is None else len(position.metadata))


def _shown(group_ids: Sequence[str], coordinator: Coordinator) -> list[Shown]:
    groups = [coordinator.group(group_id) for group_id in group_ids]
    return [coordinator.shown(group) for group in groups if group is not None]


def _check_bytes(what: str, size: int) -> None:
    if size > limits.GROUP_METADATA_MAX_BYTES:
        raise ApiError(
            pb.ERROR_CODE_INVALID_REQUEST,
            f"a member's {what} has {size} bytes, {limits.GROUP_METADATA_MAX_BYTES} are allowed",
        )


async def _in_parts(
    items: Sequence[T], part: Callable[[Sequence[T]], Awaitable[list[ApiError | None]]]
) -> list[ApiError | None]:
    """One part after the other. From where one is refused on, items say so; if that is the first, it is raised."""
    errors: list[ApiError | None] = []
    for start in range(0, max(1, len(items)), POSITIONS_AT_ONCE):
        try:
            errors += await part(items[start : start + POSITIONS_AT_ONCE])
        except ApiError as error:
            if not start:
                raise
            return errors + [error] * (len(items) - start)
    return errors
