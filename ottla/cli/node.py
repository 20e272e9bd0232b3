"""`ottla node`: one node of a cluster, in this process; and commands that empty one, and fill it again."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import click

from ottla import server
from ottla.cli import typed
from ottla.cli.decommission import decommission, unregister
from ottla.cli.failure import Failure
from ottla.cli.options import DEFAULT_BOOTSTRAP, Bootstrap, Json, NodeId

if TYPE_CHECKING:
    from ottla import Admin


def node(
    config: Annotated[Path | None, typed.Option("--config", help="The node's TOML file.", metavar="FILE")] = None,
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
    if click.get_current_context().invoked_subcommand is not None:
        return
    if config is None:
        raise click.MissingParameter(param_hint="'--config'", param_type="option")
    server.require()
    if not config.is_file():
        raise Failure(
            "INVALID_CONFIG", f"there is no file {config}", "name the node's TOML file, `ottla dev` writes such files"
        )
    arguments = ["--config", str(config)]
    for setting in settings or ():
        arguments += ["--set", setting]
    os.execv(sys.executable, [*server.command("node"), *arguments])


def drain(
    node: NodeId,
    dry_run: Annotated[bool, typed.Option("--dry-run", help="Show the moves, begin none.")] = False,
    wait: Annotated[bool, typed.Option("--wait", help="Return when the node is empty.")] = False,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    as_json: Json = False,
) -> None:
    """Move every replica of a node to others. Racks are kept apart. The node goes on running;
    it gets no new replicas and hands its leaderships over, until `ottla node resume`.

    \b
    Examples:
      ottla node drain 3 --dry-run
      ottla node drain 3 --wait
    """
    from ottla.cli.partition import begin_drain

    begin_drain(node, bootstrap, as_json, dry_run, wait)


def resume(node: NodeId, bootstrap: Bootstrap = DEFAULT_BOOTSTRAP, as_json: Json = False) -> None:
    """End a drain: the node gets new replicas again, and leads. Moves under way go on.

    \b
    Examples:
      ottla node resume 3
    """
    from ottla.cli.connect import with_admin
    from ottla.cli.output import print_json

    async def work(admin: "Admin") -> int:
        await admin.resume_node(node)
        return sum(node in move.removing for move in await admin.list_reassignments())

    leaving = with_admin(bootstrap, work)
    if as_json:
        print_json({"node_id": node, "draining": False, "moves_away": leaving})
        return
    print(f"Node {node} gets new replicas again.")
    if leaving:
        what = "1 partition still moves" if leaving == 1 else f"{leaving} partitions still move"
        print(f"{what} away from it: `ottla partition list` shows them, `ottla partition cancel` calls one off.")


app: Final = click.Group("node", invoke_without_command=True, **typed.parts_of(node))
app.add_command(typed.command("drain", drain))
app.add_command(typed.command("resume", resume))
app.add_command(typed.command("decommission", decommission))
app.add_command(typed.command("unregister", unregister))
