"""A cluster of real node processes for the tests of the command line, and a way to run `ottla` against it."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ottla.cli.local import LocalCluster
from ottla.cli.main import app
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


class Here:
    """Runs commands in this process, which takes a tenth of the time of one of their own."""

    def __init__(self, bootstrap: str, captured: pytest.CaptureFixture[bytes]) -> None:
        self._bootstrap = bootstrap
        self._captured = captured

    def __call__(self, *arguments: str) -> tuple[int, bytes, str]:
        """Exit code, standard output and error."""
        self._captured.readouterr()
        with pytest.raises(SystemExit) as ended:
            app(["--bootstrap", self._bootstrap, *arguments], prog_name="ottla")
        out, err = self._captured.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, out, err.decode()

    def lines(self, *arguments: str) -> list[str]:
        """What a command that must go well prints."""
        code, out, err = self(*arguments)
        assert code == 0, err
        return out.decode().splitlines()

    def answer(self, *arguments: str) -> Any:
        """What it says with --json."""
        return json.loads("\n".join(self.lines(*arguments, "--json")))

    def refused(self, *arguments: str) -> dict[str, str]:
        """The error of a command that must fail."""
        code, out, err = self(*arguments, "--json")
        assert (code, out) == (1, b""), err
        return dict(json.loads(err.splitlines()[-1])["error"])


@pytest.fixture
def here(cluster: LocalCluster, capfdbinary: pytest.CaptureFixture[bytes]) -> Here:
    return Here(cluster.bootstrap, capfdbinary)
