"""Absurd messages, made from their descriptors: every field at and beyond its limits, at random but repeatable."""

import math
import random
from collections.abc import Sequence
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

SIGNED_32: Final = (0, 1, 2, 3, -1, -2, -3, 7, 100, 2**31 - 1, -(2**31), 2**30)
SIGNED_64: Final = (*SIGNED_32, 2**63 - 1, -(2**63), 2**53, 1_700_000_000_000)
UNSIGNED_32: Final = (0, 1, 2, 7, 0x20, 2**31, 2**32 - 1)
UNSIGNED_64: Final = (*UNSIGNED_32, 2**63, 2**64 - 1)
NUMBERS: Final = {
    FieldDescriptor.TYPE_INT32: SIGNED_32,
    FieldDescriptor.TYPE_SINT32: SIGNED_32,
    FieldDescriptor.TYPE_SFIXED32: SIGNED_32,
    FieldDescriptor.TYPE_INT64: SIGNED_64,
    FieldDescriptor.TYPE_SINT64: SIGNED_64,
    FieldDescriptor.TYPE_SFIXED64: SIGNED_64,
    FieldDescriptor.TYPE_UINT32: UNSIGNED_32,
    FieldDescriptor.TYPE_FIXED32: UNSIGNED_32,
    FieldDescriptor.TYPE_UINT64: UNSIGNED_64,
    FieldDescriptor.TYPE_FIXED64: UNSIGNED_64,
    FieldDescriptor.TYPE_DOUBLE: (0.0, -0.0, 1.0, -1.0, 0.5, 1e308, 5e-324, 2.0**63, math.inf, -math.inf, math.nan),
    FieldDescriptor.TYPE_BOOL: (False, True),
    # Values that the enums do not have, too: on the wire they are plain numbers.
    FieldDescriptor.TYPE_ENUM: (0, 1, 2, 3, 4, 5, -1, 99, 2**31 - 1),
}
STRINGS: Final = (
    *("", ".", "..", "../../etc/passwd", "nul\0", "\u0430\u0301\U0001f702", "a b", "a" * 249, "a" * 250, "x" * 100_000),
    *("-1", "0", "1", "99999999999999999999", "1e400", "NaN", "(" * 50, "(a+)+$", ".*", "uniform", "range", "stable"),
    *("retention.ms", "segment.bytes", "cleanup.policy", "min.insync.replicas", "flush", "__consumer_offsets"),
)
BYTES: Final = (b"", b"\0", b"\0" * 16, b"\xff" * 16, b"\xff" * 17, b"\x0a\x03", b"z" * 100_000)
SLOWS_ALL: Final = {"AlterClientQuotas"}
"""What holds for clients that are not named, too, when it is taken: it is checked alone."""
DEPTH: Final = 6
CHANCE_OF_FIELD: Final = 0.7
CHANCE_OF_MANY: Final = 0.02


class Absurd:
    """Makes messages. `names` and `ids` are of things that exist, so that some messages get past the first check."""

    def __init__(self, seed: int, names: Sequence[str], ids: Sequence[bytes]) -> None:
        self._rng = random.Random(seed)
        self._names = list(names)
        self._ids = list(ids)

    def call(self, services: Sequence[ServiceDescriptor]) -> tuple[MethodDescriptor, bytes]:
        """One unary call of any method, and the bytes of its request: one in ten damaged."""
        unary = [m for s in services for m in s.methods if not m.client_streaming and not m.server_streaming]
        method = self._rng.choice(unary)
        request: Any = self.message(method.input_type)
        if method.name in SLOWS_ALL:
            request.validate_only = True
        data = request.SerializeToString()
        if data and method.name not in SLOWS_ALL and self._rng.random() < 0.1:
            at = self._rng.randrange(len(data))
            data = data[:at] + self._rng.randbytes(self._rng.randrange(3)) + data[at + 1 :]
        return method, data

    def message(self, descriptor: Descriptor, depth: int = DEPTH) -> Message:
        made = GetMessageClass(descriptor)()
        for field in descriptor.fields:
            if self._rng.random() < CHANCE_OF_FIELD and (depth > 0 or field.message_type is None):
                self._fill(made, field, depth)
        return made

    def _fill(self, made: Any, field: FieldDescriptor, depth: int) -> None:
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            entry = field.message_type.fields_by_name
            for _ in range(self._rng.randrange(4)):
                getattr(made, field.name)[self._scalar(entry["key"])] = self._scalar(entry["value"])
        elif field.is_repeated:
            count = 500 if depth == DEPTH and self._rng.random() < CHANCE_OF_MANY else self._rng.randrange(4)
            items = getattr(made, field.name)
            for _ in range(count):
                items.append(self._value(field, depth))
        elif field.message_type is not None:
            getattr(made, field.name).CopyFrom(self._value(field, depth))
        else:
            setattr(made, field.name, self._value(field, depth))

    def _value(self, field: FieldDescriptor, depth: int) -> Any:
        if field.message_type is not None:
            return self.message(field.message_type, depth - 1)
        return self._scalar(field)

    def _scalar(self, field: FieldDescriptor) -> Any:
        if field.type == FieldDescriptor.TYPE_STRING:
            return self._rng.choice(self._names if self._rng.random() < 0.5 else STRINGS)
        if field.type == FieldDescriptor.TYPE_BYTES:
            return self._rng.choice(self._ids if self._rng.random() < 0.3 else BYTES)
        return self._rng.choice(NUMBERS[field.type])
