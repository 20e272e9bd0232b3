"""Elections on request, and leadership that goes back to the preferred replica by itself."""

from typing import Final

from node.controller.state.draft import Draft, LogEnd, PartitionKey
from node.controller.state.elections import best_log, reconsider
from node.metadata.image import NO_LEADER, Image, Partition, Topic
from ottla.protocol.errors import ApiError
from ottla.v1 import admin_pb2 as admin
from ottla.v1 import data_pb2 as data
from ottla.v1 import error_pb2 as pb

NOT_KNOWN: Final = -1


def everywhere(image: Image, request: admin.ElectLeadersRequest) -> admin.ElectLeadersRequest:
    """The request that names no partition, with those named where an election is needed."""
    unclean = request.type == admin.ELECTION_TYPE_UNCLEAN
    return admin.ElectLeadersRequest(
        type=request.type,
        validate_only=request.validate_only,
        partitions=[
            data.TopicPartition(topic=topic.name, topic_id=topic.topic_id, partition=partition.partition)
            for topic in image.topics.values()
            for partition in topic.partitions
            if partition.leader == NO_LEADER or (not unclean and partition.leader != partition.replicas[0])
        ],
    )


def elect_leaders(draft: Draft, request: admin.ElectLeadersRequest) -> admin.ElectLeadersResponse:
    """Holds elections: preferred, or unclean where no eligible replica is left."""
    if request.validate_only:
        draft = draft.scratch()
    unclean = request.type == admin.ELECTION_TYPE_UNCLEAN
    response = admin.ElectLeadersResponse()
    for ref in request.partitions:
        result = response.partitions.add(partition=ref, records_at_risk=0)
        try:
            topic, partition = _find(draft, ref)
            if partition.leader != NO_LEADER:
                result.leader_id = partition.leader
            if unclean:
                _elect_unclean(draft, topic, partition, result)
            else:
                _elect_preferred(draft, topic, partition, result)
        except ApiError as error:
            result.error.CopyFrom(error.to_proto())
    return response


def balance(draft: Draft) -> None:
    """Takes leadership from drained brokers, and gives it back to preferred replicas that have been in sync for
    `rebalance_delay_ms`, a few at a time."""
    _hand_over(draft)
    if draft.cluster_config("auto.leader.rebalance.enable") is not True:
        draft.soft.preferred_since_ms.clear()
        return
    since_ms: dict[PartitionKey, int] = {}
    due = []
    for topic in draft.view.all_topics():
        for partition in topic.partitions:
            preferred = partition.replicas[0]
            if (
                partition.leader in (preferred, NO_LEADER)
                or preferred not in partition.isr
                or not draft.has_room(preferred)
                or draft.draining(preferred)
            ):
                continue
            key = (topic.topic_id, partition.partition)
            since_ms[key] = draft.soft.preferred_since_ms.get(key, draft.now_ms)
            if draft.now_ms - since_ms[key] >= draft.settings.rebalance_delay_ms:
                due.append(partition)
    draft.soft.preferred_since_ms = since_ms
    for partition in due[: draft.settings.rebalance_moves_max]:
        seconds = (draft.now_ms - since_ms[(partition.topic_id, partition.partition)]) / 1000
        reconsider(draft, partition, f"preferred replica in sync for {seconds:.1f} s", prefer_first=True)


def _hand_over(draft: Draft) -> None:
    drained = {node_id for node_id in draft.view.brokers if draft.draining(node_id)}
    if not drained:
        return
    due = [
        partition
        for topic in draft.view.all_topics()
        for partition in topic.partitions
        if partition.leader in drained and not drained.issuperset(partition.isr)
    ]
    for partition in due[: draft.settings.rebalance_moves_max]:
        reconsider(draft, partition, f"broker {partition.leader} is drained", hand_over=True)


def _find(draft: Draft, ref: data.TopicPartition) -> tuple[Topic, Partition]:
    topic = draft.view.topic(ref.topic_id) if ref.topic_id else draft.view.topic_named(ref.topic)
    if topic is None or (ref.topic and ref.topic != topic.name):
        raise ApiError(pb.ERROR_CODE_UNKNOWN_TOPIC_OR_PARTITION, f"there is no topic {ref.topic[:100]!r}")
    if not 0 <= ref.partition < len(topic.partitions):
        raise ApiError(
            pb.ERROR_CODE_UNKNOWN_TOPIC_OR_PARTITION,
            f"{topic.name} has partitions 0 to {len(topic.partitions) - 1}, not {ref.partition}",
        )
    return topic, topic.partitions[ref.partition]


def _elect_preferred(draft: Draft, topic: Topic, partition: Partition, result: admin.ElectLeadersResult) -> None:
    preferred = partition.replicas[0]
    name = f"{topic.name}-{partition.partition}"
    if partition.leader == preferred:
        raise ApiError(pb.ERROR_CODE_ELECTION_NOT_NEEDED, f"{name}: the preferred replica {preferred} leads")
    if preferred not in partition.isr:
        raise ApiError(
            pb.ERROR_CODE_ELIGIBLE_LEADERS_NOT_AVAILABLE,
            f"{name}: the preferred replica {preferred} is not in the ISR {list(partition.isr)}",
        )
    result.leader_id = reconsider(draft, partition, "an operator asked for it", prefer_first=True).leader


def _elect_unclean(draft: Draft, topic: Topic, partition: Partition, result: admin.ElectLeadersResult) -> None:
    name = f"{topic.name}-{partition.partition}"
    if partition.leader != NO_LEADER:
        raise ApiError(pb.ERROR_CODE_ELECTION_NOT_NEEDED, f"{name} is led by {partition.leader}")
    live = [n for n in partition.replicas if draft.eligible(n, partition)]
    if not live:
        raise ApiError(
            pb.ERROR_CODE_ELIGIBLE_LEADERS_NOT_AVAILABLE,
            f"{name}: none of the replicas {list(partition.replicas)} is live",
        )
    result.records_at_risk = _at_risk(draft, partition, best_log(draft, partition, live))
    after = reconsider(draft, partition, "an operator asked for it", allow_unclean=True)
    result.leader_id = after.leader
    if not after.recovering:
        result.records_at_risk = 0


def _at_risk(draft: Draft, partition: Partition, leader: int) -> int:
    """How many acknowledged records may be missing on `leader`, at most; -1 where nobody who speaks knows.

    Each eligible replica has all that was acknowledged, so one that speaks is enough. Who is only last known may have
    lost some of it: all of them must speak, and the longest log counts.
    """
    own = draft.log_end(leader, partition)
    if own is None:
        return NOT_KNOWN
    others = set(partition.elr or partition.last_known_elr) - {leader}
    ends = [draft.log_end(node_id, partition) for node_id in others]
    bounds = [_missing(own, end) for end in ends if end is not None]
    if partition.elr:
        return 0 if leader in partition.elr else min(bounds, default=NOT_KNOWN)
    return max(bounds, default=0) if len(bounds) == len(ends) else NOT_KNOWN


def _missing(own: LogEnd, other: LogEnd) -> int:
    """How much of another log this one lacks, at most: of one that went on in a later epoch, perhaps all."""
    common = own.log_end_offset if own.last_epoch >= other.last_epoch else 0
    return max(0, other.log_end_offset - common)
