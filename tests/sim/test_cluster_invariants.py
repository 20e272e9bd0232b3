"""What the simulation's checker excuses: no more than the careful election may do."""

from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest

from tests.sim.cluster_invariants import Entry, Invariants, Shadow, Truth


def batch(base: int, epoch: int = 0, crc: int = 1) -> Entry:
    return Entry(base, base + 1, epoch, (crc, 0, 0, 0, 0), 0, 0, 0)


@pytest.mark.parametrize(
    ("log", "mark", "back"),
    [
        ([batch(0), batch(1), batch(2)], 2, 2),
        ([batch(0), batch(1), batch(2)], 3, 2),  # the last one was never committed
        ([batch(0), batch(1), batch(2)], 1, 1),  # its mark is all that it knows
        ([batch(0), batch(1, crc=2)], 2, 1),
        ([batch(0, epoch=1), batch(1, epoch=1)], 2, 0),
        ([batch(1)], 2, 0),  # nor over a gap
    ],
)
def test_what_was_lost_comes_back_as_it_was_committed_and_no_further(log: list[Entry], mark: int, back: int) -> None:
    world: Any = SimpleNamespace(note=lambda what: None)
    truth = Truth("d", 0, internal=False, compacted=False, flush_ack=False, cuts=1)
    truth.lost = {batch(0): [(None, b"a")], batch(1): [(None, b"b")]}
    Invariants(world, {}, Counter())._bring_back(truth, Shadow(None, log), mark)
    assert truth.end == back
    assert truth.entries == log[:back]
    assert truth.payloads == [[(None, b"a")], [(None, b"b")]][:back]
