"""`ottla config`: what settings are in force, and where each comes from."""

from typing import TYPE_CHECKING, Annotated

import typer

from ottla.cli.failure import Failure
from ottla.cli.options import DEFAULT_BOOTSTRAP, Bootstrap, Json

if TYPE_CHECKING:
    from ottla import Admin
    from ottla.client.admin import ConfigValue

app = typer.Typer(help="Show settings and where they come from.", rich_markup_mode=None, no_args_is_help=True)


@app.callback()
def _group() -> None:
    """With one command alone, typer would leave its name out."""


@app.command()
def describe(
    topic: Annotated[str | None, typer.Option("--topic", help="Of a topic.")] = None,
    broker: Annotated[int | None, typer.Option("--broker", help="Of a node, by id.")] = None,
    keys: Annotated[list[str] | None, typer.Option("--key", help="Only this one.", metavar="KEY")] = None,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    as_json: Json = False,
) -> None:
    """Show the settings of a topic or a node: value, source, and what it means with --json."""
    from ottla.cli.connect import with_admin
    from ottla.cli.output import print_json, print_table
    from ottla.cli.topic import source_name

    if (topic is None) == (broker is None):
        raise Failure("INVALID_REQUEST", "settings of what?", "name either --topic or --broker")

    async def ask(admin: "Admin") -> "dict[str, ConfigValue]":
        if topic is not None:
            return await admin.describe_topic_configs(topic, *keys or ())
        assert broker is not None
        return await admin.describe_broker_configs(broker, *keys or ())

    configs = with_admin(bootstrap, ask).values()
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
                for config in configs
            ]
        )
    else:
        rows = [(config.key, config.value or "-", source_name(config)) for config in configs]
        print_table(("KEY", "VALUE", "SOURCE"), rows)
