"""One FetchStream to one leader: positions and credit out, batches in."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final

from google.protobuf.message import DecodeError

from ottla.client import codecs
from ottla.client.connection import Client
from ottla.client.errors import Closed, OttlaError
from ottla.client.fetch_state import PartitionState
from ottla.client.settings import ConsumerSettings
from ottla.client.streams import converse
from ottla.internal.v1.view_pb2 import FetchResponseView
from ottla.v1.data_pb2 import Accept, FetchResponse, FetchStreamRequest, TopicPartition

log = logging.getLogger("ottla.consumer")

_METHOD: Final = "/ottla.v1.DataService/FetchStream"


class FetchStream:
    """Reads what was added until the connection ends; `run` then returns. The server sends no more than the credit, so
    what is buffered is bounded by fetch_max_bytes, however slow the user is."""

    def __init__(
        self,
        leader_id: int,
        client: Client,
        settings: ConsumerSettings,
        on_results: Callable[["FetchStream", FetchResponseView], None],
    ) -> None:
        self.leader_id = leader_id
        self._client = client
        self._settings = settings
        self._on_results = on_results
        self.reading: dict[tuple[bytes, int], PartitionState] = {}
        self._next = FetchStreamRequest(
            credit_bytes=settings.fetch_max_bytes,
            min_bytes=settings.fetch_min_bytes,
            max_wait_ms=settings.fetch_max_wait_ms,
            accept=Accept(codecs=codecs.accepted()),
            client_id=settings.client_id,
        )
        self._has_work = asyncio.Event()
        self._to_release = 0
        self.held_bytes = 0

    def add(self, state: PartitionState, seek_id: int) -> None:
        """Reads a partition from its state's position, from now on."""
        state.added_to = self
        self.reading[state.topic_id, state.where.partition] = state
        self._next.add.append(state.fetch_request(seek_id, self._settings.max_partition_fetch_bytes))
        self._has_work.set()

    def drop_moved(self) -> None:
        """Stops reading what is read from elsewhere, or not at all, by now."""
        for key, state in list(self.reading.items()):
            if state.added_to is not self:
                del self.reading[key]
                if any((p.topic_id, p.partition) == key for p in self._next.add):
                    keep = [p for p in self._next.add if (p.topic_id, p.partition) != key]
                    del self._next.add[:]
                    self._next.add.extend(keep)
                self._next.remove.append(
                    TopicPartition(topic=state.where.topic, topic_id=key[0], partition=state.where.partition)
                )
                self._has_work.set()

    def hold(self, size_bytes: int) -> None:
        """So many bytes came: they are not granted again until `release`."""
        self.held_bytes += size_bytes

    def release(self, size_bytes: int) -> None:
        """So many bytes are buffered no longer. Granted again in quarters, or when nothing is left."""
        self.held_bytes -= size_bytes
        self._to_release += size_bytes
        if self._to_release * 4 >= self._settings.fetch_max_bytes or self.held_bytes <= 0:
            self._next.credit_bytes += self._to_release
            self._to_release = 0
            self._has_work.set()

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
            _METHOD, request_serializer=FetchStreamRequest.SerializeToString, response_deserializer=None
        )
        call: Any = open_stream()
        reason = await converse(call, self._write(call), self._take)
        log.info("the fetch stream to node %d at %s ended: %s", self.leader_id, address, reason)

    def _take(self, answer: bytes) -> bool:
        try:
            results = FetchResponseView.FromString(answer)
        except DecodeError:
            # Answers are slices of the leader's log: a bit that rotted between two batches damages the message, too. It
            # is read again after a pause; its leader's disk is found out by the scrub, and another one leads then.
            log.warning("node %d sent a damaged answer; reading it again", self.leader_id)
            return False
        if not results.partitions:
            refusal = FetchResponse.FromString(answer).error
            if refusal.code:
                log.warning("node %d ended the fetch stream: %s", self.leader_id, refusal.message)
                return False
        self._on_results(self, results)
        return True

    async def _write(self, call: Any) -> None:
        while True:
            await self._has_work.wait()
            self._has_work.clear()
            request, self._next = self._next, FetchStreamRequest()
            await call.write(request)
