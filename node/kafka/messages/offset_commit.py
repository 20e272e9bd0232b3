"""Kafka's OffsetCommit, made by `make kafka` from node/kafka/schema/table.txt; changes belong there."""

from collections.abc import Callable, Sequence
from struct import Struct
from typing import Final

from node.kafka.wire import ELEMENTS_MAX, INT16, INT32, NO_ID, Buffer, Message, compact_string, refuse_length, skip_tags, string, too_many, uvarint, write_uvarint

_U = Struct(">16s")
_i = Struct(">i")
_ih = Struct(">ih")
_iq = Struct(">iq")
_iqi = Struct(">iqi")
_iqq = Struct(">iqq")
_q = Struct(">q")


class OffsetCommitRequestPartition(Message):
    __slots__ = ("partition_index", "committed_offset", "committed_leader_epoch", "commit_timestamp", "committed_metadata")

    def __init__(
        self,
        partition_index: int = 0,
        committed_offset: int = 0,
        committed_leader_epoch: int = -1,
        commit_timestamp: int = -1,
        committed_metadata: str | None = "",
    ) -> None:
        self.partition_index = partition_index
        self.committed_offset = committed_offset
        self.committed_leader_epoch = committed_leader_epoch
        self.commit_timestamp = commit_timestamp
        self.committed_metadata = committed_metadata


class OffsetCommitRequestTopic(Message):
    __slots__ = ("name", "topic_id", "partitions")

    def __init__(
        self,
        name: str = "",
        topic_id: bytes = NO_ID,
        partitions: Sequence[OffsetCommitRequestPartition] = (),
    ) -> None:
        self.name = name
        self.topic_id = topic_id
        self.partitions = partitions


class OffsetCommitRequest(Message):
    __slots__ = ("group_id", "generation_id_or_member_epoch", "member_id", "group_instance_id", "retention_time_ms", "topics")

    def __init__(
        self,
        group_id: str = "",
        generation_id_or_member_epoch: int = -1,
        member_id: str = "",
        group_instance_id: str | None = None,
        retention_time_ms: int = -1,
        topics: Sequence[OffsetCommitRequestTopic] = (),
    ) -> None:
        self.group_id = group_id
        self.generation_id_or_member_epoch = generation_id_or_member_epoch
        self.member_id = member_id
        self.group_instance_id = group_instance_id
        self.retention_time_ms = retention_time_ms
        self.topics = topics


class OffsetCommitResponsePartition(Message):
    __slots__ = ("partition_index", "error_code")

    def __init__(
        self,
        partition_index: int = 0,
        error_code: int = 0,
    ) -> None:
        self.partition_index = partition_index
        self.error_code = error_code


class OffsetCommitResponseTopic(Message):
    __slots__ = ("name", "topic_id", "partitions")

    def __init__(
        self,
        name: str = "",
        topic_id: bytes = NO_ID,
        partitions: Sequence[OffsetCommitResponsePartition] = (),
    ) -> None:
        self.name = name
        self.topic_id = topic_id
        self.partitions = partitions


class OffsetCommitResponse(Message):
    __slots__ = ("throttle_time_ms", "topics")

    def __init__(
        self,
        throttle_time_ms: int = 0,
        topics: Sequence[OffsetCommitResponseTopic] = (),
    ) -> None:
        self.throttle_time_ms = throttle_time_ms
        self.topics = topics


def read_1(b: Buffer, p: int) -> tuple[OffsetCommitRequest, int]:
    end = len(b)
    room = ELEMENTS_MAX
    (n_2,) = INT16.unpack_from(b, p)
    p += 2
    if n_2 < 0 or p + n_2 > end:
        raise refuse_length("group_id", n_2)
    group_id_1 = str(b[p : p + n_2], "utf-8")
    p += n_2
    (generation_id_or_member_epoch_3,) = _i.unpack_from(b, p)
    p += 4
    (n_5,) = INT16.unpack_from(b, p)
    p += 2
    if n_5 < 0 or p + n_5 > end:
        raise refuse_length("member_id", n_5)
    member_id_4 = str(b[p : p + n_5], "utf-8")
    p += n_5
    (n_7,) = INT32.unpack_from(b, p)
    p += 4
    if n_7 < 0 or n_7 > (end - p) // 6:
        raise refuse_length("topics", n_7)
    room -= n_7
    if room < 0:
        raise too_many("topics")
    made_8: list[OffsetCommitRequestTopic] = []
    for _ in range(n_7):
        (n_10,) = INT16.unpack_from(b, p)
        p += 2
        if n_10 < 0 or p + n_10 > end:
            raise refuse_length("name", n_10)
        name_9 = str(b[p : p + n_10], "utf-8")
        p += n_10
        (n_12,) = INT32.unpack_from(b, p)
        p += 4
        if n_12 < 0 or n_12 > (end - p) // 22:
            raise refuse_length("partitions", n_12)
        room -= n_12
        if room < 0:
            raise too_many("partitions")
        made_13: list[OffsetCommitRequestPartition] = []
        for _ in range(n_12):
            partition_index_14, committed_offset_15, commit_timestamp_16 = _iqq.unpack_from(b, p)
            p += 20
            (n_18,) = INT16.unpack_from(b, p)
            p += 2
            committed_metadata_17: str | None = None
            if n_18 != -1:
                if n_18 < 0 or p + n_18 > end:
                    raise refuse_length("committed_metadata", n_18)
                committed_metadata_17 = str(b[p : p + n_18], "utf-8")
                p += n_18
            made_13.append(OffsetCommitRequestPartition(partition_index_14, committed_offset_15, -1, commit_timestamp_16, committed_metadata_17))
        partitions_11 = made_13
        made_8.append(OffsetCommitRequestTopic(name_9, NO_ID, partitions_11))
    topics_6 = made_8
    return OffsetCommitRequest(group_id_1, generation_id_or_member_epoch_3, member_id_4, None, -1, topics_6), p


def read_2(b: Buffer, p: int) -> tuple[OffsetCommitRequest, int]:
    end = len(b)
    room = ELEMENTS_MAX
    (n_2,) = INT16.unpack_from(b, p)
    p += 2
    if n_2 < 0 or p + n_2 > end:
        raise refuse_length("group_id", n_2)
    group_id_1 = str(b[p : p + n_2], "utf-8")
    p += n_2
    (generation_id_or_member_epoch_3,) = _i.unpack_from(b, p)
    p += 4
    (n_5,) = INT16.unpack_from(b, p)
    p += 2
    if n_5 < 0 or p + n_5 > end:
        raise refuse_length("member_id", n_5)
    member_id_4 = str(b[p : p + n_5], "utf-8")
    p += n_5
    (retention_time_ms_6,) = _q.unpack_from(b, p)
    p += 8
    (n_8,) = INT32.unpack_from(b, p)
    p += 4
    if n_8 < 0 or n_8 > (end - p) // 6:
        raise refuse_length("topics", n_8)
    room -= n_8
    if room < 0:
        raise too_many("topics")
    made_9: list[OffsetCommitRequestTopic] = []
    for _ in range(n_8):
        (n_11,) = INT16.unpack_from(b, p)
        p += 2
        if n_11 < 0 or p + n_11 > end:
            raise refuse_length("name", n_11)
        name_10 = str(b[p : p + n_11], "utf-8")
        p += n_11
        (n_13,) = INT32.unpack_from(b, p)
        p += 4
        if n_13 < 0 or n_13 > (end - p) // 14:
            raise refuse_length("partitions", n_13)
        room -= n_13
        if room < 0:
            raise too_many("partitions")
        made_14: list[OffsetCommitRequestPartition] = []
        for _ in range(n_13):
            partition_index_15, committed_offset_16 = _iq.unpack_from(b, p)
            p += 12
            (n_18,) = INT16.unpack_from(b, p)
            p += 2
            committed_metadata_17: str | None = None
            if n_18 != -1:
                if n_18 < 0 or p + n_18 > end:
                    raise refuse_length("committed_metadata", n_18)
                committed_metadata_17 = str(b[p : p + n_18], "utf-8")
                p += n_18
            made_14.append(OffsetCommitRequestPartition(partition_index_15, committed_offset_16, -1, -1, committed_metadata_17))
        partitions_12 = made_14
        made_9.append(OffsetCommitRequestTopic(name_10, NO_ID, partitions_12))
    topics_7 = made_9
    return OffsetCommitRequest(group_id_1, generation_id_or_member_epoch_3, member_id_4, None, retention_time_ms_6, topics_7), p


def read_5(b: Buffer, p: int) -> tuple[OffsetCommitRequest, int]:
    end = len(b)
    room = ELEMENTS_MAX
    (n_2,) = INT16.unpack_from(b, p)
    p += 2
    if n_2 < 0 or p + n_2 > end:
        raise refuse_length("group_id", n_2)
    group_id_1 = str(b[p : p + n_2], "utf-8")
    p += n_2
    (generation_id_or_member_epoch_3,) = _i.unpack_from(b, p)
    p += 4
    (n_5,) = INT16.unpack_from(b, p)
    p += 2
    if n_5 < 0 or p + n_5 > end:
        raise refuse_length("member_id", n_5)
    member_id_4 = str(b[p : p + n_5], "utf-8")
    p += n_5
    (n_7,) = INT32.unpack_from(b, p)
    p += 4
    if n_7 < 0 or n_7 > (end - p) // 6:
        raise refuse_length("topics", n_7)
    room -= n_7
    if room < 0:
        raise too_many("topics")
    made_8: list[OffsetCommitRequestTopic] = []
    for _ in range(n_7):
        (n_10,) = INT16.unpack_from(b, p)
        p += 2
        if n_10 < 0 or p + n_10 > end:
            raise refuse_length("name", n_10)
        name_9 = str(b[p : p + n_10], "utf-8")
        p += n_10
        (n_12,) = INT32.unpack_from(b, p)
        p += 4
        if n_12 < 0 or n_12 > (end - p) // 14:
            raise refuse_length("partitions", n_12)
        room -= n_12
        if room < 0:
            raise too_many("partitions")
        made_13: list[OffsetCommitRequestPartition] = []
        for _ in range(n_12):
            partition_index_14, committed_offset_15 = _iq.unpack_from(b, p)
            p += 12
            (n_17,) = INT16.unpack_from(b, p)
            p += 2
            committed_metadata_16: str | None = None
            if n_17 != -1:
                if n_17 < 0 or p + n_17 > end:
                    raise refuse_length("committed_metadata", n_17)
                committed_metadata_16 = str(b[p : p + n_17], "utf-8")
                p += n_17
            made_13.append(OffsetCommitRequestPartition(partition_index_14, committed_offset_15, -1, -1, committed_metadata_16))
        partitions_11 = made_13
        made_8.append(OffsetCommitRequestTopic(name_9, NO_ID, partitions_11))
    topics_6 = made_8
    return OffsetCommitRequest(group_id_1, generation_id_or_member_epoch_3, member_id_4, None, -1, topics_6), p


def read_6(b: Buffer, p: int) -> tuple[OffsetCommitRequest, int]:
    end = len(b)
    room = ELEMENTS_MAX
    (n_2,) = INT16.unpack_from(b, p)
    p += 2
    if n_2 < 0 or p + n_2 > end:
        raise refuse_length("group_id", n_2)
    group_id_1 = str(b[p : p + n_2], "utf-8")
    p += n_2
    (generation_id_or_member_epoch_3,) = _i.unpack_from(b, p)
    p += 4
    (n_5,) = INT16.unpack_from(b, p)
    p += 2
    if n_5 < 0 or p + n_5 > end:
        raise refuse_length("member_id", n_5)
    member_id_4 = str(b[p : p + n_5], "utf-8")
    p += n_5
    (n_7,) = INT32.unpack_from(b, p)
    p += 4
    if n_7 < 0 or n_7 > (end - p) // 6:
        raise refuse_length("topics", n_7)
    room -= n_7
    if room < 0:
        raise too_many("topics")
    made_8: list[OffsetCommitRequestTopic] = []
    for _ in range(n_7):
        (n_10,) = INT16.unpack_from(b, p)
        p += 2
        if n_10 < 0 or p + n_10 > end:
            raise refuse_length("name", n_10)
        name_9 = str(b[p : p + n_10], "utf-8")
        p += n_10
        (n_12,) = INT32.unpack_from(b, p)
        p += 4
        if n_12 < 0 or n_12 > (end - p) // 18:
            raise refuse_length("partitions", n_12)
        room -= n_12
        if room < 0:
            raise too_many("partitions")
        made_13: list[OffsetCommitRequestPartition] = []
        for _ in range(n_12):
            partition_index_14, committed_offset_15, committed_leader_epoch_16 = _iqi.unpack_from(b, p)
            p += 16
            (n_18,) = INT16.unpack_from(b, p)
            p += 2
            committed_metadata_17: str | None = None
            if n_18 != -1:
                if n_18 < 0 or p + n_18 > end:
                    raise refuse_length("committed_metadata", n_18)
                committed_metadata_17 = str(b[p : p + n_18], "utf-8")
                p += n_18
            made_13.append(OffsetCommitRequestPartition(partition_index_14, committed_offset_15, committed_leader_epoch_16, -1, committed_metadata_17))
        partitions_11 = made_13
        made_8.append(OffsetCommitRequestTopic(name_9, NO_ID, partitions_11))
    topics_6 = made_8
    return OffsetCommitRequest(group_id_1, generation_id_or_member_epoch_3, member_id_4, None, -1, topics_6), p


def read_7(b: Buffer, p: int) -> tuple[OffsetCommitRequest, int]:
    end = len(b)
    room = ELEMENTS_MAX
    (n_2,) = INT16.unpack_from(b, p)
    p += 2
    if n_2 < 0 or p + n_2 > end:
        raise refuse_length("group_id", n_2)
    group_id_1 = str(b[p : p + n_2], "utf-8")
    p += n_2
    (generation_id_or_member_epoch_3,) = _i.unpack_from(b, p)
    p += 4
    (n_5,) = INT16.unpack_from(b, p)
    p += 2
    if n_5 < 0 or p + n_5 > end:
        raise refuse_length("member_id", n_5)
    member_id_4 = str(b[p : p + n_5], "utf-8")
    p += n_5
    (n_7,) = INT16.unpack_from(b, p)
    p += 2
    group_instance_id_6: str | None = None
    if n_7 != -1:
        if n_7 < 0 or p + n_7 > end:
            raise refuse_length("group_instance_id", n_7)
        group_instance_id_6 = str(b[p : p + n_7], "utf-8")
        p += n_7
    (n_9,) = INT32.unpack_from(b, p)
    p += 4
    if n_9 < 0 or n_9 > (end - p) // 6:
        raise refuse_length("topics", n_9)
    room -= n_9
    if room < 0:
        raise too_many("topics")
    made_10: list[OffsetCommitRequestTopic] = []
    for _ in range(n_9):
        (n_12,) = INT16.unpack_from(b, p)
        p += 2
        if n_12 < 0 or p + n_12 > end:
            raise refuse_length("name", n_12)
        name_11 = str(b[p : p + n_12], "utf-8")
        p += n_12
        (n_14,) = INT32.unpack_from(b, p)
        p += 4
        if n_14 < 0 or n_14 > (end - p) // 18:
            raise refuse_length("partitions", n_14)
        room -= n_14
        if room < 0:
            raise too_many("partitions")
        made_15: list[OffsetCommitRequestPartition] = []
        for _ in range(n_14):
            partition_index_16, committed_offset_17, committed_leader_epoch_18 = _iqi.unpack_from(b, p)
            p += 16
            (n_20,) = INT16.unpack_from(b, p)
            p += 2
            committed_metadata_19: str | None = None
            if n_20 != -1:
                if n_20 < 0 or p + n_20 > end:
                    raise refuse_length("committed_metadata", n_20)
                committed_metadata_19 = str(b[p : p + n_20], "utf-8")
                p += n_20
            made_15.append(OffsetCommitRequestPartition(partition_index_16, committed_offset_17, committed_leader_epoch_18, -1, committed_metadata_19))
        partitions_13 = made_15
        made_10.append(OffsetCommitRequestTopic(name_11, NO_ID, partitions_13))
    topics_8 = made_10
    return OffsetCommitRequest(group_id_1, generation_id_or_member_epoch_3, member_id_4, group_instance_id_6, -1, topics_8), p


def read_8(b: Buffer, p: int) -> tuple[OffsetCommitRequest, int]:
    end = len(b)
    room = ELEMENTS_MAX
    n_2 = b[p] - 1
    p += 1
    if n_2 > 126:
        n_2, p = uvarint(b, p - 1)
        n_2 -= 1
    if n_2 < 0 or p + n_2 > end:
        raise refuse_length("group_id", n_2)
    group_id_1 = str(b[p : p + n_2], "utf-8")
    p += n_2
    (generation_id_or_member_epoch_3,) = _i.unpack_from(b, p)
    p += 4
    n_5 = b[p] - 1
    p += 1
    if n_5 > 126:
        n_5, p = uvarint(b, p - 1)
        n_5 -= 1
    if n_5 < 0 or p + n_5 > end:
        raise refuse_length("member_id", n_5)
    member_id_4 = str(b[p : p + n_5], "utf-8")
    p += n_5
    n_7 = b[p] - 1
    p += 1
    if n_7 > 126:
        n_7, p = uvarint(b, p - 1)
        n_7 -= 1
    group_instance_id_6: str | None = None
    if n_7 != -1:
        if n_7 < 0 or p + n_7 > end:
            raise refuse_length("group_instance_id", n_7)
        group_instance_id_6 = str(b[p : p + n_7], "utf-8")
        p += n_7
    n_9 = b[p] - 1
    p += 1
    if n_9 > 126:
        n_9, p = uvarint(b, p - 1)
        n_9 -= 1
    if n_9 < 0 or n_9 > (end - p) // 3:
        raise refuse_length("topics", n_9)
    room -= n_9
    if room < 0:
        raise too_many("topics")
    made_10: list[OffsetCommitRequestTopic] = []
    for _ in range(n_9):
        n_12 = b[p] - 1
        p += 1
        if n_12 > 126:
            n_12, p = uvarint(b, p - 1)
            n_12 -= 1
        if n_12 < 0 or p + n_12 > end:
            raise refuse_length("name", n_12)
        name_11 = str(b[p : p + n_12], "utf-8")
        p += n_12
        n_14 = b[p] - 1
        p += 1
        if n_14 > 126:
            n_14, p = uvarint(b, p - 1)
            n_14 -= 1
        if n_14 < 0 or n_14 > (end - p) // 18:
            raise refuse_length("partitions", n_14)
        room -= n_14
        if room < 0:
            raise too_many("partitions")
        made_15: list[OffsetCommitRequestPartition] = []
        for _ in range(n_14):
            partition_index_16, committed_offset_17, committed_leader_epoch_18 = _iqi.unpack_from(b, p)
            p += 16
            n_20 = b[p] - 1
            p += 1
            if n_20 > 126:
                n_20, p = uvarint(b, p - 1)
                n_20 -= 1
            committed_metadata_19: str | None = None
            if n_20 != -1:
                if n_20 < 0 or p + n_20 > end:
                    raise refuse_length("committed_metadata", n_20)
                committed_metadata_19 = str(b[p : p + n_20], "utf-8")
                p += n_20
            p = skip_tags(b, p) if b[p] else p + 1
            made_15.append(OffsetCommitRequestPartition(partition_index_16, committed_offset_17, committed_leader_epoch_18, -1, committed_metadata_19))
        partitions_13 = made_15
        p = skip_tags(b, p) if b[p] else p + 1
        made_10.append(OffsetCommitRequestTopic(name_11, NO_ID, partitions_13))
    topics_8 = made_10
    p = skip_tags(b, p) if b[p] else p + 1
    return OffsetCommitRequest(group_id_1, generation_id_or_member_epoch_3, member_id_4, group_instance_id_6, -1, topics_8), p


def read_10(b: Buffer, p: int) -> tuple[OffsetCommitRequest, int]:
    end = len(b)
    room = ELEMENTS_MAX
    n_2 = b[p] - 1
    p += 1
    if n_2 > 126:
        n_2, p = uvarint(b, p - 1)
        n_2 -= 1
    if n_2 < 0 or p + n_2 > end:
        raise refuse_length("group_id", n_2)
    group_id_1 = str(b[p : p + n_2], "utf-8")
    p += n_2
    (generation_id_or_member_epoch_3,) = _i.unpack_from(b, p)
    p += 4
    n_5 = b[p] - 1
    p += 1
    if n_5 > 126:
        n_5, p = uvarint(b, p - 1)
        n_5 -= 1
    if n_5 < 0 or p + n_5 > end:
        raise refuse_length("member_id", n_5)
    member_id_4 = str(b[p : p + n_5], "utf-8")
    p += n_5
    n_7 = b[p] - 1
    p += 1
    if n_7 > 126:
        n_7, p = uvarint(b, p - 1)
        n_7 -= 1
    group_instance_id_6: str | None = None
    if n_7 != -1:
        if n_7 < 0 or p + n_7 > end:
            raise refuse_length("group_instance_id", n_7)
        group_instance_id_6 = str(b[p : p + n_7], "utf-8")
        p += n_7
    n_9 = b[p] - 1
    p += 1
    if n_9 > 126:
        n_9, p = uvarint(b, p - 1)
        n_9 -= 1
    if n_9 < 0 or n_9 > (end - p) // 18:
        raise refuse_length("topics", n_9)
    room -= n_9
    if room < 0:
        raise too_many("topics")
    made_10: list[OffsetCommitRequestTopic] = []
    for _ in range(n_9):
        (topic_id_11,) = _U.unpack_from(b, p)
        p += 16
        n_13 = b[p] - 1
        p += 1
        if n_13 > 126:
            n_13, p = uvarint(b, p - 1)
            n_13 -= 1
        if n_13 < 0 or n_13 > (end - p) // 18:
            raise refuse_length("partitions", n_13)
        room -= n_13
        if room < 0:
            raise too_many("partitions")
        made_14: list[OffsetCommitRequestPartition] = []
        for _ in range(n_13):
            partition_index_15, committed_offset_16, committed_leader_epoch_17 = _iqi.unpack_from(b, p)
            p += 16
            n_19 = b[p] - 1
            p += 1
            if n_19 > 126:
                n_19, p = uvarint(b, p - 1)
                n_19 -= 1
            committed_metadata_18: str | None = None
            if n_19 != -1:
                if n_19 < 0 or p + n_19 > end:
                    raise refuse_length("committed_metadata", n_19)
                committed_metadata_18 = str(b[p : p + n_19], "utf-8")
                p += n_19
            p = skip_tags(b, p) if b[p] else p + 1
            made_14.append(OffsetCommitRequestPartition(partition_index_15, committed_offset_16, committed_leader_epoch_17, -1, committed_metadata_18))
        partitions_12 = made_14
        p = skip_tags(b, p) if b[p] else p + 1
        made_10.append(OffsetCommitRequestTopic("", topic_id_11, partitions_12))
    topics_8 = made_10
    p = skip_tags(b, p) if b[p] else p + 1
    return OffsetCommitRequest(group_id_1, generation_id_or_member_epoch_3, member_id_4, group_instance_id_6, -1, topics_8), p


def write_1(m: OffsetCommitResponse, w: Callable[[bytes], None]) -> None:
    a_1 = m.topics
    w(INT32.pack(len(a_1)))
    for o_2 in a_1:
        w(string(o_2.name))
        a_3 = o_2.partitions
        w(INT32.pack(len(a_3)))
        for o_4 in a_3:
            w(_ih.pack(o_4.partition_index, o_4.error_code))


def write_3(m: OffsetCommitResponse, w: Callable[[bytes], None]) -> None:
    w(_i.pack(m.throttle_time_ms))
    a_1 = m.topics
    w(INT32.pack(len(a_1)))
    for o_2 in a_1:
        w(string(o_2.name))
        a_3 = o_2.partitions
        w(INT32.pack(len(a_3)))
        for o_4 in a_3:
            w(_ih.pack(o_4.partition_index, o_4.error_code))


def write_8(m: OffsetCommitResponse, w: Callable[[bytes], None]) -> None:
    w(_i.pack(m.throttle_time_ms))
    a_1 = m.topics
    w(write_uvarint(len(a_1) + 1))
    for o_2 in a_1:
        w(compact_string(o_2.name))
        a_3 = o_2.partitions
        w(write_uvarint(len(a_3) + 1))
        for o_4 in a_3:
            w(_ih.pack(o_4.partition_index, o_4.error_code))
            w(b"\0")
        w(b"\0")
    w(b"\0")


def write_10(m: OffsetCommitResponse, w: Callable[[bytes], None]) -> None:
    w(_i.pack(m.throttle_time_ms))
    a_1 = m.topics
    w(write_uvarint(len(a_1) + 1))
    for o_2 in a_1:
        w(_U.pack(o_2.topic_id))
        a_3 = o_2.partitions
        w(write_uvarint(len(a_3) + 1))
        for o_4 in a_3:
            w(_ih.pack(o_4.partition_index, o_4.error_code))
            w(b"\0")
        w(b"\0")
    w(b"\0")


READ: Final = {1: read_1, 2: read_2, 3: read_2, 4: read_2, 5: read_5, 6: read_6, 7: read_7, 8: read_8, 9: read_8, 10: read_10}


WRITE: Final = {1: write_1, 2: write_1, 3: write_3, 4: write_3, 5: write_3, 6: write_3, 7: write_3, 8: write_8, 9: write_8, 10: write_10}
