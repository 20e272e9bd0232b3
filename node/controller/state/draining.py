"""Emptying a node: what is drained gets nothing new, and its replicas move to others (`ottla node drain`)."""

from typing import Final

from node.controller.state.draft import Draft
from node.controller.state.features import check_level
from node.controller.state.placement import Load, add_followers
from node.metadata.apply import BROKER_CONFIG
from node.metadata.image import DRAINING, REASSIGNMENT_METADATA_VERSION, Image, is_draining
from ottla.internal.v1 import metadata_pb2 as records
from ottla.protocol.errors import ApiError
from ottla.v1 import admin_pb2 as admin
from ottla.v1 import data_pb2 as data
from ottla.v1 import error_pb2 as pb

NAMED_MAX: Final = 5


def drained(image: Image, request: admin.ReassignPartitionsRequest) -> admin.ReassignPartitionsRequest:
    """The request that names a node to be drained, with a move for each partition that has a replica there: to the
    rack, then the node, that has the fewest. Raises INVALID_REQUEST, BROKER_ID_NOT_REGISTERED and
    INVALID_REPLICATION_FACTOR where there are not enough other nodes for all of its replicas."""
    node_id = request.drain_node_id
    if request.partitions:
        raise ApiError(pb.ERROR_CODE_INVALID_REQUEST, "name partitions or a node to drain, not both")
    if node_id not in image.brokers:
        raise ApiError(pb.ERROR_CODE_BROKER_ID_NOT_REGISTERED, f"node {node_id} is not registered")
    others = [b for b in image.live_brokers() if b.node_id != node_id and not is_draining(image, b.node_id)]
    takers = {broker.node_id for broker in others}
    load = Load.of(image)
    moves, stuck = [], []
    for _, topic in sorted(image.topics.items(), key=lambda item: item[1].name):
        for partition in topic.partitions:
            before = partition.target or partition.replicas
            if node_id not in before:
                continue
            left = tuple(n for n in before if n != node_id)
            if takers <= set(left):
                stuck.append(f"{topic.name}-{partition.partition} has {len(before)} replicas, {list(before)}")
                continue
            (new,) = set(add_followers(left, others, len(before), load)) - set(left)
            load.replicas[new] += 1
            target = [new if n == node_id else n for n in before]
            ref = data.TopicPartition(topic=topic.name, topic_id=topic.topic_id, partition=partition.partition)
            reason = f"node {node_id} is drained"
            moves.append(admin.PartitionMove(partition=ref, replicas=target, reason=reason))
    if stuck:
        more = f" and {len(stuck) - NAMED_MAX} more" if len(stuck) > NAMED_MAX else ""
        raise ApiError(
            pb.ERROR_CODE_INVALID_REPLICATION_FACTOR,
            f"{'; '.join(stuck[:NAMED_MAX])}{more}: without "
            f"node {node_id} only {sorted(takers)} are live and not drained; start or add another node first",
        )
    return admin.ReassignPartitionsRequest(
        partitions=moves, validate_only=request.validate_only, timeout_ms=request.timeout_ms
    )


def begin(draft: Draft, node_id: int) -> None:
    """From now on nothing new goes to the node, until that config is taken away. Raises UNSUPPORTED_VERSION and
    BROKER_ID_NOT_REGISTERED."""
    check_level(draft, REASSIGNMENT_METADATA_VERSION, "partitions move")
    if node_id not in draft.view.brokers:
        raise ApiError(pb.ERROR_CODE_BROKER_ID_NOT_REGISTERED, f"node {node_id} is not registered")
    if not draft.draining(node_id):
        config = records.ConfigRecord(
            resource_type=BROKER_CONFIG, resource_name=str(node_id), key=DRAINING, value="true"
        )
        draft.add(records.MetadataRecord(config=config))
