"""Bugs planted in copies of the sources, for the cluster simulation to find: how many seeds each of them takes.

python -m tests.sim.cluster_mutants            every bug, up to 12 seeds each (half an hour of one core)
python -m tests.sim.cluster_mutants 3 7 --seeds 40
"""

import argparse
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
UNCHECKED: Final = (ELECTIONS, "    check_leaving(topic, partition, after, rules)\n", "")
"""The controller's own check of what leaves is left out, too: it would stop the controller at once."""


class Bug(NamedTuple):
    """`old` occurs once in `file`; `new` in its place is the bug, or a part of it: `more` has others."""

    name: str
    file: str
    old: str
    new: str
    more: tuple[tuple[str, str, str], ...] = ()
    faults: str = ""
    """The kinds of faults that show it; those that a seed draws if empty."""
    first: int = FIRST_SEED
    moves: bool = False
    """Whether partitions must move for it to show."""

    @property
    def changes(self) -> tuple[tuple[str, str, str], ...]:
        return ((self.file, self.old, self.new), *self.more)


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
        "        self.producers = producers\n        if",
        "        if",
        faults="leaders in turn,isolate leader",
    ),
    Bug(
        "who wrote before a gap is known behind it",
        PARTITION,
        "self._cut(records.reset_to, offset, ProducerTable())",
        "self._cut(records.reset_to, offset, *self.producers.until(offset))",
        first=92001,
    ),
    Bug(
        "a started node knows no producers",
        PARTITION,
        "        table.replay(headers, end, self._host.clock_ms(), high_watermark)\n",
        "        pass\n",
        faults="kill leader",
    ),
    Bug(
        "a restarted node acts on what the metadata says of its last incarnation",
        "node/broker/broker.py",
        "return own is not None and own.broker_epoch == self._broker_epoch",
        "return own is not None",
    ),
    Bug(
        "an answer to an earlier position counts",
        "node/broker/fetcher.py",
        "        if result.position != followed.asked:",
        "        if False:",
        faults="disk full,slow node",
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
        faults="power",
    ),
    Bug(
        "members are told before the group's records are committed",
        "node/groups/shell.py",
        "            shard.last_append.add_done_callback(partial(self._committed, shard, outcome, together))",
        "            self._deliver(shard, outcome, together)",
    ),
    Bug(
        "groups are loaded without their log's end",
        "node/groups/shell.py",
        "        end = replica.log.log_end_offset  #",
        "        end = replica.log.log_end_offset // 2  #",
    ),
    Bug(
        "a stale member may commit",
        "node/groups/offsets.py",
        "    if epoch < member.member_epoch:",
        "    if False:",
    ),
    Bug(
        "a partition goes to its next owner before the last one gave it back",
        "node/groups/targets.py",
        "free = frozenset(tp for tp in group.target(member.member_id) - member.assigned if tp not in group.owners)",
        "free = frozenset(group.target(member.member_id) - member.assigned)",
    ),
    Bug(
        "a member starts where the partition ends",
        "ottla/client/group_work.py",
        "                state.begin(gain.offset, gain.leader_epoch)",
        "                state.begin(gain.offset + 1, gain.leader_epoch)",
    ),
    Bug(
        "what was handed out counts as processed at once",
        "ottla/client/fetch_state.py",
        "                        self.work_began = Position(self.position or 0, self.position_epoch)",
        "                        self.work_began = Position((self.position or 0) + 9, self.position_epoch)",
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
        "or batch.new_epoch or position >= MAX_IN_FLIGHT:\n                    return None",
        "or batch.new_epoch or position >= MAX_IN_FLIGHT:\n                    continue",
        faults="kill leader",
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
    Bug(
        "the high watermark ignores a member whose growth is in flight",
        REPLICA,
        "self.maximal_isr = self.isr | nodes",
        "self.maximal_isr = self.isr",
        faults="cut who joins",
    ),
    Bug(
        "a shrink counts before the controller has made it",
        REPLICA,
        "self.maximal_isr = self.isr | nodes",
        "self.maximal_isr = nodes",
    ),
    Bug(
        "divergence is judged by offsets alone",
        REPLICA,
        "if epoch < last_fetched_epoch or end < fetch_offset else None",
        "if end < fetch_offset else None",
        faults="leaders in turn",
    ),
    Bug(
        "a follower cuts to the leader's end of an epoch it does not have",
        REPLICA,
        "return min(end, own_end) if own_epoch == epoch else own_end",
        "return end",
        faults="leaders in turn",
    ),
    Bug(
        "the mark outlives the truncation",
        REPLICA,
        "        self.high_watermark = log_end\n        return True",
        "        return True",
        faults="kill,kill follower,power",
        first=239,
    ),
    Bug(
        "flush=ack counts what followers have not synced",
        REPLICA,
        "end = progress.synced_end if flush_ack else progress.fetch_offset\n            if",
        "end = progress.fetch_offset\n            if",
    ),
    Bug(
        "reads go beyond the high watermark",
        PARTITION,
        "records.read(offset, max_bytes, end, min_one=min_one, verify=True)",
        "records.read(offset, max_bytes, 2**62, min_one=min_one, verify=True)",
        ((PARTITION, "if start <= offset < end:\n", "if start <= offset < records.log_end_offset:\n"),),
    ),
    Bug(
        "a diverged position counts",
        PARTITION,
        "        if diverging is not None:\n            return diverging\n        if not records",
        "        if not records",
    ),
    Bug(
        "acknowledged before it is replicated",
        PARTITION,
        "elif appended.end_offset <= leader.high_watermark:",
        "elif appended.end_offset >= 0:",
    ),
    Bug(
        "a leader acknowledges what it wrote in an earlier epoch",
        PARTITION,
        "        self.acks.fail(lambda: refusals.leader_changed(self.name, hint))\n",
        "",
        faults="isolate leader,freeze leader",
    ),
    Bug(
        "a follower truncates to its own high watermark",
        PARTITION,
        "high_watermark=mark)\n        if self.log.damaged_at",
        "high_watermark=mark)\n        self._truncate(mark)\n        if self.log.damaged_at",
    ),
    Bug(
        "followers do not learn the producers",
        PARTITION,
        "self.producers.appended(header, header.base_offset, clock_ms, follower.high_watermark)\n",
        "pass\n",
    ),
    Bug(
        "out of range without the leader's log start",
        "node/broker/replication.py",
        "            if partition is not None:\n                # With an error",
        "            if partition is None:\n                # With an error",
    ),
    Bug(
        "a stream's broker epoch is not compared",
        "node/broker/replication.py",
        "self._broker_epoch if self._is_current() else None",
        "self._broker_epoch",
        faults="metadata overtakes",
    ),
    Bug(
        "a follower answers for what it has not written",
        "node/broker/fetcher.py",
        "                fetch_offset=records.log_end_offset,",
        "                fetch_offset=records.log_end_offset + 1,",
    ),
    Bug(
        "a producer names no leader epoch",
        "ottla/client/encode.py",
        "topic=topic, topic_id=topic_id, partition=partition, current_leader_epoch=leader_epoch",
        "topic=topic, topic_id=topic_id, partition=partition",
        faults="kill leader",
    ),
    Bug(
        "any live replica may lead",
        ELECTIONS,
        "    eligible = [n for n in elr if n in live]\n",
        "    eligible = live\n",
    ),
    Bug(
        "the ELR outlives min ISR",
        ELECTIONS,
        "    if len(new_isr) >= enough or not choice.clean:\n",
        "    if not choice.clean:\n",
    ),
    Bug(
        "a fenced broker stays in the ISR",
        ELECTIONS,
        "n in wanted and n not in lost and draft.eligible(n, partition))",
        "n in wanted and n not in lost)",
    ),
    Bug(
        "an election before all log ends are known",
        ELECTIONS,
        "        if all(draft.log_end(n, partition) is not None for n in live):\n",
        "        if any(draft.log_end(n, partition) is not None for n in live):\n",
        faults="power of all",
    ),
    Bug(
        "the shortest log wins",
        ELECTIONS,
        "    return max(\n        (n for n in partition.replicas if n in candidates),",
        "    return min(\n        (n for n in partition.replicas if n in candidates),",
        faults="power of all",
    ),
    Bug(
        "ISR changes of an earlier partition epoch count",
        "node/controller/state/partitions.py",
        "    if wish.partition_epoch != partition.partition_epoch:\n",
        "    if False:\n",
        faults="metadata overtakes",
    ),
    Bug(
        "ISR changes name members without their broker epoch",
        "node/controller/state/partitions.py",
        "broker.broker_epoch != member.broker_epoch:",
        "False:",
        faults="restart who joins",
    ),
    Bug(
        "an unclean stop is forgotten",
        "node/controller/state/brokers.py",
        "lost_by_flush=request.unclean_stop, wiped=wiped)",
        "lost_by_flush=False, wiped=wiped)",
        faults="power",
    ),
    Bug(
        "a restart keeps its leaderships",
        "node/controller/state/brokers.py",
        "    reconsider_all(draft, request.node_id, cause, lost_by_flush",
        "    0 and reconsider_all(draft, request.node_id, cause, lost_by_flush",
    ),
    Bug(
        "the controller answers before its entry is committed",
        "node/controller/shell.py",
        "        committed = self._publisher.image.index\n",
        "        committed = self._log_end.index\n",
    ),
    Bug(
        "producer ids start over with each controller",
        "node/metadata/apply.py",
        "        self._next_producer_id = record.next_producer_id\n",
        "        pass\n",
    ),
    Bug(
        "what only time changes is looked at on events alone",
        PARTITION,
        "            deadline_ms = leader.deadline_ms(now_ms)",
        "            deadline_ms = None",
    ),
    Bug(
        "flush=ack judges a member by what it fetched",
        REPLICA,
        "return self._end(progress) != self.log_end and now_ms",
        "return progress.fetch_offset != self.log_end and now_ms",
        faults="syncs of a log hang",
        first=202,
    ),
    Bug(
        "a full disk stays in the ISR",
        ELECTIONS,
        "    if len(roomy) >= enough and not topic.internal:",
        "    if False:",
        faults="disk full",
    ),
    Bug(
        "a clock that runs ahead says what is old",
        "node/broker/clock.py",
        "trusted, before = ahead_ms <= AHEAD_MAX_MS, self.trusted",
        "trusted, before = True, self.trusted",
    ),
    Bug(
        "a log that was deleted while its node was down is not reported",
        "node/control.py",
        "self._directory.lost_logs()\n",
        "()\n",
        faults="log lost while down",
    ),
    Bug(
        "a log whose directory is gone counts as whole",
        "node/broker/broker.py",
        "            self._gone.add(key)",
        "            pass",
        faults="log lost,kill all,kill leader",
    ),
    Bug(
        "a move is complete before all new replicas are in sync",
        ELECTIONS,
        "    return target <= set(isr)\n",
        "    return not target.isdisjoint(isr)\n",
        (UNCHECKED,),
        moves=True,
    ),
    Bug(
        "a move that is called off takes what the ISR needs",
        ELECTIONS,
        "    return len(left) == len(set(isr)) or len(left) >= enough\n",
        "    return bool(left)\n",
        (UNCHECKED, ("node/controller/state/moves.py", "    check_leaving(", "    0 and check_leaving(")),
        moves=True,
    ),
    Bug(
        "who is added counts as in sync",
        "node/controller/state/moves.py",
        "    after = reconsider(draft, begun, cause)\n",
        "    after = reconsider(draft, begun, cause, isr=(*begun.isr, *begun.adding))\n",
        moves=True,
    ),
    Bug(
        "a replica that moved away keeps its log",
        "node/broker/broker.py",
        "            if key in self.partitions:\n                self._remove(key)\n",
        "            self._following.stop(*key)\n",
        moves=True,
    ),
    Bug(
        "a leader takes the ISR that completes a move from the answer",
        "node/controller/state/partitions.py",
        "    if partition.target and not after.target:\n",
        "    if False:\n",
        moves=True,
    ),
    Bug(
        "internal topics are repaired while they move",
        "node/controller/state/repair.py",
        "        if partition.target:\n",
        "        if False:\n",
        moves=True,
    ),
    Bug(
        "a move that waited for a leader is forgotten",
        ELECTIONS,
        "    return reconsider(draft, after, cause) if after.target else after",
        "    return after",
        moves=True,
    ),
    Bug(
        "min ISR of a leader goes by the replicas from before for ever",
        REPLICA,
        "        self._factor = state.replication_factor\n",
        "        self._factor = getattr(self, '_factor', state.replication_factor)\n",
        moves=True,
    ),
    Bug(
        "a drained node leads like any other",
        ELECTIONS,
        "    others = [n for n in isr if not draft.draining(n)]\n",
        "    others = list(isr)\n",
        moves=True,
    ),
    Bug(
        "moves go to a drained node",
        "node/controller/state/moves.py",
        "    drained = [n for n in target if n not in partition.replicas and draft.draining(n)]\n",
        "    drained: list[int] = []\n",
        moves=True,
    ),
    Bug(
        "who was unregistered comes back with its disk",
        "node/controller/state/brokers.py",
        "    check_directory(draft, request.node_id, request.directory_id)\n",
        "",
        moves=True,
    ),
    Bug(
        "a node that is back is healed all the same",
        "node/controller/state/heal.py",
        "    gone = [broker for broker in draft.view.brokers.values() if broker.fenced]\n",
        "    gone = list(draft.view.brokers.values())\n",
        moves=True,
    ),
    Bug(
        "healing replaces the plans of others",
        "node/controller/state/heal.py",
        "    moves_for_others = partition.target and not instead\n",
        "    moves_for_others = False\n",
        moves=True,
    ),
    Bug(
        "what compaction leaves of a Kafka batch has the checksum from before",
        "storage/compaction.py",
        "header, made = repacked(header, stored)",
        "_, made = repacked(header, stored)",
    ),
    Bug(
        "a Kafka batch has the epoch that its producer knew",
        "storage/append.py",
        "sealed(header, payload, base_offset, leader_epoch)",
        "sealed(header, payload, base_offset, -1)",
    ),
    Bug(
        "a converted batch says that it is Kafka's",
        "node/broker/lookup.py",
        "~(ATTR_CODEC_MASK | ATTR_KIND_MASK)",
        "~ATTR_CODEC_MASK",
    ),
]


def plant(bug: Bug, root: Path) -> None:
    """Changes the copy below `root`. Raises ValueError where the line has gone."""
    for file, old, new in bug.changes:
        text = (root / file).read_text()
        if text.count(old) != 1:
            raise ValueError(f"{bug.name}: {old!r} is {text.count(old)} times in {file}")
        (root / file).write_text(text.replace(old, new))


def search(bug: Bug, seeds_max: int) -> str:
    """Which seed notices it, and as what."""
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        for part in ("node", "ottla", "raft", "storage", "tests"):
            shutil.copytree(ROOT / part, root / part, ignore=shutil.ignore_patterns("__pycache__"))
        plant(bug, root)
        seeds = f"{bug.first}:{bug.first + seeds_max}"
        command = [sys.executable, "-m", "tests.sim.cluster_sim", "--seeds", seeds, "--faults", bug.faults]
        command += ["--moves"] if bug.moves else []
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    found = re.search(r"seed (\d+) failed after \d+ events at [\d.]+ ms: (.*)", done.stdout)
    if found is None:
        return f"not in {seeds_max} seeds" if done.returncode == 0 else f"the run broke: {done.stderr[-300:]}"
    return f"{int(found[1]) - bug.first + 1} seeds: {found[2][:110]}"


def main() -> None:
    parser = argparse.ArgumentParser(description="Plants bugs for the cluster simulation to find.")
    parser.add_argument("numbers", type=int, nargs="*", help="which bugs; all by default")
    parser.add_argument("--seeds", type=int, default=SEEDS_MAX, help="how many seeds to try at most")
    options = parser.parse_args()
    for number in options.numbers or range(len(BUGS)):
        print(f"{number} | {BUGS[number].name} | {search(BUGS[number], options.seeds)}", flush=True)


if __name__ == "__main__":
    main()
