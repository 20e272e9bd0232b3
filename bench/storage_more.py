"""What else the log costs: reads anywhere in a large segment, its recovery, compaction, and preallocated files.

Every figure has a bare counterpart over the same bytes, taken in the same interleaved rounds.
"""

import os
import random
import shutil
import statistics
import time
from collections.abc import Callable

from bench.storage_ratios import IDENTITY, KIB, bare_read, measure
from node.broker import codecs
from ottla.protocol.batch import PAYLOAD_RECORDS, BatchHeader
from ottla.protocol.checksum import crc32c
from ottla.v1.record_pb2 import Record, Records
from storage.config import LogConfig
from storage.fs import OsFile, OsFileSystem
from storage.log import Log

MIB = KIB * KIB
Result = dict[str, object]


class Counting(OsFileSystem):
    """Counts the bytes that are read."""

    def __init__(self) -> None:
        self.read_bytes = 0

    def open(self, path: str, *, create: bool = False) -> OsFile:
        fs, file = self, super().open(path, create=create)

        class Counted(OsFile):
            def pread(self, length: int, position: int) -> bytes:
                data = super().pread(length, position)
                fs.read_bytes += len(data)
                return data

        return Counted(file._fd)


def _log(path: str, fs: OsFileSystem | None = None, **config: object) -> Log:
    settings = LogConfig(segment_bytes=2 * 1024 * MIB, **config)  # type: ignore[arg-type]
    return Log.open(fs or OsFileSystem(), path, IDENTITY, 0, settings, now_ms=0)


def _fill(log: Log, total_bytes: int, batch_bytes: int) -> None:
    payload = os.urandom(batch_bytes)
    for _ in range(total_bytes // batch_bytes):
        log.append_as_leader(BatchHeader(0, 0, 10, 9), payload, PAYLOAD_RECORDS, leader_epoch=1, now_ms=0)


def reads_anywhere(directory: str, total_bytes: int, batch_bytes: int) -> Result:
    """Fetches of 128 KiB at random offsets of one segment: how many bytes too much, and the time beside a pread."""
    fs = Counting()
    path = os.path.join(directory, "anywhere")
    log = _log(path, fs)
    _fill(log, total_bytes, batch_bytes)
    rng = random.Random(1)
    limit = 128 * KIB
    too_much, times, bare = [], [], []
    file = os.path.join(path, f"{0:020d}.log")
    fd = os.open(file, os.O_RDONLY)
    for _ in range(2000):
        offset = rng.randrange(log.log_end_offset)
        fs.read_bytes = 0
        start = time.perf_counter()
        data = log.read(offset, limit, log.log_end_offset, min_one=True).data
        times.append(time.perf_counter() - start)
        too_much.append(fs.read_bytes - len(data))
        start = time.perf_counter()
        os.pread(fd, limit, rng.randrange(log.size_bytes - limit))
        bare.append(time.perf_counter() - start)
    os.close(fd)
    log.close(clean=False)
    shutil.rmtree(path)
    return {
        "what": "read anywhere",
        "segment_mib": total_bytes // MIB,
        "batch_bytes": batch_bytes,
        "too_much_max": max(too_much),
        "too_much_median": int(statistics.median(too_much)),
        "allowed": 4096 + batch_bytes + 120,
        "us": round(statistics.median(times) * 1e6, 1),
        "ratio": round(statistics.median(bare) / statistics.median(times), 2),
    }


def recovery(directory: str, total_bytes: int, batch_bytes: int) -> Result:
    """Opening a segment of that size that was not closed, beside reading and checksumming the same bytes."""
    path = os.path.join(directory, "recovery")
    log = _log(path)
    _fill(log, total_bytes, batch_bytes)
    log.close(clean=False)
    size = total_bytes
    scans, bare = [], []
    for _ in range(3):
        for name in os.listdir(path):
            if not name.endswith(".log"):
                os.unlink(os.path.join(path, name))
        start = time.perf_counter()
        log = _log(path)
        scans.append(time.perf_counter() - start)
        size = log.recovery.scanned_bytes
        log.close(clean=False)
        start = time.perf_counter()
        fd = os.open(os.path.join(path, f"{0:020d}.log"), os.O_RDONLY)
        for position in range(0, size, MIB):
            crc32c(os.pread(fd, MIB, position))
        os.close(fd)
        bare.append(time.perf_counter() - start)
    shutil.rmtree(path)
    return {
        "what": "recovery",
        "segment_mib": round(size / MIB),
        "batch_bytes": batch_bytes,
        "seconds": round(statistics.median(scans), 2),
        "mb_per_s": round(size / statistics.median(scans) / 1e6),
        "ratio": round(statistics.median(bare) / statistics.median(scans), 2),
    }


def compaction(directory: str, rounds: int) -> Result:
    """32 MiB of 16 records of 1 KiB, each key 8 times, beside reading the same and writing what is left."""
    took, bare, kept = [], [], 0
    size = 0
    for _ in range(rounds):
        path = os.path.join(directory, "compaction")
        log = Log.open(
            OsFileSystem(),
            path,
            IDENTITY,
            0,
            LogConfig(segment_bytes=8 * MIB, cleanup_policy=frozenset({"compact"})),
            now_ms=0,
        )
        rng, value = random.Random(1), os.urandom(KIB)
        for _ in range(2048):
            records = [Record(key=b"%d" % rng.randrange(4096), value=value) for _ in range(16)]
            payload = Records(records=records).SerializeToString()
            log.append_as_leader(BatchHeader(0, 0, 16, 15), payload, PAYLOAD_RECORDS, leader_epoch=1, now_ms=0)
        ticket = log.begin_sync()
        assert ticket is not None
        ticket.run()
        log.complete_sync(ticket)
        run = log.begin_compaction(1, log.log_end_offset)
        assert run is not None
        size = sum(source.summary.size_bytes for source in run.inputs)
        start = time.perf_counter()
        run.run(codecs.decompress, codecs.compress)
        took.append(time.perf_counter() - start)
        kept = size - log.complete_compaction(run)
        start = time.perf_counter()
        bare_read(os.path.join(path, sorted(n for n in os.listdir(path) if n.endswith(".log"))[0]), size, MIB)
        fd = os.open(os.path.join(path, "bare"), os.O_RDWR | os.O_CREAT)
        for _ in range(kept // MIB):
            os.write(fd, bytes(MIB))
        os.fdatasync(fd)
        os.close(fd)
        bare.append(time.perf_counter() - start)
        log.close(clean=False)
        shutil.rmtree(path)
    return {
        "what": "compaction",
        "mib": round(size / MIB),
        "kept_mib": round(kept / MIB),
        "mb_per_s": round(size / statistics.median(took) / 1e6),
        "ratio": round(statistics.median(bare) / statistics.median(took), 2),
    }


def preallocated(directory: str, rounds: int, sync_every: int) -> Result:
    """Appends of 128 KiB to a plain file and to one whose blocks were allocated first, with a sync now and then."""
    payload, count = os.urandom(128 * KIB), 384

    def append(allocate: bool) -> Callable[[], float]:
        def once() -> float:
            path = os.path.join(directory, "preallocated")
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
            start = time.perf_counter()
            if allocate:
                os.posix_fallocate(fd, 0, count * len(payload))
            for number in range(count):
                os.pwrite(fd, payload, number * len(payload))
                if sync_every and number % sync_every == sync_every - 1:
                    os.fdatasync(fd)
            took = time.perf_counter() - start
            os.close(fd)
            os.unlink(path)
            return took

        return once

    medians = measure(rounds, {"plain": append(False), "preallocated": append(True)})
    return {
        "what": "preallocated file",
        "sync_every": sync_every or "never",
        "plain_mb_per_s": round(count * len(payload) / medians["plain"] / 1e6),
        "preallocated_mb_per_s": round(count * len(payload) / medians["preallocated"] / 1e6),
    }
