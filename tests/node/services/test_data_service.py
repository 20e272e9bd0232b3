"""DataService over real planes: every node serves every partition, order, long polls, credit."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from node import limits
from node.services.produce import Producing
from ottla.v1 import admin_pb2, admin_pb2_grpc, cluster_pb2, cluster_pb2_grpc, data_pb2, data_pb2_grpc, record_pb2
from ottla.v1 import error_pb2 as pb
from tests.node.services.planes import Planes


@pytest.fixture
async def planes(tmp_path: Path) -> AsyncIterator[Planes]:
    async with Planes(tmp_path) as made:
        yield made


def batch(*values: bytes, **fields: int) -> record_pb2.RecordBatch:
    return record_pb2.RecordBatch(
        records=record_pb2.Records(records=[record_pb2.Record(value=value) for value in values]), **fields
    )


def values_of(result: data_pb2.FetchResult) -> list[bytes]:
    return [record.value for stored in result.batches for record in stored.records.records]


async def produce(planes: Planes, via: int, topic: str, number: int, *values: bytes) -> data_pb2.ProduceResult:
    async with planes.channel(via) as channel:
        part = data_pb2.ProducePartition(topic=topic, partition=number, batch=batch(*values))
        request = data_pb2.ProduceRequest(partitions=[part], timeout_ms=3000)
        return (await data_pb2_grpc.DataServiceStub(channel).Produce(request, timeout=5)).partitions[0]


async def fetch(planes: Planes, via: int, topic: str, *numbers: int, **fields: int) -> data_pb2.FetchResponse:
    async with planes.channel(via) as channel:
        wanted = [data_pb2.FetchPartition(topic=topic, partition=number) for number in numbers]
        request = data_pb2.FetchRequest(partitions=wanted, **fields)
        return await data_pb2_grpc.DataServiceStub(channel).Fetch(request, timeout=10)


@pytest.mark.parametrize("via", [1, 2, 3])
async def test_any_node_appends_to_and_reads_from_any_leader(planes: Planes, via: int) -> None:
    planes.create_topic("t", [1, 2, 3])
    for number in range(3):
        result = await produce(planes, via, "t", number, b"a", b"b")
        assert not result.HasField("error"), result.error
        assert (result.topic, result.partition, result.base_offset) == ("t", number, 0)
        assert result.receipt.replicas_holding >= 2
    answer = await fetch(planes, via, "t", 0, 1, 2)
    assert {part.partition: values_of(part) for part in answer.partitions} == {n: [b"a", b"b"] for n in range(3)}
    assert {part.next_offset for part in answer.partitions} == {2}


@pytest.mark.parametrize("large_bytes", [1, 2**20])
async def test_one_bad_partition_fails_no_other(
    planes: Planes, large_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the batches are forgotten as soon as they are in the log or on their way."""
    monkeypatch.setattr(limits, "RECEIVING_LARGE_BYTES", large_bytes)
    forgotten: list[Producing] = []
    forget = Producing.forget_batches
    monkeypatch.setattr(Producing, "forget_batches", lambda running: (forget(running), forgotten.append(running)))
    planes.create_topic("t", [1, -1, 3])
    async with planes.channel(2) as channel:
        parts = [data_pb2.ProducePartition(topic="t", partition=n, batch=batch(b"x")) for n in (0, 1, 2, 3)]
        stub = data_pb2_grpc.DataServiceStub(channel)
        answer = await stub.Produce(data_pb2.ProduceRequest(request_id=9, partitions=parts), timeout=5)
    assert answer.request_id == 9
    assert [part.error.code for part in answer.partitions] == [
        0,
        pb.ERROR_CODE_LEADER_NOT_AVAILABLE,
        0,
        pb.ERROR_CODE_UNKNOWN_TOPIC_OR_PARTITION,
    ]
    assert answer.partitions[1].error.retriable
    assert [(part.topic, part.partition) for part in answer.partitions] == [("t", n) for n in range(4)]
    assert bool(forgotten) is (large_bytes == 1)
    assert not any(part.HasField("batch") for running in forgotten for part in running.request.partitions)


@pytest.mark.parametrize("name", ["\x1b[31m", "a\nb", "x" * 256])
async def test_a_client_s_name_that_could_steer_a_terminal_is_refused(planes: Planes, name: str) -> None:
    planes.create_topic("t", [1])
    part = data_pb2.ProducePartition(topic="t", batch=batch(b"x"))
    record = data_pb2.SendRecord(value=b"x")
    where = data_pb2.FetchPartition(topic="t", partition=0, offset=0)
    async with planes.channel(2) as channel:
        stub = data_pb2_grpc.DataServiceStub(channel)
        produced = await stub.Produce(data_pb2.ProduceRequest(client_id=name, partitions=[part]), timeout=5)
        sent = await stub.Send(data_pb2.SendRequest(client_id=name, topic="t", records=[record]), timeout=5)
        for error in (produced.partitions[0].error, sent.results[0].error):
            assert error.code == pb.ERROR_CODE_INVALID_REQUEST
            assert "client_id" in error.message
            assert error.message.isprintable()
        with pytest.raises(grpc.RpcError, match="client_id"):
            await stub.Fetch(data_pb2.FetchRequest(client_id=name, partitions=[where]), timeout=5)
        fine = await stub.Produce(data_pb2.ProduceRequest(client_id="é 1", partitions=[part]), timeout=5)
        assert fine.partitions[0].base_offset == 0


async def test_a_forwarded_call_takes_no_second_hop(planes: Planes) -> None:
    planes.create_topic("t", [1])
    async with planes.channel(2, "replication") as channel:
        part = data_pb2.ProducePartition(topic="t", batch=batch(b"x"))
        stub = data_pb2_grpc.DataServiceStub(channel)
        result = (await stub.Produce(data_pb2.ProduceRequest(partitions=[part]), timeout=5)).partitions[0]
    assert result.error.code == pb.ERROR_CODE_NOT_LEADER_OR_FOLLOWER
    assert result.error.leader == 1
    assert result.error.address == planes.image.brokers[1].client_address


async def test_acks_0_answers_without_results(planes: Planes) -> None:
    planes.create_topic("t", [1, 2])
    async with planes.channel(1) as channel:
        parts = [data_pb2.ProducePartition(topic="t", partition=n, batch=batch(b"x")) for n in (0, 1)]
        stub = data_pb2_grpc.DataServiceStub(channel)
        answer = await stub.Produce(data_pb2.ProduceRequest(acks=0, partitions=parts), timeout=5)
        assert not answer.partitions
    answer = await fetch(planes, 1, "t", 0, 1, min_bytes=200, max_wait_ms=2000)
    assert [values_of(part) for part in answer.partitions] == [[b"x"], [b"x"]]


async def test_internal_topics_take_no_writes_of_clients(planes: Planes) -> None:
    planes.create_topic("__inside", [1], internal=True)
    result = await produce(planes, 1, "__inside", 0, b"x")
    assert result.error.code == pb.ERROR_CODE_INVALID_TOPIC_EXCEPTION


async def test_a_long_poll_ends_with_the_first_commit_here_or_elsewhere(planes: Planes) -> None:
    for number in (0, 1):
        planes.create_topic(f"t{number}", [1, 2])
        waiting = asyncio.create_task(fetch(planes, 1, f"t{number}", 0, 1, max_wait_ms=5000))
        await asyncio.sleep(0.2)
        started = time.monotonic()
        await produce(planes, 3, f"t{number}", number, b"x")
        answer = await waiting
        assert time.monotonic() - started < 4
        assert values_of(next(part for part in answer.partitions if part.partition == number)) == [b"x"]


async def test_an_empty_long_poll_lasts_as_long_as_asked(planes: Planes) -> None:
    planes.create_topic("t", [1, 2])
    started = time.monotonic()
    answer = await fetch(planes, 1, "t", 0, 1, max_wait_ms=300)
    assert 0.28 < time.monotonic() - started < 5
    assert [len(part.batches) for part in answer.partitions] == [0, 0]
    assert sorted(part.partition for part in answer.partitions) == [0, 1]


@pytest.mark.parametrize("via", [1, 2])
async def test_a_stream_is_appended_in_order(planes: Planes, via: int) -> None:
    planes.create_topic("t", [1])
    async with planes.channel(via) as channel:
        call = data_pb2_grpc.DataServiceStub(channel).ProduceStream()
        for number in range(500):
            part = data_pb2.ProducePartition(topic="t", batch=batch(str(number).encode()))
            await call.write(data_pb2.ProduceRequest(request_id=number, partitions=[part]))
        await call.done_writing()
        offsets = {}
        messages = 0
        async for message in call:
            messages += 1
            for response in message.responses:
                assert not response.partitions[0].HasField("error")
                offsets[response.request_id] = response.partitions[0].base_offset
    assert offsets == {number: number for number in range(500)}
    assert messages < 500, "answers are to be coalesced"


@pytest.mark.parametrize("via", [1, 2])
async def test_a_large_request_of_a_stream_waits_for_room_at_the_door_and_at_the_leader(
    planes: Planes, via: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "LARGE_BYTES", 1)
    planes.create_topic("t", [1])
    door, leader = planes[via]._in_flight.large, planes[1]._in_flight.large_passed_on
    rooms = [door] if via == 1 else [door, leader]
    for room in rooms:
        assert room.enter(room.limit_bytes, lambda: None)
    async with planes.channel(via) as channel:
        call = data_pb2_grpc.DataServiceStub(channel).ProduceStream()
        part = data_pb2.ProducePartition(topic="t", partition=0, batch=batch(b"x"))
        await call.write(data_pb2.ProduceRequest(request_id=7, partitions=[part], timeout_ms=3000))
        answered = asyncio.ensure_future(call.read())
        for room in rooms:
            async with asyncio.timeout(10):
                while not room.crowded:  # noqa: ASYNC110 - nothing tells of it
                    await asyncio.sleep(0.01)
            assert not answered.done()
            room.leave(room.limit_bytes)
        answer = await asyncio.wait_for(answered, 10)
        assert [(each.request_id, each.partitions[0].error.code) for each in answer.responses] == [(7, 0)]
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
    assert [room.used_bytes for room in (door, leader)] == [0, 0]


async def test_after_a_failed_batch_a_stream_without_producer_id_appends_nothing_more(planes: Planes) -> None:
    topic_id = planes.create_topic("t", [1])
    async with planes.channel(2) as channel:
        call = data_pb2_grpc.DataServiceStub(channel).ProduceStream()

        async def send(number: int) -> data_pb2.ProduceResult:
            part = data_pb2.ProducePartition(topic="t", batch=batch(str(number).encode()))
            await call.write(data_pb2.ProduceRequest(request_id=number, partitions=[part]))
            message = await call.read()
            assert isinstance(message, data_pb2.ProduceStreamResponse)
            return message.responses[0].partitions[0]

        assert not (await send(0)).HasField("error")
        # Node 2 is left behind: it still believes in leader 1, which refuses.
        planes.lead(topic_id, 0, 3, only=(1, 3))
        assert (await send(1)).error.code == pb.ERROR_CODE_NOT_LEADER_OR_FOLLOWER
        planes[2].apply_metadata(planes.image, planes.delta)
        later = await send(2)
        assert later.error.code == pb.ERROR_CODE_NOT_LEADER_OR_FOLLOWER
        assert "new stream" in later.error.message
    # A new leader shows what is in its log once its followers have reached it: that may take them a moment.
    async with asyncio.timeout(5):
        while (  # noqa: ASYNC110
            found := (await fetch(planes, 3, "t", 0)).partitions[0]
        ).error.code == pb.ERROR_CODE_OFFSET_NOT_AVAILABLE:
            await asyncio.sleep(0.02)
    assert values_of(found) == [b"0"], found


async def test_a_fetch_stream_sends_no_more_than_its_credit_and_one_batch(planes: Planes) -> None:
    planes.create_topic("t", [1, 2])
    for number in range(40):
        await produce(planes, 1, "t", number % 2, b"x" * 10_000)
    async with planes.channel(1) as channel:
        call = data_pb2_grpc.DataServiceStub(channel).FetchStream()
        positions = [data_pb2.FetchPartition(topic="t", partition=n) for n in (0, 1)]
        await call.write(data_pb2.FetchStreamRequest(add=positions, credit_bytes=50_000))
        received = 0
        counts = {0: 0, 1: 0}
        granted = 50_000

        async def take(timeout_s: float) -> bool:
            nonlocal received
            try:
                async with asyncio.timeout(timeout_s):
                    message = await call.read()
            except TimeoutError:
                return False
            assert isinstance(message, data_pb2.FetchResponse)
            for part in message.partitions:
                assert not part.HasField("error")
                counts[part.partition] += len(values_of(part))
                received += sum(stored.ByteSize() for stored in part.batches)
            return True

        while received < granted:
            assert await take(3)
        assert received <= granted + 11_000
        # A cancelled read would end the call: look at what came from the outside.
        for _ in range(20):
            if sum(counts.values()) == 40:
                break
            await call.write(data_pb2.FetchStreamRequest(credit_bytes=100_000))
            granted += 100_000
            assert await take(3)
        assert counts == {0: 20, 1: 20}
        await call.done_writing()


async def test_a_seek_drops_what_was_read_for_the_old_position(planes: Planes) -> None:
    planes.create_topic("t", [1])
    for number in range(3):
        await produce(planes, 1, "t", 0, str(number).encode())
    async with planes.channel(1) as channel:
        call = data_pb2_grpc.DataServiceStub(channel).FetchStream()
        first = data_pb2.FetchPartition(topic="t", offset=0, seek_id=1)
        await call.write(data_pb2.FetchStreamRequest(add=[first], credit_bytes=1 << 20))
        message = await call.read()
        assert isinstance(message, data_pb2.FetchResponse)
        assert (message.partitions[0].seek_id, values_of(message.partitions[0])) == (1, [b"0", b"1", b"2"])
        again = data_pb2.FetchPartition(topic="t", offset=2, seek_id=2)
        await call.write(data_pb2.FetchStreamRequest(add=[again]))
        message = await call.read()
        assert isinstance(message, data_pb2.FetchResponse)
        assert (message.partitions[0].seek_id, values_of(message.partitions[0])) == (2, [b"2"])
        await call.done_writing()


async def test_a_fetch_stream_follows_a_partition_to_its_next_leader(planes: Planes) -> None:
    topic_id = planes.create_topic("t", [2])
    await produce(planes, 1, "t", 0, b"0")
    async with planes.channel(1) as channel:
        call = data_pb2_grpc.DataServiceStub(channel).FetchStream()
        await call.write(
            data_pb2.FetchStreamRequest(add=[data_pb2.FetchPartition(topic="t")], credit_bytes=1 << 20, max_wait_ms=50)
        )
        got: list[bytes] = []
        errors: list[int] = []

        async def until(count: int) -> None:
            async with asyncio.timeout(5):
                while len(got) < count:
                    message = await call.read()
                    assert isinstance(message, data_pb2.FetchResponse)
                    for part in message.partitions:
                        got.extend(values_of(part))
                        errors.append(part.error.code)

        await until(1)
        for number, leader in enumerate((3, 1, 2), 1):
            planes.lead(topic_id, 0, leader)
            result = await produce(planes, 2, "t", 0, str(number).encode())
            assert not result.HasField("error"), result.error
            await until(number + 1)
        await call.done_writing()
    assert got == [b"0", b"1", b"2", b"3"]


async def test_metadata_and_its_watch(planes: Planes) -> None:
    planes.create_topic("t", [1, 2])
    async with planes.channel(3) as channel:
        stub = cluster_pb2_grpc.ClusterServiceStub(channel)
        metadata = await stub.GetMetadata(cluster_pb2.GetMetadataRequest(topics=["t", "tt"]), timeout=5)
        assert [p.leader_id for p in metadata.topics[0].partitions] == [1, 2]
        assert metadata.topics[1].error.code == pb.ERROR_CODE_UNKNOWN_TOPIC_OR_PARTITION
        assert metadata.controller_id == 1
        watch = stub.WatchMetadata(cluster_pb2.GetMetadataRequest())
        event = await watch.read()
        assert isinstance(event, cluster_pb2.MetadataEvent)
        assert [topic.name for topic in event.metadata.topics] == ["t"]
        started = time.monotonic()
        tick = await watch.read()
        assert isinstance(tick, cluster_pb2.MetadataEvent)
        assert not tick.HasField("metadata")
        assert 0.4 < time.monotonic() - started < 5
        planes.lead(planes.image.names["t"], 1, 3)
        event = await watch.read()
        assert isinstance(event, cluster_pb2.MetadataEvent)
        assert [p.leader_id for p in event.metadata.topics[0].partitions] == [1, 3]
        watch.cancel()


async def test_a_controller_that_is_not_there_is_waited_for_and_then_named(planes: Planes) -> None:
    async with planes.channel(2) as channel:
        stub = admin_pb2_grpc.AdminServiceStub(channel)
        started = time.monotonic()
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await stub.CreateTopics(admin_pb2.CreateTopicsRequest(), timeout=0.6)
        assert 0.3 < time.monotonic() - started < 5
    assert failed.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


async def test_calls_passed_on_to_a_fenced_node_end_at_once(planes: Planes) -> None:
    topic_id = b"stalled-on-node1"
    # Node 3 does not know the topic, so nothing is ever acknowledged by all.
    planes.create_topic("stalled-on-node1", [1], only=(1, 2))
    waiting = asyncio.create_task(produce(planes, 2, "stalled-on-node1", 0, b"x"))
    async with planes.channel(2) as channel:
        call = data_pb2_grpc.DataServiceStub(channel).ProduceStream()
        part = data_pb2.ProducePartition(topic_id=topic_id, batch=batch(b"y"))
        await call.write(data_pb2.ProduceRequest(request_id=1, partitions=[part]))
        await asyncio.sleep(0.3)
        assert not waiting.done()
        started = time.monotonic()
        planes.change(planes.fenced(1, True), only=(2,))
        message = await call.read()
        assert isinstance(message, data_pb2.ProduceStreamResponse)
        streamed = message.responses[0].partitions[0]
        unary = await waiting
        assert time.monotonic() - started < 3
        await call.done_writing()
    for result in (unary, streamed):
        assert result.error.code == pb.ERROR_CODE_NETWORK_EXCEPTION
        assert result.error.retriable


async def test_min_bytes_counts_what_is_there_already(planes: Planes) -> None:
    planes.create_topic("t", [1])
    await produce(planes, 1, "t", 0, b"x" * 600)
    waiting = asyncio.create_task(fetch(planes, 1, "t", 0, min_bytes=1000, max_wait_ms=4000))
    await asyncio.sleep(0.2)
    assert not waiting.done()
    started = time.monotonic()
    await produce(planes, 1, "t", 0, b"x" * 600)
    assert len(values_of((await waiting).partitions[0])) == 2
    assert time.monotonic() - started < 3


async def test_send_splits_what_is_too_large_for_one_batch(planes: Planes) -> None:
    planes.create_topic("t", [2])
    records = [data_pb2.SendRecord(key=b"k", value=str(i).encode() * 1000) for i in range(1200)]
    records.append(data_pb2.SendRecord(value=b"lost", partition=7))
    async with planes.channel(1) as channel:
        stub = data_pb2_grpc.DataServiceStub(channel)
        results = (await stub.Send(data_pb2.SendRequest(topic="t", records=records), timeout=10)).results
    assert [result.offset for result in results[:-1]] == list(range(1200))
    assert results[-1].error.code == pb.ERROR_CODE_UNKNOWN_TOPIC_OR_PARTITION
    assert results[-1].offset == -1


async def test_send_makes_batches_that_the_topic_takes(planes: Planes) -> None:
    planes.create_topic("t", [2], max_message_bytes="1000", message_timestamp_after_max_ms=str(2**63 - 1))
    sizes = [300, 100, 850, 20, 5000, *[1] * 200, 400, 500, 400]
    times = [0, 2**62, 0, 2**62, *[0] * 204]
    records = [
        data_pb2.SendRecord(key=b"k", value=b"x" * size, timestamp_ms=1 + at if number % 2 else None)
        for number, (size, at) in enumerate(zip(sizes, times, strict=True))
    ]
    async with planes.channel(1) as channel:
        stub = data_pb2_grpc.DataServiceStub(channel)
        results = (await stub.Send(data_pb2.SendRequest(topic="t", records=records), timeout=10)).results
    assert results[4].error.code == pb.ERROR_CODE_MESSAGE_TOO_LARGE, "alone it is too large"
    assert [result.offset for result in [*results[:4], *results[5:]]] == list(range(len(sizes) - 1))


async def test_who_never_reads_answers_is_read_no_further(planes: Planes) -> None:
    planes.create_topic("t", [1])
    async with planes.channel(1) as channel:
        call = data_pb2_grpc.DataServiceStub(channel).ProduceStream()
        part = data_pb2.ProducePartition(topic="t", batch=batch(b"x" * 5000), current_leader_epoch=99)
        request = data_pb2.ProduceRequest(partitions=[part])
        sent = 0

        async def send_all() -> None:
            nonlocal sent
            while sent < 50_000:
                async with asyncio.timeout(1.5):
                    await call.write(request)
                sent += 1

        with pytest.raises(TimeoutError):
            await send_all()
        assert sent > 1000
        call.cancel()
    assert not (await produce(planes, 1, "t", 0, b"others")).HasField("error")


async def test_a_reader_that_never_reads_costs_its_credit_and_no_more(planes: Planes) -> None:
    planes.create_topic("t", [1])
    for _ in range(20):
        await produce(planes, 1, "t", 0, b"x" * 500_000)
    before = planes[1].metrics.fetched_bytes._value.get()
    async with planes.channel(1) as channel:
        call = data_pb2_grpc.DataServiceStub(channel).FetchStream()
        position = data_pb2.FetchPartition(topic="t")
        await call.write(data_pb2.FetchStreamRequest(add=[position], credit_bytes=3_000_000))
        await asyncio.sleep(1.0)
        sent = planes[1].metrics.fetched_bytes._value.get() - before
        assert 0 < sent < 3_000_000 + 600_000
        call.cancel()
    assert not (await produce(planes, 1, "t", 0, b"others")).HasField("error")


@pytest.mark.parametrize("via", [1, 2])
async def test_calls_cancelled_at_any_point_leave_the_log_in_order(planes: Planes, via: int) -> None:
    planes.create_topic("t", [1])
    async with planes.channel(via) as channel:
        stub = data_pb2_grpc.DataServiceStub(channel)
        for number in range(60):
            part = data_pb2.ProducePartition(topic="t", batch=batch(str(number).encode()))
            call = stub.Produce(data_pb2.ProduceRequest(partitions=[part]), timeout=5)
            fetching = stub.Fetch(
                data_pb2.FetchRequest(partitions=[data_pb2.FetchPartition(topic="t")], min_bytes=1 << 20), timeout=5
            )
            await asyncio.sleep(number * 0.0002)
            call.cancel()
            fetching.cancel()
    assert not (await produce(planes, via, "t", 0, b"last")).HasField("error")
    values = values_of((await fetch(planes, via, "t", 0)).partitions[0])
    assert values[-1] == b"last"
    numbers = [int(value) for value in values[:-1]]
    assert numbers == sorted(set(numbers))
    assert not planes[1].broker.partition(planes.image.names["t"], 0).readers  # type: ignore[union-attr]
