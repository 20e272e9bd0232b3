"""Bugs planted in the consensus core, one at a time, and what notices each: the proof that the tests bite.

`python -m tests.raft.mutants` looks for what notices them (slow); tests/raft/test_mutants.py checks that it still does.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Mutant:
    """`old`, which occurs once in raft/`file`, becomes `new`."""

    name: str
    file: str
    old: str
    new: str


MUTANTS = (
    Mutant(
        "a vote is sent before it is synced",
        "election.py",
        "    s.send(response, after_sync=True)\n",
        "    s.effects.send_now.append(response)\n",
    ),
    Mutant(
        "a vote is not written",
        "election.py",
        "        s.voted_for = m.sender\n        s.hard_state_changed = True",
        "        s.voted_for = m.sender",
    ),
    Mutant(
        "messages leave in a term that is not on disk",
        "state.py",
        "if after_sync or self.durable_term < self.term:",
        "if after_sync:",
    ),
    Mutant(
        "appends are acknowledged before they are synced",
        "replication.py",
        "s.send(AppendAccepted(s.cluster_id, s.me, leader, s.term, match_index), after_sync=True)",
        "s.send(AppendAccepted(s.cluster_id, s.me, leader, s.term, match_index))",
    ),
    Mutant(
        "the leader counts its own unsynced copy",
        "replication.py",
        "matches = [s.own_match_index if",
        "matches = [s.log.last_index if",
    ),
    Mutant(
        "entries of earlier terms are committed by counting",
        "replication.py",
        "if index <= s.commit_index or s.log.term_at(index) != s.term:",
        "if index <= s.commit_index:",
    ),
    Mutant(
        "the longer log wins, whatever its term",
        "election.py",
        "return (last_term, last_index) >= (s.log.last_term, s.log.last_index)",
        "return last_index >= s.log.last_index",
    ),
    Mutant(
        "any log wins",
        "election.py",
        "return (last_term, last_index) >= (s.log.last_term, s.log.last_index)",
        "return True",
    ),
    Mutant(
        "the vote is forgotten when stepping down inside a term",
        "state.py",
        "        if self.role is not Role.FOLLOWER:\n            self.role = Role.FOLLOWER",
        "        if self.role is not Role.FOLLOWER:\n            self.voted_for = None\n"
        "            self.role = Role.FOLLOWER",
    ),
    Mutant(
        "the vote is forgotten by a restart",
        "core.py",
        "voted_for=hard_state.voted_for if term == hard_state.term else None,",
        "voted_for=None,",
    ),
    Mutant(
        "two votes in a term",
        "election.py",
        "free = s.voted_for is None or s.voted_for == m.sender",
        "free = True",
    ),
    Mutant(
        "no pre-vote",
        "election.py",
        "    if electorate(s) == (s.me,):\n        become_candidate",
        "    if True:\n        become_candidate",
    ),
    Mutant(
        "no stickiness",
        "core.py",
        "if not s.leader_is_live or m.sender == s.leader:",
        "if True:",
    ),
    Mutant(
        "no check-quorum",
        "replication.py",
        "return heard >= majority(len(s.log.voters))",
        "return True",
    ),
    Mutant(
        "no no-op",
        "election.py",
        "s.term_start_index = s.append(EntryKind.NOOP).index",
        "s.term_start_index = s.log.last_index + 1",
    ),
    Mutant(
        "voters change before the leader has committed in its term",
        "membership.py",
        "if s.commit_index < s.term_start_index:",
        "if False:",
    ),
    Mutant(
        "two voter changes at once",
        "membership.py",
        "if s.log.voters_index > s.commit_index:",
        "if False:",
    ),
    Mutant(
        "a removed leader counts itself",
        "replication.py",
        "    index = majority_reached(matches)",
        "    if not s.is_voter:\n        matches.append(s.own_match_index)\n    index = majority_reached(matches)",
    ),
    Mutant(
        "a removed leader goes on leading",
        "membership.py",
        "if s.role is Role.LEADER and not s.is_voter and s.log.voters_index <= s.commit_index:",
        "if False:",
    ),
    Mutant(
        "a second leader of a term is followed",
        "core.py",
        "return self._s.leader_is_live and self._s.leader != sender",
        "return False",
    ),
    Mutant(
        "a member whose removal is open does not stand",
        "state.py",
        "return self.is_voter or removal_open",
        "return self.is_voter",
    ),
    Mutant(
        "a truncated voter change stays in force",
        "log.py",
        "while self._voter_sets[-1][0] >= index:",
        "while False:",
    ),
    Mutant(
        "a heartbeat's commit index is taken unchecked",
        "replication.py",
        "s.commit_to(min(m.commit_index, s.verified_index))",
        "s.commit_to(min(m.commit_index, s.log.last_index))",
    ),
    Mutant(
        "the leader's heartbeat claims its whole commit index, and the follower believes it",
        "replication.py",
        "s.commit_to(min(m.commit_index, last_index))",
        "s.commit_to(min(m.commit_index, s.log.last_index))",
    ),
    Mutant(
        "every append cuts the log",
        "replication.py",
        "        if term == entry.term:\n            continue",
        "        if term == entry.term and entry.index <= s.commit_index:\n            continue",
    ),
    Mutant(
        "conflicting entries stay",
        "replication.py",
        "        if term == entry.term:\n            continue",
        "        if term is not None:\n            continue",
    ),
    Mutant(
        "the entry before the new ones is not compared",
        "replication.py",
        "if s.log.term_at(m.prev_log_index) != m.prev_log_term:",
        "if s.log.term_at(m.prev_log_index) is None:",
    ),
    Mutant(
        "an old leader's appends are taken",
        "core.py",
        "        elif message.term < s.term:\n            self._answer_old_term(message)\n            return",
        "",
    ),
    Mutant(
        "a late completion vouches for another term",
        "core.py",
        "        if done.term != s.term:\n            return",
        "",
    ),
    Mutant(
        "a snapshot that conflicts with the log leaves it in place",
        "snapshots.py",
        "    if s.log.term_at(snapshot.last_index) == snapshot.last_term:\n        # A received",
        "    if s.log.term_at(snapshot.last_index) is not None:\n        # A received",
    ),
    Mutant(
        "a received snapshot drops entries that were not applied",
        "snapshots.py",
        "s.log.compact(snapshot, max(s.config.keep_entries, undelivered))",
        "s.log.compact(snapshot, s.config.keep_entries)",
    ),
    Mutant(
        "an older snapshot replaces a newer one",
        "snapshots.py",
        "    if snapshot.last_index <= s.log.snapshot.last_index:\n        return",
        "",
    ),
    Mutant(
        "a received snapshot drops acknowledged entries behind it",
        "snapshots.py",
        "if s.log.term_at(m.snapshot.last_index) == m.snapshot.last_term:",
        "if False:",
    ),
    Mutant(
        "chunks are written in the order they come",
        "snapshots.py",
        "if m.offset == incoming.received_bytes and m.data:",
        "if m.data:",
    ),
    Mutant(
        "a log that the snapshot made worthless is kept at a restart",
        "log.py",
        "    if first <= snapshot.last_index and entries[snapshot.last_index - first].term != snapshot.last_term:\n"
        "        return ()",
        "",
    ),
    Mutant(
        "a read is confirmed by any echo",
        "replication.py",
        "while s.pending_reads and s.pending_reads[0].round <= confirmed:",
        "while s.pending_reads and confirmed >= 0:",
    ),
    Mutant(
        "a read reuses the round before it",
        "replication.py",
        "    s.round += 1\n    s.pending_reads",
        "    s.pending_reads",
    ),
    Mutant(
        "reads before a commit in the own term",
        "core.py",
        "        s = self._leading(now_ms)\n        if s.commit_index < s.term_start_index:",
        "        s = self._leading(now_ms)\n        if False:",
    ),
    Mutant(
        "what was lost on the way is not sent again",
        "replication.py",
        "if p.waiting_since_ms is not None and s.now_ms - p.waiting_since_ms >= p.resend_ms:",
        "if False:",
    ),
    Mutant(
        "a follower's lost entries are not believed",
        "replication.py",
        "    p.match_index = min(p.match_index, m.hint_index)",
        "    if m.hint_index < p.match_index:\n        return",
    ),
    Mutant(
        "the vote of a damaged voter counts like any other",
        "state.py",
        "return self.log.last_index >= index or self.log.last_term > term",
        "return True",
    ),
    Mutant(
        "a repaired voter stays half a one",
        "replication.py",
        "if s.loss and m.loss == s.loss and s.verified_index >= m.whole_index:",
        "if False:",
    ),
    Mutant(
        "a word about an earlier loss ends this one",
        "replication.py",
        "if s.loss and m.loss == s.loss and s.verified_index >= m.whole_index:",
        "if s.loss and s.verified_index >= m.whole_index:",
    ),
    Mutant(
        "a damaged voter is whole before it holds what the leader held",
        "replication.py",
        "if s.loss and m.loss == s.loss and s.verified_index >= m.whole_index:",
        "if s.loss and m.loss == s.loss:",
    ),
    Mutant(
        "the leader forgets when it heard of the loss",
        "replication.py",
        "        p.loss, p.whole_index = m.loss, s.log.last_index\n",
        "        p.loss, p.whole_index = m.loss, 0\n",
    ),
    Mutant(
        "whom a damaged voter names need not agree",
        "election.py",
        "        s.named_voters += tuple(named)\n",
        "",
    ),
    Mutant(
        "whom a damaged voter names is not asked",
        "election.py",
        "        ask(s, named)\n",
        "",
    ),
    Mutant(
        "who is counted as a voter by others alone does not stand",
        "election.py",
        "        s.counted_as_voter = True\n",
        "",
    ),
    Mutant(
        "a new voter set counts before it is synced",
        "replication.py",
        "    if s.log.voters_index > max(s.commit_index, s.own_match_index):\n        return\n",
        "",
    ),
    Mutant(
        "observers count",
        "replication.py",
        "    index = majority_reached(matches)",
        "    matches += [p.match_index for peer, p in s.peers.items() if peer not in s.log.voters]\n"
        "    index = majority_reached(matches)",
    ),
    Mutant(
        "half of the voters are a majority",
        "quorum.py",
        "return members // 2 + 1",
        "return (members + 1) // 2",
    ),
    Mutant(
        "any term is adopted",
        "core.py",
        "if not 0 <= message.term <= min(MAX_TERM, s.term + self._term_jump()):",
        "if message.term < 0:",
    ),
    Mutant(
        "many small jumps reach the last term",
        "core.py",
        "            self._jumped += message.term - s.term\n",
        "",
    ),
    Mutant(
        "a jump of the term is never forgiven",
        "core.py",
        "self._jumped = max(0, self._jumped - back)",
        "pass",
    ),
    Mutant(
        "every answer is followed by a chunk",
        "snapshots.py",
        "    if m.next_offset == p.snapshot_offset:\n        return\n",
        "",
    ),
    Mutant(
        "a slow way is taken for a lossy one, again and again",
        "replication.py",
        "            p.resend_ms = min(2 * p.resend_ms, s.config.resend_max_ms)\n",
        "",
    ),
    Mutant(
        "who was away is asked again as seldom as before",
        "replication.py",
        "        p.resend_ms = s.config.resend_ms  # it was away",
        "        pass  # it was away",
    ),
    Mutant(
        "a snapshot of any size is received",
        "snapshots.py",
        "and 0 < m.size_bytes <= max_bytes",
        "and m.size_bytes > 0",
    ),
    Mutant(
        "the term of a malformed message is adopted",
        "core.py",
        "            s.drop(malformed)\n",
        "            s.drop(malformed)\n            s.term = max(s.term, message.term)\n",
    ),
    Mutant(
        "entries that are not what their kind says are appended",
        "replication.py",
        " or not entry.is_sound:",
        ":",
    ),
    Mutant(
        "messages for another directory are taken",
        "core.py",
        "or message.to != s.me or",
        "or",
    ),
)


def plant(mutant: Mutant, target: Path) -> None:
    """Copy the core and its tests to `target`, with the bug. Raises ValueError where the code has changed."""
    shutil.copytree(ROOT / "raft", target / "raft", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("raft", "sim"):
        shutil.copytree(ROOT / "tests" / name, target / "tests" / name, ignore=shutil.ignore_patterns("__pycache__"))
    path = target / "raft" / mutant.file
    source = path.read_text()
    if source.count(mutant.old) != 1:
        raise ValueError(f"{mutant.name}: its code occurs {source.count(mutant.old)} times in raft/{mutant.file}")
    path.write_text(source.replace(mutant.old, mutant.new))


def run(target: Path, *arguments: str, timeout_s: float = 120.0) -> tuple[bool, str]:
    """Run python in `target`; whether it succeeded, and what it wrote. Hanging is failing."""
    command = [sys.executable, "-B", *arguments]
    try:
        done = subprocess.run(command, cwd=target, capture_output=True, text=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired:
        return False, ""
    return done.returncode == 0, done.stdout + done.stderr


def run_seeds(target: Path, first: int, last: int) -> int | None:
    """Simulate the seeds `first`..`last - 1`; returns the first that fails."""
    passed, output = run(target, "-m", "tests.sim.raft_sim", "--seeds", f"{first}:{last}", timeout_s=600)
    if passed:
        return None
    failed = re.search(r"seed (\d+) failed", output)
    return int(failed[1]) if failed else first


def run_tests(target: Path, *tests: str) -> list[str]:
    """Run tests of tests/raft; returns the names of those that fail."""
    # A bug may make a test wait for ever: a test that takes long has failed.
    options = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "--import-mode=importlib", "--tb=no", "--timeout=20")
    passed, output = run(target, *options, *(f"tests/raft/{test}" for test in tests))
    failed = re.findall(r"^(?:FAILED|ERROR) tests/raft/(\S+)", output, re.MULTILINE)
    return failed if passed or failed else ["(nothing could run)"]


def search(mutant: Mutant, seeds: int) -> str:
    """Find what notices the bug, for a new entry of the table: a test, else a seed below `seeds`."""
    with tempfile.TemporaryDirectory() as directory:
        target = Path(directory)
        plant(mutant, target)
        failed = run_tests(
            target,
            "test_paper.py",
            "test_hazards.py",
            "test_snapshots.py",
            "test_quorum.py",
            "test_table.py",
            "test_forged.py",
        )
        if failed:
            return f"{mutant.name}: test {failed[0]} (of {len(failed)})"
        return f"{mutant.name}: seed {run_seeds(target, 0, seeds)}"


if __name__ == "__main__":
    for each in MUTANTS:
        if len(sys.argv) < 2 or sys.argv[1] in each.name:
            print(search(each, 60), flush=True)
