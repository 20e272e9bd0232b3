"""A burst of one client delays another by a turn."""

import asyncio
import time
from typing import Any

import pytest

from node import turns
from node.turns import Places, Turns, Waiters
from tests.node.loop_watch import LoopWatch


class Call:
    """What is read of a call's context."""

    def __init__(self, peer: str, metadata: tuple[tuple[str, str], ...] = ()) -> None:
        self._peer = peer
        self._metadata = metadata

    def peer(self) -> str:
        return self._peer

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return self._metadata


def busy(seconds: float) -> None:
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass


async def test_waiters_are_let_on_client_by_client_each_in_order() -> None:
    waiters = Waiters()
    order: list[str] = []
    for name in ("a1", "a2", "a3", "b1", "b2", "c1"):
        waiters.join(name[0]).add_done_callback(lambda _, name=name: order.append(name))  # type: ignore[misc]
    assert [waiters.let_one_on() for _ in range(7)] == [True] * 6 + [False]
    await asyncio.sleep(0)
    assert order == ["a1", "b1", "c1", "a2", "b2", "a3"]
    assert not waiters


async def test_who_has_gone_is_passed_over() -> None:
    waiters = Waiters()
    gone, here = waiters.join("a"), waiters.join("a")
    gone.cancel()
    assert waiters.let_one_on()
    assert here.done()
    assert not waiters.let_one_on()


async def test_a_burst_of_one_client_delays_another_by_a_turn() -> None:
    served = Turns()
    done: list[str] = []

    async def handler(context: Any) -> None:
        busy(0.006)
        done.append(context.peer())

    begin = turns.for_client(turns.in_turn(handler), served, forwarded=False)

    async def call(context: Call) -> None:
        """As gRPC runs it: a task of its own for each call."""
        await begin(context)

    burst = [asyncio.create_task(call(Call("burst"))) for _ in range(100)]
    await asyncio.sleep(0)
    other = asyncio.create_task(call(Call("other")))
    await other
    assert len(done) <= 10, f"{len(done) - 1} calls of the burst came first"
    await asyncio.gather(*burst)


async def test_few_go_on_in_one_turn_of_the_loop() -> None:
    served = Turns()
    waiting = [asyncio.create_task(served.wait("a")) for _ in range(100)]
    before, most = 0, 0
    while before < len(waiting):
        await asyncio.sleep(0)
        done = sum(task.done() for task in waiting)
        most, before = max(most, done - before), done
    assert most <= turns.WIDTH_MAX


async def test_turns_of_a_burst_stay_short() -> None:
    served = Turns()

    async def handler(_context: Any) -> None:
        busy(0.002)

    call = turns.for_client(turns.in_turn(handler), served, forwarded=False)
    await asyncio.sleep(0)
    async with LoopWatch() as watch:
        await asyncio.gather(*(call(Call(f"{number % 4}")) for number in range(300)))
    assert watch.longest_s < 0.3, "300 calls of 2 ms each are 600 ms in one turn"


@pytest.mark.parametrize(("forwarded", "client"), [(True, "10.0.0.1:5"), (False, "10.0.0.9:1")])
async def test_a_node_says_for_whom_it_calls_and_a_client_does_not(forwarded: bool, client: str) -> None:
    seen: list[str | None] = []

    async def handler(_context: Any) -> None:
        seen.append(turns.client())

    context = Call("10.0.0.9:1", ((turns.CLIENT, "10.0.0.1:5"),))
    await turns.for_client(handler, Turns(), forwarded=forwarded)(context)
    assert seen == [client]


async def test_one_at_a_time_survives_those_who_give_up() -> None:
    lock = Places(1)
    await lock.take()
    first, second = asyncio.create_task(lock.take()), asyncio.create_task(lock.take())
    await asyncio.sleep(0)
    lock.give()
    first.cancel()
    await asyncio.wait_for(second, 1)
    lock.give()
    await asyncio.wait_for(lock.take(), 1)


async def test_outside_of_calls_nobody_waits() -> None:
    await turns.take()
    await turns.give_way()
    assert turns.client() is None


async def test_what_else_the_loop_does_makes_no_burst_wait_longer() -> None:
    """A crowd of cheap calls while every turn of the loop is long: it grows to `WIDTH_MAX` a turn."""
    served = Turns()
    looks = 0

    async def other_work() -> None:
        nonlocal looks
        while True:
            busy(2 * turns.TURN_S)
            looks += 1
            await asyncio.sleep(0)

    working = asyncio.create_task(other_work())
    await asyncio.sleep(0)
    await asyncio.gather(*(served.wait(f"{number}") for number in range(1000)))
    working.cancel()
    assert looks < 60, "at four a turn it takes 250"
