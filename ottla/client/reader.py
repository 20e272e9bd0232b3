"""Reading ahead: every partition on the stream of its leader, and a queue of what came, in order per partition."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from ottla.client import arguments
from ottla.client.connection import Client
from ottla.client.deserialize import NotLoaded
from ottla.client.errors import ConfigError, DeserializationFailed, OffsetOutOfRange, OttlaError, UnknownTopic
from ottla.client.fetch_state import Chunk, PartitionState, credit_bytes
from ottla.client.fetch_stream import FetchStream
from ottla.client.offsets import EARLIEST, LATEST, list_offsets
from ottla.client.records import ConsumerRecord, TopicPartition
from ottla.client.settings import ConsumerSettings, reset_duration_ms
from ottla.client.tasks import Tasks
from ottla.client.view import ClusterView
from ottla.internal.v1.view_pb2 import FetchResponseView

log = logging.getLogger("ottla.consumer")


def _now_ms() -> int:
    return time.monotonic_ns() // 1_000_000


class Reader:
    """The partitions of one consumer and what was read of them. `run` is a task of the consumer.

    `wake` is set when partitions have changed, `news` when there may be something to hand out, or an error.
    """

    def __init__(
        self,
        client: Client,
        settings: ConsumerSettings,
        tasks: Tasks,
        deserialize: Callable[[ConsumerRecord], ConsumerRecord] | None = None,
    ) -> None:
        self.states: dict[TopicPartition, PartitionState] = {}
        self.at_work: set[PartitionState] = set()
        """Partitions of which the user has records at work."""
        self.error: OttlaError | None = None
        self.chunk_ended = False
        """Set after the last record of an answer: a moment to let other tasks run."""
        self.wake = asyncio.Event()
        self.news = asyncio.Event()
        self._client = client
        self._settings = settings
        self._tasks = tasks
        self._deserialize = deserialize
        self._streams: dict[int, FetchStream] = {}
        self._chunks: deque[Chunk] = deque()
        self._current: tuple[Chunk, Iterator[ConsumerRecord]] | None = None
        self._last_seek_id = 0
        self._resetting: set[TopicPartition] = set()
        self._loads: set[NotLoaded] = set()
        self.bytes_fetched = self.fetches = 0
        self._unreadable_before = 0

    # -- which partitions ------------------------------------------------------------------------------------------

    def add(self, where: TopicPartition, topic_id: bytes) -> PartitionState:
        """Reads a partition, from where its reset policy says unless it is sought at once."""
        state = PartitionState(where, topic_id, self._settings.auto_offset_reset, at_work=self.at_work)
        state.deserialize = self._deserialize
        self.states[where] = state
        self.follow_leaders(self._client.view, [where])
        return state

    def drop(self, where: TopicPartition) -> None:
        """Reads it no longer, and forgets what was buffered."""
        state = self.states.pop(where)
        self._unreadable_before += state.unreadable
        state.finished()
        state.rewind()
        self.wake.set()
        self.news.set()  # who waits for its position learns that there is none

    def state(self, topic: str, partition: int) -> PartitionState:
        """A partition that is read. Raises ConfigError for another one."""
        state = self.states.get(arguments.where((topic, partition)))
        if state is None:
            raise ConfigError(f"{topic}-{partition} is not read by this consumer. Next: assign it first")
        return state

    def follow_leaders(self, view: ClusterView, partitions: list[TopicPartition] | None = None) -> None:
        """Takes leaders and topic ids from the metadata."""
        for where in list(self.states) if partitions is None else partitions:
            state = self.states[where]
            topic = view.topics.get(where.topic)
            if topic is None or where.partition >= len(topic.partitions):
                continue
            if topic.topic_id != state.topic_id:
                state.set_topic_id(topic.topic_id)
            info = topic.partitions[where.partition]
            state.set_leader(info.leader_id, info.leader_epoch)
        self.wake.set()

    def fail_deleted(self, view: ClusterView) -> None:
        """Reports partitions whose topic is gone: silence would look like "no news"."""
        for where, state in self.states.items():
            topic = view.topics.get(where.topic)
            if topic is None or where.partition >= len(topic.partitions):
                state.error = UnknownTopic(
                    f"topic {where.topic} was deleted. Next: create it again, or stop reading it"
                )
                state.rewind()
                self.news.set()

    # -- records out -----------------------------------------------------------------------------------------------

    def take_buffered(self) -> ConsumerRecord | None:
        """The next record that was read, if there is one."""
        while True:
            if self._current is None:
                if not self._chunks:
                    return None
                chunk = self._chunks.popleft()
                self._current = chunk, chunk.state.records(chunk)
            chunk, records = self._current
            try:
                if chunk.generation == chunk.state.generation and (record := next(records, None)) is not None:
                    return record
            except BaseException:  # as sys.exit in a deserializer: what follows must not pass for what comes next
                chunk.state.rewind()
                self.wake.set()
                raise
            self._current = None
            self.chunk_ended = True
            if isinstance(chunk.source, FetchStream):
                chunk.source.release(chunk.size_bytes)
            if chunk.state.added_to is None:
                self.wake.set()

    def take_more(self, taken: list[ConsumerRecord], count: int) -> None:
        """Adds up to so many records that follow the last one in what was read with it, which is of its partition."""
        if self._current is not None:
            chunk, records = self._current
            if chunk.generation == chunk.state.generation:
                taken.extend(islice(records, count - len(taken)))

    def put_back(self, taken: list[ConsumerRecord]) -> None:
        """They did not reach the user, and are read again."""
        for record in reversed(taken):
            state = self.states.get(record.topic_partition)
            if state is not None:
                state.position, state.position_epoch = record.offset, None
                state.rewind()
        self.wake.set()

    def stop(self) -> None:
        """Hands out nothing more. Positions stay as they are."""
        for state in self.states.values():
            state.held = True
            state.rewind()

    def forget(self) -> None:
        """Drops what was read ahead."""
        self._chunks.clear()
        self._current = None

    def raise_errors(self) -> None:
        """Raises what the user must know; the partition stays as it is until a seek."""
        if self.error is not None:
            raise self.error
        for state in self.states.values():
            if state.error is not None:
                raise state.error

    async def wait_for_news(self, timeout_s: float | None) -> None:
        """Returns when there may be something new, or the time is over."""
        self.news.clear()
        try:
            # Not wait_for: that of Python 3.11 loses a cancellation which comes together with the news.
            async with asyncio.timeout(timeout_s):
                await self.news.wait()
        except TimeoutError:
            return

    @property
    def buffered_bytes(self) -> int:
        """What was read ahead; about fetch_max_bytes for each leader at most."""
        return sum(stream.held_bytes for stream in list(self._streams.values()))

    @property
    def unreadable(self) -> int:
        """How often a record could not be deserialized."""
        return self._unreadable_before + sum(state.unreadable for state in list(self.states.values()))

    # -- reading ahead ---------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Keeps every partition on the stream of its leader."""
        loop = asyncio.get_running_loop()
        while True:
            self.wake.clear()
            now_ms = _now_ms()
            self._start_resets(now_ms)
            self._start_loads()
            for stream in self._streams.values():
                stream.drop_moved()
            for state in self.states.values():
                if state.wants_fetch(now_ms) and state.leader_id is not None:
                    self._last_seek_id = self._last_seek_id % 0x7FFFFFFF + 1
                    self._stream_to(state.leader_id).add(state, self._last_seek_id)
            waits = [s.retry_at_ms for s in self.states.values() if s.added_to is None and s.retry_at_ms > now_ms]
            timer = loop.call_later((min(waits) - now_ms) / 1000, self.wake.set) if waits else None
            await self.wake.wait()
            if timer is not None:
                timer.cancel()

    def _stream_to(self, leader_id: int) -> FetchStream:
        stream = self._streams.get(leader_id)
        if stream is None:
            stream = self._streams[leader_id] = FetchStream(leader_id, self._client, self._settings, self._on_results)
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
            self.wake.set()

    def _on_results(self, stream: FetchStream, results: FetchResponseView) -> None:
        now_ms = _now_ms()
        for result in results.partitions:
            state = stream.reading.get((result.topic_id, result.partition))
            chunk = None
            if state is not None and state.added_to is stream and state.seek_id == result.seek_id:
                chunk = state.take(result, now_ms)
                if state.added_to is None:
                    self.wake.set()
            if chunk is not None:
                stream.hold(chunk.size_bytes)
                self.bytes_fetched += chunk.size_bytes
                self.fetches += 1
                self._chunks.append(chunk)
            elif size := credit_bytes(result.batches):
                stream.hold(size)
                stream.release(size)
        self.news.set()

    def _start_loads(self) -> None:
        for state in self.states.values():
            if state.loading is not None and state.loading not in self._loads:
                self._loads.add(state.loading)
                self._tasks.start(self._load(state, state.loading), "ottla-load")

    async def _load(self, state: PartitionState, missing: NotLoaded) -> None:
        failure: OttlaError | None = None
        try:
            await missing.load()
        except DeserializationFailed as error:
            failure = error
        finally:
            self._loads.discard(missing)
        if state.loaded(missing, failure):
            self.wake.set()
            self.news.set()

    # -- positions -------------------------------------------------------------------------------------------------

    async def lookup(self, tp: TopicPartition, timestamp_ms: int) -> int:
        """The first offset at or after a time, else the end. Raises OttlaError."""
        for timestamp in (timestamp_ms, LATEST):
            answer = (await list_offsets(self._client, {tp: timestamp}, self._settings.request_timeout_ms)).get(tp)
            if isinstance(answer, OttlaError):
                raise answer
            if answer is not None:
                return answer
        raise OttlaError(f"no node could tell the offsets of {tp.topic}-{tp.partition}. Next: try again")

    async def ends(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Where partitions end, exclusive. Raises OttlaError."""
        found = {}
        wanted = dict.fromkeys(partitions, LATEST)
        for tp, answer in (await list_offsets(self._client, wanted, self._settings.request_timeout_ms)).items():
            if isinstance(answer, OttlaError):
                raise answer
            found[tp] = answer or 0
        return found

    def _start_resets(self, now_ms: int) -> None:
        """Finds a position for partitions that have none, by the reset policy."""
        lost = [
            tp
            for tp, state in self.states.items()
            if state.position is None
            and state.error is None
            and tp not in self._resetting
            and state.retry_at_ms <= now_ms
        ]
        if not lost:
            return
        self._resetting.update(lost)
        before = {tp: (self.states[tp], self.states[tp].generation) for tp in lost}
        self._tasks.start(self._reset(before), "ottla-reset")

    async def _reset(self, before: dict[TopicPartition, tuple[PartitionState, int]]) -> None:
        policy = self._settings.auto_offset_reset
        lost = list(before)
        try:
            found = await self._find_positions([tp for tp in lost if not before[tp][0].is_new], policy)
            found |= await self._find_positions([tp for tp in lost if before[tp][0].is_new], "earliest")
        except OttlaError as error:
            log.info("no positions yet: %s", error)
            found = {}
        finally:
            self._resetting.difference_update(lost)
        now_ms = _now_ms()
        for tp, (state, generation) in before.items():
            if self.states.get(tp) is not state or state.position is not None or state.generation != generation:
                continue  # dropped, or sought by the user in the meantime
            offset = found.get(tp)
            if isinstance(offset, int):
                state.seek(offset)
            elif isinstance(offset, OttlaError) and not offset.retriable:
                state.error = offset
            else:
                state.back_off(now_ms)
        self.wake.set()
        self.news.set()

    async def _find_positions(
        self, lost: list[TopicPartition], policy: str
    ) -> dict[TopicPartition, int | OttlaError | None]:
        timeout_ms = self._settings.request_timeout_ms
        if policy == "none":
            return {
                tp: OffsetOutOfRange(
                    f"{tp.topic}-{tp.partition} has no position and auto_offset_reset is none. Next: seek",
                    topic=tp.topic,
                    partition=tp.partition,
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
