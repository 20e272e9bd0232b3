"""Quotas on one node: what clients of both doors get of what they were given, and that others notice nothing."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from ottla import OttlaError
from ottla.sync import Admin, Consumer, Producer
from ottla.v1 import admin_pb2, admin_pb2_grpc, data_pb2, data_pb2_grpc, error_pb2
from tests.cluster.harness import LocalCluster
from tests.peers.batches import batch
from tests.peers.wire import Connection

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


def test_a_client_of_kafka_is_told_and_not_heard_meanwhile(one: LocalCluster) -> None:
    """With quotas that it gave itself, by Kafka's own calls."""
    host, port = one.kafka_bootstrap[0].split(":")
    client = Connection((host, int(port)))  # its client id is `peer`

    def ask(name: str, version: int, **body: Any) -> Any:
        client.send(name, version, body)
        return client.receive()

    entity = [{"entity_type": "client-id", "entity_name": "peer"}]
    keys = ("producer_byte_rate", "consumer_byte_rate")

    def alter(remove: bool) -> None:
        ops = [{"key": key, "value": 10_000.0, "remove": remove} for key in keys]
        [changed] = ask("AlterClientQuotas", 1, entries=[{"entity": entity, "ops": ops}])["entries"]
        assert changed == {"error_code": 0, "error_message": None, "entity": entity}

    alter(False)
    wanted = {"entity_type": "client-id", "match_type": 0, "match": "peer"}
    [shown] = ask("DescribeClientQuotas", 1, components=[wanted])["entries"]
    assert shown == {"entity": entity, "values": [{"key": key, "value": 10_000.0} for key in sorted(keys)]}
    data = [{"name": "t", "partition_data": [{"index": 0, "records": batch([bytes(5000)])}]}]
    assert ask("Produce", 12, acks=-1, timeout_ms=5000, topic_data=data)["throttle_time_ms"] == pytest.approx(
        258, abs=9
    )
    began_s = time.monotonic()
    part = {"partition": 0, "fetch_offset": 0, "partition_max_bytes": 1}
    first = ask("Fetch", 12, max_bytes=1, topics=[{"topic": "t", "partitions": [part]}])
    assert 0.2 < time.monotonic() - began_s < 8
    assert first["responses"][0]["partitions"][0]["records"]
    assert first["throttle_time_ms"] == pytest.approx(755, abs=30)
    other = Connection((host, int(port)))
    other.send("Fetch", 12, {"max_bytes": 1, "topics": [{"topic": "t", "partitions": [part]}]})
    told = other.receive()
    assert (told["responses"], 0 < told["throttle_time_ms"] < 780) == ([], True)
    alter(True)
    assert time.monotonic() - began_s > 0.9


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
