"""Kafka's command-line tools: runs one, and says of its output what two brokers must say alike."""

import re
import subprocess
from pathlib import Path
from typing import Final

from tests.peers.apache_kafka import JAVA, jars

TOOL_S: Final = 60.0
OWN: Final = (
    (r"SLF4J.*\n", ""),
    (r"^(\tat |Caused by: |java\.util\.concurrent\.).*\n", ""),
    (r"127\.0\.0\.1[: ]\d+", "ADDRESS"),
    (r"TopicId: \S+", "TopicId: ID"),
    (r"ClusterId: .*", "ClusterId: ID"),
    (r"Cluster ID: .*", "Cluster ID: ID"),
    (r"\b1[6-9]\d{11}\b *", "TIME "),
    (r"synonyms=\{.*\}", "synonyms"),
    (r"log_dirs\":\[[^]]*\]", "log_dirs"),
    (r"(Exception|Error while executing [a-z ]*|failed due to [\w.]*): .*", r"\1: WHY"),
    (r"__consumer_offsets.*\n", ""),
    (r"min\.insync\.replicas=1,?", ""),
)
"""What is each broker's own: its ids, addresses, times, words of refusals, and how its topic of positions is
made. Kafka makes its default of min.insync.replicas a config of the cluster, so that each topic shows it."""


def run(address: tuple[str, int], tool: str, arguments: str, stdin: str = "") -> str:
    """What it prints, with its exit code. `arguments` are told apart by blanks."""
    name = tool if tool.startswith("kafka.") else f"org.apache.kafka.tools.{tool}"
    at, asked = ["--bootstrap-server", f"{address[0]}:{address[1]}"], arguments.split()
    done = subprocess.run(
        # Of a tool that has commands of its own the command comes first.
        [*JAVA, "-cp", f"{jars()}/*", name, *([*asked, *at] if tool == "ClusterTool" else [*at, *asked])],
        input=stdin, capture_output=True, text=True, timeout=TOOL_S, check=False,
    )  # fmt: skip
    return told(done.stdout + done.stderr, done.returncode)


def told(text: str, code: int) -> str:
    for pattern, word in OWN:
        text = re.sub(pattern, word, text, flags=re.MULTILINE)
    return f"{text.strip()}\nexit code {code}"


def file(directory: Path, name: str, text: str) -> str:
    path = directory / name
    path.write_text(text)
    return str(path)
