"""Kafka's CreatePartitions, made by `make kafka` from node/kafka/schema/table.txt; changes belong there."""

from collections.abc import Callable, Sequence
from struct import Struct, unpack_from
from typing import Final

from node.kafka.wire import ELEMENTS_MAX, INT16, INT32, Buffer, Message, compact_string, nullable_compact_string, nullable_string, refuse_length, skip_tags, string, too_many, uvarint, write_uvarint

_h = Struct(">h")
_i = Struct(">i")
_iB = Struct(">i?")


class CreatePartitionsAssignment(Message):
    __slots__ = ("broker_ids",)

    def __init__(
        self,
        broker_ids: Sequence[int] = (),
    ) -> None:
        self.broker_ids = broker_ids


class CreatePartitionsTopic(Message):
    __slots__ = ("name", "count", "assignments")

    def __init__(
        self,
        name: str = "",
        count: int = 0,
        assignments: Sequence[CreatePartitionsAssignment] | None = (),
    ) -> None:
        self.name = name
        self.count = count
        self.assignments = assignments


class CreatePartitionsRequest(Message):
    __slots__ = ("topics", "timeout_ms", "validate_only")

    def __init__(
        self,
        topics: Sequence[CreatePartitionsTopic] = (),
        timeout_ms: int = 0,
        validate_only: bool = False,
    ) -> None:
        self.topics = topics
        self.timeout_ms = timeout_ms
        self.validate_only = validate_only


class CreatePartitionsTopicResult(Message):
    __slots__ = ("name", "error_code", "error_message")

    def __init__(
        self,
        name: str = "",
        error_code: int = 0,
        error_message: str | None = None,
    ) -> None:
        self.name = name
        self.error_code = error_code
        self.error_message = error_message


class CreatePartitionsResponse(Message):
    __slots__ = ("throttle_time_ms", "results")

    def __init__(
        self,
        throttle_time_ms: int = 0,
        results: Sequence[CreatePartitionsTopicResult] = (),
    ) -> None:
        self.throttle_time_ms = throttle_time_ms
        self.results = results


def read_0(b: Buffer, p: int) -> tuple[CreatePartitionsRequest, int]:
    end = len(b)
    room = ELEMENTS_MAX
    (n_2,) = INT32.unpack_from(b, p)
    p += 4
    if n_2 < 0 or n_2 > (end - p) // 10:
        raise refuse_length("topics", n_2)
    room -= n_2
    if room < 0:
        raise too_many("topics")
    made_3: list[CreatePartitionsTopic] = []
    for _ in range(n_2):
        (n_5,) = INT16.unpack_from(b, p)
        p += 2
        if n_5 < 0 or p + n_5 > end:
            raise refuse_length("name", n_5)
        name_4 = str(b[p : p + n_5], "utf-8")
        p += n_5
        (count_6,) = _i.unpack_from(b, p)
        p += 4
        (n_8,) = INT32.unpack_from(b, p)
        p += 4
        assignments_7: Sequence[CreatePartitionsAssignment] | None = None
        if n_8 != -1:
            if n_8 < 0 or n_8 > (end - p) // 4:
                raise refuse_length("assignments", n_8)
            room -= n_8
            if room < 0:
                raise too_many("assignments")
            made_9: list[CreatePartitionsAssignment] = []
            for _ in range(n_8):
                (n_11,) = INT32.unpack_from(b, p)
                p += 4
                if n_11 < 0 or n_11 > (end - p) // 4:
                    raise refuse_length("broker_ids", n_11)
                room -= n_11
                if room < 0:
                    raise too_many("broker_ids")
                broker_ids_10 = unpack_from(f">{n_11}i", b, p)
                p += n_11 * 4
                made_9.append(CreatePartitionsAssignment(broker_ids_10))
            assignments_7 = made_9
        made_3.append(CreatePartitionsTopic(name_4, count_6, assignments_7))
    topics_1 = made_3
    timeout_ms_12, validate_only_13 = _iB.unpack_from(b, p)
    p += 5
    return CreatePartitionsRequest(topics_1, timeout_ms_12, validate_only_13), p


def read_2(b: Buffer, p: int) -> tuple[CreatePartitionsRequest, int]:
    end = len(b)
    room = ELEMENTS_MAX
    n_2 = b[p] - 1
    p += 1
    if n_2 > 126:
        n_2, p = uvarint(b, p - 1)
        n_2 -= 1
    if n_2 < 0 or n_2 > (end - p) // 7:
        raise refuse_length("topics", n_2)
    room -= n_2
    if room < 0:
        raise too_many("topics")
    made_3: list[CreatePartitionsTopic] = []
    for _ in range(n_2):
        n_5 = b[p] - 1
        p += 1
        if n_5 > 126:
            n_5, p = uvarint(b, p - 1)
            n_5 -= 1
        if n_5 < 0 or p + n_5 > end:
            raise refuse_length("name", n_5)
        name_4 = str(b[p : p + n_5], "utf-8")
        p += n_5
        (count_6,) = _i.unpack_from(b, p)
        p += 4
        n_8 = b[p] - 1
        p += 1
        if n_8 > 126:
            n_8, p = uvarint(b, p - 1)
            n_8 -= 1
        assignments_7: Sequence[CreatePartitionsAssignment] | None = None
        if n_8 != -1:
            if n_8 < 0 or n_8 > (end - p) // 2:
                raise refuse_length("assignments", n_8)
            room -= n_8
            if room < 0:
                raise too_many("assignments")
            made_9: list[CreatePartitionsAssignment] = []
            for _ in range(n_8):
                n_11 = b[p] - 1
                p += 1
                if n_11 > 126:
                    n_11, p = uvarint(b, p - 1)
                    n_11 -= 1
                if n_11 < 0 or n_11 > (end - p) // 4:
                    raise refuse_length("broker_ids", n_11)
                room -= n_11
                if room < 0:
                    raise too_many("broker_ids")
                broker_ids_10 = unpack_from(f">{n_11}i", b, p)
                p += n_11 * 4
                p = skip_tags(b, p) if b[p] else p + 1
                made_9.append(CreatePartitionsAssignment(broker_ids_10))
            assignments_7 = made_9
        p = skip_tags(b, p) if b[p] else p + 1
        made_3.append(CreatePartitionsTopic(name_4, count_6, assignments_7))
    topics_1 = made_3
    timeout_ms_12, validate_only_13 = _iB.unpack_from(b, p)
    p += 5
    p = skip_tags(b, p) if b[p] else p + 1
    return CreatePartitionsRequest(topics_1, timeout_ms_12, validate_only_13), p


def write_0(m: CreatePartitionsResponse, w: Callable[[bytes], None]) -> None:
    w(_i.pack(m.throttle_time_ms))
    a_1 = m.results
    w(INT32.pack(len(a_1)))
    for o_2 in a_1:
        w(string(o_2.name))
        w(_h.pack(o_2.error_code))
        w(nullable_string(o_2.error_message))


def write_2(m: CreatePartitionsResponse, w: Callable[[bytes], None]) -> None:
    w(_i.pack(m.throttle_time_ms))
    a_1 = m.results
    w(write_uvarint(len(a_1) + 1))
    for o_2 in a_1:
        w(compact_string(o_2.name))
        w(_h.pack(o_2.error_code))
        w(nullable_compact_string(o_2.error_message))
        w(b"\0")
    w(b"\0")


READ: Final = {0: read_0, 1: read_0, 2: read_2, 3: read_2}


WRITE: Final = {0: write_0, 1: write_0, 2: write_2, 3: write_2}
