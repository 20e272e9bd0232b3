"""A decision that raises half-way leaves nothing behind, and one that lands leaves what the log says."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from node.groups.model import Groups
from node.groups.offsets import Committer, Position, Where
from node.groups.overlay import Overlay
from node.groups.stage import Outcome, Stage
from ottla.protocol.invariant import InvariantError
from ottla.v1 import data_pb2, group_pb2
from tests.node.groups.support import GROUP, World, topic_id, view


class Planted(Exception):
    """A bug."""


def facts(world: World) -> Any:
    state = world.coordinator._state
    timers = [sorted(t._at_ms.items()) for t in (state.silence, state.targets, state.expiry)]
    soft = {group_id: (group.targeted_ms, group.reason) for group_id, group in state.groups.by_id.items()}
    return copy.deepcopy(
        (
            state.groups.by_id,
            state.sessions,
            state.topics,
            list(state.swept),
            list(state.unseen),
            timers,
            soft,
            world.coordinator.groups(),
        )
    )


def replayed(world: World) -> Any:
    groups = Groups()
    for record in world.log:
        groups.replay(record)
    return groups.by_id


def dies_at_every_step(world: World, decide: Callable[[], Outcome]) -> None:
    """A bug is met at the first step that changes something, at the second, ... and in the end at none."""
    before = facts(world)
    for step in range(1_000):
        left = [step]

        def counted(real: Callable[..., Any], left: list[int] = left) -> Callable[..., Any]:
            def call(*args: Any, **named: Any) -> Any:
                left[0] -= 1
                if left[0] < 0:
                    raise Planted
                return real(*args, **named)

            return call

        with pytest.MonkeyPatch.context() as patch:
            for name in ("emit", "tell"):
                patch.setattr(Stage, name, counted(getattr(Stage, name)))
            for name in ("__setitem__", "__delitem__"):
                patch.setattr(Overlay, name, counted(getattr(Overlay, name)))
            try:
                outcome = decide()
            except Planted:
                assert facts(world) == before, f"step {step}"
                continue
        assert facts(world) == before, "nothing holds before it lands"
        assert step > 0, "the decision changes nothing: it shows nothing"
        world.done(outcome)
        assert world.coordinator._state.groups.by_id == replayed(world)
        return
    pytest.fail("it never ends")


def wanting(world: World, **fields: Any) -> Callable[[], Outcome]:
    join = group_pb2.Join(group_id=GROUP, topics=["t"], **fields)
    return lambda: world.coordinator.join(99, join, "host", "m99", world.now)


def two_members() -> World:
    world = World(t=4)
    world.join()
    world.join(instance_id="static")
    world.commit(5, min(world.members[0].owned), member_id="m1", member_epoch=world.members[0].epoch)
    world.now += 1_000
    return world


def test_a_join_that_dies_half_way_leaves_nothing() -> None:
    world = two_members()
    dies_at_every_step(world, wanting(world))


def test_a_join_to_a_new_group_that_dies_half_way_leaves_no_group() -> None:
    world = World(t=4)
    dies_at_every_step(world, wanting(world))


def test_a_join_that_is_too_early_for_a_target_leaves_nothing() -> None:
    world = two_members()
    world.join(settle=False)
    dies_at_every_step(world, wanting(world))
    assert world.state == "assigning"


def test_a_takeover_of_an_instance_id_that_dies_half_way_leaves_nothing() -> None:
    world = two_members()
    world.members[1].lose()
    dies_at_every_step(world, wanting(world, instance_id="static"))


def test_a_member_that_comes_back_and_dies_half_way_leaves_nothing() -> None:
    world = two_members()
    world.join(settle=False)
    one = world.members[0]
    one.read()
    owned = [data_pb2.TopicPartition(topic_id=topic_id(name), partition=number) for name, number in one.owned]
    dies_at_every_step(world, wanting(world, member_id="m1", member_epoch=one.epoch, owned=owned))


def test_a_confirmation_that_dies_half_way_leaves_nothing() -> None:
    world = two_members()
    world.join(settle=False)
    one = world.members[0]
    one.read()
    assert one.last is not None
    owned = group_pb2.Owned(assignment_id=one.last.assignment_id)
    dies_at_every_step(world, lambda: world.coordinator.confirm(one.session, owned, world.now))


@pytest.mark.parametrize("who", [0, 1], ids=["dynamic", "static"])
def test_a_leave_that_dies_half_way_leaves_nothing(who: int) -> None:
    world = two_members()
    session = world.members[who].session
    dies_at_every_step(world, lambda: world.coordinator.leave(session, world.now, world.wall))


def test_the_last_one_s_leave_that_dies_half_way_leaves_nothing() -> None:
    world = World(t=2)
    one = world.join()
    dies_at_every_step(world, lambda: world.coordinator.leave(one.session, world.now, world.wall))


def test_a_tick_that_dies_half_way_leaves_what_is_due() -> None:
    world = two_members()
    world.join(settle=False)
    world.join(settle=False)
    world.members[0].lose()
    world.commit(5, group_id="old")
    world.now += 1_000
    world.wall += world.settings.offsets_retention_ms + 1
    dies_at_every_step(world, lambda: world.coordinator.tick(world.now, world.wall))
    assert world.coordinator.group("old") is None
    assert "m1" not in world.coordinator.groups()[0].members


def test_a_change_of_topics_that_dies_half_way_leaves_nothing() -> None:
    world = two_members()
    world.commit(5, group_id="old")
    for topics in (view(t=6), view(u=1)):
        world.coordinator.topics_changed(topics)
        dies_at_every_step(world, lambda: world.coordinator.tick(world.now, world.wall))
        world.now += 1_000


@pytest.mark.parametrize("group_id", [GROUP, "empty"])
def test_a_commit_that_dies_half_way_leaves_nothing(group_id: str) -> None:
    world = two_members()
    one = world.members[0]
    who = Committer("m1", one.epoch) if group_id == GROUP else Committer()
    positions = [Position(Where("t", b"", number), 9) for _, number in sorted(one.owned)]
    dies_at_every_step(world, lambda: world.coordinator.commit(group_id, who, positions, world.wall)[0])


def test_a_reset_and_a_deletion_that_die_half_way_leave_nothing() -> None:
    world = World(t=4)
    world.commit(5)
    world.commit(5, ("t", 1))
    moved = [((topic_id("t"), number), 1) for number in range(3)]
    dies_at_every_step(world, lambda: world.coordinator.reset(GROUP, moved, world.wall))
    dies_at_every_step(world, lambda: world.coordinator.delete(GROUP))
    assert world.state == "none"


def test_two_owners_are_refused_whoever_decides_that() -> None:
    world = two_members()
    one, two = world.coordinator.groups()[0].members.values()
    stage = Stage(world.coordinator._state, world.now)
    with pytest.raises(InvariantError):
        stage.write_member(GROUP, type(one)(**{**_fields(one), "assigned": two.assigned}))


def _fields(member: Any) -> dict[str, Any]:
    return {name: getattr(member, name) for name in member.__slots__}


def test_an_overlay_reads_as_what_it_will_be() -> None:
    base = {"a": 1, "b": 2, "c": 3}
    laid: Overlay[str, int] = Overlay(base)
    laid["a"] = 10
    laid["d"] = 4
    del laid["b"]
    laid.pop("nothing", None)
    with pytest.raises(KeyError):
        laid["b"]
    with pytest.raises(KeyError):
        del laid["b"]
    laid["b"] = 20
    del laid["b"]
    expected = {"a": 10, "c": 3, "d": 4}
    assert dict(laid) == expected
    assert (len(laid), list(laid), laid.get("b"), "b" in laid, "d" in laid) == (3, ["a", "c", "d"], None, False, True)
    assert base == {"a": 1, "b": 2, "c": 3}
    laid.land()
    assert base == expected
