"""Kafka's SaslHandshake, made by `make kafka` from node/kafka/schema/table.txt; changes belong there."""

from collections.abc import Callable, Sequence
from struct import Struct
from typing import Final

from node.kafka.wire import INT16, INT32, Buffer, Message, refuse_length, string

_h = Struct(">h")


class SaslHandshakeRequest(Message):
    __slots__ = ("mechanism",)

    def __init__(
        self,
        mechanism: str = "",
    ) -> None:
        self.mechanism = mechanism


class SaslHandshakeResponse(Message):
    __slots__ = ("error_code", "mechanisms")

    def __init__(
        self,
        error_code: int = 0,
        mechanisms: Sequence[str] = (),
    ) -> None:
        self.error_code = error_code
        self.mechanisms = mechanisms


def read_0(b: Buffer, p: int) -> tuple[SaslHandshakeRequest, int]:
    end = len(b)
    (n_2,) = INT16.unpack_from(b, p)
    p += 2
    if n_2 < 0 or p + n_2 > end:
        raise refuse_length("mechanism", n_2)
    mechanism_1 = str(b[p : p + n_2], "utf-8")
    p += n_2
    return SaslHandshakeRequest(mechanism_1), p


def write_0(m: SaslHandshakeResponse, w: Callable[[bytes], None]) -> None:
    w(_h.pack(m.error_code))
    a_1 = m.mechanisms
    w(INT32.pack(len(a_1)))
    for o_2 in a_1:
        w(string(o_2))


READ: Final = {0: read_0, 1: read_0}


WRITE: Final = {0: write_0, 1: write_0}
