"""Topics made and grown for clients of Kafka."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from node import limits
from node.kafka.codec import write_body
from node.kafka.handlers.cluster_facts import one_by_one
from node.kafka.handlers.topics import CreatePartitionsHandler, CreateTopicsHandler, DeleteTopicsHandler
from node.kafka.messages.create_partitions import (
    CreatePartitionsAssignment,
    CreatePartitionsRequest,
    CreatePartitionsTopic,
)
from node.kafka.messages.create_topics import CreatableTopic, CreatableTopicConfig, CreateTopicsRequest
from node.kafka.messages.delete_topics import DeleteTopicsRequest, DeleteTopicState
from ottla.protocol.configs import TOPIC_KEYS
from ottla.protocol.errors import ApiError
from ottla.v1 import error_pb2 as pb
from tests.node.controller.support import Cluster
from tests.node.kafka.controlled import Controlled, ask
from tests.node.kafka.test_handlers import Asked

CREATE_PARTITIONS = 37
INT_MAX = 2**31 - 1


def grown(name: str, count: int, *assignments: list[int]) -> CreatePartitionsTopic:
    wanted = [CreatePartitionsAssignment(each) for each in assignments] or None
    return CreatePartitionsTopic(name, count, wanted)


async def grow(controlled: Controlled, *topics: CreatePartitionsTopic, dry: bool = False) -> dict[str, int]:
    answer = await ask(CreatePartitionsHandler(controlled.api), CreatePartitionsRequest(topics, 5000, dry), 3)
    for version in range(4):
        assert write_body(CREATE_PARTITIONS, version, answer)
    assert all((each.error_message is None) == (each.error_code == 0) for each in answer.results)
    return {each.name: each.error_code for each in answer.results}


def count(controlled: Controlled, name: str = "t") -> int:
    return len(controlled.cluster.topic(name).partitions)


@pytest.fixture
def controlled() -> Controlled:
    cluster = Cluster()
    cluster.create(partitions=2)
    return Controlled(cluster)


async def test_topics_grow(controlled: Controlled) -> None:
    assert await grow(controlled, grown("t", 4), dry=True) == {"t": 0}
    assert count(controlled) == 2
    assert await grow(controlled, grown("t", 4)) == {"t": 0}
    assert count(controlled) == 4


async def test_new_partitions_go_where_they_are_told_to(controlled: Controlled) -> None:
    assert await grow(controlled, grown("t", 4, [3, 1, 2], [2, 3, 1])) == {"t": 0}
    assert [part.replicas for part in controlled.cluster.topic().partitions[2:]] == [(3, 1, 2), (2, 3, 1)]


@pytest.mark.parametrize(
    ("topic", "code"),
    [
        (grown("missing", 4), 3),
        (grown("", 4), 3),
        (grown("x" * 30_000, 4), 3),
        (grown("t", 2), 37),
        (grown("t", 1), 37),
        (grown("t", 0), 37),
        (grown("t", -1), 37),
        (grown("t", -(2**31)), 37),
        (grown("t", 4003), 44),
        (grown("t", INT_MAX), 44),
        (grown("t", 4, [1, 2, 3]), 39),
        (grown("t", 3, [1, 2, 3], [1, 2, 3]), 39),
        (grown("t", 3, [1, 2]), 39),
        (grown("t", 3, [1, 1, 2]), 39),
        (grown("t", 3, [1, 2, 9]), 39),
        (grown("t", 3, [1, 2, -(2**31)]), 39),
        (grown("t", 0, [1, 2, 3]), 37),
        (grown("t", -(2**31), [1, 2, 3]), 37),
    ],
)  # fmt: skip
async def test_what_cannot_grow(controlled: Controlled, topic: CreatePartitionsTopic, code: int) -> None:
    controlled.cluster.create("u")
    for dry in (True, False):
        assert await grow(controlled, topic, grown("u", 1), dry=dry) == {topic.name: code, "u": 37}
    assert count(controlled) == 2


async def test_a_topic_that_is_named_twice_grows_not_at_all(controlled: Controlled) -> None:
    controlled.cluster.create("u")
    assert await grow(controlled, grown("t", 3), grown("u", 2), grown("t", 4)) == {"t": 42, "u": 0}
    assert (count(controlled), count(controlled, "u")) == (2, 2)
    assert await grow(controlled) == {}


async def test_without_a_controller_nothing_is_made(controlled: Controlled) -> None:
    controlled.unreachable = ApiError(pb.ERROR_CODE_NOT_CONTROLLER, "none")
    assert await grow(controlled, grown("t", 3), grown("u", 2)) == {"t": 41, "u": 41}
    assert await create(controlled, retention_ms="5") == 41


async def create(controlled: Controlled, **configs: str | None) -> int:
    some = [CreatableTopicConfig(name.replace("_", "."), value) for name, value in configs.items()]
    request = CreateTopicsRequest([CreatableTopic("new", 1, 1, [], some), CreatableTopic("sound", 1, 1)], 5000)
    answer: Any = await ask(CreateTopicsHandler(controlled.api), request, 7)
    bad, sound = answer.topics
    assert (bad.name, sound.name) == ("new", "sound")
    if controlled.unreachable is None:
        assert sound.error_code == 0
    return int(bad.error_code)


@pytest.mark.parametrize(
    ("configs", "code"),
    [
        ({"flush_messages": "1", "retention_ms": "5"}, 0),
        ({"flush_messages": "0"}, 40),
        ({"flush_messages": None}, 40),
        ({"retention_ms": None}, 40),
        ({"cleanup_policy": None}, 40),
        ({"remote_storage_enable": "false"}, 0),
        ({"remote_storage_enable": "TRUE"}, 40),
        ({"no_such": "1"}, 40),
    ],
)
async def test_configs_of_new_topics(controlled: Controlled, configs: dict[str, str | None], code: int) -> None:
    assert await create(controlled, **configs) == code
    topic = controlled.cluster.image.topic_named("new")
    assert (topic is None) == (code != 0)
    assert topic is None or topic.configs.keys() <= {"retention.ms"}


async def test_an_answer_has_the_configs_of_new_topics_unless_they_are_many(controlled: Controlled) -> None:
    async def made(first: int, count: int, version: int = 7, dry: bool = False) -> set[int]:
        topics = [CreatableTopic(f"n{number}", 1, 1) for number in range(first, first + count)]
        answer: Any = await ask(CreateTopicsHandler(controlled.api), CreateTopicsRequest(topics, 5000, dry), version)
        assert {each.error_code for each in answer.topics} == {0}
        return {len(each.configs) for each in answer.topics}

    assert await made(0, 15) == {len(TOPIC_KEYS)}
    assert max(len(asked.resources) for method, asked in controlled.calls if method == "DescribeConfigs") == 10
    assert await made(15, 1, version=4) == {0}
    assert await made(16, 1, dry=True) == {0}
    assert await made(17, 101) == {0}


async def test_of_one_connection_they_are_made_one_by_one(controlled: Controlled) -> None:
    begin = one_by_one("CreatePartitions", CreatePartitionsHandler(controlled.api))
    call, firsts = Asked(3), list[Callable[[], None]]()
    call.when_first = firsts.append  # type: ignore[method-assign]
    begin(CreatePartitionsRequest([grown("t", 3)], 5000), call)  # type: ignore[arg-type]
    await asyncio.sleep(0)
    assert controlled.calls == []
    [first] = firsts
    first()
    answer: Any = await call.answered
    assert answer.results[0].error_code == 0


async def test_few_calls_are_under_way_at_once(controlled: Controlled) -> None:
    gate, inside, most = asyncio.Event(), 0, 0
    call = controlled.call

    async def slow(method: str, request: bytes, timeout_s: float) -> bytes:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        await gate.wait()
        inside -= 1
        return await call(method, request, timeout_s)

    controlled.call = slow  # type: ignore[method-assign]
    tasks = [asyncio.ensure_future(grow(controlled, grown("t", 3))) for _ in range(50)]
    await asyncio.sleep(0.01)
    assert inside == limits.ADMIN_IN_FLIGHT_MAX
    for task in tasks[:5]:
        task.cancel()
    gate.set()
    done = await asyncio.gather(*tasks, return_exceptions=True)
    assert sorted(str(each) for each in done[5:]) == ["{'t': 0}", *["{'t': 37}"] * 44]
    assert most == limits.ADMIN_IN_FLIGHT_MAX


async def deleted(controlled: Controlled, *topics: DeleteTopicState) -> list[tuple[str | None, int]]:
    answer = await ask(DeleteTopicsHandler(controlled.api), DeleteTopicsRequest(topics, timeout_ms=5000), 6)
    return [(each.name, each.error_code) for each in answer.responses]


async def test_a_topic_is_deleted_by_its_name_or_by_its_id_and_not_by_both(controlled: Controlled) -> None:
    topic_id = controlled.cluster.topic().topic_id
    assert await deleted(controlled, DeleteTopicState("t", topic_id)) == [("t", 42)]
    assert await deleted(controlled, DeleteTopicState(None)) == [(None, 42)]
    assert count(controlled) == 2
    assert await deleted(controlled, DeleteTopicState(None, topic_id)) == [("t", 0)]


async def test_a_topic_that_is_named_twice_is_not_deleted(controlled: Controlled) -> None:
    twice = [DeleteTopicState("t"), DeleteTopicState("t")]
    assert await deleted(controlled, *twice, DeleteTopicState("other")) == [("t", 42), ("other", 3)]
    assert count(controlled) == 2
    assert await deleted(controlled, DeleteTopicState("t")) == [("t", 0)]


async def test_what_could_not_be_made_has_no_configs(controlled: Controlled) -> None:
    answer = await ask(CreateTopicsHandler(controlled.api), CreateTopicsRequest([CreatableTopic("t", 1, 1)]), 7)
    assert [(each.error_code, list(each.configs)) for each in answer.topics] == [(36, [])]
