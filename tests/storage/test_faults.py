"""Disks that fail, fill up or rot: what the log refuses, what it keeps, what it says."""

import errno

import pytest

from ottla.protocol.batch import PAYLOAD_RECORDS, BatchHeader, CorruptBatch
from storage.config import LogConfig
from storage.epochs import EpochTable
from storage.errors import DiskFull, InvariantError, LogDamaged, LogFailed
from storage.fs import read_file
from storage.log import Log
from tests.storage.forgetful import ForgetfulFileSystem
from tests.storage.workload import IDENTITY, Batch, batches_of, open_log

CONFIG = LogConfig(segment_bytes=1000, index_interval_bytes=100)
FIRST = "/data/log/00000000000000000000.log"


def append(log: Log, count: int = 1, epoch: int = 1) -> None:
    for _ in range(count):
        log.append_as_leader(
            BatchHeader(0, 0, 1, 0, max_timestamp=5), b"p" * 100, PAYLOAD_RECORDS, leader_epoch=epoch, now_ms=5
        )


def sync(log: Log) -> None:
    ticket = log.begin_sync()
    assert ticket is not None
    ticket.run()
    log.complete_sync(ticket)


def test_a_failed_write_ends_all_writing_but_not_reading() -> None:
    fs = ForgetfulFileSystem()
    log = open_log(fs, None, CONFIG)
    append(log, 3)
    fs.fail("write", errno.EIO)
    with pytest.raises(LogFailed, match="injected write error"):
        append(log)
    for attempt in (lambda: append(log), lambda: log.truncate_to(0), log.begin_sync, lambda: log.reset_to(9)):
        with pytest.raises(LogFailed):
            attempt()
    assert len(batches_of(log)) == 3
    log.close()
    again = open_log(fs.kill(), None, CONFIG)
    assert not again.recovery.clean
    assert (again.log_end_offset, again.damaged_at) == (3, None)


def test_a_failed_sync_is_never_tried_again_and_vouches_for_nothing() -> None:
    fs = ForgetfulFileSystem()
    log = open_log(fs, None, CONFIG)
    append(log, 2)
    sync(log)
    append(log, 2)
    fs.fail("sync", errno.EIO)
    ticket = log.begin_sync()
    assert ticket is not None
    with pytest.raises(OSError, match="injected"):
        ticket.run()
    with pytest.raises(LogFailed):
        log.complete_sync(ticket)
    assert log.synced_end_offset == 2
    with pytest.raises(LogFailed):
        log.begin_sync()
    log.close()
    assert "clean" not in fs.listdir("/data/log")


@pytest.mark.parametrize("killed", [False, True])
def test_what_a_failed_sync_did_not_save_is_written_again_by_the_next_start(killed: bool) -> None:
    """The next sync of the same bytes succeeds, in any process, and saves nothing: the pages count as clean."""
    fs = ForgetfulFileSystem()
    log = open_log(fs, None, CONFIG)
    append(log, 2)
    sync(log)
    append(log, 8)
    before = batches_of(log)
    fs.fail("sync", errno.EIO)
    ticket = log.begin_sync()
    assert ticket is not None
    with pytest.raises(OSError, match="injected"):
        ticket.run()
    if not killed:
        with pytest.raises(LogFailed):
            log.complete_sync(ticket)
        log.close()
    assert_a_start_saves(fs, before)


def test_what_the_sync_of_a_start_did_not_save_is_written_again_by_the_next_one() -> None:
    fs = ForgetfulFileSystem()
    log = open_log(fs, None, CONFIG)
    append(log, 2)
    sync(log)
    append(log, 8)
    before = batches_of(log)
    for _ in range(2):
        fs = fs.kill()
        fs.fail("sync", errno.EIO)
        with pytest.raises(OSError, match="injected"):
            open_log(fs, 2, CONFIG)
    assert_a_start_saves(fs, before)


def assert_a_start_saves(fs: ForgetfulFileSystem, before: list[Batch]) -> None:
    """What a start counts as durable outlives the machine."""
    log = open_log(fs.kill(), 2, CONFIG)
    assert log.synced_end_offset == len(before)
    append(log)
    log.close(clean=False)
    assert "unsynced" not in fs.listdir("/data/log")
    for _ in range(20):
        again = open_log(fs.power_loss(), len(before), CONFIG)
        assert (again.damaged_at, batches_of(again)[: len(before)]) == (None, before)


def test_a_clean_close_that_cannot_sync_leaves_no_clean_marker() -> None:
    fs = ForgetfulFileSystem()
    log = open_log(fs, None, CONFIG)
    append(log)
    fs.fail("sync", errno.EIO)
    with pytest.raises(LogFailed):
        log.close()
    assert "clean" not in fs.listdir("/data/log")
    assert fs.open_files == 0


def test_a_full_disk_refuses_the_batch_and_takes_the_next_one_when_there_is_room() -> None:
    fs = ForgetfulFileSystem()
    log = open_log(fs, None, CONFIG)
    append(log, 2)
    for room in range(0, 201, 20):
        fs.capacity_bytes = sum(fs.size(f"/data/log/{name}") for name in fs.listdir("/data/log")) + room
        with pytest.raises(DiskFull):
            append(log)
        assert fs.size(FIRST) == log.size_bytes
        fs.capacity_bytes = None
        assert log.failed is None
    append(log, 20)
    assert [batch[0] for batch in batches_of(log)] == list(range(22))


def test_a_full_disk_at_the_roll_refuses_the_batch_too() -> None:
    for operation in ("create", "write", "rename"):
        fs = ForgetfulFileSystem()
        log = open_log(fs, None, CONFIG)
        append(log, 4)
        fs.fail(operation, errno.ENOSPC, times=2)
        with pytest.raises(DiskFull):
            append(log, 1, epoch=2)
        fs._fail.clear()
        append(log, 1, epoch=2)
        log.close(clean=False)
        assert [b[0] for b in batches_of(open_log(fs.kill(), None, CONFIG))] == [0, 1, 2, 3, 4]


def test_a_full_disk_that_cannot_be_undone_fails_the_log() -> None:
    fs = ForgetfulFileSystem()
    log = open_log(fs, None, CONFIG)
    append(log)
    fs.fail("write", errno.ENOSPC)
    fs.fail("truncate", errno.EIO)
    with pytest.raises(LogFailed):
        append(log)
    assert log.failed is not None


@pytest.mark.parametrize("batch", range(12))
def test_rot_below_the_recovery_point_is_damage_and_cuts_nothing(batch: int) -> None:
    fs = ForgetfulFileSystem()
    log = open_log(fs, None, CONFIG)
    append(log, 12)
    sync(log)
    before = batches_of(log)
    where = next(found for found in log.scan(batch, batch + 1))
    path = FIRST if batch < 4 else f"/data/log/{batch // 4 * 4:020d}.log"
    log.close(clean=False)
    for name in fs.listdir("/data/log"):
        if name.endswith(".index"):
            fs.unlink(f"/data/log/{name}")
    sizes = {name: fs.size(f"/data/log/{name}") for name in fs.listdir("/data/log") if name.endswith(".log")}
    fs.flip_bit(path, (where.position + where.length - 20) * 8)
    log = open_log(fs, 12, CONFIG)
    assert log.damaged_at == log.recovery.damaged_at == log.log_end_offset == batch
    assert "checksum" in log.recovery.damage
    assert batches_of(log) == before[:batch]
    assert {n: fs.size(f"/data/log/{n}") for n in fs.listdir("/data/log") if n.endswith(".log")} == sizes
    with pytest.raises(LogDamaged):
        append(log)
    for _ in range(2):
        remembered = log.recovery_point
        assert log.synced_end_offset == log.log_end_offset
        log.close()
        log = open_log(fs, remembered, CONFIG)
        assert log.damaged_at == batch, "the damage is still known after another start"
    log.truncate_to(batch)
    assert log.damaged_at is None
    log.append_as_follower(b"".join(data for _, _, _, data in before[batch:]), leader_epoch=9, now_ms=1)
    assert batches_of(log) == before
    log.close(clean=False)
    again = open_log(fs, 12, CONFIG)
    assert (again.damaged_at, batches_of(again)) == (None, before)


def test_rot_above_the_recovery_point_is_a_torn_tail_unless_the_machine_did_not_crash() -> None:
    for complete_is_damage in (False, True):
        fs = ForgetfulFileSystem()
        log = open_log(fs, None, CONFIG)
        append(log, 3)
        log.close(clean=False)
        fs.flip_bit(FIRST, (fs.size(FIRST) - 10) * 8)
        log = Log.open(
            fs, "/data/log", IDENTITY, 0, CONFIG, now_ms=1, recovery_point=1, complete_is_damage=complete_is_damage
        )
        assert log.log_end_offset == 2
        assert log.damaged_at == (2 if complete_is_damage else None)
        assert (log.recovery.truncated_bytes > 0) is not complete_is_damage


def test_every_torn_length_is_cut_even_where_a_complete_bad_batch_would_be_damage() -> None:
    fs = ForgetfulFileSystem()
    log = open_log(fs, None, CONFIG)
    append(log, 2)
    log.close(clean=False)
    whole = fs.size(FIRST)
    for cut in range(whole // 2 + 1, whole):
        copy = ForgetfulFileSystem()
        log = open_log(copy, None, CONFIG)
        append(log, 2)
        log.close(clean=False)
        copy.open(FIRST).truncate(cut)
        log = Log.open(copy, "/data/log", IDENTITY, 0, CONFIG, now_ms=1, complete_is_damage=True)
        assert (log.damaged_at, log.log_end_offset, log.recovery.truncated_bytes) == (None, 1, cut - whole // 2)


def test_zeros_at_the_end_are_a_torn_tail() -> None:
    for zeros in (1, 10, 600, 2000):
        fs = ForgetfulFileSystem()
        log = open_log(fs, None, CONFIG)
        append(log, 2)
        log.close(clean=False)
        size = fs.size(FIRST)
        fs.open(FIRST).truncate(size + zeros)
        log = Log.open(fs, "/data/log", IDENTITY, 0, CONFIG, now_ms=1, recovery_point=2, complete_is_damage=True)
        assert (log.damaged_at, log.log_end_offset, fs.size(FIRST)) == (None, 2, size)


def test_a_missing_file_below_the_recovery_point_is_damage() -> None:
    fs = ForgetfulFileSystem()
    log = open_log(fs, None, CONFIG)
    append(log, 12)
    sync(log)
    log.close(clean=False)
    fs.unlink("/data/log/00000000000000000004.log")
    log = open_log(fs, 12, CONFIG)
    assert log.damaged_at == 4
    for name in fs.listdir("/data/log"):
        fs.unlink(f"/data/log/{name}")
    assert open_log(fs, 12, CONFIG).damaged_at == 0


def test_a_read_finds_a_rotten_header() -> None:
    fs = ForgetfulFileSystem()
    log = open_log(fs, None, CONFIG)
    append(log, 2)
    fs.flip_bit(FIRST, 8 * 40)
    with pytest.raises(CorruptBatch, match="header checksum"):
        log.read(0, 1000, 2, min_one=True)


def test_lost_or_rotten_helper_files_cost_a_scan_and_nothing_else() -> None:
    fs = ForgetfulFileSystem()
    log = open_log(fs, None, CONFIG)
    for epoch in range(1, 13):
        append(log, 1, epoch)
    log.close()
    before, epochs = batches_of(log), log.epochs.entries()
    names = [name for name in fs.listdir("/data/log") if not name.endswith(".log")]
    assert {"clean", "state"} < set(names)
    for name in names:
        for rot in (True, False):
            copy = fs.kill()
            log = open_log(copy, 12, CONFIG)
            log.close()
            path = f"/data/log/{name}"
            if rot:
                copy.flip_bit(path, 8 * (copy.size(path) // 2))
            else:
                copy.unlink(path)
            log = open_log(copy, 12, CONFIG)
            assert log.damaged_at is None
            assert (batches_of(log), log.epochs.entries()) == (before, epochs)
            assert [log.read(at, 1, 12, min_one=True).base_offset for at in range(12)] == list(range(12))
            log.close()


def test_misuse_is_an_invariant_error() -> None:
    fs = ForgetfulFileSystem()
    log = open_log(fs, None, CONFIG)
    append(log)
    ticket = log.begin_sync()
    assert ticket is not None
    with pytest.raises(InvariantError):
        log.complete_sync(ticket)
    with pytest.raises(InvariantError):
        log.complete_sync(ticket)
    with pytest.raises(InvariantError):
        Log.open(fs, "/data/other", b"short", 0, CONFIG, now_ms=1)


def test_a_follower_takes_a_slice_as_a_whole_or_not_at_all() -> None:
    leader = open_log(ForgetfulFileSystem(), None, LogConfig())
    append(leader, 8)
    data = leader.read(0, 10_000, 8, min_one=True).data
    for room in range(0, len(data), 97):
        fs = ForgetfulFileSystem()
        log = open_log(fs, None, CONFIG)
        append(log, 2, epoch=0)
        log.truncate_to(0)
        fs.capacity_bytes = sum(fs.size(f"/data/log/{name}") for name in fs.listdir("/data/log")) + room
        with pytest.raises(DiskFull):
            log.append_as_follower(data, leader_epoch=9, now_ms=1)
        assert (log.log_end_offset, log.size_bytes, fs.size(FIRST)) == (0, 0, 0)
        fs.capacity_bytes = None
        log.append_as_follower(data, leader_epoch=9, now_ms=1)
        assert batches_of(log) == batches_of(leader)


def test_a_sync_counts_although_the_disk_is_too_full_to_note_it() -> None:
    fs = ForgetfulFileSystem()
    log = open_log(fs, None, CONFIG)
    append(log, 3)
    sync(log)
    log.truncate_to(1)
    append(log, 3, epoch=2)
    fs.fail("create", errno.ENOSPC)
    sync(log)
    assert (log.synced_end_offset, log.failed) == (4, None)
    log.close(clean=False)
    again = open_log(fs.power_loss(), 4, CONFIG)
    assert (again.log_end_offset, again.damaged_at) == (4, None)


def test_a_clean_marker_that_outlived_its_unlink_does_not_bring_epochs_without_batches() -> None:
    fs = ForgetfulFileSystem()
    log = open_log(fs, None, CONFIG)
    append(log, 2)
    log.close()
    marker = read_file(fs, "/data/log/clean")
    log = open_log(fs, 2, CONFIG)
    append(log, 1, epoch=2)
    log.truncate_to(2)
    append(log, 3, epoch=3)
    log.close()
    # As a power loss can leave it: the marker back, the appends gone, the state of later.
    fs.unlink("/data/log/clean")
    file = fs.open("/data/log/clean", create=True)
    file.write_at(0, [marker])
    file.close()
    cut = fs.open(FIRST)
    cut.truncate(402)
    cut.close()
    for name in fs.listdir("/data/log"):
        if name.endswith("4.log"):
            fs.unlink(f"/data/log/{name}")
    assert b"[3,2]" in read_file(fs, "/data/log/state")
    log = open_log(fs, 2, CONFIG)
    assert (log.recovery.clean, log.log_end_offset, log.epochs.entries()) == (True, 2, [(1, 0)])


@pytest.mark.parametrize("cut", ["truncate", "reset", "retain"])
def test_a_cut_on_a_full_disk_changes_nothing_and_is_made_when_there_is_room(cut: str) -> None:
    fs = ForgetfulFileSystem()
    log = open_log(fs, None, CONFIG)
    for epoch in range(1, 13):
        append(log, 1, epoch)
    sync(log)
    before = (batches_of(log), log.epochs.entries(), log.log_start_offset, log.log_end_offset)

    def make() -> None:
        if cut == "truncate":
            log.truncate_to(6)
        elif cut == "reset":
            log.reset_to(50, 13)
        else:
            log.advance_log_start(5)
            log.apply_retention(1000, 12)

    fs.fail("create", errno.ENOSPC, times=2)
    with pytest.raises(DiskFull):
        make()
    if cut == "retain":
        log.log_start_offset = 0
        log.epochs = EpochTable(before[1])
    assert (batches_of(log), log.epochs.entries(), log.log_start_offset, log.log_end_offset) == before
    assert log.failed is None
    fs._fail.clear()
    make()
    assert (log.log_start_offset, log.log_end_offset) == {
        "truncate": (0, 6), "reset": (50, 50), "retain": (5, 12)
    }[cut]  # fmt: skip


def test_retention_makes_its_own_room_on_a_disk_without_a_byte() -> None:
    fs = ForgetfulFileSystem()
    log = open_log(fs, None, CONFIG)
    append(log, 12)
    log.advance_log_start(9)
    fs.capacity_bytes = sum(fs.size(f"/data/log/{name}") for name in fs.listdir("/data/log"))
    assert log.apply_retention(1000, 12) == 2
    assert log.delete_expired_files(1000) == 0
    assert log.delete_expired_files(1000, at_once=True) == 2
    assert [name for name in fs.listdir("/data/log") if name.endswith(".deleted")] == []


def test_a_killed_log_opens_on_a_full_disk() -> None:
    fs = ForgetfulFileSystem()
    log = open_log(fs, None, CONFIG)
    for epoch in range(1, 11):
        append(log, 1, epoch)
    before = (batches_of(log), log.epochs.entries())
    log.close(clean=False)
    for _ in range(2):
        fs = fs.kill()
        fs.capacity_bytes = sum(fs.size(f"/data/log/{name}") for name in fs.listdir("/data/log"))
        log = open_log(fs, None, CONFIG)
        assert (batches_of(log), log.epochs.entries(), log.damaged_at) == (*before, None)
        with pytest.raises(DiskFull):
            append(log, 1, 11)
        log.close(clean=False)
    fs.capacity_bytes = None
    log = open_log(fs.kill(), None, CONFIG)
    append(log, 1, 11)
    assert len(batches_of(log)) == 11
