"""Calls from the data plane to the active controller, wherever it is."""

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import grpc

from node.transport import PLAIN, Transport
from ottla.internal.v1 import controller_pb2 as messages
from ottla.internal.v1.controller_pb2_grpc import ControllerServiceStub
from ottla.protocol.errors import ApiError
from ottla.protocol.proxy import PROXY_OPTION
from ottla.v1 import admin_pb2
from ottla.v1 import error_pb2 as pb

if TYPE_CHECKING:
    from ottla.internal.v1.controller_pb2_grpc import ControllerServiceAsyncStub

TIMEOUT_S: Final = 2.0
NODE_CHANNEL_OPTIONS: Final[list[tuple[str, Any]]] = [
    PROXY_OPTION,
    # Channels to one target share a TCP connection otherwise, and control calls would queue behind data.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_receive_message_length", 64 * 1024 * 1024),
    ("grpc.max_send_message_length", 64 * 1024 * 1024),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 3000),
    # It is this one that decides when a silent peer is given up; its default is a minute.
    ("grpc.http2.ping_timeout_ms", 3000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 50),
    # What gRPC calls this is how long a connection attempt may take: a busy peer needs more than a moment.
    ("grpc.min_reconnect_backoff_ms", 2_000),
    ("grpc.max_reconnect_backoff_ms", 500),
]


class ControllerClient:
    """One channel to the controller that `address` names at present. Raises ApiError only, NETWORK_EXCEPTION where the
    outcome is unknown; retrying is the caller's."""

    def __init__(
        self,
        address: Callable[[], str | None],
        controller_id: Callable[[], int | None] = lambda: None,
        transport: Transport = PLAIN,
    ) -> None:
        """`controller_id`: the node that is at `address`."""
        self._address = address
        self._controller_id = controller_id
        self._transport = transport
        self._channel: grpc.aio.Channel | None = None
        self._target = ""

    async def alter_partition(self, request: messages.AlterPartitionRequest) -> messages.AlterPartitionResponse:
        response: messages.AlterPartitionResponse = await self._call("AlterPartition", request)
        return response

    async def allocate_producer_ids(
        self, request: messages.AllocateProducerIdsRequest
    ) -> messages.AllocateProducerIdsResponse:
        response: messages.AllocateProducerIdsResponse = await self._call("AllocateProducerIds", request)
        return response

    async def make_internal_topic(self, name: str, partitions: int, configs: Mapping[str, str]) -> None:
        """Has a topic of the cluster's own made where it is missing."""
        topic = admin_pb2.NewTopic(name=name, num_partitions=partitions, configs=configs)
        await self._call("EnsureInternalTopic", messages.EnsureInternalTopicRequest(topic=topic))

    async def close(self) -> None:
        if self._channel is not None:
            channel, self._channel = self._channel, None
            await channel.close()

    async def _call(self, method: str, request: Any) -> Any:
        stub = await self._stub()
        try:
            response = await getattr(stub, method)(request, timeout=TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            raise ApiError(
                pb.ERROR_CODE_NETWORK_EXCEPTION,
                f"{method} at the controller {self._target} failed with {error.code().name}: {error.details()}",
            ) from None
        except asyncio.CancelledError:
            # Another task has met a new controller and closed the channel, which looks like a cancellation of this one.
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise ApiError(
                pb.ERROR_CODE_NETWORK_EXCEPTION, f"another controller took over while {method} was under way"
            ) from None
        if response.HasField("error"):
            raise ApiError.from_proto(response.error)
        return response

    async def _stub(self) -> "ControllerServiceAsyncStub":
        target = self._address()
        if not target:
            raise ApiError(pb.ERROR_CODE_NOT_CONTROLLER, "there is no active controller at present")
        if self._channel is None or target != self._target or self._transport.is_stale(self._channel):
            former, self._target = self._channel, target
            self._channel = made = self._transport.dial(target, self._controller_id() or 0, NODE_CHANNEL_OPTIONS)
            if former is not None:
                await former.close()
            return ControllerServiceStub(made)
        return ControllerServiceStub(self._channel)
