"""Core tasks: what a node does as long as it runs. One that ends, however it ends, ends the node.

A task group takes a task that returns, or that is cancelled by nobody, for one that has done its work: so ends whoever
waits for a gRPC call that is cancelled. A node without its heartbeats, or whose loop nobody watches, would go on and
look alive.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, NoReturn


async def core(work: Coroutine[Any, Any, None]) -> NoReturn:
    """Runs `work` until this task is cancelled. Raises what ended it, RuntimeError where nothing says why."""
    task = asyncio.current_task()
    assert task is not None
    try:
        await work
    except asyncio.CancelledError:
        if task.cancelling():
            raise
    raise RuntimeError(f"{getattr(work, '__qualname__', 'a core task')} ended")
