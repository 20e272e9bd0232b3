"""The data plane: partitions, client services, replication. Everything here lives on the data loop, in its own thread.

The control loop hands over immutable values (`apply_metadata`, `set_quorum`) and reads one number (`turned_ms`); what
the data loop wants from it goes through callables that are safe to call from another thread.
"""

import asyncio
import contextlib
import functools
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import grpc
import structlog

from node import limits
from node.api.coordination import Coordination
from node.api.fetch import FetchApi
from node.api.groups import GroupsApi
from node.api.in_flight import InFlight
from node.api.offsets import OffsetsApi
from node.api.produce import ProduceApi
from node.api.replicas import ReplicasApi
from node.api.throttle import Throttle
from node.api.view import ClusterView, QuorumView
from node.broker.broker import Broker
from node.broker.controller_client import ControllerClient
from node.broker.lifecycle import LogEnd
from node.broker.replication import ReplicationService
from node.broker.settings import BrokerSettings
from node.capacity import of_process
from node.config import Settings, split_address
from node.core_task import core
from node.fail_stop import stop_if_broken
from node.groups.shell import GroupShell
from node.groups.stage import GroupSettings
from node.history.store import History
from node.hooks import Hooks
from node.kafka.port import KafkaPort
from node.logins import Gate
from node.metadata.image import Delta, Image
from node.metrics import Metrics
from node.principal import Principal
from node.process import trim_when_idle
from node.quorum.links import not_here
from node.services import listener, receive
from node.services.acls import ControllerAcls
from node.services.admin import AdminForwarder
from node.services.auto_create import AutoCreate
from node.services.cluster import ClusterServicer, DescribeQuorum
from node.services.diagnosis import Diagnosis
from node.services.fetch import Fetcher
from node.services.fetch_stream import FetchStreams
from node.services.group_lag import GroupLags, LagSample
from node.services.groups import SERVICE as GROUPS
from node.services.groups import GroupServices
from node.services.health import HEALTH, REFLECTION, Health, Reflection
from node.services.imports import Imports
from node.services.offsets import Offsets
from node.services.peers import Peers
from node.services.positions import Positions
from node.services.produce import Producer, UnaryProduce, parse_request
from node.services.produce_stream import ProduceStreams
from node.services.quotas import ControllerQuotas
from node.services.sessions import SERVICE as LOGIN
from node.services.sessions import Sessions
from node.services.topics import ControllerTopics
from node.services.users import ControllerUsers
from node.services.why import Why
from node.tls import Tls
from node.transport import PLAIN, Transport, for_whom
from node.turns import Turns
from ottla.internal.v1 import replication_pb2
from ottla.protocol.acls import IDEMPOTENT_WRITE, TOPIC, WRITE
from ottla.v1 import admin_pb2, cluster_pb2, data_pb2
from storage.directory import LogDirectory
from storage.errors import StorageError
from storage.fs import FileSystem

if TYPE_CHECKING:
    from node.kafka.service import KafkaService

log = structlog.get_logger(__name__)

TURN_S: Final = 0.05
NO_EPOCH: Final = -1
DRAIN_S: Final = 0.2
LOGS_AT_ONCE: Final = 20
"""Logs that are made between two turns of the loop: a millisecond each."""
DATA: Final = data_pb2.DESCRIPTOR.services_by_name["DataService"]
CLUSTER: Final = cluster_pb2.DESCRIPTOR.services_by_name["ClusterService"]
ADMIN: Final = admin_pb2.DESCRIPTOR.services_by_name["AdminService"]
REPLICATION: Final = replication_pb2.DESCRIPTOR.services_by_name["ReplicationService"]
PUBLIC: Final = [service.full_name for service in (DATA, CLUSTER, ADMIN, GROUPS, LOGIN)]


class Waiting(NamedTuple):
    """Who waits on the data loop, and how full the disk is, for the metrics."""

    produce: int = 0
    fetch: int = 0
    uncommitted_max: int = 0
    disk_full: bool = False
    disk_free_bytes: int = 0
    clock_ahead_ms: int = 0


class DataPlane:
    """Made, run and stopped on the data loop. `opened`: the logs are recovered and clients are served."""

    def __init__(
        self,
        settings: Settings,
        directory: LogDirectory,
        fs: FileSystem,
        *,
        describe_quorum: DescribeQuorum,
        render_metrics: Callable[[], Awaitable[bytes]],
        on_opened: Callable[[], None],
        on_applied: Callable[[], None],
        hooks: Hooks | None = None,
        transport: Transport = PLAIN,
    ) -> None:
        self._settings = settings
        self._transport = transport
        self._hooks = hooks
        self.metrics = Metrics()
        self._capacity = of_process()
        self.view = ClusterView(settings.node_id, dict(settings.voters), settings.access_rules)
        self.history = History()
        self.broker = Broker(
            node_id=settings.node_id,
            directory=directory,
            fs=fs,
            settings=BrokerSettings(
                replica_lag_time_max_ms=settings.replica_lag_time_max_ms,
                replica_fetch_max_bytes=settings.replica_fetch_max_bytes,
                replica_fetch_response_max_bytes=settings.replica_fetch_response_max_bytes,
                replica_fetch_backoff_ms=settings.replica_fetch_backoff_ms,
                high_watermark_checkpoint_interval_ms=settings.replica_high_watermark_checkpoint_interval_ms,
                retention_check_interval_ms=settings.log_retention_check_interval_ms,
                producer_id_expiration_ms=settings.producer_id_expiration_ms,
                scrub_interval_ms=settings.log_scrub_interval_ms,
                disk_watermark_bytes=settings.disk_watermark_bytes,
                disk_watermark_percent=settings.disk_watermark_percent,
                partitions_max=self._capacity.partitions,
                open_segments_max=self._capacity.segments,
            ),
            defaults=settings.broker_configs,
            controller_address=self.view.controller_address,
            controller_id=lambda: self.view.quorum.leader_id,
            transport=transport,
            on_damage=lambda file, offset: self.metrics.damage_found(),
        )
        if hooks is not None:
            self.broker.wall_skew_ms = lambda: hooks.clock_ms
        self._on_opened = on_opened
        self._on_applied = on_applied
        self.opened = asyncio.Event()
        self._recovered = False
        self._early: list[tuple[Image, Delta]] | None = []
        self._images: deque[tuple[Image, Delta]] = deque()
        self._taking_over: asyncio.Task[None] | None = None
        # Read by the control loop.
        self.turned_ms = _now_ms()
        self.applied_index = 0
        self.offline: tuple[tuple[bytes, int], ...] = ()
        self._in_flight = InFlight(limits.in_flight_bytes(settings.in_flight_max_bytes))
        self._turns = Turns()
        self._peers = Peers(self.view, transport)
        self._admin = AdminForwarder(self.view, self.metrics, transport)
        self._auto_create = AutoCreate(self._admin)
        if settings.auto_create_topics_enable:
            self.view.create_topic = self._auto_create.want
        self._describe_quorum = describe_quorum
        self._render_metrics = render_metrics
        self._groups = GroupShell(
            self.broker,
            GroupSettings(
                session_timeout_ms=settings.group_consumer_session_timeout_ms,
                offsets_retention_ms=settings.offsets_retention_minutes * 60_000,
            ),
            random.Random(),
        )
        self._groups_api = GroupsApi(self._groups, self._in_flight, self.view)
        self._positions = Positions(self.broker, self.view, self._peers)
        self._lags = GroupLags(self._groups, self.view, self._positions, self.metrics.groups_unlisted.set)
        self._controller = ControllerClient(self.view.controller_address, lambda: self.view.quorum.leader_id, transport)
        self._coordination = Coordination(self.view, self._groups.partition_for, self._controller.make_internal_topic)
        self._gate = Gate(lambda: self.view.image)
        self._sessions = Sessions(self._gate, lambda: self.view.image, self._time_ms, encrypted=transport.is_encrypted)
        self.view.subscribe(self._sessions.changed)
        self._servers: list[grpc.aio.Server] = []
        self._kafka: KafkaPort | None = None
        self._health = Health(PUBLIC)
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def _open(self) -> None:
        """Recovers the logs, catches up with the metadata, opens both listeners."""
        await self.broker.start()
        self._recovered = True
        early, self._early = self._early, None
        for image, delta in early or ():
            self.apply_metadata(image, delta)
        public = listener.make_server(
            self._settings.socket_request_max_bytes,
            self._hooks,
            streams_max=limits.CLIENT_STREAMS_MAX,
            connections_max=self._capacity.connections // (2 if self._settings.serves_kafka else 1),
        )
        self._add_services(public, forwarded=False)
        between = listener.make_server(
            2 * self._settings.socket_request_max_bytes, self._hooks, connections_max=self._capacity.peers
        )
        self._add_services(between, forwarded=True)
        listener.add_service(
            between,
            REPLICATION,
            {"Fetch": ReplicationService(self.broker).serve, "LookUp": self._positions.serve},
            self.metrics,
            identify=for_whom(self._transport),
            responses={"Fetch": listener.passes},
        )
        self._servers = [public, between]
        for server in self._servers:
            not_here(server, self._settings.node_id, self._settings.advertised("control"), self._transport)
        if self._settings.serves_kafka:
            # Who logs in with a password need not have a certificate.
            certified = self._settings.kafka_authentication == "off"
            if isinstance(self._transport, Tls):
                context = self._transport.context(certified=certified)
                plain = self._transport.takes_plain
                self._kafka = KafkaPort(
                    self._kafka_service, self._is_part, self.view.changed, context, takes_plain=plain
                )
            else:
                self._kafka = KafkaPort(self._kafka_service, self._is_part, self.view.changed)
            for each in self._settings.kafka_listeners:
                await self._kafka.open(each.name, *split_address(each.address))
        for server, name in ((public, "public"), (between, "replication")):
            certified = server is between or not self._for_users
            listener.listen(server, self._settings.listener(name), name, self._transport, certified=certified)
        for server in self._servers:
            await server.start()

    def _is_part(self) -> bool:
        """Whether the image is of this start: it has this node registered, and live."""
        own = self.view.image.brokers.get(self._settings.node_id)
        return own is not None and not own.fenced and own.broker_epoch == self.broker.broker_epoch

    def _kafka_service(self) -> "KafkaService":
        # Imported by nodes alone that have clients of Kafka: fifty modules of codecs.
        from node.kafka.addresses import Addresses, of_container
        from node.kafka.service import KafkaService, Rooms

        settings = self._settings
        said = {each.name for each in settings.kafka_listeners if each.is_said}
        broker, view, metrics = self.broker, self.view, self.metrics
        topics = ControllerTopics(self._admin)
        return KafkaService(
            Rooms(
                view,
                ProduceApi(broker, view, metrics),
                FetchApi(broker, self.view.access),
                OffsetsApi(broker),
                topics,
                ControllerUsers(topics),
                ControllerAcls(topics),
                ControllerQuotas(topics),
                ReplicasApi(broker, view),
                self._coordination,
                self._groups_api,
                self._in_flight,
                metrics,
                self._allocate_producer_id,
                _shown_to_kafka(self._settings),
                ClusterServicer(view, self._peers, self._describe_quorum, forwarded=False).quorum,
            ),
            addresses=Addresses(settings.endpoints, said, of_container()),
            grpc_address=settings.advertised("public"),
            turns=self._turns,
            request_max_bytes=self._settings.socket_request_max_bytes,
            connections_max=self._capacity.connections // 2,
            received_max_bytes=self._in_flight.limit_bytes,
            converted_max_bytes=settings.kafka_converted_max_bytes,
            gate=self._gate if self._settings.kafka_authentication == "sasl" else None,
            certified=self._transport.holder if isinstance(self._transport, Tls) else None,
        )

    def _add_services(self, server: grpc.aio.Server, *, forwarded: bool) -> None:
        settings, metrics, view, peers, broker = self._settings, self.metrics, self.view, self._peers, self.broker
        add = functools.partial(
            listener.add_service,
            server,
            metrics=metrics,
            records_max_bytes=settings.socket_request_max_bytes,
            slack=2 if forwarded else 1,
            check_cluster=None if forwarded else view.check_cluster,
            turns=self._turns,
            forwarded=forwarded,
            identify=for_whom(self._transport) if forwarded else self._transport.identify,
            sessions=self._sessions if self._for_users and not forwarded else None,
            receiver=receive.Receiver(),
            in_flight=self._in_flight,
        )
        producer = Producer(ProduceApi(broker, view, metrics), view, metrics)
        in_flight = self._in_flight
        # What is passed on counted where it came in.
        throttle = Throttle() if forwarded else view.throttle
        unary = UnaryProduce(producer, view, peers, in_flight, throttle, forwarded=forwarded)
        fetcher = Fetcher(
            FetchApi(broker, self.view.access),
            view,
            peers,
            metrics,
            in_flight,
            throttle,
            fetch_max_bytes=settings.fetch_max_bytes,
            forwarded=forwarded,
        )
        offsets = Offsets(broker, view, peers, metrics, forwarded=forwarded)
        data: dict[str, Callable[..., Awaitable[Any]]] = {
            "Produce": unary.produce,
            "ProduceStream": ProduceStreams(producer, peers, in_flight, throttle, forwarded=forwarded).serve,
            "Send": unary.send,
            "Fetch": fetcher.fetch,
            "FetchStream": FetchStreams(fetcher, metrics).serve,
            "ListOffsets": offsets.list_offsets,
            "OffsetForLeaderEpoch": offsets.offset_for_leader_epoch,
            "InitProducerId": self._init_producer_id,
        }
        add(
            DATA,
            data,
            requests={"Produce": unary.parse, "ProduceStream": parse_request},
            responses={"Fetch": listener.passes, "FetchStream": listener.passes},
        )
        imports = Imports(broker, view, peers, metrics, in_flight, throttle, forwarded=forwarded)
        passed_on = self._admin.handlers()
        add(
            ADMIN,
            {
                **passed_on,
                "DeleteRecords": offsets.delete_records,
                "ExportBatches": imports.export_batches,
                "ImportBatches": imports.import_batches,
            },
            requests=dict.fromkeys(passed_on, listener.passes),
            responses=dict.fromkeys(passed_on, listener.passes),
        )
        # What a coordinator asks leaders is its own question, not the hop of a call that was passed on to it.
        lookups = Offsets(broker, view, peers, metrics, forwarded=False)
        groups = GroupServices(
            self._groups,
            self._groups_api,
            view,
            peers,
            lookups,
            self._lags,
            self._coordination,
            self._in_flight,
            forwarded=forwarded,
        )
        add(GROUPS, groups.handlers())
        cluster = ClusterServicer(view, peers, self._describe_quorum, forwarded=forwarded)
        why = Why(
            view,
            self.history,
            settings.broker_configs,
            self._groups,
            self._groups_api,
            self._coordination,
            peers,
            forwarded=forwarded,
        )
        add(
            CLUSTER,
            {
                "GetVersion": cluster.get_version,
                "GetMetadata": cluster.get_metadata,
                "WatchMetadata": cluster.watch_metadata,
                "DescribeQuorum": cluster.describe_quorum,
                "DescribeNode": Diagnosis(settings, view, peers, self._render_metrics, forwarded=forwarded).describe,
                "ListEvents": why.list_events,
                "Explain": why.explain,
            },
            responses={"GetMetadata": listener.passes, "WatchMetadata": listener.passes},
        )
        if not forwarded:
            health = self._health
            add(HEALTH, {"Check": health.check, "List": health.list, "Watch": health.watch})
            add(REFLECTION, {"ServerReflectionInfo": Reflection(PUBLIC).serve})
            # Where nobody has to log in, too: clients may have their users before all nodes ask for them.
            login = self._sessions
            add(LOGIN, {"BeginScram": login.begin_scram, "FinishScram": login.finish_scram})

    async def _init_producer_id(self, _request: Any, _context: Any) -> data_pb2.InitProducerIdResponse:
        return data_pb2.InitProducerIdResponse(producer_id=await self._allocate_producer_id())

    async def _allocate_producer_id(self) -> int:
        """For whoever may write to any topic."""
        self.view.access.check_any(WRITE, TOPIC, IDEMPOTENT_WRITE)
        return await self.broker.allocate_producer_id()

    @property
    def _for_users(self) -> bool:
        """Whether who calls at the public listener must be a user."""
        return self._settings.public_authentication == "token"

    def _time_ms(self) -> int:
        """The cluster's time, where it is known."""
        now_ms = self.broker.clock.now_ms()
        return self.broker.wall_ms() if now_ms is None else now_ms

    async def run(self) -> None:
        """Opens, then keeps house until cancelled. What ends it ends the node: OSError where a port is taken."""
        async with asyncio.TaskGroup() as group:
            group.create_task(core(self._turn()))
            await self._open()
            self.opened.set()
            self._on_opened()
            group.create_task(core(self._peers.run()))
            group.create_task(trim_when_idle(self.metrics.busy))
            group.create_task(core(self._watch(self.broker.failed)))
            group.create_task(core(self._watch(self._groups.failed)))
            if self._kafka is not None:
                group.create_task(core(self._kafka.run()))

    async def _turn(self) -> None:
        """Shows the control loop that this one turns, and measures how late it does."""
        lag = self.metrics.loop_lag_seconds.labels(loop="data")
        while True:
            due = time.monotonic() + TURN_S
            await asyncio.sleep(TURN_S)
            self.turned_ms = _now_ms()
            if self.broker.offline or self.offline:
                self.offline = tuple(self.broker.offline_partitions())
            lag.observe(max(0.0, time.monotonic() - due))

    async def _watch(self, failed: asyncio.Future[None]) -> None:
        await failed

    async def waiting(self) -> Waiting:
        """Counts what waits, over all partitions led here."""
        led = [partition for partition in self.broker.partitions.values() if partition.leader is not None]
        readers = {reader for partition in led for reader in partition.readers}
        lags = (partition.log.log_end_offset - max(0, partition.high_watermark) for partition in led)
        disk = self.broker.guard
        produce = sum(len(partition.acks) for partition in led)
        ahead_ms = self.broker.clock.ahead_ms() or 0
        return Waiting(produce, len(readers), max(lags, default=0), disk.full, disk.free_bytes, ahead_ms)

    async def log_ends(self, wanted: Sequence[tuple[bytes, int]]) -> list[LogEnd | None]:
        """Where the logs of partitions without a leader end; None for one that is not here, or failed."""
        return [self._log_end(topic_id, number) for topic_id, number in wanted]

    def _log_end(self, topic_id: bytes, number: int) -> LogEnd | None:
        partition = self.broker.partition(topic_id, number)
        if partition is None or partition.state is None or partition.offline is not None:
            return None
        last_epoch = partition.log.epochs.latest_epoch
        return LogEnd(
            NO_EPOCH if last_epoch is None else last_epoch,
            partition.log.log_end_offset,
            partition.state.leader_epoch,
        )

    async def group_lags(self, timeout_s: float) -> tuple[LagSample, ...]:
        """How far the groups coordinated here are behind, for the metrics."""
        return await self._lags.samples(timeout_s)

    def apply_metadata(self, image: Image, delta: Delta) -> None:
        """Takes over the next image. An error here is a bug: it stops the node, for what follows would build on it."""
        if self._early is not None:
            # The quorum does not wait for the recovery of a node's logs; they wait for it here.
            self._early.append((image, delta))
            return
        self._images.append((image, delta))
        if self._taking_over is None:
            wanted = self.broker.logs_to_make(image, delta)
            if len(wanted) > LOGS_AT_ONCE:
                self._taking_over = asyncio.create_task(self._take_over())
                self._taking_over.add_done_callback(self._took_over)
            else:
                self._take(*self._images.popleft())

    async def _take_over(self) -> None:
        """Images with many new partitions, and what came after them: their logs are made first, a few at a time, so
        that neither one new topic nor a start with an empty disk ever holds the loop. Until then this node knows of
        the images before, as one that lags."""
        while self._images:
            image, delta = self._images[0]
            for count, key in enumerate(self.broker.logs_to_make(image, delta), 1):
                topic = image.topic(key[0])
                assert topic is not None, "a partition has a topic"
                with contextlib.suppress(StorageError, OSError):
                    # What fails here is tried again, and told, when the image is taken over.
                    self.broker.made[key] = self.broker.make_log(key, topic)
                if count % LOGS_AT_ONCE == 0:
                    await asyncio.sleep(0)
            self._images.popleft()
            self._take(image, delta)
            await asyncio.sleep(0)

    def _took_over(self, done: asyncio.Task[None]) -> None:
        self._taking_over = None
        if not done.cancelled() and (error := done.exception()) is not None and not self.failed.done():
            self.failed.set_exception(error)

    def _take(self, image: Image, delta: Delta) -> None:
        try:
            self.broker.apply_metadata(image, delta)
            self.view.apply(image, delta)
            self._groups.apply_metadata(image, delta, self._settings.node_id)
            self.applied_index = image.index
            self._on_applied()
        except Exception as error:
            log.critical("metadata_not_applied", index=image.index, exc_info=error)
            if not self.failed.done():
                self.failed.set_exception(error)
            stop_if_broken(error)

    def set_quorum(self, quorum: QuorumView) -> None:
        self.view.set_quorum(quorum)

    def set_broker_epoch(self, broker_epoch: int) -> None:
        """What this node knows already may hold the registration, and gives it its logs: it is taken over once more,
        unless a newer image waits to be."""
        if broker_epoch == self.broker.broker_epoch:
            return
        self.broker.broker_epoch = broker_epoch
        if self._early is None and not self._images:
            self.apply_metadata(self.broker.image, Delta(snapshot=True))

    async def who(self, authorization: str, host: str) -> Principal:
        """The user that a header of HTTP is from. Raises ApiError."""
        return await self._sessions.who(authorization, f"ipv4:{host}:0" if ":" not in host else f"ipv6:[{host}]:0")

    async def set_serving(self, serving: bool) -> None:
        """What grpc.health.v1 answers."""
        self._health.set_serving(serving)

    async def stop(self) -> bool:
        """Ends the listeners, then the broker. Returns whether all logs were closed cleanly."""
        if not self._recovered:
            return False
        await self._groups.stop()  # first: members hear that they are to go elsewhere
        await asyncio.gather(*(server.stop(DRAIN_S) for server in self._servers))
        if self._kafka is not None:
            await self._kafka.stop()
        self._gate.stop()
        await self._controller.close()
        if self._taking_over is not None:
            self._taking_over.cancel()
        await self._auto_create.stop()
        await self._admin.stop()
        return await self.broker.stop()


def _shown_to_kafka(settings: Settings) -> dict[str, str]:
    """Settings by the names under which clients of Kafka look for them among the configs of a broker."""
    return {
        "auto.create.topics.enable": str(settings.auto_create_topics_enable).lower(),
        "broker.id": str(settings.node_id),
        "broker.rack": settings.broker_rack,
        "log.dirs": str(settings.data_dir),
        "node.id": str(settings.node_id),
        "offsets.retention.minutes": str(settings.offsets_retention_minutes),
        "replica.lag.time.max.ms": str(settings.replica_lag_time_max_ms),
        "socket.request.max.bytes": str(settings.socket_request_max_bytes),
    }


def _now_ms() -> int:
    return time.monotonic_ns() // 1_000_000
