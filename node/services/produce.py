"""Produce: each batch goes to the leader's log at once, in the order of the request; answers come when acks hold.

What this node does not lead is passed on to who does.
"""

import asyncio
import math
import random
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Final

from node import limits, turns
from node.api.in_flight import COPIES, InFlight
from node.api.produce import ACKS_ALL, ACKS_NONE, ProduceApi, check_terms, wait_ms
from node.api.throttle import Throttle
from node.api.view import ClusterView
from node.broker.door import Admitted, Heavy, InvalidRecords, OnLoop, admit
from node.broker.host import Appended
from node.metadata.image import Topic
from node.metrics import Metrics
from node.services.faults import Context, unexpected
from node.services.held import hold_back
from node.services.peers import MARGIN_S, Peers
from ottla.internal.v1.view_pb2 import ProducePartitionView, ProduceRequestView, RecordBatchView
from ottla.protocol.acls import WRITE
from ottla.protocol.batch import STORED_OVERHEAD_MAX
from ottla.protocol.errors import ApiError
from ottla.protocol.names import check_id
from ottla.protocol.partitioner import partition_for_key
from ottla.protocol.quotas import PRODUCE as PRODUCE_QUOTA
from ottla.v1 import data_pb2
from ottla.v1 import error_pb2 as pb
from ottla.v1.record_pb2 import Record, Records

PRODUCE: Final = "/ottla.v1.DataService/Produce"
BATCH_BYTES: Final = 512 * 1024
ANSWER_S: Final = 0.25
"""What is left of a client's deadline for the answer's way, where somebody is waited for."""
RECORD_AROUND_MAX: Final = 1 + 5 + 1 + 10
"""What a record in a batch may have in bytes beyond what it had in a SendRequest: tag, length, time."""


SizedRequest = tuple[ProduceRequestView, int]


def parse_request(data: bytes) -> SizedRequest:
    """A request and its size in bytes: asked for it, protobuf would serialize the request once more."""
    return ProduceRequestView.FromString(data), len(data)


class Producing:
    """One produce request under way: a slot for each of its partitions, filled as results become final."""

    __slots__ = ("_left", "_on_done", "acks", "pause_ms", "request", "results", "size_bytes", "timeout_ms")

    def __init__(self, request: ProduceRequestView, size_bytes: int, on_done: Callable[["Producing"], None]) -> None:
        self.request = request
        self._on_done = on_done
        self._left = len(request.partitions)
        self.results: list[data_pb2.ProduceResult | None] = [None] * self._left
        self.acks = request.acks if request.HasField("acks") else ACKS_ALL
        self.timeout_ms = wait_ms(request.timeout_ms)
        self.size_bytes = size_bytes
        self.pause_ms = 0

    @property
    def done(self) -> bool:
        return self._left == 0

    @property
    def request_id(self) -> int:
        return self.request.request_id

    def finish(self, index: int, result: data_pb2.ProduceResult) -> None:
        """Fills a slot; the last one ends the request. A slot is filled once: what comes later is dropped."""
        if self.results[index] is not None:
            return
        self.results[index] = result
        self._left -= 1
        if self._left == 0:
            self._on_done(self)

    def fail(self, index: int, error: ApiError) -> None:
        part = self.request.partitions[index]
        result = data_pb2.ProduceResult(
            topic=part.topic,
            topic_id=part.topic_id,
            partition=part.partition,
            error=error.to_proto(),
            base_offset=-1,
            log_append_time_ms=-1,
        )
        if isinstance(error, InvalidRecords):
            result.record_errors.extend(
                data_pb2.RecordError(index=number, message=text) for number, text in error.record_errors
            )
        self.finish(index, result)

    def forget_batches(self) -> None:
        """They are in the log, or on their way to a leader: nobody needs them here, too, while answers are waited
        for."""
        request = self.request
        self.request = ProduceRequestView(request_id=request.request_id)
        for part in request.partitions:
            self.request.partitions.add(topic=part.topic, topic_id=part.topic_id, partition=part.partition)

    def response(self) -> data_pb2.ProduceResponse:
        results = [] if self.acks == ACKS_NONE else self.results
        return data_pb2.ProduceResponse(
            request_id=self.request_id,
            partitions=results,  # type: ignore[arg-type]
            throttle_time_ms=self.pause_ms,
        )


Forward = Callable[[Producing, int, list[int]], None]
"""Passes slots of a request on: (request, leader's node id, indexes). Fills the slots later."""
Order = Callable[[ProducePartitionView, int], None]
"""Raises ApiError where appending this batch at that leader now would break a stream's order."""


class Producer:
    """Appends what this node leads, and tells apart what must go elsewhere."""

    def __init__(self, api: ProduceApi, view: ClusterView, metrics: Metrics) -> None:
        self._api = api
        self._view = view
        self._metrics = metrics

    def wall_ms(self) -> int:
        """The node's wall clock: records without a time get it."""
        return self._api.wall_ms()

    def batch_bytes(self, topic: Topic) -> int:
        """How large the batches are to be that are made here for a topic."""
        return min(BATCH_BYTES, self._api.settings_of(topic).door.max_message_bytes - STORED_OVERHEAD_MAX)

    async def start(self, request: Producing, forward: Forward | None, order: Order | None = None) -> None:
        """Appends the request's local batches and passes the others on; without `forward` they are refused. The loop
        turns in between where they are many: no two batches of one stream change places by that, as it is not read from
        meanwhile, and those of a caller that goes away may or may not be in the log, as always."""
        self._metrics.busy.passed_bytes += request.size_bytes
        try:
            check_terms(request.acks, request.timeout_ms)
            check_id("client_id", request.request.client_id)
        except ApiError as error:
            self._refuse_all(request, error)
            return
        count, done = len(request.request.partitions), 0
        at_once = count
        if count > 1:
            at_once = max(1, min(limits.AT_ONCE, limits.AT_ONCE_BYTES * count // max(request.size_bytes, 1)))
        on_loop = OnLoop()
        while True:
            stop = min(done + at_once, count)
            done = self._start(request, range(done, stop), forward, order, on_loop)
            if done == count:
                return
            if done == stop:
                await turns.give_way()
            else:
                await self._start_heavy(request, done, forward, order, on_loop)
                done += 1

    async def _start_heavy(
        self, request: Producing, index: int, forward: Forward | None, order: Order | None, on_loop: OnLoop
    ) -> None:
        """A batch that is looked at in a thread. Those behind it wait, so that their order stays that of the log."""
        part = request.request.partitions[index]
        admitted: Admitted | None = None
        while self._start(request, range(index, index + 1), forward, order, on_loop, admitted) == index:
            try:
                topic, _ = self._view.partition(part.topic, part.topic_id, part.partition, WRITE)
                admitted = await self._api.admit(topic.topic_id, part.partition, part.batch, admit)
            except ApiError as error:
                self._metrics.refused("Produce", error.code)
                request.fail(index, error)
                return
            except Exception as error:
                request.fail(index, unexpected("Produce", error))
                return

    def _start(
        self,
        request: Producing,
        indexes: range,
        forward: Forward | None,
        order: Order | None,
        on_loop: OnLoop,
        admitted: Admitted | None = None,
    ) -> int:
        """Works off batches up to the first one that is too heavy for the loop; returns which comes next."""
        next_index = indexes.stop
        batches = request.request.partitions
        elsewhere: dict[int, list[int]] = {}
        for index in indexes:
            try:
                leader = self._append(request, index, batches[index], order, on_loop, admitted)
            except Heavy:
                next_index = index
                break
            except ApiError as error:
                self._metrics.refused("Produce", error.code)
                request.fail(index, error)
            except Exception as error:
                request.fail(index, unexpected("Produce", error))
            else:
                if leader != self._view.node_id:
                    elsewhere.setdefault(leader, []).append(index)
        for leader, passed_on in elsewhere.items():
            if forward is not None:
                self._metrics.forwarded.labels(rpc="Produce").inc()
                forward(request, leader, passed_on)
                continue
            for index in passed_on:
                part = batches[index]
                topic, partition = self._view.partition(part.topic, part.topic_id, part.partition, WRITE)
                request.fail(index, self._view.not_leader(topic, partition))
        return next_index

    def refused(self, rpc: str, error: ApiError) -> None:
        """Counts a refusal that was made before a batch was."""
        self._metrics.refused(rpc, error.code)

    def _refuse_all(self, request: Producing, error: ApiError) -> None:
        for index in range(len(request.results)):
            request.fail(index, error)

    def _append(
        self,
        request: Producing,
        index: int,
        part: ProducePartitionView,
        order: Order | None,
        on_loop: OnLoop,
        admitted: Admitted | None,
    ) -> int:
        """Appends one batch if this node leads its partition; returns who leads."""
        api = self._api
        topic, partition = api.writable(part.topic, part.topic_id, part.partition)
        if not part.HasField("batch"):
            raise ApiError(pb.ERROR_CODE_INVALID_RECORD, f"no batch is given for {topic.name}-{part.partition}")
        leader = api.leader_of(topic, partition)
        if order is not None:
            order(part, leader)
        if leader != self._view.node_id:
            return leader
        appended = api.append(
            topic.topic_id,
            part.partition,
            part.batch,
            admit,
            acks=request.acks,
            current_leader_epoch=part.current_leader_epoch if part.HasField("current_leader_epoch") else None,
            on_loop=on_loop,
            admitted=admitted,
        )
        api.when_acknowledged(
            appended, request.timeout_ms, partial(self._acknowledged, request, index, topic, appended)
        )
        return leader

    def _acknowledged(
        self, request: Producing, index: int, topic: Topic, appended: Appended, error: Exception | None
    ) -> None:
        if error is None:
            request.finish(index, self._result(topic, appended))
        elif isinstance(error, ApiError):
            self._metrics.refused("Produce", error.code)
            request.fail(index, error)
        else:
            request.fail(index, unexpected("Produce", error))

    def _result(self, topic: Topic, appended: Appended) -> data_pb2.ProduceResult:
        mark, holding, synced = self._api.copies(appended)
        return data_pb2.ProduceResult(
            topic=topic.name,
            topic_id=topic.topic_id,
            partition=appended.partition,
            base_offset=appended.base_offset,
            log_append_time_ms=appended.log_append_time_ms,
            log_start_offset=appended.log_start_offset,
            leader_epoch=appended.leader_epoch,
            duplicate=appended.duplicate,
            receipt=data_pb2.Receipt(high_watermark=mark, replicas_holding=holding, replicas_synced=synced),
        )


class UnaryProduce:
    """The unary calls: Produce and Send."""

    def __init__(
        self,
        producer: Producer,
        view: ClusterView,
        peers: Peers,
        in_flight: InFlight,
        throttle: Throttle,
        *,
        forwarded: bool,
    ) -> None:
        self._throttle = throttle
        self._producer = producer
        self._view = view
        self._peers = peers
        self._in_flight = in_flight
        self._forwarded = forwarded

    def parse(self, data: bytes) -> tuple[ProduceRequestView, bytes]:
        """A request, and as it came. Raises THROTTLING_QUOTA_EXCEEDED, before there is a second copy, for what has no
        room."""
        self._in_flight.check(COPIES * len(data))
        return ProduceRequestView.FromString(data), data

    async def produce(self, request: tuple[ProduceRequestView, bytes], context: Context) -> data_pb2.ProduceResponse:
        """Answers when every batch's acknowledgement holds or has failed."""
        size_bytes = len(request[1])
        pause_ms = self._pause_ms(request[0].client_id, size_bytes) if self._throttle.on else 0
        held = COPIES * size_bytes
        self._in_flight.take(held)
        try:
            answering = self._run(request[0], size_bytes, context, request[1])
            del request
            running = await answering
            running.pause_ms = pause_ms
            return running.response()
        finally:
            self._in_flight.give(held)

    def _pause_ms(self, client_id: str, size_bytes: int) -> int:
        """What a call that writes so much costs its client. Raises THROTTLING_QUOTA_EXCEEDED for who makes so many at
        once that answers that are held back do not bound it."""
        owed_ms = self._throttle.owed_ms(PRODUCE_QUOTA, client_id)
        if owed_ms > limits.QUOTA_DEBT_MAX_S * 1000:
            raise limits.throttled(
                f"this client is {owed_ms} ms ahead of its {PRODUCE_QUOTA}", "its calls wait for their answers", owed_ms
            )
        pause_ms = self._throttle.produced(client_id, size_bytes)
        hold_back(pause_ms)
        return pause_ms

    async def _run(
        self, request: ProduceRequestView, size_bytes: int, context: Context, data: bytes = b""
    ) -> Producing:
        """`data`: the request as it came, if it did; who leads all of it gets that."""
        finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        hops: dict[int, list[int]] = {}
        running = Producing(request, size_bytes, lambda _: None if finished.done() else finished.set_result(None))
        if running.done:
            return running
        if (remaining_s := context.time_remaining()) is not None:
            # What is known of some batches is to arrive, whatever the others still wait for.
            running.timeout_ms = min(running.timeout_ms, math.ceil(_before(remaining_s, ANSWER_S) * 1000))
        await self._producer.start(
            running, None if self._forwarded else lambda _, leader, indexes: hops.setdefault(leader, []).extend(indexes)
        )
        messages = {
            leader: data
            if data and len(indexes) == len(request.partitions)
            else part_of(running, indexes).SerializeToString()
            for leader, indexes in hops.items()
        }
        if size_bytes >= limits.RECEIVING_LARGE_BYTES:
            running.forget_batches()
        del request, data
        if not hops:
            await finished
            return running
        async with asyncio.TaskGroup() as group:
            for leader, indexes in hops.items():
                group.create_task(self._pass_on(running, leader, indexes, messages.pop(leader), context))
            await finished
        return running

    async def _pass_on(
        self, running: Producing, leader: int, indexes: list[int], message: bytes, context: Context
    ) -> None:
        timeout_s = running.timeout_ms / 1000
        remaining = context.time_remaining()
        if remaining is not None:
            timeout_s = min(timeout_s, _before(remaining, MARGIN_S + ANSWER_S))
        held = len(message)
        self._in_flight.take(held)
        try:
            answer = await self._peers.call(leader, PRODUCE, message, timeout_s)
        except ApiError as error:
            for index in indexes:
                running.fail(index, error)
            return
        finally:
            self._in_flight.give(held)
        fill(running, indexes, data_pb2.ProduceResponse.FromString(answer), leader)

    async def send(self, request: data_pb2.SendRequest, context: Context) -> data_pb2.SendResponse:
        """Places records by murmur2 of their keys, one batch per partition, and answers record by record."""
        if self._throttle.on:
            self._pause_ms(request.client_id, request.ByteSize())
        acks = request.acks if request.HasField("acks") else ACKS_ALL
        results = [data_pb2.SendResult(partition=-1, offset=-1) for _ in request.records]
        try:
            topic = self._view.topic(request.topic, b"", WRITE)
        except ApiError as error:
            self._producer.refused("Send", error)
            for result in results:
                result.error.CopyFrom(error.to_proto())
            return data_pb2.SendResponse(results=results if acks != ACKS_NONE else [])
        many = len(results) > limits.AT_ONCE
        await _turn(many)
        placed = place(topic, request.records, results, random.randrange(len(topic.partitions)))
        await _turn(many)
        room = self._producer.batch_bytes(topic)
        batches = [(number, chunk) for number, some in placed.items() for chunk in split(request.records, some, room)]
        produce = ProduceRequestView(acks=acks, timeout_ms=request.timeout_ms, client_id=request.client_id)
        for number, chunk in batches:
            await _turn(many)
            batch = batch_of([request.records[index] for index in chunk], self._producer.wall_ms())
            produce.partitions.add(topic_id=topic.topic_id, partition=number).batch.MergeFrom(batch)
        await _turn(many)
        size_bytes = produce.ByteSize()
        self._in_flight.check(COPIES * size_bytes)
        self._in_flight.take(COPIES * size_bytes)
        try:
            running = await self._run(produce, size_bytes, context)
        finally:
            self._in_flight.give(COPIES * size_bytes)
        if acks == ACKS_NONE:
            return data_pb2.SendResponse()
        for (number, chunk), outcome in zip(batches, running.results, strict=True):
            assert outcome is not None
            await _turn(many)
            for place_in_batch, index in enumerate(chunk):
                results[index].partition = number
                if outcome.HasField("error"):
                    results[index].error.CopyFrom(outcome.error)
                elif outcome.base_offset >= 0:
                    results[index].offset = outcome.base_offset + place_in_batch
        await _turn(many)
        return data_pb2.SendResponse(results=results)


def _before(remaining_s: float, margin_s: float) -> float:
    """So long before the end of what remains, but not in its first half."""
    return max(0.0, remaining_s / 2, remaining_s - margin_s)


def part_of(running: Producing, indexes: list[int], request_id: int = 0) -> ProduceRequestView:
    """What the leader of these slots is to be asked."""
    request = running.request
    return ProduceRequestView(
        request_id=request_id,
        acks=running.acks,
        timeout_ms=running.timeout_ms,
        client_id=request.client_id,
        partitions=[request.partitions[index] for index in indexes],
    )


async def _turn(many: bool) -> None:
    """Between two parts of a call of many records, each of which is some milliseconds."""
    if many:
        await turns.give_way()


def fill(running: Producing, indexes: list[int], answer: data_pb2.ProduceResponse, leader: int) -> None:
    """Puts a leader's results into the slots they were asked for."""
    if running.acks == ACKS_NONE:
        for index in indexes:
            running.finish(index, data_pb2.ProduceResult(base_offset=-1))
        return
    for index, result in zip(indexes, answer.partitions, strict=False):
        running.finish(index, result)
    for index in indexes[len(answer.partitions) :]:
        running.fail(
            index, ApiError(pb.ERROR_CODE_NETWORK_EXCEPTION, f"node {leader} answered without a result for the batch")
        )


def place(
    topic: Topic, records: "RecordsToSend", results: list[data_pb2.SendResult], keyless: int
) -> dict[int, list[int]]:
    """Which records go to which partition, in order: {partition: record numbers}. `keyless` takes those without a key.
    A record that names a partition or a time which does not exist gets its error in `results` and goes nowhere."""
    placed: dict[int, list[int]] = {}
    count = len(topic.partitions)
    for index, record in enumerate(records):
        if record.HasField("partition"):
            number = record.partition
        elif record.HasField("key"):
            number = partition_for_key(record.key, count)
        else:
            number = keyless
        if not 0 <= number < count:
            error = ApiError(
                pb.ERROR_CODE_UNKNOWN_TOPIC_OR_PARTITION,
                f"topic {topic.name!r} has partitions 0 to {count - 1}, not {number}",
            )
        elif record.timestamp_ms < 0:
            error = ApiError(
                pb.ERROR_CODE_INVALID_TIMESTAMP, f"timestamp_ms {record.timestamp_ms} must not be negative"
            )
        else:
            placed.setdefault(number, []).append(index)
            continue
        results[index].error.CopyFrom(error.to_proto())
    return placed


def split(records: "RecordsToSend", indexes: list[int], room: int) -> Iterator[list[int]]:
    """Cuts one partition's records into batches of `room` bytes at most: together they may exceed the topic's limit,
    which is for the client to keep where it makes the batches, and here for us. Who is too large alone is alone."""
    chunk: list[int] = []
    size = 0
    for index in indexes:
        grown = records[index].ByteSize() + RECORD_AROUND_MAX
        if chunk and size + grown > room:
            yield chunk
            chunk, size = [], 0
        chunk.append(index)
        size += grown
    if chunk:
        yield chunk


RecordsToSend = Sequence[data_pb2.SendRecord]


def batch_of(records: RecordsToSend, now_ms: int) -> RecordBatchView:
    """One batch of these records. Times not given are `now_ms`; the header's times are those of the records."""
    times = [record.timestamp_ms if record.HasField("timestamp_ms") else now_ms for record in records]
    base = times[0]
    payload = Records(
        records=[
            Record(
                key=record.key if record.HasField("key") else None,
                value=record.value if record.HasField("value") else None,
                headers=record.headers,
                timestamp_delta=at - base,
            )
            for record, at in zip(records, times, strict=True)
        ]
    )
    return RecordBatchView(base_timestamp=base, max_timestamp=max(times), records=payload.SerializeToString())
