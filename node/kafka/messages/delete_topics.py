"""Kafka's DeleteTopics, made by `make kafka` from node/kafka/schema/table.txt; changes belong there."""

from collections.abc import Callable, Sequence
from struct import Struct
from typing import Final

from node.kafka.wire import ELEMENTS_MAX, INT16, INT32, NO_ID, Buffer, Message, compact_string, nullable_compact_string, refuse_length, skip_tags, string, too_many, uvarint, write_uvarint

_U = Struct(">16s")
_Uh = Struct(">16sh")
_h = Struct(">h")
_i = Struct(">i")


class DeleteTopicState(Message):
    __slots__ = ("name", "topic_id")

    def __init__(
        self,
        name: str | None = None,
        topic_id: bytes = NO_ID,
    ) -> None:
        self.name = name
        self.topic_id = topic_id


class DeleteTopicsRequest(Message):
    __slots__ = ("topics", "topic_names", "timeout_ms")

    def __init__(
        self,
        topics: Sequence[DeleteTopicState] = (),
        topic_names: Sequence[str] = (),
        timeout_ms: int = 0,
    ) -> None:
        self.topics = topics
        self.topic_names = topic_names
        self.timeout_ms = timeout_ms


class DeletableTopicResult(Message):
    __slots__ = ("name", "topic_id", "error_code", "error_message")

    def __init__(
        self,
        name: str | None = "",
        topic_id: bytes = NO_ID,
        error_code: int = 0,
        error_message: str | None = None,
    ) -> None:
        self.name = name
        self.topic_id = topic_id
        self.error_code = error_code
        self.error_message = error_message


class DeleteTopicsResponse(Message):
    __slots__ = ("throttle_time_ms", "responses")

    def __init__(
        self,
        throttle_time_ms: int = 0,
        responses: Sequence[DeletableTopicResult] = (),
    ) -> None:
        self.throttle_time_ms = throttle_time_ms
        self.responses = responses


def read_0(b: Buffer, p: int) -> tuple[DeleteTopicsRequest, int]:
    end = len(b)
    room = ELEMENTS_MAX
    (n_2,) = INT32.unpack_from(b, p)
    p += 4
    if n_2 < 0 or n_2 > (end - p) // 2:
        raise refuse_length("topic_names", n_2)
    room -= n_2
    if room < 0:
        raise too_many("topic_names")
    made_3: list[str] = []
    for _ in range(n_2):
        (n_5,) = INT16.unpack_from(b, p)
        p += 2
        if n_5 < 0 or p + n_5 > end:
            raise refuse_length("topic_names", n_5)
        each_4 = str(b[p : p + n_5], "utf-8")
        p += n_5
        made_3.append(each_4)
    topic_names_1 = made_3
    (timeout_ms_6,) = _i.unpack_from(b, p)
    p += 4
    return DeleteTopicsRequest((), topic_names_1, timeout_ms_6), p


def read_4(b: Buffer, p: int) -> tuple[DeleteTopicsRequest, int]:
    end = len(b)
    room = ELEMENTS_MAX
    n_2 = b[p] - 1
    p += 1
    if n_2 > 126:
        n_2, p = uvarint(b, p - 1)
        n_2 -= 1
    if n_2 < 0 or n_2 > end - p:
        raise refuse_length("topic_names", n_2)
    room -= n_2
    if room < 0:
        raise too_many("topic_names")
    made_3: list[str] = []
    for _ in range(n_2):
        n_5 = b[p] - 1
        p += 1
        if n_5 > 126:
            n_5, p = uvarint(b, p - 1)
            n_5 -= 1
        if n_5 < 0 or p + n_5 > end:
            raise refuse_length("topic_names", n_5)
        each_4 = str(b[p : p + n_5], "utf-8")
        p += n_5
        made_3.append(each_4)
    topic_names_1 = made_3
    (timeout_ms_6,) = _i.unpack_from(b, p)
    p += 4
    p = skip_tags(b, p) if b[p] else p + 1
    return DeleteTopicsRequest((), topic_names_1, timeout_ms_6), p


def read_6(b: Buffer, p: int) -> tuple[DeleteTopicsRequest, int]:
    end = len(b)
    room = ELEMENTS_MAX
    n_2 = b[p] - 1
    p += 1
    if n_2 > 126:
        n_2, p = uvarint(b, p - 1)
        n_2 -= 1
    if n_2 < 0 or n_2 > (end - p) // 18:
        raise refuse_length("topics", n_2)
    room -= n_2
    if room < 0:
        raise too_many("topics")
    made_3: list[DeleteTopicState] = []
    for _ in range(n_2):
        n_5 = b[p] - 1
        p += 1
        if n_5 > 126:
            n_5, p = uvarint(b, p - 1)
            n_5 -= 1
        name_4: str | None = None
        if n_5 != -1:
            if n_5 < 0 or p + n_5 > end:
                raise refuse_length("name", n_5)
            name_4 = str(b[p : p + n_5], "utf-8")
            p += n_5
        (topic_id_6,) = _U.unpack_from(b, p)
        p += 16
        p = skip_tags(b, p) if b[p] else p + 1
        made_3.append(DeleteTopicState(name_4, topic_id_6))
    topics_1 = made_3
    (timeout_ms_7,) = _i.unpack_from(b, p)
    p += 4
    p = skip_tags(b, p) if b[p] else p + 1
    return DeleteTopicsRequest(topics_1, (), timeout_ms_7), p


def write_0(m: DeleteTopicsResponse, w: Callable[[bytes], None]) -> None:
    a_1 = m.responses
    w(INT32.pack(len(a_1)))
    for o_2 in a_1:
        w(string(o_2.name or ""))
        w(_h.pack(o_2.error_code))


def write_1(m: DeleteTopicsResponse, w: Callable[[bytes], None]) -> None:
    w(_i.pack(m.throttle_time_ms))
    a_1 = m.responses
    w(INT32.pack(len(a_1)))
    for o_2 in a_1:
        w(string(o_2.name or ""))
        w(_h.pack(o_2.error_code))


def write_4(m: DeleteTopicsResponse, w: Callable[[bytes], None]) -> None:
    w(_i.pack(m.throttle_time_ms))
    a_1 = m.responses
    w(write_uvarint(len(a_1) + 1))
    for o_2 in a_1:
        w(compact_string(o_2.name or ""))
        w(_h.pack(o_2.error_code))
        w(b"\0")
    w(b"\0")


def write_5(m: DeleteTopicsResponse, w: Callable[[bytes], None]) -> None:
    w(_i.pack(m.throttle_time_ms))
    a_1 = m.responses
    w(write_uvarint(len(a_1) + 1))
    for o_2 in a_1:
        w(compact_string(o_2.name or ""))
        w(_h.pack(o_2.error_code))
        w(nullable_compact_string(o_2.error_message))
        w(b"\0")
    w(b"\0")


def write_6(m: DeleteTopicsResponse, w: Callable[[bytes], None]) -> None:
    w(_i.pack(m.throttle_time_ms))
    a_1 = m.responses
    w(write_uvarint(len(a_1) + 1))
    for o_2 in a_1:
        w(nullable_compact_string(o_2.name))
        w(_Uh.pack(o_2.topic_id, o_2.error_code))
        w(nullable_compact_string(o_2.error_message))
        w(b"\0")
    w(b"\0")


READ: Final = {0: read_0, 1: read_0, 2: read_0, 3: read_0, 4: read_4, 5: read_4, 6: read_6}


WRITE: Final = {0: write_0, 1: write_1, 2: write_1, 3: write_1, 4: write_4, 5: write_5, 6: write_6}
