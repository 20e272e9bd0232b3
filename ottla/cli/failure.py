"""How a command fails: one line with the code and the cause, one with the next step, exit code 1, never a stack trace.

Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 130 ended with Ctrl-C, 143 with SIGTERM.
"""

import contextlib
import errno
import itertools
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import click

from ottla.cli import typed
from ottla.cli.output import printable

if TYPE_CHECKING:
    from ottla.protocol.errors import ApiError

AS_JSON: Final = "ottla.as_json"
_DEBUG: Final = "OTTLA_DEBUG"
_CTRL_C: Final = 130


class Failure(Exception):
    """An end that a command foresees. `code` is one of Kafka's names, or one of the CLI's own in capitals."""

    def __init__(self, code: str, message: str, next_step: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.next_step = next_step


class Commands(typed.Group):
    """The root command: the one place where an exception of any command becomes a message and an exit code."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        # Known before a command has read its options: it may never get to that.
        ctx.meta[AS_JSON] = "--json" in itertools.takewhile(lambda arg: arg != "--", args)
        with _told(ctx):
            return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        with _told(ctx):
            return super().invoke(ctx)


@contextlib.contextmanager
def _told(ctx: Any) -> Iterator[None]:
    """Prints what went wrong and ends with the exit code, except where click has its own way with it."""
    as_json = ctx.meta[AS_JSON]
    try:
        yield
    except KeyboardInterrupt:
        raise click.exceptions.Exit(_CTRL_C) from None
    except Exception as error:
        failure = _misuse(error) if as_json else None
        code = 1 if failure is None else 2
        failure = failure or explain(error)
        if failure is None or os.environ.get(_DEBUG):
            raise
        with contextlib.suppress(OSError):
            print(_as_json(failure) if as_json else as_text(failure), file=sys.stderr)
        raise click.exceptions.Exit(code) from error


def _misuse(error: Exception) -> Failure | None:
    """A command that was called wrongly; None for other errors, and where a command without arguments shows its
    help."""
    context = getattr(error, "ctx", None)
    if getattr(error, "exit_code", 0) != 2 or context is None or type(error).__name__ == "NoArgsIsHelpError":
        return None
    message = printable(error.format_message().rstrip("."))  # type: ignore[attr-defined]
    return Failure("USAGE", message, f"`{context.command_path} --help` shows what there is")


def as_text(failure: Failure) -> str:
    """Two lines for people."""
    return f"error: {failure.code}: {printable(failure.message)}\nnext: {printable(failure.next_step)}"


def _as_json(failure: Failure) -> str:
    import json

    return json.dumps({"error": {"code": failure.code, "message": failure.message, "next": failure.next_step}})


def explain(error: Exception) -> Failure | None:
    """What to tell about an exception; None where click has its own way with it (usage, exit, a closed pipe)."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, Failure):
        return error
    if type(error).__module__.startswith("click."):
        return None
    if isinstance(error, OSError):
        if error.errno == errno.EPIPE:
            return None
        return Failure("OS_ERROR", _os_message(error), "check the path, its rights and the space on the disk")
    unsendable = error if isinstance(error, UnicodeEncodeError) else error.__context__
    if isinstance(unsendable, UnicodeEncodeError):
        # An argument with other bytes; Python carries them in half characters.
        return Failure("INVALID_REQUEST", f"{unsendable.object!a} is not UTF-8", "names are UTF-8 text: write it so")
    # A cause of these two kinds was raised by code that has imported them: no import happens for its own sake.
    errors = sys.modules.get("ottla.protocol.errors")
    if errors is not None and isinstance(error, errors.ApiError):
        return _of_api_error(error)
    grpc = sys.modules.get("grpc")
    if grpc is not None and isinstance(error, grpc.RpcError):
        return _of_rpc_error(error)
    return Failure(
        "INTERNAL_ERROR",
        f"{type(error).__name__}: {error}",
        f"this is a bug: run it again with {_DEBUG}=1 for the details, and report it",
    )


def _os_message(error: OSError) -> str:
    return f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror or error)


def _of_api_error(error: "ApiError") -> Failure:
    """A server's message ends with its next step; one made by the client has it in the table only."""
    from ottla.protocol.errors import RULES

    message, found, said = error.message.rpartition(". Next: ")
    if not found:
        message, said = error.message, ""
    if error.leader is not None and error.leader >= 0 and "leader" not in message:
        message += f" (leader: node {error.leader}{f' at {error.address}' if error.address else ''})"
    rule = RULES.get(error.code)
    next_step = said.rstrip(".") or (rule.next_step if rule else "look the code up in docs/errors.md")
    return Failure(error.name, message.rstrip("."), next_step)


def _of_rpc_error(error: Any) -> Failure:
    status, details = error.code().name, (error.details() or "no details").rstrip(".")
    if status == "UNAVAILABLE":
        return Failure(status, f"no node answered: {details}", "check --bootstrap, or start a cluster with `ottla dev`")
    if status == "DEADLINE_EXCEEDED":
        return Failure(status, f"no answer in time: {details}", "look at `ottla cluster status`, then try again")
    if status == "UNIMPLEMENTED":
        return Failure(status, details, "update the older of the two: client or node (`ottla --version`)")
    return Failure(status, details, "look into the log of the node that was asked")
