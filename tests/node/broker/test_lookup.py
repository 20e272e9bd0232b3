"""Looks into stored batches: by time, and for readers that cannot take them as they are."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.broker import codecs, kafka_codecs, lookup
from node.broker.door import Heavy, OnLoop
from node.broker.lookup import EVERY_CODEC, Reader, latest_at, readable, record_at, written_ms
from ottla.protocol.batch import (
    ATTR_LOG_APPEND_TIME,
    PAYLOAD_COMPRESSED,
    PAYLOAD_RECORDS,
    BatchHeader,
    encode_batch,
    read_batch,
    read_extent,
)
from ottla.protocol.checksum import crc32c
from ottla.protocol.errors import ApiError
from ottla.protocol.kafka_records import to_kafka
from ottla.protocol.payloads import ATTR_KAFKA, verify_slice
from ottla.v1 import error_pb2 as pb
from ottla.v1.record_pb2 import Header, Record, Records, Segment
from tests.ottla.protocol.kafka_batches import kept_batch

SEED = 77
BASE_MS = 1_000_000
NO_CODEC: frozenset[int] = frozenset()


def stored(records: list[Record], base: int = 0, *, span: int | None = None, codec: int = 4, **fields: Any) -> bytes:
    """A batch as it lies in a log; `span`: how many offsets it covers."""
    plain = Records(records=records).SerializeToString()
    payload = codecs.compress(codec, plain) if codec else plain
    times = [BASE_MS + record.timestamp_delta for record in records]
    header = BatchHeader(
        base_offset=base,
        leader_epoch=3,
        record_count=len(records),
        last_offset_delta=(len(records) if span is None else span) - 1,
        attributes=codec | fields.pop("attributes", 0),
        base_timestamp=BASE_MS,
        max_timestamp=fields.pop("max_timestamp", max(times, default=BASE_MS + 500)),
        producer_id=5,
        base_sequence=fields.pop("base_sequence", base),
        payload_crc=crc32c(payload),
    )
    return b"".join(encode_batch(header, SEED, payload, PAYLOAD_COMPRESSED if codec else PAYLOAD_RECORDS))


def kafkas(records: list[Record], base: int = 0, *, span: int | None = None, codec: int = 4, **fields: Any) -> bytes:
    """The same as Kafka's clients send it."""
    like = read_batch(stored(records, base, span=span, codec=codec, **fields), 0)
    assert like is not None
    plain, _ = to_kafka(Records(records=records).SerializeToString())
    return kept_batch(records, like.header, SEED, kafka_codecs.fold(codec, plain))


def compacted(*kept: tuple[int, int], span: int = 10, base: int = 100, **fields: Any) -> bytes:
    """(offset delta, timestamp delta) of what is left."""
    records = [Record(key=b"k", offset_delta=o, timestamp_delta=t) for o, t in kept]
    return stored(records, base, span=span, **fields)


class TestByTime:
    def test_the_first_record_as_late(self) -> None:
        data = stored([Record(timestamp_delta=t) for t in (5, 2, 9)], 40)
        assert record_at(data, BASE_MS) == (40, BASE_MS + 5)
        assert record_at(data, BASE_MS + 6) == (42, BASE_MS + 9)
        assert record_at(data, BASE_MS + 10) is None

    def test_only_records_that_are_left(self) -> None:
        data = compacted((3, 7), (8, 2))
        assert record_at(data, 0) == (103, BASE_MS + 7)
        assert record_at(data, BASE_MS + 1, from_offset=104) == (108, BASE_MS + 2)
        assert record_at(data, BASE_MS + 3, from_offset=104) is None
        assert record_at(compacted(), 0) is None

    def test_with_log_append_time_deltas_mean_nothing(self) -> None:
        data = compacted((3, 7), (8, 2), attributes=ATTR_LOG_APPEND_TIME, max_timestamp=BASE_MS)
        assert record_at(data, BASE_MS) == (103, BASE_MS)
        assert record_at(data, BASE_MS, from_offset=104) == (108, BASE_MS)
        assert record_at(data, BASE_MS + 1) is None

    def test_the_latest_of_what_is_left(self) -> None:
        data = stored(
            [Record(timestamp_delta=900), Record(timestamp_delta=5, offset_delta=1), Record(timestamp_delta=7)]
        )
        assert latest_at(data, 0) == (0, BASE_MS + 900)
        assert latest_at(data, 1) == (2, BASE_MS + 7)
        assert latest_at(data, 3) is None

    def test_of_a_position(self) -> None:
        data = compacted((3, 7), (8, 2))
        assert [written_ms(data, offset) - BASE_MS for offset in (100, 103, 104, 109)] == [7, 7, 2, 7]

    def test_what_is_heavy_is_for_a_thread(self) -> None:
        data = stored([Record(value=bytes(1_000_000))])
        with pytest.raises(Heavy):
            record_at(data, 0, 0, OnLoop())
        assert record_at(data, 0) == (0, BASE_MS)
        assert written_ms(data, 0, OnLoop()) == BASE_MS


class TestOfKafka:
    """Batches of Kafka's, which are read as if they were Ottla's own."""

    @pytest.mark.parametrize("codec", range(5))
    def test_times_are_found_as_in_ottlas_own(self, codec: int) -> None:
        records = [Record(timestamp_delta=t, offset_delta=o) for o, t in ((3, 7), (8, 2))]
        own, other = (made(records, 100, span=10, codec=codec) for made in (stored, kafkas))
        for wanted in range(BASE_MS, BASE_MS + 9):
            for start in (0, 104, 109):
                assert record_at(other, wanted, start) == record_at(own, wanted, start)
        for start in (0, 101, 104, 109):
            assert latest_at(other, start) == latest_at(own, start)
            assert written_ms(other, start) == written_ms(own, start)

    def test_with_log_append_time_deltas_mean_nothing(self) -> None:
        records = [Record(timestamp_delta=t) for t in (5, 900)]
        data = kafkas(records, attributes=ATTR_LOG_APPEND_TIME, max_timestamp=BASE_MS)
        assert record_at(data, BASE_MS) == (0, BASE_MS)
        assert record_at(data, BASE_MS + 1) is None
        answer, _ = readable(data, Reader(NO_CODEC, 1 << 20), SEED, 0, 0)
        [batch] = Segment.FromString(answer).batches
        assert (batch.attributes, batch.max_timestamp) == (ATTR_LOG_APPEND_TIME, BASE_MS)

    @pytest.mark.parametrize("codec", range(5))
    def test_who_knows_them_gets_their_bytes_and_others_get_records(self, codec: int) -> None:
        records = [Record(key=b"k", value=b"v" * 9, headers=[Header(key="h", value=b"")]), Record(timestamp_delta=3)]
        own = stored(records, 1, codec=0)
        data = stored(records, 1, codec=0) + kafkas(records, 3, codec=codec)
        assert readable(data, Reader(EVERY_CODEC, 1 << 20, every_kind=True), SEED, 1, 0) == (data, None)
        for accept in (NO_CODEC, EVERY_CODEC):
            answer, after = readable(data, Reader(accept, 1 << 20), SEED, 1, 0)
            verify_slice(answer, SEED)
            first, second = Segment.FromString(answer).batches
            assert after is None
            assert answer.startswith(own)
            assert second.records == first.records
            assert (second.base_offset, second.last_offset_delta, second.producer_id, second.attributes) == (3, 1, 5, 0)
        # What lies below the log start is nobody's.
        answer, _ = readable(data[len(own) :], Reader(EVERY_CODEC, 1 << 20, every_kind=True), SEED, 4, 4)
        assert [record.timestamp_delta for record in Segment.FromString(answer).batches[0].records.records] == [3]

    def test_who_reads_a_log_without_them_looks_at_one_batch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        data = b"".join(stored([Record()], at) for at in range(9))
        looks: list[int] = []
        monkeypatch.setattr(lookup, "read_batch", lambda d, at: looks.append(at) or read_batch(d, at))
        assert readable(data, Reader(EVERY_CODEC, 1 << 20), SEED, 0, 0, None, False) == (data, None)
        assert len(looks) == 1

    def test_what_is_much_is_for_a_thread(self) -> None:
        """Bytes are what counts: one record may have half a million headers."""
        data = kafkas([Record()] * 2001, codec=0)
        assert readable(data, Reader(EVERY_CODEC, 1 << 20), SEED, 0, 0, OnLoop())[1] is None
        room = OnLoop()
        for headers, heavy in ((100_000, False), (600_000, True)):
            data = kafkas([Record(headers=[Header()] * headers)], codec=0)
            if heavy:
                with pytest.raises(Heavy):
                    readable(data, Reader(EVERY_CODEC, 1 << 20), SEED, 0, 0, room)
            else:
                readable(data, Reader(EVERY_CODEC, 1 << 20), SEED, 0, 0, room)
        bomb = kafkas([Record(value=bytes(2_000_000))])
        with pytest.raises(Heavy):
            readable(bomb, Reader(EVERY_CODEC, 1 << 20), SEED, 0, 0, OnLoop())

    def test_a_kind_that_is_not_known_is_refused_not_skipped(self) -> None:
        header = BatchHeader(7, 3, 1, 0, attributes=ATTR_KAFKA << 1)
        data = stored([Record()], 6, codec=0) + b"".join(encode_batch(header, SEED, b"later", 23))
        with pytest.raises(ApiError, match="offset 7 is of a kind that this node does not know") as refused:
            readable(data, Reader(EVERY_CODEC, 1 << 20), SEED, 6, 0)
        assert refused.value.code == pb.ERROR_CODE_UNSUPPORTED_COMPRESSION_TYPE


def read_all(data: bytes, reader: Reader, start: int, end: int, log_start: int = 0) -> dict[int, bytes]:
    """What a stub in any language makes of it, as it asks on and on."""
    offset, found = start, {}
    for _ in range(1000):
        if offset >= end:
            return found
        asked = sliced(data, offset, reader.max_bytes)
        answer, next_offset = readable(asked, reader, SEED, offset, log_start)
        verify_slice(answer, SEED)
        assert len(answer) <= reader.max_bytes or len(Segment.FromString(answer).batches) == 1
        for batch in Segment.FromString(answer).batches:
            assert batch.attributes & 7 in (*reader.accept, 0)
            assert len(batch.records.records) == batch.record_count or batch.attributes & 7
            assert batch.base_sequence == batch.base_offset
            for place, record in enumerate(batch.records.records):
                at = batch.base_offset + (record.offset_delta if record.HasField("offset_delta") else place)
                assert at <= batch.base_offset + batch.last_offset_delta
                assert batch.base_timestamp + record.timestamp_delta <= batch.max_timestamp
                if at >= offset:
                    assert at not in found
                    found[at] = record.value
        before = offset
        offset = end_of(asked) if next_offset is None else next_offset
        assert offset > before
    raise AssertionError("it never ends")


def sliced(data: bytes, offset: int, max_bytes: int) -> bytes:
    """Whole batches from the one on that holds an offset, at least one, as a log reads them."""
    at = 0
    while read_extent(data, at)[1] <= offset:
        at += read_extent(data, at)[2]
    end = at + read_extent(data, at)[2]
    while end < len(data) and end + read_extent(data, end)[2] - at <= max_bytes:
        end += read_extent(data, end)[2]
    return data[at:end]


def end_of(data: bytes) -> int:
    at = end = 0
    while at < len(data):
        _, end, length = read_extent(data, at)
        at += length
    return end


class TestReadable:
    def test_a_batch_that_is_too_much_comes_in_parts(self) -> None:
        data = stored([Record(value=bytes([i]) * 100) for i in range(50)], 200)
        found = read_all(data, Reader(NO_CODEC, 1000), 200, 250)
        assert found == {200 + i: bytes([i]) * 100 for i in range(50)}

    def test_so_does_one_that_was_compacted(self) -> None:
        records = [Record(value=bytes([i]) * 100, offset_delta=3 * i) for i in range(20)]
        data = stored(records, 200, span=70)
        found = read_all(data, Reader(NO_CODEC, 600), 200, 270)
        assert found == {200 + 3 * i: bytes([i]) * 100 for i in range(20)}

    def test_a_record_that_no_answer_can_hold_is_told(self) -> None:
        data = stored([Record(value=b"a"), Record(value=bytes(6_000_000)), Record(value=b"b")], 7)
        reader = Reader(NO_CODEC, 2**20, 3 * 2**20)
        _, next_offset = readable(data, reader, SEED, 7, 0)
        assert next_offset == 8
        with pytest.raises(ApiError) as refusal:
            readable(data, reader, SEED, 8, 0)
        assert refusal.value.code == pb.ERROR_CODE_UNSUPPORTED_COMPRESSION_TYPE
        assert "offset 8" in refusal.value.message
        assert "zstd" in refusal.value.message
        assert read_all(data, reader, 9, 10) == {9: b"b"}
        answer, _ = readable(data, reader._replace(accept=frozenset({4})), SEED, 8, 0)
        assert answer == data
        assert read_all(data, reader._replace(record_max_bytes=7_000_000), 7, 10).keys() == {7, 8, 9}

    @pytest.mark.parametrize("codec", [0, 4])
    @pytest.mark.parametrize("accept", [NO_CODEC, frozenset({1, 2, 3, 4})])
    def test_what_lies_below_the_log_start_is_left_out(self, codec: int, accept: frozenset[int]) -> None:
        data = stored([Record(value=bytes([i])) for i in range(5)], codec=codec) + stored([Record(value=b"x")], 5)
        answer, _ = readable(data, Reader(accept, 2**20), SEED, 3, 3)
        verify_slice(answer, SEED)
        first, second = Segment.FromString(answer).batches
        assert [record.value for record in first.records.records] == [b"\3", b"\4"]
        assert (first.base_offset, first.last_offset_delta, second.base_offset) == (3, 1, 5)

    def test_without_a_first_one_nothing_comes_that_is_too_large(self) -> None:
        data = stored([Record(value=bytes(500))], 7)
        assert readable(data, Reader(NO_CODEC, 300, min_one=False), SEED, 7, 0) == (b"", 7)
        assert readable(data, Reader(NO_CODEC, 0, min_one=False), SEED, 7, 0) == (b"", 7)

    def test_what_is_heavy_is_for_a_thread(self) -> None:
        data = stored([Record(value=bytes(1_000_000))])
        with pytest.raises(Heavy):
            readable(data, Reader(NO_CODEC, 2**20), SEED, 0, 0, OnLoop())

    @settings(max_examples=400, deadline=None)
    @given(
        st.lists(
            st.tuples(
                st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.integers(0, 60)), max_size=12),
                st.booleans(),
                st.booleans(),
            ),
            min_size=1,
            max_size=4,
        ),
        st.integers(1, 600),
        st.booleans(),
        st.data(),
    )
    def test_every_record_comes_once_and_at_its_offset(
        self,
        made: list[tuple[list[tuple[int, bool, int]], bool, bool]],
        max_bytes: int,
        zstd: bool,
        draw: st.DataObject,
    ) -> None:
        base, data, expected = 10, b"", {}
        for records, packed, by_kafka in made:
            batch, delta = [], 0
            gaps = any(gap for gap, _, _ in records)
            for gap, own, length in records:
                delta += gap
                value = delta.to_bytes(1, "little") + b"v" * length
                batch.append(Record(value=value, offset_delta=delta if own or gaps else None, timestamp_delta=length))
                expected[base + delta] = value
                delta += 1
            span = max(delta, 1) + draw.draw(st.integers(0, 2))
            data += (kafkas if by_kafka else stored)(batch, base, span=span, codec=4 if packed else 0)
            base += span
        start = draw.draw(st.integers(10, base - 1))
        log_start = draw.draw(st.integers(0, start))
        reader = Reader(frozenset({4}) if zstd else NO_CODEC, max_bytes)
        wanted = {at: value for at, value in expected.items() if at >= start}
        found = read_all(data, reader, start, base, log_start)
        if zstd:
            assert found.keys() <= wanted.keys()
        else:
            assert found == wanted
