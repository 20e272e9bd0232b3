"""An unclean election from the command line: nothing happens before somebody has accepted the loss."""

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ottla import Admin, Producer
from ottla.cli.local import LocalCluster, LocalNode
from tests.cluster.harness import free_base_port
from tests.ottla.cli.conftest import environment

pytestmark = [pytest.mark.cluster, pytest.mark.xdist_group("cli-cluster")]


def until_ready(node: LocalNode) -> None:
    deadline = time.monotonic() + 40
    while not node.ready():
        assert time.monotonic() < deadline, node.last_log_lines()
        time.sleep(0.1)


async def test_an_unclean_election_is_asked_for_twice(tmp_path: Path) -> None:
    with LocalCluster(3, tmp_path, free_base_port(3), kafka_port=0) as cluster:
        cluster.start()
        cluster.wait_ready(60)
        first, second, third = cluster.nodes
        async with Admin(third.address) as admin, Producer(third.address) as producer:
            await admin.create_topic("risky", assignments={0: [1, 2]}, configs={"min.insync.replicas": "1"})
            await producer.send_and_wait("risky", b"on both")
            cluster.kill(second)
            await producer.send_and_wait("risky", b"on the first alone")
        cluster.kill(first)
        cluster.start_node(second)
        await asyncio.to_thread(until_ready, second)
        async with Admin(third.address) as admin:
            for _ in range(300):
                if (await admin.describe_topic("risky")).partitions[0].leader_id is None:
                    break
                await asyncio.sleep(0.1)

        def elect(*options: str) -> "subprocess.CompletedProcess[str]":
            command = [sys.executable, "-m", "ottla.cli", "topic", "elect", "risky", "--unclean", "--json", *options]
            return subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
                env=environment(third.address),
            )

        refused = elect()
        assert refused.returncode == 1
        assert "loses acknowledged records for good" in refused.stderr
        assert "partition 0: node 2, " in refused.stderr
        assert json.loads(refused.stderr.splitlines()[-1])["error"]["code"] == "NOT_CONFIRMED"
        async with Admin(third.address) as admin:
            assert (await admin.describe_topic("risky")).partitions[0].leader_id is None

        held = elect("--yes")
        assert held.returncode == 0, held.stderr
        assert json.loads(held.stdout)[0]["leader"] == 2
        async with Admin(third.address) as admin:
            assert (await admin.describe_topic("risky")).partitions[0].leader_id == 2
