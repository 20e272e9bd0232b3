"""What clients did and saw, as JSON lines: one event when an operation starts, one when it ends.

An operation has three outcomes. `ok` and `fail` are certain; everything else - a time-out, a broken connection, a
refusal after the bytes had left - is `unknown`: it may have happened, now or later. A process has one operation under
way, unless it numbers them: a producer that does not wait for its acknowledgements has many, and their order is that of
their starts. After an unknown outcome a process goes on under a new name.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import IO, Any, Literal

Outcome = Literal["ok", "fail", "unknown"]
Kind = Literal["send", "poll", "ends", "assign", "subscribe"]
Entry = tuple[str, int | None, str]
"""(partition such as "orders-3", offset or None where it is not known, value)."""


@dataclass(slots=True)
class Operation:
    """One operation. Values are unique per partition. `entries` are in the order sent, or received."""

    process: str
    kind: Kind
    start_ns: int
    end_ns: int | None = None
    outcome: Outcome = "unknown"
    entries: list[Entry] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    """For assign and subscribe: the partitions whose position is kept."""
    moved: list[str] = field(default_factory=list)
    """For a poll: partitions that came or went through a rebalance, or were sought, since the poll before."""
    marks: dict[str, int] = field(default_factory=dict)
    """For poll and ends: the high watermark of a partition as the process was told."""
    number: int | None = None
    """Tells apart what a process has under way at the same time."""
    error: str = ""
    node: int | None = None


class HistoryWriter:
    """Appends events to a file as they happen, so that a killed run leaves what it saw."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def invoke(self, operation: Operation) -> None:
        self._write("invoke", operation, operation.start_ns)

    def complete(self, operation: Operation) -> None:
        self._write(operation.outcome, operation, operation.end_ns or operation.start_ns)

    def _write(self, event: str, operation: Operation, time_ns: int) -> None:
        line: dict[str, Any] = {"time_ns": time_ns, "process": operation.process, "type": event, "op": operation.kind}
        for name in ("entries", "keys", "moved", "marks", "error", "node", "number"):
            if (value := getattr(operation, name)) not in ([], {}, "", None):
                line[name] = value
        self._file.write(json.dumps(line, separators=(",", ":")) + "\n")


def read_history(lines: Iterable[str]) -> Iterator[Operation]:
    """Pairs events into operations, in the order they started. One that never ended is unknown.

    Raises ValueError with the line's number where a line is not an event, or a process has two operations under way
    that it does not number.
    """
    under_way: dict[tuple[str, int | None], Operation] = {}
    operations: list[Operation] = []
    for at, line in enumerate(lines, 1):
        try:
            event = json.loads(line)
            process, kind, number = event["process"], event["type"], event.get("number")
            entries = [(str(k), o, str(v)) for k, o, v in event.get("entries", [])]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"line {at} is not an event: {error}") from None
        if kind == "invoke":
            if (process, number) in under_way:
                raise ValueError(f"line {at}: process {process!r} starts an operation within another")
            operation = Operation(process, event["op"], event["time_ns"], keys=event.get("keys", []), entries=entries)
            operation.number = number
            under_way[process, number] = operation
            operations.append(operation)
        else:
            done = under_way.pop((process, number), None)
            if done is None:
                raise ValueError(f"line {at}: process {process!r} ends an operation that it did not start")
            done.outcome, done.end_ns = kind, event["time_ns"]
            done.entries = entries or (done.entries if done.kind == "send" else [])
            done.moved, done.marks = event.get("moved", []), event.get("marks", {})
            done.error, done.node = event.get("error", ""), event.get("node")
    return iter(operations)
