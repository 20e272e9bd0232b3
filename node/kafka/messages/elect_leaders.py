"""Kafka's ElectLeaders, made by `make kafka` from node/kafka/schema/table.txt; changes belong there."""

from collections.abc import Callable, Sequence
from struct import Struct, unpack_from
from typing import Final

from node.kafka.wire import ELEMENTS_MAX, INT16, INT32, Buffer, Message, compact_string, nullable_compact_string, nullable_string, refuse_length, skip_tags, string, too_many, uvarint, write_uvarint

_b = Struct(">b")
_i = Struct(">i")
_ih = Struct(">ih")


class TopicPartitions(Message):
    __slots__ = ("topic", "partitions")

    def __init__(
        self,
        topic: str = "",
        partitions: Sequence[int] = (),
    ) -> None:
        self.topic = topic
        self.partitions = partitions


class ElectLeadersRequest(Message):
    __slots__ = ("election_type", "topic_partitions", "timeout_ms")

    def __init__(
        self,
        election_type: int = 0,
        topic_partitions: Sequence[TopicPartitions] | None = (),
        timeout_ms: int = 60000,
    ) -> None:
        self.election_type = election_type
        self.topic_partitions = topic_partitions
        self.timeout_ms = timeout_ms


class PartitionResult(Message):
    __slots__ = ("partition_id", "error_code", "error_message")

    def __init__(
        self,
        partition_id: int = 0,
        error_code: int = 0,
        error_message: str | None = "",
    ) -> None:
        self.partition_id = partition_id
        self.error_code = error_code
        self.error_message = error_message


class ReplicaElectionResult(Message):
    __slots__ = ("topic", "partition_result")

    def __init__(
        self,
        topic: str = "",
        partition_result: Sequence[PartitionResult] = (),
    ) -> None:
        self.topic = topic
        self.partition_result = partition_result


class ElectLeadersResponse(Message):
    __slots__ = ("throttle_time_ms", "error_code", "replica_election_results")

    def __init__(
        self,
        throttle_time_ms: int = 0,
        error_code: int = 0,
        replica_election_results: Sequence[ReplicaElectionResult] = (),
    ) -> None:
        self.throttle_time_ms = throttle_time_ms
        self.error_code = error_code
        self.replica_election_results = replica_election_results


def read_0(b: Buffer, p: int) -> tuple[ElectLeadersRequest, int]:
    end = len(b)
    room = ELEMENTS_MAX
    (n_2,) = INT32.unpack_from(b, p)
    p += 4
    topic_partitions_1: Sequence[TopicPartitions] | None = None
    if n_2 != -1:
        if n_2 < 0 or n_2 > (end - p) // 6:
            raise refuse_length("topic_partitions", n_2)
        room -= n_2
        if room < 0:
            raise too_many("topic_partitions")
        made_3: list[TopicPartitions] = []
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
            made_3.append(TopicPartitions(topic_4, partitions_6))
        topic_partitions_1 = made_3
    (timeout_ms_8,) = _i.unpack_from(b, p)
    p += 4
    return ElectLeadersRequest(0, topic_partitions_1, timeout_ms_8), p


def read_1(b: Buffer, p: int) -> tuple[ElectLeadersRequest, int]:
    end = len(b)
    room = ELEMENTS_MAX
    (election_type_1,) = _b.unpack_from(b, p)
    p += 1
    (n_3,) = INT32.unpack_from(b, p)
    p += 4
    topic_partitions_2: Sequence[TopicPartitions] | None = None
    if n_3 != -1:
        if n_3 < 0 or n_3 > (end - p) // 6:
            raise refuse_length("topic_partitions", n_3)
        room -= n_3
        if room < 0:
            raise too_many("topic_partitions")
        made_4: list[TopicPartitions] = []
        for _ in range(n_3):
            (n_6,) = INT16.unpack_from(b, p)
            p += 2
            if n_6 < 0 or p + n_6 > end:
                raise refuse_length("topic", n_6)
            topic_5 = str(b[p : p + n_6], "utf-8")
            p += n_6
            (n_8,) = INT32.unpack_from(b, p)
            p += 4
            if n_8 < 0 or n_8 > (end - p) // 4:
                raise refuse_length("partitions", n_8)
            room -= n_8
            if room < 0:
                raise too_many("partitions")
            partitions_7 = unpack_from(f">{n_8}i", b, p)
            p += n_8 * 4
            made_4.append(TopicPartitions(topic_5, partitions_7))
        topic_partitions_2 = made_4
    (timeout_ms_9,) = _i.unpack_from(b, p)
    p += 4
    return ElectLeadersRequest(election_type_1, topic_partitions_2, timeout_ms_9), p


def read_2(b: Buffer, p: int) -> tuple[ElectLeadersRequest, int]:
    end = len(b)
    room = ELEMENTS_MAX
    (election_type_1,) = _b.unpack_from(b, p)
    p += 1
    n_3 = b[p] - 1
    p += 1
    if n_3 > 126:
        n_3, p = uvarint(b, p - 1)
        n_3 -= 1
    topic_partitions_2: Sequence[TopicPartitions] | None = None
    if n_3 != -1:
        if n_3 < 0 or n_3 > (end - p) // 3:
            raise refuse_length("topic_partitions", n_3)
        room -= n_3
        if room < 0:
            raise too_many("topic_partitions")
        made_4: list[TopicPartitions] = []
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
            if n_8 < 0 or n_8 > (end - p) // 4:
                raise refuse_length("partitions", n_8)
            room -= n_8
            if room < 0:
                raise too_many("partitions")
            partitions_7 = unpack_from(f">{n_8}i", b, p)
            p += n_8 * 4
            p = skip_tags(b, p) if b[p] else p + 1
            made_4.append(TopicPartitions(topic_5, partitions_7))
        topic_partitions_2 = made_4
    (timeout_ms_9,) = _i.unpack_from(b, p)
    p += 4
    p = skip_tags(b, p) if b[p] else p + 1
    return ElectLeadersRequest(election_type_1, topic_partitions_2, timeout_ms_9), p


def write_0(m: ElectLeadersResponse, w: Callable[[bytes], None]) -> None:
    w(_i.pack(m.throttle_time_ms))
    a_1 = m.replica_election_results
    w(INT32.pack(len(a_1)))
    for o_2 in a_1:
        w(string(o_2.topic))
        a_3 = o_2.partition_result
        w(INT32.pack(len(a_3)))
        for o_4 in a_3:
            w(_ih.pack(o_4.partition_id, o_4.error_code))
            w(nullable_string(o_4.error_message))


def write_1(m: ElectLeadersResponse, w: Callable[[bytes], None]) -> None:
    w(_ih.pack(m.throttle_time_ms, m.error_code))
    a_1 = m.replica_election_results
    w(INT32.pack(len(a_1)))
    for o_2 in a_1:
        w(string(o_2.topic))
        a_3 = o_2.partition_result
        w(INT32.pack(len(a_3)))
        for o_4 in a_3:
            w(_ih.pack(o_4.partition_id, o_4.error_code))
            w(nullable_string(o_4.error_message))


def write_2(m: ElectLeadersResponse, w: Callable[[bytes], None]) -> None:
    w(_ih.pack(m.throttle_time_ms, m.error_code))
    a_1 = m.replica_election_results
    w(write_uvarint(len(a_1) + 1))
    for o_2 in a_1:
        w(compact_string(o_2.topic))
        a_3 = o_2.partition_result
        w(write_uvarint(len(a_3) + 1))
        for o_4 in a_3:
            w(_ih.pack(o_4.partition_id, o_4.error_code))
            w(nullable_compact_string(o_4.error_message))
            w(b"\0")
        w(b"\0")
    w(b"\0")


READ: Final = {0: read_0, 1: read_1, 2: read_2}


WRITE: Final = {0: write_0, 1: write_1, 2: write_2}
