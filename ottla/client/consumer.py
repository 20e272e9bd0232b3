"""The consumer: reads partitions in order, over one stream to each leader. Its decisions are in fetch_state.py."""

import asyncio
import logging
import time
import uuid
import warnings
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Literal, Self

from ottla.client import arguments, life
from ottla.client.batches import Batches
from ottla.client.connection import Client, client_for
from ottla.client.deserialize import Deserializer, deserialize_with
from ottla.client.errors import Closed, ConfigError, OttlaError
from ottla.client.fetch_state import PartitionState
from ottla.client.group import Membership
from ottla.client.group_session import GroupSession
from ottla.client.group_work import GroupWork
from ottla.client.metrics import ConsumerMetrics
from ottla.client.offsets import EARLIEST, LATEST
from ottla.client.reader import Reader
from ottla.client.rebalance import RebalanceListener
from ottla.client.records import ConsumerRecord, Position, TopicPartition
from ottla.client.settings import ConsumerSettings
from ottla.client.tasks import Ending, Tasks
from ottla.client.tls import PathText, Tls
from ottla.client.view import ClusterView, TopicInfo

log = logging.getLogger("ottla.consumer")


class Consumer(AsyncIterator[ConsumerRecord]):
    """Reads records: `async with Consumer("events", group="billing") as consumer: async for record in consumer: ...`

    With a group, its members share the partitions, and positions are kept by the cluster: a record counts as processed
    when the next one is asked for, and is committed every auto_commit_interval_ms, when partitions go to another member
    and at the end of the `async with` block (the last record only if the block ends without an exception).

    Without a group, all partitions of the topics are read, new ones from their start; or call `assign`. Records of a
    partition come in order; between partitions there is none. `bootstrap` is host:port of one or more nodes, or a
    Client to share. Settings have Kafka's names, times in ms, sizes in bytes; docs/python-client.md lists them.
    `auto_offset_reset` decides where to start, and what to do when a position is no longer in the log: earliest,
    latest, none, or by_duration:PT1H. What `key_deserializer` and `value_deserializer` make of bytes stands in the
    records instead of them; what they raise comes as DeserializationFailed.
    """

    _life = "new"

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
        rebalance_listener: RebalanceListener | None = None,
        key_deserializer: Deserializer | None = None,
        value_deserializer: Deserializer | None = None,
        tls: Tls | PathText | None = None,
        user: str | None = None,
        password: str | None = None,
        password_file: PathText | None = None,
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
        self._topics = arguments.topics(topics)
        if group is not None:
            arguments.name("group", group)
        arguments.label("group_instance_id", group_instance_id)
        arguments.text("topic_regex", topic_regex)
        arguments.one_of("assignor", assignor, "uniform", "range")
        if rebalance_listener is not None:
            arguments.instance_of("rebalance_listener", rebalance_listener, RebalanceListener)
        if group is None and (group_instance_id or topic_regex or rebalance_listener is not None):
            raise ConfigError("group_instance_id, topic_regex and rebalance_listener need a group. Next: name one")
        if group is not None and not topics and not topic_regex:
            raise ConfigError(f"group {group!r} needs topics or a topic_regex to share out")
        self._owns_client = not isinstance(bootstrap, Client)
        self._client = client_for(
            bootstrap, tls, user=user, password=password, password_file=password_file, client_id=client_id
        )
        self._tasks = Tasks(self._failed)
        deserialize = deserialize_with(key_deserializer, value_deserializer)
        self._reader = Reader(self._client, self.settings, self._tasks, deserialize)
        self._work = GroupWork(self._reader, self.settings, self._tasks, rebalance_listener)
        self._session: GroupSession | None = None
        if group is not None:
            membership = Membership(
                group,
                topics,
                topic_regex,
                assignor,
                group_instance_id,
                client_id,
                session_timeout_ms,
                member_id=str(uuid.uuid4()),
            )
            self._session = GroupSession(membership, self._client, self._work)
        self._handed_out = 0
        self._ending = Ending()
        self._stop_listening: Callable[[], None] = lambda: None
        self._loop: asyncio.AbstractEventLoop | None = None

    # -- life ------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Connects. Raises ConnectionFailed if no node answers, UnknownTopic for a topic that does not exist."""
        if self._life != "new":
            raise Closed(f"this consumer is {self._life} and can't be started. Next: make a new one")
        life.opened(self)
        if self._owns_client:
            await self._client.start()
        if self._life != "new":
            raise life.refusal("consumer", self._life)  # it was closed meanwhile
        self._client.check()
        self._loop = asyncio.get_running_loop()
        self._life = "open"
        try:
            for name in self._topics if self._session is None else ():
                self._add_partitions(await self._client.topic(name), first_time=True)
        except BaseException:
            await self.close()
            raise
        self._stop_listening = self._client.on_view(self._on_view, self._failed)
        self._tasks.start(self._reader.run(), "ottla-consumer")
        if self._session is not None:
            self._tasks.start(self._session.run(), "ottla-group")
            self._tasks.start(self._session.follow(), "ottla-group-follow")
            if self.settings.enable_auto_commit:
                self._tasks.start(self._work.commit_now_and_then(self._session), "ottla-commit")

    async def close(self) -> None:
        """Stops reading; whoever iterates gets the end. In a group: commits every record that was handed out, if
        auto commit is on, and leaves. Whoever calls it again waits for that, too."""
        if self._can_close():
            self._work.note_processed()
            await self._close()

    def _can_close(self) -> bool:
        """Raises Closed where another loop runs than the consumer's own."""
        return self._life != "inherited" and life.can_close(self._loop, "consumer")

    async def _close(self) -> None:
        if not self._can_close():
            return
        was_open = self._life == "open"
        if self._life != "closed":
            self._life = "closing"
        await self._ending.run(lambda: self._stop(was_open))

    async def _stop(self, was_open: bool) -> None:
        self._stop_listening()
        self._reader.stop()
        self._reader.news.set()
        try:
            if self._session is not None and was_open:
                await self._work.closing()
                if self.settings.enable_auto_commit:
                    await self._work.commit_or_log(self._session)
                await self._session.leave()
        finally:
            await self._tasks.stop()
            if self._owns_client:
                await self._client.close()
            self._life = "closed"
            life.closed(self)

    def inherited(self) -> None:
        """For `life`: this process is a forked child."""
        self._life = "inherited"
        self._reader.forget()
        self._reader.error = life.refusal("consumer", self._life)

    def __del__(self) -> None:
        if self._life in ("open", "broken"):
            warnings.warn(
                "Unclosed consumer. Next: close it, or use `async with`", ResourceWarning, stacklevel=2, source=self
            )

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is None:
            await self.close()
        else:
            await self._close()

    def _failed(self, error: BaseException) -> None:
        """A task ended: tell whoever reads, instead of silence."""
        if self._life != "open":
            return
        self._life = "broken"
        if isinstance(error, Closed):
            self._reader.error = life.refusal("consumer", self._life, error.message)
        else:
            self._reader.error = OttlaError(
                f"the consumer stopped because of an internal error: {error!r}. Next: make a new one, and report this"
            )
        log.error("%s", self._reader.error, exc_info=None if isinstance(error, Closed) else error)
        self._reader.news.set()

    # -- what to read ----------------------------------------------------------------------------------------------

    async def subscribe(self, *topics: str, topic_regex: str = "") -> None:
        """Reads these topics from now on, instead of those that were read; partitions of both keep their positions.
        In a group the members share them out anew, which this does not wait for; only there is `topic_regex`, too, and
        the coordinator's word on it is waited for, 5 s at most. Raises ConfigError - then what was
        subscribed before stays -, and UnknownTopic without a group."""
        names = arguments.topics(topics)
        arguments.text("topic_regex", topic_regex)
        if not names and not topic_regex:
            raise ConfigError("subscribe was given neither topics nor a topic_regex. Next: name one")
        self._check_open()
        if self._session is not None:
            if self._reader.error is not None:
                raise self._reader.error  # the group's session may be over: nobody would carry it out
            await self._session.subscribe(names, topic_regex)
            return
        if topic_regex:
            raise ConfigError("topic_regex needs a group. Next: name one, or the topics")
        infos = [await self._client.topic(name) for name in names]
        self._topics = names
        for tp in [tp for tp in self._reader.states if tp.topic not in names]:
            self._reader.drop(tp)
        for topic in infos:
            self._add_partitions(topic, first_time=True)
        self._reader.wake.set()

    async def assign(self, partitions: Iterable[tuple[str, int]]) -> None:
        """Reads exactly these partitions. Those that were read before keep their position. Raises UnknownTopic."""
        if self._session is not None:
            raise ConfigError("the group assigns the partitions. Next: leave out the group to choose them yourself")
        if self._life != "new":
            self._check_open()
        wanted = arguments.places("partitions", partitions, arguments.where)
        topics = {tp.topic: await self._client.topic(*tp) for tp in sorted(wanted)}
        self._topics = ()  # or the next news of a topic would bring its partitions back
        for tp in set(self._reader.states) - set(wanted):
            self._reader.drop(tp)
        for tp in wanted:
            if tp not in self._reader.states:
                self._reader.add(tp, topics[tp.topic].topic_id)
        self._reader.wake.set()

    def assignment(self) -> list[TopicPartition]:
        """The partitions that are read now."""
        return sorted(self._reader.states)

    def seek(self, topic: str, partition: int, offset: int) -> None:
        """The next record of the partition is the one at `offset`, or the first after it. What was read ahead is
        dropped; in a group the next commit stores this position."""
        offset = arguments.offset(offset)
        self._state(topic, partition).seek(offset)
        self._reader.wake.set()

    async def seek_to_time(self, topic: str, partition: int, timestamp_ms: int) -> int:
        """Goes to the first record at or after a time in ms since the epoch, or to the end if there is none. Answers
        the offset."""
        timestamp_ms = arguments.whole("timestamp_ms", timestamp_ms, 0, arguments.INT64_MAX)
        return await self._seek_to(topic, partition, timestamp_ms)

    async def seek_to_beginning(self, topic: str, partition: int) -> int:
        """Goes to the first record that exists. Answers its offset."""
        return await self._seek_to(topic, partition, EARLIEST)

    async def seek_to_end(self, topic: str, partition: int) -> int:
        """Goes behind the last record that exists: only newer ones follow. Answers the offset."""
        return await self._seek_to(topic, partition, LATEST)

    async def position(self, topic: str, partition: int) -> int:
        """The offset of the next record of the partition; waits until the reset policy has found one."""
        while (position := (state := self._reader.state(topic, partition)).position) is None:
            self._check_open()
            if (error := state.error or self._reader.error) is not None:
                raise error
            await self._reader.wait_for_news(None)
        return position

    def pause(self, topic: str, partition: int) -> None:
        """Hands out no records of the partition until `resume`. The others go on."""
        state = self._state(topic, partition)
        state.paused = True
        state.rewind()
        self._reader.wake.set()

    def resume(self, topic: str, partition: int) -> None:
        """Goes on where `pause` stopped."""
        self._state(topic, partition).paused = False
        self._reader.wake.set()

    def high_watermark(self, topic: str, partition: int) -> int | None:
        """The end of what can be read, as of the last answer; None before the first."""
        state = self._reader.state(topic, partition)
        return state.high_watermark if state.high_watermark >= 0 else None

    async def end_offsets(self, partitions: Iterable[tuple[str, int]] | None = None) -> dict[TopicPartition, int]:
        """Where partitions end now: the offset that the next record will have. Of those that are read, or of others.
        Raises UnknownTopic, or another OttlaError where a leader does not say so within request_timeout_ms."""
        where = sorted(self._reader.states) if partitions is None else arguments.places("partitions", partitions)
        self._check_open()
        return await self._reader.ends(where)

    async def lag(self) -> dict[TopicPartition, int]:
        """How many records are between the position and the end of each partition that is read; less where compaction
        has left gaps. Asks the leaders, and raises what `end_offsets` raises."""
        behind = {}
        for tp, end in (await self.end_offsets()).items():
            try:
                behind[tp] = max(0, end - await self.position(*tp))
            except ConfigError:
                if tp in self._reader.states:
                    raise
                # else it went to another member meanwhile
        return behind

    def metrics(self) -> ConsumerMetrics:
        """What was counted so far, and where it is now. Asks nobody; may be called from any thread, and after the
        end."""
        reader, session = self._reader, self._session
        return ConsumerMetrics(
            self._handed_out,
            reader.bytes_fetched,
            reader.fetches,
            reader.unreadable,
            session.commits if session is not None else 0,
            session.commits_failed if session is not None else 0,
            session.rebalances if session is not None else 0,
            reader.buffered_bytes,
            {state.where: state.lag for state in list(reader.states.values())},
        )

    @property
    def buffered_bytes(self) -> int:
        """What was read ahead; about fetch_max_bytes for each leader at most."""
        return self._reader.buffered_bytes

    def _state(self, topic: str, partition: int) -> PartitionState:
        state = self._reader.state(topic, partition)
        if self._life in ("closed", "inherited"):
            raise life.refusal("consumer", self._life)
        return state

    async def _seek_to(self, topic: str, partition: int, timestamp_ms: int) -> int:
        self._check_open()
        offset = await self._reader.lookup(self._reader.state(topic, partition).where, timestamp_ms)
        self._reader.state(topic, partition).seek(offset)  # as it is by now: it may have gone to another member
        self._reader.wake.set()
        return offset

    def _add_partitions(self, topic: TopicInfo, *, first_time: bool) -> None:
        for info in topic.partitions:
            tp = TopicPartition(topic.name, info.partition)
            if tp not in self._reader.states:
                state = self._reader.add(tp, topic.topic_id)
                if not first_time:
                    state.begin(0)  # a partition that was added later loses nothing, whatever the policy (KIP-1327)
                    state.is_new = True

    def _on_view(self, view: ClusterView) -> None:
        if self._session is None:
            for name in self._topics:
                topic = view.topics.get(name)
                if topic is not None:
                    self._add_partitions(topic, first_time=False)
            self._reader.fail_deleted(view)
        self._reader.follow_leaders(view)

    # -- records out -----------------------------------------------------------------------------------------------

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ConsumerRecord:
        if self._session is not None:
            self._work.note_processed()
        while True:
            if self._reader.chunk_ended:
                self._reader.chunk_ended = False
                if self._life == "open":
                    self._check_open()
                await asyncio.sleep(0)  # before a record is taken: a cancelled call must not lose one
            record = self._take()
            if record is not None:
                self._handed_out += 1
                return record
            if self._life in ("closing", "closed"):
                raise StopAsyncIteration
            self._use()
            await self._reader.wait_for_news(None)

    def _take(self) -> ConsumerRecord | None:
        if self._session is not None and not self._session.may_hand_out():
            return None
        try:
            return self._reader.take_buffered()
        except RuntimeError:  # what wakes the stream is of a loop that was closed
            self._check_open()
            raise

    async def poll(self, *, max_records: int = 500, timeout_ms: int = 1000) -> list[ConsumerRecord]:
        """Up to `max_records` records: at once where there are any, else the first that come within `timeout_ms`; an
        empty list if none did."""
        arguments.whole("max_records", max_records, 1, arguments.INT64_MAX)
        give_up = time.monotonic() + arguments.whole("timeout_ms", timeout_ms, 0, arguments.INT64_MAX) / 1000
        self._check_open()  # to answer at once, again and again, would hold the loop
        if self._session is not None:
            self._work.note_processed()
        while True:
            records: list[ConsumerRecord] = []
            try:
                while len(records) < max_records and (record := self._take()) is not None:
                    records.append(record)
                    self._reader.take_more(records, max_records)
            except BaseException:
                self._reader.put_back(records)
                raise
            if records or self._life in ("closing", "closed"):
                self._handed_out += len(records)
                return records
            self._use()
            left = give_up - time.monotonic()
            if left <= 0:
                return records
            await self._reader.wait_for_news(left)

    def batches(self, *, max_records: int = 500) -> AsyncIterator[list[ConsumerRecord]]:
        """Records in lists, each of one partition and up to `max_records` long, as they come:
        `async for records in consumer.batches(): ...`. In a group a list counts as processed when the next one is asked
        for. It ends when the consumer is closed."""
        return Batches(partial(self._next_batch, arguments.whole("max_records", max_records, 1, arguments.INT64_MAX)))

    async def _next_batch(self, max_records: int) -> list[ConsumerRecord]:
        if self._session is not None:
            self._work.note_processed()
        await asyncio.sleep(0)  # before records are taken: a cancelled call must not lose any
        while (first := self._take()) is None:
            if self._life in ("closing", "closed"):
                return []
            self._use()
            await self._reader.wait_for_news(None)
        records = [first]
        try:
            self._reader.take_more(records, max_records)
        except BaseException:
            self._reader.put_back(records)
            raise
        self._handed_out += len(records)
        return records

    # -- the group -------------------------------------------------------------------------------------------------

    async def commit(self, positions: Mapping[tuple[str, int], int] | ConsumerRecord | None = None) -> None:
        """Stores positions of the group; returns when they are replicated. By default behind every record that was
        handed out, the last one too: call it when that one is done. With a record, behind that one, in its partition
        alone. Raises MemberFenced where the
        partitions are another member's by now."""
        session = self._group_session()
        if isinstance(positions, ConsumerRecord):
            behind = Position(positions.offset + 1, positions.leader_epoch)
            await self._work.commit_these(session, {positions.topic_partition: behind})
            return
        if positions is not None:
            wanted = {
                arguments.place(where): Position(arguments.offset(offset), None)
                for where, offset in arguments.mapping("positions", positions)
            }
            await self._work.commit_these(session, wanted)
            return
        self._work.note_processed()
        await self._work.commit(session)

    async def committed(self, topic: str, partition: int) -> int | None:
        """The position that the group has stored; None if there is none."""
        where = arguments.place((topic, partition))
        return await self._group_session().committed(where)

    def _check_open(self) -> None:
        if self._life == "open" and self._loop is not None and not life.is_running(self._loop, "consumer"):
            self._failed(Closed("its event loop was closed. Next: close consumers before their loop ends"))
        if self._life != "open":
            raise self._reader.error or life.refusal("consumer", self._life)

    def _use(self) -> None:
        """Raises what the user must know before waiting for more."""
        self._check_open()
        self._reader.raise_errors()

    def _group_session(self) -> GroupSession:
        if self._session is None:
            raise ConfigError("this consumer has no group. Next: name one with group=")
        if self._life in ("new", "closed", "inherited"):
            raise life.refusal("consumer", self._life)
        if self._loop is not None:
            life.is_running(self._loop, "consumer")
        return self._session
