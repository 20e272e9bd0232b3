"""Kafka's ApiVersions, made by `make kafka` from node/kafka/schema/table.txt; changes belong there."""

from collections.abc import Callable, Sequence
from struct import Struct
from typing import Final

from node.kafka.wire import INT32, Buffer, Message, compact_string, refuse_length, skip_tags, tagged, uvarint, write_uvarint

_B = Struct(">?")
_h = Struct(">h")
_hh = Struct(">hh")
_hhh = Struct(">hhh")
_i = Struct(">i")
_q = Struct(">q")


class ApiVersionsRequest(Message):
    __slots__ = ("client_software_name", "client_software_version")

    def __init__(
        self,
        client_software_name: str = "",
        client_software_version: str = "",
    ) -> None:
        self.client_software_name = client_software_name
        self.client_software_version = client_software_version


class ApiVersion(Message):
    __slots__ = ("api_key", "min_version", "max_version")

    def __init__(
        self,
        api_key: int = 0,
        min_version: int = 0,
        max_version: int = 0,
    ) -> None:
        self.api_key = api_key
        self.min_version = min_version
        self.max_version = max_version


class SupportedFeatureKey(Message):
    __slots__ = ("name", "min_version", "max_version")

    def __init__(
        self,
        name: str = "",
        min_version: int = 0,
        max_version: int = 0,
    ) -> None:
        self.name = name
        self.min_version = min_version
        self.max_version = max_version


class FinalizedFeatureKey(Message):
    __slots__ = ("name", "max_version_level", "min_version_level")

    def __init__(
        self,
        name: str = "",
        max_version_level: int = 0,
        min_version_level: int = 0,
    ) -> None:
        self.name = name
        self.max_version_level = max_version_level
        self.min_version_level = min_version_level


class ApiVersionsResponse(Message):
    __slots__ = ("error_code", "api_keys", "throttle_time_ms", "supported_features", "finalized_features_epoch", "finalized_features", "zk_migration_ready")

    def __init__(
        self,
        error_code: int = 0,
        api_keys: Sequence[ApiVersion] = (),
        throttle_time_ms: int = 0,
        supported_features: Sequence[SupportedFeatureKey] = (),
        finalized_features_epoch: int = -1,
        finalized_features: Sequence[FinalizedFeatureKey] = (),
        zk_migration_ready: bool = False,
    ) -> None:
        self.error_code = error_code
        self.api_keys = api_keys
        self.throttle_time_ms = throttle_time_ms
        self.supported_features = supported_features
        self.finalized_features_epoch = finalized_features_epoch
        self.finalized_features = finalized_features
        self.zk_migration_ready = zk_migration_ready


def read_0(b: Buffer, p: int) -> tuple[ApiVersionsRequest, int]:
    return ApiVersionsRequest("", ""), p


def read_3(b: Buffer, p: int) -> tuple[ApiVersionsRequest, int]:
    end = len(b)
    n_2 = b[p] - 1
    p += 1
    if n_2 > 126:
        n_2, p = uvarint(b, p - 1)
        n_2 -= 1
    if n_2 < 0 or p + n_2 > end:
        raise refuse_length("client_software_name", n_2)
    client_software_name_1 = str(b[p : p + n_2], "utf-8")
    p += n_2
    n_4 = b[p] - 1
    p += 1
    if n_4 > 126:
        n_4, p = uvarint(b, p - 1)
        n_4 -= 1
    if n_4 < 0 or p + n_4 > end:
        raise refuse_length("client_software_version", n_4)
    client_software_version_3 = str(b[p : p + n_4], "utf-8")
    p += n_4
    p = skip_tags(b, p) if b[p] else p + 1
    return ApiVersionsRequest(client_software_name_1, client_software_version_3), p


def write_0(m: ApiVersionsResponse, w: Callable[[bytes], None]) -> None:
    w(_h.pack(m.error_code))
    a_1 = m.api_keys
    w(INT32.pack(len(a_1)))
    for o_2 in a_1:
        w(_hhh.pack(o_2.api_key, o_2.min_version, o_2.max_version))


def write_1(m: ApiVersionsResponse, w: Callable[[bytes], None]) -> None:
    w(_h.pack(m.error_code))
    a_1 = m.api_keys
    w(INT32.pack(len(a_1)))
    for o_2 in a_1:
        w(_hhh.pack(o_2.api_key, o_2.min_version, o_2.max_version))
    w(_i.pack(m.throttle_time_ms))


def write_3(m: ApiVersionsResponse, w: Callable[[bytes], None]) -> None:
    w(_h.pack(m.error_code))
    a_1 = m.api_keys
    w(write_uvarint(len(a_1) + 1))
    for o_2 in a_1:
        w(_hhh.pack(o_2.api_key, o_2.min_version, o_2.max_version))
        w(b"\0")
    w(_i.pack(m.throttle_time_ms))
    tags_3: list[tuple[int, bytes]] = []
    if m.supported_features:
        parts_4: list[bytes] = []
        a_5 = m.supported_features
        parts_4.append(write_uvarint(len(a_5) + 1))
        for o_6 in a_5:
            parts_4.append(compact_string(o_6.name))
            parts_4.append(_hh.pack(o_6.min_version, o_6.max_version))
            parts_4.append(b"\0")
        tags_3.append((0, b"".join(parts_4)))
    if m.finalized_features_epoch != -1:
        parts_7: list[bytes] = []
        parts_7.append(_q.pack(m.finalized_features_epoch))
        tags_3.append((1, b"".join(parts_7)))
    if m.finalized_features:
        parts_8: list[bytes] = []
        a_9 = m.finalized_features
        parts_8.append(write_uvarint(len(a_9) + 1))
        for o_10 in a_9:
            parts_8.append(compact_string(o_10.name))
            parts_8.append(_hh.pack(o_10.max_version_level, o_10.min_version_level))
            parts_8.append(b"\0")
        tags_3.append((2, b"".join(parts_8)))
    if m.zk_migration_ready:
        parts_11: list[bytes] = []
        parts_11.append(_B.pack(m.zk_migration_ready))
        tags_3.append((3, b"".join(parts_11)))
    w(tagged(tags_3))


READ: Final = {0: read_0, 1: read_0, 2: read_0, 3: read_3, 4: read_3}


WRITE: Final = {0: write_0, 1: write_1, 2: write_1, 3: write_3, 4: write_3}
