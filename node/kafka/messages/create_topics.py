"""Kafka's CreateTopics, made by `make kafka` from node/kafka/schema/table.txt; changes belong there."""

from collections.abc import Callable, Sequence
from struct import Struct, unpack_from
from typing import Final

from node.kafka.wire import ELEMENTS_MAX, INT16, INT32, NO_ID, Buffer, Message, compact_string, nullable_compact_string, nullable_string, refuse_length, skip_tags, string, tagged, too_many, uvarint, write_uvarint

_BbB = Struct(">?b?")
_Uh = Struct(">16sh")
_h = Struct(">h")
_i = Struct(">i")
_iB = Struct(">i?")
_ih = Struct(">ih")


class CreatableReplicaAssignment(Message):
    __slots__ = ("partition_index", "broker_ids")

    def __init__(
        self,
        partition_index: int = 0,
        broker_ids: Sequence[int] = (),
    ) -> None:
        self.partition_index = partition_index
        self.broker_ids = broker_ids


class CreatableTopicConfig(Message):
    __slots__ = ("name", "value")

    def __init__(
        self,
        name: str = "",
        value: str | None = "",
    ) -> None:
        self.name = name
        self.value = value


class CreatableTopic(Message):
    __slots__ = ("name", "num_partitions", "replication_factor", "assignments", "configs")

    def __init__(
        self,
        name: str = "",
        num_partitions: int = 0,
        replication_factor: int = 0,
        assignments: Sequence[CreatableReplicaAssignment] = (),
        configs: Sequence[CreatableTopicConfig] = (),
    ) -> None:
        self.name = name
        self.num_partitions = num_partitions
        self.replication_factor = replication_factor
        self.assignments = assignments
        self.configs = configs


class CreateTopicsRequest(Message):
    __slots__ = ("topics", "timeout_ms", "validate_only")

    def __init__(
        self,
        topics: Sequence[CreatableTopic] = (),
        timeout_ms: int = 60000,
        validate_only: bool = False,
    ) -> None:
        self.topics = topics
        self.timeout_ms = timeout_ms
        self.validate_only = validate_only


class CreatableTopicConfigs(Message):
    __slots__ = ("name", "value", "read_only", "config_source", "is_sensitive")

    def __init__(
        self,
        name: str = "",
        value: str | None = "",
        read_only: bool = False,
        config_source: int = -1,
        is_sensitive: bool = False,
    ) -> None:
        self.name = name
        self.value = value
        self.read_only = read_only
        self.config_source = config_source
        self.is_sensitive = is_sensitive


class CreatableTopicResult(Message):
    __slots__ = ("name", "topic_id", "error_code", "error_message", "topic_config_error_code", "num_partitions", "replication_factor", "configs")

    def __init__(
        self,
        name: str = "",
        topic_id: bytes = NO_ID,
        error_code: int = 0,
        error_message: str | None = "",
        topic_config_error_code: int = 0,
        num_partitions: int = -1,
        replication_factor: int = -1,
        configs: Sequence[CreatableTopicConfigs] | None = (),
    ) -> None:
        self.name = name
        self.topic_id = topic_id
        self.error_code = error_code
        self.error_message = error_message
        self.topic_config_error_code = topic_config_error_code
        self.num_partitions = num_partitions
        self.replication_factor = replication_factor
        self.configs = configs


class CreateTopicsResponse(Message):
    __slots__ = ("throttle_time_ms", "topics")

    def __init__(
        self,
        throttle_time_ms: int = 0,
        topics: Sequence[CreatableTopicResult] = (),
    ) -> None:
        self.throttle_time_ms = throttle_time_ms
        self.topics = topics


def read_0(b: Buffer, p: int) -> tuple[CreateTopicsRequest, int]:
    end = len(b)
    room = ELEMENTS_MAX
    (n_2,) = INT32.unpack_from(b, p)
    p += 4
    if n_2 < 0 or n_2 > (end - p) // 16:
        raise refuse_length("topics", n_2)
    room -= n_2
    if room < 0:
        raise too_many("topics")
    made_3: list[CreatableTopic] = []
    for _ in range(n_2):
        (n_5,) = INT16.unpack_from(b, p)
        p += 2
        if n_5 < 0 or p + n_5 > end:
            raise refuse_length("name", n_5)
        name_4 = str(b[p : p + n_5], "utf-8")
        p += n_5
        num_partitions_6, replication_factor_7 = _ih.unpack_from(b, p)
        p += 6
        (n_9,) = INT32.unpack_from(b, p)
        p += 4
        if n_9 < 0 or n_9 > (end - p) // 8:
            raise refuse_length("assignments", n_9)
        room -= n_9
        if room < 0:
            raise too_many("assignments")
        made_10: list[CreatableReplicaAssignment] = []
        for _ in range(n_9):
            (partition_index_11,) = _i.unpack_from(b, p)
            p += 4
            (n_13,) = INT32.unpack_from(b, p)
            p += 4
            if n_13 < 0 or n_13 > (end - p) // 4:
                raise refuse_length("broker_ids", n_13)
            room -= n_13
            if room < 0:
                raise too_many("broker_ids")
            broker_ids_12 = unpack_from(f">{n_13}i", b, p)
            p += n_13 * 4
            made_10.append(CreatableReplicaAssignment(partition_index_11, broker_ids_12))
        assignments_8 = made_10
        (n_15,) = INT32.unpack_from(b, p)
        p += 4
        if n_15 < 0 or n_15 > (end - p) // 4:
            raise refuse_length("configs", n_15)
        room -= n_15
        if room < 0:
            raise too_many("configs")
        made_16: list[CreatableTopicConfig] = []
        for _ in range(n_15):
            (n_18,) = INT16.unpack_from(b, p)
            p += 2
            if n_18 < 0 or p + n_18 > end:
                raise refuse_length("name", n_18)
            name_17 = str(b[p : p + n_18], "utf-8")
            p += n_18
            (n_20,) = INT16.unpack_from(b, p)
            p += 2
            value_19: str | None = None
            if n_20 != -1:
                if n_20 < 0 or p + n_20 > end:
                    raise refuse_length("value", n_20)
                value_19 = str(b[p : p + n_20], "utf-8")
                p += n_20
            made_16.append(CreatableTopicConfig(name_17, value_19))
        configs_14 = made_16
        made_3.append(CreatableTopic(name_4, num_partitions_6, replication_factor_7, assignments_8, configs_14))
    topics_1 = made_3
    (timeout_ms_21,) = _i.unpack_from(b, p)
    p += 4
    return CreateTopicsRequest(topics_1, timeout_ms_21, False), p


def read_1(b: Buffer, p: int) -> tuple[CreateTopicsRequest, int]:
    end = len(b)
    room = ELEMENTS_MAX
    (n_2,) = INT32.unpack_from(b, p)
    p += 4
    if n_2 < 0 or n_2 > (end - p) // 16:
        raise refuse_length("topics", n_2)
    room -= n_2
    if room < 0:
        raise too_many("topics")
    made_3: list[CreatableTopic] = []
    for _ in range(n_2):
        (n_5,) = INT16.unpack_from(b, p)
        p += 2
        if n_5 < 0 or p + n_5 > end:
            raise refuse_length("name", n_5)
        name_4 = str(b[p : p + n_5], "utf-8")
        p += n_5
        num_partitions_6, replication_factor_7 = _ih.unpack_from(b, p)
        p += 6
        (n_9,) = INT32.unpack_from(b, p)
        p += 4
        if n_9 < 0 or n_9 > (end - p) // 8:
            raise refuse_length("assignments", n_9)
        room -= n_9
        if room < 0:
            raise too_many("assignments")
        made_10: list[CreatableReplicaAssignment] = []
        for _ in range(n_9):
            (partition_index_11,) = _i.unpack_from(b, p)
            p += 4
            (n_13,) = INT32.unpack_from(b, p)
            p += 4
            if n_13 < 0 or n_13 > (end - p) // 4:
                raise refuse_length("broker_ids", n_13)
            room -= n_13
            if room < 0:
                raise too_many("broker_ids")
            broker_ids_12 = unpack_from(f">{n_13}i", b, p)
            p += n_13 * 4
            made_10.append(CreatableReplicaAssignment(partition_index_11, broker_ids_12))
        assignments_8 = made_10
        (n_15,) = INT32.unpack_from(b, p)
        p += 4
        if n_15 < 0 or n_15 > (end - p) // 4:
            raise refuse_length("configs", n_15)
        room -= n_15
        if room < 0:
            raise too_many("configs")
        made_16: list[CreatableTopicConfig] = []
        for _ in range(n_15):
            (n_18,) = INT16.unpack_from(b, p)
            p += 2
            if n_18 < 0 or p + n_18 > end:
                raise refuse_length("name", n_18)
            name_17 = str(b[p : p + n_18], "utf-8")
            p += n_18
            (n_20,) = INT16.unpack_from(b, p)
            p += 2
            value_19: str | None = None
            if n_20 != -1:
                if n_20 < 0 or p + n_20 > end:
                    raise refuse_length("value", n_20)
                value_19 = str(b[p : p + n_20], "utf-8")
                p += n_20
            made_16.append(CreatableTopicConfig(name_17, value_19))
        configs_14 = made_16
        made_3.append(CreatableTopic(name_4, num_partitions_6, replication_factor_7, assignments_8, configs_14))
    topics_1 = made_3
    timeout_ms_21, validate_only_22 = _iB.unpack_from(b, p)
    p += 5
    return CreateTopicsRequest(topics_1, timeout_ms_21, validate_only_22), p


def read_5(b: Buffer, p: int) -> tuple[CreateTopicsRequest, int]:
    end = len(b)
    room = ELEMENTS_MAX
    n_2 = b[p] - 1
    p += 1
    if n_2 > 126:
        n_2, p = uvarint(b, p - 1)
        n_2 -= 1
    if n_2 < 0 or n_2 > (end - p) // 10:
        raise refuse_length("topics", n_2)
    room -= n_2
    if room < 0:
        raise too_many("topics")
    made_3: list[CreatableTopic] = []
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
        num_partitions_6, replication_factor_7 = _ih.unpack_from(b, p)
        p += 6
        n_9 = b[p] - 1
        p += 1
        if n_9 > 126:
            n_9, p = uvarint(b, p - 1)
            n_9 -= 1
        if n_9 < 0 or n_9 > (end - p) // 6:
            raise refuse_length("assignments", n_9)
        room -= n_9
        if room < 0:
            raise too_many("assignments")
        made_10: list[CreatableReplicaAssignment] = []
        for _ in range(n_9):
            (partition_index_11,) = _i.unpack_from(b, p)
            p += 4
            n_13 = b[p] - 1
            p += 1
            if n_13 > 126:
                n_13, p = uvarint(b, p - 1)
                n_13 -= 1
            if n_13 < 0 or n_13 > (end - p) // 4:
                raise refuse_length("broker_ids", n_13)
            room -= n_13
            if room < 0:
                raise too_many("broker_ids")
            broker_ids_12 = unpack_from(f">{n_13}i", b, p)
            p += n_13 * 4
            p = skip_tags(b, p) if b[p] else p + 1
            made_10.append(CreatableReplicaAssignment(partition_index_11, broker_ids_12))
        assignments_8 = made_10
        n_15 = b[p] - 1
        p += 1
        if n_15 > 126:
            n_15, p = uvarint(b, p - 1)
            n_15 -= 1
        if n_15 < 0 or n_15 > (end - p) // 3:
            raise refuse_length("configs", n_15)
        room -= n_15
        if room < 0:
            raise too_many("configs")
        made_16: list[CreatableTopicConfig] = []
        for _ in range(n_15):
            n_18 = b[p] - 1
            p += 1
            if n_18 > 126:
                n_18, p = uvarint(b, p - 1)
                n_18 -= 1
            if n_18 < 0 or p + n_18 > end:
                raise refuse_length("name", n_18)
            name_17 = str(b[p : p + n_18], "utf-8")
            p += n_18
            n_20 = b[p] - 1
            p += 1
            if n_20 > 126:
                n_20, p = uvarint(b, p - 1)
                n_20 -= 1
            value_19: str | None = None
            if n_20 != -1:
                if n_20 < 0 or p + n_20 > end:
                    raise refuse_length("value", n_20)
                value_19 = str(b[p : p + n_20], "utf-8")
                p += n_20
            p = skip_tags(b, p) if b[p] else p + 1
            made_16.append(CreatableTopicConfig(name_17, value_19))
        configs_14 = made_16
        p = skip_tags(b, p) if b[p] else p + 1
        made_3.append(CreatableTopic(name_4, num_partitions_6, replication_factor_7, assignments_8, configs_14))
    topics_1 = made_3
    timeout_ms_21, validate_only_22 = _iB.unpack_from(b, p)
    p += 5
    p = skip_tags(b, p) if b[p] else p + 1
    return CreateTopicsRequest(topics_1, timeout_ms_21, validate_only_22), p


def write_0(m: CreateTopicsResponse, w: Callable[[bytes], None]) -> None:
    a_1 = m.topics
    w(INT32.pack(len(a_1)))
    for o_2 in a_1:
        w(string(o_2.name))
        w(_h.pack(o_2.error_code))


def write_1(m: CreateTopicsResponse, w: Callable[[bytes], None]) -> None:
    a_1 = m.topics
    w(INT32.pack(len(a_1)))
    for o_2 in a_1:
        w(string(o_2.name))
        w(_h.pack(o_2.error_code))
        w(nullable_string(o_2.error_message))


def write_2(m: CreateTopicsResponse, w: Callable[[bytes], None]) -> None:
    w(_i.pack(m.throttle_time_ms))
    a_1 = m.topics
    w(INT32.pack(len(a_1)))
    for o_2 in a_1:
        w(string(o_2.name))
        w(_h.pack(o_2.error_code))
        w(nullable_string(o_2.error_message))


def write_5(m: CreateTopicsResponse, w: Callable[[bytes], None]) -> None:
    w(_i.pack(m.throttle_time_ms))
    a_1 = m.topics
    w(write_uvarint(len(a_1) + 1))
    for o_2 in a_1:
        w(compact_string(o_2.name))
        w(_h.pack(o_2.error_code))
        w(nullable_compact_string(o_2.error_message))
        w(_ih.pack(o_2.num_partitions, o_2.replication_factor))
        a_3 = o_2.configs
        if a_3 is None:
            w(b"\0")
        else:
            w(write_uvarint(len(a_3) + 1))
            for o_4 in a_3:
                w(compact_string(o_4.name))
                w(nullable_compact_string(o_4.value))
                w(_BbB.pack(o_4.read_only, o_4.config_source, o_4.is_sensitive))
                w(b"\0")
        tags_5: list[tuple[int, bytes]] = []
        if o_2.topic_config_error_code:
            parts_6: list[bytes] = []
            parts_6.append(_h.pack(o_2.topic_config_error_code))
            tags_5.append((0, b"".join(parts_6)))
        w(tagged(tags_5))
    w(b"\0")


def write_7(m: CreateTopicsResponse, w: Callable[[bytes], None]) -> None:
    w(_i.pack(m.throttle_time_ms))
    a_1 = m.topics
    w(write_uvarint(len(a_1) + 1))
    for o_2 in a_1:
        w(compact_string(o_2.name))
        w(_Uh.pack(o_2.topic_id, o_2.error_code))
        w(nullable_compact_string(o_2.error_message))
        w(_ih.pack(o_2.num_partitions, o_2.replication_factor))
        a_3 = o_2.configs
        if a_3 is None:
            w(b"\0")
        else:
            w(write_uvarint(len(a_3) + 1))
            for o_4 in a_3:
                w(compact_string(o_4.name))
                w(nullable_compact_string(o_4.value))
                w(_BbB.pack(o_4.read_only, o_4.config_source, o_4.is_sensitive))
                w(b"\0")
        tags_5: list[tuple[int, bytes]] = []
        if o_2.topic_config_error_code:
            parts_6: list[bytes] = []
            parts_6.append(_h.pack(o_2.topic_config_error_code))
            tags_5.append((0, b"".join(parts_6)))
        w(tagged(tags_5))
    w(b"\0")


READ: Final = {0: read_0, 1: read_1, 2: read_1, 3: read_1, 4: read_1, 5: read_5, 6: read_5, 7: read_5}


WRITE: Final = {0: write_0, 1: write_1, 2: write_2, 3: write_2, 4: write_2, 5: write_5, 6: write_5, 7: write_7}
