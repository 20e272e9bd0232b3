"""A tiny scenario language over real cores: every message, sync and tick happens because a line says so.

Nodes are numbers. A message waits in `wire` until it is delivered or dropped; a write waits in the node's queue until
`sync`. `story` collects what happened as readable lines, which is what scenario tests compare.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import replace

from raft.config import RaftConfig
from raft.core import Raft
from raft.effects import ChunkWrite, Effects, HardState, Role
from raft.messages import Message, SnapshotChunk
from raft.model import Entry, EntryKind, PeerId, SnapshotMeta

CLUSTER = b"C" * 16


def peer(node_id: int, disk: int = 0) -> PeerId:
    """The identity of node `node_id` with its `disk`-th directory."""
    return PeerId(node_id, bytes([node_id, disk]) * 8)


def shortest(low: int, high: int) -> int:
    """A generator of random numbers without surprises."""
    return low


class Disk:
    """Synced state of one node."""

    def __init__(self, voters: tuple[PeerId, ...]) -> None:
        self.hard_state = HardState(0, None)
        self.snapshot = SnapshotMeta(0, 0, voters)
        self.snapshot_bytes = 1
        self.entries: list[Entry] = []

    def write(self, effects: Effects) -> None:
        if effects.reset_log is not None:
            self.entries = []
        if effects.truncate_from is not None:
            self.entries = [entry for entry in self.entries if entry.index < effects.truncate_from]
        self.entries.extend(effects.append)
        if effects.hard_state is not None:
            self.hard_state = effects.hard_state


class Cluster:
    """Nodes 1..n, of which the first `voters` vote."""

    def __init__(self, voters: int, observers: int = 0, *, config: RaftConfig | None = None) -> None:
        self.config = config if config is not None else RaftConfig()
        self.now_ms = 0
        self.initial = tuple(peer(i) for i in range(1, voters + 1))
        self.wire: list[Message] = []
        self.story: list[str] = []
        self.rafts: dict[int, Raft] = {}
        self.disks: dict[int, Disk] = {}
        self.queues: dict[int, deque[Effects]] = {}
        self.applied: dict[int, list[Entry]] = {}
        self.deadlines: dict[int, int] = {}
        self.last: dict[int, Effects] = {}
        self.chunk_writes: dict[int, list[ChunkWrite]] = {}
        for i in range(1, voters + observers + 1):
            self.disks[i] = Disk(self.initial)
            self.start(i)

    # --- life

    def start(self, i: int, *, me: PeerId | None = None, refetch: tuple[int, int] = (0, 0)) -> None:
        """Start node `i` from what its disk holds."""
        disk = self.disks[i]
        if refetch != (0, 0):
            disk.hard_state = replace(disk.hard_state, refetch=refetch)
        self.queues[i] = deque()
        self.applied[i] = []
        self.chunk_writes[i] = []
        self.rafts[i] = Raft(
            cluster_id=CLUSTER,
            me=me if me is not None else peer(i),
            config=self.config,
            randint=shortest,
            hard_state=disk.hard_state,
            snapshot=disk.snapshot,
            snapshot_size_bytes=disk.snapshot_bytes,
            entries=tuple(disk.entries),
            now_ms=self.now_ms,
        )
        if self.rafts[i].log_was_dropped:
            disk.entries = []
        self.rafts[i].set_contacts([peer(j) for j in self.disks if j != i])
        self.drain(i)

    def crash(self, *nodes: int) -> None:
        """Lose memory, unsynced writes and every message on its way to or from the nodes."""
        for i in nodes:
            del self.rafts[i]
            self.queues[i].clear()
            self.wire = [m for m in self.wire if i not in (m.sender.node_id, m.to.node_id)]

    def restart(self, *nodes: int) -> None:
        self.crash(*nodes)
        for i in nodes:
            self.start(i)

    # --- one step each

    def drain(self, i: int) -> Effects:
        effects = self.rafts[i].drain()
        self.last[i] = effects
        self.wire.extend(effects.send_now)
        self.wire.extend(effects.send_chunks)
        self.chunk_writes[i].extend(effects.snapshot_writes)
        if effects.load_snapshot is not None:
            self.applied[i] = []
        self.applied[i].extend(effects.apply)
        if effects.synced is not None or effects.send_after_sync:
            self.queues[i].append(effects)
        if effects.deadline_ms is not None:
            self.deadlines[i] = effects.deadline_ms
        change = effects.leader_change
        if change is not None:
            leader = "?" if change.leader is None else change.leader.node_id
            self.story.append(f"{i} is {change.role.value} in term {change.term}, leader {leader}")
        return effects

    def sync(self, *nodes: int) -> None:
        """Complete the writes queued so far, and what waits for them."""
        for i in nodes or tuple(self.rafts):
            for _ in range(len(self.queues[i])):
                effects = self.queues[i].popleft()
                self.disks[i].write(effects)
                self.wire.extend(effects.send_after_sync)
                if effects.synced is not None:
                    self.rafts[i].persisted(effects.synced, self.now_ms)
                    self.drain(i)

    def deliver(self, wanted: Callable[[Message], bool] = lambda m: True) -> int:
        """Deliver the messages on the wire that are `wanted`; later ones wait. Returns how many."""
        chosen = [m for m in self.wire if wanted(m)]
        self.wire = [m for m in self.wire if not wanted(m)]
        for message in chosen:
            i = message.to.node_id
            if i in self.rafts:
                self.story.append(f"{message.sender.node_id}->{i} {describe(message)}")
                self.rafts[i].step(message, self.now_ms)
                self.drain(i)
        return len(chosen)

    def drop(self, wanted: Callable[[Message], bool] = lambda m: True) -> list[Message]:
        """Lose the messages that are `wanted`; returns them."""
        lost = [m for m in self.wire if wanted(m)]
        self.wire = [m for m in self.wire if not wanted(m)]
        return lost

    def inject(self, message: Message, at: int = 1) -> None:
        """Deliver to node `at` a message nobody of the cluster sent."""
        self.rafts[at].step(message, self.now_ms)
        self.drain(at)

    def tick(self, *nodes: int, to_ms: int | None = None) -> None:
        """Let the clock reach the nodes' deadlines (or `to_ms`) and tick them."""
        for i in nodes:
            self.now_ms = max(self.now_ms, self.deadlines[i] if to_ms is None else to_ms)
            self.rafts[i].tick(self.now_ms)
            self.drain(i)

    # --- many steps

    def settle(self, *, without: tuple[int, ...] = (), rounds: int = 200) -> None:
        """Sync and deliver until nothing moves; messages from or to `without` are lost."""
        for _ in range(rounds):
            self.sync(*(i for i in self.rafts if i not in without))
            self.drop(lambda m: m.sender.node_id in without or m.to.node_id in without)
            if not self.deliver() and not any(q for i, q in self.queues.items() if i not in without):
                return
        raise AssertionError("the cluster does not settle: " + "\n".join(self.story[-30:]))

    def elect(self, i: int, *, without: tuple[int, ...] = ()) -> None:
        """Let node `i` win an election, then settle."""
        self.now_ms += 2 * self.config.election_timeout_max_ms
        self.tick(i)
        self.settle(without=without)
        assert self.rafts[i].role is Role.LEADER, self.story

    def propose(self, i: int, *payloads: bytes) -> tuple[int, int]:
        result = self.rafts[i].propose(payloads, self.now_ms)
        self.drain(i)
        return result

    def heartbeat(self, i: int, *, without: tuple[int, ...] = ()) -> None:
        """One heartbeat of leader `i`, then settle."""
        self.tick(i)
        self.settle(without=without)

    def snapshot(self, i: int, index: int | None = None, size_bytes: int = 100) -> SnapshotMeta:
        """Take a snapshot on node `i` and make it durable."""
        raft = self.rafts[i]
        meta = raft.snapshot_meta(index if index is not None else raft.commit_index)
        self.store(i, meta, size_bytes)
        return meta

    def store(self, i: int, meta: SnapshotMeta, size_bytes: int = 100) -> None:
        if meta.last_index > self.disks[i].snapshot.last_index:
            self.disks[i].snapshot = meta
        self.rafts[i].snapshot_stored(meta, size_bytes, self.now_ms)
        self.drain(i)

    def fill_chunks(self) -> None:
        """Put bytes into the chunks on the wire, as the sender's shell does."""
        size = self.config.snapshot_chunk_bytes
        for position, m in enumerate(self.wire):
            if isinstance(m, SnapshotChunk) and not m.data:
                data = b"s" * min(size, m.size_bytes - m.offset)
                self.wire[position] = SnapshotChunk(
                    m.cluster_id, m.sender, m.to, m.term, m.snapshot, m.size_bytes, m.offset, data
                )

    # --- views

    def data(self, i: int) -> list[bytes]:
        """DATA payloads node `i` has applied."""
        return [entry.data for entry in self.applied[i] if entry.kind is EntryKind.DATA]

    def terms(self, i: int) -> list[int]:
        """Terms of the log in memory, base excluded."""
        log = self.rafts[i].log
        return [entry.term for entry in log.slice(log.base_index + 1, log.last_index)]

    def leaders(self) -> list[int]:
        return [i for i, raft in self.rafts.items() if raft.role is Role.LEADER]


def describe(m: Message) -> str:
    """One message as a few words."""
    fields = {
        name: getattr(m, name)
        for cls in reversed(type(m).__mro__)
        for name in getattr(cls, "__slots__", ())
        if name not in ("cluster_id", "sender", "to")
    }
    if "entries" in fields:
        fields["entries"] = [f"{e.index}/{e.term}" for e in m.entries]  # type: ignore[attr-defined]
    if "data" in fields:
        fields["data"] = len(fields["data"])
    if "snapshot" in fields:
        fields["snapshot"] = fields["snapshot"].last_index
    return f"{type(m).__name__} " + " ".join(f"{k}={v}" for k, v in fields.items())


def to(i: int) -> Callable[[Message], bool]:
    return lambda m: m.to.node_id == i


def sent_by(i: int) -> Callable[[Message], bool]:
    return lambda m: m.sender.node_id == i


def kind(*types: type[Message]) -> Callable[[Message], bool]:
    return lambda m: isinstance(m, types)
