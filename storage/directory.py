"""A data directory: its identity, its lock, what its last user left, and the checkpoints of its logs.

.lock         locked while a process uses the directory: holding it proves the previous one dead
meta          node id, directory id, cluster id once there is one
ballast       room that is given back when the disk is full (`storage.ballast`)
open          the kernel's boot id, and a loss nobody was told of; there while in use, removed by a clean close
checkpoint    per log: recovery point, high watermark, log start
<32 hex digits of the topic id>-<partition>/    one log each
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from storage.ballast import BALLAST_FILE
from storage.durable import DELETED_SUFFIX, read_durable, remove_directory, write_durable
from storage.errors import CorruptFile, DirectoryLocked, StorageError
from storage.fs import NO_SPACE, File, FileSystem, remove_if_there

LogKey = tuple[bytes, int]
"""Topic id (16 bytes) and partition."""

_LOG_NAME: Final = re.compile(r"([0-9a-f]{32})-(0|[1-9][0-9]{0,8})")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What is remembered of one log. All three are lower bounds: a checkpoint that is lost or old costs time only."""

    recovery_point: int
    high_watermark: int
    log_start_offset: int


class LogDirectory:
    """A locked data directory. Made by `LogDirectory.open`, given up by `close`.

    `was_clean`: the last user closed it cleanly (or there was none). `same_boot`: the machine has not restarted since,
    so everything the last user wrote is still there, synced or not. With neither, something may be gone; that outlives
    further restarts and clean closes until `loss_reported`.
    """

    def __init__(self, fs: FileSystem, path: str, lock: File, meta: dict[str, Any], marker: dict[str, Any] | None):
        self.path = path
        self.node_id: int = meta["node_id"]
        self.directory_id = bytes.fromhex(meta["directory_id"])
        self.cluster_id = bytes.fromhex(meta["cluster_id"]) if meta["cluster_id"] else None
        self.was_clean = marker is None
        self.same_boot = False
        self.checkpoint_was_damaged = False
        self._fs = fs
        self._lock = lock
        self._boot_id: str | None = None
        self._unreported = False

    @classmethod
    def open(
        cls, fs: FileSystem, path: str, *, node_id: int, new_directory_id: bytes, boot_id: str | None
    ) -> "LogDirectory":
        """Locks and opens a directory; an empty one becomes ours under `new_directory_id` (16 random bytes).

        Raises DirectoryLocked, CorruptFile (damaged identity: never replaced by a new one), StorageError (another
        node's directory, or logs without identity), OSError.
        """
        fs.makedirs(path)
        lock = fs.lock(os.path.join(path, ".lock"))
        if lock is None:
            raise DirectoryLocked(f"{path} is in use by another process: stop it, or give this node its own data.dir")
        try:
            return cls._open_locked(fs, path, lock, node_id, new_directory_id, boot_id)
        except BaseException:
            lock.close()
            raise

    @classmethod
    def _open_locked(
        cls, fs: FileSystem, path: str, lock: File, node_id: int, new_directory_id: bytes, boot_id: str | None
    ) -> "LogDirectory":
        for name in fs.listdir(path):
            if name.endswith(DELETED_SUFFIX) and _LOG_NAME.fullmatch(name.removesuffix(DELETED_SUFFIX)):
                remove_directory(fs, os.path.join(path, name))
        meta = read_durable(fs, os.path.join(path, "meta"))
        if meta is None:
            logs = [name for name in fs.listdir(path) if _LOG_NAME.fullmatch(name)]
            if logs:
                raise StorageError(f"{path} holds {len(logs)} logs but no identity: its file 'meta' is missing")
            meta = {"node_id": node_id, "directory_id": new_directory_id.hex(), "cluster_id": None}
            write_durable(fs, os.path.join(path, "meta"), meta)
        if meta["node_id"] != node_id:
            raise StorageError(f"{path} belongs to node {meta['node_id']}, this is node {node_id}: check data.dir")
        try:
            marker = read_durable(fs, os.path.join(path, "open"))
        except CorruptFile:
            marker = {"boot_id": None}
        directory = cls(fs, path, lock, meta, marker)
        if marker is not None:
            # A process that was killed before it could report a loss must not hide it from the next one.
            same_boot = boot_id is not None and marker["boot_id"] == boot_id
            directory.same_boot = same_boot and not marker.get("unreported_loss", False)
            directory._unreported = not directory.same_boot
        directory._boot_id = boot_id
        try:
            directory._write_marker()
        except OSError as error:
            # The disk is full: what the ballast is for.
            if error.errno not in NO_SPACE or not remove_if_there(fs, os.path.join(path, BALLAST_FILE)):
                raise
            directory._write_marker()
        return directory

    def loss_reported(self) -> None:
        """The cluster has committed that this directory may have lost something: the next start need not say it again.

        Raises OSError.
        """
        if self._unreported:
            self._unreported = False
            self._write_marker()

    def _write_marker(self) -> None:
        content = {"boot_id": self._boot_id, "unreported_loss": self._unreported}
        write_durable(self._fs, os.path.join(self.path, "open"), content)

    def set_cluster_id(self, cluster_id: bytes) -> None:
        """Makes the directory a part of a cluster, durably and once. Raises StorageError if it is part of another."""
        if self.cluster_id == cluster_id:
            return
        if self.cluster_id is not None:
            raise StorageError(f"{self.path} belongs to cluster {self.cluster_id.hex()}, not to {cluster_id.hex()}")
        meta = {
            "node_id": self.node_id,
            "directory_id": self.directory_id.hex(),
            "cluster_id": cluster_id.hex(),
        }
        write_durable(self._fs, os.path.join(self.path, "meta"), meta)
        self.cluster_id = cluster_id

    def log_path(self, topic_id: bytes, partition: int) -> str:
        """The directory of one log; built from the topic's id only, never from a name."""
        return os.path.join(self.path, f"{topic_id.hex()}-{partition}")

    def logs(self) -> list[LogKey]:
        """The logs that are there, sorted."""
        matches = (_LOG_NAME.fullmatch(name) for name in self._fs.listdir(self.path))
        return [(bytes.fromhex(match[1]), int(match[2])) for match in matches if match]

    def read_checkpoints(self) -> dict[LogKey, Checkpoint]:
        """What is remembered; empty if the file is missing or damaged (then `checkpoint_was_damaged` says so)."""
        try:
            content = read_durable(self._fs, os.path.join(self.path, "checkpoint"))
        except CorruptFile:
            self.checkpoint_was_damaged = True
            return {}
        checkpoints = {}
        for name, values in (content or {}).items():
            topic_id, _, partition = name.rpartition("-")
            checkpoints[bytes.fromhex(topic_id), int(partition)] = Checkpoint(*values)
        return checkpoints

    def lost_logs(self) -> list[LogKey]:
        """Logs that are remembered, but somebody has deleted their directories."""
        return sorted(self.read_checkpoints().keys() - set(self.logs()))

    def write_checkpoints(self, checkpoints: Mapping[LogKey, Checkpoint]) -> None:
        """Replaces what is remembered, durably, as one: the three values of a log are never of different ages.

        A recovery point is `Log.recovery_point`. May run on the sync thread. Raises OSError.
        """
        content = {
            f"{topic_id.hex()}-{partition}": [c.recovery_point, c.high_watermark, c.log_start_offset]
            for (topic_id, partition), c in checkpoints.items()
        }
        write_durable(self._fs, os.path.join(self.path, "checkpoint"), content)

    def close(self, clean: bool) -> None:
        """Gives the directory up. `clean` only if every log in it was closed cleanly (KAFKA-13773). Raises OSError."""
        try:
            if clean and not self._unreported:
                remove_if_there(self._fs, os.path.join(self.path, "open"))
                self._fs.sync_dir(self.path)
        finally:
            self._lock.close()
