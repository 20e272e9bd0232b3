"""What holds for every test."""

from pathlib import Path

import grpc.aio
import pytest


@pytest.fixture(scope="session")
def repository() -> Path:
    """The repository's root."""
    return Path(__file__).resolve().parent.parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """For `--dist loadgroup`: a module's tests share what they started, so they stay in one process. All containers
    do, too: their image is built once."""
    for item in items:
        group = "containers" if item.get_closest_marker("docker") else str(item.path)
        item.add_marker(pytest.mark.xdist_group(group))


# grpc.aio ends its poller thread with the last object that uses it, whenever the garbage collector comes to that, and
# the collector can then wait for that thread for ever. One reference for the whole run keeps it.
grpc.aio.init_grpc_aio()
