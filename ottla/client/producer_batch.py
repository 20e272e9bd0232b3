"""A batch while a producer has it: records in, one outcome out, which each record's Delivery tells."""

import asyncio
from array import array
from collections.abc import Generator
from typing import Final

from ottla.client.codecs import compress, decompress
from ottla.client.encode import append_record
from ottla.client.errors import DeliveryFailed
from ottla.client.records import RecordMetadata
from ottla.internal.v1.view_pb2 import RecordBatchView
from ottla.protocol.batch import read_varint
from ottla.protocol.checksum import crc32c
from ottla.v1.data_pb2 import Receipt

NO_RECEIPT: Final = Receipt()


class Batch:
    """Records of one partition, in order. Its sequence belongs to it from its first sending to its outcome."""

    __slots__ = (
        "attempt",
        "base_offset",
        "base_timestamp",
        "created_ms",
        "duplicate",
        "epoch",
        "error",
        "failures",
        "halves",
        "is_done",
        "is_observed",
        "leader_epoch",
        "log_append_time_ms",
        "maybe_written",
        "new_epoch",
        "partition",
        "parts",
        "payload",
        "payload_crc",
        "receipt",
        "retry_at_ms",
        "seal_error",
        "sent_as_lowest",
        "sent_epoch",
        "sent_ms",
        "sent_to",
        "sequence",
        "size_bytes",
        "timestamps",
        "topic",
        "waiter",
    )

    def __init__(self, topic: str, partition: int, created_ms: int, base_timestamp: int) -> None:
        self.topic = topic
        self.partition = partition
        self.created_ms = created_ms
        self.base_timestamp = base_timestamp
        self.timestamps = array("q")  # a list of ints would take 40 bytes for each record
        self.size_bytes = 0
        self.parts: list[bytes] = []
        self.payload: bytes | None = None
        self.payload_crc = 0
        self.seal_error: Exception | None = None
        self.halves: tuple[Batch, Batch] | None = None
        # where it is on its way
        self.sequence = -1
        self.epoch = 0
        self.new_epoch = False
        self.attempt = 0
        self.failures = 0
        self.sent_to: int | None = None
        self.sent_ms = 0
        self.sent_as_lowest = False
        self.sent_epoch = -1
        self.retry_at_ms = 0
        self.maybe_written = False
        # its outcome
        self.is_done = False
        self.error: DeliveryFailed | None = None
        self.base_offset = -1
        self.log_append_time_ms = -1
        self.leader_epoch = 0
        self.receipt = NO_RECEIPT
        self.duplicate = False
        self.is_observed = False
        self.waiter: asyncio.Future[None] | None = None

    @property
    def count(self) -> int:
        """How many records it holds."""
        return len(self.timestamps)

    def holder(self, index: int) -> tuple["Batch", int]:
        """The batch that has the record at that place now, and its place there."""
        batch = self
        while batch.halves is not None:
            first, second = batch.halves
            batch, index = (first, index) if index < first.count else (second, index - first.count)
        return batch, index

    @property
    def is_sealed(self) -> bool:
        """Whether it takes no more records."""
        return self.payload is not None

    @property
    def is_sent(self) -> bool:
        """Whether an attempt is on its way."""
        return self.sent_to is not None

    def add(self, key: bytes | None, value: bytes | None, headers: bytes, timestamp: int, size_max: int) -> int:
        """Takes a record (`size_max` as `record_size_max` gives it); answers its place in the batch."""
        append_record(self.parts, key, value, headers, timestamp - self.base_timestamp)
        self.timestamps.append(timestamp)
        self.size_bytes += size_max
        return len(self.timestamps) - 1

    def seal(self, codec: int) -> None:
        """Fixes the bytes: every attempt sends the same. Raises nothing: a batch that can't be encoded has a
        `seal_error` and fails in its turn, alone."""
        self.payload = b""
        try:
            payload = b"".join(self.parts)
            self.payload = compress(codec, payload) if codec else payload
            self.payload_crc = crc32c(self.payload)
        except Exception as error:
            self.seal_error = error
        self.parts.clear()

    def split(self, codec: int) -> tuple["Batch", "Batch"]:
        """Its records as two batches in its place, with the sequences that they had."""
        plain = decompress(codec, self.payload or b"") if codec else self.payload or b""
        middle, place = self.count // 2, 0
        for _ in range(middle):
            length, start = read_varint(plain, place + 1)
            place = start + length
        self.halves = self._part(0, middle, plain[:place]), self._part(middle, self.count, plain[place:])
        for half in self.halves:
            half.seal(codec)
        return self.halves

    def _part(self, first: int, end: int, payload: bytes) -> "Batch":
        part = Batch(self.topic, self.partition, self.created_ms, self.base_timestamp)
        part.timestamps = self.timestamps[first:end]
        part.parts.append(payload)
        part.size_bytes = len(payload)
        part.sequence = (self.sequence + first) & 0x7FFFFFFF
        part.epoch, part.new_epoch = self.epoch, self.new_epoch and not first
        part.retry_at_ms = self.retry_at_ms
        return part

    async def settled(self) -> None:
        """Returns when it is done, and all that it was split into."""
        if not self.is_done and self.halves is None:
            await asyncio.shield(self.outcome())
        for half in self.halves or ():
            await half.settled()

    def outcome(self) -> asyncio.Future[None]:
        """The one future of all who wait until it is done, made when somebody first waits."""
        if self.waiter is None:
            self.waiter = asyncio.get_running_loop().create_future()
        return self.waiter

    def metadata(self, index: int) -> RecordMetadata:
        """Where the record at that place went; only for a batch that is done and did not fail."""
        timestamp = self.timestamps[index] if self.log_append_time_ms < 0 else self.log_append_time_ms
        return RecordMetadata(
            self.topic,
            self.partition,
            self.base_offset + index if self.base_offset >= 0 else -1,
            timestamp,
            self.leader_epoch,
            self.receipt.replicas_holding,
            self.receipt.replicas_synced,
            self.receipt.high_watermark,
            self.duplicate,
        )

    def header(self, codec: int, producer_id: int) -> RecordBatchView:
        """What goes with the payload."""
        return RecordBatchView(
            attributes=codec,
            record_count=self.count,
            last_offset_delta=self.count - 1,
            base_timestamp=self.base_timestamp,
            max_timestamp=max(self.timestamps),
            producer_id=producer_id,
            producer_epoch=self.epoch if producer_id else 0,
            base_sequence=self.sequence if producer_id else 0,
            payload_crc=self.payload_crc,
        )


class Delivery:
    """What becomes of one record: `await` it for its RecordMetadata, or DeliveryFailed."""

    __slots__ = ("_batch", "_index")

    def __init__(self, batch: Batch, index: int) -> None:
        self._batch = batch
        self._index = index

    def done(self) -> bool:
        """Whether the outcome is known."""
        return self._now().is_done

    def _now(self) -> Batch:
        """The batch that has the record by now."""
        if self._batch.halves is not None:
            self._batch, self._index = self._batch.holder(self._index)
        return self._batch

    def result(self) -> RecordMetadata:
        """Where it was stored, if that is known already. Raises DeliveryFailed, or asyncio.InvalidStateError."""
        batch = self._now()
        if not batch.is_done:
            raise asyncio.InvalidStateError("the outcome is not known yet. Next: await the delivery")
        batch.is_observed = True
        if batch.error is not None:
            raise batch.error.with_traceback(None)
        return batch.metadata(self._index)

    def __await__(self) -> Generator[object, None, RecordMetadata]:
        while not (batch := self._now()).is_done:
            yield from asyncio.shield(batch.outcome()).__await__()
        return self.result()
