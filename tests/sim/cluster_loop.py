"""Virtual time: event loops without sockets or threads, all driven by one seeded scheduler.

Every process of the simulation has loops of this kind, so the asyncio code of nodes and clients runs as it is. One
scheduler event (a message, a timer, the end of a disk job) runs to the end of everything it makes ready on its loop,
first in, first out, as in life; then the invariants look at the process it touched.
"""

import asyncio
import gc
import random
import sys
import time
import zlib
from asyncio import events
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from random import Random
from typing import Any, Final

from ottla.protocol.invariant import InvariantError
from tests.sim.scheduler import Scheduler, Timer

START_MS: Final = 1_000_000.0
"""Virtual monotonic time at the start: not 0, which could pass for "never"."""
WALL_MS: Final = 1_700_000_000_000
CALLBACKS_MAX: Final = 20_000
"""What one event may make ready, and how many events one instant may have, before it counts as an endless loop."""


class Violation(AssertionError):
    """A promise was broken, or code that must not fail did."""


class World:
    """Time and the order of events. `after_event` gets the process that an event touched."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.scheduler = Scheduler()
        self.after_event: Callable[[Process | None], None] = lambda process: None
        self.touched: Process | None = None
        self.recent: deque[tuple[float, str, Any, tuple[Any, ...]]] = deque(maxlen=400)
        self.graveyard: list[SimLoop] = []
        self.task_count = 0
        self.said: Counter[str] = Counter()
        """Errors in the nodes' logs."""
        self.bug: str | None = None
        """One of them that no fault explains."""
        self._hash = 0
        self._instant_ms = -1.0
        self._instant_events = 0

    @property
    def now_ms(self) -> float:
        return self.scheduler.now_ms

    @property
    def trace_hash(self) -> int:
        """Over every event: when it was, whose it was and what."""
        return self._hash

    def note(self, line: str) -> None:
        """A fault or another thing worth reading in the trace."""
        self._hash = zlib.crc32(line.encode(), self._hash)
        self.recent.append((self.now_ms, "", line, ()))

    def record(self, who: str, what: Any, args: tuple[Any, ...]) -> None:
        now_ms = self.scheduler.now_ms
        self._hash = zlib.crc32(f"{now_ms:.4f}{who}{getattr(what, '__name__', '')}".encode(), self._hash)
        self.recent.append((now_ms, who, what, args))

    def story(self, count: int = 200) -> str:
        """The last events, for people."""
        lines = []
        for at_ms, who, what, args in list(self.recent)[-count:]:
            if isinstance(what, str):
                lines.append(f"{at_ms:10.1f} *** {what}")
                continue
            name = getattr(what, "__qualname__", repr(what))
            lines.append(f"{at_ms:10.1f} {who:8} {name} {' '.join(_brief(a) for a in args)}"[:300])
        return "\n".join(lines)

    def run_until(self, end_ms: float) -> None:
        self.scheduler.run_until(end_ms, self._after)

    def _after(self) -> None:
        if self.scheduler.now_ms != self._instant_ms:
            self._instant_ms, self._instant_events = self.scheduler.now_ms, 0
        self._instant_events += 1
        if self._instant_events > CALLBACKS_MAX:
            raise Violation(f"time stands still at {self._instant_ms} ms: somebody waits for nothing again and again")
        if self.bug is not None:
            raise Violation(self.bug)
        touched, self.touched = self.touched, None
        self.after_event(touched)


def _brief(value: Any) -> str:
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{len(value)} bytes>"
    if isinstance(value, str | int | float | None.__class__):
        return str(value)
    return getattr(value, "label", None) or f"<{type(value).__name__}>"


class Process:
    """Something that runs, can be killed, frozen and cut off: a node's process or a client's."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.up = False
        self.incarnation = 0
        self.frozen_until_ms = 0.0
        self.wall_offset_ms = 0
        self.loops: list[SimLoop] = []
        self.job_delay_ms: Callable[[Callable[..., Any]], float] = lambda job: 0.1

    @property
    def frozen(self) -> bool:
        return self.frozen_until_ms > self.world.now_ms

    def make_loop(self, name: str) -> "SimLoop":
        loop = SimLoop(self.world, self, f"{self.name}{name}")
        self.loops.append(loop)
        return loop

    def end(self) -> None:
        """Nothing of it runs any more."""
        self.up = False
        for loop in self.loops:
            loop.dead = True
            self.world.graveyard.append(loop)
        self.loops = []


class SimTask(asyncio.Task[Any]):
    """A task with a hash that does not depend on its address: sets of tasks keep their order in every run."""

    def __init__(self, coro: Any, loop: "SimLoop", name: str | None) -> None:
        # First of all: asyncio puts it into a set, and equal hashes would make that set a list.
        self.number = loop.world.task_count = loop.world.task_count + 1
        super().__init__(coro, loop=loop, name=name)

    def __hash__(self) -> int:
        return self.number


class SimLoop(asyncio.AbstractEventLoop):
    """See the module. Freezing a process delays its events; killing it drops them."""

    def __init__(self, world: World, process: Process, name: str) -> None:
        self.world = world
        self.process = process
        self.label = name
        self.dead = False
        self.checked = True
        """Whether the invariants look at the process after an event of this loop."""
        self.stalled_until_ms = 0.0
        """This loop alone hangs: another one of its process goes on."""
        self._ready: deque[tuple[Callable[..., Any], tuple[Any, ...], Timer]] = deque()
        self._parked: deque[tuple[Callable[..., Any], tuple[Any, ...], Timer | None]] = deque()
        self._running = False
        self._woken = False

    # --- running

    def execute(self, call: Callable[..., Any], *args: Any) -> None:
        """One event: the call and everything it makes ready."""
        if self.dead:
            return
        world = self.world
        if events._get_running_loop() is not None:
            world.scheduler.after(0, self.execute, call, *args)
            return
        if self._parked or self._until_ms > world.scheduler.now_ms:
            if not self._parked:
                world.scheduler.after(self._until_ms - world.scheduler.now_ms, self.thaw)
            self._parked.append((call, args, None))
            return
        self._run(call, args)

    @property
    def _until_ms(self) -> float:
        return max(self.process.frozen_until_ms, self.stalled_until_ms)

    def thaw(self) -> None:
        """What came while the process was frozen, or the loop hung, is met now, in the order in which it came."""
        if self.dead or not self._parked:
            return
        scheduler = self.world.scheduler
        if self._until_ms > scheduler.now_ms:
            scheduler.after(self._until_ms - scheduler.now_ms, self.thaw)
            return
        call, args, timer = self._parked.popleft()
        if self._parked:
            scheduler.after(0, self.thaw)
        if timer is None or not timer.cancelled:
            self._run(call, args)

    def _run(self, call: Callable[..., Any], args: tuple[Any, ...]) -> None:
        world = self.world
        if self.checked:
            if world.touched is not None and world.touched is not self.process:
                world.after_event(world.touched)  # one event may break both ends of a connection
            world.touched = self.process
        world.record(self.label, call, args)
        self._running = True
        events._set_running_loop(self)
        try:
            call(*args)
            ready = self._ready
            count = 0
            while ready and not self.dead:
                callback, arguments, handle = ready.popleft()
                if not handle.cancelled:
                    callback(*arguments)
                count += 1
                if count > CALLBACKS_MAX:
                    raise Violation(f"{self.label}: an event never ends; the last callback was {callback}")
        finally:
            self._running = False
            events._set_running_loop(None)

    def _nothing(self) -> None:
        self._woken = False

    def spawn(self, work: Coroutine[Any, Any, Any], name: str = "") -> "asyncio.Task[Any]":
        """A task from outside of the loop."""
        events._set_running_loop(self)
        try:
            return self.create_task(work, name=name)
        finally:
            events._set_running_loop(None)

    # --- what asyncio asks of a loop

    def call_soon(self, callback: Callable[..., Any], *args: Any, context: Any = None) -> Any:
        handle = Timer()
        self._ready.append((callback, args, handle))
        if not self._running and not self._woken and not self.dead:
            # From another loop of the process, or from the simulation.
            self._woken = True
            self.world.scheduler.after(0.02, self.execute, self._nothing)
        return handle

    call_soon_threadsafe = call_soon

    def call_later(self, delay: float, callback: Callable[..., Any], *args: Any, context: Any = None) -> Any:
        timer = Timer()
        return self.world.scheduler.set(timer, delay * 1000, self._due, timer, callback, args)

    def _due(self, timer: Timer, callback: Callable[..., Any], args: tuple[Any, ...]) -> None:
        """A frozen process finds its timers due when it goes on, and those it cancels before are cancelled."""
        if self.dead:
            return
        scheduler = self.world.scheduler
        until_ms = self._until_ms
        if until_ms > scheduler.now_ms:
            scheduler.set(timer, until_ms - scheduler.now_ms, self._due, timer, callback, args)
        elif self._parked:
            self._parked.append((callback, args, timer))
        else:
            self._run(callback, args)

    def call_at(self, when: float, callback: Callable[..., Any], *args: Any, context: Any = None) -> Any:
        return self.call_later(when - self.time(), callback, *args)

    def time(self) -> float:
        return (START_MS + self.world.scheduler.now_ms) / 1000

    def create_future(self) -> "asyncio.Future[Any]":
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, *, name: str | None = None, context: Any = None) -> "asyncio.Task[Any]":
        return SimTask(coro, self, name)

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> "asyncio.Future[Any]":
        """A thread's job: done as a whole when its time has passed, unless the process ends before."""
        future = self.create_future()

        def job() -> None:
            if future.cancelled():
                return
            try:
                result = func(*args)
            except Exception as error:
                future.set_exception(error)
            else:
                future.set_result(result)

        self.world.scheduler.after(self.process.job_delay_ms(func), self.execute, job)
        return future

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return self.dead

    def add_signal_handler(self, sig: int, callback: Callable[..., object], *args: Any) -> None:
        pass

    def set_exception_handler(self, handler: Any) -> None:
        pass  # see below

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Tasks of killed processes; what matters is logged by who owns a task, and found there. But a broken invariant
        ends a node wherever it escapes.
        """
        error = context.get("exception")
        if isinstance(error, InvariantError) and not self.dead:
            self.world.bug = self.world.bug or f"{self.process.name} would end with {error!r}"


class _Clock:
    """What `time` answers inside of the simulation."""

    def __init__(self, world: World) -> None:
        self._world = world

    def monotonic(self) -> float:
        return (START_MS + self._world.scheduler.now_ms) / 1000

    def monotonic_ns(self) -> int:
        return int((START_MS + self._world.scheduler.now_ms) * 1_000_000)

    def time(self) -> float:
        return self.time_ns() / 1e9

    def time_ns(self) -> int:
        loop = events._get_running_loop()
        offset_ms = loop.process.wall_offset_ms if isinstance(loop, SimLoop) else 0
        return int((WALL_MS + offset_ms + self._world.scheduler.now_ms) * 1_000_000)


def _bury() -> None:
    """Ends what the run left unfinished; its last words do not matter."""
    for task in list(asyncio.tasks._all_tasks):  # type: ignore[attr-defined]
        if isinstance(task, SimTask) and not task.done():
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            for _ in range(3):
                try:
                    task.get_coro().close()  # type: ignore[union-attr]
                except BaseException:
                    continue
                break


@contextmanager
def virtual(world: World) -> Iterator[None]:
    """Inside, `time` and `random` are the simulation's, and no collection of garbage runs the end of a killed task."""
    clock, rng = _Clock(world), Random(world.seed ^ 0x5EED)

    class Seeded(Random):
        def __init__(self, seed: Any = None) -> None:
            super().__init__(rng.getrandbits(64) if seed is None else seed)

    places: list[tuple[Any, str, Any]] = [
        *((time, name, getattr(clock, name)) for name in ("monotonic", "monotonic_ns", "time", "time_ns")),
        (random, "Random", Seeded),
        *((random, name, getattr(rng, name)) for name in ("random", "uniform", "randrange", "randint", "choice")),
    ]
    before = [(place, name, getattr(place, name)) for place, name, _ in places]
    running = events._get_running_loop()
    events._set_running_loop(None)
    hook, collects = sys.unraisablehook, gc.isenabled()
    gc.disable()
    for place, name, value in places:
        setattr(place, name, value)
    try:
        yield
    finally:
        for loop in world.graveyard:
            loop.dead = True
        for place, name, value in before:
            setattr(place, name, value)
        _bury()
        sys.unraisablehook = lambda unraisable: None
        world.graveyard.clear()
        gc.collect()
        sys.unraisablehook = hook
        events._set_running_loop(running)
        if collects:
            gc.enable()
