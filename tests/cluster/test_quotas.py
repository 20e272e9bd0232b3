"""Quotas on one node: what clients of both doors get of what they were given, and that others notice nothing."""

import time
from collections.abc import Callable, Iterator

import grpc
import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from ottla import OttlaError
from ottla.sync import Admin, Consumer, Producer
from ottla.v1 import admin_pb2, admin_pb2_grpc, data_pb2, data_pb2_grpc, error_pb2
from tests.cluster.harness import LocalCluster

pytestmark = pytest.mark.cluster
RATE = 400_000
SECONDS = 1.5
VALUE = bytes(10_000)


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """A node with a topic, where three client ids write and read so much a second."""
    with LocalCluster(tmp_path_factory.mktemp("quotas"), 1, kafka=True) as made:
        made.start().wait_ready()
        with Admin(made.bootstrap) as admin:
            with pytest.raises(OttlaError, match=r"UNSUPPORTED_VERSION.*finalize"):
                admin.alter_quotas({"producer_byte_rate": RATE}, client_id="slow-ottla")
            admin.finalize_feature()
            admin.create_topic("t", replication_factor=1)
            for client_id in ("slow-ottla", "slow-kafka", "slow-stub"):
                admin.alter_quotas({"producer_byte_rate": RATE, "consumer_byte_rate": RATE}, client_id=client_id)
        with Producer(made.bootstrap) as producer:
            for _ in range(150):
                producer.send("t", VALUE).result(20)  # a batch each
        yield made


def rate(step: Callable[[], int], seconds: float = SECONDS) -> float:
    """Bytes a second of what is done again and again."""
    done, began_s = 0, time.monotonic()
    while time.monotonic() - began_s < seconds:
        done += step()
    return done / (time.monotonic() - began_s)


def assert_held_to(found: float) -> None:
    """A burst of a quarter of a second is allowed, and so much at once to a reader; a batch is never cut."""
    assert 0.7 * RATE < found < RATE * (1 + 0.5 / SECONDS) + 5 * len(VALUE), found


def test_a_producer_of_grpc_is_held_back(one: LocalCluster) -> None:
    with Producer(one.bootstrap, client_id="slow-ottla", linger_ms=0) as producer:

        def send() -> int:
            producer.send("t", VALUE).result(20)
            return len(VALUE)

        assert_held_to(rate(send))


def test_a_producer_of_kafka_is_held_back(one: LocalCluster) -> None:
    producer = KafkaProducer(bootstrap_servers=one.kafka_bootstrap, client_id="slow-kafka")

    def send() -> int:
        producer.send("t", VALUE).get(20)
        return len(VALUE)

    try:
        assert_held_to(rate(send))
    finally:
        producer.close()


def test_a_plain_stub_is_held_back_and_told(one: LocalCluster) -> None:
    with grpc.insecure_channel(one.bootstrap) as channel:
        stub = data_pb2_grpc.DataServiceStub(channel)
        told: list[int] = []

        def send() -> int:
            records = [data_pb2.SendRecord(value=VALUE) for _ in range(4)]
            stub.Send(data_pb2.SendRequest(topic="t", records=records, client_id="slow-stub"), timeout=20)
            return 4 * len(VALUE)

        def fetch() -> int:
            wanted = data_pb2.FetchPartition(topic="t", partition=0, offset=0)
            request = data_pb2.FetchRequest(partitions=[wanted], client_id="slow-stub", max_bytes=3 * len(VALUE))
            answer = stub.Fetch(request, timeout=20)
            told.append(answer.throttle_time_ms)
            return sum(len(batch.records.records) for part in answer.partitions for batch in part.batches) * len(VALUE)

        assert_held_to(rate(send))
        assert_held_to(rate(fetch))
        assert max(told) > 0


def test_consumers_are_held_back(one: LocalCluster) -> None:
    with Consumer("t", bootstrap=one.bootstrap, client_id="slow-ottla") as consumer:
        assert_held_to(rate(lambda: len(VALUE) * len(consumer.poll(timeout_ms=100))))
    of_kafka = KafkaConsumer(
        bootstrap_servers=one.kafka_bootstrap, client_id="slow-kafka", max_partition_fetch_bytes=50_000
    )
    of_kafka.assign([TopicPartition("t", 0)])
    of_kafka.seek(TopicPartition("t", 0), 0)
    try:
        assert_held_to(rate(lambda: len(VALUE) * sum(map(len, of_kafka.poll(timeout_ms=100).values()))))
    finally:
        of_kafka.close()


def test_others_have_all_that_there_is(one: LocalCluster) -> None:
    with Producer(one.bootstrap) as producer:
        began_s = time.monotonic()
        for sent in [producer.send("t", VALUE) for _ in range(200)]:
            sent.result(20)
        assert 200 * len(VALUE) / (time.monotonic() - began_s) > 2 * RATE


def test_partitions_are_made_as_fast_as_they_may_be(one: LocalCluster) -> None:
    """Ten seconds' worth may be made at once, and who made too many is told when to come back."""
    with Admin(one.bootstrap, client_id="maker") as admin:
        admin.alter_quotas({"controller_mutation_rate": 0.5}, client_id="maker")
        try:
            admin.create_topic("many", partitions=15, replication_factor=1)
            with grpc.insecure_channel(one.bootstrap) as channel:  # a client of ours waits, and asks again
                request = admin_pb2.DeleteTopicsRequest(topics=[admin_pb2.TopicRef(name="many")])
                stub = admin_pb2_grpc.AdminServiceStub(channel)
                [refused] = stub.DeleteTopics(request, timeout=20, metadata=[("ottla-client-id", "maker")]).topics
            assert refused.error.code == error_pb2.ERROR_CODE_THROTTLING_QUOTA_EXCEEDED
            assert 5_000 < refused.error.retry_after_ms <= 20_000
            with Admin(one.bootstrap) as other:
                other.delete_topic("many")
        finally:
            admin.alter_quotas({"controller_mutation_rate": None}, client_id="maker")
        assert [quota.client_id for quota in admin.list_quotas()] == ["slow-kafka", "slow-ottla", "slow-stub"]
