"""How a group's partitions are shared out: `uniform` (sticky, counts differ by at most one) and `range`. Pure.

An assignor works in steps, some milliseconds each, so that the largest groups hold nobody up (`Shares`).
"""

import heapq
from collections.abc import Callable, Generator, Mapping
from typing import Final

TopicPartition = tuple[bytes, int]
"""(topic id, partition number)."""

Assignment = dict[str, frozenset[TopicPartition]]
Steps = Generator[None, None, Assignment]
Assignor = Callable[
    [Mapping[str, frozenset[bytes]], Mapping[bytes, int], Mapping[str, frozenset[TopicPartition]]], Steps
]
"""(topic ids each member wants, partition count per topic, what each member has now) -> what each member shall have.
The maps must not change meanwhile."""
KEPT_A_STEP: Final = 1_000
MOVED_A_STEP: Final = 100


class Shares:
    """An assignor at work."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps
        self._result: Assignment | None = None

    def go_on(self, steps: int) -> Assignment | None:
        """Takes so many further steps. Returns what they led to, once the last was taken."""
        for _ in range(steps):
            if self._result is None:
                try:
                    next(self._steps)
                except StopIteration as end:
                    self._result = end.value
        return self._result


def uniform(
    wanted: Mapping[str, frozenset[bytes]],
    counts: Mapping[bytes, int],
    current: Mapping[str, frozenset[TopicPartition]],
) -> Steps:
    """Keeps what members have, gives the rest to those with the least, then evens out with as few moves as needed.

    Where all members want the same topics, counts differ by at most one and the moves are minimal (KIP-848's uniform
    assignor). Where they want different ones, no single move could make it more even.
    """
    owned: dict[str, set[TopicPartition]] = {}
    taken: set[TopicPartition] = set()
    seen = 0
    for member in sorted(wanted):
        kept = {
            tp
            for tp in current.get(member, frozenset())
            if tp[0] in wanted[member] and tp[1] < counts.get(tp[0], 0) and tp not in taken
        }
        owned[member] = kept
        taken |= kept
        seen += 1 + len(kept)
        if seen >= KEPT_A_STEP:
            seen = 0
            yield
    loads = _Loads(wanted, owned)
    free = [
        (topic, number) for topic in sorted(counts) for number in range(counts[topic]) if (topic, number) not in taken
    ]
    for given, tp in enumerate(free, 1):
        if (taker := loads.least(tp[0])) is not None:
            loads.give(taker, tp)
        if given % MOVED_A_STEP == 0:
            yield
    while (yield from loads.even_out()):
        pass
    return {member: frozenset(partitions) for member, partitions in owned.items()}


class _Loads:
    """How much each member has. Members that want the same are one class, and stand in one heap: some microseconds a
    step, whatever the number of members. An entry of a heap counts while its load is the member's."""

    def __init__(self, wanted: Mapping[str, frozenset[bytes]], owned: dict[str, set[TopicPartition]]) -> None:
        self._wanted = wanted
        self._owned = owned
        self._stocks: dict[str, dict[bytes, list[int]]] = {}
        self._classes: dict[frozenset[bytes], list[tuple[int, str]]] = {}
        for member, topics in wanted.items():
            self._classes.setdefault(topics, []).append((len(owned[member]), member))
        for heap in self._classes.values():
            heapq.heapify(heap)

    def least(self, topic: bytes) -> str | None:
        """Of those who want the topic, the one with the least; the first by name."""
        tops = [self._top(heap) for topics, heap in self._classes.items() if topic in topics]
        return min(tops)[1] if tops else None

    def _top(self, heap: list[tuple[int, str]]) -> tuple[int, str]:
        while heap[0][0] != len(self._owned[heap[0][1]]):
            heapq.heappop(heap)
        return heap[0]

    def give(self, taker: str, tp: TopicPartition) -> None:
        self._owned[taker].add(tp)
        self._stocks.pop(taker, None)
        self._changed(taker)

    def _changed(self, member: str) -> None:
        heapq.heappush(self._classes[self._wanted[member]], (len(self._owned[member]), member))

    def even_out(self) -> Generator[None, None, bool]:
        """Moves one partition after the other from those with the most, while a receiver has at least two less.
        False: there was none to move."""
        givers = [(-len(partitions), member) for member, partitions in self._owned.items()]
        heapq.heapify(givers)
        moved_any = False
        looked = 0
        while givers:
            looked += 1
            if looked % MOVED_A_STEP == 0:
                yield
            load, giver = heapq.heappop(givers)
            if -load != len(self._owned[giver]):
                continue
            if -load - min(self._top(heap) for heap in self._classes.values())[0] < 2:
                break  # nor has anybody after it
            taker = self._move_from(giver)
            if taker is not None:
                moved_any = True
                for member in (giver, taker):
                    heapq.heappush(givers, (-len(self._owned[member]), member))
        return moved_any

    def _move_from(self, giver: str) -> str | None:
        """Moves one of the giver's partitions to who has the least of those who want it; returns who that is."""
        load = len(self._owned[giver])
        takers = sorted(
            (top, topics) for topics, heap in self._classes.items() if load - (top := self._top(heap))[0] >= 2
        )
        for (_, taker), topics in takers:
            movable = self._pick(giver, topics)
            if movable is not None:
                self._owned[giver].remove(movable)
                self.give(taker, movable)
                self._changed(giver)
                return taker
        return None

    def _pick(self, giver: str, topics: frozenset[bytes]) -> TopicPartition | None:
        """The last of the giver's partitions in these topics; it is taken off its stock."""
        stock = self._stocks.get(giver)
        if stock is None:
            stock = self._stocks[giver] = {}
            for topic, partition in sorted(self._owned[giver]):
                stock.setdefault(topic, []).append(partition)
        movable = stock.keys() & topics
        if not movable:
            return None
        topic = max(movable)
        partition = stock[topic].pop()
        if not stock[topic]:
            del stock[topic]
        return topic, partition


def range_(
    wanted: Mapping[str, frozenset[bytes]],
    counts: Mapping[bytes, int],
    current: Mapping[str, frozenset[TopicPartition]],
) -> Steps:
    """Per topic, contiguous runs of partitions for the members in order, so that equal numbers meet at one member."""
    owned: dict[str, set[TopicPartition]] = {member: set() for member in sorted(wanted)}
    seen = 0
    for topic, count in sorted(counts.items()):
        members = [member for member in owned if topic in wanted[member]]
        start = 0
        for place, member in enumerate(members):
            run = count // len(members) + (place < count % len(members))
            owned[member].update((topic, partition) for partition in range(start, start + run))
            start += run
        seen += len(owned) + count
        if seen >= KEPT_A_STEP:
            seen = 0
            yield
    return {member: frozenset(partitions) for member, partitions in owned.items()}


ASSIGNORS: Final[Mapping[str, Assignor]] = {"uniform": uniform, "range": range_}
