"""Fixed seeds of the quorum's driver, disk and store; more with `python -m tests.sim.quorum_sim --seeds 0:500`."""

import pytest

from tests.planted import Bug, listed, plant
from tests.sim.cluster_loop import Violation
from tests.sim.cluster_sim import quiet
from tests.sim.quorum_mutants import BUGS
from tests.sim.quorum_sim import run_seed

SECTION = "the quorum's driver, disk and store in the simulator"


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_no_promise_is_broken(seed: int) -> None:
    quiet()
    sim = run_seed(seed)
    assert sim.history.committed > 100
    assert sim.counts["reads"] > 10


def test_one_seed_gives_one_history() -> None:
    quiet()
    first, again = run_seed(4), run_seed(4)
    assert first.history.entries == again.history.entries
    assert first.world.trace_hash == again.world.trace_hash


def test_a_leader_without_descriptors_goes_on_and_sends_its_snapshot_later() -> None:
    quiet()
    sim = run_seed(9, ("no descriptor", "isolate", "kill"))
    assert sim.world.said["quorum_snapshot_put_off"]
    assert sim.counts["snapshots received"]


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.what.replace(" ", "-"))
def test_a_planted_bug_is_caught(bug: Bug, monkeypatch: pytest.MonkeyPatch) -> None:
    quiet()
    plant(bug, monkeypatch)
    with pytest.raises(Violation):
        bug.caught_by()


def test_the_planted_bugs_are_those_that_the_documentation_names() -> None:
    assert listed(SECTION) == [bug.what for bug in BUGS]
