"""Kafka's records: the C helper and its pure twin say the same, and what a walk passes both convert, and back."""

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.protocol import kafka as chosen
from ottla.protocol import kafka_records as twin
from ottla.protocol import walk as ottlas
from ottla.v1.record_pb2 import Header, Record, Records
from tests.helpers_in_c import compiled

SOURCE = Path(twin.__file__).with_name("_kafka.c")
FAR = (1 << 63) - 1


@pytest.fixture(scope="module")
def helper(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """The helper from the sources of this tree."""
    module = compiled(SOURCE, "ottla.protocol._kafka", tmp_path_factory.mktemp("kafka"))
    assert chosen.VERSION == module.VERSION
    return module


int64 = st.integers(-(1 << 63), FAR)
some_bytes = st.none() | st.binary(max_size=200)
record = st.builds(
    Record,
    key=some_bytes,
    value=some_bytes,
    headers=st.lists(st.builds(Header, key=st.text(max_size=9), value=some_bytes), max_size=3),
    timestamp_delta=st.just(0) | int64 | st.integers(-300, 300),
    offset_delta=st.none() | st.integers(0, 4) | st.integers(0, (1 << 31) - 1),
)
message = st.lists(record, max_size=5).map(lambda found: Records(records=found).SerializeToString())
numbers = st.tuples(st.integers(0, 9), st.integers(-300, 300) | int64, int64)


def outcome(call: Any, *args: Any) -> Any:
    """The value, or that it was refused: what is wrong twice may be told either way."""
    try:
        return call(*args)
    except ottlas.Malformed:
        return None


def agree(helper: ModuleType, data: bytes, numbers: tuple[int, int, int]) -> None:
    most, first, second = numbers
    for args in ((1 << 20, -FAR - 1, FAR, False), (most, min(first, second), max(first, second), True)):
        assert outcome(helper.walk, data, *args) == outcome(twin.walk, data, *args)
    found = outcome(twin.walk, data, 1 << 20, -FAR - 1, FAR, False)
    count = found[0] if found else 1
    for wanted in (count, count + 1, max(0, count - 1)):
        assert outcome(helper.to_ottla, data, wanted) == outcome(twin.to_ottla, data, wanted)
    if found is None or any(kind == ottlas.WRONG_OFFSET for _, kind in found[4]):
        return
    made = twin.to_ottla(data, count)
    assert ottlas.walk(made, 1 << 20, -FAR - 1, FAR, False)[:3] == found[:3]
    spots = list(twin.each(data))
    assert [spot.offset_delta for spot in spots] == list(range(count))
    for spot, read in zip(spots, Records.FromString(made).records, strict=True):
        assert (spot.key is not None, spot.has_value) == (read.HasField("key"), read.HasField("value"))
        assert spot.key is None or data[slice(*spot.key)] == read.key
        assert spot.timestamp_delta == read.timestamp_delta


@settings(max_examples=150, deadline=None)
@given(message, numbers)
def test_they_agree_on_what_is_stored(helper: ModuleType, data: bytes, numbers: tuple[int, int, int]) -> None:
    there = twin.to_kafka(data)
    assert helper.to_kafka(data) == there
    agree(helper, there[0], numbers)
    again = helper.to_ottla(*there)
    assert twin.to_kafka(again) == helper.to_kafka(again) == there
    # The same record by record; deltas that are the record's place anyway may come and go.
    for place, (before, after) in enumerate(
        zip(Records.FromString(data).records, Records.FromString(again).records, strict=True)
    ):
        assert (before.offset_delta if before.HasField("offset_delta") else place) == (
            after.offset_delta if after.HasField("offset_delta") else place
        )
        before.ClearField("offset_delta")
        after.ClearField("offset_delta")
        assert before == after


@settings(max_examples=150, deadline=None)
@given(message, st.data(), numbers)
def test_they_agree_on_damaged_bytes(
    helper: ModuleType, data: bytes, draw: st.DataObject, numbers: tuple[int, int, int]
) -> None:
    damaged = bytearray(twin.to_kafka(data)[0])
    for _ in range(draw.draw(st.integers(1, 3)) if damaged else 0):
        damaged[draw.draw(st.integers(0, len(damaged) - 1))] = draw.draw(st.integers(0, 255))
    del damaged[draw.draw(st.integers(0, len(damaged))) if draw.draw(st.booleans()) else len(damaged) :]
    agree(helper, bytes(damaged), numbers)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=60), numbers)
def test_they_agree_on_noise(helper: ModuleType, data: bytes, numbers: tuple[int, int, int]) -> None:
    agree(helper, data, numbers)
    passed = outcome(ottlas.walk, data, 1 << 20, -FAR - 1, FAR, False)
    made = outcome(helper.to_kafka, data)  # on other bytes it only must not fall over
    if isinstance(passed, tuple):
        assert made == twin.to_kafka(data)


def test_large_ones(helper: ModuleType) -> None:
    """Over the size at which the lock is given away, and with numbers of each length."""
    records = [Record(key=b"k" * n, value=b"v" * (n * 7), timestamp_delta=1 << n % 60) for n in range(0, 700, 3)]
    data = Records(records=records).SerializeToString()
    made, count = helper.to_kafka(data)
    assert (made, count) == twin.to_kafka(data)
    assert helper.to_ottla(made, count) == data == twin.to_ottla(made, count)
    assert helper.walk(made, 1 << 20, 0, FAR, True) == twin.walk(made, 1 << 20, 0, FAR, True)


names = st.binary(max_size=9) | st.lists(
    st.sampled_from(
        [b"a", b"\xc2\x80", b"\xe0\xa0", b"\xed\xa0\x80", b"\xf0\x9f\x98\x80", b"\xf4\x90", b"\x80", b"\xff"]
    )
).map(b"".join)


@settings(max_examples=300, deadline=None)
@given(st.lists(names, min_size=1, max_size=3))
def test_names_that_are_not_utf8_become_readable(helper: ModuleType, names: list[bytes]) -> None:
    body = b"\0\0\0\1\1" + bytes((len(names) << 1,))
    body += b"".join(twin._write_varint(len(name) << 1) + name + b"\1" for name in names)
    data = twin._write_varint(len(body) << 1) + body
    made = helper.to_ottla(data, 1)
    assert made == twin.to_ottla(data, 1)
    assert [header.key for header in Records.FromString(made).records[0].headers] == [
        name.decode(errors="replace") for name in names
    ]


def test_counts_beyond_the_data_make_no_memory(helper: ModuleType) -> None:
    body = b"\0\0\0\1\1" + b"\xfe\xff\xff\xff\x0f"
    for data in (bytes((len(body) << 1,)) + body, b"\xfe\xff\xff\xff\x0f", b"\x0c\0\0\0\1\1\0" * 3):
        assert outcome(helper.to_ottla, data, 1 << 40) is None
        assert outcome(twin.to_ottla, data, 1 << 40) is None
