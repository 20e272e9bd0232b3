"""Three nodes with certificates: who gets an answer where, from the descriptors of every service; and new files."""

import asyncio
import base64
import contextlib
import socket
import ssl
import struct
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import grpc
import pytest
from google.protobuf.descriptor import ServiceDescriptor
from kafka import KafkaAdminClient
from kafka.errors import KafkaError

import ottla
from ottla.internal.v1 import controller_pb2, controller_pb2_grpc, raft_pb2, replication_pb2
from ottla.secure import judge
from ottla.secure.issue import Authority, asked_client, asked_node
from ottla.secure.names import Files
from ottla.v1 import admin_pb2, cluster_pb2, cluster_pb2_grpc, data_pb2, group_pb2
from ottla.v1 import error_pb2 as pb
from tests.cluster.harness import LocalCluster, eventually

INTERNAL = (controller_pb2, raft_pb2, replication_pb2)
PUBLIC = (admin_pb2, cluster_pb2, data_pb2, group_pb2)
pytestmark = pytest.mark.cluster

SERVICES: list[ServiceDescriptor] = [s for m in (*PUBLIC, *INTERNAL) for s in m.DESCRIPTOR.services_by_name.values()]
RPCS = [f"/{service.full_name}/{method.name}" for service in SERVICES for method in service.methods]


class Secured:
    """A cluster with certificates, and those of others."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "secure"
        self.authority = Authority.make(self.directory, None, replace=False)
        for asked in (asked_node(1, []), asked_node(2, []), asked_node(3, []), asked_client("admin")):
            self.authority.issue(asked, 30, replace=False)
        self.cluster = LocalCluster(directory, kafka=True)
        for i, node in self.cluster.nodes.items():
            node.settings = {**node.settings, "security": "on", "tls.dir": self.directory / f"node-{i}"}

    @contextmanager
    def channel(self, node_id: int, listener: str, whose: Path | None) -> Iterator[grpc.Channel]:
        """`whose`: the directory of the certificate that is shown; None: none is."""
        files = None if whose is None else Files.within(whose)
        credentials = grpc.ssl_channel_credentials(
            (self.directory / "ca" / "ca.crt").read_bytes(),
            None if files is None else files.key.read_bytes(),
            None if files is None else files.cert.read_bytes(),
        )
        options = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.secure_channel(self.cluster[node_id].address(listener), credentials, options=options) as channel:
            yield channel

    def says(self, node_id: int, listener: str, whose: str | Path | None, rpc: str = "", data: bytes = b"") -> str:
        """The status of one call, whatever its kind: the first message is the same."""
        rpc = rpc or "/ottla.v1.ClusterService/GetVersion"
        with self.channel(node_id, listener, None if whose is None else self.directory / whose) as channel:
            call = channel.stream_stream(rpc)(iter([data]), timeout=5)
            try:
                next(call)
            except StopIteration:
                return "OK"
            except grpc.RpcError as error:
                return str(error.code().name)  # type: ignore[attr-defined]
            finally:
                call.cancel()
            return "OK"


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    made = Secured(tmp_path_factory.mktemp("secured"))
    with made.cluster as cluster:
        cluster.start().wait_ready()
        yield made


def test_clients_and_nodes_at_the_public_listener(secured: Secured) -> None:
    assert secured.says(1, "public", "admin") == "OK"
    with secured.channel(2, "public", secured.directory / "admin") as channel:
        quorum = cluster_pb2_grpc.ClusterServiceStub(channel).DescribeQuorum(
            cluster_pb2.DescribeQuorumRequest(), timeout=5
        )
        metadata = cluster_pb2_grpc.ClusterServiceStub(channel).GetMetadata(cluster_pb2.GetMetadataRequest(), timeout=5)
    assert len(quorum.voters) == 3
    # The cluster was formed with the id that its certificates name.
    assert metadata.cluster_id == secured.authority.cluster_id


@pytest.mark.parametrize("listener", ["control", "replication"])
def test_no_rpc_between_nodes_answers_a_client(secured: Secured, listener: str) -> None:
    """Every RPC that there is: one that is new is refused, too, or this fails."""
    said = {rpc: secured.says(1, listener, "admin", rpc) for rpc in RPCS}
    assert set(said.values()) == {"PERMISSION_DENIED", "UNIMPLEMENTED"}, said
    served = {rpc for rpc, status in said.items() if status == "PERMISSION_DENIED"}
    modules = (controller_pb2, admin_pb2) if listener == "control" else (replication_pb2, *PUBLIC)
    modules += (raft_pb2,)  # nodes that look for the quorum at the wrong port are told where it is
    services = {s.full_name for module in modules for s in module.DESCRIPTOR.services_by_name.values()}
    assert served == {rpc for rpc in RPCS if rpc.split("/")[1] in services}
    for other in ("/grpc.health.v1.Health/Check", "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"):
        assert secured.says(1, listener, "admin", other) == "UNIMPLEMENTED"


@pytest.mark.parametrize("listener", ["public", "control", "replication"])
def test_nobody_without_a_certificate_of_this_cluster_gets_an_answer(
    secured: Secured, listener: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    foreign = Authority.make(tmp_path, None, replace=False).issue(asked_node(2, []), 30, replace=False)
    same_id = Authority.make(tmp_path / "same", secured.authority.cluster_id, replace=False)
    posing = same_id.issue(asked_node(2, []), 30, replace=False)
    long_ago = judge.utc_now().replace(year=2020)
    monkeypatch.setattr(judge, "utc_now", lambda: long_ago)
    expired = Authority(tmp_path / "expired", secured.authority.certificate, secured.authority._key)
    (tmp_path / "expired" / "ca").mkdir(parents=True)
    (tmp_path / "expired" / "ca" / "ca.crt").write_bytes((secured.directory / "ca" / "ca.crt").read_bytes())
    late = expired.issue(asked_node(2, []), 30, replace=False)
    for whose in (None, foreign.cert.parent, posing.cert.parent, late.cert.parent):
        assert secured.says(1, listener, whose) == "UNAVAILABLE", whose
    with grpc.insecure_channel(secured.cluster[1].address(listener)) as channel:
        stub = cluster_pb2_grpc.ClusterServiceStub(channel)
        with pytest.raises(grpc.RpcError) as raised:
            stub.GetVersion(cluster_pb2.GetVersionRequest(), timeout=5)
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE  # type: ignore[attr-defined]


def test_a_node_cannot_act_as_another_node(secured: Secured) -> None:
    """Node 2's certificate, and calls that say they are from node 3."""
    controller = next(i for i in (1, 2, 3) if _leads(secured, i))
    mine = secured.directory / "node-2"
    with secured.channel(controller, "control", mine) as channel:
        stub = controller_pb2_grpc.ControllerServiceStub(channel)
        answers = [
            stub.RegisterBroker(controller_pb2.RegisterBrokerRequest(node_id=3), timeout=5),
            stub.Heartbeat(controller_pb2.HeartbeatRequest(node_id=3, broker_epoch=1), timeout=5),
            stub.AlterPartition(controller_pb2.AlterPartitionRequest(node_id=3, broker_epoch=1), timeout=5),
            stub.AllocateProducerIds(controller_pb2.AllocateProducerIdsRequest(node_id=3), timeout=5),
        ]
    for answer in answers:
        assert answer.error.code == pb.ERROR_CODE_CLUSTER_AUTHORIZATION_FAILED
        assert "the certificate is that of node 2" in answer.error.message
    hello = replication_pb2.ReplicaFetchRequest(
        hello=replication_pb2.ReplicaHello(
            cluster_id=bytes.fromhex(secured.authority.cluster_id), node_id=3, leader_id=1
        )
    )
    with secured.channel(1, "replication", mine) as channel:
        fetch = channel.stream_stream("/ottla.internal.v1.ReplicationService/Fetch")
        first = next(fetch(iter([hello.SerializeToString()]), timeout=5))
    refusal = replication_pb2.ReplicaFetchResponse.FromString(first).error
    assert refusal.code == pb.ERROR_CODE_CLUSTER_AUTHORIZATION_FAILED
    frame = raft_pb2.RaftFrame(
        hello=raft_pb2.RaftHello(sender=raft_pb2.RaftPeer(node_id=3, directory_id=b"x" * 16), to_node_id=1)
    )
    assert secured.says(1, "control", mine, "/ottla.internal.v1.RaftService/Connect", frame.SerializeToString()) == (
        "PERMISSION_DENIED"
    )
    for event in ("quorum_wrong_certificate", "replica_stream_refused"):
        eventually(lambda event=event: event in secured.cluster[1].log(), True)  # type: ignore[misc]


async def test_the_client_writes_and_reads_over_the_death_of_a_leader(secured: Secured) -> None:
    cluster, tls = secured.cluster, secured.directory / "admin"
    async with ottla.Admin(cluster.bootstrap, tls=tls) as admin:
        await admin.create_topic("orders", partitions=3, replication_factor=3)
        described = await admin.describe_topic("orders")
        leader = described.partitions[0].leader_id
    async with ottla.Producer(cluster.bootstrap, tls=tls) as producer:
        for i in range(300):
            await producer.send("orders", value=b"%d" % i)
            if i == 100:
                await producer.flush()
                cluster[leader].kill()
        await producer.flush()
    cluster[leader].start()
    cluster.wait_ready()
    async with ottla.Consumer("orders", bootstrap=cluster.bootstrap, tls=tls) as consumer:
        async with asyncio.timeout(20):
            read = [int((await anext(consumer)).value or b"") for _ in range(300)]
    assert sorted(read) == list(range(300))


def test_the_listener_for_clients_of_kafka(secured: Secured) -> None:
    host, port = secured.cluster[1].address("kafka").split(":")
    files = Files.within(secured.directory / "admin")
    asks = struct.pack(">ihhih", 10, 18, 0, 7, -1)  # ApiVersions, version 0, correlation id 7, no client id
    for shows in (True, False):
        context = ssl.create_default_context(cafile=str(files.ca))
        if shows:
            context.load_cert_chain(files.cert, files.key)
        answer = b""
        with (
            contextlib.suppress(OSError),
            socket.create_connection((host, int(port)), 5) as raw,
            context.wrap_socket(raw, server_hostname="localhost") as wrapped,
        ):
            wrapped.sendall(asks)
            answer = wrapped.recv(8)
        assert (answer[4:] == struct.pack(">i", 7)) is shows
    with socket.create_connection((host, int(port)), 5) as raw:
        raw.sendall(asks)
        with contextlib.suppress(ConnectionResetError):
            assert raw.recv(100)[4:8] != struct.pack(">i", 7), "a plain client gets no answer of Kafka's"


def test_the_listener_for_kafka_says_why_a_handshake_failed(secured: Secured, tmp_path: Path) -> None:
    """And kafka-python, and librdkafka, say what their TLS does."""
    host, port = secured.cluster[2].address("kafka").split(":")
    foreign = Authority.make(tmp_path, None, replace=False).issue(asked_client("admin"), 30, replace=False)
    ours = Files.within(secured.directory / "admin")
    for ca, shown, reason in (
        (ours.ca, None, "shows no certificate"),
        (ours.ca, foreign, "was not signed by a CA in this node's ca.crt"),
        (foreign.ca, ours, "does not trust this node's certificate"),
    ):
        context = ssl.create_default_context(cafile=str(ca))
        if shown is not None:
            context.load_cert_chain(shown.cert, shown.key)
        with contextlib.suppress(OSError), socket.create_connection((host, int(port)), 5) as raw:
            context.wrap_socket(raw, server_hostname="localhost").recv(1)
        eventually(lambda reason=reason: said_of_kafka(secured, reason), True)  # type: ignore[misc]
    with socket.create_connection((host, int(port)), 5) as raw:
        raw.sendall(struct.pack(">ihhih", 10, 18, 0, 7, -1))
        with contextlib.suppress(ConnectionResetError):
            assert raw.recv(100) == b""
    eventually(lambda: said_of_kafka(secured, "wants TLS"), True)
    with pytest.raises((KafkaError, ssl.SSLError), match=r"(?i)certificate|NoBrokers|bootstrap"):
        KafkaAdminClient(
            bootstrap_servers=f"{host}:{port}",
            security_protocol="SSL",
            ssl_cafile=str(foreign.ca),
            bootstrap_timeout_ms=1500,
        )


def said_of_kafka(secured: Secured, reason: str) -> bool:
    return any("tls_handshake_failed" in line and reason in line for line in secured.cluster[2].log().splitlines())


def asks(secured: Secured, path: str, *, whose: str | None = "", basic: str = "") -> tuple[int, str]:
    """Status and body. `whose` certificate is shown; empty: none is; None: it is http."""
    address = secured.cluster[1].address("http")
    context = None
    if whose is not None:
        context = ssl.create_default_context(cafile=str(secured.directory / "ca" / "ca.crt"))
        if whose:
            context.load_cert_chain(*Files.within(secured.directory / whose)[1:])
    request = urllib.request.Request(f"{'http' if whose is None else 'https'}://{address}{path}")
    if basic:
        request.add_header("Authorization", f"Basic {base64.b64encode(basic.encode()).decode()}")
    try:
        with urllib.request.urlopen(request, timeout=5, context=context) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_no_path_but_those_of_health_answers_who_proves_nothing(secured: Secured) -> None:
    """Every path that there is, as the node itself lists them, and some that are none."""
    status, listed = asks(secured, "/nothing", whose="admin")
    assert status == 404
    paths = listed.strip().removeprefix("there is nothing here; try ").split(", ")
    assert {"/healthz", "/readyz", "/metrics"} <= set(paths)
    for path in (*paths, "/nothing", "/hooks", "/metrics?x", "//metrics", "/%6detrics"):
        is_open = path in ("/healthz", "/readyz")
        assert asks(secured, path, whose=None)[0] == (200 if is_open else 403), path
        assert asks(secured, path)[0] == (200 if is_open else 401), path
        assert asks(secured, path, basic="nobody:nothing")[0] == (200 if is_open else 401), path
    assert "ottla_active_controller" in asks(secured, "/metrics", whose="admin")[1]
    assert "https" in asks(secured, "/metrics", whose=None)[1]


def _leads(secured: Secured, node_id: int) -> bool:
    return "ottla_active_controller 1" in secured.cluster[node_id].http("/metrics")[1]


def test_new_certificates_are_taken_while_it_runs_and_bad_ones_are_not(secured: Secured) -> None:
    node, home = secured.cluster[3], secured.directory / "node-3"
    before = {path: path.read_bytes() for path in home.iterdir()}
    (home / "tls.crt").write_bytes((secured.directory / "node-2" / "tls.crt").read_bytes())
    eventually(lambda: "certificate_not_taken" in node.log(), True)
    assert secured.says(3, "public", "admin") == "OK"
    for path, data in before.items():
        path.write_bytes(data)
    eventually(lambda: node.log().count("certificate_taken"), 2)
    secured.authority.issue(asked_node(3, ["new.example"]), 60, replace=True)
    eventually(lambda: node.log().count("certificate_taken") >= 3, True)
    served = judge.describe(_served(secured, 3))
    assert "new.example" in served.names
    left = node.http("/metrics")[1].split("\nottla_certificate_expiry_seconds ")[1].split("\n")[0]
    assert 59 * 86_400 < float(left) < 60 * 86_400
    # Who dials has taken them, too: node 3 starts anew, and the others reach it.
    node.stop()
    node.start()
    secured.cluster.wait_ready()


def _served(secured: Secured, node_id: int):  # type: ignore[no-untyped-def]
    from cryptography.x509 import load_pem_x509_certificate

    host, port = secured.cluster[node_id].address().split(":")
    return load_pem_x509_certificate(ssl.get_server_certificate((host, int(port))).encode())


def test_a_wrong_certificate_ends_the_start_with_a_word(secured: Secured, tmp_path: Path) -> None:
    node = secured.cluster.add_broker(4)
    node.settings = {**node.settings, "tls.dir": secured.directory / "node-2"}
    node.start()
    assert node.process is not None
    assert node.process.wait(20) == 1
    assert "is node 2's certificate, and this is node 4" in node.log()
    # One of the right name and another CA starts, reaches nobody, and says why.
    other = Authority.make(tmp_path, secured.authority.cluster_id, replace=False)
    other.issue(asked_node(4, []), 30, replace=False)
    node.settings = {**node.settings, "tls.dir": tmp_path / "node-4"}
    node.start()
    eventually(lambda: "peer_not_trusted" in node.log() or node.log(), True, 20)
    assert "was not signed by" in node.log()
    node.kill()
    del secured.cluster.nodes[4]


def test_a_cluster_whose_certificates_expired_comes_back_with_new_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No process is started again for it: channels whose connections broke are made anew with the new files."""
    made = Secured(tmp_path)
    real = judge.utc_now
    nodes = [asked_node(i, []) for i in (1, 2, 3)]
    # From the start: a channel that was made with a certificate that is still good would prove nothing.
    good_for_s = 15
    expired = time.monotonic() + good_for_s
    monkeypatch.setattr(judge, "utc_now", lambda: real() - timedelta(days=1) + timedelta(seconds=good_for_s))
    for asked in nodes:
        made.authority.issue(asked, 1, replace=True)
    monkeypatch.setattr(judge, "utc_now", real)
    with made.cluster as cluster:
        cluster.start().wait_ready()
        time.sleep(max(0.0, expired + 1 - time.monotonic()))
        # Connections that stand go on; whoever starts finds nobody.
        cluster[3].kill()
        cluster[3].start()
        eventually(lambda: "certificate_not_valid" in cluster[3].log(), True)
        eventually(lambda: "peer_not_trusted" in cluster[3].log(), True)
        assert "has expired" in cluster[3].log()
        assert not cluster[3].ready
        for asked in nodes:
            made.authority.issue(asked, 30, replace=True)
        assert cluster.wait_ready() < 15
        assert [cluster[i].starts for i in (1, 2, 3)] == [1, 1, 2]
