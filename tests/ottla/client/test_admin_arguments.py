"""What Admin is asked with is checked before anything is sent: one that is not even connected says what is wrong."""

import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from ottla import Admin, Client, ConfigError, UnknownTopic
from ottla.client.offsets import list_offsets
from ottla.client.records import TopicPartition

Call = Callable[[Any], Awaitable[object]]
WRONG: list[tuple[str, Call]] = [
    ("topic", lambda a: a.create_topic(None)),
    ("topic", lambda a: a.create_topic("")),
    ("topic", lambda a: a.create_topic(b"t")),
    ("partitions", lambda a: a.create_topic("t", partitions="3")),
    ("partitions", lambda a: a.create_topic("t", partitions=3.0)),
    ("partitions", lambda a: a.create_topic("t", partitions=2**31)),
    ("replication_factor", lambda a: a.create_topic("t", replication_factor=True)),
    ("configs", lambda a: a.create_topic("t", configs=["retention.ms"])),
    ("retention.ms", lambda a: a.create_topic("t", configs={"retention.ms": 5})),
    ("configs key", lambda a: a.create_topic("t", configs={5: "5"})),
    ("assignments", lambda a: a.create_topic("t", assignments=[[1]])),
    (r"assignments\[0\]", lambda a: a.create_topic("t", assignments={0: "12"})),
    (r"assignments\[0\]", lambda a: a.create_topic("t", assignments={0: [1, "2"]})),
    ("validate_only", lambda a: a.create_topic("t", validate_only="no")),
    ("topic", lambda a: a.delete_topic(5)),
    ("total_count", lambda a: a.create_partitions("t", None)),
    ("topic", lambda a: a.describe_topic(["t"])),
    ("changes", lambda a: a.alter_topic_configs("t", [("a", "b")])),
    ("retention.ms", lambda a: a.alter_topic_configs("t", {"retention.ms": 5})),
    ("node_id", lambda a: a.alter_broker_configs("1", {})),
    ("config key", lambda a: a.describe_topic_configs("t", None)),
    ("node_id", lambda a: a.describe_broker_configs(-1)),
    ("wanted", lambda a: a.list_offsets([("t", 0)])),
    ("'t'", lambda a: a.list_offsets({"t": -1})),
    ("partition", lambda a: a.list_offsets({("t", "0"): -1})),
    ("partition", lambda a: a.list_offsets({("t", -1): -1})),
    ("timestamp", lambda a: a.list_offsets({("t", 0): 1.5})),
    ("partition", lambda a: a.delete_records("t", "0", 1)),
    ("before_offset", lambda a: a.delete_records("t", 0, -2)),
    ("unclean", lambda a: a.elect_leader("t", 0, unclean=1)),
    ("state", lambda a: a.list_groups(5)),
    ("group_id", lambda a: a.describe_group("")),
    ("group_id", lambda a: a.delete_group(None)),
    ("offset", lambda a: a.reset_offsets("g", offset="1")),
    ("shift_by", lambda a: a.reset_offsets("g", shift_by=1.0)),
    ("topic, partition", lambda a: a.reset_offsets("g", ["t"], offset=1)),
    ("node_id", lambda a: a.add_voter("4")),
    ("directory_id", lambda a: a.remove_voter(4, "id")),
    ("node_id", lambda a: a.transfer_leadership(1.0)),
    ("level", lambda a: a.finalize_feature(level="1")),
    ("name", lambda a: a.create_user("", "secret")),
    ("password", lambda a: a.create_user("alice", None)),
    ("password", lambda a: a.change_password("alice", "")),
    ("iterations", lambda a: a.change_password("alice", "secret", iterations=1000)),
    ("name", lambda a: a.remove_user("a\nb")),
]


@pytest.mark.parametrize(("what", "call"), WRONG)
async def test_an_argument_that_makes_no_sense_is_named(what: str, call: Call) -> None:
    with pytest.raises(ConfigError, match=what) as raised:
        await call(Admin("127.0.0.1:1"))
    assert isinstance(raised.value, ValueError)


def test_the_time_to_wait_is_a_number() -> None:
    with pytest.raises(ConfigError, match="request_timeout_ms"):
        Admin("127.0.0.1:1", request_timeout_ms="30s")  # type: ignore[arg-type]


async def test_offsets_of_a_topic_that_is_not_there_are_told_within_seconds(client: Client) -> None:
    began = time.monotonic()
    with pytest.raises(UnknownTopic):
        await Admin(client).list_offsets({("nope", 0): -1})
    answers = await list_offsets(client, {TopicPartition("nope", 3): -2}, 30_000)
    assert isinstance(answers[TopicPartition("nope", 3)], UnknownTopic)
    assert time.monotonic() - began < 8


@pytest.mark.parametrize("password", ["secret\0", "secret" * 200, "secret\ud800", b"secret"])
async def test_a_password_is_not_in_the_error_about_it(password: Any) -> None:
    with pytest.raises(ConfigError, match="password") as raised:
        await Admin("127.0.0.1:1").create_user("alice", password)
    assert "secret" not in str(raised.value)
