"""What producers and consumers count, as plain values: for each batch and each answer, not for each record."""

from bisect import bisect_left
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

from ottla.client.records import TopicPartition
from ottla.protocol.errors import name_of

if TYPE_CHECKING:
    from ottla.client.producer_batch import Batch

LATENCY_BOUNDS_MS: Final = (5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000)


class ProducerMetrics(NamedTuple):
    """A producer's counters, since it was made, and what it holds now.

    `latency_records` has, for each bound of `LATENCY_BOUNDS_MS` and at last for no bound, how many records were
    acknowledged within it and within no smaller one; the time is that from the first record of their batch.
    `failures` has how many records failed, by the name of the error.
    """

    records_acknowledged: int
    bytes_acknowledged: int
    batches_acknowledged: int
    retries: int
    failures: Mapping[str, int]
    latency_ms_sum: int
    latency_records: tuple[int, ...]
    buffer_waits: int
    buffered_records: int
    buffered_bytes: int

    @property
    def records_failed(self) -> int:
        """How many records failed, whatever the reason."""
        return sum(self.failures.values())


class ConsumerMetrics(NamedTuple):
    """A consumer's counters, since it was made, and what it holds now.

    `lag` has, for each partition that is read, how many records are between its position and its end as of the last
    answer, which asks nobody; None before there is both. `deserialization_failures` counts each time one was met.
    """

    records_consumed: int
    bytes_fetched: int
    fetches: int
    deserialization_failures: int
    commits: int
    commits_failed: int
    rebalances: int
    buffered_bytes: int
    lag: Mapping[TopicPartition, int | None]


class ProducerCounts:
    """The counters of a producer."""

    def __init__(self) -> None:
        self.records = self.bytes = self.batches = self.retries = self.latency_ms_sum = self.buffer_waits = 0
        self.failures: dict[str, int] = {}
        self.latency_records = [0] * (len(LATENCY_BOUNDS_MS) + 1)

    def done(self, batch: "Batch", now_ms: int) -> None:
        """A batch has its outcome."""
        count = batch.count
        self.retries += max(0, batch.attempt - 1)
        if batch.error is not None:
            name = name_of(batch.error.code)
            self.failures[name] = self.failures.get(name, 0) + count
            return
        latency_ms = now_ms - batch.created_ms
        self.records += count
        self.bytes += batch.size_bytes
        self.batches += 1
        self.latency_ms_sum += latency_ms * count
        self.latency_records[bisect_left(LATENCY_BOUNDS_MS, latency_ms)] += count

    def snapshot(self, buffered_records: int, buffered_bytes: int) -> ProducerMetrics:
        return ProducerMetrics(
            self.records,
            self.bytes,
            self.batches,
            self.retries,
            dict(self.failures),
            self.latency_ms_sum,
            tuple(self.latency_records),
            self.buffer_waits,
            buffered_records,
            buffered_bytes,
        )
