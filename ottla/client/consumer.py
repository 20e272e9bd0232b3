"""The consumer: reads partitions in order, over one stream to each leader. Its decisions are in fetch_state.py."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from typing import Literal, Self

from ottla.client.connection import Client
from ottla.client.errors import Closed, ConfigError, OffsetOutOfRange, OttlaError, UnknownTopic
from ottla.client.fetch_state import Chunk, PartitionState, credit_bytes
from ottla.client.fetch_stream import FetchStream
from ottla.client.group import Gained, Membership
from ottla.client.group_session import GroupSession, Position
from ottla.client.offsets import EARLIEST, LATEST, list_offsets
from ottla.client.records import ConsumerRecord, TopicPartition
from ottla.client.settings import ConsumerSettings, reset_duration_ms
from ottla.client.tasks import Tasks
from ottla.client.view import ClusterView, TopicInfo
from ottla.internal.v1.view_pb2 import FetchResponseView

log = logging.getLogger("ottla.consumer")


def _now_ms() -> int:
    return time.monotonic_ns() // 1_000_000


class Consumer(AsyncIterator[ConsumerRecord]):
    """Reads records: `async with Consumer("events", group="billing") as consumer: async for record in consumer: ...`

    With a group, its members share the partitions, and positions are kept by the cluster: a record counts as processed
    when the next one is asked for, and is committed every auto_commit_interval_ms, when partitions go to another member
    and at the end of the `async with` block (the last record only if the block ends without an exception).

    Without a group, all partitions of the topics are read, new ones from their start; or call `assign`. Records of a
    partition come in order; between partitions there is none. `bootstrap` is host:port of one or more nodes, or a
    Client to share. Settings have Kafka's names, times in ms, sizes in bytes. `auto_offset_reset` decides where to
    start, and what to do when a position is no longer in the log: earliest, latest, none, or by_duration:PT1H.
    """

    def __init__(
        self,
        *topics: str,
        group: str | None = None,
        bootstrap: str | Sequence[str] | Client | None = None,
        auto_offset_reset: str = "earliest",
        fetch_min_bytes: int = 1,
        fetch_max_wait_ms: int = 500,
        fetch_max_bytes: int = 8 * 1024 * 1024,
        max_partition_fetch_bytes: int = 1024 * 1024,
        request_timeout_ms: int = 5_000,
        client_id: str = "ottla-python",
        enable_auto_commit: bool = True,
        auto_commit_interval_ms: int = 5_000,
        session_timeout_ms: int = 10_000,
        group_instance_id: str = "",
        topic_regex: str = "",
        assignor: Literal["uniform", "range"] = "uniform",
    ) -> None:
        self.settings = ConsumerSettings(
            auto_offset_reset,
            fetch_min_bytes,
            fetch_max_wait_ms,
            fetch_max_bytes,
            max_partition_fetch_bytes,
            request_timeout_ms,
            client_id,
            enable_auto_commit,
            auto_commit_interval_ms,
            session_timeout_ms,
        )
        if group is None and (group_instance_id or topic_regex):
            raise ConfigError("group_instance_id and topic_regex need a group. Next: name one")
        if group is not None and not topics and not topic_regex:
            raise ConfigError(f"group {group!r} needs topics or a topic_regex to share out")
        self._topics = topics
        self._owns_client = not isinstance(bootstrap, Client)
        self._client = bootstrap if isinstance(bootstrap, Client) else Client(bootstrap, client_id=client_id)
        self._states: dict[TopicPartition, PartitionState] = {}
        self._streams: dict[int, FetchStream] = {}
        self._chunks: deque[Chunk] = deque()
        self._current: tuple[Chunk, Iterator[ConsumerRecord]] | None = None
        self._tasks = Tasks(self._failed)
        self._wake = asyncio.Event()
        self._news = asyncio.Event()
        self._stop_listening: Callable[[], None] = lambda: None
        self._life = "new"
        self._error: OttlaError | None = None
        self._last_seek_id = 0
        self._handed_out: dict[TopicPartition, Position] = {}
        """Behind the records that the user works on right now."""
        self._processed: dict[TopicPartition, Position] = {}
        """Behind the records that are done, where not committed yet."""
        self._asked = asyncio.Event()
        self._session: GroupSession | None = None
        if group is not None:
            membership = Membership(
                group, topics, topic_regex, assignor, group_instance_id, client_id, session_timeout_ms
            )
            self._session = GroupSession(membership, self._client, self)
        self._resetting: set[TopicPartition] = set()

    # -- life ------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Connects. Raises ConnectionFailed if no node answers, UnknownTopic for a topic that does not exist."""
        if self._life != "new":
            raise Closed(f"this consumer is {self._life} and can't be started. Next: make a new one")
        if self._owns_client:
            await self._client.start()
        self._life = "open"
        try:
            for name in self._topics if self._session is None else ():
                self._add_partitions(await self._client.topic(name), first_time=True)
        except BaseException:
            await self.close()
            raise
        self._stop_listening = self._client.on_view(self._on_view)
        self._tasks.start(self._run(), "ottla-consumer")
        if self._session is not None:
            self._tasks.start(self._session.run(), "ottla-group")
            self._tasks.start(self._session.follow(), "ottla-group-follow")
            if self.settings.enable_auto_commit:
                self._tasks.start(self._commit_now_and_then(), "ottla-commit")

    async def close(self) -> None:
        """Stops reading; whoever iterates gets the end. In a group: commits every record that was handed out, if
        auto commit is on, and leaves. Idempotent."""
        self._note_processed()
        await self._close()

    async def _close(self) -> None:
        if self._life == "closed":
            return
        was_open, self._life = self._life == "open", "closed"
        self._stop_listening()
        self._news.set()
        if self._session is not None and was_open:
            if self.settings.enable_auto_commit:
                await self._commit_processed()
            await self._session.leave()
        await self._tasks.stop()
        if self._owns_client:
            await self._client.close()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is None:
            await self.close()
        else:
            await self._close()

    def _failed(self, error: BaseException) -> None:
        """A bug ended a task: tell whoever reads, instead of silence."""
        log.error("the consumer stopped", exc_info=error)
        self._error = OttlaError(
            f"the consumer stopped because of an internal error: {error!r}. Next: make a new one, and report this"
        )
        self._news.set()

    # -- what to read ----------------------------------------------------------------------------------------------

    async def assign(self, partitions: Iterable[tuple[str, int]]) -> None:
        """Reads exactly these partitions. Those that were read before keep their position. Raises UnknownTopic."""
        if self._session is not None:
            raise ConfigError("the group assigns the partitions. Next: leave out the group to choose them yourself")
        wanted = [TopicPartition(*where) for where in partitions]
        topics = {tp.topic: await self._client.topic(*tp) for tp in sorted(wanted)}
        for tp in set(self._states) - set(wanted):
            self._drop(tp)
        for tp in wanted:
            if tp not in self._states:
                self._add(tp, topics[tp.topic])
        self._wake.set()

    def assignment(self) -> list[TopicPartition]:
        """The partitions that are read now."""
        return sorted(self._states)

    def seek(self, topic: str, partition: int, offset: int) -> None:
        """The next record of the partition is the one at `offset`, or the first after it. What was read ahead is
        dropped."""
        if offset < 0:
            raise ConfigError(f"offset {offset} is negative. Next: use seek_to_beginning or seek_to_end")
        self._state(topic, partition).seek(offset)
        self._wake.set()

    async def seek_to_time(self, topic: str, partition: int, timestamp_ms: int) -> int:
        """Goes to the first record at or after a time in ms since the epoch, or to the end if there is none. Answers
        the offset."""
        if timestamp_ms < 0:
            raise ConfigError(f"timestamp_ms {timestamp_ms} is before 1970")
        return await self._seek_to(topic, partition, timestamp_ms)

    async def seek_to_beginning(self, topic: str, partition: int) -> int:
        """Goes to the first record that exists. Answers its offset."""
        return await self._seek_to(topic, partition, EARLIEST)

    async def seek_to_end(self, topic: str, partition: int) -> int:
        """Goes behind the last record that exists: only newer ones follow. Answers the offset."""
        return await self._seek_to(topic, partition, LATEST)

    async def position(self, topic: str, partition: int) -> int:
        """The offset of the next record of the partition; waits until the reset policy has found one."""
        state = self._state(topic, partition)
        while state.position is None:
            if state.error is not None:
                raise state.error
            await self._wait_for_news(None)
        return state.position

    def pause(self, topic: str, partition: int) -> None:
        """Hands out no records of the partition until `resume`. The others go on."""
        state = self._state(topic, partition)
        state.paused = True
        state.rewind()
        self._wake.set()

    def resume(self, topic: str, partition: int) -> None:
        """Goes on where `pause` stopped."""
        self._state(topic, partition).paused = False
        self._wake.set()

    def high_watermark(self, topic: str, partition: int) -> int | None:
        """The end of what can be read, as of the last answer; None before the first."""
        state = self._state(topic, partition)
        return state.high_watermark if state.high_watermark >= 0 else None

    @property
    def buffered_bytes(self) -> int:
        """What was read ahead; about fetch_max_bytes for each leader at most."""
        return sum(stream.held_bytes for stream in self._streams.values())

    async def _seek_to(self, topic: str, partition: int, timestamp_ms: int) -> int:
        state = self._state(topic, partition)
        offset = await self._lookup(state.where, timestamp_ms)
        state.seek(offset)
        self._wake.set()
        return offset

    async def _lookup(self, tp: TopicPartition, timestamp_ms: int) -> int:
        for timestamp in (timestamp_ms, LATEST):
            answer = (await list_offsets(self._client, {tp: timestamp}, self.settings.request_timeout_ms)).get(tp)
            if isinstance(answer, OttlaError):
                raise answer
            if answer is not None:
                return answer
        raise OttlaError(f"no node could tell the offsets of {tp.topic}-{tp.partition}. Next: try again")

    def _state(self, topic: str, partition: int) -> PartitionState:
        state = self._states.get(TopicPartition(topic, partition))
        if state is None:
            raise ConfigError(f"{topic}-{partition} is not read by this consumer. Next: assign it first")
        return state

    def _add_partitions(self, topic: TopicInfo, *, first_time: bool) -> None:
        for info in topic.partitions:
            tp = TopicPartition(topic.name, info.partition)
            if tp not in self._states:
                state = self._add(tp, topic)
                if not first_time:
                    state.seek(0)  # a partition that was added later loses nothing, whatever the policy (KIP-1327)

    def _add(self, tp: TopicPartition, topic: TopicInfo) -> PartitionState:
        state = self._states[tp] = PartitionState(tp, topic.topic_id, self.settings.auto_offset_reset)
        info = topic.partitions[tp.partition]
        state.set_leader(info.leader_id, info.leader_epoch)
        return state

    def _drop(self, tp: TopicPartition) -> None:
        self._states.pop(tp).rewind()

    # -- records out -----------------------------------------------------------------------------------------------

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ConsumerRecord:
        if self._session is not None:
            self._note_processed()
        while True:
            record = self._take_buffered()
            if record is not None:
                if self._session is not None:
                    self._handed_out[record.topic_partition] = Position(record.offset + 1, record.leader_epoch)
                return record
            if self._life != "open":
                raise StopAsyncIteration
            self._raise_errors()
            await self._wait_for_news(None)

    async def poll(self, *, max_records: int = 500, timeout_ms: int = 1000) -> list[ConsumerRecord]:
        """Up to `max_records` records: at once where there are any, else the first that come within `timeout_ms`; an
        empty list if none did."""
        give_up = time.monotonic() + timeout_ms / 1000
        if self._session is not None:
            self._note_processed()
        while True:
            records: list[ConsumerRecord] = []
            while len(records) < max_records and (record := self._take_buffered()) is not None:
                records.append(record)
            if self._session is not None:
                self._handed_out.update((r.topic_partition, Position(r.offset + 1, r.leader_epoch)) for r in records)
            if records or self._life != "open":
                return records
            self._raise_errors()
            left = give_up - time.monotonic()
            if left <= 0:
                return records
            await self._wait_for_news(left)

    def _take_buffered(self) -> ConsumerRecord | None:
        if self._session is not None and not self._session.may_hand_out():
            return None
        while True:
            if self._current is None:
                if not self._chunks:
                    return None
                chunk = self._chunks.popleft()
                self._current = chunk, chunk.state.records(chunk)
            chunk, records = self._current
            if chunk.generation == chunk.state.generation and (record := next(records, None)) is not None:
                return record
            self._current = None
            if isinstance(chunk.source, FetchStream):
                chunk.source.release(chunk.size_bytes)
            if chunk.state.added_to is None:
                self._wake.set()

    def _raise_errors(self) -> None:
        if self._error is not None:
            raise self._error
        for state in self._states.values():
            if state.error is not None:
                raise state.error

    async def _wait_for_news(self, timeout_s: float | None) -> None:
        self._news.clear()
        try:
            await asyncio.wait_for(self._news.wait(), timeout_s)
        except TimeoutError:
            return

    # -- the group -------------------------------------------------------------------------------------------------

    async def commit(self, positions: Mapping[tuple[str, int], int] | None = None) -> None:
        """Stores positions of the group; returns when they are replicated. By default behind every record that was
        handed out, the last one too: call it when that one is done. Raises OttlaError with STALE_MEMBER_EPOCH or
        FENCED_MEMBER_EPOCH where the partitions are another member's by now."""
        session = self._group_session()
        if positions is not None:
            await session.commit({TopicPartition(*w): Position(offset, None) for w, offset in positions.items()})
            return
        self._note_processed()
        await self._commit_taken(session, self._take_processed())

    async def committed(self, topic: str, partition: int) -> int | None:
        """The position that the group has stored; None if there is none."""
        return await self._group_session().committed(TopicPartition(topic, partition))

    def _group_session(self) -> GroupSession:
        if self._session is None:
            raise ConfigError("this consumer has no group. Next: name one with group=")
        return self._session

    def _note_processed(self) -> None:
        """The user asks for more, so what was handed out is done."""
        self._processed.update(self._handed_out)
        self._handed_out.clear()
        self._asked.set()

    def _take_processed(self) -> dict[TopicPartition, Position]:
        taken, self._processed = self._processed, {}
        return {where: position for where, position in taken.items() if where in self._states}

    async def _commit_taken(self, session: GroupSession, taken: dict[TopicPartition, Position]) -> None:
        if not taken:
            return
        try:
            await session.commit(taken)
        except OttlaError:
            self._processed = taken | self._processed  # for the next try, unless there is a later position
            raise

    async def _commit_processed(self) -> None:
        try:
            await self._commit_taken(self._group_session(), self._take_processed())
        except OttlaError as error:
            log.warning("could not commit: %s", error)

    async def _commit_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(self.settings.auto_commit_interval_ms / 1000)
            await self._commit_processed()

    async def give_back(self, partitions: list[TopicPartition]) -> Mapping[TopicPartition, Position]:
        """For the session: stops handing out, waits a session time-out at most for the record at work, and answers what
        was processed."""
        for where in partitions:
            if where in self._states:
                self._states[where].paused = True
                self._states[where].rewind()
        self._wake.set()
        give_up = time.monotonic() + self.settings.session_timeout_ms / 1000
        while any(where in self._handed_out for where in partitions):
            self._asked.clear()
            try:
                await asyncio.wait_for(self._asked.wait(), give_up - time.monotonic())
            except TimeoutError:
                log.warning("a record is still at work while its partition goes to another member, which repeats it")
                break
        if not self.settings.enable_auto_commit:
            return {}
        return {where: self._processed.pop(where) for where in partitions if where in self._processed}

    def take(self, gained: list[Gained]) -> None:
        """For the session: starts reading."""
        for gain in gained:
            state = self._states[gain.where] = PartitionState(
                gain.where, gain.topic_id, self.settings.auto_offset_reset
            )
            if gain.offset is not None:
                state.seek(gain.offset, gain.leader_epoch)
            elif gain.is_new_partition:
                state.seek(0)
        self._on_view(self._client.view)
        self._news.set()

    def lose(self, partitions: list[TopicPartition]) -> None:
        """For the session: stops reading at once."""
        for where in partitions:
            self._handed_out.pop(where, None)
            self._processed.pop(where, None)
            if where in self._states:
                self._drop(where)
        self._wake.set()

    def session_failed(self, error: OttlaError) -> None:
        """For the session: there is no way on."""
        self._error = error
        self._news.set()

    # -- reading ahead ---------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        """Keeps every partition on the stream of its leader."""
        loop = asyncio.get_running_loop()
        while True:
            self._wake.clear()
            now_ms = _now_ms()
            self._start_resets(now_ms)
            for stream in self._streams.values():
                stream.drop_moved()
            for state in self._states.values():
                if state.wants_fetch(now_ms) and state.leader_id is not None:
                    self._last_seek_id = self._last_seek_id % 0x7FFFFFFF + 1
                    self._stream_to(state.leader_id).add(state, self._last_seek_id)
            waits = [s.retry_at_ms for s in self._states.values() if s.added_to is None and s.retry_at_ms > now_ms]
            timer = loop.call_later((min(waits) - now_ms) / 1000, self._wake.set) if waits else None
            await self._wake.wait()
            if timer is not None:
                timer.cancel()

    def _stream_to(self, leader_id: int) -> FetchStream:
        stream = self._streams.get(leader_id)
        if stream is None:
            stream = self._streams[leader_id] = FetchStream(leader_id, self._client, self.settings, self._on_results)
            self._tasks.start(self._run_stream(stream), f"ottla-fetch-{leader_id}")
        return stream

    async def _run_stream(self, stream: FetchStream) -> None:
        try:
            await stream.run()
        finally:
            del self._streams[stream.leader_id]
            now_ms = _now_ms()
            for state in stream.reading.values():
                if state.added_to is stream:
                    state.added_to = None
                    state.back_off(now_ms)
            self._wake.set()

    def _on_results(self, stream: FetchStream, results: FetchResponseView) -> None:
        now_ms = _now_ms()
        for result in results.partitions:
            state = stream.reading.get((result.topic_id, result.partition))
            chunk = None
            if state is not None and state.added_to is stream and state.seek_id == result.seek_id:
                chunk = state.take(result, now_ms)
                if state.added_to is None:
                    self._wake.set()
            if chunk is not None:
                stream.hold(chunk.size_bytes)
                self._chunks.append(chunk)
            elif size := credit_bytes(result.batches):
                stream.hold(size)
                stream.release(size)
        self._news.set()

    def _start_resets(self, now_ms: int) -> None:
        """Finds a position for partitions that have none, by the reset policy."""
        lost = [
            tp
            for tp, state in self._states.items()
            if state.position is None
            and state.error is None
            and tp not in self._resetting
            and state.retry_at_ms <= now_ms
        ]
        if not lost:
            return
        self._resetting.update(lost)
        self._tasks.start(self._reset(lost), "ottla-reset")

    async def _reset(self, lost: list[TopicPartition]) -> None:
        policy = self.settings.auto_offset_reset
        generations = {tp: self._states[tp].generation for tp in lost}
        try:
            found = await self._find_positions(lost, policy)
        except OttlaError as error:
            log.info("no positions yet: %s", error)
            found = {}
        finally:
            self._resetting.difference_update(lost)
        now_ms = _now_ms()
        for tp in lost:
            state = self._states.get(tp)
            if state is None or state.position is not None or state.generation != generations[tp]:
                continue  # dropped, or sought by the user in the meantime
            offset = found.get(tp)
            if isinstance(offset, int):
                state.seek(offset)
            elif isinstance(offset, OttlaError) and not offset.retriable:
                state.error = offset
            else:
                state.back_off(now_ms)
        self._wake.set()
        self._news.set()

    async def _find_positions(
        self, lost: list[TopicPartition], policy: str
    ) -> dict[TopicPartition, int | OttlaError | None]:
        timeout_ms = self.settings.request_timeout_ms
        if policy == "none":
            return {
                tp: OffsetOutOfRange(
                    f"{tp.topic}-{tp.partition} has no position and auto_offset_reset is none. Next: seek", *tp, -1
                )
                for tp in lost
            }
        if policy == "earliest":
            timestamp = EARLIEST
        elif policy == "latest":
            timestamp = LATEST
        else:
            timestamp = max(0, time.time_ns() // 1_000_000 - reset_duration_ms(policy))
        found = await list_offsets(self._client, dict.fromkeys(lost, timestamp), timeout_ms)
        if nothing_newer := [tp for tp, offset in found.items() if offset is None]:
            found |= await list_offsets(self._client, dict.fromkeys(nothing_newer, LATEST), timeout_ms)
        return found

    # -- metadata --------------------------------------------------------------------------------------------------

    def _on_view(self, view: ClusterView) -> None:
        for name in self._topics if self._session is None else ():
            topic = view.topics.get(name)
            if topic is not None:
                self._add_partitions(topic, first_time=False)
        for tp, state in self._states.items():
            topic = view.topics.get(tp.topic)
            if topic is None or tp.partition >= len(topic.partitions):
                if self._session is not None:
                    continue  # the group will take the partition away
                state.error = UnknownTopic(f"topic {tp.topic} was deleted. Next: create it again, or stop reading it")
                state.rewind()
                self._news.set()
                continue
            if topic.topic_id != state.topic_id:
                state.set_topic_id(topic.topic_id)
            info = topic.partitions[tp.partition]
            state.set_leader(info.leader_id, info.leader_epoch)
        self._wake.set()
