"""The log goes from the leader to everybody else, and what a majority has synced is committed (Raft 5.3, 5.4.2;
dissertation 6.4).
"""

from collections.abc import Iterable

from raft import membership
from raft.effects import ReadResult, Role
from raft.messages import (
    AppendAccepted,
    AppendRefused,
    AppendRequest,
    FollowRequest,
    Heartbeat,
    HeartbeatResponse,
    SnapshotChunk,
)
from raft.model import PeerId
from raft.progress import Flow, Progress
from raft.quorum import majority, majority_reached
from raft.state import PendingRead, RaftState

# --- leader: sending


def send_to_all(s: RaftState) -> None:
    """Send every follower what it lacks and may be sent now."""
    for peer in s.peers:
        send_to(s, peer)


def send_to(s: RaftState, peer: PeerId) -> None:
    """Send `peer` what its flow allows: one probe, a window of entries, or a chunk of the snapshot."""
    p = s.peers[peer]
    while True:
        if p.flow is Flow.SNAPSHOT:
            send_chunk(s, peer, p)
            return
        if p.flow is Flow.PROBE and p.waiting_since_ms is not None:
            return
        if p.flow is Flow.REPLICATE and (p.next_index > s.log.last_index or len(p.in_flight) >= s.config.max_in_flight):
            return
        if p.next_index <= s.log.base_index:
            p.send_snapshot(s.log.snapshot, s.snapshot_size_bytes)
            continue
        prev_index = p.next_index - 1
        prev_term = s.log.term_at(prev_index)
        assert prev_term is not None
        entries = s.log.entries_from(p.next_index, s.config.max_append_bytes)
        s.send(AppendRequest(s.cluster_id, s.me, peer, s.term, prev_index, prev_term, s.commit_index, entries))
        if p.waiting_since_ms is None:
            p.waiting_since_ms = s.now_ms
        if p.flow is Flow.PROBE:
            return
        p.next_index = entries[-1].index + 1
        p.in_flight.append(entries[-1].index)


def send_chunk(s: RaftState, peer: PeerId, p: Progress) -> None:
    """Send the next chunk of the snapshot, one at a time; the shell fills in the bytes."""
    if p.waiting_since_ms is not None or p.snapshot is None:
        return
    p.waiting_since_ms = s.now_ms
    s.effects.send_chunks.append(
        SnapshotChunk(s.cluster_id, s.me, peer, s.term, p.snapshot, p.snapshot_size_bytes, p.snapshot_offset, b"")
    )


def send_heartbeats(s: RaftState) -> None:
    """Tell everybody who leads and what is committed of what they are known to hold. Never behind a disk."""
    for peer, p in s.peers.items():
        commit_index = min(s.commit_index, p.match_index)
        s.send(Heartbeat(s.cluster_id, s.me, peer, s.term, commit_index, s.round, p.loss, p.whole_index))


def heartbeat_due(s: RaftState) -> None:
    """The leader's clock: check the quorum, drop silent observers, give up what was lost on the way, show that it
    lives.
    """
    s.heartbeat_deadline_ms = s.now_ms + s.config.heartbeat_interval_ms
    if not has_quorum(s):
        s.become_follower(s.term, None)
        return
    membership.drop_silent_observers(s)
    if s.transfer_to is not None and s.now_ms >= s.transfer_deadline_ms:
        s.transfer_to = None
    send_heartbeats(s)
    for peer, p in s.peers.items():
        if p.waiting_since_ms is not None and s.now_ms - p.waiting_since_ms >= p.resend_ms:
            p.resend_ms = min(2 * p.resend_ms, s.config.resend_max_ms)
            if p.flow is Flow.SNAPSHOT:
                p.waiting_since_ms = None
            else:
                p.probe(p.match_index + 1)
        send_to(s, peer)


def has_quorum(s: RaftState) -> bool:
    """Check-quorum (dissertation 6.2): whether a majority of voters, this leader included if it is one, was heard
    lately.
    """
    heard = 0
    for voter in s.log.voters:
        if voter == s.me or s.now_ms - s.peers[voter].last_contact_ms <= s.config.fetch_timeout_ms:
            heard += 1
    return heard >= majority(len(s.log.voters))


# --- leader: answers


def contact(s: RaftState, peer: PeerId) -> Progress | None:
    """Note that `peer` answered; None, and counted, if this leader sends it nothing."""
    p = s.peers.get(peer)
    if p is None:
        s.drop("unknown_sender")
        return None
    if s.now_ms - p.last_contact_ms > s.config.fetch_timeout_ms:
        p.resend_ms = s.config.resend_ms  # it was away: what was sent meanwhile says nothing about the way to it
    p.last_contact_ms = s.now_ms
    return p


def on_append_accepted(s: RaftState, m: AppendAccepted) -> None:
    """The follower's synced log has grown to `match_index`: more may be committed, and more may be sent."""
    p = contact(s, m.sender)
    if p is None:
        return
    if not 0 <= m.match_index <= s.log.last_index:
        s.drop("absurd_index")
        return
    if p.snapshot is not None and m.match_index < min(s.log.base_index, p.snapshot.last_index):
        return  # an old answer: what follows that log is compacted away, and the snapshot is still on its way
    p.accepted(m.match_index, s.now_ms)
    if m.match_index == s.log.last_index:
        p.caught_up_ms = s.now_ms
    advance_commit(s)
    if s.role is Role.LEADER:
        send_to(s, m.sender)
        membership.try_transfer(s)


def on_append_refused(s: RaftState, m: AppendRefused) -> None:
    """The logs differ at `prev_log_index`: go back to the last place where they can agree, a term at a time (Raft 5.3).

    A follower that lost synced entries to a damaged disk refuses below its match: then the match goes back. That only
    ever delays a commit, and an assertion here would let one bad disk stop the leader (KAFKA-12181).
    """
    p = contact(s, m.sender)
    if p is None:
        return
    if not 0 <= m.hint_index < m.prev_log_index <= s.log.last_index:
        s.drop("absurd_index")
        return
    stale_probe = p.flow is Flow.PROBE and m.prev_log_index != p.next_index - 1
    if p.flow is Flow.SNAPSHOT or stale_probe or m.prev_log_index < p.match_index:
        return
    p.match_index = min(p.match_index, m.hint_index)
    agreement = s.log.agreement_at_most(m.hint_index, m.hint_term)
    p.probe((min(agreement, m.hint_index)) + 1)
    send_to(s, m.sender)


def on_heartbeat_response(s: RaftState, m: HeartbeatResponse) -> None:
    """It still follows: leadership at the time of `round` is confirmed by one more."""
    p = contact(s, m.sender)
    if p is None:
        return
    if not 0 <= m.round <= s.round:
        s.drop("absurd_round")
        return
    p.acked_round = max(p.acked_round, m.round)
    if m.loss != p.loss:
        p.loss, p.whole_index = m.loss, s.log.last_index
        if m.loss:
            p.probe(p.match_index + 1)  # how far it matches is what it remembered once
            send_to(s, m.sender)
    confirm_reads(s)


def on_follow_request(s: RaftState, m: FollowRequest) -> None:
    """A node outside the voter set wants the log."""
    track_observer(s, m.sender, m.last_log_index)
    contact(s, m.sender)


def track_observer(s: RaftState, peer: PeerId, last_log_index: int) -> None:
    """Send the log to `peer` from now on; it claims to hold `last_log_index` entries."""
    if peer not in s.peers:
        if len(s.peers) >= s.config.max_observers + len(s.log.voters):
            s.drop("too_many_observers")
            return
        # Where its log ends is only a guess at where to probe.
        next_index = max(0, min(last_log_index, s.log.last_index)) + 1
        s.track(peer, next_index)
        send_to(s, peer)


# --- leader: commit and reads


def advance_commit(s: RaftState) -> None:
    """Commit what a majority of voters has synced, if it is of the own term (Raft 5.4.2, figure 8).

    The own copy counts when it is synced, like any other, and not at all once this leader is out of the voter set. A
    new voter set counts when it is synced: nobody could say whom to ask for what a forgotten one has committed.
    """
    if s.log.voters_index > max(s.commit_index, s.own_match_index):
        return
    matches = [s.own_match_index if voter == s.me else s.peers[voter].match_index for voter in s.log.voters]
    index = majority_reached(matches)
    if index <= s.commit_index or s.log.term_at(index) != s.term:
        return
    for entry in s.log.slice(s.commit_index + 1, index):
        if entry.index >= s.term_start_index:
            s.uncommitted_bytes -= entry.size_bytes
    s.commit_to(index)
    send_heartbeats(s)
    membership.step_down_if_removed(s)


def own_log_persisted(s: RaftState, index: int) -> None:
    """The leader's own copy is synced up to `index`."""
    s.own_match_index = max(s.own_match_index, index)
    advance_commit(s)


def read_index(s: RaftState, request_id: int) -> None:
    """Note the commit index, then prove leadership with a round of its own: rounds are never reused (etcd 20418,
    21399).
    """
    s.round += 1
    s.pending_reads.append(PendingRead(request_id, s.commit_index, s.round))
    send_heartbeats(s)
    confirm_reads(s)


def confirm_reads(s: RaftState) -> None:
    """Release the reads whose round a majority has echoed."""
    if not s.pending_reads:
        return
    rounds = [s.round if voter == s.me else s.peers[voter].acked_round for voter in s.log.voters]
    confirmed = majority_reached(rounds)
    while s.pending_reads and s.pending_reads[0].round <= confirmed:
        read = s.pending_reads.popleft()
        s.effects.reads.append(ReadResult(read.request_id, read.index))


# --- follower


def ask_to_follow(s: RaftState, peers: Iterable[PeerId]) -> None:
    """Ask `peers` for the log: whichever of them leads will send it."""
    for peer in peers:
        if peer != s.me:
            s.send(FollowRequest(s.cluster_id, s.me, peer, s.term, s.log.last_index))


def follow(s: RaftState, leader: PeerId) -> None:
    """`leader` speaks in the own term: follow it, and note the contact - unless it is known dead and this arrived
    late.
    """
    if s.role is not Role.FOLLOWER or s.leader != leader:
        s.become_follower(s.term, leader)
    if leader not in s.dead:
        s.leader_contact_ms = s.now_ms
        s.restart_election_timer()


def on_append_request(s: RaftState, m: AppendRequest) -> None:
    """Take entries that follow on from the own log; cut the own log only where it really differs (Raft figure 2,
    AppendEntries).
    """
    follow(s, m.sender)
    if m.prev_log_index < s.commit_index:
        # Committed entries are equal everywhere: what this repeats is known, and what it adds comes again from there.
        accept(s, m.sender, s.commit_index)
        return
    if s.log.term_at(m.prev_log_index) != m.prev_log_term:
        if m.prev_log_index == s.commit_index:
            s.drop("conflicts_with_committed")
            return
        hint_index = s.log.agreement_at_most(m.prev_log_index - 1, m.prev_log_term)
        hint_term = s.log.term_at(hint_index)
        assert hint_term is not None
        s.send(AppendRefused(s.cluster_id, s.me, m.sender, s.term, m.prev_log_index, hint_index, hint_term))
        return
    for entry in m.entries:
        term = s.log.term_at(entry.index)
        if term == entry.term:
            continue
        if term is not None:
            truncate_from(s, entry.index)
        s.log.append(entry)
    last_index = m.prev_log_index + len(m.entries)
    s.verified_index = max(s.verified_index, last_index)
    s.commit_to(min(m.commit_index, last_index))
    accept(s, m.sender, last_index)


def accept(s: RaftState, leader: PeerId, match_index: int) -> None:
    """Answer that the log is equal up to `match_index`, once that much is synced."""
    s.send(AppendAccepted(s.cluster_id, s.me, leader, s.term, match_index), after_sync=True)


def append_is_well_formed(m: AppendRequest) -> bool:
    """Whether the request can come from a correct leader: contiguous, terms never falling and none above the
    leader's, and each entry is what its kind says.
    """
    if m.prev_log_index < 0 or not 0 <= m.prev_log_term <= m.term or m.commit_index < 0:
        return False
    index, term = m.prev_log_index, m.prev_log_term
    for entry in m.entries:
        if entry.index != index + 1 or not term <= entry.term <= m.term or not entry.is_sound:
            return False
        index, term = entry.index, entry.term
    return True


def heartbeat_is_well_formed(m: Heartbeat) -> bool:
    """Whether the heartbeat can come from a correct leader."""
    return min(m.commit_index, m.round, m.whole_index) >= 0


def truncate_from(s: RaftState, index: int) -> None:
    """Cut the log before `index`, in memory now and on disk at the next drain."""
    s.log.truncate_from(index)
    if index < s.write_from:
        s.write_from = index
        previous = s.effects.truncate_from
        s.effects.truncate_from = index if previous is None else min(previous, index)


def on_heartbeat(s: RaftState, m: Heartbeat) -> None:
    """The leader lives. Its commit index counts only for what is known to equal its log."""
    follow(s, m.sender)
    s.commit_to(min(m.commit_index, s.verified_index))
    if s.loss and m.loss == s.loss and s.verified_index >= m.whole_index:
        s.made_whole()
    s.send(HeartbeatResponse(s.cluster_id, s.me, m.sender, s.term, m.round, s.loss))
