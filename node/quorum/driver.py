"""The metadata quorum of one node: persist, then send, then apply.

Everything runs on the control loop except the syncs, which one thread does in order. The consensus core decides
(`raft.core`); this shell does what its `Effects` say, in their order. A failed sync, a broken invariant or a failed log
end the node through `failed`; nothing that a peer sends does.
"""

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from random import Random
from typing import Final, Protocol

import grpc
import structlog

from node.config import Settings
from node.fail_stop import stop_if_broken
from node.quorum.disk import DiskQueue
from node.quorum.members import Members
from node.quorum.snapshots import Snapshots
from node.quorum.status import describe, tell_replaced_disks
from node.quorum.store import QuorumStore
from node.quorum.wire import to_proto
from node.transport import PLAIN, Transport
from ottla.internal.v1 import raft_pb2 as pb
from ottla.protocol.errors import ApiError
from ottla.v1 import cluster_pb2, error_pb2
from raft.config import RaftConfig
from raft.core import Raft
from raft.effects import Effects, Persisted, Role
from raft.errors import NotLeaderError, RaftError, RefusedError
from raft.messages import AppendRequest, Heartbeat, Message, SnapshotChunk
from raft.model import EntryKind, PeerId, SnapshotMeta
from storage.directory import LogDirectory
from storage.fs import NO_DESCRIPTORS, FileSystem

log = structlog.get_logger(__name__)

STRANGERS_AFTER_MS: Final = 5000
"""Without a leader for so long, a node takes one from whom it cannot reach itself."""
CHANGE_TIMEOUT_MS: Final = 10_000
"""How long a voter change waits for the one before it, or for an observer that lags."""


@dataclass(frozen=True, slots=True)
class Leadership:
    """Who leads, as this node knows. `serving`: this node does, and has applied what was committed before its term."""

    leader_id: int | None
    term: int
    is_self: bool
    serving: bool


class QuorumListener(Protocol):
    """What the quorum tells, on the control loop, in order. Nothing is proposed from inside these calls."""

    def on_committed(self, index: int, term: int, data: bytes) -> None:
        """One committed entry; without `data` it is one of the quorum's own and moves the index only."""

    def on_snapshot(self, index: int, term: int, data: bytes) -> None: ...
    def on_leadership(self, leadership: Leadership) -> None: ...
    def on_peer_dead(self, node_id: int) -> None: ...
    def on_peer_alive(self, node_id: int) -> None: ...


class Quorum:
    """See the module. Made on any thread, used on the control loop from `start` on."""

    def __init__(
        self,
        settings: Settings,
        directory: LogDirectory,
        fs: FileSystem,
        rng: Random | None = None,
        transport: Transport = PLAIN,
    ) -> None:
        """`directory`: locked and open; its `quorum` directory is this quorum's. Raises CorruptFile, OSError."""
        self.node_id = directory.node_id
        self.directory_id = directory.directory_id
        self.failed: asyncio.Future[None]
        self.leadership = Leadership(None, 0, is_self=False, serving=False)
        self.leaderless_since_ms: int | None = _now_ms()
        self.applied_index = 0
        self.ignored_messages = 0
        """Of strangers that would have led this node astray; see `_leads_astray`."""
        self._me = PeerId(directory.node_id, directory.directory_id)
        self._directory = directory
        self._settings = settings
        self._config = RaftConfig(
            election_timeout_ms=settings.controller_quorum_election_timeout_ms,
            election_timeout_max_ms=2 * settings.controller_quorum_election_timeout_ms,
            fetch_timeout_ms=settings.controller_quorum_fetch_timeout_ms,
        )
        self._rng = rng if rng is not None else Random(secrets.randbits(64))
        self._store = QuorumStore(fs, f"{directory.path}/quorum")
        self._members = Members(self._me, dict(settings.voters), directory, self._store, self, transport)
        self._listeners: list[QuorumListener] = []
        self._snapshot_source: Callable[[], bytes] | None = None
        self._readable: Callable[[bytes], bool] = lambda data: True
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="quorum-sync")
        self._raft: Raft | None = None
        self._running = False
        self._timer: asyncio.TimerHandle | None = None
        self._disk = DiskQueue(self._store, self._thread, self._on_synced, self._fail)
        self._snapshots = Snapshots(
            self._store, self._thread, self._on_snapshot_stored, self._on_snapshot_rejected, self._fail
        )
        self._applied_bytes = 0
        self._snapshot_ms = _now_ms()
        self._replaced: list[PeerId] = []
        self._next_read = 0
        self._reads: dict[int, asyncio.Future[int]] = {}
        self._applied_waiters: dict[int, list[tuple[int, asyncio.Future[None]]]] = {}

    # --- life

    @property
    def cluster_id(self) -> bytes | None:
        """The cluster, 16 bytes; None until it is formed or joined."""
        return self._directory.cluster_id

    def add_listener(self, listener: QuorumListener) -> None:
        """Tell `listener` from now on; before `start`."""
        self._listeners.append(listener)

    def set_snapshot_source(self, source: Callable[[], bytes]) -> None:
        """`source()` is the state machine at the applied index, as bytes."""
        self._snapshot_source = source

    def add_to(self, server: grpc.aio.Server) -> None:
        """Serve other members on the control listener."""
        self._members.links.add_to(server)

    def set_address(self, node_id: int, address: str) -> None:
        """Keep a stream to a member, which the metadata remembers at a control address; it may be configured at another
        one by now, and the other way round.
        """
        if node_id != self.node_id and self._running and address:
            configured = dict(self._settings.voters).get(node_id, address)
            self._members.links.dial(node_id, (configured, address))

    def address(self, node_id: int) -> str:
        """The control address at which a member was found; empty if none was tried with success."""
        return self._members.links.address(node_id)

    async def start(self) -> None:
        """Load what is on disk and take part. Returns at once; a cluster may still have to form.

        Raises CorruptFile, StorageError, OSError: this disk cannot be used as it is.
        """
        self.failed = asyncio.get_running_loop().create_future()
        self._running = True
        self._members.start()

    async def stop(self, *, transfer: bool = True) -> None:
        """Leave in order: hand leadership over, finish what is being synced, close the log."""
        if not self._running:
            return
        if transfer and self._raft is not None and self._raft.role is Role.LEADER and not self.failed.done():
            await self._hand_over()
        self._running = False
        self._disk.stop()
        self._snapshots.stop()
        if self._timer is not None:
            self._timer.cancel()
        await self._members.stop()
        await asyncio.get_running_loop().run_in_executor(None, self._thread.shutdown)
        for read in self._reads.values():
            if not read.done():
                read.set_exception(self._not_leader())
        self._store.close(clean=not self.failed.done())

    async def _hand_over(self) -> None:
        try:
            await self.transfer(None)
        except ApiError:
            return
        for _ in range(50):
            if not self.leadership.is_self:
                return
            await asyncio.sleep(0.02)

    def _fail(self, error: BaseException) -> None:
        """Stop taking part, for good: what this node says from here on could be wrong."""
        if self._running:
            self._running = False
            self._disk.stop()
            self._snapshots.stop()
            log.error("quorum_failed", error=repr(error))
            if not self.failed.done():
                self.failed.set_exception(error)

    # --- requests

    @property
    def me(self) -> PeerId:
        """This member: node and disk."""
        return self._me

    @property
    def voters(self) -> tuple[PeerId, ...]:
        """The voter set as this node's log has it; empty before there is a cluster."""
        return () if self._raft is None else self._raft.log.voters

    @property
    def commit_index(self) -> int:
        """The last entry known to be committed."""
        return self._raft.commit_index if self._raft is not None else 0

    @property
    def last_index(self) -> int:
        """The last entry of this node's log."""
        return self._raft.log.last_index if self._raft is not None else 0

    def propose(self, data: bytes, term: int) -> int:
        """Append an entry as the leader of `term`; returns its index. It counts when `on_committed` brings it back.

        Raises ApiError NOT_CONTROLLER.
        """
        raft = self._leading()
        if raft.term != term:
            raise self._not_leader()
        try:
            _, index = raft.propose((data,), _now_ms())
        except (NotLeaderError, RefusedError) as refused:
            raise ApiError(error_pb2.ERROR_CODE_NOT_CONTROLLER, str(refused)) from refused
        self._drain()
        return index

    async def read_barrier(self) -> int:
        """Return the index that a linearizable read must have applied, after it is. Raises ApiError NOT_CONTROLLER."""
        raft = self._leading()
        self._next_read += 1
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._reads[self._next_read] = future
        try:
            raft.read_index(self._next_read, _now_ms())
        except RaftError as refused:
            del self._reads[self._next_read]
            raise ApiError(error_pb2.ERROR_CODE_NOT_CONTROLLER, str(refused)) from refused
        self._drain()
        return await future

    async def add_voter(self, node_id: int, directory_id: bytes) -> None:
        """Let a node that follows and has caught up vote; returns when that is committed. Raises ApiError."""
        raft = self._leading()
        observers = [p for p in raft.status().peers if not p.voter and p.peer.node_id == node_id]
        peer = PeerId(node_id, directory_id)
        if not directory_id and observers:
            # A removed voter is still followed for a while under its old directory: the newest contact is the live one.
            peer = max(observers, key=lambda p: p.last_contact_ms).peer
        seats = [voter for voter in raft.log.voters if voter.node_id == node_id]
        if peer in seats or (seats and not directory_id and not observers):
            raise ApiError(error_pb2.ERROR_CODE_DUPLICATE_VOTER, f"node {node_id} votes already, as {seats[0]}")
        await self._change(lambda: raft.add_voter(peer, _now_ms()))

    async def remove_voter(self, node_id: int, directory_id: bytes) -> None:
        """Take a node's vote away; returns when that is committed. A leader hands over first. Raises ApiError."""
        raft = self._leading()
        seats = [voter for voter in raft.log.voters if voter.node_id == node_id]
        peer = PeerId(node_id, directory_id) if directory_id else (seats or [PeerId(node_id, b"")])[0]
        if peer not in seats:
            text = f"node {node_id} votes as {seats[0]}, not as {peer}" if seats else f"node {node_id} is not a voter"
            raise ApiError(error_pb2.ERROR_CODE_VOTER_NOT_FOUND, text)
        if peer == self._me and len(raft.log.voters) > 1:
            await self.transfer(None)
            raise ApiError(error_pb2.ERROR_CODE_NOT_CONTROLLER, "this node hands over first; ask the next leader")
        await self._change(lambda: raft.remove_voter(peer, _now_ms()))

    async def transfer(self, node_id: int | None) -> None:
        """Begin to hand leadership to a voter; None: to the one that holds most. Raises ApiError."""
        raft = self._leading()
        others = [p for p in raft.status().peers if p.voter and node_id in (None, p.peer.node_id)]
        if not others:
            text = "there is no other voter" if node_id is None else f"node {node_id} is not another voter"
            raise ApiError(error_pb2.ERROR_CODE_VOTER_NOT_FOUND, text)
        target = max(others, key=lambda p: (p.match_index, p.last_contact_ms)).peer
        try:
            raft.transfer_leadership(target, _now_ms())
        except RaftError as refused:
            raise self._refused(refused) from refused
        self._drain()

    async def _change(self, change: Callable[[], tuple[int, int]]) -> None:
        """Make one voter change, waiting a while for what it waits for: another change, or an observer that lags."""
        deadline_ms = _now_ms() + CHANGE_TIMEOUT_MS
        while True:
            try:
                term, index = change()
                break
            except RaftError as refused:
                waits = isinstance(refused, RefusedError) and refused.retriable and self._running
                if not waits or _now_ms() >= deadline_ms:
                    raise self._refused(refused) from refused
            await asyncio.sleep(0.02)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._applied_waiters.setdefault(index, []).append((term, future))
        self._drain()
        await future

    def last_contact_ms(self, node_id: int) -> int | None:
        """Monotonic time of the last frame of a node, taken when it arrived; None: never."""
        return self._members.links.last_contact_ms.get(node_id)

    def describe(self) -> cluster_pb2.DescribeQuorumResponse:
        """Return the quorum as this node sees it; also without a leader, and before there is a cluster."""
        now_ms = _now_ms()
        leaderless_ms = 0 if self.leaderless_since_ms is None else now_ms - self.leaderless_since_ms
        status = None if self._raft is None else self._raft.status()
        if status is not None and self.leaderless_since_ms is not None:
            status = replace(status, leader=None)
        return describe(self._me, status, self._address, dict(self._settings.voters), leaderless_ms, now_ms)

    def _address(self, node_id: int) -> str:
        return self._members.links.address(node_id) or dict(self._settings.voters).get(node_id, "")

    def _leading(self) -> Raft:
        if self._raft is None or not self._running or self._raft.role is not Role.LEADER:
            raise self._not_leader()
        return self._raft

    def _not_leader(self) -> ApiError:
        leader = self.leadership.leader_id
        who = "there is none at present" if leader is None else f"node {leader} does"
        return ApiError(
            error_pb2.ERROR_CODE_NOT_CONTROLLER,
            f"node {self.node_id} does not lead the quorum, {who}",
            leader=leader,
            epoch=self.leadership.term,
            address="" if leader is None else self._members.links.address(leader),
        )

    def _refused(self, refused: RaftError) -> ApiError:
        if isinstance(refused, RefusedError):
            code = error_pb2.ERROR_CODE_REQUEST_TIMED_OUT if refused.retriable else error_pb2.ERROR_CODE_INVALID_REQUEST
            return ApiError(code, str(refused))
        return self._not_leader()

    # --- raft: inputs

    def on_cluster(self) -> None:
        """The cluster is known, durably: load what is on disk and take part."""
        now_ms = _now_ms()
        loaded = self._store.open(_wall_ms())
        assert self.cluster_id is not None
        raft = Raft(
            cluster_id=self.cluster_id,
            me=self._me,
            config=self._config,
            randint=self._rng.randint,
            hard_state=loaded.hard_state,
            snapshot=loaded.snapshot,
            snapshot_size_bytes=loaded.snapshot_size_bytes,
            entries=loaded.entries,
            now_ms=now_ms,
        )
        if raft.log_was_dropped:
            self._store.log_was_dropped(loaded.snapshot)
        seats = [voter for voter in raft.log.voters if voter.node_id == self.node_id and voter != self._me]
        if seats:
            log.warning(
                "quorum_seat_of_another_directory",
                voter=str(seats[0]),
                this=str(self._me),
                meaning="this node's disk was replaced: it follows without a vote",
                next_step=f"remove voter {seats[0]}, then add {self._me}",
            )
        self.applied_index = loaded.snapshot.last_index
        self._raft = raft
        if loaded.snapshot_data is not None:
            for listener in self._listeners:
                listener.on_snapshot(loaded.snapshot.last_index, loaded.snapshot.last_term, loaded.snapshot_data)
        log.info(
            "quorum_started",
            cluster_id=self.cluster_id.hex(),
            voters=[str(voter) for voter in raft.log.voters],
            snapshot=loaded.snapshot.last_index,
            last_index=raft.log.last_index,
            term=raft.term,
        )
        raft.set_contacts(self._members.links.connected)
        self._drain()

    def _tick(self) -> None:
        self._timer = None
        self._feed(lambda raft: raft.tick(_now_ms()))

    # --- raft: effects

    def _feed(self, give: Callable[[Raft], None]) -> None:
        """Give the core one input and do what it wants done.

        What escapes from here is this node's own disk or a bug, never a peer's doing: it stops the node.
        """
        raft = self._raft
        if raft is not None and self._running:
            try:
                give(raft)
                self._perform(raft, raft.drain())
            except Exception as error:
                self._fail(error)
                stop_if_broken(error)

    def _drain(self) -> None:
        """Do what the core wants done after a call that was made directly."""
        self._feed(lambda raft: None)

    def _perform(self, raft: Raft, effects: Effects) -> None:
        for message in effects.send_now:
            self._send(message)
        for chunk in effects.send_chunks:
            try:
                data = self._store.read_snapshot(chunk.snapshot, chunk.offset, self._config.snapshot_chunk_bytes)
            except OSError as error:
                if error.errno not in NO_DESCRIPTORS:
                    raise
                log.error("quorum_snapshot_put_off", last_index=chunk.snapshot.last_index, error=str(error))
                continue  # as if it were lost on its way: it is sent again in time
            self._send(replace(chunk, data=data))
        for write in effects.snapshot_writes:
            if not self._snapshots.receive(write):
                raft.snapshot_rejected(write.snapshot, _now_ms())
        self._disk.put(effects)
        if effects.load_snapshot is not None:
            snapshot = effects.load_snapshot
            for listener in self._listeners:
                listener.on_snapshot(snapshot.last_index, snapshot.last_term, self._snapshots.received())
            self.applied_index = snapshot.last_index
        for entry in effects.apply:
            data = entry.data if entry.kind is EntryKind.DATA else b""
            for listener in self._listeners:
                listener.on_committed(entry.index, entry.term, data)
            self.applied_index = entry.index
            self._applied_bytes += entry.size_bytes
            for term, waiter in self._applied_waiters.pop(entry.index, ()):
                self._answer_change(waiter, committed=term == entry.term)
            if entry.kind is EntryKind.VOTERS:
                log.info("quorum_voters_changed", index=entry.index, voters=[str(voter) for voter in entry.voters])
        for read in effects.reads:
            future = self._reads.pop(read.request_id)
            if future.done():
                continue
            if read.index is None:
                future.set_exception(self._not_leader())
            else:
                future.set_result(read.index)
        self._note_leadership(raft)
        self._arm(effects.deadline_ms)
        self._snapshot_if_due(raft)

    def _answer_change(self, waiter: "asyncio.Future[None]", *, committed: bool) -> None:
        if waiter.done():
            return
        if committed:
            waiter.set_result(None)
        else:
            waiter.set_exception(ApiError(error_pb2.ERROR_CODE_NOT_CONTROLLER, "another leader replaced the change"))

    def _arm(self, deadline_ms: int | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if deadline_ms is not None and self._running:
            wait_s = max(0, deadline_ms - _now_ms()) / 1000
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._tick)

    def _send(self, message: Message) -> None:
        self._members.links.send(message.to, pb.RaftFrame(message=to_proto(message)))

    def _note_leadership(self, raft: Raft) -> None:
        leader = raft.leader if self._hears_leader(raft) else None
        now = Leadership(
            leader_id=None if leader is None else leader.node_id,
            term=raft.term,
            is_self=raft.role is Role.LEADER,
            serving=raft.ready_to_serve and not raft.transferring,
        )
        if now == self.leadership:
            return
        if self.leadership.is_self and not now.is_self:
            for waiters in self._applied_waiters.values():
                for _, waiter in waiters:
                    if not waiter.done():
                        text = "leadership was lost before the change was committed: the outcome is unknown"
                        waiter.set_exception(ApiError(error_pb2.ERROR_CODE_REQUEST_TIMED_OUT, text))
            self._applied_waiters.clear()
        if now.leader_id is None and self.leaderless_since_ms is None:
            self.leaderless_since_ms = _now_ms()
        elif now.leader_id is not None:
            self.leaderless_since_ms = None
        if (now.leader_id, now.term) != (self.leadership.leader_id, self.leadership.term):
            log.info("quorum_leader", leader=now.leader_id, term=now.term, is_self=now.is_self)
        self.leadership = now
        for listener in self._listeners:
            listener.on_leadership(now)

    def _hears_leader(self, raft: Raft) -> bool:
        """Whether the leader that the core knows is one to tell others about: a voter that was cut off stands without
        end but goes on knowing it, and an observer has nothing better to do.
        """
        if raft.role is Role.FOLLOWER:
            return _now_ms() - raft.leader_contact_ms < 2 * self._config.election_timeout_max_ms
        return raft.role is Role.LEADER

    def _on_synced(self, messages: Sequence[Message], persisted: Persisted | None) -> None:
        for message in messages:
            self._send(message)
        if persisted is not None:
            self._feed(lambda raft: raft.persisted(persisted, _now_ms()))

    # --- snapshots

    def _snapshot_if_due(self, raft: Raft) -> None:
        """Take a snapshot after enough bytes or time (KIP-630)."""
        due = (
            self._applied_bytes >= self._settings.metadata_log_max_record_bytes_between_snapshots
            or _now_ms() - self._snapshot_ms >= self._settings.metadata_log_max_snapshot_interval_ms
        )
        news = self.applied_index > raft.log.snapshot.last_index
        if due and news and self._snapshot_source is not None and not self._snapshots.busy:
            self._applied_bytes = 0
            self._snapshot_ms = _now_ms()
            self._snapshots.take(raft.snapshot_meta(self.applied_index), self._snapshot_source())

    def _on_snapshot_stored(self, meta: SnapshotMeta, size_bytes: int) -> None:
        self._feed(lambda raft: raft.snapshot_stored(meta, size_bytes, _now_ms()))
        self._feed(lambda raft: self._store.keep_snapshots(raft.snapshots_in_use))

    def _on_snapshot_rejected(self, meta: SnapshotMeta) -> None:
        self._feed(lambda raft: raft.snapshot_rejected(meta, _now_ms()))

    # --- members (MemberListener)

    def on_formed(self) -> None:
        """This node has just formed the cluster: nothing is gained by waiting for silence."""
        self._feed(lambda raft: raft.campaign(_now_ms()))

    def set_checks(self, readable: Callable[[bytes], bool], loadable: Callable[[bytes], str]) -> None:
        """What is not `readable` as an entry of the state machine is not appended, and no snapshot is kept that it
        could not take (`loadable` says why), whoever sends it: once on disk, it would end this node at each start.
        """
        self._readable = readable
        self._snapshots.check = loadable

    def on_message(self, message: Message, *, dialled: bool = True) -> None:
        """A member says something. Checked before anything of it is kept."""
        if not dialled and self._raft is not None and self._leads_astray(self._raft, message):
            self.ignored_messages += 1
            return
        if isinstance(message, AppendRequest):
            for entry in message.entries:
                if entry.kind is EntryKind.DATA and not self._readable(entry.data):
                    log.error("quorum_entry_unreadable", index=entry.index, sender=str(message.sender))
                    return
        self._feed(lambda raft: raft.step(message, _now_ms()))

    def _leads_astray(self, raft: Raft, message: Message) -> bool:
        """Whether somebody at no address that this node knows wants to lead it, or to end its term, while there is a
        leader, or was a moment ago.

        To ignore a message is always safe. A new voter that this node has not heard of yet is followed a little later,
        once those that it knows of are silent.
        """
        leads = isinstance(message, (AppendRequest, Heartbeat, SnapshotChunk)) and message.sender != raft.leader
        if not leads and message.term <= raft.term:
            return False
        since_ms = self.leaderless_since_ms
        return since_ms is None or _now_ms() - since_ms < STRANGERS_AFTER_MS

    def on_connected(self, peer: PeerId) -> None:
        """A first stream with `peer` stands: whatever was on its way to it before is lost."""
        connected = self._members.links.connected
        self._feed(lambda raft: raft.set_contacts(connected))
        self._feed(lambda raft: raft.peer_alive(peer, _now_ms()))
        if self._raft is not None:
            self._replaced = tell_replaced_disks(self._raft.log.voters, (*connected, self._me), self._replaced)

    def on_dead(self, peer: PeerId) -> None:
        """`peer` closed its streams and did not come back."""
        if peer in self.voters or (self._raft is not None and peer == self._raft.leader):
            self._feed(lambda raft: raft.peer_dead(peer, _now_ms()))
        # Whoever came under a node's id with another directory and went says nothing of the node that is there.
        if all(other.node_id != peer.node_id for other in self._members.links.connected):
            self._tell(lambda listener: listener.on_peer_dead(peer.node_id))

    def on_alive(self, peer: PeerId) -> None:
        """`peer` was dead and is back."""
        self._tell(lambda listener: listener.on_peer_alive(peer.node_id))

    def _tell(self, tell: Callable[[QuorumListener], None]) -> None:
        def every(_: Raft) -> None:
            for listener in self._listeners:
                tell(listener)

        self._feed(every)

    def on_failure(self, error: BaseException) -> None:
        """The disk under the formation failed."""
        self._fail(error)

    @property
    def voter_count(self) -> int:
        """How many members vote; 0 before there is a cluster."""
        return len(self.voters)


def _now_ms() -> int:
    return time.monotonic_ns() // 1_000_000


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000
