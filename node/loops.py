"""The event loops of a node's two threads, and how they take gRPC's events.

All loops of a process that use grpc.aio wait on one socket, into which gRPC writes a byte for every event of any of
them (grpcio 1.85; later versions give each loop its own). So each batch that the data loop handles would wake the
control loop, too: 2.5 times the task switches, and a tenth of a node's processor time. Here the data loop alone waits
on it; what it takes for the control loop, gRPC hands over. The control loop looks by itself now and then, because
elections must not wait for a data loop that is busy with something long.

gRPC takes one byte of that socket in each turn of a loop, and all events. Where there were more of them than one in a
turn, bytes stay, and once 278 have (the socket is full) the thread that writes them waits for the next turn: from then
on a loop gets one event a turn, of all clients together. So here the bytes are taken, too.
"""

import itertools
import socket
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVarTuple

import uvloop

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike

Arguments = TypeVarTuple("Arguments")

LOOK_S: Final = 0.02
"""How long an event of the control loop's may wait while the data loop is busy or not there."""
DRAIN_TURNS: Final = 8
"""To look at the socket in each turn would cost small batches a seventh of their throughput."""
_TURNS: Final = itertools.count()
_PEEK: Final = socket.MSG_PEEK | socket.MSG_DONTWAIT
_TAKEN: Final = bytearray(4096)
_TAKING: Final = threading.Lock()
"""Whoever has it takes the events of all loops."""


class DataLoop(uvloop.Loop):
    """uvloop's, but that the bytes for gRPC's events are taken with them."""

    def add_reader(self, fd: "FileDescriptorLike", callback: Callable[[*Arguments], Any], *args: *Arguments) -> None:
        if _handles_events_of_all_loops(callback):
            super().add_reader(fd, _take_events, fd, callback, args)
        else:
            super().add_reader(fd, callback, *args)


class ControlLoop(uvloop.Loop):
    """uvloop's, but for gRPC's events."""

    def add_reader(self, fd: "FileDescriptorLike", callback: Callable[[*Arguments], Any], *args: *Arguments) -> None:
        if _handles_events_of_all_loops(callback):
            self._look(fd, callback, args)
        else:
            super().add_reader(fd, callback, *args)

    def _look(self, fd: Any, handle: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self.call_later(LOOK_S, self._look, fd, handle, args)
        _take_events(fd, handle, args)


def _take_events(events: socket.socket, handle: Callable[..., Any], args: tuple[Any, ...]) -> None:
    """Now and then takes all bytes but one, for `handle` takes that; does nothing where another loop is at it, or where
    there is none any more."""
    if not _TAKING.acquire(blocking=False):
        return
    try:
        if next(_TURNS) % DRAIN_TURNS == 0 and (count := events.recv_into(_TAKEN, 0, _PEEK)) > 1:
            events.recv_into(_TAKEN, count - 1)
        handle(*args)
    except BlockingIOError:
        pass
    finally:
        _TAKING.release()


def _handles_events_of_all_loops(callback: Any) -> bool:
    poller = getattr(getattr(callback, "func", None), "__self__", None)
    return type(poller).__name__ == "PollerCompletionQueue"
