"""Records in lists instead of one by one."""

from collections.abc import AsyncIterator, Awaitable, Callable

from ottla.client.records import ConsumerRecord


class Batches(AsyncIterator[list[ConsumerRecord]]):
    """What `Consumer.batches` answers. Not a generator: that would end when a call of it is cancelled."""

    def __init__(self, take: Callable[[], Awaitable[list[ConsumerRecord]]]) -> None:
        self._take = take

    async def __anext__(self) -> list[ConsumerRecord]:
        records = await self._take()
        if not records:
            raise StopAsyncIteration
        return records
