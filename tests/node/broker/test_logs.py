"""Logs that are opened at a start."""

from pathlib import Path

from node.broker import logs, snapshots
from node.broker.partition import Partition
from node.broker.settings import topic_settings
from ottla.internal.v1.view_pb2 import RecordBatchView
from ottla.v1.record_pb2 import Record, Records
from storage.directory import LogDirectory
from storage.fs import OsFileSystem
from storage.log import Log
from tests.node.broker.test_partition import NOW_MS, TOPIC, Host, append, lead

PAYLOAD = Records(records=[Record(value=b"v")]).SerializeToString()


def test_a_bad_header_in_a_closed_segment_is_damage_and_no_end_of_the_node(tmp_path: Path) -> None:
    """A start reads closed segments for their producers alone: what it then meets must not escape as a bug."""
    fs, host = OsFileSystem(), Host()
    directory = LogDirectory.open(fs, str(tmp_path), node_id=1, new_directory_id=bytes(16), boot_id="b")
    path = directory.log_path(TOPIC, 0)
    settings = topic_settings({"segment.ms": "1"}, {})
    partition = Partition(host, TOPIC, 0, "t", Log.open(fs, path, TOPIC, 0, settings.log, now_ms=NOW_MS), settings)
    lead(partition)
    for number in range(4):
        append(partition, RecordBatchView(records=PAYLOAD).records, now_ms=NOW_MS + 10 * number)
    assert partition.log.segment_count == 4
    partition.log.close()
    second = sorted(Path(path).glob("*.log"))[1]
    data = bytearray(second.read_bytes())
    data[10] ^= 0x40  # in the header: the batch's size
    second.write_bytes(data)
    opened = logs.open_partition(host, directory, fs, (TOPIC, 0), None, NOW_MS)
    assert (opened.log.damaged_at, opened.log.log_end_offset) == (1, 1)
    opened.log.close()
    directory.close(clean=False)


def test_producers_of_a_log_that_was_lost_are_not_claimed_by_the_one_that_went_on(tmp_path: Path) -> None:
    """A machine lost power: what was saved of producers is ahead of the log. What the log has next is another leader's,
    and the log ends, at the start after that, where the file fits again."""
    fs, host = OsFileSystem(), Host()
    directory = LogDirectory.open(fs, str(tmp_path), node_id=1, new_directory_id=bytes(16), boot_id="b")
    path = directory.log_path(TOPIC, 0)
    settings = topic_settings({}, {})
    partition = Partition(host, TOPIC, 0, "t", Log.open(fs, path, TOPIC, 0, settings.log, now_ms=NOW_MS), settings)
    lead(partition)
    for sequence in range(3):
        append(partition, b"v", producer_id=7, base_sequence=sequence)
    snapshots.save(fs, path, partition.saved_producers())
    partition.log.truncate_to(1)  # batches 1 and 2 were not on disk
    partition.log.close()

    partition = logs.open_partition(host, directory, fs, (TOPIC, 0), None, NOW_MS)
    lead(partition, epoch=5)
    for sequence in range(3):
        append(partition, b"other", producer_id=8, base_sequence=sequence)
    partition.log.close()  # killed: nothing is saved

    partition = logs.open_partition(host, directory, fs, (TOPIC, 0), None, NOW_MS)
    lead(partition, epoch=6)
    assert not append(partition, b"v", producer_id=7, base_sequence=1).duplicate
    assert append(partition, b"other", producer_id=8, base_sequence=2).duplicate
    partition.log.close()
    directory.close(clean=False)
