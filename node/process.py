"""What must be set up in the process before anything big is imported: allocator, gRPC's poller, garbage collector.

Measured on grpcio 1.85: with the allocator's defaults messages of 1 MB cost two to four times as much, and the older
poller saves a third of the cost of one-way streams.
"""

import asyncio
import contextlib
import ctypes
import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Final

GRPC_ENVIRONMENT: Final = {
    "GRPC_EXPERIMENTS": "-event_engine_client,-event_engine_listener,-event_engine_for_all_other_endpoints",
    "GRPC_VERBOSITY": "NONE",
    "GRPC_ENABLE_FORK_SUPPORT": "0",
}
IMPORT_ENVIRONMENT: Final = {
    # Looking for plugins of pydantic reads the metadata of every installed package.
    "PYDANTIC_DISABLE_PLUGINS": "__all__",
}
TRIM_CHECK_S: Final = 2.0
TRIM_ABOVE_BYTES: Final = 48 * 2**20
BUSY_BYTES: Final = 4 * 2**20
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096

# mallopt(3); the numbers are glibc's, from malloc.h.
_M_TRIM_THRESHOLD: Final = -1
_M_TOP_PAD: Final = -2
_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8


def hold_standard_streams() -> None:
    """Call first of all: a descriptor 0, 1 or 2 that was closed would become that of a log or a connection, and what is
    meant for stderr would be written into it."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest that is free
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - for the process's life


def prepare() -> None:
    """Call early, before grpc is imported and before a thread starts. An operator's own environment wins."""
    for name, value in (GRPC_ENVIRONMENT | IMPORT_ENVIRONMENT).items():
        os.environ.setdefault(name, value)
    _raise_open_files()
    libc = _glibc()
    if libc is None:
        return
    # Arenas first: blocks of several MB come and go all the time and must not go back to the kernel each time.
    libc.mallopt(_M_ARENA_MAX, 1)
    libc.mallopt(_M_MMAP_THRESHOLD, 64 * 2**20)
    libc.mallopt(_M_TRIM_THRESHOLD, 512 * 2**20)
    libc.mallopt(_M_TOP_PAD, 64 * 2**20)


@contextmanager
def importing() -> Iterator[None]:
    """Around the imports of the node: a fifth less of a start. What they make stays, so the collector need not look at
    it; and structlog imports rich with everything that rich needs, for a renderer for terminals that no node uses."""
    gc.disable()
    modules: dict[str, ModuleType | None] = sys.modules  # type: ignore[assignment]
    hidden = "rich" not in modules
    if hidden:
        modules["rich"] = None
    try:
        yield
    finally:
        if hidden:
            del modules["rich"]
        gc.enable()


def descriptors() -> int | None:
    """How many files this process may have open; None where nothing limits it."""
    try:
        import resource
    except ImportError:
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft


def _raise_open_files() -> None:
    """Takes as many descriptors as this process may have: each partition needs one, each client connection another."""
    try:
        import resource
    except ImportError:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def settle() -> None:
    """Call once the node is up: what lives now lives on, so no later collection needs to look at it."""
    gc.collect()
    gc.freeze()


def cause_of(error: BaseException) -> BaseException:
    """The first error of a task group's: it is what ended the others."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def resident_bytes() -> int | None:
    """Resident memory of this process; None where /proc does not say."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * _PAGE_BYTES
    except OSError:
        return None


async def trim_when_idle(busy: "BusyMeter") -> None:
    """Gives memory back after bursts of big messages: the settings above keep it otherwise. Runs until cancelled."""
    libc = _glibc()
    if libc is None:
        return
    floor = resident_bytes() or 0
    while True:
        await asyncio.sleep(TRIM_CHECK_S)
        resident = resident_bytes()
        if busy.was_busy() or resident is None or resident < floor + TRIM_ABOVE_BYTES:
            continue
        libc.malloc_trim(0)
        floor = resident_bytes() or 0


class BusyMeter:
    """Whether much data passed since the last look. Written by servicers, read by one task of the same loop."""

    def __init__(self) -> None:
        self.passed_bytes = 0
        self._seen_bytes = 0

    def was_busy(self) -> bool:
        busy = self.passed_bytes - self._seen_bytes > BUSY_BYTES
        self._seen_bytes = self.passed_bytes
        return busy


def _glibc() -> ctypes.CDLL | None:
    """glibc, or None elsewhere: macOS and musl run with their own allocator's defaults."""
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None
