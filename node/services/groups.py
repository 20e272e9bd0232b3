"""GroupService on every node: the coordinator answers, any other node passes calls and sessions on by one hop.

A group's coordinator leads the partition of `__consumer_offsets` that the group id hashes to; the topic is made when a
group is first asked for. Lag is looked up at the partitions' leaders, so it is there without live members, too.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar

import grpc
import structlog

from node import audit, limits, turns
from node.api.coordination import Coordination
from node.api.groups import GROUP_BYTES, POSITIONS_AT_ONCE, GroupsApi
from node.api.in_flight import Growing, InFlight
from node.api.view import ClusterView
from node.groups.assign import TopicPartition
from node.groups.classics import CONSUMER, Shown
from node.groups.embedded import assigned, subscribed
from node.groups.model import CommittedOffset, Group
from node.groups.offsets import Committer, Position, Where
from node.groups.shell import OFFSETS_TOPIC, GroupShell, Shard
from node.groups.streams import Session
from node.metadata.image import NO_LEADER
from node.relay import peer
from node.services.faults import Context
from node.services.group_lag import GroupLags
from node.services.offsets import Offsets
from node.services.peers import MARGIN_S, Peers, forwarded, half_close
from ottla.protocol.acls import DESCRIBE, GROUP, READ
from ottla.protocol.errors import ApiError
from ottla.v1 import data_pb2, group_pb2
from ottla.v1 import error_pb2 as pb

log = structlog.get_logger(__name__)

SERVICE: Final = group_pb2.DESCRIPTOR.services_by_name["GroupService"]
TICK_S: Final = 1.0
GONE: Final = (grpc.aio.AioRpcError, grpc.aio.InternalError, grpc.aio.UsageError, asyncio.InvalidStateError)
"""What a write to a client that went away may raise."""
SLOW_S: Final = 10.0
"""A member that does not take a message for so long has lost its place: it owns nothing that it was told of."""
WAIT_S: Final = 10.0
LIST_WAIT_S: Final = 3.0
LAG_WAIT_S: Final = 2.0
RETRY_S: Final = 0.03
BROKEN_S: Final = 0.02
JOINS_AT_ONCE: Final = 20
HOPS_AT_ONCE: Final = 16
"""Sessions on their way to coordinators that have not taken them yet: a crowd is not all on one node at once."""
TAKEN_S: Final = 0.25
"""How long is waited for a coordinator to say so: one of an earlier version says nothing."""
CLASSIC_STATES: Final = {"PreparingRebalance": "reconciling", "CompletingRebalance": "assigning"}
GROUPS_AT_ONCE: Final = 200

Response = TypeVar("Response")
Move = tuple[tuple[bytes, int], group_pb2.ResetOffsetResult]
"""Where, and the result that says to which offset."""
WAITS: Final = frozenset(
    {
        pb.ERROR_CODE_COORDINATOR_LOAD_IN_PROGRESS,
        pb.ERROR_CODE_COORDINATOR_NOT_AVAILABLE,
        pb.ERROR_CODE_NOT_COORDINATOR,
        pb.ERROR_CODE_LEADER_NOT_AVAILABLE,
    }
)
"""Refusals that mean "not now, not here", and nothing was done: the node waits a little for the client."""


class GroupServices:
    """Serves GroupService on one listener."""

    def __init__(
        self,
        shell: GroupShell,
        api: GroupsApi,
        view: ClusterView,
        peers: Peers,
        offsets: Offsets,
        lags: GroupLags,
        coordination: Coordination,
        in_flight: InFlight,
        *,
        forwarded: bool,
    ) -> None:
        self._shell = shell
        self._api = api
        self._view = view
        self._peers = peers
        self._offsets = offsets
        self._lags = lags
        self._coordination = coordination
        self._in_flight = in_flight
        self._forwarded = forwarded
        self._closing: set[asyncio.Task[None]] = set()
        self._opening = asyncio.Semaphore(JOINS_AT_ONCE)
        self._hops = turns.Places(HOPS_AT_ONCE)

    def handlers(self) -> dict[str, Callable[..., Awaitable[Any]]]:
        return {
            "Session": self.session,
            "CommitOffsets": self.commit_offsets,
            "FetchOffsets": self.fetch_offsets,
            "ListGroups": self.list_groups,
            "DescribeGroups": self.describe_groups,
            "DeleteGroups": self.delete_groups,
            "ResetOffsets": self.reset_offsets,
        }

    # --- who coordinates ------------------------------------------------------------------------------------------

    async def _coordinator(self, group_id: str) -> int:
        """The node that coordinates the group. Raises ApiError of a kind in `WAITS` where that is open."""
        leader = await self._coordination.coordinator(group_id)
        if leader != self._view.node_id and self._forwarded:
            raise ApiError(
                pb.ERROR_CODE_NOT_COORDINATOR, f"node {leader} coordinates group {group_id!r}", leader=leader
            )
        return leader

    async def _route(
        self,
        method: str,
        group_id: str,
        request: Any,
        answer_type: Callable[[bytes], Response],
        local: Callable[[], Awaitable[Response]],
        deadline: float,
    ) -> Response:
        """Answers here or at the coordinator; waits until `deadline` while there is none. Raises ApiError."""
        while True:
            left_s = deadline - asyncio.get_running_loop().time()
            try:
                node_id = await self._coordinator(group_id)
                if node_id == self._view.node_id:
                    return await local()
                path = f"/{SERVICE.full_name}/{method}"
                raw = await self._peers.call(node_id, path, request.SerializeToString(), max(0.1, left_s))
                answer = answer_type(raw)
                error = getattr(answer, "error", None)
                if error is None or error.code not in WAITS or left_s <= 0:
                    return answer
            except ApiError as error:
                if error.code not in WAITS or left_s <= 0:
                    raise
            await asyncio.sleep(RETRY_S)

    def _deadline(self, context: Context) -> float:
        """Until when a call may wait for coordinators, all of its groups together."""
        remaining_s = context.time_remaining()
        wait_s = WAIT_S if remaining_s is None else min(WAIT_S, max(0.0, remaining_s - MARGIN_S - 0.1))
        return asyncio.get_running_loop().time() + (0 if self._forwarded else wait_s)

    # --- sessions -------------------------------------------------------------------------------------------------

    async def session(self, context: Context) -> None:
        """A member's stream: here, or passed on to the coordinator."""
        if self._forwarded:
            await context.send_initial_metadata(())  # it is taken
        first = await context.read()
        if first is grpc.aio.EOF:
            return
        if first.WhichOneof("message") != "join":
            raise ApiError(pb.ERROR_CODE_INVALID_REQUEST, "a session begins with join")
        deadline = asyncio.get_running_loop().time() + (0 if self._forwarded else WAIT_S)
        while True:
            try:
                self._api.check_member(first.join.group_id, first.join.topics)
                node_id = await self._coordinator(first.join.group_id)
                if node_id != self._view.node_id:
                    await self._pass_on(node_id, first, context)
                    return
                async with self._opening:  # a crowd takes turns: so many are decided in one turn of the loop
                    shard, session = await self._opened(first.join, context)
                break
            except ApiError as error:
                if error.code not in WAITS or asyncio.get_running_loop().time() >= deadline:
                    await context.write(group_pb2.SessionResponse(error=error.to_proto()))
                    return
            await asyncio.sleep(RETRY_S)
        await self._serve(shard, session, context, first.join.group_id)

    async def _opened(self, join: group_pb2.Join, context: Context) -> tuple[Shard, Session]:
        """A session whose join is in the log. Raises ApiError: no member then."""
        shard, session = self._shell.open_session(join, peer(context))
        assert session.joined is not None
        try:
            await asyncio.shield(session.joined)
        except BaseException:
            self._shell.close_session(shard, session, by_client=not self._forwarded)
            raise
        return shard, session

    async def _serve(self, shard: Shard, session: Session, context: Context, group_id: str) -> None:
        """Listens and talks until either side ends it."""
        talking = asyncio.create_task(self._talk(session, context))
        unwatch = self._view.access.watch([(READ, GROUP, group_id)], session.end)
        by_client = not self._forwarded
        try:
            while not talking.done():
                reading = asyncio.ensure_future(context.read())
                await asyncio.wait((reading, talking), return_when=asyncio.FIRST_COMPLETED)
                if not reading.done():
                    reading.cancel()
                    break
                request = reading.result()
                if request is grpc.aio.EOF:
                    # A forwarder that saw its client go half-closes; one that dies breaks the stream, and then the
                    # next await is cancelled (grpc.aio tells the two apart in no other way).
                    await asyncio.sleep(BROKEN_S)
                    by_client = True
                    break
                if not self._shell.said(shard, session, request):
                    break
            if talking.done():
                talking.result()
        except ApiError as error:
            # As the last word of whoever talks: gRPC breaks a call that two write to at once.
            session.end(error)
            await asyncio.wait((talking,), timeout=TICK_S)
        finally:
            unwatch()
            self._shell.close_session(shard, session, by_client=by_client)
            talking.cancel()
            await asyncio.gather(talking, return_exceptions=True)

    async def _talk(self, session: Session, context: Context) -> None:
        """Writes what the coordinator says, and a tick where it says nothing."""
        tick = group_pb2.SessionResponse(tick=group_pb2.Tick())
        while True:
            response: group_pb2.SessionResponse | None
            try:
                async with asyncio.timeout(TICK_S):
                    response = self._api.heard(await session.next())
            except TimeoutError:
                response = tick
            if response is None:
                return
            try:
                async with asyncio.timeout(SLOW_S):
                    await context.write(response)
            except TimeoutError:
                raise ApiError(
                    pb.ERROR_CODE_COORDINATOR_NOT_AVAILABLE, f"the member has not read what it is told for {SLOW_S:g} s"
                ) from None

    async def _pass_on(self, node_id: int, first: group_pb2.SessionRequest, context: Context) -> None:
        """Carries a session to its coordinator, message by message. The client's end is passed on as a half-close."""
        rpc = self._peers.channel(node_id).stream_stream(
            f"/{SERVICE.full_name}/Session",
            request_serializer=group_pb2.SessionRequest.SerializeToString,
            response_deserializer=group_pb2.SessionResponse.FromString,
        )
        upstream = await self._taken(rpc)
        answers = asyncio.create_task(self._carry_answers(node_id, upstream, context))
        try:
            await upstream.write(first)
            while not answers.done():
                reading = asyncio.ensure_future(context.read())
                await asyncio.wait((reading, answers), return_when=asyncio.FIRST_COMPLETED)
                if not reading.done():
                    reading.cancel()
                    break
                request = reading.result()
                if request is grpc.aio.EOF:
                    break
                await upstream.write(request)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            pass  # the coordinator is gone, and its answers have ended, too: they say so
        finally:
            # A client that is gone cancels this call, but the coordinator is to hear of it: by a task of its own.
            closing = asyncio.get_running_loop().create_task(half_close(upstream, answers, TICK_S))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
        await asyncio.shield(closing)

    async def _taken(self, rpc: Any) -> Any:
        """The call to the coordinator, once that has taken it, or did not say so."""
        await self._hops.take()
        try:
            upstream = rpc(metadata=forwarded())
            taken = asyncio.ensure_future(upstream.initial_metadata())
            taken.add_done_callback(lambda _: taken.cancelled() or taken.exception())  # who reads will see it, too
            try:
                await asyncio.wait((taken,), timeout=TAKEN_S)
            except asyncio.CancelledError:
                upstream.cancel()
                raise
            finally:
                taken.cancel()
        finally:
            self._hops.give()
        return upstream

    async def _carry_answers(self, node_id: int, upstream: Any, context: Context) -> None:
        """To the client while it listens; read to the end in any case, for a cancelled read would break the stream."""
        listening = True
        try:
            while (response := await upstream.read()) is not grpc.aio.EOF:
                if listening:
                    try:
                        await context.write(response)
                    except GONE:
                        listening = False
        except grpc.aio.AioRpcError:
            if listening:
                with contextlib.suppress(*GONE):
                    await self._lost(node_id, context)

    async def _lost(self, node_id: int, context: Context) -> None:
        lost = ApiError(
            pb.ERROR_CODE_COORDINATOR_NOT_AVAILABLE,
            f"the connection to the coordinator, node {node_id}, broke",
            retry_after_ms=20,
        )
        await context.write(group_pb2.SessionResponse(error=lost.to_proto()))

    # --- positions ------------------------------------------------------------------------------------------------

    async def commit_offsets(
        self, request: group_pb2.CommitOffsetsRequest, context: Context
    ) -> group_pb2.CommitOffsetsResponse:
        """Stores positions; answers when they are on all in-sync replicas."""

        async def local() -> group_pb2.CommitOffsetsResponse:
            return await self._commit(request)

        try:
            return await self._route(
                "CommitOffsets",
                request.group_id,
                request,
                group_pb2.CommitOffsetsResponse.FromString,
                local,
                self._deadline(context),
            )
        except ApiError as error:
            return group_pb2.CommitOffsetsResponse(error=error.to_proto())

    async def _commit(self, request: group_pb2.CommitOffsetsRequest) -> group_pb2.CommitOffsetsResponse:
        response = group_pb2.CommitOffsetsResponse()
        who = Committer(request.member_id, request.member_epoch)
        errors = await self._api.commit(request.group_id, who, [_position(item) for item in request.offsets])
        for item, error in zip(request.offsets, errors, strict=True):
            result = response.offsets.add(partition=item.partition)
            if error is not None:
                result.error.CopyFrom(error.to_proto())
        return response

    async def fetch_offsets(
        self, request: group_pb2.FetchOffsetsRequest, context: Context
    ) -> group_pb2.FetchOffsetsResponse:
        """Reads positions; what is answered is committed."""

        async def local() -> group_pb2.FetchOffsetsResponse:
            return await self._stored(request)

        try:
            return await self._route(
                "FetchOffsets",
                request.group_id,
                request,
                group_pb2.FetchOffsetsResponse.FromString,
                local,
                self._deadline(context),
            )
        except ApiError as error:
            return group_pb2.FetchOffsetsResponse(error=error.to_proto())

    async def _stored(self, request: group_pb2.FetchOffsetsRequest) -> group_pb2.FetchOffsetsResponse:
        wanted = [Where(tp.topic, tp.topic_id, tp.partition) for tp in request.partitions]
        found = await self._api.positions(request.group_id, wanted or None)
        return group_pb2.FetchOffsetsResponse(offsets=[_stored(where, position) for where, position in found])

    async def reset_offsets(
        self, request: group_pb2.ResetOffsetsRequest, context: Context
    ) -> group_pb2.ResetOffsetsResponse:
        """Moves the positions of a group without members, or shows what that would do."""

        async def local() -> group_pb2.ResetOffsetsResponse:
            return await self._reset(request, context)

        try:
            return await self._route(
                "ResetOffsets",
                request.group_id,
                request,
                group_pb2.ResetOffsetsResponse.FromString,
                local,
                self._deadline(context),
            )
        except ApiError as error:
            return group_pb2.ResetOffsetsResponse(error=error.to_proto())

    async def _reset(self, request: group_pb2.ResetOffsetsRequest, context: Context) -> group_pb2.ResetOffsetsResponse:
        target = request.WhichOneof("target")
        if target is None:
            raise ApiError(pb.ERROR_CODE_INVALID_REQUEST, "none of timestamp_ms, offset and shift_by is given")
        self._view.access.check(READ, GROUP, request.group_id)
        shard = self._shell.shard(request.group_id)
        stored = await self._stored(group_pb2.FetchOffsetsRequest(group_id=request.group_id))
        group = None if shard.coordinator is None else shard.coordinator.group(request.group_id)
        if group is None:
            raise ApiError(pb.ERROR_CODE_GROUP_ID_NOT_FOUND, f"there is no group {request.group_id!r}")
        if group.members:
            raise ApiError(
                pb.ERROR_CODE_NON_EMPTY_GROUP, f"group {request.group_id!r} has {len(group.members)} members"
            )
        old = {(o.partition.topic_id, o.partition.partition): o.offset for o in stored.offsets}
        named = [_at(self._view, tp) for tp in request.partitions] or sorted(old)
        for topic_id, _ in named:
            self._view.check_named("", topic_id, READ)
        earliest = await self._list(named, -2, context)
        latest = await self._list(named, -1, context)
        asked = await self._list(named, request.timestamp_ms, context) if target == "timestamp_ms" else latest
        response = group_pb2.ResetOffsetsResponse()
        moves: list[Move] = []
        for at in named:
            result = response.partitions.add(partition=self._name(at))
            low, high, found = earliest[at], latest[at], asked[at]
            failed = next((r.error for r in (low, high, found) if r.error.code), None)
            if failed is not None:
                result.error.CopyFrom(failed)
                continue
            if at in old:
                result.old_offset = old[at]
            if target == "timestamp_ms":
                wanted = found.offset if found.HasField("offset") else high.offset
            elif target == "offset":
                wanted = request.offset
            else:
                wanted = old.get(at, low.offset) + request.shift_by
            result.new_offset = max(low.offset, min(high.offset, wanted))
            moves.append((at, result))
        if not request.validate_only:
            with audit.changing("ResetOffsets", group_id=request.group_id, partitions=len(moves)):
                await self._move(request.group_id, moves)
        return response

    async def _move(self, group_id: str, moves: list[Move]) -> None:
        """A part after the other, so that nobody waits for the whole. From where one is refused on, results say so."""
        for start in range(0, max(1, len(moves)), POSITIONS_AT_ONCE):
            try:
                await self._move_part(group_id, moves[start : start + POSITIONS_AT_ONCE])
            except ApiError as error:
                if not start:
                    raise  # nothing is moved: the call as a whole is refused
                for _, result in moves[start:]:
                    result.ClearField("new_offset")
                    result.error.CopyFrom(error.to_proto())
                return

    async def _move_part(self, group_id: str, part: list[Move]) -> None:
        moved = [(at, result.new_offset) for at, result in part]
        await self._shell.decide(group_id, lambda c: (c.reset(group_id, moved, self._shell.wall_ms()), None))

    # --- looking at groups, and deleting them ---------------------------------------------------------------------

    async def list_groups(self, request: group_pb2.ListGroupsRequest, context: Context) -> group_pb2.ListGroupsResponse:
        """The groups of all coordinators, or only of this one for a forwarded call. A coordinator that is not there yet
        is waited for a little; then the answer says that it has gaps."""
        deadline = asyncio.get_running_loop().time() + (0 if self._forwarded else LIST_WAIT_S)
        while True:
            with self._in_flight.growing() as growing:
                response = await self._listed(request, growing)
            if not response.error.retriable or asyncio.get_running_loop().time() >= deadline:
                return response
            await asyncio.sleep(RETRY_S)

    async def _listed(self, request: group_pb2.ListGroupsRequest, growing: Growing) -> group_pb2.ListGroupsResponse:
        response = group_pb2.ListGroupsResponse()
        topic = self._view.image.topic_named(OFFSETS_TOPIC)
        leaders = {partition.leader for partition in topic.partitions} if topic is not None else set()
        if topic is not None and NO_LEADER in leaders:
            orphan = next(partition for partition in topic.partitions if partition.leader == NO_LEADER)
            response.error.CopyFrom(self._view.no_leader(topic, orphan).to_proto())
        for shard in self._shell.shards():
            try:
                coordinator, groups = await self._shell.look(shard, lambda c: (c, c.groups()))
            except ApiError as error:
                response.error.CopyFrom(error.to_proto())
                continue
            for number, group in enumerate(groups):
                if number % GROUPS_AT_ONCE == GROUPS_AT_ONCE - 1:
                    growing.add(GROUPS_AT_ONCE * GROUP_BYTES)
                    await turns.give_way()
                if not self._api.may_list(group.group_id):
                    continue
                shown = coordinator.shown(group)
                if not request.state or _state(shown) == request.state:
                    response.groups.add(
                        group_id=group.group_id,
                        state=_state(shown),
                        member_count=shown.member_count,
                        coordinator_id=self._view.node_id,
                        type=shown.type,
                    )
        if not self._forwarded:
            answers = await asyncio.gather(
                *(
                    self._peers.call(node_id, f"/{SERVICE.full_name}/ListGroups", request.SerializeToString(), 5.0)
                    for node_id in sorted(leaders - {self._view.node_id, NO_LEADER})
                ),
                return_exceptions=True,
            )
            for answer in answers:
                if isinstance(answer, bytes):
                    part = group_pb2.ListGroupsResponse.FromString(answer)
                    response.groups.extend(part.groups)
                    if part.error.code:
                        response.error.CopyFrom(part.error)
                elif isinstance(answer, ApiError):
                    response.error.CopyFrom(answer.to_proto())
                else:
                    raise answer
        response.groups.sort(key=lambda g: g.group_id)
        return response

    async def describe_groups(
        self, request: group_pb2.DescribeGroupsRequest, context: Context
    ) -> group_pb2.DescribeGroupsResponse:
        """Members, assignments, positions and lag, each group at its coordinator; no coordinator waits for another."""
        with self._in_flight.growing() as answer:
            return await self._described(request.group_ids, self._deadline(context), answer)

    async def _described(
        self, group_ids: Sequence[str], deadline: float, answer: Growing
    ) -> group_pb2.DescribeGroupsResponse:
        async def one(group_id: str) -> group_pb2.GroupDescription:
            if answer.size_bytes > limits.GROUP_ANSWER_MAX_BYTES:
                return _full(group_id)
            description = await described(group_id)
            answer.add(description.ByteSize())
            return description

        async def described(group_id: str) -> group_pb2.GroupDescription:
            async def local() -> group_pb2.DescribeGroupsResponse:
                self._view.access.check(DESCRIBE, GROUP, group_id)
                shard = self._shell.shard(group_id)
                group = await self._shell.look(shard, lambda c: c.group(group_id))
                shown = await self._api.described(group_id)
                if group is None or shown is None:
                    raise ApiError(pb.ERROR_CODE_GROUP_ID_NOT_FOUND, f"there is no group {group_id!r}")
                return group_pb2.DescribeGroupsResponse(groups=[await self._describe(group, shown)])

            part = group_pb2.DescribeGroupsRequest(group_ids=[group_id])
            try:
                answer = await self._route(
                    "DescribeGroups", group_id, part, group_pb2.DescribeGroupsResponse.FromString, local, deadline
                )
                return answer.groups[0]
            except ApiError as error:
                return group_pb2.GroupDescription(group_id=group_id, error=error.to_proto())

        return group_pb2.DescribeGroupsResponse(groups=await turns.in_lanes(group_ids, self._coordination.lane, one))

    async def _describe(self, group: Group, shown: Shown) -> group_pb2.GroupDescription:
        description = group_pb2.GroupDescription(
            group_id=group.group_id,
            state=_state(shown),
            group_epoch=shown.generation,
            assignor=shown.protocol,
            coordinator_id=self._view.node_id,
            type=shown.type,
        )
        owners = {**group.owners, **self._add_classic(description, shown)}
        seen = self._api.seen
        for member_id, member in sorted(group.members.items()):
            description.members.add(
                member_id=member_id,
                instance_id=member.instance_id,
                client_id=member.client_id,
                client_host=member.client_host,
                member_epoch=member.member_epoch,
                topics=filter(self._api.may_see, member.topics),
                owned=map(self._name, seen(member.assigned | member.revoking)),
                target=map(self._name, seen(group.targets.get(member_id, frozenset()))),
            )
        lags = (await self._lags.of([group], LAG_WAIT_S)).get(group.group_id, {})
        for at in seen(group.offsets.keys() | owners.keys()):
            entry = description.partitions.add(partition=self._name(at), member_id=owners.get(at, ""))
            if (committed := group.offsets.get(at)) is not None:
                entry.committed_offset = committed.offset
            if (lag := lags.get(at)) is not None:
                entry.high_watermark, entry.lag_records, entry.lag_ms = lag
                entry.beyond_end = entry.HasField("committed_offset") and entry.committed_offset > lag.high_watermark
        return description

    def _add_classic(self, description: group_pb2.GroupDescription, shown: Shown) -> dict[TopicPartition, str]:
        """Members of a classic group, and who has what as far as their client's assignments can be read."""
        owners: dict[TopicPartition, str] = {}
        for member in shown.members if shown.protocol_type == CONSUMER else ():
            for name, number in assigned(member.assignment):
                topic = self._view.image.topic_named(name)
                if topic is not None and 0 <= number < len(topic.partitions):
                    owners[topic.topic_id, number] = member.member_id
        of_member: dict[str, list[TopicPartition]] = {}
        for at, member_id in sorted(owners.items()):
            of_member.setdefault(member_id, []).append(at)
        for member in shown.members:
            owned = [self._name(at) for at in self._api.seen(of_member.get(member.member_id, ()))]
            description.members.add(
                member_id=member.member_id,
                instance_id=member.instance_id or "",
                client_id=member.client_id,
                client_host=member.client_host,
                member_epoch=shown.generation,
                topics=filter(
                    self._api.may_see, (subscribed(member.metadata) if shown.protocol_type == CONSUMER else None) or ()
                ),
                owned=owned,
                target=owned,
            )
        return owners

    async def delete_groups(
        self, request: group_pb2.DeleteGroupsRequest, context: Context
    ) -> group_pb2.DeleteGroupsResponse:
        """Deletes groups without members, with their positions."""
        deadline = self._deadline(context)

        async def one(group_id: str) -> group_pb2.DeleteGroupResult:
            async def local() -> group_pb2.DeleteGroupsResponse:
                await self._api.delete(group_id, validate_only=request.validate_only)
                return group_pb2.DeleteGroupsResponse(groups=[group_pb2.DeleteGroupResult(group_id=group_id)])

            part = group_pb2.DeleteGroupsRequest(group_ids=[group_id], validate_only=request.validate_only)
            try:
                answer = await self._route(
                    "DeleteGroups", group_id, part, group_pb2.DeleteGroupsResponse.FromString, local, deadline
                )
                return answer.groups[0]
            except ApiError as error:
                return group_pb2.DeleteGroupResult(group_id=group_id, error=error.to_proto())

        return group_pb2.DeleteGroupsResponse(
            groups=await turns.in_lanes(request.group_ids, self._coordination.lane, one)
        )

    # --- small parts ----------------------------------------------------------------------------------------------

    def _name(self, at: tuple[bytes, int]) -> data_pb2.TopicPartition:
        topic = self._view.image.topics.get(at[0])
        return data_pb2.TopicPartition(topic="" if topic is None else topic.name, topic_id=at[0], partition=at[1])

    async def _list(
        self, wanted: list[tuple[bytes, int]], timestamp_ms: int, context: Context
    ) -> dict[tuple[bytes, int], data_pb2.ListOffsetsResult]:
        """What the leaders answer for each partition: an offset or an error."""
        if not wanted:
            return {}
        questions = data_pb2.ListOffsetsRequest(
            partitions=[
                data_pb2.ListOffsetsPartition(topic_id=at[0], partition=at[1], timestamp_ms=timestamp_ms)
                for at in wanted
            ],
            timeout_ms=2000,
        )
        answers = await self._offsets.list_offsets(questions, context)
        return dict(zip(wanted, answers.partitions, strict=True))


def _state(shown: Shown) -> str:
    """Classic groups have two names for what is one here."""
    return CLASSIC_STATES.get(shown.state, shown.state.lower())


def _position(item: group_pb2.OffsetCommit) -> Position:
    tp = item.partition
    epoch = item.leader_epoch if item.HasField("leader_epoch") else None
    return Position(Where(tp.topic, tp.topic_id, tp.partition), item.offset, epoch, item.metadata)


def _stored(where: Where, position: CommittedOffset | None) -> group_pb2.CommittedOffset:
    partition = data_pb2.TopicPartition(topic=where.topic, topic_id=where.topic_id, partition=where.partition)
    if position is None:
        return group_pb2.CommittedOffset(partition=partition)
    return group_pb2.CommittedOffset(
        partition=partition,
        offset=position.offset,
        leader_epoch=position.leader_epoch,
        metadata=position.metadata,
        commit_time_ms=position.commit_time_ms,
    )


def _full(group_id: str) -> group_pb2.GroupDescription:
    full = ApiError(
        pb.ERROR_CODE_INVALID_REQUEST,
        f"the answer has more than {limits.GROUP_ANSWER_MAX_BYTES} bytes: describe fewer groups at once",
    )
    return group_pb2.GroupDescription(group_id=group_id, error=full.to_proto())


def _at(view: ClusterView, tp: data_pb2.TopicPartition) -> tuple[bytes, int]:
    topic, partition = view.partition(tp.topic, tp.topic_id, tp.partition, READ)
    return topic.topic_id, partition.partition
