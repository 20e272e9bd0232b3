"""make bench: interleaved rounds over all systems, then docs/benchmarks.md, its plot and the raw figures; with
--against another checkout, both compared in alternating rounds."""

import argparse
import asyncio
import json
import platform
import shutil
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from bench import against
from bench.cases import Outcome, run_case, start
from bench.load import KIB, Case
from bench.page_cache import FullPageCache
from bench.process import stop
from bench.report import Run, write

SYSTEMS = ("grpc-ack", "grpc", "tcp", "nats", "ottla")
ROOT = Path(__file__).resolve().parent.parent


def cases() -> list[Case]:
    """Everything that is measured, so ordered that systems that are compared follow each other closely."""
    found = []
    for batch_bytes in (16 * KIB, 128 * KIB, 1024 * KIB):
        found += [Case(system, "batches", 1000, batch_bytes) for system in SYSTEMS]
        found += [Case("ottla", "batches", 100, batch_bytes)]
    found += [Case(system, "latency", 1000, KIB) for system in SYSTEMS]
    for record_bytes in (100, 1000):
        found += [Case(system, "records", record_bytes, 128 * KIB) for system in ("nats", "ottla")]
        found += [Case("nats", "publish", record_bytes, 128 * KIB)]
        found += [Case("ottla", "records", record_bytes, 512 * KIB)]
    found += [Case(system, "end_to_end", 1000, KIB) for system in ("nats", "ottla")]
    return found


def machine() -> str:
    """What the figures were measured on, in a line."""
    model = "unknown processor"
    if Path("/proc/cpuinfo").exists():
        names = [
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ]
        model = f"{len(names)} x {names[0]}" if names else model
    return f"{model}, {platform.system()} {platform.release()}, Python {platform.python_version()}"


def measure_once(case: Case, scratch: Path, warm_s: float, seconds: float) -> Outcome:
    """Starts the case's system with fresh files, runs the case, stops the system and deletes the files."""
    directory = Path(tempfile.mkdtemp(dir=scratch))
    try:
        running = asyncio.run(start(case.system, directory))
        try:
            return run_case(case, running, directory, warm_s, seconds)
        finally:
            stop(running.processes)
    finally:
        shutil.rmtree(directory)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round, printed and not written to docs/")
    parser.add_argument(
        "--against", type=Path, metavar="CHECKOUT", help="compare with another folder of this repository, print a table"
    )
    parser.add_argument("--rounds", type=int, help="5, with --against 10")
    parser.add_argument("--seconds", type=float, help="length of one measurement after its warm-up: 4, or 1.5")
    parser.add_argument(
        "--case", "--only", dest="only", default="", help="only cases whose text holds this, as in 'batches 1000'"
    )
    parser.add_argument("--json", action="store_true", help="with --against: figures and raw outcomes as JSON")
    parser.add_argument("--scratch", type=Path, default=ROOT / ".bench", help="where the systems keep their files")
    options = parser.parse_args()
    if options.against is not None:
        options.scratch.mkdir(parents=True, exist_ok=True)
        rounds, seconds = options.rounds or 10, options.seconds or 1.5
        against.run(options.against, options.only, rounds, seconds, options.scratch.resolve(), options.json)
        return
    rounds, seconds, warm_s = (1, 1.5, 0.5) if options.quick else (options.rounds or 5, options.seconds or 4.0, 1.5)

    chosen = [case for case in cases() if options.only in str(case)]
    outcomes: dict[Case, list[Outcome]] = {case: [] for case in chosen}
    options.scratch.mkdir(parents=True, exist_ok=True)
    started = time.time()
    page_cache = FullPageCache(options.scratch)
    print("filling the page cache, as on a server that has run for a while", file=sys.stderr)
    for number in range(rounds):
        for case in chosen:
            page_cache.fill()
            found = measure_once(case, options.scratch, warm_s, seconds)
            outcomes[case].append(found)
            print(
                f"round {number + 1}/{rounds}  {case!s:40}  {found.mb_per_s:8.1f} MB/s  {found.records_per_s:9.0f}"
                f" records/s  p50 {found.p50_ms:7.2f} ms  p99 {found.p99_ms:7.2f} ms",
                file=sys.stderr,
            )
    if options.quick or options.only:
        print(
            json.dumps(
                [
                    {"case": asdict(case), "outcomes": [asdict(each) for each in found]}
                    for case, found in outcomes.items()
                ]
            )
        )
        return
    write(Run(machine(), time.strftime("%Y-%m-%d", time.gmtime(started)), rounds, seconds, outcomes), ROOT / "docs")


if __name__ == "__main__":
    main()
