"""What the log costs beside the bare system calls: ratios of medians, both taken in the same interleaved rounds.

Ratio = bare time / log time (1.0 = free). Nothing is synced. `python -m bench.storage` runs it with the rest.
"""

import os
import shutil
import statistics
import time
from collections.abc import Callable

from ottla.protocol.batch import PAYLOAD_RECORDS, BatchHeader
from ottla.protocol.checksum import crc32c
from storage.config import LogConfig
from storage.fs import OsFileSystem
from storage.log import Log

IDENTITY = bytes(16)
KIB = 1024
TOTAL_BYTES = 48 * 1024 * KIB
CONFIG = LogConfig(max_message_bytes=32 * 1024 * KIB)


def _open(path: str) -> Log:
    return Log.open(OsFileSystem(), path, IDENTITY, 0, CONFIG, now_ms=0)


def bare_append(path: str, payload: bytes, count: int) -> float:
    """crc32c and one writev of a header and the payload per batch."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    header = bytes(107)
    start = time.perf_counter()
    for _ in range(count):
        crc32c(payload)
        os.writev(fd, [header, payload])
    took = time.perf_counter() - start
    os.close(fd)
    return took


def leader_append(path: str, payload: bytes, count: int) -> float:
    log = _open(path)
    header = BatchHeader(0, 0, 10, 9)
    start = time.perf_counter()
    for _ in range(count):
        log.append_as_leader(header, payload, PAYLOAD_RECORDS, leader_epoch=1, now_ms=0)
    took = time.perf_counter() - start
    log.close(clean=False)
    return took


def follower_append(path: str, slices: list[bytes]) -> float:
    log = _open(path)
    start = time.perf_counter()
    for data in slices:
        log.append_as_follower(data, leader_epoch=1, now_ms=0)
    took = time.perf_counter() - start
    log.close(clean=False)
    return took


def bare_read(path: str, size: int, chunk: int) -> float:
    fd = os.open(path, os.O_RDONLY)
    start = time.perf_counter()
    for position in range(0, size, chunk):
        os.pread(fd, chunk, position)
    took = time.perf_counter() - start
    os.close(fd)
    return took


def log_read(log: Log, chunk: int, verify: bool) -> float:
    """`verify`: as closed segments are read for clients."""
    at, end = 0, log.log_end_offset
    start = time.perf_counter()
    while at < end:
        at = log.read(at, chunk, end, min_one=True, verify=verify).next_offset
    return time.perf_counter() - start


def checksums(slices: list[bytes]) -> float:
    """What every reader of a closed segment pays at least: CRC-32C of the same bytes, already in memory."""
    start = time.perf_counter()
    for data in slices:
        crc32c(data)
    return time.perf_counter() - start


def measure(rounds: int, cases: dict[str, Callable[[], float]]) -> dict[str, float]:
    """Median seconds per case; one case after the other within each round, so that all see the same machine."""
    times: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, run in cases.items():
            times[name].append(run())
    return {name: statistics.median(values) for name, values in times.items()}


def run(directory: str, rounds: int) -> list[dict[str, object]]:
    results: list[dict[str, object]] = []

    def fresh(function: Callable[[str], float]) -> Callable[[], float]:
        def once() -> float:
            path = os.path.join(directory, "case")
            try:
                return function(path)
            finally:
                if os.path.isdir(path):
                    shutil.rmtree(path)
                else:
                    os.unlink(path)

        return once

    for size in (KIB, 16 * KIB, 128 * KIB, 1024 * KIB):
        payload, count = os.urandom(size), min(TOTAL_BYTES // size, 4000)
        source = _open(os.path.join(directory, f"source-{size}"))
        for _ in range(count):
            source.append_as_leader(BatchHeader(0, 0, 10, 9), payload, PAYLOAD_RECORDS, leader_epoch=1, now_ms=0)
        slices, at = [], 0
        while at < source.log_end_offset:
            piece = source.read(at, max(size + 200, 1024 * KIB), source.log_end_offset, min_one=True)
            slices.append(piece.data)
            at = piece.next_offset
        chunk = max(size + 200, 1024 * KIB)
        file = next(os.path.join(source.directory, n) for n in os.listdir(source.directory) if n.endswith(".log"))
        # Opened anew it has only what an earlier process wrote, which is verified like a closed segment. All reads are
        # of this one file: how it was written decides how fast the page cache gives it out.
        source.close()
        source = _open(source.directory)
        medians = measure(
            rounds,
            {
                "bare append": fresh(lambda path, p=payload, c=count: bare_append(path, p, c)),
                "leader append": fresh(lambda path, p=payload, c=count: leader_append(path, p, c)),
                "follower append": fresh(lambda path, s=slices: follower_append(path, s)),
                "bare read": lambda f=file, n=source.size_bytes, c=chunk: bare_read(f, n, c),
                "log read": lambda s=source, c=chunk: log_read(s, c, False),
                "verified read": lambda s=source, c=chunk: log_read(s, c, True),
                "CRC-32C alone": lambda s=slices: checksums(s),
            },
        )
        for name, bare in (
            ("leader append", "bare append"),
            ("follower append", "bare append"),
            ("log read", "bare read"),
            ("verified read", "bare read"),
            ("CRC-32C alone", "bare read"),
        ):
            results.append(
                {
                    "what": name,
                    "batch_bytes": size,
                    "us_per_batch": round(medians[name] / count * 1e6, 1),
                    "bare_us_per_batch": round(medians[bare] / count * 1e6, 1),
                    "mb_per_s": round(count * size / medians[name] / 1e6),
                    "ratio": round(medians[bare] / medians[name], 2),
                }
            )
        source.delete()
    return results
