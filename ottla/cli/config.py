"""`ottla config`: what settings are in force, where each comes from, and changing them."""

from typing import TYPE_CHECKING, Annotated

from ottla.cli import complete, typed
from ottla.cli.failure import Failure
from ottla.cli.options import DEFAULT_BOOTSTRAP, Bootstrap, DryRun, Json
from ottla.cli.units import config_value

if TYPE_CHECKING:
    from ottla import Admin
    from ottla.client.admin import ConfigValue

app = typed.Group("Show and change settings of topics and nodes.")

Topic = Annotated[
    str | None, typed.Option("--topic", "-t", help="Of a topic.", metavar="TOPIC", shell_complete=complete.topics)
]
Broker = Annotated[int | None, typed.Option("--broker", "-b", help="Of a node, by id.", metavar="NODE")]
AllBrokers = Annotated[bool, typed.Option("--all-brokers", help="Of every node.")]


@app.verb()
def describe(
    topic: Topic = None,
    broker: Broker = None,
    keys: Annotated[list[str] | None, typed.Option("--key", help="Only this one; repeatable.", metavar="KEY")] = None,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    as_json: Json = False,
) -> None:
    """Show the settings of a topic or a node.

    --json says what each means.

    \b
    Examples:
      ottla config describe --topic orders
      ottla config describe --broker 1 --key num.partitions
    """
    from ottla.cli.connect import with_admin
    from ottla.cli.output import print_json, print_table

    _one_of(topic, broker, all_brokers=False)
    configs = with_admin(bootstrap, lambda admin: _settings(admin, topic, broker))
    for key in keys or ():
        if key not in configs:
            raise _unknown(key, configs)
    shown = [config for config in configs.values() if not keys or config.key in keys]
    if as_json:
        print_json(
            [
                {
                    "key": config.key,
                    "value": config.value,
                    "source": source_name(config),
                    "read_only": config.read_only,
                    "documentation": config.documentation,
                }
                for config in shown
            ]
        )
    else:
        rows = [(config.key, config.value or "-", source_name(config)) for config in shown]
        print_table(("KEY", "VALUE", "SOURCE"), rows)


@app.verb()
def get(
    keys: Annotated[list[str], typed.Argument(metavar="KEY...", shell_complete=complete.topic_config_names)],
    topic: Topic = None,
    broker: Broker = None,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    as_json: Json = False,
) -> None:
    """Print the values of settings, a line each.

    \b
    Examples:
      ottla config get retention.ms --topic orders
    """
    from ottla.cli.connect import with_admin
    from ottla.cli.output import print_json, printable

    _one_of(topic, broker, all_brokers=False)
    configs = with_admin(bootstrap, lambda admin: _settings(admin, topic, broker))
    if unknown := [key for key in keys if key not in configs]:
        raise _unknown(unknown[0], configs)
    if as_json:
        print_json({key: configs[key].value for key in keys})
    else:
        for key in keys:
            print(printable(configs[key].value))


@app.verb("set")
def set_values(
    settings: Annotated[
        list[str],
        typed.Argument(metavar="KEY=VALUE...", shell_complete=complete.topic_configs),
    ],
    topic: Topic = None,
    broker: Broker = None,
    all_brokers: AllBrokers = False,
    dry_run: DryRun = False,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    as_json: Json = False,
) -> None:
    """Change settings of a topic or of nodes, all or none.

    Durations and sizes as one writes them: 7d, 64MiB.

    \b
    Examples:
      ottla config set retention.ms=7d segment.bytes=64MiB --topic orders
      ottla config set log.retention.ms=2d --all-brokers
    """
    _change(settings_of(settings, ""), topic, broker, all_brokers, dry_run, bootstrap, as_json)


@app.verb()
def unset(
    keys: Annotated[list[str], typed.Argument(metavar="KEY...")],
    topic: Topic = None,
    broker: Broker = None,
    all_brokers: AllBrokers = False,
    dry_run: DryRun = False,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    as_json: Json = False,
) -> None:
    """Put settings back to their defaults.

    \b
    Examples:
      ottla config unset retention.ms --topic orders
    """
    _change(dict.fromkeys(keys), topic, broker, all_brokers, dry_run, bootstrap, as_json)


def settings_of(pairs: list[str] | None, option: str) -> dict[str, str]:
    """KEY=VALUE texts as a dict. Raises Failure."""
    settings: dict[str, str] = {}
    for pair in pairs or ():
        key, equals, value = pair.partition("=")
        if not equals or not key:
            given = f"{option} {pair!r}".strip()
            raise Failure("INVALID_CONFIG", f"{given} is not KEY=VALUE", f"write {option} retention.ms=7d")
        settings[key] = config_value(key, value)
    return settings


def source_name(config: "ConfigValue") -> str:
    """`topic`, `static broker`, `default` ..."""
    return config.source.lower().replace("_", " ")


def _change(
    changes: "dict[str, str] | dict[str, str | None]",
    topic: str | None,
    broker: int | None,
    all_brokers: bool,
    dry_run: bool,
    bootstrap: str,
    as_json: bool,
) -> None:
    from ottla.cli.connect import with_admin
    from ottla.cli.output import print_json, print_table

    _one_of(topic, broker, all_brokers=all_brokers)

    async def ask(admin: "Admin") -> "dict[str, ConfigValue]":
        if topic is not None:
            before = await _settings(admin, topic, None)
            await admin.alter_topic_configs(topic, changes, validate_only=dry_run)
            return before
        node = broker if broker is not None else min((await admin.describe_cluster()).brokers, default=1)
        before = await _settings(admin, None, node)
        await admin.alter_broker_configs(broker, changes, validate_only=dry_run)
        return before

    before = with_admin(bootstrap, ask)
    rows = [(key, before[key].value if key in before else None, value) for key, value in changes.items()]
    if as_json:
        moved = [{"key": key, "before": old, "after": new} for key, old, new in rows]
        print_json({"topic": topic, "broker": broker, "dry_run": dry_run, "changes": moved})
        return
    print_table(("KEY", "FROM", "TO"), [(key, old or "-", "default" if new is None else new) for key, old, new in rows])
    if dry_run:
        print("Nothing was changed.")


async def _settings(admin: "Admin", topic: str | None, broker: int | None) -> "dict[str, ConfigValue]":
    if topic is not None:
        return await admin.describe_topic_configs(topic)
    assert broker is not None
    return await admin.describe_broker_configs(broker)


def _one_of(topic: str | None, broker: int | None, *, all_brokers: bool) -> None:
    if sum((topic is not None, broker is not None, all_brokers)) != 1:
        raise Failure("INVALID_REQUEST", "settings of what?", "name one of --topic, --broker and --all-brokers")


def _unknown(key: str, known: "dict[str, ConfigValue]") -> Failure:
    from ottla.protocol.configs import did_you_mean

    message = f"there is no setting {key!r}{did_you_mean(key, known)}"
    return Failure("INVALID_CONFIG", message, "`ottla config describe` shows all")
