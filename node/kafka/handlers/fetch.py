"""Fetch: whole batches of what this node leads, as soon as there are enough of them. Sessions are not offered: every
request is a full one."""

import asyncio
import random
from typing import Final, NamedTuple

from node import limits, turns
from node.api.fetch import Budget, FetchApi, Wanted
from node.api.in_flight import COPIES, InFlight
from node.broker.door import Heavy, OnLoop
from node.broker.host import ReadResult
from node.broker.lookup import EVERY_CODEC
from node.kafka import convert
from node.kafka.connection import Call
from node.kafka.convert import Converted
from node.kafka.fetch import (
    EpochEnd,
    Fetched,
    FetchRequest,
    FetchResponse,
    PartitionToFetch,
    TopicFetched,
    TopicToFetch,
)
from node.kafka.handlers.cluster_facts import ClusterFacts, run, unexpected
from node.kafka.wire import Buffer, Message
from node.metadata.acls import Acls
from node.metrics import Metrics
from ottla.protocol.acls import READ, TOPIC
from ottla.protocol.batch import BatchAt, CorruptBatch
from ottla.protocol.errors import ApiError
from ottla.protocol.quotas import FETCH
from ottla.v1 import error_pb2 as pb

API: Final = "Fetch"
LOW, HIGH = 4, 18
NO_SESSION: Final = 70
"""FETCH_SESSION_ID_NOT_FOUND"""
MAX_BYTES: Final = 4 * limits.MIB
"""Of one answer: each of its batches is converted."""
LITTLE_BYTES: Final = 64 * 1024
READ_COMMITTED: Final = 1


class _Asked(NamedTuple):
    topic: TopicToFetch
    part: PartitionToFetch


class FetchHandler:
    def __init__(
        self, api: FetchApi, facts: ClusterFacts, in_flight: InFlight, converted: Converted, metrics: Metrics
    ) -> None:
        self._api = api
        self._facts = facts
        self._in_flight = in_flight
        self._converted = converted
        self._metrics = metrics

    def __call__(self, request: Message, call: Call) -> Message | None:
        assert isinstance(request, FetchRequest)
        if request.session_epoch > 0:
            return FetchResponse([], NO_SESSION)
        # One answer of a connection is made at a time: what is read waits for no other.
        call.when_first(lambda: run(API, call, self._answer(request, call)))
        return None

    async def _answer(self, request: FetchRequest, call: Call) -> Message:
        throttle, client_id = self._facts.view.throttle, call.client_id or ""
        if throttle.on and (owed_ms := throttle.owed_ms(FETCH, client_id)):
            call.connection.mute(owed_ms)
            return FetchResponse([], throttle_time_ms=owed_ms)
        asked = [_Asked(topic, part) for topic in request.topics for part in topic.partitions]
        results: list[Fetched | None] = [None] * len(asked)
        reads: dict[int, ReadResult] = {}
        acls = self._api.acls
        wanted = await self._sort_out(asked, results, request, call.version)
        max_bytes = max(1, min(request.max_bytes, MAX_BYTES))
        if throttle.on:
            max_bytes = throttle.read_max_bytes(client_id, max_bytes)
        counts = self._in_flight.fits(COPIES * max_bytes)
        if not counts:
            max_bytes = min(max_bytes, LITTLE_BYTES)
        await self._read(request, asked, results, reads, wanted, max_bytes, call.version, acls)
        size, room = 0, OnLoop()
        for index, read in reads.items():
            topic = wanted[index].topic
            try:
                records = await self._convert(topic.topic_id, asked[index].part.partition, read, room)
            except ApiError as error:
                results[index] = self._failed(asked[index], error, request, call.version)
                continue
            size += sum(map(len, records))
            results[index] = _fetched(asked[index].part, read, records, request)
        self._metrics.fetched_bytes.inc(size)
        self._metrics.busy.passed_bytes += size
        if counts and size:
            self._in_flight.take(size)
            call.on_sent = lambda: self._in_flight.give(size)
        response = self._response(request, results, call)
        if throttle.on and (pause_ms := throttle.fetched(client_id, size)):
            response.throttle_time_ms = pause_ms
            call.connection.mute(pause_ms)
        return response

    def _response(self, request: FetchRequest, results: list[Fetched | None], call: Call) -> FetchResponse:
        found = iter([result for result in results if result is not None])
        topics = [TopicFetched(t.name, t.topic_id, [next(found) for _ in t.partitions]) for t in request.topics]
        leaders = {r.current_leader.leader_id for r in results if r is not None and r.current_leader is not None}
        return FetchResponse(topics, node_endpoints=self._facts.endpoints_of(leaders, call))

    async def _sort_out(
        self, asked: list[_Asked], results: list[Fetched | None], request: FetchRequest, version: int
    ) -> dict[int, Wanted]:
        """What can be read here, by its index; the others have their results."""
        view = self._facts.view
        wanted: dict[int, Wanted] = {}
        for index, (topic, part) in enumerate(asked):
            if index % limits.AT_ONCE == limits.AT_ONCE - 1:
                await turns.give_way()
            try:
                if version >= 13:
                    found, state = view.partition("", topic.topic_id, part.partition, READ)
                else:
                    found, state = view.partition(topic.name, b"", part.partition, READ)
                if state.leader != view.node_id:
                    raise view.not_leader(found, state)
                if part.fetch_offset < 0:
                    raise ApiError(pb.ERROR_CODE_OFFSET_OUT_OF_RANGE, f"offset {part.fetch_offset} is negative")
            except ApiError as error:
                results[index] = self._failed(asked[index], error, request, version)
                continue
            wanted[index] = Wanted(
                found,
                part.partition,
                part.fetch_offset,
                max(1, part.max_bytes),
                part.current_leader_epoch if part.current_leader_epoch >= 0 else None,
                part.last_fetched_epoch if part.last_fetched_epoch >= 0 else None,
            )
        return wanted

    async def _read(
        self,
        request: FetchRequest,
        asked: list[_Asked],
        results: list[Fetched | None],
        reads: dict[int, ReadResult],
        wanted: dict[int, Wanted],
        max_bytes: int,
        version: int,
        acls: Acls,
    ) -> None:
        """Reads until there is enough, something is wrong somewhere, or the time is over."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + min(max(0, request.max_wait_ms), limits.WAIT_MAX_MS) / 1000
        indexes = list(wanted)
        budget = Budget(EVERY_CODEC, max_bytes, max(max_bytes, MAX_BYTES), every_kind=True)
        urgent = len(wanted) < len(asked)
        access = self._facts.view.access

        def take(place: int, read: ReadResult | Exception) -> int:
            nonlocal urgent
            index = indexes[place]
            if isinstance(read, ReadResult):
                reads[index] = read
                urgent = urgent or read.diverging is not None
                return len(read.data)
            error = read if isinstance(read, ApiError) else unexpected(API, read)
            results[index] = self._failed(asked[index], error, request, version, wanted[index])
            reads.pop(index, None)
            urgent = True
            return 0

        while True:
            await self._api.read_all([wanted[index] for index in indexes], budget, random.getrandbits(16), take)
            found = sum(len(read.data) for read in reads.values())
            left_ms = round((deadline - loop.time()) * 1000)
            if urgent or found >= min(request.min_bytes, max_bytes) or left_ms <= 0 or not indexes:
                return
            positions = [
                (wanted[index].topic.topic_id, wanted[index].partition, read.next_offset)
                for index, read in reads.items()
            ]
            await self._api.news(positions, request.min_bytes - found, left_ms, acls)
            acls = self._api.acls
            for place in range(len(indexes)):
                if not access.lets(READ, TOPIC, wanted[indexes[place]].topic.name):
                    take(place, access.denied(READ, TOPIC, wanted[indexes[place]].topic.name))
            indexes = [index for index in indexes if results[index] is None]

    async def _convert(self, topic_id: bytes, partition: int, read: ReadResult, room: OnLoop) -> list[Buffer]:
        """The batches as clients of Kafka read them: views of those that are stored so, and the others converted."""
        try:
            batches = convert.batches_of(read.data)
            made = [
                convert.as_stored(read.data, batch) or self._converted.get(topic_id, partition, batch.header)
                for batch in batches
            ]
            missing = [batch for batch, have in zip(batches, made, strict=True) if have is None]
            if not missing:
                return [have for have in made if have is not None]
            new = _converted(read.data, missing, room)
            if len(new) < len(missing):
                new += await self._api.in_thread(_converted, read.data, missing[len(new) :], None)
        except CorruptBatch as error:
            raise ApiError(pb.ERROR_CODE_CORRUPT_MESSAGE, str(error)) from None
        for batch, data in zip(missing, new, strict=True):
            self._converted.put(topic_id, partition, batch.header, data)
        fresh = iter(new)
        return [next(fresh) if have is None else have for have in made]

    def _failed(
        self, asked: _Asked, error: ApiError, request: FetchRequest, version: int, wanted: Wanted | None = None
    ) -> Fetched:
        self._metrics.refused(f"Kafka{API}", error.code)
        code = error.code
        if code == pb.ERROR_CODE_KAFKA_STORAGE_ERROR and version <= 5:
            code = pb.ERROR_CODE_NOT_LEADER_OR_FOLLOWER
        elif code == pb.ERROR_CODE_LEADER_NOT_AVAILABLE:
            code = pb.ERROR_CODE_NOT_LEADER_OR_FOLLOWER  # what Kafka says of a partition that nobody leads
        start, mark = -1, -1
        # Others than those who lead refuse, too: clients take what is told for true.
        if wanted is not None and code == pb.ERROR_CODE_OFFSET_OUT_OF_RANGE:
            start, mark = self._api.bounds(wanted.topic.topic_id, wanted.partition)
        return Fetched(
            asked.part.partition,
            code,
            mark,
            mark,
            start,
            aborted=[] if request.isolation_level == READ_COMMITTED else None,
            current_leader=self._facts.leader_of(error),
        )


def _converted(data: bytes, batches: list[BatchAt], room: OnLoop | None) -> list[bytes]:
    """As many of them as there is `room` for."""
    made: list[bytes] = []
    try:
        made.extend(convert.to_client(data, batch, room) for batch in batches)
    except Heavy:
        assert room is not None
    return made


def _fetched(part: PartitionToFetch, read: ReadResult, records: list[Buffer], request: FetchRequest) -> Fetched:
    # A new leader that withholds its mark still serves what is below it, and tells -1: that it is not known.
    return Fetched(
        part.partition,
        0,
        read.high_watermark,
        read.high_watermark,
        read.log_start_offset,
        records,
        [] if request.isolation_level == READ_COMMITTED else None,
        None if read.diverging is None else EpochEnd(*read.diverging),
    )
