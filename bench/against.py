"""`python -m bench --against CHECKOUT`: the same cases on this checkout and on another, in alternating rounds.

Each checkout runs its own nodes under its own load generator, with a fresh cluster for every measurement. Both
measurements of a pair follow each other at once, and which goes first changes from round to round; so a figure of this
comparison is the median of the rounds' ratios, with its quartiles.
"""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.load import KIB, Case
from bench.page_cache import FullPageCache

ROOT = Path(__file__).resolve().parent.parent
WARM_S = 0.5
REST = "at rest"
Outcome = dict[str, Any]


def cases() -> list[Case]:
    sizes = (16 * KIB, 128 * KIB, 1024 * KIB)
    found = [Case("ottla", "batches", record_bytes, size) for record_bytes in (1000, 100) for size in sizes]
    return [*found, Case("ottla", "records", 1000, 128 * KIB), Case("ottla", "latency", 1000, KIB)]


@dataclass(frozen=True)
class Figure:
    """One line of the comparison for each case that has it."""

    name: str
    unit: str
    of: Callable[[Outcome], float]
    digits: int = 1


THROUGHPUT = (
    Figure("throughput", "MB/s", lambda found: float(found["mb_per_s"])),
    Figure(
        "CPU of the nodes",
        "ms/MB",
        lambda found: sum(used for role, used in found["cpu_ms_per_mb"].items() if role != "client"),
        2,
    ),
    Figure("CPU of the client", "ms/MB", lambda found: float(found["cpu_ms_per_mb"]["client"]), 2),
)
LATENCY = (
    Figure("p50", "ms", lambda found: float(found["p50_ms"]), 2),
    Figure("p99", "ms", lambda found: float(found["p99_ms"]), 2),
    *THROUGHPUT[1:],
)
AT_REST = (
    Figure("imports", "CPU ms", lambda found: float(found["imports_ms"]), 0),
    Figure("memory of a node", "MB", lambda found: float(found["rss_mb"])),
)


def figures(case: Case | None) -> Sequence[Figure]:
    if case is None:
        return AT_REST
    return LATENCY if case.kind == "latency" else THROUGHPUT


@dataclass(frozen=True)
class Line:
    """Medians of both checkouts, and of the rounds' ratios (this one by the other) the quartiles."""

    case: str
    figure: str
    unit: str
    other: float
    this: float
    ratio: float
    ratio_low: float
    ratio_high: float
    digits: int


def compare(case: Case | None, other: Sequence[Outcome], this: Sequence[Outcome]) -> list[Line]:
    """The lines of one case, its outcomes in the order of the rounds."""
    lines = []
    for figure in figures(case):
        theirs, ours = [[figure.of(each) for each in found] for found in (other, this)]
        ratios = [mine / yours for mine, yours in zip(ours, theirs, strict=True)]
        low, middle, high = statistics.quantiles(ratios, method="inclusive") if len(ratios) > 1 else ratios * 3
        medians = statistics.median(theirs), statistics.median(ours)
        lines.append(Line(name(case), figure.name, figure.unit, *medians, middle, low, high, figure.digits))
    return lines


def name(case: Case | None) -> str:
    return REST if case is None else str(case).removeprefix("ottla ")


def table(lines: Sequence[Line]) -> str:
    """A Markdown table."""
    rows = ["| case | figure | other | this | this / other | quartiles |", "| --- | --- | ---: | ---: | ---: | ---: |"]
    for line in lines:
        both = f"{line.other:,.{line.digits}f} | {line.this:,.{line.digits}f}"
        spread = f"{line.ratio_low:.2f}-{line.ratio_high:.2f}"
        rows.append(f"| {line.case} | {line.figure}, {line.unit} | {both} | {line.ratio:.3f} | {spread} |")
    return "\n".join(rows)


class Checkout:
    """A process that measures with the code of one folder."""

    def __init__(self, folder: Path, scratch: Path) -> None:
        self._scratch = scratch
        # -P: this file's own folder is not where `bench` comes from.
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(Path(__file__).with_name("checkout.py"))],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(folder)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, case: Case | None, seconds: float) -> Outcome:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        order = {"case": asdict(case) if case else None, "warm_s": WARM_S, "seconds": seconds}
        print(json.dumps(order | {"scratch": str(self._scratch)}), file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        if not answer:
            raise SystemExit(f"measuring {name(case)} failed; what went wrong is above")
        found: Outcome = json.loads(answer)
        return found

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def measure(
    checkouts: Mapping[str, Checkout], chosen: Sequence[Case | None], rounds: int, seconds: float, scratch: Path
) -> dict[Case | None, dict[str, list[Outcome]]]:
    """Outcomes by case and checkout, in the order of the rounds."""
    found: dict[Case | None, dict[str, list[Outcome]]] = {case: {each: [] for each in checkouts} for case in chosen}
    page_cache = FullPageCache(scratch)
    for number in range(rounds):
        order = list(checkouts)[:: 1 if number % 2 == 0 else -1]
        for case in chosen:
            for each in order:
                page_cache.fill()
                found[case][each].append(checkouts[each].run(case, seconds))
            last = {each: outcomes[-1:] for each, outcomes in found[case].items()}
            said = "  ".join(f"{line.figure} {line.ratio:.2f}" for line in compare(case, last["other"], last["this"]))
            print(f"round {number + 1}/{rounds}  {name(case):28}  this / other: {said}", file=sys.stderr)
    return found


def run(other: Path, only: str, rounds: int, seconds: float, scratch: Path, as_json: bool) -> None:
    """Measures both checkouts and prints the comparison."""
    if not (other / "bench" / "cases.py").is_file():
        raise SystemExit(f"{other} is no checkout of Ottla: it has no bench/cases.py")
    chosen = [case for case in [*cases(), None] if only in name(case)]
    if not chosen:
        raise SystemExit(f"no case holds {only!r}; there are: {', '.join(name(case) for case in [*cases(), None])}")
    checkouts = {"other": Checkout(other.resolve(), scratch), "this": Checkout(ROOT, scratch)}
    try:
        found = measure(checkouts, chosen, rounds, seconds, scratch)
    finally:
        for each in checkouts.values():
            each.close()
    lines = [line for case in chosen for line in compare(case, found[case]["other"], found[case]["this"])]
    if as_json:
        raw = [{"case": name(case), **outcomes} for case, outcomes in found.items()]
        print(json.dumps({"rounds": rounds, "seconds": seconds, "lines": [asdict(each) for each in lines], "raw": raw}))
    else:
        print(table(lines))
