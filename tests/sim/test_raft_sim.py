"""The fixed seeds of every push; new ones: `python -m tests.sim.raft_sim --minutes M`."""

import pytest

from tests.sim.raft_sim import run_seed

FOUND_BUGS = {
    0: "a removed voter that was away asked for votes for ever",
    13: "a log compacted further during a snapshot transfer stopped the transfer",
    108: "only a leader whose own removal was open could commit it, and it did not stand",
    209: "a restarted observer waited for voters that were none any more",
}
"""Seeds that failed once, and why."""


@pytest.mark.parametrize("block", range(10))
def test_safe_under_faults_and_live_after_them(block):
    for seed in range(block * 10, block * 10 + 10):
        assert run_seed(seed).committed > 0


@pytest.mark.parametrize("seed", FOUND_BUGS)
def test_seeds_that_failed_once(seed):
    assert run_seed(seed).committed > 0


@pytest.mark.parametrize("seed", [3, 108])
def test_one_seed_gives_one_trace(seed):
    first, second, other = run_seed(seed), run_seed(seed), run_seed(seed + 1)
    assert first == second
    assert first.trace_hash != other.trace_hash
