"""Three nodes become five, and three others are left of them, under load: nothing fails, nothing is lost."""

import asyncio
import json
import time
from pathlib import Path

import pytest

from ottla import Admin, Consumer, Producer
from ottla.cli.local import LISTENERS, LocalCluster, LocalNode
from tests.cluster.harness import free_base_port
from tests.cluster.test_moves import ottla

pytestmark = [pytest.mark.cluster, pytest.mark.long, pytest.mark.timeout(180)]


async def until_ready(nodes: list[LocalNode]) -> None:
    give_up = time.monotonic() + 60
    while not all([await asyncio.to_thread(node.ready) for node in nodes]):
        assert time.monotonic() < give_up
        await asyncio.sleep(0.05)


async def ended(node: LocalNode) -> None:
    give_up = time.monotonic() + 20
    while node.running:
        assert time.monotonic() < give_up, f"{node.node_id} {node.state}"
        await asyncio.sleep(0.05)
    assert f"node {node.node_id} was unregistered" in node.last_log_lines()
    assert "Traceback" not in node.last_log_lines()


async def test_three_nodes_become_five_and_three_under_load(tmp_path: Path) -> None:
    base = free_base_port(5)
    voters = [f"{n}@127.0.0.1:{base + n - 1 + LISTENERS['control']}" for n in (1, 2, 3)]
    settings = {"controller.quorum.voters": voters, "controller.quorum.auto.join.enable": False}
    with LocalCluster(5, tmp_path, base, settings) as cluster:  # type: ignore[arg-type]
        cluster.write_configs()
        nodes = cluster.nodes
        for node in nodes[:3]:
            cluster.start_node(node)
        await until_ready(nodes[:3])
        at = nodes[0].address
        sent: list[tuple[int, int, bytes]] = []
        ending = asyncio.Event()

        async def write(producer: Producer, number: int) -> None:
            while not ending.is_set():
                value = b"%d-%d" % (number, len(sent))
                done = await producer.send_and_wait("busy", value, partition=len(sent) % 6)
                sent.append((done.partition, done.offset, value))

        async def replicas(admin: Admin) -> dict[int, int]:
            view = await admin.describe_cluster()
            found = [p.replicas for topic in view.topics.values() for p in topic.partitions]
            return {n: sum(n in each for each in found) for n in view.brokers}

        async with Admin(at) as admin, Producer(at, acks="all") as producer:
            await admin.finalize_feature()
            await admin.create_topic("busy", partitions=6, replication_factor=3)
            writing = [asyncio.create_task(write(producer, n)) for n in range(4)]
            for node in nodes[3:]:
                cluster.start_node(node)
            await until_ready(nodes[3:])
            shown = await ottla(at, "cluster", "balance", "--dry-run")
            assert "busy:" in shown.stdout, shown.stderr
            assert "node 4 has 0" in shown.stdout
            assert (await replicas(admin))[4] == 0
            balanced = await ottla(at, "cluster", "balance", "--watch")
            assert balanced.returncode == 0, balanced.stderr
            counts = await replicas(admin)
            assert sorted(counts) == [1, 2, 3, 4, 5]
            assert max(counts.values()) - min(counts.values()) <= 1, counts
            assert (await ottla(at, "cluster", "balance")).stdout == "Nothing has to move.\n"

            refused = await ottla(at, "node", "decommission", "3", "--watch")
            assert "node 3 is one of 3 voters: 2 bear no loss" in refused.stderr
            assert "ottla cluster voter add 4" in refused.stderr
            await admin.add_voter(4)
            up = await ottla(at, "node", "unregister", "5")
            assert "node 5 has replicas of" in up.stderr
            for node in (nodes[4], nodes[2]):
                gone = await ottla(at, "node", "decommission", str(node.node_id), "--watch")
                assert gone.returncode == 0, gone.stderr
                assert gone.stdout.endswith(f"Node {node.node_id} is unregistered: its process ends by itself.\n")
                await ended(node)
            ending.set()
            await asyncio.gather(*writing)
            assert sorted(await replicas(admin)) == [1, 2, 4]
            assert sorted(v.node_id for v in (await admin.describe_quorum()).voters) == [1, 2, 4]
            too_few = await ottla(at, "node", "decommission", "4", "--dry-run")
            assert "3 voters" in too_few.stderr
            assert json.loads((await ottla(at, "cluster", "health", "--wait", "10s", "--json")).stdout)["healthy"]

            cluster.start_node(nodes[4])
            await ended(nodes[4])
            assert "data directory away" in nodes[4].last_log_lines()
            assert sorted(await replicas(admin)) == [1, 2, 4]

        assert len(sent) > 200
        async with Consumer(bootstrap=at) as consumer:
            await consumer.assign([("busy", n) for n in range(6)])
            found: set[tuple[int, int, bytes]] = set()
            for _ in range(100):
                found.update((r.partition, r.offset, r.value) for r in await consumer.poll(timeout_ms=500))
                if found >= set(sent):
                    break
        assert not set(sent) - found
