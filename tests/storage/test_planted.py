"""Planted bugs: each of these changes to the storage code must turn a test red. docs/testing.md lists them."""

import importlib
import inspect
import itertools
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from storage.errors import CorruptBatch, InvariantError, StorageError
from tests.storage import test_compaction, test_crash, test_exhaustive, test_faults, test_log, test_scrub


def test_truncation_on_a_full_disk() -> None:
    test_faults.test_a_cut_on_a_full_disk_changes_nothing_and_is_made_when_there_is_room("truncate")


@dataclass(frozen=True)
class Bug:
    """In `target` (module that uses it : name), `old` becomes `new`; `caught_by` must fail then.

    It is given seeds, or a directory, if it wants one."""

    what: str
    target: str
    old: str
    new: str
    caught_by: Callable[..., None]


POWER = test_crash.test_power_loss_at_every_operation_and_again_during_recovery
COMPACTION_CRASH = test_compaction.test_a_crash_at_every_operation_of_a_compaction_loses_no_key

BUGS = [
    Bug(
        "a failed sync counts as done",
        "storage.sync:SyncTicket.run",
        "self.error = error\n        raise",
        "self.done = True",
        test_faults.test_a_failed_sync_is_never_tried_again_and_vouches_for_nothing,
    ),
    Bug(
        "the data of a sync is not synced",
        "storage.sync:SyncTicket.run",
        "file.sync()",
        "pass",
        POWER,
    ),
    Bug(
        "a new segment's directory entry is not synced",
        "storage.log:Log.begin_sync",
        "self._unsynced_directories()",
        "[]",
        POWER,
    ),
    Bug(
        "a ticket vouches for bytes written after a truncation",
        "storage.sync:Durability.cut",
        "self._ticket.end_offset = min(self._ticket.end_offset, end_offset)",
        "pass",
        test_log.test_a_ticket_never_vouches_for_bytes_written_after_a_truncation,
    ),
    Bug(
        "old recovery points stay valid after a truncation",
        "storage.sync:Durability.cut",
        "self._stale_end = max(self._stale_end, self.end_offset)",
        "pass",
        test_log.test_truncation_cuts_whole_batches_and_their_epochs_for_good,
    ),
    Bug(
        "a cut is not synced before new bytes follow it",
        "storage.segment:Segment.cut_file",
        "self.file.sync()",
        "pass",
        test_exhaustive.test_five_appends_with_a_roll_and_a_truncation_lose_nothing_synced_whatever_survives,
    ),
    Bug(
        "removed segments come back after a truncation",
        "storage.log:Log.truncate_to",
        "self._sync_directories(directories)",
        "pass",
        test_exhaustive.test_a_segment_that_was_cut_off_never_comes_back,
    ),
    Bug(
        "what a killed process wrote counts as durable unsynced",
        "storage.log:Log._make_found_durable",
        "segment.file.sync()",
        "pass",
        POWER,
    ),
    Bug(
        "a start believes a sync that comes after a failed one",
        "storage.log:Log._make_found_durable",
        "if again:\n                segment",
        "if False:\n                segment",
        lambda: test_faults.test_what_a_failed_sync_did_not_save_is_written_again_by_the_next_start(killed=False),
    ),
    Bug(
        "a failed sync is noted only when the log is told",
        "storage.sync:SyncTicket.run",
        "note_failure(self.fs, self.log_directory)",
        "pass",
        lambda: test_faults.test_what_a_failed_sync_did_not_save_is_written_again_by_the_next_start(killed=True),
    ),
    Bug(
        "a start whose sync failed is not noted",
        "storage.log:Log._make_found_durable",
        "note_failure(self._fs, self.directory)",
        "pass",
        test_faults.test_what_the_sync_of_a_start_did_not_save_is_written_again_by_the_next_one,
    ),
    Bug(
        "the clean marker is written although the sync failed",
        "storage.log:Log.close",
        "segment.file.sync()",
        "exec('try: segment.file.sync()\\nexcept OSError: pass')",
        test_faults.test_a_clean_close_that_cannot_sync_leaves_no_clean_marker,
    ),
    Bug(
        "a bad batch below the recovery point is cut like a torn tail",
        "storage.recovery:_Scan.run",
        "expected < point or (",
        "False or (",
        lambda: test_faults.test_rot_below_the_recovery_point_is_damage_and_cuts_nothing(5),
    ),
    Bug(
        "recovery trusts batches without their checksums",
        "storage.segment:Segment._batch_in",
        "if batch is not None:",
        "if batch is not None and False:",
        test_exhaustive.test_five_appends_with_a_roll_and_a_truncation_lose_nothing_synced_whatever_survives,
    ),
    Bug(
        "a torn tail stays behind the log end",
        "storage.recovery:_Scan._cut",
        "last.cut_file(last.size_bytes)",
        "pass",
        test_faults.test_zeros_at_the_end_are_a_torn_tail,
    ),
    Bug(
        "epochs of closed segments are not durable when they are needed",
        "storage.log:Log._roll",
        "if self._state_dirty:",
        "if False:",
        POWER,
    ),
    Bug(
        "a truncation keeps the epochs of what it cut",
        "storage.log:Log.truncate_to",
        "epochs.truncate_to(end)",
        "pass",
        test_log.test_truncation_cuts_whole_batches_and_their_epochs_for_good,
    ),
    Bug(
        "a clean start believes in epochs without batches",
        "storage.log:recover",
        "_fit_epochs(state.epochs, start, end)",
        "pass",
        test_faults.test_a_clean_marker_that_outlived_its_unlink_does_not_bring_epochs_without_batches,
    ),
    Bug(
        "a failed append leaves its first bytes in the file",
        "storage.log:Log._write",
        "segment.file.truncate(segment.size_bytes)",
        "pass",
        test_faults.test_a_full_disk_refuses_the_batch_and_takes_the_next_one_when_there_is_room,
    ),
    Bug(
        "the log goes on after a failed write",
        "storage.log:Log._fail",
        "self.failed = str(error)",
        "pass",
        test_faults.test_a_failed_write_ends_all_writing_but_not_reading,
    ),
    Bug(
        "a follower stores batches unchecked",
        "storage.append:checked_batches",
        "verify_batch(data, batch, seed)",
        "pass",
        test_log.test_a_follower_refuses_what_is_not_its_leaders_next_batch,
    ),
    Bug(
        "a follower takes epochs that its leader cannot have",
        "storage.append:checked_batches",
        "header.leader_epoch > leader_epoch",
        "False",
        test_log.test_a_follower_refuses_what_is_not_its_leaders_next_batch,
    ),
    Bug(
        "retention deletes above the high watermark",
        "storage.cut:deletable",
        "segment.next_offset > high_watermark or",
        "",
        test_log.test_retention_by_time_size_and_start_keeps_what_is_not_committed,
    ),
    Bug(
        "a read serves the batch that reaches over the end",
        "storage.segment:Segment.place_of",
        "next_offset > offset",
        "next_offset > offset + 5",
        test_log.test_read_starts_at_the_batch_that_holds_the_offset_and_stops_before_the_end,
    ),
    Bug(
        "compaction keeps the first value of a key",
        "storage.compaction:CompactionRun._what_stays",
        "offset >= self._last_offsets.get(_digest(plain[slice(*spot.key)]), -1)",
        "offset <= self._last_offsets.get(_digest(plain[slice(*spot.key)]), offset)",
        test_compaction.test_the_last_value_of_every_key_stays_at_its_offset,
    ),
    Bug(
        "a tombstone goes with the first cleaning",
        "storage.compaction:CompactionRun._what_stays",
        "stay = not expired",
        "stay = False",
        test_compaction.test_a_tombstone_stays_for_its_time_and_then_goes,
    ),
    Bug(
        "compaction forgets a live producer's last sequence",
        "storage.compaction:CompactionRun._cleaned",
        "self._last_of_producer.get(header.producer_id) != header.base_offset",
        "True",
        test_compaction.test_a_producers_last_sequence_stays_until_it_expires,
    ),
    Bug(
        "compaction removes old segments before their replacement is durable",
        "storage.log:swap",
        "        group.new.path = group.old[0].path\n    directory.sync()",
        "        group.new.path = group.old[0].path",
        COMPACTION_CRASH,
    ),
    Bug(
        "compaction does not sync what it wrote",
        "storage.compaction:CompactionRun._finish_group",
        "group.new.file.sync()",
        "pass",
        COMPACTION_CRASH,
    ),
    Bug(
        "a compaction is put in place although the log was cut meanwhile",
        "storage.compaction:CompactionRun.still_stands",
        "return all(",
        "return True or all(",
        test_compaction.test_a_run_over_a_log_that_was_cut_or_trimmed_meanwhile_changes_nothing,
    ),
    Bug(
        "the scrub looks at lengths only",
        "storage.segment:Segment._batch_in",
        "verify_batch(data, batch, seed)",
        "pass",
        test_scrub.test_every_flipped_bit_in_a_closed_segment_is_found_and_healed_by_a_refetch,
    ),
    Bug(
        "closed segments are read unverified",
        "storage.segments:SegmentList._read_in",
        "segment is not self.active or",
        "",
        test_scrub.test_no_flipped_bit_is_read_from_closed_segments_nor_from_what_an_earlier_process_wrote,
    ),
    Bug(
        "what an earlier process wrote is read unverified",
        "storage.segments:SegmentList._read_in",
        "or start < segment.own_from",
        "",
        test_scrub.test_no_flipped_bit_is_read_from_closed_segments_nor_from_what_an_earlier_process_wrote,
    ),
    Bug(
        "a flipped payload tag passes",
        "storage.segments:verify_slice",
        "key != payload_field_of(v[9]) << 3 | 2",
        "key & 7 != 2",
        test_scrub.test_no_flipped_bit_is_read_from_closed_segments_nor_from_what_an_earlier_process_wrote,
    ),
    Bug(
        "a cut on a full disk is half made",
        "storage.log:Log._forget_from",
        "self.log_start_offset, self.epochs, self._compaction = before",
        "pass",
        test_truncation_on_a_full_disk,
    ),
    Bug(
        "a full disk keeps retention from making room",
        "storage.log:Log._drop_head",
        "if error.errno not in NO_SPACE:",
        "if True:",
        test_faults.test_retention_makes_its_own_room_on_a_disk_without_a_byte,
    ),
    Bug(
        "a new log's own directory entry is not synced",
        "storage.log:Log._unsynced_directories",
        "if self._new_directory else found",
        "if False else found",
        test_crash.test_power_loss_at_every_operation_and_again_during_recovery,
    ),
]


def _plant(bug: Bug, monkeypatch: pytest.MonkeyPatch) -> None:
    module_name, _, path = bug.target.partition(":")
    owner: Any = importlib.import_module(module_name)
    *parents, name = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    source = textwrap.dedent(inspect.getsource(getattr(owner, name)))
    assert bug.old in source, f"{bug.target} does not hold {bug.old!r} any more: plant this bug elsewhere"
    scope: dict[str, Any] = {}
    # Decorators (classmethod) are part of the source, so what comes out can be put in the place of the original.
    exec(compile(source.replace(bug.old, bug.new), bug.target, "exec"), getattr(owner, name).__globals__, scope)
    monkeypatch.setattr(owner, name, scope[name])


def _run(test: Callable[..., None], directory: Path) -> None:
    wants = list(inspect.signature(test).parameters)
    if wants == ["seed"]:
        for seed in range(12):
            test(seed)
    elif wants == ["tmp_path"]:
        test(directory)
    else:
        assert not wants
        test()


CAUGHT = (AssertionError, pytest.fail.Exception, StorageError, InvariantError, CorruptBatch)


@pytest.mark.parametrize("bug", BUGS, ids=[bug.what.replace(" ", "-") for bug in BUGS])
def test_a_planted_bug_is_caught(bug: Bug, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _plant(bug, monkeypatch)
    with pytest.raises(CAUGHT):
        _run(bug.caught_by, tmp_path)


def test_every_planted_bug_is_listed_in_the_documentation() -> None:
    listed = (Path(__file__).parents[2] / "docs" / "testing.md").read_text()
    section = listed.partition("## Planted bugs: storage")[2].partition("\n## ")[0]
    lines = [line[2:] for line in section.splitlines() if line.startswith("- ")]
    expected = [bug.what for bug in BUGS]
    assert [line for line, _ in itertools.zip_longest(lines, expected)] == expected
