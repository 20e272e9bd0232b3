"""Kafka's DescribeCluster, made by `make kafka` from node/kafka/schema/table.txt; changes belong there."""

from collections.abc import Callable, Sequence
from struct import Struct
from typing import Final

from node.kafka.wire import Buffer, Message, compact_string, nullable_compact_string, skip_tags, write_uvarint

_B = Struct(">?")
_Bb = Struct(">?b")
_BbB = Struct(">?b?")
_b = Struct(">b")
_i = Struct(">i")
_ih = Struct(">ih")


class DescribeClusterRequest(Message):
    __slots__ = ("include_cluster_authorized_operations", "endpoint_type", "include_fenced_brokers")

    def __init__(
        self,
        include_cluster_authorized_operations: bool = False,
        endpoint_type: int = 1,
        include_fenced_brokers: bool = False,
    ) -> None:
        self.include_cluster_authorized_operations = include_cluster_authorized_operations
        self.endpoint_type = endpoint_type
        self.include_fenced_brokers = include_fenced_brokers


class DescribeClusterBroker(Message):
    __slots__ = ("broker_id", "host", "port", "rack", "is_fenced")

    def __init__(
        self,
        broker_id: int = 0,
        host: str = "",
        port: int = 0,
        rack: str | None = None,
        is_fenced: bool = False,
    ) -> None:
        self.broker_id = broker_id
        self.host = host
        self.port = port
        self.rack = rack
        self.is_fenced = is_fenced


class DescribeClusterResponse(Message):
    __slots__ = ("throttle_time_ms", "error_code", "error_message", "endpoint_type", "cluster_id", "controller_id", "brokers", "cluster_authorized_operations")

    def __init__(
        self,
        throttle_time_ms: int = 0,
        error_code: int = 0,
        error_message: str | None = None,
        endpoint_type: int = 1,
        cluster_id: str = "",
        controller_id: int = -1,
        brokers: Sequence[DescribeClusterBroker] = (),
        cluster_authorized_operations: int = -2147483648,
    ) -> None:
        self.throttle_time_ms = throttle_time_ms
        self.error_code = error_code
        self.error_message = error_message
        self.endpoint_type = endpoint_type
        self.cluster_id = cluster_id
        self.controller_id = controller_id
        self.brokers = brokers
        self.cluster_authorized_operations = cluster_authorized_operations


def read_0(b: Buffer, p: int) -> tuple[DescribeClusterRequest, int]:
    (include_cluster_authorized_operations_1,) = _B.unpack_from(b, p)
    p += 1
    p = skip_tags(b, p) if b[p] else p + 1
    return DescribeClusterRequest(include_cluster_authorized_operations_1, 1, False), p


def read_1(b: Buffer, p: int) -> tuple[DescribeClusterRequest, int]:
    include_cluster_authorized_operations_1, endpoint_type_2 = _Bb.unpack_from(b, p)
    p += 2
    p = skip_tags(b, p) if b[p] else p + 1
    return DescribeClusterRequest(include_cluster_authorized_operations_1, endpoint_type_2, False), p


def read_2(b: Buffer, p: int) -> tuple[DescribeClusterRequest, int]:
    include_cluster_authorized_operations_1, endpoint_type_2, include_fenced_brokers_3 = _BbB.unpack_from(b, p)
    p += 3
    p = skip_tags(b, p) if b[p] else p + 1
    return DescribeClusterRequest(include_cluster_authorized_operations_1, endpoint_type_2, include_fenced_brokers_3), p


def write_0(m: DescribeClusterResponse, w: Callable[[bytes], None]) -> None:
    w(_ih.pack(m.throttle_time_ms, m.error_code))
    w(nullable_compact_string(m.error_message))
    w(compact_string(m.cluster_id))
    w(_i.pack(m.controller_id))
    a_1 = m.brokers
    w(write_uvarint(len(a_1) + 1))
    for o_2 in a_1:
        w(_i.pack(o_2.broker_id))
        w(compact_string(o_2.host))
        w(_i.pack(o_2.port))
        w(nullable_compact_string(o_2.rack))
        w(b"\0")
    w(_i.pack(m.cluster_authorized_operations))
    w(b"\0")


def write_1(m: DescribeClusterResponse, w: Callable[[bytes], None]) -> None:
    w(_ih.pack(m.throttle_time_ms, m.error_code))
    w(nullable_compact_string(m.error_message))
    w(_b.pack(m.endpoint_type))
    w(compact_string(m.cluster_id))
    w(_i.pack(m.controller_id))
    a_1 = m.brokers
    w(write_uvarint(len(a_1) + 1))
    for o_2 in a_1:
        w(_i.pack(o_2.broker_id))
        w(compact_string(o_2.host))
        w(_i.pack(o_2.port))
        w(nullable_compact_string(o_2.rack))
        w(b"\0")
    w(_i.pack(m.cluster_authorized_operations))
    w(b"\0")


def write_2(m: DescribeClusterResponse, w: Callable[[bytes], None]) -> None:
    w(_ih.pack(m.throttle_time_ms, m.error_code))
    w(nullable_compact_string(m.error_message))
    w(_b.pack(m.endpoint_type))
    w(compact_string(m.cluster_id))
    w(_i.pack(m.controller_id))
    a_1 = m.brokers
    w(write_uvarint(len(a_1) + 1))
    for o_2 in a_1:
        w(_i.pack(o_2.broker_id))
        w(compact_string(o_2.host))
        w(_i.pack(o_2.port))
        w(nullable_compact_string(o_2.rack))
        w(_B.pack(o_2.is_fenced))
        w(b"\0")
    w(_i.pack(m.cluster_authorized_operations))
    w(b"\0")


READ: Final = {0: read_0, 1: read_1, 2: read_2}


WRITE: Final = {0: write_0, 1: write_1, 2: write_2}
