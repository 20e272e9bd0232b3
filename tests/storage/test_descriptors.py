"""Too many open files say nothing about a disk: they refuse what was asked, they never fail a log."""

import contextlib
import errno
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from ottla.protocol.batch import PAYLOAD_RECORDS, BatchHeader
from storage.config import LogConfig
from storage.errors import LogFailed, OutOfDescriptors
from storage.fs import OsFileSystem, Spares, spares
from storage.log import Log
from tests.storage import test_compaction
from tests.storage.forgetful import ForgetfulFileSystem
from tests.storage.test_faults import append
from tests.storage.workload import batches_of, open_log

CONFIG = LogConfig(segment_bytes=1000, index_interval_bytes=100)
NONE_LEFT = [errno.EMFILE, errno.ENFILE]


@pytest.mark.parametrize("error", NONE_LEFT)
@pytest.mark.parametrize("operation", ["create", "sync_dir"])
def test_a_roll_is_refused_and_works_later(error: int, operation: str) -> None:
    fs = ForgetfulFileSystem()
    log = open_log(fs, None, CONFIG)
    append(log, 4)
    fs.fail(operation, error, times=2)  # the first is an index's, which can be made anew
    with pytest.raises(OutOfDescriptors):
        append(log, 1, epoch=2)
    fs._fail.clear()
    assert log.failed is None
    append(log, 1, epoch=2)
    log.close(clean=False)
    assert [b[0] for b in batches_of(open_log(fs.kill(), None, CONFIG))] == [0, 1, 2, 3, 4]


def sync(log: Log) -> int:
    ticket = log.begin_sync()
    assert ticket is not None
    with contextlib.suppress(OSError):
        ticket.run()
    return log.complete_sync(ticket)


@pytest.mark.parametrize("error", NONE_LEFT)
@pytest.mark.parametrize("operation", ["dup", "sync_dir"])
def test_a_sync_is_refused_and_works_later(error: int, operation: str) -> None:
    """A refused sync vouches for nothing, and leaves nothing that the next one would take for a failure."""
    fs = ForgetfulFileSystem()
    log = open_log(fs, None, CONFIG)
    append(log, 8)
    fs.fail(operation, error)
    with pytest.raises(OutOfDescriptors):
        sync(log)
    assert log.failed is None
    assert log.synced_end_offset == 0
    assert "unsynced" not in fs.listdir("/data/log")
    assert sync(log) == 8
    assert [b[0] for b in batches_of(open_log(fs.power_loss(), 8, CONFIG))] == list(range(8))


@pytest.mark.parametrize("error", NONE_LEFT)
def test_a_cut_is_refused_whole_and_works_later(error: int) -> None:
    fs = ForgetfulFileSystem()
    log = open_log(fs, None, CONFIG)
    append(log, 8)
    fs.fail("create", error)
    with pytest.raises(OutOfDescriptors):
        log.truncate_to(3)
    assert (log.failed, log.log_end_offset) == (None, 8)
    log.truncate_to(3)
    assert (log.failed, log.log_end_offset) == (None, 3)


def test_a_broken_disk_still_fails_the_log() -> None:
    fs = ForgetfulFileSystem()
    log = open_log(fs, None, CONFIG)
    append(log, 4)
    fs.fail("create", errno.EIO, times=2)
    with pytest.raises(LogFailed):
        append(log, 1, epoch=2)
    assert log.failed is not None


@pytest.fixture
def full() -> Iterator[list[int]]:
    """A process all of whose descriptors are taken, but for those that the test gives back."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = max(map(int, os.listdir("/proc/self/fd")))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 40, before[1]))
    taken: list[int] = []
    yield taken
    spares.hold(0)
    for descriptor in taken:
        os.close(descriptor)
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def take_all(taken: list[int]) -> None:
    while True:
        try:
            taken.append(os.open(os.devnull, os.O_RDONLY))
        except OSError:
            return


def test_with_spares_a_log_goes_on_while_all_other_descriptors_are_taken(tmp_path: Path, full: list[int]) -> None:
    fs = OsFileSystem()
    log = Log.open(fs, str(tmp_path / "log"), b"t" * 16, 0, CONFIG, now_ms=0)
    spares.hold(8)
    take_all(full)
    for _ in range(40):
        header = BatchHeader(0, 0, 1, 0, base_timestamp=1, max_timestamp=1)
        log.append_as_leader(header, b"\x0a\x02\x1a\x00" * 20, PAYLOAD_RECORDS, leader_epoch=1, now_ms=1)
        sync(log)
        take_all(full)  # whoever wants descriptors takes each that is free
    assert log.failed is None
    assert log.synced_end_offset == 40
    assert log.segment_count > 3


def test_segments_leave_spares_for_what_is_open_for_a_moment(tmp_path: Path, full: list[int]) -> None:
    fs = OsFileSystem()
    spares.hold(8)
    take_all(full)
    opened = [fs.open(str(tmp_path / f"{number}.log"), create=True) for number in range(4)]
    with pytest.raises(OSError, match="Too many open files"):
        fs.open(str(tmp_path / "4.log"), create=True)
    fs.sync_dir(str(tmp_path))
    fs.open(str(tmp_path / "vote.tmp"), create=True).close()
    for file in opened:
        file.close()


def test_without_spares_the_error_is_the_caller_s() -> None:
    def none_left() -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    with pytest.raises(OSError):
        Spares().opening(none_left)


@pytest.mark.parametrize("how", ["truncate", "reset", "reset where it began", "compact"])
@pytest.mark.parametrize("free", range(7))
def test_with_few_descriptors_a_change_is_made_whole_or_not_at_all(
    how: str, free: int, tmp_path: Path, full: list[int]
) -> None:
    """What was begun never ends for want of a descriptor, however few there were at its beginning."""
    fs, path = OsFileSystem(), str(tmp_path / "log")
    log = Log.open(fs, path, b"t" * 16, 0, test_compaction.CONFIG, now_ms=0)
    for number in range(40):
        test_compaction.append(log, [(b"key", b"%d" % number * 40)])
    sync(log)
    run = log.begin_compaction(2, 40) if how == "compact" else None
    if run is not None:
        run.run(test_compaction.decompress, test_compaction.compress)
    take_all(full)
    for _ in range(free):
        os.close(full.pop())

    def look() -> tuple[object, ...]:
        return log.log_start_offset, log.log_end_offset, log.size_bytes, log.segment_count, log.epochs.entries()

    def change() -> None:
        if run is not None:
            log.complete_compaction(run)
        elif how == "truncate":
            log.truncate_to(3)
        else:
            log.reset_to(0 if how == "reset where it began" else 100, 2)

    before = look()
    try:
        change()
        refused = False
    except OutOfDescriptors:
        refused = True
    assert log.failed is None
    assert refused is (free < {"truncate": 3, "compact": 1}.get(how, 4))
    assert (look() == before) is refused
    for descriptor in full:
        os.close(descriptor)
    full.clear()
    if refused and run is None:
        change()
        assert look() != before
    changed = look()
    log.close(clean=False)
    log = Log.open(fs, path, b"t" * 16, 0, test_compaction.CONFIG, now_ms=0)
    assert look() == changed
    assert not [name for name in fs.listdir(path) if name.endswith((".tmp", ".cleaned"))]
    log.close()
