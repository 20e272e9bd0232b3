"""A cluster of real node processes for the tests of the command line, and a way to run `ottla` against it."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ottla.cli.local import LocalCluster
from tests.cluster.harness import free_base_port

BIN = Path(sys.executable).parent
Ottla = Callable[..., "subprocess.CompletedProcess[str]"]


def environment(bootstrap: str) -> dict[str, str]:
    return {**os.environ, "OTTLA_BOOTSTRAP": bootstrap, "PATH": f"{BIN}:{os.environ['PATH']}"}


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    with LocalCluster(3, tmp_path_factory.mktemp("cluster"), free_base_port(3)) as started:
        started.start()
        started.wait_ready(60)
        yield started


@pytest.fixture
def ottla(cluster: LocalCluster) -> Ottla:
    """Runs `ottla ARGUMENTS` with the cluster as OTTLA_BOOTSTRAP; `stdin` is text."""

    def run(*arguments: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "ottla.cli", *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=environment(cluster.bootstrap),
        )

    return run
