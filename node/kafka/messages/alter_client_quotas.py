"""Kafka's AlterClientQuotas, made by `make kafka` from node/kafka/schema/table.txt; changes belong there."""

from collections.abc import Callable, Sequence
from struct import Struct
from typing import Final

from node.kafka.wire import ELEMENTS_MAX, INT16, INT32, Buffer, Message, compact_string, nullable_compact_string, nullable_string, refuse_length, skip_tags, string, too_many, uvarint, write_uvarint

_B = Struct(">?")
_dB = Struct(">d?")
_h = Struct(">h")
_i = Struct(">i")


class EntityData(Message):
    __slots__ = ("entity_type", "entity_name")

    def __init__(
        self,
        entity_type: str = "",
        entity_name: str | None = "",
    ) -> None:
        self.entity_type = entity_type
        self.entity_name = entity_name


class OpData(Message):
    __slots__ = ("key", "value", "remove")

    def __init__(
        self,
        key: str = "",
        value: float = 0,
        remove: bool = False,
    ) -> None:
        self.key = key
        self.value = value
        self.remove = remove


class ChangesData(Message):
    __slots__ = ("entity", "ops")

    def __init__(
        self,
        entity: Sequence[EntityData] = (),
        ops: Sequence[OpData] = (),
    ) -> None:
        self.entity = entity
        self.ops = ops


class AlterClientQuotasRequest(Message):
    __slots__ = ("entries", "validate_only")

    def __init__(
        self,
        entries: Sequence[ChangesData] = (),
        validate_only: bool = False,
    ) -> None:
        self.entries = entries
        self.validate_only = validate_only


class EntryData(Message):
    __slots__ = ("error_code", "error_message", "entity")

    def __init__(
        self,
        error_code: int = 0,
        error_message: str | None = "",
        entity: Sequence[EntityData] = (),
    ) -> None:
        self.error_code = error_code
        self.error_message = error_message
        self.entity = entity


class AlterClientQuotasResponse(Message):
    __slots__ = ("throttle_time_ms", "entries")

    def __init__(
        self,
        throttle_time_ms: int = 0,
        entries: Sequence[EntryData] = (),
    ) -> None:
        self.throttle_time_ms = throttle_time_ms
        self.entries = entries


def read_0(b: Buffer, p: int) -> tuple[AlterClientQuotasRequest, int]:
    end = len(b)
    room = ELEMENTS_MAX
    (n_2,) = INT32.unpack_from(b, p)
    p += 4
    if n_2 < 0 or n_2 > (end - p) // 8:
        raise refuse_length("entries", n_2)
    room -= n_2
    if room < 0:
        raise too_many("entries")
    made_3: list[ChangesData] = []
    for _ in range(n_2):
        (n_5,) = INT32.unpack_from(b, p)
        p += 4
        if n_5 < 0 or n_5 > (end - p) // 4:
            raise refuse_length("entity", n_5)
        room -= n_5
        if room < 0:
            raise too_many("entity")
        made_6: list[EntityData] = []
        for _ in range(n_5):
            (n_8,) = INT16.unpack_from(b, p)
            p += 2
            if n_8 < 0 or p + n_8 > end:
                raise refuse_length("entity_type", n_8)
            entity_type_7 = str(b[p : p + n_8], "utf-8")
            p += n_8
            (n_10,) = INT16.unpack_from(b, p)
            p += 2
            entity_name_9: str | None = None
            if n_10 != -1:
                if n_10 < 0 or p + n_10 > end:
                    raise refuse_length("entity_name", n_10)
                entity_name_9 = str(b[p : p + n_10], "utf-8")
                p += n_10
            made_6.append(EntityData(entity_type_7, entity_name_9))
        entity_4 = made_6
        (n_12,) = INT32.unpack_from(b, p)
        p += 4
        if n_12 < 0 or n_12 > (end - p) // 11:
            raise refuse_length("ops", n_12)
        room -= n_12
        if room < 0:
            raise too_many("ops")
        made_13: list[OpData] = []
        for _ in range(n_12):
            (n_15,) = INT16.unpack_from(b, p)
            p += 2
            if n_15 < 0 or p + n_15 > end:
                raise refuse_length("key", n_15)
            key_14 = str(b[p : p + n_15], "utf-8")
            p += n_15
            value_16, remove_17 = _dB.unpack_from(b, p)
            p += 9
            made_13.append(OpData(key_14, value_16, remove_17))
        ops_11 = made_13
        made_3.append(ChangesData(entity_4, ops_11))
    entries_1 = made_3
    (validate_only_18,) = _B.unpack_from(b, p)
    p += 1
    return AlterClientQuotasRequest(entries_1, validate_only_18), p


def read_1(b: Buffer, p: int) -> tuple[AlterClientQuotasRequest, int]:
    end = len(b)
    room = ELEMENTS_MAX
    n_2 = b[p] - 1
    p += 1
    if n_2 > 126:
        n_2, p = uvarint(b, p - 1)
        n_2 -= 1
    if n_2 < 0 or n_2 > (end - p) // 3:
        raise refuse_length("entries", n_2)
    room -= n_2
    if room < 0:
        raise too_many("entries")
    made_3: list[ChangesData] = []
    for _ in range(n_2):
        n_5 = b[p] - 1
        p += 1
        if n_5 > 126:
            n_5, p = uvarint(b, p - 1)
            n_5 -= 1
        if n_5 < 0 or n_5 > (end - p) // 3:
            raise refuse_length("entity", n_5)
        room -= n_5
        if room < 0:
            raise too_many("entity")
        made_6: list[EntityData] = []
        for _ in range(n_5):
            n_8 = b[p] - 1
            p += 1
            if n_8 > 126:
                n_8, p = uvarint(b, p - 1)
                n_8 -= 1
            if n_8 < 0 or p + n_8 > end:
                raise refuse_length("entity_type", n_8)
            entity_type_7 = str(b[p : p + n_8], "utf-8")
            p += n_8
            n_10 = b[p] - 1
            p += 1
            if n_10 > 126:
                n_10, p = uvarint(b, p - 1)
                n_10 -= 1
            entity_name_9: str | None = None
            if n_10 != -1:
                if n_10 < 0 or p + n_10 > end:
                    raise refuse_length("entity_name", n_10)
                entity_name_9 = str(b[p : p + n_10], "utf-8")
                p += n_10
            p = skip_tags(b, p) if b[p] else p + 1
            made_6.append(EntityData(entity_type_7, entity_name_9))
        entity_4 = made_6
        n_12 = b[p] - 1
        p += 1
        if n_12 > 126:
            n_12, p = uvarint(b, p - 1)
            n_12 -= 1
        if n_12 < 0 or n_12 > (end - p) // 11:
            raise refuse_length("ops", n_12)
        room -= n_12
        if room < 0:
            raise too_many("ops")
        made_13: list[OpData] = []
        for _ in range(n_12):
            n_15 = b[p] - 1
            p += 1
            if n_15 > 126:
                n_15, p = uvarint(b, p - 1)
                n_15 -= 1
            if n_15 < 0 or p + n_15 > end:
                raise refuse_length("key", n_15)
            key_14 = str(b[p : p + n_15], "utf-8")
            p += n_15
            value_16, remove_17 = _dB.unpack_from(b, p)
            p += 9
            p = skip_tags(b, p) if b[p] else p + 1
            made_13.append(OpData(key_14, value_16, remove_17))
        ops_11 = made_13
        p = skip_tags(b, p) if b[p] else p + 1
        made_3.append(ChangesData(entity_4, ops_11))
    entries_1 = made_3
    (validate_only_18,) = _B.unpack_from(b, p)
    p += 1
    p = skip_tags(b, p) if b[p] else p + 1
    return AlterClientQuotasRequest(entries_1, validate_only_18), p


def write_0(m: AlterClientQuotasResponse, w: Callable[[bytes], None]) -> None:
    w(_i.pack(m.throttle_time_ms))
    a_1 = m.entries
    w(INT32.pack(len(a_1)))
    for o_2 in a_1:
        w(_h.pack(o_2.error_code))
        w(nullable_string(o_2.error_message))
        a_3 = o_2.entity
        w(INT32.pack(len(a_3)))
        for o_4 in a_3:
            w(string(o_4.entity_type))
            w(nullable_string(o_4.entity_name))


def write_1(m: AlterClientQuotasResponse, w: Callable[[bytes], None]) -> None:
    w(_i.pack(m.throttle_time_ms))
    a_1 = m.entries
    w(write_uvarint(len(a_1) + 1))
    for o_2 in a_1:
        w(_h.pack(o_2.error_code))
        w(nullable_compact_string(o_2.error_message))
        a_3 = o_2.entity
        w(write_uvarint(len(a_3) + 1))
        for o_4 in a_3:
            w(compact_string(o_4.entity_type))
            w(nullable_compact_string(o_4.entity_name))
            w(b"\0")
        w(b"\0")
    w(b"\0")


READ: Final = {0: read_0, 1: read_1}


WRITE: Final = {0: write_0, 1: write_1}
