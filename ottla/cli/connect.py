"""Running a command's asynchronous part with a connection to the cluster."""

import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

if TYPE_CHECKING:
    from ottla import Admin, Client

_CONNECT_TIMEOUT_MS: Final = 4_000
_SILENCE_S: Final = 0.7
Answer = TypeVar("Answer")


def run(work: Coroutine[Any, Any, Answer]) -> Answer:
    """Runs `work` on a new event loop. Ctrl-C and SIGTERM cancel it, so that it leaves in order."""
    import asyncio
    import logging

    # What the client logs on its way to an error is in the error; by default Python would print it in between.
    logging.getLogger("ottla").addHandler(logging.NullHandler())
    if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        return asyncio.run(_until_sigterm(work))
    return asyncio.run(work)


async def _until_sigterm(work: Coroutine[Any, Any, Answer]) -> Answer:
    import asyncio

    task, loop, told = asyncio.current_task(), asyncio.get_running_loop(), False
    assert task is not None

    def end() -> None:
        nonlocal told
        told = True
        task.cancel()

    loop.add_signal_handler(signal.SIGTERM, end)
    try:
        return await work
    except asyncio.CancelledError:
        if told:
            raise click.exceptions.Exit(128 + signal.SIGTERM) from None
        raise
    finally:
        loop.remove_signal_handler(signal.SIGTERM)


@asynccontextmanager
async def connection(bootstrap: str) -> "AsyncIterator[Client]":
    """A client that is connected. A wrong address should not keep anybody waiting for long, nor in silence."""
    import asyncio

    from ottla import Client
    from ottla.cli.output import tell

    client = Client(bootstrap, client_id="ottla-cli", connect_timeout_ms=_CONNECT_TIMEOUT_MS)
    word = f"No node answers yet at {bootstrap}: trying for {_CONNECT_TIMEOUT_MS // 1000} s."
    waiting = asyncio.get_running_loop().call_later(_SILENCE_S, tell, word)
    try:
        async with client:
            waiting.cancel()
            yield client
    finally:
        waiting.cancel()


class Contact:
    """Tells when no node answers any more a command that goes on until it is ended, and when one does again."""

    def __init__(self, client: "Client") -> None:
        self._client = client
        self._lost = False

    async def look(self) -> None:
        """Takes a moment only where no node answers."""
        from ottla import ConnectionFailed
        from ottla.cli.output import tell

        try:
            await self._client.home(_SILENCE_S)
        except ConnectionFailed:
            if not self._lost:
                tell("No node of the cluster answers: going on when one does, Ctrl-C ends.")
            self._lost = True
        else:
            if self._lost:
                tell("A node answers again: going on.")
            self._lost = False


def with_admin(bootstrap: str, ask: Callable[["Admin"], Awaitable[Answer]]) -> Answer:
    """Runs one question to the cluster, or one change of it, and closes the connection."""

    async def work() -> Answer:
        from ottla import Admin

        async with connection(bootstrap) as client, Admin(client) as admin:
            return await ask(admin)

    return run(work())
