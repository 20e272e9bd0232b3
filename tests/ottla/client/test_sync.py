"""The blocking facade against a real node: the same names, from a plain program with threads."""

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from ottla import Closed, ConnectionFailed, DeliveryFailed, TopicPartition, UnknownTopic
from ottla.sync import Admin, Consumer, Producer, RebalanceListener
from tests.cluster.harness import LocalCluster

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with LocalCluster(tmp_path_factory.mktemp("sync"), nodes=1) as cluster:
        cluster.start().wait_ready()
        yield cluster.bootstrap


def test_write_and_read_without_asyncio(bootstrap: str) -> None:
    with Admin(bootstrap) as admin:
        created = admin.create_topic("t", partitions=2, replication_factor=1)
        assert (created.num_partitions, created.replication_factor) == (2, 1)
        assert admin.list_topics() == ["t"]
        with Producer(bootstrap) as producer:
            deliveries = [producer.send("t", b"%d" % i, partition=i % 2) for i in range(100)]
            producer.flush()
            assert all(delivery.done() for delivery in deliveries)
            assert [d.result(5).offset for d in deliveries[:4]] == [0, 0, 1, 1]
            assert producer.send_and_wait("t", b"100", partition=0).offset == 50
        assert admin.list_offsets({("t", 0): -1, ("t", 1): -1}) == {("t", 0): 51, ("t", 1): 50}
        with Consumer("t", bootstrap=bootstrap) as consumer:
            seen = []
            for record in consumer:
                seen.append(int(record.value or b""))
                if len(seen) == 101:
                    break
            assert sorted(seen) == list(range(101))
            consumer.seek("t", 1, 48)
            assert consumer.position("t", 1) == 48
            assert [r.value for r in consumer.poll(timeout_ms=5000)] == [b"97", b"99"]
            consumer.pause("t", 0)
            assert consumer.seek_to_beginning("t", 0) == 0
            assert consumer.poll(timeout_ms=300) == []
            consumer.resume("t", 0)
            assert consumer.poll(max_records=1, timeout_ms=5000)[0].value == b"0"
        admin.delete_topic("t")
        with pytest.raises(UnknownTopic):
            admin.describe_topic("t")


def test_a_position_is_that_of_the_next_record_handed_out(bootstrap: str) -> None:
    with Admin(bootstrap) as admin, Producer(bootstrap) as producer:
        admin.create_topic("p", partitions=1, replication_factor=1)
        for i in range(20):
            producer.send("p", b"%d" % i)
        producer.flush()
        with Consumer("p", bootstrap=bootstrap) as consumer:
            records = iter(consumer)
            assert [next(records).offset for _ in range(3)] == [0, 1, 2]
            assert consumer.position("p", 0) == 3
            consumer.pause("p", 0)
            consumer.resume("p", 0)
            assert next(records).offset == 3


def test_a_group_commits_what_was_handed_out_not_what_was_read_ahead(bootstrap: str) -> None:
    with Admin(bootstrap) as admin, Producer(bootstrap) as producer:
        admin.create_topic("g", partitions=1, replication_factor=1)
        for i in range(20):
            producer.send("g", b"%d" % i)
        producer.flush()
        with Consumer("g", group="g", bootstrap=bootstrap) as consumer:
            records = iter(consumer)
            assert [next(records).offset for _ in range(3)] == [0, 1, 2]
        with Consumer("g", group="g", bootstrap=bootstrap) as consumer:
            assert consumer.committed("g", 0) == 3
            assert next(iter(consumer)).offset == 3


def test_a_listener_s_plain_methods_may_use_the_consumer(bootstrap: str) -> None:
    class Commits(RebalanceListener):
        def on_assigned(self, partitions: Sequence[TopicPartition]) -> None:
            for where in partitions:
                consumer.seek(*where, 5)

        def on_revoked(self, partitions: Sequence[TopicPartition]) -> None:
            consumer.commit(dict.fromkeys(partitions, 9))

    with Admin(bootstrap) as admin, Producer(bootstrap) as producer:
        admin.create_topic("l", partitions=1, replication_factor=1)
        for i in range(10):
            producer.send("l", b"%d" % i)
        producer.flush()
        settings = {"bootstrap": bootstrap, "enable_auto_commit": False, "rebalance_listener": Commits()}
        consumer = Consumer("l", group="l", **settings)
        with consumer:
            assert next(iter(consumer)).offset == 5
        with Consumer("l", group="l", bootstrap=bootstrap) as heir:
            assert next(iter(heir)).offset == 9


def test_threads_share_a_producer(bootstrap: str) -> None:
    with Admin(bootstrap) as admin, Producer(bootstrap) as producer:
        admin.create_topic("threads", partitions=1, replication_factor=1)
        threads = [
            threading.Thread(target=lambda: [producer.send("threads", b"x") for _ in range(50)]) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        producer.flush()
        assert admin.list_offsets({("threads", 0): -1}) == {("threads", 0): 200}


def test_errors_come_as_they_are(bootstrap: str) -> None:
    with Admin(bootstrap) as admin:
        admin.create_topic("c", partitions=1, replication_factor=1, configs={"cleanup.policy": "compact"})
    with pytest.raises(DeliveryFailed), Producer(bootstrap) as producer:
        producer.send("c", b"no key")
    with pytest.raises(Closed, match="not started"):
        Producer(bootstrap).send("c", b"x")


def test_nobody_there(tmp_path: Path) -> None:
    producer = Producer("127.0.0.1:1", client_id="lonely")
    producer._inner._client._connect_timeout_s = 0.5
    with pytest.raises(ConnectionFailed, match=r"127\.0\.0\.1:1"):
        producer.start()
    assert not [t for t in threading.enumerate() if t.name == "ottla-loop"]
