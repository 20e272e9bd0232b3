"""Group commit: one thread per log directory makes appended batches durable, many logs at a time."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from node.broker.partition import Partition
from storage.errors import StorageError
from storage.sync import SyncTicket

Tickets = list[tuple[Partition, SyncTicket]]


class Syncer:
    """Runs one round at a time; what is asked for meanwhile goes into the next. Used on the data loop only."""

    def __init__(self, executor: ThreadPoolExecutor) -> None:
        self._executor = executor
        self._loop = asyncio.get_running_loop()
        self._wanted: dict[Partition, None] = {}
        self._scheduled = False

    def sync_soon(self, partition: Partition) -> None:
        """`Partition.synced` follows once everything appended up to now is durable."""
        self._wanted[partition] = None
        if not self._scheduled:
            # Not at once: what this turn of the loop still appends shares the round.
            self._scheduled = True
            self._loop.call_soon(self._begin)

    def _begin(self) -> None:
        wanted, self._wanted = self._wanted, {}
        tickets: Tickets = []
        for partition in wanted:
            if partition.closed or partition.offline is not None:
                continue
            try:
                ticket = partition.log.begin_sync()
            except StorageError as error:
                partition.fail(error)
                continue
            if ticket is not None:
                tickets.append((partition, ticket))
        if not tickets:
            self._scheduled = False
            return
        round_ = self._loop.run_in_executor(self._executor, _run, tickets)
        round_.add_done_callback(lambda done: self._complete(tickets, done))

    def _complete(self, tickets: Tickets, done: "asyncio.Future[None]") -> None:
        done.result()
        for partition, ticket in tickets:
            if partition.closed:
                continue
            try:
                partition.log.complete_sync(ticket)
            except StorageError as error:
                partition.fail(error)
            else:
                partition.synced()
        self._scheduled = bool(self._wanted)
        if self._wanted:
            self._begin()


def _run(tickets: Tickets) -> None:
    for _, ticket in tickets:
        try:
            ticket.run()
        except OSError:
            continue  # kept in the ticket: the log fails when it gets it back
