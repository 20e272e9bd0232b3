"""A consumer's position is one thing: for what is read, sought, committed by hand or by itself, given back and closed.

Random lives of a group's member are held against a naive model: a log of offsets, one number for where the user is, one
for where the user's unfinished work began.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.client.consumer import Consumer
from ottla.client.errors import Closed, ConfigError, OttlaError
from ottla.client.group import Gained
from ottla.client.offsets import EARLIEST
from ottla.client.rebalance import RebalanceListener
from ottla.client.records import Position, TopicPartition
from ottla.v1 import error_pb2 as pb
from tests.ottla.client.batches import TOPIC_ID, data, refusal, stored

WHERE = TopicPartition("t", 0)
END = 60
EPOCH = 3


class Session:
    """A coordinator that stores what it is told, or refuses."""

    def __init__(self) -> None:
        self.stored: int | None = None
        self.refuses = False

    def may_hand_out(self) -> bool:
        return True

    async def commit(self, positions: Mapping[TopicPartition, Position]) -> None:
        await asyncio.sleep(0)
        if self.refuses:
            raise OttlaError("told so")
        for where, position in positions.items():
            assert where == WHERE
            self.stored = position.offset


class Member:
    """A consumer of one partition, without a cluster: the test plays the leader, which has offsets 0 to END."""

    def __init__(self, policy: str = "earliest", listener: RebalanceListener | None = None) -> None:
        self.consumer = Consumer(
            "t", group="g", bootstrap="127.0.0.1:1", auto_offset_reset=policy, rebalance_listener=listener
        )
        self.session = Session()
        self.consumer._session = self.session  # type: ignore[assignment]
        self.consumer._life = "open"
        self.reader, self.work = self.consumer._reader, self.consumer._work

    @property
    def state(self) -> Any:
        return self.reader.states[WHERE]

    async def gain(self) -> None:
        offset = self.session.stored
        await self.work.take([Gained(WHERE, TOPIC_ID, offset, EPOCH if offset is not None else None, False)])
        if offset is None:
            self.state.seek(0)  # as the reset policy says
        self.state.set_leader(1, EPOCH)

    def fetch(self, count: int) -> None:
        """The leader answers what the consumer asks for, if it asks."""
        state = self.state
        if not state.wants_fetch(10**9) and state.added_to is None:
            return
        state.added_to = "a stream"
        first = state.fetch_request(1, 1000).offset
        values = [b"%d" % offset for offset in range(first, min(first + count, END))]
        if values:
            chunk = state.take(data(stored(values, first, epoch=EPOCH), next_offset=first + len(values)), 0)
            self.reader._chunks.append(chunk)

    async def poll(self, count: int) -> list[int]:
        self.fetch(count + 2)
        return [record.offset for record in await self.consumer.poll(max_records=count, timeout_ms=0)]

    async def ask(self) -> int | None:
        """As `async for` asks: for one record, if there is one."""
        self.fetch(2)
        try:
            async with asyncio.timeout(0.001 if self.reader._chunks or self.reader._current else 0):
                return (await anext(self.consumer)).offset
        except TimeoutError:
            return None


@dataclass
class Poll:
    count: int


@dataclass
class Ask:
    pass


@dataclass
class Seek:
    offset: int


@dataclass
class Commit:
    pass


@dataclass
class CommitThis:
    offset: int


@dataclass
class AutoCommit:
    refused: bool = False


@dataclass
class Rewind:
    """Paused and resumed, or the leader moved: what was read ahead is read again."""


@dataclass
class Revoke:
    """Given back, and assigned again to the same member."""


@dataclass
class Rob:
    """Another member has it already; later it comes back."""


@dataclass
class Restart:
    """Closed, after an exception or not, and started anew."""

    clean: bool


EVENTS = st.one_of(
    st.builds(Poll, st.integers(1, 7)),
    st.builds(Ask),
    st.builds(Ask),
    st.builds(Seek, st.integers(0, END - 1)),
    st.builds(Commit),
    st.builds(CommitThis, st.integers(0, END - 1)),
    st.builds(AutoCommit, st.booleans()),
    st.builds(Rewind),
    st.builds(Revoke),
    st.builds(Rob),
    st.builds(Restart, st.booleans()),
)


class Model:
    """What must hold, in the fewest words."""

    def __init__(self) -> None:
        self.position = 0
        self.began: int | None = None
        self.stored: int | None = None
        self.agreed: int | None = None  # the position that needs no commit

    @property
    def done(self) -> int:
        return self.position if self.began is None else self.began

    def deliver(self, offsets: list[int]) -> None:
        self.began = None
        if offsets:
            assert offsets == list(range(self.position, self.position + len(offsets))), "a record skipped or repeated"
            self.began, self.position = self.position, offsets[-1] + 1

    def seek(self, offset: int) -> None:
        self.position, self.began, self.agreed = offset, None, None

    def commit(self) -> None:
        if self.done != self.agreed:
            self.stored = self.agreed = self.done

    def regain(self) -> None:
        self.began = None
        self.position, self.agreed = self.stored or 0, self.stored


async def live(events: list[object]) -> None:
    model, member = Model(), Member()
    await member.gain()
    for event in events:
        match event:
            case Poll(count):
                model.deliver(await member.poll(count))
            case Ask():
                offset = await member.ask()
                model.deliver([] if offset is None else [offset])
            case Seek(offset):
                member.consumer.seek(*WHERE, offset)
                model.seek(offset)
            case Commit():
                await member.consumer.commit()
                model.began = None
                model.commit()
            case CommitThis(offset):
                await member.consumer.commit({WHERE: offset})
                model.stored, model.agreed = offset, model.done
            case AutoCommit(refused):
                member.session.refuses = refused
                await member.work.commit_or_log(member.session)  # type: ignore[arg-type]
                member.session.refuses = False
                if not refused:
                    model.commit()
                elif model.done != model.agreed:
                    model.agreed = None
            case Rewind():
                member.consumer.pause(*WHERE)
                member.consumer.resume(*WHERE)
            case Revoke():
                member.work.note_processed()  # the user asks for more meanwhile
                model.began = None
                await member.session.commit(await member.work.give_back([WHERE]))
                model.commit()
                member.work.lose([WHERE])
                await member.gain()
                model.regain()
            case Rob():
                member.work.robbed([WHERE])
                await member.gain()
                model.regain()
            case Restart(clean):
                if clean:
                    member.work.note_processed()
                    model.began = None
                await member.work.commit_or_log(member.session)  # type: ignore[arg-type]
                model.commit()
                stored, member = member.session.stored, Member()
                member.session.stored = stored
                await member.gain()
                model.regain()
        assert member.session.stored == model.stored, f"after {event}"
        assert await member.consumer.position(*WHERE) == model.position, f"after {event}"
        assert member.state.done.offset == model.done, f"after {event}"


@given(st.lists(EVENTS, max_size=40))
@settings(max_examples=200, deadline=None)
def test_the_position_is_one_thing_whatever_happens(events: list[object]) -> None:
    asyncio.run(live(events))


def run(*events: object) -> None:
    asyncio.run(live(list(events)))


def test_what_was_sought_back_to_is_what_is_committed() -> None:
    run(Poll(6), Seek(5), Commit(), Restart(clean=True))
    run(Ask(), Ask(), Seek(1), Restart(clean=True))
    run(Ask(), Ask(), Seek(1), Ask(), AutoCommit(), Restart(clean=False))
    run(Poll(6), Commit(), Seek(2), AutoCommit(), Revoke())


def test_a_seek_ends_what_was_at_work() -> None:
    run(Poll(6), Seek(3), AutoCommit(), Restart(clean=False))


def test_a_commit_that_failed_is_made_again() -> None:
    run(Ask(), Ask(), AutoCommit(refused=True), AutoCommit())


def test_what_is_at_work_is_not_committed() -> None:
    run(Ask(), AutoCommit(), Restart(clean=False), Ask(), Ask(), AutoCommit())


def test_a_position_that_the_user_committed_holds_until_the_next_record() -> None:
    run(Poll(6), CommitThis(2), Restart(clean=True), Poll(2), CommitThis(9), AutoCommit(), Ask(), AutoCommit())


def test_a_seek_while_a_commit_is_on_its_way_is_committed_after_it() -> None:
    async def life() -> None:
        member = Member()
        await member.gain()
        await member.poll(6)
        member.work.note_processed()
        committing = asyncio.create_task(member.work.commit_or_log(member.session))  # type: ignore[arg-type]
        await asyncio.sleep(0)
        member.consumer.seek(*WHERE, 3)
        await committing
        assert member.session.stored == 6
        await member.consumer.commit()
        assert member.session.stored == 3

    asyncio.run(life())


def test_commits_reach_the_coordinator_in_the_order_in_which_they_were_made() -> None:
    async def life() -> None:
        from ottla.client.group_session import GroupSession

        stored_at: list[int] = []
        first_may_end = asyncio.Event()

        async def on_any_node(call: Any, timeout_ms: int) -> Any:
            offset = call.args[0].offsets[0].offset
            if offset == 6:
                await first_may_end.wait()
            stored_at.append(offset)
            return SimpleNamespace(error=SimpleNamespace(code=0), offsets=[])

        member = Member()
        client: Any = SimpleNamespace(on_any_node=on_any_node)
        membership: Any = SimpleNamespace(group_id="g", member_id="m", member_epoch=1, owned={WHERE: TOPIC_ID})
        session = GroupSession(membership, client, member.work)
        first = asyncio.create_task(session.commit({WHERE: Position(6, None)}))
        await asyncio.sleep(0)
        second = asyncio.create_task(session.commit({WHERE: Position(5, None)}))
        await asyncio.sleep(0.01)
        first_may_end.set()
        await asyncio.gather(first, second)
        assert stored_at == [6, 5]

    asyncio.run(life())


def test_a_lookup_that_ends_after_the_partition_has_gone_says_so() -> None:
    async def life() -> None:
        member = Member()
        await member.gain()

        async def lookup(*_: object) -> int:
            member.work.lose([WHERE])
            return 7

        member.reader.lookup = lookup  # type: ignore[method-assign]
        with pytest.raises(ConfigError, match="not read"):
            await member.consumer.seek_to_end(*WHERE)

    asyncio.run(life())


def test_a_group_that_waits_for_a_topic_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    from ottla.client.group_session import GroupSession
    from ottla.v1.group_pb2 import Assignment, SessionResponse

    async def life() -> None:
        membership: Any = SimpleNamespace(
            group_id="g", needs_proof=False, heard=lambda now_ms: True, assigned=lambda assignment, now_ms: None
        )
        session = GroupSession(membership, SimpleNamespace(), Member().work)  # type: ignore[arg-type]
        for missing in (["evnts"], ["evnts"], ["evnts", "b"], []):
            session._take(SessionResponse(assignment=Assignment(missing_topics=missing)))

    asyncio.run(life())
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert [text.split(";")[0] for text in warnings] == [
        "group g: no such topic yet: evnts",
        "group g: no such topic yet: b",
    ]


class Leader:
    """Answers what a reader asks of offsets, and notes it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, offset: int) -> None:
        self.asked: list[int] = []

        async def list_offsets(_: object, wanted: Mapping[TopicPartition, int], __: int) -> dict[TopicPartition, int]:
            self.asked += wanted.values()
            return dict.fromkeys(wanted, offset)

        monkeypatch.setattr("ottla.client.reader.list_offsets", list_offsets)


async def reset(member: Member) -> None:
    await member.reader._reset({WHERE: (member.state, member.state.generation)})


def test_where_a_group_began_is_kept_for_the_next_member(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else, by the policy "latest", what is written before that one comes would be skipped without a word."""
    Leader(monkeypatch, 7)

    async def life() -> None:
        member = Member("latest")
        await member.work.take([Gained(WHERE, TOPIC_ID, None, None, False)])
        await reset(member)
        assert await member.work.give_back([WHERE]) == {WHERE: Position(7, None)}
        await member.work.commit_or_log(member.session)  # type: ignore[arg-type]
        assert member.session.stored == 7

    asyncio.run(life())


@pytest.mark.parametrize("policy", ["latest", "none", "by_duration:PT1S"])
def test_a_new_partition_that_was_trimmed_starts_with_its_first_record(
    monkeypatch: pytest.MonkeyPatch, policy: str
) -> None:
    leader = Leader(monkeypatch, 5)

    async def life() -> None:
        member = Member(policy)
        await member.work.take([Gained(WHERE, TOPIC_ID, None, None, True)])
        state = member.state
        state.take(refusal(pb.ERROR_CODE_OFFSET_OUT_OF_RANGE), 0)
        assert state.error is None
        await reset(member)
        assert (state.position, leader.asked) == (5, [EARLIEST])
        member.fetch(3)
        await member.consumer.poll(max_records=3, timeout_ms=0)
        state.take(refusal(pb.ERROR_CODE_OFFSET_OUT_OF_RANGE), 0)
        await reset(member)
        assert (state.error is not None) == (policy == "none"), "from then on the policy decides"
        assert EARLIEST not in leader.asked[1:]

    asyncio.run(life())


@pytest.mark.parametrize("refused", [False, True])
def test_auto_commit_does_not_overtake_what_the_user_commits(refused: bool) -> None:
    async def life() -> None:
        member = Member()
        await member.gain()
        await member.poll(6)
        member.work.note_processed()
        member.session.refuses = refused
        committing = asyncio.create_task(member.consumer.commit({WHERE: 2}))
        await asyncio.sleep(0)
        await member.work.commit_or_log(member.session)  # type: ignore[arg-type]
        await asyncio.wait([committing])
        member.session.refuses = False
        await member.work.commit_or_log(member.session)  # type: ignore[arg-type]
        assert (committing.exception() is not None) == refused
        assert member.session.stored == (6 if refused else 2)

    asyncio.run(life())


def test_who_may_not_close_or_commit_ends_no_record() -> None:
    """A thread with a loop of its own is refused; the record at work stays at work."""

    async def life() -> None:
        member = Member()
        member.consumer._loop = asyncio.get_running_loop()
        await member.gain()
        await member.ask()
        for call in (member.consumer.close, member.consumer.commit):
            with pytest.raises(Closed, match="another event loop"):
                await asyncio.to_thread(asyncio.run, call())
        assert member.state.done.offset == 0

    asyncio.run(life())


def test_what_is_assigned_while_the_consumer_closes_is_not_read() -> None:
    async def life() -> None:
        let_go = asyncio.Event()

        class Listener(RebalanceListener):
            async def on_assigned(self, partitions: Sequence[TopicPartition]) -> None:
                await let_go.wait()

        member = Member(listener=Listener())
        taking = asyncio.create_task(member.gain())
        await asyncio.sleep(0)
        member.reader.stop()
        await member.work.closing()
        let_go.set()
        await taking
        assert not member.state.wants_fetch(10**9)
        await member.work.take([Gained(TopicPartition("t", 1), TOPIC_ID, 0, None, False)])
        assert list(member.reader.states) == [WHERE]

    asyncio.run(life())


def test_who_waits_for_a_position_hears_that_the_partition_has_gone() -> None:
    async def life() -> None:
        member = Member()
        await member.work.take([Gained(WHERE, TOPIC_ID, None, None, False)])
        waiting = asyncio.create_task(member.consumer.position(*WHERE))
        await asyncio.sleep(0)
        member.work.lose([WHERE])
        async with asyncio.timeout(10):
            with pytest.raises(ConfigError, match="not read"):
                await waiting

    asyncio.run(life())


async def test_lag_hides_no_error_of_a_partition_that_is_read() -> None:
    """A reset policy that a node refuses is a ConfigError, too; only one that went to another member is left out."""
    member = Member()
    await member.gain()

    async def ends(where: object) -> dict[TopicPartition, int]:
        return {WHERE: END, TopicPartition("t", 9): 5}

    member.reader.ends = ends  # type: ignore[method-assign]
    assert await member.consumer.lag() == {WHERE: END}
    member.state.position, member.state.error = None, ConfigError("no such policy")
    with pytest.raises(ConfigError, match="policy"):
        await member.consumer.lag()
