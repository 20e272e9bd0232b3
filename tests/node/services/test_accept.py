"""Whoever calls waits for no crowd of calls before: many are taken in each turn of a busy loop."""

import asyncio
import socket
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
import structlog.testing

from node.loops import DataLoop
from node.metrics import Metrics
from node.services import accept
from node.services.listener import add_service, make_server
from ottla.v1 import cluster_pb2
from tests.cluster.test_hostile import BEGIN, headers_of_a_call

SERVICE = cluster_pb2.DESCRIPTOR.services_by_name["ClusterService"]
PATH = f"/{SERVICE.full_name}/GetVersion"
CROWD = 600
TURN_S = 0.002


class Turns:
    """Counts those of a loop, each of which takes a while."""

    def __init__(self) -> None:
        self.count = 0
        self._turn()

    def _turn(self) -> None:
        self.count += 1
        until = time.perf_counter() + TURN_S
        while time.perf_counter() < until:
            pass
        asyncio.get_running_loop().call_soon(self._turn)


@asynccontextmanager
async def serving(taken: Callable[[], None] = lambda: None) -> AsyncIterator[tuple[str, Callable[[], Any]]]:
    """An address, and what begins a call by somebody who is connected already; `taken` is called when it is served."""

    async def answer(_request: Any, context: Any) -> cluster_pb2.Metadata:
        if ("who", "other") in context.invocation_metadata():
            taken()
        return cluster_pb2.Metadata()

    server = make_server(2**20)
    add_service(server, SERVICE, {method.name: answer for method in SERVICE.methods}, Metrics())
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    with grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as other:
        rpc: Any = other.unary_unary(PATH)
        await asyncio.to_thread(rpc, b"", timeout=20)
        yield address, lambda: rpc.future(b"", timeout=60, metadata=(("who", "other"),))
    await server.stop(None)


def run(work: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        await work()

    with asyncio.Runner(loop_factory=DataLoop) as runner:
        runner.run(main())


def test_grpcio_looks_as_is_known_here() -> None:
    """Otherwise calls are taken one by one: `node/services/accept.py` has to be held against the new version."""
    assert accept.is_known()


@pytest.mark.parametrize(("kind", "rest"), [(3, struct.pack(">I", 8)), (0, bytes(5))], ids=["cancelled", "whole"])
def test_a_crowd_of_calls_keeps_nobody_waiting(kind: int, rest: bytes) -> None:
    """gRPC keeps those that were cancelled in the queue of their method, too."""

    async def work() -> None:
        served = asyncio.Event()
        async with serving(served.set) as (address, begin):
            host, _, port = address.partition(":")
            with socket.create_connection((host, int(port)), timeout=20) as crowd:
                streams = range(1, 2 * CROWD, 2)
                ends = struct.pack(">I", len(rest))[1:] + bytes([kind, kind == 0])
                crowd.sendall(BEGIN + b"".join(headers_of_a_call(stream, PATH) for stream in streams))
                crowd.sendall(b"".join(ends + struct.pack(">I", stream) + rest for stream in streams))
                time.sleep(0.3)  # noqa: ASYNC251 - they come, and the loop takes none of them
                call = begin()
                time.sleep(0.2)  # noqa: ASYNC251 - nor the other one
                turns = Turns()
                await served.wait()
                assert turns.count < CROWD / 2
                await asyncio.to_thread(call.result)

    run(work)


def test_a_server_stops_after_a_crowd() -> None:
    """Those that asked for more calls end with it, without a word."""

    async def work() -> None:
        async with serving() as (address, _), grpc.aio.insecure_channel(address) as channel:
            rpc: Any = channel.unary_unary(PATH)
            await asyncio.gather(*(rpc(b"") for _ in range(200)))

    with structlog.testing.capture_logs() as logged:
        run(work)
    assert logged == []


@pytest.mark.parametrize("at_once", [1, 4])
async def test_no_more_calls_are_asked_for_than_may_be_taken_at_once(at_once: int) -> None:
    asked: list[asyncio.Future[None]] = []
    tasks: list[asyncio.Task[None]] = []

    class Calls:
        def begin(self, _name: str, _state: None) -> None:
            pass

        def keep(self, work: Any) -> None:
            tasks.append(asyncio.create_task(work))

        async def _request_registered_call(self, _method: bytes) -> None:
            asked.append(asyncio.get_running_loop().create_future())
            await asked[-1]

    calls: Any = Calls()
    calls.keep(accept._Queue(calls, b"/t.T/Produce", at_once).take())
    most = 0
    for _ in range(20):
        await asyncio.sleep(0)
        waiting = [future for future in asked if not future.done()]
        most = max(most, len(waiting))
        for future in waiting:
            future.set_result(None)
    assert most == at_once
    for task in tasks:
        task.cancel()
