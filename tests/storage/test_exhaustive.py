"""The small case in full: after every operation, every subset of what was not synced."""

from crc32c import crc32c

from ottla.protocol.batch import PAYLOAD_RECORDS, BatchHeader
from storage.config import LogConfig
from storage.log import Log
from tests.storage.forgetful import Crashed, ForgetfulFileSystem
from tests.storage.workload import IDENTITY, batches_of, open_log

CONFIG = LogConfig(segment_bytes=2000, index_interval_bytes=500)


def _append(log: Log, number: int, epoch: int = 1) -> bytes:
    payload = bytes([number]) * 700
    header = BatchHeader(0, 0, 1, 0, payload_crc=crc32c(payload), max_timestamp=number)
    log.append_as_leader(header, payload, PAYLOAD_RECORDS, leader_epoch=epoch, now_ms=number)
    return payload


def test_five_appends_with_a_roll_and_a_truncation_lose_nothing_synced_whatever_survives() -> None:
    cases = crash_at = 0
    while True:
        crash_at += 1
        fs = ForgetfulFileSystem(0, crash_at)
        # What may be there, oldest first, and how much of it must be.
        allowed: list[list[bytes]] = [[]]
        floor = 0
        try:
            log = open_log(fs, None, CONFIG)
            for number in (1, 2, 3, 4):
                # The third batch opens a new segment.
                allowed = [[*allowed[-1], bytes([number]) * 700]]
                _append(log, number)
                if number == 1:
                    ticket = log.begin_sync()
                    assert ticket is not None
                    ticket.run()
                    log.complete_sync(ticket)
                    floor = 1
            allowed = [allowed[-1], allowed[-1][:1]]
            log.truncate_to(1)
            allowed = [[*allowed[-1], bytes([5]) * 700]]
            _append(log, 5, epoch=2)
        except Crashed:
            pass
        for after in fs.every_power_loss():
            cases += 1
            found = open_log(after, floor or None, CONFIG)
            payloads = [data[-700:] for _, _, _, data in batches_of(found)]
            assert found.damaged_at is None, found.recovery
            assert len(payloads) >= floor
            assert any(payloads == full[: len(payloads)] for full in allowed), (crash_at, fs.trace[-1])
        if fs.operations < crash_at:
            break
    assert cases > 2000


def test_a_segment_that_was_cut_off_never_comes_back() -> None:
    """Filled up again to where the removed segment began, the log must not find its old batches there: they would be
    a complete but bad continuation, which in the raft log is damage."""
    fs = ForgetfulFileSystem()
    log = open_log(fs, None, CONFIG)
    for number in (1, 2, 3):
        _append(log, number)
    ticket = log.begin_sync()
    assert ticket is not None
    ticket.run()
    log.complete_sync(ticket)
    assert log.segment_count == 2
    log.truncate_to(1)
    _append(log, 4, epoch=2)
    for after in fs.every_power_loss():
        assert "00000000000000000002.log" not in after.listdir("/data/log")
        found = Log.open(after, "/data/log", IDENTITY, 0, CONFIG, now_ms=1, recovery_point=3, complete_is_damage=False)
        assert [data[-700] for _, _, _, data in batches_of(found)] in ([1], [1, 4])
        assert found.damaged_at is None
