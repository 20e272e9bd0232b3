"""Answers that are held back because their client used up a quota: its request is gone from memory by then.

So plain stubs keep to their quotas without knowing of them: who waits for an answer asks for nothing else.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any, Final

from node.services.faults import Context

ANSWER_S: Final = 0.25
"""What is left of a client's deadline for the answer's way: an answer that comes too late would be asked for again."""
_PAUSE_MS: Final[ContextVar[int]] = ContextVar("pause_ms", default=0)


def hold_back(pause_ms: int) -> None:
    """The answer of the call under way leaves so much later."""
    _PAUSE_MS.set(pause_ms)


def holding_back(handler: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    async def call(context: Context) -> Any:
        answer = await handler(context)
        if pause_ms := _PAUSE_MS.get():
            await asyncio.sleep(within_deadline(pause_ms / 1000, context))
        return answer

    return call


def within_deadline(pause_s: float, context: Context) -> float:
    """Of a pause, what a call's deadline has room for."""
    left_s = context.time_remaining()
    return pause_s if left_s is None else max(0.0, min(pause_s, left_s - ANSWER_S))
