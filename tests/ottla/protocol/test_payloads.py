"""Kinds of payloads: what is checked of each, bit by bit, and what is opaque."""

import struct

import crc32c
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.protocol import payloads
from ottla.protocol.batch import (
    ATTR_CONTROL,
    ATTR_DELETE_HORIZON,
    ATTR_LOG_APPEND_TIME,
    PAYLOAD_KAFKA,
    BatchHeader,
    CorruptBatch,
    crc_seed,
    encode_batch,
    read_batch,
)
from ottla.protocol.payloads import ATTR_KAFKA, verify_batch, verify_slice
from ottla.v1.record_pb2 import Record, Segment
from tests.ottla.protocol.kafka_batches import kept, kept_batch, sent

SEED = crc_seed(bytes.fromhex("0123456789abcdef0123456789abcdef"), 7)
HEADER = BatchHeader(
    40, 3, 0, 1, base_timestamp=1_700_000_000_000, max_timestamp=1_700_000_000_005,
    producer_id=42, producer_epoch=3, base_sequence=9,
)  # fmt: skip
RECORDS = [Record(key=b"k", value=b"hello"), Record(key=b"", timestamp_delta=5)]


def verified(data: bytes) -> None:
    """Both ways, which say the same."""
    found: list[bool] = []
    try:
        verify_slice(data, SEED)
        found.append(True)
    except CorruptBatch:
        found.append(False)
    try:
        batch = read_batch(data, 0)
        if batch is None or batch.end != len(data):
            raise CorruptBatch("not one batch")
        verify_batch(data, batch, SEED)
        found.append(True)
    except CorruptBatch:
        found.append(False)
    assert found[0] == found[1]
    if not found[0]:
        raise CorruptBatch


def test_the_pinned_bytes_of_a_kafka_batch() -> None:
    """Kafka's own header, and one checksum for both worlds, by another implementation (docs/storage-format.md)."""
    data = kept_batch(RECORDS, HEADER, SEED)
    assert data.hex() == (
        "0ab301" "0d5f000100" "15b3000000" "192800000000000000" "2503000000" "2d00000100" "3502000000" "3d01000000"
        "410068e5cf8b010000" "490568e5cf8b010000" "510000000000000000" "592a00000000000000" "6503000000" "6d09000000"
        "75" + data[89:93].hex() + "7d" + data[94:98].hex() + "9a0151"
        "0000000000000028" "00000045" "00000003" "02" + data[118:122].hex() + "0000" "00000001"
        "0000018bcfe56800" "0000018bcfe56805" "000000000000002a" "0003" "00000009" "00000002"
        "18000000026b0a68656c6c6f00" "0c000a02000100"
    )  # fmt: skip
    payload = data[101:]
    assert struct.unpack(">I", payload[17:21])[0] == crc32c.crc32c(payload[21:]) == struct.unpack("<I", data[89:93])[0]
    verified(data)
    stub = Segment.FromString(data).batches[0]
    assert (stub.kafka_batch, stub.attributes, stub.record_count) == (payload, ATTR_KAFKA, 2)


def test_every_flipped_bit_is_seen() -> None:
    data = kept_batch(RECORDS, HEADER, SEED)
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CorruptBatch):
            verified(bytes(damaged))


@pytest.mark.parametrize(
    "changed",
    [
        {"base_offset": 41}, {"leader_epoch": 4}, {"record_count": 1}, {"last_offset_delta": 2}, {"base_timestamp": 1},
        {"max_timestamp": 1}, {"producer_id": 0}, {"producer_epoch": 1}, {"base_sequence": 1},
        {"attributes": ATTR_KAFKA | 1}, {"attributes": ATTR_KAFKA | ATTR_LOG_APPEND_TIME}, {"producer_epoch": 1 << 20},
    ],
)  # fmt: skip
def test_a_kafka_header_that_says_something_else_is_corrupt(changed: dict[str, int]) -> None:
    header, payload = kept(RECORDS, HEADER)
    data = b"".join(encode_batch(header._replace(**changed), SEED, payload, PAYLOAD_KAFKA))
    with pytest.raises(CorruptBatch):
        verified(data)


def test_what_only_ottla_says_is_not_in_kafkas_header() -> None:
    header, payload = kept(RECORDS, HEADER)
    header = header._replace(attributes=header.attributes | ATTR_DELETE_HORIZON, delete_horizon_ms=5)
    verified(b"".join(encode_batch(header, SEED, payload, PAYLOAD_KAFKA)))


def test_a_batch_too_short_for_its_header_is_corrupt() -> None:
    for size in (0, 20, 21, 60):
        payload = bytes(size)
        header = HEADER._replace(attributes=ATTR_KAFKA, payload_crc=crc32c.crc32c(payload[21:]))
        with pytest.raises(CorruptBatch):
            verified(b"".join(encode_batch(header, SEED, payload, PAYLOAD_KAFKA)))


@pytest.mark.parametrize("kind", [2, 3, 0x8001, 0xFFFF])
def test_an_unknown_kind_is_opaque(kind: int) -> None:
    header = HEADER._replace(attributes=kind << 16 | ATTR_CONTROL | 3, record_count=2, payload_crc=1)
    data = b"".join(encode_batch(header, SEED, b"who knows", 23))
    verified(data)
    for bit in range(8 * 96):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CorruptBatch):
            verified(bytes(damaged))
    for known in (16, 17, 18, 19):
        with pytest.raises(CorruptBatch):
            verified(b"".join(encode_batch(header, SEED, b"who knows", known)))


@pytest.mark.parametrize("attributes", [0, 2, ATTR_CONTROL, ATTR_KAFKA | 2])
def test_a_kind_has_one_field(attributes: int) -> None:
    right = payloads.payload_field_of(attributes)
    for field in range(16, 22):
        header, payload = HEADER._replace(attributes=attributes), b"x" * 80
        if attributes & ATTR_KAFKA:
            header, payload = kept([], header, b"x")
        else:
            header = header._replace(payload_crc=crc32c.crc32c(payload))
        data = b"".join(encode_batch(header, SEED, payload, field))
        if field == right:
            verified(data)
        else:
            with pytest.raises(CorruptBatch):
                verified(data)


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 1 << 40), st.integers(0, 1 << 30), st.booleans(), st.booleans())
def test_what_the_leader_sets_of_a_clients_batch(
    packed: bytes, offset: int, epoch: int, by_log: bool, retimed: bool
) -> None:
    """The client's bytes and checksum stay outside of the leader's fields; where others change, it is made anew."""
    header, payload = sent(RECORDS, HEADER, packed)
    wanted = header
    if by_log:
        wanted = wanted._replace(attributes=wanted.attributes | ATTR_LOG_APPEND_TIME)
    if by_log or retimed:
        wanted = wanted._replace(base_timestamp=77, max_timestamp=78)
    head, rest, crc = payloads.sealed(wanted, payload, offset, epoch)
    made = head + bytes(rest)
    assert made[61:] == payload[61:]
    assert crc == crc32c.crc32c(made[21:])
    if not (by_log or retimed):
        assert (made[8:12], made[16:]) == (payload[8:12], payload[16:])
    assert struct.unpack_from(">q", made)[0] == offset
    final = wanted._replace(base_offset=offset, leader_epoch=epoch, payload_crc=crc)
    verified(b"".join(encode_batch(final, SEED, made, PAYLOAD_KAFKA)))
    broken = bytearray(payload)
    broken[-1] ^= 1
    with pytest.raises(CorruptBatch):
        payloads.sealed(wanted, broken, offset, epoch)
