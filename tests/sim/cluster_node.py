"""One node of the simulated cluster: its real process, `node.main` with both planes, on simulated loops and disks.

Only what touches the outside is replaced (`installed`): gRPC's channels and servers, the quorum (raft has its own
simulation), the HTTP listener, threads, the free space of the disk, random bytes.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from functools import partial
from random import Random
from types import SimpleNamespace
from typing import Any, Final
from unittest import mock
from uuid import UUID

from grpc import aio

import node.broker.broker
import node.broker.cleaner
import node.broker.housekeeping
import node.broker.refusals
import node.control
import node.data
import node.main
import node.services.accept
import node.services.faults
import node.services.fetch
import node.services.listener
import node.services.offsets
import node.services.produce
import node.services.produce_stream
import ottla.client.connection
import ottla.client.consumer
import ottla.client.producer
from node.broker.partition import Partition
from node.broker.settings import BrokerSettings
from node.config import Settings
from node.groups.coordinator import Coordinator
from node.groups.offsets import Committer
from node.groups.shell import GroupShell
from ottla.client.group import Membership
from ottla.protocol.errors import ApiError
from ottla.v1 import error_pb2 as pb
from tests.sim import cluster_kinds, cluster_rules
from tests.sim.cluster_disk import Disk
from tests.sim.cluster_grpc import SimChannel, SimServer
from tests.sim.cluster_loop import Process, SimLoop, Violation, World
from tests.sim.cluster_net import Network
from tests.sim.cluster_quorum import VOTERS, MetadataLog, SimQuorum

BASE_PORT: Final = 9192
HEARTBEAT_MS: Final = 150
SESSION_MS: Final = 900
LAG_MS: Final = 700
GROUP_SESSION_MS: Final = 1500
DIRECTORY: Final = "/data"
DISK_BYTES: Final = 10 * 2**20


def settings_of(node_id: int) -> Settings:
    """As in life, with shorter times: a run is seconds."""
    return Settings(
        node_id=node_id,
        data_dir=DIRECTORY,
        base_port=BASE_PORT,
        listen_host=f"n{node_id}",
        listeners_kafka="off",
        controller_quorum_voters=tuple(f"{n}@n{n}:{BASE_PORT + 100 + n - 1}" for n in VOTERS),  # type: ignore[arg-type]
        broker_heartbeat_interval_ms=HEARTBEAT_MS,
        broker_session_timeout_ms=SESSION_MS,
        replica_lag_time_max_ms=LAG_MS,
        replica_fetch_backoff_ms=50,
        replica_high_watermark_checkpoint_interval_ms=700,
        log_retention_check_interval_ms=900,
        log_scrub_interval_ms=300,
        controlled_shutdown_timeout_ms=1500,
        group_consumer_session_timeout_ms=GROUP_SESSION_MS,
        logging_level="error",
    )


class Node(Process):
    """A process, and the disk that outlives it. `net` is told when it ends."""

    def __init__(self, world: World, net: Network, log: MetadataLog, node_id: int, rng: Random) -> None:
        super().__init__(world, f"n{node_id}")
        self.node_id = node_id
        self.net = net
        self.log = log
        self.rng = rng
        self.disk = Disk(rng.randrange(2**32))
        self.settings = settings_of(node_id)
        self.boot_id = 1
        self.starts = 0
        self.known_index = 0
        self.contact_ms: dict[int, float] = {}
        self.quorum: SimQuorum | None = None
        self.main: Any = None
        self.plane: Any = None
        self.control_loop: SimLoop | None = None
        self.data_loop: SimLoop | None = None
        self.stopping = False
        self.ended: Callable[[Node], None] = lambda node: None
        self.sync_ms = 0.3
        self.job_delay_ms = self._job_delay_ms

    def _job_delay_ms(self, job: Callable[..., Any]) -> float:
        ticket = getattr(job, "__self__", None)
        hung_until_ms = self.disk.hung_until_ms.get(getattr(ticket, "log_directory", ""), 0.0)
        waits_ms = max(0.0, hung_until_ms - self.world.now_ms)
        return waits_ms + 0.05 + self.rng.expovariate(1 / (self.disk.slow_ms or self.sync_ms))

    # --- life

    def start(self) -> None:
        self.up = True
        self.stopping = False
        self.incarnation += 1
        self.starts += 1
        self.frozen_until_ms = 0.0
        self.plane = None
        self.quorum = None
        self.control_loop = self.make_loop("c")
        self.control_loop.checked = False  # it has no part in the partitions
        self.data_loop = self.make_loop("d")
        self.net.dark.discard(self.name)
        self.world.scheduler.after(0.1, self.control_loop.execute, self._begin)

    def _begin(self) -> None:
        self.main = node.main._Node(self.settings, None)
        self.main._fs = self.disk
        loop = self.control_loop
        assert loop is not None
        task = loop.create_task(self.main.run(), name="main")
        task.add_done_callback(self._over)

    def _over(self, task: "asyncio.Task[int]") -> None:
        """The process ended by itself: told to, or because it had to give up."""
        if task.cancelled() or not self.up:
            return
        error = task.exception()
        if error is not None:
            raise Violation(f"{self.name} ended with {error!r}") from error
        self.world.note(f"{self.name} ended with exit code {task.result()}")
        was_stopping = self.stopping
        self.end()
        self.net.process_ended(self, silent=False)
        self.disk = self.disk.kill()
        if not was_stopping:
            self.world.note(f"{self.name} gave up by itself")
        self.ended(self)

    def stop(self) -> None:
        """SIGTERM."""
        loop = self.control_loop
        if self.up and self.main is not None and loop is not None and not self.stopping:
            self.stopping = True
            loop.call_soon(self.main._signalled.set)

    def crash(self, *, power: bool) -> None:
        """SIGKILL, or the machine without power."""
        self.end()
        self.net.process_ended(self, silent=power)
        if power:
            self.disk = self.disk.power_loss()
            self.boot_id += 1
            self.net.dark.add(self.name)
        else:
            self.disk = self.disk.kill()
        if self.log.leader == self.node_id:
            self.log.depose("it died", (50, 400) if not power else (500, 1000))

    def wipe(self) -> None:
        """A new, empty disk."""
        self.disk = Disk(self.rng.randrange(2**32))
        self.known_index = 0

    # --- what invariants look at

    @property
    def broker(self) -> Any:
        return None if self.plane is None else self.plane.broker

    @property
    def partitions(self) -> dict[tuple[bytes, int], Any]:
        return {} if self.plane is None else self.plane.broker.partitions

    @property
    def active(self) -> bool:
        """Registered, and its registration is in its metadata: what it leads, it leads in this incarnation."""
        return self.up and self.plane is not None and self.plane.broker._active


class DataLoop:
    """`node.main.DataThread` without the thread: the data plane on the node's second loop."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        control = asyncio.get_running_loop()
        assert isinstance(control, SimLoop)
        assert isinstance(control.process, Node)
        self._node = control.process
        self._control_loop = control
        loop = self._node.data_loop
        assert loop is not None
        self._loop = loop
        self._clean = False
        self._made: asyncio.Future[Any] = control.create_future()
        self._stop: asyncio.Event | None = None
        self.ended: asyncio.Future[None] = control.create_future()
        self.plane: Any = None

    async def start(self) -> None:
        self._loop.call_soon(self._begin)
        self.plane = await self._made

    def _begin(self) -> None:
        task = self._loop.create_task(self._main(), name="data")
        task.add_done_callback(lambda done: self._control_loop.call_soon(self._finish, done))

    def _finish(self, task: "asyncio.Task[None]") -> None:
        error = None if task.cancelled() else task.exception()
        if not self._made.done():
            self._made.set_exception(error or RuntimeError("the data plane could not be made"))
        if error is None:
            self.ended.set_result(None)
        else:
            self.ended.set_exception(node.main.process.cause_of(error))

    def call(self, function: Callable[..., None], *arguments: Any) -> None:
        self._loop.call_soon(function, *arguments)

    def submit(self, work: Any) -> "Future[Any]":
        """Like `asyncio.run_coroutine_threadsafe`: who no longer waits cancels the work, and hears of its error."""
        answer: Future[Any] = Future()

        def begin() -> None:
            task = self._loop.create_task(work)
            task.add_done_callback(over)
            answer.add_done_callback(lambda done: done.cancelled() and self._loop.call_soon(task.cancel))

        def over(task: asyncio.Task[Any]) -> None:
            if task.cancelled():
                answer.cancel()
            elif answer.set_running_or_notify_cancel():
                error = task.exception()
                if error is None:
                    answer.set_result(task.result())
                else:
                    answer.set_exception(error)

        self._loop.call_soon(begin)
        return answer

    async def stop(self) -> bool:
        if self._stop is not None:
            self.call(self._stop.set)
            await asyncio.wait([self.ended])
        return self._clean

    async def _main(self) -> None:
        self._stop = asyncio.Event()
        plane = self._node.plane = self._make()
        self._control_loop.call_soon(self._made.set_result, plane)
        running = asyncio.ensure_future(plane.run())
        stopping = asyncio.ensure_future(self._stop.wait())
        ends: list[asyncio.Future[Any]] = [running, stopping, plane.failed]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        running.cancel()
        await asyncio.wait([running])
        self._clean = await plane.stop()
        for future in (plane.failed, running):
            if future.done() and not future.cancelled() and future.exception() is not None:
                self._clean = False
                future.result()


class _NoHttp:
    def __init__(self, *_: Any, **__: Any) -> None: ...
    async def start(self, host: str, port: int, tls: Any = None) -> None: ...
    async def stop(self) -> None: ...


async def _forever(*_: Any) -> None:
    await asyncio.get_running_loop().create_future()


async def _no_kafka(address: str) -> None:
    """No node of the simulation listens for clients of Kafka."""


def _here() -> Node:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SimLoop)
    assert isinstance(loop.process, Node)
    return loop.process


class _Os:
    """The two questions that housekeeping asks of the operating system."""

    path = SimpleNamespace(isdir=lambda path: is_there(_here(), path))

    @staticmethod
    def statvfs(path: str) -> Any:
        disk = _here().disk
        free = DISK_BYTES if disk.capacity_bytes is None else 0
        return SimpleNamespace(f_bavail=free, f_frsize=1, f_blocks=DISK_BYTES)


def is_there(node: Node, directory: str) -> bool:
    try:
        node.disk.listdir(directory)
    except OSError:
        return False
    return True


@contextmanager
def installed(
    net: Network,
    log: MetadataLog,
    rng: Random,
    counts: Counter[str],
    told: Callable[[str, str, int], None],
    strict: bool = True,
) -> Iterator[None]:
    """Inside, nodes and clients made in this process live in the simulation. `told` hears of every epoch that a member
    of a group is given."""
    real_unexpected = node.services.faults.unexpected

    def unexpected(where: str, error: Exception) -> Any:
        if strict:
            raise Violation(f"{where} failed with {error!r}") from error
        return real_unexpected(where, error)

    real_commit = Coordinator.commit

    def commit(self: Coordinator, group_id: str, who: Committer, positions: Any, wall_ms: int) -> Any:
        """24: whatever the coordinator thinks, only an owner in its current epoch may have committed."""
        group = self.group(group_id)
        member = None if group is None else group.members.get(who.member_id)
        try:
            outcome, errors = real_commit(self, group_id, who, positions, wall_ms)
        except ApiError as error:
            counts[f"rare: commits refused ({pb.ErrorCode.Name(error.code).removeprefix('ERROR_CODE_').lower()})"] += 1
            raise
        counts["rare: commits refused (not the owner)"] += any(errors)
        if outcome.records and who.member_id and (member is None or member.member_epoch != who.epoch):
            raise Violation(f"24: member {who.member_id} committed in epoch {who.epoch}: {member}")
        counts["commits accepted"] += bool(outcome.records)
        return outcome, errors

    real_assigned = Membership.assigned

    def assigned(self: Membership, assignment: Any, now_ms: int) -> None:
        told(self.group_id, assignment.member_id, assignment.member_epoch)
        real_assigned(self, assignment, now_ms)

    real_duplicate = Partition._duplicate

    def duplicate(self: Partition, *args: Any) -> Any:
        counts["rare: repeated batches answered with the stored offset"] += 1
        return real_duplicate(self, *args)

    real_not_available = node.broker.refusals.offset_not_available

    def not_available(*args: Any) -> Any:
        counts["rare: reads refused while the mark was withheld"] += 1
        return real_not_available(*args)

    real_load = GroupShell._load

    def load(self: GroupShell, *args: Any) -> None:
        counts["rare: groups loaded by a coordinator"] += 1
        real_load(self, *args)

    secrets = SimpleNamespace(token_bytes=rng.randbytes)
    places: list[tuple[Any, str, Any]] = [
        (aio, "insecure_channel", lambda target, options=None, **_: SimChannel(net, target)),
        (node.services.accept, "server", lambda *_, **__: SimServer(net)),
        (node.main, "DataThread", DataLoop),
        (node.main, "boot_id", lambda: f"{_here().name}-{_here().boot_id}"),
        (node.main, "secrets", secrets),
        (node.main.process, "settle", lambda: None),
        (node.data, "BrokerSettings", partial(BrokerSettings, cleaner_backoff_ms=200)),
        (node.control, "Quorum", lambda settings, directory, fs, **_: _quorum(log, directory)),
        (node.control, "HttpServer", _NoHttp),
        (node.control, "secrets", secrets),
        (node.data, "trim_when_idle", _forever),
        (node.broker.housekeeping, "os", _Os),
        (Coordinator, "commit", commit),
        (Membership, "assigned", assigned),
        (Partition, "_duplicate", duplicate),
        (node.broker.refusals, "offset_not_available", not_available),
        (GroupShell, "_load", load),
        (node.broker.broker, "os", _Os),
        (node.broker.cleaner, "Pacer", lambda: lambda: None),
        (ottla.client.consumer, "uuid", SimpleNamespace(uuid4=lambda: UUID(bytes=rng.randbytes(16), version=4))),
        (ottla.client.producer, "Random", lambda: Random(rng.getrandbits(64))),
        (ottla.client.connection, "_kafkas_port", _no_kafka),
        (node.services.faults, "unexpected", unexpected),
    ]
    users = (node.services.produce, node.services.fetch, node.services.produce_stream, node.services.offsets)
    places += [(user, "unexpected", unexpected) for user in users]
    places += cluster_rules.places(counts)
    places.append((node.services.produce, "admit", cluster_kinds.admit(counts)))
    with ExitStack() as stack:
        for place, name, value in places:
            stack.enter_context(mock.patch.object(place, name, value))
        yield


def _quorum(log: MetadataLog, directory: Any) -> SimQuorum:
    process = _here()
    process.quorum = SimQuorum(log, process, directory)
    return process.quorum
