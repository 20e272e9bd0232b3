"""Apache Kafka from Maven: one node in KRaft mode on loopback, in a directory of the test."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.peers.wire import Closed, Connection

VERSION: Final = "4.3.1"
ROOT: Final = Path(__file__).resolve().parents[2]
JARS: Final = ROOT / "build" / f"apache-kafka-{VERSION}-all"
START_S: Final = 90.0
JAVA: Final = ["java", "-Xmx400m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
ARTIFACTS: Final = (
    "kafka_2.13", "kafka-tools", "connect-runtime", "connect-file", "kafka-streams-examples", "connect-mirror",
)  # fmt: skip
GET_S: Final = 1800.0
POM: Final = """\
<project><modelVersion>4.0.0</modelVersion><groupId>ottla</groupId><artifactId>peers</artifactId><version>1</version>
<dependencies>{}</dependencies></project>
"""
DEPENDENCY: Final = (
    "<dependency><groupId>org.apache.kafka</groupId><artifactId>{}</artifactId><version>{}</version></dependency>"
)
LOG: Final = """\
rootLogger.level=WARN
rootLogger.appenderRefs=c
rootLogger.appenderRef.c.ref=c
appenders=c
appender.c.name=c
appender.c.type=Console
appender.c.layout.type=PatternLayout
appender.c.layout.pattern=[%d] %p %m (%c)%n
"""
CLUSTER_ID: Final = "MkU3OEVBNTcwNTJENDM2Qk"
# What Ottla's settings in conftest.py are, too, where it has them; the rest lets one node do.
SETTINGS: Final = {
    "auto.create.topics.enable": "true",
    "offsets.topic.replication.factor": 1,
    "offsets.topic.num.partitions": 1,
    "transaction.state.log.replication.factor": 1,
    "transaction.state.log.min.isr": 1,
    "group.initial.rebalance.delay.ms": 0,
}


def missing() -> str:
    """Why Apache Kafka cannot be had here; empty where it can."""
    if not shutil.which("java"):
        return "needs Java 17 or later: no `java` on the PATH"
    if not JARS.exists() and not shutil.which("mvn"):
        return "needs Maven, to get Apache Kafka: no `mvn` on the PATH"
    return ""


def jars() -> Path:
    """The directory of Kafka's jars; they are got once."""
    if not JARS.exists():
        half = JARS.with_name(f"{JARS.name}.half")
        half.mkdir(parents=True, exist_ok=True)
        dependencies = "".join(DEPENDENCY.format(name, VERSION) for name in ARTIFACTS)
        (half / "pom.xml").write_text(POM.format(dependencies))
        command = ["mvn", "-q", "-B", "dependency:copy-dependencies", f"-DoutputDirectory={half}"]
        subprocess.run(command, cwd=half, check=True, timeout=GET_S)
        half.rename(JARS)
    return JARS


@contextmanager
def apache_kafka(directory: Path, port: int, control_port: int) -> Iterator[tuple[str, int]]:
    """Its address, once it serves; its log is kafka.log in the directory."""
    settings = {
        "process.roles": "broker,controller",
        "node.id": 1,
        "controller.quorum.voters": f"1@127.0.0.1:{control_port}",
        "controller.listener.names": "CONTROLLER",
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{control_port}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": directory / "data",
        **SETTINGS,
    }
    config = directory / "server.properties"
    config.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
    (directory / "log4j2.properties").write_text(LOG)
    java = [*JAVA, "-cp", f"{jars()}/*", f"-Dlog4j2.configurationFile={directory}/log4j2.properties"]
    with (directory / "kafka.log").open("ab") as log:
        format_ = [*java, "kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", str(config)]
        subprocess.run(format_, check=True, stdout=log, stderr=log, timeout=START_S)
        process = subprocess.Popen([*java, "kafka.Kafka", str(config)], stdout=log, stderr=log)
        try:
            wait_until_served(("127.0.0.1", port))
            yield "127.0.0.1", port
        finally:
            process.terminate()
            process.wait(30)


def wait_until_served(address: tuple[str, int]) -> None:
    """Until it answers, and coordinates groups."""
    end = time.monotonic() + START_S
    while True:
        try:
            connection = Connection(address)
            connection.send("FindCoordinator", 4, {"key_type": 0, "coordinator_keys": ["first"]})
            answer = connection.receive()
            connection.send("OffsetFetch", 5, {"group_id": "first", "topics": None})
            if answer["coordinators"][0]["error_code"] == connection.receive()["error_code"] == 0:
                return
        except (OSError, Closed):
            pass
        if time.monotonic() > end:
            raise TimeoutError(f"{address} does not serve after {START_S} s")
        time.sleep(0.2)


if __name__ == "__main__":
    print(missing() or jars())
