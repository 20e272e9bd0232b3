"""Kafka's ListPartitionReassignments, made by `make kafka` from node/kafka/schema/table.txt; changes belong there."""

from collections.abc import Callable, Sequence
from struct import Struct, pack, unpack_from
from typing import Final

from node.kafka.wire import ELEMENTS_MAX, Buffer, Message, compact_string, nullable_compact_string, refuse_length, skip_tags, too_many, uvarint, write_uvarint

_i = Struct(">i")
_ih = Struct(">ih")


class ListPartitionReassignmentsTopics(Message):
    __slots__ = ("name", "partition_indexes")

    def __init__(
        self,
        name: str = "",
        partition_indexes: Sequence[int] = (),
    ) -> None:
        self.name = name
        self.partition_indexes = partition_indexes


class ListPartitionReassignmentsRequest(Message):
    __slots__ = ("timeout_ms", "topics")

    def __init__(
        self,
        timeout_ms: int = 60000,
        topics: Sequence[ListPartitionReassignmentsTopics] | None = None,
    ) -> None:
        self.timeout_ms = timeout_ms
        self.topics = topics


class OngoingPartitionReassignment(Message):
    __slots__ = ("partition_index", "replicas", "adding_replicas", "removing_replicas")

    def __init__(
        self,
        partition_index: int = 0,
        replicas: Sequence[int] = (),
        adding_replicas: Sequence[int] = (),
        removing_replicas: Sequence[int] = (),
    ) -> None:
        self.partition_index = partition_index
        self.replicas = replicas
        self.adding_replicas = adding_replicas
        self.removing_replicas = removing_replicas


class OngoingTopicReassignment(Message):
    __slots__ = ("name", "partitions")

    def __init__(
        self,
        name: str = "",
        partitions: Sequence[OngoingPartitionReassignment] = (),
    ) -> None:
        self.name = name
        self.partitions = partitions


class ListPartitionReassignmentsResponse(Message):
    __slots__ = ("throttle_time_ms", "error_code", "error_message", "topics")

    def __init__(
        self,
        throttle_time_ms: int = 0,
        error_code: int = 0,
        error_message: str | None = "",
        topics: Sequence[OngoingTopicReassignment] = (),
    ) -> None:
        self.throttle_time_ms = throttle_time_ms
        self.error_code = error_code
        self.error_message = error_message
        self.topics = topics


def read_0(b: Buffer, p: int) -> tuple[ListPartitionReassignmentsRequest, int]:
    end = len(b)
    room = ELEMENTS_MAX
    (timeout_ms_1,) = _i.unpack_from(b, p)
    p += 4
    n_3 = b[p] - 1
    p += 1
    if n_3 > 126:
        n_3, p = uvarint(b, p - 1)
        n_3 -= 1
    topics_2: Sequence[ListPartitionReassignmentsTopics] | None = None
    if n_3 != -1:
        if n_3 < 0 or n_3 > (end - p) // 3:
            raise refuse_length("topics", n_3)
        room -= n_3
        if room < 0:
            raise too_many("topics")
        made_4: list[ListPartitionReassignmentsTopics] = []
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
            if n_8 < 0 or n_8 > (end - p) // 4:
                raise refuse_length("partition_indexes", n_8)
            room -= n_8
            if room < 0:
                raise too_many("partition_indexes")
            partition_indexes_7 = unpack_from(f">{n_8}i", b, p)
            p += n_8 * 4
            p = skip_tags(b, p) if b[p] else p + 1
            made_4.append(ListPartitionReassignmentsTopics(name_5, partition_indexes_7))
        topics_2 = made_4
    p = skip_tags(b, p) if b[p] else p + 1
    return ListPartitionReassignmentsRequest(timeout_ms_1, topics_2), p


def write_0(m: ListPartitionReassignmentsResponse, w: Callable[[bytes], None]) -> None:
    w(_ih.pack(m.throttle_time_ms, m.error_code))
    w(nullable_compact_string(m.error_message))
    a_1 = m.topics
    w(write_uvarint(len(a_1) + 1))
    for o_2 in a_1:
        w(compact_string(o_2.name))
        a_3 = o_2.partitions
        w(write_uvarint(len(a_3) + 1))
        for o_4 in a_3:
            w(_i.pack(o_4.partition_index))
            a_5 = o_4.replicas
            w(write_uvarint(len(a_5) + 1))
            w(pack(f">{len(a_5)}i", *a_5))
            a_6 = o_4.adding_replicas
            w(write_uvarint(len(a_6) + 1))
            w(pack(f">{len(a_6)}i", *a_6))
            a_7 = o_4.removing_replicas
            w(write_uvarint(len(a_7) + 1))
            w(pack(f">{len(a_7)}i", *a_7))
            w(b"\0")
        w(b"\0")
    w(b"\0")


READ: Final = {0: read_0}


WRITE: Final = {0: write_0}
