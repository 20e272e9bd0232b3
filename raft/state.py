"""The state of one member and the few ways it changes that every rule shares.

The rules themselves are functions over this state, one module per part of the protocol: election, replication,
snapshots, membership. `core` says which message in which role reaches which rule.
"""

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from raft.config import RaftConfig
from raft.effects import Effects, ReadResult, Role
from raft.log import RaftLog
from raft.messages import Message
from raft.model import Entry, EntryKind, PeerId, SnapshotMeta
from raft.progress import Progress
from raft.quorum import Vote

RandInt = Callable[[int, int], int]
"""`randint(low, high)`, both inclusive: the only randomness there is, so that a seed replays a run."""


@dataclass(slots=True)
class IncomingSnapshot:
    """A snapshot on its way in: `received_bytes` of `size_bytes` are written."""

    snapshot: SnapshotMeta
    size_bytes: int
    received_bytes: int = 0


@dataclass(slots=True)
class PendingRead:
    """A read at `index` that waits until a majority has echoed `round`."""

    request_id: int
    index: int
    round: int


@dataclass(slots=True)
class RaftState:
    """One member. Persistent: term, voted_for, log. The rest is rebuilt after a restart (Raft figure 2)."""

    cluster_id: bytes
    me: PeerId
    config: RaftConfig
    randint: RandInt
    log: RaftLog
    term: int
    voted_for: PeerId | None
    refetch: tuple[int, int]
    """(index, term) a damaged log reached at most; (0, 0): it is whole. See `is_whole`."""
    durable_voters: tuple[PeerId, ...]
    """The voters in the hard state last written: of the newest committed set and all later ones."""
    now_ms: int
    commit_index: int
    delivered_index: int
    """Last entry handed to the state machine."""
    durable_term: int
    """Newest term known to be on disk: nothing leaves in a newer one."""
    snapshot_size_bytes: int

    role: Role = Role.FOLLOWER
    leader: PeerId | None = None
    leader_contact_ms: int = 0
    verified_index: int = 0
    """Follower: the log is known to equal the current leader's up to here; a commit index counts no further."""
    election_deadline_ms: int = 0
    lost_elections: int = 0
    transfer_election: bool = False
    votes: dict[PeerId, Vote] = field(default_factory=dict)
    named_voters: tuple[PeerId, ...] = ()
    """Candidate: whom damaged voters named that its own log does not know as voters; see `other_voters`."""
    counted_as_voter: bool = False
    """Somebody asked for this member's vote, with a less complete log, although its own log says that it has none."""
    dead: set[PeerId] = field(default_factory=set)
    contacts: tuple[PeerId, ...] = ()
    """Members the shell can reach, from their handshakes: whom an observer asks before it knows any voter."""
    follow_deadline_ms: int = 0
    incoming: IncomingSnapshot | None = None
    loss: int = 0
    """Names what this life lacks while its log is not whole, so that no word about an earlier loss is taken for it."""

    # Leader only, made anew at each election.
    peers: dict[PeerId, Progress] = field(default_factory=dict)
    own_match_index: int = 0
    """This leader's own copy, synced in its own term."""
    term_start_index: int = 0
    heartbeat_deadline_ms: int = 0
    round: int = 0
    pending_reads: deque[PendingRead] = field(default_factory=deque)
    transfer_to: PeerId | None = None
    transfer_deadline_ms: int = 0
    uncommitted_bytes: int = 0

    # Gathered for the next drain.
    effects: Effects = field(default_factory=Effects)
    write_from: int = 1
    """First entry not yet handed to the disk."""
    hard_state_changed: bool = False
    dropped: Counter[str] = field(default_factory=Counter)

    @property
    def is_voter(self) -> bool:
        """Whether this member is in the newest voter set of its own log."""
        return self.me in self.log.voters

    @property
    def may_stand(self) -> bool:
        """Whether this member takes part in elections as a candidate.

        A removal that is not committed may have to be committed by the member it removes: nobody else need hold that
        entry. It stands then without a vote of its own (Raft dissertation 4.2.2). So does one that others count as a
        voter: the log that says so may be lost, and nobody else may hold what this one helped to commit.
        """
        removal_open = self.log.voters_index > self.commit_index and self.me in self.log.previous_voters
        return self.is_voter or removal_open or self.counted_as_voter

    @property
    def is_whole(self) -> bool:
        """Whether the log holds everything this member ever acknowledged; if not, its vote is `Vote.IF_ALL`.

        After damage that is so once it reaches the old end again, or holds an entry of a newer term than any it held or
        voted in before: a leader of that term had every committed entry, and appending its entry made the logs equal up
        to there. It is so, too, once the log equals the leader's up to where that ended when the leader first heard of
        the loss: what was committed in earlier terms, and what this member acknowledged in this one before the loss,
        was in the leader's log by then (`replication.on_heartbeat`).
        """
        index, term = self.refetch
        return self.log.last_index >= index or self.log.last_term > term

    def made_whole(self) -> None:
        """The log is whole, and what is cut from it later is nothing that a leader needs: to be remembered."""
        self.hard_state_changed = self.hard_state_changed or self.refetch != (0, 0)
        self.refetch, self.loss = (0, 0), 0

    @property
    def other_voters(self) -> tuple[PeerId, ...]:
        """Who may hold committed entries beside the log's voters, for all that a damaged log knows, the own one or that
        of a voter: while it is fetched again it passes through old voter sets.
        """
        known = (*self.needed_voters, *self.named_voters)
        return tuple(voter for voter in dict.fromkeys(known) if voter not in self.log.voters)

    @property
    def needed_voters(self) -> tuple[PeerId, ...]:
        """Who must agree where this member's vote is to count; empty if its log is whole."""
        return () if self.is_whole else self.durable_voters

    @property
    def leader_is_live(self) -> bool:
        """Leader stickiness (Raft dissertation 4.2.3): a leader heard from within the shortest election timeout, and
        not known dead.
        """
        if self.role is Role.LEADER:
            return True
        return (
            self.leader is not None
            and self.leader not in self.dead
            and self.now_ms - self.leader_contact_ms < self.config.election_timeout_ms
        )

    def send(self, message: Message, *, after_sync: bool = False) -> None:
        """Queue `message`. Whatever it says, it must not leave in a term the disk does not know yet."""
        if after_sync or self.durable_term < self.term:
            self.effects.send_after_sync.append(message)
        else:
            self.effects.send_now.append(message)

    def drop(self, reason: str) -> None:
        """Count something a peer sent that makes no sense here; nothing else happens to it."""
        self.dropped[reason] += 1

    def append(self, kind: EntryKind, data: bytes = b"", voters: tuple[PeerId, ...] = ()) -> Entry:
        """Append an entry of the own term; leaders only."""
        entry = Entry(self.log.last_index + 1, self.term, kind, data, voters)
        self.log.append(entry)
        self.uncommitted_bytes += entry.size_bytes
        return entry

    def track(self, peer: PeerId, next_index: int) -> None:
        """Send `peer` the log from now on; leaders only."""
        self.peers[peer] = Progress(
            next_index=next_index,
            last_contact_ms=self.now_ms,
            caught_up_ms=self.now_ms,
            resend_ms=self.config.resend_ms,
        )

    def commit_to(self, index: int) -> None:
        """Move the commit index forward; entries are handed out at the next drain."""
        self.commit_index = max(self.commit_index, index)

    def restart_election_timer(self) -> None:
        """A random wait, so that followers seldom stand together (Raft 5.2)."""
        wait_ms = self.randint(self.config.election_timeout_ms, self.config.election_timeout_max_ms)
        self.election_deadline_ms = self.now_ms + wait_ms

    def become_follower(self, term: int, leader: PeerId | None) -> None:
        """Follow `leader` (None: unknown) in `term`, which is never lower than the own one.

        The vote is forgotten with the old term only: stepping down inside a term must not free it for a second one.
        """
        if term > self.term:
            self.term = term
            self.voted_for = None
            self.hard_state_changed = True
            self.verified_index = 0
            self.leader = None
        if self.role is not Role.FOLLOWER:
            self.role = Role.FOLLOWER
            self.restart_election_timer()
        if leader is not None and self.leader != leader:
            self.lost_elections = 0
        if leader is not None:
            self.counted_as_voter = False
        self.leader = leader
        self.votes.clear()
        self.named_voters = ()
        self.drop_leader_state()

    def drop_leader_state(self) -> None:
        """Everything only a leader has is worthless in any other role; waiting reads are told so."""
        self.effects.reads.extend(ReadResult(read.request_id, None) for read in self.pending_reads)
        self.pending_reads.clear()
        self.peers.clear()
        self.own_match_index = 0
        self.transfer_to = None
        self.uncommitted_bytes = 0
