"""Who coordinates a group: the leader of the partition of `__consumer_offsets` that its id hashes to. The topic is made
when a group is first asked for."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from node.api.view import ClusterView
from node.groups.shell import OFFSETS_TOPIC
from node.metadata.image import NO_LEADER
from ottla.protocol.errors import ApiError
from ottla.protocol.names import check_group_id
from ottla.v1 import error_pb2 as pb

OFFSETS_PARTITIONS: Final = 8
OFFSETS_CONFIGS: Final = {"cleanup.policy": "compact", "flush": "ack", "segment.bytes": str(16 * 2**20)}
ENSURE_S: Final = 0.2

MakeTopic = Callable[[str, int, Mapping[str, str]], Awaitable[None]]
"""Has the controller make an internal topic where it is missing: (name, partitions, configs). Raises ApiError."""


class Coordination:
    """All front ends of a node share one, so that those who ask at once share one call."""

    def __init__(self, view: ClusterView, partition_for: Callable[[str], int], make_topic: MakeTopic) -> None:
        self._view = view
        self._partition_for = partition_for
        self._make_topic = make_topic
        self._ensuring: asyncio.Task[None] | None = None

    async def coordinator(self, group_id: str) -> int:
        """The node that coordinates the group. Raises COORDINATOR_NOT_AVAILABLE or LEADER_NOT_AVAILABLE while that is
        open, and INVALID_GROUP_ID."""
        check_group_id(group_id)
        if self._view.image.topic_named(OFFSETS_TOPIC) is None:
            await self._ensure_topic()
        number = self._partition_for(group_id)
        topic = self._view.own_topic(OFFSETS_TOPIC, b"")
        leader = topic.partitions[number].leader
        if leader == NO_LEADER:
            raise self._view.no_leader(topic, topic.partitions[number])
        return leader

    def lane(self, group_id: str) -> int:
        """Groups of one number share a coordinator; before there is a topic, or of no group, all do."""
        try:
            return self._partition_for(group_id)
        except ApiError:
            return -1

    async def _ensure_topic(self) -> None:
        if self._ensuring is None or self._ensuring.done():
            self._ensuring = asyncio.create_task(self._make())
        await asyncio.shield(self._ensuring)

    async def _make(self) -> None:
        try:
            await self._make_topic(OFFSETS_TOPIC, OFFSETS_PARTITIONS, OFFSETS_CONFIGS)
        except ApiError as error:
            raise ApiError(
                pb.ERROR_CODE_COORDINATOR_NOT_AVAILABLE,
                f"topic {OFFSETS_TOPIC} cannot be made: {error.message}",
                retry_after_ms=50,
            ) from None
        await self._view.changed(ENSURE_S)
