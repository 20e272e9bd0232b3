"""Keeps a node's committed image: applies what the quorum commits, loads its snapshots, tells who asked to know.

Lives on the control loop; subscribers are called there, in the order of their subscription, and must not block.
"""

from collections.abc import Callable
from typing import Final

from node.metadata.apply import apply, from_snapshot, snapshot_bytes, snapshot_delta
from node.metadata.events import Event, Noting, unknown_before
from node.metadata.image import Delta, Image
from ottla.internal.v1 import metadata_pb2 as pb

Subscriber = Callable[[Image, Delta], None]
History = Callable[[list[Event]], None]


class MetadataPublisher:
    """A listener of the quorum. `image` is what this node has applied; it only moves forward."""

    def __init__(self) -> None:
        self.image: Image = Image.EMPTY
        self._subscribers: Final[list[Subscriber]] = []
        self._decided_term = 0
        self.history: History | None = None
        """Takes the events of each committed entry that has some, before the subscribers hear of it; of a snapshot,
        that there is nothing to be known of what was before it."""

    def subscribe(self, subscriber: Subscriber) -> None:
        """Calls `subscriber(image, delta)` after each committed entry and each snapshot, from now on."""
        self._subscribers.append(subscriber)

    def on_committed(self, index: int, term: int, data: bytes) -> None:
        """One committed entry, in order. Entries without records (a new leader's first) move the index only."""
        records = pb.MetadataRecords.FromString(data)
        if self.history is None:
            self._publish(*apply(self.image, records, index, term))
            return
        noting = Noting(index, records.time_ms)
        if records.controller_id and term != self._decided_term:
            self._decided_term = term
            noting.new_controller(records.controller_id, term)
        after = apply(self.image, records, index, term, noting)
        if noting.events:
            self.history(noting.events)
        self._publish(*after)

    def on_snapshot(self, index: int, term: int, data: bytes) -> None:
        """A snapshot replaces everything; one that is not newer than the image changes nothing."""
        if index > self.image.index:
            image = from_snapshot(data, index, term)
            if self.history is not None:
                self.history([unknown_before(index)])
            self._publish(image, snapshot_delta(self.image, image))

    def snapshot(self) -> bytes:
        """The image at the applied index, for the quorum's log compaction."""
        return snapshot_bytes(self.image)

    def _publish(self, image: Image, delta: Delta) -> None:
        self.image = image
        for subscriber in self._subscribers:
            subscriber(image, delta)
