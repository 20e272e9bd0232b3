"""Fetch: reading what this node leads, for readers that share its loop, and waiting for news."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, TypeVar

from node import limits, turns
from node.api.access import Access
from node.broker.broker import Broker
from node.broker.door import Heavy, OnLoop
from node.broker.host import WITHHELD, ReadResult
from node.broker.lookup import Reader
from node.fail_stop import stop_if_broken
from node.metadata.acls import Acls
from node.metadata.image import Topic

T = TypeVar("T")
PARTITION_MAX_BYTES = limits.MIB
EARLIEST = -2


class Wanted(NamedTuple):
    """A position to read from: an offset, -1 for the latest or -2 for the earliest one. 0 bytes ask for the default."""

    topic: Topic
    partition: int
    offset: int
    max_bytes: int
    current_leader_epoch: int | None
    last_fetched_epoch: int | None


class Budget(NamedTuple):
    """What one answer may have. `record_max_bytes`: what a single record may have where it had to be decompressed;
    `every_kind`: its reader knows batches of Kafka, too."""

    accept: frozenset[int]
    max_bytes: int
    record_max_bytes: int
    every_kind: bool = False


Take = Callable[[int, ReadResult | Exception], int]
"""Hears what became of the position with that index; returns how many bytes it takes up in the answer."""


class FetchApi:
    """Reads the partitions that this node leads."""

    def __init__(self, broker: Broker, access: Access) -> None:
        self._broker = broker
        self._access = access

    async def read_all(self, wanted: Sequence[Wanted], budget: Budget, turn: int, take: Take) -> None:
        """One pass over the positions, starting at another one with each `turn` so that none starves. The loop turns in
        between where they are many. The first batch may be larger than the budget."""
        on_loop = OnLoop()
        count, used = len(wanted), 0
        for step in range(count):
            if step % limits.AT_ONCE == limits.AT_ONCE - 1:
                await turns.give_way()
            index = (turn + step) % count
            want = wanted[index]
            left = max(0, min(want.max_bytes or PARTITION_MAX_BYTES, budget.max_bytes - used))
            reader = Reader(budget.accept, left, budget.record_max_bytes, used == 0, budget.every_kind)
            try:
                used += take(index, await self._read(want, reader, on_loop))
            except Exception as error:
                stop_if_broken(error)
                used += take(index, error)

    async def _read(self, want: Wanted, reader: Reader, on_loop: OnLoop) -> ReadResult:
        topic_id, epoch, offset = want.topic.topic_id, want.current_leader_epoch, want.offset
        fetched = want.last_fetched_epoch
        if offset < 0:
            offset, fetched = self._broker.list_offset(topic_id, want.partition, offset, epoch)[0], None
        try:
            return self._broker.read(
                topic_id,
                want.partition,
                offset,
                reader.max_bytes,
                min_one=reader.min_one,
                reader=reader,
                current_leader_epoch=epoch,
                last_fetched_epoch=fetched,
                on_loop=on_loop,
            )
        except Heavy:
            return await self._broker.read_heavy(
                topic_id,
                want.partition,
                offset,
                reader=reader,
                current_leader_epoch=epoch,
                last_fetched_epoch=fetched,
            )

    def bounds(self, topic_id: bytes, number: int) -> tuple[int, int]:
        """(log start, high watermark) for readers that are out of range: 0 of a partition that is not here, WITHHELD of
        one that is not led here."""
        partition = self._broker.partition(topic_id, number)
        if partition is None:
            return 0, WITHHELD
        leader = partition.leader
        known = leader is not None and leader.high_watermark_known
        return partition.log.log_start_offset, leader.high_watermark if leader is not None and known else WITHHELD

    async def in_thread(self, work: Callable[..., T], *arguments: Any) -> T:
        """What is too much for the loop; one at a time, and clients take turns."""
        return await self._broker.in_thread(work, *arguments)

    async def news(
        self, positions: Iterable[tuple[bytes, int, int]], missing_bytes: int, timeout_ms: int, since: Acls
    ) -> None:
        """Waits until so many more bytes are committed behind these (topic id, partition, offset), or until there are
        other ACLs than `since`, by which the reader was let in: then it may have no right to wait any more."""
        await self._access.or_changed(self._broker.data_waiter(positions, missing_bytes, timeout_ms), since)

    @property
    def acls(self) -> Acls:
        """Those of the moment."""
        return self._access.acls
