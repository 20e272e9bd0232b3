"""Kafka's DeleteRecords, made by `make kafka` from node/kafka/schema/table.txt; changes belong there."""

from collections.abc import Callable, Sequence
from struct import Struct
from typing import Final

from node.kafka.wire import ELEMENTS_MAX, INT16, INT32, Buffer, Message, compact_string, refuse_length, skip_tags, string, too_many, uvarint, write_uvarint

_i = Struct(">i")
_iq = Struct(">iq")
_iqh = Struct(">iqh")


class DeleteRecordsPartition(Message):
    __slots__ = ("partition_index", "offset")

    def __init__(
        self,
        partition_index: int = 0,
        offset: int = 0,
    ) -> None:
        self.partition_index = partition_index
        self.offset = offset


class DeleteRecordsTopic(Message):
    __slots__ = ("name", "partitions")

    def __init__(
        self,
        name: str = "",
        partitions: Sequence[DeleteRecordsPartition] = (),
    ) -> None:
        self.name = name
        self.partitions = partitions


class DeleteRecordsRequest(Message):
    __slots__ = ("topics", "timeout_ms")

    def __init__(
        self,
        topics: Sequence[DeleteRecordsTopic] = (),
        timeout_ms: int = 0,
    ) -> None:
        self.topics = topics
        self.timeout_ms = timeout_ms


class DeleteRecordsPartitionResult(Message):
    __slots__ = ("partition_index", "low_watermark", "error_code")

    def __init__(
        self,
        partition_index: int = 0,
        low_watermark: int = 0,
        error_code: int = 0,
    ) -> None:
        self.partition_index = partition_index
        self.low_watermark = low_watermark
        self.error_code = error_code


class DeleteRecordsTopicResult(Message):
    __slots__ = ("name", "partitions")

    def __init__(
        self,
        name: str = "",
        partitions: Sequence[DeleteRecordsPartitionResult] = (),
    ) -> None:
        self.name = name
        self.partitions = partitions


class DeleteRecordsResponse(Message):
    __slots__ = ("throttle_time_ms", "topics")

    def __init__(
        self,
        throttle_time_ms: int = 0,
        topics: Sequence[DeleteRecordsTopicResult] = (),
    ) -> None:
        self.throttle_time_ms = throttle_time_ms
        self.topics = topics


def read_0(b: Buffer, p: int) -> tuple[DeleteRecordsRequest, int]:
    end = len(b)
    room = ELEMENTS_MAX
    (n_2,) = INT32.unpack_from(b, p)
    p += 4
    if n_2 < 0 or n_2 > (end - p) // 6:
        raise refuse_length("topics", n_2)
    room -= n_2
    if room < 0:
        raise too_many("topics")
    made_3: list[DeleteRecordsTopic] = []
    for _ in range(n_2):
        (n_5,) = INT16.unpack_from(b, p)
        p += 2
        if n_5 < 0 or p + n_5 > end:
            raise refuse_length("name", n_5)
        name_4 = str(b[p : p + n_5], "utf-8")
        p += n_5
        (n_7,) = INT32.unpack_from(b, p)
        p += 4
        if n_7 < 0 or n_7 > (end - p) // 12:
            raise refuse_length("partitions", n_7)
        room -= n_7
        if room < 0:
            raise too_many("partitions")
        made_8: list[DeleteRecordsPartition] = []
        for _ in range(n_7):
            partition_index_9, offset_10 = _iq.unpack_from(b, p)
            p += 12
            made_8.append(DeleteRecordsPartition(partition_index_9, offset_10))
        partitions_6 = made_8
        made_3.append(DeleteRecordsTopic(name_4, partitions_6))
    topics_1 = made_3
    (timeout_ms_11,) = _i.unpack_from(b, p)
    p += 4
    return DeleteRecordsRequest(topics_1, timeout_ms_11), p


def read_2(b: Buffer, p: int) -> tuple[DeleteRecordsRequest, int]:
    end = len(b)
    room = ELEMENTS_MAX
    n_2 = b[p] - 1
    p += 1
    if n_2 > 126:
        n_2, p = uvarint(b, p - 1)
        n_2 -= 1
    if n_2 < 0 or n_2 > (end - p) // 3:
        raise refuse_length("topics", n_2)
    room -= n_2
    if room < 0:
        raise too_many("topics")
    made_3: list[DeleteRecordsTopic] = []
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
        n_7 = b[p] - 1
        p += 1
        if n_7 > 126:
            n_7, p = uvarint(b, p - 1)
            n_7 -= 1
        if n_7 < 0 or n_7 > (end - p) // 13:
            raise refuse_length("partitions", n_7)
        room -= n_7
        if room < 0:
            raise too_many("partitions")
        made_8: list[DeleteRecordsPartition] = []
        for _ in range(n_7):
            partition_index_9, offset_10 = _iq.unpack_from(b, p)
            p += 12
            p = skip_tags(b, p) if b[p] else p + 1
            made_8.append(DeleteRecordsPartition(partition_index_9, offset_10))
        partitions_6 = made_8
        p = skip_tags(b, p) if b[p] else p + 1
        made_3.append(DeleteRecordsTopic(name_4, partitions_6))
    topics_1 = made_3
    (timeout_ms_11,) = _i.unpack_from(b, p)
    p += 4
    p = skip_tags(b, p) if b[p] else p + 1
    return DeleteRecordsRequest(topics_1, timeout_ms_11), p


def write_0(m: DeleteRecordsResponse, w: Callable[[bytes], None]) -> None:
    w(_i.pack(m.throttle_time_ms))
    a_1 = m.topics
    w(INT32.pack(len(a_1)))
    for o_2 in a_1:
        w(string(o_2.name))
        a_3 = o_2.partitions
        w(INT32.pack(len(a_3)))
        for o_4 in a_3:
            w(_iqh.pack(o_4.partition_index, o_4.low_watermark, o_4.error_code))


def write_2(m: DeleteRecordsResponse, w: Callable[[bytes], None]) -> None:
    w(_i.pack(m.throttle_time_ms))
    a_1 = m.topics
    w(write_uvarint(len(a_1) + 1))
    for o_2 in a_1:
        w(compact_string(o_2.name))
        a_3 = o_2.partitions
        w(write_uvarint(len(a_3) + 1))
        for o_4 in a_3:
            w(_iqh.pack(o_4.partition_index, o_4.low_watermark, o_4.error_code))
            w(b"\0")
        w(b"\0")
    w(b"\0")


READ: Final = {0: read_0, 1: read_0, 2: read_2}


WRITE: Final = {0: write_0, 1: write_0, 2: write_2}
