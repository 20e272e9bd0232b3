"""Kafka's DescribeTopicPartitions, made by `make kafka` from node/kafka/schema/table.txt; changes belong there."""

from collections.abc import Callable, Sequence
from struct import Struct, pack
from typing import Final

from node.kafka.wire import ELEMENTS_MAX, NO_ID, Buffer, Message, compact_string, nullable_compact_string, refuse_length, skip_tags, too_many, uvarint, write_uvarint

_UB = Struct(">16s?")
_h = Struct(">h")
_hiii = Struct(">hiii")
_i = Struct(">i")


class TopicRequest(Message):
    __slots__ = ("name",)

    def __init__(
        self,
        name: str = "",
    ) -> None:
        self.name = name


class Cursor(Message):
    __slots__ = ("topic_name", "partition_index")

    def __init__(
        self,
        topic_name: str = "",
        partition_index: int = 0,
    ) -> None:
        self.topic_name = topic_name
        self.partition_index = partition_index


class DescribeTopicPartitionsRequest(Message):
    __slots__ = ("topics", "response_partition_limit", "cursor")

    def __init__(
        self,
        topics: Sequence[TopicRequest] = (),
        response_partition_limit: int = 2000,
        cursor: Cursor | None = None,
    ) -> None:
        self.topics = topics
        self.response_partition_limit = response_partition_limit
        self.cursor = cursor


class DescribeTopicPartitionsResponsePartition(Message):
    __slots__ = ("error_code", "partition_index", "leader_id", "leader_epoch", "replica_nodes", "isr_nodes", "eligible_leader_replicas", "last_known_elr", "offline_replicas")

    def __init__(
        self,
        error_code: int = 0,
        partition_index: int = 0,
        leader_id: int = 0,
        leader_epoch: int = -1,
        replica_nodes: Sequence[int] = (),
        isr_nodes: Sequence[int] = (),
        eligible_leader_replicas: Sequence[int] | None = None,
        last_known_elr: Sequence[int] | None = None,
        offline_replicas: Sequence[int] = (),
    ) -> None:
        self.error_code = error_code
        self.partition_index = partition_index
        self.leader_id = leader_id
        self.leader_epoch = leader_epoch
        self.replica_nodes = replica_nodes
        self.isr_nodes = isr_nodes
        self.eligible_leader_replicas = eligible_leader_replicas
        self.last_known_elr = last_known_elr
        self.offline_replicas = offline_replicas


class DescribeTopicPartitionsResponseTopic(Message):
    __slots__ = ("error_code", "name", "topic_id", "is_internal", "partitions", "topic_authorized_operations")

    def __init__(
        self,
        error_code: int = 0,
        name: str | None = "",
        topic_id: bytes = NO_ID,
        is_internal: bool = False,
        partitions: Sequence[DescribeTopicPartitionsResponsePartition] = (),
        topic_authorized_operations: int = -2147483648,
    ) -> None:
        self.error_code = error_code
        self.name = name
        self.topic_id = topic_id
        self.is_internal = is_internal
        self.partitions = partitions
        self.topic_authorized_operations = topic_authorized_operations


class DescribeTopicPartitionsResponse(Message):
    __slots__ = ("throttle_time_ms", "topics", "next_cursor")

    def __init__(
        self,
        throttle_time_ms: int = 0,
        topics: Sequence[DescribeTopicPartitionsResponseTopic] = (),
        next_cursor: Cursor | None = None,
    ) -> None:
        self.throttle_time_ms = throttle_time_ms
        self.topics = topics
        self.next_cursor = next_cursor


def read_0(b: Buffer, p: int) -> tuple[DescribeTopicPartitionsRequest, int]:
    end = len(b)
    room = ELEMENTS_MAX
    n_2 = b[p] - 1
    p += 1
    if n_2 > 126:
        n_2, p = uvarint(b, p - 1)
        n_2 -= 1
    if n_2 < 0 or n_2 > (end - p) // 2:
        raise refuse_length("topics", n_2)
    room -= n_2
    if room < 0:
        raise too_many("topics")
    made_3: list[TopicRequest] = []
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
        p = skip_tags(b, p) if b[p] else p + 1
        made_3.append(TopicRequest(name_4))
    topics_1 = made_3
    (response_partition_limit_6,) = _i.unpack_from(b, p)
    p += 4
    cursor_7: Cursor | None = None
    p += 1
    if b[p - 1] != 255:
        n_9 = b[p] - 1
        p += 1
        if n_9 > 126:
            n_9, p = uvarint(b, p - 1)
            n_9 -= 1
        if n_9 < 0 or p + n_9 > end:
            raise refuse_length("topic_name", n_9)
        topic_name_8 = str(b[p : p + n_9], "utf-8")
        p += n_9
        (partition_index_10,) = _i.unpack_from(b, p)
        p += 4
        p = skip_tags(b, p) if b[p] else p + 1
        cursor_7 = Cursor(topic_name_8, partition_index_10)
    p = skip_tags(b, p) if b[p] else p + 1
    return DescribeTopicPartitionsRequest(topics_1, response_partition_limit_6, cursor_7), p


def write_0(m: DescribeTopicPartitionsResponse, w: Callable[[bytes], None]) -> None:
    w(_i.pack(m.throttle_time_ms))
    a_1 = m.topics
    w(write_uvarint(len(a_1) + 1))
    for o_2 in a_1:
        w(_h.pack(o_2.error_code))
        w(nullable_compact_string(o_2.name))
        w(_UB.pack(o_2.topic_id, o_2.is_internal))
        a_3 = o_2.partitions
        w(write_uvarint(len(a_3) + 1))
        for o_4 in a_3:
            w(_hiii.pack(o_4.error_code, o_4.partition_index, o_4.leader_id, o_4.leader_epoch))
            a_5 = o_4.replica_nodes
            w(write_uvarint(len(a_5) + 1))
            w(pack(f">{len(a_5)}i", *a_5))
            a_6 = o_4.isr_nodes
            w(write_uvarint(len(a_6) + 1))
            w(pack(f">{len(a_6)}i", *a_6))
            a_7 = o_4.eligible_leader_replicas
            if a_7 is None:
                w(b"\0")
            else:
                w(write_uvarint(len(a_7) + 1))
                w(pack(f">{len(a_7)}i", *a_7))
            a_8 = o_4.last_known_elr
            if a_8 is None:
                w(b"\0")
            else:
                w(write_uvarint(len(a_8) + 1))
                w(pack(f">{len(a_8)}i", *a_8))
            a_9 = o_4.offline_replicas
            w(write_uvarint(len(a_9) + 1))
            w(pack(f">{len(a_9)}i", *a_9))
            w(b"\0")
        w(_i.pack(o_2.topic_authorized_operations))
        w(b"\0")
    o_10 = m.next_cursor
    w(b"\xff" if o_10 is None else b"\1")
    if o_10 is not None:
        w(compact_string(o_10.topic_name))
        w(_i.pack(o_10.partition_index))
        w(b"\0")
    w(b"\0")


READ: Final = {0: read_0}


WRITE: Final = {0: write_0}
