"""What must hold after every decision (reliability rules 12, 15): checked on each draft before it is appended."""

from node.controller.state.draft import Draft
from node.metadata.image import NO_LEADER, MetadataView, Partition, Topic
from ottla.protocol.invariant import InvariantError


def check_draft(draft: Draft) -> None:
    """Raises InvariantError where a draft would break a rule. Looks at what it changed; all partitions of a broker
    that changed count as changed."""
    changed = set(draft.view.changed_partitions)
    brokers = draft.view.changed_brokers
    if brokers:
        for topic in draft.view.all_topics():
            changed.update((topic.topic_id, p.partition) for p in topic.partitions if not brokers.isdisjoint(p.isr))
    for topic_id, n in changed:
        after = draft.view.partition(topic_id, n)
        topic_after = draft.view.topic(topic_id)
        if after is None or topic_after is None:
            continue
        check_partition(draft.view, topic_after, after)
        enough = min(draft.rules(topic_after).min_isr, len(after.replicas))
        if len(after.isr) >= enough and (after.elr or after.last_known_elr):
            # The high watermark moves without them now.
            raise InvariantError(f"{topic_after.name}-{n}: eligible replicas {after.elr} beside a full ISR {after.isr}")
        before = draft.base.partition(topic_id, n)
        if before is not None and before != after:
            check_step(topic_after, before, after)


def check_partition(view: MetadataView, topic: Topic, partition: Partition) -> None:
    """One partition's state by itself."""
    name = f"{topic.name}-{partition.partition}"
    for members, what in ((partition.isr, "ISR"), (partition.elr, "ELR"), (partition.last_known_elr, "last known ELR")):
        if len(set(members)) != len(members) or not set(members) <= set(partition.replicas):
            raise InvariantError(f"{name}: {what} {members} is no subset of the replicas {partition.replicas}")
    if set(partition.isr) & set(partition.elr):
        raise InvariantError(f"{name}: ISR {partition.isr} and ELR {partition.elr} overlap")
    if partition.leader == NO_LEADER:
        if partition.isr:
            raise InvariantError(f"{name}: in-sync replicas {partition.isr} but no leader")
        if not partition.elr and not partition.last_known_elr:
            raise InvariantError(f"{name}: nobody leads and nobody is known who could")
    elif partition.leader not in partition.isr:
        raise InvariantError(f"{name}: leader {partition.leader} is not in the ISR {partition.isr}")
    for node_id in partition.isr:
        broker = view.brokers.get(node_id)
        if broker is None or not broker.live:
            raise InvariantError(f"{name}: {node_id} is in the ISR {partition.isr} but fenced, stopping or unknown")


def check_step(topic: Topic, before: Partition, after: Partition) -> None:
    """A partition's change: epochs grow, and an epoch has one leader for ever."""
    name = f"{topic.name}-{after.partition}"
    same_state = (before.isr, before.elr, before.last_known_elr, before.leader, before.recovering) == (
        after.isr,
        after.elr,
        after.last_known_elr,
        after.leader,
        after.recovering,
    )
    if not same_state and after.partition_epoch <= before.partition_epoch:
        raise InvariantError(f"{name}: changed without a new partition epoch ({after.partition_epoch})")
    if after.partition_epoch < before.partition_epoch or after.leader_epoch < before.leader_epoch:
        raise InvariantError(f"{name}: an epoch went back")
    if after.leader != before.leader and after.leader_epoch == before.leader_epoch:
        raise InvariantError(f"{name}: leaders {before.leader} and {after.leader} share epoch {after.leader_epoch}")
