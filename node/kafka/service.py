"""The listener for clients of Apache Kafka: its port, its bounds, and which handler serves which API."""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from node import limits
from node.api.acls import AclsApi
from node.api.coordination import Coordination
from node.api.fetch import FetchApi
from node.api.groups import GroupsApi
from node.api.in_flight import InFlight
from node.api.offsets import OffsetsApi
from node.api.produce import ProduceApi
from node.api.quotas import QuotasApi
from node.api.replicas import ReplicasApi
from node.api.topics import TopicsApi
from node.api.users import UsersApi
from node.api.view import ClusterView
from node.kafka import login
from node.kafka.addresses import Addresses
from node.kafka.codec import SASL_AUTHENTICATE
from node.kafka.connection import Call, Connection, Listener
from node.kafka.convert import Converted
from node.kafka.frames import FrameLimits
from node.kafka.handlers import (
    acls,
    cluster,
    configs,
    consumers,
    fetch,
    groups,
    members,
    moves,
    none_here,
    offsets,
    positions,
    produce,
    producers,
    quorum,
    quotas,
    replicas,
    topic_pages,
    topics,
    users,
)
from node.kafka.handlers.cluster_facts import ClusterFacts, Later, later, one_by_one
from node.kafka.messages import APIS
from node.kafka.port import BACKLOG
from node.kafka.registry import Handler, Registry
from node.kafka.rights import RIGHTS
from node.kafka.wire import Message
from node.logins import Gate
from node.metadata.image import Delta
from node.metrics import Metrics
from node.principal import Principal
from node.sniff import Sniffer, peer_of
from node.turns import Turns
from ottla.secure.diagnosis import why_not_shaken

if TYPE_CHECKING:
    import ssl

PRODUCE, FETCH, LIST_OFFSETS, METADATA, OFFSET_COMMIT, OFFSET_FETCH, FIND_COORDINATOR = 0, 1, 2, 3, 8, 9, 10
OFFSET_FOR_LEADER_EPOCH = 23
JOIN_GROUP, HEARTBEAT, LEAVE_GROUP, SYNC_GROUP = 11, 12, 13, 14
CONSUMER_GROUP_HEARTBEAT, CONSUMER_GROUP_DESCRIBE = 68, 69
DESCRIBE_GROUPS, LIST_GROUPS, DELETE_GROUPS = 15, 16, 42
CREATE_TOPICS, DELETE_TOPICS, INIT_PRODUCER_ID, OFFSET_DELETE = 19, 20, 22, 47
DELETE_RECORDS, DESCRIBE_LOG_DIRS, CREATE_PARTITIONS, ELECT_LEADERS = 21, 35, 37, 43
DESCRIBE_QUORUM, DESCRIBE_CLUSTER, DESCRIBE_TOPIC_PARTITIONS = 55, 60, 75
ALTER_REASSIGNMENTS, LIST_REASSIGNMENTS, DESCRIBE_PRODUCERS, LIST_TRANSACTIONS = 45, 46, 61, 66
UNREGISTER_BROKER = 64
DESCRIBE_CONFIGS, ALTER_CONFIGS, INCREMENTAL_ALTER_CONFIGS = 32, 33, 44
DESCRIBE_USERS, ALTER_USERS = 50, 51
DESCRIBE_ACLS, CREATE_ACLS, DELETE_ACLS = 29, 30, 31
DESCRIBE_QUOTAS, ALTER_QUOTAS = 48, 49
IDLE_S: Final = 600.0
LOOK_S: Final = 2.0
HANDSHAKE_S: Final = 5.0
SHAKING_MAX: Final = 1000
"""Handshakes under way."""


class Rooms(NamedTuple):
    """What the handlers ask."""

    view: ClusterView
    produce: ProduceApi
    fetch: FetchApi
    offsets: OffsetsApi
    topics: TopicsApi
    users: UsersApi
    acls: AclsApi
    quotas: QuotasApi
    replicas: ReplicasApi
    coordination: Coordination
    groups: GroupsApi
    in_flight: InFlight
    metrics: Metrics
    allocate_producer_id: Callable[[], Awaitable[int]]
    settings: Mapping[str, str]
    """Of this node, those that clients look for among the configs of a broker."""
    describe_quorum: quorum.Describe


class KafkaService:
    """Used on the data loop. `request_max_bytes`: of a request with records. `gate`: clients log in there first.
    `certified` tells who a client's certificate is for."""

    def __init__(
        self,
        rooms: Rooms,
        *,
        addresses: Addresses,
        grpc_address: str,
        turns: Turns,
        request_max_bytes: int,
        connections_max: int,
        received_max_bytes: int,
        converted_max_bytes: int,
        gate: Gate | None = None,
        certified: Callable[[Any], Principal] | None = None,
    ) -> None:
        self._converted_max_bytes = converted_max_bytes
        self._metrics = rooms.metrics
        self._addresses = addresses
        self._view = rooms.view
        self.facts = ClusterFacts(rooms.view, addresses)
        self.registry = Registry()
        self.listener = Listener(
            self.registry,
            FrameLimits(limits.PLAIN_REQUEST_MAX_BYTES, {PRODUCE: request_max_bytes}),
            connections_max,
            received_max_bytes,
            addresses=addresses,
            grpc_address=grpc_address,
            turns=turns,
            certified=certified,
            in_flight=rooms.in_flight,
            throttle=rooms.view.throttle,
        )
        self._servers: list[asyncio.Server] = []
        self._sniffers: list[Sniffer] = []
        self._shaking: set[asyncio.Task[None]] = set()
        self._add_all(rooms)
        if gate is not None:
            self._add_login(gate, rooms.view)

    def _add_all(self, rooms: Rooms) -> None:
        facts, metrics = self.facts, rooms.metrics
        converted = Converted(self._converted_max_bytes)
        produces = produce.ProduceHandler(rooms.produce, facts, rooms.in_flight, metrics)
        fetches = fetch.FetchHandler(rooms.fetch, facts, rooms.in_flight, converted, metrics)
        self.add(PRODUCE, produce.LOW, produce.HIGH, produces)
        self.add(FETCH, fetch.LOW, fetch.HIGH, fetches)
        lists = offsets.ListOffsetsHandler(rooms.offsets, facts, metrics)
        self.add_later(LIST_OFFSETS, offsets.LIST_LOW, offsets.LIST_HIGH, lists)
        epochs = offsets.OffsetForLeaderEpochHandler(rooms.offsets, facts, metrics)
        self.add_later(OFFSET_FOR_LEADER_EPOCH, offsets.EPOCH_LOW, offsets.EPOCH_HIGH, epochs)
        self.add_later(METADATA, cluster.METADATA_LOW, cluster.METADATA_HIGH, cluster.MetadataHandler(facts))
        finds = cluster.FindCoordinatorHandler(rooms.coordination, facts)
        self.add_later(FIND_COORDINATOR, cluster.COORDINATOR_LOW, cluster.COORDINATOR_HIGH, finds)
        inits = offsets.InitProducerIdHandler(rooms.allocate_producer_id)
        self.add_later(INIT_PRODUCER_ID, offsets.INIT_LOW, offsets.INIT_HIGH, inits)
        self._add_admin(rooms)
        self._add_groups(rooms)

    def _add_admin(self, rooms: Rooms) -> None:
        facts, api = self.facts, rooms.topics
        self.add(DESCRIBE_CLUSTER, cluster.CLUSTER_LOW, cluster.CLUSTER_HIGH, cluster.DescribeClusterHandler(facts))
        self.add_admin(CREATE_TOPICS, topics.CREATE_LOW, topics.CREATE_HIGH, topics.CreateTopicsHandler(api))
        self.add_admin(DELETE_TOPICS, topics.DELETE_LOW, topics.DELETE_HIGH, topics.DeleteTopicsHandler(api))
        self.add_admin(CREATE_PARTITIONS, topics.GROW_LOW, topics.GROW_HIGH, topics.CreatePartitionsHandler(api))
        describes = configs.DescribeConfigsHandler(api, rooms.in_flight, rooms.view.node_id, rooms.settings)
        self.add_admin(DESCRIBE_CONFIGS, configs.DESCRIBE_LOW, configs.DESCRIBE_HIGH, describes)
        alters = configs.AlterConfigsHandler(api)
        self.add_admin(ALTER_CONFIGS, configs.ALTER_LOW, configs.ALTER_HIGH, alters.replacing)
        self.add_admin(INCREMENTAL_ALTER_CONFIGS, configs.INCREMENTAL_LOW, configs.INCREMENTAL_HIGH, alters.incremental)
        deletes = replicas.DeleteRecordsHandler(rooms.offsets, facts, rooms.metrics)
        self.add_admin(DELETE_RECORDS, replicas.DELETE_LOW, replicas.DELETE_HIGH, deletes)
        self.add_admin(ELECT_LEADERS, replicas.ELECT_LOW, replicas.ELECT_HIGH, replicas.ElectLeadersHandler(api))
        of_quorum = quorum.DescribeQuorumHandler(rooms.describe_quorum, rooms.produce.wall_ms)
        self.add_admin(DESCRIBE_QUORUM, quorum.LOW, quorum.HIGH, of_quorum)
        of_users = users.UserHandlers(rooms.users)
        self.add_admin(DESCRIBE_USERS, users.DESCRIBE_LOW, users.DESCRIBE_HIGH, of_users.describe)
        self.add_admin(ALTER_USERS, users.ALTER_LOW, users.ALTER_HIGH, of_users.alter)
        of_acls = acls.AclHandlers(rooms.acls)
        self.add_admin(DESCRIBE_ACLS, acls.LOW, acls.HIGH, of_acls.describe)
        self.add_admin(CREATE_ACLS, acls.LOW, acls.HIGH, of_acls.create)
        self.add_admin(DELETE_ACLS, acls.LOW, acls.HIGH, of_acls.delete)
        of_quotas = quotas.QuotaHandlers(rooms.quotas)
        self.add_admin(DESCRIBE_QUOTAS, quotas.LOW, quotas.HIGH, of_quotas.describe)
        self.add_admin(ALTER_QUOTAS, quotas.LOW, quotas.HIGH, of_quotas.alter)
        self.add_admin(
            DESCRIBE_TOPIC_PARTITIONS, topic_pages.LOW, topic_pages.HIGH, topic_pages.TopicPagesHandler(facts)
        )
        dirs = replicas.DescribeLogDirsHandler(rooms.replicas, rooms.view.access)
        self.add_admin(DESCRIBE_LOG_DIRS, replicas.DIRS_LOW, replicas.DIRS_HIGH, dirs)
        of_producers = producers.DescribeProducersHandler(rooms.replicas)
        self.add_admin(DESCRIBE_PRODUCERS, producers.LOW, producers.HIGH, of_producers)
        of_moves = moves.MoveHandlers(api, rooms.view)
        self.add_admin(ALTER_REASSIGNMENTS, moves.ALTER_LOW, moves.ALTER_HIGH, of_moves.alter)
        self.add_admin(LIST_REASSIGNMENTS, moves.LIST_LOW, moves.LIST_HIGH, of_moves.list)
        self.add_admin(UNREGISTER_BROKER, moves.UNREGISTER_LOW, moves.UNREGISTER_HIGH, of_moves.unregister)
        low, high = none_here.TRANSACTIONS_LOW, none_here.TRANSACTIONS_HIGH
        self.add(LIST_TRANSACTIONS, low, high, none_here.transactions)

    def _add_login(self, gate: Gate, view: ClusterView) -> None:
        self.listener.login = lambda: login.Login(gate)

        def changed(delta: Delta | None) -> None:
            if delta is not None and delta.users_changed:
                login.end_withdrawn(self.listener.connections)

        view.subscribe(changed)
        shakes, authenticates = login.HANDSHAKE_HIGH, login.AUTHENTICATE_HIGH
        self.add(login.SASL_HANDSHAKE, 0, shakes, lambda message, call: _login(call).handshake(message, call))
        self.add(SASL_AUTHENTICATE, 0, authenticates, lambda message, call: _login(call).authenticate(message, call))

    def _add_groups(self, rooms: Rooms) -> None:
        api, metrics = rooms.groups, rooms.metrics
        handlers = members.MemberHandlers(api, metrics)
        self.add(JOIN_GROUP, members.JOIN_LOW, members.JOIN_HIGH, handlers.join)
        self.add(HEARTBEAT, members.HEARTBEAT_LOW, members.HEARTBEAT_HIGH, handlers.heartbeat)
        self.add(LEAVE_GROUP, members.LEAVE_LOW, members.LEAVE_HIGH, handlers.leave)
        self.add(SYNC_GROUP, members.SYNC_LOW, members.SYNC_HIGH, handlers.sync)
        of_consumers = consumers.ConsumerHandlers(api, self.facts, metrics)
        low, high = consumers.HEARTBEAT_LOW, consumers.HEARTBEAT_HIGH
        self.add_later(CONSUMER_GROUP_HEARTBEAT, low, high, of_consumers.heartbeat)
        low, high = consumers.DESCRIBE_LOW, consumers.DESCRIBE_HIGH
        self.add_later(CONSUMER_GROUP_DESCRIBE, low, high, of_consumers.describe)
        of_groups = groups.GroupHandlers(api, rooms.view.access)
        self.add_later(DESCRIBE_GROUPS, groups.DESCRIBE_LOW, groups.DESCRIBE_HIGH, of_groups.describe)
        self.add_later(LIST_GROUPS, groups.LIST_LOW, groups.LIST_HIGH, of_groups.list)
        self.add_later(DELETE_GROUPS, groups.DELETE_LOW, groups.DELETE_HIGH, of_groups.delete)
        commits = positions.OffsetCommitHandler(api, self.facts, metrics)
        self.add_later(OFFSET_COMMIT, positions.COMMIT_LOW, positions.COMMIT_HIGH, commits)
        fetches = positions.OffsetFetchHandler(api, self.facts, rooms.in_flight, metrics)
        self.add_later(OFFSET_FETCH, positions.FETCH_LOW, positions.FETCH_HIGH, fetches)
        deletes = positions.OffsetDeleteHandler(api, metrics)
        self.add_later(OFFSET_DELETE, positions.DELETE_LOW, positions.DELETE_HIGH, deletes)

    def add(self, key: int, low: int, high: int, handler: Handler) -> None:
        """Serves versions of an API, and counts what is asked of it. One whose rights nobody named is a KeyError."""
        assert RIGHTS[key]
        name = f"Kafka{APIS[key].name}"
        self._metrics.served(name)
        asked = self._metrics.requests.labels(rpc=name)

        def counted(message: Message, call: Call) -> Message | None:
            asked.inc()
            return handler(message, call)

        self.registry.add(key, low, high, counted)

    def add_later(self, key: int, low: int, high: int, handler: Later) -> None:
        self.add(key, low, high, later(APIS[key].name, handler))

    def add_admin(self, key: int, low: int, high: int, handler: Later) -> None:
        self.add(key, low, high, one_by_one(APIS[key].name, handler))

    async def start(
        self,
        sockets: Sequence[tuple[str, socket.socket]],
        tls: "Callable[[], ssl.SSLContext] | None" = None,
        *,
        takes_plain: bool = False,
    ) -> None:
        """Takes over sockets that listen, with the names of their listeners. `tls`: what the next client uses;
        `takes_plain`: or it uses none."""
        loop = asyncio.get_running_loop()
        await self._look_up()
        for name, each in sockets:
            connection = partial(self.listener.connection, name)
            if tls is not None:
                sniffer = Sniffer(self._with(name, connection, tls, takes_plain))
                self._sniffers.append(sniffer)
                sniffer.start(each)
            else:
                self._servers.append(await loop.create_server(connection, sock=each, backlog=BACKLOG))

    async def _look_up(self) -> None:
        brokers = self._view.image.brokers.values()
        await self._addresses.look_up(at.host for broker in brokers for at in broker.endpoints)

    def _with(
        self, name: str, make: Callable[[], Connection], tls: "Callable[[], ssl.SSLContext]", takes_plain: bool
    ) -> Callable[[socket.socket, bool], None]:
        loop = asyncio.get_running_loop()

        def refuse(connection: socket.socket, why: str, peer: tuple[str, int] | None) -> None:
            self.listener.lines.warn("tls_handshake_failed", listener=name, peer=peer, reason=why)
            connection.close()

        async def shake(connection: socket.socket, context: "ssl.SSLContext | None") -> None:
            peer = peer_of(connection)
            handshake_s = HANDSHAKE_S if context else None
            try:
                await loop.connect_accepted_socket(make, connection, ssl=context, ssl_handshake_timeout=handshake_s)
            except (OSError, TimeoutError) as error:
                refuse(connection, why_not_shaken(error), peer)

        def take(connection: socket.socket, is_tls: bool) -> None:
            if not is_tls and not takes_plain:
                why = "this listener wants TLS, and the client speaks without it"
                refuse(connection, why, peer_of(connection))
            elif len(self._shaking) >= SHAKING_MAX:
                refuse(connection, f"{SHAKING_MAX} clients are about to connect already", peer_of(connection))
            else:
                work = loop.create_task(shake(connection, tls() if is_tls else None))
                self._shaking.add(work)
                work.add_done_callback(self._shaking.discard)

        return take

    async def run(self) -> None:
        """Closes connections that nobody uses, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(LOOK_S)
            self.listener.make_room(loop.time())
            self.listener.close_idle(loop.time(), IDLE_S)
            await self._look_up()

    async def stop(self) -> None:
        for sniffer in self._sniffers:
            sniffer.stop()
        for server in self._servers:
            server.close()
        for connection in list(self.listener.connections):
            connection.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                await asyncio.gather(*(server.wait_closed() for server in self._servers))


def _login(call: Call) -> login.Login:
    found = call.connection.login
    assert found is not None, "each connection of a listener with a gate has one"
    return found
