"""The rare looks into stored batches: for the record of a time, and for readers that cannot take a batch as it is.

No object is made of a record, and nothing unfolds to more than a stored batch may have. What needs more work than there
is room for on the loop raises `Heavy` and is done in a thread (`on_loop` None).
"""

from typing import NamedTuple

from node.broker import codecs
from node.broker.door import Heavy, OnLoop
from node.broker.kafka_codecs import unpack, within
from ottla.protocol import kafka_codecs, records
from ottla.protocol.batch import (
    ATTR_CODEC_MASK,
    ATTR_LOG_APPEND_TIME,
    HEADER_BYTES,
    BatchAt,
    BatchHeader,
    CorruptBatch,
    encode_batch,
    read_batch,
)
from ottla.protocol.checksum import crc32c
from ottla.protocol.errors import ApiError
from ottla.protocol.payloads import ATTR_KAFKA, ATTR_KIND_MASK, KIND_FROM, as_ottla, packed_records
from ottla.protocol.walk import Malformed, Plain
from ottla.v1 import error_pb2 as pb
from ottla.v1.record_pb2 import Codec

EVERY_CODEC = frozenset({Codec.CODEC_GZIP, Codec.CODEC_SNAPPY, Codec.CODEC_LZ4, Codec.CODEC_ZSTD})
_PREFIX_BYTES_MAX = 12
_EARLIEST_DELTA = -(1 << 63)
_LATEST_DELTA = (1 << 63) - 1


class Reader(NamedTuple):
    """What a reader can take. `max_bytes`: how much at once; `record_max_bytes`: how much even if it is one record
    that had to be decompressed; `min_one`: a first batch or record may be larger than `max_bytes`; `every_kind`: it
    knows Kafka's batches as well as Ottla's records."""

    accept: frozenset[int]
    max_bytes: int
    record_max_bytes: int = (1 << 31) - 1
    min_one: bool = True
    every_kind: bool = False


def record_at(
    data: bytes, timestamp_ms: int, from_offset: int = 0, on_loop: OnLoop | None = None
) -> tuple[int, int] | None:
    """(offset, timestamp) of the first record in a stored batch that is at or after `from_offset` and as late as
    `timestamp_ms`, or later; None if it has none. Only records that are there count: headers keep the offsets, and for
    batches that compaction has emptied the times, of what is gone. Raises CorruptBatch, ApiError, Heavy."""
    batch = _batch(data, 0)
    header = batch.header
    if header.max_timestamp < timestamp_ms or header.record_count == 0:
        return None
    by_record = not header.attributes & ATTR_LOG_APPEND_TIME
    earliest = timestamp_ms - header.base_timestamp if by_record else _EARLIEST_DELTA
    found = _find(data, batch, from_offset, max(_EARLIEST_DELTA, min(earliest, _LATEST_DELTA)), on_loop)
    if found is None:
        return None
    _, _, offset_delta, time_delta = found
    return header.base_offset + offset_delta, header.base_timestamp + time_delta if by_record else header.max_timestamp


def latest_at(data: bytes, from_offset: int, on_loop: OnLoop | None = None) -> tuple[int, int] | None:
    """(offset, timestamp) of the latest record at or after `from_offset` in a stored batch, the first of equal ones;
    None if it has none. Raises CorruptBatch, ApiError, Heavy."""
    batch = _batch(data, 0)
    header = batch.header
    if header.record_count == 0:
        return None
    if header.base_offset >= from_offset:
        return record_at(data, header.max_timestamp, from_offset, on_loop)
    plain = _plain(data, batch, on_loop)
    try:
        found = records.find(plain, from_offset - header.base_offset, _EARLIEST_DELTA)
        highest = _EARLIEST_DELTA
        while found is not None:
            # The rest may be of both kinds, with offset deltas of their own and without.
            end, count, _, time_delta, _, more = records.cut(plain, found[0], found[1], len(plain))
            highest = max(highest, time_delta)
            found = (end, found[1] + count, 0, 0) if more else None
    except Malformed as error:
        raise CorruptBatch(f"batch at offset {header.base_offset}: {error}") from None
    if highest == _EARLIEST_DELTA:
        return None
    return record_at(data, header.base_timestamp + highest, from_offset, on_loop)


def written_ms(data: bytes, offset: int, on_loop: OnLoop | None = None) -> int:
    """The timestamp of the first record at or after `offset` in a stored batch; of the latest one if finding it is too
    much for the loop. Raises CorruptBatch, ApiError."""
    batch = _batch(data, 0)
    header = batch.header
    try:
        found = _find(data, batch, offset, _EARLIEST_DELTA, on_loop)
    except Heavy:
        found = None
    return header.max_timestamp if found is None else header.base_timestamp + found[3]


def readable(
    data: bytes,
    reader: Reader,
    seed: int,
    offset: int,
    log_start: int,
    on_loop: OnLoop | None = None,
    mixed: bool = True,
) -> tuple[bytes, int | None]:
    """The slice as its reader can take it, offsets kept: what it knows no codec for is decompressed, what is of a kind
    that it does not know is converted, in parts where the whole is too much at once, and records below the log start
    are left out. `seed` is the partition's for header checksums, `offset` what was asked for, `mixed` whether there may
    be other kinds than Ottla's own. (data, next offset if that is not the one of the slice).

    Raises UNSUPPORTED_COMPRESSION_TYPE for a record that the reader can never take, CorruptBatch, ApiError, Heavy.
    """
    at = 0
    parts: list[bytes] | None = None  # None: all up to `at` is as it was
    size = 0
    alike = reader.accept >= EVERY_CODEC and (reader.every_kind or not mixed)
    while at < len(data):
        batch = _batch(data, at)
        header = batch.header
        known = header.codec == Codec.CODEC_NONE or header.codec in reader.accept
        if header.attributes >> KIND_FROM:
            known = known and reader.every_kind
        if known and header.base_offset >= log_start:
            length = batch.end - batch.start
            if parts is not None:
                if size + length > reader.max_bytes and (size or not reader.min_one):
                    return b"".join(parts), header.base_offset
                parts.append(data[batch.start : batch.end])
            size += length
            at = batch.end
            if parts is None and alike:
                break  # only the first one can lie below the log start
            continue
        if parts is None:
            parts = [data[:at]]
        room = reader.max_bytes - size
        must = reader.min_one and not size
        pieces, next_offset = _part(data, batch, reader, seed, max(offset, log_start), room, must, on_loop)
        parts += pieces
        size += sum(map(len, pieces))
        if next_offset != header.next_offset:
            return b"".join(parts), next_offset
        at = batch.end
    return (data if parts is None else b"".join(parts)), None


def _part(
    data: bytes,
    batch: BatchAt,
    reader: Reader,
    seed: int,
    from_offset: int,
    room: int,
    must: bool,
    on_loop: OnLoop | None,
) -> tuple[list[bytes], int]:
    """As much of a batch from an offset on as there is room for, decompressed: (buffers, next offset).

    Records keep their offsets without being touched: those that have an offset delta of their own stay below the old
    base, the others are in order, so the number of the first one moves the base. A part holds one kind only.
    """
    header = batch.header
    room -= HEADER_BYTES + _PREFIX_BYTES_MAX
    if room < 0 and not must:
        return [], max(header.base_offset, from_offset)
    plain = _plain(data, batch, on_loop)
    if from_offset <= header.base_offset and len(plain) <= room:
        return _encoded(header, seed, plain), header.next_offset
    try:
        found = records.find(plain, from_offset - header.base_offset, _EARLIEST_DELTA)
        if found is None:
            return [], header.next_offset
        start, place, first, _ = found
        end, count, last, highest, given, more = records.cut(plain, start, place, room)
    except Malformed as error:
        raise _unreadable(header, reader, str(error)) from None
    if end - start > max(room, 0) and count:
        if not must:
            return [], max(header.base_offset + first, from_offset)
        if end - start > reader.record_max_bytes:
            raise _unreadable(
                header,
                reader,
                f"the record at offset {header.base_offset + first} has {end - start} bytes then, this reader takes "
                f"{reader.record_max_bytes}",
            )
    moved = 0 if given else place
    last_delta = last if more else header.last_offset_delta
    by_record = not header.attributes & ATTR_LOG_APPEND_TIME
    part = header._replace(
        base_offset=header.base_offset + moved,
        record_count=count,
        last_offset_delta=last_delta - moved,
        max_timestamp=header.base_timestamp + highest if by_record else header.max_timestamp,
        base_sequence=(header.base_sequence + moved) & 0x7FFFFFFF,
    )
    return _encoded(part, seed, plain[start:end]), header.base_offset + last_delta + 1


def _encoded(header: BatchHeader, seed: int, plain: Plain) -> list[bytes]:
    plain = bytes(plain)
    attributes = header.attributes & ~(ATTR_CODEC_MASK | ATTR_KIND_MASK)
    return encode_batch(header._replace(attributes=attributes, payload_crc=crc32c(plain)), seed, plain)


def _unreadable(header: BatchHeader, reader: Reader, why: str) -> ApiError:
    codec = codecs.NAMES.get(header.codec)  # type: ignore[call-overload]
    kept = header.attributes >> KIND_FROM
    lacks, step = (f"codec, {codec}", f"Name {codec} in accept, or raise") if not kept else ("kind", "Raise")
    return ApiError(
        pb.ERROR_CODE_UNSUPPORTED_COMPRESSION_TYPE,
        f"the batch at offsets {header.base_offset} to {header.last_offset} cannot be given to a reader without its "
        f"{lacks}: {why}. {step} max_bytes",
    )


def _find(
    data: bytes, batch: BatchAt, from_offset: int, earliest: int, on_loop: OnLoop | None
) -> tuple[int, int, int, int] | None:
    try:
        return records.find(_plain(data, batch, on_loop), from_offset - batch.header.base_offset, earliest)
    except Malformed as error:
        raise CorruptBatch(f"batch at offset {batch.header.base_offset}: {error}") from None


def _batch(data: bytes, at: int) -> BatchAt:
    batch = read_batch(data, at)
    if batch is None:
        raise CorruptBatch(f"the slice ends inside the batch at byte {at}")
    return batch


def _plain(data: bytes, batch: BatchAt, on_loop: OnLoop | None) -> Plain:
    _, payload = batch.payload(data)
    if batch.header.attributes >> KIND_FROM:
        return _converted(batch.header, payload, on_loop)
    if on_loop is not None:
        on_loop.walked(batch.header.record_count)
    codec = batch.header.codec
    if codec == Codec.CODEC_NONE:
        return payload
    return codecs.decompress(codec, payload) if on_loop is None else on_loop.unfold(codec, payload)


def _converted(header: BatchHeader, payload: memoryview, on_loop: OnLoop | None) -> Plain:
    """The records of another kind as Ottla's. Raises UNSUPPORTED_COMPRESSION_TYPE where it is not known here."""
    if header.attributes >> KIND_FROM != 1:
        raise ApiError(
            pb.ERROR_CODE_UNSUPPORTED_COMPRESSION_TYPE,
            f"the batch at offset {header.base_offset} is of a kind that this node does not know: update it",
        )
    if on_loop is not None:
        on_loop.walked(header.record_count)
    packed = packed_records(header.attributes, payload)
    try:
        if on_loop is None:
            plain = unpack(header.codec | ATTR_KAFKA, packed) if header.codec else packed
        else:
            plain = kafka_codecs.unfold(header.codec, packed, within(on_loop))
            on_loop.convert(len(plain))
        return as_ottla(header, plain)
    except Malformed as error:
        raise CorruptBatch(f"batch at offset {header.base_offset}: {error}") from None
