"""Handlers that wait, in tasks of their own."""

import asyncio
import gc
import warnings
from types import SimpleNamespace
from typing import Any

from node.kafka.handlers.cluster_facts import run


async def test_a_call_whose_client_goes_before_it_has_begun_is_forgotten_in_silence() -> None:
    async def work() -> Any:
        raise AssertionError("it has not begun")

    call: Any = SimpleNamespace(on_close=None)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        run("Metadata", call, work())
        call.on_close()
        del call
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        gc.collect()
    assert [str(each.message) for each in said] == []
