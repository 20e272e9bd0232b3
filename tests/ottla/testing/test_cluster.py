"""The cluster that users test with: real processes, ready fast, gone afterwards."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

import ottla.testing
from ottla import Admin, Consumer, Producer
from tests.cluster.harness import ROOT

pytestmark = pytest.mark.cluster


async def test_three_nodes_survive_a_dead_leader() -> None:
    began = time.monotonic()
    async with ottla.testing.cluster(3) as c:
        print(f"three nodes were ready after {time.monotonic() - began:.2f} s")
        async with Admin(c.bootstrap) as admin:
            await admin.create_topic("events", partitions=1, replication_factor=3)
        async with Producer(c.bootstrap) as producer:
            await (await producer.send("events", b"before"))
            victim = await c.leader("events")
            c.kill(victim)
            assert not c[victim].running
            await (await producer.send("events", b"after"))
            assert await c.leader("events") != victim
            await c.start(victim)
        async with Consumer("events", bootstrap=c.bootstrap) as consumer:
            assert [(await anext(consumer)).value for _ in range(2)] == [b"before", b"after"]
        pids = [node.pid for node in c.nodes.values()]
        directory = c[1].data.parent
        assert directory.exists()
    assert not directory.exists()
    for pid in pids:
        assert pid is not None
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


async def test_nodes_pause_stop_restart_and_lose_their_disks(tmp_path: Path) -> None:
    async with ottla.testing.cluster(1, directory=tmp_path, settings={"broker.rack": "here"}) as c:
        c.pause(1)
        assert c[1].running
        assert (await c[1].http("/healthz"))[0] == 0
        c.resume(1)
        assert (await c[1].http("/healthz"))[0] == 200
        await c.restart(1)
        assert (await c[1].http("/readyz"))[0] == 200
        await c.stop(1)
        with pytest.raises(ottla.testing.ClusterFailed, match="does not run"):
            c.kill(1)
        c.wipe(1)
        await c.start(1)
        with pytest.raises(ottla.testing.ClusterFailed, match="runs already"):
            await c.start(1)
    assert (tmp_path / "node-1.log").exists()


async def test_a_node_that_cannot_start_says_why() -> None:
    with pytest.raises(ottla.testing.ClusterFailed, match=r"log\.retention\.mss"):
        async with ottla.testing.cluster(1, settings={"log.retention.mss": 1}):
            pass
    with pytest.raises(ValueError, match="at least one"):
        ottla.testing.cluster(0)


def test_the_documented_example_runs(tmp_path: Path) -> None:
    (block,) = re.findall(
        r"^```python\n(import pytest\n.*?)^```$", (ROOT / "docs/python-client.md").read_text(), re.DOTALL | re.MULTILINE
    )
    (tmp_path / "test_example.py").write_text(block)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-o", "asyncio_mode=auto", "-p", "no:cacheprovider", str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_killed_program_leaves_no_node_behind() -> None:
    program = """
import asyncio, os, ottla.testing
async def main():
    async with ottla.testing.cluster(1) as c:
        print(c[1].pid, flush=True)
        os.kill(os.getpid(), 9)
asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        timeout=60,
        check=False,
    )
    pid = int(done.stdout)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.02)
    raise AssertionError(f"node {pid} outlives its program")


async def test_a_node_that_is_cut_off_leads_nothing_and_catches_up() -> None:
    async with ottla.testing.cluster(3, faults=True) as c, Admin(c.bootstrap) as admin:
        await admin.create_topic("t", partitions=1, replication_factor=3)
        alone = await c.leader("t")
        others = [node_id for node_id in c.nodes if node_id != alone]
        c.partition([alone], others)
        async with Producer([c[i].address for i in others]) as producer:
            await producer.send_and_wait("t", b"x")
            assert (await admin.describe_topic("t")).partitions[0].leader_id in (*others, alone)
        async with Admin(c[others[0]].address) as theirs:
            assert (await theirs.describe_topic("t")).partitions[0].leader_id in others
        c.heal()
        async with Consumer("t", bootstrap=c[alone].address) as consumer:
            assert (await anext(consumer)).value == b"x"


async def test_hooks_skew_clocks_and_are_refused_by_name() -> None:
    async with ottla.testing.cluster(1, faults=True) as c:
        await c[1].hook(clock_ms=7_200_000)
        async with Admin(c.bootstrap) as admin, Producer(c.bootstrap) as producer:
            await admin.create_topic("t", partitions=1, configs={"message.timestamp.type": "LogAppendTime"})
            stored = await producer.send_and_wait("t", b"x")
            assert abs(stored.timestamp / 1000 - time.time() - 7200) < 60
            await c[1].hook(clock_ms=None)
            stored = await producer.send_and_wait("t", b"x")
            assert abs(stored.timestamp / 1000 - time.time()) < 60
        with pytest.raises(ottla.testing.ClusterFailed, match="there is no clock"):
            await c[1].hook(clock=1)
        with pytest.raises(ValueError, match="no nodes"):
            c.partition([4])


async def test_without_faults_nothing_can_be_set() -> None:
    async with ottla.testing.cluster(1) as c:
        with pytest.raises(ottla.testing.ClusterFailed, match="faults=True"):
            c.partition([1])
        with pytest.raises(ottla.testing.ClusterFailed, match="faults=True"):
            await c[1].hook(clock_ms=1)
