"""Internal topics get the replicas they could not have at first: a cluster is used before all of its nodes are up."""

from typing import Final

from node.controller.state.draft import Draft
from node.controller.state.elections import reconsider
from node.controller.state.placement import Load, add_followers, check_partition_limit
from node.metadata.image import Topic
from ottla.internal.v1 import metadata_pb2 as records
from ottla.protocol.errors import ApiError

INTERNAL_REPLICATION_FACTOR: Final = 3


def repair_internal_topics(draft: Draft) -> None:
    """Adds replicas to internal topics up to min(3, brokers that take some). New ones join the ISR when they have
    caught up."""
    target = min(INTERNAL_REPLICATION_FACTOR, len(draft.takers()))
    short = [t for t in draft.view.all_topics() if t.internal and t.replication_factor < target]
    if not short:
        return
    load = Load.of(draft.view)
    for topic in short:
        _add_replicas(draft, topic, target, load)


def _add_replicas(draft: Draft, topic: Topic, target: int, load: Load) -> None:
    takers = draft.takers()
    wanted = []
    for partition in topic.partitions:
        # A replica on a broker that is away or drained keeps its place; only as many as take replicas can be added.
        if partition.target:
            wanted.append(partition.replicas)  # where it is to go somebody said
            continue
        free = [broker for broker in takers if broker.node_id not in partition.replicas]
        factor = min(target, len(partition.replicas) + len(free))
        replicas = add_followers(partition.replicas, takers, factor, load)
        load.replicas.update(replicas[len(partition.replicas) :])
        wanted.append(replicas)
    try:
        added = [new[len(p.replicas) :] for p, new in zip(topic.partitions, wanted, strict=True)]
        check_partition_limit(draft, Load.of(draft.view), added)
    except ApiError:
        return
    for partition, replicas in zip(topic.partitions, wanted, strict=True):
        if replicas == partition.replicas:
            continue
        cause = f"{topic.name} was made when {len(partition.replicas)} brokers were live"
        change = records.PartitionChangeRecord(
            topic_id=topic.topic_id,
            partition=partition.partition,
            replicas=records.NodeList(ids=replicas),
            cause=cause,
        )
        draft.add(records.MetadataRecord(partition_change=change))
        grown = draft.view.partition(topic.topic_id, partition.partition)
        if grown is not None:
            reconsider(draft, grown, cause)
