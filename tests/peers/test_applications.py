"""Applications of Kafka, unchanged, against three nodes of which one is killed: Kafka Connect and Kafka Streams."""

import json
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest

from tests.cluster.harness import LocalCluster, free_base_port
from tests.peers.apache_kafka import JAVA, jars, missing
from tests.peers.tools import run

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]
SOON_S: Final = 90.0
COMMITTED_S: Final = 4.0
"""By then what was done is committed, in both applications' settings below."""
WORKER: Final = {
    "group.id": "workers",
    "key.converter": "org.apache.kafka.connect.storage.StringConverter",
    "value.converter": "org.apache.kafka.connect.storage.StringConverter",
    "offset.storage.topic": "__connect-offsets", "offset.storage.replication.factor": 3, "offset.storage.partitions": 5,
    "config.storage.topic": "__connect-configs", "config.storage.replication.factor": 3,
    "status.storage.topic": "__connect-status", "status.storage.replication.factor": 3,
    "offset.flush.interval.ms": 1000, "session.timeout.ms": 10_000, "heartbeat.interval.ms": 1000,
    "scheduled.rebalance.max.delay.ms": 3000, "plugin.discovery": "service_load",
    "connector.client.config.override.policy": "All",
}  # fmt: skip
STREAMS: Final = {
    "replication.factor": 3, "commit.interval.ms": 500, "session.timeout.ms": 10_000, "heartbeat.interval.ms": 1000,
}  # fmt: skip
COUNTS: Final = (
    "--topic streams-wordcount-output --from-beginning --timeout-ms 5000 --formatter-property print.key=true "
    "--formatter-property value.deserializer=org.apache.kafka.common.serialization.LongDeserializer"
)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LocalCluster]:
    if why := missing():
        pytest.skip(why)
    with LocalCluster(tmp_path / "nodes", kafka=True) as cluster:
        cluster.start().wait_ready()
        cluster.wait_all_known()
        yield cluster


@contextmanager
def java(directory: Path, name: str, main: str, settings: dict[str, Any]) -> Iterator[subprocess.Popen[bytes]]:
    config = directory / f"{name}.properties"
    config.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
    with (directory / f"{name}.log").open("ab") as log:
        process = subprocess.Popen([*JAVA, "-cp", f"{jars()}/*", main, str(config)], stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.kill()
        process.wait(10)


def until(what: str, good: Callable[[], bool]) -> None:
    end = time.monotonic() + SOON_S
    while not good():
        assert time.monotonic() < end, f"not in {SOON_S} s: {what}"
        time.sleep(0.3)


def rest(port: int, path: str, body: object = None) -> Any:
    """What a worker of Connect answers; None while it does not, or is between two generations."""
    data = None if body is None else json.dumps(body).encode()
    url, headers = f"http://127.0.0.1:{port}{path}", {"Content-Type": "application/json"}
    request = urllib.request.Request(url, data, headers, method="GET" if data is None else "PUT")
    try:
        with urllib.request.urlopen(request, timeout=10) as reply:
            return json.load(reply)
    except OSError:
        return None


def told(port: int, path: str, body: object) -> bool:
    return rest(port, path, body) is not None


def address(cluster: LocalCluster) -> tuple[str, int]:
    host, port = cluster[1].address("kafka").split(":")
    return host, int(port)


def test_connect_loses_and_repeats_nothing(cluster: LocalCluster, tmp_path: Path) -> None:
    source, sink = tmp_path / "source", tmp_path / "sink"
    source.write_text("".join(f"{number}\n" for number in range(1000)))
    first = free_base_port(2)
    ports = (first, first + 1)
    main = "org.apache.kafka.connect.cli.ConnectDistributed"
    with ExitStack() as stack:
        workers = {
            port: stack.enter_context(
                java(
                    tmp_path, f"worker-{port}", main,
                    WORKER | {"bootstrap.servers": cluster.kafka_bootstrap, "listeners": f"http://127.0.0.1:{port}"},
                )
            )
            for port in ports
        }  # fmt: skip
        until("workers", lambda: all(rest(port, "/connectors") is not None for port in ports))
        connectors: dict[str, dict[str, object]] = {
            "in": {"connector.class": "FileStreamSource", "file": str(source), "topic": "lines"},
            "out": {
                "connector.class": "FileStreamSink", "file": str(sink), "topics": "lines",
                "consumer.override.session.timeout.ms": 10_000,
            },
        }  # fmt: skip
        for name, config in connectors.items():
            until(name, partial(told, first, f"/connectors/{name}/config", config))
        until("1000 lines", lambda: sink.exists() and len(sink.read_text().splitlines()) == 1000)
        time.sleep(COMMITTED_S)
        works = rest(first, "/connectors/out/status")["tasks"][0]["worker_id"]
        workers[int(works.rsplit(":", 1)[1])].kill()
        cluster[2].kill()
        with source.open("a") as more:
            more.write("".join(f"{number}\n" for number in range(1000, 2000)))
        until("2000 lines", lambda: len(set(sink.read_text().splitlines())) == 2000)
        assert sorted(map(int, sink.read_text().splitlines())) == list(range(2000))


def counts(cluster: LocalCluster) -> dict[str, int]:
    """The last count of each word."""
    rows = (line.split("\t") for line in run(address(cluster), "consumer.ConsoleConsumer", COUNTS).splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) == 2}


def test_streams_count_every_word(cluster: LocalCluster, tmp_path: Path) -> None:
    topic = "--create --partitions 4 --replication-factor 3 --topic"
    run(address(cluster), "TopicCommand", f"{topic} streams-plaintext-input")
    run(address(cluster), "TopicCommand", f"{topic} streams-wordcount-output --config cleanup.policy=compact")
    words = "".join(f"alpha beta{number % 7}\n" for number in range(700))
    main = "org.apache.kafka.streams.examples.wordcount.WordCountDemo"
    with ExitStack() as stack:
        instances = [
            stack.enter_context(
                java(
                    tmp_path, name, main,
                    STREAMS | {"bootstrap.servers": cluster.kafka_bootstrap, "state.dir": tmp_path / f"{name}-state"},
                )
            )
            for name in ("one", "two")
        ]  # fmt: skip
        run(address(cluster), "ConsoleProducer", "--topic streams-plaintext-input", words)
        until("700 of a word", lambda: counts(cluster).get("alpha") == 700)
        time.sleep(COMMITTED_S)
        instances[0].kill()
        cluster[3].kill()
        run(address(cluster), "ConsoleProducer", "--topic streams-plaintext-input", words)
        until("1400 of a word", lambda: counts(cluster).get("alpha", 0) >= 1400)
        assert counts(cluster) == {"alpha": 1400} | {f"beta{number}": 200 for number in range(7)}
