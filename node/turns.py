"""Clients take turns at the data loop, so that a burst of one delays another by a turn, not by the burst.

A call goes on at once while this turn of the loop is young. In one that has lasted, calls queue up, each client's in
the order they came in; a few are let on in each turn of the loop, of one client after the other. How many follows from
how long the last ones took, which go on one right after the other: nothing else of the loop counts. A client is a
connection; of a call that was passed on, the connection that it came by.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from contextvars import ContextVar
from typing import Any, Final, NamedTuple, TypeVar

import grpc

from node import limits
from node.relay import peer

TURN_S: Final = 0.005
"""How long a turn of the loop may be before what comes next waits for another one, and how long those that are let on
together may take."""
WIDTH_MIN: Final = 4
WIDTH_MAX: Final = 64
CLIENT: Final = "ottla-client"
Item = TypeVar("Item")
Result = TypeVar("Result")


class Waiters:
    """Who waits, by client: the clients take turns, what is of one stays in order."""

    def __init__(self) -> None:
        self._queues: dict[str, deque[asyncio.Future[None]]] = {}

    def __bool__(self) -> bool:
        return bool(self._queues)

    def join(self, client: str) -> asyncio.Future[None]:
        """A future that ends when it is this client's turn."""
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queues.setdefault(client, deque()).append(waiting)
        return waiting

    def let_one_on(self) -> bool:
        """Of the client whose turn it is; who waits for nothing any more is passed over. False: there is nobody."""
        while self._queues:
            client = next(iter(self._queues))
            queue = self._queues.pop(client)
            waiting = queue.popleft()
            if queue:
                self._queues[client] = queue
            if not waiting.done():
                waiting.set_result(None)
                return True
        return False


class Turns:
    """The turns of one loop."""

    def __init__(self, clock_s: Callable[[], float] | None = None) -> None:
        self._clock_s = clock_s or time.monotonic
        self._waiters = Waiters()
        self._began_s = self._let_on_s = 0.0
        self._turning = False
        self._width = WIDTH_MIN

    def free(self) -> bool:
        """Whether somebody may go on right now."""
        now_s = self._clock_s()
        if not self._turning:
            self._begin(now_s)
            return True
        return not self._waiters and now_s - self._began_s < TURN_S

    async def wait(self, client: str) -> None:
        """Returns when it is this client's turn."""
        await self._join(client)

    def later(self, client: str, work: Callable[[], None]) -> None:
        """Does `work` when it is this client's turn."""
        self._join(client).add_done_callback(lambda _: work())

    def _join(self, client: str) -> "asyncio.Future[None]":
        if not self._turning:
            self._begin(self._clock_s())
        return self._waiters.join(client)

    def _begin(self, now_s: float) -> None:
        self._began_s = now_s
        self._turning = True
        asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        """Once in each turn of the loop, as long as there is something to do, right after those that were let on."""
        self._turning = False
        if not self._waiters:
            self._width = WIDTH_MIN
            return
        now_s = self._clock_s()
        took_s = now_s - self._let_on_s
        if took_s > TURN_S:
            self._width = max(self._width // 2, WIDTH_MIN)
        elif took_s < TURN_S / 4:
            self._width = min(self._width * 2, WIDTH_MAX)
        self._let_on_s = now_s
        asyncio.get_running_loop().call_soon(self._go_on)
        for _ in range(self._width):
            if not self._waiters.let_one_on():
                break
        self._begin(now_s)

    def _go_on(self) -> None:
        """Right before those that were let on."""
        self._let_on_s = self._clock_s()


class Places:
    """So many may be at something at once; clients take turns for what becomes free."""

    def __init__(self, count: int) -> None:
        self._waiters = Waiters()
        self._free = count

    async def take(self) -> None:
        if self._free:
            self._free -= 1
            return
        mine = self._waiters.join(client() or "")
        try:
            await mine
        except asyncio.CancelledError:
            if mine.done() and not mine.cancelled():
                self.give()
            raise

    def give(self) -> None:
        self._free += not self._waiters.let_one_on()


class _Caller(NamedTuple):
    """On whose behalf the loop is at work."""

    turns: Turns
    client: str


_CALLER: Final[ContextVar[_Caller | None]] = ContextVar("caller", default=None)


Handler = Callable[..., Awaitable[Any]]


def for_client(handler: Handler, turns: Turns, *, forwarded: bool) -> Handler:
    """A handler whose calls, each in a task of its own, take their client's turns. `forwarded`: nodes call it, and say
    for whom."""

    def call(*arguments: Any) -> Awaitable[Any]:
        context: grpc.aio.ServicerContext[Any, Any] = arguments[-1]
        client = _named_by_node(context) if forwarded else peer(context)
        _CALLER.set(_Caller(turns, client))
        return handler(*arguments)

    return call


def in_turn(handler: Handler) -> Handler:
    """A handler whose calls begin when it is their client's turn."""

    def call(*arguments: Any) -> Awaitable[Any]:
        turn = not_yet()
        return handler(*arguments) if turn is None else after(turn, arguments)

    async def after(turn: Awaitable[None], arguments: tuple[Any, ...]) -> Any:
        await turn
        return await handler(*arguments)

    return call


def _named_by_node(context: "grpc.aio.ServicerContext[Any, Any]") -> str:
    for key, value in context.invocation_metadata() or ():
        if key == CLIENT:
            return str(value)
    return peer(context)


def not_yet() -> Awaitable[None] | None:
    """Before a further piece of work within a call: what to wait for first. None: it may go on at once."""
    caller = _CALLER.get()
    return None if caller is None or caller.turns.free() else caller.turns.wait(caller.client)


async def take() -> None:
    """Before a further piece of work within a call: goes on at once where nobody has to wait for it."""
    if (turn := not_yet()) is not None:
        await turn


async def give_way() -> None:
    """Between two pieces of long work within a call: others go first."""
    caller = _CALLER.get()
    if caller is None:
        await asyncio.sleep(0)
    else:
        await caller.turns.wait(caller.client)


async def together(work: Iterable[Coroutine[Any, Any, Result]]) -> list[Result]:
    """What each brings, in their order: all are begun at once, so that none waits for what another one waits for."""
    async with asyncio.TaskGroup() as group:
        tasks = []
        for count, one in enumerate(work, 1):
            tasks.append(group.create_task(one))
            if count % limits.AT_ONCE == 0:
                await give_way()
    return [task.result() for task in tasks]


async def in_lanes(
    items: Sequence[Item], lane_of: Callable[[Item], int], one: Callable[[Item], Awaitable[Result]]
) -> list[Result]:
    """What each item brings, in their order: those of one lane one after the other, no lane waits for another."""
    lanes: dict[int, list[int]] = {}
    for index, item in enumerate(items):
        lanes.setdefault(lane_of(item), []).append(index)
    found: dict[int, Result] = {}

    async def go_along(indexes: list[int]) -> None:
        for count, index in enumerate(indexes, 1):
            found[index] = await one(items[index])
            if count % limits.AT_ONCE == 0:
                await give_way()

    await together(map(go_along, lanes.values()))
    return [found[index] for index in range(len(items))]


def client() -> str | None:
    """Whom the call that is under way is for, as another node is to be told."""
    caller = _CALLER.get()
    return None if caller is None else caller.client
