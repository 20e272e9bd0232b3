"""Kafka's SyncGroup, made by `make kafka` from node/kafka/schema/table.txt; changes belong there."""

from collections.abc import Callable, Sequence
from struct import Struct
from typing import Final

from node.kafka.wire import ELEMENTS_MAX, INT16, INT32, Buffer, Message, compact_bytes, long_bytes, nullable_compact_string, refuse_length, skip_tags, too_many, uvarint

_h = Struct(">h")
_i = Struct(">i")
_ih = Struct(">ih")


class SyncGroupRequestAssignment(Message):
    __slots__ = ("member_id", "assignment")

    def __init__(
        self,
        member_id: str = "",
        assignment: bytes = b"",
    ) -> None:
        self.member_id = member_id
        self.assignment = assignment


class SyncGroupRequest(Message):
    __slots__ = ("group_id", "generation_id", "member_id", "group_instance_id", "protocol_type", "protocol_name", "assignments")

    def __init__(
        self,
        group_id: str = "",
        generation_id: int = 0,
        member_id: str = "",
        group_instance_id: str | None = None,
        protocol_type: str | None = None,
        protocol_name: str | None = None,
        assignments: Sequence[SyncGroupRequestAssignment] = (),
    ) -> None:
        self.group_id = group_id
        self.generation_id = generation_id
        self.member_id = member_id
        self.group_instance_id = group_instance_id
        self.protocol_type = protocol_type
        self.protocol_name = protocol_name
        self.assignments = assignments


class SyncGroupResponse(Message):
    __slots__ = ("throttle_time_ms", "error_code", "protocol_type", "protocol_name", "assignment")

    def __init__(
        self,
        throttle_time_ms: int = 0,
        error_code: int = 0,
        protocol_type: str | None = None,
        protocol_name: str | None = None,
        assignment: bytes = b"",
    ) -> None:
        self.throttle_time_ms = throttle_time_ms
        self.error_code = error_code
        self.protocol_type = protocol_type
        self.protocol_name = protocol_name
        self.assignment = assignment


def read_0(b: Buffer, p: int) -> tuple[SyncGroupRequest, int]:
    end = len(b)
    room = ELEMENTS_MAX
    (n_2,) = INT16.unpack_from(b, p)
    p += 2
    if n_2 < 0 or p + n_2 > end:
        raise refuse_length("group_id", n_2)
    group_id_1 = str(b[p : p + n_2], "utf-8")
    p += n_2
    (generation_id_3,) = _i.unpack_from(b, p)
    p += 4
    (n_5,) = INT16.unpack_from(b, p)
    p += 2
    if n_5 < 0 or p + n_5 > end:
        raise refuse_length("member_id", n_5)
    member_id_4 = str(b[p : p + n_5], "utf-8")
    p += n_5
    (n_7,) = INT32.unpack_from(b, p)
    p += 4
    if n_7 < 0 or n_7 > (end - p) // 6:
        raise refuse_length("assignments", n_7)
    room -= n_7
    if room < 0:
        raise too_many("assignments")
    made_8: list[SyncGroupRequestAssignment] = []
    for _ in range(n_7):
        (n_10,) = INT16.unpack_from(b, p)
        p += 2
        if n_10 < 0 or p + n_10 > end:
            raise refuse_length("member_id", n_10)
        member_id_9 = str(b[p : p + n_10], "utf-8")
        p += n_10
        (n_12,) = INT32.unpack_from(b, p)
        p += 4
        if n_12 < 0 or p + n_12 > end:
            raise refuse_length("assignment", n_12)
        assignment_11 = bytes(b[p : p + n_12])
        p += n_12
        made_8.append(SyncGroupRequestAssignment(member_id_9, assignment_11))
    assignments_6 = made_8
    return SyncGroupRequest(group_id_1, generation_id_3, member_id_4, None, None, None, assignments_6), p


def read_3(b: Buffer, p: int) -> tuple[SyncGroupRequest, int]:
    end = len(b)
    room = ELEMENTS_MAX
    (n_2,) = INT16.unpack_from(b, p)
    p += 2
    if n_2 < 0 or p + n_2 > end:
        raise refuse_length("group_id", n_2)
    group_id_1 = str(b[p : p + n_2], "utf-8")
    p += n_2
    (generation_id_3,) = _i.unpack_from(b, p)
    p += 4
    (n_5,) = INT16.unpack_from(b, p)
    p += 2
    if n_5 < 0 or p + n_5 > end:
        raise refuse_length("member_id", n_5)
    member_id_4 = str(b[p : p + n_5], "utf-8")
    p += n_5
    (n_7,) = INT16.unpack_from(b, p)
    p += 2
    group_instance_id_6: str | None = None
    if n_7 != -1:
        if n_7 < 0 or p + n_7 > end:
            raise refuse_length("group_instance_id", n_7)
        group_instance_id_6 = str(b[p : p + n_7], "utf-8")
        p += n_7
    (n_9,) = INT32.unpack_from(b, p)
    p += 4
    if n_9 < 0 or n_9 > (end - p) // 6:
        raise refuse_length("assignments", n_9)
    room -= n_9
    if room < 0:
        raise too_many("assignments")
    made_10: list[SyncGroupRequestAssignment] = []
    for _ in range(n_9):
        (n_12,) = INT16.unpack_from(b, p)
        p += 2
        if n_12 < 0 or p + n_12 > end:
            raise refuse_length("member_id", n_12)
        member_id_11 = str(b[p : p + n_12], "utf-8")
        p += n_12
        (n_14,) = INT32.unpack_from(b, p)
        p += 4
        if n_14 < 0 or p + n_14 > end:
            raise refuse_length("assignment", n_14)
        assignment_13 = bytes(b[p : p + n_14])
        p += n_14
        made_10.append(SyncGroupRequestAssignment(member_id_11, assignment_13))
    assignments_8 = made_10
    return SyncGroupRequest(group_id_1, generation_id_3, member_id_4, group_instance_id_6, None, None, assignments_8), p


def read_4(b: Buffer, p: int) -> tuple[SyncGroupRequest, int]:
    end = len(b)
    room = ELEMENTS_MAX
    n_2 = b[p] - 1
    p += 1
    if n_2 > 126:
        n_2, p = uvarint(b, p - 1)
        n_2 -= 1
    if n_2 < 0 or p + n_2 > end:
        raise refuse_length("group_id", n_2)
    group_id_1 = str(b[p : p + n_2], "utf-8")
    p += n_2
    (generation_id_3,) = _i.unpack_from(b, p)
    p += 4
    n_5 = b[p] - 1
    p += 1
    if n_5 > 126:
        n_5, p = uvarint(b, p - 1)
        n_5 -= 1
    if n_5 < 0 or p + n_5 > end:
        raise refuse_length("member_id", n_5)
    member_id_4 = str(b[p : p + n_5], "utf-8")
    p += n_5
    n_7 = b[p] - 1
    p += 1
    if n_7 > 126:
        n_7, p = uvarint(b, p - 1)
        n_7 -= 1
    group_instance_id_6: str | None = None
    if n_7 != -1:
        if n_7 < 0 or p + n_7 > end:
            raise refuse_length("group_instance_id", n_7)
        group_instance_id_6 = str(b[p : p + n_7], "utf-8")
        p += n_7
    n_9 = b[p] - 1
    p += 1
    if n_9 > 126:
        n_9, p = uvarint(b, p - 1)
        n_9 -= 1
    if n_9 < 0 or n_9 > (end - p) // 3:
        raise refuse_length("assignments", n_9)
    room -= n_9
    if room < 0:
        raise too_many("assignments")
    made_10: list[SyncGroupRequestAssignment] = []
    for _ in range(n_9):
        n_12 = b[p] - 1
        p += 1
        if n_12 > 126:
            n_12, p = uvarint(b, p - 1)
            n_12 -= 1
        if n_12 < 0 or p + n_12 > end:
            raise refuse_length("member_id", n_12)
        member_id_11 = str(b[p : p + n_12], "utf-8")
        p += n_12
        n_14 = b[p] - 1
        p += 1
        if n_14 > 126:
            n_14, p = uvarint(b, p - 1)
            n_14 -= 1
        if n_14 < 0 or p + n_14 > end:
            raise refuse_length("assignment", n_14)
        assignment_13 = bytes(b[p : p + n_14])
        p += n_14
        p = skip_tags(b, p) if b[p] else p + 1
        made_10.append(SyncGroupRequestAssignment(member_id_11, assignment_13))
    assignments_8 = made_10
    p = skip_tags(b, p) if b[p] else p + 1
    return SyncGroupRequest(group_id_1, generation_id_3, member_id_4, group_instance_id_6, None, None, assignments_8), p


def read_5(b: Buffer, p: int) -> tuple[SyncGroupRequest, int]:
    end = len(b)
    room = ELEMENTS_MAX
    n_2 = b[p] - 1
    p += 1
    if n_2 > 126:
        n_2, p = uvarint(b, p - 1)
        n_2 -= 1
    if n_2 < 0 or p + n_2 > end:
        raise refuse_length("group_id", n_2)
    group_id_1 = str(b[p : p + n_2], "utf-8")
    p += n_2
    (generation_id_3,) = _i.unpack_from(b, p)
    p += 4
    n_5 = b[p] - 1
    p += 1
    if n_5 > 126:
        n_5, p = uvarint(b, p - 1)
        n_5 -= 1
    if n_5 < 0 or p + n_5 > end:
        raise refuse_length("member_id", n_5)
    member_id_4 = str(b[p : p + n_5], "utf-8")
    p += n_5
    n_7 = b[p] - 1
    p += 1
    if n_7 > 126:
        n_7, p = uvarint(b, p - 1)
        n_7 -= 1
    group_instance_id_6: str | None = None
    if n_7 != -1:
        if n_7 < 0 or p + n_7 > end:
            raise refuse_length("group_instance_id", n_7)
        group_instance_id_6 = str(b[p : p + n_7], "utf-8")
        p += n_7
    n_9 = b[p] - 1
    p += 1
    if n_9 > 126:
        n_9, p = uvarint(b, p - 1)
        n_9 -= 1
    protocol_type_8: str | None = None
    if n_9 != -1:
        if n_9 < 0 or p + n_9 > end:
            raise refuse_length("protocol_type", n_9)
        protocol_type_8 = str(b[p : p + n_9], "utf-8")
        p += n_9
    n_11 = b[p] - 1
    p += 1
    if n_11 > 126:
        n_11, p = uvarint(b, p - 1)
        n_11 -= 1
    protocol_name_10: str | None = None
    if n_11 != -1:
        if n_11 < 0 or p + n_11 > end:
            raise refuse_length("protocol_name", n_11)
        protocol_name_10 = str(b[p : p + n_11], "utf-8")
        p += n_11
    n_13 = b[p] - 1
    p += 1
    if n_13 > 126:
        n_13, p = uvarint(b, p - 1)
        n_13 -= 1
    if n_13 < 0 or n_13 > (end - p) // 3:
        raise refuse_length("assignments", n_13)
    room -= n_13
    if room < 0:
        raise too_many("assignments")
    made_14: list[SyncGroupRequestAssignment] = []
    for _ in range(n_13):
        n_16 = b[p] - 1
        p += 1
        if n_16 > 126:
            n_16, p = uvarint(b, p - 1)
            n_16 -= 1
        if n_16 < 0 or p + n_16 > end:
            raise refuse_length("member_id", n_16)
        member_id_15 = str(b[p : p + n_16], "utf-8")
        p += n_16
        n_18 = b[p] - 1
        p += 1
        if n_18 > 126:
            n_18, p = uvarint(b, p - 1)
            n_18 -= 1
        if n_18 < 0 or p + n_18 > end:
            raise refuse_length("assignment", n_18)
        assignment_17 = bytes(b[p : p + n_18])
        p += n_18
        p = skip_tags(b, p) if b[p] else p + 1
        made_14.append(SyncGroupRequestAssignment(member_id_15, assignment_17))
    assignments_12 = made_14
    p = skip_tags(b, p) if b[p] else p + 1
    return SyncGroupRequest(group_id_1, generation_id_3, member_id_4, group_instance_id_6, protocol_type_8, protocol_name_10, assignments_12), p


def write_0(m: SyncGroupResponse, w: Callable[[bytes], None]) -> None:
    w(_h.pack(m.error_code))
    w(long_bytes(m.assignment))


def write_1(m: SyncGroupResponse, w: Callable[[bytes], None]) -> None:
    w(_ih.pack(m.throttle_time_ms, m.error_code))
    w(long_bytes(m.assignment))


def write_4(m: SyncGroupResponse, w: Callable[[bytes], None]) -> None:
    w(_ih.pack(m.throttle_time_ms, m.error_code))
    w(compact_bytes(m.assignment))
    w(b"\0")


def write_5(m: SyncGroupResponse, w: Callable[[bytes], None]) -> None:
    w(_ih.pack(m.throttle_time_ms, m.error_code))
    w(nullable_compact_string(m.protocol_type))
    w(nullable_compact_string(m.protocol_name))
    w(compact_bytes(m.assignment))
    w(b"\0")


READ: Final = {0: read_0, 1: read_0, 2: read_0, 3: read_3, 4: read_4, 5: read_5}


WRITE: Final = {0: write_0, 1: write_1, 2: write_1, 3: write_1, 4: write_4, 5: write_5}
