"""What tools list: DescribeProducers, ListTransactions, ListPartitionReassignments, DescribeClientQuotas."""

import time

from tests.peers.batches import batch
from tests.peers.exchange import exchange
from tests.peers.side import Side


@exchange("DescribeProducers")
def describe_producers(s: Side, v: int) -> None:
    t = s.topic(partitions=2)
    asked = {"transactional_id": None, "transaction_timeout_ms": 60_000}
    producer = s.until(lambda a: a["error_code"] == 0, "InitProducerId", 1, **asked)["producer_id"]
    now_ms = int(time.time() * 1000)
    for sequence in (0, 2):
        s.put(t, batch([b"x", b"y"], time_ms=now_ms, producer=(producer, 0, sequence)))
    topics = [{"name": t, "partition_indexes": [0, 1, 7]}, {"name": s.name("no"), "partition_indexes": [0]}]
    s.ask("DescribeProducers", v, topics=topics)
    s.ask("DescribeProducers", v, label="of nothing", topics=[])


@exchange("ListTransactions")
def list_transactions(s: Side, v: int) -> None:
    s.ask("ListTransactions", v, state_filters=[], producer_id_filters=[])
    s.ask("ListTransactions", v, label="of one", state_filters=["Ongoing", "Empty"], producer_id_filters=[4711])


@exchange("ListPartitionReassignments")
def list_reassignments(s: Side, v: int) -> None:
    t = s.topic()
    s.ask("ListPartitionReassignments", v, timeout_ms=5000, topics=None)
    s.ask("ListPartitionReassignments", v, label="of one", topics=[{"name": t, "partition_indexes": [0, 9]}])


@exchange("DescribeClientQuotas")
def describe_quotas(s: Side, v: int) -> None:
    s.ask("DescribeClientQuotas", v, components=[], strict=False)
    user = {"entity_type": "user", "match_type": 2, "match": None}
    s.ask("DescribeClientQuotas", v, label="of users", components=[user], strict=True)
