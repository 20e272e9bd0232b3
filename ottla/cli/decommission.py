"""`ottla node decommission` and `ottla node unregister`: a node leaves the cluster for good."""

import asyncio
from typing import TYPE_CHECKING, Annotated, Final, NamedTuple

from ottla.cli import typed
from ottla.cli.failure import Failure
from ottla.cli.options import DEFAULT_BOOTSTRAP, Bootstrap, DryRun, Json, NodeId

if TYPE_CHECKING:
    from ottla import Admin
    from ottla.client.move_admin import Moved
    from ottla.client.quorum_admin import Quorum
    from ottla.client.view import ClusterView

_LOOK_S: Final = 0.5
_VOTERS_MIN: Final = 3
_BEHIND_MS: Final = 5_000


class Progress(NamedTuple):
    """How far it is. `moves`: partitions that have a replica on the node still."""

    moves: int
    votes: bool
    registered: bool


def decommission(
    node: NodeId,
    dry_run: Annotated[bool, typed.Option("--dry-run", help="Show the moves, change nothing.")] = False,
    watch: Annotated[bool, typed.Option("--watch", "--wait", help="Return when it is done, with progress.")] = False,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    as_json: Json = False,
) -> None:
    """Take a node out of the cluster, up or down. Its leaderships and replicas move to others, its
    vote goes, then it is unregistered and its process ends. Without --watch it does what can be
    done at once; run it again to go on, also after an interruption.

    \b
    Examples:
      ottla node decommission 5 --dry-run
      ottla node decommission 5 --watch
    """
    from ottla.cli.connect import with_admin
    from ottla.cli.output import print_json, tell
    from ottla.cli.partition import print_begun

    async def work(admin: "Admin") -> "tuple[list[Moved], Progress]":
        check_voters(node, await admin.describe_cluster(), await admin.describe_quorum())
        begun = await admin.drain_node(node, validate_only=dry_run)
        now = await _go_on(admin, node, dry_run)
        said = now
        while watch and not dry_run and now.registered:
            await asyncio.sleep(_LOOK_S)
            await admin.drain_node(node)
            now = await _go_on(admin, node, dry_run)
            if now != said and not as_json:
                tell(f"{now.moves} partitions still have a replica on node {node}")
            said = now
        return begun, now

    begun, now = with_admin(bootstrap, work)
    if as_json:
        print_json({"node_id": node, "dry_run": dry_run, **now._asdict()})
        return
    if begun or dry_run:
        print_begun(begun, False, dry_run, complete=not dry_run and now.moves == 0)
    if dry_run:
        print(f"Then {'its vote goes and ' if now.votes else ''}node {node} is unregistered.")
    elif now.registered:
        print(f"{now.moves} partitions still have a replica on node {node}: run this again, or with --watch, to go on.")
    else:
        print(f"Node {node} is unregistered: its process ends by itself.")


def unregister(
    node: NodeId, dry_run: DryRun = False, bootstrap: Bootstrap = DEFAULT_BOOTSTRAP, as_json: Json = False
) -> None:
    """Take an empty node off the register that is gone for good. It stands in the way of
    `ottla cluster finalize` no longer. With its old data directory it never comes back.

    \b
    Examples:
      ottla node unregister 4
    """
    from ottla.cli.connect import with_admin
    from ottla.cli.output import print_json

    async def work(admin: "Admin") -> None:
        await admin.unregister_node(node, validate_only=dry_run)

    with_admin(bootstrap, work)
    if as_json:
        print_json({"node_id": node, "dry_run": dry_run, "registered": dry_run})
    else:
        print(f"Node {node} {'can be' if dry_run else 'is'} unregistered.")


async def _go_on(admin: "Admin", node: int, dry_run: bool) -> Progress:
    """Each step when the one before is done: replicas, vote, register."""
    view, quorum = await asyncio.gather(admin.describe_cluster(), admin.describe_quorum())
    moves = sum(node in p.replicas for topic in view.topics.values() for p in topic.partitions)
    votes = any(voter.node_id == node for voter in quorum.voters)
    if moves or dry_run:
        return Progress(moves, votes, registered=True)
    if votes:
        check_voters(node, view, quorum)
        await admin.remove_voter(node)
    await admin.unregister_node(node)
    return Progress(0, votes=False, registered=False)


def check_voters(node: int, view: "ClusterView", quorum: "Quorum") -> None:
    """Raises Failure where the quorum would be left with too few voters, or with too few that are up."""
    left = [voter for voter in quorum.voters if voter.node_id != node]
    if len(left) == len(quorum.voters):
        return
    up = [voter.node_id for voter in left if voter.lag_ms is not None and voter.lag_ms <= _BEHIND_MS]
    if 2 * len(up) <= len(left):
        raise Failure(
            "INVALID_REQUEST",
            f"without node {node} the voters are {[v.node_id for v in left]}, of which only {up} are up: no majority",
            "start the others first",
        )
    if len(left) < _VOTERS_MIN <= len(quorum.voters):
        votes = {voter.node_id for voter in quorum.voters}
        others = [n for n, b in sorted(view.brokers.items()) if n not in votes and not b.fenced and not b.draining]
        raise Failure(
            "INVALID_REQUEST",
            f"node {node} is one of {len(quorum.voters)} voters: {len(left)} bear no loss",
            f"let another node vote first: `ottla cluster voter add {others[0]}`"
            if others
            else f"add a node that can vote in its place, or accept that with `ottla cluster voter remove {node}`",
        )
