"""Who leads: pre-vote, votes, stickiness, and what a leader does first (Raft 5.2, 5.4.1; dissertation 3.10, 4.2.3, 9.6;
KIP-996).
"""

from collections.abc import Iterable

from raft import membership, replication
from raft.effects import Role
from raft.messages import (
    PreVoteRequest,
    PreVoteResponse,
    TimeoutNow,
    VoteRequest,
    VoteResponse,
)
from raft.model import EntryKind, PeerId
from raft.quorum import Outcome, Vote, election_outcome
from raft.state import RaftState


def stand(s: RaftState) -> None:
    """The election timer ran out: ask first whether an election could be won, without touching the term."""
    s.named_voters = ()
    if electorate(s) == (s.me,):
        become_candidate(s, transfer=False)
        return
    s.role = Role.PROSPECTIVE
    s.votes = {s.me: own_vote(s)}
    s.restart_election_timer()
    ask(s, electorate(s))
    conclude(s)


def electorate(s: RaftState) -> tuple[PeerId, ...]:
    """Whom to ask for votes."""
    return (*s.log.voters, *s.other_voters)


def become_candidate(s: RaftState, *, transfer: bool) -> None:
    """Start a term and vote for oneself; that vote counts when it is on disk, like every other (see
    `own_vote_persisted`).
    """
    s.role = Role.CANDIDATE
    s.leader = None
    s.term += 1
    s.voted_for = s.me
    s.hard_state_changed = True
    s.verified_index = 0
    s.votes = {}
    s.transfer_election = transfer
    s.restart_election_timer()
    ask(s, electorate(s))


def ask(s: RaftState, voters: Iterable[PeerId]) -> None:
    """Ask `voters` for what the round that is open needs."""
    end = (s.log.last_index, s.log.last_term)
    for voter in voters:
        if voter != s.me and s.role is Role.PROSPECTIVE:
            s.send(PreVoteRequest(s.cluster_id, s.me, voter, s.term, *end))
        elif voter != s.me:
            s.send(VoteRequest(s.cluster_id, s.me, voter, s.term, *end, s.transfer_election))


def own_vote_persisted(s: RaftState) -> None:
    """The candidate's own vote of this term is on disk."""
    s.votes[s.me] = own_vote(s)
    conclude(s)


def own_vote(s: RaftState) -> Vote:
    """What this member's vote is worth."""
    return Vote.YES if s.is_whole else Vote.IF_ALL


def vote_of(m: PreVoteResponse | VoteResponse) -> Vote:
    """What an answer is worth."""
    if not m.granted:
        return Vote.NO
    return Vote.IF_ALL if m.if_all else Vote.YES


def count(s: RaftState, m: PreVoteResponse | VoteResponse) -> None:
    """Count an answer, once per voter, however often it arrives. A damaged voter names who else must agree: the log
    that made them voters may be the one it lost.
    """
    if m.granted and m.if_all and m.sender in electorate(s) and len(m.voters) <= s.config.max_observers:
        named = [voter for voter in m.voters if voter not in electorate(s)]
        s.named_voters += tuple(named)
        ask(s, named)
    s.votes.setdefault(m.sender, vote_of(m))
    conclude(s)


def conclude(s: RaftState) -> None:
    """Count the votes of the round that is open, and act on a result."""
    outcome = election_outcome(s.log.voters, s.votes, s.dead, s.other_voters)
    if outcome is Outcome.WON:
        if s.role is Role.PROSPECTIVE:
            become_candidate(s, transfer=False)
        else:
            become_leader(s)
    elif outcome is Outcome.LOST:
        back_off(s)


def back_off(s: RaftState) -> None:
    """Wait after a lost round: a random time that doubles, so that split votes end soon (KIP-996 has the same rule)."""
    s.become_follower(s.term, None)
    s.lost_elections += 1
    longest = min(s.config.election_backoff_max_ms, s.config.dead_leader_jitter_ms << min(s.lost_elections, 10))
    s.election_deadline_ms = s.now_ms + s.randint(longest // 2, longest)


def become_leader(s: RaftState) -> None:
    """Lead: append a no-op at once, for only an entry of the own term can commit what came before (Raft 5.4.2, 8)."""
    s.role = Role.LEADER
    s.leader = s.me
    s.lost_elections = 0
    s.votes.clear()
    s.drop_leader_state()
    s.round = 0
    s.term_start_index = s.append(EntryKind.NOOP).index
    s.heartbeat_deadline_ms = s.now_ms + s.config.heartbeat_interval_ms
    membership.track_voters(s)
    replication.send_to_all(s)


def log_is_up_to_date(s: RaftState, last_index: int, last_term: int) -> bool:
    """Whether a log ending at (last_index, last_term) is at least as complete as the own: term first (Raft 5.4.1)."""
    return (last_term, last_index) >= (s.log.last_term, s.log.last_index)


def on_pre_vote_request(s: RaftState, m: PreVoteRequest) -> None:
    """Grant what a vote would be granted for; a live leader is protected before this rule is reached
    (`refuse_pre_vote`).

    Whether the sender is a voter is not asked: its own log may know of a promotion that this one has not seen (etcd
    10998).
    """
    granted = log_is_up_to_date(s, m.last_log_index, m.last_log_term)
    if not granted:
        note_that_it_counts(s)
    s.send(PreVoteResponse(s.cluster_id, s.me, m.sender, s.term, granted, not s.is_whole, s.needed_voters))


def refuse_pre_vote(s: RaftState, m: PreVoteRequest) -> None:
    """The sender would disturb a leader that lives, or is of an old term and learns the new one from this answer."""
    s.send(PreVoteResponse(s.cluster_id, s.me, m.sender, s.term, False))


def on_pre_vote_at_leader(s: RaftState, m: PreVoteRequest) -> None:
    """This leader lives. A sender outside the voter set was removed while it was away: let it follow again."""
    refuse_pre_vote(s, m)
    replication.track_observer(s, m.sender, m.last_log_index)


def on_pre_vote_response(s: RaftState, m: PreVoteResponse) -> None:
    """Count it; the first answer of a voter stands."""
    count(s, m)


def on_vote_request(s: RaftState, m: VoteRequest) -> None:
    """One vote per term, first come first served, for a log at least as complete; on disk before it is sent (Raft 5.2,
    5.4.1).
    """
    free = s.voted_for is None or s.voted_for == m.sender
    complete = log_is_up_to_date(s, m.last_log_index, m.last_log_term)
    granted = free and complete
    if not complete:
        note_that_it_counts(s)
    if granted and s.voted_for is None:
        s.voted_for = m.sender
        s.hard_state_changed = True
    if granted:
        s.restart_election_timer()
    response = VoteResponse(s.cluster_id, s.me, m.sender, s.term, granted, not s.is_whole, s.needed_voters)
    s.send(response, after_sync=True)


def refuse_vote(s: RaftState, m: VoteRequest) -> None:
    """In this term the sender can get no vote from this role, or its term is over."""
    s.send(VoteResponse(s.cluster_id, s.me, m.sender, s.term, False))


def on_vote_response(s: RaftState, m: VoteResponse) -> None:
    """Count it; the first answer of a voter stands."""
    count(s, m)


def note_that_it_counts(s: RaftState) -> None:
    """This member was asked for its vote by a log less complete than its own: if its log gives it no vote, another one
    did, and it may have to lead to hand on what it holds.
    """
    if not s.may_stand:
        s.counted_as_voter = True
        s.restart_election_timer()


def on_timeout_now(s: RaftState, m: TimeoutNow) -> None:
    """The leader hands over: stand at once, without pre-vote, which its followers would refuse (dissertation 3.10)."""
    if m.sender == s.leader and s.may_stand:
        become_candidate(s, transfer=True)


def leader_died(s: RaftState, peer: PeerId) -> None:
    """The shell has a verdict that `peer` closed its connections for good: if it led, stand soon instead of waiting for
    silence.
    """
    if peer == s.leader and s.role is Role.FOLLOWER:
        soon_ms = s.now_ms + s.randint(0, s.config.dead_leader_jitter_ms)
        s.election_deadline_ms = min(s.election_deadline_ms, soon_ms)
    elif s.role in (Role.PROSPECTIVE, Role.CANDIDATE):
        conclude(s)
