"""Lists of records of one partition, and commits of one record."""

import asyncio

import pytest

from ottla import ConfigError, Consumer, MemberFenced, OttlaError
from ottla.client.group import Gained
from ottla.client.records import TopicPartition
from tests.ottla.client.batches import TOPIC_ID, data, stored
from tests.ottla.client.test_positions import WHERE, Member

OTHER = TopicPartition("t", 1)


async def member_of_two() -> Member:
    member = Member()
    await member.gain()
    await member.work.take([Gained(OTHER, TOPIC_ID, 0, None, False)])
    return member


def give(member: Member, where: TopicPartition, values: list[bytes], first: int) -> None:
    state = member.reader.states[where]
    state.added_to = "a stream"
    chunk = state.take(
        data(stored(values, first, epoch=3, partition=where.partition), next_offset=first + len(values)), 0
    )
    assert chunk is not None
    member.reader._chunks.append(chunk)


async def test_each_list_is_of_one_partition_and_counts_when_the_next_is_asked_for() -> None:
    member = await member_of_two()
    give(member, WHERE, [b"a", b"b", b"c"], 0)
    give(member, OTHER, [b"x"], 0)
    lists = member.consumer.batches(max_records=2)
    assert [record.value for record in await anext(lists)] == [b"a", b"b"]
    await member.work.commit(member.session)  # type: ignore[arg-type]
    assert member.session.stored in (None, 0)
    assert [record.value for record in await anext(lists)] == [b"c"]
    await member.work.commit(member.session)  # type: ignore[arg-type]
    assert member.session.stored == 2
    assert [record.value for record in await anext(lists)] == [b"x"]


async def test_a_cancelled_wait_ends_nothing_and_closing_ends_all() -> None:
    member = await member_of_two()
    lists = member.consumer.batches()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await anext(lists)
    give(member, WHERE, [b"a"], 0)
    assert [record.value for record in await anext(lists)] == [b"a"]
    member.consumer._life = "closed"
    assert [record async for record in lists] == []


async def test_a_commit_of_a_record_is_behind_that_record() -> None:
    member = await member_of_two()
    give(member, WHERE, [b"a", b"b", b"c"], 0)
    records = await member.consumer.poll(timeout_ms=0)
    await member.consumer.commit(records[1])
    assert member.session.stored == 2
    member.session.refuses = True
    with pytest.raises(OttlaError):
        await member.consumer.commit(records[2])
    assert issubclass(MemberFenced, OttlaError)


@pytest.mark.parametrize(
    ("topics", "said"),
    [
        (("127.0.0.1:9192", "hello"), "bootstrap='127.0.0.1:9192'"),
        (("node-1:9192",), "is an address, not a topic"),
        ((["hello"],), "one by one"),
        ((("hello", "world"),), "one by one"),
        (("a b",), "topics 'a b'"),
    ],
)
def test_what_others_take_first_is_explained(topics: tuple[str, ...], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Consumer(*topics)
