"""A cluster of decisions without I/O: one log-end image, a clock moved by hand, brokers that are asked to beat."""

import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from node.controller.state import brokers, topics
from node.controller.state.draft import ControllerSettings, Draft, SoftState
from node.controller.state.invariants import check_draft, check_partition, check_step
from node.controller.state.partitions import alter_partition
from node.metadata.apply import apply, from_snapshot, snapshot_bytes
from node.metadata.image import FEATURES, METADATA_VERSION, Image, Partition, Topic
from ottla.internal.v1 import controller_pb2 as rpc
from ottla.internal.v1 import metadata_pb2 as records
from ottla.v1 import admin_pb2 as admin
from ottla.v1 import error_pb2 as pb

CLUSTER = b"c" * 16
T = TypeVar("T")


def directory(node_id: int, disk: int = 0) -> bytes:
    return bytes([node_id, disk]) * 8


class Cluster:
    """Each `do` is one log entry. After each one every rule is checked over the whole image, not only what changed."""

    def __init__(self, nodes: int = 3, settings: ControllerSettings | None = None, racks: Iterable[str] = ()) -> None:
        self.settings = settings or ControllerSettings()
        self.image = Image.EMPTY
        self.soft = SoftState()
        self.now_ms = 1_000_000
        self.index = 0
        self.term = 1
        self.entries: list[tuple[int, int, bytes]] = []
        self.epochs: dict[int, int] = {}
        self._ids = itertools.count(1)
        self._starts = itertools.count(1)
        self.leaders: dict[tuple[bytes, int, int], int] = {}
        self.racks = dict(enumerate(racks, 1))
        self.take_over()
        for node_id in range(1, nodes + 1):
            self.start(node_id)

    def do(self, decide: Callable[..., T], *args: Any) -> T:
        draft = Draft(
            self.image, self.index + 1, self.soft, self.settings, self.now_ms, lambda: next(self._ids).to_bytes(16)
        )
        answer = decide(draft, *args)
        if draft.records:
            check_draft(draft)
            entry = records.MetadataRecords(records=draft.records)
            self.index += 1
            after = draft.build(self.term)
            replayed, _ = apply(
                self.image, records.MetadataRecords.FromString(entry.SerializeToString()), self.index, 1
            )
            assert replayed == Image(**{**_fields(after), "term": 1})
            assert from_snapshot(snapshot_bytes(after), after.index, after.term) == after
            self._check(self.image, after)
            self.entries.append((self.index, self.term, entry.SerializeToString()))
            self.image = after
        return answer

    def _check(self, before: Image, after: Image) -> None:
        for topic in after.topics.values():
            for p in topic.partitions:
                check_partition(after, topic, p)
                old = before.partition(topic.topic_id, p.partition)
                if old is not None and old != p:
                    check_step(topic, old, p)
                if p.leader != -1:
                    epoch = (p.topic_id, p.partition, p.leader_epoch)
                    assert self.leaders.setdefault(epoch, p.leader) == p.leader, "two leaders in one epoch"

    def last_records(self) -> list[records.MetadataRecord]:
        return list(records.MetadataRecords.FromString(self.entries[-1][2]).records)

    # Brokers

    def take_over(
        self, contacts: Mapping[int, int | None] | None = None, dead: Iterable[int] = (), own: int = 0
    ) -> None:
        self.soft = SoftState()
        self.term += 1
        self.do(brokers.take_over, contacts or {}, list(dead), own)

    def registration(self, node_id: int, **fields: Any) -> rpc.RegisterBrokerRequest:
        start = next(self._starts)
        values: dict[str, Any] = {
            "cluster_id": CLUSTER,
            "node_id": node_id,
            "directory_id": directory(node_id),
            "incarnation_id": start.to_bytes(16),
            "client_address": f"127.0.0.1:{9191 + node_id}",
            "replication_address": f"127.0.0.1:{9391 + node_id}",
            "control_address": f"127.0.0.1:{9291 + node_id}",
            "rack": self.racks.get(node_id, ""),
            "min_metadata_version": 1,
            "max_metadata_version": 1,
        }
        return rpc.RegisterBrokerRequest(**(values | fields))

    def register(self, node_id: int, **fields: Any) -> int:
        answer = self.do(brokers.register, self.registration(node_id, **fields), CLUSTER)
        self.epochs[node_id] = answer.broker_epoch
        return answer.broker_epoch

    def beat(self, node_id: int, **fields: Any) -> rpc.HeartbeatResponse:
        values: dict[str, Any] = {
            "node_id": node_id,
            "broker_epoch": self.epochs[node_id],
            "metadata_index": self.index,
        }
        return self.do(brokers.heartbeat, rpc.HeartbeatRequest(**(values | fields)), self.now_ms)

    def start(self, node_id: int, **fields: Any) -> rpc.HeartbeatResponse:
        self.register(node_id, **fields)
        return self.beat(node_id)

    def dead(self, node_id: int) -> None:
        self.do(brokers.declare_dead, node_id)

    def stop(self, node_id: int) -> None:
        """A controlled shutdown to its end: the process is gone afterwards."""
        self.beat(node_id, want_shutdown=True)
        for other in self.live():
            self.beat(other)
        assert self.beat(node_id, want_shutdown=True).should_shutdown
        self.dead(node_id)

    def live(self) -> list[int]:
        return [broker.node_id for broker in self.image.live_brokers()]

    def wait(self, ms: int, *beating: int, step: int = 500) -> None:
        """Lets time pass; the brokers named go on with their heartbeats."""
        end = self.now_ms + ms
        while self.now_ms < end:
            self.now_ms = min(end, self.now_ms + step)
            for node_id in beating:
                self.beat(node_id)
            self.do(brokers.tick)

    # Topics

    def create(self, name: str = "t", partitions: int = 1, factor: int = 3, **configs: str) -> Topic:
        wish = admin.NewTopic(
            name=name,
            num_partitions=partitions,
            replication_factor=factor,
            configs={key.replace("_", "."): value for key, value in configs.items()},
        )
        answer = self.do(topics.create_topics, admin.CreateTopicsRequest(topics=[wish]))
        assert not answer.topics[0].HasField("error"), answer.topics[0].error.message
        return self.topic(name)

    def assign(self, name: str, *replicas: list[int], **configs: str) -> Topic:
        wish = admin.NewTopic(
            name=name,
            assignments=[admin.ReplicaAssignment(partition=n, replicas=r) for n, r in enumerate(replicas)],
            configs={key.replace("_", "."): value for key, value in configs.items()},
        )
        answer = self.do(topics.create_topics, admin.CreateTopicsRequest(topics=[wish]))
        assert not answer.topics[0].HasField("error"), answer.topics[0].error.message
        return self.topic(name)

    def topic(self, name: str = "t") -> Topic:
        topic = self.image.topic_named(name)
        assert topic is not None
        return topic

    def partition(self, name: str = "t", n: int = 0) -> Partition:
        return self.topic(name).partitions[n]

    def alter(self, isr: Iterable[int], name: str = "t", n: int = 0, **fields: Any) -> rpc.AlterPartitionResult:
        """The present leader asks for an ISR, all epochs right unless given."""
        partition = self.partition(name, n)
        sender = fields.pop("sender", partition.leader)
        member_epochs = self.epochs | fields.pop("member_epochs", {})
        broker_epoch = fields.pop("broker_epoch", self.epochs[sender])
        values: dict[str, Any] = {
            "topic_id": partition.topic_id,
            "partition": n,
            "leader_epoch": partition.leader_epoch,
            "partition_epoch": partition.partition_epoch,
            "isr": [rpc.IsrMember(node_id=m, broker_epoch=member_epochs[m]) for m in isr],
        }
        request = rpc.AlterPartitionRequest(
            node_id=sender, broker_epoch=broker_epoch, partitions=[rpc.AlterPartition(**(values | fields))]
        )
        return self.do(alter_partition, request).partitions[0]

    def log_end(self, node_id: int, epoch: int, end: int, name: str = "t", n: int = 0) -> rpc.HeartbeatResponse:
        p = self.partition(name, n)
        report = rpc.LogEnd(
            topic_id=p.topic_id, partition=n, last_epoch=epoch, log_end_offset=end, leader_epoch=p.leader_epoch
        )
        return self.beat(node_id, log_ends=[report])


class Newer(Cluster):
    """Its nodes are of the build that there is."""

    def registration(self, node_id: int, **fields: Any) -> rpc.RegisterBrokerRequest:
        return super().registration(node_id, **{"max_metadata_version": FEATURES[METADATA_VERSION][1], **fields})


def code(error: pb.Error) -> str:
    return pb.ErrorCode.Name(error.code).removeprefix("ERROR_CODE_")


def _fields(image: Image) -> dict[str, Any]:
    return {name: getattr(image, name) for name in image.__dataclass_fields__ if name != "EMPTY"}
