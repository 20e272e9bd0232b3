"""Batches on their way through the door: Kafka's into the log's form, and back for who reads.

Key, value, headers, times, codec and the producer's numbers stay; what a batch's records are is looked at once.
"""

from collections import OrderedDict
from typing import Final, NamedTuple

from node.broker import codecs, door
from node.broker.door import Admitted, DoorRules, Heavy, OnLoop
from node.broker.kafka_codecs import fold, within
from node.kafka import batch as kafka
from node.kafka.wire import Buffer
from ottla.protocol.batch import (
    ATTR_CODEC_MASK,
    ATTR_CONTROL,
    ATTR_LOG_APPEND_TIME,
    PAYLOAD_COMPRESSED,
    PAYLOAD_RECORDS,
    BatchAt,
    BatchHeader,
    CorruptBatch,
    read_batch,
)
from ottla.protocol.errors import ApiError
from ottla.protocol.kafka import to_kafka, to_ottla
from ottla.protocol.kafka_codecs import unfold
from ottla.protocol.kafka_records import InvalidRecords
from ottla.protocol.payloads import KIND_FROM
from ottla.protocol.records import RECORDS_MAX
from ottla.protocol.walk import Plain
from ottla.v1 import error_pb2 as pb

NONE: Final = -1


class Sent(NamedTuple):
    """A batch as a client sent it, in a version of Produce."""

    data: Buffer
    version: int


def admit(sent: Sent, rules: DoorRules, now_ms: int, room: OnLoop | None) -> Admitted:
    """A producer's batch as the log keeps it. Raises ApiError; Heavy if there is not so much `room`."""
    try:
        head = kafka.admit(sent.data, rules.max_message_bytes, sent.version)
    except kafka.BatchRefused as error:
        raise ApiError(error.code, str(error)) from None
    if head.record_count > RECORDS_MAX:
        raise ApiError(
            pb.ERROR_CODE_MESSAGE_TOO_LARGE, f"the batch has more than {RECORDS_MAX} records; send fewer in one batch"
        )
    if room is not None and head.record_count > room.records:
        raise Heavy
    plain = _to_plain(sent, head, room)
    base = head.base_timestamp if head.base_timestamp >= 0 else None
    count, base_timestamp, max_timestamp = door.look(plain, base, 0, rules, now_ms, room)
    codec = head.codec if rules.compression_codec is None else rules.compression_codec
    payload, payload_field = plain, PAYLOAD_RECORDS
    if codec:
        if room is not None:
            room.fold(len(plain))
        payload, payload_field = codecs.compress(codec, plain), PAYLOAD_COMPRESSED
    header = door.header_of(codec, count, (base_timestamp, max_timestamp), producer_of(head), rules)
    return Admitted(header, payload, payload_field, rules)


def producer_of(head: kafka.KafkaBatch) -> tuple[int, int, int]:
    """(id, epoch, base sequence), zeros without one. Raises UNKNOWN_PRODUCER_ID."""
    if head.producer_id == 0:
        raise ApiError(pb.ERROR_CODE_UNKNOWN_PRODUCER_ID, "producer id 0 is never given: ask InitProducerId")
    return (head.producer_id, head.producer_epoch, head.base_sequence) if head.producer_id > 0 else (0, 0, 0)


def _to_plain(sent: Sent, head: kafka.KafkaBatch, room: OnLoop | None) -> bytes:
    plain = unfold(head.codec, kafka.records_of(sent.data), within(room))
    if room is not None:
        room.convert(len(plain))
    try:
        return to_ottla(plain, head.record_count)
    except InvalidRecords as error:
        raise ApiError(pb.ERROR_CODE_INVALID_RECORD, f"the batch's records cannot be read: {error}") from None


def batches_of(data: bytes) -> list[BatchAt]:
    """The batches of a slice of a log. Raises CorruptBatch."""
    found, at = [], 0
    while at < len(data):
        batch = read_batch(data, at)
        if batch is None:
            raise CorruptBatch(f"the slice ends inside the batch at byte {at}")
        found.append(batch)
        at = batch.end
    return found


def as_stored(data: bytes, batch: BatchAt) -> memoryview | None:
    """The bytes of a batch that is stored as Kafka's clients read it, else None. Raises ApiError, CorruptBatch."""
    kind = batch.header.attributes >> KIND_FROM
    if kind > 1:
        raise ApiError(
            pb.ERROR_CODE_UNSUPPORTED_VERSION,
            f"the batch at offset {batch.header.base_offset} is of a kind that this node does not know: update it",
        )
    return batch.payload(data)[1] if kind else None


def to_client(data: bytes, batch: BatchAt, room: OnLoop | None = None) -> bytes:
    """A stored batch as clients of Kafka read it. Raises ApiError or CorruptBatch where it cannot be read; Heavy if
    there is not so much `room` on the loop (None: this is a thread)."""
    header = batch.header
    _, payload = batch.payload(data)
    records, count, codec = b"", 0, 0
    if header.record_count and not header.attributes & ATTR_CONTROL:
        codec = header.codec
        plain = _unfolded(codec, payload, room)
        if room is not None:
            room.walked(header.record_count)
            room.convert(len(plain))
        records, count = to_kafka(plain)
        if codec and room is not None:
            room.fold(len(records))
    numbers = (NONE, NONE, NONE)
    if header.producer_id:
        numbers = header.producer_id, header.producer_epoch, header.base_sequence
    return kafka.build(
        kafka.KafkaBatch(
            header.base_offset,
            0,
            header.leader_epoch,
            kafka.MAGIC,
            0,
            header.attributes & (ATTR_CODEC_MASK if count else 0) | header.attributes & ATTR_LOG_APPEND_TIME,
            header.last_offset_delta,
            header.base_timestamp,
            header.max_timestamp,
            *numbers,
            count,
        ),
        fold(codec, records) if count else b"",
    )


def _unfolded(codec: int, payload: memoryview, room: OnLoop | None) -> Plain:
    if not codec:
        return payload
    return codecs.decompress(codec, payload) if room is None else room.unfold(codec, payload)


class Converted:
    """Batches that were made for one reader, for those that read the same soon after; within so many bytes."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._kept: OrderedDict[tuple[bytes, int, BatchHeader], bytes] = OrderedDict()
        self.held_bytes = 0

    def get(self, topic_id: bytes, partition: int, header: BatchHeader) -> bytes | None:
        key = topic_id, partition, header
        found = self._kept.get(key)
        if found is not None:
            self._kept.move_to_end(key)
        return found

    def put(self, topic_id: bytes, partition: int, header: BatchHeader, made: bytes) -> None:
        key = topic_id, partition, header
        if key in self._kept or len(made) > self._max_bytes:
            return
        self._kept[key] = made
        self.held_bytes += len(made)
        while self.held_bytes > self._max_bytes:
            self.held_bytes -= len(self._kept.popitem(last=False)[1])
