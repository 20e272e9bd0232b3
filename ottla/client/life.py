"""What becomes of a client's objects when their process forks or their event loop ends.

gRPC runs threads that a fork does not copy: an object that is open belongs to the process that opened it. In a child it
is marked as inherited, and kept, because freeing gRPC's half of it would crash or wait for a thread that is not there.
A child can open clients of its own: the first of them gets it a gRPC of its own, where the parent has used the one that
it inherited.
"""

import asyncio
import ctypes
import gc
import os
import threading
from typing import Protocol
from weakref import WeakSet

from ottla.client import core
from ottla.client.errors import Closed


class Inheritable(Protocol):
    """What is open in one process."""

    def inherited(self) -> None:
        """This process is a forked child: the object is its parent's."""


_open: "WeakSet[Inheritable]" = WeakSet()
_kept: list[list[Inheritable]] = []
_grpc_was_used = False
"""Here, or in a process from which this one was forked."""
_grpc_is_inherited = False
"""The parent has used it, so it can't be used here."""
_renewing = threading.Lock()

_REASONS = {
    "new": "is not started. Next: use it in a `with` or `async with` block, or call start()",
    "closing": "is closed. Next: make a new one",
    "closed": "is closed. Next: make a new one",
    "broken": "has stopped. Next: make a new one",
    "inherited": "belongs to the process from which this one was forked. Next: make a new one in this process",
}


def refusal(what: str, life: str, reason: str = "") -> Closed:
    """Why an object can't be used."""
    return Closed(f"this {what} {_REASONS[life]}" if not reason else f"this {what} has stopped: {reason}")


def is_running(loop: asyncio.AbstractEventLoop, what: str) -> bool:
    """Whether an object's loop is the one that runs here; False: it is closed. Raises Closed if it is another."""
    if loop is asyncio.get_running_loop():
        return True
    if not loop.is_closed():
        raise Closed(f"this {what} belongs to another event loop. Next: use it there, or make one in this loop")
    return False


def can_close(loop: asyncio.AbstractEventLoop | None, what: str) -> bool:
    """False where no loop runs: a coroutine is torn down with what it held, and nothing can be waited for any more.
    Raises Closed if another loop runs than the object's own."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    if loop is not None:
        is_running(loop, what)
    return True


def opened(each: Inheritable) -> None:
    """It is open in this process. Raises Closed in a forked child that can't have a gRPC of its own."""
    global _grpc_was_used, _grpc_is_inherited
    with _renewing:
        if _grpc_is_inherited:
            try:
                core.renew()
            except (OSError, AttributeError, ImportError) as error:
                raise Closed(
                    f"gRPC was at work when this process was forked, and can't be loaded anew ({error}). Next: fork "
                    "before the first client is opened, or start the process with multiprocessing's 'spawn' or "
                    "'forkserver'"
                ) from error
            _grpc_is_inherited = False
        _grpc_was_used = True
    _open.add(each)


def closed(each: Inheritable) -> None:
    """It is open no longer."""
    _open.discard(each)


def _somebody_uses_grpc() -> bool:
    """Threads that Python does not know of may be gRPC's, for something else than our clients."""
    try:
        return len(os.listdir("/proc/self/task")) > threading.active_count()
    except OSError:
        return False


def _before_fork() -> None:
    global _will_be_inherited, _collects
    _will_be_inherited = _grpc_was_used or _grpc_is_inherited or _somebody_uses_grpc()
    _collects = gc.isenabled()
    gc.disable()


def _in_the_parent() -> None:
    if _collects:
        gc.enable()


def _in_the_child() -> None:
    global _grpc_is_inherited, _renewing
    _renewing = threading.Lock()
    _grpc_is_inherited = _will_be_inherited
    if _grpc_is_inherited:
        gc.freeze()  # garbage of the parent's, too, may hold something of gRPC's
    if _open:
        _kept.append(list(_open))
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(_kept[-1]))  # the end of the process frees nothing of it either
    for each in list(_open):
        each.inherited()
    _open.clear()
    _in_the_parent()


_will_be_inherited = _collects = False
os.register_at_fork(before=_before_fork, after_in_parent=_in_the_parent, after_in_child=_in_the_child)
