"""Kafka's DescribeProducers, made by `make kafka` from node/kafka/schema/table.txt; changes belong there."""

from collections.abc import Callable, Sequence
from struct import Struct, unpack_from
from typing import Final

from node.kafka.wire import ELEMENTS_MAX, Buffer, Message, compact_string, nullable_compact_string, refuse_length, skip_tags, too_many, uvarint, write_uvarint

_i = Struct(">i")
_ih = Struct(">ih")
_qiiqiq = Struct(">qiiqiq")


class TopicRequest(Message):
    __slots__ = ("name", "partition_indexes")

    def __init__(
        self,
        name: str = "",
        partition_indexes: Sequence[int] = (),
    ) -> None:
        self.name = name
        self.partition_indexes = partition_indexes


class DescribeProducersRequest(Message):
    __slots__ = ("topics",)

    def __init__(
        self,
        topics: Sequence[TopicRequest] = (),
    ) -> None:
        self.topics = topics


class ProducerState(Message):
    __slots__ = ("producer_id", "producer_epoch", "last_sequence", "last_timestamp", "coordinator_epoch", "current_txn_start_offset")

    def __init__(
        self,
        producer_id: int = 0,
        producer_epoch: int = 0,
        last_sequence: int = -1,
        last_timestamp: int = -1,
        coordinator_epoch: int = 0,
        current_txn_start_offset: int = -1,
    ) -> None:
        self.producer_id = producer_id
        self.producer_epoch = producer_epoch
        self.last_sequence = last_sequence
        self.last_timestamp = last_timestamp
        self.coordinator_epoch = coordinator_epoch
        self.current_txn_start_offset = current_txn_start_offset


class PartitionResponse(Message):
    __slots__ = ("partition_index", "error_code", "error_message", "active_producers")

    def __init__(
        self,
        partition_index: int = 0,
        error_code: int = 0,
        error_message: str | None = None,
        active_producers: Sequence[ProducerState] = (),
    ) -> None:
        self.partition_index = partition_index
        self.error_code = error_code
        self.error_message = error_message
        self.active_producers = active_producers


class TopicResponse(Message):
    __slots__ = ("name", "partitions")

    def __init__(
        self,
        name: str = "",
        partitions: Sequence[PartitionResponse] = (),
    ) -> None:
        self.name = name
        self.partitions = partitions


class DescribeProducersResponse(Message):
    __slots__ = ("throttle_time_ms", "topics")

    def __init__(
        self,
        throttle_time_ms: int = 0,
        topics: Sequence[TopicResponse] = (),
    ) -> None:
        self.throttle_time_ms = throttle_time_ms
        self.topics = topics


def read_0(b: Buffer, p: int) -> tuple[DescribeProducersRequest, int]:
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
        n_7 = b[p] - 1
        p += 1
        if n_7 > 126:
            n_7, p = uvarint(b, p - 1)
            n_7 -= 1
        if n_7 < 0 or n_7 > (end - p) // 4:
            raise refuse_length("partition_indexes", n_7)
        room -= n_7
        if room < 0:
            raise too_many("partition_indexes")
        partition_indexes_6 = unpack_from(f">{n_7}i", b, p)
        p += n_7 * 4
        p = skip_tags(b, p) if b[p] else p + 1
        made_3.append(TopicRequest(name_4, partition_indexes_6))
    topics_1 = made_3
    p = skip_tags(b, p) if b[p] else p + 1
    return DescribeProducersRequest(topics_1), p


def write_0(m: DescribeProducersResponse, w: Callable[[bytes], None]) -> None:
    w(_i.pack(m.throttle_time_ms))
    a_1 = m.topics
    w(write_uvarint(len(a_1) + 1))
    for o_2 in a_1:
        w(compact_string(o_2.name))
        a_3 = o_2.partitions
        w(write_uvarint(len(a_3) + 1))
        for o_4 in a_3:
            w(_ih.pack(o_4.partition_index, o_4.error_code))
            w(nullable_compact_string(o_4.error_message))
            a_5 = o_4.active_producers
            w(write_uvarint(len(a_5) + 1))
            for o_6 in a_5:
                w(_qiiqiq.pack(o_6.producer_id, o_6.producer_epoch, o_6.last_sequence, o_6.last_timestamp, o_6.coordinator_epoch, o_6.current_txn_start_offset))
                w(b"\0")
            w(b"\0")
        w(b"\0")
    w(b"\0")


READ: Final = {0: read_0}


WRITE: Final = {0: write_0}
