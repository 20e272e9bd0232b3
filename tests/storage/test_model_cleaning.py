"""Compaction and retention beside naive versions of both: lists of records, and a rule applied to one segment after
the other."""

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from storage.config import LogConfig
from storage.retention import deletable
from tests.storage.forgetful import ForgetfulFileSystem
from tests.storage.test_compaction import Kept, append, compress, decompress, records_of, sync
from tests.storage.workload import open_log

LIFE_MS = 500
CONFIG = LogConfig(
    segment_bytes=900,
    index_interval_bytes=200,
    retention_ms=2000,
    cleanup_policy=frozenset({"compact", "delete"}),
    min_cleanable_dirty_ratio=0.01,
    delete_retention_ms=LIFE_MS,
    file_delete_delay_ms=0,
)
KEYS = st.sampled_from([b"a", b"b", b"c", b"d"])


class CleaningAgainstList(RuleBasedStateMachine):
    """A topic with compact,delete. `seen`: when a tombstone was appended, by its offset."""

    def __init__(self) -> None:
        super().__init__()
        self.fs = ForgetfulFileSystem()
        self.log = open_log(self.fs, None, CONFIG)
        self.history: list[Kept] = []
        self.seen: dict[int, int] = {}
        self.now_ms = 1000
        self.high_watermark = 0

    @rule(records=st.lists(st.tuples(KEYS, st.none() | st.binary(min_size=1, max_size=200)), min_size=1, max_size=4))
    def append(self, records: list[tuple[bytes, bytes | None]]) -> None:
        base = self.log.log_end_offset
        append(self.log, records, now_ms=self.now_ms)
        for place, (key, value) in enumerate(records):
            self.history.append(Kept(base + place, key, value, self.now_ms + place))
            self.seen[base + place] = self.now_ms

    @rule(back=st.integers(0, 6), buffer=st.sampled_from((200, 400, 1 << 20)), meanwhile=st.booleans())
    def compact(self, back: int, buffer: int, meanwhile: bool) -> None:
        sync(self.log)
        self.high_watermark = max(self.high_watermark, self.log.log_end_offset - back)
        run = self.log.begin_compaction(self.now_ms, self.high_watermark, buffer)
        if run is None:
            return
        if meanwhile:
            self.append([(b"a", b"meanwhile")])
        run.run(decompress, compress)
        self.log.complete_compaction(run)

    @rule(later=st.integers(0, 900))
    def time_passes(self, later: int) -> None:
        self.now_ms += later

    @rule()
    def retain(self) -> None:
        before = self.log.log_start_offset
        self.log.apply_retention(self.now_ms, self.high_watermark)
        self.log.delete_expired_files(self.now_ms)
        gone = [r for r in self.history if before <= r.offset < self.log.log_start_offset]
        assert all(self.now_ms - r.timestamp > 2000 for r in gone)

    @rule()
    def restart(self) -> None:
        start = self.log.log_start_offset
        self.log.close()
        self.fs = self.fs.kill()
        self.log = open_log(self.fs, None, CONFIG)
        assert (self.log.recovery.clean, self.log.log_start_offset) == (True, start)

    @invariant()
    def every_key_has_its_last_value(self) -> None:
        found = records_of(self.log)
        assert [r.offset for r in found] == sorted({r.offset for r in found})
        assert set(found) <= set(self.history)
        there = {r.offset for r in found}
        last = {r.key: r for r in self.history}
        for record in last.values():
            if record.offset < self.log.log_start_offset or record.offset in there:
                continue
            assert record.value is None, "the last value of a key is gone"
            assert self.now_ms - self.seen[record.offset] >= LIFE_MS, "a tombstone went before its time"
        untouched = [r.offset for r in self.history if r.offset >= self.high_watermark]
        assert there.issuperset(untouched), "compacted above the high watermark"

    def teardown(self) -> None:
        self.log.close()
        assert self.fs.open_files == 0


TestCleaningAgainstList = CleaningAgainstList.TestCase
TestCleaningAgainstList.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)


@dataclass
class Sized:
    """As much of a segment as retention looks at."""

    next_offset: int
    size_bytes: int
    max_timestamp: int


@given(
    st.lists(st.tuples(st.integers(1, 5), st.integers(0, 100), st.integers(0, 100)), min_size=1, max_size=8),
    st.sampled_from((-1, 0, 30, 200)),
    st.sampled_from((-1, 0, 50)),
    st.sampled_from(
        (frozenset[str](), frozenset({"delete"}), frozenset({"compact"}), frozenset({"compact", "delete"}))
    ),
    st.integers(0, 40),
    st.integers(0, 40),
)
@settings(max_examples=400, deadline=None)
def test_retention_drops_what_the_rule_drops_one_segment_after_the_other(
    shapes: list[tuple[int, int, int]],
    retention_bytes: int,
    retention_ms: int,
    policy: frozenset[str],
    high_watermark: int,
    log_start: int,
) -> None:
    segments, end = [], 0
    for number, (count, size, newest) in enumerate(shapes):
        size = size if number == len(shapes) - 1 else max(size, 1)
        end += count if size else 0
        segments.append(Sized(end, size, newest if size else -1))
    config = LogConfig(retention_bytes=retention_bytes, retention_ms=retention_ms, cleanup_policy=policy)
    left = list(segments)
    while left:
        oldest, active = left[0], len(left) == 1
        reasons = [oldest.next_offset <= log_start]
        if "delete" in policy:
            if retention_ms != -1:
                reasons.append(100 - oldest.max_timestamp > retention_ms)
            if retention_bytes != -1 and not active:
                reasons.append(sum(segment.size_bytes for segment in left[1:]) >= retention_bytes)
        if not any(reasons) or oldest.next_offset > high_watermark or (active and oldest.size_bytes == 0):
            break
        left.pop(0)
    found = deletable(
        segments,  # type: ignore[arg-type]
        config,
        now_ms=100,
        high_watermark=high_watermark,
        log_start_offset=log_start,
    )
    assert found == len(segments) - len(left)
