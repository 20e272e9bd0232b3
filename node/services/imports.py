"""ExportBatches and ImportBatches, on every node: answered here, or passed on to the partition's leader by one hop."""

from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

from node import limits, principal
from node.api.imports import Brought, ImportsApi
from node.api.in_flight import COPIES, InFlight
from node.api.throttle import Throttle
from node.api.view import ClusterView
from node.broker.broker import Broker
from node.metadata.image import NO_LEADER, Topic
from node.metrics import Metrics
from node.services.faults import Context
from node.services.held import hold_back, within_deadline
from node.services.peers import Peers
from ottla.protocol.acls import ALTER, READ
from ottla.protocol.errors import ApiError
from ottla.v1 import admin_pb2
from ottla.v1 import error_pb2 as pb
from ottla.v1.data_pb2 import TopicPartition

TIMEOUT_S: Final = 30.0
Answer = TypeVar("Answer", admin_pb2.ExportBatchesResponse, admin_pb2.ImportBatchesResponse)


class Imports:
    """Translates; `ImportsApi` decides. To export a topic is to read it; to import one is to alter it."""

    def __init__(
        self,
        broker: Broker,
        view: ClusterView,
        peers: Peers,
        metrics: Metrics,
        in_flight: InFlight,
        throttle: Throttle,
        *,
        forwarded: bool,
    ) -> None:
        self._api = ImportsApi(broker)
        self._throttle = throttle
        self._view = view
        self._peers = peers
        self._metrics = metrics
        self._in_flight = in_flight
        self._forwarded = forwarded

    async def export_batches(
        self, request: admin_pb2.ExportBatchesRequest, context: Context
    ) -> admin_pb2.ExportBatchesResponse:
        """A slice of a log."""

        async def here(topic: Topic, number: int) -> admin_pb2.ExportBatchesResponse:
            if request.max_bytes < 0:
                raise ApiError(pb.ERROR_CODE_INVALID_REQUEST, f"max_bytes {request.max_bytes} must not be negative")
            read = self._api.export(topic, number, request.offset, request.max_bytes)
            return admin_pb2.ExportBatchesResponse(
                batches=read.data,
                partition=TopicPartition(topic=topic.name, topic_id=topic.topic_id, partition=number),
                next_offset=read.next_offset,
                log_start_offset=read.log_start_offset,
                high_watermark=read.high_watermark,
            )

        self._in_flight.check(COPIES * limits.MIB)
        timeout_s = max(0.001, within_deadline(TIMEOUT_S, context))
        answer = await self._at_leader("ExportBatches", request, READ, here, admin_pb2.ExportBatchesResponse, timeout_s)
        if self._throttle.on:
            hold_back(self._throttle.fetched(principal.client_id(), len(answer.batches)))
        return answer

    async def import_batches(
        self, request: admin_pb2.ImportBatchesRequest, context: Context
    ) -> admin_pb2.ImportBatchesResponse:
        """What an import brings, or how far it is."""
        timeout_s = limits.wait_ms(request.timeout_ms, round(TIMEOUT_S * 1000)) / 1000
        timeout_s = max(0.001, within_deadline(timeout_s, context))
        brought = Brought(
            request.import_id,
            request.source_topic_id,
            request.log_end_offset,
            request.log_start_offset,
            request.batches,
        )

        async def here(topic: Topic, number: int) -> admin_pb2.ImportBatchesResponse:
            end, start = await self._api.bring(topic, number, brought, round(timeout_s * 1000))
            where = TopicPartition(topic=topic.name, topic_id=topic.topic_id, partition=number)
            return admin_pb2.ImportBatchesResponse(partition=where, log_end_offset=end, log_start_offset=start)

        if self._throttle.on:
            hold_back(self._throttle.produced(principal.client_id(), len(request.batches)))
        held = COPIES * len(request.batches)
        self._in_flight.check(held)
        self._in_flight.take(held)
        try:
            return await self._at_leader(
                "ImportBatches", request, ALTER, here, admin_pb2.ImportBatchesResponse, timeout_s
            )
        finally:
            self._in_flight.give(held)

    async def _at_leader(
        self,
        rpc: str,
        request: Any,
        right: int,
        here: Callable[[Topic, int], Awaitable[Answer]],
        answer: type[Answer],
        timeout_s: float,
    ) -> Answer:
        """The leader's answer; a refusal is in it, as `error`."""
        want: TopicPartition = request.partition
        view = self._view
        try:
            topic, partition = view.partition(want.topic, want.topic_id, want.partition, right)
            if right == ALTER:
                view.access.check_cluster(ALTER)
            if partition.leader == view.node_id:
                return await here(topic, want.partition)
            if partition.leader == NO_LEADER or self._forwarded:
                raise view.not_leader(topic, partition)
            self._metrics.forwarded.labels(rpc=rpc).inc()
            method = f"/ottla.v1.AdminService/{rpc}"
            raw = await self._peers.call(partition.leader, method, request.SerializeToString(), timeout_s)
            return answer.FromString(raw)
        except ApiError as error:
            self._metrics.refused(rpc, error.code)
            return answer(partition=want, error=error.to_proto())
