"""The broker of a node: its partitions, kept in step with the metadata, and what services ask of them.

Runs on the data loop. Metadata comes in as immutable values; records are appended and read synchronously; only waiting
is asynchronous. Background work (fetchers, ISR changes, syncs, retention) belongs to `start` and `stop`.
"""

import asyncio
import os
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

import structlog

from node.broker import door, logs, lookup, refusals, snapshots, times
from node.broker.cleaner import Cleaner
from node.broker.clock import ClusterClock
from node.broker.controller_client import ControllerClient
from node.broker.door import Admit, Admitted, OnLoop
from node.broker.following import Following
from node.broker.host import Appended, Copies, ReadResult
from node.broker.housekeeping import Housekeeping
from node.broker.isr import IsrSender
from node.broker.partition import Partition
from node.broker.producer_ids import ProducerIds
from node.broker.producers import ProducerTable
from node.broker.replica import IsrChange
from node.broker.replication import FollowerStream
from node.broker.settings import BrokerSettings, TopicSettings, topic_settings
from node.broker.space import DiskGuard
from node.broker.syncer import SYNCS_MAX, Syncer
from node.broker.waiters import DataWaiter
from node.fail_stop import stop_if_broken
from node.metadata.image import NO_LEADER, Delta, Image, Topic
from node.transport import PLAIN, Transport
from node.turns import Places
from ottla.protocol.batch import crc_seed
from ottla.protocol.configs import broker_defaults
from ottla.protocol.errors import ApiError
from ottla.v1 import error_pb2 as pb
from storage.ballast import Ballast, ballast_bytes
from storage.directory import Checkpoint, LogDirectory
from storage.errors import StorageError
from storage.fs import FileSystem
from storage.log import Log
from storage.recovery import mark_lost
from storage.segments import OpenSegments

log = structlog.get_logger(__name__)

T = TypeVar("T")
Key = tuple[bytes, int]
LATEST: Final = -1
EARLIEST: Final = -2
RECOVERY_THREADS: Final = 2
NEW_LOG_CHECKPOINT_MS: Final = 1000
"""Many logs are made at once, and one checkpoint names them all."""
LOW_WATERMARK_CHECK_S, LOW_WATERMARK_CHECK_MAX_S = 0.02, 0.5
_NO_CODECS: Final[frozenset[int]] = frozenset()


class Broker:
    """See the module. `failed` ends with the exception of a background task that must not end.

    `defaults`: topic configs from the node's file, by broker-level name. `controller_address`: the control listener of
    the active controller, as far as this node knows, and `controller_id`: which node that is. `on_damage`: told of each
    damage found, as file and offset.
    """

    def __init__(
        self,
        *,
        node_id: int,
        directory: LogDirectory,
        fs: FileSystem,
        settings: BrokerSettings,
        defaults: Mapping[str, str],
        controller_address: Callable[[], str | None],
        controller_id: Callable[[], int | None] = lambda: None,
        on_damage: Callable[[str, int], object] = lambda file, offset: None,
        transport: Transport = PLAIN,
    ) -> None:
        self.node_id = node_id
        self.transport = transport
        self.on_damage = on_damage
        self.settings = settings
        self.image: Image = Image.EMPTY
        self.streams: dict[FollowerStream, None] = {}
        self.partitions: dict[Key, Partition] = {}
        self.offline: dict[Key, str] = {}
        self.disk_full = False
        self.guard = DiskGuard(_ballast(fs, directory.path))
        self.directory = directory
        self._open_segments = OpenSegments(settings.open_segments_max)
        self._unopened: dict[Key, Checkpoint | None] = {}
        self.made: dict[Key, Log] = {}
        self._gone: set[Key] = set()
        """Logs that were here before the start: remembered, but somebody has deleted their directories."""
        self.fs = fs
        self.wall_skew_ms: Callable[[], int] = lambda: 0
        self.clock = ClusterClock(self.wall_ms, self.clock_ms, lambda: len(self.image.brokers) == 1)
        self.defaults = defaults
        self._controller = ControllerClient(controller_address, controller_id, transport)
        self._producer_ids = ProducerIds(self._controller, node_id, lambda: self._broker_epoch)
        self._isr = IsrSender(node_id, lambda: self._broker_epoch, self._controller)
        self._broker_epoch: int | None = None
        self._active = False
        self._isr_brokers: dict[int, int] = {}
        self._full_nodes: frozenset[int] = frozenset()
        self._topic_settings: dict[bytes, TopicSettings] = {}
        self._following = Following(self, self._spawn)
        self._tasks: set[asyncio.Task[None]] = set()
        self._reopening: set[Key] = set()
        self._stopping = False

    # --- life

    async def start(self) -> None:
        """Opens and recovers every log in the directory, then starts the background work. Raises OSError."""
        self._loop = asyncio.get_running_loop()
        self.failed: asyncio.Future[None] = self._loop.create_future()
        self._sync_threads = ThreadPoolExecutor(SYNCS_MAX, "log-sync")
        self._checkpoint_thread = ThreadPoolExecutor(1, "checkpoint")
        self._heavy_thread = ThreadPoolExecutor(1, "heavy-batches")
        self._heavy = Places(1)
        self._syncer = Syncer(self._sync_threads)
        self._housekeeping = Housekeeping(self, self._checkpoint_thread)
        self._cleaner = Cleaner(self)
        checkpoints = self.directory.read_checkpoints()
        found = self.directory.logs()
        keys = found[: self.settings.partitions_max]
        for key in found[self.settings.partitions_max :]:
            self._not_opened(key, checkpoints.get(key), logs.too_many(self.settings.partitions_max))
        with ThreadPoolExecutor(RECOVERY_THREADS, "log-recovery") as threads:
            for key, opened in zip(
                keys,
                await asyncio.gather(
                    *(self._loop.run_in_executor(threads, self._reopened, key, checkpoints.get(key)) for key in keys),
                    return_exceptions=True,
                ),
                strict=True,
            ):
                if isinstance(opened, Partition):
                    self._take(key, opened)
                else:
                    self._not_opened(key, checkpoints.get(key), opened)
        for key in checkpoints.keys() - self.partitions.keys() - self._unopened.keys():
            self._unopened[key] = checkpoints[key]
            self._gone.add(key)
        self._spawn(self._isr.run(), "isr-sender")
        self._spawn(self._housekeeping.run(), "housekeeping")
        self._spawn(self._housekeeping.checkpoints(), "checkpoints")
        self._spawn(self._cleaner.run(), "cleaner")

    async def stop(self) -> bool:
        """Ends all work, then closes the logs; True if every one of them was closed cleanly."""
        self._stopping = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for stream in list(self.streams):
            stream.close()
        await self._controller.close()
        await self._syncer.stop()
        remembered = self.checkpoints()
        for partition in self.partitions.values():
            partition.close(f"node {self.node_id} is stopping", pb.ERROR_CODE_NETWORK_EXCEPTION)
        clean = await self._loop.run_in_executor(
            self._checkpoint_thread,
            logs.close_partitions,
            self.directory,
            self.fs,
            self.partitions,
            remembered,
        )
        self._sync_threads.shutdown()
        self._checkpoint_thread.shutdown()
        self._heavy_thread.shutdown(wait=False, cancel_futures=True)
        return clean and not self.offline

    @property
    def broker_epoch(self) -> int | None:
        """This start's epoch, once registered. Nothing is led or followed before the metadata has it, too: what
        this node knew before is to be applied once more."""
        return self._broker_epoch

    @broker_epoch.setter
    def broker_epoch(self, epoch: int) -> None:
        if epoch == self._broker_epoch:
            return
        self._broker_epoch = epoch
        self._active = False
        self._following.reconnect()

    # --- metadata

    def apply_metadata(self, image: Image, delta: Delta) -> None:
        """Takes over the next image: roles, new and deleted logs, configs, brokers."""
        self.image = image
        if delta.changed_brokers or delta.snapshot:
            self._isr_brokers = {broker.node_id: broker.broker_epoch for broker in image.live_brokers()}
        if delta.broker_configs_changed or delta.snapshot:
            self._topic_settings.clear()
        for topic_id in delta.changed_config_topics:
            self._topic_settings.pop(topic_id, None)
        if delta.snapshot or any(image.topics[topic_id].import_id for topic_id in delta.created_topics):
            self._producer_ids.none_below(image.next_producer_id)
        if not self._active or delta.snapshot:
            self._active = False
            self._try_activate()
            return
        if delta.changed_brokers or delta.broker_configs_changed or delta.changed_config_topics:
            self._reconfigure()
        for topic_id in delta.deleted_topics:
            for key in [key for key in self.partitions if key[0] == topic_id]:
                self._remove(key)
            self._topic_settings.pop(topic_id, None)
        for key in sorted(delta.changed_partitions):
            self._place(key)
        for stream in list(self.streams):
            if stream.node_id in delta.changed_brokers:
                stream.broker_epochs_changed()
            stream.metadata_changed()

    def logs_to_make(self, image: Image, delta: Delta) -> list[Key]:
        """The new logs that this node needs for that image. Making one takes a millisecond: `make_log` does ahead."""
        everything = delta.snapshot or not self._active
        if everything and not self._is_registered_in(image):
            return []
        known = (self.partitions, self.made, self.offline, self._unopened, self._gone)
        wanted = logs.to_make(image, None if everything else delta.changed_partitions, self.node_id, known)
        return wanted[: max(0, self.settings.partitions_max - len(self.partitions))]

    def make_log(self, key: Key, topic: Topic) -> Log:
        path, config, start = self.directory.log_path(*key), self.settings_of(topic).log, topic.first_offset(key[1])
        return Log.open(self.fs, path, *key, config, now_ms=self.wall_ms(), log_start_offset=start)

    def _is_registered_in(self, image: Image) -> bool:
        """A restarted node must not act on what the metadata says of its last incarnation: after a restart nobody
        leads in its old epoch (KAFKA-10527). With the own registration in the image, everything in it counts."""
        own = image.brokers.get(self.node_id)
        return own is not None and own.broker_epoch == self._broker_epoch

    def _try_activate(self) -> None:
        if not self._is_registered_in(self.image):
            return
        self._active = True
        self._isr_brokers = {broker.node_id: broker.broker_epoch for broker in self.image.live_brokers()}
        for key in sorted(self.partitions):
            if self.image.partition(*key) is None:
                self._remove(key)
        for key in [key for key in self._unopened if self.image.partition(*key) is None]:
            self._forget(key)  # its topic was deleted while this node was down
        self._reconfigure()
        for topic in self.image.all_topics():
            for state in topic.partitions:
                self._place((topic.topic_id, state.partition))
        for key in [key for key in self.made if self.image.partition(*key) is None]:
            logs.delete(self.made.pop(key), f"{key[0].hex()}-{key[1]}")  # made ahead of a topic that has gone
        for stream in list(self.streams):
            stream.broker_epochs_changed()
            stream.metadata_changed()

    def _place(self, key: Key) -> None:
        """Makes this node what the metadata says it is for a partition."""
        topic = self.image.topic(key[0])
        state = self.image.partition(*key)
        if topic is None or state is None or self.node_id not in state.replicas:
            if key in self.partitions:
                self._remove(key)
            self._forget(key)
            if key in self.made:
                logs.delete(self.made.pop(key), f"{key[0].hex()}-{key[1]}")  # made ahead, and not needed any more
            return
        partition = self.partitions.get(key)
        if partition is None:
            partition = self._create(key, topic)
            if partition is None:
                return
        partition.topic = topic.name
        if partition.settings is not self.settings_of(topic):
            self._reconfigure_one(partition, topic)
        before = partition.state
        if state.leader == self.node_id:
            self._following.stop(*key)
            partition.lead(state, self._isr_brokers, self.settings.replica_lag_time_max_ms)
            self._tell_full(partition)
            return
        partition.follow(state)
        if state.leader == NO_LEADER or partition.offline is not None:
            self._following.stop(*key)
        elif before is None or (before.leader, before.leader_epoch) != (state.leader, state.leader_epoch):
            self._following.follow(partition, state.leader)

    def _create(self, key: Key, topic: Topic) -> Partition | None:
        if key in self.offline:
            return None
        try:
            if len(self.partitions) >= self.settings.partitions_max:
                raise logs.too_many(self.settings.partitions_max)
            if key in self._gone:
                log.error("log_gone", topic=topic.name, partition=key[1], then="it is fetched again from its leader")
                mark_lost(self.fs, self.directory.log_path(*key))
                self._forget(key)
            if key in self._unopened:
                # It is there, so what is remembered of it decides what is a torn tail and what is damage.
                partition = self._reopened(key, self._unopened[key])
                del self._unopened[key]
                return self._take(key, partition)
            records = self.made.pop(key, None) or self.make_log(key, topic)
            self._housekeeping.checkpoint_soon(NEW_LOG_CHECKPOINT_MS)  # what is remembered is missed once it is gone
        except (StorageError, OSError) as error:
            log.error("log_not_created", topic=topic.name, partition=key[1], error=str(error))
            self.offline[key] = str(error)
            return None
        return self._take(key, Partition(self, *key, topic.name, records, self.settings_of(topic)))

    def _take(self, key: Key, partition: Partition) -> Partition:
        partition.log.share_open_segments(self._open_segments)
        self.partitions[key] = partition
        return partition

    def retry_offline(self) -> None:
        """Tries again to make or to open logs for which the disk was too full, or that could not be read."""
        for key in [key for key in self.offline if key not in self.partitions and key not in self._reopening]:
            del self.offline[key]
            self._place(key)

    async def reopen(self, key: Key) -> None:
        """Recovers a log again that was found damaged while it was in use, and takes its place in the metadata anew."""
        partition = self.partitions.pop(key)
        self.offline.setdefault(key, "its log is being opened again")
        self._reopening.add(key)
        records = partition.log
        checkpoint = Checkpoint(records.recovery_point, partition.high_watermark, records.log_start_offset)
        partition.close(f"{partition.name} is damaged", pb.ERROR_CODE_KAFKA_STORAGE_ERROR)
        try:
            records.close(clean=False)
            opened = await self._loop.run_in_executor(None, self._reopened, key, checkpoint)
        except (StorageError, OSError) as error:
            self._not_opened(key, checkpoint, error)
            return
        finally:
            self._reopening.discard(key)
        del self.offline[key]
        self._take(key, opened)
        self._place(key)

    def _not_opened(self, key: Key, checkpoint: Checkpoint | None, error: BaseException) -> None:
        stop_if_broken(error)
        log.error("log_not_opened", topic_id=key[0].hex(), partition=key[1], error=str(error))
        self.offline[key] = str(error)
        self._unopened[key] = checkpoint

    def _forget(self, key: Key) -> None:
        self._unopened.pop(key, None)
        self._gone.discard(key)
        self.offline.pop(key, None)

    def checkpoints(self) -> dict[Key, Checkpoint]:
        """What to remember of each log now; of those that could not be opened what was remembered before."""
        remembered = {key: checkpoint for key, checkpoint in self._unopened.items() if checkpoint is not None}
        return remembered | logs.checkpoints(self.partitions)

    def _remove(self, key: Key) -> None:
        """The topic was deleted, or the replica moved away."""
        partition = self.partitions.pop(key)
        self._following.stop(*key)
        self.offline.pop(key, None)
        self._housekeeping.checkpoint_soon(NEW_LOG_CHECKPOINT_MS)  # it may come back, with another log
        partition.close(*refusals.removed(self.image, key, partition.name))
        log.info("log_deleted", partition=partition.name, topic_id=key[0].hex())
        logs.delete(partition.log, partition.name)

    def settings_of(self, topic: Topic) -> TopicSettings:
        """The configs in force for a topic, also for one that has no replica here."""
        settings = self._topic_settings.get(topic.topic_id)
        if settings is None:
            defaults = broker_defaults(self.image.broker_configs, self.defaults, self.node_id)
            settings = topic_settings(topic.configs, defaults, importing=bool(topic.import_id))
            self._topic_settings[topic.topic_id] = settings
        return settings

    def _reconfigure(self) -> None:
        for (topic_id, _), partition in self.partitions.items():
            if (topic := self.image.topic(topic_id)) is not None:
                self._reconfigure_one(partition, topic)

    def _reconfigure_one(self, partition: Partition, topic: Topic) -> None:
        partition.reconfigure(self.settings_of(topic), self._isr_brokers, self.settings.replica_lag_time_max_ms)

    # --- records

    def partition(self, topic_id: bytes, number: int) -> Partition | None:
        return self.partitions.get((topic_id, number))

    def append(
        self,
        topic_id: bytes,
        number: int,
        batch: Any,
        admit: Admit = door.admit,
        *,
        acks: int,
        current_leader_epoch: int | None,
        now_ms: int,
        on_loop: OnLoop | None = None,
        admitted: Admitted | None = None,
    ) -> Appended:
        """Appends a batch that `admit` checks to the log of a partition led here; the order of calls is the log's.
        `now_ms` is wall-clock time. Raises ApiError, and Heavy where there is not so much room `on_loop`: then it is to
        be `admitted` first. Nothing was appended then."""
        return self._led(topic_id, number).append(
            batch,
            admit,
            acks=acks,
            current_leader_epoch=current_leader_epoch,
            now_ms=now_ms,
            on_loop=on_loop,
            admitted=admitted,
        )

    async def admit(self, topic_id: bytes, number: int, batch: Any, admit: Admit, now_ms: int) -> Admitted:
        """Looks at a heavy batch in a thread. Raises ApiError."""
        rules = self._led(topic_id, number).settings.door
        return await self.in_thread(admit, batch, rules, now_ms, None)

    async def in_thread(self, work: Callable[..., T], *args: Any) -> T:
        """One thread for all heavy batches, so that only one of them unfolds at a time. Clients take turns, and each
        request waits for its own before it brings the next."""
        await self._heavy.take()
        working = self._loop.run_in_executor(self._heavy_thread, work, *args)
        working.add_done_callback(lambda _: self._heavy.give())
        return await asyncio.shield(working)  # who goes away does not end what the thread is at

    def acknowledged(self, appended: Appended, timeout_ms: int) -> asyncio.Future[None]:
        """Ends when the batch is as safe as its `acks` asked for. Its errors (ApiError) all mean: outcome unknown."""
        future: asyncio.Future[None] = self._loop.create_future()
        if appended.acks in (0, 1):
            future.set_result(None)
            return future
        partition = self.partitions.get((appended.topic_id, appended.partition))
        if partition is None:
            future.set_exception(refusals.not_here(self.image, self.node_id, *appended[:2]))
        else:
            partition.acknowledge(appended, self.clock_ms() + timeout_ms, future)
        return future

    def copies(self, appended: Appended) -> Copies:
        """What is known of the batch's copies now. Zeros where this node does not lead in that epoch any more."""
        partition = self.partitions.get((appended.topic_id, appended.partition))
        leader = None if partition is None else partition.leader
        if leader is None or leader.leader_epoch != appended.leader_epoch:
            return Copies()
        holding, synced = leader.copies(appended.end_offset)
        return Copies(leader.high_watermark, holding, synced)

    def read(
        self,
        topic_id: bytes,
        number: int,
        offset: int,
        max_bytes: int,
        *,
        min_one: bool,
        reader: lookup.Reader | None = None,
        current_leader_epoch: int | None = None,
        last_fetched_epoch: int | None = None,
        on_loop: OnLoop | None = None,
    ) -> ReadResult:
        """Committed batches of a partition led here, as the reader can take them (None: as one that knows no codec).
        Raises ApiError, and Heavy where there is not so much room `on_loop`: then `read_heavy` does it."""
        reader = reader or lookup.Reader(_NO_CODECS, max_bytes, min_one=min_one)
        found = self._led(topic_id, number).read(
            offset,
            max_bytes,
            min_one=min_one,
            current_leader_epoch=current_leader_epoch,
            last_fetched_epoch=last_fetched_epoch,
        )
        if not found.data:
            return found
        args = (found.data, reader, crc_seed(topic_id, number), offset, found.log_start_offset, on_loop, found.mixed)
        return found.holding(*lookup.readable(*args))

    async def read_heavy(
        self,
        topic_id: bytes,
        number: int,
        offset: int,
        *,
        reader: lookup.Reader,
        current_leader_epoch: int | None = None,
        last_fetched_epoch: int | None = None,
    ) -> ReadResult:
        """As `read`, with the batches made readable in a thread."""
        found = self._led(topic_id, number).read(
            offset,
            reader.max_bytes,
            min_one=reader.min_one,
            current_leader_epoch=current_leader_epoch,
            last_fetched_epoch=last_fetched_epoch,
        )
        if not found.data:
            return found
        args = (found.data, reader, crc_seed(topic_id, number), offset, found.log_start_offset, None, found.mixed)
        return found.holding(*await self.in_thread(lookup.readable, *args))

    def data_waiter(
        self, positions: Iterable[tuple[bytes, int, int]], min_bytes: int, timeout_ms: int
    ) -> asyncio.Future[None]:
        """Ends when `min_bytes` more were committed to these (topic id, partition, offset), when one of them changed
        its leader, or after the time-out. Cancelling it is safe."""
        partitions: list[Partition] = []
        at_once = False
        for topic_id, number, offset in positions:
            partition = self.partitions.get((topic_id, number))
            if partition is None or partition.leader is None:
                at_once = True
                continue
            partitions.append(partition)
            at_once = at_once or (min_bytes <= 1 and offset < partition.high_watermark)
        waiter = DataWaiter(self._loop, partitions, min_bytes, timeout_ms)
        if at_once:
            waiter.wake()
        return waiter.future

    def list_offset(
        self, topic_id: bytes, number: int, timestamp_ms: int, current_leader_epoch: int | None
    ) -> tuple[int, int]:
        """(offset, leader epoch) of -1 latest or -2 earliest. Raises ApiError."""
        partition = self._led(topic_id, number)
        leader = partition.serving(current_leader_epoch)
        if timestamp_ms == LATEST:
            return partition.latest_offset(current_leader_epoch), leader.leader_epoch
        if timestamp_ms == EARLIEST:
            return partition.log.log_start_offset, leader.leader_epoch
        raise ApiError(pb.ERROR_CODE_INVALID_REQUEST, f"timestamp_ms {timestamp_ms} is not defined")

    async def offset_for_time(
        self, topic_id: bytes, number: int, timestamp_ms: int, current_leader_epoch: int | None
    ) -> tuple[int | None, int | None, int]:
        """(offset, its timestamp, leader epoch) for a time in ms, or -3 the largest timestamp; None where no committed
        record is as late. Raises ApiError."""
        partition = self._led(topic_id, number)
        leader = partition.serving(current_leader_epoch)
        offset, found_ms = await times.searched(times.offset_for_time(partition, timestamp_ms), self.in_thread)
        return offset, found_ms, leader.leader_epoch

    def epoch_end(self, topic_id: bytes, number: int, epoch: int, current_leader_epoch: int | None) -> tuple[int, int]:
        """The largest epoch at or below `epoch`, and where it ends; (-1, -1) if there is none (KIP-320)."""
        partition = self._led(topic_id, number)
        partition.serving(current_leader_epoch)
        if epoch < 0:
            return -1, -1
        return partition.log.epochs.end_offset_for(epoch, partition.log.log_end_offset) or (-1, -1)

    async def delete_records(self, topic_id: bytes, number: int, before: int) -> int:
        """Trims a log up to `before` (-1: the high watermark); returns the lowest log start of the in-sync replicas
        once all of them have trimmed and will remember it. The caller limits the time."""
        return await self.trimmed(topic_id, number, self._led(topic_id, number).delete_records(before))

    async def trimmed(self, topic_id: bytes, number: int, wanted: int) -> int:
        """Waits until every in-sync replica has trimmed a log up to `wanted`, as `delete_records` does."""
        partition, check_s = self._led(topic_id, number), LOW_WATERMARK_CHECK_S
        while True:
            leader = partition.leading(None)
            starts = [partition.follower_log_starts.get(node_id, 0) for node_id in leader.isr - {self.node_id}]
            if (low := min([partition.kept_log_start, *starts])) >= wanted:
                return low
            await asyncio.sleep(check_s)
            check_s = min(2 * check_s, LOW_WATERMARK_CHECK_MAX_S)  # thousands may wait for one replica

    async def allocate_producer_id(self) -> int:
        """A producer id that no one had before. Raises ApiError while there is no controller."""
        return await self._producer_ids.next_id()

    def _led(self, topic_id: bytes, number: int) -> Partition:
        partition = self.partitions.get((topic_id, number))
        if partition is None:
            reason = self.offline.get((topic_id, number))
            if reason is not None:
                raise ApiError(pb.ERROR_CODE_KAFKA_STORAGE_ERROR, f"the log is offline: {reason}")
            raise refusals.not_here(self.image, self.node_id, topic_id, number)
        return partition

    # --- what partitions, streams and fetchers ask of their host

    def clock_ms(self) -> int:
        return time.monotonic_ns() // 1_000_000

    def call_in(self, delay_ms: int, call: Callable[[], None]) -> asyncio.TimerHandle:
        return self._loop.call_later(delay_ms / 1000, call)

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000 + self.wall_skew_ms()

    @property
    def directory_id(self) -> bytes:
        return self.directory.directory_id

    def cluster_id(self) -> bytes | None:
        return self.directory.cluster_id

    def address_of(self, node_id: int) -> str:
        broker = self.image.brokers.get(node_id)
        return "" if broker is None else broker.client_address

    def replication_address(self, node_id: int) -> str | None:
        broker = self.image.brokers.get(node_id)
        return None if broker is None else broker.replication_address

    def sync_soon(self, partition: Partition) -> None:
        self._syncer.sync_soon(partition)

    def position_moved(self, partition: Partition) -> None:
        self._following.moved(partition)

    def producer_id_given(self, producer_id: int) -> bool:
        return producer_id < self.image.next_producer_id and not self._producer_ids.holds_back(producer_id)

    def alter_isr(self, partition: Partition, change: IsrChange) -> None:
        self._isr.submit(partition, change)

    def log_cut(self, partition: Partition, producers: ProducerTable | None) -> None:
        saved = partition.saved_producers(producers) if producers else None
        snapshots.cut(self.fs, partition.log.directory, saved)

    def log_failed(self, partition: Partition, error: Exception) -> None:
        key = (partition.topic_id, partition.number)
        self.offline[key] = str(error)
        self._following.stop(*key)

    def offline_partitions(self) -> list[Key]:
        """Partitions whose log failed here; heartbeats report them."""
        return sorted(self.offline)

    def follower_disk_full(self, node_id: int, full: bool) -> None:
        if full == (node_id in self._full_nodes):
            return
        self._full_nodes = self._full_nodes | {node_id} if full else self._full_nodes - {node_id}
        log.warning("disk_watermark", node_id=node_id, full=full)
        for partition in self.partitions.values():
            self._tell_full(partition)

    def may_fetch(self, partition: Partition) -> bool:
        """A full disk takes only what it must to stay in the ISR: nobody waits for the rest."""
        state, topic = partition.state, self.image.topic(partition.topic_id)
        return not self.disk_full or state is None or topic is None or topic.internal or self.node_id in state.isr

    def _tell_full(self, partition: Partition) -> None:
        """Topics of the cluster itself go on: little is written to them, and groups must be able to go on reading."""
        topic = self.image.topic(partition.topic_id)
        if topic is not None and not topic.internal:
            partition.disks_full(self._full_nodes)

    def checkpoint_soon(self) -> None:
        self._housekeeping.checkpoint_soon()

    def suspect(self, partition: Partition, offset: int) -> None:
        self._cleaner.suspect(partition, offset)

    def no_space(self) -> None:
        """A write found no room: look at the disk at once."""
        self._housekeeping.disk_refused()

    def own_disk_full(self, full: bool) -> None:
        """This node's disk went above or below its watermark: leaders hear of it with the next fetch."""
        self.disk_full = full
        self.follower_disk_full(self.node_id, full)
        self._following.tell_state()

    # --- inside

    def _reopened(self, key: Key, checkpoint: Checkpoint | None) -> Partition:
        return logs.open_partition(self, self.directory, self.fs, key, checkpoint, self.wall_ms())

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = self._loop.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if self._stopping or self.failed.done() or (task.cancelled() and task.cancelling()):
            return
        # "Cancelled", and by nobody: so ends whoever waits for a call that is cancelled, and nobody would see it.
        error = (None if task.cancelled() else task.exception()) or RuntimeError(f"{task.get_name()} ended")
        log.critical("background_task_ended", task=task.get_name(), exc_info=error)
        self.failed.set_exception(error)
        stop_if_broken(error)


def _ballast(fs: FileSystem, path: str) -> Ballast:
    stats = os.statvfs(path)
    return Ballast(fs, path, ballast_bytes(stats.f_blocks * stats.f_frsize))
