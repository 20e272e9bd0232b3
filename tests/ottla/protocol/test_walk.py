"""The C helper and its pure twin: the same verdicts and values, and never laxer than protobuf's own parser."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.protocol import records as chosen
from ottla.protocol import walk as twin
from ottla.v1.record_pb2 import Header, Record, Records
from tests.helpers_in_c import compiled

SOURCE = Path(twin.__file__).with_name("_walk.c")
FAR = (1 << 63) - 1


@pytest.fixture(scope="module")
def helper(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """The helper from the sources of this tree."""
    return compiled(SOURCE, "ottla.protocol._walk", tmp_path_factory.mktemp("walk"))


def outcome(call: Any, *args: Any) -> Any:
    """The value; of a refusal the record and the place, not the reason: what is wrong twice may be told either way."""
    try:
        return call(*args)
    except twin.Malformed as error:
        return str(error).partition(":")[0]


def agree(helper: ModuleType, data: bytes, numbers: tuple[int, int, int]) -> None:
    first, second, third = numbers
    for name, args in (
        ("walk", (1000, -FAR, FAR, False)),
        ("walk", (abs(first) % 5, min(second, third), max(second, third), True)),
        ("find", (0, -FAR)),
        ("find", (first, second)),
        ("cut", (0, 0, abs(first) % 64)),
    ):
        expected = outcome(getattr(twin, name), data, *args)
        assert outcome(getattr(helper, name), data, *args) == expected, (name, args)
    found = outcome(twin.find, data, abs(first) % 4, -FAR)
    if isinstance(found, tuple):
        at, place, _, _ = found
        assert outcome(helper.cut, data, at, place, 40) == outcome(twin.cut, data, at, place, 40)


int64 = st.integers(-(1 << 63), FAR)
some_bytes = st.none() | st.binary(max_size=200)
record = st.builds(
    Record,
    key=some_bytes,
    value=some_bytes,
    headers=st.lists(st.builds(Header, key=st.text(max_size=9), value=some_bytes), max_size=2),
    timestamp_delta=st.just(0) | int64 | st.integers(-300, 300),
    offset_delta=st.none() | st.integers(-1, 4) | st.integers(-(1 << 31), (1 << 31) - 1),
)
message = st.lists(record, max_size=5).map(lambda found: Records(records=found).SerializeToString())
unknown = st.sampled_from(
    [
        *(
            b"",
            b"\x30\x05",
            b"\x35abcd",
            b"\x39abcdefgh",
            b"\x32\x01x",
            b"\x82\x01\x00",
            b"\x33\x34",
            b"\x34",
            b"\x36",
            b"\x00",
        ),
        *(b"\x80\x00\x00", b"\x8a\x80\x80\x80\x80\x00\x00", b"\xff\xff\xff\xff\x0f\x00", b"\xfa\xff\xff\xff\x0f\x00"),
        *(
            b"\x8a\x00\x00",
            b"\x8a\x00\x02\x8a\x00",
            b"\x0a\x03\x8a\x00\x00",
            b"\x0a\x03\xa0\x00\x02",
            b"\x0a\x80\x00",
            b"\x8c\x00",
        ),
    ]
)
numbers = st.tuples(st.integers(-3, 9) | int64, st.integers(-300, 300) | int64, int64)


@settings(max_examples=200, deadline=None)
@given(message, numbers)
def test_they_agree_on_what_protobuf_writes(helper: ModuleType, data: bytes, numbers: tuple[int, int, int]) -> None:
    agree(helper, data, numbers)


@settings(max_examples=300, deadline=None)
@given(message, unknown, st.data(), numbers)
def test_they_agree_on_damaged_bytes_and_never_pass_what_protobuf_refuses(
    helper: ModuleType, data: bytes, foreign: bytes, draw: st.DataObject, numbers: tuple[int, int, int]
) -> None:
    damaged = bytearray(data)
    at = draw.draw(st.integers(0, len(damaged)))
    damaged[at:at] = foreign
    for _ in range(draw.draw(st.integers(0, 3)) if damaged else 0):
        damaged[draw.draw(st.integers(0, len(damaged) - 1))] = draw.draw(st.integers(0, 255))
    del damaged[draw.draw(st.integers(0, len(damaged))) if draw.draw(st.booleans()) else len(damaged) :]
    agree(helper, bytes(damaged), numbers)
    is_read_alike(bytes(damaged))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60) | st.lists(unknown | st.binary(max_size=6), max_size=5).map(b"".join), numbers)
def test_they_agree_on_noise(helper: ModuleType, data: bytes, numbers: tuple[int, int, int]) -> None:
    agree(helper, data, numbers)
    is_read_alike(data)


def is_read_alike(data: bytes) -> None:
    """What the walk passes, protobuf reads, with the same values."""
    try:
        found = list(twin.each(data))
    except twin.Malformed:
        return
    try:
        read = Records.FromString(data).records
    except DecodeError:
        pytest.fail(f"the walk passes {data!r}, protobuf does not")
    assert len(read) == len(found)
    for spot, record in zip(found, read, strict=True):
        assert (None if spot.key is None else data[slice(*spot.key)]) == (
            record.key if record.HasField("key") else None
        )
        assert spot.has_value == record.HasField("value")
        assert spot.offset_delta == (record.offset_delta if record.HasField("offset_delta") else None)
        assert spot.timestamp_delta == record.timestamp_delta


@pytest.fixture(params=["twin", "helper"])
def walker(request: pytest.FixtureRequest) -> ModuleType:
    return twin if request.param == "twin" else request.getfixturevalue("helper")


def plain(*records: Record) -> bytes:
    return Records(records=records).SerializeToString()


class TestWalk:
    def test_it_counts_and_finds_the_range_of_times(self, walker: ModuleType) -> None:
        data = plain(Record(value=b"a", timestamp_delta=5), Record(timestamp_delta=-7), Record())
        assert walker.walk(data, 100, -FAR, FAR, False) == (3, -7, 5, 0, [])
        assert walker.walk(b"", 100, -FAR, FAR, False) == (0, 0, 0, 0, [])

    def test_it_names_who_is_faulty_and_why(self, walker: ModuleType) -> None:
        data = plain(Record(key=b"", timestamp_delta=9), Record(), Record(key=b"k", offset_delta=1), Record(key=b"k"))
        faults = [(0, twin.WRONG_TIME), (1, twin.NO_KEY), (2, twin.WRONG_OFFSET)]
        assert walker.walk(data, 100, 0, 8, True) == (4, 0, 9, 3, faults)

    def test_the_bounds_are_inclusive(self, walker: ModuleType) -> None:
        data = plain(Record(timestamp_delta=-3), Record(timestamp_delta=4))
        assert walker.walk(data, 100, -3, 4, False)[3] == 0
        assert walker.walk(data, 100, -2, 3, False)[3] == 2

    def test_at_most_a_hundred_are_named(self, walker: ModuleType) -> None:
        _, _, _, faulty, named = walker.walk(b"\x0a\x00" * 300, 1000, 0, 0, True)
        assert (faulty, len(named)) == (300, twin.NAMED_MAX)

    def test_it_stops_at_one_more_than_it_may_count(self, walker: ModuleType) -> None:
        data = b"\x0a\x00" * 10 + b"\xff"
        assert walker.walk(data, 9, -FAR, FAR, False)[0] == 10
        with pytest.raises(twin.Malformed):
            walker.walk(data, 10, -FAR, FAR, False)

    @pytest.mark.parametrize(
        "body",
        [
            pytest.param(b"\x08\x01", id="a key that is a number"),
            pytest.param(b"\x22\x00", id="a timestamp delta that is bytes"),
            pytest.param(b"\x0b\x0c", id="a group"),
            pytest.param(b"\x1a\x03\x0a\x01\xff", id="a header's name that is not UTF-8"),
            pytest.param(b"\x1a\x05\x0a\x03\xed\xa0\x80", id="a surrogate"),
            pytest.param(b"\x20" + b"\xff" * 9 + b"\x02", id="a varint of 65 bits"),
            pytest.param(b"\x28" + b"\xff" * 9 + b"\x01", id="a negative offset delta"),
            pytest.param(b"\x28\x80\x80\x80\x80\x10", id="an offset delta that loses its upper bits"),
            pytest.param(b"\x0a\x05abc", id="a key longer than its record"),
            pytest.param(b"\x00", id="no field"),
        ],
    )
    def test_what_some_reader_would_refuse_or_misread_is_malformed(self, walker: ModuleType, body: bytes) -> None:
        data = b"\x0a\x00\x0a" + bytes([len(body)]) + body + b"\x0a\x00\x0a\x00"
        for call, args in ((walker.walk, (9, -FAR, FAR, False)), (walker.find, (9, 0)), (walker.cut, (0, 0, 99))):
            with pytest.raises(twin.Malformed, match="record 1, at byte 2 "):
                call(data, *args)

    def test_fields_of_later_versions_pass(self, walker: ModuleType) -> None:
        data = b"\x12\x02ab\x0a\x0c\x32\x01x\x39" + b"\0" * 8 + b"\x38\x01"
        assert walker.walk(data, 9, -FAR, FAR, False)[0] == 1


def test_find_looks_for_both(walker: ModuleType) -> None:
    data = plain(Record(timestamp_delta=9), Record(timestamp_delta=5, offset_delta=4), Record(timestamp_delta=9))
    assert walker.find(data, 0, 9) == (0, 0, 0, 9)
    assert walker.find(data, 1, 5)[1:] == (1, 4, 5)
    assert walker.find(data, 1, 9)[1:] == (2, 2, 9)
    assert walker.find(data, 5, 0) is None


def test_cut_takes_what_fits_but_at_least_one_and_one_kind(walker: ModuleType) -> None:
    data = plain(Record(value=b"x" * 10), Record(value=b"y" * 10, timestamp_delta=3), Record(offset_delta=7))
    assert walker.cut(data, 0, 0, 1) == (14, 1, 0, 0, False, True)
    assert walker.cut(data, 0, 0, 30) == (30, 2, 1, 3, False, True)
    assert walker.cut(data, 0, 0, 99) == (30, 2, 1, 3, False, True)
    assert walker.cut(data, 30, 2, 99) == (34, 1, 7, 0, True, False)
    assert walker.cut(data, 34, 3, 99) == (34, 0, 0, 0, False, False)


def test_a_helper_of_other_sources_is_not_used() -> None:
    assert f"#define VERSION {twin.VERSION}\n" in SOURCE.read_text()
    assert f"#define NAMED_MAX {twin.NAMED_MAX}\n" in SOURCE.read_text()
    assert chosen.walk is (twin.walk if not chosen.HELPED else sys.modules["ottla.protocol._walk"].walk)
