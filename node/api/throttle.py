"""How long clients pause because of their quotas: what each has used, measured as it goes.

Who shares a quota has one bucket, which says until when what was used is paid for. It costs two look-ups and a
multiplication for a request, whatever is in it, and one look at `on` where there are no quotas. Whoever used too much
owes time, and waits for it before the next.
"""

import time
from collections.abc import Callable
from typing import Final

from node import principal
from node.metadata.quotas import Limit, Quotas
from ottla.protocol.quotas import CONNECTION, FETCH, MUTATION, NAME_MAX, PRODUCE

BURST_S: Final = 0.25
"""What was not used for so long may be used at once."""
MUTATION_BURST_S: Final = 10.0
"""Topics are made in bursts, as Kafka allows them to be (KIP-599)."""
READ_S: Final = 0.25
"""An answer to a reader has no more than it may have in this time, or one batch."""
BUCKETS_MAX: Final = 10_000
MEMO_MAX: Final = 20_000


class Bucket:
    """What one client, or all that share a quota, used of it."""

    __slots__ = ("_burst_s", "_paid_until_s", "rate")

    def __init__(self, rate: float, burst_s: float, now_s: float) -> None:
        self.rate = rate
        self._burst_s = burst_s
        self._paid_until_s = now_s - burst_s

    def take(self, amount: float, now_s: float) -> None:
        self._paid_until_s = max(self._paid_until_s, now_s - self._burst_s) + amount / self.rate

    def owed_ms(self, now_s: float) -> int:
        return max(0, int((self._paid_until_s - now_s) * 1000))


class Throttle:
    """Used on one loop. Nodes of the cluster have no quotas."""

    def __init__(self, clock_s: Callable[[], float] = time.monotonic) -> None:
        self.on = False
        """Whether there is any quota."""
        self._clock_s = clock_s
        self._quotas = Quotas.EMPTY
        self._buckets: dict[tuple[str, Limit], Bucket] = {}
        self._memo: dict[tuple[str, principal.Principal, str], Bucket | None] = {}

    def changed(self, quotas: Quotas) -> None:
        """There are other quotas. Who has the same as before owes what it owed."""
        self._quotas = quotas
        self._memo = {}
        self.on = len(quotas) > 0

    def produced(self, client_id: str, size_bytes: int) -> int:
        """Whoever asks now wrote so much. For how many milliseconds it is to pause."""
        return self._take(PRODUCE, client_id, size_bytes)

    def fetched(self, client_id: str, size_bytes: int) -> int:
        return self._take(FETCH, client_id, size_bytes)

    def mutated(self, client_id: str, partitions: int) -> int:
        return self._take(MUTATION, client_id, partitions)

    def owed_ms(self, key: str, client_id: str) -> int:
        """How long whoever asks has to wait before it may have more."""
        bucket = self._bucket(key, client_id)
        return 0 if bucket is None else bucket.owed_ms(self._clock_s())

    def read_max_bytes(self, client_id: str, max_bytes: int) -> int:
        """Of `max_bytes`, what one answer may have."""
        bucket = self._bucket(FETCH, client_id)
        return max_bytes if bucket is None else max(1, min(max_bytes, int(bucket.rate * READ_S)))

    def connected(self, address: str) -> int:
        """There is one connection more from there; it counts if it is not too soon."""
        limit = self._quotas.limit_of_address(CONNECTION, address) if self.on else None
        if limit is None:
            return 0
        now_s, bucket = self._clock_s(), self._bucket_of(CONNECTION, limit)
        owed_ms = bucket.owed_ms(now_s)
        if not owed_ms:
            bucket.take(1, now_s)
        return owed_ms

    def _take(self, key: str, client_id: str, amount: float) -> int:
        bucket = self._bucket(key, client_id)
        if bucket is None:
            return 0
        now_s = self._clock_s()
        bucket.take(amount, now_s)
        return bucket.owed_ms(now_s)

    def _bucket(self, key: str, client_id: str) -> Bucket | None:
        if not self.on:
            return None
        client_id = client_id[:NAME_MAX]
        asked = (key, principal.current(), client_id)
        try:
            return self._memo[asked]
        except KeyError:
            pass
        if len(self._memo) >= MEMO_MAX:
            self._memo.clear()
        who = asked[1]
        limit = None if who.kind == principal.NODE else self._quotas.limit(key, who.name, client_id)
        found = self._memo[asked] = None if limit is None else self._bucket_of(key, limit)
        return found

    def _bucket_of(self, key: str, limit: Limit) -> Bucket:
        found = self._buckets.get((key, limit))
        if found is None:
            now_s = self._clock_s()
            if len(self._buckets) >= BUCKETS_MAX:
                self._forget(now_s)
            burst_s = MUTATION_BURST_S if key == MUTATION else BURST_S
            found = self._buckets[key, limit] = Bucket(limit.rate, burst_s, now_s)
        return found

    def _forget(self, now_s: float) -> None:
        """Those that owe nothing, else the older half: client ids are whatever clients say."""
        left = {key: bucket for key, bucket in self._buckets.items() if bucket.owed_ms(now_s)}
        for key in list(left)[: max(0, len(left) - BUCKETS_MAX // 2)]:
            del left[key]
        self._buckets = left
        self._memo = {}
