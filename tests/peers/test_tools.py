"""Kafka's own tools say of Ottla what they say of Apache Kafka."""

import re
from pathlib import Path

import pytest

from ottla.sync import Admin
from tests.cluster.harness import LocalCluster
from tests.peers.tools import file, run

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]
Address = tuple[str, int]
TOPICS, CONFIGS, GROUPS = "TopicCommand", "kafka.admin.ConfigCommand", "consumer.group.ConsumerGroupCommand"
PRODUCER, CONSUMER, OFFSETS = "ConsoleProducer", "consumer.ConsoleConsumer", "GetOffsetShell"
TRANSACTIONS, REASSIGN, QUORUM = "TransactionsCommand", "reassign.ReassignPartitionsCommand", "MetadataQuorumCommand"


class Both:
    def __init__(self, kafka: Address, ottla: Address) -> None:
        self.kafka, self.ottla = kafka, ottla

    def __call__(self, tool: str, arguments: str, stdin: str = "", but: str = "(?!)") -> str:
        """What both say. `but`: a pattern of lines that are each broker's own."""
        theirs, ours = (
            "\n".join(line for line in run(at, tool, arguments, stdin).splitlines() if not re.search(but, line))
            for at in (self.kafka, self.ottla)
        )
        assert ours == theirs, f"{tool} {arguments}\nKafka:\n{theirs}\nOttla:\n{ours}"
        return ours


@pytest.fixture(scope="module")
def both(kafka: Address, ottla: Address) -> Both:
    return Both(kafka, ottla)


def test_topics(both: Both) -> None:
    made = both(TOPICS, "--create --topic tools-t --partitions 3 --config retention.ms=3600000")
    assert "Created topic tools-t." in made
    assert "exit code 1" in both(TOPICS, "--create --topic tools-t")
    assert "exit code 1" in both(TOPICS, "--create --topic tools-bad --config nonsense=1")
    both(TOPICS, "--alter --topic tools-t --partitions 4")
    assert "exit code 1" in both(TOPICS, "--alter --topic tools-t --partitions 2")
    assert "PartitionCount: 4" in both(TOPICS, "--describe --topic tools-t")
    both(TOPICS, "--describe --under-replicated-partitions")
    both(TOPICS, "--describe --topic tools-missing")
    both(TOPICS, "--delete --topic tools-t")
    both(TOPICS, "--delete --topic tools-t")


def test_configs(both: Both) -> None:
    both(TOPICS, "--create --topic tools-c --config cleanup.policy=compact,delete")
    changed = "--alter --topic tools-c --add-config max.message.bytes=200000,retention.ms=7200000"
    assert "Completed" in both(CONFIGS, changed)
    both(CONFIGS, "--alter --topic tools-c --delete-config retention.ms")
    assert "exit code 1" in both(CONFIGS, "--alter --topic tools-c --add-config max.message.bytes=many", but="args '")
    assert "max.message.bytes=200000" in both(CONFIGS, "--describe --topic tools-c")
    both(CONFIGS, "--describe --entity-type brokers --entity-name 1")
    both(CONFIGS, "--describe --entity-type users")


def test_records_and_groups(both: Both) -> None:
    both(TOPICS, "--create --topic tools-g --partitions 2")
    keyed = "--reader-property parse.key=true --reader-property key.separator=:"
    both(PRODUCER, f"--topic tools-g {keyed}", stdin="a:1\nb:2\nc:3\nd:4\n")
    reading = "--topic tools-g --from-beginning --max-messages 4 --timeout-ms 20000"
    assert "Processed a total of 4 messages" in both(CONSUMER, f"{reading} --group tools-old")
    both(CONSUMER, f"{reading} --group tools-new --consumer-property group.protocol=consumer")
    for group in ("tools-old", "tools-new"):
        assert "tools-g" in both(GROUPS, f"--describe --group {group}")
        both(GROUPS, f"--describe --group {group} --state")
        both(GROUPS, f"--describe --group {group} --members --verbose")
        moved = both(GROUPS, f"--reset-offsets --group {group} --topic tools-g --shift-by -1 --execute")
        assert "exit code 0" in moved
        both(GROUPS, f"--reset-offsets --group {group} --all-topics --to-datetime 2020-01-01T00:00:00.000 --dry-run")
    both(GROUPS, "--describe --group tools-missing")
    both(GROUPS, "--delete-offsets --group tools-old --topic tools-g")
    assert "successful" in both(GROUPS, "--delete --group tools-new")
    both(GROUPS, "--delete --group tools-missing")


def test_offsets_and_replicas(both: Both, tmp_path: Path) -> None:
    both(TOPICS, "--create --topic tools-o")
    both(PRODUCER, "--topic tools-o", stdin="1\n2\n3\n")
    before = '{"partitions": [{"topic": "tools-o", "partition": 0, "offset": 1}], "version": 1}'
    deleted = both("DeleteRecordsCommand", f"--offset-json-file {file(tmp_path, 'before', before)}")
    assert "low_watermark: 1" in deleted
    for time in ("earliest", "latest", "latest-tiered"):
        both(OFFSETS, f"--topic tools-o --time {time}")
    both("LeaderElectionCommand", "--election-type preferred --topic tools-o --partition 0")
    both("LogDirsCommand", "--describe --topic-list tools-o", but="logDir")
    both(QUORUM, "describe --status", but="HighWatermark|CurrentVoters|LeaderEpoch|MaxFollowerLag")
    both("ClusterTool", "cluster-id")
    both("ClusterTool", "list-endpoints")


def test_producers_that_are_remembered_and_moves(both: Both, tmp_path: Path) -> None:
    both("VerifiableProducer", "--topic tools-v --max-messages 20 --throughput 1000", but="tool_data")
    for protocol in ("classic", "consumer"):
        reading = f"--topic tools-v --group-id tools-{protocol} --max-messages 20 --reset-policy earliest"
        both("VerifiableConsumer", f"{reading} --group-protocol {protocol}")
    many = "--topic tools-v --num-records 5000"
    both("ProducerPerformance", f"{many} --record-size 100 --throughput -1", but="records sent")
    both("ConsumerPerformance", f"{many} --timeout 20000", but=r"^\d\d\d\d-")
    assert "LatestCoordinatorEpoch" in both(
        TRANSACTIONS, "describe-producers --topic tools-v --partition 0", but=r"^\d+ "
    )
    both(TRANSACTIONS, "list")
    both(TRANSACTIONS, "find-hanging --broker-id 1")
    assert "No partition reassignments found." in both(REASSIGN, "--list")
    moves = '{"version": 1, "partitions": [{"topic": "tools-v", "partition": 0, "replicas": [1]}]}'
    assert "is completed" in both(REASSIGN, f"--verify --reassignment-json-file {file(tmp_path, 'moves', moves)}")


def test_quotas_and_moves(kafka: Address, tmp_path: Path) -> None:
    with LocalCluster(tmp_path / "three", 3, kafka=True) as cluster:
        cluster.start().wait_ready(timeout_s=90)
        with Admin(cluster[1].address()) as admin:
            admin.finalize_feature()
        cluster.create_topic("tools-m", replicas=[1])
        host, port = cluster[1].address("kafka").rsplit(":", 1)
        ottla = (host, int(port))
        both = Both(kafka, ottla)
        clients = "--entity-type clients --entity-name tools-c"
        for quota in (
            f"--alter {clients} --add-config producer_byte_rate=2048,consumer_byte_rate=4096",
            f"--describe {clients}",
            "--alter --entity-type users --entity-default --add-config controller_mutation_rate=20",
            "--describe --entity-type users --entity-default",
            f"--alter {clients} --delete-config producer_byte_rate",
            f"--describe {clients}",
        ):
            assert "exit code 0" in both(CONFIGS, quota)
        moves = '{"version": 1, "partitions": [{"topic": "tools-m", "partition": 0, "replicas": [2, 3]}]}'
        plan = f"--reassignment-json-file {file(tmp_path, 'three-moves', moves)}"
        assert "Successfully started partition reassignment for tools-m-0" in run(ottla, REASSIGN, f"--execute {plan}")
        for _ in range(10):
            said = run(ottla, REASSIGN, f"--verify {plan}")
            if "Reassignment of partition tools-m-0 is completed." in said:
                break
        else:
            pytest.fail(said)
