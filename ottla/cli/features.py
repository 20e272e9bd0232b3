"""`ottla cluster features` and `ottla cluster finalize`: what a newer build brought, and when it is used."""

from typing import TYPE_CHECKING, Annotated

from ottla.cli import typed
from ottla.cli.options import DEFAULT_BOOTSTRAP, Bootstrap, Json

if TYPE_CHECKING:
    from ottla import Admin
    from ottla.client.feature_admin import Feature, FinalizedFeature

_METADATA_VERSION = "metadata.version"


def features(bootstrap: Bootstrap = DEFAULT_BOOTSTRAP, as_json: Json = False) -> None:
    """Show the levels of features, and what each node supports.

    \b
    Examples:
      ottla cluster features
    """
    from ottla.cli.connect import with_admin
    from ottla.cli.output import print_json, print_table

    async def ask(admin: "Admin") -> "dict[str, Feature]":
        return await admin.describe_features()

    found = with_admin(bootstrap, ask)
    if as_json:
        print_json(
            [
                {
                    "feature": feature.name,
                    "level": feature.level,
                    "nodes": [
                        {"node_id": node, "min_level": it.lowest, "max_level": it.highest, "version": it.version}
                        for node, it in feature.nodes.items()
                    ],
                }
                for feature in found.values()
            ]
        )
        return
    rows = [
        (feature.name, feature.level, node, f"{it.lowest} to {it.highest}", it.version or "?")
        for feature in found.values()
        for node, it in feature.nodes.items()
    ]
    print_table(("FEATURE", "LEVEL", "NODE", "SUPPORTS", "BUILD"), rows)


def finalize(
    feature: Annotated[str, typed.Option("--feature", metavar="NAME", help="Which one.")] = _METADATA_VERSION,
    level: Annotated[
        int | None, typed.Option("--level", metavar="N", help="Else the highest that any node supports.", min=1)
    ] = None,
    dry_run: Annotated[bool, typed.Option("--dry-run", help="Check everything, change nothing.")] = False,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    as_json: Json = False,
) -> None:
    """Let the cluster use what a newer build brought. Every node must run it, and there is no
    way back.

    \b
    Examples:
      ottla cluster finalize --dry-run
      ottla cluster finalize
    """
    from ottla.cli.connect import with_admin
    from ottla.cli.output import print_json

    async def work(admin: "Admin") -> "FinalizedFeature":
        return await admin.finalize_feature(feature, level, validate_only=dry_run)

    answer = with_admin(bootstrap, work)
    if as_json:
        print_json(
            {
                "feature": answer.name,
                "previous_level": answer.previous_level,
                "level": answer.level,
                "dry_run": dry_run,
            }
        )
    elif answer.level == answer.previous_level:
        print(f"{answer.name} is at {answer.level} already.")
    elif dry_run:
        print(f"{answer.name} can go from {answer.previous_level} to {answer.level}: every node supports it.")
    else:
        print(f"{answer.name} went from {answer.previous_level} to {answer.level}.")
