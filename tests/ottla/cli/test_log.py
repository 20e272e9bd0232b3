"""`ottla log dump` on files as a node leaves them: readable, checked, and honest about what is damaged."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from node.quorum.store import Formation, QuorumStore, encode_snapshot
from ottla.cli.main import app
from ottla.internal.v1 import metadata_pb2 as pb
from ottla.protocol.batch import BatchHeader, crc_seed, encode_batch
from ottla.v1.record_pb2 import Header, Record, Records
from raft.effects import Effects, HardState
from raft.model import Entry, EntryKind, PeerId, SnapshotMeta
from storage.fs import OsFileSystem
from tests.ottla.protocol.kafka_batches import kept_batch

TOPIC = bytes(range(16))
VOTERS = (PeerId(1, b"a" * 16), PeerId(2, b"b" * 16))


def dump(*arguments: object) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["log", "dump", *map(str, arguments)])
    return done.exit_code, done.stdout, done.stderr


@pytest.fixture
def partition(tmp_path: Path) -> Path:
    """Two batches of partition 3: offsets 0-1 and 2."""
    directory = tmp_path / f"{TOPIC.hex()}-3"
    directory.mkdir()
    raw = b""
    for base, values in ((0, (b"one", b"\xff\x00")), (2, (b"three",))):
        records = Records(
            records=[
                Record(key=b"k", value=value, timestamp_delta=i, headers=[Header(key="h", value=b"v")])
                for i, value in enumerate(values)
            ]
        ).SerializeToString()
        from crc32c import crc32c

        header = BatchHeader(
            base, 7, len(values), len(values) - 1, base_timestamp=1000, max_timestamp=1001, payload_crc=crc32c(records)
        )
        raw += b"".join(encode_batch(header, crc_seed(TOPIC, 3), records))
    (directory / f"{0:020d}.log").write_bytes(raw)
    return directory


def test_batches_and_records_of_a_partition(partition: Path) -> None:
    code, out, err = dump(partition, "--records")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith("offsets 0-1, epoch 7, 1970-01-01T00:00:01.001Z, ")
    assert lines[1] == "  0 1970-01-01T00:00:01.000Z key=k value=one h=v"
    assert lines[2] == "  1 1970-01-01T00:00:01.001Z key=k value=0xff00 h=v"
    assert lines[3].startswith("offset 2, epoch 7, ")
    assert dump(partition, "--offset", 2)[1].startswith("offset 2, ")
    assert len(dump(partition, "--limit", 1)[1].splitlines()) == 1


def test_json_is_a_document_a_line(partition: Path) -> None:
    code, out, _ = dump(partition, "--json", "--records")
    documents = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [(d["base_offset"], d["last_offset"], d["problem"]) for d in documents] == [(0, 1, None), (2, 2, None)]
    assert documents[0]["records"][0]["value"] == "one"


def test_a_kafka_batch_is_shown_as_any_other(partition: Path) -> None:
    (file,) = partition.iterdir()
    records = [Record(key=b"k", value=b"four", timestamp_delta=1, headers=[Header(key="h", value=b"v")])]
    kafkas = kept_batch(records, BatchHeader(3, 7, 1, 0, base_timestamp=1000, max_timestamp=1001), crc_seed(TOPIC, 3))
    file.write_bytes(file.read_bytes() + kafkas)
    code, out, err = dump(partition, "--records", "--offset", 3)
    assert (code, err) == (0, "")
    first, second = out.splitlines()
    assert first.startswith("offset 3, epoch 7, kafka, 1970-01-01T00:00:01.001Z, ")
    assert second == "  3 1970-01-01T00:00:01.001Z key=k value=four h=v"
    assert json.loads(dump(partition, "--json", "--offset", 3)[1])["kind"] == "kafka"
    file.write_bytes(file.read_bytes()[:-2] + b"!!")
    assert dump(partition, "--offset", 3)[0] != 0


@pytest.mark.parametrize("at", [20, -1], ids=["header", "payload"])
def test_a_flipped_bit_is_seen(partition: Path, at: int) -> None:
    (file,) = partition.iterdir()
    raw = bytearray(file.read_bytes())
    raw[at] ^= 4
    file.write_bytes(raw)
    code, out, err = dump(partition)
    assert code == 1
    assert "DAMAGED" in out
    assert "checksum does not match" in out
    assert "1 batches are damaged" in err


def test_batches_of_another_partition_are_seen(partition: Path) -> None:
    moved = partition.rename(partition.with_name(f"{TOPIC.hex()}-4"))
    assert dump(moved)[0] == 1


def test_a_torn_tail_is_told_and_is_no_damage(partition: Path) -> None:
    (file,) = partition.iterdir()
    file.write_bytes(file.read_bytes()[:-3])
    code, out, _ = dump(partition)
    assert code == 0
    assert "half a batch: a torn tail" in out
    file.write_bytes(file.read_bytes() + bytes(50))
    assert dump(partition)[0] == 1  # half a batch and zeros are a whole batch that is wrong
    file.write_bytes(bytes(50))
    assert "zeros" in dump(partition)[1]


def test_a_file_without_its_directory_is_read_but_not_taken_for_granted(partition: Path, tmp_path: Path) -> None:
    (file,) = partition.iterdir()
    copy = tmp_path / "copy.log"
    copy.write_bytes(file.read_bytes())
    code, out, err = dump(copy, "--records")
    assert code == 0
    assert "value=three" in out
    assert "is not checked" in err


@pytest.mark.parametrize("what", ["nothing", "empty"])
def test_a_wrong_path_is_told(tmp_path: Path, what: str) -> None:
    path = tmp_path / what
    if what == "empty":
        path.mkdir()
    code, _, err = dump(path)
    assert code == 1
    assert "NO_SUCH_FILE" in err
    assert "next: " in err


@pytest.fixture
def quorum(tmp_path: Path) -> Path:
    """A no-op, a metadata entry and a voter change, as the quorum's own store writes them."""
    path = tmp_path / "quorum"
    store = QuorumStore(OsFileSystem(), str(path))
    store.keep_formation(Formation(b"c" * 16, VOTERS))
    store.open(0)
    records = pb.MetadataRecords(
        records=[
            pb.MetadataRecord(topic=pb.TopicRecord(topic_id=TOPIC, name="orders")),
            pb.MetadataRecord(
                partition_change=pb.PartitionChangeRecord(topic_id=TOPIC, partition=1, isr=pb.NodeList(), leader=-1)
            ),
            pb.MetadataRecord(
                user_scram_credential=pb.UserScramCredentialRecord(
                    user="alice", mechanism=1, iterations=4096, salt=b"SALT", stored_key=b"KEY1", server_key=b"KEY2"
                )
            ),
            pb.MetadataRecord(cluster_secret=pb.ClusterSecretRecord(secret=b"KEY3")),
        ]
    )
    effects = Effects(
        append=[
            Entry(1, 1, EntryKind.NOOP),
            Entry(2, 1, EntryKind.DATA, records.SerializeToString()),
            Entry(3, 2, EntryKind.VOTERS, voters=VOTERS[:1]),
        ]
    )
    store.write(effects, 5)
    job = store.begin_sync(HardState(2, VOTERS[0], VOTERS))
    job.run()
    store.complete_sync(job)
    meta = SnapshotMeta(2, 1, VOTERS)
    store.write_snapshot(meta, encode_snapshot(meta, records.SerializeToString()))
    store.close(clean=True)
    return path


def test_the_metadata_log_for_people(quorum: Path) -> None:
    code, out, err = dump(quorum)
    assert (code, err) == (0, "")
    assert f"formation cluster_id={(b'c' * 16).hex()}" in out
    assert "quorum-state " in out
    assert "term=2" in out
    lines = out.splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("index 1, term 1, "))
    assert lines[first + 1] == "  noop"
    assert lines[first + 2].startswith("index 2, term 1, ")
    assert lines[first + 3] == f"  topic topic_id={TOPIC.hex()} name=orders"
    assert lines[first + 4] == f"  partition_change topic_id={TOPIC.hex()} partition=1 isr=[] leader=-1"
    assert [line.split()[0] for line in lines[first + 5 : first + 7]] == ["user_scram_credential", "cluster_secret"]
    assert lines[first + 7].startswith("index 3, term 2, ")
    assert lines[first + 8] == f"  voters [1@{(b'a' * 16).hex()}]"
    assert dump(quorum / "log")[1] in out


def test_a_snapshot_for_people(quorum: Path) -> None:
    (path,) = quorum.glob("*.snapshot")
    code, out, _ = dump(path)
    assert code == 0
    assert out.startswith("snapshot of everything up to index 2, term 1, voters [1@")
    assert "  topic topic_id=" in out
    assert json.loads(dump(path, "--json")[1])["last_index"] == 2
    path.write_bytes(path.read_bytes()[:-1])
    code, _, err = dump(path)
    assert code == 1
    assert "CORRUPT_FILE" in err


@pytest.mark.parametrize("how", [(), ("--json",), ("--records",)])
def test_what_is_secret_is_only_said_to_be_there(quorum: Path, how: tuple[str, ...]) -> None:
    (snapshot,) = quorum.glob("*.snapshot")
    for path in (quorum, snapshot):
        code, out, _ = dump(path, *how)
        assert code == 0
        assert "alice" in out
        assert "(secret)" in out
        for secret in (b"SALT", b"KEY1", b"KEY2", b"KEY3"):
            assert secret.hex() not in out
            assert secret.decode() not in out


def test_every_key_of_the_metadata_log_is_marked_as_secret() -> None:
    """Bytes that are no id of something: who adds some says whether they may be shown."""
    shown = {"topic_id", "directory_id", "import_id", "incarnation_id", "directories"}
    for message in pb.DESCRIPTOR.message_types_by_name.values():
        for field in message.fields:
            if field.type == field.TYPE_BYTES:
                assert field.GetOptions().debug_redact is (field.name not in shown), field.full_name
