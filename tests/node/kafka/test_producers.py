"""What tools of Kafka list: the producers of a partition, and what there is none of."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from node import limits
from node.kafka.codec import write_body
from node.kafka.messages.describe_producers import DescribeProducersRequest, TopicRequest
from node.kafka.messages.list_partition_reassignments import ListPartitionReassignmentsRequest
from node.kafka.messages.list_transactions import ListTransactionsRequest
from ottla.protocol import acls
from tests.node.kafka.test_handlers import World, kafka_batch
from tests.node.services.planes import Planes

LIST_REASSIGNMENTS, DESCRIBE_QUOTAS, DESCRIBE_PRODUCERS, LIST_TRANSACTIONS = 46, 48, 61, 66


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with Planes(tmp_path, 1, kafka=True) as planes:
        yield World(planes)


async def told(world: World, *wanted: tuple[str, list[int]]) -> list[Any]:
    """The answer of each partition."""
    topics = [TopicRequest(name, numbers) for name, numbers in wanted]
    answer = await world.ask(DESCRIBE_PRODUCERS, 0, DescribeProducersRequest(topics))
    assert write_body(DESCRIBE_PRODUCERS, 0, answer)
    return [part for topic in answer.topics for part in topic.partitions]


async def test_the_producers_of_a_partition(world: World) -> None:
    world.planes.create_topic("t", [1])
    for producer_id, epoch, sequence in ((7, 0, 0), (7, 0, 3), (9, 2, 0)):
        data = kafka_batch(producer_id=producer_id, producer_epoch=epoch, base_sequence=sequence)
        assert (await world.produce(data)).error_code == 0
    assert (await world.produce(kafka_batch())).error_code == 0
    [part] = await told(world, ("t", [0]))
    assert [(each.producer_id, each.producer_epoch, each.last_sequence) for each in part.active_producers] == [
        (7, 0, 5),
        (9, 2, 2),
    ]
    now_ms = world.plane.broker.wall_ms()
    assert all(now_ms - 10_000 < each.last_timestamp <= now_ms for each in part.active_producers)
    assert {(each.coordinator_epoch, each.current_txn_start_offset) for each in part.active_producers} == {(-1, -1)}


async def test_partitions_that_are_not_here_fail_no_others(world: World) -> None:
    world.planes.create_topic("t", [1])
    found = await told(world, ("t", [0, 1, -1]), ("missing", [0]))
    assert [each.error_code for each in found] == [0, 3, 3, 3]
    assert all(each.error_message for each in found[1:])


async def test_a_replica_that_is_elsewhere(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.planes.create_topic("t", [1])
    monkeypatch.setattr(world.plane.broker, "partition", lambda *_: None)
    [part] = await told(world, ("t", [0]))
    assert (part.error_code, part.error_message) == (6, "node 1 has no replica of t-0; nodes [1] have")


async def test_an_answer_has_a_bound(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.planes.create_topic("t", [1])
    for producer_id in (7, 8):
        data = kafka_batch(producer_id=producer_id, producer_epoch=0, base_sequence=0)
        assert (await world.produce(data)).error_code == 0
    monkeypatch.setattr(limits, "PRODUCERS_MAX", 3)
    first, second = await told(world, ("t", [0, 0]))
    assert (len(first.active_producers), second.error_code) == (2, 42)


@pytest.mark.parametrize("granted", [None, acls.DESCRIBE])
async def test_who_may_not_ask_is_told_so(world: World, monkeypatch: pytest.MonkeyPatch, granted: int | None) -> None:
    """Though there is nothing to hide: a right that is wanted later is wanted now."""
    access = world.plane.view.access
    monkeypatch.setattr(access, "on", True)
    monkeypatch.setattr(access, "asks", True)
    monkeypatch.setattr(
        access, "would", lambda operation, resource, _: (operation, resource) == (granted, acls.CLUSTER)
    )
    moves = await world.ask(LIST_REASSIGNMENTS, 0, ListPartitionReassignmentsRequest())
    assert moves.error_code == (0 if granted == acls.DESCRIBE else 31)
    assert (await world.ask(LIST_TRANSACTIONS, 2, ListTransactionsRequest())).error_code == 0


@pytest.mark.parametrize("granted", [None, acls.DESCRIBE, acls.READ])
async def test_producers_are_for_who_reads(world: World, monkeypatch: pytest.MonkeyPatch, granted: int | None) -> None:
    world.planes.create_topic("t", [1])
    access = world.plane.view.access
    monkeypatch.setattr(access, "on", True)
    monkeypatch.setattr(access, "asks", True)
    monkeypatch.setattr(access, "would", lambda operation, resource, _: (operation, resource) == (granted, acls.TOPIC))
    [found, missing] = await told(world, ("t", [0]), ("missing", [0]))
    assert found.error_code == (0 if granted == acls.READ else 29)
    assert (missing.error_code == 29) or granted == acls.READ


async def test_there_are_no_moves_and_transactions(world: World) -> None:
    moves = await world.ask(LIST_REASSIGNMENTS, 0, ListPartitionReassignmentsRequest())
    assert (moves.error_code, list(moves.topics)) == (0, [])
    transactions = await world.ask(LIST_TRANSACTIONS, 2, ListTransactionsRequest())
    assert (transactions.error_code, list(transactions.transaction_states)) == (0, [])
