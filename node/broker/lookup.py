"""The rare looks into stored batches: for the record of a time, and for readers that know no codec."""

from node.broker import codecs
from ottla.protocol.batch import ATTR_CODEC_MASK, BatchAt, BatchHeader, CorruptBatch, encode_batch, read_batch
from ottla.protocol.checksum import crc32c
from ottla.v1.record_pb2 import Codec, Records

EVERY_CODEC = frozenset({Codec.CODEC_GZIP, Codec.CODEC_SNAPPY, Codec.CODEC_LZ4, Codec.CODEC_ZSTD})


def record_at(data: bytes, timestamp_ms: int) -> tuple[int, int]:
    """(offset, timestamp) of the first record in a stored batch that is as late as `timestamp_ms` or later.

    The header's times are authoritative: where no record says so itself, it is the first one (LogAppendTime) or the
    last. Raises CorruptBatch, ApiError.
    """
    batch = _batch(data, 0)
    header = batch.header
    if header.base_timestamp >= timestamp_ms:
        return header.base_offset, header.base_timestamp
    records = Records.FromString(_plain(data, batch)).records
    for place, record in enumerate(records):
        at = header.base_timestamp + record.timestamp_delta
        if at >= timestamp_ms:
            return _offset(header, place, record.offset_delta if record.HasField("offset_delta") else None), at
    return header.last_offset, header.max_timestamp


def written_ms(data: bytes, offset: int) -> int:
    """The timestamp of the first record at or after `offset` in a stored batch. Raises CorruptBatch, ApiError."""
    batch = _batch(data, 0)
    header = batch.header
    for place, record in enumerate(Records.FromString(_plain(data, batch)).records):
        if _offset(header, place, record.offset_delta if record.HasField("offset_delta") else None) >= offset:
            return header.base_timestamp + record.timestamp_delta
    return header.max_timestamp


def readable(data: bytes, accept: frozenset[int], seed: int, max_bytes: int) -> tuple[bytes, int | None]:
    """The slice with what the reader does not accept decompressed, offsets kept; `seed` is the partition's for header
    checksums. At most `max_bytes`, but at least one batch: (data, next offset if the slice was cut short).
    """
    if accept >= EVERY_CODEC:
        return data, None
    parts: list[bytes] = []
    size = at = 0
    changed = False
    while at < len(data):
        batch = _batch(data, at)
        if batch.header.codec == Codec.CODEC_NONE or batch.header.codec in accept:
            pieces = [data[batch.start : batch.end]] if changed else []
            grown = batch.end - batch.start
        else:
            if not changed:
                parts, changed = [data[:at]], True
            plain = _plain(data, batch)
            attributes = batch.header.attributes & ~ATTR_CODEC_MASK
            pieces = encode_batch(batch.header._replace(attributes=attributes, payload_crc=crc32c(plain)), seed, plain)
            grown = sum(map(len, pieces))
        if size and size + grown > max_bytes:
            return (b"".join(parts) if changed else data[:at]), batch.header.base_offset
        parts += pieces
        size += grown
        at = batch.end
    return (b"".join(parts) if changed else data), None


def _offset(header: BatchHeader, place: int, delta: int | None) -> int:
    return header.base_offset + (place if delta is None else delta)


def _batch(data: bytes, at: int) -> BatchAt:
    batch = read_batch(data, at)
    if batch is None:
        raise CorruptBatch(f"the slice ends inside the batch at byte {at}")
    return batch


def _plain(data: bytes, batch: BatchAt) -> bytes:
    _, payload = batch.payload(data)
    codec = batch.header.codec
    return bytes(payload) if codec == Codec.CODEC_NONE else bytes(codecs.decompress(codec, payload))
