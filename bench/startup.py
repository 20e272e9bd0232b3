"""What a start costs: `python -m bench.startup`. Imports beside `import grpc.aio`, start to `/readyz`, idle memory.

Everything runs several times in turn and a figure is the median, so that a slow moment of the machine meets all alike.
Exit code 0 only if a single node is ready within 0.7 s of its imports, these take at most 4.5 times the CPU of `python
-c 'import grpc.aio'` (the interpreter's own start is part of both), and an idle node with 100 partitions stays below
100 MB.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import psutil

from tests.cluster.harness import ROOT, LocalCluster

IMPORTS_MAX: Final = 4.5
READY_MAX_S: Final = 0.7
IDLE_MAX_BYTES: Final = 100 * 2**20
PARTITIONS: Final = 100
_IDLE_S: Final = 3.0


def run_s(code: str) -> tuple[float, float]:
    """How long a fresh interpreter takes for this code, compiled before: by the clock, and of a processor."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def start_s(cluster: LocalCluster) -> float:
    """From the start of the processes to the last one's `/readyz`."""
    started = time.perf_counter()
    cluster.start().wait_ready()
    return time.perf_counter() - started


def stop(cluster: LocalCluster) -> None:
    for node in cluster.nodes.values():
        node.signal(15)
    for node in cluster.nodes.values():
        if node.process is not None:
            node.process.wait(20)


def idle_bytes(cluster: LocalCluster) -> int:
    """The resident memory of the first node some seconds after it got its partitions."""
    cluster.create_topic("idle", PARTITIONS, 1)
    time.sleep(_IDLE_S)
    process = cluster[1].process
    assert process is not None
    return int(psutil.Process(process.pid).memory_info().rss)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.startup", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    os.environ.setdefault("PYTHONPYCACHEPREFIX", str(Path(tempfile.gettempdir()) / "ottla-pycache"))
    # With it every round would compile everything anew, which no start of a node does.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    # What `python -m node` does before its `run` begins.
    node = "from node import process\nprocess.prepare()\nwith process.importing():\n import node.main"
    codes = {"grpc.aio": "import grpc.aio", "node": node}
    found: dict[str, list[float]] = {name: [] for name in (*codes, "first start", "restart", "three nodes")}
    cpu: dict[str, list[float]] = {name: [] for name in codes}
    idle: list[int] = []
    for code in codes.values():
        run_s(code)
    for _ in range(rounds):
        for name, code in codes.items():
            seconds, cpu_s = run_s(code)
            found[name].append(seconds)
            cpu[name].append(cpu_s)
        with tempfile.TemporaryDirectory() as scratch, LocalCluster(Path(scratch), nodes=1) as solo:
            found["first start"].append(start_s(solo))
            idle.append(idle_bytes(solo))
            stop(solo)
            found["restart"].append(start_s(solo))
        with tempfile.TemporaryDirectory() as scratch, LocalCluster(Path(scratch)) as three:
            found["three nodes"].append(start_s(three))
    middle = {name: statistics.median(times) for name, times in found.items()}
    imports = statistics.median(cpu["node"]) / statistics.median(cpu["grpc.aio"])
    ready = {name: middle[name] - middle["node"] for name in ("first start", "restart")}
    print(f"imports of a node: {imports:.2f} times the CPU of import grpc.aio (at most {IMPORTS_MAX})")
    for name, seconds in ready.items():
        print(f"one node, {name}: ready {seconds:.2f} s after its imports (at most {READY_MAX_S})")
    print(f"three nodes, first start: {middle['three nodes']:.2f} s from the first process to the last /readyz")
    print(f"idle with {PARTITIONS} partitions: {statistics.median(idle) / 2**20:.0f} MB")
    good = imports <= IMPORTS_MAX and max(ready.values()) <= READY_MAX_S and max(idle) < IDLE_MAX_BYTES
    print("within bounds" if good else "NOT within bounds")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
