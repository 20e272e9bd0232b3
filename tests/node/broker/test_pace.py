"""What moves bring to a node comes no faster than it may; the ISR is never held up (invariants.md 1, 42)."""

import time
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from node.broker.pace import LOOK_S, RATE, MovePace
from node.broker.settings import BrokerSettings
from node.metadata.image import Image, Partition
from tests.node.broker.cluster import batch, running, until


class Replica:
    """As far as the pace looks at one: replicas 1 and 2, which adds 3."""

    def __init__(self, *isr: int, adding: tuple[int, ...] = (3,)) -> None:
        self.state = Partition(b"t" * 16, 0, (1, 2, 3), (), isr, leader=1, adding=adding, target=(1, 2, 3))


class Node:
    node_id = 3

    def __init__(self, rate: int | None, **of_nodes: int) -> None:
        self.defaults: dict[str, str] = {}
        self.set(rate, **of_nodes)

    def set(self, rate: int | None, **of_nodes: int) -> None:
        every = {} if rate is None else {"": {RATE: str(rate)}}
        own = {node[1:]: {RATE: str(value)} for node, value in of_nodes.items()}
        self.image = Image(broker_configs=MappingProxyType(every | own))


ADDED: Any = Replica(1, 2)


def seconds(pace: MovePace, size_bytes: int, replicas: int = 1, chunk: int = 2**20) -> float:
    """How long it takes to fetch so much of each of several replicas."""
    now_s = 100.0
    left = [size_bytes] * replicas
    while any(left):
        waits = []
        for n, some in enumerate(left):
            wait_s = pace.wait_s(ADDED, now_s)
            if wait_s == 0 and some:
                pace.fetched(ADDED, min(chunk, some), now_s)
                left[n] -= min(chunk, some)
            waits.append(wait_s)
        now_s += max(min(waits), 0.0001)
    while (wait_s := pace.wait_s(ADDED, now_s)) > 0:
        now_s += wait_s
    return now_s - 100


@pytest.mark.parametrize("rate", [10**5, 2 * 10**6, 10**8])
@pytest.mark.parametrize("replicas", [1, 7])
def test_within_a_tenth_of_the_rate(rate: int, replicas: int) -> None:
    took_s = seconds(MovePace(Node(rate)), 20 * 2**20, replicas)
    assert took_s == pytest.approx(20 * 2**20 * replicas / rate, rel=0.1)


def test_without_a_rate_nothing_waits() -> None:
    assert seconds(MovePace(Node(None)), 10**9, chunk=2**26) < 0.1


@pytest.mark.parametrize("replica", [Replica(1, 2, 3), Replica(1, 2, adding=())])
def test_who_is_in_sync_or_was_a_replica_before_is_not_held_up(replica: Any) -> None:
    pace = MovePace(Node(1))
    pace.fetched(replica, 10**9, 100.0)
    assert pace.wait_s(replica, 100.0) == 0
    pace.fetched(ADDED, 10**9, 100.0)
    assert pace.wait_s(ADDED, 100.0) == LOOK_S
    assert pace.wait_s(replica, 100.0) == 0


def test_a_node_has_its_own_rate() -> None:
    assert seconds(MovePace(Node(1, n3=2**20)), 4 * 2**20) == pytest.approx(4, rel=0.1)


def test_a_rate_that_was_far_too_low_ends_with_its_config() -> None:
    node = Node(1)
    pace = MovePace(node)
    pace.fetched(ADDED, 10**9, 100.0)
    assert pace.wait_s(ADDED, 110.0) == LOOK_S
    node.set(None)
    assert pace.wait_s(ADDED, 110.5) == 0


def test_what_was_not_used_is_not_saved_up() -> None:
    pace = MovePace(Node(10**6))
    pace.fetched(ADDED, 10**5, 100.0)
    assert pace.wait_s(ADDED, 1000.0) == 0
    pace.fetched(ADDED, 10**5, 1000.0)
    assert pace.wait_s(ADDED, 1000.0) == pytest.approx(0.1)


async def test_a_replica_comes_at_the_rate(tmp_path: Path) -> None:
    settings = BrokerSettings(replica_fetch_max_bytes=64 * 1024, replica_fetch_backoff_ms=20)
    async with running(tmp_path, settings=settings) as cluster:
        cluster.create([1, 2])
        for _ in range(10):
            await cluster.produce(1, batch(bytes(100_000)))
        for node in cluster.nodes.values():
            node.broker.defaults = {RATE: "1000000"}
        began_s = time.monotonic()
        cluster.change(replicas=(1, 2, 3), directories=(bytes(16),) * 3, adding=(3,), target=(3, 2))
        await until(lambda: cluster.isr() == (1, 2, 3))
        assert 0.8 < time.monotonic() - began_s < 3
        assert cluster.bytes_of(3) == cluster.bytes_of(1)
