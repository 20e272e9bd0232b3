"""A node leaves for good, and never comes back with what it had (invariants.md 1, 41)."""

import pytest

from node.controller.state import brokers
from node.controller.state.draining import begin
from node.controller.state.features import finalize_feature
from node.controller.state.resource_configs import alter_configs
from node.controller.state.unregister import unregister_broker
from node.metadata.image import UNREGISTERED
from ottla.protocol.errors import ApiError
from ottla.v1 import admin_pb2 as admin
from tests.node.controller.support import Cluster, code, directory
from tests.node.controller.test_moves import cluster_of, move


def unregister(cluster: Cluster, node_id: int, **fields: object) -> None:
    request = admin.UnregisterBrokerRequest(node_id=node_id, **fields)  # type: ignore[arg-type]
    cluster.do(unregister_broker, request)


def refused(cluster: Cluster, node_id: int) -> ApiError:
    before = cluster.index
    with pytest.raises(ApiError) as error:
        unregister(cluster, node_id)
    assert cluster.index == before
    return error.value


def test_a_dead_node_without_replicas_goes_with_its_configs() -> None:
    cluster = cluster_of(nodes=4)
    cluster.assign("t", [1, 2, 3])
    cluster.do(begin, 4)
    change = admin.ResourceConfigChanges(
        resource=admin.ConfigResource(type=admin.CONFIG_RESOURCE_TYPE_BROKER, name="4"),
        changes=[admin.ConfigChange(key="log.retention.ms", value="1000")],
    )
    cluster.do(alter_configs, admin.AlterConfigsRequest(resources=[change]))
    cluster.dead(4)
    unregister(cluster, 4)
    assert sorted(cluster.image.brokers) == [1, 2, 3]
    assert dict(cluster.image.broker_configs["4"]) == {UNREGISTERED: directory(4).hex()}
    assert code(refused(cluster, 4).to_proto()) == "BROKER_ID_NOT_REGISTERED"


def test_who_holds_or_is_to_get_a_replica_stays() -> None:
    cluster = cluster_of(nodes=5)
    cluster.assign("t", *[[1, 2, 3]] * 7)
    cluster.dead(3)
    error = refused(cluster, 3)
    assert "replicas of t-0, t-1, t-2, t-3, t-4 and 2 more" in error.message
    assert "ottla node decommission 3" in error.next_step
    move(cluster, 1, 2, 4)
    cluster.dead(4)
    assert "t-0" in refused(cluster, 4).message


def test_who_is_up_must_be_drained() -> None:
    cluster = cluster_of(nodes=4)
    assert "node 4 is up" in refused(cluster, 4).message
    cluster.do(begin, 4)
    unregister(cluster, 4)
    with pytest.raises(ApiError, match="not registered"):
        cluster.beat(4)


def test_validate_only_changes_nothing() -> None:
    cluster = cluster_of(nodes=4)
    cluster.dead(4)
    before = cluster.index
    unregister(cluster, 4, validate_only=True)
    assert cluster.index == before


def test_it_does_not_come_back_with_its_directory_and_does_with_another() -> None:
    cluster = cluster_of(nodes=4)
    cluster.dead(4)
    unregister(cluster, 4)
    cluster.take_over()
    with pytest.raises(ApiError, match="node 4 was unregistered") as error:
        cluster.register(4)
    assert code(error.value.to_proto()) == "INVALID_REGISTRATION"
    assert "data directory away" in error.value.to_proto().message
    cluster.start(4, directory_id=directory(4, 1))
    assert 4 in cluster.live()
    cluster.dead(4)
    unregister(cluster, 4)
    for disk in (0, 1):
        with pytest.raises(ApiError, match="was unregistered"):
            cluster.register(4, directory_id=directory(4, disk))
    cluster.start(4, directory_id=directory(4, 2))
    assert not cluster.image.brokers[4].fenced


def test_another_node_may_have_any_directory() -> None:
    cluster = cluster_of(nodes=3)
    cluster.dead(3)
    unregister(cluster, 3)
    cluster.start(5, directory_id=directory(3))
    assert 5 in cluster.live()


def test_the_next_level_waits_for_it_no_longer() -> None:
    cluster = Cluster(nodes=3)
    for node_id in (1, 2):
        cluster.start(node_id, max_metadata_version=5)
    cluster.dead(3)
    ask = admin.FinalizeFeatureRequest(name="metadata.version", level=5)
    with pytest.raises(ApiError, match="node 3"):
        cluster.do(finalize_feature, ask)
    unregister(cluster, 3)
    assert cluster.do(finalize_feature, ask).level == 5


def test_time_and_late_verdicts_about_it_pass() -> None:
    cluster = cluster_of(nodes=4)
    cluster.assign("t", [1, 2, 3])
    cluster.dead(4)
    unregister(cluster, 4)
    cluster.do(brokers.declare_dead, 4)
    cluster.wait(10_000, 1, 2, 3)
    cluster.take_over(dead=[4])
    assert cluster.live() == [1, 2, 3]
