"""Deterministic simulation of the metadata quorum: `make sim SEED=N`, `make sim-long MINUTES=M`, or
`python -m tests.sim.raft_sim --seed N | --seeds A:B | --minutes M`.

A seed draws the cluster (1-5 voters, 0-3 observers), its fault rates and a schedule of faults and client calls. Safety
phase: anything goes wrong, the invariants hold after every event. Then everything heals, and a leader, progress and
equal states are demanded.
"""

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

from raft.config import RaftConfig
from raft.core import MAX_TERM, MAX_TERM_JUMP, Raft
from raft.effects import Effects, Role
from raft.errors import RaftError
from raft.messages import (
    AppendRequest,
    FollowRequest,
    Heartbeat,
    Message,
    PreVoteResponse,
    SnapshotChunk,
    VoteRequest,
    VoteResponse,
)
from raft.model import Entry, EntryKind, PeerId, SnapshotMeta
from tests.sim.fakenet import FakeNet, LinkFaults
from tests.sim.raft_invariants import Invariants, Violation
from tests.sim.raft_node import CLUSTER, SimNode
from tests.sim.scheduler import Scheduler

FAULTY_MS = 30_000
HEALED_MS = 20_000
FORGED_DROPS = ("malformed_append", "malformed_chunk", "absurd_term", "foreign")
"""How forged messages are dropped."""


@dataclass(frozen=True)
class Result:
    """What a run did. Two runs of one seed are equal."""

    seed: int
    events: int
    """Things that happened: arrivals, timers, syncs, faults, calls."""
    checks: int
    """How often a node changed, and the invariants were checked on it."""
    trace_hash: int
    committed: int
    terms: int
    counts: tuple[tuple[str, int], ...]
    """Faults, and states that are rare, by name."""


class World:
    """One cluster, one seed."""

    def __init__(self, seed: int, *, keep_events: int | None = 200) -> None:
        self.seed = seed
        # One generator per concern, so that a draw added in one does not shift the others.
        self.plan = Random(f"plan-{seed}")
        self.scheduler = Scheduler(keep_events=keep_events)
        self.net = FakeNet(self.scheduler, Random(f"net-{seed}"), self._deliver)
        self.counts = self.net.counts
        self.checks = 0
        plan = self.plan
        n_voters, n_observers = plan.choice((1, 2, 3, 3, 3, 3, 4, 5, 5)), plan.choice((0, 0, 1, 1, 2, 3))
        peers = [PeerId(i, bytes([i]) * 16) for i in range(1, n_voters + n_observers + 1)]
        config = RaftConfig(
            keep_entries=plan.choice((0, 3, 20)),
            snapshot_chunk_bytes=plan.choice((16, 64, 400)),
            max_append_bytes=plan.choice((200, 1000, 100_000)),
            max_in_flight=plan.choice((1, 2, 8)),
            max_uncommitted_bytes=200_000,
        )
        self.nodes = {
            peer: SimNode(
                me=peer,
                voters=tuple(peers[:n_voters]),
                scheduler=self.scheduler,
                rng=Random(f"node-{seed}-{peer.node_id}"),
                config=config,
                send=self._send,
                check=self._checked,
                on_failed_sync=self._sync_failed,
                counts=self.counts,
                contacts=tuple(p for p in peers if p != peer),
            )
            for peer in peers
        }
        self.invariants = Invariants(self.nodes)
        self.faulty = True
        self.acked: dict[tuple[int, int], int] = {}
        """(index, term) of every proposal seen applied by the leader that took it -> serial."""
        self._proposed: dict[tuple[int, int], int] = {}
        self._serial = 0
        self._reads: dict[int, int] = {}
        self._committed_at_heal = 0
        self._roles: dict[PeerId, tuple[int, Role, bool]] = {}
        """Newest (term, role, whether the election was a transfer) of each node."""
        self._voters_index: dict[PeerId, int] = {}
        self._committed_voters = tuple(peers[:n_voters])
        self.net.faults = LinkFaults(
            loss=plan.choice((0, 0, 0.01, 0.1, 0.3)),
            duplicate=plan.choice((0, 0, 0.05, 0.3)),
            delay_mean_ms=plan.choice((1, 5, 30, 200)),
            clog=plan.choice((0, 0, 0.01, 0.1)),
        )
        self.weights = {
            self._propose: plan.choice((5, 20, 60)),
            self._crash: plan.choice((0, 0.5, 2)),
            self._cut: plan.choice((0, 0.5, 2)),
            self._heal_net: 1.0,
            self._snapshot: plan.choice((0, 1, 5)),
            self._transfer: plan.choice((0, 0.5)),
            self._change_voters: plan.choice((0, 0.5, 2)),
            self._read: plan.choice((0, 2)),
            self._slow_disk: plan.choice((0, 0.5)),
            self._dead_verdict: plan.choice((0, 0.5)),
            self._damage: plan.choice((0, 0, 0.5)),
            self._pause: plan.choice((0, 0, 0.5, 1)),
            self._fail_sync: plan.choice((0, 0, 0.3)),
            self._jump_clock: plan.choice((0, 0, 0.5)),
        }
        self.forger = Random(f"forge-{seed}")
        self.forges = self.forger.random() < 0.3
        drifts = plan.random() < 0.3
        for node in self.nodes.values():
            node.clock_rate = plan.choice((0.9, 1.0, 1.1)) if drifts else 1.0

    # --- running

    def run(self) -> Result:
        for node in self.nodes.values():
            self._do(f"start {node.me}", node.start)
        self.scheduler.after(0, self._next_action)
        if self.forges:
            self.scheduler.after(500, self._forge)
        self.scheduler.run_until(FAULTY_MS)
        self._heal_everything()
        self.scheduler.run_until(FAULTY_MS + HEALED_MS)
        self._demand_progress()
        return Result(
            seed=self.seed,
            events=self.scheduler.events,
            checks=self.checks,
            trace_hash=self.scheduler.trace_hash,
            committed=self.invariants.last_committed,
            terms=max(node.raft.term for node in self.nodes.values() if node.raft),
            counts=tuple(sorted(self.counts.items())),
        )

    def _do(self, line: str, call: Callable[[], None]) -> None:
        self.scheduler.trace(line)
        call()

    def _send(self, sender: PeerId, receiver: PeerId, message: Message) -> None:
        self.invariants.before_send(self.nodes[sender], message)
        if isinstance(message, (PreVoteResponse, VoteResponse)) and message.granted and message.if_all:
            self.counts["vote that counts only with all others"] += 1
        self.net.send(sender, receiver, (self.nodes[receiver].incarnation, message))

    def _deliver(self, sender: PeerId, receiver: PeerId, sent: tuple[int, Message]) -> None:
        incarnation, message = sent
        node = self.nodes[receiver]
        if node.raft is not None:
            if incarnation != node.incarnation:
                self.counts["messages to the next incarnation"] += 1
            self.scheduler.trace(f"{sender.node_id}>{receiver.node_id} {type(message).__name__} t{message.term}")
            if not (isinstance(message, FollowRequest) and message.to != receiver):
                node.receive(message)

    def _checked(self, node: SimNode, effects: Effects) -> None:
        raft = node.raft
        assert raft is not None
        self.checks += 1
        for entry in effects.apply:
            serial = self._proposed.get((entry.index, entry.term))
            if serial is not None and raft.role is Role.LEADER and entry.term == raft.term:
                self.acked[(entry.index, entry.term)] = serial
        for request_id, index in node.reads:
            floor = self._reads.pop(request_id)
            if index is None:
                self.counts["read given up with the leadership"] += 1
            elif index < floor:
                raise Violation(f"a read at {node.me} got index {index} after {floor} was acknowledged")
            else:
                self.counts["read confirmed"] += 1
        node.reads.clear()
        self._note_rare(node, raft, effects)
        self.invariants.after_drain(node, effects)

    # --- what is rare, counted

    def _note_rare(self, node: SimNode, raft: Raft, effects: Effects) -> None:
        counts = self.counts
        if effects.leader_change is not None:
            self.scheduler.trace(f"{node.me.node_id} {effects.leader_change.role.value} t{raft.term}")
            self._note_role(node, raft)
        if effects.truncate_from is not None:
            counts["conflicting tail cut"] += 1
            if raft.log.voters_index < self._voters_index.get(node.me, 0):
                counts["voter change taken back"] += 1
        if effects.truncate_from is not None or effects.append:
            self._voters_index[node.me] = raft.log.voters_index
            if raft.role is Role.LEADER and self._window_is_full(raft):
                counts["append beside a full window"] += 1
        if effects.reset_log is not None:
            counts["log replaced by a received snapshot"] += 1
        if effects.drop_log_to is not None:
            counts["log compacted"] += 1
        for entry in effects.apply:
            if entry.kind is EntryKind.VOTERS and entry.index > self.invariants.last_committed:
                counts["voter change committed"] += 1
                self._committed_voters = entry.voters

    def _window_is_full(self, raft: Raft) -> bool:
        return any(len(p.in_flight) >= raft._s.config.max_in_flight for p in raft._s.peers.values())

    def _note_role(self, node: SimNode, raft: Raft) -> None:
        counts, s = self.counts, raft._s
        before = self._roles.get(node.me, (0, Role.FOLLOWER, False))
        self._roles[node.me] = (raft.term, raft.role, s.transfer_election)
        if raft.role is before[1] and raft.term == before[0]:
            return
        match raft.role:
            case Role.LEADER:
                counts["leader elected"] += 1
                if raft.commit_index < s.term_start_index - 1:
                    counts["leader elected with a tail of earlier terms"] += 1
                if s.transfer_election:
                    counts["leadership handed over"] += 1
                if not s.is_voter:
                    counts["leader elected to commit its own removal"] += 1
                others = [n.raft for n in self._alive_nodes() if n.raft is not None and n is not node]
                if any(other.role is Role.LEADER for other in others):
                    counts["two leaders, of different terms"] += 1
            case Role.PROSPECTIVE:
                counts["pre-vote begun"] += 1
            case Role.CANDIDATE:
                counts["election begun"] += 1
            case Role.FOLLOWER if before[1] is Role.LEADER and before[0] == raft.term:
                counts["leader left: removed" if not s.is_voter else "leader left: no majority heard"] += 1
            case Role.FOLLOWER if before[1] is Role.CANDIDATE and before[0] == raft.term and raft.leader is None:
                counts["election lost"] += 1
            case _:
                pass

    # --- actions

    def _next_action(self) -> None:
        if not self.faulty:
            if self.scheduler.now_ms < FAULTY_MS + HEALED_MS - 5000:
                self._propose()
                self.scheduler.after(200, self._next_action)
            return
        (action,) = self.plan.choices(list(self.weights), list(self.weights.values()))
        action()
        self.scheduler.after(self.plan.expovariate(1 / 40), self._next_action)

    def _alive_nodes(self) -> list[SimNode]:
        return [node for node in self.nodes.values() if node.raft is not None]

    def _up(self) -> list[SimNode]:
        """Nodes that run: neither down nor paused."""
        return [node for node in self.nodes.values() if node.raft is not None and not node.paused]

    def _leader(self) -> SimNode | None:
        leaders = [node for node in self._up() if node.raft is not None and node.raft.role is Role.LEADER]
        return self.plan.choice(leaders) if leaders else None

    def _call(self, node: SimNode | None, name: str, *args: object) -> object:
        """A client call: refusals are answers."""
        if node is None or node.raft is None:
            return None
        self.scheduler.trace(f"{node.me.node_id} call {name}")
        try:
            result = getattr(node.raft, name)(*args, node.now_ms())
        except RaftError:
            self.counts[f"call refused: {name}"] += 1
            return None
        return result

    def _propose(self) -> None:
        node = self._leader()
        count = self.plan.choice((1, 1, 1, 3))
        payloads = [b"%d:" % (self._serial + i) + b"x" * self.plan.choice((0, 50, 300)) for i in range(count)]
        result = self._call(node, "propose", payloads)
        if isinstance(result, tuple) and node is not None:
            term, last = result
            for i in range(count):
                self._proposed[(last - count + 1 + i, term)] = self._serial + i
            self._serial += count
            node.drain()

    def _read(self) -> None:
        node = self._leader()
        if node is None or node.raft is None:
            return
        self._serial += 1
        self._reads[self._serial] = max((index for index, _ in self.acked), default=0)
        try:
            node.raft.read_index(self._serial, node.now_ms())
        except RaftError:
            del self._reads[self._serial]
        node.drain()

    def _crash(self) -> None:
        alive = self._alive_nodes()
        if not alive:
            return
        node = self.plan.choice(alive)
        self.counts["fault: crash"] += 1
        self._do(f"crash {node.me.node_id}", node.crash)
        if self.plan.random() < 0.05:
            self.counts["fault: crash of all"] += 1
            for other in self._alive_nodes():
                self._do(f"crash {other.me.node_id}", other.crash)
                self.scheduler.after(self.plan.random() * 3000, self._start, other)
        self.scheduler.after(self.plan.expovariate(1 / 1500), self._start, node)

    def _pause(self) -> None:
        up = self._up()
        if up:
            # A paused leader is the one that may do harm when it goes on.
            leaders = [node for node in up if node.raft is not None and node.raft.role is Role.LEADER]
            node = self.plan.choice(leaders if leaders and self.plan.random() < 0.5 else up)
            self.counts["fault: pause"] += 1
            if node in leaders:
                self.counts["fault: pause of a leader"] += 1
            self._do(f"pause {node.me.node_id}", node.pause)
            pause_ms = min(8000.0, self.plan.expovariate(1 / 1500))
            self.scheduler.after(pause_ms, self._resume, node, node.incarnation)

    def _resume(self, node: SimNode, incarnation: int) -> None:
        if node.incarnation == incarnation:
            self._do(f"resume {node.me.node_id}", node.resume)

    def _fail_sync(self) -> None:
        alive = self._alive_nodes()
        if alive:
            node = self.plan.choice(alive)
            node.fails_next_sync = True
            self.scheduler.trace(f"{node.me.node_id} fails its next sync")

    def _sync_failed(self, node: SimNode) -> None:
        self.counts["fault: sync failed"] += 1
        self.scheduler.trace(f"sync failed, {node.me.node_id} stops")
        self.scheduler.after(self.plan.expovariate(1 / 1500), self._start, node)

    def _jump_clock(self) -> None:
        node = self.plan.choice(list(self.nodes.values()))
        change_ms = self.plan.choice((-1500, -200, 200, 1500, 5000))
        if node.clock_offset_ms + change_ms >= -2000:
            self.counts["fault: clock jump"] += 1
            self._do(f"{node.me.node_id} clock {change_ms:+}", lambda: node.set_clock(change_ms))

    def _damage(self) -> None:
        """One disk loses synced entries; never two at once, and never that of a voter that committed alone, for a good
        copy must be left to find.
        """
        if len(self._committed_voters) > 1 and all(node.disk.is_whole for node in self.nodes.values()):
            node = self.plan.choice(list(self.nodes.values()))
            if node.raft is not None:
                node.crash()
                self.scheduler.after(self.plan.expovariate(1 / 500), self._start, node)
            self.counts["fault: damaged log"] += 1
            node.disk.damage(self.plan.randint(0, 5), self.plan.choice((0, 3, 1000)))
            self.scheduler.trace(f"damage {node.me.node_id}, whole up to {node.disk.last_index}")

    def _forge(self) -> None:
        """Somebody who knows everything but is no member sends what no correct member would: it changes nothing."""
        up = self._up()
        if up:
            node = self.forger.choice(up)
            raft = node.raft
            assert raft is not None
            sender = raft.leader if raft.leader not in (None, node.me) else self.forger.choice(list(self.nodes))
            message = forged(self.forger, raft, sender if sender is not None else node.me, node.me)
            self.counts["fault: forged message"] += 1
            self.scheduler.trace(f"forged {type(message).__name__} to {node.me.node_id}")
            before = (raft.role, raft.term, raft.leader, raft.log.last_index, raft.commit_index, raft.log.voters)
            node.receive(message)
            now = (raft.role, raft.term, raft.leader, raft.log.last_index, raft.commit_index, raft.log.voters)
            if now != before:
                raise Violation(f"a forged {type(message).__name__} took {node.me} from {before} to {now}")
        if self.faulty:
            self.scheduler.after(self.forger.expovariate(1 / 300), self._forge)

    def _start(self, node: SimNode) -> None:
        if node.raft is None:
            self._do(f"start {node.me.node_id}", node.start)
            for other in self._alive_nodes():
                # The handshake of a new connection ends a dead verdict.
                if other is not node:
                    other.meet(node.me)

    def _cut(self) -> None:
        peers = list(self.nodes)
        shape = self.plan.choice(("link", "link", "one way", "isolate", "halves", "deaf"))
        self.scheduler.trace(f"cut {shape}")
        if len(peers) < 2:
            return
        self.counts[f"fault: cut, {shape}"] += 1
        a, b = self.plan.sample(peers, 2)
        match shape:
            case "link":
                self.net.cut_link(a, b, one_way=False)
            case "one way":
                self.net.cut_link(a, b, one_way=True)
            case "isolate":
                for other in peers:
                    self.net.cut_link(a, other, one_way=False)
            case "deaf":
                for other in peers:
                    self.net.cut_link(other, a, one_way=True)
            case "halves":
                side = set(self.plan.sample(peers, len(peers) // 2))
                for x in peers:
                    for y in peers:
                        if (x in side) != (y in side):
                            self.net.cut.add((x, y))

    def _heal_net(self) -> None:
        self.scheduler.trace("heal net")
        self.net.cut.clear()

    def _snapshot(self) -> None:
        up = self._up()
        if up:
            node = self.plan.choice(up)
            self.counts["call: snapshot"] += 1
            self._do(f"{node.me.node_id} snapshot", node.take_snapshot)

    def _transfer(self) -> None:
        node = self._leader()
        if node is not None:
            self._call(node, "transfer_leadership", self.plan.choice(list(self.nodes)))
            node.drain()

    def _change_voters(self) -> None:
        node = self._leader()
        if node is not None:
            self._call(node, self.plan.choice(("add_voter", "remove_voter")), self.plan.choice(list(self.nodes)))
            node.drain()

    def _slow_disk(self) -> None:
        node = self.plan.choice(list(self.nodes.values()))
        node.sync_ms = self.plan.choice((0.5, 5, 100, 1000))
        self.counts["fault: slow disk"] += node.sync_ms >= 100
        self.scheduler.trace(f"{node.me.node_id} sync takes {node.sync_ms}")

    def _dead_verdict(self) -> None:
        """A verdict, true or false, that reaches one node; a false one ends with the next connection."""
        up = self._up()
        if len(up) > 1:
            node, about = self.plan.sample(up, 2)
            self.counts["fault: false dead verdict"] += 1
            self._call(node, "peer_dead", about.me)
            node.drain()
            self.scheduler.after(self.plan.random() * 500, self._alive, node, about.me)

    def _alive(self, node: SimNode, about: PeerId) -> None:
        self.scheduler.trace(f"{node.me.node_id} meets {about.node_id}")
        node.meet(about)

    # --- the end

    def _heal_everything(self) -> None:
        self.scheduler.trace("heal everything")
        self.faulty = False
        self._committed_at_heal = self.invariants.last_committed
        self.net.heal()
        for node in self.nodes.values():
            node.sync_ms = 1.0
            node.fails_next_sync = False
            node.resume()
            self._start(node)

    def _demand_progress(self) -> None:
        leaders = {node.raft.leader for node in self.nodes.values() if node.raft}
        if len(leaders) != 1 or None in leaders:
            raise Violation(f"no leader that all follow, {HEALED_MS} ms after the last fault: {leaders}")
        ends = {node.applied_index for node in self.nodes.values()}
        if len(ends) != 1:
            behind = {str(node.me): node.applied_index for node in self.nodes.values()}
            raise Violation(f"not everybody caught up: {behind}")
        (leader,) = leaders
        raft = self.nodes[leader].raft if leader else None
        if raft is None or raft.commit_index != raft.log.last_index or raft.commit_index <= self._committed_at_heal:
            raise Violation(f"no progress since everything healed at {self._committed_at_heal} committed entries")
        conditional = [str(node.me) for node in self.nodes.values() if node.raft and not node.raft.is_whole]
        if conditional:
            raise Violation(f"the votes of {conditional} still count with all others only, long after they caught up")
        for (index, term), serial in self.acked.items():
            if self.invariants.committed[index][0] != term:
                raise Violation(f"acknowledged proposal {serial} at ({index}, {term}) is lost")
        self.invariants.in_full(FORGED_DROPS if self.forges else ())
        self.counts["vote request dropped for a live leader"] += sum(
            node.raft.dropped.get("leader_is_live", 0) for node in self.nodes.values() if node.raft is not None
        )


def forged(rng: Random, raft: Raft, sender: PeerId, to: PeerId) -> Message:
    """A message that fits to where `raft` is, and is wrong in one place."""
    head = (CLUSTER, sender, to)
    end = (raft.log.last_index, raft.log.last_term)
    index, term = end[0] + 1, max(raft.term, 1)
    wrong = rng.choice(
        (
            Entry(index, term, EntryKind.VOTERS),
            Entry(index, term, EntryKind.DATA, b"x", (sender,)),
            Entry(index, term, EntryKind.NOOP, b"x"),
            Entry(index + 1, term, EntryKind.DATA),
            Entry(index, term + 1, EntryKind.DATA),
        )
    )
    size_bytes = rng.choice((0, 2**30 + 1, 2**62))
    return rng.choice(
        (
            AppendRequest(*head, term, *end, index, (wrong,)),
            AppendRequest(*head, term, *end, -1, ()),
            Heartbeat(*head, rng.choice((MAX_TERM + 1, 2**63 - 1, term + MAX_TERM_JUMP + 1)), 0, 0),
            VoteRequest(*head, 2**40, *end, True),
            SnapshotChunk(*head, term, SnapshotMeta(10**9, term, (sender,)), size_bytes, 0, b"x" * 50),
        )
    )


def run_seed(seed: int, *, trace: Path | None = None) -> Result:
    """Run one seed; prints how to replay it before any failure is raised. `trace`: write every event there."""
    world = World(seed, keep_events=None if trace is not None else 200)
    try:
        return world.run()
    except Exception:
        print("\n".join(list(world.scheduler.recent)[-200:]), file=sys.stderr)
        print(f"seed {seed} failed after {world.scheduler.events} events", file=sys.stderr)
        print(f"replay: make sim SEED={seed}, or python -m tests.sim.raft_sim --seed {seed}", file=sys.stderr)
        raise
    finally:
        if trace is not None:
            trace.write_text("".join(f"{line}\n" for line in world.scheduler.recent))


class Totals:
    """What many seeds did together."""

    def __init__(self) -> None:
        self.seeds = self.events = self.checks = self.committed = 0
        self.counts: Counter[str] = Counter()
        self._began_s = time.process_time()

    def add(self, result: Result) -> None:
        self.seeds += 1
        self.events += result.events
        self.checks += result.checks
        self.committed += result.committed
        for name, count in result.counts:
            self.counts[name] += count
            self.counts[f"seeds with {name}"] += count > 0

    def line(self) -> str:
        cpu_s = time.process_time() - self._began_s
        return (
            f"raft: {self.seeds} seeds, {self.events} events, {self.checks} checks of the invariants, {self.committed} "
            f"entries committed, {self.checks / cpu_s:.0f} checked events per second of a core ({cpu_s:.0f} s)"
        )

    def table(self) -> str:
        names = sorted(name for name in self.counts if not name.startswith("seeds with "))
        return "\n".join(f"{self.counts[n]:>12}  in {self.counts[f'seeds with {n}']:>6} seeds  {n}" for n in names)

    def save(self, path: Path) -> None:
        content = {"seeds": self.seeds, "events": self.events, "checks": self.checks, "committed": self.committed}
        content |= {"cpu_s": time.process_time() - self._began_s, "counts": dict(sorted(self.counts.items()))}
        path.write_text(json.dumps(content, indent=1) + "\n")


def new_seeds() -> Iterator[int]:
    """Seeds that nobody has run yet."""
    yield from range(int(time.time()) * 1000, sys.maxsize)


def main() -> None:
    """Run seeds and print the rate of checked events; with several, how often each fault and rare state was there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--seeds", help="A:B, B excluded")
    parser.add_argument("--minutes", type=float, help="new seeds until the time is over")
    parser.add_argument("--trace", type=Path, help="with --seed: write every event to this file")
    parser.add_argument("--keep-going", action="store_true", help="run on after a seed that fails")
    parser.add_argument("--json", type=Path, help="keep the totals in this file")
    arguments = parser.parse_args()
    began_s = time.monotonic()
    totals = Totals()
    failed: list[int] = []
    if arguments.seed is not None:
        totals.add(run_seed(arguments.seed, trace=arguments.trace))
    else:
        first, _, last = (arguments.seeds or "").partition(":")
        for seed in range(int(first), int(last)) if first else new_seeds():
            try:
                totals.add(run_seed(seed))
            except Exception:
                if not arguments.keep_going:
                    raise
                failed.append(seed)
            if arguments.json and totals.seeds % 20 == 0:
                totals.save(arguments.json)
            if arguments.minutes and time.monotonic() - began_s > arguments.minutes * 60:
                break
    if arguments.json:
        totals.save(arguments.json)
    print(totals.table())
    print(totals.line())
    if failed:
        sys.exit(f"{len(failed)} seeds failed: {failed}")


if __name__ == "__main__":
    main()
