"""Bugs in the quorum's driver, disk queue and store, for `tests.sim.quorum_sim` to find: how many seeds each takes.

python -m tests.sim.quorum_mutants [--seeds 40]
"""

import argparse
from functools import partial
from typing import Final

import pytest

from tests.planted import Bug, plant
from tests.sim import quorum_sim
from tests.sim.cluster_loop import Violation
from tests.sim.cluster_sim import quiet

DISK: Final = "node.quorum.disk:DiskQueue"
STORE: Final = "node.quorum.store:QuorumStore"
DRIVER: Final = "node.quorum.driver:Quorum"


def _bug(what: str, target: str, old: str, new: str, kinds: str, seed: int) -> Bug:
    """`seed` shows it, with faults of these kinds."""
    return Bug(what, target, old, new, partial(quorum_sim.run_seed, seed, tuple(kinds.split(",")), tell=False))


BUGS: Final = [
    _bug(
        "what waits for a sync is said before it",
        f"{DISK}._flush",
        "if all(write.synced is None for write in batch):",
        "if True:",
        "power of all",
        0,
    ),
    _bug("the log is not synced", "node.quorum.store:SyncJob.run", "self.ticket.run()", "pass", "power of all", 0),
    _bug(
        "a log is cut one entry too late",
        f"{STORE}.write",
        "self._log.truncate_to(effects.truncate_from - 1)",
        "self._log.truncate_to(effects.truncate_from)",
        "isolate,kill",
        2,
    ),
    _bug(
        "the last entry is not read back",
        f"{STORE}._read_entries",
        "return entries",
        "return entries[:-1]",
        "power of all",
        0,
    ),
    _bug(
        "a proposal for an earlier term is taken", f"{DRIVER}.propose", "if raft.term != term:", "if False:", "kill", 0
    ),
    _bug(
        "a read does not wait for its barrier",
        f"{DRIVER}.read_barrier",
        "return await future",
        "return self.applied_index",
        "isolate",
        11,
    ),
    _bug(
        "an accepted formation is not kept",
        "node.quorum.members:Members._keep",
        "self._store.keep_formation(formation)",
        "self._store.formation = formation",
        "power",
        0,
    ),
    _bug(
        "who leads serves before it has applied what was committed",
        f"{DRIVER}._note_leadership",
        "raft.ready_to_serve and not raft.transferring",
        "raft.role is Role.LEADER",
        "isolate,kill",
        0,
    ),
    _bug(
        "each chunk of a snapshot is the first",
        f"{DRIVER}._perform",
        "chunk.offset, self._config",
        "0, self._config",
        "isolate,kill",
        5,
    ),
    _bug("what waited for a sync is not said", f"{DRIVER}._on_synced", "self._send(message)", "pass", "kill", 0),
    _bug(
        "an entry is read back under the index before it",
        "node.quorum.store:_decode",
        "header.base_offset + 1",
        "header.base_offset",
        "kill",
        0,
    ),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])  # type: ignore[union-attr]
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    quiet()
    for bug in BUGS:
        if options.only not in bug.what:
            continue
        kinds = bug.caught_by.args[1]  # type: ignore[attr-defined]
        outcome = "not found"
        with pytest.MonkeyPatch.context() as patch:
            plant(bug, patch)
            for seed in range(options.seeds):
                try:
                    quorum_sim.run_seed(seed, kinds, tell=False)
                except Violation as violation:
                    outcome = f"seed {seed}: {violation}"
                    break
        print(f"{bug.what}: {outcome}", flush=True)


if __name__ == "__main__":
    main()
