"""The active controller's single writer, on the control loop: decisions become log entries, answers leave at commit.

    request -> (turn) one draft for those that wait -> propose -> log-end state moves -> ... committed -> answers

Brokers come first: what clients ask for is cut into slices, and a turn takes one slice's worth of it after everything
that brokers, ticks and elections want. What changes nothing is answered from the committed state, outside of the turns,
one slice at a time, too. After either kind of slice the loop is left to others for as long as it took: a heartbeat
needs several turns of the loop, which must not all be as long as a client can make one.

There are two states: at log end, for decisions, and the committed one of the `MetadataPublisher`, for everyone else.
Lost leadership drops the first; who waits for a commit then gets REQUEST_TIMED_OUT, for the entry may still be
committed by the next leader. A shell exists on every node and is idle where the node does not lead.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol

import structlog

from node import limits
from node.controller.said import log_changes
from node.controller.slices import all_refused, joined, result_field, slices_of, weight_of
from node.controller.state import (
    acls,
    brokers,
    draining,
    features,
    heal,
    imports,
    leaders,
    moves,
    partitions,
    plan,
    quotas,
    repair,
    resource_configs,
    sessions,
    topics,
    unregister,
    users,
)
from node.controller.state.draft import ControllerSettings, Draft, SoftState
from node.controller.state.invariants import check_draft
from node.fail_stop import stop_if_broken
from node.metadata.image import Delta, Image
from node.metadata.publisher import MetadataPublisher
from ottla.internal.v1 import controller_pb2 as rpc
from ottla.internal.v1 import metadata_pb2 as records
from ottla.protocol.errors import ApiError
from ottla.protocol.invariant import InvariantError
from ottla.v1 import admin_pb2 as admin
from ottla.v1 import error_pb2 as pb

log = structlog.get_logger(__name__)

TICK_S: Final = 0.25
TICK_MIN_S: Final = 0.02
BALANCE_EVERY_TICKS: Final = 4
REQUESTS_MAX: Final = 10_000
WISHES_MAX: Final = 1000
REST_FROM_S: Final = 0.002
"""A portion that takes longer leaves the loop to others for a while."""
ANSWER_MAX_BYTES: Final = 3 * limits.MIB
"""What a description of many may have: clients of gRPC take 4 MiB unless they were told otherwise."""
REACHED_MS: Final = 1000
"""A broker that has said nothing for longer, on any channel, is not waited for: it may be cut off."""
RECORDS_PER_ENTRY: Final = 20_000
"""Above it the requests that are left wait for the next entry."""
WAIT_DEFAULT_MS: Final = 30_000


class Leadership(Protocol):
    """Who leads the quorum, as this node knows. `serving`: an entry of the own term and all before it are applied."""

    @property
    def leader_id(self) -> int | None: ...
    @property
    def term(self) -> int: ...
    @property
    def is_self(self) -> bool: ...
    @property
    def serving(self) -> bool: ...


class Quorum(Protocol):
    """What the shell needs of `node.quorum`."""

    @property
    def cluster_id(self) -> bytes | None: ...
    @property
    def node_id(self) -> int: ...
    @property
    def leadership(self) -> Leadership: ...
    @property
    def last_index(self) -> int: ...
    def propose(self, data: bytes, term: int) -> int: ...
    def last_contact_ms(self, node_id: int) -> int | None: ...
    async def read_barrier(self) -> int: ...


@dataclass(slots=True)
class _Request:
    """A decision to take, and who waits for it. `future` None: nobody."""

    decide: Callable[[Draft], Any]
    future: "asyncio.Future[_Answer] | None" = None
    weight: int = 0
    """Items of a request that is taken in portions; 0 for what cannot wait."""
    of_broker: bool = False


@dataclass(frozen=True, slots=True)
class _Answer:
    """What a decision answered, and the entry it made or (no `changed`) was based on."""

    value: Any
    index: int
    changed: bool


_DECIDE: Final[dict[type, Callable[[Draft, Any], Any]]] = {
    rpc.AlterPartitionRequest: partitions.alter_partition,
    rpc.AllocateProducerIdsRequest: brokers.allocate_producer_ids,
    rpc.EnsureInternalTopicRequest: topics.ensure_internal_topic,
    admin.CreateTopicsRequest: topics.create_topics,
    admin.DeleteTopicsRequest: topics.delete_topics,
    admin.CreatePartitionsRequest: topics.create_partitions,
    admin.AlterConfigsRequest: resource_configs.alter_configs,
    admin.DescribeConfigsRequest: resource_configs.describe_configs,
    admin.ElectLeadersRequest: leaders.elect_leaders,
    admin.ReassignPartitionsRequest: moves.reassign_partitions,
    admin.ListReassignmentsRequest: moves.list_reassignments,
    admin.UnregisterBrokerRequest: unregister.unregister_broker,
    admin.DescribeFeaturesRequest: features.describe_features,
    admin.FinalizeFeatureRequest: features.finalize_feature,
    admin.CompleteImportRequest: imports.complete_import,
    admin.DescribeUserScramCredentialsRequest: users.describe_users,
    admin.AlterUserScramCredentialsRequest: users.alter_users,
    admin.DescribeAclsRequest: acls.describe_acls,
    admin.CreateAclsRequest: acls.create_acls,
    admin.DeleteAclsRequest: acls.delete_acls,
    admin.TestAclRequest: acls.test_acl,
    admin.DescribeClientQuotasRequest: quotas.describe_quotas,
    admin.AlterClientQuotasRequest: quotas.alter_quotas,
}

_KNOWN_BY_ALL: Final = (
    rpc.EnsureInternalTopicRequest,
    admin.CreateTopicsRequest,
    admin.DeleteTopicsRequest,
    admin.CreatePartitionsRequest,
    admin.AlterConfigsRequest,
    admin.ReassignPartitionsRequest,
    admin.UnregisterBrokerRequest,
    admin.FinalizeFeatureRequest,
    admin.CompleteImportRequest,
    admin.AlterUserScramCredentialsRequest,
    admin.CreateAclsRequest,
    admin.DeleteAclsRequest,
    admin.AlterClientQuotasRequest,
)
"""These return when every live broker that the controller reaches has applied the change, so that the next call at any
of them sees it."""

_READS: Final = (
    admin.DescribeConfigsRequest,
    admin.DescribeFeaturesRequest,
    admin.ListReassignmentsRequest,
    admin.DescribeUserScramCredentialsRequest,
    admin.DescribeAclsRequest,
    admin.TestAclRequest,
    admin.DescribeClientQuotasRequest,
)
_OF_BROKERS: Final = (
    rpc.RegisterBrokerRequest,
    rpc.HeartbeatRequest,
    rpc.AlterPartitionRequest,
    rpc.AllocateProducerIdsRequest,
    rpc.EnsureInternalTopicRequest,
)
_WISHES: Final = (rpc.AllocateProducerIdsRequest, rpc.EnsureInternalTopicRequest)
"""Of brokers, but because their clients asked: they are taken in portions, before what clients ask for."""


class ControllerShell:
    """Listens to the quorum (`add_listener(shell)`); the publisher must apply an entry before anyone else hears of it.

    `clock_ms` is monotonic, in ms; `wall_ms` since the epoch, by this node's clock; `new_id` gives 16 random bytes.
    `failed` ends with the InvariantError that must stop the node.
    """

    def __init__(
        self,
        quorum: Quorum,
        publisher: MetadataPublisher,
        settings: ControllerSettings,
        clock_ms: Callable[[], int],
        new_id: Callable[[], bytes],
        wall_ms: Callable[[], int],
    ) -> None:
        self._quorum = quorum
        self._publisher = publisher
        self._settings = settings
        self._clock_ms = clock_ms
        self._new_id = new_id
        self._wall_ms = wall_ms
        self._loop = asyncio.get_running_loop()
        self.failed: asyncio.Future[None] = self._loop.create_future()
        self.on_committed = publisher.on_committed
        self.on_snapshot = publisher.on_snapshot
        publisher.subscribe(self._on_image)
        # Active: the term led and the state at log end, with the index of the last entry made. Idle: None.
        self._term: int | None = None
        self._log_end = Image.EMPTY
        self._soft = SoftState()
        self._dead: set[int] = set()
        self._inbox: deque[_Request] = deque()
        self._wishes: deque[_Request] = deque()
        self._clients: deque[_Request] = deque()
        self._portions_rest = False
        self._barrier: asyncio.Task[int] | None = None
        self._reading = asyncio.Lock()
        self._turn_due = False
        self._uncommitted: deque[tuple[_Answer | ApiError, int, asyncio.Future[_Answer]]] = deque()
        self._waiting_for_brokers: list[tuple[int, asyncio.Future[None]]] = []

    @property
    def active(self) -> bool:
        return self._term is not None

    def check_active(self) -> None:
        """Raises NOT_CONTROLLER where this node is not the active controller."""
        if not self.active:
            raise self._not_controller()

    def lease_ages_ms(self) -> dict[int, int]:
        """Per broker that is not fenced, how long ago it was heard; empty where this node is not the controller."""
        if not self.active:
            return {}
        now_ms = self._clock_ms()
        return {
            node_id: now_ms - contact.contact_ms
            for node_id, contact in self._soft.contacts.items()
            if node_id in self._log_end.brokers and not self._log_end.brokers[node_id].fenced
        }

    @property
    def next_tick_s(self) -> float:
        """A few times a second, and when a lease ends: what it lasts longer, nobody leads what a silent broker led."""
        left_ms = self._settings.session_timeout_ms - max(self.lease_ages_ms().values(), default=0)
        return min(TICK_S, max(TICK_MIN_S, left_ms / 1000))

    async def run(self) -> None:
        """Ticks until it is cancelled."""
        ticks = 0
        while True:
            await asyncio.sleep(self.next_tick_s)
            ticks += 1
            if self.active and not self.failed.done():
                self._wake_known_by_all()
                self._submit(_Request(brokers.tick))
                if ticks % BALANCE_EVERY_TICKS == 0:
                    self._submit(_Request(leaders.balance))
                    self._submit(_Request(repair.repair_internal_topics))
                    self._submit(_Request(heal.heal))
                    self._submit(_Request(sessions.draw_key))

    async def handle(self, request: Any) -> Any:
        """Takes a request of ControllerService or AdminService; returns its response. Raises ApiError.

        NOT_CONTROLLER where this node does not lead, REQUEST_TIMED_OUT where the outcome is unknown.
        """
        now_ms = self._clock_ms()
        if isinstance(request, _OF_BROKERS):
            wish = isinstance(request, _WISHES)
            answer = await self._decided(partial(self._decide, request, now_ms), int(wish), of_broker=wish)
        elif isinstance(request, _READS) or getattr(request, "validate_only", False):
            return await self._read(request)
        else:
            answer = await self._changed(request, _timeout_ms(request))
        if answer.changed and isinstance(request, _KNOWN_BY_ALL):
            left_ms = _timeout_ms(request) - (self._clock_ms() - now_ms)
            await self._known_by_all(answer, max(1, left_ms))
        return answer.value

    async def _changed(self, request: Any, timeout_ms: int) -> "_Answer":
        """Decides a client's request slice by slice: what one meets is said of its items alone. Raises ApiError where
        no slice changed anything."""
        self.check_active()
        request = await self._spelled_out(request)
        parts = list(slices_of(request))
        answers = await asyncio.gather(
            *(self._in_time(partial(self._decide, part, 0), weight_of(part), timeout_ms) for part, _ in parts)
        )
        changed = [answer for answer in answers if isinstance(answer, _Answer) and answer.changed]
        failed = [answer for answer in answers if isinstance(answer, ApiError)]
        if failed and not changed:
            raise next((error for error in failed if error.code == pb.ERROR_CODE_REQUEST_TIMED_OUT), failed[0])
        said = [
            all_refused(part, answer.to_proto()) if isinstance(answer, ApiError) else answer.value
            for answer, (part, _) in zip(answers, parts, strict=True)
        ]
        value = joined(request, [(each, places) for each, (_, places) in zip(said, parts, strict=True)])
        return _Answer(
            value, max(answer.index for answer in answers if isinstance(answer, _Answer)), changed=bool(changed)
        )

    async def _spelled_out(self, request: Any) -> Any:
        """The request, with what it is about named one by one. What is drained gets nothing new from before that on."""
        spelled_out = _whole(request, self._log_end)
        if isinstance(request, admin.ReassignPartitionsRequest) and request.HasField("drain_node_id"):
            begin = partial(draining.begin, node_id=request.drain_node_id)
            marked = await self._in_time(begin, 1, _timeout_ms(request))
            if isinstance(marked, ApiError):
                raise marked
            self.check_active()
            spelled_out = _whole(request, self._log_end)
        return spelled_out

    async def _in_time(self, decide: Callable[[Draft], Any], weight: int, timeout_ms: int) -> "_Answer | ApiError":
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                return await self._decided(decide, weight)
        except ApiError as error:
            return error
        except TimeoutError:
            return ApiError(
                pb.ERROR_CODE_REQUEST_TIMED_OUT,
                f"no majority of the quorum committed the change within {timeout_ms} ms: whether it takes effect is "
                "unknown",
            )

    async def _read(self, request: Any) -> Any:
        """Answers what changes nothing from the committed state, a slice at a time. Raises ApiError."""
        self.check_active()
        if self._barrier is None or self._barrier.done():
            # A turn later, so that all that ask now share one: it must begin after each of them did.
            self._barrier = self._loop.create_task(self._read_barrier())
        await asyncio.shield(self._barrier)
        image = self._publisher.image
        request = _whole(request, image)
        draft = Draft(image, image.index + 1, self._soft, self._settings, self._clock_ms(), self._new_id)
        answers: list[tuple[Any, Sequence[int]]] = []
        size_bytes = 0
        for part, places in slices_of(request):
            async with self._reading:
                began_s = self._loop.time()
                if size_bytes > ANSWER_MAX_BYTES:
                    answer = all_refused(part, _left_out())
                else:
                    answer = self._tried(part, draft)
                await asyncio.sleep(self._loop.time() - began_s)
            size_bytes += answer.ByteSize()
            answers.append((answer, places))
        return joined(request, answers)

    def _tried(self, request: Any, draft: Draft) -> Any:
        """What a decision would answer; the draft goes nowhere, and the next slice builds on it."""
        checks = getattr(request, "validate_only", False)
        if checks:
            request.validate_only = False
        answer = _DECIDE[type(request)](draft, request)
        if checks:
            request.validate_only = True
        for topic in answer.topics if checks and isinstance(answer, admin.CreateTopicsResponse) else ():
            topic.topic_id = b""
        return answer

    async def _read_barrier(self) -> int:
        await asyncio.sleep(0)
        barrier, self._barrier = self._quorum.read_barrier(), None
        return await barrier

    # What the quorum tells. Nothing is proposed from inside these calls: the quorum is in the middle of its own turn.

    def on_leadership(self, leadership: Leadership) -> None:
        leads = leadership.is_self and leadership.serving
        if self.active and not (leads and leadership.term == self._term):
            self._step_down()
        if leads and not self.active:
            self._term = leadership.term
            self._log_end = self._publisher.image
            self._soft = SoftState()
            contacts = {node_id: self._quorum.last_contact_ms(node_id) for node_id in self._log_end.brokers}
            self._inbox.appendleft(
                _Request(lambda draft: brokers.take_over(draft, contacts, self._dead, self._quorum.node_id))
            )
            self._schedule_turn()
            log.info("controller_active", term=self._term, index=self._log_end.index)

    def on_peer_dead(self, node_id: int) -> None:
        self._dead.add(node_id)
        if self.active:
            self._submit(_Request(lambda draft: brokers.declare_dead(draft, node_id)))

    def on_peer_alive(self, node_id: int) -> None:
        self._dead.discard(node_id)

    def _decide(self, request: Any, now_ms: int, draft: Draft) -> Any:
        if isinstance(request, rpc.RegisterBrokerRequest):
            return brokers.register(draft, request, self._quorum.cluster_id or b"")
        if isinstance(request, rpc.HeartbeatRequest):
            return brokers.heartbeat(draft, request, now_ms)
        return _DECIDE[type(request)](draft, request)

    async def _decided(self, decide: Callable[[Draft], Any], weight: int = 0, *, of_broker: bool = False) -> _Answer:
        if not self.active:
            raise self._not_controller()
        waiting = len(self._inbox) + len(self._wishes) + len(self._clients) + len(self._uncommitted)
        if waiting >= REQUESTS_MAX:
            raise limits.throttled("too many requests wait for the controller", f"{REQUESTS_MAX} may", 200)
        if of_broker and len(self._wishes) >= WISHES_MAX:
            raise limits.throttled("too many requests of brokers wait for the controller", f"{WISHES_MAX} may", 200)
        future: asyncio.Future[_Answer] = self._loop.create_future()
        self._submit(_Request(decide, future, weight, of_broker))
        return await future

    def _queue_of(self, request: _Request) -> deque[_Request]:
        return self._wishes if request.of_broker else self._clients if request.weight else self._inbox

    def _submit(self, request: _Request) -> None:
        self._queue_of(request).append(request)
        self._schedule_turn()

    def _schedule_turn(self) -> None:
        if not self._turn_due:
            self._turn_due = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        """One draft for what waits, brokers first: one append for many heartbeats and ISR changes."""
        self._turn_due = False
        if self.failed.done():
            return
        began_s = self._loop.time()
        waiting = [request for request in self._inbox if request.future is None or not request.future.done()]
        self._inbox.clear()
        portion = [] if self._portions_rest else [*_portion(self._wishes), *_portion(self._clients)]
        self._decide_all(waiting + portion)
        took_s = self._loop.time() - began_s
        if portion and took_s > REST_FROM_S:
            self._portions_rest = True
            self._loop.call_later(took_s, self._rested)
        else:
            self._take_what_is_left()

    def _rested(self) -> None:
        self._portions_rest = False
        self._take_what_is_left()

    def _take_what_is_left(self) -> None:
        if (self._wishes or self._clients) and not self._portions_rest:
            self._schedule_turn()

    def _decide_all(self, waiting: list[_Request]) -> None:
        if self._term is None:
            for request in waiting:
                _fail(request.future, self._not_controller())
            return
        try:
            self._append(waiting, self._term)
        except ApiError as refused:
            # The quorum has another leader already; it will say so in a moment.
            for request in waiting:
                _fail(request.future, refused)
            self._step_down()
        except InvariantError as bug:
            # Nobody is answered: whoever asked learns from the connection that this controller is gone.
            log.error("controller_invariant_broken", exc_info=bug)
            self.failed.set_exception(bug)
            stop_if_broken(bug)

    def _append(self, waiting: list[_Request], term: int) -> None:
        draft, decided = self._draft(waiting)
        index = self._log_end.index
        if draft.records:
            check_draft(draft)
            data = records.MetadataRecords(
                records=draft.records, time_ms=self._decided_ms(draft), controller_id=self._quorum.node_id
            ).SerializeToString()
            index = self._quorum.propose(data, term)
            if index != draft.next_index:
                raise InvariantError(f"the quorum appended at {index}, the draft was made for {draft.next_index}")
            if self._term != term:
                # Deposed while it appended: whether the entry survives is for the next leader to say.
                for _, future in decided:
                    _fail(future, _unknown(index))
                return
            self._log_end = draft.build(term)
            log_changes(draft.records, index)
        for answer, future in decided:
            self._uncommitted.append((answer, index, future))
        self._answer_committed()

    def _decided_ms(self, draft: Draft) -> int:
        offset_ms = draft.clock_offset_ms()
        return self._wall_ms() if offset_ms is None else draft.now_ms + offset_ms

    def _draft(self, waiting: list[_Request]) -> tuple[Draft, list[tuple[_Answer | ApiError, asyncio.Future[_Answer]]]]:
        while True:
            draft = Draft(
                self._log_end,
                self._quorum.last_index + 1,
                self._soft,
                self._settings,
                self._clock_ms(),
                self._new_id,
            )
            decided: list[tuple[_Answer | ApiError, asyncio.Future[_Answer]]] = []
            for position, request in enumerate(waiting):
                made = len(draft.records)
                if made > RECORDS_PER_ENTRY:
                    for left in reversed(waiting[position:]):
                        self._queue_of(left).appendleft(left)
                    self._schedule_turn()
                    return draft, decided
                answer: _Answer | ApiError
                try:
                    value = request.decide(draft)
                    index = draft.next_index if draft.records else self._log_end.index
                    answer = _Answer(value, index, len(draft.records) > made)
                except ApiError as refused:
                    answer = refused
                except Exception as bug:
                    stop_if_broken(bug)
                    # One request that meets a bug of ours must neither stop the controller nor leave half a decision.
                    log.error("controller_decision_failed", exc_info=bug)
                    _fail(
                        request.future,
                        ApiError(pb.ERROR_CODE_UNKNOWN_SERVER_ERROR, f"the controller failed: {type(bug).__name__}"),
                    )
                    waiting.remove(request)
                    break
                if request.future is not None:
                    decided.append((answer, request.future))
            else:
                return draft, decided

    def _on_image(self, image: Image, _delta: Delta) -> None:
        if self._term is not None and image.term > self._term:
            # Entries of a later leader are committed where ours were waiting: nothing of ours is proven by an index.
            self._step_down()
        self._answer_committed()

    def _answer_committed(self) -> None:
        committed = self._publisher.image.index
        while self._uncommitted and self._uncommitted[0][1] <= committed:
            answer, _, future = self._uncommitted.popleft()
            if future.done():
                continue
            if isinstance(answer, ApiError):
                future.set_exception(answer)
            else:
                future.set_result(answer)
        self._wake_known_by_all()

    def _step_down(self) -> None:
        log.info("controller_inactive", term=self._term, unanswered=len(self._uncommitted))
        self._term = None
        self._log_end = Image.EMPTY
        for _, index, future in self._uncommitted:
            _fail(future, _unknown(index))
        self._uncommitted.clear()
        for queue in (self._inbox, self._wishes, self._clients):
            for request in queue:
                _fail(request.future, self._not_controller())
            queue.clear()
        for _, waiter in self._waiting_for_brokers:
            # The change itself is committed; only nobody counts who knows of it any more.
            if not waiter.done():
                waiter.set_result(None)
        self._waiting_for_brokers.clear()

    def _not_controller(self) -> ApiError:
        leadership = self._quorum.leadership
        leader = None if leadership.is_self else leadership.leader_id
        broker = None if leader is None else self._publisher.image.brokers.get(leader)
        return ApiError(
            pb.ERROR_CODE_NOT_CONTROLLER,
            f"node {self._quorum.node_id} is not the active controller, "
            + ("there is none at present" if leader is None else f"node {leader} is (term {leadership.term})"),
            leader=leader,
            epoch=leadership.term,
            address="" if broker is None else broker.control_address,
        )

    # Until every live broker knows

    async def _known_by_all(self, answer: _Answer, timeout_ms: int) -> None:
        if not self._who_lacks(answer.index):
            return
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._waiting_for_brokers.append((answer.index, waiter))
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                await waiter
        except TimeoutError:
            lacking = ", ".join(map(str, self._who_lacks(answer.index)))
            error = ApiError(
                pb.ERROR_CODE_REQUEST_TIMED_OUT,
                f"done as metadata entry {answer.index}, but broker {lacking} did not apply it within {timeout_ms} ms",
            )
            _mark_unfinished(answer.value, error)
        finally:
            self._waiting_for_brokers = [w for w in self._waiting_for_brokers if w[1] is not waiter]

    def _who_lacks(self, index: int) -> list[int]:
        """Live brokers within reach that have not said that they applied the entry."""
        contacts = self._soft.contacts
        return [
            broker.node_id
            for broker in self._log_end.live_brokers()
            if (broker.node_id not in contacts or contacts[broker.node_id].metadata_index < index)
            and self._reaches(broker.node_id)
        ]

    def _reaches(self, node_id: int) -> bool:
        contact = self._soft.contacts.get(node_id)
        heard_ms = max(
            0 if contact is None else contact.contact_ms,
            self._quorum.last_contact_ms(node_id) or 0,
        )
        return self._clock_ms() - heard_ms <= max(REACHED_MS, 2 * self._settings.heartbeat_interval_ms)

    def _wake_known_by_all(self) -> None:
        for index, waiter in self._waiting_for_brokers:
            if not waiter.done() and not self._who_lacks(index):
                waiter.set_result(None)


def _portion(queue: deque[_Request]) -> list[_Request]:
    """What one turn takes of a queue, at least one; what nobody waits for any more is dropped."""
    taken: list[_Request] = []
    weight = 0
    while queue and (not taken or weight + queue[0].weight <= limits.AT_ONCE):
        request = queue.popleft()
        if request.future is None or not request.future.done():
            taken.append(request)
            weight += request.weight
    return taken


def _fail(future: "asyncio.Future[_Answer] | None", error: ApiError) -> None:
    if future is not None and not future.done():
        future.set_exception(error)


def _unknown(index: int) -> ApiError:
    return ApiError(
        pb.ERROR_CODE_REQUEST_TIMED_OUT,
        f"the controller changed before metadata entry {index} was committed: the outcome is unknown",
    )


def _timeout_ms(request: Any) -> int:
    return limits.wait_ms(getattr(request, "timeout_ms", 0), WAIT_DEFAULT_MS)


def _whole(request: Any, image: Image) -> Any:
    """The request, with what it is about named one by one."""
    if isinstance(request, admin.ElectLeadersRequest) and not request.partitions:
        return leaders.everywhere(image, request)
    if isinstance(request, admin.ReassignPartitionsRequest) and request.balance:
        return plan.balanced(image, request)
    if isinstance(request, admin.ReassignPartitionsRequest) and request.HasField("drain_node_id"):
        return draining.drained(image, request)
    return request


def _left_out() -> pb.Error:
    """What is said of resources or users for which an answer has no room."""
    return ApiError(
        pb.ERROR_CODE_MESSAGE_TOO_LARGE,
        f"the answer has {ANSWER_MAX_BYTES} bytes without this one: ask for it again, with fewer at once or for some "
        "keys only",
    ).to_proto()


def _mark_unfinished(response: Any, error: ApiError) -> None:
    """Sets `error` on every item that succeeded: the caller may go on, but not every node knows of it yet."""
    if "error" in response.DESCRIPTOR.fields_by_name:
        response.error.CopyFrom(error.to_proto())
        return
    for item in getattr(response, result_field(response)):
        if not item.HasField("error"):
            item.error.CopyFrom(error.to_proto())
