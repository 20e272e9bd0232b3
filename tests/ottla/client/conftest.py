"""Three data planes with real logs and real gRPC on this loop; the test plays the controller."""

import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ottla import Client
from tests.node.services.planes import Planes


@pytest.fixture
async def planes(tmp_path: Path) -> AsyncIterator[Planes]:
    producer_ids = itertools.count(1)

    async def allocate() -> int:
        return next(producer_ids)

    async with Planes(tmp_path) as made:
        for plane in made.planes.values():
            plane.broker.allocate_producer_id = allocate  # type: ignore[method-assign]
        yield made


def addresses(planes: Planes, *node_ids: int) -> list[str]:
    """host:port of these nodes for clients; of all by default."""
    return [planes.image.brokers[node_id].client_address for node_id in node_ids or planes.planes]


@pytest.fixture
async def client(planes: Planes) -> AsyncIterator[Client]:
    async with Client(addresses(planes)) as made:
        yield made
