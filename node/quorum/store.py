"""What the quorum keeps on disk, below `<data.dir>/quorum`:

formation            the first voter set and its cluster id, from the moment it was accepted
quorum-state         term and vote; where a damaged log must be whole again; what of the log was synced
log/                 the raft log (`storage.log`): one entry = one batch of one record, epoch = term, offset = index - 1
<index>-<term>.snapshot
incoming.tmp         a snapshot on its way in; received.tmp: one that is whole and is being checked

Calls are the control loop's, except `SyncJob.run` and the functions that say so.
"""

import contextlib
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import structlog
from google.protobuf.message import DecodeError

from node.quorum.wire import peers_from_proto, peers_to_proto, snapshot_from_proto, snapshot_to_proto
from ottla.internal.v1 import raft_pb2
from ottla.protocol.batch import PAYLOAD_RECORDS, BatchHeader, CorruptBatch, read_batch
from ottla.protocol.checksum import crc32c
from ottla.v1 import record_pb2
from raft.effects import Effects, HardState
from raft.model import Entry, EntryKind, PeerId, SnapshotMeta
from storage.config import LogConfig
from storage.durable import read_durable, replace_file, write_durable
from storage.errors import CorruptFile, Refused
from storage.fs import NO_DESCRIPTORS, PASSING, FileSystem, read_file, remove_if_there
from storage.log import Log
from storage.segment import INDEX_SUFFIX
from storage.sync import SyncTicket

log = structlog.get_logger(__name__)

_LOG_CONFIG: Final = LogConfig(
    segment_bytes=16 << 20,
    segment_ms=1 << 50,
    retention_ms=-1,
    retention_bytes=-1,
    max_message_bytes=64 << 20,
)
_SMALLEST_ENTRY_BYTES: Final = 100
_KEYS: Final = {EntryKind.NOOP: b"noop", EntryKind.VOTERS: b"voters"}
"""Records of the quorum itself have a key; metadata records have none."""
_SNAPSHOT_NAME: Final = re.compile(r"(\d{20})-(\d{10})\.snapshot")
_SNAPSHOT_MAGIC: Final = b"ottla snapshot 1 "


@dataclass(frozen=True, slots=True)
class Formation:
    """The first voter set of a cluster."""

    cluster_id: bytes
    voters: tuple[PeerId, ...]


@dataclass(frozen=True, slots=True)
class Loaded:
    """What was on disk. `snapshot_data` is the state machine's; None for the formation."""

    hard_state: HardState
    snapshot: SnapshotMeta
    snapshot_size_bytes: int
    snapshot_data: bytes | None
    entries: list[Entry]


@dataclass(slots=True)
class SyncJob:
    """One trip of the sync thread: hard state and log. `put_off`: the disk lacked room, or the process descriptors:
    nothing may be taken as durable, try again."""

    fs: FileSystem
    state_path: str
    state: dict[str, Any] | None
    ticket: SyncTicket | None
    put_off: bool = False

    def run(self) -> None:
        """Make both durable; on the sync thread. Raises OSError that will not pass."""
        try:
            if self.ticket is not None:
                self.ticket.run()
        except OSError as error:
            if error.errno not in NO_DESCRIPTORS:
                raise
            self.put_off = True
            return
        try:
            if self.state is not None:
                write_durable(self.fs, self.state_path, self.state)
        except OSError as error:
            if error.errno not in PASSING:
                raise
            self.put_off = True


def encode_snapshot(snapshot: SnapshotMeta, data: bytes) -> bytes:
    """The bytes of a snapshot file: checksum line, what it stands for, the state machine's bytes."""
    meta = snapshot_to_proto(snapshot).SerializeToString(deterministic=True)
    body = len(meta).to_bytes(4, "little") + meta + data
    return b"%s%08x\n" % (_SNAPSHOT_MAGIC, crc32c(body)) + body


def decode_snapshot(raw: bytes) -> tuple[SnapshotMeta, bytes]:
    """Return what the file stands for and the state machine's bytes. Raises CorruptFile."""
    head, _, body = raw.partition(b"\n")
    if head != b"%s%08x" % (_SNAPSHOT_MAGIC, crc32c(body)):
        raise CorruptFile("the snapshot does not carry the checksum of its content")
    length = int.from_bytes(body[:4], "little")
    try:
        meta = snapshot_from_proto(raft_pb2.RaftSnapshotId.FromString(body[4 : 4 + length]))
    except DecodeError:
        raise CorruptFile("the snapshot does not say what it stands for") from None
    return meta, body[4 + length :]


class QuorumStore:
    """See the module. `open` comes after the formation is known."""

    def __init__(self, fs: FileSystem, path: str) -> None:
        """Use the directory `path`, made if needed. Raises CorruptFile, OSError."""
        self._fs = fs
        self._path = path
        self._state_path = os.path.join(path, "quorum-state")
        fs.makedirs(path)
        self._incoming_path = os.path.join(path, "incoming.tmp")
        self._received_path = os.path.join(path, "received.tmp")
        self._log: Log | None = None
        content = read_durable(fs, os.path.join(path, "formation"))
        self.formation: Formation | None = None
        if content is not None:
            voters = tuple(map(_peer, content["voters"]))
            self.formation = Formation(bytes.fromhex(content["cluster_id"]), voters)

    def keep_formation(self, formation: Formation) -> None:
        """Make the formation durable. Blocks: there is nothing else to do before a cluster exists. Raises OSError."""
        content = {
            "cluster_id": formation.cluster_id.hex(),
            "voters": [[voter.node_id, voter.directory_id.hex()] for voter in formation.voters],
        }
        write_durable(self._fs, os.path.join(self._path, "formation"), content)
        self.formation = formation

    # --- opening

    def open(self, now_ms: int) -> Loaded:
        """Load everything; recovers the log. Raises CorruptFile, OSError."""
        assert self.formation is not None
        for name in self._fs.listdir(self._path):
            if name.endswith(".tmp"):
                self._fs.unlink(os.path.join(self._path, name))
        state = read_durable(self._fs, self._state_path) or {}
        vote = state.get("voted_for")
        hard_state = HardState(
            term=state.get("term", 0),
            voted_for=None if vote is None else _peer(vote),
            voters=tuple(map(_peer, state.get("voters", ()))),
            refetch=_pair(state.get("refetch", (0, 0))),
        )
        self._log = self._open_log(now_ms, state)
        try:
            entries = self._read_entries()
        except CorruptBatch as error:
            # Closed cleanly, so it was believed. Read as a whole it tells where it is damaged.
            log.error("quorum_log_rotten", error=str(error))
            self._log.close(clean=False)
            directory = os.path.join(self._path, "log")
            for name in self._fs.listdir(directory):
                if name.endswith(INDEX_SUFFIX):
                    self._fs.unlink(os.path.join(directory, name))
            self._log = self._open_log(now_ms, state)
            entries = self._read_entries()
        if self._log.damaged_at is not None:
            recovery_point = state.get("recovery_point") or 0
            hard_state = self._mend(hard_state, entries[-1].term if entries else 0, recovery_point)
        snapshot, size, data = self._newest_snapshot()
        return Loaded(hard_state, snapshot, size, data, entries)

    def _open_log(self, now_ms: int, state: dict[str, Any]) -> Log:
        assert self.formation is not None
        return Log.open(
            self._fs,
            os.path.join(self._path, "log"),
            self.formation.cluster_id,
            0,
            _LOG_CONFIG,
            now_ms=now_ms,
            recovery_point=state.get("recovery_point"),
            complete_is_damage=True,
        )

    def _mend(self, hard_state: HardState, last_term: int, recovery_point: int) -> HardState:
        """Cut the log before the damage; remember first, durably, how far it may have reached (protocol.md 1).

        That is what was known to be synced, and as many of the smallest entries as fit behind the damage.
        """
        assert self._log is not None
        intact, (index, term) = self._log.damaged_at or 0, hard_state.refetch
        lost = self._log.recovery.damaged_bytes // _SMALLEST_ENTRY_BYTES
        reached = max(intact + lost, recovery_point, index)
        hard_state = replace(hard_state, refetch=(reached, max(hard_state.term, last_term, term)))
        log.error(
            "quorum_log_damaged",
            damaged_at=self._log.damaged_at,
            damage=self._log.recovery.damage,
            consequence="until it has fetched the log again, this node's vote counts only together with all others",
        )
        write_durable(self._fs, self._state_path, self._state(hard_state))
        self._log.truncate_to(intact)
        return hard_state

    def _read_entries(self) -> list[Entry]:
        assert self._log is not None
        entries: list[Entry] = []
        offset, end = self._log.log_start_offset, self._log.log_end_offset
        while offset < end:
            piece = self._log.read(offset, 4 << 20, end, min_one=True, verify=True)
            at = 0
            while at < len(piece.data):
                batch = read_batch(piece.data, at)
                assert batch is not None
                if batch.header.base_offset >= offset:
                    _, payload = batch.payload(piece.data)
                    entries.append(_decode(batch.header, bytes(payload)))
                at = batch.end
            offset = piece.next_offset
        return entries

    def _newest_snapshot(self) -> tuple[SnapshotMeta, int, bytes | None]:
        assert self.formation is not None
        for name in reversed(self._snapshot_names()):
            try:
                raw = read_file(self._fs, os.path.join(self._path, name))
                snapshot, data = decode_snapshot(raw)
            except CorruptFile as error:
                log.error("quorum_snapshot_damaged", file=name, error=str(error))
                continue
            return snapshot, len(raw), data
        return SnapshotMeta(0, 0, self.formation.voters), 0, None

    def _snapshot_names(self) -> list[str]:
        return [name for name in self._fs.listdir(self._path) if _SNAPSHOT_NAME.fullmatch(name)]

    def log_was_dropped(self, snapshot: SnapshotMeta) -> None:
        """The newest snapshot made the log on disk worthless: a crash came before that was written."""
        assert self._log is not None
        self._log.reset_to(snapshot.last_index, snapshot.last_term or None)

    # --- writing

    def write(self, effects: Effects, now_ms: int) -> None:
        """Write the log's part of `effects`, unsynced. Raises Refused - call again with the same - and LogFailed."""
        assert self._log is not None
        if effects.reset_log is not None:
            self._log.reset_to(effects.reset_log.last_index, effects.reset_log.last_term)
            effects.reset_log = None
        if effects.truncate_from is not None:
            self._log.truncate_to(effects.truncate_from - 1)
            effects.truncate_from = None
        while effects.append:
            entry = effects.append[0]
            header = BatchHeader(entry.index - 1, entry.term, 1, 0, base_timestamp=now_ms, max_timestamp=now_ms)
            self._log.append_as_leader(header, _payload(entry), PAYLOAD_RECORDS, leader_epoch=entry.term, now_ms=now_ms)
            del effects.append[0]
        if effects.drop_log_to is not None:
            self._log.advance_log_start(min(effects.drop_log_to, self._log.log_end_offset))
            self._log.apply_retention(now_ms, self._log.log_start_offset)
            self._log.delete_expired_files(now_ms)

    def begin_sync(self, hard_state: HardState | None) -> SyncJob:
        """Return the job that makes everything written so far durable, and `hard_state` if it is given. Raises Refused,
        LogFailed."""
        assert self._log is not None
        state = None if hard_state is None else self._state(hard_state)
        return SyncJob(self._fs, self._state_path, state, self._log.begin_sync())

    def complete_sync(self, job: SyncJob) -> None:
        """Take a job back after it ran. Raises LogFailed."""
        assert self._log is not None
        if job.ticket is not None:
            with contextlib.suppress(Refused) if job.put_off else contextlib.nullcontext():
                self._log.complete_sync(job.ticket)

    def _state(self, hard_state: HardState) -> dict[str, Any]:
        assert self._log is not None
        vote = hard_state.voted_for
        return {
            "term": hard_state.term,
            "voted_for": None if vote is None else [vote.node_id, vote.directory_id.hex()],
            "voters": [[voter.node_id, voter.directory_id.hex()] for voter in hard_state.voters],
            "refetch": list(hard_state.refetch),
            "recovery_point": self._log.recovery_point,
        }

    # --- snapshots

    def write_snapshot(self, snapshot: SnapshotMeta, raw: bytes) -> None:
        """Store the bytes of a snapshot file durably; on the sync thread. Raises OSError."""
        replace_file(self._fs, self._snapshot_path(snapshot), [raw])

    def receive(self, offset: int, data: bytes) -> None:
        """Put the next bytes of a snapshot on its way in, unsynced; at 0 it begins anew. Raises OSError."""
        if offset == 0:
            remove_if_there(self._fs, self._incoming_path)
        file = self._fs.open(self._incoming_path, create=offset == 0)
        try:
            file.write_at(offset, [data])
        finally:
            file.close()

    def received_whole(self) -> None:
        """What was on its way in is there: to be checked, out of the way of the next one. Raises OSError."""
        self._fs.rename(self._incoming_path, self._received_path)

    def take_received(self, snapshot: SnapshotMeta, check: Callable[[bytes], str]) -> bytes:
        """Make what was received the file of `snapshot`, durably, if it is that and the state machine can take it;
        returns the state machine's bytes. On the sync thread. Raises CorruptFile, and OSError.
        """
        try:
            meta, state = decode_snapshot(read_file(self._fs, self._received_path))
            if meta != snapshot:
                raise CorruptFile(f"the snapshot sent as that of entry {snapshot.last_index} is another one")
            if reason := check(state):
                raise CorruptFile(f"the state in the snapshot sent as that of {snapshot.last_index}: {reason}")
            file = self._fs.open(self._received_path)
            try:
                file.sync()
            finally:
                file.close()
        except (OSError, CorruptFile):
            with contextlib.suppress(OSError):
                remove_if_there(self._fs, self._received_path)
            raise
        self._fs.rename(self._received_path, self._snapshot_path(snapshot))
        self._fs.sync_dir(self._path)
        return state

    def read_snapshot(self, snapshot: SnapshotMeta, offset: int, max_bytes: int) -> bytes:
        """Return a piece of a snapshot file. Raises OSError."""
        file = self._fs.open(self._snapshot_path(snapshot))
        try:
            return file.pread(max_bytes, offset)
        finally:
            file.close()

    def keep_snapshots(self, indexes: Iterable[int]) -> None:
        """Remove the files of other snapshots older than the newest of `indexes`. Raises OSError.

        A newer one is just being stored: its file is there a moment before the quorum knows of it.
        """
        kept = set(indexes)
        for name in self._snapshot_names():
            if int(name[:20]) not in kept and int(name[:20]) < max(kept):
                self._fs.unlink(os.path.join(self._path, name))

    def _snapshot_path(self, snapshot: SnapshotMeta) -> str:
        return os.path.join(self._path, f"{snapshot.last_index:020d}-{snapshot.last_term:010d}.snapshot")

    def close(self, *, clean: bool) -> None:
        """Close the log; `clean` only if nothing failed. Raises LogFailed."""
        if self._log is not None:
            self._log.close(clean=clean)


def _peer(stored: Sequence[Any]) -> PeerId:
    node_id, directory_id = stored
    return PeerId(node_id, bytes.fromhex(directory_id))


def _pair(stored: Sequence[int]) -> tuple[int, int]:
    index, term = stored
    return index, term


def _payload(entry: Entry) -> bytes:
    value = entry.data
    if entry.kind is EntryKind.VOTERS:
        value = raft_pb2.RaftVoterSet(voters=peers_to_proto(entry.voters)).SerializeToString(deterministic=True)
    record = record_pb2.Record(key=_KEYS.get(entry.kind), value=value)
    return record_pb2.Records(records=[record]).SerializeToString(deterministic=True)


def _decode(header: BatchHeader, payload: bytes) -> Entry:
    (record,) = record_pb2.Records.FromString(payload).records
    index, term = header.base_offset + 1, header.leader_epoch
    if not record.HasField("key"):
        return Entry(index, term, EntryKind.DATA, record.value)
    if record.key == _KEYS[EntryKind.NOOP]:
        return Entry(index, term, EntryKind.NOOP)
    voters = peers_from_proto(raft_pb2.RaftVoterSet.FromString(record.value).voters)
    return Entry(index, term, EntryKind.VOTERS, b"", voters)
