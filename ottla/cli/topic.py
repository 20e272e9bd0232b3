"""`ottla topic`: create, list, describe, alter, elect, delete."""

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Final

import typer

from ottla.cli.elect import elect
from ottla.cli.failure import Failure
from ottla.cli.options import DEFAULT_BOOTSTRAP, Bootstrap, Json

if TYPE_CHECKING:
    from ottla import Admin
    from ottla.client.admin import ConfigValue, CreatedTopic
    from ottla.client.view import ClusterView, TopicInfo

app = typer.Typer(help="Create, list, describe, alter and delete topics.", rich_markup_mode=None, no_args_is_help=True)
app.command()(elect)

Name = Annotated[str, typer.Argument(metavar="TOPIC", show_default=False)]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check everything, change nothing.")]
# Shown by `describe` even where they have their defaults: they decide what an acknowledgement is worth.
_ALWAYS_SHOWN: Final = ("flush", "min.insync.replicas", "cleanup.policy")


def settings_of(pairs: list[str] | None, option: str) -> dict[str, str]:
    """KEY=VALUE options as a dict. Raises Failure."""
    settings: dict[str, str] = {}
    for pair in pairs or ():
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise Failure("INVALID_CONFIG", f"{option} {pair!r} is not KEY=VALUE", f"write {option} retention.ms=60000")
        settings[key] = value
    return settings


@app.command()
def create(
    name: Name,
    partitions: Annotated[
        int | None, typer.Option("--partitions", help="How many; else the cluster's default.")
    ] = None,
    replication_factor: Annotated[
        int | None, typer.Option("--replication-factor", help="Copies of each partition; else the cluster's default.")
    ] = None,
    configs: Annotated[
        list[str] | None, typer.Option("--config", help="A topic config, such as retention.ms=60000.", metavar="K=V")
    ] = None,
    dry_run: DryRun = False,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    as_json: Json = False,
) -> None:
    """Create a topic; every live node knows it when this returns."""
    from ottla.cli.connect import with_admin
    from ottla.cli.output import print_json

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
        print(f"{deed} {name}: {made.num_partitions} partitions, replication factor {made.replication_factor}.")


@app.command("list")
def list_topics(bootstrap: Bootstrap = DEFAULT_BOOTSTRAP, as_json: Json = False) -> None:
    """List all topics."""
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


@app.command()
def describe(name: Name, bootstrap: Bootstrap = DEFAULT_BOOTSTRAP, as_json: Json = False) -> None:
    """Show a topic's partitions - leader, epochs, replicas, ISR, ELR - and its configs."""
    from ottla.cli.connect import with_admin
    from ottla.cli.output import print_json, print_table

    async def ask(admin: "Admin") -> "tuple[TopicInfo, dict[str, ConfigValue]]":
        return await admin.describe_topic(name), await admin.describe_topic_configs(name)

    topic, configs = with_admin(bootstrap, ask)
    if as_json:
        print_json(_topic_as_json(topic, configs))
        return
    print(f"{topic.name}, id {topic.topic_id.hex()}, {len(topic.partitions)} partitions")
    for key, config in configs.items():
        if key in _ALWAYS_SHOWN or config.source != "DEFAULT":
            print(f"  {key} = {config.value} ({source_name(config)})")
    rows = [
        (
            partition.partition,
            "none" if partition.leader_id is None else partition.leader_id,
            partition.leader_epoch,
            _ids(partition.replicas),
            _ids(partition.isr),
            _ids(partition.elr),
        )
        for partition in topic.partitions
    ]
    print_table(("PARTITION", "LEADER", "EPOCH", "REPLICAS", "ISR", "ELR"), rows)


@app.command()
def alter(
    name: Name,
    partitions: Annotated[int | None, typer.Option("--partitions", help="The new number; it can only grow.")] = None,
    configs: Annotated[list[str] | None, typer.Option("--config", help="Set a config.", metavar="K=V")] = None,
    resets: Annotated[
        list[str] | None, typer.Option("--reset", help="A config back to its default.", metavar="K")
    ] = None,
    dry_run: DryRun = False,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    as_json: Json = False,
) -> None:
    """Give a topic more partitions, or change its configs."""
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


@app.command()
def delete(
    name: Name,
    sure: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
    dry_run: DryRun = False,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    as_json: Json = False,
) -> None:
    """Delete a topic and its data. Asks first on a terminal."""
    from ottla.cli.connect import with_admin
    from ottla.cli.output import print_json

    if not sure and not dry_run and sys.stdin.isatty():
        typer.confirm(f"Delete {name} and all its records for good?", abort=True)

    async def ask(admin: "Admin") -> None:
        await admin.delete_topic(name, validate_only=dry_run)

    with_admin(bootstrap, ask)
    if as_json:
        print_json({"topic": name, "dry_run": dry_run})
    else:
        print(f"{'Would delete' if dry_run else 'Deleted'} {name}.")


def source_name(config: "ConfigValue") -> str:
    """`topic`, `static broker`, `default` ..."""
    return config.source.lower().replace("_", " ")


def _ids(nodes: Iterable[int]) -> str:
    return ",".join(map(str, nodes)) or "-"


def _topic_as_json(topic: "TopicInfo", configs: "dict[str, ConfigValue]") -> dict[str, object]:
    return {
        "topic": topic.name,
        "topic_id": topic.topic_id.hex(),
        "internal": topic.internal,
        "partitions": [
            {
                "partition": partition.partition,
                "leader": partition.leader_id,
                "leader_epoch": partition.leader_epoch,
                "replicas": list(partition.replicas),
                "isr": list(partition.isr),
                "elr": list(partition.elr),
            }
            for partition in topic.partitions
        ],
        "configs": {key: {"value": config.value, "source": source_name(config)} for key, config in configs.items()},
    }
