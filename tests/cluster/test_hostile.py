"""Clients that mean harm: they get refusals or nothing, and everybody else goes on (invariants.md 3)."""

import asyncio
import os
import random
import socket
import struct
import time
from collections.abc import Iterator
from typing import Any, Final

import grpc
import psutil
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from node.limits import CLIENT_STREAMS_MAX
from ottla.v1 import admin_pb2, cluster_pb2, data_pb2, group_pb2
from ottla.v1 import error_pb2 as pb
from tests.cluster.absurd import Absurd
from tests.cluster.harness import LocalCluster, data_stub, eventually
from tests.cluster.test_data import batch, read_all

pytestmark = pytest.mark.cluster

MIB: Final = 2**20
GROWTH_MAX_BYTES: Final = 300 * MIB
STREAMS_MAX: Final = CLIENT_STREAMS_MAX
PATIENCE_S: Final = 60
FUZZ_CALLS: Final = int(os.environ.get("OTTLA_FUZZ_CALLS", "2000"))
FUZZ_SEED: Final = int(os.environ.get("OTTLA_FUZZ_SEED", "20250101"))
AT_ONCE: Final = 16
BEGIN: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
"""How a client begins a connection: the preface, and settings that set nothing."""
DATA, HEADERS, RST_STREAM = 0, 1, 3
END_HEADERS = 4
UNLIMITED: Final = [("grpc.max_send_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]


def resident(cluster: LocalCluster, node_id: int) -> int:
    process = cluster[node_id].process
    assert process is not None
    return int(psutil.Process(process.pid).memory_info().rss)


def goes_on(cluster: LocalCluster, topic: str, partition: int) -> None:
    """Another client's write is taken, in its turn: on a machine with work for twenty that may be a while."""
    part = data_pb2.ProducePartition(topic=topic, partition=partition, batch=batch(b"beside"))
    with grpc.insecure_channel(cluster[1].address(), options=UNLIMITED) as channel:
        answer = data_stub(channel).Produce(data_pb2.ProduceRequest(partitions=[part]), timeout=PATIENCE_S)
    assert not answer.partitions[0].HasField("error"), answer.partitions[0].error


def open_streams(cluster: LocalCluster, rpc: str) -> int:
    status, body = cluster[1].http("/metrics", timeout_s=10)
    assert status == 200
    return int(float(next(line.split()[1] for line in body.splitlines() if f'open_streams{{rpc="{rpc}"}}' in line)))


@pytest.fixture(scope="module")
def topic(standing: LocalCluster) -> str:
    standing.create_topic("hostile", 3)
    return "hostile"


@pytest.fixture(autouse=True)
def _nodes_are_well(standing: LocalCluster, topic: str) -> Iterator[None]:
    before = {node_id: resident(standing, node_id) for node_id in standing.nodes}
    yield
    for node_id, node in standing.nodes.items():
        assert node.running
        failures = [line for line in node.log().splitlines() if "Traceback" in line or "request_failed" in line]
        assert not failures, "\n".join(line[:4000] for line in failures[:3])
        growth = resident(standing, node_id) - before[node_id]
        print(f"node {node_id}: {before[node_id] / MIB:.0f} MiB resident, grew by {growth / MIB:.0f}")
        assert growth < GROWTH_MAX_BYTES, f"node {node_id} grew by {growth / MIB:.0f} MiB"
    for partition in range(3):
        goes_on(standing, topic, partition)


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """One HTTP/2 frame (RFC 9113, section 4.1)."""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def headers_of_a_call(stream: int, path: str) -> bytes:
    """The frame that opens a gRPC call."""
    headers = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "x")]
    headers += [("te", "trailers"), ("content-type", "application/grpc")]
    # HPACK literals without indexing (RFC 7541, section 6.2.2).
    block = b"".join(
        b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode() for name, value in headers
    )
    return frame(HEADERS, END_HEADERS, stream, block)


def test_half_a_message_then_a_reset(standing: LocalCluster) -> None:
    process = standing[1].process
    assert process is not None
    server = psutil.Process(process.pid)
    before = server.num_fds()
    host, _, port = standing[1].address().rpartition(":")
    message = struct.pack(">BI", 0, 20 * MIB) + b"\x22" + b"x" * 10_000
    whole = BEGIN + headers_of_a_call(1, "/ottla.v1.DataService/Produce") + frame(DATA, 0, 1, message)
    rng = random.Random(1)
    for number in range(100):
        data = whole[: rng.randrange(1, len(whole))] if number % 3 else rng.randbytes(5000)
        with socket.create_connection((host, int(port)), timeout=5) as hostile:
            hostile.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            hostile.sendall(data)
            if number % 10 == 0:
                time.sleep(0.02)
    eventually(lambda: server.num_fds() <= before + 10, True)


@pytest.mark.parametrize("via", [1, 2, 3])
def test_messages_that_are_too_large(standing: LocalCluster, topic: str, via: int) -> None:
    """20 MB is a message like any other, with a record in it that the topic refuses; 40 MB are refused in our words, 80
    MB in gRPC's."""
    with grpc.insecure_channel(standing[via].address(), options=UNLIMITED) as channel:
        records = [data_pb2.SendRecord(value=b"x" * 20_000_000, partition=0), data_pb2.SendRecord(value=b"y")]
        results = data_stub(channel).Send(data_pb2.SendRequest(topic=topic, records=records), timeout=30).results
        assert results[0].error.code == pb.ERROR_CODE_MESSAGE_TOO_LARGE
        assert not results[1].HasField("error"), results[1].error

        for size, ours in ((40_000_000, True), (80_000_000, False)):
            part = data_pb2.ProducePartition(topic=topic, batch=batch(b"x" * size))
            request = data_pb2.ProduceRequest(partitions=[part])
            with pytest.raises(grpc.RpcError) as unary:
                data_stub(channel).Produce(request, timeout=30)
            with pytest.raises(grpc.RpcError) as stream:
                list(data_stub(channel).ProduceStream(iter([request]), timeout=30))
            for refused in (unary.value, stream.value):
                assert refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
                assert refused.details().startswith("MESSAGE_TOO_LARGE") is ours


async def test_streams_that_are_opened_and_left_alone(standing: LocalCluster) -> None:
    """Readers that grant all the credit there is and never read, writers that never write."""
    standing.create_topic("unread", 1, 3)
    before = open_streams(standing, "FetchStream"), open_streams(standing, "ProduceStream")
    async with grpc.aio.insecure_channel(standing[1].address(), options=UNLIMITED) as channel:
        stub = data_stub(channel)
        everything = data_pb2.FetchStreamRequest(
            add=[data_pb2.FetchPartition(topic="unread")], credit_bytes=2**63 - 1, max_wait_ms=2**31 - 1
        )
        readers = [stub.FetchStream() for _ in range(20)]
        writers = [stub.ProduceStream() for _ in range(20)]
        for reader in readers:
            await reader.write(everything)
        for _ in range(60):
            part = data_pb2.ProducePartition(topic="unread", batch=batch(b"x" * 900_000))
            answer = await stub.Produce(data_pb2.ProduceRequest(partitions=[part]), timeout=20)
            assert not answer.partitions[0].HasField("error"), answer.partitions[0].error
        await asyncio.to_thread(eventually, lambda: open_streams(standing, "ProduceStream"), before[1] + 20)
        assert open_streams(standing, "FetchStream") == before[0] + 20
        for left in (*readers, *writers):
            left.cancel()
        await asyncio.to_thread(eventually, lambda: open_streams(standing, "FetchStream"), before[0])
        await asyncio.to_thread(eventually, lambda: open_streams(standing, "ProduceStream"), before[1])


@pytest.mark.timeout(240)
def test_ten_thousand_streams_on_one_connection(standing: LocalCluster, topic: str) -> None:
    """A client that heeds no limit is refused what is above it; other connections do not notice; all is given back."""
    before = open_streams(standing, "ProduceStream")
    host, _, port = standing[1].address().rpartition(":")
    with socket.create_connection((host, int(port)), timeout=30) as hostile:
        hostile.sendall(BEGIN)
        most = 0
        for number in range(10_000):
            hostile.sendall(headers_of_a_call(2 * number + 1, "/ottla.v1.DataService/ProduceStream"))
            if number % 1000 == 999:
                most = max(most, open_streams(standing, "ProduceStream"))
        refused = 0
        with hostile.makefile("rb") as incoming:
            while refused < 10_000 - STREAMS_MAX:
                head = incoming.read(9)
                incoming.read(int.from_bytes(head[:3], "big"))
                refused += head[3] == RST_STREAM
        most = max(most, open_streams(standing, "ProduceStream"))
        assert before < most <= before + STREAMS_MAX
        goes_on(standing, topic, 0)
    eventually(lambda: open_streams(standing, "ProduceStream"), before, 40)


NOT_ANSWERS: Final = (grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL)
SERVICES: Final = [
    file.services_by_name[name]
    for file, name in (
        (data_pb2.DESCRIPTOR, "DataService"),
        (admin_pb2.DESCRIPTOR, "AdminService"),
        (cluster_pb2.DESCRIPTOR, "ClusterService"),
        (group_pb2.DESCRIPTOR, "GroupService"),
    )
]


def errors_in(message: Message) -> Iterator[pb.Error]:
    """Every Error anywhere in an answer."""
    if isinstance(message, pb.Error):
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type is not None and not field.message_type.GetOptions().map_entry:
            for each in value if field.is_repeated else [value]:
                yield from errors_in(each)


async def test_absurd_numbers_in_every_field(standing: LocalCluster) -> None:
    """Any request at all is answered by errors of single items, or by a status that says what was wrong."""
    names = ["absurd-1", "absurd-2", "absurd-group"]
    ids = [standing.create_topic("absurd-1", 2), standing.create_topic("absurd-2", 1)]
    # A topic that no absurd request can name, whose client must not notice anything.
    standing.create_topic("bystander", 1)
    absurd = Absurd(FUZZ_SEED, names, ids)
    wrong: list[str] = []
    statuses: dict[str, int] = {}
    channels = [grpc.aio.insecure_channel(node.address(), options=UNLIMITED) for node in standing.nodes.values()]

    async def one(number: int, method: MethodDescriptor, data: bytes) -> None:
        path = f"/{method.containing_service.full_name}/{method.name}"
        rpc: Any = channels[number % 3].unary_unary(
            path, response_deserializer=GetMessageClass(method.output_type).FromString
        )
        try:
            answer = await rpc(data, timeout=1.5)
        except grpc.aio.AioRpcError as error:
            statuses[error.code().name] = statuses.get(error.code().name, 0) + 1
            if error.code() in NOT_ANSWERS:
                wrong.append(f"call {number} {path}: {error.code().name} {error.details()}")
            return
        statuses["OK"] = statuses.get("OK", 0) + 1
        if any(error.code == pb.ERROR_CODE_UNKNOWN_SERVER_ERROR for error in errors_in(answer)):
            wrong.append(f"call {number} {path}: {str(answer)[:500]}")

    async def bystander(done: asyncio.Event) -> int:
        sent = 0
        async with grpc.aio.insecure_channel(standing[2].address()) as channel:
            while not done.is_set():
                request = data_pb2.SendRequest(topic="bystander", records=[data_pb2.SendRecord(value=b"%d" % sent)])
                result = (await data_stub(channel).Send(request, timeout=20)).results[0]
                if not result.error.retriable:
                    assert not result.HasField("error"), result.error
                    sent += 1
                await asyncio.sleep(0.02)
        return sent

    done = asyncio.Event()
    calls = iter([(number, *absurd.call(SERVICES)) for number in range(FUZZ_CALLS)])

    async def caller() -> None:
        for number, method, data in calls:
            await one(number, method, data)

    beside = asyncio.create_task(bystander(done))
    await asyncio.gather(*(caller() for _ in range(AT_ONCE)))
    done.set()
    sent = await beside
    for channel in channels:
        await channel.close()
    assert not wrong, f"OTTLA_FUZZ_SEED={FUZZ_SEED}, {len(wrong)} of {FUZZ_CALLS} calls:\n" + "\n".join(wrong[:20])
    assert statuses["OK"] > FUZZ_CALLS / 4, statuses
    assert sent > 10
    stored = await asyncio.to_thread(read_all, standing, 3, "bystander", 0, sent)
    assert set(stored) >= {b"%d" % number for number in range(sent)}
