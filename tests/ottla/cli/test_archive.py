"""The file of an exported topic: what is written is read, and whatever else is in a file is refused."""

from pathlib import Path

import pytest

from ottla.cli import archive
from ottla.cli.failure import Failure
from ottla.protocol.batch import BatchHeader, CorruptBatch, crc_seed, encode_batch
from ottla.protocol.checksum import crc32c

TOPIC_ID = b"an exported one."


def stored(base: int, partition: int = 0, producer_id: int = 0) -> bytes:
    payload = b"\x0a\x03\x12\x01v"  # one record of value v
    header = BatchHeader(base, 3, 1, 0, max_timestamp=5, producer_id=producer_id, payload_crc=crc32c(payload))
    return b"".join(encode_batch(header, crc_seed(TOPIC_ID, partition), payload))


def contents() -> archive.Contents:
    return archive.Contents("t", TOPIC_ID, {"flush": "ack"}, "1", [archive.Extent(), archive.Extent(4, 4, 4)])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "t.ottla"
    with archive.Writer(path, contents()) as writer:
        writer.add(0, stored(3, producer_id=8) + stored(9))
        writer.contents.partitions[0].log_start_offset = 3
        writer.close_gap(0, 20)
        assert not path.exists(), "before it is whole it does not have its name"
        writer.finish()
    return path


def test_what_was_written_is_read(file: Path) -> None:
    found = archive.read(file)
    assert (found.topic, found.topic_id, found.configs, found.producer_ids_end) == ("t", TOPIC_ID, {"flush": "ack"}, 9)
    [first, empty] = found.partitions
    assert (first.first_offset, first.log_start_offset, first.end_offset, first.batches, first.records) == (
        3,
        3,
        20,
        3,
        2,
    )
    assert (empty.first_offset, empty.end_offset, empty.batches) == (4, 4, 0)
    data = b"".join(data for _, data in archive.slices(file, found))
    assert [batch.header.next_offset for batch in archive.batches_of(data)] == [4, 10, 20]
    assert found.import_id == archive.read(file).import_id != b""
    assert [path.name for path in file.parent.iterdir()] == ["t.ottla"]


def test_a_file_that_was_cut_short_or_changed_anywhere_is_refused(file: Path) -> None:
    whole = file.read_bytes()
    for size in range(0, len(whole), 7):
        file.write_bytes(whole[:size])
        with pytest.raises(Failure):
            archive.read(file)
    for at in range(0, len(whole), 3):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(Failure):
            archive.read(file)
    file.write_bytes(whole + b"x")
    with pytest.raises(Failure, match="follows its end"):
        archive.read(file)


def test_an_export_that_ends_early_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(CorruptBatch), archive.Writer(tmp_path / "t", contents()) as writer:
        writer.add(0, stored(3, partition=1))
    assert list(tmp_path.iterdir()) == []
