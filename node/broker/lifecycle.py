"""A broker's life as the controller sees it: register, beat, stop. Control loop only.

    run(): register with the active controller -> a heartbeat every 500 ms, and at once when metadata was applied
    STALE_BROKER_EPOCH, BROKER_ID_NOT_REGISTERED -> register again; a new controller needs no new registration
    stop(): heartbeats that want a shutdown until the controller says that nothing depends on this broker any more

The controller is reached by RPC also where it lives in this very process: one path, tested all the time.
"""

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import grpc
import structlog

from node.broker.controller_client import NODE_CHANNEL_OPTIONS
from node.transport import PLAIN, Transport
from ottla.internal.v1 import controller_pb2 as rpc
from ottla.internal.v1.controller_pb2_grpc import ControllerServiceStub
from ottla.protocol.errors import ApiError
from ottla.v1 import error_pb2 as pb

if TYPE_CHECKING:
    # The generated module has the asynchronous stub's type only for the checker.
    from ottla.internal.v1.controller_pb2_grpc import ControllerServiceAsyncStub

log = structlog.get_logger(__name__)

COALESCE_S: Final = 0.005
BACKOFF_MIN_S: Final = 0.02
BACKOFF_MAX_S: Final = 0.5
REGISTER_TIMEOUT_S: Final = 3.0
LOG_EVERY_S: Final = 5.0
_START_OVER: Final = frozenset({pb.ERROR_CODE_STALE_BROKER_EPOCH, pb.ERROR_CODE_BROKER_ID_NOT_REGISTERED})
_FATAL: Final = frozenset(
    {
        pb.ERROR_CODE_INCONSISTENT_CLUSTER_ID,
        pb.ERROR_CODE_UNSUPPORTED_VERSION,
        pb.ERROR_CODE_INVALID_REGISTRATION,
    }
)


@dataclass(frozen=True, slots=True)
class PlaneState:
    """What a heartbeat says about the data plane."""

    metadata_index: int
    data_loop_age_ms: int
    offline_directories: Sequence[bytes] = ()
    offline_partitions: Sequence[tuple[bytes, int]] = ()
    disk_full: bool = False
    wall_ms: int = 0
    clock_ms: int = 0
    """The same moment on the monotonic clock."""


@dataclass(frozen=True, slots=True)
class LogEnd:
    """Where this broker's log of a partition ends, and the leader epoch of the metadata it had applied then."""

    last_epoch: int
    log_end_offset: int
    leader_epoch: int


class BrokerLifecycle:
    """Keeps this broker registered. `registration` has everything but the cluster id.

    `cluster_id`, `controller_address` and `controller_id` (who is there) are asked each time, None = not known yet.
    `plane` describes the data plane; `log_ends` looks up partitions' logs, None = this broker has none.
    `on_registered(broker_epoch)` is called after each registration, `on_clock` when the controller has said how far the
    wall clock is ahead of the cluster's.
    """

    def __init__(
        self,
        registration: rpc.RegisterBrokerRequest,
        *,
        cluster_id: Callable[[], bytes | None],
        controller_address: Callable[[], str | None],
        plane: Callable[[], PlaneState],
        log_ends: Callable[[Sequence[tuple[bytes, int]]], Awaitable[list[LogEnd | None]]],
        on_registered: Callable[[int], None],
        on_clock: Callable[[int, int, int], None] = lambda ahead_ms, wall_ms, clock_ms: None,
        heartbeat_interval_ms: int = 500,
        session_timeout_ms: int = 3000,
        rng: random.Random,
        controller_id: Callable[[], int | None] = lambda: None,
        transport: Transport = PLAIN,
    ) -> None:
        self._registration = registration
        self._cluster_id = cluster_id
        self._controller_address = controller_address
        self._plane = plane
        self._look_up = log_ends
        self._on_registered = on_registered
        self._on_clock = on_clock
        self._interval_s = heartbeat_interval_ms / 1000
        self._session_s = session_timeout_ms / 1000
        self._rng = rng
        self._controller_id = controller_id
        self._transport = transport
        self.broker_epoch: int | None = None
        self.fenced = True
        self.caught_up = False
        self._session_since_s = -math.inf
        self._want_shutdown = False
        self._may_stop = asyncio.Event()
        self._beat_now = asyncio.Event()
        self._want_log_ends: list[tuple[bytes, int]] = []
        self._channel: grpc.aio.Channel | None = None
        self._target = ""
        self._logged_at_s = -LOG_EVERY_S

    @property
    def heard(self) -> bool:
        """Whether the controller has answered a heartbeat that left within the session timeout. Where not, it has
        fenced this broker, which cannot know, or there is no controller that could.
        """
        return time.monotonic() - self._session_since_s < self._session_s

    def metadata_applied(self) -> None:
        """The data plane has applied newer metadata: say so at once, for someone may wait for it."""
        self._beat_now.set()

    async def run(self) -> None:
        """Until cancelled. Raises ApiError where this node can never be part of the cluster as it is."""
        backoff_s = BACKOFF_MIN_S
        try:
            while True:
                try:
                    if self.broker_epoch is None:
                        await self._register()
                    await self._heartbeat()
                    backoff_s = BACKOFF_MIN_S
                except ApiError as error:
                    if error.code in _FATAL:
                        raise
                    if error.code in _START_OVER:
                        self._forget(str(error))
                        continue
                    self._say(error)
                    await asyncio.sleep(backoff_s * self._rng.uniform(0.5, 1))
                    backoff_s = min(2 * backoff_s, BACKOFF_MAX_S)
                    continue
                await self._pause(self._interval_s)
        finally:
            if self._channel is not None:
                await self._channel.close()
                self._channel = None

    async def stop(self, timeout_ms: int) -> bool:
        """Asks the controller to take every leadership away. Whether it did within `timeout_ms`; `run` must go on."""
        self._want_shutdown = True
        self._beat_now.set()
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                await self._may_stop.wait()
        except TimeoutError:
            log.warning("controlled_shutdown_timed_out", timeout_ms=timeout_ms)
            return False
        return True

    async def _register(self) -> None:
        cluster_id = self._cluster_id()
        if cluster_id is None:
            raise ApiError(pb.ERROR_CODE_NOT_CONTROLLER, "the quorum has not formed yet")
        request = rpc.RegisterBrokerRequest()
        request.CopyFrom(self._registration)
        request.cluster_id = cluster_id
        response = await self._call("RegisterBroker", request, REGISTER_TIMEOUT_S)
        self.broker_epoch = response.broker_epoch
        self._registration.ClearField("lost_partitions")  # the cluster knows; from now on they are fetched again
        log.info("broker_registered", broker_epoch=response.broker_epoch, controller=self._target)
        self._on_registered(response.broker_epoch)

    async def _heartbeat(self) -> None:
        if self.broker_epoch is None:
            return
        self._beat_now.clear()
        log_ends = await self._log_ends()  # first: the clocks below are those of the moment it is sent
        sent_s = time.monotonic()
        state = self._plane()
        request = rpc.HeartbeatRequest(
            node_id=self._registration.node_id,
            broker_epoch=self.broker_epoch,
            metadata_index=state.metadata_index,
            want_shutdown=self._want_shutdown,
            data_loop_age_ms=max(0, min(state.data_loop_age_ms, 2**31 - 1)),
            offline_directories=state.offline_directories,
            offline_partitions=[rpc.PartitionId(topic_id=t, partition=n) for t, n in state.offline_partitions],
            log_ends=log_ends,
            disk_full=state.disk_full,
            wall_ms=state.wall_ms,
        )
        response = await self._call("Heartbeat", request, 2 * self._interval_s)
        if response.fenced != self.fenced:
            log.info("broker_fenced" if response.fenced else "broker_unfenced", controller=self._target)
        self.fenced, self.caught_up = response.fenced, response.caught_up
        self._session_since_s = sent_s
        if response.HasField("clock_ahead_ms"):
            self._on_clock(response.clock_ahead_ms, state.wall_ms, state.clock_ms)
        asked_before = set(self._want_log_ends)
        self._want_log_ends = [(p.topic_id, p.partition) for p in response.want_log_ends]
        if not asked_before.issuperset(self._want_log_ends):
            self._beat_now.set()
        if response.should_shutdown and self._want_shutdown:
            self._may_stop.set()

    async def _log_ends(self) -> list[rpc.LogEnd]:
        found = []
        wanted = self._want_log_ends
        for (topic_id, n), end in zip(wanted, await self._look_up(wanted) if wanted else (), strict=True):
            if end is not None:
                found.append(
                    rpc.LogEnd(
                        topic_id=topic_id,
                        partition=n,
                        last_epoch=end.last_epoch,
                        log_end_offset=end.log_end_offset,
                        leader_epoch=end.leader_epoch,
                    )
                )
        return found

    async def _pause(self, seconds: float) -> None:
        """Until the next heartbeat is due, or, a moment after it is asked for, so that several changes make one."""
        try:
            async with asyncio.timeout(seconds):
                await self._beat_now.wait()
                await asyncio.sleep(COALESCE_S)
        except TimeoutError:
            pass

    async def _call(self, method: str, request: Any, timeout_s: float) -> Any:
        address = self._controller_address()
        if not address:
            raise ApiError(pb.ERROR_CODE_NOT_CONTROLLER, "there is no active controller that this node knows of")
        stub = await self._stub(address)
        try:
            response = await getattr(stub, method)(request, timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            raise ApiError(
                pb.ERROR_CODE_NETWORK_EXCEPTION,
                f"{method} at the controller {address} failed with {error.code().name}: {error.details()}",
            ) from None
        if response.HasField("error"):
            raise ApiError.from_proto(response.error)
        return response

    async def _stub(self, address: str) -> "ControllerServiceAsyncStub":
        """A channel of its own: heartbeats must not queue behind anything else."""
        if self._channel is None or address != self._target or self._transport.is_stale(self._channel):
            former, self._target = self._channel, address
            self._channel = self._transport.dial(address, self._controller_id() or 0, NODE_CHANNEL_OPTIONS)
            if former is not None:
                await former.close()
        return ControllerServiceStub(self._channel)

    def _forget(self, why: str) -> None:
        log.warning("broker_registers_again", reason=why)
        self.broker_epoch = None
        self.fenced, self.caught_up = True, False

    def _say(self, error: ApiError) -> None:
        now_s = time.monotonic()
        if now_s - self._logged_at_s >= LOG_EVERY_S:
            self._logged_at_s = now_s
            log.info("controller_not_reached", registered=self.broker_epoch is not None, error=str(error))
