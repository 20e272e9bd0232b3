"""Options that every command has, and what is needed to read them before anything else is imported."""

from typing import Annotated, Final

import click

from ottla.cli import complete, typed

DEFAULT_BOOTSTRAP: Final = "127.0.0.1:9192"
BOOTSTRAP: Final = "ottla.bootstrap"
"""Where the root command leaves what stood before the verb."""


def _nearest(ctx: click.Context, _: click.Parameter, bootstrap: str) -> str:
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
    typed.Option(
        "--bootstrap",
        envvar="OTTLA_BOOTSTRAP",
        metavar="HOST:PORT[,...]",
        callback=_nearest,
        help="Nodes to start from; one that answers is enough.",
    ),
]
Json = Annotated[bool, typed.Option("--json", help="Print JSON, errors too.")]
Topic = Annotated[str, typed.Argument(metavar="TOPIC", shell_complete=complete.topics)]
NodeId = Annotated[int, typed.Argument(metavar="NODE", min=1)]
Group = Annotated[str, typed.Argument(metavar="GROUP", shell_complete=complete.groups)]
DryRun = Annotated[bool, typed.Option("--dry-run", help="Check everything, change nothing.")]
Yes = Annotated[bool, typed.Option("--yes", "-y", help="Don't ask.")]
