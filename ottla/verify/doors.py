"""How clients of a run get in: what writers, readers and who asks for ends need of a client; Ottla's own, over gRPC.

The other door is that of Kafka, with a client of Kafka's: `ottla.verify.kafka_door`.
"""

from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final, NamedTuple, Protocol

from ottla.client.admin import Admin
from ottla.client.consumer import Consumer
from ottla.client.errors import DeliveryFailed, LogTruncation, OffsetOutOfRange, OttlaError
from ottla.client.producer import Producer
from ottla.client.records import TopicPartition

TOPIC: Final = "ottla-verify"
# Longer than any fault is held and a cluster takes to be whole again: a send that ends earlier is a finding.
DELIVERY_MS: Final = 60_000
POLL_MS: Final = 100
POLL_RECORDS: Final = 2000
ENDS_MS: Final = 3000


class Failed(Exception):
    """What a client was told. `certain`: what it asked for has not happened and never will. `truncated`: the partition
    of which it had read what is no longer there."""

    def __init__(self, text: str, *, certain: bool = False, truncated: int | None = None) -> None:
        super().__init__(text[:300])
        self.certain = certain
        self.truncated = truncated


class Stored(NamedTuple):
    """Where a record is, and the high watermark that was told with it; None where nothing was told of it."""

    offset: int | None
    high_watermark: int | None


class Seen(NamedTuple):
    """A record as it was read."""

    partition: int
    offset: int
    value: bytes | None


class Sink(Protocol):
    """A producer: idempotent, and acknowledged by all in-sync replicas."""

    async def send(self, partition: int, value: bytes) -> Awaitable[Stored]:
        """Takes a record; what is returned ends with its outcome. Both raise Failed."""

    async def flush(self) -> None:
        """Returns when every outcome is known, whichever it is."""


class Source(Protocol):
    """A consumer of all partitions, from their start."""

    async def poll(self) -> Sequence[Seen]:
        """What has come, after a tenth of a second if nothing has. Raises Failed."""

    def high_watermark(self, partition: int) -> int | None:
        """As it was last told."""


class Ends(Protocol):
    """Who asks for the ends of partitions."""

    async def end(self, partition: int) -> int | None:
        """The offset behind the last record that anybody may read. Raises Failed."""


class Door(Protocol):
    """Opening a client, using it and closing it raise Failed."""

    @property
    def name(self) -> str:
        """As it is in the names of its clients in the history."""

    def sink(self) -> AbstractAsyncContextManager[Sink]: ...
    def source(self, partitions: int) -> AbstractAsyncContextManager[Source]: ...
    def ends(self) -> AbstractAsyncContextManager[Ends]: ...


def _told(error: OttlaError, *, certain: bool = False) -> Failed:
    truncated = error.partition if isinstance(error, LogTruncation | OffsetOutOfRange) else None
    return Failed(f"{error.name}: {error.message}", certain=certain, truncated=truncated)


class _Producer:
    def __init__(self, producer: Producer) -> None:
        self._producer = producer

    async def send(self, partition: int, value: bytes) -> Awaitable[Stored]:
        try:
            delivery = await self._producer.send(TOPIC, value, partition=partition)
        except OttlaError as error:
            raise _told(error, certain=True) from None

        async def outcome() -> Stored:
            try:
                stored = await delivery
            except DeliveryFailed as error:
                raise _told(error, certain=not error.maybe_written) from None
            # 0: the leader lost its office between the acknowledgement and the answer
            return Stored(stored.offset if stored.offset >= 0 else None, stored.high_watermark or None)

        return outcome()

    async def flush(self) -> None:
        try:
            await self._producer.flush()
        except DeliveryFailed:
            return


class _Consumer:
    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer

    async def poll(self) -> Sequence[Seen]:
        records = await self._consumer.poll(max_records=POLL_RECORDS, timeout_ms=POLL_MS)
        return [Seen(record.partition, record.offset, record.value) for record in records]

    def high_watermark(self, partition: int) -> int | None:
        return self._consumer.high_watermark(TOPIC, partition)


class _Ends:
    def __init__(self, admin: Admin) -> None:
        self._admin = admin

    async def end(self, partition: int) -> int | None:
        of = TopicPartition(TOPIC, partition)
        try:
            return (await self._admin.list_offsets({of: -1}))[of]
        except OttlaError as error:
            raise _told(error) from None


class GrpcDoor:
    """Ottla's own client."""

    name = "grpc"

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap

    @asynccontextmanager
    async def sink(self) -> AsyncIterator[Sink]:
        try:
            async with Producer(self._bootstrap, delivery_timeout_ms=DELIVERY_MS, max_block_ms=DELIVERY_MS) as producer:
                yield _Producer(producer)
        except OttlaError as error:
            raise _told(error) from None

    @asynccontextmanager
    async def source(self, partitions: int) -> AsyncIterator[Source]:
        try:
            async with Consumer(bootstrap=self._bootstrap) as consumer:
                await consumer.assign([TopicPartition(TOPIC, partition) for partition in range(partitions)])
                yield _Consumer(consumer)
        except OttlaError as error:
            raise _told(error) from None

    @asynccontextmanager
    async def ends(self) -> AsyncIterator[Ends]:
        try:
            async with Admin(self._bootstrap, request_timeout_ms=ENDS_MS) as admin:
                yield _Ends(admin)
        except OttlaError as error:
            raise _told(error) from None
