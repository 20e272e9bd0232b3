"""The helper that makes records in C: it has what Python has, or leaves the payload to it."""

from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from ottla.client import decode as chosen
from ottla.client.decode import BatchReader
from ottla.client.records import ConsumerRecord
from ottla.v1.record_pb2 import Header, Record, Records
from tests.helpers_in_c import compiled
from tests.ottla.client.batches import TOPIC_ID, stored

SOURCE = Path(chosen.__file__).with_name("_decode.c")
FAR = (1 << 63) - 1


@pytest.fixture(scope="module")
def helper(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """The helper from the sources of this tree."""
    module = compiled(SOURCE, "ottla.client._decode", tmp_path_factory.mktemp("decode"))
    assert module.VERSION == chosen._VERSION
    return module


int64 = st.integers(-(1 << 63), FAR)
some_bytes = st.none() | st.binary(max_size=200)
record = st.builds(
    Record,
    key=some_bytes,
    value=some_bytes,
    headers=st.lists(st.builds(Header, key=st.text(max_size=9), value=some_bytes), max_size=3),
    timestamp_delta=st.just(0) | int64 | st.integers(-300, 300),
    offset_delta=st.none() | st.integers(-1, 4) | st.integers(0, (1 << 31) - 1),
)
message = st.lists(record, max_size=5).map(lambda found: Records(records=found).SerializeToString())


def in_python(plain: bytes, offset: int, time: int, append_time: bool, from_offset: int) -> list[ConsumerRecord] | None:
    """What the class does without a helper; None for what is no message."""
    try:
        records = Records.FromString(plain).records
    except DecodeError:
        return None
    header: Any = stored_header(offset, time, append_time)
    return list(BatchReader("t", TOPIC_ID, 3)._each(header, records, from_offset))


def stored_header(offset: int, time: int, append_time: bool) -> Any:
    reader = BatchReader("t", TOPIC_ID, 0)
    header = reader.header(stored([b"x"]))
    return header._replace(base_offset=offset, base_timestamp=time, attributes=8 if append_time else 0, leader_epoch=7)


def in_c(
    helper: ModuleType, plain: bytes, count: int, offset: int, time: int, append_time: bool, from_offset: int, most: int
) -> list[ConsumerRecord] | None:
    found: list[ConsumerRecord] = []
    at = place = 0
    while at < len(plain) or not at:
        part = helper.decode(
            ConsumerRecord, plain, at, place, most, count, "t", 3, offset, time, append_time, 7, from_offset
        )
        if part is None:
            assert at == 0, "the whole is looked at first"
            return None
        records, at, place = part
        assert len(records) <= most
        found += records
    return found


@given(message, st.integers(0, 10**6), st.integers(-1, 10**13), st.booleans(), st.integers(0, 6), st.integers(1, 4))
def test_records_are_those_of_python(
    helper: ModuleType, plain: bytes, offset: int, time: int, append_time: bool, skipped: int, most: int
) -> None:
    parsed = Records.FromString(plain).records
    expected = in_python(plain, offset, time, append_time, offset + skipped)
    found = in_c(helper, plain, len(parsed), offset, time, append_time, offset + skipped, most)
    times = [time + each.timestamp_delta for each in parsed]
    if parsed and all(each.offset_delta >= 0 for each in parsed) and all(~FAR <= each <= FAR for each in times):
        assert found == expected
    else:
        assert found is None
    if found:
        assert all(type(each) is ConsumerRecord for each in found)
        assert found[0].topic_partition == ("t", 3)
    for wrong in (len(parsed) - 1, len(parsed) + 1):
        assert in_c(helper, plain, wrong, offset, time, append_time, offset, most) is None


@given(message, st.integers(0, 2**32))
def test_of_bytes_that_are_changed_it_never_says_more_than_python(helper: ModuleType, plain: bytes, seed: int) -> None:
    rng = Random(seed)
    bad = bytearray(plain)
    for _ in range(rng.randrange(1, 4)):
        if bad:
            at = rng.randrange(len(bad))
            match rng.randrange(3):
                case 0:
                    bad[at] = rng.randrange(256)
                case 1:
                    del bad[at : at + rng.randrange(1, 9)]
                case 2:
                    bad[at:at] = rng.randbytes(rng.randrange(1, 5))
    expected = in_python(bytes(bad), 5, 9, False, 0)
    count = 0 if expected is None else len(expected)
    found = in_c(helper, bytes(bad), count, 5, 9, False, 0, 2)
    assert found is None or found == expected


@pytest.mark.parametrize(
    "plain",
    [
        b"\x0a\x02\x12\x05",  # a value beyond its record
        b"\x0a\x03\x12\xff\xff",  # a length without an end
        b"\x0a\x0c\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f",  # and one of more than 64 bits
        b"\x0a\x04\x12\x00\x12\x00",  # a field twice
        b"\x0a\x02\x30\x01",  # an unknown one
        b"\x0a\x06\x1a\x04\x0a\x02\xed\xa0",  # a name that is no text
        b"\x0a\x07\x1a\x00\x20\x02\x1a\x01\x0a",  # headers apart
        b"\x8a\x00\x00",  # a tag in two bytes
        b"\x0a",
        b"",
    ],
    ids=bytes.hex,
)
def test_what_no_encoder_writes_is_left_to_python(helper: ModuleType, plain: bytes) -> None:
    assert in_c(helper, plain, 1, 0, 0, False, 0, 9) is None


def test_it_makes_tuples_of_records_and_nothing_else(helper: ModuleType) -> None:
    for wrong in (list, object, type("Fat", (tuple,), {})):
        with pytest.raises(ValueError, match="no such type"):
            helper.decode(wrong, b"", 0, 0, 1, 0, "t", 0, 0, 0, 0, 0, 0)
    with pytest.raises(ValueError, match="place"):
        helper.decode(ConsumerRecord, b"", 1, 0, 1, 0, "t", 0, 0, 0, 0, 0, 0)


@pytest.mark.parametrize("helped", [True, False])
def test_large_batches_come_in_parts_by_either_way(
    helper: ModuleType, monkeypatch: pytest.MonkeyPatch, helped: bool
) -> None:
    monkeypatch.setattr(chosen, "decode", helper.decode if helped else None)
    batch = stored([b"%d" % n for n in range(1300)], 7)
    reader = BatchReader("t", TOPIC_ID, 0)
    found = list(reader.records(batch, reader.header(batch), 20))
    assert [(each.offset, each.value) for each in found] == [(n + 7, b"%d" % n) for n in range(13, 1300)]
