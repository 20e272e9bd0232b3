"""What the shell offers behind TAB where the answer is not in the command line itself: names that the cluster knows."""

import os
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from ottla import Admin

VARIABLE: Final = "_OTTLA_COMPLETE"
"""Set by the shells' scripts when they ask."""
_PATIENCE_S: Final = 1.5


def topics(ctx: Any, _: Any, incomplete: str) -> list[str]:
    """Names of topics."""
    return _names(ctx, incomplete, lambda admin: admin.list_topics())


def groups(ctx: Any, _: Any, incomplete: str) -> list[str]:
    """Names of groups."""

    async def ask(admin: "Admin") -> list[str]:
        return [group.group_id for group in await admin.list_groups()]

    return _names(ctx, incomplete, ask)


def users(ctx: Any, _: Any, incomplete: str) -> list[str]:
    """Names of users."""

    async def ask(admin: "Admin") -> list[str]:
        return list(await admin.list_users())

    return _names(ctx, incomplete, ask)


def topic_configs(_: Any, __: Any, incomplete: str) -> list[str]:
    """`retention.ms=` and the like."""
    from ottla.protocol.configs import TOPIC_KEYS

    return [f"{key}=" for key in sorted(TOPIC_KEYS) if key.startswith(incomplete)]


def topic_config_names(ctx: Any, parameter: Any, incomplete: str) -> list[str]:
    """`retention.ms` and the like."""
    return [each.removesuffix("=") for each in topic_configs(ctx, parameter, incomplete)]


def _names(ctx: Any, incomplete: str, ask: "Callable[[Admin], Awaitable[list[str]]]") -> list[str]:
    """Nothing where no node answers at once: a TAB must never hang, nor print."""
    from ottla.cli.connect import run

    async def work() -> list[str]:
        import asyncio

        from ottla import Admin, Client

        async with asyncio.timeout(_PATIENCE_S), Client(bootstrap, client_id="ottla-cli") as client:
            return await ask(Admin(client))

    from ottla.cli.options import BOOTSTRAP, DEFAULT_BOOTSTRAP
    from ottla.cli.profiles import bootstrap_in_use

    said = ctx.params.get("bootstrap") or ctx.meta.get(BOOTSTRAP) or os.environ.get("OTTLA_BOOTSTRAP")
    bootstrap = str(said or bootstrap_in_use() or DEFAULT_BOOTSTRAP)
    try:
        return [name for name in run(work()) if name.startswith(incomplete)]
    except Exception:  # whatever it is, there is nobody to tell
        return []
