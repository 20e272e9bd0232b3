"""Kafka's DescribeQuorum, made by `make kafka` from node/kafka/schema/table.txt; changes belong there."""

from collections.abc import Callable, Sequence
from struct import Struct
from typing import Final

from node.kafka.wire import ELEMENTS_MAX, NO_ID, Buffer, Message, compact_string, nullable_compact_string, refuse_length, skip_tags, too_many, uvarint, write_uvarint

_H = Struct(">H")
_h = Struct(">h")
_i = Struct(">i")
_iUqqq = Struct(">i16sqqq")
_ih = Struct(">ih")
_ihiiq = Struct(">ihiiq")
_iiq = Struct(">iiq")
_iq = Struct(">iq")
_iqqq = Struct(">iqqq")


class DescribedPartition(Message):
    __slots__ = ("partition_index",)

    def __init__(
        self,
        partition_index: int = 0,
    ) -> None:
        self.partition_index = partition_index


class DescribedTopic(Message):
    __slots__ = ("topic_name", "partitions")

    def __init__(
        self,
        topic_name: str = "",
        partitions: Sequence[DescribedPartition] = (),
    ) -> None:
        self.topic_name = topic_name
        self.partitions = partitions


class DescribeQuorumRequest(Message):
    __slots__ = ("topics",)

    def __init__(
        self,
        topics: Sequence[DescribedTopic] = (),
    ) -> None:
        self.topics = topics


class ReplicaState(Message):
    __slots__ = ("replica_id", "replica_directory_id", "log_end_offset", "last_fetch_timestamp", "last_caught_up_timestamp")

    def __init__(
        self,
        replica_id: int = 0,
        replica_directory_id: bytes = NO_ID,
        log_end_offset: int = 0,
        last_fetch_timestamp: int = -1,
        last_caught_up_timestamp: int = -1,
    ) -> None:
        self.replica_id = replica_id
        self.replica_directory_id = replica_directory_id
        self.log_end_offset = log_end_offset
        self.last_fetch_timestamp = last_fetch_timestamp
        self.last_caught_up_timestamp = last_caught_up_timestamp


class PartitionData(Message):
    __slots__ = ("partition_index", "error_code", "error_message", "leader_id", "leader_epoch", "high_watermark", "current_voters", "observers")

    def __init__(
        self,
        partition_index: int = 0,
        error_code: int = 0,
        error_message: str | None = "",
        leader_id: int = 0,
        leader_epoch: int = 0,
        high_watermark: int = 0,
        current_voters: Sequence[ReplicaState] = (),
        observers: Sequence[ReplicaState] = (),
    ) -> None:
        self.partition_index = partition_index
        self.error_code = error_code
        self.error_message = error_message
        self.leader_id = leader_id
        self.leader_epoch = leader_epoch
        self.high_watermark = high_watermark
        self.current_voters = current_voters
        self.observers = observers


class TopicData(Message):
    __slots__ = ("topic_name", "partitions")

    def __init__(
        self,
        topic_name: str = "",
        partitions: Sequence[PartitionData] = (),
    ) -> None:
        self.topic_name = topic_name
        self.partitions = partitions


class Listener(Message):
    __slots__ = ("name", "host", "port")

    def __init__(
        self,
        name: str = "",
        host: str = "",
        port: int = 0,
    ) -> None:
        self.name = name
        self.host = host
        self.port = port


class Node(Message):
    __slots__ = ("node_id", "listeners")

    def __init__(
        self,
        node_id: int = 0,
        listeners: Sequence[Listener] = (),
    ) -> None:
        self.node_id = node_id
        self.listeners = listeners


class DescribeQuorumResponse(Message):
    __slots__ = ("error_code", "error_message", "topics", "nodes")

    def __init__(
        self,
        error_code: int = 0,
        error_message: str | None = "",
        topics: Sequence[TopicData] = (),
        nodes: Sequence[Node] = (),
    ) -> None:
        self.error_code = error_code
        self.error_message = error_message
        self.topics = topics
        self.nodes = nodes


def read_0(b: Buffer, p: int) -> tuple[DescribeQuorumRequest, int]:
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
    made_3: list[DescribedTopic] = []
    for _ in range(n_2):
        n_5 = b[p] - 1
        p += 1
        if n_5 > 126:
            n_5, p = uvarint(b, p - 1)
            n_5 -= 1
        if n_5 < 0 or p + n_5 > end:
            raise refuse_length("topic_name", n_5)
        topic_name_4 = str(b[p : p + n_5], "utf-8")
        p += n_5
        n_7 = b[p] - 1
        p += 1
        if n_7 > 126:
            n_7, p = uvarint(b, p - 1)
            n_7 -= 1
        if n_7 < 0 or n_7 > (end - p) // 5:
            raise refuse_length("partitions", n_7)
        room -= n_7
        if room < 0:
            raise too_many("partitions")
        made_8: list[DescribedPartition] = []
        for _ in range(n_7):
            (partition_index_9,) = _i.unpack_from(b, p)
            p += 4
            p = skip_tags(b, p) if b[p] else p + 1
            made_8.append(DescribedPartition(partition_index_9))
        partitions_6 = made_8
        p = skip_tags(b, p) if b[p] else p + 1
        made_3.append(DescribedTopic(topic_name_4, partitions_6))
    topics_1 = made_3
    p = skip_tags(b, p) if b[p] else p + 1
    return DescribeQuorumRequest(topics_1), p


def write_0(m: DescribeQuorumResponse, w: Callable[[bytes], None]) -> None:
    w(_h.pack(m.error_code))
    a_1 = m.topics
    w(write_uvarint(len(a_1) + 1))
    for o_2 in a_1:
        w(compact_string(o_2.topic_name))
        a_3 = o_2.partitions
        w(write_uvarint(len(a_3) + 1))
        for o_4 in a_3:
            w(_ihiiq.pack(o_4.partition_index, o_4.error_code, o_4.leader_id, o_4.leader_epoch, o_4.high_watermark))
            a_5 = o_4.current_voters
            w(write_uvarint(len(a_5) + 1))
            for o_6 in a_5:
                w(_iq.pack(o_6.replica_id, o_6.log_end_offset))
                w(b"\0")
            a_7 = o_4.observers
            w(write_uvarint(len(a_7) + 1))
            for o_8 in a_7:
                w(_iq.pack(o_8.replica_id, o_8.log_end_offset))
                w(b"\0")
            w(b"\0")
        w(b"\0")
    w(b"\0")


def write_1(m: DescribeQuorumResponse, w: Callable[[bytes], None]) -> None:
    w(_h.pack(m.error_code))
    a_1 = m.topics
    w(write_uvarint(len(a_1) + 1))
    for o_2 in a_1:
        w(compact_string(o_2.topic_name))
        a_3 = o_2.partitions
        w(write_uvarint(len(a_3) + 1))
        for o_4 in a_3:
            w(_ihiiq.pack(o_4.partition_index, o_4.error_code, o_4.leader_id, o_4.leader_epoch, o_4.high_watermark))
            a_5 = o_4.current_voters
            w(write_uvarint(len(a_5) + 1))
            for o_6 in a_5:
                w(_iqqq.pack(o_6.replica_id, o_6.log_end_offset, o_6.last_fetch_timestamp, o_6.last_caught_up_timestamp))
                w(b"\0")
            a_7 = o_4.observers
            w(write_uvarint(len(a_7) + 1))
            for o_8 in a_7:
                w(_iqqq.pack(o_8.replica_id, o_8.log_end_offset, o_8.last_fetch_timestamp, o_8.last_caught_up_timestamp))
                w(b"\0")
            w(b"\0")
        w(b"\0")
    w(b"\0")


def write_2(m: DescribeQuorumResponse, w: Callable[[bytes], None]) -> None:
    w(_h.pack(m.error_code))
    w(nullable_compact_string(m.error_message))
    a_1 = m.topics
    w(write_uvarint(len(a_1) + 1))
    for o_2 in a_1:
        w(compact_string(o_2.topic_name))
        a_3 = o_2.partitions
        w(write_uvarint(len(a_3) + 1))
        for o_4 in a_3:
            w(_ih.pack(o_4.partition_index, o_4.error_code))
            w(nullable_compact_string(o_4.error_message))
            w(_iiq.pack(o_4.leader_id, o_4.leader_epoch, o_4.high_watermark))
            a_5 = o_4.current_voters
            w(write_uvarint(len(a_5) + 1))
            for o_6 in a_5:
                w(_iUqqq.pack(o_6.replica_id, o_6.replica_directory_id, o_6.log_end_offset, o_6.last_fetch_timestamp, o_6.last_caught_up_timestamp))
                w(b"\0")
            a_7 = o_4.observers
            w(write_uvarint(len(a_7) + 1))
            for o_8 in a_7:
                w(_iUqqq.pack(o_8.replica_id, o_8.replica_directory_id, o_8.log_end_offset, o_8.last_fetch_timestamp, o_8.last_caught_up_timestamp))
                w(b"\0")
            w(b"\0")
        w(b"\0")
    a_9 = m.nodes
    w(write_uvarint(len(a_9) + 1))
    for o_10 in a_9:
        w(_i.pack(o_10.node_id))
        a_11 = o_10.listeners
        w(write_uvarint(len(a_11) + 1))
        for o_12 in a_11:
            w(compact_string(o_12.name))
            w(compact_string(o_12.host))
            w(_H.pack(o_12.port))
            w(b"\0")
        w(b"\0")
    w(b"\0")


READ: Final = {0: read_0, 1: read_0, 2: read_0}


WRITE: Final = {0: write_0, 1: write_1, 2: write_2}
