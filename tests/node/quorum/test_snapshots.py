"""A snapshot in pieces: put together in order, believed only when it was read, and what it stands for fits."""

import asyncio
import contextlib
import errno
from concurrent.futures import ThreadPoolExecutor

import pytest

from node.quorum.snapshots import Snapshots
from node.quorum.store import Formation, QuorumStore, encode_snapshot
from raft.effects import ChunkWrite
from raft.model import PeerId, SnapshotMeta
from storage.fs import read_file
from tests.storage.forgetful import Crashed, ForgetfulFileSystem

VOTERS = (PeerId(1, b"1" * 16),)
META, OTHER = SnapshotMeta(7, 2, VOTERS), SnapshotMeta(9, 2, VOTERS)


PATH = "/data/quorum"


def opened(fs: ForgetfulFileSystem) -> QuorumStore:
    fs.makedirs("/data")
    store = QuorumStore(fs, PATH)
    store.keep_formation(Formation(b"C" * 16, VOTERS))
    store.open(0)
    return store


def chunks(meta: SnapshotMeta, raw: bytes, size: int) -> list[ChunkWrite]:
    return [
        ChunkWrite(meta, len(raw), at, raw[at : at + size], at + size >= len(raw)) for at in range(0, len(raw), size)
    ]


class Receiver:
    def __init__(self) -> None:
        self.fs = ForgetfulFileSystem(1, None)
        self.store = opened(self.fs)
        self.stored: list[tuple[SnapshotMeta, int]] = []
        self.rejected: list[SnapshotMeta] = []
        self.failures: list[BaseException] = []
        self.thread = ThreadPoolExecutor(1)
        self.snapshots = Snapshots(
            self.store,
            self.thread,
            lambda *what: self.stored.append(what),
            self.rejected.append,
            self.failures.append,
        )

    async def settle(self) -> None:
        for _ in range(50):
            await asyncio.sleep(0.002)

    def files(self) -> dict[int, bytes]:
        names = [name for name in self.fs.listdir(PATH) if name.endswith(".snapshot")]
        return {int(name[:20]): read_file(self.fs, f"{PATH}/{name}") for name in names}

    def leftovers(self) -> list[str]:
        return [name for name in self.fs.listdir(PATH) if name.endswith(".tmp")]


@pytest.fixture
async def receiver():
    made = Receiver()
    yield made
    made.thread.shutdown()


async def test_chunks_become_the_file_and_its_state(receiver):
    raw = encode_snapshot(META, b"state" * 100)
    states = []
    receiver.snapshots._on_stored = lambda meta, size: states.append((size, receiver.snapshots.received()))
    assert all(receiver.snapshots.receive(write) for write in chunks(META, raw, 50))
    await receiver.settle()
    assert receiver.files() == {7: raw}
    assert states == [(len(raw), b"state" * 100)]


@pytest.mark.parametrize("what", ["damaged", "of another entry", "of other voters", "a state that contradicts itself"])
async def test_what_is_not_the_named_snapshot_is_rejected(receiver, what):
    meta = {"of another entry": OTHER, "of other voters": SnapshotMeta(7, 2, ())}.get(what, META)
    raw = encode_snapshot(meta, b"state" * 100)
    if what == "damaged":
        raw = raw[:-1] + b"?"
    if what == "a state that contradicts itself":
        receiver.snapshots.check = lambda state: "it contradicts itself" if state == b"state" * 100 else ""
    assert all(receiver.snapshots.receive(write) for write in chunks(META, raw, 200))
    await receiver.settle()
    assert (receiver.files(), receiver.stored, receiver.rejected) == ({}, [], [META])
    assert (receiver.leftovers(), receiver.failures) == ([], [])


async def test_a_transfer_that_starts_over_with_another_snapshot_forgets_the_first(receiver):
    first, second = encode_snapshot(META, b"a" * 300), encode_snapshot(OTHER, b"b" * 300)
    receiver.snapshots.receive(chunks(META, first, 100)[0])
    # A leader that asks where to go on may begin in the middle of nothing: what came before was another file.
    middle = ChunkWrite(OTHER, len(second), 100, second[100:], True)
    assert receiver.snapshots.receive(middle) is False
    assert all(receiver.snapshots.receive(write) for write in chunks(OTHER, second, 100))
    await receiver.settle()
    assert receiver.files() == {9: second}


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


async def test_what_is_received_grows_on_disk_and_is_gone_after_a_start(receiver):
    """Whoever says that a snapshot is large takes room on the disk, up to the bound, and none in memory."""
    receiver.snapshots.receive(ChunkWrite(META, 1 << 30, 0, b"a" * 1000, False))
    receiver.snapshots.receive(ChunkWrite(META, 1 << 30, 1000, b"b" * 1000, False))
    assert (receiver.leftovers(), receiver.fs.size(f"{PATH}/incoming.tmp")) == (["incoming.tmp"], 2000)
    QuorumStore(receiver.fs, PATH).open(0)
    assert receiver.leftovers() == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
async def test_no_room_for_what_is_received_starts_it_over_and_a_broken_disk_ends_the_node(receiver, number):
    raw = encode_snapshot(META, b"state" * 100)
    receiver.fs.fail("write", number)
    writes = chunks(META, raw, 200)
    if number == errno.EIO:
        with pytest.raises(OSError, match=r"injected|error"):
            receiver.snapshots.receive(writes[0])
        return
    assert [receiver.snapshots.receive(write) for write in writes] == [False] * len(writes)
    assert all(receiver.snapshots.receive(write) for write in writes)
    await receiver.settle()
    assert (receiver.files(), receiver.stored) == ({7: raw}, [(META, len(raw))])


async def test_one_is_checked_at_a_time(receiver):
    first, second = encode_snapshot(META, b"a" * 300), encode_snapshot(OTHER, b"b" * 300)
    assert all(receiver.snapshots.receive(write) for write in chunks(META, first, 100))
    answers = [receiver.snapshots.receive(write) for write in chunks(OTHER, second, 100)]
    assert answers[-1] is False
    await receiver.settle()
    assert receiver.files() == {7: first}
    assert all(receiver.snapshots.receive(write) for write in chunks(OTHER, second, 100))
    await receiver.settle()
    assert receiver.files()[9] == second


def test_a_crash_anywhere_leaves_the_old_snapshot_or_the_new_one_whole():
    """Nothing that is not synced and checked is ever found under a snapshot's name."""
    first, second = encode_snapshot(META, b"a" * 300), encode_snapshot(OTHER, b"b" * 300)

    def life(fs: ForgetfulFileSystem, done: list[bytes]) -> None:
        store = opened(fs)
        for meta, raw in ((META, first), (OTHER, second)):
            for write in chunks(meta, raw, 100):
                store.receive(write.offset, write.data)
            store.received_whole()
            store.take_received(meta, lambda state: "")
            done.append(raw)

    whole = ForgetfulFileSystem(1, None)
    life(whole, [])
    for crash_at in range(1, whole.operations + 1):
        for seed in range(3):
            fs, done = ForgetfulFileSystem(seed, crash_at), []
            with contextlib.suppress(Crashed):
                life(fs, done)
            after = fs.power_loss()
            if not QuorumStore(after, PATH).formation:
                continue
            found = QuorumStore(after, PATH).open(0)
            states = {b"a" * 300: first, b"b" * 300: second, None: None}
            assert found.snapshot_data in states
            assert not done or states[found.snapshot_data] in (done[-1], second)
            assert [name for name in after.listdir(PATH) if name.endswith(".tmp")] == []
