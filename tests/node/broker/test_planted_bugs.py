"""Proof that these tests bite: each bug is planted in a copy of the sources, and the named tests must turn red.

docs/testing.md has the list. About a minute and a half: `pytest -m long tests/node/broker/test_planted_bugs.py`.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[3]
REPLICA = "node/broker/replica.py"
PARTITION = "node/broker/partition.py"
PRODUCERS = "node/broker/producers.py"
STREAMS = "node/broker/replication.py"
FETCHER = "node/broker/fetcher.py"
BROKER = "node/broker/broker.py"
DOOR = "node/broker/door.py"
IMPORT = "node/broker/imports.py"
HOUSEKEEPING = "node/broker/housekeeping.py"


class Bug(NamedTuple):
    """`old` occurs once in `file`; with `new` in its place one of `tests` (below tests/node/broker) must fail."""

    name: str
    file: str
    old: str
    new: str
    tests: str


RANDOM = "test_replica_random.py"
RULES = "test_replica.py"
ONE = "test_partition.py"
ISR = "test_isr.py"
SEQUENCES = "test_producers.py"
HAZARDS = "test_hazards.py"
DOORS = "test_door.py"
IMPORTS = "test_imports.py"
FETCHES = "test_fetcher.py"

BUGS = [
    Bug(
        "the high watermark ignores a member whose growth is in flight",
        REPLICA,
        "self.maximal_isr = self.isr | nodes",
        "self.maximal_isr = self.isr",
        RANDOM,
    ),
    Bug(
        "a shrink counts before the controller has made it",
        REPLICA,
        "self.maximal_isr = self.isr | nodes",
        "self.maximal_isr = nodes",
        RANDOM,
    ),
    Bug(
        "the high watermark is the leader's log end",
        REPLICA,
        "                mark = end\n        self.high_watermark = mark",
        "                pass\n        self.high_watermark = mark",
        RANDOM,
    ),
    Bug(
        "the high watermark moves below min ISR",
        REPLICA,
        "        if len(self.isr) < self.effective_min_isr:\n            return False\n        flush_ack",
        "        flush_ack",
        RULES,
    ),
    Bug(
        "a follower joins below the start of the epoch",
        REPLICA,
        "end < self.high_watermark or end < self.epoch_start",
        "end < self.high_watermark",
        RANDOM,
    ),
    Bug(
        "a follower joins below the high watermark",
        REPLICA,
        "end is None or end < self.high_watermark or end < self.epoch_start",
        "end is None",
        RANDOM,
    ),
    Bug(
        "a fenced follower joins",
        REPLICA,
        "        if progress.broker_epoch != self.brokers.get(node_id):\n            return None\n",
        "",
        RULES,
    ),
    Bug(
        "an answer to an overtaken ISR change counts",
        REPLICA,
        "if self.pending is not change or leader_epoch != self.leader_epoch or",
        "if leader_epoch != self.leader_epoch or",
        RULES,
    ),
    Bug(
        "older metadata undoes newer",
        REPLICA,
        "or state.partition_epoch <= self.partition_epoch:",
        "or False:",
        RULES,
    ),
    Bug(
        "an unknown outcome of an ISR change counts as refused",
        REPLICA,
        "_REFUSALS.get(code, Refusal.RETRY)",
        "_REFUSALS.get(code, Refusal.REVERTED)",
        RULES,
    ),
    Bug(
        "divergence is judged by offsets alone",
        REPLICA,
        "if epoch < last_fetched_epoch or end < fetch_offset else None",
        "if end < fetch_offset else None",
        RANDOM,
    ),
    Bug(
        "a follower cuts to the leader's end of an epoch it does not have",
        REPLICA,
        "return min(end, own_end) if own_epoch == epoch else own_end",
        "return end",
        RULES,
    ),
    Bug(
        "the mark outlives the truncation",
        REPLICA,
        "        self.high_watermark = log_end\n        return True",
        "        return True",
        RULES,
    ),
    Bug(
        "flush=ack counts what the leader has not synced",
        REPLICA,
        "mark = self.synced_end if flush_ack else self.log_end",
        "mark = self.log_end",
        RULES,
    ),
    Bug(
        "flush=ack counts what followers have not synced",
        REPLICA,
        "end = progress.synced_end if flush_ack else progress.fetch_offset\n            if",
        "end = progress.fetch_offset\n            if",
        RULES,
    ),
    Bug(
        "reads go beyond the high watermark",
        PARTITION,
        "records.read(offset, max_bytes, end, min_one=min_one, verify=True)",
        "records.read(offset, max_bytes, records.log_end_offset, min_one=min_one, verify=True)",
        ONE,
    ),
    Bug(
        "who could not join at once is forgotten",
        PARTITION,
        "self._propose(self.leader.propose_join(self.watchers, self._host.clock_ms()))",
        "pass",
        ISR,
    ),
    Bug(
        "the mark waits for who was refused",
        PARTITION,
        "            if self.leader.recheck(now_ms):\n                self.committed()\n            self._arm",
        "            self._arm",
        ISR,
    ),
    Bug(
        "a new leader shows its mark at once",
        PARTITION,
        "mark = end if leader.high_watermark_known else WITHHELD",
        "mark = end",
        ONE,
    ),
    Bug(
        "a diverged position counts",
        PARTITION,
        "        if diverging is not None:\n            return diverging\n        if not records",
        "        if not records",
        ONE,
    ),
    Bug(
        "acks=all is appended below min ISR",
        PARTITION,
        "if acks == ACKS_ALL and not leader.enough_in_sync:",
        "if acks == 7 and not leader.enough_in_sync:",
        ONE,
    ),
    Bug(
        "a leader acknowledges what it wrote in an earlier epoch",
        PARTITION,
        "if leader is None or leader.leader_epoch != appended.leader_epoch:\n            future",
        "if leader is None:\n            future",
        ONE,
    ),
    Bug(
        "a damaged log leads",
        PARTITION,
        "        if records.damaged_at is not None:\n            # Its end",
        "        if records is None:\n            # Its end",
        ONE,
    ),
    Bug(
        "the log start passes the high watermark",
        PARTITION,
        "min(deleted_before, follower.high_watermark)",
        "min(deleted_before, self.log.log_end_offset)",
        ONE,
    ),
    Bug(
        "followers do not learn the producers",
        PARTITION,
        "self.producers.appended(header, header.base_offset, clock_ms, follower.high_watermark)\n",
        "pass\n",
        ONE,
    ),
    Bug(
        "producers outlive a truncation",
        PARTITION,
        "        self.producers = producers\n        if",
        "        if",
        ONE,
    ),
    Bug(
        "a cut forgets whose last batch is trimmed",
        PRODUCERS,
        "            batches[1].last_offset < high_watermark or len(batches) > UNCOMMITTED_MAX\n",
        "            True\n",
        ONE,
    ),
    Bug(
        "who wrote before a gap is known behind it",
        PARTITION,
        "self._cut(records.reset_to, offset, ProducerTable())",
        "self._cut(records.reset_to, offset, *self.producers.until(offset))",
        ONE,
    ),
    Bug(
        "an unknown producer may start anywhere",
        PRODUCERS,
        "(KAFKA-15591).\n            if sequence != 0:",
        "(KAFKA-15591).\n            if sequence < 0:",
        SEQUENCES,
    ),
    Bug("one batch is remembered", PRODUCERS, "BATCHES_REMEMBERED = 5", "BATCHES_REMEMBERED = 1", SEQUENCES),
    Bug(
        "sequences are off by one",
        PRODUCERS,
        "expected = (last.last_sequence + 1) % _SEQUENCES",
        "expected = last.last_sequence % _SEQUENCES",
        SEQUENCES,
    ),
    Bug(
        "a sequence far ahead is called stored",
        PRODUCERS,
        "if sequence <= header.last_sequence < oldest and oldest - header.last_sequence < _SEQUENCES // 2:",
        "if 0 < (oldest - header.last_sequence) % _SEQUENCES < _SEQUENCES // 2:",
        SEQUENCES,
    ),
    Bug(
        "a wrong offset delta is stored",
        DOOR,
        "    if faulty:\n        raise _faulty",
        "    if False:\n        raise _faulty",
        DOORS,
    ),
    Bug(
        "no record's time is looked at",
        DOOR,
        "if base + lowest < earliest or base + highest > latest:",
        "if False:",
        DOORS,
    ),
    Bug(
        "the header's latest time is believed",
        DOOR,
        "return count, base, base + highest",
        "return count, base, batch.max_timestamp",
        DOORS,
    ),
    Bug("records are not counted", DOOR, "if count > RECORDS_MAX:", "if False:", DOORS),
    Bug(
        "the plain size is not bounded",
        DOOR,
        "codecs.decompress(codec, payload, PLAIN_MAX_BYTES)",
        "codecs.decompress(codec, payload)",
        DOORS,
    ),
    Bug(
        "what was damaged on the way is refused for good",
        DOOR,
        "        _check_crc(batch, payload)\n        raise\n",
        "        raise\n",
        DOORS,
    ),
    Bug(
        "a stream's broker epoch is not compared",
        STREAMS,
        "self._broker_epoch if self._is_current() else None",
        "self._broker_epoch",
        HAZARDS,
    ),
    Bug(
        "out of range without the leader's log start",
        STREAMS,
        "            if partition is not None:\n                # With an error",
        "            if partition is None:\n                # With an error",
        HAZARDS,
    ),
    Bug(
        "a bad batch from the leader takes the follower offline",
        FETCHER,
        "            self._retry_later(key, followed)\n        except (StorageError",
        "            partition.fail(error)\n        except (StorageError",
        HAZARDS,
    ),
    Bug(
        "the mark waits for who has left",
        REPLICA,
        "gone.caught_up_ms = min(gone.caught_up_ms, now_ms - self.lag_time_max_ms - 1)",
        "pass",
        RULES,
    ),
    Bug(
        "flush=ack judges a member by what it fetched",
        REPLICA,
        "return self._end(progress) != self.log_end and now_ms",
        "return progress.fetch_offset != self.log_end and now_ms",
        RULES,
    ),
    Bug(
        "flush=ack takes a fetch for a sync when it looks at the pace",
        REPLICA,
        "end = progress.synced_end if self.flush_ack else fetch_offset",
        "end = fetch_offset",
        RULES,
    ),
    Bug(
        "a member that will be late has no deadline",
        REPLICA,
        "if self.pending is None and self._end(progress) != self.log_end:",
        "if False:",
        RANDOM,
    ),
    Bug(
        "the end of the mark's waiting has no deadline",
        REPLICA,
        "elif self._joins_soon(node_id, progress, now_ms):\n                due",
        "elif False:\n                due",
        RANDOM,
    ),
    Bug(
        "nobody looks when the time has come",
        PARTITION,
        "                self._deadline = self._host.call_in(",
        "                (lambda *_: None)(",
        ISR,
    ),
    Bug(
        "an event does not bring the next look forward",
        PARTITION,
        "(self._deadline is None or deadline_ms < self._deadline_ms)",
        "self._deadline is None",
        ISR,
    ),
    Bug(
        "an event puts the next look off",
        PARTITION,
        "(self._deadline is None or deadline_ms < self._deadline_ms)",
        "True",
        ISR,
    ),
    Bug(
        "a log whose directory is gone counts as whole",
        BROKER,
        "            self._gone.add(key)",
        "            pass",
        HAZARDS,
    ),
    Bug(
        "what was fetched again counts only once something is written",
        "node/broker/fetcher.py",
        "                    not (batches or followed.marks_only) or 0 <",
        "                    not (batches or followed.marks_only) and 0 <",
        HAZARDS,
    ),
    Bug(
        "a follower takes what is beyond its leader's epoch",
        PARTITION,
        "leader_epoch=follower.leader_epoch, now_ms=now_ms)",
        "leader_epoch=2**31, now_ms=now_ms)",
        FETCHES,
    ),
    Bug(
        "a log beyond the epoch leads",
        PARTITION,
        "if latest is not None and latest > state.leader_epoch:",
        "if False:",
        FETCHES,
    ),
    Bug(
        "a full follower goes on fetching",
        "node/broker/fetcher.py",
        "followed.marks_only = self._broker.disk_full and not self._broker.may_fetch(partition)",
        "followed.marks_only = False",
        HAZARDS,
    ),
    Bug(
        "full disks refuse nothing",
        PARTITION,
        "if leader.full and (full := leader.without_room):",
        "if not leader:",
        HAZARDS,
    ),
    Bug(
        "a restarted node leads before its registration is in the metadata",
        BROKER,
        "return own is not None and own.broker_epoch == self._broker_epoch",
        "return own is not None",
        HAZARDS,
    ),
    Bug(
        "newcomers push out a producer that is at work",
        PRODUCERS,
        "        if idle_ms < KEPT_MS:\n",
        "        if False:\n",
        SEQUENCES,
    ),
    Bug(
        "an id that nobody was given writes",
        PARTITION,
        "if not self._host.producer_id_given(header.producer_id):",
        "if False:",
        ONE,
    ),
    Bug(
        "a log that cannot be read for its followers leads on",
        PARTITION,
        "        except OffsetOutOfRange:\n            raise\n        except (StorageError, OSError) as error:\n"
        "            raise self.storage_error(error) from None\n\n    def follower_fetched",
        "        except (StorageError, OSError):\n            raise\n\n    def follower_fetched",
        FETCHES,
    ),
    Bug(
        "a jump of the clock shows with the controller's next answer",
        "node/broker/clock.py",
        "        return None if offset_ms is None else self._wall_ms() - self._clock_ms() - offset_ms\n",
        "        return None if offset_ms is None else 0\n",
        "test_clock.py",
    ),
    Bug(
        "an import's producers are somebody's earlier tries",
        PRODUCERS,
        "header.producer_id == 0 or header.attributes & ATTR_IMPORTED",
        "header.producer_id == 0",
        IMPORTS,
    ),
    Bug(
        "what is being imported is served",
        PARTITION,
        "if self.settings.importing:",
        "if self.closed:",
        IMPORTS,
    ),
    Bug(
        "an import appends again what is there",
        IMPORT,
        "if log_end != log.log_end_offset or batches[0].header.base_offset < log_end:",
        "if batches[0].header.base_offset < log_end:",
        IMPORTS,
    ),
    Bug(
        "an imported log begins at 0",
        BROKER,
        "now_ms=self.wall_ms(), log_start_offset=start)",
        "now_ms=self.wall_ms())",
        IMPORTS,
    ),
    Bug(
        "a block from before an import is handed out",
        BROKER,
        "self._producer_ids.none_below(image.next_producer_id)",
        "pass",
        IMPORTS,
    ),
    Bug(
        "a batch of an import is not counted",
        IMPORT,
        "if count != header.record_count or last > header.last_offset_delta:",
        "if last > header.last_offset_delta:",
        IMPORTS,
    ),
    Bug(
        "retention goes by defaults before there is metadata",
        HOUSEKEEPING,
        "if partition.state is None:",
        "if partition.closed:",
        IMPORTS,
    ),
]


def run_copy(root: Path, bug: Bug | None) -> subprocess.CompletedProcess[str]:
    skip = shutil.ignore_patterns("__pycache__", ".hypothesis")
    for part in ("node", "ottla", "storage", "tests/node/broker"):
        shutil.copytree(ROOT / part, root / part, ignore=skip)
    shutil.copy(ROOT / "pyproject.toml", root)
    tests = sorted({bug.tests for bug in BUGS})
    if bug is not None:
        source = root / bug.file
        text = source.read_text()
        assert text.count(bug.old) == 1, f"{bug.name}: the line to break is not there (any more)"
        source.write_text(text.replace(bug.old, bug.new))
        tests = [bug.tests]
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
    command += [f"tests/node/broker/{name}" for name in tests]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(root)}
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.long
@pytest.mark.timeout(320)
def test_without_a_bug_the_copy_is_green(tmp_path: Path) -> None:
    done = run_copy(tmp_path, None)
    assert done.returncode == 0, done.stdout[-3000:]


@pytest.mark.long
@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_planted_bug_is_caught(bug: Bug, tmp_path: Path) -> None:
    done = run_copy(tmp_path, bug)
    assert done.returncode == 1, f"{bug.name} was not noticed:\n{done.stdout[-2000:]}{done.stderr[-1000:]}"
    print(next((line for line in done.stdout.splitlines() if line.startswith("FAILED")), ""))


def test_every_planted_bug_is_listed_in_the_documentation() -> None:
    listed = (ROOT / "docs" / "testing.md").read_text()
    assert [bug.name for bug in BUGS if bug.name not in listed] == []
