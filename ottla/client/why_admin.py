"""Asking why a topic, a node or a group is as it is, and what changed."""

from dataclasses import dataclass
from functools import partial
from typing import Final

from grpc import aio

from ottla.client import arguments
from ottla.client.connection import Client
from ottla.v1 import cluster_pb2
from ottla.v1.cluster_pb2_grpc import ClusterServiceStub

_PATIENCE_MS: Final = 5_000
"""For a coordinator that is moving; a failover takes well below a second."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that changed. `kind` as in `leader`, `isr`, `node_fenced`; `cause` is a sentence of whoever decided it,
    `cause_code` its kind (docs/why.md). `time_ms` is since the epoch, 0 = not known. Of partitions: the leader (None =
    none) and the ISR before and from then on. `metadata_index` is None in events of groups."""

    id: int
    time_ms: int
    kind: str
    cause: str
    cause_code: str
    metadata_index: int | None = None
    node_id: int | None = None
    topic: str = ""
    partition: int | None = None
    leader_before: int | None = None
    leader: int | None = None
    leader_epoch: int = 0
    isr_before: tuple[int, ...] = ()
    isr: tuple[int, ...] = ()
    replicas: tuple[int, ...] = ()
    group_id: str = ""
    member_id: str = ""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why something is as it is: its state and the kind of cause in words of docs/why.md, an answer as a sentence,
    since when (ms since the epoch, 0 = not known), what can be done, and the events that it is based on, in order.
    `cause` is unknown where the node that answered does not know it; the text says so."""

    subject: str
    state: str
    healthy: bool
    cause: str
    text: str
    since_ms: int
    next_steps: tuple[str, ...]
    evidence: tuple[Event, ...]


class WhyAdmin:
    """The part of `Admin` that is about causes. Any node answers from its own memory, also without a controller."""

    _client: Client
    _timeout_ms: int

    async def explain_topic(self, topic: str, partition: int | None = None) -> list[Explanation]:
        """Why each partition of a topic, or one of them, is led and in sync as it is; the most urgent first, at most
        100. Raises UnknownTopic."""
        number = None if partition is None else arguments.partition(partition)
        return await self._explain(cluster_pb2.ExplainRequest(topic=arguments.topic_name(topic), partition=number))

    async def explain_node(self, node_id: int) -> Explanation:
        """Why a node is up, fenced, stopping, or not registered."""
        return (await self._explain(cluster_pb2.ExplainRequest(node_id=arguments.node_id(node_id))))[0]

    async def explain_group(self, group_id: str) -> Explanation:
        """Why a group is empty, shares out its partitions, or has no coordinator. Raises UnknownGroup."""
        request = cluster_pb2.ExplainRequest(group_id=arguments.name("group_id", group_id))
        return (await self._explain(request))[0]

    async def list_events(
        self,
        topic: str | None = None,
        *,
        partition: int | None = None,
        node_id: int | None = None,
        group_id: str | None = None,
        limit: int = 100,
        before_id: int | None = None,
    ) -> list[Event]:
        """What changed, the newest so many (at most 1000) in the order in which they happened: of a topic, a partition
        of it, a node, a group, or all. `before_id` is the id of the first event of the page that was read before."""
        request = cluster_pb2.ListEventsRequest(
            topic="" if topic is None else arguments.topic_name(topic),
            partition=None if partition is None else arguments.partition(partition),
            node_id=None if node_id is None else arguments.node_id(node_id),
            group_id="" if group_id is None else arguments.name("group_id", group_id),
            limit=arguments.whole("limit", limit, 1, 1000),
            before_id=None if before_id is None else arguments.whole("before_id", before_id, 0, arguments.INT64_MAX),
        )
        answer = await self._client.until_done(
            partial(_list, request, self._timeout_ms),
            min(self._timeout_ms, _PATIENCE_MS),
            lambda answer: [answer.error],
        )
        return list(map(_event, answer.events))

    async def _explain(self, request: cluster_pb2.ExplainRequest) -> list[Explanation]:
        answer = await self._client.until_done(
            partial(_ask, request, self._timeout_ms), min(self._timeout_ms, _PATIENCE_MS), lambda answer: [answer.error]
        )
        return [
            Explanation(
                each.subject,
                each.state,
                each.healthy,
                each.cause,
                each.text,
                each.since_ms,
                tuple(each.next_steps),
                tuple(map(_event, each.evidence)),
            )
            for each in answer.explanations
        ]


def _event(event: cluster_pb2.Event) -> Event:
    known = cluster_pb2.EventKind.DESCRIPTOR.values_by_number.get(event.kind)
    of_partition = event.HasField("partition")
    return Event(
        id=event.id,
        time_ms=event.time_ms,
        kind=str(event.kind) if known is None else known.name.removeprefix("EVENT_KIND_").lower(),
        cause=event.cause,
        cause_code=event.cause_code,
        metadata_index=event.metadata_index if event.HasField("metadata_index") else None,
        node_id=event.node_id if event.HasField("node_id") else None,
        topic=event.topic,
        partition=event.partition if of_partition else None,
        leader_before=event.leader_before if of_partition and event.leader_before >= 0 else None,
        leader=event.leader if of_partition and event.leader >= 0 else None,
        leader_epoch=event.leader_epoch,
        isr_before=tuple(event.isr_before),
        isr=tuple(event.isr),
        replicas=tuple(event.replicas),
        group_id=event.group_id,
        member_id=event.member_id,
    )


async def _ask(
    request: cluster_pb2.ExplainRequest, timeout_ms: int, channel: aio.Channel
) -> cluster_pb2.ExplainResponse:
    return await ClusterServiceStub(channel).Explain(request, timeout=timeout_ms / 1000)


async def _list(
    request: cluster_pb2.ListEventsRequest, timeout_ms: int, channel: aio.Channel
) -> cluster_pb2.ListEventsResponse:
    return await ClusterServiceStub(channel).ListEvents(request, timeout=timeout_ms / 1000)
