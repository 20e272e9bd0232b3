"""Compaction: of the records with one key, only the last one stays (cleanup.policy=compact).

Three steps, so that the owner's thread never waits for the work: `Log.begin_compaction` takes a `CompactionRun` on the
owner's thread, `CompactionRun.run` does the work on any thread and writes new files beside the log,
`Log.complete_compaction` puts them in place, or throws them away if the log was cut meanwhile.

Rules, as Kafka's cleaner has them (KIP-58, KIP-354, KIP-534):
- Offsets and order never change; each record of a rewritten batch carries its own offset delta. Those of a Kafka
  batch do so anyway: what stays of them keeps its bytes.
- Only closed segments below the high watermark and older than `min.compaction.lag.ms` are touched.
- The first cleaning that sees a tombstone sets its batch's delete horizon, the first one after the horizon drops it.
- The last batch of a producer that has not expired stays, empty if need be: its sequence lives in the header. So does
  the last batch of a segment, so that the segments of a log always join.
- Memory is bounded: when the table of keys is full, the rest of the dirty part waits for the next run, from the record
  on that found no room. No object is made of a record that is only read; one batch at a time is unfolded.
"""

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final

from ottla.protocol.batch import (
    ATTR_CODEC_MASK,
    ATTR_CONTROL,
    ATTR_DELETE_HORIZON,
    ATTR_LOG_APPEND_TIME,
    BatchAt,
    BatchHeader,
    CorruptBatch,
    encode_batch,
    varint,
)
from ottla.protocol.payloads import (
    ATTR_KAFKA,
    KIND_FROM,
    each,
    packed_records,
    payload_field_of,
    repacked,
)
from ottla.protocol.walk import Malformed, Plain
from storage.config import LogConfig
from storage.fs import Directory, FileSystem, remove_if_there
from storage.index import SegmentSummary
from storage.pace import Pace, no_pace
from storage.segment import CLEANED_SUFFIX, Segment

Codec = Callable[[int, Plain], Plain]
"""(codec number, records) -> records, compressed or decompressed. Where they are a Kafka batch's, the number has
ATTR_KAFKA: Kafka's clients frame some codecs in their own way."""
_FORM: Final = ATTR_CODEC_MASK | ATTR_KAFKA

DEDUPE_BUFFER_BYTES: Final = 16 * 1024 * 1024
_KEY_BYTES: Final = 200  # what an entry of the table costs: a 16 byte digest, an offset, their place in the dict
_WRITE_BYTES: Final = 1024 * 1024
_PACE_RECORDS: Final = 1000


@dataclass(frozen=True, slots=True)
class CompactionState:
    """What is remembered between runs. `cleaned_end_offset`: below it no key comes twice (exclusive).
    `tombstones_due_ms`: when the earliest delete horizon is over, or None."""

    cleaned_end_offset: int = 0
    tombstones_due_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Input:
    """A closed segment of the log, what it is read by (one open file at a time), and what it was when the run began."""

    segment: Segment
    reader: Segment
    summary: SegmentSummary


@dataclass(slots=True)
class Group:
    """Neighbouring segments and the one that replaces them. `changed`: that is not just the same segment again."""

    old: list[Segment]
    new: Segment
    changed: bool = False


@dataclass(slots=True)
class CompactionRun:
    """One run over the segments that may be cleaned. Made by `plan`; `run` may be called on any thread."""

    fs: FileSystem
    directory: str
    seed: int
    config: LogConfig
    now_ms: int
    before: CompactionState
    inputs: list[Input]
    keys_max: int
    groups: list[Group] = field(default_factory=list)
    after: CompactionState = field(default_factory=CompactionState)
    error: OSError | CorruptBatch | None = None
    done: bool = False
    abandoned: bool = False
    """Set it from any thread to let `run` end soon, undone."""
    _last_offsets: dict[bytes, int] = field(default_factory=dict)
    _mapped_end: int = 0
    _last_of_producer: dict[int, int] = field(default_factory=dict)
    _due_ms: int | None = None
    _pace: Pace = no_pace

    def run(self, decompress: Codec, compress: Codec, pace: Pace = no_pace) -> None:
        """Reads the segments and writes their replacements, synced, as `*.cleaned` files. `pace` is called after each
        batch and may wait. Raises OSError, CorruptBatch (rot in a closed segment), and what the codecs raise; the log
        must be told in any case."""
        self._pace = pace
        try:
            self._map_keys(decompress)
            for source in self.inputs:
                if source.summary.base_offset >= self._mapped_end:
                    break
                last = self.groups[-1] if self.groups else None
                # Only after cleaning is it known how little is left, so a segment may grow to 1.5 times the limit.
                if last is None or 2 * last.new.size_bytes > self.config.segment_bytes:
                    self._finish_group()
                    last = self._new_group(source)
                else:
                    last.changed = True
                last.old.append(source.segment)
                self._clean(source, last, decompress, compress)
            if self.abandoned:
                return
            self._finish_group()
            self.groups = [group for group in self.groups if group.changed]
            self.after = CompactionState(self._mapped_end, self._due_ms)
            self.done = True
        except (OSError, CorruptBatch) as error:
            self.error = error
            raise
        finally:
            self._last_offsets.clear()
            for source in self.inputs:
                source.reader.close()

    def still_stands(self, closed: list[Segment]) -> bool:
        """Whether the log has not cut, trimmed or replaced any of the segments since the run began."""
        return all(source.segment in closed and source.segment.summary == source.summary for source in self.inputs)

    def discard(self) -> None:
        """Removes what `run` wrote, as far as the disk lets it; the next open removes the rest."""
        for source in self.inputs:
            source.reader.close()
        for group in self.groups:
            group.new.close()
            with contextlib.suppress(OSError):
                remove_if_there(self.fs, group.new.path)
        self.groups = []

    def _map_keys(self, decompress: Codec) -> None:
        """The last offset of every key in the dirty part, as far as the table has room, and of every producer."""
        self._mapped_end = self.before.cleaned_end_offset
        full = False
        alive_after_ms = self.now_ms - self.config.producer_id_expiration_ms
        for source in self.inputs:
            for data, batch in source.reader.scan(self.seed, source.summary.size_bytes):
                self._pace()
                if self.abandoned:
                    return
                header = batch.header
                if header.producer_id and header.max_timestamp > alive_after_ms:
                    self._last_of_producer[header.producer_id] = header.base_offset
                if full or header.next_offset <= self.before.cleaned_end_offset:
                    continue
                full = not self._map(header, _plain(data, batch, decompress) or b"")
            source.reader.close()

    def _map(self, header: BatchHeader, plain: Plain) -> bool:
        """Takes a batch's keys into the table, as far as there is room; False if that ended before the batch did."""
        try:
            for place, spot in enumerate(each(header.attributes, plain)):
                if place % _PACE_RECORDS == _PACE_RECORDS - 1:
                    self._pace()
                offset = header.base_offset + (place if spot.offset_delta is None else spot.offset_delta)
                if spot.key is None or offset < self.before.cleaned_end_offset:
                    continue
                digest = _digest(plain[slice(*spot.key)])
                if digest not in self._last_offsets and len(self._last_offsets) >= self.keys_max:
                    self._mapped_end = offset
                    return False
                self._last_offsets[digest] = offset
        except Malformed:
            pass  # not ours to judge: it stays as it is
        self._mapped_end = header.next_offset
        return True

    def _new_group(self, source: Input) -> Group:
        base_offset = source.summary.base_offset
        path = os.path.join(self.directory, f"{base_offset:020d}{CLEANED_SUFFIX}")
        remove_if_there(self.fs, path)
        new = Segment.create(self.fs, self.directory, base_offset, self.config.index_interval_bytes, path)
        new.first_append_ms = source.summary.first_append_ms
        group = Group([], new)
        self.groups.append(group)
        return group

    def _finish_group(self) -> None:
        """Makes the last group's file durable, or removes it if it is the same as its only segment's."""
        if not self.groups:
            return
        group = self.groups[-1]
        if group.changed:
            group.new.file.sync()
        else:
            group.new.close()
            remove_if_there(self.fs, group.new.path)

    def _clean(self, source: Input, group: Group, decompress: Codec, compress: Codec) -> None:
        """Writes what stays of a segment to the end of the group's new one."""
        new, end_offset = group.new, source.summary.next_offset
        buffers: list[bytes] = []
        position = buffered = new.size_bytes
        for data, batch in source.reader.scan(self.seed, source.summary.size_bytes):
            self._pace()
            if self.abandoned:
                return
            kept = self._cleaned(data, batch, batch.header.next_offset == end_offset, decompress, compress)
            if kept is None:
                group.changed = True
                continue
            header, pieces = kept
            group.changed = group.changed or header is not batch.header
            length = sum(map(len, pieces))
            new.note(header.base_offset, header.next_offset, length, header.max_timestamp)
            buffers += pieces
            buffered += length
            if buffered - position >= _WRITE_BYTES:
                new.file.write_at(position, buffers)
                position, buffers = buffered, []
        if buffers:
            new.file.write_at(position, buffers)
        source.reader.close()

    def _cleaned(
        self, data: bytes, batch: BatchAt, last: bool, decompress: Codec, compress: Codec
    ) -> tuple[BatchHeader, list[bytes]] | None:
        """The batch as it stays: its own header object if nothing changes, None if nothing of it stays."""
        header = batch.header
        as_it_is = header, [data[batch.start : batch.end]]
        plain = _plain(data, batch, decompress)
        if plain is None:
            return as_it_is
        try:
            stays, tombstones = self._what_stays(header, plain)
        except Malformed:
            return as_it_is
        count = stays.count(1)
        if not count and not last and self._last_of_producer.get(header.producer_id) != header.base_offset:
            return None
        attributes, horizon_ms = self._horizon(header, tombstones)
        if tombstones and attributes & ATTR_DELETE_HORIZON:
            self._due_ms = horizon_ms if self._due_ms is None else min(self._due_ms, horizon_ms)
        if count == len(stays):
            if attributes == header.attributes:
                return as_it_is
            payload_field, payload = batch.payload(data)
            header = header._replace(attributes=attributes, delete_horizon_ms=horizon_ms)
            return header, encode_batch(header, self.seed, bytes(payload), payload_field)
        codec = attributes & ATTR_CODEC_MASK if count else 0
        kept, newest = _kept(header.attributes, plain, stays)
        stored = bytes(compress(codec | attributes & ATTR_KAFKA, kept) if codec else kept)
        if not count or attributes & ATTR_LOG_APPEND_TIME:
            newest_ms = header.max_timestamp
        else:
            newest_ms = header.base_timestamp + newest
        header = header._replace(
            attributes=attributes & ~ATTR_CODEC_MASK | codec,
            record_count=count,
            max_timestamp=newest_ms,
            delete_horizon_ms=horizon_ms,
        )
        header, made = repacked(header, stored)
        return header, encode_batch(header, self.seed, made, payload_field_of(header.attributes))

    def _what_stays(self, header: BatchHeader, plain: Plain) -> tuple[bytearray, bool]:
        """(1 for each record that stays, 0 for the others; whether a tombstone stays). Raises Malformed."""
        expired = header.attributes & ATTR_DELETE_HORIZON and header.delete_horizon_ms <= self.now_ms
        stays = bytearray()
        tombstones = False
        for place, spot in enumerate(each(header.attributes, plain)):
            if place % _PACE_RECORDS == _PACE_RECORDS - 1:
                self._pace()
            stay = True
            if spot.key is not None:
                offset = header.base_offset + (place if spot.offset_delta is None else spot.offset_delta)
                stay = offset >= self._last_offsets.get(_digest(plain[slice(*spot.key)]), -1)
                if stay and not spot.has_value:
                    stay = not expired
                    tombstones = tombstones or stay
            stays.append(stay)
        return stays, tombstones

    def _horizon(self, header: BatchHeader, tombstones: bool) -> tuple[int, int]:
        """(attributes, delete horizon) of a batch that keeps tombstones, or none."""
        if not tombstones:
            return header.attributes & ~ATTR_DELETE_HORIZON, 0
        if header.attributes & ATTR_DELETE_HORIZON:
            return header.attributes, header.delete_horizon_ms
        if header.next_offset > self._mapped_end:
            # Older values of its keys may still be there: the clock starts when they are gone.
            return header.attributes, 0
        return header.attributes | ATTR_DELETE_HORIZON, self.now_ms + self.config.delete_retention_ms


def plan(
    fs: FileSystem,
    directory: str,
    seed: int,
    closed: list[Segment],
    config: LogConfig,
    state: CompactionState,
    *,
    now_ms: int,
    end_offset: int,
    dedupe_buffer_bytes: int,
) -> CompactionRun | None:
    """A run over the segments that may be cleaned, or None if it is not worth it yet. Raises OSError."""
    cleanable: list[Segment] = []
    for segment in closed:
        too_young = 0 < config.min_compaction_lag_ms > now_ms - segment.max_timestamp
        if segment.next_offset > end_offset or too_young:
            break
        cleanable.append(segment)
    dirty = [segment for segment in cleanable if segment.next_offset > state.cleaned_end_offset]
    total_bytes = sum(segment.size_bytes for segment in cleanable)
    dirty_bytes = sum(segment.size_bytes for segment in dirty)
    worth_it = dirty_bytes > 0 and dirty_bytes >= config.min_cleanable_dirty_ratio * total_bytes
    overdue = any(now_ms - segment.first_append_ms > config.max_compaction_lag_ms for segment in dirty)
    tombstones_due = state.tombstones_due_ms is not None and state.tombstones_due_ms <= now_ms
    if not (worth_it or overdue or tombstones_due):
        return None
    keys_max = max(1, dedupe_buffer_bytes // _KEY_BYTES)
    inputs = [Input(segment, segment.later_reader(), segment.summary) for segment in cleanable]
    return CompactionRun(fs, directory, seed, config, now_ms, state, inputs, keys_max)


def swap(fs: FileSystem, directory: Directory, groups: list[Group]) -> None:
    """Puts the new segments' files in the place of the old ones'. Raises OSError.

    A crash at any point leaves a log that opens: before a rename the old segments are whole, after it the new one
    covers those behind it, which recovery then removes (KAFKA-7401). The order needs the two syncs in between: an
    index file must not meet another segment of the same size, and no old segment may go before its replacement is
    sure.
    """
    for group in groups:
        remove_if_there(fs, group.old[0].index_path)
    directory.sync()
    for group in groups:
        fs.rename(group.new.path, group.old[0].path)
        group.new.path = group.old[0].path
    directory.sync()
    for group in groups:
        for old in group.old:
            old.close()
        for old in group.old[1:]:
            remove_if_there(fs, old.index_path)
            fs.unlink(old.path)


def _plain(data: bytes, batch: BatchAt, decompress: Codec) -> Plain | None:
    """The records, or None for a batch that has none to look into: markers, and kinds that are not known here."""
    attributes = batch.header.attributes
    if attributes & ATTR_CONTROL or attributes >> KIND_FROM > 1:
        return None
    packed = packed_records(attributes, batch.payload(data)[1])
    return decompress(attributes & _FORM, packed) if attributes & ATTR_CODEC_MASK else packed


def _kept(attributes: int, plain: Plain, stays: bytearray) -> tuple[bytearray, int]:
    """(The records that stay, each with an offset delta of its own; their largest timestamp delta)."""
    kept = bytearray()
    newest = -(1 << 63)
    for place, spot in enumerate(each(attributes, plain)):
        if not stays[place]:
            continue
        newest = max(newest, spot.timestamp_delta)
        if spot.offset_delta is not None:
            kept += plain[spot.start : spot.end]
            continue
        delta = b"\x28" + varint(place)
        kept += b"\x0a" + varint(spot.end - spot.body + len(delta))
        kept += plain[spot.body : spot.end]
        kept += delta
    return kept, newest


def _digest(key: Plain) -> bytes:
    return blake2b(key, digest_size=16).digest()
