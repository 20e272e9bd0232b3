"""Bugs that other controllers really had (invariants.md 2.2, 29 to 37), one scenario each."""

import pytest

from node.controller.state.brokers import heartbeat, tick
from node.controller.state.topics import create_topics, delete_topics
from node.metadata.image import NO_LEADER
from ottla.internal.v1 import controller_pb2 as rpc
from ottla.protocol.errors import ApiError
from ottla.v1 import admin_pb2 as admin
from tests.node.controller.support import Cluster, code, directory


def test_29_a_busy_controller_does_not_fence_healthy_brokers() -> None:
    """KAFKA-15019: heartbeats waited in a queue, or the controller itself did not run for longer than the lease."""
    cluster = Cluster()
    cluster.wait(1000, 1, 2, 3)
    before = cluster.index
    cluster.now_ms += 20_000  # stopped and continued; the heartbeats are in the sockets still
    cluster.do(tick)
    assert cluster.live() == [1, 2, 3]
    assert cluster.index == before
    cluster.wait(3000, 1, 2)
    assert cluster.live() == [1, 2], "who is silent afterwards is fenced as ever"


def test_29_contact_counts_from_arrival_not_from_the_moment_of_the_decision() -> None:
    cluster = Cluster()
    arrived_ms = cluster.now_ms
    cluster.wait(2900, 1, 2)
    request = rpc.HeartbeatRequest(node_id=3, broker_epoch=cluster.epochs[3], metadata_index=cluster.index)
    cluster.do(heartbeat, request, arrived_ms)
    cluster.wait(100, 1, 2)
    assert cluster.live() == [1, 2], "a late decision must not lengthen the lease"


def test_30_a_broker_that_died_together_with_the_controller_is_fenced() -> None:
    """KAFKA-18138: the new controller tracked only brokers that had sent it a heartbeat."""
    cluster = Cluster()
    cluster.create(partitions=6)
    cluster.take_over({2: cluster.now_ms, 3: cluster.now_ms - 200})  # nothing is known of 1
    cluster.wait(3000, 2, 3)
    assert cluster.live() == [2, 3]
    assert all(p.leader in (2, 3) for p in cluster.topic().partitions)


def test_30_a_dead_verdict_is_taken_over() -> None:
    cluster = Cluster()
    cluster.create(partitions=6)
    cluster.take_over({2: cluster.now_ms, 3: cluster.now_ms}, dead=[1])
    assert cluster.live() == [2, 3]


def test_31_a_broker_that_is_fenced_while_the_isr_grows_does_not_get_in() -> None:
    """KAFKA-13916, KIP-841: a fenced broker was in the ISR and was elected later without the data."""
    cluster = Cluster()
    cluster.assign("t", [1, 2, 3])
    cluster.start(3)
    in_flight = {"partition_epoch": cluster.partition().partition_epoch}
    cluster.dead(3)
    assert code(cluster.alter([1, 2, 3], **in_flight).error) == "INELIGIBLE_REPLICA"
    cluster.beat(2, want_shutdown=True)
    assert code(cluster.alter([1, 2]).error) == "INELIGIBLE_REPLICA"
    assert cluster.partition().isr == (1,)


def test_32_a_wiped_fast_restart_is_not_taken_for_the_replica_that_fetched() -> None:
    """KIP-903: the leader judges by fetches of the previous incarnation."""
    cluster = Cluster()
    cluster.assign("t", [1, 2, 3])
    cluster.start(3)
    fetched_with = cluster.epochs[3]
    cluster.dead(3)
    cluster.start(3, directory_id=directory(3, disk=1))
    result = cluster.alter([1, 2, 3], member_epochs={3: fetched_with})
    assert code(result.error) == "INELIGIBLE_REPLICA"
    assert f"broker epoch {cluster.epochs[3]}, not {fetched_with}" in result.error.message
    assert 3 not in cluster.partition().isr
    assert list(cluster.alter([1, 2, 3]).isr) == [1, 2, 3]


def test_33_a_lost_answer_is_repeated_and_a_late_one_is_fenced() -> None:
    """KAFKA-12686, 12751."""
    cluster = Cluster()
    cluster.assign("t", [1, 2, 3])
    cluster.alter([1, 2])
    repeated = cluster.alter([1, 2])
    assert (list(repeated.isr), code(repeated.error)) == ([1, 2], "NONE")
    old = {"leader_epoch": cluster.partition().leader_epoch, "partition_epoch": cluster.partition().partition_epoch}
    cluster.start(1)  # 2 leads; the request of before arrives now
    late = cluster.alter([1, 2], sender=1, **old)
    assert code(late.error) == "NEW_LEADER_ELECTED"
    assert cluster.partition().isr == (2,)


def test_34_no_way_of_making_a_topic_puts_a_fenced_broker_into_the_isr() -> None:
    """KAFKA-13083: a manual assignment skipped the check."""
    cluster = Cluster()
    cluster.create("growing", factor=2)
    cluster.dead(3)
    manual = admin.NewTopic(name="m", assignments=[admin.ReplicaAssignment(partition=0, replicas=[3, 1])])
    answer = cluster.do(create_topics, admin.CreateTopicsRequest(topics=[manual, admin.NewTopic(name="auto")]))
    assert code(answer.topics[0].error) == "INVALID_REPLICA_ASSIGNMENT"
    assert "[3] are not live" in answer.topics[0].error.message
    assert 3 not in cluster.partition("auto").replicas


def test_35_a_topic_made_again_shares_nothing_with_the_deleted_one() -> None:
    """KAFKA-12257: identity by name."""
    cluster = Cluster()
    old = cluster.create(retention_ms="1000")
    cluster.alter([1])
    cluster.do(delete_topics, admin.DeleteTopicsRequest(topics=[admin.TopicRef(name="t")]))
    new = cluster.create()
    assert new.topic_id != old.topic_id
    assert dict(new.configs) == {}
    stale = cluster.alter([1, 2], topic_id=old.topic_id)
    assert code(stale.error) == "UNKNOWN_TOPIC_ID"
    assert new.partitions[0].isr == cluster.partition().isr


def test_36_requests_of_an_earlier_leader_epoch_do_nothing_in_whatever_order_they_arrive() -> None:
    """KIP-570, KAFKA-9539."""
    cluster = Cluster()
    cluster.assign("t", [1, 2, 3])
    p = cluster.partition()
    delayed = {"leader_epoch": p.leader_epoch, "partition_epoch": p.partition_epoch, "sender": 1}
    cluster.start(1)
    cluster.alter([2, 3, 1])
    cluster.start(2)
    before = cluster.partition()
    assert code(cluster.alter([1], **delayed).error) in ("NEW_LEADER_ELECTED", "FENCED_LEADER_EPOCH")
    with pytest.raises(ApiError, match="STALE_BROKER_EPOCH"):
        cluster.alter([1], broker_epoch=1, **delayed)
    assert cluster.partition() == before


def test_37_a_clean_stop_leaves_every_isr_at_once_so_that_no_high_watermark_waits_for_it() -> None:
    """KAFKA-15021: produce stalled for the lag time on every clean stop."""
    cluster = Cluster()
    cluster.create(partitions=6)
    before = cluster.index
    cluster.beat(2, want_shutdown=True)
    assert cluster.index == before + 1, "leaders and followers leave in one entry"
    assert all(2 not in p.isr and p.leader not in (2, NO_LEADER) for p in cluster.topic().partitions)
