"""Connections to other nodes' replication listeners, for calls passed on to a leader: at most one hop, marked.

The bytes of a request are passed on as they came. Nothing is retried here: what happened to a batch whose bytes have
left is unknown, and only the client knows whether it may send it again.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import grpc
import structlog

from node import turns
from node.api.view import ClusterView
from node.broker.controller_client import NODE_CHANNEL_OPTIONS
from node.metadata.image import Delta
from node.services.faults import refusal_in
from node.transport import PLAIN, Transport, for_principal
from ottla.protocol.errors import ApiError
from ottla.v1 import error_pb2 as pb

log = structlog.get_logger(__name__)

FORWARDED: Final = "ottla-forwarded"
MARGIN_S: Final = 0.5
"""How much longer than the leader a forwarder waits, so that the leader's own word on a time-out gets through."""


def forwarded() -> tuple[tuple[str, str | bytes], ...]:
    """Metadata of a call that is passed on: that it is, and for whom."""
    marked = ((FORWARDED, "1"), *for_principal())
    client = turns.client()
    return marked if client is None else (*marked, (turns.CLIENT, client))


class Peers:
    """One channel to each node that something was passed on to."""

    def __init__(self, view: ClusterView, transport: Transport = PLAIN) -> None:
        self._view = view
        self._transport = transport
        self._channels: dict[int, tuple[str, grpc.aio.Channel]] = {}
        self._closing: deque[grpc.aio.Channel] = deque()
        self._close_wanted = asyncio.Event()
        view.subscribe(self._on_change)

    def channel(self, node_id: int) -> grpc.aio.Channel:
        """The channel to a node's replication listener. Raises LEADER_NOT_AVAILABLE for a node nobody knows."""
        broker = self._view.image.brokers.get(node_id)
        if broker is None:
            raise ApiError(pb.ERROR_CODE_LEADER_NOT_AVAILABLE, f"node {node_id} is not registered", retry_after_ms=100)
        known = self._channels.get(node_id)
        if known is not None and known[0] == broker.replication_address and not self._transport.is_stale(known[1]):
            return known[1]
        if known is not None:
            self._retire(node_id)
        channel = self._transport.dial(broker.replication_address, node_id, NODE_CHANNEL_OPTIONS)
        self._channels[node_id] = (broker.replication_address, channel)
        return channel

    async def call(self, node_id: int, method: str, request: bytes, timeout_s: float) -> bytes:
        """Passes one unary call on and returns the answer's bytes. Raises ApiError: NETWORK_EXCEPTION where it is not
        known what became of the request, REQUEST_TIMED_OUT where the time ran out."""
        rpc: Callable[..., Any] = self.channel(node_id).unary_unary(method)
        try:
            answer: bytes = await rpc(request, timeout=timeout_s + MARGIN_S, metadata=forwarded())
        except grpc.aio.AioRpcError as error:
            raise fault_of(error, node_id) from None
        except asyncio.CancelledError:
            # Closing a channel cancels its calls, which looks like a cancellation of whoever waits for one.
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise ApiError(
                pb.ERROR_CODE_NETWORK_EXCEPTION, f"node {node_id} was fenced while the call to it was under way"
            ) from None
        return answer

    def _on_change(self, delta: Delta | None) -> None:
        """A fenced node may be frozen: calls under way to it end now, as unknown, instead of at their time-outs."""
        for node_id in list(self._channels):
            broker = self._view.image.brokers.get(node_id)
            if broker is None or broker.fenced:
                self._retire(node_id)

    def _retire(self, node_id: int) -> None:
        self._closing.append(self._channels.pop(node_id)[1])
        self._close_wanted.set()

    async def run(self) -> None:
        """Closes retired channels as they come, until cancelled; then closes all."""
        try:
            while True:
                await self._close_wanted.wait()
                self._close_wanted.clear()
                await self._close_retired()
        finally:
            for node_id in list(self._channels):
                self._retire(node_id)
            await self._close_retired()

    async def _close_retired(self) -> None:
        while self._closing:
            await self._closing.popleft().close()


def fault_of(error: grpc.aio.AioRpcError, node_id: int) -> ApiError:
    """What a failed forwarded call means for the client: what the leader said, where it is the leader who says so."""
    said = refusal_in(error)
    if said is not None:
        return said
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return ApiError(pb.ERROR_CODE_REQUEST_TIMED_OUT, f"the leader, node {node_id}, did not answer in time")
    if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return ApiError(pb.ERROR_CODE_MESSAGE_TOO_LARGE, f"the leader, node {node_id}, refused the size of the request")
    return ApiError(
        pb.ERROR_CODE_NETWORK_EXCEPTION,
        f"the connection to the leader, node {node_id}, broke: {error.code().name} {error.details() or ''}".rstrip(),
    )


async def half_close(upstream: Any, answers: "asyncio.Task[None]", wait_s: float) -> None:
    """Ends the way to another node without breaking it, and waits a bounded time for its last word."""
    with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
        await upstream.done_writing()
    await asyncio.wait((answers,), timeout=wait_s)
    upstream.cancel()
    await asyncio.gather(answers, return_exceptions=True)
