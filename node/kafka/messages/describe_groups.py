"""Kafka's DescribeGroups, made by `make kafka` from node/kafka/schema/table.txt; changes belong there."""

from collections.abc import Callable, Sequence
from struct import Struct
from typing import Final

from node.kafka.wire import ELEMENTS_MAX, INT16, INT32, Buffer, Message, compact_bytes, compact_string, long_bytes, nullable_compact_string, nullable_string, refuse_length, skip_tags, string, too_many, uvarint, write_uvarint

_B = Struct(">?")
_h = Struct(">h")
_i = Struct(">i")


class DescribeGroupsRequest(Message):
    __slots__ = ("groups", "include_authorized_operations")

    def __init__(
        self,
        groups: Sequence[str] = (),
        include_authorized_operations: bool = False,
    ) -> None:
        self.groups = groups
        self.include_authorized_operations = include_authorized_operations


class DescribedGroupMember(Message):
    __slots__ = ("member_id", "group_instance_id", "client_id", "client_host", "member_metadata", "member_assignment")

    def __init__(
        self,
        member_id: str = "",
        group_instance_id: str | None = None,
        client_id: str = "",
        client_host: str = "",
        member_metadata: bytes = b"",
        member_assignment: bytes = b"",
    ) -> None:
        self.member_id = member_id
        self.group_instance_id = group_instance_id
        self.client_id = client_id
        self.client_host = client_host
        self.member_metadata = member_metadata
        self.member_assignment = member_assignment


class DescribedGroup(Message):
    __slots__ = ("error_code", "error_message", "group_id", "group_state", "protocol_type", "protocol_data", "members", "authorized_operations")

    def __init__(
        self,
        error_code: int = 0,
        error_message: str | None = None,
        group_id: str = "",
        group_state: str = "",
        protocol_type: str = "",
        protocol_data: str = "",
        members: Sequence[DescribedGroupMember] = (),
        authorized_operations: int = -2147483648,
    ) -> None:
        self.error_code = error_code
        self.error_message = error_message
        self.group_id = group_id
        self.group_state = group_state
        self.protocol_type = protocol_type
        self.protocol_data = protocol_data
        self.members = members
        self.authorized_operations = authorized_operations


class DescribeGroupsResponse(Message):
    __slots__ = ("throttle_time_ms", "groups")

    def __init__(
        self,
        throttle_time_ms: int = 0,
        groups: Sequence[DescribedGroup] = (),
    ) -> None:
        self.throttle_time_ms = throttle_time_ms
        self.groups = groups


def read_0(b: Buffer, p: int) -> tuple[DescribeGroupsRequest, int]:
    end = len(b)
    room = ELEMENTS_MAX
    (n_2,) = INT32.unpack_from(b, p)
    p += 4
    if n_2 < 0 or n_2 > (end - p) // 2:
        raise refuse_length("groups", n_2)
    room -= n_2
    if room < 0:
        raise too_many("groups")
    made_3: list[str] = []
    for _ in range(n_2):
        (n_5,) = INT16.unpack_from(b, p)
        p += 2
        if n_5 < 0 or p + n_5 > end:
            raise refuse_length("groups", n_5)
        each_4 = str(b[p : p + n_5], "utf-8")
        p += n_5
        made_3.append(each_4)
    groups_1 = made_3
    return DescribeGroupsRequest(groups_1, False), p


def read_3(b: Buffer, p: int) -> tuple[DescribeGroupsRequest, int]:
    end = len(b)
    room = ELEMENTS_MAX
    (n_2,) = INT32.unpack_from(b, p)
    p += 4
    if n_2 < 0 or n_2 > (end - p) // 2:
        raise refuse_length("groups", n_2)
    room -= n_2
    if room < 0:
        raise too_many("groups")
    made_3: list[str] = []
    for _ in range(n_2):
        (n_5,) = INT16.unpack_from(b, p)
        p += 2
        if n_5 < 0 or p + n_5 > end:
            raise refuse_length("groups", n_5)
        each_4 = str(b[p : p + n_5], "utf-8")
        p += n_5
        made_3.append(each_4)
    groups_1 = made_3
    (include_authorized_operations_6,) = _B.unpack_from(b, p)
    p += 1
    return DescribeGroupsRequest(groups_1, include_authorized_operations_6), p


def read_5(b: Buffer, p: int) -> tuple[DescribeGroupsRequest, int]:
    end = len(b)
    room = ELEMENTS_MAX
    n_2 = b[p] - 1
    p += 1
    if n_2 > 126:
        n_2, p = uvarint(b, p - 1)
        n_2 -= 1
    if n_2 < 0 or n_2 > end - p:
        raise refuse_length("groups", n_2)
    room -= n_2
    if room < 0:
        raise too_many("groups")
    made_3: list[str] = []
    for _ in range(n_2):
        n_5 = b[p] - 1
        p += 1
        if n_5 > 126:
            n_5, p = uvarint(b, p - 1)
            n_5 -= 1
        if n_5 < 0 or p + n_5 > end:
            raise refuse_length("groups", n_5)
        each_4 = str(b[p : p + n_5], "utf-8")
        p += n_5
        made_3.append(each_4)
    groups_1 = made_3
    (include_authorized_operations_6,) = _B.unpack_from(b, p)
    p += 1
    p = skip_tags(b, p) if b[p] else p + 1
    return DescribeGroupsRequest(groups_1, include_authorized_operations_6), p


def write_0(m: DescribeGroupsResponse, w: Callable[[bytes], None]) -> None:
    a_1 = m.groups
    w(INT32.pack(len(a_1)))
    for o_2 in a_1:
        w(_h.pack(o_2.error_code))
        w(string(o_2.group_id))
        w(string(o_2.group_state))
        w(string(o_2.protocol_type))
        w(string(o_2.protocol_data))
        a_3 = o_2.members
        w(INT32.pack(len(a_3)))
        for o_4 in a_3:
            w(string(o_4.member_id))
            w(string(o_4.client_id))
            w(string(o_4.client_host))
            w(long_bytes(o_4.member_metadata))
            w(long_bytes(o_4.member_assignment))


def write_1(m: DescribeGroupsResponse, w: Callable[[bytes], None]) -> None:
    w(_i.pack(m.throttle_time_ms))
    a_1 = m.groups
    w(INT32.pack(len(a_1)))
    for o_2 in a_1:
        w(_h.pack(o_2.error_code))
        w(string(o_2.group_id))
        w(string(o_2.group_state))
        w(string(o_2.protocol_type))
        w(string(o_2.protocol_data))
        a_3 = o_2.members
        w(INT32.pack(len(a_3)))
        for o_4 in a_3:
            w(string(o_4.member_id))
            w(string(o_4.client_id))
            w(string(o_4.client_host))
            w(long_bytes(o_4.member_metadata))
            w(long_bytes(o_4.member_assignment))


def write_3(m: DescribeGroupsResponse, w: Callable[[bytes], None]) -> None:
    w(_i.pack(m.throttle_time_ms))
    a_1 = m.groups
    w(INT32.pack(len(a_1)))
    for o_2 in a_1:
        w(_h.pack(o_2.error_code))
        w(string(o_2.group_id))
        w(string(o_2.group_state))
        w(string(o_2.protocol_type))
        w(string(o_2.protocol_data))
        a_3 = o_2.members
        w(INT32.pack(len(a_3)))
        for o_4 in a_3:
            w(string(o_4.member_id))
            w(string(o_4.client_id))
            w(string(o_4.client_host))
            w(long_bytes(o_4.member_metadata))
            w(long_bytes(o_4.member_assignment))
        w(_i.pack(o_2.authorized_operations))


def write_4(m: DescribeGroupsResponse, w: Callable[[bytes], None]) -> None:
    w(_i.pack(m.throttle_time_ms))
    a_1 = m.groups
    w(INT32.pack(len(a_1)))
    for o_2 in a_1:
        w(_h.pack(o_2.error_code))
        w(string(o_2.group_id))
        w(string(o_2.group_state))
        w(string(o_2.protocol_type))
        w(string(o_2.protocol_data))
        a_3 = o_2.members
        w(INT32.pack(len(a_3)))
        for o_4 in a_3:
            w(string(o_4.member_id))
            w(nullable_string(o_4.group_instance_id))
            w(string(o_4.client_id))
            w(string(o_4.client_host))
            w(long_bytes(o_4.member_metadata))
            w(long_bytes(o_4.member_assignment))
        w(_i.pack(o_2.authorized_operations))


def write_5(m: DescribeGroupsResponse, w: Callable[[bytes], None]) -> None:
    w(_i.pack(m.throttle_time_ms))
    a_1 = m.groups
    w(write_uvarint(len(a_1) + 1))
    for o_2 in a_1:
        w(_h.pack(o_2.error_code))
        w(compact_string(o_2.group_id))
        w(compact_string(o_2.group_state))
        w(compact_string(o_2.protocol_type))
        w(compact_string(o_2.protocol_data))
        a_3 = o_2.members
        w(write_uvarint(len(a_3) + 1))
        for o_4 in a_3:
            w(compact_string(o_4.member_id))
            w(nullable_compact_string(o_4.group_instance_id))
            w(compact_string(o_4.client_id))
            w(compact_string(o_4.client_host))
            w(compact_bytes(o_4.member_metadata))
            w(compact_bytes(o_4.member_assignment))
            w(b"\0")
        w(_i.pack(o_2.authorized_operations))
        w(b"\0")
    w(b"\0")


def write_6(m: DescribeGroupsResponse, w: Callable[[bytes], None]) -> None:
    w(_i.pack(m.throttle_time_ms))
    a_1 = m.groups
    w(write_uvarint(len(a_1) + 1))
    for o_2 in a_1:
        w(_h.pack(o_2.error_code))
        w(nullable_compact_string(o_2.error_message))
        w(compact_string(o_2.group_id))
        w(compact_string(o_2.group_state))
        w(compact_string(o_2.protocol_type))
        w(compact_string(o_2.protocol_data))
        a_3 = o_2.members
        w(write_uvarint(len(a_3) + 1))
        for o_4 in a_3:
            w(compact_string(o_4.member_id))
            w(nullable_compact_string(o_4.group_instance_id))
            w(compact_string(o_4.client_id))
            w(compact_string(o_4.client_host))
            w(compact_bytes(o_4.member_metadata))
            w(compact_bytes(o_4.member_assignment))
            w(b"\0")
        w(_i.pack(o_2.authorized_operations))
        w(b"\0")
    w(b"\0")


READ: Final = {0: read_0, 1: read_0, 2: read_0, 3: read_3, 4: read_3, 5: read_5, 6: read_5}


WRITE: Final = {0: write_0, 1: write_1, 2: write_1, 3: write_3, 4: write_4, 5: write_5, 6: write_6}
