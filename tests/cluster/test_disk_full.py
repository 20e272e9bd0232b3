"""Full disks, for real: every node on a file system of 64 MB, filled to the last byte."""

import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from ottla.v1 import admin_pb2, admin_pb2_grpc, data_pb2
from ottla.v1 import error_pb2 as pb
from tests.cluster.harness import LocalCluster, data_stub, eventually
from tests.cluster.test_data import produce

pytestmark = pytest.mark.cluster
TOPIC = "fill"


@pytest.fixture
def small(tmp_path: Path) -> Iterator[LocalCluster]:
    """Three nodes, each with its data on a tmpfs of 64 MB."""
    mounts = [tmp_path / f"node-{i}" / "data" for i in (1, 2, 3)]
    mounted: list[Path] = []
    try:
        for path in mounts:
            path.mkdir(parents=True)
            options = ["-t", "tmpfs", "-o", "size=64m", "tmpfs", str(path)]
            if os.geteuid() or subprocess.run(["mount", *options], capture_output=True, check=False).returncode:
                pytest.skip("mounting a tmpfs needs root")
            mounted.append(path)
        with LocalCluster(tmp_path) as cluster:
            yield cluster
    finally:
        for path in mounted:
            subprocess.run(["umount", "-l", str(path)], check=True)


def space(cluster: LocalCluster, node_id: int) -> os.statvfs_result:
    return os.statvfs(cluster[node_id].directory / "data")


def fill_up(cluster: LocalCluster, node_id: int) -> Path:
    """Somebody else takes every byte that is left."""
    path = cluster[node_id].directory / "data" / "of-somebody-else"
    with path.open("ab", buffering=0) as file:
        for size in (1 << 20, 4096):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue
    return path


def metric(cluster: LocalCluster, node_id: int, name: str) -> float:
    _, text = cluster[node_id].http("/metrics")
    return next((float(line.split()[1]) for line in text.splitlines() if line.startswith(name + " ")), -1.0)


class Reader(threading.Thread):
    """Reads a partition from its start again and again; `longest_s` is the longest time without an answer."""

    def __init__(self, cluster: LocalCluster, via: int) -> None:
        super().__init__(daemon=True)
        self._cluster, self._via = cluster, via
        self.over = False
        self.longest_s = 0.0
        self.answers = 0

    def run(self) -> None:
        last = time.monotonic()
        with self._cluster.channel(self._via) as channel:
            stub = data_stub(channel)
            offset = 0
            while not self.over:
                want = data_pb2.FetchPartition(topic=TOPIC, partition=0, offset=offset)
                try:
                    found = stub.Fetch(data_pb2.FetchRequest(partitions=[want], max_wait_ms=50), timeout=5)
                except grpc.RpcError:
                    continue
                if found.partitions[0].HasField("error"):
                    if found.partitions[0].error.code == pb.ERROR_CODE_OFFSET_OUT_OF_RANGE:
                        offset = found.partitions[0].log_start_offset
                    continue
                now = time.monotonic()
                self.longest_s, last = max(self.longest_s, now - last), now
                self.answers += 1
                after = found.partitions[0].next_offset
                offset = after if after != offset else found.partitions[0].log_start_offset


def write_until_refused(cluster: LocalCluster, payload: bytes) -> tuple[list[int], pb.Error]:
    """Acknowledged offsets, and the refusal that ended it."""
    acked: list[int] = []
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        result = produce(cluster, 1, TOPIC, 0, payload)
        if not result.HasField("error"):
            acked.append(result.base_offset)
        elif result.error.code == pb.ERROR_CODE_KAFKA_STORAGE_ERROR:
            return acked, result.error
        else:
            assert result.error.retriable, result.error
    raise AssertionError("the disks did not get full")


def read_from(cluster: LocalCluster, offset: int) -> list[bytes]:
    """Values from `offset` to the high watermark."""
    values: list[bytes] = []
    deadline = time.monotonic() + 20
    with cluster.channel(2) as channel:
        while True:
            want = data_pb2.FetchPartition(topic=TOPIC, partition=0, offset=offset)
            found = data_stub(channel).Fetch(data_pb2.FetchRequest(partitions=[want]), timeout=10).partitions[0]
            if found.error.retriable and time.monotonic() < deadline:
                time.sleep(0.05)  # leadership goes to who has room, and back
                continue
            assert not found.HasField("error"), found.error
            values += [record.value for stored in found.batches for record in stored.records.records]
            if found.next_offset == offset:
                return values
            offset = found.next_offset


def until_acked(cluster: LocalCluster, payload: bytes, timeout_s: float = 20.0) -> float:
    """Seconds until a batch is acknowledged."""
    started = time.monotonic()
    while time.monotonic() - started < timeout_s:
        if not produce(cluster, 1, TOPIC, 0, payload).HasField("error"):
            return time.monotonic() - started
        time.sleep(0.05)
    raise AssertionError(f"nothing was acknowledged for {timeout_s} s: {cluster.tail(1)}")


def test_full_disks_refuse_producers_and_nothing_else_and_it_goes_on_by_itself(small: LocalCluster) -> None:
    small.start().wait_ready(timeout_s=60)
    for name in (TOPIC, "doomed"):
        small.create_topic(name, 1, segment_bytes=str(2**20))
    produce(small, 1, "doomed", 0, b"x" * 1000)
    payload = os.urandom(200_000)
    acked = [produce(small, 1, TOPIC, 0, payload).base_offset for _ in range(30)]
    ballasts = [small[i].directory / "data" / "ballast" for i in (1, 2, 3)]
    eventually(lambda: [path.exists() for path in ballasts], [True] * 3)
    readers = [Reader(small, via) for via in (1, 2)]
    for reader in readers:
        reader.start()

    # Not one byte left, on all nodes at once: the ballast goes, and what must be written is written.
    others = [fill_up(small, node_id) for node_id in (1, 2, 3)]
    eventually(lambda: [path.exists() for path in ballasts], [False] * 3)
    more, refusal = write_until_refused(small, payload)
    acked += more
    assert refusal.retriable
    assert refusal.retry_after_ms > 0
    with small.channel(2) as channel:
        admin = admin_pb2_grpc.AdminServiceStub(channel)
        started = time.monotonic()
        request = admin_pb2.DeleteTopicsRequest(topics=[admin_pb2.TopicRef(name="doomed")])
        deleted = admin.DeleteTopics(request, timeout=10).topics[0]
        delete_s = time.monotonic() - started
        assert not deleted.HasField("error"), deleted.error

    # A node that dies on a full disk comes back on it.
    small[3].kill()
    small[3].start()
    small.wait_ready([3], 60)

    # Room again: producers go on without being told.
    for path in others:
        path.unlink()
    resumed = [until_acked(small, payload)]

    # The watermark: refused before the disk is full, until somebody deletes.
    eventually(lambda: [path.exists() for path in ballasts], [True] * 3)
    more, refusal = write_until_refused(small, payload)
    acked += more
    assert len(acked) > 100
    assert "delete records or topics" in refusal.message
    for node_id in (1, 2, 3):
        assert space(small, node_id).f_bavail > 0
    # Refused where fewer than min.insync.replicas have room: the third one may have some left.
    eventually(lambda: sum(metric(small, n, "ottla_disk_full") for n in (1, 2, 3)) >= 2, True)
    with small.channel(2) as channel:
        admin = admin_pb2_grpc.AdminServiceStub(channel)
        where = data_pb2.TopicPartition(topic=TOPIC, partition=0)
        wanted = admin_pb2.DeleteRecordsPartition(partition=where, before_offset=acked[len(acked) // 2])
        request = admin_pb2.DeleteRecordsRequest(partitions=[wanted])

        def trim() -> admin_pb2.DeleteRecordsResult:
            return admin.DeleteRecords(request, timeout=10).partitions[0]

        # Leadership may still be moving: node 3 came back a moment ago.
        eventually(lambda: trim().error.retriable, False)
        trimmed = trim()
        assert not trimmed.HasField("error"), trimmed.error
    resumed.append(until_acked(small, payload))

    for reader in readers:
        reader.over = True
        reader.join(10)
    longest = max(reader.longest_s for reader in readers)
    print(f"topic deleted in {delete_s:.2f} s; resumed after {resumed} s; longest without an answer {longest:.2f} s")
    assert max(resumed) < 15
    assert longest < 3
    assert min(reader.answers for reader in readers) > 20
    assert all(node.running and node.starts == (2 if i == 3 else 1) for i, node in small.nodes.items())
    assert set(read_from(small, trimmed.low_watermark)) == {payload}
