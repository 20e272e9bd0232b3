"""Compaction of the logs that ask for it, and a slow look for rot in all others: one segment after the other."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import structlog

from node.broker import codecs
from node.broker.partition import Partition
from node.metadata.image import NO_LEADER
from ottla.protocol.batch import CorruptBatch
from ottla.protocol.errors import ApiError
from storage.compaction import CompactionRun
from storage.errors import LogDamaged, StorageError

if TYPE_CHECKING:
    from node.broker.broker import Broker

log = structlog.get_logger(__name__)


class Cleaner:
    """One task of the broker's, with one thread of its own: what it does may take seconds, and nobody waits for it."""

    def __init__(self, broker: "Broker") -> None:
        self._broker = broker
        self._scrubbed: dict[Partition, None] = {}
        self._damaged: set[tuple[bytes, int]] = set()

    async def run(self) -> None:
        """Ends only by cancellation."""
        settings = self._broker.settings
        scrub_ms = self._broker.clock_ms() + settings.scrub_interval_ms
        thread = ThreadPoolExecutor(1, "log-cleaner")
        try:
            while True:
                await asyncio.sleep(settings.cleaner_backoff_ms / 1000)
                for partition in list(self._broker.partitions.values()):
                    if _usable(partition):
                        await self._compact(partition, thread)
                await self._reopen_damaged()
                if self._broker.clock_ms() >= scrub_ms:
                    scrub_ms = self._broker.clock_ms() + settings.scrub_interval_ms
                    await self._scrub_next(thread)
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
            partition.fail(error)
        else:
            log.info("log_compacted", partition=partition.name, freed_bytes=freed, done=run.done)

    async def _scrub_next(self, thread: ThreadPoolExecutor) -> None:
        """Verifies one closed segment of the log whose turn it is."""
        partitions = [partition for partition in self._broker.partitions.values() if _usable(partition)]
        # Logs that were looked at go to the end of the line.
        self._scrubbed = {partition: None for partition in self._scrubbed if partition in partitions}
        for partition in [p for p in partitions if p not in self._scrubbed] or list(self._scrubbed):
            self._scrubbed.pop(partition, None)
            self._scrubbed[partition] = None
            run = None
            try:
                run = partition.log.begin_scrub()
                if run is not None:
                    await asyncio.get_running_loop().run_in_executor(thread, run.run)
            except OSError as error:
                log.warning("scrub_failed", partition=partition.name, error=str(error))
            if run is None:
                continue
            if not partition.closed and partition.log.complete_scrub(run):
                log.error("damage_found", partition=partition.name, offset=run.damaged_at, damage=run.damage)
                self._damaged.add((partition.topic_id, partition.number))
                partition.fail(LogDamaged(f"{run.damage} at offset {run.damaged_at}"))
            return

    async def _reopen_damaged(self) -> None:
        """Once another node leads, a damaged replica opens its log again, cuts the damage and fetches it anew."""
        broker = self._broker
        for key in sorted(self._damaged):
            state = broker.image.partition(*key)
            if key not in broker.partitions or state is None:
                self._damaged.discard(key)
            elif state.leader not in (NO_LEADER, broker.node_id):
                self._damaged.discard(key)
                await broker.reopen(key)


def _usable(partition: Partition) -> bool:
    return not partition.closed and partition.offline is None and partition.log.damaged_at is None


def _run(run: CompactionRun) -> None:
    try:
        run.run(codecs.decompress, codecs.compress)
    except (OSError, CorruptBatch) as error:
        # The log is told when it gets the run back.
        log.warning("compaction_failed", directory=run.directory, error=str(error))
    except ApiError as error:
        log.error("compaction_failed", directory=run.directory, error=error.message)
