"""Looking at topics, groups and the cluster of real nodes, and changing them."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from ottla.cli.local import LocalCluster
from tests.ottla.cli.conftest import Here, environment

pytestmark = [pytest.mark.cluster, pytest.mark.xdist_group("cli-cluster")]


@pytest.fixture
def orders(here: Here, tmp_path: Path) -> str:
    """A topic of ten records in partition 1 of 2."""
    name = f"orders-{tmp_path.name}"
    here.lines("topic", "create", name, "--partitions", "2")
    file = tmp_path / "ten"
    file.write_text("".join(f"{i}\n" for i in range(10)))
    here.lines("produce", name, str(file), "--partition", "1")
    return name


def test_offsets_and_a_topic_s_oldest_records(here: Here, orders: str) -> None:
    def bounds() -> list[tuple[int, int]]:
        shown = here.answer("topic", "describe", orders)["partitions"]
        return [(each["start_offset"], each["end_offset"]) for each in shown]

    assert bounds() == [(0, 0), (0, 10)]
    assert "2 partitions, 10 records" in here.lines("topic", "describe", orders)[0]
    sizes = [each["size_bytes"] for each in here.answer("topic", "describe", orders)["partitions"]]
    assert sizes[0] == 0 < sizes[1] < 10_000
    assert here.lines("topic", "describe", orders)[-1].endswith(f"{sizes[1]} B")
    trim = ("topic", "trim", orders, "--partition", "1", "--before", "4")
    assert here.answer(*trim, "--dry-run")["partitions"] == [{"partition": 1, "old_start": 0, "new_start": 4}]
    assert bounds() == [(0, 0), (0, 10)]
    here.lines(*trim, "--yes")
    assert bounds() == [(0, 0), (4, 10)]
    assert here.refused("topic", "trim", orders, "-p", "1", "--before", "11")["code"] == "OFFSET_OUT_OF_RANGE"
    assert here.refused("topic", "trim", orders, "-p", "7", "--before", "1")["code"] == "UNKNOWN_TOPIC_OR_PARTITION"
    assert here.answer("topic", "trim", orders, "--before-time", "1h")["partitions"] == []
    here.lines("topic", "trim", orders, "--all", "--yes")
    assert bounds() == [(0, 0), (10, 10)]


def test_positions_of_a_group_that_is_yet_to_be(here: Here, orders: str, tmp_path: Path) -> None:
    group = f"of-{orders}"
    assert here.refused("group", "reset", group, "--to-earliest")["code"] == "GROUP_ID_NOT_FOUND"
    start = ("group", "reset", group, "--topic", f"{orders}:1", "--to-offset", "7")
    planned = here.answer(*start)
    assert planned["partitions"] == [{"topic": orders, "partition": 1, "old_offset": None, "new_offset": 7}]
    assert here.refused("group", "describe", group)["code"] == "GROUP_ID_NOT_FOUND"
    here.lines(*start, "--execute")
    listed = {each["group"]: each for each in here.answer("group", "list")}
    assert listed[group]["lag_records"] == 3
    assert here.lines("consume", orders, "--group", group, "--to-end") == ["7", "8", "9"]

    plan = tmp_path / "plan.json"
    plan.write_text("\n".join(here.lines("group", "reset", group, "--shift-by", "-5", "--json")))
    here.lines("group", "reset", group, "--plan", str(plan), "--execute")
    assert here.answer("group", "describe", group)["partitions"][-1]["committed_offset"] == 5
    plan.write_text(f'"{orders}",1,11\n')
    assert here.refused("group", "reset", group, "--plan", str(plan), "--execute")["code"] == "OFFSET_OUT_OF_RANGE"
    assert here.refused("group", "reset", group, "--topic", f"{orders}:5", "--to-latest")["message"].startswith(orders)
    assert here.lines("group", "reset", group, "--to-time", "1h")[-1].startswith("Nothing was changed")


def test_a_setting_s_value_alone(here: Here, orders: str) -> None:
    here.lines("config", "set", "retention.ms=7d", "--topic", orders)
    assert here.lines("config", "get", "retention.ms", "flush", "--topic", orders) == ["604800000", "replica"]
    assert here.answer("config", "get", "retention.ms", "--topic", orders) == {"retention.ms": "604800000"}
    assert "retention.ms" in here.refused("config", "get", "retention.mss", "--topic", orders)["message"]


def test_settings(here: Here, orders: str) -> None:
    changed = here.answer("config", "set", "retention.ms=7d", "segment.bytes=64MiB", "--topic", orders)["changes"]
    assert [each["after"] for each in changed] == ["604800000", "67108864"]
    shown = here.answer("config", "describe", "--topic", orders, "--key", "segment.bytes")
    assert [(each["value"], each["source"]) for each in shown] == [("67108864", "topic")]
    here.lines("config", "unset", "segment.bytes", "--topic", orders)
    here.lines("config", "set", "num.partitions=4", "--all-brokers", "--dry-run")
    assert here.answer("config", "describe", "--broker", "1", "--key", "num.partitions")[0]["value"] != "4"
    assert "retention.ms?" in here.refused("config", "set", "retenton.ms=1d", "--topic", orders)["message"]
    assert "num.partitions?" in here.refused("config", "set", "num.partition=1", "--all-brokers")["message"]
    assert "flush?" in here.refused("config", "describe", "--topic", orders, "--key", "flsh")["message"]


def test_health_and_watching(here: Here, cluster: LocalCluster) -> None:
    assert here.lines("cluster", "health", "--wait", "20s") == ["healthy"]
    assert here.answer("cluster", "health") == {"healthy": True, "problems": []}
    with subprocess.Popen(
        [sys.executable, "-m", "ottla.cli", "group", "list", "--watch", "100ms", "--json"],
        stdout=subprocess.PIPE,
        text=True,
        env=environment(cluster.bootstrap),
    ) as watching:
        assert watching.stdout is not None
        assert [isinstance(json.loads(watching.stdout.readline()), list) for _ in range(2)] == [True, True]
        watching.terminate()
    assert watching.returncode == 143


@pytest.mark.parametrize("settings", [{"TERM": "xterm"}, {"TERM": "xterm", "NO_COLOR": "1"}], ids=["colours", "none"])
def test_colours_on_a_terminal_unless_somebody_says_no(cluster: LocalCluster, settings: dict[str, str]) -> None:
    terminal, end = pty.openpty()
    shown = subprocess.run(
        [sys.executable, "-m", "ottla.cli", "cluster", "status"],
        stdout=end,
        env={**environment(cluster.bootstrap), **settings},
        timeout=30,
        check=True,
    )
    os.close(end)
    text = os.read(terminal, 100_000).decode()
    os.close(terminal)
    assert shown.returncode == 0
    assert ("\x1b[32mup\x1b[0m" in text) is ("NO_COLOR" not in settings)
    assert ("\x1b" in text) is ("NO_COLOR" not in settings)
