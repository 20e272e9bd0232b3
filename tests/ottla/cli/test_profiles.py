"""Which cluster a command talks to, and what the shell offers behind TAB."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ottla.cli.main import app
from ottla.cli.profiles import Profiles, path

PROD, STAGING, HERE = "prod-1:9192,prod-2:9192", "staging:9192", "127.0.0.1:9192"


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("OTTLA_BOOTSTRAP", raising=False)
    monkeypatch.delenv("OTTLA_PROFILE", raising=False)


def ottla(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The clusters that were asked, instead of asking them."""
    found: list[str] = []

    def note(bootstrap: str, _: object) -> None:
        found.append(bootstrap)
        raise SystemExit(0)

    monkeypatch.setattr("ottla.cli.connect.with_admin", note)
    return found


def test_what_was_said_nearest_wins(asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert ottla("topic", "list").exit_code == 0
    ottla("profile", "create", "prod", "--bootstrap", PROD)
    ottla("profile", "create", "staging", "--bootstrap", STAGING)
    ottla("topic", "list")
    ottla("profile", "use", "staging")
    ottla("topic", "list")
    monkeypatch.setenv("OTTLA_PROFILE", "prod")
    ottla("topic", "list")
    monkeypatch.setenv("OTTLA_BOOTSTRAP", "env:1")
    ottla("topic", "list")
    ottla("--profile", "staging", "topic", "list")
    ottla("--bootstrap", "before:1", "topic", "list")
    ottla("--bootstrap", "before:1", "topic", "list", "--bootstrap", "behind:1")
    assert asked == [HERE, PROD, STAGING, PROD, "env:1", STAGING, "before:1", "behind:1"]


def test_profiles_are_listed_changed_and_forgotten() -> None:
    ottla("profile", "create", "prod", "--bootstrap", PROD)
    assert json.loads(ottla("profile", "list", "--json").stdout) == [
        {"profile": "prod", "bootstrap": PROD, "in_use": True}
    ]
    assert ottla("profile", "delete", "prod").stdout == "prod is forgotten.\n"
    assert json.loads(ottla("profile", "list", "--json").stdout) == []
    assert list(path().parent.iterdir()) == [path()]


def test_wrong_profiles() -> None:
    ottla("profile", "create", "prod", "--bootstrap", PROD)
    assert "did you mean prod?" in ottla("--profile", "prd", "topic", "list").stderr
    assert ottla("profile", "create", "x", "--bootstrap", "nonsense").exit_code == 1
    deep = b'{"in_use": ' + b"[" * 100_000
    for content in (b"[]", b"\xff\xfe{", b"", b'{"in_use": "a"', deep, b'{"in_use": null, "profiles": {"a": 1}}'):
        path().write_bytes(content)
        failed = ottla("topic", "list")
        assert failed.exit_code == 1
        assert "is no file of profiles" in failed.stderr
    path().write_bytes(b'{"in_use": ["a"], "profiles": {}}')
    assert "there is no profile" in ottla("topic", "list").stderr


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["ottla", "co"], ["config", "consume", "completion"]),
        (["ottla", "topic", "tr"], ["trim"]),
        (["ottla", "consume", "t", "--fr"], ["--from", "--from-beginning"]),
        (["ottla", "produce", "t", "-z", "z"], ["zstd"]),
        (["ottla", "config", "set", "retention.m"], ["retention.ms="]),
        (["ottla", "--profile", "p", "profile", "use", "pr"], ["prod"]),
    ],
    ids=str,
)
def test_bash_completes(words: list[str], offered: list[str]) -> None:
    ottla("profile", "create", "prod", "--bootstrap", PROD)
    done = subprocess.run(
        [sys.executable, "-m", "ottla.cli"],
        env={
            **os.environ,
            "_OTTLA_COMPLETE": "bash_complete",
            "COMP_WORDS": " ".join(words),
            "COMP_CWORD": str(len(words) - 1),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert (sorted(done.stdout.split()), done.stderr) == (sorted(f"plain,{each}" for each in offered), "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_a_shell(shell: str, tmp_path: Path) -> None:
    script = ottla("completion", shell).stdout
    assert "_OTTLA_COMPLETE" in script
    if (found := shutil.which(shell)) is not None:
        file = tmp_path / "script"
        file.write_text(script)
        assert subprocess.run([found, "-n", str(file)], check=False).returncode == 0


def test_names_of_the_cluster_are_offered_and_silence_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTTLA_BOOTSTRAP", "127.0.0.1:1")
    words = {"COMP_WORDS": "ottla topic describe x", "COMP_CWORD": "3", "_OTTLA_COMPLETE": "bash_complete"}
    done = subprocess.run(
        [sys.executable, "-m", "ottla.cli"], env={**os.environ, **words}, capture_output=True, text=True, check=False
    )
    assert (done.stdout.strip(), done.stderr) == ("", "")


def test_a_profile_with_certificates(tmp_path: Path, asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DIR", "CA", "CERT", "KEY"):
        monkeypatch.setenv(f"OTTLA_TLS_{name}", "another's")
    refused = ottla("profile", "create", "prod", "--bootstrap", PROD, "--tls", str(tmp_path))
    assert refused.exit_code == 1
    files = {"ca": "ca.crt", "cert": "tls.crt", "key": "tls.key"}
    for name in files.values():
        (tmp_path / name).write_text("x")
    assert ottla("profile", "create", "prod", "--bootstrap", PROD, "--tls", str(tmp_path)).exit_code == 0
    (listed,) = json.loads(ottla("profile", "list", "--json").stdout)
    assert listed["tls"] == {key: str(tmp_path / name) for key, name in files.items()}
    ottla("topic", "list")
    assert asked == [PROD]
    assert {key: os.environ[f"OTTLA_TLS_{key.upper()}"] for key in files} == listed["tls"]
    assert "OTTLA_TLS_DIR" not in os.environ
    # Made again without certificates it has none.
    ottla("profile", "create", "prod", "--bootstrap", PROD)
    assert "tls" not in json.loads(ottla("profile", "list", "--json").stdout)[0]


def test_a_profile_may_log_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ca, password = tmp_path / "ca.crt", tmp_path / "password"
    ca.write_text("")
    password.write_text("pencil\n")
    create = ("profile", "create", "prod", "--bootstrap", PROD, "--tls", str(tmp_path))
    assert ottla(*create).exit_code == 1, "without a user a certificate is wanted"
    assert ottla(*create, "--user", "alice").exit_code == 1
    assert ottla(*create, "--password-file", str(password)).exit_code == 1
    assert ottla(*create, "--user", "alice", "--password-file", str(tmp_path / "none")).exit_code == 1
    assert ottla(*create, "--user", "alice", "--password-file", str(password)).exit_code == 0
    (listed,) = json.loads(ottla("profile", "list", "--json").stdout)
    login = {"user": "alice", "password_file": str(password)}
    assert (listed["tls"], {key: listed[key] for key in login}) == ({"ca": str(ca)}, login)
    for name in ("OTTLA_USER", "OTTLA_PASSWORD_FILE", "OTTLA_TLS_CA"):
        monkeypatch.setenv(name, "before")
    assert Profiles().enter("prod") == PROD
    assert (os.environ["OTTLA_USER"], os.environ["OTTLA_PASSWORD_FILE"]) == ("alice", str(password))
    assert "pencil" not in path().read_text()
    assert ottla("profile", "create", "prod", "--bootstrap", PROD).exit_code == 0
    assert "user" not in json.loads(ottla("profile", "list", "--json").stdout)[0]
