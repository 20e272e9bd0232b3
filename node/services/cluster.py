"""ClusterService: every node answers from its own copy of the metadata, also while there is no controller."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from node.metadata.image import NO_LEADER, Broker, Delta, Topic
from node.services.faults import Context
from node.services.peers import Peers
from node.services.view import ClusterView
from ottla.protocol.errors import ApiError
from ottla.v1 import cluster_pb2

TICK_S: Final = 0.5
ASK_LEADER_S: Final = 1.0
DESCRIBE_QUORUM: Final = "/ottla.v1.ClusterService/DescribeQuorum"
CONTRACT_VERSION: Final = 4
FEATURES: Final = (
    "produce-stream",
    "fetch-stream",
    "send",
    "receipts",
    "forwarding",
    "fetch-by-position-name",
    "finalize-feature",
)

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
        self._version = build_version()

    async def get_version(self, _request: Any, _context: Context) -> cluster_pb2.GetVersionResponse:
        return cluster_pb2.GetVersionResponse(
            version=self._version,
            contract_version=CONTRACT_VERSION,
            features=FEATURES,
            node_id=self._view.node_id,
            cluster_id=self._view.quorum.cluster_id.hex(),
        )

    async def get_metadata(self, request: cluster_pb2.GetMetadataRequest, _context: Context) -> cluster_pb2.Metadata:
        return self._metadata(self._asked(request))

    async def describe_quorum(self, _request: Any, _context: Context) -> cluster_pb2.DescribeQuorumResponse:
        """As the leader sees it, who knows how far the others are; where that does not answer, as this node does."""
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
            await context.write(cluster_pb2.MetadataEvent(metadata=self._metadata(self._asked(request))))
            while True:
                news = await watcher.next(TICK_S)
                if news is None:
                    await context.write(cluster_pb2.MetadataEvent())
                    continue
                topics, deleted = news
                await context.write(
                    cluster_pb2.MetadataEvent(
                        metadata=self._metadata([_topic(topic) for topic in topics]), deleted_topics=deleted
                    )
                )
        finally:
            watcher.close()

    def _asked(self, request: cluster_pb2.GetMetadataRequest) -> list[cluster_pb2.Topic]:
        if request.brokers_only:
            return []
        image = self._view.image
        if not request.topics:
            return [_topic(topic) for topic in sorted(image.topics.values(), key=lambda topic: topic.name)]
        found: list[cluster_pb2.Topic] = []
        for name in request.topics:
            try:
                found.append(_topic(self._view.topic(name, b"")))
            except ApiError as error:
                found.append(cluster_pb2.Topic(name=name, error=error.to_proto()))
        return found

    def _metadata(self, topics: Iterable[cluster_pb2.Topic]) -> cluster_pb2.Metadata:
        view = self._view
        return cluster_pb2.Metadata(
            cluster_id=view.quorum.cluster_id.hex(),
            controller_id=view.quorum.leader_id,
            metadata_index=view.image.index,
            age_ms=max(0, time.monotonic_ns() // 1_000_000 - view.quorum.contact_ms) if view.quorum.contact_ms else 0,
            brokers=[_broker(broker) for _, broker in sorted(view.image.brokers.items())],
            topics=topics,
            node_id=view.node_id,
        )


class _Watcher:
    """What changed since a watcher was last told. Bounded by the number of topics, however slow its reader is."""

    def __init__(self, view: ClusterView, names: frozenset[str], brokers_only: bool) -> None:
        self._view = view
        self._names = names
        self._brokers_only = brokers_only
        self._topics: set[bytes] = set()
        self._deleted: set[str] = set()
        self._wake = asyncio.Event()
        self.close = view.subscribe(self._on_change)

    def _on_change(self, delta: Delta | None) -> None:
        if delta is not None:
            if delta.empty:
                return
            if not self._brokers_only:
                ids = {topic_id for topic_id, _ in delta.changed_partitions}
                ids |= delta.created_topics | delta.changed_config_topics
                if delta.snapshot:
                    ids |= self._view.image.topics.keys()
                self._topics |= ids
                self._deleted |= {topic.name for topic in delta.deleted_topics.values()}
        self._wake.set()

    async def next(self, timeout_s: float) -> tuple[list[Topic], list[str]] | None:
        """Changed topics and the names of deleted ones; None where nothing changed in time."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._wake.wait()
        except TimeoutError:
            return None
        self._wake.clear()
        ids, self._topics = self._topics, set()
        deleted, self._deleted = self._deleted, set()
        image = self._view.image
        found = [image.topics[topic_id] for topic_id in sorted(ids) if topic_id in image.topics]
        gone = sorted(name for name in deleted if name not in image.names)
        if self._names:
            found = [topic for topic in found if topic.name in self._names]
            gone = [name for name in gone if name in self._names]
        return found, gone


def _broker(broker: Broker) -> cluster_pb2.Broker:
    return cluster_pb2.Broker(
        node_id=broker.node_id,
        address=broker.client_address,
        rack=broker.rack,
        fenced=broker.fenced,
        in_controlled_shutdown=broker.in_controlled_shutdown,
        broker_epoch=broker.broker_epoch,
    )


def _topic(topic: Topic) -> cluster_pb2.Topic:
    return cluster_pb2.Topic(
        name=topic.name,
        topic_id=topic.topic_id,
        internal=topic.internal,
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
            )
            for partition in topic.partitions
        ],
    )
