"""One compose cluster for all tests here; each leaves it healthy."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.compose import ComposeCluster


@pytest.fixture(scope="session")
def compose(repository: Path) -> Iterator[ComposeCluster]:
    if subprocess.run(["docker", "info"], capture_output=True).returncode != 0:
        pytest.fail("no Docker Engine answers: start one, or leave these tests out with -m 'not docker'")
    with ComposeCluster(repository) as made:
        made.up()
        yield made
