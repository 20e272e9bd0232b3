"""Produce and fetch through any node, with stock stubs."""

import struct
import time
from collections.abc import Iterator

import grpc
import pytest
from crc32c import crc32c

from ottla.protocol.partitioner import partition_for_key
from ottla.v1 import admin_pb2, admin_pb2_grpc, data_pb2, record_pb2
from ottla.v1 import error_pb2 as pb
from tests.cluster.harness import LocalCluster, data_stub

pytestmark = pytest.mark.cluster


def batch(*values: bytes, **fields: int) -> record_pb2.RecordBatch:
    """What a stub that knows nothing but records would send."""
    return record_pb2.RecordBatch(
        records=record_pb2.Records(records=[record_pb2.Record(value=value) for value in values]), **fields
    )


def produce(cluster: LocalCluster, via: int, topic: str, partition: int, *values: bytes) -> data_pb2.ProduceResult:
    with cluster.channel(via) as channel:
        request = data_pb2.ProduceRequest(
            partitions=[data_pb2.ProducePartition(topic=topic, partition=partition, batch=batch(*values))]
        )
        return data_stub(channel).Produce(request, timeout=10).partitions[0]


def read_all(
    cluster: LocalCluster, via: int, topic: str, partition: int = 0, until: int = 0, wait_ms: int = 1000
) -> list[bytes]:
    """Values from the start of the log to the high watermark, once that has not moved for `wait_ms`."""
    values: list[bytes] = []
    offset = 0
    deadline = time.monotonic() + 15
    with cluster.channel(via) as channel:
        stub = data_stub(channel)
        while True:
            want = data_pb2.FetchPartition(topic=topic, partition=partition, offset=offset)
            found = stub.Fetch(data_pb2.FetchRequest(partitions=[want], max_wait_ms=wait_ms), timeout=10).partitions[0]
            if found.error.retriable and time.monotonic() < deadline:
                # Leadership may go back to its preferred replica at any time.
                time.sleep(0.02)
                continue
            assert not found.HasField("error"), found.error
            for stored in found.batches:
                values += [record.value for record in stored.records.records]
            if found.next_offset == offset:
                assert len(values) >= until
                return values
            offset = found.next_offset


@pytest.fixture(scope="module")
def topic(standing: LocalCluster) -> str:
    standing.create_topic("events", 3)
    return "events"


@pytest.mark.parametrize("via", [1, 2, 3])
def test_every_node_serves_every_partition(standing: LocalCluster, via: int) -> None:
    name = f"any-{via}"
    standing.create_topic(name, 3, via=via)
    leaders = {standing.leader(name, n) for n in range(3)}
    assert leaders == {1, 2, 3}
    for partition in range(3):
        result = produce(standing, via, name, partition, b"a", b"b")
        assert not result.HasField("error"), result.error
        assert (result.base_offset, result.receipt.replicas_holding >= 2) == (0, True)
        result = produce(standing, via, name, partition, b"c")
        assert result.base_offset == 2
        for reader in (1, 2, 3):
            assert read_all(standing, reader, name, partition, wait_ms=0) == [b"a", b"b", b"c"]


def test_created_topics_are_known_to_every_node_at_once(standing: LocalCluster) -> None:
    for number in range(10):
        name = f"at-once-{number}"
        standing.create_topic(name, 3, via=number % 3 + 1)
        for via in (1, 2, 3):
            for partition in range(3):
                assert not produce(standing, via, name, partition, b"x").HasField("error")


def test_stored_batches_are_whole_and_carry_both_checksums(standing: LocalCluster, topic: str) -> None:
    produce(standing, 1, topic, 2, b"checked")
    with standing.channel(2) as channel:
        want = data_pb2.FetchPartition(topic=topic, partition=2, offset=0)
        found = data_stub(channel).Fetch(data_pb2.FetchRequest(partitions=[want]), timeout=10).partitions[0]
    stored = found.batches[0]
    assert stored.record_count == 1
    assert stored.payload_crc == crc32c(stored.records.SerializeToString())
    assert stored.leader_epoch == found.leader_epoch
    assert struct.pack("<I", stored.header_crc) != b"\0\0\0\0"


def test_a_stream_keeps_order_through_any_node(standing: LocalCluster) -> None:
    standing.create_topic("ordered", 3)
    with standing.channel(2) as channel:
        requests = [
            data_pb2.ProduceRequest(
                request_id=i,
                partitions=[data_pb2.ProducePartition(topic="ordered", partition=i % 3, batch=batch(str(i).encode()))],
            )
            for i in range(300)
        ]
        answers = {}
        for message in data_stub(channel).ProduceStream(iter(requests), timeout=30):
            for response in message.responses:
                answers[response.request_id] = response.partitions[0]
    assert sorted(answers) == list(range(300))
    assert not any(result.HasField("error") for result in answers.values())
    for partition in range(3):
        expected = [str(i).encode() for i in range(partition, 300, 3)]
        assert read_all(standing, 3, "ordered", partition, len(expected)) == expected
        assert [answers[i].base_offset for i in range(partition, 300, 3)] == list(range(100))


def test_send_places_records_by_key(standing: LocalCluster, topic: str) -> None:
    keys = [f"key-{i}".encode() for i in range(20)]
    request = data_pb2.SendRequest(topic=topic, records=[data_pb2.SendRecord(key=key, value=b"v") for key in keys])
    with standing.channel(1) as channel:
        results = data_stub(channel).Send(request, timeout=10).results
    assert [result.partition for result in results] == [partition_for_key(key, 3) for key in keys]
    assert all(result.offset >= 0 and not result.HasField("error") for result in results)


def test_a_fetch_stream_follows_all_partitions_within_its_credit(standing: LocalCluster) -> None:
    standing.create_topic("followed", 3)
    got: dict[int, list[bytes]] = {0: [], 1: [], 2: []}
    with standing.channel(1) as channel, standing.channel(2) as other:
        first = data_pb2.FetchStreamRequest(
            add=[data_pb2.FetchPartition(topic="followed", partition=n) for n in range(3)],
            credit_bytes=1 << 20,
            max_wait_ms=100,
        )

        def commands() -> Iterator[data_pb2.FetchStreamRequest]:
            yield first
            for number in range(30):
                result = data_stub(other).Produce(
                    data_pb2.ProduceRequest(
                        partitions=[
                            data_pb2.ProducePartition(
                                topic="followed", partition=number % 3, batch=batch(str(number).encode())
                            )
                        ]
                    ),
                    timeout=10,
                )
                assert not result.partitions[0].HasField("error")
            while sum(map(len, got.values())) < 30:
                time.sleep(0.01)

        for message in data_stub(channel).FetchStream(commands(), timeout=30):
            for part in message.partitions:
                assert not part.HasField("error"), part.error
                for stored in part.batches:
                    got[part.partition] += [record.value for record in stored.records.records]
    assert got == {n: [str(i).encode() for i in range(n, 30, 3)] for n in range(3)}


def test_offsets_by_time_and_trimmed_logs(standing: LocalCluster) -> None:
    standing.create_topic("times", 1)
    with standing.channel(3) as channel:
        stub = data_stub(channel)
        for at in (1000, 2000, 3000):
            part = data_pb2.ProducePartition(topic="times", batch=batch(b"x", base_timestamp=at, max_timestamp=at))
            assert (
                not stub.Produce(data_pb2.ProduceRequest(partitions=[part]), timeout=10).partitions[0].HasField("error")
            )

        def offset_of(timestamp_ms: int) -> int | None:
            want = data_pb2.ListOffsetsPartition(topic="times", timestamp_ms=timestamp_ms)
            found = stub.ListOffsets(data_pb2.ListOffsetsRequest(partitions=[want]), timeout=10).partitions[0]
            assert not found.HasField("error"), found.error
            return found.offset if found.HasField("offset") else None

        assert [offset_of(t) for t in (-2, -1, -3, 0, 1500, 3000, 3001)] == [0, 3, 2, 0, 1, 2, None]
        trim = admin_pb2.DeleteRecordsRequest(
            partitions=[
                admin_pb2.DeleteRecordsPartition(partition=data_pb2.TopicPartition(topic="times"), before_offset=2)
            ]
        )
        trimmed = admin_pb2_grpc.AdminServiceStub(channel).DeleteRecords(trim, timeout=10).partitions[0]
        assert (trimmed.low_watermark, trimmed.HasField("error")) == (2, False)
        assert offset_of(-2) == 2
        want = data_pb2.FetchPartition(topic="times", offset=0)
        below = stub.Fetch(data_pb2.FetchRequest(partitions=[want]), timeout=10).partitions[0]
        assert below.error.code == pb.ERROR_CODE_OFFSET_OUT_OF_RANGE


def test_reflection_and_health_answer_without_proto_files(standing: LocalCluster) -> None:
    from grpc_health.v1 import health_pb2, health_pb2_grpc
    from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

    with standing.channel(1) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        assert {"ottla.v1.DataService", "ottla.v1.AdminService", "ottla.v1.ClusterService"} <= set(
            database.get_services()
        )
        described = database.FindFileContainingSymbol("ottla.v1.DataService")
        assert "Produce" in {method.name for method in described.service[0].method}
        status = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5).status
        assert status == health_pb2.HealthCheckResponse.SERVING


def test_a_call_that_fails_as_a_whole_has_details(standing: LocalCluster) -> None:
    from google.rpc import error_details_pb2
    from grpc_status import rpc_status

    with standing.channel(1) as channel:
        refused = data_stub(channel).Send(
            data_pb2.SendRequest(topic="evnts", records=[data_pb2.SendRecord(value=b"x")]), timeout=5
        )
        assert "close names: events" in refused.results[0].error.message
        with pytest.raises(grpc.RpcError) as failed:
            data_stub(channel).Fetch(data_pb2.FetchRequest(max_bytes=-1), timeout=5)
    assert failed.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    info = error_details_pb2.ErrorInfo()
    assert rpc_status.from_call(failed.value).details[0].Unpack(info)
    assert (info.reason, info.domain) == ("INVALID_REQUEST", "ottla")
    assert dict(info.metadata) == {"code": str(pb.ERROR_CODE_INVALID_REQUEST), "retriable": "false"}
