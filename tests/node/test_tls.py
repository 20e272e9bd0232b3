"""A node's certificate files, looked at while somebody replaces them."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from node import principal
from node.tls import Tls
from ottla.secure import judge
from ottla.secure.issue import Authority, asked_node


def test_files_that_go_while_they_are_taken_end_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = Authority.make(tmp_path, None, replace=False)
    files = authority.issue(asked_node(1, []), 30, replace=False)
    tls = Tls(files, 1, None)
    before = tls.expires
    authority.issue(asked_node(1, []), 60, replace=True)
    key, examine = files.key.read_bytes(), judge.examine

    def then_gone(*arguments: object) -> judge.Holder:
        holder = examine(*arguments)  # type: ignore[arg-type]
        files.key.unlink()
        return holder

    monkeypatch.setattr(judge, "examine", then_gone)
    tls.look()
    assert tls.expires == before, "it goes on with what it has"
    monkeypatch.setattr(judge, "examine", examine)
    files.key.write_bytes(key)
    files.key.chmod(0o600)
    tls.look()
    assert tls.expires > before


def test_a_certificate_names_its_holder_in_grpc_and_in_ssl(tmp_path: Path) -> None:
    authority = Authority.make(tmp_path, None, replace=False)
    tls = Tls(authority.issue(asked_node(1, []), 30, replace=False), 1, None)
    assert tls.cluster_id is not None
    identify: Any = tls.identify
    for dns, common, expected in (
        (["localhost", f"node-2.{tls.cluster_id.hex()}.ottla.internal"], "node-2", principal.node(2)),
        ([f"node-2.{'0' * 32}.ottla.internal"], "x", principal.user("x")),
        ([], "älice", principal.user("älice")),
        ([], "", principal.ANONYMOUS),
    ):
        names = {"peer_dns": [name.encode() for name in dns], "x509_common_name": [common.encode()] if common else []}
        assert identify(SimpleNamespace(auth_context=lambda found=names: found)) == expected
        subject = ((("organizationName", "Ottla"),), (("commonName", common),)) if common else ()
        assert tls.holder({"subject": subject, "subjectAltName": [("DNS", name) for name in dns]}) == expected
