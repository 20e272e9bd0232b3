"""Kafka's OffsetForLeaderEpoch, made by `make kafka` from node/kafka/schema/table.txt; changes belong there."""

from collections.abc import Callable, Sequence
from struct import Struct
from typing import Final

from node.kafka.wire import ELEMENTS_MAX, INT16, INT32, Buffer, Message, compact_string, refuse_length, skip_tags, string, too_many, uvarint, write_uvarint

_hiiq = Struct(">hiiq")
_i = Struct(">i")
_iii = Struct(">iii")


class OffsetForLeaderPartition(Message):
    __slots__ = ("partition", "current_leader_epoch", "leader_epoch")

    def __init__(
        self,
        partition: int = 0,
        current_leader_epoch: int = -1,
        leader_epoch: int = 0,
    ) -> None:
        self.partition = partition
        self.current_leader_epoch = current_leader_epoch
        self.leader_epoch = leader_epoch


class OffsetForLeaderTopic(Message):
    __slots__ = ("topic", "partitions")

    def __init__(
        self,
        topic: str = "",
        partitions: Sequence[OffsetForLeaderPartition] = (),
    ) -> None:
        self.topic = topic
        self.partitions = partitions


class OffsetForLeaderEpochRequest(Message):
    __slots__ = ("replica_id", "topics")

    def __init__(
        self,
        replica_id: int = -2,
        topics: Sequence[OffsetForLeaderTopic] = (),
    ) -> None:
        self.replica_id = replica_id
        self.topics = topics


class EpochEndOffset(Message):
    __slots__ = ("error_code", "partition", "leader_epoch", "end_offset")

    def __init__(
        self,
        error_code: int = 0,
        partition: int = 0,
        leader_epoch: int = -1,
        end_offset: int = -1,
    ) -> None:
        self.error_code = error_code
        self.partition = partition
        self.leader_epoch = leader_epoch
        self.end_offset = end_offset


class OffsetForLeaderTopicResult(Message):
    __slots__ = ("topic", "partitions")

    def __init__(
        self,
        topic: str = "",
        partitions: Sequence[EpochEndOffset] = (),
    ) -> None:
        self.topic = topic
        self.partitions = partitions


class OffsetForLeaderEpochResponse(Message):
    __slots__ = ("throttle_time_ms", "topics")

    def __init__(
        self,
        throttle_time_ms: int = 0,
        topics: Sequence[OffsetForLeaderTopicResult] = (),
    ) -> None:
        self.throttle_time_ms = throttle_time_ms
        self.topics = topics


def read_2(b: Buffer, p: int) -> tuple[OffsetForLeaderEpochRequest, int]:
    end = len(b)
    room = ELEMENTS_MAX
    (n_2,) = INT32.unpack_from(b, p)
    p += 4
    if n_2 < 0 or n_2 > (end - p) // 6:
        raise refuse_length("topics", n_2)
    room -= n_2
    if room < 0:
        raise too_many("topics")
    made_3: list[OffsetForLeaderTopic] = []
    for _ in range(n_2):
        (n_5,) = INT16.unpack_from(b, p)
        p += 2
        if n_5 < 0 or p + n_5 > end:
            raise refuse_length("topic", n_5)
        topic_4 = str(b[p : p + n_5], "utf-8")
        p += n_5
        (n_7,) = INT32.unpack_from(b, p)
        p += 4
        if n_7 < 0 or n_7 > (end - p) // 12:
            raise refuse_length("partitions", n_7)
        room -= n_7
        if room < 0:
            raise too_many("partitions")
        made_8: list[OffsetForLeaderPartition] = []
        for _ in range(n_7):
            partition_9, current_leader_epoch_10, leader_epoch_11 = _iii.unpack_from(b, p)
            p += 12
            made_8.append(OffsetForLeaderPartition(partition_9, current_leader_epoch_10, leader_epoch_11))
        partitions_6 = made_8
        made_3.append(OffsetForLeaderTopic(topic_4, partitions_6))
    topics_1 = made_3
    return OffsetForLeaderEpochRequest(-2, topics_1), p


def read_3(b: Buffer, p: int) -> tuple[OffsetForLeaderEpochRequest, int]:
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
    made_4: list[OffsetForLeaderTopic] = []
    for _ in range(n_3):
        (n_6,) = INT16.unpack_from(b, p)
        p += 2
        if n_6 < 0 or p + n_6 > end:
            raise refuse_length("topic", n_6)
        topic_5 = str(b[p : p + n_6], "utf-8")
        p += n_6
        (n_8,) = INT32.unpack_from(b, p)
        p += 4
        if n_8 < 0 or n_8 > (end - p) // 12:
            raise refuse_length("partitions", n_8)
        room -= n_8
        if room < 0:
            raise too_many("partitions")
        made_9: list[OffsetForLeaderPartition] = []
        for _ in range(n_8):
            partition_10, current_leader_epoch_11, leader_epoch_12 = _iii.unpack_from(b, p)
            p += 12
            made_9.append(OffsetForLeaderPartition(partition_10, current_leader_epoch_11, leader_epoch_12))
        partitions_7 = made_9
        made_4.append(OffsetForLeaderTopic(topic_5, partitions_7))
    topics_2 = made_4
    return OffsetForLeaderEpochRequest(replica_id_1, topics_2), p


def read_4(b: Buffer, p: int) -> tuple[OffsetForLeaderEpochRequest, int]:
    end = len(b)
    room = ELEMENTS_MAX
    (replica_id_1,) = _i.unpack_from(b, p)
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
    made_4: list[OffsetForLeaderTopic] = []
    for _ in range(n_3):
        n_6 = b[p] - 1
        p += 1
        if n_6 > 126:
            n_6, p = uvarint(b, p - 1)
            n_6 -= 1
        if n_6 < 0 or p + n_6 > end:
            raise refuse_length("topic", n_6)
        topic_5 = str(b[p : p + n_6], "utf-8")
        p += n_6
        n_8 = b[p] - 1
        p += 1
        if n_8 > 126:
            n_8, p = uvarint(b, p - 1)
            n_8 -= 1
        if n_8 < 0 or n_8 > (end - p) // 13:
            raise refuse_length("partitions", n_8)
        room -= n_8
        if room < 0:
            raise too_many("partitions")
        made_9: list[OffsetForLeaderPartition] = []
        for _ in range(n_8):
            partition_10, current_leader_epoch_11, leader_epoch_12 = _iii.unpack_from(b, p)
            p += 12
            p = skip_tags(b, p) if b[p] else p + 1
            made_9.append(OffsetForLeaderPartition(partition_10, current_leader_epoch_11, leader_epoch_12))
        partitions_7 = made_9
        p = skip_tags(b, p) if b[p] else p + 1
        made_4.append(OffsetForLeaderTopic(topic_5, partitions_7))
    topics_2 = made_4
    p = skip_tags(b, p) if b[p] else p + 1
    return OffsetForLeaderEpochRequest(replica_id_1, topics_2), p


def write_2(m: OffsetForLeaderEpochResponse, w: Callable[[bytes], None]) -> None:
    w(_i.pack(m.throttle_time_ms))
    a_1 = m.topics
    w(INT32.pack(len(a_1)))
    for o_2 in a_1:
        w(string(o_2.topic))
        a_3 = o_2.partitions
        w(INT32.pack(len(a_3)))
        for o_4 in a_3:
            w(_hiiq.pack(o_4.error_code, o_4.partition, o_4.leader_epoch, o_4.end_offset))


def write_4(m: OffsetForLeaderEpochResponse, w: Callable[[bytes], None]) -> None:
    w(_i.pack(m.throttle_time_ms))
    a_1 = m.topics
    w(write_uvarint(len(a_1) + 1))
    for o_2 in a_1:
        w(compact_string(o_2.topic))
        a_3 = o_2.partitions
        w(write_uvarint(len(a_3) + 1))
        for o_4 in a_3:
            w(_hiiq.pack(o_4.error_code, o_4.partition, o_4.leader_epoch, o_4.end_offset))
            w(b"\0")
        w(b"\0")
    w(b"\0")


READ: Final = {2: read_2, 3: read_3, 4: read_4}


WRITE: Final = {2: write_2, 3: write_2, 4: write_4}
