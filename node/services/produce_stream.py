"""ProduceStream: requests of one stream are appended in the order sent; answers are coalesced into few messages.

There is no task and no queue per batch: a reader appends, whoever finishes a request puts its answer into a list, and
one writer sends the list. Batches that another node leads go on over one stream of our own to that node.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any, Final

import grpc

from node import limits
from node.api.in_flight import InFlight
from node.api.throttle import Throttle
from node.services import receive
from node.services.faults import Context, unexpected
from node.services.peers import MARGIN_S, Peers, fault_of, forwarded
from node.services.produce import Producer, Producing, fill, part_of
from ottla.internal.v1.view_pb2 import ProducePartitionView, ProduceRequestView
from ottla.protocol.errors import ApiError
from ottla.v1 import data_pb2
from ottla.v1 import error_pb2 as pb

PRODUCE_STREAM: Final = "/ottla.v1.DataService/ProduceStream"
IN_FLIGHT_BYTES: Final = 64 * 2**20
IN_FLIGHT_REQUESTS: Final = 4096
TIMEOUT_CHECK_S: Final = 0.5

PartitionKey = tuple[bytes, str, int]


def _key_of(part: ProducePartitionView) -> PartitionKey:
    return part.topic_id, part.topic, part.partition


class ProduceStreams:
    """Serves ProduceStream on one listener."""

    def __init__(
        self, producer: Producer, peers: Peers, in_flight: InFlight, throttle: Throttle, *, forwarded: bool
    ) -> None:
        self._throttle = throttle
        self._producer = producer
        self._peers = peers
        self._in_flight = in_flight
        self._forwarded = forwarded

    async def serve(self, context: Context) -> None:
        """One client's stream, until it half-closes and everything is answered, or goes away."""
        stream = _Stream(context, None if self._forwarded else self._peers, self._in_flight)
        writer = asyncio.create_task(stream.write_answers())
        try:
            await self._read(context, stream, writer)
            await stream.drained(writer)
        finally:
            # No await here: after a cancelled call the next one would raise again.
            stream.close()
            writer.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await writer

    async def _read(self, context: Context, stream: "_Stream", writer: asyncio.Task[None]) -> None:
        while not writer.done():
            if self._in_flight.full:
                await self._in_flight.room()
            parse = await receive.message(context)
            if parse is grpc.aio.EOF:
                return
            request, size_bytes = parse()
            running = Producing(request, size_bytes, stream.finished)
            if self._throttle.on:
                running.pause_ms = self._throttle.produced(request.client_id, size_bytes)
            if size_bytes >= limits.LARGE_BYTES:
                await stream.large.entered(size_bytes)
            stream.started(running)
            if running.done:
                stream.finished(running)
                continue
            await self._producer.start(running, stream.forward, stream.order)
            if stream.full:
                await stream.room()
            if running.pause_ms:
                # What the client sends meanwhile stays with it.
                await asyncio.wait((writer,), timeout=running.pause_ms / 1000)


class _Stream:
    """The state of one client's stream."""

    def __init__(self, context: Context, peers: Peers | None, all_in_flight: InFlight) -> None:
        self._context = context
        self._peers = peers
        self._all_in_flight = all_in_flight
        self.large = all_in_flight.large_passed_on if peers is None else all_in_flight.large
        self._answers: list[data_pb2.ProduceResponse] = []
        self._wake_writer = asyncio.Event()
        self._progress = asyncio.Event()
        self._in_flight: set[Producing] = set()
        self._in_flight_bytes = 0
        self._writing = False
        self._hops: dict[int, _Hop] = {}
        self._routes: dict[PartitionKey, tuple[int, int]] = {}
        self._broken: set[PartitionKey] = set()
        self.forward: Callable[[Producing, int, list[int]], None] | None = self._pass_on if peers is not None else None

    @property
    def full(self) -> bool:
        """Answers count until they have left: a client that does not read them must not fill our memory."""
        requests = len(self._in_flight) + len(self._answers)
        return self._in_flight_bytes > IN_FLIGHT_BYTES or requests > IN_FLIGHT_REQUESTS

    def started(self, running: Producing) -> None:
        self._in_flight.add(running)
        self._in_flight_bytes += running.size_bytes
        self._all_in_flight.take(running.size_bytes)

    def finished(self, running: Producing) -> None:
        if running in self._in_flight:
            self._in_flight.remove(running)
            self._in_flight_bytes -= running.size_bytes
            self._all_in_flight.give(running.size_bytes)
            if running.size_bytes >= limits.LARGE_BYTES:
                self.large.leave(running.size_bytes)
        self._answers.append(running.response())
        self._wake_writer.set()
        self._progress.set()

    async def room(self) -> None:
        """Waits until the client may send more: it is not read from while too much is under way."""
        while self.full:
            self._progress.clear()
            await self._progress.wait()

    async def drained(self, writer: asyncio.Task[None]) -> None:
        """Waits until every request is answered and the answers are written."""
        writer.add_done_callback(lambda _: self._progress.set())
        while (self._in_flight or self._answers or self._writing) and not writer.done():
            self._progress.clear()
            await self._progress.wait()

    async def write_answers(self) -> None:
        while True:
            await self._wake_writer.wait()
            # A message costs the same whatever it holds: what is finished in this turn of the loop goes together.
            await asyncio.sleep(0)
            self._wake_writer.clear()
            answers, self._answers = self._answers, []
            if answers:
                self._writing = True
                await self._context.write(data_pb2.ProduceStreamResponse(responses=answers))
                self._writing = False
                self._progress.set()

    def close(self) -> None:
        for hop in self._hops.values():
            hop.close()
        # What is still to be acknowledged is in the log by now, and nobody waits for the answer.
        self._all_in_flight.give(self._in_flight_bytes)
        for running in self._in_flight:
            if running.size_bytes >= limits.LARGE_BYTES:
                self.large.leave(running.size_bytes)
        self._in_flight_bytes = 0
        self._in_flight.clear()

    def order(self, part: ProducePartitionView, leader: int) -> None:
        """Refuses a batch that would overtake an earlier one on another way, or, without a producer id, follow one that
        failed: then the order of the stream's batches in the partition would not be that of the log."""
        if not self._routes:
            return
        key = _key_of(part)
        way, under_way = self._routes.get(key, (leader, 0))
        if key in self._broken and part.batch.producer_id == 0:
            raise ApiError(
                pb.ERROR_CODE_NOT_LEADER_OR_FOLLOWER,
                "an earlier batch of this stream failed, this one was not appended so as to keep the order: "
                "open a new stream, or use a producer id",
                leader=leader,
            )
        if way != leader and under_way:
            raise ApiError(
                pb.ERROR_CODE_LEADER_NOT_AVAILABLE,
                f"the partition moved from node {way} to node {leader} while earlier batches were under way",
                retry_after_ms=20,
            )

    def _pass_on(self, running: Producing, leader: int, indexes: list[int]) -> None:
        """Sends slots of a request over our own stream to their leader."""
        for index in indexes:
            key = _key_of(running.request.partitions[index])
            _, under_way = self._routes.get(key, (leader, 0))
            self._routes[key] = (leader, under_way + 1)
        assert self._peers is not None
        hop = self._hops.get(leader)
        if hop is None or hop.closed:
            try:
                hop = self._hops[leader] = _Hop(self._peers.channel(leader), leader, self._arrived)
            except ApiError as error:
                for index in indexes:
                    self._arrived(running, index, leader, error)
                return
        hop.send(running, indexes)

    def _arrived(self, running: Producing, index: int, leader: int, error: ApiError | pb.Error | None) -> None:
        """A batch that was passed on has its result, or failed."""
        part = running.request.partitions[index]
        key = _key_of(part)
        way, under_way = self._routes.get(key, (leader, 1))
        self._routes[key] = (way, under_way - 1)
        if error is not None and error.retriable and part.batch.producer_id == 0:
            self._broken.add(key)
        if isinstance(error, ApiError):
            running.fail(index, error)


Arrived = Callable[[Producing, int, int, "ApiError | pb.Error | None"], None]


class _Hop:
    """Our own ProduceStream to a leader, for the batches of one client's stream."""

    def __init__(self, channel: grpc.aio.Channel, leader: int, arrived: Arrived) -> None:
        self._leader = leader
        self._arrived = arrived
        self._waiting: dict[int, tuple[Producing, list[int], float]] = {}
        self._outgoing: list[ProduceRequestView] = []
        self._wake = asyncio.Event()
        self._next_id = 1
        self.closed = False
        open_call: Any = channel.stream_stream(
            PRODUCE_STREAM,
            request_serializer=ProduceRequestView.SerializeToString,
            response_deserializer=data_pb2.ProduceStreamResponse.FromString,
        )
        self._call = open_call(metadata=forwarded())
        self._task = asyncio.create_task(self._run())

    def send(self, running: Producing, indexes: list[int]) -> None:
        message = part_of(running, indexes, self._next_id)
        limit_s = time.monotonic() + running.timeout_ms / 1000 + MARGIN_S
        self._waiting[self._next_id] = (running, indexes, limit_s)
        self._next_id += 1
        self._outgoing.append(message)
        self._wake.set()

    def close(self) -> None:
        self.closed = True
        self._call.cancel()
        self._task.cancel()

    async def _run(self) -> None:
        fault = ApiError(pb.ERROR_CODE_NETWORK_EXCEPTION, f"the stream to the leader, node {self._leader}, ended")
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._write())
                group.create_task(self._expire())
                await self._read()
                raise _Ended
        except* (_Ended, asyncio.InvalidStateError, grpc.aio.UsageError):
            # Ended in order, or found to have ended when something was to be written: gRPC has two ways to say so.
            pass
        except* grpc.aio.AioRpcError as errors:
            first = errors.exceptions[0]
            if isinstance(first, grpc.aio.AioRpcError):
                fault = fault_of(first, self._leader)
        except* Exception as errors:
            fault = unexpected("ProduceStream", errors.exceptions[0])
        finally:
            self.closed = True
            self._call.cancel()
            for running, indexes, _ in self._waiting.values():
                for index in indexes:
                    self._arrived(running, index, self._leader, fault)
            self._waiting.clear()

    async def _write(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            messages, self._outgoing = self._outgoing, []
            for message in messages:
                await self._call.write(message)

    async def _read(self) -> None:
        while True:
            message = await self._call.read()
            if message is grpc.aio.EOF:
                return
            for response in message.responses:
                running, indexes, _ = self._waiting.pop(response.request_id, (None, [], 0.0))
                if running is None:
                    continue
                for index, result in zip(indexes, response.partitions, strict=False):
                    self._arrived(running, index, self._leader, result.error if result.HasField("error") else None)
                for index in indexes[len(response.partitions) :]:
                    self._arrived(running, index, self._leader, None)
                fill(running, indexes, response, self._leader)

    async def _expire(self) -> None:
        """A leader that is frozen answers nothing at all: its requests end as unknown once their time is over."""
        while True:
            await asyncio.sleep(TIMEOUT_CHECK_S)
            now_s = time.monotonic()
            for request_id, (running, indexes, limit_s) in list(self._waiting.items()):
                if now_s < limit_s:
                    continue
                del self._waiting[request_id]
                error = ApiError(
                    pb.ERROR_CODE_REQUEST_TIMED_OUT, f"the leader, node {self._leader}, did not answer in time"
                )
                for index in indexes:
                    self._arrived(running, index, self._leader, error)


class _Ended(Exception):
    """The leader ended the stream."""
