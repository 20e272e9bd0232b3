"""What a partition asks of its node, written down instead of done."""

import asyncio
from collections.abc import Callable
from unittest.mock import Mock

from node.broker.partition import Partition
from node.broker.producers import ProducerTable
from node.broker.replica import IsrChange


class Host:
    """Node 1, with a clock that stands still."""

    node_id = 1

    def __init__(self) -> None:
        self.now_ms = 0
        self.wanted_syncs: list[Partition] = []
        self.deadlines: list[tuple[int, Callable[[], None]]] = []
        self.changes: list[IsrChange] = []
        self.failures: list[Exception] = []
        self.cuts = 0

    def clock_ms(self) -> int:
        return self.now_ms

    def call_in(self, delay_ms: int, call: Callable[[], None]) -> asyncio.TimerHandle:
        armed = (self.now_ms + delay_ms, call)
        self.deadlines.append(armed)
        return Mock(cancel=lambda: self.deadlines.remove(armed))

    def until(self, now_ms: int) -> None:
        """Time passes, and nothing else happens."""
        while self.deadlines and (due := min(at for at, _ in self.deadlines)) <= now_ms:
            self.now_ms = max(self.now_ms, due)
            call = next(call for at, call in self.deadlines if at == due)
            self.deadlines.remove((due, call))
            call()
        self.now_ms = now_ms

    def sync_soon(self, partition: Partition) -> None:
        self.wanted_syncs.append(partition)

    def position_moved(self, partition: Partition) -> None:
        pass

    def producer_id_given(self, producer_id: int) -> bool:
        return producer_id < 1000

    def alter_isr(self, partition: Partition, change: IsrChange) -> None:
        self.changes.append(change)

    def suspect(self, partition: Partition, offset: int) -> None: ...

    def checkpoint_soon(self) -> None: ...

    def no_space(self) -> None:
        self.full = True

    def log_cut(self, partition: Partition, producers: ProducerTable | None) -> None:
        self.cuts += 1

    def log_failed(self, partition: Partition, error: Exception) -> None:
        self.failures.append(error)

    def address_of(self, node_id: int) -> str:
        return f"host-{node_id}:9192"
