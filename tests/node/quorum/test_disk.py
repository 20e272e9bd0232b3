"""The order of durability in the shell: nothing that waits for a sync leaves before it, and a failed one ends it."""

import asyncio
import threading
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from node.quorum.disk import DiskQueue
from raft.effects import Effects, HardState, Persisted
from raft.messages import AppendAccepted, VoteResponse
from raft.model import Entry, EntryKind, PeerId
from storage.errors import DiskFull

ONE, TWO = PeerId(1, b"1" * 16), PeerId(2, b"2" * 16)


class Job:
    """A trip of the sync thread that takes until the test lets it end."""

    put_off = False

    def __init__(self) -> None:
        self.begun, self.may_end = threading.Event(), threading.Event()
        self.error: OSError | None = None

    def run(self) -> None:
        self.begun.set()
        assert self.may_end.wait(10)
        if self.error is not None:
            raise self.error


class Store:
    def __init__(self) -> None:
        self.written: list[int] = []
        self.jobs: list[Job] = []
        self.hard_states: list[HardState | None] = []
        self.full = False

    def write(self, effects: Effects, _now_ms: int) -> None:
        if self.full:
            raise DiskFull("no space")
        self.written += [entry.index for entry in effects.append]
        if effects.drop_log_to is not None:
            self.written.append(-effects.drop_log_to)

    def begin_sync(self, hard_state: HardState | None) -> Job:
        self.hard_states.append(hard_state)
        self.jobs.append(Job())
        return self.jobs[-1]

    def complete_sync(self, job: Job) -> None:
        assert job.may_end.is_set()


def vote(term: int) -> Effects:
    message = VoteResponse(b"c" * 16, ONE, TWO, term, granted=True)
    return Effects(hard_state=HardState(term, TWO), synced=Persisted(term, 0), send_after_sync=[message])


def append(index: int) -> Effects:
    return Effects(append=[Entry(index, 1, EntryKind.DATA)], synced=Persisted(1, index))


class Thread(ThreadPoolExecutor):
    """Remembers what it was given."""

    def __init__(self) -> None:
        super().__init__(1)
        self.given: list[Future] = []

    def submit(self, *arguments, **named) -> Future:
        self.given.append(super().submit(*arguments, **named))
        return self.given[-1]


class Shell:
    def __init__(self) -> None:
        self.store = Store()
        self.sent: list[int] = []
        self.persisted: list[Persisted] = []
        self.failed: list[BaseException] = []
        self.thread = Thread()
        self.queue = DiskQueue(self.store, self.thread, self.synced, self.failed.append)

    def synced(self, messages, persisted) -> None:
        self.sent += [message.term for message in messages]
        if persisted is not None:
            self.persisted.append(persisted)

    async def end(self, number: int, error: OSError | None = None) -> None:
        """Let the sync `number` end, and the loop see it."""
        job = self.store.jobs[number]
        job.error = error
        job.may_end.set()
        await asyncio.wait([asyncio.wrap_future(self.thread.given[number])])
        for _ in range(5):
            await asyncio.sleep(0)


@pytest.fixture
def shell():
    made = Shell()
    yield made
    for job in made.store.jobs:
        job.may_end.set()
    made.thread.shutdown()


async def test_a_vote_leaves_after_its_sync(shell):
    shell.queue.put(vote(5))
    await asyncio.sleep(0.02)
    assert (shell.sent, shell.persisted) == ([], [])
    await shell.end(0)
    assert (shell.sent, shell.persisted) == ([5], [Persisted(5, 0)])


async def test_a_sync_vouches_for_nothing_that_was_written_while_it_ran(shell):
    shell.queue.put(append(1))
    shell.queue.put(append(2))
    shell.queue.put(append(3))
    assert shell.store.written == [1, 2, 3]
    await shell.end(0)
    assert shell.persisted == [Persisted(1, 1)]
    assert len(shell.store.jobs) == 2, "one sync for both that waited"
    await shell.end(1)
    assert shell.persisted == [Persisted(1, 1), Persisted(1, 3)]


async def test_what_needs_no_sync_of_its_own_still_waits_for_those_before_it(shell):
    shell.queue.put(vote(5))
    late = vote(6)
    late.hard_state, late.synced = None, None
    shell.queue.put(late)
    await asyncio.sleep(0.02)
    assert shell.sent == []
    await shell.end(0)
    assert shell.sent == [5, 6]


async def test_the_head_of_the_log_is_dropped_after_what_was_written_before(shell):
    """A snapshot may be ahead of the disk: dropped first, a cut that waits would meet the wrong entries."""
    shell.store.full = True
    cut = append(32)
    cut.truncate_from = 32
    shell.queue.put(cut)
    shell.queue.put(Effects(drop_log_to=32))
    assert shell.store.written == []
    shell.store.full = False
    async with asyncio.timeout(20):
        while len(shell.store.written) < 2:  # noqa: ASYNC110 - it tries again after 0.2 s
            await asyncio.sleep(0.01)
    assert shell.store.written == [32, -32]


async def test_a_failed_sync_ends_everything_and_is_not_tried_again(shell):
    shell.queue.put(vote(5))
    shell.queue.put(append(1))
    await shell.end(0, OSError(5, "lost"))
    assert [str(error) for error in shell.failed] == ["[Errno 5] lost"]
    assert (shell.sent, shell.persisted) == ([], [])
    assert len(shell.store.jobs) == 1


async def test_an_acknowledgement_leaves_only_while_the_disk_holds_what_it_acknowledges(shell):
    """Entries of term 1 that a leader of term 2 has cut again, all of it written while one sync ran."""
    shell.queue.put(vote(1))
    accepted = append(4)
    accepted.send_after_sync = [AppendAccepted(b"c" * 16, ONE, TWO, 1, 4)]
    shell.queue.put(accepted)
    cut = Effects(truncate_from=4, hard_state=HardState(2, None), synced=Persisted(2, 3))
    cut.send_after_sync = [AppendAccepted(b"c" * 16, ONE, TWO, 2, 3)]
    shell.queue.put(cut)
    await shell.end(0)
    await shell.end(1)
    assert shell.sent == [1, 2]
    assert shell.persisted == [Persisted(1, 0), Persisted(2, 3)]


async def test_of_several_votes_in_one_sync_the_newest_is_written(shell):
    shell.queue.put(append(1))
    shell.queue.put(vote(5))
    shell.queue.put(vote(6))
    await shell.end(0)
    assert shell.store.hard_states == [None, HardState(6, TWO)]
    await shell.end(1)
    assert shell.sent == [6], "nothing says what the disk no longer says"
