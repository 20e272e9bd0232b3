"""What leaders know of positions: the ends of a partition, and when the record at an offset was written.

Groups ask for their lag, which no client's question fits: one message per leader, headers alone are read from the logs.
"""

import asyncio
from collections.abc import Iterable
from typing import Final, NamedTuple

from node import turns
from node.api.view import ClusterView
from node.broker import lookup
from node.broker.broker import Broker
from node.broker.door import OnLoop
from node.metadata.image import NO_LEADER
from node.services.faults import Context
from node.services.peers import Peers
from ottla.internal.v1 import replication_pb2
from ottla.protocol.batch import ATTR_LOG_APPEND_TIME, CorruptBatch
from ottla.protocol.errors import ApiError
from storage.errors import StorageError

LOOK_UP: Final = "/ottla.internal.v1.ReplicationService/LookUp"
AT_ONCE: Final = 200
"""Positions between two turns of the loop: some microseconds each."""
EXACT_MS: Final = 500
"""Where a batch's records are further apart in time, the record itself is looked at."""

Position = tuple[bytes, int, int]
"""Topic id, partition, offset."""


class Facts(NamedTuple):
    """What a leader knows. `written_ms`: of the first record at or after the offset, None where there is none."""

    log_start: int
    high_watermark: int
    written_ms: int | None


class Positions:
    """Answers from this node's logs, and asks other leaders."""

    def __init__(self, broker: Broker, view: ClusterView, peers: Peers) -> None:
        self._broker = broker
        self._view = view
        self._peers = peers

    async def look_up(self, positions: Iterable[Position], timeout_s: float) -> dict[Position, Facts]:
        """What is known of each; those whose leader does not answer in time are left out."""
        by_leader: dict[int, list[Position]] = {}
        for position in positions:
            topic = self._view.image.topics.get(position[0])
            if topic is not None and 0 <= position[1] < len(topic.partitions):
                by_leader.setdefault(topic.partitions[position[1]].leader, []).append(position)
        by_leader.pop(NO_LEADER, None)
        found: dict[Position, Facts] = {}
        answers = await asyncio.gather(
            *(self._ask(leader, wanted, timeout_s) for leader, wanted in by_leader.items()), return_exceptions=True
        )
        for wanted, answer in zip(by_leader.values(), answers, strict=True):
            if isinstance(answer, ApiError):
                continue
            if isinstance(answer, BaseException):
                raise answer
            found.update((p, facts) for p, facts in zip(wanted, answer, strict=False) if facts is not None)
        return found

    async def _ask(self, leader: int, wanted: list[Position], timeout_s: float) -> list[Facts | None]:
        if leader == self._view.node_id:
            return await self._own(wanted)
        request = replication_pb2.LookUpRequest(
            positions=[
                replication_pb2.LookUpPosition(topic_id=topic_id, partition=partition, offset=offset)
                for topic_id, partition, offset in wanted
            ]
        )
        raw = await self._peers.call(leader, LOOK_UP, request.SerializeToString(), timeout_s)
        return [
            None
            if result.unknown
            else Facts(
                result.log_start, result.high_watermark, result.written_ms if result.HasField("written_ms") else None
            )
            for result in replication_pb2.LookUpResponse.FromString(raw).positions
        ]

    async def serve(self, request: replication_pb2.LookUpRequest, _context: Context) -> replication_pb2.LookUpResponse:
        """For other nodes, on the replication listener."""
        response = replication_pb2.LookUpResponse()
        for facts in await self._own([(p.topic_id, p.partition, p.offset) for p in request.positions]):
            result = response.positions.add(unknown=facts is None)
            if facts is not None:
                result.log_start, result.high_watermark = facts.log_start, facts.high_watermark
                if facts.written_ms is not None:
                    result.written_ms = facts.written_ms
        return response

    async def _own(self, wanted: list[Position]) -> list[Facts | None]:
        found: list[Facts | None] = []
        for position in wanted:
            if len(found) % AT_ONCE == AT_ONCE - 1:
                await turns.give_way()
            try:
                found.append(self._facts(position))
            except (ApiError, CorruptBatch, StorageError, OSError):
                found.append(None)
        return found

    def _facts(self, position: Position) -> Facts | None:
        topic_id, number, offset = position
        partition = self._broker.partition(topic_id, number)
        if partition is None:
            return None
        mark = partition.latest_offset(None)
        log_start = partition.log.log_start_offset
        start = max(offset, log_start)
        stored = next(partition.log.scan(start, mark), None) if start < mark else None
        if stored is None:
            return Facts(log_start, mark, None)
        header = stored.header
        if header.attributes & ATTR_LOG_APPEND_TIME or header.max_timestamp - header.base_timestamp <= EXACT_MS:
            return Facts(log_start, mark, header.base_timestamp)
        data = partition.read(start, 1, min_one=True, current_leader_epoch=None, last_fetched_epoch=None).data
        return Facts(log_start, mark, lookup.written_ms(data, start, OnLoop()))
