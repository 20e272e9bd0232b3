"""A snapshot in pieces: put together in order, believed only when it was read, and what it stands for fits."""

import asyncio
import errno
from concurrent.futures import ThreadPoolExecutor

import pytest

from node.quorum.snapshots import Snapshots
from node.quorum.store import encode_snapshot
from raft.effects import ChunkWrite
from raft.model import PeerId, SnapshotMeta

VOTERS = (PeerId(1, b"1" * 16),)
META, OTHER = SnapshotMeta(7, 2, VOTERS), SnapshotMeta(9, 2, VOTERS)


class Store:
    def __init__(self) -> None:
        self.files: dict[int, bytes] = {}

    def write_snapshot(self, meta: SnapshotMeta, raw: bytes) -> None:
        self.files[meta.last_index] = raw


def chunks(meta: SnapshotMeta, raw: bytes, size: int) -> list[ChunkWrite]:
    return [
        ChunkWrite(meta, len(raw), at, raw[at : at + size], at + size >= len(raw)) for at in range(0, len(raw), size)
    ]


class Receiver:
    def __init__(self) -> None:
        self.store = Store()
        self.stored: list[tuple[SnapshotMeta, int]] = []
        self.thread = ThreadPoolExecutor(1)
        self.snapshots = Snapshots(self.store, self.thread, lambda *what: self.stored.append(what), print)

    async def settle(self) -> None:
        for _ in range(50):
            await asyncio.sleep(0.002)


@pytest.fixture
async def receiver():
    made = Receiver()
    yield made
    made.thread.shutdown()


async def test_chunks_become_the_file_and_its_state(receiver):
    raw = encode_snapshot(META, b"state" * 100)
    states = []
    receiver.snapshots._on_stored = lambda meta, size: states.append((size, receiver.snapshots.received(meta)))
    assert all(receiver.snapshots.receive(write) for write in chunks(META, raw, 50))
    await receiver.settle()
    assert receiver.store.files == {7: raw}
    assert states == [(len(raw), b"state" * 100)]


@pytest.mark.parametrize("what", ["damaged", "of another entry", "of other voters"])
async def test_what_is_not_the_named_snapshot_is_rejected(receiver, what):
    meta = {"of another entry": OTHER, "of other voters": SnapshotMeta(7, 2, ())}.get(what, META)
    raw = encode_snapshot(meta, b"state" * 100)
    if what == "damaged":
        raw = raw[:-1] + b"?"
    answers = [receiver.snapshots.receive(write) for write in chunks(META, raw, 200)]
    assert answers[-1] is False
    await receiver.settle()
    assert (receiver.store.files, receiver.stored) == ({}, [])


async def test_a_transfer_that_starts_over_with_another_snapshot_forgets_the_first(receiver):
    first, second = encode_snapshot(META, b"a" * 300), encode_snapshot(OTHER, b"b" * 300)
    receiver.snapshots.receive(chunks(META, first, 100)[0])
    # A leader that asks where to go on may begin in the middle of nothing: what came before was another file.
    middle = ChunkWrite(OTHER, len(second), 100, second[100:], True)
    assert receiver.snapshots.receive(middle) is False
    assert all(receiver.snapshots.receive(write) for write in chunks(OTHER, second, 100))
    await receiver.settle()
    assert receiver.store.files == {9: second}


async def test_another_snapshot_in_the_middle_is_not_put_behind_the_first(receiver):
    """The bytes of two halves may well make a whole: only the name tells them apart."""
    raw = encode_snapshot(OTHER, b"b" * 300)
    receiver.snapshots.receive(ChunkWrite(META, len(raw), 0, raw[:100], False))
    assert receiver.snapshots.receive(ChunkWrite(OTHER, len(raw), 100, raw[100:], True)) is False


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
async def test_a_full_disk_delays_a_snapshot_and_a_broken_one_ends_the_node(receiver, number, monkeypatch):
    failures = []
    monkeypatch.setattr("node.quorum.snapshots._RETRY_FULL_DISK_S", 0.01)
    receiver.snapshots._on_failure = failures.append
    write, tries = receiver.store.write_snapshot, []

    def full_at_first(meta: SnapshotMeta, raw: bytes) -> None:
        tries.append(meta)
        if len(tries) < 3:
            raise OSError(number, "injected")
        write(meta, raw)

    receiver.store.write_snapshot = full_at_first
    receiver.snapshots.take(META, b"state")
    assert receiver.snapshots.busy
    for _ in range(500):
        await asyncio.sleep(0.01)
        if not receiver.snapshots.busy:
            break
    if number == errno.EIO:
        assert (len(failures), receiver.stored) == (1, [])
    else:
        assert (failures, len(tries), [meta for meta, _ in receiver.stored]) == ([], 3, [META])
