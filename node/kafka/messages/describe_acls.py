"""Kafka's DescribeAcls, made by `make kafka` from node/kafka/schema/table.txt; changes belong there."""

from collections.abc import Callable, Sequence
from struct import Struct
from typing import Final

from node.kafka.wire import INT16, INT32, Buffer, Message, compact_string, nullable_compact_string, nullable_string, refuse_length, skip_tags, string, uvarint, write_uvarint

_b = Struct(">b")
_bb = Struct(">bb")
_ih = Struct(">ih")


class DescribeAclsRequest(Message):
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


class AclDescription(Message):
    __slots__ = ("principal", "host", "operation", "permission_type")

    def __init__(
        self,
        principal: str = "",
        host: str = "",
        operation: int = 0,
        permission_type: int = 0,
    ) -> None:
        self.principal = principal
        self.host = host
        self.operation = operation
        self.permission_type = permission_type


class DescribeAclsResource(Message):
    __slots__ = ("resource_type", "resource_name", "pattern_type", "acls")

    def __init__(
        self,
        resource_type: int = 0,
        resource_name: str = "",
        pattern_type: int = 3,
        acls: Sequence[AclDescription] = (),
    ) -> None:
        self.resource_type = resource_type
        self.resource_name = resource_name
        self.pattern_type = pattern_type
        self.acls = acls


class DescribeAclsResponse(Message):
    __slots__ = ("throttle_time_ms", "error_code", "error_message", "resources")

    def __init__(
        self,
        throttle_time_ms: int = 0,
        error_code: int = 0,
        error_message: str | None = "",
        resources: Sequence[DescribeAclsResource] = (),
    ) -> None:
        self.throttle_time_ms = throttle_time_ms
        self.error_code = error_code
        self.error_message = error_message
        self.resources = resources


def read_0(b: Buffer, p: int) -> tuple[DescribeAclsRequest, int]:
    end = len(b)
    (resource_type_filter_1,) = _b.unpack_from(b, p)
    p += 1
    (n_3,) = INT16.unpack_from(b, p)
    p += 2
    resource_name_filter_2: str | None = None
    if n_3 != -1:
        if n_3 < 0 or p + n_3 > end:
            raise refuse_length("resource_name_filter", n_3)
        resource_name_filter_2 = str(b[p : p + n_3], "utf-8")
        p += n_3
    (n_5,) = INT16.unpack_from(b, p)
    p += 2
    principal_filter_4: str | None = None
    if n_5 != -1:
        if n_5 < 0 or p + n_5 > end:
            raise refuse_length("principal_filter", n_5)
        principal_filter_4 = str(b[p : p + n_5], "utf-8")
        p += n_5
    (n_7,) = INT16.unpack_from(b, p)
    p += 2
    host_filter_6: str | None = None
    if n_7 != -1:
        if n_7 < 0 or p + n_7 > end:
            raise refuse_length("host_filter", n_7)
        host_filter_6 = str(b[p : p + n_7], "utf-8")
        p += n_7
    operation_8, permission_type_9 = _bb.unpack_from(b, p)
    p += 2
    return DescribeAclsRequest(resource_type_filter_1, resource_name_filter_2, 3, principal_filter_4, host_filter_6, operation_8, permission_type_9), p


def read_1(b: Buffer, p: int) -> tuple[DescribeAclsRequest, int]:
    end = len(b)
    (resource_type_filter_1,) = _b.unpack_from(b, p)
    p += 1
    (n_3,) = INT16.unpack_from(b, p)
    p += 2
    resource_name_filter_2: str | None = None
    if n_3 != -1:
        if n_3 < 0 or p + n_3 > end:
            raise refuse_length("resource_name_filter", n_3)
        resource_name_filter_2 = str(b[p : p + n_3], "utf-8")
        p += n_3
    (pattern_type_filter_4,) = _b.unpack_from(b, p)
    p += 1
    (n_6,) = INT16.unpack_from(b, p)
    p += 2
    principal_filter_5: str | None = None
    if n_6 != -1:
        if n_6 < 0 or p + n_6 > end:
            raise refuse_length("principal_filter", n_6)
        principal_filter_5 = str(b[p : p + n_6], "utf-8")
        p += n_6
    (n_8,) = INT16.unpack_from(b, p)
    p += 2
    host_filter_7: str | None = None
    if n_8 != -1:
        if n_8 < 0 or p + n_8 > end:
            raise refuse_length("host_filter", n_8)
        host_filter_7 = str(b[p : p + n_8], "utf-8")
        p += n_8
    operation_9, permission_type_10 = _bb.unpack_from(b, p)
    p += 2
    return DescribeAclsRequest(resource_type_filter_1, resource_name_filter_2, pattern_type_filter_4, principal_filter_5, host_filter_7, operation_9, permission_type_10), p


def read_2(b: Buffer, p: int) -> tuple[DescribeAclsRequest, int]:
    end = len(b)
    (resource_type_filter_1,) = _b.unpack_from(b, p)
    p += 1
    n_3 = b[p] - 1
    p += 1
    if n_3 > 126:
        n_3, p = uvarint(b, p - 1)
        n_3 -= 1
    resource_name_filter_2: str | None = None
    if n_3 != -1:
        if n_3 < 0 or p + n_3 > end:
            raise refuse_length("resource_name_filter", n_3)
        resource_name_filter_2 = str(b[p : p + n_3], "utf-8")
        p += n_3
    (pattern_type_filter_4,) = _b.unpack_from(b, p)
    p += 1
    n_6 = b[p] - 1
    p += 1
    if n_6 > 126:
        n_6, p = uvarint(b, p - 1)
        n_6 -= 1
    principal_filter_5: str | None = None
    if n_6 != -1:
        if n_6 < 0 or p + n_6 > end:
            raise refuse_length("principal_filter", n_6)
        principal_filter_5 = str(b[p : p + n_6], "utf-8")
        p += n_6
    n_8 = b[p] - 1
    p += 1
    if n_8 > 126:
        n_8, p = uvarint(b, p - 1)
        n_8 -= 1
    host_filter_7: str | None = None
    if n_8 != -1:
        if n_8 < 0 or p + n_8 > end:
            raise refuse_length("host_filter", n_8)
        host_filter_7 = str(b[p : p + n_8], "utf-8")
        p += n_8
    operation_9, permission_type_10 = _bb.unpack_from(b, p)
    p += 2
    p = skip_tags(b, p) if b[p] else p + 1
    return DescribeAclsRequest(resource_type_filter_1, resource_name_filter_2, pattern_type_filter_4, principal_filter_5, host_filter_7, operation_9, permission_type_10), p


def write_0(m: DescribeAclsResponse, w: Callable[[bytes], None]) -> None:
    w(_ih.pack(m.throttle_time_ms, m.error_code))
    w(nullable_string(m.error_message))
    a_1 = m.resources
    w(INT32.pack(len(a_1)))
    for o_2 in a_1:
        w(_b.pack(o_2.resource_type))
        w(string(o_2.resource_name))
        a_3 = o_2.acls
        w(INT32.pack(len(a_3)))
        for o_4 in a_3:
            w(string(o_4.principal))
            w(string(o_4.host))
            w(_bb.pack(o_4.operation, o_4.permission_type))


def write_1(m: DescribeAclsResponse, w: Callable[[bytes], None]) -> None:
    w(_ih.pack(m.throttle_time_ms, m.error_code))
    w(nullable_string(m.error_message))
    a_1 = m.resources
    w(INT32.pack(len(a_1)))
    for o_2 in a_1:
        w(_b.pack(o_2.resource_type))
        w(string(o_2.resource_name))
        w(_b.pack(o_2.pattern_type))
        a_3 = o_2.acls
        w(INT32.pack(len(a_3)))
        for o_4 in a_3:
            w(string(o_4.principal))
            w(string(o_4.host))
            w(_bb.pack(o_4.operation, o_4.permission_type))


def write_2(m: DescribeAclsResponse, w: Callable[[bytes], None]) -> None:
    w(_ih.pack(m.throttle_time_ms, m.error_code))
    w(nullable_compact_string(m.error_message))
    a_1 = m.resources
    w(write_uvarint(len(a_1) + 1))
    for o_2 in a_1:
        w(_b.pack(o_2.resource_type))
        w(compact_string(o_2.resource_name))
        w(_b.pack(o_2.pattern_type))
        a_3 = o_2.acls
        w(write_uvarint(len(a_3) + 1))
        for o_4 in a_3:
            w(compact_string(o_4.principal))
            w(compact_string(o_4.host))
            w(_bb.pack(o_4.operation, o_4.permission_type))
            w(b"\0")
        w(b"\0")
    w(b"\0")


READ: Final = {0: read_0, 1: read_1, 2: read_2, 3: read_2}


WRITE: Final = {0: write_0, 1: write_1, 2: write_2, 3: write_2}
