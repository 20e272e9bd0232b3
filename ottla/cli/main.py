"""`ottla`: the one command. Each module adds its verbs; what a verb needs is imported when it runs."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from ottla.cli import cluster, config, consume, dev, group, log, produce, streams, topic, verify
from ottla.cli.failure import Commands, Failure

app = typer.Typer(
    cls=Commands,
    help="Ottla: a replicated log broker. Start with `ottla dev`.",
    rich_markup_mode=None,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"ottla {version('ottla')}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options of `ottla` itself; their callbacks do the work."""


@app.command()
def node(
    config: Annotated[Path, typer.Option("--config", help="The node's TOML file.", metavar="FILE")],
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="One key of the configuration.", metavar="KEY=VALUE")
    ] = None,
) -> None:
    """Run one node in this process until SIGTERM or Ctrl-C."""
    if not config.is_file():
        raise Failure(
            "INVALID_CONFIG", f"there is no file {config}", "name the node's TOML file, `ottla dev` writes such files"
        )
    arguments = ["--config", str(config)]
    for setting in settings or ():
        arguments += ["--set", setting]
    # -P: a folder or file called `node` where the user stands must not be taken for ours.
    os.execv(sys.executable, [sys.executable, "-P", "-m", "node", *arguments])


app.command()(dev.dev)
app.command()(produce.produce)
app.command()(consume.consume)
app.command()(verify.verify)
app.add_typer(topic.app, name="topic")
app.add_typer(group.app, name="group")
app.add_typer(cluster.app, name="cluster")
app.add_typer(config.app, name="config")
app.add_typer(log.app, name="log")


def main() -> None:
    """The console script."""
    streams.settle()
    app()
