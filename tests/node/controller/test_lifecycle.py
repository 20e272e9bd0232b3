"""The broker's lifecycle against a real controller shell over gRPC on loopback: registers, beats, moves on, stops."""

import asyncio
import itertools
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import grpc
import pytest

from node.api.access import OFF
from node.api.throttle import Throttle
from node.broker.lifecycle import BrokerLifecycle, LogEnd, PlaneState
from node.controller.service import admin_handlers, controller_handlers
from node.controller.shell import ControllerShell
from node.controller.state.draft import ControllerSettings
from node.metadata.image import NO_LEADER, Image
from node.metadata.publisher import MetadataPublisher
from node.metrics import Metrics
from node.services import listener
from ottla.internal.v1 import controller_pb2 as rpc
from ottla.protocol.errors import ApiError
from ottla.v1 import admin_pb2 as admin
from ottla.v1 import cluster_pb2
from ottla.v1.admin_pb2_grpc import AdminServiceStub
from tests.node.controller.quorum import CLUSTER, MemoryQuorum


def now_ms() -> int:
    return time.monotonic_ns() // 1_000_000


class NoVoters:
    async def add_voter(self, node_id: int, directory_id: bytes) -> None:
        raise ApiError(42, "not here")

    async def remove_voter(self, node_id: int, directory_id: bytes) -> None:
        raise ApiError(42, "not here")

    async def transfer(self, node_id: int | None) -> None:
        raise ApiError(42, "not here")

    def describe(self) -> cluster_pb2.DescribeQuorumResponse:
        return cluster_pb2.DescribeQuorumResponse()


class Node:
    """One controller node: shell, publisher, a quorum of one, its control listener."""

    def __init__(self) -> None:
        self.quorum = MemoryQuorum()
        self.publisher = MetadataPublisher()
        ids = itertools.count(1)
        self.shell = ControllerShell(
            self.quorum,
            self.publisher,
            ControllerSettings(session_timeout_ms=1500, heartbeat_interval_ms=100),
            now_ms,
            lambda: next(ids).to_bytes(16),
            lambda: 1_700_000_000_000,
        )
        self.quorum.add_listener(self.shell)
        self.server = listener.make_server(32 * 2**20)
        metrics = Metrics()
        controller = rpc.DESCRIPTOR.services_by_name["ControllerService"]
        listener.add_service(self.server, controller, controller_handlers(self.shell), metrics)
        admins = admin.DESCRIPTOR.services_by_name["AdminService"]
        listener.add_service(
            self.server, admins, admin_handlers(self.shell, NoVoters(), OFF, Throttle(), lambda: Image.EMPTY), metrics
        )
        self.address = f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"
        self.ticking: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self.server.start()
        self.ticking = asyncio.ensure_future(self.shell.run())

    async def stop(self) -> None:
        assert self.ticking is not None
        self.ticking.cancel()
        await self.server.stop(None)

    def live(self) -> list[int]:
        return [broker.node_id for broker in self.publisher.image.live_brokers()]


class Brokers:
    """Lifecycles under test; all follow `controller`."""

    def __init__(self, controller: Node) -> None:
        self.controller: Node | None = controller
        self.age_ms = dict.fromkeys(range(9), 0)
        self.log_ends: dict[int, LogEnd] = {}
        self.applied: Callable[[], int] = lambda: controller.publisher.image.index
        self.tasks: dict[int, asyncio.Task[None]] = {}
        self.registered: list[tuple[int, int]] = []

    def start(self, node_id: int, **fields: object) -> BrokerLifecycle:
        values: dict[str, object] = {
            "node_id": node_id,
            "directory_id": bytes([node_id]) * 16,
            "incarnation_id": random.randbytes(16),
            "client_address": "127.0.0.1:1",
            "replication_address": "127.0.0.1:2",
            "control_address": "127.0.0.1:3",
            "min_metadata_version": 1,
            "max_metadata_version": 1,
        }
        lifecycle = BrokerLifecycle(
            rpc.RegisterBrokerRequest(**(values | fields)),  # type: ignore[arg-type]
            cluster_id=lambda: CLUSTER,
            controller_address=lambda: self.controller.address if self.controller else None,
            plane=lambda: PlaneState(self.applied(), self.age_ms[node_id]),
            log_ends=self.looked_up(node_id),
            on_registered=lambda epoch: self.registered.append((node_id, epoch)),
            heartbeat_interval_ms=100,
            session_timeout_ms=1500,
            rng=random.Random(node_id),
        )
        self.tasks[node_id] = asyncio.ensure_future(lifecycle.run())
        return lifecycle

    def looked_up(self, node_id: int) -> Callable[[Sequence[tuple[bytes, int]]], Awaitable[list[LogEnd | None]]]:
        async def look_up(wanted: Sequence[tuple[bytes, int]]) -> list[LogEnd | None]:
            return [self.log_ends.get(node_id)] * len(wanted)

        return look_up

    async def kill(self, node_id: int) -> None:
        self.tasks[node_id].cancel()
        await asyncio.gather(self.tasks.pop(node_id), return_exceptions=True)


async def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  # the conditions belong to others and have no event
            await asyncio.sleep(0.01)


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    node = Node()
    await node.start()
    node.quorum.become_leader(1)
    yield node
    await node.stop()


@pytest.fixture
async def brokers(node: Node) -> AsyncIterator[Brokers]:
    brokers = Brokers(node)
    yield brokers
    for node_id in list(brokers.tasks):
        await brokers.kill(node_id)


async def test_a_broker_registers_is_unfenced_and_keeps_its_lease(node: Node, brokers: Brokers) -> None:
    lifecycle = brokers.start(1)
    await until(lambda: not lifecycle.fenced)
    assert lifecycle.caught_up
    assert brokers.registered == [(1, lifecycle.broker_epoch)]
    await asyncio.sleep(2.0)  # longer than the lease
    assert node.live() == [1]


async def test_a_broker_that_nobody_answers_knows_that_it_may_be_fenced(node: Node, brokers: Brokers) -> None:
    lifecycle = brokers.start(1)
    assert not lifecycle.heard
    await until(lambda: not lifecycle.fenced)
    assert lifecycle.heard
    brokers.controller, asked_s = None, time.perf_counter()
    await asyncio.sleep(0.2)
    assert lifecycle.heard or time.perf_counter() - asked_s > 0.4, "the session goes on for 600 ms"
    await until(lambda: not lifecycle.heard)
    assert not lifecycle.fenced, "nobody has told it"
    brokers.controller = node
    await until(lambda: lifecycle.heard)


async def test_a_killed_broker_is_fenced_by_time_and_its_restart_takes_over(node: Node, brokers: Brokers) -> None:
    first = brokers.start(1)
    await until(lambda: node.live() == [1])
    await brokers.kill(1)
    await until(lambda: node.live() == [])
    second = brokers.start(1)
    await until(lambda: node.live() == [1])
    assert first.broker_epoch is not None
    assert second.broker_epoch is not None
    assert second.broker_epoch > first.broker_epoch


async def test_a_wedged_data_loop_gets_the_broker_fenced_and_back(node: Node, brokers: Brokers) -> None:
    lifecycle = brokers.start(1)
    await until(lambda: not lifecycle.fenced)
    brokers.age_ms[1] = 5000
    await until(lambda: lifecycle.fenced)
    brokers.age_ms[1] = 0
    await until(lambda: not lifecycle.fenced)


async def test_create_topic_returns_soon_because_brokers_say_at_once_what_they_applied(
    node: Node, brokers: Brokers
) -> None:
    lifecycles = [brokers.start(n) for n in (1, 2, 3)]
    await until(lambda: node.live() == [1, 2, 3])
    node.publisher.subscribe(lambda _i, _d: [lifecycle.metadata_applied() for lifecycle in lifecycles])  # type: ignore[func-returns-value]
    async with grpc.aio.insecure_channel(node.address) as channel:
        stub = AdminServiceStub(channel)
        took_s = []
        for i in range(10):
            started = time.perf_counter()
            answer = await stub.CreateTopics(admin.CreateTopicsRequest(topics=[admin.NewTopic(name=f"t{i}")]))
            took_s.append(time.perf_counter() - started)
            assert not answer.topics[0].HasField("error")
    assert sorted(took_s)[3] < 0.09, "it waited for a periodic heartbeat (every 100 ms)"


async def test_it_waits_for_a_controller_and_goes_to_the_next_without_registering_again(
    node: Node, brokers: Brokers
) -> None:
    brokers.controller = None
    lifecycle = brokers.start(1)
    await asyncio.sleep(0.2)
    assert lifecycle.broker_epoch is None
    brokers.controller = node
    await until(lambda: not lifecycle.fenced)
    epoch = lifecycle.broker_epoch
    node.quorum.lose_leadership(to=None, term=2)
    await asyncio.sleep(0.3)
    node.quorum.become_leader(3)
    await asyncio.sleep(0.5)
    assert node.live() == [1]
    assert lifecycle.broker_epoch == epoch
    assert brokers.registered == [(1, epoch)]


async def test_logs_that_are_gone_are_told_once_for_they_are_fetched_again(
    node: Node, brokers: Brokers, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[int] = []
    handle = node.shell.handle

    async def heard(request: Any) -> Any:
        if isinstance(request, rpc.RegisterBrokerRequest):
            told.append(len(request.lost_partitions))
        return await handle(request)

    monkeypatch.setattr(node.shell, "handle", heard)
    lifecycle = brokers.start(1, lost_partitions=[rpc.PartitionId(topic_id=b"t" * 16, partition=0)])
    await until(lambda: not lifecycle.fenced)
    assert lifecycle.broker_epoch is not None
    lifecycle.broker_epoch -= 1
    await until(lambda: len(told) == 2 and not lifecycle.fenced)
    assert told == [1, 0]


async def test_it_registers_again_where_the_controller_knows_another_start(node: Node, brokers: Brokers) -> None:
    lifecycle = brokers.start(1)
    await until(lambda: not lifecycle.fenced)
    epoch = lifecycle.broker_epoch
    assert epoch is not None
    lifecycle.broker_epoch = epoch - 1
    await until(lambda: lifecycle.broker_epoch == epoch and not lifecycle.fenced)


async def test_another_cluster_ends_it_with_both_ids(node: Node, brokers: Brokers) -> None:
    node.quorum.cluster_id = b"x" * 16
    brokers.start(1)
    with pytest.raises(ApiError) as error:
        await brokers.tasks[1]
    assert error.value.name == "INCONSISTENT_CLUSTER_ID"
    assert CLUSTER.hex() in error.value.message
    assert (b"x" * 16).hex() in error.value.message


async def test_a_second_process_with_the_same_id_waits_until_the_first_is_gone(node: Node, brokers: Brokers) -> None:
    brokers.start(1)
    await until(lambda: node.live() == [1])
    first = brokers.tasks.pop(1)
    other = brokers.start(1, directory_id=b"o" * 16)
    await asyncio.sleep(0.5)
    assert other.broker_epoch is None
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    await until(lambda: not other.fenced)


async def test_a_controlled_stop_waits_until_the_others_lead(node: Node, brokers: Brokers) -> None:
    lifecycles = [brokers.start(n) for n in (1, 2, 3)]
    await until(lambda: node.live() == [1, 2, 3])
    wish = admin.NewTopic(name="t", num_partitions=6)
    async with grpc.aio.insecure_channel(node.address) as channel:
        await AdminServiceStub(channel).CreateTopics(admin.CreateTopicsRequest(topics=[wish]))
    assert await lifecycles[0].stop(5000)
    topic = node.publisher.image.topic_named("t")
    assert topic is not None
    assert all(p.leader in (2, 3) and 1 not in p.isr for p in topic.partitions)


async def test_a_controlled_stop_has_a_deadline(node: Node, brokers: Brokers) -> None:
    lifecycle = brokers.start(1)
    await until(lambda: not lifecycle.fenced)
    node.quorum.auto = False
    started = time.perf_counter()
    assert not await lifecycle.stop(300)
    assert time.perf_counter() - started < 5


async def test_after_a_power_loss_brokers_are_asked_for_their_log_ends(node: Node, brokers: Brokers) -> None:
    for n in (1, 2, 3):
        brokers.start(n)
    await until(lambda: node.live() == [1, 2, 3])
    assignment = [admin.ReplicaAssignment(partition=0, replicas=[1, 2, 3])]
    async with grpc.aio.insecure_channel(node.address) as channel:
        request = admin.CreateTopicsRequest(topics=[admin.NewTopic(name="t", assignments=assignment)])
        await AdminServiceStub(channel).CreateTopics(request)
    for n in (1, 2, 3):
        await brokers.kill(n)
    await until(lambda: node.live() == [])
    topic = node.publisher.image.topic_named("t")
    assert topic is not None

    leaderless = node.publisher.image.partition(topic.topic_id, 0)
    assert leaderless is not None
    assert leaderless.leader == NO_LEADER
    # Whose lease ended first need not come back for a leader to be elected, and that may be any of them.
    [outside] = {1, 2, 3} - {*leaderless.isr, *leaderless.elr}
    second, most_complete = sorted({1, 2, 3} - {outside})
    ends = {outside: 10, second: 20, most_complete: 30}
    brokers.log_ends = {n: LogEnd(0, end, leaderless.leader_epoch) for n, end in ends.items()}
    for n in (2, 3, 1):
        brokers.start(n, unclean_stop=True)

    def led() -> bool:
        partition = node.publisher.image.partition(topic.topic_id, 0)
        return partition is not None and partition.leader == most_complete and partition.recovering

    await until(led)


async def test_an_admin_call_at_a_node_that_does_not_lead_is_a_status_with_the_reason(node: Node) -> None:
    node.quorum.lose_leadership(to=2, term=5)
    async with grpc.aio.insecure_channel(node.address) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await AdminServiceStub(channel).CreateTopics(admin.CreateTopicsRequest())
    assert error.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "NOT_CONTROLLER: node 1 is not the active controller, node 2 is (term 5)" in (error.value.details() or "")
