"""What `pip install ottla` brings, and what it must not bring or need."""

import ast
import os
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ottla import server

MODULES = {
    "click": {"click"},
    "cramjam": {"cramjam"},
    "fastcrc": {"fastcrc"},
    "google-re2": {"re2"},
    "googleapis-common-protos": {"google.rpc"},
    "grpcio": {"grpc"},
    "grpcio-health-checking": {"grpc_health"},
    "grpcio-reflection": {"grpc_reflection"},
    "grpcio-status": {"grpc_status"},
    "prometheus-client": {"prometheus_client"},
    "protobuf": {"google.protobuf"},
    "pydantic": {"pydantic", "pydantic_core"},
    "rich": {"rich"},
    "structlog": {"structlog"},
    "uvloop": {"uvloop"},
}
# Imported where they are used, with a word about what to install.
ON_DEMAND = {
    "confluent_kafka",
    "cryptography",
    "docker",
    "fastavro",
    "jsonschema",
    "opentelemetry",
    "prometheus_client",
    "pydantic",
    "referencing",
    "uvloop",
}
OWN = {"ottla", "node", "raft", "storage"}


@pytest.fixture(scope="module")
def project(repository: Path) -> dict[str, Any]:
    return dict(tomllib.loads((repository / "pyproject.toml").read_text())["project"])


def modules_of(requirements: list[str]) -> set[str]:
    names = [re.match(r"[\w.-]+", requirement)[0] for requirement in requirements]  # type: ignore[index]
    return set().union(*(MODULES[name] for name in names))


def imported(folder: Path, *, everywhere: bool) -> set[str]:
    """Other people's modules that the folder's files import: when they are imported themselves, or anywhere in them."""
    found = set()
    for path in folder.rglob("*.py"):
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree) if everywhere else at_once(tree):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module)
    tops = {name if (top := name.split(".")[0]) == "google" else top for name in found}
    tops = {".".join(name.split(".")[:2]) for name in tops}
    return {name for name in tops if name not in sys.stdlib_module_names | OWN}


def at_once(node: ast.AST) -> list[ast.AST]:
    """What runs when the module is imported: neither functions nor what type checkers alone read."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return []
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        return []
    return [node, *(below for child in ast.iter_child_nodes(node) for below in at_once(child))]


def test_a_client_needs_what_the_package_asks_for_and_nothing_else(repository: Path, project: dict[str, Any]) -> None:
    brought = modules_of(project["dependencies"])
    assert imported(repository / "ottla", everywhere=False) <= brought
    assert imported(repository / "ottla", everywhere=True) - brought <= ON_DEMAND
    assert brought <= imported(repository / "ottla", everywhere=True), "asked for, but not used"


def test_a_node_needs_what_the_extra_server_asks_for(repository: Path, project: dict[str, Any]) -> None:
    """What is asked for and not used here would only make installations larger."""
    client, extra = (modules_of(it) for it in (project["dependencies"], project["optional-dependencies"]["server"]))
    needed = set().union(*(imported(repository / name, everywhere=True) for name in ("node", "raft", "storage")))
    assert needed - {"cryptography", "_typeshed"} <= client | extra
    assert set(server._NEEDED) == extra - {"pydantic_core"}


@pytest.mark.parametrize("editable", [False, True])
def test_a_wheel_has_nothing_but_ottla_at_its_top(
    repository: Path, editable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Developers see the packages where they are in the repository."""
    said: dict[str, Any] = {}
    packages = {"ottla*": ["ottla", "ottla.cli"], "node*": ["node", "node.api", "raft", "storage"]}
    stub = SimpleNamespace(
        Extension=lambda *_, **__: None, setup=said.update, find_packages=lambda include: packages[include[0]]
    )
    monkeypatch.setitem(sys.modules, "setuptools", stub)  # type: ignore[arg-type]
    monkeypatch.setattr(sys, "argv", ["setup.py", "editable_wheel" if editable else "bdist_wheel"])
    runpy.run_path(str(repository / "setup.py"))
    assert {name.split(".")[0] for name in said["packages"]} == (OWN if editable else {"ottla"})
    assert said["package_dir"] == ({} if editable else {f"ottla._server.{name}": name for name in OWN - {"ottla"}})


def test_a_node_of_a_wheel_finds_its_own_packages_whatever_else_has_their_names(
    repository: Path, tmp_path: Path
) -> None:
    installed, here = tmp_path / "site-packages", tmp_path / "here"
    for name in OWN:
        inside = "ottla" if name == "ottla" else f"ottla/_server/{name}"
        shutil.copytree(repository / name, installed / inside, dirs_exist_ok=True, ignore=IGNORED)
    here.mkdir()
    for name in OWN - {"ottla"}:
        (here / f"{name}.py").write_text("raise SystemExit('the user's own')")
    done = subprocess.run(
        [*server.command("node"), "--set", "node.id=x"],
        env={**os.environ, "PYTHONPATH": f"{here}:{installed}"},
        cwd=here,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("ottla: node.id")


IGNORED = shutil.ignore_patterns("__pycache__")
HIDDEN = "import sys; sys.modules.update(dict.fromkeys(('structlog', 'uvloop', 'pydantic')));"


@pytest.mark.parametrize(
    "program",
    [
        "from ottla.cli.main import app; app(['dev'])",
        "from ottla.cli.main import app; app(['dev', '--json'])",
        "from ottla.cli.main import app; app(['node', '--config', 'node.toml'])",
        "from ottla.cli.main import app; app(['verify', '--seconds', '1'])",
        "sys.argv[1:] = ['node']; from ottla.server import main; main()",
        "import ottla.testing.sync as t; t.cluster(3, faults=True).__enter__()",
    ],
)
def test_what_needs_a_node_says_what_to_install(program: str, tmp_path: Path, repository: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", HIDDEN + program],
        env={**os.environ, "PYTHONPATH": str(repository)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    last = done.stderr[-400:]
    assert "not installed: pydantic, structlog, uvloop" in last
    assert "pip install 'ottla[server]'" in last
    assert list(tmp_path.iterdir()) == []


def test_importing_ottla_imports_next_to_nothing(repository: Path) -> None:
    program = f"import sys; sys.path.insert(0, {str(repository)!r}); import ottla; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-S", "-c", program], capture_output=True, text=True, check=True)
    assert {"typing", "asyncio", "grpc", "google", "inspect"}.isdisjoint(done.stdout.split())
