"""An unchanged client of Apache Kafka against three nodes, and what strangers send to its port."""

import socket
import struct
from pathlib import Path

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic

from tests.cluster.harness import LocalCluster, eventually

pytestmark = pytest.mark.cluster
PARTITIONS = [TopicPartition("t", number) for number in range(3)]


def test_nothing_is_lost_twice_or_out_of_order_across_a_leaders_death(tmp_path: Path) -> None:
    with LocalCluster(tmp_path, kafka=True) as cluster:
        cluster.start().wait_ready()
        admin = KafkaAdminClient(bootstrap_servers=cluster.kafka_bootstrap)
        admin.create_topics([NewTopic("t", 3, 3)])
        admin.close()
        producer = KafkaProducer(bootstrap_servers=cluster.kafka_bootstrap, compression_type="gzip", linger_ms=5)
        for number in range(300):
            producer.send("t", b"%d" % number, key=b"k", partition=number % 3, headers=[("h", b"x")])
            if number == 100:
                cluster[2].kill()
        producer.flush(30)
        producer.close()
        consumer = KafkaConsumer(
            bootstrap_servers=cluster.kafka_bootstrap, auto_offset_reset="earliest", consumer_timeout_ms=3000
        )
        consumer.assign(PARTITIONS)
        read: dict[int, list[int]] = {each.partition: [] for each in PARTITIONS}
        for record in consumer:
            assert record.headers == [("h", b"x")]
            read[record.partition].append(int(record.value))
        consumer.close()
        assert read == {number: list(range(number, 300, 3)) for number in range(3)}


def test_strangers_are_shown_out_with_one_line_each(tmp_path: Path) -> None:
    with LocalCluster(tmp_path, nodes=1, kafka=True) as cluster:
        cluster.start().wait_ready()
        host, _, port = cluster[1].address("kafka").rpartition(":")
        for sent in (
            struct.pack(">i", -1) + bytes(20),
            struct.pack(">ihhi", 2**31 - 1, 0, 9, 1) + bytes(1000),
            bytes.fromhex("1603010200010001fc0303") + bytes(100),
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            struct.pack(">ihhih", 30, 3, 9, 1, -1) + b"\xff" * 22,
        ):
            with socket.create_connection((host, int(port)), timeout=5) as client:
                client.sendall(sent)
                while client.recv(1 << 16):
                    pass
        eventually(lambda: cluster[1].log().count("kafka_connection_closed"), 6)
        assert cluster[1].ready
