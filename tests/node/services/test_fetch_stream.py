"""How a reader of many partitions waits: pure of network and log."""

import asyncio
from typing import Any

import pytest

from node.api.throttle import Throttle
from node.services.fetch import Found, Terms
from node.services.fetch_stream import _Reader
from ottla.v1 import data_pb2


class Fetcher:
    """Finds nothing, and keeps how long it was to wait for that."""

    def __init__(self) -> None:
        self.waits_ms: list[int] = []
        self.throttle = Throttle()

    def within_budget(self, terms: Terms) -> tuple[Terms, bool]:
        return terms, True

    async def gather(self, wanted: Any, terms: Terms, remaining_s: float | None, turn: int) -> Found:
        self.waits_ms.append(terms.max_wait_ms)
        return Found()


@pytest.mark.parametrize(("rest_s", "waited_ms"), [(None, 500), (2.0, 500), (0.1, 100), (0.0004, 1), (1e-9, 1)])
async def test_what_is_left_of_a_rest_is_waited_for_however_little_it_is(rest_s: float | None, waited_ms: int) -> None:
    """Without a wait at all, the others are asked again and again until it is over."""
    fetcher: Any = Fetcher()
    no: Any = None
    reader = _Reader(fetcher, no, no)
    reader._terms = Terms(500, 1, 1 << 20, frozenset(), 0, "")
    reader._credit = 1 << 20
    commands = asyncio.create_task(asyncio.sleep(60))
    assert await reader._read_or_changed([data_pb2.FetchPartition(topic="t")], commands, rest_s) is not None
    commands.cancel()
    assert fetcher.waits_ms == [waited_ms]
