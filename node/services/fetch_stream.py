"""FetchStream: one reader of many partitions over one stream, which it pulls along by granting credit.

The server holds one message at most: it reads only while there is credit, and waits for the message to leave before it
reads again. One batch may overdraw the credit, so that a batch larger than it can be read at all.
"""

import asyncio
import contextlib
import math
import time
from collections import Counter
from dataclasses import dataclass, replace
from typing import Final

import grpc

from node import limits, turns
from node.api.in_flight import COPIES
from node.metrics import Metrics
from node.services import receive
from node.services.faults import Context
from node.services.fetch import Fetcher, Found, Move, Terms, message_of, messages_of
from ottla.protocol.errors import ApiError
from ottla.protocol.quotas import FETCH
from ottla.v1 import data_pb2
from ottla.v1 import error_pb2 as pb

MESSAGE_MAX_BYTES: Final = limits.MIB
RETRY_S: Final = 0.05
RETRY_MAX_S: Final = 1.0
REST_PER_POSITION_S: Final = 0.0002

PartitionKey = tuple[bytes, str, int]


@dataclass(slots=True, eq=False)
class _Position:
    """Where a stream reads one partition. `told`: the error that its client knows of. A parked one is read again when
    its client says from where, one that rests in a while."""

    wanted: data_pb2.FetchPartition
    told: int = 0
    parked: bool = False
    resting: bool = False


class _Room:
    """For the positions of all streams of a listener. Where they get too many, the client that has the most of them
    loses its largest stream, whoever asked for more: those who read little go on."""

    def __init__(self) -> None:
        self._kept: dict[_Reader, int] = {}
        self._total = 0

    def keep(self, reader: "_Reader", positions: int) -> None:
        """A stream has so many now; one that was refused has none. Ends streams where that is too much."""
        if reader.refused is not None:
            positions = 0
        self._total += positions - self._kept.pop(reader, 0)
        if positions:
            self._kept[reader] = positions
        while self._total > limits.STREAMS_POSITIONS_MAX:
            self._refuse_one()

    def _refuse_one(self) -> None:
        of = Counter[str]()
        for reader, positions in self._kept.items():
            of[reader.client] += positions
        most = max(of, key=of.__getitem__)
        largest = max((r for r in self._kept if r.client == most), key=self._kept.__getitem__)
        largest.refuse(
            limits.throttled(
                f"the streams of this node would read {self._total} partitions, those of your connection {of[most]}",
                f"{limits.STREAMS_POSITIONS_MAX} are allowed",
                limits.STREAMS_RETRY_MS,
            )
        )
        self._total -= self._kept.pop(largest)


class FetchStreams:
    """Serves FetchStream on one listener."""

    def __init__(self, fetcher: Fetcher, metrics: Metrics) -> None:
        self._fetcher = fetcher
        self._metrics = metrics
        self._room = _Room()

    async def serve(self, context: Context) -> None:
        """One reader's stream, until it ends it."""
        reader = _Reader(self._fetcher, self._metrics, context, self._room)
        commands = asyncio.create_task(reader.take_commands())
        try:
            await reader.send_data(commands)
        except asyncio.CancelledError:
            if reader.refused is not None and reader.task.uncancel() == 0:
                raise reader.refused from None
            raise
        finally:
            commands.cancel()
            self._room.keep(reader, 0)
        with contextlib.suppress(asyncio.CancelledError):
            await commands


class _Reader:
    """Positions, credit and wishes of one stream's client."""

    def __init__(self, fetcher: Fetcher, metrics: Metrics, context: Context, room: _Room) -> None:
        self._fetcher = fetcher
        self._metrics = metrics
        self._context = context
        self._room = room
        self._positions: dict[PartitionKey, _Position] = {}
        self._rest = False
        self._rest_until = 0.0
        self._credit = 0
        self._terms: Terms | None = None
        self._changed = asyncio.Event()
        self._turn = 0
        self._counts = True
        self.client = turns.client() or ""
        self.refused: ApiError | None = None
        task = asyncio.current_task()
        assert task is not None, "a handler is run by a task"
        self.task = task

    def refuse(self, error: ApiError) -> None:
        """Ends the stream with an error, also where its client takes nothing."""
        self.refused = error
        self.task.cancel()

    async def take_commands(self) -> None:
        """Applies the client's messages as they come. Ends when the client half-closes."""
        first = True
        while True:
            parse = await receive.message(self._context)
            if parse is grpc.aio.EOF:
                return
            message = parse()
            if first:
                self._terms = self._fetcher.terms(
                    max_wait_ms=message.max_wait_ms or 500,
                    min_bytes=message.min_bytes,
                    max_bytes=MESSAGE_MAX_BYTES,
                    accept=message.accept,
                    isolation_level=message.isolation_level,
                    client_id=message.client_id,
                )
                first = False
            await self._apply(message)
            self._changed.set()

    async def _apply(self, message: data_pb2.FetchStreamRequest) -> None:
        if message.credit_bytes < 0 or message.min_bytes < 0 or message.max_wait_ms < 0:
            raise ApiError(
                pb.ERROR_CODE_INVALID_REQUEST,
                f"credit_bytes {message.credit_bytes}, min_bytes {message.min_bytes} and max_wait_ms "
                f"{message.max_wait_ms} must not be negative",
            )
        assert self._terms is not None
        terms = self._terms
        self._terms = replace(
            terms,
            max_wait_ms=message.max_wait_ms or terms.max_wait_ms,
            min_bytes=message.min_bytes or terms.min_bytes,
        )
        self._credit += message.credit_bytes
        for gone in message.remove:
            self._positions.pop((gone.topic_id, gone.topic, gone.partition), None)
        for count, wanted in enumerate(message.add, 1):
            if count % limits.AT_ONCE == 0:
                self._room.keep(self, len(self._positions))
                await turns.give_way()
            key = _key(wanted)
            self._positions.pop(key, None)
            self._positions[key] = _Position(wanted)
        self._room.keep(self, len(self._positions))
        if len(self._positions) > limits.STREAM_POSITIONS_MAX:
            raise ApiError(
                pb.ERROR_CODE_POLICY_VIOLATION,
                f"a stream may read {limits.STREAM_POSITIONS_MAX} partitions, not {len(self._positions)}",
            )

    async def send_data(self, commands: asyncio.Task[None]) -> None:
        """Sends what there is while there is credit, until the client has ended its side."""
        rest_s = RETRY_S
        while not commands.done():
            self._changed.clear()
            left_s = self._rest_left_s()
            wanted = [p.wanted for p in self._positions.values() if not (p.parked or p.resting)]
            if self._credit <= 0 or not wanted or self._terms is None:
                await self._until_changed(commands, left_s)
                continue
            throttle = self._fetcher.throttle
            if throttle.on and (owed_ms := throttle.owed_ms(FETCH, self._terms.client_id)):
                await self._until_changed(commands, owed_ms / 1000)
                continue
            await turns.take()
            found = await self._read_or_changed(wanted, commands, left_s)
            if found is None:
                continue
            self._turn += 1
            news = []
            for count, move in enumerate(found.moves, 1):
                if count % limits.AT_ONCE == 0:
                    await turns.give_way()
                if self._is_news(move):
                    news.append(move)
            rest_s = RETRY_S if news else min(2 * rest_s, RETRY_MAX_S)
            self._let_rest(found, rest_s)
            for part in messages_of(news):
                sent_bytes = sum(move.data_bytes for move in part)
                self._credit -= sent_bytes
                self._metrics.fetched_bytes.inc(sent_bytes)
                self._metrics.busy.passed_bytes += sent_bytes
                if throttle.on:
                    throttle.fetched(self._terms.client_id, sent_bytes)
                await self._send(message_of(part), sent_bytes if self._counts else 0)
        commands.result()

    def _let_rest(self, found: Found, rest_s: float) -> None:
        """Positions in an error that may pass are asked for again in a while, not at once, and many of them less often:
        the others are read meanwhile."""
        count = 0
        for move in found.moves:
            if move.error_code and move.retriable and (position := self._positions.get(_key(move.wanted))):
                position.resting = True
                count += 1
        if count and not self._rest:
            self._rest = True
            self._rest_until = time.monotonic() + max(rest_s, count * REST_PER_POSITION_S)

    def _rest_left_s(self) -> float | None:
        """How long those that rest still do; None where none does."""
        if not self._rest:
            return None
        left_s = self._rest_until - time.monotonic()
        if left_s > 0:
            return left_s
        self._rest = False
        for position in self._positions.values():
            position.resting = False
        return None

    async def _send(self, message: bytes, data_bytes: int) -> None:
        self._fetcher.in_flight.take(COPIES * data_bytes)
        try:
            await self._context.write(message)
        finally:
            self._fetcher.in_flight.give(COPIES * data_bytes)

    async def _read_or_changed(
        self, wanted: list[data_pb2.FetchPartition], commands: asyncio.Task[None], at_most_s: float | None
    ) -> Found | None:
        """What a fetch finds; None where the client changed what it wants in the meantime."""
        assert self._terms is not None
        wanted_bytes = min(self._credit, MESSAGE_MAX_BYTES)
        if self._fetcher.throttle.on:
            wanted_bytes = self._fetcher.throttle.read_max_bytes(self._terms.client_id, wanted_bytes)
        limited, self._counts = self._fetcher.within_budget(replace(self._terms, max_bytes=wanted_bytes))
        if at_most_s is not None:
            limited = replace(limited, max_wait_ms=min(limited.max_wait_ms, math.ceil(at_most_s * 1000)))
        fetching = asyncio.ensure_future(self._fetcher.gather(wanted, limited, None, self._turn))
        changing = asyncio.ensure_future(self._changed.wait())
        try:
            await asyncio.wait((fetching, changing, commands), return_when=asyncio.FIRST_COMPLETED)
            return fetching.result() if fetching.done() else None
        finally:
            fetching.cancel()
            changing.cancel()

    async def _until_changed(self, commands: asyncio.Task[None], timeout_s: float | None = None) -> None:
        changing = asyncio.ensure_future(self._changed.wait())
        try:
            await asyncio.wait((changing, commands), timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            changing.cancel()

    def _is_news(self, move: Move) -> bool:
        """Whether to send a result, and what it means for the position it belongs to."""
        position = self._positions.get(_key(move.wanted))
        if position is None or position.wanted is not move.wanted:
            return False
        if move.error_code:
            position.parked = not move.retriable
            known, position.told = position.told, move.error_code
            return known != move.error_code
        position.told = 0
        if move.diverging:
            position.parked = True
            return True
        if not move.data_bytes and move.next_offset == move.wanted.offset:
            return False
        following = data_pb2.FetchPartition()
        following.CopyFrom(move.wanted)
        following.offset = move.next_offset
        following.ClearField("last_fetched_epoch")
        position.wanted = following
        return True


def _key(position: data_pb2.FetchPartition) -> PartitionKey:
    return position.topic_id, position.topic, position.partition
