"""Hand-written encoding against protobuf's own."""

from hypothesis import given
from hypothesis import strategies as st

from ottla.client.encode import (
    append_record,
    encode_headers,
    encode_partition,
    encode_request,
    record_size_max,
)
from ottla.internal.v1.view_pb2 import RecordBatchView
from ottla.v1.data_pb2 import ProduceRequest
from ottla.v1.record_pb2 import Header, Record, Records

NULLABLE = st.none() | st.binary(max_size=300)
HEADERS = st.lists(st.tuples(st.text(max_size=20), NULLABLE), max_size=4)


@given(st.lists(st.tuples(NULLABLE, NULLABLE, HEADERS, st.integers(-(1 << 62), 1 << 62)), max_size=6))
def test_records_are_the_bytes_that_protobuf_writes(records):
    parts: list[bytes] = []
    bound = 0
    typed = Records()
    for key, value, headers, delta in records:
        encoded = encode_headers(headers)
        append_record(parts, key, value, encoded, delta)
        bound += record_size_max(key, value, encoded)
        typed.records.append(
            Record(
                key=key,
                value=value,
                headers=[Header(key=name, value=content) for name, content in headers],
                timestamp_delta=delta,
            )
        )
    assert b"".join(parts) == typed.SerializeToString()
    # The bound is for deltas of a producer's clock, not for the 10-byte extremes drawn here.
    assert len(b"".join(parts)) <= bound + 8 * len(records)


def test_a_request_parses_as_the_public_message():
    parts: list[bytes] = []
    append_record(parts, b"k", b"v", encode_headers([("h", None), ("h", b"")]), 3)
    append_record(parts, None, b"", b"", 0)
    payload = b"".join(parts)
    header = RecordBatchView(record_count=2, last_offset_delta=1, producer_id=7, base_sequence=9, payload_crc=5)
    pieces = encode_partition("topic", b"i" * 16, 3, 5, header, payload)
    request = ProduceRequest.FromString(encode_request(11, -1, 5000, "me", pieces + pieces))
    assert (request.request_id, request.acks, request.timeout_ms, request.client_id) == (11, -1, 5000, "me")
    assert len(request.partitions) == 2
    for part in request.partitions:
        assert (part.topic, part.topic_id, part.partition) == ("topic", b"i" * 16, 3)
        assert part.current_leader_epoch == 5
        assert (part.batch.record_count, part.batch.producer_id, part.batch.base_sequence) == (2, 7, 9)
        first, second = part.batch.records.records
        assert (first.key, first.value, first.timestamp_delta) == (b"k", b"v", 3)
        assert [(h.key, h.HasField("value")) for h in first.headers] == [("h", False), ("h", True)]
        assert not second.HasField("key")
        assert second.HasField("value")
        assert second.value == b""


def test_compressed_payloads_go_into_their_own_field():
    header = RecordBatchView(attributes=1, record_count=1)
    pieces = encode_partition("t", b"i" * 16, 0, 0, header, b"not looked at")
    batch = ProduceRequest.FromString(encode_request(1, 1, 1, "", pieces)).partitions[0].batch
    assert batch.WhichOneof("payload") == "compressed_records"
    assert batch.compressed_records == b"not looked at"
