"""The replica rules against random schedules: whatever was committed is on every replica that may lead next."""

import pytest

from tests.node.broker.world import World

SEEDS = 100
STEPS = 1500


@pytest.mark.parametrize("min_isr", [1, 2])
@pytest.mark.parametrize("block", range(4))
def test_no_committed_record_is_ever_lost_and_every_replica_ends_equal(block: int, min_isr: int) -> None:
    moved = 0
    for seed in range(block * SEEDS, (block + 1) * SEEDS):
        world = World(seed, min_isr=min_isr)
        try:
            for _ in range(STEPS):
                world.step()
            moved += len(world.committed)
            world.heal()
            leader = world.replicas[world.state.leader]
            assert set(world.state.isr) == set(world.replicas), "everybody is in sync after healing"
            assert leader.mark == leader.log.end, "everything is committed after healing"
            assert all(replica.log.entries == leader.log.entries for replica in world.replicas.values())
        except AssertionError as error:
            raise AssertionError(f"seed {seed}, min ISR {min_isr}: {error}") from error
    assert moved > 20 * SEEDS, "the schedules commit enough to mean something"
