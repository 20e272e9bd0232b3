"""What must hold after every decision (reliability rules 12, 15): checked on each draft before it is appended."""

from dataclasses import replace

from node.controller.state.draft import Draft, Rules
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
        enough = draft.rules(topic_after).enough(after.replication_factor)
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
    _check_move(name, partition)
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


def _check_move(name: str, partition: Partition) -> None:
    """What moves knows where it began and where it ends (invariants.md 1, 32)."""
    replicas, adding, target = partition.replicas, partition.adding, partition.target
    if not partition.original or len(set(replicas)) != len(replicas):
        raise InvariantError(f"{name}: replicas {replicas} are empty or name a node twice")
    if replicas[len(partition.original) :] != adding or (adding and not target):
        raise InvariantError(f"{name}: {adding} are no move's last of the replicas {replicas}, target {target}")
    if len(set(target)) != len(target) or not set(target) <= set(replicas):
        raise InvariantError(f"{name}: target {target} is no subset of the replicas {replicas}")


def check_leaving(topic: Topic, before: Partition, after: Partition, rules: Rules) -> None:
    """One record, and the replicas that leave by it (invariants.md 1, 33 to 35)."""
    name = f"{topic.name}-{after.partition}"
    gone = set(before.replicas) - set(after.replicas)
    if not gone:
        return
    if after.leader == NO_LEADER or after.recovering:
        raise InvariantError(f"{name}: {gone} leave while nobody leads with a confirmed log: {after}")
    if gone & {*before.elr, *before.last_known_elr} and len(after.isr) < rules.enough(after.replication_factor):
        raise InvariantError(f"{name}: {gone} leave, and may be needed as leaders: {before}")
    if gone & set(before.original) and not set(after.replicas) <= set(after.isr):
        raise InvariantError(f"{name}: {gone} leave before all of {after.replicas} are in sync: {after}")
    if gone & set(before.isr) and len(after.isr) < rules.enough(after.replication_factor):
        raise InvariantError(f"{name}: {gone} leave an ISR that is too small without them: {after}")


def check_step(topic: Topic, before: Partition, after: Partition) -> None:
    """A partition's change: epochs grow, and an epoch has one leader for ever."""
    name = f"{topic.name}-{after.partition}"
    if _facts(before) != _facts(after) and after.partition_epoch <= before.partition_epoch:
        raise InvariantError(f"{name}: changed without a new partition epoch ({after.partition_epoch})")
    if after.partition_epoch < before.partition_epoch or after.leader_epoch < before.leader_epoch:
        raise InvariantError(f"{name}: an epoch went back")
    if after.leader != before.leader and after.leader_epoch == before.leader_epoch:
        raise InvariantError(f"{name}: leaders {before.leader} and {after.leader} share epoch {after.leader_epoch}")


def _facts(partition: Partition) -> Partition:
    """What a partition epoch is given for: all of it but the epochs, and where replicas are stored."""
    return replace(partition, directories=(), leader_epoch=0, partition_epoch=0, last_known_leader=NO_LEADER)
