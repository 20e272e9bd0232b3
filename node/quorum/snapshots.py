"""Snapshots of the state machine: taken here, or put together from a leader's chunks; durable before they count."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

import structlog

from node.quorum.store import QuorumStore, decode_snapshot, encode_snapshot
from raft.effects import ChunkWrite
from raft.model import SnapshotMeta
from storage.errors import CorruptFile
from storage.fs import PASSING

log = structlog.get_logger(__name__)

_RETRY_FULL_DISK_S: Final = 1.0


class Snapshots:
    """Stores snapshots one after the other on the sync thread. Control loop only."""

    def __init__(
        self,
        store: QuorumStore,
        thread: ThreadPoolExecutor,
        on_stored: Callable[[SnapshotMeta, int], None],
        on_failure: Callable[[BaseException], None],
    ) -> None:
        """`on_stored(snapshot, size_bytes)`: it is durable."""
        self.busy = False
        """A snapshot taken here is being stored."""
        self._store = store
        self._thread = thread
        self._on_stored = on_stored
        self._on_failure = on_failure
        self._incoming: SnapshotMeta | None = None
        self._incoming_bytes = bytearray()
        self._received: dict[int, bytes] = {}
        self._retry: asyncio.TimerHandle | None = None
        self._stopped = False

    def take(self, meta: SnapshotMeta, state: bytes) -> None:
        """Store the state machine's bytes at `meta`."""
        self.busy = True
        self._store_later(meta, encode_snapshot(meta, state))

    def receive(self, write: ChunkWrite) -> bool:
        """Take a chunk; the last one is followed by `on_stored`. False: what arrived is not that snapshot."""
        if write.offset == 0 or self._incoming != write.snapshot:
            self._incoming = write.snapshot
            self._incoming_bytes = bytearray()
        self._incoming_bytes += write.data
        if not write.complete:
            return True
        raw, self._incoming, self._incoming_bytes = bytes(self._incoming_bytes), None, bytearray()
        try:
            meta, state = decode_snapshot(raw)
            if meta != write.snapshot:
                raise CorruptFile(f"the snapshot sent as that of entry {write.snapshot.last_index} is another one")
        except (CorruptFile, ValueError) as error:
            log.error("quorum_snapshot_rejected", error=str(error))
            return False
        self._received[meta.last_index] = state
        self._store_later(meta, raw)
        return True

    def received(self, snapshot: SnapshotMeta) -> bytes:
        """The state machine's bytes of a snapshot that was received whole."""
        return self._received[snapshot.last_index]

    def stop(self) -> None:
        """Begin nothing more."""
        self._stopped = True
        if self._retry is not None:
            self._retry.cancel()

    def _store_later(self, meta: SnapshotMeta, raw: bytes) -> None:
        self._retry = None
        running = asyncio.get_running_loop().run_in_executor(self._thread, self._store.write_snapshot, meta, raw)
        running.add_done_callback(partial(self._stored, meta, raw))

    def _stored(self, meta: SnapshotMeta, raw: bytes, running: "asyncio.Future[None]") -> None:
        error = running.exception()
        size_bytes = len(raw)
        if isinstance(error, OSError) and error.errno in PASSING and not self._stopped:
            # Nothing counts on it yet: it is stored when there is room.
            log.error("quorum_write_put_off", snapshot=meta.last_index, error=str(error))
            self._retry = asyncio.get_running_loop().call_later(_RETRY_FULL_DISK_S, self._store_later, meta, raw)
            return
        self.busy = False
        if error is not None:
            self._on_failure(error)
            return
        log.info("quorum_snapshot_stored", last_index=meta.last_index, last_term=meta.last_term, bytes=size_bytes)
        self._on_stored(meta, size_bytes)
        self._received.pop(meta.last_index, None)
