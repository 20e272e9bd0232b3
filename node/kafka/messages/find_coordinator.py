"""Kafka's FindCoordinator, made by `make kafka` from node/kafka/schema/table.txt; changes belong there."""

from collections.abc import Callable, Sequence
from struct import Struct
from typing import Final

from node.kafka.wire import ELEMENTS_MAX, INT16, Buffer, Message, compact_string, nullable_compact_string, nullable_string, refuse_length, skip_tags, string, too_many, uvarint, write_uvarint

_b = Struct(">b")
_hi = Struct(">hi")
_i = Struct(">i")
_ih = Struct(">ih")


class FindCoordinatorRequest(Message):
    __slots__ = ("key", "key_type", "coordinator_keys")

    def __init__(
        self,
        key: str = "",
        key_type: int = 0,
        coordinator_keys: Sequence[str] = (),
    ) -> None:
        self.key = key
        self.key_type = key_type
        self.coordinator_keys = coordinator_keys


class Coordinator(Message):
    __slots__ = ("key", "node_id", "host", "port", "error_code", "error_message")

    def __init__(
        self,
        key: str = "",
        node_id: int = 0,
        host: str = "",
        port: int = 0,
        error_code: int = 0,
        error_message: str | None = "",
    ) -> None:
        self.key = key
        self.node_id = node_id
        self.host = host
        self.port = port
        self.error_code = error_code
        self.error_message = error_message


class FindCoordinatorResponse(Message):
    __slots__ = ("throttle_time_ms", "error_code", "error_message", "node_id", "host", "port", "coordinators")

    def __init__(
        self,
        throttle_time_ms: int = 0,
        error_code: int = 0,
        error_message: str | None = "",
        node_id: int = 0,
        host: str = "",
        port: int = 0,
        coordinators: Sequence[Coordinator] = (),
    ) -> None:
        self.throttle_time_ms = throttle_time_ms
        self.error_code = error_code
        self.error_message = error_message
        self.node_id = node_id
        self.host = host
        self.port = port
        self.coordinators = coordinators


def read_0(b: Buffer, p: int) -> tuple[FindCoordinatorRequest, int]:
    end = len(b)
    (n_2,) = INT16.unpack_from(b, p)
    p += 2
    if n_2 < 0 or p + n_2 > end:
        raise refuse_length("key", n_2)
    key_1 = str(b[p : p + n_2], "utf-8")
    p += n_2
    return FindCoordinatorRequest(key_1, 0, ()), p


def read_1(b: Buffer, p: int) -> tuple[FindCoordinatorRequest, int]:
    end = len(b)
    (n_2,) = INT16.unpack_from(b, p)
    p += 2
    if n_2 < 0 or p + n_2 > end:
        raise refuse_length("key", n_2)
    key_1 = str(b[p : p + n_2], "utf-8")
    p += n_2
    (key_type_3,) = _b.unpack_from(b, p)
    p += 1
    return FindCoordinatorRequest(key_1, key_type_3, ()), p


def read_3(b: Buffer, p: int) -> tuple[FindCoordinatorRequest, int]:
    end = len(b)
    n_2 = b[p] - 1
    p += 1
    if n_2 > 126:
        n_2, p = uvarint(b, p - 1)
        n_2 -= 1
    if n_2 < 0 or p + n_2 > end:
        raise refuse_length("key", n_2)
    key_1 = str(b[p : p + n_2], "utf-8")
    p += n_2
    (key_type_3,) = _b.unpack_from(b, p)
    p += 1
    p = skip_tags(b, p) if b[p] else p + 1
    return FindCoordinatorRequest(key_1, key_type_3, ()), p


def read_4(b: Buffer, p: int) -> tuple[FindCoordinatorRequest, int]:
    end = len(b)
    room = ELEMENTS_MAX
    (key_type_1,) = _b.unpack_from(b, p)
    p += 1
    n_3 = b[p] - 1
    p += 1
    if n_3 > 126:
        n_3, p = uvarint(b, p - 1)
        n_3 -= 1
    if n_3 < 0 or n_3 > end - p:
        raise refuse_length("coordinator_keys", n_3)
    room -= n_3
    if room < 0:
        raise too_many("coordinator_keys")
    made_4: list[str] = []
    for _ in range(n_3):
        n_6 = b[p] - 1
        p += 1
        if n_6 > 126:
            n_6, p = uvarint(b, p - 1)
            n_6 -= 1
        if n_6 < 0 or p + n_6 > end:
            raise refuse_length("coordinator_keys", n_6)
        each_5 = str(b[p : p + n_6], "utf-8")
        p += n_6
        made_4.append(each_5)
    coordinator_keys_2 = made_4
    p = skip_tags(b, p) if b[p] else p + 1
    return FindCoordinatorRequest("", key_type_1, coordinator_keys_2), p


def write_0(m: FindCoordinatorResponse, w: Callable[[bytes], None]) -> None:
    w(_hi.pack(m.error_code, m.node_id))
    w(string(m.host))
    w(_i.pack(m.port))


def write_1(m: FindCoordinatorResponse, w: Callable[[bytes], None]) -> None:
    w(_ih.pack(m.throttle_time_ms, m.error_code))
    w(nullable_string(m.error_message))
    w(_i.pack(m.node_id))
    w(string(m.host))
    w(_i.pack(m.port))


def write_3(m: FindCoordinatorResponse, w: Callable[[bytes], None]) -> None:
    w(_ih.pack(m.throttle_time_ms, m.error_code))
    w(nullable_compact_string(m.error_message))
    w(_i.pack(m.node_id))
    w(compact_string(m.host))
    w(_i.pack(m.port))
    w(b"\0")


def write_4(m: FindCoordinatorResponse, w: Callable[[bytes], None]) -> None:
    w(_i.pack(m.throttle_time_ms))
    a_1 = m.coordinators
    w(write_uvarint(len(a_1) + 1))
    for o_2 in a_1:
        w(compact_string(o_2.key))
        w(_i.pack(o_2.node_id))
        w(compact_string(o_2.host))
        w(_ih.pack(o_2.port, o_2.error_code))
        w(nullable_compact_string(o_2.error_message))
        w(b"\0")
    w(b"\0")


READ: Final = {0: read_0, 1: read_1, 2: read_1, 3: read_3, 4: read_4, 5: read_4, 6: read_4}


WRITE: Final = {0: write_0, 1: write_1, 2: write_1, 3: write_3, 4: write_4, 5: write_4, 6: write_4}
