"""Real files and real threads: appends, reads, syncs, compaction and scrub at the same time, then a restart."""

import random
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from storage.compaction import CompactionRun
from storage.config import LogConfig
from storage.fs import OsFileSystem
from storage.log import Log
from storage.scrub import ScrubRun
from storage.sync import SyncTicket
from tests.storage.test_compaction import Kept, append, compress, decompress, last_values, records_of
from tests.storage.workload import IDENTITY

CONFIG = LogConfig(
    segment_bytes=20_000,
    index_interval_bytes=500,
    cleanup_policy=frozenset({"compact"}),
    min_cleanable_dirty_ratio=0.1,
)


def open_log(path: str, recovery_point: int | None = None) -> Log:
    return Log.open(OsFileSystem(), path, IDENTITY, 0, CONFIG, now_ms=1000, recovery_point=recovery_point)


@pytest.mark.parametrize("seed", range(3))
def test_what_the_owner_appends_survives_what_other_threads_do_beside_it(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    path = str(tmp_path / "log")
    log = open_log(path)
    history: list[Kept] = []
    compactions = scrubs = syncs = 0
    out: list[tuple[SyncTicket | CompactionRun | ScrubRun, Future[None]]] = []
    with ThreadPoolExecutor(3) as threads:
        for number in range(3000):
            key, value = b"k%d" % rng.randrange(60), b"%d" % number * rng.randint(1, 30)
            history.append(Kept(number, key, value, 1000))
            append(log, [(key, value)], codec=rng.choice((0, 0, 4)))
            if rng.random() < 0.05 and (ticket := log.begin_sync()):
                out.append((ticket, threads.submit(ticket.run)))
            if rng.random() < 0.02 and (run := log.begin_compaction(1000, log.log_end_offset)):
                out.append((run, threads.submit(run.run, decompress, compress)))
            if rng.random() < 0.02 and (scrub := log.begin_scrub()):
                out.append((scrub, threads.submit(scrub.run)))
            if rng.random() < 0.2:
                offset = rng.randrange(log.log_end_offset)
                piece = log.read(offset, 2000, log.log_end_offset, min_one=True)
                assert piece.next_offset > offset
            if rng.random() < 0.005:
                end = rng.randint(log.synced_end_offset, log.log_end_offset)
                log.truncate_to(end)
                while history[-1].offset >= log.log_end_offset:
                    history.pop()
                for lost in range(log.log_end_offset, number + 1):
                    replaced = Kept(lost, b"again", b"%d" % lost, 1000)
                    history.append(replaced)
                    append(log, [(b"again", b"%d" % lost)])
            for job, done in [entry for entry in out if entry[1].done()]:
                out.remove((job, done))
                done.result()
                match job:
                    case SyncTicket():
                        log.complete_sync(job)
                        syncs += 1
                    case CompactionRun():
                        compactions += log.complete_compaction(job) > 0
                    case ScrubRun():
                        assert not log.complete_scrub(job), job.damage
                        scrubs += 1
    assert min(compactions, scrubs, syncs) > 0
    assert last_values(records_of(log)) == last_values(history)
    log.close(clean=False)
    again = open_log(path, log.recovery_point)
    assert (again.damaged_at, again.log_end_offset) == (None, 3000)
    assert last_values(records_of(again)) == last_values(history)
    again.close()
