"""Fixed seeds of the cluster simulation; thousands more with `python -m tests.sim.cluster_sim --seeds 0:5000`."""

import pytest

from tests.sim.cluster_sim import run_seed


@pytest.mark.parametrize("seed", range(10))
def test_no_promise_is_broken(seed: int) -> None:
    sim = run_seed(seed)
    assert sim.counts["acknowledged"] > 0


def test_a_loss_is_reported_though_the_first_start_after_it_died() -> None:
    """The open marker of the second start had the new boot id, so it claimed to have lost nothing."""
    run_seed(54)


def test_one_seed_gives_one_history() -> None:
    assert run_seed(3).scheduler.trace_hash == run_seed(3).scheduler.trace_hash


@pytest.mark.long
@pytest.mark.parametrize("block", range(20))
def test_many_seeds(block: int) -> None:
    for seed in range(1000 + 50 * block, 1050 + 50 * block):
        run_seed(seed)
