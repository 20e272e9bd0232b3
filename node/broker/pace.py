"""How fast a node fetches the replicas that moves bring to it (`follower.replication.throttled.rate`): what is in the
ISR, or was a replica before the move, is never held up."""

from collections.abc import Mapping
from typing import Final, Protocol

from node.broker.partition import Partition
from node.metadata.image import Image
from ottla.protocol.configs import BROKER_KEYS, broker_defaults

RATE: Final = "follower.replication.throttled.rate"
LOOK_S: Final = 0.5
"""How long a wait is at most before it is thought over: the rate may have changed."""

NOTHING_S: Final = 0.001
"""Less than that is not waited for; it stays owed."""


class Node(Protocol):
    """What the pace needs to know of the broker."""

    node_id: int
    image: Image
    defaults: Mapping[str, str]


class MovePace:
    """One for all streams of a node. What was fetched is owed, and goes down with time."""

    def __init__(self, broker: Node) -> None:
        self._broker = broker
        self._owed_bytes = 0.0
        self._at_s = 0.0
        self._image: Image | None = None
        self._rate = 0

    def fetched(self, partition: Partition, size_bytes: int, now_s: float) -> None:
        """Notes what came of a partition."""
        if self._is_held_up(partition):
            self._pay(now_s)
            self._owed_bytes += size_bytes

    def wait_s(self, partition: Partition, now_s: float) -> float:
        """How long the partition is not to be asked for, before the next look; 0: now."""
        if not self._owed_bytes or not self._is_held_up(partition):
            return 0.0
        self._pay(now_s)
        wait_s = min(LOOK_S, self._owed_bytes / self._rate)
        return wait_s if wait_s > NOTHING_S else 0.0

    def _pay(self, now_s: float) -> None:
        self._owed_bytes = max(0.0, self._owed_bytes - (now_s - self._at_s) * self._bytes_per_s())
        self._at_s = now_s

    def _is_held_up(self, partition: Partition) -> bool:
        state, node_id = partition.state, self._broker.node_id
        return state is not None and node_id in state.adding and node_id not in state.isr

    def _bytes_per_s(self) -> int:
        image = self._broker.image
        if self._image is not image:
            self._image = image
            key = BROKER_KEYS[RATE]
            values = broker_defaults(image.broker_configs, self._broker.defaults, self._broker.node_id)
            self._rate = int(values.get(RATE, key.default or ""))
        return self._rate
