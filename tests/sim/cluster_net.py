"""The network: connections like TCP's between processes, over links that are slow, flaky or cut.

What is sent on a connection arrives once and in order, or not at all: a lost packet is a delay (it is sent again), a
cut link is a longer one, and a connection that stays cut for `KEEPALIVE_MS`, or is reset, breaks at both ends - each
end hears of it in its own time, if it can. So nobody knows whether what was sent last arrived. A killed process closes
its connections, a machine without power does not: who talks to it hears nothing until it is back, or the keepalive
tells.
"""

from bisect import insort
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any, Final

from tests.sim.cluster_loop import Process, SimLoop, World

KEEPALIVE_MS: Final = 4000.0
CONNECT_MS: Final = 2000.0
WINDOW_BYTES: Final = 256 * 1024
"""What may be on its way before a writer has to wait."""

TO_SERVER: Final = 0
TO_CLIENT: Final = 1


@dataclass
class LinkFaults:
    """Rates of one run."""

    delay_min_ms: float = 0.2
    delay_mean_ms: float = 0.6
    loss: float = 0.0
    """Chance that a message has to be sent again: 20 to 400 ms."""
    clog: float = 0.0
    """Chance that a message holds up its connection for up to 2 s."""
    reset: float = 0.0
    """Chance that a message breaks its connection."""


class Network:
    """Links and what is wrong with them."""

    def __init__(self, world: World, rng: Random, counts: Counter[str]) -> None:
        self.world = world
        self.rng = rng
        self.counts = counts
        self.faults = LinkFaults()
        self.cut: dict[tuple[str, str], int] = {}
        """Directed links that pass nothing, and how many cuts there are of each."""
        self.slow_ms: dict[str, float] = {}
        self.dark: set[str] = set()
        """Machines without power: they refuse nothing, they are silent."""
        self.servers: dict[str, Any] = {}
        """By address, who listens there."""
        self.connections: dict[Connection, None] = {}

    def delay_ms(self, sender: str, receiver: str) -> float:
        faults, rng = self.faults, self.rng
        delay = faults.delay_min_ms + rng.expovariate(1 / faults.delay_mean_ms)
        if self.slow_ms:
            delay += self.slow_ms.get(sender, 0.0) + self.slow_ms.get(receiver, 0.0)
        if faults.loss and rng.random() < faults.loss:
            self.counts["net: sent again"] += 1
            delay += rng.uniform(20, 400)
        if faults.clog and rng.random() < faults.clog:
            self.counts["net: clog"] += 1
            delay += rng.random() * 2000
        return delay

    def passes(self, sender: str, receiver: str) -> bool:
        return not self.cut or (sender, receiver) not in self.cut

    def cut_link(self, sender: str, receiver: str) -> None:
        self.cut[sender, receiver] = self.cut.get((sender, receiver), 0) + 1

    def mend_link(self, sender: str, receiver: str) -> None:
        left = self.cut.get((sender, receiver), 0) - 1
        if left > 0:
            self.cut[sender, receiver] = left
            return
        self.cut.pop((sender, receiver), None)
        for connection in list(self.connections):
            connection.resume()

    def heal(self) -> None:
        self.cut.clear()
        self.slow_ms.clear()
        self.faults = LinkFaults()
        for connection in list(self.connections):
            connection.resume()

    def process_ended(self, process: Process, *, silent: bool) -> None:
        """`silent`: the machine is gone, nobody sends the end of its connections."""
        for address, server in list(self.servers.items()):
            if server.process is process:
                del self.servers[address]
        for connection in list(self.connections):
            if connection.client is process or connection.server is process:
                connection.end_of(process, silent=silent)


class Connection:
    """One connection. `hosts` are client and server; a message is a call on the loop of who gets it."""

    def __init__(self, net: Network, client: SimLoop, server: SimLoop) -> None:
        self.net = net
        self.client, self.server = client.process, server.process
        self.loops = (server, client)
        """By direction: who hears it."""
        self.open = [True, True]
        """By direction: whether who hears it still takes part."""
        self.on_broken: list[Callable[[str], None]] = [lambda why: None, lambda why: None]
        self.pending_bytes = [0, 0]
        self._last_ms = [0.0, 0.0]
        self._stalled_since_ms = [0.0, 0.0]
        self._stalled: tuple[list[tuple[int, int, Callable[..., None], Any]], ...] = ([], [])
        self._sent = 0
        self._was_reset = False
        self._on_their_way: tuple[deque[int], deque[int]] = (deque(), deque())
        self._early: tuple[list[tuple[int, int, Callable[..., None], Any]], ...] = ([], [])
        self._writers: tuple[list[Any], list[Any]] = ([], [])
        self._names = ((self.client.name, self.server.name), (self.server.name, self.client.name))
        net.connections[self] = None

    def send(self, direction: int, size: int, call: Callable[..., None], args: Any) -> None:
        """`call(*args)` on the other side, later."""
        if not self.open[1 - direction] or self._was_reset:
            return
        self.pending_bytes[direction] += size
        net = self.net
        if net.faults.reset and net.rng.random() < net.faults.reset:
            net.counts["net: reset"] += 1
            self.reset("connection reset by peer")
            return
        self._sent += 1
        self._on_their_way[direction].append(self._sent)
        if self._stalled[direction] or not net.passes(*self._names[direction]):
            self._stall(direction, self._sent, size, call, args)
            return
        now_ms = net.world.scheduler.now_ms
        at_ms = now_ms + net.delay_ms(*self._names[direction])
        if at_ms <= self._last_ms[direction]:
            at_ms = self._last_ms[direction] + 0.001
        self._last_ms[direction] = at_ms
        net.world.scheduler.after(at_ms - now_ms, self._arrive, direction, self._sent, size, call, args)

    def full(self, direction: int) -> bool:
        return self.pending_bytes[direction] > WINDOW_BYTES

    def when_room(self, direction: int, future: Any) -> None:
        self._writers[direction].append(future)

    def _stall(self, direction: int, number: int, size: int, call: Callable[..., None], args: Any) -> None:
        stalled = self._stalled[direction]
        if not stalled:
            since_ms = self._stalled_since_ms[direction] = self.net.world.now_ms
            self.net.world.scheduler.after(KEEPALIVE_MS, self._given_up, direction, since_ms)
        # What was on its way when the link was cut goes before what was sent since.
        insort(stalled, (number, size, call, args), key=lambda message: message[0])

    def _given_up(self, direction: int, since_ms: float) -> None:
        if self._stalled[direction] and self._stalled_since_ms[direction] == since_ms and any(self.open):
            self.net.counts["net: keepalive"] += 1
            for side in (TO_SERVER, TO_CLIENT):
                self.loops[side].execute(self._broken, side, "keepalive watchdog timeout")

    def _arrive(self, direction: int, number: int, size: int, call: Callable[..., None], args: Any) -> None:
        if not self.net.passes(*self._names[direction]) or self._stalled[direction]:
            if self.open[1 - direction] or self.open[direction]:
                self._stall(direction, number, size, call, args)
            else:
                self._on_their_way[direction].remove(number)
            return
        way, early = self._on_their_way[direction], self._early[direction]
        if number != way[0]:
            # One that was sent before it waited for a cut link, and was sent again.
            insort(early, (number, size, call, args), key=lambda message: message[0])
            return
        way.popleft()
        if early and early[0][0] == way[0]:
            self.net.world.scheduler.after(0, self._arrive, direction, *early.pop(0))
        self.pending_bytes[direction] -= size
        if self._writers[direction] and not self.full(direction):
            self._let_write(direction)
        if self.open[direction]:
            self.loops[direction].execute(call, *args)
        elif self.open[1 - direction]:
            # Its machine knows nothing of this connection (any more).
            process = (self.server, self.client)[direction]
            if process.up and self.net.passes(*self._names[1 - direction]):
                self._later(1 - direction, "connection reset by peer")

    def _let_write(self, direction: int) -> None:
        waiting, self._writers[direction][:] = list(self._writers[direction]), []
        self.loops[1 - direction].execute(_wake, waiting)

    def resume(self) -> None:
        """The link may be whole again: what waits is sent again, in order."""
        for direction in (TO_SERVER, TO_CLIENT):
            stalled = self._stalled[direction]
            if not stalled or not self.net.passes(*self._names[direction]):
                continue
            waiting = list(stalled)
            stalled.clear()
            now_ms = self.net.world.now_ms
            at_ms = max(now_ms + self.net.rng.uniform(1, 300), self._last_ms[direction])
            for number, size, call, args in waiting:
                at_ms += 0.001
                self._last_ms[direction] = at_ms
                self.net.world.scheduler.after(at_ms - now_ms, self._arrive, direction, number, size, call, args)

    def reset(self, why: str) -> None:
        """Both ends lose it, each a moment later, and what is on its way with it. Nothing sent from now on arrives."""
        self._was_reset = True
        for side in (TO_SERVER, TO_CLIENT):
            self._later(side, why)

    def close(self, by: int) -> None:
        """One end (the direction that it hears) closes it in order."""
        if self.open[by]:
            self.open[by] = False
            self._later(1 - by, "connection closed")
        if not any(self.open):
            self.net.connections.pop(self, None)

    def end_of(self, process: Process, *, silent: bool) -> None:
        side = TO_SERVER if process is self.server else TO_CLIENT
        self.open[side] = False
        if not silent:
            self._later(1 - side, "connection reset by peer", self._last_ms[1 - side] if self.net.slow_ms else 0.0)
        else:
            self.net.world.scheduler.after(
                KEEPALIVE_MS, self.loops[1 - side].execute, self._broken, 1 - side, "keepalive watchdog timeout"
            )

    def _later(self, side: int, why: str, behind_ms: float = 0.0) -> None:
        """`behind_ms`: what was sent before arrives first, where that takes long."""
        net = self.net
        passes = net.passes(*self._names[side])
        delay_ms = net.rng.uniform(0.1, 3) if passes else KEEPALIVE_MS
        delay_ms = max(delay_ms, behind_ms - net.world.now_ms)
        net.world.scheduler.after(delay_ms, self.loops[side].execute, self._broken, side, why)

    def _broken(self, side: int, why: str) -> None:
        if not self.open[side]:
            return
        self.open[side] = False
        waiting, self._writers[1 - side][:] = list(self._writers[1 - side]), []
        _wake(waiting)
        self.on_broken[side](why)
        if not any(self.open):
            self.net.connections.pop(self, None)


def _wake(futures: list[Any]) -> None:
    for future in futures:
        if not future.done():
            future.set_result(None)
