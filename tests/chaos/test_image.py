"""What the image and the compose file promise."""

import subprocess
import sys
from pathlib import Path

import kafka
import pytest

from tests.chaos.compose import ComposeCluster

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]

IMAGE = "ottla:dev"
BASE = "python:3.13-slim-trixie"
PRODUCE = """
import sys, grpc
from ottla.v1 import data_pb2, data_pb2_grpc, record_pb2
stub = data_pb2_grpc.DataServiceStub(grpc.insecure_channel(sys.argv[1]))
record = record_pb2.Record(value=b"from a container")
batch = record_pb2.RecordBatch(records=record_pb2.Records(records=[record]))
part = data_pb2.ProducePartition(topic=sys.argv[2], partition=0, batch=batch)
result = stub.Produce(data_pb2.ProduceRequest(partitions=[part]), timeout=10).partitions[0]
print(result.error.message or result.base_offset)
"""


KAFKA = """
import sys
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
admin = KafkaAdminClient(bootstrap_servers=sys.argv[1])
print(*sorted(f"{each['host']}:{each['port']}" for each in admin.describe_cluster()["brokers"]))
producer = KafkaProducer(bootstrap_servers=sys.argv[1])
for partition in range(3):
    producer.send("by-kafka", b"hello", partition=partition).get(20)
consumer = KafkaConsumer(bootstrap_servers=sys.argv[1], auto_offset_reset="earliest")
consumer.assign([TopicPartition("by-kafka", partition) for partition in range(3)])
wanted = sum(consumer.end_offsets(list(consumer.assignment())).values())
print(len([next(consumer) for _ in range(wanted)]))
"""


def test_the_image_adds_less_than_90_mb_to_its_base(compose: ComposeCluster) -> None:
    sizes = {name: compose.engine.images.get(name).attrs["Size"] for name in (IMAGE, BASE)}
    assert sizes[IMAGE] - sizes[BASE] < 90e6


def test_the_node_runs_without_rights(compose: ComposeCluster) -> None:
    [*_, status] = compose[1].container.exec_run("cat /proc/1/status")
    fields = dict(line.split(":\t", 1) for line in status.decode().splitlines() if ":\t" in line)
    assert fields["Uid"].split()[0] == "10001"
    assert int(fields["CapEff"], 16) == 0


def test_a_client_in_another_container_reaches_every_node(compose: ComposeCluster) -> None:
    compose.create_topic("from-inside", 1)
    for offset, node in enumerate(compose.containers.values()):
        printed = compose.engine.containers.run(
            IMAGE,
            ["-c", PRODUCE, f"{node.service}:{9191 + node.node_id}", "from-inside"],
            entrypoint="python",
            network=node.container.attrs["HostConfig"]["NetworkMode"],
            remove=True,
            tmpfs={"/data": ""},  # else the image's volume is made, and stays
        )
        assert printed.decode().strip() == str(offset)


def test_one_compose_file_is_for_clients_of_kafka_on_the_host_and_in_containers(compose: ComposeCluster) -> None:
    """Each is told addresses that work where it is, and goes to the leaders there."""
    compose.create_topic("by-kafka", 3)
    port = [int(compose[i].address("kafka").rpartition(":")[2]) for i in (1, 2, 3)]
    on_host = subprocess.run(
        [sys.executable, "-c", KAFKA, f"localhost:{port[1]}"], capture_output=True, text=True, check=True, timeout=60
    )
    in_container = compose.engine.containers.run(
        IMAGE,
        ["-c", KAFKA, f"ottla-2:{port[1]}"],
        entrypoint="python",
        network=compose[1].container.attrs["HostConfig"]["NetworkMode"],
        volumes={str(Path(kafka.__file__).parent): {"bind": "/python/kafka", "mode": "ro"}},
        environment={"PYTHONPATH": "/python"},
        remove=True,
        tmpfs={"/data": ""},
    )
    assert on_host.stdout.split() == [*(f"localhost:{each}" for each in port), "3"]
    assert in_container.decode().split() == [*(f"ottla-{i}:{each}" for i, each in enumerate(port, 1)), "6"]


def test_healthy_again_within_seconds_of_a_stop(compose: ComposeCluster) -> None:
    assert compose[2].stop() == 0, "a controlled stop ends by itself"
    compose.start([2])
    assert compose.wait_ready([2]) < 15
