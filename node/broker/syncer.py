"""Group commit: a few threads make appended batches durable, each one log at a time.

A sync that hangs holds its own log. Only where `SYNCS_MAX` hang at once do the others wait, and then it is the disk.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from node.broker.partition import Partition
from storage.errors import StorageError, passing
from storage.sync import SyncTicket

RETRY_S: Final = 0.1
SYNCS_MAX: Final = 4
"""Logs that are synced at the same time: the file system makes one of several that wait together."""


class Syncer:
    """One sync of a log at a time; what is asked for meanwhile goes into its next. Used on the data loop only."""

    def __init__(self, executor: ThreadPoolExecutor) -> None:
        self._executor = executor
        self._loop = asyncio.get_running_loop()
        self._wanted: dict[Partition, None] = {}
        self._running: dict[Partition, asyncio.Future[None]] = {}
        self._scheduled = False

    def sync_soon(self, partition: Partition) -> None:
        """`Partition.synced` follows once everything appended up to now is durable."""
        self._wanted[partition] = None
        self._begin_soon()

    async def stop(self) -> None:
        """Begins no more, and waits for those that run."""
        self._wanted.clear()
        while self._running:
            await asyncio.wait(list(self._running.values()))

    def _begin_soon(self) -> None:
        """Not at once: what this turn of the loop still appends shares the sync."""
        if not self._scheduled and self._wanted and len(self._running) < SYNCS_MAX:
            self._scheduled = True
            self._loop.call_soon(self._begin)

    def _begin(self) -> None:
        self._scheduled = False
        while len(self._running) < SYNCS_MAX:
            partition = next((p for p in self._wanted if p not in self._running), None)
            if partition is None:
                return
            del self._wanted[partition]
            self._begin_one(partition)

    def _begin_one(self, partition: Partition) -> None:
        if partition.closed or partition.offline is not None:
            return
        try:
            ticket = partition.log.begin_sync()
        except StorageError as error:
            self._failed(partition, error)
            return
        if ticket is not None:
            running = self._loop.run_in_executor(self._executor, ticket.run)
            self._running[partition] = running
            running.add_done_callback(lambda done: self._complete(partition, ticket, done))

    def _complete(self, partition: Partition, ticket: SyncTicket, done: "asyncio.Future[None]") -> None:
        del self._running[partition]
        self._begin_soon()
        error = done.exception()
        if error is not None and not isinstance(error, OSError):
            raise error  # an OSError is kept in the ticket: the log fails when it gets it back
        if partition.closed:
            return
        try:
            partition.log.complete_sync(ticket)
        except StorageError as failed:
            self._failed(partition, failed)
        else:
            partition.synced()

    def _failed(self, partition: Partition, error: StorageError) -> None:
        if passing(error):
            self._loop.call_later(RETRY_S, self.sync_soon, partition)
        else:
            partition.fail(error)
