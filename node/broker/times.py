"""Where a time is in a log: the search, with each look into a batch given to whoever has the room for it."""

from collections.abc import Awaitable, Callable, Generator
from functools import partial
from typing import Final

from node import turns
from node.broker import refusals
from node.broker.door import Heavy, OnLoop
from node.broker.lookup import latest_at, record_at
from node.broker.partition import Partition
from ottla.protocol.batch import CorruptBatch, read_extent
from storage.errors import StorageError
from storage.index import NO_TIMESTAMP

Looked = tuple[int, int] | None
"""(offset, timestamp) of a record."""
Look = Callable[..., Looked]
"""A look into a batch; takes how much may be done on the loop, `on_loop`."""
Search = Generator[Look, Looked, tuple[int | None, int | None]]
HEADERS_AT_ONCE: Final = 500


def offset_for_time(partition: Partition, timestamp_ms: int) -> Search:
    """(offset, timestamp) of the first committed record as late as `timestamp_ms`, -3: of the largest timestamp;
    (None, None) if there is none. Yields the looks into batches that it takes, so that they can be given to a
    thread, and goes on with what they found. Raises OFFSET_NOT_AVAILABLE where it may still be uncommitted."""
    try:
        found = yield from (_first_as_late(partition, timestamp_ms, 0) if timestamp_ms >= 0 else _latest(partition))
    except CorruptBatch as error:
        raise partition.damaged_read(partition.log.log_start_offset, error) from None
    except (StorageError, OSError) as error:
        raise partition.storage_error(error) from None
    if found is None and not partition.leading(None).high_watermark_known:
        raise refusals.offset_not_available(partition.name, partition.leading(None))
    return (None, None) if found is None else found


def _first_as_late(partition: Partition, timestamp_ms: int, start: int) -> Generator[Look, Looked, Looked]:
    records = partition.log
    while True:
        mark = partition.leading(None).high_watermark
        batch = records.offset_for_time(timestamp_ms, mark, start)
        if batch is None:
            return None
        # A batch that holds the log start begins below it: what is there was deleted.
        log_start = records.log_start_offset
        try:
            data = records.read(max(batch.base_offset, log_start), 1, mark, min_one=True, verify=True).data
            found = yield partial(record_at, data, timestamp_ms, log_start)
        except CorruptBatch as error:
            raise partition.damaged_read(batch.base_offset, error) from None
        if found is not None:
            return found
        start = read_extent(data, 0)[1]


def _latest(partition: Partition) -> Generator[Look, Looked, Looked]:
    records = partition.log
    mark, log_start = partition.leading(None).high_watermark, records.log_start_offset
    found, start = None, log_start
    if log_start < mark:
        first = records.read(log_start, 1, mark, min_one=True, verify=True).data
        if read_extent(first, 0)[0] < log_start:
            # Its header tells of deleted records, too.
            start = read_extent(first, 0)[1]
            found = yield partial(latest_at, first, log_start)
    newest = records.max_timestamp(mark, start)
    if newest >= 0 and records.offset_for_time(newest, mark, start) is None:
        # Only batches that compaction has emptied are as late.
        newest = NO_TIMESTAMP
        for count, batch in enumerate(records.scan(start, mark), 1):
            if batch.header.record_count:
                newest = max(newest, batch.header.max_timestamp)
            if count % HEADERS_AT_ONCE == 0:
                yield lambda on_loop=None: None
    if newest < 0 or (found is not None and found[1] >= newest):
        return found
    return (yield from _first_as_late(partition, newest, start)) or found


async def searched(search: Search, in_thread: Callable[[Look], Awaitable[Looked]]) -> tuple[int | None, int | None]:
    """What the search comes to, the loop turning after each look; a heavy one is taken in a thread."""
    on_loop = OnLoop()
    try:
        look = next(search)
        while True:
            try:
                try:
                    found = look(on_loop=on_loop)
                except Heavy:
                    found = await in_thread(look)
            except CorruptBatch as error:
                look = search.throw(error)
            else:
                await turns.give_way()
                look = search.send(found)
    except StopIteration as end:
        place: tuple[int | None, int | None] = end.value
        return place
