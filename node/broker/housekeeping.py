"""What has to happen from time to time: time-outs, checkpoints, retention, full disks."""

import asyncio
import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

import structlog

from node.broker import snapshots
from node.broker.partition import Partition
from node.broker.space import Space
from storage.errors import StorageError

if TYPE_CHECKING:
    from node.broker.broker import Broker

log = structlog.get_logger(__name__)

TICK_MS: Final = 100
PRODUCER_CHECK_MS: Final = 60_000
FULL_RETENTION_MS: Final = 1000
"""How often a full disk is looked at for what may go: nobody can produce meanwhile."""


class Housekeeping:
    """Two tasks of the broker's: `run` never waits for the disk, `checkpoints` does, on a thread of its own."""

    def __init__(self, broker: "Broker", thread: ThreadPoolExecutor) -> None:
        self._broker = broker
        self._thread = thread
        self._active: dict[Partition, int] = {}
        self._guard = broker.guard
        self._refused = False
        self._checkpoint_due_ms = math.inf
        self._retained_ms = 0
        settings = broker.settings
        self._jobs: list[tuple[int, Callable[[], None]]] = [
            (settings.retention_check_interval_ms, self._retain),
            (settings.retention_check_interval_ms, broker.retry_offline),
            (PRODUCER_CHECK_MS, self._expire_producers),
        ]

    async def run(self) -> None:
        """Ends only by cancellation."""
        broker = self._broker
        clock_ms = broker.clock_ms()
        due_ms = [clock_ms + interval_ms for interval_ms, _ in self._jobs]
        while True:
            await asyncio.sleep(TICK_MS / 1000)
            clock_ms = broker.clock_ms()
            for partition in broker.partitions.values():
                if partition.acks:
                    partition.acks.expire(clock_ms)
            self._check_space(clock_ms)
            for index, (interval_ms, job) in enumerate(self._jobs):
                if clock_ms >= due_ms[index]:
                    due_ms[index] = clock_ms + interval_ms
                    job()

    async def checkpoints(self) -> None:
        """Ends only by cancellation."""
        broker = self._broker
        due_ms = broker.clock_ms()
        while True:
            await asyncio.sleep(TICK_MS / 1000)
            clock_ms = broker.clock_ms()
            if clock_ms >= min(due_ms, self._checkpoint_due_ms):
                due_ms = clock_ms + broker.settings.high_watermark_checkpoint_interval_ms
                await self._checkpoint()

    def _retain(self) -> None:
        self._retained_ms = self._broker.clock_ms()
        now_ms, by_age = self._broker.wall_ms(), self._broker.clock.look()
        for partition in list(self._broker.partitions.values()):
            if partition.offline is not None or partition.log.damaged_at is not None:
                continue
            if partition.state is None:
                continue  # what its topic's retention is the metadata has yet to say
            try:
                partition.log.roll_if_needed(now_ms)
                if partition.log.apply_retention(now_ms, partition.high_watermark, by_age=by_age):
                    self.checkpoint_soon()  # with the producers of what went
                partition.log.delete_expired_files(now_ms, at_once=self._guard.full)
            except (StorageError, OSError) as error:
                partition.storage_error(error)

    def _expire_producers(self) -> None:
        clock_ms = self._broker.clock_ms()
        for partition in self._broker.partitions.values():
            partition.producers.expire(clock_ms, self._broker.settings.producer_id_expiration_ms)

    def checkpoint_soon(self, within_ms: int = 0) -> None:
        """Somebody waits for a log start to be remembered, or there is a new log."""
        self._checkpoint_due_ms = min(self._checkpoint_due_ms, self._broker.clock_ms() + within_ms)

    def disk_refused(self) -> None:
        """A write found no room."""
        self._refused = True

    def _check_space(self, clock_ms: int) -> None:
        broker = self._broker
        refused, self._refused = self._refused, False
        held = self._guard.ballast.held
        try:
            stats = os.statvfs(broker.directory.path)
            space = Space(
                stats.f_blocks * stats.f_frsize,
                stats.f_bavail * stats.f_frsize,
                broker.settings.disk_watermark_bytes,
                broker.settings.disk_watermark_percent,
            )
            if self._guard.look(space, clock_ms, refused=refused):
                log.warning(
                    "disk_watermark_passed",
                    full=self._guard.full,
                    free_bytes=space.free,
                    watermark_bytes=space.low_bytes,
                    next_step="producers are refused until there is room: delete records or topics, or add disk"
                    if self._guard.full
                    else "",
                )
                broker.own_disk_full(self._guard.full)
        except OSError as error:
            log.warning("disk_not_looked_at", error=str(error))
        if held != self._guard.ballast.held:
            if self._guard.ballast.held:
                log.info("ballast_taken_up", bytes=self._guard.ballast.size_bytes)
            else:
                log.warning("ballast_released", bytes=self._guard.ballast.size_bytes)
        if self._guard.full and clock_ms - self._retained_ms >= FULL_RETENTION_MS:
            self._retain()

    async def _checkpoint(self) -> None:
        """Remembers recovery points and high watermarks, and the producers of logs that have a new segment."""
        broker = self._broker
        tables = []
        for partition in broker.partitions.values():
            if partition.offline is None and self._rolled(partition):
                broker.sync_soon(partition)
                tables.append((partition, partition.cuts, partition.saved_producers()))
        self._active = {partition: base for partition, base in self._active.items() if not partition.closed}
        checkpoints = broker.checkpoints()
        self._checkpoint_due_ms = math.inf

        def write() -> None:
            for partition, cuts, table in tables:
                directory = partition.log.directory
                if os.path.isdir(directory):
                    snapshots.save(broker.fs, directory, table)
                    if partition.cuts != cuts:
                        snapshots.cut(broker.fs, directory, None)  # it was cut meanwhile
            broker.directory.write_checkpoints(checkpoints)

        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, write)
        except OSError as error:
            # Only time is lost: the next start scans more.
            log.warning("checkpoint_not_written", error=str(error))
            return
        for key, checkpoint in checkpoints.items():
            if key in broker.partitions:
                broker.partitions[key].checkpointed(checkpoint.log_start_offset)

    def _rolled(self, partition: Partition) -> bool:
        """Since the last look. Not by the number of segments: compaction takes some away."""
        base = partition.log.active_base_offset
        before, self._active[partition] = self._active.get(partition, partition.log.log_start_offset), base
        return base != before
