"""The events that a node remembers: the newest ones, and a few of each partition and node, however old they are.

It is made anew from the metadata log at each start, from the newest snapshot on; nothing is written for it.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Final

from node.metadata.events import Event
from ottla.v1 import cluster_pb2

EVENTS_MAX: Final = 10_000
OF_A_PARTITION: Final = 4
OF_A_NODE: Final = 16
PARTITIONS_MAX: Final = 20_000
_OF_NODES: Final = frozenset(
    {
        cluster_pb2.EVENT_KIND_NODE_STARTED,
        cluster_pb2.EVENT_KIND_NODE_FENCED,
        cluster_pb2.EVENT_KIND_NODE_BACK,
        cluster_pb2.EVENT_KIND_NODE_STOPPING,
        cluster_pb2.EVENT_KIND_NODE_UNREGISTERED,
    }
)


class History:
    """Used on one loop."""

    def __init__(self) -> None:
        self._events: deque[Event] = deque(maxlen=EVENTS_MAX)
        self._of_partition: dict[tuple[bytes, int], deque[Event]] = {}
        self._of_node: dict[int, deque[Event]] = {}
        self.unknown_before: Event | None = None
        """The snapshot that the memory began with."""

    def add(self, events: Sequence[Event]) -> None:
        """Takes what happened, in order."""
        self._events.extend(events)
        for event in events:
            if event.kind == cluster_pb2.EVENT_KIND_UNKNOWN_BEFORE:
                self.unknown_before = event
            elif event.kind == cluster_pb2.EVENT_KIND_TOPIC_DELETED:
                self._of_partition = {k: kept for k, kept in self._of_partition.items() if k[0] != event.topic_id}
            elif event.partition is not None:
                self._keep(event)
            elif event.kind in _OF_NODES and event.node_id is not None:
                self._of_node.setdefault(event.node_id, deque(maxlen=OF_A_NODE)).append(event)

    def _keep(self, event: Event) -> None:
        assert event.partition is not None
        key = (event.topic_id, event.partition)
        if key in self._of_partition or len(self._of_partition) < PARTITIONS_MAX:
            self._of_partition.setdefault(key, deque(maxlen=OF_A_PARTITION)).append(event)

    def of_partition(self, topic_id: bytes, partition: int, up_to: int) -> list[Event]:
        """What is remembered of a partition, the newest first, up to a metadata entry."""
        kept = self._of_partition.get((topic_id, partition), ())
        return [event for event in reversed(kept) if (event.entry or 0) <= up_to]

    def of_node(self, node_id: int, up_to: int) -> list[Event]:
        """What is remembered of a node's life, the newest first, up to a metadata entry."""
        return [event for event in reversed(self._of_node.get(node_id, ())) if (event.entry or 0) <= up_to]

    def newest(self, wanted: Callable[[Event], bool], before_id: int | None) -> Iterator[Event]:
        """The events that are wanted, the newest first."""
        kept = self._events
        first_id = kept[0].id if len(kept) == EVENTS_MAX else 0
        older = [e for e in chain(*self._of_partition.values(), *self._of_node.values()) if e.id < first_id]
        older.sort(key=lambda event: -event.id)
        for event in chain(reversed(kept), older):
            if (before_id is None or event.id < before_id) and wanted(event):
                yield event
