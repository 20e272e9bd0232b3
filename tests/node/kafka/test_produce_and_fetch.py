"""Produce and Fetch, whose codecs are by hand: read as kio writes, written as kio reads, without a copy of records."""

import struct
import tracemalloc
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kio.schema.index import schema_name_map

from node.kafka import codec, fetch, produce
from node.kafka.messages import APIS
from node.kafka.schema.table import load
from node.kafka.wire import NO_ID, MalformedRequest
from tests.node.kafka.peers import from_kio, kio_bytes, kio_class, kio_parse, to_kio, trees
from tests.node.kafka.test_codec import attempt, frame, renamed

TABLE = {api.key: api for api in load()}
PRODUCE, FETCH = TABLE[0], TABLE[1]
EXAMPLES = settings(max_examples=25, deadline=None)
PRODUCE_VERSIONS = schema_name_map["produce"]
FETCH_VERSIONS = schema_name_map["fetch"]


def read(key: int, version: int, data: bytes) -> Any:
    head = codec.read_head(data)
    message, end = codec.codec(key).read[version](memoryview(data), head.body)
    assert end == len(data)
    return message


def test_the_versions_are_those_of_the_table() -> None:
    for api, module in ((PRODUCE, produce), (FETCH, fetch)):
        assert (module.LOW, module.HIGH) == (api.versions.low, api.versions.high) == APIS[api.key][2:4]
        assert set(module.READ) == set(module.WRITE) == set(api.versions)


@pytest.mark.parametrize("version", PRODUCE_VERSIONS)
def test_produce_requests(version: int) -> None:
    cls = kio_class(PRODUCE, version, "request")

    @EXAMPLES
    @given(trees(PRODUCE.request, version, cls))
    def check(tree: Any) -> None:
        message = read(0, version, frame(0, version, kio_bytes(to_kio(cls, PRODUCE.request, version, tree))))
        assert (message.transactional_id, message.acks, message.timeout_ms) == (
            tree["transactional_id"], tree["acks"], tree["timeout_ms"],
        )  # fmt: skip
        assert message.topics == [
            (
                topic.get("name", ""),
                topic.get("topic_id", NO_ID),
                [(each["index"], each["records"]) for each in topic["partition_data"]],
            )
            for topic in tree["topic_data"]
        ]

    check()


@pytest.mark.parametrize("version", PRODUCE_VERSIONS)
def test_produce_responses(version: int) -> None:
    cls = kio_class(PRODUCE, version, "response")

    @EXAMPLES
    @given(trees(PRODUCE.response, version, cls))
    def check(tree: Any) -> None:
        response = produce.ProduceResponse(
            [
                produce.TopicProduced(
                    topic.get("name", ""),
                    topic.get("topic_id", NO_ID),
                    list(map(produced, topic["partition_responses"])),
                )
                for topic in tree["responses"]
            ],
            tree["throttle_time_ms"],
            [produce.Endpoint(**each) for each in tree.get("node_endpoints", ())],
        )
        found = kio_parse(cls, codec.write_body(0, version, response))
        assert renamed(from_kio(found), PRODUCE.response, cls, version) == tree

    check()


def produced(tree: Mapping[str, Any]) -> produce.Produced:
    return produce.Produced(
        tree["index"],
        tree["error_code"],
        tree["base_offset"],
        tree["log_append_time_ms"],
        tree.get("log_start_offset", -1),
        [(each["batch_index"], each["batch_index_error_message"]) for each in tree.get("record_errors", ())],
        tree.get("error_message"),
        leader(tree),
    )


def leader(tree: Mapping[str, Any]) -> produce.Leader | None:
    return produce.Leader(**tree["current_leader"]) if "current_leader" in tree else None


# No transactional id, and answers without a log start, a time, a throttle; from the protocol guide of their time.
@pytest.mark.parametrize(
    ("version", "answer"),
    [
        (0, "00000001 0001 74 00000001 00000002 0023 ffffffffffffffff"),
        (1, "00000001 0001 74 00000001 00000002 0023 ffffffffffffffff 00000000"),
        (2, "00000001 0001 74 00000001 00000002 0023 ffffffffffffffff ffffffffffffffff 00000000"),
    ],
)
def test_the_oldest_versions_are_read_to_be_refused(version: int, answer: str) -> None:
    body = bytes.fromhex("ffff 000003e8 00000001 0001 74 00000001 00000002 00000003 616263")
    message = read(0, version, frame(0, version, body))
    assert (message.transactional_id, message.acks, message.timeout_ms) == (None, -1, 1000)
    assert message.topics == [("t", NO_ID, [(2, b"abc")])]
    refused = produce.ProduceResponse([produce.TopicProduced("t", NO_ID, [produce.Produced(2, 35)])])
    assert codec.write_body(0, version, refused) == bytes.fromhex(answer)


@pytest.mark.parametrize("version", [3, 9, 13])
def test_batches_are_views_of_the_frame(version: int) -> None:
    cls = kio_class(PRODUCE, version, "request")
    name = {"topic_id": bytes(range(16))} if version >= 13 else {"name": "t"}
    topic = {**name, "partition_data": [{"index": 0, "records": b"x" * 1000}]}
    tree = {"transactional_id": None, "acks": 1, "timeout_ms": 1, "topic_data": [topic]}
    data = bytearray(frame(0, version, kio_bytes(to_kio(cls, PRODUCE.request, version, tree))))
    head = codec.read_head(data)
    message = codec.codec(0).read[version](memoryview(data), head.body)[0]
    assert isinstance(message, produce.ProduceRequest)
    [(_, batch)] = message.topics[0].partitions
    assert batch == b"x" * 1000
    data[data.index(b"xxx")] = ord("y")
    assert batch == b"y" + b"x" * 999


@pytest.mark.parametrize("version", FETCH_VERSIONS)
def test_fetch_requests(version: int) -> None:
    cls = kio_class(FETCH, version, "request")

    @EXAMPLES
    @given(trees(FETCH.request, version, cls))
    def check(tree: Any) -> None:
        message = read(1, version, frame(1, version, kio_bytes(to_kio(cls, FETCH.request, version, tree))))
        for name in ("replica_id", "max_wait_ms", "min_bytes", "max_bytes", "isolation_level", "session_id", "rack_id"):
            if name in tree:
                assert getattr(message, name) == tree[name]
        assert message.session_epoch == tree.get("session_epoch", -1)
        assert message.topics == [
            (topic.get("topic", ""), topic.get("topic_id", NO_ID), [wanted(each) for each in topic["partitions"]])
            for topic in tree["topics"]
        ]
        assert message.forgotten == [
            (topic.get("topic", ""), topic.get("topic_id", NO_ID), topic["partitions"])
            for topic in tree.get("forgotten_topics_data", ())
        ]

    check()


def wanted(tree: Mapping[str, Any]) -> fetch.PartitionToFetch:
    return fetch.PartitionToFetch(
        tree["partition"],
        tree.get("current_leader_epoch", -1),
        tree["fetch_offset"],
        tree.get("last_fetched_epoch", -1),
        tree.get("log_start_offset", -1),
        tree["partition_max_bytes"],
    )


@pytest.mark.parametrize("version", FETCH_VERSIONS)
def test_fetch_responses(version: int) -> None:
    cls = kio_class(FETCH, version, "response")

    @EXAMPLES
    @given(trees(FETCH.response, version, cls))
    def check(tree: Any) -> None:
        for topic in tree["responses"]:
            for each in topic["partitions"]:
                each["records"] = each["records"] or b""
                if "snapshot_id" in each:
                    each["snapshot_id"] = {"end_offset": -1, "epoch": -1}  # never written
        response = fetch.FetchResponse(
            [
                fetch.TopicFetched(
                    topic.get("topic", ""), topic.get("topic_id", NO_ID), list(map(fetched, topic["partitions"]))
                )
                for topic in tree["responses"]
            ],
            tree.get("error_code", 0),
            tree.get("session_id", 0),
            tree["throttle_time_ms"],
            [produce.Endpoint(**each) for each in tree.get("node_endpoints", ())],
        )
        found = kio_parse(cls, codec.write_body(1, version, response))
        assert renamed(from_kio(found), FETCH.response, cls, version) == tree

    check()


def fetched(tree: Mapping[str, Any]) -> fetch.Fetched:
    aborted = tree["aborted_transactions"]
    half = len(tree["records"]) // 2
    return fetch.Fetched(
        tree["partition_index"],
        tree["error_code"],
        tree["high_watermark"],
        tree["last_stable_offset"],
        tree.get("log_start_offset", -1),
        [tree["records"][:half], tree["records"][half:]],
        None if aborted is None else [(each["producer_id"], each["first_offset"]) for each in aborted],
        fetch.EpochEnd(**tree["diverging_epoch"]) if "diverging_epoch" in tree else None,
        leader(tree),
        tree.get("preferred_read_replica", -1),
    )


@pytest.mark.parametrize("version", FETCH_VERSIONS)
def test_records_are_handed_on_as_they_came(version: int) -> None:
    slices = [memoryview(b"a" * 1000), memoryview(b"b" * 2000)]
    response = fetch.FetchResponse([fetch.TopicFetched("t", NO_ID, [fetch.Fetched(0, 0, 9, 9, 0, slices)])])
    parts = codec.write_parts(1, version, response)
    assert [part for part in parts if isinstance(part, memoryview)] == slices
    assert all(any(part is each for part in parts) for each in slices)


@pytest.mark.parametrize(("api", "version"), [(0, v) for v in PRODUCE_VERSIONS] + [(1, v) for v in FETCH_VERSIONS])
def test_a_request_that_ends_early_or_lies_is_refused(api: int, version: int) -> None:
    cls = kio_class(TABLE[api], version, "request")

    @settings(max_examples=2, deadline=None)
    @given(trees(TABLE[api].request, version, cls))
    def check(tree: Any) -> None:
        data = frame(api, version, kio_bytes(to_kio(cls, TABLE[api].request, version, tree)))[:200]
        for end in range(len(data)):
            attempt(data[:end])
        for lie in (b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x80\0\0\0", b"\xff\xff\xff\xff\x0f", b"\xff" * 6):
            for at in range(len(data)):
                attempt(data[:at] + lie + data[at + len(lie) :])

    check()


def test_the_memory_that_a_frame_makes_is_bounded_by_its_size() -> None:
    """A million batches of nothing, and a hundred million in the same bytes."""
    empty = struct.pack(">ii", 0, 0)
    body = bytes.fromhex("ffff 0001 000003e8 00000001 0001 74")
    for count in (1_000_000, 100_000_000):
        data = memoryview(frame(0, 3, body + struct.pack(">i", count) + empty * 1_000_000))
        tracemalloc.start()
        try:
            with pytest.raises(MalformedRequest, match="partition_data has a length of 1"):
                codec.read_body(data, codec.read_head(data))
            assert tracemalloc.get_traced_memory()[1] < 1 << 20
        finally:
            tracemalloc.stop()


@given(st.integers(0, 2000), st.integers(0, 1 << 20))
def test_short_batches_get_an_answer_as_long_as_they_are_few(count: int, left: int) -> None:
    most = produce.most_batches(left, 8)
    assert most <= left // 8
    assert (count <= most) == (count * 8 <= left and (count <= 1000 or count * 61 <= left))
