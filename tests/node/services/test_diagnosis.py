"""DescribeNode: what a node says of itself, what it keeps to itself, and what it says of one that is not there."""

from pathlib import Path

import pytest

from node.config import load
from node.services import diagnosis
from ottla.v1 import cluster_pb2, cluster_pb2_grpc
from ottla.v1 import error_pb2 as pb
from tests.node.services.planes import Planes


async def test_any_node_passes_it_on_and_one_that_is_not_there_is_an_answer(tmp_path: Path) -> None:
    async with Planes(tmp_path, nodes=2) as planes, planes.channel(1) as channel:
        stub = cluster_pb2_grpc.ClusterServiceStub(channel)
        for asked, answers in ((0, 1), (1, 1), (2, 2)):
            told = await stub.DescribeNode(cluster_pb2.DescribeNodeRequest(node_id=asked), timeout=10)
            assert (told.node_id, told.error.code) == (answers, 0)
            assert {each.name for each in told.files} >= {"process.json", "stacks.txt", "files.txt"}
        gone = await stub.DescribeNode(cluster_pb2.DescribeNodeRequest(node_id=9), timeout=10)
        assert (gone.error.code, len(gone.files)) == (pb.ERROR_CODE_LEADER_NOT_AVAILABLE, 0)


def test_secrets_are_blanked_and_everything_has_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load(None, ["node.id=1", f"data.dir={tmp_path}"], environ={})
    monkeypatch.setattr(diagnosis, "_SECRET", ("data.dir",))
    said = diagnosis.blanked(settings)
    assert (said["node.id"], said["data.dir"]) == (1, diagnosis.BLANK)
    monkeypatch.setattr(diagnosis, "FILES_MAX", 2)
    monkeypatch.setattr(diagnosis, "TEXT_MAX_BYTES", 9)
    for name in "abc":
        (tmp_path / name).write_text("line 1\nline 2\n")
    found = diagnosis.listed(str(tmp_path))
    assert (len(found.content.splitlines()), found.left_out) == (3, "all but the first 2 files")
    with (tmp_path / "a").open() as file:
        assert diagnosis.log_end(file.fileno()) == ("line 2\n", "what is older: 7 bytes")
