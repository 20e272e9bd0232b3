"""What goes wrong in a run, and how often: each seed draws its own mix (swarm testing), with quiet spells in between.

Never so much that no good copy is left by design: at most one node's disk is wiped or rots in a run, and not together
with power losses where the flush mode may lose what was not synced (then the verdict would mean nothing).
"""

from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any, Final

from storage.durable import read_durable
from storage.errors import CorruptFile
from tests.sim.cluster_net import LinkFaults
from tests.sim.cluster_node import DIRECTORY, LAG_MS, SESSION_MS, Node, is_there
from tests.sim.cluster_plots import PLOTS, Plots

if TYPE_CHECKING:
    from tests.sim.cluster_sim import ClusterSim

KINDS: Final = (
    "kill",
    "kill leader",
    "kill follower",
    "kill controller",
    "kill controller and leader",
    "kill all",
    "power",
    "power of all",
    "stop",
    "freeze",
    "freeze leader",
    "freeze controller",
    "stall data loop",
    "isolate",
    "isolate leader",
    "cut link",
    "cut one way",
    "one-way isolation",
    "flaky network",
    "slow node",
    "slow disk",
    "disk full",
    "disk error",
    "log lost",
    "syncs of a log hang",
    "rot",
    "wipe",
    "clock jump",
    "restart loop",
    "depose controller",
    "kill client",
    "freeze client",
    "cut client",
    "move coordinator",
    "producers pause",
    *PLOTS,
)


@dataclass
class Swarm:
    """What one seed is about."""

    flush: str
    topics: tuple[str, ...]
    producers: int
    members: int
    rolls: bool
    flips: bool
    linger_ms: int | None
    batch_size: int
    send_ms: float
    request_timeout_ms: int
    delivery_timeout_ms: int
    commit_ms: float
    sync_ms: float
    period_ms: float
    kinds: dict[str, float] = field(default_factory=dict)

    @classmethod
    def draw(cls, rng: Random) -> "Swarm":
        flush = rng.choice(("replica", "ack"))
        kinds = {kind: rng.random() for kind in KINDS[: -len(PLOTS)] if rng.random() < 0.35}
        for kind in ("kill leader", "freeze leader", "isolate leader"):
            if not kinds:
                kinds[kind] = 1.0
        damage = kinds.keys() & {"wipe", "rot", "disk error", "log lost"}
        if damage and flush == "replica":
            kinds.pop("power", None)
            kinds.pop("power of all", None)
        topics = tuple(t for t, share in (("w", 0.3), ("r", 0.3), ("k", 0.3), ("d", 0.3)) if rng.random() < share)
        swarm = cls(
            flush=flush,
            topics=topics,
            producers=rng.choice((1, 2)),
            members=rng.choice((0, 2, 3)),
            rolls=rng.random() < 0.5 or "rot" in kinds,
            flips=rng.random() < 0.2,
            linger_ms=rng.choice((0, None, 20)),
            batch_size=rng.choice((200, 128 * 1024)),
            send_ms=rng.choice((8, 20, 40)),
            request_timeout_ms=rng.choice((400, 1500)),
            delivery_timeout_ms=rng.choice((1800, 6000, 60_000)),
            commit_ms=rng.choice((1.0, 4.0, 25.0)),
            sync_ms=rng.choice((0.2, 1.0, 5.0)),
            period_ms=rng.choice((120.0, 250.0, 600.0)),
            kinds=kinds,
        )
        # Last: a seed that draws none of them gives the history that it always gave.
        kinds |= {kind: rng.random() / 2 for kind in PLOTS if rng.random() < 0.15}
        if "log lost while down" in kinds and flush == "replica":
            kinds.pop("power", None)
            kinds.pop("power of all", None)
        return swarm


class Faults:
    """Draws and makes faults until `healed`."""

    def __init__(self, sim: "ClusterSim", rng: Random) -> None:
        self.sim = sim
        self.rng = rng
        self.healed = False
        self.victim: Node | None = None
        """The one node whose disk may be damaged in this run."""
        self.fast: Node | None = None
        """The one node whose clock may be set forward."""
        self.deleted: list[Any] = []
        """Logs whose directories were deleted while they were open: what opens no file there does not notice."""
        self._plots = Plots(self)
        self._quiet_until_ms = 0.0
        self._looping: dict[str, int] = {}
        self._controller_died_ms = self._broker_died_ms = float("-inf")

    def start(self) -> None:
        self._next()

    def _next(self) -> None:
        self.sim.world.scheduler.after(self.rng.expovariate(1 / self.sim.swarm.period_ms), self._strike)

    def _strike(self) -> None:
        if self.healed:
            return
        self._next()
        now_ms = self.sim.world.now_ms
        if now_ms < self._quiet_until_ms:
            return
        if self.rng.random() < 0.04:
            self._quiet_until_ms = now_ms + self.rng.uniform(500, 2500)
            return
        kinds = self.sim.swarm.kinds
        kind = self.rng.choices(list(kinds), list(kinds.values()))[0]
        if kind in ("power of all", "kill all", "wipe") and self.rng.random() < 0.7:
            return
        self.make(kind)

    def make(self, kind: str) -> None:
        """One fault of that kind, if there is anything to strike."""
        name = kind.replace(" ", "_").replace("-", "_")
        made = getattr(self._plots, name)() if kind in PLOTS else getattr(self, "_" + name)()
        if made is not False:
            self.sim.counts[f"fault: {kind}"] += 1

    # --- whom

    def _any(self) -> Node:
        return self.sim.nodes[self.rng.choice(list(self.sim.nodes))]

    def _leader(self, topic: str = "s", *, follower: bool = False) -> Node | None:
        image = self.sim.log.image
        found = image.topic_named(topic)
        if found is None:
            return None
        state = self.rng.choice(found.partitions)
        if follower:
            others = [n for n in state.replicas if n != state.leader]
            return self.sim.nodes[self.rng.choice(others)]
        return self.sim.nodes.get(state.leader)

    def _controller(self) -> Node | None:
        leader = self.sim.log.leader
        return None if leader is None else self.sim.nodes[leader]

    # --- processes and machines

    def crash(self, node: Node | None, *, power: bool = False, down_ms: float | None = None) -> bool:
        if node is None or not node.up:
            return False
        sim, rng = self.sim, self.rng
        sim.world.note(f"{'power loss' if power else 'kill'} {node.name}")
        self._count_crash(node)
        if power:
            sim.invariants.power_lost(node)
        node.crash(power=power)
        if not power:
            # Its connections were closed: a verdict for those who saw it.
            sim.world.scheduler.after(rng.uniform(5, 200), sim.verdict, node, node.incarnation)
        wait_ms = rng.choice((20, 200, 1500, 3000)) if down_ms is None else down_ms
        sim.world.scheduler.after(wait_ms, sim.restart, node)
        return True

    def _count_crash(self, node: Node) -> None:
        counts, now_ms = self.sim.counts, self.sim.world.now_ms
        counts["nodes crashed"] += 1
        counts["rare: crashes of a node that was still starting"] += not node.active
        counts["rare: crashes with unsynced writes"] += node.disk.has_unsynced_writes()
        is_controller = self.sim.log.leader == node.node_id
        other_ms = self._broker_died_ms if is_controller else self._controller_died_ms
        counts["rare: a controller and another broker died within a second"] += now_ms - other_ms <= 1000
        if is_controller:
            self._controller_died_ms = now_ms
        else:
            self._broker_died_ms = now_ms

    def _kill(self) -> bool:
        return self.crash(self._any())

    def _kill_leader(self) -> bool:
        return self.crash(self._leader())

    def _kill_follower(self) -> bool:
        return self.crash(self._leader(follower=True))

    def _kill_controller(self) -> bool:
        return self.crash(self._controller())

    def _kill_controller_and_leader(self) -> bool:
        first, second = self._controller(), self._leader()
        return self.crash(first) and (second is first or self.crash(second))

    def _kill_all(self) -> None:
        for node in self.sim.nodes.values():
            self.crash(node)

    def _power(self) -> bool:
        return self.crash(self._any(), power=True)

    def _power_of_all(self) -> None:
        for node in self.sim.nodes.values():
            self.crash(node, power=True)

    def _stop(self) -> bool:
        node = self._any()
        if not node.up or node.stopping:
            return False
        self.sim.world.note(f"stop {node.name}")
        node.stop()
        return True

    def _freeze_one(self, node: Node | None) -> bool:
        if node is None or not node.up or node.frozen:
            return False
        time_ms = self.rng.choice((100, 1000, SESSION_MS, 4 * SESSION_MS))
        self.sim.world.note(f"freeze {node.name} for {time_ms} ms")
        node.frozen_until_ms = self.sim.world.now_ms + time_ms
        return True

    def _freeze(self) -> bool:
        return self._freeze_one(self._any())

    def _freeze_leader(self) -> bool:
        return self._freeze_one(self._leader())

    def _freeze_controller(self) -> bool:
        return self._freeze_one(self._controller())

    def _stall_data_loop(self) -> bool:
        node = self._any()
        if not node.up or node.data_loop is None:
            return False
        time_ms = self.rng.choice((200, SESSION_MS, 2 * SESSION_MS))
        self.sim.world.note(f"the data loop of {node.name} hangs for {time_ms} ms")
        node.data_loop.stalled_until_ms = self.sim.world.now_ms + time_ms
        return True

    def _restart_loop(self) -> bool:
        """One node is killed again and again, soon after each start."""
        node = self._any()
        if self._looping.get(node.name):
            return False
        self._looping[node.name] = 6
        self._loop_on(node)
        return True

    def _loop_on(self, node: Node) -> None:
        self._looping[node.name] -= 1
        if self.healed or self._looping[node.name] <= 0:
            return
        self.crash(node, down_ms=20)
        self.sim.world.scheduler.after(self.rng.uniform(60, 500), self._loop_on, node)

    def _depose_controller(self) -> bool:
        if self.sim.log.leader is None:
            return False
        self.sim.log.depose("a fault", (50, 600))
        return True

    def _clock_jump(self) -> bool:
        """Most clocks are right, or behind: a cluster whose clocks are all ahead together cannot know."""
        node = self._any()
        self.fast = self.fast or node
        jump_ms = self.rng.choice((-3_600_000, -50, 1000, *[7_200_000] * 3 * (node is self.fast)))
        self.sim.world.note(f"the clock of {node.name} jumps by {jump_ms} ms")
        node.wall_offset_ms += jump_ms
        return True

    # --- links

    def _cut(self, pairs: list[tuple[str, str]]) -> None:
        self.cut(pairs, self.rng.choice((60, 400, 1500, 3000, 5000)))

    def cut(self, pairs: list[tuple[str, str]], time_ms: float) -> None:
        net, world = self.sim.net, self.sim.world
        world.note(f"cut {' '.join(f'{a}>{b}' for a, b in pairs)} for {time_ms} ms")
        for pair in pairs:
            net.cut_link(*pair)
        generation = self.sim.heals
        world.scheduler.after(time_ms, self._mend, pairs, generation)

    def _mend(self, pairs: list[tuple[str, str]], generation: int) -> None:
        if generation == self.sim.heals:
            for pair in pairs:
                self.sim.net.mend_link(*pair)

    def _isolate_one(self, node: Node | None, *, both: bool = True) -> bool:
        if node is None:
            return False
        others = [n.name for n in self.sim.nodes.values() if n is not node]
        clients = list(self.sim.workload.processes)
        if self.rng.random() < 0.5:
            others += clients
        pairs = [(node.name, other) for other in others]
        back = [(other, node.name) for other in others]
        self._cut(pairs + back if both else self.rng.choice((pairs, back)))
        return True

    def _isolate(self) -> bool:
        return self._isolate_one(self._any())

    def _isolate_leader(self) -> bool:
        return self._isolate_one(self._leader())

    def _one_way_isolation(self) -> bool:
        return self._isolate_one(self._any(), both=False)

    def _cut_link(self) -> None:
        a, b = self.rng.sample(list(self.sim.nodes), 2)
        self._cut([(f"n{a}", f"n{b}"), (f"n{b}", f"n{a}")])

    def _cut_one_way(self) -> None:
        a, b = self.rng.sample(list(self.sim.nodes), 2)
        self._cut([(f"n{a}", f"n{b}")])

    def _flaky_network(self) -> None:
        rng = self.rng
        self.sim.net.faults = LinkFaults(
            delay_mean_ms=rng.choice((0.6, 5.0, 50.0)),
            loss=rng.choice((0.0, 0.1, 0.3)),
            clog=rng.choice((0.0, 0.01, 0.05)),
            reset=rng.choice((0.0, 0.002, 0.02)),
        )
        self.sim.world.note(f"{self.sim.net.faults}")
        self.sim.world.scheduler.after(rng.uniform(300, 3000), self._calm)

    def _calm(self) -> None:
        self.sim.net.faults = LinkFaults()

    def _slow_node(self) -> None:
        node = self._any()
        self.sim.net.slow_ms[node.name] = self.rng.choice((20.0, 100.0, 1000.0))
        self.sim.world.scheduler.after(self.rng.uniform(500, 3000), self.sim.net.slow_ms.pop, node.name, None)

    # --- disks

    def _slow_disk(self) -> None:
        node = self._any()
        node.disk.slow_ms = self.rng.choice((20.0, 100.0, 600.0))
        self.sim.world.scheduler.after(self.rng.uniform(500, 3000), self._fast_again, node)

    def _fast_again(self, node: Node) -> None:
        node.disk.slow_ms = 0.0

    def _disk_full(self) -> None:
        node = self._any()
        self.sim.world.note(f"the disk of {node.name} is full")
        node.disk.fill()
        self.sim.world.scheduler.after(self.rng.choice((200, 1500, 3000, 5000)), self._room_again, node)

    def _room_again(self, node: Node) -> None:
        node.disk.capacity_bytes = None

    def damageable(self) -> Node:
        """Without a good copy elsewhere no verdict means anything, so it is one node per run."""
        if self.victim is None:
            self.victim = self._any()
        return self.victim

    def _disk_error(self) -> bool:
        node = self.damageable()
        if not node.up or node.plane is None:
            return False
        self.sim.invariants.disk_lost(node)
        operation = node.disk.fail_next(self.rng)
        self.sim.world.note(f"the next {operation} of {node.name} fails")
        return True

    def _log_lost(self) -> bool:
        """One partition on one node: its directory is deleted, or its part of the disk fails."""
        node = self.damageable()
        keys = [key for key in node.partitions if key in self.sim.invariants.truths]
        if not node.up or not keys:
            return False
        log = node.partitions[self.rng.choice(sorted(keys))].log
        if not is_there(node, log.directory):
            return False
        self.sim.invariants.disk_lost(node)
        gone = self.rng.random() < 0.5
        self.sim.world.note(f"{log.directory} of {node.name} {'is deleted' if gone else 'fails'}")
        if gone:
            node.disk.remove(log.directory)
            self.deleted.append(log)
        else:
            node.disk.lose(log.directory)
        return True

    def log_deleted(self, node: Node) -> bool:
        """Whether the node, in this start, has a log open that was deleted. Of an earlier start it is another log."""
        return any(partition.log in self.deleted for partition in node.partitions.values())

    def _syncs_of_a_log_hang(self) -> bool:
        node = self._any()
        keys = [key for key in node.partitions if key in self.sim.invariants.truths]
        if not node.up or not keys:
            return False
        directory = node.partitions[self.rng.choice(sorted(keys))].log.directory
        time_ms = self.rng.choice((LAG_MS // 2, 3 * LAG_MS, 6 * LAG_MS))
        self.sim.world.note(f"syncs of {directory} on {node.name} hang for {time_ms} ms")
        node.disk.hung_until_ms[directory] = self.sim.world.now_ms + time_ms
        return True

    def _rot(self) -> bool:
        node = self.damageable()
        paths = self._segment_files(node)
        if not paths:
            return False
        path = self.rng.choice(paths)
        self.sim.invariants.rotted(node)
        self.sim.world.note(f"rot on {node.name} in {path}")
        return node.disk.rot(path, self.rng)

    def _segment_files(self, node: Node) -> list[str]:
        """Closed segments: cold, committed data that the disk has on record as synced. What a flipped bit does to newer
        data looks like a torn write after a loss of power, and is cut as one (docs/storage-format.md)."""
        found = []
        try:
            recorded = read_durable(node.disk, f"{DIRECTORY}/checkpoint") or {}
        except (OSError, CorruptFile):
            return []
        for key, partition in node.partitions.items():
            truth, log = self.sim.invariants.truths.get(key), partition.log
            if truth is not None:
                recovery_point = recorded.get(f"{key[0].hex()}-{key[1]}", (0,))[0]
                cold = min(log.synced_end_offset, recovery_point, truth.end)
                found += [segment.path for segment in log._segments.closed() if segment.next_offset <= cold]
        # Of a node that is down these are the files of its last start; its disk may be another one by now.
        return [path for path in found if node.disk.exists(path)]

    def _wipe(self) -> bool:
        node = self.damageable()
        if not node.up:
            return False
        self.sim.invariants.disk_lost(node)
        self.crash(node, power=False, down_ms=self.rng.choice((200, 1500)))
        self.sim.world.note(f"{node.name} gets a new disk")
        node.wipe()
        return True

    # --- clients

    def _client(self) -> str:
        return self.rng.choice([name for name in self.sim.workload.processes if name != "admin"])

    def _producers_pause(self) -> None:
        """Nothing is written: what only the next write would mend shows."""
        time_ms = self.rng.choice((1000, 2500, 4000))
        self.sim.world.note(f"producers pause for {time_ms} ms")
        self.sim.workload.paused_until_ms = self.sim.world.now_ms + time_ms

    def _kill_client(self) -> None:
        name = self._client()
        self.sim.world.note(f"kill client {name}")
        self.sim.workload.kill(name)

    def _freeze_client(self) -> None:
        process = self.sim.workload.processes[self._client()]
        time_ms = self.rng.choice((300, 1600, 4000))
        self.sim.world.note(f"freeze client {process.name} for {time_ms} ms")
        process.frozen_until_ms = self.sim.world.now_ms + time_ms

    def _cut_client(self) -> None:
        name = self._client()
        self._cut([pair for n in self.sim.nodes.values() for pair in ((n.name, name), (name, n.name))])

    def _move_coordinator(self) -> bool:
        """The coordinator goes while the group changes."""
        members = [name for name in self.sim.workload.processes if name.startswith("m")]
        if members:
            self.sim.workload.kill(self.rng.choice(members))
        return self.crash(self._leader("__consumer_offsets"))
