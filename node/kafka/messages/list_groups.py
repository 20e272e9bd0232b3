"""Kafka's ListGroups, made by `make kafka` from node/kafka/schema/table.txt; changes belong there."""

from collections.abc import Callable, Sequence
from struct import Struct
from typing import Final

from node.kafka.wire import ELEMENTS_MAX, INT32, Buffer, Message, compact_string, refuse_length, skip_tags, string, too_many, uvarint, write_uvarint

_h = Struct(">h")
_ih = Struct(">ih")


class ListGroupsRequest(Message):
    __slots__ = ("states_filter", "types_filter")

    def __init__(
        self,
        states_filter: Sequence[str] = (),
        types_filter: Sequence[str] = (),
    ) -> None:
        self.states_filter = states_filter
        self.types_filter = types_filter


class ListedGroup(Message):
    __slots__ = ("group_id", "protocol_type", "group_state", "group_type")

    def __init__(
        self,
        group_id: str = "",
        protocol_type: str = "",
        group_state: str = "",
        group_type: str = "",
    ) -> None:
        self.group_id = group_id
        self.protocol_type = protocol_type
        self.group_state = group_state
        self.group_type = group_type


class ListGroupsResponse(Message):
    __slots__ = ("throttle_time_ms", "error_code", "groups")

    def __init__(
        self,
        throttle_time_ms: int = 0,
        error_code: int = 0,
        groups: Sequence[ListedGroup] = (),
    ) -> None:
        self.throttle_time_ms = throttle_time_ms
        self.error_code = error_code
        self.groups = groups


def read_0(b: Buffer, p: int) -> tuple[ListGroupsRequest, int]:
    return ListGroupsRequest((), ()), p


def read_3(b: Buffer, p: int) -> tuple[ListGroupsRequest, int]:
    p = skip_tags(b, p) if b[p] else p + 1
    return ListGroupsRequest((), ()), p


def read_4(b: Buffer, p: int) -> tuple[ListGroupsRequest, int]:
    end = len(b)
    room = ELEMENTS_MAX
    n_2 = b[p] - 1
    p += 1
    if n_2 > 126:
        n_2, p = uvarint(b, p - 1)
        n_2 -= 1
    if n_2 < 0 or n_2 > end - p:
        raise refuse_length("states_filter", n_2)
    room -= n_2
    if room < 0:
        raise too_many("states_filter")
    made_3: list[str] = []
    for _ in range(n_2):
        n_5 = b[p] - 1
        p += 1
        if n_5 > 126:
            n_5, p = uvarint(b, p - 1)
            n_5 -= 1
        if n_5 < 0 or p + n_5 > end:
            raise refuse_length("states_filter", n_5)
        each_4 = str(b[p : p + n_5], "utf-8")
        p += n_5
        made_3.append(each_4)
    states_filter_1 = made_3
    p = skip_tags(b, p) if b[p] else p + 1
    return ListGroupsRequest(states_filter_1, ()), p


def read_5(b: Buffer, p: int) -> tuple[ListGroupsRequest, int]:
    end = len(b)
    room = ELEMENTS_MAX
    n_2 = b[p] - 1
    p += 1
    if n_2 > 126:
        n_2, p = uvarint(b, p - 1)
        n_2 -= 1
    if n_2 < 0 or n_2 > end - p:
        raise refuse_length("states_filter", n_2)
    room -= n_2
    if room < 0:
        raise too_many("states_filter")
    made_3: list[str] = []
    for _ in range(n_2):
        n_5 = b[p] - 1
        p += 1
        if n_5 > 126:
            n_5, p = uvarint(b, p - 1)
            n_5 -= 1
        if n_5 < 0 or p + n_5 > end:
            raise refuse_length("states_filter", n_5)
        each_4 = str(b[p : p + n_5], "utf-8")
        p += n_5
        made_3.append(each_4)
    states_filter_1 = made_3
    n_7 = b[p] - 1
    p += 1
    if n_7 > 126:
        n_7, p = uvarint(b, p - 1)
        n_7 -= 1
    if n_7 < 0 or n_7 > end - p:
        raise refuse_length("types_filter", n_7)
    room -= n_7
    if room < 0:
        raise too_many("types_filter")
    made_8: list[str] = []
    for _ in range(n_7):
        n_10 = b[p] - 1
        p += 1
        if n_10 > 126:
            n_10, p = uvarint(b, p - 1)
            n_10 -= 1
        if n_10 < 0 or p + n_10 > end:
            raise refuse_length("types_filter", n_10)
        each_9 = str(b[p : p + n_10], "utf-8")
        p += n_10
        made_8.append(each_9)
    types_filter_6 = made_8
    p = skip_tags(b, p) if b[p] else p + 1
    return ListGroupsRequest(states_filter_1, types_filter_6), p


def write_0(m: ListGroupsResponse, w: Callable[[bytes], None]) -> None:
    w(_h.pack(m.error_code))
    a_1 = m.groups
    w(INT32.pack(len(a_1)))
    for o_2 in a_1:
        w(string(o_2.group_id))
        w(string(o_2.protocol_type))


def write_1(m: ListGroupsResponse, w: Callable[[bytes], None]) -> None:
    w(_ih.pack(m.throttle_time_ms, m.error_code))
    a_1 = m.groups
    w(INT32.pack(len(a_1)))
    for o_2 in a_1:
        w(string(o_2.group_id))
        w(string(o_2.protocol_type))


def write_3(m: ListGroupsResponse, w: Callable[[bytes], None]) -> None:
    w(_ih.pack(m.throttle_time_ms, m.error_code))
    a_1 = m.groups
    w(write_uvarint(len(a_1) + 1))
    for o_2 in a_1:
        w(compact_string(o_2.group_id))
        w(compact_string(o_2.protocol_type))
        w(b"\0")
    w(b"\0")


def write_4(m: ListGroupsResponse, w: Callable[[bytes], None]) -> None:
    w(_ih.pack(m.throttle_time_ms, m.error_code))
    a_1 = m.groups
    w(write_uvarint(len(a_1) + 1))
    for o_2 in a_1:
        w(compact_string(o_2.group_id))
        w(compact_string(o_2.protocol_type))
        w(compact_string(o_2.group_state))
        w(b"\0")
    w(b"\0")


def write_5(m: ListGroupsResponse, w: Callable[[bytes], None]) -> None:
    w(_ih.pack(m.throttle_time_ms, m.error_code))
    a_1 = m.groups
    w(write_uvarint(len(a_1) + 1))
    for o_2 in a_1:
        w(compact_string(o_2.group_id))
        w(compact_string(o_2.protocol_type))
        w(compact_string(o_2.group_state))
        w(compact_string(o_2.group_type))
        w(b"\0")
    w(b"\0")


READ: Final = {0: read_0, 1: read_0, 2: read_0, 3: read_3, 4: read_4, 5: read_5}


WRITE: Final = {0: write_0, 1: write_1, 2: write_1, 3: write_3, 4: write_4, 5: write_5}
