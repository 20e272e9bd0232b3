"""Any history of starts, crashes, stops and changes keeps the rules and, once healed, has leaders.

A model of the replicas' logs runs along: what was acknowledged (on every ISR member, with min ISR members) must be on
every clean leader that is elected later. Crashes that lose unsynced data are part of it.
"""

import contextlib

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from node.controller.state import brokers, leaders, moves, resource_configs, topics
from node.controller.state.partitions import alter_partition
from node.metadata.apply import apply, from_snapshot, snapshot_bytes
from node.metadata.image import METADATA_VERSION, NO_LEADER, REASSIGNMENT_METADATA_VERSION, Image, Partition
from ottla.internal.v1 import controller_pb2 as rpc
from ottla.internal.v1 import metadata_pb2 as records
from ottla.protocol.errors import ApiError
from ottla.v1 import admin_pb2 as admin
from ottla.v1.data_pb2 import TopicPartition
from tests.node.controller.support import Newer, directory

NODES = (1, 2, 3, 4)
node = st.sampled_from(NODES)


class Replica:
    """A model of one replica's log: how many records it holds and how many survive a power loss."""

    def __init__(self) -> None:
        self.records: list[int] = []
        self.synced = 0


class ControllerMachine(RuleBasedStateMachine):
    @initialize()
    def start(self) -> None:
        self.cluster = Newer(nodes=4)
        self.up = set(NODES)
        self.disks = dict.fromkeys(NODES, 0)
        self.logs: dict[int, Replica] = {n: Replica() for n in NODES}
        self.acknowledged: set[int] = set()
        self.next_record = 0
        self.in_flight: list[rpc.AlterPartitionRequest] = []
        self.cluster.assign("t", [1, 2, 3])
        self.leader_seen = (self.partition.leader, self.partition.leader_epoch)

    @property
    def partition(self) -> Partition:
        return self.cluster.partition()

    # Brokers

    @rule(n=node)
    def crash(self, n: int) -> None:
        if n in self.up:
            self.up.discard(n)
            self.cluster.dead(n)
            self.follow()

    @rule(n=node, power_loss=st.booleans(), fast=st.booleans())
    def restart(self, n: int, power_loss: bool, fast: bool) -> None:
        """`fast`: the new process registers before anyone has noticed that the old one died."""
        if n in self.up and not fast:
            self.cluster.dead(n)
        if power_loss:
            log = self.logs[n]
            del log.records[log.synced :]
        self.up.add(n)
        self.cluster.register(n, unclean_stop=power_loss, directory_id=directory(n, self.disks[n]))
        self.follow()
        self.beat(n)

    @rule(n=node)
    def wipe(self, n: int) -> None:
        self.crash(n)
        self.disks[n] += 1
        self.logs[n] = Replica()
        self.cluster.register(n, directory_id=directory(n, self.disks[n]))
        self.up.add(n)
        self.follow()
        self.beat(n)

    @rule(n=node)
    def beat(self, n: int) -> None:
        if n in self.up:
            answer = self.cluster.beat(n)
            self.follow()
            for want in answer.want_log_ends:
                if self.partition.leader == NO_LEADER and want.topic_id == self.partition.topic_id:
                    # One epoch in this model, so the number of records is the whole comparison.
                    self.cluster.log_end(n, 0, len(self.logs[n].records), n=want.partition)
                    self.follow()

    @rule(n=node)
    def stop(self, n: int) -> None:
        if n in self.up:
            self.cluster.beat(n, want_shutdown=True)
            self.follow()
            self.up.discard(n)
            self.cluster.dead(n)
            self.follow()

    @rule(ms=st.sampled_from([100, 1000, 3000]))
    def time_passes(self, ms: int) -> None:
        self.cluster.wait(ms, *sorted(self.up))
        self.cluster.do(leaders.balance)
        self.follow()

    @rule(n=node, broken=st.booleans())
    def log_fails(self, n: int, broken: bool) -> None:
        if n in self.up:
            offline = [rpc.PartitionId(topic_id=self.partition.topic_id, partition=0)] if broken else []
            self.cluster.beat(n, offline_partitions=offline)
            self.follow()

    @rule()
    def new_controller(self) -> None:
        self.cluster.take_over(dead=[n for n in NODES if n not in self.up])
        self.follow()

    # The data: a leader appends, followers copy, the high watermark follows.

    def follow(self) -> None:
        """Live followers make their logs equal to a new leader's: a prefix of it, by epoch."""
        p = self.partition
        if p.leader == NO_LEADER or (p.leader, p.leader_epoch) == self.leader_seen:
            return
        self.leader_seen = (p.leader, p.leader_epoch)
        led = self.logs[p.leader].records
        missing = self.acknowledged - set(led)
        if p.recovering:
            self.acknowledged -= missing
        else:
            assert not missing, f"{p.leader} was elected from ISR or ELR without {sorted(missing)[:5]}"
        for n in p.replicas:
            log = self.logs[n]
            common = 0
            while common < min(len(log.records), len(led)) and log.records[common] == led[common]:
                common += 1
            if n != p.leader:
                del log.records[common:]
                log.synced = min(log.synced, common)

    @precondition(lambda self: self.partition.leader in self.up)
    @rule(copies=st.sets(node), synced=st.sets(node))
    def write(self, copies: set[int], synced: set[int]) -> None:
        """One record; those in `copies` fetch all there is. Acknowledged only if the whole ISR has it, with min ISR."""
        p = self.partition
        leader = self.logs[p.leader]
        leader.records.append(self.next_record)
        self.next_record += 1
        for n in copies & self.up & set(p.replicas) - {p.leader}:
            self.logs[n].records = list(leader.records)
        for n in synced & self.up:
            self.logs[n].synced = len(self.logs[n].records)
        if len(p.isr) >= 2:
            # The maximal ISR: who is being added counts before the controller has agreed.
            asked = {
                member.node_id
                for request in self.in_flight
                for change in request.partitions
                if (change.leader_epoch, change.partition_epoch) == (p.leader_epoch, p.partition_epoch)
                for member in change.isr
            }
            watermark = min(len(self.logs[n].records) for n in {*p.isr, *asked})
            self.acknowledged.update(leader.records[:watermark])

    @precondition(lambda self: self.partition.leader in self.up)
    @rule(n=node, grow=st.booleans(), delayed=st.booleans())
    def isr_change(self, n: int, grow: bool, delayed: bool) -> None:
        """What a leader asks for, with the epochs it knows; `delayed` requests arrive whenever they like."""
        p = self.partition
        if grow:
            if len(self.logs[n].records) < len(self.logs[p.leader].records):
                return
            wish = {*p.isr, n} & set(p.replicas)
        else:
            wish = {*p.isr} - {n} | {p.leader}
        change = rpc.AlterPartition(
            topic_id=p.topic_id,
            partition=0,
            leader_epoch=p.leader_epoch,
            partition_epoch=p.partition_epoch,
            isr=[rpc.IsrMember(node_id=m, broker_epoch=self.cluster.epochs[m]) for m in sorted(wish)],
        )
        epoch = self.cluster.epochs[p.leader]
        self.in_flight.append(rpc.AlterPartitionRequest(node_id=p.leader, broker_epoch=epoch, partitions=[change]))
        if not delayed:
            self.arrives(-1)

    @precondition(lambda self: self.in_flight)
    @rule(which=st.integers(0, 5))
    def arrives(self, which: int) -> None:
        request = self.in_flight.pop(which % len(self.in_flight))
        with contextlib.suppress(ApiError):
            self.cluster.do(alter_partition, request)
        self.follow()

    @precondition(lambda self: self.partition.leader == NO_LEADER)
    @rule()
    def unclean_election(self) -> None:
        request = admin.ElectLeadersRequest(type=admin.ELECTION_TYPE_UNCLEAN)
        self.cluster.do(leaders.elect_leaders, leaders.everywhere(self.cluster.image, request))
        self.follow()

    # Other topics and configs come and go.

    @rule(i=st.integers(0, 3), partitions=st.integers(1, 4))
    def create(self, i: int, partitions: int) -> None:
        wish = admin.NewTopic(name=f"x{i}", num_partitions=partitions)
        self.cluster.do(topics.create_topics, admin.CreateTopicsRequest(topics=[wish]))

    @rule(i=st.integers(0, 3))
    def delete(self, i: int) -> None:
        self.cluster.do(topics.delete_topics, admin.DeleteTopicsRequest(topics=[admin.TopicRef(name=f"x{i}")]))

    @rule(i=st.integers(0, 3), key=st.sampled_from(["retention.ms", "min.insync.replicas"]), value=st.integers(1, 3))
    def configure(self, i: int, key: str, value: int) -> None:
        change = admin.ResourceConfigChanges(
            resource=admin.ConfigResource(type=admin.CONFIG_RESOURCE_TYPE_TOPIC, name=f"x{i}"),
            changes=[admin.ConfigChange(key=key, value=str(value))],
        )
        self.cluster.do(resource_configs.alter_configs, admin.AlterConfigsRequest(resources=[change]))

    @rule(n=node)
    def producer_ids(self, n: int) -> None:
        before = self.cluster.image.next_producer_id
        request = rpc.AllocateProducerIdsRequest(node_id=n, broker_epoch=self.cluster.epochs[n])
        answer = self.cluster.do(brokers.allocate_producer_ids, request)
        assert answer.first_producer_id == before

    @invariant()
    def the_dead_are_in_no_isr(self) -> None:
        for topic in self.cluster.image.topics.values():
            for p in topic.partitions:
                assert set(p.isr) <= self.up

    def teardown(self) -> None:
        """Healed, every partition has a leader; and the log, cut anywhere into snapshot and tail, gives the same."""
        if not hasattr(self, "cluster"):
            return
        for _ in range(3):
            for n in NODES:
                if n not in self.up:
                    self.up.add(n)
                    self.cluster.register(n, directory_id=directory(n, self.disks[n]))
                self.cluster.beat(n)
            for topic in list(self.cluster.image.topics.values()):
                for p in topic.partitions:
                    for n in p.replicas:
                        if self.cluster.partition(topic.name, p.partition).leader == NO_LEADER:
                            self.cluster.log_end(n, 0, 0, name=topic.name, n=p.partition)
        for topic in self.cluster.image.topics.values():
            assert all(p.leader != NO_LEADER for p in topic.partitions)
        self.replay()

    def replay(self) -> None:
        entries = self.cluster.entries
        for cut in {0, 1, len(entries) // 3, len(entries) // 2, len(entries) - 1}:
            image = Image.EMPTY
            for position, (index, term, data) in enumerate(entries):
                if position == cut:
                    image = from_snapshot(snapshot_bytes(image), image.index, image.term)
                image, _ = apply(image, records.MetadataRecords.FromString(data), index, term)
            assert image == self.cluster.image
            assert snapshot_bytes(image) == snapshot_bytes(self.cluster.image)


class MovingMachine(ControllerMachine):
    """The same, and the partition moves all the time; who leaves it loses its log at once."""

    @initialize()
    def start(self) -> None:
        super().start()
        level = records.FeatureLevelRecord(name=METADATA_VERSION, level=REASSIGNMENT_METADATA_VERSION)
        self.cluster.do(lambda draft: draft.add(records.MetadataRecord(feature_level=level)))
        change = admin.ResourceConfigChanges(
            resource=admin.ConfigResource(type=admin.CONFIG_RESOURCE_TYPE_TOPIC, name="t"),
            changes=[admin.ConfigChange(key="min.insync.replicas", value="2")],
        )
        self.cluster.do(resource_configs.alter_configs, admin.AlterConfigsRequest(resources=[change]))

    def follow(self) -> None:
        for n in set(NODES) - set(self.partition.replicas):
            self.logs[n] = Replica()
        super().follow()

    @rule(to=st.lists(node, unique=True, min_size=2), cancel=st.booleans())
    def move(self, to: list[int], cancel: bool) -> None:
        ref = TopicPartition(topic="t")
        wish = admin.PartitionMove(partition=ref, replicas=[] if cancel else to, cancel=cancel)
        self.cluster.do(moves.reassign_partitions, admin.ReassignPartitionsRequest(partitions=[wish]))
        self.follow()

    def teardown(self) -> None:
        """Healed, with everybody in sync, nothing moves any more."""
        super().teardown()
        if hasattr(self, "cluster"):
            while (p := self.partition).target:
                late = next((n for n in p.replicas if n not in p.isr), None)
                assert late is not None, p
                self.cluster.alter({*p.isr, late}, recovered=True)


TestMoves = MovingMachine.TestCase
TestController = ControllerMachine.TestCase
TestController.settings = settings(
    max_examples=200, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck)
)
TestMoves.settings = settings(TestController.settings, max_examples=60)
