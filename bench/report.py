"""docs/benchmarks.md with its plot and raw figures, from one run."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from bench.cases import WINDOWS, Outcome
from bench.load import KIB, RATE_PER_S, Case

NAMES = {
    "grpc-ack": "bare gRPC, one node, no replicas",
    "grpc": "bare gRPC pipeline",
    "tcp": "bare TCP pipeline",
    "nats": "NATS JetStream R3",
    "ottla": "Ottla",
}
SIZES = (16 * KIB, 128 * KIB, 1024 * KIB)
NATS_CALLS = {"publish": "nats-py `publish`", "records": "nats-py `publish_async`"}
SENDS = {128 * KIB: "by default", 512 * KIB: "`batch_size` 512 KB"}


@dataclass
class Run:
    """All outcomes of one run: of each case one per round, in the order of the rounds."""

    machine: str
    date: str
    rounds: int
    seconds: float
    outcomes: Mapping[Case, list[Outcome]]

    def middle(self, case: Case, figure: Callable[[Outcome], float]) -> float:
        return median(figure(each) for each in self.outcomes[case])

    def spread(self, case: Case, figure: Callable[[Outcome], float], digits: int = 0) -> str:
        """Median, and between which figures the rounds lay."""
        found = sorted(figure(each) for each in self.outcomes[case])
        return f"{median(found):,.{digits}f} ({found[0]:,.{digits}f}-{found[-1]:,.{digits}f})"

    def ratio(self, case: Case, base: Case, figure: Callable[[Outcome], float]) -> float:
        """Median of the rounds' ratios: both figures of a ratio were measured within a minute."""
        pairs = zip(self.outcomes[case], self.outcomes[base], strict=True)
        return median(figure(mine) / figure(other) for mine, other in pairs)


def mb_per_s(found: Outcome) -> float:
    return found.mb_per_s


def records_per_s(found: Outcome) -> float:
    return found.records_per_s


def p50(found: Outcome) -> float:
    return found.p50_ms


def p99(found: Outcome) -> float:
    return found.p99_ms


def server_cpu(found: Outcome) -> float:
    return sum(used for role, used in found.cpu_ms_per_mb.items() if role != "client")


def client_cpu(found: Outcome) -> float:
    return found.cpu_ms_per_mb["client"]


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; the first column is text, the others are figures."""
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def batches(system: str, size: int, record_bytes: int = 1000) -> Case:
    return Case(system, "batches", record_bytes, size)


def throughput(run: Run) -> str:
    rows = [[name, *(run.spread(batches(system, size), mb_per_s) for size in SIZES)] for system, name in NAMES.items()]
    rows.append(["Ottla, 100 B records", *(run.spread(batches("ottla", size, 100), mb_per_s) for size in SIZES)])
    return table(["MB/s", *(f"{size // KIB} KB batches, {WINDOWS[size]} in flight" for size in SIZES)], rows)


def ratios(run: Run) -> str:
    rows = [
        [
            f"Ottla / {name}",
            *(f"{run.ratio(batches('ottla', size), batches(system, size), mb_per_s):.2f}" for size in SIZES),
        ]
        for system, name in NAMES.items()
        if system != "ottla"
    ]
    return table(["MB/s, ratio", *(f"{size // KIB} KB" for size in SIZES)], rows)


def records(run: Run) -> str:
    rows = [
        [
            f"Ottla, {record_bytes} B records",
            *(run.spread(batches("ottla", size, record_bytes), records_per_s) for size in SIZES),
        ]
        for record_bytes in (100, 1000)
    ]
    return table(["records/s", *(f"{size // KIB} KB batches" for size in SIZES)], rows)


def cpu(run: Run) -> str:
    rows = [
        [
            name,
            *(
                f"{run.middle(batches(system, size), figure):.1f}"
                for size in SIZES
                for figure in (server_cpu, client_cpu)
            ),
        ]
        for system, name in NAMES.items()
    ]
    head = [f"{size // KIB} KB: {who}" for size in SIZES for who in ("servers", "client")]
    return table(["CPU ms for 1 MB", *head], rows)


def latency(run: Run) -> str:
    rows = [
        [name, *(run.spread(Case(system, "latency", 1000, KIB), figure, 2) for figure in (p50, p99))]
        for system, name in NAMES.items()
    ]
    return table([f"ms, at {RATE_PER_S} batches of one record/s", "p50", "p99"], rows)


def library(run: Run) -> str:
    rows = []
    for record_bytes in (100, 1000):
        nats = [Case("nats", kind, record_bytes, 128 * KIB) for kind in ("publish", "records")]
        rows += [[f"{record_bytes} B", NATS_CALLS[case.kind], run.spread(case, records_per_s), "", ""] for case in nats]
        for batch_bytes, settings in SENDS.items():
            ottla = Case("ottla", "records", record_bytes, batch_bytes)
            ratios = [f"{run.ratio(ottla, case, records_per_s):.1f}" for case in nats]
            name = f"`Producer.send`, {settings}"
            rows.append([f"{record_bytes} B", name, run.spread(ottla, records_per_s), *ratios])
    return table(["", "", "records/s", "/ `publish`", "/ `publish_async`"], rows)


def goals(run: Run) -> str:
    """What this run says of the three goals; only runs on one machine can be compared."""
    large, ottla = 128 * KIB, batches("ottla", 128 * KIB)
    publish = Case("nats", "publish", 1000, large)
    measured = {
        "128 KB batches / bare gRPC pipeline": (run.ratio(ottla, batches("grpc", large), mb_per_s), 0.65),
        "128 KB batches / NATS JetStream R3": (run.ratio(ottla, batches("nats", large), mb_per_s), 1.0),
    }
    for batch_bytes, settings in SENDS.items():
        send = Case("ottla", "records", 1000, batch_bytes)
        measured[f"`Producer.send`, {settings}, 1000 B / nats-py `publish`"] = (
            run.ratio(send, publish, records_per_s),
            10.0,
        )
    rows = [
        [what, f"{found:.2f}", f"{goal:g}", "reached" if found >= goal else "MISSED"]
        for what, (found, goal) in measured.items()
    ]
    return table(["ratio", "this run", "goal", ""], rows)


def end_to_end(run: Run) -> str:
    rows = [
        [NAMES[system], *(run.spread(Case(system, "end_to_end", 1000, KIB), figure, 2) for figure in (p50, p99))]
        for system in ("nats", "ottla")
    ]
    return table([f"ms, at {RATE_PER_S} records/s", "p50", "p99"], rows)


def markdown(run: Run) -> str:
    """The page."""
    of = {size: run.ratio(batches("ottla", size), batches("grpc", size), mb_per_s) for size in SIZES}
    return f"""# Benchmarks

Written by `make bench` on {run.date}: {run.rounds} rounds, in each of them every system in turn, every measurement
{run.seconds:g} s after a warm-up, with fresh processes and fresh files. A figure is the median of the rounds, in
brackets the lowest and the highest. Machine: {run.machine}. All processes, client included, share its cores, and all
talk over loopback: **the ratios are the message, the absolute figures are this machine's.**

Everywhere: three replicas, a batch counts when all in-sync replicas have it (`acks=all`), nothing is synced to disk
before it counts (Ottla's `flush=replica`, NATS' default). MB are 10^6 bytes of record values. Before each measurement
the page cache is filled, as it is on a server that has run for a while: else a virtual machine's host provides each
page anew when it is written first, which costs more than the copy (`bench/page_cache.py`).

- *Bare gRPC pipeline*: a leader, two followers that pull and a client, in grpc.aio with uvloop. It checksums bytes,
  appends them to a file and counts acknowledgements: what any broker in Python over gRPC must spend. One partition.
- *Bare TCP pipeline*: the same without gRPC, replication pushed. What the language and the kernel allow.
- *NATS JetStream R3*: three nats-server processes (Go), file storage, nats-py; a batch is one message.
- *Ottla*: three nodes, a topic of six partitions, through the public gRPC contract with batches built beforehand.

![MB/s by system and batch size](benchmarks.png)

## Goals

{goals(run)}

Other machines gave other ratios: [benchmarks-machines.md](benchmarks-machines.md).

## Throughput

{throughput(run)}

{ratios(run)}

{records(run)}

Ottla's share of the bare gRPC pipeline is {of[SIZES[0]]:.0%} at 16 KB, {of[SIZES[1]]:.0%} at 128 KB and
{of[SIZES[2]]:.0%} at 1 MB. The rest is what a broker does and a pipeline does not: parse and check each batch, stamp
it, route it, keep offsets, epochs and producers, answer by partition, and replicate six partitions over three nodes.

A gRPC message costs 100 to 300 us of CPU at each end in Python whatever its size. So batches of 128 KB and more are
what makes it fast, which is why the client's default is 128 KB with 5 ms of linger; a producer that is to write as much
as it can takes `batch_size` 512 KB. Small batches, and single records
through unary calls (about 2 000 to 3 000 a second and core), are the weak side.

## CPU

{cpu(run)}

*Servers* is the sum over all nodes, so the cost of one replicated megabyte.

## Produce latency

{latency(run)}

One record of 1000 B in each batch, sent at a steady rate whatever comes back; a latency counts from when the batch was
due, so a stall is seen by all it delays.

## Through the client library

{library(run)}

nats-py publishes a message for each record, 1000 in flight: with `publish` a task waits for each acknowledgement, with
`publish_async` futures do. `Producer.send` gathers batches, by default of 128 KB. End to end, from send to the
consumer's hands:

{end_to_end(run)}

Ottla's producer keeps its default linger of 5 ms here.

## Comparing two checkouts

`python -m bench --against ../other` measures this checkout beside another folder of this repository (a `git worktree`
of an older commit, say), each with its own nodes and its own load generator, on fresh clusters in alternating rounds.
It prints the medians of both and of the rounds' ratios with their quartiles: throughput and CPU for each megabyte of
nodes and client, latencies at {RATE_PER_S} records/s, and what a node at rest takes. `--case 'batches 100 B'` chooses
cases, `--rounds` (10) and `--seconds` (1.5) their length, `--json` adds the raw figures. All of it takes about 13
minutes on an idle machine; on a busy one believe the CPU, not the clock.
"""


def plot(run: Run, path: Path) -> None:
    """Bars of MB/s, one group for each batch size."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 4))
    width = 0.8 / len(NAMES)
    for number, (system, name) in enumerate(NAMES.items()):
        heights = [run.middle(batches(system, size), mb_per_s) for size in SIZES]
        positions = [group + (number - (len(NAMES) - 1) / 2) * width for group in range(len(SIZES))]
        color = "#c0392b" if system == "ottla" else pyplot.get_cmap("Greys")(0.3 + 0.15 * number)
        axes.bar_label(axes.bar(positions, heights, width, label=name, color=color), fmt="%.0f", fontsize=7)
    axes.set_xticks(range(len(SIZES)), [f"{size // KIB} KB batches" for size in SIZES])
    axes.set_ylabel("MB/s, acks=all, 3 replicas")
    axes.legend(fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def write(run: Run, docs: Path) -> None:
    """Writes the page, its plot and the raw figures."""
    raw = [{"case": asdict(case), "outcomes": [asdict(each) for each in found]} for case, found in run.outcomes.items()]
    (docs / "benchmarks.json").write_text(json.dumps({"machine": run.machine, "date": run.date, "raw": raw}, indent=1))
    (docs / "benchmarks.md").write_text(markdown(run))
    plot(run, docs / "benchmarks.png")
