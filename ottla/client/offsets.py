"""Looking up offsets: earliest, latest, or by time."""

import asyncio
import time
from collections.abc import Mapping
from functools import partial
from typing import Final

from grpc import aio

from ottla.client.connection import Client
from ottla.client.errors import OttlaError, from_server
from ottla.client.records import TopicPartition
from ottla.v1.data_pb2 import ListOffsetsPartition, ListOffsetsRequest, ListOffsetsResponse
from ottla.v1.data_pb2_grpc import DataServiceStub

LATEST: Final = -1
EARLIEST: Final = -2


async def list_offsets(
    client: Client, wanted: Mapping[TopicPartition, int], timeout_ms: int
) -> dict[TopicPartition, int | OttlaError | None]:
    """For each partition the first offset at or after a time in ms since the epoch (or LATEST, EARLIEST): None where
    no record is, an OttlaError where it can't be told. Retriable answers are asked again until `timeout_ms` is over."""
    give_up = time.monotonic() + timeout_ms / 1000
    left = dict(wanted)
    found: dict[TopicPartition, int | OttlaError | None] = {}
    while left:
        request = ListOffsetsRequest(
            partitions=[
                ListOffsetsPartition(topic=tp.topic, partition=tp.partition, timestamp_ms=timestamp)
                for tp, timestamp in left.items()
            ],
            timeout_ms=max(1, int((give_up - time.monotonic()) * 1000)),
        )
        answer = await client.on_any_node(partial(_ask, request, timeout_ms), timeout_ms)
        for result in answer.partitions:
            tp = TopicPartition(result.topic, result.partition)
            if result.error.code and result.error.retriable and time.monotonic() < give_up:
                continue
            if result.error.code:
                found[tp] = from_server(result.error)
            else:
                found[tp] = result.offset if result.HasField("offset") else None
            left.pop(tp, None)
        if left:
            await asyncio.sleep(0.05)
    return found


async def _ask(request: ListOffsetsRequest, timeout_ms: int, channel: aio.Channel) -> ListOffsetsResponse:
    return await DataServiceStub(channel).ListOffsets(request, timeout=timeout_ms / 1000 + 1)
