"""A partition's replicas and a controller in one process, without I/O: the pure rules under a random schedule.

Messages are delayed, reordered, duplicated and lost; nodes restart, stop fetching, hear metadata late. After every step
`check` compares each high watermark with what every possible next leader has.
"""

import copy
import random
from dataclasses import dataclass, field, replace
from typing import Any

from node.broker.replica import FollowerReplica, IsrChange, LeaderReplica, divergence, truncation_offset
from node.metadata.image import Partition
from ottla.v1 import error_pb2 as pb
from storage.epochs import EpochTable

LAG_MS = 1000


class MemoryLog:
    """Entries (epoch, value), one per offset, and their epoch table."""

    def __init__(self) -> None:
        self.entries: list[tuple[int, int]] = []
        self.epochs = EpochTable()

    @property
    def end(self) -> int:
        return len(self.entries)

    def append(self, epoch: int, value: int) -> None:
        self.epochs.assign(epoch, self.end)
        self.entries.append((epoch, value))

    def truncate(self, end: int) -> None:
        del self.entries[end:]
        self.epochs.truncate_to(end)

    @property
    def last_epoch(self) -> int:
        return self.epochs.latest_epoch if self.epochs.latest_epoch is not None else -1


@dataclass
class Fetch:
    leader_epoch: int
    offset: int
    last_epoch: int
    broker_epoch: int
    ask: int
    synced_end: int


@dataclass
class Answer:
    leader_epoch: int
    ask: int
    entries: list[tuple[int, int]] = field(default_factory=list)
    high_watermark: int = 0
    diverging: tuple[int, int] | None = None


class Replica:
    """One node's view: its log, the metadata it has applied, its role."""

    def __init__(self, node_id: int, broker_epoch: int) -> None:
        self.node_id = node_id
        self.broker_epoch = broker_epoch
        self.log = MemoryLog()
        self.applied = 0
        self.state: Partition | None = None
        self.brokers: dict[int, int] = {}
        self.leader: LeaderReplica | None = None
        self.follower: FollowerReplica | None = None
        self.checkpoint = 0
        self.outstanding = 0
        self.synced_end = 0

    @property
    def mark(self) -> int:
        role = self.leader or self.follower
        return self.checkpoint if role is None else role.high_watermark


class World:
    """Replicas 1..n of one partition, the controller's state and the messages under way."""

    def __init__(self, seed: int, *, nodes: int = 3, min_isr: int = 2) -> None:
        self.rng = random.Random(seed)
        self.now_ms = 0
        self.min_isr = min_isr
        ids = tuple(range(1, nodes + 1))
        self.brokers = {node_id: node_id for node_id in ids}
        self.state = Partition(bytes(16), 0, ids, (), ids, leader=1)
        self.history: list[tuple[Partition, dict[int, int]]] = [(self.state, dict(self.brokers))]
        self.replicas = {node_id: Replica(node_id, node_id) for node_id in ids}
        self.messages: list[tuple[str, int, int, Any]] = []
        self.committed: list[tuple[int, int]] = []
        self.marks_seen: dict[tuple[int, int], int] = {}
        self.receipts: dict[tuple[int, int], int] = {}
        self.next_value = 0
        self.next_ask = 0
        self.next_broker_epoch = 100
        for replica in self.replicas.values():
            self.apply_metadata(replica)

    # --- controller

    def publish(self, **changes: Any) -> None:
        bump = "leader" in changes
        self.state = replace(
            self.state,
            partition_epoch=self.state.partition_epoch + 1,
            leader_epoch=self.state.leader_epoch + bump,
            **changes,
        )
        self.history.append((self.state, dict(self.brokers)))

    def elect(self, leader: int) -> None:
        """The controller may elect any live member of the ISR."""
        assert leader in self.state.isr
        self.publish(leader=leader)

    def restart(self, node_id: int) -> None:
        """A process dies and comes back with its log: a new broker epoch, out of the ISR unless it was alone there."""
        replica = self.replicas[node_id]
        replica.checkpoint = self.rng.randint(0, replica.mark)
        replica.leader = replica.follower = None
        replica.outstanding = 0
        self.next_broker_epoch += 1
        replica.broker_epoch = self.brokers[node_id] = self.next_broker_epoch
        isr = tuple(other for other in self.state.isr if other != node_id) or (node_id,)
        leader = self.state.leader if self.state.leader in isr and self.state.leader != node_id else isr[0]
        changes = {"isr": isr} | ({"leader": leader} if leader != self.state.leader or leader == node_id else {})
        self.publish(**changes)
        # Like a broker: nothing of its former life counts, it starts with the image that has its registration.
        replica.applied = len(self.history) - 1
        replica.state = None
        self.apply_metadata(replica)

    def alter(self, node_id: int, change: IsrChange) -> tuple[int, Partition]:
        state = self.state
        if change.leader_epoch != state.leader_epoch or node_id != state.leader:
            return pb.ERROR_CODE_FENCED_LEADER_EPOCH, state
        if change.partition_epoch != state.partition_epoch:
            return pb.ERROR_CODE_INVALID_UPDATE_VERSION, state
        if any(self.brokers.get(member) != epoch for member, epoch in change.members):
            return pb.ERROR_CODE_INELIGIBLE_REPLICA, state
        self.publish(isr=tuple(sorted(change.nodes)), recovering=False)
        return 0, self.state

    # --- nodes

    def apply_metadata(self, replica: Replica) -> None:
        if replica.applied >= len(self.history):
            return
        state, brokers = self.history[replica.applied]
        replica.applied += 1
        replica.brokers = brokers
        leader = replica.leader
        if state.leader == replica.node_id:
            if leader is not None and leader.leader_epoch == state.leader_epoch:
                leader.metadata(state, self.now_ms)
                leader.reconfigured(
                    min_isr=self.min_isr, flush_ack=False, brokers=brokers, lag_time_max_ms=LAG_MS, now_ms=self.now_ms
                )
            elif replica.state is None or state.leader_epoch > replica.state.leader_epoch:
                mark = replica.mark
                replica.leader = LeaderReplica(
                    replica.node_id,
                    state,
                    log_end=replica.log.end,
                    synced_end=replica.synced_end,
                    high_watermark=mark,
                    min_isr=self.min_isr,
                    flush_ack=False,
                    lag_time_max_ms=LAG_MS,
                    brokers=brokers,
                    now_ms=self.now_ms,
                )
                replica.follower = None
        elif replica.state is None or state.leader_epoch > replica.state.leader_epoch:
            replica.checkpoint = replica.mark
            replica.leader = None
            replica.follower = FollowerReplica(state, log_end=replica.log.end, high_watermark=replica.checkpoint)
        replica.state = state

    def produce(self, replica: Replica) -> None:
        if replica.leader is not None and replica.leader.enough_in_sync:
            self.next_value += 1
            replica.log.append(replica.leader.leader_epoch, self.next_value)
            replica.leader.appended(replica.log.end, self.now_ms)

    def sync(self, replica: Replica) -> None:
        """Some more of the log is on the disk."""
        replica.synced_end = self.rng.randint(replica.synced_end, replica.log.end)
        if replica.leader is not None:
            replica.leader.synced(replica.synced_end, self.now_ms)

    def fetch(self, replica: Replica) -> None:
        if replica.follower is not None and replica.state is not None:
            # A stream brings answers in order and once, and only one is open: an answer to an earlier ask never counts.
            self.next_ask += 1
            replica.outstanding = self.next_ask
            self.messages.append(
                (
                    "fetch",
                    replica.node_id,
                    replica.state.leader,
                    Fetch(
                        replica.state.leader_epoch,
                        replica.log.end,
                        replica.log.last_epoch,
                        replica.broker_epoch,
                        self.next_ask,
                        replica.synced_end,
                    ),
                )
            )

    def on_fetch(self, source: int, target: int, fetch: Fetch) -> None:
        replica = self.replicas[target]
        leader = replica.leader
        if leader is None or leader.leader_epoch != fetch.leader_epoch:
            return
        log = replica.log
        diverging = divergence(fetch.last_epoch, fetch.offset, log.epochs.end_offset_for(fetch.last_epoch, log.end), 0)
        answer = Answer(leader.leader_epoch, fetch.ask, high_watermark=leader.high_watermark, diverging=diverging)
        if diverging is None:
            if replica.brokers.get(source) == fetch.broker_epoch:
                leader.fetched(source, fetch.broker_epoch, fetch.offset, fetch.synced_end, self.now_ms)
                self.propose(replica, leader.propose_expand(source))
            answer.high_watermark = leader.high_watermark
            answer.entries = log.entries[fetch.offset : fetch.offset + self.rng.randint(1, 4)]
        self.messages.append(("answer", target, source, answer))

    def on_answer(self, source: int, target: int, answer: Answer) -> None:
        replica = self.replicas[target]
        follower = replica.follower
        log = replica.log
        if follower is None or follower.leader_epoch != answer.leader_epoch or answer.ask != replica.outstanding:
            return
        replica.outstanding = 0
        if answer.diverging is not None:
            log.truncate(
                max(0, truncation_offset(answer.diverging, log.epochs.end_offset_for(answer.diverging[0], log.end), 0))
            )
            follower.truncated(log.end)
            replica.synced_end = min(replica.synced_end, log.end)
        else:
            for epoch, value in answer.entries:
                log.append(epoch, value)
            follower.observed(answer.high_watermark, log.end)

    def propose(self, replica: Replica, change: IsrChange | None) -> None:
        if change is not None:
            self.messages.append(("alter", replica.node_id, 0, change))

    def on_alter(self, source: int, _: int, change: IsrChange) -> None:
        code, state = self.alter(source, change)
        self.messages.append(("altered", 0, source, (change, code, state)))

    def on_altered(self, _: int, target: int, outcome: tuple[IsrChange, int, Partition]) -> None:
        change, code, state = outcome
        leader = self.replicas[target].leader
        if leader is None:
            return
        if code == 0:
            leader.altered(change, state.isr, state.leader_epoch, state.partition_epoch, self.now_ms)
        else:
            leader.refused(change, code, self.now_ms)
            leader.recheck(self.now_ms)

    # --- the schedule

    def step(self) -> None:
        rng = self.rng
        self.now_ms += rng.randint(0, 8)
        replica = self.replicas[rng.choice(sorted(self.replicas))]
        draw = rng.random()
        if draw < 0.45:
            if self.messages:
                self.deliver()
        elif draw < 0.55:
            self.produce(replica)
        elif draw < 0.75:
            if rng.random() < 0.3:
                self.sync(replica)
            self.fetch(replica)
        elif draw < 0.93:
            self.apply_metadata(replica)
        elif draw < 0.97:
            if replica.leader is not None:
                self.propose(replica, replica.leader.propose_shrink(self.now_ms))
                self.propose(replica, replica.leader.pending)  # a retry
        elif draw < 0.985:
            self.elect(rng.choice(self.state.isr))
        elif draw < 0.99:
            self.restart(replica.node_id)
        self.check()
        if rng.random() < 0.02:
            self.check_deadlines(replica)

    def check_deadlines(self, replica: Replica) -> None:
        """Before its deadline time alone changes nothing; at it, what is due is done at the first look."""
        if replica.leader is None:
            return
        leader = copy.deepcopy(replica.leader)
        leader.recheck(self.now_ms)  # as its driver would have done
        leader.propose_shrink(self.now_ms)
        deadline_ms = leader.deadline_ms(self.now_ms)
        later_ms = self.now_ms + 100 * LAG_MS if deadline_ms is None else deadline_ms - 1
        assert later_ms >= self.now_ms, f"the deadline {deadline_ms} is over at {self.now_ms}"
        assert not leader.recheck(later_ms), f"time moved the mark before the deadline {deadline_ms}"
        assert leader.propose_shrink(later_ms) is None, f"a member is late before the deadline {deadline_ms}"

    def deliver(self) -> None:
        del self.messages[:-30]
        index = self.rng.randrange(len(self.messages))
        if self.rng.random() < 0.1:
            kind, source, target, body = self.messages[index]  # delivered now, and once more later
        else:
            kind, source, target, body = self.messages.pop(index)
            if self.rng.random() < 0.1 and kind != "alter":
                return  # lost
        getattr(self, f"on_{kind}")(source, target, body)

    def heal(self) -> None:
        """No more faults: everybody hears everything, fetches and is answered."""
        self.messages.clear()
        self.elect(self.rng.choice(self.state.isr))
        for _ in range(200):
            self.now_ms += 20
            for replica in self.replicas.values():
                while replica.applied < len(self.history):
                    self.apply_metadata(replica)
                self.fetch(replica)
                if replica.leader is not None and replica.leader.pending is not None:
                    self.propose(replica, replica.leader.pending)
            for message in self.messages:
                kind, source, target, body = message
                getattr(self, f"on_{kind}")(source, target, body)
                if len(self.messages) > 5000:
                    break
            self.messages.clear()
            self.check()

    # --- what must always hold

    def check(self) -> None:
        for replica in self.replicas.values():
            mark = replica.mark
            assert 0 <= mark <= replica.log.end, "high watermark outside of the log"
            if replica.leader is not None:
                self.check_leader(replica, replica.leader)
        for member in self.state.isr:
            # The controller may elect any of them: each must have all that was committed.
            entries = self.replicas[member].log.entries
            assert entries[: len(self.committed)] == self.committed, (
                f"node {member} is in sync but lacks committed data"
            )

    def check_leader(self, replica: Replica, leader: LeaderReplica) -> None:
        mark = leader.high_watermark
        key = (leader.leader_epoch, replica.node_id)
        assert mark >= self.marks_seen.get(key, 0), "a high watermark went back"
        self.marks_seen[key] = mark
        self.check_receipt(replica, leader, mark)
        if leader.leader_epoch == self.state.leader_epoch:
            self.check_receipt(replica, leader, replica.log.end)
        entries = replica.log.entries[:mark]
        common = min(len(entries), len(self.committed))
        assert entries[:common] == self.committed[:common], "committed data changed"
        if (leader.high_watermark_known and mark > len(self.committed)) or mark > len(self.committed):
            self.committed = entries

    def check_receipt(self, replica: Replica, leader: LeaderReplica, end: int) -> None:
        """What a produce answer says of the copies of everything before `end` is never more than there is."""
        entries = replica.log.entries[:end]
        holding = [other for other in self.replicas.values() if other.log.entries[:end] == entries]
        synced = [other for other in holding if other.synced_end >= end]
        said = leader.copies(end)
        assert said[0] <= len(holding), f"a receipt says {said[0]} copies, there are {len(holding)}"
        assert said[1] <= len(synced), f"a receipt says {said[1]} synced copies, there are {len(synced)}"
        self.receipts[said] = self.receipts.get(said, 0) + 1
