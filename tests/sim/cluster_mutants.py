"""Bugs planted in copies of the sources, for the cluster simulation to find: how many seeds each of them takes.

python -m tests.sim.cluster_mutants            every bug, up to 12 seeds each (half an hour of one core)
python -m tests.sim.cluster_mutants 3 7        these
"""

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parents[2]
SEEDS_MAX: Final = 12
FIRST_SEED: Final = 200

REPLICA: Final = "node/broker/replica.py"
PARTITION: Final = "node/broker/partition.py"
ELECTIONS: Final = "node/controller/state/elections.py"


class Bug(NamedTuple):
    """`old` occurs once in `file`; `new` in its place is the bug."""

    name: str
    file: str
    old: str
    new: str


BUGS: Final = [
    Bug("the high watermark moves below min ISR", REPLICA, "len(self.isr) < self.effective_min_isr:", "False:"),
    Bug(
        "flush=ack counts what the leader has not synced",
        REPLICA,
        "mark = self.synced_end if flush_ack else self.log_end",
        "mark = self.log_end",
    ),
    Bug(
        "a follower joins below the high watermark and the start of the epoch",
        REPLICA,
        "end is None or end < self.high_watermark or end < self.epoch_start",
        "end is None",
    ),
    Bug(
        "the high watermark is the leader's log end",
        REPLICA,
        "                mark = end\n        self.high_watermark = mark",
        "                pass\n        self.high_watermark = mark",
    ),
    Bug(
        "followers never truncate by epoch",
        REPLICA,
        "return (epoch, end) if epoch < last_fetched_epoch or end < fetch_offset else None",
        "return None",
    ),
    Bug(
        "a log cut at damage leads before it was fetched again",
        PARTITION,
        "        if records.refetching:\n            if not state.recovering:",
        "        if records.refetching:\n            if False:",
    ),
    Bug(
        "producers outlive a truncation",
        PARTITION,
        "        if not self.producers.truncated(end):\n            self.rebuild_producers()",
        "        pass",
    ),
    Bug(
        "a started node knows no producers",
        PARTITION,
        "        table.replay(\n",
        "        (lambda *_: None)(\n",
    ),
    Bug(
        "a restarted node acts on what the metadata says of its last incarnation",
        "node/broker/broker.py",
        "own is None or own.broker_epoch != self._broker_epoch:",
        "own is None:",
    ),
    Bug(
        "an answer to a position of an earlier epoch counts",
        "node/broker/fetcher.py",
        "        if not followed.asked or (result.leader_epoch != follower.leader_epoch and not result.HasField",
        "        if False and (result.leader_epoch != follower.leader_epoch and not result.HasField",
    ),
    Bug(
        "any replica that was ever in sync stays eligible",
        ELECTIONS,
        "    elr = tuple(n for n in replicas if n in were_eligible and n not in new_isr and n not in lost)",
        "    elr = tuple(n for n in replicas if n in were_eligible and n not in new_isr)",
    ),
    Bug(
        "a wiped disk counts as the old replica",
        ELECTIONS,
        "may_have_lost = wiped or (lost_by_flush",
        "may_have_lost = (lost_by_flush",
    ),
    Bug(
        "a loss of power is not reported",
        "storage/directory.py",
        "directory._unreported = not directory.same_boot",
        "directory._unreported, directory.same_boot = False, True",
    ),
    Bug(
        "members are told before the group's records are committed",
        "node/groups/shell.py",
        "            committed.add_done_callback(partial(self._committed, shard, outcome))",
        "            self._deliver(shard, outcome)",
    ),
    Bug(
        "groups are loaded without their log's end",
        "node/groups/shell.py",
        "        end = replica.log.log_end_offset  #",
        "        end = replica.log.log_end_offset // 2  #",
    ),
    Bug(
        "a stale member may commit",
        "node/groups/coordinator.py",
        "        if request.member_epoch < member.member_epoch:",
        "        if False:",
    ),
    Bug(
        "a partition goes to its next owner before the last one gave it back",
        "node/groups/coordinator.py",
        "free = frozenset(tp for tp in target - member.assigned if tp not in group.owners)",
        "free = frozenset(target - member.assigned)",
    ),
    Bug(
        "a member starts where the partition ends",
        "ottla/client/group_work.py",
        "                state.seek(gain.offset, gain.leader_epoch)",
        "                state.seek(gain.offset + 1, gain.leader_epoch)",
    ),
    Bug(
        "what was handed out counts as processed at once",
        "ottla/client/group_work.py",
        "        self._handed_out.update((r.topic_partition, Position(r.offset + 1, r.leader_epoch)) for r in records)",
        "        self._processed.update((r.topic_partition, Position(r.offset + 9, r.leader_epoch)) for r in records)",
    ),
    Bug(
        "a seek keeps where it has fetched to",
        "ottla/client/fetch_state.py",
        "            self.fetch_offset = self.position\n            self.fetched_epoch",
        "            self.fetched_epoch",
    ),
    Bug(
        "a retry takes a new sequence",
        "ottla/client/producer_state.py",
        "        batch.attempt += 1\n        batch.sent_to",
        "        batch.attempt += 1\n        if batch.attempt > 1:\n            self._number(queue, batch)\n"
        "        batch.sent_to",
    ),
    Bug(
        "a batch overtakes one that waits for its retry",
        "ottla/client/producer_state.py",
        "                if batch.retry_at_ms > now_ms or batch.new_epoch:\n                    return None",
        "                if batch.retry_at_ms > now_ms or batch.new_epoch:\n                    continue",
    ),
    Bug(
        "one batch of a producer is remembered",
        "node/broker/producers.py",
        "BATCHES_REMEMBERED = 5",
        "BATCHES_REMEMBERED = 1",
    ),
    Bug(
        "an unknown producer may start anywhere",
        "node/broker/producers.py",
        "            if sequence != 0:\n                raise ApiError(\n                    "
        'pb.ERROR_CODE_OUT_OF_ORDER_SEQUENCE_NUMBER,\n                    f"this partition',
        "            if False:\n                raise ApiError(\n                    "
        'pb.ERROR_CODE_OUT_OF_ORDER_SEQUENCE_NUMBER,\n                    f"this partition',
    ),
]


def plant(bug: Bug, root: Path) -> None:
    """Changes the copy below `root`. Raises ValueError where the line has gone."""
    path = root / bug.file
    text = path.read_text()
    if text.count(bug.old) != 1:
        raise ValueError(f"{bug.name}: {bug.old!r} is {text.count(bug.old)} times in {bug.file}")
    path.write_text(text.replace(bug.old, bug.new))


def search(bug: Bug) -> str:
    """Which seed notices it, and as what."""
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        for part in ("node", "ottla", "raft", "storage", "tests"):
            shutil.copytree(ROOT / part, root / part, ignore=shutil.ignore_patterns("__pycache__"))
        plant(bug, root)
        seeds = f"{FIRST_SEED}:{FIRST_SEED + SEEDS_MAX}"
        command = [sys.executable, "-m", "tests.sim.cluster_sim", "--seeds", seeds]
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    found = re.search(r"seed (\d+) failed after \d+ events at [\d.]+ ms: (.*)", done.stdout)
    if found is None:
        return "not noticed" if done.returncode == 0 else f"the run broke: {done.stderr[-300:]}"
    return f"{int(found[1]) - FIRST_SEED + 1} seeds: {found[2][:110]}"


def main() -> None:
    chosen = [int(number) for number in sys.argv[1:]] or range(len(BUGS))
    for number in chosen:
        print(f"{number} | {BUGS[number].name} | {search(BUGS[number])}", flush=True)


if __name__ == "__main__":
    main()
