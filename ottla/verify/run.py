"""One run of `ottla verify`: start, load, break, mend, read everything, judge."""

import asyncio
import contextlib
import gc
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice, takewhile
from typing import IO, Final

from ottla.client.admin import Admin
from ottla.verify.checker import Report, check
from ottla.verify.costs import Cost, Summary, costs, summaries
from ottla.verify.doors import TOPIC, Door, GrpcDoor
from ottla.verify.history import Operation
from ottla.verify.nemesis import FAULTS, NEEDS_THREE, Fault, Nemesis
from ottla.verify.target import Target
from ottla.verify.workload import Counts, EndsReader, FinalReader, Log, Reader, Writer, ends_of

WRITERS: Final = 2
READERS: Final = 2
GRPC, KAFKA, BOTH = "grpc", "kafka", "both"
LANES: Final = (GRPC, KAFKA, BOTH)
_WARM_UP_S: Final = 1.0
_AGREE_S: Final = 15.0
_READ_ON_S: Final = 30.0
_SHOW_EVERY_S: Final = 0.1
_RECENT_NS: Final = 2_000_000_000


@dataclass(frozen=True)
class Plan:
    """What to do. The seed decides the order of the faults and their victims, not the moments."""

    seconds: float
    kinds: Sequence[str]
    seed: int
    rate: float
    record_bytes: int
    partitions: int
    hold_s: float
    lane: str = GRPC
    """By which of `LANES` clients write and read."""


@dataclass
class Outcome:
    """What came of it. `problems` are broken promises that no history shows: replicas that differ, a cluster that did
    not heal, two leaders in one epoch."""

    plan: Plan
    target: str
    nodes: int
    start_ns: int = 0
    end_ns: int = 0
    checked_s: float = 0.0
    counts: Counts = field(default_factory=Counts)
    operations: Sequence[Operation] = ()
    report: Report = field(default_factory=Report)
    faults: Sequence[Fault] = ()
    costs: Sequence[Cost] = ()
    summaries: Sequence[Summary] = ()
    replicas_compared: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Nothing acknowledged was lost, nothing twice, nothing out of order, and the cluster healed."""
        return self.report.ok and not self.problems and self.report.acknowledged > 0

    @property
    def anomalies(self) -> Counter[str]:
        """How many of each kind."""
        return Counter(anomaly.kind for anomaly in self.report.anomalies)


Say = Callable[[str], None]
Show = Callable[[Counts, float, str], None]


def possible(kinds: Sequence[str], target: Target, nodes: int) -> tuple[list[str], dict[str, str]]:
    """The kinds that can be had, and why the others cannot."""
    left_out = {}
    for kind in kinds:
        if kind in NEEDS_THREE and nodes < 3:
            left_out[kind] = "it needs three nodes"
        elif why := target.missing(kind):
            left_out[kind] = why
    return [kind for kind in kinds if kind not in left_out], left_out


def doors_of(lane: str, target: Target) -> Sequence[Door]:
    """Raises Failure where there is no client of Kafka's."""
    if lane == GRPC:
        return [GrpcDoor(target.bootstrap)]
    from ottla.verify.kafka_door import KafkaDoor

    kafka = KafkaDoor(target.kafka_bootstrap)
    return [kafka] if lane == KAFKA else [GrpcDoor(target.bootstrap), kafka]


async def run(target: Target, plan: Plan, history: IO[str], say: Say, show: Show) -> Outcome:
    """The whole run on a cluster that was started. Raises Failure and OttlaError where it cannot be carried out."""
    rng = random.Random(plan.seed)
    nodes = len(target.nodes)
    outcome = Outcome(plan, target.name, nodes)
    doors = doors_of(plan.lane, target)
    log = Log.to(history)
    outcome.counts = log.counts
    async with Admin(target.bootstrap, request_timeout_ms=5000) as admin:
        if plan.lane != GRPC:
            # From the newest level on Kafka's batches are stored as they come.
            await admin.finalize_feature()
        created = await admin.create_topic(
            TOPIC,
            partitions=plan.partitions,
            replication_factor=min(3, nodes),
            configs={"min.insync.replicas": str(min(2, nodes))},
        )
        say(f"topic {TOPIC}: {plan.partitions} partitions, {min(3, nodes)} replicas, {min(2, nodes)} must be in sync")
        nemesis = Nemesis(target, admin, plan.kinds, rng, plan.hold_s, say)
        nemesis.on_done = lambda fault: _tell(fault, log, say)
        nemesis.written_since = lambda ns: all(log.last_ack_ns.get(p, 0) > ns for p in range(plan.partitions))
        await nemesis.wait_whole(None)
        outcome.start_ns = time.monotonic_ns()
        async with _showing(log, nemesis, plan, show):
            readers = [
                Reader(f"r{i + 1}", door, plan.partitions, log) for i, door in enumerate(islice(cycle(doors), READERS))
            ]
            async with _clients(doors, plan, log, readers, rng) as stop_writing:
                await asyncio.sleep(_WARM_UP_S)
                await nemesis.run(plan.seconds)
                say("no more faults; waiting for every outcome")
                await stop_writing()
                outcome.end_ns = time.monotonic_ns()
                await nemesis.wait_whole(None)
                ends = await ends_of(target.bootstrap, range(plan.partitions))
                say(f"reading all {sum(ends.values()):,} records once more, from the start")
                await _read_all(doors, ends, log, readers, nemesis.problems)
        await _compare(target, created.topic_id, plan.partitions, outcome, nemesis.problems)
    history.flush()
    outcome.faults, outcome.problems = nemesis.done, nemesis.problems
    outcome.problems += await asyncio.to_thread(target.flaws)
    _judge(outcome, log)
    return outcome


def _tell(fault: Fault, log: Log, say: Say) -> None:
    """What a fault has cost, as soon as it is over; only the last part of the history is looked at."""
    recent = takewhile(lambda op: op.start_ns > fault.start_ns - _RECENT_NS, reversed(log.operations))
    [cost] = costs(list(recent), [fault])
    say(f"  longest pause {cost.pause_ms:.0f} ms; all in sync {cost.whole_s:.1f} s after its end")


@contextlib.asynccontextmanager
async def _clients(
    doors: Sequence[Door], plan: Plan, log: Log, readers: Sequence[Reader], rng: random.Random
) -> AsyncIterator[Callable[[], "asyncio.Future[None]"]]:
    """Writers and readers; gives what stops the writers and waits for their last outcomes."""
    no_more, over = asyncio.Event(), asyncio.Event()
    rate = plan.rate / WRITERS
    async with asyncio.TaskGroup() as tasks:
        writers = [
            tasks.create_task(Writer(f"w{i + 1}", door, plan.partitions, rate, plan.record_bytes, log).run(no_more))
            for i, door in enumerate(islice(cycle(doors), WRITERS))
        ]
        others = [tasks.create_task(reader.run(over)) for reader in readers]
        others += [tasks.create_task(EndsReader(door, plan.partitions, log, rng).run(over)) for door in doors]

        async def stop() -> None:
            no_more.set()
            await asyncio.wait(writers)

        yield lambda: asyncio.ensure_future(stop())
        over.set()


async def _read_all(
    doors: Sequence[Door], ends: dict[int, int], log: Log, readers: Sequence[Reader], problems: list[str]
) -> None:
    for door in doors:
        try:
            await FinalReader(door, ends, log).run(asyncio.Event())
        except TimeoutError:
            problems.append(f"the log could not be read to its end by {door.name} in a minute, with every node up")
    deadline = time.monotonic() + _READ_ON_S
    for reader in readers:
        while any(reader.next.get(partition, 0) < end for partition, end in ends.items()):
            if time.monotonic() > deadline:
                problems.append(f"reader {reader.name} is not at the end {_READ_ON_S:.0f} s after the last record")
                break
            await asyncio.sleep(0.05)


async def _compare(target: Target, topic_id: bytes, partitions: int, outcome: Outcome, problems: list[str]) -> None:
    """Every replica of a partition must be the same, byte by byte; a follower may be a moment behind."""
    deadline = time.monotonic() + _AGREE_S
    while True:
        found = await asyncio.to_thread(target.digests, topic_id)
        different = []
        for partition in range(partitions):
            copies = {node: logs[partition] for node, logs in found.items() if partition in logs}
            if len(set(copies.values())) != 1 or len(copies) < min(3, outcome.nodes):
                different.append(f"the replicas of partition {partition} differ: {copies}")
        outcome.replicas_compared = sum(map(len, found.values()))
        if not different or time.monotonic() > deadline:
            problems += different
            return
        await asyncio.sleep(0.2)


@contextlib.asynccontextmanager
async def _showing(log: Log, nemesis: Nemesis, plan: Plan, show: Show) -> AsyncIterator[None]:
    started = time.monotonic()

    async def loop() -> None:
        while True:
            current = nemesis.current.kind if nemesis.current else ""
            show(log.counts, time.monotonic() - started, current)
            # A full collection looks at the whole history: after five minutes that is two seconds in which this
            # process hears nothing, and they would count as the cluster's.
            gc.freeze()
            await asyncio.sleep(_SHOW_EVERY_S)

    task = asyncio.ensure_future(loop())
    try:
        yield
    finally:
        task.cancel()
        gc.unfreeze()


def _judge(outcome: Outcome, log: Log) -> None:
    started = time.monotonic()
    outcome.operations = log.operations
    outcome.report = check(log.operations, final_read=True)
    outcome.checked_s = time.monotonic() - started
    outcome.costs = costs(log.operations, outcome.faults)
    outcome.summaries = summaries(outcome.faults, outcome.costs)


def kinds_of(text: str) -> list[str]:
    """`kill,pause` as a list. Raises ValueError that says what there is."""
    if text == "none":
        return []
    if text == "all":
        return list(FAULTS)
    kinds = [kind.strip() for kind in text.split(",") if kind.strip()]
    unknown = [kind for kind in kinds if kind not in FAULTS]
    if unknown or not kinds:
        raise ValueError(f"{', '.join(unknown) or 'an empty list'}: there are {', '.join(FAULTS)}, all, and none")
    return list(dict.fromkeys(kinds))
