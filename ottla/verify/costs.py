"""What faults cost their users, reckoned from the history: pauses of writing, throughput and latency over time."""

import math
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from ottla.verify.history import Operation
from ottla.verify.nemesis import Fault


@dataclass(frozen=True, slots=True)
class Cost:
    """The longest pause between acknowledgements of one partition while a fault was there or being recovered from, in
    ms: of any partition, of those the victim led, and of those it did not lead. None where there are none."""

    pause_ms: float
    led_ms: float | None
    followed_ms: float | None
    whole_s: float
    """From the end of the fault until every replica was in sync."""
    p99_ms: float | None
    """Latency of the sends that were acknowledged meanwhile."""


@dataclass(frozen=True, slots=True)
class Summary:
    """Of all faults of one kind."""

    kind: str
    count: int
    of_controllers: int
    median_ms: float
    p99_ms: float
    worst_ms: float
    whole_s: float


@dataclass(frozen=True, slots=True)
class Bucket:
    """A slice of time: what happened per second in it, and how long sends took that ended in it."""

    start_s: float
    acknowledged: float
    read: float
    failed: float
    p50_ms: float | None
    p99_ms: float | None
    max_ms: float | None


def costs(operations: Sequence[Operation], faults: Sequence[Fault]) -> list[Cost]:
    """One for each fault."""
    acks: dict[int, list[int]] = defaultdict(list)
    done: list[tuple[int, int]] = []
    for op in operations:
        if op.kind == "send" and op.outcome == "ok" and op.end_ns is not None:
            acks[_partition(op)].append(op.end_ns)
            done.append((op.end_ns, op.end_ns - op.start_ns))
    for times in acks.values():
        times.sort()
    done.sort()
    return [_cost(fault, acks, done) for fault in faults]


def _cost(fault: Fault, acks: dict[int, list[int]], done: list[tuple[int, int]]) -> Cost:
    pauses = {p: _longest_ms(times, fault.start_ns, fault.whole_ns) for p, times in acks.items()}
    led = [pause for p, pause in pauses.items() if p in fault.leads]
    followed = [pause for p, pause in pauses.items() if p not in fault.leads]
    first, last = bisect_left(done, (fault.start_ns, 0)), bisect_right(done, (fault.whole_ns, 0))
    return Cost(
        pause_ms=max(pauses.values(), default=0.0),
        led_ms=max(led, default=None),
        followed_ms=max(followed, default=None),
        whole_s=(fault.whole_ns - fault.healed_ns) / 1e9,
        p99_ms=percentile([took / 1e6 for _, took in done[first:last]], 0.99),
    )


def _longest_ms(times: Sequence[int], start_ns: int, end_ns: int) -> float:
    """The longest time between two acknowledgements that overlaps the span. One that began before it counts as begun
    with the last acknowledgement."""
    first, last = max(0, bisect_right(times, start_ns) - 1), bisect_right(times, end_ns)
    inside = [*times[first:last], *times[last : last + 1]]
    if last == len(times):
        inside.append(end_ns)
    return max((b - a for a, b in pairwise(inside)), default=0) / 1e6


def summaries(faults: Sequence[Fault], found: Sequence[Cost]) -> list[Summary]:
    """By kind, in the order in which the kinds came first."""
    by_kind: dict[str, list[tuple[Fault, Cost]]] = defaultdict(list)
    for fault, cost in zip(faults, found, strict=True):
        by_kind[fault.kind].append((fault, cost))
    answer = []
    for kind, items in by_kind.items():
        pauses = sorted(cost.pause_ms for _, cost in items)
        answer.append(
            Summary(
                kind,
                len(items),
                sum(fault.controller for fault, _ in items),
                median(pauses),
                percentile(pauses, 0.99) or 0.0,
                pauses[-1],
                max(cost.whole_s for _, cost in items),
            )
        )
    return answer


def percentile(values: Iterable[float], share: float) -> float | None:
    """The smallest value that at least this share of all values does not exceed; None of none."""
    ordered = sorted(values)
    if not ordered:
        return None
    return ordered[max(0, math.ceil(len(ordered) * share) - 1)]


def buckets(operations: Sequence[Operation], start_ns: int, end_ns: int, count: int) -> list[Bucket]:
    """The time from start to end in so many equal slices."""
    width = max(1, (end_ns - start_ns) // count)
    latencies: list[list[float]] = [[] for _ in range(count)]
    read, failed = [0] * count, [0] * count
    for op in operations:
        if op.end_ns is None or not start_ns <= op.end_ns < start_ns + width * count:
            continue
        slot = (op.end_ns - start_ns) // width
        if op.kind == "send" and op.outcome == "ok":
            latencies[slot].append((op.end_ns - op.start_ns) / 1e6)
        elif op.kind == "send":
            failed[slot] += 1
        elif op.kind == "poll":
            read[slot] += len(op.entries)
    seconds = width / 1e9
    return [
        Bucket(
            slot * seconds,
            len(latencies[slot]) / seconds,
            read[slot] / seconds,
            failed[slot] / seconds,
            percentile(latencies[slot], 0.5),
            percentile(latencies[slot], 0.99),
            max(latencies[slot], default=None),
        )
        for slot in range(count)
    ]


def _partition(op: Operation) -> int:
    return int(op.entries[0][0].rpartition("-")[2])
