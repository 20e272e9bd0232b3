"""Kafka's SaslAuthenticate, made by `make kafka` from node/kafka/schema/table.txt; changes belong there."""

from collections.abc import Callable
from struct import Struct
from typing import Final

from node.kafka.wire import INT32, Buffer, Message, compact_bytes, long_bytes, nullable_compact_string, nullable_string, refuse_length, skip_tags, uvarint

_h = Struct(">h")
_q = Struct(">q")


class SaslAuthenticateRequest(Message):
    __slots__ = ("auth_bytes",)

    def __init__(
        self,
        auth_bytes: bytes = b"",
    ) -> None:
        self.auth_bytes = auth_bytes


class SaslAuthenticateResponse(Message):
    __slots__ = ("error_code", "error_message", "auth_bytes", "session_lifetime_ms")

    def __init__(
        self,
        error_code: int = 0,
        error_message: str | None = "",
        auth_bytes: bytes = b"",
        session_lifetime_ms: int = 0,
    ) -> None:
        self.error_code = error_code
        self.error_message = error_message
        self.auth_bytes = auth_bytes
        self.session_lifetime_ms = session_lifetime_ms


def read_0(b: Buffer, p: int) -> tuple[SaslAuthenticateRequest, int]:
    end = len(b)
    (n_2,) = INT32.unpack_from(b, p)
    p += 4
    if n_2 < 0 or p + n_2 > end:
        raise refuse_length("auth_bytes", n_2)
    auth_bytes_1 = bytes(b[p : p + n_2])
    p += n_2
    return SaslAuthenticateRequest(auth_bytes_1), p


def read_2(b: Buffer, p: int) -> tuple[SaslAuthenticateRequest, int]:
    end = len(b)
    n_2 = b[p] - 1
    p += 1
    if n_2 > 126:
        n_2, p = uvarint(b, p - 1)
        n_2 -= 1
    if n_2 < 0 or p + n_2 > end:
        raise refuse_length("auth_bytes", n_2)
    auth_bytes_1 = bytes(b[p : p + n_2])
    p += n_2
    p = skip_tags(b, p) if b[p] else p + 1
    return SaslAuthenticateRequest(auth_bytes_1), p


def write_0(m: SaslAuthenticateResponse, w: Callable[[bytes], None]) -> None:
    w(_h.pack(m.error_code))
    w(nullable_string(m.error_message))
    w(long_bytes(m.auth_bytes))


def write_1(m: SaslAuthenticateResponse, w: Callable[[bytes], None]) -> None:
    w(_h.pack(m.error_code))
    w(nullable_string(m.error_message))
    w(long_bytes(m.auth_bytes))
    w(_q.pack(m.session_lifetime_ms))


def write_2(m: SaslAuthenticateResponse, w: Callable[[bytes], None]) -> None:
    w(_h.pack(m.error_code))
    w(nullable_compact_string(m.error_message))
    w(compact_bytes(m.auth_bytes))
    w(_q.pack(m.session_lifetime_ms))
    w(b"\0")


READ: Final = {0: read_0, 1: read_0, 2: read_2}


WRITE: Final = {0: write_0, 1: write_1, 2: write_2}
