"""How long a node with many partitions, or with a large log that was not closed, takes from its start to ready."""

import os
import time
from pathlib import Path

import psutil

from ottla.v1 import data_pb2, record_pb2
from tests.cluster.harness import LocalCluster, Node, data_stub


def _produce(cluster: LocalCluster, topic: str, partitions: range, payload: bytes) -> None:
    batch = record_pb2.RecordBatch(records=record_pb2.Records(records=[record_pb2.Record(value=payload)]))
    deadline = time.monotonic() + 60
    with cluster.channel(1) as channel:
        stub = data_stub(channel)
        left = list(partitions)
        while left:
            request = data_pb2.ProduceRequest(
                partitions=[data_pb2.ProducePartition(topic=topic, partition=n, batch=batch) for n in left[:100]]
            )
            refused = []
            for result in stub.Produce(request, timeout=60).partitions:
                if result.HasField("error"):
                    assert result.error.retriable, result.error
                    assert time.monotonic() < deadline, result.error
                    refused.append(result.partition)
            left = refused + left[100:]
            if refused:
                time.sleep(0.05)


def _facts(node: Node) -> dict[str, object]:
    assert node.process is not None
    process = psutil.Process(node.process.pid)
    return {"open_files": process.num_fds(), "rss_mib": round(process.memory_info().rss / 2**20)}


def many_partitions(directory: Path, count: int) -> list[dict[str, object]]:
    """Every partition has records; stopped cleanly, then killed."""
    found: list[dict[str, object]] = []
    with LocalCluster(directory, nodes=1) as cluster:
        cluster.start().wait_ready()
        cluster.create_topic("many", count, 1)
        for _ in range(3):
            _produce(cluster, "many", range(count), os.urandom(1000))
        found.append({"what": "running", "partitions": count, **_facts(cluster[1])})
        for how in ("clean stop", "kill -9"):
            started = time.perf_counter()
            if how == "kill -9":
                cluster[1].kill()
            else:
                assert cluster[1].stop(120) == 0
            stopped = time.perf_counter()
            cluster[1].start()
            cluster.wait_ready(timeout_s=120)
            _produce(cluster, "many", range(count - 1, count), b"x")
            found.append(
                {
                    "what": f"start after a {how}",
                    "partitions": count,
                    "stop_s": round(stopped - started, 2),
                    "start_s": round(time.perf_counter() - stopped, 2),
                    **_facts(cluster[1]),
                }
            )
    return found


def large_log(directory: Path, mib: int) -> dict[str, object]:
    """One segment of that size, killed: all of it is scanned."""
    with LocalCluster(directory, nodes=1) as cluster:
        cluster.start().wait_ready()
        cluster.create_topic("large", 1, 1, segment_bytes=str(2**31 - 1))
        payload = os.urandom(127 * 1024)
        for _ in range(mib * 8):
            _produce(cluster, "large", range(1), payload)
        cluster[1].kill()
        started = time.perf_counter()
        cluster[1].start()
        cluster.wait_ready(timeout_s=120)
        _produce(cluster, "large", range(1), b"x")
        return {"what": "start after a kill -9", "unclean_mib": mib, "start_s": round(time.perf_counter() - started, 2)}
