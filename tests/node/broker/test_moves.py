"""What a broker makes of a partition that moves: real logs, real replication (invariants.md 1, 32 and 36)."""

import asyncio
import os
from pathlib import Path

import pytest

from ottla.protocol.errors import ApiError
from ottla.v1 import error_pb2 as pb
from tests.node.broker.cluster import TOPIC_ID, batch, running, until
from tests.node.broker.test_replica import fetched, leader, state


def test_what_is_added_asks_for_no_larger_isr_until_the_move_is_complete() -> None:
    replica = leader(state((1,), replicas=(1, 2, 3), adding=(2, 3), target=(1, 2, 3)), min_isr=None)
    replica.appended(5, 0)
    assert replica.high_watermark == 5, "of one replica, as before"
    replica.metadata(state((1, 2, 3), replicas=(1, 2, 3), partition_epoch=1), 0)
    replica.appended(6, 0)
    fetched(replica, 2, 6)
    fetched(replica, 3, 6)
    replica.metadata(state((1,), replicas=(1, 2, 3), partition_epoch=2), 0)
    replica.appended(7, 0)
    assert (replica.high_watermark, replica.enough_in_sync) == (6, False), "two of three must be in sync now"


def test_who_is_added_holds_the_mark_of_nobody() -> None:
    replica = leader(state(replicas=(1, 2, 3, 4), adding=(4,), target=(4, 2, 3)))
    replica.appended(5, 0)
    fetched(replica, 2, 5)
    fetched(replica, 3, 5)
    assert replica.high_watermark == 5


async def test_a_replica_moves_and_takes_its_log_with_it(tmp_path: Path) -> None:
    async with running(tmp_path) as cluster:
        cluster.create([1, 2])
        await cluster.produce(1, batch(b"first"))
        cluster.change(replicas=(1, 2, 3), directories=(bytes(16),) * 3, adding=(3,), target=(3, 2))
        await until(lambda: cluster.isr() == (1, 2, 3))
        await cluster.produce(1, batch(b"second"))
        directory = cluster.log(1).directory
        cluster.change(leader=3, replicas=(3, 2), directories=(bytes(16),) * 2, isr=(3, 2), adding=(), target=())
        assert not os.path.exists(directory)  # noqa: ASYNC240
        await cluster.produce(3, batch(b"third"))
        assert cluster.values(3) == [b"first", b"second", b"third"]
        with pytest.raises(ApiError, match="node 1 does not lead events-0, node 3 does") as refused:
            cluster.nodes[1].broker.list_offset(TOPIC_ID, 0, -1, None)
        assert refused.value.code == pb.ERROR_CODE_NOT_LEADER_OR_FOLLOWER

        cluster.change(replicas=(3, 2, 1), directories=(bytes(16),) * 3, adding=(1,), target=(3, 2, 1))
        await until(lambda: set(cluster.isr()) == {1, 2, 3})
        assert cluster.bytes_of(1) == cluster.bytes_of(3), "it began again with nothing"


async def test_who_waits_for_a_replica_that_moves_away_is_sent_to_the_leader(tmp_path: Path) -> None:
    async with running(tmp_path, nodes=2) as cluster:
        cluster.create([1, 2])
        broker = cluster.nodes[1].broker
        await cluster.nodes[2].kill()
        waiting = asyncio.ensure_future(cluster.produce(1, batch(b"waits")))
        await until(lambda: cluster.log(1).log_end_offset == 1)
        cluster.change(leader=2, replicas=(2,), directories=(bytes(16),), isr=(2,))
        with pytest.raises(ApiError, match="moved away before the batch was committed") as told:
            await waiting
        assert told.value.code == pb.ERROR_CODE_NOT_LEADER_OR_FOLLOWER
        assert broker.partition(TOPIC_ID, 0) is None
