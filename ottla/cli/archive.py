"""The file of an exported topic: a header, slices of the topic's logs, and an end that vouches for all before it.

docs/export-format.md is the specification. A file without its end is none: an export that was cut short never passes.
"""

import hashlib
import json
import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final, NamedTuple, Self

from ottla.cli.failure import Failure
from ottla.protocol.batch import BatchAt, BatchHeader, CorruptBatch, crc_seed, encode_batch, read_batch
from ottla.protocol.checksum import crc32c
from ottla.protocol.payloads import verify_slice

MAGIC: Final = b"OTTLAEX1"
HEADER, SLICE, END = 1, 2, 3
FRAME_MAX_BYTES: Final = 64 * 2**20
_FRAME: Final = struct.Struct("<BII")  # kind, length of the content, CRC-32C of kind, length and content
_PARTITION: Final = struct.Struct("<I")
_GAP_MAX: Final = 1 << 30


@dataclass(slots=True)
class Extent:
    """What a file has of a partition. `first_offset`: where its log begins, `log_start_offset`: the first that can be
    read, `end_offset`: one past the last; `bytes` of batches as they are stored."""

    first_offset: int = 0
    log_start_offset: int = 0
    end_offset: int = 0
    batches: int = 0
    records: int = 0
    bytes: int = 0


@dataclass(slots=True)
class Contents:
    """What a file says of itself, in its header and at its end."""

    topic: str
    topic_id: bytes
    configs: dict[str, str]
    version: str
    partitions: list[Extent]
    producer_ids_end: int = 0
    digest: bytes = b""
    """SHA-256 of all before the end."""
    newest_ms: list[int] = field(default_factory=list)
    """By partition, the largest time of a record; only of a file that was read."""

    @property
    def import_id(self) -> bytes:
        """Names the import of this very file."""
        return self.digest[:16]


class Slice(NamedTuple):
    """Whole batches of a partition, in order."""

    partition: int
    batches: bytes


def batches_of(data: bytes) -> Iterator[BatchAt]:
    """The batches of a slice. Raises CorruptBatch."""
    at = 0
    while at < len(data):
        batch = read_batch(data, at)
        if batch is None:
            raise CorruptBatch(f"the slice ends inside the batch at byte {at}")
        yield batch
        at = batch.end


class Writer:
    """Writes a file under a name of its own, and gives it its name when it is whole and on the disk."""

    def __init__(self, path: Path, contents: Contents) -> None:
        self.contents = contents
        self._path = path
        self._partial = path.with_name(path.name + ".partial")
        self._digest = hashlib.sha256()
        self._file: BinaryIO = self._partial.open("wb")
        self._write(MAGIC)
        header = {"topic": contents.topic, "topic_id": contents.topic_id.hex(), "configs": contents.configs}
        self._frame(HEADER, _json({**header, "partitions": len(contents.partitions), "version": contents.version}))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._file.closed:
            self._file.close()
            self._partial.unlink(missing_ok=True)

    def add(self, partition: int, data: bytes) -> None:
        """Adds a slice of the partition's log, which goes on where the one before it ended. Raises CorruptBatch."""
        contents, extent = self.contents, self.contents.partitions[partition]
        verify_slice(data, crc_seed(contents.topic_id, partition))
        _count(contents, extent, data)
        self._frame(SLICE, _PARTITION.pack(partition), data)

    def close_gap(self, partition: int, end_offset: int) -> None:
        """Compaction took what was last: an empty batch stands for the offsets up to the end, as in logs."""
        extent = self.contents.partitions[partition]
        while extent.batches and extent.end_offset < end_offset:
            base, gap = extent.end_offset, min(end_offset - extent.end_offset, _GAP_MAX)
            header = BatchHeader(base, 0, 0, gap - 1)
            self.add(partition, b"".join(encode_batch(header, crc_seed(self.contents.topic_id, partition), b"")))

    def finish(self) -> None:
        """Writes the end, and makes the file durable under its name. Raises OSError."""
        contents = self.contents
        contents.digest = self._digest.digest()
        end = {
            "partitions": [asdict(extent) for extent in contents.partitions],
            "producer_ids_end": contents.producer_ids_end,
            "sha256": contents.digest.hex(),
        }
        self._frame(END, _json(end))
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._partial.replace(self._path)
        directory = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def _frame(self, kind: int, *parts: bytes) -> None:
        content = b"".join(parts)
        self._write(_FRAME.pack(kind, len(content), _crc(kind, content)), content)

    def _write(self, *parts: bytes) -> None:
        for part in parts:
            self._file.write(part)
            self._digest.update(part)


def read(path: Path, advance: Callable[[int], object] = lambda count_bytes: None) -> Contents:
    """Reads the whole file and checks everything about it, each batch too. `advance` is told of bytes. Raises Failure,
    OSError."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        frames = _frames(file, path, digest.update)
        kind, content = next(frames, (0, b""))
        if kind != HEADER:
            raise _broken(path, "it does not begin with a header")
        contents = _contents(path, content)
        for kind, content in frames:
            if kind == END:
                _check_end(path, contents, content, digest.digest())
                if file.read(1):
                    raise _broken(path, "something follows its end")
                return contents
            if kind != SLICE:
                raise _broken(path, f"it has a part of kind {kind}, which this version does not know")
            _add(path, contents, *_slice(path, contents, content))
            digest.update(_FRAME.pack(kind, len(content), _crc(kind, content)) + content)
            advance(len(content))
    raise Failure(
        "CUT_SHORT",
        f"{path} has no end: the export or a copy of it was cut short",
        "export the topic again, or copy it",
    )


def slices(path: Path, contents: Contents) -> Iterator[Slice]:
    """The slices of a file that was read, in its order. Raises Failure, OSError."""
    with path.open("rb") as file:
        for kind, content in _frames(file, path, lambda data: None):
            if kind == SLICE:
                yield _slice(path, contents, content)


def _frames(file: BinaryIO, path: Path, begun: Callable[[bytes], object]) -> Iterator[tuple[int, bytes]]:
    """Kind and content of each part; `begun` hears the bytes up to the first slice."""
    magic = file.read(len(MAGIC))
    if magic != MAGIC:
        raise Failure("INVALID_REQUEST", f"{path} is no export of a topic", "name one that `ottla topic export` wrote")
    begun(magic)
    while head := file.read(_FRAME.size):
        kind, length, crc = _FRAME.unpack(head) if len(head) == _FRAME.size else (0, FRAME_MAX_BYTES + 1, 0)
        if length > FRAME_MAX_BYTES:
            if len(head) < _FRAME.size:
                return
            raise _broken(path, f"a part of {length} bytes is larger than any is")
        content = file.read(length)
        if len(content) < length:
            return
        if _crc(kind, content) != crc:
            raise _broken(path, f"the checksum of the part at byte {file.tell() - length} does not match")
        if kind == HEADER:
            begun(head + content)
        yield kind, content


def _crc(kind: int, content: bytes) -> int:
    return int(crc32c(content, crc32c(_FRAME.pack(kind, len(content), 0))))


def _contents(path: Path, content: bytes) -> Contents:
    try:
        said = json.loads(content)
        count = int(said["partitions"])
        if not 0 < count <= 1_000_000 or len(topic_id := bytes.fromhex(said["topic_id"])) != 16:
            raise ValueError
        configs = {str(key): str(value) for key, value in said["configs"].items()}
        extents, newest = [Extent() for _ in range(count)], [-1] * count
        return Contents(str(said["topic"]), topic_id, configs, str(said["version"]), extents, newest_ms=newest)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise _broken(path, "its header does not say which topic it is of") from None


def _slice(path: Path, contents: Contents, content: bytes) -> Slice:
    partition = _PARTITION.unpack_from(content)[0] if len(content) >= _PARTITION.size else len(contents.partitions)
    if partition >= len(contents.partitions):
        raise _broken(path, f"it has a part of partition {partition}, and {len(contents.partitions)} of them")
    return Slice(partition, content[_PARTITION.size :])


def _add(path: Path, contents: Contents, partition: int, data: bytes) -> None:
    try:
        verify_slice(data, crc_seed(contents.topic_id, partition))
        _count(contents, contents.partitions[partition], data)
        newest = max((batch.header.max_timestamp for batch in batches_of(data)), default=-1)
    except CorruptBatch as error:
        raise _broken(path, f"partition {partition}: {error}") from None
    contents.newest_ms[partition] = max(contents.newest_ms[partition], newest)


def _count(contents: Contents, extent: Extent, data: bytes) -> None:
    for batch in batches_of(data):
        header = batch.header
        if extent.batches and header.base_offset < extent.end_offset:
            raise CorruptBatch(f"offset {header.base_offset} comes after {extent.end_offset}")
        if not extent.batches:
            extent.first_offset = header.base_offset
        extent.end_offset = header.next_offset
        extent.batches += 1
        extent.records += header.record_count
        extent.bytes += batch.end - batch.start
        contents.producer_ids_end = max(contents.producer_ids_end, header.producer_id + 1 if header.producer_id else 0)


def _check_end(path: Path, contents: Contents, content: bytes, digest: bytes) -> None:
    """Takes over what only the end says, and compares what it says of all the rest."""
    found, found_ids_end = contents.partitions, contents.producer_ids_end
    try:
        said: dict[str, Any] = json.loads(content)
        extents = [Extent(**each) for each in said["partitions"]]
        same = said["sha256"] == digest.hex() and said["producer_ids_end"] == found_ids_end
    except (KeyError, TypeError, ValueError):
        raise _broken(path, "its end cannot be read") from None
    for extent, there in zip(extents, found, strict=False):
        if not there.batches:
            there.first_offset = there.end_offset = extent.end_offset
        same = same and 0 <= extent.first_offset <= min(there.first_offset, extent.log_start_offset)
        there.first_offset, there.log_start_offset = extent.first_offset, extent.log_start_offset
        same = same and there.log_start_offset <= there.end_offset
    if not same or extents != found:
        raise _broken(path, "its end vouches for another content")
    contents.digest = digest


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _broken(path: Path, why: str) -> Failure:
    return Failure("CORRUPT_MESSAGE", f"{path} is damaged: {why}", "take another copy of it, or export the topic again")
