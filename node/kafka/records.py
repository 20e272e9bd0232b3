"""Kafka's records (of a batch of magic 2, not compressed): checked, and converted to Ottla's `Records` and back.

In both a record is a run of varints and bytes, and a time's delta is the same varint, so a conversion copies slices.
The one thing that Kafka allows and Ottla's contract does not is a header name that is not UTF-8; such bytes become
U+FFFD.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from node.kafka.wire import Buffer
from ottla.v1.record_pb2 import Header, Records

# Every varint of up to two bytes: most lengths are among them. Reading has those two bytes in line, too, which is
# ugly and a third of the time.
_SMALL: Final = 16384
_VARINTS: Final = [
    bytes((number,)) if number < 128 else bytes((number & 127 | 128, number >> 7)) for number in range(_SMALL)
]
_NO_TIME: Final = -(1 << 63) - 1
_KEY, _VALUE, _HEADER, _TIME, _DELTA, _RECORD = b"\x0a", b"\x12", b"\x1a", b"\x20", b"\x28", b"\x0a"


class InvalidRecords(ValueError):
    """The bytes are no records, or not as many as the batch says."""


class Walked(NamedTuple):
    """What only a look at each record tells. Deltas of time are to the batch's base timestamp."""

    max_time_delta: int
    keyless: list[int]  # indexes of records without a key, where they were asked for


def _varint(b: bytes, p: int) -> tuple[int, int]:
    """The unsigned varint at `p`, of at most ten bytes, and where it ends."""
    found = shift = 0
    while True:
        byte = b[p]
        p += 1
        found |= (byte & 127) << shift
        if byte < 128:
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


def walk(records: Buffer, count: int, want_keyless: bool = False) -> Walked:
    """Checks that these are `count` whole records with the offset deltas 0, 1, 2 and so on.

    Raises InvalidRecords. This is the Python twin of the check in C, which it is the oracle of.
    """
    b = bytes(records)
    try:
        return _walk(b, count, want_keyless)
    except IndexError:
        raise InvalidRecords("a record ends after the batch does") from None


def _walk(b: bytes, count: int, want_keyless: bool) -> Walked:
    size, p, latest = len(b), 0, _NO_TIME
    keyless = []
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
            if time >> 64:
                raise InvalidRecords(f"record {index} has a time that no clock shows")
        delta = -(time + 1 >> 1) if time & 1 else time >> 1
        if delta > latest:
            latest = delta
        offset = b[p]
        p += 1
        if offset > 127:
            more = b[p]
            p += 1
            if more < 128:
                offset = offset & 127 | more << 7
            else:
                offset, p = _varint(b, p - 2)
        if offset != index << 1:
            raise InvalidRecords(f"record {index} has an offset delta of {offset >> 1 ^ -(offset & 1)}")
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
        elif want_keyless:
            keyless.append(index)
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
            p = _walk_headers(b, p - 1, end, index)
        if p != end:
            raise InvalidRecords(f"record {index} is not as long as it says")
    if p != size:
        raise InvalidRecords(f"{size - p} bytes follow the {count} records that the batch says it has")
    return Walked(latest, keyless)


def _walk_headers(b: bytes, p: int, end: int, index: int) -> int:
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


def to_ottla(records: Buffer, count: int) -> bytes:
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
        while b[p] > 127:
            p += 1
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
            made += _DELTA + _write_varint((offset >> 1 ^ -(offset & 1)) & 0xFFFFFFFFFFFFFFFF)
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


def to_kafka(payload: Buffer) -> tuple[bytes, int]:
    """A serialized `ottla.v1.Records` as Kafka's records, and how many there are."""
    out: list[bytes] = []
    add, small, varints = out.append, _SMALL, _VARINTS
    index = -1
    for index, record in enumerate(Records.FromString(bytes(payload)).records):
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
