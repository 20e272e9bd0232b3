"""Feature levels: raised when every node supports it and somebody says so, and never taken back (KIP-584)."""

import pytest

from node.controller.state import brokers
from node.controller.state.features import describe_features, finalize_feature
from node.metadata.apply import apply
from node.metadata.image import FEATURES, METADATA_VERSION, Image
from ottla.internal.v1 import metadata_pb2 as records
from ottla.protocol.errors import ApiError
from ottla.v1 import admin_pb2 as admin
from tests.node.controller.support import CLUSTER, Cluster

NEWER = {"min_metadata_version": 1, "max_metadata_version": 3}


@pytest.fixture(autouse=True)
def newer_build(monkeypatch: pytest.MonkeyPatch) -> None:
    """The controller under test supports levels 1 to 3."""
    monkeypatch.setitem(FEATURES, METADATA_VERSION, (1, 3))


def finalize(cluster: Cluster, level: int = 0, **fields: object) -> admin.FinalizeFeatureResponse:
    request = admin.FinalizeFeatureRequest(name=METADATA_VERSION, level=level, **fields)  # type: ignore[arg-type]
    return cluster.do(finalize_feature, request)


def refusal(cluster: Cluster, level: int = 0, **fields: object) -> tuple[str, str]:
    before = cluster.index
    with pytest.raises(ApiError) as error:
        finalize(cluster, level, **fields)
    assert cluster.index == before
    return error.value.name, error.value.message


def upgraded(cluster: Cluster, *nodes: int) -> Cluster:
    for node_id in nodes:
        cluster.start(node_id, version="0.2.0", **NEWER)
    return cluster


def level(cluster: Cluster) -> int:
    return cluster.image.features[METADATA_VERSION]


def test_a_newer_build_runs_at_the_old_level_until_it_is_finalized() -> None:
    cluster = upgraded(Cluster(), 1, 2, 3)
    cluster.take_over()
    assert level(cluster) == 1
    answer = finalize(cluster)
    assert (answer.previous_level, answer.level) == (1, 3)
    assert level(cluster) == 3


def test_one_node_with_the_old_build_is_named_and_nothing_changes() -> None:
    cluster = upgraded(Cluster(), 1, 3)
    name, message = refusal(cluster)
    assert name == "UNSUPPORTED_VERSION"
    assert message == "metadata.version 3 is not supported by all: node 2 (build unknown) supports 1 to 1"


def test_a_node_that_is_down_counts_for_it_would_not_come_back() -> None:
    cluster = Cluster()
    cluster.dead(2)
    upgraded(cluster, 1, 3)
    assert "node 2 (build unknown, fenced) supports 1 to 1" in refusal(cluster)[1]
    upgraded(cluster, 2)
    assert finalize(cluster).level == 3


def test_a_level_in_between() -> None:
    cluster = upgraded(Cluster(), 1, 2, 3)
    assert finalize(cluster, 2).level == 2
    assert finalize(cluster, 3).previous_level == 2


def test_the_level_that_there_is_changes_nothing() -> None:
    cluster = upgraded(Cluster(), 1, 2, 3)
    finalize(cluster)
    index = cluster.index
    assert finalize(cluster).level == finalize(cluster, 3).level == 3
    assert cluster.index == index


def test_a_dry_run_changes_nothing_and_refuses_the_same() -> None:
    cluster = upgraded(Cluster(), 1, 2)
    assert refusal(cluster, validate_only=True) == refusal(cluster)
    upgraded(cluster, 3)
    answer = finalize(cluster, validate_only=True)
    assert (answer.previous_level, answer.level, level(cluster)) == (1, 3, 1)


def test_a_level_is_never_taken_back() -> None:
    cluster = upgraded(Cluster(), 1, 2, 3)
    finalize(cluster)
    assert refusal(cluster, 2) == (
        "INVALID_REQUEST",
        "the cluster is at metadata.version 3, and a level is never taken back",
    )
    assert refusal(cluster, -1)[0] == "INVALID_REQUEST"


def test_a_level_that_the_controller_itself_does_not_know(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = upgraded(Cluster(), 1, 2, 3)
    monkeypatch.setitem(FEATURES, METADATA_VERSION, (1, 2))
    assert refusal(cluster)[1].endswith("the active controller supports 1 to 2")


@pytest.mark.parametrize("name", ["", "share.version", "x" * 10**6])
def test_a_feature_that_nobody_knows(name: str) -> None:
    cluster = Cluster()
    with pytest.raises(ApiError) as error:
        cluster.do(finalize_feature, admin.FinalizeFeatureRequest(name=name, level=1))
    assert error.value.name == "UNSUPPORTED_VERSION"
    assert len(error.value.message) < 1000


def test_a_build_without_the_level_is_refused_from_then_on() -> None:
    cluster = upgraded(Cluster(), 1, 2, 3)
    finalize(cluster)
    with pytest.raises(ApiError) as error:
        cluster.do(brokers.register, cluster.registration(2), CLUSTER)
    assert error.value.name == "UNSUPPORTED_VERSION"
    assert error.value.message == (
        "the cluster is at metadata.version 3, broker 2 supports 1 to 1: "
        "start the node with a build that supports metadata.version 3"
    )


def test_what_the_nodes_support_is_shown_and_survives_snapshots() -> None:
    """`Cluster.do` compares each image with the one that comes out of its snapshot."""
    cluster = upgraded(Cluster(), 2)
    (shown,) = cluster.do(describe_features, admin.DescribeFeaturesRequest()).features
    assert (shown.name, shown.level) == (METADATA_VERSION, 1)
    assert [(n.node_id, n.min_level, n.max_level, n.version) for n in shown.nodes] == [
        (1, 1, 1, ""),
        (2, 1, 3, "0.2.0"),
        (3, 1, 1, ""),
    ]


def test_a_record_that_says_nothing_of_levels_means_the_first() -> None:
    record = records.MetadataRecord(register_broker=records.RegisterBrokerRecord(node_id=1, broker_epoch=1))
    image, _ = apply(Image.EMPTY, records.MetadataRecords(records=[record]), 1, 1)
    assert (image.brokers[1].min_metadata_version, image.brokers[1].max_metadata_version) == (1, 1)
