"""`ottla group`: consumer groups - who reads, how far behind, and moving or deleting a group's positions."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from ottla.cli.failure import Failure
from ottla.cli.options import DEFAULT_BOOTSTRAP, Bootstrap, Json

if TYPE_CHECKING:
    from ottla import Admin
    from ottla.v1 import group_pb2
    from ottla.v1.group_pb2_grpc import GroupServiceAsyncStub

app = typer.Typer(help="Show, reset and delete consumer groups.", rich_markup_mode=None, no_args_is_help=True)

Answer = TypeVar("Answer")
Name = Annotated[str, typer.Argument(metavar="GROUP", show_default=False)]
_TIMEOUT_MS = 20_000


@app.command("list")
def list_groups(bootstrap: Bootstrap = DEFAULT_BOOTSTRAP, as_json: Json = False) -> None:
    """List all groups."""
    from ottla.cli.output import print_json, print_table
    from ottla.v1 import group_pb2

    answer = _ask(bootstrap, lambda stub, timeout: stub.ListGroups(group_pb2.ListGroupsRequest(), timeout=timeout))
    _raise(answer)
    rows = [(group.group_id, group.state, group.member_count, group.coordinator_id) for group in answer.groups]
    if as_json:
        names = ("group", "state", "members", "coordinator")
        print_json([dict(zip(names, row, strict=True)) for row in rows])
    else:
        print_table(("GROUP", "STATE", "MEMBERS", "COORDINATOR"), rows)


@app.command()
def describe(name: Name, bootstrap: Bootstrap = DEFAULT_BOOTSTRAP, as_json: Json = False) -> None:
    """Show a group's members, and for each partition its position and lag in records and seconds."""
    from ottla.cli.output import print_json, print_table, printable, tell
    from ottla.v1 import group_pb2

    request = group_pb2.DescribeGroupsRequest(group_ids=[name])
    group = _ask(bootstrap, lambda stub, timeout: stub.DescribeGroups(request, timeout=timeout)).groups[0]
    _raise(group)
    if as_json:
        print_json(_group_as_json(group))
        return
    shown = printable(name)
    print(f"{shown}: {group.state}, {len(group.members)} members, epoch {group.group_epoch}, {group.assignor or '-'}")
    print(f"coordinator: node {group.coordinator_id}")
    rows = [
        (
            lag.partition.topic,
            lag.partition.partition,
            lag.committed_offset if lag.HasField("committed_offset") else "-",
            lag.high_watermark if lag.HasField("high_watermark") else "?",
            "beyond-end" if lag.beyond_end else lag.lag_records if lag.HasField("lag_records") else "?",
            f"{lag.lag_ms / 1000:.1f}" if lag.HasField("lag_ms") else "?",
            lag.member_id or "-",
        )
        for lag in group.partitions
    ]
    print_table(("TOPIC", "PARTITION", "POSITION", "END", "LAG", "LAG S", "MEMBER"), rows)
    beyond = sum(lag.beyond_end for lag in group.partitions)
    if beyond:
        tell(f"{beyond} positions are beyond the end of their partition: somebody committed what was never written.")
        tell(
            f"next: stop the group's members, then `ottla group reset {shown} --to-latest --execute`, or --to-earliest"
        )


@app.command()
def reset(
    name: Name,
    to_earliest: Annotated[bool, typer.Option("--to-earliest", help="To the first record there is.")] = False,
    to_latest: Annotated[bool, typer.Option("--to-latest", help="To the end: only what comes from now on.")] = False,
    to_time: Annotated[
        datetime | None, typer.Option("--to-time", help="To the first record at or after it, local time.")
    ] = None,
    to_offset: Annotated[int | None, typer.Option("--to-offset", help="To this offset.", metavar="N")] = None,
    shift_by: Annotated[int | None, typer.Option("--shift-by", help="By so many records, back if negative.")] = None,
    topic: Annotated[str | None, typer.Option("--topic", help="Only in this topic; else wherever it has been.")] = None,
    execute: Annotated[bool, typer.Option("--execute", help="Do it; else the plan is shown.")] = False,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    as_json: Json = False,
) -> None:
    """Move a group's positions. Shows what would change, unless --execute is given. The group must be empty."""
    from ottla.cli.output import print_json, print_table

    targets = [to_earliest, to_latest, to_time is not None, to_offset is not None, shift_by is not None]
    if sum(targets) != 1:
        wanted = "name one of --to-earliest, --to-latest, --to-time, --to-offset and --shift-by"
        raise Failure("INVALID_REQUEST", f"{sum(targets)} places to go to were given", wanted)
    time_ms = -2 if to_earliest else -1 if to_latest else None if to_time is None else int(to_time.timestamp() * 1000)
    moves = _reset(bootstrap, name, topic, time_ms, to_offset, shift_by, execute)
    if as_json:
        names = ("topic", "partition", "old_offset", "new_offset")
        moved = [dict(zip(names, move, strict=True)) for move in moves]
        print_json({"group": name, "executed": execute, "partitions": moved})
        return
    print_table(("TOPIC", "PARTITION", "FROM", "TO"), [["-" if v is None else v for v in move] for move in moves])
    print("Done." if execute else "Nothing was changed: add --execute to do it.")


@app.command()
def delete(name: Name, bootstrap: Bootstrap = DEFAULT_BOOTSTRAP, as_json: Json = False) -> None:
    """Delete an empty group with its positions."""
    from ottla.cli.output import print_json
    from ottla.v1 import group_pb2

    request = group_pb2.DeleteGroupsRequest(group_ids=[name])
    _raise(_ask(bootstrap, lambda stub, timeout: stub.DeleteGroups(request, timeout=timeout)).groups[0])
    if as_json:
        print_json({"group": name})
    else:
        print(f"Deleted {name}.")


def _reset(
    bootstrap: str,
    name: str,
    topic: str | None,
    time_ms: int | None,
    offset: int | None,
    shift_by: int | None,
    execute: bool,
) -> list[tuple[str, int, int | None, int | None]]:
    """(topic, partition, old offset, new offset) of each move."""
    from ottla.cli.connect import with_admin

    async def work(admin: "Admin") -> list[tuple[str, int, int | None, int | None]]:
        info = None if topic is None else await admin.describe_topic(topic)
        where = [] if info is None else [(info.name, p.partition) for p in info.partitions]
        moved = await admin.reset_offsets(
            name, where, timestamp_ms=time_ms, offset=offset, shift_by=shift_by, validate_only=not execute
        )
        return [(*at, move.old_offset, move.new_offset) for at, move in moved.items()]

    return with_admin(bootstrap, work)


def _ask(bootstrap: str, call: "Callable[[GroupServiceAsyncStub, float], Awaitable[Answer]]") -> Answer:
    from ottla.cli.connect import connection, run

    async def work() -> Answer:
        from ottla.v1.group_pb2_grpc import GroupServiceStub

        async with connection(bootstrap) as client:
            return await client.on_any_node(
                lambda channel: call(GroupServiceStub(channel), _TIMEOUT_MS / 1000), _TIMEOUT_MS
            )

    return run(work())


def _raise(
    item: "group_pb2.ListGroupsResponse | group_pb2.GroupDescription | group_pb2.DeleteGroupResult",
) -> None:
    from ottla.protocol.errors import ApiError

    if item.error.code:
        raise ApiError.from_proto(item.error)


def _group_as_json(group: "group_pb2.GroupDescription") -> dict[str, object]:
    return {
        "group": group.group_id,
        "state": group.state,
        "group_epoch": group.group_epoch,
        "assignor": group.assignor,
        "coordinator": group.coordinator_id,
        "members": [
            {
                "member_id": member.member_id,
                "instance_id": member.instance_id or None,
                "client_id": member.client_id,
                "client_host": member.client_host,
                "member_epoch": member.member_epoch,
                "topics": list(member.topics),
                "owned": [{"topic": where.topic, "partition": where.partition} for where in member.owned],
            }
            for member in group.members
        ],
        "partitions": [
            {
                "topic": lag.partition.topic,
                "partition": lag.partition.partition,
                "committed_offset": lag.committed_offset if lag.HasField("committed_offset") else None,
                "high_watermark": lag.high_watermark if lag.HasField("high_watermark") else None,
                "lag_records": lag.lag_records if lag.HasField("lag_records") else None,
                "lag_ms": lag.lag_ms if lag.HasField("lag_ms") else None,
                "beyond_end": lag.beyond_end,
                "member_id": lag.member_id or None,
            }
            for lag in group.partitions
        ],
    }
