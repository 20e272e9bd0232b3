"""One node as one process: the control loop in the main thread, the data loop in another; signals and supervision.

SIGTERM, SIGINT or SIGHUP: leaderships move away first, for at most `controlled.shutdown.timeout.ms`, then everything is
closed cleanly; a second signal ends the process at once, unless it is SIGHUP, which a closed terminal sends more than
once. What whoever started the node has it ignore (`nohup`) it ignores. A core task that ends by itself ends the node,
and one line says why.
"""

import asyncio
import concurrent.futures
import contextlib
import faulthandler
import os
import secrets
import signal
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

import structlog

from node import audit, capacity, fail_stop, process
from node import log as node_log
from node.config import ConfigError, Settings, unknown_in_environment
from node.control import ControlPlane
from node.data import DataPlane
from node.hooks import Hooks
from node.loops import ControlLoop, DataLoop
from node.metadata.image import UnsupportedFeature
from node.mixed import transport_of
from node.services.cluster import build_version
from node.transport import PLAIN, Transport
from ottla.protocol.errors import ApiError
from ottla.protocol.records import HELPED
from storage.directory import LogDirectory
from storage.errors import StorageError
from storage.fs import FileSystem, OsFileSystem, spares

log = structlog.get_logger(__name__)

EXIT_OK: Final = 0
EXIT_GAVE_UP: Final = 1
BOOT_ID: Final = "/proc/sys/kernel/random/boot_id"
Result = TypeVar("Result")


def run(settings: Settings, *, test_hooks: bool = False) -> int:
    """Runs a node until it is told to stop or has to give up. Returns the exit code. `test_hooks`: node/hooks.py."""
    node_log.configure(settings.logging_level, settings.logging_format, settings.node_id)
    try:
        audit.configure(settings.audit_file, settings.audit_file_max_bytes, settings.node_id)
    except OSError as error:
        log.critical("audit_file_refused", path=settings.audit_file, error=str(error))
        node_log.flush()
        return EXIT_GAVE_UP
    # For a node that hangs: `kill -USR1` writes every thread's stack to stderr.
    faulthandler.enable()
    if hasattr(signal, "SIGUSR1"):
        faulthandler.register(signal.SIGUSR1)
    for name in unknown_in_environment():
        log.warning("unknown_setting_in_environment", name=name)
    if settings.open_listeners:
        log.warning("listeners_without_tls", listeners=list(settings.open_listeners), next_step="docs/security.md")
    carries = capacity.of_process()
    if carries.descriptors < capacity.DESCRIPTORS_MIN:
        log.critical(
            "too_few_descriptors",
            descriptors=carries.descriptors,
            needed=capacity.DESCRIPTORS_MIN,
            next_step="raise `ulimit -n`",
        )
        node_log.flush()
        return EXIT_GAVE_UP
    spares.hold(carries.spares)
    log.info(
        "capacity",
        descriptors=carries.descriptors,
        replicas=min(carries.partitions, settings.max_partitions_per_node),
        client_connections=carries.connections,
        bound_by="ulimit -n" if carries.partitions < settings.max_partitions_per_node else "max.partitions.per.node",
    )
    fail_stop.arm()
    try:
        with asyncio.Runner(loop_factory=ControlLoop) as runner:
            return runner.run(_Node(settings, Hooks() if test_hooks else None).run())
    finally:
        audit.flush()
        node_log.flush()


class _Node:
    def __init__(self, settings: Settings, hooks: Hooks | None) -> None:
        self._settings = settings
        self._signalled = asyncio.Event()
        self._hooks = hooks
        self._transport: Transport = PLAIN
        self._fs: FileSystem = hooks.fs if hooks else OsFileSystem()

    async def run(self) -> int:
        settings = self._settings
        loop = asyncio.get_running_loop()
        fail_stop.watch(loop)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            if number == signal.SIGTERM or signal.getsignal(number) != signal.SIG_IGN:
                loop.add_signal_handler(number, self._on_signal, number)
        try:
            directory = LogDirectory.open(
                self._fs,
                str(settings.data_dir),
                node_id=settings.node_id,
                new_directory_id=secrets.token_bytes(16),
                boot_id=boot_id(),
            )
        except (StorageError, OSError) as error:
            log.critical("data_directory_refused", error=str(error))
            return EXIT_GAVE_UP
        log.info(
            "starting",
            version=build_version(),
            data_dir=str(settings.data_dir),
            directory_id=directory.directory_id,
            clean=directory.was_clean,
            same_boot=directory.same_boot,
            public=settings.listener("public"),
            kafka=[each.address for each in settings.kafka_listeners],
            records_walked_by="C" if HELPED else "Python: slower, there was no C compiler at installation",
        )
        clean = False
        try:
            self._transport = transport_of(settings, directory.cluster_id)
        except ConfigError as error:
            log.critical("certificates_refused", error=str(error), next_step="ottla secure status")
            directory.close(clean=directory.was_clean)
            return EXIT_GAVE_UP
        try:
            clean = await self._run_planes(directory)
        finally:
            directory.close(clean=clean)
        return EXIT_OK if self._signalled.is_set() and clean else EXIT_GAVE_UP

    async def _run_planes(self, directory: LogDirectory) -> bool:
        """Returns whether the end was a clean one."""
        if self._hooks is not None:
            log.warning("test_hooks_are_on", http=self._settings.listener("http"))
        control = ControlPlane(self._settings, directory, self._fs, self._hooks, self._transport)
        data = DataThread(
            lambda: DataPlane(
                self._settings,
                directory,
                self._fs,
                describe_quorum=control.describe_quorum,
                render_metrics=control.render_metrics,
                on_opened=control.opened,
                on_applied=control.applied,
                hooks=self._hooks,
                transport=self._transport,
            )
        )
        try:
            await data.start()
            await control.start(data)
            process.settle()
            cause = await self._until_over(control, data)
            if cause is None:
                log.info("stopping", deadline_ms=self._settings.controlled_shutdown_timeout_ms)
                await control.hand_over()
        except Exception as error:
            cause = error
        if cause is not None:
            fail_stop.stop_if_broken(cause)
            log.critical("node_gives_up", error=str(cause), kind=type(cause).__name__, exc_info=_unless_plain(cause))
        clean = await data.stop()
        await control.stop()
        log.info("stopped", clean=clean and cause is None)
        return clean and cause is None

    async def _until_over(self, control: ControlPlane, data: "DataThread") -> BaseException | None:
        """Waits for a signal (None), or for the end of a core task (why)."""
        told = asyncio.ensure_future(self._signalled.wait())
        core: list[asyncio.Future[Any]] = [control.failed, data.ended]
        await asyncio.wait([told, *core], return_when=asyncio.FIRST_COMPLETED)
        if self._signalled.is_set():
            return None
        told.cancel()
        for future in core:
            if future.done():
                return future.exception() or RuntimeError("a core task ended")
        return None

    def _on_signal(self, number: int) -> None:
        if self._signalled.is_set():
            if number == signal.SIGHUP:
                return
            log.warning("stopped_at_once", signal=signal.Signals(number).name)
            node_log.flush(0.2)
            os._exit(128 + number)
        log.info("signal", signal=signal.Signals(number).name)
        self._signalled.set()


class DataThread:
    """Runs a `DataPlane` on a loop and in a thread of its own. Used from the control loop."""

    def __init__(self, make: Callable[[], DataPlane]) -> None:
        self._make = make
        self._control_loop = asyncio.get_running_loop()
        self._made: concurrent.futures.Future[DataPlane] = concurrent.futures.Future()
        self._thread = threading.Thread(target=self._run, name="data", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._clean = False
        self.ended: asyncio.Future[None] = self._control_loop.create_future()

    async def start(self) -> None:
        """Returns when the data plane is there; it recovers its logs and opens its listeners meanwhile."""
        self._thread.start()
        self.plane = await asyncio.wrap_future(self._made)

    def call(self, function: Callable[..., None], *arguments: Any) -> None:
        """Runs a function on the data loop, in the order of the calls; its result and end are not waited for."""
        assert self._loop is not None
        # A loop that has closed says so by RuntimeError; `ended` says why.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function, *arguments)

    def submit(self, work: Coroutine[Any, Any, Result]) -> "concurrent.futures.Future[Result]":
        """Runs a coroutine on the data loop."""
        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def stop(self) -> bool:
        """Ends the data plane; returns whether all its logs were closed cleanly."""
        if self._stop is not None:
            self.call(self._stop.set)
            await asyncio.wait([self.ended])
        return self._clean

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            with asyncio.Runner(loop_factory=DataLoop) as runner:
                runner.run(self._main())
        except BaseException as caught:
            fail_stop.stop_if_broken(caught)
            error = caught
        if not self._made.done():
            self._made.set_exception(error or RuntimeError("the data plane could not be made"))
            error = None
        self._control_loop.call_soon_threadsafe(self._finish, error)

    def _finish(self, error: BaseException | None) -> None:
        error = None if error is None else process.cause_of(error)
        if error is None:
            self.ended.set_result(None)
        else:
            self.ended.set_exception(error)

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        fail_stop.watch(self._loop)
        self._stop = asyncio.Event()
        plane = self._make()
        self._made.set_result(plane)
        running = asyncio.ensure_future(plane.run())
        stopping = asyncio.ensure_future(self._stop.wait())
        ends: list[asyncio.Future[Any]] = [running, stopping, plane.failed]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        for future in (plane.failed, running):
            if future.done() and not future.cancelled() and (error := future.exception()) is not None:
                # At once: what closes a data plane in order lets it acknowledge what it still can.
                fail_stop.stop_if_broken(error)
        running.cancel()
        await asyncio.wait([running])
        self._clean = await plane.stop()
        for future in (plane.failed, running):
            if future.done() and not future.cancelled() and future.exception() is not None:
                self._clean = False
                future.result()


def boot_id() -> str | None:
    """The kernel's boot id, by which a killed process is told from a crashed machine; None where there is none."""
    try:
        with open(BOOT_ID, encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return None


def _unless_plain(error: BaseException) -> BaseException | None:
    """The traceback of bugs; what the environment does to us needs its message only."""
    return None if isinstance(error, OSError | StorageError | ApiError | UnsupportedFeature) else error
