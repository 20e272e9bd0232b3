"""Options that every command has, and what is needed to read them before anything else is imported."""

from typing import Annotated, Final

import typer

from ottla.cli.failure import AS_JSON

DEFAULT_BOOTSTRAP: Final = "127.0.0.1:9092"


def _remember(ctx: typer.Context, as_json: bool) -> bool:
    """Notes `--json` where the error printer finds it: a command that fails never gets to its own output."""
    ctx.meta[AS_JSON] = as_json
    return as_json


Bootstrap = Annotated[
    str,
    typer.Option(
        "--bootstrap",
        envvar="OTTLA_BOOTSTRAP",
        metavar="HOST:PORT[,...]",
        help="Nodes to start from; one that answers is enough.",
    ),
]
Json = Annotated[bool, typer.Option("--json", callback=_remember, help="Print JSON, errors too.")]
