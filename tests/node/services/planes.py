"""Data planes of several nodes on one loop, with real logs and real gRPC; the test plays the controller."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import grpc

from node.api.view import QuorumView
from node.config import Settings, load
from node.data import DataPlane
from node.metadata.apply import apply
from node.metadata.image import Delta, Image
from ottla.internal.v1 import metadata_pb2 as records
from ottla.v1 import cluster_pb2
from storage.directory import LogDirectory
from storage.fs import OsFileSystem
from tests.cluster.harness import free_base_port

CLUSTER_ID = b"c" * 16


class Planes:
    """Nodes 1..n. `change` commits records as the controller would, and hands the image to every plane."""

    def __init__(self, directory: Path, nodes: int = 3, *, kafka: bool = False, settings: Sequence[str] = ()) -> None:
        base = free_base_port(nodes)
        self._settings: dict[int, Settings] = {
            i: load(
                None,
                [
                    f"node.id={i}",
                    f"data.dir={directory / str(i)}",
                    f"base.port={base}",
                    *(() if kafka else ("listeners.kafka=off",)),
                    *settings,
                ],
                environ={},
            )
            for i in range(1, nodes + 1)
        }
        self.planes: dict[int, DataPlane] = {}
        self.image = Image.EMPTY
        self.delta = Delta()
        self._tasks: list[asyncio.Task[None]] = []
        self._directories: list[LogDirectory] = []

    def __getitem__(self, node_id: int) -> DataPlane:
        return self.planes[node_id]

    async def __aenter__(self) -> Self:
        fs = OsFileSystem()
        for node_id, settings in self._settings.items():
            directory = LogDirectory.open(
                fs, str(settings.data_dir), node_id=node_id, new_directory_id=bytes([node_id]) * 16, boot_id="b"
            )
            directory.set_cluster_id(CLUSTER_ID)
            self._directories.append(directory)
            plane = DataPlane(
                settings,
                directory,
                fs,
                describe_quorum=_no_quorum,
                render_metrics=_no_metrics,
                on_opened=lambda: None,
                on_applied=lambda: None,
            )
            self.planes[node_id] = plane
            self._tasks.append(asyncio.create_task(plane.run()))
            await plane.opened.wait()
        self.change(
            *(
                records.MetadataRecord(
                    register_broker=records.RegisterBrokerRecord(
                        node_id=node_id,
                        directory_id=bytes([node_id]) * 16,
                        broker_epoch=node_id,
                        client_address=settings.listener("public"),
                        replication_address=settings.listener("replication"),
                        control_address=settings.listener("control"),
                        endpoints=[
                            records.Endpoint(name=name, host=host, port=port) for name, host, port in settings.endpoints
                        ],
                    )
                )
                for node_id, settings in self._settings.items()
            )
        )
        self.change(*(self.fenced(node_id, False) for node_id in self.planes))
        for node_id, plane in self.planes.items():
            plane.set_quorum(QuorumView(1, 1, 1, CLUSTER_ID))
            plane.set_broker_epoch(node_id)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for plane in self.planes.values():
            await plane.stop()
        for directory in self._directories:
            directory.close(clean=True)

    @staticmethod
    def fenced(node_id: int, fenced: bool) -> records.MetadataRecord:
        return records.MetadataRecord(
            broker_change=records.BrokerChangeRecord(node_id=node_id, broker_epoch=node_id, fenced=fenced)
        )

    def change(self, *changes: records.MetadataRecord, only: tuple[int, ...] = ()) -> None:
        """Commits one entry; `only` leaves the other planes behind."""
        index = self.image.index + 1
        self.image, self.delta = apply(self.image, records.MetadataRecords(records=changes), index, 1)
        for node_id, plane in self.planes.items():
            if not only or node_id in only:
                plane.apply_metadata(self.image, self.delta)
                assert not plane.failed.done(), plane.failed

    def create_topic(
        self, name: str, leaders: list[int], *, internal: bool = False, only: tuple[int, ...] = (), **configs: str
    ) -> bytes:
        """A topic whose partition i is led by `leaders[i]`, with a replica on every node; -1 = no leader."""
        topic_id = name.encode().ljust(16, b"_")[:16]
        nodes = list(self.planes)
        self.change(
            records.MetadataRecord(producer_ids=records.ProducerIdsRecord(next_producer_id=1_000_001)),
            records.MetadataRecord(topic=records.TopicRecord(topic_id=topic_id, name=name, internal=internal)),
            *(
                records.MetadataRecord(
                    partition=records.PartitionRecord(
                        topic_id=topic_id,
                        partition=number,
                        replicas=sorted(nodes, key=lambda node, first=leader: node != first),
                        directories=[bytes([node]) * 16 for node in nodes],
                        isr=nodes,
                        leader=leader,
                    )
                )
                for number, leader in enumerate(leaders)
            ),
            *(
                records.MetadataRecord(
                    config=records.ConfigRecord(
                        resource_type=2, resource_name=topic_id.hex(), key=key.replace("_", "."), value=value
                    )
                )
                for key, value in configs.items()
            ),
            only=only,
        )
        return topic_id

    def lead(self, topic_id: bytes, number: int, leader: int, *, only: tuple[int, ...] = ()) -> None:
        """Elects a leader; `only` these planes hear of it."""
        change = records.PartitionChangeRecord(topic_id=topic_id, partition=number, leader=leader)
        self.change(records.MetadataRecord(partition_change=change), only=only)

    def address(self, node_id: int) -> str:
        return self._settings[node_id].listener("public")

    def kafka_address(self, node_id: int) -> str:
        return self._settings[node_id].kafka_listeners[0].address

    @contextlib.asynccontextmanager
    async def channel(self, node_id: int, listener: str = "public") -> AsyncIterator[grpc.aio.Channel]:
        options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
        async with grpc.aio.insecure_channel(self._settings[node_id].listener(listener), options=options) as channel:
            yield channel


async def _no_quorum() -> cluster_pb2.DescribeQuorumResponse:
    return cluster_pb2.DescribeQuorumResponse(leader_id=1, leader_epoch=1)


async def _no_metrics() -> bytes:
    return b""
