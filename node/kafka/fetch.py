"""Fetch, by hand: a partition's request is one call of a struct, and so is what stands before its records, which are
handed on as the slices that they came in."""

from collections.abc import Callable, Sequence
from functools import partial
from struct import Struct
from typing import Any, Final, NamedTuple, TypeVar

from node.kafka.produce import Endpoint, Leader, endpoint_tags, leader_bytes
from node.kafka.wire import (
    INT32,
    NO_ID,
    Buffer,
    Message,
    compact_string,
    refuse_length,
    skip_tags,
    string,
    tagged,
    uvarint,
    write_uvarint,
)

_HEAD: Final = Struct(">iiiib")
_HEAD_WITHOUT_REPLICA: Final = Struct(">iiib")
_SESSION: Final = Struct(">ii")
_LENGTH: Final = Struct(">h")
# partition, current leader epoch, offset, last fetched epoch, log start offset, most bytes; older ones have fewer
_PARTITION: Final = {4: Struct(">iqi"), 5: Struct(">iqqi"), 9: Struct(">iiqqi"), 12: Struct(">iiqiqi")}
_ANSWER_HEAD: Final = Struct(">ihi")
_PREFIX: Final = {4: Struct(">ihqq"), 5: Struct(">ihqqq")}
_EPOCH_END: Final = Struct(">iqB")
_SNAPSHOT: Final = Struct(">qiB")
_ABORTED: Final = Struct(">qq")
LOW, HIGH = 4, 18


class PartitionToFetch(NamedTuple):
    partition: int
    current_leader_epoch: int
    fetch_offset: int
    last_fetched_epoch: int
    log_start_offset: int
    max_bytes: int


class TopicToFetch(NamedTuple):
    """Up to v12 a topic has its name here, from v13 on its id."""

    name: str
    topic_id: bytes
    partitions: list[PartitionToFetch]


class ForgottenTopic(NamedTuple):
    name: str
    topic_id: bytes
    partitions: list[int]


class FetchRequest(Message):
    """What consumers send; what only followers say (cluster, replica's epoch and directory) is not read."""

    __slots__ = (
        "forgotten",
        "isolation_level",
        "max_bytes",
        "max_wait_ms",
        "min_bytes",
        "rack_id",
        "replica_id",
        "session_epoch",
        "session_id",
        "topics",
    )

    def __init__(self) -> None:
        self.replica_id = -1
        self.max_wait_ms = 0
        self.min_bytes = 0
        self.max_bytes = 0
        self.isolation_level = 0
        self.session_id = 0
        self.session_epoch = -1
        self.topics: list[TopicToFetch] = []
        self.forgotten: list[ForgottenTopic] = []
        self.rack_id = ""


class EpochEnd(NamedTuple):
    """Up to where the log agrees with a consumer that was elsewhere."""

    epoch: int
    end_offset: int


class Fetched(NamedTuple):
    """One partition's answer. `aborted` is None for a reader of uncommitted records."""

    partition: int
    error_code: int = 0
    high_watermark: int = -1
    last_stable_offset: int = -1
    log_start_offset: int = -1
    records: Sequence[Buffer] = ()
    aborted: Sequence[tuple[int, int]] | None = None
    diverging_epoch: EpochEnd | None = None
    current_leader: Leader | None = None
    preferred_read_replica: int = -1


class TopicFetched(NamedTuple):
    name: str
    topic_id: bytes
    partitions: Sequence[Fetched]


class FetchResponse(Message):
    __slots__ = ("error_code", "node_endpoints", "session_id", "throttle_time_ms", "topics")

    def __init__(
        self,
        topics: Sequence[TopicFetched],
        error_code: int = 0,
        session_id: int = 0,
        throttle_time_ms: int = 0,
        node_endpoints: Sequence[Endpoint] = (),
    ) -> None:
        self.topics = topics
        self.error_code = error_code
        self.session_id = session_id
        self.throttle_time_ms = throttle_time_ms
        self.node_endpoints = node_endpoints


class _Reader:
    """The parts whose form hangs on whether the version is flexible."""

    def __init__(self, b: Buffer, p: int, flexible: bool) -> None:
        self.b = b
        self.p = p
        self.flexible = flexible
        self.end = len(b)

    def count(self, what: str, least: int) -> int:
        """The length of an array whose elements take at least so many bytes."""
        if self.flexible:
            found, self.p = uvarint(self.b, self.p)
            found -= 1
        else:
            (found,) = INT32.unpack_from(self.b, self.p)
            self.p += 4
        if found < 0 or found > (self.end - self.p) // least:
            raise refuse_length(what, found)
        return int(found)

    def string(self, what: str) -> str:
        if self.flexible:
            n, p = uvarint(self.b, self.p)
            n -= 1
        else:
            (n,) = _LENGTH.unpack_from(self.b, self.p)
            p = self.p + 2
        if n < 0 or p + n > self.end:
            raise refuse_length(what, n)
        self.p = p + n
        return str(self.b[p : self.p], "utf-8")

    def topic(self, version: int) -> tuple[str, bytes]:
        if version < 13:
            return self.string("topic"), NO_ID
        self.p += 16
        return "", bytes(self.b[self.p - 16 : self.p])

    def tags(self) -> None:
        if self.flexible:
            self.p = skip_tags(self.b, self.p) if self.b[self.p] else self.p + 1


_T = TypeVar("_T")


def _since(by_version: dict[int, _T], version: int) -> _T:
    """What holds for a version, of what is named by the version that began with it."""
    return by_version[max(first for first in by_version if first <= version)]


def _read(version: int, partition: Struct, b: Buffer, p: int) -> tuple[FetchRequest, int]:
    m = FetchRequest()
    if version <= 14:
        m.replica_id, m.max_wait_ms, m.min_bytes, m.max_bytes, m.isolation_level = _HEAD.unpack_from(b, p)
        p += _HEAD.size
    else:
        m.max_wait_ms, m.min_bytes, m.max_bytes, m.isolation_level = _HEAD_WITHOUT_REPLICA.unpack_from(b, p)
        p += _HEAD_WITHOUT_REPLICA.size
    if version >= 7:
        m.session_id, m.session_epoch = _SESSION.unpack_from(b, p)
        p += _SESSION.size
    reader = _Reader(b, p, version >= 12)
    for _ in range(reader.count("topics", 3)):
        name, topic_id = reader.topic(version)
        partitions = _partitions(reader, version, partition)
        m.topics.append(TopicToFetch(name, topic_id, partitions))
        reader.tags()
    if version >= 7:
        m.forgotten = _forgotten(version, reader)
    if version >= 11:
        m.rack_id = reader.string("rack_id")
    reader.tags()
    return m, reader.p


def _partitions(reader: _Reader, version: int, partition: Struct) -> list[PartitionToFetch]:
    count, b, size, unpack = reader.count("partitions", partition.size), reader.b, partition.size, partition.unpack_from
    make, p = _since(_MAKE, version), reader.p
    found = []
    for _ in range(count):
        found.append(make(unpack(b, p)))
        p += size
        if version >= 12:
            p = skip_tags(b, p) if b[p] else p + 1
    reader.p = p
    return found


def _of_v4(found: tuple[int, int, int]) -> PartitionToFetch:
    partition, offset, most = found
    return PartitionToFetch(partition, -1, offset, -1, -1, most)


def _of_v5(found: tuple[int, int, int, int]) -> PartitionToFetch:
    partition, offset, start, most = found
    return PartitionToFetch(partition, -1, offset, -1, start, most)


def _of_v9(found: tuple[int, int, int, int, int]) -> PartitionToFetch:
    partition, epoch, offset, start, most = found
    return PartitionToFetch(partition, epoch, offset, -1, start, most)


_MAKE: Final[dict[int, Callable[[Any], PartitionToFetch]]] = {
    4: _of_v4,
    5: _of_v5,
    9: _of_v9,
    12: PartitionToFetch._make,
}


def _forgotten(version: int, reader: _Reader) -> list[ForgottenTopic]:
    topics = []
    for _ in range(reader.count("forgotten_topics_data", 3)):
        name, topic_id = reader.topic(version)
        count = reader.count("partitions", 4)
        partitions = [INT32.unpack_from(reader.b, reader.p + 4 * number)[0] for number in range(count)]
        reader.p += 4 * count
        reader.tags()
        topics.append(ForgottenTopic(name, topic_id, partitions))
    return topics


def _write(version: int, m: FetchResponse, w: Callable[[Buffer], None]) -> None:
    flexible = version >= 12
    w(
        _ANSWER_HEAD.pack(m.throttle_time_ms, m.error_code, m.session_id)
        if version >= 7
        else INT32.pack(m.throttle_time_ms)
    )
    w(write_uvarint(len(m.topics) + 1) if flexible else INT32.pack(len(m.topics)))
    for topic in m.topics:
        if version >= 13:
            w(topic.topic_id)
        else:
            w(compact_string(topic.name) if flexible else string(topic.name))
        w(write_uvarint(len(topic.partitions) + 1) if flexible else INT32.pack(len(topic.partitions)))
        for each in topic.partitions:
            partition, error, mark, stable, start, records, aborted, diverging, leader, preferred = each
            size = sum(map(len, records)) if records else 0
            if flexible and aborted is None:
                w(_FLEXIBLE.pack(partition, error, mark, stable, start, 0, preferred))
                w(write_uvarint(size + 1))
            else:
                w(_flexible_prefix(each, size) if flexible else _legacy_prefix(version, each, size))
            for part in records:
                w(part)
            if flexible:
                w(b"\0" if diverging is None and leader is None else _tags(each))
        if flexible:
            w(b"\0")
    if flexible:
        w(endpoint_tags(m.node_endpoints if version >= 16 else ()))


_FLEXIBLE: Final = Struct(">ihqqqBi")
_V11: Final = Struct(">ihqqqiii")


def _flexible_prefix(each: Fetched, size: int) -> bytes:
    """Everything before a partition's records, with what was aborted among them."""
    aborted = each.aborted or ()
    parts = [_PREFIX[5].pack(*each[:5]), write_uvarint(len(aborted) + 1)]
    parts += [_ABORTED.pack(*one) + b"\0" for one in aborted]
    return b"".join([*parts, INT32.pack(each.preferred_read_replica), write_uvarint(size + 1)])


def _legacy_prefix(version: int, each: Fetched, size: int) -> bytes:
    if version == 11 and not each.aborted:
        count = -1 if each.aborted is None else 0
        return _V11.pack(*each[:5], count, each.preferred_read_replica, size)
    fixed = _PREFIX[5].pack(*each[:5]) if version >= 5 else _PREFIX[4].pack(*each[:4])
    parts = [fixed, INT32.pack(-1 if each.aborted is None else len(each.aborted))]
    parts += [_ABORTED.pack(*one) for one in each.aborted or ()]
    if version >= 11:
        parts.append(INT32.pack(each.preferred_read_replica))
    return b"".join([*parts, INT32.pack(size)])


def _tags(each: Fetched) -> bytes:
    found = []
    if each.diverging_epoch is not None:
        found.append((0, _EPOCH_END.pack(*each.diverging_epoch, 0)))
    if each.current_leader is not None:
        found.append((1, leader_bytes(each.current_leader)))
    return tagged(found)


READ: Final = {version: partial(_read, version, _since(_PARTITION, version)) for version in range(LOW, HIGH + 1)}
WRITE: Final = {version: partial(_write, version) for version in range(LOW, HIGH + 1)}
