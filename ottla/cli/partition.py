"""`ottla partition`: which nodes partitions are on, and their moves to others."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from ottla.cli import typed
from ottla.cli.failure import Failure
from ottla.cli.options import DEFAULT_BOOTSTRAP, Bootstrap, Json
from ottla.cli.watch import Watch, watched

if TYPE_CHECKING:
    from ottla import Admin
    from ottla.client.move_admin import Moved, Reassignment

app = typed.Group("Move partitions to other nodes, and look at the moves.")

Place = Annotated[str, typed.Argument(metavar="TOPIC:PARTITION")]
Wait = Annotated[bool, typed.Option("--wait", help="Return when it is complete, with its progress meanwhile.")]
DryRun = Annotated[bool, typed.Option("--dry-run", help="Check everything, change nothing.")]
_LOOK_S = 0.5


@app.verb()
def move(
    place: Place,
    replicas: Annotated[
        str,
        typed.Option("--replicas", metavar="NODE[,...]", help="Where to; the first is the preferred leader."),
    ],
    dry_run: DryRun = False,
    wait: Wait = False,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    as_json: Json = False,
) -> None:
    """Move a partition to other nodes. New replicas catch up first; then the old ones go. A move
    that is under way is replaced.

    \b
    Examples:
      ottla partition move orders:0 --replicas 2,3,4
      ottla partition move orders:0 --replicas 2,3,4 --wait
    """
    topic, number = _place(place)
    nodes = _nodes(replicas)
    _begin(lambda admin: _one(admin, topic, number, nodes, dry_run), bootstrap, as_json, dry_run, wait)


@app.verb()
def cancel(
    place: Place,
    dry_run: DryRun = False,
    wait: Wait = False,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    as_json: Json = False,
) -> None:
    """Call a move off: back to the replicas from before it.

    \b
    Examples:
      ottla partition cancel orders:0
    """
    topic, number = _place(place)
    _begin(lambda admin: _one(admin, topic, number, None, dry_run), bootstrap, as_json, dry_run, wait)


@app.verb("list")
def list_(watch: Watch = None, bootstrap: Bootstrap = DEFAULT_BOOTSTRAP, as_json: Json = False) -> None:
    """Show the moves that are under way.

    \b
    Examples:
      ottla partition list
      ottla partition list --watch 2s
    """
    from ottla.cli.connect import with_admin

    async def show(admin: "Admin") -> None:
        _print_moves(await admin.list_reassignments(), as_json, in_a_line=watch is not None)

    async def work(admin: "Admin") -> None:
        await watched(watch, lambda: show(admin))

    with_admin(bootstrap, work)


def begin_drain(node: int, bootstrap: str, as_json: bool, dry_run: bool, wait: bool) -> None:
    """Moves what a node has to others, and says what."""
    _begin(lambda admin: admin.drain_node(node, validate_only=dry_run), bootstrap, as_json, dry_run, wait)


async def _one(
    admin: "Admin", topic: str, number: int, replicas: "Sequence[int] | None", dry_run: bool
) -> "list[Moved]":
    return [await admin.move_partition(topic, number, replicas, validate_only=dry_run)]


def _begin(
    ask: "Callable[[Admin], Awaitable[list[Moved]]]", bootstrap: str, as_json: bool, dry_run: bool, wait: bool
) -> None:
    from ottla.cli.connect import with_admin

    async def work(admin: "Admin") -> "tuple[list[Moved], bool]":
        begun = await ask(admin)
        complete = wait and not dry_run
        if complete:
            await ended(admin, {(each.topic, each.partition) for each in begun if each.moving}, as_json)
        return begun, complete

    begun, complete = with_admin(bootstrap, work)
    print_begun(begun, as_json, dry_run, complete)


async def ended(admin: "Admin", wanted: set[tuple[str, int]], as_json: bool) -> None:
    """Returns when none of these partitions moves any more, and says meanwhile how far they are."""
    from ottla.cli.output import tell

    said = ""
    while left := [each for each in await admin.list_reassignments() if (each.topic, each.partition) in wanted]:
        first = left[0]
        done = f"{len(wanted) - len(left)} of {len(wanted)} complete"
        now = f"{done}; {first.topic}:{first.partition} waits: {first.waits_for}"
        if now != said and not as_json:
            tell(now)
        said = now
        await asyncio.sleep(_LOOK_S)


def print_begun(begun: "Sequence[Moved]", as_json: bool, dry_run: bool, complete: bool) -> None:
    from ottla.cli.output import print_json

    if as_json:
        print_json([_begun_as_json(each, dry_run, complete) for each in begun])
        return
    for each in begun:
        how = "would move" if dry_run else "moves" if each.moving and not complete else "moved"
        why = f": {each.reason}" if each.reason else ""
        if each.replicas == each.replicas_before:
            how = "would stay" if dry_run else "goes back" if each.moving and not complete else "is"
            print(f"{each.topic}:{each.partition} {how} on {_ids(each.replicas)}.")
        else:
            print(
                f"{each.topic}:{each.partition} {how} from {_ids(each.replicas_before)} to {_ids(each.replicas)}{why}."
            )
    if not begun:
        print("Nothing has to move.")
    elif any(each.moving for each in begun) and not (dry_run or complete):
        print("`ottla partition list` shows how far they are.")


def _begun_as_json(each: "Moved", dry_run: bool, complete: bool) -> dict[str, Any]:
    return {
        "topic": each.topic,
        "partition": each.partition,
        "replicas_before": list(each.replicas_before),
        "replicas": list(each.replicas),
        "moving": each.moving and not complete,
        "dry_run": dry_run,
        "reason": each.reason or None,
    }


def _print_moves(moves: "Sequence[Reassignment]", as_json: bool, in_a_line: bool) -> None:
    from ottla.cli.output import print_json, print_table

    if as_json:
        print_json([_move_as_json(each) for each in moves], in_a_line=in_a_line)
        return
    if not moves:
        print("Nothing moves.")
        return
    rows = [
        (
            each.topic,
            each.partition,
            "-" if each.leader is None else each.leader,
            _ids(each.replicas),
            _ids(each.isr),
            _ids(each.adding),
            _ids(each.removing),
            f"{sum(n in each.isr for n in each.target)} of {len(each.target)}",
            f"called off: {each.waits_for}" if each.cancelled else each.waits_for,
        )
        for each in moves
    ]
    print_table(("TOPIC", "PARTITION", "LEADER", "REPLICAS", "ISR", "ADDING", "REMOVING", "IN SYNC", "WAITS FOR"), rows)


def _move_as_json(each: "Reassignment") -> dict[str, Any]:
    return {
        "topic": each.topic,
        "partition": each.partition,
        "leader": each.leader,
        "replicas": list(each.replicas),
        "isr": list(each.isr),
        "adding": list(each.adding),
        "removing": list(each.removing),
        "target": list(each.target),
        "waits_for": each.waits_for,
        "cancelled": each.cancelled,
    }


def _place(text: str) -> tuple[str, int]:
    found = re.fullmatch(r"(.+):(\d{1,9})", text)
    if found is None:
        raise Failure("INVALID_REQUEST", f"{text!r} is no TOPIC:PARTITION", "write it as in orders:0")
    return found[1], int(found[2])


def _nodes(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and len(part) < 10 for part in parts):
        raise Failure("INVALID_REPLICA_ASSIGNMENT", f"{text!r} is no list of node ids", "write it as in 2,3,4")
    return list(map(int, parts))


def _ids(ids: "Sequence[int]") -> str:
    return ",".join(map(str, ids)) or "-"
