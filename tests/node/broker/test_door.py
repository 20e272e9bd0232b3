"""What may enter a log (protocol.md section 1, invariants.md 3 produce)."""

import cramjam
import pytest
from crc32c import crc32c
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from node.broker import codecs
from node.broker.door import EPOCH_MAX, DoorRules, Heavy, InvalidRecords, OnLoop, admit
from ottla.internal.v1.view_pb2 import RecordBatchView
from ottla.protocol import records
from ottla.protocol.batch import ATTR_LOG_APPEND_TIME, PAYLOAD_COMPRESSED, PAYLOAD_RECORDS, encode_batch, stored_bytes
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
    payload = Records(
        records=[Record(value=b"a", timestamp_delta=4, offset_delta=0), Record(value=b"b", offset_delta=1)]
    ).SerializeToString()
    batch = view(
        records=payload,
        record_count=2,
        last_offset_delta=1,
        payload_crc=crc32c(payload),
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
        ({"producer_id": 1, "producer_epoch": EPOCH_MAX + 1}, pb.ERROR_CODE_INVALID_RECORD),
        ({"records": b"\x0a\x02\x0b\x0c"}, pb.ERROR_CODE_INVALID_RECORD),
        ({"payload_crc": 1, "records": b"\xff\xff"}, pb.ERROR_CODE_CORRUPT_MESSAGE),
        ({"payload_crc": crc32c(b"\xff\xff"), "records": b"\xff\xff"}, pb.ERROR_CODE_INVALID_RECORD),
        ({"base_timestamp": -1, "max_timestamp": 5}, pb.ERROR_CODE_INVALID_TIMESTAMP),
        ({"base_timestamp": NOW_MS + 3_600_001}, pb.ERROR_CODE_INVALID_TIMESTAMP),
        ({"max_timestamp": NOW_MS + 3_600_001}, pb.ERROR_CODE_INVALID_TIMESTAMP),
        ({"base_timestamp": 2**63 - 1, "max_timestamp": 2**63 - 1}, pb.ERROR_CODE_INVALID_TIMESTAMP),
        ({"records": None, "compressed_records": b"x", "attributes": 7}, pb.ERROR_CODE_UNSUPPORTED_COMPRESSION_TYPE),
    ],
)
def test_a_wrong_batch_is_refused_with_its_code(fields: dict[str, object], code: int) -> None:
    assert refusal(view(**fields)).code == code


def timed(*deltas: int, **fields: object) -> RecordBatchView:
    payload = Records(records=[Record(value=b"v", timestamp_delta=delta) for delta in deltas]).SerializeToString()
    return view(records=payload, **fields)


@pytest.mark.parametrize("given", [0, NOW_MS - 900, 1, NOW_MS + 10 * 3_600_000])
def test_the_latest_time_is_that_of_the_records_whatever_the_header_says(given: int) -> None:
    header = admit(timed(0, 700, 500, base_timestamp=NOW_MS - 1000, max_timestamp=given), DoorRules(), NOW_MS).header
    assert (header.base_timestamp, header.max_timestamp) == (NOW_MS - 1000, NOW_MS - 300)


def test_times_may_lie_before_the_base() -> None:
    header = admit(timed(-700, -500, base_timestamp=NOW_MS), DoorRules(), NOW_MS).header
    assert (header.base_timestamp, header.max_timestamp) == (NOW_MS, NOW_MS - 500)


def test_a_batch_that_only_says_when_its_latest_record_was() -> None:
    header = admit(timed(3, 0, max_timestamp=NOW_MS), DoorRules(), NOW_MS).header
    assert (header.base_timestamp, header.max_timestamp) == (NOW_MS - 3, NOW_MS)


@pytest.mark.parametrize("delta", [3_600_001, -NOW_MS - 1, (1 << 63) - 1, -(1 << 63)])
def test_each_records_time_is_checked_and_named(delta: int) -> None:
    error = refusal(timed(0, delta, 5, delta, base_timestamp=NOW_MS))
    assert isinstance(error, InvalidRecords)
    assert error.code == pb.ERROR_CODE_INVALID_TIMESTAMP
    assert error.record_errors == [(1, "its timestamp is out of bounds"), (3, "its timestamp is out of bounds")]
    assert "2 of 4 records" in error.message
    assert "number 1" in error.message


def test_times_that_no_header_can_hold_are_refused_even_without_a_bound() -> None:
    rules = {"timestamp_after_max_ms": (1 << 63) - 1}
    error = refusal(timed((1 << 63) - 1, base_timestamp=1), **rules)
    assert error.code == pb.ERROR_CODE_INVALID_TIMESTAMP
    admit(timed((1 << 63) - 2, base_timestamp=1), DoorRules(timestamp_after_max_ms=(1 << 63) - 1), NOW_MS)


@pytest.mark.parametrize("deltas", [(1, 0), (0, 0), (0, 2), (5, None), (None, 0), (0, -1)])
def test_an_offset_delta_that_is_not_the_place_is_refused_and_named(deltas: tuple[int | None, int | None]) -> None:
    payload = Records(records=[Record(value=b"v", offset_delta=delta) for delta in deltas]).SerializeToString()
    error = refusal(view(records=payload))
    assert error.code == pb.ERROR_CODE_INVALID_RECORD
    if -1 not in deltas:
        assert isinstance(error, InvalidRecords)
        wrong = [index for index, delta in enumerate(deltas) if delta not in (None, index)]
        assert error.record_errors == [(index, "its offset_delta is not its place in the batch") for index in wrong]


@pytest.mark.parametrize("size", [20, 127, 128, 16_270, 16_400])
def test_the_largest_batch_is_exactly_as_large_as_the_topic_allows(size: int) -> None:
    payload = Records(records=[Record(value=b"x" * size)]).SerializeToString()
    header = admit(view(records=payload), DoorRules(), NOW_MS).header
    stored = sum(map(len, encode_batch(header, 0, payload)))
    assert stored == stored_bytes(PAYLOAD_RECORDS, len(payload))
    admit(view(records=payload), DoorRules(max_message_bytes=stored), NOW_MS)
    error = refusal(view(records=payload), max_message_bytes=stored - 1)
    assert error.code == pb.ERROR_CODE_MESSAGE_TOO_LARGE
    assert str(stored) in error.message
    assert str(stored - 1) in error.message


def test_the_bounds_of_timestamps_are_inclusive() -> None:
    admit(view(base_timestamp=NOW_MS + 3_600_000), DoorRules(), NOW_MS)
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
        bomb = codecs.compress(codec, bytes(codecs.STORED_MAX_BYTES + 1))
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
        assert error.code == pb.ERROR_CODE_CORRUPT_MESSAGE


class TestBoundedWork:
    """A small request may not ask for much."""

    def bomb(self, codec: int, plain: bytes) -> RecordBatchView:
        return view(records=None, compressed_records=codecs.compress(codec, plain), attributes=codec)

    @pytest.mark.parametrize("codec", CODECS)
    def test_what_unfolds_to_more_than_a_message_may_have_is_refused(self, codec: int) -> None:
        value = bytes(records.PLAIN_MAX_BYTES - 20)
        fits = Records(records=[Record(value=value)]).SerializeToString()
        rules = DoorRules(max_message_bytes=1 << 25)
        assert admit(self.bomb(codec, fits), rules, NOW_MS).header.record_count == 1
        above = Records(records=[Record(value=value + bytes(20))]).SerializeToString()
        with pytest.raises(ApiError, match=str(records.PLAIN_MAX_BYTES)) as refused:
            admit(self.bomb(codec, above), rules, NOW_MS)
        assert refused.value.code == pb.ERROR_CODE_MESSAGE_TOO_LARGE

    def test_a_batch_has_no_more_records_than_any_uncompressed_one_of_the_default_size(self) -> None:
        most = b"\x0a\x00" * records.RECORDS_MAX
        assert admit(self.bomb(Codec.CODEC_ZSTD, most), DoorRules(), NOW_MS).header.record_count == records.RECORDS_MAX
        error = refusal(self.bomb(Codec.CODEC_ZSTD, most + b"\x0a\x00"))
        assert error.code == pb.ERROR_CODE_MESSAGE_TOO_LARGE
        assert str(records.RECORDS_MAX) in error.message
        assert stored_bytes(PAYLOAD_RECORDS, len(most)) > DoorRules().max_message_bytes

    def test_what_unfolds_far_is_not_for_the_loop(self) -> None:
        heavy = self.bomb(Codec.CODEC_ZSTD, Records(records=[Record(value=bytes(200_000))]).SerializeToString())
        with pytest.raises(Heavy):
            admit(heavy, DoorRules(), NOW_MS, OnLoop())
        assert admit(heavy, DoorRules(), NOW_MS).header.record_count == 1

    def test_a_usual_compressed_batch_is_looked_at_on_the_loop_until_there_were_enough_of_them(self) -> None:
        usual = self.bomb(Codec.CODEC_ZSTD, Records(records=[Record(value=bytes(60_000))]).SerializeToString())
        on_loop = OnLoop()
        for _ in range(17):
            admit(usual, DoorRules(), NOW_MS, on_loop)
        with pytest.raises(Heavy):
            admit(usual, DoorRules(), NOW_MS, on_loop)

    def test_many_records_are_not_for_the_loop(self) -> None:
        on_loop = OnLoop(records=1000)
        batch = view(records=b"\x0a\x00" * 600)
        admit(batch, DoorRules(), NOW_MS, on_loop)
        with pytest.raises(Heavy):
            admit(batch, DoorRules(), NOW_MS, on_loop)

    def test_compressing_for_the_topic_counts(self) -> None:
        on_loop = OnLoop(plain_bytes=1000)
        with pytest.raises(Heavy):
            admit(timed(*[0] * 500), DoorRules(compression_codec=Codec.CODEC_GZIP), NOW_MS, on_loop)

    def test_a_topic_without_compression_does_not_copy_what_it_will_refuse(self) -> None:
        plain = Records(records=[Record(value=bytes(30_000_000))]).SerializeToString()
        error = refusal(self.bomb(Codec.CODEC_ZSTD, plain), compression_codec=Codec.CODEC_NONE)
        assert error.code == pb.ERROR_CODE_MESSAGE_TOO_LARGE


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
