"""DescribeQuorum: the Raft quorum that keeps the metadata, as Kafka's tools ask for it."""

from collections.abc import Awaitable, Callable
from typing import Final

from node.kafka.connection import Call
from node.kafka.messages.describe_quorum import (
    DescribeQuorumRequest,
    DescribeQuorumResponse,
    Listener,
    Node,
    PartitionData,
    ReplicaState,
    TopicData,
)
from node.kafka.wire import NO_ID, Message
from ottla.protocol.errors import ApiError
from ottla.v1 import cluster_pb2
from ottla.v1 import error_pb2 as pb

LOW, HIGH = 0, 2
TOPIC: Final = "__cluster_metadata"
"""Kafka's name of the metadata log, which has one partition."""
NOT_KNOWN: Final = -1
EPOCH_MAX: Final = 2**31 - 1

Describe = Callable[[], Awaitable[cluster_pb2.DescribeQuorumResponse]]


class DescribeQuorumHandler:
    def __init__(self, describe: Describe, wall_ms: Callable[[], int]) -> None:
        self._describe = describe
        self._wall_ms = wall_ms

    async def __call__(self, request: Message, call: Call) -> Message:
        assert isinstance(request, DescribeQuorumRequest)
        if [(each.topic_name, [p.partition_index for p in each.partitions]) for each in request.topics] != [
            (TOPIC, [0])
        ]:
            return DescribeQuorumResponse(
                error_message=None,
                topics=[
                    TopicData(each.topic_name, [_unknown(part.partition_index) for part in each.partitions])
                    for each in request.topics
                ],
            )
        try:
            quorum = await self._describe()
        except ApiError as error:
            return DescribeQuorumResponse(error.code, error.message)
        if quorum.HasField("error"):
            return DescribeQuorumResponse(quorum.error.code, quorum.error.message)
        return DescribeQuorumResponse(
            error_message=None,
            topics=[TopicData(TOPIC, [_partition(quorum, self._wall_ms())])],
            nodes=[_node(voter) for voter in quorum.voters],
        )


def _unknown(number: int) -> PartitionData:
    return PartitionData(number, pb.ERROR_CODE_UNKNOWN_TOPIC_OR_PARTITION, f"the quorum keeps {TOPIC}-0 alone")


def _partition(quorum: cluster_pb2.DescribeQuorumResponse, now_ms: int) -> PartitionData:
    led = quorum.HasField("leader_id")
    return PartitionData(
        error_code=0 if led else pb.ERROR_CODE_LEADER_NOT_AVAILABLE,
        error_message=None if led else f"there has been no leader for {quorum.leaderless_ms} ms",
        leader_id=quorum.leader_id if led else NOT_KNOWN,
        leader_epoch=min(quorum.leader_epoch, EPOCH_MAX),
        high_watermark=quorum.commit_index + 1,
        current_voters=[_replica(each, quorum, now_ms) for each in quorum.voters],
        observers=[_replica(each, quorum, now_ms) for each in quorum.observers],
    )


def _replica(each: cluster_pb2.QuorumReplica, quorum: cluster_pb2.DescribeQuorumResponse, now_ms: int) -> ReplicaState:
    end = NOT_KNOWN
    if each.HasField("match_index"):
        end = each.match_index + 1
    elif each.node_id == quorum.node_id:
        end = quorum.last_index + 1
    caught_up_ms = now_ms - each.lag_ms if each.HasField("lag_ms") else NOT_KNOWN
    return ReplicaState(each.node_id, each.directory_id or NO_ID, end, caught_up_ms, caught_up_ms)


def _node(voter: cluster_pb2.QuorumReplica) -> Node:
    host, _, port = voter.address.rpartition(":")
    return Node(voter.node_id, [Listener("CONTROLLER", host.strip("[]"), int(port))] if port.isdecimal() else [])
