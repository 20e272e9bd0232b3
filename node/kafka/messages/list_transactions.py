"""Kafka's ListTransactions, made by `make kafka` from node/kafka/schema/table.txt; changes belong there."""

from collections.abc import Callable, Sequence
from struct import Struct, unpack_from
from typing import Final

from node.kafka.wire import ELEMENTS_MAX, Buffer, Message, compact_string, refuse_length, skip_tags, too_many, uvarint, write_uvarint

_ih = Struct(">ih")
_q = Struct(">q")


class ListTransactionsRequest(Message):
    __slots__ = ("state_filters", "producer_id_filters", "duration_filter", "transactional_id_pattern")

    def __init__(
        self,
        state_filters: Sequence[str] = (),
        producer_id_filters: Sequence[int] = (),
        duration_filter: int = -1,
        transactional_id_pattern: str | None = None,
    ) -> None:
        self.state_filters = state_filters
        self.producer_id_filters = producer_id_filters
        self.duration_filter = duration_filter
        self.transactional_id_pattern = transactional_id_pattern


class TransactionState(Message):
    __slots__ = ("transactional_id", "producer_id", "transaction_state")

    def __init__(
        self,
        transactional_id: str = "",
        producer_id: int = 0,
        transaction_state: str = "",
    ) -> None:
        self.transactional_id = transactional_id
        self.producer_id = producer_id
        self.transaction_state = transaction_state


class ListTransactionsResponse(Message):
    __slots__ = ("throttle_time_ms", "error_code", "unknown_state_filters", "transaction_states")

    def __init__(
        self,
        throttle_time_ms: int = 0,
        error_code: int = 0,
        unknown_state_filters: Sequence[str] = (),
        transaction_states: Sequence[TransactionState] = (),
    ) -> None:
        self.throttle_time_ms = throttle_time_ms
        self.error_code = error_code
        self.unknown_state_filters = unknown_state_filters
        self.transaction_states = transaction_states


def read_0(b: Buffer, p: int) -> tuple[ListTransactionsRequest, int]:
    end = len(b)
    room = ELEMENTS_MAX
    n_2 = b[p] - 1
    p += 1
    if n_2 > 126:
        n_2, p = uvarint(b, p - 1)
        n_2 -= 1
    if n_2 < 0 or n_2 > end - p:
        raise refuse_length("state_filters", n_2)
    room -= n_2
    if room < 0:
        raise too_many("state_filters")
    made_3: list[str] = []
    for _ in range(n_2):
        n_5 = b[p] - 1
        p += 1
        if n_5 > 126:
            n_5, p = uvarint(b, p - 1)
            n_5 -= 1
        if n_5 < 0 or p + n_5 > end:
            raise refuse_length("state_filters", n_5)
        each_4 = str(b[p : p + n_5], "utf-8")
        p += n_5
        made_3.append(each_4)
    state_filters_1 = made_3
    n_7 = b[p] - 1
    p += 1
    if n_7 > 126:
        n_7, p = uvarint(b, p - 1)
        n_7 -= 1
    if n_7 < 0 or n_7 > (end - p) // 8:
        raise refuse_length("producer_id_filters", n_7)
    room -= n_7
    if room < 0:
        raise too_many("producer_id_filters")
    producer_id_filters_6 = unpack_from(f">{n_7}q", b, p)
    p += n_7 * 8
    p = skip_tags(b, p) if b[p] else p + 1
    return ListTransactionsRequest(state_filters_1, producer_id_filters_6, -1, None), p


def read_1(b: Buffer, p: int) -> tuple[ListTransactionsRequest, int]:
    end = len(b)
    room = ELEMENTS_MAX
    n_2 = b[p] - 1
    p += 1
    if n_2 > 126:
        n_2, p = uvarint(b, p - 1)
        n_2 -= 1
    if n_2 < 0 or n_2 > end - p:
        raise refuse_length("state_filters", n_2)
    room -= n_2
    if room < 0:
        raise too_many("state_filters")
    made_3: list[str] = []
    for _ in range(n_2):
        n_5 = b[p] - 1
        p += 1
        if n_5 > 126:
            n_5, p = uvarint(b, p - 1)
            n_5 -= 1
        if n_5 < 0 or p + n_5 > end:
            raise refuse_length("state_filters", n_5)
        each_4 = str(b[p : p + n_5], "utf-8")
        p += n_5
        made_3.append(each_4)
    state_filters_1 = made_3
    n_7 = b[p] - 1
    p += 1
    if n_7 > 126:
        n_7, p = uvarint(b, p - 1)
        n_7 -= 1
    if n_7 < 0 or n_7 > (end - p) // 8:
        raise refuse_length("producer_id_filters", n_7)
    room -= n_7
    if room < 0:
        raise too_many("producer_id_filters")
    producer_id_filters_6 = unpack_from(f">{n_7}q", b, p)
    p += n_7 * 8
    (duration_filter_8,) = _q.unpack_from(b, p)
    p += 8
    p = skip_tags(b, p) if b[p] else p + 1
    return ListTransactionsRequest(state_filters_1, producer_id_filters_6, duration_filter_8, None), p


def read_2(b: Buffer, p: int) -> tuple[ListTransactionsRequest, int]:
    end = len(b)
    room = ELEMENTS_MAX
    n_2 = b[p] - 1
    p += 1
    if n_2 > 126:
        n_2, p = uvarint(b, p - 1)
        n_2 -= 1
    if n_2 < 0 or n_2 > end - p:
        raise refuse_length("state_filters", n_2)
    room -= n_2
    if room < 0:
        raise too_many("state_filters")
    made_3: list[str] = []
    for _ in range(n_2):
        n_5 = b[p] - 1
        p += 1
        if n_5 > 126:
            n_5, p = uvarint(b, p - 1)
            n_5 -= 1
        if n_5 < 0 or p + n_5 > end:
            raise refuse_length("state_filters", n_5)
        each_4 = str(b[p : p + n_5], "utf-8")
        p += n_5
        made_3.append(each_4)
    state_filters_1 = made_3
    n_7 = b[p] - 1
    p += 1
    if n_7 > 126:
        n_7, p = uvarint(b, p - 1)
        n_7 -= 1
    if n_7 < 0 or n_7 > (end - p) // 8:
        raise refuse_length("producer_id_filters", n_7)
    room -= n_7
    if room < 0:
        raise too_many("producer_id_filters")
    producer_id_filters_6 = unpack_from(f">{n_7}q", b, p)
    p += n_7 * 8
    (duration_filter_8,) = _q.unpack_from(b, p)
    p += 8
    n_10 = b[p] - 1
    p += 1
    if n_10 > 126:
        n_10, p = uvarint(b, p - 1)
        n_10 -= 1
    transactional_id_pattern_9: str | None = None
    if n_10 != -1:
        if n_10 < 0 or p + n_10 > end:
            raise refuse_length("transactional_id_pattern", n_10)
        transactional_id_pattern_9 = str(b[p : p + n_10], "utf-8")
        p += n_10
    p = skip_tags(b, p) if b[p] else p + 1
    return ListTransactionsRequest(state_filters_1, producer_id_filters_6, duration_filter_8, transactional_id_pattern_9), p


def write_0(m: ListTransactionsResponse, w: Callable[[bytes], None]) -> None:
    w(_ih.pack(m.throttle_time_ms, m.error_code))
    a_1 = m.unknown_state_filters
    w(write_uvarint(len(a_1) + 1))
    for o_2 in a_1:
        w(compact_string(o_2))
    a_3 = m.transaction_states
    w(write_uvarint(len(a_3) + 1))
    for o_4 in a_3:
        w(compact_string(o_4.transactional_id))
        w(_q.pack(o_4.producer_id))
        w(compact_string(o_4.transaction_state))
        w(b"\0")
    w(b"\0")


READ: Final = {0: read_0, 1: read_1, 2: read_2}


WRITE: Final = {0: write_0, 1: write_0, 2: write_0}
