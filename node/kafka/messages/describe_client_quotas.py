"""Kafka's DescribeClientQuotas, made by `make kafka` from node/kafka/schema/table.txt; changes belong there."""

from collections.abc import Callable, Sequence
from struct import Struct
from typing import Final

from node.kafka.wire import ELEMENTS_MAX, INT16, INT32, Buffer, Message, compact_string, nullable_compact_string, nullable_string, refuse_length, skip_tags, string, too_many, uvarint, write_uvarint

_B = Struct(">?")
_b = Struct(">b")
_d = Struct(">d")
_ih = Struct(">ih")


class ComponentData(Message):
    __slots__ = ("entity_type", "match_type", "match")

    def __init__(
        self,
        entity_type: str = "",
        match_type: int = 0,
        match: str | None = "",
    ) -> None:
        self.entity_type = entity_type
        self.match_type = match_type
        self.match = match


class DescribeClientQuotasRequest(Message):
    __slots__ = ("components", "strict")

    def __init__(
        self,
        components: Sequence[ComponentData] = (),
        strict: bool = False,
    ) -> None:
        self.components = components
        self.strict = strict


class EntityData(Message):
    __slots__ = ("entity_type", "entity_name")

    def __init__(
        self,
        entity_type: str = "",
        entity_name: str | None = "",
    ) -> None:
        self.entity_type = entity_type
        self.entity_name = entity_name


class ValueData(Message):
    __slots__ = ("key", "value")

    def __init__(
        self,
        key: str = "",
        value: float = 0,
    ) -> None:
        self.key = key
        self.value = value


class EntryData(Message):
    __slots__ = ("entity", "values")

    def __init__(
        self,
        entity: Sequence[EntityData] = (),
        values: Sequence[ValueData] = (),
    ) -> None:
        self.entity = entity
        self.values = values


class DescribeClientQuotasResponse(Message):
    __slots__ = ("throttle_time_ms", "error_code", "error_message", "entries")

    def __init__(
        self,
        throttle_time_ms: int = 0,
        error_code: int = 0,
        error_message: str | None = "",
        entries: Sequence[EntryData] | None = (),
    ) -> None:
        self.throttle_time_ms = throttle_time_ms
        self.error_code = error_code
        self.error_message = error_message
        self.entries = entries


def read_0(b: Buffer, p: int) -> tuple[DescribeClientQuotasRequest, int]:
    end = len(b)
    room = ELEMENTS_MAX
    (n_2,) = INT32.unpack_from(b, p)
    p += 4
    if n_2 < 0 or n_2 > (end - p) // 5:
        raise refuse_length("components", n_2)
    room -= n_2
    if room < 0:
        raise too_many("components")
    made_3: list[ComponentData] = []
    for _ in range(n_2):
        (n_5,) = INT16.unpack_from(b, p)
        p += 2
        if n_5 < 0 or p + n_5 > end:
            raise refuse_length("entity_type", n_5)
        entity_type_4 = str(b[p : p + n_5], "utf-8")
        p += n_5
        (match_type_6,) = _b.unpack_from(b, p)
        p += 1
        (n_8,) = INT16.unpack_from(b, p)
        p += 2
        match_7: str | None = None
        if n_8 != -1:
            if n_8 < 0 or p + n_8 > end:
                raise refuse_length("match", n_8)
            match_7 = str(b[p : p + n_8], "utf-8")
            p += n_8
        made_3.append(ComponentData(entity_type_4, match_type_6, match_7))
    components_1 = made_3
    (strict_9,) = _B.unpack_from(b, p)
    p += 1
    return DescribeClientQuotasRequest(components_1, strict_9), p


def read_1(b: Buffer, p: int) -> tuple[DescribeClientQuotasRequest, int]:
    end = len(b)
    room = ELEMENTS_MAX
    n_2 = b[p] - 1
    p += 1
    if n_2 > 126:
        n_2, p = uvarint(b, p - 1)
        n_2 -= 1
    if n_2 < 0 or n_2 > (end - p) // 4:
        raise refuse_length("components", n_2)
    room -= n_2
    if room < 0:
        raise too_many("components")
    made_3: list[ComponentData] = []
    for _ in range(n_2):
        n_5 = b[p] - 1
        p += 1
        if n_5 > 126:
            n_5, p = uvarint(b, p - 1)
            n_5 -= 1
        if n_5 < 0 or p + n_5 > end:
            raise refuse_length("entity_type", n_5)
        entity_type_4 = str(b[p : p + n_5], "utf-8")
        p += n_5
        (match_type_6,) = _b.unpack_from(b, p)
        p += 1
        n_8 = b[p] - 1
        p += 1
        if n_8 > 126:
            n_8, p = uvarint(b, p - 1)
            n_8 -= 1
        match_7: str | None = None
        if n_8 != -1:
            if n_8 < 0 or p + n_8 > end:
                raise refuse_length("match", n_8)
            match_7 = str(b[p : p + n_8], "utf-8")
            p += n_8
        p = skip_tags(b, p) if b[p] else p + 1
        made_3.append(ComponentData(entity_type_4, match_type_6, match_7))
    components_1 = made_3
    (strict_9,) = _B.unpack_from(b, p)
    p += 1
    p = skip_tags(b, p) if b[p] else p + 1
    return DescribeClientQuotasRequest(components_1, strict_9), p


def write_0(m: DescribeClientQuotasResponse, w: Callable[[bytes], None]) -> None:
    w(_ih.pack(m.throttle_time_ms, m.error_code))
    w(nullable_string(m.error_message))
    a_1 = m.entries
    if a_1 is None:
        w(b"\xff\xff\xff\xff")
    else:
        w(INT32.pack(len(a_1)))
        for o_2 in a_1:
            a_3 = o_2.entity
            w(INT32.pack(len(a_3)))
            for o_4 in a_3:
                w(string(o_4.entity_type))
                w(nullable_string(o_4.entity_name))
            a_5 = o_2.values
            w(INT32.pack(len(a_5)))
            for o_6 in a_5:
                w(string(o_6.key))
                w(_d.pack(o_6.value))


def write_1(m: DescribeClientQuotasResponse, w: Callable[[bytes], None]) -> None:
    w(_ih.pack(m.throttle_time_ms, m.error_code))
    w(nullable_compact_string(m.error_message))
    a_1 = m.entries
    if a_1 is None:
        w(b"\0")
    else:
        w(write_uvarint(len(a_1) + 1))
        for o_2 in a_1:
            a_3 = o_2.entity
            w(write_uvarint(len(a_3) + 1))
            for o_4 in a_3:
                w(compact_string(o_4.entity_type))
                w(nullable_compact_string(o_4.entity_name))
                w(b"\0")
            a_5 = o_2.values
            w(write_uvarint(len(a_5) + 1))
            for o_6 in a_5:
                w(compact_string(o_6.key))
                w(_d.pack(o_6.value))
                w(b"\0")
            w(b"\0")
    w(b"\0")


READ: Final = {0: read_0, 1: read_1}


WRITE: Final = {0: write_0, 1: write_1}
