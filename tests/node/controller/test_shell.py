"""The shell around an in-memory quorum: answers at commit, batches, lost leadership, waiting for brokers."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

import pytest

from node import limits
from node.controller import shell as shell_module
from node.controller.shell import ANSWER_MAX_BYTES, REACHED_MS, TICK_MIN_S, TICK_S, ControllerShell
from node.controller.state import topics
from node.controller.state.draft import ControllerSettings, Draft
from node.limits import AT_ONCE
from node.metadata.publisher import MetadataPublisher
from ottla.internal.v1 import controller_pb2 as rpc
from ottla.protocol.errors import ApiError
from ottla.protocol.invariant import InvariantError
from ottla.v1 import admin_pb2 as admin
from ottla.v1 import error_pb2 as pb
from tests.node.controller.quorum import MemoryQuorum
from tests.node.controller.support import Cluster

T = TypeVar("T")


class Rig:
    def __init__(self, session_timeout_ms: int = 3000) -> None:
        self.quorum = MemoryQuorum()
        self.publisher = MetadataPublisher()
        self.now_ms = 1_000_000
        ids = itertools.count(1)
        self.shell = ControllerShell(
            self.quorum,
            self.publisher,
            ControllerSettings(session_timeout_ms=session_timeout_ms),
            lambda: self.now_ms,
            lambda: next(ids).to_bytes(16),
            lambda: 1_700_000_000_000,
        )
        self.quorum.add_listener(self.shell)
        self.epochs: dict[int, int] = {}
        self._requests = Cluster(nodes=0)

    async def register(self, node_id: int) -> rpc.RegisterBrokerResponse:
        answer: rpc.RegisterBrokerResponse = await self.shell.handle(self._requests.registration(node_id))
        self.epochs[node_id] = answer.broker_epoch
        return answer

    def beat(self, node_id: int, **fields: Any) -> Awaitable[rpc.HeartbeatResponse]:
        values: dict[str, Any] = {
            "node_id": node_id,
            "broker_epoch": self.epochs[node_id],
            "metadata_index": self.publisher.image.index,
        }
        return self.shell.handle(rpc.HeartbeatRequest(**(values | fields)))

    async def beat_all(self) -> None:
        await asyncio.gather(*(self.beat(node_id) for node_id in self.epochs))

    def create(self, name: str = "t", **fields: Any) -> "asyncio.Task[admin.CreateTopicsResponse]":
        request = admin.CreateTopicsRequest(topics=[admin.NewTopic(name=name)], **fields)
        return asyncio.ensure_future(self.shell.handle(request))


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def until(holds: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < give_up, "it did not come about"
        await asyncio.sleep(0)


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    rig = Rig()
    rig.quorum.become_leader(1)
    await settle()
    for node_id in (1, 2, 3):
        await rig.register(node_id)
        await rig.beat(node_id)
    yield rig
    assert not rig.shell.failed.done()


def refused(task: "asyncio.Task[Any]") -> str:
    error = task.exception()
    assert isinstance(error, ApiError), error
    return error.name


async def test_a_new_controller_writes_the_metadata_version_and_brokers_become_live(rig: Rig) -> None:
    assert dict(rig.publisher.image.features) == {"metadata.version": 1}
    assert [b.node_id for b in rig.publisher.image.live_brokers()] == [1, 2, 3]
    assert rig.shell.lease_ages_ms() == {1: 0, 2: 0, 3: 0}


async def test_a_brokers_epoch_is_the_index_of_its_registration(rig: Rig) -> None:
    answer = await rig.register(2)
    assert answer.broker_epoch == rig.quorum.last_index
    assert rig.publisher.image.brokers[2].broker_epoch == rig.quorum.last_index


async def test_an_answer_leaves_at_commit_not_at_append(rig: Rig) -> None:
    rig.quorum.auto = False
    task = asyncio.ensure_future(
        rig.shell.handle(rpc.AllocateProducerIdsRequest(node_id=1, broker_epoch=rig.epochs[1]))
    )
    await settle()
    assert rig.quorum.last_index == rig.quorum.commit_index + 1
    assert not task.done()
    rig.quorum.commit()
    assert (await task).first_producer_id == 1


async def test_an_answer_without_a_change_waits_for_the_entry_it_was_based_on(rig: Rig) -> None:
    rig.quorum.auto = False
    first = rig.create("same")
    await settle()
    second = rig.create("same")
    await settle()
    assert not second.done(), "it answered from an entry that may still be lost"
    rig.quorum.commit()
    answer = await second
    assert answer.topics[0].error.code == pb.ERROR_CODE_TOPIC_ALREADY_EXISTS
    first.cancel()


async def test_what_arrives_together_is_one_entry(rig: Rig) -> None:
    before = rig.quorum.last_index
    answers = await asyncio.gather(
        *(rig.shell.handle(rpc.AllocateProducerIdsRequest(node_id=1, broker_epoch=rig.epochs[1])) for _ in range(50))
    )
    assert rig.quorum.last_index == before + 1
    assert sorted(a.first_producer_id for a in answers) == [1 + 1000 * i for i in range(50)]


async def test_a_refusal_in_a_batch_fails_alone(rig: Rig) -> None:
    good = asyncio.ensure_future(
        rig.shell.handle(rpc.AllocateProducerIdsRequest(node_id=1, broker_epoch=rig.epochs[1]))
    )
    stale = asyncio.ensure_future(rig.shell.handle(rpc.AllocateProducerIdsRequest(node_id=1, broker_epoch=1)))
    await settle()
    assert good.result().count == 1000
    assert refused(stale) == "STALE_BROKER_EPOCH"


async def test_lost_leadership_makes_what_was_appended_unknown_and_drops_the_state(rig: Rig) -> None:
    rig.quorum.auto = False
    appended = rig.create("lost")
    await settle()
    rig.quorum.lose_leadership(to=2, term=2, keep=0)
    later = rig.create("later")
    await settle()
    assert refused(appended) == "REQUEST_TIMED_OUT"
    assert refused(later) == "NOT_CONTROLLER"
    error = later.exception()
    assert isinstance(error, ApiError)
    assert (error.leader, error.address) == (2, "127.0.0.1:9293")
    # Elected again: nothing of the lost entry is left, and the name is free.
    rig.quorum.auto = True
    rig.quorum.become_leader(3)
    await settle()
    assert rig.publisher.image.topic_named("lost") is None
    again = rig.create("lost")
    await until(lambda: rig.publisher.image.topic_named("lost") is not None)
    await rig.beat_all()
    assert not (await again).topics[0].HasField("error")


async def test_an_entry_that_survives_lost_leadership_is_there_though_its_caller_was_told_unknown(rig: Rig) -> None:
    rig.quorum.auto = False
    appended = rig.create("kept")
    await settle()
    rig.quorum.lose_leadership(to=2, term=2)
    await settle()
    assert refused(appended) == "REQUEST_TIMED_OUT"
    rig.quorum.commit()
    assert rig.publisher.image.topic_named("kept") is not None


async def test_leadership_lost_between_two_terms_does_not_mix_their_answers(rig: Rig) -> None:
    rig.quorum.auto = False
    appended = rig.create("old-term")
    await settle()
    rig.quorum.lose_leadership(to=None, term=2, keep=0)
    rig.quorum.become_leader(3)
    await settle()
    assert refused(appended) == "REQUEST_TIMED_OUT"


async def test_a_new_term_of_the_same_node_starts_from_what_is_committed(rig: Rig) -> None:
    """It may be deposed and elected again before it hears of either."""
    rig.quorum.auto = False
    appended = rig.create("old-term")
    await settle()
    del rig.quorum.entries[rig.quorum.commit_index :]
    rig.quorum.auto = True
    rig.quorum.become_leader(3)
    await settle()
    assert refused(appended) == "REQUEST_TIMED_OUT"
    again = rig.create("old-term")
    await until(lambda: rig.publisher.image.topic_named("old-term") is not None)
    await rig.beat_all()
    assert not (await again).topics[0].HasField("error")
    assert rig.publisher.image.topic_named("old-term") is not None


async def test_leadership_lost_inside_an_append_leaves_its_answers_unknown(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def propose(data: bytes, term: int) -> int:
        rig.quorum.entries.append((term, data))
        rig.quorum.lose_leadership(to=2, term=2)
        return rig.quorum.last_index

    monkeypatch.setattr(rig.quorum, "propose", propose)
    task = rig.create("t")
    await settle()
    assert refused(task) == "REQUEST_TIMED_OUT"
    assert not rig.shell.active


async def test_a_refused_append_steps_down(rig: Rig) -> None:
    """The quorum may know of a new leader before it says so."""
    rig.quorum.leadership = type(rig.quorum.leadership)(2, 2, False, False)
    task = rig.create("t")
    await settle()
    assert refused(task) == "NOT_CONTROLLER"
    assert not rig.shell.active


async def test_create_topic_returns_when_every_live_broker_has_applied_it(rig: Rig) -> None:
    task = rig.create("t")
    await settle()
    assert rig.publisher.image.topic_named("t") is not None
    assert not task.done()
    await rig.beat(1)
    await rig.beat(2)
    assert not task.done()
    await rig.beat(3)
    await settle()
    assert task.done()


async def test_a_broker_that_is_fenced_meanwhile_is_not_waited_for(rig: Rig) -> None:
    task = rig.create("t")
    await settle()
    rig.quorum.dead(3)
    await settle()
    await rig.beat(1)
    await rig.beat(2)
    await settle()
    assert not (await task).topics[0].HasField("error")


async def test_create_topic_says_which_broker_it_waited_for_in_vain(rig: Rig) -> None:
    task = rig.create("t", timeout_ms=300)
    await settle()
    await rig.beat(1)
    await rig.beat(2)
    error = (await task).topics[0].error
    assert error.code == pb.ERROR_CODE_REQUEST_TIMED_OUT
    assert "broker 3 did not apply it within 300 ms" in error.message
    assert rig.publisher.image.topic_named("t") is not None


async def test_validate_only_and_refusals_wait_for_nobody(rig: Rig) -> None:
    before = rig.quorum.last_index
    assert not (await rig.create("ok", validate_only=True)).topics[0].HasField("error")
    bad = (await rig.create("../x")).topics[0].error
    assert bad.code == pb.ERROR_CODE_INVALID_TOPIC_EXCEPTION
    assert rig.quorum.last_index == before


async def test_describing_configs_passes_a_read_barrier(rig: Rig) -> None:
    await rig.shell.handle(admin.DescribeConfigsRequest())
    assert rig.quorum.barriers == 1


async def test_the_number_of_waiting_requests_is_bounded(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.controller.shell.REQUESTS_MAX", 5)
    rig.quorum.auto = False
    tasks = [
        asyncio.ensure_future(rig.shell.handle(rpc.AllocateProducerIdsRequest(node_id=1, broker_epoch=rig.epochs[1])))
        for _ in range(8)
    ]
    await settle()
    assert [refused(task) for task in tasks if task.done()] == ["THROTTLING_QUOTA_EXCEEDED"] * 3
    rig.quorum.commit()
    await settle()
    assert all(task.done() for task in tasks)


async def test_an_entry_has_a_size_and_the_rest_follows_in_the_next(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.controller.shell.RECORDS_PER_ENTRY", 3)
    before = rig.quorum.last_index
    await asyncio.gather(
        *(rig.shell.handle(rpc.AllocateProducerIdsRequest(node_id=1, broker_epoch=rig.epochs[1])) for _ in range(10))
    )
    assert rig.quorum.last_index - before == 3
    assert rig.publisher.image.next_producer_id == 10_001


async def test_a_bug_in_one_decision_fails_that_request_alone(rig: Rig) -> None:
    good = asyncio.ensure_future(
        rig.shell.handle(rpc.AllocateProducerIdsRequest(node_id=1, broker_epoch=rig.epochs[1]))
    )
    unknown = asyncio.ensure_future(rig.shell.handle(object()))
    await until(lambda: good.done() and unknown.done())
    assert refused(unknown) == "UNKNOWN_SERVER_ERROR"
    assert good.result().count == 1000


async def test_a_caller_that_went_away_does_not_disturb_the_others(rig: Rig) -> None:
    rig.quorum.auto = False
    requests = [
        asyncio.ensure_future(rig.shell.handle(rpc.AllocateProducerIdsRequest(node_id=1, broker_epoch=rig.epochs[1])))
        for _ in range(3)
    ]
    await settle()
    requests[1].cancel()
    await settle()
    rig.quorum.commit()
    await settle()
    assert requests[0].result().count == requests[2].result().count == 1000


async def test_a_broken_invariant_stops_the_node_and_answers_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig()
    rig.quorum.become_leader(1)
    await settle()
    await rig.register(1)
    monkeypatch.setattr(MemoryQuorum, "propose", lambda self, data, term: self.last_index + 7)
    task = asyncio.ensure_future(rig.beat(1))
    await settle()
    assert not task.done()
    with pytest.raises(InvariantError, match="appended at"):
        await rig.shell.failed


async def test_time_alone_fences_a_silent_broker() -> None:
    rig = Rig(session_timeout_ms=800)
    rig.quorum.become_leader(1)
    await settle()
    for node_id in (1, 2):
        await rig.register(node_id)
        await rig.beat(node_id)
    running = asyncio.ensure_future(rig.shell.run())
    try:
        async with asyncio.timeout(10):
            while len(rig.publisher.image.live_brokers()) == 2:
                rig.now_ms += 50
                await rig.beat(1)
                await asyncio.sleep(0.05)
    finally:
        running.cancel()
    assert [b.node_id for b in rig.publisher.image.live_brokers()] == [1]


async def test_a_lease_is_looked_at_when_it_ends() -> None:
    rig = Rig(session_timeout_ms=3000)
    assert rig.shell.next_tick_s == TICK_S
    rig.quorum.become_leader(1)
    await settle()
    for node_id in (1, 2):
        await rig.register(node_id)
        await rig.beat(node_id)
    rig.now_ms += 2900
    await rig.beat(1)
    assert rig.shell.next_tick_s == 0.1
    rig.now_ms += 150
    assert rig.shell.next_tick_s == TICK_MIN_S
    await rig.beat(2)
    assert rig.shell.next_tick_s == TICK_S


async def test_brokers_come_before_clients_and_clients_take_turns(rig: Rig) -> None:
    """A request of thousands is decided in slices; a heartbeat that comes later is in an entry before its last."""
    request = admin.CreateTopicsRequest(
        topics=[admin.NewTopic(name=f"t{n}", num_partitions=1, replication_factor=1) for n in range(1000)]
    )
    before = rig.quorum.last_index
    creating = asyncio.ensure_future(rig.shell.handle(request))
    await asyncio.sleep(0)
    beating = asyncio.ensure_future(rig.beat(1))
    await until(beating.done)
    assert len(rig.publisher.image.topics) < 1000
    await until(lambda: len(rig.publisher.image.topics) == 1000)
    assert rig.quorum.last_index - before == 1000 // AT_ONCE
    await rig.beat_all()
    answer: admin.CreateTopicsResponse = await creating
    assert [topic.name for topic in answer.topics] == [topic.name for topic in request.topics]
    assert not any(topic.HasField("error") for topic in answer.topics)


async def test_a_request_whose_last_slice_changes_nothing_waits_for_the_entry_of_the_one_that_did(rig: Rig) -> None:
    """It once waited for an entry that nobody makes, and said of all that they were not known in time."""
    names = [*(f"t{n}" for n in range(AT_ONCE)), *(f"no/name{n}" for n in range(AT_ONCE))]
    topics = [admin.NewTopic(name=name, replication_factor=1) for name in names]
    task = asyncio.ensure_future(rig.shell.handle(admin.CreateTopicsRequest(topics=topics, timeout_ms=2_000)))
    await until(lambda: len(rig.publisher.image.topics) == AT_ONCE)
    await rig.beat_all()
    errors = [topic.error.code for topic in (await task).topics]
    assert errors == [0] * AT_ONCE + [pb.ERROR_CODE_INVALID_TOPIC_EXCEPTION] * AT_ONCE


async def test_a_request_that_another_controller_cut_short_says_of_each_item_what_became_of_it(rig: Rig) -> None:
    """Who sent all of it again, told that there was no controller, would be told that the topics are there."""
    topics = [admin.NewTopic(name=f"t{n}", replication_factor=1) for n in range(2 * AT_ONCE)]
    task = asyncio.ensure_future(rig.shell.handle(admin.CreateTopicsRequest(topics=topics, timeout_ms=2_000)))
    await until(lambda: len(rig.publisher.image.topics) == AT_ONCE)
    rig.quorum.leadership = type(rig.quorum.leadership)(2, 2, False, False)
    answer: admin.CreateTopicsResponse = await task
    assert [topic.name for topic in answer.topics] == [topic.name for topic in topics]
    codes = [topic.error.code for topic in answer.topics]
    assert codes[:AT_ONCE] == [0] * AT_ONCE
    assert set(codes[AT_ONCE:]) <= {pb.ERROR_CODE_NOT_CONTROLLER, pb.ERROR_CODE_REQUEST_TIMED_OUT}
    assert len(rig.publisher.image.topics) == AT_ONCE


_CONFIG = admin.ConfigResource(type=admin.CONFIG_RESOURCE_TYPE_BROKER)
_KEY = [admin.ConfigChange(key="num.partitions", value="3")]


@pytest.mark.parametrize(
    "request_of_two",
    [
        admin.CreateTopicsRequest(topics=[admin.NewTopic(name="a", replication_factor=1), admin.NewTopic(name="b")]),
        admin.DeleteTopicsRequest(topics=[admin.TopicRef(name="t"), admin.TopicRef(name="b")]),
        admin.CreatePartitionsRequest(topics=[admin.GrowTopic(name="t", total_count=2), admin.GrowTopic(name="b")]),
        admin.AlterConfigsRequest(
            resources=[
                admin.ResourceConfigChanges(resource=_CONFIG, changes=_KEY),
                admin.ResourceConfigChanges(resource=admin.ConfigResource(name="b")),
            ]
        ),
        admin.AlterUserScramCredentialsRequest(
            users=[
                admin.UserScramChanges(
                    name="a",
                    credentials=[
                        admin.NewScramCredential(mechanism=1, iterations=4096, salt=bytes(8), salted_password=bytes(32))  # type: ignore[arg-type]
                    ],
                ),
                admin.UserScramChanges(name="b"),
            ]
        ),
    ],
    ids=lambda request: type(request).__name__,
)
async def test_of_a_request_of_which_a_part_failed_each_item_has_its_own_answer(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, request_of_two: Any
) -> None:
    """One part is made; the controller has a bug that the other one meets."""
    monkeypatch.setattr("node.controller.state.users.USERS_METADATA_VERSION", 1)
    monkeypatch.setattr("node.limits.AT_ONCE", 1)
    made = asyncio.ensure_future(
        rig.shell.handle(admin.CreateTopicsRequest(topics=[admin.NewTopic(name="t", replication_factor=1)]))
    )
    await until(lambda: len(rig.publisher.image.topics) == 1)
    await rig.beat_all()
    await made
    decide = rig.shell._decide

    def broken(request: Any, now_ms: int, draft: Draft) -> Any:
        answer = decide(request, now_ms, draft)
        (result,) = getattr(answer, answer.DESCRIPTOR.fields[0].name)
        name = result.resource.name if "resource" in result.DESCRIPTOR.fields_by_name else result.name
        if name == "b":
            raise ZeroDivisionError
        return answer

    monkeypatch.setattr(rig.shell, "_decide", broken)
    before = rig.publisher.image.index
    task = asyncio.ensure_future(rig.shell.handle(request_of_two))
    await until(lambda: rig.publisher.image.index > before)
    monkeypatch.setattr(rig.shell, "_decide", decide)
    await rig.beat_all()
    answer = await task
    first, second = getattr(answer, answer.DESCRIPTOR.fields[0].name)
    assert first.error.code == 0
    assert second.error.code == pb.ERROR_CODE_UNKNOWN_SERVER_ERROR
    assert (second.resource if "resource" in second.DESCRIPTOR.fields_by_name else second).name == "b"


async def test_a_request_of_which_nothing_was_made_is_refused_as_a_whole(rig: Rig) -> None:
    """Then another controller may be asked for all of it."""
    topics = [admin.NewTopic(name=f"t{n}", replication_factor=1) for n in range(2 * AT_ONCE)]
    task = asyncio.ensure_future(rig.shell.handle(admin.CreateTopicsRequest(topics=topics, timeout_ms=2_000)))
    rig.quorum.leadership = type(rig.quorum.leadership)(2, 2, False, False)
    rig.shell.on_leadership(rig.quorum.leadership)
    await until(task.done)
    assert refused(task) == "NOT_CONTROLLER"
    assert not rig.publisher.image.topics


async def test_an_election_everywhere_is_held_in_slices(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A heartbeat does not wait for as many partitions as there are."""
    topics = [
        admin.NewTopic(name=f"t{n}", assignments=[admin.ReplicaAssignment(replicas=[1 + n % 2])])
        for n in range(4 * AT_ONCE)
    ]
    making = asyncio.ensure_future(rig.shell.handle(admin.CreateTopicsRequest(topics=topics)))
    await until(lambda: len(rig.publisher.image.topics) == 4 * AT_ONCE)
    await rig.beat_all()
    await making
    rig.shell.on_peer_dead(1)
    await until(lambda: rig.publisher.image.brokers[1].fenced)
    decide = rig.shell._decide
    sizes: list[int] = []

    def counted(request: Any, now_ms: int, draft: Draft) -> Any:
        sizes.append(len(request.partitions))
        return decide(request, now_ms, draft)

    monkeypatch.setattr(rig.shell, "_decide", counted)
    wish = admin.ElectLeadersRequest(type=admin.ELECTION_TYPE_UNCLEAN)
    answer: admin.ElectLeadersResponse = await rig.shell.handle(wish)
    assert [each.error.code for each in answer.partitions] == [pb.ERROR_CODE_ELIGIBLE_LEADERS_NOT_AVAILABLE] * (
        2 * AT_ONCE
    )
    assert sizes == [AT_ONCE, AT_ONCE]
    wish.validate_only = True
    answer = await rig.shell.handle(wish)
    assert len(answer.partitions) == 2 * AT_ONCE


async def test_what_is_named_twice_is_refused_wherever_the_request_is_cut(rig: Rig) -> None:
    names = ["twice", *(f"t{n}" for n in range(3 * AT_ONCE)), "twice"]
    task = asyncio.ensure_future(
        rig.shell.handle(
            admin.CreateTopicsRequest(topics=[admin.NewTopic(name=n, replication_factor=1) for n in names])
        )
    )
    await until(lambda: len(rig.publisher.image.topics) == 3 * AT_ONCE)
    await rig.beat_all()
    answer: admin.CreateTopicsResponse = await task
    assert [n for n, topic in enumerate(answer.topics) if topic.HasField("error")] == [0, len(names) - 1]
    assert answer.topics[0].error.code == pb.ERROR_CODE_INVALID_REQUEST
    assert rig.publisher.image.topic_named("twice") is None


async def test_what_changes_nothing_needs_neither_a_turn_nor_an_entry(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_turn() -> None:
        raise AssertionError("a read waits in the writer's queue")

    monkeypatch.setattr(rig.shell, "_turn", no_turn)
    names = [f"t{n}" for n in range(2 * AT_ONCE)]
    request = admin.CreateTopicsRequest(topics=[admin.NewTopic(name=n) for n in names], validate_only=True)
    checked: admin.CreateTopicsResponse = await rig.shell.handle(request)
    assert [(topic.name, topic.topic_id, topic.num_partitions) for topic in checked.topics] == [
        (name, b"", 1) for name in names
    ]
    assert rig.publisher.image.topic_named("t0") is None
    brokers = [admin.ConfigResource(type=admin.CONFIG_RESOURCE_TYPE_BROKER, name="1")] * (AT_ONCE + 1)
    shown: admin.DescribeConfigsResponse = await rig.shell.handle(
        admin.DescribeConfigsRequest(resources=brokers, keys=["num.partitions"])
    )
    assert [entry.entries[0].value for entry in shown.resources] == ["1"] * (AT_ONCE + 1)


async def test_reads_that_come_together_share_one_barrier(rig: Rig) -> None:
    await asyncio.gather(*(rig.shell.handle(admin.DescribeConfigsRequest()) for _ in range(50)))
    assert rig.quorum.barriers == 1


async def test_a_description_stops_at_its_size(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a client of gRPC takes it: the last slice before the limit is small."""
    brokers = [admin.ConfigResource(type=admin.CONFIG_RESOURCE_TYPE_BROKER, name="1")] * 2000
    shown: admin.DescribeConfigsResponse = await rig.shell.handle(admin.DescribeConfigsRequest(resources=brokers))
    codes = [each.error.code for each in shown.resources]
    assert len(codes) == 2000
    shown_whole = codes.index(pb.ERROR_CODE_MESSAGE_TOO_LARGE)
    assert codes == [0] * shown_whole + [pb.ERROR_CODE_MESSAGE_TOO_LARGE] * (2000 - shown_whole)
    assert ANSWER_MAX_BYTES < shown.ByteSize() < limits.STOCK_MESSAGE_BYTES


async def test_a_description_of_users_stops_at_its_size(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.controller.shell.ANSWER_MAX_BYTES", 1000)
    request = admin.DescribeUserScramCredentialsRequest(users=["nobody"] * 2 * AT_ONCE)
    shown: admin.DescribeUserScramCredentialsResponse = await rig.shell.handle(request)
    assert [each.error.code for each in shown.users] == [
        *[pb.ERROR_CODE_RESOURCE_NOT_FOUND] * AT_ONCE,
        *[pb.ERROR_CODE_MESSAGE_TOO_LARGE] * AT_ONCE,
    ]


async def test_a_user_is_there_when_every_broker_knows_it(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.controller.state.users.USERS_METADATA_VERSION", 1)
    new = admin.NewScramCredential(mechanism=1, iterations=4096, salt=bytes(8), salted_password=bytes(32))  # type: ignore[arg-type]
    users = [admin.UserScramChanges(name=name, credentials=[new]) for name in ("alice", "\n")]
    task = asyncio.ensure_future(rig.shell.handle(admin.AlterUserScramCredentialsRequest(users=users, timeout_ms=300)))
    await settle()
    assert not task.done()
    waited, wrong = (await task).users
    assert waited.error.code == pb.ERROR_CODE_REQUEST_TIMED_OUT
    assert "did not apply it within 300 ms" in waited.error.message
    assert wrong.error.code == pb.ERROR_CODE_UNACCEPTABLE_CREDENTIAL
    assert set(rig.publisher.image.users) == {"alice"}


async def test_a_broker_out_of_reach_is_not_waited_for(rig: Rig) -> None:
    """It has not been fenced yet: a change is answered once those know it that can be reached."""
    await rig.beat_all()
    task = rig.create("t")
    await settle()
    rig.now_ms += REACHED_MS + 1
    await rig.beat(1)
    await rig.beat(2)
    await settle()
    assert not (await asyncio.wait_for(task, 5)).topics[0].HasField("error")


async def test_a_change_that_no_majority_commits_ends_with_the_requests_time_out(rig: Rig) -> None:
    rig.quorum.auto = False
    task = rig.create("t", timeout_ms=300)
    await asyncio.wait([task], timeout=5)
    error = task.exception()
    assert isinstance(error, ApiError)
    assert error.code == pb.ERROR_CODE_REQUEST_TIMED_OUT
    assert "within 300 ms" in error.message
    rig.quorum.commit()


async def test_what_clients_of_brokers_ask_for_comes_in_portions_and_a_heartbeat_before_most_of_it(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    # After a turn that took long portions rest: whether one did is the machine's affair.
    monkeypatch.setattr("node.controller.shell.REST_FROM_S", 3600.0)
    before = rig.publisher.image.next_producer_id
    wish = rpc.AllocateProducerIdsRequest(node_id=1, broker_epoch=rig.epochs[1])
    wishes = [asyncio.ensure_future(rig.shell.handle(wish)) for _ in range(4 * AT_ONCE)]
    await asyncio.sleep(0)
    beat = asyncio.ensure_future(rig.beat(2))
    await beat
    # One portion was on its way before the beat, one came beside it.
    assert sum(task.done() for task in wishes) <= 2 * AT_ONCE
    await asyncio.gather(*wishes)
    firsts = {task.result().first_producer_id for task in wishes}
    assert len(firsts) == 4 * AT_ONCE
    assert min(firsts) == before


async def test_too_many_wishes_of_brokers_are_refused_and_heartbeats_are_not(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.controller.shell.WISHES_MAX", 5)
    wish = rpc.AllocateProducerIdsRequest(node_id=1, broker_epoch=rig.epochs[1])
    wishes = [asyncio.ensure_future(rig.shell.handle(wish)) for _ in range(8)]
    await asyncio.gather(rig.beat(2), *wishes, return_exceptions=True)
    assert [task.exception() is None for task in wishes] == [True] * 5 + [False] * 3
    assert refused(wishes[-1]) == "THROTTLING_QUOTA_EXCEEDED"


@pytest.mark.parametrize("validate_only", [True, False])
async def test_others_have_the_loop_for_as_long_as_clients_had_it(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, validate_only: bool
) -> None:
    create = topics.create_topics
    took: list[tuple[float, float]] = []

    def slow(draft: Draft, request: admin.CreateTopicsRequest) -> admin.CreateTopicsResponse:
        began_s = time.monotonic()
        time.sleep(0.01)
        answer = create(draft, request)
        took.append((began_s, time.monotonic()))
        return answer

    monkeypatch.setitem(shell_module._DECIDE, admin.CreateTopicsRequest, slow)
    wanted = [
        admin.CreateTopicsRequest(
            topics=[admin.NewTopic(name=f"t{n}", num_partitions=AT_ONCE)], validate_only=validate_only
        )
        for n in range(5)
    ]
    asking = asyncio.gather(*(rig.shell.handle(request) for request in wanted), rig.beat_all())
    while not asking.done():
        await asyncio.sleep(0)
        await rig.beat_all()
    await asking
    assert len(took) == 5
    for (began_s, ended_s), (next_s, _) in itertools.pairwise(took):
        assert next_s - ended_s > 0.9 * (ended_s - began_s)
