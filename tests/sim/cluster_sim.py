"""Controller, replicas and logs together under faults: one seed, one history, invariants after every event.

Real: the controller's decisions, the metadata image, partitions with their replica rules, logs on a disk that forgets
what was not synced. Simulated: time, network, and the quorum - one list of entries that commits with a delay and loses
an uncommitted tail when the controller changes (raft has its own simulation).

    python -m tests.sim.cluster_sim --seeds 0:200        python -m tests.sim.cluster_sim --seed 17 --verbose
"""

import argparse
import asyncio
import logging
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

import structlog

from node.controller.state import brokers, leaders, topics
from node.controller.state.draft import ControllerSettings, Draft, SoftState
from node.controller.state.invariants import check_draft
from node.controller.state.partitions import alter_partition
from node.metadata.apply import apply
from node.metadata.image import NO_LEADER, Image
from ottla.internal.v1 import controller_pb2 as rpc
from ottla.internal.v1 import metadata_pb2 as records
from ottla.protocol.errors import ApiError
from ottla.v1 import admin_pb2 as admin
from tests.sim.cluster_node import HEARTBEAT_MS, SESSION_MS, Call, Node, Reply, Write
from tests.sim.fakenet import FakeNet
from tests.sim.scheduler import Scheduler

CHAOS_MS: Final = 15_000
HEAL_MS: Final = 8_000
TOPIC_ID: Final = (1).to_bytes(16)
NODES: Final = (1, 2, 3, 4)


class Violation(AssertionError):
    """A promise was broken."""


@dataclass
class Swarm:
    """What this seed is about: every run draws its own rates (swarm testing)."""

    flush: str
    kill: float
    power: float
    power_all: float
    stop: float
    freeze: float
    cut: float
    depose: float
    loss: float
    clog: float
    commit_ms: float

    @classmethod
    def draw(cls, rng: Random) -> "Swarm":
        def rate(most: float) -> float:
            return rng.choice([0.0, rng.random() * most])

        return cls(
            flush=rng.choice(["replica", "ack"]),
            kill=rate(1),
            power=rate(0.6),
            power_all=rate(0.15),
            stop=rate(0.6),
            freeze=rate(0.6),
            cut=rate(0.6),
            depose=rate(0.6),
            loss=rng.choice([0, 0, 0.02, 0.1]),
            clog=rng.choice([0, 0, 0.01, 0.05]),
            commit_ms=rng.choice([1, 5, 30]),
        )


@dataclass
class Quorum:
    """The metadata log and who may append to it."""

    entries: list[tuple[int, bytes]] = field(default_factory=list)
    committed: int = 0
    term: int = 0
    controller: int | None = None
    log_end: Image = Image.EMPTY
    soft: SoftState = field(default_factory=SoftState)
    waiting: list[tuple[int, int, int, Reply]] = field(default_factory=list)
    """(index, incarnation of the node that asked, its id, answer)."""


class ClusterSim:
    def __init__(self, seed: int, *, verbose: bool = False) -> None:
        self.seed = seed
        self.rng = Random(seed)
        self.swarm = Swarm.draw(self.rng)
        self.scheduler = Scheduler()
        self.verbose = verbose
        self.loop = asyncio.new_event_loop()
        self.topic_id = TOPIC_ID
        self.net = FakeNet(self.scheduler, Random(seed + 1), self._deliver)
        self.net.faults.loss = self.swarm.loss
        self.net.faults.clog = self.swarm.clog
        self.nodes = {n: Node(self, n, Random(seed * 31 + n)) for n in NODES}
        self.quorum = Quorum()
        self.settings = ControllerSettings(
            session_timeout_ms=SESSION_MS, heartbeat_interval_ms=HEARTBEAT_MS, rebalance_delay_ms=800
        )
        self.healed = False
        self.images: list[tuple[Image, Any]] = []
        self.writes: list[Write] = []
        self.acknowledged: dict[int, Write] = {}
        self.committed: list[tuple[int, int]] = []
        self.appender: dict[int, int] = {}
        self.leader_seen = (-1, NO_LEADER)
        self.seen_marks: dict[int, int] = {}
        self.lost_power = False
        self.next_value = 1
        self.counts: Counter[str] = Counter()
        self._ids = iter(range(1, 1000))

    # --- running

    def run(self) -> None:
        try:
            for node in self.nodes.values():
                node.start(unclean=True)
            self._elect_controller()
            self._every(100, self._tick)
            self._every(800, lambda: self._decide(leaders.balance))
            self._every(10, self._produce)
            self._every(400, self._fault)
            self._every(50, self._read)
            self.scheduler.run_until(CHAOS_MS, self._after_event)
            self._heal()
            self.scheduler.run_until(CHAOS_MS + HEAL_MS, self._after_event)
            self._check_healed()
        finally:
            self.loop.close()

    def note(self, line: str) -> None:
        self.scheduler.trace(line)
        if self.verbose:
            print(self.scheduler.recent[-1])

    def _every(self, period_ms: float, call: Callable[[], Any]) -> None:
        def again() -> None:
            call()
            self.scheduler.after(self.rng.expovariate(1 / period_ms), again)

        self.scheduler.after(period_ms, again)

    # --- network

    def send(self, sender: int, receiver: int, message: object) -> None:
        self.net.send(sender, receiver, message)

    def _deliver(self, sender: int, receiver: int, message: object) -> None:
        node = self.nodes[receiver]
        if not node.up:
            return
        if node.paused_until_ms > self.scheduler.now_ms:
            self.scheduler.after(node.paused_until_ms - self.scheduler.now_ms, self._deliver, sender, receiver, message)
            return
        if isinstance(message, Call):
            self._handle(sender, receiver, message)
        else:
            node.deliver(sender, message)

    # --- the controller and its quorum

    def controller_id(self) -> int | None:
        return self.quorum.controller

    def _elect_controller(self) -> None:
        up = [n for n, node in self.nodes.items() if node.up and node.paused_until_ms <= self.scheduler.now_ms]
        if self.quorum.controller is not None or len(up) < 3:
            return
        quorum = self.quorum
        quorum.controller = self.rng.choice(up)
        quorum.term += 1
        # The new leader's log has everything that was committed, and maybe more.
        keep = self.rng.randint(quorum.committed, len(quorum.entries))
        del quorum.entries[keep:]
        self._commit(len(quorum.entries))
        quorum.log_end = self.images[-1][0] if self.images else Image.EMPTY
        quorum.soft = SoftState()
        self.note(f"controller {quorum.controller} term {quorum.term} at {len(quorum.entries)}")
        now_ms = int(self.scheduler.now_ms)
        contacts = {n: now_ms - self.rng.randint(0, 300) if n in up else None for n in NODES}
        dead = [n for n, node in self.nodes.items() if not node.up and self.rng.random() < 0.5]
        self._decide(brokers.take_over, contacts, dead, quorum.controller)
        if not quorum.log_end.names:
            self._create_when_ready()

    def _create_when_ready(self) -> None:
        if self.quorum.controller is not None and not self.quorum.log_end.names:
            if len(self.quorum.log_end.live_brokers()) == len(NODES):
                wish = admin.NewTopic(
                    name="t",
                    assignments=[admin.ReplicaAssignment(partition=0, replicas=[1, 2, 3])],
                    configs={"flush": self.swarm.flush},
                )
                self._decide(topics.create_topics, admin.CreateTopicsRequest(topics=[wish]))
            self.scheduler.after(50, self._create_when_ready)

    def _depose(self) -> None:
        quorum = self.quorum
        if quorum.controller is not None:
            self.note(f"controller {quorum.controller} deposed")
            quorum.controller = None
            quorum.waiting.clear()
            self.scheduler.after(self.rng.uniform(50, 400), self._elect_controller)

    def _tick(self) -> None:
        controller = self.quorum.controller
        if controller is None:
            self._elect_controller()
        elif self.nodes[controller].paused_until_ms <= self.scheduler.now_ms:
            self._decide(brokers.tick)

    def _decide(self, decide: Callable[..., Any], *args: Any) -> tuple[Any, int]:
        """One draft, one entry. Returns the answer and the index it waits for."""
        quorum = self.quorum
        if quorum.controller is None:
            return None, 0
        index = len(quorum.entries) + 1
        draft = Draft(
            quorum.log_end,
            index,
            quorum.soft,
            self.settings,
            int(self.scheduler.now_ms),
            lambda: next(self._ids).to_bytes(16),
        )
        answer = decide(draft, *args)
        if not draft.records:
            return answer, quorum.log_end.index
        check_draft(draft)
        for record in draft.records:
            change = record.partition_change
            if record.HasField("partition_change"):
                self.note(f"entry {index}: {change.cause}")
                self.counts["elections"] += change.HasField("leader")
                if change.recovering:
                    self.counts["recovering"] += 1
        data = records.MetadataRecords(records=draft.records).SerializeToString()
        quorum.entries.append((quorum.term, data))
        quorum.log_end = draft.build(quorum.term)
        term = quorum.term
        delay_ms = self.rng.expovariate(1 / self.swarm.commit_ms)
        self.scheduler.after(delay_ms, self._commit_in_term, index, term)
        return answer, index

    def _commit_in_term(self, index: int, term: int) -> None:
        if self.quorum.term == term and self.quorum.controller is not None:
            self._commit(index)

    def _commit(self, index: int) -> None:
        quorum = self.quorum
        while quorum.committed < min(index, len(quorum.entries)):
            term, data = quorum.entries[quorum.committed]
            quorum.committed += 1
            before = self.images[-1][0] if self.images else Image.EMPTY
            self.images.append(apply(before, records.MetadataRecords.FromString(data), quorum.committed, term))
            for node in self.nodes.values():
                if node.up:
                    node.after(self.rng.expovariate(1 / 3), self._apply_at, node)
        for item in [w for w in quorum.waiting if w[0] <= quorum.committed]:
            quorum.waiting.remove(item)
            _, _, asker, reply = item
            if quorum.controller is not None:
                self.send(quorum.controller, asker, reply)

    def _apply_at(self, node: Node) -> None:
        """A node applies everything that is committed, in order; how far it is behind is up to the scheduler."""
        for image, delta in self.images[node.image.index :]:
            node.apply(image, delta)

    def _handle(self, sender: int, receiver: int, call: Call) -> None:
        if receiver != self.quorum.controller:
            return
        request = call.request
        reply = Reply(call.number, None)
        index = self.quorum.log_end.index
        try:
            match request:
                case rpc.RegisterBrokerRequest():
                    reply.answer, index = self._decide(brokers.register, request, b"c" * 16)
                case rpc.HeartbeatRequest():
                    now_ms = int(self.scheduler.now_ms)
                    reply.answer, index = self._decide(brokers.heartbeat, request, now_ms)
                case rpc.AlterPartitionRequest():
                    reply.answer, index = self._decide(alter_partition, request)
        except ApiError as error:
            reply.error = error
        self.quorum.waiting.append((index, self.nodes[sender].incarnation, sender, reply))
        self._commit(self.quorum.committed)

    # --- faults

    def _fault(self) -> None:
        if self.healed:
            return
        swarm, rng = self.swarm, self.rng
        node = self.nodes[rng.choice(NODES)]
        draw = rng.random()
        if draw < swarm.kill:
            self._crash(node, power=False)
        if rng.random() < swarm.power:
            self._crash(self.nodes[rng.choice(NODES)], power=True)
        if rng.random() < swarm.power_all:
            self.note("power loss of all")
            for each in self.nodes.values():
                self._crash(each, power=True)
        if rng.random() < swarm.stop and node.up and not node.stopping:
            self.note(f"stop {node.node_id}")
            node.stopping = True
            self.scheduler.after(rng.uniform(200, 1500), self._end_of_stop, node, node.incarnation)
        if rng.random() < swarm.freeze and node.up:
            self.note(f"freeze {node.node_id}")
            node.paused_until_ms = self.scheduler.now_ms + rng.choice([50, 300, 1000, 2500])
        if rng.random() < swarm.cut:
            a, b = rng.sample(NODES, 2)
            self.note(f"cut {a} {b}")
            self.net.cut_link(a, b, one_way=rng.random() < 0.3)
            self.scheduler.after(rng.uniform(100, 2000), self.net.cut.clear)
        if rng.random() < swarm.depose:
            self._depose()

    def _crash(self, node: Node, *, power: bool) -> None:
        if not node.up:
            return
        self.counts["power" if power else "kill"] += 1
        self.note(f"{'power loss' if power else 'kill'} {node.node_id}")
        self.lost_power = self.lost_power or power
        node.crash(power=power)
        self._gone(node)
        self.scheduler.after(self.rng.choice([20, 200, 1500]), self._restart, node, power)

    def _gone(self, node: Node) -> None:
        if self.quorum.controller == node.node_id:
            self._depose()
        elif self.rng.random() < 0.7 and self.quorum.controller is not None:
            # Its connections were closed: a verdict, not a lease.
            self.scheduler.after(self.rng.uniform(5, 160), self._verdict, node, node.incarnation)

    def _verdict(self, node: Node, incarnation: int) -> None:
        if not node.up and node.incarnation == incarnation:
            self._decide(brokers.declare_dead, node.node_id)

    def _restart(self, node: Node, unclean: bool) -> None:
        if not node.up:
            self.note(f"start {node.node_id}")
            node.paused_until_ms = 0
            node.start(unclean=unclean or node.unreported_loss)
            self.scheduler.after(self.rng.uniform(1, 20), self._apply_if_up, node)

    def _apply_if_up(self, node: Node) -> None:
        if node.up:
            self._apply_at(node)

    def _end_of_stop(self, node: Node, incarnation: int) -> None:
        if node.up and node.incarnation == incarnation:
            self.note(f"stopped {node.node_id} {'in order' if node.may_stop else 'at its deadline'}")
            node.close()
            self._gone(node)
            self.scheduler.after(self.rng.choice([20, 500]), self._restart, node, False)

    def _heal(self) -> None:
        self.note("heal")
        self.healed = True
        self.net.heal()
        for node in self.nodes.values():
            node.paused_until_ms = 0

    # --- clients

    def _produce(self) -> None:
        for node in self.nodes.values():
            frozen = node.paused_until_ms > self.scheduler.now_ms
            if node.up and not frozen and node.active and node.partition is not None and node.partition.leader:
                write = node.write(self.next_value)
                self.next_value += 1
                if write is not None:
                    holder = self.appender.setdefault(write.epoch, write.node_id)
                    if holder != write.node_id:
                        raise Violation(f"nodes {holder} and {write.node_id} both appended in epoch {write.epoch}")
                    self.writes.append(write)

    def _read(self) -> None:
        """The high watermark a client sees never goes back, along (leader epoch, high watermark)."""
        for node in self.nodes.values():
            if not node.up or node.partition is None or node.partition.leader is None or not node.active:
                continue
            try:
                result = node.partition.read(0, 1, min_one=True, current_leader_epoch=None, last_fetched_epoch=None)
            except ApiError:
                continue
            self.counts["reads"] += 1
            seen = self.seen_marks.get(result.leader_epoch, 0)
            earlier = max((m for e, m in self.seen_marks.items() if e < result.leader_epoch), default=0)
            if result.high_watermark >= 0:
                if result.high_watermark < max(seen, earlier):
                    raise Violation(
                        f"node {node.node_id} shows high watermark {result.high_watermark} in epoch "
                        f"{result.leader_epoch}, {max(seen, earlier)} was seen before"
                    )
                self.seen_marks[result.leader_epoch] = result.high_watermark

    # --- invariants

    def _after_event(self) -> None:
        if self.writes and any(write.future.done() for write in self.writes):
            self._take_acks()
        for node in self.nodes.values():
            if node.up and node.partition is not None and node.partition.leader is not None and node.active:
                self._check_leader(node)

    def _take_acks(self) -> None:
        still = []
        for write in self.writes:
            if not write.future.done():
                still.append(write)
            elif write.future.exception() is None:
                self.acknowledged[write.offset] = write
                self.counts["acknowledged"] += 1
                if len(self.committed) <= write.offset or self.committed[write.offset][1] != write.value:
                    self._check_leader(self.nodes[write.node_id])
        self.writes = still

    def _check_leader(self, node: Node) -> None:
        partition = node.partition
        assert partition is not None
        leader = partition.leader
        assert leader is not None
        key = (leader.leader_epoch, node.node_id)
        if leader.leader_epoch > self.leader_seen[0]:
            self.leader_seen = key
            self._check_new_leader(node)
        mark, known = leader.high_watermark, len(self.committed)
        if mark > known:
            fresh = [(s.header.leader_epoch, s.header.base_timestamp) for s in partition.log.scan(known, mark)]
            self.committed += fresh
            if leader.leader_epoch < self.leader_seen[0]:
                # An old leader may still learn that all of its ISR has something: then the new leader has it too.
                newest = self.nodes[self.leader_seen[1]].partition
                if newest is not None and newest.leader and newest.leader.leader_epoch == self.leader_seen[0]:
                    there = newest.log.scan(known, min(mark, newest.log.log_end_offset))
                    if [(s.header.leader_epoch, s.header.base_timestamp) for s in there] != fresh:
                        raise Violation(
                            f"node {node.node_id} committed {fresh} at {known} in the old epoch {leader.leader_epoch}; "
                            f"the leader of epoch {self.leader_seen[0]}, {self.leader_seen[1]}, does not have it"
                        )

    def _check_new_leader(self, node: Node) -> None:
        """Whoever leads a new epoch has everything that was ever committed, or was elected by the careful way."""
        partition = node.partition
        assert partition is not None
        has = [
            (s.header.leader_epoch, s.header.base_timestamp)
            for s in partition.log.scan(0, partition.log.log_end_offset)
        ]
        if has[: len(self.committed)] == self.committed:
            return
        common = next((i for i, (a, b) in enumerate(zip(has, self.committed, strict=False)) if a != b), len(has))
        lost = [w for o, w in self.acknowledged.items() if o >= common]
        state = partition.state
        assert state is not None
        if not state.recovering:
            raise Violation(
                f"node {node.node_id} leads epoch {state.leader_epoch} with {len(has)} records; "
                f"{len(self.committed)} were committed, {len(lost)} acknowledged ones are gone from offset {common}"
            )
        if self.swarm.flush == "ack" or not self.lost_power:
            raise Violation(f"records from offset {common} were lost without a power loss that could explain it")
        for other in self.nodes.values():
            if other.up and other.node_id in state.replicas and other.partition is not None and other is not node:
                end = other.partition.log.log_end_offset
                epoch = other.partition.log.epochs.latest_epoch or 0
                own = partition.log.epochs.latest_epoch or 0
                if other.active and other.node_id in state.last_known_elr and (epoch, end) > (own, len(has)):
                    raise Violation(f"node {other.node_id} had a more complete log than {node.node_id}")
        self.counts["lost to power"] += len(lost)
        self.note(f"power loss cost records from {common}: {len(lost)} acknowledged")
        self.committed = self.committed[:common]
        self.acknowledged = {o: w for o, w in self.acknowledged.items() if o < common}
        self.seen_marks.clear()

    def _check_healed(self) -> None:
        """Progress: a leader, everyone in sync, equal logs, everything acknowledged is there."""
        image = self.images[-1][0]
        state = image.partition(TOPIC_ID, 0)
        if state is None:
            raise Violation("there is no topic")
        if state.leader == NO_LEADER or len(state.isr) != 3:
            raise Violation(f"after {HEAL_MS} ms of peace: {state}")
        contents = []
        for n in state.replicas:
            partition = self.nodes[n].partition
            assert partition is not None
            end = len(self.committed)
            contents.append([(s.header.leader_epoch, s.header.base_timestamp) for s in partition.log.scan(0, end)])
        if any(content != self.committed for content in contents):
            raise Violation(f"replicas differ below the high watermark {len(self.committed)}")
        for offset, write in self.acknowledged.items():
            if self.committed[offset][1] != write.value:
                raise Violation(f"the acknowledged record {write.value} is not at its offset {offset}")
        if not any(write.epoch == state.leader_epoch for write in self.acknowledged.values()):
            raise Violation("nothing was acknowledged after the healing")


def run_seed(seed: int, *, verbose: bool = False) -> ClusterSim:
    """One run; raises with the last events where a promise was broken."""
    sim = ClusterSim(seed, verbose=verbose)
    try:
        sim.run()
    except BaseException:
        if not verbose:
            print("\n".join(list(sim.scheduler.recent)[-60:]))
        print(f"seed {seed} failed: {sim.swarm}\nagain: python -m tests.sim.cluster_sim --seed {seed} --verbose")
        raise
    return sim


def main() -> None:
    parser = argparse.ArgumentParser(description="Simulates controller, replicas and logs under faults.")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--seeds", default="0:50", help="from:to")
    parser.add_argument("--minutes", type=float, help="new seeds until the time is over")
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args()
    quiet()
    first, last = (options.seed, options.seed + 1) if options.seed is not None else map(int, options.seeds.split(":"))
    if options.minutes:
        first, last = int(time.time()) * 1000, sys.maxsize
    total: Counter[str] = Counter()
    started = time.perf_counter()
    events = 0
    for seed in range(first, last):
        sim = run_seed(seed, verbose=options.verbose)
        total.update(sim.counts)
        events += sim.scheduler.events
        if options.minutes and time.perf_counter() - started > options.minutes * 60:
            last = seed + 1
            break
    took_s = time.perf_counter() - started
    print(f"{last - first} seeds, {events} events, {events / took_s:.0f} events/s, {dict(total)}")


def quiet() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


if __name__ == "__main__":
    sys.exit(main())
