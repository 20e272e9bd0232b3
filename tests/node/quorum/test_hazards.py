"""The rows of the bug catalogue that need the quorum's shell: real gRPC on loopback, real files, one loop."""

import asyncio
import time

import pytest

from node.quorum import store
from tests.node.quorum.harness import Nodes, propose, until


async def test_row_26_after_a_failed_write_the_node_starts_again_with_all_it_promised(tmp_path, monkeypatch):
    """redpanda 7407: a crash loop, for what the failed write left behind was asserted away at the next start."""
    async with Nodes(tmp_path, 1) as nodes:
        await nodes.start()
        await nodes.leader()
        propose(nodes[1], b"kept")
        await until(lambda: nodes[1].recorder.data == [b"kept"])
        works = store.SyncJob.run

        def fails(job):
            raise OSError(5, "the disk is gone")

        for _ in range(3):
            monkeypatch.setattr(store.SyncJob, "run", fails)
            propose(nodes[1], b"lost or not")
            await until(lambda: nodes[1].quorum.failed.done())
            with pytest.raises(OSError, match="the disk is gone"):
                nodes[1].quorum.failed.result()
            assert b"lost or not" not in nodes[1].recorder.data
            await nodes.crash(1)
            monkeypatch.setattr(store.SyncJob, "run", works)
            await nodes.start(1)
            await nodes.leader()
            await until(lambda: nodes[1].recorder.data[:1] == [b"kept"])
            nodes[1].recorder.committed.clear()


@pytest.mark.parametrize("slow", ["leader", "followers"])
async def test_row_28_heartbeats_do_not_wait_for_a_slow_sync(tmp_path, monkeypatch, slow):
    """PD/TiDB: leaders changed under load, for their heartbeats stood behind fsync in one queue."""
    async with Nodes(tmp_path, 3) as nodes:
        await nodes.start()
        leader = await nodes.leader()
        term = leader.quorum.leadership.term
        works = store.SyncJob.run

        def slowly(job):
            if (f"{leader.path}/" in job.state_path) == (slow == "leader"):
                time.sleep(0.7)
            works(job)

        monkeypatch.setattr(store.SyncJob, "run", slowly)
        end = time.monotonic() + 4
        while time.monotonic() < end:
            propose(leader, b"x")
            await asyncio.sleep(0.05)
        monkeypatch.setattr(store.SyncJob, "run", works)
        assert leader.quorum.leadership.term == term
        assert leader.quorum.leadership.is_self
        await until(lambda: all(node.recorder.data == leader.recorder.data for node in nodes.by_id.values()))
        assert len(leader.recorder.data) > 10
