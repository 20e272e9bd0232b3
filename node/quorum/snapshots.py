"""Snapshots of the state machine: taken here, or put together from a leader's chunks; durable before they count.

What is received grows in a file, not in memory, and is nobody's snapshot until the whole of it was read: the checksum,
what it stands for, and a state that the state machine can take. Only then does it replace anything.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

import structlog

from node.quorum.store import QuorumStore, encode_snapshot
from raft.effects import ChunkWrite
from raft.model import SnapshotMeta
from storage.errors import CorruptFile
from storage.fs import PASSING

log = structlog.get_logger(__name__)

_RETRY_FULL_DISK_S: Final = 1.0

Check = Callable[[bytes], str]
"""Why the state machine could not take these bytes; empty if it can. On the sync thread."""


class Snapshots:
    """Stores snapshots one after the other on the sync thread. Control loop only."""

    def __init__(
        self,
        store: QuorumStore,
        thread: ThreadPoolExecutor,
        on_stored: Callable[[SnapshotMeta, int], None],
        on_rejected: Callable[[SnapshotMeta], None],
        on_failure: Callable[[BaseException], None],
    ) -> None:
        """`on_stored(snapshot, size_bytes)`: it is durable. `on_rejected`: what was received whole is not it."""
        self.busy = False
        """A snapshot taken here is being stored."""
        self.check: Check = lambda state: ""
        self._store = store
        self._thread = thread
        self._on_stored = on_stored
        self._on_rejected = on_rejected
        self._on_failure = on_failure
        self._incoming: SnapshotMeta | None = None
        self._incoming_bytes = 0
        self._checking = False
        self._received: bytes | None = None
        self._retry: asyncio.TimerHandle | None = None
        self._stopped = False

    def take(self, meta: SnapshotMeta, state: bytes) -> None:
        """Store the state machine's bytes at `meta`."""
        self.busy = True
        self._store_later(meta, encode_snapshot(meta, state))

    def receive(self, write: ChunkWrite) -> bool:
        """Take a chunk; the last one is followed by `on_stored` or `on_rejected`. False: start over, now or later.

        Raises OSError that will not pass.
        """
        if write.offset == 0:
            self._incoming, self._incoming_bytes = write.snapshot, 0
        if self._incoming != write.snapshot or self._incoming_bytes != write.offset:
            return False
        try:
            self._store.receive(write.offset, write.data)
        except OSError as error:
            if error.errno not in PASSING:
                raise
            return self._give_up(write.snapshot, error)
        self._incoming_bytes += len(write.data)
        if not write.complete:
            return True
        if self._checking:
            return self._give_up(write.snapshot, "another one is being checked")
        self._incoming, self._checking = None, True
        self._store.received_whole()
        running = asyncio.get_running_loop().run_in_executor(
            self._thread, self._store.take_received, write.snapshot, self.check
        )
        running.add_done_callback(partial(self._checked, write.snapshot, write.size_bytes))
        return True

    def received(self) -> bytes:
        """The state machine's bytes of the snapshot that `on_stored` is told of, if it was received."""
        assert self._received is not None
        return self._received

    def stop(self) -> None:
        """Begin nothing more."""
        self._stopped = True
        if self._retry is not None:
            self._retry.cancel()

    def _give_up(self, snapshot: SnapshotMeta, reason: object) -> bool:
        log.error("quorum_snapshot_rejected", last_index=snapshot.last_index, error=str(reason))
        self._incoming = None
        return False

    def _checked(self, meta: SnapshotMeta, size_bytes: int, running: "asyncio.Future[bytes]") -> None:
        self._checking = False
        error = running.exception()
        if isinstance(error, CorruptFile) or (isinstance(error, OSError) and error.errno in PASSING):
            log.error("quorum_snapshot_rejected", last_index=meta.last_index, error=str(error))
            self._on_rejected(meta)
        elif error is not None:
            self._on_failure(error)
        else:
            self._received = running.result()
            self._tell_stored(meta, size_bytes)
            self._received = None

    def _store_later(self, meta: SnapshotMeta, raw: bytes) -> None:
        self._retry = None
        running = asyncio.get_running_loop().run_in_executor(self._thread, self._store.write_snapshot, meta, raw)
        running.add_done_callback(partial(self._stored, meta, raw))

    def _stored(self, meta: SnapshotMeta, raw: bytes, running: "asyncio.Future[None]") -> None:
        error = running.exception()
        if isinstance(error, OSError) and error.errno in PASSING and not self._stopped:
            # Nothing counts on it yet: it is stored when there is room.
            log.error("quorum_write_put_off", snapshot=meta.last_index, error=str(error))
            self._retry = asyncio.get_running_loop().call_later(_RETRY_FULL_DISK_S, self._store_later, meta, raw)
            return
        self.busy = False
        if error is not None:
            self._on_failure(error)
        else:
            self._tell_stored(meta, len(raw))

    def _tell_stored(self, meta: SnapshotMeta, size_bytes: int) -> None:
        log.info("quorum_snapshot_stored", last_index=meta.last_index, last_term=meta.last_term, bytes=size_bytes)
        self._on_stored(meta, size_bytes)
