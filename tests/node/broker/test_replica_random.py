"""The replica rules against random schedules: whatever was committed is on every replica that may lead next, and no
produce answer says of more copies than there are.

`OTTLA_REPLICA_SEEDS=1250 pytest -rP --timeout 0 tests/node/broker/test_replica_random.py` runs 10 000 schedules.
"""

import os

import pytest

from tests.node.broker.world import World

SEEDS = int(os.environ.get("OTTLA_REPLICA_SEEDS", "100"))
STEPS = 1500


@pytest.mark.parametrize("min_isr", [1, 2])
@pytest.mark.parametrize("block", range(4))
def test_no_committed_record_is_ever_lost_and_every_replica_ends_equal(block: int, min_isr: int) -> None:
    moved = receipts = 0
    for seed in range(block * SEEDS, (block + 1) * SEEDS):
        world = World(seed, min_isr=min_isr)
        try:
            for _ in range(STEPS):
                world.step()
            moved += len(world.committed)
            receipts += sum(world.receipts.values())
            world.heal()
            leader = world.replicas[world.state.leader]
            assert set(world.state.isr) == set(world.replicas), "everybody is in sync after healing"
            assert leader.mark == leader.log.end, "everything is committed after healing"
            assert all(replica.log.entries == leader.log.entries for replica in world.replicas.values())
        except AssertionError as error:
            raise AssertionError(f"seed {seed}, min ISR {min_isr}: {error}") from error
    print(f"{SEEDS} schedules, {moved} records committed, {receipts} receipts compared")
    assert moved > 20 * SEEDS, "the schedules commit enough to mean something"
    assert receipts > STEPS * SEEDS
