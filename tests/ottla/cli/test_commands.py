"""Every command against real nodes."""

import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaProducer

from ottla.cli.local import HOST, LocalCluster
from tests.cluster.harness import free_base_port
from tests.ottla.cli.conftest import Ottla, environment

pytestmark = [pytest.mark.cluster, pytest.mark.xdist_group("cli-cluster")]
_numbers = count()


@pytest.fixture
def topic(ottla: Ottla) -> Iterator[str]:
    """A topic of the test's own: three partitions on three nodes."""
    name = f"topic-{next(_numbers)}"
    made = ottla("topic", "create", name, "--partitions", "3", "--replication-factor", "3")
    assert made.returncode == 0, made.stderr
    yield name
    ottla("topic", "delete", name)


def answer(ottla: Ottla, *arguments: str) -> Any:
    done = ottla(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def refused(ottla: Ottla, *arguments: str, stdin: str = "") -> dict[str, str]:
    """The error of a command that must fail: exit code 1, nothing on stdout, code, cause and next step on stderr."""
    done = ottla(*arguments, "--json", stdin=stdin)
    assert done.returncode == 1, done.stdout
    assert done.stdout == ""
    error = json.loads(done.stderr.splitlines()[-1])["error"]
    assert error["message"]
    assert error["next"]
    return dict(error)


# -- topics ------------------------------------------------------------------------------------------------------------


def test_a_topic_from_its_creation_to_its_end(ottla: Ottla) -> None:
    made = ottla("topic", "create", "life", "--partitions", "2", "--replication-factor", "3", "--config", "flush=ack")
    assert made.returncode == 0, made.stderr
    assert made.stdout == "Created life: 2 partitions, replication factor 3.\n"
    assert "life" in ottla("topic", "list").stdout
    shown = answer(ottla, "topic", "describe", "life")
    assert [p["partition"] for p in shown["partitions"]] == [0, 1]
    assert all(sorted(p["replicas"]) == sorted(p["isr"]) == [1, 2, 3] for p in shown["partitions"])
    assert shown["configs"]["flush"] == {"value": "ack", "source": "topic"}
    assert shown["configs"]["min.insync.replicas"] == {"value": "2", "source": "default"}
    assert "flush = ack (topic)" in ottla("topic", "describe", "life").stdout

    changed = ottla("topic", "alter", "life", "--partitions", "5", "--config", "retention.ms=60000", "--reset", "flush")
    assert changed.returncode == 0, changed.stderr
    shown = answer(ottla, "topic", "describe", "life")
    assert len(shown["partitions"]) == 5
    assert shown["configs"]["retention.ms"] == {"value": "60000", "source": "topic"}
    assert shown["configs"]["flush"] == {"value": "replica", "source": "default"}

    assert ottla("topic", "delete", "life").returncode == 0
    assert refused(ottla, "topic", "describe", "life")["code"] == "UNKNOWN_TOPIC_OR_PARTITION"


def test_why_a_topic_and_a_node_are_as_they_are_and_what_happened(ottla: Ottla, topic: str) -> None:
    assert {(each["subject"], each["state"]) for each in answer(ottla, "why", topic)} == {
        (f"{topic}-{number}", "ok") for number in range(3)
    }
    assert ottla("why", f"{topic}:1").stdout.startswith(f"{topic}-1: ok since ")
    assert answer(ottla, "why", "node", "2")[0]["state"] == "up"
    assert refused(ottla, "why", "nowhere")["code"] == "UNKNOWN_TOPIC_OR_PARTITION"
    events = answer(ottla, "cluster", "events", "--topic", topic)
    assert events
    assert all(event["topic"] == topic and event["time_ms"] > 0 for event in events)


def test_dry_runs_change_nothing(ottla: Ottla, topic: str) -> None:
    before = answer(ottla, "topic", "describe", topic)
    assert ottla("topic", "create", "ghost", "--dry-run").returncode == 0
    assert ottla("topic", "alter", topic, "--partitions", "9", "--config", "flush=ack", "--dry-run").returncode == 0
    assert ottla("topic", "delete", topic, "--dry-run").returncode == 0
    assert answer(ottla, "topic", "describe", topic) == before
    assert refused(ottla, "topic", "describe", "ghost")["code"] == "UNKNOWN_TOPIC_OR_PARTITION"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("create", "no/such"), "INVALID_TOPIC_EXCEPTION"),
        (("create", "x", "--partitions", "0"), "INVALID_PARTITIONS"),
        (("create", "x", "--replication-factor", "4"), "INVALID_REPLICATION_FACTOR"),
        (("create", "x", "--config", "retention.mz=1"), "INVALID_CONFIG"),
        (("create", "x", "--config", "retention.ms=soon"), "INVALID_CONFIG"),
        (("delete", "nowhere"), "UNKNOWN_TOPIC_OR_PARTITION"),
        (("alter", "nowhere", "--partitions", "3"), "UNKNOWN_TOPIC_OR_PARTITION"),
    ],
)
def test_what_the_cluster_refuses(ottla: Ottla, arguments: tuple[str, ...], code: str) -> None:
    assert refused(ottla, "topic", *arguments)["code"] == code


def test_a_name_that_is_taken_and_fewer_partitions(ottla: Ottla, topic: str) -> None:
    assert refused(ottla, "topic", "create", topic)["code"] == "TOPIC_ALREADY_EXISTS"
    error = refused(ottla, "topic", "alter", topic, "--partitions", "2")
    assert error["code"] == "INVALID_PARTITIONS"
    assert "3" in error["message"]


def test_an_election_that_changes_nothing(ottla: Ottla, topic: str) -> None:
    assert ottla("topic", "elect", topic).stdout == "Nothing had to change.\n"
    assert answer(ottla, "topic", "elect", topic, "--unclean") == []
    assert refused(ottla, "topic", "elect", "nowhere")["code"] == "UNKNOWN_TOPIC_OR_PARTITION"
    assert refused(ottla, "topic", "elect", topic, "--partition", "9")["code"] == "UNKNOWN_TOPIC_OR_PARTITION"


# -- records -----------------------------------------------------------------------------------------------------------


def test_lines_in_lines_out(ottla: Ottla, topic: str) -> None:
    sent = ottla("produce", topic, stdin="one\ntwo\n\nlast without newline")
    assert (sent.returncode, sent.stderr) == (0, "4 records acknowledged.\n")
    read = ottla("consume", topic, "--from-beginning", "--max-messages", "4")
    assert read.returncode == 0, read.stderr
    assert sorted(read.stdout.splitlines()) == ["", "last without newline", "one", "two"]


def test_keys_keep_their_order_and_come_back(ottla: Ottla, topic: str, tmp_path: Path) -> None:
    lines = tmp_path / "lines.txt"
    lines.write_text("".join(f"k{i % 7}=>v{i}\n" for i in range(700)))
    assert answer(ottla, "produce", topic, str(lines), "--key-separator", "=>") == {"topic": topic, "records": 700}
    read = ottla("consume", topic, "--from-beginning", "--max-messages", "700", "--format", "{key}\\t{value}")
    pairs = [line.split("\t") for line in read.stdout.splitlines()]
    assert len(pairs) == 700
    for key in range(7):
        assert [value for k, value in pairs if k == f"k{key}"] == [f"v{i}" for i in range(key, 700, 7)]


def test_one_partition_from_an_offset_as_json(ottla: Ottla, topic: str) -> None:
    ottla("produce", topic, "--key-separator", ":", stdin="".join(f"same:{i}\n" for i in range(10)))
    first = json.loads(ottla("consume", topic, "--from-beginning", "--max-messages", "1", "--json").stdout)
    assert (first["key"], first["value"], first["offset"]) == ("same", "0", 0)
    place = ("--partition", str(first["partition"]), "--offset", "6", "--max-messages", "4")
    read = [json.loads(line) for line in ottla("consume", topic, *place, "--json").stdout.splitlines()]
    assert [(r["offset"], r["value"]) for r in read] == [(6, "6"), (7, "7"), (8, "8"), (9, "9")]


def test_without_from_beginning_only_what_comes(cluster: LocalCluster, ottla: Ottla, topic: str) -> None:
    ottla("produce", topic, stdin="before\n")
    command = [sys.executable, "-m", "ottla.cli", "consume", topic, "--max-messages", "1"]
    reader = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment(cluster.bootstrap))
    try:
        # It says nothing when it stands at the end, so what is sent repeats until it has been there.
        for _ in range(60):
            ottla("produce", topic, stdin="after\n")
            if reader.poll() is not None:
                break
        assert reader.wait(5) == 0
        assert reader.stdout is not None
        assert reader.stdout.read() == "after\n"
    finally:
        reader.kill()
        reader.wait()


def test_a_reader_whose_reader_goes_away_ends_quietly(cluster: LocalCluster, ottla: Ottla, topic: str) -> None:
    ottla("produce", topic, stdin="x\n" * 1000)
    read = subprocess.run(
        ["sh", "-c", f"'{sys.executable}' -m ottla.cli consume {topic} --from-beginning | head -n 2"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env=environment(cluster.bootstrap),
    )
    assert read.stdout == "x\nx\n"
    # Where the first answer takes a moment, it has said that it waits; that is all.
    assert [line for line in read.stderr.splitlines() if not line.startswith("Waiting for records")] == []


def test_records_that_cannot_go(ottla: Ottla, topic: str) -> None:
    assert refused(ottla, "produce", "nowhere", stdin="x\n")["code"] == "UNKNOWN_TOPIC_OR_PARTITION"
    error = refused(ottla, "produce", topic, "--key-separator", "=", stdin="a=1\nb=2\noops\n")
    assert error["code"] == "INVALID_RECORD"
    assert "line 3" in error["message"]
    assert refused(ottla, "produce", topic, stdin="x" * 2_000_000)["code"] == "MESSAGE_TOO_LARGE"


def test_reading_what_is_not_there(ottla: Ottla, topic: str) -> None:
    assert refused(ottla, "consume", "nowhere", "--max-messages", "1")["code"] == "UNKNOWN_TOPIC_OR_PARTITION"
    assert refused(ottla, "consume", topic, "--partition", "7")["code"] == "UNKNOWN_TOPIC_OR_PARTITION"
    error = refused(ottla, "consume", topic, "--partition", "0", "--offset", "1000000", "--max-messages", "1")
    assert error["code"] == "OFFSET_OUT_OF_RANGE"


# -- groups ------------------------------------------------------------------------------------------------------------

READER = """
import asyncio
from ottla import Consumer
async def main():
    async with Consumer("{topic}", group="{group}") as consumer:
        for _ in range({count}):
            await anext(consumer)
asyncio.run(main())
"""


def test_a_group_s_positions(ottla: Ottla, cluster: LocalCluster, topic: str) -> None:
    group = f"readers-of-{topic}"
    ottla("produce", topic, "--key-separator", ":", stdin="".join(f"same:{i}\n" for i in range(10)))
    reader = READER.format(topic=topic, group=group, count=8)
    subprocess.run([sys.executable, "-c", reader], env=environment(cluster.bootstrap), timeout=60, check=True)

    shown = answer(ottla, "group", "describe", group)
    assert (shown["state"], shown["members"]) == ("empty", [])
    held = [p for p in shown["partitions"] if p["committed_offset"]]
    assert [(p["topic"], p["high_watermark"]) for p in held] == [(topic, 10)]
    assert (held[0]["committed_offset"], held[0]["lag_records"]) == (8, 2)
    assert {"group": group, "state": "empty", "members": 0} in [
        {key: g[key] for key in ("group", "state", "members")} for g in answer(ottla, "group", "list")
    ]

    plan = answer(ottla, "group", "reset", group, "--to-earliest")
    assert (plan["executed"], {p["new_offset"] for p in plan["partitions"]}) == (False, {0})
    still = answer(ottla, "group", "describe", group)["partitions"]
    assert [p["committed_offset"] for p in still if p["committed_offset"]] == [8]
    ottla("group", "reset", group, "--to-offset", "4", "--topic", topic, "--execute")
    moved = answer(ottla, "group", "describe", group)["partitions"]
    assert [p["committed_offset"] for p in moved if p["high_watermark"] == 10] == [4]

    # Members of the command line share and go on like any others.
    taken = ottla("consume", topic, "--group", group, "--max-messages", "6", "--json").stdout.splitlines()
    assert [json.loads(line)["offset"] for line in taken] == [4, 5, 6, 7, 8, 9]
    table = ottla("group", "describe", group).stdout
    assert re.search(rf"{topic} +\d +10 +10 +0 +0 ms +-", table), table
    assert refused(ottla, "consume", topic, "--group", group, "--partition", "0")["code"] == "INVALID_REQUEST"

    assert ottla("group", "delete", group).stdout == f"Deleted {group}.\n"
    assert refused(ottla, "group", "describe", group)["code"] == "GROUP_ID_NOT_FOUND"
    assert refused(ottla, "group", "delete", group)["code"] == "GROUP_ID_NOT_FOUND"


# -- the cluster -------------------------------------------------------------------------------------------------------


def test_cluster_status(ottla: Ottla, cluster: LocalCluster, topic: str) -> None:
    shown = answer(ottla, "cluster", "status")
    assert [(b["node_id"], b["address"], b["state"]) for b in shown["brokers"]] == [
        (node.node_id, node.address, "up") for node in cluster.nodes
    ]
    assert shown["controller"] in (1, 2, 3)
    assert (shown["offline_partitions"], shown["under_replicated_partitions"]) == (0, 0)
    assert sum(b["leads"] for b in shown["brokers"]) == shown["partitions"] >= 3
    text = ottla("cluster", "status").stdout
    assert all(node.address in text for node in cluster.nodes)


def test_cluster_quorum_from_every_node(ottla: Ottla, cluster: LocalCluster) -> None:
    leaders = set()
    for node in cluster.nodes:
        shown = answer(ottla, "cluster", "quorum", "--bootstrap", node.address)
        assert [(m["node_id"], m["role"]) for m in shown["members"]] == [(i, "voter") for i in (1, 2, 3)]
        leaders.add(shown["leader"])
    assert len(leaders) == 1


def test_cluster_quorum_says_where_it_stands(ottla: Ottla) -> None:
    shown = answer(ottla, "cluster", "quorum")
    assert shown["log_end"] >= shown["high_watermark"] > 0
    assert shown["answered_by"] == shown["leader"]
    assert all(len(member["directory_id"]) == 32 for member in shown["members"])
    text = ottla("cluster", "quorum").stdout
    assert f"leader: node {shown['leader']}, epoch {shown['leader_epoch']}" in text
    assert "high watermark" in text


def test_a_voter_goes_and_comes_back(ottla: Ottla) -> None:
    leader = answer(ottla, "cluster", "quorum")["leader"]
    other = str(next(i for i in (1, 2, 3) if i != leader))
    assert refused(ottla, "cluster", "voter", "add", other)["code"] == "DUPLICATE_VOTER"
    assert int(other) not in answer(ottla, "cluster", "voter", "remove", other)["voters"]
    assert refused(ottla, "cluster", "voter", "remove", other)["code"] == "VOTER_NOT_FOUND"
    observers = [m["node_id"] for m in answer(ottla, "cluster", "quorum")["members"] if m["role"] == "observer"]
    assert observers == [int(other)]
    done = ottla("cluster", "voter", "add", other)
    assert done.stdout == f"node {other} votes; the voters are 1, 2, 3.\n"


def test_the_leader_can_be_removed(ottla: Ottla) -> None:
    leader = str(answer(ottla, "cluster", "quorum")["leader"])
    after = answer(ottla, "cluster", "voter", "remove", leader)
    assert str(after["leader"]) != leader
    assert len(after["voters"]) == 2
    assert answer(ottla, "cluster", "voter", "add", leader)["voters"] == [1, 2, 3]


def test_leadership_is_handed_over(ottla: Ottla) -> None:
    before = answer(ottla, "cluster", "quorum")
    target = next(i for i in (1, 2, 3) if i != before["leader"])
    after = answer(ottla, "cluster", "transfer", "--to", str(target))
    assert after["leader"] == target
    assert after["leader_epoch"] > before["leader_epoch"]
    assert refused(ottla, "cluster", "transfer", "--to", "9")["code"] == "VOTER_NOT_FOUND"


def test_features_and_their_levels(ottla: Ottla) -> None:
    (shown,) = answer(ottla, "cluster", "features")
    before = shown["level"]
    assert (shown["feature"], before in range(1, 9)) == ("metadata.version", True), "other tests finalize it, too"
    assert [(n["node_id"], n["min_level"], n["max_level"]) for n in shown["nodes"]] == [(i, 1, 8) for i in (1, 2, 3)]
    assert re.search(rf"metadata\.version +{before} +3 +1 to 8 ", ottla("cluster", "features").stdout)
    assert answer(ottla, "cluster", "finalize")["level"] == 8
    done = ottla("cluster", "finalize")
    assert (done.returncode, done.stdout) == (0, "metadata.version is at 8 already.\n")
    error = refused(ottla, "cluster", "finalize", "--level", "9", "--dry-run")
    assert error["code"] == "UNSUPPORTED_VERSION"
    assert all(f"node {i} " in error["message"] for i in (1, 2, 3))
    assert refused(ottla, "cluster", "finalize", "--feature", "share.version")["code"] == "UNSUPPORTED_VERSION"


@pytest.mark.parametrize("directory", ["xyz", "ab"])
def test_a_directory_id_that_is_none(ottla: Ottla, directory: str) -> None:
    assert refused(ottla, "cluster", "voter", "add", "1", "--directory", directory)["code"] == "INVALID_VOTER_KEY"


def test_the_files_of_a_running_node_can_be_read(ottla: Ottla, cluster: LocalCluster, topic: str) -> None:
    quorum = min(cluster.nodes[0].directory.glob("**/quorum"))
    shown = ottla("log", "dump", str(quorum))
    assert shown.returncode == 0
    assert f"name={topic}" in shown.stdout
    assert "feature_level name=metadata.version level=1" in shown.stdout


def test_config_describe(ottla: Ottla, topic: str) -> None:
    entries = {e["key"]: e for e in answer(ottla, "config", "describe", "--topic", topic)}
    assert entries["flush"]["value"] == "replica"
    assert entries["flush"]["documentation"]
    assert "retention.ms" in ottla("config", "describe", "--topic", topic).stdout
    broker = answer(ottla, "config", "describe", "--broker", "1", "--key", "num.partitions")
    assert [e["key"] for e in broker] == ["num.partitions"]
    assert refused(ottla, "config", "describe", "--topic", "nowhere")["code"] == "UNKNOWN_TOPIC_OR_PARTITION"


def test_no_node_answers(ottla: Ottla) -> None:
    with socket.socket() as unused:
        unused.bind((HOST, 0))
        address = f"{HOST}:{unused.getsockname()[1]}"
        error = refused(ottla, "topic", "list", "--bootstrap", address)
    assert error["code"] == "NETWORK_EXCEPTION"
    assert address in error["message"]
    assert refused(ottla, "topic", "list", "--bootstrap", "nonsense")["code"] == "INVALID_CONFIG"


# -- dev ---------------------------------------------------------------------------------------------------------------


def test_dev_says_what_works_and_leaves_nothing_behind(tmp_path: Path) -> None:
    port = free_base_port(1)
    command = [sys.executable, "-m", "ottla.cli", "dev", "--base-port", str(port), "--data-dir", str(tmp_path / "d")]
    dev = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    try:
        assert dev.stdout is not None
        said: list[str] = []
        for line in dev.stdout:
            said.append(line)
            if line.startswith("Ctrl-C"):
                break
        lines = [line.strip() for line in said]
        assert any(line.startswith(f"node 1: {HOST}:{port}, process ") for line in lines), lines
        assert f"start it again by hand: ottla node --config {tmp_path / 'd' / 'node-1.toml'}" in lines
        # The three lines for the other terminal, typed as they are printed.
        script = "\n".join(line for line in lines if line.startswith(("ottla ", "echo ")))
        tried = subprocess.run(
            ["sh", "-euc", script], capture_output=True, text=True, timeout=60, check=False, env=environment("")
        )
        assert tried.returncode == 0, tried.stderr
        assert "hello, world\n" in tried.stdout
    finally:
        dev.send_signal(signal.SIGINT)
        _, errors = dev.communicate(timeout=20)
    assert dev.returncode == 0
    assert "Traceback" not in errors
    with socket.socket() as probe:
        assert probe.connect_ex((HOST, port)) != 0


def test_dev_serves_clients_of_kafka_and_does_so_again(tmp_path: Path) -> None:
    port = free_base_port(1)
    base = [sys.executable, "-m", "ottla.cli", "dev", "--base-port", str(port), "--data-dir", str(tmp_path / "d")]
    for turn, (asked, kafka) in enumerate(
        [([], port - 100), (["--kafka-port", str(port + 50)], port + 50), ([], port + 50)]
    ):
        at = f"{HOST}:{kafka}"
        with subprocess.Popen([*base, *asked], stdout=subprocess.PIPE, text=True) as dev:
            assert dev.stdout is not None
            said = list(iter(dev.stdout.readline, "Ctrl-C stops everything.\n"))
            assert said[-1] == f"kafka clients: bootstrap.servers={at}\n"
            producer = KafkaProducer(bootstrap_servers=at)
            producer.send("made-by-its-first-record", b"record %d" % turn).get(30)
            producer.close()
            read = subprocess.run(
                ["ottla", "consume", "made-by-its-first-record", "--from-beginning", "--to-end"],
                capture_output=True, text=True, timeout=60, check=False, env=environment(f"{HOST}:{port}"),
            )  # fmt: skip
            assert sorted(read.stdout.splitlines()) == [f"record {number}" for number in range(turn + 1)], read.stderr
            dev.terminate()
            assert dev.wait(20) == 0
