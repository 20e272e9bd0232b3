"""A partition of its own, outside of a broker."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from node.broker.partition import Partition
from tests.node.broker.host import Host
from tests.node.broker.test_partition import make


@pytest.fixture
def host() -> Host:
    return Host()


@pytest.fixture
def partition(host: Host, tmp_path: Path) -> Iterator[Partition]:
    made = make(host, tmp_path / "own")
    yield made
    made.log.close(clean=False)
