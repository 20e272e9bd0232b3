"""Fail-stop: a node whose own state breaks a rule that keeps data safe ends at once, whoever meets it first.

`fatal` is the one way. It says why in one log line and ends the process without another word to anybody: nothing that
is queued leaves, nothing is flushed, the data directory is not marked as closed cleanly. A closed connection is what
the others notice fastest, so this is also the shortest way to another leader.

An `InvariantError` must reach it on every path. So every broad `except` passes what it caught to `stop_if_broken`
(tests/repository/test_broad_excepts.py), and both event loops do for callbacks and for tasks that nobody awaits.
"""

import asyncio
import os
from collections.abc import Callable
from typing import Any, Final, NoReturn

import structlog

from node import log as node_log
from ottla.protocol.invariant import InvariantError

log = structlog.get_logger(__name__)

EXIT_BROKEN: Final = 1
LAST_LINE_S: Final = 0.2
"""For the log's reader to take the line that says why; it is a matter of microseconds unless that one is stuck."""


def _end_process(error: BaseException) -> None:
    try:
        log.critical("node_gives_up", error=str(error), kind=type(error).__name__, exc_info=error)
        node_log.flush(LAST_LINE_S)
    finally:
        os._exit(EXIT_BROKEN)


_end: Callable[[BaseException], None] | None = None
"""How the process ends; None where it is not this node's alone, as in tests: there the error goes on as it is."""


def arm() -> None:
    """This process is one node: `fatal` ends it from now on."""
    global _end
    _end = _end_process


def fatal(error: BaseException) -> NoReturn:
    """Ends the node."""
    if _end is not None:
        _end(error)
    raise error


def stop_if_broken(error: BaseException) -> None:
    """Ends the node if `error`, or one of a group, is a broken invariant; any other error is the caller's."""
    broken = _broken(error)
    if broken is not None:
        fatal(broken)


def watch(loop: asyncio.AbstractEventLoop) -> None:
    """What escapes from a callback of `loop`, or from a task that nobody awaits, counts too."""
    loop.set_exception_handler(_on_escaped)


def _on_escaped(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    error = context.get("exception")
    if error is not None:
        stop_if_broken(error)
    loop.default_exception_handler(context)


def _broken(error: BaseException) -> InvariantError | None:
    if isinstance(error, BaseExceptionGroup):
        return next(filter(None, map(_broken, error.exceptions)), None)
    return error if isinstance(error, InvariantError) else None
