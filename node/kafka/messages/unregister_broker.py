"""Kafka's UnregisterBroker, made by `make kafka` from node/kafka/schema/table.txt; changes belong there."""

from collections.abc import Callable
from struct import Struct
from typing import Final

from node.kafka.wire import Buffer, Message, nullable_compact_string, skip_tags

_i = Struct(">i")
_ih = Struct(">ih")


class UnregisterBrokerRequest(Message):
    __slots__ = ("broker_id",)

    def __init__(
        self,
        broker_id: int = 0,
    ) -> None:
        self.broker_id = broker_id


class UnregisterBrokerResponse(Message):
    __slots__ = ("throttle_time_ms", "error_code", "error_message")

    def __init__(
        self,
        throttle_time_ms: int = 0,
        error_code: int = 0,
        error_message: str | None = "",
    ) -> None:
        self.throttle_time_ms = throttle_time_ms
        self.error_code = error_code
        self.error_message = error_message


def read_0(b: Buffer, p: int) -> tuple[UnregisterBrokerRequest, int]:
    (broker_id_1,) = _i.unpack_from(b, p)
    p += 4
    p = skip_tags(b, p) if b[p] else p + 1
    return UnregisterBrokerRequest(broker_id_1), p


def write_0(m: UnregisterBrokerResponse, w: Callable[[bytes], None]) -> None:
    w(_ih.pack(m.throttle_time_ms, m.error_code))
    w(nullable_compact_string(m.error_message))
    w(b"\0")


READ: Final = {0: read_0}


WRITE: Final = {0: write_0}
