"""What the README tells a stranger to type works as it stands there."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ottla.cli.local import LocalCluster

ROOT = Path(__file__).resolve().parents[3]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(python|sh)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)

pytestmark = [pytest.mark.cluster, pytest.mark.xdist_group("cli-cluster")]


def run(language: str, block: str, cluster: LocalCluster) -> "subprocess.CompletedProcess[str]":
    """The block with nothing changed but the port."""
    command = [sys.executable, "-c", block] if language == "python" else ["sh", "-euxc", block]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.run(
        command,
        env={**os.environ, "OTTLA_BOOTSTRAP": cluster.bootstrap, "PATH": path},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=ROOT,
    )


@pytest.mark.parametrize(
    ("number", "output"),
    [
        (0, "hello, world"),
        (1, "b'world' b'hello'"),
        (2, "b'world' b'hello'"),
        (3, "b'world' b'hello"),
        (4, "world hello"),
        (5, "b'k' b'v'"),
    ],
    ids=["shell", "python", "aiokafka", "librdkafka", "kcat", "stub"],
)
def test_block(number: int, output: str, cluster: LocalCluster) -> None:
    language, block = BLOCKS[number]
    if language == "sh" and "kcat" in block and shutil.which("kcat") is None:
        pytest.skip("kcat is not installed")
    if "aiokafka" in block:
        pytest.importorskip("aiokafka")
    kafka = cluster.nodes[0].kafka_address
    assert kafka is not None
    for topic in re.findall(r"from-k\w+", block):
        # `ottla dev` makes topics by their names, this cluster does not.
        run("sh", f"ottla topic create {topic} --partitions 3 || true", cluster)
    block = block.replace("127.0.0.1:9192", cluster.nodes[0].address).replace("localhost:9092", kafka)
    done = run(language, block, cluster)
    assert done.returncode == 0, done.stderr
    assert output in done.stdout


def test_every_file_that_it_links_is_there() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_every_make_target_that_it_names_is_there() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^    make (\w+)", README, re.MULTILINE))
    assert {"demo", "test"} <= targets
    assert [target for target in targets if not re.search(rf"^{target}:", makefile, re.MULTILINE)] == []
