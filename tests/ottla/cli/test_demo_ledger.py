"""The demo's bookkeeping sees every kind of fault; a report that cannot say no is worth nothing."""

from collections.abc import Callable

import pytest

from examples.demo.ledger import Ledger
from examples.demo.shares import Shares

VALUES = [b"value %d" % number for number in range(6)]
# Event -> (partition, offset), events in the order sent.
PLACES = [(0, 0), (1, 0), (0, 1), (1, 1), (0, 2), (1, 2)]


def good() -> Ledger:
    ledger = Ledger(capacity=6, partitions=2)
    for number, value in enumerate(VALUES):
        ledger.on_sent(number, value)
    for number in range(6):
        ledger.on_acknowledged(number, *PLACES[number], now_s=number / 10)
    return ledger


def read(ledger: Ledger, numbers: list[int]) -> None:
    for number in numbers:
        ledger.on_read(number, *PLACES[number], VALUES[number])


def test_all_is_well() -> None:
    ledger = good()
    # Another order between partitions is no fault.
    read(ledger, [1, 3, 0, 5, 2, 4])
    verdict = ledger.verdict()
    assert verdict.ok
    assert (verdict.sent, verdict.acknowledged, verdict.read) == (6, 6, 6)


def test_nothing_sent_is_not_a_success() -> None:
    assert not Ledger(6, 2).verdict().ok


def lose(ledger: Ledger) -> None:
    read(ledger, [0, 1, 2, 3, 4])


def duplicate(ledger: Ledger) -> None:
    read(ledger, [0, 1, 2, 3, 4, 5])
    ledger.on_read(5, 1, 3, VALUES[5])


def reorder(ledger: Ledger) -> None:
    read(ledger, [2, 0, 1, 3, 4, 5])


def change(ledger: Ledger) -> None:
    read(ledger, [0, 1, 2, 3, 4])
    ledger.on_read(5, 1, 2, b"value X")


def misplace(ledger: Ledger) -> None:
    read(ledger, [0, 1, 2, 3, 4])
    ledger.on_read(5, 1, 7, VALUES[5])


@pytest.mark.parametrize(
    ("fault", "name"),
    [
        (lose, "lost"),
        (duplicate, "duplicated"),
        (reorder, "out_of_order"),
        (change, "changed"),
        (misplace, "misplaced"),
    ],
)
def test_each_fault_is_seen_as_itself(fault: Callable[[Ledger], None], name: str) -> None:
    ledger = good()
    fault(ledger)
    verdict = ledger.verdict()
    assert not verdict.ok
    counted = {n: getattr(verdict, n) for n in ("lost", "duplicated", "out_of_order", "changed", "misplaced")}
    assert counted == {**dict.fromkeys(counted, 0), name: 1}


def test_what_was_not_acknowledged_is_not_lost_but_not_a_success() -> None:
    ledger = Ledger(1, 1)
    ledger.on_sent(0, b"v")
    verdict = ledger.verdict()
    assert verdict.lost == 0
    assert not verdict.ok


def test_the_longest_pause_is_one_partition_s_own() -> None:
    """Other partitions go on while one has no leader: a gap over all of them would hide the outage."""
    ledger = Ledger(capacity=8, partitions=2)
    for number, (partition, now_s) in enumerate([(0, 1.0), (1, 1.0), (1, 1.5), (1, 2.0), (1, 2.5), (0, 2.9), (1, 3.0)]):
        ledger.on_acknowledged(number, partition, number, now_s)
    longest = ledger.longest_pause(from_s=1.2, to_s=10)
    assert longest is not None
    seconds, partition = longest
    assert (round(seconds, 3), partition) == (1.9, 0)
    assert ledger.longest_pause(from_s=5, to_s=10) is None


def shared() -> Shares:
    """Three members of two partitions each but one; member 1 is killed at 10.0 and replaced at 10.4."""
    shares = Shares(partitions=3)
    for member in (1, 2, 3):
        shares.on_owned(member, [member - 1], 1.0)
    for partition in range(3):
        shares.on_processed(partition, 0, 4, 5)
    shares.on_killed(1, 10.0)
    return shares


def test_a_group_that_takes_over_may_repeat_what_was_not_committed() -> None:
    shares = shared()
    shares.on_owned(2, [1], 10.1)
    assert shares.takeover_s is None
    shares.on_owned(3, [0, 2], 10.4)
    shares.on_processed(0, 3, 6, 4)
    verdict = shares.verdict([7, 5, 5])
    assert verdict.takeover_s == pytest.approx(0.4)
    assert (verdict.processed, verdict.skipped, verdict.repeated, verdict.odd) == (17, 0, 2, 0)
    assert verdict.ok


def test_a_group_s_faults_are_seen() -> None:
    nobody = shared()
    assert not nobody.verdict([5, 5, 5]).ok
    for fault in ("skipped", "odd"):
        shares = shared()
        shares.on_owned(2, [0, 1], 10.4)
        assert shares.verdict([5, 5, 5]).ok
        if fault == "skipped":
            assert shares.verdict([5, 6, 5]).skipped == 1
            shares.on_processed(1, 6, 6, 1)
            assert shares.verdict([5, 7, 5]).skipped == 1
        else:
            shares.on_processed(2, 4, 4, 1)  # its owner lives: nothing explains a repeat
            assert shares.verdict([5, 5, 5]).odd == 1
            assert not shares.verdict([5, 5, 5]).ok
