"""Watermarks: when producers are refused, when the ballast goes, and when both come back."""

from node.broker.space import DiskGuard, Space
from storage.ballast import Ballast
from tests.storage.forgetful import ForgetfulFileSystem

MIB = 2**20
TOTAL = 400 * MIB  # the first watermark is at 20 MiB, the second one at 5


def guard(held: bool = True) -> DiskGuard:
    fs = ForgetfulFileSystem()
    fs.makedirs("/data")
    ballast = Ballast(fs, "/data", 16 * MIB)
    if held:
        ballast.hold()
    return DiskGuard(ballast)


def test_below_the_watermark_producers_are_refused_and_above_it_they_come_back_later() -> None:
    disk = guard()
    states = []
    for free in (30, 21, 19, 21, 29, 30, 29, 21, 19):
        disk.look(Space(TOTAL, free * MIB), 0)
        states.append(disk.full)
    assert states == [False, False, True, True, True, False, False, False, True]
    assert disk.ballast.held


def test_below_the_second_watermark_the_ballast_goes_and_its_room_is_no_producers() -> None:
    disk = guard()
    assert disk.look(Space(TOTAL, 4 * MIB), 0)
    assert (disk.full, disk.ballast.held) == (True, False)
    assert not disk.look(Space(TOTAL, 20 * MIB), 0)
    assert not disk.look(Space(TOTAL, 45 * MIB), 0)
    assert (disk.full, disk.ballast.held) == (True, False)
    assert disk.look(Space(TOTAL, 46 * MIB), 0)
    assert (disk.full, disk.ballast.held) == (False, True)


def test_a_write_without_room_counts_whatever_the_disk_says() -> None:
    disk = guard()
    assert disk.look(Space(TOTAL, 100 * MIB), 5000, refused=True)
    assert (disk.full, disk.ballast.held) == (True, False)
    assert not disk.look(Space(TOTAL, 100 * MIB), 5900)
    assert not disk.look(Space(TOTAL, 100 * MIB), 5950, refused=True)
    assert not disk.look(Space(TOTAL, 100 * MIB), 6949)
    assert disk.look(Space(TOTAL, 100 * MIB), 6950)
    assert (disk.full, disk.ballast.held) == (False, True)


def test_a_new_directory_takes_it_up_at_the_first_look() -> None:
    disk = guard(held=False)
    assert not disk.look(Space(TOTAL, 100 * MIB), 0)
    assert disk.ballast.held
