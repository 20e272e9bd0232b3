"""Large requests wait for room, on their way and before they begin, and lose nothing by it."""

import asyncio
import struct
from functools import partial
from typing import Any

import pytest
import structlog.testing

from node import limits
from node.api.room import Room
from node.kafka.connection import Call, FrameLimits, Listener
from node.kafka.produce import ProduceResponse
from node.kafka.registry import Registry
from node.kafka.wire import Message
from node.turns import Turns
from tests.node.kafka.test_codec import frame
from tests.node.kafka.test_connection import PRODUCE, Transport, sized

BATCH_BYTES = 200_000


def produce() -> bytes:
    head = struct.pack(">hhii", -1, -1, 1000, 1) + struct.pack(">h1s", 1, b"t") + struct.pack(">iii", 1, 0, BATCH_BYTES)
    return sized(bytes(frame(PRODUCE, 3, head + bytes(BATCH_BYTES))))


class Client:
    """Sends only while it is read from."""

    def __init__(self, listener: Listener) -> None:
        self.transport = Transport()
        self.connection = listener.connection()
        self.connection.connection_made(self.transport)
        self._left = b""

    def send(self, data: bytes) -> None:
        self._left += data
        while self._left and self.transport.reading and not self.transport.closed:
            space = self.connection.get_buffer(-1)
            count = min(len(space), len(self._left), 50_000)
            space[:count], self._left = self._left[:count], self._left[count:]
            self.connection.buffer_updated(count)

    async def go_on(self) -> bool:
        """Whether all has been sent."""
        for _ in range(3):
            await asyncio.sleep(0)
        self.send(b"")
        await asyncio.sleep(0)
        return not self._left


class World:
    def __init__(self, rooms: float = 1.5) -> None:
        self.calls: list[Call] = []
        registry = Registry()
        registry.add(PRODUCE, 0, 3, self.produce)
        most = int(limits.LARGE_SHARE * rooms * BATCH_BYTES)
        self.listener = Listener(registry, FrameLimits(1 << 20), received_max_bytes=most, turns=Turns(lambda: 0.0))

    def produce(self, message: Message, call: Call) -> None:
        self.calls.append(call)

    @property
    def used(self) -> tuple[int, int, int]:
        return self.listener.coming.used_bytes, self.listener.at_work.used_bytes, self.listener.slow_bytes


@pytest.fixture(autouse=True)
def _all_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LARGE_BYTES", 100_000)


async def test_a_large_request_begins_when_the_one_before_is_answered() -> None:
    world = World()
    first, second, third = (Client(world.listener) for _ in range(3))
    for client in 2 * (first, second, third):
        client.send(produce())
    assert [call.connection for call in world.calls] == [first.connection]
    for order in (second, third, first, second, third):
        world.calls[-1].answer(ProduceResponse([], 0))
        for client in (first, second, third):
            await client.go_on()
        assert world.calls[-1].connection is order.connection
    world.calls[-1].answer(ProduceResponse([], 0))
    assert len(world.calls) == 6
    assert world.used == (0, 0, 0)


async def test_no_more_comes_at_once_than_there_is_room_for() -> None:
    world = World()
    first, second = Client(world.listener), Client(world.listener)
    half = BATCH_BYTES // 2
    first.send(produce()[:half])
    second.send(produce())
    assert second.transport.reading is False
    assert not await second.go_on()
    first.send(produce()[half:])
    assert await second.go_on()
    assert [call.connection for call in world.calls] == [first.connection]
    world.listener.close_idle(asyncio.get_running_loop().time() + 60, 600)
    assert not second.transport.closed, "who may not send is not silent"


async def test_who_takes_long_keeps_nobody_waiting_and_of_too_many_the_slowest_goes() -> None:
    world = World(rooms=1.1)
    loop = asyncio.get_running_loop()
    slow = [Client(world.listener) for _ in range(6)]
    quick = Client(world.listener)
    with structlog.testing.capture_logs() as lines:
        for count, client in enumerate(slow):
            client.send(produce()[: 60_000 + 1000 * count])
            world.listener.make_room(loop.time() + 5)
            await client.go_on()
        quick.send(produce())
        world.listener.make_room(loop.time() + 5)
        await quick.go_on()
    assert [call.connection for call in world.calls] == [quick.connection]
    assert [client.transport.closed for client in slow] == [True, True, False, False, False, False]
    assert len(lines) == 2
    assert all("bytes of a request came in" in line["reason"] for line in lines)
    for client in slow:
        client.connection.connection_lost(None)
    assert world.used == (0, world.calls[0].room_bytes, 0)


@pytest.mark.parametrize("sent", range(60_000, 3 * BATCH_BYTES, 70_000))
async def test_whoever_goes_leaves_its_room(sent: int) -> None:
    world = World()
    rude, other = Client(world.listener), Client(world.listener)
    rude.send((4 * produce())[:sent])
    other.send(produce())
    rude.connection.connection_lost(None)
    await other.go_on()
    assert world.calls[-1].connection is other.connection
    world.calls[-1].answer(ProduceResponse([], 0))
    world.calls[0].answer(ProduceResponse([], 0))
    assert world.used == (0, 0, 0)
    assert not world.listener.coming.crowded
    assert not world.listener.at_work.crowded


def test_what_is_larger_than_the_room_gets_in_alone_and_in_order() -> None:
    room, came = Room(10), list[Any]()
    assert room.enter(30, lambda: came.append("large"))
    first = partial(came.append, "larger")
    assert not room.enter(40, first)
    assert not room.enter(1, lambda: came.append("small"))
    room.forget(first)
    room.leave(30)
    assert came == ["small"]
    assert room.used_bytes == 1


async def test_who_is_cancelled_while_it_waits_or_just_when_room_came_leaves_none_behind() -> None:
    room = Room(10)
    await room.entered(8)
    early, late, last = (asyncio.create_task(room.entered(8)) for _ in range(3))
    await asyncio.sleep(0)
    early.cancel()
    late.cancel()
    room.leave(8)
    await asyncio.gather(early, late, last, return_exceptions=True)
    assert last.done()
    assert room.used_bytes == 8
    room.leave(8)
    assert room.used_bytes == 0
