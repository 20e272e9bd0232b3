"""Exhaustive small-scope search: three nodes, few elections and entries, every order of events, losses and crashes.

`python -m tests.sim.raft_exhaustive --elections 2 --entries 1 --resends 1`. Depth-first over the real core. A state is
what all nodes hold, on disk and in memory, and every message that was sent: each may arrive now, later, twice or never,
so any number of losses, duplicates and overtakings is in the search. The clock never moves: elections, and the moment
in which a leader gives up an unanswered request and sends it again, happen exactly where the search says so.

Checked in every state: one leader per term, committed entries never change and have two synced copies, a new leader has
all of them, votes and acknowledgements are durable before they leave.

Four things keep it small, and none leaves out a state in which something else could happen:
- a node is a function of what it holds and what reaches it, so the core runs once for each such pair (`Nodes`);
- the three nodes differ in their names only: states that are equal after renaming are visited once;
- with more on the wire nothing becomes impossible: a state is left out if one with a richer wire was seen, and answers
  that can be had without changing a node are there at once;
- a message that its receiver will drop from now on, whatever happens, is forgotten.
"""

import argparse
import copy
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from enum import Enum
from hashlib import blake2b
from itertools import permutations
from typing import Any, NamedTuple

from raft import election, replication
from raft.config import RaftConfig
from raft.core import Raft
from raft.effects import Effects, HardState, Persisted, Role
from raft.messages import AppendAccepted, AppendRefused, HeartbeatResponse, Message, VoteResponse
from raft.model import Entry, PeerId, SnapshotMeta
from raft.state import RaftState

CLUSTER = b"C" * 16
PEERS = tuple(PeerId(i, bytes([i]) * 16) for i in (1, 2, 3))
CONFIG = RaftConfig()
ANSWERS = (VoteResponse, AppendAccepted, AppendRefused, HeartbeatResponse)
IRRELEVANT = {
    "cluster_id", "config", "randint", "log", "effects",
    # Without a clock, and below all limits:
    "election_deadline_ms", "follow_deadline_ms", "heartbeat_deadline_ms", "transfer_deadline_ms", "lost_elections",
    "dropped", "uncommitted_bytes",
}  # fmt: skip
"""Fields of a node's state that tell no two nodes apart; its log is looked at separately."""
COMPARED = tuple(f.name for f in fields(RaftState) if f.name not in IRRELEVANT)
RENAMINGS = tuple(dict(zip(PEERS, order, strict=True)) for order in permutations(PEERS))
HASH_BYTES = 12
"""Of a state: among ten million states two share a hash with a probability below one in 10^14."""


class Bounds(NamedTuple):
    """How much may happen on one path, or has happened."""

    elections: int = 0
    entries: int = 0
    resends: int = 0
    crashes: int = 0


def shortest(low: int, high: int) -> int:
    return low


def renamed(value: Any, names: dict[PeerId, PeerId]) -> Any:
    """`value` as something that can be compared and printed, with other names for the nodes."""
    match value:
        case PeerId():
            return names[value].node_id
        case Enum():
            return value.name
        case dict():
            return tuple(sorted((renamed(k, names), renamed(v, names)) for k, v in value.items()))
        case set() | frozenset():
            return tuple(sorted(renamed(v, names) for v in value))
        case tuple() | list() | deque():
            if value and isinstance(value[0], PeerId):
                return tuple(sorted(renamed(v, names) for v in value))
            return tuple(renamed(v, names) for v in value)
    if is_dataclass(value):
        return (type(value).__name__, *(renamed(getattr(value, f.name), names) for f in fields(value)))
    return value


def hashes(value: Any) -> int:
    """The hash of `value` under every renaming, side by side, so that one XOR adds all of them to a state's."""
    parts = [blake2b(repr(renamed(value, names)).encode(), digest_size=HASH_BYTES).digest() for names in RENAMINGS]
    return int.from_bytes(b"".join(parts), "big")


# --- one node


@dataclass(frozen=True, slots=True)
class Unsynced:
    """Writes of one drain that are not durable yet, and what waits for them."""

    truncate_from: int | None
    append: list[Entry]
    hard_state: HardState | None
    synced: Persisted
    messages: tuple[Message, ...]


class Node:
    """The core, its disk, and what is on its way there; never changed once it has a number (`Nodes`)."""

    def __init__(self, me: PeerId) -> None:
        self.me = me
        self.hard_state = HardState(0, None)
        self.entries: list[Entry] = []
        self.queue: list[Unsynced] = []
        self.sent: list[Message] = []
        self.applied: list[tuple[Entry, bool]] = []
        """What the last event handed to the state machine, and whether the own copy was synced by then."""
        self.restart()

    def restart(self) -> None:
        self.queue = []
        self.raft = Raft(
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
        self.drain()

    def clone(self) -> "Node":
        twin = copy.copy(self)
        twin.entries, twin.queue = list(self.entries), list(self.queue)
        twin.sent, twin.applied = [], []
        twin.raft = copy.copy(self.raft)
        twin.raft._s = _copy_state(self.raft._s)
        return twin

    def content(self) -> Any:
        """Everything that what happens next depends on."""
        s = self.raft._s
        log = s.log.slice(1, s.log.last_index)
        core = {name: getattr(s, name) for name in COMPARED}
        return {**core, "log": log, "disk": (self.hard_state, self.entries), "queue": self.queue}

    def send(self, messages: Iterable[Message]) -> None:
        for m in messages:
            assert m.term <= self.hard_state.term, f"{m} leaves before its term is on disk"
            if isinstance(m, VoteResponse) and m.granted:
                assert (self.hard_state.term, self.hard_state.voted_for) == (m.term, m.to), (
                    f"{m} leaves before the vote is on disk"
                )
            if isinstance(m, AppendAccepted):
                assert len(self.entries) >= m.match_index, f"{m} leaves before the entries are on disk"
            self.sent.append(m)

    def drain(self) -> None:
        effects = self.raft.drain()
        self.send(effects.send_now)
        waiting = tuple(effects.send_after_sync)
        if effects.synced is not None:
            write = (effects.truncate_from, effects.append, effects.hard_state, effects.synced)
            self.queue.append(Unsynced(*write, waiting))
        elif self.queue:
            # Nothing to write, so it goes with what is written last; a second copy of a message says nothing.
            last = self.queue[-1]
            self.queue[-1] = replace(last, messages=tuple(dict.fromkeys((*last.messages, *waiting))))
        else:
            self.send(waiting)
        self.applied += [(entry, entry in self.entries) for entry in effects.apply]

    def sync(self) -> None:
        write = self.queue.pop(0)
        if write.truncate_from is not None:
            del self.entries[write.truncate_from - 1 :]
        self.entries.extend(write.append)
        if write.hard_state is not None:
            self.hard_state = write.hard_state
        self.send(write.messages)
        self.raft.persisted(write.synced, 0)
        self.drain()

    def stand(self) -> None:
        election.become_candidate(self.raft._s, transfer=True)
        self.drain()

    def propose(self, data: bytes) -> None:
        self.raft.propose((data,), 0)
        self.drain()

    def resend(self, peer: PeerId) -> None:
        """The leader's timer after `peer` has not answered for long enough."""
        self.raft._s.peers[peer].waiting_since_ms = -CONFIG.resend_ms
        replication.heartbeat_due(self.raft._s)
        self.drain()

    def receive(self, message: Message) -> None:
        self.raft.step(message, 0)
        self.drain()

    def has_no_use_for(self, m: Message, *, crashes: bool) -> bool:
        """Whether `m`, which is for this node, changes nothing however often and however late it arrives."""
        s = self.raft._s
        # A crash may take a term back that is not on disk.
        term = self.hard_state.term if crashes else s.term
        if not isinstance(m, ANSWERS) or m.term > term:
            return False
        if m.term < term or isinstance(m, HeartbeatResponse):
            return True
        if s.term > term:
            return False
        if isinstance(m, VoteResponse):
            return s.role is not Role.CANDIDATE
        return s.role in (Role.FOLLOWER, Role.PROSPECTIVE)


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


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one event makes of one node."""

    node: int
    sent: tuple[int, ...]
    applied: tuple[tuple[Entry, bool], ...]


class Nodes:
    """Every node and message seen so far, by number, and what each event made of each node."""

    def __init__(self, *, crashes: bool) -> None:
        self.crashes = crashes
        self.nodes: list[Node] = []
        self.hashes: list[int] = []
        self.messages: list[Message] = []
        self.receivers: list[int] = []
        self.bits: list[tuple[int, ...]] = []
        """Per message one bit for each renaming: of the message that it is then."""
        self._known: dict[Any, int] = {}
        self._known_messages: dict[Message, int] = {}
        self._outcomes: dict[tuple[int, object], Outcome | None] = {}
        self._useless: dict[tuple[int, int], bool] = {}

    def number(self, node: Node) -> int:
        while node.queue and not self.crashes:
            # Without crashes a sync only delays what waits for it, as the network does.
            node.sync()
        key = renamed(node.content(), RENAMINGS[0])
        number = self._known.setdefault(key, len(self.nodes))
        if number == len(self.nodes):
            self.nodes.append(node)
            self.hashes.append(hashes(node.content()))
        return number

    def number_of(self, message: Message) -> int:
        if message not in self._known_messages:
            kin = [[replace(message, sender=n[message.sender], to=n[message.to]) for n in RENAMINGS]]
            kin += [[replace(m, sender=n[m.sender], to=n[m.to]) for n in RENAMINGS] for m in kin[0]]
            for m in dict.fromkeys(kin[0]):
                self._known_messages[m] = len(self.messages)
                self.messages.append(m)
                self.receivers.append(PEERS.index(m.to))
            for m, others in zip(kin[0], kin[1:], strict=True):
                if self._known_messages[m] == len(self.bits):
                    self.bits.append(tuple(1 << self._known_messages[other] for other in others))
        return self._known_messages[message]

    def after(self, node: int, event: int | tuple[Any, ...]) -> Outcome | None:
        """What `event`, a message's number or a method of `Node` with its arguments, makes of it; None: nothing."""
        try:
            return self._outcomes[node, event]
        except KeyError:
            outcome = self._outcomes[node, event] = self._run(node, event)
            return outcome

    def _run(self, number: int, event: int | tuple[Any, ...]) -> Outcome | None:
        node = self.nodes[number].clone()
        if isinstance(event, int):
            node.receive(self.messages[event])
        else:
            name, *arguments = event
            getattr(node, name)(*arguments)
        after = self.number(node)
        sent, applied = tuple(self.number_of(m) for m in dict.fromkeys(node.sent)), tuple(node.applied)
        return None if after == number and not sent and not applied else Outcome(after, sent, applied)

    def useless(self, node: int, message: int) -> bool:
        """Whether `message` needs no room in the state any more; see `Node.has_no_use_for`."""
        try:
            return self._useless[node, message]
        except KeyError:
            answer = self.nodes[node].has_no_use_for(self.messages[message], crashes=self.crashes)
            self._useless[node, message] = answer
            return answer


# --- three of them


class History(NamedTuple):
    """What happened that later states must agree with."""

    committed: tuple[Entry, ...] = ()
    committed_in: tuple[int, ...] = ()
    """The term each was first seen committed in."""
    leaders: tuple[tuple[int, PeerId], ...] = ()


class State(NamedTuple):
    """Everything at one point of a path; nodes and messages by their numbers."""

    nodes: tuple[int, ...]
    wire: tuple[int, ...]
    used: Bounds
    history: History
    hashes: int
    """Of all but the wire."""
    path: "tuple[Any, ...] | None"
    """The events that led here, newest first, as a linked list."""


class Search:
    """Visits every state within `bounds`."""

    def __init__(self, bounds: Bounds, *, symmetric: bool = True) -> None:
        self.bounds = bounds
        self.known = Nodes(crashes=bounds.crashes > 0)
        self.states = 0
        self.deepest = 0
        """The most entries that were committed in any state."""
        self._richest: dict[bytes, list[int]] = {}
        """Per state without its wire: the richest wires it was seen with; none is part of another."""
        self._renamings = range(len(RENAMINGS) if symmetric else 1)
        self._hashes: dict[Any, int] = {}

    @property
    def states_of_nodes(self) -> int:
        """How many states there were that differ in more than what is on the wire."""
        return len(self._richest)

    def run(self, *, max_states: int, max_s: float = float("inf")) -> bool:
        """Search; returns whether every state was visited. Raises AssertionError with the events that led to it."""
        end_s = time.monotonic() + max_s
        nodes = tuple(self.known.number(Node(peer)) for peer in PEERS)
        total = self._hashed(Bounds()) ^ self._hashed(History())
        for number in nodes:
            total ^= self.known.hashes[number]
        stack = [State(nodes, (), Bounds(), History(), total, None)]
        self._is_new(stack[0])
        while stack:
            state = stack.pop()
            key, wire = self._key(state)
            if wire in self._richest[key]:
                stack.extend(after for after in self._successors(state) if self._is_new(after))
            if self.states >= max_states or time.monotonic() > end_s:
                return not stack
        return True

    def _successors(self, state: State) -> Iterator[State]:
        for i, event, used in self._events(state):
            try:
                after = self._after(state, i, event, used)
            except AssertionError as error:
                raise AssertionError(f"{error}\n{self._told((PEERS[i], event, state.path))}") from None
            if after is not None:
                yield after

    def _events(self, state: State) -> Iterator[tuple[int, int | tuple[Any, ...], Bounds]]:
        """Whatever can happen next: to which node, what, and what is used up then."""
        used, bounds, receivers = state.used, self.bounds, self.known.receivers
        for message in state.wire:
            yield receivers[message], message, used
        for i, number in enumerate(state.nodes):
            node = self.known.nodes[number]
            if node.queue:
                yield i, ("sync",), used
            if used.crashes < bounds.crashes:
                yield i, ("restart",), used._replace(crashes=used.crashes + 1)
            if node.raft.role is not Role.LEADER:
                if used.elections < bounds.elections:
                    yield i, ("stand",), used._replace(elections=used.elections + 1)
                continue
            if used.entries < bounds.entries:
                yield i, ("propose", b"%d" % used.entries), used._replace(entries=used.entries + 1)
            if used.resends < bounds.resends:
                for peer, progress in node.raft._s.peers.items():
                    if progress.waiting_since_ms is not None:
                        yield i, ("resend", peer), used._replace(resends=used.resends + 1)

    def _after(self, state: State, i: int, event: int | tuple[Any, ...], used: Bounds) -> State | None:
        """The state after `event` at node `i`; None if nothing changes."""
        known, before = self.known, state.nodes[i]
        outcome = known.after(before, event)
        if outcome is None or (outcome.node == before and isinstance(event, int)):
            return None
        nodes, total = state.nodes, state.hashes
        if outcome.node != before:
            nodes = (*nodes[:i], outcome.node, *nodes[i + 1 :])
            total ^= known.hashes[before] ^ known.hashes[outcome.node]
        if used is not state.used:
            total ^= self._hashed(state.used) ^ self._hashed(used)
        history = self._checked(state.history, nodes, i, outcome)
        if history is not state.history:
            total ^= self._hashed(state.history) ^ self._hashed(history)
        wire = self._wire(state.wire, nodes, i, outcome)
        return State(nodes, wire, used, history, total, (PEERS[i], event, state.path))

    def _wire(self, wire: tuple[int, ...], nodes: tuple[int, ...], changed: int, outcome: Outcome) -> tuple[int, ...]:
        """What may arrive from now on: without what its receiver has no use for any more, and with all answers that
        can be had without changing a node. More on the wire never makes less possible.
        """
        known = self.known
        receivers = known.receivers
        node = nodes[changed]
        now = {m for m in wire if receivers[m] != changed or not known.useless(node, m)}
        todo = [m for m in now if receivers[m] == changed]
        sent: Iterable[int] = outcome.sent
        while True:
            for m in sent:
                if m not in now and not known.useless(nodes[receivers[m]], m):
                    now.add(m)
                    todo.append(m)
            if not todo:
                return tuple(now)
            m = todo.pop()
            answer = known.after(nodes[receivers[m]], m)
            sent = answer.sent if answer is not None and answer.node == nodes[receivers[m]] else ()

    def _key(self, state: State) -> tuple[bytes, int]:
        """What is equal for states that are: all but the wire; and the wire, one bit for a message."""
        hashed = state.hashes.to_bytes(HASH_BYTES * len(RENAMINGS), "big")
        key, renaming = min((hashed[HASH_BYTES * r : HASH_BYTES * (r + 1)], r) for r in self._renamings)
        bits, wire = self.known.bits, 0
        for m in state.wire:
            wire |= bits[m][renaming]
        return key, wire

    def _is_new(self, state: State) -> bool:
        """Whether no state was seen in which the same can happen, or more; remembers it."""
        key, wire = self._key(state)
        wires = self._richest.get(key, [])
        if any(wire & ~richer == 0 for richer in wires):
            return False
        self._richest[key] = [*(poorer for poorer in wires if poorer & ~wire), wire]
        self.states += 1
        self.deepest = max(self.deepest, len(state.history.committed))
        return True

    def _hashed(self, value: Any) -> int:
        if value not in self._hashes:
            self._hashes[value] = hashes(value)
        return self._hashes[value]

    def _checked(self, history: History, nodes: tuple[int, ...], i: int, outcome: Outcome) -> History:
        """What has happened, with the newest event; raises AssertionError for what must not."""
        node = self.known.nodes[outcome.node]
        term = node.raft.term
        for entry, own_copy in outcome.applied:
            committed = history.committed
            if entry.index <= len(committed):
                assert committed[entry.index - 1] == entry, f"{node.me} applies another entry at {entry.index}"
                continue
            assert entry.index == len(committed) + 1, f"{node.me} applies {entry} after {len(committed)}"
            others = (self.known.nodes[number] for j, number in enumerate(nodes) if j != i)
            holders = own_copy + sum(entry in other.entries for other in others)
            assert holders >= 2, f"{entry} is committed with {holders} synced copies"
            history = history._replace(committed=(*committed, entry), committed_in=(*history.committed_in, term))
        if node.raft.role is Role.LEADER and (term, node.me) not in history.leaders:
            assert term not in dict(history.leaders), f"two leaders in term {term}"
            # Leader completeness is about entries committed in earlier terms: an old election may end late.
            held = node.raft.log.slice(1, node.raft.log.last_index)
            due = [e for e, t in zip(history.committed, history.committed_in, strict=True) if t < term]
            assert held[: len(due)] == due, f"{node.me} leads term {term} without committed entries"
            history = history._replace(leaders=tuple(sorted((*history.leaders, (term, node.me)))))
        return history

    def _told(self, path: "tuple[Any, ...] | None") -> str:
        lines = []
        while path is not None:
            peer, event, path = path
            lines.append(f"{peer}: {self.known.messages[event] if isinstance(event, int) else event}")
        return "\n".join(reversed(lines))


def main() -> None:
    """Search, and print how many states there were."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--elections", type=int, default=2)
    parser.add_argument("--entries", type=int, default=1)
    parser.add_argument("--resends", type=int, default=0)
    parser.add_argument("--crashes", type=int, default=0)
    parser.add_argument("--max-states", type=int, default=2_000_000)
    parser.add_argument("--minutes", type=float, default=20)
    a = parser.parse_args()
    began_s, began_cpu_s = time.monotonic(), time.process_time()
    search = Search(Bounds(a.elections, a.entries, a.resends, a.crashes))
    complete = search.run(max_states=a.max_states, max_s=a.minutes * 60)
    how = "all of them" if complete else "not all"
    print(
        f"{search.states} states ({how}), {search.states_of_nodes} without what is on the wire, "
        f"{len(search.known.nodes)} of a single node, up to {search.deepest} committed entries, "
        f"{time.monotonic() - began_s:.1f} s, {time.process_time() - began_cpu_s:.1f} s of a core"
    )


if __name__ == "__main__":
    main()
