"""Producer tables beside their logs: written at each new segment, before a cut and on close. So little is replayed, and
what was trimmed is known."""

import os
from typing import Any, Final

import structlog

from node.broker.producers import ProducerTable
from storage.durable import read_durable, write_durable
from storage.errors import CorruptFile
from storage.fs import FileSystem, remove_if_there

log = structlog.get_logger(__name__)

_FILE: Final = "producers"


def save(fs: FileSystem, directory: str, snapshot: dict[str, Any]) -> None:
    """Replaces the snapshot, durably. May run on the sync thread. Raises OSError."""
    write_durable(fs, os.path.join(directory, _FILE), snapshot)


def cut(fs: FileSystem, directory: str, snapshot: dict[str, Any] | None) -> None:
    """Before a truncation: what the old snapshot covers may be overwritten with other batches. In its place is the new
    one, if there is one and room for it. Raises OSError."""
    if snapshot is not None:
        try:
            save(fs, directory, snapshot)
            return
        except OSError as error:
            log.warning("producer_snapshot_not_written", directory=directory, error=str(error))
    remove_if_there(fs, os.path.join(directory, _FILE))


def load(fs: FileSystem, directory: str, clock_ms: int) -> ProducerTable | None:
    """The table as it was saved; None if there is none that can be used, then the log is replayed from its start."""
    try:
        content = read_durable(fs, os.path.join(directory, _FILE))
        return None if content is None else ProducerTable.restore(content, clock_ms)
    except (CorruptFile, OSError, KeyError, TypeError, ValueError) as error:
        log.warning("producer_snapshot_ignored", directory=directory, error=str(error))
        return None
