"""The fixed seeds of every push; new ones: `make sim-long MINUTES=n`."""

import os
import subprocess
import sys

import pytest

from tests.sim import raft_sim
from tests.sim.raft_sim import run_seed

FOUND_BUGS = {
    0: "a removed voter that was away asked for votes for ever",
    13: "a log compacted further during a snapshot transfer stopped the transfer",
    108: "only a leader whose own removal was open could commit it, and it did not stand",
    209: "a restarted observer waited for voters that were none any more",
    31150: "a damaged voter's vote made a leader that had not asked a voter which the damaged log alone had known",
    21747: "an acknowledgement left with the sync that cut its entries again",
}
"""Seeds that failed once, and why. What a seed draws has changed since."""


@pytest.mark.parametrize("block", range(8))
def test_safe_under_faults_and_live_after_them(block):
    for seed in range(block * 10, block * 10 + 10):
        assert run_seed(seed).committed > 0


@pytest.mark.parametrize("seed", FOUND_BUGS)
def test_seeds_that_failed_once(seed):
    assert run_seed(seed).committed > 0


def test_one_seed_gives_one_trace_byte_for_byte(tmp_path, repository):
    """In two processes that hash strings differently, so that no order hangs on a set."""
    traces = []
    for salt in ("1", "2"):
        path = tmp_path / salt
        command = [sys.executable, "-m", "tests.sim.raft_sim", "--seed", "3", "--trace", str(path)]
        subprocess.run(command, cwd=repository, env=os.environ | {"PYTHONHASHSEED": salt}, check=True)
        traces.append(path.read_bytes())
    assert traces[0] == traces[1]
    assert traces[0].count(b"\n") > 5000


def test_another_seed_gives_another_trace():
    assert run_seed(3).trace_hash != run_seed(4).trace_hash


def test_a_failure_prints_the_last_events_the_seed_and_how_to_replay_it(monkeypatch, capsys):
    def broken(world: raft_sim.World) -> None:
        raise raft_sim.Violation("planted")

    monkeypatch.setattr(raft_sim.World, "_demand_progress", broken)
    with pytest.raises(raft_sim.Violation, match="planted"):
        run_seed(5)
    printed = capsys.readouterr().err
    assert printed.count("\n") > 200
    assert "seed 5 failed after" in printed
    assert "make sim SEED=5" in printed


def test_every_kind_of_fault_and_rare_state_is_reached():
    """What a seed may draw is drawn, and counted: a fault that never happens tests nothing."""
    totals = raft_sim.Totals()
    for seed in range(200, 212):
        totals.add(run_seed(seed))
    wanted = (
        "messages lost", "messages duplicated", "messages overtaken", "messages held up", "messages cut off",
        "messages to the next incarnation", "fault: cut, link", "fault: cut, one way", "fault: cut, isolate",
        "fault: cut, halves", "fault: pause", "fault: pause of a leader", "fault: crash", "fault: crash of all",
        "crash with unsynced writes", "crash that tears a write", "fault: slow disk", "fault: sync failed",
        "fault: clock jump", "fault: damaged log", "voter change committed", "voter change taken back",
        "snapshot received whole", "log compacted", "log replaced by a received snapshot", "conflicting tail cut",
        "leader elected with a tail of earlier terms", "leader left: no majority heard", "leadership handed over",
        "read confirmed", "sync that ends in a newer term",
    )  # fmt: skip
    assert [name for name in wanted if not totals.counts[name]] == []
