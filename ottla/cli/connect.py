"""Running a command's asynchronous part with a connection to the cluster."""

import os
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from ottla import Admin

Answer = TypeVar("Answer")


def run(work: Coroutine[Any, Any, Answer]) -> Answer:
    """Runs `work` on a new event loop. Ctrl-C cancels it."""
    # Before grpc is imported: it would print the end of a connection, which is told in our own words, to stderr too.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    import asyncio
    import logging

    # What the client logs on its way to an error is in the error; by default Python would print it in between.
    logging.getLogger("ottla").addHandler(logging.NullHandler())
    return asyncio.run(work)


def with_admin(bootstrap: str, ask: Callable[["Admin"], Awaitable[Answer]]) -> Answer:
    """Runs one question to the cluster, or one change of it, and closes the connection."""

    async def work() -> Answer:
        from ottla import Admin

        async with Admin(bootstrap) as admin:
            return await ask(admin)

    return run(work())
