"""Producer ids, handed out from blocks that the controller gives to this broker."""

import asyncio
import time
from collections.abc import Callable
from typing import Final, Protocol

from ottla.internal.v1 import controller_pb2 as messages
from ottla.protocol.errors import ApiError
from ottla.v1 import error_pb2 as pb

WAIT_S: Final = 5.0
RETRY_S: Final = 0.05


class Controller(Protocol):
    """What is needed of the controller. Raises ApiError."""

    async def allocate_producer_ids(
        self, request: messages.AllocateProducerIdsRequest
    ) -> messages.AllocateProducerIdsResponse: ...


class ProducerIds:
    """A block lost in a restart or a lost answer is never used: ids are unique, not dense."""

    def __init__(self, controller: Controller, node_id: int, broker_epoch: Callable[[], int | None]) -> None:
        self._controller = controller
        self._node_id = node_id
        self._broker_epoch = broker_epoch
        self._next = self._end = self._from = 0
        self._lock = asyncio.Lock()

    def holds_back(self, producer_id: int) -> bool:
        """Whether this broker may give it to somebody, and has not yet."""
        return self._next <= producer_id < self._end

    def none_below(self, producer_id: int) -> None:
        """Hands out nothing below this one any more: others wrote under it elsewhere."""
        self._from = max(self._from, producer_id)

    async def next_id(self) -> int:
        """Raises ApiError if no controller gives a block within 5 s."""
        async with self._lock:
            while self._next >= self._end or self._next < self._from:
                self._next, self._end = await self._block()
            self._next += 1
            return self._next - 1

    async def _block(self) -> tuple[int, int]:
        give_up_s = time.monotonic() + WAIT_S
        while True:
            epoch = self._broker_epoch()
            try:
                if epoch is None:
                    raise ApiError(pb.ERROR_CODE_BROKER_ID_NOT_REGISTERED, "this broker is not registered yet")
                request = messages.AllocateProducerIdsRequest(node_id=self._node_id, broker_epoch=epoch)
                block = await self._controller.allocate_producer_ids(request)
                return block.first_producer_id, block.first_producer_id + block.count
            except ApiError as error:
                if time.monotonic() > give_up_s:
                    raise ApiError(
                        pb.ERROR_CODE_COORDINATOR_NOT_AVAILABLE, f"no producer ids to hand out: {error}"
                    ) from error
            await asyncio.sleep(RETRY_S)
