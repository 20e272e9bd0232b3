"""Kafka's AlterUserScramCredentials, made by `make kafka` from node/kafka/schema/table.txt; changes belong there."""

from collections.abc import Callable, Sequence
from struct import Struct
from typing import Final

from node.kafka.wire import ELEMENTS_MAX, Buffer, Message, compact_string, nullable_compact_string, refuse_length, skip_tags, too_many, uvarint, write_uvarint

_b = Struct(">b")
_bi = Struct(">bi")
_h = Struct(">h")
_i = Struct(">i")


class ScramCredentialDeletion(Message):
    __slots__ = ("name", "mechanism")

    def __init__(
        self,
        name: str = "",
        mechanism: int = 0,
    ) -> None:
        self.name = name
        self.mechanism = mechanism


class ScramCredentialUpsertion(Message):
    __slots__ = ("name", "mechanism", "iterations", "salt", "salted_password")

    def __init__(
        self,
        name: str = "",
        mechanism: int = 0,
        iterations: int = 0,
        salt: bytes = b"",
        salted_password: bytes = b"",
    ) -> None:
        self.name = name
        self.mechanism = mechanism
        self.iterations = iterations
        self.salt = salt
        self.salted_password = salted_password


class AlterUserScramCredentialsRequest(Message):
    __slots__ = ("deletions", "upsertions")

    def __init__(
        self,
        deletions: Sequence[ScramCredentialDeletion] = (),
        upsertions: Sequence[ScramCredentialUpsertion] = (),
    ) -> None:
        self.deletions = deletions
        self.upsertions = upsertions


class AlterUserScramCredentialsResult(Message):
    __slots__ = ("user", "error_code", "error_message")

    def __init__(
        self,
        user: str = "",
        error_code: int = 0,
        error_message: str | None = "",
    ) -> None:
        self.user = user
        self.error_code = error_code
        self.error_message = error_message


class AlterUserScramCredentialsResponse(Message):
    __slots__ = ("throttle_time_ms", "results")

    def __init__(
        self,
        throttle_time_ms: int = 0,
        results: Sequence[AlterUserScramCredentialsResult] = (),
    ) -> None:
        self.throttle_time_ms = throttle_time_ms
        self.results = results


def read_0(b: Buffer, p: int) -> tuple[AlterUserScramCredentialsRequest, int]:
    end = len(b)
    room = ELEMENTS_MAX
    n_2 = b[p] - 1
    p += 1
    if n_2 > 126:
        n_2, p = uvarint(b, p - 1)
        n_2 -= 1
    if n_2 < 0 or n_2 > (end - p) // 3:
        raise refuse_length("deletions", n_2)
    room -= n_2
    if room < 0:
        raise too_many("deletions")
    made_3: list[ScramCredentialDeletion] = []
    for _ in range(n_2):
        n_5 = b[p] - 1
        p += 1
        if n_5 > 126:
            n_5, p = uvarint(b, p - 1)
            n_5 -= 1
        if n_5 < 0 or p + n_5 > end:
            raise refuse_length("name", n_5)
        name_4 = str(b[p : p + n_5], "utf-8")
        p += n_5
        (mechanism_6,) = _b.unpack_from(b, p)
        p += 1
        p = skip_tags(b, p) if b[p] else p + 1
        made_3.append(ScramCredentialDeletion(name_4, mechanism_6))
    deletions_1 = made_3
    n_8 = b[p] - 1
    p += 1
    if n_8 > 126:
        n_8, p = uvarint(b, p - 1)
        n_8 -= 1
    if n_8 < 0 or n_8 > (end - p) // 9:
        raise refuse_length("upsertions", n_8)
    room -= n_8
    if room < 0:
        raise too_many("upsertions")
    made_9: list[ScramCredentialUpsertion] = []
    for _ in range(n_8):
        n_11 = b[p] - 1
        p += 1
        if n_11 > 126:
            n_11, p = uvarint(b, p - 1)
            n_11 -= 1
        if n_11 < 0 or p + n_11 > end:
            raise refuse_length("name", n_11)
        name_10 = str(b[p : p + n_11], "utf-8")
        p += n_11
        mechanism_12, iterations_13 = _bi.unpack_from(b, p)
        p += 5
        n_15 = b[p] - 1
        p += 1
        if n_15 > 126:
            n_15, p = uvarint(b, p - 1)
            n_15 -= 1
        if n_15 < 0 or p + n_15 > end:
            raise refuse_length("salt", n_15)
        salt_14 = bytes(b[p : p + n_15])
        p += n_15
        n_17 = b[p] - 1
        p += 1
        if n_17 > 126:
            n_17, p = uvarint(b, p - 1)
            n_17 -= 1
        if n_17 < 0 or p + n_17 > end:
            raise refuse_length("salted_password", n_17)
        salted_password_16 = bytes(b[p : p + n_17])
        p += n_17
        p = skip_tags(b, p) if b[p] else p + 1
        made_9.append(ScramCredentialUpsertion(name_10, mechanism_12, iterations_13, salt_14, salted_password_16))
    upsertions_7 = made_9
    p = skip_tags(b, p) if b[p] else p + 1
    return AlterUserScramCredentialsRequest(deletions_1, upsertions_7), p


def write_0(m: AlterUserScramCredentialsResponse, w: Callable[[bytes], None]) -> None:
    w(_i.pack(m.throttle_time_ms))
    a_1 = m.results
    w(write_uvarint(len(a_1) + 1))
    for o_2 in a_1:
        w(compact_string(o_2.user))
        w(_h.pack(o_2.error_code))
        w(nullable_compact_string(o_2.error_message))
        w(b"\0")
    w(b"\0")


READ: Final = {0: read_0}


WRITE: Final = {0: write_0}
