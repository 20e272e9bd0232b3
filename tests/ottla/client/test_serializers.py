"""Functions of the user's between bytes and values: what they make, and what happens when they raise."""

import asyncio
import json
from dataclasses import dataclass

import pytest
from pydantic import BaseModel

from ottla import ConfigError, ConsumerRecord, DeserializationFailed, Producer
from ottla.client.deserialize import deserialize_with, serialize_with
from ottla.serializers import LoadingDeserializer, from_json, to_json, to_type
from tests.ottla.client.batches import data, stored
from tests.ottla.client.test_arguments import held
from tests.ottla.client.test_positions import WHERE, Member


class Order(BaseModel):
    number: int


@dataclass
class Point:
    x: int


@pytest.mark.parametrize("value", [{"a": [1, None, "ä"]}, "text", 7, None, True])
def test_json_comes_back(value: object) -> None:
    assert from_json(to_json(value)) == value
    assert b" " not in to_json(value)


def test_models_and_types() -> None:
    assert to_type(Order)(to_json(Order(number=3))) == Order(number=3)
    assert to_type(Point)(b'{"x": 1}') == Point(1)
    with pytest.raises(ValueError, match="number"):
        to_type(Order)(b"{}")
    with pytest.raises(ValueError, match="JSON"):
        to_json(float("nan"))


async def test_a_producer_serializes_all_but_bytes_and_null() -> None:
    made = Producer("127.0.0.1:1", key_serializer=str, value_serializer=to_json)
    assert (made._value_bytes({"a": 1}, "t"), made._key_bytes(7, "t")) == (b'{"a":1}', b"7")
    assert made._value_bytes("text", "t") == b'"text"'


@pytest.mark.parametrize(
    ("call", "said"), [(lambda value: 1 / 0, "ZeroDivisionError"), (lambda value: 7, "must be bytes, str or None")]
)
async def test_what_a_serializer_can_not_take_is_not_sent(call: object, said: str) -> None:
    made = Producer("127.0.0.1:1", value_serializer=call)  # type: ignore[arg-type]
    made._life = "open"
    before = held(made)
    with pytest.raises(ConfigError, match=said):
        await made.send("t", {"a": 1})
    assert held(made) == before
    with pytest.raises(ConfigError, match="key_serializer"):
        serialize_with("key", "str")  # type: ignore[arg-type]


async def test_a_record_that_can_not_be_deserialized_holds_its_partition_until_it_is_skipped() -> None:
    member = Member()
    member.reader._deserialize = deserialize_with(None, json.loads)
    await member.gain()
    state = member.state
    state.added_to = "a stream"
    chunk = state.take(data(stored([b"1", b"[2]", b"broken", b"4"], 0, epoch=3), next_offset=4), 0)
    member.reader._chunks.append(chunk)
    assert [record.value for record in await member.consumer.poll(timeout_ms=0)] == [1, [2]]
    for _ in range(2):  # it is not passed over in silence
        with pytest.raises(DeserializationFailed, match="offset 2") as caught:
            await member.consumer.poll(timeout_ms=0)
    assert isinstance(caught.value.__cause__, json.JSONDecodeError)
    assert (caught.value.topic, caught.value.partition, caught.value.offset) == (*WHERE, 2)
    await member.consumer.commit()
    assert member.session.stored == 2
    member.consumer.seek(*WHERE, caught.value.offset + 1)
    state.added_to = "a stream"
    member.reader._chunks.append(state.take(data(stored([b"4"], 3, epoch=3), next_offset=4), 0))
    assert [record.value for record in await member.consumer.poll(timeout_ms=0)] == [4]


@pytest.mark.parametrize("way", ["poll", "batches"])
@pytest.mark.parametrize("end", [KeyboardInterrupt, SystemExit, asyncio.CancelledError])
async def test_what_ends_a_program_in_a_deserializer_passes_no_record_over(way: str, end: type[BaseException]) -> None:
    ends = [end]

    def deserialize(data: bytes) -> int:
        if data == b"2" and ends:
            raise ends.pop()
        return int(data)

    async def take() -> list[object]:
        member.fetch(5)
        return [record.value for record in await (anext(lists) if way == "batches" else member.consumer.poll())]

    member = Member()
    member.reader._deserialize = deserialize_with(None, deserialize)
    await member.gain()
    lists = member.consumer.batches()
    with pytest.raises(end):
        await take()
    await member.work.commit(member.session)  # type: ignore[arg-type]
    assert member.session.stored in (None, 0)
    assert await take() == [0, 1, 2, 3, 4]


class Slow(LoadingDeserializer):
    """Reads numbers; the number 2 needs something that comes when the test says so."""

    def __init__(self) -> None:
        self.answers: asyncio.Queue[Exception | None] = asyncio.Queue()
        self.has_all = False

    def __call__(self, data: bytes) -> int:
        return int(data)

    def is_loaded(self, data: bytes) -> bool:
        return data != b"2" or self.has_all

    async def load(self, data: bytes) -> None:
        if (answer := await self.answers.get()) is not None:
            raise answer
        self.has_all = True


@pytest.mark.parametrize("ends", ["loaded", "failed", "sought"])
async def test_what_a_record_waits_for_passes_no_record_over(ends: str) -> None:
    """invariants.md 1, 53."""
    slow = Slow()
    member = Member()
    member.reader._deserialize = deserialize_with(None, slow)
    await member.gain()

    async def poll() -> list[int]:
        member.fetch(5)
        return [record.offset for record in await member.consumer.poll(timeout_ms=0)]

    assert await poll() == [0, 1]
    assert await poll() == []
    assert not member.state.wants_fetch(10**9)
    await member.consumer.commit()
    assert (member.session.stored, member.state.position) == (2, 2)
    waits = member.state.loading
    if ends == "sought":
        member.consumer.seek(*WHERE, 4)
    slow.answers.put_nowait(ValueError("no such schema") if ends == "failed" else None)
    await member.reader._load(member.state, waits)
    if ends == "failed":
        for _ in range(2):
            with pytest.raises(DeserializationFailed, match=r"offset 2.*no such schema"):
                await poll()
        member.consumer.seek(*WHERE, 2)
        slow.has_all = True
    assert await poll() == ([4, 5, 6, 7, 8] if ends == "sought" else [2, 3, 4, 5, 6])


def test_nulls_stay_nulls() -> None:
    both = deserialize_with(json.loads, json.loads)
    assert both is not None
    record = ConsumerRecord("t", 0, 0, 1, None, None, (), 0)
    assert both(record) == record
    assert deserialize_with(None, None) is None
