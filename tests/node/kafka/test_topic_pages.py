"""Topics in pages, for clients of Kafka."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from node.kafka.codec import write_body
from node.kafka.handlers.cluster_facts import NOT_ASKED
from node.kafka.messages.describe_topic_partitions import Cursor, DescribeTopicPartitionsRequest, TopicRequest
from node.kafka.wire import NO_ID
from ottla.internal.v1 import metadata_pb2 as records
from tests.node.kafka.peers import from_kio, kio_class, kio_parse
from tests.node.kafka.test_handlers import World
from tests.node.kafka.test_schema import APIS
from tests.node.services.planes import Planes

KEY = 75
[API] = [each for each in APIS if each.key == KEY]
Told = list[tuple[str, int, list[int]]]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with Planes(tmp_path, 1, kafka=True) as planes:
        planes.create_topic("a", [1, 1, 1])
        planes.create_topic("b", [1, -1])
        planes.create_topic("c", [1], internal=True)
        yield World(planes)


async def asked(world: World, *names: str, limit: int = 2000, cursor: tuple[str, int] | None = None) -> Any:
    """The answer as another implementation reads it."""
    request = DescribeTopicPartitionsRequest(
        [TopicRequest(name) for name in names], limit, None if cursor is None else Cursor(*cursor)
    )
    answer = await world.ask(KEY, 0, request)
    return from_kio(kio_parse(kio_class(API, 0, "response"), write_body(KEY, 0, answer)))


async def told(world: World, *names: str, **fields: Any) -> tuple[Told, tuple[str, int] | None]:
    """(topic, error, partitions) each, and where to go on."""
    answer = await asked(world, *names, **fields)
    topics = [
        (t["name"], t["error_code"], [part["partition_index"] for part in t["partitions"]]) for t in answer["topics"]
    ]
    rest = answer["next_cursor"]
    return topics, None if rest is None else (rest["topic_name"], rest["partition_index"])


async def test_topics_and_their_partitions(world: World) -> None:
    everything = [("a", 0, [0, 1, 2]), ("b", 0, [0, 1]), ("c", 0, [0])]
    assert await told(world) == (everything, None)
    assert await told(world, "c", "a", "a") == ([everything[0], everything[2]], None)
    found = await asked(world, "b", "c")
    b, c = found["topics"]
    assert (b["is_internal"], c["is_internal"], b["topic_authorized_operations"]) == (False, True, 0x0DF8)
    led, lost = b["partitions"]
    assert (led["error_code"], led["leader_id"], led["leader_epoch"]) == (0, 1, 0)
    assert (lost["error_code"], lost["leader_id"]) == (5, -1)
    assert (led["replica_nodes"], led["isr_nodes"], led["offline_replicas"]) == ([1], [1], [])
    assert (led["eligible_leader_replicas"], led["last_known_elr"]) == ([], [])


async def test_who_is_eligible_though_not_in_sync(world: World) -> None:
    change = records.PartitionChangeRecord(topic_id=world.planes.image.names["a"], partition=0, leader=-1)
    for ids, nodes in ((change.isr, []), (change.elr, [1])):
        ids.ids.extend(nodes)
        ids.SetInParent()
    world.planes.change(records.MetadataRecord(partition_change=change), world.planes.fenced(1, True))
    [topic] = (await asked(world, "a"))["topics"]
    part = topic["partitions"][0]
    assert (part["isr_nodes"], part["eligible_leader_replicas"], part["offline_replicas"]) == ([], [1], [1])


async def test_what_is_not_there(world: World) -> None:
    assert await told(world, "missing", "a/ b", "", "x" * 250) == (
        [("", 17, []), ("a/ b", 17, []), ("missing", 3, []), ("x" * 250, 17, [])],
        None,
    )
    assert (await asked(world, "missing"))["topics"][0]["topic_id"] in (None, NO_ID)


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 5, 6, 7, 2**31 - 1])
async def test_pages_have_everything_once(world: World, limit: int) -> None:
    seen: list[tuple[str, int]] = []
    cursor: tuple[str, int] | None = None
    while True:
        topics, cursor = await told(world, limit=limit, cursor=cursor)
        page = [(name, number) for name, _, numbers in topics for number in numbers]
        assert 0 < len(page) <= limit
        seen += page
        if cursor is None:
            break
    assert seen == [("a", 0), ("a", 1), ("a", 2), ("b", 0), ("b", 1), ("c", 0)]


async def test_where_to_begin(world: World) -> None:
    assert await told(world, cursor=("b", 1)) == ([("b", 0, [1]), ("c", 0, [0])], None)
    assert await told(world, "a", "b", cursor=("b", 1), limit=0) == ([("b", 0, [1])], None)
    assert await told(world, limit=-(2**31)) == ([("a", 0, [0])], ("a", 1)), "one at least"
    assert await told(world, cursor=("bb", 7)) == ([("c", 0, [0])], None), "the topic is gone: the next one, whole"
    assert await told(world, cursor=("b", 2**31 - 1)) == ([("b", 0, []), ("c", 0, [0])], None)
    assert await told(world, cursor=("b", -1)) == ([], None)
    assert await told(world, "a", "b", cursor=("b", -1)) == ([("a", 42, []), ("b", 42, [])], None)
    assert await told(world, "a", cursor=("b", 0)) == ([("a", 42, [])], None), "not among those that are asked for"
    [refused] = (await asked(world, "a", cursor=("b", 0)))["topics"]
    assert refused["topic_authorized_operations"] == NOT_ASKED
