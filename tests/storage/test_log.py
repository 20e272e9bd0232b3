"""The log on real files: append, read, roll, reopen, truncate, trim, retention, errors."""

import os
from pathlib import Path

import pytest

from ottla.protocol.batch import PAYLOAD_RECORDS, BatchHeader, CorruptBatch
from storage.config import LogConfig
from storage.errors import BatchTooLarge, InvariantError, OffsetOutOfRange, OffsetsOutOfOrder
from storage.fs import OsFileSystem
from storage.log import Log
from storage.segments import OPEN_CLOSED_MAX, OpenSegments

ID = bytes(range(16))
SMALL = LogConfig(segment_bytes=1000, index_interval_bytes=200)


def open_log(path: Path, config: LogConfig = SMALL, partition: int = 0, recovery_point: int | None = None) -> Log:
    where = str(path / "log")
    return Log.open(OsFileSystem(), where, ID, partition, config, now_ms=1000, recovery_point=recovery_point)


def append(log: Log, count: int = 1, *, epoch: int = 1, size: int = 50, now_ms: int = 1000) -> None:
    header = BatchHeader(0, 0, count, count - 1, base_timestamp=now_ms, max_timestamp=now_ms)
    log.append_as_leader(header, bytes(size), PAYLOAD_RECORDS, leader_epoch=epoch, now_ms=now_ms)


def sync(log: Log) -> int:
    ticket = log.begin_sync()
    assert ticket is not None
    ticket.run()
    return log.complete_sync(ticket)


def offsets(log: Log) -> list[int]:
    return [batch.header.base_offset for batch in log.scan(log.log_start_offset, log.log_end_offset)]


def test_appended_batches_are_read_back_in_order_and_whole(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    for number in range(20):
        append(log, count=3, size=number)
    assert log.log_end_offset == 60
    assert offsets(log) == list(range(0, 60, 3))
    at, seen = 0, b""
    while at < 60:
        piece = log.read(at, 400, 60, min_one=True)
        assert piece.base_offset == at
        assert 0 < len(piece.data) <= 400
        seen += piece.data
        at = piece.next_offset
    files = sorted((tmp_path / "log").glob("*.log"))
    assert len(files) > 2
    assert seen == b"".join(file.read_bytes() for file in files)


def test_read_starts_at_the_batch_that_holds_the_offset_and_stops_before_the_end(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    for _ in range(4):
        append(log, count=10)
    assert log.read(15, 10_000, 40, min_one=True).base_offset == 10
    piece = log.read(0, 10_000, 25, min_one=True)
    assert piece.next_offset == 20
    assert log.read(0, 10_000, 5, min_one=True).data == b""
    assert log.read(40, 10_000, 40, min_one=True).data == b""
    assert log.read(0, 1, 40, min_one=False).data == b""
    assert log.read(0, 1, 40, min_one=True).next_offset == 10
    with pytest.raises(OffsetOutOfRange) as caught:
        log.read(41, 1, 41, min_one=True)
    assert (caught.value.start, caught.value.end) == (0, 40)


def test_a_clean_start_scans_nothing_and_an_unclean_one_finds_the_same(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    for number in range(20):
        append(log, epoch=1 + number // 7)
    entries, content = log.epochs.entries(), log.read(10, 500, 20, min_one=True)
    log.close()
    again = open_log(tmp_path)
    assert (again.recovery.clean, again.recovery.scanned_bytes) == (True, 0)
    assert (again.log_end_offset, again.synced_end_offset) == (20, 20)
    assert again.epochs.entries() == entries
    assert again.read(10, 500, 20, min_one=True) == content
    append(again, epoch=3)
    again.close(clean=False)
    third = open_log(tmp_path)
    assert not third.recovery.clean
    assert third.recovery.scanned_bytes == third.size_bytes
    assert third.log_end_offset == 21
    assert third.epochs.entries() == entries


def test_a_follower_has_the_leaders_bytes(tmp_path: Path) -> None:
    leader, follower = open_log(tmp_path / "a"), open_log(tmp_path / "b", LogConfig(segment_bytes=700))
    for number in range(20):
        append(leader, epoch=1 + number // 5, size=number * 10)
    while follower.log_end_offset < 20:
        piece = leader.read(follower.log_end_offset, 600, 20, min_one=True)
        headers = follower.append_as_follower(piece.data, leader_epoch=4, now_ms=1000)
        assert headers[0].base_offset == piece.base_offset
        assert headers[-1].next_offset == piece.next_offset == follower.log_end_offset
    assert follower.epochs.entries() == leader.epochs.entries() == [(1, 0), (2, 5), (3, 10), (4, 15)]
    assert b"".join(f.read_bytes() for f in sorted((tmp_path / "a/log").glob("*.log"))) == b"".join(
        f.read_bytes() for f in sorted((tmp_path / "b/log").glob("*.log"))
    )


def test_a_follower_refuses_what_is_not_its_leaders_next_batch(tmp_path: Path) -> None:
    leader, follower = open_log(tmp_path / "a"), open_log(tmp_path / "b")
    stranger = open_log(tmp_path / "c", partition=1)
    for epoch in (1, 2):
        append(leader, epoch=epoch)
        append(stranger, epoch=epoch)
    data = leader.read(0, 1000, 2, min_one=True).data
    for at in range(len(data)):
        flipped = bytearray(data)
        flipped[at] ^= 1
        with pytest.raises((CorruptBatch, OffsetsOutOfOrder)):
            follower.append_as_follower(flipped, leader_epoch=2, now_ms=1)
    with pytest.raises(CorruptBatch):
        follower.append_as_follower(data[:-1], leader_epoch=2, now_ms=1)
    with pytest.raises(CorruptBatch):
        follower.append_as_follower(stranger.read(0, 1000, 2, min_one=True).data, leader_epoch=2, now_ms=1)
    with pytest.raises(OffsetsOutOfOrder, match="epoch 2, its leader leads 1"):
        follower.append_as_follower(data, leader_epoch=1, now_ms=1)
    assert follower.log_end_offset == 0
    follower.append_as_follower(data, leader_epoch=2, now_ms=1)
    with pytest.raises(OffsetsOutOfOrder):
        follower.append_as_follower(data, leader_epoch=2, now_ms=1)
    assert follower.log_end_offset == 2


def test_truncation_cuts_whole_batches_and_their_epochs_for_good(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    for epoch in range(1, 11):
        append(log, count=3, epoch=epoch)
    assert sync(log) == 30
    log.truncate_to(16)
    assert log.log_end_offset == 15
    assert log.epochs.entries()[-1] == (5, 12)
    append(log, count=5, epoch=20)
    assert log.epochs.end_offset_for(7, log.log_end_offset) == (5, 15)
    log.close(clean=False)
    again = open_log(tmp_path, recovery_point=30)
    assert again.recovery.damaged_at is None
    assert offsets(again) == [0, 3, 6, 9, 12, 15]
    assert again.epochs.entries()[-2:] == [(5, 12), (20, 15)]
    again.truncate_to(0)
    assert (again.log_end_offset, again.epochs.entries()) == (0, [])


def test_reset_goes_on_at_the_given_offset(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    for _ in range(10):
        append(log)
    log.reset_to(100, epoch=4)
    assert (log.log_start_offset, log.log_end_offset, log.size_bytes) == (100, 100, 0)
    assert log.epochs.end_offset_for(9, 100) == (4, 100)
    append(log, epoch=4)
    log.close(clean=False)
    again = open_log(tmp_path)
    assert (again.log_start_offset, again.log_end_offset) == (100, 101)
    assert again.epochs.entries() == [(4, 100)]


def test_retention_by_time_size_and_start_keeps_what_is_not_committed(tmp_path: Path) -> None:
    config = LogConfig(segment_bytes=320, retention_ms=1000, retention_bytes=-1)
    log = open_log(tmp_path, config)
    for number in range(10):
        append(log, now_ms=1000 + number * 100)
    assert log.segment_count == 5
    assert log.apply_retention(2250, high_watermark=10) == 1
    assert log.log_start_offset == 2
    assert log.apply_retention(10_000, high_watermark=5) == 1
    assert log.apply_retention(10_000, high_watermark=10) == 3
    assert (log.log_start_offset, log.log_end_offset, log.segment_count) == (10, 10, 1)
    assert log.epochs.entries() == [(1, 10)]
    assert len(list((tmp_path / "log").glob("*.deleted"))) == 5
    assert log.delete_expired_files(10_000 + config.file_delete_delay_ms) == 5
    assert not list((tmp_path / "log").glob("*.deleted"))
    log.update_config(LogConfig(segment_bytes=320, retention_ms=-1, retention_bytes=400))
    for _ in range(6):
        append(log)
    assert log.apply_retention(10_000, 16) == 1
    log.advance_log_start(14)
    assert log.apply_retention(10_000, 16) == 1
    log.close()
    again = open_log(tmp_path, config)
    assert (again.log_start_offset, again.log_end_offset) == (14, 16)
    with pytest.raises(OffsetOutOfRange):
        again.read(13, 1, 16, min_one=True)


def test_time_lookup_finds_the_first_late_enough_batch_even_out_of_order(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    times = [5, 3, 9, 4, 8, 20, 1, 30, 2, 30]
    for time_ms in times:
        append(log, now_ms=time_ms)
    for wanted in range(32):
        expected = next((i for i, t in enumerate(times) if t >= wanted), None)
        found = log.offset_for_time(wanted, 10)
        assert (None if found is None else found.base_offset) == expected
    assert log.offset_for_time(30, 7) is None
    assert log.max_timestamp(log.log_end_offset) == 30


def test_a_ticket_never_vouches_for_bytes_written_after_a_truncation(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    for _ in range(4):
        append(log)
    ticket = log.begin_sync()
    assert ticket is not None
    assert log.begin_sync() is None
    ticket.run()
    log.truncate_to(2)
    append(log, epoch=2)
    append(log, epoch=2)
    assert log.complete_sync(ticket) == 2
    second = log.begin_sync()
    assert second is not None
    second.run()
    assert log.complete_sync(second) == 4
    assert log.begin_sync() is None


def test_what_the_log_itself_refuses(tmp_path: Path) -> None:
    log = open_log(tmp_path, LogConfig(max_message_bytes=1000))
    append(log, epoch=5)
    with pytest.raises(BatchTooLarge):
        append(log, epoch=5, size=1000)
    with pytest.raises(InvariantError):
        append(log, epoch=4)
    header = BatchHeader(0, 0, 1, 0, payload_crc=7)
    with pytest.raises(CorruptBatch):
        log.append_as_leader(header, b"x", PAYLOAD_RECORDS, leader_epoch=5, now_ms=1)
    assert log.log_end_offset == 1


def test_delete_removes_the_directory(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    append(log)
    log.delete()
    assert list(tmp_path.iterdir()) == []


def test_a_log_with_many_segments_keeps_few_files_open(tmp_path: Path) -> None:
    log = open_log(tmp_path, LogConfig(segment_bytes=150, index_interval_bytes=50))
    for _ in range(60):
        append(log)
    assert log.segment_count == 60
    log.close()
    before = len(os.listdir("/proc/self/fd"))
    log = open_log(tmp_path, LogConfig(segment_bytes=150, index_interval_bytes=50))
    assert log.recovery.clean
    assert len(os.listdir("/proc/self/fd")) == before
    for _ in range(2):
        for offset in range(60):
            assert log.read(offset, 1000, 60, min_one=True).base_offset == offset
    assert offsets(log) == list(range(60))
    assert len(os.listdir("/proc/self/fd")) - before <= OPEN_CLOSED_MAX + 1
    log.close()
    assert len(os.listdir("/proc/self/fd")) == before
    (tmp_path / "log/clean").unlink()
    for recovery_point in (30, None):
        log = open_log(tmp_path, LogConfig(segment_bytes=150, index_interval_bytes=50), recovery_point=recovery_point)
        assert not log.recovery.clean
        assert offsets(log) == list(range(60))
        assert len(os.listdir("/proc/self/fd")) - before <= OPEN_CLOSED_MAX + 1
        log.close(clean=False)


def test_logs_share_a_bound_on_open_segments(tmp_path: Path) -> None:
    pool = OpenSegments(5)
    logs = []
    for number in range(3):
        log = open_log(tmp_path / str(number), partition=number)
        for _ in range(40):
            append(log, size=300)
        log.share_open_segments(pool)
        logs.append(log)
    before = len(os.listdir("/proc/self/fd"))
    for offset in range(40):
        for log in logs:
            assert log.read(offset, 1, 40, min_one=True).base_offset == offset
            assert len(pool) <= 5
    assert len(os.listdir("/proc/self/fd")) <= before + 5
    for log in logs:
        log.close()
    assert len(pool) == 0
    assert len(os.listdir("/proc/self/fd")) == before - 3
