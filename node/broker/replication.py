"""The leader's side of replication: one stream per follower node, for all partitions they share.

A follower's request names positions, each the acknowledgement of everything before it. A position with news is answered
at once, one without at the append that brings some. There is one response per wake-up, however many partitions grew.
"""

import asyncio
from typing import Any, Final, Protocol

import grpc
import structlog

from node.broker.partition import Partition
from node.broker.response import result_parts
from node.broker.settings import BrokerSettings
from node.fail_stop import stop_if_broken
from node.metadata.image import Image
from node.transport import Transport, check_claim
from ottla.internal.v1 import replication_pb2 as messages
from ottla.protocol.errors import ApiError
from ottla.v1 import data_pb2
from ottla.v1 import error_pb2 as pb
from storage.errors import OffsetOutOfRange

log = structlog.get_logger(__name__)

TURN_MAX_S: Final = 0.005
"""How long a response waits for the follower's next request. A follower may have nothing to ask for."""

MARK_DELAY_S: Final = 0.05
"""How long a new high watermark waits for data to travel with before it goes alone."""

Context = grpc.aio.ServicerContext[Any, Any]
Key = tuple[bytes, int]


class Leaders(Protocol):
    """What a stream asks of the broker it is served by."""

    node_id: int
    image: Image
    settings: BrokerSettings
    streams: "dict[FollowerStream, None]"
    transport: Transport

    def cluster_id(self) -> bytes | None: ...
    def partition(self, topic_id: bytes, number: int) -> Partition | None: ...
    def follower_disk_full(self, node_id: int, full: bool) -> None:
        """A follower's disk went above or below its watermark."""


class Position:
    """Where a follower is in one partition. `asked`: it waits for an answer."""

    __slots__ = ("asked", "key", "known_mark", "known_start", "partition", "wanted")

    def __init__(self, key: Key) -> None:
        self.key = key
        self.asked = False
        self.known_mark = -1
        self.known_start = -1
        self.partition: Partition | None = None
        self.wanted = messages.ReplicaFetchPartition()


class FollowerStream:
    """One follower node's stream, without its transport: requests in, serialized responses out."""

    def __init__(self, broker: Leaders, hello: messages.ReplicaHello) -> None:
        self.node_id = hello.node_id
        self.ended = False
        self._broker = broker
        self._broker_epoch = hello.broker_epoch
        self._loop = asyncio.get_running_loop()
        self._positions: dict[Key, Position] = {}
        self._ready: dict[Position, ApiError | tuple[int, int] | None] = {}
        self._early: dict[Position, None] = {}
        self._marked: dict[Position, None] = {}
        self._mark_timer: asyncio.TimerHandle | None = None
        self._wake: asyncio.Future[None] | None = None
        self._turn: asyncio.TimerHandle | None = None
        self._max_bytes = broker.settings.replica_fetch_response_max_bytes

    # --- requests

    def take(self, request: messages.ReplicaFetchRequest) -> None:
        """Positions that are new or have moved, and partitions that are no longer wanted."""
        if request.max_bytes > 0:
            self._max_bytes = min(request.max_bytes, self._broker.settings.replica_fetch_response_max_bytes)
        self._broker.follower_disk_full(self.node_id, request.disk_full)
        self._take_turn()
        for removed in request.removed:
            position = self._positions.pop((removed.topic_id, removed.partition), None)
            if position is not None:
                self._forget(position)
        for wanted in request.partitions:
            key = (wanted.topic_id, wanted.partition)
            position = self._positions.get(key)
            if position is None:
                position = self._positions[key] = Position(key)
            if wanted.progress_only:
                self._note_progress(position, wanted)
                continue
            position.wanted = wanted
            position.asked = True
            self._examine(position)
        if self._ready:
            self.signal()

    def metadata_changed(self) -> None:
        """Looks again at what came too early for the metadata that this node had."""
        early, self._early = self._early, {}
        for position in early:
            self._examine(position)
        if self._ready:
            self.signal()

    def broker_epochs_changed(self) -> None:
        """This follower's registration has reached our metadata: from now on its positions count."""
        for position in list(self._positions.values()):
            if position.asked and position not in self._ready:
                self._examine(position)
        if self._ready:
            self.signal()

    def _examine(self, position: Position) -> None:
        """Takes note of a position, and of what there is to say about it."""
        wanted = position.wanted
        self._early.pop(position, None)
        self._ready.pop(position, None)
        partition = self._broker.partition(*position.key)
        if partition is None or partition.state is None or partition.state.leader_epoch < wanted.current_leader_epoch:
            # The follower has newer metadata than we have: answer when ours gets there.
            self._early[position] = None
            return
        try:
            leader = partition.leading(wanted.current_leader_epoch)
            if self.node_id not in leader.replicas:
                raise ApiError(
                    pb.ERROR_CODE_NOT_LEADER_OR_FOLLOWER, f"node {self.node_id} is no replica of {partition.name}"
                )
            if position.partition is not partition or partition.watchers.get(self.node_id) is not self:
                position.partition = partition
                partition.watchers[self.node_id] = self
            diverging = partition.follower_fetched(
                self.node_id, wanted, self._broker_epoch if self._is_current() else None
            )
        except ApiError as error:
            self._ready[position] = error
            return
        if diverging is not None:
            self._ready[position] = diverging
        elif wanted.fetch_offset < leader.log_end and not wanted.marks_only:
            self._ready[position] = None
        else:
            self._mark(position, partition)

    def _note_progress(self, position: Position, wanted: messages.ReplicaFetchPartition) -> None:
        """A follower has synced more; what it asked for before is or will be answered by itself."""
        position.wanted.synced_end_offset = wanted.synced_end_offset
        partition = position.partition
        if (
            partition is None
            or partition.leader is None
            or partition.leader.leader_epoch != wanted.current_leader_epoch
        ):
            return
        if partition.offline is None and self._is_current():
            try:
                partition.follower_fetched(self.node_id, wanted, self._broker_epoch)
            except ApiError as error:
                log.warning("replica_progress_refused", partition=partition.name, error=str(error))

    def _is_current(self) -> bool:
        """A broker epoch that is not the one in our metadata counts for nothing (KIP-903)."""
        broker = self._broker.image.brokers.get(self.node_id)
        return broker is not None and broker.broker_epoch == self._broker_epoch

    # --- what partitions say

    def grew(self, partition: Partition) -> None:
        position = self._positions.get((partition.topic_id, partition.number))
        if position is not None and position.asked and position not in self._ready and position not in self._early:
            if position.wanted.marks_only:
                return
            self._ready[position] = None
            self.signal()

    def marked(self, partition: Partition) -> None:
        position = self._positions.get((partition.topic_id, partition.number))
        if position is not None and position.asked and position not in self._ready:
            self._mark(position, partition)

    def _mark(self, position: Position, partition: Partition) -> None:
        if position.known_mark == partition.high_watermark and position.known_start == partition.log.log_start_offset:
            return
        self._marked[position] = None
        if self._mark_timer is None:
            self._mark_timer = self._loop.call_later(MARK_DELAY_S, self._send_marks)

    def _send_marks(self) -> None:
        self._mark_timer = None
        marked, self._marked = self._marked, {}
        for position in marked:
            if position.asked and position not in self._early:
                self._ready.setdefault(position, None)
        if self._ready:
            self.signal()

    # --- responses

    def signal(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    def _take_turn(self) -> None:
        """The follower has spoken, or was given time to: the next response may go."""
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
            if self._ready:
                self.signal()

    async def news(self) -> bytes | None:
        """The next response, serialized; None when the stream has ended.

        A message costs the same whatever it holds. So what becomes ready while the follower has not yet asked again
        goes into one response, and so does what arrived in the same turn of the loop.
        """
        while not self.ended:
            if self._turn is None and (response := self._response()) is not None:
                self._turn = self._loop.call_later(TURN_MAX_S, self._take_turn)
                return response
            self._wake = self._loop.create_future()
            await self._wake
            await asyncio.sleep(0)
        return None

    def _response(self) -> bytes | None:
        parts: list[bytes] = []
        size = 0
        while self._ready and size < self._max_bytes:
            position, news = next(iter(self._ready.items()))
            del self._ready[position]
            size += self._result(position, news, self._max_bytes - size, parts)
        return b"".join(parts) if parts else None

    def _result(
        self, position: Position, news: ApiError | tuple[int, int] | None, room: int, parts: list[bytes]
    ) -> int:
        """Adds one partition's result to `parts`, without copying its batches; returns their size."""
        wanted = position.wanted
        result = messages.ReplicaFetchResult(
            topic_id=wanted.topic_id, partition=wanted.partition, position=wanted.position
        )
        data = b""
        try:
            partition = position.partition
            if partition is not None:
                # With an error, too: a follower that retention has overtaken begins again there.
                result.log_start_offset = partition.log.log_start_offset
            if isinstance(news, ApiError):
                raise news
            assert partition is not None
            leader = partition.leading(wanted.current_leader_epoch)
            result.leader_epoch = leader.leader_epoch
            result.high_watermark = position.known_mark = leader.high_watermark
            result.log_start_offset = position.known_start = partition.log.log_start_offset
            result.log_end_offset = leader.log_end
            result.deleted_before = partition.deleted_before
            if news is not None:
                result.diverging_epoch.CopyFrom(data_pb2.EpochEnd(leader_epoch=news[0], end_offset=news[1]))
            elif not wanted.marks_only:
                limit = min(room, self._broker.settings.replica_fetch_max_bytes)
                data = partition.read_for_follower(wanted.fetch_offset, limit, min_one=not parts)
                if not data and wanted.fetch_offset < leader.log_end:
                    # No room left in this response for the next batch: first in the next one.
                    self._ready[position] = None
                    return room
        except ApiError as error:
            result.error.CopyFrom(error.to_proto())
        except OffsetOutOfRange as error:
            result.error.CopyFrom(ApiError(pb.ERROR_CODE_OFFSET_OUT_OF_RANGE, str(error)).to_proto())
        except Exception as error:
            stop_if_broken(error)
            # One odd partition must not stop the others (KAFKA-7414).
            log.exception("replica_fetch_failed", topic_id=wanted.topic_id.hex(), partition=wanted.partition)
            result.error.CopyFrom(ApiError(pb.ERROR_CODE_KAFKA_STORAGE_ERROR, str(error)).to_proto())
        position.asked = False
        self._marked.pop(position, None)
        parts += result_parts(result, data)
        return len(data)

    def close(self) -> None:
        """Synchronous, for the clean-up of a call that was cancelled."""
        self.ended = True
        self.signal()
        if self._turn is not None:
            self._turn.cancel()
        if self._mark_timer is not None:
            self._mark_timer.cancel()
        for position in self._positions.values():
            self._forget(position)
        self._positions.clear()

    def _forget(self, position: Position) -> None:
        self._ready.pop(position, None)
        self._early.pop(position, None)
        self._marked.pop(position, None)
        if position.partition is not None and position.partition.watchers.get(self.node_id) is self:
            del position.partition.watchers[self.node_id]


class ReplicationService:
    """ottla.internal.v1.ReplicationService on the replication listener."""

    def __init__(self, broker: Leaders) -> None:
        self._broker = broker

    async def serve(self, context: Context) -> None:
        """One follower's stream. Reads typed requests; writes bytes, so that log slices are not copied once more."""
        first = await context.read()
        if first is grpc.aio.EOF:
            return
        try:
            check_claim(self._broker.transport, context, first.hello.node_id)
            self._check(first.hello)
        except ApiError as error:
            log.warning("replica_stream_refused", node_id=first.hello.node_id, error=str(error))
            await context.write(messages.ReplicaFetchResponse(error=error.to_proto()).SerializeToString())
            return
        stream = FollowerStream(self._broker, first.hello)
        self._broker.streams[stream] = None
        reader = asyncio.create_task(_read(context, stream, first))
        try:
            while (response := await stream.news()) is not None:
                await context.write(response)
        finally:
            # No await before this: after a cancelled call the next one would raise again.
            del self._broker.streams[stream]
            if all(other.node_id != stream.node_id for other in self._broker.streams):
                # Whoever is gone says nothing of its disk any more: it must not keep producers out for ever.
                self._broker.follower_disk_full(stream.node_id, False)
            stream.close()
            reader.cancel()

    def _check(self, hello: messages.ReplicaHello) -> None:
        broker = self._broker
        if hello.cluster_id != broker.cluster_id():
            raise ApiError(
                pb.ERROR_CODE_INCONSISTENT_CLUSTER_ID,
                f"this node belongs to cluster {(broker.cluster_id() or b'').hex()}, not to {hello.cluster_id.hex()}",
            )
        if hello.leader_id != broker.node_id or hello.node_id == broker.node_id:
            raise ApiError(
                pb.ERROR_CODE_INVALID_REQUEST,
                f"this is node {broker.node_id}; node {hello.node_id} meant to reach node {hello.leader_id}",
            )
        known = broker.image.brokers.get(hello.node_id)
        if known is not None and (
            known.broker_epoch > hello.broker_epoch
            or (known.broker_epoch == hello.broker_epoch and known.directory_id != hello.directory_id)
        ):
            raise ApiError(
                pb.ERROR_CODE_STALE_BROKER_EPOCH,
                f"node {hello.node_id} is registered with broker epoch {known.broker_epoch} and directory "
                f"{known.directory_id.hex()}, the stream says {hello.broker_epoch} and {hello.directory_id.hex()}",
            )


async def _read(context: Context, stream: FollowerStream, first: messages.ReplicaFetchRequest) -> None:
    request: Any = first
    try:
        while request is not grpc.aio.EOF:
            stream.take(request)
            request = await context.read()
    finally:
        stream.ended = True
        stream.signal()
