"""The cluster as the data loop sees it: the last image handed over by the control loop, and who waits for the next."""

import asyncio
import difflib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from node.api.access import Access
from node.api.throttle import Throttle
from node.metadata.acls import Rules
from node.metadata.image import NO_LEADER, Delta, Image, Partition, Topic
from ottla.protocol.acls import DESCRIBE, TOPIC
from ottla.protocol.errors import ApiError
from ottla.v1 import error_pb2 as pb

HINTS_MAX: Final = 10
HINTS_EVERY_S: Final = 0.1
HINT_NAMES_MAX: Final = 100


@dataclass(frozen=True, slots=True)
class QuorumView:
    """What the control loop last said about the quorum. `contact_ms` is monotonic: when it was last heard from."""

    leader_id: int | None = None
    term: int = 0
    contact_ms: int = 0
    cluster_id: bytes = b""
    leader_address: str = ""
    """Where the quorum found the leader; what the metadata says of it may be from before it moved."""


class ClusterView:
    """Image and quorum state on the data loop. Changed only by `apply` and `set_quorum`, on that loop."""

    def __init__(self, node_id: int, voters: Mapping[int, str], rules: Rules = Rules()) -> None:  # noqa: B008 (immutable)
        self.node_id = node_id
        self._voters = voters
        self.image: Image = Image.EMPTY
        self.access = Access(lambda: self.image.acls, rules)
        self.throttle = Throttle()
        self.quorum = QuorumView()
        self.create_topic: Callable[[str], None] | None = None
        """Where topics are created by being named: begins that."""
        self._listeners: list[Callable[[Delta | None], None]] = []
        self._changed = asyncio.Event()
        self._hints = (0.0, 0)

    def subscribe(self, listener: Callable[[Delta | None], None]) -> Callable[[], None]:
        """Calls `listener` with each delta, and with None when only the quorum changed. Returns how to stop that."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def apply(self, image: Image, delta: Delta) -> None:
        self.image = image
        if delta.acls_changed:
            self.access.changed()
        if delta.quotas_changed:
            self.throttle.changed(image.quotas)
        self._tell(delta)

    def set_quorum(self, quorum: QuorumView) -> None:
        moved = quorum.leader_id != self.quorum.leader_id
        self.quorum = quorum
        if moved:
            self._tell(None)

    def _tell(self, delta: Delta | None) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
        for listener in list(self._listeners):
            listener(delta)

    async def changed(self, timeout_s: float) -> None:
        """Returns after the next change, or after the time-out."""
        waiting = self._changed
        try:
            async with asyncio.timeout(timeout_s):
                await waiting.wait()
        except TimeoutError:
            return

    def controller_address(self) -> str | None:
        """host:port of the active controller's control listener, as far as this node knows."""
        leader = self.quorum.leader_id
        if leader is None:
            return None
        if self.quorum.leader_address:
            return self.quorum.leader_address
        broker = self.image.brokers.get(leader)
        return broker.control_address if broker is not None else self._voters.get(leader)

    def check_cluster(self, cluster_id: str) -> None:
        """Raises INCONSISTENT_CLUSTER_ID for a call that is for another cluster. No id yet: nobody knows."""
        own = self.quorum.cluster_id.hex()
        if own and cluster_id != own:
            raise ApiError(
                pb.ERROR_CODE_INCONSISTENT_CLUSTER_ID,
                f"node {self.node_id} belongs to cluster {own}, the call is for cluster {cluster_id[:64]!r}",
            )

    def topic(self, name: str, topic_id: bytes, operation: int) -> Topic:
        """The topic with that name, that id, or both, for whoever may do that to it. Raises UNKNOWN_TOPIC_OR_PARTITION,
        UNKNOWN_TOPIC_ID, INCONSISTENT_TOPIC_ID, INVALID_REQUEST or, whether or not there is one of that name,
        TOPIC_AUTHORIZATION_FAILED."""
        access = self.access
        if access.asks and name:
            access.check(operation, TOPIC, name)
        topic = self.own_topic(name, topic_id)
        if access.asks and not name:
            access.check_topic_of(topic_id, operation, topic.name)
        return topic

    def own_topic(self, name: str, topic_id: bytes) -> Topic:
        """As `topic`, for the node itself."""
        image = self.image
        if not topic_id:
            if not name:
                raise ApiError(pb.ERROR_CODE_INVALID_REQUEST, "neither a topic name nor a topic id is given")
            found = image.topic_named(name)
            if found is None:
                raise self.unknown_topic(name)
            return found
        if len(topic_id) != 16:
            raise ApiError(pb.ERROR_CODE_INVALID_REQUEST, f"a topic id has 16 bytes, not {len(topic_id)}")
        by_id = image.topics.get(topic_id)
        if by_id is None:
            raise ApiError(
                pb.ERROR_CODE_UNKNOWN_TOPIC_ID,
                f"there is no topic with id {topic_id.hex()} at metadata index {image.index}"
                + (f"; {name!r} has another id" if name and image.topic_named(name) is not None else ""),
            )
        if name and by_id.name != name:
            raise ApiError(
                pb.ERROR_CODE_INCONSISTENT_TOPIC_ID,
                f"topic id {topic_id.hex()} belongs to {self._shown(by_id.name)}, not to {name[:249]!r}",
            )
        return by_id

    def _shown(self, name: str) -> str:
        return repr(name) if self.access.may(DESCRIBE, TOPIC, name) else "another topic"

    def check_named(self, name: str, topic_id: bytes, operation: int) -> None:
        """Of a topic that need not be there: raises TOPIC_AUTHORIZATION_FAILED. Of an id that is none's: nothing."""
        if name:
            self.access.check(operation, TOPIC, name)
        elif self.access.asks and (topic := self.image.topics.get(topic_id)) is not None:
            self.access.check_topic_of(topic_id, operation, topic.name)

    def may_name(self, name: str, topic_id: bytes, operation: int) -> bool:
        """Whether `check_named` would not raise."""
        topic = None if name else self.image.topics.get(topic_id)
        return (not name and topic is None) or self.access.may(operation, TOPIC, name if topic is None else topic.name)

    def partition(self, name: str, topic_id: bytes, number: int, operation: int) -> tuple[Topic, Partition]:
        """The topic and its partition `number`. Raises as `topic` does."""
        topic = self.topic(name, topic_id, operation)
        if not 0 <= number < len(topic.partitions):
            raise ApiError(
                pb.ERROR_CODE_UNKNOWN_TOPIC_OR_PARTITION,
                f"topic {topic.name!r} has partitions 0 to {len(topic.partitions) - 1}, not {number}",
            )
        return topic, topic.partitions[number]

    def unknown_topic(self, name: str) -> ApiError:
        """The refusal of a name, with the closest names there are."""
        if self.create_topic is not None:
            self.create_topic(name)
        near = self._near(name[:249])
        hint = f"; close names: {', '.join(near)}" if near else ""
        return ApiError(
            pb.ERROR_CODE_UNKNOWN_TOPIC_OR_PARTITION,
            f"there is no topic {name[:249]!r} at metadata index {self.image.index}{hint}",
        )

    def _near(self, name: str) -> list[str]:
        """The closest names there are. Looking for them costs a millisecond, so it is done for a few refusals at once
        only, and among a part of many names."""
        now = time.monotonic()
        if now - self._hints[0] > HINTS_EVERY_S:
            self._hints = (now, 0)
        if self._hints[1] >= HINTS_MAX:
            return []
        self._hints = (self._hints[0], self._hints[1] + 1)
        alike = [
            other
            for other in self.image.names
            if abs(len(other) - len(name)) <= 3 and self.access.may(DESCRIBE, TOPIC, other)
        ]
        alike.sort(key=lambda other: (other[:1] != name[:1], other[:3] != name[:3]))
        return difflib.get_close_matches(name, alike[:HINT_NAMES_MAX], n=3)

    def no_leader(self, topic: Topic, partition: Partition) -> ApiError:
        """The refusal where a partition has no leader now."""
        return ApiError(
            pb.ERROR_CODE_LEADER_NOT_AVAILABLE,
            f"{topic.name}-{partition.partition} has no leader in epoch {partition.leader_epoch}; "
            f"replicas {list(partition.replicas)}, in sync {list(partition.isr)}, eligible {list(partition.elr)}",
            retry_after_ms=100,
        )

    def not_leader(self, topic: Topic, partition: Partition) -> ApiError:
        """The refusal of a call that was meant for the leader, with the leader's address (KIP-951)."""
        if partition.leader == NO_LEADER:
            return self.no_leader(topic, partition)
        broker = self.image.brokers.get(partition.leader)
        return ApiError(
            pb.ERROR_CODE_NOT_LEADER_OR_FOLLOWER,
            f"node {self.node_id} does not lead {topic.name}-{partition.partition}; "
            f"node {partition.leader} does, in epoch {partition.leader_epoch}",
            leader=partition.leader,
            epoch=partition.leader_epoch,
            address=broker.client_address if broker is not None else "",
        )
