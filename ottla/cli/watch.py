"""`--watch`: the same answer again and again, until Ctrl-C."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Annotated, Final

import click

from ottla.cli import typed
from ottla.cli.units import duration_ms

# Cursor to the top left, and everything behind it away: the screen does not flicker.
_ANEW: Final = "\x1b[H\x1b[J"


def _seconds(_: click.Context, __: click.Parameter, text: str | None) -> str | None:
    if text is not None and duration_ms(text) < 100:
        raise click.BadParameter("100ms is the shortest")
    return text


Watch = Annotated[
    str | None,
    typed.Option("--watch", "-w", metavar="DURATION", callback=_seconds, help="Show it again so often, such as 2s."),
]


async def watched(every: str | None, show: Callable[[], Awaitable[None]]) -> None:
    """Once, or every so often."""
    while True:
        if every is not None and sys.stdout.isatty():
            print(_ANEW, end="")
        await show()
        sys.stdout.flush()
        if every is None:
            return
        await asyncio.sleep(duration_ms(every) / 1000)
