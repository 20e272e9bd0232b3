"""One member of the quorum as a state machine: `Raft`.

Which message reaches which rule is the table `RULES`: one row per message, one column per role; "ignored" is written
out. Before the table three checks hold for every message, in this order:

1. cluster, addressee, sender, term and content make sense, else it is dropped and counted; nothing is learned from it,
   not even a term;
2. a live leader is protected: pre-votes are refused and vote requests of a newer term dropped without adopting that
   term (stickiness, Raft dissertation 4.2.3), unless the leader itself asked for the election or is known dead;
3. a newer term is adopted (Raft 5.1); a message of an older term gets an answer that carries the newer one, or nothing.

Calls into one `Raft` come from one thread, and every input is followed by one `drain` (what to do with it:
`raft.effects`).
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from raft import election, membership, replication, snapshots
from raft.config import RaftConfig
from raft.effects import Effects, HardState, LeaderChange, Persisted, Role
from raft.election import (
    on_pre_vote_at_leader,
    on_pre_vote_request,
    on_pre_vote_response,
    on_timeout_now,
    on_vote_request,
    on_vote_response,
    refuse_pre_vote,
    refuse_vote,
)
from raft.errors import InvariantError, NotLeaderError, RefusedError
from raft.log import RaftLog, reconcile
from raft.messages import (
    AppendAccepted,
    AppendRefused,
    AppendRequest,
    FollowRequest,
    Heartbeat,
    HeartbeatResponse,
    Message,
    PreVoteRequest,
    PreVoteResponse,
    SnapshotChunk,
    SnapshotChunkResponse,
    TimeoutNow,
    VoteRequest,
    VoteResponse,
)
from raft.model import Entry, EntryKind, PeerId, SnapshotMeta
from raft.replication import (
    on_append_accepted,
    on_append_refused,
    on_append_request,
    on_follow_request,
    on_heartbeat,
    on_heartbeat_response,
)
from raft.snapshots import on_chunk, on_chunk_response
from raft.state import RaftState, RandInt

MAX_TERM = (1 << 31) - 2
"""A term is stored as a leader epoch, in 32 bits."""
MAX_TERM_JUMP = 1 << 20
"""Two weeks of an election per second: absurd messages must not use up the terms of the cluster. So far a member
follows at once, from there on no faster than elections can come. To ignore a message is always safe."""
TERM_MS = 50
"""How soon an election can follow another."""
MAX_LOSS = (1 << 62) - 1


def ignored(s: RaftState, m: Message) -> None:
    """An answer to a question this role did not ask: late, and worthless."""


def second_leader(s: RaftState, m: Message) -> None:
    """Somebody else leads a term whose leader is heard: impossible while disks keep their votes, so count it and change
    nothing.
    """
    s.drop("second_leader")


Rule = Callable[[RaftState, Any], None]

# fmt: off
_TABLE: dict[type[Message], tuple[Rule, Rule, Rule, Rule]] = {
    #                       follower              prospective           candidate             leader
    PreVoteRequest:        (on_pre_vote_request,  on_pre_vote_request,  on_pre_vote_request,  on_pre_vote_at_leader),
    PreVoteResponse:       (ignored,              on_pre_vote_response, ignored,              ignored),
    VoteRequest:           (on_vote_request,      on_vote_request,      refuse_vote,          refuse_vote),
    VoteResponse:          (ignored,              ignored,              on_vote_response,     ignored),
    AppendRequest:         (on_append_request,    on_append_request,    on_append_request,    second_leader),
    AppendAccepted:        (ignored,              ignored,              ignored,              on_append_accepted),
    AppendRefused:         (ignored,              ignored,              ignored,              on_append_refused),
    Heartbeat:             (on_heartbeat,         on_heartbeat,         on_heartbeat,         second_leader),
    HeartbeatResponse:     (ignored,              ignored,              ignored,              on_heartbeat_response),
    SnapshotChunk:         (on_chunk,             on_chunk,             on_chunk,             second_leader),
    SnapshotChunkResponse: (ignored,              ignored,              ignored,              on_chunk_response),
    TimeoutNow:            (on_timeout_now,       ignored,              ignored,              ignored),
    FollowRequest:         (ignored,              ignored,              ignored,              on_follow_request),
}
# fmt: on
_COLUMNS = (Role.FOLLOWER, Role.PROSPECTIVE, Role.CANDIDATE, Role.LEADER)
RULES: Mapping[type[Message], Mapping[Role, Rule]] = {
    message: dict(zip(_COLUMNS, row, strict=True)) for message, row in _TABLE.items()
}


@dataclass(frozen=True, slots=True)
class PeerStatus:
    """What the leader knows of one other member. `lag` in entries; times on the shell's clock.

    `caught_up_ms`: when it last held everything.
    """

    peer: PeerId
    voter: bool
    match_index: int
    lag: int
    last_contact_ms: int
    caught_up_ms: int
    flow: str


@dataclass(frozen=True, slots=True)
class Status:
    """A view for operators and metrics (Q12). `peers` is empty except on the leader."""

    me: PeerId
    role: Role
    term: int
    leader: PeerId | None
    leader_contact_ms: int
    voters: tuple[PeerId, ...]
    commit_index: int
    last_index: int
    snapshot_index: int
    peers: tuple[PeerStatus, ...]
    dropped: Mapping[str, int]


class Raft:
    """One member. See the module text for the contract of its inputs."""

    def __init__(
        self,
        *,
        cluster_id: bytes,
        me: PeerId,
        config: RaftConfig,
        randint: RandInt,
        hard_state: HardState,
        snapshot: SnapshotMeta,
        snapshot_size_bytes: int,
        entries: Sequence[Entry],
        now_ms: int,
    ) -> None:
        """Start from what is durable; drain once afterwards.

        `snapshot` with last_index 0 is the formation: the first voter set. `entries` are those found on disk, wherever
        they start; `log_was_dropped` says whether the newest snapshot made them worthless. With `hard_state.refetch`
        they are the intact head of a damaged log. Raises InvariantError if entries are missing behind the snapshot.
        """
        log = RaftLog(snapshot, entries)
        self.log_was_dropped = bool(entries) and not reconcile(snapshot, entries)
        term = max(hard_state.term, log.last_term)
        self._s = RaftState(
            cluster_id=cluster_id,
            me=me,
            config=config,
            randint=randint,
            log=log,
            term=term,
            voted_for=hard_state.voted_for if term == hard_state.term else None,
            refetch=hard_state.refetch,
            durable_voters=hard_state.voters,
            now_ms=now_ms,
            commit_index=snapshot.last_index,
            delivered_index=snapshot.last_index,
            durable_term=hard_state.term,
            snapshot_size_bytes=snapshot_size_bytes,
            write_from=log.last_index + 1,
            hard_state_changed=term != hard_state.term,
        )
        if not self._s.is_whole:
            self._s.loss = randint(1, MAX_LOSS)
        self._s.restart_election_timer()
        if log.voters == (me,):
            # Nobody else could lead: waiting for silence would only delay the start (KAFKA-16144 is the trap
            # beside this).
            self._s.election_deadline_ms = now_ms
        self._reported = LeaderChange(Role.FOLLOWER, -1, None)
        self._jumped = 0
        self._jumped_since_ms = now_ms

    # --- inputs from outside

    def step(self, message: Message, now_ms: int) -> None:
        """Take one message of a peer. Never raises for what it says."""
        s = self._at(now_ms)
        if message.cluster_id != s.cluster_id or message.to != s.me or message.sender == s.me:
            s.drop("foreign")
            return
        if not 0 <= message.term <= min(MAX_TERM, s.term + self._term_jump()):
            s.drop("absurd_term")
            return
        if message.term >= s.term and (malformed := self._malformed(message)):
            s.drop(malformed)
            return
        if isinstance(message, (PreVoteRequest, VoteRequest)) and not self._may_ask_for_votes(message):
            return
        if isinstance(message, FollowRequest):
            # An observer may be many terms behind, and needs the log to learn of them.
            RULES[FollowRequest][s.role](s, message)
            return
        if message.term > s.term:
            self._jumped += message.term - s.term
            s.become_follower(message.term, None)
        elif message.term < s.term:
            self._answer_old_term(message)
            return
        if isinstance(message, (AppendRequest, Heartbeat, SnapshotChunk)) and self._led_by_another(message.sender):
            second_leader(s, message)
            return
        RULES[type(message)][s.role](s, message)

    def tick(self, now_ms: int) -> None:
        """Do what is due at `now_ms`."""
        s = self._at(now_ms)
        if s.role is Role.LEADER:
            if s.now_ms >= s.heartbeat_deadline_ms:
                replication.heartbeat_due(s)
        elif s.may_stand:
            if s.now_ms >= s.election_deadline_ms:
                election.stand(s)
                # The voter set may have moved on while this member was away: a leader it cannot know of may lead.
                replication.ask_to_follow(s, [peer for peer in s.contacts if peer not in s.log.voters])
        elif s.now_ms >= s.follow_deadline_ms:
            s.follow_deadline_ms = s.now_ms + s.config.fetch_timeout_ms
            if s.role is not Role.FOLLOWER:
                s.become_follower(s.term, None)
            if s.leader is None or s.now_ms - s.leader_contact_ms >= s.config.fetch_timeout_ms:
                replication.ask_to_follow(s, dict.fromkeys((*s.contacts, *s.log.voters)))

    def persisted(self, done: Persisted, now_ms: int) -> None:
        """A sync that some `Effects.synced` named has completed, and every earlier one with it."""
        s = self._at(now_ms)
        s.durable_term = max(s.durable_term, done.term)
        if done.term != s.term:
            return
        if s.role is Role.CANDIDATE:
            election.own_vote_persisted(s)
        elif s.role is Role.LEADER:
            replication.own_log_persisted(s, done.index)

    def snapshot_stored(self, snapshot: SnapshotMeta, size_bytes: int, now_ms: int) -> None:
        """A snapshot is durable: one taken here (`snapshot_meta` named it), or one received whole."""
        snapshots.stored(self._at(now_ms), snapshot, size_bytes)

    def snapshot_rejected(self, snapshot: SnapshotMeta, now_ms: int) -> None:
        """A received snapshot turned out unreadable."""
        snapshots.rejected(self._at(now_ms), snapshot)

    def peer_dead(self, peer: PeerId, now_ms: int) -> None:
        """`peer` closed its connections and has not come back (protocol.md 5): it needs no protection as a leader any
        more.
        """
        s = self._at(now_ms)
        s.dead.add(peer)
        if s.may_stand:
            election.leader_died(s, peer)

    def peer_alive(self, peer: PeerId, now_ms: int) -> None:
        """A new connection with `peer` stands, maybe with a new incarnation: what was on its way to the old one is
        lost.
        """
        s = self._at(now_ms)
        s.dead.discard(peer)
        p = s.peers.get(peer)
        if p is not None:
            p.resend_ms = s.config.resend_ms
            p.probe(p.match_index + 1)
            replication.send_to(s, peer)

    def campaign(self, now_ms: int) -> None:
        """Stand now instead of after a silence; the shell knows that all voters are there and nobody leads."""
        s = self._at(now_ms)
        if s.role is not Role.LEADER and s.may_stand:
            election.stand(s)

    def set_contacts(self, peers: Iterable[PeerId]) -> None:
        """Whom an observer asks for the log besides the voters it knows: members met in handshakes."""
        self._s.contacts = tuple(peers)

    # --- requests to a leader

    def propose(self, payloads: Sequence[bytes], now_ms: int) -> tuple[int, int]:
        """Append one DATA entry per payload; returns (term, index of the last). Raises NotLeaderError, RefusedError.

        They are committed when `Effects.apply` hands them out with this term, and lost if another entry comes out at
        that index.
        """
        s = self._leading(now_ms)
        self._refuse_during_transfer()
        size = sum(map(len, payloads))
        if s.uncommitted_bytes + size > s.config.max_uncommitted_bytes:
            raise RefusedError(
                f"{s.uncommitted_bytes} bytes wait for a majority already (limit {s.config.max_uncommitted_bytes}); "
                "try again",
                retriable=True,
            )
        for payload in payloads:
            s.append(EntryKind.DATA, payload)
        replication.send_to_all(s)
        return s.term, s.log.last_index

    def read_index(self, request_id: int, now_ms: int) -> None:
        """Ask for a linearizable read; the answer comes in `Effects.reads`. Raises NotLeaderError, RefusedError."""
        s = self._leading(now_ms)
        if s.commit_index < s.term_start_index:
            raise RefusedError("this leader has not committed an entry of its own term yet; try again", retriable=True)
        if len(s.pending_reads) >= s.config.max_pending_reads:
            raise RefusedError(f"{len(s.pending_reads)} reads wait already; try again", retriable=True)
        replication.read_index(s, request_id)

    def add_voter(self, peer: PeerId, now_ms: int) -> tuple[int, int]:
        """Let an observer that has caught up vote; returns (term, index) of the change. Raises NotLeaderError,
        RefusedError.
        """
        return self._change_voters(membership.add_voter, peer, now_ms)

    def remove_voter(self, peer: PeerId, now_ms: int) -> tuple[int, int]:
        """Take a voter out, this leader too; returns (term, index) of the change. Raises NotLeaderError,
        RefusedError.
        """
        return self._change_voters(membership.remove_voter, peer, now_ms)

    def transfer_leadership(self, target: PeerId, now_ms: int) -> None:
        """Hand over to `target`; proposals are refused until that succeeds or times out. Raises NotLeaderError,
        RefusedError.
        """
        s = self._leading(now_ms)
        self._refuse_during_transfer()
        membership.transfer(s, target)

    # --- views

    def drain(self) -> Effects:
        """Return what everything since the last drain caused, and when to call `tick`."""
        s, effects = self._s, self._s.effects
        last_index = s.log.last_index
        if s.write_from <= last_index:
            effects.append = s.log.slice(s.write_from, last_index)
            s.write_from = last_index + 1
        # A log that is not whole may know old voter sets only; the newer ones must not be forgotten for them.
        if s.is_whole:
            s.made_whole()
        voters = s.log.voters_since(s.commit_index) if s.is_whole else s.durable_voters
        if s.hard_state_changed or s.durable_voters != voters:
            effects.hard_state = HardState(s.term, s.voted_for, voters, s.refetch)
            s.durable_voters = voters
            s.hard_state_changed = False
        if effects.append or effects.hard_state or effects.truncate_from is not None or effects.reset_log:
            effects.synced = Persisted(s.term, last_index)
        if s.delivered_index < s.commit_index:
            if s.commit_index > last_index:
                raise InvariantError(f"commit index {s.commit_index} beyond the log's end {last_index}")
            effects.apply = s.log.slice(s.delivered_index + 1, s.commit_index)
            s.delivered_index = s.commit_index
        view = LeaderChange(s.role, s.term, s.leader)
        if view != self._reported:
            self._reported = effects.leader_change = view
        effects.deadline_ms = self._deadline_ms()
        s.effects = Effects()
        return effects

    @property
    def role(self) -> Role:
        """What this member is in its term."""
        return self._s.role

    @property
    def term(self) -> int:
        """The current term."""
        return self._s.term

    @property
    def leader(self) -> PeerId | None:
        """Who leads the current term, as far as is known here."""
        return self._s.leader

    @property
    def leader_contact_ms(self) -> int:
        """When the leader was last heard."""
        return self._s.leader_contact_ms

    @property
    def transferring(self) -> bool:
        """Whether this leader is handing over, and refuses proposals meanwhile."""
        return self._s.transfer_to is not None

    @property
    def commit_index(self) -> int:
        """The last entry known to be committed."""
        return self._s.commit_index

    @property
    def is_whole(self) -> bool:
        """Whether this member's vote counts like any other: its log has what damage may once have taken from it."""
        return self._s.is_whole

    @property
    def ready_to_serve(self) -> bool:
        """Whether this leader has committed an entry of its own term: only then does it know everything that was
        committed before.
        """
        return self._s.role is Role.LEADER and self._s.commit_index >= self._s.term_start_index

    def snapshot_meta(self, applied_index: int) -> SnapshotMeta:
        """Return what a snapshot of the state machine at `applied_index` must be stored with."""
        return self._s.log.snapshot_meta(applied_index)

    @property
    def snapshots_in_use(self) -> frozenset[int]:
        """`last_index` of every snapshot whose file must stay: the newest, and those on their way to a follower."""
        sending = {p.snapshot.last_index for p in self._s.peers.values() if p.snapshot is not None}
        return frozenset({self._s.log.snapshot.last_index, *sending})

    @property
    def log(self) -> RaftLog:
        """The log, for reading."""
        return self._s.log

    def status(self) -> Status:
        """Return a view for operators."""
        s = self._s
        voters = s.log.voters
        return Status(
            me=s.me,
            role=s.role,
            term=s.term,
            leader=s.leader,
            leader_contact_ms=s.leader_contact_ms,
            voters=voters,
            commit_index=s.commit_index,
            last_index=s.log.last_index,
            snapshot_index=s.log.snapshot.last_index,
            peers=tuple(
                PeerStatus(
                    peer=peer,
                    voter=peer in voters,
                    match_index=p.match_index,
                    lag=s.log.last_index - p.match_index,
                    last_contact_ms=p.last_contact_ms,
                    caught_up_ms=p.caught_up_ms,
                    flow=p.flow.value,
                )
                for peer, p in s.peers.items()
            ),
            dropped=self.dropped,
        )

    @property
    def dropped(self) -> Mapping[str, int]:
        """How many messages were dropped, by reason."""
        return MappingProxyType(Counter(self._s.dropped))

    # --- inside

    def _at(self, now_ms: int) -> RaftState:
        """Move the clock, which never goes back."""
        self._s.now_ms = max(self._s.now_ms, now_ms)
        return self._s

    def _term_jump(self) -> int:
        """How far the term may rise by the next message. What was used comes back with time."""
        if self._jumped:
            back = (self._s.now_ms - self._jumped_since_ms) // TERM_MS
            self._jumped = max(0, self._jumped - back)
            self._jumped_since_ms += back * TERM_MS
        else:
            self._jumped_since_ms = self._s.now_ms
        return MAX_TERM_JUMP - self._jumped

    def _leading(self, now_ms: int) -> RaftState:
        s = self._at(now_ms)
        if s.role is not Role.LEADER:
            raise NotLeaderError(s.leader, s.term)
        return s

    def _refuse_during_transfer(self) -> None:
        if self._s.transfer_to is not None:
            raise RefusedError(
                f"leadership is being handed over to {self._s.transfer_to}; try again there", retriable=True
            )

    def _change_voters(self, change: Callable[[RaftState, PeerId], None], peer: PeerId, now_ms: int) -> tuple[int, int]:
        s = self._leading(now_ms)
        self._refuse_during_transfer()
        change(s, peer)
        replication.send_to_all(s)
        return s.term, s.log.last_index

    def _malformed(self, m: Message) -> str:
        """Why nothing may be learned from `m`, not even its term; empty if it can come from a correct member."""
        match m:
            case AppendRequest() if not replication.append_is_well_formed(m):
                return "malformed_append"
            case Heartbeat() if not replication.heartbeat_is_well_formed(m):
                return "malformed_heartbeat"
            case SnapshotChunk() if not snapshots.chunk_is_well_formed(m, self._s.config.snapshot_max_bytes):
                return "malformed_chunk"
            case PreVoteRequest() | VoteRequest() if m.last_log_index < 0 or not 0 <= m.last_log_term <= m.term:
                return "malformed_vote_request"
            case _:
                return ""

    def _led_by_another(self, sender: PeerId) -> bool:
        """Whether somebody else is heard as the leader of this term: a term has one (election safety, Raft 5.2)."""
        return self._s.leader_is_live and self._s.leader != sender

    def _may_ask_for_votes(self, m: PreVoteRequest | VoteRequest) -> bool:
        """Check that the request does not disturb a live leader; answers or counts it otherwise."""
        s = self._s
        if not s.leader_is_live or m.sender == s.leader:
            return True
        if isinstance(m, PreVoteRequest):
            refusal = RULES[PreVoteRequest][s.role] if s.role is Role.LEADER else refuse_pre_vote
            refusal(s, m)
            return False
        if m.term > s.term and not m.transfer:
            s.drop("leader_is_live")
            return False
        return True

    def _answer_old_term(self, m: Message) -> None:
        """Tell whoever asks in an old term which one it is; whatever answers in an old term is late."""
        s = self._s
        match m:
            case PreVoteRequest():
                refuse_pre_vote(s, m)
            case VoteRequest():
                refuse_vote(s, m)
            case AppendRequest() | Heartbeat() | SnapshotChunk():
                s.send(HeartbeatResponse(s.cluster_id, s.me, m.sender, s.term, 0))
            case _:
                pass

    def _deadline_ms(self) -> int:
        s = self._s
        if s.role is Role.LEADER:
            return s.heartbeat_deadline_ms
        return s.election_deadline_ms if s.may_stand else s.follow_deadline_ms
