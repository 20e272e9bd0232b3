"""ClusterService: every node answers from its own copy of the metadata, also while there is no controller."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from node import limits, turns
from node.api.view import ClusterView
from node.metadata.image import NO_LEADER, Broker, Delta, Image, Topic, is_draining
from node.services.faults import Context
from node.services.peers import Peers
from ottla.protocol.acls import DESCRIBE, TOPIC
from ottla.protocol.batch import varint
from ottla.protocol.errors import ApiError
from ottla.v1 import cluster_pb2

TICK_S: Final = 0.5
TICK_SLOTS: Final = 25
ASK_LEADER_S: Final = 1.0
DESCRIBE_QUORUM: Final = "/ottla.v1.ClusterService/DescribeQuorum"
CONTRACT_VERSION: Final = 5
FEATURES: Final = (
    "produce-stream",
    "fetch-stream",
    "send",
    "receipts",
    "forwarding",
    "fetch-by-position-name",
    "finalize-feature",
    "explain",
)

_METADATA_TOPICS: Final = varint(cluster_pb2.Metadata.DESCRIPTOR.fields_by_name["topics"].number << 3 | 2)
_EVENT_METADATA: Final = varint(cluster_pb2.MetadataEvent.DESCRIPTOR.fields_by_name["metadata"].number << 3 | 2)
"""An empty MetadataEvent."""

DescribeQuorum = Callable[[], Awaitable[cluster_pb2.DescribeQuorumResponse]]


def build_version() -> str:
    """This build's version, as the package says."""
    try:
        return version("ottla")
    except PackageNotFoundError:
        return "0"


class ClusterServicer:
    """Metadata as one node sees it, with its index and age."""

    def __init__(self, view: ClusterView, peers: Peers, describe_quorum: DescribeQuorum, *, forwarded: bool) -> None:
        self._view = view
        self._peers = peers
        self._forwarded = forwarded
        self._describe_quorum = describe_quorum
        self._describing: asyncio.Task[cluster_pb2.DescribeQuorumResponse] | None = None
        self._topics = _EncodedTopics()
        self._ticker = _Ticker()
        self._version = build_version()

    async def get_version(self, _request: Any, _context: Context) -> cluster_pb2.GetVersionResponse:
        return cluster_pb2.GetVersionResponse(
            version=self._version,
            contract_version=CONTRACT_VERSION,
            features=FEATURES,
            node_id=self._view.node_id,
            cluster_id=self._view.quorum.cluster_id.hex(),
        )

    async def get_metadata(self, request: cluster_pb2.GetMetadataRequest, _context: Context) -> bytes:
        """A serialized Metadata: topics are encoded once for all who ask."""
        return self._metadata(await self._asked(request))

    async def describe_quorum(self, _request: Any, _context: Context) -> cluster_pb2.DescribeQuorumResponse:
        return await self.quorum()

    def _may_see(self, topic: Topic) -> bool:
        return self._view.access.may(DESCRIBE, TOPIC, topic.name)

    async def quorum(self) -> cluster_pb2.DescribeQuorumResponse:
        """As the leader sees it, who knows how far the others are; where that does not answer, as this node does. All
        that ask at once share one answer."""
        self._view.access.check_cluster(DESCRIBE)
        if self._describing is None:
            self._describing = asyncio.create_task(self._describe())
            self._describing.add_done_callback(self._described)
        return await asyncio.shield(self._describing)

    def _described(self, _: "asyncio.Task[cluster_pb2.DescribeQuorumResponse]") -> None:
        self._describing = None

    async def _describe(self) -> cluster_pb2.DescribeQuorumResponse:
        leader = self._view.quorum.leader_id
        if leader is not None and leader != self._view.node_id and not self._forwarded:
            try:
                answer = await self._peers.call(leader, DESCRIBE_QUORUM, b"", ASK_LEADER_S)
            except ApiError:
                return await self._describe_quorum()
            return cluster_pb2.DescribeQuorumResponse.FromString(answer)
        return await self._describe_quorum()

    async def watch_metadata(self, request: cluster_pb2.GetMetadataRequest, context: Context) -> None:
        """Everything once, then what changes, at least an empty tick every 500 ms."""
        watcher = _Watcher(self._view, frozenset(request.topics), request.brokers_only)
        try:
            self._ticker.add(watcher)
            await context.write(_event(self._metadata(await self._asked(request))))
            while True:
                news = await watcher.next()
                if news is None:
                    await context.write(cluster_pb2.MetadataEvent(age_ms=self._age_ms()).SerializeToString())
                    continue
                topics, deleted = news
                metadata = self._metadata(b"".join(map(self._topics.of, filter(self._may_see, topics))))
                deleted = [name for name in deleted if self._view.access.may(DESCRIBE, TOPIC, name)]
                await context.write(
                    _event(metadata) + cluster_pb2.MetadataEvent(deleted_topics=deleted).SerializeToString()
                )
        finally:
            self._ticker.remove(watcher)
            watcher.close()

    async def _asked(self, request: cluster_pb2.GetMetadataRequest) -> bytes:
        """The topics as they stand in a serialized Metadata, each once."""
        if request.brokers_only:
            return b""
        if not request.topics:
            if not self._view.access.on:
                return self._topics.all(self._view.image)
            seen = filter(self._may_see, self._view.image.topics.values())
            return b"".join(map(self._topics.of, sorted(seen, key=lambda topic: topic.name)))
        found: list[bytes] = []
        for count, name in enumerate(dict.fromkeys(request.topics), 1):
            if count % limits.AT_ONCE == 0:
                await turns.give_way()
            try:
                found.append(self._topics.of(self._view.topic(name, b"", DESCRIBE)))
            except ApiError as error:
                found.append(_framed(cluster_pb2.Topic(name=name, error=error.to_proto())))
        return b"".join(found)

    def _age_ms(self) -> int:
        contact_ms = self._view.quorum.contact_ms
        return max(0, time.monotonic_ns() // 1_000_000 - contact_ms) if contact_ms else 0

    def _metadata(self, topics: bytes) -> bytes:
        view = self._view
        metadata = cluster_pb2.Metadata(
            cluster_id=view.quorum.cluster_id.hex(),
            controller_id=view.quorum.leader_id,
            metadata_index=view.image.index,
            age_ms=self._age_ms(),
            brokers=[_broker(view.image, broker) for _, broker in sorted(view.image.brokers.items())],
            node_id=view.node_id,
        )
        return metadata.SerializeToString() + topics


def _framed(topic: cluster_pb2.Topic) -> bytes:
    data = topic.SerializeToString()
    return _METADATA_TOPICS + varint(len(data)) + data


def _event(metadata: bytes) -> bytes:
    return _EVENT_METADATA + varint(len(metadata)) + metadata


class _EncodedTopics:
    """Topics as they stand in a serialized Metadata, made once for each state of each."""

    def __init__(self) -> None:
        self._of: dict[bytes, tuple[Topic, bytes]] = {}
        self._all: tuple[object, bytes] = (None, b"")

    def of(self, topic: Topic) -> bytes:
        known = self._of.get(topic.topic_id)
        if known is None or known[0] is not topic:
            known = self._of[topic.topic_id] = (topic, _framed(_topic(topic)))
        return known[1]

    def all(self, image: Image) -> bytes:
        """By name. What is gone is forgotten."""
        if self._all[0] is not image.topics:
            for topic_id in self._of.keys() - image.topics.keys():
                del self._of[topic_id]
            topics = sorted(image.topics.values(), key=lambda topic: topic.name)
            self._all = (image.topics, b"".join(map(self.of, topics)))
        return self._all[1]


class _Ticker:
    """One timer for all watchers of a listener. They take turns, so that their ticks do not fall together."""

    def __init__(self) -> None:
        self._slots: list[set[_Watcher]] = [set() for _ in range(TICK_SLOTS)]
        self._now = 0
        self._count = 0
        self._timer: asyncio.TimerHandle | None = None

    def add(self, watcher: "_Watcher") -> None:
        """Raises THROTTLING_QUOTA_EXCEEDED where there are too many."""
        if self._count >= limits.WATCHERS_MAX:
            raise limits.throttled(
                f"{self._count} WatchMetadata streams are open at this node",
                f"{limits.WATCHERS_MAX} may be",
                limits.WATCHERS_RETRY_MS,
            )
        min(self._slots, key=len).add(watcher)
        self._count += 1
        if self._timer is None:
            self._arm()

    def remove(self, watcher: "_Watcher") -> None:
        for slot in self._slots:
            if watcher in slot:
                slot.remove(watcher)
                self._count -= 1

    def _arm(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(TICK_S / TICK_SLOTS, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._now = (self._now + 1) % TICK_SLOTS
        for watcher in self._slots[self._now]:
            watcher.wake()
        if self._count:
            self._arm()


class _Watcher:
    """What changed since a watcher was last told. Bounded by the number of topics, however slow its reader is."""

    def __init__(self, view: ClusterView, names: frozenset[str], brokers_only: bool) -> None:
        self._view = view
        self._names = names
        self._brokers_only = brokers_only
        self._topics: set[bytes] = set()
        self._deleted: set[str] = set()
        self._wake = asyncio.Event()
        self._news = False
        self.close = view.subscribe(self._on_change)

    def _on_change(self, delta: Delta | None) -> None:
        if delta is not None:
            if delta.empty:
                return
            if not self._brokers_only:
                ids = {topic_id for topic_id, _ in delta.changed_partitions}
                ids |= delta.created_topics | delta.changed_config_topics
                if delta.snapshot or (delta.acls_changed and self._view.access.on):
                    ids |= self._view.image.topics.keys()
                self._topics |= ids
                self._deleted |= {topic.name for topic in delta.deleted_topics.values()}
        self._news = True
        self._wake.set()

    def wake(self) -> None:
        """Has it tick, where there are no news."""
        self._wake.set()

    async def next(self) -> tuple[list[Topic], list[str]] | None:
        """Changed topics and the names of deleted ones; None for a tick."""
        await self._wake.wait()
        self._wake.clear()
        news, self._news = self._news, False
        if not news:
            return None
        ids, self._topics = self._topics, set()
        deleted, self._deleted = self._deleted, set()
        image = self._view.image
        found = [image.topics[topic_id] for topic_id in sorted(ids) if topic_id in image.topics]
        gone = sorted(name for name in deleted if name not in image.names)
        if self._names:
            found = [topic for topic in found if topic.name in self._names]
            gone = [name for name in gone if name in self._names]
        return found, gone


def _broker(image: Image, broker: Broker) -> cluster_pb2.Broker:
    return cluster_pb2.Broker(
        node_id=broker.node_id,
        address=broker.client_address,
        rack=broker.rack,
        fenced=broker.fenced,
        in_controlled_shutdown=broker.in_controlled_shutdown,
        broker_epoch=broker.broker_epoch,
        draining=is_draining(image, broker.node_id),
        kafka_addresses=[each.address for each in broker.endpoints],
    )


def _topic(topic: Topic) -> cluster_pb2.Topic:
    return cluster_pb2.Topic(
        name=topic.name,
        topic_id=topic.topic_id,
        internal=topic.internal,
        import_id=topic.import_id,
        partitions=[
            cluster_pb2.Partition(
                partition=partition.partition,
                leader_id=partition.leader if partition.leader != NO_LEADER else None,
                leader_epoch=partition.leader_epoch,
                partition_epoch=partition.partition_epoch,
                replicas=partition.replicas,
                isr=partition.isr,
                elr=partition.elr,
                last_known_elr=partition.last_known_elr,
                adding_replicas=partition.adding,
            )
            for partition in topic.partitions
        ],
    )
