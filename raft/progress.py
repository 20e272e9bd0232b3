"""What a leader knows about one follower, voter or observer.

PROBE      find where the logs agree: one request at a time                 -> REPLICATE when one is accepted
REPLICATE  stream: up to `max_in_flight` unanswered requests                -> PROBE when one is refused or lost
SNAPSHOT   the log it needs is compacted away: one chunk at a time          -> REPLICATE once it holds the snapshot
Every wait has a time after which it is given up (`resend_ms`): no state waits for an event that may never come.
"""

from collections import deque
from dataclasses import dataclass, field
from enum import Enum

from raft.model import SnapshotMeta


class Flow(Enum):
    """How the leader sends to a follower."""

    PROBE = "probe"
    REPLICATE = "replicate"
    SNAPSHOT = "snapshot"


@dataclass(slots=True)
class Progress:
    """`match_index`: synced there and equal to the leader's log. `next_index`: first entry of the next request."""

    next_index: int
    last_contact_ms: int
    match_index: int = 0
    flow: Flow = Flow.PROBE
    in_flight: deque[int] = field(default_factory=deque)
    """Last index of each unanswered request, while replicating."""
    waiting_since_ms: int | None = None
    """When the oldest thing still unanswered was sent."""
    resend_ms: int = 0
    """After how long that is sent again."""
    acked_round: int = 0
    loss: int = 0
    """The loss of log that the follower told of, and where this leader's log ended when it was first heard of."""
    whole_index: int = 0
    caught_up_ms: int = 0
    snapshot: SnapshotMeta | None = None
    snapshot_size_bytes: int = 0
    snapshot_offset: int = 0

    def probe(self, next_index: int) -> None:
        """Start looking for agreement at `next_index - 1`; nothing sent before counts."""
        self.flow = Flow.PROBE
        self.next_index = next_index
        self.in_flight.clear()
        self.waiting_since_ms = None
        self.snapshot = None

    def accepted(self, match_index: int, now_ms: int) -> None:
        """The follower holds everything up to `match_index`: go on streaming behind it."""
        self.match_index = max(self.match_index, match_index)
        if self.flow is not Flow.REPLICATE:
            self.probe(self.match_index + 1)
            self.flow = Flow.REPLICATE
        self.next_index = max(self.next_index, self.match_index + 1)
        while self.in_flight and self.in_flight[0] <= match_index:
            self.in_flight.popleft()
        self.waiting_since_ms = now_ms if self.in_flight else None

    def send_snapshot(self, snapshot: SnapshotMeta, size_bytes: int) -> None:
        """The follower needs `snapshot`, from its first byte."""
        self.probe(snapshot.last_index + 1)
        self.flow = Flow.SNAPSHOT
        self.snapshot = snapshot
        self.snapshot_size_bytes = size_bytes
        self.snapshot_offset = 0
