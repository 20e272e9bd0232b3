"""One client's connection: requests start in the order they come, answers leave in that order.

A handler runs at once, while the request is in the receive buffer, up to where it must wait; so appends happen in the
order of their requests. An answer that is ready waits for those before it. Both ways are bounded: with too many
requests unanswered, or a client that does not read, nothing more is read from it. Large requests wait for room, on
their way and before they begin.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

import structlog

from node import limits
from node.api.in_flight import COUNTED_BYTES, InFlight
from node.api.room import Room
from node.api.throttle import Throttle
from node.config import KAFKA
from node.fail_stop import stop_if_broken
from node.kafka.addresses import Addresses, Reach
from node.kafka.codec import (
    API_VERSIONS,
    SASL_AUTHENTICATE,
    RequestHead,
    read_body,
    read_head,
    response_head,
    write_parts,
)
from node.kafka.frames import LEAST_BYTES, SCRATCH_BYTES, BadFrame, FrameLimits, Frames, NotKafka
from node.kafka.messages import APIS
from node.kafka.messages.api_versions import ApiVersionsRequest
from node.kafka.registry import Registry
from node.kafka.wire import Buffer, MalformedRequest, Message
from node.principal import ANONYMOUS, Principal, acting_as
from node.turns import Turns
from ottla.protocol.acls import address_of

if TYPE_CHECKING:
    from node.kafka.login import Login

IN_FLIGHT_MAX: Final = 64
WRITE_BUFFER_BYTES: Final = 64 << 10
LINGER_S: Final = 5.0
FIRST_REQUEST_S: Final = 10.0
LOGIN_S: Final = 20.0
STALLED_S: Final = 30.0
"""Without a byte of a request that has begun, or without taking one of an answer."""
TOO_SOON_S: Final = 1.0
SLOW_S: Final = 1.0
"""A large request that takes longer to come keeps no other one waiting."""
LINES_A_SECOND: Final = 10
BEFORE_LOGIN: Final = FrameLimits(64 << 10)
_PROTOCOL_ERROR: Final = 1
_RAW_TOKEN: Final = RequestHead(SASL_AUTHENTICATE, 0, 0, None, 0)


def goaway(text: str) -> bytes:
    """What tells an HTTP/2 client to go, and why: an empty SETTINGS frame, then GOAWAY."""
    debug = text.encode()
    payload = bytes(4) + _PROTOCOL_ERROR.to_bytes(4, "big") + debug
    return bytes.fromhex("000000040000000000") + len(payload).to_bytes(3, "big") + b"\7\0" + bytes(4) + payload


class Lines:
    """Log lines about clients, a few in each second: what somebody sends does not fill the log."""

    def __init__(self) -> None:
        self._log = structlog.get_logger("kafka")
        self._second = 0
        self._written = 0
        self._left_out = 0

    def warn(self, event: str, **facts: object) -> None:
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._written = second, 0
        if self._written >= LINES_A_SECOND:
            self._left_out += 1
            return
        self._written += 1
        if self._left_out:
            facts["lines_left_out_before"], self._left_out = self._left_out, 0
        self._log.warning(event, **facts)


@dataclass
class Listener:
    """What the connections of one port share. `received_max_bytes`: of requests that are not whole yet, all connections
    together; where there are more, who has sent nothing for the longest goes. Of large ones that take their time,
    `slow_bytes`, there may be as much: the slowest goes. `login`: what each begins with; None:
    everybody is let in, and known by his certificate, as `certified` reads it, or not at all."""

    registry: Registry
    limits: FrameLimits = field(default_factory=FrameLimits)
    connections_max: int = 10_000
    received_max_bytes: int = 64 << 20
    received_bytes: int = 0
    slow_bytes: int = 0
    lines: Lines = field(default_factory=Lines)
    turns: Turns = field(default_factory=Turns)
    addresses: Addresses = field(default_factory=Addresses)
    # Where to send those who came to the wrong port, as in "127.0.0.1:9192".
    grpc_address: str = ""
    scratch: memoryview = field(default_factory=lambda: memoryview(bytearray(SCRATCH_BYTES)))
    connections: "set[Connection]" = field(default_factory=set)
    login: "Callable[[], Login] | None" = None
    certified: Callable[[Any], Principal] | None = None
    in_flight: InFlight | None = None
    throttle: Throttle | None = None

    def __post_init__(self) -> None:
        self.coming = Room(self.received_max_bytes // limits.LARGE_SHARE)
        self.at_work = (
            Room(self.received_max_bytes // limits.LARGE_SHARE) if self.in_flight is None else self.in_flight.large
        )

    def connection(self, name: str = KAFKA) -> "Connection":
        """The protocol factory of `loop.create_server`, for the listener of that name."""
        return Connection(self, name)

    def close_idle(self, now: float, idle_s: float) -> None:
        """Ends connections on which nothing came for so long and nothing is under way; much sooner those that began a
        request and do not go on, that do not read their answers, or that never asked for anything."""
        for each in list(self.connections):
            silent_s = now - each.last_read
            if (each.in_flight and each.can_write) or each.muted or each.waits_for is not None:
                continue
            if not each.can_write and now - each.blocked_since > STALLED_S:
                each.refuse(f"the client has not read its answers for {STALLED_S:g} s")
            elif each.held_bytes and silent_s > STALLED_S:
                each.refuse(f"half a request, and nothing more of it for {STALLED_S:g} s")
            elif not each.asked and silent_s > FIRST_REQUEST_S:
                each.refuse(f"no request within {FIRST_REQUEST_S:g} s")
            elif each.login is not None and each.login.principal is None and now - each.connected_at > LOGIN_S:
                each.refuse(f"no login within {LOGIN_S:g} s")
            elif not each.in_flight and silent_s > idle_s:
                each.close()

    def end_work(self, size_bytes: int) -> None:
        """A large request gives back the room that it had to its end."""
        if self.in_flight is not None:
            self.in_flight.give(size_bytes)
        self.at_work.leave(size_bytes)

    def make_room(self, now: float) -> None:
        """Large requests that take long to come make room for those that wait for it."""
        if not self.coming.crowded:
            return
        coming = [each for each in self.connections if each.claimed_bytes and not each.is_whole and not each.is_slow]
        for each in [each for each in coming if now - each.claimed_at > SLOW_S]:
            each.is_slow = True
            self.slow_bytes += each.claimed_bytes
            self.coming.leave(each.claimed_bytes)
        while self.slow_bytes > self.received_max_bytes:
            slow = [each for each in self.connections if each.is_slow and not each.is_whole]
            if not slow:
                return
            slowest = min(slow, key=lambda each: each.held_bytes / (now - each.claimed_at))
            slowest.give_back_claim()
            slowest.refuse(
                f"{slowest.held_bytes} bytes of a request came in {now - slowest.claimed_at:.1f} s, and more than "
                f"{self.received_max_bytes} bytes are on their way like that"
            )

    def note_received(self, change: int) -> None:
        """Some connection holds so many bytes more."""
        self.received_bytes += change
        while self.received_bytes > self.received_max_bytes:
            held = [each for each in self.connections if each.counted_bytes]
            if not held:
                return
            slowest = min(held, key=lambda each: each.last_read)
            slowest.refuse(
                f"{self.received_bytes} bytes of requests that are not whole are here, {self.received_max_bytes} may be"
            )


class Call:
    """One request under way."""

    __slots__ = (
        "_parts", "_when_first", "client_id", "connection", "correlation_id", "done", "key", "on_close", "on_sent",
        "room_bytes", "size_bytes", "version",
    )  # fmt: skip

    def __init__(self, connection: "Connection", head: RequestHead, size_bytes: int = 0) -> None:
        self.connection = connection
        self.key = head.key
        self.version = head.version
        self.correlation_id = head.correlation_id
        self.client_id = head.client_id
        self.size_bytes = size_bytes
        self.room_bytes = 0  # that it has, to its end
        self.on_close: Callable[[], object] | None = None  # called when the client goes before the answer
        self.on_sent: Callable[[], None] | None = None  # called when the answer has left, or never will
        self.done = False
        self._when_first: Callable[[], None] | None = None
        self._parts: list[Buffer] | None = None

    def answer(self, message: Message) -> None:
        """Sends the answer, after those of the requests before. The first answer counts."""
        if self.done:
            return
        try:
            self._send(write_parts(self.key, self.version, message))
        except Exception as error:  # what cannot be written is a bug of ours, and the client must not wait for ever
            stop_if_broken(error)
            self.connection.bug(self, error)

    def answer_raw(self, data: bytes) -> None:
        """What is no response of Kafka's: only its size goes before it."""
        self._parts = [len(data).to_bytes(4, "big") + data]
        self._finish()

    def answer_to_a_newer_client(self, message: Message) -> None:
        self._send(write_parts(self.key, 0, message))

    def no_answer(self) -> None:
        """The client expects none (acks=0)."""
        if not self.done:
            self._finish()

    def when_first(self, begin: Callable[[], None]) -> None:
        """Calls `begin` when the answers before this one have left: then it need not wait here."""
        self._when_first = begin

    def is_first(self) -> None:
        begin, self._when_first = self._when_first, None
        if begin is not None:
            with acting_as(self.connection.principal, self.connection.host, self.client_id or ""):
                begin()

    def hold(self) -> None:
        """Nothing that comes after it on its connection begins before `release`."""
        self.connection.held = True

    def release(self) -> None:
        self.connection.held = False
        self.connection.finished()

    def parts(self) -> list[Buffer]:
        """What to write; nothing for a request without an answer."""
        return self._parts or []

    def _count(self, size: int) -> None:
        """Until it has left; those of a connection that is lost are not sent at all."""
        in_flight = self.connection.listener.in_flight
        if in_flight is not None and not self.connection.lost:
            in_flight.take(size)
            self.on_sent = partial(in_flight.give, size)

    def _send(self, body: list[Buffer]) -> None:
        head = response_head(self.key, self.version, self.correlation_id)
        size = len(head) + sum(map(len, body))
        if size >= COUNTED_BYTES and self.on_sent is None:
            self._count(size)
        self._parts = [size.to_bytes(4, "big") + head, *body]
        self._finish()

    def _finish(self) -> None:
        self.done = True
        self.give_back_room()
        self.connection.finished()

    def give_back_room(self) -> None:
        size_bytes, self.room_bytes = self.room_bytes, 0
        if size_bytes:
            self.connection.listener.end_work(size_bytes)


class Connection(asyncio.BufferedProtocol):
    def __init__(self, listener: Listener, name: str = KAFKA) -> None:
        self.listener = listener
        self.reach = Reach(name)
        self.host = ""
        self.peer: tuple[str, int] | None = None
        self.local: tuple[str, int] | None = None
        self.software = ""  # name and version, as the client's ApiVersions says
        self.login = None if listener.login is None else listener.login()
        self.encrypted = False
        self._certified = ANONYMOUS
        self.connected_at = 0.0
        self.last_read = 0.0
        self.blocked_since = 0.0
        self.asked = False
        self.lost = False
        self.held = False
        self.muted = False
        self.counted_bytes = 0
        self.waits_for: Room | None = None  # and is not read from meanwhile
        self.claimed_bytes = 0  # of the large request on its way
        self.claimed_at = 0.0
        self.is_slow = False
        self._large: memoryview | None = None  # which is whole
        self._to_work_bytes = 0  # room for it
        self._unsent: list[Callable[[], None]] = []
        self._frames = Frames(listener.scratch, listener.limits if self.login is None else BEFORE_LOGIN)
        self._calls: deque[Call] = deque()
        self._unmute: asyncio.TimerHandle | None = None
        self._when_there_is_room: Callable[[], None] = self._start
        self._transport: asyncio.Transport | None = None
        self._log = structlog.get_logger("kafka")
        self._starting = False
        self._more = False  # requests may be here that had no room
        self._waits = False  # for its turn
        self.can_write = True
        self._reading = True

    @property
    def principal(self) -> Principal:
        """Who this is, as far as that is proven."""
        return self._certified if self.login is None else self.login.principal or ANONYMOUS

    def take_raw(self) -> None:
        """What comes next is a login's own messages, which may be small."""
        self._frames.least_bytes = 1

    def logged_in(self) -> None:
        self._frames.least_bytes = LEAST_BYTES
        self._frames.limits = self.listener.limits

    def mute(self, pause_ms: int) -> None:
        """Nothing of this client is read or begun for so long (KIP-219); what is under way is answered."""
        loop = asyncio.get_running_loop()
        until = loop.time() + pause_ms / 1000
        if self._transport is None or (self._unmute is not None and self._unmute.when() >= until):
            return
        if self._unmute is not None:
            self._unmute.cancel()
        self.muted = True
        self._unmute = loop.call_at(until, self._hear_again)
        self._pause_or_resume()

    def _hear_again(self) -> None:
        self.muted, self._unmute = False, None
        self.last_read = asyncio.get_running_loop().time()  # who may not send is not silent
        self._start()

    @property
    def is_whole(self) -> bool:
        """Whether the large request only waits for its work to begin."""
        return self._large is not None

    @property
    def in_flight(self) -> int:
        return len(self._calls)

    @property
    def held_bytes(self) -> int:
        return self._frames.held_bytes

    # -- what the transport says

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it
        self._transport.set_write_buffer_limits(WRITE_BUFFER_BYTES)
        peer, local = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
        self.peer = tuple(peer[:2]) if isinstance(peer, tuple) else None
        self.local = tuple(local[:2]) if isinstance(local, tuple) else None
        if self.peer is not None and self.local is not None:
            self.host = address_of(str(self.peer[0]))
            self.reach = self.listener.addresses.reach(self.reach.listener, str(self.local[0]), self.host)
        self.encrypted = transport.get_extra_info("sslcontext") is not None
        certificate = transport.get_extra_info("peercert")
        if certificate and self.listener.certified is not None:
            self._certified = self.listener.certified(certificate)
        self.last_read = self.connected_at = asyncio.get_running_loop().time()
        if len(self.listener.connections) >= self.listener.connections_max:
            most = self.listener.connections_max
            self.refuse(f"{most} connections are open, as many as this node has for clients of Kafka")
            return
        self.listener.connections.add(self)
        throttle = self.listener.throttle
        if throttle is not None and throttle.on and (pause_ms := throttle.connected(address_of(self.host))):
            self._too_soon(pause_ms)

    def _too_soon(self, pause_ms: int) -> None:
        """Nothing of it is read, and it is closed after a while, so that its client does not come back at once
        (KIP-612)."""
        self.held = True
        self._pause_or_resume()
        why = "its address opens connections faster than its quota"
        self.refuse(why, after_s=min(pause_ms / 1000, TOO_SOON_S))

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self.lost = True
        self.listener.connections.discard(self)
        if self._unmute is not None:
            self._unmute.cancel()
        self._count(0)
        self._leave_rooms()
        calls, self._calls = self._calls, deque()
        for call in calls:
            call.give_back_room()
            if not call.done and call.on_close is not None:
                call.on_close()
            if call.on_sent is not None:
                self._unsent.append(call.on_sent)
        self._all_sent()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._frames.space()

    def buffer_updated(self, nbytes: int) -> None:
        self.last_read = asyncio.get_running_loop().time()
        self._frames.received(nbytes)
        self._start()

    def pause_writing(self) -> None:
        self.can_write = False
        self.blocked_since = asyncio.get_running_loop().time()
        self._pause_or_resume()

    def resume_writing(self) -> None:
        self.can_write = True
        self._all_sent()
        self._flush()
        self._start()

    # -- requests

    def _start(self, *, let_on: bool = False) -> None:
        """Starts the requests that are here, as far as there is room for them and this turn of the loop is young; the
        others when it is there and it is this client's turn, of all that there are. `let_on`: now it is."""
        if self._starting or self._transport is None:
            return
        self._starting = True
        turns = self.listener.turns
        try:
            while (room := self._has_room() and (let_on or turns.free())) and (frame := self._next()) is not None:
                self.asked = True
                let_on = False
                self._begin(frame)
            self._more = not room
            self._frames.keep()
            coming_bytes = self._frames.coming_bytes
            if coming_bytes >= limits.LARGE_BYTES and not self.claimed_bytes and self.waits_for is None:
                self._ask(self.listener.coming, coming_bytes)
            self._count(0 if self.claimed_bytes else self._frames.held_bytes)
        except NotKafka as error:
            self._turn_away(error.protocol)
        except (BadFrame, MalformedRequest) as error:
            self.refuse(str(error))
        finally:
            self._starting = False
        self._flush()
        if self._more and self._has_room() and not self._waits:
            self._waits = True
            turns.later(str(self.peer), self._go_on)
        self._pause_or_resume()

    def _next(self) -> memoryview | None:
        """The next request that may begin."""
        frame = self._frames.next() if self._large is None else self._large
        if frame is None or len(frame) < limits.LARGE_BYTES:
            return frame
        self._large = frame
        if not self._to_work_bytes and not self._ask(self.listener.at_work, len(frame)):
            return None
        self._large = None
        self.give_back_claim()
        return frame

    def _ask(self, room: Room, size_bytes: int) -> bool:
        """For room; without it nothing is read or begun until it is there."""
        came = partial(self._came, room, size_bytes)
        if room.enter(size_bytes, came):
            self._has(room, size_bytes)
            return True
        self.waits_for, self._when_there_is_room = room, came
        return False

    def _has(self, room: Room, size_bytes: int) -> None:
        if room is self.listener.coming:
            self.claimed_bytes, self.claimed_at = size_bytes, asyncio.get_running_loop().time()
            return
        self._to_work_bytes = size_bytes
        if self.listener.in_flight is not None:
            self.listener.in_flight.take(size_bytes)

    def _came(self, room: Room, size_bytes: int) -> None:
        self.waits_for = None
        self._has(room, size_bytes)
        loop = asyncio.get_running_loop()
        self.last_read = loop.time()  # who may not send is not silent
        loop.call_soon(self._start)

    def give_back_claim(self) -> None:
        """The large request is whole, or never will be."""
        size_bytes, self.claimed_bytes = self.claimed_bytes, 0
        if self.is_slow:
            self.is_slow = False
            self.listener.slow_bytes -= size_bytes
        elif size_bytes:
            self.listener.coming.leave(size_bytes)

    def _leave_rooms(self) -> None:
        if self.waits_for is not None:
            self.waits_for.forget(self._when_there_is_room)
        self.give_back_claim()
        size_bytes, self._to_work_bytes = self._to_work_bytes, 0
        if size_bytes:
            self.listener.end_work(size_bytes)

    def _go_on(self) -> None:
        self._waits = False
        self._start(let_on=True)

    def _has_room(self) -> bool:
        return (
            self._transport is not None
            and self.can_write
            and not self.held
            and not self.muted
            and self.waits_for is None
            and len(self._calls) < IN_FLIGHT_MAX
        )

    def _count(self, held_bytes: int) -> None:
        change, self.counted_bytes = held_bytes - self.counted_bytes, held_bytes
        if change:
            self.listener.note_received(change)

    def _begin(self, frame: memoryview) -> None:
        if self.login is not None and self.login.takes_raw:
            call = Call(self, _RAW_TOKEN)
            self._calls.append(call)
            self.login.token(bytes(frame), call)
            return
        head = read_head(frame)
        call = Call(self, head, len(frame))
        if self.login is not None and not self.login.may_ask(head.key):
            name = APIS[head.key].name if head.key in APIS else f"the unknown API {head.key}"
            why = f"{name} before a login: clients need security.protocol SASL_SSL or SASL_PLAINTEXT"
            self.refuse(why, call.client_id)
            return
        handler = self.listener.registry.find(head.key, head.version)
        if handler is None:
            self._unserved(call)
            return
        message = read_body(frame, head)
        if isinstance(message, ApiVersionsRequest):
            self.software = f"{message.client_software_name} {message.client_software_version}".strip()
        self._calls.append(call)
        call.room_bytes, self._to_work_bytes = self._to_work_bytes, 0
        try:
            with acting_as(self.principal, self.host, head.client_id or ""):
                answer = handler(message, call)
        except Exception as error:  # a handler answers with error codes; anything else is a bug of ours
            stop_if_broken(error)
            self.bug(call, error)
            return
        if answer is not None:
            call.answer(answer)

    def _unserved(self, call: Call) -> None:
        if call.key == API_VERSIONS:
            self._calls.append(call)
            call.answer_to_a_newer_client(self.listener.registry.answer_to_a_newer_client())
            return
        name = APIS[call.key].name if call.key in APIS else "an unknown API"
        self.refuse(f"{name} (key {call.key}) version {call.version} is not served", call.client_id)

    # -- answers

    def finished(self) -> None:
        """A call is done: what can leave now leaves, and what waited for room starts."""
        if not self._starting:
            self._flush()
            if self._more and self._has_room():
                self._start()

    def _flush(self) -> None:
        parts: list[Buffer] = []
        while self.can_write and self._calls and self._calls[0].done:
            call = self._calls.popleft()
            parts += call.parts()
            if call.on_sent is not None:
                self._unsent.append(call.on_sent)
        if parts and self._transport is not None:
            self._transport.writelines(parts)
        if self._unsent and self.can_write:
            self._all_sent()
        if self._calls and self.can_write:
            self._calls[0].is_first()

    def _all_sent(self) -> None:
        """What was written has left, but for as much as is always allowed to wait; or nobody is there to take it."""
        sent, self._unsent = self._unsent, []
        for call in sent:
            call()

    def _pause_or_resume(self) -> None:
        wanted = self._has_room() and not self._more
        if self._transport is None or self._transport.is_closing() or self._reading == wanted:
            return
        self._reading = wanted
        if self._reading:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    # -- ends

    def close(self) -> None:
        """Ends the connection; what is written already still leaves."""
        self._count(0)
        if self._transport is not None:
            self._transport.close()
            # A client that does not read would keep the rest of its answers here for ever.
            asyncio.get_running_loop().call_later(LINGER_S, self._transport.abort)
            self._transport = None

    def bug(self, call: Call, error: Exception) -> None:
        """An error of ours: this client is rid of its request, the others do not notice."""
        self._log.error("kafka_request_failed", api=call.key, version=call.version, peer=self.peer, error=repr(error))
        self.close()

    def refuse(self, why: str, client_id: str | None = None, *, user: str = "", after_s: float = 0.0) -> None:
        """One line in the log, and the end: after a while, where the client has an answer to read first."""
        client = {"client": client_id, "software": self.software, "user": user}
        self.listener.lines.warn(
            "kafka_connection_closed", reason=why, peer=self.peer, **{k: v for k, v in client.items() if v}
        )
        self._flush()
        if after_s:
            asyncio.get_running_loop().call_later(after_s, self.close)
        else:
            self.close()

    def _turn_away(self, protocol: str) -> None:
        """A client of another protocol: one line here, and where it can be told, it hears where to go."""
        if protocol == "gRPC" and self._transport is not None:
            where = f"; gRPC is at {self.listener.grpc_address}" if self.listener.grpc_address else ""
            self._transport.write(goaway(f"this port speaks Kafka's protocol{where}"))
        self.refuse(f"this port speaks Kafka's protocol, and the client speaks {protocol}")
