"""`ottla`: the one command. Its verbs are named here and imported when one of them is called."""

import os
from collections.abc import Iterator, MutableMapping
from importlib import import_module
from typing import Annotated, Any, Final

import click

from ottla.cli import streams, typed
from ottla.cli.complete import VARIABLE
from ottla.cli.failure import Commands, Failure
from ottla.cli.options import BOOTSTRAP

NAME: Final = "ottla"
VERBS: Final = {
    "dev": "Start a cluster on this machine and run it until Ctrl-C.",
    "produce": "Append records from lines, files or JSON.",
    "consume": "Print records: all, some, or as they come.",
    "topic": "Create, describe, alter, export, import and delete topics.",
    "partition": "Move partitions to other nodes, and look at the moves.",
    "group": "Show, reset and delete consumer groups.",
    "cluster": "Show how the cluster does.",
    "why": "Say why a topic, node or group is as it is.",
    "config": "Show and change settings of topics and nodes.",
    "profile": "Name clusters, and choose one.",
    "secure": "Make, renew and check the cluster's certificates.",
    "user": "List, add and remove users, and change passwords.",
    "acl": "List, add, remove and test ACLs: who may do what.",
    "quota": "List, set and remove quotas: how much clients may have.",
    "bench": "Measure how fast a cluster writes and reads.",
    "verify": "Break a cluster under load, and check that nothing was lost.",
    "debug": "Gather what explains a fault.",
    "log": "Read the files of a node.",
    "node": "Run one node in this process, until SIGTERM or Ctrl-C.",
    "completion": "Print the completion script for a shell.",
    "version": "Print the version.",
}


class _Verbs(MutableMapping[str, Any]):
    """The verbs by name; to take one imports it."""

    def __init__(self) -> None:
        self._taken: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._taken:
            if name not in VERBS:
                raise KeyError(name)
            module = import_module(f"ottla.cli.{name}")
            group = getattr(module, "app", None)
            self._taken[name] = group or typed.command(name, getattr(module, name))
        return self._taken[name]

    def __setitem__(self, name: str, command: Any) -> None:
        self._taken[name] = command

    def __delitem__(self, name: str) -> None:
        del self._taken[name]

    def __iter__(self) -> Iterator[str]:
        return iter(VERBS)

    def __len__(self) -> int:
        return len(VERBS)


class _Root(Commands):
    """`ottla`, whose help imports no verb."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))


def _print_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        from ottla.cli.version import installed

        print(f"ottla {installed()}")
        raise click.exceptions.Exit


def root(
    bootstrap: Annotated[
        str | None,
        typed.Option("--bootstrap", metavar="HOST:PORT[,...]", help="Nodes to start from, for any command."),
    ] = None,
    profile: Annotated[
        str | None, typed.Option("--profile", metavar="NAME", help="The cluster of `ottla profile` to talk to.")
    ] = None,
    version: Annotated[
        bool, typed.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Ottla: a replicated log broker. Start with `ottla dev`.

    \b
    Examples:
      ottla dev --nodes 3                      a cluster on this machine
      ottla topic create hello --partitions 3
      echo 'hello, world' | ottla produce hello
      ottla consume hello --to-end
      ottla topic create --help                more on each
    """
    if bootstrap is not None and profile is not None:
        raise Failure("INVALID_REQUEST", "--bootstrap and --profile both name a cluster", "leave one of them out")
    if profile is not None:
        from ottla.cli.profiles import Profiles

        bootstrap = Profiles().enter(profile)
    if bootstrap is not None:
        click.get_current_context().meta[BOOTSTRAP] = bootstrap


app = _Root(
    name=NAME,
    commands=_Verbs(),
    context_settings={"help_option_names": ["-h", "--help"]},
    **typed.parts_of(root),
)


def main() -> None:
    """The console script."""
    # Before a verb imports grpc: it would print the end of a connection, which is told in our own words, to stderr too.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    streams.settle()
    app(prog_name=NAME, complete_var=VARIABLE)
