"""Opening and closing the logs of a data directory, with what is remembered beside them. Off the data loop."""

from collections.abc import Collection, Container, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import structlog

from node.broker import snapshots
from node.broker.host import Host
from node.broker.partition import Partition
from node.broker.settings import topic_settings
from node.metadata.image import Image
from ottla.protocol.batch import CorruptBatch
from storage.directory import Checkpoint, LogDirectory
from storage.errors import LogDamaged, OutOfDescriptors, StorageError
from storage.fs import FileSystem
from storage.log import Log

log = structlog.get_logger(__name__)

Key = tuple[bytes, int]
CLOSE_THREADS: Final = 16
_BEFORE_METADATA: Final = topic_settings({}, {})


def to_make(image: Image, changed: Iterable[Key] | None, node_id: int, known: Collection[Container[Key]]) -> list[Key]:
    """Partitions, of those that changed or of all, that an image gives to a node and of which it knows nothing yet."""
    if changed is None:
        changed = ((topic.topic_id, state.partition) for topic in image.all_topics() for state in topic.partitions)
    wanted = sorted(key for key in changed if not any(key in there for there in known))
    return [key for key in wanted if (state := image.partition(*key)) is not None and node_id in state.replicas]


def checkpoints(partitions: Mapping[Key, Partition]) -> dict[Key, Checkpoint]:
    """What to remember of each log now."""
    return {
        key: Checkpoint(p.log.recovery_point, p.high_watermark, p.log.log_start_offset) for key, p in partitions.items()
    }


def open_partition(
    host: Host, directory: LogDirectory, fs: FileSystem, key: Key, checkpoint: Checkpoint | None, now_ms: int
) -> Partition:
    """Recovers one log that is there, before the metadata says what it is. On any thread: nothing else knows of it yet.
    Raises StorageError, OSError."""
    path = directory.log_path(*key)
    records = Log.open(
        fs,
        path,
        *key,
        _BEFORE_METADATA.log,
        now_ms=now_ms,
        recovery_point=None if checkpoint is None else checkpoint.recovery_point,
        log_start_offset=None if checkpoint is None else checkpoint.log_start_offset,
        complete_is_damage=directory.same_boot,
    )
    partition = Partition(host, *key, key[0].hex(), records, _BEFORE_METADATA)
    high_watermark = 0 if checkpoint is None else checkpoint.high_watermark
    saved = snapshots.load(fs, path, host.clock_ms())
    if records.damaged_at is not None:
        partition.producers = partition.producers if saved is None else saved
    else:
        try:
            partition.rebuild_producers(saved, high_watermark)
        except CorruptBatch as error:
            # A start reads no closed segment but for this, and then only the headers.
            _mark_damage(records, error)
    partition.restore_high_watermark(high_watermark)
    return partition


def delete(records: Log, name: str) -> None:
    try:
        records.delete()
    except (StorageError, OSError) as error:
        log.error("log_not_deleted", partition=name, error=str(error))


def too_many(carried: int) -> OutOfDescriptors:
    """Why a log is not opened beyond what the process has descriptors for."""
    return OutOfDescriptors(f"this node has file descriptors for {carried} replicas: raise `ulimit -n`")


def _mark_damage(records: Log, found: CorruptBatch) -> None:
    """Finds the first bad batch, so that the log ends there until it is fetched anew. Raises StorageError, OSError."""
    for suspect in (*[None] * (records.segment_count - 1), records.log_end_offset - 1):
        run = records.begin_scrub(suspect)
        if run is not None:
            run.run(lambda: None)
            if records.complete_scrub(run):
                return
    raise LogDamaged(str(found))


def close_partitions(
    directory: LogDirectory,
    fs: FileSystem,
    partitions: Mapping[Key, Partition],
    remembered: Mapping[Key, Checkpoint],
) -> bool:
    """Closes all logs, with their producers and checkpoints saved; True if every one was closed cleanly."""

    def close(partition: Partition) -> bool:
        try:
            if partition.offline is None:
                snapshots.save(fs, partition.log.directory, partition.saved_producers())
            partition.log.close()
        except (StorageError, OSError) as error:
            log.error("log_not_closed", partition=partition.name, error=str(error))
            return False
        return partition.log.failed is None and partition.log.damaged_at is None

    # Each one is a handful of syncs, which wait for the disk; the file system makes one of many that wait together.
    with ThreadPoolExecutor(CLOSE_THREADS, "log-close") as threads:
        clean = all(list(threads.map(close, partitions.values())))
    try:
        directory.write_checkpoints(
            {
                key: Checkpoint(partitions[key].log.recovery_point, old.high_watermark, old.log_start_offset)
                if key in partitions
                else old
                for key, old in remembered.items()
            }
        )
    except OSError as error:
        log.error("checkpoint_not_written", error=str(error))
    return clean
