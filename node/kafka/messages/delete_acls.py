"""Kafka's DeleteAcls, made by `make kafka` from node/kafka/schema/table.txt; changes belong there."""

from collections.abc import Callable, Sequence
from struct import Struct
from typing import Final

from node.kafka.wire import ELEMENTS_MAX, INT16, INT32, Buffer, Message, compact_string, nullable_compact_string, nullable_string, refuse_length, skip_tags, string, too_many, uvarint, write_uvarint

_b = Struct(">b")
_bb = Struct(">bb")
_h = Struct(">h")
_i = Struct(">i")


class DeleteAclsFilter(Message):
    __slots__ = ("resource_type_filter", "resource_name_filter", "pattern_type_filter", "principal_filter", "host_filter", "operation", "permission_type")

    def __init__(
        self,
        resource_type_filter: int = 0,
        resource_name_filter: str | None = "",
        pattern_type_filter: int = 3,
        principal_filter: str | None = "",
        host_filter: str | None = "",
        operation: int = 0,
        permission_type: int = 0,
    ) -> None:
        self.resource_type_filter = resource_type_filter
        self.resource_name_filter = resource_name_filter
        self.pattern_type_filter = pattern_type_filter
        self.principal_filter = principal_filter
        self.host_filter = host_filter
        self.operation = operation
        self.permission_type = permission_type


class DeleteAclsRequest(Message):
    __slots__ = ("filters",)

    def __init__(
        self,
        filters: Sequence[DeleteAclsFilter] = (),
    ) -> None:
        self.filters = filters


class DeleteAclsMatchingAcl(Message):
    __slots__ = ("error_code", "error_message", "resource_type", "resource_name", "pattern_type", "principal", "host", "operation", "permission_type")

    def __init__(
        self,
        error_code: int = 0,
        error_message: str | None = "",
        resource_type: int = 0,
        resource_name: str = "",
        pattern_type: int = 3,
        principal: str = "",
        host: str = "",
        operation: int = 0,
        permission_type: int = 0,
    ) -> None:
        self.error_code = error_code
        self.error_message = error_message
        self.resource_type = resource_type
        self.resource_name = resource_name
        self.pattern_type = pattern_type
        self.principal = principal
        self.host = host
        self.operation = operation
        self.permission_type = permission_type


class DeleteAclsFilterResult(Message):
    __slots__ = ("error_code", "error_message", "matching_acls")

    def __init__(
        self,
        error_code: int = 0,
        error_message: str | None = "",
        matching_acls: Sequence[DeleteAclsMatchingAcl] = (),
    ) -> None:
        self.error_code = error_code
        self.error_message = error_message
        self.matching_acls = matching_acls


class DeleteAclsResponse(Message):
    __slots__ = ("throttle_time_ms", "filter_results")

    def __init__(
        self,
        throttle_time_ms: int = 0,
        filter_results: Sequence[DeleteAclsFilterResult] = (),
    ) -> None:
        self.throttle_time_ms = throttle_time_ms
        self.filter_results = filter_results


def read_0(b: Buffer, p: int) -> tuple[DeleteAclsRequest, int]:
    end = len(b)
    room = ELEMENTS_MAX
    (n_2,) = INT32.unpack_from(b, p)
    p += 4
    if n_2 < 0 or n_2 > (end - p) // 9:
        raise refuse_length("filters", n_2)
    room -= n_2
    if room < 0:
        raise too_many("filters")
    made_3: list[DeleteAclsFilter] = []
    for _ in range(n_2):
        (resource_type_filter_4,) = _b.unpack_from(b, p)
        p += 1
        (n_6,) = INT16.unpack_from(b, p)
        p += 2
        resource_name_filter_5: str | None = None
        if n_6 != -1:
            if n_6 < 0 or p + n_6 > end:
                raise refuse_length("resource_name_filter", n_6)
            resource_name_filter_5 = str(b[p : p + n_6], "utf-8")
            p += n_6
        (n_8,) = INT16.unpack_from(b, p)
        p += 2
        principal_filter_7: str | None = None
        if n_8 != -1:
            if n_8 < 0 or p + n_8 > end:
                raise refuse_length("principal_filter", n_8)
            principal_filter_7 = str(b[p : p + n_8], "utf-8")
            p += n_8
        (n_10,) = INT16.unpack_from(b, p)
        p += 2
        host_filter_9: str | None = None
        if n_10 != -1:
            if n_10 < 0 or p + n_10 > end:
                raise refuse_length("host_filter", n_10)
            host_filter_9 = str(b[p : p + n_10], "utf-8")
            p += n_10
        operation_11, permission_type_12 = _bb.unpack_from(b, p)
        p += 2
        made_3.append(DeleteAclsFilter(resource_type_filter_4, resource_name_filter_5, 3, principal_filter_7, host_filter_9, operation_11, permission_type_12))
    filters_1 = made_3
    return DeleteAclsRequest(filters_1), p


def read_1(b: Buffer, p: int) -> tuple[DeleteAclsRequest, int]:
    end = len(b)
    room = ELEMENTS_MAX
    (n_2,) = INT32.unpack_from(b, p)
    p += 4
    if n_2 < 0 or n_2 > (end - p) // 10:
        raise refuse_length("filters", n_2)
    room -= n_2
    if room < 0:
        raise too_many("filters")
    made_3: list[DeleteAclsFilter] = []
    for _ in range(n_2):
        (resource_type_filter_4,) = _b.unpack_from(b, p)
        p += 1
        (n_6,) = INT16.unpack_from(b, p)
        p += 2
        resource_name_filter_5: str | None = None
        if n_6 != -1:
            if n_6 < 0 or p + n_6 > end:
                raise refuse_length("resource_name_filter", n_6)
            resource_name_filter_5 = str(b[p : p + n_6], "utf-8")
            p += n_6
        (pattern_type_filter_7,) = _b.unpack_from(b, p)
        p += 1
        (n_9,) = INT16.unpack_from(b, p)
        p += 2
        principal_filter_8: str | None = None
        if n_9 != -1:
            if n_9 < 0 or p + n_9 > end:
                raise refuse_length("principal_filter", n_9)
            principal_filter_8 = str(b[p : p + n_9], "utf-8")
            p += n_9
        (n_11,) = INT16.unpack_from(b, p)
        p += 2
        host_filter_10: str | None = None
        if n_11 != -1:
            if n_11 < 0 or p + n_11 > end:
                raise refuse_length("host_filter", n_11)
            host_filter_10 = str(b[p : p + n_11], "utf-8")
            p += n_11
        operation_12, permission_type_13 = _bb.unpack_from(b, p)
        p += 2
        made_3.append(DeleteAclsFilter(resource_type_filter_4, resource_name_filter_5, pattern_type_filter_7, principal_filter_8, host_filter_10, operation_12, permission_type_13))
    filters_1 = made_3
    return DeleteAclsRequest(filters_1), p


def read_2(b: Buffer, p: int) -> tuple[DeleteAclsRequest, int]:
    end = len(b)
    room = ELEMENTS_MAX
    n_2 = b[p] - 1
    p += 1
    if n_2 > 126:
        n_2, p = uvarint(b, p - 1)
        n_2 -= 1
    if n_2 < 0 or n_2 > (end - p) // 8:
        raise refuse_length("filters", n_2)
    room -= n_2
    if room < 0:
        raise too_many("filters")
    made_3: list[DeleteAclsFilter] = []
    for _ in range(n_2):
        (resource_type_filter_4,) = _b.unpack_from(b, p)
        p += 1
        n_6 = b[p] - 1
        p += 1
        if n_6 > 126:
            n_6, p = uvarint(b, p - 1)
            n_6 -= 1
        resource_name_filter_5: str | None = None
        if n_6 != -1:
            if n_6 < 0 or p + n_6 > end:
                raise refuse_length("resource_name_filter", n_6)
            resource_name_filter_5 = str(b[p : p + n_6], "utf-8")
            p += n_6
        (pattern_type_filter_7,) = _b.unpack_from(b, p)
        p += 1
        n_9 = b[p] - 1
        p += 1
        if n_9 > 126:
            n_9, p = uvarint(b, p - 1)
            n_9 -= 1
        principal_filter_8: str | None = None
        if n_9 != -1:
            if n_9 < 0 or p + n_9 > end:
                raise refuse_length("principal_filter", n_9)
            principal_filter_8 = str(b[p : p + n_9], "utf-8")
            p += n_9
        n_11 = b[p] - 1
        p += 1
        if n_11 > 126:
            n_11, p = uvarint(b, p - 1)
            n_11 -= 1
        host_filter_10: str | None = None
        if n_11 != -1:
            if n_11 < 0 or p + n_11 > end:
                raise refuse_length("host_filter", n_11)
            host_filter_10 = str(b[p : p + n_11], "utf-8")
            p += n_11
        operation_12, permission_type_13 = _bb.unpack_from(b, p)
        p += 2
        p = skip_tags(b, p) if b[p] else p + 1
        made_3.append(DeleteAclsFilter(resource_type_filter_4, resource_name_filter_5, pattern_type_filter_7, principal_filter_8, host_filter_10, operation_12, permission_type_13))
    filters_1 = made_3
    p = skip_tags(b, p) if b[p] else p + 1
    return DeleteAclsRequest(filters_1), p


def write_0(m: DeleteAclsResponse, w: Callable[[bytes], None]) -> None:
    w(_i.pack(m.throttle_time_ms))
    a_1 = m.filter_results
    w(INT32.pack(len(a_1)))
    for o_2 in a_1:
        w(_h.pack(o_2.error_code))
        w(nullable_string(o_2.error_message))
        a_3 = o_2.matching_acls
        w(INT32.pack(len(a_3)))
        for o_4 in a_3:
            w(_h.pack(o_4.error_code))
            w(nullable_string(o_4.error_message))
            w(_b.pack(o_4.resource_type))
            w(string(o_4.resource_name))
            w(string(o_4.principal))
            w(string(o_4.host))
            w(_bb.pack(o_4.operation, o_4.permission_type))


def write_1(m: DeleteAclsResponse, w: Callable[[bytes], None]) -> None:
    w(_i.pack(m.throttle_time_ms))
    a_1 = m.filter_results
    w(INT32.pack(len(a_1)))
    for o_2 in a_1:
        w(_h.pack(o_2.error_code))
        w(nullable_string(o_2.error_message))
        a_3 = o_2.matching_acls
        w(INT32.pack(len(a_3)))
        for o_4 in a_3:
            w(_h.pack(o_4.error_code))
            w(nullable_string(o_4.error_message))
            w(_b.pack(o_4.resource_type))
            w(string(o_4.resource_name))
            w(_b.pack(o_4.pattern_type))
            w(string(o_4.principal))
            w(string(o_4.host))
            w(_bb.pack(o_4.operation, o_4.permission_type))


def write_2(m: DeleteAclsResponse, w: Callable[[bytes], None]) -> None:
    w(_i.pack(m.throttle_time_ms))
    a_1 = m.filter_results
    w(write_uvarint(len(a_1) + 1))
    for o_2 in a_1:
        w(_h.pack(o_2.error_code))
        w(nullable_compact_string(o_2.error_message))
        a_3 = o_2.matching_acls
        w(write_uvarint(len(a_3) + 1))
        for o_4 in a_3:
            w(_h.pack(o_4.error_code))
            w(nullable_compact_string(o_4.error_message))
            w(_b.pack(o_4.resource_type))
            w(compact_string(o_4.resource_name))
            w(_b.pack(o_4.pattern_type))
            w(compact_string(o_4.principal))
            w(compact_string(o_4.host))
            w(_bb.pack(o_4.operation, o_4.permission_type))
            w(b"\0")
        w(b"\0")
    w(b"\0")


READ: Final = {0: read_0, 1: read_1, 2: read_2, 3: read_2}


WRITE: Final = {0: write_0, 1: write_1, 2: write_2, 3: write_2}
