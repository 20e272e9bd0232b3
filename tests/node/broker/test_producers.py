"""Idempotent producers: by example and against the full history (invariants.md 2.5)."""

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.broker.producers import BATCHES_REMEMBERED, KEPT_MS, UNCOMMITTED_MAX, ProducerTable
from node.limits import PRODUCERS_MAX
from ottla.protocol.batch import ATTR_LOG_APPEND_TIME, BatchHeader
from ottla.protocol.errors import ApiError
from ottla.v1 import error_pb2 as pb


def header(sequence: int, count: int = 1, *, producer: int = 7, epoch: int = 0, **fields: int) -> BatchHeader:
    return BatchHeader(
        base_offset=0,
        leader_epoch=0,
        record_count=count,
        last_offset_delta=count - 1,
        producer_id=producer,
        producer_epoch=epoch,
        base_sequence=sequence,
        **fields,
    )


class Log:
    """Appends what the table lets through."""

    def __init__(self) -> None:
        self.table = ProducerTable()
        self.end = 0
        self.batches: list[BatchHeader] = []
        self.mark = 0

    def send(self, batch: BatchHeader, now_ms: int = 0) -> int:
        """The offset where the batch is, new or not."""
        stored = self.table.check(batch)
        if stored is not None:
            return stored.base_offset
        base = self.end
        self.table.appended(batch, base, now_ms, self.mark)
        self.end += batch.last_offset_delta + 1
        self.batches.append(batch)
        return base

    def refused(self, batch: BatchHeader) -> int:
        with pytest.raises(ApiError) as refusal:
            self.send(batch)
        return refusal.value.code


def test_batches_follow_each_other_by_sequence() -> None:
    log = Log()
    assert [log.send(header(0, 3)), log.send(header(3)), log.send(header(4, 2))] == [0, 3, 4]


def test_a_never_written_partition_accepts_only_sequence_0() -> None:
    # KAFKA-15591: the first batch failed with not-leader, the second was accepted because no state meant anything goes.
    log = Log()
    assert log.refused(header(17)) == pb.ERROR_CODE_OUT_OF_ORDER_SEQUENCE_NUMBER
    log.send(header(0, producer=8))
    assert log.refused(header(17)) == pb.ERROR_CODE_OUT_OF_ORDER_SEQUENCE_NUMBER


@pytest.mark.parametrize("back", range(1, 6))
def test_any_of_the_last_five_batches_may_be_sent_again(back: int) -> None:
    # redpanda 3038: a window of one batch.
    log = Log()
    offsets = [log.send(header(index)) for index in range(10)]
    assert log.send(header(10 - back)) == offsets[10 - back]
    assert log.end == 10


def test_an_older_duplicate_is_told_apart_from_a_gap() -> None:
    log = Log()
    for index in range(10):
        log.send(header(index))
    assert log.refused(header(4)) == pb.ERROR_CODE_DUPLICATE_SEQUENCE_NUMBER
    assert log.refused(header(0)) == pb.ERROR_CODE_DUPLICATE_SEQUENCE_NUMBER
    assert log.refused(header(11)) == pb.ERROR_CODE_OUT_OF_ORDER_SEQUENCE_NUMBER


def test_nothing_was_stored_before_the_first_batch() -> None:
    log = Log()
    log.send(header(0))
    assert log.refused(header(2**31 - 1)) == pb.ERROR_CODE_OUT_OF_ORDER_SEQUENCE_NUMBER
    assert log.refused(header(2**31 - 3, 3)) == pb.ERROR_CODE_OUT_OF_ORDER_SEQUENCE_NUMBER


@pytest.mark.parametrize("ahead", [2**30 - 1, 2**30, 2**30 + 1, 2**31 - 20, 2**31 - 10])
@pytest.mark.parametrize("start", [0, 50, 2**30, 2**31 - 30])
def test_nothing_ahead_is_ever_called_stored(start: int, ahead: int) -> None:
    # Told "stored before", a producer drops the batch: that must be true.
    log = Log()
    log.table.appended(header(0, 2), 0, 0, 0)
    log.table.appended(header(start, 10), 2, 0, 0)
    for at in range(5):
        log.table.appended(header((start + 10 + at) % 2**31), 12 + at, 0, 0)
    sequence = (start + 15 + ahead) % 2**31
    known = 0 <= start + 10 - (sequence + 3) < 2**30  # used in this epoch: it started at 0
    batch = header(sequence, 3)
    wanted = pb.ERROR_CODE_DUPLICATE_SEQUENCE_NUMBER if known else pb.ERROR_CODE_OUT_OF_ORDER_SEQUENCE_NUMBER
    assert log.refused(batch) == wanted


def test_a_batch_whose_numbers_wrap_is_not_behind() -> None:
    log = Log()
    for index in range(10):
        log.send(header(index))
    assert log.refused(header(2**31 - 3, 5)) == pb.ERROR_CODE_OUT_OF_ORDER_SEQUENCE_NUMBER


def test_a_batch_that_overlaps_a_stored_one_is_out_of_order() -> None:
    log = Log()
    log.send(header(0, 3))
    log.send(header(3, 3))
    assert log.refused(header(3, 2)) == pb.ERROR_CODE_OUT_OF_ORDER_SEQUENCE_NUMBER
    assert log.refused(header(4, 4)) == pb.ERROR_CODE_OUT_OF_ORDER_SEQUENCE_NUMBER


def test_an_older_epoch_is_fenced_and_a_newer_one_starts_at_0() -> None:
    log = Log()
    log.send(header(0, epoch=3))
    assert log.refused(header(1, epoch=2)) == pb.ERROR_CODE_INVALID_PRODUCER_EPOCH
    assert log.refused(header(1, epoch=4)) == pb.ERROR_CODE_OUT_OF_ORDER_SEQUENCE_NUMBER
    log.send(header(0, epoch=4))
    assert log.refused(header(1, epoch=3)) == pb.ERROR_CODE_INVALID_PRODUCER_EPOCH


def test_sequences_wrap_around() -> None:
    log = Log()
    last = 2**31 - 1
    log.table.appended(header(last - 1, 2), 0, 0, 0)
    assert log.send(header(0)) == 0
    log.end = 2
    assert log.table.check(header(1)) is None
    assert log.refused(header(last - 9)) == pb.ERROR_CODE_DUPLICATE_SEQUENCE_NUMBER


def test_a_duplicate_answers_the_stored_time() -> None:
    table = ProducerTable()
    table.appended(header(0, max_timestamp=1234, attributes=ATTR_LOG_APPEND_TIME), 5, 0, 0)
    stored = table.check(header(0, max_timestamp=9999, attributes=ATTR_LOG_APPEND_TIME))
    assert stored is not None
    assert (stored.base_offset, stored.timestamp_ms) == (5, 1234)


def test_expiry_goes_by_the_last_write() -> None:
    log = Log()
    log.send(header(0, producer=1), 0)
    log.send(header(0, producer=2), 100)
    log.send(header(1, producer=1), 200)
    assert log.table.expire(1100, 1000) == 0
    assert log.table.expire(1101, 1000) == 1
    assert log.refused(header(1, producer=2)) == pb.ERROR_CODE_OUT_OF_ORDER_SEQUENCE_NUMBER
    log.send(header(2, producer=1))


def test_the_table_is_bounded_and_the_least_recently_written_goes_first() -> None:
    table = ProducerTable()
    for producer in range(1, PRODUCERS_MAX + 11):
        table.appended(header(0, producer=producer), producer, 0, 0)
    assert len(table) == PRODUCERS_MAX
    assert table.check(header(0, producer=PRODUCERS_MAX)) is not None
    assert table.check(header(0, producer=1)) is None, "forgotten: as if it were new"


def test_who_writes_is_not_pushed_out_by_newcomers() -> None:
    table = ProducerTable()
    for producer in range(1, PRODUCERS_MAX + 1):
        table.appended(header(0, producer=producer), producer, 1000, 0)
    table.check_room(7, 1000)  # known: it needs no room
    with pytest.raises(ApiError) as refusal:
        table.check_room(PRODUCERS_MAX + 1, 1000 + KEPT_MS - 1)
    assert refusal.value.code == pb.ERROR_CODE_THROTTLING_QUOTA_EXCEEDED
    assert refusal.value.retriable
    table.appended(header(1, producer=1), PRODUCERS_MAX + 1, 1000 + KEPT_MS, 0)
    table.check_room(PRODUCERS_MAX + 1, 1000 + KEPT_MS)  # number 2 is idle by now
    table.appended(header(0, producer=PRODUCERS_MAX + 1), PRODUCERS_MAX + 2, 1000 + KEPT_MS, 0)
    assert table.check(header(1, producer=1)) is not None
    assert table.check(header(2, producer=1)) is None


def test_a_truncation_takes_what_was_written_after_it() -> None:
    log = Log()
    for index in range(4):
        log.send(header(index))
    assert not log.table.truncated(2)
    assert log.table.check(header(2)) is None
    assert log.table.check(header(1)) is not None


def test_a_cut_of_all_that_is_not_committed_leaves_each_producers_last_batch_before_it() -> None:
    """Also of one that was trimmed since, of an epoch before, or behind many that are cut."""
    log = Log()
    log.mark = 3
    for index in range(3):
        log.send(header(index))
    log.send(header(0, epoch=1))
    for index in range(1, 20):
        log.send(header(index, epoch=1))
    assert log.table.truncated(3) == set()
    assert log.table.check(header(3)) is None
    assert log.refused(header(4)) == pb.ERROR_CODE_OUT_OF_ORDER_SEQUENCE_NUMBER
    assert log.table.check(header(0, epoch=1)) is None


def test_what_a_cut_leaves_outlives_a_restart() -> None:
    log = Log()
    log.mark = 3
    for index in range(3):
        log.send(header(index))
    for index in range(10):
        log.send(header(index, epoch=1))
    log.table = ProducerTable.restore(log.table.snapshot(0), 0)
    assert log.table.truncated(3) == set()
    assert log.table.check(header(3)) is None


def test_a_cut_that_takes_all_of_a_new_producer_forgets_it() -> None:
    log = Log()
    log.send(header(0))
    assert log.table.truncated(0) == set()
    assert len(log.table) == 0


def test_a_producer_of_whom_too_much_is_cut_is_to_be_read_from_the_log() -> None:
    log = Log()
    for index in range(UNCOMMITTED_MAX + 3):
        log.send(header(index))
    log.send(header(0, producer=8))
    assert log.table.truncated(2) == {7}, "batches 0 and 1 are in the log, but no longer in the table"
    assert len(log.table) == 0


def test_little_is_remembered_of_what_is_committed() -> None:
    log = Log()
    for index in range(100):
        log.mark = log.end
        log.send(header(index))
    (_, _, _, batches), *_ = log.table.snapshot(0)["producers"]
    assert len(batches) == BATCHES_REMEMBERED


@pytest.mark.parametrize("content", [{}, {"end_offset": 1}, {"end_offset": 1, "producers": [[1, 2, 3, []]]}])
def test_a_snapshot_that_makes_no_sense_is_refused(content: dict[str, object]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        ProducerTable.restore(content, 0)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 2), st.integers(0, 12), st.integers(1, 3)), max_size=40), st.data())
def test_equals_the_full_history(sends: list[tuple[int, int, int]], data: st.DataObject) -> None:
    """Whatever is sent, the log holds each producer's sequences without gap or repetition; restarts from a snapshot
    and the log's rest, or from the log alone, change no answer."""
    log = Log()
    for producer, sequence, count in sends:
        history = [batch for batch in log.batches if batch.producer_id == producer]
        expected = sum(batch.record_count for batch in history)
        batch = header(sequence, count, producer=producer)
        if data.draw(st.booleans()):
            log.table = _restarted(log, data.draw(st.integers(0, len(log.batches))))
        repeated = [old for old in history[-5:] if (old.base_sequence, old.record_count) == (sequence, count)]
        if sequence == expected:
            log.send(batch)
        elif repeated:
            before = log.end
            log.send(batch)
            assert log.end == before
        else:
            log.refused(batch)


def _restarted(log: Log, covered: int) -> ProducerTable:
    """As after a restart: a snapshot over the first batches, then a replay of the others."""

    def stored() -> Iterator[BatchHeader]:
        offset = 0
        for batch in log.batches:
            yield BatchHeader(
                offset,
                0,
                batch.record_count,
                batch.last_offset_delta,
                producer_id=batch.producer_id,
                base_sequence=batch.base_sequence,
            )
            offset += batch.record_count

    batches = list(stored())
    first = ProducerTable()
    first.replay(batches[:covered], batches[covered - 1].next_offset if covered else 0, 0, 0)
    table = ProducerTable.restore(first.snapshot(0), 0)
    table.replay(batches[covered:], log.end, 0, 0)
    return table
