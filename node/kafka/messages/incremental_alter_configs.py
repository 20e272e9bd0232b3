"""Kafka's IncrementalAlterConfigs, made by `make kafka` from node/kafka/schema/table.txt; changes belong there."""

from collections.abc import Callable, Sequence
from struct import Struct
from typing import Final

from node.kafka.wire import ELEMENTS_MAX, INT16, INT32, Buffer, Message, compact_string, nullable_compact_string, nullable_string, refuse_length, skip_tags, string, too_many, uvarint, write_uvarint

_B = Struct(">?")
_b = Struct(">b")
_h = Struct(">h")
_i = Struct(">i")


class AlterableConfig(Message):
    __slots__ = ("name", "config_operation", "value")

    def __init__(
        self,
        name: str = "",
        config_operation: int = 0,
        value: str | None = "",
    ) -> None:
        self.name = name
        self.config_operation = config_operation
        self.value = value


class AlterConfigsResource(Message):
    __slots__ = ("resource_type", "resource_name", "configs")

    def __init__(
        self,
        resource_type: int = 0,
        resource_name: str = "",
        configs: Sequence[AlterableConfig] = (),
    ) -> None:
        self.resource_type = resource_type
        self.resource_name = resource_name
        self.configs = configs


class IncrementalAlterConfigsRequest(Message):
    __slots__ = ("resources", "validate_only")

    def __init__(
        self,
        resources: Sequence[AlterConfigsResource] = (),
        validate_only: bool = False,
    ) -> None:
        self.resources = resources
        self.validate_only = validate_only


class AlterConfigsResourceResponse(Message):
    __slots__ = ("error_code", "error_message", "resource_type", "resource_name")

    def __init__(
        self,
        error_code: int = 0,
        error_message: str | None = "",
        resource_type: int = 0,
        resource_name: str = "",
    ) -> None:
        self.error_code = error_code
        self.error_message = error_message
        self.resource_type = resource_type
        self.resource_name = resource_name


class IncrementalAlterConfigsResponse(Message):
    __slots__ = ("throttle_time_ms", "responses")

    def __init__(
        self,
        throttle_time_ms: int = 0,
        responses: Sequence[AlterConfigsResourceResponse] = (),
    ) -> None:
        self.throttle_time_ms = throttle_time_ms
        self.responses = responses


def read_0(b: Buffer, p: int) -> tuple[IncrementalAlterConfigsRequest, int]:
    end = len(b)
    room = ELEMENTS_MAX
    (n_2,) = INT32.unpack_from(b, p)
    p += 4
    if n_2 < 0 or n_2 > (end - p) // 7:
        raise refuse_length("resources", n_2)
    room -= n_2
    if room < 0:
        raise too_many("resources")
    made_3: list[AlterConfigsResource] = []
    for _ in range(n_2):
        (resource_type_4,) = _b.unpack_from(b, p)
        p += 1
        (n_6,) = INT16.unpack_from(b, p)
        p += 2
        if n_6 < 0 or p + n_6 > end:
            raise refuse_length("resource_name", n_6)
        resource_name_5 = str(b[p : p + n_6], "utf-8")
        p += n_6
        (n_8,) = INT32.unpack_from(b, p)
        p += 4
        if n_8 < 0 or n_8 > (end - p) // 5:
            raise refuse_length("configs", n_8)
        room -= n_8
        if room < 0:
            raise too_many("configs")
        made_9: list[AlterableConfig] = []
        for _ in range(n_8):
            (n_11,) = INT16.unpack_from(b, p)
            p += 2
            if n_11 < 0 or p + n_11 > end:
                raise refuse_length("name", n_11)
            name_10 = str(b[p : p + n_11], "utf-8")
            p += n_11
            (config_operation_12,) = _b.unpack_from(b, p)
            p += 1
            (n_14,) = INT16.unpack_from(b, p)
            p += 2
            value_13: str | None = None
            if n_14 != -1:
                if n_14 < 0 or p + n_14 > end:
                    raise refuse_length("value", n_14)
                value_13 = str(b[p : p + n_14], "utf-8")
                p += n_14
            made_9.append(AlterableConfig(name_10, config_operation_12, value_13))
        configs_7 = made_9
        made_3.append(AlterConfigsResource(resource_type_4, resource_name_5, configs_7))
    resources_1 = made_3
    (validate_only_15,) = _B.unpack_from(b, p)
    p += 1
    return IncrementalAlterConfigsRequest(resources_1, validate_only_15), p


def read_1(b: Buffer, p: int) -> tuple[IncrementalAlterConfigsRequest, int]:
    end = len(b)
    room = ELEMENTS_MAX
    n_2 = b[p] - 1
    p += 1
    if n_2 > 126:
        n_2, p = uvarint(b, p - 1)
        n_2 -= 1
    if n_2 < 0 or n_2 > (end - p) // 4:
        raise refuse_length("resources", n_2)
    room -= n_2
    if room < 0:
        raise too_many("resources")
    made_3: list[AlterConfigsResource] = []
    for _ in range(n_2):
        (resource_type_4,) = _b.unpack_from(b, p)
        p += 1
        n_6 = b[p] - 1
        p += 1
        if n_6 > 126:
            n_6, p = uvarint(b, p - 1)
            n_6 -= 1
        if n_6 < 0 or p + n_6 > end:
            raise refuse_length("resource_name", n_6)
        resource_name_5 = str(b[p : p + n_6], "utf-8")
        p += n_6
        n_8 = b[p] - 1
        p += 1
        if n_8 > 126:
            n_8, p = uvarint(b, p - 1)
            n_8 -= 1
        if n_8 < 0 or n_8 > (end - p) // 4:
            raise refuse_length("configs", n_8)
        room -= n_8
        if room < 0:
            raise too_many("configs")
        made_9: list[AlterableConfig] = []
        for _ in range(n_8):
            n_11 = b[p] - 1
            p += 1
            if n_11 > 126:
                n_11, p = uvarint(b, p - 1)
                n_11 -= 1
            if n_11 < 0 or p + n_11 > end:
                raise refuse_length("name", n_11)
            name_10 = str(b[p : p + n_11], "utf-8")
            p += n_11
            (config_operation_12,) = _b.unpack_from(b, p)
            p += 1
            n_14 = b[p] - 1
            p += 1
            if n_14 > 126:
                n_14, p = uvarint(b, p - 1)
                n_14 -= 1
            value_13: str | None = None
            if n_14 != -1:
                if n_14 < 0 or p + n_14 > end:
                    raise refuse_length("value", n_14)
                value_13 = str(b[p : p + n_14], "utf-8")
                p += n_14
            p = skip_tags(b, p) if b[p] else p + 1
            made_9.append(AlterableConfig(name_10, config_operation_12, value_13))
        configs_7 = made_9
        p = skip_tags(b, p) if b[p] else p + 1
        made_3.append(AlterConfigsResource(resource_type_4, resource_name_5, configs_7))
    resources_1 = made_3
    (validate_only_15,) = _B.unpack_from(b, p)
    p += 1
    p = skip_tags(b, p) if b[p] else p + 1
    return IncrementalAlterConfigsRequest(resources_1, validate_only_15), p


def write_0(m: IncrementalAlterConfigsResponse, w: Callable[[bytes], None]) -> None:
    w(_i.pack(m.throttle_time_ms))
    a_1 = m.responses
    w(INT32.pack(len(a_1)))
    for o_2 in a_1:
        w(_h.pack(o_2.error_code))
        w(nullable_string(o_2.error_message))
        w(_b.pack(o_2.resource_type))
        w(string(o_2.resource_name))


def write_1(m: IncrementalAlterConfigsResponse, w: Callable[[bytes], None]) -> None:
    w(_i.pack(m.throttle_time_ms))
    a_1 = m.responses
    w(write_uvarint(len(a_1) + 1))
    for o_2 in a_1:
        w(_h.pack(o_2.error_code))
        w(nullable_compact_string(o_2.error_message))
        w(_b.pack(o_2.resource_type))
        w(compact_string(o_2.resource_name))
        w(b"\0")
    w(b"\0")


READ: Final = {0: read_0, 1: read_1}


WRITE: Final = {0: write_0, 1: write_1}
