"""What the payload of a batch is, by its header: the registry of kinds (docs/protocol.md section 1).

Bits 16 to 31 of the attributes name the kind: 0 is Ottla's own - records, compressed or not, and markers - and 1 a
Kafka batch, kept as its producer sent it. No checksum covers the tag of a payload field: the kind says which it is.
Of a kind that is not known here only the shape and the header's checksum can be checked: it is opaque, never corrupt.

The first 61 bytes of a Kafka batch are its header. `payload_crc` is Kafka's own checksum, of everything behind its
first 21 bytes; all 61 are a function of Ottla's header and the size, so they are made again and compared.
"""

from collections.abc import Iterator
from struct import Struct
from struct import error as StructError
from typing import Final

from ottla.protocol import kafka, kafka_records, walk
from ottla.protocol.batch import (
    ATTR_CODEC_MASK,
    ATTR_CONTROL,
    BATCH_TAG,
    CRC_AT,
    FORMAT,
    HEADER,
    HEADER_BYTES,
    PAYLOAD_COMPRESSED,
    PAYLOAD_CONTROL,
    PAYLOAD_KAFKA,
    PAYLOAD_RECORDS,
    TAGS,
    BatchAt,
    BatchHeader,
    CorruptBatch,
    check_header_crc,
    decode_header,
    read_varint,
)
from ottla.protocol.checksum import crc32c
from ottla.protocol.walk import Plain, Spot

KIND_FROM: Final = 16
"""The lowest of the attribute bits that are the kind."""
ATTR_KIND_MASK: Final = 0xFFFF << KIND_FROM
ATTR_KAFKA: Final = 1 << KIND_FROM
LATER: Final = 0
"""The payload field of a kind that is not known here: any behind those that are."""

KAFKA_HEADER: Final = Struct(">qiibIhiqqqhii")
KAFKA_HEADER_BYTES: Final = KAFKA_HEADER.size
KAFKA_CRC_FROM: Final = 21
KAFKA_LENGTH_FROM: Final = 12
"""The length that a Kafka batch says counts what follows these bytes."""
KAFKA_MAGIC: Final = 2
_CRC: Final = slice(17, 21)
_KAFKA_BITS: Final = 0x3F
_NO_PRODUCER: Final = (-1, -1, -1)


def payload_field_of(attributes: int) -> int:
    """The field that holds the payload of a batch with these attributes, `LATER` where they are of no known kind."""
    if attributes >> KIND_FROM:
        return PAYLOAD_KAFKA if attributes >> KIND_FROM == 1 else LATER
    if attributes & ATTR_CONTROL:
        return PAYLOAD_CONTROL
    return PAYLOAD_COMPRESSED if attributes & ATTR_CODEC_MASK else PAYLOAD_RECORDS


def kafka_header(h: BatchHeader, size_bytes: int, base_offset: int, leader_epoch: int, crc: int) -> bytes:
    """The header that a Kafka batch of so many bytes has in a batch with header `h`. Raises CorruptBatch for what
    Kafka's fields cannot hold."""
    producer = (h.producer_id, h.producer_epoch, h.base_sequence) if h.producer_id else _NO_PRODUCER
    try:
        return KAFKA_HEADER.pack(
            base_offset,
            size_bytes - KAFKA_LENGTH_FROM,
            leader_epoch,
            KAFKA_MAGIC,
            crc,
            h.attributes & _KAFKA_BITS,
            h.last_offset_delta,
            h.base_timestamp,
            h.max_timestamp,
            *producer,
            h.record_count,
        )
    except StructError as error:
        raise CorruptBatch(f"no Kafka batch has such a header: {error}") from None


def sealed(h: BatchHeader, payload: Plain, base_offset: int, leader_epoch: int) -> tuple[bytes, memoryview, int]:
    """A Kafka batch as the leader stores it at an offset: (its header, the bytes behind it, which stay, its checksum).

    Its own checksum is checked. Where its fields differ from what `h` says, as under log append time, they are set, and
    the checksum is made anew. Raises CorruptBatch.
    """
    view = memoryview(payload)
    crc = crc32c(view[KAFKA_CRC_FROM:])
    if crc != int.from_bytes(view[_CRC], "big"):
        raise CorruptBatch("payload checksum does not match the payload")
    head = kafka_header(h, len(view), base_offset, leader_epoch, crc)
    rest = view[KAFKA_HEADER_BYTES:]
    if head[KAFKA_CRC_FROM:] != view[KAFKA_CRC_FROM:KAFKA_HEADER_BYTES]:
        crc = crc32c(rest, crc32c(head[KAFKA_CRC_FROM:]))
        head = kafka_header(h, len(view), base_offset, leader_epoch, crc)
    return head, rest, crc


def packed_records(attributes: int, payload: memoryview) -> memoryview:
    """The part of a payload that the codec is about. Raises CorruptBatch."""
    if not attributes & ATTR_KAFKA:
        return payload
    if len(payload) < KAFKA_HEADER_BYTES:
        raise CorruptBatch(f"a Kafka batch of {len(payload)} bytes is shorter than its header")
    return payload[KAFKA_HEADER_BYTES:]


def repacked(h: BatchHeader, packed: bytes) -> tuple[BatchHeader, bytes]:
    """(header with its `payload_crc`, payload) of a batch that is made anew from such records, at its offset."""
    if not h.attributes & ATTR_KAFKA:
        return h._replace(payload_crc=crc32c(packed)), packed
    size = KAFKA_HEADER_BYTES + len(packed)
    head = kafka_header(h, size, h.base_offset, h.leader_epoch, 0)
    crc = crc32c(packed, crc32c(head[KAFKA_CRC_FROM:]))
    head = kafka_header(h, size, h.base_offset, h.leader_epoch, crc)
    return h._replace(payload_crc=crc), head + packed


def each(attributes: int, plain: Plain) -> Iterator[Spot]:
    """The records of a plain payload, Ottla's or Kafka's. Raises Malformed."""
    return kafka_records.each(plain) if attributes & ATTR_KAFKA else walk.each(plain)


def as_ottla(h: BatchHeader, plain: Plain) -> Plain:
    """The plain records of a batch as a serialized `ottla.v1.Records`. Raises Malformed."""
    return kafka.to_ottla(plain, h.record_count) if h.attributes & ATTR_KAFKA else plain


def check_payload(h: BatchHeader, payload: memoryview) -> None:
    """Raises CorruptBatch unless the payload is the one that the header tells of, as far as its kind is known."""
    attributes = h.attributes
    if attributes >> KIND_FROM > 1:
        return
    if attributes & ATTR_KAFKA:
        if len(payload) < KAFKA_HEADER_BYTES or crc32c(payload[KAFKA_CRC_FROM:]) != h.payload_crc:
            raise CorruptBatch(f"payload checksum does not match at offset {h.base_offset}")
        if payload[:KAFKA_HEADER_BYTES] != kafka_header(h, len(payload), h.base_offset, h.leader_epoch, h.payload_crc):
            raise CorruptBatch(f"the header of the Kafka batch is not that of the batch at offset {h.base_offset}")
    elif crc32c(payload) != h.payload_crc:
        raise CorruptBatch(f"payload checksum does not match at offset {h.base_offset}")


def verify_batch(data: bytes | bytearray | memoryview, batch: BatchAt, seed: int) -> None:
    """Checks both checksums of a whole batch, and that its payload is of the kind that the header says. Raises
    CorruptBatch that names what does not match."""
    if not check_header_crc(data, batch.body, seed):
        raise CorruptBatch(f"header checksum does not match at offset {batch.header.base_offset}")
    check_kind(data, batch)


def check_kind(data: bytes | bytearray | memoryview, batch: BatchAt) -> None:
    """As `verify_batch`, without the header's checksum. Raises CorruptBatch."""
    field, payload = batch.payload(data)
    if not _fits(field, batch.header.attributes):
        raise CorruptBatch(f"payload field {field} is not what the header says of {batch.header.base_offset}")
    check_payload(batch.header, payload)


def _fits(field: int, attributes: int) -> bool:
    expected = payload_field_of(attributes)
    return field == expected or (expected == LATER and field > PAYLOAD_KAFKA)


def verify_slice(data: bytes | bytearray | memoryview, seed: int) -> int:
    """Checks shape and both checksums of every batch in a slice of a log; returns how many there are.

    The same as `read_batch` and `verify_batch` for each, without making objects of them: readers wait for this. Raises
    CorruptBatch that names the first bad one.
    """
    view = memoryview(data)
    count = at = 0
    offset: int | None = None
    try:
        while at < len(view):
            size, body = read_varint(view, at + 1)
            v = HEADER.unpack_from(view, body)
            if view[at] != BATCH_TAG or v[0::2] != TAGS or v[1] != FORMAT or v[3] != size:
                raise CorruptBatch("batch header and length prefix do not agree")
            if crc32c(view[body : body + CRC_AT], seed) != v[29]:
                raise CorruptBatch("header checksum does not match")
            offset = v[5]
            end = body + size
            key, start = read_varint(view, body + HEADER_BYTES)
            length, start = read_varint(view, start)
            kept = v[9] >> KIND_FROM
            if kept and (key & 7 != 2 or not _fits(key >> 3, v[9])):
                raise CorruptBatch("batch does not hold exactly one payload of the kind that its header says")
            if (not kept and key != payload_field_of(v[9]) << 3 | 2) or start + length != end or end > len(view):
                raise CorruptBatch("batch does not hold exactly one payload of the kind that its header says")
            if kept:
                check_payload(decode_header(view, body), view[start:end])
            elif crc32c(view[start:end]) != v[27]:
                raise CorruptBatch(f"payload checksum does not match at offset {offset}")
            at, count = end, count + 1
    except StructError:
        raise CorruptBatch("the slice ends inside a batch header") from None
    except CorruptBatch as error:
        after = "" if offset is None else f", after offset {offset}"
        raise CorruptBatch(f"{error}, {at} bytes into the slice{after}") from None
    return count
