"""Whether a wall clock may say what is old."""

from pathlib import Path

from node.broker.clock import AHEAD_MAX_MS, ClusterClock
from tests.node.broker.cluster import batch, running, until

HOUR_MS = 3_600_000


def test_a_jump_shows_before_the_controller_says_anything() -> None:
    clock = ClusterClock(HOUR_MS, 0)
    assert clock.ahead_ms(HOUR_MS, 0, alone=False) is None
    clock.told(10, HOUR_MS, 0)
    assert clock.ahead_ms(HOUR_MS + 500, 500, alone=False) == 10
    assert clock.ahead_ms(3 * HOUR_MS, 500, alone=False) == 2 * HOUR_MS - 490


def test_a_node_that_is_alone_compares_with_its_start() -> None:
    clock = ClusterClock(HOUR_MS, 0)
    clock.told(0, 3 * HOUR_MS, 10)
    assert clock.ahead_ms(3 * HOUR_MS, 10, alone=True) == 2 * HOUR_MS - 10


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
        assert not leader.clock_trusted

        # All clocks of the cluster agree that the time has come: the records go.
        for broker in brokers:
            broker.wall_skew_ms = lambda: 2 * HOUR_MS
            broker.clock_compared(AHEAD_MAX_MS, broker.wall_ms(), broker.clock_ms())
        leader._housekeeping._retain()
        assert leader.clock_trusted
        assert cluster.log(1).log_start_offset == 1
        brokers[1]._housekeeping._retain()
        await cluster.produce(1, batch(b"b"))
        assert [cluster.log(n).log_start_offset for n in (2, 3)] == [1, 0], "not on the leader's word alone"
