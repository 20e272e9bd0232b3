"""What is answered to clients of Kafka, by a node with a real log and without a socket of theirs."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from node.api.offsets import OffsetsApi
from node.broker.door import Heavy, OnLoop
from node.broker.kafka_codecs import fold, within
from node.broker.lookup import EVERY_CODEC, Reader
from node.broker.replica import LeaderReplica
from node.config import KAFKA
from node.kafka import batch as kafka
from node.kafka import convert
from node.kafka.addresses import Reach
from node.kafka.codec import Encoded, write_parts
from node.kafka.convert import Converted
from node.kafka.fetch import Fetched, FetchRequest, FetchResponse, PartitionToFetch, TopicToFetch
from node.kafka.messages.find_coordinator import FindCoordinatorRequest
from node.kafka.messages.init_producer_id import InitProducerIdRequest
from node.kafka.messages.list_offsets import ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic
from node.kafka.messages.metadata import MetadataRequest, MetadataRequestTopic
from node.kafka.messages.offset_for_leader_epoch import (
    OffsetForLeaderEpochRequest,
    OffsetForLeaderPartition,
    OffsetForLeaderTopic,
)
from node.kafka.produce import Produced, ProduceRequest, ProduceResponse, TopicBatches
from node.kafka.wire import NO_ID, Message
from ottla.internal.v1.view_pb2 import RecordBatchView
from ottla.protocol.batch import BatchHeader
from ottla.protocol.errors import ApiError
from ottla.protocol.kafka_codecs import unfold
from ottla.protocol.kafka_records import to_kafka, to_ottla
from ottla.v1.record_pb2 import Header, Record, Records
from tests.node.broker.test_lookup import stored
from tests.node.services.planes import Planes

PRODUCE, FETCH, LIST_OFFSETS, METADATA, FIND_COORDINATOR, INIT_PRODUCER_ID = 0, 1, 2, 3, 10, 22
OFFSET_FOR_LEADER_EPOCH = 23
NOW = 1_700_000_000_000
RECORDS = Records(
    records=[
        Record(key=b"a", value=b"1" * 100, headers=[Header(key="h", value=b"x"), Header(key="none")]),
        Record(value=b"", timestamp_delta=7),
        Record(key=b"c", timestamp_delta=-3),
    ]
)


@dataclass
class Asked:
    """A call without a connection: what is answered, and what the connection is told."""

    version: int
    client_id: str = "test"
    answered: "asyncio.Future[Message | None]" = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    refused: list[str] = field(default_factory=list)
    held: int = 0
    on_close: Callable[[], object] | None = None
    on_sent: Callable[[], None] | None = None

    @property
    def connection(self) -> Any:
        peer, reach = ("127.0.0.1", 4711), Reach(KAFKA)
        refuse = lambda why, client: self.refused.append(why)  # noqa: E731
        return SimpleNamespace(peer=peer, reach=reach, refuse=refuse, bug=self._bug)

    def _bug(self, call: Any, error: Exception) -> None:
        self.answered.set_exception(error)

    def answer(self, message: Message) -> None:
        self.answered.set_result(message)
        if self.on_sent is not None:
            self.on_sent()

    def no_answer(self) -> None:
        self.answered.set_result(None)

    def when_first(self, begin: Callable[[], None]) -> None:
        begin()

    def hold(self) -> None:
        self.held += 1

    def release(self) -> None:
        self.held -= 1


class World:
    def __init__(self, planes: Planes) -> None:
        self.planes = planes
        self.plane = planes[1]
        self.service = self.plane._kafka_service()  # as the first client would have it made

    def begin(self, key: int, version: int, message: Message) -> Asked:
        handler = self.service.registry.find(key, version)
        assert handler is not None
        call = Asked(version)
        answer = handler(message, call)  # type: ignore[arg-type]
        if answer is not None:
            call.answer(answer)
        return call

    async def ask(self, key: int, version: int, message: Message) -> Any:
        return await asyncio.wait_for(self.begin(key, version, message).answered, 10)

    async def produce(self, data: bytes | None, topic: str = "t", version: int = 9, **fields: Any) -> Produced:
        answer = await self.ask(PRODUCE, version, produce_request(data, topic, **fields))
        assert isinstance(answer, ProduceResponse)
        return answer.topics[0].partitions[0]

    async def fetch(self, offset: int = 0, version: int = 12, **fields: Any) -> Fetched:
        answer = await self.ask(FETCH, version, fetch_request(offset, **fields))
        assert isinstance(answer, FetchResponse)
        return answer.topics[0].partitions[0]

    def stored(self, topic_id: bytes, offset: int = 0) -> bytes:
        return self.plane.broker.read(
            topic_id, 0, offset, 1 << 20, min_one=True, reader=Reader(EVERY_CODEC, 1 << 20)
        ).data


@pytest.fixture(params=[1, 6], ids=["converted", "kept"])
async def world(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[World]:
    """At a level at which batches are converted when they come in, and at one at which they are stored as they come."""
    if request.param == 6:
        monkeypatch.setattr("node.kafka.handlers.produce.KAFKA_METADATA_VERSION", 1)
    async with Planes(tmp_path, 1, kafka=True) as planes:
        yield World(planes)


def kafka_batch(records: Records = RECORDS, codec: int = 0, **fields: Any) -> bytes:
    plain, count = to_kafka(records.SerializeToString())
    head = kafka.KafkaBatch(0, 0, -1, 2, 0, codec, count - 1, NOW, NOW + 7, -1, -1, -1, count)
    return kafka.build(head._replace(**fields), fold(codec, plain))


def produce_request(
    data: bytes | None, topic: str = "t", *, acks: int = -1, transactional_id: str | None = None, partition: int = 0
) -> ProduceRequest:
    view = None if data is None else memoryview(data)
    return ProduceRequest(transactional_id, acks, 5000, [TopicBatches(topic, NO_ID, [(partition, view)])])


def fetch_request(
    offset: int,
    *,
    topic: str = "t",
    topic_id: bytes = NO_ID,
    wait_ms: int = 0,
    min_bytes: int = 1,
    epoch: int = -1,
    fetched_epoch: int = -1,
    most: int = 1 << 20,
) -> FetchRequest:
    request = FetchRequest()
    request.max_wait_ms, request.min_bytes, request.max_bytes = wait_ms, min_bytes, 1 << 20
    part = PartitionToFetch(0, epoch, offset, fetched_epoch, -1, most)
    request.topics = [TopicToFetch(topic, topic_id, [part])]
    return request


def records_in(found: Fetched) -> list[tuple[kafka.KafkaBatch, Records]]:
    def plain(codec: int, payload: Any) -> memoryview:
        from node.broker import codecs

        return codecs.decompress(codec, payload)

    data = b"".join(found.records)
    batches = []
    for each in kafka.batches_in(data):
        head = (
            kafka.admit(each, 1 << 20, 9)
            if each[22] & ~7 == 0
            else kafka.KafkaBatch._make(kafka.HEADER.unpack_from(each))
        )
        unfolded = unfold(head.codec, kafka.records_of(each), plain)
        batches.append((head, Records.FromString(to_ottla(unfolded, head.record_count))))
    return batches


@pytest.mark.parametrize("codec", range(5))
async def test_what_is_produced_is_read_by_both_worlds(world: World, codec: int) -> None:
    topic_id = world.planes.create_topic("t", [1])
    produced = await world.produce(kafka_batch(codec=codec))
    assert produced[:3] == (0, 0, 0)
    assert produced.log_start_offset == 0
    [(head, records)] = records_in(await world.fetch())
    assert records == RECORDS
    assert (head.codec, head.base_timestamp, head.max_timestamp, head.producer_id) == (codec, NOW, NOW + 7, -1)
    stored = world.plane.broker.read(topic_id, 0, 0, 1 << 20, min_one=True).data  # as a client without codecs reads it
    assert RECORDS.SerializeToString() in stored


async def test_below_the_level_no_log_has_a_batch_of_another_kind(world: World, request: pytest.FixtureRequest) -> None:
    """A node that knows no kinds may have to follow it (invariants.md 1, 47)."""
    topic_id = world.planes.create_topic("t", [1])
    await world.produce(kafka_batch())
    partition = world.plane.broker.partition(topic_id, 0)
    assert partition is not None
    assert partition.log.log_end_offset == len(RECORDS.records)
    assert partition.log.mixed == ("kept" in request.node.callspec.id)


@pytest.mark.parametrize("codec", range(5))
async def test_what_grpc_stores_is_read_by_clients_of_kafka(world: World, codec: int) -> None:
    from node.broker import codecs

    topic_id = world.planes.create_topic("t", [1], compression_type=codecs.NAMES[codec])  # type: ignore[index]
    sent = RecordBatchView(base_timestamp=NOW, records=RECORDS.SerializeToString(), producer_id=9, base_sequence=0)
    world.plane.broker.append(topic_id, 0, sent, acks=-1, current_leader_epoch=None, now_ms=NOW)
    [(head, records)] = records_in(await world.fetch())
    assert records == RECORDS
    assert head.codec == codec
    assert (head.producer_id, head.producer_epoch, head.base_sequence) == (9, 0, 0)


async def test_times_of_the_log_are_marked_as_such(world: World) -> None:
    world.planes.create_topic("t", [1], message_timestamp_type="LogAppendTime")
    produced = await world.produce(kafka_batch())
    found = await world.fetch()
    head = kafka.KafkaBatch._make(kafka.HEADER.unpack_from(b"".join(found.records)))
    assert head.attributes & kafka.LOG_APPEND_TIME
    assert head.max_timestamp == produced.log_append_time_ms > NOW


async def test_a_batch_that_is_sent_twice_is_stored_once(world: World) -> None:
    world.planes.create_topic("t", [1])
    first = kafka_batch(producer_id=5, producer_epoch=0, base_sequence=0)
    second = kafka_batch(producer_id=5, producer_epoch=0, base_sequence=3)
    assert (await world.produce(first)).base_offset == 0
    assert (await world.produce(second)).base_offset == 3
    assert (await world.produce(first))[:3] == (0, 0, 0)
    gap = await world.produce(kafka_batch(producer_id=5, producer_epoch=0, base_sequence=9))
    assert (gap.error_code, gap.log_start_offset) == (45, 0)
    old = await world.produce(kafka_batch(producer_id=5, producer_epoch=1, base_sequence=0))
    assert old[:3] == (0, 0, 6)
    assert (await world.produce(second)).error_code == 47


@pytest.mark.parametrize(
    ("data", "fields", "code", "says"),
    [
        (kafka_batch(), {"topic": "missing"}, 3, "no topic 'missing'"),
        (kafka_batch(), {"partition": 7}, 3, "partitions 0 to 0, not 7"),
        (kafka_batch(), {"topic": "inside"}, 17, "only the cluster writes to it"),
        (kafka_batch(), {"acks": 2}, 21, "none of 0, 1 and -1"),
        (kafka_batch(), {"transactional_id": "x"}, 53, "transactions are not served"),
        (kafka_batch(), {"version": 2}, 35, "version 2"),
        (None, {}, 87, "no batch is given"),
        (kafka_batch()[:-1] + b"!", {}, 2, "checksum"),
        (kafka_batch()[:50], {}, 2, "header alone"),
        (kafka_batch() + kafka_batch(), {}, 87, "more than one batch"),
        (kafka_batch(Records(records=[Record(value=b"v" * 5000)])), {"topic": "small"}, 10, "max.message.bytes"),
        (kafka_batch(Records(records=[Record(timestamp_delta=1 << 50)])), {}, 32, "ahead of the leader's clock"),
        (kafka_batch(Records(records=[Record(offset_delta=4)])), {}, 87, "offset_delta"),
        (kafka_batch(codec=4), {"version": 6}, 76, "version 7"),
        (kafka_batch(producer_id=5, producer_epoch=-1, base_sequence=0), {}, 87, "epoch -1"),
        (kafka_batch(producer_id=0, producer_epoch=0, base_sequence=0), {}, 59, "never given"),
    ],
)  # fmt: skip
async def test_what_is_refused(world: World, data: bytes | None, fields: dict[str, Any], code: int, says: str) -> None:
    world.planes.create_topic("t", [1])
    world.planes.create_topic("small", [1], max_message_bytes="1000")
    world.planes.create_topic("inside", [1], internal=True)
    produced = await world.produce(data, **fields)
    assert produced.error_code == code
    assert says in (produced.error_message or "")
    assert (await world.fetch()).high_watermark == 0


@pytest.mark.parametrize("codec", range(5))
async def test_records_that_are_none_are_refused(world: World, codec: int) -> None:
    world.planes.create_topic("t", [1])
    plain, _ = to_kafka(RECORDS.SerializeToString())
    head = kafka.KafkaBatch(0, 0, -1, 2, 0, codec, 2, NOW, NOW, -1, -1, -1, 3)
    for bad in (plain[:-1], plain + b"\0", b"", b"\x01" + plain[1:], bytes(200)):
        produced = await world.produce(kafka.build(head, fold(codec, bad)))
        assert produced.error_code == 87, bad
    if codec:
        assert (await world.produce(kafka.build(head, b"no such frame at all"))).error_code == 87


@pytest.mark.parametrize("version", [12, 13])
async def test_newer_versions_and_topics_by_their_ids(world: World, version: int) -> None:
    topic_id = world.planes.create_topic("t", [1])
    inside = world.planes.create_topic("inside", [1], internal=True)

    async def produce(wanted: bytes, number: int = 0) -> Produced:
        named = TopicBatches("", wanted, [(number, memoryview(kafka_batch()))])
        if version < 13:
            named = named._replace(name={topic_id: "t", inside: "inside"}.get(wanted, "missing"), topic_id=NO_ID)
        answer = await world.ask(PRODUCE, version, ProduceRequest(None, -1, 5000, [named]))
        assert answer.topics[0][:2] == named[:2]
        assert write_parts(PRODUCE, version, answer)
        found: Produced = answer.topics[0].partitions[0]
        return found

    assert (await produce(topic_id))[:3] == (0, 0, 0)
    assert (await produce(topic_id))[:3] == (0, 0, 3)
    unknown = 100 if version == 13 else 3
    assert (await produce(b"?" * 16))[:3] == (0, unknown, -1)
    assert (await produce(NO_ID))[:3] == (0, unknown, -1)
    assert (await produce(topic_id, 7)).error_code == 3
    assert (await produce(inside)).error_code == 17
    read = await world.fetch(version=18, topic="", topic_id=topic_id)
    assert len(records_in(read)) == 2


async def test_a_compacted_topic_names_the_records_without_a_key(world: World) -> None:
    world.planes.create_topic("t", [1], cleanup_policy="compact")
    produced = await world.produce(kafka_batch())
    assert (produced.error_code, produced.record_errors) == (87, [(1, "it has no key")])


async def test_another_leader_is_named(tmp_path: Path) -> None:
    async with Planes(tmp_path, 2, kafka=True) as planes:
        planes.create_topic("t", [2])
        world = World(planes)
        answer = await world.ask(PRODUCE, 10, produce_request(kafka_batch()))
        [produced] = answer.topics[0].partitions
        assert (produced.error_code, produced.current_leader) == (6, (2, 0))
        host, _, port = planes.kafka_address(2).rpartition(":")
        assert [tuple(each[:3]) for each in answer.node_endpoints] == [(2, host, int(port))]
        answer = await world.ask(FETCH, 16, fetch_request(0, topic="", topic_id=b"t".ljust(16, b"_")))
        assert answer.topics[0].partitions[0].error_code == 6
        assert [each.node_id for each in answer.node_endpoints] == [2]


async def test_a_request_without_acks_is_not_answered_and_its_failure_ends_the_connection(world: World) -> None:
    world.planes.create_topic("t", [1])
    call = world.begin(PRODUCE, 9, produce_request(kafka_batch(), acks=0))
    assert await call.answered is None
    assert (await world.fetch()).high_watermark == 3
    call = world.begin(PRODUCE, 9, produce_request(kafka_batch(), "missing", acks=0))
    assert call.refused
    assert not call.answered.done()


async def test_a_heavy_batch_keeps_its_place_before_those_behind_it(world: World) -> None:
    world.planes.create_topic("t", [1])
    many = Records(records=[Record(value=b"v" * 300)] * 5000)
    heavy, light = kafka_batch(many, codec=4), kafka_batch()
    parts: list[tuple[int, memoryview | None]] = [(0, memoryview(heavy)), (0, memoryview(light))]
    call = world.begin(PRODUCE, 9, ProduceRequest(None, -1, 5000, [TopicBatches("t", NO_ID, parts)]))
    assert call.held == 1
    answer: Any = await asyncio.wait_for(call.answered, 10)
    assert [each.base_offset for each in answer.topics[0].partitions] == [0, 5000]
    assert call.held == 0
    assert sum(head.record_count for head, _ in records_in(await world.fetch())) == 5003
    assert world.plane._in_flight.used_bytes == 0


async def test_the_batch_that_holds_the_offset_is_read(world: World) -> None:
    world.planes.create_topic("t", [1])
    await world.produce(kafka_batch())
    await world.produce(kafka_batch())
    for offset, first in ((0, 0), (2, 0), (3, 3), (5, 3)):
        assert records_in(await world.fetch(offset))[0][0].base_offset == first
    assert len(records_in(await world.fetch(0, most=0))) == 1
    end = await world.fetch(6)
    assert (end.error_code, end.high_watermark, list(end.records)) == (0, 6, [])
    beyond = await world.fetch(7)
    assert (beyond.error_code, beyond.high_watermark, beyond.log_start_offset) == (1, 6, 0)
    assert (await world.fetch(-1)).error_code == 1
    assert (await world.fetch(0, epoch=9)).error_code == 75


async def test_a_fetch_waits_for_news_and_no_longer_than_it_said(world: World) -> None:
    world.planes.create_topic("t", [1])
    loop = asyncio.get_running_loop()
    began = loop.time()
    assert list((await world.fetch(0, wait_ms=100)).records) == []
    assert loop.time() - began > 0.09
    call = world.begin(FETCH, 12, fetch_request(0, wait_ms=8000))
    await asyncio.sleep(0.02)
    assert not call.answered.done()
    await world.produce(kafka_batch())
    answer: Any = await asyncio.wait_for(call.answered, 5)
    assert answer.topics[0].partitions[0].high_watermark == 3
    assert world.plane._in_flight.used_bytes == 0


async def test_what_cannot_be_read_is_said_at_once(world: World) -> None:
    world.planes.create_topic("t", [1])
    assert (await world.fetch(0, topic="missing", wait_ms=8000)).error_code == 3
    assert (await world.fetch(0, version=13, topic_id=b"?" * 16, wait_ms=8000)).error_code == 100
    request = fetch_request(0)
    request.session_id, request.session_epoch = 7, 3
    answer = await world.ask(FETCH, 12, request)
    assert (answer.error_code, answer.topics) == (70, [])


async def test_offsets_of_ends_and_times(world: World) -> None:
    world.planes.create_topic("t", [1])
    await world.produce(kafka_batch())

    async def at(timestamp: int, version: int = 7) -> tuple[int, int, int]:
        part = ListOffsetsPartition(timestamp=timestamp)
        request = ListOffsetsRequest(topics=[ListOffsetsTopic(name="t", partitions=[part])])
        [found] = (await world.ask(LIST_OFFSETS, version, request)).topics[0].partitions
        return found.error_code, found.offset, found.timestamp

    assert await at(-1) == (0, 3, -1)
    assert await at(-2) == (0, 0, -1)
    assert await at(-3) == (0, 1, NOW + 7)
    assert await at(-3, 6) == (35, -1, -1)
    assert await at(-4, 8) == (0, 0, -1)
    assert await at(-5, 8) == (35, -1, -1)
    assert await at(-5, 9) == (0, -1, -1)
    assert await at(-6, 10) == (35, -1, -1)
    assert await at(-6, 11) == (0, -1, -1)
    assert await at(-7, 11) == (35, -1, -1)
    assert await at(-1, 11) == (0, 3, -1)
    assert await at(NOW + 1) == (0, 1, NOW + 7)
    assert await at(NOW + 8) == (0, -1, -1)


async def test_where_an_epoch_ends(world: World) -> None:
    topic_id = world.planes.create_topic("t", [1])
    await world.produce(kafka_batch())

    async def end(epoch: int, current: int = -1, number: int = 0) -> tuple[int, int, int]:
        part = OffsetForLeaderPartition(number, current, epoch)
        request = OffsetForLeaderEpochRequest(topics=[OffsetForLeaderTopic("t", [part])])
        [found] = (await world.ask(OFFSET_FOR_LEADER_EPOCH, 4, request)).topics[0].partitions
        assert found.partition == number
        return found.error_code, found.leader_epoch, found.end_offset

    assert await end(0) == (0, 0, 3)
    world.planes.lead(topic_id, 0, 1)
    await world.produce(kafka_batch())
    assert await end(0) == (0, 0, 3)
    assert await end(1, current=1) == (0, 1, 6)
    assert (await end(0, current=0))[0] == 74
    assert (await end(0, current=9))[0] == 75
    assert (await end(0, number=7))[0] == 3


async def test_a_bug_in_one_partition_fails_no_other(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.planes.create_topic("t", [1, 1])
    found = OffsetsApi.epoch_end

    def breaks(api: OffsetsApi, topic_id: bytes, number: int, *rest: Any) -> Any:
        return 1 // 0 if number == 0 else found(api, topic_id, number, *rest)

    monkeypatch.setattr(OffsetsApi, "epoch_end", breaks)
    parts = [OffsetForLeaderPartition(number, -1, 0) for number in (0, 1)]
    request = OffsetForLeaderEpochRequest(topics=[OffsetForLeaderTopic("t", parts)])
    [topic] = (await world.ask(OFFSET_FOR_LEADER_EPOCH, 4, request)).topics
    assert [(each.partition, each.error_code) for each in topic.partitions] == [(0, -1), (1, 0)]


async def test_metadata_names_nodes_topics_and_what_is_wrong(world: World) -> None:
    from node.kafka.codec import codec

    topic_id = world.planes.create_topic("t", [1, -1])

    async def ask(names: list[str] | None, version: int = 12) -> bytes:
        topics = None if names is None else [MetadataRequestTopic(name=name) for name in names]
        answer = await world.ask(METADATA, version, MetadataRequest(topics=topics))
        assert isinstance(answer, Encoded)
        return b"".join(answer.body)

    assert codec(METADATA)
    everything = await ask(None)
    assert topic_id in everything
    assert str(int(world.planes.kafka_address(1).rpartition(":")[2])).encode() not in everything
    assert int(world.planes.kafka_address(1).rpartition(":")[2]).to_bytes(4, "big") in everything
    assert topic_id not in await ask([])
    assert await ask(["t"], 13) == (await ask(["t"], 12))[:-1] + b"\0\0\0", "version 13 has an error of the whole"
    assert b"\x00\x03\x08missing" in await ask(["missing"])
    assert b"\x00\x11\x05a/ b" in await ask(["a/ b"])


async def test_transactions_are_refused_at_once(world: World) -> None:
    answer = await world.ask(FIND_COORDINATOR, 2, FindCoordinatorRequest(key="x", key_type=1))
    assert answer.error_code == 53
    answer = await world.ask(FIND_COORDINATOR, 4, FindCoordinatorRequest(coordinator_keys=["x", ""], key_type=1))
    assert [each.error_code for each in answer.coordinators] == [53, 53]
    answer = await world.ask(FIND_COORDINATOR, 6, FindCoordinatorRequest(coordinator_keys=["g:t:0"], key_type=2))
    assert [each.error_code for each in answer.coordinators] == [42], "of shares there are none"
    answer = await world.ask(INIT_PRODUCER_ID, 4, InitProducerIdRequest(transactional_id="x"))
    assert (answer.error_code, answer.producer_id) == (53, -1)
    for half in ({"producer_id": 7}, {"producer_epoch": 3}):
        answer = await world.ask(INIT_PRODUCER_ID, 4, InitProducerIdRequest(transactional_id=None, **half))
        assert (answer.error_code, answer.producer_id) == (42, -1), "an id and its epoch come together"


def test_only_what_is_served_is_advertised(world: World) -> None:
    served = {each.api_key: (each.min_version, each.max_version) for each in world.service.registry.advertised()}
    assert served[PRODUCE] == (0, 13)
    assert served[FETCH] == (4, 18)
    assert not served.keys() & {24, 25, 26, 28, 71, 72}


def test_converted_batches_are_kept_within_their_bound() -> None:
    kept = Converted(100)
    headers = [BatchHeader(offset, 0, 1, 0) for offset in range(3)]
    for header in headers:
        kept.put(b"t", 0, header, bytes(40))
    assert [kept.get(b"t", 0, header) is None for header in headers] == [True, False, False]
    kept.put(b"t", 0, headers[0], bytes(101))
    assert kept.get(b"t", 0, headers[0]) is None
    assert kept.held_bytes == 80


async def test_a_mark_that_is_withheld_is_told_by_no_answer(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor by a refusal, as of a leader that does not know of its successor: librdkafka takes it from there, too."""
    world.planes.create_topic("t", [1])
    await world.produce(kafka_batch())
    monkeypatch.setattr(LeaderReplica, "high_watermark_known", False)
    found = await world.fetch()
    assert (found.error_code, found.high_watermark, found.last_stable_offset, found.log_start_offset) == (0, -1, -1, 0)
    assert found.records
    found = await world.fetch(3)
    assert (found.error_code, found.high_watermark, found.log_start_offset) == (78, -1, -1)
    monkeypatch.undo()
    found = await world.fetch(0, epoch=9)
    assert (found.error_code, found.high_watermark, found.log_start_offset) == (75, -1, -1)


def test_a_conversion_is_of_one_batch() -> None:
    """Another epoch, or compaction, may put another batch at its offset."""
    kept = Converted(100)
    header = BatchHeader(7, 1, 2, 1, payload_crc=5)
    kept.put(b"t", 0, header, b"made")
    assert kept.get(b"t", 0, header._replace()) == b"made"
    for other in ({"leader_epoch": 2}, {"record_count": 1}, {"payload_crc": 6}, {"attributes": 4}):
        assert kept.get(b"t", 0, header._replace(**other)) is None
    assert kept.get(b"t", 1, header) is None
    assert kept.get(b"u", 0, header) is None


def test_what_is_much_is_converted_in_a_thread() -> None:
    """Few records may be much work, and so may few bytes: what counts is what they unfold to."""
    for codec in (0, 1, 4):
        data = stored([Record(value=bytes(1 << 21))], codec=codec)
        [batch] = convert.batches_of(data)
        with pytest.raises(Heavy):
            convert.to_client(data, batch, OnLoop())
        little = stored([Record(value=b"v")], codec=codec)
        [batch] = convert.batches_of(little)
        assert convert.to_client(little, batch, OnLoop()) == convert.to_client(little, batch)


def test_snappy_in_blocks_that_lie_is_refused() -> None:
    good = fold(2, b"x" * 100_000)

    def plain(codec: int, payload: Any) -> memoryview:
        from node.broker import codecs

        return codecs.decompress(codec, payload)

    assert unfold(2, good, plain) == b"x" * 100_000
    for bad in (good[:-1], good[:18], good[:16] + b"\xff\xff\xff\xff" + good[20:]):
        with pytest.raises(ApiError):
            unfold(2, bad, plain)


def test_more_blocks_than_the_loop_has_time_for_are_for_a_thread() -> None:
    head, block = fold(2, b"")[:16], fold(2, b"x")[16:]
    assert unfold(2, head + block * 1000, within(OnLoop())) == b"x" * 1000
    with pytest.raises(Heavy):
        unfold(2, head + block * 1001, within(OnLoop()))
    assert unfold(2, head + block * 1001, within(None)) == b"x" * 1001
    room = OnLoop()
    for _ in range(9):
        unfold(2, head + block * 900, within(room))
    with pytest.raises(Heavy):  # of one request, whatever batches they are in
        unfold(2, head + block * 900, within(room))
    with pytest.raises(ApiError, match="blocks of snappy; make larger ones"):
        unfold(2, head + block * 100_000, within(None))
