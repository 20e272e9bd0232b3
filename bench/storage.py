"""Measures the log on this machine and writes docs/benchmarks-storage.md.

python -m bench.storage [--rounds 9] [--directory DIR] [--no-nodes]
"""

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench import storage_more, storage_ratios, storage_start
from bench.storage_more import MIB

PAGE = Path(__file__).resolve().parents[1] / "docs" / "benchmarks-storage.md"
GOALS = {"leader append": 0.70, "log read": 0.75}
Row = dict[str, object]


def measure(directory: str, rounds: int, nodes: bool) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}

    def keep(section: str, rows: Sequence[Row]) -> None:
        found[section] = list(rows)
        for row in rows:
            print(section, json.dumps(row), flush=True)

    keep("ratios", storage_ratios.run(directory, rounds))
    keep("anywhere", [storage_more.reads_anywhere(directory, 1024 * MIB, size) for size in (1024, 16_384, 131_072)])
    keep("recovery", [storage_more.recovery(directory, 1024 * MIB, size) for size in (16_384, 131_072)])
    keep("compaction", [storage_more.compaction(directory, 3)])
    keep("preallocated", [storage_more.preallocated(directory, rounds, every) for every in (0, 16, 1)])
    if nodes:
        keep("partitions", storage_start.many_partitions(Path(directory) / "many", 1000))
        keep("large log", [storage_start.large_log(Path(directory) / "large", 1024)])
    return found


def _table(rows: Sequence[Row], columns: dict[str, str]) -> list[str]:
    lines = ["| " + " | ".join(columns.values()) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(str(row.get(key, "")) for key in columns) + " |" for row in rows]
    return [*lines, ""]


def page(found: dict[str, list[Row]], load_average: float) -> str:
    """The page, from what was measured."""
    lines = [
        "# Benchmarks: the log on disk",
        "",
        "Written by `make bench-storage`; don't edit it by hand. Measured on "
        f"{time.strftime('%Y-%m-%d', time.gmtime())} in one run with {os.cpu_count()} cores (load average at its start "
        f"{load_average:.1f}), {platform.system()} {platform.release()}, Python {platform.python_version()}. "
        "Ratio = time of the bare system calls over the same bytes / time of the log, medians of interleaved rounds; "
        "1.0 would be free.",
        "",
        "## Append and sequential read",
        "",
        "Bare append: CRC-32C and one `writev` of header and payload. Bare read: `pread` of the same chunk (1 MiB, or "
        "one batch). Goals at 128 KiB: append 0.70, read 0.75, which is `log read`, the log's own part of a read. A "
        "verified read checks every checksum besides, as is done for closed segments: decision "
        "[22](decisions/0022-closed-segments-are-verified-on-each-read.md).",
        "",
    ]
    for row in found["ratios"]:
        goal = GOALS.get(str(row["what"])) if row["batch_bytes"] == 131_072 else None
        row["goal"] = (
            "" if goal is None else f"{goal:.2f} {'reached' if float(str(row['ratio'])) >= goal else 'MISSED'}"
        )
    columns = {
        "what": "what",
        "batch_bytes": "batch, bytes",
        "us_per_batch": "µs per batch",
        "bare_us_per_batch": "bare, µs",
        "mb_per_s": "MB/s",
        "ratio": "ratio",
        "goal": "goal",
    }
    lines += _table(found["ratios"], columns)
    lines += ["## A read of 128 KiB anywhere in a segment of 1 GiB", ""]
    lines += ["Allowed: `index.interval.bytes` and one batch more than what is returned.", ""]
    columns = {
        "batch_bytes": "batch, bytes",
        "too_much_median": "bytes too much, median",
        "too_much_max": "largest of 2000",
        "allowed": "allowed",
        "us": "µs",
        "ratio": "ratio to pread",
    }
    lines += _table(found["anywhere"], columns)
    lines += [
        "## Recovery of a segment that was not closed",
        "",
        "Goal: 1 GiB in less than 30 s. Bare: read and CRC-32C of the same bytes.",
        "",
    ]
    columns = {
        "segment_mib": "MiB",
        "batch_bytes": "batch, bytes",
        "seconds": "seconds",
        "mb_per_s": "MB/s",
        "ratio": "ratio",
    }
    lines += _table(found["recovery"], columns)
    lines += [
        "## Compaction",
        "",
        "Unthrottled, of batches of 16 records of 1 KiB. Bare: read all, write what stays.",
        "",
    ]
    columns = {"mib": "MiB", "kept_mib": "kept, MiB", "mb_per_s": "MB/s", "ratio": "ratio"}
    lines += _table(found["compaction"], columns)
    lines += ["## Preallocated files", "", "Decision [21](decisions/0021-segments-are-not-preallocated.md).", ""]
    columns = {
        "sync_every": "appends per sync",
        "plain_mb_per_s": "plain, MB/s",
        "preallocated_mb_per_s": "preallocated, MB/s",
    }
    lines += _table(found["preallocated"], columns)
    if "partitions" in found:
        lines += [
            "## From the start of a node to ready",
            "",
            "Replication factor 1, with the first batch accepted.",
            "",
        ]
        columns = {
            "what": "what",
            "partitions": "partitions",
            "unclean_mib": "MiB to scan",
            "stop_s": "stop, s",
            "start_s": "start, s",
            "open_files": "descriptors",
            "rss_mib": "memory, MiB",
        }
        lines += _table([*found["partitions"], *found["large log"]], columns)
    return "\n".join(lines).rstrip() + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures the log and writes docs/benchmarks-storage.md.")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--directory", help="where to write (default: a temporary directory)")
    parser.add_argument("--no-nodes", action="store_true", help="only what needs no node")
    arguments = parser.parse_args()
    load_average = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(dir=arguments.directory) as directory:
        PAGE.write_text(page(measure(directory, arguments.rounds, not arguments.no_nodes), load_average))
    print(f"wrote {PAGE}")


if __name__ == "__main__":
    main()
