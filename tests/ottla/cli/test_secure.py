"""`ottla secure` as people and programs call it."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from ottla.cli.main import app


class Secure:
    """Runs `ottla secure ARGUMENTS` in this process."""

    def __init__(self, captured: pytest.CaptureFixture[str]) -> None:
        self._captured = captured

    def __call__(self, *arguments: object) -> tuple[int, str, str]:
        self._captured.readouterr()
        with pytest.raises(SystemExit) as ended:
            app(["secure", *map(str, arguments)], prog_name="ottla")
        out, err = self._captured.readouterr()
        return int(ended.value.code or 0), out, err

    def answer(self, *arguments: object) -> Any:
        code, out, err = self(*arguments, "--json")
        assert code == 0, err
        return json.loads(out)

    def refused(self, *arguments: object) -> dict[str, str]:
        code, out, err = self(*arguments, "--json")
        assert (code, out) == (1, "")
        return dict(json.loads(err)["error"])


@pytest.fixture
def secure(capsys: pytest.CaptureFixture[str]) -> Secure:
    return Secure(capsys)


def test_from_nothing_to_certificates_and_more(secure: Secure, tmp_path: Path) -> None:
    directory = tmp_path / "certs"
    made = secure.answer("init", directory, "--nodes", 2, "--san", "all.example", "--san", "2=two.example")
    assert [each["name"] for each in made["certificates"]] == ["node-1", "node-2", "admin"]
    assert "two.example" in made["certificates"][1]["names"]
    assert "two.example" not in made["certificates"][0]["names"]
    assert all("all.example" in each["names"] for each in made["certificates"][:2])
    assert all(each["cluster_id"] == made["cluster_id"] for each in made["certificates"][:2])

    more = secure.answer("add", directory, "--node", 7, "--client", "billing")
    assert more["cluster_id"] == made["cluster_id"]
    assert [each["name"] for each in more["certificates"]] == ["node-7", "billing"]

    renewed = secure.answer("renew", directory, "--only", "node-2")
    (two,) = renewed["certificates"]
    assert two["names"]
    assert set(two["names"]) == set(made["certificates"][1]["names"])
    assert two["fingerprint"] != made["certificates"][1]["fingerprint"]

    found = secure.answer("status", directory)
    assert [each["directory"] for each in found] == ["ca", "node-1", "node-2", "node-7", "admin", "billing"]
    assert not any(each["problems"] or each["warnings"] for each in found)
    assert secure("status", directory / "node-7")[0] == 0


def test_nothing_is_replaced_by_mistake(secure: Secure, tmp_path: Path) -> None:
    secure.answer("init", tmp_path, "--nodes", 1)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert "there is a CA" in secure.refused("init", tmp_path)["message"]
    assert "--only node-1" in secure.refused("add", tmp_path, "--client", "x", "--node", 1)["next"]
    assert not (tmp_path / "x").exists()
    (tmp_path / "ca").rename(tmp_path.parent / f"{tmp_path.name}-ca")
    assert "node-1" in secure.refused("init", tmp_path)["message"]
    assert not (tmp_path / "ca").exists()
    (tmp_path.parent / f"{tmp_path.name}-ca").rename(tmp_path / "ca")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    secure.answer("init", tmp_path, "--nodes", 1, "--replace-ca")
    assert all(path.read_bytes() != data for path, data in before.items())


def test_what_is_wrong_ends_with_1(secure: Secure, tmp_path: Path) -> None:
    secure.answer("init", tmp_path, "--nodes", 2)
    (tmp_path / "node-1" / "tls.crt").write_bytes((tmp_path / "node-2" / "tls.crt").read_bytes())
    code, out, _ = secure("status", tmp_path, "--json")
    (node_1,) = [each for each in json.loads(out) if each["directory"] == "node-1"]
    assert code == 1
    assert len(node_1["problems"]) == 2
    assert secure("status", tmp_path)[0] == 1


def test_of_two_clusters(secure: Secure, tmp_path: Path) -> None:
    secure.answer("init", tmp_path / "a", "--nodes", 1)
    secure.answer("init", tmp_path / "b", "--nodes", 2)
    (tmp_path / "b" / "node-2").rename(tmp_path / "a" / "node-2")
    code, out, _ = secure("status", tmp_path / "a", "--json")
    assert code == 1
    assert any("several clusters" in text for each in json.loads(out) for text in each["problems"])


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("status", "none"), "there is no directory"),
        (("status", "."), "no certificates"),
        (("renew", "."), "no CA"),
        (("add", ".", "--client", "x"), "no CA"),
        (("init", ".", "--san", "9=x.example"), "there is no node '9'"),
        (("init", ".", "--client", "node-1"), "no name for a client"),
        (("init", ".", "--cluster-id", "xyz"), "no cluster id"),
    ],
)
def test_refusals(
    secure: Secure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], word: str
) -> None:
    monkeypatch.chdir(tmp_path)
    error = secure.refused(*arguments)
    assert word in error["message"]
    assert error["next"]
    assert list(tmp_path.iterdir()) == []


def test_without_the_package(secure: Secure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("cryptography", "cryptography.x509"):
        monkeypatch.setitem(sys.modules, name, None)
    error = secure.refused("init", tmp_path / "x")
    assert error["code"] == "MISSING_PACKAGE"
    assert "pip install cryptography" in error["next"]
    assert not (tmp_path / "x").exists()
