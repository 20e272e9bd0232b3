"""ListOffsets, OffsetForLeaderEpoch and DeleteRecords: one question per partition, asked of its leader."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Protocol, TypeVar

from node import limits, turns
from node.api.offsets import OffsetsApi
from node.api.view import ClusterView
from node.broker.broker import Broker
from node.metadata.image import NO_LEADER, Topic
from node.metrics import Metrics
from node.services.faults import Context, unexpected
from node.services.peers import Peers
from ottla.protocol.acls import DELETE, DESCRIBE
from ottla.protocol.errors import ApiError
from ottla.v1 import admin_pb2, data_pb2
from ottla.v1 import error_pb2 as pb

LIST_OFFSETS: Final = "/ottla.v1.DataService/ListOffsets"
OFFSET_FOR_LEADER_EPOCH: Final = "/ottla.v1.DataService/OffsetForLeaderEpoch"
DELETE_RECORDS: Final = "/ottla.v1.AdminService/DeleteRecords"
TIMEOUT_S: Final = 30.0
RETRY_S: Final = 0.02
RETRY_MAX_S: Final = 0.5


class Named(Protocol):
    """What names a partition: by topic name, id or both."""

    @property
    def topic(self) -> str: ...
    @property
    def topic_id(self) -> bytes: ...
    @property
    def partition(self) -> int: ...


Result = TypeVar("Result")
Local = Callable[[Topic, int], Awaitable[Result]]


class Offsets:
    """Answers from this node's logs, or passes questions on to leaders by one hop."""

    def __init__(self, broker: Broker, view: ClusterView, peers: Peers, metrics: Metrics, *, forwarded: bool) -> None:
        self._broker = broker
        self._api = OffsetsApi(broker)
        self._view = view
        self._peers = peers
        self._metrics = metrics
        self._forwarded = forwarded

    async def list_offsets(
        self, request: data_pb2.ListOffsetsRequest, context: Context
    ) -> data_pb2.ListOffsetsResponse:
        """Earliest, latest, the largest timestamp's, or the first offset at or after a time."""
        timeout_s = _seconds(request.timeout_ms, context, default_s=0.0)

        async def answer(index: int, topic: Topic, number: int) -> data_pb2.ListOffsetsResult:
            want = request.partitions[index]
            offset, timestamp_ms, epoch = await self._api.look_up(
                topic.topic_id, number, want.timestamp_ms, _epoch(want)
            )
            return data_pb2.ListOffsetsResult(
                topic=topic.name,
                topic_id=topic.topic_id,
                partition=number,
                offset=offset,
                timestamp_ms=timestamp_ms,
                leader_epoch=epoch,
                log_size_bytes=self._api.log_size(topic.topic_id, number),
            )

        async def ask(leader: int, indexes: Sequence[int]) -> Sequence[data_pb2.ListOffsetsResult]:
            part = data_pb2.ListOffsetsRequest(
                partitions=[request.partitions[index] for index in indexes],
                isolation_level=request.isolation_level,
                timeout_ms=request.timeout_ms,
            )
            raw = await self._peers.call(leader, LIST_OFFSETS, part.SerializeToString(), timeout_s or 5.0)
            return data_pb2.ListOffsetsResponse.FromString(raw).partitions

        results = await self._spread(
            "ListOffsets", request.partitions, data_pb2.ListOffsetsResult, answer, ask, timeout_s
        )
        return data_pb2.ListOffsetsResponse(partitions=results)

    async def offset_for_leader_epoch(
        self, request: data_pb2.OffsetForLeaderEpochRequest, context: Context
    ) -> data_pb2.OffsetForLeaderEpochResponse:
        """The largest epoch at or below the asked-for one, and where it ends (KIP-320)."""

        async def answer(index: int, topic: Topic, number: int) -> data_pb2.OffsetForLeaderEpochResult:
            want = request.partitions[index]
            epoch, end_offset = self._broker.epoch_end(topic.topic_id, number, want.leader_epoch, _epoch(want))
            return data_pb2.OffsetForLeaderEpochResult(
                topic=topic.name,
                topic_id=topic.topic_id,
                partition=number,
                end=data_pb2.EpochEnd(leader_epoch=epoch, end_offset=end_offset),
            )

        async def ask(leader: int, indexes: Sequence[int]) -> Sequence[data_pb2.OffsetForLeaderEpochResult]:
            part = data_pb2.OffsetForLeaderEpochRequest(partitions=[request.partitions[index] for index in indexes])
            raw = await self._peers.call(leader, OFFSET_FOR_LEADER_EPOCH, part.SerializeToString(), 5.0)
            return data_pb2.OffsetForLeaderEpochResponse.FromString(raw).partitions

        results = await self._spread(
            "OffsetForLeaderEpoch", request.partitions, data_pb2.OffsetForLeaderEpochResult, answer, ask, 0.0
        )
        return data_pb2.OffsetForLeaderEpochResponse(partitions=results)

    async def delete_records(
        self, request: admin_pb2.DeleteRecordsRequest, context: Context
    ) -> admin_pb2.DeleteRecordsResponse:
        """Moves the start of logs up; answers with the first offset that is left on every live replica."""
        timeout_s = _seconds(request.timeout_ms, context, default_s=TIMEOUT_S)
        deadline = asyncio.get_running_loop().time() + timeout_s

        async def answer(index: int, topic: Topic, number: int) -> admin_pb2.DeleteRecordsResult:
            before = request.partitions[index].before_offset
            low = await self._api.delete_records(topic, number, before, deadline, validate_only=request.validate_only)
            return admin_pb2.DeleteRecordsResult(
                partition=data_pb2.TopicPartition(topic=topic.name, topic_id=topic.topic_id, partition=number),
                low_watermark=low,
            )

        async def ask(leader: int, indexes: Sequence[int]) -> Sequence[admin_pb2.DeleteRecordsResult]:
            part = admin_pb2.DeleteRecordsRequest(
                partitions=[request.partitions[index] for index in indexes],
                timeout_ms=request.timeout_ms,
                validate_only=request.validate_only,
            )
            raw = await self._peers.call(leader, DELETE_RECORDS, part.SerializeToString(), timeout_s)
            return admin_pb2.DeleteRecordsResponse.FromString(raw).partitions

        results = await self._spread(
            "DeleteRecords",
            [part.partition for part in request.partitions],
            lambda **fields: admin_pb2.DeleteRecordsResult(
                partition=data_pb2.TopicPartition(
                    topic=fields["topic"], topic_id=fields["topic_id"], partition=fields["partition"]
                ),
                error=fields["error"],
            ),
            answer,
            ask,
            0.0,
            together=True,
        )
        return admin_pb2.DeleteRecordsResponse(partitions=results)

    async def _spread(
        self,
        rpc: str,
        questions: Sequence[Named],
        make: Callable[..., Result],
        answer: Callable[[int, Topic, int], Awaitable[Result]],
        ask: Callable[[int, Sequence[int]], Awaitable[Sequence[Result]]],
        wait_s: float,
        *,
        together: bool = False,
    ) -> list[Result]:
        """Answers each question here or at its leader, in order; no node waits for another's answer. For `wait_s` a
        partition without a leader that can tell is asked again. `together`: answers wait for other nodes, so none is
        waited for before the next is begun."""
        results: list[Result | None] = [None] * len(questions)
        deadline = time.monotonic() + wait_s
        open_questions: Sequence[int] = range(len(questions))
        retry_s = RETRY_S
        operation = DELETE if rpc == "DeleteRecords" else DESCRIBE
        while open_questions:
            refusals: dict[int, ApiError] = {}

            async def here(index: int, topic: Topic, refusals: dict[int, ApiError] = refusals) -> None:
                try:
                    results[index] = await answer(index, topic, questions[index].partition)
                except ApiError as error:
                    refusals[index] = error
                except Exception as error:
                    refusals[index] = unexpected(rpc, error)

            async def there(leader: int, indexes: list[int], refusals: dict[int, ApiError] = refusals) -> None:
                self._metrics.forwarded.labels(rpc=rpc).inc()
                try:
                    for index, result in zip(indexes, await ask(leader, indexes), strict=True):
                        results[index] = result
                except ApiError as error:
                    refusals.update(dict.fromkeys(indexes, error))
                except ValueError:
                    mixed = ApiError(pb.ERROR_CODE_NETWORK_EXCEPTION, f"node {leader} answered for other partitions")
                    refusals.update(dict.fromkeys(indexes, mixed))

            own, remote = await self._by_leader(questions, open_questions, refusals, operation)
            async with asyncio.TaskGroup() as group:
                for leader, indexes in remote.items():
                    group.create_task(there(leader, indexes))
                if together:
                    await turns.together(here(index, topic) for index, topic in own)
                    own = []
                for count, (index, topic) in enumerate(own, 1):
                    await here(index, topic)
                    if count % limits.AT_ONCE == 0:
                        await turns.give_way()
            again = []
            for index, refusal in sorted(refusals.items()):
                if refusal.retriable and time.monotonic() < deadline:
                    again.append(index)
                    continue
                want = questions[index]
                self._metrics.refused(rpc, refusal.code)
                results[index] = make(
                    topic=want.topic, topic_id=want.topic_id, partition=want.partition, error=refusal.to_proto()
                )
            open_questions = again
            if open_questions:
                await self._view.changed(min(retry_s, max(0.0, deadline - time.monotonic())))
                retry_s = min(2 * retry_s, RETRY_MAX_S)
        return [result for result in results if result is not None]

    async def _by_leader(
        self, questions: Sequence[Named], indexes: Sequence[int], refusals: dict[int, ApiError], operation: int
    ) -> tuple[list[tuple[int, Topic]], dict[int, list[int]]]:
        """Which questions are this node's, and which are whose; of those that are nobody's, why."""
        own: list[tuple[int, Topic]] = []
        remote: dict[int, list[int]] = {}
        for count, index in enumerate(indexes, 1):
            if count % limits.AT_ONCE == 0:
                await turns.give_way()
            want = questions[index]
            try:
                topic, partition = self._view.partition(want.topic, want.topic_id, want.partition, operation)
                if partition.leader == self._view.node_id:
                    own.append((index, topic))
                elif partition.leader == NO_LEADER or self._forwarded:
                    raise self._view.not_leader(topic, partition)
                else:
                    remote.setdefault(partition.leader, []).append(index)
            except ApiError as error:
                refusals[index] = error
        return own, remote


def _epoch(question: Any) -> int | None:
    return question.current_leader_epoch if question.HasField("current_leader_epoch") else None


def _seconds(timeout_ms: int, context: Context, *, default_s: float) -> float:
    """The request's time-out in seconds, within what is left of the call's deadline. Raises INVALID_REQUEST."""
    wanted = limits.wait_ms(timeout_ms, round(default_s * 1000)) / 1000
    remaining = context.time_remaining()
    return wanted if remaining is None else min(wanted, max(0.0, remaining - 0.05))
