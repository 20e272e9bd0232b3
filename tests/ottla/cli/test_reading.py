"""What `ottla consume` hands out, and what a group may take for processed."""

import asyncio
from types import SimpleNamespace
from typing import Any

from ottla import ConsumerRecord, TopicPartition
from ottla.cli.reading import Wish, _Shared
from ottla.cli.span import Span
from tests.ottla.client.test_positions import WHERE, Member


class Sink:
    left = None

    def __init__(self) -> None:
        self.offsets: list[int] = []

    def take(self, records: list[ConsumerRecord]) -> None:
        self.offsets += [record.offset for record in records]


async def drained(ends: dict[TopicPartition, int]) -> tuple[list[int], int | None]:
    """What was printed of a log that has grown to 6 records since the ends were looked up, and what was committed."""
    member, sink = Member(), Sink()
    await member.gain()
    member.fetch(6)
    client: Any = SimpleNamespace()
    reading = _Shared(client, Wish(("t",), False, (), Span(), "g", None), sink)  # type: ignore[arg-type]
    reading._ends = ends
    records = await member.consumer.poll(timeout_ms=0)
    reading._hand_out(member.consumer, records)
    assert await reading._is_over(member.consumer)
    await member.consumer.commit()
    return sink.offsets, member.session.stored


def test_a_group_keeps_its_place_at_the_end_that_there_was() -> None:
    assert asyncio.run(drained({WHERE: 3})) == ([0, 1, 2], 3)
    assert asyncio.run(drained({WHERE: 6})) == ([0, 1, 2, 3, 4, 5], 6)


def test_of_a_partition_that_was_made_since_nothing_counts_as_read() -> None:
    assert asyncio.run(drained({})) == ([], 0)
