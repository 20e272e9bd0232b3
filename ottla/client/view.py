"""What a client knows of the cluster: immutable values, made from what `WatchMetadata` says."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from ottla.v1 import cluster_pb2


@dataclass(frozen=True, slots=True)
class BrokerInfo:
    """A node. `broker_epoch` changes with each of its starts; `kafka_addresses` are for clients of Apache Kafka."""

    node_id: int
    address: str
    rack: str
    fenced: bool
    in_controlled_shutdown: bool
    broker_epoch: int
    draining: bool = False
    """Whether it is being emptied: it gets no new replicas."""
    kafka_addresses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PartitionInfo:
    """A partition; `leader_id` is None while there is none. `adding`: those of the replicas that a move adds, and that
    count for nothing before it is complete."""

    partition: int
    leader_id: int | None
    leader_epoch: int
    replicas: tuple[int, ...]
    isr: tuple[int, ...]
    elr: tuple[int, ...]
    adding: tuple[int, ...] = ()

    @property
    def out_of_sync(self) -> tuple[int, ...]:
        """The replicas that should be in sync and are not."""
        return tuple(n for n in self.replicas if n not in self.isr and n not in self.adding)


@dataclass(frozen=True, slots=True)
class TopicInfo:
    """A topic; `topic_id` tells it from a deleted namesake."""

    name: str
    topic_id: bytes
    internal: bool
    partitions: tuple[PartitionInfo, ...]
    import_id: bytes = b""
    """The import that fills it, and before whose end it serves nobody; empty: it serves."""


@dataclass(frozen=True, slots=True)
class ClusterView:
    """The cluster as of one index of its metadata log."""

    cluster_id: str = ""
    controller_id: int | None = None
    metadata_index: int = -1
    brokers: Mapping[int, BrokerInfo] = field(default_factory=lambda: MappingProxyType({}))
    topics: Mapping[str, TopicInfo] = field(default_factory=lambda: MappingProxyType({}))


def topic_info(topic: cluster_pb2.Topic) -> TopicInfo:
    """A topic from the wire."""
    return TopicInfo(
        topic.name,
        topic.topic_id,
        topic.internal,
        tuple(
            PartitionInfo(
                p.partition,
                p.leader_id if p.HasField("leader_id") else None,
                p.leader_epoch,
                tuple(p.replicas),
                tuple(p.isr),
                tuple(p.elr),
                tuple(p.adding_replicas),
            )
            for p in topic.partitions
        ),
        topic.import_id,
    )


def view_of(metadata: cluster_pb2.Metadata) -> ClusterView:
    """A complete answer as a view. Topics that could not be described are left out."""
    return _with_metadata(ClusterView(), metadata)


def updated(view: ClusterView, event: cluster_pb2.MetadataEvent) -> ClusterView:
    """The view after a later event of the same watch, which has all brokers and the topics that changed or are gone."""
    if event.HasField("metadata"):
        view = _with_metadata(view, event.metadata)
    if event.deleted_topics:
        gone = set(event.deleted_topics)
        topics = {name: topic for name, topic in view.topics.items() if name not in gone}
        view = replace(view, topics=MappingProxyType(topics))
    return view


def _with_metadata(view: ClusterView, metadata: cluster_pb2.Metadata) -> ClusterView:
    topics = dict(view.topics)
    topics.update((topic.name, topic_info(topic)) for topic in metadata.topics if not topic.HasField("error"))
    return ClusterView(
        cluster_id=metadata.cluster_id,
        controller_id=metadata.controller_id if metadata.HasField("controller_id") else None,
        metadata_index=metadata.metadata_index,
        brokers=MappingProxyType(
            {
                b.node_id: BrokerInfo(
                    b.node_id,
                    b.address,
                    b.rack,
                    b.fenced,
                    b.in_controlled_shutdown,
                    b.broker_epoch,
                    b.draining,
                    tuple(b.kafka_addresses),
                )
                for b in metadata.brokers
            }
        ),
        topics=MappingProxyType(topics),
    )
