"""Planted bugs: each of these changes to what all of a node shares must turn a test red. docs/testing.md lists them."""

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import pytest

from tests.node import test_capacity, test_core_task, test_turns
from tests.node.services import test_bounds, test_receive
from tests.planted import Bug, listed, plant

TURNS = "node.turns"
IN_FLIGHT = "node.api.in_flight:InFlight"


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """A test of its own loop. What never ends fails, too."""

    def call() -> None:
        asyncio.run(asyncio.wait_for(test(), 5))

    return call


def ended_by_a_cancelled_call() -> None:
    work = test_core_task.waits_for_a_cancelled_call
    run(partial(test_core_task.test_whatever_ends_a_core_task_ends_its_group, work, RuntimeError))()


def ended_by_itself() -> None:
    run(partial(test_core_task.test_whatever_ends_a_core_task_ends_its_group, test_core_task.returns, RuntimeError))()


def slow_while_the_loop_is_held() -> None:
    with pytest.MonkeyPatch.context() as patch:
        run(partial(test_receive.test_nobody_is_slow_while_the_loop_is_held, patch))()


BUGS = [
    Bug(
        "a burst of one client goes first",
        f"{TURNS}:Waiters.let_one_on",
        "self._queues[client] = queue",
        "self._queues = {client: queue, **self._queues}",
        run(test_turns.test_waiters_are_let_on_client_by_client_each_in_order),
    ),
    Bug(
        "who has gone takes a turn",
        f"{TURNS}:Waiters.let_one_on",
        "if not waiting.done():",
        "if waiting:",
        run(test_turns.test_who_has_gone_is_passed_over),
    ),
    Bug(
        "who comes next waits for no turn",
        f"{TURNS}:Turns.free",
        "return not self._waiters and now_s - self._began_s < TURN_S",
        "return True",
        run(test_turns.test_a_burst_of_one_client_delays_another_by_a_turn),
    ),
    Bug(
        "all who wait go on in one turn",
        f"{TURNS}:Turns._turn",
        "range(self._width)",
        "range(1000)",
        run(test_turns.test_few_go_on_in_one_turn_of_the_loop),
    ),
    Bug(
        "what else the loop does counts as theirs",
        f"{TURNS}:Turns._go_on",
        "self._let_on_s = self._clock_s()",
        "pass",
        run(test_turns.test_what_else_the_loop_does_makes_no_burst_wait_longer),
    ),
    Bug(
        "a held loop makes those slow who send to it",
        "node.services.receive:Receiver._look_for_slow",
        "receiving.looks += 1",
        "receiving.looks += LOOKS",
        slow_while_the_loop_is_held,
    ),
    Bug(
        "who gives up keeps the place",
        f"{TURNS}:Places.take",
        "self.give()",
        "pass",
        run(test_turns.test_one_at_a_time_survives_those_who_give_up),
    ),
    Bug(
        "a client says for whom it calls",
        f"{TURNS}:for_client",
        "_named_by_node(context) if forwarded else peer(context)",
        "_named_by_node(context)",
        run(partial(test_turns.test_a_node_says_for_whom_it_calls_and_a_client_does_not, False, "10.0.0.9:1")),
    ),
    Bug(
        "a core task that waits for a cancelled call ends in silence",
        "node.core_task:core",
        "if task.cancelling():\n            raise",
        "raise",
        ended_by_a_cancelled_call,
    ),
    Bug(
        "a core task that returns has done its work",
        "node.core_task:core",
        "raise RuntimeError",
        "return\n    raise RuntimeError",
        ended_by_itself,
    ),
    Bug(
        "room that comes back wakes nobody",
        f"{IN_FLIGHT}.give",
        "self._room.set()",
        "pass",
        run(test_bounds.test_room_is_waited_for),
    ),
    Bug(
        "connections get what logs were promised",
        "node.capacity:capacity",
        "max(4, rest - partitions)",
        "max(4, rest)",
        partial(test_capacity.test_all_shares_together_fit, 1024),
    ),
]


@pytest.mark.parametrize("bug", BUGS, ids=[bug.what.replace(" ", "-") for bug in BUGS])
def test_a_planted_bug_is_caught(bug: Bug, monkeypatch: pytest.MonkeyPatch) -> None:
    bug.caught_by()
    plant(bug, monkeypatch, (test_core_task, test_capacity))
    with pytest.raises(
        (AssertionError, ExceptionGroup, TimeoutError, asyncio.InvalidStateError, pytest.fail.Exception)
    ):
        bug.caught_by()


def test_every_planted_bug_is_listed_in_the_documentation() -> None:
    assert listed("what a node shares") == [bug.what for bug in BUGS]
