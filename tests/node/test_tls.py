"""A node's certificate files, looked at while somebody replaces them."""

from pathlib import Path

import pytest

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
