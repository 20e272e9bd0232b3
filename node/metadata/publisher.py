"""Keeps a node's committed image: applies what the quorum commits, loads its snapshots, tells who asked to know.

Lives on the control loop; subscribers are called there, in the order of their subscription, and must not block.
"""

from collections.abc import Callable
from typing import Final

from node.metadata.apply import apply, from_snapshot, snapshot_bytes, snapshot_delta
from node.metadata.image import Delta, Image
from ottla.internal.v1 import metadata_pb2 as pb

Subscriber = Callable[[Image, Delta], None]


class MetadataPublisher:
    """A listener of the quorum. `image` is what this node has applied; it only moves forward."""

    def __init__(self) -> None:
        self.image: Image = Image.EMPTY
        self._subscribers: Final[list[Subscriber]] = []

    def subscribe(self, subscriber: Subscriber) -> None:
        """Calls `subscriber(image, delta)` after each committed entry and each snapshot, from now on."""
        self._subscribers.append(subscriber)

    def on_committed(self, index: int, term: int, data: bytes) -> None:
        """One committed entry, in order. Entries without records (a new leader's first) move the index only."""
        self._publish(*apply(self.image, pb.MetadataRecords.FromString(data), index, term))

    def on_snapshot(self, index: int, term: int, data: bytes) -> None:
        """A snapshot replaces everything; one that is not newer than the image changes nothing."""
        if index > self.image.index:
            image = from_snapshot(data, index, term)
            self._publish(image, snapshot_delta(self.image, image))

    def snapshot(self) -> bytes:
        """The image at the applied index, for the quorum's log compaction."""
        return snapshot_bytes(self.image)

    def _publish(self, image: Image, delta: Delta) -> None:
        self.image = image
        for subscriber in self._subscribers:
            subscriber(image, delta)
