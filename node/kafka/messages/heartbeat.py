"""Kafka's Heartbeat, made by `make kafka` from node/kafka/schema/table.txt; changes belong there."""

from collections.abc import Callable
from struct import Struct
from typing import Final

from node.kafka.wire import INT16, Buffer, Message, refuse_length, skip_tags, uvarint

_h = Struct(">h")
_i = Struct(">i")
_ih = Struct(">ih")


class HeartbeatRequest(Message):
    __slots__ = ("group_id", "generation_id", "member_id", "group_instance_id")

    def __init__(
        self,
        group_id: str = "",
        generation_id: int = 0,
        member_id: str = "",
        group_instance_id: str | None = None,
    ) -> None:
        self.group_id = group_id
        self.generation_id = generation_id
        self.member_id = member_id
        self.group_instance_id = group_instance_id


class HeartbeatResponse(Message):
    __slots__ = ("throttle_time_ms", "error_code")

    def __init__(
        self,
        throttle_time_ms: int = 0,
        error_code: int = 0,
    ) -> None:
        self.throttle_time_ms = throttle_time_ms
        self.error_code = error_code


def read_0(b: Buffer, p: int) -> tuple[HeartbeatRequest, int]:
    end = len(b)
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
    return HeartbeatRequest(group_id_1, generation_id_3, member_id_4, None), p


def read_3(b: Buffer, p: int) -> tuple[HeartbeatRequest, int]:
    end = len(b)
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
    return HeartbeatRequest(group_id_1, generation_id_3, member_id_4, group_instance_id_6), p


def read_4(b: Buffer, p: int) -> tuple[HeartbeatRequest, int]:
    end = len(b)
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
    p = skip_tags(b, p) if b[p] else p + 1
    return HeartbeatRequest(group_id_1, generation_id_3, member_id_4, group_instance_id_6), p


def write_0(m: HeartbeatResponse, w: Callable[[bytes], None]) -> None:
    w(_h.pack(m.error_code))


def write_1(m: HeartbeatResponse, w: Callable[[bytes], None]) -> None:
    w(_ih.pack(m.throttle_time_ms, m.error_code))


def write_4(m: HeartbeatResponse, w: Callable[[bytes], None]) -> None:
    w(_ih.pack(m.throttle_time_ms, m.error_code))
    w(b"\0")


READ: Final = {0: read_0, 1: read_0, 2: read_0, 3: read_3, 4: read_4}


WRITE: Final = {0: write_0, 1: write_1, 2: write_1, 3: write_1, 4: write_4}
