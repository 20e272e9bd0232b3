"""Replicas of a node that is gone for long are rebuilt elsewhere, once (invariants.md 1, 40)."""

from typing import Any

import pytest

from node.controller.state.draft import ControllerSettings
from node.controller.state.draining import begin
from node.controller.state.heal import AT_ONCE, heal
from node.controller.state.resource_configs import alter_configs
from node.metadata.image import NO_LEADER
from ottla.v1 import admin_pb2 as admin
from tests.node.controller.support import Cluster
from tests.node.controller.test_moves import cluster_of, joins, move, state

AFTER_MS = 15 * 60_000


def passes(cluster: Cluster, ms: int, *up: int) -> None:
    """Time, with a look at its end; the others are down."""
    cluster.do(heal)
    cluster.now_ms += ms
    cluster.soft.last_tick_ms = cluster.now_ms
    for node_id in up or cluster.live():
        cluster.beat(node_id)
    cluster.do(heal)


def gone(node_id: int, nodes: int = 5, **fields: Any) -> Cluster:
    cluster = cluster_of(nodes=nodes, **fields)
    cluster.assign("t", [1, 2, 3])
    cluster.dead(node_id)
    return cluster


class TestWhatIsGoneForLong:
    @pytest.mark.parametrize("node_id", [1, 3])
    def test_is_rebuilt_when_its_time_has_come_and_not_before(self, node_id: int) -> None:
        cluster = gone(node_id)
        passes(cluster, AFTER_MS - 1)
        assert cluster.partition().target == ()
        passes(cluster, 1)
        p = cluster.partition()
        assert p.target == tuple(4 if n == node_id else n for n in (1, 2, 3))
        assert f"node {node_id} is gone for 900 s: its replica is rebuilt on 4" in _cause(cluster)
        joins(cluster, 4)
        assert set(cluster.partition().replicas) == {1, 2, 3, 4} - {node_id}
        before = cluster.index
        passes(cluster, 10 * AFTER_MS)
        assert cluster.index == before

    def test_goes_to_its_rack(self) -> None:
        cluster = cluster_of(nodes=6, racks=["a", "b", "c", "a", "b", "c"])
        cluster.assign("t", [1, 2, 3], [1, 2, 3], [1, 5, 6])
        cluster.dead(2)
        passes(cluster, AFTER_MS)
        assert [p.target for p in cluster.topic().partitions] == [(1, 5, 3), (1, 5, 3), ()]

    def test_of_two_each_goes_somewhere_else(self) -> None:
        cluster = gone(2)
        cluster.dead(3)
        passes(cluster, AFTER_MS)
        assert sorted(cluster.partition().target) == [1, 4, 5]

    def test_of_two_one_is_rebuilt_where_there_is_room_for_one(self) -> None:
        cluster = gone(2, nodes=4)
        cluster.dead(3)
        passes(cluster, AFTER_MS)
        assert cluster.partition().target in ((1, 4, 3), (1, 2, 4))
        cluster.start(5)
        cluster.do(heal)
        assert sorted(cluster.partition().target) == [1, 4, 5]

    def test_is_left_alone_where_nobody_can_take_it(self) -> None:
        cluster = gone(3, nodes=3)
        passes(cluster, AFTER_MS)
        assert cluster.partition().target == ()
        cluster.start(4)
        cluster.do(heal)
        assert cluster.partition().target == (1, 2, 4)

    def test_nothing_goes_to_who_is_drained_or_full(self) -> None:
        cluster = gone(3)
        cluster.do(begin, 4)
        passes(cluster, AFTER_MS)
        assert cluster.partition().target == (1, 2, 5)
        cluster = gone(3, settings=ControllerSettings(max_partitions_per_node=1))
        cluster.assign("u", [4])
        cluster.assign("v", [5])
        passes(cluster, AFTER_MS)
        assert cluster.partition().target == ()

    def test_many_partitions_are_begun_in_turns(self) -> None:
        cluster = cluster_of(nodes=4)
        cluster.assign("t", *[[1, 2, 3]] * (AT_ONCE + 10))
        cluster.dead(3)
        passes(cluster, AFTER_MS)
        assert sum(bool(p.target) for p in cluster.topic().partitions) == AT_ONCE
        cluster.do(heal)
        assert all(p.target == (1, 2, 4) for p in cluster.topic().partitions)

    def test_without_a_leader_there_is_nothing_to_rebuild_from(self) -> None:
        cluster = cluster_of(nodes=4)
        cluster.assign("t", [1])
        cluster.dead(1)
        passes(cluster, AFTER_MS)
        assert (cluster.partition().leader, cluster.partition().target) == (NO_LEADER, ())

    def test_who_may_be_needed_as_a_leader_does_not_leave(self) -> None:
        """3 left last, below min ISR: it has all that is acknowledged, and 1 alone is in sync."""
        cluster = cluster_of(nodes=5)
        cluster.assign("t", [1, 2, 3], min_insync_replicas="3")
        cluster.dead(2)
        cluster.dead(3)
        passes(cluster, AFTER_MS)
        joins(cluster, *sorted(set(cluster.partition().target) - {1})[:1])
        assert set(cluster.partition().replicas) >= {1, 2, 3}


class TestItIsBack:
    def test_in_time_and_nothing_moves(self) -> None:
        cluster = gone(3)
        passes(cluster, AFTER_MS - 1000)
        cluster.start(3)
        before = cluster.index
        passes(cluster, AFTER_MS, 1, 2, 3, 4, 5)
        assert cluster.index == before
        cluster.dead(3)
        passes(cluster, AFTER_MS - 1)
        assert cluster.partition().target == (), "its time begins anew"

    def test_the_plan_is_called_off_once_it_is_in_sync(self) -> None:
        cluster = gone(3)
        passes(cluster, AFTER_MS)
        cluster.start(3)
        cluster.do(heal)
        assert cluster.partition().target == (1, 2, 4), "not yet"
        joins(cluster, 3)
        cluster.do(heal)
        assert state(cluster.partition()) == ((1, 2, 3), (1, 2, 3), 1)
        assert "in sync again" in _cause(cluster)
        before = cluster.index
        passes(cluster, AFTER_MS, 1, 2, 3, 4, 5)
        assert cluster.index == before

    def test_after_its_replica_was_rebuilt_it_stays_without(self) -> None:
        cluster = gone(3)
        passes(cluster, AFTER_MS)
        joins(cluster, 4)
        cluster.start(3)
        passes(cluster, AFTER_MS, 1, 2, 3, 4, 5)
        assert cluster.partition().replicas == (1, 2, 4)

    def test_one_of_two_keeps_the_plan_for_the_other(self) -> None:
        cluster = cluster_of(nodes=5)
        cluster.assign("t", [1, 2, 3], min_insync_replicas="1")
        cluster.dead(2)
        cluster.dead(3)
        passes(cluster, AFTER_MS)
        target = cluster.partition().target
        cluster.start(2)
        joins(cluster, 2)
        cluster.do(heal)
        p = cluster.partition()
        assert (p.target[:2], p.target[2]) == ((1, 2), target[2])

    def test_who_was_to_get_it_is_gone_too_and_another_one_does(self) -> None:
        cluster = gone(3)
        passes(cluster, AFTER_MS)
        cluster.dead(4)
        passes(cluster, AFTER_MS)
        assert cluster.partition().target == (1, 2, 5)


class TestPlansOfOthers:
    def test_are_not_touched(self) -> None:
        cluster = gone(3)
        move(cluster, 1, 2, 5)
        passes(cluster, AFTER_MS)
        assert cluster.partition().target == (1, 2, 5)
        move(cluster, 5, 2, 3)
        passes(cluster, AFTER_MS)
        assert cluster.partition().target == (5, 2, 3)

    def test_replace_it_and_are_not_called_off_with_it(self) -> None:
        cluster = gone(3)
        passes(cluster, AFTER_MS)
        move(cluster, 1, 2, 5)
        cluster.start(3)
        joins(cluster, 3)
        cluster.do(heal)
        assert cluster.partition().target == (1, 2, 5)

    def test_called_off_by_an_operator_it_is_not_begun_again_for_the_same_reason(self) -> None:
        cluster = gone(3)
        passes(cluster, AFTER_MS)
        move(cluster, cancel=True)
        passes(cluster, 2 * AFTER_MS)
        assert cluster.partition().target == ()
        cluster.start(3)
        passes(cluster, 1000, 1, 2, 3, 4, 5)
        cluster.dead(3)
        passes(cluster, AFTER_MS)
        assert cluster.partition().target == (1, 2, 4)

    def test_a_new_controller_lets_it_go_on_and_counts_anew(self) -> None:
        cluster = gone(3)
        passes(cluster, AFTER_MS)
        cluster.take_over()
        passes(cluster, AFTER_MS)
        assert cluster.partition().target == (1, 2, 4)
        joins(cluster, 4)
        assert cluster.partition().replicas == (1, 2, 4)


class TestTheNextController:
    """From `metadata.version` 8 on it goes on counting, by the cluster's clock (its own may be any)."""

    WALL_MS = 1_700_000_000_000

    def passes(self, cluster: Cluster, ms: int, uptime_ms: int = 0) -> None:
        """As `passes`; nodes say what time it is. `uptime_ms`: how much less the monotonic clock of this one says."""
        cluster.now_ms += ms
        cluster.soft.last_tick_ms = cluster.now_ms
        for node_id in cluster.live():
            cluster.beat(node_id, wall_ms=self.WALL_MS + cluster.now_ms + uptime_ms)
        cluster.do(heal)

    def since_ms(self, cluster: Cluster, node_id: int = 3) -> int:
        return cluster.image.brokers[node_id].fenced_since_ms

    @pytest.mark.parametrize(("level", "waits_ms"), [(8, AFTER_MS // 2), (7, AFTER_MS)])
    def test_goes_on_counting(self, level: int, waits_ms: int) -> None:
        cluster = gone(3, level=level)
        self.passes(cluster, 0)
        died_ms = cluster.now_ms + self.WALL_MS
        assert self.since_ms(cluster) == (died_ms if level == 8 else 0)
        self.passes(cluster, AFTER_MS // 2)
        cluster.now_ms -= 500_000  # another node's monotonic clock
        cluster.take_over()
        self.passes(cluster, 0, 500_000)
        cluster.register(3)
        self.passes(cluster, waits_ms - 1, 500_000)
        assert cluster.partition().target == ()
        self.passes(cluster, 1, 500_000)
        assert cluster.partition().target == (1, 2, 4)
        assert self.since_ms(cluster) == (died_ms if level == 8 else 0)

    def test_counts_anew_for_who_was_back(self) -> None:
        cluster = gone(3, level=8)
        self.passes(cluster, 0)
        cluster.start(3)
        assert self.since_ms(cluster) == 0
        cluster.dead(3)
        self.passes(cluster, AFTER_MS)
        assert self.since_ms(cluster) == cluster.now_ms + self.WALL_MS

    def test_leaves_alone_what_somebody_called_off_for_as_long_again(self) -> None:
        cluster = gone(3, level=8)
        self.passes(cluster, 0)
        self.passes(cluster, AFTER_MS)
        move(cluster, cancel=True)
        self.passes(cluster, 1000)
        cluster.take_over()
        self.passes(cluster, AFTER_MS - 1)
        assert cluster.partition().target == ()

    def test_where_few_have_said_what_time_it_is_nothing_is_written(self) -> None:
        cluster = gone(3, level=8)
        cluster.do(heal)
        assert self.since_ms(cluster) == 0
        passes(cluster, AFTER_MS)
        assert cluster.partition().target == (1, 2, 4)


class TestTheSetting:
    def set(self, cluster: Cluster, value: str) -> None:
        change = admin.ResourceConfigChanges(
            resource=admin.ConfigResource(type=admin.CONFIG_RESOURCE_TYPE_BROKER),
            changes=[admin.ConfigChange(key="replica.heal.after.ms", value=value)],
        )
        cluster.do(alter_configs, admin.AlterConfigsRequest(resources=[change]))

    def test_another_time(self) -> None:
        cluster = gone(3)
        self.set(cluster, "5000")
        passes(cluster, 5000)
        assert cluster.partition().target == (1, 2, 4)

    def test_never(self) -> None:
        cluster = gone(3)
        self.set(cluster, "0")
        passes(cluster, 100 * AFTER_MS)
        assert cluster.partition().target == ()

    def test_not_below_the_level_of_moves(self) -> None:
        cluster = gone(3, level=4)
        passes(cluster, AFTER_MS)
        assert cluster.partition().target == ()


def _cause(cluster: Cluster) -> str:
    return next(r.partition_change.cause for r in cluster.last_records() if r.HasField("partition_change"))
