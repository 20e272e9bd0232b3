"""Where the tests' nodes come from: a helper that has imported the server forks them, as importing is most of a start.

`python -m tests.cluster.nursery` is the helper. It is told what to start on its standard input, a line of JSON each,
and answers with a process id; the exit code is in the file `ended` later. When its input ends, because the test process
has ended, it takes its nodes with it.
"""

import atexit
import gc
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


class Forked:
    """A node's process: as much of `subprocess.Popen` as the tests use."""

    def __init__(self, pid: int, ended: Path) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._ended = ended

    def poll(self) -> int | None:
        if self.returncode is None:
            with suppress(FileNotFoundError):
                self.returncode = int(self._ended.read_text())
        return self.returncode

    def wait(self, timeout: float) -> int:
        deadline = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(["node", str(self.pid)], timeout)
            time.sleep(0.002)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Nursery:
    """The helper as the test process sees it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._directory = tempfile.TemporaryDirectory(prefix="ottla-nodes-")
        self._starts = count()
        self._helper = subprocess.Popen(
            [sys.executable, "-m", "tests.cluster.nursery"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        atexit.register(self._helper.kill)

    def start(self, arguments: Sequence[str], log: Path, environment: Mapping[str, str]) -> Forked:
        """A node with this environment, which appends what it prints to `log`."""
        assert self._helper.stdin is not None
        assert self._helper.stdout is not None
        with self._lock:
            ended = Path(self._directory.name, str(next(self._starts)))
            order = {"arguments": arguments, "log": str(log), "environment": dict(environment), "ended": str(ended)}
            self._helper.stdin.write(json.dumps(order) + "\n")
            self._helper.stdin.flush()
            pid = int(self._helper.stdout.readline())
        return Forked(pid, ended)


@cache
def nursery() -> Nursery:
    """This test process's."""
    return Nursery()


def main() -> None:
    """Forks until its input ends."""
    from node import process
    from node.nursery import become_node

    process.prepare()
    with process.importing():
        import node.main  # noqa: F401 - this is what takes the time
    gc.freeze()  # a collection in a child would copy the pages of everything that was imported

    running: dict[int, Path] = {}
    # A signal that comes just before a read blocks does not end it: what is read is this pipe, too.
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake)

    def reap() -> None:
        for pid, ended in list(running.items()):
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                unfinished = ended.with_suffix(".unfinished")
                unfinished.write_text(str(os.waitstatus_to_exitcode(status)))
                unfinished.rename(ended)
                del running[pid]

    def fork(order: Mapping[str, Any]) -> int:
        if not (pid := os.fork()):
            signal.set_wakeup_fd(-1)
            os.close(woken)
            os.close(wake)
            os.environ.clear()
            os.environ.update(order["environment"])
            become_node(order["arguments"], order["log"])
        return pid

    orders = b""
    while True:
        ready, _, _ = select.select([sys.stdin, woken], [], [])
        if woken in ready:
            os.read(woken, 4096)
        if sys.stdin in ready:
            if not (data := os.read(sys.stdin.fileno(), 65536)):
                break
            *lines, orders = (orders + data).split(b"\n")
            for order in map(json.loads, lines):
                pid = fork(order)
                running[pid] = Path(order["ended"])
                print(pid, flush=True)
        reap()
    os.killpg(0, signal.SIGKILL)  # with all nodes


if __name__ == "__main__":
    main()
