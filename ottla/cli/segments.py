"""What lies in segment files and metadata snapshots, as plain values: the reading half of `ottla log dump`.

Needs no server: docs/storage-format.md is all there is to know. Nothing is written, and a log in use may be read.
"""

import json
import mmap
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from google.protobuf.message import DecodeError, Message

from ottla.client.decode import plain_records
from ottla.client.errors import OttlaError
from ottla.internal.v1 import metadata_pb2, raft_pb2
from ottla.protocol.batch import (
    ATTR_CONTROL,
    ATTR_LOG_APPEND_TIME,
    BatchAt,
    CorruptBatch,
    crc_seed,
    read_batch,
)
from ottla.protocol.checksum import crc32c
from ottla.protocol.errors import ApiError
from ottla.protocol.payloads import KIND_FROM, check_kind, verify_batch
from ottla.protocol.walk import Malformed
from ottla.v1.record_pb2 import Record, Records

_PARTITION: Final = re.compile(r"([0-9a-f]{32})-(\d+)")
_SEGMENT: Final = re.compile(r"\d{20}\.log")
SNAPSHOT: Final = re.compile(r"(\d{20})-(\d{10})\.snapshot")
_SNAPSHOT_MAGIC: Final = b"ottla snapshot 1 "
_DURABLE_MAGIC: Final = b"ottla 1 "
_VOTERS: Final = b"voters"


class Damaged(ValueError):
    """A file is not what its name says."""


@dataclass(frozen=True)
class LogKind:
    """What a log is: `seed` checks that its batches belong there (None: not known), `metadata`: the quorum's."""

    seed: int | None
    metadata: bool


@dataclass
class Batch:
    """One batch. `problem`: why it cannot be believed; empty where all is well."""

    file: Path
    position: int
    size_bytes: int
    base_offset: int = -1
    last_offset: int = -1
    epoch: int = -1
    timestamp: int = -1
    producer: tuple[int, int, int] = (0, 0, 0)
    codec: int = 0
    kind: str = "records"
    control: bool = False
    problem: str = ""
    entries: list[dict[str, Any]] = field(default_factory=list)


def segments_of(directory: Path) -> list[Path]:
    """Segment files in the order of their offsets. Raises OSError."""
    return sorted(path for path in directory.iterdir() if _SEGMENT.fullmatch(path.name))


def kind_of(directory: Path) -> LogKind:
    """By the names around a log: a partition's directory has its topic id, the quorum's has its cluster beside it."""
    directory = directory.resolve()
    partition = _PARTITION.fullmatch(directory.name)
    if partition is not None:
        return LogKind(crc_seed(bytes.fromhex(partition[1]), int(partition[2])), metadata=False)
    formation = directory.parent / "formation"
    if directory.name == "log" and formation.exists():
        return LogKind(crc_seed(bytes.fromhex(read_small(formation)["cluster_id"]), 0), metadata=True)
    return LogKind(None, metadata=False)


def read_small(path: Path) -> dict[str, Any]:
    """A small file of a node: checksum line, JSON. Raises Damaged, OSError."""
    head, _, body = path.read_bytes().partition(b"\n")
    if head != _DURABLE_MAGIC + b"%08x" % crc32c(body):
        raise Damaged(f"{path} does not carry the checksum of its content")
    content: dict[str, Any] = json.loads(body)
    return content


def batches(path: Path, kind: LogKind, *, records: bool) -> Iterator[Batch]:
    """The batches of a segment, with their records if wanted; what follows the last whole one comes as a problem."""
    with path.open("rb") as file:
        size = path.stat().st_size
        if size == 0:
            return
        with mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) as data:
            at = 0
            while at < size:
                try:
                    found = read_batch(memoryview(data), at)
                except CorruptBatch as error:
                    problem = str(error)
                    if not any(data[at : at + 4096]):
                        problem = "zeros: space that was set aside, or lost"
                    yield Batch(path, at, size - at, problem=f"{problem}; what follows cannot be read")
                    return
                if found is None:
                    yield Batch(path, at, size - at, problem="half a batch: a torn tail, or one just being written")
                    return
                yield _batch(path, data[at : found.end], found, kind, records=records)
                at = found.end


def _batch(path: Path, raw: bytes, found: BatchAt, kind: LogKind, *, records: bool) -> Batch:
    header = found.header
    local = BatchAt(header, 0, found.body - found.start, len(raw))
    batch = Batch(
        path,
        found.start,
        len(raw),
        header.base_offset,
        header.last_offset,
        header.leader_epoch,
        header.max_timestamp,
        (header.producer_id, header.producer_epoch, header.base_sequence),
        header.codec,
        {0: "records", 1: "kafka"}.get(header.attributes >> KIND_FROM, "unknown"),
        bool(header.attributes & ATTR_CONTROL),
    )
    try:
        if kind.seed is not None:
            verify_batch(raw, local, kind.seed)
        else:
            check_kind(raw, local)
        if records:
            batch.entries = list(_entries(raw, local, kind))
    except (CorruptBatch, DecodeError, Malformed, ApiError, OttlaError) as error:
        batch.problem = str(error)
    return batch


def _entries(raw: bytes, batch: BatchAt, kind: LogKind) -> Iterator[dict[str, Any]]:
    header = batch.header
    if header.attributes & ATTR_CONTROL or header.attributes >> KIND_FROM > 1:
        return
    plain = plain_records(header, batch.payload(raw)[1])
    for i, record in enumerate(Records.FromString(bytes(plain)).records):
        if kind.metadata:
            yield from _metadata(record)
            continue
        delta = record.offset_delta if record.HasField("offset_delta") else i
        append_time = header.attributes & ATTR_LOG_APPEND_TIME
        yield {
            "offset": header.base_offset + delta,
            "timestamp": header.base_timestamp + (0 if append_time else record.timestamp_delta),
            "key": _text(record.key) if record.HasField("key") else None,
            "value": _text(record.value) if record.HasField("value") else None,
            "headers": {h.key: _text(h.value) if h.HasField("value") else None for h in record.headers},
        }


def _metadata(record: Record) -> Iterator[dict[str, Any]]:
    """A raft entry: one of the quorum's own has a key, an atomic list of metadata records has none."""
    if not record.HasField("key"):
        yield from metadata_records(metadata_pb2.MetadataRecords.FromString(record.value))
    elif record.key == _VOTERS:
        yield {"voters": voters(raft_pb2.RaftVoterSet.FromString(record.value).voters)}
    else:
        yield {_text(record.key): {}}


def metadata_records(records: metadata_pb2.MetadataRecords) -> Iterator[dict[str, Any]]:
    """Each record as `{kind: fields}`."""
    for record in records.records:
        kind = record.WhichOneof("record")
        yield {"unknown": {}} if kind is None else {kind: _fields(getattr(record, kind))}


def voters(peers: Any) -> list[str]:
    """Voters as node@directory."""
    return [f"{peer.node_id}@{peer.directory_id.hex()}" for peer in peers]


def read_snapshot(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(what it stands for, its records). Raises Damaged, OSError."""
    head, _, body = path.read_bytes().partition(b"\n")
    if head != b"%s%08x" % (_SNAPSHOT_MAGIC, crc32c(body)):
        raise Damaged(f"{path} does not carry the checksum of its content")
    length = int.from_bytes(body[:4], "little")
    try:
        stands_for = raft_pb2.RaftSnapshotId.FromString(body[4 : 4 + length])
        records = list(metadata_records(metadata_pb2.MetadataRecords.FromString(body[4 + length :])))
    except DecodeError as error:
        raise Damaged(f"{path}: {error}") from None
    about = {
        "snapshot": path.name,
        "last_index": stands_for.last_index,
        "last_term": stands_for.last_term,
        "voters": voters(stands_for.voters),
    }
    return about, records


def _fields(message: Message) -> dict[str, Any]:
    """The fields that are set, with ids in hexadecimal. What the schema marks as secret is only said to be there."""
    found: dict[str, Any] = {}
    for descriptor, value in message.ListFields():
        if descriptor.GetOptions().debug_redact:
            found[descriptor.name] = "(secret)"
            continue
        many = not isinstance(value, str | bytes | int | bool | float | Message)
        found[descriptor.name] = [_value(item) for item in value] if many else _value(value)
    return found


def _value(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Message):
        fields = _fields(value)
        # A list that may be empty is a message with one field.
        return fields.get("ids", []) if type(value).__name__ == "NodeList" else fields
    return value


def _text(data: bytes) -> str:
    """Text where it is text; hexadecimal otherwise, marked by 0x."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return "0x" + data.hex()
