"""Kafka's ListOffsets, made by `make kafka` from node/kafka/schema/table.txt; changes belong there."""

from collections.abc import Callable, Sequence
from struct import Struct
from typing import Final

from node.kafka.wire import ELEMENTS_MAX, INT16, INT32, Buffer, Message, compact_string, refuse_length, skip_tags, string, too_many, uvarint, write_uvarint

_i = Struct(">i")
_ib = Struct(">ib")
_ihqq = Struct(">ihqq")
_ihqqi = Struct(">ihqqi")
_iiq = Struct(">iiq")
_iq = Struct(">iq")


class ListOffsetsPartition(Message):
    __slots__ = ("partition_index", "current_leader_epoch", "timestamp")

    def __init__(
        self,
        partition_index: int = 0,
        current_leader_epoch: int = -1,
        timestamp: int = 0,
    ) -> None:
        self.partition_index = partition_index
        self.current_leader_epoch = current_leader_epoch
        self.timestamp = timestamp


class ListOffsetsTopic(Message):
    __slots__ = ("name", "partitions")

    def __init__(
        self,
        name: str = "",
        partitions: Sequence[ListOffsetsPartition] = (),
    ) -> None:
        self.name = name
        self.partitions = partitions


class ListOffsetsRequest(Message):
    __slots__ = ("replica_id", "isolation_level", "topics", "timeout_ms")

    def __init__(
        self,
        replica_id: int = 0,
        isolation_level: int = 0,
        topics: Sequence[ListOffsetsTopic] = (),
        timeout_ms: int = 0,
    ) -> None:
        self.replica_id = replica_id
        self.isolation_level = isolation_level
        self.topics = topics
        self.timeout_ms = timeout_ms


class ListOffsetsPartitionResponse(Message):
    __slots__ = ("partition_index", "error_code", "timestamp", "offset", "leader_epoch")

    def __init__(
        self,
        partition_index: int = 0,
        error_code: int = 0,
        timestamp: int = -1,
        offset: int = -1,
        leader_epoch: int = -1,
    ) -> None:
        self.partition_index = partition_index
        self.error_code = error_code
        self.timestamp = timestamp
        self.offset = offset
        self.leader_epoch = leader_epoch


class ListOffsetsTopicResponse(Message):
    __slots__ = ("name", "partitions")

    def __init__(
        self,
        name: str = "",
        partitions: Sequence[ListOffsetsPartitionResponse] = (),
    ) -> None:
        self.name = name
        self.partitions = partitions


class ListOffsetsResponse(Message):
    __slots__ = ("throttle_time_ms", "topics")

    def __init__(
        self,
        throttle_time_ms: int = 0,
        topics: Sequence[ListOffsetsTopicResponse] = (),
    ) -> None:
        self.throttle_time_ms = throttle_time_ms
        self.topics = topics


def read_1(b: Buffer, p: int) -> tuple[ListOffsetsRequest, int]:
    end = len(b)
    room = ELEMENTS_MAX
    (replica_id_1,) = _i.unpack_from(b, p)
    p += 4
    (n_3,) = INT32.unpack_from(b, p)
    p += 4
    if n_3 < 0 or n_3 > (end - p) // 6:
        raise refuse_length("topics", n_3)
    room -= n_3
    if room < 0:
        raise too_many("topics")
    made_4: list[ListOffsetsTopic] = []
    for _ in range(n_3):
        (n_6,) = INT16.unpack_from(b, p)
        p += 2
        if n_6 < 0 or p + n_6 > end:
            raise refuse_length("name", n_6)
        name_5 = str(b[p : p + n_6], "utf-8")
        p += n_6
        (n_8,) = INT32.unpack_from(b, p)
        p += 4
        if n_8 < 0 or n_8 > (end - p) // 12:
            raise refuse_length("partitions", n_8)
        room -= n_8
        if room < 0:
            raise too_many("partitions")
        made_9: list[ListOffsetsPartition] = []
        for _ in range(n_8):
            partition_index_10, timestamp_11 = _iq.unpack_from(b, p)
            p += 12
            made_9.append(ListOffsetsPartition(partition_index_10, -1, timestamp_11))
        partitions_7 = made_9
        made_4.append(ListOffsetsTopic(name_5, partitions_7))
    topics_2 = made_4
    return ListOffsetsRequest(replica_id_1, 0, topics_2, 0), p


def read_2(b: Buffer, p: int) -> tuple[ListOffsetsRequest, int]:
    end = len(b)
    room = ELEMENTS_MAX
    replica_id_1, isolation_level_2 = _ib.unpack_from(b, p)
    p += 5
    (n_4,) = INT32.unpack_from(b, p)
    p += 4
    if n_4 < 0 or n_4 > (end - p) // 6:
        raise refuse_length("topics", n_4)
    room -= n_4
    if room < 0:
        raise too_many("topics")
    made_5: list[ListOffsetsTopic] = []
    for _ in range(n_4):
        (n_7,) = INT16.unpack_from(b, p)
        p += 2
        if n_7 < 0 or p + n_7 > end:
            raise refuse_length("name", n_7)
        name_6 = str(b[p : p + n_7], "utf-8")
        p += n_7
        (n_9,) = INT32.unpack_from(b, p)
        p += 4
        if n_9 < 0 or n_9 > (end - p) // 12:
            raise refuse_length("partitions", n_9)
        room -= n_9
        if room < 0:
            raise too_many("partitions")
        made_10: list[ListOffsetsPartition] = []
        for _ in range(n_9):
            partition_index_11, timestamp_12 = _iq.unpack_from(b, p)
            p += 12
            made_10.append(ListOffsetsPartition(partition_index_11, -1, timestamp_12))
        partitions_8 = made_10
        made_5.append(ListOffsetsTopic(name_6, partitions_8))
    topics_3 = made_5
    return ListOffsetsRequest(replica_id_1, isolation_level_2, topics_3, 0), p


def read_4(b: Buffer, p: int) -> tuple[ListOffsetsRequest, int]:
    end = len(b)
    room = ELEMENTS_MAX
    replica_id_1, isolation_level_2 = _ib.unpack_from(b, p)
    p += 5
    (n_4,) = INT32.unpack_from(b, p)
    p += 4
    if n_4 < 0 or n_4 > (end - p) // 6:
        raise refuse_length("topics", n_4)
    room -= n_4
    if room < 0:
        raise too_many("topics")
    made_5: list[ListOffsetsTopic] = []
    for _ in range(n_4):
        (n_7,) = INT16.unpack_from(b, p)
        p += 2
        if n_7 < 0 or p + n_7 > end:
            raise refuse_length("name", n_7)
        name_6 = str(b[p : p + n_7], "utf-8")
        p += n_7
        (n_9,) = INT32.unpack_from(b, p)
        p += 4
        if n_9 < 0 or n_9 > (end - p) // 16:
            raise refuse_length("partitions", n_9)
        room -= n_9
        if room < 0:
            raise too_many("partitions")
        made_10: list[ListOffsetsPartition] = []
        for _ in range(n_9):
            partition_index_11, current_leader_epoch_12, timestamp_13 = _iiq.unpack_from(b, p)
            p += 16
            made_10.append(ListOffsetsPartition(partition_index_11, current_leader_epoch_12, timestamp_13))
        partitions_8 = made_10
        made_5.append(ListOffsetsTopic(name_6, partitions_8))
    topics_3 = made_5
    return ListOffsetsRequest(replica_id_1, isolation_level_2, topics_3, 0), p


def read_6(b: Buffer, p: int) -> tuple[ListOffsetsRequest, int]:
    end = len(b)
    room = ELEMENTS_MAX
    replica_id_1, isolation_level_2 = _ib.unpack_from(b, p)
    p += 5
    n_4 = b[p] - 1
    p += 1
    if n_4 > 126:
        n_4, p = uvarint(b, p - 1)
        n_4 -= 1
    if n_4 < 0 or n_4 > (end - p) // 3:
        raise refuse_length("topics", n_4)
    room -= n_4
    if room < 0:
        raise too_many("topics")
    made_5: list[ListOffsetsTopic] = []
    for _ in range(n_4):
        n_7 = b[p] - 1
        p += 1
        if n_7 > 126:
            n_7, p = uvarint(b, p - 1)
            n_7 -= 1
        if n_7 < 0 or p + n_7 > end:
            raise refuse_length("name", n_7)
        name_6 = str(b[p : p + n_7], "utf-8")
        p += n_7
        n_9 = b[p] - 1
        p += 1
        if n_9 > 126:
            n_9, p = uvarint(b, p - 1)
            n_9 -= 1
        if n_9 < 0 or n_9 > (end - p) // 17:
            raise refuse_length("partitions", n_9)
        room -= n_9
        if room < 0:
            raise too_many("partitions")
        made_10: list[ListOffsetsPartition] = []
        for _ in range(n_9):
            partition_index_11, current_leader_epoch_12, timestamp_13 = _iiq.unpack_from(b, p)
            p += 16
            p = skip_tags(b, p) if b[p] else p + 1
            made_10.append(ListOffsetsPartition(partition_index_11, current_leader_epoch_12, timestamp_13))
        partitions_8 = made_10
        p = skip_tags(b, p) if b[p] else p + 1
        made_5.append(ListOffsetsTopic(name_6, partitions_8))
    topics_3 = made_5
    p = skip_tags(b, p) if b[p] else p + 1
    return ListOffsetsRequest(replica_id_1, isolation_level_2, topics_3, 0), p


def read_10(b: Buffer, p: int) -> tuple[ListOffsetsRequest, int]:
    end = len(b)
    room = ELEMENTS_MAX
    replica_id_1, isolation_level_2 = _ib.unpack_from(b, p)
    p += 5
    n_4 = b[p] - 1
    p += 1
    if n_4 > 126:
        n_4, p = uvarint(b, p - 1)
        n_4 -= 1
    if n_4 < 0 or n_4 > (end - p) // 3:
        raise refuse_length("topics", n_4)
    room -= n_4
    if room < 0:
        raise too_many("topics")
    made_5: list[ListOffsetsTopic] = []
    for _ in range(n_4):
        n_7 = b[p] - 1
        p += 1
        if n_7 > 126:
            n_7, p = uvarint(b, p - 1)
            n_7 -= 1
        if n_7 < 0 or p + n_7 > end:
            raise refuse_length("name", n_7)
        name_6 = str(b[p : p + n_7], "utf-8")
        p += n_7
        n_9 = b[p] - 1
        p += 1
        if n_9 > 126:
            n_9, p = uvarint(b, p - 1)
            n_9 -= 1
        if n_9 < 0 or n_9 > (end - p) // 17:
            raise refuse_length("partitions", n_9)
        room -= n_9
        if room < 0:
            raise too_many("partitions")
        made_10: list[ListOffsetsPartition] = []
        for _ in range(n_9):
            partition_index_11, current_leader_epoch_12, timestamp_13 = _iiq.unpack_from(b, p)
            p += 16
            p = skip_tags(b, p) if b[p] else p + 1
            made_10.append(ListOffsetsPartition(partition_index_11, current_leader_epoch_12, timestamp_13))
        partitions_8 = made_10
        p = skip_tags(b, p) if b[p] else p + 1
        made_5.append(ListOffsetsTopic(name_6, partitions_8))
    topics_3 = made_5
    (timeout_ms_14,) = _i.unpack_from(b, p)
    p += 4
    p = skip_tags(b, p) if b[p] else p + 1
    return ListOffsetsRequest(replica_id_1, isolation_level_2, topics_3, timeout_ms_14), p


def write_1(m: ListOffsetsResponse, w: Callable[[bytes], None]) -> None:
    a_1 = m.topics
    w(INT32.pack(len(a_1)))
    for o_2 in a_1:
        w(string(o_2.name))
        a_3 = o_2.partitions
        w(INT32.pack(len(a_3)))
        for o_4 in a_3:
            w(_ihqq.pack(o_4.partition_index, o_4.error_code, o_4.timestamp, o_4.offset))


def write_2(m: ListOffsetsResponse, w: Callable[[bytes], None]) -> None:
    w(_i.pack(m.throttle_time_ms))
    a_1 = m.topics
    w(INT32.pack(len(a_1)))
    for o_2 in a_1:
        w(string(o_2.name))
        a_3 = o_2.partitions
        w(INT32.pack(len(a_3)))
        for o_4 in a_3:
            w(_ihqq.pack(o_4.partition_index, o_4.error_code, o_4.timestamp, o_4.offset))


def write_4(m: ListOffsetsResponse, w: Callable[[bytes], None]) -> None:
    w(_i.pack(m.throttle_time_ms))
    a_1 = m.topics
    w(INT32.pack(len(a_1)))
    for o_2 in a_1:
        w(string(o_2.name))
        a_3 = o_2.partitions
        w(INT32.pack(len(a_3)))
        for o_4 in a_3:
            w(_ihqqi.pack(o_4.partition_index, o_4.error_code, o_4.timestamp, o_4.offset, o_4.leader_epoch))


def write_6(m: ListOffsetsResponse, w: Callable[[bytes], None]) -> None:
    w(_i.pack(m.throttle_time_ms))
    a_1 = m.topics
    w(write_uvarint(len(a_1) + 1))
    for o_2 in a_1:
        w(compact_string(o_2.name))
        a_3 = o_2.partitions
        w(write_uvarint(len(a_3) + 1))
        for o_4 in a_3:
            w(_ihqqi.pack(o_4.partition_index, o_4.error_code, o_4.timestamp, o_4.offset, o_4.leader_epoch))
            w(b"\0")
        w(b"\0")
    w(b"\0")


READ: Final = {1: read_1, 2: read_2, 3: read_2, 4: read_4, 5: read_4, 6: read_6, 7: read_6, 8: read_6, 9: read_6, 10: read_10, 11: read_10}


WRITE: Final = {1: write_1, 2: write_2, 3: write_2, 4: write_4, 5: write_4, 6: write_6, 7: write_6, 8: write_6, 9: write_6, 10: write_6, 11: write_6}
