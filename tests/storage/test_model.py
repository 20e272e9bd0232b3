"""The segmented log beside a list of batches: whatever Hypothesis does, both say the same."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ottla.protocol.batch import PAYLOAD_RECORDS, BatchHeader, read_batch
from storage.config import LogConfig
from storage.epochs import EpochTable
from storage.errors import OffsetOutOfRange
from tests.storage.forgetful import ForgetfulFileSystem
from tests.storage.workload import batches_of, open_log

CONFIG = LogConfig(segment_bytes=800, index_interval_bytes=150, retention_ms=50, file_delete_delay_ms=0)


class LogAgainstList(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.fs = ForgetfulFileSystem()
        self.log = open_log(self.fs, None, CONFIG)
        self.batches: list[tuple[int, int, int, int, bytes]] = []  # base, next, epoch, time, payload
        self.start = self.end = 0
        self.epoch = 1
        self.now_ms = 1000

    @rule(count=st.integers(1, 5), size=st.integers(0, 300), time_ms=st.integers(900, 1100), newer=st.integers(0, 3))
    def append(self, count: int, size: int, time_ms: int, newer: int) -> None:
        self.epoch += newer == 3
        payload = bytes([count]) * size
        header = BatchHeader(0, 0, count, count - 1, base_timestamp=time_ms, max_timestamp=time_ms)
        result = self.log.append_as_leader(
            header, payload, PAYLOAD_RECORDS, leader_epoch=self.epoch, now_ms=self.now_ms
        )
        assert (result.base_offset, result.last_offset) == (self.end, self.end + count - 1)
        self.batches.append((self.end, self.end + count, self.epoch, time_ms, payload))
        self.end += count

    @rule(back=st.integers(0, 12))
    def truncate(self, back: int) -> None:
        offset = max(self.start, self.end - back)
        self.log.truncate_to(offset)
        while self.batches and self.batches[-1][1] > offset:
            self.end = self.batches.pop()[0]
        self.start = min(self.start, self.end)

    @rule(forward=st.integers(0, 8))
    def trim(self, forward: int) -> None:
        self.start = min(self.start + forward, self.end)
        self.log.advance_log_start(self.start)

    @rule(later=st.integers(0, 100))
    def retain(self, later: int) -> None:
        self.now_ms += later
        self.log.apply_retention(self.now_ms, self.end)
        self.log.delete_expired_files(self.now_ms)
        assert self.start <= self.log.log_start_offset <= self.end
        for _, after, _, time_ms, _ in self.batches:
            if self.start < after <= self.log.log_start_offset:
                assert self.now_ms - time_ms > 50, "deleted before its time"
        self.start = self.log.log_start_offset

    @rule(clean=st.booleans())
    def reopen(self, clean: bool) -> None:
        start = self.log.log_start_offset
        self.log.close(clean)
        self.fs = self.fs.kill()
        self.log = open_log(self.fs, None, CONFIG)
        # A trim is remembered by the directory's checkpoint; without it the log may start lower again.
        assert self.log.log_start_offset <= start
        self.log.advance_log_start(start)
        assert self.log.recovery.clean == clean

    @rule(
        offset=st.integers(0, 60),
        size=st.integers(1, 900),
        back=st.integers(0, 10),
        min_one=st.booleans(),
        verify=st.booleans(),
    )
    def read(self, offset: int, size: int, back: int, min_one: bool, verify: bool) -> None:
        end = self.end - back
        if not self.start <= offset <= self.end:
            with pytest.raises(OffsetOutOfRange) as caught:
                self.log.read(offset, size, end, min_one=min_one)
            assert (caught.value.start, caught.value.end) == (self.start, self.end)
            return
        piece = self.log.read(offset, size, end, min_one=min_one, verify=verify)
        due = [batch for batch in self.batches if batch[1] > offset and batch[1] <= end]
        if not piece.data:
            first = self.log.read(offset, size, end, min_one=True).data
            assert not due or (not min_one and len(first) > size)
            assert piece.next_offset == offset
            return
        assert len(piece.data) <= size or min_one
        at = number = 0
        while at < len(piece.data):
            batch = read_batch(piece.data, at)
            assert batch is not None
            assert (batch.header.base_offset, bytes(batch.payload(piece.data)[1])) == (due[number][0], due[number][4])
            at, number = batch.end, number + 1
        assert len(piece.data) <= size or number == 1
        assert piece.next_offset == due[number - 1][1]

    @precondition(lambda self: self.batches)
    @rule(time_ms=st.integers(890, 1110))
    def look_up_time(self, time_ms: int) -> None:
        found = self.log.offset_for_time(time_ms, self.end)
        expected = next((b for b in self.batches if b[3] >= time_ms and b[1] > self.start), None)
        assert (found.base_offset if found else None) == (expected[0] if expected else None)

    @rule(back=st.integers(0, 12))
    def look_up_newest(self, back: int) -> None:
        end = max(self.start, self.end - back)
        times = [b[3] for b in self.batches if b[1] > self.start and b[1] <= end]
        assert self.log.max_timestamp(end) == max(times, default=-1)

    @invariant()
    def same(self) -> None:
        assert (self.log.log_start_offset, self.log.log_end_offset) == (self.start, self.end)
        kept = [batch for batch in self.batches if batch[1] > self.start]
        assert [(base, after, epoch) for base, after, epoch, _ in batches_of(self.log)] == [b[:3] for b in kept]
        table = EpochTable()
        for base, _, epoch, _, _ in kept:
            table.assign(epoch, max(base, self.start))
        if kept:
            assert self.log.epochs.entries() == table.entries()
        files = sum(self.fs.size(f"/data/log/{n}") for n in self.fs.listdir("/data/log") if n.endswith(".log"))
        assert self.log.size_bytes == files

    def teardown(self) -> None:
        self.log.close()
        assert self.fs.open_files == 0


TestLogAgainstList = LogAgainstList.TestCase
TestLogAgainstList.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
