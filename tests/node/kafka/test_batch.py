"""Kafka's batches: what a producer may send, and records converted to Ottla's and back, beside kafka-python's."""

import struct
from typing import Any

import crc32c
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from kafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder

from node.kafka import batch
from node.kafka.batch import BatchRefused, KafkaBatch, admit, batches_in, build, records_of, stamp
from ottla.protocol import kafka_records
from ottla.protocol.kafka_records import InvalidRecords, to_kafka, to_ottla
from ottla.v1.record_pb2 import Header, Record, Records

HEAD = KafkaBatch(0, 0, -1, 2, 0, 0, 2, 1000, 1002, -1, -1, -1, 3)
MOST = 1 << 20
FAR = 1 << 63
Plain = tuple[int, bytes | None, bytes | None, list[tuple[str, bytes | None]]]


def kafkas(records: list[Plain], codec: int = 0) -> bytes:
    """A batch as kafka-python makes it; the first of a record is its time."""
    builder = DefaultRecordBatchBuilder(
        magic=2, compression_type=codec, is_transactional=False, producer_id=-1, producer_epoch=-1, base_sequence=-1,
        batch_size=1 << 30,
    )  # fmt: skip
    for offset, (time, key, value, headers) in enumerate(records):
        builder.append(offset, time, key, value, headers)
    return bytes(builder.build())


def walk(data: bytes | memoryview, count: int, *, keys: bool = False) -> tuple[int, list[tuple[int, int]]]:
    """Exactly so many records: (the largest time delta, those at fault)."""
    found, _, latest, faulty, faults = kafka_records.walk(data, MOST, -FAR, FAR - 1, keys)
    assert len(faults) == min(faulty, 100)
    if found != count:
        raise InvalidRecords(f"{found} records, not {count}")
    return latest, faults


def sealed(head: KafkaBatch, records: bytes) -> bytes:
    """A batch with every field as `head` says, and a right checksum, by another implementation."""
    data = bytearray(batch.HEADER.pack(*head) + records)
    struct.pack_into(">I", data, 17, crc32c.crc32c(bytes(data[21:])))
    return bytes(data)


NAMES = st.text(st.characters(codec="utf-8"), max_size=70)
RECORDS = st.lists(
    st.tuples(
        st.integers(0, 1 << 42),
        st.none() | st.binary(max_size=200),
        st.none() | st.binary(max_size=300),
        st.lists(st.tuples(NAMES, st.none() | st.binary(max_size=70)), max_size=3),
    ),
    min_size=1,
    max_size=6,
)  # fmt: skip


def expected(records: list[Plain], base: int) -> Records:
    return Records(
        records=[
            Record(
                key=key, value=value, timestamp_delta=time - base,
                headers=[Header(key=name, value=content) for name, content in headers],
            )
            for time, key, value, headers in records
        ]
    )  # fmt: skip


@settings(deadline=None)
@given(RECORDS)
@example([(5, b"k" * 9000, b"v" * 20_000, [("n" * 200, b"c" * 200)])])
@example([(5, b"", b"", [("", b""), ("", None)])])
@example([(2, None, None, [])] * 200)
def test_records_of_kafka_pythons_become_ottlas_and_come_back(records: list[Plain]) -> None:
    data = kafkas(records)
    head = admit(data, MOST, 9)
    latest, faults = walk(records_of(data), head.record_count, keys=True)
    assert head.base_timestamp + latest == max(time for time, *_ in records) == head.max_timestamp
    assert faults == [(index, 1) for index, (_, key, _, _) in enumerate(records) if key is None][:100]
    converted = to_ottla(records_of(data), head.record_count)
    assert converted == expected(records, head.base_timestamp).SerializeToString()
    assert to_kafka(converted) == (records_of(data), len(records))
    assert build(head, bytes(records_of(data))) == data
    read = list(DefaultRecordBatch(build(head, to_kafka(converted)[0])))
    assert [(each.timestamp, each.key, each.value, each.headers) for each in read] == records


def test_offset_deltas_with_gaps_are_kept_both_ways() -> None:
    """As compaction leaves them."""
    payload = Records(
        records=[Record(value=b"a", offset_delta=3), Record(value=b"b", offset_delta=1000)]
    ).SerializeToString()
    records, count = to_kafka(payload)
    assert count == 2
    assert to_ottla(records, 2) == payload
    assert walk(records, 2) == (0, [(0, 2), (1, 2)])
    assert [spot.offset_delta for spot in kafka_records.each(records)] == [3, 1000]
    assert kafka_records.find(records, 4, 0) == (8, 1, 1000, 0)
    assert kafka_records.find(records, 1001, 0) is None


def test_a_header_name_that_is_not_utf8_is_made_readable() -> None:
    record = b"\0\0\0\1\1\x02" + b"\x04\xff\xfe" + b"\x02x"
    converted = to_ottla(bytes((len(record) << 1,)) + record, 1)
    [header] = Records.FromString(converted).records[0].headers
    assert (header.key, header.value) == ("\ufffd\ufffd", b"x")


@given(st.binary(max_size=60), st.integers(1, 5))
def test_arbitrary_bytes_are_refused_or_are_records(data: bytes, count: int) -> None:
    try:
        _, faults = walk(data, count)
    except InvalidRecords:
        return
    if faults:  # an offset delta that is not the record's place
        return
    assert len(Records.FromString(to_ottla(data, count)).records) == count


@given(RECORDS, st.data())
def test_damage_is_refused_or_leaves_records(records: list[Plain], draw: Any) -> None:
    data = bytearray(records_of(kafkas(records[:3])))
    for _ in range(draw.draw(st.integers(1, 3))):
        data[draw.draw(st.integers(0, len(data) - 1))] = draw.draw(st.integers(0, 255))
    try:
        _, faults = walk(bytes(data), len(records[:3]))
    except InvalidRecords:
        return
    if faults:
        return
    assert len(Records.FromString(to_ottla(bytes(data), len(records[:3]))).records) == len(records[:3])


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "0 records, not 1"),
        (b"\x0d", "cannot hold"),  # length -7
        (b"\x7e" + bytes(20), "cannot hold"),
        (b"\x0c\0\0\0\1\1\0" + b"x", "cannot hold"),
        (b"\x0c\0\0\0\3\1\0", "key of a negative length"),
        (b"\x0c\0\0\0\1\5\0", "value of a negative length"),
        (b"\x0c\0\0\0\1\1\1", "number of headers"),
        (b"\x0c\0\0\0\1\1\x7e", "number of headers"),
        (b"\x10\0\0\0\1\1\2\1\1", "header of a negative length"),
        (b"\x0a\0\0\0\1\1\0", "not as long"),
        (b"\x1c\0" + b"\xff" * 11 + bytes(8), "more than ten bytes"),
        (b"\x1c\0" + b"\xff" * 9 + b"\x03" + bytes(8), "more than 64 bits"),
    ],
)
def test_records_that_are_none(data: bytes, what: str) -> None:
    with pytest.raises(InvalidRecords, match=what):
        walk(data, 1)


GOOD = b"\x0c\0\0\0\1\1\0\x0c\0\0\2\1\1\0\x0c\0\0\4\1\1\0"


def refusal(data: bytes, most: int = MOST, version: int = 9) -> tuple[int, str]:
    with pytest.raises(BatchRefused) as refused:
        admit(data, most, version)
    return refused.value.code, str(refused.value)


def head_of(**changed: int) -> KafkaBatch:
    return HEAD._replace(length=61 - 12 + len(GOOD), **changed)


def test_a_good_batch_is_taken() -> None:
    found = admit(sealed(head_of(), GOOD), 82, 3)
    assert (found.record_count, found.size_bytes, found.codec) == (3, 82, 0)
    assert walk(GOOD, 3) == (0, [])


@pytest.mark.parametrize(
    ("changed", "version", "code", "what"),
    [
        ({"magic": 1}, 9, 87, "magic 1; only 2"),
        ({"magic": 0}, 9, 87, "magic 0"),
        ({"attributes": 0x20}, 9, 87, "control batch"),
        ({"attributes": 0x10}, 9, 87, "transaction"),
        ({"attributes": 0x08}, 9, 87, "the broker set its times"),
        ({"attributes": 0x40}, 9, 87, "delete horizon"),
        ({"attributes": 0x80}, 9, 87, "unknown attributes 0x80"),
        ({"attributes": 5}, 9, 76, "no codec 5"),
        ({"attributes": 4}, 6, 76, "zstd needs version 7"),
        ({"record_count": 4}, 9, 87, "4 records and a last offset delta of 2"),
        ({"record_count": 0, "last_offset_delta": -1}, 9, 87, "0 records"),
        ({"record_count": -1, "last_offset_delta": -2}, 9, 87, "-1 records"),
        ({"producer_id": 7, "producer_epoch": -1, "base_sequence": 0}, 9, 87, "producer 7 has epoch -1"),
        ({"producer_id": 7, "producer_epoch": 0, "base_sequence": -1}, 9, 87, "sequence -1"),
    ],
)
def test_what_a_producer_may_not_send(changed: dict[str, int], version: int, code: int, what: str) -> None:
    found, message = refusal(sealed(head_of(**changed), GOOD), version=version)
    assert found == code
    assert what in message


def test_sizes_and_checksums() -> None:
    good = sealed(head_of(), GOOD)
    assert refusal(good, 81) == (10, "the batch has 82 bytes, at most 81 are taken (max.message.bytes)")
    assert refusal(good[:60])[0] == 2
    assert refusal(b"")[0] == 2
    assert refusal(good[:-1])[0] == 87
    assert refusal(good + good)[0] == 87
    for at in (17, 21, 30, 61, 81):
        damaged = bytearray(good)
        damaged[at] ^= 1
        assert refusal(bytes(damaged))[0] == 2


def test_the_leaders_fields_are_outside_of_the_checksum() -> None:
    data = bytearray(sealed(head_of(), GOOD))
    stamp(data, 12345, 7)
    found = admit(data, MOST, 9)
    assert (found.base_offset, found.leader_epoch) == (12345, 7)


def test_a_null_that_is_written_long_is_null_to_the_walk_and_to_the_conversion() -> None:
    record = b"\0\0\0" + b"\x81\0" + b"\x81\0" + b"\0"
    data = bytes((len(record) << 1,)) + record
    assert walk(data, 1, keys=True) == (0, [(0, 1)])
    assert to_ottla(data, 1) == Records(records=[Record()]).SerializeToString()


def test_the_batches_of_a_slice() -> None:
    good = sealed(head_of(), GOOD)
    assert list(batches_in(good * 3 + good[:70])) == [good] * 3
    assert list(batches_in(good[:60])) == []
    with pytest.raises(ValueError, match="a batch of 3 bytes at 82"):
        list(batches_in(good + struct.pack(">qi", 0, 3) + bytes(60)))
