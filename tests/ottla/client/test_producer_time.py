"""What time alone changes in a producer: its shell sleeps until then, and not longer."""

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.client.producer_batch import Batch
from ottla.v1 import error_pb2 as pb
from tests.ottla.client.test_producer_state import answer, put, state_with


@given(st.randoms(use_true_random=False))
@settings(max_examples=50, deadline=None)
def test_between_two_events_nothing_is_due_before_the_time_that_poll_names(rng: Random):
    state = state_with(2, linger_ms=7, request_timeout_ms=20, delivery_timeout_ms=60, retry_backoff_ms=3)
    on_their_way: list[Batch] = []
    now_ms = 0
    for _ in range(40):
        event = rng.random()
        if event < 0.5:
            put(state, b"x", now_ms, rng.randrange(2))
        elif on_their_way and event < 0.8:
            batch = on_their_way.pop(0)
            if batch.error is None and batch.is_sent:
                answer(state, batch, rng.choice([0, pb.ERROR_CODE_NOT_LEADER_OR_FOLLOWER]), now_ms)
        actions = state.poll(now_ms)
        on_their_way += [batch for transmit in actions.transmits for batch in transmit.batches]
        until_ms = now_ms + rng.randrange(1, 40)
        if actions.next_poll_ms is not None:
            until_ms = min(until_ms, max(now_ms + 1, actions.next_poll_ms))
        for at_ms in range(now_ms + 1, until_ms):
            early = state.poll(at_ms)
            assert [*early.transmits, *early.completed, *early.abandoned] == []
        now_ms = until_ms
