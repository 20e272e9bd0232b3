"""Closing from anywhere, twice, too early, too late, by Ctrl-C: it ends, nothing is left, later calls say why not."""

import asyncio
import contextlib
import gc
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from typing import Any

import pytest

import ottla.sync
from ottla import Admin, Client, Closed, Consumer, OttlaError, Producer, RebalanceListener, TopicPartition
from tests.cluster.harness import LocalCluster
from tests.ottla.client.test_life import prepare

pytestmark = pytest.mark.cluster
Starts = Callable[[str], Client | Producer | Consumer]
STARTED: list[Starts] = [
    Client,
    Producer,
    lambda boot: Consumer("t", bootstrap=boot),
    lambda boot: Consumer("t", group="starting", bootstrap=boot),
]


@pytest.fixture(scope="module")
def bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with LocalCluster(tmp_path_factory.mktemp("endings"), nodes=1) as cluster:
        cluster.start().wait_ready()
        asyncio.run(prepare(cluster.bootstrap))
        yield cluster.bootstrap


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    yield
    assert [thread for thread in threading.enumerate() if thread.name == "ottla-loop"] == []


def own_tasks() -> list[str]:
    return [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("ottla-")]


class Closing(RebalanceListener):
    """Closes its consumer as soon as it hears something."""

    def __init__(self, when: str) -> None:
        self.when, self.calls = when, 0
        self.consumer: Consumer | None = None

    async def on_assigned(self, partitions: Sequence[TopicPartition]) -> None:
        await self._heard("assigned")

    async def on_revoked(self, partitions: Sequence[TopicPartition]) -> None:
        await self._heard("revoked")

    async def _heard(self, what: str) -> None:
        if what == self.when:
            self.calls += 1
            assert self.consumer is not None
            await self.consumer.close()


@pytest.mark.parametrize("when", ["assigned", "revoked"])
async def test_a_listener_may_close_its_consumer(bootstrap: str, when: str) -> None:
    listener = Closing(when)
    consumer = listener.consumer = Consumer(
        "t", group=f"closing-{when}", bootstrap=bootstrap, rebalance_listener=listener
    )
    async with asyncio.timeout(10), consumer:
        if when == "assigned":
            assert [record async for record in consumer] == []
        else:
            await anext(consumer)
    async with asyncio.timeout(20):
        while own_tasks():  # noqa: ASYNC110 - the task that called the listener ends after it
            await asyncio.sleep(0.01)
    assert listener.calls == 1


@pytest.mark.parametrize("when", ["on_assigned", "on_revoked"])
def test_a_plain_listener_may_close_its_consumer(bootstrap: str, when: str) -> None:
    listener, calls = ottla.sync.RebalanceListener(), []
    setattr(listener, when, lambda partitions: (consumer.close(), calls.append(1)))
    consumer = ottla.sync.Consumer("t", group=f"plain-{when}", bootstrap=bootstrap, rebalance_listener=listener)
    consumer.start()
    with contextlib.suppress(Closed):
        consumer.poll(timeout_ms=5000)
    consumer.close()
    wait_until(lambda: calls == [1])


def wait_until(holds: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 5
    while not holds():
        assert time.monotonic() < give_up
        time.sleep(0.01)


class Failing(RebalanceListener):
    def on_assigned(self, partitions: Sequence[TopicPartition]) -> Any:
        raise asyncio.CancelledError

    def on_revoked(self, partitions: Sequence[TopicPartition]) -> Any:
        raise ValueError("plain")


async def test_what_a_listener_raises_is_told_and_stops_no_close(bootstrap: str) -> None:
    async with asyncio.timeout(10):
        async with Consumer("t", group="failing", bootstrap=bootstrap, rebalance_listener=Failing()) as consumer:
            with pytest.raises(OttlaError, match="listener failed"):
                await anext(consumer)
    assert own_tasks() == []


async def test_whoever_closes_again_waits_for_the_same_end(bootstrap: str) -> None:
    producer, consumer = Producer(bootstrap, linger_ms=300), Consumer("t", group="again", bootstrap=bootstrap)
    await producer.start()
    await consumer.start()
    delivery = await producer.send("t", b"x")
    first, second = asyncio.create_task(producer.close()), asyncio.create_task(producer.close())
    await asyncio.sleep(0.01)
    second.cancel()
    await first
    assert delivery.result().partition == 0
    await asyncio.gather(consumer.close(), consumer.close(), producer.close())
    assert own_tasks() == []


@pytest.mark.parametrize("cut", ["closed", "cancelled"])
async def test_a_start_that_is_cut_short_leaves_nothing(bootstrap: str, cut: str) -> None:
    for turns in (0, 1, 5, 20, 60):
        for make in STARTED:
            each = make(bootstrap)
            starting = asyncio.create_task(each.start())
            for _ in range(turns):
                await asyncio.sleep(0.0002)
            began = time.monotonic()
            if cut == "cancelled":
                starting.cancel()
            await each.close()
            (ended,) = await asyncio.gather(starting, return_exceptions=True)
            assert ended is None or isinstance(ended, Closed | asyncio.CancelledError), ended
            await each.close()
            assert time.monotonic() - began < 5
    assert own_tasks() == []


async def test_nothing_is_handed_out_after_a_close(bootstrap: str) -> None:
    for group in (None, "in-the-loop"):
        seen = 0
        async with Consumer("t", group=group, bootstrap=bootstrap) as consumer:
            async for _ in consumer:
                seen += 1
                if seen == 5:
                    await consumer.close()
        assert seen == 5
        if group:
            async with Consumer("t", group=group, bootstrap=bootstrap) as consumer:
                assert await consumer.committed("t", 0) == 5


async def test_a_generator_that_is_left_or_closed_closes_its_consumer(bootstrap: str) -> None:
    async def values() -> AsyncIterator[bytes | None]:
        async with Consumer("t", bootstrap=bootstrap) as consumer:
            async for record in consumer:
                yield record.value

    closed = values()
    await anext(closed)
    await closed.aclose()  # type: ignore[attr-defined]
    assert own_tasks() == []


def test_a_program_torn_down_with_its_loop_prints_nothing_of_ours(bootstrap: str) -> None:
    async def main() -> None:
        async with Consumer("t", bootstrap=bootstrap), Producer(bootstrap):
            await asyncio.sleep(100)

    loop = asyncio.new_event_loop()
    task = loop.create_task(main())
    loop.run_until_complete(asyncio.sleep(0.3))
    loop.close()
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    said: list[object] = []
    hook, sys.unraisablehook = sys.unraisablehook, said.append
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            del task
            gc.collect()
    finally:
        sys.unraisablehook = hook
    assert said == []
    assert [w for w in warned if "never awaited" in str(w.message)] == []


async def test_another_loop_neither_uses_nor_closes_it(bootstrap: str) -> None:
    async with Client(bootstrap) as client, Producer(client) as producer, Consumer("t", bootstrap=client) as consumer:
        calls: list[Callable[[], Coroutine[Any, Any, object]]] = [
            lambda: producer.send("t", b"x"),
            lambda: producer.partitions_for("t"),
            lambda: consumer.poll(),
            lambda: Producer(client).start(),
            *(each.close for each in (producer, consumer, client)),
        ]

        def elsewhere(call: Callable[[], Coroutine[Any, Any, object]]) -> None:
            with pytest.raises(Closed, match="another event loop"):
                asyncio.run(call())  # type: ignore[arg-type]

        for call in calls:
            await asyncio.to_thread(elsewhere, call)
        await producer.send_and_wait("t", b"x")
        assert await consumer.poll(max_records=1)


async def test_after_the_close_every_call_says_so(bootstrap: str) -> None:
    client, producer = Client(bootstrap), Producer(bootstrap)
    consumer, admin = Consumer("t", group="after", bootstrap=bootstrap), Admin(bootstrap)
    for each in (client, producer, consumer, admin):
        await each.start()  # type: ignore[attr-defined]
    await anext(consumer)
    for each in (client, producer, consumer, admin):
        await each.close()  # type: ignore[attr-defined]
    calls: list[Callable[[], Any]] = [
        lambda: producer.send("t", b"x"),
        lambda: producer.send_and_wait("t", b"x"),
        lambda: producer.partitions_for("t"),
        lambda: consumer.poll(),
        lambda: consumer.commit(),
        lambda: consumer.commit({("t", 0): 1}),
        lambda: consumer.committed("t", 0),
        lambda: consumer.seek("t", 0, 1),
        lambda: consumer.seek_to_end("t", 0),
        lambda: consumer.pause("t", 0),
        lambda: consumer.resume("t", 0),
        lambda: admin.list_topics(),
        lambda: Producer(client).start(),
        lambda: Consumer("t", bootstrap=client).start(),
        lambda: Admin(client).list_topics(),
        producer.start,
        consumer.start,
        admin.start,
        client.start,
    ]
    async with asyncio.timeout(10):
        for call in calls:
            with pytest.raises(Closed, match="closed"):
                await call()
        assert [record async for record in consumer] == []
        await producer.flush()
    with pytest.raises(Closed, match="not started"):
        await Consumer("t", bootstrap=bootstrap).poll()


# -- without asyncio ------------------------------------------------------------------------------------------------


def test_threads_that_send_hear_of_the_close(bootstrap: str) -> None:
    for _ in range(3):
        producer = ottla.sync.Producer(bootstrap)
        producer.start()
        heard: list[type[BaseException]] = []

        def send(producer: ottla.sync.Producer = producer, heard: list[type[BaseException]] = heard) -> None:
            try:
                while True:
                    producer.send("t", b"x")
            except BaseException as error:
                heard.append(type(error))

        senders = [threading.Thread(target=send, daemon=True) for _ in range(3)]
        closers = [threading.Thread(target=producer.close, daemon=True) for _ in range(2)]
        for thread in senders:
            thread.start()
        time.sleep(0.02)
        for thread in closers:
            thread.start()
        for thread in senders + closers:
            thread.join(20)
            assert not thread.is_alive()
        assert heard == [Closed] * 3


def interrupt_soon(after_s: float) -> None:
    threading.Timer(after_s, lambda: os.kill(os.getpid(), signal.SIGINT)).start()


@pytest.mark.parametrize("kind", ["producer", "consumer"])
def test_ctrl_c_in_a_close_closes_all_the_same(bootstrap: str, kind: str) -> None:
    each: ottla.sync.Producer | ottla.sync.Consumer
    if kind == "producer":
        each = ottla.sync.Producer(bootstrap, linger_ms=3000)
        each.start()
        each.send("t", b"x")
    else:
        each = ottla.sync.Consumer("t", group="ctrl-c", bootstrap=bootstrap)
        each.start()
        each.poll()
    with contextlib.suppress(KeyboardInterrupt):
        interrupt_soon(0.005)
        each.close()
        time.sleep(1)
    each.close()


def test_ctrl_c_in_a_poll_leaves_the_consumer_usable(bootstrap: str) -> None:
    with ottla.sync.Consumer("t", bootstrap=bootstrap, auto_offset_reset="latest") as consumer:
        consumer.poll(timeout_ms=100)
        interrupt_soon(0.1)
        with pytest.raises(KeyboardInterrupt):
            consumer.poll(timeout_ms=10_000)
        assert consumer.poll(timeout_ms=1) == []


def test_what_would_end_the_loop_s_thread_does_not(bootstrap: str) -> None:
    def leaves() -> Iterator[tuple[str, bytes]]:
        yield "a", b"b"
        sys.exit(3)

    listener = ottla.sync.RebalanceListener()
    listener.on_assigned = lambda partitions: sys.exit(3)  # type: ignore[method-assign]
    with ottla.sync.Producer(bootstrap) as producer:
        with pytest.raises(SystemExit):
            producer.send("t", b"x", headers=leaves())  # type: ignore[arg-type]
        assert producer.send_and_wait("t", b"x").partition == 0
        consumer = ottla.sync.Consumer("t", group="exits", bootstrap=bootstrap, rebalance_listener=listener)
        with consumer, pytest.raises(OttlaError, match="listener failed"):
            consumer.poll(timeout_ms=5000)


def test_a_generator_that_uses_ottla_itself_does_not_wait_for_ever(bootstrap: str) -> None:
    with ottla.sync.Producer(bootstrap) as producer, ottla.sync.Consumer(bootstrap=bootstrap) as consumer:
        with pytest.raises(Closed, match="own thread"):
            consumer.assign((name, number) for name in ["t"] for number in range(producer.partitions_for(name)))
        consumer.assign([("t", number) for number in range(producer.partitions_for("t"))])
        assert consumer.poll(max_records=1)
