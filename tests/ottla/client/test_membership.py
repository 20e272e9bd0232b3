"""What a group member decides, without any network."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from ottla import ConfigError
from ottla.client.group import Membership
from ottla.client.group_session import GroupSession
from ottla.client.records import TopicPartition
from ottla.v1 import error_pb2 as pb
from ottla.v1.data_pb2 import TopicPartition as Wire
from ottla.v1.group_pb2 import AssignedPartition, Assignment, SessionResponse

A, B, C = (TopicPartition("t", number) for number in range(3))
ID = b"i" * 16


def member() -> Membership:
    return Membership("g", ("t",), "", "uniform", "", "me", 10_000, "m-0")


def assignment(epoch: int, *partitions: TopicPartition, topic_id: bytes = ID, **facts: int) -> Assignment:
    return Assignment(
        member_id="m-1",
        member_epoch=epoch,
        assignment_id=epoch * 10,
        session_timeout_ms=10_000,
        partitions=[
            AssignedPartition(partition=Wire(topic=p.topic, topic_id=topic_id, partition=p.partition), **facts)
            for p in partitions
        ],
    )


def follow(membership: Membership, news: Assignment, now_ms: int = 0) -> None:
    membership.assigned(news, now_ms)
    for where in membership.to_give_back(news):
        del membership.owned[where]
    membership.owned.update((gain.where, gain.topic_id) for gain in membership.to_start(news))


def test_nothing_is_handed_out_before_an_assignment() -> None:
    membership = member()
    assert not membership.may_hand_out(0)
    assert membership.heard(0)
    assert not membership.may_hand_out(0)
    membership.assigned(assignment(1, A), 0)
    assert membership.may_hand_out(0)


def test_only_the_difference_moves() -> None:
    membership = member()
    follow(membership, assignment(1, A, B))
    news = assignment(2, B, C)
    assert membership.to_give_back(news) == [A]
    assert [gain.where for gain in membership.to_start(news)] == [C]
    follow(membership, news)
    confirmed = membership.confirmation(news)
    assert confirmed.assignment_id == 20
    assert [(p.topic, p.topic_id, p.partition) for p in confirmed.partitions] == [("t", ID, 1), ("t", ID, 2)]


def test_the_start_is_the_commit_or_zero_or_the_policys() -> None:
    membership = member()
    committed = membership.to_start(assignment(1, A, committed_offset=0, committed_leader_epoch=3))[0]
    assert (committed.offset, committed.leader_epoch, committed.is_new_partition) == (0, 3, False)
    fresh = membership.to_start(assignment(1, A))[0]
    assert (fresh.offset, fresh.leader_epoch) == (None, None)
    assert membership.to_start(assignment(1, A, new_partition=1))[0].is_new_partition


def test_a_namesake_of_a_deleted_topic_is_another_partition() -> None:
    membership = member()
    follow(membership, assignment(1, A))
    news = assignment(2, A, topic_id=b"j" * 16)
    assert membership.to_give_back(news) == [A]


def test_silence_stops_the_hand_out_until_an_assignment_proves_the_membership() -> None:
    membership = member()
    follow(membership, assignment(1, A), now_ms=0)
    assert membership.heard(2_000)
    assert membership.may_hand_out(4_999)
    assert not membership.may_hand_out(5_000)
    # A tick after that may have waited in a buffer while others took over: it proves nothing.
    assert not membership.heard(5_500)
    assert not membership.may_hand_out(5_500)
    assert membership.heard(5_600)
    assert not membership.may_hand_out(5_600)
    membership.proven("m-1", 7, 5_650)  # an answer about another epoch
    assert not membership.may_hand_out(5_650)
    membership.proven("m-1", 1, 5_650)
    assert membership.may_hand_out(5_700)
    assert not membership.heard(40_000)
    membership.assigned(assignment(1, A), 40_100)
    assert membership.may_hand_out(40_100)


def test_a_lost_stream_alone_stops_nothing() -> None:
    membership = member()
    follow(membership, assignment(1, A), now_ms=0)
    membership.connected()
    assert membership.may_hand_out(2_500)
    request = membership.join_request()
    assert (request.member_id, request.member_epoch) == ("m-1", 1)
    assert [(p.topic_id, p.partition) for p in request.owned] == [(ID, 0)]


def test_a_fenced_member_starts_anew_with_nothing() -> None:
    membership = member()
    follow(membership, assignment(1, A, B))
    assert membership.fenced() == [A, B]
    request = membership.join_request()
    assert (request.member_id, request.member_epoch, len(request.owned)) == ("m-1", 0, 0)
    assert not membership.may_hand_out(0)


async def test_topics_that_are_changed_while_a_node_is_looked_for_are_what_is_joined_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = asyncio.Event()

    async def home() -> str:
        await found.wait()
        return "127.0.0.1:1"

    client: Any = SimpleNamespace(home=home, channel=lambda address: None)
    session = GroupSession(member(), client, SimpleNamespace())  # type: ignore[arg-type]
    said: list[list[str]] = []

    class Stub:
        def __init__(self, channel: object) -> None: ...

        def Session(self) -> object:
            said.append(list(session._outbox.get_nowait().join.topics))
            return SimpleNamespace(cancel=said.append)

    async def converse(call: object, writing: Any, take: object) -> str:
        writing.close()
        session._is_leaving = True
        return "over"

    monkeypatch.setattr("ottla.client.group_session.GroupServiceStub", Stub)
    monkeypatch.setattr("ottla.client.group_session.converse", converse)
    running = asyncio.create_task(session.run())
    await asyncio.sleep(0)
    await session.subscribe(("other",), "")
    found.set()
    await running
    assert said == [["other"]]


async def test_an_expression_that_is_refused_leaves_the_subscription_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    async def home() -> str:
        return "127.0.0.1:1"

    client: Any = SimpleNamespace(home=home, channel=lambda address: None)
    failed: list[object] = []
    owner: Any = SimpleNamespace(session_failed=failed.append)
    session = GroupSession(member(), client, owner)
    joined: list[tuple[list[str], str]] = []

    class Stub:
        def __init__(self, channel: object) -> None: ...

        def Session(self) -> object:
            join = session._outbox.get_nowait().join
            joined.append((list(join.topics), join.topic_regex))
            return SimpleNamespace(cancel=cancelled.set)

    async def converse(call: object, writing: Any, take: Any) -> str:
        writing.close()
        cancelled.clear()
        if joined[-1][1] == "(":
            take(SessionResponse(error=pb.Error(code=pb.ERROR_CODE_INVALID_REGULAR_EXPRESSION, message="missing )")))
        take(SessionResponse(assignment=assignment(1)))
        await cancelled.wait()
        return "over"

    cancelled = asyncio.Event()
    monkeypatch.setattr("ottla.client.group_session.GroupServiceStub", Stub)
    monkeypatch.setattr("ottla.client.group_session.converse", converse)
    running = asyncio.create_task(session.run())
    await session.subscribe((), "t.*")
    for _ in range(2):
        with pytest.raises(ConfigError, match="missing"):
            await session.subscribe((), "(")
    await session.subscribe((), "u.*")
    running.cancel()
    assert [names for names in joined if names not in ((["t"], ""), ([], "t.*"))] == [([], "("), ([], "("), ([], "u.*")]
    assert failed == []
