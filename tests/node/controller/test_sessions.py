"""The keys of sessions: when the controller draws one."""

import pytest

from node.controller.state import sessions
from node.controller.state.features import finalize_feature
from node.metadata.image import METADATA_VERSION
from ottla.v1 import admin_pb2 as admin
from tests.node.controller.support import Cluster


def drawn(cluster: Cluster) -> list[int]:
    cluster.do(sessions.draw_key)
    return [key.id for key in cluster.image.session_keys]


@pytest.fixture
def cluster() -> Cluster:
    made = Cluster(nodes=0)
    for node_id in (1, 2, 3):
        made.start(node_id, max_metadata_version=3)
    return made


def test_there_are_keys_from_the_level_on_that_knows_them(cluster: Cluster) -> None:
    cluster.do(finalize_feature, admin.FinalizeFeatureRequest(name=METADATA_VERSION, level=2))
    assert drawn(cluster) == []
    cluster.do(finalize_feature, admin.FinalizeFeatureRequest(name=METADATA_VERSION, level=3))
    assert drawn(cluster) == [1]
    assert len(cluster.image.session_keys[0].key) == 32


def test_each_key_signs_for_a_day_whoever_is_controller(cluster: Cluster) -> None:
    cluster.do(finalize_feature, admin.FinalizeFeatureRequest(name=METADATA_VERSION, level=3))
    seen = []
    for _ in range(3):
        seen.append(drawn(cluster))
        cluster.now_ms += sessions.KEY_LIFE_MS - 1
        assert drawn(cluster) == seen[-1]
        cluster.now_ms += 1
    assert seen == [[1], [1, 2], [2, 3]]
    keys = {key.key for key in cluster.image.session_keys}
    assert len(keys) == 2
    cluster.take_over()
    assert drawn(cluster) == [2, 3], "a new controller does not know how old the key is"
    cluster.now_ms += sessions.KEY_LIFE_MS
    assert drawn(cluster) == [3, 4]
