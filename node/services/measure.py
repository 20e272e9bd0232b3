"""Requests are measured before they are parsed: a message of a few MB may hold a million items, and making those is
work already.

Only tags and lengths are read, of the repeated fields alone, and no further than the limits go. What is no message at
all passes: the parser says so better.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor

from node import limits

OTHERS_MAX: Final = 1000
"""Fields that are not repeated, or not known, and are there nevertheless, again and again."""
_VARINT: Final = 0
_BYTES: Final = 2
_FIXED: Final = {1: 8, 5: 4}
_SIZED: Final = (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES, FieldDescriptor.TYPE_MESSAGE)
"""Types whose values have a length each. All others are numbers."""


_WITH_RECORDS: Final = frozenset({"Produce", "ProduceStream", "Send", "ImportBatches"})
_WITH_POSITIONS: Final = frozenset({"Fetch", "ListOffsets"})


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request of a method may have. `parts`: elements within its items, all together."""

    max_bytes: int
    items: int = limits.ITEMS_MAX
    parts: int = limits.ITEM_PARTS_MAX


def limits_of(method: MethodDescriptor, records_max_bytes: int) -> Limits:
    """What a client's request of this method may have. `records_max_bytes`: where it carries records."""
    service = method.containing_service.full_name
    if service.startswith("ottla.internal."):
        return Limits(limits.NODE_REQUEST_MAX_BYTES, limits.NODE_ITEMS_MAX, 5 * limits.NODE_ITEMS_MAX)
    if method.name in _WITH_RECORDS:
        return Limits(records_max_bytes)
    if method.name == "FetchStream":
        return Limits(limits.POSITIONS_REQUEST_MAX_BYTES, limits.STREAM_POSITIONS_MAX)
    if method.name in _WITH_POSITIONS or service == "ottla.v1.GroupService":
        return Limits(limits.POSITIONS_REQUEST_MAX_BYTES)
    return Limits(limits.PLAIN_REQUEST_MAX_BYTES)


class Part(NamedTuple):
    """A field that can hold many things. `numbers`: each takes a byte at least, all behind one tag."""

    repeated: bool
    numbers: bool
    inner: "Shape"

    def held(self, wire_type: int, start: int, end: int) -> int:
        """How many there are in one field on the wire."""
        return end - start if self.numbers and wire_type == _BYTES else 1


Shape = dict[int, Part]
"""The fields of a message that can hold many things, by number."""


def shape_of(message: Descriptor) -> Shape:
    """Empty for a message that cannot hold many things."""
    shape: Shape = {}
    for field in message.fields:
        inner = shape_of(field.message_type) if field.message_type is not None else {}
        if field.is_repeated or inner:
            shape[field.number] = Part(field.is_repeated, field.type not in _SIZED, inner)
    return shape


def measured(parse: Callable[[bytes], Any], message: Descriptor, name: str, allowed: Limits) -> Callable[[bytes], Any]:
    """`parse` for requests within the limits; raises ApiError for others. `name` is the method's."""
    shape = shape_of(message)
    # A repeated field has a tag and a length at least, where it does not hold numbers.
    small_bytes = min(2 * allowed.items, allowed.max_bytes)

    def read(data: bytes) -> Any:
        if len(data) > small_bytes:
            if len(data) > allowed.max_bytes:
                raise limits.too_large(f"request of {name}", len(data), allowed.max_bytes)
            _Walk(data, name, allowed).check(shape)
        return parse(data)

    return read


class _Walk:
    """One walk over a message's tags and lengths."""

    def __init__(self, data: bytes, name: str, allowed: Limits) -> None:
        self._data = data
        self._name = name
        self._allowed = allowed
        self._parts = 0

    def check(self, shape: Shape) -> None:
        """Raises INVALID_REQUEST for more items, or more within them, than are allowed."""
        items = others = at = 0
        try:
            while at < len(self._data):
                number, wire_type, start, at = self._field(at)
                part = shape.get(number)
                if part is not None and part.repeated:
                    items += part.held(wire_type, start, at)
                    if items > self._allowed.items:
                        raise limits.too_many(f"items of {self._name}", items, self._allowed.items)
                else:
                    others += 1
                    if others > OTHERS_MAX:
                        raise limits.too_many(f"fields of {self._name} that are not repeated", others, OTHERS_MAX)
                if part is not None and part.inner:
                    self._check_parts(start, at, part.inner)
        except IndexError:
            return  # cut off: the parser says so

    def _check_parts(self, at: int, end: int, shape: Shape) -> None:
        while at < end:
            number, wire_type, start, at = self._field(at)
            part = shape.get(number)
            if part is None:
                continue
            self._parts += part.held(wire_type, start, at) if part.repeated else 1
            if self._parts > self._allowed.parts:
                raise limits.too_many(f"elements within the items of {self._name}", self._parts, self._allowed.parts)
            if part.inner:
                self._check_parts(start, min(at, end), part.inner)

    def _field(self, at: int) -> tuple[int, int, int, int]:
        """The field at a place: number, wire type, where its content begins, and where the next field does."""
        tag, at = self._varint(at)
        wire_type = tag & 7
        if wire_type == _BYTES:
            length, at = self._varint(at)
            return tag >> 3, wire_type, at, at + length
        if wire_type == _VARINT:
            return tag >> 3, wire_type, at, self._varint(at)[1]
        if wire_type in _FIXED:
            return tag >> 3, wire_type, at, at + _FIXED[wire_type]
        raise IndexError  # groups: nothing of ours has them

    def _varint(self, at: int) -> tuple[int, int]:
        data = self._data
        byte = data[at]
        if byte < 0x80:
            return byte, at + 1
        value, shift = byte & 0x7F, 7
        while True:
            at += 1
            byte = data[at]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, at + 1
            shift += 7
            if shift > 63:
                raise IndexError
