"""Messages are taken from gRPC when it is their client's turn, and unary requests so many at once.

What has come is copied by gRPC's Python layer on our loop, in the step that goes on with the call and before any code
of ours sees it: 30 ms for 31 MB, as often within one turn of the loop as there are messages. So `message` lets that
step be taken in turn. And what nobody has asked for stays with its client but for some KB. A unary handler of gRPC asks
at once, for all calls there are; so to gRPC unary calls are streams of one message here, and `Receiver` asks.
"""

import asyncio
import contextlib
import types
from collections import Counter
from collections.abc import Generator
from typing import Any, Final

import grpc

from node import limits, turns
from node.services.faults import Context
from ottla.protocol.errors import ApiError
from ottla.v1 import error_pb2 as pb

LOOK_S: Final = 0.2
LOOKS: Final = 3
"""A request that is seen on its way so often gives its place to another one. Looks are counted, not seconds: while
nothing runs on this loop, nobody can be blamed for it."""
REMEMBERED_S: Final = 10.0
"""How long a client that was slow, or sent something large, is thought to do so again."""


@types.coroutine
def message(context: Context) -> Generator[Any, None, Any]:
    """The next message of a call, or `grpc.aio.EOF`.

    Awaits gRPC's read and goes on with it in turn. What has come is taken by a cancelled call, too: gRPC frees it only
    then.
    """
    reading: Any = context.read().__await__()
    while True:
        try:
            waiting = reading.send(None)
        except StopIteration as read:
            return read.value
        try:
            yield waiting
            if (turn := turns.not_yet()) is not None:
                yield from turn.__await__()
        except BaseException as error:
            if not waiting.done() or waiting.cancelled():
                reading.throw(error)
            with contextlib.suppress(StopIteration):
                reading.send(None)
            raise


class _Receiving:
    """A request on its way."""

    __slots__ = ("client", "looks", "place", "refused", "task")

    def __init__(self, task: "asyncio.Task[Any]", client: str, place: turns.Places) -> None:
        self.task = task
        self.client = client
        self.place = place
        self.looks = 0
        self.refused = False


class Receiver:
    """Asks for the unary requests of one listener, the clients in turn. Whoever sends slowly keeps nobody waiting: its
    request goes to those that take their time. Where those are too many, the client that has the most of them loses its
    oldest one. And who was slow shares few places with others like it for a while, so that requests that never come as
    a whole take the others' places once, not again and again. So does who sent something large: what is on its way is
    in memory twice when it has come, and nobody knows how much it is before."""

    def __init__(self) -> None:
        self._places = turns.Places(limits.RECEIVING_MAX)
        self._late_places = turns.Places(limits.RECEIVING_LATE_MAX)
        self._large_places = turns.Places(limits.RECEIVING_LARGE_MAX)
        self._late: dict[str, float] = {}
        self._large: dict[str, float] = {}
        """Clients that were slow, or sent something large, and until when that is remembered."""
        self._coming: dict[_Receiving, None] = {}
        self._slow: dict[_Receiving, None] = {}
        self._look: asyncio.TimerHandle | None = None

    async def request(self, context: Context) -> bytes:
        """The bytes of a unary call's request. Raises INVALID_REQUEST where there is none, THROTTLING_QUOTA_EXCEEDED
        where it takes too long."""
        client = turns.client() or ""
        place = await self._place(client)
        task = asyncio.current_task()
        assert task is not None, "a handler is run by a task"
        mine = _Receiving(task, client, place)
        self._coming[mine] = None
        if self._look is None:
            self._look = task.get_loop().call_later(LOOK_S, self._look_for_slow)
        try:
            data = await message(context)
        except asyncio.CancelledError:
            if mine.refused and task.uncancel() == 0:
                raise self._refusal() from None
            raise
        finally:
            if mine in self._coming:
                del self._coming[mine]
                place.give()
            self._slow.pop(mine, None)
        if data is grpc.aio.EOF:
            raise ApiError(pb.ERROR_CODE_INVALID_REQUEST, "the call ended without a request: send one message")
        if len(data) >= limits.RECEIVING_LARGE_BYTES:
            self._large[client] = task.get_loop().time() + REMEMBERED_S
        return bytes(data)

    def _places_for(self, client: str) -> turns.Places:
        if client in self._late:
            return self._late_places
        return self._large_places if client in self._large else self._places

    async def _place(self, client: str) -> turns.Places:
        """A place, taken: among those that the client is to have by now."""
        while True:
            places = self._places_for(client)
            await places.take()
            if places is self._places_for(client):
                return places
            places.give()

    def _look_for_slow(self) -> None:
        loop = asyncio.get_running_loop()
        for remembered in (self._late, self._large):
            for client in [client for client, until in remembered.items() if until <= loop.time()]:
                del remembered[client]
        for receiving in list(self._coming):
            receiving.looks += 1
            if receiving.looks >= LOOKS:
                del self._coming[receiving]
                self._slow[receiving] = None
                self._late[receiving.client] = loop.time() + REMEMBERED_S
                receiving.place.give()
        while len(self._slow) > limits.RECEIVING_SLOWLY_MAX:
            self._refuse_one()
        self._look = loop.call_later(LOOK_S, self._look_for_slow) if self._coming or self._late or self._large else None

    def _refuse_one(self) -> None:
        of = Counter(receiving.client for receiving in self._slow)
        most = max(of.values())
        refused = next(receiving for receiving in self._slow if of[receiving.client] == most)
        del self._slow[refused]
        refused.refused = True
        refused.task.cancel()

    @staticmethod
    def _refusal() -> ApiError:
        return limits.throttled(
            f"the request had not come as a whole after {LOOKS * LOOK_S:g} s, and more of that kind are on their way",
            f"{limits.RECEIVING_SLOWLY_MAX} may be",
            limits.IN_FLIGHT_RETRY_MS,
        )
