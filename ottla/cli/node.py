"""`ottla node`: one node of a cluster, in this process."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from ottla.cli.failure import Failure


def node(
    config: Annotated[Path, typer.Option("--config", help="The node's TOML file.", metavar="FILE")],
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="One key of the configuration.", metavar="KEY=VALUE")
    ] = None,
) -> None:
    """Run one node in this process, until SIGTERM or Ctrl-C.

    \b
    Examples:
      ottla node --config ottla-data/node-1.toml
      ottla node --config node.toml --set node.id=2 --set data.dir=/var/lib/ottla
    """
    if not config.is_file():
        raise Failure(
            "INVALID_CONFIG", f"there is no file {config}", "name the node's TOML file, `ottla dev` writes such files"
        )
    arguments = ["--config", str(config)]
    for setting in settings or ():
        arguments += ["--set", setting]
    # -P: a folder or file called `node` where the user stands must not be taken for ours.
    os.execv(sys.executable, [sys.executable, "-P", "-m", "node", *arguments])
