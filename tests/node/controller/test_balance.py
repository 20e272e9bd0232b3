"""Leadership goes back to the preferred replica by itself: soon, not at once, a few at a time (features R10)."""

from node.controller.state.draft import ControllerSettings
from node.controller.state.leaders import balance
from node.controller.state.resource_configs import alter_configs
from ottla.v1 import admin_pb2 as admin
from tests.node.controller.support import Cluster


def restarted(partitions: int = 6, **settings: int) -> Cluster:
    """1 restarted and is in sync again everywhere, but leads nothing."""
    cluster = Cluster(settings=ControllerSettings(**settings))
    cluster.assign("t", *[[1, 2, 3]] * partitions)
    cluster.start(1)
    for n in range(partitions):
        cluster.alter([1, 2, 3], n=n)
    return cluster


def led_by_1(cluster: Cluster) -> int:
    return sum(p.leader == 1 for p in cluster.topic().partitions)


def pass_time(cluster: Cluster, ms: int) -> None:
    for _ in range(ms // 1000):
        cluster.wait(1000, 1, 2, 3)
        cluster.do(balance)


def test_preferred_leaders_return_five_seconds_after_they_are_in_sync() -> None:
    cluster = restarted()
    cluster.do(balance)
    pass_time(cluster, 4000)
    assert led_by_1(cluster) == 0
    pass_time(cluster, 1000)
    assert led_by_1(cluster) == 6
    assert "preferred replica in sync for 5.0 s" in cluster.last_records()[0].partition_change.cause


def test_moves_are_limited() -> None:
    cluster = restarted(partitions=10, rebalance_moves_max=4)
    cluster.do(balance)
    pass_time(cluster, 5000)
    assert led_by_1(cluster) == 4
    pass_time(cluster, 1000)
    assert led_by_1(cluster) == 8
    pass_time(cluster, 1000)
    assert led_by_1(cluster) == 10


def test_leaving_the_isr_starts_the_wait_again() -> None:
    cluster = restarted(partitions=1)
    cluster.do(balance)
    pass_time(cluster, 4000)
    cluster.alter([2, 3])
    pass_time(cluster, 1000)
    cluster.alter([1, 2, 3])
    pass_time(cluster, 4000)
    assert led_by_1(cluster) == 0
    pass_time(cluster, 2000)
    assert led_by_1(cluster) == 1


def test_a_balanced_cluster_writes_nothing() -> None:
    cluster = Cluster()
    cluster.create(partitions=9)
    before = cluster.index
    pass_time(cluster, 20_000)
    assert cluster.index == before


def test_it_can_be_turned_off_at_run_time() -> None:
    cluster = restarted()
    change = admin.ResourceConfigChanges(
        resource=admin.ConfigResource(type=admin.CONFIG_RESOURCE_TYPE_BROKER),
        changes=[admin.ConfigChange(key="auto.leader.rebalance.enable", value="false")],
    )
    cluster.do(alter_configs, admin.AlterConfigsRequest(resources=[change]))
    pass_time(cluster, 10_000)
    assert led_by_1(cluster) == 0
