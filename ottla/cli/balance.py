"""`ottla cluster balance`: as many replicas on each node as on the others, and as many leaders."""

from typing import TYPE_CHECKING, Annotated

from ottla.cli import typed
from ottla.cli.options import DEFAULT_BOOTSTRAP, Bootstrap, Json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ottla import Admin
    from ottla.client.move_admin import Moved

Sizes = dict[tuple[str, int], int]
_SIZES_S = 5.0


def balance(
    dry_run: Annotated[bool, typed.Option("--dry-run", help="Show the moves and why, begin none.")] = False,
    wait: Annotated[bool, typed.Option("--wait", "--watch", help="Return when all is even, with progress.")] = False,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    as_json: Json = False,
) -> None:
    """Even out replicas and leaders over the nodes. Afterwards each has as many as the others,
    give or take one. Racks are kept apart; the fewest moves are made, the smallest partitions first.
    Nodes that are down or drained are left alone.

    \b
    Examples:
      ottla cluster balance --dry-run
      ottla cluster balance --watch
    """
    from ottla.cli.connect import with_admin
    from ottla.cli.partition import ended, print_begun

    async def work(admin: "Admin") -> "tuple[list[Moved], Sizes]":
        sizes = await _sizes(admin)
        begun = some = await admin.balance(sizes, validate_only=dry_run)
        while wait and not dry_run and some:
            await ended(admin, {(each.topic, each.partition) for each in some if each.moving}, as_json)
            some = await admin.balance(sizes)
            begun += some
        return begun, sizes

    begun, sizes = with_admin(bootstrap, work)
    print_begun(begun, as_json, dry_run, complete=wait and not dry_run)
    if begun and not as_json:
        from ottla.cli.units import shown_bytes

        how = "would be" if dry_run else "were" if wait else "are to be"
        print(f"In all {shown_bytes(_copied(begun, sizes))} {how} copied.")


async def _sizes(admin: "Admin") -> Sizes:
    """Of every partition whose leader says so at once: a plan does without the others' sizes."""
    import asyncio

    from ottla import OttlaError

    view = await admin.describe_cluster()
    led = [(t.name, p.partition) for t in view.topics.values() for p in t.partitions if p.leader_id is not None]
    try:
        async with asyncio.timeout(_SIZES_S):
            found = await admin.log_sizes(led)
    except (OttlaError, TimeoutError):
        return {}
    return {(place.topic, place.partition): size for place, size in found.items() if size is not None}


def _copied(begun: "list[Moved]", sizes: "Mapping[tuple[str, int], int]") -> int:
    return sum(
        len(set(each.replicas) - set(each.replicas_before)) * sizes.get((each.topic, each.partition), 0)
        for each in begun
    )
