"""Kafka's record batch (magic 2) around its records: read, check as a producer's, build.

A batch is 61 bytes of header and then records, compressed as a whole or not. Its crc covers everything from the
attributes on, so the offset and the leader epoch, which the leader sets, are outside of it.
"""

from collections.abc import Iterator
from struct import Struct
from typing import Final, NamedTuple

from node.kafka.wire import Buffer
from ottla.protocol.checksum import crc32c
from ottla.protocol.payloads import KAFKA_CRC_FROM, KAFKA_HEADER, KAFKA_LENGTH_FROM

HEADER: Final = KAFKA_HEADER
_SIZE_AT: Final = Struct(">qi")
MAGIC_AT: Final = 16
MAGIC: Final = 2

CODEC_BITS: Final = 0x07
LOG_APPEND_TIME: Final = 0x08
TRANSACTIONAL: Final = 0x10
CONTROL: Final = 0x20
DELETE_HORIZON: Final = 0x40
ZSTD: Final = 4
_NOT_A_PRODUCERS: Final = {
    LOG_APPEND_TIME: "says that the broker set its times",
    TRANSACTIONAL: "belongs to a transaction, and transactions are not served",
    CONTROL: "is a control batch, which brokers alone write",
    DELETE_HORIZON: "has a delete horizon, which brokers alone set",
}

CORRUPT_MESSAGE: Final = 2
MESSAGE_TOO_LARGE: Final = 10
UNSUPPORTED_COMPRESSION_TYPE: Final = 76
INVALID_RECORD: Final = 87


class BatchRefused(ValueError):
    """A producer's batch that is not taken: `code` is the error code of its partition."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class KafkaBatch(NamedTuple):
    """The header. `producer_id`, `producer_epoch` and `base_sequence` are -1 without an idempotent producer."""

    base_offset: int
    length: int
    leader_epoch: int
    magic: int
    crc: int
    attributes: int
    last_offset_delta: int
    base_timestamp: int
    max_timestamp: int
    producer_id: int
    producer_epoch: int
    base_sequence: int
    record_count: int

    @property
    def codec(self) -> int:
        return self.attributes & CODEC_BITS

    @property
    def size_bytes(self) -> int:
        return self.length + KAFKA_LENGTH_FROM


def admit(batch: Buffer, max_bytes: int, version: int) -> KafkaBatch:
    """The header of a producer's batch, all of which is checked but its records. `version` is the request's."""
    head = read(batch, max_bytes)
    check_crc(batch, head)
    check_fields(head, version)
    return head


def read(batch: Buffer, max_bytes: int) -> KafkaBatch:
    """The header of a producer's batch: it is one whole batch, no more is checked."""
    size = len(batch)
    if size > max_bytes:
        raise BatchRefused(
            MESSAGE_TOO_LARGE, f"the batch has {size} bytes, at most {max_bytes} are taken (max.message.bytes)"
        )
    if size > MAGIC_AT and batch[MAGIC_AT] != MAGIC:
        raise BatchRefused(INVALID_RECORD, f"the batch has magic {batch[MAGIC_AT]}; only {MAGIC} is taken")
    if size < HEADER.size:
        raise BatchRefused(CORRUPT_MESSAGE, f"the batch has {size} bytes, its header alone has {HEADER.size}")
    head = KafkaBatch._make(HEADER.unpack_from(batch))
    if head.size_bytes != size:
        what = "more than one batch for a partition, or half of one"
        raise BatchRefused(INVALID_RECORD, f"the batch says {head.size_bytes} bytes and there are {size}: {what}")
    return head


def check_crc(batch: Buffer, head: KafkaBatch) -> None:
    if crc32c(memoryview(batch)[KAFKA_CRC_FROM:]) != head.crc:
        raise BatchRefused(CORRUPT_MESSAGE, "the batch's checksum does not match: it was damaged on its way")


def check_fields(head: KafkaBatch, version: int) -> None:
    for bit, meaning in _NOT_A_PRODUCERS.items():
        if head.attributes & bit:
            raise BatchRefused(INVALID_RECORD, f"the batch {meaning}")
    if head.attributes & ~CODEC_BITS:
        raise BatchRefused(INVALID_RECORD, f"the batch has unknown attributes {head.attributes:#x}")
    if head.codec > ZSTD:
        raise BatchRefused(UNSUPPORTED_COMPRESSION_TYPE, f"there is no codec {head.codec}")
    if head.codec == ZSTD and version < 7:
        raise BatchRefused(UNSUPPORTED_COMPRESSION_TYPE, "zstd needs version 7 of Produce or later")
    if head.record_count < 1 or head.record_count != head.last_offset_delta + 1:
        raise BatchRefused(
            INVALID_RECORD,
            f"the batch says {head.record_count} records and a last offset delta of {head.last_offset_delta}",
        )
    if head.producer_id >= 0 and (head.producer_epoch < 0 or head.base_sequence < 0):
        raise BatchRefused(
            INVALID_RECORD,
            f"producer {head.producer_id} has epoch {head.producer_epoch} and sequence {head.base_sequence}",
        )


def records_of(batch: Buffer) -> memoryview:
    """What follows the header: the records, or what compression made of them."""
    return memoryview(batch)[HEADER.size :]


def batches_in(data: Buffer) -> Iterator[memoryview]:
    """The whole batches of a slice; what is left at its end, half of one, is let be."""
    view, at = memoryview(data), 0
    while len(view) - at >= HEADER.size:
        _, length = _SIZE_AT.unpack_from(view, at)
        if length < HEADER.size - KAFKA_LENGTH_FROM:
            raise ValueError(f"a batch of {length} bytes at {at}")
        end = at + KAFKA_LENGTH_FROM + length
        if end > len(view):
            return
        yield view[at:end]
        at = end


def stamp(batch: bytearray | memoryview, base_offset: int, leader_epoch: int) -> None:
    """Sets what the leader sets, in place; the checksum covers neither."""
    _STAMP_OFFSET.pack_into(batch, 0, base_offset)
    _STAMP_EPOCH.pack_into(batch, 12, leader_epoch)


_STAMP_OFFSET: Final = Struct(">q")
_STAMP_EPOCH: Final = Struct(">i")


def build(head: KafkaBatch, records: bytes) -> bytes:
    """A batch of these records; its length and its checksum are set here."""
    length = HEADER.size - KAFKA_LENGTH_FROM + len(records)
    fixed = HEADER.pack(*head._replace(length=length, magic=MAGIC, crc=0))
    crc = crc32c(fixed[KAFKA_CRC_FROM:] + records)
    return HEADER.pack(*head._replace(length=length, magic=MAGIC, crc=crc)) + records
