"""Streams between the members: who is connected, and who is gone.

Each node dials each address it knows and takes the streams of whoever dials it; a frame goes out on any open stream
with its addressee, so a node nobody can dial back is served too. A member is *lost* when its streams have all ended and
none has come back for 150 ms (protocol.md 5). A stream ends when the other process does, within milliseconds; a silent
peer's does not, and counts as nothing here.

Nothing proves who a stream is from, but one that this node dialled at an address it knows is with whoever is there,
while anybody can open one and say to be any member. So while a dialled stream with a member stands, it alone is heard;
and what is for a member goes to all streams that it is said to have dialled, of which a correct member has one.
"""

import asyncio
import contextlib
import itertools
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Protocol

import grpc
import structlog
from google.protobuf.message import DecodeError

from node.fail_stop import stop_if_broken
from node.quorum.wire import peer_from_proto
from node.relay import peer
from node.transport import PLAIN, Transport
from ottla.internal.v1 import raft_pb2 as pb
from ottla.protocol.errors import ApiError
from ottla.protocol.proxy import PROXY_OPTION
from raft.model import PeerId

log = structlog.get_logger(__name__)

LOST_AFTER_S: Final = 0.15
_HELLO_TIMEOUT_S: Final = 2.0
_REDIAL_MIN_S: Final = 0.02
_REDIAL_MAX_S: Final = 0.3
_SERVICE: Final = pb.DESCRIPTOR.services_by_name["RaftService"].full_name
LOOK_AT_PORTS: Final = "look at base.port and controller.quorum.voters of both nodes"
_QUEUE_FRAMES: Final = 512
"""Frames that wait for one slow peer; more are dropped, as a network would."""

_INCOMING_MAX: Final = 4
"""Streams opened in the name of one member; the oldest goes for another one."""

CHANNEL_OPTIONS: Final = (
    PROXY_OPTION,
    # Channels to one target share a connection otherwise, and heartbeats would queue behind data.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 20),
    # What gRPC calls this is how long a connection attempt may take: a busy peer needs more than a moment.
    ("grpc.min_reconnect_backoff_ms", 2_000),
    ("grpc.max_reconnect_backoff_ms", 300),
    # Far above the broker session timeout: a silent peer is not a dead one, but a black hole must end some time.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.ping_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.max_receive_message_length", 64 << 20),
    ("grpc.max_send_message_length", 64 << 20),
)


def _frame(data: bytes) -> pb.RaftFrame | None:
    """None, which ends the stream, for bytes that are no frame: an exception here would put a stack trace into the log
    for everybody who sends some.
    """
    try:
        return pb.RaftFrame.FromString(data)
    except DecodeError:
        return None


def not_here(server: grpc.aio.Server, node_id: int, where: str, transport: Transport = PLAIN) -> None:
    """Has a listener that is not the quorum's say so to nodes that look for it there, as those may whose cluster has
    moved: what gRPC says of an unknown method they would take for a node that is down. Where nodes prove that they are
    some, nobody else hears of it."""
    text = f"the quorum of node {node_id} is at {where}, not at this port: {LOOK_AT_PORTS}"
    refusal = pb.RaftHello(sender=pb.RaftPeer(node_id=node_id), refusal=text)

    async def refuse(_requests: Any, context: Any) -> None:
        try:
            if transport.caller is not None:
                transport.caller(context)
        except ApiError as error:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, error.message)
        await context.write(pb.RaftFrame(hello=refusal))

    _serve_streams(server, refuse)


def _serve_streams(server: grpc.aio.Server, serve: Callable[[Any, Any], Awaitable[None]]) -> None:
    handler = grpc.stream_stream_rpc_method_handler(
        serve,
        request_deserializer=_frame,
        response_serializer=pb.RaftFrame.SerializeToString,
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, {"Connect": handler}),))


class LinkListener(Protocol):
    """What the driver wants to know, and decides. All calls are on the control loop and do not block."""

    def hello(self, to_node_id: int) -> pb.RaftHello:
        """Who this node is, for a stream with `to_node_id`."""

    def admit(self, hello: pb.RaftHello) -> pb.RaftHello | None:
        """The refusal to answer with, or None: the stream stands."""

    def on_frame(self, peer: PeerId, frame: pb.RaftFrame, *, dialled: bool) -> None:
        """`dialled`: it came on a stream that this node dialled, so the sender is at an address this node knows."""

    def on_connected(self, peer: PeerId) -> None:
        """The first stream with `peer` stands; `admit` has seen its hello."""

    def on_lost(self, peer: PeerId) -> None:
        """Every stream with `peer` has ended, 150 ms ago."""


class _Link:
    """One open stream, in either direction."""

    def __init__(self, peer: PeerId, *, dialled: bool) -> None:
        self.peer = peer
        self.dialled = dialled
        self.task = asyncio.current_task()
        self.replaced = False
        self.queue: asyncio.Queue[pb.RaftFrame] = asyncio.Queue(_QUEUE_FRAMES)


Read = Callable[[], Awaitable[Any]]
Write = Callable[[pb.RaftFrame], Awaitable[None]]


class Links:
    """All streams of this node, those it dials and those it is dialled by. Control loop only."""

    def __init__(self, listener: LinkListener, transport: Transport = PLAIN) -> None:
        self.last_contact_ms: dict[int, int] = {}
        """Monotonic time of the last frame of each node id, taken when it arrived."""
        self.dropped_frames = 0
        self.unheard_frames = 0
        """Of streams opened in the name of a member that this node reaches itself."""
        self._listener = listener
        self._transport = transport
        self._links: dict[PeerId, list[_Link]] = {}
        self._lost_timers: dict[PeerId, asyncio.TimerHandle] = {}
        self._dialers: dict[int, asyncio.Task[None]] = {}
        self._addresses: dict[int, tuple[str, ...]] = {}
        """Where a node may be, by id: configured and remembered."""
        self._found: dict[int, str] = {}
        """Where it was last found."""
        self._stopping = False

    def add_to(self, server: grpc.aio.Server) -> None:
        """Serve RaftService there."""
        _serve_streams(server, self._serve)

    # --- sending

    @property
    def connected(self) -> tuple[PeerId, ...]:
        """Members with an open stream."""
        return tuple(self._links)

    def knows(self, peer: PeerId) -> bool:
        """Whether there is an open stream with `peer`, or the last one has ended just now."""
        return peer in self._links or peer in self._lost_timers

    def send(self, peer: PeerId, frame: pb.RaftFrame) -> None:
        """Queue a frame for `peer`; lost if there is no stream, or too much waits on it."""
        links = self._links.get(peer, [])
        for link in [link for link in links if not link.dialled] or links[:1]:
            try:
                link.queue.put_nowait(frame)
            except asyncio.QueueFull:
                self.dropped_frames += 1

    # --- dialing

    def dial(self, node_id: int, addresses: Sequence[str]) -> None:
        """Keep a stream to `node_id` from now on, at one of `addresses`: they are tried in turn until a hello is
        accepted. What was configured and what the metadata remembers may differ while a cluster moves.
        """
        self._addresses[node_id] = tuple(dict.fromkeys(addresses))
        if not self._stopping and node_id not in self._dialers:
            task = asyncio.get_running_loop().create_task(self._dial(node_id), name=f"quorum-dial-{node_id}")
            self._dialers[node_id] = task

    def address(self, node_id: int) -> str:
        """Where `node_id` was found; empty if it never was."""
        return self._found.get(node_id, "")

    async def stop(self) -> None:
        """End all streams."""
        self._stopping = True
        tasks = list(self._dialers.values())
        for timer in self._lost_timers.values():
            timer.cancel()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _dial(self, node_id: int) -> None:
        for turn in itertools.count():
            addresses = self._addresses[node_id]
            await self._dial_at(node_id, addresses[turn % len(addresses)])

    async def _dial_at(self, node_id: int, address: str) -> None:
        """Stay with an address as long as the node is there, or is nowhere else."""
        wait_s = _REDIAL_MIN_S
        this = asyncio.current_task()
        assert this is not None
        async with self._transport.dial(address, node_id, CHANNEL_OPTIONS) as channel:
            connect: grpc.aio.StreamStreamMultiCallable[pb.RaftFrame, Any] = channel.stream_stream(
                f"/{_SERVICE}/Connect",
                request_serializer=pb.RaftFrame.SerializeToString,
                response_deserializer=_frame,
            )
            while True:
                call = connect()
                stood = False
                try:
                    stood = await self._handshake_out(call, node_id, address)
                except (grpc.RpcError, TimeoutError, asyncio.InvalidStateError) as error:
                    await self._say_why(node_id, address, error)
                except Exception as error:
                    stop_if_broken(error)
                    log.error("quorum_stream_failed", node_id=node_id, address=address, exc_info=error)
                except asyncio.CancelledError:
                    # grpc cancels the reader of a stream that broke: that alone is no reason to end.
                    pass
                finally:
                    call.cancel()
                if this.cancelling():
                    # A cancel of this task itself, which grpc may also have turned into an error of the call.
                    raise asyncio.CancelledError
                wait_s = _REDIAL_MIN_S if stood else min(wait_s * 2, _REDIAL_MAX_S)
                await asyncio.sleep(wait_s)
                if (not stood and self._addresses[node_id] != (address,)) or self._transport.is_stale(channel):
                    return

    async def _say_why(self, node_id: int, address: str, error: BaseException) -> None:
        """A stream that ends is no news; one that was refused is."""
        if not isinstance(error, grpc.aio.AioRpcError):
            return
        if error.code() in (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNIMPLEMENTED):
            unserved = error.code() is grpc.StatusCode.UNIMPLEMENTED
            reason = f"no quorum is at this port: {LOOK_AT_PORTS}" if unserved else error.details()
            log.warning("quorum_peer_refuses", node_id=node_id, address=address, reason=reason)
            await asyncio.sleep(1.0)
        elif error.code() is grpc.StatusCode.UNAVAILABLE:
            self._transport.not_reached(address, node_id)

    async def _handshake_out(self, call: Any, node_id: int, address: str) -> bool:
        """Introduce this node, run the stream to its end; returns whether it stood."""
        async with asyncio.timeout(_HELLO_TIMEOUT_S):
            await call.write(pb.RaftFrame(hello=self._listener.hello(node_id)))
            answer = await call.read()
        if not isinstance(answer, pb.RaftFrame) or answer.WhichOneof("frame") != "hello":
            return False
        if answer.hello.refusal:
            log.warning("quorum_peer_refuses", node_id=node_id, address=address, reason=answer.hello.refusal)
            await asyncio.sleep(1.0)
            return False
        if answer.hello.sender.node_id != node_id:
            log.warning("quorum_wrong_node", expected=node_id, answered=answer.hello.sender.node_id, address=address)
            await asyncio.sleep(1.0)
            return False
        refusal = self._listener.admit(answer.hello)
        if refusal is not None:
            await call.write(pb.RaftFrame(hello=refusal))
            await asyncio.sleep(1.0)
            return False
        self._found[node_id] = address
        await self._run(_Link(peer_from_proto(answer.hello.sender), dialled=True), call.read, call.write)
        return True

    # --- being dialled

    async def _serve(self, _requests: Any, context: Any) -> None:
        """Run one stream that another node opened."""
        try:
            await self._run_incoming(context)
        except Exception as error:
            stop_if_broken(error)  # gRPC would write it down and go on
            raise

    async def _run_incoming(self, context: Any) -> None:
        caller: int | None = None
        if self._transport.caller is not None:
            try:
                caller = self._transport.caller(context)
            except ApiError as error:
                await context.abort(grpc.StatusCode.PERMISSION_DENIED, error.message)
        try:
            async with asyncio.timeout(_HELLO_TIMEOUT_S):
                first = await context.read()
        except TimeoutError:
            return
        if not isinstance(first, pb.RaftFrame) or first.WhichOneof("frame") != "hello" or self._stopping:
            return
        claimed = first.hello.sender.node_id
        if caller is not None and claimed != caller:
            log.warning("quorum_wrong_certificate", claimed=claimed, certificate=caller, peer=peer(context))
            text = f"the certificate is that of node {caller}, the stream says that it is from node {claimed}"
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, text)
        refusal = self._listener.admit(first.hello)
        if refusal is not None:
            await context.write(pb.RaftFrame(hello=refusal))
            return
        await context.write(pb.RaftFrame(hello=self._listener.hello(first.hello.sender.node_id)))
        await self._run(_Link(peer_from_proto(first.hello.sender), dialled=False), context.read, context.write)

    # --- an open stream

    async def _run(self, link: _Link, read: Read, write: Write) -> None:
        self._attach(link)
        writer = asyncio.get_running_loop().create_task(self._write(link, write), name=f"quorum-write-{link.peer}")
        try:
            while True:
                frame = await read()
                if not isinstance(frame, pb.RaftFrame):
                    return
                if frame.WhichOneof("frame") == "hello":
                    log.warning("quorum_peer_refuses", peer=str(link.peer), reason=frame.hello.refusal)
                    return
                if not link.dialled and any(other.dialled for other in self._links.get(link.peer, ())):
                    self.unheard_frames += 1
                    continue
                self.last_contact_ms[link.peer.node_id] = time.monotonic_ns() // 1_000_000
                self._listener.on_frame(link.peer, frame, dialled=link.dialled)
        except asyncio.CancelledError:
            if not link.replaced or link.task is None:
                raise
            link.task.uncancel()  # it ends in order: of a handler that was cancelled gRPC tells the other side nothing
        finally:
            # Nothing here may wait: after a broken stream the next await is cancelled.
            writer.cancel()
            self._detach(link)

    @staticmethod
    async def _write(link: _Link, write: Write) -> None:
        # A broken stream shows at the reader, which ends the link.
        with contextlib.suppress(grpc.RpcError, asyncio.InvalidStateError, grpc.aio.UsageError):
            while True:
                await write(await link.queue.get())

    def _attach(self, link: _Link) -> None:
        timer = self._lost_timers.pop(link.peer, None)
        if timer is not None:
            timer.cancel()
        links = self._links.setdefault(link.peer, [])
        links.append(link)
        incoming = [other for other in links if not other.dialled]
        if len(incoming) > _INCOMING_MAX:
            oldest = incoming[0]
            links.remove(oldest)
            oldest.replaced = True
            if oldest.task is not None:
                oldest.task.cancel()  # whoever is the member dials again
        self.last_contact_ms[link.peer.node_id] = time.monotonic_ns() // 1_000_000
        self._listener.on_connected(link.peer)

    def _detach(self, link: _Link) -> None:
        links = self._links.get(link.peer, [])
        if link not in links:
            return  # another one took its place
        links.remove(link)
        if links or self._stopping:
            return
        del self._links[link.peer]
        loop = asyncio.get_running_loop()
        self._lost_timers[link.peer] = loop.call_later(LOST_AFTER_S, self._lost, link.peer)

    def _lost(self, peer: PeerId) -> None:
        del self._lost_timers[peer]
        self._listener.on_lost(peer)
