"""What one request may cost, and all together: budgets, waits, whose turn it is, and what refusals say."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from node import limits
from node.api.in_flight import InFlight
from node.metadata.image import Delta
from node.services import fetch as fetching
from node.services.peers import MARGIN_S, Peers
from ottla.internal.v1 import metadata_pb2 as records
from ottla.protocol.errors import ApiError
from ottla.v1 import admin_pb2, admin_pb2_grpc, cluster_pb2, cluster_pb2_grpc, data_pb2, data_pb2_grpc
from ottla.v1 import error_pb2 as pb
from tests.node.services.planes import CLUSTER_ID, Planes
from tests.node.services.test_data_service import batch, fetch, produce, values_of

STOCK_BYTES = 4 * 2**20


@pytest.fixture
async def planes(tmp_path: Path) -> AsyncIterator[Planes]:
    async with Planes(tmp_path) as made:
        yield made


def data_of(answer: data_pb2.FetchResponse) -> int:
    return sum(stored.ByteSize() for part in answer.partitions for stored in part.batches)


async def test_an_answer_over_several_leaders_has_one_budget_and_brings_everything_in_turn(planes: Planes) -> None:
    """Each leader's part may overdraw by a batch; a stock client takes 4 MiB of the whole."""
    planes.create_topic("t", [1, 2, 3], max_message_bytes=str(8 * 2**20))
    for number in range(3):
        for _ in range(2):
            assert not (await produce(planes, number + 1, "t", number, b"x" * 1_900_000)).HasField("error")
    offsets = dict.fromkeys(range(3), 0)
    async with planes.channel(1) as channel:
        for _ in range(12):
            wanted = [data_pb2.FetchPartition(topic="t", partition=n, offset=at) for n, at in offsets.items()]
            request = data_pb2.FetchRequest(partitions=wanted, max_wait_ms=0)
            answer = await data_pb2_grpc.DataServiceStub(channel).Fetch(request, timeout=10)
            assert answer.ByteSize() < STOCK_BYTES
            offsets |= {part.partition: part.next_offset for part in answer.partitions}
    assert offsets == dict.fromkeys(range(3), 2)


async def test_a_batch_that_a_stock_client_cannot_take_is_an_error_of_its_partition(planes: Planes) -> None:
    planes.create_topic("t", [1, 1], max_message_bytes=str(16 * 2**20))
    assert not (await produce(planes, 1, "t", 0, b"x" * (8 * 2**20))).HasField("error")
    assert not (await produce(planes, 1, "t", 1, b"small")).HasField("error")
    for via in (1, 2):
        refused = (await fetch(planes, via, "t", 0, max_wait_ms=0)).partitions[0]
        assert refused.error.code == pb.ERROR_CODE_MESSAGE_TOO_LARGE
        assert "8388" in refused.error.message
        assert "max_bytes" in refused.error.message
        assert values_of((await fetch(planes, via, "t", 1, max_wait_ms=0)).partitions[0]) == [b"small"]
        taken = (await fetch(planes, via, "t", 0, max_wait_ms=0, max_bytes=1)).partitions[0]
        assert len(values_of(taken)[0]) == 8 * 2**20


async def test_two_readers_in_step_both_see_every_partition(planes: Planes) -> None:
    planes.create_topic("t", [1, 1])
    for number in range(2):
        await produce(planes, 1, "t", number, b"x" * 1000)
    seen: list[set[int]] = [set(), set()]
    for _ in range(40):
        for reader in seen:
            answer = await fetch(planes, 1, "t", 0, 1, max_wait_ms=0, max_bytes=500)
            reader |= {part.partition for part in answer.partitions if part.batches}
    assert seen == [{0, 1}, {0, 1}]


@pytest.mark.parametrize("leaders", [[1], [1, 3]])
async def test_min_bytes_through_another_node_is_waited_for_and_not_asked_for_all_the_time(
    planes: Planes, leaders: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    planes.create_topic("t", leaders)
    for number, leader in enumerate(leaders):
        await produce(planes, leader, "t", number, b"x")
    hops: list[int] = []
    ask = fetching.Fetcher._ask

    async def counted(self: Any, leader: int, wanted: Any, terms: Any) -> Any:
        hops.append(leader)
        return await ask(self, leader, wanted, terms)

    monkeypatch.setattr(fetching.Fetcher, "_ask", counted)
    began = time.monotonic()
    answer = await fetch(planes, 2, "t", *range(len(leaders)), min_bytes=100_000, max_wait_ms=600)
    assert time.monotonic() - began > 0.5
    assert [values_of(part) for part in answer.partitions] == [[b"x"]] * len(leaders)
    assert len(hops) <= 3 * len(leaders)
    waiting = asyncio.ensure_future(
        fetch(planes, 2, "t", *range(len(leaders)), min_bytes=100_000, max_wait_ms=20_000, max_bytes=2**20)
    )
    await asyncio.sleep(0.1)
    await produce(planes, 1, "t", 0, b"y" * 120_000)
    assert data_of(await asyncio.wait_for(waiting, 5)) > 100_000


async def test_out_of_range_says_what_there_is(planes: Planes) -> None:
    planes.create_topic("t", [1])
    await produce(planes, 1, "t", 0, b"a", b"b", b"c")
    async with planes.channel(1) as channel:
        part = admin_pb2.DeleteRecordsPartition(partition=data_pb2.TopicPartition(topic="t"), before_offset=1)
        admin = admin_pb2_grpc.AdminServiceStub(channel)
        tried = await admin.DeleteRecords(admin_pb2.DeleteRecordsRequest(partitions=[part], validate_only=True))
        assert tried.partitions[0].low_watermark == 1
        assert (await fetch(planes, 1, "t", 0, max_wait_ms=0)).partitions[0].log_start_offset == 0
        await admin.DeleteRecords(admin_pb2.DeleteRecordsRequest(partitions=[part]), timeout=10)
    for via in (1, 2):
        async with planes.channel(via) as channel:
            stub = data_pb2_grpc.DataServiceStub(channel)
            wanted = data_pb2.FetchPartition(topic="t", offset=7)
            answer = await stub.Fetch(data_pb2.FetchRequest(partitions=[wanted]), timeout=5)
            stream = stub.FetchStream()
            await stream.write(data_pb2.FetchStreamRequest(add=[wanted], credit_bytes=1000))
            for found in (answer.partitions[0], (await stream.read()).partitions[0]):
                assert found.error.code == pb.ERROR_CODE_OFFSET_OUT_OF_RANGE
                assert (found.log_start_offset, found.high_watermark) == (1, 3)


async def test_records_of_a_compacted_topic_are_not_deleted_by_offset(planes: Planes) -> None:
    planes.create_topic("c", [1], cleanup_policy="compact")
    planes.create_topic("both", [1], cleanup_policy="compact,delete")
    async with planes.channel(2) as channel:
        request = admin_pb2.DeleteRecordsRequest(
            partitions=[
                admin_pb2.DeleteRecordsPartition(partition=data_pb2.TopicPartition(topic=name), before_offset=0)
                for name in ("c", "both")
            ]
        )
        answer = await admin_pb2_grpc.AdminServiceStub(channel).DeleteRecords(request, timeout=10)
    assert [part.error.code for part in answer.partitions] == [pb.ERROR_CODE_POLICY_VIOLATION, 0]


@pytest.mark.parametrize("via", [1, 2])
async def test_partitions_of_a_replica_or_leader_that_says_nothing_cost_the_others_nothing(
    planes: Planes, monkeypatch: pytest.MonkeyPatch, via: int
) -> None:
    """More than are begun in one turn; the first waits for a replica, one for a leader, until the time is over."""
    monkeypatch.setattr(limits, "AT_ONCE", 8)
    count = 2 * limits.AT_ONCE
    planes.create_topic("t", [*[1] * count, 3])
    for number in (0, count - 1):
        for _ in range(100):
            if not (await produce(planes, 1, "t", number, b"a")).HasField("error"):
                break
            await asyncio.sleep(0.1)
    slow = planes[1].broker.partition(planes.image.names["t"], 0)
    assert slow is not None
    assert slow.leader is not None
    slow.leader.isr = slow.leader.isr | {9}
    call = Peers.call

    async def or_nothing(peers: Peers, node_id: int, method: str, request: bytes, timeout_s: float) -> bytes:
        if node_id != 3:
            return await call(peers, node_id, method, request, timeout_s)
        await asyncio.sleep(timeout_s)
        raise ApiError(pb.ERROR_CODE_REQUEST_TIMED_OUT, "it says nothing")

    monkeypatch.setattr(Peers, "call", or_nothing)
    numbers = [count, *range(count)]
    async with planes.channel(via) as channel:
        request = admin_pb2.DeleteRecordsRequest(timeout_ms=2000)
        listed = data_pb2.ListOffsetsRequest(timeout_ms=1000)
        for number in numbers:
            of = data_pb2.TopicPartition(topic="t", partition=number)
            request.partitions.add(partition=of, before_offset=1 if number in (0, count - 1) else -1)
            listed.partitions.add(topic="t", partition=number, timestamp_ms=-1)
        began = time.monotonic()
        deleted = await admin_pb2_grpc.AdminServiceStub(channel).DeleteRecords(request, timeout=20)
        assert time.monotonic() - began < 4
        answer = await data_pb2_grpc.DataServiceStub(channel).ListOffsets(listed, timeout=20)
        assert time.monotonic() - began < 8
    assert [part.partition.partition for part in deleted.partitions] == numbers
    late = pb.ERROR_CODE_REQUEST_TIMED_OUT
    assert [part.error.code for part in deleted.partitions] == [late, late, *[0] * (count - 1)]
    assert deleted.partitions[-1].low_watermark == 1
    assert [part.error.code for part in answer.partitions] == [late, *[0] * count]
    assert answer.partitions[-1].offset == 1


async def test_batches_that_wait_beyond_the_clients_deadline_cost_the_others_no_answer(
    planes: Planes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One hangs at its leader; the time-out is longer than the client's deadline."""
    planes.create_topic("t", [1, 3])

    async def nothing(_peers: Peers, _node: int, _method: str, _request: bytes, timeout_s: float) -> bytes:
        await asyncio.sleep(timeout_s + MARGIN_S)
        raise ApiError(pb.ERROR_CODE_REQUEST_TIMED_OUT, "it says nothing")

    monkeypatch.setattr(Peers, "call", nothing)
    parts = [data_pb2.ProducePartition(topic="t", partition=number, batch=batch(b"b")) for number in (1, 0)]
    async with planes.channel(1) as channel:
        answer = await data_pb2_grpc.DataServiceStub(channel).Produce(
            data_pb2.ProduceRequest(partitions=parts), timeout=2
        )
    told = [(part.partition, part.error.code) for part in answer.partitions]
    assert told == [(1, pb.ERROR_CODE_REQUEST_TIMED_OUT), (0, 0)]


async def test_a_leader_that_says_nothing_costs_readers_of_others_little(
    planes: Planes, monkeypatch: pytest.MonkeyPatch
) -> None:
    planes.create_topic("t", [1, 2, 3])
    for number in range(2):
        assert not (await produce(planes, number + 1, "t", number, b"a")).HasField("error")
    call = Peers.call

    async def or_nothing(peers: Peers, node_id: int, method: str, request: bytes, timeout_s: float) -> bytes:
        if node_id != 3 or method != fetching.FETCH:
            return await call(peers, node_id, method, request, timeout_s)
        await asyncio.sleep(timeout_s)
        raise ApiError(pb.ERROR_CODE_NETWORK_EXCEPTION, "it says nothing")

    monkeypatch.setattr(Peers, "call", or_nothing)
    began = time.monotonic()
    told = {part.partition: part for part in (await fetch(planes, 1, "t", 0, 1, 2)).partitions}
    assert time.monotonic() - began < 4
    assert {number: values_of(part) for number, part in told.items()} == {0: [b"a"], 1: [b"a"], 2: []}
    assert told[2].error.code == pb.ERROR_CODE_REQUEST_TIMED_OUT
    async with planes.channel(1) as channel:
        stream = data_pb2_grpc.DataServiceStub(channel).FetchStream()
        wanted = [data_pb2.FetchPartition(topic="t", partition=number) for number in range(3)]
        await stream.write(data_pb2.FetchStreamRequest(add=wanted, credit_bytes=2**20))
        found: set[int] = set()
        async with asyncio.timeout(4):
            while not {0, 1} <= found:
                found |= {part.partition for part in (await stream.read()).partitions if part.batches}


async def test_list_offsets_answers_when_the_topic_comes_about_and_no_later_than_asked(planes: Planes) -> None:
    async with planes.channel(1) as channel:
        stub = data_pb2_grpc.DataServiceStub(channel)
        wanted = data_pb2.ListOffsetsPartition(topic="later", timestamp_ms=-1)
        request = data_pb2.ListOffsetsRequest(partitions=[wanted], timeout_ms=2**31 - 1)
        waiting = asyncio.ensure_future(stub.ListOffsets(request, timeout=30))
        await asyncio.sleep(0.3)
        planes.create_topic("later", [1])
        answer = await asyncio.wait_for(waiting, 5)
        assert not answer.partitions[0].HasField("error")
        request = data_pb2.ListOffsetsRequest(
            partitions=[data_pb2.ListOffsetsPartition(topic="never", timestamp_ms=-1)], timeout_ms=100
        )
        began = time.monotonic()
        answer = await stub.ListOffsets(request, timeout=30)
    assert answer.partitions[0].error.code == pb.ERROR_CODE_UNKNOWN_TOPIC_OR_PARTITION
    assert 0.05 < time.monotonic() - began < 10


def test_waits_are_cut_to_a_minute() -> None:
    assert limits.wait_ms(0, 5) == 5
    assert limits.wait_ms(2**31 - 1, 5) == 60_000
    with pytest.raises(ApiError, match="INVALID_REQUEST"):
        limits.wait_ms(-1, 5)


async def test_a_call_for_another_cluster_is_refused_with_both_ids(planes: Planes) -> None:
    own, other = CLUSTER_ID.hex(), "f" * 32
    async with planes.channel(1) as channel:
        stub = cluster_pb2_grpc.ClusterServiceStub(channel)
        await stub.GetVersion(cluster_pb2.GetVersionRequest(), metadata=(("ottla-cluster-id", own),))
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await stub.GetVersion(cluster_pb2.GetVersionRequest(), metadata=(("ottla-cluster-id", other),))
        stream = data_pb2_grpc.DataServiceStub(channel).FetchStream(metadata=(("ottla-cluster-id", other),))
        with pytest.raises(grpc.aio.AioRpcError):
            await stream.read()
    said = raised.value.details() or ""
    assert said.startswith("INCONSISTENT_CLUSTER_ID")
    assert own in said
    assert other in said


async def test_a_name_that_is_asked_for_a_thousand_times_is_answered_once(planes: Planes) -> None:
    planes.create_topic("t", [1, 2, 3])
    async with planes.channel(1) as channel:
        stub = cluster_pb2_grpc.ClusterServiceStub(channel)
        answer = await stub.GetMetadata(cluster_pb2.GetMetadataRequest(topics=["t", "nope"] * 2000))
        everything = await stub.GetMetadata(cluster_pb2.GetMetadataRequest())
        planes.create_topic("u", [1])
        more = await stub.GetMetadata(cluster_pb2.GetMetadataRequest())
    assert [topic.name for topic in answer.topics] == ["t", "nope"]
    assert [part.leader_id for part in answer.topics[0].partitions] == [1, 2, 3]
    assert everything.topics[0] == answer.topics[0]
    assert [topic.name for topic in more.topics] == ["t", "u"]


async def test_watchers_tick_and_hear_of_changes(planes: Planes) -> None:
    async with planes.channel(1) as channel:
        stub = cluster_pb2_grpc.ClusterServiceStub(channel)
        streams = [stub.WatchMetadata(cluster_pb2.GetMetadataRequest(), timeout=20) for _ in range(20)]
        for stream in streams:
            assert (await stream.read()).metadata.node_id == 1
        began = time.monotonic()
        for stream in streams:
            assert not (await stream.read()).HasField("metadata")
        assert time.monotonic() - began < 5, "one after the other, twenty take 10 s"
        topic_id = planes.create_topic("t", [1])
        for stream in streams:
            event = await stream.read()
            while not event.HasField("metadata"):
                event = await stream.read()
            assert [topic.topic_id for topic in event.metadata.topics] == [topic_id]


async def test_the_number_of_watchers_is_bounded(planes: Planes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "WATCHERS_MAX", 2)
    async with planes.channel(1) as channel:
        stub = cluster_pb2_grpc.ClusterServiceStub(channel)
        streams = [stub.WatchMetadata(cluster_pb2.GetMetadataRequest(), timeout=20) for _ in range(2)]
        for stream in streams:
            await stream.read()
        with pytest.raises(grpc.aio.AioRpcError, match="THROTTLING_QUOTA_EXCEEDED"):
            await stub.WatchMetadata(cluster_pb2.GetMetadataRequest(), timeout=20).read()
        streams[0].cancel()
        async with asyncio.timeout(10):
            while True:  # a place is free a moment later
                with contextlib.suppress(grpc.aio.AioRpcError):
                    await stub.WatchMetadata(cluster_pb2.GetMetadataRequest(), timeout=20).read()
                    break


async def test_bytes_in_flight_have_one_budget(planes: Planes) -> None:
    planes.create_topic("t", [1, 2])
    used = planes[1]._in_flight
    used.limit_bytes = 2_000_000
    # One call always fits, whatever its size.
    for number in range(2):
        assert not (await produce(planes, 1, "t", number, b"x" * 900_000)).HasField("error")
    assert used.used_bytes == 0
    used.take(600_000)
    with pytest.raises(grpc.aio.AioRpcError, match="THROTTLING_QUOTA_EXCEEDED") as raised:
        await produce(planes, 1, "t", 0, b"x" * 300_000)
    assert "1000000 are allowed for calls of this size" in (raised.value.details() or "")
    # What is small gets through, also when others have used up all there is; readers get little at once.
    used.take(1_600_000)
    assert not (await produce(planes, 1, "t", 0, b"x")).HasField("error")
    for number in range(2):
        for _ in range(4):
            assert not (await produce(planes, 2, "t", number, b"y" * 40_000)).HasField("error")
    async with planes.channel(1) as channel:
        stub = data_pb2_grpc.DataServiceStub(channel)
        wanted = [data_pb2.FetchPartition(topic="t", partition=0, offset=2)]
        answer = await stub.Fetch(data_pb2.FetchRequest(partitions=wanted, max_wait_ms=0))
        assert 40_000 < data_of(answer) < 70_000
        reader = stub.FetchStream()
        await reader.write(data_pb2.FetchStreamRequest(add=wanted, credit_bytes=10**6))
        assert 40_000 < data_of(await reader.read()) < 70_000
        reader.cancel()
        # A batch that is not small has to wait.
        with pytest.raises(grpc.aio.AioRpcError, match="THROTTLING_QUOTA_EXCEEDED"):
            await fetch(planes, 1, "t", 0, max_wait_ms=0)
        writer = stub.ProduceStream()
        part = data_pb2.ProducePartition(topic="t", batch=batch(b"s"))
        await writer.write(data_pb2.ProduceRequest(request_id=1, partitions=[part]))
        acknowledged = asyncio.ensure_future(writer.read())
        await asyncio.sleep(0.1)
        assert not acknowledged.done()
        used.give(2_200_000)
        assert (await asyncio.wait_for(acknowledged, 5)).responses[0].request_id == 1
        assert data_of(await stub.Fetch(data_pb2.FetchRequest(partitions=wanted, max_wait_ms=0))) > 160_000
    # An answer counts until gRPC says that the call is over, which is a moment after it has arrived.
    for _ in range(100):
        if used.used_bytes:
            await asyncio.sleep(0.05)
    assert used.used_bytes == 0


async def test_a_leaders_refusal_is_passed_on_as_it_said_it(planes: Planes) -> None:
    planes.create_topic("t", [2])
    planes[2]._in_flight.limit_bytes = 1_000_000
    planes[2]._in_flight.take(400_000)
    error = (await produce(planes, 1, "t", 0, b"x" * 300_000)).error
    assert error.code == pb.ERROR_CODE_THROTTLING_QUOTA_EXCEEDED
    assert error.retriable
    assert error.retry_after_ms == limits.IN_FLIGHT_RETRY_MS
    assert planes[1]._in_flight.used_bytes == 0


async def test_room_is_waited_for() -> None:
    budget = InFlight(10)
    budget.take(11)
    waiting = asyncio.ensure_future(budget.room())
    await asyncio.sleep(0)
    assert not waiting.done()
    assert budget.full
    budget.give(2)
    await asyncio.wait_for(waiting, 5)


async def test_a_topic_of_many_partitions_is_taken_over_a_few_logs_at_a_time(planes: Planes) -> None:
    """What comes after it waits for it, in order; the loop turns meanwhile."""
    turns = 0

    async def watch() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    watching = asyncio.create_task(watch())
    many = planes.create_topic("many", [1] * 300)
    planes.create_topic("gone", [1] * 100)
    planes.change(records.MetadataRecord(remove_topic=records.RemoveTopicRecord(topic_id=b"gone".ljust(16, b"_"))))
    planes.create_topic("after", [1])
    assert planes[1].view.image.topic(many) is None
    async with asyncio.timeout(30):
        for plane in planes.planes.values():
            while plane.applied_index < planes.image.index:
                await plane.view.changed(1)
    watching.cancel()
    assert turns > 15
    assert {topic_id for topic_id, _ in planes[1].broker.partitions} == {many, b"after".ljust(16, b"_")}
    assert not (await produce(planes, 2, "many", 299, b"x")).HasField("error")
    assert not (await produce(planes, 2, "after", 0, b"x")).HasField("error")


@pytest.mark.parametrize("by", ["registration", "snapshot"])
async def test_a_node_that_gets_many_logs_at_once_makes_them_a_few_at_a_time(planes: Planes, by: str) -> None:
    """It registers anew and then learns that it has them, or it hears of them by a snapshot of the metadata."""
    made_in_turn: list[int] = []

    async def watch() -> None:
        before = 0
        while True:
            now = len(planes[1].broker.made) + len(planes[1].broker.partitions)
            made_in_turn.append(now - before)
            before = now
            await asyncio.sleep(0)

    if by == "registration":
        planes[1].broker.broker_epoch = 77  # not the one in the metadata: what comes gives it nothing yet
        planes.create_topic("many", [1] * 300)
        assert not planes[1].broker.partitions
        watching = asyncio.create_task(watch())
        await asyncio.sleep(0)
        planes[1].set_broker_epoch(1)
    else:
        planes.create_topic("many", [1] * 300, only=(2, 3))
        watching = asyncio.create_task(watch())
        await asyncio.sleep(0)
        planes[1].apply_metadata(planes.image, Delta(snapshot=True))
    async with asyncio.timeout(30):
        for plane in planes.planes.values():
            while len(plane.broker.partitions) < 300:
                await plane.view.changed(1)
    watching.cancel()
    assert max(made_in_turn) <= 21
    assert not planes[1].broker.made
    assert not (await produce(planes, 2, "many", 299, b"x")).HasField("error")


@pytest.mark.parametrize("via", [1, 2])
async def test_ten_thousand_items_leave_the_loop_its_turns(planes: Planes, via: int) -> None:
    """Of each kind of read, and a request of as many batches that go nowhere. Turns are counted, not timed: other
    tests may run beside this one."""
    planes.create_topic("t", [1])
    await produce(planes, 1, "t", 0, b"x")
    turns = 0

    async def watch() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    watching = asyncio.create_task(watch())
    await asyncio.to_thread(ask_for_ten_thousand, planes, via)
    watching.cancel()
    assert turns > 4 * limits.ITEMS_MAX / limits.AT_ONCE


def ask_for_ten_thousand(planes: Planes, via: int) -> None:
    """From another thread, whose own work is not the loop's."""
    n = limits.ITEMS_MAX
    options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(planes.address(via), options=options) as channel:
        data, cluster = data_pb2_grpc.DataServiceStub(channel), cluster_pb2_grpc.ClusterServiceStub(channel)
        wanted = [data_pb2.FetchPartition(topic="t")] * n
        answer = data.Fetch(data_pb2.FetchRequest(partitions=wanted, max_wait_ms=0), timeout=60)
        assert answer.ByteSize() < STOCK_BYTES
        looked_up = [data_pb2.ListOffsetsPartition(topic="t", timestamp_ms=0)] * n
        found = data.ListOffsets(data_pb2.ListOffsetsRequest(partitions=looked_up), timeout=60)
        assert len(found.partitions) == n
        names = [f"none{i}" for i in range(n)]
        assert len(cluster.GetMetadata(cluster_pb2.GetMetadataRequest(topics=names), timeout=60).topics) == n
        parts = [data_pb2.ProducePartition(topic="none")] * n
        assert len(data.Produce(data_pb2.ProduceRequest(partitions=parts), timeout=60).partitions) == n
        records = [data_pb2.SendRecord(value=b"v", partition=0)] * n
        sent = data.Send(data_pb2.SendRequest(topic="t", records=records), timeout=60).results
        assert [result.offset for result in sent] == list(range(1, n + 1))


async def test_errors_of_thousands_of_positions_come_in_parts_and_keep_no_data_back(planes: Planes) -> None:
    planes.create_topic("t", [1])
    nowhere = [data_pb2.FetchPartition(topic=f"none{n}") for n in range(12_000)]
    async with planes.channel(1) as channel:
        reader = data_pb2_grpc.DataServiceStub(channel).FetchStream()
        position = data_pb2.FetchPartition(topic="t")
        await reader.write(data_pb2.FetchStreamRequest(add=[*nowhere, position], credit_bytes=10**6))
        told: set[str] = set()
        while len(told) < len(nowhere):
            message = await reader.read()
            assert message.ByteSize() < STOCK_BYTES
            told |= {found.topic for found in message.partitions if found.HasField("error")}
        await produce(planes, 1, "t", 0, b"x")
        assert [values_of(found) for found in (await reader.read()).partitions] == [[b"x"]]
        reader.cancel()
