"""Messages are taken in their clients' turns; who sends slowly keeps nobody waiting."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from node import limits, turns
from node.services import receive
from node.services.receive import Receiver
from node.turns import Turns
from ottla.protocol.errors import ApiError


class Call:
    """A call whose message comes when `come` is called; taking it is `take`, on the loop, as gRPC does it."""

    def __init__(self, peer: str = "a", take: Callable[[], Any] = lambda: b"request") -> None:
        self._peer = peer
        self._take = take
        self.taken = 0
        self._come: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def come(self) -> None:
        self._come.set_result(None)

    def peer(self) -> str:
        return self._peer

    async def read(self) -> Any:
        await self._come
        self.taken += 1
        return self._take()


async def receives(receiver: Receiver, call: Any) -> bytes:
    return await receiver.request(call)


async def until(holds: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < give_up, "it did not come about"
        await asyncio.sleep(0.01)


async def test_messages_that_have_come_together_are_taken_in_turns_of_the_loop() -> None:
    served = Turns()
    done: list[str] = []

    async def handler(call: Any) -> None:
        await receive.message(call)
        done.append(call.peer())

    read = turns.for_client(handler, served, forwarded=False)
    calls = [Call("burst", lambda: time.sleep(0.006)) for _ in range(100)]
    other = Call("other")
    running = [asyncio.create_task(read(call)) for call in (*calls, other)]
    await asyncio.sleep(0)
    for call in (*calls, other):
        call.come()
    await running[-1]
    assert len(done) <= 10, f"{len(done) - 1} messages of the burst were taken first"
    await asyncio.gather(*running)


async def test_what_has_come_for_a_call_that_is_cancelled_is_taken_for_grpc_frees_it_only_then() -> None:
    call = Call()
    reading = asyncio.create_task(receive.message(call))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    call.come()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert call.taken == 1


async def test_a_call_that_is_cancelled_before_waits_for_nothing() -> None:
    call = Call()
    reading = asyncio.create_task(receive.message(call))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert call.taken == 0


async def test_an_end_without_a_request_is_refused() -> None:
    call = Call(take=lambda: grpc.aio.EOF)
    call.come()
    with pytest.raises(ApiError, match="without a request"):
        await receives(Receiver(), call)


async def test_so_many_requests_are_asked_for_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "RECEIVING_MAX", 2)
    receiver = Receiver()
    calls = [Call() for _ in range(5)]
    running = [asyncio.create_task(receives(receiver, call)) for call in calls]
    for call in calls[2:]:
        call.come()
    await asyncio.sleep(0.05)
    assert [call.taken for call in calls] == [0] * 5
    calls[0].come()
    await until(lambda: calls[4].taken == 1)
    assert [call.taken for call in calls] == [1, 0, 1, 1, 1]
    calls[1].come()
    assert await asyncio.gather(*running) == [b"request"] * 5


async def test_who_sends_slowly_keeps_nobody_waiting_and_the_oldest_goes_for_a_new_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "RECEIVING_MAX", 2)
    monkeypatch.setattr(limits, "RECEIVING_SLOWLY_MAX", 3)
    monkeypatch.setattr(receive, "LOOK_S", 0.02)
    receiver = Receiver()
    slow = [Call() for _ in range(5)]
    running = [asyncio.create_task(receives(receiver, call)) for call in slow]
    quick = Call("other")
    quick.come()
    assert await asyncio.wait_for(receives(receiver, quick), 5) == b"request"
    await until(lambda: sum(task.done() for task in running) == 2)
    for task in running[:2]:
        error = task.exception()
        assert isinstance(error, ApiError)
        assert error.name == "THROTTLING_QUOTA_EXCEEDED"
        assert error.retriable
    for call in slow[2:]:
        call.come()
    assert await asyncio.gather(*running[2:]) == [b"request"] * 3
    quick = Call()
    quick.come()
    assert await receives(receiver, quick) == b"request"


async def test_who_has_most_of_the_slow_ones_loses_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "RECEIVING_MAX", 4)
    monkeypatch.setattr(limits, "RECEIVING_SLOWLY_MAX", 3)
    monkeypatch.setattr(receive, "LOOK_S", 0.02)
    receiver, served = Receiver(), Turns()
    receives_for = turns.for_client(receiver.request, served, forwarded=False)
    calls = [Call(peer) for peer in ("once", "many", "many", "many")]
    once, *many = [asyncio.create_task(receives_for(call)) for call in calls]
    await until(many[0].done)
    assert isinstance(many[0].exception(), ApiError)
    for call in (calls[0], *calls[2:]):
        call.come()
    assert await asyncio.gather(once, *many[1:]) == [b"request"] * 3


async def test_who_was_slow_takes_the_places_of_others_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "RECEIVING_MAX", 2)
    monkeypatch.setattr(limits, "RECEIVING_LATE_MAX", 1)
    monkeypatch.setattr(receive, "LOOK_S", 0.02)
    receiver = Receiver()
    receives_for = turns.for_client(receiver.request, Turns(), forwarded=False)
    rude = [asyncio.create_task(receives_for(Call("rude"))) for _ in range(20)]
    await asyncio.sleep(0)
    monkeypatch.setattr(receive, "LOOKS", 1)
    await until(lambda: "rude" in receiver._late)
    monkeypatch.setattr(receive, "LOOK_S", 60)
    for _ in range(3):
        quick = Call("other")
        quick.come()
        assert await asyncio.wait_for(receives_for(quick), 5) == b"request"
    for task in rude:
        task.cancel()
    await asyncio.wait(rude)


async def test_who_sent_something_large_shares_few_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "RECEIVING_LARGE_MAX", 1)
    monkeypatch.setattr(limits, "RECEIVING_LARGE_BYTES", 100)
    monkeypatch.setattr(receive, "LOOK_S", 0.02)
    monkeypatch.setattr(receive, "LOOKS", 10**6)
    receiver = Receiver()
    receives_for = turns.for_client(receiver.request, Turns(), forwarded=False)
    first = Call("large", lambda: bytes(100))
    first.come()
    assert len(await receives_for(first)) == 100
    calls = [Call("large", lambda: bytes(100)) for _ in range(3)]
    running = [asyncio.create_task(receives_for(call)) for call in calls]
    await asyncio.sleep(0)
    for call in calls[1:]:
        call.come()
    for _ in range(3):
        quick = Call("other")
        quick.come()
        assert await receives_for(quick) == b"request"
    assert [call.taken for call in calls] == [0, 0, 0]
    monkeypatch.setattr(receive, "REMEMBERED_S", 0.1)
    calls[0].come()
    assert [len(data) for data in await asyncio.gather(*running)] == [100] * 3
    await until(lambda: not receiver._large and receiver._look is None)


async def test_a_client_is_late_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receive, "LOOK_S", 0.02)
    monkeypatch.setattr(receive, "REMEMBERED_S", 0.1)
    receiver = Receiver()
    receives_for = turns.for_client(receiver.request, Turns(), forwarded=False)
    call = Call("slow")
    running = asyncio.create_task(receives_for(call))
    await until(lambda: "slow" in receiver._late)
    await until(lambda: not receiver._late and receiver._look is None)
    call.come()
    assert await running == b"request"


async def test_nobody_is_slow_while_the_loop_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "RECEIVING_MAX", 2)
    monkeypatch.setattr(limits, "RECEIVING_SLOWLY_MAX", 0)
    monkeypatch.setattr(receive, "LOOK_S", 0.05)
    call = Call()
    receiving = asyncio.create_task(receives(Receiver(), call))
    await asyncio.sleep(0.01)
    held_until = time.monotonic() + 0.4
    while time.monotonic() < held_until:
        pass
    await asyncio.sleep(0.01)
    call.come()
    assert await receiving == b"request"
