"""Batches and fetch results as a node writes them."""

from collections.abc import Sequence

from crc32c import crc32c

from ottla.client.codecs import compress
from ottla.internal.v1.view_pb2 import FetchResultView
from ottla.protocol.batch import (
    PAYLOAD_COMPRESSED,
    PAYLOAD_CONTROL,
    PAYLOAD_RECORDS,
    BatchHeader,
    crc_seed,
    encode_batch,
    read_varint,
)
from ottla.protocol.errors import ApiError
from ottla.v1.data_pb2 import EpochEnd
from ottla.v1.record_pb2 import Record, Records

TOPIC_ID = b"i" * 16


def stored(
    values: Sequence[bytes],
    base_offset: int = 0,
    *,
    epoch: int = 0,
    codec: int = 0,
    attributes: int = 0,
    deltas: Sequence[int] | None = None,
    partition: int = 0,
    payload_field: int | None = None,
    timestamp: int = 1000,
) -> bytes:
    """One batch without its outer tag and length, as FetchResultView has it."""
    records = [
        Record(value=value, timestamp_delta=i, offset_delta=None if deltas is None else deltas[i])
        for i, value in enumerate(values)
    ]
    payload = Records(records=records).SerializeToString()
    if codec:
        payload = compress(codec, payload)
    header = BatchHeader(
        base_offset=base_offset,
        leader_epoch=epoch,
        record_count=len(values),
        last_offset_delta=(len(values) if deltas is None else deltas[-1] + 1) - 1,
        attributes=codec | attributes,
        base_timestamp=timestamp,
        max_timestamp=timestamp,
        payload_crc=crc32c(payload),
    )
    field = payload_field or (PAYLOAD_COMPRESSED if codec else PAYLOAD_RECORDS)
    raw = b"".join(encode_batch(header, crc_seed(TOPIC_ID, partition), payload, field))
    return raw[read_varint(raw, 1)[1] :]


def control(base_offset: int) -> bytes:
    """A marker batch."""
    header = BatchHeader(base_offset, 0, 1, 0, attributes=0x20, payload_crc=crc32c(b""))
    raw = b"".join(encode_batch(header, crc_seed(TOPIC_ID, 0), b"", PAYLOAD_CONTROL))
    return raw[read_varint(raw, 1)[1] :]


def data(*batches: bytes, next_offset: int, epoch: int = 0, seek_id: int = 0) -> FetchResultView:
    return FetchResultView(
        batches=batches, topic="t", topic_id=TOPIC_ID, next_offset=next_offset, leader_epoch=epoch, seek_id=seek_id
    )


def refusal(code: int, **facts: object) -> FetchResultView:
    error = ApiError(code, "told so", **facts)  # type: ignore[arg-type]
    return FetchResultView(topic="t", topic_id=TOPIC_ID, error=error.to_proto().SerializeToString())


def divergence(epoch: int, end_offset: int) -> FetchResultView:
    end = EpochEnd(leader_epoch=epoch, end_offset=end_offset)
    return FetchResultView(topic="t", topic_id=TOPIC_ID, diverging_epoch=end.SerializeToString())
