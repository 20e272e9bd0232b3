"""Kafka's JoinGroup, made by `make kafka` from node/kafka/schema/table.txt; changes belong there."""

from collections.abc import Callable, Sequence
from struct import Struct
from typing import Final

from node.kafka.wire import ELEMENTS_MAX, INT16, INT32, Buffer, Message, compact_bytes, compact_string, long_bytes, nullable_compact_string, nullable_string, refuse_length, skip_tags, string, too_many, uvarint, write_uvarint

_B = Struct(">?")
_hi = Struct(">hi")
_i = Struct(">i")
_ihi = Struct(">ihi")
_ii = Struct(">ii")


class JoinGroupRequestProtocol(Message):
    __slots__ = ("name", "metadata")

    def __init__(
        self,
        name: str = "",
        metadata: bytes = b"",
    ) -> None:
        self.name = name
        self.metadata = metadata


class JoinGroupRequest(Message):
    __slots__ = ("group_id", "session_timeout_ms", "rebalance_timeout_ms", "member_id", "group_instance_id", "protocol_type", "protocols", "reason")

    def __init__(
        self,
        group_id: str = "",
        session_timeout_ms: int = 0,
        rebalance_timeout_ms: int = -1,
        member_id: str = "",
        group_instance_id: str | None = None,
        protocol_type: str = "",
        protocols: Sequence[JoinGroupRequestProtocol] = (),
        reason: str | None = None,
    ) -> None:
        self.group_id = group_id
        self.session_timeout_ms = session_timeout_ms
        self.rebalance_timeout_ms = rebalance_timeout_ms
        self.member_id = member_id
        self.group_instance_id = group_instance_id
        self.protocol_type = protocol_type
        self.protocols = protocols
        self.reason = reason


class JoinGroupResponseMember(Message):
    __slots__ = ("member_id", "group_instance_id", "metadata")

    def __init__(
        self,
        member_id: str = "",
        group_instance_id: str | None = None,
        metadata: bytes = b"",
    ) -> None:
        self.member_id = member_id
        self.group_instance_id = group_instance_id
        self.metadata = metadata


class JoinGroupResponse(Message):
    __slots__ = ("throttle_time_ms", "error_code", "generation_id", "protocol_type", "protocol_name", "leader", "skip_assignment", "member_id", "members")

    def __init__(
        self,
        throttle_time_ms: int = 0,
        error_code: int = 0,
        generation_id: int = -1,
        protocol_type: str | None = None,
        protocol_name: str | None = "",
        leader: str = "",
        skip_assignment: bool = False,
        member_id: str = "",
        members: Sequence[JoinGroupResponseMember] = (),
    ) -> None:
        self.throttle_time_ms = throttle_time_ms
        self.error_code = error_code
        self.generation_id = generation_id
        self.protocol_type = protocol_type
        self.protocol_name = protocol_name
        self.leader = leader
        self.skip_assignment = skip_assignment
        self.member_id = member_id
        self.members = members


def read_0(b: Buffer, p: int) -> tuple[JoinGroupRequest, int]:
    end = len(b)
    room = ELEMENTS_MAX
    (n_2,) = INT16.unpack_from(b, p)
    p += 2
    if n_2 < 0 or p + n_2 > end:
        raise refuse_length("group_id", n_2)
    group_id_1 = str(b[p : p + n_2], "utf-8")
    p += n_2
    (session_timeout_ms_3,) = _i.unpack_from(b, p)
    p += 4
    (n_5,) = INT16.unpack_from(b, p)
    p += 2
    if n_5 < 0 or p + n_5 > end:
        raise refuse_length("member_id", n_5)
    member_id_4 = str(b[p : p + n_5], "utf-8")
    p += n_5
    (n_7,) = INT16.unpack_from(b, p)
    p += 2
    if n_7 < 0 or p + n_7 > end:
        raise refuse_length("protocol_type", n_7)
    protocol_type_6 = str(b[p : p + n_7], "utf-8")
    p += n_7
    (n_9,) = INT32.unpack_from(b, p)
    p += 4
    if n_9 < 0 or n_9 > (end - p) // 6:
        raise refuse_length("protocols", n_9)
    room -= n_9
    if room < 0:
        raise too_many("protocols")
    made_10: list[JoinGroupRequestProtocol] = []
    for _ in range(n_9):
        (n_12,) = INT16.unpack_from(b, p)
        p += 2
        if n_12 < 0 or p + n_12 > end:
            raise refuse_length("name", n_12)
        name_11 = str(b[p : p + n_12], "utf-8")
        p += n_12
        (n_14,) = INT32.unpack_from(b, p)
        p += 4
        if n_14 < 0 or p + n_14 > end:
            raise refuse_length("metadata", n_14)
        metadata_13 = bytes(b[p : p + n_14])
        p += n_14
        made_10.append(JoinGroupRequestProtocol(name_11, metadata_13))
    protocols_8 = made_10
    return JoinGroupRequest(group_id_1, session_timeout_ms_3, -1, member_id_4, None, protocol_type_6, protocols_8, None), p


def read_1(b: Buffer, p: int) -> tuple[JoinGroupRequest, int]:
    end = len(b)
    room = ELEMENTS_MAX
    (n_2,) = INT16.unpack_from(b, p)
    p += 2
    if n_2 < 0 or p + n_2 > end:
        raise refuse_length("group_id", n_2)
    group_id_1 = str(b[p : p + n_2], "utf-8")
    p += n_2
    session_timeout_ms_3, rebalance_timeout_ms_4 = _ii.unpack_from(b, p)
    p += 8
    (n_6,) = INT16.unpack_from(b, p)
    p += 2
    if n_6 < 0 or p + n_6 > end:
        raise refuse_length("member_id", n_6)
    member_id_5 = str(b[p : p + n_6], "utf-8")
    p += n_6
    (n_8,) = INT16.unpack_from(b, p)
    p += 2
    if n_8 < 0 or p + n_8 > end:
        raise refuse_length("protocol_type", n_8)
    protocol_type_7 = str(b[p : p + n_8], "utf-8")
    p += n_8
    (n_10,) = INT32.unpack_from(b, p)
    p += 4
    if n_10 < 0 or n_10 > (end - p) // 6:
        raise refuse_length("protocols", n_10)
    room -= n_10
    if room < 0:
        raise too_many("protocols")
    made_11: list[JoinGroupRequestProtocol] = []
    for _ in range(n_10):
        (n_13,) = INT16.unpack_from(b, p)
        p += 2
        if n_13 < 0 or p + n_13 > end:
            raise refuse_length("name", n_13)
        name_12 = str(b[p : p + n_13], "utf-8")
        p += n_13
        (n_15,) = INT32.unpack_from(b, p)
        p += 4
        if n_15 < 0 or p + n_15 > end:
            raise refuse_length("metadata", n_15)
        metadata_14 = bytes(b[p : p + n_15])
        p += n_15
        made_11.append(JoinGroupRequestProtocol(name_12, metadata_14))
    protocols_9 = made_11
    return JoinGroupRequest(group_id_1, session_timeout_ms_3, rebalance_timeout_ms_4, member_id_5, None, protocol_type_7, protocols_9, None), p


def read_5(b: Buffer, p: int) -> tuple[JoinGroupRequest, int]:
    end = len(b)
    room = ELEMENTS_MAX
    (n_2,) = INT16.unpack_from(b, p)
    p += 2
    if n_2 < 0 or p + n_2 > end:
        raise refuse_length("group_id", n_2)
    group_id_1 = str(b[p : p + n_2], "utf-8")
    p += n_2
    session_timeout_ms_3, rebalance_timeout_ms_4 = _ii.unpack_from(b, p)
    p += 8
    (n_6,) = INT16.unpack_from(b, p)
    p += 2
    if n_6 < 0 or p + n_6 > end:
        raise refuse_length("member_id", n_6)
    member_id_5 = str(b[p : p + n_6], "utf-8")
    p += n_6
    (n_8,) = INT16.unpack_from(b, p)
    p += 2
    group_instance_id_7: str | None = None
    if n_8 != -1:
        if n_8 < 0 or p + n_8 > end:
            raise refuse_length("group_instance_id", n_8)
        group_instance_id_7 = str(b[p : p + n_8], "utf-8")
        p += n_8
    (n_10,) = INT16.unpack_from(b, p)
    p += 2
    if n_10 < 0 or p + n_10 > end:
        raise refuse_length("protocol_type", n_10)
    protocol_type_9 = str(b[p : p + n_10], "utf-8")
    p += n_10
    (n_12,) = INT32.unpack_from(b, p)
    p += 4
    if n_12 < 0 or n_12 > (end - p) // 6:
        raise refuse_length("protocols", n_12)
    room -= n_12
    if room < 0:
        raise too_many("protocols")
    made_13: list[JoinGroupRequestProtocol] = []
    for _ in range(n_12):
        (n_15,) = INT16.unpack_from(b, p)
        p += 2
        if n_15 < 0 or p + n_15 > end:
            raise refuse_length("name", n_15)
        name_14 = str(b[p : p + n_15], "utf-8")
        p += n_15
        (n_17,) = INT32.unpack_from(b, p)
        p += 4
        if n_17 < 0 or p + n_17 > end:
            raise refuse_length("metadata", n_17)
        metadata_16 = bytes(b[p : p + n_17])
        p += n_17
        made_13.append(JoinGroupRequestProtocol(name_14, metadata_16))
    protocols_11 = made_13
    return JoinGroupRequest(group_id_1, session_timeout_ms_3, rebalance_timeout_ms_4, member_id_5, group_instance_id_7, protocol_type_9, protocols_11, None), p


def read_6(b: Buffer, p: int) -> tuple[JoinGroupRequest, int]:
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
    session_timeout_ms_3, rebalance_timeout_ms_4 = _ii.unpack_from(b, p)
    p += 8
    n_6 = b[p] - 1
    p += 1
    if n_6 > 126:
        n_6, p = uvarint(b, p - 1)
        n_6 -= 1
    if n_6 < 0 or p + n_6 > end:
        raise refuse_length("member_id", n_6)
    member_id_5 = str(b[p : p + n_6], "utf-8")
    p += n_6
    n_8 = b[p] - 1
    p += 1
    if n_8 > 126:
        n_8, p = uvarint(b, p - 1)
        n_8 -= 1
    group_instance_id_7: str | None = None
    if n_8 != -1:
        if n_8 < 0 or p + n_8 > end:
            raise refuse_length("group_instance_id", n_8)
        group_instance_id_7 = str(b[p : p + n_8], "utf-8")
        p += n_8
    n_10 = b[p] - 1
    p += 1
    if n_10 > 126:
        n_10, p = uvarint(b, p - 1)
        n_10 -= 1
    if n_10 < 0 or p + n_10 > end:
        raise refuse_length("protocol_type", n_10)
    protocol_type_9 = str(b[p : p + n_10], "utf-8")
    p += n_10
    n_12 = b[p] - 1
    p += 1
    if n_12 > 126:
        n_12, p = uvarint(b, p - 1)
        n_12 -= 1
    if n_12 < 0 or n_12 > (end - p) // 3:
        raise refuse_length("protocols", n_12)
    room -= n_12
    if room < 0:
        raise too_many("protocols")
    made_13: list[JoinGroupRequestProtocol] = []
    for _ in range(n_12):
        n_15 = b[p] - 1
        p += 1
        if n_15 > 126:
            n_15, p = uvarint(b, p - 1)
            n_15 -= 1
        if n_15 < 0 or p + n_15 > end:
            raise refuse_length("name", n_15)
        name_14 = str(b[p : p + n_15], "utf-8")
        p += n_15
        n_17 = b[p] - 1
        p += 1
        if n_17 > 126:
            n_17, p = uvarint(b, p - 1)
            n_17 -= 1
        if n_17 < 0 or p + n_17 > end:
            raise refuse_length("metadata", n_17)
        metadata_16 = bytes(b[p : p + n_17])
        p += n_17
        p = skip_tags(b, p) if b[p] else p + 1
        made_13.append(JoinGroupRequestProtocol(name_14, metadata_16))
    protocols_11 = made_13
    p = skip_tags(b, p) if b[p] else p + 1
    return JoinGroupRequest(group_id_1, session_timeout_ms_3, rebalance_timeout_ms_4, member_id_5, group_instance_id_7, protocol_type_9, protocols_11, None), p


def read_8(b: Buffer, p: int) -> tuple[JoinGroupRequest, int]:
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
    session_timeout_ms_3, rebalance_timeout_ms_4 = _ii.unpack_from(b, p)
    p += 8
    n_6 = b[p] - 1
    p += 1
    if n_6 > 126:
        n_6, p = uvarint(b, p - 1)
        n_6 -= 1
    if n_6 < 0 or p + n_6 > end:
        raise refuse_length("member_id", n_6)
    member_id_5 = str(b[p : p + n_6], "utf-8")
    p += n_6
    n_8 = b[p] - 1
    p += 1
    if n_8 > 126:
        n_8, p = uvarint(b, p - 1)
        n_8 -= 1
    group_instance_id_7: str | None = None
    if n_8 != -1:
        if n_8 < 0 or p + n_8 > end:
            raise refuse_length("group_instance_id", n_8)
        group_instance_id_7 = str(b[p : p + n_8], "utf-8")
        p += n_8
    n_10 = b[p] - 1
    p += 1
    if n_10 > 126:
        n_10, p = uvarint(b, p - 1)
        n_10 -= 1
    if n_10 < 0 or p + n_10 > end:
        raise refuse_length("protocol_type", n_10)
    protocol_type_9 = str(b[p : p + n_10], "utf-8")
    p += n_10
    n_12 = b[p] - 1
    p += 1
    if n_12 > 126:
        n_12, p = uvarint(b, p - 1)
        n_12 -= 1
    if n_12 < 0 or n_12 > (end - p) // 3:
        raise refuse_length("protocols", n_12)
    room -= n_12
    if room < 0:
        raise too_many("protocols")
    made_13: list[JoinGroupRequestProtocol] = []
    for _ in range(n_12):
        n_15 = b[p] - 1
        p += 1
        if n_15 > 126:
            n_15, p = uvarint(b, p - 1)
            n_15 -= 1
        if n_15 < 0 or p + n_15 > end:
            raise refuse_length("name", n_15)
        name_14 = str(b[p : p + n_15], "utf-8")
        p += n_15
        n_17 = b[p] - 1
        p += 1
        if n_17 > 126:
            n_17, p = uvarint(b, p - 1)
            n_17 -= 1
        if n_17 < 0 or p + n_17 > end:
            raise refuse_length("metadata", n_17)
        metadata_16 = bytes(b[p : p + n_17])
        p += n_17
        p = skip_tags(b, p) if b[p] else p + 1
        made_13.append(JoinGroupRequestProtocol(name_14, metadata_16))
    protocols_11 = made_13
    n_19 = b[p] - 1
    p += 1
    if n_19 > 126:
        n_19, p = uvarint(b, p - 1)
        n_19 -= 1
    reason_18: str | None = None
    if n_19 != -1:
        if n_19 < 0 or p + n_19 > end:
            raise refuse_length("reason", n_19)
        reason_18 = str(b[p : p + n_19], "utf-8")
        p += n_19
    p = skip_tags(b, p) if b[p] else p + 1
    return JoinGroupRequest(group_id_1, session_timeout_ms_3, rebalance_timeout_ms_4, member_id_5, group_instance_id_7, protocol_type_9, protocols_11, reason_18), p


def write_0(m: JoinGroupResponse, w: Callable[[bytes], None]) -> None:
    w(_hi.pack(m.error_code, m.generation_id))
    w(string(m.protocol_name or ""))
    w(string(m.leader))
    w(string(m.member_id))
    a_1 = m.members
    w(INT32.pack(len(a_1)))
    for o_2 in a_1:
        w(string(o_2.member_id))
        w(long_bytes(o_2.metadata))


def write_2(m: JoinGroupResponse, w: Callable[[bytes], None]) -> None:
    w(_ihi.pack(m.throttle_time_ms, m.error_code, m.generation_id))
    w(string(m.protocol_name or ""))
    w(string(m.leader))
    w(string(m.member_id))
    a_1 = m.members
    w(INT32.pack(len(a_1)))
    for o_2 in a_1:
        w(string(o_2.member_id))
        w(long_bytes(o_2.metadata))


def write_5(m: JoinGroupResponse, w: Callable[[bytes], None]) -> None:
    w(_ihi.pack(m.throttle_time_ms, m.error_code, m.generation_id))
    w(string(m.protocol_name or ""))
    w(string(m.leader))
    w(string(m.member_id))
    a_1 = m.members
    w(INT32.pack(len(a_1)))
    for o_2 in a_1:
        w(string(o_2.member_id))
        w(nullable_string(o_2.group_instance_id))
        w(long_bytes(o_2.metadata))


def write_6(m: JoinGroupResponse, w: Callable[[bytes], None]) -> None:
    w(_ihi.pack(m.throttle_time_ms, m.error_code, m.generation_id))
    w(compact_string(m.protocol_name or ""))
    w(compact_string(m.leader))
    w(compact_string(m.member_id))
    a_1 = m.members
    w(write_uvarint(len(a_1) + 1))
    for o_2 in a_1:
        w(compact_string(o_2.member_id))
        w(nullable_compact_string(o_2.group_instance_id))
        w(compact_bytes(o_2.metadata))
        w(b"\0")
    w(b"\0")


def write_7(m: JoinGroupResponse, w: Callable[[bytes], None]) -> None:
    w(_ihi.pack(m.throttle_time_ms, m.error_code, m.generation_id))
    w(nullable_compact_string(m.protocol_type))
    w(nullable_compact_string(m.protocol_name))
    w(compact_string(m.leader))
    w(compact_string(m.member_id))
    a_1 = m.members
    w(write_uvarint(len(a_1) + 1))
    for o_2 in a_1:
        w(compact_string(o_2.member_id))
        w(nullable_compact_string(o_2.group_instance_id))
        w(compact_bytes(o_2.metadata))
        w(b"\0")
    w(b"\0")


def write_9(m: JoinGroupResponse, w: Callable[[bytes], None]) -> None:
    w(_ihi.pack(m.throttle_time_ms, m.error_code, m.generation_id))
    w(nullable_compact_string(m.protocol_type))
    w(nullable_compact_string(m.protocol_name))
    w(compact_string(m.leader))
    w(_B.pack(m.skip_assignment))
    w(compact_string(m.member_id))
    a_1 = m.members
    w(write_uvarint(len(a_1) + 1))
    for o_2 in a_1:
        w(compact_string(o_2.member_id))
        w(nullable_compact_string(o_2.group_instance_id))
        w(compact_bytes(o_2.metadata))
        w(b"\0")
    w(b"\0")


READ: Final = {0: read_0, 1: read_1, 2: read_1, 3: read_1, 4: read_1, 5: read_5, 6: read_6, 7: read_6, 8: read_8, 9: read_8}


WRITE: Final = {0: write_0, 1: write_0, 2: write_2, 3: write_2, 4: write_2, 5: write_5, 6: write_6, 7: write_7, 8: write_7, 9: write_9}
