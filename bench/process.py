"""How every measured process runs: the same event loop, allocator settings and gRPC poller."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Set before the process starts, so that they hold for all systems alike. The malloc settings are worth a factor of two
# for messages of 1 MB, the old poller about a third of a one-way stream's cost.
ENVIRONMENT = {
    "MALLOC_MMAP_THRESHOLD_": str(64 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(512 << 20),
    "MALLOC_TOP_PAD_": str(64 << 20),
    "MALLOC_ARENA_MAX": "1",
    "GRPC_EXPERIMENTS": "-event_engine_client,-event_engine_listener,-event_engine_for_all_other_endpoints",
    "GRPC_VERBOSITY": "NONE",
}
START_SECONDS = 20.0


@dataclass
class Running:
    """A started system: where its client connects, and the processes behind it by role."""

    ports: list[int]
    roles: dict[str, list[int]]
    processes: list[subprocess.Popen[bytes]]


def spawn(command: Sequence[str], log: Path, stdout: int | None = None) -> subprocess.Popen[bytes]:
    """Starts a process of the measurement; what it writes goes to `log`, its stdout there too unless it is given."""
    with log.open("ab") as file:
        return subprocess.Popen(
            command,
            env=os.environ | ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=file if stdout is None else stdout,
            stderr=file,
        )


def python(module: str, *arguments: object) -> list[str]:
    """The command that runs a module of this package."""
    return [sys.executable, "-m", module, *map(str, arguments)]


def stop(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Asks them to end, waits, and kills what is still there after five seconds."""
    for process in processes:
        process.send_signal(signal.SIGTERM)
    for process in processes:
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def run(main: Coroutine[Any, Any, None]) -> None:
    """Runs a process's main coroutine on uvloop until it ends or SIGTERM arrives."""
    import uvloop

    async def until_stopped() -> None:
        task = asyncio.ensure_future(main)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        try:
            await task
        except asyncio.CancelledError:
            return

    uvloop.run(until_stopped())
