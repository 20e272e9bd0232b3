"""Wrong input is refused with a ConfigError that names the argument, and nothing has changed then."""

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from ottla import Client, ConfigError, Consumer, OttlaError, Producer
from ottla.client.errors import Closed, DeliveryFailed
from ottla.client.producer_batch import Batch
from ottla.client.producer_queue import Leader
from ottla.client.producer_state import ProducerState
from ottla.client.settings import ConsumerSettings, ProducerSettings
from tests.ottla.client.test_positions import Member
from tests.ottla.client.test_producer_state import put, sent, state_with

TOPIC_ID = b"t" * 16


def producer() -> Producer:
    """Without a cluster: what it takes stays."""
    made = Producer("127.0.0.1:1", linger_ms=60_000)
    made._life = "open"
    made._state.start_epoch(1, 0)
    made._state.on_metadata("t", TOPIC_ID, [Leader(1, 0)] * 3, 0)
    return made


def held(made: Producer) -> object:
    state = made._state
    return state.buffered_bytes, [
        (batch.partition, batch.count, batch.size_bytes, b"".join(batch.parts)) for batch in state.outstanding()
    ]


BAD_RECORDS: list[tuple[str, dict[str, Any]]] = [
    ("timestamp", {"timestamp": 1_700_000_000_000.5}),
    ("timestamp", {"timestamp": 2**63}),
    ("timestamp", {"timestamp": float("nan")}),
    ("timestamp", {"timestamp": "1"}),
    ("timestamp", {"timestamp": 0}),
    ("timestamp", {"timestamp": -(2**63) - 1}),
    ("timestamp", {"timestamp": True}),
    ("partition", {"partition": 1.0}),
    ("partition", {"partition": "0"}),
    ("partition", {"partition": False}),
    ("partition", {"partition": 2**31}),
    ("key", {"key": 7}),
    ("key", {"key": "\ud800"}),
    ("value", {"value": {}}),
    ("value", {"value": "\udfff"}),
    ("value", {"value": 1.5, "partition": 0}),
    ("topic", {"topic": ["t"]}),
    ("topic", {"topic": b"t"}),
    ("topic", {"topic": None}),
    ("topic", {"topic": ""}),
    ("topic", {"topic": "\ud800"}),
    ("header", {"headers": {"ab": b"x"}}),
    ("header", {"headers": "ab"}),
    ("header", {"headers": 7}),
    ("header", {"headers": ["ab"]}),
    ("header", {"headers": [("a",)]}),
    ("header", {"headers": [("a", b"b", b"c")]}),
    ("header", {"headers": [(b"a", b"b")]}),
    ("header", {"headers": [(None, b"b")]}),
    ("header", {"headers": [("\ud800", b"b")]}),
    ("header", {"headers": [("a", b"b"), ("a", 7)]}),
]


@pytest.mark.parametrize(
    ("names", "bad"), BAD_RECORDS, ids=lambda value: None if isinstance(value, str) else repr(value)
)
async def test_a_bad_record_is_refused_whole(names: str, bad: dict[str, Any]) -> None:
    made = producer()
    await made.send("t", b"good")
    before = held(made)
    with pytest.raises(ConfigError, match=names):
        await made.send(**{"topic": "t", "value": b"bad", **bad})
    assert held(made) == before
    for partition in range(3):
        await made.send("t", b"good", partition=partition, timestamp=1)


@pytest.mark.parametrize("number", ["7", 1.5, None, True, 2**31, -1])
@pytest.mark.parametrize(
    "name", ["linger_ms", "batch_size", "buffer_memory", "max_block_ms", "max_request_size", "request_timeout_ms"]
)
def test_a_setting_of_another_type_or_size_is_named(name: str, number: Any) -> None:
    if (name, number) == ("linger_ms", None):
        assert ProducerSettings(**{name: number}) == ProducerSettings()
        return
    with pytest.raises(ConfigError, match=name):
        ProducerSettings(**{name: number})


@pytest.mark.parametrize(
    "bad",
    [
        {"client_id": 7},
        {"client_id": "\ud800"},
        {"acks": True},
        {"acks": "1"},
        {"acks": 1.0},
        {"compression_type": None},
    ],
    ids=repr,
)
def test_other_settings_of_a_producer(bad: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(bad))):
        ProducerSettings(**bad)


@pytest.mark.parametrize(
    "bad", [{"enable_auto_commit": "no"}, {"session_timeout_ms": 1.5}, {"auto_offset_reset": 7}, {"fetch_max_bytes": 0}]
)
def test_other_settings_of_a_consumer(bad: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(bad))):
        ConsumerSettings(**bad)


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda: Consumer("t", group=""), "group"),
        (lambda: Consumer("t", group=7), "group"),  # type: ignore[arg-type]
        (lambda: Consumer(b"t"), "topic"),  # type: ignore[arg-type]
        (lambda: Consumer("t", group="g", assignor="sticky"), "assignor"),  # type: ignore[arg-type]
        (lambda: Client(7), "bootstrap"),  # type: ignore[arg-type]
        (lambda: Client([]), "bootstrap"),
        (lambda: Client([("h", 1)]), "bootstrap"),  # type: ignore[list-item]
        (lambda: Client(connect_timeout_ms=0.5), "connect_timeout_ms"),  # type: ignore[arg-type]
    ],
)
def test_what_makes_no_sense_is_said_when_it_is_made(make: Callable[[], object], names: str) -> None:
    with pytest.raises(ConfigError, match=names):
        make()


BAD_CALLS: list[tuple[str, Callable[[Consumer], Any]]] = [
    ("offset", lambda c: c.seek("t", 0, 1.5)),  # type: ignore[arg-type]
    ("offset", lambda c: c.seek("t", 0, 2**63)),
    ("offset", lambda c: c.seek("t", 0, -1)),
    ("offset", lambda c: c.seek("t", 0, "5")),  # type: ignore[arg-type]
    ("partition", lambda c: c.seek("t", "0", 5)),  # type: ignore[arg-type]
    ("topic", lambda c: c.seek(["t"], 0, 5)),  # type: ignore[arg-type]
    ("not read", lambda c: c.seek("u", 0, 5)),
    ("partition", lambda c: c.pause("t", 0.0)),  # type: ignore[arg-type]
    ("timestamp_ms", lambda c: c.seek_to_time("t", 0, 1.5)),  # type: ignore[arg-type]
    ("timestamp_ms", lambda c: c.seek_to_time("t", 0, 2**63)),
    ("offset", lambda c: c.commit({("t", 0): 2**63})),
    ("offset", lambda c: c.commit({("t", 0): None})),  # type: ignore[dict-item]
    ("no .topic, partition", lambda c: c.commit({"t": 5})),  # type: ignore[dict-item]
    ("partition", lambda c: c.commit({("t", "0"): 5})),  # type: ignore[dict-item]
    ("max_records", lambda c: c.poll(max_records=0)),
    ("max_records", lambda c: c.poll(max_records=1.5)),  # type: ignore[arg-type]
    ("timeout_ms", lambda c: c.poll(timeout_ms=-1)),
    ("timeout_ms", lambda c: c.poll(timeout_ms="1")),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("names", "call"), BAD_CALLS)
async def test_a_bad_call_of_a_consumer_moves_nothing(names: str, call: Callable[[Consumer], Any]) -> None:
    member = Member()
    await member.gain()
    await member.poll(3)
    before = (member.state.position, member.state.done, member.state.stored, member.state.generation)

    async def run() -> None:
        if asyncio.iscoroutine(answer := call(member.consumer)):
            await answer

    with pytest.raises(ConfigError, match=names):
        await run()
    assert (member.state.position, member.state.done, member.state.stored, member.state.generation) == before


# -- what can't be encoded all the same -----------------------------------------------------------------------------


def test_a_batch_that_can_not_be_sealed_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    state = state_with()
    state.flushing += 1
    batch = put(state, b"bad", 0)
    monkeypatch.setattr(Batch, "seal", lambda self, codec: _seal_badly(self))
    actions = state.poll(0)
    monkeypatch.undo()
    assert (actions.transmits, actions.completed) == ([], [batch])
    assert batch.error is not None
    assert not batch.error.maybe_written
    good = put(state, b"good", 0)
    assert sent(state, 0) == [good]
    assert (good.epoch, good.sequence) == (0, 0)
    assert state.buffered_bytes > 0


def _seal_badly(batch: Batch) -> None:
    batch.payload, batch.seal_error = b"", MemoryError("no room")


def test_a_sealing_that_raises_is_kept_for_the_batch() -> None:
    batch = Batch("t", 0, 0, 1)
    batch.parts.append("no bytes")  # type: ignore[arg-type]
    batch.seal(0)
    assert isinstance(batch.seal_error, TypeError)
    assert batch.is_sealed


def test_an_attempt_that_can_not_be_encoded_is_no_lost_connection() -> None:
    state: ProducerState = state_with()
    batch, behind = put(state, b"bad", 0), None
    state.flushing += 1
    assert sent(state, 0) == [batch]
    behind = put(state, b"good", 0)
    assert sent(state, 0) == [behind]
    assert state.on_unsendable(batch, batch.attempt, OverflowError("too big")) == [batch]
    assert isinstance(batch.error, DeliveryFailed)
    assert not batch.error.maybe_written
    assert not batch.error.retriable
    assert state.on_unsendable(batch, batch.attempt, OverflowError()) == []


async def test_a_record_whose_producer_is_closed_while_it_waits_is_not_taken() -> None:
    made = producer()
    found = asyncio.Event()

    async def topic(name: str, partition: int = 0) -> Any:
        await found.wait()
        made._state.on_metadata(name, TOPIC_ID, [Leader(1, 0)], 0)
        return Random()

    made._client.topic = topic  # type: ignore[method-assign]
    made._take_topic = lambda _: None  # type: ignore[method-assign]
    sending = asyncio.create_task(made.send("new", b"x"))
    await asyncio.sleep(0)
    made._life = "closed"
    found.set()
    with pytest.raises(Closed):
        await sending
    assert made._state.outstanding() == []
    assert made.buffered_bytes == 0


def test_every_refusal_is_an_ottla_error() -> None:
    assert issubclass(ConfigError, OttlaError)
