"""What makes a cluster even (`node.controller.state.plan`): any cluster, any sizes."""

from collections import Counter
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.controller.state.draining import begin
from node.controller.state.moves import reassign_partitions
from node.controller.state.plan import balanced, plan
from node.metadata.image import Broker, Image, Partition, Topic
from ottla.protocol.errors import ApiError
from ottla.v1 import admin_pb2 as admin
from ottla.v1 import data_pb2 as data
from tests.node.controller.support import Cluster
from tests.node.controller.test_moves import cluster_of, move

ID = b"t" * 16


def broker(node_id: int, rack: str = "", fenced: bool = False) -> Broker:
    return Broker(node_id, b"d" * 16, b"i" * 16, node_id, "h:1", "h:2", "h:3", rack=rack, fenced=fenced)


def image_of(racks: Sequence[str], assignments: Sequence[Sequence[int]], fenced: frozenset[int] = frozenset()) -> Image:
    """Nodes 1, 2, ..., each in its rack, and one topic."""
    partitions = tuple(
        Partition(ID, n, tuple(r), (b"d" * 16,) * len(r), isr=tuple(r), leader=r[0]) for n, r in enumerate(assignments)
    )
    brokers = {n: broker(n, rack, n in fenced) for n, rack in enumerate(racks, 1)}
    return Image(brokers=brokers, topics={ID: Topic(ID, "t", partitions=partitions)}, names={"t": ID})


def after(image: Image, moves: Sequence[admin.PartitionMove]) -> list[tuple[int, ...]]:
    targets = {m.partition.partition: tuple(m.replicas) for m in moves}
    return [targets.get(p.partition, p.replicas) for p in image.topics[ID].partitions]


def replicas_on(assignments: Sequence[Sequence[int]], nodes: Sequence[int]) -> list[int]:
    count = Counter(n for replicas in assignments for n in replicas)
    return [count[n] for n in nodes]


def leaders_on(assignments: Sequence[Sequence[int]], nodes: Sequence[int]) -> list[int]:
    count = Counter(replicas[0] for replicas in assignments)
    return [count[n] for n in nodes]


def racks_of(image: Image, replicas: Sequence[int]) -> list[int]:
    return sorted(Counter(image.brokers[n].rack for n in replicas).values())


@st.composite
def clusters(draw: st.DrawFn, racks: int = 1) -> tuple[Image, dict[tuple[bytes, int], int]]:
    """`racks` of equally many nodes; partitions anywhere, of one to as many replicas as there are nodes."""
    each = draw(st.integers(1, 6 if racks == 1 else 3))
    names = [f"r{n % racks}" if racks > 1 else "" for n in range(each * racks)]
    nodes = list(range(1, len(names) + 1))
    used = draw(st.integers(1, len(nodes)))
    factor = st.integers(1, min(used, 4))
    one = factor.flatmap(lambda k: st.permutations(nodes[:used]).map(lambda order: order[:k]))
    assignments = draw(st.lists(one, max_size=30))
    sizes = draw(st.lists(st.integers(0, 10**12), min_size=len(assignments), max_size=len(assignments)))
    return image_of(names, assignments), {(ID, n): size for n, size in enumerate(sizes)}


def check(image: Image, sizes: Mapping[tuple[bytes, int], int]) -> list[tuple[int, ...]]:
    """What every plan keeps to; where everything is then."""
    moves = plan(image, sizes)
    then = after(image, moves)
    for before, now in zip(image.topics[ID].partitions, then, strict=True):
        assert len(set(now)) == len(now) == len(before.replicas)
        assert set(now) <= image.brokers.keys()
        assert sum(n * n for n in racks_of(image, now)) <= sum(n * n for n in racks_of(image, before.replicas))
    assert all(m.reason for m in moves)
    assert plan(image_of([b.rack for b in image.brokers.values()], then), sizes) == [], "what is even stays"
    assert plan(image, sizes) == moves
    return then


@settings(max_examples=50, deadline=None)
@given(clusters())
def test_counts_differ_by_at_most_one(cluster: tuple[Image, dict[tuple[bytes, int], int]]) -> None:
    image, sizes = cluster
    then = check(image, sizes)
    nodes = sorted(image.brokers)
    for counts in (replicas_on(then, nodes), leaders_on(then, nodes)):
        assert max(counts) - min(counts) <= 1


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 3).flatmap(lambda racks: clusters(racks)))
def test_racks_come_first(cluster: tuple[Image, dict[tuple[bytes, int], int]]) -> None:
    image, sizes = cluster
    then = check(image, sizes)
    nodes = sorted(image.brokers)
    racks = len({b.rack for b in image.brokers.values()})
    for replicas in then:
        per_rack = racks_of(image, replicas)
        assert max(per_rack) - (min(per_rack) if len(per_rack) == racks else 0) <= 1
    counts = replicas_on(then, nodes)
    assert max(counts) - min(counts) <= 1


class TestExamples:
    def test_new_nodes_are_filled_with_no_move_too_many(self) -> None:
        """3 to 5 nodes: of 30 replicas each new node gets 6, and nothing else moves."""
        image = image_of([""] * 5, [[1 + n % 3, 1 + (n + 1) % 3, 1 + (n + 2) % 3] for n in range(10)])
        moves = plan(image, {})
        then = after(image, moves)
        assert replicas_on(then, range(1, 6)) == [6] * 5
        assert leaders_on(then, range(1, 6)) == [2] * 5
        before = image.topics[ID].partitions
        copied = sum(len(set(now) - set(p.replicas)) for now, p in zip(then, before, strict=True))
        assert copied == 12

    def test_the_smallest_go(self) -> None:
        image = image_of([""] * 2, [[1], [1], [1], [1]])
        moves = plan(image, {(ID, 0): 10**9, (ID, 1): 5, (ID, 2): 10**9, (ID, 3): 7})
        assert [(m.partition.partition, list(m.replicas)) for m in moves] == [(1, [2]), (3, [2])]
        assert moves[0].reason == "replicas: node 1 has 4, node 2 has 0"

    def test_another_order_is_enough_for_leaders(self) -> None:
        image = image_of([""] * 3, [[1, 2, 3]] * 3)
        then = after(image, plan(image, {}))
        assert [sorted(replicas) for replicas in then] == [[1, 2, 3]] * 3
        assert leaders_on(then, (1, 2, 3)) == [1, 1, 1]

    def test_two_replicas_in_a_rack_part(self) -> None:
        image = image_of(["a", "a", "b"], [[1, 2]])
        (only,) = plan(image, {})
        assert 3 in only.replicas
        assert "racks: more of it is in 'a' than in 'b'" in only.reason

    def test_a_rack_of_one_node_keeps_its_replicas(self) -> None:
        """Each partition needs its one replica there: it stays the fullest node."""
        image = image_of(["a", "b", "c", "c"], [[1, 2, 3]] * 4)
        then = after(image, plan(image, {}))
        assert replicas_on(then, (1, 2, 3, 4)) == [4, 4, 2, 2]

    def test_who_is_down_is_left_alone(self) -> None:
        image = image_of([""] * 4, [[1, 4], [2, 4], [3, 4], [1, 4]], fenced=frozenset([4]))
        then = after(image, plan(image, {}))
        assert all(4 in replicas for replicas in then)

    def test_no_node_is_live(self) -> None:
        assert plan(image_of([""] * 2, [[1], [1]], fenced=frozenset([1, 2])), {}) == []
        assert plan(Image.EMPTY, {}) == []

    def test_a_large_one_is_planned_in_pieces(self) -> None:
        image = image_of([""] * 6, [[1 + n % 3, 1 + (n + 1) % 3, 1 + (n + 2) % 3] for n in range(900)])
        then = after(image, plan(image, {}))
        for _ in range(3):
            image = image_of([""] * 6, then)
            then = after(image, plan(image, {}))
        assert set(replicas_on(then, range(1, 7))) == {450}


def asked(cluster: Cluster, **fields: object) -> admin.ReassignPartitionsRequest:
    return balanced(cluster.image, admin.ReassignPartitionsRequest(balance=True, **fields))  # type: ignore[arg-type]


class TestWithTheController:
    def test_its_moves_are_taken_and_counted_while_they_are_under_way(self) -> None:
        cluster = cluster_of(nodes=4)
        cluster.assign("t", [1, 2, 3], [1, 2, 3], [1, 2, 3], [1, 2, 3])
        answer = cluster.do(reassign_partitions, asked(cluster))
        assert not any(result.HasField("error") for result in answer.partitions)
        assert list(asked(cluster).partitions) == []
        for n, partition in enumerate(cluster.topic().partitions):
            for node_id in partition.adding:
                cluster.alter({*cluster.partition(n=n).isr, node_id}, n=n)
        assert list(asked(cluster).partitions) == []
        count = Counter(n for p in cluster.topic().partitions for n in p.replicas)
        assert set(count.values()) == {3}

    def test_what_moves_and_what_has_no_leader_stays(self) -> None:
        cluster = cluster_of(nodes=4)
        cluster.assign("t", [1, 2], [1, 2], [1, 2])
        cluster.assign("u", [1])
        move(cluster, 3, 2, n=0)
        cluster.dead(1)
        found = {(m.partition.topic, m.partition.partition) for m in asked(cluster).partitions}
        assert found == {("t", 1)}

    def test_nothing_goes_to_a_drained_node(self) -> None:
        cluster = cluster_of(nodes=3)
        cluster.assign("t", [1], [1], [1], [1])
        cluster.do(begin, 3)
        assert all(list(m.replicas) == [2] for m in asked(cluster).partitions)
        assert len(asked(cluster).partitions) == 2

    def test_names_nothing_else(self) -> None:
        cluster = cluster_of(nodes=3)
        with pytest.raises(ApiError, match="one of them"):
            asked(cluster, drain_node_id=1)
        with pytest.raises(ApiError, match="one of them"):
            asked(cluster, partitions=[admin.PartitionMove()])

    def test_sizes_by_name_of_what_is_not_there_and_below_nothing(self) -> None:
        cluster = cluster_of(nodes=2)
        cluster.assign("t", [1], [1])
        sizes = [
            admin.PartitionSize(partition=data.TopicPartition(topic="t", partition=0), bytes=9),
            admin.PartitionSize(partition=data.TopicPartition(topic="t", partition=1), bytes=-(2**63)),
            admin.PartitionSize(partition=data.TopicPartition(topic="u", partition=-1), bytes=1),
        ]
        (only,) = asked(cluster, sizes=sizes).partitions
        assert only.partition.partition == 1
        cluster.do(reassign_partitions, asked(cluster, sizes=sizes))
