"""Ottla: three real nodes, one topic of six partitions, the public contract's produce stream, prebuilt batches."""

import asyncio
import itertools
import math
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TypeAlias

import grpc.aio

from bench.process import START_SECONDS, Running, free_ports, spawn, stop
from ottla.protocol.batch import varint
from ottla.protocol.checksum import crc32c
from ottla.v1 import admin_pb2, admin_pb2_grpc, cluster_pb2, cluster_pb2_grpc, data_pb2, record_pb2

ProduceStream: TypeAlias = "grpc.aio.StreamStreamCall[bytes, data_pb2.ProduceStreamResponse]"
TOPIC = "bench"
PARTITIONS = 6
LISTENERS = ("public", "control", "replication", "http")
OPTIONS = [("grpc.max_receive_message_length", 32 << 20), ("grpc.max_send_message_length", 32 << 20)]


async def start(directory: Path) -> Running:
    """Starts three nodes and creates the topic: replication factor 3, min.insync.replicas 2, flush=replica."""
    ports = free_ports(3 * len(LISTENERS))
    listeners = [dict(zip(LISTENERS, ports[node * 4 : node * 4 + 4], strict=True)) for node in range(3)]
    voters = ",".join(f"{node + 1}@127.0.0.1:{each['control']}" for node, each in enumerate(listeners))
    processes = []
    for node, each in enumerate(listeners):
        settings = {"node.id": node + 1, "data.dir": directory / f"node-{node + 1}", "controller.quorum.voters": voters}
        settings |= {f"listeners.{name}": f"127.0.0.1:{port}" for name, port in each.items()}
        settings["listeners.kafka"] = "off"
        flags = [argument for key, value in settings.items() for argument in ("--set", f"{key}={value}")]
        processes.append(spawn([sys.executable, "-m", "node", *flags], directory / "log"))
    try:
        for each in listeners:
            await asyncio.to_thread(_wait_ready, each["http"])
        await _create_topic(listeners[0]["public"])
    except BaseException as error:
        stop(processes)
        error.add_note((directory / "log").read_text(errors="replace")[-4000:])
        raise
    return Running(
        [each["public"] for each in listeners], {"servers": [process.pid for process in processes]}, processes
    )


def _wait_ready(port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=1):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise TimeoutError(f"the node with HTTP port {port} is not ready after {START_SECONDS:g} s")


async def _create_topic(port: int) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        topic = admin_pb2.NewTopic(name=TOPIC, num_partitions=PARTITIONS, replication_factor=3)
        request = admin_pb2.CreateTopicsRequest(topics=[topic])
        answer = await admin_pb2_grpc.AdminServiceStub(channel).CreateTopics(request, timeout=START_SECONDS)
    if answer.topics[0].HasField("error"):
        raise RuntimeError(answer.topics[0].error.message)


def request_body(partition: int, values: list[bytes]) -> bytes:
    """A serialized ProduceRequest without its request_id."""
    payload = record_pb2.Records(records=[record_pb2.Record(value=value) for value in values])
    batch = record_pb2.RecordBatch(
        record_count=len(values),
        last_offset_delta=len(values) - 1,
        payload_crc=crc32c(payload.SerializeToString()),
        records=payload,
    )
    item = data_pb2.ProducePartition(topic=TOPIC, partition=partition, batch=batch)
    return data_pb2.ProduceRequest(acks=-1, partitions=[item]).SerializeToString()


class OttlaLink:
    """The client's end: a stream to each node that is asked; batches go to the partitions in turn."""

    def __init__(self, channels: list[grpc.aio.Channel], leaders: list[int]) -> None:
        self._channels = channels
        call: dict[int, ProduceStream] = {
            node: channels[node].stream_stream(
                "/ottla.v1.DataService/ProduceStream",
                response_deserializer=data_pb2.ProduceStreamResponse.FromString,
            )()
            for node in set(leaders)
        }
        self._streams = [call[node] for node in leaders]
        self._sent = 0
        self._answers: asyncio.Queue[list[int] | Exception] = asyncio.Queue()
        self._readers = [asyncio.ensure_future(self._read(stream)) for stream in call.values()]

    @classmethod
    async def open(cls, ports: list[int], *, aside: int = 0) -> "OttlaLink":
        """Dials every node and finds the leaders. `aside`: sends to the nodes so many places after them instead."""
        channels = [grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=OPTIONS) for port in ports]
        stub = cluster_pb2_grpc.ClusterServiceStub(channels[0])
        while True:
            metadata = await stub.GetMetadata(cluster_pb2.GetMetadataRequest(topics=[TOPIC]), wait_for_ready=True)
            found = metadata.topics[0].partitions
            if len(found) == PARTITIONS and all(each.HasField("leader_id") and len(each.isr) == 3 for each in found):
                return cls(channels, [(each.leader_id - 1 + aside) % len(ports) for each in found])
            await asyncio.sleep(0.1)

    async def send(self, batch: bytes) -> None:
        stream = self._streams[self._sent % PARTITIONS]
        head = b"\x08" + varint(self._sent)
        self._sent += 1
        await stream.write(head + batch)

    async def _read(self, stream: ProduceStream) -> None:
        try:
            async for message in stream:
                for response in message.responses:
                    for result in response.partitions:
                        if result.HasField("error"):
                            raise RuntimeError(result.error.message)
                self._answers.put_nowait([response.request_id for response in message.responses])
        except (grpc.aio.AioRpcError, RuntimeError) as error:
            self._answers.put_nowait(error)

    async def acknowledged(self) -> AsyncIterator[list[int]]:
        while True:
            answer = await self._answers.get()
            if isinstance(answer, Exception):
                raise answer
            yield answer

    async def close(self) -> None:
        for reader in self._readers:
            reader.cancel()
        await asyncio.gather(*self._readers, return_exceptions=True)
        for channel in self._channels:
            await channel.close()


def requests(values: list[list[bytes]]) -> list[bytes]:
    """Request bodies in the order sent: the batches in turn, each for the partition whose turn it is."""
    turns = math.lcm(len(values), PARTITIONS)
    batches = itertools.islice(itertools.cycle(values), turns)
    return [request_body(number % PARTITIONS, batch) for number, batch in enumerate(batches)]
