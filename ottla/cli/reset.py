"""`ottla group reset`: moves a group's positions, those of a group that is yet to be, too; a plan may be a file."""

import json
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from ottla.cli import complete, typed
from ottla.cli.failure import Failure
from ottla.cli.options import DEFAULT_BOOTSTRAP, Bootstrap, Group, Json
from ottla.cli.units import moment_ms

if TYPE_CHECKING:
    from ottla import Admin


class Move(NamedTuple):
    """A position before and after; None = no position."""

    topic: str
    partition: int
    old_offset: int | None
    new_offset: int | None


class Target(NamedTuple):
    """Where to: exactly one of them."""

    time_ms: int | None = None
    offset: int | None = None
    shift_by: int | None = None


def reset(
    name: Group,
    to_earliest: Annotated[bool, typed.Option("--to-earliest", help="To the first record there is.")] = False,
    to_latest: Annotated[bool, typed.Option("--to-latest", help="To the end: only what comes from now on.")] = False,
    to_time: Annotated[
        str | None,
        typed.Option("--to-time", help="To the first record since: 2026-11-30T10:15, 1h (ago).", metavar="WHEN"),
    ] = None,
    to_offset: Annotated[int | None, typed.Option("--to-offset", help="To this offset.", metavar="N", min=0)] = None,
    shift_by: Annotated[
        int | None, typed.Option("--shift-by", help="By so many records, back if negative.", metavar="N")
    ] = None,
    plan: Annotated[
        Path | None, typed.Option("--plan", help="To what a file says: JSON as --json prints it.", metavar="FILE")
    ] = None,
    topics: Annotated[
        list[str] | None,
        typed.Option(
            "--topic",
            help="Only there, or in some of its partitions; repeatable. Else wherever the group has been.",
            metavar="TOPIC[:P,...]",
            shell_complete=complete.topics,
        ),
    ] = None,
    execute: Annotated[bool, typed.Option("--execute", help="Do it; else the plan is shown.")] = False,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    as_json: Json = False,
) -> None:
    """Move a group's positions.

    Shows what would change, unless --execute is given. The group must have no members. One that does not exist yet
    needs --topic, and exists then.

    \b
    Examples:
      ottla group reset billing --to-time 1h
      ottla group reset billing --to-time 1h --execute
      ottla group reset new-group --topic orders:0,1 --to-latest --execute
      ottla group reset billing --to-earliest --json > plan.json
      ottla group reset billing --plan plan.json --execute
    """
    from ottla.cli.connect import with_admin
    from ottla.cli.output import print_json, print_table

    given = [to_earliest, to_latest, to_time is not None, to_offset is not None, shift_by is not None, plan is not None]
    if sum(given) != 1:
        wanted = "name one of --to-earliest, --to-latest, --to-time, --to-offset, --shift-by and --plan"
        raise Failure("INVALID_REQUEST", f"{sum(given)} places to go to were given", wanted)
    if plan is not None and topics:
        raise Failure("INVALID_REQUEST", "a plan says where, too", "leave --topic out")
    time_ms = -2 if to_earliest else -1 if to_latest else None
    if to_time is not None:
        time_ms = moment_ms(to_time, time.time_ns() // 1_000_000)
    target = Target(time_ms, to_offset, shift_by)
    planned = None if plan is None else read_plan(plan.read_bytes(), str(plan))

    async def work(admin: "Admin") -> list[Move]:
        if planned is not None:
            await _check(admin, planned)
            return await _carry_out(admin, name, planned, execute)
        return await _to_target(admin, name, await _places(admin, topics or []), target, execute)

    moves = with_admin(bootstrap, work)
    if as_json:
        print_json({"group": name, "executed": execute, "partitions": [move._asdict() for move in moves]})
        return
    if not moves:
        print(f"{name} has no positions: name --topic to give it some.")
        return
    print_table(("TOPIC", "PARTITION", "FROM", "TO"), [["-" if v is None else v for v in move] for move in moves])
    print("Done." if execute else "Nothing was changed: add --execute to do it.")


def read_plan(data: bytes, file: str) -> dict[tuple[str, int], int]:
    """The positions in a plan: what --json printed, or TOPIC,PARTITION,OFFSET a line, as Kafka's tool has it. Raises
    Failure."""
    try:
        text = data.decode()
        if text.lstrip().startswith("{"):
            found: list[Any] = json.loads(text)["partitions"]
            rows = [(each["topic"], each["partition"], each["new_offset"]) for each in found]
        else:
            rows = [
                (topic.strip().strip('"'), int(partition), int(offset))
                for line in text.splitlines()
                if line.strip()
                for topic, partition, offset in [line.split(",")]
            ]
        plan = {(topic, partition): offset for topic, partition, offset in rows if offset is not None}
        for (topic, partition), offset in plan.items():
            if not isinstance(topic, str) or type(partition) is not int or type(offset) is not int or offset < 0:
                raise ValueError(f"{topic}, {partition}, {offset}")
        if twice := [place for place, count in Counter(row[:2] for row in rows).items() if count > 1]:
            raise ValueError(f"{twice[0][0]}, {twice[0][1]} is there twice")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Failure(
            "INVALID_REQUEST",
            f"{file} is no plan: {type(error).__name__}: {error}",
            "make one with `ottla group reset GROUP --to-earliest --json`, or write TOPIC,PARTITION,OFFSET lines",
        ) from None
    if not plan:
        raise Failure("INVALID_REQUEST", f"{file} moves nothing", "give it lines of TOPIC,PARTITION,OFFSET")
    return plan


async def _places(admin: "Admin", topics: list[str]) -> list[tuple[str, int]]:
    """TOPIC or TOPIC:0,2 as partitions. Raises Failure."""
    places = []
    for text in topics:
        name, colon, numbers = text.partition(":")
        there = [partition.partition for partition in (await admin.describe_topic(name)).partitions]
        if not colon:
            places += [(name, number) for number in there]
            continue
        for number in numbers.split(","):
            if not number.isdecimal() or int(number) not in there:
                raise Failure(
                    "UNKNOWN_TOPIC_OR_PARTITION",
                    f"{name} has no partition {number!r}",
                    f"it has 0 to {len(there) - 1}",
                )
            places.append((name, int(number)))
    return places


async def _to_target(
    admin: "Admin", name: str, places: list[tuple[str, int]], target: Target, execute: bool
) -> list[Move]:
    from ottla import UnknownGroup

    try:
        moved = await admin.reset_offsets(
            name,
            places,
            timestamp_ms=target.time_ms,
            offset=target.offset,
            shift_by=target.shift_by,
            validate_only=not execute,
        )
    except UnknownGroup:
        if not places:
            raise
    else:
        return [Move(*where, move.old_offset, move.new_offset) for where, move in moved.items()]
    if target.shift_by is not None:
        raise Failure(
            "GROUP_ID_NOT_FOUND", f"there is no group {name} to shift", "start it with --to-earliest or the like"
        )
    return await _carry_out(admin, name, await _first_positions(admin, places, target), execute)


async def _first_positions(admin: "Admin", places: list[tuple[str, int]], target: Target) -> dict[tuple[str, int], int]:
    """Where a new group starts, within what exists."""
    from ottla.cli.span import EARLIEST, LATEST

    first = await admin.list_offsets(dict.fromkeys(places, EARLIEST))
    latest = await admin.list_offsets(dict.fromkeys(places, LATEST))
    found = latest if target.time_ms is None else await admin.list_offsets(dict.fromkeys(places, target.time_ms))
    positions: dict[tuple[str, int], int] = {}
    for tp, end in latest.items():
        wanted = target.offset if target.offset is not None else found[tp]
        positions[tp] = max(first[tp] or 0, min(end or 0, (end or 0) if wanted is None else wanted))
    return positions


async def _check(admin: "Admin", positions: dict[tuple[str, int], int]) -> None:
    """A plan may be old, or of another cluster. Raises Failure for a position beyond the end."""
    from ottla.cli.span import LATEST

    for tp, end in (await admin.list_offsets(dict.fromkeys(positions, LATEST))).items():
        if positions[tp] > (end or 0):
            raise Failure(
                "OFFSET_OUT_OF_RANGE",
                f"{tp.topic}-{tp.partition} ends at {end}, before {positions[tp]}",
                "mend the plan, or make it anew",
            )


async def _carry_out(admin: "Admin", name: str, positions: dict[tuple[str, int], int], execute: bool) -> list[Move]:
    from ottla import UnknownGroup

    try:
        before = {tuple(tp): lag.committed_offset for tp, lag in (await admin.describe_group(name)).partitions.items()}
    except UnknownGroup:
        before = {}
    if execute:
        await admin.commit_offsets(name, positions)
    return [Move(*where, before.get(where), offset) for where, offset in sorted(positions.items())]
