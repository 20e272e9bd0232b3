"""The record batch as bytes: the one format of the wire, the partition log and the raft log.

A segment file is a serialized `ottla.v1.Segment`: per batch the tag of field 1, a varint length, then the batch. The
batch starts with a header of fixed-width fields that is always written in full, zeros too, so that it can be read and
patched with `struct`; exactly one payload field follows. docs/storage-format.md is the specification.

Nothing here looks inside a payload, and nothing here does I/O.
"""

import struct
from operator import itemgetter
from typing import Final, NamedTuple

from ottla.protocol.checksum import crc32c

HEADER: Final = struct.Struct("<BIBIBqBiBIBIBIBqBqBqBqBiBiBIBI")
HEADER_BYTES: Final = HEADER.size
FORMAT: Final = (1 << 16) | HEADER_BYTES
"""Format version in the upper half, header length in the lower: a reader that knows neither refuses the batch."""

BATCH_TAG: Final = 0x0A
PAYLOAD_RECORDS: Final = 16
PAYLOAD_COMPRESSED: Final = 17
PAYLOAD_CONTROL: Final = 18
PAYLOAD_KAFKA: Final = 19

ATTR_CODEC_MASK: Final = 0x07
ATTR_LOG_APPEND_TIME: Final = 0x08
ATTR_TRANSACTIONAL: Final = 0x10
ATTR_CONTROL: Final = 0x20
ATTR_DELETE_HORIZON: Final = 0x40
ATTR_IMPORTED: Final = 0x80
"""An import brought it: what its header says of a producer is history (invariants.md 1, 51)."""
# Bits 16 to 31 say of which kind the payload is: ottla/protocol/payloads.py.

CRC_AT: Final = HEADER_BYTES - 5  # everything before the tag of header_crc
_U32: Final = struct.Struct("<I")
TAGS: Final = (0x0D, 0x15, 0x19, 0x25, 0x2D, 0x35, 0x3D, 0x41, 0x49, 0x51, 0x59, 0x65, 0x6D, 0x75, 0x7D)


class CorruptBatch(ValueError):
    """The bytes are not a batch that this (topic id, partition) wrote: says which check failed."""


class BatchHeader(NamedTuple):
    """The fixed fields of a batch. Times in ms since the epoch; `size_bytes` excludes the outer tag and length.

    A tuple, not a dataclass: one is made of every batch that is looked at, in a fifth of the time.
    """

    base_offset: int
    leader_epoch: int
    record_count: int
    last_offset_delta: int
    size_bytes: int = 0
    attributes: int = 0
    base_timestamp: int = 0
    max_timestamp: int = 0
    delete_horizon_ms: int = 0
    producer_id: int = 0
    producer_epoch: int = 0
    base_sequence: int = 0
    payload_crc: int = 0

    @property
    def next_offset(self) -> int:
        """The offset after the last one this batch covers (not `record_count`: compaction leaves gaps)."""
        return self.base_offset + self.last_offset_delta + 1

    @property
    def last_offset(self) -> int:
        return self.base_offset + self.last_offset_delta

    @property
    def codec(self) -> int:
        return self.attributes & ATTR_CODEC_MASK

    @property
    def last_sequence(self) -> int:
        """Sequence of the last record, wrapping at 2^31 like Kafka's (KIP-98)."""
        return (self.base_sequence + self.last_offset_delta) & 0x7FFFFFFF


_FIELDS: Final = itemgetter(5, 7, 11, 13, 3, 9, 15, 17, 19, 21, 23, 25, 27)
"""The fields of a `BatchHeader`, in its order, out of an unpacked `HEADER`."""


def crc_seed(topic_id: bytes, partition: int) -> int:
    """What `header_crc` is seeded with, so that a batch of another partition never passes for ours."""
    return int(crc32c(topic_id + struct.pack("<i", partition)))


def varint(value: int) -> bytes:
    """Unsigned LEB128, as protobuf writes lengths."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_varint(data: bytes | bytearray | memoryview, at: int) -> tuple[int, int]:
    """Returns (value, position after it). Raises CorruptBatch if the data ends inside or it is longer than 10 bytes."""
    value = shift = 0
    while at < len(data) and shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise CorruptBatch("length prefix is incomplete")


def encode_header(header: BatchHeader, seed: int) -> bytes:
    """The header's bytes with `header_crc` computed over everything before it."""
    return _pack(header, header.size_bytes, header.base_offset, header.leader_epoch, header.payload_crc, seed)


def _pack(h: BatchHeader, size_bytes: int, base_offset: int, leader_epoch: int, payload_crc: int, seed: int) -> bytes:
    # What the leader stamps comes as arguments: replacing fields of a header costs as much as the packing.
    t = TAGS
    # fmt: off
    raw = HEADER.pack(
        t[0], FORMAT, t[1], size_bytes, t[2], base_offset, t[3], leader_epoch, t[4], h.attributes,
        t[5], h.record_count, t[6], h.last_offset_delta, t[7], h.base_timestamp, t[8], h.max_timestamp,
        t[9], h.delete_horizon_ms, t[10], h.producer_id, t[11], h.producer_epoch, t[12], h.base_sequence,
        t[13], payload_crc, t[14], 0,
    )
    # fmt: on
    return raw[:-4] + _U32.pack(crc32c(raw[:CRC_AT], seed))


def decode_header(data: bytes | bytearray | memoryview, at: int = 0) -> BatchHeader:
    """Reads the header of the batch that starts at `at` (after tag and length). Checks the shape, not the checksum."""
    if len(data) - at < HEADER_BYTES:
        raise CorruptBatch(f"header needs {HEADER_BYTES} bytes, {len(data) - at} are left")
    v = HEADER.unpack_from(data, at)
    if v[0::2] != TAGS:
        raise CorruptBatch("header fields are not in their fixed order")
    if v[1] != FORMAT:
        raise CorruptBatch(f"unknown batch format {v[1]:#x}")
    return BatchHeader._make(_FIELDS(v))


def check_header_crc(data: bytes | bytearray | memoryview, at: int, seed: int) -> bool:
    """Whether the header at `at` carries the checksum that its own bytes and `seed` give."""
    return bool(_U32.unpack_from(data, at + HEADER_BYTES - 4)[0] == crc32c(data[at : at + CRC_AT], seed))


def encode_batch(header: BatchHeader, seed: int, payload: bytes, payload_field: int = PAYLOAD_RECORDS) -> list[bytes]:
    """Buffers of one stored batch, ready for `writev`: everything before the payload, then the payload.

    `size_bytes` is filled in; every other field of `header` is taken as it is.
    """
    prefix = stamp_batch(
        header, seed, len(payload), payload_field, header.base_offset, header.leader_epoch, header.payload_crc
    )
    return [prefix, payload]


def stamp_batch(
    header: BatchHeader,
    seed: int,
    payload_bytes: int,
    payload_field: int,
    base_offset: int,
    leader_epoch: int,
    payload_crc: int,
) -> bytes:
    """What comes before the payload of a stored batch - tag, length, header, payload tag and length - as the leader
    stamps it: with its own offset, epoch, checksums and the size; the other fields are those of `header`."""
    payload_prefix = varint(payload_field << 3 | 2) + varint(payload_bytes)
    size = HEADER_BYTES + len(payload_prefix) + payload_bytes
    head = _pack(header, size, base_offset, leader_epoch, payload_crc, seed)
    return b"".join((b"\x0a", varint(size), head, payload_prefix))


STORED_OVERHEAD_MAX: Final = HEADER_BYTES + 1 + 2 + 2 * 5
"""What a batch in the log has besides its payload, at most: `stored_bytes` says how much exactly."""


def stored_bytes(payload_field: int, payload_bytes: int) -> int:
    """How many bytes a batch with such a payload has in the log, its outer tag and length included: what
    max.message.bytes limits."""
    size = HEADER_BYTES + _varint_bytes(payload_field << 3 | 2) + _varint_bytes(payload_bytes) + payload_bytes
    return 1 + _varint_bytes(size) + size


def _varint_bytes(value: int) -> int:
    return (value.bit_length() + 6) // 7 or 1


_EXTENT: Final = struct.Struct("<BIBIBqBiBIBIBI")
EXTENT_BYTES: Final = 11 + _EXTENT.size
"""What `read_extent` may need to see of a batch, its tag and the longest length prefix included."""


def read_extent(data: bytes | bytearray | memoryview, at: int) -> tuple[int, int, int]:
    """(base offset, next offset, length with tag and prefix) of the batch whose outer tag is at `at`.

    The cheap look for finding one's way in a log: the batch need not be in `data` as a whole, `EXTENT_BYTES` of it or
    its end are enough. Raises CorruptBatch where no batch starts; checks no checksum.
    """
    try:
        if data[at] != BATCH_TAG:
            raise CorruptBatch(f"no batch starts here: byte {data[at]:#04x}")
        size, body = read_varint(data, at + 1)
        v = _EXTENT.unpack_from(data, body)
    except (IndexError, struct.error):
        raise CorruptBatch("the data ends inside a batch header") from None
    if v[1] != FORMAT or v[3] != size or v[4] != TAGS[2] or v[12] != TAGS[6]:
        raise CorruptBatch("batch header and length prefix do not agree")
    return v[5], v[5] + v[13] + 1, body - at + size


class BatchAt(NamedTuple):
    """A batch inside a buffer: `start` is its outer tag, `body` its header, `end` the position after it."""

    header: BatchHeader
    start: int
    body: int
    end: int

    def payload(self, data: bytes | bytearray | memoryview) -> tuple[int, memoryview]:
        """(field number, bytes) of the payload. Raises CorruptBatch unless exactly one fills the batch."""
        key, at = read_varint(data, self.body + HEADER_BYTES)
        length, at = read_varint(data, at)
        if key & 7 != 2 or key >> 3 < PAYLOAD_RECORDS or at + length != self.end:
            raise CorruptBatch("batch does not hold exactly one payload")
        return key >> 3, memoryview(data)[at : self.end]


def read_batch(data: bytes | bytearray | memoryview, at: int) -> BatchAt | None:
    """The batch whose outer tag is at `at`, or None if the data ends before the batch does. No checksum is checked."""
    if at >= len(data):
        return None
    if data[at] != BATCH_TAG:
        raise CorruptBatch(f"no batch starts here: byte {data[at]:#04x} at {at}")
    try:
        size, body = read_varint(data, at + 1)
    except CorruptBatch:
        if len(data) - at > 10:
            raise
        return None
    if size < HEADER_BYTES:
        raise CorruptBatch(f"batch of {size} bytes is shorter than its header")
    if len(data) - body < HEADER_BYTES:
        return None
    header = decode_header(data, body)
    if header.size_bytes != size:
        raise CorruptBatch(f"size {header.size_bytes} in the header, {size} in the length prefix")
    end = body + size
    return BatchAt(header, at, body, end) if end <= len(data) else None
