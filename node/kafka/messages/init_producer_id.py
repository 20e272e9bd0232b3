"""Kafka's InitProducerId, made by `make kafka` from node/kafka/schema/table.txt; changes belong there."""

from collections.abc import Callable
from struct import Struct
from typing import Final

from node.kafka.wire import INT16, Buffer, Message, refuse_length, skip_tags, uvarint

_i = Struct(">i")
_ihqh = Struct(">ihqh")
_iqh = Struct(">iqh")


class InitProducerIdRequest(Message):
    __slots__ = ("transactional_id", "transaction_timeout_ms", "producer_id", "producer_epoch")

    def __init__(
        self,
        transactional_id: str | None = "",
        transaction_timeout_ms: int = 0,
        producer_id: int = -1,
        producer_epoch: int = -1,
    ) -> None:
        self.transactional_id = transactional_id
        self.transaction_timeout_ms = transaction_timeout_ms
        self.producer_id = producer_id
        self.producer_epoch = producer_epoch


class InitProducerIdResponse(Message):
    __slots__ = ("throttle_time_ms", "error_code", "producer_id", "producer_epoch")

    def __init__(
        self,
        throttle_time_ms: int = 0,
        error_code: int = 0,
        producer_id: int = -1,
        producer_epoch: int = 0,
    ) -> None:
        self.throttle_time_ms = throttle_time_ms
        self.error_code = error_code
        self.producer_id = producer_id
        self.producer_epoch = producer_epoch


def read_0(b: Buffer, p: int) -> tuple[InitProducerIdRequest, int]:
    end = len(b)
    (n_2,) = INT16.unpack_from(b, p)
    p += 2
    transactional_id_1: str | None = None
    if n_2 != -1:
        if n_2 < 0 or p + n_2 > end:
            raise refuse_length("transactional_id", n_2)
        transactional_id_1 = str(b[p : p + n_2], "utf-8")
        p += n_2
    (transaction_timeout_ms_3,) = _i.unpack_from(b, p)
    p += 4
    return InitProducerIdRequest(transactional_id_1, transaction_timeout_ms_3, -1, -1), p


def read_2(b: Buffer, p: int) -> tuple[InitProducerIdRequest, int]:
    end = len(b)
    n_2 = b[p] - 1
    p += 1
    if n_2 > 126:
        n_2, p = uvarint(b, p - 1)
        n_2 -= 1
    transactional_id_1: str | None = None
    if n_2 != -1:
        if n_2 < 0 or p + n_2 > end:
            raise refuse_length("transactional_id", n_2)
        transactional_id_1 = str(b[p : p + n_2], "utf-8")
        p += n_2
    (transaction_timeout_ms_3,) = _i.unpack_from(b, p)
    p += 4
    p = skip_tags(b, p) if b[p] else p + 1
    return InitProducerIdRequest(transactional_id_1, transaction_timeout_ms_3, -1, -1), p


def read_3(b: Buffer, p: int) -> tuple[InitProducerIdRequest, int]:
    end = len(b)
    n_2 = b[p] - 1
    p += 1
    if n_2 > 126:
        n_2, p = uvarint(b, p - 1)
        n_2 -= 1
    transactional_id_1: str | None = None
    if n_2 != -1:
        if n_2 < 0 or p + n_2 > end:
            raise refuse_length("transactional_id", n_2)
        transactional_id_1 = str(b[p : p + n_2], "utf-8")
        p += n_2
    transaction_timeout_ms_3, producer_id_4, producer_epoch_5 = _iqh.unpack_from(b, p)
    p += 14
    p = skip_tags(b, p) if b[p] else p + 1
    return InitProducerIdRequest(transactional_id_1, transaction_timeout_ms_3, producer_id_4, producer_epoch_5), p


def write_0(m: InitProducerIdResponse, w: Callable[[bytes], None]) -> None:
    w(_ihqh.pack(m.throttle_time_ms, m.error_code, m.producer_id, m.producer_epoch))


def write_2(m: InitProducerIdResponse, w: Callable[[bytes], None]) -> None:
    w(_ihqh.pack(m.throttle_time_ms, m.error_code, m.producer_id, m.producer_epoch))
    w(b"\0")


READ: Final = {0: read_0, 1: read_0, 2: read_2, 3: read_3, 4: read_3}


WRITE: Final = {0: write_0, 1: write_0, 2: write_2, 3: write_2, 4: write_2}
