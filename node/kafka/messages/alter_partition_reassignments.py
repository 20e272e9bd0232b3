"""Kafka's AlterPartitionReassignments, made by `make kafka` from node/kafka/schema/table.txt; changes belong there."""

from collections.abc import Callable, Sequence
from struct import Struct, unpack_from
from typing import Final

from node.kafka.wire import ELEMENTS_MAX, Buffer, Message, compact_string, nullable_compact_string, refuse_length, skip_tags, too_many, uvarint, write_uvarint

_i = Struct(">i")
_ih = Struct(">ih")


class ReassignablePartition(Message):
    __slots__ = ("partition_index", "replicas")

    def __init__(
        self,
        partition_index: int = 0,
        replicas: Sequence[int] | None = None,
    ) -> None:
        self.partition_index = partition_index
        self.replicas = replicas


class ReassignableTopic(Message):
    __slots__ = ("name", "partitions")

    def __init__(
        self,
        name: str = "",
        partitions: Sequence[ReassignablePartition] = (),
    ) -> None:
        self.name = name
        self.partitions = partitions


class AlterPartitionReassignmentsRequest(Message):
    __slots__ = ("timeout_ms", "topics")

    def __init__(
        self,
        timeout_ms: int = 60000,
        topics: Sequence[ReassignableTopic] = (),
    ) -> None:
        self.timeout_ms = timeout_ms
        self.topics = topics


class ReassignablePartitionResponse(Message):
    __slots__ = ("partition_index", "error_code", "error_message")

    def __init__(
        self,
        partition_index: int = 0,
        error_code: int = 0,
        error_message: str | None = "",
    ) -> None:
        self.partition_index = partition_index
        self.error_code = error_code
        self.error_message = error_message


class ReassignableTopicResponse(Message):
    __slots__ = ("name", "partitions")

    def __init__(
        self,
        name: str = "",
        partitions: Sequence[ReassignablePartitionResponse] = (),
    ) -> None:
        self.name = name
        self.partitions = partitions


class AlterPartitionReassignmentsResponse(Message):
    __slots__ = ("throttle_time_ms", "error_code", "error_message", "responses")

    def __init__(
        self,
        throttle_time_ms: int = 0,
        error_code: int = 0,
        error_message: str | None = "",
        responses: Sequence[ReassignableTopicResponse] = (),
    ) -> None:
        self.throttle_time_ms = throttle_time_ms
        self.error_code = error_code
        self.error_message = error_message
        self.responses = responses


def read_0(b: Buffer, p: int) -> tuple[AlterPartitionReassignmentsRequest, int]:
    end = len(b)
    room = ELEMENTS_MAX
    (timeout_ms_1,) = _i.unpack_from(b, p)
    p += 4
    n_3 = b[p] - 1
    p += 1
    if n_3 > 126:
        n_3, p = uvarint(b, p - 1)
        n_3 -= 1
    if n_3 < 0 or n_3 > (end - p) // 3:
        raise refuse_length("topics", n_3)
    room -= n_3
    if room < 0:
        raise too_many("topics")
    made_4: list[ReassignableTopic] = []
    for _ in range(n_3):
        n_6 = b[p] - 1
        p += 1
        if n_6 > 126:
            n_6, p = uvarint(b, p - 1)
            n_6 -= 1
        if n_6 < 0 or p + n_6 > end:
            raise refuse_length("name", n_6)
        name_5 = str(b[p : p + n_6], "utf-8")
        p += n_6
        n_8 = b[p] - 1
        p += 1
        if n_8 > 126:
            n_8, p = uvarint(b, p - 1)
            n_8 -= 1
        if n_8 < 0 or n_8 > (end - p) // 6:
            raise refuse_length("partitions", n_8)
        room -= n_8
        if room < 0:
            raise too_many("partitions")
        made_9: list[ReassignablePartition] = []
        for _ in range(n_8):
            (partition_index_10,) = _i.unpack_from(b, p)
            p += 4
            n_12 = b[p] - 1
            p += 1
            if n_12 > 126:
                n_12, p = uvarint(b, p - 1)
                n_12 -= 1
            replicas_11: Sequence[int] | None = None
            if n_12 != -1:
                if n_12 < 0 or n_12 > (end - p) // 4:
                    raise refuse_length("replicas", n_12)
                room -= n_12
                if room < 0:
                    raise too_many("replicas")
                replicas_11 = unpack_from(f">{n_12}i", b, p)
                p += n_12 * 4
            p = skip_tags(b, p) if b[p] else p + 1
            made_9.append(ReassignablePartition(partition_index_10, replicas_11))
        partitions_7 = made_9
        p = skip_tags(b, p) if b[p] else p + 1
        made_4.append(ReassignableTopic(name_5, partitions_7))
    topics_2 = made_4
    p = skip_tags(b, p) if b[p] else p + 1
    return AlterPartitionReassignmentsRequest(timeout_ms_1, topics_2), p


def write_0(m: AlterPartitionReassignmentsResponse, w: Callable[[bytes], None]) -> None:
    w(_ih.pack(m.throttle_time_ms, m.error_code))
    w(nullable_compact_string(m.error_message))
    a_1 = m.responses
    w(write_uvarint(len(a_1) + 1))
    for o_2 in a_1:
        w(compact_string(o_2.name))
        a_3 = o_2.partitions
        w(write_uvarint(len(a_3) + 1))
        for o_4 in a_3:
            w(_ih.pack(o_4.partition_index, o_4.error_code))
            w(nullable_compact_string(o_4.error_message))
            w(b"\0")
        w(b"\0")
    w(b"\0")


READ: Final = {0: read_0}


WRITE: Final = {0: write_0}
