"""Finding a node, following the metadata, and what is said when nobody answers."""

import asyncio
import time
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc import aio

from node.api.view import QuorumView
from ottla import Admin, Client, Closed, ConfigError, ConnectionFailed, OttlaError, Producer
from ottla.client.connection import bootstrap_addresses
from ottla.protocol.errors import ApiError
from ottla.v1 import cluster_pb2, cluster_pb2_grpc
from ottla.v1 import error_pb2 as pb
from tests.cluster.harness import free_base_port
from tests.node.services.planes import CLUSTER_ID, Planes
from tests.ottla.client.conftest import addresses


class Node(cluster_pb2_grpc.ClusterServiceServicer):
    """A node that shows metadata of a given index, and ticks until it is told to fall silent."""

    def __init__(self, node_id: int, addresses: list[str], index: int) -> None:
        self.node_id = node_id
        self.index = index
        self.silent = asyncio.Event()
        self.watchers = 0
        self.cluster_id = "c"
        self.age_ms = 0
        self._brokers = [
            cluster_pb2.Broker(node_id=i + 1, address=address, broker_epoch=1) for i, address in enumerate(addresses)
        ]

    async def WatchMetadata(self, request, context):
        self.watchers += 1
        metadata = cluster_pb2.Metadata(
            cluster_id=self.cluster_id, metadata_index=self.index, brokers=self._brokers, node_id=self.node_id
        )
        metadata.topics.add(name=f"topic-of-{self.index}", topic_id=b"i" * 16).partitions.add(partition=0)
        yield cluster_pb2.MetadataEvent(metadata=metadata)
        while not self.silent.is_set():
            await asyncio.sleep(0.2)
            yield cluster_pb2.MetadataEvent(age_ms=self.age_ms)
        await asyncio.sleep(60)

    async def GetMetadata(self, request, context):
        return cluster_pb2.Metadata(cluster_id=self.cluster_id, metadata_index=self.index, age_ms=self.age_ms)


@pytest.fixture
async def nodes():
    base = free_base_port(2)
    addresses = [f"127.0.0.1:{base}", f"127.0.0.1:{base + 1}"]
    servers = []
    made = [Node(1, addresses, 10), Node(2, addresses, 20)]
    for node, address in zip(made, addresses, strict=True):
        server = aio.server()
        cluster_pb2_grpc.add_ClusterServiceServicer_to_server(node, server)
        server.add_insecure_port(address)
        await server.start()
        servers.append(server)
    yield made, addresses, servers
    await asyncio.gather(*(server.stop(None) for server in servers))


async def test_a_silent_node_is_left_for_one_it_named(nodes) -> None:
    (one, two), addresses, _ = nodes
    async with Client(addresses[0]) as client:
        assert await client.home() == addresses[0]
        assert "topic-of-10" in client.view.topics
        one.silent.set()
        began = time.monotonic()
        while client.view.metadata_index != 20:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        # A silent bootstrap node is tried once more before the other.
        assert 1.0 < time.monotonic() - began < 10
        assert await client.home() == addresses[1]
        assert two.watchers == 1


async def test_a_node_that_is_cut_off_from_the_quorum_is_left_for_one_that_is_not(nodes) -> None:
    (one, two), addresses, _ = nodes
    async with Client(addresses[0]) as client:
        assert await client.home() == addresses[0]
        one.age_ms = two.age_ms = 20_000  # nobody knows more: it stays
        await asyncio.sleep(0.7)
        assert (client._home, two.watchers) == (addresses[0], 0)
        two.age_ms = 10
        async with asyncio.timeout(10):
            while client._home != addresses[1]:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        two.age_ms = 2_999
        await asyncio.sleep(0.5)
        assert client._home == addresses[1]


async def test_a_node_that_stops_is_left_at_once(nodes) -> None:
    _, addresses, servers = nodes
    async with Client(addresses) as client:
        began = time.monotonic()
        await servers[0].stop(None)
        while client.view.metadata_index != 20:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        assert time.monotonic() - began < 5


async def test_metadata_never_goes_back(nodes) -> None:
    _, addresses, servers = nodes
    async with Client([addresses[1], addresses[0]]) as client:
        seen = []
        stop = client.on_view(lambda view: seen.append(view.metadata_index), lambda _: None)
        await servers[1].stop(None)
        async with asyncio.timeout(20):
            while await client.home() != addresses[0]:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.3)
        assert client.view.metadata_index == 20
        assert seen == [20]
        stop()


@pytest.mark.parametrize("cluster_id", ["another", ""])
async def test_a_node_of_another_cluster_or_none_changes_nothing(nodes, cluster_id: str) -> None:
    (_, two), addresses, servers = nodes
    two.cluster_id = cluster_id
    async with Client(addresses) as client:
        await servers[0].stop(None)
        await asyncio.sleep(0.5)
        with pytest.raises(ConnectionFailed, match="its cluster id is"):
            await client.home(1.5)
        assert list(client.view.topics) == ["topic-of-10"]


async def test_nobody_answers() -> None:
    port = free_base_port(1)
    began = time.monotonic()
    with pytest.raises(ConnectionFailed, match=f"127.0.0.1:{port}: UNAVAILABLE"):
        await Client(f"127.0.0.1:{port}", connect_timeout_ms=500).start()
    assert time.monotonic() - began < 8


async def test_a_closed_client_stays_closed(nodes) -> None:
    _, addresses, _ = nodes
    client = Client(addresses)
    await client.start()
    await client.close()
    await client.close()
    with pytest.raises(Closed):
        client.channel(addresses[0])
    with pytest.raises(Closed):
        await client.start()


async def test_a_leader_out_of_reach_is_gone_around(nodes) -> None:
    _, addresses, servers = nodes
    async with Client(addresses[0]) as client:
        assert await client.address_for(2) == addresses[1]
        await servers[1].stop(None)
        assert client.channel(addresses[1]).get_state() != grpc.ChannelConnectivity.SHUTDOWN
        await asyncio.sleep(0.1)
        began = time.monotonic()
        assert await client.address_for(2) == addresses[0]
        first_s = time.monotonic() - began
        assert 0.5 < first_s < 8
        again_s = []
        for _ in range(3):
            began = time.monotonic()
            assert await client.address_for(2) == addresses[0]
            again_s.append(time.monotonic() - began)
        assert min(again_s) < 0.5, "it is not tried again"
        assert await client.address_for(99) == addresses[0]


def test_bootstrap_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTTLA_BOOTSTRAP", raising=False)
    assert bootstrap_addresses(None) == ["127.0.0.1:9192"]
    monkeypatch.setenv("OTTLA_BOOTSTRAP", "a:1, b:2")
    assert bootstrap_addresses(None) == ["a:1", "b:2"]
    assert bootstrap_addresses("[::1]:5") == ["[::1]:5"]
    for wrong in ("", "host", "host:", ":1", "host:0", "host:99999", ["ok:1", "no"]):
        with pytest.raises(ConfigError, match="host:port"):
            bootstrap_addresses(wrong)


async def test_calls_say_for_which_cluster_they_are(planes: Planes) -> None:
    async with Client(addresses(planes)) as client, Producer(client, delivery_timeout_ms=6_000) as producer:
        planes.create_topic("t", [1])
        await producer.send_and_wait("t", b"x")
        other = QuorumView(leader_id=1, cluster_id=bytes(16))
        for plane in planes.planes.values():  # other nodes have these addresses now
            plane.view.set_quorum(other)
        with pytest.raises(OttlaError) as raised:
            await Admin(client).describe_cluster()
        assert raised.value.name == "INCONSISTENT_CLUSTER_ID"
        assert CLUSTER_ID.hex() in raised.value.message
        assert bytes(16).hex() in raised.value.message
        assert "INCONSISTENT_CLUSTER_ID" not in raised.value.message


@pytest.mark.parametrize("repeatable", [True, False])
async def test_what_a_node_has_no_room_for_is_asked_again(client: Client, repeatable: bool) -> None:
    asked = 0

    async def call(channel: aio.Channel) -> str:
        nonlocal asked
        asked += 1
        if asked < 3:
            info = error_details_pb2.ErrorInfo(reason="THROTTLING_QUOTA_EXCEEDED", domain="ottla")
            info.metadata.update({"code": str(pb.ERROR_CODE_THROTTLING_QUOTA_EXCEEDED), "retriable": "true"})
            status = status_pb2.Status(code=8, message="no room")
            status.details.add().Pack(info)
            trailing = aio.Metadata(("grpc-status-details-bin", status.SerializeToString()))
            raise aio.AioRpcError(grpc.StatusCode.RESOURCE_EXHAUSTED, aio.Metadata(), trailing, "no room")
        return "done"

    assert await client.on_any_node(call, 5_000, repeatable=repeatable) == "done"
    assert asked == 3


def _said(*codes: int) -> list[pb.Error]:
    return [ApiError(code, "said the node").to_proto() if code else pb.Error() for code in codes]


@pytest.mark.parametrize(
    ("answers", "repeatable"),
    [
        ([(pb.ERROR_CODE_NOT_COORDINATOR,), (pb.ERROR_CODE_COORDINATOR_LOAD_IN_PROGRESS,), (0,)], False),
        ([(pb.ERROR_CODE_NOT_LEADER_OR_FOLLOWER, pb.ERROR_CODE_LEADER_NOT_AVAILABLE), (0, 0)], False),
        ([(0, pb.ERROR_CODE_NOT_LEADER_OR_FOLLOWER), (0, 0)], True),
        ([(pb.ERROR_CODE_REQUEST_TIMED_OUT,), (0,)], True),
    ],
)
async def test_an_answer_that_passes_by_itself_is_asked_for_again(client: Client, answers, repeatable: bool) -> None:
    left = [_said(*codes) for codes in answers]

    async def call(channel: aio.Channel) -> list[pb.Error]:
        return left.pop(0)

    assert not any(e.code for e in await client.until_done(call, 5_000, lambda said: said, repeatable=repeatable))
    assert not left


@pytest.mark.parametrize(
    ("codes", "repeatable", "raised"),
    [
        ((pb.ERROR_CODE_GROUP_ID_NOT_FOUND,), True, "GROUP_ID_NOT_FOUND"),
        # Whether it was done is unknown, or a part of it was.
        ((pb.ERROR_CODE_REQUEST_TIMED_OUT,), False, "REQUEST_TIMED_OUT"),
        ((0, pb.ERROR_CODE_NOT_LEADER_OR_FOLLOWER), False, "NOT_LEADER_OR_FOLLOWER"),
        ((pb.ERROR_CODE_NOT_LEADER_OR_FOLLOWER, pb.ERROR_CODE_REQUEST_TIMED_OUT), False, "NOT_LEADER_OR_FOLLOWER"),
    ],
)
async def test_an_answer_that_does_not_pass_is_raised_at_once(client: Client, codes, repeatable, raised) -> None:
    asked = 0

    async def call(channel: aio.Channel) -> list[pb.Error]:
        nonlocal asked
        asked += 1
        return _said(*codes)

    with pytest.raises(OttlaError, match=f"{raised}: said the node"):
        await client.until_done(call, 5_000, lambda said: said, repeatable=repeatable)
    assert asked == 1


async def test_an_answer_that_does_not_pass_in_time_is_raised(client: Client) -> None:
    async def call(channel: aio.Channel) -> list[pb.Error]:
        return _said(pb.ERROR_CODE_NOT_COORDINATOR)

    with pytest.raises(OttlaError, match="NOT_COORDINATOR"):
        await client.until_done(call, 300, lambda said: said)


async def test_kafkas_port_says_where_grpc_is(tmp_path: Path) -> None:
    async with Planes(tmp_path, 1, kafka=True) as planes:
        wrong, right = planes.kafka_address(1), planes.address(1)
        with pytest.raises(ConnectionFailed) as failed:
            async with Client(wrong, connect_timeout_ms=1000):
                pass
        said = f"({wrong} is the port for clients of Kafka, gRPC is at {right}). Next: give gRPC's address"
        assert failed.value.message == f"no node answered within 1 s {said}"
        async with Client([wrong, right]) as client:
            assert await client.home() == right
            assert [broker.kafka_addresses for broker in client.view.brokers.values()] == [(wrong,)]
