"""Rot in closed segments: found by the scrub, never served afterwards, gone after a cut and a refetch."""

import pytest

from storage.config import LogConfig
from storage.errors import CorruptBatch, InvariantError, LogDamaged, OffsetOutOfRange
from storage.log import Log
from tests.storage.forgetful import ForgetfulFileSystem
from tests.storage.test_faults import append, sync
from tests.storage.workload import batches_of, open_log

CONFIG = LogConfig(segment_bytes=1000, index_interval_bytes=300)


def scrub(log: Log) -> bool:
    run = log.begin_scrub()
    assert run is not None
    assert log.begin_scrub() is None
    run.run()
    return log.complete_scrub(run)


def test_every_flipped_bit_in_a_closed_segment_is_found_and_healed_by_a_refetch() -> None:
    fs = ForgetfulFileSystem()
    log = open_log(fs, None, CONFIG)
    append(log, 10)
    content = batches_of(log)
    size = fs.size("/data/log/00000000000000000004.log")
    for byte in range(0, size, 7):
        assert not scrub(log)
        fs.flip_bit("/data/log/00000000000000000004.log", byte * 8 + byte % 8)
        assert scrub(log)
        at = 4 + byte // (size // 4)
        assert log.damaged_at == at
        with pytest.raises(LogDamaged):
            append(log)
        assert log.log_end_offset == at
        with pytest.raises(OffsetOutOfRange):
            log.read(at + 1, 1000, 10, min_one=True)
        assert log.read(at - 1, 1000, 10, min_one=True).next_offset == at
        assert log.begin_scrub() is None
        log.truncate_to(at)
        assert log.log_end_offset == at
        for _, _, _, data in content[at:]:
            log.append_as_follower(data, leader_epoch=9, now_ms=5)
        assert batches_of(log) == content
    assert fs.open_files <= 4


def test_rot_that_was_found_is_found_again_after_a_restart() -> None:
    fs = ForgetfulFileSystem()
    log = open_log(fs, None, CONFIG)
    append(log, 10)
    sync(log)
    fs.flip_bit("/data/log/00000000000000000004.log", 2000)
    assert not scrub(log)
    assert scrub(log)
    for _ in range(2):
        remembered = log.recovery_point
        assert log.synced_end_offset == log.log_end_offset
        log.close()
        log = open_log(fs, remembered, CONFIG)
        assert (log.recovery.clean, log.damaged_at, log.log_end_offset) == (False, 5, 5)


def test_rot_is_found_where_the_index_must_be_made_anew_from_the_damaged_file() -> None:
    fs = ForgetfulFileSystem()
    log = open_log(fs, None, CONFIG)
    append(log, 10)
    assert not scrub(log)
    damaged = log._segments.closed()[1]
    damaged.release()
    fs.unlink("/data/log/00000000000000000004.index")
    fs.flip_bit("/data/log/00000000000000000004.log", fs.size("/data/log/00000000000000000004.log") // 4 * 8 + 8)
    assert scrub(log)
    assert log.damaged_at == log.log_end_offset == 5
    assert log.read(4, 1000, 5, min_one=True).next_offset == 5


def test_the_scrub_goes_round_all_closed_segments() -> None:
    log = open_log(ForgetfulFileSystem(), None, CONFIG)
    assert log.begin_scrub() is None
    append(log, 14)
    seen = []
    for _ in range(5):
        run = log.begin_scrub()
        assert run is not None
        seen.append(run.summary.base_offset)
        run.run()
        assert not log.complete_scrub(run)
        last = run
    assert seen == [0, 4, 8, 0, 4]
    with pytest.raises(InvariantError):
        log.complete_scrub(last)


def test_a_segment_that_was_cut_meanwhile_is_not_called_damaged() -> None:
    fs = ForgetfulFileSystem()
    log = open_log(fs, None, CONFIG)
    append(log, 10)
    run = log.begin_scrub()
    assert run is not None
    log.truncate_to(2)
    run.run()
    assert run.damaged_at is not None
    assert not log.complete_scrub(run)
    assert log.damaged_at is None


def test_no_flipped_bit_is_read_from_closed_segments_nor_from_what_an_earlier_process_wrote() -> None:
    fs = ForgetfulFileSystem()
    log = open_log(fs, None, CONFIG)
    append(log, 10)
    end = log.log_end_offset
    content = batches_of(log)
    for restarted in (False, True):
        names = ["00000000000000000004", "00000000000000000008"] if restarted else ["00000000000000000004"]
        for name in names:
            path = f"/data/log/{name}.log"
            base = int(name)
            bits = [bit for bit in range(8 * fs.size(path)) if bit < 8 * 110 or bit % 37 == 0]
            for bit in bits:
                fs.flip_bit(path, bit)
                with pytest.raises(CorruptBatch):
                    log.read(base, 10_000, end, min_one=True, verify=True)
                fs.flip_bit(path, bit)
        piece = log.read(4, 10_000, end, min_one=True, verify=True)
        assert piece.data == b"".join(data for base, _, _, data in content if 4 <= base < 8)
        log.close()
        log = open_log(fs.kill(), None, CONFIG)
        fs = log._fs  # type: ignore[assignment]  # the one after the restart
        assert log.recovery.clean
