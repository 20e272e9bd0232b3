"""Kafka's DescribeLogDirs, made by `make kafka` from node/kafka/schema/table.txt; changes belong there."""

from collections.abc import Callable, Sequence
from struct import Struct, unpack_from
from typing import Final

from node.kafka.wire import ELEMENTS_MAX, INT16, INT32, Buffer, Message, compact_string, refuse_length, skip_tags, string, too_many, uvarint, write_uvarint

_h = Struct(">h")
_i = Struct(">i")
_ih = Struct(">ih")
_iqqB = Struct(">iqq?")
_qq = Struct(">qq")


class DescribableLogDirTopic(Message):
    __slots__ = ("topic", "partitions")

    def __init__(
        self,
        topic: str = "",
        partitions: Sequence[int] = (),
    ) -> None:
        self.topic = topic
        self.partitions = partitions


class DescribeLogDirsRequest(Message):
    __slots__ = ("topics",)

    def __init__(
        self,
        topics: Sequence[DescribableLogDirTopic] | None = (),
    ) -> None:
        self.topics = topics


class DescribeLogDirsPartition(Message):
    __slots__ = ("partition_index", "partition_size", "offset_lag", "is_future_key")

    def __init__(
        self,
        partition_index: int = 0,
        partition_size: int = 0,
        offset_lag: int = 0,
        is_future_key: bool = False,
    ) -> None:
        self.partition_index = partition_index
        self.partition_size = partition_size
        self.offset_lag = offset_lag
        self.is_future_key = is_future_key


class DescribeLogDirsTopic(Message):
    __slots__ = ("name", "partitions")

    def __init__(
        self,
        name: str = "",
        partitions: Sequence[DescribeLogDirsPartition] = (),
    ) -> None:
        self.name = name
        self.partitions = partitions


class DescribeLogDirsResult(Message):
    __slots__ = ("error_code", "log_dir", "topics", "total_bytes", "usable_bytes")

    def __init__(
        self,
        error_code: int = 0,
        log_dir: str = "",
        topics: Sequence[DescribeLogDirsTopic] = (),
        total_bytes: int = -1,
        usable_bytes: int = -1,
    ) -> None:
        self.error_code = error_code
        self.log_dir = log_dir
        self.topics = topics
        self.total_bytes = total_bytes
        self.usable_bytes = usable_bytes


class DescribeLogDirsResponse(Message):
    __slots__ = ("throttle_time_ms", "error_code", "results")

    def __init__(
        self,
        throttle_time_ms: int = 0,
        error_code: int = 0,
        results: Sequence[DescribeLogDirsResult] = (),
    ) -> None:
        self.throttle_time_ms = throttle_time_ms
        self.error_code = error_code
        self.results = results


def read_0(b: Buffer, p: int) -> tuple[DescribeLogDirsRequest, int]:
    end = len(b)
    room = ELEMENTS_MAX
    (n_2,) = INT32.unpack_from(b, p)
    p += 4
    topics_1: Sequence[DescribableLogDirTopic] | None = None
    if n_2 != -1:
        if n_2 < 0 or n_2 > (end - p) // 6:
            raise refuse_length("topics", n_2)
        room -= n_2
        if room < 0:
            raise too_many("topics")
        made_3: list[DescribableLogDirTopic] = []
        for _ in range(n_2):
            (n_5,) = INT16.unpack_from(b, p)
            p += 2
            if n_5 < 0 or p + n_5 > end:
                raise refuse_length("topic", n_5)
            topic_4 = str(b[p : p + n_5], "utf-8")
            p += n_5
            (n_7,) = INT32.unpack_from(b, p)
            p += 4
            if n_7 < 0 or n_7 > (end - p) // 4:
                raise refuse_length("partitions", n_7)
            room -= n_7
            if room < 0:
                raise too_many("partitions")
            partitions_6 = unpack_from(f">{n_7}i", b, p)
            p += n_7 * 4
            made_3.append(DescribableLogDirTopic(topic_4, partitions_6))
        topics_1 = made_3
    return DescribeLogDirsRequest(topics_1), p


def read_2(b: Buffer, p: int) -> tuple[DescribeLogDirsRequest, int]:
    end = len(b)
    room = ELEMENTS_MAX
    n_2 = b[p] - 1
    p += 1
    if n_2 > 126:
        n_2, p = uvarint(b, p - 1)
        n_2 -= 1
    topics_1: Sequence[DescribableLogDirTopic] | None = None
    if n_2 != -1:
        if n_2 < 0 or n_2 > (end - p) // 3:
            raise refuse_length("topics", n_2)
        room -= n_2
        if room < 0:
            raise too_many("topics")
        made_3: list[DescribableLogDirTopic] = []
        for _ in range(n_2):
            n_5 = b[p] - 1
            p += 1
            if n_5 > 126:
                n_5, p = uvarint(b, p - 1)
                n_5 -= 1
            if n_5 < 0 or p + n_5 > end:
                raise refuse_length("topic", n_5)
            topic_4 = str(b[p : p + n_5], "utf-8")
            p += n_5
            n_7 = b[p] - 1
            p += 1
            if n_7 > 126:
                n_7, p = uvarint(b, p - 1)
                n_7 -= 1
            if n_7 < 0 or n_7 > (end - p) // 4:
                raise refuse_length("partitions", n_7)
            room -= n_7
            if room < 0:
                raise too_many("partitions")
            partitions_6 = unpack_from(f">{n_7}i", b, p)
            p += n_7 * 4
            p = skip_tags(b, p) if b[p] else p + 1
            made_3.append(DescribableLogDirTopic(topic_4, partitions_6))
        topics_1 = made_3
    p = skip_tags(b, p) if b[p] else p + 1
    return DescribeLogDirsRequest(topics_1), p


def write_0(m: DescribeLogDirsResponse, w: Callable[[bytes], None]) -> None:
    w(_i.pack(m.throttle_time_ms))
    a_1 = m.results
    w(INT32.pack(len(a_1)))
    for o_2 in a_1:
        w(_h.pack(o_2.error_code))
        w(string(o_2.log_dir))
        a_3 = o_2.topics
        w(INT32.pack(len(a_3)))
        for o_4 in a_3:
            w(string(o_4.name))
            a_5 = o_4.partitions
            w(INT32.pack(len(a_5)))
            for o_6 in a_5:
                w(_iqqB.pack(o_6.partition_index, o_6.partition_size, o_6.offset_lag, o_6.is_future_key))


def write_2(m: DescribeLogDirsResponse, w: Callable[[bytes], None]) -> None:
    w(_i.pack(m.throttle_time_ms))
    a_1 = m.results
    w(write_uvarint(len(a_1) + 1))
    for o_2 in a_1:
        w(_h.pack(o_2.error_code))
        w(compact_string(o_2.log_dir))
        a_3 = o_2.topics
        w(write_uvarint(len(a_3) + 1))
        for o_4 in a_3:
            w(compact_string(o_4.name))
            a_5 = o_4.partitions
            w(write_uvarint(len(a_5) + 1))
            for o_6 in a_5:
                w(_iqqB.pack(o_6.partition_index, o_6.partition_size, o_6.offset_lag, o_6.is_future_key))
                w(b"\0")
            w(b"\0")
        w(b"\0")
    w(b"\0")


def write_3(m: DescribeLogDirsResponse, w: Callable[[bytes], None]) -> None:
    w(_ih.pack(m.throttle_time_ms, m.error_code))
    a_1 = m.results
    w(write_uvarint(len(a_1) + 1))
    for o_2 in a_1:
        w(_h.pack(o_2.error_code))
        w(compact_string(o_2.log_dir))
        a_3 = o_2.topics
        w(write_uvarint(len(a_3) + 1))
        for o_4 in a_3:
            w(compact_string(o_4.name))
            a_5 = o_4.partitions
            w(write_uvarint(len(a_5) + 1))
            for o_6 in a_5:
                w(_iqqB.pack(o_6.partition_index, o_6.partition_size, o_6.offset_lag, o_6.is_future_key))
                w(b"\0")
            w(b"\0")
        w(b"\0")
    w(b"\0")


def write_4(m: DescribeLogDirsResponse, w: Callable[[bytes], None]) -> None:
    w(_ih.pack(m.throttle_time_ms, m.error_code))
    a_1 = m.results
    w(write_uvarint(len(a_1) + 1))
    for o_2 in a_1:
        w(_h.pack(o_2.error_code))
        w(compact_string(o_2.log_dir))
        a_3 = o_2.topics
        w(write_uvarint(len(a_3) + 1))
        for o_4 in a_3:
            w(compact_string(o_4.name))
            a_5 = o_4.partitions
            w(write_uvarint(len(a_5) + 1))
            for o_6 in a_5:
                w(_iqqB.pack(o_6.partition_index, o_6.partition_size, o_6.offset_lag, o_6.is_future_key))
                w(b"\0")
            w(b"\0")
        w(_qq.pack(o_2.total_bytes, o_2.usable_bytes))
        w(b"\0")
    w(b"\0")


READ: Final = {0: read_0, 1: read_0, 2: read_2, 3: read_2, 4: read_2}


WRITE: Final = {0: write_0, 1: write_0, 2: write_2, 3: write_3, 4: write_4}
