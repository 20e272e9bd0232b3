"""`ottla cluster health`: one word, an exit code, and the reasons."""

import asyncio
import time
from typing import TYPE_CHECKING, Annotated, Final, NamedTuple

import click

from ottla.cli import typed
from ottla.cli.options import DEFAULT_BOOTSTRAP, Bootstrap, Json
from ottla.cli.units import duration_ms

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ottla import Admin
    from ottla.client.quorum_admin import Quorum
    from ottla.client.view import ClusterView

_BEHIND_MS: Final = 5_000
_AGAIN_S: Final = 0.3
_NAMED: Final = 5


class Problem(NamedTuple):
    """Something that is not as it should be. `critical`: somebody cannot write or read because of it."""

    critical: bool
    what: str


def health(
    wait: Annotated[
        str | None, typed.Option("--wait", help="Until it is healthy, for so long at most.", metavar="DURATION")
    ] = None,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    as_json: Json = False,
) -> None:
    """Say whether all is well; exit code 0 if so, else 1.

    \b
    Examples:
      ottla cluster health || page-somebody
      ottla cluster health --wait 1m && run-the-tests
    """
    from ottla.cli.output import print_json, styled

    problems = _found(bootstrap, 0 if wait is None else duration_ms(wait) / 1000)
    if as_json:
        print_json({"healthy": not problems, "problems": [problem._asdict() for problem in problems]})
    elif not problems:
        print(styled("healthy", "good"))
    else:
        critical = any(problem.critical for problem in problems)
        print(styled("unhealthy", "bad") if critical else styled("degraded", "warn"))
        for problem in problems:
            print(f"  {styled('critical', 'bad') if problem.critical else styled('warning', 'warn')}: {problem.what}")
    if problems:
        raise click.exceptions.Exit(1)


def _found(bootstrap: str, patience_s: float) -> list[Problem]:
    """What is wrong, or what still is when the patience ends. Also waits for the first node to answer."""
    from ottla.cli.connect import with_admin

    give_up = time.monotonic() + patience_s

    async def ask(admin: "Admin") -> list[Problem]:
        while True:
            problems = await _look(admin)
            if not problems or time.monotonic() >= give_up:
                return problems
            await asyncio.sleep(_AGAIN_S)

    while True:
        try:
            return with_admin(bootstrap, ask)
        except Exception as error:
            from ottla import ConnectionFailed

            if not isinstance(error, ConnectionFailed) or time.monotonic() >= give_up:
                raise


async def _look(admin: "Admin") -> list[Problem]:
    view, quorum = await asyncio.gather(admin.describe_cluster(), admin.describe_quorum())
    needed = {}
    for name, topic in view.topics.items():
        if any(partition.out_of_sync for partition in topic.partitions):
            config = await admin.describe_topic_configs(name, "min.insync.replicas")
            needed[name] = int(config["min.insync.replicas"].value)
    return problems_of(view, quorum, needed)


def problems_of(view: "ClusterView", quorum: "Quorum", needed: "Mapping[str, int]") -> list[Problem]:
    """What is wrong. `needed` has min.insync.replicas of the topics that lack replicas in sync."""
    found = []
    if quorum.leader_id is None:
        found.append(Problem(True, f"the metadata quorum has had no leader for {quorum.leaderless_ms / 1000:.1f} s"))
    elif view.controller_id is None:
        found.append(Problem(True, "there is no active controller"))
    found += [
        Problem(False, f"voter {voter.node_id} is {voter.lag_ms / 1000:.0f} s behind the quorum")
        for voter in quorum.voters
        if voter.lag_ms is not None and voter.lag_ms > _BEHIND_MS
    ]
    found += [
        Problem(False, f"node {broker.node_id} at {broker.address} is down or stopping")
        for broker in view.brokers.values()
        if broker.fenced or broker.in_controlled_shutdown
    ]
    offline, below, lacking = [], [], []
    for topic in view.topics.values():
        for partition in topic.partitions:
            name, in_sync = f"{topic.name}-{partition.partition}", len(partition.isr)
            if partition.leader_id is None:
                offline.append(name)
            elif in_sync < min(needed.get(topic.name, 0), len(partition.replicas) - len(partition.adding)):
                below.append(name)
            elif partition.out_of_sync:
                lacking.append(name)
    for critical, names, state in (
        (True, offline, "without a leader"),
        (True, below, "with fewer replicas in sync than min.insync.replicas: writes are refused"),
        (False, lacking, "with a replica that is not in sync"),
    ):
        if names:
            shown = ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
            found.append(Problem(critical, f"{len(names)} partition{'s' * (len(names) > 1)} {state}: {shown}"))
    return found
