"""What `ottla consume` does once it knows what is wanted: reads, prints, waits, leaves."""

import asyncio
import errno
import os
import re
import select
import stat
import sys
import time
from abc import ABC, abstractmethod
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ottla import Admin, Client, ConfigError, Consumer, TopicPartition, UnknownTopic
from ottla.cli import span as spans
from ottla.cli.connect import Contact, connection
from ottla.cli.failure import Failure
from ottla.cli.output import counted, tell
from ottla.cli.span import EARLIEST, LATEST, Places, Span

if TYPE_CHECKING:
    from ottla import ConsumerRecord
    from ottla.cli.format import Shown

_AT_ONCE: Final = 500
_IDLE_MS: Final = 1000


@dataclass(frozen=True, slots=True)
class Wish:
    """What the options say."""

    topics: tuple[str, ...]
    regex: bool
    partitions: tuple[int, ...]
    span: Span
    group: str | None
    max_messages: int | None

    def names(self, known: Iterable[str]) -> list[str]:
        """The topics that are meant."""
        if not self.regex:
            return list(self.topics)
        patterns = [_compiled(text) for text in self.topics]
        return sorted(name for name in known if any(pattern.fullmatch(name) for pattern in patterns))


def _compiled(text: str) -> "re.Pattern[str]":
    try:
        return re.compile(text)
    except re.error as error:
        raise Failure("INVALID_REQUEST", f"{text!r} is no pattern: {error}", "quote it: 'orders-.*'") from None


async def read(bootstrap: str, wish: Wish, line_of: "Callable[[Shown], bytes]") -> None:
    """Reads until the wish is fulfilled, or for ever."""
    async with connection(bootstrap) as client:
        kind = _Alone if wish.group is None else _Shared
        await kind(client, wish, _Printer(line_of, wish.max_messages)).run()


class _Printer:
    """Standard output, and how many records may still go there."""

    def __init__(self, line_of: "Callable[[Shown], bytes]", left: int | None) -> None:
        self.left = left
        self._line_of = line_of
        self._out = sys.stdout.buffer

    def take(self, records: "list[ConsumerRecord]") -> None:
        if self.left is not None:
            records = records[: self.left]
            self.left -= len(records)
        self._out.write(b"".join(map(self._line_of, records)))
        self._out.flush()
        if _reader_is_gone():
            raise BrokenPipeError(errno.EPIPE, "nobody reads the output any more")


class _Newest:
    """Keeps the newest records of each partition."""

    left = None

    def __init__(self, count: int) -> None:
        self._kept: defaultdict[TopicPartition, deque[ConsumerRecord]] = defaultdict(lambda: deque(maxlen=count))

    def take(self, records: "list[ConsumerRecord]") -> None:
        for record in records:
            self._kept[record.topic_partition].append(record)

    def by_time(self) -> "list[ConsumerRecord]":
        """By time, each partition's records in their own order."""
        timed: list[tuple[int, ConsumerRecord]] = []
        for records in self._kept.values():
            newest = 0
            for record in records:
                newest = max(newest, record.timestamp)
                timed.append((newest, record))
        return [record for _, record in sorted(timed, key=lambda each: each[0])]


class _Reading(ABC):
    """What both kinds of reading have in common: one loop, an end for each partition, and a word when it waits."""

    def __init__(self, client: Client, wish: Wish, sink: _Printer | _Newest) -> None:
        self._client = client
        self._wish = wish
        self._sink = sink
        self._contact = Contact(client)
        self._ends: Places | None = None
        self._told = ""

    @abstractmethod
    async def run(self) -> None: ...

    async def _loop(self, consumer: Consumer) -> None:
        """Prints what comes until every partition is at its end."""
        while (left := self._sink.left) != 0 and not await self._is_over(consumer):
            records = await consumer.poll(max_records=min(left or _AT_ONCE, _AT_ONCE), timeout_ms=_IDLE_MS)
            if not records:
                await self._idle(consumer)
            self._hand_out(consumer, records)

    def _hand_out(self, consumer: Consumer, records: "list[ConsumerRecord]") -> None:
        """Prints what is before the ends; the rest is given back, or a group would take it for processed."""
        ends, wanted, behind = self._ends, records, Places()
        if ends is not None:
            wanted = [record for record in records if record.offset < ends.get(record.topic_partition, 0)]
            for record in records:
                if record.offset >= ends.get(record.topic_partition, 0):
                    behind.setdefault(record.topic_partition, record.offset)
        self._sink.take(wanted)
        for tp, offset in behind.items():
            consumer.seek(*tp, offset)
            consumer.pause(*tp)

    @abstractmethod
    async def _is_over(self, consumer: Consumer) -> bool: ...

    async def _idle(self, consumer: Consumer) -> None:
        """Nothing came for a moment: says once what that means."""
        await self._contact.look()
        word = self._waits_for(consumer)
        if word != self._told:
            self._told = word
            tell(word)

    def _waits_for(self, consumer: Consumer) -> str:
        assigned = consumer.assignment()
        if leaderless := self._without_leader(assigned):
            return leaderless
        names = sorted({tp.topic for tp in assigned})
        shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        return f"Waiting for records in {shown} ({counted(len(assigned), 'partition')}), Ctrl-C ends."

    def _without_leader(self, places: Iterable[TopicPartition]) -> str:
        """What to say of partitions that nobody leads; nothing where there are none."""
        topics = self._client.view.topics
        found = [
            f"{name}-{number}"
            for name, number in places
            if (topic := topics.get(name)) is not None
            and number < len(topic.partitions)
            and topic.partitions[number].leader_id is None
        ]
        if not found:
            return ""
        shown = ", ".join(found[:5]) + (", ..." if len(found) > 5 else "")
        return f"{counted(len(found), 'partition')} without a leader ({shown}): waiting for one, Ctrl-C ends."

    async def _partitions(self, names: Iterable[str]) -> list[TopicPartition]:
        """All partitions of topics that exist, or those that were named. Raises UnknownTopic."""
        found: list[TopicPartition] = []
        for name in names:
            topic = await self._client.topic(name, max(self._wish.partitions, default=0))
            numbers = self._wish.partitions or range(len(topic.partitions))
            found += [TopicPartition(name, number) for number in numbers]
        return found


class _Alone(_Reading):
    """Without a group: the partitions and where to start in them are ours to choose."""

    @property
    def _look(self) -> spans.Look:
        return Admin(self._client).list_offsets

    async def run(self) -> None:
        span = self._wish.span
        names = self._wish.names(self._visible())
        if not names and span.end is not None:
            tell(f"No topic matches {' '.join(self._wish.topics)}.")
            return
        where = await self._partitions(names)
        if span.end is None and span.last is None and span.start_ms in (EARLIEST, LATEST) and span.start_offset is None:
            # The reader looks for where to start itself: a partition without a leader holds nobody up.
            await self._read(where, {}, "earliest" if span.start_ms == EARLIEST else "latest")
            return
        if leaderless := self._without_leader(where):
            tell(leaderless)
        if span.last is not None:
            starts = await spans.ends_of(span, where, self._look)
            await self._newest(starts, span.last)
            if span.end is not None:
                return
        else:
            starts = await spans.starts_of(span, where, self._look)
            if span.end is not None and not self._must_wait():
                await self._find_ends(starts)
        await self._read(starts, starts, "earliest" if span.start_offset is None else "none")

    def _visible(self) -> list[str]:
        return [name for name, topic in self._client.view.topics.items() if not topic.internal]

    def _must_wait(self) -> bool:
        return self._wish.span.end == "time" and self._wish.span.end_at > time.time_ns() // 1_000_000

    async def _find_ends(self, starts: Places) -> None:
        span = self._wish.span
        self._ends = await spans.ends_of(span, starts, self._look)
        if span.start_offset is None:
            return
        first = await self._look(dict.fromkeys(starts, EARLIEST))
        latest = await self._look(dict.fromkeys(starts, LATEST))
        for tp, start in starts.items():
            if not (first[tp] or 0) <= start <= (latest[tp] or 0):
                raise Failure(
                    "OFFSET_OUT_OF_RANGE",
                    f"{tp.topic}-{tp.partition} has offsets {first[tp]} to {latest[tp]}, {start} is none of them",
                    "start within them, or leave --offset out",
                )

    async def _read(self, where: Iterable[TopicPartition], starts: Places, policy: str) -> None:
        async with Consumer(bootstrap=self._client, auto_offset_reset=policy, client_id="ottla-cli") as consumer:
            await consumer.assign(list(where))
            for tp, offset in starts.items():
                consumer.seek(*tp, offset)
            await self._loop(consumer)

    async def _newest(self, ends: Places, count: int) -> None:
        """The newest records over all partitions, by their times. Offsets may have gaps, so where too little comes it
        looks further back."""
        first = await self._look(dict.fromkeys(ends, EARLIEST))
        back = count
        while True:
            newest = _Newest(count)
            starts = {tp: max(first[tp] or 0, end - back) for tp, end in ends.items()}
            reading = _Alone(self._client, self._wish, newest)
            reading._ends = ends
            await reading._read(starts, starts, "earliest")
            records = newest.by_time()
            if len(records) >= count or all(starts[tp] == (first[tp] or 0) for tp in ends):
                break
            back *= 8
        self._sink.take(records[-count:])

    async def _is_over(self, consumer: Consumer) -> bool:
        if self._ends is None:
            if self._wish.span.end != "time" or self._must_wait():
                return False
            await self._find_ends(dict.fromkeys(consumer.assignment(), 0))
        assert self._ends is not None
        left = [tp for tp in consumer.assignment() if await consumer.position(*tp) < self._ends.get(tp, 0)]
        if len(left) < len(consumer.assignment()):
            await consumer.assign(left)
        return not left

    async def _idle(self, consumer: Consumer) -> None:
        await super()._idle(consumer)
        if self._ends is None and not self._wish.partitions:
            await self._add_new(consumer)

    async def _add_new(self, consumer: Consumer) -> None:
        """Partitions and matching topics that were made since: nothing of theirs is missed."""
        known = set(consumer.assignment())
        new = [
            TopicPartition(name, info.partition)
            for name in self._wish.names(self._visible())
            if (topic := self._client.view.topics.get(name)) is not None
            for info in topic.partitions
            if (name, info.partition) not in known
        ]
        if new:
            await consumer.assign([*known, *new])
            for tp in new:
                consumer.seek(*tp, 0)

    def _waits_for(self, consumer: Consumer) -> str:
        if not consumer.assignment():
            return f"No topic matches {' '.join(self._wish.topics)}: waiting for one, Ctrl-C ends."
        return super()._waits_for(consumer)


class _Shared(_Reading):
    """In a group: partitions and positions are the group's."""

    async def run(self) -> None:
        wish = self._wish
        if not wish.regex:
            for name in wish.topics:
                await self._say_if_unknown(name)
        if wish.span.end is not None:
            where = await self._partitions(wish.names(self._client.view.topics))
            self._ends = await spans.ends_of(wish.span, where, Admin(self._client).list_offsets)
        async with Consumer(
            *(() if wish.regex else wish.topics),
            group=wish.group,
            topic_regex="|".join(f"(?:{text})" for text in wish.topics) if wish.regex else "",
            bootstrap=self._client,
            auto_offset_reset=_policy(wish.span.start_ms),
            client_id="ottla-cli",
        ) as consumer:
            await self._loop(consumer)

    async def _is_over(self, consumer: Consumer) -> bool:
        assigned = consumer.assignment()
        if self._ends is None or not assigned:
            return False
        try:
            async with asyncio.timeout(_IDLE_MS / 1000):
                for tp in assigned:
                    if await consumer.position(*tp) < self._ends.get(tp, 0):
                        return False
        except (ConfigError, TimeoutError):
            return False  # it went to another member, or has no position yet
        return True

    def _waits_for(self, consumer: Consumer) -> str:
        if not consumer.assignment():
            return f"Group {self._wish.group} has given this member no partition yet: waiting, Ctrl-C ends."
        return super()._waits_for(consumer)

    async def _say_if_unknown(self, topic: str) -> None:
        """A group may name a topic before there is one; more often it is a typing error."""
        try:
            await self._client.topic(topic)
        except UnknownTopic:
            tell(f"There is no topic {topic}: waiting until there is one, Ctrl-C ends.")


def _policy(start_ms: int) -> str:
    """How a group without a position starts there."""
    if start_ms in (EARLIEST, LATEST):
        return "earliest" if start_ms == EARLIEST else "latest"
    ago_s = max(1, time.time_ns() // 1_000_000_000 - start_ms // 1000)
    return f"by_duration:PT{ago_s}S"


def _reader_is_gone() -> bool:
    """Whether standard output is a pipe that nobody reads: without a next record no write would ever tell."""
    if sys.platform != "linux" or not stat.S_ISFIFO(os.fstat(sys.stdout.fileno()).st_mode):
        return False
    pipe = select.poll()
    pipe.register(sys.stdout, 0)
    return any(events & select.POLLERR for _, events in pipe.poll(0))
