"""Kafka's records (of a batch of magic 2, not compressed): walked, and converted to Ottla's `Records` and back.

In both a record is a run of varints and bytes, and a time's delta is the same varint, so a conversion copies slices.
The one thing that Kafka allows and Ottla's contract does not is a header name that is not UTF-8; such bytes become
U+FFFD.

Node and tools take `walk`, `to_ottla` and `to_kafka` from `ottla.protocol.kafka`, which prefers the C helper. This
module is what runs without a compiler, and the oracle that the helper is tested against.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from google.protobuf.message import DecodeError

from ottla.protocol.walk import NAMED_MAX, NO_KEY, WRONG_OFFSET, WRONG_TIME, Malformed, Plain, Spot
from ottla.v1.record_pb2 import Header, Records

# Every varint of up to two bytes: most lengths are among them. Reading has those two bytes in line, too, which is
# ugly and a third of the time.
_SMALL: Final = 16384
_VARINTS: Final = [
    bytes((number,)) if number < 128 else bytes((number & 127 | 128, number >> 7)) for number in range(_SMALL)
]
_DELTA_MAX: Final = 0x7FFFFFFF << 1  # as a zigzag varint has it
_KEY, _VALUE, _HEADER, _TIME, _DELTA, _RECORD = b"\x0a", b"\x12", b"\x1a", b"\x20", b"\x28", b"\x0a"


class InvalidRecords(Malformed):
    """The bytes are no records, or not as many as the batch says."""


def _varint(b: bytes, p: int) -> tuple[int, int]:
    """The unsigned varint at `p`, of at most ten bytes, and where it ends."""
    found = shift = 0
    while True:
        byte = b[p]
        p += 1
        found |= (byte & 127) << shift
        if byte < 128:
            if found >> 64:
                raise InvalidRecords("a number of more than 64 bits")
            return found, p
        shift += 7
        if shift > 63:
            raise InvalidRecords("a number of more than ten bytes")


def _write_varint(number: int) -> bytes:
    if number < _SMALL:
        return _VARINTS[number]
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def walk(
    data: Plain, count_max: int, earliest: int, latest: int, keys_required: bool
) -> tuple[int, int, int, int, list[tuple[int, int]]]:
    """What `ottla.protocol.walk.walk` says of Ottla's records, of Kafka's: (count, smallest and largest timestamp
    delta, how many are faulty, the first of those). What passes here, `to_ottla` converts. Raises InvalidRecords."""
    try:
        return _walk(bytes(data), count_max, earliest, latest, keys_required)
    except IndexError:
        raise InvalidRecords("a record ends after the batch does") from None


def _walk(
    b: bytes, count_max: int, earliest: int, latest: int, keys_required: bool
) -> tuple[int, int, int, int, list[tuple[int, int]]]:
    # The loop of `each` once more, without a value per record: with a call it would cost twice as much.
    size, p, index, faulty = len(b), 0, 0, 0
    lowest, highest = (1 << 63) - 1, -(1 << 63)
    faults: list[tuple[int, int]] = []
    while p < size and index <= count_max:
        n = b[p]
        p += 1
        if n > 127:
            more = b[p]
            p += 1
            if more < 128:
                n = n & 127 | more << 7
            else:
                n, p = _varint(b, p - 2)
        end = p + (n >> 1)
        if n & 1 or end > size:
            raise InvalidRecords(f"record {index} has a length that the batch cannot hold")
        p += 1  # attributes, which have no meaning yet
        time = b[p]
        p += 1
        if time > 127:
            more = b[p]
            p += 1
            if more < 128:
                time = time & 127 | more << 7
            else:
                time, p = _varint(b, p - 2)
        delta = -(time + 1 >> 1) if time & 1 else time >> 1
        if delta < lowest:
            lowest = delta
        if delta > highest:
            highest = delta
        offset = b[p]
        p += 1
        if offset > 127:
            more = b[p]
            p += 1
            if more < 128:
                offset = offset & 127 | more << 7
            else:
                offset, p = _varint(b, p - 2)
        keyless = False
        n = b[p]  # the key
        p += 1
        if n > 127:
            more = b[p]
            p += 1
            if more < 128:
                n = n & 127 | more << 7
            else:
                n, p = _varint(b, p - 2)
        if not n & 1:
            p += n >> 1
        elif n != 1:
            raise InvalidRecords(f"record {index} has a key of a negative length")
        else:
            keyless = True
        n = b[p]  # the value
        p += 1
        if n > 127:
            more = b[p]
            p += 1
            if more < 128:
                n = n & 127 | more << 7
            else:
                n, p = _varint(b, p - 2)
        if not n & 1:
            p += n >> 1
        elif n != 1:
            raise InvalidRecords(f"record {index} has a value of a negative length")
        n = b[p]
        p += 1
        if n:
            p = _skip_headers(b, p - 1, end, index)
        if p != end:
            raise InvalidRecords(f"record {index} is not as long as it says")
        if offset != index << 1 or not earliest <= delta <= latest or (keys_required and keyless):
            faulty += 1
            if faulty <= NAMED_MAX:
                kind = NO_KEY if keys_required and keyless else WRONG_OFFSET if offset != index << 1 else WRONG_TIME
                faults.append((index, kind))
        index += 1
    return (index, lowest, highest, faulty, faults) if index else (0, 0, 0, 0, faults)


def _skip_headers(b: bytes, p: int, end: int, index: int) -> int:
    count, p = _varint(b, p)
    if count & 1 or count >> 1 > (end - p) // 2:
        raise InvalidRecords(f"record {index} has a number of headers that it cannot hold")
    for _ in range(count >> 1):
        for may_be_null in (False, True):
            n, p = _varint(b, p)
            if not n & 1:
                p += n >> 1
            elif n != 1 or not may_be_null:
                raise InvalidRecords(f"record {index} has a header of a negative length")
        if p > end:
            break
    return p


def each(data: Plain) -> Iterator[Spot]:
    """The records, in order. Raises InvalidRecords."""
    try:
        yield from _each(bytes(data))
    except IndexError:
        raise InvalidRecords("a record ends after the batch does") from None


def _each(b: bytes) -> Iterator[Spot]:
    size, p, index = len(b), 0, 0
    while p < size:
        start = p
        n, p = _varint(b, p)
        body, end = p, p + (n >> 1)
        if n & 1 or end > size:
            raise InvalidRecords(f"record {index} has a length that the batch cannot hold")
        time, p = _varint(b, p + 1)
        offset, p = _varint(b, p)
        _check_delta(offset, index)
        n, p = _varint(b, p)
        if n & 1 and n != 1:
            raise InvalidRecords(f"record {index} has a key of a negative length")
        key = None if n == 1 else (p, p + (n >> 1))
        p += n >> 1
        n, p = _varint(b, p)
        if n & 1 and n != 1:
            raise InvalidRecords(f"record {index} has a value of a negative length")
        has_value = n != 1
        p = _skip_headers(b, p + (n >> 1), end, index)
        if p != end:
            raise InvalidRecords(f"record {index} is not as long as it says")
        yield Spot(start, body, end, key, has_value, offset >> 1, time >> 1 ^ -(time & 1))
        index += 1


def find(data: Plain, offset_from: int, time_from: int) -> tuple[int, int, int, int] | None:
    """As `ottla.protocol.walk.find`, of Kafka's records. Raises InvalidRecords."""
    for place, spot in enumerate(each(data)):
        assert spot.offset_delta is not None
        if spot.offset_delta >= offset_from and spot.timestamp_delta >= time_from:
            return spot.start, place, spot.offset_delta, spot.timestamp_delta
    return None


def _check_delta(offset: int, index: int) -> None:
    if offset & 1 or offset > _DELTA_MAX:
        raise InvalidRecords(f"record {index} has an offset delta of {offset >> 1 ^ -(offset & 1)}")


def to_ottla(records: Plain, count: int) -> bytes:
    """Kafka's records as a serialized `ottla.v1.Records`. What is no record raises InvalidRecords; times and offset
    deltas are for a look at what comes out."""
    try:
        return _to_ottla(bytes(records), count)
    except IndexError:
        raise InvalidRecords("a record ends after the batch does") from None


def _to_ottla(b: bytes, count: int) -> bytes:
    out: list[bytes] = []
    p, size = 0, len(b)
    add, small, varints = out.append, _SMALL, _VARINTS
    for index in range(count):
        n = b[p]
        p += 1
        if n > 127:
            more = b[p]
            p += 1
            if more < 128:
                n = n & 127 | more << 7
            else:
                n, p = _varint(b, p - 2)
        end = p + (n >> 1)
        if n & 1 or end > size:
            raise InvalidRecords(f"record {index} has a length that the batch cannot hold")
        p += 1
        at = p
        if b[p] > 127:
            _, p = _varint(b, p)
        else:
            p += 1
        time = b[at:p]
        offset = b[p]
        p += 1
        if offset > 127:
            more = b[p]
            p += 1
            if more < 128:
                offset = offset & 127 | more << 7
            else:
                offset, p = _varint(b, p - 2)
        n = b[p]
        p += 1
        if n > 127:
            more = b[p]
            p += 1
            if more < 128:
                n = n & 127 | more << 7
            else:
                n, p = _varint(b, p - 2)
        if n == 1:
            made = b""
        elif n & 1:
            raise InvalidRecords(f"record {index} has a key of a negative length")
        else:
            n >>= 1
            made = _KEY + (varints[n] if n < small else _write_varint(n)) + b[p : p + n]
            p += n
        n = b[p]
        p += 1
        if n > 127:
            more = b[p]
            p += 1
            if more < 128:
                n = n & 127 | more << 7
            else:
                n, p = _varint(b, p - 2)
        if n != 1:
            if n & 1:
                raise InvalidRecords(f"record {index} has a value of a negative length")
            n >>= 1
            made += _VALUE + (varints[n] if n < small else _write_varint(n)) + b[p : p + n]
            p += n
        n = b[p]
        p += 1
        if n:
            headers, p = _headers_to_ottla(b, p - 1, end, index)
            made += headers
        if p != end:
            raise InvalidRecords(f"record {index} is not as long as it says")
        if time != b"\0":
            made += _TIME + time
        if offset != index << 1:
            _check_delta(offset, index)
            made += _DELTA + _write_varint(offset >> 1)
        n = len(made)
        add(_RECORD)
        add(varints[n] if n < small else _write_varint(n))
        add(made)
    if p != size:
        raise InvalidRecords(f"{size - p} bytes follow the {count} records that the batch says it has")
    return b"".join(out)


def _headers_to_ottla(b: bytes, p: int, end: int, index: int) -> tuple[bytes, int]:
    count, p = _varint(b, p)
    if count & 1 or count >> 1 > (end - p) // 2:
        raise InvalidRecords(f"record {index} has a number of headers that it cannot hold")
    out = []
    for _ in range(count >> 1):
        n, p = _varint(b, p)
        if n & 1 or p > end:
            raise InvalidRecords(f"record {index} has a header without a name")
        n >>= 1
        name = b[p : p + n]
        p += n
        if not name.isascii():
            name = name.decode(errors="replace").encode()
        made = _KEY + _write_varint(len(name)) + name if name else b""
        n, p = _varint(b, p)
        if n != 1:
            if n & 1:
                raise InvalidRecords(f"record {index} has a header of a negative length")
            n >>= 1
            made += _VALUE + _write_varint(n) + b[p : p + n]
            p += n
        out.append(_HEADER + _write_varint(len(made)) + made)
    return b"".join(out), p


def to_kafka(payload: Plain) -> tuple[bytes, int]:
    """A serialized `ottla.v1.Records`, such as a walk has passed, as Kafka's records, and how many there are. Raises
    InvalidRecords."""
    out: list[bytes] = []
    add, small, varints = out.append, _SMALL, _VARINTS
    index = -1
    try:
        records = Records.FromString(bytes(payload)).records
    except DecodeError as error:
        raise InvalidRecords(str(error)) from None
    for index, record in enumerate(records):
        has = record.HasField
        n = record.timestamp_delta
        n = n << 1 if n >= 0 else (-n << 1) - 1
        body = b"\0" + (varints[n] if n < small else _write_varint(n))
        n = (record.offset_delta if has("offset_delta") else index) << 1
        body += varints[n] if n < small else _write_varint(n)
        if has("key"):
            key = record.key
            body += _write_varint(len(key) << 1) + key
        else:
            body += b"\1"
        if has("value"):
            value = record.value
            n = len(value) << 1
            body += (varints[n] if n < small else _write_varint(n)) + value
        else:
            body += b"\1"
        headers = record.headers
        body += _headers_to_kafka(headers) if headers else b"\0"
        n = len(body) << 1
        add(varints[n] if n < small else _write_varint(n))
        add(body)
    return b"".join(out), index + 1


def _headers_to_kafka(headers: Sequence[Header]) -> bytes:
    out = [_write_varint(len(headers) << 1)]
    for header in headers:
        name = header.key.encode()
        out.append(_write_varint(len(name) << 1) + name)
        out.append(_write_varint(len(header.value) << 1) + header.value if header.HasField("value") else b"\1")
    return b"".join(out)
