"""Whoever is cancelled while something new comes in must still end: `asyncio.wait_for` of Python 3.11 forgets it."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from ottla.client.connection import Client
from ottla.client.reader import Reader


@pytest.mark.parametrize("turns", range(5))
@pytest.mark.parametrize("what", ["reader", "client"])
async def test_a_cancellation_beside_news_is_not_lost(what: str, turns: int) -> None:
    news = asyncio.Event()
    waiting: Any = SimpleNamespace(news=news, _changed=news)
    wait = Reader.wait_for_news(waiting, 10) if what == "reader" else Client._wait_for_change(waiting, 10)
    task = asyncio.ensure_future(wait)
    await asyncio.sleep(0.01)
    news.set()
    for _ in range(turns):
        await asyncio.sleep(0)
    if task.done():
        return
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
