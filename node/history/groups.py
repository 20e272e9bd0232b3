"""What a coordinator remembers of the groups that it coordinates: who came, who went, and why they share anew. It is
soft: whoever takes a group over remembers nothing of what was before, and says so."""

from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple

from node.metadata.events import Event
from ottla.v1 import cluster_pb2

GROUPS_MAX: Final = 2_000
OF_A_GROUP: Final = 50
JOINED: Final = cluster_pb2.EVENT_KIND_MEMBER_JOINED
LEFT: Final = cluster_pb2.EVENT_KIND_MEMBER_LEFT
ASSIGNMENT: Final = cluster_pb2.EVENT_KIND_ASSIGNMENT


class Note(NamedTuple):
    """Something that a decision did to a group; it counts when that is committed."""

    group_id: str
    kind: cluster_pb2.EventKind.ValueType
    cause: str
    member_id: str = ""


class GroupHistory:
    """Used on one loop. Of many groups those that changed last are remembered."""

    def __init__(self) -> None:
        self._of: dict[str, deque[Event]] = {}
        self._last_id = 0

    def add(self, notes: Sequence[Note], time_ms: int) -> None:
        """Takes what was decided. `time_ms`: the wall clock."""
        for note in notes:
            kept = self._of.pop(note.group_id, None) or deque(maxlen=OF_A_GROUP)
            self._of[note.group_id] = kept
            self._last_id += 1
            kept.append(
                Event(
                    id=self._last_id,
                    entry=None,
                    time_ms=time_ms,
                    kind=note.kind,
                    cause=note.cause,
                    group_id=note.group_id,
                    member_id=note.member_id,
                )
            )
            if len(self._of) > GROUPS_MAX:
                del self._of[next(iter(self._of))]

    def of(self, group_id: str) -> list[Event]:
        """The newest first."""
        return list(reversed(self._of.get(group_id, ())))
