"""Batches of Kafka's clients that are stored as they came: what the door keeps, refuses and sets."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.broker import kafka_codecs
from node.broker.door import DoorRules, Heavy, InvalidRecords, OnLoop
from node.kafka import batch as kafka
from node.kafka import convert, keep
from node.kafka.convert import Sent
from ottla.protocol.batch import ATTR_LOG_APPEND_TIME, PAYLOAD_KAFKA, CorruptBatch, crc_seed, encode_batch, read_batch
from ottla.protocol.errors import ApiError
from ottla.protocol.kafka_records import to_kafka, to_ottla
from ottla.protocol.payloads import ATTR_KAFKA, sealed, verify_batch
from ottla.protocol.records import STORED_MAX_BYTES
from ottla.v1 import error_pb2 as pb
from ottla.v1.record_pb2 import Header, Record, Records
from tests.node.kafka.test_batch import RECORDS as MADE
from tests.node.kafka.test_batch import Plain, kafkas

NOW = 1_700_000_000_000
RULES = DoorRules(max_message_bytes=1 << 26)
ANY_TIME = DoorRules(timestamp_after_max_ms=1 << 62)
SEED = crc_seed(bytes(16), 0)
RECORDS = Records(
    records=[
        Record(key=b"k", value=b"v", headers=[Header(key="h", value=b"")]), Record(value=b"x" * 99, timestamp_delta=7)
    ]
)  # fmt: skip


def batch(records: Records = RECORDS, codec: int = 0, **fields: Any) -> bytes:
    plain, count = to_kafka(records.SerializeToString())
    head = kafka.KafkaBatch(0, 0, -1, 2, 0, codec, count - 1, NOW, NOW + 7, -1, -1, -1, count)
    return kafka.build(head._replace(**fields), kafka_codecs.fold(codec, plain))


def admit(data: bytes, rules: DoorRules = RULES, room: OnLoop | None = None) -> Any:
    return keep.admit(Sent(data, 9), rules, NOW, room)


def stored(data: bytes, rules: DoorRules = RULES, offset: int = 5) -> tuple[Any, bytes]:
    """(header, payload) as the leader would store it, whose checksums hold."""
    admitted = admit(data, rules)
    assert admitted.payload_field == PAYLOAD_KAFKA
    head, rest, crc = sealed(admitted.header, admitted.payload, offset, 3)
    header = admitted.header._replace(base_offset=offset, leader_epoch=3, payload_crc=crc)
    raw = b"".join(encode_batch(header, SEED, head + bytes(rest), PAYLOAD_KAFKA))
    found = read_batch(raw, 0)
    assert found is not None
    verify_batch(raw, found, SEED)
    return header, head + bytes(rest)


@settings(max_examples=60, deadline=None)
@given(MADE, st.integers(0, 4))
def test_what_both_doors_say_of_it_is_the_same(records: list[Plain], codec: int) -> None:
    """The same header and the same records as conversion has; and the client's bytes."""
    data = kafkas(records)
    if codec:
        head = kafka.KafkaBatch._make(kafka.HEADER.unpack_from(data))
        data = kafka.build(head._replace(attributes=codec), kafka_codecs.fold(codec, data[61:]))
    header, payload = stored(data, ANY_TIME)
    other = convert.admit(Sent(data, 9), ANY_TIME, NOW, None).header
    assert header._replace(attributes=header.attributes & 0xFFFF, base_offset=0, leader_epoch=0, payload_crc=0) == other
    assert payload[8:12] + payload[16:] == data[8:12] + data[16:]
    plain = kafka_codecs.unpack(header.attributes, payload[61:]) if codec else payload[61:]
    assert len(Records.FromString(to_ottla(plain, header.record_count)).records) == len(records)


def test_times_are_those_of_the_records_whatever_the_header_says() -> None:
    header, payload = stored(batch(max_timestamp=NOW + 999))
    assert (header.max_timestamp, int.from_bytes(payload[35:43], "big")) == (NOW + 7, NOW + 7)
    header, payload = stored(batch(base_timestamp=-1, max_timestamp=-1))
    assert (header.base_timestamp, int.from_bytes(payload[27:35], "big")) == (NOW, NOW)
    header, payload = stored(batch(), DoorRules(log_append_time=True))
    assert (header.base_timestamp, header.max_timestamp) == (NOW, NOW)
    assert header.attributes == ATTR_KAFKA | ATTR_LOG_APPEND_TIME
    assert (payload[22], int.from_bytes(payload[35:43], "big")) == (8, NOW)


def test_without_a_producer_its_fields_are_none() -> None:
    _, payload = stored(batch(producer_epoch=4, base_sequence=77))
    assert payload[43:57] == b"\xff" * 14


@pytest.mark.parametrize("codec", range(5))
@pytest.mark.parametrize("wanted", range(5))
def test_a_topics_own_codec(codec: int, wanted: int) -> None:
    data = batch(codec=codec)
    header, payload = stored(data, DoorRules(compression_codec=wanted))
    assert (header.codec, payload[22] & 7) == (wanted, wanted)
    plain = kafka_codecs.unpack(wanted | ATTR_KAFKA, payload[61:]) if wanted else payload[61:]
    assert bytes(plain) == to_kafka(RECORDS.SerializeToString())[0]
    if codec == wanted:
        assert payload[16:] == data[16:]


def test_keys_are_asked_for_record_by_record() -> None:
    with pytest.raises(InvalidRecords) as refused:
        admit(batch(), DoorRules(keys_required=True))
    assert [index for index, _ in refused.value.record_errors] == [1]


def code_of(data: bytes, rules: DoorRules = RULES) -> int:
    with pytest.raises(ApiError) as refused:
        admit(data, rules)
    return refused.value.code


def test_what_is_refused() -> None:
    assert code_of(batch(Records(records=[Record(offset_delta=3)]))) == pb.ERROR_CODE_INVALID_RECORD
    assert code_of(batch(record_count=1, last_offset_delta=0)) == pb.ERROR_CODE_INVALID_RECORD
    assert code_of(batch(record_count=9, last_offset_delta=8)) == pb.ERROR_CODE_INVALID_RECORD
    assert code_of(batch(Records(records=[Record(timestamp_delta=1 << 50)]))) == pb.ERROR_CODE_INVALID_TIMESTAMP
    assert code_of(batch(), DoorRules(max_message_bytes=100)) == pb.ERROR_CODE_MESSAGE_TOO_LARGE
    assert code_of(batch(producer_id=0, producer_epoch=0, base_sequence=0)) == pb.ERROR_CODE_UNKNOWN_PRODUCER_ID
    for bits in (0x08, 0x10, 0x20, 0x40, 0x80):
        assert code_of(batch(attributes=bits)) == pb.ERROR_CODE_INVALID_RECORD


@pytest.mark.parametrize("codec", range(1, 5))
def test_bombs_are_refused_and_never_unfolded_on_the_loop(codec: int) -> None:
    plain = to_kafka(Records(records=[Record(value=bytes(STORED_MAX_BYTES))]).SerializeToString())[0]
    head = kafka.KafkaBatch(0, 0, -1, 2, 0, codec, 0, NOW, NOW, -1, -1, -1, 1)
    bomb = kafka.build(head, kafka_codecs.fold(codec, plain))
    with pytest.raises(Heavy):
        admit(bomb, room=keep.on_loop())
    assert code_of(bomb) == pb.ERROR_CODE_MESSAGE_TOO_LARGE


def outcome(call: Callable[[], Any]) -> tuple[int | None, Any]:
    """(the code of a refusal, what comes otherwise)."""
    try:
        return None, call()
    except ApiError as error:
        return error.code, None


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 4), st.data())
def test_damage_is_told_from_nonsense(codec: int, draw: st.DataObject) -> None:
    """What is damaged on its way is to be sent again; with a right checksum the same bytes are refused for good, or are
    records."""
    data = bytearray(batch(codec=codec, producer_id=7, producer_epoch=1, base_sequence=0))
    at = draw.draw(st.integers(21, len(data) - 1))
    data[at] ^= 1 << draw.draw(st.integers(0, 7))
    code, admitted = outcome(lambda: admit(bytes(data)))
    assert code in (None, pb.ERROR_CODE_CORRUPT_MESSAGE)
    if admitted is not None:
        with pytest.raises(CorruptBatch):
            sealed(admitted.header, admitted.payload, 0, 0)
    data[17:21] = kafka.crc32c(bytes(data[21:])).to_bytes(4, "big")
    code, found = outcome(lambda: stored(bytes(data)))
    assert code != pb.ERROR_CODE_CORRUPT_MESSAGE
    if found is None:
        return
    header, payload = found
    plain = kafka_codecs.unpack(header.attributes, payload[61:]) if header.codec else payload[61:]
    assert len(Records.FromString(to_ottla(plain, header.record_count)).records) == header.record_count


def test_what_is_much_is_for_a_thread() -> None:
    data = batch(Records(records=[Record()] * 3000))
    assert admit(data, room=OnLoop(records=3000)).header.record_count == 3000
    with pytest.raises(Heavy):
        admit(data, room=OnLoop(records=2999))
