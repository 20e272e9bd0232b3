"""The data directory: lock, identity, clean and boot markers, checkpoints."""

from pathlib import Path

import pytest

from ottla.protocol.batch import PAYLOAD_RECORDS, BatchHeader
from storage.config import LogConfig
from storage.directory import Checkpoint, LogDirectory
from storage.errors import CorruptFile, DirectoryLocked, StorageError
from storage.fs import OsFileSystem
from storage.log import Log

ID, OTHER = bytes(16), b"\1" * 16


def open_directory(path: Path, node_id: int = 1, boot: str | None = "boot-1") -> LogDirectory:
    return LogDirectory.open(OsFileSystem(), str(path), node_id=node_id, new_directory_id=ID, boot_id=boot)


def test_identity_stays_and_another_nodes_directory_is_refused(tmp_path: Path) -> None:
    directory = open_directory(tmp_path)
    assert (directory.directory_id, directory.cluster_id, directory.was_clean) == (ID, None, True)
    directory.set_cluster_id(OTHER)
    with pytest.raises(StorageError, match="belongs to cluster"):
        directory.set_cluster_id(ID)
    directory.close(clean=True)
    with pytest.raises(StorageError, match="belongs to node 1"):
        open_directory(tmp_path, node_id=2)
    again = open_directory(tmp_path)
    assert again.cluster_id == OTHER
    again.close(clean=True)


def test_the_lock_keeps_a_second_user_out_until_it_is_given_up(tmp_path: Path) -> None:
    directory = open_directory(tmp_path)
    with pytest.raises(DirectoryLocked):
        open_directory(tmp_path)
    directory.close(clean=True)
    open_directory(tmp_path).close(clean=True)


@pytest.mark.parametrize(
    ("clean", "before", "now", "expected"),
    [
        (True, "a", "b", (True, False)),
        (False, "a", "a", (False, True)),
        (False, "a", "b", (False, False)),
        (False, None, None, (False, False)),
        (False, "a", None, (False, False)),
    ],
)
def test_markers_tell_a_clean_stop_from_a_kill_and_from_a_crash(
    tmp_path: Path, clean: bool, before: str | None, now: str | None, expected: tuple[bool, bool]
) -> None:
    open_directory(tmp_path, boot=before).close(clean=clean)
    directory = open_directory(tmp_path, boot=now)
    assert (directory.was_clean, directory.same_boot) == expected


def test_a_loss_is_not_forgotten_before_somebody_was_told(tmp_path: Path) -> None:
    """Power loss, a start that dies before it could register, another start: the log still lacks what it lacks."""
    open_directory(tmp_path, boot="a").close(clean=False)
    for clean in (False, True, False):
        directory = open_directory(tmp_path, boot="b")
        assert (directory.was_clean, directory.same_boot) == (False, False)
        directory.close(clean=clean)
    directory = open_directory(tmp_path, boot="b")
    directory.loss_reported()
    directory.close(clean=False)
    directory = open_directory(tmp_path, boot="b")
    assert (directory.was_clean, directory.same_boot) == (False, True)
    directory.close(clean=True)
    assert open_directory(tmp_path, boot="c").was_clean


def test_a_damaged_open_marker_counts_as_a_crash(tmp_path: Path) -> None:
    open_directory(tmp_path).close(clean=False)
    (tmp_path / "open").write_bytes(b"nonsense")
    directory = open_directory(tmp_path)
    assert (directory.was_clean, directory.same_boot) == (False, False)


def test_a_damaged_or_lost_identity_is_never_replaced(tmp_path: Path) -> None:
    directory = open_directory(tmp_path)
    log = Log.open(OsFileSystem(), directory.log_path(OTHER, 3), OTHER, 3, LogConfig(), now_ms=0)
    log.close()
    directory.close(clean=True)
    meta = (tmp_path / "meta").read_bytes()
    (tmp_path / "meta").write_bytes(meta.replace(b'"node_id":1', b'"node_id":2'))
    with pytest.raises(CorruptFile):
        open_directory(tmp_path)
    (tmp_path / "meta").unlink()
    with pytest.raises(StorageError, match="no identity"):
        open_directory(tmp_path)


def test_logs_are_listed_and_half_deleted_ones_are_removed(tmp_path: Path) -> None:
    directory = open_directory(tmp_path)
    for topic_id, partition in ((OTHER, 0), (ID, 12), (ID, 2)):
        log = Log.open(
            OsFileSystem(), directory.log_path(topic_id, partition), topic_id, partition, LogConfig(), now_ms=0
        )
        log.append_as_leader(BatchHeader(0, 0, 1, 0), b"x", PAYLOAD_RECORDS, leader_epoch=1, now_ms=0)
        log.close()
    (tmp_path / "something-else").mkdir()
    directory.close(clean=True)
    doomed = tmp_path / f"{OTHER.hex()}-0"
    doomed.rename(str(doomed) + ".deleted")
    directory = open_directory(tmp_path)
    assert directory.logs() == [(ID, 12), (ID, 2)]
    assert not list(tmp_path.glob("*.deleted"))


def test_checkpoints_survive_and_a_damaged_file_counts_as_none(tmp_path: Path) -> None:
    directory = open_directory(tmp_path)
    assert directory.read_checkpoints() == {}
    wanted = {(ID, 0): Checkpoint(5, 4, 1), (OTHER, 7): Checkpoint(50, 40, 0)}
    directory.write_checkpoints(wanted)
    assert directory.read_checkpoints() == wanted
    assert not directory.checkpoint_was_damaged
    raw = (tmp_path / "checkpoint").read_bytes()
    for at in range(len(raw)):
        (tmp_path / "checkpoint").write_bytes(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :])
        assert directory.read_checkpoints() == {}
    assert directory.checkpoint_was_damaged


def test_a_log_that_somebody_deleted_is_missed_where_it_is_remembered(tmp_path: Path) -> None:
    directory = open_directory(tmp_path)
    assert directory.lost_logs() == []
    for number in (0, 1):
        (tmp_path / f"{OTHER.hex()}-{number}").mkdir()
    directory.write_checkpoints({(OTHER, 0): Checkpoint(1, 2, 0), (OTHER, 1): Checkpoint(1, 2, 0)})
    assert directory.lost_logs() == []
    (tmp_path / f"{OTHER.hex()}-1").rmdir()
    assert directory.lost_logs() == [(OTHER, 1)]
    directory.close(clean=True)
