"""Metadata's answer from bytes that are kept: a topic is encoded once for each version, until the metadata moves on.

A cluster of a thousand partitions costs a millisecond to encode and its clients ask all the time; from kept bytes it
costs some microseconds.
"""

from collections.abc import Callable, Sequence
from functools import cache
from struct import Struct, pack
from typing import Final

from node.kafka.messages.metadata import MetadataResponse, MetadataResponsePartition, MetadataResponseTopic
from node.kafka.wire import (
    INT16,
    INT32,
    compact_string,
    nullable_compact_string,
    nullable_string,
    string,
    write_uvarint,
)

FLEXIBLE: Final = 9
_FUSED_MOST: Final = 126  # lengths that are one byte as a varint


class TopicBytes:
    """Encoded topics, by version and name, as of one state of the metadata."""

    def __init__(self) -> None:
        self._state: object = None
        self._kept: dict[tuple[int, str, bool], bytes] = {}

    def get(
        self, state: object, version: int, name: str, with_operations: bool, make: Callable[[], MetadataResponseTopic]
    ) -> bytes:
        """The topic's bytes; `make` is asked for it once for each `state`. `state` is what a change of metadata
        changes: its last index, say."""
        if state != self._state:
            self._state = state
            self._kept.clear()
        key = version, name, with_operations
        found = self._kept.get(key)
        if found is None:
            found = self._kept[key] = topic_bytes(version, make())
        return found


def topic_bytes(version: int, topic: MetadataResponseTopic) -> bytes:
    flexible = version >= FLEXIBLE
    parts = [INT16.pack(topic.error_code), _name(version, topic.name)]
    if version >= 10:
        parts.append(topic.topic_id)
    if version >= 1:
        parts.append(b"\1" if topic.is_internal else b"\0")
    parts.append(_count(flexible, len(topic.partitions)))
    parts += [_partition_bytes(version, each) for each in topic.partitions]
    if version >= 8:
        parts.append(INT32.pack(topic.topic_authorized_operations))
    return b"".join([*parts, b"\0"] if flexible else parts)


def response_parts(version: int, m: MetadataResponse, topics: Sequence[bytes]) -> list[bytes]:
    """The whole body, of `m` without its topics and of `topics` as `TopicBytes` has them."""
    flexible = version >= FLEXIBLE
    parts = [INT32.pack(m.throttle_time_ms)] if version >= 3 else []
    parts.append(_count(flexible, len(m.brokers)))
    for each in m.brokers:
        parts += (INT32.pack(each.node_id), _name(9 if flexible else 0, each.host), INT32.pack(each.port))
        if version >= 1:
            parts.append(_nullable(flexible, each.rack))
        if flexible:
            parts.append(b"\0")
    if version >= 2:
        parts.append(_nullable(flexible, m.cluster_id))
    if version >= 1:
        parts.append(INT32.pack(m.controller_id))
    parts.append(_count(flexible, len(topics)))
    parts += topics
    if 8 <= version <= 10:
        parts.append(INT32.pack(m.cluster_authorized_operations))
    if version >= 13:
        parts.append(INT16.pack(m.error_code))
    return [*parts, b"\0"] if flexible else parts


def _name(version: int, name: str | None) -> bytes:
    if version >= 12:
        return nullable_compact_string(name)
    return compact_string(name or "") if version >= FLEXIBLE else string(name or "")


def _nullable(flexible: bool, text: str | None) -> bytes:
    return nullable_compact_string(text) if flexible else nullable_string(text)


def _count(flexible: bool, count: int) -> bytes:
    return write_uvarint(count + 1) if flexible else INT32.pack(count)


@cache
def _fused(replicas: int, isr: int, offline: int) -> Struct:
    """A partition of a flexible version with so many of each, as one struct."""
    return Struct(f">hiiiB{replicas}iB{isr}iB{offline}iB")


def _partition_bytes(version: int, m: MetadataResponsePartition) -> bytes:
    replicas, isr, offline = m.replica_nodes, m.isr_nodes, m.offline_replicas
    r, i, o = len(replicas), len(isr), len(offline)
    if version < FLEXIBLE or r > _FUSED_MOST or i > _FUSED_MOST or o > _FUSED_MOST:
        return _any_partition_bytes(version, m)
    return _fused(r, i, o).pack(
        m.error_code, m.partition_index, m.leader_id, m.leader_epoch,
        r + 1, *replicas, i + 1, *isr, o + 1, *offline, 0,
    )  # fmt: skip


def _any_partition_bytes(version: int, m: MetadataResponsePartition) -> bytes:
    flexible = version >= FLEXIBLE
    parts = [INT16.pack(m.error_code), INT32.pack(m.partition_index), INT32.pack(m.leader_id)]
    if version >= 7:
        parts.append(INT32.pack(m.leader_epoch))
    for array in [m.replica_nodes, m.isr_nodes, m.offline_replicas][: 3 if version >= 5 else 2]:
        parts += (_count(flexible, len(array)), pack(f">{len(array)}i", *array))
    return b"".join([*parts, b"\0"] if flexible else parts)
