"""What holds for every test."""

from pathlib import Path

import grpc.aio
import pytest


@pytest.fixture(scope="session")
def repository() -> Path:
    """The repository's root."""
    return Path(__file__).resolve().parent.parent


# grpc.aio ends its poller thread with the last object that uses it, whenever the garbage collector comes to that, and
# the collector can then wait for that thread for ever. One reference for the whole run keeps it.
grpc.aio.init_grpc_aio()
