"""Clients with certificates: what fails says why, and new files are taken."""

import shutil
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest

import ottla
from ottla.client.tls import ClientTls, Tls, tls_of
from ottla.secure import judge
from ottla.secure.diagnosis import Shown, diagnose
from ottla.secure.issue import Authority, asked_client, asked_node
from ottla.secure.names import Files
from ottla.v1.cluster_pb2 import Broker, GetMetadataRequest, Metadata, MetadataEvent
from ottla.v1.cluster_pb2_grpc import ClusterServiceServicer, add_ClusterServiceServicer_to_server

NAMES = ["OTTLA_TLS_DIR", "OTTLA_TLS_CA", "OTTLA_TLS_CERT", "OTTLA_TLS_KEY"]


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("secure")
    authority = Authority.make(directory, None, replace=False)
    for asked in (asked_node(1, []), asked_client("admin")):
        authority.issue(asked, 30, replace=False)
    other = Authority.make(directory / "other", authority.cluster_id, replace=False)
    other.issue(asked_node(1, []), 30, replace=False)
    other.issue(asked_client("admin"), 30, replace=False)
    real, long_ago = judge.utc_now, judge.utc_now().replace(year=2020)
    judge.utc_now = lambda: long_ago
    try:
        (directory / "late" / "ca").mkdir(parents=True)
        shutil.copy(directory / "ca" / "ca.crt", directory / "late" / "ca" / "ca.crt")
        late = Authority(directory / "late", authority.certificate, authority._key)
        late.issue(asked_client("admin"), 30, replace=False)
        late.issue(asked_node(1, []), 30, replace=False)
    finally:
        judge.utc_now = real
    return directory


class _OneNode(ClusterServiceServicer):
    """As much of a node as a client asks of it to be content."""

    address = ""

    def _metadata(self) -> Metadata:
        return Metadata(cluster_id="c", metadata_index=1, brokers=[Broker(node_id=1, address=self.address)])

    def GetMetadata(self, request: GetMetadataRequest, context: Any) -> Metadata:
        return self._metadata()

    def WatchMetadata(self, request: GetMetadataRequest, context: Any) -> Iterator[MetadataEvent]:
        import time

        yield MetadataEvent(metadata=self._metadata())
        while context.is_active():
            time.sleep(0.1)
            yield MetadataEvent()


class Served:
    """Such a node with a certificate, or without TLS."""

    def __init__(self, home: Path | None) -> None:
        self._server = grpc.server(futures.ThreadPoolExecutor(4))
        node = _OneNode()
        add_ClusterServiceServicer_to_server(node, self._server)
        if home is None:
            port = self._server.add_insecure_port("127.0.0.1:0")
        else:
            files = Files.within(home)
            credentials = grpc.ssl_server_credentials(
                [(files.key.read_bytes(), files.cert.read_bytes())], files.ca.read_bytes(), True
            )
            port = self._server.add_secure_port("127.0.0.1:0", credentials)
        self.port = port
        self.address = node.address = f"127.0.0.1:{port}"
        self._server.start()

    def __enter__(self) -> "Served":
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(None).wait()


def shown(home: Path) -> Shown:
    return Shown(*Files.within(home))


async def failure(address: str, tls: Any) -> str:
    client = ottla.Client(address, tls=tls, connect_timeout_ms=300)
    with pytest.raises(ottla.ConnectionFailed) as raised:
        await client.start()
    return raised.value.message


async def test_it_connects(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Served(made / "node-1") as node:
        assert diagnose(node.address, shown(made / "admin")) is None
        async with ottla.Client(node.address, tls=made / "admin") as client:
            assert list(client.view.brokers) == [1]
        monkeypatch.setenv("OTTLA_TLS_DIR", str(made / "admin"))
        async with ottla.Client(f"localhost:{node.port}"):
            pass


@pytest.mark.parametrize(
    ("server", "client", "kind", "words"),
    [
        ("other/node-1", "admin", "wrong_ca", "was not signed by"),
        ("node-1", "other/admin", "wrong_ca", "was not signed by"),
        ("late/node-1", "admin", "expired", "the certificate of 127.0.0.1"),
        ("node-1", "late/admin", "expired", "the own certificate"),
        (None, "admin", "plaintext_port", "does not speak TLS"),
        ("node-1", None, "tls_port", "wants TLS"),
        ("node-1", "ca only", "missing_certificate", "wants a certificate"),
        ("node-1", "foreign own", "certificate_refused", "trusts another CA"),
    ],
)
async def test_what_fails_says_why(
    made: Path, server: str | None, client: str | None, kind: str, words: str, tmp_path: Path
) -> None:
    tls: Any = None
    has = None if client is None else shown(made / client)
    if client == "ca only":
        has = Shown(made / "ca" / "ca.crt")
    if client == "foreign own":
        # Trusts both, and is trusted by one.
        both = tmp_path / "both.crt"
        both.write_bytes((made / "ca" / "ca.crt").read_bytes() + (made / "other" / "ca" / "ca.crt").read_bytes())
        files = Files.within(made / "other" / "admin")
        has = Shown(both, files.cert, files.key)
    if has is not None:
        tls = Tls(*has)
    with Served(None if server is None else made / server) as node:
        cause = diagnose(node.address, has)
        assert cause is not None
        assert cause.kind == kind
        assert words in cause.message
        said = await failure(node.address, tls)
        assert words in said
        assert said.endswith(f"Next: {cause.next_step}")


async def test_a_wrong_name(made: Path, tmp_path: Path) -> None:
    authority = Authority.open(made)
    # A client's certificate has no name at all.
    with Served(made / "node-1"):
        pass
    files = authority.issue(asked_node(9, []), 1, replace=True)
    with Served(files.cert.parent) as node:
        cause = diagnose(node.address, shown(made / "admin"), "elsewhere.example")
        assert cause is not None
        assert (cause.kind, "elsewhere.example" in cause.message) == ("wrong_name", True)


async def test_where_nobody_listens_it_is_no_question_of_certificates(made: Path) -> None:
    with Served(None) as node:
        address = node.address
    assert diagnose(address, shown(made / "admin")) is None
    assert diagnose(address, None) is None
    assert diagnose("nonsense", None) is None
    assert "check the addresses" in await failure(address, made / "admin")
    assert "check the addresses" in await failure(address, None)


async def test_new_files_are_taken_by_new_connections(made: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    shutil.copytree(made / "late" / "admin", mine)
    tls = ClientTls(shown(mine))
    with Served(made / "node-1") as node:
        channel = tls.channel(node.address, [("grpc.use_local_subchannel_pool", 1)])
        tls.keep(channel)
        assert not tls.is_stale(channel)
        (mine / "tls.key").unlink()
        assert not tls.is_stale(channel), "half replaced"
        for name in ("tls.crt", "tls.key"):
            shutil.copy(made / "admin" / name, mine / name)
        assert tls.is_stale(channel)
        await channel.close()
        channel = tls.channel(node.address, [("grpc.use_local_subchannel_pool", 1)])
        tls.keep(channel)
        call: Any = channel.unary_unary("/ottla.v1.ClusterService/GetMetadata")
        assert Metadata.FromString(await call(b"", timeout=5)).cluster_id == "c"
        shutil.copy(made / "late" / "admin" / "tls.crt", mine / "tls.crt")
        assert not tls.is_stale(channel), "a connection that stands is not touched"
        await channel.close()


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"OTTLA_TLS_DIR": "admin"}, ("admin/ca.crt", "admin/tls.crt", "admin/tls.key")),
        ({"OTTLA_TLS_DIR": "admin", "OTTLA_TLS_CA": "ca/ca.crt"}, ("ca/ca.crt", "admin/tls.crt", "admin/tls.key")),
        ({"OTTLA_TLS_CA": "ca/ca.crt"}, ("ca/ca.crt", None, None)),
        ({"OTTLA_TLS_CERT": "admin/tls.crt", "OTTLA_TLS_KEY": "admin/tls.key"}, "OTTLA_TLS_CA is not set"),
        ({"OTTLA_TLS_CA": "ca/ca.crt", "OTTLA_TLS_CERT": "admin/tls.crt"}, "or neither"),
        ({"OTTLA_TLS_DIR": "nowhere"}, "is no directory"),
        ({"OTTLA_TLS_CA": "nowhere"}, "cannot be read"),
        ({"OTTLA_TLS_DIR": "late"}, "cannot be read"),
    ],
)
def test_the_environment(
    made: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], expected: Any
) -> None:
    monkeypatch.chdir(made)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    if isinstance(expected, str):
        with pytest.raises(ottla.ConfigError, match=expected):
            tls_of(None)
        return
    found = tls_of(None)
    assert (None if found is None else tuple(None if p is None else str(p) for p in found.shown)) == expected


def test_wrong_arguments(made: Path) -> None:
    with pytest.raises(ottla.ConfigError, match=r"no directory and no ottla\.Tls"):
        ottla.Client(tls=7)  # type: ignore[arg-type]
    with pytest.raises(ottla.ConfigError, match="beside a client"):
        ottla.Producer(ottla.Client(), tls=made / "admin")
