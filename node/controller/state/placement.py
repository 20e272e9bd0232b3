"""Which brokers get a partition's replicas: leaders in turn, racks apart, loads even."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from node.controller.state.draft import Draft
from node.metadata.image import Broker, MetadataView
from ottla.protocol.errors import ApiError
from ottla.protocol.invariant import InvariantError
from ottla.v1 import admin_pb2 as admin
from ottla.v1 import error_pb2 as pb


class Load(NamedTuple):
    """Per broker: preferred leaderships and replicas."""

    leaders: Counter[int]
    replicas: Counter[int]

    @classmethod
    def of(cls, view: MetadataView) -> "Load":
        load = cls(Counter(), Counter())
        for topic in view.all_topics():
            for partition in topic.partitions:
                load.add(partition.replicas)
        return load

    def add(self, replicas: Sequence[int]) -> None:
        self.leaders[replicas[0]] += 1
        self.replicas.update(replicas)


def place(
    brokers: Sequence[Broker], count: int, replication_factor: int, load: Load, first_partition: int = 0
) -> list[tuple[int, ...]]:
    """Replicas for `count` new partitions on live brokers, the preferred leader first; adds them to `load`.

    No broker leads more than ceil(count / brokers) of them. Followers go to racks and brokers that have the fewest.
    `first_partition` only shifts where the turn starts, so that a topic that grows goes on where it stood.
    """
    if not 1 <= replication_factor <= len(brokers):
        raise InvariantError(f"{replication_factor} replicas on {len(brokers)} brokers")
    turn = sorted(brokers, key=lambda b: (load.leaders[b.node_id], load.replicas[b.node_id], b.node_id))
    placed = []
    for i in range(count):
        # Of equals, another one in each round, so that the followers of one leader spread.
        shift = (i + first_partition) // len(turn)
        replicas = add_followers((turn[i % len(turn)].node_id,), turn, replication_factor, load, shift)
        load.add(replicas)
        placed.append(replicas)
    return placed


def add_followers(
    replicas: tuple[int, ...], brokers: Sequence[Broker], replication_factor: int, load: Load, shift: int = 0
) -> tuple[int, ...]:
    """`replicas` and as many more as are needed, each on the rack, then the broker, that has the fewest."""
    racks = {broker.node_id: broker.rack for broker in brokers}
    order = [broker.node_id for broker in brokers]
    start = order.index(replicas[0]) + 1 + shift if replicas and replicas[0] in racks else shift
    while len(replicas) < replication_factor:
        used = Counter(racks.get(n) for n in replicas)
        best = min(
            (n for n in order if n not in replicas),
            key=lambda n: (used[racks[n]], load.replicas[n], (order.index(n) - start) % len(order)),
        )
        replicas = (*replicas, best)
    return replicas


def check_racks(brokers: Iterable[Broker]) -> None:
    """All live brokers have a rack or none has. Raises INVALID_REPLICATION_FACTOR naming those without."""
    without = [b.node_id for b in brokers if not b.rack]
    if without and any(b.rack for b in brokers):
        raise ApiError(
            pb.ERROR_CODE_INVALID_REPLICATION_FACTOR,
            f"brokers {', '.join(map(str, without))} have no broker.rack while others have one: set it on all or none",
        )


def check_assignments(
    draft: Draft, assignments: Sequence[admin.ReplicaAssignment], first: int, replication_factor: int | None
) -> list[tuple[int, ...]]:
    """A manual assignment for partitions `first`, `first` + 1, ..., in order. Raises INVALID_REPLICA_ASSIGNMENT."""

    def refuse(why: str) -> ApiError:
        return ApiError(pb.ERROR_CODE_INVALID_REPLICA_ASSIGNMENT, why)

    by_number: Mapping[int, tuple[int, ...]] = {a.partition: tuple(a.replicas) for a in assignments}
    expected = range(first, first + len(assignments))
    if sorted(by_number) != list(expected):
        raise refuse(f"partitions {sorted(a.partition for a in assignments)[:10]} are named, {expected} are needed")
    live = {broker.node_id for broker in draft.live_brokers()}
    for number in expected:
        replicas = by_number[number]
        if not replicas or len(set(replicas)) != len(replicas):
            raise refuse(f"partition {number}: {list(replicas)} is empty or names a broker twice")
        if not set(replicas) <= live:
            raise refuse(f"partition {number}: {sorted(set(replicas) - live)} are not live, {sorted(live)} are")
        drained = [n for n in replicas if draft.draining(n)]
        if drained:
            raise refuse(f"partition {number}: {drained} are drained and get nothing new")
        if len(replicas) != (replication_factor or len(by_number[first])):
            raise refuse(f"partition {number} has {len(replicas)} replicas, the others have another number")
    return [by_number[number] for number in expected]


def check_partition_limit(draft: Draft, load: Load, placed: Iterable[tuple[int, ...]]) -> None:
    """Raises POLICY_VIOLATION where a broker would get more replicas than `max.partitions.per.node`, or than it said
    that it can carry."""
    added = Counter(n for replicas in placed for n in replicas)
    for node_id, more in sorted(added.items()):
        limit, reason = draft.settings.max_partitions_per_node, "max.partitions.per.node is {}"
        broker = draft.view.brokers.get(node_id)
        carries = 0 if broker is None else broker.max_partitions
        if 0 < carries < limit:
            limit, reason = carries, "its file descriptors are enough for {}: raise `ulimit -n` there, or add nodes"
        if load.replicas[node_id] + more > limit:
            raise ApiError(
                pb.ERROR_CODE_POLICY_VIOLATION,
                f"broker {node_id} has {load.replicas[node_id]} partitions and would get {more} more, "
                + reason.format(limit),
            )
