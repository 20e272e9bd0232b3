"""Options that every command has, and what is needed to read them before anything else is imported."""

from typing import Annotated, Final

import typer

from ottla.cli import complete

DEFAULT_BOOTSTRAP: Final = "127.0.0.1:9092"
BOOTSTRAP: Final = "ottla.bootstrap"
"""Where the root command leaves what stood before the verb."""


def _nearest(ctx: typer.Context, bootstrap: str) -> str:
    """What was said nearest: behind the verb, before it, in the environment, by the profile in use."""
    source = ctx.get_parameter_source("bootstrap")
    said = "DEFAULT" if source is None else source.name
    if said == "COMMANDLINE":
        return bootstrap
    if (before := ctx.meta.get(BOOTSTRAP)) is not None:
        return str(before)
    if said == "ENVIRONMENT" or ctx.resilient_parsing:
        return bootstrap
    from ottla.cli.profiles import bootstrap_in_use

    return bootstrap_in_use() or bootstrap


Bootstrap = Annotated[
    str,
    typer.Option(
        "--bootstrap",
        envvar="OTTLA_BOOTSTRAP",
        metavar="HOST:PORT[,...]",
        callback=_nearest,
        help="Nodes to start from; one that answers is enough.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, errors too.")]
Topic = Annotated[str, typer.Argument(metavar="TOPIC", show_default=False, autocompletion=complete.topics)]
Group = Annotated[str, typer.Argument(metavar="GROUP", show_default=False, autocompletion=complete.groups)]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check everything, change nothing.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")]
