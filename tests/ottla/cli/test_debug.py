"""`ottla debug bundle` on real nodes."""

import json
import zipfile
from pathlib import Path

import pytest

from ottla.cli.local import LocalCluster
from tests.ottla.cli.conftest import Here

pytestmark = [pytest.mark.cluster, pytest.mark.xdist_group("cli-cluster")]


def test_a_bundle_has_what_explains_a_fault(here: Here, cluster: LocalCluster, tmp_path: Path) -> None:
    here.lines("topic", "create", "bundled")
    file = tmp_path / "one.zip"
    told = here.answer("debug", "bundle", "-o", str(file))
    assert here.refused("debug", "bundle", "-o", str(file))["code"] == "FILE_EXISTS"
    here.lines("topic", "delete", "bundled", "--yes")
    with zipfile.ZipFile(file) as bundle:
        names = set(bundle.namelist())
        assert told["texts"] == len(names)
        for each in ("process.json", "settings.json", "stacks.txt", "metrics.txt", "files.txt", "log.txt"):
            assert {f"nodes/{node}/{each}" for node in (1, 2, 3)} <= names
        assert {"bundle.json", "cluster/quorum.json", "topics/bundled.json", "groups/groups.json"} <= names
        read = {name: bundle.read(name).decode() for name in names}
    assert "bundled" in json.loads(read["cluster/metadata.json"])["topics"]
    assert json.loads(read["nodes/2/settings.json"])["node.id"] == 2
    assert "thread MainThread" in read["nodes/1/stacks.txt"]
    assert "ottla_event_loop_lag_seconds" in read["nodes/3/metrics.txt"]
    assert "event=starting" in read["nodes/1/log.txt"]
    assert "checkpoint" in read["nodes/1/files.txt"]
    assert json.loads(read["bundle.json"])["left_out"] == told["left_out"] == []
