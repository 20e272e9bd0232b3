"""Proof that these tests bite: each bug is planted in a copy of the sources, and the named tests must turn red.

docs/testing.md has the list. About two minutes: `pytest -m long tests/node/quorum/test_planted_bugs.py -rP`.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[3]
DISK = "node/quorum/disk.py"
DURABLE = "storage/durable.py"
DRIVER = "node/quorum/driver.py"
FORMATION = "node/quorum/formation.py"
LINKS = "node/quorum/links.py"
MEMBERS = "node/quorum/members.py"
SNAPSHOTS = "node/quorum/snapshots.py"
STORE = "node/quorum/store.py"


class Bug(NamedTuple):
    """`old` occurs once in `file`; with `new` in its place one of `tests` (below tests/node/quorum) must fail."""

    name: str
    file: str
    old: str
    new: str
    tests: str


BUGS = [
    Bug(
        "what waits for a sync leaves at once",
        DISK,
        "if all(write.synced is None for write in batch):",
        "if batch:",
        "test_disk.py",
    ),
    Bug(
        "a failed sync is overlooked",
        DISK,
        "        if error is not None:\n            self._on_failure(error)\n            return\n",
        "",
        "test_disk.py",
    ),
    Bug(
        "a sync vouches for what was written while it ran",
        DISK,
        "        batch = list(self._to_sync)\n        self._to_sync.clear()",
        "        batch = self._to_sync",
        "test_disk.py",
    ),
    Bug(
        "an acknowledgement leaves although its entries were cut again",
        DISK,
        "            if newest is None or message.term >= newest.term\n",
        "",
        "test_disk.py",
    ),
    Bug(
        "term and vote are not synced",
        STORE,
        "            write_durable(self.fs, self.state_path, self.state)\n        except",
        "            pass\n        except",
        "test_store.py",
    ),
    Bug(
        "the log is not synced",
        STORE,
        "            self.ticket.run()",
        "            self.ticket.done = True",
        "test_store.py",
    ),
    Bug(
        "a cut is not written",
        STORE,
        "self._log.truncate_to(effects.truncate_from - 1)",
        "pass",
        "test_store.py",
    ),
    Bug(
        "a snapshot is not synced",
        DURABLE,
        "            file.write_at(0, parts)\n            file.sync()",
        "            file.write_at(0, parts)",
        "test_store.py",
    ),
    Bug(
        "a snapshot's name is not synced",
        DURABLE,
        "        fs.rename(temporary, path)\n        directory.sync()",
        "        fs.rename(temporary, path)",
        "test_store.py",
    ),
    Bug(
        "a snapshot just being stored is removed",
        STORE,
        "not in kept and int(name[:20]) < max(kept)",
        "not in kept",
        "test_store.py",
    ),
    Bug(
        "a damaged snapshot is loaded",
        STORE,
        '    if head != b"%s%08x" % (_SNAPSHOT_MAGIC, crc32c(body)):',
        "    if not head:",
        "test_store.py",
    ),
    Bug(
        "damage passes for a torn tail",
        STORE,
        "complete_is_damage=True",
        "complete_is_damage=False",
        "test_store.py",
    ),
    Bug(
        "damage is forgotten by a restart",
        STORE,
        "        write_durable(self._fs, self._state_path, self._state(hard_state))\n        self._log.truncate_to",
        "        self._log.truncate_to",
        "test_store.py",
    ),
    Bug(
        "one acceptance forms the cluster",
        FORMATION,
        "self._accepted == set(self.prepared.voters)",
        "len(self._accepted) > 1",
        "test_formation.py",
    ),
    Bug(
        "a proposal is made with somebody missing",
        FORMATION,
        "if not self.proposes or self.missing(present):",
        "if not self.proposes or len(present) < 1:",
        "test_formation.py",
    ),
    Bug(
        "a proposal for another disk is accepted",
        FORMATION,
        "if self.me not in proposal.voters:",
        "if False:",
        "test_formation.py",
    ),
    Bug(
        "a node of another cluster is let in",
        MEMBERS,
        "if hello.cluster_id and mine is not None and hello.cluster_id != mine:",
        "if False:",
        "test_quorum.py -k two_clusters",
    ),
    Bug(
        "one node alone calls another dead",
        MEMBERS,
        "if self._listener.voter_count >= 3 and not self._lost_by.get(peer):",
        "if False:",
        "test_members.py",
    ),
    Bug(
        "whoever speaks is believed to be whom it names",
        MEMBERS,
        "if message is not None and message.sender == peer:",
        "if message is not None:",
        "test_members.py",
    ),
    Bug(
        "a directory without its quorum state starts anew",
        MEMBERS,
        "elif formation is None or formation.cluster_id != cluster_id:",
        "elif False:",
        "test_quorum.py -k lost_its_quorum_state",
    ),
    Bug(
        "a received snapshot is believed unread",
        STORE,
        "if reason := check(state):",
        'if reason := "":',
        "test_snapshots.py",
    ),
    Bug(
        "a chunk of another snapshot is put behind this one's",
        SNAPSHOTS,
        "if self._incoming != write.snapshot or self._incoming_bytes != write.offset:",
        "if self._incoming_bytes != write.offset:",
        "test_snapshots.py",
    ),
    Bug(
        "bytes that are no frame raise",
        LINKS,
        "    except DecodeError:\n        return None",
        "    except DecodeError:\n        raise",
        "test_hostile.py -k poison",
    ),
    Bug(
        "a stream in a member's name is heard beside the one that was dialled",
        LINKS,
        "if not link.dialled and any(",
        "if False and any(",
        "test_hostile.py -k reached",
    ),
    Bug(
        "a stranger leads who has a leader",
        DRIVER,
        "return since_ms is None or _now_ms() - since_ms < STRANGERS_AFTER_MS",
        "return False",
        "test_hostile.py -k unknown_address",
    ),
    Bug(
        "the leader removes itself without handing over",
        DRIVER,
        "if peer == self._me and len(raft.log.voters) > 1:",
        "if False:",
        "test_quorum.py -k remove_itself",
    ),
]


def run_copy(root: Path, bug: Bug | None) -> subprocess.CompletedProcess[str]:
    skip = shutil.ignore_patterns("__pycache__", ".hypothesis")
    for part in ("node", "ottla", "raft", "storage", "tests/node/quorum", "tests/storage", "tests/raft"):
        shutil.copytree(ROOT / part, root / part, ignore=skip)
    (root / "tests/cluster").mkdir()
    shutil.copy(ROOT / "tests/cluster/absurd.py", root / "tests/cluster")
    shutil.copy(ROOT / "pyproject.toml", root)
    tests = sorted({bug.tests.split()[0] for bug in BUGS})
    if bug is not None:
        source = root / bug.file
        text = source.read_text()
        assert text.count(bug.old) == 1, f"{bug.name}: the line to break is not there (any more)"
        source.write_text(text.replace(bug.old, bug.new))
        tests = bug.tests.split()
    tests = [f"tests/node/quorum/{word}" if word.endswith(".py") else word for word in tests]
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-x",
        "-q",
        "-m",
        "not long",
        "-p",
        "no:cacheprovider",
        "--timeout",
        "60",
    ]
    command += tests
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(root)}
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=400)


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_every_planted_bug_still_finds_its_place(bug: Bug) -> None:
    assert (ROOT / bug.file).read_text().count(bug.old) == 1


@pytest.mark.long
@pytest.mark.timeout(420)
def test_without_a_bug_the_copy_is_green(tmp_path: Path) -> None:
    done = run_copy(tmp_path, None)
    assert done.returncode == 0, done.stdout[-3000:]


@pytest.mark.long
@pytest.mark.timeout(420)
@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_planted_bug_is_caught(bug: Bug, tmp_path: Path) -> None:
    done = run_copy(tmp_path, bug)
    assert done.returncode == 1, f"{bug.name} was not noticed:\n{done.stdout[-2000:]}{done.stderr[-1000:]}"
    print(next((line for line in done.stdout.splitlines() if line.startswith("FAILED")), ""))


def test_every_planted_bug_is_listed_in_the_documentation() -> None:
    listed = (ROOT / "docs" / "testing.md").read_text()
    assert [bug.name for bug in BUGS if bug.name not in listed] == []
