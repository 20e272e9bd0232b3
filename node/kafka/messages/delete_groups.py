"""Kafka's DeleteGroups, made by `make kafka` from node/kafka/schema/table.txt; changes belong there."""

from collections.abc import Callable, Sequence
from struct import Struct
from typing import Final

from node.kafka.wire import ELEMENTS_MAX, INT16, INT32, Buffer, Message, compact_string, refuse_length, skip_tags, string, too_many, uvarint, write_uvarint

_h = Struct(">h")
_i = Struct(">i")


class DeleteGroupsRequest(Message):
    __slots__ = ("groups_names",)

    def __init__(
        self,
        groups_names: Sequence[str] = (),
    ) -> None:
        self.groups_names = groups_names


class DeletableGroupResult(Message):
    __slots__ = ("group_id", "error_code")

    def __init__(
        self,
        group_id: str = "",
        error_code: int = 0,
    ) -> None:
        self.group_id = group_id
        self.error_code = error_code


class DeleteGroupsResponse(Message):
    __slots__ = ("throttle_time_ms", "results")

    def __init__(
        self,
        throttle_time_ms: int = 0,
        results: Sequence[DeletableGroupResult] = (),
    ) -> None:
        self.throttle_time_ms = throttle_time_ms
        self.results = results


def read_0(b: Buffer, p: int) -> tuple[DeleteGroupsRequest, int]:
    end = len(b)
    room = ELEMENTS_MAX
    (n_2,) = INT32.unpack_from(b, p)
    p += 4
    if n_2 < 0 or n_2 > (end - p) // 2:
        raise refuse_length("groups_names", n_2)
    room -= n_2
    if room < 0:
        raise too_many("groups_names")
    made_3: list[str] = []
    for _ in range(n_2):
        (n_5,) = INT16.unpack_from(b, p)
        p += 2
        if n_5 < 0 or p + n_5 > end:
            raise refuse_length("groups_names", n_5)
        each_4 = str(b[p : p + n_5], "utf-8")
        p += n_5
        made_3.append(each_4)
    groups_names_1 = made_3
    return DeleteGroupsRequest(groups_names_1), p


def read_2(b: Buffer, p: int) -> tuple[DeleteGroupsRequest, int]:
    end = len(b)
    room = ELEMENTS_MAX
    n_2 = b[p] - 1
    p += 1
    if n_2 > 126:
        n_2, p = uvarint(b, p - 1)
        n_2 -= 1
    if n_2 < 0 or n_2 > end - p:
        raise refuse_length("groups_names", n_2)
    room -= n_2
    if room < 0:
        raise too_many("groups_names")
    made_3: list[str] = []
    for _ in range(n_2):
        n_5 = b[p] - 1
        p += 1
        if n_5 > 126:
            n_5, p = uvarint(b, p - 1)
            n_5 -= 1
        if n_5 < 0 or p + n_5 > end:
            raise refuse_length("groups_names", n_5)
        each_4 = str(b[p : p + n_5], "utf-8")
        p += n_5
        made_3.append(each_4)
    groups_names_1 = made_3
    p = skip_tags(b, p) if b[p] else p + 1
    return DeleteGroupsRequest(groups_names_1), p


def write_0(m: DeleteGroupsResponse, w: Callable[[bytes], None]) -> None:
    w(_i.pack(m.throttle_time_ms))
    a_1 = m.results
    w(INT32.pack(len(a_1)))
    for o_2 in a_1:
        w(string(o_2.group_id))
        w(_h.pack(o_2.error_code))


def write_2(m: DeleteGroupsResponse, w: Callable[[bytes], None]) -> None:
    w(_i.pack(m.throttle_time_ms))
    a_1 = m.results
    w(write_uvarint(len(a_1) + 1))
    for o_2 in a_1:
        w(compact_string(o_2.group_id))
        w(_h.pack(o_2.error_code))
        w(b"\0")
    w(b"\0")


READ: Final = {0: read_0, 1: read_0, 2: read_2}


WRITE: Final = {0: write_0, 1: write_0, 2: write_2}
