"""Kafka's OffsetDelete, made by `make kafka` from node/kafka/schema/table.txt; changes belong there."""

from collections.abc import Callable, Sequence
from struct import Struct
from typing import Final

from node.kafka.wire import ELEMENTS_MAX, INT16, INT32, Buffer, Message, refuse_length, string, too_many

_hi = Struct(">hi")
_i = Struct(">i")
_ih = Struct(">ih")


class OffsetDeleteRequestPartition(Message):
    __slots__ = ("partition_index",)

    def __init__(
        self,
        partition_index: int = 0,
    ) -> None:
        self.partition_index = partition_index


class OffsetDeleteRequestTopic(Message):
    __slots__ = ("name", "partitions")

    def __init__(
        self,
        name: str = "",
        partitions: Sequence[OffsetDeleteRequestPartition] = (),
    ) -> None:
        self.name = name
        self.partitions = partitions


class OffsetDeleteRequest(Message):
    __slots__ = ("group_id", "topics")

    def __init__(
        self,
        group_id: str = "",
        topics: Sequence[OffsetDeleteRequestTopic] = (),
    ) -> None:
        self.group_id = group_id
        self.topics = topics


class OffsetDeleteResponsePartition(Message):
    __slots__ = ("partition_index", "error_code")

    def __init__(
        self,
        partition_index: int = 0,
        error_code: int = 0,
    ) -> None:
        self.partition_index = partition_index
        self.error_code = error_code


class OffsetDeleteResponseTopic(Message):
    __slots__ = ("name", "partitions")

    def __init__(
        self,
        name: str = "",
        partitions: Sequence[OffsetDeleteResponsePartition] = (),
    ) -> None:
        self.name = name
        self.partitions = partitions


class OffsetDeleteResponse(Message):
    __slots__ = ("error_code", "throttle_time_ms", "topics")

    def __init__(
        self,
        error_code: int = 0,
        throttle_time_ms: int = 0,
        topics: Sequence[OffsetDeleteResponseTopic] = (),
    ) -> None:
        self.error_code = error_code
        self.throttle_time_ms = throttle_time_ms
        self.topics = topics


def read_0(b: Buffer, p: int) -> tuple[OffsetDeleteRequest, int]:
    end = len(b)
    room = ELEMENTS_MAX
    (n_2,) = INT16.unpack_from(b, p)
    p += 2
    if n_2 < 0 or p + n_2 > end:
        raise refuse_length("group_id", n_2)
    group_id_1 = str(b[p : p + n_2], "utf-8")
    p += n_2
    (n_4,) = INT32.unpack_from(b, p)
    p += 4
    if n_4 < 0 or n_4 > (end - p) // 6:
        raise refuse_length("topics", n_4)
    room -= n_4
    if room < 0:
        raise too_many("topics")
    made_5: list[OffsetDeleteRequestTopic] = []
    for _ in range(n_4):
        (n_7,) = INT16.unpack_from(b, p)
        p += 2
        if n_7 < 0 or p + n_7 > end:
            raise refuse_length("name", n_7)
        name_6 = str(b[p : p + n_7], "utf-8")
        p += n_7
        (n_9,) = INT32.unpack_from(b, p)
        p += 4
        if n_9 < 0 or n_9 > (end - p) // 4:
            raise refuse_length("partitions", n_9)
        room -= n_9
        if room < 0:
            raise too_many("partitions")
        made_10: list[OffsetDeleteRequestPartition] = []
        for _ in range(n_9):
            (partition_index_11,) = _i.unpack_from(b, p)
            p += 4
            made_10.append(OffsetDeleteRequestPartition(partition_index_11))
        partitions_8 = made_10
        made_5.append(OffsetDeleteRequestTopic(name_6, partitions_8))
    topics_3 = made_5
    return OffsetDeleteRequest(group_id_1, topics_3), p


def write_0(m: OffsetDeleteResponse, w: Callable[[bytes], None]) -> None:
    w(_hi.pack(m.error_code, m.throttle_time_ms))
    a_1 = m.topics
    w(INT32.pack(len(a_1)))
    for o_2 in a_1:
        w(string(o_2.name))
        a_3 = o_2.partitions
        w(INT32.pack(len(a_3)))
        for o_4 in a_3:
            w(_ih.pack(o_4.partition_index, o_4.error_code))


READ: Final = {0: read_0}


WRITE: Final = {0: write_0}
