"""The follower's side of replication: one stream to each leader node, for all partitions followed there.

The next request is the acknowledgement. Responses are taken in synchronously; a partition that is odd waits and tries
again by itself, it never stops the others (KAFKA-7414).
"""

import asyncio
import random
from collections.abc import Mapping
from typing import Any, Final, Protocol, TypeAlias

import grpc
import structlog

from node.broker.controller_client import NODE_CHANNEL_OPTIONS
from node.broker.pace import MovePace
from node.broker.partition import Partition
from node.broker.response import Response, read_response
from node.broker.settings import BrokerSettings
from node.fail_stop import stop_if_broken
from node.metadata.image import Image
from node.transport import Transport
from ottla.internal.v1 import replication_pb2 as messages
from ottla.protocol.batch import CorruptBatch
from ottla.protocol.errors import ApiError
from ottla.v1 import error_pb2 as pb
from storage.errors import OffsetsOutOfOrder, StorageError, passing

log = structlog.get_logger(__name__)

FETCH: Final = "/ottla.internal.v1.ReplicationService/Fetch"
RECONNECT_MS: Final = 20
RECONNECT_MAX_MS: Final = 500
FetchCall: TypeAlias = "grpc.aio.StreamStreamCall[messages.ReplicaFetchRequest, Response]"
Key = tuple[bytes, int]


class Followers(Protocol):
    """What a fetcher asks of the broker it works for."""

    node_id: int
    settings: BrokerSettings
    disk_full: bool
    transport: Transport
    image: Image
    defaults: Mapping[str, str]

    @property
    def broker_epoch(self) -> int | None: ...
    @property
    def directory_id(self) -> bytes: ...
    def cluster_id(self) -> bytes | None: ...
    def replication_address(self, node_id: int) -> str | None: ...
    def wall_ms(self) -> int: ...
    def may_fetch(self, partition: Partition) -> bool:
        """Whether there is room for more of it."""


class Followed:
    """A partition followed here. `asked` is the number of the position whose one answer is still to come, 0: none, so
    that no answer is ever taken for that to another position, not even where a log was cut and opened again."""

    __slots__ = ("asked", "marks_only", "partition", "retry")

    def __init__(self, partition: Partition) -> None:
        self.partition = partition
        self.asked = 0
        self.marks_only = False
        self.retry: asyncio.TimerHandle | None = None


class Fetcher:
    """See the module. `run` is a task of the broker's."""

    def __init__(self, broker: Followers, leader_id: int, pace: MovePace) -> None:
        self.leader_id = leader_id
        self._broker = broker
        self._pace = pace
        self._loop = asyncio.get_running_loop()
        self._followed: dict[Key, Followed] = {}
        self._due: dict[Key, Followed] = {}
        self._removed: set[Key] = set()
        self._tells = False
        self._call: FetchCall | None = None
        self._writer: asyncio.Task[None] | None = None
        self._position = 1
        self._writes_to: object = None  # the call that is written to now: gRPC breaks a call that two write to at once

    @property
    def idle(self) -> bool:
        return not self._followed

    def add(self, partition: Partition) -> None:
        """Follows a partition, in a new leader epoch."""
        key = (partition.topic_id, partition.number)
        self._stop_retry(self._followed.get(key))
        self._followed[key] = self._due[key] = Followed(partition)
        self._removed.discard(key)
        self._write_soon()

    def moved(self, partition: Partition) -> None:
        """The position changed without the leader's doing: more of it is synced."""
        key = (partition.topic_id, partition.number)
        followed = self._followed.get(key)
        if followed is not None and followed.partition is partition and followed.retry is None:
            self._due[key] = followed
            self._write_soon()

    def tell_state(self) -> None:
        """Something of the node's changed that every request carries."""
        self._tells = True
        for followed in self._followed.values():
            if followed.marks_only:
                followed.asked = 0  # there is room, perhaps: asked for anew, with its batches
            self.moved(followed.partition)
        self._write_soon()

    def reconnect(self) -> None:
        """The node has another broker epoch: streams are opened with one, so open a new one."""
        if self._call is not None:
            self._call.cancel()

    def remove(self, topic_id: bytes, number: int) -> None:
        key = (topic_id, number)
        followed = self._followed.pop(key, None)
        if followed is not None:
            self._stop_retry(followed)
            self._due.pop(key, None)
            self._removed.add(key)
            self._write_soon()

    async def run(self) -> None:
        """Keeps the stream open; ends only by cancellation."""
        backoff_ms = RECONNECT_MS
        try:
            while True:
                if await self._stream():
                    backoff_ms = RECONNECT_MS
                await asyncio.sleep(backoff_ms * random.uniform(0.5, 1) / 1000)
                backoff_ms = min(2 * backoff_ms, RECONNECT_MAX_MS)
        finally:
            for followed in self._followed.values():
                self._stop_retry(followed)

    async def _stream(self) -> bool:
        """One stream from dialling to its end; True if the leader answered on it."""
        address = self._broker.replication_address(self.leader_id)
        broker_epoch = self._broker.broker_epoch
        if address is None or broker_epoch is None:
            return False
        answered = False
        channel = self._broker.transport.dial(address, self.leader_id, NODE_CHANNEL_OPTIONS)
        try:
            open_call: Any = channel.stream_stream(
                FETCH,
                request_serializer=messages.ReplicaFetchRequest.SerializeToString,
                response_deserializer=read_response,
            )
            call: FetchCall = open_call()
            hello = messages.ReplicaHello(
                cluster_id=self._broker.cluster_id() or b"",
                node_id=self._broker.node_id,
                directory_id=self._broker.directory_id,
                broker_epoch=broker_epoch,
                leader_id=self.leader_id,
            )
            self._removed.clear()
            self._due = dict(self._followed)
            for followed in self._followed.values():
                followed.asked = 0
            first = self._request()
            first.hello.CopyFrom(hello)
            await call.write(first)
            self._call = call
            if self._due or self._removed:
                self._write_soon()
            while True:
                response = await call.read()
                if not isinstance(response, Response):
                    break
                answered = True
                if response.error is not None:
                    log.warning("replica_fetch_refused", leader=self.leader_id, error=response.error.message)
                    return False
                for result, batches in response.results:
                    self._take(result, batches)
                if self._due and self._writer is None:
                    await self._write(call)
        except grpc.aio.AioRpcError as error:
            log.info("replica_stream_ended", leader=self.leader_id, code=error.code().name, details=error.details())
        except asyncio.InvalidStateError:
            log.info("replica_stream_ended", leader=self.leader_id)  # a write to a call that is over
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            log.info("replica_stream_ended", leader=self.leader_id)  # `reconnect` ended the call, not this task
        finally:
            self._call = None
            writer, self._writer = self._writer, None
            if writer is not None:
                writer.cancel()
            await channel.close()
        return answered

    # --- requests

    def _write_soon(self) -> None:
        if self._call is not None and self._writer is None:
            self._writer = self._loop.create_task(self._write_alone(self._call))

    async def _write_alone(self, call: FetchCall) -> None:
        try:
            await self._write(call)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            pass  # the reader sees the end of the stream, too
        finally:
            if self._call is call:
                self._writer = None

    async def _write(self, call: FetchCall) -> None:
        if self._writes_to is call:
            return  # whoever writes to it goes on until nothing is due
        self._writes_to = call
        try:
            while self._due or self._removed or self._tells:
                await call.write(self._request())
        finally:
            if self._writes_to is call:
                self._writes_to = None

    def _request(self) -> messages.ReplicaFetchRequest:
        due, self._due = self._due, {}
        removed, self._removed = self._removed, set()
        self._tells = False
        request = messages.ReplicaFetchRequest(
            max_bytes=self._broker.settings.replica_fetch_response_max_bytes, disk_full=self._broker.disk_full
        )
        for topic_id, number in sorted(removed):
            request.removed.add(topic_id=topic_id, partition=number)
        for (topic_id, number), followed in due.items():
            partition = followed.partition
            if partition.follower is None or partition.closed or partition.offline is not None:
                continue
            if not followed.asked:
                followed.marks_only = self._broker.disk_full and not self._broker.may_fetch(partition)
            records = partition.log
            epoch = records.epochs.latest_epoch
            request.partitions.add(
                topic_id=topic_id,
                partition=number,
                current_leader_epoch=partition.follower.leader_epoch,
                fetch_offset=records.log_end_offset,
                last_fetched_epoch=-1 if epoch is None else epoch,
                log_start_offset=partition.kept_log_start,
                synced_end_offset=records.synced_end_offset,
                progress_only=followed.asked != 0,
                position=followed.asked or self._position,
                marks_only=followed.marks_only,
            )
            if not followed.asked:
                followed.asked = self._position
                self._position += 1
        return request

    # --- results

    def _take(self, result: messages.ReplicaFetchResult, batches: bytes | memoryview) -> None:
        key = (result.topic_id, result.partition)
        followed = self._followed.get(key)
        if followed is None:
            return
        partition = followed.partition
        follower = partition.follower
        if follower is None or follower.leader != self.leader_id or partition.closed or partition.offline is not None:
            return
        if result.position != followed.asked:
            return  # the answer to an earlier position; that to this one is still to come
        followed.asked = 0
        try:
            if result.HasField("error"):
                self._refused(followed, result)
                return
            if result.HasField("diverging_epoch"):
                end = result.diverging_epoch
                partition.diverged((end.leader_epoch, end.end_offset))
            else:
                if batches:
                    partition.append_from_leader(batches, self._broker.wall_ms())
                    self._pace.fetched(partition, len(batches), self._loop.time())
                deleted = result.log_start_offset
                if deleted > partition.log.log_start_offset and result.HasField("deleted_before"):
                    deleted = result.deleted_before
                has_all = (
                    not (batches or followed.marks_only) or 0 < result.log_end_offset <= partition.log.log_end_offset
                )
                partition.observe_leader(result.high_watermark, deleted, has_all=has_all)
            if not self._held_up(key, followed):
                self._due[key] = followed
        except (CorruptBatch, OffsetsOutOfOrder) as error:
            # Refused as a whole: nothing of it is in the log. It is fetched again.
            log.error("bad_batch_from_leader", partition=partition.name, leader=self.leader_id, error=str(error))
            self._retry_later(key, followed)
        except (StorageError, OSError) as error:
            if passing(error):
                partition.storage_error(error)
                self._retry_later(key, followed)
            else:
                partition.fail(error)
        except Exception as error:
            stop_if_broken(error)
            log.exception("replica_result_failed", partition=partition.name, leader=self.leader_id)
            self._retry_later(key, followed)

    def _refused(self, followed: Followed, result: messages.ReplicaFetchResult) -> None:
        partition = followed.partition
        error = ApiError.from_proto(result.error)
        if error.code == pb.ERROR_CODE_OFFSET_OUT_OF_RANGE and result.log_start_offset > partition.log.log_end_offset:
            # Retention at the leader has overtaken this log: there is nothing to continue from.
            partition.restart_log(result.log_start_offset)
            self._due[result.topic_id, result.partition] = followed
            return
        log.info("replica_fetch_error", partition=partition.name, leader=self.leader_id, error=str(error))
        self._retry_later((result.topic_id, result.partition), followed)

    def _retry_later(self, key: Key, followed: Followed) -> None:
        self._due.pop(key, None)
        if followed.retry is None:
            delay_s = self._broker.settings.replica_fetch_backoff_ms / 1000
            followed.retry = self._loop.call_later(delay_s, self._retry, key, followed)

    def _held_up(self, key: Key, followed: Followed) -> bool:
        """Whether it is asked for later, because moves may not take more of the network."""
        wait_s = self._pace.wait_s(followed.partition, self._loop.time())
        if wait_s > 0 and followed.retry is None:
            self._due.pop(key, None)
            followed.retry = self._loop.call_later(wait_s, self._retry, key, followed)
        return wait_s > 0

    def _retry(self, key: Key, followed: Followed) -> None:
        followed.retry = None
        if self._followed.get(key) is followed and not self._held_up(key, followed):
            self._due[key] = followed
            self._write_soon()

    def _stop_retry(self, followed: Followed | None) -> None:
        if followed is not None and followed.retry is not None:
            followed.retry.cancel()
            followed.retry = None
