"""Kafka's ConsumerGroupDescribe, made by `make kafka` from node/kafka/schema/table.txt; changes belong there."""

from collections.abc import Callable, Sequence
from struct import Struct, pack
from typing import Final

from node.kafka.wire import ELEMENTS_MAX, NO_ID, Buffer, Message, compact_string, nullable_compact_string, refuse_length, skip_tags, too_many, uvarint, write_uvarint

_B = Struct(">?")
_U = Struct(">16s")
_b = Struct(">b")
_h = Struct(">h")
_i = Struct(">i")
_ii = Struct(">ii")


class ConsumerGroupDescribeRequest(Message):
    __slots__ = ("group_ids", "include_authorized_operations")

    def __init__(
        self,
        group_ids: Sequence[str] = (),
        include_authorized_operations: bool = False,
    ) -> None:
        self.group_ids = group_ids
        self.include_authorized_operations = include_authorized_operations


class TopicPartitions(Message):
    __slots__ = ("topic_id", "topic_name", "partitions")

    def __init__(
        self,
        topic_id: bytes = NO_ID,
        topic_name: str = "",
        partitions: Sequence[int] = (),
    ) -> None:
        self.topic_id = topic_id
        self.topic_name = topic_name
        self.partitions = partitions


class Assignment(Message):
    __slots__ = ("topic_partitions",)

    def __init__(
        self,
        topic_partitions: Sequence[TopicPartitions] = (),
    ) -> None:
        self.topic_partitions = topic_partitions


class Member(Message):
    __slots__ = ("member_id", "instance_id", "rack_id", "member_epoch", "client_id", "client_host", "subscribed_topic_names", "subscribed_topic_regex", "assignment", "target_assignment", "member_type")

    def __init__(
        self,
        assignment: Assignment,
        target_assignment: Assignment,
        member_id: str = "",
        instance_id: str | None = None,
        rack_id: str | None = None,
        member_epoch: int = 0,
        client_id: str = "",
        client_host: str = "",
        subscribed_topic_names: Sequence[str] = (),
        subscribed_topic_regex: str | None = None,
        member_type: int = -1,
    ) -> None:
        self.member_id = member_id
        self.instance_id = instance_id
        self.rack_id = rack_id
        self.member_epoch = member_epoch
        self.client_id = client_id
        self.client_host = client_host
        self.subscribed_topic_names = subscribed_topic_names
        self.subscribed_topic_regex = subscribed_topic_regex
        self.assignment = assignment
        self.target_assignment = target_assignment
        self.member_type = member_type


class DescribedGroup(Message):
    __slots__ = ("error_code", "error_message", "group_id", "group_state", "group_epoch", "assignment_epoch", "assignor_name", "members", "authorized_operations")

    def __init__(
        self,
        error_code: int = 0,
        error_message: str | None = None,
        group_id: str = "",
        group_state: str = "",
        group_epoch: int = 0,
        assignment_epoch: int = 0,
        assignor_name: str = "",
        members: Sequence[Member] = (),
        authorized_operations: int = -2147483648,
    ) -> None:
        self.error_code = error_code
        self.error_message = error_message
        self.group_id = group_id
        self.group_state = group_state
        self.group_epoch = group_epoch
        self.assignment_epoch = assignment_epoch
        self.assignor_name = assignor_name
        self.members = members
        self.authorized_operations = authorized_operations


class ConsumerGroupDescribeResponse(Message):
    __slots__ = ("throttle_time_ms", "groups")

    def __init__(
        self,
        throttle_time_ms: int = 0,
        groups: Sequence[DescribedGroup] = (),
    ) -> None:
        self.throttle_time_ms = throttle_time_ms
        self.groups = groups


def read_0(b: Buffer, p: int) -> tuple[ConsumerGroupDescribeRequest, int]:
    end = len(b)
    room = ELEMENTS_MAX
    n_2 = b[p] - 1
    p += 1
    if n_2 > 126:
        n_2, p = uvarint(b, p - 1)
        n_2 -= 1
    if n_2 < 0 or n_2 > end - p:
        raise refuse_length("group_ids", n_2)
    room -= n_2
    if room < 0:
        raise too_many("group_ids")
    made_3: list[str] = []
    for _ in range(n_2):
        n_5 = b[p] - 1
        p += 1
        if n_5 > 126:
            n_5, p = uvarint(b, p - 1)
            n_5 -= 1
        if n_5 < 0 or p + n_5 > end:
            raise refuse_length("group_ids", n_5)
        each_4 = str(b[p : p + n_5], "utf-8")
        p += n_5
        made_3.append(each_4)
    group_ids_1 = made_3
    (include_authorized_operations_6,) = _B.unpack_from(b, p)
    p += 1
    p = skip_tags(b, p) if b[p] else p + 1
    return ConsumerGroupDescribeRequest(group_ids_1, include_authorized_operations_6), p


def write_0(m: ConsumerGroupDescribeResponse, w: Callable[[bytes], None]) -> None:
    w(_i.pack(m.throttle_time_ms))
    a_1 = m.groups
    w(write_uvarint(len(a_1) + 1))
    for o_2 in a_1:
        w(_h.pack(o_2.error_code))
        w(nullable_compact_string(o_2.error_message))
        w(compact_string(o_2.group_id))
        w(compact_string(o_2.group_state))
        w(_ii.pack(o_2.group_epoch, o_2.assignment_epoch))
        w(compact_string(o_2.assignor_name))
        a_3 = o_2.members
        w(write_uvarint(len(a_3) + 1))
        for o_4 in a_3:
            w(compact_string(o_4.member_id))
            w(nullable_compact_string(o_4.instance_id))
            w(nullable_compact_string(o_4.rack_id))
            w(_i.pack(o_4.member_epoch))
            w(compact_string(o_4.client_id))
            w(compact_string(o_4.client_host))
            a_5 = o_4.subscribed_topic_names
            w(write_uvarint(len(a_5) + 1))
            for o_6 in a_5:
                w(compact_string(o_6))
            w(nullable_compact_string(o_4.subscribed_topic_regex))
            a_7 = o_4.assignment.topic_partitions
            w(write_uvarint(len(a_7) + 1))
            for o_8 in a_7:
                w(_U.pack(o_8.topic_id))
                w(compact_string(o_8.topic_name))
                a_9 = o_8.partitions
                w(write_uvarint(len(a_9) + 1))
                w(pack(f">{len(a_9)}i", *a_9))
                w(b"\0")
            w(b"\0")
            a_10 = o_4.target_assignment.topic_partitions
            w(write_uvarint(len(a_10) + 1))
            for o_11 in a_10:
                w(_U.pack(o_11.topic_id))
                w(compact_string(o_11.topic_name))
                a_12 = o_11.partitions
                w(write_uvarint(len(a_12) + 1))
                w(pack(f">{len(a_12)}i", *a_12))
                w(b"\0")
            w(b"\0")
            w(b"\0")
        w(_i.pack(o_2.authorized_operations))
        w(b"\0")
    w(b"\0")


def write_1(m: ConsumerGroupDescribeResponse, w: Callable[[bytes], None]) -> None:
    w(_i.pack(m.throttle_time_ms))
    a_1 = m.groups
    w(write_uvarint(len(a_1) + 1))
    for o_2 in a_1:
        w(_h.pack(o_2.error_code))
        w(nullable_compact_string(o_2.error_message))
        w(compact_string(o_2.group_id))
        w(compact_string(o_2.group_state))
        w(_ii.pack(o_2.group_epoch, o_2.assignment_epoch))
        w(compact_string(o_2.assignor_name))
        a_3 = o_2.members
        w(write_uvarint(len(a_3) + 1))
        for o_4 in a_3:
            w(compact_string(o_4.member_id))
            w(nullable_compact_string(o_4.instance_id))
            w(nullable_compact_string(o_4.rack_id))
            w(_i.pack(o_4.member_epoch))
            w(compact_string(o_4.client_id))
            w(compact_string(o_4.client_host))
            a_5 = o_4.subscribed_topic_names
            w(write_uvarint(len(a_5) + 1))
            for o_6 in a_5:
                w(compact_string(o_6))
            w(nullable_compact_string(o_4.subscribed_topic_regex))
            a_7 = o_4.assignment.topic_partitions
            w(write_uvarint(len(a_7) + 1))
            for o_8 in a_7:
                w(_U.pack(o_8.topic_id))
                w(compact_string(o_8.topic_name))
                a_9 = o_8.partitions
                w(write_uvarint(len(a_9) + 1))
                w(pack(f">{len(a_9)}i", *a_9))
                w(b"\0")
            w(b"\0")
            a_10 = o_4.target_assignment.topic_partitions
            w(write_uvarint(len(a_10) + 1))
            for o_11 in a_10:
                w(_U.pack(o_11.topic_id))
                w(compact_string(o_11.topic_name))
                a_12 = o_11.partitions
                w(write_uvarint(len(a_12) + 1))
                w(pack(f">{len(a_12)}i", *a_12))
                w(b"\0")
            w(b"\0")
            w(_b.pack(o_4.member_type))
            w(b"\0")
        w(_i.pack(o_2.authorized_operations))
        w(b"\0")
    w(b"\0")


READ: Final = {0: read_0, 1: read_0}


WRITE: Final = {0: write_0, 1: write_1}
