"""Brokers with real logs and real replication over loopback gRPC, around a controller of a few lines.

The controller here keeps the rules of AlterPartition that leaders depend on, and lets a test decide everything else:
who leads, who is registered, when metadata reaches whom.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import grpc

from node.broker.broker import Broker
from node.broker.replication import ReplicationService
from node.broker.settings import BrokerSettings
from node.metadata.image import Broker as BrokerState
from node.metadata.image import Delta, Image, Partition, Topic
from node.metrics import Metrics
from node.services import listener
from ottla.internal.v1 import controller_pb2, controller_pb2_grpc, replication_pb2
from ottla.internal.v1.view_pb2 import RecordBatchView
from ottla.protocol.errors import ApiError
from ottla.v1 import error_pb2 as pb
from ottla.v1.record_pb2 import Record, Records, Segment
from storage.directory import LogDirectory
from storage.fs import OsFileSystem

CLUSTER_ID = bytes(range(16))
TOPIC_ID = bytes([7] * 16)
REPLICATION = replication_pb2.DESCRIPTOR.services_by_name["ReplicationService"]
FAST = BrokerSettings(replica_lag_time_max_ms=1000, replica_fetch_backoff_ms=20)


def batch(*values: bytes, producer_id: int = 0, sequence: int = 0, **fields: Any) -> RecordBatchView:
    """What a producer would send: one record per value."""
    payload = Records(records=[Record(value=value) for value in values]).SerializeToString()
    return RecordBatchView(records=payload, producer_id=producer_id, base_sequence=sequence, **fields)


class Node:
    """One broker, its data directory and its replication listener."""

    def __init__(self, cluster: "Cluster", node_id: int, path: Path) -> None:
        self.cluster = cluster
        self.node_id = node_id
        self.path = path
        self.broker: Broker
        self.address = ""
        self.up = False
        self._server: grpc.aio.Server | None = None

    async def start(self) -> None:
        """Opens the logs and serves replication; it takes part once it is registered."""
        directory = LogDirectory.open(
            OsFileSystem(),
            str(self.path),
            node_id=self.node_id,
            new_directory_id=bytes([self.node_id]) * 16,
            boot_id="the same",
        )
        directory.set_cluster_id(CLUSTER_ID)
        self.broker = Broker(
            node_id=self.node_id,
            directory=directory,
            fs=OsFileSystem(),
            settings=self.cluster.settings,
            defaults={},
            controller_address=lambda: self.cluster.controller_address,
        )
        await self.broker.start()
        self.broker.clock.told(0, self.broker.wall_ms(), self.broker.clock_ms())
        self._server = listener.make_server(64 * 2**20)
        listener.add_service(
            self._server,
            REPLICATION,
            {"Fetch": ReplicationService(self.broker).serve, "LookUp": _not_here},
            Metrics(),
            responses={"Fetch": listener.passes},
        )
        port = self._server.add_insecure_port(self.address or "127.0.0.1:0")
        self.address = f"127.0.0.1:{port}"
        await self._server.start()
        self.up = True

    async def kill(self) -> None:
        """Ends at once: connections closed, nothing synced, no clean marker (the page cache stays)."""
        assert self._server is not None
        self.up = False
        await self._server.stop(None)
        broker = self.broker
        tasks = [*broker._tasks]
        broker._stopping = True
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for partition in broker.partitions.values():
            partition.close("killed", pb.ERROR_CODE_NETWORK_EXCEPTION)
            partition.log.close(clean=False)
        broker._sync_threads.shutdown()
        broker._checkpoint_thread.shutdown()
        broker.directory.close(clean=False)

    async def stop(self) -> bool:
        assert self._server is not None
        self.up = False
        await self._server.stop(None)
        clean = await self.broker.stop()
        self.broker.directory.close(clean)
        return clean


async def _not_here(_request: Any, context: Any) -> None:
    """Positions of groups: none in these tests."""
    await context.abort(grpc.StatusCode.UNIMPLEMENTED, "replication only")


class Controller(controller_pb2_grpc.ControllerServiceServicer):
    """AlterPartition with its fencing checks; `refuse` makes it answer something else."""

    def __init__(self, cluster: "Cluster") -> None:
        self.cluster = cluster
        self.requests: list[controller_pb2.AlterPartitionRequest] = []
        self.refuse: int | None = None
        self.next_producer_id = 1

    async def AlterPartition(self, request: Any, context: Any) -> controller_pb2.AlterPartitionResponse:
        self.requests.append(request)
        results = []
        for item in request.partitions:
            state = self.cluster.image.partition(item.topic_id, item.partition)
            code = self._check(item, state)
            result = controller_pb2.AlterPartitionResult(topic_id=item.topic_id, partition=item.partition)
            if code:
                result.error.CopyFrom(ApiError(code, "refused by the test's controller").to_proto())
            else:
                assert state is not None
                state = self.cluster.change(
                    item.partition, isr=tuple(sorted(m.node_id for m in item.isr)), recovering=False
                )
                result.isr.extend(state.isr)
                result.leader, result.leader_epoch = state.leader, state.leader_epoch
                result.partition_epoch = state.partition_epoch
            results.append(result)
        return controller_pb2.AlterPartitionResponse(partitions=results)

    def _check(self, item: controller_pb2.AlterPartition, state: Partition | None) -> int:
        if self.refuse is not None:
            return self.refuse
        if state is None:
            return pb.ERROR_CODE_UNKNOWN_TOPIC_ID
        if item.leader_epoch != state.leader_epoch:
            return pb.ERROR_CODE_FENCED_LEADER_EPOCH
        if item.partition_epoch != state.partition_epoch:
            return pb.ERROR_CODE_INVALID_UPDATE_VERSION
        brokers = self.cluster.image.brokers
        if any(not brokers[m.node_id].live or brokers[m.node_id].broker_epoch != m.broker_epoch for m in item.isr):
            return pb.ERROR_CODE_INELIGIBLE_REPLICA
        return 0

    async def AllocateProducerIds(self, request: Any, context: Any) -> controller_pb2.AllocateProducerIdsResponse:
        first = self.next_producer_id
        self.next_producer_id += 1000
        return controller_pb2.AllocateProducerIdsResponse(first_producer_id=first, count=1000)


class Cluster:
    """Nodes 1..n, one topic, and the metadata they see."""

    def __init__(self, path: Path, nodes: int, settings: BrokerSettings) -> None:
        self.settings = settings
        self.image = replace(Image.EMPTY, next_producer_id=1001)
        self.controller = Controller(self)
        self.controller_address = ""
        self.nodes = {i: Node(self, i, path / f"node{i}") for i in range(1, nodes + 1)}
        self.deaf: set[int] = set()
        self._index = 0
        self._epochs = 100

    # --- metadata

    def publish(self, **delta: Any) -> None:
        """Gives the image to every node that is up and not deaf."""
        self._index += 1
        self.image = replace(self.image, index=self._index)
        for node_id, node in self.nodes.items():
            if node.up and node_id not in self.deaf:
                node.broker.apply_metadata(self.image, Delta(**delta))

    def hear(self, node_id: int) -> None:
        """A node that was deaf gets the newest image, as one jump."""
        self.deaf.discard(node_id)
        self.nodes[node_id].broker.apply_metadata(self.image, Delta(snapshot=True))

    def register(self, node_id: int) -> None:
        self._epochs += 1
        node = self.nodes[node_id]
        state = BrokerState(
            node_id, bytes([node_id]) * 16, bytes(16), self._epochs, f"client-{node_id}", node.address, "", fenced=False
        )
        self._brokers({**self.image.brokers, node_id: state})
        node.broker.broker_epoch = state.broker_epoch
        self.publish(changed_brokers=frozenset({node_id}))

    def fence(self, node_id: int) -> None:
        self._brokers({**self.image.brokers, node_id: replace(self.image.brokers[node_id], fenced=True)})
        self.publish(changed_brokers=frozenset({node_id}))

    def _brokers(self, brokers: dict[int, BrokerState]) -> None:
        self.image = replace(self.image, brokers=MappingProxyType(brokers))

    def create(
        self,
        replicas: Iterable[int],
        partitions: int = 1,
        *,
        topic_id: bytes = TOPIC_ID,
        import_id: bytes = b"",
        first_offsets: tuple[int, ...] = (),
        **configs: str,
    ) -> None:
        ids = tuple(replicas)
        topic = Topic(
            topic_id,
            "events",
            False,
            tuple(Partition(topic_id, n, ids, (bytes(16),) * len(ids), ids, leader=ids[0]) for n in range(partitions)),
            MappingProxyType({name.replace("_", "."): value for name, value in configs.items()}),
            import_id,
            first_offsets,
        )
        self.image = replace(
            self.image,
            topics=MappingProxyType({**self.image.topics, topic_id: topic}),
            names=MappingProxyType({**self.image.names, "events": topic_id}),
        )
        self.publish(
            created_topics=frozenset({topic_id}),
            changed_partitions=frozenset((topic_id, n) for n in range(partitions)),
        )

    def delete(self, topic_id: bytes = TOPIC_ID) -> None:
        topics = dict(self.image.topics)
        gone = topics.pop(topic_id)
        self.image = replace(self.image, topics=MappingProxyType(topics), names=MappingProxyType({}))
        self.publish(deleted_topics=MappingProxyType({topic_id: gone}))

    def configure(self, **configs: str) -> None:
        topic = self.image.topics[TOPIC_ID]
        changed = {**topic.configs, **{name.replace("_", "."): value for name, value in configs.items()}}
        topics = {**self.image.topics, TOPIC_ID: replace(topic, configs=MappingProxyType(changed))}
        self.image = replace(self.image, topics=MappingProxyType(topics))
        self.publish(changed_config_topics=frozenset({TOPIC_ID}))

    def change(self, number: int = 0, **fields: Any) -> Partition:
        """Writes a new state of a partition; a `leader` starts a new epoch."""
        topic = self.image.topics[TOPIC_ID]
        state = topic.partitions[number]
        state = replace(
            state,
            partition_epoch=state.partition_epoch + 1,
            leader_epoch=state.leader_epoch + ("leader" in fields),
            **fields,
        )
        partitions = (*topic.partitions[:number], state, *topic.partitions[number + 1 :])
        topics = {**self.image.topics, TOPIC_ID: replace(topic, partitions=partitions)}
        self.image = replace(self.image, topics=MappingProxyType(topics))
        self.publish(changed_partitions=frozenset({(TOPIC_ID, number)}))
        return state

    # --- records

    def log(self, node_id: int, number: int = 0) -> Any:
        return self.nodes[node_id].broker.partitions[TOPIC_ID, number].log

    def mark(self, node_id: int, number: int = 0) -> int:
        return self.nodes[node_id].broker.partitions[TOPIC_ID, number].high_watermark

    def isr(self, number: int = 0) -> tuple[int, ...]:
        return self.image.topics[TOPIC_ID].partitions[number].isr

    async def produce(self, node_id: int, records: RecordBatchView, *, acks: int = -1, timeout_ms: int = 5000) -> Any:
        """Appends at a node and waits for the acknowledgement."""
        broker = self.nodes[node_id].broker
        appended = broker.append(TOPIC_ID, 0, records, acks=acks, current_leader_epoch=None, now_ms=broker.wall_ms())
        await broker.acknowledged(appended, timeout_ms)
        return appended

    def bytes_of(self, node_id: int, number: int = 0, *, below: int | None = None) -> bytes:
        """Everything a node's log holds, or what is below an offset."""
        records = self.log(node_id, number)
        end = records.log_end_offset if below is None else below
        at, parts = records.log_start_offset, []
        while at < end:
            found = records.read(at, 2**30, end, min_one=True)
            if not found.data:
                break
            parts.append(found.data)
            at = found.next_offset
        return b"".join(parts)

    def values(self, node_id: int) -> list[bytes]:
        """The record values a consumer can read at a node."""
        broker = self.nodes[node_id].broker
        at, values = 0, []
        while True:
            found = broker.read(TOPIC_ID, 0, at, 2**20, min_one=True)
            if not found.data:
                return values
            for stored in Segment.FromString(found.data).batches:
                values += [record.value for record in stored.records.records]
            at = found.next_offset


async def until(condition: Any, timeout_s: float = 20.0) -> None:
    """Waits for a condition; its failure shows as the condition's own assertion."""
    deadline = asyncio.get_running_loop().time() + timeout_s
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "not true within the time"
        await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def running(path: Path, nodes: int = 3, settings: BrokerSettings = FAST) -> AsyncIterator[Cluster]:
    """A cluster of registered nodes without topics."""
    cluster = Cluster(path, nodes, settings)
    server = grpc.aio.server()
    controller_pb2_grpc.add_ControllerServiceServicer_to_server(cluster.controller, server)
    cluster.controller_address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        for node in cluster.nodes.values():
            await node.start()
        for node_id in cluster.nodes:
            cluster.register(node_id)
        yield cluster
    finally:
        for node in cluster.nodes.values():
            if node.up:
                await node.stop()
        await server.stop(None)
