"""A client whose tasks are cancelled, whose loop ends, whose process forks or whose calls are cut short: an error says
so, or it goes on; no call waits for ever."""

import asyncio
import inspect
import os
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

import ottla
import ottla.sync
from ottla import Admin, Client, Closed, Consumer, DeliveryFailed, Producer
from tests.cluster.harness import ROOT, LocalCluster

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with LocalCluster(tmp_path_factory.mktemp("life"), nodes=1) as cluster:
        cluster.start().wait_ready()
        asyncio.run(prepare(cluster.bootstrap))
        yield cluster.bootstrap


async def prepare(bootstrap: str) -> None:
    async with Admin(bootstrap) as admin, Producer(bootstrap) as producer:
        await admin.create_topic("t", partitions=1)
        for _ in range(2000):
            await producer.send("t", b"x" * 1000)


async def read_all(consumer: Consumer) -> None:
    async for _ in consumer:
        pass


async def cancel_others(before: set["asyncio.Task[Any]"]) -> None:
    for task in asyncio.all_tasks() - before:
        task.cancel()
    await asyncio.sleep(0.05)


async def test_a_producer_whose_tasks_are_cancelled_says_so_and_closes(bootstrap: str) -> None:
    before = asyncio.all_tasks()
    producer = Producer(bootstrap, linger_ms=10_000)
    await producer.start()
    waiting = await producer.send("t", b"1")
    await cancel_others(before)
    async with asyncio.timeout(5):
        with pytest.raises(DeliveryFailed, match="cancelled"):
            await waiting
        with pytest.raises(Closed, match="cancelled"):
            await producer.send("t", b"2")
        with pytest.raises(Closed, match="cancelled"):
            await producer.flush()
        await producer.close()


async def test_a_consumer_whose_tasks_are_cancelled_says_so_and_closes(bootstrap: str) -> None:
    for group in (None, "cancelled"):
        before = asyncio.all_tasks()
        consumer = Consumer("t", group=group, bootstrap=bootstrap)
        await consumer.start()
        await anext(consumer)
        await cancel_others(before)
        async with asyncio.timeout(10):
            with pytest.raises(Closed, match="cancelled"):
                await read_all(consumer)
            with pytest.raises(Closed, match="cancelled"):
                await consumer.seek_to_end("t", 0)
            await consumer.close()


async def test_a_client_whose_tasks_are_cancelled_says_so_and_closes(bootstrap: str) -> None:
    before = asyncio.all_tasks()
    client = Client(bootstrap)
    await client.start()
    await cancel_others(before)
    async with asyncio.timeout(5):
        with pytest.raises(Closed, match="cancelled"):
            await Admin(client).list_topics()
        await client.close()


async def test_a_stream_whose_inner_tasks_are_cancelled_is_opened_again(bootstrap: str) -> None:
    async with Producer(bootstrap) as producer:
        before = asyncio.all_tasks()
        await producer.send_and_wait("t", b"1")
        for task in asyncio.all_tasks() - before:
            if not task.get_name().startswith("ottla-"):
                task.cancel()
        async with asyncio.timeout(10):
            await producer.send_and_wait("t", b"2")


@pytest.mark.parametrize("closed", [False, True])
def test_a_loop_that_ends_ends_its_clients(bootstrap: str, closed: bool) -> None:
    producer, consumer = Producer(bootstrap), Consumer("t", bootstrap=bootstrap)

    async def first() -> None:
        await producer.start()
        await consumer.start()
        await producer.send_and_wait("t", b"1")

    async def second() -> None:
        async with asyncio.timeout(10):
            with pytest.raises(Closed):
                await producer.send_and_wait("t", b"2", partition=0)
            with pytest.raises(Closed):
                await producer.flush()
            with pytest.raises(Closed):
                await read_all(consumer)
            await producer.close()
            await consumer.close()

    if closed:  # by hand, its tasks left as they are
        loop = asyncio.new_event_loop()
        loop.run_until_complete(first())
        loop.close()
    else:
        asyncio.run(first())
    asyncio.run(second())


CUT_SHORT: list[tuple[str, Callable[[Producer, Consumer], Coroutine[Any, Any, object]]]] = [
    ("send", lambda p, c: p.send("t", b"x" * 100_000)),
    ("send_and_wait", lambda p, c: p.send_and_wait("t", b"x")),
    ("flush", lambda p, c: p.flush()),
    ("partitions_for", lambda p, c: p.partitions_for("t")),
    ("commit", lambda p, c: c.commit()),
    ("committed", lambda p, c: c.committed("t", 0)),
    ("anext", lambda p, c: anext(c)),  # type: ignore[list-item]
    ("poll", lambda p, c: c.poll()),
    ("seek_to_end", lambda p, c: c.seek_to_end("t", 0)),
    ("position", lambda p, c: c.position("t", 0)),
]


@pytest.mark.parametrize("call", [call for _, call in CUT_SHORT], ids=[name for name, _ in CUT_SHORT])
async def test_a_call_that_is_cut_short_leaves_the_client_usable(
    bootstrap: str, call: Callable[[Producer, Consumer], Coroutine[Any, Any, object]]
) -> None:
    group = f"cut-{CUT_SHORT[[c for _, c in CUT_SHORT].index(call)][0]}"
    async with Producer(bootstrap) as producer, Consumer("t", group=group, bootstrap=bootstrap) as consumer:
        await anext(consumer)
        for turns in range(12):
            task = asyncio.ensure_future(call(producer, consumer))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        async with asyncio.timeout(20):
            await producer.send_and_wait("t", b"y")
            await producer.flush()
            consumer.seek("t", 0, 7)
            assert (await anext(consumer)).offset == 7
            await consumer.commit()
            assert await consumer.committed("t", 0) == 8


@pytest.mark.parametrize("turns", [0, 1, 2, 5, 10, 30])
async def test_a_close_that_is_cut_short_closes_all_the_same(bootstrap: str, turns: int) -> None:
    before = asyncio.all_tasks()
    producer, consumer = Producer(bootstrap), Consumer("t", group=f"closing-{turns}", bootstrap=bootstrap)
    await producer.start()
    await consumer.start()
    await anext(consumer)
    await producer.send("t", b"x")
    for each in (producer, consumer):
        task = asyncio.ensure_future(each.close())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await each.close()
    async with asyncio.timeout(20):
        while any(task.get_name().startswith("ottla-") for task in asyncio.all_tasks() - before):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


# -- processes ------------------------------------------------------------------------------------------------------


def run(
    program: str, bootstrap: str, *options: str, rounds: int = 0, timeout_s: float = 60
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, *options, "-c", program, bootstrap, str(rounds)],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )


FORKS = """
import os, sys
from ottla.sync import Admin, Consumer, Producer
boot = sys.argv[1]

def in_child(work):
    pid = os.fork()
    if pid == 0:
        try:
            text = work()
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
        print(text, flush=True)
        sys.stdout.flush()
        sys.exit(0)  # not os._exit: what the child has inherited is freed here
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def own():
    with Producer(boot) as mine:
        return f"stored in {mine.send_and_wait('t', b'x').partition}"

def inherited():
    with producer:
        pass

producer = Producer(boot)
producer.start()
producer.send_and_wait("t", b"x")
consumer = Consumer("t", bootstrap=boot)
consumer.start()
consumer.poll(max_records=1)
codes = [
    in_child(lambda: producer.send_and_wait("t", b"x")),
    in_child(lambda: producer.flush()),
    in_child(lambda: consumer.poll()),
    in_child(lambda: producer.close()),
    in_child(own),
]
producer.send_and_wait("t", b"x")
producer.close()
consumer.close()
codes.append(in_child(own))
print(codes)
"""


def test_a_forked_child_hears_what_it_may_not_use(bootstrap: str) -> None:
    ended = run(FORKS, bootstrap)
    lines = ended.stdout.splitlines()
    assert ended.returncode == 0, ended.stderr
    assert [line.split(":")[0] for line in lines[:3]] == ["Closed"] * 3, lines
    assert all("forked" in line for line in lines[:3])
    assert lines[3] == "None"
    assert lines[4:] == ["stored in 0", "stored in 0", "[0, 0, 0, 0, 0, 0]"]
    assert ended.stderr == ""


FORKS_AT_WORK = """
import asyncio, os, sys
import grpc.aio  # before ours
from ottla import Consumer, Producer
import ottla.sync
boot = sys.argv[1]

async def own(what):
    async with Producer(boot) as producer, Consumer("t", bootstrap=boot, auto_offset_reset="latest") as consumer:
        await consumer.seek_to_end("t", 0)
        for i in range(20):
            await producer.send_and_wait("t", b"%d" % i)
        assert len(await consumer.poll(max_records=1)) == 1
        try:
            await producer.send_and_wait("not-there", b"x")
        except Exception as error:
            assert type(error).__name__ == "UnknownTopic", error
    print(what, "works")

def child(what, then=None):
    pid = os.fork()
    if pid == 0:
        asyncio.run(own(what))
        with ottla.sync.Admin(boot) as admin:
            assert admin.list_topics()
            if then:
                then()
        sys.stdout.flush()
        os._exit(0)
    return os.waitpid(pid, 0)[1]

async def main():
    async with Producer(boot) as producer, Consumer("t", bootstrap=boot) as consumer:
        async def busy():
            while True:
                await producer.send("t", b"x" * 1000)
                await consumer.poll(max_records=100)
        task = asyncio.create_task(busy())
        codes = []
        for _ in range(4):
            await asyncio.sleep(0.05)
            codes.append(await asyncio.to_thread(child, "child"))
        codes.append(child("child", lambda: print(child("grandchild"))))
        await asyncio.sleep(0.1)
        assert not task.done()
        task.cancel()
        print(codes)

asyncio.run(main())
"""


def test_children_of_a_process_at_work_can_open_their_own(bootstrap: str) -> None:
    ended = run(FORKS_AT_WORK, bootstrap)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.splitlines() == ["child works"] * 5 + ["grandchild works", "0", "[0, 0, 0, 0, 0]"]


UNCLOSED = """
import sys
from ottla.sync import Producer
producer = Producer(sys.argv[1], linger_ms=2000)
producer.start()
for i in range(10):
    producer.send("t", b"%d" % i)
"""


def test_a_program_that_ends_without_closing_sends_what_it_was_given(bootstrap: str) -> None:
    with ottla.sync.Admin(bootstrap) as admin:
        before = admin.list_offsets({("t", 0): -1})[ottla.TopicPartition("t", 0)]
        ended = run(UNCLOSED, bootstrap, "-X", "dev")
        assert ended.returncode == 0
        assert "Unclosed Producer" in ended.stderr
        assert admin.list_offsets({("t", 0): -1})[ottla.TopicPartition("t", 0)] == (before or 0) + 10


QUIET = """
import asyncio, sys
import ottla, ottla.sync
boot = sys.argv[1]

async def once():
    async with ottla.Client(boot) as client:
        await ottla.Admin(client).list_topics()
    async with ottla.Admin(boot) as admin:
        await admin.list_topics()
    async with ottla.Producer(boot) as producer:
        await producer.send("t", b"x")
    async with ottla.Consumer("t", bootstrap=boot) as consumer:
        await consumer.poll(max_records=1)
    async with ottla.Consumer("t", group="quiet", bootstrap=boot) as consumer:
        await consumer.poll(max_records=1)

for _ in range(int(sys.argv[2])):
    asyncio.run(once())
    with ottla.sync.Producer(boot) as producer:
        producer.send("t", b"x")
    with ottla.sync.Consumer("t", bootstrap=boot) as consumer:
        consumer.poll(max_records=1)
    with ottla.sync.Consumer("t", group="quiet", bootstrap=boot) as consumer:
        consumer.poll(max_records=1)
    with ottla.sync.Admin(boot) as admin:
        admin.list_topics()
"""


@pytest.mark.parametrize("rounds", [10, pytest.param(1000, marks=[pytest.mark.long, pytest.mark.timeout(1800)])])
def test_a_clean_close_prints_nothing(bootstrap: str, rounds: int) -> None:
    ended = run(QUIET, bootstrap, "-X", "dev", "-W", "error", rounds=rounds, timeout_s=60 + 1.5 * rounds)
    lines = [line for line in ended.stderr.splitlines() if not line.startswith("Executing <")]  # a slow machine
    assert (ended.returncode, lines) == (0, [])


CYCLES = """
import asyncio, ctypes, gc, sys
from ottla import Consumer, Producer
boot, rounds = sys.argv[1], int(sys.argv[2])

def rss_mb():
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what is held, not what malloc keeps of the buffers of a moment ago
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * 4096 / 2**20

async def main():
    async with Producer(boot) as producer:
        async def load():
            while True:
                await producer.send("t", b"x" * 1000)
                await asyncio.sleep(0.0005)
        loading = asyncio.create_task(load())
        for number in range(-10, rounds):
            if number == 0:
                before = rss_mb()
            async with Consumer("t", group="cycles" if number % 2 else None, bootstrap=boot) as consumer:
                assert await consumer.poll(max_records=100, timeout_ms=10_000)
        loading.cancel()
    print(rss_mb() - before)

asyncio.run(main())
"""


@pytest.mark.parametrize("rounds", [50, pytest.param(1000, marks=[pytest.mark.long, pytest.mark.timeout(1800)])])
def test_consumers_that_come_and_go_under_load_leave_no_memory(bootstrap: str, rounds: int) -> None:
    ended = run(CYCLES, bootstrap, rounds=rounds, timeout_s=60 + 1.5 * rounds)
    assert (ended.returncode, ended.stderr) == (0, "")
    print(f"{rounds} consumers left {float(ended.stdout):.1f} MB")
    assert float(ended.stdout) < 20


# -- without asyncio ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Producer", "Consumer", "Admin"])
def test_the_blocking_objects_take_the_same_settings(name: str) -> None:
    blocking = inspect.signature(getattr(ottla.sync, name)).parameters
    for parameter in inspect.signature(getattr(ottla, name)).parameters.values():
        assert parameter.name in blocking
        assert parameter.default == blocking[parameter.name].default


def test_an_outcome_that_is_known_can_be_asked_for_after_the_close(bootstrap: str) -> None:
    with ottla.sync.Producer(bootstrap) as producer:
        deliveries = [producer.send("t", b"x") for _ in range(3)]
    first = deliveries[0].result().offset
    assert [delivery.result().offset for delivery in deliveries] == [first, first + 1, first + 2]
