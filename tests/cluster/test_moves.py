"""Partitions move between processes under load, and nothing acknowledged is lost."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from ottla import Admin, Consumer, Producer
from ottla.cli.local import LocalCluster
from tests.cluster.harness import free_base_port
from tests.ottla.cli.conftest import environment

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]


async def ottla(address: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "ottla.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
        env=environment(address),
    )


async def replicas_of(admin: Admin, number: int) -> tuple[list[int], list[int]]:
    partition = (await admin.describe_topic("busy")).partitions[number]
    return list(partition.replicas), sorted(partition.isr)


async def test_partitions_move_under_load_and_nothing_is_lost(tmp_path: Path) -> None:
    with LocalCluster(4, tmp_path, free_base_port(4)) as cluster:
        cluster.start()
        cluster.wait_ready(90)
        at = cluster.nodes[3].address
        sent: list[tuple[int, int, bytes]] = []
        ending = asyncio.Event()

        async def write(producer: Producer) -> None:
            while not ending.is_set():
                value = b"%d" % len(sent)
                done = await producer.send_and_wait("busy", value, partition=len(sent) % 2)
                sent.append((done.partition, done.offset, value))

        async with Admin(at) as admin, Producer(at, acks="all") as producer:
            await admin.create_topic("busy", assignments={0: [1, 2, 3], 1: [2, 3, 1]})
            writing = asyncio.create_task(write(producer))
            refused = await ottla(at, "partition", "move", "busy:0", "--replicas", "4,2,3")
            assert refused.returncode == 1
            assert "partitions move from metadata.version 5 on" in refused.stderr
            assert "ottla cluster finalize" in refused.stderr
            assert (await ottla(at, "cluster", "finalize")).returncode == 0

            moved = await ottla(at, "partition", "move", "busy:0", "--replicas", "4,2,3", "--wait")
            assert (moved.returncode, moved.stdout) == (0, "busy:0 moved from 1,2,3 to 4,2,3.\n"), moved.stderr
            assert await replicas_of(admin, 0) == ([4, 2, 3], [2, 3, 4])
            drained = await ottla(at, "node", "drain", "2", "--wait", "--json")
            assert drained.returncode == 0, drained.stderr
            assert {("busy", 0), ("busy", 1)} <= {(e["topic"], e["partition"]) for e in json.loads(drained.stdout)}
            assert await replicas_of(admin, 0) == ([4, 1, 3], [1, 3, 4])
            assert await replicas_of(admin, 1) == ([4, 3, 1], [1, 3, 4])

            shown = json.loads((await ottla(at, "cluster", "status", "--json")).stdout)
            assert [b["state"] for b in shown["brokers"]] == ["up", "draining", "up", "up"]
            assert shown["brokers"][1]["replicas"] == 0
            node_2 = cluster.nodes[1]
            cluster.kill(node_2)
            drained = await ottla(at, "partition", "move", "busy:1", "--replicas", "2,3,1")
            assert "[2] are drained and get nothing new" in drained.stderr
            assert (await ottla(at, "node", "resume", "2")).stdout == "Node 2 gets new replicas again.\n"
            waiting = await ottla(at, "partition", "move", "busy:1", "--replicas", "2,3,1")
            assert waiting.stdout.startswith("busy:1 moves from 4,3,1 to 2,3,1.\n"), waiting.stderr
            (shown,) = json.loads((await ottla(at, "partition", "list", "--json")).stdout)
            assert (shown["adding"], shown["removing"], shown["target"]) == ([2], [4], [2, 3, 1])
            assert "2 is" in shown["waits_for"]
            off = await ottla(at, "partition", "cancel", "busy:1")
            assert (off.returncode, off.stdout) == (0, "busy:1 is on 4,3,1.\n"), off.stderr
            assert (await ottla(at, "partition", "list")).stdout == "Nothing moves.\n"
            none_left = await ottla(at, "node", "drain", "4")
            assert "INVALID_REPLICATION_FACTOR" in none_left.stderr
            ending.set()
            await writing

        assert len(sent) > 100
        async with Consumer(bootstrap=at) as consumer:
            await consumer.assign([("busy", 0), ("busy", 1)])
            found: set[tuple[int, int, bytes]] = set()
            for _ in range(100):
                found.update((r.partition, r.offset, r.value) for r in await consumer.poll(timeout_ms=500))
                if found >= set(sent):
                    break
        assert not set(sent) - found
