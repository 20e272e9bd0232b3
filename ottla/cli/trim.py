"""`ottla topic trim`: drops the oldest records of a topic."""

import sys
import time
from typing import TYPE_CHECKING, Annotated, NamedTuple

import click

from ottla.cli import typed
from ottla.cli.failure import Failure
from ottla.cli.options import DEFAULT_BOOTSTRAP, Bootstrap, DryRun, Json, Topic, Yes

if TYPE_CHECKING:
    from ottla import Admin


class Cut(NamedTuple):
    """What goes from a partition: the offsets from `start` up to `before`, exclusive."""

    partition: int
    start: int
    before: int


def trim(
    name: Topic,
    before: Annotated[
        int | None, typed.Option("--before", help="Drop what is below this offset.", metavar="OFFSET", min=0)
    ] = None,
    before_time: Annotated[
        str | None, typed.Option("--before-time", help="Drop what is older: 2026-11-30T10:15, 7d.", metavar="WHEN")
    ] = None,
    everything: Annotated[bool, typed.Option("--all", help="Drop all there is now.")] = False,
    partitions: Annotated[
        list[int] | None, typed.Option("--partition", "-p", help="Only this one; repeatable.", min=0)
    ] = None,
    sure: Yes = False,
    dry_run: DryRun = False,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    as_json: Json = False,
) -> None:
    """Drop the oldest records.

    Offsets go on where they were. Asks first on a terminal.

    \b
    Examples:
      ottla topic trim orders --before-time 7d --dry-run
      ottla topic trim orders --partition 2 --before 1000
      ottla topic trim orders --all --yes
    """
    from ottla.cli.connect import with_admin
    from ottla.cli.output import counted, print_json, print_table, tell
    from ottla.cli.units import moment_ms

    if sum((before is not None, before_time is not None, everything)) != 1:
        raise Failure("INVALID_REQUEST", "up to where?", "name one of --before, --before-time and --all")
    if before is not None and len(partitions or ()) != 1:
        raise Failure("INVALID_REQUEST", "--before is a place in one partition", "name one --partition, too")
    until_ms = None if before_time is None else moment_ms(before_time, time.time_ns() // 1_000_000)
    cuts = with_admin(bootstrap, lambda admin: plan(admin, name, partitions, before, until_ms))
    count = sum(cut.before - cut.start for cut in cuts)
    if cuts and not dry_run:
        if not sure and sys.stdin.isatty():
            click.confirm(f"Drop {counted(count, 'record')} of {name} for good?", abort=True, err=True)

        async def carry_out(admin: "Admin") -> None:
            for cut in cuts:
                await admin.delete_records(name, cut.partition, cut.before)

        with_admin(bootstrap, carry_out)
    if as_json:
        dropped = [{"partition": cut.partition, "old_start": cut.start, "new_start": cut.before} for cut in cuts]
        print_json({"topic": name, "dry_run": dry_run, "partitions": dropped})
        return
    print_table(("PARTITION", "START", "NEW START", "DROPPED"), [(*cut, cut.before - cut.start) for cut in cuts])
    tell(f"{'Would drop' if dry_run else 'Dropped'} {counted(count, 'record')} of {name} at most.")


async def plan(
    admin: "Admin", name: str, partitions: list[int] | None, before: int | None, until_ms: int | None
) -> list[Cut]:
    """The partitions that lose something."""
    from ottla.cli.span import EARLIEST, LATEST

    there = [partition.partition for partition in (await admin.describe_topic(name)).partitions]
    for number in partitions or ():
        if number not in there:
            raise Failure(
                "UNKNOWN_TOPIC_OR_PARTITION", f"{name} has no partition {number}", f"it has 0 to {len(there) - 1}"
            )
    places = [(name, number) for number in (partitions or there)]
    starts = await admin.list_offsets(dict.fromkeys(places, EARLIEST))
    ends = await admin.list_offsets(dict.fromkeys(places, LATEST))
    found = (
        ends
        if until_ms is None
        else ends
        | {
            tp: offset
            for tp, offset in (await admin.list_offsets(dict.fromkeys(places, until_ms))).items()
            if offset is not None
        }
    )
    cuts = []
    for tp, end in ends.items():
        wanted = (found[tp] if before is None else before) or 0
        if wanted > (end or 0):
            raise Failure(
                "OFFSET_OUT_OF_RANGE", f"{name}-{tp.partition} ends at {end}, before {wanted}", "name an offset it has"
            )
        if wanted > (starts[tp] or 0):
            cuts.append(Cut(tp.partition, starts[tp] or 0, wanted))
    return sorted(cuts)
