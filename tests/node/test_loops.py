"""Two loops of one process that use grpc.aio: the control loop is not woken for the other one's traffic, and does not
need it."""

import asyncio
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import grpc.aio
import pytest
import uvloop

from node.loops import ControlLoop

CALLS = 300
Echo = grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]


async def with_echo(work: Callable[[Echo], Awaitable[None]]) -> None:
    """Runs `work` with a method that is served and called on this loop."""

    async def echo(request: bytes, _: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        return request

    server = grpc.aio.server()
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(echo)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test", {"Echo": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        method: Echo = channel.unary_unary("/test/Echo")
        await method(b"dial")
        await work(method)
    await server.stop(0)


class Data:
    """A thread with a loop of its own that runs `work` between `go` and `done`."""

    def __init__(self, work: Callable[[Echo], Awaitable[None]]) -> None:
        self.bound, self.go, self.done = threading.Event(), threading.Event(), threading.Event()
        self._work = work
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self.bound.wait(10)

    def _run(self) -> None:
        async def until_told(method: Echo) -> None:
            self.bound.set()
            await asyncio.to_thread(self.go.wait, 10)
            await self._work(method)
            self.done.set()

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(with_echo(until_told))

    def join(self) -> None:
        self.done.wait(30)
        self._thread.join(10)
        assert self.done.is_set()


def run_control(work: Callable[[], Awaitable[None]]) -> None:
    async def run() -> None:
        await work()

    with asyncio.Runner(loop_factory=ControlLoop) as runner:
        runner.run(run())


def test_the_control_loop_needs_no_data_loop() -> None:
    async def call(method: Echo) -> None:
        assert await method(b"alone") == b"alone"

    run_control(lambda: with_echo(call))


def test_control_is_answered_while_the_data_loop_is_busy() -> None:
    busy_s = 1.0

    async def be_busy(_: Echo) -> None:
        began.set()
        time.sleep(busy_s)  # noqa: ASYNC251

    async def call(method: Echo) -> None:
        data.go.set()
        await asyncio.to_thread(began.wait, 10)
        started = time.monotonic()
        for number in range(3):
            assert await method(b"%d" % number) == b"%d" % number
        assert not data.done.is_set(), f"waited {time.monotonic() - started:.2f} s for the data loop"

    began = threading.Event()
    data = Data(be_busy)
    run_control(lambda: with_echo(call))
    data.join()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts task switches in /proc")
def test_the_data_loops_traffic_does_not_wake_the_control_loop() -> None:
    async def many(method: Echo) -> None:
        for _ in range(CALLS):
            await method(b"x")

    async def idle(_: Echo) -> None:
        status = Path(f"/proc/self/task/{threading.get_native_id()}/status")

        def sleeps() -> int:
            line = next(each for each in status.read_text().splitlines() if each.startswith("voluntary_ctxt"))
            return int(line.split()[1])

        before, started = sleeps(), time.monotonic()
        data.go.set()
        await asyncio.to_thread(data.done.wait, 30)
        own = 60 * (time.monotonic() - started)  # its looks
        assert sleeps() - before < CALLS / 2 + own

    data = Data(many)
    run_control(lambda: with_echo(idle))
    data.join()
