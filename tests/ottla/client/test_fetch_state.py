"""What a consumer decides about one partition."""

import pytest

from ottla.client.errors import CorruptRecords, LogTruncation, OffsetOutOfRange, OttlaError
from ottla.client.fetch_state import CORRUPT_READS_MAX, Chunk, PartitionState
from ottla.client.records import TopicPartition
from ottla.v1 import error_pb2 as pb
from tests.ottla.client.batches import TOPIC_ID, data, divergence, refusal, stored


def reading(offset: int = 0, policy: str = "earliest") -> PartitionState:
    state = PartitionState(TopicPartition("t", 0), TOPIC_ID, policy)
    state.set_leader(1, 5)
    state.seek(offset)
    begin(state)
    return state


def begin(state: PartitionState, now_ms: int = 0) -> None:
    assert state.wants_fetch(now_ms)
    state.added_to = "a stream"
    state.fetch_request(1, 1000)


def values(state: PartitionState, chunk: Chunk | None) -> list[int]:
    assert chunk is not None
    return [int(record.value or b"") for record in state.records(chunk)]


def numbers(first: int, count: int, epoch: int = 5) -> bytes:
    return stored([b"%d" % i for i in range(first, first + count)], first, epoch=epoch)


def test_data_moves_the_position_as_it_is_handed_out() -> None:
    state = reading()
    chunk = state.take(data(numbers(0, 3), numbers(3, 3), next_offset=6, epoch=5), 0)
    assert (state.position, state.fetch_offset, state.fetched_epoch) == (0, 6, 5)
    assert chunk is not None
    records = state.records(chunk)
    assert [next(records).offset, next(records).offset] == [0, 1]
    assert state.position == 2
    assert [r.offset for r in records] == [2, 3, 4, 5]
    assert state.position == 6


def test_a_gap_left_by_compaction_is_passed() -> None:
    state = reading()
    chunk = state.take(data(stored([b"1"], 0, deltas=[1]), next_offset=9), 0)
    assert values(state, chunk) == [1]
    assert state.position == 9


def test_a_seek_makes_what_is_buffered_stale() -> None:
    state = reading()
    chunk = state.take(data(numbers(0, 3), next_offset=3), 0)
    assert chunk is not None
    records = state.records(chunk)
    next(records)
    state.seek(100)
    assert list(records) == []
    assert state.position == 100
    assert list(state.records(chunk)) == []
    request = state.fetch_request(2, 10)
    assert (request.offset, request.seek_id, request.HasField("last_fetched_epoch")) == (100, 2, False)


def test_a_new_leader_is_told_how_far_and_in_which_epoch() -> None:
    state = reading()
    state.take(data(numbers(0, 3), next_offset=3, epoch=5), 0)
    state.set_leader(2, 6)
    begin(state)
    request = state.fetch_request(3, 10)
    assert (request.offset, request.current_leader_epoch, request.last_fetched_epoch) == (3, 6, 5)
    state.set_leader(1, 5)
    assert state.leader_id == 2


def test_truncated_records_that_the_user_saw_are_an_error_with_the_way_out() -> None:
    state = reading()
    chunk = state.take(data(numbers(0, 10), next_offset=10, epoch=5), 0)
    assert values(state, chunk) == list(range(10))
    assert state.take(divergence(4, 7), 0) is None
    assert isinstance(state.error, LogTruncation)
    assert (state.error.offset, state.error.safe_offset) == (10, 7)
    assert not state.wants_fetch(0)
    state.seek(7)
    assert state.wants_fetch(0)


def test_truncated_records_that_nobody_saw_are_read_again() -> None:
    state = reading()
    chunk = state.take(data(numbers(0, 10), next_offset=10, epoch=5), 0)
    assert chunk is not None
    records = state.records(chunk)
    assert [next(records).offset for _ in range(3)] == [0, 1, 2]
    state.take(divergence(4, 7), 0)
    assert state.error is None
    assert list(records) == []
    begin(state)
    assert state.fetch_request(2, 10).offset == 3


@pytest.mark.parametrize(("policy", "raises"), [("none", True), ("earliest", False), ("latest", False)])
def test_out_of_range_goes_by_the_policy(policy: str, raises: bool) -> None:
    state = reading(50, policy)
    result = refusal(pb.ERROR_CODE_OFFSET_OUT_OF_RANGE)
    result.log_start_offset, result.high_watermark = 10, 40
    state.take(result, 100)
    if raises:
        assert isinstance(state.error, OffsetOutOfRange)
        assert "10 to 40" in state.error.message
    else:
        assert (state.position, state.error) == (None, None)
        assert state.retry_at_ms > 100


def test_retriable_errors_back_off_and_end_with_data() -> None:
    state = reading()
    waits = []
    now_ms = 0
    for _ in range(8):
        state.take(refusal(pb.ERROR_CODE_LEADER_NOT_AVAILABLE), now_ms)
        waits.append(state.retry_at_ms - now_ms)
        assert not state.wants_fetch(now_ms)
        now_ms = state.retry_at_ms
        begin(state, now_ms)
    assert waits == [20, 40, 80, 160, 320, 640, 1000, 1000]
    state.take(data(next_offset=0), now_ms)
    state.take(refusal(pb.ERROR_CODE_LEADER_NOT_AVAILABLE), now_ms)
    assert state.retry_at_ms - now_ms == 20


def test_a_named_leader_is_asked_at_once() -> None:
    state = reading()
    state.take(refusal(pb.ERROR_CODE_NOT_LEADER_OR_FOLLOWER, leader=3, epoch=6), 0)
    assert (state.leader_id, state.leader_epoch) == (3, 6)
    assert state.wants_fetch(0)


def test_final_errors_reach_the_user() -> None:
    state = reading()
    state.take(refusal(pb.ERROR_CODE_TOPIC_AUTHORIZATION_FAILED), 0)
    assert isinstance(state.error, OttlaError)
    assert state.error.code == pb.ERROR_CODE_TOPIC_AUTHORIZATION_FAILED


def test_damage_is_read_again_and_then_reported() -> None:
    state = reading()
    bad = bytearray(numbers(0, 3))
    bad[-1] ^= 1
    for attempt in range(CORRUPT_READS_MAX):
        assert state.error is None, attempt
        chunk = state.take(data(bytes(bad), next_offset=3), 0)
        assert values(state, chunk) == []
        assert state.position == 0
        if attempt < CORRUPT_READS_MAX - 1:
            begin(state)
    assert isinstance(state.error, CorruptRecords)


def test_a_topic_created_anew_is_read_from_where_the_policy_says() -> None:
    state = reading(50)
    state.set_topic_id(b"j" * 16)
    assert (state.position, state.leader_id) == (None, None)
    strict = reading(50, "none")
    strict.set_topic_id(b"j" * 16)
    assert isinstance(strict.error, OffsetOutOfRange)
