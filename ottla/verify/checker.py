"""Judges a history: every anomaly that a log can show its clients, found in O(n log n) because offsets give the order.

The anomalies and their names are those of Jepsen's Kafka workload (a public test-suite's vocabulary; the steps are
explained where they are made). Transactions are not judged here: nothing in a history of plain sends and polls can show
their cycles.

| anomaly | what it means |
| --- | --- |
| inconsistent-offsets | two values were seen at one offset |
| duplicate | one value is at two offsets |
| aborted-read | a value was read whose send had certainly failed |
| lost-write | an acknowledged value is missing although later ones were read |
| unseen | an acknowledged value was never read by the end (only where a final read says that it read everything) |
| vanished | a value was read, or acknowledged, and the final read of the whole log does not have it |
| told-truncated | a reader was told that what it had read is no longer in the log |
| poll-skip, nonmonotonic-poll | a reader's next poll left values out, or went back |
| int-poll-skip, int-nonmonotonic-poll | the same inside one poll |
| nonmonotonic-send, int-nonmonotonic-send | a process's sends are in another order in the log |
| wrong-offset | a send was answered with an offset where readers saw another value |
| mark-went-back | a process was told a lower high watermark than before |
| above-mark | a value was read, or acknowledged by all in-sync replicas, at or above the high watermark told with it |
"""

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from ottla.verify.history import Operation

FINAL: Final = "final"
"""Polls of processes whose name starts so are the final read: all of the log, from its start to its end."""
TRUNCATED: Final = "TRUNCATED"
"""The error of a poll whose reader was told that records it had read are gone begins so."""


@dataclass(frozen=True, slots=True)
class Anomaly:
    """One broken promise: its kind, the partition, and the facts."""

    kind: str
    key: str
    detail: str


@dataclass(slots=True)
class Report:
    """The verdict. `lost`, `duplicated` count values; `unknown_seen` sends that ended unknown and turned out stored."""

    anomalies: list[Anomaly] = field(default_factory=list)
    operations: Counter[str] = field(default_factory=Counter)
    acknowledged: int = 0
    read: int = 0
    unknown: int = 0
    unknown_seen: int = 0

    @property
    def ok(self) -> bool:
        return not self.anomalies

    def count(self, kind: str) -> int:
        return sum(1 for anomaly in self.anomalies if anomaly.kind == kind)


@dataclass(slots=True)
class _Partition:
    """All that is known of one partition's log."""

    at: dict[int, set[str]] = field(default_factory=lambda: defaultdict(set))
    places: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    writer: dict[str, Operation] = field(default_factory=dict)
    read_ok: set[str] = field(default_factory=set)
    read_any: set[str] = field(default_factory=set)
    read_finally: set[str] = field(default_factory=set)
    dense: dict[int, int] = field(default_factory=dict)


def check(history: Iterable[Operation], *, final_read: bool) -> Report:
    """Judges all operations together. `final_read`: the history ends with a read of every partition to its end."""
    operations = list(history)
    report = Report(operations=Counter(f"{op.kind} {op.outcome}" for op in operations))
    partitions = _index(operations)
    for key in sorted(partitions):
        _check_log(key, partitions[key], report, final_read)
    if final_read and any(op.process.startswith(FINAL) for op in operations):
        for key in sorted(partitions):
            _check_final(key, partitions[key], report)
    _check_polls(operations, partitions, report)
    _check_marks(operations, report)
    _check_sends(operations, partitions, report)
    return report


def _index(operations: list[Operation]) -> dict[str, _Partition]:
    """Who wrote and who read each value, and where. Polls count whatever their outcome: nobody may be shown a lie."""
    partitions: dict[str, _Partition] = defaultdict(_Partition)
    for op in operations:
        for key, offset, value in op.entries:
            p = partitions[key]
            if op.kind == "send":
                p.writer[value] = op
                if op.outcome == "ok" and offset is not None:
                    p.places[value].add(offset)
                    p.at[offset].add(value)
            elif op.kind == "poll" and offset is not None:
                p.places[value].add(offset)
                p.at[offset].add(value)
                p.read_any.add(value)
                if op.outcome == "ok":
                    p.read_ok.add(value)
                if op.process.startswith(FINAL):
                    p.read_finally.add(value)
    for p in partitions.values():
        # Offsets that nobody ever saw (markers, compaction) must not look like gaps: number those that were seen.
        p.dense = {offset: i for i, offset in enumerate(sorted(p.at))}
    return partitions


def _check_log(key: str, p: _Partition, report: Report, final_read: bool) -> None:
    for offset, values in sorted(p.at.items()):
        if len(values) > 1:
            acknowledged = [v for v in sorted(values) if v not in p.read_any]
            kind = "wrong-offset" if acknowledged else "inconsistent-offsets"
            report.anomalies.append(Anomaly(kind, key, f"offset {offset} holds {sorted(values)}"))
    for value, offsets in sorted(p.places.items()):
        if len(offsets) > 1:
            report.anomalies.append(Anomaly("duplicate", key, f"{value} is at offsets {sorted(offsets)}"))
    for value in sorted(p.read_any):
        writer = p.writer.get(value)
        if writer is None or writer.outcome == "fail":
            why = "nobody sent it" if writer is None else f"its send failed: {writer.error}"
            report.anomalies.append(Anomaly("aborted-read", key, f"{value} was read, but {why}"))
    # A value counts as passed when a later one was read. First and last place matter only in a log that shows a value
    # twice: the bound is drawn from first places, and judged against last ones, so that such a log blames no neighbour.
    bound = max((min(p.dense[o] for o in p.places[v]) for v in p.read_ok), default=-1)
    for value, writer in sorted(p.writer.items()):
        report.acknowledged += writer.outcome == "ok"
        report.unknown += writer.outcome == "unknown"
        report.unknown_seen += writer.outcome == "unknown" and value in p.read_any
        # A send of unknown outcome that somebody saw, if only in a poll that failed, has happened.
        happened = writer.outcome == "ok" or (writer.outcome == "unknown" and value in p.read_any)
        if not happened or value in p.read_ok:
            continue
        places = p.places.get(value)
        if places and max(p.dense[o] for o in places) <= bound:
            how = "acknowledged" if writer.outcome == "ok" else "shown"
            report.anomalies.append(
                Anomaly("lost-write", key, f"{value} was {how} at offset {max(places)}; later ones were read")
            )
        elif final_read and writer.outcome == "ok":
            report.anomalies.append(Anomaly("unseen", key, f"{value} was acknowledged and never read"))
    report.read += len(p.read_ok)


def _check_final(key: str, p: _Partition, report: Report) -> None:
    """Whatever anybody read or was promised is in the log at the end: nobody was shown a record that went away."""
    promised = {value for value, writer in p.writer.items() if writer.outcome == "ok"}
    for value in sorted((p.read_any & promised) - p.read_finally):
        report.anomalies.append(Anomaly("vanished", key, f"{value} was read and acknowledged, and is gone at the end"))
    for value in sorted(p.read_any - promised - p.read_finally):
        report.anomalies.append(Anomaly("vanished", key, f"{value} was read, and is gone at the end"))


def _check_marks(operations: list[Operation], report: Report) -> None:
    """No process sees a high watermark go back, nor a record that is not below the mark it was told with it."""
    marks: dict[tuple[str, str], int] = {}
    for op in sorted(operations, key=lambda op: op.start_ns):
        if op.kind == "poll" and op.error.startswith(TRUNCATED):
            report.anomalies.append(Anomaly("told-truncated", ",".join(op.keys), f"{op.process}: {op.error}"))
        for key, offset, value in op.entries if op.outcome == "ok" else ():
            mark = op.marks.get(key)
            if offset is not None and mark is not None and offset >= mark:
                what = "read" if op.kind == "poll" else "acknowledged"
                detail = f"{value} was {what} at offset {offset}, the high watermark told with it is {mark}"
                report.anomalies.append(Anomaly("above-mark", key, detail))
        if op.kind == "send":
            continue
        for key, mark in op.marks.items():
            before = marks.get((op.process, key), mark)
            if mark < before:
                detail = f"{op.process} was told {before}, then {mark}"
                report.anomalies.append(Anomaly("mark-went-back", key, detail))
            marks[op.process, key] = mark


def _check_polls(operations: list[Operation], partitions: dict[str, _Partition], report: Report) -> None:
    """Each reader sees a partition in order and without holes, within a poll and from one poll to the next."""
    position: dict[tuple[str, str], int] = {}
    for op in sorted(operations, key=lambda op: op.start_ns):
        if op.kind in ("assign", "subscribe"):
            kept = set(op.keys)
            position = {k: v for k, v in position.items() if k[0] != op.process or k[1] in kept}
        if op.kind != "poll":
            continue
        moved = set(op.moved)
        for key in moved:
            position.pop((op.process, key), None)
        by_key: dict[str, list[int]] = defaultdict(list)
        for key, offset, _ in op.entries:
            if offset is not None:
                by_key[key].append(partitions[key].dense[offset])
        for key, indexes in by_key.items():
            before = position.get((op.process, key))
            if before is not None:
                _step(key, before, indexes[0], "poll", op, report)
            if key not in moved:
                for a, b in pairwise(indexes):
                    _step(key, a, b, "int-poll", op, report)
            if op.outcome == "ok":
                position[op.process, key] = indexes[-1]


def _step(key: str, before: int, after: int, what: str, op: Operation, report: Report) -> None:
    if after == before + 1:
        return
    prefix = "int-" if what == "int-poll" else ""
    kind = f"{prefix}poll-skip" if after > before else f"{prefix}nonmonotonic-poll"
    detail = f"{op.process} went from the {before}th to the {after}th value of the partition"
    report.anomalies.append(Anomaly(kind, key, detail))


def _check_sends(operations: list[Operation], partitions: dict[str, _Partition], report: Report) -> None:
    """What one process sends to a partition keeps its order in the log."""
    last: dict[tuple[str, str], int] = {}
    for op in sorted((op for op in operations if op.kind == "send"), key=lambda op: op.start_ns):
        inside: dict[str, int] = {}
        for key, _, value in op.entries:
            places = partitions[key].places.get(value)
            if op.outcome == "fail" or not places:
                continue
            place = min(places)
            if key in inside and place <= inside[key]:
                report.anomalies.append(Anomaly("int-nonmonotonic-send", key, f"{value} of {op.process} at {place}"))
            elif key not in inside and place <= last.get((op.process, key), -1):
                report.anomalies.append(Anomaly("nonmonotonic-send", key, f"{value} of {op.process} at {place}"))
            inside[key] = place
        for key, place in inside.items():
            last[op.process, key] = max(place, last.get((op.process, key), -1))


def longest_gap_ms(operations: Iterable[Operation], *, start_ns: int, end_ns: int) -> float:
    """The longest time within [start, end] without an acknowledged send, in ms: what a fault cost its users."""
    acks = sorted(op.end_ns for op in operations if op.kind == "send" and op.outcome == "ok" and op.end_ns is not None)
    first = bisect_right(acks, start_ns)
    inside = [t for t in acks[first:] if t <= end_ns]
    return max((b - a for a, b in pairwise([start_ns, *inside, end_ns])), default=0) / 1e6
