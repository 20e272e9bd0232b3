"""AdminService on every node: calls go on, as bytes, to the active controller's control listener."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import grpc
from google.protobuf import message_factory
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from node import limits
from node.api.view import ClusterView
from node.broker.controller_client import NODE_CHANNEL_OPTIONS
from node.metrics import Metrics
from node.services.faults import Context
from node.transport import PLAIN, Transport, for_principal
from ottla.protocol.errors import ApiError
from ottla.v1 import admin_pb2
from ottla.v1 import error_pb2 as pb

SERVICE: Final = admin_pb2.DESCRIPTOR.services_by_name["AdminService"]
AT_LEADERS: Final = frozenset({"DeleteRecords", "ExportBatches", "ImportBatches"})
WAIT_S: Final = 30.0
NO_CONTROLLER_S: Final = 4.0
"""How long a call waits for a controller while none is known: twice what an election takes."""
MARGIN_S: Final = 0.05
RETRY_S: Final = 0.05
LEADER_CHECK_S: Final = 0.25


class AdminForwarder:
    """Passes calls on to whoever is the active controller, and waits a bounded time while there is none.

    A call that has left is never sent again, read-only or not: if it was what cost the controller its seat, it would
    cost the next one's, too. Only a controller's own word that it is none is waited for.
    """

    def __init__(self, view: ClusterView, metrics: Metrics, transport: Transport = PLAIN) -> None:
        self._view = view
        self._transport = transport
        self._metrics = metrics
        self._channels: dict[tuple[int, str], grpc.aio.Channel] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._under_way = 0

    def handlers(self) -> dict[str, Callable[[bytes, Context], Awaitable[bytes]]]:
        """A handler for each method that the controller carries out."""
        return {method.name: self._handler(method.name) for method in SERVICE.methods if method.name not in AT_LEADERS}

    def _handler(self, method: str) -> Callable[[bytes, Context], Awaitable[bytes]]:
        async def call(request: bytes, context: Context) -> bytes:
            return await self._forward(method, request, context)

        return call

    async def _forward(self, method: str, request: bytes, context: Context) -> bytes:
        remaining_s = context.time_remaining()
        timeout_s = _timeout_s(method, request)
        if remaining_s is not None:
            timeout_s = min(timeout_s, max(0.0, remaining_s - MARGIN_S))
        if self._under_way >= limits.ADMIN_IN_FLIGHT_MAX:
            raise limits.throttled(
                f"{self._under_way} calls of AdminService are under way at node {self._view.node_id}",
                f"{limits.ADMIN_IN_FLIGHT_MAX} may be",
                limits.ADMIN_RETRY_MS,
            )
        self._under_way += 1
        try:
            return await self.call(method, request, timeout_s)
        except grpc.aio.AioRpcError as error:
            # The controller's own word, with its details.
            await context.abort(error.code(), error.details() or "", tuple(error.trailing_metadata() or ()))
            raise
        finally:
            self._under_way -= 1

    async def call(self, method: str, request: bytes, timeout_s: float) -> bytes:
        """The controller's answer. Raises ApiError where it could not be asked, AioRpcError where it refused."""
        self._metrics.forwarded.labels(rpc=method).inc()
        began = known = time.monotonic()
        deadline = began + timeout_s
        while True:
            now = time.monotonic()
            address = self._view.controller_address()
            if address is not None:
                known = now
            left_s = min(deadline, known + NO_CONTROLLER_S) - now
            if left_s <= 0:
                raise ApiError(
                    pb.ERROR_CODE_NOT_CONTROLLER,
                    f"no active controller took {method} within {now - began:.1f} s; "
                    f"node {self._view.node_id} knows of "
                    + (f"{address}" if address else "none: a majority of the quorum must be up"),
                    leader=self._view.quorum.leader_id,
                )
            if address is None:
                await self._view.changed(left_s)
                continue
            channel = self._channel(address)
            try:
                if channel.get_state(try_to_connect=True) is not grpc.ChannelConnectivity.READY:
                    # Only a call that has not left yet may be tried again elsewhere.
                    await self._connected(channel, min(left_s, 1.0))
                answer = await self._ask(channel, address, method, request, max(0.001, deadline - time.monotonic()))
                if answer is not None:
                    return answer
                raise ApiError(
                    pb.ERROR_CODE_NETWORK_EXCEPTION,
                    f"the active controller changed during {method}; whether it took effect is unknown",
                )
            except TimeoutError:
                await self._view.changed(RETRY_S)
            except grpc.aio.AioRpcError as error:
                if _reason(error) == "NOT_CONTROLLER":
                    await self._view.changed(RETRY_S)
                    continue
                raise _outcome(method, error) from None

    async def _ask(
        self, channel: grpc.aio.Channel, address: str, method: str, request: bytes, timeout_s: float
    ) -> bytes | None:
        """The answer; None where another controller took over in the meantime, for the old one may be frozen."""
        rpc: Any = channel.unary_unary(f"/{SERVICE.full_name}/{method}")
        call = asyncio.ensure_future(_awaited(rpc(request, timeout=timeout_s, metadata=for_principal())))
        try:
            while not call.done():
                await asyncio.wait([call], timeout=LEADER_CHECK_S)
                if not call.done() and self._view.controller_address() not in (address, None):
                    return None
            return call.result()
        finally:
            call.cancel()

    async def _connected(self, channel: grpc.aio.Channel, timeout_s: float) -> None:
        """Raises TimeoutError where no connection comes about in time."""
        deadline = time.monotonic() + timeout_s
        state = channel.get_state(try_to_connect=True)
        while state is not grpc.ChannelConnectivity.READY:
            if state is grpc.ChannelConnectivity.TRANSIENT_FAILURE or time.monotonic() > deadline:
                raise TimeoutError
            async with asyncio.timeout(max(0.001, deadline - time.monotonic())):
                await channel.wait_for_state_change(state)
            state = channel.get_state(try_to_connect=True)

    def _channel(self, address: str) -> grpc.aio.Channel:
        """To whoever is controller now; called in the turn of the loop in which its address was read."""
        key = (self._view.quorum.leader_id or 0, address)
        channel = self._channels.get(key)
        if channel is not None and self._transport.is_stale(channel):
            closing = asyncio.ensure_future(channel.close())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
            channel = None
        if channel is None:
            channel = self._channels[key] = self._transport.dial(address, key[0], NODE_CHANNEL_OPTIONS)
        return channel

    async def stop(self) -> None:
        for channel in self._channels.values():
            await channel.close()


def _timeout_s(method: str, request: bytes) -> float:
    """What the request itself allows, where it says. Raises INVALID_REQUEST for what is no request."""
    descriptor = SERVICE.methods_by_name[method].input_type
    message: Any = message_factory.GetMessageClass(descriptor)
    if "timeout_ms" not in descriptor.fields_by_name:
        return WAIT_S
    try:
        asked: int = message.FromString(request).timeout_ms
    except DecodeError:
        raise ApiError(
            pb.ERROR_CODE_INVALID_REQUEST, f"the {len(request)} bytes of the request are no {descriptor.full_name}"
        ) from None
    return limits.wait_ms(asked, round(WAIT_S * 1000)) / 1000


async def _awaited(call: Any) -> bytes:
    answer: bytes = await call
    return answer


def _outcome(method: str, error: grpc.aio.AioRpcError) -> Exception:
    """What a call that failed on its way means: the controller's own word, or that nobody knows."""
    if not _reason(error):
        if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
            return ApiError(
                pb.ERROR_CODE_REQUEST_TIMED_OUT,
                f"the active controller did not finish {method} in time; whether it took effect is unknown",
            )
        if error.code() is grpc.StatusCode.UNAVAILABLE:
            return ApiError(
                pb.ERROR_CODE_NETWORK_EXCEPTION,
                f"the connection to the active controller broke during {method}; whether it took effect is unknown",
            )
    return error


def _reason(error: grpc.aio.AioRpcError) -> str:
    """The name of the error code in a status' details, or nothing."""
    status = rpc_status.from_call(error)
    for detail in status.details if status is not None else ():
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            return str(info.reason)
    return ""
