"""AlterPartition: every way of being out of date has its own code, and none of them changes anything."""

import pytest

from node.controller.state.partitions import alter_partition
from ottla.internal.v1 import controller_pb2 as rpc
from ottla.protocol.errors import ApiError
from tests.node.controller.support import Cluster, code


@pytest.fixture
def cluster() -> Cluster:
    cluster = Cluster()
    cluster.assign("t", [1, 2, 3])
    cluster.start(3)
    return cluster  # led by 1 in epoch 0, ISR 1 2, partition epoch 1


def test_the_isr_grows_and_shrinks_and_the_answer_is_the_committed_state(cluster: Cluster) -> None:
    grown = cluster.alter([1, 2, 3])
    assert (list(grown.isr), grown.leader, grown.leader_epoch, grown.partition_epoch) == ([1, 2, 3], 1, 0, 2)
    shrunk = cluster.alter([3, 1])
    assert (list(shrunk.isr), shrunk.partition_epoch) == ([1, 3], 3)
    assert cluster.partition().isr == (1, 3)
    assert cluster.last_records()[0].partition_change.cause == "leader 1 asked for ISR 1, 3"


def test_asking_for_what_is_already_so_succeeds_without_an_entry(cluster: Cluster) -> None:
    """KAFKA-12751: a leader whose answer was lost asks again."""
    before = cluster.index
    again = cluster.alter([1, 2])
    assert (list(again.isr), again.partition_epoch, code(again.error)) == ([1, 2], 1, "NONE")
    assert cluster.index == before


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"topic_id": b"x" * 16}, "UNKNOWN_TOPIC_ID"),
        ({"topic_id": b""}, "UNKNOWN_TOPIC_ID"),
        ({"partition": 1}, "UNKNOWN_TOPIC_OR_PARTITION"),
        ({"partition": -1}, "UNKNOWN_TOPIC_OR_PARTITION"),
        ({"leader_epoch": 1}, "UNKNOWN_LEADER_EPOCH"),
        ({"leader_epoch": 2**31 - 1}, "UNKNOWN_LEADER_EPOCH"),
        ({"partition_epoch": 0}, "INVALID_UPDATE_VERSION"),
        ({"partition_epoch": 2}, "INVALID_UPDATE_VERSION"),
        ({"partition_epoch": -(2**31)}, "INVALID_UPDATE_VERSION"),
        ({"sender": 2}, "NEW_LEADER_ELECTED"),
        ({"member_epochs": {3: 1}}, "INELIGIBLE_REPLICA"),
        ({"member_epochs": {3: 0}}, "INELIGIBLE_REPLICA"),
        ({"member_epochs": {3: 2**62}}, "INELIGIBLE_REPLICA"),
    ],
)
def test_each_fence_has_its_own_code(cluster: Cluster, fields: dict[str, object], expected: str) -> None:
    before = cluster.index
    result = cluster.alter([1, 2, 3], **fields)
    assert code(result.error) == expected
    assert result.error.message
    assert cluster.index == before


@pytest.mark.parametrize("isr", [[], [2, 3], [1, 1], [1, 9], [1, 2, 3, 3]])
def test_an_impossible_isr_is_an_invalid_request(cluster: Cluster, isr: list[int]) -> None:
    result = cluster.alter(isr, member_epochs={9: 1})
    assert code(result.error) == "INVALID_REQUEST"
    assert cluster.partition().isr == (1, 2)


def test_a_leader_of_an_earlier_epoch_is_fenced_with_the_present_one() -> None:
    cluster = Cluster()
    cluster.assign("t", [1, 2, 3])
    cluster.start(1)  # 2 leads in epoch 1
    cluster.alter([2, 3, 1])
    cluster.start(2)  # 1 leads again, in epoch 2
    result = cluster.alter([1, 2], leader_epoch=0)
    assert code(result.error) == "FENCED_LEADER_EPOCH"
    assert (result.error.leader, result.error.epoch) == (1, 2)


def test_a_deposed_leader_is_told_who_leads_now(cluster: Cluster) -> None:
    cluster.dead(1)
    cluster.beat(1)
    result = cluster.alter([1], sender=1, leader_epoch=0, partition_epoch=1)
    assert code(result.error) == "NEW_LEADER_ELECTED"
    assert (result.error.leader, result.error.epoch) == (2, 1)


def test_who_is_no_replica_cannot_ask(cluster: Cluster) -> None:
    cluster.assign("u", [1, 2])
    assert code(cluster.alter([1, 2], name="u", sender=3).error) == "INVALID_REQUEST"


def test_fenced_and_stopping_members_are_named(cluster: Cluster) -> None:
    cluster.dead(3)
    result = cluster.alter([1, 2, 3])
    assert code(result.error) == "INELIGIBLE_REPLICA"
    assert "3 is fenced" in result.error.message


def test_the_present_incarnation_must_be_the_one_that_asks(cluster: Cluster) -> None:
    with pytest.raises(ApiError, match="STALE_BROKER_EPOCH"):
        cluster.alter([1], broker_epoch=cluster.epochs[1] - 1)
    with pytest.raises(ApiError, match="BROKER_ID_NOT_REGISTERED"):
        cluster.do(alter_partition, rpc.AlterPartitionRequest(node_id=77, broker_epoch=1))


def test_one_bad_partition_does_not_fail_the_others() -> None:
    cluster = Cluster()
    cluster.assign("t", [1, 2, 3], [1, 2, 3])
    topic = cluster.topic()
    wishes = [
        rpc.AlterPartition(
            topic_id=topic.topic_id,
            partition=n,
            partition_epoch=epoch,
            isr=[rpc.IsrMember(node_id=m, broker_epoch=cluster.epochs[m]) for m in (1, 2)],
        )
        for n, epoch in ((0, 7), (1, 0))
    ]
    request = rpc.AlterPartitionRequest(node_id=1, broker_epoch=cluster.epochs[1], partitions=wishes)
    before = cluster.index
    answer = cluster.do(alter_partition, request)
    assert [code(p.error) for p in answer.partitions] == ["INVALID_UPDATE_VERSION", "NONE"]
    assert cluster.partition(n=1).isr == (1, 2)
    assert cluster.index == before + 1


def test_many_partitions_are_one_entry() -> None:
    cluster = Cluster()
    cluster.assign("t", *[[1, 2, 3]] * 500)
    topic = cluster.topic()
    members = [rpc.IsrMember(node_id=m, broker_epoch=cluster.epochs[m]) for m in (1, 2)]
    wishes = [rpc.AlterPartition(topic_id=topic.topic_id, partition=n, isr=members) for n in range(500)]
    before = cluster.index
    cluster.do(alter_partition, rpc.AlterPartitionRequest(node_id=1, broker_epoch=cluster.epochs[1], partitions=wishes))
    assert cluster.index == before + 1
    assert all(p.isr == (1, 2) for p in cluster.topic().partitions)
