"""One checkout's side of `python -m bench --against`: takes orders as lines of JSON on stdin, answers on stdout.

It is started by its path and takes nodes, clients and load generators from the checkout that PYTHONPATH names. What it
calls of them must stay as it is for as long as older checkouts are to be compared: `bench.cases.start` and `run_case`,
`bench.load.Case`, `bench.process.stop`, `node.main`.
"""

import asyncio
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil

REST_S = 1.0


def measure(directory: Path, case: dict[str, Any], warm_s: float, seconds: float) -> dict[str, Any]:
    """One case on a fresh cluster."""
    from bench.cases import run_case, start
    from bench.load import Case
    from bench.process import stop

    running = asyncio.run(start(case["system"], directory))
    try:
        return asdict(run_case(Case(**case), running, directory, warm_s, seconds))
    finally:
        stop(running.processes)


def at_rest(directory: Path) -> dict[str, float]:
    """CPU milliseconds of a node's imports, and the resident memory of a node of a fresh cluster that does nothing."""
    from bench.cases import start
    from bench.process import stop

    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", "import node.main"], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    running = asyncio.run(start("ottla", directory))
    try:
        time.sleep(REST_S)
        nodes = [psutil.Process(pid).memory_info().rss for pids in running.roles.values() for pid in pids]
    finally:
        stop(running.processes)
    return {
        "imports_ms": (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1000,
        "rss_mb": sum(nodes) / len(nodes) / 2**20,
    }


def main() -> None:
    import bench
    import node

    here = Path.cwd()
    for module in (bench, node):
        if here not in Path(str(module.__file__)).parents:
            raise SystemExit(f"{module.__name__} would be taken from {module.__file__}, not from {here}")
    # Everything that a case writes by mistake to stdout goes to stderr: stdout has the answers alone.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        order = json.loads(line)
        directory = Path(tempfile.mkdtemp(dir=order["scratch"]))
        try:
            answer = (
                measure(directory, order["case"], order["warm_s"], order["seconds"])
                if order["case"]
                else at_rest(directory)
            )
        finally:
            shutil.rmtree(directory)
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
