"""What a partition says when it refuses: the code, the facts and, where there is one, the leader to ask instead."""

from collections.abc import Iterable
from typing import NamedTuple

from node.broker.replica import LeaderReplica
from node.metadata.image import Image
from ottla.protocol.errors import ApiError
from ottla.v1 import error_pb2 as pb


class Hint(NamedTuple):
    """Who leads, as far as this node knows (KIP-951); nothing where nobody does."""

    leader: int | None = None
    epoch: int | None = None
    address: str = ""


def not_leading(name: str, node_id: int, hint: Hint) -> ApiError:
    who = "nobody does at present" if hint.leader is None else f"node {hint.leader} does"
    return ApiError(pb.ERROR_CODE_NOT_LEADER_OR_FOLLOWER, f"node {node_id} does not lead {name}, {who}", *hint)


def not_here(image: Image, node_id: int, topic_id: bytes, number: int) -> ApiError:
    topic, state = image.topic(topic_id), image.partition(topic_id, number)
    if topic is None or state is None:
        message = f"this node has no replica of partition {number} of {topic_id.hex()}"
        return ApiError(pb.ERROR_CODE_UNKNOWN_TOPIC_OR_PARTITION, message)
    leader = image.brokers.get(state.leader)
    hint = Hint() if leader is None else Hint(state.leader, state.leader_epoch, leader.client_address)
    return not_leading(f"{topic.name}-{number}", node_id, hint)


def removed(image: Image, key: tuple[bytes, int], name: str) -> tuple[str, int]:
    """What those are told who wait for something of a replica that goes."""
    if image.partition(*key) is None:
        return f"{name} was deleted", pb.ERROR_CODE_UNKNOWN_TOPIC_OR_PARTITION
    message = f"{name} moved away before the batch was committed; whether it stays is unknown"
    return message, pb.ERROR_CODE_NOT_LEADER_OR_FOLLOWER


def leader_changed(name: str, hint: Hint) -> ApiError:
    return ApiError(
        pb.ERROR_CODE_NOT_LEADER_OR_FOLLOWER,
        f"the leader of {name} changed before the batch was committed; whether it stays is unknown",
        *hint,
    )


def other_epoch(name: str, own: int, asked: int, hint: Hint) -> ApiError:
    code = pb.ERROR_CODE_FENCED_LEADER_EPOCH if asked < own else pb.ERROR_CODE_UNKNOWN_LEADER_EPOCH
    return ApiError(code, f"{name} is in leader epoch {own} here, the request says {asked}", *hint)


def offline(name: str, reason: str) -> ApiError:
    return ApiError(pb.ERROR_CODE_KAFKA_STORAGE_ERROR, f"the log of {name} is offline: {reason}")


def log_failed(name: str) -> ApiError:
    return ApiError(pb.ERROR_CODE_KAFKA_STORAGE_ERROR, f"the log of {name} failed; whether the batch stays is unknown")


def importing(name: str, topic: str) -> ApiError:
    """Retriable: who waits is served when all is there."""
    return ApiError(
        pb.ERROR_CODE_LEADER_NOT_AVAILABLE,
        f"{name} serves nobody yet: {topic} is being imported",
        next_step=f"wait; `ottla topic import` with the same file goes on with it, `ottla topic delete {topic}` gives "
        "it up",
        retry_after_ms=500,
    )


def disks_full(name: str, nodes: Iterable[int], leader: LeaderReplica) -> ApiError:
    return ApiError(
        pb.ERROR_CODE_KAFKA_STORAGE_ERROR,
        f"the disks of nodes {sorted(nodes)} are nearly full, of the in-sync replicas {sorted(leader.isr)} of {name} "
        f"fewer than min.insync.replicas={leader.effective_min_isr} have room; nothing was appended. It goes on by "
        "itself once there is room: delete records or topics, lower their retention, or add disk"
        if leader.node_id not in nodes
        else f"the disk of node {leader.node_id}, which leads {name}, is nearly full; nothing was appended. It goes on "
        "with another leader if enough in-sync replicas have room, or once there is room here: delete records or "
        "topics, lower their retention, or add disk",
        retry_after_ms=1000,
    )


def not_enough_replicas(name: str, leader: LeaderReplica) -> ApiError:
    return ApiError(
        pb.ERROR_CODE_NOT_ENOUGH_REPLICAS,
        f"{name} has in-sync replicas {sorted(leader.isr)}, min.insync.replicas is {leader.effective_min_isr}; "
        "nothing was appended",
    )


def isr_shrank(name: str, leader: LeaderReplica) -> ApiError:
    return ApiError(
        pb.ERROR_CODE_NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        f"the ISR of {name} shrank to {sorted(leader.isr)} after the append, min.insync.replicas is "
        f"{leader.effective_min_isr}",
    )


def offset_not_available(name: str, leader: LeaderReplica) -> ApiError:
    return ApiError(
        pb.ERROR_CODE_OFFSET_NOT_AVAILABLE,
        f"the new leader of {name}, in epoch {leader.leader_epoch}, does not know yet that everything up to offset "
        f"{leader.epoch_start} is committed; it knows it of {leader.high_watermark}",
        retry_after_ms=20,
    )


def out_of_range(what: str, offset: int, start: int, end: int) -> ApiError:
    return ApiError(pb.ERROR_CODE_OFFSET_OUT_OF_RANGE, f"{what}: offset {offset} is not within {start} to {end}")


def producer_id_not_given(producer_id: int) -> ApiError:
    """Retriable: the id may have been given out a moment ago, and this node's metadata be older."""
    return ApiError(
        pb.ERROR_CODE_COORDINATOR_LOAD_IN_PROGRESS,
        f"producer id {producer_id} was given to nobody, as far as this node knows yet: take one from InitProducerId",
        retry_after_ms=20,
    )
