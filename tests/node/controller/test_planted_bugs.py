"""Planted bugs: each makes one rule of the controller wrong, and the fast tests must turn red (docs/testing.md).

A copy of the sources is changed, never the work tree.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[3]


class Bug(NamedTuple):
    name: str
    file: str
    old: str
    new: str


STATE = "node/controller/state"
BUGS = [
    Bug(
        "any-live-replica-may-lead",
        f"{STATE}/elections.py",
        "    eligible = [n for n in elr if n in live]\n",
        "    eligible = live\n",
    ),
    Bug(
        "elr-keeps-replicas-that-lost-data",
        f"{STATE}/elections.py",
        "n in were_eligible and n not in new_isr and n not in lost)",
        "n in were_eligible and n not in new_isr)",
    ),
    Bug(
        "elr-outlives-min-isr",
        f"{STATE}/elections.py",
        "    if len(new_isr) >= enough or not choice.clean:\n",
        "    if not choice.clean:\n",
    ),
    Bug(
        "fenced-broker-stays-in-isr",
        f"{STATE}/elections.py",
        "n in wanted and n not in lost and draft.eligible(n, partition))",
        "n in wanted and n not in lost)",
    ),
    Bug(
        "no-broker-epoch-check-in-isr-changes",
        f"{STATE}/partitions.py",
        "broker.broker_epoch != member.broker_epoch:",
        "False:",
    ),
    Bug(
        "no-partition-epoch-check",
        f"{STATE}/partitions.py",
        "    if wish.partition_epoch != partition.partition_epoch:\n",
        "    if False:\n",
    ),
    Bug(
        "no-leader-epoch-check",
        f"{STATE}/partitions.py",
        "    if wish.leader_epoch < partition.leader_epoch:\n",
        "    if False:\n",
    ),
    Bug(
        "old-incarnation-may-beat",
        f"{STATE}/draft.py",
        "        if broker.broker_epoch != broker_epoch:\n",
        "        if False:\n",
    ),
    Bug(
        "wiped-disk-counts-as-the-old-replica",
        f"{STATE}/brokers.py",
        "lost_by_flush=request.unclean_stop, wiped=wiped)",
        "lost_by_flush=request.unclean_stop, wiped=False)",
    ),
    Bug(
        "a-deleted-log-counts-as-whole",
        f"{STATE}/brokers.py",
        "    for lost in request.lost_partitions:\n",
        "    for lost in ():\n",
    ),
    Bug(
        "a-wiped-replica-is-waited-for",
        f"{STATE}/elections.py",
        "n not in (*new_isr, *elr, *wiped))",
        "n not in (*new_isr, *elr))",
    ),
    Bug(
        "a-wiped-replica-leads-before-others-are-back",
        f"{STATE}/elections.py",
        "        last_known = replicas\n",
        "        last_known = tuple(wiped)\n",
    ),
    Bug(
        "a-log-of-nothing-leads",
        f"{STATE}/elections.py",
        "end.log_end_offset > 0) or len(live)",
        "end.log_end_offset >= 0) or len(live)",
    ),
    Bug(
        "unclean-stop-forgotten",
        f"{STATE}/brokers.py",
        "lost_by_flush=request.unclean_stop, wiped=wiped)",
        "lost_by_flush=False, wiped=wiped)",
    ),
    Bug(
        "restart-keeps-its-leaderships",
        f"{STATE}/brokers.py",
        "    reconsider_all(draft, request.node_id, cause, lost_by_flush",
        "    0 and reconsider_all(draft, request.node_id, cause, lost_by_flush",
    ),
    Bug(
        "election-before-all-log-ends-are-known",
        f"{STATE}/elections.py",
        "        if all(draft.log_end(n, partition) is not None for n in live):\n",
        "        if any(draft.log_end(n, partition) is not None for n in live):\n",
    ),
    Bug(
        "log-end-of-an-earlier-epoch-counts",
        f"{STATE}/draft.py",
        "return report.log_end if report.leader_epoch == partition.leader_epoch else None",
        "return report.log_end",
    ),
    Bug(
        "shortest-log-wins",
        f"{STATE}/elections.py",
        "    return max(\n        (n for n in partition.replicas if n in candidates),",
        "    return min(\n        (n for n in partition.replicas if n in candidates),",
    ),
    Bug(
        "lower-min-isr-keeps-eligible-replicas",
        f"{STATE}/resource_configs.py",
        '        _reconsider_topic(draft, topic.topic_id, f"a config of {topic.name} changed")\n',
        "        pass\n",
    ),
    Bug(
        "new-controller-forgets-silent-brokers",
        f"{STATE}/brokers.py",
        "        if not broker.fenced:\n            silent_ms",
        "        if not broker.fenced and draft.soft.contacts[broker.node_id].metadata_index:\n            silent_ms",
    ),
    Bug(
        "own-sleep-counts-as-silence",
        f"{STATE}/brokers.py",
        "    if slept_ms > 0:\n",
        "    if False:\n",
    ),
    Bug(
        "wedged-data-loop-looks-alive",
        f"{STATE}/brokers.py",
        "    wedged = request.data_loop_age_ms >= draft.settings.session_timeout_ms\n",
        "    wedged = False\n",
    ),
    Bug(
        "broker-may-stop-before-the-new-leaders-know",
        f"{STATE}/brokers.py",
        "contacts[b.node_id].metadata_index >= moved_at for b in others)",
        "contacts[b.node_id].metadata_index >= 0 for b in others)",
    ),
    Bug(
        "manual-assignment-takes-fenced-brokers",
        f"{STATE}/placement.py",
        "        if not set(replicas) <= live:\n",
        "        if not set(replicas) <= set(draft.view.brokers):\n",
    ),
    Bug(
        "answer-leaves-at-append",
        "node/controller/shell.py",
        "        committed = self._publisher.image.index\n",
        "        committed = self._log_end.index\n",
    ),
    Bug(
        "an-entry-of-another-term-answers-ours",
        "node/controller/shell.py",
        "        if self._term is not None and image.term > self._term:\n",
        "        if False:\n",
    ),
    Bug(
        "producer-ids-start-over-with-each-controller",
        "node/metadata/apply.py",
        "        self._next_producer_id = record.next_producer_id\n",
        "        pass\n",
    ),
    Bug(
        "snapshot-forgets-who-is-unfenced",
        "node/metadata/apply.py",
        "        if not broker.fenced or broker.in_controlled_shutdown:\n",
        "        if broker.in_controlled_shutdown:\n",
    ),
    Bug(
        "a-level-is-finalized-that-a-node-lacks",
        f"{STATE}/features.py",
        "        if not broker.min_metadata_version <= level <= broker.max_metadata_version\n",
        "        if False\n",
    ),
    Bug(
        "a-level-is-taken-back",
        f"{STATE}/features.py",
        "    if level < before:\n",
        "    if False:\n",
    ),
    Bug(
        "snapshot-forgets-what-a-node-supports",
        "node/metadata/apply.py",
        "        max_metadata_version=broker.max_metadata_version,\n",
        "",
    ),
    Bug(
        "a-full-disk-stays-in-the-isr",
        f"{STATE}/elections.py",
        "    if len(roomy) >= enough and not topic.internal:\n",
        "    if False:\n",
    ),
    Bug(
        "a-full-disk-leaves-an-isr-that-is-too-small",
        f"{STATE}/elections.py",
        "    if len(roomy) >= enough and not topic.internal:\n",
        "    if roomy and not topic.internal:\n",
    ),
    Bug(
        "the-earliest-clock-is-the-clusters",
        f"{STATE}/draft.py",
        "known[(len(known) - 1) // 2]",
        "known[0]",
    ),
    Bug(
        "a-lease-that-ends-is-not-looked-at",
        "node/controller/shell.py",
        "        return min(TICK_S, max(TICK_MIN_S, left_ms / 1000))\n",
        "        return TICK_S\n",
    ),
    Bug(
        "an-unclean-election-is-bounded-by-some",
        f"{STATE}/leaders.py",
        " if len(bounds) == len(ends) else NOT_KNOWN",
        "",
    ),
    Bug(
        "what-is-only-validated-elects",
        f"{STATE}/leaders.py",
        "    if request.validate_only:\n        draft = draft.scratch()\n",
        "",
    ),
    Bug(
        "a-node-gets-more-than-it-carries",
        f"{STATE}/placement.py",
        "        if 0 < carries < limit:\n",
        "        if False:\n",
    ),
    Bug(
        "new-topics-go-to-drained-brokers",
        f"{STATE}/topics.py",
        "    takers = draft.takers()\n    count",
        "    takers = draft.live_brokers()\n    count",
    ),
    Bug(
        "a-drained-broker-keeps-its-leaderships",
        f"{STATE}/leaders.py",
        "    _hand_over(draft)\n",
        "",
    ),
    Bug(
        "a-drained-broker-gets-its-leaderships-back",
        f"{STATE}/leaders.py",
        "                or draft.draining(preferred)\n",
        "",
    ),
    Bug(
        "a-drain-goes-to-another-drained-broker",
        f"{STATE}/draining.py",
        " and not is_draining(image, b.node_id)]",
        "]",
    ),
    Bug(
        "who-is-unregistered-keeps-its-replicas",
        f"{STATE}/unregister.py",
        "    if held:\n",
        "    if False:\n",
    ),
    Bug(
        "a-node-that-is-up-is-unregistered",
        f"{STATE}/unregister.py",
        "    if not broker.fenced and not draft.draining(node_id):\n",
        "    if False:\n",
    ),
    Bug(
        "who-was-unregistered-comes-back",
        f"{STATE}/brokers.py",
        "    check_directory(draft, request.node_id, request.directory_id)\n",
        "",
    ),
    Bug(
        "a-heal-goes-on-when-the-node-is-back",
        f"{STATE}/heal.py",
        "or (n in before and n not in partition.isr)]",
        "or n in before]",
    ),
    Bug(
        "a-heal-that-was-called-off-begins-again",
        f"{STATE}/heal.py",
        "            due = gone - left_alone.get(key, set())\n",
        "            due = gone\n",
    ),
    Bug(
        "a-heal-replaces-the-plans-of-others",
        f"{STATE}/heal.py",
        "    moves_for_others = partition.target and not instead\n",
        "    moves_for_others = False\n",
    ),
    Bug(
        "a-plan-crowds-racks",
        f"{STATE}/plan.py",
        "self._spread(_replaced(there, source, to)) <= self._spread(there)",
        "True",
    ),
    Bug(
        "a-plan-copies-the-largest",
        f"{STATE}/plan.py",
        "        for order in self.on[source]:\n",
        "        for order in reversed(self.on[source]):\n",
    ),
    Bug(
        "a-plan-takes-what-moves",
        f"{STATE}/plan.py",
        "if partition.target or partition.leader == NO_LEADER or",
        "if partition.leader == NO_LEADER or",
    ),
]
TESTS = ["tests/node/controller", "tests/node/metadata"]
SLOW = ["test_planted_bugs.py", "test_lifecycle.py"]


def run_copy(root: Path, change: Bug | None) -> subprocess.CompletedProcess[str]:
    skip = shutil.ignore_patterns("__pycache__", ".hypothesis")
    for part in ("node", "ottla", "tests/node"):
        shutil.copytree(ROOT / part, root / part, ignore=skip)
    shutil.copy(ROOT / "pyproject.toml", root)
    if change is not None:
        source = root / change.file
        text = source.read_text()
        assert text.count(change.old) == 1, f"{change.name}: the line to break is not there (any more)"
        source.write_text(text.replace(change.old, change.new))
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *TESTS]
    command += [f"--ignore=tests/node/controller/{name}" for name in SLOW]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(root)}
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=120)


@pytest.mark.long
def test_without_a_bug_the_copy_is_green(tmp_path: Path) -> None:
    done = run_copy(tmp_path, None)
    assert done.returncode == 0, done.stdout[-3000:]


@pytest.mark.long
@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_planted_bug_is_caught(bug: Bug, tmp_path: Path) -> None:
    done = run_copy(tmp_path, bug)
    assert done.returncode == 1, f"{bug.name} was not noticed:\n{done.stdout[-2000:]}{done.stderr[-1000:]}"
    print(next((line for line in done.stdout.splitlines() if line.startswith("FAILED")), ""))
