"""What look-ups and reads cost, in bytes read: bounded by the index interval and one batch, however long the log."""

import random

import pytest

from ottla.protocol.batch import PAYLOAD_RECORDS, BatchHeader
from storage.config import LogConfig
from storage.log import Log
from tests.storage.forgetful import ForgetfulFile, ForgetfulFileSystem
from tests.storage.workload import open_log

INTERVAL = 4096
CONFIG = LogConfig(segment_bytes=1 << 30, index_interval_bytes=INTERVAL)
HEADER_ROOM = 64  # to see where a batch ends, the first bytes of its header are read


@pytest.fixture
def read_bytes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The length of every read of a file since it was last cleared."""
    lengths: list[int] = []
    pread = ForgetfulFile.pread

    def counted(self: ForgetfulFile, length: int, position: int) -> bytes:
        data = pread(self, length, position)
        lengths.append(len(data))
        return data

    monkeypatch.setattr(ForgetfulFile, "pread", counted)
    return lengths


def fill(log: Log, rng: random.Random, total_bytes: int, largest: int, times: bool = False) -> list[tuple[int, int]]:
    """Appends batches of many sizes; returns (base offset, timestamp) of each."""
    made = []
    while log.size_bytes < total_bytes:
        at_ms = rng.randrange(1_000_000) if times else log.size_bytes
        header = BatchHeader(0, 0, 3, 2, base_timestamp=at_ms, max_timestamp=at_ms)
        payload = bytes(rng.randint(1, largest))
        made.append((log.log_end_offset, at_ms))
        log.append_as_leader(header, payload, PAYLOAD_RECORDS, leader_epoch=1, now_ms=1)
    return made


@pytest.mark.parametrize("largest", [100, 1000, 20_000])
def test_a_read_anywhere_reads_no_more_than_the_interval_and_a_batch_too_much(
    read_bytes: list[int], largest: int
) -> None:
    rng = random.Random(largest)
    log = open_log(ForgetfulFileSystem(), None, CONFIG)
    fill(log, rng, 1 << 20, largest)
    batch = largest + 120
    for _ in range(300):
        offset, limit = rng.randrange(log.log_end_offset), rng.choice((1, 5000, 60_000, 1 << 20))
        read_bytes.clear()
        piece = log.read(offset, limit, log.log_end_offset, min_one=True)
        assert sum(read_bytes) - len(piece.data) <= INTERVAL + batch + 2 * HEADER_ROOM
        assert len(piece.data) <= max(limit, batch)
        assert len(piece.data) >= min(limit, log.size_bytes // 4) - INTERVAL - 2 * batch or (
            piece.next_offset == log.log_end_offset
        )
        end = rng.randint(offset, log.log_end_offset)
        read_bytes.clear()
        piece = log.read(offset, limit, end, min_one=True)
        assert sum(read_bytes) - len(piece.data) <= 2 * (INTERVAL + HEADER_ROOM) + batch, "the high watermark is near"
        assert piece.next_offset <= end


def test_reading_on_looks_nothing_up(read_bytes: list[int]) -> None:
    log = open_log(ForgetfulFileSystem(), None, CONFIG)
    fill(log, random.Random(1), 1 << 20, 1000)
    offset, sizes = 0, 0
    read_bytes.clear()
    while offset < log.log_end_offset:
        piece = log.read(offset, 64 * 1024, log.log_end_offset, min_one=True)
        offset, sizes = piece.next_offset, sizes + len(piece.data)
    assert sum(read_bytes) == sizes == log.size_bytes


@pytest.mark.parametrize("ordered", [True, False])
def test_a_look_up_by_time_costs_two_intervals_wherever_the_log_was_trimmed(
    read_bytes: list[int], ordered: bool
) -> None:
    rng = random.Random(ordered)
    log = open_log(ForgetfulFileSystem(), None, CONFIG)
    made = fill(log, rng, 1 << 20, 600, times=not ordered)
    for _ in range(100):
        # The trimmed part holds the largest times of all: they must neither be found nor sought.
        log.advance_log_start(min(log.log_start_offset + rng.randrange(60), made[-1][0]))
        at_ms, end = rng.randrange(1_000_000), log.log_end_offset - rng.randrange(200)
        live = [(base, ms) for base, ms in made if base + 2 >= log.log_start_offset and base < end]
        read_bytes.clear()
        found = log.offset_for_time(at_ms, end)
        assert (None if found is None else found.base_offset) == next((base for base, ms in live if ms >= at_ms), None)
        assert sum(read_bytes) <= 8 * INTERVAL
        read_bytes.clear()
        whole = [ms for base, ms in live if base + 3 <= end]
        assert log.max_timestamp(end) == max(whole, default=-1)
        assert sum(read_bytes) <= 16 * INTERVAL
