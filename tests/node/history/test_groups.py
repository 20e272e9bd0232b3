"""What a coordinator remembers of its groups, and what it answers from that."""

from collections.abc import Callable
from typing import Any

import pytest

from node.groups.stage import Outcome
from node.history.explain import Answer
from node.history.group_answer import of_group
from node.history.groups import OF_A_GROUP, GroupHistory
from tests.node.groups.support import GROUP, World


class Remembering(World):
    """Its history is the shell's, without the shell."""

    def __init__(self, **counts: int) -> None:
        self.history = GroupHistory()
        super().__init__(**counts)

    def done(self, outcome: Outcome) -> None:
        super().done(outcome)
        self.history.add(outcome.notes, self.wall)

    def why(self) -> Answer:
        group = self.coordinator.group(GROUP)
        assert group is not None
        owned = {m: len(member.assigned | member.revoking) for m, member in group.members.items()}
        waits = [m for m, member in group.members.items() if member.revoking]
        state = {"assigning": "rebalancing", "reconciling": "rebalancing"}.get(group.state, group.state)
        return of_group(GROUP, state, owned, waits, self.history.of(GROUP))


def leaves(world: Remembering) -> None:
    world.join().leave()


def is_lost(world: Remembering) -> None:
    member = world.join()
    member.lose()
    world.tick(400)


def is_silent(world: Remembering) -> None:
    member = world.join(session_timeout_ms=5000)
    world.coordinator.heartbeat(member.session, world.now)
    world.tick(6000)


def is_slow_to_give_back(world: Remembering) -> None:
    world.join()
    world.join(settle=False)


def are_too_many(world: Remembering) -> None:
    for _ in range(3):
        world.join()


def is_unknown_to_the_next_coordinator(world: Remembering) -> None:
    world.join().leave()
    world.history = GroupHistory()


@pytest.mark.parametrize(
    ("script", "state", "cause", "says"),
    [
        (leaves, "empty", "member-left", "the last one was m1: it left"),
        (is_lost, "empty", "connection-lost", "its connection was closed without a word"),
        (is_silent, "empty", "member-silent", "its session time-out is 5000 ms"),
        (is_slow_to_give_back, "rebalancing", "member-joined", "it waits for m1 to give partitions back"),
        (are_too_many, "idle-members", "too-few-partitions", "m3 has nothing to read"),
        (is_unknown_to_the_next_coordinator, "empty", "unknown", "why is not known here"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_the_answer_names_what_happened(
    script: Callable[[Remembering], Any], state: str, cause: str, says: str
) -> None:
    world = Remembering(t=2)
    script(world)
    answer = world.why()
    assert (answer.state, answer.cause) == (state, cause), answer
    assert says in answer.text, answer.text


def test_a_crowd_pushes_out_the_oldest_and_no_more_is_kept() -> None:
    world = Remembering(t=1)
    for _ in range(OF_A_GROUP):
        world.join(settle=False)
    events = world.history.of(GROUP)
    assert len(events) == OF_A_GROUP
    assert [event.id for event in events] == sorted((event.id for event in events), reverse=True)
