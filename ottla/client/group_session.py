"""A member's session: one stream to any node, kept up for as long as the consumer is open, and its commits."""

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple, Protocol

from grpc import aio

from ottla.client.connection import Client
from ottla.client.errors import OttlaError, from_server
from ottla.client.group import REJOIN_CODES, Gained, Membership
from ottla.client.records import Position, TopicPartition
from ottla.client.streams import converse
from ottla.v1 import error_pb2 as pb
from ottla.v1.data_pb2 import TopicPartition as WirePartition
from ottla.v1.group_pb2 import (
    Assignment,
    CommitOffsetsRequest,
    CommitOffsetsResponse,
    FetchOffsetsRequest,
    FetchOffsetsResponse,
    Leave,
    OffsetCommit,
    SessionRequest,
    SessionResponse,
)
from ottla.v1.group_pb2_grpc import GroupServiceStub

log = logging.getLogger("ottla.group")

LEAVE_WAIT_S: Final = 2.0
SILENCE_MAX_MS: Final = 5_000
_LOOK_S: Final = 0.5


class Owner(Protocol):
    """Whoever reads the partitions: the consumer."""

    async def give_back(self, partitions: list[TopicPartition]) -> Mapping[TopicPartition, Position]:
        """Stops reading; answers what of them was processed."""

    async def take(self, gained: list[Gained]) -> None:
        """Starts reading."""

    def lose(self, partitions: list[TopicPartition]) -> None:
        """Forgets what was given back."""

    def robbed(self, partitions: list[TopicPartition]) -> None:
        """Stops reading at once: another member may read them already."""

    def session_failed(self, error: OttlaError) -> None:
        """There is no way on: the user must be told."""


class _Asked(NamedTuple):
    """Another subscription that the coordinator has not judged yet. `before` is the one that it took."""

    subscription: tuple[Sequence[str], str]
    before: tuple[Sequence[str], str]
    taken: asyncio.Future[None]


def _now_ms() -> int:
    return time.monotonic_ns() // 1_000_000


class GroupSession:
    """Keeps a membership. `run` and `follow` are two tasks of the consumer: the one listens, the other carries out what
    was assigned, so that a slow revocation does not look like silence."""

    def __init__(self, membership: Membership, client: Client, owner: Owner, commit_timeout_ms: int = 5_000) -> None:
        self.membership = membership
        self._client = client
        self._owner = owner
        self._commit_timeout_ms = commit_timeout_ms
        self._commits = asyncio.Lock()
        self._outbox: asyncio.Queue[SessionRequest] = asyncio.Queue(maxsize=100)
        self._to_do = asyncio.Event()
        self._carried_out: Assignment | None = None
        self._missing: frozenset[str] = frozenset()
        self.commits = self.commits_failed = self.rebalances = 0
        self._is_leaving = False
        self._asked: _Asked | None = None
        self._joined_with: tuple[Sequence[str], str] | None = None
        self._last_word_ms = 0
        self._call: Any = None

    def may_hand_out(self) -> bool:
        """Whether records of the owned partitions may reach the user now."""
        return self.membership.may_hand_out(_now_ms())

    async def subscribe(self, topics: tuple[str, ...], topic_regex: str) -> None:
        """Other topics from now on. The session is resumed with them: the member stays the same one, and owns what it
        owns until the coordinator says otherwise. An expression is the coordinator's to judge: waits for its word, and
        raises the OttlaError with which it refuses; what was subscribed before then stays. Where no word comes within
        the time for a commit, it is for whoever reads."""
        membership = self.membership
        before = membership.topics, membership.topic_regex
        if self._asked is not None:
            before = self._asked.before
            self._judged(None)
        membership.topics, membership.topic_regex = topics, topic_regex
        asked = _Asked((topics, topic_regex), before, asyncio.get_running_loop().create_future())
        if topic_regex:
            self._asked = asked
        if self._call is not None:
            self._call.cancel()
        if topic_regex:
            try:
                async with asyncio.timeout(self._commit_timeout_ms / 1000):
                    await asked.taken
            except TimeoutError:
                log.info("group %s: no word yet on topic_regex %r", membership.group_id, topic_regex)
                if self._asked is asked:
                    self._asked = None

    def _judged(self, refusal: OttlaError | None) -> bool:
        """The coordinator's word on the subscription that was asked for last. False: nobody asked."""
        asked, self._asked = self._asked, None
        if asked is None:
            return False
        if refusal is not None:
            self.membership.topics, self.membership.topic_regex = asked.before
        if asked.taken.done():  # whoever asked was cancelled
            if refusal is not None:
                log.warning("group %s: %s What was subscribed before stays", self.membership.group_id, refusal)
        elif refusal is not None:
            asked.taken.set_exception(refusal)
        else:
            asked.taken.set_result(None)
        return True

    # -- listening -------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Joins, listens, resumes: until `leave`, or an error that joining again can't mend."""
        failures = 0
        while not self._is_leaving:
            began = time.monotonic()
            pause_s = 0.0
            try:
                await self._one_session()
            except OttlaError as error:
                if not error.retriable:
                    if self._judged(error):
                        continue
                    self._owner.session_failed(error)
                    return
                log.info("group session: %s", error)
                pause_s = error.retry_after_ms / 1000
            failures = 0 if time.monotonic() - began > 2 else failures + 1
            if failures > 1:
                await asyncio.sleep(max(pause_s, min(0.02 * 2 ** min(failures, 6), 1.0)))

    async def _one_session(self) -> None:
        """Raises OttlaError where the server refused."""
        membership = self.membership
        membership.connected()
        channel = self._client.channel(await self._client.home())
        # From here on without a pause, so that a `subscribe` either is in the request or finds the call to be resumed.
        while not self._outbox.empty():
            self._outbox.get_nowait()  # confirmations of an earlier session: joining says what is owned
        self._joined_with = membership.topics, membership.topic_regex
        self._outbox.put_nowait(SessionRequest(join=membership.join_request()))
        call: Any = GroupServiceStub(channel).Session()
        self._call = call
        try:
            log.info("the group session ended: %s", await converse(call, self._write(call), self._take))
        finally:
            self._call = None

    async def _write(self, call: Any) -> None:
        """Sends what is to be said, and leaves a node that has nothing to say: a tick is due every 2 s."""
        self._last_word_ms = _now_ms()
        while True:
            asked_ms = _now_ms()
            try:
                request = await asyncio.wait_for(self._outbox.get(), _LOOK_S)
            except TimeoutError:
                if _now_ms() - asked_ms > 2000 * _LOOK_S:
                    self._last_word_ms = _now_ms()  # this loop was blocked; what came meanwhile is read next
                elif _now_ms() - self._last_word_ms > SILENCE_MAX_MS:
                    log.info("group %s: the node fell silent", self.membership.group_id)
                    call.cancel()
                    return
                continue
            await call.write(request)
            if request.HasField("leave"):
                await call.done_writing()
                return

    def _take(self, response: SessionResponse) -> bool:
        """False: the session must be resumed. Raises OttlaError for what can't go on like this."""
        membership = self.membership
        self._last_word_ms = _now_ms()
        kind = response.WhichOneof("message")
        if kind == "error":
            error = response.error
            if error.code in REJOIN_CODES:
                log.warning("group %s: %s Joining anew", membership.group_id, error.message)
                self._owner.robbed(membership.fenced())
                return False
            failure = from_server(error)
            failure.retry_after_ms = error.retry_after_ms
            raise failure
        if self._asked is not None and self._joined_with == self._asked.subscription:
            self._judged(None)
        if kind == "assignment" and membership.needs_proof:
            membership.last_heard_ms = None
        if not membership.heard(_now_ms()):
            log.info("group %s: no word for too long; asking whether the membership holds", membership.group_id)
            self._to_do.set()
        if kind == "assignment":
            membership.assigned(response.assignment, _now_ms())
            self._tell_of(frozenset(response.assignment.missing_topics))
            self._to_do.set()
        return True

    def _tell_of(self, missing: frozenset[str]) -> None:
        """A name that is wrong would be waited for without a word."""
        if new := missing - self._missing:
            log.warning(
                "group %s: no such topic yet: %s; read as soon as it is there. Next: check the name, or create it",
                self.membership.group_id,
                ", ".join(sorted(new)),
            )
        self._missing = missing

    # -- following -------------------------------------------------------------------------------------------------

    async def follow(self) -> None:
        """Carries out assignments, the latest first: gives back, commits, confirms, starts."""
        while True:
            await self._to_do.wait()
            self._to_do.clear()
            assignment = self.membership.assignment
            if assignment is None:
                continue
            if self.membership.needs_proof:
                await self._prove()
            if assignment is not self._carried_out:
                await self._carry_out(assignment)
                self._carried_out = assignment

    async def _prove(self) -> None:
        """Asks the coordinator whether this is a member still, with a commit of nothing. The stream stays open
        meanwhile: to resume over another one would leave the group for a moment."""
        membership = self.membership
        member_id, member_epoch, asked_ms = membership.member_id, membership.member_epoch, _now_ms()
        try:
            await self._commit({})
        except OttlaError as error:
            log.info("group %s: the membership does not hold (%s); resuming", membership.group_id, error)
            if self._call is not None:
                self._call.cancel()
            return
        membership.proven(member_id, member_epoch, asked_ms)
        await self._owner.take([])

    async def _carry_out(self, assignment: Assignment) -> None:
        membership = self.membership
        given_back = membership.to_give_back(assignment)
        log.info(
            "group %s, epoch %d: %d partitions, %d given back (%s)",
            membership.group_id,
            assignment.member_epoch,
            len(assignment.partitions),
            len(given_back),
            assignment.reason,
        )
        if given_back:
            processed = await self._owner.give_back(given_back)
            if processed:
                try:
                    await self.commit(processed)
                except OttlaError as error:
                    log.warning("group %s: could not commit before giving back: %s", membership.group_id, error)
            self._owner.lose(given_back)
            for where in given_back:
                membership.owned.pop(where, None)
        if membership.assignment is not assignment:
            return  # overtaken by a newer assignment, or by a fence
        gained = membership.to_start(assignment)
        membership.owned.update((g.where, g.topic_id) for g in gained)
        await self._outbox.put(SessionRequest(owned=membership.confirmation(assignment)))
        self.rebalances += 1
        await self._owner.take(gained)

    async def leave(self) -> None:
        """Leaves the group, so that others take over at once. Bounded: a node that does not answer learns it later."""
        self._is_leaving = True
        if self._call is None:
            return
        await self._outbox.put(SessionRequest(leave=Leave()))
        give_up = time.monotonic() + LEAVE_WAIT_S
        while self._call is not None and time.monotonic() < give_up:  # noqa: ASYNC110 - the reader ends it
            await asyncio.sleep(0.005)

    # -- commits ---------------------------------------------------------------------------------------------------

    async def commit(self, positions: Mapping[TopicPartition, Position]) -> None:
        """Stores positions, after those of the commits before it; returns when they are replicated. Raises OttlaError:
        STALE_MEMBER_EPOCH or FENCED_MEMBER_EPOCH if the partitions are not this member's any more."""
        async with self._commits:
            try:
                await self._commit(positions)
            except OttlaError:
                self.commits_failed += 1
                raise
            self.commits += 1

    async def _commit(self, positions: Mapping[TopicPartition, Position]) -> None:
        give_up = time.monotonic() + self._commit_timeout_ms / 1000
        left = dict(positions)
        while True:
            membership = self.membership
            request = CommitOffsetsRequest(
                group_id=membership.group_id,
                member_id=membership.member_id,
                member_epoch=membership.member_epoch,
                offsets=[
                    OffsetCommit(
                        partition=_wire(where, membership.owned.get(where, b"")),
                        offset=position.offset,
                        leader_epoch=position.leader_epoch,
                    )
                    for where, position in left.items()
                ],
            )
            answer = await self._client.on_any_node(
                partial(_send_commit, request, self._commit_timeout_ms), self._commit_timeout_ms
            )
            error = answer.error
            if not error.code:
                refused = [result for result in answer.offsets if result.error.code]
                if not refused:
                    return
                error = refused[0].error
                left = {where: left[where] for r in refused if (where := _where(r.partition)) in left}
            if not error.retriable or time.monotonic() >= give_up:
                raise from_server(error)
            if error.code == pb.ERROR_CODE_STALE_MEMBER_EPOCH and not set(left) <= set(membership.owned):
                raise from_server(error)
            await asyncio.sleep(max(error.retry_after_ms, 20) / 1000)

    async def committed(self, where: TopicPartition) -> int | None:
        """The group's stored position; None if there is none. Raises OttlaError."""
        request = FetchOffsetsRequest(group_id=self.membership.group_id, partitions=[_wire(where, b"")])
        answer = await self._client.until_done(
            partial(_fetch, request, self._commit_timeout_ms), self._commit_timeout_ms, lambda answer: [answer.error]
        )
        found = next(iter(answer.offsets), None)
        return found.offset if found is not None and found.HasField("offset") else None


def _wire(where: TopicPartition, topic_id: bytes) -> WirePartition:
    return WirePartition(topic=where.topic, topic_id=topic_id, partition=where.partition)


def _where(partition: WirePartition) -> TopicPartition:
    return TopicPartition(partition.topic, partition.partition)


async def _send_commit(request: CommitOffsetsRequest, timeout_ms: int, channel: aio.Channel) -> CommitOffsetsResponse:
    return await GroupServiceStub(channel).CommitOffsets(request, timeout=timeout_ms / 1000)


async def _fetch(request: FetchOffsetsRequest, timeout_ms: int, channel: aio.Channel) -> FetchOffsetsResponse:
    return await GroupServiceStub(channel).FetchOffsets(request, timeout=timeout_ms / 1000)
