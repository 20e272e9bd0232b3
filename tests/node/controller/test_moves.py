"""Partitions move to other replicas (KIP-455): invariants.md 1, 32 to 36, as examples. Random ones: test_properties."""

from collections.abc import Iterable
from typing import Any

import pytest

from node.controller.state.draft import ControllerSettings
from node.controller.state.invariants import check_leaving, check_partition
from node.controller.state.moves import list_reassignments, reassign_partitions
from node.controller.state.repair import repair_internal_topics
from node.controller.state.topics import create_partitions, delete_topics, ensure_internal_topic
from node.metadata.image import METADATA_VERSION, NO_LEADER, Partition
from ottla.internal.v1 import controller_pb2 as rpc
from ottla.internal.v1 import metadata_pb2 as records
from ottla.protocol.errors import ApiError
from ottla.protocol.invariant import InvariantError
from ottla.v1 import admin_pb2 as admin
from ottla.v1 import data_pb2 as data
from tests.node.controller.support import Cluster, Newer, code


def cluster_of(nodes: int = 6, level: int = 5, **fields: Any) -> Cluster:
    cluster = Newer(nodes=nodes, **fields)
    record = records.FeatureLevelRecord(name=METADATA_VERSION, level=level)
    cluster.do(lambda draft: draft.add(records.MetadataRecord(feature_level=record)))
    return cluster


def move(
    cluster: Cluster, *replicas: int, cancel: bool = False, n: int = 0, name: str = "t", **fields: object
) -> admin.ReassignPartitionResult:
    wish = admin.PartitionMove(partition=data.TopicPartition(topic=name, partition=n), replicas=replicas, cancel=cancel)
    request = admin.ReassignPartitionsRequest(partitions=[wish], **fields)  # type: ignore[arg-type]
    return cluster.do(reassign_partitions, request).partitions[0]


def listed(cluster: Cluster) -> list[admin.Reassignment]:
    return list(cluster.do(list_reassignments, admin.ListReassignmentsRequest()).partitions)


def joins(cluster: Cluster, *nodes: int) -> None:
    """One after the other, as a leader asks for them."""
    for node_id in nodes:
        cluster.alter({*cluster.partition().isr, node_id})


def state(partition: Partition) -> tuple[tuple[int, ...], tuple[int, ...], int]:
    return partition.replicas, partition.isr, partition.leader


class TestAMove:
    def test_adds_first_and_takes_away_when_all_that_are_wanted_are_in_sync(self) -> None:
        cluster = cluster_of()
        cluster.assign("t", [1, 2, 3])
        answer = move(cluster, 4, 2, 5)
        assert (answer.moving, list(answer.replicas), list(answer.replicas_before)) == (True, [4, 2, 5], [1, 2, 3])
        p = cluster.partition()
        assert (p.replicas, p.adding, p.target, p.leaving) == ((1, 2, 3, 4, 5), (4, 5), (4, 2, 5), (1, 3))
        assert (p.isr, p.leader, p.leader_epoch) == ((1, 2, 3), 1, 0), "who is added is not in sync"
        joins(cluster, 4)
        assert state(cluster.partition()) == ((1, 2, 3, 4, 5), (1, 2, 3, 4), 1)
        joins(cluster, 5)
        p = cluster.partition()
        assert (p.replicas, p.isr, p.adding, p.target) == ((4, 2, 5), (4, 2, 5), (), ())
        assert (p.leader, p.leader_epoch) == (4, 1), "its leader was to go: the preferred one of the new ones leads"
        assert len(p.directories) == 3
        assert listed(cluster) == []

    def test_keeps_the_leader_where_it_stays(self) -> None:
        cluster = cluster_of()
        cluster.assign("t", [1, 2, 3])
        move(cluster, 4, 1, 2)
        joins(cluster, 4)
        p = cluster.partition()
        assert (p.replicas, p.isr, p.leader, p.leader_epoch) == ((4, 1, 2), (4, 1, 2), 1, 0)

    def test_the_leader_that_ended_it_hears_of_the_replicas_from_the_metadata_alone(self) -> None:
        """Else it would know of an ISR whose min ISR it does not know: of one replica that became three, say."""
        cluster = cluster_of()
        cluster.assign("t", [1])
        move(cluster, 1, 2, 3)
        assert not cluster.alter([1, 2]).HasField("error")
        result = cluster.alter([1, 2, 3])
        assert code(result.error) == "INVALID_UPDATE_VERSION"
        assert "(1, 2, 3)" in result.error.message
        assert cluster.partition().isr == (1, 2, 3)

    def test_waits_for_a_member_that_has_fallen_behind(self) -> None:
        cluster = cluster_of()
        cluster.assign("t", [1, 2, 3])
        move(cluster, 4, 5, 6)
        joins(cluster, 4, 5)
        cluster.dead(4)
        joins(cluster, 6)
        assert state(cluster.partition()) == ((1, 2, 3, 4, 5, 6), (1, 2, 3, 5, 6), 1)
        (found,) = listed(cluster)
        assert found.waits_for == "4 is fenced"
        cluster.start(4)
        joins(cluster, 4)
        assert state(cluster.partition()) == ((4, 5, 6), (4, 5, 6), 4)

    def test_waits_for_a_node_that_is_down_from_the_start(self) -> None:
        cluster = cluster_of()
        cluster.assign("t", [1, 2, 3])
        cluster.dead(4)
        assert move(cluster, 1, 2, 4).moving
        assert listed(cluster)[0].waits_for == "4 is fenced"
        cluster.start(4)
        joins(cluster, 4)
        assert cluster.partition().replicas == (1, 2, 4)

    def test_of_the_order_alone_is_complete_at_once(self) -> None:
        cluster = cluster_of()
        cluster.assign("t", [1, 2, 3])
        cluster.dead(3)
        assert not move(cluster, 3, 2, 1).moving
        p = cluster.partition()
        assert (p.replicas, p.isr, p.leader) == ((3, 2, 1), (2, 1), 1)

    def test_to_where_it_is_changes_nothing(self) -> None:
        cluster = cluster_of()
        cluster.assign("t", [1, 2, 3])
        before = cluster.index
        assert not move(cluster, 1, 2, 3).moving
        assert cluster.index == before

    def test_validate_only_says_it_and_changes_nothing(self) -> None:
        cluster = cluster_of()
        cluster.assign("t", [1, 2, 3])
        before = cluster.index
        assert move(cluster, 1, 2, 4, validate_only=True).moving
        assert code(move(cluster, 1, 2, 9, validate_only=True).error) == "INVALID_REPLICA_ASSIGNMENT"
        assert cluster.index == before

    def test_ends_with_its_topic(self) -> None:
        cluster = cluster_of()
        cluster.assign("t", [1, 2, 3])
        move(cluster, 4, 5, 6)
        cluster.do(delete_topics, admin.DeleteTopicsRequest(topics=[admin.TopicRef(name="t")]))
        assert listed(cluster) == []

    def test_of_an_internal_topic_is_not_repaired_away(self) -> None:
        cluster = cluster_of(nodes=4)
        wish = admin.NewTopic(name="__consumer_offsets", num_partitions=1)
        cluster.do(ensure_internal_topic, rpc.EnsureInternalTopicRequest(topic=wish))
        before = cluster.partition("__consumer_offsets").replicas
        move(cluster, before[0], 4, name="__consumer_offsets")
        cluster.do(repair_internal_topics)
        assert cluster.partition("__consumer_offsets").replicas == (*before, 4)
        cluster.alter([*before, 4], name="__consumer_offsets")
        assert cluster.partition("__consumer_offsets").replicas == (before[0], 4)
        cluster.do(repair_internal_topics)
        assert len(cluster.partition("__consumer_offsets").replicas) == 3


class TestWhatIsPromisedMeanwhile:
    """The replication factor and the default of min ISR are those from before, until it is complete."""

    def test_one_replica_that_becomes_three_goes_on_being_written(self) -> None:
        cluster = cluster_of()
        cluster.assign("t", [1])
        move(cluster, 1, 2, 3)
        assert (cluster.topic().replication_factor, cluster.partition().replication_factor) == (1, 1)
        cluster.dead(1)
        p = cluster.partition()
        assert (p.isr, p.elr, p.leader) == ((), (1,), NO_LEADER), "who is added was never in sync"
        cluster.start(1)
        joins(cluster, 2, 3)
        assert cluster.topic().replication_factor == 3
        cluster.alter([1])
        assert cluster.partition().elr == (2, 3), "now two must be in sync"

    def test_three_that_become_one_ask_for_two_until_it_is_complete(self) -> None:
        cluster = cluster_of()
        cluster.assign("t", [1, 2, 3])
        move(cluster, 4)
        cluster.alter([1])
        assert cluster.partition().elr == (2, 3)
        joins(cluster, 4)
        assert state(cluster.partition()) == ((4,), (4,), 4)

    def test_no_eligible_replica_leaves(self) -> None:
        cluster = cluster_of()
        cluster.assign("t", [1, 2, 3], min_insync_replicas="3")
        move(cluster, 1, 4)
        cluster.alter([1])
        assert cluster.partition().elr == (2, 3)
        joins(cluster, 4)
        assert state(cluster.partition()) == ((1, 2, 3, 4), (1, 4), 1), "2 and 3 may still be needed as leaders"
        joins(cluster, 2)
        assert state(cluster.partition()) == ((1, 4), (1, 4), 1)

    def test_a_partition_has_the_default_of_its_own_replication_factor(self) -> None:
        cluster = cluster_of()
        cluster.assign("t", [1], [1])
        move(cluster, 1, 2, 3, n=1)
        partition = cluster.partition(n=1)
        cluster.alter([1, 2], n=1)
        cluster.alter([1, 2, 3], n=1)
        assert cluster.partition(n=1).partition_epoch > partition.partition_epoch
        cluster.alter([1], n=1)
        assert cluster.partition(n=1).elr == (2, 3)
        assert cluster.partition(n=0).elr == ()

    def test_new_partitions_have_as_many_replicas_as_the_topic_had(self) -> None:
        cluster = cluster_of()
        cluster.assign("t", [1, 2, 3])
        move(cluster, 4, 5, 6)
        grow = admin.CreatePartitionsRequest(topics=[admin.GrowTopic(name="t", total_count=2)])
        assert not cluster.do(create_partitions, grow).topics[0].HasField("error")
        assert len(cluster.partition(n=1).replicas) == 3

    def test_nobody_leaves_while_the_leader_has_yet_to_confirm_its_log(self) -> None:
        cluster = cluster_of()
        cluster.assign("t", [1], unclean_leader_election_enable="true")
        move(cluster, 2)
        joins_not = cluster.partition()
        assert joins_not.isr == (1,)
        cluster.dead(1)
        p = cluster.partition()
        assert (p.leader, p.recovering, p.replicas) == (2, True, (1, 2)), "an operator's config lets it lead"
        cluster.alter([2], recovered=True)
        assert cluster.partition().replicas == (2,)


class TestCallingItOff:
    def test_takes_away_what_was_added(self) -> None:
        cluster = cluster_of()
        cluster.assign("t", [1, 2, 3])
        move(cluster, 3, 4, 1)
        joins(cluster, 2)
        answer = move(cluster, cancel=True)
        assert (answer.moving, list(answer.replicas)) == (False, [1, 2, 3])
        p = cluster.partition()
        assert (p.replicas, p.isr, p.adding, p.target, p.leader) == ((1, 2, 3), (1, 2, 3), (), (), 1)

    def test_takes_it_out_of_the_isr_and_from_the_lead(self) -> None:
        cluster = cluster_of()
        cluster.assign("t", [1, 2, 3])
        move(cluster, 4, 5, 6)
        joins(cluster, 4)
        for node_id in (1, 2, 3):
            cluster.dead(node_id)
        assert state(cluster.partition()) == ((1, 2, 3, 4, 5, 6), (4,), 4)
        assert move(cluster, cancel=True).moving, "nobody else has what was written"
        (found,) = listed(cluster)
        assert (found.cancelled, found.waits_for) == (True, "enough of 1, 2, 3 in sync")
        assert (list(found.adding_replicas), list(found.removing_replicas)) == ([], [4, 5, 6])
        cluster.start(1)
        joins(cluster, 1)
        assert cluster.partition().replicas == (1, 2, 3, 4, 5, 6)
        cluster.start(2)
        joins(cluster, 2)
        p = cluster.partition()
        assert (p.replicas, p.isr, p.leader) == ((1, 2, 3), (1, 2), 1)

    def test_of_what_does_not_move_is_refused(self) -> None:
        cluster = cluster_of()
        cluster.assign("t", [1, 2, 3])
        assert code(move(cluster, cancel=True).error) == "NO_REASSIGNMENT_IN_PROGRESS"

    def test_is_possible_with_a_replica_that_is_gone_for_good(self) -> None:
        cluster = cluster_of()
        cluster.assign("t", [1, 2, 3])
        cluster.dead(3)
        move(cluster, 4, 5, 6)
        joins(cluster, 4)
        assert not move(cluster, cancel=True).moving
        assert state(cluster.partition()) == ((1, 2, 3), (1, 2), 1)

    def test_leaves_where_it_was_without_a_leader_for_later(self) -> None:
        cluster = cluster_of()
        cluster.assign("t", [1])
        move(cluster, 2)
        cluster.dead(1)
        assert move(cluster, cancel=True).moving
        cluster.start(1)
        assert state(cluster.partition()) == ((1,), (1,), 1)


class TestAnotherTarget:
    def test_replaces_the_first_and_drops_what_only_that_one_wanted(self) -> None:
        cluster = cluster_of()
        cluster.assign("t", [1, 2, 3])
        move(cluster, 4, 5, 3)
        joins(cluster, 4, 5)
        p = cluster.partition()
        assert p.replicas == (4, 5, 3), "complete"
        move(cluster, 4, 6, 3)
        move(cluster, 4, 1, 3)
        p = cluster.partition()
        assert (p.replicas, p.adding, p.target) == ((4, 5, 3, 1), (1,), (4, 1, 3))
        move(cluster, cancel=True)
        assert cluster.partition().replicas == (4, 5, 3)

    def test_keeps_the_progress_of_what_both_want(self) -> None:
        cluster = cluster_of()
        cluster.assign("t", [1, 2, 3])
        move(cluster, 4, 5, 6)
        joins(cluster, 4)
        move(cluster, 4, 2, 3)
        assert state(cluster.partition()) == ((4, 2, 3), (4, 2, 3), 4)

    def test_keeps_what_cannot_be_spared_until_it_is_complete(self) -> None:
        cluster = cluster_of()
        cluster.assign("t", [1, 2, 3])
        move(cluster, 4, 5, 6)
        joins(cluster, 4)
        for node_id in (1, 2):
            cluster.dead(node_id)
        move(cluster, 3, 5, 6)
        p = cluster.partition()
        assert (p.replicas, p.isr, p.leaving) == ((1, 2, 3, 4, 5, 6), (3, 4), (1, 2, 4))
        joins(cluster, 5, 6)
        assert state(cluster.partition()) == ((3, 5, 6), (3, 5, 6), 3)


class TestRefusals:
    @pytest.mark.parametrize("target", [(), (1, 1), (1, 9), (-1,)])
    def test_no_assignment(self, target: Iterable[int]) -> None:
        cluster = cluster_of()
        cluster.assign("t", [1, 2, 3])
        before = cluster.index
        assert code(move(cluster, *target).error) == "INVALID_REPLICA_ASSIGNMENT"
        assert cluster.index == before

    @pytest.mark.parametrize(("name", "n"), [("t", 1), ("t", -1), ("u", 0)])
    def test_no_partition(self, name: str, n: int) -> None:
        cluster = cluster_of()
        cluster.assign("t", [1, 2, 3])
        assert code(move(cluster, 1, 2, 4, name=name, n=n).error) == "UNKNOWN_TOPIC_OR_PARTITION"

    def test_the_same_partition_twice(self) -> None:
        cluster = cluster_of()
        cluster.assign("t", [1, 2, 3])
        wish = admin.PartitionMove(partition=data.TopicPartition(topic="t"), replicas=[1, 2, 4])
        answer = cluster.do(reassign_partitions, admin.ReassignPartitionsRequest(partitions=[wish, wish]))
        assert [code(r.error) for r in answer.partitions] == ["NONE", "INVALID_REQUEST"]

    def test_a_node_that_is_full(self) -> None:
        cluster = cluster_of(settings=ControllerSettings(max_partitions_per_node=1))
        cluster.assign("t", [1, 2, 3])
        cluster.assign("u", [4])
        assert code(move(cluster, 1, 2, 4).error) == "POLICY_VIOLATION"

    def test_before_the_level_is_finalized(self) -> None:
        cluster = cluster_of(level=4)
        cluster.assign("t", [1, 2, 3])
        with pytest.raises(ApiError, match=r"from metadata.version 5 on, the cluster is at 4") as refused:
            move(cluster, 1, 2, 4)
        assert "finalize" in refused.value.next_step


class TestTheCheck:
    """What no decision may do, whatever went wrong in it."""

    def test_of_who_leaves(self) -> None:
        cluster = cluster_of()
        topic = cluster.assign("t", [1, 2, 3])
        rules = cluster.do(lambda draft: draft.rules(topic))
        before = Partition(b"t" * 16, 0, (1, 2, 3, 4), (), (1, 2, 3), leader=1, adding=(4,), target=(1, 2, 4))

        def after(isr: tuple[int, ...], leader: int = 1, replicas: tuple[int, ...] = (1, 2, 4)) -> Partition:
            return Partition(b"t" * 16, 0, replicas, (), isr, leader=leader)

        check_leaving(topic, before, after((1, 2, 4)), rules)
        with pytest.raises(InvariantError, match="before all of"):
            check_leaving(topic, before, after((1, 2)), rules)
        with pytest.raises(InvariantError, match="nobody leads"):
            check_leaving(topic, before, after((), NO_LEADER), rules)
        with pytest.raises(InvariantError, match="too small"):
            check_leaving(
                topic,
                Partition(b"t" * 16, 0, (1, 2, 3, 4), (), (1, 4), leader=1, adding=(4,), target=(1, 2, 3)),
                after((1,), replicas=(1, 2, 3)),
                rules,
            )
        with pytest.raises(InvariantError, match="needed as leaders"):
            check_leaving(
                topic,
                Partition(b"t" * 16, 0, (1, 2, 3, 4), (), (1,), (4,), leader=1, adding=(4,), target=(1, 2, 3)),
                after((1,), replicas=(1, 2, 3)),
                rules,
            )

    @pytest.mark.parametrize(
        ("replicas", "adding", "target"),
        [((1, 2), (1,), (1, 2)), ((1, 2), (2,), ()), ((1, 2), (), (3,)), ((1,), (1,), (1,)), ((1, 1), (), ())],
    )
    def test_of_what_moves(self, replicas: tuple[int, ...], adding: tuple[int, ...], target: tuple[int, ...]) -> None:
        cluster = cluster_of()
        topic = cluster.assign("t", [1, 2, 3])
        moving = Partition(b"t" * 16, 0, replicas, (), (1,), leader=1, adding=adding, target=target)
        with pytest.raises(InvariantError):
            check_partition(cluster.image, topic, moving)
