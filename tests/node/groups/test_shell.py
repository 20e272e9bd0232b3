"""Loading, serving and unloading the groups of a partition; what is told to whom, and when (invariants.md 2.6)."""

import asyncio
import gc
import random
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from node.groups.coordinator import Coordinator
from node.groups.model import Groups
from node.groups.offsets import Committer, Position, Where
from node.groups.shell import GroupShell, Shard, stored_records
from node.groups.stage import GroupSettings, Stage
from node.groups.streams import Session
from node.metadata.image import Delta
from ottla.protocol.errors import ApiError
from ottla.v1 import error_pb2 as pb
from ottla.v1 import group_pb2
from tests.node.groups.fake_broker import ME, OTHER, FakeBroker, image
from tests.node.groups.support import topic_id


class Node:
    """A shell over a fake log."""

    def __init__(self) -> None:
        self.broker = FakeBroker()
        broker: Any = self.broker
        self.shell = GroupShell(broker, GroupSettings(), random.Random(1))

    def metadata(self, leader: int = ME, epoch: int = 0, **counts: int) -> None:
        if leader == ME:
            self.broker.epoch = epoch
        self.shell.apply_metadata(image(leader, epoch, **counts), Delta(snapshot=True), ME)

    async def active(self) -> Shard:
        await until(lambda: self._active() is not None)
        shard = self._active()
        assert shard is not None
        return shard

    def _active(self) -> Shard | None:
        try:
            return self.shell.shard("g")
        except ApiError:
            return None

    def join(self, **fields: Any) -> tuple[Shard, Session]:
        return self.shell.open_session(group_pb2.Join(group_id="g", topics=["t"], **fields), "host")

    async def commit(self, offset: int, member_id: str = "", member_epoch: int = 0) -> list[ApiError | None]:
        positions = [Position(Where("t", b"", 0), offset, 4)]
        who = Committer(member_id, member_epoch)
        return await self.shell.decide("g", lambda c: c.commit("g", who, positions, 0))

    async def committed(self) -> int | None:
        where = [Where("t", b"", 0)]
        (found,) = await self.shell.look(self.shell.shard("g"), lambda c: c.offsets("g", where))
        return None if found is None else found.offset


def assignment(response: group_pb2.SessionResponse | None) -> group_pb2.Assignment:
    assert response is not None
    return response.assignment


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    made = Node()
    yield made
    await made.shell.stop()


def refusal(node: Node) -> int:
    with pytest.raises(ApiError) as caught:
        node.shell.shard("g")
    return caught.value.code


# --- 79: commits lost or refused after the coordinator moved ------------------------------------------------------


async def test_79_a_new_coordinator_serves_when_it_has_read_to_the_end_of_its_log(node: Node) -> None:
    node.metadata()
    await node.active()
    for offset in range(1, 6):
        await node.commit(offset)
    node.metadata(OTHER, 1)
    assert refusal(node) == pb.ERROR_CODE_NOT_COORDINATOR
    node.broker.high_watermark -= 2  # withheld: the new leader does not know yet that these are committed
    node.metadata(ME, 2)
    await asyncio.sleep(0.05)
    assert refusal(node) == pb.ERROR_CODE_COORDINATOR_LOAD_IN_PROGRESS
    node.broker.commit()
    await node.active()
    assert await node.committed() == 5


async def test_79_nothing_is_acknowledged_before_it_is_committed(node: Node) -> None:
    node.metadata()
    await node.active()
    node.broker.auto_commit = False
    committing = asyncio.ensure_future(node.commit(7))
    looking = asyncio.ensure_future(node.committed())
    await asyncio.sleep(0.05)
    assert not committing.done()
    assert not looking.done(), "a read of what is not committed could be undone"
    node.broker.commit()
    assert await committing == [None]
    assert await looking == 7


async def test_79_a_commit_of_unknown_outcome_is_not_acknowledged_and_the_log_decides(node: Node) -> None:
    node.metadata()
    first = await node.active()
    await node.commit(3)
    node.broker.auto_commit = False
    committing = asyncio.ensure_future(node.commit(7))
    await asyncio.sleep(0.01)
    node.broker.batches.pop()
    node.broker.auto_commit = True
    node.broker.commit(ApiError(pb.ERROR_CODE_NOT_LEADER_OR_FOLLOWER, "fenced"))
    with pytest.raises(ApiError) as caught:
        await committing
    assert caught.value.retriable
    await until(lambda: node._active() not in (None, first))
    assert await node.committed() == 3


# --- 80: leadership lost while loading ----------------------------------------------------------------------------


@pytest.mark.parametrize("reads", range(5))
async def test_80_leadership_may_be_lost_at_any_step_of_loading(node: Node, reads: int) -> None:
    node.metadata()
    await node.active()
    for offset in range(4):
        await node.commit(offset)
    node.metadata(OTHER, 1)
    node.broker.reads = 0
    node.metadata(ME, 2)
    await until(lambda: node.broker.reads >= reads)
    node.broker.epoch = 3
    node.metadata(OTHER, 3)
    await asyncio.sleep(0.1)
    assert refusal(node) == pb.ERROR_CODE_NOT_COORDINATOR
    seen = node.broker.reads
    await asyncio.sleep(0.1)
    assert node.broker.reads == seen, "nobody goes on loading what is another's"
    node.metadata(ME, 4)
    await node.active()
    assert await node.committed() == 3


async def test_80_a_log_that_cannot_be_read_yet_is_read_when_it_can(node: Node) -> None:
    node.metadata()
    await node.active()
    await node.commit(3)
    node.metadata(OTHER, 1)
    node.broker.may_read.clear()
    node.metadata(ME, 2)
    await asyncio.sleep(0.05)
    assert refusal(node) == pb.ERROR_CODE_COORDINATOR_LOAD_IN_PROGRESS
    node.broker.may_read.set()
    await node.active()
    assert await node.committed() == 3


# --- 81 to 86 -----------------------------------------------------------------------------------------------------


async def test_82_a_static_member_s_new_id_outlives_the_coordinator(node: Node) -> None:
    node.metadata()
    shard = await node.active()
    _, first = node.join(instance_id="a")
    node.shell.said(shard, first, group_pb2.SessionRequest(leave=group_pb2.Leave()))
    _, second = node.join(instance_id="a")
    member = assignment(await second.next())
    node.metadata(OTHER, 1)
    node.metadata(ME, 2)
    await node.active()
    assert await node.commit(5, member_id=member.member_id, member_epoch=member.member_epoch) == [None]
    _, third = node.join(member_id=member.member_id, member_epoch=member.member_epoch, instance_id="a")
    assert len(assignment(await third.next()).partitions) == 4


async def test_84_an_old_coordinator_accepts_nothing(node: Node) -> None:
    node.metadata()
    shard = await node.active()
    _, session = node.join()
    member = assignment(await session.next())
    # Another node leads in a later epoch, and this one has not heard of it yet: the log's epoch refuses.
    node.broker.epoch = 1
    with pytest.raises(ApiError) as caught:
        await node.commit(5, member_id=member.member_id, member_epoch=member.member_epoch)
    assert caught.value.retriable
    assert shard.coordinator is None
    told = await session.next()
    assert told is not None
    assert told.error.code == pb.ERROR_CODE_NOT_COORDINATOR


async def test_85_a_position_is_kept_with_its_leader_epoch_through_a_move(node: Node) -> None:
    node.metadata()
    await node.active()
    await node.commit(5)
    node.metadata(OTHER, 1)
    node.metadata(ME, 2)
    shard = await node.active()
    (found,) = await node.shell.look(shard, lambda c: c.offsets("g", c.stored("g")))
    assert found.leader_epoch == 4


async def test_86_no_position_is_none_and_not_0(node: Node) -> None:
    node.metadata()
    await node.active()
    assert await node.committed() is None
    await node.commit(0)
    assert await node.committed() == 0


# --- sessions -----------------------------------------------------------------------------------------------------


async def test_a_member_is_told_when_its_assignment_is_committed(node: Node) -> None:
    node.metadata()
    await node.active()
    node.broker.auto_commit = False
    _, session = node.join()
    await asyncio.sleep(0.05)
    nothing = asyncio.ensure_future(session.next())
    await asyncio.sleep(0)
    assert not nothing.done()
    nothing.cancel()
    node.broker.commit()
    assert len(assignment(await session.next()).partitions) == 4


async def test_members_keep_their_place_while_the_coordinator_moves(node: Node) -> None:
    node.metadata()
    await node.active()
    _, session = node.join()
    before = assignment(await session.next())
    node.metadata(OTHER, 1)
    told = await session.next()
    assert told.error.code == pb.ERROR_CODE_NOT_COORDINATOR
    assert await session.next() is None
    node.metadata(ME, 2)
    await node.active()
    _, again = node.join(member_id=before.member_id, member_epoch=before.member_epoch)
    after = assignment(await again.next())
    assert (after.member_id, after.member_epoch) == (before.member_id, before.member_epoch)
    assert list(after.partitions) == list(before.partitions)


async def test_topics_that_changed_while_the_coordinator_moved_are_noticed(node: Node) -> None:
    """The coordinator before may have ended between the change and its answer to it."""
    node.metadata()
    await node.active()
    _, session = node.join()
    before = assignment(await session.next())
    node.metadata(OTHER, 1, t=6)
    node.metadata(ME, 2, t=6)
    await node.active()
    _, again = node.join(member_id=before.member_id, member_epoch=before.member_epoch)
    after = assignment(await again.next())
    assert {p.partition.partition: p.new_partition for p in after.partitions} == {
        **dict.fromkeys(range(4), False),
        4: True,
        5: True,
    }


async def test_an_append_that_is_refused_has_changed_nothing(node: Node) -> None:
    node.metadata()
    first = await node.active()
    await node.commit(3)
    node.broker.append_error = ApiError(pb.ERROR_CODE_NOT_ENOUGH_REPLICAS, "one is left")
    with pytest.raises(ApiError) as caught:
        await node.commit(9)
    assert caught.value.code == pb.ERROR_CODE_COORDINATOR_NOT_AVAILABLE
    assert node._active() is first, "nobody loses its session for what another was refused"
    node.broker.append_error = None
    assert await node.committed() == 3
    await node.commit(4)
    assert await node.committed() == 4


async def test_a_disk_that_stays_full_is_not_asked_in_every_turn_of_the_loop(node: Node) -> None:
    """Each refusal has the log read anew, after which the same is due and refused again."""
    node.metadata(t=1)
    await node.active()
    _, session = node.join()
    await session.next()
    node.broker.append_error = ApiError(pb.ERROR_CODE_KAFKA_STORAGE_ERROR, "no space left", retry_after_ms=1000)
    node.metadata(t=2)
    shards = set()
    for _ in range(500):
        await asyncio.sleep(0)
        shards.update(node.shell.shards())
    assert len(shards) < 3
    node.broker.append_error = None
    await node.active()


async def test_a_reader_that_does_not_keep_up_hears_of_the_newest_assignment_alone(node: Node) -> None:
    node.metadata()
    await node.active()
    _, session = node.join()
    for number in range(1_000):
        session.tell(group_pb2.SessionResponse(assignment=group_pb2.Assignment(assignment_id=number)))
    assert assignment(await session.next()).assignment_id == 999
    session.tell(group_pb2.SessionResponse(assignment=group_pb2.Assignment(assignment_id=1_000)))
    session.end(ApiError(pb.ERROR_CODE_NOT_COORDINATOR, "moved"))
    session.tell(group_pb2.SessionResponse(assignment=group_pb2.Assignment(assignment_id=1_001)))
    last = await session.next()
    assert last is not None
    assert last.error.code == pb.ERROR_CODE_NOT_COORDINATOR
    assert await session.next() is None


async def test_a_second_join_in_a_session_and_an_empty_message_are_refused(node: Node) -> None:
    node.metadata()
    shard = await node.active()
    _, session = node.join()
    for message in (group_pb2.SessionRequest(join=group_pb2.Join(group_id="g")), group_pb2.SessionRequest()):
        with pytest.raises(ApiError) as caught:
            node.shell.said(shard, session, message)
        assert caught.value.code == pb.ERROR_CODE_INVALID_REQUEST


async def test_positions_of_a_topic_that_was_deleted_meanwhile_go(node: Node) -> None:
    node.metadata(t=4, u=1)
    await node.active()
    await node.commit(3)
    node.metadata(OTHER, 1, u=1)
    node.metadata(ME, 2, u=1)
    shard = await node.active()
    assert shard.coordinator is not None
    groups: list[Any] = await node.shell.look(shard, Coordinator.groups)
    assert [group.offsets for group in groups if (topic_id("t"), 0) in group.offsets] == []


# --- the error path, and time -------------------------------------------------------------------------------------


async def test_a_failed_append_of_many_batches_is_retrieved_by_somebody(node: Node) -> None:
    """asyncio would report "Future exception was never retrieved", which looks like a bug of ours in the log."""
    node.metadata()
    first = await node.active()
    reported: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    node.broker.auto_commit = False
    positions = [Position(Where("t", b"", number), 1, None, "m" * 4_000) for number in range(4)] * 100
    committing = asyncio.ensure_future(node.shell.decide("g", lambda c: c.commit("g", Committer(), positions, 0)))
    await asyncio.sleep(0.01)
    assert len(node.broker.waiting) > 2
    committing.cancel()
    node.broker.batches.clear()
    node.broker.auto_commit = True
    node.broker.commit(ApiError(pb.ERROR_CODE_NOT_LEADER_OR_FOLLOWER, "fenced"))
    node.broker.waiting.clear()
    await until(lambda: node._active() not in (None, first))
    await asyncio.gather(committing, return_exceptions=True)
    gc.collect()
    await asyncio.sleep(0)
    assert not reported


async def test_a_decision_that_fails_half_way_leaves_the_state_at_the_log_s_end(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.metadata()
    shard = await node.active()
    node.join(member_id="one")
    with monkeypatch.context() as patch:
        patch.setattr(Stage, "write_group", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            node.join(member_id="two")
    await until(lambda: bool(node.broker.batches))
    assert node._active() is shard
    coordinator = shard.coordinator
    assert coordinator is not None
    replayed = Groups()
    for data in node.broker.batches:
        for record in stored_records(data):
            replayed.replay(record)
    assert replayed.by_id == coordinator._state.groups.by_id
    assert set(replayed.by_id["g"].members) == {"one"}


# --- decisions of one turn of the loop ----------------------------------------------------------------------------


async def test_a_crowd_that_joins_in_one_turn_is_one_append(node: Node) -> None:
    node.metadata()
    await node.active()
    sessions = [node.join(member_id=f"m{number}")[1] for number in range(40)]
    assert not node.broker.batches
    await asyncio.sleep(0)
    assert len(node.broker.batches) == 1
    assert {record[0] for record in stored_records(node.broker.batches[0])}
    for session in sessions:
        assert session.joined is not None
        await session.joined
        assert assignment(await session.next()).member_id


async def test_a_crowd_that_joins_while_a_batch_is_on_its_way_is_one_more_append(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.groups.shell.GATHERS_MS", 60_000)
    node.metadata()
    await node.active()
    node.broker.auto_commit = False
    for number in range(5):
        node.join(member_id=f"m{number}")
        await asyncio.sleep(0.002)
    assert len(node.broker.batches) == 1
    node.broker.commit()
    await until(lambda: len(node.broker.batches) == 2)
    node.broker.auto_commit = True
    node.broker.commit()
    assert len(node.shell.shard("g").sessions) == 5


async def test_a_crowd_does_not_wait_long_for_the_batch_before_its_own(node: Node) -> None:
    node.metadata()
    await node.active()
    node.broker.auto_commit = False
    for number in range(3):
        node.join(member_id=f"m{number}")
        await until(lambda before=number: len(node.broker.batches) == before + 1)  # type: ignore[misc]
    assert node.broker.high_watermark == 0


async def test_who_is_refused_costs_the_others_of_its_turn_nothing(node: Node) -> None:
    node.metadata()
    await node.active()
    one = asyncio.ensure_future(node.commit(1))
    _, joined = node.join(member_id="m")
    with pytest.raises(ApiError):
        node.join(member_id="m", member_epoch=77)
    refused = asyncio.ensure_future(node.commit(2, member_id="nobody", member_epoch=1))
    assert assignment(await joined.next()).member_id == "m"
    with pytest.raises(ApiError):
        await refused
    with pytest.raises(ApiError):
        await one  # it came to the loop after the member
    assert len(node.broker.batches) == 1


async def test_what_the_log_refuses_holds_for_none_of_its_turn(node: Node) -> None:
    node.metadata()
    shard = await node.active()
    node.broker.append_error = ApiError(pb.ERROR_CODE_NOT_ENOUGH_REPLICAS, "one is left")
    joins = [node.join(member_id=f"m{number}")[1] for number in range(3)]
    await asyncio.sleep(0)
    for session in joins:
        assert session.joined is not None
        with pytest.raises(ApiError) as caught:
            await session.joined
        assert caught.value.code == pb.ERROR_CODE_COORDINATOR_NOT_AVAILABLE
    assert shard.coordinator is not None
    assert shard.coordinator.groups() == []
    node.broker.append_error = None
    _, session = node.join(member_id="m0")
    assert assignment(await session.next()).member_id == "m0"


async def test_a_large_decision_is_refused_alone(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    node.metadata()
    await node.active()
    small = [asyncio.ensure_future(node.commit(number)) for number in (1, 2)]
    await asyncio.sleep(0)
    monkeypatch.setattr("node.groups.shell.TOGETHER_MAX_BYTES", 100)
    real, too_large = node.broker.append, ApiError(pb.ERROR_CODE_MESSAGE_TOO_LARGE, "too large")

    def append(topic: bytes, number: int, batch: Any, **terms: Any) -> Any:
        if len(batch.records) > 1_000:
            raise too_large
        return real(topic, number, batch, **terms)

    monkeypatch.setattr(node.broker, "append", append)
    positions = [Position(Where("t", b"", 0), 9, None, "m" * 2_000)]
    large = asyncio.ensure_future(node.shell.decide("g", lambda c: c.commit("g", Committer(), positions, 0)))
    small.append(asyncio.ensure_future(node.commit(3)))
    await asyncio.gather(*small)
    with pytest.raises(ApiError) as caught:
        await large
    assert caught.value.code == pb.ERROR_CODE_MESSAGE_TOO_LARGE
    assert await node.committed() == 3


async def test_a_stream_that_ends_in_the_turn_of_its_join_holds_nothing(node: Node) -> None:
    """A member whose stream has ended before its join was appended would never fall silent."""
    node.metadata()
    shard = await node.active()
    _, session = node.join()
    node.shell.close_session(shard, session, by_client=True)
    assert shard.coordinator is not None
    (group,) = shard.coordinator.groups()
    assert len(group.members) == 1
    await until(lambda: not group.members)


async def test_a_node_that_stops_refuses_what_it_has_not_appended(node: Node) -> None:
    node.metadata()
    await node.active()
    _, session = node.join()
    await node.shell.stop()
    assert session.joined is not None
    with pytest.raises(ApiError) as caught:
        await session.joined
    assert caught.value.code == pb.ERROR_CODE_NOT_COORDINATOR
    assert not node.broker.batches


async def test_what_falls_due_is_done_when_it_is_due(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second of two joins at once waits for its target, which no event makes."""
    monkeypatch.setattr("node.groups.shell.LOOK_MS", 60_000)
    node.metadata()
    await node.active()
    node.join(member_id="one")
    begun = asyncio.get_running_loop().time()
    _, second = node.join(member_id="two")
    assert assignment(await second.next()).member_id == "two"
    assert asyncio.get_running_loop().time() - begun < 20, "LOOK_MS is for the wall clock alone"


async def test_a_node_that_stops_tells_its_members_and_loads_nothing(node: Node) -> None:
    node.metadata()
    await node.active()
    _, session = node.join()
    await session.next()
    await node.shell.stop()
    last = await session.next()
    assert last is not None
    assert last.error.code == pb.ERROR_CODE_NOT_COORDINATOR
    assert await session.next() is None
    node.metadata(ME, 1)
    assert not node.shell.shards()


# --- clocks ---------------------------------------------------------------------------------------------------------


async def test_a_clock_that_jumps_ahead_ends_no_group_and_whoever_looks_does_not_spin(node: Node) -> None:
    """Positions go after a week without members, by the cluster's time: where the wall clock has left it nobody
    forgets, and what would be due by the wall clock is not looked at again and again."""
    node.metadata()
    shard = await node.active()
    wall_ms = node.shell.wall_ms()
    where = [Position(Where("t", b"", 0), 3)]
    await node.shell.decide("g", lambda c: c.commit("g", Committer(), where, wall_ms))
    node.broker.wall_skew_ms = 30 * 24 * 3_600_000
    shard.wake.set()
    await asyncio.sleep(0.05)
    assert await node.committed() == 3
    assert node.shell._due_ms(shard) > 1000

    node.broker.clock.told(0, node.shell.wall_ms(), node.broker.clock_ms())
    node.broker.alone = False  # the cluster's clocks say the same: its time has come
    shard.wake.set()
    await until(lambda: not shard.coordinator.groups())  # type: ignore[union-attr]


async def test_a_coordinator_whose_clock_is_behind_stamps_no_position_into_the_past(node: Node) -> None:
    """It knows the cluster's time: by a clock that is right what it stored now is not a month old."""
    node.metadata()
    shard = await node.active()
    broker, behind_ms = node.broker, 30 * 24 * 3_600_000
    broker.alone, broker.wall_skew_ms = False, -behind_ms
    broker.clock.told(-behind_ms, broker.wall_ms(), broker.clock_ms())
    where = [Position(Where("t", b"", 0), 3)]
    await node.shell.decide("g", lambda c: c.commit("g", Committer(), where, node.shell.wall_ms()))
    broker.wall_skew_ms = 0
    broker.clock.told(0, broker.wall_ms(), broker.clock_ms())
    shard.wake.set()
    await asyncio.sleep(0.05)
    assert await node.committed() == 3
