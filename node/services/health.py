"""grpc.health.v1 and reflection, on the same terms as all other calls: requests of a bounded size that are asked for in
turn, and nobody who does not read its answer keeps anybody waiting."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

import grpc
from google.protobuf import descriptor_pool
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from node.services import receive
from node.services.faults import Context

HEALTH: Final = health_pb2.DESCRIPTOR.services_by_name["Health"]
REFLECTION: Final = reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"]

_SERVING: Final = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING: Final = health_pb2.HealthCheckResponse.NOT_SERVING
_UNKNOWN: Final = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


class Health:
    """What each service says, and "", the server as a whole: NOT_SERVING until the node says otherwise."""

    def __init__(self, services: Sequence[str]) -> None:
        self._names = frozenset(("", *services))
        self._status = _NOT_SERVING
        self._changed = asyncio.Event()

    def set_serving(self, serving: bool) -> None:
        self._status = _SERVING if serving else _NOT_SERVING
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def check(self, request: health_pb2.HealthCheckRequest, context: Context) -> health_pb2.HealthCheckResponse:
        """NOT_FOUND for a name that is no service's."""
        if request.service not in self._names:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"there is no service {request.service[:200]!r} here")
        return health_pb2.HealthCheckResponse(status=self._status)

    async def list(self, _request: health_pb2.HealthListRequest, _context: Context) -> health_pb2.HealthListResponse:
        answer = health_pb2.HealthCheckResponse(status=self._status)
        return health_pb2.HealthListResponse(statuses=dict.fromkeys(self._names, answer))

    async def watch(self, request: health_pb2.HealthCheckRequest, context: Context) -> None:
        """Says each change until the client goes. What changes while a client does not read is left out."""
        known = request.service in self._names
        said = None
        while True:
            changed = self._changed
            status = self._status if known else _UNKNOWN
            if status != said:
                await context.write(health_pb2.HealthCheckResponse(status=status))
                said = status
            await changed.wait()


class Reflection:
    """grpc.reflection.v1alpha of these services and itself."""

    def __init__(self, services: Sequence[str]) -> None:
        names = [*services, HEALTH.full_name, REFLECTION.full_name]
        self._servicer = reflection.aio.ReflectionServicer(names, descriptor_pool.Default())

    async def serve(self, context: Context) -> None:
        async for answer in self._servicer.ServerReflectionInfo(_messages(context), context):
            await context.write(answer)


async def _messages(context: Context) -> AsyncIterator[Any]:
    while (message := await receive.message(context)) is not grpc.aio.EOF:
        yield message
