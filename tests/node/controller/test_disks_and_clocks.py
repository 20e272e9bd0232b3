"""What brokers say of their disks and clocks in heartbeats, and what follows from it."""

import pytest

from node.controller.state.leaders import balance
from tests.node.controller.support import Cluster


def of(cluster: Cluster, name: str = "t") -> tuple[int, tuple[int, ...], tuple[int, ...]]:
    partition = cluster.partition(name)
    return partition.leader, partition.isr, partition.elr


class TestFullDisks:
    def test_a_full_follower_leaves_the_isr(self) -> None:
        cluster = Cluster()
        cluster.assign("t", [1, 2, 3])
        cluster.beat(3, disk_full=True)
        assert of(cluster) == (1, (1, 2), ())

    def test_a_full_leader_hands_over_and_takes_back_when_it_is_in_sync_with_room(self) -> None:
        cluster = Cluster()
        cluster.assign("t", [1, 2, 3])
        cluster.beat(1, disk_full=True)
        assert of(cluster) == (2, (2, 3), ())
        cluster.beat(1)
        assert of(cluster) == (2, (2, 3), ()), "it comes back by fetching"
        cluster.alter([1, 2, 3])
        cluster.do(balance)
        cluster.wait(6000, 1, 2, 3)
        cluster.do(balance)
        assert of(cluster) == (1, (1, 2, 3), ())

    def test_nobody_leaves_where_too_few_would_be_left(self) -> None:
        cluster = Cluster()
        cluster.assign("t", [1, 2, 3])
        cluster.beat(2, disk_full=True)
        cluster.beat(3, disk_full=True)
        assert of(cluster) == (1, (1, 3), ()), "the leader refuses producers now, and nothing is lost of what it has"
        cluster.dead(1)
        assert cluster.partition().leader == 3, "full, and still the only one that has everything"

    def test_who_had_to_stay_leaves_when_another_one_has_room_again(self) -> None:
        cluster = Cluster()
        for node_id in (2, 3):
            cluster.beat(node_id, disk_full=True)
        cluster.assign("t", [1, 2, 3])
        assert of(cluster) == (1, (1, 2, 3), ())
        cluster.beat(3)
        assert of(cluster) == (1, (1, 3), ())

    def test_a_full_replica_does_not_join(self) -> None:
        cluster = Cluster()
        cluster.assign("t", [1, 2, 3])
        cluster.beat(3, disk_full=True)
        cluster.alter([1, 2, 3])
        assert of(cluster) == (1, (1, 2), ())

    def test_a_single_replica_stays(self) -> None:
        cluster = Cluster()
        cluster.assign("t", [1])
        cluster.beat(1, disk_full=True)
        assert of(cluster) == (1, (1,), ())

    def test_a_topic_made_meanwhile_begins_without_the_full_one(self) -> None:
        cluster = Cluster()
        cluster.beat(1, disk_full=True)
        cluster.assign("t", [1, 2, 3])
        assert of(cluster) == (2, (2, 3), ())


class TestClocks:
    def ahead(self, *clocks_ms: int) -> list[int | None]:
        """What each broker is told, after all of them were heard."""
        cluster = Cluster(len(clocks_ms))
        answers = []
        for _ in range(2):
            answers = [
                cluster.beat(node_id, wall_ms=10**12 + cluster.now_ms + clock_ms)
                for node_id, clock_ms in enumerate(clocks_ms, 1)
            ]
        return [a.clock_ahead_ms if a.HasField("clock_ahead_ms") else None for a in answers]

    @pytest.mark.parametrize(
        ("clocks", "told"),
        [
            ((0,), [0]),
            ((0, 0, 0), [0, 0, 0]),
            ((7_200_000, 0, 5), [7_199_995, -5, 0]),
            ((7_200_000, 0), [7_200_000, 0]),
            ((0, 0, 7_200_000, 7_200_000), [0, 0, 7_200_000, 7_200_000]),
            ((-7_200_000, 0, 0), [-7_200_000, 0, 0]),
        ],
    )
    def test_a_clock_is_compared_with_the_middle_one(self, clocks: tuple[int, ...], told: list[int]) -> None:
        assert self.ahead(*clocks) == told

    def test_nothing_is_said_before_most_brokers_were_heard(self) -> None:
        cluster = Cluster()
        assert not cluster.beat(1, wall_ms=10**12).HasField("clock_ahead_ms")
        assert cluster.beat(2, wall_ms=10**12).clock_ahead_ms == 0
        assert not cluster.beat(3).HasField("clock_ahead_ms"), "it did not say what its clock shows"
