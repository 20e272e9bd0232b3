"""How long one turn of an event loop worked: by its thread's CPU, which a busy machine doesn't add to."""

import asyncio
import gc
import time
from typing import Self


class LoopWatch:
    """`async with LoopWatch() as watch: ...`, then `watch.longest_s`: the longest turn meanwhile, in seconds of CPU."""

    def __init__(self) -> None:
        self.longest_s = 0.0

    async def __aenter__(self) -> Self:
        gc.disable()  # of all that other tests left
        self._task = asyncio.create_task(self._watch())
        await asyncio.sleep(0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        gc.enable()

    async def _watch(self) -> None:
        while True:
            before = time.thread_time()
            await asyncio.sleep(0)
            self.longest_s = max(self.longest_s, time.thread_time() - before)
            await asyncio.sleep(0.001)
