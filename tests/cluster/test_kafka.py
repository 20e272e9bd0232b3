"""An unchanged client of Apache Kafka against three nodes, and what strangers send to its port."""

import asyncio
import itertools
import socket
import struct
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic

from ottla import Admin
from ottla.cli.segments import batches, kind_of, segments_of
from ottla.client.group_admin import GroupDescription
from ottla.sync import Admin as SyncAdmin
from ottla.sync import Consumer
from tests.cluster.harness import LocalCluster, eventually

pytestmark = pytest.mark.cluster
PARTITIONS = [TopicPartition("t", number) for number in range(3)]


def kinds_in(cluster: LocalCluster, node_id: int, partition: int) -> set[str]:
    """Of the batches that a node has of a partition of "t"."""
    [topic_id] = [each.topic_id.hex() for each in cluster.metadata(1, "t").topics]
    directory = cluster[node_id].directory / "data" / f"{topic_id}-{partition}"
    log = kind_of(directory)
    found = [batch for path in segments_of(directory) for batch in batches(path, log, records=False)]
    assert not [batch.problem for batch in found if batch.problem]
    return {batch.kind for batch in found}


def test_nothing_is_lost_twice_or_out_of_order_across_a_leaders_death(tmp_path: Path) -> None:
    """Nor across the level from which on batches are stored as they come: the logs have both kinds then, and both doors
    read them."""
    with LocalCluster(tmp_path, kafka=True) as cluster:
        cluster.start().wait_ready()
        cluster.wait_all_known()
        admin = KafkaAdminClient(bootstrap_servers=cluster.kafka_bootstrap)
        admin.create_topics([NewTopic("t", 3, 3)])
        admin.close()
        producer = KafkaProducer(bootstrap_servers=cluster.kafka_bootstrap, compression_type="gzip", linger_ms=5)
        for number in range(300):
            producer.send("t", b"%d" % number, key=b"k", partition=number % 3, headers=[("h", b"x")])
            if number == 50:
                producer.flush(30)
                assert kinds_in(cluster, 1, 0) == {"records"}
                with SyncAdmin(cluster.bootstrap) as level:
                    level.finalize_feature()
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
        again: dict[int, list[int]] = {number: [] for number in range(3)}
        with Consumer("t", bootstrap=cluster.bootstrap, auto_offset_reset="earliest") as reader:
            for record in itertools.islice(reader, 300):
                assert (record.key, record.headers) == (b"k", (("h", b"x"),))
                again[record.partition].append(int(record.value or b""))
        assert again == read
        assert set().union(*(kinds_in(cluster, node, 0) for node in (1, 3))) == {"records", "kafka"}


MEMBER = """
import sys
from kafka import KafkaConsumer
from kafka.errors import KafkaError
consumer = KafkaConsumer(
    "t", bootstrap_servers=sys.argv[1].split(","), group_id="g", auto_offset_reset="earliest", client_id=sys.argv[2],
    enable_auto_commit=False, session_timeout_ms=6000, heartbeat_interval_ms=500, max_poll_records=20,
)
while True:
    for records in consumer.poll(100).values():
        for record in records:
            print(int(record.value), flush=True)
    try:
        consumer.commit()
    except KafkaError as error:
        print("#", error, flush=True)
"""

NEW_PROTOCOL = """
import signal, sys
from confluent_kafka import Consumer, KafkaException
stopped = []
signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
consumer = Consumer({
    "bootstrap.servers": sys.argv[1], "group.id": "g", "group.protocol": "consumer", "client.id": sys.argv[2],
    "auto.offset.reset": "earliest", "enable.auto.commit": False,
})
consumer.subscribe(["t"])
while not stopped:
    record = consumer.poll(0.1)
    if record is None or record.error():
        continue
    print(int(record.value()), flush=True)
    try:
        consumer.commit(record, asynchronous=False)
    except KafkaException as error:
        print("#", error, flush=True)
consumer.close()
"""


class Members:
    """Consumers of one group, each a process that says what it has read."""

    def __init__(self, directory: Path, bootstrap: list[str], program: str = MEMBER) -> None:
        self._directory = directory
        self._program = program
        self._bootstrap = ",".join(bootstrap)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> None:
        with (self._directory / name).open("wb") as out:
            command = [sys.executable, "-c", self._program, self._bootstrap, name]
            self._processes[name] = subprocess.Popen(command, stdout=out, stderr=subprocess.DEVNULL)

    def kill(self, name: str) -> None:
        self._processes[name].kill()
        self._processes[name].wait()

    def close(self, name: str) -> None:
        """It ends by its own will."""
        self._processes[name].terminate()
        assert self._processes[name].wait(20) == 0

    def read(self, name: str) -> list[int]:
        lines = (self._directory / name).read_text().splitlines()
        return [int(line) for line in lines if not line.startswith("#")]

    def all_read(self) -> list[int]:
        return sorted({number for name in self._processes for number in self.read(name)})

    def stop(self) -> None:
        for name in self._processes:
            self.kill(name)


def listed(cluster: LocalCluster) -> list[tuple[str, str, str, int]]:
    async def ask() -> list[tuple[str, str, str, int]]:
        async with Admin(cluster.bootstrap) as admin:
            return [(each.group_id, each.type, each.state, each.member_count) for each in await admin.list_groups()]

    return asyncio.run(ask())


def described(cluster: LocalCluster) -> GroupDescription:
    """The group as the new coordinator has it."""

    async def ask() -> GroupDescription:
        async with Admin(cluster.bootstrap) as admin:
            return await admin.describe_group("g")

    return asyncio.run(ask())


def test_a_group_reads_everything_though_its_coordinator_and_a_member_are_killed(tmp_path: Path) -> None:
    with LocalCluster(tmp_path, kafka=True) as cluster:
        cluster.start().wait_ready()
        cluster.wait_all_known()
        admin = KafkaAdminClient(bootstrap_servers=cluster.kafka_bootstrap)
        admin.create_topics([NewTopic("t", 4, 3)])
        admin.close()
        producer = KafkaProducer(bootstrap_servers=cluster.kafka_bootstrap, acks="all")
        members = Members(tmp_path, cluster.kafka_bootstrap)
        sent = 0

        def send_and_see() -> None:
            nonlocal sent
            for number in range(sent, sent + 100):
                producer.send("t", b"%d" % number, partition=number % 4)
            producer.flush(30)
            sent += 100
            eventually(members.all_read, list(range(sent)), 40)

        try:
            members.start("one")
            members.start("two")
            eventually(lambda: listed(cluster), [("g", "classic", "stable", 2)], 30)
            send_and_see()
            before = described(cluster)
            cluster[before.coordinator_id].kill()
            send_and_see()
            after = described(cluster)
            assert (after.group_epoch, after.members) == (before.group_epoch, before.members), "nobody was moved"
            assert after.coordinator_id != before.coordinator_id
            members.kill("one")
            send_and_see()
            eventually(lambda: {lag.lag_records for lag in described(cluster).partitions.values()}, {0})
            members.kill("two")
            members.start("three")
            send_and_see()
            assert sorted(members.read("three")) == list(range(300, 400)), "it goes on where the others stopped"
        finally:
            members.stop()
            producer.close()


@pytest.mark.skipif(find_spec("confluent_kafka") is None, reason="confluent-kafka, of the extra dev, is not there")
def test_a_group_of_the_new_protocol_loses_nothing_to_deaths_of_members_and_coordinator(tmp_path: Path) -> None:
    settings = {"group.consumer.session.timeout.ms": 3_000}
    with LocalCluster(tmp_path, settings=settings, kafka=True) as cluster:
        cluster.start().wait_ready()
        cluster.wait_all_known()
        admin = KafkaAdminClient(bootstrap_servers=cluster.kafka_bootstrap)
        admin.create_topics([NewTopic("t", 4, 3)])
        admin.close()
        producer = KafkaProducer(bootstrap_servers=cluster.kafka_bootstrap, acks="all")
        members = Members(tmp_path, cluster.kafka_bootstrap, NEW_PROTOCOL)
        sent = 0

        def send_and_see() -> None:
            nonlocal sent
            for number in range(sent, sent + 40):
                producer.send("t", b"%d" % number, partition=number % 4)
            producer.flush(30)
            sent += 40
            eventually(members.all_read, list(range(sent)), 40)

        def shares() -> list[tuple[str, int]]:
            return sorted((each.client_id, len(each.owned)) for each in described(cluster).members)

        try:
            members.start("one")
            members.start("two")
            eventually(lambda: listed(cluster), [("g", "consumer", "stable", 2)], 30)
            assert shares() == [("one", 2), ("two", 2)]
            send_and_see()
            before = described(cluster)
            cluster[before.coordinator_id].kill()
            send_and_see()
            after = described(cluster)
            assert after.coordinator_id != before.coordinator_id
            assert (after.group_epoch, after.members) == (before.group_epoch, before.members), "nobody was moved"
            members.close("two")
            eventually(shares, [("one", 4)], 10)
            send_and_see()
            members.start("three")
            eventually(shares, [("one", 2), ("three", 2)], 20)
            send_and_see()
            members.kill("one")
            send_and_see()
            assert shares() == [("three", 4)]
            members.close("three")
            eventually(lambda: listed(cluster), [("g", "consumer", "empty", 0)], 10)
        finally:
            members.stop()
            producer.close()


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
