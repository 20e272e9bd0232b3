"""Compaction of the logs that ask for it, and a slow look for rot in all others: one segment after the other."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

import structlog

from node.broker import kafka_codecs
from node.broker.partition import Partition
from node.metadata.image import NO_LEADER
from ottla.protocol.batch import CorruptBatch
from ottla.protocol.errors import ApiError
from storage.compaction import CompactionRun
from storage.errors import LogDamaged, StorageError
from storage.scrub import ScrubRun

if TYPE_CHECKING:
    from node.broker.broker import Broker

log = structlog.get_logger(__name__)


WORK_PART: Final = 1 / 3
"""The part of the time that the thread works: it shares the processor, and Python's lock, with the data loop."""
WORK_SLICE_S: Final = 0.01
REOPEN_CHECK_S: Final = 0.2


class Pacer:
    """Makes a thread pause after each slice of work, so that it works `WORK_PART` of the time."""

    def __init__(self) -> None:
        self._began_s = time.perf_counter()

    def __call__(self) -> None:
        worked_s = time.perf_counter() - self._began_s
        if worked_s >= WORK_SLICE_S:
            time.sleep(worked_s * (1 / WORK_PART - 1))
            self._began_s = time.perf_counter()


class Cleaner:
    """One task of the broker's, with one thread of its own: what it does may take seconds, and nobody waits for it."""

    def __init__(self, broker: "Broker") -> None:
        self._broker = broker
        self._scrubbed: dict[Partition, None] = {}
        self._damaged: set[tuple[bytes, int]] = set()
        self._suspected: dict[Partition, int] = {}
        self._told: dict[Partition, int] = {}
        self._wake = asyncio.Event()

    def suspect(self, partition: Partition, offset: int) -> None:
        """A reader has met a bad batch at or behind `offset`: look at its segment at once. The only copy is looked at
        once; but others may be in sync since, and what this one lacks can be fetched from them."""
        if partition not in self._told or not partition.leads_alone:
            self._suspected[partition] = offset
            self._wake.set()

    async def run(self) -> None:
        """Ends only by cancellation."""
        settings, clock_ms = self._broker.settings, self._broker.clock_ms
        scrub_ms = clock_ms() + settings.scrub_interval_ms
        compact_ms = clock_ms() + settings.cleaner_backoff_ms
        thread = ThreadPoolExecutor(1, "log-cleaner")
        try:
            while True:
                due_s = max(0, min(compact_ms, scrub_ms) - clock_ms()) / 1000
                try:
                    async with asyncio.timeout(min(due_s, REOPEN_CHECK_S) if self._damaged else due_s):
                        await self._wake.wait()
                except TimeoutError:
                    pass
                self._wake.clear()
                while self._suspected:
                    partition = next(iter(self._suspected))
                    offset = self._suspected.pop(partition)
                    if _usable(partition):
                        await self._scrub(partition, thread, suspect=offset)
                await self._reopen_damaged()
                if clock_ms() >= compact_ms:
                    timely = self._broker.clock.look()  # it says how old tombstones are
                    for partition in list(self._broker.partitions.values()):
                        if _usable(partition) and timely and not self._broker.disk_full:
                            await self._compact(partition, thread)
                    compact_ms = clock_ms() + settings.cleaner_backoff_ms
                if clock_ms() >= scrub_ms:
                    await self._scrub_next(thread)
                    scrub_ms = clock_ms() + max(settings.scrub_interval_ms, 1)
        finally:
            thread.shutdown(wait=False)

    async def _compact(self, partition: Partition, thread: ThreadPoolExecutor) -> None:
        records = partition.log
        try:
            run = records.begin_compaction(self._broker.wall_ms(), partition.high_watermark)
        except OSError as error:
            log.warning("compaction_not_begun", partition=partition.name, error=str(error))
            return
        if run is None:
            return
        try:
            await asyncio.get_running_loop().run_in_executor(thread, _run, run)
        finally:
            # Cancelled: the thread ends soon, and what it wrote is removed at the next start.
            run.abandoned = True
        try:
            freed = records.complete_compaction(run)
        except CorruptBatch as error:
            log.error("damaged_batch_read", partition=partition.name, error=str(error))
        except StorageError as error:
            partition.storage_error(error)
        else:
            log.info("log_compacted", partition=partition.name, freed_bytes=freed, done=run.done)

    async def _scrub_next(self, thread: ThreadPoolExecutor) -> None:
        """Verifies one closed segment of the log whose turn it is."""
        partitions = [partition for partition in self._broker.partitions.values() if _usable(partition)]
        self._told = {partition: at for partition, at in self._told.items() if partition in partitions}
        # Logs that were looked at go to the end of the line.
        self._scrubbed = {partition: None for partition in self._scrubbed if partition in partitions}
        for partition in [p for p in partitions if p not in self._scrubbed] or list(self._scrubbed):
            self._scrubbed.pop(partition, None)
            self._scrubbed[partition] = None
            if await self._scrub(partition, thread):
                return

    async def _scrub(self, partition: Partition, thread: ThreadPoolExecutor, suspect: int | None = None) -> bool:
        """Verifies one segment; whether there was one. What is damaged is taken out of use and fetched anew - but where
        no other replica is in sync, what is whole of the only copy stays in use."""
        run: ScrubRun | None = None
        try:
            run = partition.log.begin_scrub(suspect)
            if run is not None:
                await asyncio.get_running_loop().run_in_executor(thread, run.run, Pacer())
        except (OSError, StorageError) as error:
            log.warning("scrub_failed", partition=partition.name, error=str(error))
        if run is None:
            return False
        alone = partition.leads_alone
        if partition.closed or not partition.log.complete_scrub(run, mark=not alone):
            return True
        assert run.damaged_at is not None
        if self._told.get(partition) != run.damaged_at:
            self._told[partition] = run.damaged_at
            log.error(
                "damage_found",
                partition=partition.name,
                file=run.segment.path,
                offset=run.damaged_at,
                damage=run.damage,
                consequence="its readers are refused: no other replica is in sync" if alone else "it is fetched anew",
            )
            self._broker.on_damage(run.segment.path, run.damaged_at)
        if not alone:
            self._told.pop(partition, None)
            self._damaged.add((partition.topic_id, partition.number))
            partition.fail(LogDamaged(f"{run.damage} at offset {run.damaged_at}"))
        return True

    async def _reopen_damaged(self) -> None:
        """Once another node leads, a damaged replica opens its log again, cuts the damage and fetches it anew."""
        broker = self._broker
        self._damaged |= {key for key, partition in broker.partitions.items() if _is_damaged(partition)}
        for key in sorted(self._damaged):
            state = broker.image.partition(*key)
            if key not in broker.partitions or state is None:
                self._damaged.discard(key)
            elif state.leader not in (NO_LEADER, broker.node_id):
                self._damaged.discard(key)
                await broker.reopen(key)


def _is_damaged(partition: Partition) -> bool:
    return partition.offline is not None and (
        partition.damaged or partition.log.refetching or partition.log.damaged_at is not None
    )


def _usable(partition: Partition) -> bool:
    return not partition.closed and partition.offline is None and partition.log.damaged_at is None


def _run(run: CompactionRun) -> None:
    try:
        run.run(kafka_codecs.unpack, kafka_codecs.pack, Pacer())
    except (OSError, CorruptBatch) as error:
        # The log is told when it gets the run back.
        log.warning("compaction_failed", directory=run.directory, error=str(error))
    except ApiError as error:
        log.error("compaction_failed", directory=run.directory, error=error.message)
