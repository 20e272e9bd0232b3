"""The event loop of the control thread, which the data plane's traffic does not wake.

All loops of a process that use grpc.aio wait on one socket, into which gRPC writes for every event of any of them
(grpcio 1.85; later versions give each loop its own). So each batch that the data loop handles would wake the control
loop, too: 2.5 times the task switches, and a tenth of a node's processor time. Here the data loop alone waits on it;
what it takes for the control loop, gRPC hands over. The control loop looks by itself now and then, because elections
must not wait for a data loop that is busy with something long.
"""

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVarTuple

import uvloop

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike

Arguments = TypeVarTuple("Arguments")

LOOK_S: Final = 0.02
"""How long an event of the control loop's may wait while the data loop is busy or not there."""


class ControlLoop(uvloop.Loop):
    """uvloop's, but for gRPC's events."""

    def add_reader(self, fd: "FileDescriptorLike", callback: Callable[[*Arguments], Any], *args: *Arguments) -> None:
        if _handles_events_of_all_loops(callback):
            self._look(callback, *args)
        else:
            super().add_reader(fd, callback, *args)

    def _look(self, handle: Callable[[*Arguments], Any], *args: *Arguments) -> None:
        self.call_later(LOOK_S, self._look, handle, *args)
        with contextlib.suppress(BlockingIOError):  # nothing there, or the data loop has taken it
            handle(*args)


def _handles_events_of_all_loops(callback: Any) -> bool:
    poller = getattr(getattr(callback, "func", None), "__self__", None)
    return type(poller).__name__ == "PollerCompletionQueue"
