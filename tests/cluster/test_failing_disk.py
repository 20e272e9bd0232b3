"""Disks that answer EIO, on real nodes: one partition's log, and the log of the metadata quorum."""

import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import grpc
import pytest

from ottla.sync import Delivery, Producer
from tests.cluster.harness import LocalCluster, eventually
from tests.cluster.test_data import produce, read_all

pytestmark = pytest.mark.cluster
TOPIC = "t"
IN_FLIGHT = 40


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LocalCluster]:
    with LocalCluster(tmp_path) as made:
        for node in made.nodes.values():
            node.flags = ["--test-hooks"]
        yield made


class Load(threading.Thread):
    """Numbered records of 20 KB to one partition by an idempotent producer, acks=all. `offsets`: where each is, as
    acknowledged; `longest_s`: the longest time without an acknowledgement."""

    def __init__(self, cluster: LocalCluster) -> None:
        super().__init__(daemon=True)
        self._nodes = cluster.bootstrap
        self.over = False
        self.offsets: list[int] = []
        self.longest_s = 0.0
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            with Producer(self._nodes, linger_ms=0) as producer:
                self._write(producer)
        except BaseException as error:
            self.error = error

    def _write(self, producer: Producer) -> None:
        pending: deque[Delivery] = deque()
        sent, last = 0, time.monotonic()
        while not self.over or pending:
            if not self.over and len(pending) < IN_FLIGHT:
                pending.append(producer.send(TOPIC, b"%08d" % sent * 2500, partition=0))
                sent += 1
                continue
            self.offsets.append(pending.popleft().result(60).offset)
            now = time.monotonic()
            self.longest_s, last = max(self.longest_s, now - last), now

    def wait_for(self, more: int, timeout_s: float = 30.0) -> None:
        """Until so many more are acknowledged."""
        target = len(self.offsets) + more
        deadline = time.monotonic() + timeout_s
        while len(self.offsets) < target:
            assert self.error is None, self.error
            assert time.monotonic() < deadline, f"{len(self.offsets)} of {target} acknowledged"
            time.sleep(0.01)

    def end(self) -> None:
        self.over = True
        self.join(60)
        assert not self.is_alive()
        assert self.error is None, self.error


def isr(cluster: LocalCluster, via: int, topic: str = TOPIC) -> list[int]:
    try:
        return sorted(cluster.metadata(via, topic).topics[0].partitions[0].isr)
    except (grpc.RpcError, IndexError):
        return []


def stored(cluster: LocalCluster, node_id: int, topic_id: bytes) -> bytes:
    """Every byte of a replica's segments."""
    directory = cluster[node_id].directory / "data" / f"{topic_id.hex()}-0"
    return b"".join(path.read_bytes() for path in sorted(directory.glob("*.log")))


@pytest.mark.parametrize("flush", ["ack", "replica"])
def test_a_leader_whose_log_cannot_be_synced_leads_no_more_and_nothing_acknowledged_is_lost(
    cluster: LocalCluster, flush: str
) -> None:
    cluster.start().wait_ready()
    # flush=replica syncs what it has rolled, so it rolls soon.
    topic_id = cluster.create_topic(TOPIC, 1, flush=flush, segment_bytes=str(2**20))
    victim = cluster.leader(TOPIC)
    via = victim % 3 + 1
    cluster.create_topic("other", 3)
    other = next(n for n in range(3) if cluster.leader("other", n) == victim)
    load = Load(cluster)
    load.start()
    load.wait_for(200)
    before, load.longest_s = len(load.offsets), 0.0

    bad = {"sync": "EIO", "path": f".*/{topic_id.hex()}-0/.*"}
    cluster[victim].hook(urlencode(bad))
    eventually(lambda: cluster.leader(TOPIC, via=via) != victim, True, 15)
    eventually(lambda: victim in isr(cluster, via), False, 15)
    load.wait_for(200)
    pause_s, during = load.longest_s, len(load.offsets) - before
    assert "partition_offline" in cluster[victim].log()

    # The disk is well again, but what it holds is not known: the log takes nothing before the node starts anew.
    size = len(stored(cluster, victim, topic_id))
    cluster[victim].hook("sync=")
    load.wait_for(200)
    assert (len(stored(cluster, victim, topic_id)), cluster[victim].running) == (size, True)
    assert victim not in isr(cluster, via)
    # Only that log is: the same node leads another partition on.
    assert cluster.leader("other", other, via=via) == victim
    assert not produce(cluster, via, "other", other, b"x").HasField("error")

    assert cluster[victim].stop() == 1, "the end of a node with a failed log is not a clean one"
    cluster[victim].start()
    cluster.wait_ready([victim], 60)
    eventually(lambda: isr(cluster, via), [1, 2, 3], 60)
    load.wait_for(100)
    load.end()
    values = read_all(cluster, victim, TOPIC, until=len(load.offsets))
    assert values == [b"%08d" % number * 2500 for number in range(len(load.offsets))], "each once, in order"
    assert load.offsets == list(range(len(values))), "each is where its acknowledgement says"
    eventually(lambda: len({stored(cluster, node_id, topic_id) for node_id in cluster.nodes}), 1, 15)
    assert not list((cluster[victim].directory / "data").glob("*/unsynced"))
    print(f"flush={flush}: {len(values)} records, {during} while it failed, pause {pause_s:.2f} s, {size} bytes stayed")


@pytest.mark.parametrize("fault", ["sync", "write"])
@pytest.mark.parametrize("leads", [True, False])
def test_a_node_whose_metadata_log_fails_stops_and_is_back_after_a_start_on_a_disk_that_works(
    cluster: LocalCluster, leads: bool, fault: str
) -> None:
    cluster.start().wait_ready()
    topic_id = cluster.create_topic(TOPIC, 1)
    controller = cluster.controller()
    victim = controller if leads else next(i for i in cluster.nodes if i != controller)
    via = victim % 3 + 1
    load = Load(cluster)
    load.start()
    load.wait_for(50)
    process = cluster[victim].process
    assert process is not None

    cluster[victim].hook(urlencode({fault: "EIO", "path": ".*/quorum/.*"}))
    started = time.monotonic()
    create(cluster, "meanwhile", via)
    took_s = time.monotonic() - started
    assert process.wait(20) == 1
    log = cluster[victim].log()
    assert "quorum_failed" in log
    assert "node_gives_up" in log
    assert "EIO by a test hook" in log
    load.wait_for(100)
    assert cluster.controller() != victim
    create(cluster, "afterwards", via, replication_factor=2)

    cluster[victim].start()
    cluster.wait_ready([victim], 60)
    eventually(lambda: isr(cluster, via), [1, 2, 3], 60)
    eventually(lambda: isr(cluster, victim, "meanwhile"), [1, 2, 3], 30)
    assert len(isr(cluster, victim, "afterwards")) == 2
    load.end()
    values = read_all(cluster, victim, TOPIC, until=len(load.offsets))
    assert values == [b"%08d" % number * 2500 for number in range(len(load.offsets))]
    assert load.offsets == list(range(len(values)))
    eventually(lambda: len({stored(cluster, node_id, topic_id) for node_id in cluster.nodes}), 1, 15)
    print(f"{fault} of {'the leader' if leads else 'a follower'}: topic after {took_s:.2f} s, {len(values)} records")


def create(cluster: LocalCluster, topic: str, via: int, replication_factor: int = 3) -> None:
    """As a client does it: again until it is there."""
    deadline = time.monotonic() + 20
    while topic not in {found.name for found in cluster.metadata(via).topics}:
        assert time.monotonic() < deadline, f"{topic} was not made"
        try:
            cluster.create_topic(topic, 1, replication_factor, via=via)
        except (grpc.RpcError, AssertionError):
            time.sleep(0.1)
