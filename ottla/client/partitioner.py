"""Which partition a record without a choice of its own goes to (KIP-480, KIP-794)."""

from collections.abc import Sequence
from itertools import accumulate
from random import Random

from ottla.client.producer_batch import Batch


class StickyPartitioner:
    """Stays with one partition until a batch's worth of bytes went there, then picks another: at random, weighted
    against the partitions that have batches waiting, so that a slow leader gets less. Pure but for the given `rng`."""

    __slots__ = ("_bytes", "_counted", "_rng", "batch", "batch_size", "limit", "partition")

    def __init__(self, batch_size: int, rng: Random) -> None:
        self.batch_size = batch_size
        self._rng = rng
        self.partition = -1  # the current one, -1: none yet
        self._bytes = 0
        self.batch: Batch | None = None
        """What the next record may be added to without asking, if it still takes any, up to `limit` bytes."""
        self.limit = 0
        self._counted = 0  # bytes of that batch that `_bytes` holds

    def follow(self, batch: Batch) -> None:
        """A record went to that batch of the current partition; more may follow it without a call of `stays`."""
        self.batch, self._counted = batch, batch.size_bytes
        self.limit = min(self.batch_size, batch.size_bytes + self.batch_size - self._bytes)

    def unfollow(self) -> None:
        """The next record is decided about anew; what went to the batch by then counts, whoever added it."""
        if self.batch is not None:
            self._bytes += self.batch.size_bytes - self._counted
            self.batch = None

    def stays(self, size_bytes: int) -> bool:
        """Whether a record of that size still belongs to the current partition; it counts if it does."""
        self.unfollow()
        self._bytes += size_bytes
        return self._bytes <= self.batch_size and self.partition >= 0

    def switch(self, size_bytes: int, led: Sequence[bool], batches_waiting: Sequence[int]) -> int:
        """Another partition, for a record of that size. `led` and `batches_waiting` have one item for each partition:
        whether it has a leader, and how many of its batches are not acknowledged."""
        candidates = [p for p, has_leader in enumerate(led) if has_leader] or list(range(len(led)))
        longest = max(batches_waiting[p] for p in candidates)
        bounds = list(accumulate(longest + 1 - batches_waiting[p] for p in candidates))
        pick = self._rng.randrange(bounds[-1])
        self.partition = next(p for p, bound in zip(candidates, bounds, strict=True) if pick < bound)
        self._bytes = size_bytes
        return self.partition
