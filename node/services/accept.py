"""A gRPC server that takes its calls from gRPC several at a time, each method's from a queue of its own.

`grpc.aio` asks for the next call of a method when it has begun the one before: five turns of the loop and a hop to
another thread and back, for each call. While the loop is busy that is less than a hundred calls a second, whoever waits
behind; and calls that were cancelled meanwhile are not passed over, so a client that begins calls and drops them fills
the queue of everybody. Here more are asked for once all came that were, and whoever got one asks again within the step
that begins it. A queue in which nothing happens costs nothing.

What is private to grpcio here is checked when a server is made: where it looks otherwise, calls are taken one by one.
"""

import asyncio
import inspect
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, cast

import grpc
import structlog
from grpc._cython import cygrpc
from grpc.aio._server import Server as AioServer

log = structlog.get_logger(__name__)

AT_ONCE_MAX: Final = 64
"""Calls of one method that are taken in one turn of the loop."""
SLACK: Final = 4
"""How many times as many are asked for as came last."""
_KNOWN: Final = {
    "_handle_rpc": ("method_name", "method_resolver", "interceptors", "rpc_state", "loop", "concurrency_exceeded"),
    "_schedule_rpc_coro": ("rpc_coro", "rpc_state", "loop", "method_name"),
}
_KNOWN_OF_SERVER: Final = {
    "_request_registered_call": ("self", "method"),
    "_make_request_call_future": ("self", "method_bytes"),
}


def server(
    interceptors: Sequence[Any] | None, options: Sequence[tuple[str, Any]], one_by_one: Collection[str] = ()
) -> grpc.aio.Server:
    """As `grpc.aio.server` makes one. `one_by_one`: names of methods of which no more than one call is asked for."""
    if is_known():
        made: Any = _Server(interceptors, options, one_by_one)
        return cast("grpc.aio.Server", made)
    log.warning("calls_taken_one_by_one", grpcio=grpc.__version__)
    return grpc.aio.server(interceptors=interceptors, options=options)


def is_known() -> bool:
    """Whether grpcio is as it was when this was written."""
    return (
        all(hasattr(cygrpc, name) for name in ("_MethodResolver", "_RequestCallError"))
        and _looks(cygrpc, _KNOWN)
        and _looks(cygrpc.AioServer, _KNOWN_OF_SERVER)
    )


def _looks(owner: Any, known: Mapping[str, tuple[str, ...]]) -> bool:
    try:
        return all(tuple(inspect.signature(getattr(owner, name)).parameters) == known[name] for name in known)
    except (AttributeError, TypeError, ValueError):
        return False


class _Server(AioServer):
    def __init__(
        self, interceptors: Sequence[Any] | None, options: Sequence[tuple[str, Any]], one_by_one: Collection[str]
    ) -> None:
        self._loop = cygrpc.get_working_loop()
        self._server = _Calls(self._loop, interceptors, options, one_by_one)


class _Calls(cygrpc.AioServer):  # type: ignore[misc]
    """What `grpc.aio` starts to serve calls."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        interceptors: Sequence[Any] | None,
        options: Sequence[tuple[str, Any]],
        one_by_one: Collection[str],
    ) -> None:
        super().__init__(loop, None, (), interceptors, tuple(options), None)
        self._runs_on = loop
        self._intercepted_by = tuple(interceptors or ())
        self._one_by_one = one_by_one
        self._served: dict[str, Any] = {}
        self._resolver: Any = None
        self._under_way: set[asyncio.Task[Any]] = set()

    def add_registered_method_handlers(self, method_handlers: dict[str, Any]) -> None:
        super().add_registered_method_handlers(method_handlers)
        self._served.update(method_handlers)
        self._resolver = cygrpc._MethodResolver([], self._served)

    def _make_request_call_future(self, method_bytes: bytes | None) -> Any:
        """Asked for by the loop that takes calls one by one, once for each queue. That for unknown methods stays its
        own; of the others it hears when the server stops."""
        if method_bytes is None:
            return super()._make_request_call_future(None)
        name = method_bytes.decode()
        at_once = 1 if name.rpartition("/")[2] in self._one_by_one else AT_ONCE_MAX
        return self._runs_on.create_task(_Queue(self, method_bytes, at_once).take())

    def begin(self, name: str, state: Any) -> None:
        call = cygrpc._handle_rpc(name, self._resolver, self._intercepted_by, state, self._runs_on, False)
        self.keep(cygrpc._schedule_rpc_coro(call, state, self._runs_on, name))

    def keep(self, work: Any) -> None:
        task = self._runs_on.create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)


class _Queue:
    """The calls of one method. As many are asked for as came in a turn of the loop, and some more: twice as many once
    all came that were."""

    def __init__(self, calls: _Calls, method: bytes, at_once: int) -> None:
        self._calls = calls
        self._at_once = at_once
        self._method = method
        self._name = method.decode()
        self._asked_for = 1
        self._came = self._came_last = 0

    async def take(self) -> None:
        """Until the server stops: raises gRPC's error then."""
        while True:
            await self._take_one()

    async def _take_more(self) -> None:
        try:
            while self._asked_for <= SLACK * self._came_last:
                await self._take_one()
        except (cygrpc._RequestCallError, grpc.aio.InternalError):
            pass  # the server stops, or cannot go on; `take` hears of it, too
        finally:
            self._asked_for -= 1

    async def _take_one(self) -> None:
        self._calls.begin(self._name, await self._calls._request_registered_call(self._method))
        if self._came == 0:
            asyncio.get_running_loop().call_soon(self._next_turn)
        self._came += 1
        if self._came == self._asked_for:
            self._ask_for_more(min(self._asked_for, self._at_once - self._asked_for))

    def _ask_for_more(self, count: int) -> None:
        self._asked_for += count
        for _ in range(count):
            self._calls.keep(self._take_more())

    def _next_turn(self) -> None:
        self._came_last, self._came = self._came, 0
