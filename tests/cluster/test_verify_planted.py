"""Proof that `ottla verify` bites: bugs planted in copies of the sources, each found by a short run of the command.

About ten minutes: `make verify-long`, or `pytest -m long tests/cluster/test_verify_planted.py -rP`.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import pytest

pytestmark = [pytest.mark.cluster, pytest.mark.long, pytest.mark.timeout(400)]

ROOT = Path(__file__).resolve().parents[2]
PARTITION = "node/broker/partition.py"
REPLICA = "node/broker/replica.py"
PRODUCERS = "node/broker/producers.py"
SECONDS = 25
"""How long things break. With start, last read and verdict a run takes less than a minute on a quiet machine."""


class Bug(NamedTuple):
    """Each (file, old, new): `old` occurs once. `kinds`: one of these must be among the anomalies or problems."""

    name: str
    faults: str
    kinds: tuple[str, ...]
    changes: tuple[tuple[str, str, str], ...]


BUGS = [
    Bug(
        "acknowledged before it is replicated",
        "lone",
        ("above-mark", "lost-write", "vanished"),
        ((PARTITION, "elif appended.end_offset <= leader.high_watermark:", "elif appended.end_offset >= 0:"),),
    ),
    Bug(
        "the high watermark is the leader's log end",
        "lone",
        ("lost-write", "vanished", "wrong-offset", "mark-went-back"),
        (
            (
                REPLICA,
                "        for node_id, progress in self._followers.items():\n            end = progress.synced_end if",
                "        for node_id, progress in ():\n            end = progress.synced_end if",
            ),
        ),
    ),
    Bug(
        "reads go beyond the high watermark",
        "lone",
        ("above-mark", "vanished", "inconsistent-offsets", "mark-went-back"),
        (
            (PARTITION, "records.read(offset, max_bytes, end, min", "records.read(offset, max_bytes, 2**62, min"),
            (PARTITION, "if start <= offset < end:\n", "if start <= offset < records.log_end_offset:\n"),
        ),
    ),
    Bug(
        "a repeated batch is answered with the offset of the last one",
        "kill,pause",
        ("wrong-offset", "duplicate", "inconsistent-offsets"),
        ((PRODUCERS, "                return stored\n", "                return last\n"),),
    ),
    Bug(
        "nobody is told that its log has left the leader's",
        "lone",
        ("replicas", "lost-write", "vanished", "inconsistent-offsets", "whole again"),
        (
            (
                REPLICA,
                "    epoch, end = epoch_end\n    return (epoch, end) if",
                "    epoch, end = epoch_end\n    return None if",
            ),
        ),
    ),
    Bug(
        "producers are forgotten with the leader",
        "kill",
        ("duplicate",),
        (
            (
                PARTITION,
                "self.producers.appended(header, header.base_offset, clock_ms, follower.high_watermark)\n",
                "pass\n",
            ),
            (
                PRODUCERS,
                "(KAFKA-15591).\n            if sequence != 0:",
                "(KAFKA-15591).\n            if sequence < 0:",
            ),
        ),
    ),
    Bug(
        "a follower truncates to its own high watermark",
        "kill-all",
        ("lost-write", "vanished", "unseen", "inconsistent-offsets", "wrong-offset"),
        (
            (
                PARTITION,
                "high_watermark=mark)\n        if self.log.damaged_at",
                "high_watermark=mark)\n        self._truncate(mark)\n        if self.log.damaged_at",
            ),
        ),
    ),
    Bug(
        "a retry takes a new sequence",
        "kill,pause",
        ("duplicate", "aborted-read"),
        (
            (
                "ottla/client/producer_state.py",
                "batch.attempt += 1",
                "batch.attempt += 1\n        batch.attempt > 1 and self._number(queue, batch)",
            ),
        ),
    ),
    Bug(
        "a reader that loses its stream skips what was on its way",
        "kill,stop",
        ("poll-skip", "int-poll-skip"),
        (
            (
                "ottla/client/fetch_state.py",
                "        self.failures = 0\n        self.leader_epoch = max(",
                "        skip, self.failures = self.failures > 0, 0\n        self.leader_epoch = max(",
            ),
            (
                "ottla/client/fetch_state.py",
                "return Chunk(self, self.generation,",
                "return None if skip else Chunk(self, self.generation,",
            ),
        ),
    ),
    Bug(
        "repeated batches are stored again",
        "kill,pause",
        ("duplicate", "nonmonotonic-send"),
        (
            (
                PRODUCERS,
                "        producer = self._producers.get(producer_id)\n",
                "        producer = None\n        return None\n",
            ),
        ),
    ),
]


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_planted_bug_is_found(bug: Bug, tmp_path: Path) -> None:
    for package in ("ottla", "node", "raft", "storage"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    for file, old, new in bug.changes:
        path = tmp_path / file
        text = path.read_text()
        assert text.count(old) == 1, f"{file} has {text.count(old)} times: {old}"
        path.write_text(text.replace(old, new))
    environ = {name: value for name, value in os.environ.items() if not name.startswith("OTTLA_")}
    environ.pop("PYTHONDONTWRITEBYTECODE", None)
    options = ["--seconds", str(SECONDS), "--faults", bug.faults, "--rate", "800", "--seed", "1", "--json"]
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "ottla.cli", "verify", *options],
        cwd=tmp_path,
        env={**environ, "PYTHONPATH": str(tmp_path), "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    took_s = time.monotonic() - started
    assert done.returncode == 1, done.stdout[-2000:] + done.stderr[-2000:]
    facts = json.loads(done.stdout)
    found = sorted({anomaly["kind"] for anomaly in facts["anomalies"]})
    print(f"{bug.name}: {took_s:.0f} s, {len(facts['anomalies'])} anomalies: {found}, {facts['problems'][:2]}")
    assert any(kind in text for kind in bug.kinds for text in (*found, *facts["problems"])), done.stdout[-3000:]
