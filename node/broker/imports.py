"""What an import brings to a partition: looked at as at the door, then appended with the offsets that it has
(invariants.md 1, 48 to 52).

The bytes of a payload stay. So do offsets, times and what the header says of a producer; the leader's epoch, the
header's checksum and the mark of an import are made here.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from node.broker import kafka_codecs, refusals
from node.broker.partition import Partition
from ottla.protocol.batch import (
    ATTR_CODEC_MASK,
    ATTR_DELETE_HORIZON,
    ATTR_IMPORTED,
    ATTR_LOG_APPEND_TIME,
    BatchHeader,
    CorruptBatch,
    crc_seed,
    read_batch,
    stamp_batch,
)
from ottla.protocol.errors import ApiError
from ottla.protocol.payloads import ATTR_KAFKA, each, packed_records, payload_field_of, sealed, verify_batch
from ottla.protocol.records import RECORDS_MAX
from ottla.protocol.walk import Malformed, Plain
from ottla.v1 import error_pb2 as pb
from storage.errors import StorageError

_KNOWN_BITS: Final = ATTR_CODEC_MASK | ATTR_LOG_APPEND_TIME | ATTR_DELETE_HORIZON | ATTR_IMPORTED | ATTR_KAFKA
_OFFSET_MAX: Final = (1 << 63) - 2


class Imported(NamedTuple):
    """A batch that was looked at. The payload is a part of what was received."""

    header: BatchHeader
    payload: memoryview


def checked(data: bytes, source_topic_id: bytes, number: int, producer_ids_end: int) -> list[Imported]:
    """The batches of a slice of the source's log, each as true as one that a producer sent: both checksums, and that
    its records are as many, at the offsets and of the times that its header says. `producer_ids_end`: no id as high was
    given to anybody yet. On any thread. Raises ApiError: CORRUPT_MESSAGE, INVALID_RECORD among others."""
    seed = crc_seed(source_topic_id, number)
    batches: list[Imported] = []
    at, expected = 0, 0
    try:
        while at < len(data):
            batch = read_batch(data, at)
            if batch is None:
                raise CorruptBatch(f"the slice ends inside the batch at byte {at}")
            verify_batch(data, batch, seed)
            header, payload = batch.header, batch.payload(data)[1]
            if not expected <= header.base_offset <= header.last_offset <= _OFFSET_MAX:
                raise CorruptBatch(f"offsets {header.base_offset} to {header.last_offset} come after {expected}")
            _check(header, payload, producer_ids_end)
            batches.append(Imported(header, payload))
            at, expected = batch.end, header.next_offset
    except CorruptBatch as error:
        raise ApiError(pb.ERROR_CODE_CORRUPT_MESSAGE, f"what was sent is no slice of that log: {error}") from None
    return batches


def _check(header: BatchHeader, payload: memoryview, producer_ids_end: int) -> None:
    """Raises ApiError."""
    attributes = header.attributes
    if attributes & ~_KNOWN_BITS:
        raise _refused(header, f"attributes {attributes:#x} say that it is of a kind that is not imported")
    if not 0 <= header.producer_id < max(1, producer_ids_end):
        raise _refused(header, f"producer id {header.producer_id} is not below {producer_ids_end}, as was announced")
    if header.record_count > RECORDS_MAX:
        raise _refused(header, f"{header.record_count} records are more than {RECORDS_MAX}")
    try:
        count, last, newest = _walked(attributes, _plain(attributes, payload))
    except (Malformed, CorruptBatch) as error:
        raise _refused(header, str(error)) from None
    if count != header.record_count or last > header.last_offset_delta:
        raise _refused(
            header,
            f"it has {count} records, the last at offset {header.base_offset + last}; its header says "
            f"{header.record_count}, the last at {header.last_offset} at most",
        )
    by_record = count and not attributes & ATTR_LOG_APPEND_TIME
    if header.base_timestamp < 0 or (by_record and header.base_timestamp + newest > header.max_timestamp):
        raise _refused(header, f"it has records later than its max_timestamp {header.max_timestamp}, or before 1970")


def _plain(attributes: int, payload: memoryview) -> Plain:
    packed = packed_records(attributes, payload)
    codec = attributes & ATTR_CODEC_MASK
    return kafka_codecs.unpack(codec | attributes & ATTR_KAFKA, packed) if codec else packed


def _walked(attributes: int, plain: Plain) -> tuple[int, int, int]:
    """(how many records, the largest offset delta, the largest timestamp delta). Raises Malformed."""
    count, last, newest = 0, -1, -(1 << 63)
    for place, spot in enumerate(each(attributes, plain)):
        delta = place if spot.offset_delta is None else spot.offset_delta
        if delta <= last:
            raise Malformed(f"record {place} has offset delta {delta}, the one before has {last}")
        count, last, newest = count + 1, delta, max(newest, spot.timestamp_delta)
    return count, last, newest


def _refused(header: BatchHeader, why: str) -> ApiError:
    return ApiError(pb.ERROR_CODE_INVALID_RECORD, f"the batch at offset {header.base_offset} is not imported: {why}")


def append(partition: Partition, batches: Sequence[Imported], log_end: int, now_ms: int) -> tuple[int, int]:
    """Appends batches where the log ends, if it ends at `log_end`; returns the leader epoch and where it ends now. All
    or nothing. Raises ApiError: OFFSET_OUT_OF_RANGE where it ends elsewhere, and what `Partition.append` does."""
    leader, log = partition.leading(None), partition.log
    if not batches:
        return leader.leader_epoch, log.log_end_offset
    if not partition.settings.importing:
        raise ApiError(pb.ERROR_CODE_INVALID_REQUEST, f"{partition.topic} is not being imported")
    if log_end != log.log_end_offset or batches[0].header.base_offset < log_end:
        raise ApiError(
            pb.ERROR_CODE_OFFSET_OUT_OF_RANGE,
            f"{partition.name} ends at offset {log.log_end_offset}, the import goes on at {log_end} with a batch at "
            f"{batches[0].header.base_offset}",
            next_step="ask where it ends, by a call without batches, and go on there",
        )
    if not leader.enough_in_sync:
        raise refusals.not_enough_replicas(partition.name, leader)
    if leader.full and (full := leader.without_room):
        raise refusals.disks_full(partition.name, full, leader)
    seed = crc_seed(partition.topic_id, partition.number)
    data = b"".join(piece for batch in batches for piece in _stamped(batch, seed, leader.leader_epoch))
    try:
        headers = log.append_as_follower(data, leader_epoch=leader.leader_epoch, now_ms=now_ms)
    except (StorageError, OSError) as error:
        raise partition.storage_error(error) from None
    partition.appended(leader, headers, len(data))
    return leader.leader_epoch, log.log_end_offset


def _stamped(batch: Imported, seed: int, leader_epoch: int) -> tuple[bytes, bytes | memoryview, memoryview]:
    """The batch as it is stored."""
    header, payload = batch
    header = header._replace(attributes=header.attributes | ATTR_IMPORTED)
    head, rest, crc = b"", payload, header.payload_crc
    if header.attributes & ATTR_KAFKA:
        head, rest, crc = sealed(header, payload, header.base_offset, leader_epoch)
    field = payload_field_of(header.attributes)
    return stamp_batch(header, seed, len(payload), field, header.base_offset, leader_epoch, crc), head, rest
