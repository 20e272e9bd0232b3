"""grpc.health.v1 and reflection, asked by gRPC's own stubs."""

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from node.data import PUBLIC
from node.services.health import Health
from tests.node.services.planes import Planes

SERVING, NOT_SERVING, UNKNOWN = (
    health_pb2.HealthCheckResponse.ServingStatus.Value(n) for n in ("SERVING", "NOT_SERVING", "SERVICE_UNKNOWN")
)


async def test_what_a_node_says_of_itself(tmp_path: Path) -> None:
    async with (
        Planes(tmp_path, 1) as planes,
        grpc.aio.insecure_channel(planes[1]._settings.listener("public")) as channel,
    ):
        health = health_pb2_grpc.HealthStub(channel)
        for service in ("", *PUBLIC):
            assert (await health.Check(health_pb2.HealthCheckRequest(service=service))).status == NOT_SERVING
        watching = health.Watch(health_pb2.HealthCheckRequest(service="ottla.v1.DataService"))
        assert (await watching.read()).status == NOT_SERVING
        await planes[1].set_serving(True)
        assert (await watching.read()).status == SERVING
        assert set((await health.List(health_pb2.HealthListRequest())).statuses) == {"", *PUBLIC}
        stranger = health_pb2.HealthCheckRequest(service="stranger")
        assert (await health.Watch(stranger).read()).status == UNKNOWN
        for request, code in (
            (stranger, "NOT_FOUND"),
            (health_pb2.HealthCheckRequest(service="x" * 2_000_000), "RESOURCE_EXHAUSTED"),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await health.Check(request)
            assert refused.value.code().name == code
        reflection = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo()
        await reflection.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        listed = {service.name for service in (await reflection.read()).list_services_response.service}
        assert listed >= set(PUBLIC)
        await reflection.write(reflection_pb2.ServerReflectionRequest(file_containing_symbol="ottla.v1.DataService"))
        assert (await reflection.read()).file_descriptor_response.file_descriptor_proto
        await reflection.write(reflection_pb2.ServerReflectionRequest(file_by_filename="x" * 2_000_000))
        with pytest.raises(grpc.aio.AioRpcError) as too_large:
            await reflection.read()
        assert too_large.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


class Watcher:
    """A call of Watch; `reads` False: its answer stays where it is."""

    def __init__(self, *, reads: bool) -> None:
        self.reads = reads
        self.heard: list[int] = []

    async def write(self, answer: Any) -> None:
        self.heard.append(answer.status)
        if not self.reads:
            await asyncio.get_running_loop().create_future()


async def test_who_does_not_read_keeps_nobody_waiting() -> None:
    health = Health(["a"])
    watchers = [Watcher(reads=False), Watcher(reads=True)]
    watching = [asyncio.create_task(health.watch(health_pb2.HealthCheckRequest(), each)) for each in watchers]  # type: ignore[arg-type]
    await asyncio.sleep(0)
    health.set_serving(True)
    await asyncio.sleep(0.01)
    health.set_serving(True)
    await asyncio.sleep(0.01)
    assert watchers[1].heard == [NOT_SERVING, SERVING]
    for task in watching:
        task.cancel()
