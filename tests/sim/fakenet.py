"""A network that loses, duplicates, delays, reorders and cuts, drawn from one seeded generator.

Nodes are any hashable key. Messages are values, so handing the same object over twice is a faithful duplicate.
"""

from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from random import Random
from typing import Any

from tests.sim.scheduler import Scheduler


@dataclass
class LinkFaults:
    """Rates of one run (swarm testing: every seed draws its own)."""

    loss: float = 0.0
    duplicate: float = 0.0
    delay_min_ms: float = 0.5
    delay_mean_ms: float = 2.0
    clog: float = 0.0
    """Chance that a message waits up to a second, so that younger ones overtake it."""


class FakeNet:
    """Delivers `(sender, receiver, message)` to `deliver`, or not."""

    def __init__(self, scheduler: Scheduler, rng: Random, deliver: Callable[[Any, Any, Any], None]) -> None:
        self._scheduler = scheduler
        self._rng = rng
        self._deliver = deliver
        self.faults = LinkFaults()
        self.cut: set[tuple[Hashable, Hashable]] = set()
        """Directed links that pass nothing."""
        self.counts: Counter[str] = Counter()
        """What became of messages, by fault."""
        self._sent = 0
        self._newest: dict[tuple[Hashable, Hashable], int] = {}

    def send(self, sender: Hashable, receiver: Hashable, message: object) -> None:
        """Put a message on the link; its fate is drawn now."""
        faults, rng = self.faults, self._rng
        if (sender, receiver) in self.cut:
            self.counts["messages cut off"] += 1
            return
        if rng.random() < faults.loss:
            self.counts["messages lost"] += 1
            return
        copies = 1
        if rng.random() < faults.duplicate:
            self.counts["messages duplicated"] += 1
            copies = 2
        self._sent += 1
        for _ in range(copies):
            delay_ms = faults.delay_min_ms + rng.expovariate(1 / faults.delay_mean_ms)
            if rng.random() < faults.clog:
                self.counts["messages held up"] += 1
                delay_ms += rng.random() * 1000
            self._scheduler.after(delay_ms, self._arrive, sender, receiver, message, self._sent)

    def _arrive(self, sender: Hashable, receiver: Hashable, message: object, order: int) -> None:
        link = (sender, receiver)
        if link in self.cut:
            self.counts["messages cut off"] += 1
            return
        if self._newest.get(link, 0) > order:
            self.counts["messages overtaken"] += 1
        else:
            self._newest[link] = order
        self._deliver(sender, receiver, message)

    def cut_link(self, a: Hashable, b: Hashable, *, one_way: bool) -> None:
        """Stop messages from `a` to `b`, and back unless `one_way`; what is on the way is lost too."""
        self.cut.add((a, b))
        if not one_way:
            self.cut.add((b, a))

    def heal(self) -> None:
        """No cuts and no faults from now on."""
        self.cut.clear()
        self.faults = LinkFaults()
