"""The producer's decisions: single rules first, then whole histories against brokers that obey KIP-98."""

import tracemalloc
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.broker.producers import ProducerTable
from ottla.client.codecs import decompress
from ottla.client.encode import record_size_max
from ottla.client.errors import ConfigError, DeliveryFailed
from ottla.client.producer_batch import Batch, Delivery
from ottla.client.producer_queue import Leader
from ottla.client.producer_state import ProducerState
from ottla.client.settings import ProducerSettings
from ottla.protocol.batch import BatchHeader
from ottla.protocol.errors import ApiError
from ottla.v1 import error_pb2 as pb
from ottla.v1.data_pb2 import ProduceResult
from ottla.v1.record_pb2 import Records

TOPIC_ID = b"t" * 16


def state_with(partitions: int = 1, **changes: object) -> ProducerState:
    state = ProducerState(ProducerSettings(**{"linger_ms": 5, **changes}), Random(1))  # type: ignore[arg-type]
    state.start_epoch(1, 0)
    state.on_metadata("t", TOPIC_ID, [Leader(1, 0)] * partitions, 0)
    return state


def put(state: ProducerState, value: bytes, now_ms: int, partition: int = 0) -> Batch:
    size = len(value) + 26
    queue = state.topics["t"].queues[partition]
    batch = state.open_batch(queue, size) or state.new_batch(queue, 1, now_ms)
    batch.add(None, value, b"", 1, size)
    state.buffered_bytes += size
    return batch


def sent(state: ProducerState, now_ms: int) -> list[Batch]:
    return [batch for transmit in state.poll(now_ms).transmits for batch in transmit.batches]


def answer(state: ProducerState, batch: Batch, code: int = 0, now_ms: int = 0, **facts: object) -> list[Batch]:
    result = ProduceResult(base_offset=batch.sequence)
    if code:
        result.error.CopyFrom(ApiError(code, "told so", **facts).to_proto())  # type: ignore[arg-type]
    return state.on_result(batch, batch.attempt, result, now_ms)


def one_by_one(state: ProducerState, count: int, now_ms: int = 0) -> list[Batch]:
    """So many batches of one record, each sent."""
    state.flushing += 1
    batches = []
    for index in range(count):
        batches.append(put(state, b"%d" % index, now_ms))
        assert sent(state, now_ms) == batches[-1:]
    return batches


# -- batching ------------------------------------------------------------------------------------------------------


def test_a_batch_leaves_when_it_has_lingered_and_not_before():
    state = state_with(linger_ms=5)
    batch = put(state, b"a", now_ms=100)
    actions = state.poll(104)
    assert actions.transmits == []
    assert actions.next_poll_ms == 105
    assert sent(state, 105) == [batch]


def test_by_default_a_batch_waits_only_while_another_one_of_any_partition_is_on_its_way():
    state = state_with(2, linger_ms=None)
    first = put(state, b"a", now_ms=100)
    assert sent(state, 100) == [first]
    gathering = put(state, b"b", now_ms=101, partition=1)
    actions = state.poll(101)
    assert (actions.transmits, actions.next_poll_ms) == ([], 106)
    assert put(state, b"c", now_ms=102, partition=1) is gathering
    answer(state, first)
    assert sent(state, 103) == [gathering]
    late = put(state, b"d", now_ms=104)
    assert sent(state, 108) == []
    assert sent(state, 109) == [late]


def test_a_full_batch_leaves_at_once():
    state = state_with(batch_size=200)
    first = put(state, b"x" * 150, now_ms=100)
    second = put(state, b"x" * 150, now_ms=100)
    assert first is not second
    assert sent(state, 100) == [first]


def test_records_of_one_batch_share_it_until_it_is_full():
    state = state_with(batch_size=1000)
    assert put(state, b"a", 0) is put(state, b"b", 0)


def test_a_batch_names_its_latest_time_wherever_that_stands():
    state = state_with()
    batch = state.new_batch(state.topics["t"].queues[0], 3000, 0)
    for timestamp in (3000, 9000, 1000):
        batch.add(None, b"x", b"", timestamp, 27)
    header = batch.header(0, 1)
    assert (header.base_timestamp, header.max_timestamp, header.record_count) == (3000, 9000, 3)


def test_one_request_carries_one_batch_of_each_partition_and_stays_below_its_limit():
    state = state_with(partitions=3, batch_size=400_000, max_request_size=1_000_000)
    state.flushing += 1
    for partition in range(3):
        put(state, b"x" * 399_000, 0, partition)
        put(state, b"y" * 399_000, 0, partition)
    transmits = state.poll(0).transmits
    assert sum(len(t.batches) for t in transmits) == 6
    for transmit in transmits:
        places = [batch.partition for batch in transmit.batches]
        assert len(places) == len(set(places))
        assert sum(len(batch.payload or b"") for batch in transmit.batches) <= 1_000_000
    order = [b.sequence for t in transmits for b in t.batches if b.partition == 0]
    assert order == sorted(order)


def test_five_batches_are_in_flight_at_most():
    state = state_with()
    batches = one_by_one(state, 5)
    put(state, b"6", 0)
    assert sent(state, 0) == []
    answer(state, batches[0])
    assert [b.sequence for b in sent(state, 0)] == [5]


def test_nothing_is_sent_without_a_producer_id_except_with_acks_0():
    for acks, expected in ((-1, 0), (1, 0), (0, 1)):
        state = ProducerState(ProducerSettings(acks=acks), Random(1))
        state.on_metadata("t", TOPIC_ID, [Leader(1, 0)], 0)
        put(state, b"a", 0)
        actions = state.poll(10)
        assert len(actions.transmits) == expected
        assert actions.needs_producer_id is (acks != 0)


def test_a_batch_that_is_due_does_not_wake_a_producer_that_has_no_id_yet():
    state = ProducerState(ProducerSettings(delivery_timeout_ms=10_000), Random(1))
    state.on_metadata("t", TOPIC_ID, [Leader(1, 0)], 0)
    put(state, b"a", 0)
    assert state.poll(100).next_poll_ms == 10_000  # not 5, when its lingering was over: the loop would never rest


def test_what_waits_behind_a_retry_wakes_nobody():
    state = state_with(linger_ms=5)
    first, second = one_by_one(state, 2)
    answer(state, first, pb.ERROR_CODE_NOT_ENOUGH_REPLICAS, now_ms=1000)
    first.retry_at_ms = 2000
    answer(state, second, pb.ERROR_CODE_NOT_ENOUGH_REPLICAS, now_ms=1000)
    second.retry_at_ms = 1001
    put(state, b"open", 1000)
    assert state.poll(1500).next_poll_ms == 2000  # neither the second's retry nor the end of the lingering


def test_buffer_memory_counts_until_the_outcome():
    state = state_with(buffer_memory=1024 * 1024)
    batch = one_by_one(state, 1)[0]
    assert state.buffered_bytes > 0
    assert not state.has_room(1024 * 1024)
    answer(state, batch)
    assert state.buffered_bytes == 0
    assert state.has_room(1024 * 1024)


@pytest.mark.parametrize("size", [100, 1_000, 10_000])
def test_what_waits_takes_no_more_memory_than_buffer_memory_says(size):
    bound = 4 * 1024 * 1024
    state = state_with(buffer_memory=bound)
    queue = state.topics["t"].queues[0]
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        now_ms, needed = 1_700_000_000_000, record_size_max(None, b"x" * size, b"")
        while state.has_room(needed):
            now_ms += 1
            batch = state.open_batch(queue, needed) or state.new_batch(queue, now_ms, 0)
            batch.add(None, bytes(size), b"", now_ms, needed)
            state.buffered_bytes += needed
            if batch.size_bytes > 120_000:
                batch.seal(0)
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert taken < 1.1 * bound


# -- retries -------------------------------------------------------------------------------------------------------


def test_a_retriable_error_sends_the_same_sequence_after_the_back_off():
    state = state_with()
    batch = one_by_one(state, 1)[0]
    assert answer(state, batch, pb.ERROR_CODE_NOT_ENOUGH_REPLICAS, now_ms=1000) == []
    assert sent(state, 1001) == []
    assert sent(state, 1030) == [batch]
    assert (batch.sequence, batch.epoch, batch.attempt) == (0, 0, 2)


def test_a_named_leader_is_asked_at_once():
    state = state_with()
    batch = one_by_one(state, 1)[0]
    answer(state, batch, pb.ERROR_CODE_NOT_LEADER_OR_FOLLOWER, now_ms=50, leader=2, epoch=1)
    transmits = state.poll(50).transmits
    assert [(t.leader_id, t.batches) for t in transmits] == [(2, [batch])]


def test_a_new_leader_in_the_metadata_ends_what_is_in_flight_to_the_old_one():
    state = state_with()
    batches = one_by_one(state, 3)
    state.on_metadata("t", TOPIC_ID, [Leader(2, 1)], 60)
    transmits = state.poll(60).transmits
    assert [t.leader_id for t in transmits] == [2, 2, 2]
    assert [b for t in transmits for b in t.batches] == batches
    # The old leader's late answer decides nothing any more.
    assert state.on_result(batches[0], 1, ProduceResult(base_offset=99), 61) == []
    assert not batches[0].is_done


def test_every_attempt_is_for_the_leader_in_one_epoch():
    # A leader that was replaced without knowing it has an older log: its "out of order" must not count.
    state = state_with()
    batch = one_by_one(state, 1)[0]
    assert (batch.sent_to, batch.sent_epoch) == (1, 0)
    state.on_metadata("t", TOPIC_ID, [Leader(1, 3)], 60)
    answer(state, batch, pb.ERROR_CODE_FENCED_LEADER_EPOCH, now_ms=61, leader=1, epoch=3)
    assert [t.batches for t in state.poll(61).transmits] == [[batch]], "at once: the answer is to an older belief"
    assert (batch.sent_to, batch.sent_epoch) == (1, 3)


def test_older_metadata_is_ignored():
    state = state_with()
    state.on_metadata("t", TOPIC_ID, [Leader(2, 5)], 0)
    state.on_metadata("t", TOPIC_ID, [Leader(1, 4)], 0)
    assert state.topics["t"].queues[0].leader == Leader(2, 5)


def test_a_lost_connection_is_unknown_and_sent_again_in_order():
    state = state_with()
    batches = one_by_one(state, 3)
    for batch in batches:
        assert state.on_unknown(batch, batch.attempt, 10) == []
    seen: list[Batch] = []
    for now_ms in range(10, 400, 10):
        seen += sent(state, now_ms)
    assert seen == batches
    assert all(batch.maybe_written for batch in batches)


def test_an_overdue_answer_gives_up_the_connection():
    state = state_with(request_timeout_ms=5000)
    batch = one_by_one(state, 1)[0]
    assert state.poll(5999).abandoned == set()
    assert state.poll(6000).abandoned == {1}
    assert batch.maybe_written


def test_back_off_grows_to_its_limit():
    state = state_with(retry_backoff_ms=20, retry_backoff_max_ms=1000)
    batch = one_by_one(state, 1)[0]
    waits = []
    now_ms = 0
    for _ in range(9):
        answer(state, batch, pb.ERROR_CODE_LEADER_NOT_AVAILABLE, now_ms=now_ms)
        waits.append(batch.retry_at_ms - now_ms)
        now_ms = batch.retry_at_ms
        assert sent(state, now_ms) == [batch]
    assert 16 <= waits[0] <= 24
    assert 800 <= waits[-1] <= 1200
    assert max(waits) <= 1200


def test_the_server_may_ask_for_a_longer_pause():
    state = state_with()
    batch = one_by_one(state, 1)[0]
    answer(state, batch, pb.ERROR_CODE_THROTTLING_QUOTA_EXCEEDED, now_ms=0, retry_after_ms=700)
    assert batch.retry_at_ms >= 700


# -- sequences -----------------------------------------------------------------------------------------------------


def test_out_of_order_is_retried_unless_it_was_the_lowest():
    state = state_with()
    first, second = one_by_one(state, 2)
    answer(state, first, pb.ERROR_CODE_NOT_ENOUGH_REPLICAS, now_ms=0)
    assert answer(state, second, pb.ERROR_CODE_OUT_OF_ORDER_SEQUENCE_NUMBER, now_ms=0) == []
    assert sent(state, 1) == []  # the first waits for its back-off, the second behind it
    assert sent(state, 30) == [first, second]
    assert [b.epoch for b in (first, second)] == [0, 0]


def test_out_of_order_for_the_lowest_begins_a_new_epoch_for_this_partition_alone():
    state = state_with(partitions=2)
    state.flushing += 1
    here, there = put(state, b"a", 0, 0), put(state, b"b", 0, 1)
    assert sent(state, 0) == [here, there]
    answer(state, here, pb.ERROR_CODE_OUT_OF_ORDER_SEQUENCE_NUMBER, now_ms=0)
    assert sent(state, 30) == [here]
    assert (here.epoch, here.sequence) == (1, 0)
    assert (there.epoch, there.sequence) == (0, 0)


def test_a_refused_batch_fails_alone_and_its_followers_start_a_new_epoch():
    state = state_with()
    first, second, third = one_by_one(state, 3)
    assert answer(state, first, pb.ERROR_CODE_MESSAGE_TOO_LARGE) == [first]
    assert first.error is not None
    assert not first.error.maybe_written
    answer(state, second, pb.ERROR_CODE_OUT_OF_ORDER_SEQUENCE_NUMBER)
    assert sent(state, 0) == []  # the third is still on its way
    answer(state, third, pb.ERROR_CODE_OUT_OF_ORDER_SEQUENCE_NUMBER)
    assert sent(state, 0) == [second, third]
    assert [(b.epoch, b.sequence) for b in (second, third)] == [(1, 0), (1, 1)]


def test_a_refusal_in_the_middle_does_not_renumber_an_unknown_one_before_it():
    state = state_with()
    first, second, third = one_by_one(state, 3)
    state.on_unknown(first, 1, 0)
    answer(state, second, pb.ERROR_CODE_MESSAGE_TOO_LARGE)
    answer(state, third, pb.ERROR_CODE_OUT_OF_ORDER_SEQUENCE_NUMBER)
    assert sent(state, 30) == [first]
    assert (first.epoch, first.sequence) == (0, 0)
    answer(state, first)
    assert sent(state, 30) == [third]
    assert (third.epoch, third.sequence) == (1, 0)


def test_a_duplicate_is_success():
    state = state_with()
    batch = one_by_one(state, 1)[0]
    assert answer(state, batch, pb.ERROR_CODE_DUPLICATE_SEQUENCE_NUMBER) == [batch]
    assert batch.error is None
    assert batch.base_offset == -1


def test_a_forgotten_producer_does_not_risk_a_second_copy():
    state = state_with()
    batch = one_by_one(state, 1)[0]
    state.on_unknown(batch, 1, 0)
    assert sent(state, 30) == [batch]
    assert answer(state, batch, pb.ERROR_CODE_UNKNOWN_PRODUCER_ID) == [batch]
    assert batch.error is not None
    assert batch.error.maybe_written


# -- too large -----------------------------------------------------------------------------------------------------


def batch_of(state: ProducerState, first: int, count: int) -> Batch:
    for number in range(first, first + count):
        batch = put(state, b"%d" % number, 0)
    return batch


def values(batch: Batch) -> list[bytes]:
    plain = decompress(1, batch.payload or b"") if batch.payload and batch.payload[:2] == b"\x1f\x8b" else batch.payload
    return [record.value for record in Records.FromString(plain or b"").records]


@pytest.mark.parametrize("codec", ["none", "gzip"])
def test_a_batch_that_is_too_large_is_split_in_its_place(codec):
    state = state_with(compression_type=codec)
    state.flushing += 1
    batch = batch_of(state, 0, 5)
    assert sent(state, 0) == [batch]
    behind = batch_of(state, 5, 2)
    assert sent(state, 0) == [behind]
    delivery = Delivery(batch, 3)
    assert answer(state, behind, pb.ERROR_CODE_OUT_OF_ORDER_SEQUENCE_NUMBER) == []
    assert answer(state, batch, pb.ERROR_CODE_MESSAGE_TOO_LARGE) == [batch]
    assert not delivery.done()
    first, second, last = sent(state, 30)
    assert last is behind
    assert (values(first), values(second)) == ([b"0", b"1"], [b"2", b"3", b"4"])
    assert [(b.epoch, b.sequence, b.count) for b in (first, second, behind)] == [(0, 0, 2), (0, 2, 3), (0, 5, 2)]
    assert answer(state, first) == [first]
    assert answer(state, second) == [second]
    assert delivery.result().offset == 2 + 1
    assert answer(state, behind) == [behind]
    assert state.buffered_bytes == 0


def test_later_batches_are_as_large_as_what_was_taken():
    state = state_with()
    batch = batch_of(state, 0, 40)
    state.flushing += 1
    assert sent(state, 0) == [batch]
    answer(state, batch, pb.ERROR_CODE_MESSAGE_TOO_LARGE)
    half, _ = sent(state, 0)
    later = put(state, b"x" * (half.size_bytes // 2), 0)
    assert put(state, b"x" * half.size_bytes, 0) is not later


def test_a_record_that_is_too_large_fails_alone():
    state = state_with()
    state.flushing += 1
    batch = batch_of(state, 0, 3)
    assert sent(state, 0) == [batch]
    answer(state, batch, pb.ERROR_CODE_MESSAGE_TOO_LARGE)
    alone, pair = sent(state, 0)
    assert answer(state, alone, pb.ERROR_CODE_MESSAGE_TOO_LARGE) == [alone]
    assert alone.error is not None
    assert not alone.error.maybe_written
    answer(state, pair, pb.ERROR_CODE_OUT_OF_ORDER_SEQUENCE_NUMBER)
    assert sent(state, 30) == [pair]
    assert (pair.epoch, pair.sequence) == (1, 0)


def test_what_may_be_stored_is_not_split():
    state = state_with()
    state.flushing += 1
    batch = batch_of(state, 0, 3)
    assert sent(state, 0) == [batch]
    state.on_unknown(batch, 1, 0)
    assert sent(state, 30) == [batch]
    assert answer(state, batch, pb.ERROR_CODE_MESSAGE_TOO_LARGE) == [batch]
    assert batch.error is not None
    assert batch.error.maybe_written


def test_no_more_than_five_are_on_their_way_after_a_split():
    state = state_with()
    state.flushing += 1
    batches = []
    for first in range(0, 10, 2):
        batches.append(batch_of(state, first, 2))
        assert sent(state, 0) == batches[-1:]
    for batch in batches:
        answer(state, batch, pb.ERROR_CODE_MESSAGE_TOO_LARGE)
    actions = state.poll(0)
    flying = [batch for transmit in actions.transmits for batch in transmit.batches]
    assert [batch.sequence for batch in flying] == [0, 1, 2, 3, 4]
    assert state.poll(1).next_poll_ms > 1, "nothing can be done before an answer"
    answer(state, flying[0])
    assert [batch.sequence for batch in sent(state, 1)] == [5]


# -- giving up -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "maybe_written"),
    [
        (pb.ERROR_CODE_NOT_ENOUGH_REPLICAS, False),
        (pb.ERROR_CODE_NOT_ENOUGH_REPLICAS_AFTER_APPEND, True),
        (pb.ERROR_CODE_NOT_LEADER_OR_FOLLOWER, True),
        (pb.ERROR_CODE_REQUEST_TIMED_OUT, True),
        (pb.ERROR_CODE_LEADER_NOT_AVAILABLE, False),
    ],
)
def test_delivery_timeout_says_whether_it_may_have_been_written(code, maybe_written):
    state = state_with(delivery_timeout_ms=10_000)
    batch = one_by_one(state, 1)[0]
    answer(state, batch, code, now_ms=9_990)
    assert state.poll(9_999).completed == []
    assert state.poll(10_000).completed == [batch]
    assert isinstance(batch.error, DeliveryFailed)
    assert batch.error.maybe_written is maybe_written
    assert batch.error.code == (pb.ERROR_CODE_REQUEST_TIMED_OUT if maybe_written else code)
    assert "Next:" in str(batch.error)


def test_a_batch_that_was_never_sent_expires_too():
    state = state_with(delivery_timeout_ms=10_000)
    state.on_metadata("t", TOPIC_ID, [Leader(None, 1)], 0)
    batch = put(state, b"a", 0)
    actions = state.poll(10)
    assert (actions.transmits, actions.next_poll_ms) == ([], 10_000)
    assert state.poll(10_000).completed == [batch]
    assert batch.error is not None
    assert "no leader" in batch.error.message
    assert not batch.error.maybe_written


def test_a_deleted_topic_fails_what_was_meant_for_it():
    state = state_with()
    flying = one_by_one(state, 1)[0]
    assert state.on_topic_deleted("t") == [flying]
    assert flying.error is not None
    assert flying.error.maybe_written
    assert state.outstanding() == []


def test_a_topic_that_comes_back_never_reuses_a_sequence():
    state = state_with()
    answer(state, one_by_one(state, 1)[0])
    state.on_topic_deleted("t")
    state.on_metadata("t", TOPIC_ID, [Leader(1, 0)], 0)
    again = put(state, b"again", 0)
    assert sent(state, 0) == [again]
    assert (again.epoch, again.sequence) == (1, 0)


def test_a_topic_created_anew_starts_at_sequence_0():
    state = state_with()
    done, flying = one_by_one(state, 2)
    answer(state, done)
    state.on_metadata("t", b"n" * 16, [Leader(1, 0)], 10)
    assert sent(state, 10) == [flying]
    assert flying.sequence == 0
    assert flying.epoch == 1


def test_acks_0_is_not_retried():
    state = ProducerState(ProducerSettings(acks=0), Random(1))
    state.on_metadata("t", TOPIC_ID, [Leader(1, 0)], 0)
    batch = put(state, b"a", 0)
    assert sent(state, 10) == [batch]
    assert state.on_unknown(batch, 1, 11) == [batch]
    assert batch.error is not None


def test_settings_that_make_no_sense_are_refused():
    for wrong in (
        {"acks": 2},
        {"linger_ms": -1},
        {"batch_size": 0},
        {"delivery_timeout_ms": 1000},
        {"compression_type": "zip"},
        {"buffer_memory": 1000},
        {"max_request_size": 64 * 1024 * 1024},
    ):
        with pytest.raises(ConfigError):
            ProducerSettings(**wrong)  # type: ignore[arg-type]


# -- whole histories -----------------------------------------------------------------------------------------------


class Broker:
    """A partition that obeys KIP-98, with faults by a random source. What it logs is what counts."""

    def __init__(self) -> None:
        self.log: list[bytes] = []
        self.table = ProducerTable()

    def produce(self, batch: Batch, sequence: int, epoch: int, payload: bytes, count: int, fault: int) -> ProduceResult:
        if fault in (
            pb.ERROR_CODE_NOT_ENOUGH_REPLICAS,
            pb.ERROR_CODE_MESSAGE_TOO_LARGE,
            pb.ERROR_CODE_LEADER_NOT_AVAILABLE,
        ):
            return ProduceResult(base_offset=-1, error=ApiError(fault, "fault").to_proto())
        header = BatchHeader(
            base_offset=len(self.log),
            leader_epoch=0,
            record_count=count,
            last_offset_delta=count - 1,
            producer_id=1,
            producer_epoch=epoch,
            base_sequence=sequence,
        )
        try:
            stored = self.table.check(header)
        except ApiError as error:
            return ProduceResult(base_offset=-1, error=error.to_proto())
        if stored is None:
            self.log += [payload] * count
            self.table.appended(header, header.base_offset, 0, 0)
        if fault:
            return ProduceResult(base_offset=-1, error=ApiError(fault, "fault").to_proto())
        return ProduceResult(base_offset=stored.base_offset if stored else header.base_offset)


FAULTS = [
    pb.ERROR_CODE_NOT_ENOUGH_REPLICAS,
    pb.ERROR_CODE_NOT_ENOUGH_REPLICAS_AFTER_APPEND,
    pb.ERROR_CODE_REQUEST_TIMED_OUT,
    pb.ERROR_CODE_NOT_LEADER_OR_FOLLOWER,
    pb.ERROR_CODE_MESSAGE_TOO_LARGE,
    pb.ERROR_CODE_LEADER_NOT_AVAILABLE,
]
Wire = tuple[Batch, int, int, int, bytes, int]


def leaves(batch: Batch) -> list[Batch]:
    """What it was split into, or itself."""
    if batch.halves is None:
        return [batch]
    return [leaf for half in batch.halves for leaf in leaves(half)]


def run_history(rng: Random, *, steps: int) -> None:
    """Random sends, answers, faults, lost connections and leader changes, then a calm end; the log must then hold each
    acknowledged record once, in order, and none that certainly failed."""
    partitions = 2
    state = state_with(partitions, delivery_timeout_ms=20_000, request_timeout_ms=2_000, linger_ms=3)
    brokers = [Broker() for _ in range(partitions)]
    to_broker: list[Wire] = []
    to_client: list[tuple[Batch, int, ProduceResult]] = []
    batches: list[Batch] = []
    contents: dict[int, bytes] = {}
    now_ms = leader_epoch = counter = 0

    def poll() -> None:
        for transmit in state.poll(now_ms).transmits:
            for batch in transmit.batches:
                # The bytes leave now: a later renumbering must not change what is on the wire.
                wire = (batch, batch.attempt, batch.sequence, batch.epoch, batch.payload or b"", batch.count)
                contents[id(batch)] = batch.payload or b""
                to_broker.append(wire)

    def deliver(fault: int) -> None:
        batch, attempt, sequence, epoch, payload, count = to_broker.pop(0)
        result = brokers[batch.partition].produce(batch, sequence, epoch, payload, count, fault)
        to_client.append((batch, attempt, result))

    for _ in range(steps):
        event = rng.random()
        if event < 0.35:
            counter += 1
            batch = put(state, b"record %d" % counter, now_ms, rng.randrange(partitions))
            if batch not in batches:
                batches.append(batch)
        elif event < 0.55:
            now_ms += rng.choice((1, 3, 10, 50))
        elif event < 0.75 and to_broker:
            deliver(rng.choice(FAULTS) if rng.random() < 0.3 else 0)
        elif event < 0.92 and to_client:
            batch, attempt, result = to_client.pop(0)
            state.on_result(batch, attempt, result, now_ms)
        elif event < 0.95:
            # The connection breaks: what it carried is processed or not, and no answer comes.
            for _ in range(rng.randrange(len(to_broker) + 1)):
                deliver(0)
            lost = [(w[0], w[1]) for w in to_broker] + [(c[0], c[1]) for c in to_client]
            to_broker.clear()
            to_client.clear()
            for batch, attempt in lost:
                state.on_unknown(batch, attempt, now_ms)
        elif event < 0.97:
            # Requests in flight to the old leader are refused by it or processed before it went; in order either way.
            for _ in range(rng.randrange(len(to_broker) + 1)):
                deliver(0)
            to_broker.clear()
            leader_epoch += 1
            state.on_metadata("t", TOPIC_ID, [Leader(1 + leader_epoch % 3, leader_epoch)] * partitions, now_ms)
        elif event < 0.975:
            now_ms += rng.choice((3_000, 25_000))
        poll()

    state.flushing += 1
    for _ in range(2000):
        now_ms += 20
        poll()
        while to_broker:
            deliver(0)
        while to_client:
            batch, attempt, result = to_client.pop(0)
            state.on_result(batch, attempt, result, now_ms)
        if not state.outstanding():
            break
    assert not state.outstanding()
    assert state.buffered_bytes == 0

    for partition, broker in enumerate(brokers):
        mine = [part for batch in batches if batch.partition == partition for part in leaves(batch)]
        assert all(batch.is_done for batch in mine)
        end_of_last = -1
        for batch in mine:
            payload = contents.get(id(batch), b"never sent")
            copies = broker.log.count(payload)
            if batch.error is None:
                assert copies == batch.count, f"{payload!r} is {copies} times in the log"
                if batch.base_offset >= 0:
                    assert broker.log[batch.base_offset] == payload
                assert broker.log.index(payload) > end_of_last, "order"
                end_of_last = broker.log.index(payload)
            else:
                assert copies <= batch.count, "a failed batch is in the log twice"
                if not batch.error.maybe_written:
                    assert copies == 0, f"{payload!r} was said not to be written"


@given(st.randoms(use_true_random=False), st.integers(10, 300))
@settings(max_examples=150, deadline=None)
def test_no_history_loses_repeats_or_reorders(rng, steps):
    run_history(rng, steps=steps)


@pytest.mark.parametrize("seed", range(200))
def test_no_seeded_history_loses_repeats_or_reorders(seed):
    run_history(Random(seed), steps=800)
