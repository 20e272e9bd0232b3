"""Kafka's DescribeConfigs, made by `make kafka` from node/kafka/schema/table.txt; changes belong there."""

from collections.abc import Callable, Sequence
from struct import Struct
from typing import Final

from node.kafka.wire import ELEMENTS_MAX, INT16, INT32, Buffer, Message, compact_string, nullable_compact_string, nullable_string, refuse_length, skip_tags, string, too_many, uvarint, write_uvarint

_B = Struct(">?")
_BB = Struct(">??")
_BBB = Struct(">???")
_BbB = Struct(">?b?")
_b = Struct(">b")
_h = Struct(">h")
_i = Struct(">i")


class DescribeConfigsResource(Message):
    __slots__ = ("resource_type", "resource_name", "configuration_keys")

    def __init__(
        self,
        resource_type: int = 0,
        resource_name: str = "",
        configuration_keys: Sequence[str] | None = (),
    ) -> None:
        self.resource_type = resource_type
        self.resource_name = resource_name
        self.configuration_keys = configuration_keys


class DescribeConfigsRequest(Message):
    __slots__ = ("resources", "include_synonyms", "include_documentation")

    def __init__(
        self,
        resources: Sequence[DescribeConfigsResource] = (),
        include_synonyms: bool = False,
        include_documentation: bool = False,
    ) -> None:
        self.resources = resources
        self.include_synonyms = include_synonyms
        self.include_documentation = include_documentation


class DescribeConfigsSynonym(Message):
    __slots__ = ("name", "value", "source")

    def __init__(
        self,
        name: str = "",
        value: str | None = "",
        source: int = 0,
    ) -> None:
        self.name = name
        self.value = value
        self.source = source


class DescribeConfigsResourceResult(Message):
    __slots__ = ("name", "value", "read_only", "config_source", "is_default", "is_sensitive", "synonyms", "config_type", "documentation")

    def __init__(
        self,
        name: str = "",
        value: str | None = "",
        read_only: bool = False,
        config_source: int = -1,
        is_default: bool = False,
        is_sensitive: bool = False,
        synonyms: Sequence[DescribeConfigsSynonym] = (),
        config_type: int = 0,
        documentation: str | None = "",
    ) -> None:
        self.name = name
        self.value = value
        self.read_only = read_only
        self.config_source = config_source
        self.is_default = is_default
        self.is_sensitive = is_sensitive
        self.synonyms = synonyms
        self.config_type = config_type
        self.documentation = documentation


class DescribeConfigsResult(Message):
    __slots__ = ("error_code", "error_message", "resource_type", "resource_name", "configs")

    def __init__(
        self,
        error_code: int = 0,
        error_message: str | None = "",
        resource_type: int = 0,
        resource_name: str = "",
        configs: Sequence[DescribeConfigsResourceResult] = (),
    ) -> None:
        self.error_code = error_code
        self.error_message = error_message
        self.resource_type = resource_type
        self.resource_name = resource_name
        self.configs = configs


class DescribeConfigsResponse(Message):
    __slots__ = ("throttle_time_ms", "results")

    def __init__(
        self,
        throttle_time_ms: int = 0,
        results: Sequence[DescribeConfigsResult] = (),
    ) -> None:
        self.throttle_time_ms = throttle_time_ms
        self.results = results


def read_0(b: Buffer, p: int) -> tuple[DescribeConfigsRequest, int]:
    end = len(b)
    room = ELEMENTS_MAX
    (n_2,) = INT32.unpack_from(b, p)
    p += 4
    if n_2 < 0 or n_2 > (end - p) // 7:
        raise refuse_length("resources", n_2)
    room -= n_2
    if room < 0:
        raise too_many("resources")
    made_3: list[DescribeConfigsResource] = []
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
        configuration_keys_7: Sequence[str] | None = None
        if n_8 != -1:
            if n_8 < 0 or n_8 > (end - p) // 2:
                raise refuse_length("configuration_keys", n_8)
            room -= n_8
            if room < 0:
                raise too_many("configuration_keys")
            made_9: list[str] = []
            for _ in range(n_8):
                (n_11,) = INT16.unpack_from(b, p)
                p += 2
                if n_11 < 0 or p + n_11 > end:
                    raise refuse_length("configuration_keys", n_11)
                each_10 = str(b[p : p + n_11], "utf-8")
                p += n_11
                made_9.append(each_10)
            configuration_keys_7 = made_9
        made_3.append(DescribeConfigsResource(resource_type_4, resource_name_5, configuration_keys_7))
    resources_1 = made_3
    return DescribeConfigsRequest(resources_1, False, False), p


def read_1(b: Buffer, p: int) -> tuple[DescribeConfigsRequest, int]:
    end = len(b)
    room = ELEMENTS_MAX
    (n_2,) = INT32.unpack_from(b, p)
    p += 4
    if n_2 < 0 or n_2 > (end - p) // 7:
        raise refuse_length("resources", n_2)
    room -= n_2
    if room < 0:
        raise too_many("resources")
    made_3: list[DescribeConfigsResource] = []
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
        configuration_keys_7: Sequence[str] | None = None
        if n_8 != -1:
            if n_8 < 0 or n_8 > (end - p) // 2:
                raise refuse_length("configuration_keys", n_8)
            room -= n_8
            if room < 0:
                raise too_many("configuration_keys")
            made_9: list[str] = []
            for _ in range(n_8):
                (n_11,) = INT16.unpack_from(b, p)
                p += 2
                if n_11 < 0 or p + n_11 > end:
                    raise refuse_length("configuration_keys", n_11)
                each_10 = str(b[p : p + n_11], "utf-8")
                p += n_11
                made_9.append(each_10)
            configuration_keys_7 = made_9
        made_3.append(DescribeConfigsResource(resource_type_4, resource_name_5, configuration_keys_7))
    resources_1 = made_3
    (include_synonyms_12,) = _B.unpack_from(b, p)
    p += 1
    return DescribeConfigsRequest(resources_1, include_synonyms_12, False), p


def read_3(b: Buffer, p: int) -> tuple[DescribeConfigsRequest, int]:
    end = len(b)
    room = ELEMENTS_MAX
    (n_2,) = INT32.unpack_from(b, p)
    p += 4
    if n_2 < 0 or n_2 > (end - p) // 7:
        raise refuse_length("resources", n_2)
    room -= n_2
    if room < 0:
        raise too_many("resources")
    made_3: list[DescribeConfigsResource] = []
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
        configuration_keys_7: Sequence[str] | None = None
        if n_8 != -1:
            if n_8 < 0 or n_8 > (end - p) // 2:
                raise refuse_length("configuration_keys", n_8)
            room -= n_8
            if room < 0:
                raise too_many("configuration_keys")
            made_9: list[str] = []
            for _ in range(n_8):
                (n_11,) = INT16.unpack_from(b, p)
                p += 2
                if n_11 < 0 or p + n_11 > end:
                    raise refuse_length("configuration_keys", n_11)
                each_10 = str(b[p : p + n_11], "utf-8")
                p += n_11
                made_9.append(each_10)
            configuration_keys_7 = made_9
        made_3.append(DescribeConfigsResource(resource_type_4, resource_name_5, configuration_keys_7))
    resources_1 = made_3
    include_synonyms_12, include_documentation_13 = _BB.unpack_from(b, p)
    p += 2
    return DescribeConfigsRequest(resources_1, include_synonyms_12, include_documentation_13), p


def read_4(b: Buffer, p: int) -> tuple[DescribeConfigsRequest, int]:
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
    made_3: list[DescribeConfigsResource] = []
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
        configuration_keys_7: Sequence[str] | None = None
        if n_8 != -1:
            if n_8 < 0 or n_8 > end - p:
                raise refuse_length("configuration_keys", n_8)
            room -= n_8
            if room < 0:
                raise too_many("configuration_keys")
            made_9: list[str] = []
            for _ in range(n_8):
                n_11 = b[p] - 1
                p += 1
                if n_11 > 126:
                    n_11, p = uvarint(b, p - 1)
                    n_11 -= 1
                if n_11 < 0 or p + n_11 > end:
                    raise refuse_length("configuration_keys", n_11)
                each_10 = str(b[p : p + n_11], "utf-8")
                p += n_11
                made_9.append(each_10)
            configuration_keys_7 = made_9
        p = skip_tags(b, p) if b[p] else p + 1
        made_3.append(DescribeConfigsResource(resource_type_4, resource_name_5, configuration_keys_7))
    resources_1 = made_3
    include_synonyms_12, include_documentation_13 = _BB.unpack_from(b, p)
    p += 2
    p = skip_tags(b, p) if b[p] else p + 1
    return DescribeConfigsRequest(resources_1, include_synonyms_12, include_documentation_13), p


def write_0(m: DescribeConfigsResponse, w: Callable[[bytes], None]) -> None:
    w(_i.pack(m.throttle_time_ms))
    a_1 = m.results
    w(INT32.pack(len(a_1)))
    for o_2 in a_1:
        w(_h.pack(o_2.error_code))
        w(nullable_string(o_2.error_message))
        w(_b.pack(o_2.resource_type))
        w(string(o_2.resource_name))
        a_3 = o_2.configs
        w(INT32.pack(len(a_3)))
        for o_4 in a_3:
            w(string(o_4.name))
            w(nullable_string(o_4.value))
            w(_BBB.pack(o_4.read_only, o_4.is_default, o_4.is_sensitive))


def write_1(m: DescribeConfigsResponse, w: Callable[[bytes], None]) -> None:
    w(_i.pack(m.throttle_time_ms))
    a_1 = m.results
    w(INT32.pack(len(a_1)))
    for o_2 in a_1:
        w(_h.pack(o_2.error_code))
        w(nullable_string(o_2.error_message))
        w(_b.pack(o_2.resource_type))
        w(string(o_2.resource_name))
        a_3 = o_2.configs
        w(INT32.pack(len(a_3)))
        for o_4 in a_3:
            w(string(o_4.name))
            w(nullable_string(o_4.value))
            w(_BbB.pack(o_4.read_only, o_4.config_source, o_4.is_sensitive))
            a_5 = o_4.synonyms
            w(INT32.pack(len(a_5)))
            for o_6 in a_5:
                w(string(o_6.name))
                w(nullable_string(o_6.value))
                w(_b.pack(o_6.source))


def write_3(m: DescribeConfigsResponse, w: Callable[[bytes], None]) -> None:
    w(_i.pack(m.throttle_time_ms))
    a_1 = m.results
    w(INT32.pack(len(a_1)))
    for o_2 in a_1:
        w(_h.pack(o_2.error_code))
        w(nullable_string(o_2.error_message))
        w(_b.pack(o_2.resource_type))
        w(string(o_2.resource_name))
        a_3 = o_2.configs
        w(INT32.pack(len(a_3)))
        for o_4 in a_3:
            w(string(o_4.name))
            w(nullable_string(o_4.value))
            w(_BbB.pack(o_4.read_only, o_4.config_source, o_4.is_sensitive))
            a_5 = o_4.synonyms
            w(INT32.pack(len(a_5)))
            for o_6 in a_5:
                w(string(o_6.name))
                w(nullable_string(o_6.value))
                w(_b.pack(o_6.source))
            w(_b.pack(o_4.config_type))
            w(nullable_string(o_4.documentation))


def write_4(m: DescribeConfigsResponse, w: Callable[[bytes], None]) -> None:
    w(_i.pack(m.throttle_time_ms))
    a_1 = m.results
    w(write_uvarint(len(a_1) + 1))
    for o_2 in a_1:
        w(_h.pack(o_2.error_code))
        w(nullable_compact_string(o_2.error_message))
        w(_b.pack(o_2.resource_type))
        w(compact_string(o_2.resource_name))
        a_3 = o_2.configs
        w(write_uvarint(len(a_3) + 1))
        for o_4 in a_3:
            w(compact_string(o_4.name))
            w(nullable_compact_string(o_4.value))
            w(_BbB.pack(o_4.read_only, o_4.config_source, o_4.is_sensitive))
            a_5 = o_4.synonyms
            w(write_uvarint(len(a_5) + 1))
            for o_6 in a_5:
                w(compact_string(o_6.name))
                w(nullable_compact_string(o_6.value))
                w(_b.pack(o_6.source))
                w(b"\0")
            w(_b.pack(o_4.config_type))
            w(nullable_compact_string(o_4.documentation))
            w(b"\0")
        w(b"\0")
    w(b"\0")


READ: Final = {0: read_0, 1: read_1, 2: read_1, 3: read_3, 4: read_4}


WRITE: Final = {0: write_0, 1: write_1, 2: write_1, 3: write_3, 4: write_4}
