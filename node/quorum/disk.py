"""The order of durability: write, sync on one thread, and only then say that it is done.

Writes go to the log at once, in order; one sync at a time covers everything written before it began (group commit).
What waits for a sync leaves in order. A full disk and a want of descriptors delay, any other error ends the node: an
fsync is never retried, for what the file holds after a failed one is unknown (fsync-gate).
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Final

import structlog

from node.quorum.store import QuorumStore, SyncJob
from raft.effects import Effects, HardState, Persisted
from raft.messages import Message
from storage.errors import CorruptBatch, InvariantError, Refused, StorageError

log = structlog.get_logger(__name__)

FATAL: Final = (StorageError, InvariantError, CorruptBatch, OSError, AssertionError)
"""What this node's own disk or state can raise; a peer cannot."""
_RETRY_FULL_DISK_S: Final = 0.2


@dataclass(slots=True)
class _Write:
    """One `Effects` on its way to the disk, and what waits for it."""

    effects: Effects
    hard_state: HardState | None
    synced: Persisted | None
    messages: list[Message]


class DiskQueue:
    """See the module. Control loop only."""

    def __init__(
        self,
        store: QuorumStore,
        thread: ThreadPoolExecutor,
        on_synced: Callable[[Sequence[Message], Persisted | None], None],
        on_failure: Callable[[BaseException], None],
    ) -> None:
        """`on_synced(messages, persisted)`: these may leave, and this is durable. `thread` has one worker."""
        self._store = store
        self._thread = thread
        self._on_synced = on_synced
        self._on_failure = on_failure
        self._to_write: deque[_Write] = deque()
        self._to_sync: deque[_Write] = deque()
        self._syncing = False
        self._retry: asyncio.TimerHandle | None = None
        self._stopped = False

    @property
    def idle(self) -> bool:
        """Whether everything put is durable."""
        return not (self._to_write or self._to_sync or self._syncing)

    def put(self, effects: Effects) -> None:
        """Take the writes of one drain, and the messages that wait for them. Raises what `FATAL` names."""
        if effects.synced is not None or effects.send_after_sync or effects.drop_log_to is not None:
            self._to_write.append(_Write(effects, effects.hard_state, effects.synced, effects.send_after_sync))
            self._flush()

    def stop(self) -> None:
        """Begin nothing more."""
        self._stopped = True
        if self._retry is not None:
            self._retry.cancel()

    def _flush(self) -> None:
        """Write what waits, then start a sync unless one runs."""
        while self._to_write and self._retry is None:
            try:
                self._store.write(self._to_write[0].effects, time.time_ns() // 1_000_000)
            except Refused as error:
                # Nothing that needs this write is acknowledged; the node goes on following meanwhile.
                self._retry_later(str(error))
                return
            self._to_sync.append(self._to_write.popleft())
        if self._syncing or not self._to_sync or self._retry is not None:
            return
        batch = list(self._to_sync)
        self._to_sync.clear()
        if all(write.synced is None for write in batch):
            self._done(batch)
            return
        hard_state = next((write.hard_state for write in reversed(batch) if write.hard_state is not None), None)
        try:
            job = self._store.begin_sync(hard_state)
        except Refused as error:
            self._to_sync.extendleft(reversed(batch))
            self._retry_later(str(error))
            return
        self._syncing = True
        running = asyncio.get_running_loop().run_in_executor(self._thread, job.run)
        running.add_done_callback(partial(self._after_sync, job, batch))

    def _retry_later(self, reason: str) -> None:
        log.error("quorum_write_put_off", error=reason)

        def again() -> None:
            self._retry = None
            self._guarded(self._flush)

        self._retry = asyncio.get_running_loop().call_later(_RETRY_FULL_DISK_S, again)

    def _after_sync(self, job: SyncJob, batch: list[_Write], running: "asyncio.Future[None]") -> None:
        self._syncing = False
        error = running.exception()
        if error is not None:
            self._on_failure(error)
            return

        def complete() -> None:
            self._store.complete_sync(job)
            if job.put_off:
                self._to_sync.extendleft(reversed(batch))
                self._retry_later("no room, or no descriptor, to make the quorum's state durable")
            elif not self._stopped:
                self._done(batch)
                self._flush()

        self._guarded(complete)

    def _done(self, batch: Sequence[_Write]) -> None:
        newest = next((write.synced for write in reversed(batch) if write.synced is not None), None)
        messages = [
            message
            for write in batch
            for message in write.messages
            # What a write of a newer term in the same sync has overtaken may be true no longer; nobody waits for it.
            if newest is None or message.term >= newest.term
        ]
        self._on_synced(messages, newest)

    def _guarded(self, call: Callable[[], None]) -> None:
        if not self._stopped:
            try:
                call()
            except FATAL as error:
                self._on_failure(error)
