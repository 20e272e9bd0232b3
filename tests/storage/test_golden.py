"""The bytes on disk, pinned: a change here is a change of the format (docs/storage-format.md)."""

from pathlib import Path

from ottla.protocol.batch import ATTR_LOG_APPEND_TIME, PAYLOAD_RECORDS, BatchHeader
from ottla.v1 import record_pb2
from storage.config import LogConfig
from storage.directory import Checkpoint, LogDirectory
from storage.fs import OsFileSystem
from storage.log import Log

GOLDEN = Path(__file__).parent / "golden"
TOPIC_ID = bytes.fromhex("0123456789abcdef0123456789abcdef")


def write_sample(directory: str) -> None:
    """Two batches in two epochs, closed cleanly."""
    log = Log.open(OsFileSystem(), directory, TOPIC_ID, 7, LogConfig(), now_ms=1_700_000_000_000)
    first = record_pb2.Records(
        records=[
            record_pb2.Record(key=b"k", value=b"hello", headers=[record_pb2.Header(key="h", value=b"")]),
            record_pb2.Record(key=b"", timestamp_delta=5),
        ]
    )
    header = BatchHeader(
        0, 0, 2, 1, base_timestamp=1_700_000_000_000, max_timestamp=1_700_000_000_005,
        producer_id=42, producer_epoch=3, base_sequence=9,
    )  # fmt: skip
    log.append_as_leader(header, first.SerializeToString(), PAYLOAD_RECORDS, leader_epoch=1, now_ms=1_700_000_000_000)
    second = record_pb2.Records(records=[record_pb2.Record(value=b"v" * 100)])
    header = BatchHeader(
        0, 0, 1, 0, attributes=ATTR_LOG_APPEND_TIME, base_timestamp=1_700_000_000_010, max_timestamp=1_700_000_000_010
    )
    log.append_as_leader(header, second.SerializeToString(), PAYLOAD_RECORDS, leader_epoch=4, now_ms=1_700_000_000_010)
    log.close()


def test_a_log_has_the_pinned_bytes(tmp_path: Path) -> None:
    write_sample(str(tmp_path / "log"))
    names = sorted(path.name for path in GOLDEN.iterdir())
    assert sorted(path.name for path in (tmp_path / "log").iterdir()) == names
    for name in names:
        assert (tmp_path / "log" / name).read_bytes() == (GOLDEN / name).read_bytes(), name


def test_the_pinned_log_is_a_segment_message_that_any_stub_reads() -> None:
    segment = record_pb2.Segment.FromString((GOLDEN / "00000000000000000000.log").read_bytes())
    assert [(batch.base_offset, batch.leader_epoch) for batch in segment.batches] == [(0, 1), (2, 4)]
    first = segment.batches[0]
    assert (first.producer_id, first.base_sequence, first.record_count) == (42, 9, 2)
    assert first.records.records[0].headers[0].HasField("value")
    assert not first.records.records[1].HasField("value")
    assert segment.batches[1].records.records[0].value == b"v" * 100


def test_the_pinned_log_opens_cleanly(tmp_path: Path) -> None:
    copy = tmp_path / "log"
    copy.mkdir()
    for path in GOLDEN.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    log = Log.open(OsFileSystem(), str(copy), TOPIC_ID, 7, LogConfig(), now_ms=0)
    assert log.recovery.clean
    assert (log.log_end_offset, log.epochs.entries()) == (3, [(1, 0), (4, 2)])
    log.close(clean=False)
    (copy / "00000000000000000000.index").unlink()
    log = Log.open(OsFileSystem(), str(copy), TOPIC_ID, 7, LogConfig(), now_ms=0)
    assert (log.recovery.clean, log.damaged_at, log.log_end_offset) == (False, None, 3)


def test_a_data_directory_has_the_pinned_bytes(tmp_path: Path) -> None:
    path = tmp_path / "data"
    directory = LogDirectory.open(OsFileSystem(), str(path), node_id=3, new_directory_id=bytes(range(16)), boot_id="b1")
    directory.set_cluster_id(TOPIC_ID)
    directory.write_checkpoints({(TOPIC_ID, 7): Checkpoint(5, 4, 2)})
    written = {
        "meta": b'ottla 1 434d4f8c\n{"cluster_id":"0123456789abcdef0123456789abcdef",'
        b'"directory_id":"000102030405060708090a0b0c0d0e0f","node_id":3}\n',
        "open": b'ottla 1 bd9ffa31\n{"boot_id":"b1","unreported_loss":false}\n',
        "checkpoint": b'ottla 1 7a0886db\n{"0123456789abcdef0123456789abcdef-7":[5,4,2]}\n',
    }
    for name, content in written.items():
        assert (path / name).read_bytes() == content, name
    assert sorted(entry.name for entry in path.iterdir()) == [".lock", "checkpoint", "meta", "open"]
    directory.close(clean=True)
    assert not (path / "open").exists()
