"""Requests that kio writes are read, and responses that are written are what kio reads, in every version."""

import contextlib
import importlib
import struct
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kio.schema.index import schema_name_map

from node.kafka import codec
from node.kafka.messages import APIS
from node.kafka.messages.metadata import MetadataRequest
from node.kafka.schema.emit import module_name
from node.kafka.schema.table import Api, load
from node.kafka.wire import MalformedRequest, uvarint, write_uvarint
from tests.node.kafka.peers import (
    from_kio,
    from_message,
    kio_bytes,
    kio_class,
    kio_field,
    kio_parse,
    plain_type,
    to_kio,
    to_message,
    trees,
)  # fmt: skip

TABLE = {api.key: api for api in load()}
GENERATED = [api for api in TABLE.values() if not api.by_hand]
CASES = [
    (api, version) for api in GENERATED for version in api.versions if version in schema_name_map[module_name(api.name)]
]
NAMES = [f"{api.name}-{version}" for api, version in CASES]
EXAMPLES = settings(max_examples=12, deadline=None)


def module_of(api: Api) -> Any:
    return importlib.import_module(APIS[api.key].module)


def frame(key: int, version: int, body: bytes, client: bytes | None = b"test") -> bytes:
    name = struct.pack(">h", -1) if client is None else struct.pack(">h", len(client)) + client
    tags = b"\0" if codec.flexible(key, version) else b""
    return struct.pack(">hhi", key, version, 7) + name + tags + body


def renamed(tree: Any, struct: Any, cls: type, version: int) -> Any:
    """kio's plain values under our names; its absent ids as zeros."""
    found = {}
    for field in [*struct.untagged(version), *struct.tagged(version)]:
        theirs = kio_field(cls, field)
        value = tree[theirs.name]
        inner = plain_type(theirs.type)[0]
        if field.struct is not None and value is not None:
            each = [renamed(one, field.struct, inner, version) for one in (value if field.array else [value])]
            value = each if field.array else each[0]
        if field.type == "uuid":
            value = [one or bytes(16) for one in value] if field.array else value or bytes(16)
        found[field.name] = value
    return found


@pytest.mark.parametrize(("api", "version"), CASES, ids=NAMES)
def test_a_request_of_kios_is_read(api: Api, version: int) -> None:
    cls = kio_class(api, version, "request")

    @EXAMPLES
    @given(trees(api.request, version, cls), st.booleans())
    def check(tree: Any, as_view: bool) -> None:
        data = frame(api.key, version, kio_bytes(to_kio(cls, api.request, version, tree)))
        head = codec.read_head(data)
        message, end = codec.codec(api.key).read[version](memoryview(data) if as_view else data, head.body)
        assert end == len(data)
        assert from_message(message, api.request, version) == tree
        assert codec.read_body(data, head) == message

    check()


@pytest.mark.parametrize(("api", "version"), CASES, ids=NAMES)
def test_a_response_is_what_kio_reads(api: Api, version: int) -> None:
    cls = kio_class(api, version, "response")
    module = module_of(api)

    @EXAMPLES
    @given(trees(api.response, version, cls))
    def check(tree: Any) -> None:
        message = to_message(getattr(module, api.response.name), api.response, version, tree, module)
        data = codec.write_body(api.key, version, message)
        assert renamed(from_kio(kio_parse(cls, data)), api.response, cls, version) == tree

    check()


@pytest.mark.parametrize(("api", "version"), CASES, ids=NAMES)
def test_a_request_that_ends_early_or_lies_is_refused(api: Api, version: int) -> None:
    """Every prefix, and lengths that cannot be at every place: read or refused, nothing else."""
    cls = kio_class(api, version, "request")

    @settings(max_examples=2, deadline=None)
    @given(trees(api.request, version, cls))
    def check(tree: Any) -> None:
        data = frame(api.key, version, kio_bytes(to_kio(cls, api.request, version, tree)))[:160]
        for end in range(len(data)):
            attempt(data[:end])
        for lie in (b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x80\0\0\0", b"\xff\xff\xff\xff\x0f", b"\xff" * 6):
            for at in range(len(data)):
                attempt(data[:at] + lie + data[at + len(lie) :])

    check()


def attempt(data: bytes) -> None:
    with contextlib.suppress(MalformedRequest):
        head = codec.read_head(data)
        if head.key in APIS and APIS[head.key].low <= head.version <= APIS[head.key].high:
            codec.read_body(data, head)


def test_absurd_counts_take_no_memory() -> None:
    """Two thousand million topics in a frame of some bytes."""
    tracemalloc.start()
    try:
        for version, count in (
            (0, struct.pack(">i", 2**31 - 1)),
            (12, write_uvarint(2**31)),
            (12, b"\xff" * 4 + b"\x7f"),
        ):
            data = frame(3, version, count + bytes(10))
            with pytest.raises(MalformedRequest, match="topics has a length of"):
                codec.read_body(data, codec.read_head(data))
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_what_must_be_there_is_not_null() -> None:
    data = frame(12, 0, struct.pack(">h", -1) + bytes(10))
    with pytest.raises(MalformedRequest, match="Heartbeat v0: group_id is null"):
        codec.read_body(data, codec.read_head(data))


def test_a_string_that_is_not_utf8_is_refused() -> None:
    data = frame(12, 0, struct.pack(">h", 2) + b"\xff\xfe" + bytes(10))
    with pytest.raises(MalformedRequest, match="Heartbeat v0: a string is not UTF-8"):
        codec.read_body(data, codec.read_head(data))


@pytest.mark.parametrize("client", [None, b"", b"kcat", b"\xff"])
def test_the_head(client: bytes | None) -> None:
    for version in (1, 12):
        head = codec.read_head(frame(3, version, b"", client))
        assert head[:3] == (3, version, 7)
        assert head.client_id == (None if client is None else client.decode(errors="replace"))
    assert codec.read_head(frame(3, 12, b"", client)).body == codec.read_head(frame(3, 1, b"", client)).body + 1


def test_the_body_of_what_is_not_known_is_not_looked_at() -> None:
    head = codec.read_head(struct.pack(">hhihB", 18, 99, 5, -1, 255))
    assert head == (18, 99, 5, None, 10)


def test_tags_of_a_request_that_nobody_knows_are_skipped() -> None:
    tags = b"\x02\x05\x03abc\xe8\x07\x00"
    data = frame(3, 12, b"\0\1\1" + tags)
    message = codec.read_body(data, codec.read_head(data))
    assert isinstance(message, MetadataRequest)
    assert (message.topics, message.allow_auto_topic_creation) == (None, True)


@pytest.mark.parametrize(
    ("key", "version", "body"),
    [
        (8, 1, struct.pack(">hsihi", 1, b"g", -1, 0, 20_001) + bytes(6 * 20_001)),
        (9, 1, struct.pack(">hsi", 1, b"g", 2) + (struct.pack(">hsi", 1, b"t", 10_000) + bytes(40_000)) * 2),
    ],
)
def test_no_request_has_more_elements_than_one_turn_has_time_for(key: int, version: int, body: bytes) -> None:
    data = frame(key, version, body)
    with pytest.raises(MalformedRequest, match="more than 20000 elements together"):
        codec.read_body(data, codec.read_head(data))


def test_a_place_with_more_tags_than_any_request_of_kafkas_is_refused() -> None:
    data = frame(3, 12, b"\0\1\1" + b"\x06" + b"\x05\x00" * 6)
    with pytest.raises(MalformedRequest, match="6 tagged fields"):
        codec.read_body(data, codec.read_head(data))


def test_only_the_answer_to_api_versions_has_no_tags_in_its_head() -> None:
    assert codec.response_head(18, 4, 9) == b"\0\0\0\x09"
    assert codec.response_head(3, 12, 9) == b"\0\0\0\x09\0"
    assert codec.response_head(3, 8, -1) == b"\xff\xff\xff\xff"


@given(st.integers(0, (1 << 35) - 1))
def test_varints(number: int) -> None:
    data = write_uvarint(number)
    assert uvarint(data, 0) == (number, len(data))


# Older versions than kio's, from Kafka's protocol guide of their time: (key, version, request, tree, response).
OLD: list[tuple[int, int, str, Any, Any, str]] = [
    (8, 1, "0001 67 00000001 0001 6d 00000001 0001 74 00000001 00000000 0000000000000005 ffffffffffffffff 0000",
     {"group_id": "g", "generation_id_or_member_epoch": 1, "member_id": "m", "topics": [{"name": "t", "partitions": [
         {"partition_index": 0, "committed_offset": 5, "commit_timestamp": -1, "committed_metadata": ""}]}]},
     {"topics": [{"name": "t", "partitions": [{"partition_index": 0, "error_code": 0}]}]},
     "00000001 0001 74 00000001 00000000 0000"),
    (19, 0, "00000001 0001 74 00000003 0001 00000000 00000000 000003e8",
     {"topics": [{"name": "t", "num_partitions": 3, "replication_factor": 1, "assignments": [], "configs": []}],
      "timeout_ms": 1000},
     {"topics": [{"name": "t", "error_code": 36}]}, "00000001 0001 74 0024"),
    (19, 1, "00000000 000003e8 01", {"topics": [], "timeout_ms": 1000, "validate_only": True},
     {"topics": [{"name": "t", "error_code": 36, "error_message": None}]}, "00000001 0001 74 0024 ffff"),
    (20, 0, "00000001 0001 74 000003e8", {"topic_names": ["t"], "timeout_ms": 1000},
     {"responses": [{"name": "t", "error_code": 3}]}, "00000001 0001 74 0003"),
    (29, 0, "02 ffff ffff ffff 01 01",
     {"resource_type_filter": 2, "resource_name_filter": None, "principal_filter": None, "host_filter": None,
      "operation": 1, "permission_type": 1},
     {"throttle_time_ms": 0, "error_code": 54, "error_message": None, "resources": []}, "00000000 0036 ffff 00000000"),
    (30, 0, "00000000", {"creations": []}, {"throttle_time_ms": 0, "results": []}, "00000000 00000000"),
    (31, 0, "00000000", {"filters": []}, {"throttle_time_ms": 0, "filter_results": []}, "00000000 00000000"),
    (32, 0, "00000001 02 0001 74 ffffffff",
     {"resources": [{"resource_type": 2, "resource_name": "t", "configuration_keys": None}]},
     {"throttle_time_ms": 0, "results": [{"error_code": 0, "error_message": None, "resource_type": 2,
      "resource_name": "t", "configs": [{"name": "a", "value": "b", "read_only": False, "is_default": True,
                                         "is_sensitive": False}]}]},
     "00000000 00000001 0000 ffff 02 0001 74 00000001 0001 61 0001 62 00 01 00"),
    (35, 0, "ffffffff", {"topics": None}, {"throttle_time_ms": 0, "results": []}, "00000000 00000000"),
]  # fmt: skip


@pytest.mark.parametrize(("key", "version", "request_hex", "tree", "answer", "answer_hex"), OLD)
def test_versions_older_than_kios(
    key: int, version: int, request_hex: str, tree: Any, answer: Any, answer_hex: str
) -> None:
    api = TABLE[key]
    data = frame(key, version, bytes.fromhex(request_hex))
    assert from_message(codec.read_body(data, codec.read_head(data)), api.request, version) == tree
    module = module_of(api)
    message = to_message(getattr(module, api.response.name), api.response, version, answer, module)
    assert codec.write_body(key, version, message) == bytes.fromhex(answer_hex)


def test_every_version_that_kio_lacks_is_in_the_table_of_old_ones() -> None:
    lacking = {
        (api.key, version)
        for api in GENERATED
        for version in api.versions
        if version not in schema_name_map[module_name(api.name)]
    }
    assert lacking == {(key, version) for key, version, *_ in OLD}
