"""Fixed seeds of the cluster simulation; thousands more with `python -m tests.sim.cluster_sim --seeds 0:5000`."""

import os
import subprocess
import sys

import pytest

from tests.sim.cluster_sim import quiet, run_seed


@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", [2, 4, 5, 8])
def test_no_promise_is_broken(seed: int) -> None:
    quiet()
    assert run_seed(seed).counts["acknowledged"] > 0


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


@pytest.mark.long
@pytest.mark.timeout(0)
@pytest.mark.parametrize("block", range(20))
def test_many_seeds(block: int) -> None:
    quiet()
    for seed in range(1000 + 50 * block, 1050 + 50 * block):
        run_seed(seed)
