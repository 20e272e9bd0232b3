"""Deterministic simulation of the metadata quorum: `python -m tests.sim.raft_sim --seed N | --seeds A:B | --minutes M`.

A seed draws the cluster (1-5 voters, 0-3 observers), its fault rates and a schedule of faults and client calls. Safety
phase: anything goes wrong, the invariants hold after every event. Then everything heals, and a leader, progress and
equal states are demanded.
"""

import argparse
import sys
import time
from dataclasses import dataclass
from random import Random

from raft.config import RaftConfig
from raft.effects import Effects, Role
from raft.errors import RaftError
from raft.messages import FollowRequest, Message
from raft.model import PeerId
from tests.sim.fakenet import FakeNet, LinkFaults
from tests.sim.raft_invariants import Invariants, Violation
from tests.sim.raft_node import SimNode
from tests.sim.scheduler import Scheduler

FAULTY_MS = 30_000
HEALED_MS = 20_000


@dataclass(frozen=True)
class Result:
    """What a run did. Two runs of one seed are equal."""

    seed: int
    events: int
    trace_hash: int
    committed: int
    terms: int


class World:
    """One cluster, one seed."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        # One generator per concern, so that a draw added in one does not shift the others.
        self.plan = Random(f"plan-{seed}")
        self.scheduler = Scheduler()
        self.net = FakeNet(self.scheduler, Random(f"net-{seed}"), self._deliver)
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
        }

    # --- running

    def run(self) -> Result:
        for node in self.nodes.values():
            self._do(f"start {node.me}", node.start)
        self.scheduler.after(0, self._next_action)
        self.scheduler.run_until(FAULTY_MS, self._after_event)
        self._heal_everything()
        self.scheduler.run_until(FAULTY_MS + HEALED_MS, self._after_event)
        self._demand_progress()
        return Result(
            self.seed,
            self.scheduler.events,
            self.scheduler.trace_hash,
            self.invariants.last_committed,
            max(node.raft.term for node in self.nodes.values() if node.raft),
        )

    def _do(self, line: str, call) -> None:  # type: ignore[no-untyped-def]
        self.scheduler.trace(line)
        call()

    def _after_event(self) -> None:
        """The invariants run inside the event, at each drain: see `_checked`."""

    def _send(self, sender: PeerId, receiver: PeerId, message: Message) -> None:
        self.invariants.before_send(self.nodes[sender], message)
        self.net.send(sender, receiver, message)

    def _deliver(self, sender: PeerId, receiver: PeerId, message: Message) -> None:
        node = self.nodes[receiver]
        if node.raft is not None:
            self.scheduler.trace(f"{sender.node_id}>{receiver.node_id} {type(message).__name__} t{message.term}")
            if not (isinstance(message, FollowRequest) and message.to != receiver):
                node.receive(message)

    def _checked(self, node: SimNode, effects: Effects) -> None:
        raft = node.raft
        assert raft is not None
        if effects.leader_change is not None:
            self.scheduler.trace(f"{node.me.node_id} {effects.leader_change.role.value} t{raft.term}")
        for entry in effects.apply:
            serial = self._proposed.get((entry.index, entry.term))
            if serial is not None and raft.role is Role.LEADER and entry.term == raft.term:
                self.acked[(entry.index, entry.term)] = serial
        for request_id, index in node.reads:
            floor = self._reads.pop(request_id)
            if index is not None and index < floor:
                raise Violation(f"a read at {node.me} got index {index} after {floor} was acknowledged")
        node.reads.clear()
        self.invariants.after_drain(node, effects)

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

    def _up(self) -> list[SimNode]:
        return [node for node in self.nodes.values() if node.raft is not None]

    def _leader(self) -> SimNode | None:
        leaders = [node for node in self._up() if node.raft is not None and node.raft.role is Role.LEADER]
        return self.plan.choice(leaders) if leaders else None

    def _call(self, node: SimNode | None, name: str, *args: object) -> object:
        """A client call: refusals are answers."""
        if node is None or node.raft is None:
            return None
        self.scheduler.trace(f"{node.me.node_id} call {name}")
        try:
            result = getattr(node.raft, name)(*args, int(self.scheduler.now_ms))
        except RaftError:
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
            node.raft.read_index(self._serial, int(self.scheduler.now_ms))
        except RaftError:
            del self._reads[self._serial]
        node.drain()

    def _crash(self) -> None:
        up = self._up()
        if not up:
            return
        node = self.plan.choice(up)
        self._do(f"crash {node.me.node_id}", node.crash)
        if self.plan.random() < 0.05:
            for other in self._up():
                self._do(f"crash {other.me.node_id}", other.crash)
                self.scheduler.after(self.plan.random() * 3000, self._start, other)
        self.scheduler.after(self.plan.expovariate(1 / 1500), self._start, node)

    def _damage(self) -> None:
        """One disk loses synced entries; never two at once, or no good copy may be left to find."""
        several_vote = min((len(n.raft.log.voters) for n in self._up() if n.raft is not None), default=0) > 1
        if several_vote and all(node.disk.is_whole for node in self.nodes.values()):
            node = self.plan.choice(list(self.nodes.values()))
            if node.raft is not None:
                node.crash()
                self.scheduler.after(self.plan.expovariate(1 / 500), self._start, node)
            node.disk.damage(self.plan.randint(0, 5))
            self.scheduler.trace(f"damage {node.me.node_id}, whole up to {node.disk.last_index}")

    def _start(self, node: SimNode) -> None:
        if node.raft is None:
            self._do(f"start {node.me.node_id}", node.start)
            for other in self._up():
                # The handshake of a new connection ends a dead verdict.
                if other is not node and other.raft is not None:
                    other.raft.peer_alive(node.me, int(self.scheduler.now_ms))
                    other.drain()

    def _cut(self) -> None:
        peers = list(self.nodes)
        shape = self.plan.choice(("link", "link", "one way", "isolate", "halves", "deaf"))
        self.scheduler.trace(f"cut {shape}")
        if len(peers) < 2:
            return
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
        self.scheduler.trace(f"{node.me.node_id} sync takes {node.sync_ms}")

    def _dead_verdict(self) -> None:
        """A verdict, true or false, that reaches one node; a false one ends with the next connection."""
        up = self._up()
        if len(up) > 1:
            node, about = self.plan.sample(up, 2)
            self._call(node, "peer_dead", about.me)
            node.drain()
            self.scheduler.after(self.plan.random() * 500, self._alive, node, about.me)

    def _alive(self, node: SimNode, about: PeerId) -> None:
        self._call(node, "peer_alive", about)
        if node.raft is not None:
            node.drain()

    # --- the end

    def _heal_everything(self) -> None:
        self.scheduler.trace("heal everything")
        self.faulty = False
        self._committed_at_heal = self.invariants.last_committed
        self.net.heal()
        for node in self.nodes.values():
            node.sync_ms = 1.0
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
        for (index, term), serial in self.acked.items():
            if self.invariants.committed[index][0] != term:
                raise Violation(f"acknowledged proposal {serial} at ({index}, {term}) is lost")
        self.invariants.in_full()


def run_seed(seed: int) -> Result:
    """Run one seed; prints how to replay it before any failure is raised."""
    world = World(seed)
    try:
        return world.run()
    except Exception:
        print("\n".join(world.scheduler.recent), file=sys.stderr)
        print(f"seed {seed} failed after {world.scheduler.events} events", file=sys.stderr)
        print(f"replay: python -m tests.sim.raft_sim --seed {seed}", file=sys.stderr)
        raise


def main() -> None:
    """Run seeds and print the rate of checked events."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--seeds", help="A:B, B excluded")
    parser.add_argument("--minutes", type=float, help="new seeds until the time is over")
    arguments = parser.parse_args()
    begin = time.monotonic()
    events = runs = committed = 0
    if arguments.seed is not None:
        seeds = range(arguments.seed, arguments.seed + 1)
    elif arguments.seeds:
        first, _, last = arguments.seeds.partition(":")
        seeds = range(int(first), int(last))
    else:
        start = int(time.time())
        seeds = range(start, start + 1_000_000_000)
    for seed in seeds:
        result = run_seed(seed)
        runs += 1
        events += result.events
        committed += result.committed
        if arguments.seed is not None:
            print(result)
        if arguments.minutes and time.monotonic() - begin > arguments.minutes * 60:
            break
    seconds = time.monotonic() - begin
    print(f"{runs} seeds, {events} events, {committed} entries committed, {events / seconds:.0f} checked events/s")


if __name__ == "__main__":
    main()
