"""The control plane: quorum, controller, broker lifecycle, HTTP. Everything here lives on the control loop.

quorum -> publisher (this node's image) -> data loop
       -> controller shell (idle unless this node leads)
lifecycle -> active controller, wherever it is, by RPC
"""

import asyncio
import contextlib
import random
import secrets
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import grpc
import structlog

from node.api.access import Access
from node.api.throttle import Throttle
from node.api.view import QuorumView
from node.broker.controller_client import NODE_CHANNEL_OPTIONS
from node.broker.lifecycle import BrokerLifecycle, LogEnd, PlaneState
from node.capacity import of_process
from node.config import Settings, split_address
from node.controller.service import admin_handlers, controller_handlers
from node.controller.shell import ControllerShell
from node.controller.state.draft import ControllerSettings
from node.core_task import core
from node.data import DataPlane, Waiting
from node.hooks import Hooks
from node.http import Asking, HttpServer, Reply
from node.metadata.apply import is_readable, unloadable
from node.metadata.events import Event
from node.metadata.image import FEATURES, METADATA_VERSION, NO_LEADER, Delta, Image, Partition
from node.metadata.publisher import MetadataPublisher
from node.principal import acting_as
from node.process import cause_of
from node.quorum.auto_join import AutoJoin
from node.quorum.driver import Leadership, Quorum
from node.services import listener
from node.services.cluster import build_version
from node.services.group_lag import LagSample
from node.tls import Tls
from node.transport import PLAIN, Transport, for_whom
from ottla.internal.v1 import controller_pb2, metadata_pb2
from ottla.protocol.acls import DESCRIBE
from ottla.protocol.configs import broker_defaults, enough_in_sync, min_isr_set
from ottla.protocol.errors import ApiError
from ottla.v1 import admin_pb2, cluster_pb2, error_pb2
from raft.model import PeerId
from storage.directory import LogDirectory
from storage.fs import FileSystem

if TYPE_CHECKING:
    from node.main import DataThread

log = structlog.get_logger(__name__)

TURN_S: Final = 0.1
LOOK_S: Final = 0.5
VIEW_EVERY_TURNS: Final = 2
METRICS_AGE_MS: Final = 100
VOTER_CHANGE_S: Final = 15.0
"""The controller itself waits up to 10 s for an observer that lags."""
MESSAGE_MAX_BYTES: Final = 64 * 2**20
NOBODY_LEFT_MS: Final = 3000
"""Without a controller for longer than an election takes, there is no majority left to hand over to."""
CONTROLLER: Final = controller_pb2.DESCRIPTOR.services_by_name["ControllerService"]
ADMIN: Final = admin_pb2.DESCRIPTOR.services_by_name["AdminService"]


class ControlPlane:
    """Made, started and stopped on the control loop. `failed` ends with what must stop the node."""

    def __init__(
        self,
        settings: Settings,
        directory: LogDirectory,
        fs: FileSystem,
        hooks: Hooks | None = None,
        transport: Transport = PLAIN,
    ) -> None:
        self._settings = settings
        self._transport = transport
        self._directory = directory
        self._loop = asyncio.get_running_loop()
        self.failed: asyncio.Future[None] = self._loop.create_future()
        self._publisher = MetadataPublisher()
        self._image = self._publisher.image
        self._access = Access(lambda: self._publisher.image.acls, settings.access_rules)
        self._throttle = Throttle()
        self._quorum = Quorum(settings, directory, fs, transport=transport)
        self._shell = ControllerShell(
            self._quorum,
            self._publisher,
            ControllerSettings(
                session_timeout_ms=settings.broker_session_timeout_ms,
                heartbeat_interval_ms=settings.broker_heartbeat_interval_ms,
                max_partitions_per_node=settings.max_partitions_per_node,
                static=settings.broker_configs,
                access=settings.access_rules,
            ),
            _now_ms,
            lambda: secrets.token_bytes(16),
            lambda: self._plane.broker.wall_ms(),
        )
        self._quorum.set_snapshot_source(self._publisher.snapshot)
        self._quorum.set_checks(is_readable, unloadable)
        self._quorum.add_listener(self._shell)
        self._quorum.add_listener(self)
        self._capacity = of_process()
        self._server = listener.make_server(MESSAGE_MAX_BYTES, hooks, connections_max=self._capacity.peers)
        self._http = HttpServer(
            {"/healthz": self._healthz, "/readyz": self._readyz, "/metrics": self._metrics},
            hooks,
            connections_max=self._capacity.http,
            guard=self._guard if settings.security != "off" and settings.http_authentication == "on" else None,
        )
        self._opened = asyncio.Event()
        self._ready = False
        self._stopping = False
        self._contact_ms = 0
        self._waiting = Waiting()
        self._group_lags: tuple[LagSample, ...] = ()
        self._rendering = asyncio.Lock()
        self._rendered = b""
        self._rendered_ms = -METRICS_AGE_MS
        self._task: asyncio.Task[None] | None = None

    async def start(self, data: "DataThread") -> None:
        """Joins the quorum and registers the broker, in the background. Raises OSError where a port is taken."""
        settings = self._settings
        self._data = data
        self._plane: DataPlane = data.plane
        metrics = self._plane.metrics
        self._lag = metrics.loop_lag_seconds.labels(loop="control")
        metrics.add_gauges(self._gauges)
        metrics.add_group_lags(lambda: self._group_lags)
        self._publisher.subscribe(self._on_image)
        self._publisher.history = self._on_events
        self._lifecycle = BrokerLifecycle(
            controller_pb2.RegisterBrokerRequest(
                node_id=settings.node_id,
                directory_id=self._directory.directory_id,
                incarnation_id=secrets.token_bytes(16),
                client_address=settings.advertised("public"),
                replication_address=settings.advertised("replication"),
                control_address=settings.advertised("control"),
                rack=settings.broker_rack,
                unclean_stop=not (self._directory.was_clean or self._directory.same_boot),
                version=build_version(),
                min_metadata_version=FEATURES[METADATA_VERSION][0],
                max_metadata_version=FEATURES[METADATA_VERSION][1],
                max_partitions=self._capacity.partitions,
                endpoints=[
                    metadata_pb2.Endpoint(name=name, host=host, port=port) for name, host, port in settings.endpoints
                ],
                lost_partitions=[
                    controller_pb2.PartitionId(topic_id=topic_id, partition=number)
                    for topic_id, number in self._directory.lost_logs()
                ],
            ),
            cluster_id=lambda: self._quorum.cluster_id,
            controller_address=self._controller_address,
            plane=self._plane_state,
            log_ends=self._log_ends,
            on_registered=self._on_registered,
            on_clock=lambda *compared: self._data.call(self._plane.broker.clock.told, *compared),
            heartbeat_interval_ms=settings.broker_heartbeat_interval_ms,
            session_timeout_ms=settings.broker_session_timeout_ms,
            rng=random.Random(),
            controller_id=lambda: self._quorum.leadership.leader_id,
            transport=self._transport,
        )
        self._quorum.add_to(self._server)
        listener.add_service(
            self._server,
            CONTROLLER,
            controller_handlers(self._shell, self._transport),
            metrics,
            identify=for_whom(self._transport),
        )
        listener.add_service(
            self._server,
            ADMIN,
            admin_handlers(self._shell, self._quorum, self._access, self._throttle, lambda: self._publisher.image),
            metrics,
            identify=for_whom(self._transport),
        )
        listener.listen(self._server, settings.listener("control"), "control", self._transport)
        await self._server.start()
        tls = self._transport.context(certified=None) if isinstance(self._transport, Tls) else None
        await self._http.start(*split_address(settings.listener("http")), tls)
        await self._quorum.start()
        self._task = self._loop.create_task(self._run())
        self._task.add_done_callback(self._ended)

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(core(self._shell.run()))
            group.create_task(core(self._register()))
            group.create_task(core(self._watch()))
            if isinstance(self._transport, Tls):
                group.create_task(core(self._transport.watch()))
            if self._settings.controller_quorum_auto_join_enable and self._is_configured_voter:
                group.create_task(core(AutoJoin(self._quorum, self._add_voter, self._remove_voter).run()))
            for failed in (self._quorum.failed, self._shell.failed):
                group.create_task(core(_until(failed)))

    @property
    def _is_configured_voter(self) -> bool:
        return self._settings.node_id in dict(self._settings.voters)

    async def _add_voter(self, voter: PeerId) -> None:
        request = admin_pb2.AddVoterRequest(node_id=voter.node_id, directory_id=voter.directory_id)
        await self._ask_controller("AddVoter", request, admin_pb2.AddVoterResponse)

    async def _remove_voter(self, voter: PeerId) -> None:
        request = admin_pb2.RemoveVoterRequest(node_id=voter.node_id, directory_id=voter.directory_id)
        await self._ask_controller("RemoveVoter", request, admin_pb2.RemoveVoterResponse)

    async def _ask_controller(self, method: str, request: Any, response: Any) -> None:
        """Raises ApiError with what the active controller says, or that it was not reached."""
        address = self._controller_address()
        leader = self._quorum.leadership.leader_id
        if address is None or leader is None:
            raise ApiError(error_pb2.ERROR_CODE_NOT_CONTROLLER, "there is no active controller")
        async with self._transport.dial(address, leader, NODE_CHANNEL_OPTIONS) as channel:
            call: Any = channel.unary_unary(
                f"/{ADMIN.full_name}/{method}",
                request_serializer=type(request).SerializeToString,
                response_deserializer=response.FromString,
            )
            try:
                answer = await call(request, timeout=VOTER_CHANGE_S)
            except grpc.aio.AioRpcError as error:
                raise ApiError(
                    error_pb2.ERROR_CODE_NETWORK_EXCEPTION, f"{method} at {address}: {error.details()}"
                ) from None
        if answer.error.code:
            raise ApiError.from_proto(answer.error)

    async def _register(self) -> None:
        """A broker registers when its logs are recovered: what it is elected for it must be able to lead."""
        await self._opened.wait()
        await self._lifecycle.run()

    def _ended(self, task: asyncio.Task[None]) -> None:
        if self.failed.done() or (task.cancelled() and task.cancelling()):
            return
        error = None if task.cancelled() else task.exception()
        self.failed.set_exception(cause_of(error) if error else RuntimeError("the control plane ended"))

    async def hand_over(self) -> None:
        """Asks the controller to take leaderships and ISR memberships away, unless there is none to do so."""
        self._stopping = True
        if self._lifecycle.broker_epoch is None:
            return
        asking = asyncio.ensure_future(self._lifecycle.stop(self._settings.controlled_shutdown_timeout_ms))
        try:
            while not asking.done():
                leaderless_since_ms = self._quorum.leaderless_since_ms
                if leaderless_since_ms is not None and _now_ms() - leaderless_since_ms > NOBODY_LEFT_MS:
                    log.warning("controlled_shutdown_without_controller", leaderless_ms=NOBODY_LEFT_MS)
                    return
                await asyncio.wait([asking], timeout=TURN_S)
        finally:
            asking.cancel()

    async def stop(self) -> None:
        """Leaves the quorum and closes the listeners."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])  # `_ended` has looked at its outcome
        await self._http.stop()
        # First the quorum: to hand leadership over it needs the streams that this listener carries.
        await self._quorum.stop()
        await self._server.stop(None)

    # --- from the quorum

    def on_committed(self, index: int, term: int, data: bytes) -> None:
        """The shell's publisher has it already."""

    def on_snapshot(self, index: int, term: int, data: bytes) -> None:
        """The shell's publisher has it already."""

    def on_leadership(self, leadership: Leadership) -> None:
        self._tell_quorum()

    def on_peer_dead(self, node_id: int) -> None:
        log.warning("peer_dead", node_id=node_id)

    def on_peer_alive(self, node_id: int) -> None:
        log.info("peer_alive", node_id=node_id)

    def _on_image(self, image: Image, delta: Delta) -> None:
        for node_id in delta.changed_brokers if not delta.snapshot else image.brokers:
            if node_id in image.brokers:
                self._quorum.set_address(node_id, image.brokers[node_id].control_address)
        for topic_id, number in delta.changed_partitions:
            self._count_isr_changes(self._image.partition(topic_id, number), image.partition(topic_id, number))
        if delta.quotas_changed:
            self._throttle.changed(image.quotas)
        self._image = image
        self._data.call(self._plane.apply_metadata, image, delta)

    def _on_events(self, events: Sequence[Event]) -> None:
        self._data.call(self._plane.history.add, events)

    def _count_isr_changes(self, before: Partition | None, now: Partition | None) -> None:
        if before is None or now is None or now.leader != self._settings.node_id:
            return
        metrics = self._plane.metrics
        metrics.isr_shrinks.inc(len(set(before.isr) - set(now.isr)))
        metrics.isr_expands.inc(len(set(now.isr) - set(before.isr)))

    # --- to and from the data loop

    def opened(self) -> None:
        """The data plane has recovered its logs and serves clients. Called from its thread."""
        self._loop.call_soon_threadsafe(self._opened.set)

    def applied(self) -> None:
        """The data loop has applied a newer image. Called from its thread."""
        self._loop.call_soon_threadsafe(self._lifecycle.metadata_applied)

    async def describe_quorum(self) -> cluster_pb2.DescribeQuorumResponse:
        """For the data loop's ClusterService: runs here, is awaited there."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._describe(), self._loop))

    async def render_metrics(self) -> bytes:
        """For the data loop, as `describe_quorum` is."""
        return (await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._metrics(), self._loop))).body

    async def _describe(self) -> cluster_pb2.DescribeQuorumResponse:
        return self._quorum.describe()

    def _tell_quorum(self) -> None:
        leadership = self._quorum.leadership
        if leadership.is_self:
            self._contact_ms = _now_ms()
        elif leadership.leader_id is not None:
            self._contact_ms = self._quorum.last_contact_ms(leadership.leader_id) or self._contact_ms
        view = QuorumView(
            leadership.leader_id,
            leadership.term,
            self._contact_ms,
            self._quorum.cluster_id or b"",
            self._controller_address() or "",
        )
        self._data.call(self._plane.set_quorum, view)

    def _on_registered(self, broker_epoch: int) -> None:
        self._directory.loss_reported()
        self._data.call(self._plane.set_broker_epoch, broker_epoch)

    def _plane_state(self) -> PlaneState:
        plane = self._plane
        return PlaneState(
            metadata_index=plane.applied_index,
            data_loop_age_ms=_now_ms() - plane.turned_ms,
            offline_partitions=plane.offline,
            disk_full=plane.broker.disk_full,
            wall_ms=plane.broker.wall_ms(),
            clock_ms=plane.broker.clock_ms(),
        )

    async def _log_ends(self, wanted: Sequence[tuple[bytes, int]]) -> list[LogEnd | None]:
        """What the data loop says of its logs, without waiting for one that hangs."""
        try:
            async with asyncio.timeout(LOOK_S):
                return await asyncio.wrap_future(self._data.submit(self._plane.log_ends(wanted)))
        except TimeoutError:
            return [None] * len(wanted)

    def _controller_address(self) -> str | None:
        leader = self._quorum.leadership.leader_id
        if leader is None:
            return None
        if leader == self._settings.node_id:
            return self._settings.advertised("control")
        broker = self._publisher.image.brokers.get(leader)
        remembered = dict(self._settings.voters).get(leader) if broker is None else broker.control_address
        return self._quorum.address(leader) or remembered

    # --- health and metrics

    @property
    def ready(self) -> bool:
        """Registered, unfenced, caught up, in touch with the controller, not on its way out, the data loop turns."""
        lifecycle = self._lifecycle
        registered = lifecycle.broker_epoch is not None and not lifecycle.fenced and lifecycle.caught_up
        return registered and lifecycle.heard and self._data_loop_turns and not self._stopping

    @property
    def _data_loop_turns(self) -> bool:
        return _now_ms() - self._plane.turned_ms < self._settings.broker_session_timeout_ms

    async def _watch(self) -> None:
        """Keeps the data loop's view of the quorum fresh, tells grpc.health.v1, and measures this loop's lag."""
        turns = 0
        while True:
            due = time.monotonic() + TURN_S
            await asyncio.sleep(TURN_S)
            self._lag.observe(max(0.0, time.monotonic() - due))
            turns += 1
            if turns % VIEW_EVERY_TURNS == 0:
                self._tell_quorum()
            if self.ready != self._ready:
                self._ready = self.ready
                log.info("ready" if self._ready else "not_ready", fenced=self._lifecycle.fenced)
                self._data.submit(self._plane.set_serving(self._ready))

    async def _guard(self, asking: Asking) -> Reply | None:
        """Who has a certificate, or is a user, and may describe the cluster, sees what is not health."""
        transport = self._transport
        assert isinstance(transport, Tls), "there is a guard with security alone"
        if not asking.encrypted:
            text = b"this takes https, and a certificate or a user: docs/security.md\n"
            return None if transport.takes_plain else Reply(403, text)
        try:
            if asking.certificate:
                who = transport.holder(asking.certificate)
            else:
                asked = self._data.submit(self._plane.who(asking.authorization, asking.host))
                who = await asyncio.wrap_future(asked)
            with acting_as(who, asking.host):
                self._access.check_cluster(DESCRIBE)
        except ApiError as error:
            denied = error.code == error_pb2.ERROR_CODE_CLUSTER_AUTHORIZATION_FAILED
            return Reply(403 if denied else 401, f"{error.message}\n".encode())
        return None

    async def _healthz(self) -> Reply:
        if self._data_loop_turns:
            return Reply(200, b"ok\n")
        age_ms = _now_ms() - self._plane.turned_ms
        return Reply(503, f"the data loop has not turned for {age_ms} ms\n".encode())

    async def _readyz(self) -> Reply:
        if self.ready:
            return Reply(200, b"ready\n")
        lifecycle, leadership = self._lifecycle, self._quorum.leadership
        if self._stopping:
            why = "stopping"
        elif not self._opened.is_set():
            why = "recovering logs"
        elif self._quorum.cluster_id is None:
            why = "the quorum has not formed yet"
        elif leadership.leader_id is None:
            why = "there is no active controller"
        elif lifecycle.broker_epoch is None:
            why = f"not registered with the controller, node {leadership.leader_id}"
        elif lifecycle.fenced:
            why = "fenced"
        elif not lifecycle.caught_up:
            why = "catching up with the metadata"
        elif not lifecycle.heard:
            why = f"the controller, node {leadership.leader_id}, does not answer"
        else:
            why = "the data loop does not turn"
        return Reply(503, f"not ready: {why}\n".encode())

    async def _metrics(self) -> Reply:
        """Made once for all who ask at a time: many scrapers must not hold the loop that heartbeats need."""
        async with self._rendering:
            if _now_ms() - self._rendered_ms >= METRICS_AGE_MS:
                self._rendered = await self._render()
                self._rendered_ms = _now_ms()
        return Reply(200, self._rendered, "text/plain; version=0.0.4; charset=utf-8")

    async def _render(self) -> bytes:
        # What only the data loop knows is asked of it, but not waited for where it hangs.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOK_S):
                self._waiting = await asyncio.wrap_future(self._data.submit(self._plane.waiting()))
        # Old figures would look like new ones: without an answer there are none.
        self._group_lags = ()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOK_S):
                lags = self._data.submit(self._plane.group_lags(LOOK_S / 2))
                self._group_lags = await asyncio.wrap_future(lags)
        return self._plane.metrics.render()

    def _gauges(self) -> dict[str, tuple[str, float | dict[str, float]]]:
        """What the committed image says of this node's partitions, and what the controller knows of leases."""
        image = self._publisher.image
        node_id = self._settings.node_id
        defaults = broker_defaults(image.broker_configs, self._settings.broker_configs)
        led = under_replicated = under_min_isr = at_min_isr = offline = replicas = 0
        for topic in image.all_topics():
            min_isr = min_isr_set(topic.configs, defaults)
            for partition in topic.partitions:
                offline += partition.leader == NO_LEADER
                replicas += node_id in partition.replicas
                if partition.leader == node_id:
                    led += 1
                    wanted = enough_in_sync(min_isr, partition.replication_factor)
                    under_replicated += len(partition.isr) < partition.replication_factor
                    under_min_isr += len(partition.isr) < wanted
                    at_min_isr += len(partition.isr) == wanted
        lifecycle, leadership, waiting = self._lifecycle, self._quorum.leadership, self._waiting
        active = leadership.is_self and leadership.serving
        expires: dict[str, tuple[str, float | dict[str, float]]] = {}
        if isinstance(self._transport, Tls):
            left_s = self._transport.expires.timestamp() - time.time()
            expires["ottla_certificate_expiry_seconds"] = ("Until this node's certificate expires.", left_s)
        return expires | {
            "ottla_under_replicated_partitions": ("Partitions led here with replicas out of sync.", under_replicated),
            "ottla_under_min_isr_partitions": ("Partitions led here that refuse acks=all.", under_min_isr),
            "ottla_at_min_isr_partitions": ("Partitions led here that bear no further loss.", at_min_isr),
            "ottla_offline_partitions": ("Partitions of the cluster without a leader.", offline),
            "ottla_offline_replicas": ("Replicas here whose log failed.", len(self._plane.offline)),
            "ottla_disk_full": ("1 while this node's disk is too full for producers.", int(waiting.disk_full)),
            "ottla_disk_free_bytes": ("Free bytes on this node's disk, at the last look.", waiting.disk_free_bytes),
            "ottla_clock_ahead_ms": (
                "How far this node's wall clock is ahead of the cluster's; 0 while that is not known.",
                waiting.clock_ahead_ms,
            ),
            "ottla_leader_partitions": ("Partitions led here.", led),
            "ottla_replica_partitions": ("Partitions with a replica here.", replicas),
            "ottla_active_controller": ("1 on the active controller.", int(active)),
            "ottla_broker_fenced": ("1 while this node is fenced.", int(lifecycle.fenced)),
            "ottla_delayed_produce_requests": ("Batches that wait for their acknowledgement.", self._waiting.produce),
            "ottla_delayed_fetch_requests": ("Long polls that wait for data.", self._waiting.fetch),
            "ottla_uncommitted_records_max": (
                "Records above the high watermark, in the partition led here that has most.",
                self._waiting.uncommitted_max,
            ),
            "ottla_metadata_index": ("The last metadata entry applied here.", image.index),
            "ottla_metadata_commit_index": (
                "The last metadata entry known to be committed.",
                self._quorum.commit_index,
            ),
            "ottla_quorum_term": ("The quorum's term.", leadership.term),
            "ottla_data_loop_age_seconds": (
                "Since the data loop last turned.",
                (_now_ms() - self._plane.turned_ms) / 1000,
            ),
            "ottla_broker_lease_age_seconds": (
                "By broker, on the active controller: since it was last heard.",
                {str(node): age_ms / 1000 for node, age_ms in self._shell.lease_ages_ms().items()},
            ),
        }


async def _until(core: "asyncio.Future[Any]") -> None:
    await asyncio.shield(core)


def _now_ms() -> int:
    return time.monotonic_ns() // 1_000_000
