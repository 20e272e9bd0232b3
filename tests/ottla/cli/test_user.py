"""`ottla user` against real nodes, and where passwords come from."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from ottla.cli.failure import Failure
from ottla.cli.user import _one_line, _password
from tests.ottla.cli.conftest import Here, Ottla


@pytest.mark.cluster
@pytest.mark.xdist_group("cli-cluster")
def test_users_come_change_and_go(here: Here, ottla: Ottla, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("horse battery\n")
    new = ("--password-file", str(file))
    if here.answer("cluster", "features")[0]["level"] == 1:
        assert here.refused("user", "add", "alice", *new)["next"].startswith("run `ottla cluster finalize`")
        here.lines("cluster", "finalize")
    assert here.answer("user", "list") == []
    assert here.lines("user", "add", "alice", *new, "--dry-run") == ["alice could be added."]
    assert here.lines("user", "add", "alice", *new) == ["alice was added."]
    refused = here.refused("user", "add", "alice", *new)
    assert (refused["code"], "passwd" in refused["next"]) == ("DUPLICATE_RESOURCE", True)
    done = ottla("user", "add", "bob", "--json", stdin="staple\r\n")
    assert (done.returncode, json.loads(done.stdout)) == (0, {"user": "bob"}), done.stderr
    both = {"SCRAM-SHA-256": 10_000, "SCRAM-SHA-512": 10_000}
    assert here.answer("user", "list") == [{"user": name, "credentials": both} for name in ("alice", "bob")]
    assert here.lines("user", "passwd", "alice", *new) == ["alice has another password."]
    assert here.refused("user", "passwd", "carol", *new)["code"] == "RESOURCE_NOT_FOUND"
    assert here.lines("user", "remove", "alice", "--yes") == ["alice was removed."]
    assert here.refused("user", "remove", "alice", "--yes")["next"].startswith("check the name; `ottla user list`")
    here.lines("user", "remove", "bob", "--yes")


def test_a_password_is_typed_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    typed = ["swordfish", "swordfish", "swordfish", "swordfist"]
    monkeypatch.setattr("getpass.getpass", lambda _prompt: typed.pop(0))
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True))
    assert _password("alice", None) == "swordfish"
    with pytest.raises(Failure, match="not the same") as failed:
        _password("alice", None)
    assert "sword" not in failed.value.message


@pytest.mark.parametrize(
    ("content", "password"),
    [(b"a b", "a b"), (b" a \n", " a "), (b"a\r\n", "a"), ("ä\n".encode(), "ä"), (b"a\r", "a\r")],
)
def test_a_password_is_one_line(tmp_path: Path, content: bytes, password: str) -> None:
    file = tmp_path / "password"
    file.write_bytes(content)
    assert _password("alice", file) == password


@pytest.mark.parametrize("content", [b"", b"\n", b"secret\nmore", b"secret\n\n", b"\xffsecret", b"secret" * 1000])
def test_what_is_no_password_is_told_without_it(content: bytes) -> None:
    with pytest.raises(Failure) as failed:
        _one_line(content, "FILE")
    assert "FILE" in failed.value.message
    assert "secret" not in failed.value.message + failed.value.next_step
