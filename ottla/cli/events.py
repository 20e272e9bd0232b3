"""`ottla cluster events`: what changed, when and why."""

from typing import TYPE_CHECKING, Annotated

from ottla.cli import typed
from ottla.cli.options import DEFAULT_BOOTSTRAP, Bootstrap, Json
from ottla.cli.why import as_object, at, said

if TYPE_CHECKING:
    from ottla import Admin
    from ottla.client.why_admin import Event


def events(
    topic: Annotated[str | None, typed.Option("--topic", metavar="TOPIC", help="Of this topic.")] = None,
    node: Annotated[int | None, typed.Option("--node", min=1, metavar="NODE", help="Because of this node.")] = None,
    group: Annotated[str | None, typed.Option("--group", metavar="GROUP", help="Of this group.")] = None,
    limit: Annotated[int, typed.Option("--limit", "-n", min=1, max=1000, help="The newest so many.")] = 50,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    as_json: Json = False,
) -> None:
    """Show what changed, when and why. Leaders, ISRs, replicas, nodes, topics, members of groups, as
    far back as the node that answers remembers.

    \b
    Examples:
      ottla cluster events
      ottla cluster events --topic orders --limit 200
      ottla cluster events --node 2 --json
    """
    from ottla.cli.connect import with_admin
    from ottla.cli.output import print_json, printable

    async def ask(admin: "Admin") -> "list[Event]":
        return await admin.list_events(topic, node_id=node, group_id=group, limit=limit)

    found = with_admin(bootstrap, ask)
    if as_json:
        print_json([as_object(event) for event in found])
        return
    for event in found:
        print(f"{at(event.time_ms)}  {printable(said(event))}")
    if not found:
        print("Nothing is remembered of that.")
