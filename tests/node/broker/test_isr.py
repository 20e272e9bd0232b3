"""A leader's partition and its followers: who joins the ISR, and who leaves it in time."""

from node.broker.partition import Partition
from node.broker.replica import Refusal
from node.broker.settings import topic_settings
from node.metadata.image import Partition as PartitionState
from ottla.internal.v1.replication_pb2 import ReplicaFetchPartition
from ottla.v1 import error_pb2 as pb
from tests.node.broker.host import Host
from tests.node.broker.test_partition import BROKERS, TOPIC, append, fetched, lead


class TestIsr:
    def test_growth_is_asked_for_once_the_follower_is_at_the_mark(self, partition: Partition, host: Host) -> None:
        lead(partition, isr=(1,))
        append(partition, b"a")
        fetched(partition, 0, epoch=-1)
        assert host.changes == []
        fetched(partition, 1)
        assert [change.nodes for change in host.changes] == [frozenset({1, 2})]
        partition.isr_altered(host.changes[0], [1, 2], 0, 1)
        assert partition.leader is not None
        assert partition.leader.isr == {1, 2}

    def test_a_config_change_takes_effect_at_once(self, partition: Partition, host: Host) -> None:
        lead(partition)
        append(partition, b"a")
        to_ack = topic_settings({"flush": "ack", "min.insync.replicas": "2"}, {})
        partition.reconfigure(to_ack, BROKERS, 1000)
        assert host.wanted_syncs == [partition], "what was written before must become durable, too"
        fetched(partition, 1)
        assert partition.high_watermark == 0, "not synced here"


class Stream:
    """A follower's open stream."""

    def grew(self, partition: Partition) -> None: ...
    def marked(self, partition: Partition) -> None: ...


class TestJoining:
    """A follower of an idle partition asks once and then waits for data: whoever could not join at that moment must be
    taken in without asking again."""

    def waiting(self, partition: Partition, brokers: dict[int, int]) -> None:
        three = PartitionState(TOPIC, 0, (1, 2, 3), (), (1,), leader=1, leader_epoch=0)
        partition.lead(three, brokers, 1000)
        for node_id, broker_epoch in ((2, 12), (3, 13)):
            partition.watchers[node_id] = Stream()
            partition.follower_fetched(
                node_id, ReplicaFetchPartition(fetch_offset=0, last_fetched_epoch=-1), broker_epoch
            )

    def test_after_the_change_that_was_in_flight(self, host: Host, partition: Partition) -> None:
        self.waiting(partition, BROKERS | {3: 13})
        assert [change.nodes for change in host.changes] == [{1, 2}]
        partition.isr_altered(host.changes[0], [1, 2], 0, 1)
        assert [change.nodes for change in host.changes] == [{1, 2}, {1, 2, 3}]

    def test_when_the_metadata_shows_every_member_alive(self, host: Host, partition: Partition) -> None:
        self.waiting(partition, {2: 12, 3: 13})  # the leader's own unfencing is not in its metadata yet
        assert host.changes == []
        partition.reconfigure(partition.settings, BROKERS | {3: 13}, 1000)
        assert [change.nodes for change in host.changes] == [{1, 2}]

    def test_after_a_refusal(self, host: Host, partition: Partition) -> None:
        self.waiting(partition, BROKERS)
        partition.isr_refused(host.changes[0], pb.ERROR_CODE_INELIGIBLE_REPLICA)
        host.until(1000)
        assert [change.nodes for change in host.changes] == [{1, 2}, {1, 2}]

    def test_a_refusal_ends_the_wait_for_who_was_to_join(self, host: Host, partition: Partition) -> None:
        three = PartitionState(TOPIC, 0, (1, 2, 3), (), (1, 2), leader=1, leader_epoch=0)
        partition.lead(three, BROKERS | {3: 13}, 1000)
        for node_id, broker_epoch in ((2, 12), (3, 13)):
            partition.follower_fetched(node_id, ReplicaFetchPartition(last_fetched_epoch=-1), broker_epoch)
        append(partition, b"x")
        partition.follower_fetched(2, ReplicaFetchPartition(fetch_offset=1, last_fetched_epoch=0), 12)
        assert partition.high_watermark == 0, "the third is about to be a member"
        host.now_ms = 5000
        assert partition.isr_refused(host.changes[0], pb.ERROR_CODE_INELIGIBLE_REPLICA) is Refusal.REVERTED
        assert partition.high_watermark == 1

    def test_a_follower_that_goes_silent_holds_up_the_mark_for_the_lag_time(
        self, host: Host, partition: Partition
    ) -> None:
        three = PartitionState(TOPIC, 0, (1, 2, 3), (), (1, 2, 3), leader=1, leader_epoch=0)
        partition.lead(three, BROKERS | {3: 13}, 1000)
        for node_id, broker_epoch in ((2, 12), (3, 13)):
            partition.follower_fetched(node_id, ReplicaFetchPartition(last_fetched_epoch=-1), broker_epoch)
        append(partition, b"x")
        partition.follower_fetched(2, ReplicaFetchPartition(fetch_offset=1, last_fetched_epoch=0), 12)
        host.until(1000)
        assert host.changes == []
        host.until(1001)
        assert [change.nodes for change in host.changes] == [{1, 2}]
        partition.isr_altered(host.changes[0], [1, 2], 0, 1)
        assert partition.high_watermark == 1

    def test_who_falls_behind_leaves_in_time_though_another_joins_meanwhile(
        self, host: Host, partition: Partition
    ) -> None:
        three, brokers = PartitionState(TOPIC, 0, (1, 2, 3), (), (1, 2), leader=1, leader_epoch=0), BROKERS | {3: 13}
        partition.lead(three, brokers, 1000)
        append(partition, b"x")
        host.now_ms = 500
        partition.follower_fetched(3, ReplicaFetchPartition(fetch_offset=1, last_fetched_epoch=0), 13)
        partition.reconfigure(partition.settings, brokers, 1000)
        partition.isr_altered(host.changes[0], [1, 2, 3], 0, 1)
        host.until(1000)
        assert [change.nodes for change in host.changes] == [{1, 2, 3}]
        host.until(1001)
        assert [change.nodes for change in host.changes] == [{1, 2, 3}, {1, 3}]

    def test_who_became_late_while_another_joined_leaves_though_the_metadata_changes_all_the_time(
        self, host: Host, partition: Partition
    ) -> None:
        three, brokers = PartitionState(TOPIC, 0, (1, 2, 3), (), (1, 2), leader=1, leader_epoch=0), BROKERS | {3: 13}
        partition.lead(three, brokers, 1000)
        append(partition, b"x")
        host.now_ms = 500
        partition.follower_fetched(3, ReplicaFetchPartition(fetch_offset=1, last_fetched_epoch=0), 13)
        host.until(1100)
        partition.isr_altered(host.changes[0], [1, 2, 3], 0, 1)
        for now_ms in range(1200, 2101, 100):
            host.until(now_ms)
            partition.reconfigure(partition.settings, brokers, 1000)
        assert [change.nodes for change in host.changes] == [{1, 2, 3}, {1, 3}]

    def test_a_refusal_puts_off_nobody_else_who_is_late(self, host: Host, partition: Partition) -> None:
        three, brokers = PartitionState(TOPIC, 0, (1, 2, 3), (), (1, 2), leader=1, leader_epoch=0), BROKERS | {3: 13}
        partition.lead(three, brokers, 1000)
        append(partition, b"x")
        for now_ms in range(480, 2101, 130):
            host.until(now_ms)
            partition.follower_fetched(3, ReplicaFetchPartition(fetch_offset=1, last_fetched_epoch=0), 13)
            host.until(now_ms + 10)
            partition.isr_refused(host.changes[-1], pb.ERROR_CODE_INELIGIBLE_REPLICA)
        assert {1} in [change.nodes for change in host.changes]

    def test_not_whose_stream_has_ended(self, host: Host, partition: Partition) -> None:
        self.waiting(partition, {2: 12, 3: 13})
        del partition.watchers[2]
        partition.reconfigure(partition.settings, BROKERS, 1000)
        assert host.changes == []

    def test_not_who_has_fallen_behind_since(self, host: Host, partition: Partition) -> None:
        self.waiting(partition, {2: 12, 3: 13})
        append(partition, b"x", acks=1)
        host.now_ms = 5000
        partition.reconfigure(partition.settings, BROKERS, 1000)
        partition.take_in()
        assert host.changes == []
