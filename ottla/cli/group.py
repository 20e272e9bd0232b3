"""`ottla group`: consumer groups - who reads, how far behind, and deleting a group."""

from typing import TYPE_CHECKING

from ottla.cli import reset, typed
from ottla.cli.options import DEFAULT_BOOTSTRAP, Bootstrap, Group, Json
from ottla.cli.watch import Watch

if TYPE_CHECKING:
    from ottla import Admin
    from ottla.client.group_admin import GroupDescription, GroupLag, GroupSummary

app = typed.Group("Show, reset and delete consumer groups.")
_AT_ONCE = 8


@app.verb("list")
def list_groups(watch: Watch = None, bootstrap: Bootstrap = DEFAULT_BOOTSTRAP, as_json: Json = False) -> None:
    """List all groups with their lag.

    \b
    Examples:
      ottla group list
      ottla group list --watch 2s
    """
    from ottla.cli.connect import with_admin
    from ottla.cli.output import print_json, print_table
    from ottla.cli.watch import watched

    async def show(admin: "Admin") -> None:
        groups = await _described(admin)
        rows = [
            (
                group.group_id,
                group.type,
                group.state,
                group.member_count,
                group.coordinator_id,
                sum(lag.lag_records or 0 for lag in lags),
                sum(lag.lag_records is None and lag.committed_offset is not None for lag in lags),
            )
            for group, lags in groups
        ]
        if as_json:
            names = ("group", "type", "state", "members", "coordinator", "lag_records", "partitions_of_unknown_lag")
            print_json([dict(zip(names, row, strict=True)) for row in rows], in_a_line=watch is not None)
            return
        shown = [
            (name, kind or "-", *row, f"{lag}{' at least' if unknown else ''}")
            for name, kind, *row, lag, unknown in rows
        ]
        print_table(("GROUP", "TYPE", "STATE", "MEMBERS", "COORDINATOR", "LAG"), shown)

    with_admin(bootstrap, lambda admin: watched(watch, lambda: show(admin)))


async def _described(admin: "Admin") -> "list[tuple[GroupSummary, list[GroupLag]]]":
    """All groups with what each lags behind; a few are asked for at once."""
    import asyncio

    from ottla import OttlaError

    turns = asyncio.Semaphore(_AT_ONCE)

    async def lags(group: "GroupSummary") -> "list[GroupLag]":
        async with turns:
            try:
                return list((await admin.describe_group(group.group_id)).partitions.values())
            except OttlaError:
                return []  # deleted in the meantime

    groups = await admin.list_groups()
    return list(zip(groups, await asyncio.gather(*map(lags, groups)), strict=True))


@app.verb()
def describe(name: Group, watch: Watch = None, bootstrap: Bootstrap = DEFAULT_BOOTSTRAP, as_json: Json = False) -> None:
    """Show members, positions, and lag in records and time.

    \b
    Examples:
      ottla group describe billing
      ottla group describe billing --watch 2s
    """
    from ottla.cli.connect import with_admin
    from ottla.cli.output import print_json
    from ottla.cli.watch import watched

    async def show(admin: "Admin") -> None:
        group = await admin.describe_group(name)
        if as_json:
            print_json(_group_as_json(group), in_a_line=watch is not None)
        else:
            _print_group(group)

    with_admin(bootstrap, lambda admin: watched(watch, lambda: show(admin)))


def _print_group(group: "GroupDescription") -> None:
    from ottla.cli.output import Cell, counted, print_table, printable, tell
    from ottla.cli.units import shown_ms

    shown = printable(group.group_id)
    assignor = f", {printable(group.assignor)}" if group.assignor else ""
    epoch = f"generation {group.group_epoch} of Kafka's classic protocol" if group.type == "classic" else ""
    epoch = epoch or f"epoch {group.group_epoch}"
    print(f"{shown}: {group.state}, {counted(len(group.members), 'member')}, {epoch}{assignor}")
    print(f"coordinator: node {group.coordinator_id}")
    rows = [
        (
            where.topic,
            where.partition,
            "-" if lag.committed_offset is None else lag.committed_offset,
            "?" if lag.high_watermark is None else lag.high_watermark,
            Cell("beyond-end", "bad") if lag.beyond_end else "?" if lag.lag_records is None else lag.lag_records,
            "?" if lag.lag_ms is None else shown_ms(lag.lag_ms),
            lag.member_id or "-",
        )
        for where, lag in group.partitions.items()
    ]
    print_table(("TOPIC", "PARTITION", "POSITION", "END", "LAG", "BEHIND", "MEMBER"), rows)
    beyond = sum(lag.beyond_end for lag in group.partitions.values())
    if beyond:
        tell(
            f"{counted(beyond, 'position')} beyond the end of the partition: somebody committed what was never written."
        )
        tell(
            f"next: stop the group's members, then `ottla group reset {shown} --to-latest --execute`, or --to-earliest"
        )


app.verb("reset")(reset.reset)


@app.verb()
def delete(name: Group, bootstrap: Bootstrap = DEFAULT_BOOTSTRAP, as_json: Json = False) -> None:
    """Delete an empty group with its positions.

    \b
    Examples:
      ottla group delete billing
    """
    from ottla.cli.connect import with_admin
    from ottla.cli.output import print_json

    with_admin(bootstrap, lambda admin: admin.delete_group(name))
    if as_json:
        print_json({"group": name})
    else:
        print(f"Deleted {name}.")


def _group_as_json(group: "GroupDescription") -> dict[str, object]:
    return {
        "group": group.group_id,
        "type": group.type,
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
                "topic": where.topic,
                "partition": where.partition,
                "committed_offset": lag.committed_offset,
                "high_watermark": lag.high_watermark,
                "lag_records": lag.lag_records,
                "lag_ms": lag.lag_ms,
                "beyond_end": lag.beyond_end,
                "member_id": lag.member_id or None,
            }
            for where, lag in group.partitions.items()
        ],
    }
