"""Bad input gets a code and a sentence; it ends no node and leaves no trace (invariants.md 3)."""

import random
from collections.abc import Iterator

import grpc
import pytest

from ottla.v1 import admin_pb2, admin_pb2_grpc, data_pb2, record_pb2
from ottla.v1 import error_pb2 as pb
from tests.cluster.harness import LocalCluster, data_stub
from tests.cluster.test_data import batch, produce, read_all

pytestmark = pytest.mark.cluster

INT64_MAX = 2**63 - 1
INT32_MAX = 2**31 - 1


@pytest.fixture(scope="module")
def topic(standing: LocalCluster) -> str:
    standing.create_topic("bad", 3)
    return "bad"


@pytest.fixture(autouse=True)
def _nodes_survive(standing: LocalCluster) -> Iterator[None]:
    yield
    for node in standing.nodes.values():
        assert node.running
        assert "Traceback" not in node.log()


def big(size: int) -> record_pb2.RecordBatch:
    return batch(b"x" * size)


PRODUCE_CASES = {
    "no batch": ({"topic": "bad"}, pb.ERROR_CODE_INVALID_RECORD),
    "no records": ({"topic": "bad", "batch": record_pb2.RecordBatch()}, pb.ERROR_CODE_INVALID_RECORD),
    "empty records": (
        {"topic": "bad", "batch": record_pb2.RecordBatch(records=record_pb2.Records())},
        pb.ERROR_CODE_INVALID_RECORD,
    ),
    "unknown topic": ({"topic": "nope", "batch": batch(b"x")}, pb.ERROR_CODE_UNKNOWN_TOPIC_OR_PARTITION),
    "no topic": ({"batch": batch(b"x")}, pb.ERROR_CODE_INVALID_REQUEST),
    "unknown topic id": ({"topic_id": b"\1" * 16, "batch": batch(b"x")}, pb.ERROR_CODE_UNKNOWN_TOPIC_ID),
    "short topic id": ({"topic_id": b"\1", "batch": batch(b"x")}, pb.ERROR_CODE_INVALID_REQUEST),
    "path as topic": ({"topic": "../../etc", "batch": batch(b"x")}, pb.ERROR_CODE_UNKNOWN_TOPIC_OR_PARTITION),
    "negative partition": (
        {"topic": "bad", "partition": -1, "batch": batch(b"x")},
        pb.ERROR_CODE_UNKNOWN_TOPIC_OR_PARTITION,
    ),
    "partition beyond": (
        {"topic": "bad", "partition": INT32_MAX, "batch": batch(b"x")},
        pb.ERROR_CODE_UNKNOWN_TOPIC_OR_PARTITION,
    ),
    "batch over the limit": ({"topic": "bad", "batch": big(1_100_000)}, pb.ERROR_CODE_MESSAGE_TOO_LARGE),
    "20 MB batch": ({"topic": "bad", "batch": big(20_000_000)}, pb.ERROR_CODE_MESSAGE_TOO_LARGE),
    "wrong checksum": ({"topic": "bad", "batch": batch(b"x", payload_crc=1)}, pb.ERROR_CODE_CORRUPT_MESSAGE),
    "wrong count": ({"topic": "bad", "batch": batch(b"x", record_count=2)}, pb.ERROR_CODE_INVALID_RECORD),
    "control bit": ({"topic": "bad", "batch": batch(b"x", attributes=0x20)}, pb.ERROR_CODE_INVALID_RECORD),
    "transactional bit": ({"topic": "bad", "batch": batch(b"x", attributes=0x10)}, pb.ERROR_CODE_INVALID_RECORD),
    "year 3000": (
        {"topic": "bad", "batch": batch(b"x", base_timestamp=32503680000000)},
        pb.ERROR_CODE_INVALID_TIMESTAMP,
    ),
    "negative time": ({"topic": "bad", "batch": batch(b"x", base_timestamp=-5)}, pb.ERROR_CODE_INVALID_TIMESTAMP),
    "bad gzip": (
        {"topic": "bad", "batch": record_pb2.RecordBatch(attributes=1, compressed_records=b"not gzip")},
        None,
    ),
    "unknown codec": (
        {"topic": "bad", "batch": record_pb2.RecordBatch(attributes=7, compressed_records=b"x")},
        pb.ERROR_CODE_UNSUPPORTED_COMPRESSION_TYPE,
    ),
    "old epoch": (
        {"topic": "bad", "batch": batch(b"x"), "current_leader_epoch": -1},
        pb.ERROR_CODE_FENCED_LEADER_EPOCH,
    ),
    "future epoch": (
        {"topic": "bad", "batch": batch(b"x"), "current_leader_epoch": INT32_MAX},
        pb.ERROR_CODE_UNKNOWN_LEADER_EPOCH,
    ),
    "sequence gap": (
        {"topic": "bad", "batch": batch(b"x", producer_id=999_999, base_sequence=7)},
        None,
    ),
    "negative producer": ({"topic": "bad", "batch": batch(b"x", producer_id=-7)}, pb.ERROR_CODE_INVALID_RECORD),
}


@pytest.mark.parametrize("case", PRODUCE_CASES)
@pytest.mark.parametrize("via", [1, 2])
def test_produce(standing: LocalCluster, topic: str, case: str, via: int) -> None:
    fields, code = PRODUCE_CASES[case]
    before = read_all(standing, 1, topic, wait_ms=0)
    part = data_pb2.ProducePartition(**fields)
    good = data_pb2.ProducePartition(topic=topic, partition=1, batch=batch(case.encode()))
    options = [("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(standing[via].address(), options=options) as channel:
        response = data_stub(channel).Produce(data_pb2.ProduceRequest(partitions=[part, good]), timeout=10)
    bad, fine = response.partitions
    assert bad.HasField("error")
    assert code is None or bad.error.code == code, bad.error
    assert bad.error.message
    assert bad.base_offset == -1
    assert not fine.HasField("error"), "one bad partition must not fail the others"
    assert read_all(standing, 1, topic, wait_ms=100) == before, "what was refused is stored nevertheless"


@pytest.mark.parametrize("acks", [2, -2, INT32_MAX])
def test_produce_with_odd_acks(standing: LocalCluster, topic: str, acks: int) -> None:
    part = data_pb2.ProducePartition(topic=topic, batch=batch(b"x"))
    with standing.channel(1) as channel:
        result = data_stub(channel).Produce(data_pb2.ProduceRequest(acks=acks, partitions=[part]), timeout=5)
    assert result.partitions[0].error.code == pb.ERROR_CODE_INVALID_REQUIRED_ACKS


@pytest.mark.parametrize("timeout_ms", [-1, INT32_MAX])
def test_produce_with_odd_timeouts(standing: LocalCluster, topic: str, timeout_ms: int) -> None:
    part = data_pb2.ProducePartition(topic=topic, batch=batch(b"x"))
    with standing.channel(1) as channel:
        request = data_pb2.ProduceRequest(timeout_ms=timeout_ms, partitions=[part])
        result = data_stub(channel).Produce(request, timeout=10).partitions[0]
    assert result.error.code == (pb.ERROR_CODE_INVALID_REQUEST if timeout_ms < 0 else pb.ERROR_CODE_NONE)


FETCH_CASES = {
    "offset -3": ({"topic": "bad", "offset": -3}, pb.ERROR_CODE_OFFSET_OUT_OF_RANGE),
    "offset min": ({"topic": "bad", "offset": -INT64_MAX - 1}, pb.ERROR_CODE_OFFSET_OUT_OF_RANGE),
    "offset beyond": ({"topic": "bad", "offset": INT64_MAX}, pb.ERROR_CODE_OFFSET_OUT_OF_RANGE),
    "negative limit": ({"topic": "bad", "max_bytes": -1}, pb.ERROR_CODE_INVALID_REQUEST),
    "unknown topic": ({"topic": "nope"}, pb.ERROR_CODE_UNKNOWN_TOPIC_OR_PARTITION),
    "bad partition": ({"topic": "bad", "partition": -3}, pb.ERROR_CODE_UNKNOWN_TOPIC_OR_PARTITION),
    "future epoch": ({"topic": "bad", "current_leader_epoch": 99}, pb.ERROR_CODE_UNKNOWN_LEADER_EPOCH),
}


@pytest.mark.parametrize("case", FETCH_CASES)
@pytest.mark.parametrize("via", [1, 2])
def test_fetch(standing: LocalCluster, topic: str, case: str, via: int) -> None:
    produce(standing, 1, topic, 1, b"there")
    fields, code = FETCH_CASES[case]
    partitions = [data_pb2.FetchPartition(**fields), data_pb2.FetchPartition(topic=topic, partition=1)]
    with standing.channel(via) as channel:
        answer = data_stub(channel).Fetch(data_pb2.FetchRequest(partitions=partitions), timeout=10)
    by_code = {part.error.code: part for part in answer.partitions}
    assert set(by_code) == {code, pb.ERROR_CODE_NONE}
    assert by_code[pb.ERROR_CODE_NONE].batches


@pytest.mark.parametrize(
    "fields", [{"max_wait_ms": -1}, {"min_bytes": -1}, {"max_bytes": -1}, {"isolation_level": 77}], ids=str
)
def test_fetch_with_odd_limits(standing: LocalCluster, topic: str, fields: dict[str, int]) -> None:
    request = data_pb2.FetchRequest(partitions=[data_pb2.FetchPartition(topic=topic)], **fields)
    with standing.channel(1) as channel, pytest.raises(grpc.RpcError) as failed:
        data_stub(channel).Fetch(request, timeout=5)
    assert failed.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_fetch_of_one_byte_still_moves_on(standing: LocalCluster, topic: str) -> None:
    produce(standing, 1, topic, 2, b"large" * 1000)
    with standing.channel(1) as channel:
        want = data_pb2.FetchPartition(topic=topic, partition=2, max_bytes=1)
        answer = data_stub(channel).Fetch(data_pb2.FetchRequest(partitions=[want], max_bytes=1), timeout=5)
    assert answer.partitions[0].batches
    assert answer.partitions[0].next_offset > 0


@pytest.mark.parametrize("timestamp", [-4, -INT64_MAX, INT64_MAX])
def test_list_offsets_of_odd_times(standing: LocalCluster, topic: str, timestamp: int) -> None:
    want = data_pb2.ListOffsetsPartition(topic=topic, timestamp_ms=timestamp)
    with standing.channel(1) as channel:
        found = data_stub(channel).ListOffsets(data_pb2.ListOffsetsRequest(partitions=[want, want]), timeout=5)
    assert len(found.partitions) == 2
    for result in found.partitions:
        if timestamp < 0:
            assert result.error.code == pb.ERROR_CODE_INVALID_REQUEST
        else:
            assert not result.HasField("error")
            assert not result.HasField("offset")


@pytest.mark.parametrize("epoch", [-1, 0, INT32_MAX])
def test_offset_for_odd_epochs(standing: LocalCluster, topic: str, epoch: int) -> None:
    want = data_pb2.OffsetForLeaderEpochPartition(topic=topic, leader_epoch=epoch)
    with standing.channel(2) as channel:
        request = data_pb2.OffsetForLeaderEpochRequest(partitions=[want])
        found = data_stub(channel).OffsetForLeaderEpoch(request, timeout=5).partitions[0]
    assert found.HasField("end") or found.HasField("error")


NAMES = ["", ".", "..", "a" * 250, "a/b", "../../x", "/etc/passwd", "nul\0", "sp ace", "ä", "__consumer_offsets"]


@pytest.mark.parametrize("name", NAMES, ids=repr)
def test_create_topic_names(standing: LocalCluster, name: str) -> None:
    request = admin_pb2.CreateTopicsRequest(topics=[admin_pb2.NewTopic(name=name)])
    with standing.channel(2) as channel:
        result = admin_pb2_grpc.AdminServiceStub(channel).CreateTopics(request, timeout=10).topics[0]
    assert result.error.code in (pb.ERROR_CODE_INVALID_TOPIC_EXCEPTION, pb.ERROR_CODE_TOPIC_ALREADY_EXISTS)


TOPICS = {
    "0 partitions": ({"num_partitions": 0}, pb.ERROR_CODE_INVALID_PARTITIONS),
    "-2 partitions": ({"num_partitions": -2}, pb.ERROR_CODE_INVALID_PARTITIONS),
    "10^6 partitions": ({"num_partitions": 1_000_000}, None),
    "0 replicas": ({"replication_factor": 0}, pb.ERROR_CODE_INVALID_REPLICATION_FACTOR),
    "4 replicas": ({"replication_factor": 4}, pb.ERROR_CODE_INVALID_REPLICATION_FACTOR),
    "unknown config": ({"configs": {"retention.msx": "1"}}, pb.ERROR_CODE_INVALID_CONFIG),
    "bad config": ({"configs": {"retention.ms": "soon"}}, pb.ERROR_CODE_INVALID_CONFIG),
}


@pytest.mark.parametrize("case", TOPICS)
def test_create_topic_numbers(standing: LocalCluster, case: str) -> None:
    fields, code = TOPICS[case]
    request = admin_pb2.CreateTopicsRequest(topics=[admin_pb2.NewTopic(name=f"case-{len(case)}", **fields)])
    with standing.channel(3) as channel:
        result = admin_pb2_grpc.AdminServiceStub(channel).CreateTopics(request, timeout=10).topics[0]
    assert result.HasField("error")
    assert code is None or result.error.code == code, result.error


def test_random_bytes_as_messages(standing: LocalCluster) -> None:
    rng = random.Random(7)
    methods = [f"DataService/{name}" for name in ("Produce", "Fetch", "ListOffsets", "Send", "InitProducerId")]
    methods += [f"AdminService/{name}" for name in ("CreateTopics", "AlterConfigs", "ElectLeaders")]
    statuses = set()
    with standing.channel(1) as channel:
        for method in methods:
            for size in (1, 7, 100, 5000):
                call = channel.unary_unary(f"/ottla.v1.{method}")
                statuses.add(_status(call, rng, size))
    assert statuses <= {grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND}, statuses


def test_random_bytes_in_a_stream(standing: LocalCluster, topic: str) -> None:
    with standing.channel(1) as channel:
        for method in ("ProduceStream", "FetchStream"):
            call = channel.stream_stream(f"/ottla.v1.DataService/{method}")
            with pytest.raises(grpc.RpcError):
                list(call(iter([b"\xff" * 50]), timeout=5))
    assert not produce(standing, 1, topic, 0, b"x").HasField("error")


def _status(call: grpc.UnaryUnaryMultiCallable, rng: random.Random, size: int) -> grpc.StatusCode:
    try:
        return call.with_call(rng.randbytes(size), timeout=5)[1].code()
    except grpc.RpcError as error:
        return error.code()


def test_a_message_above_the_limit_is_refused_in_words(standing: LocalCluster, topic: str) -> None:
    part = data_pb2.ProducePartition(topic=topic, batch=big(33 * 2**20))
    with grpc.insecure_channel(standing[1].address(), options=[("grpc.max_send_message_length", -1)]) as channel:
        with pytest.raises(grpc.RpcError) as failed:
            data_stub(channel).Produce(data_pb2.ProduceRequest(partitions=[part]), timeout=10)
        assert failed.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "33554432 are allowed" in failed.value.details()
        fine = data_pb2.ProducePartition(topic=topic, batch=batch(b"x"))
        after = data_stub(channel).Produce(data_pb2.ProduceRequest(partitions=[fine]), timeout=10)
        assert not after.partitions[0].HasField("error")
