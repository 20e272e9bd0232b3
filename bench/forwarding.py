"""make bench-forwarding: what it costs to know one address only. The same batches through nodes that lead their
partitions and through nodes that do not, in turn on one cluster; writes docs/forwarding.md."""

import argparse
import asyncio
import json
import shutil
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Final

from bench.__main__ import ROOT, machine
from bench.cases import Outcome, run_case, start
from bench.load import KIB, Case
from bench.process import stop

SIZES: Final = (16 * KIB, 128 * KIB)
AIM_BYTES: Final = 128 * KIB
RIGHT: Final = "ottla"
WRONG: Final = "ottla-forwarded"


def cases() -> list[tuple[Case, Case]]:
    """Pairs (through the right node, through a wrong one)."""
    rights = [Case(RIGHT, "batches", 1000, size) for size in SIZES]
    return [(right, replace(right, system=WRONG)) for right in rights]


def measure(pair: tuple[Case, Case], scratch: Path, warm_s: float, seconds: float) -> list[Outcome]:
    """Both cases of a pair on one fresh cluster, in the order given."""
    directory = Path(tempfile.mkdtemp(dir=scratch))
    try:
        running = asyncio.run(start(RIGHT, directory))
        try:
            return [run_case(case, running, directory, warm_s, seconds) for case in pair]
        finally:
            stop(running.processes)
    finally:
        shutil.rmtree(directory)


def spread(figures: list[float]) -> str:
    """Median, and between which figures the rounds lay."""
    low, high = min(figures), max(figures)
    return f"{statistics.median(figures):.1f} ({low:.1f}-{high:.1f})"


PAGE: Final = """\
# What one address costs

Written by `make bench-forwarding` on {date}: {rounds} rounds. In each of them a fresh cluster of three nodes takes
the same batches through the leaders of its six partitions, and through nodes that do not lead them; who is first
changes from round to round. A measurement lasts {seconds:g} s after a warm-up of 1 s. Three replicas, acks=all,
through the public contract's produce stream. Figures are medians, in brackets the lowest and the highest round: what
else this machine did weighs on both columns alike, and the ratio is the message.
Machine: {machine}; client and nodes share its cores. MB are 10^6 bytes of record values.

| MB/s, batches of | through the leader | through another node | ratio of the medians |
| --- | ---: | ---: | ---: |
{rows}

In 128 KB batches 1 MB costs the three nodes together {wrong:.1f} ms of CPU when it is forwarded, else {right:.1f}: the
node in between takes a message, looks up who leads, and sends the batch on over a stream of its own, as the bytes that
it came in. There is one such hop at most: a node that was asked by another one answers NOT_LEADER_OR_FOLLOWER where it
does not lead. The aim is half the throughput at 128 KB.
"""


def page(outcomes: dict[Case, list[Outcome]], rounds: int, seconds: float, date: str) -> str:
    """The page that a full run writes."""
    rows = []
    for right, wrong in cases():
        figures = [[each.mb_per_s for each in outcomes[case]] for case in (right, wrong)]
        near, far = (statistics.median(each) for each in figures)
        cells = [f"{right.batch_bytes // KIB} KB", *(spread(each) for each in figures), f"{far / near:.2f}"]
        rows.append(f"| {' | '.join(cells)} |")
    right, wrong = next(pair for pair in cases() if pair[0].batch_bytes == AIM_BYTES)
    cost = {
        case: statistics.median(each.cpu_ms_per_mb["servers"] for each in outcomes[case]) for case in (right, wrong)
    }
    return PAGE.format(
        date=date,
        rounds=rounds,
        seconds=seconds,
        machine=machine(),
        rows="\n".join(rows),
        right=cost[right],
        wrong=cost[wrong],
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.forwarding", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=2.5, help="length of one measurement, after 1 s of warm-up")
    parser.add_argument("--only", default="", help="only cases whose text holds this; prints, and writes no page")
    parser.add_argument("--scratch", type=Path, default=ROOT / ".bench", help="where the nodes keep their files")
    options = parser.parse_args()
    options.scratch.mkdir(parents=True, exist_ok=True)
    outcomes: dict[Case, list[Outcome]] = {case: [] for pair in cases() for case in pair}
    for number in range(options.rounds):
        for pair in cases():
            if options.only not in str(pair[0]):
                continue
            order = pair if number % 2 == 0 else pair[::-1]
            for case, found in zip(order, measure(order, options.scratch, 1.0, options.seconds), strict=True):
                outcomes[case].append(found)
                print(
                    f"round {number + 1}/{options.rounds}  {case!s:44}  {found.mb_per_s:8.1f} MB/s  p50"
                    f" {found.p50_ms:7.2f} ms  {json.dumps({k: round(v, 1) for k, v in found.cpu_ms_per_mb.items()})}",
                    file=sys.stderr,
                )
    if not options.only:
        text = page(outcomes, options.rounds, options.seconds, time.strftime("%Y-%m-%d", time.gmtime()))
        (ROOT / "docs" / "forwarding.md").write_text(text)


if __name__ == "__main__":
    main()
