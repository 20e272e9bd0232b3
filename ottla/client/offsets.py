"""Looking up offsets: earliest, latest, or by time."""

import asyncio
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from grpc import aio

from ottla.client.connection import TOPIC_WAIT_S, Client
from ottla.client.errors import OttlaError, from_server
from ottla.client.records import TopicPartition
from ottla.v1 import error_pb2 as pb
from ottla.v1.data_pb2 import ListOffsetsPartition, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsResult
from ottla.v1.data_pb2_grpc import DataServiceStub

LATEST: Final = -1
EARLIEST: Final = -2


def offset_of(result: ListOffsetsResult) -> int | None:
    """The offset that was asked for; None where no record is."""
    return result.offset if result.HasField("offset") else None


def log_size_of(result: ListOffsetsResult) -> int | None:
    """What the log takes on the leader's disk; None from a node that does not say."""
    return result.log_size_bytes if result.HasField("log_size_bytes") else None


async def list_offsets(
    client: Client,
    wanted: Mapping[TopicPartition, int],
    timeout_ms: int,
    read: Callable[[ListOffsetsResult], int | None] = offset_of,
) -> dict[TopicPartition, int | OttlaError | None]:
    """For each partition the first offset at or after a time in ms since the epoch (or LATEST, EARLIEST): None where
    no record is, an OttlaError where it can't be told. Retriable answers are asked again until `timeout_ms` is over;
    that there is no such partition, for a second only, unless the client knows better: it may just have been made."""
    began = time.monotonic()
    give_up = began + timeout_ms / 1000
    left = dict(wanted)
    found: dict[TopicPartition, int | OttlaError | None] = {}
    while left:
        wait_s = give_up - time.monotonic()
        if not all(_is_known(client, tp) for tp in left):
            wait_s = min(wait_s, TOPIC_WAIT_S)  # the node waits for what it does not know, too
        request = ListOffsetsRequest(
            partitions=[
                ListOffsetsPartition(topic=tp.topic, partition=tp.partition, timestamp_ms=timestamp)
                for tp, timestamp in left.items()
            ],
            timeout_ms=max(1, int(wait_s * 1000)),
        )
        answer = await client.on_any_node(partial(_ask, request, timeout_ms), timeout_ms)
        for result in answer.partitions:
            tp = TopicPartition(result.topic, result.partition)
            is_unheard_of = result.error.code == pb.ERROR_CODE_UNKNOWN_TOPIC_OR_PARTITION and not _is_known(client, tp)
            patience_s = TOPIC_WAIT_S if is_unheard_of else timeout_ms / 1000
            if result.error.code and result.error.retriable and time.monotonic() < began + patience_s:
                continue
            if result.error.code:
                found[tp] = from_server(result.error)
            else:
                found[tp] = read(result)
            left.pop(tp, None)
        if left:
            await asyncio.sleep(0.05)
    return found


def _is_known(client: Client, tp: TopicPartition) -> bool:
    topic = client.view.topics.get(tp.topic)
    return topic is not None and tp.partition < len(topic.partitions)


async def _ask(request: ListOffsetsRequest, timeout_ms: int, channel: aio.Channel) -> ListOffsetsResponse:
    return await DataServiceStub(channel).ListOffsets(request, timeout=timeout_ms / 1000 + 1)
