"""Feature levels with real processes: an upgrade node by node, `finalize`, and builds that come too late.

The newer build is a copy of the sources that supports one level of metadata.version more.
"""

import shutil
from pathlib import Path

import pytest

from ottla.client.errors import OttlaError
from ottla.sync import Admin, Consumer, Producer
from tests.cluster.harness import ROOT, LocalCluster, Node

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]

LEVELS = "FEATURES: Final = {METADATA_VERSION: (1, 8)}"
VERSION = "metadata.version"


@pytest.fixture
def newer(tmp_path: Path) -> Path:
    """The sources of the next build."""
    for package in ("node", "ottla", "raft", "storage"):
        shutil.copytree(ROOT / package, tmp_path / "newer" / package, ignore=shutil.ignore_patterns("__pycache__"))
    image = tmp_path / "newer/node/metadata/image.py"
    text = image.read_text()
    assert text.count(LEVELS) == 1
    image.write_text(text.replace(LEVELS, LEVELS.replace("(1, 8)", "(1, 9)")))
    return tmp_path / "newer"


def levels(cluster: LocalCluster) -> tuple[int, list[tuple[int, int, int]]]:
    with Admin(cluster.bootstrap) as admin:
        feature = admin.describe_features()[VERSION]
    return feature.level, [(node, it.lowest, it.highest) for node, it in sorted(feature.nodes.items())]


def restart(cluster: LocalCluster, node_id: int, sources: Path) -> None:
    assert cluster[node_id].stop() == 0, cluster.tail(node_id)
    cluster[node_id].sources = sources
    cluster.start([node_id]).wait_ready([node_id])


def assert_refuses_to_start(node: Node) -> None:
    """It ends, and says which feature, what the cluster is at, and what it supports."""
    before = len(node.log())
    node.start()
    assert node.process is not None
    assert node.process.wait(30) == 1
    said = next(line for line in node.log()[before:].splitlines() if "node_gives_up" in line)
    assert f"the cluster is at {VERSION} 9" in said
    assert "supports 1 to 8" in said
    assert f"a build that supports {VERSION} 9" in said
    assert "Traceback" not in node.log()[before:]


def test_an_upgrade_is_used_when_it_is_finalized_and_has_no_way_back(cluster: LocalCluster, newer: Path) -> None:
    cluster.start().wait_ready()
    cluster.create_topic("t")
    assert levels(cluster) == (1, [(1, 1, 8), (2, 1, 8), (3, 1, 8)])
    for upgraded, node_id in enumerate((1, 2, 3), 1):
        with Admin(cluster.bootstrap) as admin, pytest.raises(OttlaError, match="UNSUPPORTED_VERSION") as refused:
            admin.finalize_feature(VERSION, 9)
        assert [f"node {i} " in refused.value.message for i in (1, 2, 3)] == [i >= node_id for i in (1, 2, 3)]
        restart(cluster, node_id, newer)
        assert levels(cluster) == (1, [(i, 1, 9 if i <= upgraded else 8) for i in (1, 2, 3)])
    # The newer build works at the old level, and the older one may still come back.
    restart(cluster, 2, ROOT)
    restart(cluster, 2, newer)
    with Admin(cluster.bootstrap) as admin:
        assert admin.finalize_feature(validate_only=True).level == 9
        assert levels(cluster)[0] == 1
        done = admin.finalize_feature()
        assert (done.previous_level, done.level) == (1, 9)
        with pytest.raises(OttlaError, match="never taken back"):
            admin.finalize_feature(VERSION, 1)

    # A build that does not know the level: with a log that has it, and with none.
    assert cluster[3].stop() == 0
    cluster[3].sources = ROOT
    assert_refuses_to_start(cluster[3])
    assert_refuses_to_start(cluster.add_broker(4))
    cluster.create_topic("u", replicas=(1, 2))
    with Producer(cluster.bootstrap) as producer:
        producer.send("t", b"served").result(20)
    with Consumer("t", bootstrap=cluster.bootstrap) as consumer:
        assert [record.value for record in consumer.poll(timeout_ms=10_000)] == [b"served"]

    cluster[3].sources = newer
    cluster.start([3]).wait_ready([3])
    assert levels(cluster) == (9, [(i, 1, 9) for i in (1, 2, 3)])
