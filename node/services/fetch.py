"""Fetch: answers are slices of the log behind a hand-written frame, so that no record passes through protobuf.

`FetchResult.batches` is field 1, the same tag as in a segment file: a result is the slice followed by its other fields.
Answers of other leaders are joined as bytes too, since protobuf merges repeated fields by concatenation.
"""

import asyncio
import random
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from node import limits, turns
from node.api.fetch import EARLIEST, Budget, FetchApi, Wanted
from node.api.in_flight import COPIES, SMALL_BYTES, InFlight
from node.api.throttle import Throttle
from node.api.view import ClusterView
from node.broker.host import ReadResult
from node.metadata.acls import Acls
from node.metadata.image import NO_LEADER, Topic
from node.metrics import Metrics
from node.services.faults import Context, unexpected
from node.services.held import within_deadline
from node.services.peers import Peers
from ottla.internal.v1.view_pb2 import FetchResponseView
from ottla.protocol.acls import READ
from ottla.protocol.batch import varint
from ottla.protocol.errors import ApiError
from ottla.protocol.names import check_id
from ottla.protocol.quotas import FETCH as FETCH_QUOTA
from ottla.v1 import data_pb2, record_pb2
from ottla.v1 import error_pb2 as pb

FETCH: Final = "/ottla.v1.DataService/Fetch"
MAX_WAIT_MS: Final = 500
MAX_BYTES: Final = 3 * limits.MIB
"""What a stock stub can take: gRPC refuses messages above 4 MiB where a client has not been told otherwise."""
FRAMES_MAX_BYTES: Final = limits.MIB - 64 * 1024
"""For what is not batches, one answer: results that do not fit are left out, and come first another time."""
LITTLE_BYTES: Final = 64 * 1024
LATE_S: Final = 1.5
"""Who has not said in this time what there is, and was not to wait for more, is not waited for by others' readers."""
Position = tuple[bytes, int, int]
"""Topic id, partition, offset."""
Local = tuple[data_pb2.FetchPartition, Wanted]
_RESULTS_TAG: Final = b"\x0a"
_CODECS: Final = frozenset(record_pb2.Codec.values())


@dataclass(slots=True)
class Move:
    """News of one asked-for position: where to read next, and whether there was an error.

    `result` is its entry in the answer, in pieces, so that a slice of the log is copied once: into the message.
    """

    wanted: data_pb2.FetchPartition
    topic_id: bytes
    result: tuple[bytes, ...]
    next_offset: int
    data_bytes: int = 0
    error_code: int = 0
    retriable: bool = False
    diverging: bool = False


@dataclass(slots=True)
class Found:
    """What a fetch has to say. `urgent`: its reader should hear now, since a partition has an error, was truncated, or
    was asked for by the name of a position."""

    moves: list[Move] = field(default_factory=list)
    data_bytes: int = 0
    urgent: bool = False

    def add(self, move: Move) -> None:
        self.moves.append(move)
        self.data_bytes += move.data_bytes
        self.urgent = self.urgent or move.error_code != 0 or move.diverging or move.wanted.offset < 0

    def join(self, other: "Found") -> None:
        for move in other.moves:
            self.add(move)

    def cut(self, max_bytes: int) -> None:
        """Takes out what is more than one answer may have: leaders know of their own parts only. The first batches stay
        whatever they have; what is taken out was not delivered, so it is read again."""
        if self.data_bytes <= max_bytes:
            return
        moves, self.moves = self.moves, []
        self.data_bytes = 0
        for move in moves:
            if not (move.data_bytes and self.data_bytes and self.data_bytes + move.data_bytes > max_bytes):
                self.data_bytes += move.data_bytes
                self.moves.append(move)


def messages_of(moves: Sequence[Move]) -> Iterator[list[Move]]:
    """The same moves in parts, of which each has no more beside its batches than a message has room for."""
    part: list[Move] = []
    frame_bytes = 0
    for move in moves:
        frame_bytes += sum(map(len, move.result)) - move.data_bytes
        if part and frame_bytes > FRAMES_MAX_BYTES:
            yield part
            part, frame_bytes = [], 0
        part.append(move)
    if part:
        yield part


def message_of(moves: Iterable[Move]) -> bytes:
    """A serialized FetchResponse."""
    return b"".join(piece for move in moves for piece in move.result)


@dataclass(frozen=True, slots=True)
class Terms:
    """How to read: limits in bytes and ms, and the codecs that the reader can take."""

    max_wait_ms: int
    min_bytes: int
    max_bytes: int
    accept: frozenset[int]
    isolation_level: int
    client_id: str
    stock: bool = False
    """Whether the reader leaves the size to us: then its channel may take no more than gRPC's default."""


class Fetcher:
    """Reads what this node leads and asks other leaders for the rest, by at most one hop."""

    def __init__(
        self,
        api: FetchApi,
        view: ClusterView,
        peers: Peers,
        metrics: Metrics,
        in_flight: InFlight,
        throttle: Throttle,
        *,
        fetch_max_bytes: int,
        forwarded: bool,
    ) -> None:
        self._api = api
        self._view = view
        self._peers = peers
        self._metrics = metrics
        self._fetch_max_bytes = fetch_max_bytes
        self._forwarded = forwarded
        self.in_flight = in_flight
        self.throttle = throttle

    async def fetch(self, request: data_pb2.FetchRequest, context: Context) -> bytes:
        """One answer with a result for each partition, as soon as `min_bytes` are there or the wait is over."""
        terms = self.terms(
            max_wait_ms=request.max_wait_ms if request.HasField("max_wait_ms") else MAX_WAIT_MS,
            min_bytes=request.min_bytes,
            max_bytes=request.max_bytes,
            accept=request.accept,
            isolation_level=request.isolation_level,
            client_id=request.client_id,
        )
        if self.throttle.on:
            if owed_ms := await self._held_back(terms, context):
                return _throttled(owed_ms)
            terms = replace(terms, max_bytes=self.throttle.read_max_bytes(terms.client_id, terms.max_bytes))
        terms, counts = self.within_budget(terms)
        # Where it begins is drawn: readers that ask in step must not each get the same part again and again.
        found = await self.gather(request.partitions, terms, context.time_remaining(), random.getrandbits(16))
        if terms.stock:
            self._refuse_what_a_stock_client_cannot_take(found)
        self._metrics.fetched_bytes.inc(found.data_bytes)
        self._metrics.busy.passed_bytes += found.data_bytes
        held = COPIES * found.data_bytes
        if not counts and found.data_bytes > SMALL_BYTES:
            self.in_flight.check(held)
        if held and counts:
            # Until it has left: a reader may take its time.
            self.in_flight.take(held)
            done: Any = lambda _: self.in_flight.give(held)  # noqa: E731 (gRPC's stubs ask for another shape)
            context.add_done_callback(done)
        answer = message_of(next(messages_of(found.moves), []))
        if self.throttle.on and (pause_ms := self.throttle.fetched(terms.client_id, found.data_bytes)):
            answer += _throttled(pause_ms)
        return answer

    async def _held_back(self, terms: Terms, context: Context) -> int:
        """Waits until a reader has paid for what it read, as long as its deadline allows it to be kept waiting. Returns
        what it owes even then, in ms."""
        began_s = time.monotonic()
        while owed_ms := self.throttle.owed_ms(FETCH_QUOTA, terms.client_id):
            left_s = limits.WAIT_MAX_MS / 1000 - (time.monotonic() - began_s)
            pause_s = within_deadline(min(owed_ms / 1000, left_s), context)
            if pause_s <= 0:
                return owed_ms
            await asyncio.sleep(pause_s)
        return 0

    def within_budget(self, terms: Terms) -> tuple[Terms, bool]:
        """What a reader may have now, and whether it counts: with too much in flight it gets little, which does not."""
        if self.in_flight.fits(COPIES * terms.max_bytes):
            return terms, True
        return replace(terms, max_bytes=min(terms.max_bytes, LITTLE_BYTES)), False

    def _refuse_what_a_stock_client_cannot_take(self, found: Found) -> None:
        """A batch that is larger than its channel takes would fail the call without a word of ours, for ever."""
        for index, move in enumerate(found.moves):
            if move.data_bytes > limits.STOCK_MESSAGE_BYTES - limits.MIB // 16:
                want = move.wanted
                error = ApiError(
                    pb.ERROR_CODE_MESSAGE_TOO_LARGE,
                    f"the batch at offset {want.offset} of {want.topic or want.topic_id.hex()}-{want.partition} has "
                    f"{move.data_bytes} bytes, a client of gRPC takes {limits.STOCK_MESSAGE_BYTES} unless it was told "
                    "otherwise: raise grpc.max_receive_message_length of the channel and say so with max_bytes",
                )
                found.data_bytes -= move.data_bytes
                found.moves[index] = self._failed(want, error)

    def terms(
        self,
        *,
        max_wait_ms: int,
        min_bytes: int,
        max_bytes: int,
        accept: data_pb2.Accept,
        isolation_level: int,
        client_id: str,
    ) -> Terms:
        """Checks a reader's wishes and fills in defaults. Raises INVALID_REQUEST or UNSUPPORTED_COMPRESSION_TYPE."""
        if max_wait_ms < 0 or min_bytes < 0 or max_bytes < 0:
            raise ApiError(
                pb.ERROR_CODE_INVALID_REQUEST,
                f"max_wait_ms {max_wait_ms}, min_bytes {min_bytes} and max_bytes {max_bytes} must not be negative",
            )
        check_id("client_id", client_id)
        if isolation_level not in data_pb2.IsolationLevel.values():
            raise ApiError(pb.ERROR_CODE_INVALID_REQUEST, f"isolation_level {isolation_level} is not known")
        unknown = [codec for codec in accept.codecs if codec not in _CODECS]
        if unknown:
            raise ApiError(
                pb.ERROR_CODE_UNSUPPORTED_COMPRESSION_TYPE,
                f"codec {unknown[0]} in accept is none of 0 (none) to 4 (zstd)",
            )
        return Terms(
            max_wait_ms=min(max_wait_ms, limits.WAIT_MAX_MS),
            min_bytes=min_bytes or 1,
            max_bytes=min(max_bytes or MAX_BYTES, self._fetch_max_bytes),
            accept=frozenset(accept.codecs),
            isolation_level=isolation_level,
            client_id=client_id,
            stock=not max_bytes and not self._forwarded,
        )

    async def gather(
        self, wanted: Sequence[data_pb2.FetchPartition], terms: Terms, remaining_s: float | None, turn: int
    ) -> Found:
        """Reads every position; waits up to `max_wait_ms` for `min_bytes` over all of them. `turn`: where to begin, a
        reader's own, so that none of its positions starves."""
        if not wanted:
            return Found()
        deadline = time.monotonic() + terms.max_wait_ms / 1000
        if remaining_s is not None:
            # Leave time for the answer to travel: an answer after the client's deadline is work for nothing.
            deadline = min(deadline, time.monotonic() + max(0.0, remaining_s - 0.05))
        before = -1
        while True:
            acls = self._api.acls
            local, remote, found = await self._sort_out(wanted)
            if len(remote) == 1 and not local and not found.urgent:
                [(leader, part)] = remote.items()
                return await self._ask(leader, part, replace(terms, max_wait_ms=_left_ms(deadline)))
            here = await self._read_local(local, terms, turn)
            positions = [(move.topic_id, move.wanted.partition, move.next_offset) for move in here.moves]
            found.join(here)
            if not remote:
                if self._enough(found, terms) or time.monotonic() >= deadline:
                    found.cut(terms.max_bytes)
                    return found
                await self._local_news(positions, terms.min_bytes - found.data_bytes, deadline, acls)
                await turns.take()
                continue
            share = replace(terms, max_wait_ms=0, max_bytes=max(1, terms.max_bytes // (len(remote) + bool(local))))
            by_leader = await self._ask_all(remote, share)
            answers = list(by_leader.values())
            start = turn % len(answers)
            for answer in (*answers[start:], *answers[:start]):
                found.join(answer)
            if self._enough(found, terms) or time.monotonic() >= deadline or found.data_bytes <= before:
                found.cut(terms.max_bytes)
                return found
            if found.data_bytes:
                # What comes now must bring more than this, or there is no use in asking again.
                before = found.data_bytes
            there = {leader: answer.data_bytes for leader, answer in by_leader.items()}
            await self._any_news(positions, remote, there, terms, found, deadline, acls)
            await turns.take()

    @staticmethod
    def _enough(found: Found, terms: Terms) -> bool:
        return found.urgent or found.data_bytes >= terms.min_bytes or found.data_bytes >= terms.max_bytes

    async def _sort_out(
        self, wanted: Sequence[data_pb2.FetchPartition]
    ) -> tuple[list[Local], dict[int, list[data_pb2.FetchPartition]], Found]:
        """Splits positions by who leads them; what cannot be asked of anybody is answered at once."""
        view = self._view
        local: list[Local] = []
        remote: dict[int, list[data_pb2.FetchPartition]] = {}
        found = Found()
        for count, want in enumerate(wanted, 1):
            if count % limits.AT_ONCE == 0:
                await turns.give_way()
            try:
                topic, partition = view.partition(want.topic, want.topic_id, want.partition, READ)
                if want.offset < EARLIEST:
                    raise ApiError(
                        pb.ERROR_CODE_OFFSET_OUT_OF_RANGE,
                        f"offset {want.offset} is neither -1 (latest), -2 (earliest) nor an offset",
                    )
                if want.max_bytes < 0:
                    raise ApiError(pb.ERROR_CODE_INVALID_REQUEST, f"max_bytes {want.max_bytes} must not be negative")
                if partition.leader == view.node_id:
                    local.append((want, _wanted(topic, want)))
                elif partition.leader == NO_LEADER or self._forwarded:
                    raise view.not_leader(topic, partition)
                else:
                    remote.setdefault(partition.leader, []).append(want)
            except ApiError as error:
                found.add(self._failed(want, error))
        return local, remote, found

    async def _read_local(self, local: Sequence[Local], terms: Terms, turn: int) -> Found:
        """One pass over the positions this node leads."""
        found = Found()

        def take(index: int, read: ReadResult | Exception) -> int:
            want, place = local[index]
            if isinstance(read, ReadResult):
                found.add(_result(place.topic, want, read))
                return len(read.data)
            if isinstance(read, ApiError):
                found.add(self._failed(want, read, place.topic))
            else:
                found.add(self._failed(want, unexpected("Fetch", read)))
            return 0

        budget = Budget(terms.accept, terms.max_bytes, max(terms.max_bytes, MAX_BYTES))
        await self._api.read_all([place for _, place in local], budget, turn, take)
        return found

    def _failed(self, want: data_pb2.FetchPartition, error: ApiError, topic: Topic | None = None) -> Move:
        """A refusal; of a partition led here with its bounds, which a reader out of range must know."""
        start, mark = (0, 0) if topic is None else self._api.bounds(topic.topic_id, want.partition)
        self._metrics.refused("Fetch", error.code)
        result = data_pb2.FetchResult(
            topic=want.topic,
            topic_id=want.topic_id,
            partition=want.partition,
            error=error.to_proto(),
            next_offset=want.offset,
            seek_id=want.seek_id,
            log_start_offset=start,
            high_watermark=mark,
        )
        return Move(
            want,
            want.topic_id,
            _framed(b"", result.SerializeToString()),
            want.offset,
            error_code=error.code,
            retriable=error.retriable,
        )

    async def _local_news(self, positions: Sequence[Position], missing_bytes: int, deadline: float, acls: Acls) -> None:
        """Waits until so many more bytes are committed behind these positions, or for other ACLs."""
        await self._api.news(positions, missing_bytes, _left_ms(deadline), acls)

    async def _any_news(
        self,
        positions: Sequence[Position],
        remote: dict[int, list[data_pb2.FetchPartition]],
        there: dict[int, int],
        terms: Terms,
        found: Found,
        deadline: float,
        acls: Acls,
    ) -> None:
        """Waits for the first node, this one included, that has what is missing beside what it had. What it has is read
        again afterwards."""
        probe = replace(terms, max_wait_ms=_left_ms(deadline))
        missing = terms.min_bytes - found.data_bytes
        waits: list[asyncio.Future[object]] = [
            asyncio.ensure_future(self._ask(leader, part, replace(probe, min_bytes=there[leader] + missing)))
            for leader, part in remote.items()
        ]
        if positions:
            waits.append(
                asyncio.ensure_future(self._local_news(positions, terms.min_bytes - found.data_bytes, deadline, acls))
            )
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    async def _ask_all(self, remote: dict[int, list[data_pb2.FetchPartition]], terms: Terms) -> dict[int, Found]:
        """What each leader has. One that says nothing costs the others' readers `LATE_S`, and its own an error."""
        asking = {leader: asyncio.ensure_future(self._ask(leader, part, terms)) for leader, part in remote.items()}
        try:
            await asyncio.wait(asking.values(), timeout=LATE_S)
            return {
                leader: ask.result() if ask.done() else self._late(leader, remote[leader])
                for leader, ask in asking.items()
            }
        finally:
            for ask in asking.values():
                ask.cancel()

    def _late(self, leader: int, wanted: Sequence[data_pb2.FetchPartition]) -> Found:
        found = Found()
        error = ApiError(pb.ERROR_CODE_REQUEST_TIMED_OUT, f"the leader, node {leader}, did not answer in {LATE_S:g} s")
        for want in wanted:
            found.add(self._failed(want, error))
        return found

    async def _ask(self, leader: int, wanted: Sequence[data_pb2.FetchPartition], terms: Terms) -> Found:
        """One hop: the leader's answer, its bytes as they came."""
        request = data_pb2.FetchRequest(
            max_wait_ms=terms.max_wait_ms,
            min_bytes=terms.min_bytes,
            max_bytes=terms.max_bytes,
            partitions=wanted,
            accept=data_pb2.Accept(codecs=sorted(terms.accept)),  # type: ignore[arg-type]
            isolation_level=terms.isolation_level,  # type: ignore[arg-type]
            client_id=terms.client_id,
        )
        self._metrics.forwarded.labels(rpc="Fetch").inc()
        found = Found()
        try:
            answer = await self._peers.call(leader, FETCH, request.SerializeToString(), terms.max_wait_ms / 1000 + 5.0)
        except ApiError as error:
            for want in wanted:
                found.add(self._failed(want, error))
            return found
        # A question names its partition by id, by name or both; the answer has both.
        asked = {(want.topic_id or want.topic, want.partition): want for want in wanted}
        for result in FetchResponseView.FromString(answer).partitions:
            asked_for = asked.get((result.topic_id, result.partition)) or asked.get((result.topic, result.partition))
            if asked_for is None:
                continue
            fault = pb.Error.FromString(result.error) if result.HasField("error") else pb.Error()
            found.add(
                Move(
                    asked_for,
                    result.topic_id,
                    _framed(b"", result.SerializeToString()),
                    result.next_offset,
                    sum(map(len, result.batches)),
                    fault.code,
                    fault.retriable,
                    result.HasField("diverging_epoch"),
                )
            )
        return found


def _throttled(pause_ms: int) -> bytes:
    """A part of a FetchResponse that says so."""
    return data_pb2.FetchResponse(throttle_time_ms=pause_ms).SerializeToString()


def _wanted(topic: Topic, want: data_pb2.FetchPartition) -> Wanted:
    return Wanted(
        topic,
        want.partition,
        want.offset,
        want.max_bytes,
        want.current_leader_epoch if want.HasField("current_leader_epoch") else None,
        want.last_fetched_epoch if want.HasField("last_fetched_epoch") else None,
    )


def _left_ms(deadline: float) -> int:
    return max(1, round((deadline - time.monotonic()) * 1000))


def _result(topic: Topic, want: data_pb2.FetchPartition, read: ReadResult) -> Move:
    fields = data_pb2.FetchResult(
        topic=topic.name,
        topic_id=topic.topic_id,
        partition=want.partition,
        high_watermark=read.high_watermark,
        log_start_offset=read.log_start_offset,
        last_stable_offset=read.high_watermark,
        leader_epoch=read.leader_epoch,
        next_offset=read.next_offset,
        seek_id=want.seek_id,
    )
    if read.diverging is not None:
        fields.diverging_epoch.leader_epoch, fields.diverging_epoch.end_offset = read.diverging
    return Move(
        want,
        topic.topic_id,
        _framed(read.data, fields.SerializeToString()),
        read.next_offset,
        len(read.data),
        diverging=read.diverging is not None,
    )


def _framed(data: bytes, fields: bytes) -> tuple[bytes, ...]:
    """One entry of FetchResponse.partitions: tag, length, the log's slice (FetchResult.batches), the other fields."""
    return _RESULTS_TAG, varint(len(data) + len(fields)), data, fields
