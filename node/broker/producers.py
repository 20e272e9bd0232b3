"""What one partition remembers of its idempotent producers (KIP-98): pure, rebuilt from the log.

A producer numbers its records per partition. The last five batches of each are remembered: a repeated one is answered
with its stored offset, anything that does not follow the last sequence is refused.

No cut goes below the high watermark, so one batch below it is kept of each producer, and all above: whatever is cut,
the batch that is its last one then is known, also where the log has been trimmed since and no longer has it.

Who wrote within the last two minutes is not forgotten for somebody else's sake: where there are too many, newcomers
wait.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from node import limits
from ottla.protocol.batch import ATTR_IMPORTED, ATTR_LOG_APPEND_TIME, BatchHeader
from ottla.protocol.errors import ApiError
from ottla.v1 import error_pb2 as pb

BATCHES_REMEMBERED = 5
UNCOMMITTED_MAX = 64
"""Of one producer's batches above the high watermark: of more the log is read again once they are cut."""
KEPT_MS = 120_000
FULL_RETRY_MS = 1000
_SEQUENCES = 1 << 31


class StoredBatch(NamedTuple):
    """A batch that is in the log. `timestamp_ms` is the leader's time under LogAppendTime, else -1."""

    base_sequence: int
    last_sequence: int
    base_offset: int
    last_offset: int
    timestamp_ms: int
    producer_epoch: int


@dataclass(slots=True)
class Producer:
    """One producer id in one partition, in its last epochs."""

    batches: deque[StoredBatch]
    last_written_ms: int

    @property
    def epoch(self) -> int:
        return self.batches[-1].producer_epoch


class ProducerTable:
    """The producers of one partition, least recently written first. `now_ms` is monotonic."""

    __slots__ = ("_producers", "end_offset", "saved_epoch")

    def __init__(self) -> None:
        self._producers: dict[int, Producer] = {}
        self.end_offset = 0
        """Everything before it in the log is taken into account."""
        self.saved_epoch: int | None = None
        """The leader epoch of the log before `end_offset`, as it was when this table was saved; None: not known."""

    def __len__(self) -> int:
        return len(self._producers)

    def items(self) -> Iterable[tuple[int, Producer]]:
        """Each producer that is remembered, by its id."""
        return self._producers.items()

    def check(self, header: BatchHeader) -> StoredBatch | None:
        """The stored batch that `header` repeats, or None if it may be appended. Raises ApiError with
        OUT_OF_ORDER_SEQUENCE_NUMBER, INVALID_PRODUCER_EPOCH or DUPLICATE_SEQUENCE_NUMBER."""
        producer_id, sequence = header.producer_id, header.base_sequence
        producer = self._producers.get(producer_id)
        if producer is None:
            # "Unknown" must not mean "accept anything": the first batch may have failed elsewhere (KAFKA-15591).
            if sequence != 0:
                raise ApiError(
                    pb.ERROR_CODE_OUT_OF_ORDER_SEQUENCE_NUMBER,
                    f"this partition has no earlier batch of producer {producer_id}, so sequence 0 must come first, "
                    f"not {sequence}",
                )
            return None
        if header.producer_epoch != producer.epoch:
            if header.producer_epoch < producer.epoch:
                raise ApiError(
                    pb.ERROR_CODE_INVALID_PRODUCER_EPOCH,
                    f"producer {producer_id} has epoch {producer.epoch} here, the batch says {header.producer_epoch}",
                )
            if sequence != 0:
                raise ApiError(
                    pb.ERROR_CODE_OUT_OF_ORDER_SEQUENCE_NUMBER,
                    f"epoch {header.producer_epoch} of producer {producer_id} is new here and must start at sequence "
                    f"0, not {sequence}",
                )
            return None
        last = producer.batches[-1]
        expected = (last.last_sequence + 1) % _SEQUENCES
        if sequence == expected:
            return None
        newest = list(producer.batches)[-BATCHES_REMEMBERED:]
        remembered = [stored for stored in newest if stored.producer_epoch == last.producer_epoch]
        for stored in remembered:
            if stored.base_sequence == sequence and stored.last_sequence == header.last_sequence:
                return stored
        oldest = remembered[0].base_sequence
        # "Stored" must never be said of what is not. An epoch starts at 0 here, so numbers below the oldest remembered
        # one were used; but one that is more than half of all numbers away may as well lie ahead, past the wrap.
        if sequence <= header.last_sequence < oldest and oldest - header.last_sequence < _SEQUENCES // 2:
            raise ApiError(
                pb.ERROR_CODE_DUPLICATE_SEQUENCE_NUMBER,
                f"sequence {sequence} of producer {producer_id} was stored before; only the last {BATCHES_REMEMBERED} "
                f"batches, from sequence {oldest} on, are remembered with their offsets",
            )
        raise ApiError(
            pb.ERROR_CODE_OUT_OF_ORDER_SEQUENCE_NUMBER,
            f"producer {producer_id} is at sequence {expected} in this partition, the batch says {sequence}",
        )

    def check_room(self, producer_id: int, now_ms: int) -> None:
        """Raises THROTTLING_QUOTA_EXCEEDED where a new producer would push out one that is at work."""
        if len(self._producers) < limits.PRODUCERS_MAX or producer_id in self._producers:
            return
        idle_ms = now_ms - next(iter(self._producers.values())).last_written_ms
        if idle_ms < KEPT_MS:
            raise limits.throttled(
                f"{limits.PRODUCERS_MAX} producers wrote to this partition in the last {KEPT_MS // 1000} s",
                "which are as many as it remembers",
                FULL_RETRY_MS,
            )

    def appended(self, header: BatchHeader, base_offset: int, now_ms: int, high_watermark: int) -> None:
        """A batch is in the log at `base_offset`. Followers and recovery call this too: no check, the log is true."""
        last_offset = base_offset + header.last_offset_delta
        self.end_offset = last_offset + 1
        if header.producer_id == 0 or header.attributes & ATTR_IMPORTED:
            return
        producer = self._producers.pop(header.producer_id, None)
        if producer is None:
            if len(self._producers) >= limits.PRODUCERS_MAX:
                del self._producers[next(iter(self._producers))]
            producer = Producer(deque(), now_ms)
        timestamp = header.max_timestamp if header.attributes & ATTR_LOG_APPEND_TIME else -1
        batches = producer.batches
        batches.append(
            StoredBatch(
                header.base_sequence, header.last_sequence, base_offset, last_offset, timestamp, header.producer_epoch
            )
        )
        while len(batches) > BATCHES_REMEMBERED and (
            batches[1].last_offset < high_watermark or len(batches) > UNCOMMITTED_MAX
        ):
            batches.popleft()
        producer.last_written_ms = now_ms
        self._producers[header.producer_id] = producer

    def truncated(self, end_offset: int) -> set[int]:
        """The log was cut. Answers of which producers that took every remembered batch, though not their first: earlier
        ones, long forgotten, are their last again, and only the log has them."""
        unknown = set()
        for producer_id, producer in list(self._producers.items()):
            batches = producer.batches
            oldest = batches[0]
            while batches and batches[-1].last_offset >= end_offset:
                batches.pop()
            if not batches:
                del self._producers[producer_id]
                if oldest.base_sequence or oldest.producer_epoch:
                    unknown.add(producer_id)
        self.end_offset = min(self.end_offset, end_offset)
        return unknown

    def until(self, end_offset: int) -> tuple["ProducerTable", set[int]]:
        """The table as it is once the log is cut there, and whom only the log knows (`truncated`)."""
        table = ProducerTable()
        table.end_offset = self.end_offset
        for producer_id, producer in self._producers.items():
            table._producers[producer_id] = Producer(producer.batches.copy(), producer.last_written_ms)
        return table, table.truncated(end_offset)

    def take(self, other: "ProducerTable") -> None:
        """Takes over what another table knows of producers."""
        self._producers |= other._producers

    def expire(self, now_ms: int, expiration_ms: int) -> int:
        """Forgets producers that have not written for `expiration_ms` by this node's clock (never by the data's
        timestamps, KAFKA-9144). Answers how many."""
        expired = []
        for producer_id, producer in self._producers.items():
            if now_ms - producer.last_written_ms <= expiration_ms:
                break  # least recently written first
            expired.append(producer_id)
        for producer_id in expired:
            del self._producers[producer_id]
        return len(expired)

    def replay(self, headers: Iterable[BatchHeader], end_offset: int, now_ms: int, high_watermark: int) -> None:
        """Takes in the batches of the log from `self.end_offset` to `end_offset`. The clock of each producer starts
        anew: keeping one too long is harmless, forgetting one too early is not."""
        for header in headers:
            self.appended(header, header.base_offset, now_ms, high_watermark)
        self.end_offset = end_offset

    def snapshot(self, now_ms: int) -> dict[str, Any]:
        """The table as JSON-able values. Ages instead of times, since the clock starts anew with each process."""
        return {
            "end_offset": self.end_offset,
            "producers": [
                [producer_id, p.epoch, now_ms - p.last_written_ms, [_stored(batch, p.epoch) for batch in p.batches]]
                for producer_id, p in self._producers.items()
            ],
        }

    @classmethod
    def restore(cls, snapshot: dict[str, Any], now_ms: int) -> "ProducerTable":
        """The table as it was at `snapshot["end_offset"]`. Raises KeyError, TypeError or ValueError on other values."""
        table = cls()
        for producer_id, epoch, age_ms, batches in snapshot["producers"]:
            stored = deque(StoredBatch(*map(int, [*batch, epoch][:6])) for batch in batches)
            if not stored:
                raise ValueError(f"producer {producer_id} without batches")
            table._producers[int(producer_id)] = Producer(stored, now_ms - int(age_ms))
        table.end_offset = int(snapshot["end_offset"])
        saved_epoch = snapshot.get("leader_epoch")
        table.saved_epoch = None if saved_epoch is None else int(saved_epoch)
        return table


def _stored(batch: StoredBatch, epoch: int) -> list[int]:
    """With its epoch only where that is not the producer's last one."""
    return list(batch[:-1]) if batch.producer_epoch == epoch else list(batch)
