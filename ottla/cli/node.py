"""`ottla node`: one node of a cluster, in this process."""

import os
import sys
from pathlib import Path
from typing import Annotated

from ottla import server
from ottla.cli import typed
from ottla.cli.failure import Failure


def node(
    config: Annotated[Path, typed.Option("--config", help="The node's TOML file.", metavar="FILE")],
    settings: Annotated[
        list[str] | None, typed.Option("--set", help="One key of the configuration.", metavar="KEY=VALUE")
    ] = None,
) -> None:
    """Run one node in this process, until SIGTERM or Ctrl-C.

    \b
    Examples:
      ottla node --config ottla-data/node-1.toml
      ottla node --config node.toml --set node.id=2 --set data.dir=/var/lib/ottla
    """
    server.require()
    if not config.is_file():
        raise Failure(
            "INVALID_CONFIG", f"there is no file {config}", "name the node's TOML file, `ottla dev` writes such files"
        )
    arguments = ["--config", str(config)]
    for setting in settings or ():
        arguments += ["--set", setting]
    os.execv(sys.executable, [*server.command("node"), *arguments])
