"""Fixed seeds of the cluster simulation; thousands more with `python -m tests.sim.cluster_sim --seeds 0:5000`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sim import cluster_sim
from tests.sim.cluster_loop import Violation
from tests.sim.cluster_mutants import BUGS, ROOT, Bug, plant
from tests.sim.cluster_sim import quiet, run_seed


@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", [2, 4, 5, 8])
def test_no_promise_is_broken(seed: int) -> None:
    quiet()
    assert run_seed(seed).counts["acknowledged"] > 0


@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", [303, 309])
def test_no_promise_is_broken_while_partitions_move(seed: int) -> None:
    quiet()
    counts = run_seed(seed, moves=True).counts
    assert counts["acknowledged"] > 0
    assert counts["moves ended"] > 2


def test_a_log_that_was_deleted_unnoticed_before_peace_is_made_anew() -> None:
    """Its node goes on with the open files, and fails only when it next opens one: once offline for long."""
    quiet()
    sim = cluster_sim.ClusterSim(13, chaos_ms=1500, kinds=["log lost", "freeze"])
    sim.run()
    assert sim.faults.deleted
    assert sim.counts["said by nodes: log_gone"] == 1
    assert sim.counts["said by nodes: partition_offline"] == 0


@pytest.mark.timeout(600)
def test_one_seed_gives_one_history() -> None:
    """Byte for byte, in processes that hash in different ways."""
    traces = []
    for hash_seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-m", "tests.sim.cluster_sim", "--seed", "4"],
            capture_output=True,
            text=True,
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
            check=False,
        )
        assert done.returncode == 0, done.stdout[-4000:]
        traces.append(done.stdout.partition("trace ")[2][:8])
    assert len(traces[0]) == 8
    assert traces[0] == traces[1]


def test_a_broken_promise_is_told_with_all_that_is_needed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(self: cluster_sim.ClusterSim) -> None:
        raise Violation("planted")

    monkeypatch.setattr(cluster_sim.Faults, "start", lambda self: broken(self.sim))
    quiet()
    with pytest.raises(Violation, match="planted"):
        run_seed(5)
    printed = capsys.readouterr().out
    assert printed.count("\n") > 200
    assert "seed 5 failed after" in printed
    assert "make sim SEED=5" in printed


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_the_planted_bugs_can_still_be_planted(bug: Bug, tmp_path: Path) -> None:
    """The search takes half an hour (`python -m tests.sim.cluster_mutants`); docs/testing.md has its outcome."""
    files = {file for file, _, _ in bug.changes}
    for file in files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text((ROOT / file).read_text())
    plant(bug, tmp_path)
    for file in files:
        compile((tmp_path / file).read_text(), file, "exec")


@pytest.mark.long
@pytest.mark.timeout(0)
@pytest.mark.parametrize("block", range(20))
def test_many_seeds(block: int) -> None:
    quiet()
    for seed in range(1000 + 50 * block, 1050 + 50 * block):
        run_seed(seed, moves=seed % 2 == 1)
