"""The programs of the client's pages run as they stand there, but for the ports."""

import re
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from ottla.cli.local import LocalCluster
from tests.ottla.cli.conftest import environment
from tests.ottla.cli.test_readme import ROOT, run
from tests.ottla.client.registries import running

pytestmark = [pytest.mark.cluster, pytest.mark.xdist_group("cli-cluster")]

PAGE = (ROOT / "docs/python-client.md").read_text()
FIRST, DELIVERY, SERIALIZERS, BLOCKING, IN_A_TEST = re.findall(
    r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE
)
AROUND_DELIVERY = """
import asyncio
from ottla import Producer

async def main():
    key, value = b"k", b"v"
    async with Producer("127.0.0.1:9192") as producer:
{}
        print("stored at", stored.offset)

asyncio.run(main())
"""


def at(cluster: LocalCluster, program: str) -> str:
    return program.replace("127.0.0.1:9192", cluster.nodes[0].address)


def first_line(cluster: LocalCluster, program: str) -> str:
    """Of a program that reads until Ctrl-C."""
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", at(cluster, program)],
        env=environment(cluster.bootstrap),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert line, errors
    return line


def test_one_connection_for_all_three(cluster: LocalCluster) -> None:
    assert first_line(cluster, FIRST).endswith(" b'hello'\n")


def test_a_delivery(cluster: LocalCluster) -> None:
    program = AROUND_DELIVERY.format(textwrap.indent(DELIVERY, " " * 8))
    done = run("python", at(cluster, program), cluster)
    assert done.returncode == 0, done.stderr
    assert "stored at " in done.stdout


def test_serializers(cluster: LocalCluster) -> None:
    done = run("python", at(cluster, SERIALIZERS), cluster)
    assert (done.returncode, done.stderr) == (0, "")


def test_metrics_and_traces(cluster: LocalCluster) -> None:
    page = (ROOT / "docs/observability-client.md").read_text()
    measured, traced = re.findall(r"^```python\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    done = run("python", at(cluster, measured), cluster)
    assert done.stdout.startswith("b'hello' 1\n"), done.stderr
    assert 'ottla_producer_records_acknowledged_total{client="orders"} 1.0' in done.stdout
    done = run("python", at(cluster, traced), cluster)
    trace_id, header = done.stdout.split()
    assert header.split("-")[1] == trace_id, done.stderr


def test_a_schema_registry(cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    page = (ROOT / "docs/schema-registry.md").read_text()
    (program,) = re.findall(r"^```python\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    with running() as (url, store):
        done = run("python", at(cluster, program.replace("http://127.0.0.1:8081", url)), cluster)
    assert (done.returncode, done.stdout) == (0, "7\n"), done.stderr
    assert list(store.subjects) == ["orders-avro-value"]


def test_without_asyncio(cluster: LocalCluster) -> None:
    assert first_line(cluster, BLOCKING).strip().isdigit()


def test_in_a_test_of_ones_own(tmp_path: Path) -> None:
    file = tmp_path / "test_mine.py"
    file.write_text(IN_A_TEST)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-o", "asyncio_mode=auto", "--rootdir", tmp_path, file],
        env=environment("") | {"PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout
