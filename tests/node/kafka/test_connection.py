"""Order, back-pressure and the ends of a connection, with handlers that answer when a test wants it."""

import asyncio
import struct
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import structlog.testing
import uvloop

from node.api.in_flight import COUNTED_BYTES, InFlight
from node.api.throttle import Throttle
from node.kafka import codec
from node.kafka.codec import Encoded
from node.kafka.connection import IN_FLIGHT_MAX, Call, Listener, goaway
from node.kafka.messages.api_versions import ApiVersion, ApiVersionsResponse
from node.kafka.messages.heartbeat import HeartbeatRequest, HeartbeatResponse
from node.kafka.registry import Registry
from node.kafka.wire import Message
from node.metadata.quotas import Quotas
from node.turns import Turns
from ottla.protocol.quotas import CONNECTION, IP
from tests.node.kafka.test_codec import frame

HEARTBEAT, API_VERSIONS, PRODUCE = 12, 18, 0


class Transport(asyncio.Transport):
    """Takes what is written, and says when reading is paused."""

    def __init__(self) -> None:
        super().__init__({"peername": ("192.0.2.7", 5000), "sockname": ("127.0.0.1", 9092)})
        self.written = b""
        self.writes = 0
        self.reading = True
        self.closed = False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def write(self, data: Any) -> None:
        self.writelines([data])

    def writelines(self, list_of_data: Any) -> None:
        self.written += b"".join(list_of_data)
        self.writes += 1

    def pause_reading(self) -> None:
        assert self.reading
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading
        self.reading = True

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def answers(self) -> list[int]:
        """The correlation ids of what was written."""
        found, at = [], 0
        while at < len(self.written):
            size, correlation = struct.unpack_from(">ii", self.written, at)
            found.append(correlation)
            at += 4 + size
        return found


class World:
    """A connection with a handler of heartbeats whose answers the test gives, in the order that it likes."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.registry = Registry()
        self.registry.add(HEARTBEAT, 0, 3, self.heartbeat)
        self.now_s = 0.0
        self.listener = Listener(self.registry, grpc_address="127.0.0.1:9192", turns=Turns(lambda: self.now_s))
        self.transport = Transport()
        self.connection = self.listener.connection()
        self.connection.connection_made(self.transport)

    def heartbeat(self, message: Message, call: Call) -> Message | None:
        assert isinstance(message, HeartbeatRequest)
        if message.group_id == "broken":
            raise KeyError("a bug")
        self.calls.append(call)
        return HeartbeatResponse(error_code=27) if message.group_id == "now" else None

    def send(self, data: bytes) -> None:
        at = 0
        while at < len(data):
            space = self.connection.get_buffer(-1)
            count = min(len(space), len(data) - at)
            space[:count] = data[at : at + count]
            self.connection.buffer_updated(count)
            at += count


def sized(data: bytes) -> bytes:
    return struct.pack(">i", len(data)) + data


def heartbeat(correlation: int, group: str = "later", version: int = 0) -> bytes:
    name = group.encode()
    body = struct.pack(">h", len(name)) + name + struct.pack(">ih", 1, 0)
    data = bytearray(frame(HEARTBEAT, version, body))
    struct.pack_into(">i", data, 4, correlation)
    return sized(bytes(data))


async def test_answers_leave_in_the_order_of_the_requests() -> None:
    world = World()
    world.send(heartbeat(1) + heartbeat(2) + heartbeat(3, "now"))
    assert [call.correlation_id for call in world.calls] == [1, 2, 3]
    assert world.transport.answers() == []
    world.calls[1].answer(HeartbeatResponse())
    assert world.transport.answers() == []
    world.calls[0].answer(HeartbeatResponse())
    assert world.transport.answers() == [1, 2, 3]
    assert world.transport.writes == 1
    assert world.connection.in_flight == 0


async def test_an_answer_at_once_is_whole() -> None:
    world = World()
    world.send(heartbeat(7, "now"))
    assert world.transport.written == bytes.fromhex("00000006 00000007 001b")


async def test_requests_without_an_answer_take_no_place() -> None:
    world = World()
    world.send(heartbeat(1) + heartbeat(2))
    world.calls[1].answer(HeartbeatResponse())
    world.calls[0].no_answer()
    assert world.transport.answers() == [2]


async def test_only_the_first_answer_counts() -> None:
    world = World()
    world.send(heartbeat(1))
    world.calls[0].answer(HeartbeatResponse())
    world.calls[0].answer(HeartbeatResponse())
    world.calls[0].no_answer()
    assert world.transport.answers() == [1]


async def test_too_many_requests_stop_the_reading_and_lose_nothing() -> None:
    world = World()
    world.send(b"".join(heartbeat(number) for number in range(IN_FLIGHT_MAX + 5)))
    assert len(world.calls) == IN_FLIGHT_MAX
    assert not world.transport.reading
    world.calls[1].answer(HeartbeatResponse())
    assert len(world.calls) == IN_FLIGHT_MAX  # the oldest is still to leave
    world.calls[0].answer(HeartbeatResponse())
    assert len(world.calls) == IN_FLIGHT_MAX + 2
    for call in world.calls:
        call.answer(HeartbeatResponse())
    assert [call.correlation_id for call in world.calls] == list(range(IN_FLIGHT_MAX + 5))
    for call in world.calls:
        call.answer(HeartbeatResponse())
    assert world.transport.answers() == list(range(IN_FLIGHT_MAX + 5))
    assert world.transport.reading


async def test_thousands_of_small_requests_take_turns_with_others() -> None:
    world = World()
    world.send(b"".join(heartbeat(number, "now") for number in range(1000)))
    assert len(world.calls) == IN_FLIGHT_MAX
    assert not world.transport.reading
    for _ in range(2):
        await asyncio.sleep(0)
    assert len(world.calls) == 2 * IN_FLIGHT_MAX
    await until(lambda: world.transport.reading)
    assert world.transport.answers() == list(range(1000))


async def test_a_client_that_does_not_read_is_not_read_from() -> None:
    world = World()
    world.send(heartbeat(1))
    world.connection.pause_writing()
    assert not world.transport.reading
    world.calls[0].answer(HeartbeatResponse())
    assert world.transport.answers() == []
    world.send(heartbeat(2, "now"))  # was under way
    assert len(world.calls) == 1
    world.connection.resume_writing()
    assert world.transport.answers() == [1, 2]
    assert world.transport.reading


async def test_a_client_that_goes_ends_what_waits_for_it() -> None:
    world, gone = World(), []
    world.send(heartbeat(1) + heartbeat(2))
    for call in world.calls:
        call.on_close = lambda number=call.correlation_id: gone.append(number)
    world.calls[1].answer(HeartbeatResponse())
    world.connection.connection_lost(None)
    assert gone == [1]
    world.calls[0].answer(HeartbeatResponse())
    assert world.transport.answers() == []
    assert not world.listener.connections


async def test_api_versions_names_what_is_served_and_nothing_else() -> None:
    world = World()
    world.send(sized(frame(API_VERSIONS, 3, b"\x05kcat\x061.7.1\0")))
    assert world.connection.software == "kcat 1.7.1"
    assert world.registry.advertised() == [ApiVersion(HEARTBEAT, 0, 3), ApiVersion(API_VERSIONS, 0, 4)]
    body = codec.write_body(API_VERSIONS, 3, ApiVersionsResponse(0, world.registry.advertised()))
    assert world.transport.written == sized(struct.pack(">i", 7) + body)


def test_features_are_told_of_in_the_version_that_can_say_that_one_may_be_off() -> None:
    registry = Registry()
    assert [(each.name, each.max_version) for each in registry.answer(4).supported_features] == [("group.version", 1)]
    assert [each.max_version_level for each in registry.answer(4).finalized_features] == [1]
    assert registry.answer(3).supported_features == registry.answer(3).finalized_features == ()


async def test_a_newer_api_versions_gets_version_0_and_what_there_is() -> None:
    world = World()
    world.send(sized(struct.pack(">hhih", API_VERSIONS, 77, 7, -1) + b"anything"))
    assert world.transport.written == sized(struct.pack(">ihihhh", 7, 35, 1, API_VERSIONS, 0, 4))
    world.send(heartbeat(8, "now"))
    assert world.transport.answers() == [7, 8]


def closing_line(logged: Sequence[Any]) -> Any:
    [line] = [each for each in logged if each["event"] == "kafka_connection_closed"]
    return line


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (sized(frame(HEARTBEAT, 4, bytes(20))), "Heartbeat (key 12) version 4 is not served"),
        (sized(frame(3, 12, bytes(20))), "Metadata (key 3) version 12 is not served"),
        (sized(frame(999, 0, bytes(20))), "an unknown API (key 999) version 0 is not served"),
        (sized(frame(HEARTBEAT, 0, b"\x7f\xff")), "Heartbeat v0: group_id has a length of 32767"),
        (struct.pack(">i", -1), "a request of -1 bytes"),
        (struct.pack(">ih", 2**31 - 1, 0), "a request of 2147483647 bytes with API key 0"),
        (bytes.fromhex("1603010200010001fc0303"), "the client speaks TLS"),
        (b"GET / HTTP/1.1\r\n\r\n", "the client speaks HTTP"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "the client speaks gRPC"),
    ],
)
async def test_what_cannot_be_served_is_closed_with_one_line(data: bytes, reason: str) -> None:
    world = World()
    with structlog.testing.capture_logs() as logged:
        world.send(data)
    assert world.transport.closed
    line = closing_line(logged)
    assert reason in line["reason"]
    assert line["peer"] == ("192.0.2.7", 5000)
    assert len(logged) == 1


async def test_a_refusal_names_the_client() -> None:
    world = World()
    with structlog.testing.capture_logs() as logged:
        world.send(sized(frame(3, 12, b"", b"my-app")))
    assert closing_line(logged)["client"] == "my-app"


async def test_answers_before_a_refusal_still_leave() -> None:
    world = World()
    world.send(heartbeat(1, "now") + sized(frame(999, 0, b"")) + heartbeat(2, "now"))
    assert world.transport.answers() == [1]
    assert world.transport.closed
    assert len(world.calls) == 1


async def test_a_bug_of_ours_closes_the_connection_and_is_told() -> None:
    world = World()
    with structlog.testing.capture_logs() as logged:
        world.send(heartbeat(1, "broken"))
    assert world.transport.closed
    assert [(line["event"], line["error"]) for line in logged] == [("kafka_request_failed", "KeyError('a bug')")]


async def test_an_answer_that_cannot_be_written_is_a_bug() -> None:
    world = World()
    world.send(heartbeat(1))
    with structlog.testing.capture_logs() as logged:
        world.calls[0].answer(HeartbeatResponse(error_code=1 << 20))
    assert world.transport.closed
    assert [line["event"] for line in logged] == ["kafka_request_failed"]


async def test_idle_connections_end_but_not_those_that_wait() -> None:
    idle, waiting = World(), World()
    idle.send(heartbeat(1, "now"))
    waiting.send(heartbeat(1))
    for world in (idle, waiting):
        now = world.connection.last_read
        world.listener.close_idle(now + 599, 600)
        assert not world.transport.closed
        world.listener.close_idle(now + 601, 600)
    assert idle.transport.closed
    assert not waiting.transport.closed


@pytest.mark.parametrize(
    ("sent", "after_s", "reason"),
    [
        (b"", 11, "no request within 10 s"),
        (heartbeat(1, "now") + heartbeat(2)[:9], 31, "half a request"),
    ],
)
async def test_who_does_not_go_on_is_closed_soon(sent: bytes, after_s: float, reason: str) -> None:
    world = World()
    world.send(sent)
    with structlog.testing.capture_logs() as logged:
        world.listener.close_idle(world.connection.last_read + after_s - 2, 600)
        assert not world.transport.closed
        world.listener.close_idle(world.connection.last_read + after_s, 600)
    assert world.transport.closed
    assert [reason in line["reason"] for line in logged] == [True]


async def test_who_does_not_read_is_closed() -> None:
    world = World()
    world.connection.pause_writing()
    world.listener.close_idle(world.connection.blocked_since + 31, 600)
    assert world.transport.closed


async def test_of_too_many_half_requests_the_one_that_is_silent_longest_goes() -> None:
    worlds = [World() for _ in range(3)]
    listener = worlds[0].listener
    listener.received_max_bytes = 25
    for number, world in enumerate(worlds):
        world.connection.listener = listener
        listener.connections.add(world.connection)
        world.send(heartbeat(1)[:10])
        world.connection.last_read = number
    assert [world.transport.closed for world in worlds] == [True, False, False]
    assert listener.received_bytes == 20
    worlds[1].send(heartbeat(1)[10:])
    assert listener.received_bytes == 10
    worlds[2].connection.connection_lost(None)
    assert listener.received_bytes == 0


async def test_more_connections_than_allowed_are_closed_with_few_lines() -> None:
    world = World()
    world.listener.connections_max = 1
    with structlog.testing.capture_logs() as logged:
        for _ in range(100):
            transport = Transport()
            world.listener.connection().connection_made(transport)
            assert transport.closed
    assert 1 <= len(logged) <= 20
    assert len(world.listener.connections) == 1


async def test_who_holds_the_connection_lets_nothing_behind_it_begin() -> None:
    world = World()

    def hold(message: Message, call: Call) -> None:
        world.calls.append(call)
        call.hold()

    world.registry.add(HEARTBEAT, 0, 3, hold)
    world.send(heartbeat(1) + heartbeat(2))
    assert [call.correlation_id for call in world.calls] == [1]
    assert not world.transport.reading
    world.calls[0].release()
    assert [call.correlation_id for call in world.calls] == [1, 2]


async def test_requests_that_take_long_take_turns_with_other_clients() -> None:
    world = World()

    def slow(message: Message, call: Call) -> Message:
        world.calls.append(call)
        world.now_s += 0.003
        return HeartbeatResponse()

    world.registry.add(HEARTBEAT, 0, 3, slow)
    world.send(b"".join(heartbeat(number) for number in range(5)))
    assert len(world.calls) == 2
    await until(lambda: world.transport.answers() == list(range(5)))


async def test_clients_share_a_turn_of_the_loop() -> None:
    """Each sends more than there is room for in one: together they take no longer than one would."""
    world = World()
    others = [world.listener.connection() for _ in range(8)]
    for other in others:
        other.connection_made(Transport())

    def slow(message: Message, call: Call) -> Message:
        world.calls.append(call)
        world.now_s += 0.003
        return HeartbeatResponse()

    world.registry.add(HEARTBEAT, 0, 3, slow)
    for world.connection in others:
        world.send(b"".join(heartbeat(number) for number in range(20)))
    assert len(world.calls) == 2
    await until(lambda: len(world.calls) == 8 * 20)


async def test_what_wants_to_be_first_begins_when_the_answers_before_have_left() -> None:
    world = World()
    first: list[int] = []
    sent: list[int] = []

    def wait(message: Message, call: Call) -> None:
        world.calls.append(call)
        call.when_first(lambda: first.append(call.correlation_id))
        call.on_sent = lambda: sent.append(call.correlation_id)

    world.registry.add(HEARTBEAT, 0, 3, wait)
    world.send(heartbeat(1) + heartbeat(2))
    assert first == [1]
    world.connection.pause_writing()
    world.calls[0].answer(HeartbeatResponse())
    assert (first, sent) == ([1], [])
    world.connection.resume_writing()
    assert (first, sent) == ([1, 2], [1])
    world.calls[1].answer(HeartbeatResponse())
    assert sent == [1, 2]
    world.connection.connection_lost(None)
    assert sent == [1, 2]


async def test_a_large_answer_is_in_flight_until_it_has_left_or_never_will() -> None:
    world = World()
    in_flight = world.listener.in_flight = InFlight(2**26)
    large = Encoded([bytes(COUNTED_BYTES)])
    world.send(heartbeat(1) + heartbeat(2) + heartbeat(3))
    world.connection.pause_writing()
    world.calls[0].answer(large)
    assert in_flight.used_bytes > COUNTED_BYTES
    world.connection.resume_writing()
    assert in_flight.used_bytes == 0
    world.calls[2].answer(large)
    assert in_flight.used_bytes > COUNTED_BYTES
    world.connection.connection_lost(None)
    assert in_flight.used_bytes == 0
    world.calls[1].answer(large)
    assert in_flight.used_bytes == 0, "nobody gives it back"


def test_what_has_no_codec_is_not_served() -> None:
    with pytest.raises(ValueError, match="Heartbeat: there are codecs for 0 to 4, not for 0 to 5"):
        Registry().add(HEARTBEAT, 0, 5, lambda message, call: None)


def test_goaway_is_settings_and_goaway_with_a_text() -> None:
    data = goaway("there")
    assert data[:9] == bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
    assert data[9:18] == bytes([0, 0, 13, 7, 0, 0, 0, 0, 0])
    assert data[18:] == bytes(4) + bytes([0, 0, 0, 1]) + b"there"


async def served(listener: Listener) -> asyncio.Server:
    return await asyncio.get_running_loop().create_server(listener.connection, "127.0.0.1", 0)


async def over_sockets() -> None:
    """Real sockets: requests in odd pieces and a big one, a client that leaves, one that speaks gRPC."""
    registry = Registry()
    sizes = []

    def produce(message: Any, call: Call) -> Message | None:
        sizes.append([len(batch) for topic in message.topics for _, batch in topic.partitions])
        call.no_answer()
        return None

    registry.add(HEARTBEAT, 0, 3, lambda message, call: HeartbeatResponse())
    registry.add(PRODUCE, 3, 9, produce)
    listener = Listener(registry, grpc_address="127.0.0.1:9192")
    listener.limits = type(listener.limits)(1 << 20, {PRODUCE: 64 << 20})
    async with await served(listener) as server:
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        batch = bytes(5 << 20)
        topic = struct.pack(">ih", 1, 1) + b"t" + struct.pack(">iii", 1, 0, len(batch)) + batch
        big = sized(frame(PRODUCE, 3, struct.pack(">hhi", -1, 0, 1000) + topic))
        data = heartbeat(1) + big + heartbeat(2) + heartbeat(3)
        for start in range(0, len(data), 777_777):
            writer.write(data[start : start + 777_777])
            await writer.drain()
        assert await reader.readexactly(30) == b"".join(
            bytes.fromhex("00000006") + struct.pack(">i", number) + bytes(2) for number in (1, 2, 3)
        )
        assert sizes == [[5 << 20]]
        writer.close()
        await until(lambda: not listener.connections)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        assert (await asyncio.wait_for(reader.read(), 5)).endswith(b"Kafka's protocol; gRPC is at 127.0.0.1:9192")
        writer.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - nobody sets an event here
            await asyncio.sleep(0.001)


def test_over_sockets_with_uvloop() -> None:
    uvloop.run(over_sockets())


async def test_over_sockets_with_asyncio() -> None:
    await over_sockets()


async def test_who_is_muted_is_answered_but_not_heard() -> None:
    world = World()
    world.send(heartbeat(1))
    world.calls[0].connection.mute(50)
    world.connection.mute(10)  # the longer one counts
    assert not world.transport.reading
    world.send(heartbeat(2, "now"))  # was on its way
    world.calls[0].answer(HeartbeatResponse())
    assert world.transport.answers() == [1]
    await asyncio.sleep(0.03)
    world.listener.close_idle(asyncio.get_running_loop().time() + 1000, 1)
    assert world.transport.answers() == [1]
    assert not world.transport.closed
    await until(lambda: world.transport.answers() == [1, 2])
    assert world.transport.reading


async def test_who_is_muted_in_the_middle_of_requests_begins_no_other() -> None:
    world = World()
    world.registry.add(HEARTBEAT, 0, 3, lambda message, call: call.connection.mute(20) or HeartbeatResponse())
    world.send(heartbeat(1) + heartbeat(2) + heartbeat(3))
    assert world.transport.answers() == [1]
    await until(lambda: world.transport.answers() == [1, 2, 3])


async def test_a_connection_that_is_lost_while_it_is_muted_leaves_nothing_behind() -> None:
    world = World()
    world.connection.mute(3_600_000)
    timer = world.connection._unmute
    world.connection.connection_lost(None)
    assert timer is not None
    assert timer.cancelled()
    world.connection.mute(10)
    assert world.connection._unmute is timer


async def test_connections_of_an_address_that_come_too_soon_are_closed_unheard() -> None:
    world = World()
    throttle = Throttle(lambda: 1000.0)
    throttle.changed(Quotas({((IP, None),): {CONNECTION: 3.0}}))
    world.listener.throttle = throttle
    transports = [Transport() for _ in range(3)]
    for transport in transports:
        connection = world.listener.connection()
        connection.connection_made(transport)
    assert [transport.reading for transport in transports] == [True, False, False]
    await until(lambda: [transport.closed for transport in transports] == [False, True, True])
