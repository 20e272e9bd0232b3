"""What a consumer makes of stored bytes, good and bad."""

import gzip

import pytest

from ottla.client import codecs
from ottla.client.decode import BatchReader
from ottla.client.errors import ConfigError, CorruptRecords, UnsupportedCodec
from ottla.protocol.batch import ATTR_LOG_APPEND_TIME, PAYLOAD_KAFKA
from tests.ottla.client.batches import TOPIC_ID, control, stored

READER = BatchReader("t", TOPIC_ID, 0)


def read(batch: bytes, from_offset: int = 0, reader: BatchReader = READER) -> list[tuple[int, bytes | None]]:
    return [(r.offset, r.value) for r in reader.records(batch, reader.header(batch), from_offset)]


def test_offsets_come_from_the_place_or_from_the_record() -> None:
    assert read(stored([b"a", b"b"], 7)) == [(7, b"a"), (8, b"b")]
    assert read(stored([b"a", b"b"], 7, deltas=[1, 5])) == [(8, b"a"), (12, b"b")]


def test_records_before_the_position_are_skipped() -> None:
    assert read(stored([b"a", b"b", b"c"], 7), from_offset=8) == [(8, b"b"), (9, b"c")]


def test_times_are_the_records_or_the_logs() -> None:
    batch = stored([b"a", b"b"])
    assert [r.timestamp for r in READER.records(batch, READER.header(batch), 0)] == [1000, 1001]
    batch = stored([b"a", b"b"], attributes=ATTR_LOG_APPEND_TIME)
    assert [r.timestamp for r in READER.records(batch, READER.header(batch), 0)] == [1000, 1000]


@pytest.mark.parametrize("codec", [1, 2, 3, 4])
def test_every_codec(codec: int) -> None:
    assert read(stored([b"a" * 1000, b"b"], codec=codec)) == [(0, b"a" * 1000), (1, b"b")]


def test_markers_are_no_records() -> None:
    assert read(control(3)) == []


def test_every_flipped_bit_is_seen() -> None:
    good = stored([b"value one", b"value two"], 7)
    for position in range(len(good)):
        for bit in range(8):
            bad = bytearray(good)
            bad[position] ^= 1 << bit
            with pytest.raises((CorruptRecords, UnsupportedCodec), match="Next:"):
                read(bytes(bad))


def test_a_batch_of_another_partition_is_refused() -> None:
    with pytest.raises(CorruptRecords, match="header checksum"):
        read(stored([b"a"], partition=1))
    with pytest.raises(CorruptRecords):
        read(stored([b"a"]), reader=BatchReader("t", b"j" * 16, 0))


def test_a_torn_batch_is_refused() -> None:
    good = stored([b"a" * 100])
    for length in (0, 1, 50, len(good) - 1):
        with pytest.raises(CorruptRecords):
            read(good[:length])


def test_a_payload_of_a_later_version_is_an_error_not_a_gap() -> None:
    with pytest.raises(UnsupportedCodec, match="update the client"):
        read(stored([b"a"], payload_field=PAYLOAD_KAFKA + 1, attributes=2 << 16))


def test_codecs_refuse_damage_and_bombs() -> None:
    for codec in (1, 2, 3, 4):
        with pytest.raises(CorruptRecords):
            codecs.decompress(codec, b"this is no such thing" * 5)
        bomb = codecs.compress(codec, b"\0" * (codecs.DECOMPRESSED_MAX_BYTES + 1))
        with pytest.raises(CorruptRecords, match="more than"):
            codecs.decompress(codec, bomb)
        whole = codecs.compress(codec, b"words " * 5000)
        assert codecs.decompress(codec, whole) == b"words " * 5000
        with pytest.raises(CorruptRecords):
            codecs.decompress(codec, whole[: len(whole) // 2])
    with pytest.raises(UnsupportedCodec):
        codecs.decompress(7, b"")
    with pytest.raises(ConfigError):
        codecs.codec_named("zip")
    assert gzip.decompress(codecs.compress(1, b"x")) == b"x"
