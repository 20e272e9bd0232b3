"""The committed Python code is what proto/ and the table of Kafka's messages generate."""

import subprocess
import sys
from pathlib import Path

import pytest

from node.kafka.schema.generate import MESSAGES, write


def generated(root: Path) -> dict[str, bytes]:
    """Every generated file below `root`, by relative path."""
    found = [path for pattern in ("*_pb2*.py", "*_pb2*.pyi") for path in (root / "ottla").rglob(pattern)]
    return {str(path.relative_to(root)): path.read_bytes() for path in found}


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("generated")
    subprocess.run(["proto/generate", str(Path(sys.executable).parent), str(out)], cwd=repository, check=True)
    return generated(out)


def test_committed_code_is_fresh(repository: Path, fresh: dict[str, bytes]) -> None:
    committed = generated(repository)
    stale = sorted(name for name in fresh.keys() | committed.keys() if fresh.get(name) != committed.get(name))
    assert not stale, f"run `make proto` and commit: {', '.join(stale)}"


def test_every_proto_file_is_generated(repository: Path, fresh: dict[str, bytes]) -> None:
    protos = {
        path.relative_to(repository / "proto").with_suffix("") for path in (repository / "proto").rglob("*.proto")
    }
    assert protos
    assert {f"{name}_pb2.py" for name in map(str, protos)} <= fresh.keys()


def test_kafkas_messages_are_fresh(tmp_path: Path) -> None:
    write(tmp_path)
    committed, fresh = (
        {path.name: path.read_text() for path in folder.glob("*.py")} for folder in (MESSAGES, tmp_path)
    )
    stale = sorted(name for name in fresh.keys() | committed.keys() if fresh.get(name) != committed.get(name))
    assert not stale, f"run `make kafka` and commit: {', '.join(stale)}"
