"""Kafka's OffsetFetch, made by `make kafka` from node/kafka/schema/table.txt; changes belong there."""

from collections.abc import Callable, Sequence
from struct import Struct, unpack_from
from typing import Final

from node.kafka.wire import ELEMENTS_MAX, INT16, INT32, NO_ID, Buffer, Message, compact_string, nullable_compact_string, nullable_string, refuse_length, skip_tags, string, too_many, uvarint, write_uvarint

_B = Struct(">?")
_U = Struct(">16s")
_h = Struct(">h")
_i = Struct(">i")
_iq = Struct(">iq")
_iqi = Struct(">iqi")


class OffsetFetchRequestTopic(Message):
    __slots__ = ("name", "partition_indexes")

    def __init__(
        self,
        name: str = "",
        partition_indexes: Sequence[int] = (),
    ) -> None:
        self.name = name
        self.partition_indexes = partition_indexes


class OffsetFetchRequestTopics(Message):
    __slots__ = ("name", "topic_id", "partition_indexes")

    def __init__(
        self,
        name: str = "",
        topic_id: bytes = NO_ID,
        partition_indexes: Sequence[int] = (),
    ) -> None:
        self.name = name
        self.topic_id = topic_id
        self.partition_indexes = partition_indexes


class OffsetFetchRequestGroup(Message):
    __slots__ = ("group_id", "member_id", "member_epoch", "topics")

    def __init__(
        self,
        group_id: str = "",
        member_id: str | None = None,
        member_epoch: int = -1,
        topics: Sequence[OffsetFetchRequestTopics] | None = (),
    ) -> None:
        self.group_id = group_id
        self.member_id = member_id
        self.member_epoch = member_epoch
        self.topics = topics


class OffsetFetchRequest(Message):
    __slots__ = ("group_id", "topics", "groups", "require_stable")

    def __init__(
        self,
        group_id: str = "",
        topics: Sequence[OffsetFetchRequestTopic] | None = (),
        groups: Sequence[OffsetFetchRequestGroup] = (),
        require_stable: bool = False,
    ) -> None:
        self.group_id = group_id
        self.topics = topics
        self.groups = groups
        self.require_stable = require_stable


class OffsetFetchResponsePartition(Message):
    __slots__ = ("partition_index", "committed_offset", "committed_leader_epoch", "metadata", "error_code")

    def __init__(
        self,
        partition_index: int = 0,
        committed_offset: int = 0,
        committed_leader_epoch: int = -1,
        metadata: str | None = "",
        error_code: int = 0,
    ) -> None:
        self.partition_index = partition_index
        self.committed_offset = committed_offset
        self.committed_leader_epoch = committed_leader_epoch
        self.metadata = metadata
        self.error_code = error_code


class OffsetFetchResponseTopic(Message):
    __slots__ = ("name", "partitions")

    def __init__(
        self,
        name: str = "",
        partitions: Sequence[OffsetFetchResponsePartition] = (),
    ) -> None:
        self.name = name
        self.partitions = partitions


class OffsetFetchResponsePartitions(Message):
    __slots__ = ("partition_index", "committed_offset", "committed_leader_epoch", "metadata", "error_code")

    def __init__(
        self,
        partition_index: int = 0,
        committed_offset: int = 0,
        committed_leader_epoch: int = -1,
        metadata: str | None = "",
        error_code: int = 0,
    ) -> None:
        self.partition_index = partition_index
        self.committed_offset = committed_offset
        self.committed_leader_epoch = committed_leader_epoch
        self.metadata = metadata
        self.error_code = error_code


class OffsetFetchResponseTopics(Message):
    __slots__ = ("name", "topic_id", "partitions")

    def __init__(
        self,
        name: str = "",
        topic_id: bytes = NO_ID,
        partitions: Sequence[OffsetFetchResponsePartitions] = (),
    ) -> None:
        self.name = name
        self.topic_id = topic_id
        self.partitions = partitions


class OffsetFetchResponseGroup(Message):
    __slots__ = ("group_id", "topics", "error_code")

    def __init__(
        self,
        group_id: str = "",
        topics: Sequence[OffsetFetchResponseTopics] = (),
        error_code: int = 0,
    ) -> None:
        self.group_id = group_id
        self.topics = topics
        self.error_code = error_code


class OffsetFetchResponse(Message):
    __slots__ = ("throttle_time_ms", "topics", "error_code", "groups")

    def __init__(
        self,
        throttle_time_ms: int = 0,
        topics: Sequence[OffsetFetchResponseTopic] = (),
        error_code: int = 0,
        groups: Sequence[OffsetFetchResponseGroup] = (),
    ) -> None:
        self.throttle_time_ms = throttle_time_ms
        self.topics = topics
        self.error_code = error_code
        self.groups = groups


def read_1(b: Buffer, p: int) -> tuple[OffsetFetchRequest, int]:
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
    made_5: list[OffsetFetchRequestTopic] = []
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
            raise refuse_length("partition_indexes", n_9)
        room -= n_9
        if room < 0:
            raise too_many("partition_indexes")
        partition_indexes_8 = unpack_from(f">{n_9}i", b, p)
        p += n_9 * 4
        made_5.append(OffsetFetchRequestTopic(name_6, partition_indexes_8))
    topics_3 = made_5
    return OffsetFetchRequest(group_id_1, topics_3, (), False), p


def read_2(b: Buffer, p: int) -> tuple[OffsetFetchRequest, int]:
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
    topics_3: Sequence[OffsetFetchRequestTopic] | None = None
    if n_4 != -1:
        if n_4 < 0 or n_4 > (end - p) // 6:
            raise refuse_length("topics", n_4)
        room -= n_4
        if room < 0:
            raise too_many("topics")
        made_5: list[OffsetFetchRequestTopic] = []
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
                raise refuse_length("partition_indexes", n_9)
            room -= n_9
            if room < 0:
                raise too_many("partition_indexes")
            partition_indexes_8 = unpack_from(f">{n_9}i", b, p)
            p += n_9 * 4
            made_5.append(OffsetFetchRequestTopic(name_6, partition_indexes_8))
        topics_3 = made_5
    return OffsetFetchRequest(group_id_1, topics_3, (), False), p


def read_6(b: Buffer, p: int) -> tuple[OffsetFetchRequest, int]:
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
    n_4 = b[p] - 1
    p += 1
    if n_4 > 126:
        n_4, p = uvarint(b, p - 1)
        n_4 -= 1
    topics_3: Sequence[OffsetFetchRequestTopic] | None = None
    if n_4 != -1:
        if n_4 < 0 or n_4 > (end - p) // 3:
            raise refuse_length("topics", n_4)
        room -= n_4
        if room < 0:
            raise too_many("topics")
        made_5: list[OffsetFetchRequestTopic] = []
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
            if n_9 < 0 or n_9 > (end - p) // 4:
                raise refuse_length("partition_indexes", n_9)
            room -= n_9
            if room < 0:
                raise too_many("partition_indexes")
            partition_indexes_8 = unpack_from(f">{n_9}i", b, p)
            p += n_9 * 4
            p = skip_tags(b, p) if b[p] else p + 1
            made_5.append(OffsetFetchRequestTopic(name_6, partition_indexes_8))
        topics_3 = made_5
    p = skip_tags(b, p) if b[p] else p + 1
    return OffsetFetchRequest(group_id_1, topics_3, (), False), p


def read_7(b: Buffer, p: int) -> tuple[OffsetFetchRequest, int]:
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
    n_4 = b[p] - 1
    p += 1
    if n_4 > 126:
        n_4, p = uvarint(b, p - 1)
        n_4 -= 1
    topics_3: Sequence[OffsetFetchRequestTopic] | None = None
    if n_4 != -1:
        if n_4 < 0 or n_4 > (end - p) // 3:
            raise refuse_length("topics", n_4)
        room -= n_4
        if room < 0:
            raise too_many("topics")
        made_5: list[OffsetFetchRequestTopic] = []
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
            if n_9 < 0 or n_9 > (end - p) // 4:
                raise refuse_length("partition_indexes", n_9)
            room -= n_9
            if room < 0:
                raise too_many("partition_indexes")
            partition_indexes_8 = unpack_from(f">{n_9}i", b, p)
            p += n_9 * 4
            p = skip_tags(b, p) if b[p] else p + 1
            made_5.append(OffsetFetchRequestTopic(name_6, partition_indexes_8))
        topics_3 = made_5
    (require_stable_10,) = _B.unpack_from(b, p)
    p += 1
    p = skip_tags(b, p) if b[p] else p + 1
    return OffsetFetchRequest(group_id_1, topics_3, (), require_stable_10), p


def read_8(b: Buffer, p: int) -> tuple[OffsetFetchRequest, int]:
    end = len(b)
    room = ELEMENTS_MAX
    n_2 = b[p] - 1
    p += 1
    if n_2 > 126:
        n_2, p = uvarint(b, p - 1)
        n_2 -= 1
    if n_2 < 0 or n_2 > (end - p) // 3:
        raise refuse_length("groups", n_2)
    room -= n_2
    if room < 0:
        raise too_many("groups")
    made_3: list[OffsetFetchRequestGroup] = []
    for _ in range(n_2):
        n_5 = b[p] - 1
        p += 1
        if n_5 > 126:
            n_5, p = uvarint(b, p - 1)
            n_5 -= 1
        if n_5 < 0 or p + n_5 > end:
            raise refuse_length("group_id", n_5)
        group_id_4 = str(b[p : p + n_5], "utf-8")
        p += n_5
        n_7 = b[p] - 1
        p += 1
        if n_7 > 126:
            n_7, p = uvarint(b, p - 1)
            n_7 -= 1
        topics_6: Sequence[OffsetFetchRequestTopics] | None = None
        if n_7 != -1:
            if n_7 < 0 or n_7 > (end - p) // 3:
                raise refuse_length("topics", n_7)
            room -= n_7
            if room < 0:
                raise too_many("topics")
            made_8: list[OffsetFetchRequestTopics] = []
            for _ in range(n_7):
                n_10 = b[p] - 1
                p += 1
                if n_10 > 126:
                    n_10, p = uvarint(b, p - 1)
                    n_10 -= 1
                if n_10 < 0 or p + n_10 > end:
                    raise refuse_length("name", n_10)
                name_9 = str(b[p : p + n_10], "utf-8")
                p += n_10
                n_12 = b[p] - 1
                p += 1
                if n_12 > 126:
                    n_12, p = uvarint(b, p - 1)
                    n_12 -= 1
                if n_12 < 0 or n_12 > (end - p) // 4:
                    raise refuse_length("partition_indexes", n_12)
                room -= n_12
                if room < 0:
                    raise too_many("partition_indexes")
                partition_indexes_11 = unpack_from(f">{n_12}i", b, p)
                p += n_12 * 4
                p = skip_tags(b, p) if b[p] else p + 1
                made_8.append(OffsetFetchRequestTopics(name_9, NO_ID, partition_indexes_11))
            topics_6 = made_8
        p = skip_tags(b, p) if b[p] else p + 1
        made_3.append(OffsetFetchRequestGroup(group_id_4, None, -1, topics_6))
    groups_1 = made_3
    (require_stable_13,) = _B.unpack_from(b, p)
    p += 1
    p = skip_tags(b, p) if b[p] else p + 1
    return OffsetFetchRequest("", (), groups_1, require_stable_13), p


def read_9(b: Buffer, p: int) -> tuple[OffsetFetchRequest, int]:
    end = len(b)
    room = ELEMENTS_MAX
    n_2 = b[p] - 1
    p += 1
    if n_2 > 126:
        n_2, p = uvarint(b, p - 1)
        n_2 -= 1
    if n_2 < 0 or n_2 > (end - p) // 8:
        raise refuse_length("groups", n_2)
    room -= n_2
    if room < 0:
        raise too_many("groups")
    made_3: list[OffsetFetchRequestGroup] = []
    for _ in range(n_2):
        n_5 = b[p] - 1
        p += 1
        if n_5 > 126:
            n_5, p = uvarint(b, p - 1)
            n_5 -= 1
        if n_5 < 0 or p + n_5 > end:
            raise refuse_length("group_id", n_5)
        group_id_4 = str(b[p : p + n_5], "utf-8")
        p += n_5
        n_7 = b[p] - 1
        p += 1
        if n_7 > 126:
            n_7, p = uvarint(b, p - 1)
            n_7 -= 1
        member_id_6: str | None = None
        if n_7 != -1:
            if n_7 < 0 or p + n_7 > end:
                raise refuse_length("member_id", n_7)
            member_id_6 = str(b[p : p + n_7], "utf-8")
            p += n_7
        (member_epoch_8,) = _i.unpack_from(b, p)
        p += 4
        n_10 = b[p] - 1
        p += 1
        if n_10 > 126:
            n_10, p = uvarint(b, p - 1)
            n_10 -= 1
        topics_9: Sequence[OffsetFetchRequestTopics] | None = None
        if n_10 != -1:
            if n_10 < 0 or n_10 > (end - p) // 3:
                raise refuse_length("topics", n_10)
            room -= n_10
            if room < 0:
                raise too_many("topics")
            made_11: list[OffsetFetchRequestTopics] = []
            for _ in range(n_10):
                n_13 = b[p] - 1
                p += 1
                if n_13 > 126:
                    n_13, p = uvarint(b, p - 1)
                    n_13 -= 1
                if n_13 < 0 or p + n_13 > end:
                    raise refuse_length("name", n_13)
                name_12 = str(b[p : p + n_13], "utf-8")
                p += n_13
                n_15 = b[p] - 1
                p += 1
                if n_15 > 126:
                    n_15, p = uvarint(b, p - 1)
                    n_15 -= 1
                if n_15 < 0 or n_15 > (end - p) // 4:
                    raise refuse_length("partition_indexes", n_15)
                room -= n_15
                if room < 0:
                    raise too_many("partition_indexes")
                partition_indexes_14 = unpack_from(f">{n_15}i", b, p)
                p += n_15 * 4
                p = skip_tags(b, p) if b[p] else p + 1
                made_11.append(OffsetFetchRequestTopics(name_12, NO_ID, partition_indexes_14))
            topics_9 = made_11
        p = skip_tags(b, p) if b[p] else p + 1
        made_3.append(OffsetFetchRequestGroup(group_id_4, member_id_6, member_epoch_8, topics_9))
    groups_1 = made_3
    (require_stable_16,) = _B.unpack_from(b, p)
    p += 1
    p = skip_tags(b, p) if b[p] else p + 1
    return OffsetFetchRequest("", (), groups_1, require_stable_16), p


def read_10(b: Buffer, p: int) -> tuple[OffsetFetchRequest, int]:
    end = len(b)
    room = ELEMENTS_MAX
    n_2 = b[p] - 1
    p += 1
    if n_2 > 126:
        n_2, p = uvarint(b, p - 1)
        n_2 -= 1
    if n_2 < 0 or n_2 > (end - p) // 8:
        raise refuse_length("groups", n_2)
    room -= n_2
    if room < 0:
        raise too_many("groups")
    made_3: list[OffsetFetchRequestGroup] = []
    for _ in range(n_2):
        n_5 = b[p] - 1
        p += 1
        if n_5 > 126:
            n_5, p = uvarint(b, p - 1)
            n_5 -= 1
        if n_5 < 0 or p + n_5 > end:
            raise refuse_length("group_id", n_5)
        group_id_4 = str(b[p : p + n_5], "utf-8")
        p += n_5
        n_7 = b[p] - 1
        p += 1
        if n_7 > 126:
            n_7, p = uvarint(b, p - 1)
            n_7 -= 1
        member_id_6: str | None = None
        if n_7 != -1:
            if n_7 < 0 or p + n_7 > end:
                raise refuse_length("member_id", n_7)
            member_id_6 = str(b[p : p + n_7], "utf-8")
            p += n_7
        (member_epoch_8,) = _i.unpack_from(b, p)
        p += 4
        n_10 = b[p] - 1
        p += 1
        if n_10 > 126:
            n_10, p = uvarint(b, p - 1)
            n_10 -= 1
        topics_9: Sequence[OffsetFetchRequestTopics] | None = None
        if n_10 != -1:
            if n_10 < 0 or n_10 > (end - p) // 18:
                raise refuse_length("topics", n_10)
            room -= n_10
            if room < 0:
                raise too_many("topics")
            made_11: list[OffsetFetchRequestTopics] = []
            for _ in range(n_10):
                (topic_id_12,) = _U.unpack_from(b, p)
                p += 16
                n_14 = b[p] - 1
                p += 1
                if n_14 > 126:
                    n_14, p = uvarint(b, p - 1)
                    n_14 -= 1
                if n_14 < 0 or n_14 > (end - p) // 4:
                    raise refuse_length("partition_indexes", n_14)
                room -= n_14
                if room < 0:
                    raise too_many("partition_indexes")
                partition_indexes_13 = unpack_from(f">{n_14}i", b, p)
                p += n_14 * 4
                p = skip_tags(b, p) if b[p] else p + 1
                made_11.append(OffsetFetchRequestTopics("", topic_id_12, partition_indexes_13))
            topics_9 = made_11
        p = skip_tags(b, p) if b[p] else p + 1
        made_3.append(OffsetFetchRequestGroup(group_id_4, member_id_6, member_epoch_8, topics_9))
    groups_1 = made_3
    (require_stable_15,) = _B.unpack_from(b, p)
    p += 1
    p = skip_tags(b, p) if b[p] else p + 1
    return OffsetFetchRequest("", (), groups_1, require_stable_15), p


def write_1(m: OffsetFetchResponse, w: Callable[[bytes], None]) -> None:
    a_1 = m.topics
    w(INT32.pack(len(a_1)))
    for o_2 in a_1:
        w(string(o_2.name))
        a_3 = o_2.partitions
        w(INT32.pack(len(a_3)))
        for o_4 in a_3:
            w(_iq.pack(o_4.partition_index, o_4.committed_offset))
            w(nullable_string(o_4.metadata))
            w(_h.pack(o_4.error_code))


def write_2(m: OffsetFetchResponse, w: Callable[[bytes], None]) -> None:
    a_1 = m.topics
    w(INT32.pack(len(a_1)))
    for o_2 in a_1:
        w(string(o_2.name))
        a_3 = o_2.partitions
        w(INT32.pack(len(a_3)))
        for o_4 in a_3:
            w(_iq.pack(o_4.partition_index, o_4.committed_offset))
            w(nullable_string(o_4.metadata))
            w(_h.pack(o_4.error_code))
    w(_h.pack(m.error_code))


def write_3(m: OffsetFetchResponse, w: Callable[[bytes], None]) -> None:
    w(_i.pack(m.throttle_time_ms))
    a_1 = m.topics
    w(INT32.pack(len(a_1)))
    for o_2 in a_1:
        w(string(o_2.name))
        a_3 = o_2.partitions
        w(INT32.pack(len(a_3)))
        for o_4 in a_3:
            w(_iq.pack(o_4.partition_index, o_4.committed_offset))
            w(nullable_string(o_4.metadata))
            w(_h.pack(o_4.error_code))
    w(_h.pack(m.error_code))


def write_5(m: OffsetFetchResponse, w: Callable[[bytes], None]) -> None:
    w(_i.pack(m.throttle_time_ms))
    a_1 = m.topics
    w(INT32.pack(len(a_1)))
    for o_2 in a_1:
        w(string(o_2.name))
        a_3 = o_2.partitions
        w(INT32.pack(len(a_3)))
        for o_4 in a_3:
            w(_iqi.pack(o_4.partition_index, o_4.committed_offset, o_4.committed_leader_epoch))
            w(nullable_string(o_4.metadata))
            w(_h.pack(o_4.error_code))
    w(_h.pack(m.error_code))


def write_6(m: OffsetFetchResponse, w: Callable[[bytes], None]) -> None:
    w(_i.pack(m.throttle_time_ms))
    a_1 = m.topics
    w(write_uvarint(len(a_1) + 1))
    for o_2 in a_1:
        w(compact_string(o_2.name))
        a_3 = o_2.partitions
        w(write_uvarint(len(a_3) + 1))
        for o_4 in a_3:
            w(_iqi.pack(o_4.partition_index, o_4.committed_offset, o_4.committed_leader_epoch))
            w(nullable_compact_string(o_4.metadata))
            w(_h.pack(o_4.error_code))
            w(b"\0")
        w(b"\0")
    w(_h.pack(m.error_code))
    w(b"\0")


def write_8(m: OffsetFetchResponse, w: Callable[[bytes], None]) -> None:
    w(_i.pack(m.throttle_time_ms))
    a_1 = m.groups
    w(write_uvarint(len(a_1) + 1))
    for o_2 in a_1:
        w(compact_string(o_2.group_id))
        a_3 = o_2.topics
        w(write_uvarint(len(a_3) + 1))
        for o_4 in a_3:
            w(compact_string(o_4.name))
            a_5 = o_4.partitions
            w(write_uvarint(len(a_5) + 1))
            for o_6 in a_5:
                w(_iqi.pack(o_6.partition_index, o_6.committed_offset, o_6.committed_leader_epoch))
                w(nullable_compact_string(o_6.metadata))
                w(_h.pack(o_6.error_code))
                w(b"\0")
            w(b"\0")
        w(_h.pack(o_2.error_code))
        w(b"\0")
    w(b"\0")


def write_10(m: OffsetFetchResponse, w: Callable[[bytes], None]) -> None:
    w(_i.pack(m.throttle_time_ms))
    a_1 = m.groups
    w(write_uvarint(len(a_1) + 1))
    for o_2 in a_1:
        w(compact_string(o_2.group_id))
        a_3 = o_2.topics
        w(write_uvarint(len(a_3) + 1))
        for o_4 in a_3:
            w(_U.pack(o_4.topic_id))
            a_5 = o_4.partitions
            w(write_uvarint(len(a_5) + 1))
            for o_6 in a_5:
                w(_iqi.pack(o_6.partition_index, o_6.committed_offset, o_6.committed_leader_epoch))
                w(nullable_compact_string(o_6.metadata))
                w(_h.pack(o_6.error_code))
                w(b"\0")
            w(b"\0")
        w(_h.pack(o_2.error_code))
        w(b"\0")
    w(b"\0")


READ: Final = {1: read_1, 2: read_2, 3: read_2, 4: read_2, 5: read_2, 6: read_6, 7: read_7, 8: read_8, 9: read_9, 10: read_10}


WRITE: Final = {1: write_1, 2: write_2, 3: write_3, 4: write_3, 5: write_5, 6: write_6, 7: write_6, 8: write_8, 9: write_8, 10: write_10}
