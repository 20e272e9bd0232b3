"""The demo as a stranger runs it, with fewer events."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from examples.demo import flights
from ottla.cli.failure import Failure

ROOT = Path(__file__).resolve().parents[3]
COMMAND = [sys.executable, "-m", "examples.demo"]

pytestmark = [pytest.mark.cluster, pytest.mark.xdist_group("cli-cluster")]


@pytest.fixture(scope="module", autouse=True)
def data() -> None:
    try:
        flights.install()
    except Failure as failure:
        pytest.skip(str(failure))


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def test_a_kill_in_mid_stream_loses_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [*COMMAND, "--events", "60000"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = dict(re.findall(r"^(\w+) +([\d,]+)(?: |$)", done.stdout, re.MULTILINE))
    assert report["sent"] == report["acknowledged"] == report["read"] == "60,000"
    assert report["lost"] == report["duplicated"] == report["changed"] == report["misplaced"] == "0"
    assert "kill -9 node" in done.stdout
    assert "longest pause" in done.stdout
    assert "kill -9 consumer" in done.stdout
    assert report["group"] == "60,000"
    assert report["skipped"] == report["unexplained"] == "0"
    assert re.search(r"^taken over +its partitions had new owners [\d.]+ s after the kill$", done.stdout, re.MULTILINE)
    assert "3 of 3 nodes up, 6 of 6 partitions with all replicas in sync" in done.stdout
    assert list((tmp_path / ".demo").iterdir()) == []


def test_ctrl_c_leaves_no_process_behind(tmp_path: Path) -> None:
    demo = subprocess.Popen(COMMAND, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, text=True)
    try:
        assert demo.stdout is not None
        for line in demo.stdout:
            if "acknowledged" in line:
                break
        nodes = _children(demo.pid)
        assert len(nodes) == 3 + 3, "nodes and consumers"
        demo.send_signal(signal.SIGINT)
        assert demo.wait(20) == 130
        assert [pid for pid in nodes if Path(f"/proc/{pid}").exists()] == []
    finally:
        demo.kill()
        demo.communicate()


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
def test_nor_does_kill_9(tmp_path: Path) -> None:
    demo = subprocess.Popen(COMMAND, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, text=True)
    assert demo.stdout is not None
    for line in demo.stdout:
        if "is ready" in line:
            break
    nodes = _children(demo.pid)
    assert len(nodes) == 3
    demo.kill()
    demo.communicate()
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() for pid in nodes) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert [pid for pid in nodes if Path(f"/proc/{pid}").exists()] == []


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
