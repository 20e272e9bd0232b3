"""The producer: takes records, sends batches, tells what became of them. Its decisions are in producer_state.py."""

import asyncio
import logging
import time
import warnings
from collections import deque
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Final, Literal, Self

from grpc import aio

from ottla.client import arguments, life
from ottla.client.connection import Client, client_for
from ottla.client.deserialize import Serializer, serialize_with
from ottla.client.encode import BATCH_OVERHEAD_BYTES, encode_headers, record_size_max
from ottla.client.errors import (
    BufferFull,
    Closed,
    DeliveryFailed,
    NotAuthorized,
    OttlaError,
    RecordTooLarge,
)
from ottla.client.metrics import ProducerCounts, ProducerMetrics
from ottla.client.produce_stream import ProduceStream
from ottla.client.producer_batch import Batch, Delivery
from ottla.client.producer_queue import Leader, Topic
from ottla.client.producer_state import ProducerState
from ottla.client.records import Headers, RecordMetadata
from ottla.client.settings import ProducerSettings
from ottla.client.tasks import Ending, Tasks
from ottla.client.tls import PathText, Tls
from ottla.client.view import ClusterView, TopicInfo
from ottla.protocol.errors import ApiError
from ottla.v1 import error_pb2 as pb
from ottla.v1.data_pb2 import InitProducerIdRequest, InitProducerIdResponse, ProduceResult
from ottla.v1.data_pb2_grpc import DataServiceStub

log = logging.getLogger("ottla.producer")

_FAILURES_KEPT: Final = 100
_FINISH_S: Final = 2.0


def _now_ms() -> int:
    return time.monotonic_ns() // 1_000_000


class Producer:
    """Writes records. Use it as `async with Producer("host:9192") as producer`; leaving waits for every record.

    `bootstrap` is host:port of one or more nodes, or a Client to share. Settings have Kafka's names, times in ms, sizes
    in bytes; docs/python-client.md lists them. Retries never write a record twice (KIP-98): numbered batches are always
    on, except with acks=0. `key_serializer` and `value_serializer` make bytes of what is neither bytes nor None.
    """

    _life = "new"

    def __init__(
        self,
        bootstrap: str | Sequence[str] | Client | None = None,
        *,
        acks: Literal["all", -1, 0, 1] = "all",
        linger_ms: int | None = None,
        batch_size: int = 128 * 1024,
        buffer_memory: int = 32 * 1024 * 1024,
        max_block_ms: int = 60_000,
        max_request_size: int = 1024 * 1024,
        compression_type: Literal["none", "gzip", "snappy", "lz4", "zstd"] = "none",
        request_timeout_ms: int = 5_000,
        delivery_timeout_ms: int = 120_000,
        retry_backoff_ms: int = 20,
        retry_backoff_max_ms: int = 1_000,
        client_id: str = "ottla-python",
        key_serializer: Serializer | None = None,
        value_serializer: Serializer | None = None,
        tls: Tls | PathText | None = None,
        user: str | None = None,
        password: str | None = None,
        password_file: PathText | None = None,
    ) -> None:
        self.settings = ProducerSettings(
            -1 if acks == "all" else acks,
            linger_ms,
            batch_size,
            buffer_memory,
            max_block_ms,
            max_request_size,
            compression_type,
            request_timeout_ms,
            delivery_timeout_ms,
            retry_backoff_ms,
            retry_backoff_max_ms,
            client_id,
        )
        self._key_bytes = serialize_with("key", key_serializer)
        self._value_bytes = serialize_with("value", value_serializer)
        self._owns_client = not isinstance(bootstrap, Client)
        self._client = client_for(
            bootstrap, tls, user=user, password=password, password_file=password_file, client_id=client_id
        )
        self._state = ProducerState(self.settings, Random())
        self._streams: dict[int, ProduceStream] = {}
        self._stream_tasks: dict[int, asyncio.Task[None]] = {}
        self._tasks = Tasks(self._failed)
        self._wake = asyncio.Event()
        self._room: deque[asyncio.Future[None]] = deque()
        self._failures: deque[Batch] = deque(maxlen=_FAILURES_KEPT)
        self._ending = Ending()
        self._closed = asyncio.Event()
        self._stop_listening: Callable[[], None] = lambda: None
        self._getting_id = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._reason = ""
        self._lost = 0
        self._counts = ProducerCounts()

    # -- life ------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Connects. Raises ConnectionFailed if no node answers."""
        if self._life != "new":
            raise Closed(f"this producer is {self._life} and can't be started. Next: make a new one")
        life.opened(self)
        if self._owns_client:
            await self._client.start()
        if self._life != "new":
            raise life.refusal("producer", self._life)  # it was closed meanwhile
        self._client.check()
        self._loop = asyncio.get_running_loop()
        self._life = "open"
        self._stop_listening = self._client.on_view(self._on_view, self._failed)
        self._tasks.start(self._send_loop(), "ottla-producer")

    async def close(self) -> None:
        """Waits until every record is acknowledged or has failed, then disconnects. Raises what `flush` raises. Whoever
        calls it again waits, too."""
        if self._life == "inherited" or not life.can_close(self._loop, "producer"):
            return
        if self._life == "closing" and self._loop is asyncio.get_running_loop():
            await self._closed.wait()
        was = self._life
        if self._life != "closed":
            self._life = "closing"
        try:
            if was == "open":
                await self._flush()
            elif was == "broken":
                self._raise_unseen()
        finally:
            await self._ending.run(self._stop)

    def inherited(self) -> None:
        """For `life`: this process is a forked child."""
        self._life = "inherited"

    def __del__(self) -> None:
        if self._life in ("open", "broken"):
            lost = f", {self._lost} records not acknowledged" if self._lost else ""
            warnings.warn(
                f"Unclosed producer{lost}. Next: close it, or use `async with`",
                ResourceWarning,
                stacklevel=2,
                source=self,
            )

    async def _stop(self) -> None:
        self._life = "closed"
        self._stop_listening()
        if self.settings.acks == 0 and self._stream_tasks:
            # Nobody answers, so only the stream's own end tells that everything arrived.
            for stream in self._streams.values():
                stream.finish()
            await asyncio.wait(self._stream_tasks.values(), timeout=_FINISH_S)
        await self._tasks.stop()
        gone = DeliveryFailed(
            "the producer was closed before the record was acknowledged. Next: flush before closing",
            pb.ERROR_CODE_NETWORK_EXCEPTION,
            maybe_written=True,
        )
        self._complete(self._state.abort(gone))
        if self._owns_client:
            await self._client.close()
        life.closed(self)
        self._closed.set()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        try:
            await self.close()
        except DeliveryFailed:
            if kind is None:
                raise

    def _failed(self, error: BaseException) -> None:
        """A task ended: nothing will be sent any more, so say so to everybody who waits, the closing too."""
        if self._life not in ("open", "closing"):
            return
        if self._life == "open":
            self._life = "broken"
        if isinstance(error, Closed):
            self._reason = error.message
        else:
            self._reason = f"an internal error: {error!r}. Next: make a new one, and report this"
        self._lost = sum(batch.count for batch in self._state.outstanding())
        log.error("the producer stopped with %d records not acknowledged: %s", self._lost, self._reason)
        if not isinstance(error, Closed):
            log.error("what ended it", exc_info=error)
        cause = self._reason.partition(". Next:")[0]
        failure = DeliveryFailed(
            f"the producer has stopped: {cause}. Next: make a new one",
            pb.ERROR_CODE_UNKNOWN_SERVER_ERROR,
            maybe_written=True,
        )
        self._complete(self._state.abort(failure))

    def _use(self) -> None:
        """Raises Closed if nothing would happen here: it was closed, or it belongs to another process or loop."""
        if self._life == "open" and self._loop is not None and not life.is_running(self._loop, "producer"):
            self._failed(Closed("its event loop was closed. Next: close producers before their loop ends"))
        if self._life != "open":
            raise life.refusal("producer", self._life, self._reason)

    @property
    def buffered_bytes(self) -> int:
        """What waits to be acknowledged, in encoded bytes; `send` blocks when it reaches buffer_memory."""
        return self._state.buffered_bytes

    def metrics(self) -> ProducerMetrics:
        """What was counted so far, and what waits now. Asks nobody; may be called from any thread, and after the
        end."""
        return self._counts.snapshot(self._state.buffered_records, self._state.buffered_bytes)

    # -- records in ------------------------------------------------------------------------------------------------

    async def send(
        self,
        topic: str,
        value: Any,
        *,
        key: Any = None,
        headers: Headers = (),
        partition: int | None = None,
        timestamp: int | None = None,
    ) -> Delivery:
        """Takes a record and answers at once with its Delivery, unless the buffer is full or the topic not known yet.

        `value` and `key` are bytes, str (sent as UTF-8) or None, or what value_serializer and key_serializer take.
        A key decides the partition (murmur2, as all clients do); without one, batches are spread. `value` None deletes
        the key in a compacted topic. `timestamp` is in ms since the epoch, now if not given. Raises BufferFull after
        max_block_ms, UnknownTopic, RecordTooLarge, SchemaRegistryError, ConfigError or Closed: then the record was not
        taken.
        """
        if self._life != "open":
            self._use()
        state = self._state
        if timestamp is None:
            timestamp = time.time_ns() // 1_000_000
            if key is None and partition is None and not headers and type(value) is bytes and type(topic) is str:
                delivery = state.add_value(topic, value, timestamp)
                if delivery is not None:
                    return delivery
        else:
            timestamp = arguments.timestamp("timestamp", timestamp)
        self._use()
        if type(topic) is not str or topic not in state.topics:
            arguments.topic_name(topic)
        if partition is not None:
            partition = arguments.partition(partition)
        if value is not None and type(value) is not bytes:
            value = self._value_bytes(value, topic)
            if type(value) is not bytes:
                value = await value
        if key is not None and type(key) is not bytes:
            key = self._key_bytes(key, topic)
            if type(key) is not bytes:
                key = await key
        encoded_headers = encode_headers(headers) if headers else b""
        size = record_size_max(key, value, encoded_headers)
        if size + BATCH_OVERHEAD_BYTES > self.settings.max_request_size:
            raise RecordTooLarge(
                f"a record of {size} bytes for {topic} is over max_request_size {self.settings.max_request_size}. "
                "Next: send less at once, or raise max_request_size and the topic's max.message.bytes"
            )
        if not state.has_room(size):
            await self._wait_for_room(size)
        target = state.topics.get(topic) or await self._use_topic(topic)
        chosen = key is not None or partition is not None
        if partition is None:
            partition = state.partition_for(target, key, size)
        elif not 0 <= partition < len(target.queues):
            target = await self._use_topic(topic, partition)
        self._use()  # it may have been closed while this call waited
        queue = target.queues[partition]
        batch = state.open_batch(queue, size)
        is_new = batch is None
        if batch is None:
            batch = state.new_batch(queue, timestamp, _now_ms())
        index = batch.add(key, value, encoded_headers, timestamp, size)
        state.buffered_bytes += size
        if not chosen and queue.leader.node_id is not None:
            target.partitioner.follow(batch)
        if is_new:
            self._wake.set()
            # Once per batch, let the batches before this one leave while the caller makes more.
            await asyncio.sleep(0)
        return Delivery(batch, index)

    async def send_and_wait(
        self,
        topic: str,
        value: Any,
        *,
        key: Any = None,
        headers: Headers = (),
        partition: int | None = None,
        timestamp: int | None = None,
    ) -> RecordMetadata:
        """`send`, then waits for the acknowledgement. Raises DeliveryFailed besides what `send` raises."""
        return await (await self.send(topic, value, key=key, headers=headers, partition=partition, timestamp=timestamp))

    async def flush(self) -> None:
        """Sends everything now, and returns when all records taken so far are acknowledged or have failed. Raises the
        first DeliveryFailed that nobody has awaited, so that none goes unseen."""
        if self._life not in ("closing", "closed"):
            self._use()
        await self._flush()

    async def _flush(self) -> None:
        self._state.flushing += 1
        self._wake.set()
        try:
            for batch in self._state.outstanding():
                await batch.settled()
        finally:
            self._state.flushing -= 1
        self._raise_unseen()

    def _raise_unseen(self) -> None:
        unseen = [batch for batch in self._failures if not batch.is_observed]
        self._failures.clear()
        for batch in unseen:
            batch.is_observed = True
        if unseen and unseen[0].error is not None:
            raise unseen[0].error.with_traceback(None)

    async def partitions_for(self, topic: str) -> int:
        """How many partitions a topic has. Raises UnknownTopic."""
        self._use()
        return len((await self._client.topic(topic)).partitions)

    async def _use_topic(self, name: str, partition: int = 0) -> Topic:
        self._take_topic(await self._client.topic(name, partition))
        return self._state.topics[name]

    async def _wait_for_room(self, size: int) -> None:
        self._counts.buffer_waits += 1
        give_up = time.monotonic() + self.settings.max_block_ms / 1000
        self._wake.set()
        while not self._state.has_room(size):
            left = give_up - time.monotonic()
            room = asyncio.get_running_loop().create_future()
            self._room.append(room)
            try:
                async with asyncio.timeout(left):
                    await room
            except TimeoutError:
                raise BufferFull(
                    f"{self._state.buffered_bytes} bytes wait to be acknowledged and buffer_memory is "
                    f"{self.settings.buffer_memory}; no room came free within max_block_ms "
                    f"{self.settings.max_block_ms}. Next: send slower, or check that the partitions have leaders"
                ) from None
            self._use()

    # -- batches out -----------------------------------------------------------------------------------------------

    async def _send_loop(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._wake.clear()
            now_ms = _now_ms()
            actions = self._state.poll(now_ms)
            self._complete(actions.completed)
            for leader_id in actions.abandoned:
                if leader_id in self._stream_tasks:
                    self._tasks.cancel(self._stream_tasks[leader_id])
            for transmit in actions.transmits:
                self._stream_to(transmit.leader_id).submit(transmit)
            if actions.needs_producer_id and not self._getting_id:
                self._getting_id = True
                self._tasks.start(self._get_producer_id(), "ottla-producer-id")
            if actions.next_poll_ms is None:
                await self._wake.wait()
            else:
                timer = loop.call_later(max(0, actions.next_poll_ms - now_ms) / 1000, self._wake.set)
                await self._wake.wait()
                timer.cancel()

    def _stream_to(self, leader_id: int) -> ProduceStream:
        stream = self._streams.get(leader_id)
        if stream is None:
            stream = ProduceStream(leader_id, self._client, self._state, self._on_result, self._on_unsendable)
            self._streams[leader_id] = stream
            self._stream_tasks[leader_id] = self._tasks.start(self._run_stream(stream), f"ottla-produce-{leader_id}")
        return stream

    async def _run_stream(self, stream: ProduceStream) -> None:
        try:
            await stream.run()
        finally:
            if self._streams.get(stream.leader_id) is stream:
                del self._streams[stream.leader_id]
                del self._stream_tasks[stream.leader_id]
            now_ms = _now_ms()
            for batch, attempt in stream.take_unanswered():
                self._complete(self._state.on_unknown(batch, attempt, now_ms))
            self._wake.set()

    def _on_result(self, batch: Batch, attempt: int, result: ProduceResult) -> None:
        self._complete(self._state.on_result(batch, attempt, result, _now_ms()))
        self._wake.set()

    def _on_unsendable(self, batch: Batch, attempt: int, error: Exception) -> None:
        log.error("a batch can't be encoded", exc_info=error)
        self._complete(self._state.on_unsendable(batch, attempt, error))
        self._wake.set()

    def _complete(self, batches: list[Batch]) -> None:
        now_ms = _now_ms()
        for batch in batches:
            if batch.is_done:  # else it was split
                self._counts.done(batch, now_ms)
            if batch.error is not None:
                self._failures.append(batch)
                log.warning("delivery failed: %s", batch.error)
            if batch.waiter is not None and not batch.waiter.done():
                batch.waiter.set_result(None)
        if batches:
            while self._room:
                room = self._room.popleft()
                if not room.done():
                    room.set_result(None)

    async def _get_producer_id(self) -> None:
        """Asks until there is an id: batches wait for it, up to their delivery timeout."""
        backoff_s = self.settings.retry_backoff_ms / 1000
        while not self._state.producer_id:
            try:
                answer = await self._client.on_any_node(self._init_producer_id, self.settings.request_timeout_ms)
                if answer.error.code:
                    raise ApiError.from_proto(answer.error)
                self._state.start_epoch(answer.producer_id, answer.producer_epoch)
            except Closed:
                raise
            except NotAuthorized as error:
                # Nothing was sent, and to wait changes nothing: what is handed in later asks again.
                refused = DeliveryFailed(error.message, error.code, maybe_written=False)
                self._complete(self._state.abort(refused))
                break
            except (OttlaError, ApiError) as error:
                log.info("no producer id yet: %s", error)
                await asyncio.sleep(backoff_s)
                backoff_s = min(2 * backoff_s, self.settings.retry_backoff_max_ms / 1000)
        self._getting_id = False
        self._wake.set()

    async def _init_producer_id(self, channel: aio.Channel) -> InitProducerIdResponse:
        request = InitProducerIdRequest(client_id=self.settings.client_id)
        return await DataServiceStub(channel).InitProducerId(request, timeout=self.settings.request_timeout_ms / 1000)

    # -- metadata --------------------------------------------------------------------------------------------------

    def _on_view(self, view: ClusterView) -> None:
        for name in list(self._state.topics):
            topic = view.topics.get(name)
            if topic is None:
                self._complete(self._state.on_topic_deleted(name))
            else:
                self._take_topic(topic)
        self._wake.set()

    def _take_topic(self, topic: TopicInfo) -> None:
        leaders = [Leader(p.leader_id, p.leader_epoch) for p in topic.partitions]
        self._state.on_metadata(topic.name, topic.topic_id, leaders, _now_ms())
