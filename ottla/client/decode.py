"""Batches of a fetch answer as records: checked, decompressed, in offset order."""

from collections.abc import Iterable, Iterator
from typing import Final

from google.protobuf.message import DecodeError

from ottla.client.codecs import decompress
from ottla.client.errors import CorruptRecords, UnsupportedCodec
from ottla.client.records import ConsumerRecord
from ottla.protocol.batch import (
    ATTR_CONTROL,
    ATTR_LOG_APPEND_TIME,
    BatchAt,
    BatchHeader,
    CorruptBatch,
    crc_seed,
    decode_header,
)
from ottla.protocol.errors import ApiError
from ottla.protocol.kafka_codecs import unfold
from ottla.protocol.payloads import ATTR_KAFKA, KIND_FROM, as_ottla, packed_records, verify_batch
from ottla.protocol.walk import Malformed, Plain
from ottla.v1.record_pb2 import Record, Records

_AT_ONCE: Final = 500
_VERSION: Final = 1
"""Of the helper that goes with this code."""

try:
    from ottla.client._decode import VERSION, decode
except ImportError:
    decode = None  # type: ignore[assignment]
else:
    if VERSION != _VERSION:
        decode = None  # type: ignore[assignment]

_Part = tuple[list[ConsumerRecord], int, int]


def plain_records(header: BatchHeader, payload: memoryview) -> Plain:
    """The payload of a batch, of Kafka's too, as a serialized `Records`. Raises Malformed, ApiError, OttlaError."""
    packed = packed_records(header.attributes, payload)
    if header.attributes & ATTR_KAFKA:
        return as_ottla(header, unfold(header.codec, packed, decompress))
    return decompress(header.codec, packed) if header.codec else packed


class BatchReader:
    """Decodes the batches of one partition of one topic id."""

    __slots__ = ("_partition", "_seed", "_topic")

    def __init__(self, topic: str, topic_id: bytes, partition: int) -> None:
        self._topic = topic
        self._partition = partition
        self._seed = crc_seed(topic_id, partition)

    def header(self, batch: bytes) -> BatchHeader:
        """The batch's header. Raises CorruptRecords."""
        try:
            return decode_header(batch)
        except CorruptBatch as error:
            raise self._corrupt(error) from None

    def records(self, batch: bytes, header: BatchHeader, from_offset: int) -> Iterator[ConsumerRecord]:
        """The records from `from_offset` on; none for a control batch, which is the log's own. Both checksums are
        checked first. Raises CorruptRecords or UnsupportedCodec."""
        try:
            at = BatchAt(header, 0, 0, len(batch))
            if header.size_bytes != len(batch):
                raise CorruptBatch(f"size {header.size_bytes} in the header, {len(batch)} bytes came")
            verify_batch(batch, at, self._seed)
            field, payload = at.payload(batch)
        except CorruptBatch as error:
            raise self._corrupt(error) from None
        if header.attributes & ATTR_CONTROL or not header.record_count:
            return iter(())
        if header.attributes >> KIND_FROM > 1:
            raise UnsupportedCodec(
                f"{self._topic}-{self._partition} holds a batch at offset {header.base_offset} whose payload (field "
                f"{field}) this client does not know. Next: update the client"
            )
        try:
            plain = bytes(plain_records(header, payload))
            if decode is not None and (first := self._decoded(header, plain, 0, 0, from_offset)) is not None:
                return self._parts(header, plain, from_offset, first)
            records = Records.FromString(plain).records
        except (DecodeError, Malformed, ApiError) as error:
            raise self._corrupt(error) from None
        if len(records) != header.record_count:
            raise self._corrupt(ValueError(f"{len(records)} records, the header says {header.record_count}"))
        return self._each(header, records, from_offset)

    def _decoded(self, header: BatchHeader, plain: bytes, at: int, place: int, from_offset: int) -> _Part | None:
        assert decode is not None
        return decode(
            ConsumerRecord,
            plain,
            at,
            place,
            _AT_ONCE,
            header.record_count,
            self._topic,
            self._partition,
            header.base_offset,
            header.base_timestamp,
            header.attributes & ATTR_LOG_APPEND_TIME,
            header.leader_epoch,
            from_offset,
        )

    def _parts(self, header: BatchHeader, plain: bytes, from_offset: int, part: _Part) -> Iterator[ConsumerRecord]:
        """What the helper makes, of so many records at a time that a large batch does not become objects at once."""
        while True:
            records, at, place = part
            yield from records
            if at == len(plain):
                return
            following = self._decoded(header, plain, at, place, from_offset)
            assert following is not None, "the whole was looked at first"
            part = following

    def _each(self, header: BatchHeader, records: Iterable[Record], from_offset: int) -> Iterator[ConsumerRecord]:
        topic, partition, epoch = self._topic, self._partition, header.leader_epoch
        base, stamp = header.base_offset, header.base_timestamp
        append_time = header.attributes & ATTR_LOG_APPEND_TIME
        for index, record in enumerate(records):
            offset = base + (record.offset_delta if record.HasField("offset_delta") else index)
            if offset < from_offset:
                continue
            headers = record.headers
            yield ConsumerRecord(
                topic,
                partition,
                offset,
                stamp if append_time else stamp + record.timestamp_delta,
                record.key if record.HasField("key") else None,
                record.value if record.HasField("value") else None,
                tuple((h.key, h.value if h.HasField("value") else None) for h in headers) if headers else (),
                epoch,
            )

    def _corrupt(self, error: Exception) -> CorruptRecords:
        return CorruptRecords(
            f"{self._topic}-{self._partition}: {error}. Next: it is read again; if it stays, check the leader's disk"
        )
