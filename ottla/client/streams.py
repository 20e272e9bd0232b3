"""Both directions of a gRPC stream at once.

A task that awaits `call.read()` must not be cancelled: gRPC goes on receiving for it and never frees what comes (half a
megabyte for each consumer that is closed while data is on its way). It is the call that is cancelled; the read ends.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any

from grpc import aio

log = logging.getLogger("ottla.client")


async def converse(call: Any, writing: Coroutine[Any, Any, None], take: Callable[[Any], bool]) -> str:
    """Hands each message of the stream to `take` (False ends it) while `writing` runs beside it. Answers why it ended.

    Ends look alike in grpc.aio: a lost connection may end the stream, raise AioRpcError, or cancel whoever waits for it
    without anybody having cancelled this task. Raises CancelledError if somebody did, and what `take` raises.
    """
    loop = asyncio.get_running_loop()
    writer = loop.create_task(writing)
    reader = loop.create_task(_read(call, take))

    def on_end(task: asyncio.Task[Any]) -> None:
        if task.cancelled() or task.exception():
            call.cancel()

    reader.add_done_callback(on_end)
    writer.add_done_callback(on_end)
    try:
        await asyncio.wait((reader,))
        return reader.result()
    except aio.AioRpcError as error:
        return error.details() or error.code().name
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        return "the call was cancelled"
    finally:
        call.cancel()
        writer.cancel()
        results = await asyncio.gather(writer, reader, return_exceptions=True)
        if isinstance(results[0], Exception) and not isinstance(
            results[0], (aio.AioRpcError, asyncio.InvalidStateError)
        ):
            log.error("writing to a stream failed", exc_info=results[0])


async def listen(call: Any, take: Callable[[Any], bool], silence_max_s: float) -> None:
    """Hands each message of the stream to `take` until that answers False or the stream ends. Raises TimeoutError after
    `silence_max_s` without one, what `take` raises, AioRpcError, and CancelledError, as `converse` knows it."""
    loop = asyncio.get_running_loop()
    last_s = loop.time()

    def heard(message: Any) -> bool:
        nonlocal last_s
        last_s = loop.time()
        return take(message)

    reader = loop.create_task(_read(call, heard))
    try:
        while not reader.done():
            looked_s = loop.time()
            await asyncio.wait((reader,), timeout=silence_max_s / 3)
            if loop.time() - looked_s > silence_max_s * 2 / 3:
                last_s = loop.time()  # this loop was blocked; what came meanwhile is read next
            elif loop.time() - last_s >= silence_max_s:
                raise TimeoutError
        reader.result()
    finally:
        call.cancel()
        await asyncio.gather(reader, return_exceptions=True)


async def at_rest(timeout_s: float) -> None:
    """Waits until gRPC has ended the calls of this loop that were cancelled: it goes on by itself for a moment, and
    prints tracebacks if the loop is closed meanwhile."""
    give_up = time.monotonic() + timeout_s
    while time.monotonic() < give_up and any(map(_waits_for_status, asyncio.all_tasks())):  # noqa: ASYNC110 - gRPC's
        await asyncio.sleep(0.002)


def _waits_for_status(task: "asyncio.Task[Any]") -> bool:
    return getattr(task.get_coro(), "__name__", "") == "_handle_status_once_received"


async def _read(call: Any, take: Callable[[Any], bool]) -> str:
    while (message := await call.read()) is not aio.EOF:
        if not take(message):
            return "we ended it"
    return "the node ended it"
