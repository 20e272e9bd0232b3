"""Kafka's CreateAcls, made by `make kafka` from node/kafka/schema/table.txt; changes belong there."""

from collections.abc import Callable, Sequence
from struct import Struct
from typing import Final

from node.kafka.wire import ELEMENTS_MAX, INT16, INT32, Buffer, Message, nullable_compact_string, nullable_string, refuse_length, skip_tags, too_many, uvarint, write_uvarint

_b = Struct(">b")
_bb = Struct(">bb")
_h = Struct(">h")
_i = Struct(">i")


class AclCreation(Message):
    __slots__ = ("resource_type", "resource_name", "resource_pattern_type", "principal", "host", "operation", "permission_type")

    def __init__(
        self,
        resource_type: int = 0,
        resource_name: str = "",
        resource_pattern_type: int = 3,
        principal: str = "",
        host: str = "",
        operation: int = 0,
        permission_type: int = 0,
    ) -> None:
        self.resource_type = resource_type
        self.resource_name = resource_name
        self.resource_pattern_type = resource_pattern_type
        self.principal = principal
        self.host = host
        self.operation = operation
        self.permission_type = permission_type


class CreateAclsRequest(Message):
    __slots__ = ("creations",)

    def __init__(
        self,
        creations: Sequence[AclCreation] = (),
    ) -> None:
        self.creations = creations


class AclCreationResult(Message):
    __slots__ = ("error_code", "error_message")

    def __init__(
        self,
        error_code: int = 0,
        error_message: str | None = "",
    ) -> None:
        self.error_code = error_code
        self.error_message = error_message


class CreateAclsResponse(Message):
    __slots__ = ("throttle_time_ms", "results")

    def __init__(
        self,
        throttle_time_ms: int = 0,
        results: Sequence[AclCreationResult] = (),
    ) -> None:
        self.throttle_time_ms = throttle_time_ms
        self.results = results


def read_0(b: Buffer, p: int) -> tuple[CreateAclsRequest, int]:
    end = len(b)
    room = ELEMENTS_MAX
    (n_2,) = INT32.unpack_from(b, p)
    p += 4
    if n_2 < 0 or n_2 > (end - p) // 9:
        raise refuse_length("creations", n_2)
    room -= n_2
    if room < 0:
        raise too_many("creations")
    made_3: list[AclCreation] = []
    for _ in range(n_2):
        (resource_type_4,) = _b.unpack_from(b, p)
        p += 1
        (n_6,) = INT16.unpack_from(b, p)
        p += 2
        if n_6 < 0 or p + n_6 > end:
            raise refuse_length("resource_name", n_6)
        resource_name_5 = str(b[p : p + n_6], "utf-8")
        p += n_6
        (n_8,) = INT16.unpack_from(b, p)
        p += 2
        if n_8 < 0 or p + n_8 > end:
            raise refuse_length("principal", n_8)
        principal_7 = str(b[p : p + n_8], "utf-8")
        p += n_8
        (n_10,) = INT16.unpack_from(b, p)
        p += 2
        if n_10 < 0 or p + n_10 > end:
            raise refuse_length("host", n_10)
        host_9 = str(b[p : p + n_10], "utf-8")
        p += n_10
        operation_11, permission_type_12 = _bb.unpack_from(b, p)
        p += 2
        made_3.append(AclCreation(resource_type_4, resource_name_5, 3, principal_7, host_9, operation_11, permission_type_12))
    creations_1 = made_3
    return CreateAclsRequest(creations_1), p


def read_1(b: Buffer, p: int) -> tuple[CreateAclsRequest, int]:
    end = len(b)
    room = ELEMENTS_MAX
    (n_2,) = INT32.unpack_from(b, p)
    p += 4
    if n_2 < 0 or n_2 > (end - p) // 10:
        raise refuse_length("creations", n_2)
    room -= n_2
    if room < 0:
        raise too_many("creations")
    made_3: list[AclCreation] = []
    for _ in range(n_2):
        (resource_type_4,) = _b.unpack_from(b, p)
        p += 1
        (n_6,) = INT16.unpack_from(b, p)
        p += 2
        if n_6 < 0 or p + n_6 > end:
            raise refuse_length("resource_name", n_6)
        resource_name_5 = str(b[p : p + n_6], "utf-8")
        p += n_6
        (resource_pattern_type_7,) = _b.unpack_from(b, p)
        p += 1
        (n_9,) = INT16.unpack_from(b, p)
        p += 2
        if n_9 < 0 or p + n_9 > end:
            raise refuse_length("principal", n_9)
        principal_8 = str(b[p : p + n_9], "utf-8")
        p += n_9
        (n_11,) = INT16.unpack_from(b, p)
        p += 2
        if n_11 < 0 or p + n_11 > end:
            raise refuse_length("host", n_11)
        host_10 = str(b[p : p + n_11], "utf-8")
        p += n_11
        operation_12, permission_type_13 = _bb.unpack_from(b, p)
        p += 2
        made_3.append(AclCreation(resource_type_4, resource_name_5, resource_pattern_type_7, principal_8, host_10, operation_12, permission_type_13))
    creations_1 = made_3
    return CreateAclsRequest(creations_1), p


def read_2(b: Buffer, p: int) -> tuple[CreateAclsRequest, int]:
    end = len(b)
    room = ELEMENTS_MAX
    n_2 = b[p] - 1
    p += 1
    if n_2 > 126:
        n_2, p = uvarint(b, p - 1)
        n_2 -= 1
    if n_2 < 0 or n_2 > (end - p) // 8:
        raise refuse_length("creations", n_2)
    room -= n_2
    if room < 0:
        raise too_many("creations")
    made_3: list[AclCreation] = []
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
        (resource_pattern_type_7,) = _b.unpack_from(b, p)
        p += 1
        n_9 = b[p] - 1
        p += 1
        if n_9 > 126:
            n_9, p = uvarint(b, p - 1)
            n_9 -= 1
        if n_9 < 0 or p + n_9 > end:
            raise refuse_length("principal", n_9)
        principal_8 = str(b[p : p + n_9], "utf-8")
        p += n_9
        n_11 = b[p] - 1
        p += 1
        if n_11 > 126:
            n_11, p = uvarint(b, p - 1)
            n_11 -= 1
        if n_11 < 0 or p + n_11 > end:
            raise refuse_length("host", n_11)
        host_10 = str(b[p : p + n_11], "utf-8")
        p += n_11
        operation_12, permission_type_13 = _bb.unpack_from(b, p)
        p += 2
        p = skip_tags(b, p) if b[p] else p + 1
        made_3.append(AclCreation(resource_type_4, resource_name_5, resource_pattern_type_7, principal_8, host_10, operation_12, permission_type_13))
    creations_1 = made_3
    p = skip_tags(b, p) if b[p] else p + 1
    return CreateAclsRequest(creations_1), p


def write_0(m: CreateAclsResponse, w: Callable[[bytes], None]) -> None:
    w(_i.pack(m.throttle_time_ms))
    a_1 = m.results
    w(INT32.pack(len(a_1)))
    for o_2 in a_1:
        w(_h.pack(o_2.error_code))
        w(nullable_string(o_2.error_message))


def write_2(m: CreateAclsResponse, w: Callable[[bytes], None]) -> None:
    w(_i.pack(m.throttle_time_ms))
    a_1 = m.results
    w(write_uvarint(len(a_1) + 1))
    for o_2 in a_1:
        w(_h.pack(o_2.error_code))
        w(nullable_compact_string(o_2.error_message))
        w(b"\0")
    w(b"\0")


READ: Final = {0: read_0, 1: read_1, 2: read_2, 3: read_2}


WRITE: Final = {0: write_0, 1: write_0, 2: write_2, 3: write_2}
