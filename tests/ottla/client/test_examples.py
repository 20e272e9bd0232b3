"""The programs in examples/python run as they are."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.harness import ROOT, LocalCluster

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with LocalCluster(tmp_path_factory.mktemp("examples"), nodes=1) as cluster:
        cluster.start().wait_ready()
        yield cluster.bootstrap


def run(bootstrap: str, program: str, *arguments: str) -> list[str]:
    environ = os.environ | {"OTTLA_BOOTSTRAP": bootstrap, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, str(Path(ROOT) / "examples" / "python" / program), *arguments],
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_orders_are_written_and_worked_on_once(bootstrap: str) -> None:
    assert len(run(bootstrap, "produce.py", "orders", "10")) == 10
    first = run(bootstrap, "consume.py", "orders", "billing", "6")
    second = run(bootstrap, "consume.py", "orders", "billing", "4")
    assert len(set(first + second)) == 10


def test_without_asyncio(bootstrap: str) -> None:
    assert run(bootstrap, "plain.py") == ["b'hello' at offset 0"]
    assert run(bootstrap, "plain.py") == ["b'hello' at offset 1"]
