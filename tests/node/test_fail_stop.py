"""A broken invariant ends the node, whichever handler meets it: one planted for each."""

import asyncio
import contextlib
import gc
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

import grpc
import pytest

from node import fail_stop
from node.broker.broker import Broker
from node.broker.fetcher import Fetcher
from node.broker.pace import MovePace
from node.broker.partition import Partition
from node.controller.shell import ControllerShell
from node.groups.coordinator import Coordinator
from node.http import HttpServer
from node.metrics import Metrics
from node.services import faults
from ottla.internal.v1 import controller_pb2
from ottla.internal.v1.replication_pb2 import ReplicaFetchResult
from ottla.protocol.invariant import InvariantError
from ottla.v1 import data_pb2, data_pb2_grpc, group_pb2, group_pb2_grpc, record_pb2
from raft.core import Raft
from storage.errors import InvariantError as StorageInvariantError
from tests.node.broker import test_fetcher
from tests.node.broker.test_partition import TOPIC
from tests.node.controller.test_shell import Rig, settle
from tests.node.quorum.harness import Nodes
from tests.node.services.planes import Planes


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[BaseException]:
    """What ended the node."""
    why: list[BaseException] = []
    monkeypatch.setattr(fail_stop, "_end", why.append)
    return why


@pytest.fixture
async def planes(tmp_path: Path) -> AsyncIterator[Planes]:
    async with Planes(tmp_path, nodes=2) as made:
        made.create_topic("t", [1])
        yield made


def broken(*_: Any, **__: Any) -> NoReturn:
    raise InvariantError("planted")


async def until(ended: list[BaseException]) -> None:
    async with asyncio.timeout(20):
        while not ended:  # noqa: ASYNC110 - nobody is told of the end of a node
            await asyncio.sleep(0.01)
    assert str(ended[0]) == "planted"


PART = data_pb2.ProducePartition(
    topic="t", batch=record_pb2.RecordBatch(records=record_pb2.Records(records=[record_pb2.Record(value=b"v")]))
)
CALLS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "Produce": (
        "append",
        lambda c: data_pb2_grpc.DataServiceStub(c).Produce(data_pb2.ProduceRequest(partitions=[PART])),
    ),
    "Fetch": (
        "read",
        lambda c: data_pb2_grpc.DataServiceStub(c).Fetch(
            data_pb2.FetchRequest(partitions=[data_pb2.FetchPartition(topic="t")])
        ),
    ),
    "ListOffsets": (
        "list_offset",
        lambda c: data_pb2_grpc.DataServiceStub(c).ListOffsets(
            data_pb2.ListOffsetsRequest(partitions=[data_pb2.ListOffsetsPartition(topic="t", timestamp_ms=-1)])
        ),
    ),
}


@pytest.mark.parametrize("rpc", CALLS)
async def test_in_a_partition_of_a_client_s_request(
    planes: Planes, ended: list[BaseException], monkeypatch: pytest.MonkeyPatch, rpc: str
) -> None:
    method, call = CALLS[rpc]
    monkeypatch.setattr(Broker, method, broken)
    async with planes.channel(1) as channel:
        with contextlib.suppress(grpc.aio.AioRpcError):
            await call(channel)
    await until(ended)


async def test_an_append_in_an_old_epoch_is_no_unknown_server_error(
    planes: Planes, ended: list[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    (partition,) = planes[1].broker.partitions.values()
    partition.log.epochs.assign(7, 0)
    async with planes.channel(1) as channel:
        with contextlib.suppress(grpc.aio.AioRpcError):
            await CALLS["Produce"][1](channel)
    assert "append in epoch" in str(ended[0])


@pytest.mark.parametrize("wrap", ["unary", "stream"])
async def test_in_a_whole_call(ended: list[BaseException], wrap: str) -> None:
    async def handler(*_: Any) -> None:
        broken()

    class Context:
        async def abort_with_status(self, status: object) -> NoReturn:
            raise grpc.aio.AbortError

    call = getattr(faults, wrap)("Fail", Metrics(), handler)
    with contextlib.suppress(grpc.aio.AbortError, InvariantError):
        await call(None, Context())
    await until(ended)


async def test_in_an_answer_of_a_leader(tmp_path: Path, ended: list[BaseException]) -> None:
    fetcher: Any = Fetcher(test_fetcher.Broker(), 2, MovePace(test_fetcher.Broker()))  # type: ignore[arg-type]
    replica = test_fetcher.follower(tmp_path)
    fetcher.add(replica)
    (asked,) = fetcher._request().partitions
    replica.append_from_leader = broken  # type: ignore[method-assign]
    with contextlib.suppress(InvariantError):
        fetcher._take(ReplicaFetchResult(topic_id=TOPIC, position=asked.position), b"x")
    await until(ended)


async def test_in_a_follower_s_fetch(
    planes: Planes, ended: list[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Partition, "read_for_follower", broken)
    async with planes.channel(1) as channel:
        never_acknowledged = CALLS["Produce"][1](channel)
        await until(ended)
        never_acknowledged.cancel()


async def test_in_what_a_broker_does_with_the_metadata(
    planes: Planes, ended: list[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Broker, "apply_metadata", broken)
    with contextlib.suppress(InvariantError):
        planes[1].apply_metadata(planes.image, planes.delta)
    await until(ended)


async def test_in_the_work_of_a_broker_that_nobody_waits_for(planes: Planes, ended: list[BaseException]) -> None:
    async def work() -> None:
        broken()

    planes[1].broker._spawn(work(), "planted")
    await until(ended)


async def test_in_a_group_s_decision(
    planes: Planes, ended: list[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    planes.create_topic("__consumer_offsets", [1], internal=True)
    monkeypatch.setattr(Coordinator, "commit", broken)
    request = group_pb2.CommitOffsetsRequest(
        group_id="g", offsets=[group_pb2.OffsetCommit(partition=data_pb2.TopicPartition(topic="t"), offset=1)]
    )
    async with planes.channel(1) as channel:
        with contextlib.suppress(grpc.aio.AioRpcError):
            await group_pb2_grpc.GroupServiceStub(channel).CommitOffsets(request, timeout=5)
    await until(ended)


async def test_in_the_controller(ended: list[BaseException], monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig()
    rig.quorum.become_leader(1)
    await settle()
    monkeypatch.setattr(ControllerShell, "_decide", broken)
    asking = asyncio.ensure_future(rig.shell.handle(controller_pb2.RegisterBrokerRequest(node_id=1)))
    await until(ended)
    asking.cancel()


async def test_in_a_member_s_message(
    tmp_path: Path, ended: list[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Nodes(tmp_path, 2) as nodes:
        await nodes.start()
        await nodes.leader()
        monkeypatch.setattr(Raft, "step", broken)
        await until(ended)
        monkeypatch.undo()


async def test_in_the_http_listener(ended: list[BaseException]) -> None:
    async def route() -> NoReturn:
        broken()

    server = HttpServer({"/metrics": route})
    with contextlib.suppress(InvariantError):
        await server._answer(b"GET /metrics HTTP/1.1\r\n\r\n")
    await until(ended)


@pytest.mark.parametrize("place", ["callback", "task", "group", "thread"])
async def test_where_nobody_would_look(ended: list[BaseException], place: str) -> None:
    loop = asyncio.get_running_loop()
    fail_stop.watch(loop)
    gone: list[Awaitable[Any]] = []

    async def work() -> None:
        broken()

    async def group() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(work())

    if place == "callback":
        loop.call_soon(broken)
    elif place == "thread":
        with ThreadPoolExecutor(1) as threads:
            gone.append(loop.run_in_executor(threads, broken))
            await asyncio.sleep(0.05)
    else:
        gone.append(loop.create_task(work() if place == "task" else group()))
        await asyncio.sleep(0.05)
    gone.clear()
    gc.collect()
    await until(ended)


def test_other_errors_end_nothing(ended: list[BaseException]) -> None:
    fail_stop.stop_if_broken(ValueError("odd"))
    fail_stop.stop_if_broken(ExceptionGroup("odd", [OSError()]))
    assert not ended


def test_it_is_one_class() -> None:
    assert StorageInvariantError is InvariantError


def test_the_process_ends_at_once_with_a_line_that_says_why() -> None:
    program = """
import asyncio
from node import fail_stop, log
from ottla.protocol.invariant import InvariantError

log.configure("info", "text", 1)
fail_stop.arm()

async def main():
    fail_stop.watch(asyncio.get_running_loop())
    def planted():
        raise InvariantError("planted")
    asyncio.get_running_loop().call_soon(planted)
    try:
        await asyncio.sleep(10)
    finally:
        print("went on")

asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == fail_stop.EXIT_BROKEN
    assert "node_gives_up" in done.stderr
    assert "planted" in done.stderr
    assert "went on" not in done.stdout


def test_a_failing_log_does_not_keep_the_process_alive() -> None:
    program = """
import sys
from node import fail_stop, log
from ottla.protocol.invariant import InvariantError

log.configure("info", "text", 1)
fail_stop.arm()
sys.stderr.close()
fail_stop.fatal(InvariantError("planted"))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == fail_stop.EXIT_BROKEN
