"""What may enter a log (protocol.md section 1, invariants.md 3 produce)."""

import cramjam
import pytest
from crc32c import crc32c
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from node.broker import codecs
from node.broker.door import DoorRules, InvalidRecords, admit
from ottla.internal.v1.view_pb2 import RecordBatchView
from ottla.protocol.batch import ATTR_LOG_APPEND_TIME, PAYLOAD_COMPRESSED, PAYLOAD_RECORDS
from ottla.protocol.errors import ApiError
from ottla.v1 import error_pb2 as pb
from ottla.v1.record_pb2 import Codec, Record, RecordBatch, Records

NOW_MS = 1_700_000_000_000
PAYLOAD = Records(records=[Record(key=b"k", value=b"one"), Record(value=b"two")]).SerializeToString()
CODECS = [Codec.CODEC_GZIP, Codec.CODEC_SNAPPY, Codec.CODEC_LZ4, Codec.CODEC_ZSTD]


def view(**fields: object) -> RecordBatchView:
    return RecordBatchView(**({"records": PAYLOAD} | fields))  # type: ignore[arg-type]


def refusal(batch: RecordBatchView, **rules: object) -> ApiError:
    with pytest.raises(ApiError) as refused:
        admit(batch, DoorRules(**rules), NOW_MS)  # type: ignore[arg-type]
    return refused.value


def test_a_stub_that_sends_only_records_is_a_correct_producer() -> None:
    typed = RecordBatch(records=Records(records=[Record(key=b"k", value=b"one"), Record(value=b"two")]))
    admitted = admit(RecordBatchView.FromString(typed.SerializeToString()), DoorRules(), NOW_MS)
    header = admitted.header
    assert (header.record_count, header.last_offset_delta) == (2, 1)
    assert (header.base_timestamp, header.max_timestamp) == (NOW_MS, NOW_MS)
    assert admitted.payload == PAYLOAD
    assert admitted.payload_field == PAYLOAD_RECORDS


def test_what_is_given_and_true_is_kept() -> None:
    batch = view(
        record_count=2,
        last_offset_delta=1,
        payload_crc=crc32c(PAYLOAD),
        base_timestamp=NOW_MS - 5,
        max_timestamp=NOW_MS - 1,
        producer_id=4,
        producer_epoch=2,
        base_sequence=9,
    )
    header = admit(batch, DoorRules(), NOW_MS).header
    assert (header.base_timestamp, header.max_timestamp) == (NOW_MS - 5, NOW_MS - 1)
    assert (header.producer_id, header.producer_epoch, header.base_sequence) == (4, 2, 9)


def test_what_the_broker_owns_is_not_taken_from_a_producer() -> None:
    batch = view(base_offset=99, leader_epoch=7, size_bytes=1, header_crc=5, attributes=ATTR_LOG_APPEND_TIME)
    header = admit(batch, DoorRules(), NOW_MS).header
    assert (header.base_offset, header.leader_epoch, header.attributes) == (0, 0, 0)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"record_count": 3}, pb.ERROR_CODE_INVALID_RECORD),
        ({"last_offset_delta": 2}, pb.ERROR_CODE_INVALID_RECORD),
        ({"records": b""}, pb.ERROR_CODE_INVALID_RECORD),
        ({"records": b"\xff\xff"}, pb.ERROR_CODE_INVALID_RECORD),
        ({"records": None}, pb.ERROR_CODE_INVALID_RECORD),
        ({"attributes": 0x10}, pb.ERROR_CODE_INVALID_RECORD),
        ({"attributes": 0x20}, pb.ERROR_CODE_INVALID_RECORD),
        ({"attributes": 0x40}, pb.ERROR_CODE_INVALID_RECORD),
        ({"attributes": 1 << 31}, pb.ERROR_CODE_INVALID_RECORD),
        ({"attributes": Codec.CODEC_GZIP}, pb.ERROR_CODE_INVALID_RECORD),
        ({"records": None, "control": b"\x08\x01"}, pb.ERROR_CODE_INVALID_RECORD),
        ({"records": None, "kafka_batch": b"x"}, pb.ERROR_CODE_INVALID_RECORD),
        ({"records": None, "compressed_records": b"x"}, pb.ERROR_CODE_INVALID_RECORD),
        ({"producer_id": -1}, pb.ERROR_CODE_INVALID_RECORD),
        ({"producer_id": 1, "base_sequence": -1}, pb.ERROR_CODE_INVALID_RECORD),
        ({"producer_id": 1, "producer_epoch": -1}, pb.ERROR_CODE_INVALID_RECORD),
        ({"base_timestamp": -1, "max_timestamp": 5}, pb.ERROR_CODE_INVALID_TIMESTAMP),
        ({"base_timestamp": 10, "max_timestamp": 5}, pb.ERROR_CODE_INVALID_TIMESTAMP),
        ({"base_timestamp": NOW_MS, "max_timestamp": NOW_MS + 3_600_001}, pb.ERROR_CODE_INVALID_TIMESTAMP),
        ({"base_timestamp": 2**63 - 1, "max_timestamp": 2**63 - 1}, pb.ERROR_CODE_INVALID_TIMESTAMP),
        ({"records": None, "compressed_records": b"x", "attributes": 7}, pb.ERROR_CODE_UNSUPPORTED_COMPRESSION_TYPE),
    ],
)
def test_a_wrong_batch_is_refused_with_its_code(fields: dict[str, object], code: int) -> None:
    assert refusal(view(**fields)).code == code


def test_the_bounds_of_timestamps_are_inclusive() -> None:
    admit(view(base_timestamp=NOW_MS, max_timestamp=NOW_MS + 3_600_000), DoorRules(), NOW_MS)
    rules = DoorRules(timestamp_before_max_ms=1000)
    admit(view(base_timestamp=NOW_MS - 1000), rules, NOW_MS)
    assert refusal(view(base_timestamp=NOW_MS - 1001), timestamp_before_max_ms=1000).code == (
        pb.ERROR_CODE_INVALID_TIMESTAMP
    )


def test_log_append_time_replaces_the_producers_times() -> None:
    batch = view(base_timestamp=1, max_timestamp=2**62)
    header = admit(batch, DoorRules(log_append_time=True), NOW_MS).header
    assert (header.base_timestamp, header.max_timestamp, header.attributes) == (NOW_MS, NOW_MS, ATTR_LOG_APPEND_TIME)


def test_a_batch_over_the_limit_is_too_large_whatever_it_holds() -> None:
    error = refusal(view(records=b"\xff" * 1000), max_message_bytes=1000)
    assert error.code == pb.ERROR_CODE_MESSAGE_TOO_LARGE
    assert "1000" in error.message


def test_a_compacted_topic_names_the_records_without_a_key() -> None:
    error = refusal(view(), keys_required=True)
    assert isinstance(error, InvalidRecords)
    assert error.record_errors == [(1, "it has no key")]


def test_an_empty_key_is_a_key() -> None:
    payload = Records(records=[Record(key=b"", value=b"v")]).SerializeToString()
    admit(view(records=payload), DoorRules(keys_required=True), NOW_MS)


class TestCompression:
    @pytest.mark.parametrize("codec", CODECS)
    def test_the_producers_bytes_are_stored_as_they_are(self, codec: int) -> None:
        packed = codecs.compress(codec, PAYLOAD)
        batch = view(records=None, compressed_records=packed, attributes=codec)
        admitted = admit(batch, DoorRules(), NOW_MS)
        assert (admitted.payload, admitted.payload_field) == (packed, PAYLOAD_COMPRESSED)
        assert (admitted.header.codec, admitted.header.record_count) == (codec, 2)

    @pytest.mark.parametrize("codec", CODECS)
    def test_damaged_bytes_are_an_invalid_record(self, codec: int) -> None:
        packed = codecs.compress(codec, PAYLOAD * 50)
        for damaged in (packed[: len(packed) // 2], b"\0" * 10, b"x"):
            error = refusal(view(records=None, compressed_records=damaged, attributes=codec))
            assert error.code == pb.ERROR_CODE_INVALID_RECORD

    @pytest.mark.parametrize("codec", CODECS)
    def test_a_bomb_is_refused_at_the_bound(self, codec: int) -> None:
        bomb = codecs.compress(codec, bytes(codecs.DECOMPRESSED_MAX_BYTES + 1))
        with pytest.raises(ApiError) as refused:
            codecs.decompress(codec, bomb)
        assert refused.value.code == pb.ERROR_CODE_MESSAGE_TOO_LARGE

    def test_a_snappy_bomb_that_lies_about_its_length_is_damage(self) -> None:
        lying = b"\xff\xff\xff\xff\x0f" + bytes(cramjam.snappy.compress_raw(b"x" * 100))[1:]
        with pytest.raises(ApiError):
            codecs.decompress(Codec.CODEC_SNAPPY, lying)

    def test_a_topic_with_its_own_codec_stores_that_one(self) -> None:
        packed = codecs.compress(Codec.CODEC_GZIP, PAYLOAD)
        batch = view(records=None, compressed_records=packed, attributes=Codec.CODEC_GZIP)
        to_zstd = admit(batch, DoorRules(compression_codec=Codec.CODEC_ZSTD), NOW_MS)
        assert to_zstd.header.codec == Codec.CODEC_ZSTD
        assert codecs.decompress(Codec.CODEC_ZSTD, to_zstd.payload) == PAYLOAD
        plain = admit(batch, DoorRules(compression_codec=Codec.CODEC_NONE), NOW_MS)
        assert (plain.payload, plain.payload_field, plain.header.codec) == (PAYLOAD, PAYLOAD_RECORDS, 0)

    def test_recompression_does_not_hide_a_wrong_checksum(self) -> None:
        error = refusal(view(payload_crc=1), compression_codec=Codec.CODEC_ZSTD)
        assert error.code == pb.ERROR_CODE_INVALID_RECORD


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes_are_admitted_whole_or_refused_with_a_code(data: bytes) -> None:
    try:
        batch = RecordBatchView.FromString(data)
    except DecodeError:
        return
    try:
        admitted = admit(batch, DoorRules(), NOW_MS)
    except ApiError:
        return
    assert len(Records.FromString(admitted.payload).records) == admitted.header.record_count > 0
