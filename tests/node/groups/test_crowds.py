"""Many members and many groups: what a change costs, and that nothing waits for ever."""

import time
from collections.abc import Callable

import pytest

from node.groups.model import TARGET_EVERY_MAX_MS, Group, MemberChange, TargetChange, TopicView, decode
from node.groups.subscriptions import CHANGES_MAX, Subscriptions
from node.metadata.image import Delta
from ottla.protocol.errors import ApiError
from ottla.v1 import error_pb2 as pb
from tests.node.groups.fake_broker import image
from tests.node.groups.support import GROUP, World, short_turns, topic_id, view


def group_of(world: World) -> Group:
    group = world.coordinator.group(GROUP)
    assert group is not None
    return group


def crowd(world: World, count: int) -> None:
    """All join in one instant."""
    for _ in range(count):
        world.join(settle=False, pause=False)


def test_changes_that_come_at_once_share_a_target() -> None:
    world = World(t=100)
    crowd(world, 60)
    assert group_of(world).target_epoch == 1, "the first is alone, and served at once"
    assert world.state == "assigning"
    world.settle()
    assert world.state == "stable"
    assert group_of(world).target_epoch == 2
    assert sorted({len(member.owned) for member in world.members}) == [1, 2]
    world.pause()
    for member in world.members[:20]:
        member.leave(pause=False)
    world.settle()
    assert group_of(world).target_epoch == 4, "one at once, one for the others"
    assert world.state == "stable"


def test_a_change_waits_no_longer_than_it_must() -> None:
    world = World(t=4)
    crowd(world, 2)
    due_ms = world.coordinator.due_ms(world.now, world.wall)
    assert due_ms is not None
    assert 0 < due_ms <= TARGET_EVERY_MAX_MS
    world.tick(due_ms - 1)
    assert world.state == "assigning"
    world.tick(1)
    assert world.state == "reconciling"


def test_a_target_that_is_due_is_made_by_the_next_coordinator() -> None:
    world = World(t=4)
    crowd(world, 2)
    world.settle_told()
    assert world.state == "assigning"
    world.move()
    for member in world.members[:1]:
        member.resume()
    world.tick(1)
    assert world.state == "reconciling"


def test_whom_a_target_leaves_as_it_was_is_neither_written_nor_told() -> None:
    world = World(t=10)
    crowd(world, 10)
    world.settle()
    written = len(world.log)
    world.join(settle=False)
    world.tick(TARGET_EVERY_MAX_MS)
    changes = [decode(record) for record in world.log[written:]]
    assert {c.member_id for c in changes if isinstance(c, MemberChange)} == {"m11"}
    assert not [c for c in changes if isinstance(c, TargetChange)]
    assert [member.member_id for member in world.members if member.inbox] == [""]
    assert world.state == "stable"


def test_a_thousand_members_settle_with_a_bounded_number_of_records() -> None:
    world = World(t=100)
    took_s = []
    for number in range(1_000):
        begun = time.process_time()
        world.join(settle=False, pause=False)
        world.tick(2)
        took_s.append(time.process_time() - begun)
        if number % 50 == 0:
            world.settle()
    world.settle()
    assert world.state == "stable"
    assert sorted({len(member.owned) for member in world.members}) == [0, 1]
    assert len(world.log) < 5_000, "two for each join, and some for each partition that moves"
    # A few are slow by what this process does besides, its garbage collections above all.
    slow = sorted(took_s)[-10]
    assert slow < 0.2, f"ten decisions took {slow:.3f} s or more"


def test_one_turn_makes_a_bounded_part_of_the_targets_that_are_due(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.groups.membership.TICK_WORK_MAX", 5)
    world = World(t=1)
    for number in range(20):
        for _ in range(2):
            world.join(group_id=f"g{number:02}", settle=False, pause=False)
    world.now += TARGET_EVERY_MAX_MS
    states = []
    while world.coordinator.due_ms(world.now, world.wall) == 0:
        world.done(world.coordinator.tick(world.now, world.wall))
        states.append(sum(group.state == "assigning" for group in world.coordinator.groups()))
    assert states[0] > 10
    assert states[-1] == 0


def test_positions_of_many_groups_in_a_topic_that_is_gone_go_part_by_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.groups.offsets.FORGOTTEN_MAX", 10)
    world = World(t=1, u=1)
    world.tick(0)
    for number in range(100):
        for at in (("t", 0), ("u", 0)):
            assert world.commit(1, at, group_id=f"g{number:02}") == 0
    world.topics_are(u=1)
    assert 0 < sum(len(group.offsets) == 1 for group in world.coordinator.groups()) < 20
    turns = 0
    while world.coordinator.due_ms(world.now, world.wall) == 0:
        world.done(world.coordinator.tick(world.now, world.wall))
        turns += 1
    assert turns > 10
    assert all(len(group.offsets) == 1 for group in world.coordinator.groups())


def test_many_groups_expire_part_by_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.groups.offsets.FORGOTTEN_MAX", 10)
    world = World(t=1)
    for number in range(50):
        world.commit(1, group_id=f"g{number:02}")
    world.wall += world.settings.offsets_retention_ms + 1
    left = []
    while world.coordinator.due_ms(world.now, world.wall) == 0:
        world.done(world.coordinator.tick(world.now, world.wall))
        left.append(len(world.coordinator.groups()))
    assert left[0] > 40
    assert left[-1] == 0


def test_what_nothing_is_due_for_costs_nothing() -> None:
    world = World(t=4)
    world.join()
    world.tick(0)
    assert world.coordinator.due_ms(world.now, world.wall) is None, "its stream's keepalive vouches for it"


def test_groups_and_their_subscriptions_have_a_largest_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.limits.GROUPS_MAX", 2)
    monkeypatch.setattr("node.limits.GROUP_SUBSCRIPTIONS_MAX", 2)
    world = World(t=1, u=1, v=1)
    world.join("t")
    world.join("u")
    world.join("u")
    world.commit(1, group_id="other")
    before = list(world.log)
    with pytest.raises(ApiError) as caught:
        world.join("v")
    assert caught.value.code == pb.ERROR_CODE_POLICY_VIOLATION
    with pytest.raises(ApiError) as caught:
        world.join(group_id="third")
    assert caught.value.code == pb.ERROR_CODE_POLICY_VIOLATION
    assert world.commit(1, group_id="third") == pb.ERROR_CODE_POLICY_VIOLATION
    assert world.log == before
    assert world.commit(2, group_id="other") == 0


def test_missing_topics_are_named() -> None:
    world = World(t=1)
    one = world.join("t", "mistyped")
    assert one.last is not None
    assert list(one.last.missing_topics) == ["mistyped"]


def test_the_target_of_a_large_group_is_made_over_several_turns() -> None:
    """Whatever a turn costs, it is for some hundred members or partitions."""
    world = World(t=1_000)
    crowd(world, 500)
    world.now += TARGET_EVERY_MAX_MS
    while world.coordinator.due_ms(world.now, world.wall) == 0:
        outcome = world.coordinator.tick(world.now, world.wall)
        assert len(outcome.records) <= 410
        world.done(outcome)
        if world.state == "assigning":
            assert not [member for member in world.members[1:] if member.inbox], "nobody is told before the end"
    for _ in range(20):
        world.settle_told()
        world.tick(TARGET_EVERY_MAX_MS)
    assert world.state == "stable"
    assert {len(member.owned) for member in world.members} == {2}


def under_way(world: World) -> Group:
    """A group of which a target was begun, and is not at its end."""
    world.pause()
    world.join(settle=False, pause=False)
    while (group := group_of(world)).plan is None:
        world.done(world.coordinator.tick(world.now, world.wall))
    return group


def test_what_changes_while_a_target_is_under_way_has_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    short_turns(monkeypatch)
    world = World(t=4)
    first = world.join()
    under_way(world)
    late = world.join(settle=False, pause=False)
    first.leave(pause=False)
    world.settle()
    assert not group_of(world).is_at_work
    assert len(late.owned) == 2
    assert sorted(len(member.owned) for member in world.members[1:]) == [2, 2]


def test_no_partition_changes_hands_while_a_target_is_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who took it then would own it in the epoch of who gave it back."""
    short_turns(monkeypatch)
    world = World(t=4)
    first = world.join()
    second = world.join(member_id="a", settle=False)
    world.tick(TARGET_EVERY_MAX_MS)
    for member in (first, second):
        member.read()
    assert len(first.owned) == 2
    epoch = first.epoch
    under_way(world)
    first.confirm()
    assert not second.inbox
    for _ in range(TARGET_EVERY_MAX_MS):
        world.tick(1)
        world.settle_told()
    assert world.state == "stable"
    assert second.epoch > epoch


def test_a_target_comes_to_its_end_however_often_members_change(monkeypatch: pytest.MonkeyPatch) -> None:
    short_turns(monkeypatch)
    world = World(t=4)
    world.join()
    epoch = under_way(world).group_epoch
    for _ in range(100):
        world.join(settle=False, pause=False).leave(pause=False)
        world.done(world.coordinator.tick(world.now, world.wall))
    assert group_of(world).target_epoch >= epoch


def test_who_takes_a_place_over_while_a_target_is_under_way_has_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    short_turns(monkeypatch)
    world = World(t=4)
    world.join(instance_id="i")
    second = world.join(instance_id="j")
    second.lose()
    under_way(world)
    again = world.join(instance_id="j", settle=False, pause=False)
    world.settle()
    assert world.state == "stable"
    assert again.owned
    assert sum(len(member.owned) for member in world.members if member is not second) == 4


def test_groups_see_changed_topics_part_by_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.groups.membership.TICK_WORK_MAX", 50)
    world = World(t=1)
    for number in range(30):
        world.join(group_id=f"g{number:02}", settle=False)
    world.tick(0)
    world.coordinator.topics_changed(view(t=2))
    left = []
    while world.coordinator.due_ms(world.now, world.wall) == 0:
        world.done(world.coordinator.tick(world.now, world.wall))
        left.append(len(world.coordinator._state.unseen))
    assert len(left) > 5
    assert left[0] > 20, "one turn does a part"
    assert left[-1] == 0
    world.tick(TARGET_EVERY_MAX_MS)
    assert {len(group.owners) for group in world.coordinator.groups()} == {2}


def test_who_comes_before_its_group_has_seen_a_new_topic_reads_it_from_its_start() -> None:
    world = World(t=1)
    first = world.join(topic_regex=".*")
    world.pause()
    world.coordinator.topics_changed(view(t=1, u=1))
    second = world.join(topic_regex=".*", pause=False)
    told = [first.last, second.last]
    new = {p.partition.topic: p.new_partition for last in told if last is not None for p in last.partitions}
    assert new == {"t": False, "u": True}


def test_a_group_of_many_positions_goes_part_by_part_and_nobody_meets_the_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("node.groups.offsets.FORGOTTEN_MAX", 10)
    world = World(t=25)
    world.tick(0)
    for number in range(25):
        world.commit(1, ("t", number))
    world.done(world.coordinator.delete(GROUP))
    state = world.coordinator._state
    assert len(state.groups.by_id[GROUP].offsets) == 15
    assert (world.state, world.committed(("t", 24)), world.coordinator.groups()) == ("none", None, [])
    for again in (world.join, lambda: world.done(world.coordinator.delete(GROUP))):
        with pytest.raises(ApiError) as caught:
            again()
        assert caught.value.code == pb.ERROR_CODE_COORDINATOR_LOAD_IN_PROGRESS
    assert world.commit(1) == pb.ERROR_CODE_COORDINATOR_LOAD_IN_PROGRESS
    world.move()  # the next coordinator brings it to its end
    world.tick(1)
    assert GROUP not in world.coordinator._state.groups.by_id
    member = world.join()
    assert world.committed() is None
    assert len(member.owned) == 25


def test_positions_of_one_group_in_a_topic_that_is_gone_go_part_by_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.groups.offsets.FORGOTTEN_MAX", 10)
    world = World(t=25, u=1)
    world.tick(0)
    for number in range(25):
        world.commit(1, ("t", number))
    world.commit(1, ("u", 0))
    written = len(world.log)
    world.topics_are(u=1)
    assert len(world.log) == written + 10
    world.tick(1)
    assert len(world.log) == written + 25
    assert world.committed(("u", 0)) == 1


def test_a_group_that_was_deleted_while_it_waited_to_be_swept_is_passed_over() -> None:
    world = World(t=1, u=1)
    world.tick(0)
    world.commit(1)
    world.coordinator.topics_changed(view(u=1))
    world.done(world.coordinator.delete(GROUP))
    world.tick(1)
    assert not world.coordinator._state.swept


def test_an_expression_meets_only_what_came_since(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def compiled(pattern: str) -> Callable[[str], bool] | None:
        return (lambda name: asked.append(name) or name.startswith("t")) if pattern else None  # type: ignore[func-returns-value]

    monkeypatch.setattr("node.groups.subscriptions.compile_topic_regex", compiled)
    names = Subscriptions(view(t1=1, u1=1))
    assert names.topic_ids(((), "x")) == {topic_id("t1")}
    names.see(view(u1=1, t2=1))
    names.see(view(u1=1, t2=1, t3=1))
    assert names.topic_ids(((), "x")) == {topic_id("t2"), topic_id("t3")}
    assert asked == ["t1", "u1", "t2", "t3"]
    for number in range(CHANGES_MAX + 1):
        names.see(view(u1=1, t2=1 + number))
    assert names.topic_ids(((), "x")) == {topic_id("t2")}, "too many changes: matched anew"


def test_the_topics_of_an_image_are_the_same_object_until_they_change() -> None:
    before = TopicView.of({}).after(image(t=2, u=1), Delta(snapshot=True))
    assert before.topics == view(t=2, u=1).topics
    led = Delta(changed_partitions=frozenset({(topic_id("t"), 0)}))
    assert before.after(image(t=2, u=1), led) is before, "another leader is nothing to groups"
    grown = Delta(changed_partitions=frozenset({(topic_id("t"), 2)}))
    assert before.after(image(t=3, u=1), grown).topics == view(u=1, t=3).topics
    topic = image(t=2).topics[topic_id("t")]
    gone = Delta(deleted_topics={topic_id("t"): topic}, created_topics=frozenset({topic_id("v")}))
    assert before.after(image(u=1, v=4), gone).topics == view(u=1, v=4).topics
