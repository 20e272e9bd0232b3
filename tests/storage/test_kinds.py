"""Logs that hold Kafka's batches beside Ottla's own: appended, replicated, recovered, compacted, found by time."""

import random

import pytest
from crc32c import crc32c

from node.broker import kafka_codecs
from ottla.protocol import kafka_records
from ottla.protocol.batch import (
    ATTR_LOG_APPEND_TIME,
    PAYLOAD_KAFKA,
    PAYLOAD_RECORDS,
    BatchHeader,
    CorruptBatch,
    encode_batch,
    read_batch,
)
from ottla.protocol.kafka_codecs import SNAPPY, XERIAL_HEAD
from ottla.protocol.payloads import ATTR_KAFKA, as_ottla, kafka_header, packed_records, verify_slice
from ottla.v1.record_pb2 import Record, Records
from storage.config import LogConfig
from storage.errors import BatchTooLarge
from storage.log import Log
from tests.ottla.protocol.kafka_batches import sent
from tests.storage.forgetful import ForgetfulFileSystem
from tests.storage.test_compaction import CONFIG as COMPACTING
from tests.storage.test_compaction import sync
from tests.storage.workload import IDENTITY, SEED, batches_of, open_log

CONFIG = LogConfig(segment_bytes=1000, index_interval_bytes=300)
Put = list[tuple[bytes | None, bytes | None]]


def append(
    log: Log, puts: Put, *, kafkas: bool, codec: int = 0, epoch: int = 9, now_ms: int = 1000, attributes: int = 0
) -> None:
    records = [Record(key=key, value=value, timestamp_delta=i) for i, (key, value) in enumerate(puts)]
    header = BatchHeader(
        0, 0, len(records), len(records) - 1, attributes=codec | attributes, base_timestamp=now_ms,
        max_timestamp=now_ms + len(records) - 1,
    )  # fmt: skip
    plain = Records(records=records).SerializeToString()
    if kafkas:
        packed = kafka_codecs.fold(codec, kafka_records.to_kafka(plain)[0])
        header, payload = sent(records, header, packed)
        log.append_as_leader(header, payload, PAYLOAD_KAFKA, leader_epoch=epoch, now_ms=now_ms)
    else:
        payload = kafka_codecs.pack(codec, plain) if codec else plain
        log.append_as_leader(header, payload, 17 if codec else PAYLOAD_RECORDS, leader_epoch=epoch, now_ms=now_ms)


def records_of(log: Log) -> list[tuple[int, bytes, bytes | None, int]]:
    """(offset, key, value, time), by whichever kind."""
    found = []
    for _, _, _, data in batches_of(log):
        verify_slice(data, SEED)
        batch = read_batch(data, 0)
        assert batch is not None
        header = batch.header
        packed = packed_records(header.attributes, batch.payload(data)[1])
        plain = kafka_codecs.unpack(header.attributes, packed) if header.codec else packed
        records = Records.FromString(bytes(as_ottla(header, plain))).records
        assert len(records) == header.record_count
        for place, record in enumerate(records):
            delta = record.offset_delta if record.HasField("offset_delta") else place
            assert delta <= header.last_offset_delta
            value = record.value if record.HasField("value") else None
            found.append(
                (header.base_offset + delta, record.key, value, header.base_timestamp + record.timestamp_delta)
            )
    return found


def test_a_kafka_batch_is_stored_as_it_came_but_for_what_the_leader_sets() -> None:
    log = open_log(ForgetfulFileSystem(), None, CONFIG)
    append(log, [(b"a", b"1")], kafkas=False)
    records = [Record(key=b"a", value=b"2"), Record(key=b"b", timestamp_delta=3)]
    header, payload = sent(records, BatchHeader(0, 0, 2, 1, base_timestamp=1000, max_timestamp=1003))
    result = log.append_as_leader(header, payload, PAYLOAD_KAFKA, leader_epoch=9, now_ms=5)
    data = log.read(1, 10_000, 3, min_one=True, verify=True).data
    batch = read_batch(data, 0)
    assert batch is not None
    stored = bytes(batch.payload(data)[1])
    assert (result.base_offset, result.last_offset, result.size_bytes) == (1, 2, len(data))
    assert (stored[:8], stored[12:16]) == ((1).to_bytes(8, "big"), (9).to_bytes(4, "big"))
    assert stored[8:12] + stored[16:] == payload[8:12] + payload[16:]
    assert batch.header.payload_crc == crc32c(payload[21:]) == int.from_bytes(payload[17:21], "big")
    with pytest.raises(CorruptBatch):
        log.append_as_leader(header, payload[:-1] + b"!", PAYLOAD_KAFKA, leader_epoch=9, now_ms=5)
    assert log.log_end_offset == 3


def test_the_limit_is_that_of_kafkas_clients() -> None:
    header, payload = sent([Record(value=b"v" * 100)], BatchHeader(0, 0, 1, 0))
    for size, fits in ((len(payload), True), (len(payload) - 1, False)):
        log = open_log(ForgetfulFileSystem(), None, LogConfig(max_message_bytes=size))
        if fits:
            log.append_as_leader(header, payload, PAYLOAD_KAFKA, leader_epoch=1, now_ms=1)
        else:
            with pytest.raises(BatchTooLarge, match=f"{len(payload)} bytes"):
                log.append_as_leader(header, payload, PAYLOAD_KAFKA, leader_epoch=1, now_ms=1)


def test_a_follower_takes_it_as_it_is_and_refuses_what_a_flipped_bit_makes_of_it() -> None:
    leader = open_log(ForgetfulFileSystem(), None, CONFIG)
    append(leader, [(b"a", b"1")], kafkas=False)
    append(leader, [(b"b", b"2")], kafkas=True, codec=4)
    follower = open_log(ForgetfulFileSystem(), None, CONFIG)
    assert not follower.mixed
    own, kafkas = (data for _, _, _, data in batches_of(leader))
    follower.append_as_follower(own, leader_epoch=9, now_ms=1)
    assert (leader.mixed, follower.mixed) == (True, False)
    for at in range(8 * len(kafkas)):
        damaged = bytearray(kafkas)
        damaged[at // 8] ^= 1 << at % 8
        with pytest.raises(CorruptBatch):
            follower.append_as_follower(bytes(damaged), leader_epoch=9, now_ms=1)
    follower.append_as_follower(kafkas, leader_epoch=9, now_ms=1)
    assert follower.mixed
    assert batches_of(follower) == batches_of(leader)


def test_a_kind_that_nobody_knows_is_followed_recovered_and_left_alone_by_compaction() -> None:
    fs = ForgetfulFileSystem()
    log = open_log(fs, None, COMPACTING)
    header = BatchHeader(0, 9, 1, 0, attributes=7 << 16, payload_crc=12345)
    append(log, [(b"a", b"1")], kafkas=False)
    later = b"".join(encode_batch(header._replace(base_offset=1), SEED, b"later", 25))
    log.append_as_follower(later, leader_epoch=9, now_ms=1)
    for _ in range(30):
        append(log, [(b"a", b"1")], kafkas=True)
    compact(log)
    assert later in [data for _, _, _, data in batches_of(log)]
    log.close(clean=False)
    log = open_log(fs, None, COMPACTING)
    assert log.damaged_at is None
    assert later in [data for _, _, _, data in batches_of(log)]


@pytest.mark.parametrize("rolled", [False, True], ids=["in the last segment", "segments before"])
@pytest.mark.parametrize("clean", [False, True], ids=["killed", "stopped"])
@pytest.mark.parametrize("state", [False, True], ids=["state lost", "state there"])
def test_a_log_knows_after_a_restart_that_it_has_other_kinds(rolled: bool, clean: bool, state: bool) -> None:
    for kafkas in (False, True):
        fs = ForgetfulFileSystem()
        log = open_log(fs, None, CONFIG)
        append(log, [(b"a", b"1")], kafkas=kafkas)
        if rolled:
            for _ in range(30):
                append(log, [(b"a", b"v" * 50)], kafkas=False)
        sync(log)
        point = log.recovery_point
        log.close(clean=clean)
        if not state and "state" in fs.listdir("/data/log"):
            fs.unlink("/data/log/state")
        log = Log.open(fs, "/data/log", IDENTITY, 0, CONFIG, now_ms=1, recovery_point=point)
        assert log.mixed == kafkas
        log.close()


def test_rot_in_a_kafka_batch_is_never_read() -> None:
    fs = ForgetfulFileSystem()
    log = open_log(fs, None, CONFIG)
    for _ in range(9):
        append(log, [(b"a", b"v" * 50)], kafkas=True)
    path = "/data/log/00000000000000000000.log"
    for byte in range(0, fs.size(path), 5):
        fs.flip_bit(path, 8 * byte + byte % 8)
        with pytest.raises(CorruptBatch):
            log.read(0, 100_000, 9, min_one=True, verify=True)
        fs.flip_bit(path, 8 * byte + byte % 8)
    log.read(0, 100_000, 9, min_one=True, verify=True)


def test_a_time_is_found_by_the_header() -> None:
    log = open_log(ForgetfulFileSystem(), None, CONFIG)
    for number in range(6):
        append(log, [(b"a", b"1"), (b"b", b"2")], kafkas=number % 2 == 1, now_ms=1000 * number)
    assert [log.offset_for_time(1000 * n, 12) and log.offset_for_time(1000 * n, 12).base_offset for n in range(6)] == [
        0, 2, 4, 6, 8, 10,
    ]  # fmt: skip
    assert log.max_timestamp(12) == 5001


def compact(log: Log, now_ms: int = 1000) -> int | None:
    sync(log)
    run = log.begin_compaction(now_ms, log.log_end_offset, 1 << 20)
    if run is None:
        return None
    run.run(kafka_codecs.unpack, kafka_codecs.pack)
    return log.complete_compaction(run)


@pytest.mark.parametrize("codec", range(5))
def test_compaction_keeps_the_last_value_of_each_key_across_kinds(codec: int) -> None:
    rng = random.Random(codec)
    fs = ForgetfulFileSystem()
    log = open_log(fs, None, COMPACTING)
    for number in range(80):
        puts: Put = [(b"k%d" % rng.randrange(9), rng.choice((None, b"v%d" % number))) for _ in range(rng.randint(1, 4))]
        append(log, puts, kafkas=rng.random() < 0.5, codec=rng.choice((0, codec)))
    before = records_of(log)
    kept_bytes = {spot_bytes for data in batches_of(log) for spot_bytes in kafka_record_bytes(data[3])}
    assert compact(log)
    after = records_of(log)
    assert set(after) < set(before)
    assert [each[0] for each in after] == sorted({each[0] for each in after})
    last = {key: (offset, value) for offset, key, value, _ in before}
    assert {key: (offset, value) for offset, key, value, _ in after} == last
    # What stays of a Kafka batch keeps its bytes, record by record.
    assert {found for data in batches_of(log) for found in kafka_record_bytes(data[3])} <= kept_bytes
    log.close(clean=False)
    log = open_log(fs, None, COMPACTING)
    assert records_of(log) == after
    # Tombstones go after their horizon, which is Ottla's alone.
    compact(log, 1_000_000)
    append(log, [(b"z", b"z")], kafkas=True, now_ms=2_000_000)
    for _ in range(3):
        compact(log, 3_000_000)
    live = {key: value for key, (_, value) in last.items() if value is not None}
    left = {key: value for _, key, value, _ in records_of(log) if key != b"z"}
    assert {key: value for key, value in left.items() if value is not None} == live


def test_an_emptied_kafka_batch_keeps_its_producers_sequence() -> None:
    log = open_log(ForgetfulFileSystem(), None, COMPACTING)
    header, payload = sent(
        [Record(key=b"a", value=b"1")],
        BatchHeader(0, 0, 1, 0, attributes=4, base_timestamp=9, max_timestamp=9, producer_id=7, base_sequence=3),
        kafka_codecs.fold(
            4, kafka_records.to_kafka(Records(records=[Record(key=b"a", value=b"1")]).SerializeToString())[0]
        ),
    )
    log.append_as_leader(header, payload, PAYLOAD_KAFKA, leader_epoch=9, now_ms=9)
    for _ in range(30):
        append(log, [(b"a", b"2")], kafkas=True)
    compact(log)
    data = batches_of(log)[0][3]
    batch = read_batch(data, 0)
    assert batch is not None
    verify_slice(data, SEED)
    header = batch.header
    assert (header.record_count, header.codec, header.producer_id, header.base_sequence) == (0, 0, 7, 3)
    assert bytes(batch.payload(data)[1]) == kafka_header(header, 61, 0, 9, header.payload_crc)


def kafka_record_bytes(data: bytes) -> list[bytes]:
    batch = read_batch(data, 0)
    assert batch is not None
    attributes = batch.header.attributes
    if not attributes & ATTR_KAFKA:
        return []
    packed = packed_records(attributes, batch.payload(data)[1])
    plain = bytes(kafka_codecs.unpack(attributes, packed) if batch.header.codec else packed)
    # Kafka's Java client reads snappy in its own blocks only.
    assert batch.header.codec != SNAPPY or bytes(packed).startswith(XERIAL_HEAD)
    return [plain[spot.start : spot.end] for spot in kafka_records.each(plain)]


def test_log_append_time_is_set_in_both_headers() -> None:
    log = open_log(ForgetfulFileSystem(), None, CONFIG)
    header, payload = sent([Record(value=b"a"), Record(value=b"b")], BatchHeader(0, 0, 2, 1, base_timestamp=5))
    stamped = header._replace(attributes=header.attributes | ATTR_LOG_APPEND_TIME, base_timestamp=77, max_timestamp=77)
    log.append_as_leader(stamped, payload, PAYLOAD_KAFKA, leader_epoch=9, now_ms=77)
    data = log.read(0, 10_000, 2, min_one=True, verify=True).data
    verify_slice(data, SEED)
    batch = read_batch(data, 0)
    assert batch is not None
    stored = batch.payload(data)[1]
    assert stored[61:] == payload[61:]
    assert (stored[22] & 8, int.from_bytes(stored[35:43], "big")) == (8, 77)
