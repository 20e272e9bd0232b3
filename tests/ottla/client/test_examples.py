"""The programs in examples/python run as they are."""

import os
import runpy
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

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


def test_a_web_service(bootstrap: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTTLA_BOOTSTRAP", bootstrap)
    app = runpy.run_path(str(Path(ROOT) / "examples" / "python" / "web.py"))["app"]
    with TestClient(app) as client:
        for cents in (1, 20, 300):
            assert client.post("/orders", json={"customer": "ann", "cents": cents}).status_code == 201
        assert client.post("/orders", json={"customer": "ann", "cents": -1}).status_code == 422
        give_up = time.monotonic() + 20
        while (total := client.get("/totals/ann").json()) != {"cents": 321}:
            assert time.monotonic() < give_up, total
        assert client.get("/healthz").json() == {"status": "ok"}
        assert 'ottla_producer_records_acknowledged_total{client="orders"} 3.0' in client.get("/metrics").text
