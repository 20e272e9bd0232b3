"""Kafka's ConsumerGroupHeartbeat, made by `make kafka` from node/kafka/schema/table.txt; changes belong there."""

from collections.abc import Callable, Sequence
from struct import Struct, pack, unpack_from
from typing import Final

from node.kafka.wire import ELEMENTS_MAX, NO_ID, Buffer, Message, nullable_compact_string, refuse_length, skip_tags, too_many, uvarint, write_uvarint

_U = Struct(">16s")
_i = Struct(">i")
_ih = Struct(">ih")
_ii = Struct(">ii")


class TopicPartitions(Message):
    __slots__ = ("topic_id", "partitions")

    def __init__(
        self,
        topic_id: bytes = NO_ID,
        partitions: Sequence[int] = (),
    ) -> None:
        self.topic_id = topic_id
        self.partitions = partitions


class ConsumerGroupHeartbeatRequest(Message):
    __slots__ = ("group_id", "member_id", "member_epoch", "instance_id", "rack_id", "rebalance_timeout_ms", "subscribed_topic_names", "subscribed_topic_regex", "server_assignor", "topic_partitions")

    def __init__(
        self,
        group_id: str = "",
        member_id: str = "",
        member_epoch: int = 0,
        instance_id: str | None = None,
        rack_id: str | None = None,
        rebalance_timeout_ms: int = -1,
        subscribed_topic_names: Sequence[str] | None = None,
        subscribed_topic_regex: str | None = None,
        server_assignor: str | None = None,
        topic_partitions: Sequence[TopicPartitions] | None = None,
    ) -> None:
        self.group_id = group_id
        self.member_id = member_id
        self.member_epoch = member_epoch
        self.instance_id = instance_id
        self.rack_id = rack_id
        self.rebalance_timeout_ms = rebalance_timeout_ms
        self.subscribed_topic_names = subscribed_topic_names
        self.subscribed_topic_regex = subscribed_topic_regex
        self.server_assignor = server_assignor
        self.topic_partitions = topic_partitions


class Assignment(Message):
    __slots__ = ("topic_partitions",)

    def __init__(
        self,
        topic_partitions: Sequence[TopicPartitions] = (),
    ) -> None:
        self.topic_partitions = topic_partitions


class ConsumerGroupHeartbeatResponse(Message):
    __slots__ = ("throttle_time_ms", "error_code", "error_message", "member_id", "member_epoch", "heartbeat_interval_ms", "assignment")

    def __init__(
        self,
        throttle_time_ms: int = 0,
        error_code: int = 0,
        error_message: str | None = None,
        member_id: str | None = None,
        member_epoch: int = 0,
        heartbeat_interval_ms: int = 0,
        assignment: Assignment | None = None,
    ) -> None:
        self.throttle_time_ms = throttle_time_ms
        self.error_code = error_code
        self.error_message = error_message
        self.member_id = member_id
        self.member_epoch = member_epoch
        self.heartbeat_interval_ms = heartbeat_interval_ms
        self.assignment = assignment


def read_0(b: Buffer, p: int) -> tuple[ConsumerGroupHeartbeatRequest, int]:
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
    if n_4 < 0 or p + n_4 > end:
        raise refuse_length("member_id", n_4)
    member_id_3 = str(b[p : p + n_4], "utf-8")
    p += n_4
    (member_epoch_5,) = _i.unpack_from(b, p)
    p += 4
    n_7 = b[p] - 1
    p += 1
    if n_7 > 126:
        n_7, p = uvarint(b, p - 1)
        n_7 -= 1
    instance_id_6: str | None = None
    if n_7 != -1:
        if n_7 < 0 or p + n_7 > end:
            raise refuse_length("instance_id", n_7)
        instance_id_6 = str(b[p : p + n_7], "utf-8")
        p += n_7
    n_9 = b[p] - 1
    p += 1
    if n_9 > 126:
        n_9, p = uvarint(b, p - 1)
        n_9 -= 1
    rack_id_8: str | None = None
    if n_9 != -1:
        if n_9 < 0 or p + n_9 > end:
            raise refuse_length("rack_id", n_9)
        rack_id_8 = str(b[p : p + n_9], "utf-8")
        p += n_9
    (rebalance_timeout_ms_10,) = _i.unpack_from(b, p)
    p += 4
    n_12 = b[p] - 1
    p += 1
    if n_12 > 126:
        n_12, p = uvarint(b, p - 1)
        n_12 -= 1
    subscribed_topic_names_11: Sequence[str] | None = None
    if n_12 != -1:
        if n_12 < 0 or n_12 > end - p:
            raise refuse_length("subscribed_topic_names", n_12)
        room -= n_12
        if room < 0:
            raise too_many("subscribed_topic_names")
        made_13: list[str] = []
        for _ in range(n_12):
            n_15 = b[p] - 1
            p += 1
            if n_15 > 126:
                n_15, p = uvarint(b, p - 1)
                n_15 -= 1
            if n_15 < 0 or p + n_15 > end:
                raise refuse_length("subscribed_topic_names", n_15)
            each_14 = str(b[p : p + n_15], "utf-8")
            p += n_15
            made_13.append(each_14)
        subscribed_topic_names_11 = made_13
    n_17 = b[p] - 1
    p += 1
    if n_17 > 126:
        n_17, p = uvarint(b, p - 1)
        n_17 -= 1
    server_assignor_16: str | None = None
    if n_17 != -1:
        if n_17 < 0 or p + n_17 > end:
            raise refuse_length("server_assignor", n_17)
        server_assignor_16 = str(b[p : p + n_17], "utf-8")
        p += n_17
    n_19 = b[p] - 1
    p += 1
    if n_19 > 126:
        n_19, p = uvarint(b, p - 1)
        n_19 -= 1
    topic_partitions_18: Sequence[TopicPartitions] | None = None
    if n_19 != -1:
        if n_19 < 0 or n_19 > (end - p) // 18:
            raise refuse_length("topic_partitions", n_19)
        room -= n_19
        if room < 0:
            raise too_many("topic_partitions")
        made_20: list[TopicPartitions] = []
        for _ in range(n_19):
            (topic_id_21,) = _U.unpack_from(b, p)
            p += 16
            n_23 = b[p] - 1
            p += 1
            if n_23 > 126:
                n_23, p = uvarint(b, p - 1)
                n_23 -= 1
            if n_23 < 0 or n_23 > (end - p) // 4:
                raise refuse_length("partitions", n_23)
            room -= n_23
            if room < 0:
                raise too_many("partitions")
            partitions_22 = unpack_from(f">{n_23}i", b, p)
            p += n_23 * 4
            p = skip_tags(b, p) if b[p] else p + 1
            made_20.append(TopicPartitions(topic_id_21, partitions_22))
        topic_partitions_18 = made_20
    p = skip_tags(b, p) if b[p] else p + 1
    return ConsumerGroupHeartbeatRequest(group_id_1, member_id_3, member_epoch_5, instance_id_6, rack_id_8, rebalance_timeout_ms_10, subscribed_topic_names_11, None, server_assignor_16, topic_partitions_18), p


def read_1(b: Buffer, p: int) -> tuple[ConsumerGroupHeartbeatRequest, int]:
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
    if n_4 < 0 or p + n_4 > end:
        raise refuse_length("member_id", n_4)
    member_id_3 = str(b[p : p + n_4], "utf-8")
    p += n_4
    (member_epoch_5,) = _i.unpack_from(b, p)
    p += 4
    n_7 = b[p] - 1
    p += 1
    if n_7 > 126:
        n_7, p = uvarint(b, p - 1)
        n_7 -= 1
    instance_id_6: str | None = None
    if n_7 != -1:
        if n_7 < 0 or p + n_7 > end:
            raise refuse_length("instance_id", n_7)
        instance_id_6 = str(b[p : p + n_7], "utf-8")
        p += n_7
    n_9 = b[p] - 1
    p += 1
    if n_9 > 126:
        n_9, p = uvarint(b, p - 1)
        n_9 -= 1
    rack_id_8: str | None = None
    if n_9 != -1:
        if n_9 < 0 or p + n_9 > end:
            raise refuse_length("rack_id", n_9)
        rack_id_8 = str(b[p : p + n_9], "utf-8")
        p += n_9
    (rebalance_timeout_ms_10,) = _i.unpack_from(b, p)
    p += 4
    n_12 = b[p] - 1
    p += 1
    if n_12 > 126:
        n_12, p = uvarint(b, p - 1)
        n_12 -= 1
    subscribed_topic_names_11: Sequence[str] | None = None
    if n_12 != -1:
        if n_12 < 0 or n_12 > end - p:
            raise refuse_length("subscribed_topic_names", n_12)
        room -= n_12
        if room < 0:
            raise too_many("subscribed_topic_names")
        made_13: list[str] = []
        for _ in range(n_12):
            n_15 = b[p] - 1
            p += 1
            if n_15 > 126:
                n_15, p = uvarint(b, p - 1)
                n_15 -= 1
            if n_15 < 0 or p + n_15 > end:
                raise refuse_length("subscribed_topic_names", n_15)
            each_14 = str(b[p : p + n_15], "utf-8")
            p += n_15
            made_13.append(each_14)
        subscribed_topic_names_11 = made_13
    n_17 = b[p] - 1
    p += 1
    if n_17 > 126:
        n_17, p = uvarint(b, p - 1)
        n_17 -= 1
    subscribed_topic_regex_16: str | None = None
    if n_17 != -1:
        if n_17 < 0 or p + n_17 > end:
            raise refuse_length("subscribed_topic_regex", n_17)
        subscribed_topic_regex_16 = str(b[p : p + n_17], "utf-8")
        p += n_17
    n_19 = b[p] - 1
    p += 1
    if n_19 > 126:
        n_19, p = uvarint(b, p - 1)
        n_19 -= 1
    server_assignor_18: str | None = None
    if n_19 != -1:
        if n_19 < 0 or p + n_19 > end:
            raise refuse_length("server_assignor", n_19)
        server_assignor_18 = str(b[p : p + n_19], "utf-8")
        p += n_19
    n_21 = b[p] - 1
    p += 1
    if n_21 > 126:
        n_21, p = uvarint(b, p - 1)
        n_21 -= 1
    topic_partitions_20: Sequence[TopicPartitions] | None = None
    if n_21 != -1:
        if n_21 < 0 or n_21 > (end - p) // 18:
            raise refuse_length("topic_partitions", n_21)
        room -= n_21
        if room < 0:
            raise too_many("topic_partitions")
        made_22: list[TopicPartitions] = []
        for _ in range(n_21):
            (topic_id_23,) = _U.unpack_from(b, p)
            p += 16
            n_25 = b[p] - 1
            p += 1
            if n_25 > 126:
                n_25, p = uvarint(b, p - 1)
                n_25 -= 1
            if n_25 < 0 or n_25 > (end - p) // 4:
                raise refuse_length("partitions", n_25)
            room -= n_25
            if room < 0:
                raise too_many("partitions")
            partitions_24 = unpack_from(f">{n_25}i", b, p)
            p += n_25 * 4
            p = skip_tags(b, p) if b[p] else p + 1
            made_22.append(TopicPartitions(topic_id_23, partitions_24))
        topic_partitions_20 = made_22
    p = skip_tags(b, p) if b[p] else p + 1
    return ConsumerGroupHeartbeatRequest(group_id_1, member_id_3, member_epoch_5, instance_id_6, rack_id_8, rebalance_timeout_ms_10, subscribed_topic_names_11, subscribed_topic_regex_16, server_assignor_18, topic_partitions_20), p


def write_0(m: ConsumerGroupHeartbeatResponse, w: Callable[[bytes], None]) -> None:
    w(_ih.pack(m.throttle_time_ms, m.error_code))
    w(nullable_compact_string(m.error_message))
    w(nullable_compact_string(m.member_id))
    w(_ii.pack(m.member_epoch, m.heartbeat_interval_ms))
    o_1 = m.assignment
    w(b"\xff" if o_1 is None else b"\1")
    if o_1 is not None:
        a_2 = o_1.topic_partitions
        w(write_uvarint(len(a_2) + 1))
        for o_3 in a_2:
            w(_U.pack(o_3.topic_id))
            a_4 = o_3.partitions
            w(write_uvarint(len(a_4) + 1))
            w(pack(f">{len(a_4)}i", *a_4))
            w(b"\0")
        w(b"\0")
    w(b"\0")


READ: Final = {0: read_0, 1: read_1}


WRITE: Final = {0: write_0, 1: write_0}
