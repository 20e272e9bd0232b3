"""Certificates as they are made, judged by Python's own ssl as another implementation."""

import contextlib
import datetime
import shutil
import ssl
import stat
from pathlib import Path

import pytest

from ottla.secure import judge
from ottla.secure.issue import Authority, asked_client, asked_node, checked_name
from ottla.secure.judge import describe, examine, load, utc_now
from ottla.secure.names import CertificateError, Files
from ottla.secure.rotation import steps_done, take_step


def accepts(files: Files, client: Files, server_name: str) -> str:
    """One handshake with both certificates, in memory; how it ended on the server's side."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(files.cert, files.key)
    server.load_verify_locations(files.ca)
    server.verify_mode = ssl.CERT_REQUIRED
    dials = ssl.create_default_context(cafile=str(client.ca))
    dials.verify_flags |= ssl.VERIFY_X509_STRICT
    dials.load_cert_chain(client.cert, client.key)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = dials.wrap_bio(to_client, to_server, server_hostname=server_name)
    theirs = server.wrap_bio(to_server, to_client, server_side=True)
    try:
        for side in (ours, theirs, ours, theirs):
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
    except ssl.SSLError as error:
        return error.reason or "failed"
    return "accepted"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("secure")
    authority = Authority.make(directory, None, replace=False)
    for asked in (asked_node(1, ["node-1.example", "10.1.2.3"]), asked_node(2, []), asked_client("admin")):
        authority.issue(asked, 30, replace=False)
    return directory


def test_files_are_their_owners_alone(made: Path) -> None:
    for path in made.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    assert {path.name for path in (made / "node-1").iterdir()} == {"ca.crt", "tls.crt", "tls.key"}


def test_a_node_is_who_it_is_by_one_name(made: Path) -> None:
    cluster_id = Authority.open(made).cluster_id
    said = describe(load(made / "node-1" / "tls.crt")[0])
    assert said.node == (1, cluster_id)
    assert said.names == ("localhost", "node-1.example", "127.0.0.1", "::1", "10.1.2.3")
    assert describe(load(made / "admin" / "tls.crt")[0]).node is None


def test_handshakes(made: Path) -> None:
    one, two, admin = (Files.within(made / name) for name in ("node-1", "node-2", "admin"))
    identity = str(describe(load(one.cert)[0]).node)
    assert accepts(one, two, identity) == "accepted"
    assert accepts(one, admin, "node-1.example") == "accepted"
    assert accepts(one, admin, "10.1.2.3") == "accepted"
    assert accepts(two, admin, identity) == "CERTIFICATE_VERIFY_FAILED"
    # A client's certificate serves nobody.
    assert accepts(admin, two, "localhost") == "CERTIFICATE_VERIFY_FAILED"


def test_another_ca_is_another_cluster(made: Path, tmp_path: Path) -> None:
    other = Authority.make(tmp_path, None, replace=False)
    foreign = other.issue(asked_client("admin"), 30, replace=False)
    assert other.cluster_id != Authority.open(made).cluster_id
    assert accepts(Files.within(made / "node-1"), foreign, "localhost") == "CERTIFICATE_VERIFY_FAILED"


def test_a_ca_is_not_replaced_without_the_word(tmp_path: Path) -> None:
    first = Authority.make(tmp_path, "AB" * 16, replace=False)
    assert first.cluster_id == "ab" * 16
    before = (tmp_path / "ca" / "ca.key").read_bytes()
    with pytest.raises(CertificateError, match="there is a CA"):
        Authority.make(tmp_path, None, replace=False)
    assert (tmp_path / "ca" / "ca.key").read_bytes() == before
    assert Authority.make(tmp_path, None, replace=True).cluster_id != first.cluster_id
    with pytest.raises(CertificateError, match="no cluster id"):
        Authority.make(tmp_path, "abc", replace=True)


def test_no_certificate_outlives_its_ca(tmp_path: Path) -> None:
    authority = Authority.make(tmp_path, None, replace=False)
    authority.issue(asked_node(1, []), 4000, replace=False)
    assert describe(load(tmp_path / "node-1" / "tls.crt")[0]).not_after == authority.expires


def test_renewal_keeps_the_names_and_changes_the_key(tmp_path: Path) -> None:
    authority = Authority.make(tmp_path, None, replace=False)
    files = authority.issue(asked_node(3, ["c.example"]), 1, replace=False)
    before, key = describe(load(files.cert)[0]), files.key.read_bytes()
    with pytest.raises(CertificateError, match="there is a certificate"):
        authority.issue(asked_node(3, []), 1, replace=False)
    (asked,) = Authority.open(tmp_path).issued()
    Authority.open(tmp_path).issue(asked, 90, replace=True)
    after = describe(load(files.cert)[0])
    assert (after.node, set(after.names)) == (before.node, set(before.names))
    assert after.not_after > before.not_after
    assert files.key.read_bytes() != key
    assert examine(files, utc_now()).problems == ()


def test_what_is_wrong_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = Authority.make(tmp_path, None, replace=False)
    files = authority.issue(asked_node(1, []), 365, replace=False)
    now = utc_now()
    assert examine(files, now) == judge.Holder(files, describe(load(files.cert)[0]))
    assert "expires on" in examine(files, now + datetime.timedelta(days=340)).warnings[0]
    assert "expired on" in examine(files, now + datetime.timedelta(days=366)).dated[0]
    assert "check the clock" in examine(files, now - datetime.timedelta(days=1)).dated[0]
    key = files.key.read_bytes()
    other = authority.issue(asked_node(2, []), 365, replace=False)
    files.key.write_bytes(other.key.read_bytes())
    assert examine(files, now).problems == (f"{files.key} is not the key of {files.cert}",)
    files.key.write_bytes(key)
    files.cert.write_bytes(other.cert.read_bytes())
    assert any("is not node-1's" in text for text in examine(files, now).problems)
    files.cert.write_bytes(b"nonsense")
    files.key.chmod(0o644)
    said = examine(files, now)
    assert said.problems == (f"{files.cert} holds no certificate in PEM",)
    assert "chmod 600" in said.warnings[0]
    files.ca.unlink()
    assert any("cannot be read" in text for text in examine(files, now).problems)


@pytest.mark.parametrize("name", ["", "a b", "a:9192", "-" * 64, "http://x", "a..b"])
def test_what_is_no_host(name: str) -> None:
    with pytest.raises(CertificateError):
        checked_name(name)


def test_hosts_are_written_one_way() -> None:
    assert [checked_name(name) for name in ("Node-1.Example.", "[::1]", "010.example", "*.x.example")] == [
        "node-1.example",
        "::1",
        "010.example",
        "*.x.example",
    ]


def test_a_ca_is_rotated_and_at_no_time_does_anybody_meet_whom_he_does_not_trust(tmp_path: Path) -> None:
    """Each step reaches one holder after the other: all pairs of old and new files shake hands."""
    authority = Authority.make(tmp_path, None, replace=False)
    for asked in (asked_node(1, []), asked_client("admin")):
        authority.issue(asked, 30, replace=False)
    name = str(describe(load(tmp_path / "node-1" / "tls.crt")[0]).node)
    node, client = Files.within(tmp_path / "node-1"), Files.within(tmp_path / "admin")
    first = load(node.ca)
    with pytest.raises(CertificateError, match="step 2 is not next"):
        take_step(tmp_path, 2, 30)
    for step in (1, 2, 3):
        before = {
            whose: copied(whose, tmp_path / f"before-{step}-{whose.cert.parent.name}") for whose in (node, client)
        }
        take_step(tmp_path, step, 30)
        if step < 3:
            assert steps_done(tmp_path) == step
            take_step(tmp_path, step, 30)  # as after an interruption
            with pytest.raises(CertificateError, match="not next"):
                take_step(tmp_path, 3 if step == 1 else 1, 30)
        for served in (before[node], node):
            for shown in (before[client], client):
                assert accepts(served, shown, name) == "accepted", (step, served, shown)
        assert not examine(node, utc_now()).wrong
        for path in before.values():
            shutil.rmtree(path.cert.parent)
    assert steps_done(tmp_path) == 0
    assert len(load(node.ca)) == 1
    assert load(node.ca) != first
    assert Authority.open(tmp_path).signed(load(client.cert)[0])


def test_a_ca_is_not_forgotten_while_somebody_shows_its_certificate(tmp_path: Path) -> None:
    authority = Authority.make(tmp_path, None, replace=False)
    authority.issue(asked_node(1, []), 30, replace=False)
    old = Files.within(tmp_path / "node-1").cert.read_bytes()
    take_step(tmp_path, 1, 30)
    take_step(tmp_path, 2, 30)
    Files.within(tmp_path / "node-1").cert.write_bytes(old)
    with pytest.raises(CertificateError, match="node-1 are not signed by the new CA"):
        take_step(tmp_path, 3, 30)


def copied(files: Files, to: Path) -> Files:
    shutil.copytree(files.cert.parent, to)
    return Files.within(to)
