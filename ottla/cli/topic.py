"""`ottla topic`: create, list, describe, alter, export, import, trim, elect, delete."""

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Final

import click

from ottla.cli import complete, transfer, trim, typed
from ottla.cli.config import settings_of, source_name
from ottla.cli.elect import elect
from ottla.cli.failure import Failure
from ottla.cli.options import DEFAULT_BOOTSTRAP, Bootstrap, DryRun, Json, Topic, Yes

if TYPE_CHECKING:
    from ottla import Admin
    from ottla.client.admin import ConfigValue, CreatedTopic
    from ottla.client.view import ClusterView, TopicInfo

app = typed.Group("Create, describe, alter, export, import and delete topics.")

# Shown by `describe` even where they have their defaults: they decide what an acknowledgement is worth.
_ALWAYS_SHOWN: Final = ("flush", "min.insync.replicas", "cleanup.policy")
_OFFSETS_S: Final = 4.0
Bounds = dict[int, tuple[int, int, int | None]]
"""By partition: start and end offset, and the bytes on the leader's disk, where it says."""


@app.verb()
def create(
    name: Topic,
    partitions: Annotated[
        int | None, typed.Option("--partitions", "-p", help="How many; else the cluster's default.")
    ] = None,
    replication_factor: Annotated[
        int | None,
        typed.Option("--replication-factor", "-r", help="Copies of each partition; else the cluster's default."),
    ] = None,
    configs: Annotated[
        list[str] | None,
        typed.Option(
            "--config", "-c", help="Such as retention.ms=7d.", metavar="K=V", shell_complete=complete.topic_configs
        ),
    ] = None,
    dry_run: DryRun = False,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    as_json: Json = False,
) -> None:
    """Create a topic. Every live node knows it when this returns.

    \b
    Examples:
      ottla topic create orders --partitions 6
      ottla topic create orders --config retention.ms=7d --config flush=ack
    """
    from ottla.cli.connect import with_admin
    from ottla.cli.output import counted, print_json

    settings = settings_of(configs, "--config")

    async def ask(admin: "Admin") -> "CreatedTopic":
        return await admin.create_topic(
            name,
            partitions=partitions,
            replication_factor=replication_factor,
            configs=settings,
            validate_only=dry_run,
        )

    made = with_admin(bootstrap, ask)
    if as_json:
        answer = {"topic": name, "topic_id": made.topic_id.hex(), "partitions": made.num_partitions}
        print_json({**answer, "replication_factor": made.replication_factor, "dry_run": dry_run})
    else:
        deed = "Would create" if dry_run else "Created"
        partitions_made = counted(made.num_partitions, "partition")
        print(f"{deed} {name}: {partitions_made}, replication factor {made.replication_factor}.")


@app.verb("list")
def list_topics(bootstrap: Bootstrap = DEFAULT_BOOTSTRAP, as_json: Json = False) -> None:
    """List all topics.

    \b
    Examples:
      ottla topic list
    """
    from ottla.cli.connect import with_admin
    from ottla.cli.output import print_json, print_table

    async def ask(admin: "Admin") -> "ClusterView":
        return await admin.describe_cluster()

    topics = sorted(with_admin(bootstrap, ask).topics.values(), key=lambda topic: topic.name)
    rows = [
        (topic.name, len(topic.partitions), len(topic.partitions[0].replicas) if topic.partitions else 0)
        for topic in topics
    ]
    if as_json:
        print_json(
            [
                {"topic": topic.name, "partitions": row[1], "replication_factor": row[2], "internal": topic.internal}
                for topic, row in zip(topics, rows, strict=True)
            ]
        )
    else:
        print_table(("TOPIC", "PARTITIONS", "REPLICATION"), rows)


@app.verb()
def describe(name: Topic, bootstrap: Bootstrap = DEFAULT_BOOTSTRAP, as_json: Json = False) -> None:
    """Show a topic's partitions, offsets, sizes and configs.

    \b
    Examples:
      ottla topic describe orders
    """
    from ottla.cli.connect import with_admin
    from ottla.cli.output import Cell, counted, print_json, print_table
    from ottla.cli.units import shown_bytes

    async def ask(admin: "Admin") -> "tuple[TopicInfo, dict[str, ConfigValue], Bounds]":
        topic = await admin.describe_topic(name)
        return topic, await admin.describe_topic_configs(name), await _bounds(admin, topic)

    topic, configs, bounds = with_admin(bootstrap, ask)
    if as_json:
        print_json(_topic_as_json(topic, configs, bounds))
        return
    # Compaction leaves gaps: this is how many there are at most.
    records = sum(end - start for start, end, _ in bounds.values())
    size = sum(size or 0 for _, _, size in bounds.values())
    unknown = "" if len(bounds) == len(topic.partitions) else " and more: not every leader answers"
    print(
        f"{topic.name}, id {topic.topic_id.hex()}, {counted(len(topic.partitions), 'partition')}, "
        f"{counted(records, 'record')}, {shown_bytes(size)}{unknown}"
    )
    if topic.import_id:
        print("  being imported: it serves nobody until `ottla topic import` has brought everything")
    for key, config in configs.items():
        if key in _ALWAYS_SHOWN or config.source != "DEFAULT":
            print(f"  {key} = {config.value} ({source_name(config)})")
    rows = []
    for partition in topic.partitions:
        start, end, size_bytes = bounds.get(partition.partition, (None, None, None))
        isr = _ids(partition.isr)
        rows.append(
            (
                partition.partition,
                Cell("none", "bad") if partition.leader_id is None else partition.leader_id,
                partition.leader_epoch,
                _ids(partition.replicas),
                isr if len(partition.isr) == len(partition.replicas) else Cell(isr, "warn"),
                _ids(partition.elr),
                "?" if start is None else start,
                "?" if end is None else end,
                "?" if start is None or end is None else end - start,
                "?" if size_bytes is None else shown_bytes(size_bytes),
            )
        )
    print_table(("PARTITION", "LEADER", "EPOCH", "REPLICAS", "ISR", "ELR", "START", "END", "RECORDS", "SIZE"), rows)


async def _bounds(admin: "Admin", topic: "TopicInfo") -> Bounds:
    """The first and the next offset, and the size, of each partition whose leader says so at once."""
    import asyncio

    from ottla import OttlaError
    from ottla.cli.span import EARLIEST, LATEST

    led = [
        (topic.name, partition.partition)
        for partition in topic.partitions
        if partition.leader_id is not None and not topic.import_id
    ]

    async def ask(places: list[tuple[str, int]]) -> Bounds:
        try:
            async with asyncio.timeout(_OFFSETS_S):
                first = await admin.list_offsets(dict.fromkeys(places, EARLIEST))
                latest = await admin.list_offsets(dict.fromkeys(places, LATEST))
                sizes = await admin.log_sizes(places)
        except (OttlaError, TimeoutError):
            return {}
        return {tp.partition: (first[tp] or 0, latest[tp] or 0, sizes[tp]) for tp in latest}

    if not led:
        return {}
    if len(bounds := await ask(led)) < len(led):
        # One of them cannot tell: the others can.
        found = await asyncio.gather(*(ask([place]) for place in led))
        bounds = {number: each for some in found for number, each in some.items()}
    return bounds


@app.verb()
def alter(
    name: Topic,
    partitions: Annotated[int | None, typed.Option("--partitions", help="The new number; it can only grow.")] = None,
    configs: Annotated[
        list[str] | None,
        typed.Option("--config", "-c", help="Set a config.", metavar="K=V", shell_complete=complete.topic_configs),
    ] = None,
    resets: Annotated[
        list[str] | None, typed.Option("--reset", help="A config back to its default.", metavar="K")
    ] = None,
    dry_run: DryRun = False,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    as_json: Json = False,
) -> None:
    """Give a topic more partitions, or change its configs.

    \b
    Examples:
      ottla topic alter orders --partitions 12
      ottla topic alter orders --config retention.bytes=10GiB --reset flush
    """
    from ottla.cli.connect import with_admin
    from ottla.cli.output import print_json

    settings = settings_of(configs, "--config")
    if partitions is None and not settings and not resets:
        raise Failure("INVALID_REQUEST", "nothing to change was given", "name --partitions, --config or --reset")

    async def ask(admin: "Admin") -> None:
        if settings or resets:
            changes = {**settings, **dict.fromkeys(resets or [])}
            await admin.alter_topic_configs(name, changes, validate_only=dry_run)
        if partitions is not None:
            await admin.create_partitions(name, partitions, validate_only=dry_run)

    with_admin(bootstrap, ask)
    if as_json:
        print_json({"topic": name, "dry_run": dry_run})
    else:
        print(f"{'Would change' if dry_run else 'Changed'} {name}.")


@app.verb()
def delete(
    name: Topic,
    sure: Yes = False,
    dry_run: DryRun = False,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    as_json: Json = False,
) -> None:
    """Delete a topic and its data. Asks first on a terminal.

    \b
    Examples:
      ottla topic delete orders
      ottla topic delete orders --yes
    """
    from ottla.cli.connect import with_admin
    from ottla.cli.output import print_json

    if not sure and not dry_run and sys.stdin.isatty():
        click.confirm(f"Delete {name} and all its records for good?", abort=True)

    async def ask(admin: "Admin") -> None:
        await admin.delete_topic(name, validate_only=dry_run)

    with_admin(bootstrap, ask)
    if as_json:
        print_json({"topic": name, "dry_run": dry_run})
    else:
        print(f"{'Would delete' if dry_run else 'Deleted'} {name}.")


def _ids(nodes: Iterable[int]) -> str:
    return ",".join(map(str, nodes)) or "-"


def _topic_as_json(topic: "TopicInfo", configs: "dict[str, ConfigValue]", bounds: Bounds) -> dict[str, object]:
    return {
        "topic": topic.name,
        "topic_id": topic.topic_id.hex(),
        "internal": topic.internal,
        "importing": bool(topic.import_id),
        "partitions": [
            {
                "partition": partition.partition,
                "leader": partition.leader_id,
                "leader_epoch": partition.leader_epoch,
                "replicas": list(partition.replicas),
                "isr": list(partition.isr),
                "elr": list(partition.elr),
                **dict(
                    zip(
                        ("start_offset", "end_offset", "size_bytes"),
                        bounds.get(partition.partition, (None, None, None)),
                        strict=True,
                    )
                ),
            }
            for partition in topic.partitions
        ],
        "configs": {key: {"value": config.value, "source": source_name(config)} for key, config in configs.items()},
    }


app.verb("export")(transfer.export_topic)
app.verb("import")(transfer.import_topic)
app.verb()(trim.trim)
app.verb()(elect)
