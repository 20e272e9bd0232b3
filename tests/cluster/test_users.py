"""Nodes with TLS and users, from the first user on: the command line, the client and a plain stub with a password."""

import asyncio
import os
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

import ottla
from ottla.secure.issue import Authority, asked_node
from ottla.v1 import admin_pb2, cluster_pb2, data_pb2, data_pb2_grpc, group_pb2, login_pb2
from tests.cluster.harness import LocalCluster, eventually

pytestmark = pytest.mark.cluster
PUBLIC = (admin_pb2, cluster_pb2, data_pb2, group_pb2)
RPCS = [
    f"/{service.full_name}/{method.name}"
    for module in PUBLIC
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]


class Secured:
    """A cluster in which who comes in is a user; `home` is where the commands keep their profiles."""

    def __init__(self, directory: Path) -> None:
        self.secure, self.home = directory / "secure", directory / "home"
        authority = Authority.make(self.secure, None, replace=False)
        self.cluster = LocalCluster(directory, settings={"public.authentication": "token", "security": "on"})
        for i, node in self.cluster.nodes.items():
            authority.issue(asked_node(i, []), 30, replace=False)
            node.settings = {**node.settings, "tls.dir": self.secure / f"node-{i}"}
        self.ca = self.secure / "ca" / "ca.crt"
        self.tls = ottla.Tls(self.ca)

    def command(self, *arguments: str, stdin: str = "", **environment: str) -> str:
        own = {name: value for name, value in os.environ.items() if not name.startswith("OTTLA_")}
        done = subprocess.run(
            [sys.executable, "-m", "ottla.cli", *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={**own, "XDG_CONFIG_HOME": str(self.home), **environment},
        )
        assert done.returncode == 0, (arguments, done.stdout, done.stderr)
        return done.stdout

    def as_node(self, *arguments: str, stdin: str = "") -> str:
        """With the certificate of node 1, at that node's listener for nodes."""
        tls = str(self.secure / "node-1")
        at = self.cluster[1].address("replication")
        return self.command(*arguments, "--bootstrap", at, stdin=stdin, OTTLA_TLS_DIR=tls)

    def channel(self, node_id: int) -> grpc.Channel:
        """Of somebody who trusts the cluster and has no certificate."""
        credentials = grpc.ssl_channel_credentials(self.ca.read_bytes())
        return grpc.secure_channel(self.cluster[node_id].address(), credentials)


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    made = Secured(tmp_path_factory.mktemp("users"))
    with made.cluster as cluster:
        cluster.start().wait_ready()
        made.as_node("cluster", "finalize")
        made.as_node("user", "add", "admin", stdin="first of all\n")
        made.as_node("user", "add", "alice", stdin="correct horse\n")
        yield made


def basic(user: str, password: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", "Basic " + b64encode(f"{user}:{password}".encode()).decode()),)


def test_the_first_user_comes_from_a_node_and_makes_the_others(secured: Secured, tmp_path: Path) -> None:
    password = tmp_path / "admin.password"
    password.write_text("first of all\n")
    trust = tmp_path / "trust"
    trust.mkdir()
    (trust / "ca.crt").write_bytes(secured.ca.read_bytes())
    login = ("--user", "admin", "--password-file", str(password))
    secured.command("profile", "create", "prod", "--bootstrap", secured.cluster.bootstrap, "--tls", str(trust), *login)
    secured.command("user", "add", "bob", stdin="battery staple\n")
    assert "bob" in secured.command("user", "list")
    secured.command("topic", "create", "orders", "--partitions", "1", "--replication-factor", "3")
    secured.command("produce", "orders", stdin="one\ntwo\n")
    read = secured.command("consume", "orders", "--from-beginning", "--max-messages", "2")
    assert read.split() == ["one", "two"]
    secured.command("user", "remove", "bob", "--yes")


def test_a_plain_stub_needs_a_password_and_the_authority(secured: Secured) -> None:
    secured.as_node("topic", "create", "stubs", "--partitions", "1", "--replication-factor", "3")
    for node_id in (1, 2, 3):
        with secured.channel(node_id) as channel:
            stub = data_pb2_grpc.DataServiceStub(channel)
            record = data_pb2.SendRequest(topic="stubs", records=[data_pb2.SendRecord(value=b"%d" % node_id)])
            stub.Send(record, timeout=10, metadata=basic("alice", "correct horse"))
            wanted = data_pb2.FetchPartition(topic="stubs", partition=0, offset=0)
            fetched = stub.Fetch(
                data_pb2.FetchRequest(partitions=[wanted]), timeout=10, metadata=basic("alice", "correct horse")
            )
            assert sum(len(batch.records.records) for batch in fetched.partitions[0].batches) == node_id


def says(channel: grpc.Channel, rpc: str, metadata: Any = ()) -> str:
    call = channel.stream_stream(rpc)(iter([b""]), timeout=5, metadata=metadata)
    try:
        next(call)
    except StopIteration:
        return "OK"
    except grpc.RpcError as error:
        return str(error.code().name)  # type: ignore[attr-defined]
    finally:
        call.cancel()
    return "OK"


def test_who_is_no_user_gets_refusals_alone(secured: Secured) -> None:
    with secured.channel(2) as channel:
        assert {says(channel, rpc) for rpc in RPCS} == {"UNAUTHENTICATED"}
        assert says(channel, RPCS[0], basic("alice", "wrong")) == "UNAUTHENTICATED"
        assert says(channel, RPCS[0], (("authorization", "Bearer x"),)) == "UNAUTHENTICATED"
        assert says(channel, "/grpc.health.v1.Health/Check") == "OK"
        login = [f"/{s.full_name}/{m.name}" for s in login_pb2.DESCRIPTOR.services_by_name.values() for m in s.methods]
        assert "OK" not in {says(channel, rpc) for rpc in login}


async def test_writing_goes_on_over_the_death_of_a_leader(secured: Secured) -> None:
    who: dict[str, Any] = {"tls": secured.tls, "user": "alice", "password": "correct horse"}
    async with ottla.Admin(secured.cluster.bootstrap, **who) as admin:
        await admin.create_topic("deaths", partitions=1, replication_factor=3)
        leader = (await admin.describe_topic("deaths")).partitions[0].leader_id
    async with ottla.Producer(secured.cluster.bootstrap, **who) as producer:
        for i in range(100):
            await producer.send("deaths", value=b"%d" % i)
            if i == 50:
                await producer.flush()
                secured.cluster[leader].kill()
        await producer.flush()
    secured.cluster[leader].start()
    secured.cluster.wait_ready()
    async with ottla.Consumer("deaths", bootstrap=secured.cluster.bootstrap, **who) as consumer:
        async with asyncio.timeout(20):
            assert [int((await anext(consumer)).value or b"") for _ in range(100)] == list(range(100))


def test_a_removed_user_is_out_everywhere_within_a_second(secured: Secured) -> None:
    secured.as_node("user", "add", "dave", stdin="for a while\n")
    channels = [secured.channel(i) for i in (1, 2, 3)]
    try:
        streams = []
        for channel in channels:
            call = channel.stream_stream("/ottla.v1.ClusterService/WatchMetadata")
            streams.append(call(iter([b""]), metadata=basic("dave", "for a while")))
            next(streams[-1])
        secured.as_node("user", "remove", "dave", "--yes")
        removed = time.monotonic()
        for stream in streams:
            eventually(lambda stream=stream: _is_over(stream), True)  # type: ignore[misc]
            assert stream.code() is grpc.StatusCode.UNAUTHENTICATED
        assert time.monotonic() - removed < 1.0
        for channel in channels:
            assert says(channel, RPCS[0], basic("dave", "for a while")) == "UNAUTHENTICATED"
    finally:
        for channel in channels:
            channel.close()


def _is_over(stream: Any) -> bool:
    """Reads what came before."""
    if stream.is_active():
        try:
            next(stream)
        except (grpc.RpcError, StopIteration):
            return True
    return not stream.is_active()
