"""Who votes: one voter in or out at a time, in force as soon as it is appended (Raft dissertation 4; KIP-853)."""

from raft.effects import Role
from raft.errors import RefusedError
from raft.messages import TimeoutNow
from raft.model import EntryKind, PeerId
from raft.progress import Flow
from raft.state import RaftState


def track_voters(s: RaftState) -> None:
    """Every voter but the leader has a progress. A removed one keeps it as an observer, and so learns of it."""
    for voter in s.log.voters:
        if voter != s.me and voter not in s.peers:
            s.track(voter, next_index=s.log.last_index)


def drop_silent_observers(s: RaftState) -> None:
    """Stop sending to observers that have not been heard for `observer_timeout_ms`."""
    silent = [
        peer
        for peer, p in s.peers.items()
        if s.now_ms - p.last_contact_ms > s.config.observer_timeout_ms and peer not in s.log.voters
    ]
    for peer in silent:
        del s.peers[peer]


def require_change_allowed(s: RaftState) -> None:
    """One change at a time, and none before an entry of the own term is committed.

    Without the second rule two leaders can each commit a change of the same old set and end up with majorities that do
    not meet (Ongaro, raft-dev 2015).
    """
    if s.commit_index < s.term_start_index:
        raise RefusedError("this leader has not committed an entry of its own term yet; try again", retriable=True)
    if s.log.voters_index > s.commit_index:
        raise RefusedError(
            f"the voter change at index {s.log.voters_index} is not committed yet; try again after it", retriable=True
        )


def add_voter(s: RaftState, peer: PeerId) -> None:
    """Append the voter set with `peer`, an observer that holds everything committed. Raises RefusedError."""
    require_change_allowed(s)
    if peer in s.log.voters:
        raise RefusedError(f"{peer} is a voter already", retriable=False)
    same_node = [voter for voter in s.log.voters if voter.node_id == peer.node_id]
    if same_node:
        raise RefusedError(f"node {peer.node_id} votes as {same_node[0]}; remove that voter first", retriable=False)
    p = s.peers.get(peer)
    if p is None or p.flow is not Flow.REPLICATE or p.match_index < s.commit_index:
        behind = "is not following this leader" if p is None else f"holds {p.match_index} of {s.commit_index} entries"
        raise RefusedError(f"{peer} {behind}; it must catch up as an observer first", retriable=True)
    s.append(EntryKind.VOTERS, voters=(*s.log.voters, peer))


def remove_voter(s: RaftState, peer: PeerId) -> None:
    """Append the voter set without `peer`, which may be this leader itself. Raises RefusedError."""
    require_change_allowed(s)
    if peer not in s.log.voters:
        raise RefusedError(f"{peer} is not a voter", retriable=False)
    if len(s.log.voters) == 1:
        raise RefusedError(f"{peer} is the last voter", retriable=False)
    if s.transfer_to == peer:
        s.transfer_to = None
    s.append(EntryKind.VOTERS, voters=tuple(voter for voter in s.log.voters if voter != peer))


def step_down_if_removed(s: RaftState) -> None:
    """A leader that committed its own removal hands over to the voter that holds most and stops leading (dissertation
    4.2.2).
    """
    if s.role is Role.LEADER and not s.is_voter and s.log.voters_index <= s.commit_index:
        successor = max(s.log.voters, key=lambda voter: s.peers[voter].match_index)
        s.send(TimeoutNow(s.cluster_id, s.me, successor, s.term))
        s.become_follower(s.term, None)


def transfer(s: RaftState, target: PeerId) -> None:
    """Hand leadership to the voter `target` once it holds the whole log; given up after an election timeout. Raises
    RefusedError.
    """
    if target == s.me or target not in s.log.voters:
        raise RefusedError(f"{target} is not another voter", retriable=False)
    s.transfer_to = target
    s.transfer_deadline_ms = s.now_ms + s.config.election_timeout_ms
    try_transfer(s)


def try_transfer(s: RaftState) -> None:
    """Tell the target to stand as soon as nothing is missing in its log (dissertation 3.10)."""
    if s.transfer_to is not None and s.peers[s.transfer_to].match_index == s.log.last_index:
        s.send(TimeoutNow(s.cluster_id, s.me, s.transfer_to, s.term))
