"""Who leads, who stays eligible: ISR first, ELR (KIP-966), last known ELR, unclean only on request."""

import pytest

from node.controller.state.leaders import elect_leaders, everywhere
from node.controller.state.resource_configs import alter_configs
from node.metadata.image import NO_LEADER, Partition, Topic
from ottla.internal.v1 import controller_pb2 as rpc
from ottla.v1 import admin_pb2 as admin
from ottla.v1 import data_pb2 as data
from tests.node.controller.support import Cluster, code, directory


def state(p: Partition) -> tuple[int, tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    return p.leader, p.isr, p.elr, p.last_known_elr


def three() -> Cluster:
    cluster = Cluster()
    cluster.assign("t", [1, 2, 3])
    return cluster


def test_a_new_leader_comes_from_the_isr_and_not_from_other_live_replicas() -> None:
    cluster = three()
    cluster.alter([1, 3])
    cluster.dead(1)
    # 2 is live and first in order, but not in sync.
    assert state(cluster.partition()) == (3, (3,), (1,), ())


def test_who_leaves_the_isr_below_min_isr_stays_eligible() -> None:
    cluster = three()
    cluster.dead(1)
    assert state(cluster.partition()) == (2, (2, 3), (), ())
    cluster.dead(2)
    assert state(cluster.partition()) == (3, (3,), (2,), ())
    cluster.dead(3)
    assert state(cluster.partition()) == (NO_LEADER, (), (2, 3), ())
    assert cluster.partition().last_known_leader == 3


def test_a_leader_that_shrinks_the_isr_leaves_the_others_eligible() -> None:
    cluster = three()
    cluster.alter([1])
    assert state(cluster.partition()) == (1, (1,), (2, 3), ())
    cluster.alter([1, 2])
    assert state(cluster.partition()) == (1, (1, 2), (), ())


def test_any_member_of_the_elr_may_lead_and_nobody_else() -> None:
    cluster = three()
    for node_id in (1, 2, 3):
        cluster.dead(node_id)
    cluster.start(1)
    assert cluster.partition().leader == NO_LEADER, "1 left the ISR before the last writes"
    cluster.start(2)
    assert state(cluster.partition()) == (2, (2,), (3,), ())
    assert cluster.partition().last_known_leader == NO_LEADER


def test_r8_stop_a_write_stop_b_then_c_start_a_alone_no_leader_start_b_elected() -> None:
    """features R8 to the letter, with clean stops."""
    cluster = three()
    cluster.stop(1)
    cluster.stop(2)
    cluster.stop(3)
    cluster.start(1)
    assert cluster.partition().leader == NO_LEADER
    cluster.start(3)
    assert cluster.partition().leader == 3
    assert cluster.alter([3, 1]).isr == [1, 3]


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 2, 1), (2, 3, 1)])
def test_all_nodes_killed_at_once_come_back_by_themselves(order: tuple[int, ...]) -> None:
    """kill -9 of every process on machines that live: nothing written is lost, and everyone keeps its place."""
    cluster = Cluster()
    cluster.create(partitions=6)
    cluster.take_over()
    for node_id in order:
        cluster.start(node_id, unclean_stop=False)
    assert all(p.leader != NO_LEADER and not p.recovering for p in cluster.topic().partitions)


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 2, 1), (2, 3, 1)])
def test_after_a_power_loss_the_most_complete_log_leads_without_an_operator(order: tuple[int, ...]) -> None:
    cluster = three()
    cluster.take_over()
    for node_id in order:
        cluster.register(node_id, unclean_stop=True)
    p = cluster.partition()
    assert (p.leader, p.isr, p.elr) == (NO_LEADER, (), ())
    assert set(p.last_known_elr) == set(order[1:]), "the first one was out before the ISR fell below min ISR"
    for node_id in order:
        assert cluster.partition().leader == NO_LEADER
        answer = cluster.beat(node_id)
        assert [(w.topic_id, w.partition) for w in answer.want_log_ends] == [(p.topic_id, 0)]
    cluster.log_end(order[0], 4, 70)
    cluster.log_end(order[1], 4, 90)
    assert cluster.partition().leader == NO_LEADER, "the log of one is not known yet"
    cluster.log_end(order[2], 4, 80)
    after = cluster.partition()
    assert (after.leader, after.isr, after.recovering) == (order[1], (order[1],), True)
    cause = cluster.last_records()[-1].partition_change.cause
    assert "are back" in cause
    assert f"{order[1]} has the most complete log" in cause
    cluster.alter([order[1]], recovered=True)
    assert not cluster.partition().recovering


def test_a_larger_last_epoch_beats_a_longer_log() -> None:
    cluster = three()
    for node_id in (1, 2, 3):
        cluster.register(node_id, unclean_stop=True)
    for node_id in (1, 2, 3):
        cluster.beat(node_id)
    cluster.log_end(1, 3, 1001)
    cluster.log_end(2, 3, 1000)
    cluster.log_end(3, 4, 10)
    assert cluster.partition().leader == 3


@pytest.mark.parametrize("gone", [(), (3,)])
def test_after_a_power_loss_every_live_replica_speaks_before_one_leads(gone: tuple[int, ...]) -> None:
    """Who was out of the ISR had less than who was in it, until those lost what they had not synced."""
    cluster = three()
    cluster.alter([2])
    cluster.alter([2, 3])
    for node_id in (1, 2, 3):
        cluster.register(node_id, unclean_stop=True)
    for node_id in (1, 2, 3):
        cluster.beat(node_id)
    last_known = cluster.partition().last_known_elr
    assert 1 not in last_known
    for node_id in last_known:
        cluster.log_end(node_id, 0, 10)
    assert cluster.partition().leader == NO_LEADER, "1 is live and has not said what it has"
    if gone:
        cluster.dead(1)
        assert cluster.partition().leader == last_known[0], "nobody waits for a replica that is gone"
    else:
        cluster.log_end(1, 0, 20)
        assert cluster.partition().leader == 1


def test_a_log_end_of_another_leader_epoch_counts_for_nothing() -> None:
    cluster = three()
    for node_id in (1, 2, 3):
        cluster.register(node_id, unclean_stop=True)
    for node_id in (1, 2, 3):
        cluster.beat(node_id)
    p = cluster.partition()
    stale = rpc.LogEnd(
        topic_id=p.topic_id, partition=0, last_epoch=9, log_end_offset=999, leader_epoch=p.leader_epoch - 1
    )
    cluster.beat(2, log_ends=[stale])
    cluster.log_end(1, 0, 4)
    cluster.log_end(3, 0, 5)
    assert cluster.partition().leader == NO_LEADER


def test_a_log_end_of_an_earlier_start_counts_for_nothing() -> None:
    cluster = three()
    for node_id in (1, 2, 3):
        cluster.register(node_id, unclean_stop=True)
    for node_id in (1, 2, 3):
        cluster.beat(node_id)
    cluster.log_end(1, 4, 10)
    cluster.log_end(2, 4, 100)
    cluster.start(2, unclean_stop=True)
    cluster.log_end(3, 4, 50)
    assert cluster.partition().leader == NO_LEADER
    cluster.log_end(2, 4, 20)
    assert cluster.partition().leader == 3


def test_under_flush_ack_an_unclean_stop_disqualifies_nobody() -> None:
    cluster = Cluster()
    cluster.assign("t", [1, 2, 3], flush="ack")
    for node_id in (1, 2, 3):
        cluster.register(node_id, unclean_stop=True)
    assert state(cluster.partition()) == (NO_LEADER, (), (2, 3), ())
    cluster.beat(3)
    assert cluster.partition().leader == 3
    assert not cluster.partition().recovering


def test_a_wiped_disk_disqualifies_under_flush_ack_too() -> None:
    cluster = Cluster()
    cluster.assign("t", [1, 2, 3], flush="ack")
    for node_id in (1, 2, 3):
        cluster.dead(node_id)
    cluster.start(3, directory_id=directory(3, disk=1))
    assert state(cluster.partition()) == (NO_LEADER, (), (2,), ())


def lost(topic: Topic, number: int = 0) -> list[rpc.PartitionId]:
    return [rpc.PartitionId(topic_id=topic.topic_id, partition=number)]


@pytest.mark.parametrize("flush", ["ack", "replica"])
def test_who_is_back_without_its_log_is_eligible_for_it_no_longer(flush: str) -> None:
    """Somebody deleted the log of one partition while the node was down; of the other it has all that it had."""
    cluster = Cluster()
    topic = cluster.assign("t", [1, 2, 3], [1, 2, 3], flush=flush)
    for node_id in (1, 2, 3):
        cluster.dead(node_id)
    cluster.start(3, lost_partitions=lost(topic))
    assert state(cluster.partition()) == (NO_LEADER, (), (2,), ())
    assert state(cluster.partition(n=1)) == (3, (3,), (2,), ())
    cluster.start(2)
    assert cluster.partition().leader == 2


def test_the_last_that_was_eligible_without_its_log_waits_for_all_others() -> None:
    cluster = Cluster()
    topic = cluster.assign("t", [1, 2, 3], min_insync_replicas="1")
    for node_id in (2, 3, 1):
        cluster.dead(node_id)
    cluster.start(1, lost_partitions=lost(topic))
    assert state(cluster.partition()) == (NO_LEADER, (), (), (1, 2, 3))
    cluster.log_end(1, -1, 0)
    for node_id in (2, 3):
        cluster.start(node_id)
        cluster.log_end(node_id, 0, node_id)
    after = cluster.partition()
    assert (after.leader, after.isr, after.recovering) == (3, (3,), True)


def test_a_sole_replica_without_its_log_starts_again() -> None:
    cluster = Cluster(nodes=1)
    topic = cluster.create(factor=1)
    cluster.dead(1)
    cluster.start(1, lost_partitions=[*lost(topic), *lost(topic, 7), rpc.PartitionId(topic_id=b"x" * 16)])
    assert state(cluster.partition()) == (1, (1,), (), ())
    assert cluster.partition().recovering


@pytest.mark.parametrize("flush", ["ack", "replica"])
def test_a_wiped_disk_leads_nothing_before_all_other_replicas_are_back(flush: str) -> None:
    """With min ISR 1 the last leader alone was eligible. Its log is empty now: who had left the ISR would cut theirs
    down to it. Of those nobody knows who has the most."""
    cluster = Cluster()
    cluster.assign("t", [1, 2, 3], flush=flush, min_insync_replicas="1")
    for node_id in (2, 3, 1):
        cluster.dead(node_id)
    assert state(cluster.partition()) == (NO_LEADER, (), (1,), ())
    cluster.start(1, directory_id=directory(1, disk=1))
    assert state(cluster.partition()) == (NO_LEADER, (), (), (1, 2, 3))
    cluster.log_end(1, -1, 0)
    cluster.start(2)
    cluster.log_end(2, 0, 50)
    assert cluster.partition().leader == NO_LEADER, "3 may have more"
    cluster.start(3)
    assert cluster.partition().leader == NO_LEADER, "3 has not said what it has"
    cluster.log_end(3, 0, 40)
    after = cluster.partition()
    assert (after.leader, after.isr, after.recovering) == (2, (2,), True)
    assert "all of 1, 2, 3 are back, 2 has the most complete log" in cluster.last_records()[-1].partition_change.cause


@pytest.mark.parametrize(("end", "leader"), [(0, NO_LEADER), (1, 1)])
def test_a_log_of_nothing_leads_only_where_all_replicas_are_back(end: int, leader: int) -> None:
    """The directory of a log may go without its disk, and without a word: who had left the ISR has more then."""
    cluster = Cluster()
    cluster.assign("t", [1, 2, 3], min_insync_replicas="1")
    for node_id in (2, 3, 1):
        cluster.dead(node_id)
    cluster.start(1, unclean_stop=True)
    assert state(cluster.partition()) == (NO_LEADER, (), (), (1,)), "1 has not said what it has"
    cluster.log_end(1, 0, end)
    assert cluster.partition().leader == leader
    if leader == NO_LEADER:
        cluster.start(2)
        cluster.log_end(2, -1, 0)
        assert cluster.partition().leader == NO_LEADER
        cluster.start(3)
        cluster.log_end(3, -1, 0)
        assert cluster.partition().leader == 1, "there is nothing anywhere"


def test_who_is_wiped_is_not_waited_for_where_another_was_eligible_last() -> None:
    cluster = three()
    cluster.dead(1)
    for node_id in (2, 3):
        cluster.register(node_id, unclean_stop=True)
    assert set(cluster.partition().last_known_elr) == {2, 3}
    cluster.dead(3)
    cluster.start(3, directory_id=directory(3, disk=1))
    assert cluster.partition().last_known_elr == (2,)


def test_a_sole_replica_with_another_disk_starts_again() -> None:
    cluster = Cluster(nodes=1)
    cluster.create(factor=1)
    cluster.dead(1)
    cluster.start(1, directory_id=directory(1, disk=1))
    cluster.log_end(1, -1, 0)
    assert state(cluster.partition()) == (1, (1,), (), ())


def test_an_unclean_restart_of_one_replica_takes_it_out_of_isr_and_elr() -> None:
    cluster = three()
    cluster.dead(1)
    cluster.dead(2)
    assert cluster.partition().elr == (2,)
    cluster.start(2, unclean_stop=True)
    assert state(cluster.partition()) == (3, (3,), (), (2,))
    cluster.dead(3)
    cluster.start(1)
    # 2 is live but may have lost data, 3 is eligible but away.
    assert state(cluster.partition()) == (NO_LEADER, (), (3,), (2,))


def test_a_sole_replica_elects_itself_again_even_after_an_unclean_stop() -> None:
    cluster = Cluster(nodes=1)
    cluster.create(factor=1)
    cluster.register(1, unclean_stop=True)
    assert state(cluster.partition()) == (NO_LEADER, (), (), (1,))
    cluster.beat(1)
    assert state(cluster.partition()) == (1, (1,), (), ())
    assert cluster.partition().recovering


def test_after_a_restart_nobody_leads_in_its_old_epoch() -> None:
    for factor, nodes in ((1, 1), (3, 3)):
        cluster = Cluster(nodes=nodes)
        cluster.create(factor=factor)
        leader, epoch = cluster.partition().leader, cluster.partition().leader_epoch
        cluster.start(leader)
        assert cluster.partition().leader_epoch > epoch


def test_lowering_min_isr_takes_the_places_of_eligible_replicas_in_the_same_entry() -> None:
    """With min ISR 1 the leader alone moves the high watermark: who is behind it must not lead."""
    cluster = three()
    cluster.alter([1])
    assert cluster.partition().elr == (2, 3)
    resource = admin.ConfigResource(type=admin.CONFIG_RESOURCE_TYPE_TOPIC, name="t")
    change = admin.ConfigChange(key="min.insync.replicas", value="1")
    answer = cluster.do(
        alter_configs,
        admin.AlterConfigsRequest(resources=[admin.ResourceConfigChanges(resource=resource, changes=[change])]),
    )
    assert not answer.resources[0].HasField("error")
    assert state(cluster.partition()) == (1, (1,), (), ())
    cluster.dead(1)
    assert cluster.partition().leader == NO_LEADER


def test_unclean_election_is_off_unless_the_topic_says_so() -> None:
    cluster = Cluster()
    cluster.assign("safe", [1, 2, 3])
    cluster.assign("fast", [1, 2, 3], unclean_leader_election_enable="true")
    for name in ("safe", "fast"):
        cluster.alter([1], name=name)
        cluster.alter([1, 3], name=name)
    cluster.dead(1)
    cluster.dead(3)
    assert cluster.partition("safe").leader == NO_LEADER
    fast = cluster.partition("fast")
    assert (fast.leader, fast.isr, fast.recovering) == (2, (2,), True)
    causes = [r.partition_change.cause for r in cluster.last_records()]
    assert any("UNCLEAN election of 2" in cause for cause in causes)


def elect(cluster: Cluster, kind: "admin.ElectionType", **fields: object) -> admin.ElectLeadersResponse:
    partitions = [data.TopicPartition(topic="t", partition=0)]
    return cluster.do(elect_leaders, admin.ElectLeadersRequest(type=kind, partitions=partitions, **fields))  # type: ignore[arg-type]


def test_an_operator_may_hold_an_unclean_election_and_is_told_the_risk_first() -> None:
    cluster = three()
    cluster.alter([1, 3])
    cluster.dead(1)
    cluster.dead(3)
    cluster.log_end(2, 1, 40)
    told = elect(cluster, admin.ELECTION_TYPE_UNCLEAN, validate_only=True).partitions[0]
    assert (told.leader_id, told.records_at_risk) == (2, -1)
    assert cluster.partition().leader == NO_LEADER
    done = elect(cluster, admin.ELECTION_TYPE_UNCLEAN).partitions[0]
    assert done.leader_id == 2
    p = cluster.partition()
    assert (p.leader, p.isr, p.elr, p.recovering) == (2, (2,), (), True)
    again = elect(cluster, admin.ELECTION_TYPE_UNCLEAN).partitions[0]
    assert code(again.error) == "ELECTION_NOT_NEEDED"


def test_records_at_risk_are_counted_where_the_other_logs_are_known() -> None:
    cluster = three()
    for node_id in (1, 2, 3):
        cluster.register(node_id, unclean_stop=True)
    wedged = {"data_loop_age_ms": 5000}
    p = cluster.partition()
    for node_id, end in ((1, 40), (2, 100), (3, 70)):
        report = rpc.LogEnd(
            topic_id=p.topic_id, partition=0, last_epoch=1, log_end_offset=end, leader_epoch=p.leader_epoch
        )
        # 2 and 3 can say where their logs end, but must not lead.
        cluster.beat(node_id, log_ends=[report], **(wedged if node_id != 1 else {}))
    told = elect(cluster, admin.ELECTION_TYPE_UNCLEAN, validate_only=True).partitions[0]
    assert (told.leader_id, told.records_at_risk) == (1, 60)


def test_of_who_is_last_known_all_must_speak() -> None:
    """2 is silent: it may have more than 3, which says what it has."""
    cluster = three()
    for node_id in (1, 2, 3):
        cluster.register(node_id, unclean_stop=True)
    p = cluster.partition()
    for node_id, end, fields in ((1, 40, {}), (3, 70, {"data_loop_age_ms": 5000})):
        report = rpc.LogEnd(
            topic_id=p.topic_id, partition=0, last_epoch=1, log_end_offset=end, leader_epoch=p.leader_epoch
        )
        cluster.beat(node_id, log_ends=[report], **fields)
    told = elect(cluster, admin.ELECTION_TYPE_UNCLEAN, validate_only=True).partitions[0]
    assert (told.leader_id, told.records_at_risk) == (1, -1)


def test_one_eligible_replica_that_speaks_bounds_the_loss() -> None:
    """1 and 3 were in sync together. 1 is gone; 3 must not lead, but says where its log ends: it has all that was
    acknowledged, so what 2 lacks of it is all that can be lost."""
    cluster = three()
    cluster.alter([1, 3])
    cluster.dead(1)
    cluster.beat(3, data_loop_age_ms=5000)
    p = cluster.partition()
    assert set(p.elr) == {1, 3}
    for node_id, epoch, end, fields in ((2, 1, 40, {}), (3, 1, 70, {"data_loop_age_ms": 5000})):
        report = rpc.LogEnd(
            topic_id=p.topic_id, partition=0, last_epoch=epoch, log_end_offset=end, leader_epoch=p.leader_epoch
        )
        cluster.beat(node_id, log_ends=[report], **fields)
    told = elect(cluster, admin.ELECTION_TYPE_UNCLEAN, validate_only=True).partitions[0]
    assert (told.leader_id, told.records_at_risk) == (2, 30)


def test_of_a_log_that_went_on_in_a_later_epoch_all_may_be_lost() -> None:
    """Its own end says nothing then: from where on it differs is not known."""
    cluster = three()
    cluster.alter([1, 3])
    cluster.dead(1)
    cluster.beat(3, data_loop_age_ms=5000)
    p = cluster.partition()
    for node_id, epoch, end, fields in ((2, 1, 90, {}), (3, 2, 70, {"data_loop_age_ms": 5000})):
        report = rpc.LogEnd(
            topic_id=p.topic_id, partition=0, last_epoch=epoch, log_end_offset=end, leader_epoch=p.leader_epoch
        )
        cluster.beat(node_id, log_ends=[report], **fields)
    told = elect(cluster, admin.ELECTION_TYPE_UNCLEAN, validate_only=True).partitions[0]
    assert (told.leader_id, told.records_at_risk) == (2, 70)


def test_a_preferred_election_needs_the_preferred_replica_in_sync() -> None:
    cluster = three()
    assert code(elect(cluster, admin.ELECTION_TYPE_PREFERRED).partitions[0].error) == "ELECTION_NOT_NEEDED"
    cluster.start(1)
    answer = elect(cluster, admin.ELECTION_TYPE_PREFERRED).partitions[0]
    assert code(answer.error) == "ELIGIBLE_LEADERS_NOT_AVAILABLE"
    cluster.alter([1, 2, 3])
    assert elect(cluster, admin.ELECTION_TYPE_PREFERRED).partitions[0].leader_id == 1
    assert cluster.partition().leader == 1


def test_an_election_everywhere_names_only_what_changed() -> None:
    cluster = Cluster()
    cluster.create(partitions=6)
    cluster.start(1)
    for n in range(6):
        cluster.alter([1, 2, 3], n=n)
    answer = cluster.do(elect_leaders, everywhere(cluster.image, admin.ElectLeadersRequest()))
    assert [(p.partition.partition, p.leader_id) for p in answer.partitions] == [(0, 1), (3, 1)]


@pytest.mark.parametrize(
    ("topic", "partition"), [("nope", 0), ("t", -1), ("t", 1), ("t", 2**31 - 1), ("", 0), ("x" * 10**5, 0)]
)
def test_an_election_of_what_does_not_exist_is_refused(topic: str, partition: int) -> None:
    cluster = three()
    request = admin.ElectLeadersRequest(partitions=[data.TopicPartition(topic=topic, partition=partition)])
    answer = cluster.do(elect_leaders, request)
    assert code(answer.partitions[0].error) == "UNKNOWN_TOPIC_OR_PARTITION"
    assert len(answer.partitions[0].error.message) < 300
