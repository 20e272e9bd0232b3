"""The smallest pieces of Kafka's wire format, which the generated codecs and those by hand are made of.

Whoever reads counts before allocating: a length or a count that the frame cannot hold is refused, so what a frame
makes in memory is bounded by its size. A request that ends too early shows as an IndexError or a struct.error of the
read that went too far; `node.kafka.codec` turns both into `MalformedRequest`.
"""

from collections.abc import Sequence
from struct import Struct
from typing import Final, TypeAlias

Buffer: TypeAlias = bytes | bytearray | memoryview
NO_ID: Final = bytes(16)
ELEMENTS_MAX: Final = 20_000
"""Of all arrays of a request together: reading one costs some microseconds, and nobody else has a turn meanwhile."""
TAGS_MAX: Final = 5
"""Of one element, and all unknown: Kafka's own requests have two at most."""
INT16: Final = Struct(">h")
INT32: Final = Struct(">i")
_BYTES: Final = tuple(bytes((number,)) for number in range(128))


class MalformedRequest(ValueError):
    """The bytes are not the request that they claim to be."""


class Message:
    """What all messages and their parts have in common: equality and a readable form."""

    __slots__: tuple[str, ...] = ()

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and all(getattr(self, name) == getattr(other, name) for name in self.__slots__)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__slots__)
        return f"{type(self).__name__}({values})"


def uvarint(b: Buffer, p: int) -> tuple[int, int]:
    """An unsigned varint of at most five bytes at `p`, and where it ends."""
    found = 0
    for shift in (0, 7, 14, 21, 28):
        byte = b[p]
        p += 1
        found |= (byte & 127) << shift
        if byte < 128:
            return found, p
    raise MalformedRequest("a length of more than five bytes")


def skip_tags(b: Buffer, p: int) -> int:
    """Where a block of tagged fields ends, all of them unknown."""
    count, p = uvarint(b, p)
    if count > TAGS_MAX:
        raise MalformedRequest(f"{count} tagged fields in one place")
    for _ in range(count):
        _, p = uvarint(b, p)
        size, p = uvarint(b, p)
        p += size
        if p > len(b):
            raise MalformedRequest("a tagged field that is longer than the request")
    return p


def refuse_length(what: str, length: int) -> MalformedRequest:
    """The error of a string, bytes or array that cannot be: null where it must not be, or longer than the request."""
    if length == -1:
        return MalformedRequest(f"{what} is null")
    return MalformedRequest(f"{what} has a length of {length}, which the request cannot hold")


def too_many(what: str) -> MalformedRequest:
    """The error of a request whose arrays have more elements than one turn of the loop has time for."""
    return MalformedRequest(f"its arrays have more than {ELEMENTS_MAX} elements together, at {what}")


def write_uvarint(number: int) -> bytes:
    if number < 128:
        return _BYTES[number]
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def string(text: str) -> bytes:
    data = text.encode()
    return INT16.pack(len(data)) + data


def nullable_string(text: str | None) -> bytes:
    return b"\xff\xff" if text is None else string(text)


def compact_string(text: str) -> bytes:
    data = text.encode()
    return write_uvarint(len(data) + 1) + data


def nullable_compact_string(text: str | None) -> bytes:
    return b"\0" if text is None else compact_string(text)


def long_bytes(data: bytes) -> bytes:
    return INT32.pack(len(data)) + data


def nullable_long_bytes(data: bytes | None) -> bytes:
    return b"\xff\xff\xff\xff" if data is None else long_bytes(data)


def compact_bytes(data: bytes) -> bytes:
    return write_uvarint(len(data) + 1) + data


def nullable_compact_bytes(data: bytes | None) -> bytes:
    return b"\0" if data is None else compact_bytes(data)


def tagged(fields: Sequence[tuple[int, bytes]]) -> bytes:
    """A block of tagged fields, in the order of their tags."""
    parts = [write_uvarint(len(fields))]
    for tag, data in fields:
        parts += (write_uvarint(tag), write_uvarint(len(data)), data)
    return b"".join(parts)
