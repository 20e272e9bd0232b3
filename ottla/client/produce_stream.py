"""One ProduceStream to one leader: requests out in order, answers back to the batches they are about."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from ottla.client.connection import Client
from ottla.client.encode import encode_partition, encode_request
from ottla.client.errors import Closed, OttlaError
from ottla.client.producer_batch import Batch
from ottla.client.producer_queue import Transmit
from ottla.client.producer_state import ProducerState
from ottla.client.streams import converse
from ottla.v1.data_pb2 import ProduceResponse, ProduceResult, ProduceStreamResponse

log = logging.getLogger("ottla.producer")

_METHOD: Final = "/ottla.v1.DataService/ProduceStream"
Attempt = tuple[Batch, int]
_UNANSWERED: Final = ProduceResult(base_offset=-1, log_append_time_ms=-1)


class ProduceStream:
    """Sends what `submit` gets until the connection ends; `run` then returns. `on_result` gets every answer, and
    `take_unanswered` says which attempts have none."""

    def __init__(
        self,
        leader_id: int,
        client: Client,
        state: ProducerState,
        on_result: Callable[[Batch, int, ProduceResult], None],
        on_unsendable: Callable[[Batch, int, Exception], None],
    ) -> None:
        self.leader_id = leader_id
        self._client = client
        self._state = state
        self._on_result = on_result
        self._on_unsendable = on_unsendable
        self._outbox: deque[tuple[int, list[Attempt]]] = deque()
        self._has_work = asyncio.Event()
        self._unanswered: dict[int, list[Attempt]] = {}
        self._last_request_id = 0
        self._is_finishing = False

    def submit(self, transmit: Transmit) -> None:
        """Queues a request; the producer's limits (five batches of a partition) bound the queue."""
        self._last_request_id += 1
        attempts = [(batch, batch.attempt) for batch in transmit.batches]
        self._unanswered[self._last_request_id] = attempts
        self._outbox.append((self._last_request_id, attempts))
        self._has_work.set()

    def finish(self) -> None:
        """Ends the stream after what was submitted; `run` returns when the server has read it all."""
        self._is_finishing = True
        self._has_work.set()

    def take_unanswered(self) -> list[Attempt]:
        """The attempts whose outcome this stream can't tell any more."""
        attempts = [attempt for request in self._unanswered.values() for attempt in request]
        self._unanswered.clear()
        return attempts

    async def run(self) -> None:
        """Connects and works until the stream ends, for whatever reason. Raises Closed where the client is closed,
        which no other stream would mend."""
        try:
            address = await self._client.address_for(self.leader_id)
        except Closed:
            raise
        except OttlaError as error:
            log.info("no way to node %d: %s", self.leader_id, error)
            return
        open_stream: Any = self._client.channel(address).stream_stream(
            _METHOD, request_serializer=None, response_deserializer=ProduceStreamResponse.FromString
        )
        call: Any = open_stream()
        reason = await converse(call, self._write(call), self._take)
        log.info("the produce stream to node %d at %s ended: %s", self.leader_id, address, reason)

    async def _write(self, call: Any) -> None:
        settings = self._state.settings
        while True:
            while self._outbox:
                request_id, attempts = self._outbox.popleft()
                parts: list[bytes] = []
                for batch, attempt in attempts:
                    if batch.attempt == attempt and batch.is_sent:
                        try:
                            parts += self._encode(batch)
                        except Exception as error:  # the batch's fault, not the connection's
                            self._on_unsendable(batch, attempt, error)
                if not parts:
                    del self._unanswered[request_id]
                    continue
                await call.write(
                    encode_request(request_id, settings.acks, settings.request_timeout_ms, settings.client_id, parts)
                )
                if settings.acks == 0:
                    for batch, attempt in self._unanswered.pop(request_id, ()):
                        self._on_result(batch, attempt, _UNANSWERED)
            if self._is_finishing:
                await call.done_writing()
                return
            self._has_work.clear()
            await self._has_work.wait()

    def _encode(self, batch: Batch) -> list[bytes]:
        state = self._state
        header = batch.header(state.codec, state.producer_id)
        topic = state.topics.get(batch.topic)
        topic_id = topic.topic_id if topic is not None else b""
        return encode_partition(batch.topic, topic_id, batch.partition, batch.sent_epoch, header, batch.payload or b"")

    def _take(self, answer: ProduceStreamResponse) -> bool:
        for response in answer.responses:
            self._take_response(response)
        return True

    def _take_response(self, response: ProduceResponse) -> None:
        attempts = self._unanswered.pop(response.request_id, None)
        if attempts is None:
            return
        results = {(result.topic, result.partition): result for result in response.partitions}
        missing = []
        for batch, attempt in attempts:
            result = results.get((batch.topic, batch.partition))
            if result is None:
                missing.append((batch, attempt))
            else:
                self._on_result(batch, attempt, result)
        if missing:
            # A stream may answer a request in pieces, as its partitions become final.
            self._unanswered[response.request_id] = missing
