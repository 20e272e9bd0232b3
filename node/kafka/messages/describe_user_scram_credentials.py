"""Kafka's DescribeUserScramCredentials, made by `make kafka` from node/kafka/schema/table.txt; changes belong there."""

from collections.abc import Callable, Sequence
from struct import Struct
from typing import Final

from node.kafka.wire import ELEMENTS_MAX, Buffer, Message, compact_string, nullable_compact_string, refuse_length, skip_tags, too_many, uvarint, write_uvarint

_bi = Struct(">bi")
_h = Struct(">h")
_ih = Struct(">ih")


class UserName(Message):
    __slots__ = ("name",)

    def __init__(
        self,
        name: str = "",
    ) -> None:
        self.name = name


class DescribeUserScramCredentialsRequest(Message):
    __slots__ = ("users",)

    def __init__(
        self,
        users: Sequence[UserName] | None = (),
    ) -> None:
        self.users = users


class CredentialInfo(Message):
    __slots__ = ("mechanism", "iterations")

    def __init__(
        self,
        mechanism: int = 0,
        iterations: int = 0,
    ) -> None:
        self.mechanism = mechanism
        self.iterations = iterations


class DescribeUserScramCredentialsResult(Message):
    __slots__ = ("user", "error_code", "error_message", "credential_infos")

    def __init__(
        self,
        user: str = "",
        error_code: int = 0,
        error_message: str | None = "",
        credential_infos: Sequence[CredentialInfo] = (),
    ) -> None:
        self.user = user
        self.error_code = error_code
        self.error_message = error_message
        self.credential_infos = credential_infos


class DescribeUserScramCredentialsResponse(Message):
    __slots__ = ("throttle_time_ms", "error_code", "error_message", "results")

    def __init__(
        self,
        throttle_time_ms: int = 0,
        error_code: int = 0,
        error_message: str | None = "",
        results: Sequence[DescribeUserScramCredentialsResult] = (),
    ) -> None:
        self.throttle_time_ms = throttle_time_ms
        self.error_code = error_code
        self.error_message = error_message
        self.results = results


def read_0(b: Buffer, p: int) -> tuple[DescribeUserScramCredentialsRequest, int]:
    end = len(b)
    room = ELEMENTS_MAX
    n_2 = b[p] - 1
    p += 1
    if n_2 > 126:
        n_2, p = uvarint(b, p - 1)
        n_2 -= 1
    users_1: Sequence[UserName] | None = None
    if n_2 != -1:
        if n_2 < 0 or n_2 > (end - p) // 2:
            raise refuse_length("users", n_2)
        room -= n_2
        if room < 0:
            raise too_many("users")
        made_3: list[UserName] = []
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
            p = skip_tags(b, p) if b[p] else p + 1
            made_3.append(UserName(name_4))
        users_1 = made_3
    p = skip_tags(b, p) if b[p] else p + 1
    return DescribeUserScramCredentialsRequest(users_1), p


def write_0(m: DescribeUserScramCredentialsResponse, w: Callable[[bytes], None]) -> None:
    w(_ih.pack(m.throttle_time_ms, m.error_code))
    w(nullable_compact_string(m.error_message))
    a_1 = m.results
    w(write_uvarint(len(a_1) + 1))
    for o_2 in a_1:
        w(compact_string(o_2.user))
        w(_h.pack(o_2.error_code))
        w(nullable_compact_string(o_2.error_message))
        a_3 = o_2.credential_infos
        w(write_uvarint(len(a_3) + 1))
        for o_4 in a_3:
            w(_bi.pack(o_4.mechanism, o_4.iterations))
            w(b"\0")
        w(b"\0")
    w(b"\0")


READ: Final = {0: read_0}


WRITE: Final = {0: write_0}
