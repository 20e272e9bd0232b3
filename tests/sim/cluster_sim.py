"""The whole cluster under faults: nodes and clients as they are, time, network and disks simulated. One seed, one run.

    python -m tests.sim.cluster_sim --seeds 0:200        python -m tests.sim.cluster_sim --seed 17 --verbose

Real: four nodes - `node.main` with both planes, controller, partitions, logs, group coordinators, every service - and
the clients that use them. Simulated: event loops on virtual time, gRPC on a network of faulty connections, disks that
forget and fail, and the quorum as one list (raft has its own simulation). After every event the invariants look at what
it touched; then everything heals, and the cluster must be whole again; at last the history goes to the checker that
real runs use.
"""

import argparse
import asyncio
import json
import logging
import signal
import sys
import time
import traceback
import zlib
from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import Final

import structlog

import node.api.coordination
from node.metadata.image import NO_LEADER, Delta, Image
from ottla.verify.checker import check
from tests.sim.cluster_faults import KINDS, Faults, Swarm
from tests.sim.cluster_invariants import Invariants, Truth
from tests.sim.cluster_liveness import Liveness
from tests.sim.cluster_loop import SimLoop, Violation, World, virtual
from tests.sim.cluster_moves import replace_unregistered
from tests.sim.cluster_net import Network
from tests.sim.cluster_node import DIRECTORY, Node, installed, is_there
from tests.sim.cluster_quorum import MetadataLog
from tests.sim.cluster_workload import GROUP, PARTITIONS, Workload

CALM_MS: Final = 1_500
CHAOS_MS: Final = 12_000
HEAL_MS: Final = 10_000
FLUSH_MS: Final = 20_000
NODES: Final = (1, 2, 3, 4)
BUGS_SAID: Final = frozenset(
    {
        "metadata_not_applied",
        "background_task_ended",
        "replica_fetch_failed",
        "replica_result_failed",
        "bad_batch_from_leader",
        "controller_invariant_broken",
        "controller_decision_failed",
    }
)
"""What a node says where code met what it does not expect."""
CPU_MAX_S: Final = 180.0
"""What one run of the command line may take; most take 3 to 12 s."""


class ClusterSim:
    """One run."""

    def __init__(
        self,
        seed: int,
        *,
        verbose: bool = False,
        chaos_ms: float = CHAOS_MS,
        kinds: Sequence[str] = (),
        moves: bool = False,
    ) -> None:
        self.seed = seed
        self.moves = moves
        """Whether partitions move all the time. Without it a seed gives the history that it always gave."""
        self.verbose = verbose
        self.chaos_ms = chaos_ms
        self.swarm = Swarm.draw(Random(f"{seed} swarm"))
        if kinds:
            self.swarm.kinds = dict.fromkeys(kinds, 1.0)
        self.counts: Counter[str] = Counter()
        self.world = World(seed)
        self.net = Network(self.world, Random(f"{seed} net"), self.counts)
        self.log = MetadataLog(self.world, self.net, Random(f"{seed} log"), self.swarm.commit_ms)
        self.nodes = {n: Node(self.world, self.net, self.log, n, Random(f"{seed} node {n}")) for n in NODES}
        self.log.nodes = self.nodes
        self.invariants = Invariants(self.world, self.nodes, self.counts)
        self.log.on_image = self._on_image
        self.world.after_event = self.invariants.after
        self.liveness = Liveness(self.world, self.nodes, self.log, self.net)
        self.heals = 0
        self.healing = False
        self.faults = Faults(self, Random(f"{seed} faults"))
        self.workload = Workload(self, Random(f"{seed} workload"))
        self.invariants.unresolved = self.workload.sends_on_their_way
        for n in self.nodes.values():
            n.ended = self._ended
            n.sync_ms = self.swarm.sync_ms

    def _on_image(self, image: Image, delta: Delta) -> None:
        self.invariants.on_image(image, delta)
        replace_unregistered(self, image, delta)

    @property
    def events(self) -> int:
        return self.world.scheduler.events

    def run(self) -> None:
        rng = Random(f"{self.seed} secrets")
        partitions = node.api.coordination.OFFSETS_PARTITIONS
        node.api.coordination.OFFSETS_PARTITIONS = 2  # type: ignore[misc]
        try:
            with virtual(self.world), installed(self.net, self.log, rng, self.counts, self.invariants.told):
                self._run()
        finally:
            node.api.coordination.OFFSETS_PARTITIONS = partitions  # type: ignore[misc]
            self.workload.close()

    def _run(self) -> None:
        world = self.world
        self.log.start()
        for each in self.nodes.values():
            each.start()
        self.liveness.start()
        world.run_until(CALM_MS)
        self.workload.start()
        world.run_until(2 * CALM_MS)
        self.faults.start()
        world.run_until(2 * CALM_MS + self.chaos_ms)
        self._heal()
        self._until(HEAL_MS, self._whole)
        self.workload.writing = False
        self._until(FLUSH_MS, self._flushed)
        self._until(HEAL_MS, self._consumed)
        self.workload.ending = True
        reader = self.workload.read_all()
        self._until(HEAL_MS, lambda: None if "read" in self.workload.finals else "the final read has not ended")
        reader.end()
        self._until(HEAL_MS, self._level)
        self._check_end()

    def _until(self, limit_ms: float, missing: "object") -> None:
        """Runs until nothing is missing any more."""
        assert callable(missing)
        end_ms = self.world.now_ms + limit_ms
        while (what := missing()) is not None:
            if self.world.now_ms >= end_ms:
                raise Violation(f"after {limit_ms:.0f} ms of peace: {what}")
            self.world.run_until(self.world.now_ms + 100)

    # --- nodes that come and go

    def restart(self, each: Node) -> None:
        if not each.up:
            self.world.note(f"start {each.name}")
            each.start()
            for other in self.nodes.values():
                if other.up and other.quorum is not None and other.control_loop is not None:
                    self.world.scheduler.after(1, other.control_loop.execute, other.quorum.peer_alive, each.node_id)

    def verdict(self, each: Node, incarnation: int) -> None:
        """Others saw its connections close and no new one come: it is dead, not silent."""
        if each.up or each.incarnation != incarnation:
            return
        for other in self.nodes.values():
            if (
                other.up
                and other.quorum is not None
                and other.quorum.running
                and self.net.passes(each.name, other.name)
            ):
                assert other.control_loop is not None
                other.control_loop.execute(other.quorum.peer_dead, each.node_id)

    def _ended(self, each: Node) -> None:
        if each.starts > 200:
            raise Violation(f"{each.name} gives up again and again")
        self.world.scheduler.after(100, self.restart, each)

    # --- peace

    def _heal(self) -> None:
        self.world.note("heal")
        self.faults.healed = True
        self.heals += 1
        self.net.heal()
        for process in (*self.workload.processes.values(), *self.nodes.values()):
            process.frozen_until_ms = 0.0
            for loop in process.loops:
                loop.stalled_until_ms = 0.0
                self.world.scheduler.after(0, loop.thaw)
        for each in self.nodes.values():
            each.disk.heal()
            if not each.up:
                self.restart(each)
            elif each.broker is not None and (each.broker.offline or self.faults.log_deleted(each)):
                # A log that failed stays offline until somebody looks at the disk and starts the node again. One whose
                # directory was deleted may go on until it next opens a file there: left so, it would fail in peace.
                self.counts["restarted for an offline log"] += 1
                self.faults.crash(each, down_ms=50)

    def _whole(self) -> str | None:
        image = self.log.image
        for each in self.nodes.values():
            if not each.active:
                return f"{each.name} is not active"
            if each.broker.offline:
                return f"{each.name} has offline logs {each.broker.offline}"
        for topic in image.all_topics():
            for state in topic.partitions:
                if state.leader == NO_LEADER or len(state.isr) != len(state.replicas) or state.target:
                    return f"{topic.name}: {state}"
        return None if image.topic_named("s") else "there is no topic s"

    def _level(self) -> str | None:
        """What was on its way slowly when peace came has arrived: every replica has all that is committed."""
        for key, truth in self.invariants.truths.items():
            state = self.log.image.partition(*key)
            for n in () if state is None else state.replicas:
                partition = self.nodes[n].partitions.get(key)
                end = -1 if partition is None else partition.log.log_end_offset
                if end < truth.end:
                    return f"{self.nodes[n].name} has {truth.label} up to {end}, {truth.end} are committed: {state}"
        return self._whole()

    def _flushed(self) -> str | None:
        missing = [f"p{n}" for n in range(self.swarm.producers) if f"p{n}" not in self.workload.finals]
        return f"producers {missing} wait for outcomes" if missing else None

    def _consumed(self) -> str | None:
        """The group has committed everything: unseen = 0."""
        if not self.swarm.members:
            return None
        offsets = self._committed_offsets()
        for (topic_id, number), truth in self.invariants.truths.items():
            if truth.name == "s" and truth.end and offsets.get((topic_id, number), 0) < truth.end:
                at = offsets.get((topic_id, number), 0)
                return f"group {GROUP} is at {at} of {truth.end} in {truth.label}: {self._group_state()}"
        return None

    def _committed_offsets(self) -> dict[tuple[bytes, int], int]:
        for truth in self.invariants.truths.values():
            group = truth.groups.by_id.get(GROUP) if truth.internal else None
            if group is not None:
                return {at: value.offset for at, value in group.offsets.items()}
        return {}

    def _group_state(self) -> str:
        for truth in self.invariants.truths.values():
            group = truth.groups.by_id.get(GROUP) if truth.internal else None
            if group is not None:
                members = [
                    (m.member_id, m.member_epoch, len(m.assigned), len(m.revoking)) for m in group.members.values()
                ]
                return f"{group.state}, epoch {group.group_epoch}, {members}"
        return "unknown"

    # --- the end

    def _check_end(self) -> None:
        self.counts.update({f"said by nodes: {event}": count for event, count in self.world.said.items()})
        for each in self.nodes.values():
            self.invariants.look(each)
        cut = False
        for key, truth in self.invariants.truths.items():
            if key[0] in self.invariants.deleted:
                continue
            cut = cut or (truth.cuts > 0 and truth.name == "s")
            self._check_replicas(key, truth)
            self._check_departed(key, truth)
        self._check_deliveries()
        if not cut:
            report = check(self.workload.history, final_read=True)
            if not report.ok:
                found = "\n".join(f"  {a.kind} {a.key}: {a.detail}" for a in report.anomalies[:10])
                raise Violation(f"the history has {len(report.anomalies)} anomalies:\n{found}")
            self.counts["histories checked"] += 1
            self.counts["history: unknown sends that were stored"] += report.unknown_seen
        if not self.counts["acknowledged"]:
            raise Violation("nothing was acknowledged in the whole run")

    def _check_replicas(self, key: tuple[bytes, int], truth: Truth) -> None:
        """In full: below the high watermark all replicas are equal, and their epochs too."""
        state = self.log.image.partition(*key)
        assert state is not None
        tables = set()
        for n in state.replicas:
            partition = self.nodes[n].partitions[key]
            start = partition.log.log_start_offset
            if truth.compacted or n in self.invariants.lost_disk:
                continue  # rot that no scrub has met yet is no difference that anybody was shown
            stored = [
                (s.header.base_offset, s.header.leader_epoch, s.header.payload_crc)
                for s in partition.log.scan(start, truth.end)
                if s.header.next_offset <= truth.end
            ]
            known = [(e.base, e.epoch, e.what[0]) for e in truth.entries if e.base >= start]
            if stored != known:
                where = next((pair for pair in zip(stored, known, strict=False) if pair[0] != pair[1]), None)
                raise Violation(
                    f"14: {self.nodes[n].name} {truth.label} differs from what was committed: {where}; {len(stored)} "
                    f"and {len(known)} batches, log {start} to {partition.log.log_end_offset}, {truth.end} committed"
                )
            table = [e for e in partition.log.epochs.entries() if e[1] < truth.end]
            if table != sorted(set(table)) or [s for _, s in table] != sorted({s for _, s in table}):
                raise Violation(f"20: {self.nodes[n].name} {truth.label}: epochs {table}")
            tables.add(tuple(table[1:] if start else table))
        if len(tables) > 1 and not truth.trimmed:
            raise Violation(f"20: replicas of {truth.label} have different epochs below {truth.end}: {tables}")
        if truth.compacted and not truth.internal:
            self._check_compacted(key, truth, state.replicas)

    def _check_departed(self, key: tuple[bytes, int], truth: Truth) -> None:
        """36: who is no replica has nothing of it."""
        state = self.log.image.partition(*key)
        assert state is not None
        directory = f"{DIRECTORY}/{key[0].hex()}-{key[1]}"
        for each in self.nodes.values():
            if each.node_id not in state.replicas and (key in each.partitions or is_there(each, directory)):
                raise Violation(f"36: {each.name} has a log of {truth.label}, and is none of {state.replicas}")

    def _check_compacted(self, key: tuple[bytes, int], truth: Truth, replicas: tuple[int, ...]) -> None:
        from tests.sim.cluster_invariants import _records_of

        last = {k: v for batch in truth.payloads for k, v in batch}
        if truth.cuts:
            return
        for n in [n for n in replicas if n not in self.invariants.lost_disk]:
            partition = self.nodes[n].partitions[key]
            found: dict[bytes | None, bytes | None] = {}
            for s in partition.log.scan(partition.log.log_start_offset, truth.end):
                data = partition.log.read(s.header.base_offset, 1, s.header.next_offset, min_one=True).data
                found.update((r.key, r.value) for r in _records_of(data))
            if found != last:
                raise Violation(f"{self.nodes[n].name}: compaction of {truth.label} lost the last value of a key")

    def _check_deliveries(self) -> None:
        """No record is skipped: whatever is behind the group's position was delivered to one of its members."""
        offsets = self._committed_offsets()
        for key, truth in self.invariants.truths.items():
            position = offsets.get(key)
            if truth.name != "s" or position is None or truth.cuts:
                continue
            missing = set(range(position)) - self.workload.delivered["s", truth.number]
            if missing:
                raise Violation(
                    f"the group is at {position} in {truth.label}, no member ever got {sorted(missing)[:10]}"
                )


assert PARTITIONS


def run_seed(seed: int, *, verbose: bool = False, kinds: Sequence[str] = (), moves: bool = False) -> ClusterSim:
    """One run; raises with the last events where a promise was broken."""
    sim = ClusterSim(seed, verbose=verbose, kinds=kinds, moves=moves)
    try:
        sim.run()
    except BaseException as error:
        if not isinstance(error, KeyboardInterrupt):
            print(sim.world.story(400 if verbose else 200))
            traceback.print_exception(error, limit=-6, file=sys.stdout)
            print(f"seed {seed} failed after {sim.events} events at {sim.world.now_ms:.1f} ms: {error}\n{sim.swarm}")
            asked = f" --faults '{','.join(kinds)}'" if kinds else ""
            asked += " --moves" if moves else ""
            print(f"again: make sim SEED={seed}, or python -m tests.sim.cluster_sim --seed {seed}{asked} --verbose")
        raise
    return sim


class Totals:
    """What many runs came to: each count, and in how many seeds it was not 0."""

    def __init__(self, first: int, path: str | None) -> None:
        self.first = first
        self.path = path
        self.seeds: list[int] = []
        self.failed: list[int] = []
        self.events = self.looks = self.trace = 0
        self.counts: Counter[str] = Counter()
        self.in_seeds: Counter[str] = Counter()
        self._started_s = time.process_time()

    def add(self, seed: int, sim: ClusterSim) -> None:
        self.seeds.append(seed)
        self.events += sim.events
        self.looks += sim.invariants.looks
        self.counts.update(sim.counts)
        self.in_seeds.update(name for name, count in sim.counts.items() if count)
        self.trace = zlib.crc32(sim.world.trace_hash.to_bytes(4), self.trace)

    @property
    def line(self) -> str:
        took_s = time.process_time() - self._started_s
        return (
            f"{len(self.seeds)} seeds from {self.first}, {self.events} checked events ({self.looks} looks at a data "
            f"loop), {took_s:.0f} s of CPU, {self.events / max(took_s, 0.001):.0f} events/s, trace {self.trace:08x}"
        )

    def save(self) -> None:
        """For whoever adds up several runs, also one that was stopped."""
        if self.path is None:
            return
        found = vars(self) | {"cpu_s": time.process_time() - self._started_s}
        with open(self.path, "w") as file:
            json.dump(found, file, indent=1, sort_keys=True)

    def print(self) -> None:
        print(self.line)
        for name, count in sorted(self.counts.items()):
            print(f"  {name}: {count} in {self.in_seeds[name]} seeds")


def main() -> None:
    parser = argparse.ArgumentParser(description="Simulates the whole cluster under faults.")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--seeds", help="from:to")
    parser.add_argument("--minutes", type=float, help="for so long, new seeds or from the first of --seeds on")
    parser.add_argument(
        "--keep-going", action="store_true", help="counts failed seeds instead of stopping at the first"
    )
    parser.add_argument(
        "--faults", help="these kinds alone, in place of those that a seed draws: disk full,kill leader"
    )
    parser.add_argument("--moves", action="store_true", help="partitions move to other nodes all the time")
    parser.add_argument("--totals", help="a JSON file with what was counted, written after every seed")
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args()
    kinds = options.faults.split(",") if options.faults else ()
    if unknown := set(kinds) - set(KINDS):
        parser.error(f"no kind of fault: {', '.join(sorted(unknown))}; there are {', '.join(KINDS)}")
    quiet()
    signal.signal(signal.SIGVTALRM, _endless)
    given = options.seeds or ("0:20" if options.minutes is None else f"{int(time.time())}:0")
    first, last = (options.seed, options.seed + 1) if options.seed is not None else map(int, given.split(":"))
    totals = Totals(first, options.totals)
    began = time.monotonic()
    seed = first
    while seed < last or options.minutes is not None:
        if options.minutes is not None and time.monotonic() - began > options.minutes * 60:
            break
        signal.setitimer(signal.ITIMER_VIRTUAL, CPU_MAX_S)
        try:
            sim = run_seed(seed, verbose=options.verbose, kinds=kinds, moves=options.moves)
        except Exception:
            totals.failed.append(seed)
            if not options.keep_going:
                raise
            sys.stdout.flush()
        else:
            totals.add(seed, sim)
            if len(totals.seeds) % 20 == 0:
                print(f"... seed {seed}: {totals.line}, failed {totals.failed}", flush=True)
        totals.save()
        seed += 1
    totals.print()
    if totals.failed:
        sys.exit(f"{len(totals.failed)} seeds failed: {totals.failed}")


def _endless(*_: object) -> None:
    raise Violation(f"a run took more than {CPU_MAX_S} s of CPU: something never ends")


def quiet() -> None:
    """What nodes say below an error is not even built: a log line costs more than most events. Errors are counted."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
        processors=[_note_error],
        cache_logger_on_first_use=True,
    )


def _note_error(logger: object, method: str, said: structlog.typing.EventDict) -> str:
    loop = asyncio.events._get_running_loop()
    if isinstance(loop, SimLoop):
        loop.world.said[said["event"]] += 1
        if said["event"] in BUGS_SAID and loop.world.bug is None:
            loop.world.bug = f"{loop.label} says {said}"
    raise structlog.DropEvent


if __name__ == "__main__":
    sys.exit(main())
