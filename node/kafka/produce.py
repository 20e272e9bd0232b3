"""Produce, by hand: batches are views into the frame, and an answer without errors is one call of a struct a partition.

The views hold for as long as the frame does: a handler appends before it returns, or copies.
"""

from collections.abc import Callable, Sequence
from functools import partial
from struct import Struct
from typing import Final, NamedTuple

from node.kafka.wire import (
    INT32,
    NO_ID,
    Buffer,
    Message,
    compact_string,
    nullable_compact_string,
    nullable_string,
    refuse_length,
    skip_tags,
    string,
    tagged,
    uvarint,
    write_uvarint,
)

_HEAD: Final = Struct(">hi")
_PARTITION: Final = Struct(">ii")
_INDEX: Final = Struct(">i")
_LENGTH: Final = Struct(">h")
_LEADER: Final = Struct(">iiB")
_RESULT: Final = {0: Struct(">ihq"), 2: Struct(">ihqq"), 5: Struct(">ihqqq")}
_BATCH_LEAST: Final = 61
_SHORT_MOST: Final = 1000
LOW, HIGH = 0, 13


class TopicBatches(NamedTuple):
    """What goes to one topic: (partition, batch) pairs. Up to v12 a topic has its name here, from v13 on its id."""

    name: str
    topic_id: bytes
    partitions: list[tuple[int, memoryview | None]]


class ProduceRequest(Message):
    __slots__ = ("acks", "timeout_ms", "topics", "transactional_id")

    def __init__(self, transactional_id: str | None, acks: int, timeout_ms: int, topics: list[TopicBatches]) -> None:
        self.transactional_id = transactional_id
        self.acks = acks
        self.timeout_ms = timeout_ms
        self.topics = topics


class Leader(NamedTuple):
    """Who leads a partition, told to a client that asked somebody else."""

    leader_id: int
    leader_epoch: int


class Endpoint(NamedTuple):
    node_id: int
    host: str
    port: int
    rack: str | None = None


class Produced(NamedTuple):
    """One partition's answer. `record_errors`: (index in the batch, what is wrong with the record)."""

    partition: int
    error_code: int = 0
    base_offset: int = -1
    log_append_time_ms: int = -1
    log_start_offset: int = -1
    record_errors: Sequence[tuple[int, str | None]] = ()
    error_message: str | None = None
    current_leader: Leader | None = None


class TopicProduced(NamedTuple):
    name: str
    topic_id: bytes
    partitions: Sequence[Produced]


class ProduceResponse(Message):
    __slots__ = ("node_endpoints", "throttle_time_ms", "topics")

    def __init__(
        self, topics: Sequence[TopicProduced], throttle_time_ms: int = 0, node_endpoints: Sequence[Endpoint] = ()
    ) -> None:
        self.topics = topics
        self.throttle_time_ms = throttle_time_ms
        self.node_endpoints = node_endpoints


def most_batches(left: int, least: int) -> int:
    """How many batches so many bytes can hold. A batch has 61 bytes at least; some that are shorter get an answer of
    their own, but not more than that many, as each costs memory."""
    return min(left // least, max(_SHORT_MOST, left // _BATCH_LEAST))


def _read_legacy(version: int, b: Buffer, p: int) -> tuple[ProduceRequest, int]:
    """Versions 0 to 8."""
    view, end = memoryview(b), len(b)
    transactional_id = None
    if version >= 3:
        (n,) = _LENGTH.unpack_from(b, p)
        p += 2
        if n != -1:
            if n < 0 or p + n > end:
                raise refuse_length("transactional_id", n)
            transactional_id = str(view[p : p + n], "utf-8")
            p += n
    acks, timeout_ms = _HEAD.unpack_from(b, p)
    (count,) = INT32.unpack_from(b, p + 6)
    p += 10
    if count < 0 or count > (end - p) // 6:
        raise refuse_length("topic_data", count)
    topics = []
    for _ in range(count):
        (n,) = _LENGTH.unpack_from(b, p)
        p += 2
        if n < 0 or p + n > end:
            raise refuse_length("name", n)
        name = str(view[p : p + n], "utf-8")
        p += n
        (several,) = INT32.unpack_from(b, p)
        p += 4
        if several < 0 or several > most_batches(end - p, 8):
            raise refuse_length("partition_data", several)
        partitions: list[tuple[int, memoryview | None]] = []
        for _ in range(several):
            index, n = _PARTITION.unpack_from(b, p)
            p += 8
            if n == -1:
                partitions.append((index, None))
                continue
            if n < 0 or p + n > end:
                raise refuse_length("records", n)
            partitions.append((index, view[p : p + n]))
            p += n
        topics.append(TopicBatches(name, NO_ID, partitions))
    return ProduceRequest(transactional_id, acks, timeout_ms, topics), p


def _read_flexible(version: int, b: Buffer, p: int) -> tuple[ProduceRequest, int]:
    """From version 9 on."""
    view, end = memoryview(b), len(b)
    transactional_id = None
    n = b[p]
    p += 1
    if n > 127:
        n, p = uvarint(b, p - 1)
    if n:
        if p + n - 1 > end:
            raise refuse_length("transactional_id", n - 1)
        transactional_id = str(view[p : p + n - 1], "utf-8")
        p += n - 1
    acks, timeout_ms = _HEAD.unpack_from(b, p)
    count = b[p + 6]
    p += 7
    if count > 127:
        count, p = uvarint(b, p - 1)
    if count == 0 or count - 1 > (end - p) // 3:
        raise refuse_length("topic_data", count - 1)
    topics = []
    for _ in range(count - 1):
        name, topic_id = "", NO_ID
        if version >= 13:
            topic_id = bytes(view[p : p + 16])
            p += 16
        else:
            n = b[p]
            p += 1
            if n > 127:
                n, p = uvarint(b, p - 1)
            if n == 0 or p + n - 1 > end:
                raise refuse_length("name", n - 1)
            name = str(view[p : p + n - 1], "utf-8")
            p += n - 1
        several = b[p]
        p += 1
        if several > 127:
            several, p = uvarint(b, p - 1)
        if several == 0 or several - 1 > most_batches(end - p, 6):
            raise refuse_length("partition_data", several - 1)
        partitions: list[tuple[int, memoryview | None]] = []
        for _ in range(several - 1):
            (index,) = _INDEX.unpack_from(b, p)
            n = b[p + 4]
            p += 5
            if n > 127:
                n, p = uvarint(b, p - 1)
            if p + n - 1 > end:
                raise refuse_length("records", n - 1)
            partitions.append((index, view[p : p + n - 1] if n else None))
            p += n - 1 if n else 0
            p = skip_tags(b, p) if b[p] else p + 1
        topics.append(TopicBatches(name, topic_id, partitions))
        p = skip_tags(b, p) if b[p] else p + 1
    p = skip_tags(b, p) if b[p] else p + 1
    return ProduceRequest(transactional_id, acks, timeout_ms, topics), p


def _write(version: int, m: ProduceResponse, w: Callable[[bytes], None]) -> None:
    flexible = version >= 9
    w(write_uvarint(len(m.topics) + 1) if flexible else INT32.pack(len(m.topics)))
    for topic in m.topics:
        if version >= 13:
            w(topic.topic_id)
        else:
            w(compact_string(topic.name) if flexible else string(topic.name))
        w(write_uvarint(len(topic.partitions) + 1) if flexible else INT32.pack(len(topic.partitions)))
        for each in topic.partitions:
            w(_fixed(version, each))
            if version >= 8:
                w(_rest(version, each))
        if flexible:
            w(b"\0")
    if version >= 1:
        w(INT32.pack(m.throttle_time_ms))
    if flexible:
        w(endpoint_tags(m.node_endpoints if version >= 10 else ()))


def _fixed(version: int, each: Produced) -> bytes:
    """What every answer has, in one call."""
    if version >= 5:
        return _RESULT[5].pack(*each[:5])
    return _RESULT[2].pack(*each[:4]) if version >= 2 else _RESULT[0].pack(*each[:3])


def _rest(version: int, each: Produced) -> bytes:
    """What is wrong with which record, and who leads instead: mostly nothing."""
    leader = each.current_leader if version >= 10 else None
    if not each.record_errors and each.error_message is None and leader is None:
        return b"\1\0\0" if version >= 9 else b"\0\0\0\0\xff\xff"
    if version < 9:
        parts = [INT32.pack(len(each.record_errors))]
        parts += [_INDEX.pack(index) + nullable_string(message) for index, message in each.record_errors]
        return b"".join([*parts, nullable_string(each.error_message)])
    parts = [write_uvarint(len(each.record_errors) + 1)]
    parts += [_INDEX.pack(index) + nullable_compact_string(message) + b"\0" for index, message in each.record_errors]
    tags = [] if leader is None else [(0, leader_bytes(leader))]
    return b"".join([*parts, nullable_compact_string(each.error_message), tagged(tags)])


def leader_bytes(leader: Leader) -> bytes:
    return _LEADER.pack(leader.leader_id, leader.leader_epoch, 0)


def endpoint_tags(endpoints: Sequence[Endpoint]) -> bytes:
    """The tags at the end of an answer: where the leaders are that it names."""
    if not endpoints:
        return b"\0"
    parts = [write_uvarint(len(endpoints) + 1)]
    for each in endpoints:
        parts += (
            INT32.pack(each.node_id),
            compact_string(each.host),
            INT32.pack(each.port),
            nullable_compact_string(each.rack),
            b"\0",
        )
    return tagged([(0, b"".join(parts))])


READ: Final = {
    version: partial(_read_flexible if version >= 9 else _read_legacy, version) for version in range(LOW, HIGH + 1)
}
WRITE: Final = {version: partial(_write, version) for version in range(LOW, HIGH + 1)}
