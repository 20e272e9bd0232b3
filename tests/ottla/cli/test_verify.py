"""`ottla verify` as a user runs it: a short run, a run that is stopped, and what it says to nonsense."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from ottla.cli.main import app
from ottla.verify.history import read_history

COMMAND = [sys.executable, "-m", "ottla.cli", "verify"]
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "OTTLA_BOOTSTRAP"}


# Generous: both end as soon as they are done, but a busy machine may take a minute to start three nodes.
@pytest.mark.cluster
@pytest.mark.timeout(300)
def test_a_short_run_passes_and_reports(tmp_path: Path) -> None:
    report, history = tmp_path / "report.html", tmp_path / "history.jsonl"
    options = [
        "--seconds",
        "6",
        "--faults",
        "kill,cut",
        "--rate",
        "150",
        "--hold",
        "3.5",
        "--seed",
        "1",
        "--lane",
        "both",
    ]
    done = subprocess.run(
        [*COMMAND, *options, "--json", "--report", str(report), "--history", str(history)],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    facts = json.loads(done.stdout)
    assert facts["ok"]
    assert facts["anomalies"] == facts["problems"] == []
    assert facts["acknowledged"] == facts["read"] > 100
    assert facts["replicas_compared"] == 18
    assert facts["faults"]
    page = report.read_text()
    assert len(page) < 200_000
    assert "PASS" in page
    assert page.count("<svg") == 3
    with history.open() as file:
        operations = list(read_history(file))
    assert len(operations) == facts["operations"]


@pytest.mark.cluster
@pytest.mark.timeout(300)
def test_ctrl_c_leaves_no_process_not_even_a_frozen_one(tmp_path: Path) -> None:
    command = [*COMMAND, "--faults", "pause", "--hold", "60", "--rate", "50", "--dir", str(tmp_path / "nodes")]
    run = subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)
    try:
        assert run.stderr is not None
        for line in run.stderr:
            if "pause: node" in line:
                break
        children = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
        assert len(children) >= 3
        run.send_signal(signal.SIGINT)
        assert run.wait(30) == 130
        assert [pid for pid in children if Path(f"/proc/{pid}").exists()] == []
    finally:
        run.kill()
        run.communicate()


def test_who_lacks_a_client_of_kafka_is_told_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)
    done = CliRunner().invoke(app, ["verify", "--lane", "kafka"])
    assert done.exit_code == 1
    assert "pip install confluent-kafka" in str(done.exception) + done.output


def test_the_faults_are_explained() -> None:
    done = CliRunner().invoke(app, ["verify", "--faults", "list"])
    assert done.exit_code == 0
    for fault in ("kill", "pause", "cut", "one-way", "link", "disk-full", "wipe"):
        assert f"\n{fault} " in done.output


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--faults", "meteor"], "meteor"),
        (["--nodes", "2"], "--nodes 2"),
        (["--seconds", "0"], "--seconds 0"),
        (["--target", "moon"], "--target moon"),
        (["--lane", "moon"], "--lane moon"),
        (["--rate", "-1"], "--rate -1"),
        (["--target", "compose", "--compose-file", "nowhere.yaml"], "nowhere.yaml"),
        (["--dir", "/proc"], "/proc"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_nonsense_is_refused_before_anything_starts(options: list[str], said: str) -> None:
    done = subprocess.run(
        [*COMMAND, *options], env=ENVIRONMENT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert done.stdout == ""
    first, second = done.stderr.splitlines()
    assert first.startswith("error: INVALID_CONFIG: ")
    assert said in first
    assert second.startswith("next: ")
