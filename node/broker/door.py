"""The door: what a producer's batch must be before it may enter the log (protocol.md section 1).

Each payload is checked once, in C: bounded decompression, a typed parse, a checksum. Then the producer's bytes are
stored as they are. Python touches single records only in compacted topics, where each needs a key.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from google.protobuf.message import DecodeError

from node.broker import codecs
from ottla.internal.v1.view_pb2 import RecordBatchView
from ottla.protocol.batch import (
    ATTR_CODEC_MASK,
    ATTR_LOG_APPEND_TIME,
    HEADER_BYTES,
    PAYLOAD_COMPRESSED,
    PAYLOAD_RECORDS,
    BatchHeader,
)
from ottla.protocol.checksum import crc32c
from ottla.protocol.errors import ApiError
from ottla.v1 import error_pb2 as pb
from ottla.v1.record_pb2 import Records

_PRODUCER_BITS: Final = ATTR_CODEC_MASK | ATTR_LOG_APPEND_TIME
_PREFIX_BYTES_MAX: Final = 12
"""Outer tag and length, payload tag and length: what a batch needs beside header and payload, at most."""

_ERRORS_NAMED_MAX: Final = 100


@dataclass(frozen=True, slots=True)
class DoorRules:
    """The topic configs that decide over a batch. Bytes and ms; `compression_codec` None = as the producer sends it."""

    max_message_bytes: int = 1_048_588
    log_append_time: bool = False
    timestamp_before_max_ms: int = (1 << 63) - 1
    timestamp_after_max_ms: int = 3_600_000
    compression_codec: int | None = None
    keys_required: bool = False


class Admitted(NamedTuple):
    """A batch that may be appended. The header lacks what only the append knows: offset, epoch, size, header CRC."""

    header: BatchHeader
    payload: bytes
    payload_field: int


class InvalidRecords(ApiError):
    """INVALID_RECORD that names the records at fault: (index in the batch, what is wrong with it) (KIP-467)."""

    def __init__(self, message: str, record_errors: Sequence[tuple[int, str]]) -> None:
        super().__init__(pb.ERROR_CODE_INVALID_RECORD, message)
        self.record_errors = list(record_errors)


def admit(batch: RecordBatchView, rules: DoorRules, now_ms: int) -> Admitted:
    """Checks a produced batch. `now_ms` is wall-clock time. Raises ApiError: INVALID_RECORD, MESSAGE_TOO_LARGE,
    INVALID_TIMESTAMP or UNSUPPORTED_COMPRESSION_TYPE, with what was wrong. Without side effects."""
    attributes = batch.attributes
    if attributes & ~_PRODUCER_BITS:
        raise _invalid(
            f"attributes {attributes:#x}: a producer may only set a codec (control and transactional bits are refused)"
        )
    codec = attributes & ATTR_CODEC_MASK
    payload, payload_field = _payload(batch, codec)
    size = HEADER_BYTES + _PREFIX_BYTES_MAX + len(payload)
    if size > rules.max_message_bytes:
        raise ApiError(
            pb.ERROR_CODE_MESSAGE_TOO_LARGE,
            f"the batch has {size} bytes, max.message.bytes of the topic is {rules.max_message_bytes}",
        )
    plain = payload if codec == 0 else codecs.decompress(codec, payload)
    count = _parse(plain, rules)
    if batch.record_count not in (0, count) or batch.last_offset_delta not in (0, count - 1):
        raise _invalid(
            f"record_count {batch.record_count} and last_offset_delta {batch.last_offset_delta} do not fit the "
            f"{count} records of the payload"
        )
    base_timestamp, max_timestamp = _times(batch, rules, now_ms)
    payload_crc = batch.payload_crc  # checked by the append, which needs the checksum anyway
    if rules.compression_codec is not None and rules.compression_codec != codec:
        if payload_crc not in (0, crc32c(payload)):
            raise _invalid(f"payload_crc {payload_crc:#010x} is not that of the {len(payload)} payload bytes")
        codec, payload_crc = rules.compression_codec, 0
        payload, payload_field = (
            (codecs.compress(codec, plain), PAYLOAD_COMPRESSED) if codec else (plain, PAYLOAD_RECORDS)
        )
    producer_id, producer_epoch, base_sequence = batch.producer_id, batch.producer_epoch, batch.base_sequence
    if producer_id <= 0:
        if producer_id < 0:
            raise _invalid(f"producer_id {producer_id}: ids start at 1, 0 means none")
        producer_epoch = base_sequence = 0
    elif producer_epoch < 0 or base_sequence < 0:
        raise _invalid(f"producer_epoch {producer_epoch} and base_sequence {base_sequence} must not be negative")
    header = BatchHeader(
        base_offset=0,
        leader_epoch=0,
        record_count=count,
        last_offset_delta=count - 1,
        attributes=codec | (ATTR_LOG_APPEND_TIME if rules.log_append_time else 0),
        base_timestamp=base_timestamp,
        max_timestamp=max_timestamp,
        producer_id=producer_id,
        producer_epoch=producer_epoch,
        base_sequence=base_sequence,
        payload_crc=payload_crc,
    )
    return Admitted(header, payload, payload_field)


def _payload(batch: RecordBatchView, codec: int) -> tuple[bytes, int]:
    kind = batch.WhichOneof("payload")
    if kind == "records":
        if codec:
            raise _invalid(f"attributes name codec {codec}, but the payload is plain records")
        return batch.records, PAYLOAD_RECORDS
    if kind == "compressed_records":
        if not codec:
            raise _invalid("compressed_records needs its codec in attributes")
        return batch.compressed_records, PAYLOAD_COMPRESSED
    if kind is None:
        raise _invalid("the batch has no records")
    raise _invalid(f"a producer may not send a payload of kind {kind}")


def _parse(plain: bytes, rules: DoorRules) -> int:
    try:
        records = Records.FromString(plain).records
    except DecodeError:
        raise _invalid(f"the {len(plain)} payload bytes are not a Records message") from None
    if not records:
        raise _invalid("the batch has no records")
    if rules.keys_required:
        keyless = [index for index, record in enumerate(records) if not record.HasField("key")]
        if keyless:
            raise InvalidRecords(
                f"{len(keyless)} of {len(records)} records have no key, the first is number {keyless[0]}; a compacted "
                "topic keeps the last record of each key",
                [(index, "it has no key") for index in keyless[:_ERRORS_NAMED_MAX]],
            )
    return len(records)


def _times(batch: RecordBatchView, rules: DoorRules, now_ms: int) -> tuple[int, int]:
    """(base, max) timestamp; 0 means not given. Header times are authoritative, records are not looked at."""
    if rules.log_append_time:
        return now_ms, now_ms
    base = batch.base_timestamp or batch.max_timestamp or now_ms
    latest = batch.max_timestamp or max(base, now_ms)
    if base < 0 or latest < base:
        raise ApiError(
            pb.ERROR_CODE_INVALID_TIMESTAMP,
            f"base_timestamp {base} and max_timestamp {latest} must not be negative, nor the second below the first",
        )
    if latest - now_ms > rules.timestamp_after_max_ms:
        raise ApiError(
            pb.ERROR_CODE_INVALID_TIMESTAMP,
            f"max_timestamp {latest} is {latest - now_ms} ms ahead of the leader's clock; "
            f"message.timestamp.after.max.ms is {rules.timestamp_after_max_ms}",
        )
    if now_ms - base > rules.timestamp_before_max_ms:
        raise ApiError(
            pb.ERROR_CODE_INVALID_TIMESTAMP,
            f"base_timestamp {base} is {now_ms - base} ms old; "
            f"message.timestamp.before.max.ms is {rules.timestamp_before_max_ms}",
        )
    return base, latest


def _invalid(message: str) -> ApiError:
    return ApiError(pb.ERROR_CODE_INVALID_RECORD, message)
