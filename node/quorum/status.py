"""The quorum as one node sees it, for DescribeQuorum and for whoever reads the log."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import structlog

from ottla.v1 import cluster_pb2
from raft.core import Status
from raft.effects import Role
from raft.model import PeerId

log = structlog.get_logger(__name__)


def describe(
    me: PeerId,
    status: Status | None,
    address_of: Callable[[int], str],
    configured: Mapping[int, str],
    leaderless_ms: int,
    now_ms: int,
) -> cluster_pb2.DescribeQuorumResponse:
    """Translate `status`; None: there is no cluster yet, and only the `configured` voters can be named.

    Progress is known on the leader only; elsewhere it is absent, never a guess.
    """
    if status is None:
        seats = [cluster_pb2.QuorumReplica(node_id=i, address=address) for i, address in sorted(configured.items())]
        return cluster_pb2.DescribeQuorumResponse(leaderless_ms=leaderless_ms, voters=seats, node_id=me.node_id)
    progress = {p.peer: p for p in status.peers}

    def replica(peer: PeerId) -> cluster_pb2.QuorumReplica:
        answer = cluster_pb2.QuorumReplica(
            node_id=peer.node_id, directory_id=peer.directory_id, address=address_of(peer.node_id)
        )
        p = progress.get(peer)
        if peer == me and status.role is Role.LEADER:
            answer.match_index, answer.lag_records, answer.lag_ms = status.last_index, 0, 0
        elif p is not None:
            answer.match_index, answer.lag_records = p.match_index, p.lag
            answer.lag_ms = 0 if p.lag == 0 else max(0, now_ms - p.caught_up_ms)
        return answer

    return cluster_pb2.DescribeQuorumResponse(
        leader_id=None if status.leader is None else status.leader.node_id,
        leader_epoch=status.term,
        commit_index=status.commit_index,
        last_index=status.last_index,
        leaderless_ms=leaderless_ms,
        voters=[replica(peer) for peer in sorted(status.voters)],
        observers=[replica(p.peer) for p in status.peers if not p.voter],
        node_id=me.node_id,
    )


def tell_replaced_disks(voters: Sequence[PeerId], present: Iterable[PeerId], told: list[PeerId]) -> list[PeerId]:
    """Log which voters came back with another disk, and what can be done; returns them. `told`: the last answer."""
    now = {peer.node_id: peer for peer in present}
    replaced = [voter for voter in voters if now.get(voter.node_id, voter) != voter]
    if not replaced or replaced == told:
        return replaced
    if 2 * len(replaced) >= len(voters):
        log.error(
            "quorum_majority_of_disks_replaced",
            voters=[str(voter) for voter in voters],
            replaced=[str(voter) for voter in replaced],
            meaning="no majority remembers this cluster's metadata: nobody can lead, and no new cluster is formed",
            next_step="stop these nodes and restore their data directories as they were",
        )
    else:
        log.warning(
            "quorum_voter_disk_replaced",
            replaced=[str(voter) for voter in replaced],
            meaning="the node follows without a vote",
            next_step="; ".join(f"ottla cluster voter remove {i}, then add {i}" for i, _ in replaced),
        )
    return replaced
