"""Explain and ListEvents: any node answers of topics and nodes from its own metadata and memory, also while there is no
controller; of a group its coordinator does, by one hop."""

from collections.abc import Mapping
from itertools import islice
from typing import Any, Final

from node.api.coordination import Coordination
from node.api.groups import GroupsApi
from node.api.view import ClusterView
from node.groups.shell import OFFSETS_TOPIC, GroupShell
from node.history import group_answer
from node.history.causes import blames, cause_of
from node.history.explain import Answer, Facts, of_node, of_partition, urgency
from node.history.store import History
from node.metadata.events import Event
from node.metadata.image import NO_LEADER, Topic
from node.services.faults import Context
from node.services.peers import Peers
from ottla.protocol.acls import DESCRIBE, GROUP, TOPIC
from ottla.protocol.errors import ApiError
from ottla.v1 import cluster_pb2
from ottla.v1 import error_pb2 as pb

EXPLAINED_MAX: Final = 100
LIMIT: Final = 100
LIMIT_MAX: Final = 1_000
ASK_S: Final = 3.0
METHODS: Final = "/ottla.v1.ClusterService/"


class Why:
    """Serves the two on one listener."""

    def __init__(
        self,
        view: ClusterView,
        history: History,
        static: Mapping[str, str],
        shell: GroupShell,
        groups: GroupsApi,
        coordination: Coordination,
        peers: Peers,
        *,
        forwarded: bool,
    ) -> None:
        self._view = view
        self._history = history
        self._static = static
        self._shell = shell
        self._groups = groups
        self._coordination = coordination
        self._peers = peers
        self._forwarded = forwarded

    # --- why

    async def explain(self, request: cluster_pb2.ExplainRequest, _context: Context) -> cluster_pb2.ExplainResponse:
        """Why a topic, a node or a group is as it is."""
        try:
            return await self._explained(request)
        except ApiError as error:
            return cluster_pb2.ExplainResponse(error=error.to_proto(), node_id=self._view.node_id)

    async def _explained(self, request: cluster_pb2.ExplainRequest) -> cluster_pb2.ExplainResponse:
        subject = request.WhichOneof("subject")
        if subject == "group_id":
            return await self._of_group(request)
        response = cluster_pb2.ExplainResponse(node_id=self._view.node_id)
        if subject == "node_id":
            self._view.access.check_cluster(DESCRIBE)
            response.explanations.append(_shown(of_node(self._facts(), request.node_id)))
        elif subject == "topic":
            number = request.partition if request.HasField("partition") else None
            answers = self._of_topic(request.topic, number)
            response.explanations.extend(map(_shown, answers[:EXPLAINED_MAX]))
            response.left_out = max(0, len(answers) - EXPLAINED_MAX)
        else:
            raise ApiError(pb.ERROR_CODE_INVALID_REQUEST, "none of topic, node_id and group_id is given")
        return response

    def _facts(self) -> Facts:
        return Facts(self._view.image, self._history, self._view.quorum.leader_id, self._static)

    def _of_topic(self, name: str, number: int | None) -> list[Answer]:
        topic = self._view.topic(name, b"", DESCRIBE)
        if number is None:
            partitions = topic.partitions
        else:
            partitions = (self._view.partition(name, b"", number, DESCRIBE)[1],)
        answers = [of_partition(self._facts(), topic, partition) for partition in partitions]
        return sorted(answers, key=urgency)

    async def _of_group(self, request: cluster_pb2.ExplainRequest) -> cluster_pb2.ExplainResponse:
        group_id = request.group_id
        self._view.access.check(DESCRIBE, GROUP, group_id)
        response = cluster_pb2.ExplainResponse(node_id=self._view.node_id)
        topic = self._view.image.topic_named(OFFSETS_TOPIC)
        if topic is None:
            raise _no_group(group_id)
        number = self._shell.partition_for(group_id)
        if topic.partitions[number].leader == NO_LEADER:
            response.explanations.append(_shown(self._no_coordinator(group_id, topic, number)))
            return response
        raw = await self._asked(group_id, "Explain", request)
        if raw is not None:
            return cluster_pb2.ExplainResponse.FromString(raw)
        shard = self._shell.shard(group_id)
        shown = await self._groups.described(group_id)
        group = await self._shell.look(shard, lambda c: c.group(group_id))
        if group is None or shown is None:
            raise _no_group(group_id)
        owned = {m: len(each.assigned | each.revoking) for m, each in group.members.items()}
        owned |= {each.member_id: 1 for each in shown.members}  # what clients of Kafka share among themselves
        state = "stable" if shown.state.lower() == "stable" else "empty" if not shown.member_count else "rebalancing"
        waits = [m for m, each in sorted(group.members.items()) if each.revoking]
        answer = group_answer.of_group(group_id, state, owned, waits, self._shell.history.of(group_id))
        response.explanations.append(_shown(answer))
        return response

    def _no_coordinator(self, group_id: str, topic: Topic, number: int) -> Answer:
        kept = of_partition(self._facts(), topic, topic.partitions[number])
        text = f"group {group_id} has no coordinator: {kept.text}"
        return kept._replace(subject=f"group {group_id}", state="no-coordinator", text=text)

    async def _asked(self, group_id: str, method: str, request: Any) -> bytes | None:
        """What the coordinator says; None where it is this node."""
        leader = await self._coordination.coordinator(group_id)
        if leader == self._view.node_id:
            return None
        if self._forwarded:
            raise ApiError(
                pb.ERROR_CODE_NOT_COORDINATOR, f"node {leader} coordinates group {group_id!r}", leader=leader
            )
        return await self._peers.call(leader, METHODS + method, request.SerializeToString(), ASK_S)

    # --- events

    async def list_events(
        self, request: cluster_pb2.ListEventsRequest, _context: Context
    ) -> cluster_pb2.ListEventsResponse:
        """The newest events that are wanted, in their order. Who may not see a topic does not see its events."""
        try:
            return await self._listed(request)
        except ApiError as error:
            return cluster_pb2.ListEventsResponse(error=error.to_proto(), node_id=self._view.node_id)

    async def _listed(self, request: cluster_pb2.ListEventsRequest) -> cluster_pb2.ListEventsResponse:
        if not 0 <= request.limit <= LIMIT_MAX:
            raise ApiError(pb.ERROR_CODE_INVALID_REQUEST, f"limit {request.limit}: 0 to {LIMIT_MAX} is allowed")
        before_id = request.before_id if request.HasField("before_id") else None
        limit = request.limit or LIMIT
        if request.group_id:
            self._view.access.check(DESCRIBE, GROUP, request.group_id)
            raw = await self._asked(request.group_id, "ListEvents", request)
            if raw is not None:
                return cluster_pb2.ListEventsResponse.FromString(raw)
            kept = self._shell.history.of(request.group_id)
            found = [event for event in kept if before_id is None or event.id < before_id][: limit + 1]
        else:
            self._view.access.check_cluster(DESCRIBE)
            if request.topic:
                self._view.access.check(DESCRIBE, TOPIC, request.topic)
            found = list(islice(self._history.newest(lambda event: self._wanted(event, request), before_id), limit + 1))
        return cluster_pb2.ListEventsResponse(
            events=map(shown_event, reversed(found[:limit])), node_id=self._view.node_id, more=len(found) > limit
        )

    def _wanted(self, event: Event, request: cluster_pb2.ListEventsRequest) -> bool:
        if request.topic and event.topic != request.topic:
            return False
        if request.HasField("partition") and event.partition != request.partition:
            return False
        if request.HasField("node_id") and not blames(event, request.node_id):
            return False
        return not event.topic or self._view.access.may(DESCRIBE, TOPIC, event.topic)


def _no_group(group_id: str) -> ApiError:
    return ApiError(pb.ERROR_CODE_GROUP_ID_NOT_FOUND, f"there is no group {group_id!r}")


def _shown(answer: Answer) -> cluster_pb2.Explanation:
    return cluster_pb2.Explanation(
        subject=answer.subject,
        state=answer.state,
        healthy=answer.healthy,
        cause=answer.cause,
        text=answer.text,
        since_ms=answer.since_ms,
        next_steps=answer.next_steps,
        evidence=map(shown_event, answer.evidence),
    )


def shown_event(event: Event) -> cluster_pb2.Event:
    """An event on the wire."""
    of_group = bool(event.group_id)
    cause = None if of_group else cause_of(event)
    node_id = event.node_id if event.node_id is not None or cause is None else cause.node_id
    shown = cluster_pb2.Event(
        id=event.id,
        metadata_index=event.entry,
        time_ms=event.time_ms,
        kind=event.kind,
        cause=event.cause,
        cause_code=group_answer.code_of(event) if cause is None else cause.code,
        node_id=node_id,
        topic=event.topic,
        partition=event.partition,
        group_id=event.group_id,
        member_id=event.member_id,
    )
    if event.partition is not None:
        shown.leader_before, shown.leader, shown.leader_epoch = event.leader_before, event.leader, event.leader_epoch
        shown.isr_before.extend(event.isr_before)
        shown.isr.extend(event.isr)
        shown.replicas.extend(event.replicas)
    return shown
