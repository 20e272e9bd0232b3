"""AlterPartition (KIP-497): a leader asks for another ISR. Every way of being out of date has its own code."""

from typing import Final

from node.controller.state.draft import Draft
from node.controller.state.elections import reconsider
from node.metadata.image import Partition
from ottla.internal.v1 import controller_pb2 as rpc
from ottla.protocol.errors import ApiError
from ottla.v1 import error_pb2 as pb

REASON_MAX: Final = 500


def alter_partition(draft: Draft, request: rpc.AlterPartitionRequest) -> rpc.AlterPartitionResponse:
    """Changes the ISR of many partitions for one leader node; each succeeds or fails by itself.

    Raises BROKER_ID_NOT_REGISTERED or STALE_BROKER_EPOCH where the sender is not the broker's present incarnation.
    """
    draft.registered(request.node_id, request.broker_epoch)
    return rpc.AlterPartitionResponse(partitions=[_alter_one(draft, request.node_id, p) for p in request.partitions])


def _alter_one(draft: Draft, sender: int, wish: rpc.AlterPartition) -> rpc.AlterPartitionResult:
    result = rpc.AlterPartitionResult(topic_id=wish.topic_id, partition=wish.partition)
    try:
        partition = _check(draft, sender, wish)
    except ApiError as error:
        result.error.CopyFrom(error.to_proto())
        return result
    members = [member.node_id for member in wish.isr]
    cause = f"leader {sender} asked for ISR {', '.join(map(str, sorted(members)))}"
    if wish.reason:
        cause += f": {wish.reason[:REASON_MAX]}"
    after = reconsider(
        draft,
        partition,
        cause,
        isr=members,
        recovered=wish.recovered,
    )
    if partition.target and not after.target:
        # A leader must not know of an ISR without the replicas that it is of: what counts as enough goes by them.
        message = f"the change ended a move, the replicas are {after.replicas} now: the metadata has them"
        result.error.CopyFrom(_refuse(pb.ERROR_CODE_INVALID_UPDATE_VERSION, message, after).to_proto())
        return result
    result.isr.extend(after.isr)
    result.leader = after.leader
    result.leader_epoch = after.leader_epoch
    result.partition_epoch = after.partition_epoch
    return result


def _check(draft: Draft, sender: int, wish: rpc.AlterPartition) -> Partition:
    """The partition, if the wish is of its leader's present epochs and every member may be in the ISR."""
    topic = draft.view.topic(wish.topic_id)
    if topic is None:
        raise ApiError(pb.ERROR_CODE_UNKNOWN_TOPIC_ID, f"there is no topic {wish.topic_id.hex()}")
    name = f"{topic.name}-{wish.partition}"
    partition = draft.view.partition(wish.topic_id, wish.partition)
    if partition is None:
        raise ApiError(
            pb.ERROR_CODE_UNKNOWN_TOPIC_OR_PARTITION, f"{name}: the topic has {len(topic.partitions)} partitions"
        )
    leadership = f"led by {partition.leader} in epoch {partition.leader_epoch}"
    if sender not in partition.replicas:
        raise ApiError(pb.ERROR_CODE_INVALID_REQUEST, f"{name}: {sender} is no replica, those are {partition.replicas}")
    if wish.leader_epoch > partition.leader_epoch:
        raise _refuse(pb.ERROR_CODE_UNKNOWN_LEADER_EPOCH, f"{name} is {leadership}, not {wish.leader_epoch}", partition)
    if partition.leader != sender:
        raise _refuse(pb.ERROR_CODE_NEW_LEADER_ELECTED, f"{name} is {leadership}, not by {sender}", partition)
    if wish.leader_epoch < partition.leader_epoch:
        raise _refuse(
            pb.ERROR_CODE_FENCED_LEADER_EPOCH,
            f"{name} is {leadership}, the request is of {wish.leader_epoch}",
            partition,
        )
    if wish.partition_epoch != partition.partition_epoch:
        raise _refuse(
            pb.ERROR_CODE_INVALID_UPDATE_VERSION,
            f"{name} is at partition epoch {partition.partition_epoch}, the request is based on {wish.partition_epoch}",
            partition,
        )
    members = [member.node_id for member in wish.isr]
    if len(set(members)) != len(members) or not set(members) <= set(partition.replicas) or sender not in members:
        raise ApiError(
            pb.ERROR_CODE_INVALID_REQUEST,
            f"{name}: an ISR of {members} is not possible: the leader {sender} and other replicas of "
            f"{partition.replicas}, each once, are",
        )
    _check_members(draft, name, partition, wish)
    return partition


def _check_members(draft: Draft, name: str, partition: Partition, wish: rpc.AlterPartition) -> None:
    """KIP-903: a member counts only in the incarnation that fetched; a wiped restart must not look in sync."""
    wrong = []
    for member in wish.isr:
        broker = draft.view.brokers.get(member.node_id)
        reason = draft.why_not_eligible(member.node_id, partition)
        if reason is None and broker is not None and broker.broker_epoch != member.broker_epoch:
            reason = f"at broker epoch {broker.broker_epoch}, not {member.broker_epoch}"
        if reason is not None:
            wrong.append(f"{member.node_id} is {reason}")
    if wrong:
        raise _refuse(pb.ERROR_CODE_INELIGIBLE_REPLICA, f"{name}: {'; '.join(wrong)}", partition)


def _refuse(code: int, message: str, partition: Partition) -> ApiError:
    leader = partition.leader if partition.leader >= 0 else None
    return ApiError(code, message, leader=leader, epoch=partition.leader_epoch)
