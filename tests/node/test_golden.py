"""What a node keeps beside its logs, pinned: a change here is a change of a format (docs/storage-format.md)."""

from pathlib import Path

from node.broker import snapshots
from node.broker.producers import ProducerTable
from node.quorum.store import Formation, QuorumStore, encode_snapshot
from ottla.protocol.batch import BatchHeader
from raft.effects import HardState
from raft.model import PeerId, SnapshotMeta
from storage.fs import OsFileSystem

CLUSTER_ID = bytes.fromhex("0123456789abcdef0123456789abcdef")
PEER = PeerId(1, bytes(range(16)))
PEER_ID = b"000102030405060708090a0b0c0d0e0f"


def test_the_producers_of_a_partition(tmp_path: Path) -> None:
    table = ProducerTable()
    header = BatchHeader(0, 0, 2, 1, producer_id=9, producer_epoch=1, base_sequence=5, max_timestamp=77)
    table.appended(header, 40, 100, 0)
    snapshots.save(OsFileSystem(), str(tmp_path), table.snapshot(150))
    expected = b'ottla 1 bb4a34c6\n{"end_offset":42,"producers":[[9,1,50,[[5,6,40,41,-1]]]]}\n'
    assert (tmp_path / "producers").read_bytes() == expected


def test_the_quorums_files(tmp_path: Path) -> None:
    store = QuorumStore(OsFileSystem(), str(tmp_path))
    store.keep_formation(Formation(CLUSTER_ID, (PEER,)))
    store.open(0)
    job = store.begin_sync(HardState(term=4, voted_for=PEER, voters=(PEER,)))
    job.run()
    store.complete_sync(job)
    store.close(clean=True)
    assert (tmp_path / "formation").read_bytes() == (
        b'ottla 1 f3634a9d\n{"cluster_id":"0123456789abcdef0123456789abcdef","voters":[[1,"' + PEER_ID + b'"]]}\n'
    )
    assert (tmp_path / "quorum-state").read_bytes() == (
        b'ottla 1 32a16492\n{"recovery_point":0,"refetch":[0,0],"term":4,'
        b'"voted_for":[1,"' + PEER_ID + b'"],"voters":[[1,"' + PEER_ID + b'"]]}\n'
    )


def test_a_snapshot_of_the_metadata() -> None:
    # Length of what it stands for (26), that as a message, and the state machine's own bytes.
    stands_for = bytes([0x08, 12, 0x10, 4, 0x1A, 20, 0x08, 1, 0x12, 16, *range(16)])
    raw = encode_snapshot(SnapshotMeta(12, 4, (PEER,)), b"state")
    assert raw == b"ottla snapshot 1 0438711b\n" + bytes([26, 0, 0, 0]) + stands_for + b"state"
