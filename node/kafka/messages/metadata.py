"""Kafka's Metadata, made by `make kafka` from node/kafka/schema/table.txt; changes belong there."""

from collections.abc import Callable, Sequence
from struct import Struct, pack
from typing import Final

from node.kafka.wire import ELEMENTS_MAX, INT16, INT32, NO_ID, Buffer, Message, compact_string, nullable_compact_string, nullable_string, refuse_length, skip_tags, string, too_many, uvarint, write_uvarint

_B = Struct(">?")
_BB = Struct(">??")
_BBB = Struct(">???")
_U = Struct(">16s")
_UB = Struct(">16s?")
_h = Struct(">h")
_hii = Struct(">hii")
_hiii = Struct(">hiii")
_i = Struct(">i")


class MetadataRequestTopic(Message):
    __slots__ = ("topic_id", "name")

    def __init__(
        self,
        topic_id: bytes = NO_ID,
        name: str | None = "",
    ) -> None:
        self.topic_id = topic_id
        self.name = name


class MetadataRequest(Message):
    __slots__ = ("topics", "allow_auto_topic_creation", "include_cluster_authorized_operations", "include_topic_authorized_operations")

    def __init__(
        self,
        topics: Sequence[MetadataRequestTopic] | None = (),
        allow_auto_topic_creation: bool = True,
        include_cluster_authorized_operations: bool = False,
        include_topic_authorized_operations: bool = False,
    ) -> None:
        self.topics = topics
        self.allow_auto_topic_creation = allow_auto_topic_creation
        self.include_cluster_authorized_operations = include_cluster_authorized_operations
        self.include_topic_authorized_operations = include_topic_authorized_operations


class MetadataResponseBroker(Message):
    __slots__ = ("node_id", "host", "port", "rack")

    def __init__(
        self,
        node_id: int = 0,
        host: str = "",
        port: int = 0,
        rack: str | None = None,
    ) -> None:
        self.node_id = node_id
        self.host = host
        self.port = port
        self.rack = rack


class MetadataResponsePartition(Message):
    __slots__ = ("error_code", "partition_index", "leader_id", "leader_epoch", "replica_nodes", "isr_nodes", "offline_replicas")

    def __init__(
        self,
        error_code: int = 0,
        partition_index: int = 0,
        leader_id: int = 0,
        leader_epoch: int = -1,
        replica_nodes: Sequence[int] = (),
        isr_nodes: Sequence[int] = (),
        offline_replicas: Sequence[int] = (),
    ) -> None:
        self.error_code = error_code
        self.partition_index = partition_index
        self.leader_id = leader_id
        self.leader_epoch = leader_epoch
        self.replica_nodes = replica_nodes
        self.isr_nodes = isr_nodes
        self.offline_replicas = offline_replicas


class MetadataResponseTopic(Message):
    __slots__ = ("error_code", "name", "topic_id", "is_internal", "partitions", "topic_authorized_operations")

    def __init__(
        self,
        error_code: int = 0,
        name: str | None = "",
        topic_id: bytes = NO_ID,
        is_internal: bool = False,
        partitions: Sequence[MetadataResponsePartition] = (),
        topic_authorized_operations: int = -2147483648,
    ) -> None:
        self.error_code = error_code
        self.name = name
        self.topic_id = topic_id
        self.is_internal = is_internal
        self.partitions = partitions
        self.topic_authorized_operations = topic_authorized_operations


class MetadataResponse(Message):
    __slots__ = ("throttle_time_ms", "brokers", "cluster_id", "controller_id", "topics", "cluster_authorized_operations", "error_code")

    def __init__(
        self,
        throttle_time_ms: int = 0,
        brokers: Sequence[MetadataResponseBroker] = (),
        cluster_id: str | None = None,
        controller_id: int = -1,
        topics: Sequence[MetadataResponseTopic] = (),
        cluster_authorized_operations: int = -2147483648,
        error_code: int = 0,
    ) -> None:
        self.throttle_time_ms = throttle_time_ms
        self.brokers = brokers
        self.cluster_id = cluster_id
        self.controller_id = controller_id
        self.topics = topics
        self.cluster_authorized_operations = cluster_authorized_operations
        self.error_code = error_code


def read_0(b: Buffer, p: int) -> tuple[MetadataRequest, int]:
    end = len(b)
    room = ELEMENTS_MAX
    (n_2,) = INT32.unpack_from(b, p)
    p += 4
    if n_2 < 0 or n_2 > (end - p) // 2:
        raise refuse_length("topics", n_2)
    room -= n_2
    if room < 0:
        raise too_many("topics")
    made_3: list[MetadataRequestTopic] = []
    for _ in range(n_2):
        (n_5,) = INT16.unpack_from(b, p)
        p += 2
        if n_5 < 0 or p + n_5 > end:
            raise refuse_length("name", n_5)
        name_4 = str(b[p : p + n_5], "utf-8")
        p += n_5
        made_3.append(MetadataRequestTopic(NO_ID, name_4))
    topics_1 = made_3
    return MetadataRequest(topics_1, True, False, False), p


def read_1(b: Buffer, p: int) -> tuple[MetadataRequest, int]:
    end = len(b)
    room = ELEMENTS_MAX
    (n_2,) = INT32.unpack_from(b, p)
    p += 4
    topics_1: Sequence[MetadataRequestTopic] | None = None
    if n_2 != -1:
        if n_2 < 0 or n_2 > (end - p) // 2:
            raise refuse_length("topics", n_2)
        room -= n_2
        if room < 0:
            raise too_many("topics")
        made_3: list[MetadataRequestTopic] = []
        for _ in range(n_2):
            (n_5,) = INT16.unpack_from(b, p)
            p += 2
            if n_5 < 0 or p + n_5 > end:
                raise refuse_length("name", n_5)
            name_4 = str(b[p : p + n_5], "utf-8")
            p += n_5
            made_3.append(MetadataRequestTopic(NO_ID, name_4))
        topics_1 = made_3
    return MetadataRequest(topics_1, True, False, False), p


def read_4(b: Buffer, p: int) -> tuple[MetadataRequest, int]:
    end = len(b)
    room = ELEMENTS_MAX
    (n_2,) = INT32.unpack_from(b, p)
    p += 4
    topics_1: Sequence[MetadataRequestTopic] | None = None
    if n_2 != -1:
        if n_2 < 0 or n_2 > (end - p) // 2:
            raise refuse_length("topics", n_2)
        room -= n_2
        if room < 0:
            raise too_many("topics")
        made_3: list[MetadataRequestTopic] = []
        for _ in range(n_2):
            (n_5,) = INT16.unpack_from(b, p)
            p += 2
            if n_5 < 0 or p + n_5 > end:
                raise refuse_length("name", n_5)
            name_4 = str(b[p : p + n_5], "utf-8")
            p += n_5
            made_3.append(MetadataRequestTopic(NO_ID, name_4))
        topics_1 = made_3
    (allow_auto_topic_creation_6,) = _B.unpack_from(b, p)
    p += 1
    return MetadataRequest(topics_1, allow_auto_topic_creation_6, False, False), p


def read_8(b: Buffer, p: int) -> tuple[MetadataRequest, int]:
    end = len(b)
    room = ELEMENTS_MAX
    (n_2,) = INT32.unpack_from(b, p)
    p += 4
    topics_1: Sequence[MetadataRequestTopic] | None = None
    if n_2 != -1:
        if n_2 < 0 or n_2 > (end - p) // 2:
            raise refuse_length("topics", n_2)
        room -= n_2
        if room < 0:
            raise too_many("topics")
        made_3: list[MetadataRequestTopic] = []
        for _ in range(n_2):
            (n_5,) = INT16.unpack_from(b, p)
            p += 2
            if n_5 < 0 or p + n_5 > end:
                raise refuse_length("name", n_5)
            name_4 = str(b[p : p + n_5], "utf-8")
            p += n_5
            made_3.append(MetadataRequestTopic(NO_ID, name_4))
        topics_1 = made_3
    allow_auto_topic_creation_6, include_cluster_authorized_operations_7, include_topic_authorized_operations_8 = _BBB.unpack_from(b, p)
    p += 3
    return MetadataRequest(topics_1, allow_auto_topic_creation_6, include_cluster_authorized_operations_7, include_topic_authorized_operations_8), p


def read_9(b: Buffer, p: int) -> tuple[MetadataRequest, int]:
    end = len(b)
    room = ELEMENTS_MAX
    n_2 = b[p] - 1
    p += 1
    if n_2 > 126:
        n_2, p = uvarint(b, p - 1)
        n_2 -= 1
    topics_1: Sequence[MetadataRequestTopic] | None = None
    if n_2 != -1:
        if n_2 < 0 or n_2 > (end - p) // 2:
            raise refuse_length("topics", n_2)
        room -= n_2
        if room < 0:
            raise too_many("topics")
        made_3: list[MetadataRequestTopic] = []
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
            made_3.append(MetadataRequestTopic(NO_ID, name_4))
        topics_1 = made_3
    allow_auto_topic_creation_6, include_cluster_authorized_operations_7, include_topic_authorized_operations_8 = _BBB.unpack_from(b, p)
    p += 3
    p = skip_tags(b, p) if b[p] else p + 1
    return MetadataRequest(topics_1, allow_auto_topic_creation_6, include_cluster_authorized_operations_7, include_topic_authorized_operations_8), p


def read_10(b: Buffer, p: int) -> tuple[MetadataRequest, int]:
    end = len(b)
    room = ELEMENTS_MAX
    n_2 = b[p] - 1
    p += 1
    if n_2 > 126:
        n_2, p = uvarint(b, p - 1)
        n_2 -= 1
    topics_1: Sequence[MetadataRequestTopic] | None = None
    if n_2 != -1:
        if n_2 < 0 or n_2 > (end - p) // 18:
            raise refuse_length("topics", n_2)
        room -= n_2
        if room < 0:
            raise too_many("topics")
        made_3: list[MetadataRequestTopic] = []
        for _ in range(n_2):
            (topic_id_4,) = _U.unpack_from(b, p)
            p += 16
            n_6 = b[p] - 1
            p += 1
            if n_6 > 126:
                n_6, p = uvarint(b, p - 1)
                n_6 -= 1
            name_5: str | None = None
            if n_6 != -1:
                if n_6 < 0 or p + n_6 > end:
                    raise refuse_length("name", n_6)
                name_5 = str(b[p : p + n_6], "utf-8")
                p += n_6
            p = skip_tags(b, p) if b[p] else p + 1
            made_3.append(MetadataRequestTopic(topic_id_4, name_5))
        topics_1 = made_3
    allow_auto_topic_creation_7, include_cluster_authorized_operations_8, include_topic_authorized_operations_9 = _BBB.unpack_from(b, p)
    p += 3
    p = skip_tags(b, p) if b[p] else p + 1
    return MetadataRequest(topics_1, allow_auto_topic_creation_7, include_cluster_authorized_operations_8, include_topic_authorized_operations_9), p


def read_11(b: Buffer, p: int) -> tuple[MetadataRequest, int]:
    end = len(b)
    room = ELEMENTS_MAX
    n_2 = b[p] - 1
    p += 1
    if n_2 > 126:
        n_2, p = uvarint(b, p - 1)
        n_2 -= 1
    topics_1: Sequence[MetadataRequestTopic] | None = None
    if n_2 != -1:
        if n_2 < 0 or n_2 > (end - p) // 18:
            raise refuse_length("topics", n_2)
        room -= n_2
        if room < 0:
            raise too_many("topics")
        made_3: list[MetadataRequestTopic] = []
        for _ in range(n_2):
            (topic_id_4,) = _U.unpack_from(b, p)
            p += 16
            n_6 = b[p] - 1
            p += 1
            if n_6 > 126:
                n_6, p = uvarint(b, p - 1)
                n_6 -= 1
            name_5: str | None = None
            if n_6 != -1:
                if n_6 < 0 or p + n_6 > end:
                    raise refuse_length("name", n_6)
                name_5 = str(b[p : p + n_6], "utf-8")
                p += n_6
            p = skip_tags(b, p) if b[p] else p + 1
            made_3.append(MetadataRequestTopic(topic_id_4, name_5))
        topics_1 = made_3
    allow_auto_topic_creation_7, include_topic_authorized_operations_8 = _BB.unpack_from(b, p)
    p += 2
    p = skip_tags(b, p) if b[p] else p + 1
    return MetadataRequest(topics_1, allow_auto_topic_creation_7, False, include_topic_authorized_operations_8), p


def write_0(m: MetadataResponse, w: Callable[[bytes], None]) -> None:
    a_1 = m.brokers
    w(INT32.pack(len(a_1)))
    for o_2 in a_1:
        w(_i.pack(o_2.node_id))
        w(string(o_2.host))
        w(_i.pack(o_2.port))
    a_3 = m.topics
    w(INT32.pack(len(a_3)))
    for o_4 in a_3:
        w(_h.pack(o_4.error_code))
        w(string(o_4.name or ""))
        a_5 = o_4.partitions
        w(INT32.pack(len(a_5)))
        for o_6 in a_5:
            w(_hii.pack(o_6.error_code, o_6.partition_index, o_6.leader_id))
            a_7 = o_6.replica_nodes
            w(INT32.pack(len(a_7)))
            w(pack(f">{len(a_7)}i", *a_7))
            a_8 = o_6.isr_nodes
            w(INT32.pack(len(a_8)))
            w(pack(f">{len(a_8)}i", *a_8))


def write_1(m: MetadataResponse, w: Callable[[bytes], None]) -> None:
    a_1 = m.brokers
    w(INT32.pack(len(a_1)))
    for o_2 in a_1:
        w(_i.pack(o_2.node_id))
        w(string(o_2.host))
        w(_i.pack(o_2.port))
        w(nullable_string(o_2.rack))
    w(_i.pack(m.controller_id))
    a_3 = m.topics
    w(INT32.pack(len(a_3)))
    for o_4 in a_3:
        w(_h.pack(o_4.error_code))
        w(string(o_4.name or ""))
        w(_B.pack(o_4.is_internal))
        a_5 = o_4.partitions
        w(INT32.pack(len(a_5)))
        for o_6 in a_5:
            w(_hii.pack(o_6.error_code, o_6.partition_index, o_6.leader_id))
            a_7 = o_6.replica_nodes
            w(INT32.pack(len(a_7)))
            w(pack(f">{len(a_7)}i", *a_7))
            a_8 = o_6.isr_nodes
            w(INT32.pack(len(a_8)))
            w(pack(f">{len(a_8)}i", *a_8))


def write_2(m: MetadataResponse, w: Callable[[bytes], None]) -> None:
    a_1 = m.brokers
    w(INT32.pack(len(a_1)))
    for o_2 in a_1:
        w(_i.pack(o_2.node_id))
        w(string(o_2.host))
        w(_i.pack(o_2.port))
        w(nullable_string(o_2.rack))
    w(nullable_string(m.cluster_id))
    w(_i.pack(m.controller_id))
    a_3 = m.topics
    w(INT32.pack(len(a_3)))
    for o_4 in a_3:
        w(_h.pack(o_4.error_code))
        w(string(o_4.name or ""))
        w(_B.pack(o_4.is_internal))
        a_5 = o_4.partitions
        w(INT32.pack(len(a_5)))
        for o_6 in a_5:
            w(_hii.pack(o_6.error_code, o_6.partition_index, o_6.leader_id))
            a_7 = o_6.replica_nodes
            w(INT32.pack(len(a_7)))
            w(pack(f">{len(a_7)}i", *a_7))
            a_8 = o_6.isr_nodes
            w(INT32.pack(len(a_8)))
            w(pack(f">{len(a_8)}i", *a_8))


def write_3(m: MetadataResponse, w: Callable[[bytes], None]) -> None:
    w(_i.pack(m.throttle_time_ms))
    a_1 = m.brokers
    w(INT32.pack(len(a_1)))
    for o_2 in a_1:
        w(_i.pack(o_2.node_id))
        w(string(o_2.host))
        w(_i.pack(o_2.port))
        w(nullable_string(o_2.rack))
    w(nullable_string(m.cluster_id))
    w(_i.pack(m.controller_id))
    a_3 = m.topics
    w(INT32.pack(len(a_3)))
    for o_4 in a_3:
        w(_h.pack(o_4.error_code))
        w(string(o_4.name or ""))
        w(_B.pack(o_4.is_internal))
        a_5 = o_4.partitions
        w(INT32.pack(len(a_5)))
        for o_6 in a_5:
            w(_hii.pack(o_6.error_code, o_6.partition_index, o_6.leader_id))
            a_7 = o_6.replica_nodes
            w(INT32.pack(len(a_7)))
            w(pack(f">{len(a_7)}i", *a_7))
            a_8 = o_6.isr_nodes
            w(INT32.pack(len(a_8)))
            w(pack(f">{len(a_8)}i", *a_8))


def write_5(m: MetadataResponse, w: Callable[[bytes], None]) -> None:
    w(_i.pack(m.throttle_time_ms))
    a_1 = m.brokers
    w(INT32.pack(len(a_1)))
    for o_2 in a_1:
        w(_i.pack(o_2.node_id))
        w(string(o_2.host))
        w(_i.pack(o_2.port))
        w(nullable_string(o_2.rack))
    w(nullable_string(m.cluster_id))
    w(_i.pack(m.controller_id))
    a_3 = m.topics
    w(INT32.pack(len(a_3)))
    for o_4 in a_3:
        w(_h.pack(o_4.error_code))
        w(string(o_4.name or ""))
        w(_B.pack(o_4.is_internal))
        a_5 = o_4.partitions
        w(INT32.pack(len(a_5)))
        for o_6 in a_5:
            w(_hii.pack(o_6.error_code, o_6.partition_index, o_6.leader_id))
            a_7 = o_6.replica_nodes
            w(INT32.pack(len(a_7)))
            w(pack(f">{len(a_7)}i", *a_7))
            a_8 = o_6.isr_nodes
            w(INT32.pack(len(a_8)))
            w(pack(f">{len(a_8)}i", *a_8))
            a_9 = o_6.offline_replicas
            w(INT32.pack(len(a_9)))
            w(pack(f">{len(a_9)}i", *a_9))


def write_7(m: MetadataResponse, w: Callable[[bytes], None]) -> None:
    w(_i.pack(m.throttle_time_ms))
    a_1 = m.brokers
    w(INT32.pack(len(a_1)))
    for o_2 in a_1:
        w(_i.pack(o_2.node_id))
        w(string(o_2.host))
        w(_i.pack(o_2.port))
        w(nullable_string(o_2.rack))
    w(nullable_string(m.cluster_id))
    w(_i.pack(m.controller_id))
    a_3 = m.topics
    w(INT32.pack(len(a_3)))
    for o_4 in a_3:
        w(_h.pack(o_4.error_code))
        w(string(o_4.name or ""))
        w(_B.pack(o_4.is_internal))
        a_5 = o_4.partitions
        w(INT32.pack(len(a_5)))
        for o_6 in a_5:
            w(_hiii.pack(o_6.error_code, o_6.partition_index, o_6.leader_id, o_6.leader_epoch))
            a_7 = o_6.replica_nodes
            w(INT32.pack(len(a_7)))
            w(pack(f">{len(a_7)}i", *a_7))
            a_8 = o_6.isr_nodes
            w(INT32.pack(len(a_8)))
            w(pack(f">{len(a_8)}i", *a_8))
            a_9 = o_6.offline_replicas
            w(INT32.pack(len(a_9)))
            w(pack(f">{len(a_9)}i", *a_9))


def write_8(m: MetadataResponse, w: Callable[[bytes], None]) -> None:
    w(_i.pack(m.throttle_time_ms))
    a_1 = m.brokers
    w(INT32.pack(len(a_1)))
    for o_2 in a_1:
        w(_i.pack(o_2.node_id))
        w(string(o_2.host))
        w(_i.pack(o_2.port))
        w(nullable_string(o_2.rack))
    w(nullable_string(m.cluster_id))
    w(_i.pack(m.controller_id))
    a_3 = m.topics
    w(INT32.pack(len(a_3)))
    for o_4 in a_3:
        w(_h.pack(o_4.error_code))
        w(string(o_4.name or ""))
        w(_B.pack(o_4.is_internal))
        a_5 = o_4.partitions
        w(INT32.pack(len(a_5)))
        for o_6 in a_5:
            w(_hiii.pack(o_6.error_code, o_6.partition_index, o_6.leader_id, o_6.leader_epoch))
            a_7 = o_6.replica_nodes
            w(INT32.pack(len(a_7)))
            w(pack(f">{len(a_7)}i", *a_7))
            a_8 = o_6.isr_nodes
            w(INT32.pack(len(a_8)))
            w(pack(f">{len(a_8)}i", *a_8))
            a_9 = o_6.offline_replicas
            w(INT32.pack(len(a_9)))
            w(pack(f">{len(a_9)}i", *a_9))
        w(_i.pack(o_4.topic_authorized_operations))
    w(_i.pack(m.cluster_authorized_operations))


def write_9(m: MetadataResponse, w: Callable[[bytes], None]) -> None:
    w(_i.pack(m.throttle_time_ms))
    a_1 = m.brokers
    w(write_uvarint(len(a_1) + 1))
    for o_2 in a_1:
        w(_i.pack(o_2.node_id))
        w(compact_string(o_2.host))
        w(_i.pack(o_2.port))
        w(nullable_compact_string(o_2.rack))
        w(b"\0")
    w(nullable_compact_string(m.cluster_id))
    w(_i.pack(m.controller_id))
    a_3 = m.topics
    w(write_uvarint(len(a_3) + 1))
    for o_4 in a_3:
        w(_h.pack(o_4.error_code))
        w(compact_string(o_4.name or ""))
        w(_B.pack(o_4.is_internal))
        a_5 = o_4.partitions
        w(write_uvarint(len(a_5) + 1))
        for o_6 in a_5:
            w(_hiii.pack(o_6.error_code, o_6.partition_index, o_6.leader_id, o_6.leader_epoch))
            a_7 = o_6.replica_nodes
            w(write_uvarint(len(a_7) + 1))
            w(pack(f">{len(a_7)}i", *a_7))
            a_8 = o_6.isr_nodes
            w(write_uvarint(len(a_8) + 1))
            w(pack(f">{len(a_8)}i", *a_8))
            a_9 = o_6.offline_replicas
            w(write_uvarint(len(a_9) + 1))
            w(pack(f">{len(a_9)}i", *a_9))
            w(b"\0")
        w(_i.pack(o_4.topic_authorized_operations))
        w(b"\0")
    w(_i.pack(m.cluster_authorized_operations))
    w(b"\0")


def write_10(m: MetadataResponse, w: Callable[[bytes], None]) -> None:
    w(_i.pack(m.throttle_time_ms))
    a_1 = m.brokers
    w(write_uvarint(len(a_1) + 1))
    for o_2 in a_1:
        w(_i.pack(o_2.node_id))
        w(compact_string(o_2.host))
        w(_i.pack(o_2.port))
        w(nullable_compact_string(o_2.rack))
        w(b"\0")
    w(nullable_compact_string(m.cluster_id))
    w(_i.pack(m.controller_id))
    a_3 = m.topics
    w(write_uvarint(len(a_3) + 1))
    for o_4 in a_3:
        w(_h.pack(o_4.error_code))
        w(compact_string(o_4.name or ""))
        w(_UB.pack(o_4.topic_id, o_4.is_internal))
        a_5 = o_4.partitions
        w(write_uvarint(len(a_5) + 1))
        for o_6 in a_5:
            w(_hiii.pack(o_6.error_code, o_6.partition_index, o_6.leader_id, o_6.leader_epoch))
            a_7 = o_6.replica_nodes
            w(write_uvarint(len(a_7) + 1))
            w(pack(f">{len(a_7)}i", *a_7))
            a_8 = o_6.isr_nodes
            w(write_uvarint(len(a_8) + 1))
            w(pack(f">{len(a_8)}i", *a_8))
            a_9 = o_6.offline_replicas
            w(write_uvarint(len(a_9) + 1))
            w(pack(f">{len(a_9)}i", *a_9))
            w(b"\0")
        w(_i.pack(o_4.topic_authorized_operations))
        w(b"\0")
    w(_i.pack(m.cluster_authorized_operations))
    w(b"\0")


def write_11(m: MetadataResponse, w: Callable[[bytes], None]) -> None:
    w(_i.pack(m.throttle_time_ms))
    a_1 = m.brokers
    w(write_uvarint(len(a_1) + 1))
    for o_2 in a_1:
        w(_i.pack(o_2.node_id))
        w(compact_string(o_2.host))
        w(_i.pack(o_2.port))
        w(nullable_compact_string(o_2.rack))
        w(b"\0")
    w(nullable_compact_string(m.cluster_id))
    w(_i.pack(m.controller_id))
    a_3 = m.topics
    w(write_uvarint(len(a_3) + 1))
    for o_4 in a_3:
        w(_h.pack(o_4.error_code))
        w(compact_string(o_4.name or ""))
        w(_UB.pack(o_4.topic_id, o_4.is_internal))
        a_5 = o_4.partitions
        w(write_uvarint(len(a_5) + 1))
        for o_6 in a_5:
            w(_hiii.pack(o_6.error_code, o_6.partition_index, o_6.leader_id, o_6.leader_epoch))
            a_7 = o_6.replica_nodes
            w(write_uvarint(len(a_7) + 1))
            w(pack(f">{len(a_7)}i", *a_7))
            a_8 = o_6.isr_nodes
            w(write_uvarint(len(a_8) + 1))
            w(pack(f">{len(a_8)}i", *a_8))
            a_9 = o_6.offline_replicas
            w(write_uvarint(len(a_9) + 1))
            w(pack(f">{len(a_9)}i", *a_9))
            w(b"\0")
        w(_i.pack(o_4.topic_authorized_operations))
        w(b"\0")
    w(b"\0")


def write_12(m: MetadataResponse, w: Callable[[bytes], None]) -> None:
    w(_i.pack(m.throttle_time_ms))
    a_1 = m.brokers
    w(write_uvarint(len(a_1) + 1))
    for o_2 in a_1:
        w(_i.pack(o_2.node_id))
        w(compact_string(o_2.host))
        w(_i.pack(o_2.port))
        w(nullable_compact_string(o_2.rack))
        w(b"\0")
    w(nullable_compact_string(m.cluster_id))
    w(_i.pack(m.controller_id))
    a_3 = m.topics
    w(write_uvarint(len(a_3) + 1))
    for o_4 in a_3:
        w(_h.pack(o_4.error_code))
        w(nullable_compact_string(o_4.name))
        w(_UB.pack(o_4.topic_id, o_4.is_internal))
        a_5 = o_4.partitions
        w(write_uvarint(len(a_5) + 1))
        for o_6 in a_5:
            w(_hiii.pack(o_6.error_code, o_6.partition_index, o_6.leader_id, o_6.leader_epoch))
            a_7 = o_6.replica_nodes
            w(write_uvarint(len(a_7) + 1))
            w(pack(f">{len(a_7)}i", *a_7))
            a_8 = o_6.isr_nodes
            w(write_uvarint(len(a_8) + 1))
            w(pack(f">{len(a_8)}i", *a_8))
            a_9 = o_6.offline_replicas
            w(write_uvarint(len(a_9) + 1))
            w(pack(f">{len(a_9)}i", *a_9))
            w(b"\0")
        w(_i.pack(o_4.topic_authorized_operations))
        w(b"\0")
    w(b"\0")


def write_13(m: MetadataResponse, w: Callable[[bytes], None]) -> None:
    w(_i.pack(m.throttle_time_ms))
    a_1 = m.brokers
    w(write_uvarint(len(a_1) + 1))
    for o_2 in a_1:
        w(_i.pack(o_2.node_id))
        w(compact_string(o_2.host))
        w(_i.pack(o_2.port))
        w(nullable_compact_string(o_2.rack))
        w(b"\0")
    w(nullable_compact_string(m.cluster_id))
    w(_i.pack(m.controller_id))
    a_3 = m.topics
    w(write_uvarint(len(a_3) + 1))
    for o_4 in a_3:
        w(_h.pack(o_4.error_code))
        w(nullable_compact_string(o_4.name))
        w(_UB.pack(o_4.topic_id, o_4.is_internal))
        a_5 = o_4.partitions
        w(write_uvarint(len(a_5) + 1))
        for o_6 in a_5:
            w(_hiii.pack(o_6.error_code, o_6.partition_index, o_6.leader_id, o_6.leader_epoch))
            a_7 = o_6.replica_nodes
            w(write_uvarint(len(a_7) + 1))
            w(pack(f">{len(a_7)}i", *a_7))
            a_8 = o_6.isr_nodes
            w(write_uvarint(len(a_8) + 1))
            w(pack(f">{len(a_8)}i", *a_8))
            a_9 = o_6.offline_replicas
            w(write_uvarint(len(a_9) + 1))
            w(pack(f">{len(a_9)}i", *a_9))
            w(b"\0")
        w(_i.pack(o_4.topic_authorized_operations))
        w(b"\0")
    w(_h.pack(m.error_code))
    w(b"\0")


READ: Final = {0: read_0, 1: read_1, 2: read_1, 3: read_1, 4: read_4, 5: read_4, 6: read_4, 7: read_4, 8: read_8, 9: read_9, 10: read_10, 11: read_11, 12: read_11, 13: read_11}


WRITE: Final = {0: write_0, 1: write_1, 2: write_2, 3: write_3, 4: write_3, 5: write_5, 6: write_5, 7: write_7, 8: write_8, 9: write_9, 10: write_10, 11: write_11, 12: write_12, 13: write_13}
