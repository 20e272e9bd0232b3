"""Moves of partitions to other replicas (KIP-455): begun, replaced, called off and listed. `elections.reconsider`
completes them."""

from collections import Counter
from typing import Final

from node.controller.state.draft import Draft
from node.controller.state.elections import reconsider, spare
from node.controller.state.features import check_level
from node.controller.state.invariants import check_leaving
from node.controller.state.placement import Load, check_partition_limit
from node.metadata.image import (
    NO_LEADER,
    REASSIGNMENT_METADATA_VERSION,
    Partition,
    Topic,
    moving,
)
from ottla.internal.v1 import metadata_pb2 as records
from ottla.protocol.errors import ApiError
from ottla.protocol.invariant import InvariantError
from ottla.v1 import admin_pb2 as admin
from ottla.v1 import data_pb2 as data
from ottla.v1 import error_pb2 as pb

REASON_MAX: Final = 300


def reassign_partitions(draft: Draft, request: admin.ReassignPartitionsRequest) -> admin.ReassignPartitionsResponse:
    """Begins moves and calls them off; each succeeds or fails by itself. Raises UNSUPPORTED_VERSION."""
    check_level(draft, REASSIGNMENT_METADATA_VERSION, "partitions move")
    if request.validate_only:
        draft = draft.scratch()
    load = Load.of(draft.view)
    response = admin.ReassignPartitionsResponse()
    named: Counter[tuple[bytes, int]] = Counter()
    for wish in request.partitions:
        result = response.partitions.add(partition=wish.partition)
        try:
            topic, partition = _find(draft, wish.partition)
            result.replicas_before.extend(partition.original)
            named[topic.topic_id, partition.partition] += 1
            if named[topic.topic_id, partition.partition] > 1:
                raise ApiError(pb.ERROR_CODE_INVALID_REQUEST, f"{_name(topic, partition)} is named twice")
            after = _as_asked(draft, topic, partition, wish, load)
            result.replicas.extend(after.target or after.replicas)
            result.moving = bool(after.target)
            result.reason = wish.reason
        except ApiError as error:
            result.error.CopyFrom(error.to_proto())
    return response


def list_reassignments(draft: Draft, request: admin.ListReassignmentsRequest) -> admin.ListReassignmentsResponse:
    """The moves under way. What is unknown or does not move is not listed."""
    names = draft.view.names
    wanted = {(ref.topic_id or names.get(ref.topic, b""), ref.partition) for ref in request.partitions} or None
    response = admin.ListReassignmentsResponse()
    for topic in sorted(draft.view.all_topics(), key=lambda topic: topic.name):
        for partition in moving(topic, wanted):
            response.partitions.add(
                partition=_named(topic, partition),
                replicas=partition.replicas,
                adding_replicas=partition.joining,
                removing_replicas=partition.leaving,
                target_replicas=partition.target,
                isr=partition.isr,
                leader=partition.leader,
                waits_for=_waits_for(draft, partition),
                cancelled=partition.cancelled,
            )
    return response


def _as_asked(draft: Draft, topic: Topic, partition: Partition, wish: admin.PartitionMove, load: Load) -> Partition:
    name, target = _name(topic, partition), tuple(wish.replicas)
    if len(wish.reason) > REASON_MAX:
        raise ApiError(
            pb.ERROR_CODE_INVALID_REQUEST,
            f"{name}: a reason of {len(wish.reason)} characters, {REASON_MAX} are allowed",
        )
    if wish.cancel:
        if target:
            raise ApiError(pb.ERROR_CODE_INVALID_REQUEST, f"{name}: name replicas or call the move off, not both")
        return call_off(draft, topic, partition, "an operator called its move off")
    cause = f"an operator moves it to {', '.join(map(str, target))}" + (f": {wish.reason}" if wish.reason else "")
    return begin_move(draft, topic, partition, target, cause, load)


def begin_move(
    draft: Draft, topic: Topic, partition: Partition, target: tuple[int, ...], cause: str, load: Load
) -> Partition:
    """A new target. What an earlier move added and this one does not want goes at once where it can be spared, and when
    this one is complete where not; where the partition began stays known, so that it can be called off."""
    _check_target(draft, _name(topic, partition), partition, target)
    if target == (partition.target or partition.replicas):
        return partition
    rules, original = draft.rules(topic), partition.original
    stale = [n for n in partition.adding if n not in target]
    isr = [n for n in partition.isr if draft.eligible(n, partition)]
    enough = rules.enough(len(original))
    needed = () if len(isr) >= enough else (*partition.elr, *partition.last_known_elr)
    settled = partition.leader != NO_LEADER and not partition.recovering
    drops = settled and set(needed).isdisjoint(stale) and spare(stale, isr, enough)
    kept = tuple(n for n in partition.adding if n in target or not drops)
    new = tuple(n for n in target if n not in original and n not in partition.adding)
    check_partition_limit(draft, load, [new])
    load.replicas.update(new)
    return _set(draft, topic, partition, (*original, *kept, *new), (*kept, *new), target, cause)


def call_off(draft: Draft, topic: Topic, partition: Partition, cause: str) -> Partition:
    """Back to where the move began. Raises NO_REASSIGNMENT_IN_PROGRESS."""
    if not partition.target:
        raise ApiError(pb.ERROR_CODE_NO_REASSIGNMENT_IN_PROGRESS, f"{_name(topic, partition)} does not move")
    return _set(draft, topic, partition, partition.replicas, partition.adding, partition.original, cause)


def _set(
    draft: Draft,
    topic: Topic,
    partition: Partition,
    replicas: tuple[int, ...],
    adding: tuple[int, ...],
    target: tuple[int, ...],
    cause: str,
) -> Partition:
    change = records.PartitionChangeRecord(topic_id=topic.topic_id, partition=partition.partition, cause=cause)
    change.replicas.ids.extend(replicas)
    for field, ids in ((change.adding_replicas, adding), (change.target_replicas, target)):
        field.ids.extend(ids)
        field.SetInParent()
    draft.add(records.MetadataRecord(partition_change=change))
    begun = draft.view.partition(topic.topic_id, partition.partition)
    if begun is None:
        raise InvariantError(f"{_name(topic, partition)} is gone after a change of it")
    after = reconsider(draft, begun, cause)
    check_leaving(topic, partition, after, draft.rules(topic))
    return after


def _check_target(draft: Draft, name: str, partition: Partition, target: tuple[int, ...]) -> None:
    if not target or len(set(target)) != len(target):
        raise ApiError(
            pb.ERROR_CODE_INVALID_REPLICA_ASSIGNMENT, f"{name}: {list(target)[:20]} is empty or names a node twice"
        )
    unknown = sorted(set(target) - draft.view.brokers.keys())
    if unknown:
        raise ApiError(
            pb.ERROR_CODE_INVALID_REPLICA_ASSIGNMENT,
            f"{name}: {unknown[:20]} are not registered, {sorted(draft.view.brokers)} are",
        )
    drained = [n for n in target if n not in partition.replicas and draft.draining(n)]
    if drained:
        raise ApiError(
            pb.ERROR_CODE_INVALID_REPLICA_ASSIGNMENT,
            f"{name}: {drained} are drained and get nothing new",
            next_step=f"name other nodes, or run `ottla node resume {drained[0]}` first",
        )


def _waits_for(draft: Draft, partition: Partition) -> str:
    if partition.leader == NO_LEADER:
        return "a leader"
    missing = [n for n in partition.target if n not in partition.isr]
    if partition.cancelled or not missing:
        return f"enough of {', '.join(map(str, partition.target))} in sync"
    return "; ".join(f"{n} is {draft.why_not_eligible(n, partition) or 'catching up'}" for n in missing)


def _find(draft: Draft, ref: data.TopicPartition) -> tuple[Topic, Partition]:
    topic = draft.view.topic(ref.topic_id) if ref.topic_id else draft.view.topic_named(ref.topic)
    if topic is None or (ref.topic and ref.topic != topic.name):
        raise ApiError(pb.ERROR_CODE_UNKNOWN_TOPIC_OR_PARTITION, f"there is no topic {ref.topic[:100]!r}")
    partition = draft.view.partition(topic.topic_id, ref.partition)
    if partition is None:
        raise ApiError(
            pb.ERROR_CODE_UNKNOWN_TOPIC_OR_PARTITION,
            f"{topic.name} has partitions 0 to {len(topic.partitions) - 1}, not {ref.partition}",
        )
    return topic, partition


def _named(topic: Topic, partition: Partition) -> data.TopicPartition:
    return data.TopicPartition(topic=topic.name, topic_id=topic.topic_id, partition=partition.partition)


def _name(topic: Topic, partition: Partition) -> str:
    return f"{topic.name}-{partition.partition}"
