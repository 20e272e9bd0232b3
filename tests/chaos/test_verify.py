"""`ottla verify --target compose`: a short run in every CI, the whole matrix behind `make chaos`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos.compose import ComposeCluster

pytestmark = [pytest.mark.docker, pytest.mark.timeout(1800)]
MATRIX_S = 900


def verify(repository: Path, report: Path, *options: str) -> dict[str, object]:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "ottla.cli",
            "verify",
            "--target",
            "compose",
            "--json",
            "--report",
            str(report),
            *options,
        ],
        cwd=repository,
        capture_output=True,
        text=True,
        timeout=1700,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    facts: dict[str, object] = json.loads(done.stdout)
    assert facts["ok"]
    assert facts["target"] == "compose"
    assert facts["acknowledged"] == facts["read"]
    return facts


def test_a_short_run_passes_and_leaves_nothing_behind(
    compose: ComposeCluster, repository: Path, tmp_path: Path
) -> None:
    """The fixture builds the image."""
    facts = verify(repository, tmp_path / "report.html", "--seconds", "15", "--faults", "kill,pause", "--rate", "200")
    assert facts["faults"]
    assert len((tmp_path / "report.html").read_text()) < 200_000
    for kind in ("containers", "volumes", "networks"):
        left = getattr(compose.engine, kind)
        names = [item.name for item in (left.list(all=True) if kind == "containers" else left.list())]
        assert [name for name in names if name.startswith("ottla-verify-")] == []


@pytest.mark.long
def test_the_matrix_of_faults(compose: ComposeCluster, repository: Path, tmp_path: Path) -> None:
    facts = verify(repository, tmp_path / "report.html", "--seconds", str(MATRIX_S), "--faults", "all")
    print(json.dumps(facts["faults"]))
