"""The door of Kafka's clients, by one of them: confluent-kafka, which is librdkafka."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from ottla.cli.failure import Failure
from ottla.verify.doors import (
    DELIVERY_MS,
    ENDS_MS,
    POLL_MS,
    POLL_RECORDS,
    TOPIC,
    Ends,
    Failed,
    Seen,
    Sink,
    Source,
    Stored,
)

if TYPE_CHECKING:
    import confluent_kafka

_TICK_S: Final = 0.005
# A node that was down is looked for once a second: librdkafka's own ten seconds would make faults of its clients.
_COMMON: Final = {"reconnect.backoff.max.ms": 1000, "log_level": 0}
_TRUNCATED: Final = frozenset({"OFFSET_OUT_OF_RANGE", "_AUTO_OFFSET_RESET", "_LOG_TRUNCATION"})


def library() -> Any:
    """The module `confluent_kafka`. Raises Failure where it is not installed."""
    try:
        import confluent_kafka
    except ImportError:
        raise Failure(
            "NOT_INSTALLED", "clients of Kafka take librdkafka's Python package here", "pip install confluent-kafka"
        ) from None
    return confluent_kafka


def _told(error: "confluent_kafka.KafkaError") -> str:
    return f"{error.name()}: {error.str()}"


def _ignore(error: "confluent_kafka.KafkaError") -> None:
    """What is not about one record or one poll: the client goes on by itself."""


class _Producer:
    """Its callbacks come from `poll`, which is called here alone, so that no other thread is needed."""

    def __init__(self, client: Any, bootstrap: str) -> None:
        self._refused = client.KafkaException
        self._producer: confluent_kafka.Producer = client.Producer(
            {
                **_COMMON,
                "bootstrap.servers": bootstrap,
                "enable.idempotence": True,
                "delivery.timeout.ms": DELIVERY_MS,
                "error_cb": _ignore,
            }
        )
        self._under_way: set[asyncio.Future[Stored]] = set()

    async def send(self, partition: int, value: bytes) -> Awaitable[Stored]:
        outcome: asyncio.Future[Stored] = asyncio.get_running_loop().create_future()

        def done(error: "confluent_kafka.KafkaError | None", message: "confluent_kafka.Message") -> None:
            # Which errors are certain, librdkafka does not tell this package.
            if error is not None:
                outcome.set_exception(Failed(_told(error)))
            else:
                offset = message.offset()
                outcome.set_result(Stored(offset if offset is not None and offset >= 0 else None, None))

        try:
            self._producer.produce(TOPIC, value, partition=partition, on_delivery=done)
        except (BufferError, self._refused) as error:
            raise Failed(str(error), certain=True) from None
        self._under_way.add(outcome)
        outcome.add_done_callback(self._under_way.discard)
        return outcome

    async def flush(self) -> None:
        if self._under_way:
            await asyncio.wait(self._under_way)

    async def keep_polling(self) -> None:
        while True:
            self._producer.poll(0)
            await asyncio.sleep(_TICK_S)


class _Consumer:
    def __init__(self, client: Any, consumer: "confluent_kafka.Consumer") -> None:
        self._client = client
        self._consumer = consumer

    async def poll(self) -> Sequence[Seen]:
        deadline = asyncio.get_running_loop().time() + POLL_MS / 1000
        while not (found := self._consumer.consume(POLL_RECORDS, 0)):
            if asyncio.get_running_loop().time() > deadline:
                return []
            await asyncio.sleep(_TICK_S)
        seen: list[Seen] = []
        for message in found:
            partition, offset, error = message.partition(), message.offset(), message.error()
            if error is not None:
                raise Failed(_told(error), truncated=partition if error.name() in _TRUNCATED else None)
            assert partition is not None
            assert offset is not None
            seen.append(Seen(partition, offset, message.value()))
        return seen

    def high_watermark(self, partition: int) -> int | None:
        found = self._consumer.get_watermark_offsets(self._client.TopicPartition(TOPIC, partition), cached=True)
        return found[1] if found and found[1] >= 0 else None


class _Ends:
    def __init__(self, client: Any, consumer: "confluent_kafka.Consumer") -> None:
        self._client = client
        self._consumer = consumer

    async def end(self, partition: int) -> int | None:
        try:
            found = await asyncio.to_thread(
                self._consumer.get_watermark_offsets, self._client.TopicPartition(TOPIC, partition), ENDS_MS / 1000
            )
        except self._client.KafkaException as error:
            raise Failed(_told(error.args[0])) from None
        return found[1] if found else None


class KafkaDoor:
    """librdkafka's clients, with its own defaults but for what a run is about."""

    name = "kafka"

    def __init__(self, bootstrap: str) -> None:
        self._client = library()
        self._bootstrap = bootstrap

    @asynccontextmanager
    async def sink(self) -> AsyncIterator[Sink]:
        producer = _Producer(self._client, self._bootstrap)
        polling = asyncio.get_running_loop().create_task(producer.keep_polling())
        try:
            yield producer
            await producer.flush()
        finally:
            polling.cancel()

    def _consumer(self) -> "confluent_kafka.Consumer":
        made: confluent_kafka.Consumer = self._client.Consumer(
            {
                **_COMMON,
                "bootstrap.servers": self._bootstrap,
                "group.id": TOPIC,
                "enable.auto.commit": False,
                # Where its position is no longer in the log it is told so, and does not go elsewhere by itself.
                "auto.offset.reset": "error",
                "error_cb": _ignore,
            }
        )
        return made

    @asynccontextmanager
    async def source(self, partitions: int) -> AsyncIterator[Source]:
        consumer = self._consumer()
        try:
            consumer.assign([self._client.TopicPartition(TOPIC, partition, 0) for partition in range(partitions)])
            yield _Consumer(self._client, consumer)
        finally:
            await asyncio.to_thread(consumer.close)

    @asynccontextmanager
    async def ends(self) -> AsyncIterator[Ends]:
        consumer = self._consumer()
        try:
            yield _Ends(self._client, consumer)
        finally:
            await asyncio.to_thread(consumer.close)
