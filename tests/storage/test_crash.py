"""A crash at every operation: what was synced is there, what is there was appended, and nothing else."""

import contextlib
import os
import random

import pytest

from storage.directory import Checkpoint, LogDirectory
from tests.storage.forgetful import Crashed, ForgetfulFileSystem
from tests.storage.workload import IDENTITY, Life, batches_of, mismatch, open_log

SEEDS = range(int(os.environ.get("OTTLA_CRASH_SEEDS", "12")))


def _live(seed: int, crash_at: int | None) -> tuple[ForgetfulFileSystem, Life]:
    fs = ForgetfulFileSystem(seed, crash_at)
    life = Life(fs, seed, steps=30)
    with contextlib.suppress(Crashed):
        life.run()
    return fs, life


def _open_after(fs: ForgetfulFileSystem, life: Life, seed: int) -> tuple[ForgetfulFileSystem, str | None]:
    log = open_log(fs, life.checkpoint)
    faults = [mismatch(log, version) for version in life.versions]
    if all(faults):
        return fs, f"seed {seed}: {faults}"
    content, end = batches_of(log), log.log_end_offset
    log.close()
    again = open_log(fs.kill(), life.checkpoint)
    assert again.recovery.clean
    assert (batches_of(again), again.log_end_offset) == (content, end)
    return fs, None


@pytest.mark.parametrize("seed", SEEDS)
def test_power_loss_at_every_operation_and_again_during_recovery(seed: int) -> None:
    whole, _ = _live(seed, None)
    assert whole.operations > 50
    for crash_at in range(1, whole.operations + 1):
        fs, life = _live(seed, crash_at)
        rng = random.Random(f"{seed}/{crash_at}")
        after = fs.power_loss(crash_at=rng.randint(1, 8))
        try:
            _, fault = _open_after(after, life, seed)
        except Crashed:
            _, fault = _open_after(after.power_loss(), life, seed)
        assert fault is None, f"crash at operation {crash_at} ({fs.trace[-1]}): {fault}; {life.history[-6:]}"


@pytest.mark.parametrize("seed", SEEDS)
def test_a_killed_process_loses_nothing_that_was_appended(seed: int) -> None:
    whole, _ = _live(seed, None)
    for crash_at in range(1, whole.operations + 1):
        fs, life = _live(seed, crash_at)
        log = open_log(fs.kill(), life.checkpoint)
        before, then = life.versions[0], life.versions[-1]
        assert log.damaged_at is None
        assert mismatch(log, then) is None or mismatch(log, before) is None, (crash_at, fs.trace[-1])
        if before.base == then.base and then.batches[: len(before.batches)] == before.batches:
            assert log.log_end_offset >= before.end, "an append that was finished is gone"


KEY = (IDENTITY, 0)


class DirectoryLife(Life):
    """The same life in a data directory, which keeps the checkpoint: written between any two other writes."""

    directory: LogDirectory | None = None
    _remembered: int | None = None

    @property
    def checkpoint(self) -> int | None:
        return self._remembered

    @checkpoint.setter
    def checkpoint(self, value: int | None) -> None:
        if self.directory is not None and value is not None:
            self.directory.write_checkpoints({KEY: Checkpoint(value, value, 0)})
        self._remembered = value


def _open_directory(fs: ForgetfulFileSystem) -> LogDirectory:
    return LogDirectory.open(fs, "/data", node_id=1, new_directory_id=bytes(16), boot_id=None)


@pytest.mark.parametrize("seed", range(100, 100 + len(SEEDS) // 4))
def test_checkpoints_and_data_fit_after_a_crash_between_any_two_writes(seed: int) -> None:
    crash_at = 0
    while True:
        crash_at += 1
        fs = ForgetfulFileSystem(seed, crash_at)
        life = DirectoryLife(fs, seed, steps=25)
        with contextlib.suppress(Crashed):
            life.directory = _open_directory(fs)
            life.run()
        after = fs.power_loss()
        checkpoint = _open_directory(after).read_checkpoints().get(KEY)
        log = open_log(after, None if checkpoint is None else checkpoint.recovery_point)
        faults = [mismatch(log, version) for version in life.versions]
        assert not all(faults), f"crash at operation {crash_at} ({fs.trace[-1]}): {faults}; {life.history[-6:]}"
        if fs.operations < crash_at:
            break


def test_no_file_stays_open() -> None:
    fs = ForgetfulFileSystem()
    log = Life(fs, seed=3, steps=200).run()
    log.close()
    assert fs.open_files == 0
