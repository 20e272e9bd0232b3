"""`ottla topic export` and `import` on real nodes: what comes back is what was there, byte for byte."""

from pathlib import Path
from typing import Any

import pytest

from ottla.cli import archive, transfer
from ottla.cli.failure import Failure
from ottla.protocol.batch import ATTR_IMPORTED
from tests.ottla.cli.conftest import Here

pytestmark = [pytest.mark.cluster, pytest.mark.xdist_group("cli-cluster")]


def batches(file: Path) -> list[tuple[Any, ...]]:
    """All that an import keeps of each batch."""
    found: list[tuple[Any, ...]] = []
    for number, data in archive.slices(file, archive.read(file)):
        for batch in archive.batches_of(data):
            kept = batch.header._replace(leader_epoch=0, attributes=batch.header.attributes & ~ATTR_IMPORTED)
            found.append((number, kept, bytes(batch.payload(data)[1])))
    return found


def test_a_topic_comes_back_as_it_was_and_not_before_it_is_whole(
    here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.lines("cluster", "finalize")
    here.lines("topic", "create", "taken", "--partitions", "3", "--config", "retention.ms=-1")
    lines = tmp_path / "lines"
    for number, count in ((0, 30), (1, 7)):
        lines.write_text("".join(f"{number}-{i}\n" for i in range(count)))
        for _ in range(2):
            here.lines("produce", "taken", str(lines), "--partition", str(number), "--compression", "zstd")
    here.lines("topic", "trim", "taken", "--partition", "0", "--before", "31", "--yes")
    file, again = tmp_path / "taken.ottla", tmp_path / "again.ottla"
    told = here.answer("topic", "export", "taken", str(file))
    assert [(p["start_offset"], p["end_offset"]) for p in told["partitions"]] == [(31, 60), (0, 14), (0, 0)]
    assert here.refused("topic", "export", "taken", str(file))["code"] == "FILE_EXISTS"
    assert here.refused("topic", "import", str(file))["code"] == "TOPIC_ALREADY_EXISTS"
    bring = ("topic", "import", str(file), "--topic", "brought")
    here.lines(*bring, "--dry-run")

    done = transfer._append

    async def cut_off(*arguments: Any) -> int:
        await done(*arguments)
        raise Failure("CUT_OFF", "as by a kill -9", "run it again")

    with monkeypatch.context() as patch:
        patch.setattr(transfer, "_append", cut_off)
        assert here.refused(*bring)["code"] == "CUT_OFF"
    assert here.answer("topic", "describe", "brought")["importing"]
    assert here.refused("topic", "export", "brought", str(again))["code"] == "IMPORT_INCOMPLETE"
    assert here.answer(*bring)["partitions"] == told["partitions"]
    assert here.refused(*bring)["code"] == "TOPIC_ALREADY_EXISTS"
    shown = here.answer("topic", "describe", "brought")
    assert not shown["importing"]
    assert shown["configs"]["retention.ms"] == {"value": "-1", "source": "topic"}
    assert here.answer("topic", "export", "brought", str(again))["partitions"] == told["partitions"]
    assert batches(file) == batches(again)
    assert here.lines("consume", "brought", "--partition", "1", "--to-end", "--from-beginning")[:2] == ["1-0", "1-1"]
    for name in ("taken", "brought"):
        here.lines("topic", "delete", name, "--yes")
