"""The client for programs without asyncio: the same names and methods, which block.

    with Producer("host:9192") as producer:
        producer.send("events", b"hello")

All objects share one background thread with an event loop, which keeps batches and connections moving while the program
does something else. Every call crosses threads (about 50 us), so this is the convenient way, not the fast one.
"""

import asyncio
import atexit
import concurrent.futures
import functools
import logging
import os
import threading
import time
import warnings
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, Concatenate, Final, Literal, ParamSpec, Self, TypeVar

from ottla.client import admin, arguments, connection, consumer, life, producer, producer_batch, rebalance
from ottla.client.deserialize import Deserializer, Serializer
from ottla.client.errors import Closed, ConfigError
from ottla.client.metrics import ConsumerMetrics, ProducerMetrics
from ottla.client.records import ConsumerRecord, Headers, RecordMetadata, TopicPartition
from ottla.client.tls import PathText, Tls

log = logging.getLogger("ottla.client")

AT_EXIT_S: Final = 10.0
"""How long the end of a program waits for what was not closed, all together."""

WIND_UP_S: Final = 1.0
"""How long the last one's close waits for what is still under way, and once more after cancelling it."""

P = ParamSpec("P")
T = TypeVar("T")

__all__ = ["Admin", "Consumer", "Delivery", "Producer", "RebalanceListener"]


class _Loop:
    """An event loop in a daemon thread; runs while somebody holds it."""

    _lock = threading.RLock()
    """Of all of them; a signal's handler may come while it is held."""
    _shared: "_Loop | None" = None
    _holders = 0

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self._serve, name="ottla-loop", daemon=True)
        self._is_over = False
        self.thread.start()

    def _serve(self) -> None:
        while True:
            try:
                self.loop.run_forever()
            except (SystemExit, KeyboardInterrupt):
                continue  # of what one caller handed in, who has it: the loop is there for the others, too
            return

    @classmethod
    def hold(cls) -> "_Loop":
        with cls._lock:
            if cls._shared is None:
                cls._shared = cls()
            cls._holders += 1
            return cls._shared

    @classmethod
    def let_go(cls) -> None:
        with cls._lock:
            cls._holders -= 1
            if cls._holders or cls._shared is None:
                return
            idle, cls._shared = cls._shared, None
            idle._is_over = True
            asyncio.run_coroutine_threadsafe(_wind_up(), idle.loop).add_done_callback(
                lambda _: idle.loop.call_soon_threadsafe(idle.loop.stop)
            )
        if idle.thread is not threading.current_thread():
            idle.thread.join()
            idle.loop.close()

    def run(self, work: Coroutine[Any, Any, T], timeout_s: float | None = None) -> T:
        """Runs it on the loop and waits; what interrupts the wait (Ctrl-C, a time-out) cancels it. Raises Closed where
        nobody would carry it out."""
        if threading.current_thread() is self.thread:
            work.close()
            raise Closed(
                "this call comes from Ottla's own thread, which it would wait for. Next: hand in lists, not generators "
                "that use Ottla themselves"
            )
        with _Loop._lock:
            if self._is_over:
                work.close()
                raise Closed("it was closed meanwhile. Next: make a new one")
            future = asyncio.run_coroutine_threadsafe(work, self.loop)
        try:
            return future.result(timeout_s)
        except BaseException:
            future.cancel()
            raise


async def _wind_up() -> None:
    """What is under way when the last object is closed comes to its end: calls of other threads, and what was cut short
    by Ctrl-C."""
    for timeout_s in (WIND_UP_S, WIND_UP_S):
        left = asyncio.all_tasks() - {asyncio.current_task()}
        if not left:
            return
        _, left = await asyncio.wait(left, timeout=timeout_s)
        for task in left:
            task.cancel()


class _Blocking:
    """What the three have in common: `with`, start, close, and calls that wait."""

    _inner: Any
    _loop: _Loop | None = None
    _life = "new"

    def start(self) -> None:
        """Connects. Raises ConnectionFailed if no node answers."""
        name = type(self).__name__.lower()
        if self._life != "new":
            raise Closed(f"this {name} is {self._life} and can't be started. Next: make a new one")
        life.opened(self)
        with _Loop._lock:
            if self._loop is not None:
                raise Closed(f"this {name} is being started already. Next: start it once")
            self._loop = _Loop.hold()
        self._life = "open"
        try:
            self._loop.run(self._inner.start())
        except BaseException:
            self._let_go()
            raise
        _open.add(self)

    def inherited(self) -> None:
        """For `life`: this process is a forked child."""
        self._loop, self._life = None, "inherited"

    def close(self) -> None:
        """Disconnects; a producer first waits for its records, and raises what `flush` raises."""
        self._close(self._inner.close)

    def _close(self, ending: Callable[[], Coroutine[Any, Any, None]]) -> None:
        loop = self._loop
        if loop is None:
            return
        try:
            loop.run(ending())
        except (Closed, concurrent.futures.CancelledError):
            if self._loop is not None:
                raise  # by another thread it was closed just now
        finally:
            if threading.current_thread() is not loop.thread:
                self._let_go()

    def _let_go(self) -> None:
        _open.discard(self)
        life.closed(self)
        with _Loop._lock:
            held, self._loop = self._loop, None
            if self._life == "open":
                self._life = "closed"
        if held is not None:
            _Loop.let_go()

    def _at_exit(self, timeout_s: float) -> None:
        self._run(self._inner.close(), timeout_s)

    def _run(self, work: Coroutine[Any, Any, T], timeout_s: float | None = None) -> T:
        loop = self._loop
        if loop is None:
            work.close()
            raise life.refusal(type(self).__name__.lower(), self._life)
        try:
            return loop.run(work, timeout_s)
        except concurrent.futures.CancelledError:
            raise life.refusal(type(self).__name__.lower(), "closed") from None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: Any) -> None:
        self._close(lambda: self._inner.__aexit__(*exc))


def _own(bootstrap: str | Sequence[str] | None) -> str | Sequence[str] | None:
    """Addresses; a Client belongs to its event loop, which is another one."""
    if isinstance(bootstrap, connection.Client):
        raise ConfigError("bootstrap is a Client, which only ottla's asyncio classes can share. Next: pass host:port")
    return bootstrap


_open: set[_Blocking] = set()
"""What was started and not closed."""


def _close_what_is_open() -> None:
    """The program ends: records that were taken are still sent, groups are left, for AT_EXIT_S at most."""
    give_up = time.monotonic() + AT_EXIT_S
    for each in sorted(_open, key=lambda each: not isinstance(each, Producer)):
        name = type(each).__name__
        warnings.warn(f"Unclosed {name}. Next: close it, or use it in a `with` block", ResourceWarning, stacklevel=1)
        try:
            each._at_exit(max(0.1, give_up - time.monotonic()))
        except Exception as error:
            log.error("an unclosed %s was not closed in order at the end of the program: %r", name, error)


def _forget_the_loop() -> None:
    """A forked child has the loop of its parent, but not its thread."""
    _Loop._lock = threading.RLock()
    if _Loop._shared is not None:
        _inherited.append(_Loop._shared)
    _Loop._shared, _Loop._holders = None, 0
    _open.clear()


_inherited: list[_Loop] = []
atexit.register(_close_what_is_open)
os.register_at_fork(after_in_child=_forget_the_loop)


def _documented(call: Callable[P, T], original: Callable[..., object]) -> Callable[P, T]:
    """`functools.wraps`, which would lose the type."""
    functools.update_wrapper(call, original)
    return call


def _waits_for(method: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]) -> Callable[Concatenate[Any, P], T]:
    """The blocking version of a method, with its signature and documentation."""

    def call(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> T:
        blocking: _Blocking = self
        return blocking._run(method(blocking._inner, *args, **kwargs))

    return _documented(call, method)


def _on_loop(method: Callable[Concatenate[Any, P], T]) -> Callable[Concatenate[Any, P], T]:
    """A plain method, run in the loop's thread, since the objects are not to be touched from another."""

    def call(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> T:
        blocking: _Blocking = self

        async def run() -> T:
            return method(blocking._inner, *args, **kwargs)

        return blocking._run(run())

    return _documented(call, method)


class Delivery:
    """What becomes of one record."""

    __slots__ = ("_delivery", "_producer")

    def __init__(self, owner: "Producer", delivery: producer_batch.Delivery) -> None:
        self._producer = owner
        self._delivery = delivery

    def done(self) -> bool:
        """Whether the outcome is known."""
        return self._delivery.done()

    def result(self, timeout_s: float | None = None) -> RecordMetadata:
        """Waits for the acknowledgement. Raises DeliveryFailed, or TimeoutError if it is not known in time."""
        if timeout_s is not None:
            timeout_s = arguments.seconds("timeout_s", timeout_s)
        if self._delivery.done():
            return self._delivery.result()  # also after the producer was closed

        async def wait() -> RecordMetadata:
            return await self._delivery

        try:
            return self._producer._run(wait(), timeout_s)
        except concurrent.futures.TimeoutError:
            raise TimeoutError(f"not acknowledged within {timeout_s} s; it is still being sent") from None
        except Closed:
            if self._delivery.done():
                return self._delivery.result()  # it was closed just now
            raise


class Producer(_Blocking):
    """Writes records; see `ottla.Producer` for the settings."""

    def __init__(
        self,
        bootstrap: str | Sequence[str] | None = None,
        *,
        acks: Literal["all", -1, 0, 1] = "all",
        linger_ms: int | None = None,
        batch_size: int = 128 * 1024,
        buffer_memory: int = 32 * 1024 * 1024,
        max_block_ms: int = 60_000,
        max_request_size: int = 1024 * 1024,
        compression_type: Literal["none", "gzip", "snappy", "lz4", "zstd"] = "none",
        request_timeout_ms: int = 5_000,
        delivery_timeout_ms: int = 120_000,
        retry_backoff_ms: int = 20,
        retry_backoff_max_ms: int = 1_000,
        client_id: str = "ottla-python",
        key_serializer: Serializer | None = None,
        value_serializer: Serializer | None = None,
        tls: Tls | PathText | None = None,
        user: str | None = None,
        password: str | None = None,
        password_file: PathText | None = None,
    ) -> None:
        self._inner: producer.Producer = producer.Producer(
            _own(bootstrap),
            tls=tls,
            user=user,
            password=password,
            password_file=password_file,
            acks=acks,
            linger_ms=linger_ms,
            batch_size=batch_size,
            buffer_memory=buffer_memory,
            max_block_ms=max_block_ms,
            max_request_size=max_request_size,
            compression_type=compression_type,
            request_timeout_ms=request_timeout_ms,
            delivery_timeout_ms=delivery_timeout_ms,
            retry_backoff_ms=retry_backoff_ms,
            retry_backoff_max_ms=retry_backoff_max_ms,
            client_id=client_id,
            key_serializer=key_serializer,
            value_serializer=value_serializer,
        )

    def send(
        self,
        topic: str,
        value: Any,
        *,
        key: Any = None,
        headers: Headers = (),
        partition: int | None = None,
        timestamp: int | None = None,
    ) -> Delivery:
        """Takes a record, as `ottla.Producer.send`, and answers with its Delivery."""
        taken = self._run(
            self._inner.send(topic, value, key=key, headers=headers, partition=partition, timestamp=timestamp)
        )
        return Delivery(self, taken)

    def metrics(self) -> ProducerMetrics:
        """What was counted so far, and what waits now. Asks nobody; may be called after the end."""
        return self._inner.metrics()

    send_and_wait = _waits_for(producer.Producer.send_and_wait)
    flush = _waits_for(producer.Producer.flush)
    partitions_for = _waits_for(producer.Producer.partitions_for)


class RebalanceListener:
    """As `ottla.RebalanceListener`, with plain methods. They run in a thread beside the one that reads, and may use the
    consumer."""

    def on_assigned(self, partitions: Sequence[TopicPartition]) -> None:
        """These are this member's now."""

    def on_revoked(self, partitions: Sequence[TopicPartition]) -> None:
        """These go to another member when this returns."""

    def on_lost(self, partitions: Sequence[TopicPartition]) -> None:
        """These are another member's already."""


class _InThread(rebalance.RebalanceListener):
    """Keeps plain methods off the event loop: there they could not wait for it."""

    def __init__(self, plain: RebalanceListener) -> None:
        self._plain = plain

    async def on_assigned(self, partitions: Sequence[TopicPartition]) -> None:
        await asyncio.to_thread(_contained, self._plain.on_assigned, partitions)

    async def on_revoked(self, partitions: Sequence[TopicPartition]) -> None:
        await asyncio.to_thread(_contained, self._plain.on_revoked, partitions)

    async def on_lost(self, partitions: Sequence[TopicPartition]) -> None:
        await asyncio.to_thread(_contained, self._plain.on_lost, partitions)


def _contained(call: Callable[[Sequence[TopicPartition]], object], partitions: Sequence[TopicPartition]) -> None:
    """A call of the user's in a thread; what would end a program (sys.exit) ends none from there."""
    try:
        call(partitions)
    except Exception:
        raise
    except BaseException as error:
        raise RuntimeError(f"it raised {error!r}") from error


class Consumer(_Blocking):
    """Reads records; see `ottla.Consumer` for the settings. `for record in consumer` waits for more forever; `poll`
    takes many at once, which is faster."""

    def __init__(
        self,
        *topics: str,
        group: str | None = None,
        bootstrap: str | Sequence[str] | None = None,
        auto_offset_reset: str = "earliest",
        fetch_min_bytes: int = 1,
        fetch_max_wait_ms: int = 500,
        fetch_max_bytes: int = 8 * 1024 * 1024,
        max_partition_fetch_bytes: int = 1024 * 1024,
        request_timeout_ms: int = 5_000,
        client_id: str = "ottla-python",
        enable_auto_commit: bool = True,
        auto_commit_interval_ms: int = 5_000,
        session_timeout_ms: int = 10_000,
        group_instance_id: str = "",
        topic_regex: str = "",
        assignor: Literal["uniform", "range"] = "uniform",
        rebalance_listener: RebalanceListener | None = None,
        key_deserializer: Deserializer | None = None,
        value_deserializer: Deserializer | None = None,
        tls: Tls | PathText | None = None,
        user: str | None = None,
        password: str | None = None,
        password_file: PathText | None = None,
    ) -> None:
        self._inner: consumer.Consumer = consumer.Consumer(
            *topics,
            group=group,
            bootstrap=_own(bootstrap),
            tls=tls,
            user=user,
            password=password,
            password_file=password_file,
            auto_offset_reset=auto_offset_reset,
            fetch_min_bytes=fetch_min_bytes,
            fetch_max_wait_ms=fetch_max_wait_ms,
            fetch_max_bytes=fetch_max_bytes,
            max_partition_fetch_bytes=max_partition_fetch_bytes,
            request_timeout_ms=request_timeout_ms,
            client_id=client_id,
            enable_auto_commit=enable_auto_commit,
            auto_commit_interval_ms=auto_commit_interval_ms,
            session_timeout_ms=session_timeout_ms,
            group_instance_id=group_instance_id,
            topic_regex=topic_regex,
            assignor=assignor,
            key_deserializer=key_deserializer,
            value_deserializer=value_deserializer,
            rebalance_listener=None
            if rebalance_listener is None
            else _InThread(arguments.instance_of("rebalance_listener", rebalance_listener, RebalanceListener)),
        )

    def _close(self, ending: Callable[[], Coroutine[Any, Any, None]]) -> None:
        if not self._inner._ending.is_inside():  # else the listener closes what is being closed
            super()._close(ending)

    def _at_exit(self, timeout_s: float) -> None:
        self._run(self._inner.__aexit__(SystemExit), timeout_s)  # the record at work is not done

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> ConsumerRecord:
        async def next_record() -> ConsumerRecord | None:
            return await anext(self._inner, None)

        record = self._run(next_record())
        if record is None:
            raise StopIteration
        return record

    def batches(self, *, max_records: int = 500) -> Iterator[list[ConsumerRecord]]:
        """Records in lists, each of one partition, as `ottla.Consumer.batches`."""
        lists = self._inner.batches(max_records=max_records)

        async def next_list() -> list[ConsumerRecord] | None:
            return await anext(lists, None)

        return iter(lambda: self._run(next_list()), None)

    def metrics(self) -> ConsumerMetrics:
        """What was counted so far, and where it is now. Asks nobody; may be called after the end."""
        return self._inner.metrics()

    poll = _waits_for(consumer.Consumer.poll)
    subscribe = _waits_for(consumer.Consumer.subscribe)
    end_offsets = _waits_for(consumer.Consumer.end_offsets)
    lag = _waits_for(consumer.Consumer.lag)
    assign = _waits_for(consumer.Consumer.assign)
    position = _waits_for(consumer.Consumer.position)
    seek_to_time = _waits_for(consumer.Consumer.seek_to_time)
    seek_to_beginning = _waits_for(consumer.Consumer.seek_to_beginning)
    seek_to_end = _waits_for(consumer.Consumer.seek_to_end)
    commit = _waits_for(consumer.Consumer.commit)
    committed = _waits_for(consumer.Consumer.committed)
    assignment = _on_loop(consumer.Consumer.assignment)
    seek = _on_loop(consumer.Consumer.seek)
    pause = _on_loop(consumer.Consumer.pause)
    resume = _on_loop(consumer.Consumer.resume)
    high_watermark = _on_loop(consumer.Consumer.high_watermark)


class Admin(_Blocking):
    """Administers a cluster; see `ottla.Admin`."""

    def __init__(
        self,
        bootstrap: str | Sequence[str] | None = None,
        *,
        client_id: str = "ottla-python",
        request_timeout_ms: int = 30_000,
        tls: Tls | PathText | None = None,
        user: str | None = None,
        password: str | None = None,
        password_file: PathText | None = None,
    ) -> None:
        self._inner: admin.Admin = admin.Admin(
            _own(bootstrap),
            client_id=client_id,
            request_timeout_ms=request_timeout_ms,
            tls=tls,
            user=user,
            password=password,
            password_file=password_file,
        )

    create_topic = _waits_for(admin.Admin.create_topic)
    delete_topic = _waits_for(admin.Admin.delete_topic)
    create_partitions = _waits_for(admin.Admin.create_partitions)
    list_topics = _waits_for(admin.Admin.list_topics)
    describe_topic = _waits_for(admin.Admin.describe_topic)
    describe_cluster = _waits_for(admin.Admin.describe_cluster)
    alter_topic_configs = _waits_for(admin.Admin.alter_topic_configs)
    alter_broker_configs = _waits_for(admin.Admin.alter_broker_configs)
    describe_topic_configs = _waits_for(admin.Admin.describe_topic_configs)
    describe_broker_configs = _waits_for(admin.Admin.describe_broker_configs)
    list_offsets = _waits_for(admin.Admin.list_offsets)
    log_sizes = _waits_for(admin.Admin.log_sizes)
    delete_records = _waits_for(admin.Admin.delete_records)
    elect_leader = _waits_for(admin.Admin.elect_leader)
    move_partition = _waits_for(admin.Admin.move_partition)
    drain_node = _waits_for(admin.Admin.drain_node)
    resume_node = _waits_for(admin.Admin.resume_node)
    balance = _waits_for(admin.Admin.balance)
    unregister_node = _waits_for(admin.Admin.unregister_node)
    list_reassignments = _waits_for(admin.Admin.list_reassignments)
    list_groups = _waits_for(admin.Admin.list_groups)
    describe_group = _waits_for(admin.Admin.describe_group)
    delete_group = _waits_for(admin.Admin.delete_group)
    commit_offsets = _waits_for(admin.Admin.commit_offsets)
    reset_offsets = _waits_for(admin.Admin.reset_offsets)
    describe_quorum = _waits_for(admin.Admin.describe_quorum)
    explain_topic = _waits_for(admin.Admin.explain_topic)
    explain_node = _waits_for(admin.Admin.explain_node)
    explain_group = _waits_for(admin.Admin.explain_group)
    list_events = _waits_for(admin.Admin.list_events)
    add_voter = _waits_for(admin.Admin.add_voter)
    remove_voter = _waits_for(admin.Admin.remove_voter)
    transfer_leadership = _waits_for(admin.Admin.transfer_leadership)
    describe_features = _waits_for(admin.Admin.describe_features)
    finalize_feature = _waits_for(admin.Admin.finalize_feature)
    list_users = _waits_for(admin.Admin.list_users)
    create_user = _waits_for(admin.Admin.create_user)
    change_password = _waits_for(admin.Admin.change_password)
    remove_user = _waits_for(admin.Admin.remove_user)
    list_acls = _waits_for(admin.Admin.list_acls)
    create_acls = _waits_for(admin.Admin.create_acls)
    delete_acls = _waits_for(admin.Admin.delete_acls)
    test_acl = _waits_for(admin.Admin.test_acl)
    list_quotas = _waits_for(admin.Admin.list_quotas)
    alter_quotas = _waits_for(admin.Admin.alter_quotas)
