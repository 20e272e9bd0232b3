"""The metadata log as one list, and each node's view of it: what stands in for raft, which has its own simulation.

Promised, as by raft: an entry that was committed stays, and every later leader has it; at most one leader per term; a
leader that was deposed may not know it yet - it still takes entries, which are never committed. Each node hears of
commits in its own time, and not at all while it is cut off from the leader. A leader that reaches no majority of the
voters resigns after `CHECK_MS`, another one is elected after an election time-out.
"""

import asyncio
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Any, Final

from node.metadata.apply import apply, snapshot_bytes
from node.metadata.image import Image
from node.quorum.driver import Leadership
from ottla.internal.v1 import metadata_pb2
from ottla.protocol.errors import ApiError
from ottla.v1 import cluster_pb2
from ottla.v1 import error_pb2 as pb
from tests.sim.cluster_loop import START_MS, World

if TYPE_CHECKING:
    from tests.sim.cluster_net import Network
    from tests.sim.cluster_node import Node

PUMP_MS: Final = 40.0
CHECK_MS: Final = 600.0
ELECTION_MS: Final = (500.0, 1000.0)
CLUSTER_ID: Final = b"c" * 16
VOTERS: Final = (1, 2, 3)


class MetadataLog:
    """What is true of the quorum. `images` are the committed states, one per entry."""

    def __init__(self, world: World, net: "Network", rng: Random, commit_ms: float) -> None:
        self.world = world
        self.net = net
        self.rng = rng
        self.commit_ms = commit_ms
        self.nodes: dict[int, Node] = {}
        self.entries: list[tuple[int, bytes]] = []
        self.images: list[tuple[Image, Any]] = []
        self.term = 0
        self.leader: int | None = None
        self.elections = 0
        self.on_image: Callable[[Image, Any], None] = lambda image, delta: None
        self._last_majority_ms = 0.0
        self._election_due_ms: float | None = 0.0
        self._uncommitted: list[tuple[int, bytes]] = []
        self._commit_due = False

    @property
    def committed(self) -> int:
        return len(self.images)

    @property
    def image(self) -> Image:
        return self.images[-1][0] if self.images else Image.EMPTY

    def start(self) -> None:
        self.world.scheduler.after(PUMP_MS, self._pump)

    # --- who leads

    def reaches(self, a: int, b: int) -> bool:
        """Whether frames pass both ways between two nodes that run."""
        first, second = self.nodes[a], self.nodes[b]
        if not (first.up and second.up) or first.frozen or second.frozen:
            return False
        return a == b or (self.net.passes(first.name, second.name) and self.net.passes(second.name, first.name))

    def _majority(self, node_id: int) -> list[int]:
        return [other for other in VOTERS if self.reaches(node_id, other)]

    def _pump(self) -> None:
        now_ms = self.world.now_ms
        self.world.scheduler.after(PUMP_MS, self._pump)
        for a, node in self.nodes.items():
            for b in self.nodes:
                if a != b and self.reaches(a, b):
                    node.contact_ms[b] = now_ms - self.rng.random() * PUMP_MS
        if self.leader is not None:
            if len(self._majority(self.leader)) * 2 > len(VOTERS):
                self._last_majority_ms = now_ms
            elif now_ms - self._last_majority_ms > CHECK_MS:
                self.depose("no majority")
        if self.leader is None and self._election_due_ms is not None and now_ms >= self._election_due_ms:
            self._elect()
        for node in self.nodes.values():
            if node.up and node.quorum is not None and node.quorum.running:
                self.deliver(node)

    def _elect(self) -> None:
        able = [n for n in VOTERS if len(self._majority(n)) * 2 > len(VOTERS)]
        able = [n for n in able if self.nodes[n].quorum is not None and self.nodes[n].quorum.running]
        if not able:
            return
        self.leader = self.rng.choice(able)
        self.term += 1
        self.elections += 1
        self._election_due_ms = None
        self._last_majority_ms = self.world.now_ms
        # The new leader's log has everything that was committed, and maybe more of what was not.
        del self._uncommitted[self.rng.randint(0, len(self._uncommitted)) :]
        self.world.note(f"controller {self.leader} term {self.term} at {self.committed}+{len(self._uncommitted)}")
        self._uncommitted.append((self.term, b""))
        self._commit_soon()

    def depose(self, why: str, delay_ms: tuple[float, float] = ELECTION_MS) -> None:
        """The others elect another one; who led hears of it when it hears anything."""
        if self.leader is None:
            return
        self.world.note(f"controller {self.leader} deposed: {why}")
        quorum = self.nodes[self.leader].quorum
        if quorum is not None:
            quorum.own, quorum.own_base = list(self._uncommitted), self.committed
        self.leader = None
        self._election_due_ms = self.world.now_ms + self.rng.uniform(*delay_ms)

    # --- entries

    def propose(self, node_id: int, data: bytes, term: int) -> int | None:
        """The index in the leader's log; None where this node does not lead in that term (any more)."""
        if node_id != self.leader or term != self.term:
            return None
        self._uncommitted.append((term, data))
        self._commit_soon()
        return self.committed + len(self._uncommitted)

    @property
    def last_index(self) -> int:
        return self.committed + len(self._uncommitted)

    def _commit_soon(self) -> None:
        if not self._commit_due:
            self._commit_due = True
            self.world.scheduler.after(self.rng.expovariate(1 / self.commit_ms), self._commit)

    def _commit(self) -> None:
        self._commit_due = False
        leader = self.leader
        if leader is None or not self._uncommitted:
            return
        if len(self._majority(leader)) * 2 <= len(VOTERS):
            self._commit_due = True
            self.world.scheduler.after(PUMP_MS, self._commit)
            return
        entries, self._uncommitted = self._uncommitted, []
        for term, data in entries:
            self.entries.append((term, data))
            image, delta = apply(self.image, metadata_pb2.MetadataRecords.FromString(data), len(self.entries), term)
            self.images.append((image, delta))
            self.on_image(image, delta)
        for node in self.nodes.values():
            if node.up and node.quorum is not None and node.quorum.running:
                delay_ms = 0.0 if node.node_id == leader else self.rng.expovariate(1 / 2)
                self.world.scheduler.after(delay_ms, self.deliver, node)

    def deliver(self, node: "Node") -> None:
        """A node hears of what was committed and who leads, if it can hear the leader."""
        quorum = node.quorum
        if quorum is None or not node.up or not quorum.running or node.frozen:
            return
        leader = self.leader
        hears = leader is not None and self.reaches(node.node_id, leader)
        if hears and (
            quorum.applied < self.committed or quorum.leadership.term != self.term or quorum.is_stale(leader)
        ):
            assert node.control_loop is not None
            node.control_loop.execute(quorum.catch_up, self.term, leader)
        elif leader is None and quorum.leadership.is_self and len(self._majority(node.node_id)) * 2 <= len(VOTERS):
            assert node.control_loop is not None
            node.control_loop.execute(quorum.resign)


class SimQuorum:
    """One node's quorum: the interface of `node.quorum.driver.Quorum` that the control plane uses."""

    def __init__(self, log: MetadataLog, node: "Node", directory: Any) -> None:
        self.log = log
        self.node = node
        self.node_id = node.node_id
        self.applied = 0
        self.running = False
        self.leadership = Leadership(None, 0, False, False)
        self.leaderless_since_ms: int | None = None
        self.failed: asyncio.Future[None]
        self._directory = directory
        self._listeners: list[Any] = []
        self.own: list[tuple[int, bytes]] = []
        self.own_base = 0
        """Of a leader that was deposed and may not know it: its log is `own_base` entries and these."""

    @property
    def cluster_id(self) -> bytes | None:
        return self._directory.cluster_id

    def add_listener(self, listener: Any) -> None:
        self._listeners.append(listener)

    def set_snapshot_source(self, source: Any) -> None: ...
    def set_checks(self, readable: Any, loadable: Any) -> None: ...
    def add_to(self, server: Any) -> None: ...
    def set_address(self, node_id: int, address: str) -> None: ...
    def address(self, node_id: int) -> str:
        return ""

    async def start(self) -> None:
        self.failed = asyncio.get_running_loop().create_future()
        self._directory.set_cluster_id(CLUSTER_ID)
        self.running = True
        self.leaderless_since_ms = self._now_ms()
        # What its disk has: a snapshot and what follows, not necessarily all that is committed by now.
        known = min(self.node.known_index, self.log.committed)
        if known:
            image = self.log.images[known - 1][0]
            self._tell("on_snapshot", known, image.term, snapshot_bytes(image))
            self.applied = known
        self.log.deliver(self.node)

    async def stop(self, *, transfer: bool = True) -> None:
        if self.leadership.is_self and self.log.leader == self.node_id:
            self.log.depose("it hands over", (20, 80))
        self.running = False

    def is_stale(self, leader: int | None) -> bool:
        return self.leadership.leader_id != leader

    def catch_up(self, term: int, leader: int | None) -> None:
        """Everything committed, then who leads."""
        log = self.log
        if self.leadership.is_self and (leader != self.node_id or term > self.leadership.term):
            # To lead again it must have stood for election, so it has first heard that its term is over.
            self._set(Leadership(leader if leader != self.node_id else None, term, False, False))
        elif leader == self.node_id and log.leader == self.node_id and term == log.term:
            # Its own entries count when they are committed; what an earlier term left is in the list by then.
            self.own.clear()
        while self.applied < log.committed and self.running:
            entry_term, data = log.entries[self.applied]
            self.applied += 1
            self.node.known_index = self.applied
            self._tell("on_committed", self.applied, entry_term, data)
        if not self.running or term < self.leadership.term:
            return
        is_self = leader == self.node_id
        serving = is_self and log.committed > 0 and log.entries[log.committed - 1][0] == term
        if is_self and not serving:
            return  # its first entry is not committed yet
        wanted = Leadership(leader, term, is_self, serving)
        if wanted != self.leadership:
            self._set(wanted)

    def resign(self) -> None:
        """It reaches no majority."""
        self._set(Leadership(None, self.leadership.term, False, False))

    def _set(self, leadership: Leadership) -> None:
        self.leadership = leadership
        self.leaderless_since_ms = None if leadership.leader_id is not None else self._now_ms()
        self.own.clear()
        self._tell("on_leadership", leadership)

    def _tell(self, what: str, *args: Any) -> None:
        for listener in self._listeners:
            getattr(listener, what)(*args)

    def peer_dead(self, node_id: int) -> None:
        self._tell("on_peer_dead", node_id)

    def peer_alive(self, node_id: int) -> None:
        self._tell("on_peer_alive", node_id)

    # --- requests

    @property
    def commit_index(self) -> int:
        return self.applied

    @property
    def last_index(self) -> int:
        if self.log.leader == self.node_id and self.log.term == self.leadership.term:
            return self.log.last_index
        return max(self.applied, self.own_base + len(self.own))

    def propose(self, data: bytes, term: int) -> int:
        leadership = self.leadership
        if not leadership.is_self or leadership.term != term:
            raise ApiError(pb.ERROR_CODE_NOT_CONTROLLER, f"node {self.node_id} does not lead the quorum")
        index = self.log.propose(self.node_id, data, term)
        if index is None:
            # Deposed without knowing it: the entry goes into its own log, and nowhere else.
            self.own.append((term, data))
            return self.own_base + len(self.own)
        return index

    async def read_barrier(self) -> int:
        if not self.leadership.is_self:
            raise ApiError(pb.ERROR_CODE_NOT_CONTROLLER, f"node {self.node_id} does not lead the quorum")
        return self.applied

    def last_contact_ms(self, node_id: int) -> int | None:
        at_ms = self.node.contact_ms.get(node_id)
        return None if at_ms is None else int(START_MS + at_ms)

    def describe(self) -> cluster_pb2.DescribeQuorumResponse:
        return cluster_pb2.DescribeQuorumResponse()

    def _now_ms(self) -> int:
        return int(START_MS + self.log.world.now_ms)
