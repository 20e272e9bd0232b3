"""The config table: every default parses, nonsense is refused with what is allowed, precedence holds."""

import dataclasses

import pytest

from ottla.protocol.configs import (
    BROKER_KEYS,
    TOPIC_KEYS,
    TopicConfigs,
    broker_defaults,
    default_min_insync_replicas,
    effective,
    topic_key,
)
from ottla.protocol.errors import ApiError
from ottla.v1 import error_pb2 as pb


def test_the_typed_view_has_exactly_the_tables_keys() -> None:
    assert {f.name for f in dataclasses.fields(TopicConfigs)} == {n.replace(".", "_") for n in TOPIC_KEYS}


def test_defaults_are_those_of_the_table() -> None:
    view = effective({}, {}, 3)
    assert (view.cleanup_policy, view.retention_ms, view.retention_bytes) == (("delete",), 604_800_000, -1)
    assert (view.segment_bytes, view.max_message_bytes, view.flush) == (134_217_728, 1_048_588, "replica")
    assert view.unclean_leader_election_enable is False


@pytest.mark.parametrize(("factor", "expected"), [(1, 1), (2, 1), (3, 2), (5, 4)])
def test_min_insync_replicas_follows_the_replication_factor(factor: int, expected: int) -> None:
    assert default_min_insync_replicas(factor) == expected
    assert effective({}, {}, factor).min_insync_replicas == expected


def test_precedence_topic_then_this_broker_then_all_brokers_then_file() -> None:
    dynamic = {"": {"log.retention.ms": "2000"}, "1": {"log.retention.ms": "3000"}}
    static = {"log.retention.ms": "1000", "log.segment.bytes": "1048576"}
    assert effective({}, broker_defaults({}, static)).retention_ms == 1000
    assert effective({}, broker_defaults(dynamic, static)).retention_ms == 2000
    assert effective({}, broker_defaults(dynamic, static, 2)).retention_ms == 2000
    assert effective({}, broker_defaults(dynamic, static, 1)).retention_ms == 3000
    assert effective({"retention.ms": "4000"}, broker_defaults(dynamic, static, 1)).retention_ms == 4000
    assert effective({}, broker_defaults(dynamic, static, 1)).segment_bytes == 1_048_576


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("retention.ms", "-2"),
        ("retention.ms", "9223372036854775808"),
        ("retention.ms", "1_000"),
        ("retention.ms", "١٢"),
        ("retention.ms", ""),
        ("retention.ms", "1.5"),
        ("segment.bytes", "1048575"),
        ("segment.bytes", "0x100000"),
        ("min.insync.replicas", "0"),
        ("min.cleanable.dirty.ratio", "nan"),
        ("min.cleanable.dirty.ratio", "1.1"),
        ("min.cleanable.dirty.ratio", "half"),
        ("cleanup.policy", "delete,delete"),
        ("cleanup.policy", "keep"),
        ("flush", "always"),
        ("flush", "REPLICA"),
        ("unclean.leader.election.enable", "yes"),
        ("compression.type", "brotli"),
        ("max.message.bytes", "33554433"),
    ],
)
def test_a_bad_value_is_refused_with_its_key_and_what_is_allowed(key: str, text: str) -> None:
    with pytest.raises(ApiError) as caught:
        topic_key(key).parse(text)
    assert caught.value.code == pb.ERROR_CODE_INVALID_CONFIG
    assert caught.value.message.startswith(f"{key} = {text!r}: ")
    assert caught.value.message.endswith("allowed")


def test_a_huge_value_is_not_echoed() -> None:
    with pytest.raises(ApiError) as caught:
        topic_key("flush").parse("x" * 10**6)
    assert len(caught.value.message) < 200


def test_an_unknown_key_is_refused() -> None:
    with pytest.raises(ApiError) as caught:
        topic_key("retention.msec")
    assert caught.value.code == pb.ERROR_CODE_INVALID_CONFIG


def test_an_empty_cleanup_policy_keeps_everything() -> None:
    assert effective({"cleanup.policy": ""}, {}).cleanup_policy == ()
    assert effective({"cleanup.policy": "compact, delete"}, {}).cleanup_policy == ("compact", "delete")


def test_every_key_says_what_it_means_and_broker_names_are_unique() -> None:
    assert len(BROKER_KEYS) == len(TOPIC_KEYS) + 6
    assert all(key.doc.endswith(".") or "=" in key.doc for key in (*TOPIC_KEYS.values(), *BROKER_KEYS.values()))


@pytest.mark.parametrize(
    ("key", "end"),
    [("retention.mz", ": did you mean retention.ms?"), ("min.isr", "'min.isr'"), ("x" * 200, "x'")],
)
def test_an_unknown_key_names_the_one_that_was_meant(key: str, end: str) -> None:
    with pytest.raises(ApiError) as refused:
        topic_key(key)
    assert refused.value.code == pb.ERROR_CODE_INVALID_CONFIG
    assert refused.value.message.endswith(end)
    assert len(refused.value.message) < 200
