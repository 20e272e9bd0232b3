"""What a consumer decides about one partition: where it reads, what an answer means. Pure: no I/O, no clock."""

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from ottla.client.decode import BatchReader
from ottla.client.deserialize import NotLoaded
from ottla.client.errors import DeserializationFailed, LogTruncation, OffsetOutOfRange, OttlaError, from_server
from ottla.client.records import ConsumerRecord, Position, TopicPartition
from ottla.internal.v1.view_pb2 import FetchResultView
from ottla.protocol.batch import varint
from ottla.protocol.errors import ApiError
from ottla.v1 import error_pb2 as pb
from ottla.v1.data_pb2 import EpochEnd, FetchPartition

log = logging.getLogger("ottla.consumer")

CORRUPT_READS_MAX = 3
"""How often damaged bytes are read again before the user is told."""


def credit_bytes(batches: Iterable[bytes]) -> int:
    """What batches take of a stream's credit: their slice of the log, with tags and lengths."""
    return sum(1 + len(varint(len(batch))) + len(batch) for batch in batches)


class Chunk(NamedTuple):
    """Batches of one answer, not decoded yet. It is stale once the partition's `generation` has moved on. `size_bytes`
    is what it took of the credit of `source`."""

    state: "PartitionState"
    generation: int
    batches: list[bytes]
    next_offset: int
    size_bytes: int
    source: object


@dataclass(slots=True, eq=False)
class PartitionState:
    """One partition a consumer reads.

    `position` is the next offset the user gets, None until the reset policy has found one; `fetch_offset` is the next
    one to ask the server for. What lies between is buffered. What a group commits is derived from the position, too: a
    seek moves both. Invariant: `done` is never behind a record that is at work.
    """

    where: TopicPartition
    topic_id: bytes
    reset_policy: str
    reader: BatchReader = field(init=False)
    deserialize: Callable[[ConsumerRecord], ConsumerRecord] | None = None
    """The user's way with records; raises DeserializationFailed."""
    position: int | None = None
    position_epoch: int | None = None
    at_work: set["PartitionState"] = field(default_factory=set)
    """Those partitions of the consumer, of which the user has records at work; shared by all of them."""
    work_began: Position | None = None
    """The position before the first record that is at work."""
    stored: Position | None = None
    """What needs no commit: the group has it."""
    fetch_offset: int = 0
    fetched_epoch: int | None = None
    leader_epoch: int = -1
    leader_id: int | None = None
    high_watermark: int = -1
    log_start_offset: int = -1
    generation: int = 0
    seek_id: int = 0
    added_to: object = None
    paused: bool = False
    held: bool = False
    """As paused, but not the user's to end: the partition is about to move, or its listener has not been told yet."""
    is_new: bool = False
    """It was made after its reader or the group began: it starts with its first record, whatever the policy says."""
    loading: NotLoaded | None = None
    """What the record at the position can't be read without: nothing is fetched until it is there."""
    error: OttlaError | None = None
    retry_at_ms: int = 0
    failures: int = 0
    corrupt_reads: int = 0
    unreadable: int = 0
    """How often the user was told that a record can't be deserialized."""

    def __post_init__(self) -> None:
        self.reader = BatchReader(self.where.topic, self.topic_id, self.where.partition)

    # -- where to read ---------------------------------------------------------------------------------------------

    def seek(self, offset: int) -> None:
        """The user or the reset policy moves to an offset, and a group keeps it from now on: what is written behind it
        is for whoever reads next. Records at work count as if they had not been handed out."""
        self.begin(offset)
        self.stored = None

    def begin(self, offset: int | None, epoch: int | None = None) -> None:
        """Starts from an offset that the group has stored; None = the reset policy must find one. What is buffered is
        of no use any more."""
        self.position = offset
        self.position_epoch = epoch
        self.finished()
        self.stored = self.done
        self.loading = self.error = None
        self.retry_at_ms = 0
        self.failures = 0
        self.rewind()

    def rewind(self) -> None:
        """Forgets what is buffered and reads again from the user's position."""
        self.generation += 1
        self.added_to = None
        if self.position is not None:
            self.fetch_offset = self.position
            self.fetched_epoch = self.position_epoch

    def set_topic_id(self, topic_id: bytes) -> None:
        """The topic was deleted and created again: positions in the old one mean nothing here."""
        log.warning("%s-%d was created anew; starting by reset policy %s", *self.where, self.reset_policy)
        self.topic_id = topic_id
        self.reader = BatchReader(self.where.topic, topic_id, self.where.partition)
        self.leader_epoch = -1
        self.leader_id = None
        self.begin(None)
        if self.reset_policy == "none":
            self.error = OffsetOutOfRange(
                f"topic {self.where.topic} was deleted and created again, so the position is gone and "
                "auto_offset_reset is none. Next: seek",
                topic=self.where.topic,
                partition=self.where.partition,
                offset=0,
            )

    def set_leader(self, leader_id: int | None, epoch: int) -> None:
        """News from the metadata, or from an error (KIP-951). Older news is ignored."""
        if epoch < self.leader_epoch or (epoch == self.leader_epoch and leader_id == self.leader_id):
            return
        self.leader_epoch = epoch
        if leader_id != self.leader_id:
            self.leader_id = leader_id
            self.added_to = None
            self.retry_at_ms = 0

    def wants_fetch(self, now_ms: int) -> bool:
        """Whether it should be read, and no stream reads it now."""
        return (
            self.added_to is None
            and self.position is not None
            and not self.paused
            and not self.held
            and self.error is None
            and self.loading is None
            and self.leader_id is not None
            and self.retry_at_ms <= now_ms
        )

    def fetch_request(self, seek_id: int, max_bytes: int) -> FetchPartition:
        """What to ask for; `seek_id` tells its answers from older ones."""
        self.seek_id = seek_id
        return FetchPartition(
            topic=self.where.topic,
            topic_id=self.topic_id,
            partition=self.where.partition,
            offset=self.fetch_offset,
            max_bytes=max_bytes,
            current_leader_epoch=self.leader_epoch if self.leader_epoch >= 0 else None,
            last_fetched_epoch=self.fetched_epoch,
            seek_id=seek_id,
        )

    def back_off(self, now_ms: int, at_least_ms: int = 0) -> None:
        """Waits before it is asked for again: 20 ms at first, then longer, a second at most."""
        self.retry_at_ms = now_ms + max(at_least_ms, min(20 * 2 ** min(self.failures, 10), 1000))
        self.failures += 1

    # -- what an answer means --------------------------------------------------------------------------------------

    def take(self, result: FetchResultView, now_ms: int) -> Chunk | None:
        """Data to buffer, or None. Errors change the state: `added_to` is None if it must be asked for again, `error`
        is set if the user must decide."""
        if result.HasField("error"):
            self._refused(pb.Error.FromString(result.error), result, now_ms)
            return None
        if result.HasField("diverging_epoch"):
            self._diverged(EpochEnd.FromString(result.diverging_epoch))
            return None
        self.failures = 0
        self.leader_epoch = max(self.leader_epoch, result.leader_epoch)
        self.high_watermark = result.high_watermark
        self.log_start_offset = result.log_start_offset
        if not result.batches:
            self.fetch_offset = max(self.fetch_offset, result.next_offset)
            return None
        batches = list(result.batches)
        try:
            last = self.reader.header(batches[-1])
        except OttlaError as error:
            self.corrupt(error)
            return None
        self.fetched_epoch = last.leader_epoch
        self.fetch_offset = max(self.fetch_offset, result.next_offset, last.next_offset)
        return Chunk(self, self.generation, batches, self.fetch_offset, credit_bytes(batches), self.added_to)

    def _refused(self, error: pb.Error, result: FetchResultView, now_ms: int) -> None:
        self.added_to = None
        api = ApiError.from_proto(error)
        if error.code == pb.ERROR_CODE_OFFSET_OUT_OF_RANGE:
            self._out_of_range(result, error.message, now_ms)
        elif not api.retriable:
            self.error = from_server(error)
        elif api.leader is not None and api.epoch is not None and api.epoch > self.leader_epoch:
            self.set_leader(api.leader, api.epoch)
        else:
            self.back_off(now_ms, error.retry_after_ms)

    def _out_of_range(self, result: FetchResultView, message: str, now_ms: int) -> None:
        log.warning(
            "%s-%d: offset %d is outside of the log, %d to %d; reset policy %s",
            *self.where,
            self.fetch_offset,
            result.log_start_offset,
            result.high_watermark,
            self.reset_policy,
        )
        self.is_new = self.is_new and self.position == 0
        if self.reset_policy == "none" and not self.is_new:
            self.error = OffsetOutOfRange(
                f"{self.where.topic}-{self.where.partition}: offset {self.fetch_offset} out of range "
                f"{result.log_start_offset} to {result.high_watermark}, and auto_offset_reset is none ({message}). "
                "Next: seek to an offset that exists",
                topic=self.where.topic,
                partition=self.where.partition,
                offset=self.fetch_offset,
            )
            return
        failures = self.failures
        self.begin(None)
        self.failures = failures
        self.back_off(now_ms)

    def _diverged(self, end: EpochEnd) -> None:
        """The log was truncated below what was fetched (KIP-320). What the user has not seen is just read again."""
        self.added_to = None
        if self.position is not None and self.position <= end.end_offset:
            self.rewind()
            if self.fetched_epoch is not None and end.leader_epoch >= 0:
                self.fetched_epoch = self.position_epoch = min(self.fetched_epoch, end.leader_epoch)
            return
        self.error = LogTruncation(*self.where, self.position or 0, max(end.end_offset, 0))
        self.generation += 1

    def corrupt(self, error: OttlaError) -> None:
        """Bytes that fail their checks: read again a few times, then the user is told."""
        self.corrupt_reads += 1
        log.warning("%s (read %d of %d)", error, self.corrupt_reads, CORRUPT_READS_MAX)
        if self.corrupt_reads >= CORRUPT_READS_MAX:
            self._stop_for(error)
            return
        self.rewind()

    def _stop_for(self, error: OttlaError) -> None:
        """The user must decide: the position stays in front of what is wrong until a seek."""
        self.unreadable += isinstance(error, DeserializationFailed)
        self.error = error
        self.generation += 1
        self.added_to = None

    def loaded(self, missing: NotLoaded, error: OttlaError | None) -> bool:
        """What a record waited for is there, or can't be had; False: it is not waited for any more."""
        if self.loading is not missing:
            return False
        self.loading = None
        if error is not None:
            self._stop_for(error)
        return True

    # -- what is done ----------------------------------------------------------------------------------------------

    @property
    def lag(self) -> int | None:
        """How many records are between the position and the end, as of the last answer; None: it is not known."""
        position, end = self.position, self.high_watermark
        return None if position is None or end < 0 else max(0, end - position)

    @property
    def done(self) -> Position | None:
        """Up to where the user has done everything: before what is at work, else the position."""
        if self.work_began is not None:
            return self.work_began
        return None if self.position is None else Position(self.position, self.position_epoch)

    def to_commit(self) -> Position | None:
        """What the group should store; None = nothing new."""
        done = self.done
        return None if done == self.stored else done

    def finished(self) -> None:
        """Nothing is at work any more."""
        self.work_began = None
        self.at_work.discard(self)

    # -- records out -----------------------------------------------------------------------------------------------

    def records(self, chunk: Chunk) -> Iterator[ConsumerRecord]:
        """The chunk's records from the position on, moving it along; ends early when the chunk becomes stale. Raises
        nothing: damaged bytes go to `corrupt`."""
        for batch in chunk.batches:
            position = self.position
            if position is None or chunk.generation != self.generation:
                return
            try:
                header = self.reader.header(batch)
                if header.next_offset <= position:
                    continue
                records = self.reader.records(batch, header, position)
                for record in records if self.deserialize is None else map(self.deserialize, records):
                    if self.work_began is None:
                        self.work_began = Position(self.position or 0, self.position_epoch)
                        self.at_work.add(self)
                    self.position = record.offset + 1
                    self.position_epoch = record.leader_epoch
                    yield record
                    if chunk.generation != self.generation:
                        return
            except NotLoaded as missing:
                self.loading = missing
                self.rewind()
                return
            except DeserializationFailed as error:
                self._stop_for(error)
                return
            except OttlaError as error:
                self.corrupt(error)
                return
            self.corrupt_reads = 0
            self.position = max(self.position or 0, header.next_offset)
            self.position_epoch = header.leader_epoch
        if chunk.generation == self.generation and self.position is not None:
            self.position = max(self.position, chunk.next_offset)
