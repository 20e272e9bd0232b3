"""Both directions of a gRPC stream at once."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from grpc import aio

log = logging.getLogger("ottla.client")


async def converse(call: Any, writing: Coroutine[Any, Any, None], take: Callable[[Any], bool]) -> str:
    """Hands each message of the stream to `take` (False ends it) while `writing` runs beside it. Answers why it ended.

    Ends look alike in grpc.aio: a lost connection may end the stream, raise AioRpcError, or cancel whoever waits for it
    without anybody having cancelled this task. Raises CancelledError if somebody did, and what `take` raises.
    """
    writer = asyncio.get_running_loop().create_task(writing)
    writer.add_done_callback(lambda task: None if task.cancelled() or not task.exception() else call.cancel())
    try:
        while (message := await call.read()) is not aio.EOF:
            if not take(message):
                return "we ended it"
        return "the node ended it"
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
        (result,) = await asyncio.gather(writer, return_exceptions=True)
        if isinstance(result, Exception) and not isinstance(result, (aio.AioRpcError, asyncio.InvalidStateError)):
            log.error("writing to a stream failed", exc_info=result)
