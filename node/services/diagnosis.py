"""DescribeNode: a node from within, as texts, for `ottla debug bundle`. Whoever may alter the cluster may see it.

Nothing in it is a secret: settings whose name says that they are one are blanked, and no file of the data directory is
read. Each text has a bound, and says what was left out.
"""

import asyncio
import json
import os
import platform
import stat
import sys
import threading
import time
import traceback
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

from node import limits
from node.api.view import ClusterView
from node.config import Settings, key_of
from node.fail_stop import stop_if_broken
from node.log import STDERR
from node.process import descriptors, resident_bytes
from node.services.faults import Context
from node.services.peers import Peers
from ottla.protocol.acls import ALTER
from ottla.protocol.errors import ApiError
from ottla.v1 import cluster_pb2

DESCRIBE_NODE: Final = "/ottla.v1.ClusterService/DescribeNode"
TEXT_MAX_BYTES: Final = limits.MIB
FILES_MAX: Final = 10_000
TASKS_MAX: Final = 200
TIMEOUT_S: Final = 15.0
PATIENCE_S: Final = 5.0
"""For what another loop is asked for: one that hangs is what is looked for."""
BLANK: Final = "(blanked)"
_SECRET: Final = ("password", "secret", "token", "credential")


class Text(NamedTuple):
    """What is there, and what of it is not."""

    content: str
    left_out: str = ""


class Diagnosis:
    """Answers for this node, or passes the question on by one hop."""

    def __init__(
        self,
        settings: Settings,
        view: ClusterView,
        peers: Peers,
        render_metrics: Callable[[], Awaitable[bytes]],
        *,
        forwarded: bool,
    ) -> None:
        self._settings = settings
        self._view = view
        self._peers = peers
        self._render_metrics = render_metrics
        self._forwarded = forwarded
        self._one = asyncio.Lock()

    async def describe(
        self, request: cluster_pb2.DescribeNodeRequest, _context: Context
    ) -> cluster_pb2.DescribeNodeResponse:
        """The texts about a node; one that cannot be had says why, and holds up no other."""
        self._view.access.check_cluster(ALTER)
        node_id = self._view.node_id
        if request.node_id not in (0, node_id) and not self._forwarded:
            try:
                raw = await self._peers.call(request.node_id, DESCRIBE_NODE, request.SerializeToString(), TIMEOUT_S)
            except ApiError as error:
                return cluster_pb2.DescribeNodeResponse(node_id=request.node_id, error=error.to_proto())
            return cluster_pb2.DescribeNodeResponse.FromString(raw)
        async with self._one:
            answer = cluster_pb2.DescribeNodeResponse(node_id=node_id)
            for name, make in (
                ("process.json", self._process),
                ("settings.json", self._settings_text),
                ("stacks.txt", self._stacks),
                ("metrics.txt", self._metrics),
                ("files.txt", self._files),
                ("log.txt", self._log),
            ):
                try:
                    content, left_out = await make()
                except (OSError, TimeoutError) as error:
                    content, left_out = "", f"all: {type(error).__name__} {error}".rstrip()
                except Exception as error:
                    stop_if_broken(error)
                    content, left_out = "", f"all: {type(error).__name__}"
                data = content.encode(errors="backslashreplace")
                if len(data) > TEXT_MAX_BYTES:
                    left_out = f"{len(data) - TEXT_MAX_BYTES} bytes at its end"
                answer.files.add(name=name, content=data[:TEXT_MAX_BYTES], left_out=left_out)
            return answer

    async def _process(self) -> Text:
        began = time.monotonic()
        await asyncio.sleep(0)
        turned = time.monotonic()
        facts = {
            "node_id": self._view.node_id,
            "python": sys.version,
            "platform": platform.platform(),
            "pid": os.getpid(),
            "processors": os.cpu_count(),
            "resident_bytes": resident_bytes(),
            "descriptors_max": descriptors(),
            "threads": threading.active_count(),
            "data_loop_turn_ms": round((turned - began) * 1000, 3),
            "metadata_index": self._view.image.index,
            "quorum_leader": self._view.quorum.leader_id,
        }
        return Text(json.dumps(facts, indent=2))

    async def _settings_text(self) -> Text:
        return Text(json.dumps(blanked(self._settings), indent=2, default=str))

    async def _stacks(self) -> Text:
        return Text(stacks(asyncio.all_tasks()))

    async def _metrics(self) -> Text:
        began = time.monotonic()
        async with asyncio.timeout(PATIENCE_S):
            text = (await self._render_metrics()).decode()
        return Text(f"# control loop: answered after {(time.monotonic() - began) * 1000:.3f} ms\n{text}")

    async def _files(self) -> Text:
        listing = asyncio.get_running_loop().run_in_executor(None, listed, str(self._settings.data_dir))
        async with asyncio.timeout(PATIENCE_S):
            return await listing

    async def _log(self) -> Text:
        async with asyncio.timeout(PATIENCE_S):
            return await asyncio.get_running_loop().run_in_executor(None, log_end, STDERR)


def blanked(settings: Settings) -> dict[str, object]:
    """Every setting by its key; of what its name calls a secret only whether it is set."""
    said = {key_of(field): value for field, value in settings.model_dump(exclude={"broker_configs"}).items()}
    said |= settings.broker_configs
    return {
        key: BLANK if value and any(word in key for word in _SECRET) else value for key, value in sorted(said.items())
    }


def stacks(tasks: "set[asyncio.Task[object]]") -> str:
    """Where each thread is, and each task of the loop that asks."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    parts = []
    for ident, frame in sorted(sys._current_frames().items()):
        parts.append(f"thread {names.get(ident, ident)}\n{''.join(traceback.format_stack(frame))}")
    for task in sorted(tasks, key=lambda task: task.get_name())[:TASKS_MAX]:
        frames = task.get_stack(limit=8)
        where = "".join(f"  {f.f_code.co_filename}:{f.f_lineno} {f.f_code.co_qualname}\n" for f in frames)
        parts.append(f"task {task.get_name()}\n{where}")
    if len(tasks) > TASKS_MAX:
        parts.append(f"and {len(tasks) - TASKS_MAX} tasks more\n")
    return "\n".join(parts)


def listed(directory: str) -> Text:
    """What the data directory holds: bytes, time of the last change, path. Nothing is read. Raises OSError."""
    lines: list[str] = []
    stats = os.statvfs(directory)
    lines.append(f"{stats.f_bavail * stats.f_frsize} bytes are free of {stats.f_blocks * stats.f_frsize}")
    for folder, folders, names in os.walk(directory):
        folders.sort()
        for name in sorted(names):
            if len(lines) > FILES_MAX:
                return Text("\n".join(lines), f"all but the first {FILES_MAX} files")
            path = os.path.join(folder, name)
            try:
                found = os.lstat(path)
            except OSError:
                continue  # gone meanwhile
            lines.append(f"{found.st_size:>14} {found.st_mtime:.3f} {os.path.relpath(path, directory)}")
    return Text("\n".join(lines))


def log_end(descriptor: int) -> Text:
    """The last MiB of the file that the node's log goes to. Raises OSError."""
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        return Text("", "all: the node's log goes to no file; ask what runs the node, as `journalctl` or `docker logs`")
    with open(f"/dev/fd/{descriptor}", "rb") as file:
        start = max(0, found.st_size - TEXT_MAX_BYTES)
        file.seek(start)
        data = file.read(TEXT_MAX_BYTES)
    if start:
        data = data.partition(b"\n")[2]
    left_out = f"what is older: {found.st_size - len(data)} bytes" if start else ""
    return Text(data.decode(errors="backslashreplace"), left_out)
