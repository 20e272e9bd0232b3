"""What other group coordinators got wrong (invariants.md 2.6, 81 to 85), and invariants 23 and 24 (invariants.md 1).

79, 80, 82, 84, 85 and 86 need a log and a move of the coordinator: test_shell.py.
"""

import pytest

from node.groups.stage import GroupSettings
from ottla.protocol.errors import ApiError
from ottla.v1 import error_pb2 as pb
from tests.node.groups.support import World


def test_81_positions_of_a_group_in_a_long_rebalance_do_not_expire() -> None:
    world = World(settings=GroupSettings(offsets_retention_ms=1_000), t=2)
    one = world.join()
    assert one.commit(5) == 0
    world.join(settle=False)
    for _ in range(100):  # the first one never confirms, so the rebalance goes on
        world.tick(10_000)
    assert world.state == "reconciling"
    assert world.committed() == 5


def test_81_an_empty_group_that_is_joined_in_time_keeps_its_positions() -> None:
    world = World(settings=GroupSettings(offsets_retention_ms=1_000), t=1)
    one = world.join()
    one.commit(5)
    one.leave()
    world.tick(999)
    world.join()
    world.tick(100_000)
    assert world.committed() == 5


@pytest.mark.parametrize("state", ["stable", "reconciling", "after a move"])
def test_82_a_static_member_is_replaced_in_every_state_and_fences_its_past(state: str) -> None:
    world = World(t=4)
    one, two = world.join(instance_id="a"), world.join(instance_id="b")
    if state == "reconciling":
        world.join(settle=False)
        two.read()
    one.lose()
    if state == "after a move":
        world.move()
        two.resume()
    again = world.join(instance_id="a")
    assert len(again.owned | two.owned) >= 2
    assert not again.owned & two.owned
    assert one.commit(9, min(again.owned)) == pb.ERROR_CODE_UNKNOWN_MEMBER_ID
    assert again.commit(9, min(again.owned)) == 0


def test_83_a_claim_from_two_generations_ago_gives_nothing_back_to_who_makes_it() -> None:
    world = World(t=4)
    one = world.join()
    claims = set(one.owned)
    one.lose(by_client=False)
    world.tick(10_001)  # it is out
    two = world.join()
    assert len(two.owned) == 4
    with pytest.raises(ApiError) as caught:
        one.resume(owned=[])
    assert caught.value.code == pb.ERROR_CODE_UNKNOWN_MEMBER_ID
    one.owned, one.member_id, one.epoch = claims, "", 0
    one.resume()  # as a new member, with its old claims
    world.tick(100)
    one.read()
    assert not one.owned
    assert len(two.owned) == 4


def test_83_a_member_that_slept_through_two_generations_claims_nothing() -> None:
    world = World(t=6)
    one = world.join(session_timeout_ms=60_000)
    one.lose(by_client=False)
    two = world.join()
    assert two.owned == set(), "its partitions wait for it"
    world.join()
    claimed = set(one.owned)
    one.resume(member_epoch=one.epoch)
    world.settle()
    assert one.owned < claimed
    owners = [member.owned for member in world.members]
    assert sum(map(len, owners)) == len(set().union(*owners)) == 6


def test_84_a_removed_member_can_neither_commit_nor_resume() -> None:
    world = World(t=2)
    zombie, heir = world.join(session_timeout_ms=1_000), world.join()
    mine = min(zombie.owned)
    assert zombie.commit(5, mine) == 0
    zombie.lose(by_client=False)
    world.tick(1_001)
    world.settle()
    assert heir.commit(7, mine) == 0
    assert zombie.commit(9, mine) == pb.ERROR_CODE_UNKNOWN_MEMBER_ID
    with pytest.raises(ApiError):
        zombie.resume()
    assert world.committed(mine) == 7
    world.move()
    assert zombie.commit(9, mine) == pb.ERROR_CODE_UNKNOWN_MEMBER_ID
    assert world.committed(mine) == 7


def test_23_the_group_s_epoch_never_goes_back_also_through_emptiness_and_moves() -> None:
    world = World(t=3)
    epochs = [0]
    for step in range(12):
        if step % 3 == 2:
            for member in list(world.members):
                member.leave()
                world.members.remove(member)
            world.move()
        else:
            world.join()
        assert world.group_epoch > epochs[-1]
        epochs.append(world.group_epoch)


def test_24_an_acknowledged_commit_is_there_after_every_move() -> None:
    world = World(t=2)
    one = world.join()
    for offset in range(1, 8):
        assert one.commit(offset) == 0
        world.move()
        one.resume()
        world.settle()
        assert world.committed() == offset
