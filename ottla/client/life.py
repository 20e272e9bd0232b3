"""What becomes of a client's objects when their process forks or their event loop ends.

gRPC runs threads that a fork does not copy: an object that is open belongs to the process that opened it. In a child it
is marked as inherited, and kept, because freeing gRPC's half of it would crash or wait for a thread that is not there.
A child can open clients of its own if gRPC was at rest when it was forked: before the first client or after the last.
"""

import asyncio
import gc
import os
import threading
from typing import Protocol
from weakref import WeakSet

from ottla.client.errors import Closed


class Inheritable(Protocol):
    """What is open in one process."""

    def inherited(self) -> None:
        """This process is a forked child: the object is its parent's."""


_open: "WeakSet[Inheritable]" = WeakSet()
_kept: list[Inheritable] = []
_grpc_is_lost = False
"""gRPC was at work when this process was forked, so it can't be used here any more."""

_REASONS = {
    "new": "is not started. Next: use it inside `async with`, or call start()",
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


def opened(each: Inheritable) -> None:
    """It is open in this process. Raises Closed in a child that was forked while gRPC was at work."""
    if _grpc_is_lost:
        raise Closed(
            "a client was open when this process was forked, and gRPC, which it uses, works in the parent alone. Next: "
            "fork before the first client is opened or after the last is closed, or start the process with "
            "multiprocessing's 'spawn' or 'forkserver'"
        )
    _open.add(each)


def closed(each: Inheritable) -> None:
    """It is open no longer: a fork finds gRPC at rest if it was the last."""
    _open.discard(each)


def _grpc_is_at_work() -> bool:
    return any("_poll_wrapper" in thread.name for thread in threading.enumerate())


def _before_fork() -> None:
    global _will_be_lost, _collects
    if _grpc_is_at_work() and not _open:
        gc.collect()  # what is closed may be held by a cycle, and gRPC's thread by that
    _will_be_lost = _grpc_is_lost or _grpc_is_at_work()
    _collects = gc.isenabled()
    gc.disable()


def _in_the_parent() -> None:
    if _collects:
        gc.enable()


def _in_the_child() -> None:
    global _grpc_is_lost
    _grpc_is_lost = _will_be_lost
    if _grpc_is_lost:
        gc.freeze()  # garbage of the parent's, too, may hold something of gRPC's
    for each in list(_open):
        _kept.append(each)
        each.inherited()
    _open.clear()
    _in_the_parent()


_will_be_lost = _collects = False
os.register_at_fork(before=_before_fork, after_in_parent=_in_the_parent, after_in_child=_in_the_child)
