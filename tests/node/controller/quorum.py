"""A quorum in memory that keeps the seam's promises: append now, commit later (when told), or lose leadership."""

import asyncio
from dataclasses import dataclass
from typing import Any

from ottla.protocol.errors import ApiError
from ottla.v1 import error_pb2 as pb

CLUSTER = b"c" * 16


@dataclass(frozen=True)
class Leadership:
    leader_id: int | None
    term: int
    is_self: bool
    serving: bool


class MemoryQuorum:
    """`auto` commits each entry at once, but never from inside `propose`; otherwise `commit(upto)` does."""

    def __init__(self, node_id: int = 1) -> None:
        self.cluster_id: bytes | None = CLUSTER
        self.node_id = node_id
        self.leadership = Leadership(None, 0, False, False)
        self.commit_index = 0
        self.entries: list[tuple[int, bytes]] = []
        self.contacts: dict[int, int | None] = {}
        self.auto = True
        self.barriers = 0
        self._listeners: list[Any] = []

    @property
    def last_index(self) -> int:
        return len(self.entries)

    def add_listener(self, listener: Any) -> None:
        self._listeners.append(listener)

    def propose(self, data: bytes, term: int) -> int:
        if not self.leadership.is_self or self.leadership.term != term:
            raise ApiError(pb.ERROR_CODE_NOT_CONTROLLER, "not the leader", leader=self.leadership.leader_id)
        self.entries.append((term, data))
        if self.auto:
            asyncio.get_running_loop().call_soon(self.commit, self.last_index)
        return self.last_index

    def commit(self, upto: int | None = None) -> None:
        upto = min(self.last_index, self.last_index if upto is None else upto)
        while self.commit_index < upto:
            term, data = self.entries[self.commit_index]
            self.commit_index += 1
            for listener in self._listeners:
                listener.on_committed(self.commit_index, term, data)

    def last_contact_ms(self, node_id: int) -> int | None:
        return self.contacts.get(node_id)

    async def read_barrier(self) -> int:
        self.barriers += 1
        return self.commit_index

    def become_leader(self, term: int) -> None:
        """Elected, with the entry that a new leader appends committed."""
        self.leadership = Leadership(self.node_id, term, True, False)
        self.entries.append((term, b""))
        self.commit()
        self.leadership = Leadership(self.node_id, term, True, True)
        self._tell()

    def lose_leadership(self, to: int | None, term: int, keep: int | None = None) -> None:
        """Another node leads; of what was not committed only the first `keep` entries survive (None = all)."""
        self.leadership = Leadership(to, term, False, False)
        if keep is not None:
            del self.entries[self.commit_index + keep :]
        self._tell()

    def dead(self, node_id: int) -> None:
        for listener in self._listeners:
            listener.on_peer_dead(node_id)

    def _tell(self) -> None:
        for listener in self._listeners:
            listener.on_leadership(self.leadership)
