"""The walk over the records of a plain payload, without making an object of any: the twin of `_walk.c`.

Node and tools take these functions from `ottla.protocol.records`, which prefers the C helper. This module is what runs
without a compiler, and the oracle that the helper is tested against: the same verdicts, the same values.

What passes here passes every language's parser of `ottla.v1.Records`, and means the same to all of them: what some
parser refuses (a header's name that is no UTF-8, a varint of more than 64 bits), or takes for an unknown field (a wrong
wire type), or what needs a stack (groups) is malformed. Fields that are not known yet pass.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

VERSION: Final = 1
"""Of what the functions take and give: a helper that was built from other sources is not used."""

NAMED_MAX: Final = 100
NO_KEY: Final = 1
WRONG_OFFSET: Final = 2
WRONG_TIME: Final = 3

Plain = bytes | bytearray | memoryview


class Malformed(ValueError):
    """The bytes are not a Records message that every reader reads: says which record, where and why."""


class Spot(NamedTuple):
    """One record as `each` finds it: its tag is at `start`, its content from `body` to `end`. `offset_delta` None: it
    has none of its own."""

    start: int
    body: int
    end: int
    key: tuple[int, int] | None
    has_value: bool
    offset_delta: int | None
    timestamp_delta: int


_ENDS: Final = "a field is longer than what it lies in"
_VARINT: Final = "a varint is longer than its kind may be"
_TAG: Final = "a tag names no field"
_WIRE: Final = "a field has a wire type that is not its own"
_TEXT: Final = "a header's name is not UTF-8"
_DELTA: Final = "its offset_delta is out of range"


class _Fault(Exception):
    pass


def walk(
    data: Plain, count_max: int, earliest: int, latest: int, keys_required: bool
) -> tuple[int, int, int, int, list[tuple[int, int]]]:
    """Reads every record: (count, smallest and largest timestamp delta, how many are faulty, the first of those).

    Faulty is who has no key where keys are required, an offset delta that is not its place, or a timestamp delta
    outside of [earliest, latest]: (index, NO_KEY, WRONG_OFFSET or WRONG_TIME), at most `NAMED_MAX`. With more than
    `count_max` records it stops, and says `count_max + 1`. Raises Malformed.
    """
    count = faulty = at = start = 0
    lowest, highest = (1 << 63) - 1, -(1 << 63)
    faults: list[tuple[int, int]] = []
    size = len(data)
    try:
        # The loop of `each` once more, without a value per record: with a call it would cost twice as much.
        while at < size and count <= count_max:
            start = at
            tag = data[at]
            at += 1
            if tag != 0x0A:
                tag, at = _tag(data, start)
                if tag >> 3 != 1:
                    at = _skip(data, at, size, tag)
                    continue
                if tag & 7 != 2:
                    raise _Fault(_WIRE)
            end = data[at]
            at += 1
            if end > 0x7F:
                more = data[at]
                if more < 0x80:
                    end += (more << 7) - 0x80
                    at += 1
                else:
                    end, at = _length(data, at - 1)
            end += at
            if end > size:
                raise _Fault(_ENDS)
            has_key = False
            offset = count
            delta = 0
            while at < end:
                tag = data[at]
                at += 1
                if tag == 0x12 or tag == 0x0A:
                    length = data[at]
                    at += 1
                    if length > 0x7F:
                        more = data[at]
                        if more < 0x80:
                            length += (more << 7) - 0x80
                            at += 1
                        else:
                            length, at = _length(data, at - 1)
                    at += length
                    if tag == 0x0A:
                        has_key = True
                elif tag == 0x20:
                    delta = data[at]
                    at += 1
                    if delta > 0x7F:
                        more = data[at]
                        if more < 0x80:
                            delta += (more << 7) - 0x80
                            at += 1
                        else:
                            delta, at = _varint(data, at - 1)
                    delta = delta >> 1 ^ -(delta & 1)
                else:
                    at, key, given, time = _other(data, at - 1, end)
                    has_key = has_key or key
                    offset = offset if given is None else given
                    delta = delta if time is None else time
            if at > end:
                raise _Fault(_ENDS)
            if delta < lowest:
                lowest = delta
            if delta > highest:
                highest = delta
            if offset != count or not earliest <= delta <= latest or (keys_required and not has_key):
                faulty += 1
                if faulty <= NAMED_MAX:
                    kind = NO_KEY if keys_required and not has_key else WRONG_OFFSET if offset != count else WRONG_TIME
                    faults.append((count, kind))
            count += 1
    except IndexError:
        raise _malformed(count, start, _ENDS) from None
    except _Fault as fault:
        raise _malformed(count, start, str(fault)) from None
    return (count, lowest, highest, faulty, faults) if count else (0, 0, 0, 0, faults)


def _other(data: Plain, at: int, end: int) -> tuple[int, bool, int | None, int | None]:
    """A field of a record that is rare, or whose tag has more bytes than it needs: (where it ends, whether it is a key,
    offset delta, timestamp delta)."""
    tag, at = _tag(data, at)
    field = tag >> 3
    if field > 5:
        return _skip(data, at, end, tag), False, None, None
    if field > 3:
        if tag & 7:
            raise _Fault(_WIRE)
        value, at = _varint(data, at)
        if field == 4:
            return at, False, None, value >> 1 ^ -(value & 1)
        if value > 0x7FFFFFFF:
            raise _Fault(_DELTA)
        return at, False, value, None
    if tag & 7 != 2:
        raise _Fault(_WIRE)
    length, at = _length(data, at)
    begin = at
    at += length
    if at > end:
        raise _Fault(_ENDS)
    if field == 3:
        _header(data, begin, at)
    return at, field == 1, None, None


def find(data: Plain, offset_from: int, time_from: int) -> tuple[int, int, int, int] | None:
    """The first record whose offset delta and timestamp delta are as large as these or larger: (where it begins, its
    number, its offset delta, its timestamp delta). None if there is none. Raises Malformed."""
    for place, spot in enumerate(each(data)):
        offset = place if spot.offset_delta is None else spot.offset_delta
        if offset >= offset_from and spot.timestamp_delta >= time_from:
            return spot.start, place, offset, spot.timestamp_delta
    return None


def cut(data: Plain, at: int, place: int, room: int) -> tuple[int, int, int, int, bool, bool]:
    """As many records from the one that begins at `at`, number `place`, as fit into `room` bytes, but at least one, and
    all of one kind: with an offset delta of their own, or without.

    (where they end, how many, the largest offset delta and timestamp delta, whether the deltas are their own, whether
    another record follows). Raises Malformed.
    """
    end, count, last, highest, given = at, 0, 0, -(1 << 63), False
    for number, spot in enumerate(each(data, at, place), place):
        own = spot.offset_delta is not None
        if count and (spot.end - at > room or own != given):
            return end, count, last, highest, given, True
        offset = number if spot.offset_delta is None else spot.offset_delta
        end, given = spot.end, own
        last = max(last, offset) if count else offset
        highest = max(highest, spot.timestamp_delta)
        count += 1
    return end, count, last, highest if count else 0, given, False


def each(data: Plain, at: int = 0, place: int = 0) -> Iterator[Spot]:
    """The records from the one at `at`, number `place`, on. Raises Malformed."""
    size = len(data)
    make = Spot._make
    start = at
    try:
        while at < size:
            start = at
            tag = data[at]
            at += 1
            if tag != 0x0A:
                tag, at = _tag(data, start)
                if tag >> 3 != 1:
                    at = _skip(data, at, size, tag)
                    continue
                if tag & 7 != 2:
                    raise _Fault(_WIRE)
            length = data[at]
            at += 1
            if length > 0x7F:
                length, at = _length(data, at - 1)
            body, end = at, at + length
            if end > size:
                raise _Fault(_ENDS)
            key: tuple[int, int] | None = None
            has_value = False
            offset_delta: int | None = None
            time_delta = 0
            while at < end:
                tag = data[at]
                at += 1
                if tag > 0x7F or tag < 8:
                    tag, at = _tag(data, at - 1)
                field = tag >> 3
                if field < 4:
                    if tag & 7 != 2:
                        raise _Fault(_WIRE)
                    length = data[at]
                    at += 1
                    if length > 0x7F:
                        length, at = _length(data, at - 1)
                    begin = at
                    at += length
                    if at > end:
                        raise _Fault(_ENDS)
                    if field == 2:
                        has_value = True
                    elif field == 1:
                        key = (begin, at)
                    else:
                        _header(data, begin, at)
                elif field > 5:
                    at = _skip(data, at, end, tag)
                else:
                    if tag & 7:
                        raise _Fault(_WIRE)
                    value = data[at]
                    at += 1
                    if value > 0x7F:
                        value, at = _varint(data, at - 1)
                    if field == 4:
                        time_delta = value >> 1 ^ -(value & 1)
                    elif value > 0x7FFFFFFF:
                        raise _Fault(_DELTA)
                    else:
                        offset_delta = value
            if at > end:
                raise _Fault(_ENDS)
            yield make((start, body, end, key, has_value, offset_delta, time_delta))
            place += 1
    except IndexError:
        raise _malformed(place, start, _ENDS) from None
    except _Fault as fault:
        raise _malformed(place, start, str(fault)) from None


def _malformed(place: int, at: int, why: str) -> Malformed:
    return Malformed(f"record {place}, at byte {at} of the plain payload: {why}")


def _varint(data: Plain, at: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 70:
        byte = data[at]
        at += 1
        if shift == 63 and byte > 1:
            break
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise _Fault(_VARINT)


def _tag(data: Plain, at: int) -> tuple[int, int]:
    tag, after = _varint(data, at)
    if after - at > 5 or tag > 0xFFFFFFFF:
        raise _Fault(_VARINT)
    if tag < 8:
        raise _Fault(_TAG)
    return tag, after


def _length(data: Plain, at: int) -> tuple[int, int]:
    length, after = _varint(data, at)
    if after - at > 5:
        raise _Fault(_VARINT)
    return length, after


def _skip(data: Plain, at: int, end: int, tag: int) -> int:
    kind = tag & 7
    if kind == 0:
        _, at = _varint(data, at)
    elif kind == 2:
        length, at = _length(data, at)
        at += length
    elif kind == 1:
        at += 8
    elif kind == 5:
        at += 4
    else:
        raise _Fault(_WIRE)
    if at > end:
        raise _Fault(_ENDS)
    return at


def _header(data: Plain, at: int, end: int) -> None:
    while at < end:
        tag, at = _tag(data, at)
        if tag >> 3 > 2:
            at = _skip(data, at, end, tag)
            continue
        if tag & 7 != 2:
            raise _Fault(_WIRE)
        length, at = _length(data, at)
        begin = at
        at += length
        if at > end:
            raise _Fault(_ENDS)
        if tag >> 3 == 1:
            try:
                str(data[begin:at], "utf-8")
            except UnicodeDecodeError:
                raise _Fault(_TEXT) from None
    if at > end:
        raise _Fault(_ENDS)
