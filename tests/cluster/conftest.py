"""Clusters of real processes for tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.harness import LocalCluster


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LocalCluster]:
    """Three nodes that are not started yet."""
    with LocalCluster(tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """Three nodes that are up, shared by the tests of a module that break nothing."""
    with LocalCluster(tmp_path_factory.mktemp("standing")) as made:
        made.start().wait_ready()
        yield made
