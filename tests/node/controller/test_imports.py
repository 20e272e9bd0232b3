"""Topics that an import fills: what is checked before, and the one record that opens them (invariants.md 1, 48)."""

from typing import Any

import pytest

from node.controller.state import topics
from node.controller.state.features import finalize_feature
from node.controller.state.imports import complete_import
from node.metadata.apply import from_snapshot, snapshot_bytes
from node.metadata.image import METADATA_VERSION
from ottla.protocol.errors import ApiError
from ottla.v1 import admin_pb2 as admin
from tests.node.controller.support import Cluster, Newer, code

IMPORT = b"the import's id."


@pytest.fixture
def cluster() -> Cluster:
    made = Newer()
    made.do(finalize_feature, admin.FinalizeFeatureRequest(name=METADATA_VERSION))
    return made


def begin(cluster: Cluster, partitions: int = 2, **fields: Any) -> admin.CreateTopicResult:
    given = {"import_id": IMPORT, "first_offsets": [7, 0], "producer_ids_end": 5000}
    wish = admin.NewTopic(name="t", num_partitions=partitions, importing=admin.TopicImport(**(given | fields)))
    return cluster.do(topics.create_topics, admin.CreateTopicsRequest(topics=[wish])).topics[0]


def test_a_topic_is_opened_once_by_its_own_import(cluster: Cluster) -> None:
    topic_id = begin(cluster).topic_id
    assert (cluster.topic().import_id, cluster.topic().first_offsets) == (IMPORT, (7, 0))
    assert cluster.image.next_producer_id == 5000
    grow = admin.CreatePartitionsRequest(topics=[admin.GrowTopic(name="t", total_count=3)])
    assert "being imported" in cluster.do(topics.create_partitions, grow).topics[0].error.message
    with pytest.raises(ApiError, match="is filled by import"):
        cluster.do(complete_import, admin.CompleteImportRequest(topic_id=topic_id, import_id=b"o" * 16))
    request = admin.CompleteImportRequest(topic_id=topic_id, import_id=IMPORT)
    request.validate_only = True
    cluster.do(complete_import, request)
    assert cluster.topic().import_id
    kept = from_snapshot(snapshot_bytes(cluster.image), 1, 1)
    assert kept.topics[topic_id] == cluster.topic(), "a snapshot has it, too"
    request.validate_only = False
    for _ in range(2):
        cluster.do(complete_import, request)
    assert (cluster.topic().import_id, cluster.topic().first_offsets) == (b"", ())
    with pytest.raises(ApiError, match="there is no topic"):
        cluster.do(complete_import, admin.CompleteImportRequest(topic_id=b"n" * 16, import_id=IMPORT))


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"import_id": b"short"}, "16 bytes"),
        ({"first_offsets": [1]}, "first offsets of 1"),
        ({"first_offsets": [-1, 0]}, "0 to 2^62 - 1"),
        ({"producer_ids_end": 2**62}, "0 to 2^62 - 1"),
    ],
)
def test_an_import_that_nobody_could_carry_out_is_refused(cluster: Cluster, fields: dict[str, Any], why: str) -> None:
    assert why in begin(cluster, **fields).error.message
    assert cluster.image.topic_named("t") is None


def test_it_waits_for_its_level() -> None:
    assert code(begin(Newer()).error) == "UNSUPPORTED_VERSION"
