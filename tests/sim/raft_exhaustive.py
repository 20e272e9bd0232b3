"""Exhaustive small-scope search: three nodes, few elections and entries, every order of events, losses and crashes.

`python -m tests.sim.raft_exhaustive --elections 2 --entries 1 --losses 1 --crashes 1`. Depth-first over the real core:
a state is what all nodes hold, on disk and in memory, and what is on the wire; equal states are visited once. The clock
never moves, so that time-outs happen exactly where the search says so. Checked in every state: one leader per term,
committed entries never change and have two synced copies, a new leader has all of them, votes and acknowledgements are
durable before they leave.
"""

import argparse
import copy
import time
from dataclasses import dataclass

from raft import election
from raft.config import RaftConfig
from raft.core import Raft
from raft.effects import Effects, HardState, Persisted, Role
from raft.messages import AppendAccepted, AppendRefused, HeartbeatResponse, Message, VoteResponse
from raft.model import Entry, PeerId, SnapshotMeta

CLUSTER = b"C" * 16
PEERS = tuple(PeerId(i, bytes([i]) * 16) for i in (1, 2, 3))
CONFIG = RaftConfig()


ANSWERS = (VoteResponse, AppendAccepted, AppendRefused, HeartbeatResponse)


def shortest(low: int, high: int) -> int:
    return low


@dataclass
class Bounds:
    """How much may happen on one path."""

    elections: int
    entries: int
    losses: int
    crashes: int


class Unsynced:
    """Writes of one drain that are not durable yet."""

    __slots__ = ("append", "hard_state", "messages", "synced", "truncate_from")

    def __init__(self, effects: Effects) -> None:
        self.truncate_from = effects.truncate_from
        self.append = effects.append
        self.hard_state = effects.hard_state
        self.synced: Persisted | None = effects.synced
        self.messages = effects.send_after_sync


class Member:
    """One node: the core, its disk, and what is on its way there."""

    def __init__(self, me: PeerId) -> None:
        self.me = me
        self.hard_state = HardState(0, None)
        self.entries: list[Entry] = []
        self.queue: list[Unsynced] = []
        self.raft = self._new()
        self.cached_key: object = None

    def _new(self) -> Raft:
        return Raft(
            cluster_id=CLUSTER,
            me=self.me,
            config=CONFIG,
            randint=shortest,
            hard_state=self.hard_state,
            snapshot=SnapshotMeta(0, 0, PEERS),
            snapshot_size_bytes=0,
            entries=tuple(self.entries),
            now_ms=0,
        )

    def restart(self) -> None:
        self.queue = []
        self.raft = self._new()

    def clone(self) -> "Member":
        twin = object.__new__(Member)
        twin.me, twin.hard_state, twin.entries = self.me, self.hard_state, list(self.entries)
        twin.queue = list(self.queue)
        twin.cached_key = None
        twin.raft = copy.copy(self.raft)
        twin.raft._s = _copy_state(self.raft._s)
        return twin

    def key(self) -> object:
        """What tells members apart. A member is never changed after its state was looked at, so this is kept."""
        if self.cached_key is None:
            self.cached_key = hash(self._key())
        return self.cached_key

    def _key(self) -> object:
        s = self.raft._s
        log = tuple((e.term, e.data) for e in s.log.slice(1, s.log.last_index))
        peers = tuple((p.node_id, v.match_index, v.next_index, v.flow, tuple(v.in_flight)) for p, v in s.peers.items())
        return (
            s.term, s.voted_for, s.role, s.leader, s.commit_index, s.verified_index, s.durable_term, s.own_match_index,
            log, peers, tuple(sorted(s.votes.items())), self.hard_state, tuple((e.term, e.data) for e in self.entries),
            tuple((q.truncate_from, tuple(q.append), q.hard_state, q.synced, tuple(q.messages)) for q in self.queue),
        )  # fmt: skip


def _copy_state(s):  # type: ignore[no-untyped-def]
    """A copy that shares no mutable part; several times faster than deepcopy."""
    twin = copy.copy(s)
    twin.log = copy.copy(s.log)
    twin.log._entries = list(s.log._entries)
    twin.log._voter_sets = list(s.log._voter_sets)
    twin.votes = dict(s.votes)
    twin.dead = set(s.dead)
    twin.peers = {}
    for peer, p in s.peers.items():
        twin_p = twin.peers[peer] = copy.copy(p)
        twin_p.in_flight = p.in_flight.copy()
    twin.pending_reads = s.pending_reads.copy()
    twin.dropped = s.dropped.copy()
    twin.effects = Effects()
    return twin


class State:
    """Everything at one point of a path."""

    def __init__(self) -> None:
        self.members = [Member(peer) for peer in PEERS]
        self.wire: list[Message] = []
        self.elections = self.entries = self.losses = self.crashes = 0
        self.committed: tuple[Entry, ...] = ()
        self.committed_in: tuple[int, ...] = ()
        """The term each was first seen committed in."""
        self.leaders: dict[int, PeerId] = {}
        for member in self.members:
            self.drain(member)

    def clone(self, touched: int | None) -> "State":
        twin = object.__new__(State)
        twin.members = [m.clone() if i == touched else m for i, m in enumerate(self.members)]
        twin.wire = list(self.wire)
        twin.elections, twin.entries = self.elections, self.entries
        twin.losses, twin.crashes = self.losses, self.crashes
        twin.committed, twin.committed_in, twin.leaders = self.committed, self.committed_in, self.leaders
        return twin

    def key(self) -> object:
        counts = (self.elections, self.entries, self.losses, self.crashes)
        return hash((counts, tuple(member.key() for member in self.members), frozenset(self.wire)))

    def tidy(self, *, sync_at_once: bool) -> None:
        """Take the steps whose order cannot matter: without crashes a sync only delays what waits for it, as the wire
        does; and an answer of an older term than its receiver's is dropped whenever it comes.
        """
        if sync_at_once:
            for i, member in enumerate(self.members):
                while member.queue:
                    self.sync(i)
        terms = {member.me: member.raft.term for member in self.members}
        self.wire = [m for m in self.wire if m.term >= terms[m.to] or not isinstance(m, ANSWERS)]

    # --- one event

    def send(self, member: Member, messages: list[Message]) -> None:
        for m in messages:
            assert m.term <= member.hard_state.term, f"{m} leaves before its term is on disk"
            if isinstance(m, VoteResponse) and m.granted:
                assert (member.hard_state.term, member.hard_state.voted_for) == (m.term, m.to), (
                    f"{m} leaves before the vote is on disk"
                )
            if isinstance(m, AppendAccepted):
                assert len(member.entries) >= m.match_index, f"{m} leaves before the entries are on disk"
            if not isinstance(m, HeartbeatResponse) and m not in self.wire:
                # Echoes change nothing here without a clock; a second copy of a message only repeats the first.
                self.wire.append(m)

    def drain(self, member: Member) -> None:
        effects = member.raft.drain()
        self.send(member, effects.send_now)
        if effects.synced is not None or effects.send_after_sync:
            if effects.synced is None and not member.queue:
                self.send(member, effects.send_after_sync)
            else:
                member.queue.append(Unsynced(effects))
        for entry in effects.apply:
            if entry.index <= len(self.committed):
                assert self.committed[entry.index - 1] == entry, f"{member.me} applies another entry at {entry.index}"
            else:
                assert entry.index == len(self.committed) + 1
                self.committed = (*self.committed, entry)
                self.committed_in = (*self.committed_in, member.raft.term)
                holders = sum(1 for m in self.members if entry in m.entries)
                assert holders >= 2, f"{entry} is committed with {holders} synced copies"
        if member.raft.role is Role.LEADER and self.leaders.get(member.raft.term) is None:
            self.leaders = {**self.leaders, member.raft.term: member.me}
            # Leader completeness is about entries committed in earlier terms: an old election may end late.
            held = member.raft.log.slice(1, member.raft.log.last_index)
            due = [e for e, term in zip(self.committed, self.committed_in, strict=True) if term < member.raft.term]
            assert held[: len(due)] == due, f"{member.me} leads term {member.raft.term} without committed entries"
        elif member.raft.role is Role.LEADER:
            assert self.leaders[member.raft.term] == member.me, f"two leaders in term {member.raft.term}"

    def sync(self, i: int) -> None:
        member = self.members[i]
        write = member.queue.pop(0)
        if write.truncate_from is not None:
            del member.entries[write.truncate_from - 1 :]
        member.entries.extend(write.append)
        if write.hard_state is not None:
            member.hard_state = write.hard_state
        self.send(member, write.messages)
        if write.synced is not None:
            member.raft.persisted(write.synced, 0)
            self.drain(member)

    def deliver(self, position: int) -> int:
        message = self.wire.pop(position)
        i = PEERS.index(message.to)
        self.members[i].raft.step(message, 0)
        self.drain(self.members[i])
        return i


def successors(state: State, bounds: Bounds):  # type: ignore[no-untyped-def]
    """Every state one event later."""
    for i, member in enumerate(state.members):
        if member.queue:
            twin = state.clone(i)
            twin.sync(i)
            yield twin
        raft = member.raft
        if state.elections < bounds.elections and raft.role is not Role.LEADER:
            twin = state.clone(i)
            twin.elections += 1
            election.become_candidate(twin.members[i].raft._s, transfer=True)
            twin.drain(twin.members[i])
            yield twin
        if state.entries < bounds.entries and raft.role is Role.LEADER:
            twin = state.clone(i)
            twin.entries += 1
            twin.members[i].raft.propose((b"%d" % twin.entries,), 0)
            twin.drain(twin.members[i])
            yield twin
        if state.crashes < bounds.crashes:
            twin = state.clone(i)
            twin.crashes += 1
            twin.members[i].restart()
            twin.drain(twin.members[i])
            yield twin
    for position, message in enumerate(state.wire):
        i = PEERS.index(message.to)
        twin = state.clone(i)
        twin.deliver(position)
        yield twin
        if state.losses < bounds.losses:
            twin = state.clone(None)
            twin.losses += 1
            twin.wire.pop(position)
            yield twin


def search(bounds: Bounds, *, max_states: int, max_s: float = float("inf")) -> tuple[int, int, bool]:
    """Visit every reachable state; returns (states, most committed entries, whether the search was complete)."""
    end_s = time.monotonic() + max_s
    first = State()
    first.tidy(sync_at_once=bounds.crashes == 0)
    seen = {first.key()}
    stack = [first]
    deepest = 0
    while stack:
        state = stack.pop()
        for twin in successors(state, bounds):
            twin.tidy(sync_at_once=bounds.crashes == 0)
            key = twin.key()
            if key not in seen:
                seen.add(key)
                deepest = max(deepest, len(twin.committed))
                stack.append(twin)
        if len(seen) >= max_states or time.monotonic() > end_s:
            return len(seen), deepest, False
    return len(seen), deepest, True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--elections", type=int, default=2)
    parser.add_argument("--entries", type=int, default=1)
    parser.add_argument("--losses", type=int, default=0)
    parser.add_argument("--crashes", type=int, default=0)
    parser.add_argument("--max-states", type=int, default=2_000_000)
    parser.add_argument("--minutes", type=float, default=20)
    a = parser.parse_args()
    began = time.monotonic()
    bounds = Bounds(a.elections, a.entries, a.losses, a.crashes)
    states, deepest, complete = search(bounds, max_states=a.max_states, max_s=a.minutes * 60)
    seconds = time.monotonic() - began
    how = "all of them" if complete else "not all"
    print(f"{states} states ({how}), up to {deepest} committed entries, {seconds:.1f} s")


if __name__ == "__main__":
    main()
