"""What a record of the metadata log changes, as an event with its cause: for people, and no state depends on it.

A record says what becomes; what was before is in the view that it has not been applied to yet.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

from node.metadata.apply import TOPIC_CONFIG
from node.metadata.image import NO_LEADER, MetadataView, Partition
from ottla.internal.v1 import metadata_pb2 as pb
from ottla.v1 import cluster_pb2

ORDINALS: Final = 1 << 20
"""An entry has fewer records: an event's id is its entry's index and its place in it."""


class Event(NamedTuple):
    """Something that changed. `kind` is one of `EventKind`; `time_ms` 0 = not known; `entry`: which of the metadata log
    made it, None: it is of a group. A partition's lists are as they are from then on, those that end with `before` as
    they were."""

    id: int
    entry: int | None
    time_ms: int
    kind: cluster_pb2.EventKind.ValueType
    cause: str = ""
    node_id: int | None = None
    topic: str = ""
    topic_id: bytes = b""
    partition: int | None = None
    leader_before: int = NO_LEADER
    leader: int = NO_LEADER
    leader_epoch: int = 0
    isr_before: tuple[int, ...] = ()
    isr: tuple[int, ...] = ()
    replicas: tuple[int, ...] = ()
    group_id: str = ""
    member_id: str = ""


class Noting:
    """The events of one entry, in order. It is shown each record before that is applied to the view."""

    def __init__(self, index: int, time_ms: int) -> None:
        self._index = index
        self._time_ms = time_ms
        self._seen = 0
        self.events: Final[list[Event]] = []

    def new_controller(self, node_id: int, term: int) -> None:
        """The entry is the first that this controller decided."""
        kind, cause = cluster_pb2.EVENT_KIND_CONTROLLER, f"node {node_id} is the controller, in term {term}"
        self.events.append(Event(self._index * ORDINALS, self._index, self._time_ms, kind, cause, node_id))

    def __call__(self, view: MetadataView, record: pb.MetadataRecord) -> None:
        self._seen += 1
        event = Event(self._index * ORDINALS + self._seen, self._index, self._time_ms, cluster_pb2.EVENT_KIND_NONE)
        said = _SAID.get(record.WhichOneof("record") or "")
        if said is not None and (noted := said(event, view, record)) is not None:
            self.events.append(noted)


def unknown_before(index: int) -> Event:
    """A snapshot stands for everything up to `index`, without saying how it came to be."""
    cause = f"the metadata up to entry {index} came as a snapshot"
    return Event(index * ORDINALS + ORDINALS - 1, index, 0, cluster_pb2.EVENT_KIND_UNKNOWN_BEFORE, cause)


def _topic_created(event: Event, _view: MetadataView, record: pb.MetadataRecord) -> Event:
    topic = record.topic
    return event._replace(kind=cluster_pb2.EVENT_KIND_TOPIC_CREATED, topic=topic.name, topic_id=topic.topic_id)


def _topic_deleted(event: Event, view: MetadataView, record: pb.MetadataRecord) -> Event | None:
    topic = view.topic(record.remove_topic.topic_id)
    if topic is None:
        return None
    return event._replace(kind=cluster_pb2.EVENT_KIND_TOPIC_DELETED, topic=topic.name, topic_id=topic.topic_id)


def _partition_created(event: Event, view: MetadataView, record: pb.MetadataRecord) -> Event | None:
    made = record.partition
    topic = view.topic(made.topic_id)
    if topic is None:
        return None
    return event._replace(
        kind=cluster_pb2.EVENT_KIND_LEADER,
        cause="the partition was made",
        node_id=made.leader if made.leader != NO_LEADER else None,
        topic=topic.name,
        topic_id=made.topic_id,
        partition=made.partition,
        leader=made.leader,
        leader_epoch=made.leader_epoch,
        isr=tuple(made.isr),
        replicas=tuple(made.replicas),
    )


def _partition_changed(event: Event, view: MetadataView, record: pb.MetadataRecord) -> Event | None:
    change = record.partition_change
    topic, before = view.topic(change.topic_id), view.partition(change.topic_id, change.partition)
    if topic is None or before is None:
        return None
    leads_anew = change.HasField("leader")
    kind = _kind(change, before)
    if kind is None:
        return None
    return event._replace(
        kind=kind,
        cause=change.cause,
        topic=topic.name,
        topic_id=change.topic_id,
        partition=change.partition,
        leader_before=before.leader,
        leader=change.leader if leads_anew else before.leader,
        leader_epoch=before.leader_epoch + leads_anew,
        isr_before=before.isr,
        isr=tuple(change.isr.ids) if change.HasField("isr") else before.isr,
        replicas=tuple(change.replicas.ids) if change.HasField("replicas") else before.replicas,
    )


def _kind(change: pb.PartitionChangeRecord, before: Partition) -> cluster_pb2.EventKind.ValueType | None:
    if change.HasField("leader"):
        return cluster_pb2.EVENT_KIND_LEADER
    if change.HasField("replicas") or change.HasField("target_replicas"):
        return cluster_pb2.EVENT_KIND_REPLICAS
    if change.HasField("isr") and tuple(change.isr.ids) != before.isr:
        return cluster_pb2.EVENT_KIND_ISR
    return None


def _config_changed(event: Event, view: MetadataView, record: pb.MetadataRecord) -> Event:
    """Which key, never its value: that may be nobody else's."""
    config = record.config
    event = event._replace(
        kind=cluster_pb2.EVENT_KIND_CONFIG,
        cause=f"{config.key} was {'set' if config.HasField('value') else 'removed'}",
    )
    if config.resource_type == TOPIC_CONFIG:
        topic = view.topic(bytes.fromhex(config.resource_name))
        return event if topic is None else event._replace(topic=topic.name, topic_id=topic.topic_id)
    return event._replace(node_id=int(config.resource_name)) if config.resource_name.isdecimal() else event


def _node_started(event: Event, view: MetadataView, record: pb.MetadataRecord) -> Event:
    node, before = record.register_broker, view.brokers.get(record.register_broker.node_id)
    how = "it is new" if before is None else "its process started again"
    if before is not None and before.directory_id != node.directory_id:
        how += " with another directory"
    elif node.unclean_stop:
        how += " after a stop that may have lost what was not synced"
    return event._replace(kind=cluster_pb2.EVENT_KIND_NODE_STARTED, node_id=node.node_id, cause=how)


def _node_changed(event: Event, view: MetadataView, record: pb.MetadataRecord) -> Event | None:
    change = record.broker_change
    before = view.brokers.get(change.node_id)
    event = event._replace(node_id=change.node_id, cause=change.cause)
    if before is None:
        return None
    if change.HasField("fenced") and change.fenced != before.fenced:
        kind = cluster_pb2.EVENT_KIND_NODE_FENCED if change.fenced else cluster_pb2.EVENT_KIND_NODE_BACK
        return event._replace(kind=kind)
    if change.in_controlled_shutdown and not before.in_controlled_shutdown:
        return event._replace(kind=cluster_pb2.EVENT_KIND_NODE_STOPPING)
    return None


def _node_unregistered(event: Event, _view: MetadataView, record: pb.MetadataRecord) -> Event:
    return event._replace(
        kind=cluster_pb2.EVENT_KIND_NODE_UNREGISTERED,
        node_id=record.unregister_broker.node_id,
        cause="an operator unregistered it",
    )


def _feature_raised(event: Event, _view: MetadataView, record: pb.MetadataRecord) -> Event:
    feature = record.feature_level
    return event._replace(kind=cluster_pb2.EVENT_KIND_FEATURE, cause=f"{feature.name} is at {feature.level}")


_SAID: Final[dict[str, Callable[[Event, MetadataView, pb.MetadataRecord], Event | None]]] = {
    "topic": _topic_created,
    "remove_topic": _topic_deleted,
    "partition": _partition_created,
    "partition_change": _partition_changed,
    "config": _config_changed,
    "register_broker": _node_started,
    "broker_change": _node_changed,
    "unregister_broker": _node_unregistered,
    "feature_level": _feature_raised,
}
"""Of users, ACLs, quotas, keys and producer ids there are no events: the audit log has who changed those."""
