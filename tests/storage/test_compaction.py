"""Compaction: the last value of each key stays, offsets and order too, whatever is crashed into it."""

import contextlib
import os
import random
import zlib
from dataclasses import dataclass

import pytest
from crc32c import crc32c

from ottla.protocol.batch import PAYLOAD_COMPRESSED, PAYLOAD_RECORDS, BatchHeader, CorruptBatch
from ottla.v1.record_pb2 import Record, Records, Segment
from storage.config import LogConfig
from storage.errors import InvariantError
from storage.fs import read_file
from storage.log import Log
from tests.storage.forgetful import Crashed, ForgetfulFileSystem
from tests.storage.workload import batches_of, open_log

DAY_MS = 86_400_000
CONFIG = LogConfig(
    segment_bytes=1200,
    index_interval_bytes=300,
    cleanup_policy=frozenset({"compact"}),
    min_cleanable_dirty_ratio=0.01,
    delete_retention_ms=1000,
    file_delete_delay_ms=0,
)


@dataclass(frozen=True)
class Kept:
    offset: int
    key: bytes
    value: bytes | None
    timestamp: int


def compress(codec: int, payload: bytes) -> bytes:
    return bytes([codec]) + zlib.compress(payload)


def decompress(codec: int, payload: bytes) -> bytes:
    assert payload[0] == codec
    return zlib.decompress(payload[1:])


def append(
    log: Log,
    records: list[tuple[bytes, bytes | None]],
    *,
    now_ms: int = 1000,
    codec: int = 0,
    producer: int = 0,
    sequence: int = 0,
) -> None:
    message = Records(
        records=[Record(key=key, value=value, timestamp_delta=i) for i, (key, value) in enumerate(records)]
    )
    payload = message.SerializeToString()
    if codec:
        payload = compress(codec, payload)
    header = BatchHeader(
        0, 0, len(records), len(records) - 1, attributes=codec, base_timestamp=now_ms,
        max_timestamp=now_ms + len(records) - 1, producer_id=producer, base_sequence=sequence,
    )  # fmt: skip
    field = PAYLOAD_COMPRESSED if codec else PAYLOAD_RECORDS
    log.append_as_leader(header, payload, field, leader_epoch=1, now_ms=now_ms)


def sync(log: Log) -> None:
    ticket = log.begin_sync()
    if ticket is not None:
        ticket.run()
        log.complete_sync(ticket)


def compact(log: Log, now_ms: int = 1000, dedupe_buffer_bytes: int = 1 << 20) -> int | None:
    sync(log)
    run = log.begin_compaction(now_ms, log.log_end_offset, dedupe_buffer_bytes)
    if run is None:
        return None
    run.run(decompress, compress)
    return log.complete_compaction(run)


def records_of(log: Log) -> list[Kept]:
    found = []
    for _, _, _, data in batches_of(log):
        batch = Segment.FromString(data).batches[0]
        codec = batch.attributes & 7
        records = Records.FromString(decompress(codec, batch.compressed_records)) if codec else batch.records
        assert len(records.records) == batch.record_count
        for place, record in enumerate(records.records):
            offset = batch.base_offset + (record.offset_delta if record.HasField("offset_delta") else place)
            assert batch.base_offset <= offset <= batch.base_offset + batch.last_offset_delta
            value = record.value if record.HasField("value") else None
            found.append(Kept(offset, record.key, value, batch.base_timestamp + record.timestamp_delta))
    return found


def last_values(records: list[Kept]) -> dict[bytes, bytes]:
    view: dict[bytes, bytes] = {}
    for record in records:
        if record.value is None:
            view.pop(record.key, None)
        else:
            view[record.key] = record.value
    return view


def fill(log: Log, rng: random.Random, batches: int, keys: int = 12, now_ms: int = 1000) -> None:
    for number in range(batches):
        chosen = [b"k%d" % rng.randrange(keys) for _ in range(rng.randint(1, 5))]
        values = [None if rng.random() < 0.15 else b"v%d" % number * rng.randint(1, 9) for _ in chosen]
        append(log, list(zip(chosen, values, strict=True)), now_ms=now_ms, codec=rng.choice((0, 0, 4)))


@pytest.mark.parametrize("seed", range(25))
def test_the_last_value_of_every_key_stays_at_its_offset(seed: int) -> None:
    rng = random.Random(seed)
    fs = ForgetfulFileSystem(seed)
    log = open_log(fs, None, CONFIG)
    history: list[Kept] = []
    now_ms = 1000
    for _ in range(4):
        end = log.log_end_offset
        fill(log, rng, 25, now_ms=now_ms)
        history += [record for record in records_of(log) if record.offset >= end]
        before = log.size_bytes
        # From very small tables of keys, which take many runs, to one that holds them all.
        for _ in range(40):
            freed = compact(log, now_ms, dedupe_buffer_bytes=rng.choice((200, 1200, 1 << 20)))
            if freed is None:
                break
        found = records_of(log)
        assert log.size_bytes < before
        assert set(found) <= set(history)
        assert [record.offset for record in found] == sorted({record.offset for record in found})
        assert last_values(found) == last_values(history)
        now_ms += rng.randint(0, 1500)
    closed_end = max(base for base, _, _, _ in batches_of(log))
    assert log.log_end_offset > closed_end
    content, end = batches_of(log), log.log_end_offset
    log.close(clean=False)
    again = open_log(fs.kill(), end, CONFIG)
    assert again.damaged_at is None
    assert batches_of(again) == content
    copy = open_log(ForgetfulFileSystem(), None, LogConfig(segment_bytes=700))
    while copy.log_end_offset < end:
        piece = again.read(copy.log_end_offset, 900, end, min_one=True)
        copy.append_as_follower(piece.data, leader_epoch=1, now_ms=1)
    assert batches_of(copy) == content
    assert [again.read(at, 1, end, min_one=True).next_offset > at for at in range(end)] == [True] * end


def test_below_the_cleaned_end_no_key_comes_twice_and_segments_are_merged() -> None:
    log = open_log(ForgetfulFileSystem(), None, CONFIG)
    for number in range(200):
        append(log, [(b"key%d" % (number % 5), b"%d" % number)])
    segments = log.segment_count
    assert segments > 15
    freed = compact(log)
    assert freed
    assert log.segment_count < 5
    closed_end = log.begin_scrub()
    assert closed_end is not None
    keys = [record.key for record in records_of(log) if record.offset < closed_end.summary.next_offset]
    assert len(keys) == len(set(keys)) <= 5
    assert compact(log) is None, "nothing is dirty any more"


def test_a_batch_of_more_keys_than_the_table_holds_is_cleaned_in_several_runs() -> None:
    log = open_log(ForgetfulFileSystem(), None, CONFIG)
    keys = [b"key%d" % (number % 40) for number in range(80)]
    append(log, [(key, b"%d" % place) for place, key in enumerate(keys)], codec=4)
    append(log, [(b"end", b"x" * 900)])
    append(log, [(b"end", b"y")])
    runs = 0
    while runs < 20 and compact(log, dedupe_buffer_bytes=7 * 200) is not None:
        runs += 1
    assert 5 < runs < 20
    kept = [record for record in records_of(log) if record.key != b"end"]
    assert [(record.offset, record.key) for record in kept] == [(40 + n, b"key%d" % n) for n in range(40)]


def test_what_no_walk_reads_stays_as_it_is() -> None:
    # Taken in by a build that knew fewer rules.
    log = open_log(ForgetfulFileSystem(), None, CONFIG)
    payload = b"\x0a\x04\x0a\x00\x0b\x0c"
    header = BatchHeader(0, 0, 1, 0, base_timestamp=1, max_timestamp=1)
    log.append_as_leader(header, payload, PAYLOAD_RECORDS, leader_epoch=1, now_ms=1)
    for number in range(9):
        append(log, [(b"k", b"x" * 300)], now_ms=number)
    assert compact(log)
    assert payload in batches_of(log)[0][3]


def test_a_tombstone_stays_for_its_time_and_then_goes() -> None:
    log = open_log(ForgetfulFileSystem(), None, CONFIG)
    append(log, [(b"gone", b"x" * 300)])
    append(log, [(b"gone", None), (b"stays", b"1")])
    for number in range(20):
        append(log, [(b"other%d" % number, b"y" * 200)])
    assert compact(log, now_ms=5000)
    assert [(r.offset, r.value) for r in records_of(log) if r.key == b"gone"] == [(1, None)]
    assert compact(log, now_ms=5999) is None
    assert compact(log, now_ms=6000) is not None
    assert not [r for r in records_of(log) if r.key == b"gone"]
    assert last_values(records_of(log))[b"stays"] == b"1"
    assert compact(log, now_ms=99_000) is None, "a horizon that is over is not waited for again"


def test_a_producers_last_sequence_stays_until_it_expires() -> None:
    log = open_log(ForgetfulFileSystem(), None, CONFIG)
    for sequence in range(4):
        append(log, [(b"k", b"%d" % sequence * 50)], producer=7, sequence=sequence)
    for number in range(20):
        append(log, [(b"k", b"z" * 200)], producer=8, sequence=number)
    compact(log, now_ms=2000)
    kept = [b.header for b in log.scan(0, log.log_end_offset) if b.header.producer_id == 7]
    assert [(h.base_offset, h.base_sequence, h.record_count) for h in kept] == [(3, 3, 0)]
    for number in range(20, 40):
        append(log, [(b"k", b"z" * 200)], producer=8, sequence=number, now_ms=2 * DAY_MS)
    compact(log, now_ms=2 * DAY_MS)
    assert not [b for b in log.scan(0, log.log_end_offset) if b.header.producer_id == 7]


def test_what_must_not_be_touched_is_not() -> None:
    fs = ForgetfulFileSystem()
    log = open_log(fs, None, CONFIG)
    for number in range(40):
        append(log, [(b"k", b"%d" % number * 100)], now_ms=number * 100)
    content = batches_of(log)
    assert log.begin_compaction(9000, 40) is None, "not synced yet"
    sync(log)
    assert log.begin_compaction(9000, 0) is None, "nothing is below the high watermark"
    log.update_config(LogConfig(segment_bytes=1200, cleanup_policy=frozenset({"compact"}), min_compaction_lag_ms=9000))
    assert log.begin_compaction(9000, 40) is None
    log.update_config(LogConfig(segment_bytes=1200))
    assert log.begin_compaction(9000, 40) is None, "not a compacted topic"
    log.update_config(CONFIG)
    run = log.begin_compaction(9000, 20)
    assert run is not None
    assert log.begin_compaction(9000, 40) is None, "one at a time"
    run.run(decompress, compress)
    assert log.complete_compaction(run) > 0
    untouched = [batch for batch in content if batch[0] >= 20]
    assert batches_of(log)[-len(untouched) :] == untouched
    with pytest.raises(InvariantError):
        log.complete_compaction(run)


def test_a_run_over_a_log_that_was_cut_or_trimmed_meanwhile_changes_nothing() -> None:
    for meanwhile in ("cut after", "cut before", "trimmed"):
        fs = ForgetfulFileSystem()
        log = open_log(fs, None, CONFIG)
        for number in range(40):
            append(log, [(b"k", b"%d" % number * 100)])
        sync(log)
        run = log.begin_compaction(1000, 40)
        assert run is not None
        if meanwhile == "cut after":
            run.run(decompress, compress)
            log.truncate_to(3)
        elif meanwhile == "cut before":
            log.truncate_to(3)
            with pytest.raises(CorruptBatch):
                run.run(decompress, compress)
        else:
            log.advance_log_start(30)
            log.apply_retention(1000, 40)
            with pytest.raises(FileNotFoundError):
                run.run(decompress, compress)
        content = batches_of(log)
        assert log.complete_compaction(run) == 0
        assert batches_of(log) == content
        assert not [name for name in fs.listdir("/data/log") if name.endswith(".cleaned")]
        log.close()
        assert fs.open_files == 0


def test_an_abandoned_run_ends_and_changes_nothing() -> None:
    fs = ForgetfulFileSystem()
    log = open_log(fs, None, CONFIG)
    for number in range(40):
        append(log, [(b"k", b"%d" % number * 100)], codec=4)
    sync(log)
    content = batches_of(log)
    for limit in (1, 30, 60):
        run = log.begin_compaction(1000, 40)
        assert run is not None
        calls = 0

        def decompress_some(codec: int, payload: bytes) -> bytes:
            nonlocal calls
            calls += 1
            run.abandoned = calls >= limit  # noqa: B023 - called before the next turn
            return decompress(codec, payload)

        run.run(decompress_some, compress)
        assert calls == limit
        assert log.complete_compaction(run) == 0
        assert batches_of(log) == content
        assert not [name for name in fs.listdir("/data/log") if name.endswith(".cleaned")]


def test_rot_in_a_closed_segment_stops_the_run_and_is_told() -> None:
    fs = ForgetfulFileSystem()
    log = open_log(fs, None, CONFIG)
    for number in range(40):
        append(log, [(b"k", b"%d" % number * 100)])
    sync(log)
    before = read_file(fs, "/data/log/00000000000000000000.log")
    fs.flip_bit("/data/log/00000000000000000000.log", 4000)
    run = log.begin_compaction(1000, 40)
    assert run is not None
    with pytest.raises(CorruptBatch):
        run.run(decompress, compress)
    with pytest.raises(CorruptBatch):
        log.complete_compaction(run)
    assert len(read_file(fs, "/data/log/00000000000000000000.log")) == len(before)
    scrub = log.begin_scrub()
    assert scrub is not None
    scrub.run()
    assert log.complete_scrub(scrub)


def _life(fs: ForgetfulFileSystem, seed: int, told: list[tuple[list[Kept], int]]) -> None:
    """Appends, syncs and compacts; `told` gets (everything appended, what of it is synced) before each step."""
    rng = random.Random(seed)
    log = open_log(fs, None, CONFIG)
    history: list[Kept] = []
    floor = 0
    for number in range(60):
        key, value = b"k%d" % rng.randrange(6), None if rng.random() < 0.1 else b"%d" % number * rng.randint(1, 60)
        history.append(Kept(number, key, value, 1000))
        told.append((list(history), floor))
        append(log, [(key, value)], codec=rng.choice((0, 4)))
        if rng.random() < 0.3:
            sync(log)
            floor = log.synced_end_offset
        if rng.random() < 0.15:
            told.append((list(history), floor))
            compact(log, 1000 + number * 100)
            floor = log.synced_end_offset
    told.append((list(history), floor))


@pytest.mark.parametrize("seed", range(int(os.environ.get("OTTLA_CRASH_SEEDS", "6"))))
def test_a_crash_at_every_operation_of_a_compaction_loses_no_key(seed: int) -> None:
    whole = ForgetfulFileSystem(seed)
    _life(whole, seed, [])
    assert whole.operations > 60
    for crash_at in range(1, whole.operations + 1):
        fs = ForgetfulFileSystem(seed, crash_at)
        told: list[tuple[list[Kept], int]] = [([], 0)]
        with contextlib.suppress(Crashed):
            _life(fs, seed, told)
        history, floor = told[-1]
        after = fs.power_loss(crash_at=random.Random(crash_at).randint(1, 12))
        try:
            log = open_log(after, floor, CONFIG)
        except Crashed:
            after = after.power_loss()
            log = open_log(after, floor, CONFIG)
        after.crash_at = None
        where = f"crash at {crash_at}: {fs.trace[-3:]}, {log.recovery}"
        assert log.damaged_at is None, where
        assert log.log_end_offset >= floor, where
        found = records_of(log)
        until = [record for record in history if record.offset < log.log_end_offset]
        assert set(found) <= set(until), where
        assert last_values(found) == last_values(until), where
        end = log.log_end_offset
        append(log, [(b"more", b"1")])
        compact(log, 10_000)
        assert last_values(records_of(log)) == {**last_values(until), b"more": b"1"}, where
        assert log.log_end_offset == end + 1
        assert not [name for name in after.listdir("/data/log") if name.endswith((".cleaned", ".tmp"))]


def test_the_checksum_of_an_emptied_batch_is_that_of_no_bytes() -> None:
    assert crc32c(b"") == 0
