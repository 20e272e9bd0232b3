"""Whether a wall clock may say what is old."""

from pathlib import Path

from node.broker.clock import AHEAD_MAX_MS, ClusterClock
from tests.node.broker.cluster import batch, running, until

HOUR_MS = 3_600_000


class Times:
    """A node's two clocks."""

    wall_ms = HOUR_MS
    clock_ms = 0

    def cluster_clock(self, *, alone: bool = False) -> ClusterClock:
        return ClusterClock(lambda: self.wall_ms, lambda: self.clock_ms, lambda: alone)


def test_a_jump_shows_before_the_controller_says_anything() -> None:
    times = Times()
    clock = times.cluster_clock()
    assert clock.ahead_ms() is None
    assert clock.now_ms() is None
    assert not clock.look()
    clock.told(10, HOUR_MS, 0)
    times.wall_ms, times.clock_ms = HOUR_MS + 500, 500
    assert clock.ahead_ms() == 10
    assert clock.look()
    times.wall_ms = 3 * HOUR_MS
    assert clock.ahead_ms() == 2 * HOUR_MS - 490
    assert not clock.look()
    assert clock.now_ms() == HOUR_MS + 490
    times.wall_ms = 10
    assert clock.now_ms() == 10, "by a clock that is behind nothing is old too early"


def test_nothing_is_stamped_with_a_time_before_the_clusters() -> None:
    times = Times()
    clock = times.cluster_clock()
    assert clock.stamp_ms() == HOUR_MS, "as long as that is not known"
    clock.told(-100, HOUR_MS, 0)
    assert clock.stamp_ms() == HOUR_MS + 100
    times.wall_ms, times.clock_ms = 0, 5
    assert clock.stamp_ms() == HOUR_MS + 105
    times.wall_ms = 3 * HOUR_MS
    assert clock.stamp_ms() == 3 * HOUR_MS


def test_a_node_that_is_alone_compares_with_its_start() -> None:
    times = Times()
    clock = times.cluster_clock(alone=True)
    times.wall_ms, times.clock_ms = 3 * HOUR_MS, 10
    clock.told(0, 3 * HOUR_MS, 10)
    assert clock.ahead_ms() == 2 * HOUR_MS - 10


async def test_a_leader_two_hours_ahead_deletes_no_young_records_anywhere(tmp_path: Path) -> None:
    async with running(tmp_path) as cluster:
        cluster.create([1, 2, 3], retention_ms=str(HOUR_MS))
        now_ms = cluster.nodes[1].broker.wall_ms()
        brokers = [cluster.nodes[n].broker for n in (1, 2, 3)]
        await cluster.produce(1, batch(b"a", base_timestamp=now_ms, max_timestamp=now_ms))
        await until(lambda: cluster.mark(2) == cluster.mark(3) == 1)
        leader = brokers[0]
        leader.wall_skew_ms = lambda: 2 * HOUR_MS
        for broker in brokers:
            broker._housekeeping._retain()
        assert [cluster.log(n).log_start_offset for n in (1, 2, 3)] == [0, 0, 0]
        assert not leader.clock.trusted

        # All clocks of the cluster agree that the time has come: the records go.
        for broker in brokers:
            broker.wall_skew_ms = lambda: 2 * HOUR_MS
            broker.clock.told(AHEAD_MAX_MS // 2, broker.wall_ms(), broker.clock_ms())
        leader._housekeeping._retain()
        assert leader.clock.trusted
        assert cluster.log(1).log_start_offset == 1
        brokers[1]._housekeeping._retain()
        await cluster.produce(1, batch(b"b"))
        assert [cluster.log(n).log_start_offset for n in (2, 3)] == [1, 0], "not on the leader's word alone"
