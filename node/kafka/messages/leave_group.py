"""Kafka's LeaveGroup, made by `make kafka` from node/kafka/schema/table.txt; changes belong there."""

from collections.abc import Callable, Sequence
from struct import Struct
from typing import Final

from node.kafka.wire import ELEMENTS_MAX, INT16, INT32, Buffer, Message, compact_string, nullable_compact_string, nullable_string, refuse_length, skip_tags, string, too_many, uvarint, write_uvarint

_h = Struct(">h")
_ih = Struct(">ih")


class MemberIdentity(Message):
    __slots__ = ("member_id", "group_instance_id", "reason")

    def __init__(
        self,
        member_id: str = "",
        group_instance_id: str | None = None,
        reason: str | None = None,
    ) -> None:
        self.member_id = member_id
        self.group_instance_id = group_instance_id
        self.reason = reason


class LeaveGroupRequest(Message):
    __slots__ = ("group_id", "member_id", "members")

    def __init__(
        self,
        group_id: str = "",
        member_id: str = "",
        members: Sequence[MemberIdentity] = (),
    ) -> None:
        self.group_id = group_id
        self.member_id = member_id
        self.members = members


class MemberResponse(Message):
    __slots__ = ("member_id", "group_instance_id", "error_code")

    def __init__(
        self,
        member_id: str = "",
        group_instance_id: str | None = "",
        error_code: int = 0,
    ) -> None:
        self.member_id = member_id
        self.group_instance_id = group_instance_id
        self.error_code = error_code


class LeaveGroupResponse(Message):
    __slots__ = ("throttle_time_ms", "error_code", "members")

    def __init__(
        self,
        throttle_time_ms: int = 0,
        error_code: int = 0,
        members: Sequence[MemberResponse] = (),
    ) -> None:
        self.throttle_time_ms = throttle_time_ms
        self.error_code = error_code
        self.members = members


def read_0(b: Buffer, p: int) -> tuple[LeaveGroupRequest, int]:
    end = len(b)
    (n_2,) = INT16.unpack_from(b, p)
    p += 2
    if n_2 < 0 or p + n_2 > end:
        raise refuse_length("group_id", n_2)
    group_id_1 = str(b[p : p + n_2], "utf-8")
    p += n_2
    (n_4,) = INT16.unpack_from(b, p)
    p += 2
    if n_4 < 0 or p + n_4 > end:
        raise refuse_length("member_id", n_4)
    member_id_3 = str(b[p : p + n_4], "utf-8")
    p += n_4
    return LeaveGroupRequest(group_id_1, member_id_3, ()), p


def read_3(b: Buffer, p: int) -> tuple[LeaveGroupRequest, int]:
    end = len(b)
    room = ELEMENTS_MAX
    (n_2,) = INT16.unpack_from(b, p)
    p += 2
    if n_2 < 0 or p + n_2 > end:
        raise refuse_length("group_id", n_2)
    group_id_1 = str(b[p : p + n_2], "utf-8")
    p += n_2
    (n_4,) = INT32.unpack_from(b, p)
    p += 4
    if n_4 < 0 or n_4 > (end - p) // 4:
        raise refuse_length("members", n_4)
    room -= n_4
    if room < 0:
        raise too_many("members")
    made_5: list[MemberIdentity] = []
    for _ in range(n_4):
        (n_7,) = INT16.unpack_from(b, p)
        p += 2
        if n_7 < 0 or p + n_7 > end:
            raise refuse_length("member_id", n_7)
        member_id_6 = str(b[p : p + n_7], "utf-8")
        p += n_7
        (n_9,) = INT16.unpack_from(b, p)
        p += 2
        group_instance_id_8: str | None = None
        if n_9 != -1:
            if n_9 < 0 or p + n_9 > end:
                raise refuse_length("group_instance_id", n_9)
            group_instance_id_8 = str(b[p : p + n_9], "utf-8")
            p += n_9
        made_5.append(MemberIdentity(member_id_6, group_instance_id_8, None))
    members_3 = made_5
    return LeaveGroupRequest(group_id_1, "", members_3), p


def read_4(b: Buffer, p: int) -> tuple[LeaveGroupRequest, int]:
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
    n_4 = b[p] - 1
    p += 1
    if n_4 > 126:
        n_4, p = uvarint(b, p - 1)
        n_4 -= 1
    if n_4 < 0 or n_4 > (end - p) // 3:
        raise refuse_length("members", n_4)
    room -= n_4
    if room < 0:
        raise too_many("members")
    made_5: list[MemberIdentity] = []
    for _ in range(n_4):
        n_7 = b[p] - 1
        p += 1
        if n_7 > 126:
            n_7, p = uvarint(b, p - 1)
            n_7 -= 1
        if n_7 < 0 or p + n_7 > end:
            raise refuse_length("member_id", n_7)
        member_id_6 = str(b[p : p + n_7], "utf-8")
        p += n_7
        n_9 = b[p] - 1
        p += 1
        if n_9 > 126:
            n_9, p = uvarint(b, p - 1)
            n_9 -= 1
        group_instance_id_8: str | None = None
        if n_9 != -1:
            if n_9 < 0 or p + n_9 > end:
                raise refuse_length("group_instance_id", n_9)
            group_instance_id_8 = str(b[p : p + n_9], "utf-8")
            p += n_9
        p = skip_tags(b, p) if b[p] else p + 1
        made_5.append(MemberIdentity(member_id_6, group_instance_id_8, None))
    members_3 = made_5
    p = skip_tags(b, p) if b[p] else p + 1
    return LeaveGroupRequest(group_id_1, "", members_3), p


def read_5(b: Buffer, p: int) -> tuple[LeaveGroupRequest, int]:
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
    n_4 = b[p] - 1
    p += 1
    if n_4 > 126:
        n_4, p = uvarint(b, p - 1)
        n_4 -= 1
    if n_4 < 0 or n_4 > (end - p) // 4:
        raise refuse_length("members", n_4)
    room -= n_4
    if room < 0:
        raise too_many("members")
    made_5: list[MemberIdentity] = []
    for _ in range(n_4):
        n_7 = b[p] - 1
        p += 1
        if n_7 > 126:
            n_7, p = uvarint(b, p - 1)
            n_7 -= 1
        if n_7 < 0 or p + n_7 > end:
            raise refuse_length("member_id", n_7)
        member_id_6 = str(b[p : p + n_7], "utf-8")
        p += n_7
        n_9 = b[p] - 1
        p += 1
        if n_9 > 126:
            n_9, p = uvarint(b, p - 1)
            n_9 -= 1
        group_instance_id_8: str | None = None
        if n_9 != -1:
            if n_9 < 0 or p + n_9 > end:
                raise refuse_length("group_instance_id", n_9)
            group_instance_id_8 = str(b[p : p + n_9], "utf-8")
            p += n_9
        n_11 = b[p] - 1
        p += 1
        if n_11 > 126:
            n_11, p = uvarint(b, p - 1)
            n_11 -= 1
        reason_10: str | None = None
        if n_11 != -1:
            if n_11 < 0 or p + n_11 > end:
                raise refuse_length("reason", n_11)
            reason_10 = str(b[p : p + n_11], "utf-8")
            p += n_11
        p = skip_tags(b, p) if b[p] else p + 1
        made_5.append(MemberIdentity(member_id_6, group_instance_id_8, reason_10))
    members_3 = made_5
    p = skip_tags(b, p) if b[p] else p + 1
    return LeaveGroupRequest(group_id_1, "", members_3), p


def write_0(m: LeaveGroupResponse, w: Callable[[bytes], None]) -> None:
    w(_h.pack(m.error_code))


def write_1(m: LeaveGroupResponse, w: Callable[[bytes], None]) -> None:
    w(_ih.pack(m.throttle_time_ms, m.error_code))


def write_3(m: LeaveGroupResponse, w: Callable[[bytes], None]) -> None:
    w(_ih.pack(m.throttle_time_ms, m.error_code))
    a_1 = m.members
    w(INT32.pack(len(a_1)))
    for o_2 in a_1:
        w(string(o_2.member_id))
        w(nullable_string(o_2.group_instance_id))
        w(_h.pack(o_2.error_code))


def write_4(m: LeaveGroupResponse, w: Callable[[bytes], None]) -> None:
    w(_ih.pack(m.throttle_time_ms, m.error_code))
    a_1 = m.members
    w(write_uvarint(len(a_1) + 1))
    for o_2 in a_1:
        w(compact_string(o_2.member_id))
        w(nullable_compact_string(o_2.group_instance_id))
        w(_h.pack(o_2.error_code))
        w(b"\0")
    w(b"\0")


READ: Final = {0: read_0, 1: read_0, 2: read_0, 3: read_3, 4: read_4, 5: read_5}


WRITE: Final = {0: write_0, 1: write_1, 2: write_1, 3: write_3, 4: write_4, 5: write_4}
