"""gRPC over the simulated network: channels, calls, servers and contexts, as far as nodes and clients use them.

The generated stubs and the nodes' handlers run unchanged on top; messages pass as bytes, through their own codecs. What
a broken connection looks like follows grpc.aio: readers and writers get AioRpcError UNAVAILABLE, a write after the end
InvalidStateError, a cancelled call CancelledError, and the handler of a client that went away is cancelled.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Generator
from typing import Any, NamedTuple

import grpc
from grpc import aio

from tests.sim.cluster_loop import Process, SimLoop
from tests.sim.cluster_net import CONNECT_MS, TO_CLIENT, TO_SERVER, Connection, Network

READY = grpc.ChannelConnectivity.READY
IDLE = grpc.ChannelConnectivity.IDLE
CONNECTING = grpc.ChannelConnectivity.CONNECTING
FAILED = grpc.ChannelConnectivity.TRANSIENT_FAILURE
SHUTDOWN = grpc.ChannelConnectivity.SHUTDOWN
BACKOFF_MS = 50.0


class Status(NamedTuple):
    code: Any
    details: str = ""
    trailing: Any = ()


OK = Status(grpc.StatusCode.OK)
CANCELLED = Status(grpc.StatusCode.CANCELLED, "Locally cancelled by application!")


class HandlerDetails(NamedTuple):
    method: str
    invocation_metadata: Any = ()


async def _pause() -> None:
    await asyncio.sleep(0)


class SimChannel:
    """A client's side of one address. `net` and the loop it was made on are fixed."""

    def __init__(self, net: Network, target: str) -> None:
        self.net = net
        self.target = target
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimLoop)
        self.loop = loop
        self.state: Any = IDLE
        self.connection: Connection | None = None
        self.calls: dict[Call, None] = {}
        self._attempt = 0
        self._waiters: list[asyncio.Future[None]] = []
        self._backoff_until_ms = 0.0

    # --- the connection

    def get_state(self, try_to_connect: bool = False) -> Any:
        if try_to_connect and self.state is IDLE:
            self._connect()
        return self.state

    async def channel_ready(self) -> None:
        while self.state is not READY:
            self.get_state(try_to_connect=True)
            await self._changed()

    async def wait_for_state_change(self, last_observed_state: Any) -> None:
        while self.state is last_observed_state:
            await self._changed()

    async def _changed(self) -> None:
        future = self.loop.create_future()
        self._waiters.append(future)
        await future

    def _become(self, state: Any) -> None:
        self.state = state
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _connect(self) -> None:
        self._become(CONNECTING)
        self._attempt += 1
        net, me = self.net, self.loop.process.name
        server = net.servers.get(self.target)
        after = net.world.scheduler.after
        host = net_host(self.target)
        if net.passes(me, host) and net.passes(host, me):
            delay_ms = net.delay_ms(me, host) + net.delay_ms(host, me)
            if server is None and host in net.dark:
                after(CONNECT_MS, self.loop.execute, self._refused, self._attempt, "connect timed out")
            else:
                after(delay_ms, self.loop.execute, self._answered, self._attempt)
        else:
            after(CONNECT_MS, self.loop.execute, self._refused, self._attempt, "connect timed out")

    def _answered(self, attempt: int) -> None:
        server = self.net.servers.get(self.target)
        if server is None:
            self._refused(attempt, "Connection refused")
        else:
            self._connected(attempt, server)  # the kernel of a stopped process accepts, too

    def _connected(self, attempt: int, server: "SimServer") -> None:
        if attempt != self._attempt or self.state is not CONNECTING:
            return
        self.connection = connection = Connection(self.net, self.loop, server.loop)
        connection.on_broken[TO_CLIENT] = self._broken
        server.accepted(connection)
        self._become(READY)
        for call in list(self.calls):
            call.begin(connection, server)

    def _refused(self, attempt: int, why: str) -> None:
        if attempt != self._attempt or self.state is not CONNECTING:
            return
        self._become(FAILED)
        self._fail_calls(f"failed to connect to {self.target}: {why}")
        self.net.world.scheduler.after(BACKOFF_MS, self.loop.execute, self._idle, self._attempt)

    def _idle(self, attempt: int) -> None:
        if attempt == self._attempt and self.state is FAILED:
            self._become(IDLE)

    def _broken(self, why: str) -> None:
        self.connection = None
        if self.state is READY:
            self._attempt += 1
            self._become(IDLE)
        self._fail_calls(why)

    def _fail_calls(self, why: str) -> None:
        calls, self.calls = self.calls, {}
        for call in calls:
            call.finish(Status(grpc.StatusCode.UNAVAILABLE, why))

    async def __aenter__(self) -> "SimChannel":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self, grace: float | None = None) -> None:
        calls, self.calls = self.calls, {}
        for call in calls:
            call.end_server()
            call.finish(CANCELLED)
        if self.connection is not None:
            self.connection.close(TO_CLIENT)
            self.connection = None
        self._attempt += 1
        self._become(SHUTDOWN)

    def start(self, call: "Call") -> None:
        if self.state is SHUTDOWN:
            raise aio.UsageError("Channel is closed.")
        if self.state is FAILED:
            call.finish(Status(grpc.StatusCode.UNAVAILABLE, f"{self.target} could not be reached a moment ago"))
            return
        self.calls[call] = None
        if self.state is READY and self.connection is not None:
            server = self.net.servers.get(self.target)
            call.begin(self.connection, server)
        elif self.state is IDLE:
            self._connect()

    # --- calls

    def unary_unary(
        self, method: str, request_serializer: Any = None, response_deserializer: Any = None, **_: Any
    ) -> "Callable[..., UnaryCall]":
        def start(request: Any, *, timeout: float | None = None, metadata: Any = None, **__: Any) -> UnaryCall:
            data = request if request_serializer is None else request_serializer(request)
            return UnaryCall(self, method, data, response_deserializer, timeout)

        return start

    def unary_stream(
        self, method: str, request_serializer: Any = None, response_deserializer: Any = None, **_: Any
    ) -> "Callable[..., StreamCall]":
        def start(request: Any, *, timeout: float | None = None, metadata: Any = None, **__: Any) -> StreamCall:
            data = request if request_serializer is None else request_serializer(request)
            return StreamCall(self, method, data, None, response_deserializer, timeout)

        return start

    def stream_stream(
        self, method: str, request_serializer: Any = None, response_deserializer: Any = None, **_: Any
    ) -> "Callable[..., StreamCall]":
        def start(*, timeout: float | None = None, metadata: Any = None, **__: Any) -> StreamCall:
            return StreamCall(self, method, None, request_serializer, response_deserializer, timeout)

        return start


class Call:
    """What unary and streaming calls share: one status at the end."""

    def __init__(self, channel: SimChannel, method: str, request: bytes | None, timeout: float | None) -> None:
        self.channel = channel
        self.loop = channel.loop
        self.method = method
        self.label = method.rpartition("/")[2]
        self.request = request
        self.status: Status | None = None
        self.connection: Connection | None = None
        self.server_call: ServerCall | None = None
        self.deadline_ms = None if timeout is None else channel.net.world.now_ms + timeout * 1000
        self._timer = None if timeout is None else self.loop.call_later(timeout, self._late)
        channel.start(self)

    def begin(self, connection: Connection, server: "SimServer | None") -> None:
        self.connection = connection
        if server is None:
            return  # it stopped listening this very moment: the end of the connection is on its way
        self.server_call = ServerCall(self, connection, server)
        size = 100 + len(self.request or b"")
        connection.send(TO_SERVER, size, self.server_call.start, (self.request,))

    def _late(self) -> None:
        self.end_server()
        self.finish(Status(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded"))

    def end_server(self) -> None:
        """The server hears that nobody waits for this call any more."""
        if self.status is None and self.connection is not None and self.server_call is not None:
            self.connection.send(TO_SERVER, 50, self.server_call.cancelled_by_client, ())

    def cancel(self) -> bool:
        if self.status is not None:
            return False
        self.end_server()
        self.finish(CANCELLED)
        return True

    def done(self) -> bool:
        return self.status is not None

    def finish(self, status: Status) -> None:
        if self.status is not None:
            return
        self.status = status
        self.channel.calls.pop(self, None)
        if self._timer is not None:
            self._timer.cancel()
        self.ended()

    def ended(self) -> None: ...

    def failure(self) -> BaseException:
        status = self.status
        assert status is not None
        if status is CANCELLED:
            return asyncio.CancelledError()
        return aio.AioRpcError(status.code, aio.Metadata(), aio.Metadata(*status.trailing), details=status.details)


class UnaryCall(Call):
    """Awaitable, as often as wanted."""

    def __init__(
        self, channel: SimChannel, method: str, request: bytes, deserializer: Any, timeout: float | None
    ) -> None:
        self._deserializer = deserializer
        self._response: bytes = b""
        self._future: asyncio.Future[None] = channel.loop.create_future()
        super().__init__(channel, method, request, timeout)

    def __await__(self) -> Generator[Any, None, Any]:
        if self.status is None:
            try:
                yield from self._future
            except asyncio.CancelledError:
                self.cancel()
                raise
        if self.status is not OK:
            raise self.failure()
        return self._response if self._deserializer is None else self._deserializer(self._response)

    def got(self, data: bytes) -> None:
        self._response = data
        self.finish(OK)

    def ended(self) -> None:
        if not self._future.done():
            self._future.set_result(None)


class StreamCall(Call):
    """A call that is read, and written where the client streams."""

    def __init__(
        self,
        channel: SimChannel,
        method: str,
        request: bytes | None,
        serializer: Any,
        deserializer: Any,
        timeout: float | None,
    ) -> None:
        self._serializer = serializer
        self._deserializer = deserializer
        self._inbox: deque[bytes] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._begun: list[asyncio.Future[None]] = []
        self._half_closed = False
        super().__init__(channel, method, request, timeout)

    def begin(self, connection: Connection, server: "SimServer | None") -> None:
        super().begin(connection, server)
        self._wake_writers()

    def _wake_writers(self) -> None:
        for waiter in self._begun:
            if not waiter.done():
                waiter.set_result(None)
        self._begun.clear()

    async def initial_metadata(self) -> tuple[()]:
        await self._wait_begun()
        return ()

    async def _wait_begun(self) -> None:
        while self.connection is None and self.status is None:
            future = self.loop.create_future()
            self._begun.append(future)
            await future

    async def write(self, message: Any) -> None:
        if self.status is not None or self._half_closed:
            raise asyncio.InvalidStateError("RPC already finished.")
        data = message if self._serializer is None else self._serializer(message)
        await self._wait_begun()
        connection = self.connection
        if self.status is None and connection is not None and self.server_call is not None:
            connection.send(TO_SERVER, 20 + len(data), self.server_call.got, (data,))
            if connection.full(TO_SERVER):
                room = self.loop.create_future()
                connection.when_room(TO_SERVER, room)
                await room
        await _pause()
        if self.status is not None and self.status is not OK:
            raise self.failure()

    async def done_writing(self) -> None:
        if self.status is not None or self._half_closed:
            return
        self._half_closed = True
        await self._wait_begun()
        if self.connection is not None and self.server_call is not None:
            self.connection.send(TO_SERVER, 20, self.server_call.half_closed, ())

    async def read(self) -> Any:
        while not self._inbox:
            if self.status is not None:
                if self.status is OK:
                    return aio.EOF
                raise self.failure()
            self._waiter = self.loop.create_future()
            try:
                await self._waiter
            except asyncio.CancelledError:
                self.cancel()  # as grpc.aio does
                raise
        data = self._inbox.popleft()
        return data if self._deserializer is None else self._deserializer(data)

    def got(self, data: bytes) -> None:
        if self.status is None:
            self._inbox.append(data)
            self._wake_reader()

    def _wake_reader(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def ended(self) -> None:
        if self.status is not OK:
            self._inbox.clear()
        self._wake_reader()
        self._wake_writers()


class SimServer:
    """A node's listener. Its handlers run on the loop that started it."""

    def __init__(self, net: Network) -> None:
        self.net = net
        self.address = ""
        self.calls: dict[ServerCall, None] = {}
        self.connections: dict[Connection, None] = {}
        self._generic: list[Any] = []
        self._handlers: dict[str, Any] = {}
        self.loop: SimLoop
        self.process: Process

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        self._generic.extend(handlers)

    def add_registered_method_handlers(self, service: str, handlers: Any) -> None:
        pass

    def add_insecure_port(self, address: str) -> int:
        self.address = address
        return int(address.rpartition(":")[2])

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimLoop)
        self.loop, self.process = loop, loop.process
        self.net.servers[self.address] = self

    async def stop(self, grace: float | None) -> None:
        if self.net.servers.get(self.address) is self:
            del self.net.servers[self.address]
        if grace:
            deadline = self.loop.time() + grace
            while self.calls and self.loop.time() < deadline:  # noqa: ASYNC110 - no call knows of a server's end
                await asyncio.sleep(0.01)
        for call in list(self.calls):
            call.abort_now()
        for connection in list(self.connections):
            connection.close(TO_SERVER)

    def accepted(self, connection: Connection) -> None:
        self.connections[connection] = None
        connection.on_broken[TO_SERVER] = lambda why: self._broken(connection)

    def _broken(self, connection: Connection) -> None:
        self.connections.pop(connection, None)
        for call in list(self.calls):
            if call.connection is connection:
                call.cancelled_by_client()

    def handler(self, method: str) -> Any:
        found = self._handlers.get(method)
        if found is None:
            for generic in self._generic:
                found = generic.service(HandlerDetails(method))
                if found is not None:
                    break
            self._handlers[method] = found
        return found


class ServerCall:
    """A call at the server; it is the context that the handler gets."""

    def __init__(self, call: Call, connection: Connection, server: SimServer) -> None:
        self.call = call
        self.label = call.label
        self.connection = connection
        self.server = server
        self._inbox: deque[bytes] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._half_closed = False
        self._over = False
        self._task: asyncio.Task[None] | None = None
        self._handler: Any = None
        self._when_done: list[Callable[[Any], None]] = []

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return ()

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        self._when_done.append(callback)

    async def send_initial_metadata(self, _metadata: Any) -> None: ...

    def start(self, request: bytes | None) -> None:
        if self._over:
            return
        self.server.calls[self] = None
        handler = self._handler = self.server.handler(self.call.method)
        if handler is None:
            self._end(Status(grpc.StatusCode.UNIMPLEMENTED, "Method not found!"))
            return
        self._task = self.server.loop.create_task(self._run(handler, request), name=f"rpc-{self.label}")

    async def _run(self, handler: Any, request: bytes | None) -> None:
        if request is not None:
            # To the server a unary request is a stream of one message.
            self._inbox.append(request)
            self._half_closed = True
        try:
            if handler.response_streaming:
                await handler.stream_stream(None, self)
            elif handler.request_streaming:
                answer = await handler.stream_unary(None, self)
                self._answer(answer if handler.response_serializer is None else handler.response_serializer(answer))
            else:
                answer = await handler.unary_unary(await self.read(), self)
                self._answer(answer if handler.response_serializer is None else handler.response_serializer(answer))
            self._end(OK)
        except aio.AbortError:
            pass
        except asyncio.CancelledError:
            self._end(Status(grpc.StatusCode.CANCELLED, "the handler was cancelled"))
        except Exception as error:
            world = self.server.net.world
            world.bug = world.bug or f"the handler of {self.label} at {self.server.process.name} failed with {error!r}"
            self._end(Status(grpc.StatusCode.UNKNOWN, f"Unexpected {type(error)}: {error}"))
        finally:
            self.server.calls.pop(self, None)
            for callback in self._when_done:
                callback(self)

    def _answer(self, data: bytes) -> None:
        call = self.call
        if not self._over and isinstance(call, UnaryCall):
            self._over = True
            self.connection.send(TO_CLIENT, 60 + len(data), call.got, (data,))

    def _end(self, status: Status) -> None:
        if not self._over:
            self._over = True
            self.connection.send(TO_CLIENT, 60, self.call.finish, (status,))

    def abort_now(self) -> None:
        """The server stops."""
        if self._task is not None:
            self._task.cancel()

    def cancelled_by_client(self) -> None:
        """The client cancelled, or its connection is gone."""
        self._over = True
        if self._task is not None:
            self._task.cancel()

    def got(self, data: bytes) -> None:
        if not self._over:
            self._inbox.append(data)
            self._wake()

    def half_closed(self) -> None:
        self._half_closed = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # --- the context

    async def read(self) -> Any:
        while not self._inbox:
            if self._half_closed or self._over:
                return aio.EOF
            self._waiter = self.server.loop.create_future()
            await self._waiter
        data, deserialize = self._inbox.popleft(), self._handler.request_deserializer
        return data if deserialize is None else deserialize(data)

    async def write(self, message: Any) -> None:
        if self._over:
            raise asyncio.InvalidStateError("RPC already finished.")
        call, connection = self.call, self.connection
        assert isinstance(call, StreamCall)
        serializer = self._handler.response_serializer
        data = message if serializer is None else serializer(message)
        connection.send(TO_CLIENT, 20 + len(data), call.got, (data,))
        if connection.full(TO_CLIENT):
            room = self.server.loop.create_future()
            connection.when_room(TO_CLIENT, room)
            await room
        await _pause()

    async def abort(self, code: Any, details: str = "", trailing_metadata: Any = ()) -> None:
        self._end(Status(code, details, tuple(trailing_metadata)))
        raise aio.AbortError("Locally aborted.")

    async def abort_with_status(self, status: Any) -> None:
        await self.abort(status.code, status.details, tuple(status.trailing_metadata or ()))

    def time_remaining(self) -> float | None:
        deadline_ms = self.call.deadline_ms
        return None if deadline_ms is None else max(0.0, (deadline_ms - self.server.net.world.now_ms) / 1000)

    def peer(self) -> str:
        return f"sim:{self.connection.client.name}"


def net_host(address: str) -> str:
    """The process behind an address of the simulation: `name:port`."""
    return address.rpartition(":")[0]
