"""Members without a stream (Kafka's ConsumerGroupHeartbeat) by example, beside those that have one."""

from typing import Any

import pytest

from node.groups.polling import LEAVES, STEPS_OUT
from node.groups.stage import GroupSettings
from ottla.protocol.errors import ApiError
from ottla.v1 import error_pb2 as pb
from tests.node.groups.support import GROUP, Poller, World, ids, short_turns

TIMEOUT_MS = GroupSettings().session_timeout_ms


def poller(world: World, member_id: str, *topics: str, **fields: Any) -> Poller:
    """Joined; targets of its own each."""
    world.pause()
    made = Poller(world, member_id, *topics, **fields)
    made.join()
    return made


def rounds(*pollers: Poller, count: int = 4) -> None:
    """Everybody asks a few times."""
    for _ in range(count):
        for each in pollers:
            each.world.tick(500)
            each.beat()


def owned(*pollers: Poller) -> list[int]:
    return [len(each.owned) for each in pollers]


def refused(call: Any) -> int:
    with pytest.raises(ApiError) as caught:
        call()
    return caught.value.code


def members(world: World) -> dict[str, tuple[int, int]]:
    """Of each, how much it has, and is to give back."""
    group = world.coordinator.group(GROUP)
    assert group is not None
    return {name: (len(m.assigned), len(m.revoking)) for name, m in sorted(group.members.items())}


# --- joining and sharing ------------------------------------------------------------------------------------------


def test_the_first_answer_has_everything_and_later_ones_nothing_new() -> None:
    world = World(t=4)
    one = Poller(world, "one")
    told = one.join()
    assert (told.member_id, told.member_epoch, told.assigned) == ("one", 1, ids({("t", n) for n in range(4)}))
    assert world.state == "stable"
    before = list(world.log)
    for _ in range(3):
        assert (one.beat().assigned, one.epoch) == (None, 1)
    assert world.log == before, "a heartbeat without news writes nothing"


def test_a_partition_waits_for_its_owner_to_say_that_it_has_given_it_back() -> None:
    world = World(t=4)
    one, two = poller(world, "one"), poller(world, "two")
    assert (owned(two), two.epoch, world.state) == ([0], 2, "reconciling")
    one.ask()
    assert (owned(one), one.epoch) == ([2], 1), "what it is to give back was assigned in this epoch"
    assert members(world)["one"] == (2, 2)
    one.ask(owned=ids({("t", n) for n in range(4)}))
    assert two.beat().assigned is None, "not given away before the owner says so"
    one.beat()
    assert one.epoch == 2
    assert two.beat().assigned is not None
    assert owned(one, two) == [2, 2]
    assert not one.owned & two.owned
    assert world.state == "stable"


def test_who_gives_back_a_part_keeps_the_rest_until_it_says_so() -> None:
    world = World(t=4)
    one, two = poller(world, "one"), poller(world, "two")
    one.ask()
    first, second = sorted({("t", n) for n in range(4)} - one.owned)
    one.ask(owned=ids({*one.owned, second}))
    two.beat()
    assert two.owned == {first}, "the other one is still read by its owner"
    one.ask(owned=ids(one.owned))
    two.beat()
    assert two.owned == {first, second}


def test_who_says_at_once_that_it_owns_nothing_of_what_it_is_to_give_back_has_given_it_back() -> None:
    """Its answer was lost: it has never heard of these partitions, and will never say that it gave them back."""
    world = World(t=4)
    one, two = poller(world, "one"), poller(world, "two")
    one.ask(owned=frozenset(), **one.joining)
    assert (owned(one), one.epoch, members(world)["one"]) == ([2], 2, (2, 0))
    two.beat()
    assert owned(two) == [2]


def test_members_with_and_without_a_stream_share_a_group() -> None:
    world = World(t=6)
    streams, polls = world.join(), poller(world, "polls")
    world.settle()
    polls.beat()
    assert ([len(streams.owned)], owned(polls)) == ([3], [3])
    again = world.join()
    rounds(polls)
    world.settle()
    assert sorted([len(streams.owned), len(again.owned), *owned(polls)]) == [2, 2, 2]
    polls.ask(member_epoch=LEAVES)
    world.settle()
    assert sorted([len(streams.owned), len(again.owned)]) == [3, 3]
    assert world.state == "stable"


def test_an_epoch_is_never_another_than_the_last_answer_s() -> None:
    world = World(t=4)
    one, two = poller(world, "one"), poller(world, "two")
    rounds(one, two)
    mine = min(one.owned)
    world.pause()
    two.ask(member_epoch=LEAVES)
    assert one.commit(1, mine) == 0, "what was two's is one's to be, and one has not heard of it"
    before = one.epoch
    one.beat()
    assert (one.epoch, owned(one)) == (before + 1, [4])
    assert one.commit(2, mine) == 0


def test_what_is_asked_for_may_change() -> None:
    world = World(a=2, b=2, c=1)
    one = poller(world, "one", "a")
    for said, topics in (
        ({"topics": ("a", "b", "a")}, {"a", "b"}),
        ({"topics": (), "topic_regex": "[bc]"}, {"b", "c"}),
        ({"topics": ("a",)}, {"a", "b", "c"}),
        ({"topic_regex": ""}, {"a"}),
        ({"topics": ()}, set()),
        ({"topics": ("missing",)}, set()),
    ):
        world.pause()
        one.beat(**said)
        one.beat()
        assert {topic for topic, _ in one.owned} == topics
    world.topics_are(a=2, missing=1)
    one.beat()
    assert one.owned == {("missing", 0)}


def test_the_assignor_is_one_of_ours() -> None:
    world = World(t=4, u=4)
    one = poller(world, "one", "t", "u", assignor="range")
    two = poller(world, "two", "t", "u", assignor="range")
    rounds(one, two)
    numbers = [{number for topic, number in one.owned if topic == name} for name in ("t", "u")]
    assert numbers[0] == numbers[1]
    for name in ("", "sticky", "org.apache.kafka.clients.consumer.CooperativeStickyAssignor"):
        assert refused(lambda name=name: two.beat(assignor=name)) == pb.ERROR_CODE_UNSUPPORTED_ASSIGNOR


def test_a_large_group_s_newcomer_has_no_epoch_before_its_target_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    short_turns(monkeypatch)
    world = World(t=4)
    one = Poller(world, "one")
    assert one.join().member_epoch == 0
    for _ in range(30):
        world.tick(10)
    again = one.ask(owned=frozenset(), **one.joining)
    assert (again.member_epoch, len(again.assigned or ())) == (1, 4)


def test_who_joins_while_a_target_is_under_way_has_an_epoch_and_nothing_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(t=4)
    one = poller(world, "one")
    short_turns(monkeypatch)
    two = Poller(world, "two")
    world.pause()
    told = two.join()
    assert (told.member_epoch, told.assigned, world.state) == (1, frozenset(), "assigning")
    assert two.commit(1) == pb.ERROR_CODE_STALE_MEMBER_EPOCH, "what it does not own"
    for _ in range(30):
        world.tick(10)
    rounds(one, two)
    assert (owned(one, two), two.epoch, world.state) == ([2, 2], 2, "stable")


def test_who_gives_back_while_a_target_is_under_way_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(t=4)
    one, two = poller(world, "one"), poller(world, "two")
    one.ask()
    short_turns(monkeypatch)
    three = poller(world, "three")
    one.beat()
    assert members(world)["one"] == (2, 0), "it says so once"
    for _ in range(60):
        world.tick(10)
    rounds(one, two, three)
    assert sorted(owned(one, two, three)) == [1, 1, 2]


# --- coming back, falling silent, leaving -------------------------------------------------------------------------


def test_a_move_of_the_coordinator_is_noticed_by_no_member() -> None:
    world = World(t=4)
    one, two = poller(world, "one"), poller(world, "two")
    rounds(one, two)
    before, epoch = (set(one.owned), set(two.owned)), world.group_epoch
    for _ in range(2):
        world.move()
        told = [each.beat() for each in (one, two)]
        assert [len(each.assigned or ()) for each in told] == [2, 2], "what was told before is not known here"
        world.tick(1_000)
    assert ((one.owned, two.owned), world.group_epoch, world.state) == (before, epoch, "stable")


def test_a_member_that_does_not_come_back_after_a_move_is_lost_in_its_time() -> None:
    world = World(t=4)
    one, two = poller(world, "one"), poller(world, "two")
    rounds(one, two)
    world.move()
    for _ in range(12):
        world.tick(TIMEOUT_MS // 10)
        two.beat()
    assert (owned(two), members(world)) == ([4], {"two": (4, 0)})


def test_silence_for_longer_than_the_session_time_out_ends_a_membership() -> None:
    world = World(t=4)
    one, two = poller(world, "one"), poller(world, "two")
    rounds(one, two)
    one.beat()
    world.tick(TIMEOUT_MS)
    two.beat()
    assert members(world).keys() == {"one", "two"}
    world.tick(1)
    assert members(world).keys() == {"two"}
    assert refused(one.beat) == pb.ERROR_CODE_UNKNOWN_MEMBER_ID
    assert one.commit(1) == pb.ERROR_CODE_UNKNOWN_MEMBER_ID
    two.beat()
    assert owned(two) == [4]
    one.join()
    rounds(one, two)
    assert owned(one, two) == [2, 2]


def test_who_does_not_give_back_in_time_is_no_member_any_more() -> None:
    world = World(t=4)
    one = poller(world, "one", rebalance_timeout_ms=3_000)
    two = poller(world, "two")
    one.ask()
    for _ in range(3):
        world.tick(1_000)
        one.ask()
        two.beat()
    assert members(world)["one"] == (2, 2)
    world.tick(1)
    assert members(world).keys() == {"two"}
    assert refused(one.ask) == pb.ERROR_CODE_UNKNOWN_MEMBER_ID
    two.beat()
    assert owned(two) == [4]


def test_the_time_to_give_back_is_known_to_the_next_coordinator() -> None:
    world = World(t=4)
    one = poller(world, "one", rebalance_timeout_ms=3_000)
    two = poller(world, "two")
    one.ask()
    world.move()
    for _ in range(4):
        one.ask()
        two.beat()
        world.tick(1_000)
    assert members(world).keys() == {"two"}


def test_who_gives_back_in_time_stays() -> None:
    world = World(t=4)
    one = poller(world, "one", rebalance_timeout_ms=3_000)
    poller(world, "two")
    one.ask()
    world.tick(3_000)
    one.beat()
    world.tick(3_000)
    one.beat()
    assert members(world)["one"] == (2, 0)


def test_who_leaves_is_replaced_at_once() -> None:
    world = World(t=4)
    one, two = poller(world, "one"), poller(world, "two")
    rounds(one, two)
    world.pause()
    told = one.ask(member_epoch=LEAVES)
    assert (told.member_id, told.member_epoch, told.assigned) == ("one", LEAVES, None)
    two.beat()
    assert owned(two) == [4]
    assert refused(lambda: one.ask(member_epoch=LEAVES)) == pb.ERROR_CODE_UNKNOWN_MEMBER_ID


def test_a_joined_member_that_joins_again_owns_nothing_and_keeps_its_place() -> None:
    world = World(t=4)
    one, two = poller(world, "one"), poller(world, "two")
    one.ask()
    assert members(world)["one"] == (2, 2)
    epoch = world.group_epoch
    assert len(one.join().assigned or ()) == 2
    assert (members(world)["one"], world.group_epoch) == ((2, 0), epoch)
    two.beat()
    assert owned(one, two) == [2, 2]


@pytest.mark.parametrize("ahead", [1, 7, 2**31 - 2])
def test_epochs_that_were_never_given_out_are_fenced(ahead: int) -> None:
    world = World(t=4)
    one = poller(world, "one")
    assert refused(lambda: one.ask(member_epoch=1 + ahead)) == pb.ERROR_CODE_FENCED_MEMBER_EPOCH
    assert one.beat().member_epoch == 1


def test_the_epoch_before_is_good_where_its_answer_was_lost() -> None:
    world = World(t=4)
    one, two = poller(world, "one"), poller(world, "two")
    one.ask()
    epoch, mine = one.epoch, set(one.owned)
    one.beat()
    assert one.epoch == epoch + 1, "it has given back"
    for said, fenced in (
        ({"owned": None}, True),
        ({"owned": ids(mine | {("t", 9)})}, True),
        ({"owned": ids(mine), "member_epoch": -1 + 2**31}, True),
        ({"owned": ids(mine)}, False),
        ({"owned": frozenset()}, False),
    ):
        call = {"member_epoch": epoch, **said}
        if fenced:
            assert refused(lambda call=call: one.ask(**call)) == pb.ERROR_CODE_FENCED_MEMBER_EPOCH
        else:
            assert one.ask(**call).member_epoch == epoch + 1
    two.beat()
    assert owned(one, two) == [2, 2]


def test_whom_a_change_leaves_as_it_was_keeps_its_epoch_and_costs_no_record() -> None:
    world = World(t=2)
    one, two = poller(world, "one"), poller(world, "two")
    rounds(one, two)
    poller(world, "idle")
    before, epochs = list(world.log), (one.epoch, two.epoch)
    rounds(one, two)
    assert ((one.epoch, two.epoch), world.log, world.state) == (epochs, before, "stable")
    assert one.commit(1, min(one.owned)) == 0


# --- static members -----------------------------------------------------------------------------------------------


def test_a_static_member_that_steps_out_finds_its_place_again() -> None:
    world = World(t=4)
    one, two = poller(world, "one", instance_id="i"), poller(world, "two")
    rounds(one, two)
    before, epoch = set(one.owned), world.group_epoch
    assert one.ask(member_epoch=STEPS_OUT).member_epoch == STEPS_OUT
    assert refused(lambda: one.ask(member_epoch=epoch)) == pb.ERROR_CODE_FENCED_MEMBER_EPOCH
    rounds(two)
    again = poller(world, "again", instance_id="i")
    assert (again.owned, world.group_epoch, owned(two)) == (before, epoch, [2])
    assert refused(lambda: one.ask(member_epoch=epoch)) == pb.ERROR_CODE_FENCED_INSTANCE_ID
    assert one.commit(1, epoch=epoch) == pb.ERROR_CODE_UNKNOWN_MEMBER_ID
    assert again.commit(1, min(again.owned)) == 0


def test_a_static_member_that_stays_out_loses_its_place() -> None:
    world = World(t=4)
    one, two = poller(world, "one", instance_id="i"), poller(world, "two")
    rounds(one, two)
    one.ask(member_epoch=STEPS_OUT)
    for _ in range(11):
        world.tick(TIMEOUT_MS // 10)
        two.beat()
    assert owned(two) == [4]


def test_what_a_static_member_was_to_give_back_is_free_when_it_steps_out() -> None:
    world = World(t=4)
    one, two = poller(world, "one", instance_id="i"), poller(world, "two")
    one.ask()
    one.ask(member_epoch=STEPS_OUT)
    two.beat()
    assert (owned(two), members(world)["one"]) == ([2], (2, 0))


def test_an_instance_id_is_one_living_member_s() -> None:
    world = World(t=4)
    one = poller(world, "one", instance_id="i")
    other = Poller(world, "other", instance_id="i")
    assert refused(other.join) == pb.ERROR_CODE_UNRELEASED_INSTANCE_ID
    other.epoch = 1
    assert refused(other.beat) == pb.ERROR_CODE_FENCED_INSTANCE_ID
    assert refused(lambda: other.ask(member_epoch=LEAVES)) == pb.ERROR_CODE_FENCED_INSTANCE_ID
    one.ask(member_epoch=LEAVES)
    assert members_of_none(world)
    assert other.join().member_epoch > 0


def members_of_none(world: World) -> bool:
    group = world.coordinator.group(GROUP)
    return group is not None and not group.members


# --- commits ------------------------------------------------------------------------------------------------------


def test_commits_are_fenced_by_epoch_and_by_what_is_owned() -> None:
    world = World(t=4)
    one, two = poller(world, "one"), poller(world, "two")
    one.ask()
    given_back = min(ids({("t", n) for n in range(4)}) - ids(one.owned))[1]
    assert one.commit(5, ("t", given_back)) == 0, "it still owns what it gives back"
    one.beat()
    two.beat()
    assert one.commit(6, ("t", given_back)) == pb.ERROR_CODE_STALE_MEMBER_EPOCH
    assert two.commit(7, ("t", given_back)) == 0
    assert one.commit(1, min(one.owned), epoch=1) == pb.ERROR_CODE_STALE_MEMBER_EPOCH
    assert one.commit(1, min(one.owned), epoch=9) == pb.ERROR_CODE_FENCED_MEMBER_EPOCH
    assert one.commit(1, min(one.owned), epoch=-1) == pb.ERROR_CODE_STALE_MEMBER_EPOCH
    assert Poller(world, "").commit(1, epoch=-1) == pb.ERROR_CODE_UNKNOWN_MEMBER_ID, "the group has members"
    assert world.committed(("t", given_back)) == 7


def test_who_reads_positions_says_which_member_it_is() -> None:
    world = World(t=4)
    check = world.coordinator.check_reader
    check(GROUP, "nobody", 5)  # there is no group
    one = poller(world, "one")
    check(GROUP, "one", one.epoch)
    for member_id, epoch, code in (
        ("one", 0, pb.ERROR_CODE_STALE_MEMBER_EPOCH),
        ("one", 2, pb.ERROR_CODE_FENCED_MEMBER_EPOCH),
        ("", 1, pb.ERROR_CODE_UNKNOWN_MEMBER_ID),
        ("other", 1, pb.ERROR_CODE_UNKNOWN_MEMBER_ID),
    ):
        assert refused(lambda who=(member_id, epoch): check(GROUP, *who)) == code


# --- bad input ----------------------------------------------------------------------------------------------------

BAD: list[tuple[dict[str, Any], int]] = [
    ({"member_epoch": -3}, pb.ERROR_CODE_INVALID_REQUEST),
    ({"member_epoch": -(2**31)}, pb.ERROR_CODE_INVALID_REQUEST),
    ({"rebalance_timeout_ms": -2}, pb.ERROR_CODE_INVALID_REQUEST),
    ({"member_id": "m" * 256}, pb.ERROR_CODE_INVALID_REQUEST),
    ({"member_id": "m\x1b[31m"}, pb.ERROR_CODE_INVALID_REQUEST),
    ({"instance_id": "i\n"}, pb.ERROR_CODE_INVALID_REQUEST),
    ({"instance_id": "i" * 256}, pb.ERROR_CODE_INVALID_REQUEST),
    ({"client_id": "c\u202e"}, pb.ERROR_CODE_INVALID_REQUEST),
    ({"topics": tuple(f"t{i}" for i in range(1001))}, pb.ERROR_CODE_INVALID_REQUEST),
    ({"topics": ("x" * 250,)}, pb.ERROR_CODE_INVALID_TOPIC_EXCEPTION),
    ({"topics": ("../../x",)}, pb.ERROR_CODE_INVALID_TOPIC_EXCEPTION),
    ({"topic_regex": "("}, pb.ERROR_CODE_INVALID_REGULAR_EXPRESSION),
    ({"topic_regex": "a" * 1001}, pb.ERROR_CODE_INVALID_REGULAR_EXPRESSION),
    ({"assignor": "x" * 10_000}, pb.ERROR_CODE_UNSUPPORTED_ASSIGNOR),
    ({"member_id": "stranger"}, pb.ERROR_CODE_UNKNOWN_MEMBER_ID),
    ({"member_id": "stranger", "member_epoch": LEAVES}, pb.ERROR_CODE_UNKNOWN_MEMBER_ID),
]


@pytest.mark.parametrize(("fields", "code"), BAD, ids=lambda value: str(value)[:40])
def test_bad_input_is_refused_and_changes_nothing(fields: dict[str, Any], code: int) -> None:
    world = World(t=4)
    one = poller(world, "one")
    before = list(world.log)
    assert refused(lambda: one.ask(**fields)) == code
    assert refused(lambda: Poller(world, "new").ask(**{**one.joining, "member_epoch": 1, **fields})) != 0
    assert (world.log, members(world)) == (before, {"one": (4, 0)})
    assert one.beat().assigned is None


@pytest.mark.parametrize("group_id", ["", "g" * 256, "g\n"])
def test_a_bad_group_id_is_refused(group_id: str) -> None:
    assert refused(Poller(World(), "one", group_id=group_id).join) == pb.ERROR_CODE_INVALID_GROUP_ID


def test_what_nobody_was_assigned_cannot_be_given_away() -> None:
    world = World(t=4)
    one = poller(world, "one")
    one.ask(owned=frozenset({(b"x" * 16, 2**31 - 1), (b"", -1), *ids(one.owned)}))
    assert members(world)["one"] == (4, 0)
    one.ask(owned=frozenset())
    assert members(world)["one"] == (4, 0), "what it is to own, it is to own"


def test_an_empty_group_of_the_classic_protocol_changes_its_type() -> None:
    world = World(t=4)
    world.done(world.coordinator.begin_classic(GROUP, world.wall))
    assert Poller(world, "one").join().member_epoch == 1


def test_a_group_has_a_largest_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.limits.GROUP_MEMBERS_MAX", 2)
    world = World(t=4)
    one, _ = poller(world, "one"), poller(world, "two")
    assert refused(Poller(world, "three").join) == pb.ERROR_CODE_POLICY_VIOLATION
    assert one.join().member_epoch == 2
