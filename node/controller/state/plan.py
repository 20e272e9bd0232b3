"""What would make a cluster even, with the fewest moves and of those the smallest: `ottla cluster balance`.

Even is a cluster whose nodes have as many replicas as each other, and lead as many partitions, give or take one, as far
as the racks of each partition allow: these come first, and no move makes them worse. A plan is found step by step on a
copy of where everything is, and each step makes one thing more even: so it ends, and for what is even there is none.
"""

from bisect import bisect_left, insort
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from node.controller.state.draft import PartitionKey
from node.metadata.image import NO_LEADER, Image, Partition, Topic, is_draining
from ottla.protocol.errors import ApiError
from ottla.v1 import admin_pb2 as admin
from ottla.v1 import data_pb2 as data
from ottla.v1 import error_pb2 as pb

STEPS_MAX: Final = 1000
"""Of one plan: the next one goes on from there."""
Order = tuple[int, str, int, bytes]
"""Size, name and number of a partition, and its topic's id."""
Edge = Callable[[int, int], Order | None]


def balanced(image: Image, request: admin.ReassignPartitionsRequest) -> admin.ReassignPartitionsRequest:
    """The request that asks for balance, with the moves that make for it. Raises INVALID_REQUEST."""
    if request.partitions or request.HasField("drain_node_id"):
        raise ApiError(pb.ERROR_CODE_INVALID_REQUEST, "name partitions, a node to drain or balance: one of them")
    names = image.names
    sizes = {
        (size.partition.topic_id or names.get(size.partition.topic, b""), size.partition.partition): max(0, size.bytes)
        for size in request.sizes
    }
    return admin.ReassignPartitionsRequest(
        partitions=plan(image, sizes), validate_only=request.validate_only, timeout_ms=request.timeout_ms
    )


def plan(image: Image, sizes: Mapping[PartitionKey, int]) -> list[admin.PartitionMove]:
    """The moves, by topic and number, each with its reason. What moves already counts as there, and stays."""
    layout = _Layout(image, sizes)
    layout.spread_racks()
    while layout.even_replicas() | layout.even_leaders():
        pass
    moves = []
    for order, reasons in sorted(layout.reasons.items(), key=lambda item: item[0][1:3]):
        _, name, number, topic_id = order
        if layout.replicas[order] != layout.before[order]:
            ref = data.TopicPartition(topic=name, topic_id=topic_id, partition=number)
            reason = "; ".join(dict.fromkeys(reasons))[:300]
            moves.append(admin.PartitionMove(partition=ref, replicas=layout.replicas[order], reason=reason))
    return moves


class _Layout:
    """Where replicas are, and how many on each node that takes some. Only what does not move, is led and needs no
    recovery is touched, and only its replicas on those nodes."""

    def __init__(self, image: Image, sizes: Mapping[PartitionKey, int]) -> None:
        self.nodes = [b.node_id for b in image.live_brokers() if not is_draining(image, b.node_id)]
        self.racks = {node_id: broker.rack for node_id, broker in image.brokers.items()}
        self.count: Counter[int] = Counter()
        self.leads: Counter[int] = Counter()
        self.before: dict[Order, tuple[int, ...]] = {}
        self.replicas: dict[Order, tuple[int, ...]] = {}
        self.reasons: dict[Order, list[str]] = {}
        self.on: dict[int, list[Order]] = {node_id: [] for node_id in self.nodes}
        self.led: dict[int, list[Order]] = {node_id: [] for node_id in self.nodes}
        self.steps = 0
        for topic in image.all_topics():
            for partition in topic.partitions:
                self._add(topic, partition, sizes.get((topic.topic_id, partition.partition), 0))
        for some in (*self.on.values(), *self.led.values()):
            some.sort()

    def _add(self, topic: Topic, partition: Partition, size: int) -> None:
        there = partition.target or partition.replicas
        self.count.update(there)
        self.leads[there[0]] += 1
        if partition.target or partition.leader == NO_LEADER or partition.recovering:
            return
        order = (size, topic.name, partition.partition, topic.topic_id)
        self.before[order] = self.replicas[order] = there
        for node_id in there:
            if node_id in self.on:
                self.on[node_id].append(order)
        if there[0] in self.led:
            self.led[there[0]].append(order)

    # Steps

    def spread_racks(self) -> None:
        """Each partition by itself: a replica goes to a rack that has fewer of it, while that helps."""
        if len({self.racks[n] for n in self.nodes}) < 2:
            return
        for order in sorted(self.replicas):
            while step := self._to_other_rack(order):
                _, _, _, source, to = step
                here, there = self.racks[source], self.racks[to]
                self._move(order, source, to, f"racks: more of it is in {here!r} than in {there!r}")

    def _to_other_rack(self, order: Order) -> tuple[int, int, int, int, int] | None:
        """The best step, if one helps, and there are steps left."""
        there = self.replicas[order]
        now = self._spread(there)
        if now == len(there) or self.steps >= STEPS_MAX:
            return None
        found = [
            (after, self.count[to], -self.count[source], source, to)
            for source in there
            if source in self.on
            for to in self.nodes
            if to not in there and (after := self._spread(_replaced(there, source, to))) < now
        ]
        return min(found, default=None)

    def even_replicas(self) -> bool:
        """Whether anything moved."""
        reason = "replicas: node {} has {}, node {} has {}"
        return self._even(self.count, self._movable, self._move, reason)

    def even_leaders(self) -> bool:
        """First by another order of the replicas, which moves nothing; then by moves that go both ways."""
        reason = "leaders: node {} leads {}, node {} leads {}"
        reordered = self._even(self.leads, self._reorderable, self._reorder, reason)
        exchanged = False
        while self._exchange(reason):
            exchanged = True
        return reordered or exchanged

    def _even(self, count: Counter[int], edge: Edge, act: Callable[[Order, int, int, str], None], reason: str) -> bool:
        """From the node with the most, over as few others as possible, to one that has fewer by two at least."""
        acted = False
        while path := self._path(count, edge):
            nodes = [path[0][1], *(to for _, _, to in path)]
            why = reason.format(nodes[0], count[nodes[0]], nodes[-1], count[nodes[-1]])
            for _, source, to in path:
                order = edge(source, to)
                if order is None:
                    return acted  # an earlier step of the path has taken what this one needs
                act(order, source, to, why)
                acted = True
        return acted

    def _path(self, count: Counter[int], edge: Edge) -> list[tuple[Order, int, int]]:
        """The steps to make, none where nothing helps. From above the mean to below it, where that can be: those are
        needed anyway."""
        if self.steps >= STEPS_MAX or not self.nodes:
            return []
        total, many = sum(count[n] for n in self.nodes), len(self.nodes)
        by_count = sorted(self.nodes, key=lambda n: (-count[n], n))
        for strict in (True, False):
            for source in by_count:
                wanted = {
                    n
                    for n in self.nodes
                    if count[n] <= count[source] - 2 and (not strict or count[n] * many < total < count[source] * many)
                }
                if wanted and (found := self._shortest(source, wanted, count, edge)):
                    return found
        return []

    def _shortest(self, source: int, wanted: set[int], count: Counter[int], edge: Edge) -> list[tuple[Order, int, int]]:
        direct = [(order, count[to], to) for to in wanted if (order := edge(source, to)) is not None]
        if direct:
            order, _, to = min(direct, key=lambda each: (each[0][0], each[1], each[2]))
            return [(order, source, to)]
        came: dict[int, tuple[Order, int, int]] = {}
        due = deque([source])
        while due:
            here = due.popleft()
            for to in sorted(self.nodes, key=lambda n: (count[n], n)):
                if to == source or to in came or (order := edge(here, to)) is None:
                    continue
                came[to] = (order, here, to)
                if to in wanted:
                    steps = [came[to]]
                    while steps[0][1] != source:
                        steps.insert(0, came[steps[0][1]])
                    return steps
                due.append(to)
        return []

    def _exchange(self, reason: str) -> bool:
        """One leadership from the node that has the most to one that has fewer by two: with its replica, and another
        replica comes back for it."""
        for source in sorted(self.nodes, key=lambda n: (-self.leads[n], n)):
            for to in sorted(self.nodes, key=lambda n: (self.leads[n], n)):
                if self.leads[to] > self.leads[source] - 2 or self.steps >= STEPS_MAX:
                    break
                there = self._movable(source, to, lambda order, source=source: self.replicas[order][0] == source)  # type: ignore[misc]
                back = self._movable(to, source, lambda order, to=to: self.replicas[order][0] != to)  # type: ignore[misc]
                if there is not None and back is not None:
                    why = reason.format(source, self.leads[source], to, self.leads[to])
                    self._move(there, source, to, why)
                    self._move(back, to, source, why)
                    return True
        return False

    # What can be done, the smallest first

    def _movable(self, source: int, to: int, only: Callable[[Order], bool] = lambda _: True) -> Order | None:
        for order in self.on[source]:
            there = self.replicas[order]
            if to not in there and only(order) and self._spread(_replaced(there, source, to)) <= self._spread(there):
                return order
        return None

    def _reorderable(self, source: int, to: int) -> Order | None:
        return next((order for order in self.led[source] if to in self.replicas[order]), None)

    def _spread(self, replicas: Iterable[int]) -> int:
        """Less where they are spread over more racks."""
        return sum(n * n for n in Counter(self.racks.get(node_id, "") for node_id in replicas).values())

    # Doing it

    def _move(self, order: Order, source: int, to: int, why: str) -> None:
        if self.replicas[order][0] == source:
            self._lead(order, source, to)
        self.replicas[order] = _replaced(self.replicas[order], source, to)
        self.count[source] -= 1
        self.count[to] += 1
        _take(self.on[source], order)
        insort(self.on[to], order)
        self._note(order, why)

    def _reorder(self, order: Order, source: int, to: int, why: str) -> None:
        there = self.replicas[order]
        self._lead(order, source, to)
        self.replicas[order] = tuple(to if n == source else source if n == to else n for n in there)
        self._note(order, why)

    def _lead(self, order: Order, source: int, to: int) -> None:
        self.leads[source] -= 1
        self.leads[to] += 1
        _take(self.led[source], order)
        insort(self.led[to], order)

    def _note(self, order: Order, why: str) -> None:
        self.steps += 1
        self.reasons.setdefault(order, []).append(why)


def _replaced(replicas: tuple[int, ...], source: int, to: int) -> tuple[int, ...]:
    return tuple(to if n == source else n for n in replicas)


def _take(some: list[Order], order: Order) -> None:
    del some[bisect_left(some, order)]
