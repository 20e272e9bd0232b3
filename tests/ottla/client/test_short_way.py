"""`Producer.send` takes a record that is only a value in few steps. Invariant: it decides what the long way decides."""

import asyncio
from dataclasses import dataclass
from random import Random
from unittest.mock import patch

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ottla import OttlaError, Producer, RecordTooLarge
from ottla.client.producer_batch import Batch
from ottla.client.producer_queue import Leader
from ottla.client.producer_state import ProducerState

TOPIC_ID = b"t" * 16
SETTINGS = {"batch_size": 2000, "buffer_memory": 6000, "max_request_size": 3000, "max_block_ms": 0, "linger_ms": 5}


@dataclass
class Send:
    size: int
    times: int = 1
    key: bytes | None = None
    partition: int | None = None
    timestamp: int | None = None


@dataclass
class Pass:
    """Time passes: what has lingered leaves."""

    ms: int


@dataclass
class Answer:
    """The oldest batch on its way is acknowledged."""


@dataclass
class Lead:
    """The cluster's news: who leads one partition, and how many there are."""

    partition: int
    leader: int | None
    partitions: int


@dataclass
class Recreate:
    """The topic is deleted, and made again."""


EVENTS = (
    st.builds(Send, st.integers(0, 2100))
    | st.builds(Send, st.integers(0, 100), st.integers(1, 20))
    | st.builds(Send, st.integers(0, 300), key=st.sampled_from([b"a", b"b", b"c"]))
    | st.builds(Send, st.integers(0, 300), partition=st.integers(0, 1))
    | st.builds(Send, st.integers(0, 300), timestamp=st.just(7))
    | st.builds(Pass, st.sampled_from([1, 6]))
    | st.builds(Answer)
    | st.builds(Lead, st.integers(0, 1), st.sampled_from([1, 2, None]), st.integers(2, 4))
    | st.builds(Recreate)
)


class Life:
    """A producer without a cluster: what it did with each record, and its batches' bytes."""

    def __init__(self, partitions: int, seed: int) -> None:
        self.producer = Producer("127.0.0.1:1", **SETTINGS)  # type: ignore[arg-type]
        self.producer._life = "open"
        self.state = self.producer._state
        self.state._rng = Random(seed)
        self.state.start_epoch(1, 0)
        self.epoch = self.now_ms = 0
        self.leaders: list[int | None] = [1] * partitions
        self.learn()
        self.flying: list[Batch] = []
        self.took: list[object] = []

    def learn(self) -> None:
        self.state.on_metadata("t", TOPIC_ID, [Leader(each, self.epoch) for each in self.leaders], self.now_ms)

    async def send(self, event: Send) -> None:
        value = b"%d" % len(self.took) + bytes(event.size)
        try:
            delivery = await self.producer.send(
                "t", value, key=event.key, partition=event.partition, timestamp=event.timestamp
            )
            self.took.append((delivery._batch.partition, delivery._index))
        except OttlaError as error:
            self.took.append(str(error))

    async def live(self, event: object) -> None:
        if isinstance(event, Send):
            for _ in range(event.times):
                await self.send(event)
        elif isinstance(event, Pass):
            self.now_ms += event.ms
        elif isinstance(event, Answer) and self.flying:
            batch = self.flying.pop(0)
            if not batch.is_done:
                self.state._complete(self.state.topics["t"].queues[batch.partition], batch)
        elif isinstance(event, Lead):
            self.epoch += 1
            self.leaders += [1] * (event.partitions - len(self.leaders))
            self.leaders[event.partition] = event.leader
            self.learn()
        elif isinstance(event, Recreate):
            self.state.on_topic_deleted("t")
            self.flying.clear()
            self.learn()
        self.flying += [batch for each in self.state.poll(self.now_ms).transmits for batch in each.batches]

    def held(self) -> object:
        return [
            (batch.partition, batch.size_bytes, list(batch.timestamps), batch.payload or b"".join(batch.parts))
            for batch in self.state.outstanding()
        ], self.state.buffered_bytes


@given(st.integers(1, 3), st.integers(0, 9), st.lists(EVENTS, max_size=60))
@example(2, 0, [Lead(0, None, 2), Lead(1, None, 2), Send(10, 20)])
@settings(max_examples=400, deadline=None)
def test_the_short_way_decides_what_the_long_way_decides(partitions: int, seed: int, events: list[object]) -> None:
    async def compare() -> None:
        short, long = Life(partitions, seed), Life(partitions, seed)
        for event in events:
            with (
                patch("ottla.client.producer.time.time_ns", lambda: 10**15 + short.now_ms * 10**6),
                patch("ottla.client.producer._now_ms", lambda: short.now_ms),
            ):
                await short.live(event)
                with patch.object(ProducerState, "add_value", lambda *_: None):
                    await long.live(event)
            assert short.took == long.took
            assert short.held() == long.held()

    asyncio.run(compare())


async def test_nearly_all_records_go_the_short_way() -> None:
    life = Life(3, 1)
    long_way = ProducerState.partition_for
    counted = 0

    def count(*arguments: object) -> int:
        nonlocal counted
        counted += 1
        return long_way(*arguments)  # type: ignore[arg-type]

    with patch.object(ProducerState, "partition_for", count):
        for _ in range(1000):
            await life.live(Send(10))
            await life.live(Answer())
    assert len(life.took) == 1000
    assert counted < 50


async def test_no_batch_is_larger_than_a_request_may_be() -> None:
    producer = Producer("127.0.0.1:1", batch_size=10_000, max_request_size=3000, buffer_memory=100_000)
    producer._life = "open"
    state = producer._state
    state.on_metadata("t", TOPIC_ID, [Leader(1, 0)], 0)
    for _ in range(20):
        await producer.send("t", bytes(700))
    assert len(state.outstanding()) > 4
    assert all(len(batch.payload or b"") < 3000 for batch in state.outstanding())
    with pytest.raises(RecordTooLarge):
        await producer.send("t", bytes(2800))
