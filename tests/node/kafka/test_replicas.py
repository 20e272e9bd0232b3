"""Records deleted, leaders elected, directories described for clients of Kafka; and the cluster itself."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from node.kafka.codec import write_body
from node.kafka.handlers.replicas import ElectLeadersHandler
from node.kafka.messages.delete_records import DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic
from node.kafka.messages.describe_cluster import DescribeClusterRequest
from node.kafka.messages.describe_log_dirs import DescribableLogDirTopic, DescribeLogDirsRequest
from node.kafka.messages.elect_leaders import ElectLeadersRequest, TopicPartitions
from ottla.protocol.errors import ApiError
from ottla.v1 import error_pb2 as pb
from tests.node.controller.support import Cluster
from tests.node.kafka.controlled import Controlled, ask
from tests.node.kafka.test_handlers import World, kafka_batch
from tests.node.services.planes import Planes

DELETE_RECORDS, DESCRIBE_LOG_DIRS, ELECT_LEADERS, DESCRIBE_CLUSTER = 21, 35, 43, 60


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with Planes(tmp_path, 1, kafka=True) as planes:
        yield World(planes)


async def delete(world: World, *wanted: tuple[str, int, int], timeout_ms: int = 5000) -> list[tuple[int, int]]:
    """(error, first offset) of each (topic, partition, offset)."""
    topics = [DeleteRecordsTopic(name, [DeleteRecordsPartition(number, offset)]) for name, number, offset in wanted]
    answer = await world.ask(DELETE_RECORDS, 2, DeleteRecordsRequest(topics, timeout_ms))
    for version in range(3):
        assert write_body(DELETE_RECORDS, version, answer)
    assert [(each.name, each.partitions[0].partition_index) for each in answer.topics] == [at[:2] for at in wanted]
    return [(each.partitions[0].error_code, each.partitions[0].low_watermark) for each in answer.topics]


async def test_records_are_deleted_up_to_an_offset(world: World) -> None:
    world.planes.create_topic("t", [1, 1])
    for _ in range(2):
        await world.produce(kafka_batch())
    assert await delete(world, ("t", 0, 0)) == [(0, 0)]
    assert await delete(world, ("t", 0, 4), ("t", 1, -1)) == [(0, 4), (0, 0)]
    assert (await world.fetch(3)).error_code == 1
    assert await delete(world, ("t", 0, 2)) == [(0, 4)], "the start never goes back"
    assert await delete(world, ("t", 0, 6)) == [(0, 6)]
    await world.produce(kafka_batch())
    assert await delete(world, ("t", 0, -1)) == [(0, 9)]


async def test_what_is_not_deleted_and_that_it_fails_nothing_else(world: World) -> None:
    world.planes.create_topic("t", [1, -1])
    world.planes.create_topic("compacted", [1], cleanup_policy="compact")
    world.planes.create_topic("both", [1], cleanup_policy="compact,delete")
    world.planes.create_topic("inside", [1], internal=True)
    await world.produce(kafka_batch())
    wanted = {
        ("t", 0, 4): 1, ("t", 0, 2**63 - 1): 1, ("t", 0, -2): 1, ("t", 0, -(2**63)): 1, ("t", 1, 0): 5, ("t", 2, 0): 3,
        ("t", -1, 0): 3, ("t", -(2**31), 0): 3, ("missing", 0, 0): 3, ("", 0, 0): 42, ("x" * 30_000, 0, 0): 3,
        ("compacted", 0, -1): 44, ("inside", 0, -1): 17,
    }  # fmt: skip
    found = await delete(world, *wanted, ("t", 0, 2), ("both", 0, -1))
    assert found[:-2] == [(code, -1) for code in wanted.values()]
    assert found[-2:] == [(0, 2), (0, 0)]
    answer = await world.ask(DELETE_RECORDS, 0, DeleteRecordsRequest([], 0))
    assert list(answer.topics) == []


async def test_the_leader_is_to_be_asked_and_waits_for_its_followers(tmp_path: Path) -> None:
    async with Planes(tmp_path, 2, kafka=True) as planes:
        planes.create_topic("t", [2, 1])
        world = World(planes)
        assert await delete(world, ("t", 0, 0)) == [(6, -1)]
        await world.produce(kafka_batch(), partition=1)
        assert await delete(world, ("t", 1, 2)) == [(0, 2)]
        assert planes[2].broker.partition(planes.image.names["t"], 1).log.log_start_offset == 2  # type: ignore[union-attr]


async def test_a_replica_that_says_nothing_is_waited_for_and_nobody_waits_for_that(world: World) -> None:
    world.planes.create_topic("t", [1, 1, 1])
    for number in range(3):
        await world.produce(kafka_batch(), partition=number)
    broker = world.plane.broker
    slow = broker.partition(world.planes.image.names["t"], 0)
    assert slow is not None
    assert slow.leader is not None
    slow.leader.isr = slow.leader.isr | {9}
    began = asyncio.get_running_loop().time()
    found = await delete(world, ("t", 0, 2), ("t", 1, 2), ("t", 2, 2), timeout_ms=1000)
    assert found == [(7, -1), (0, 2), (0, 2)]
    assert 0.9 < asyncio.get_running_loop().time() - began < 8
    assert (await delete(world, ("t", 0, 2), timeout_ms=-5))[0] == (7, -1), "no time is no time"


async def log_dirs(world: World, version: int = 4, **topics: list[int]) -> tuple[Any, dict[str, dict[int, int]]]:
    wanted = [DescribableLogDirTopic(name, numbers) for name, numbers in topics.items()] if topics else None
    answer = await world.ask(DESCRIBE_LOG_DIRS, version, DescribeLogDirsRequest(wanted))
    for each in range(5):
        assert write_body(DESCRIBE_LOG_DIRS, each, answer)
    [directory] = answer.results
    sizes = {t.name: {p.partition_index: p.partition_size for p in t.partitions} for t in directory.topics}
    assert not any(p.is_future_key or p.offset_lag for t in directory.topics for p in t.partitions)
    return directory, sizes


async def test_the_directory_and_what_is_in_it(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory, sizes = await log_dirs(world)
    assert (directory.error_code, directory.log_dir, sizes) == (0, str(tmp_path / "1"), {})
    assert 0 < directory.usable_bytes < directory.total_bytes
    topic_id = world.planes.create_topic("t", [1, 1])
    world.planes.create_topic("u", [1])
    await world.produce(kafka_batch())
    stored = world.plane.broker.partition(topic_id, 0)
    assert stored is not None
    assert (await log_dirs(world))[1] == {"t": {0: stored.log.size_bytes, 1: 0}, "u": {0: 0}}
    assert stored.log.size_bytes > 100
    some = {"t": [1, 7, -1, 1], "missing": [0], "": [0], "u": []}
    assert (await log_dirs(world, **some))[1] == {"t": {1: 0}}
    assert (await log_dirs(world, missing=[0] * 19_000))[1] == {}

    def broken(path: str) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "statvfs", broken)
    directory, sizes = await log_dirs(world)
    assert (directory.error_code, directory.total_bytes, sizes) == (56, -1, {})


async def elect(controlled: Controlled, *at: tuple[str, list[int]], kind: int = 0, everywhere: bool = False) -> Any:
    """The error of the whole, and of each partition."""
    wanted = None if everywhere else [TopicPartitions(name, numbers) for name, numbers in at]
    answer = await ask(ElectLeadersHandler(controlled.api), ElectLeadersRequest(kind, wanted, 5000), 2)
    for version in range(3):
        assert write_body(ELECT_LEADERS, version, answer)
    return answer.error_code, {
        (each.topic, part.partition_id): part.error_code
        for each in answer.replica_election_results
        for part in each.partition_result
    }


async def test_leaders_are_elected() -> None:
    cluster = Cluster()
    cluster.assign("t", [1, 2, 3], [2, 3, 1])
    controlled = Controlled(cluster)
    assert await elect(controlled, ("t", [0, 1])) == (0, {("t", 0): 84, ("t", 1): 84})
    cluster.dead(1)
    assert cluster.partition().leader == 2
    assert await elect(controlled, ("t", [0])) == (0, {("t", 0): 80}), "who is preferred is not in sync"
    cluster.start(1)
    assert await elect(controlled, everywhere=True) == (0, {("t", 0): 80})
    cluster.alter([1, 2, 3])
    assert await elect(controlled, ("t", [0, 1]), kind=1) == (0, {("t", 0): 84, ("t", 1): 84})
    assert await elect(controlled, ("t", [0, 1, 2, -1]), ("missing", [0]), ("", [0])) == (
        0,
        {("t", 0): 0, ("t", 1): 84, ("t", 2): 3, ("t", -1): 3, ("missing", 0): 3, ("", 0): 3},
    )
    assert cluster.partition().leader == 1
    assert await elect(controlled, everywhere=True) == (0, {}), "what needed no election is left out"


async def test_an_unclean_election_is_for_those_without_a_leader() -> None:
    cluster = Cluster()
    cluster.assign("t", [1, 2], [3, 1])
    cluster.dead(2)
    cluster.dead(1)
    cluster.start(2)
    assert cluster.partition().leader == -1
    controlled = Controlled(cluster)
    assert await elect(controlled, ("t", [0, 1]), kind=1) == (0, {("t", 0): 0, ("t", 1): 84})
    assert cluster.partition().leader == 2


async def test_nothing_named_is_nothing_elected_and_other_elections_are_not_held() -> None:
    controlled = Controlled()
    controlled.cluster.create()
    assert await elect(controlled) == (0, {})
    assert controlled.calls == []
    for kind in (2, -1, 127):
        assert await elect(controlled, ("t", [0]), kind=kind) == (42, {("t", 0): 42})
        assert await elect(controlled, everywhere=True, kind=kind) == (42, {})
    controlled.unreachable = ApiError(pb.ERROR_CODE_NOT_CONTROLLER, "none")
    assert await elect(controlled, ("t", [0])) == (41, {("t", 0): 41})


async def test_the_cluster_and_its_nodes(tmp_path: Path) -> None:
    async with Planes(tmp_path, 2, kafka=True) as planes:
        world = World(planes)

        async def described(version: int, **fields: Any) -> Any:
            answer = await world.ask(DESCRIBE_CLUSTER, version, DescribeClusterRequest(**fields))
            for each in range(3):
                assert write_body(DESCRIBE_CLUSTER, each, answer)
            return answer

        found = await described(0)
        assert (found.error_code, found.cluster_id, found.controller_id) == (0, (b"c" * 16).hex(), 1)
        assert [f"{each.host}:{each.port}" for each in found.brokers] == [planes.kafka_address(n) for n in (1, 2)]
        assert found.cluster_authorized_operations == -(2**31)
        asked = await described(1, include_cluster_authorized_operations=True)
        assert asked.cluster_authorized_operations == 0x1FA0
        planes.change(planes.fenced(2, True))
        assert [each.broker_id for each in (await described(1)).brokers] == [1]
        everyone = await described(2, include_fenced_brokers=True)
        assert [(each.broker_id, each.is_fenced) for each in everyone.brokers] == [(1, False), (2, True)]
        for kind, code in ((2, 114), (0, 115), (3, 115), (-1, 115)):
            refused = await described(1, endpoint_type=kind)
            assert (refused.error_code, list(refused.brokers)) == (code, [])
            assert str(kind) in refused.error_message
