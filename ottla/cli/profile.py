"""`ottla profile`: names for clusters, and which one the commands of this user talk to."""

from pathlib import Path
from typing import Annotated

import click

from ottla.cli import typed
from ottla.cli.failure import Failure
from ottla.cli.options import Json

app = typed.Group("Name clusters, and choose one.")


def _known(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    from ottla.cli.profiles import Profiles

    return [name for name in Profiles().bootstraps if name.startswith(incomplete)]


New = Annotated[str, typed.Argument(metavar="NAME")]
Name = Annotated[str, typed.Argument(metavar="NAME", shell_complete=_known)]


@app.verb()
def create(
    name: New,
    bootstrap: Annotated[str, typed.Option("--bootstrap", metavar="HOST:PORT[,...]", help="The cluster's nodes.")],
    tls: Annotated[
        Path | None,
        typed.Option("--tls", metavar="DIR", help="Directory with ca.crt, tls.crt and tls.key, for a secure cluster."),
    ] = None,
    user: Annotated[
        str | None, typed.Option("--user", metavar="NAME", help="Log in as this user; of --tls then ca.crt is enough.")
    ] = None,
    password_file: Annotated[
        Path | None, typed.Option("--password-file", metavar="FILE", help="The user's password, alone in one line.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Name a cluster; the first one is in use at once.

    \b
    Examples:
      ottla profile create prod --bootstrap kafka-1:9192,kafka-2:9192
      ottla profile create prod --bootstrap node-1.example.com:9192 --tls ottla-secure/admin
      ottla profile create prod --bootstrap node-1.example.com:9192 --tls ca --user alice --password-file alice.password
      ottla --profile prod topic list
    """
    from ottla.cli.profiles import Profiles, files_in
    from ottla.client.connection import bootstrap_addresses
    from ottla.client.login import login_of

    if not name.isprintable() or not name.strip():
        raise Failure("INVALID_REQUEST", f"{name!r} is no name for a profile", "take letters and digits")
    profiles = Profiles()
    profiles.bootstraps[name] = ",".join(bootstrap_addresses(bootstrap))
    profiles.tls.pop(name, None)
    profiles.users.pop(name, None)
    if tls is not None:
        profiles.tls[name] = files_in(tls, with_user=user is not None)
    if (user is None) != (password_file is None):
        raise Failure("INVALID_REQUEST", "--user and --password-file go together", "give both, or neither")
    if user is not None and password_file is not None:
        login_of(user, None, password_file)
        profiles.users[name] = {"user": user, "password_file": str(password_file.resolve())}
    profiles.in_use = profiles.in_use or name
    profiles.save()
    _answer(name, f"{name} is {profiles.bootstraps[name]}.", as_json)


@app.verb("list")
def list_profiles(as_json: Json = False) -> None:
    """Show all profiles and which one is in use.

    \b
    Examples:
      ottla profile list
    """
    import os

    from ottla.cli.output import print_json, print_table
    from ottla.cli.profiles import VARIABLE, Profiles

    profiles = Profiles()
    in_use = os.environ.get(VARIABLE) or profiles.in_use
    rows = [(name, bootstrap, name == in_use) for name, bootstrap in sorted(profiles.bootstraps.items())]
    if as_json:
        print_json(
            [
                {
                    "profile": name,
                    "bootstrap": bootstrap,
                    "in_use": used,
                    **_with_tls(profiles.tls.get(name)),
                    **profiles.users.get(name, {}),
                }
                for name, bootstrap, used in rows
            ]
        )
    else:
        print_table(("", "PROFILE", "BOOTSTRAP"), [("*" if used else "", *row) for *row, used in rows])


@app.verb()
def use(name: Name, as_json: Json = False) -> None:
    """Talk to this cluster from now on. --bootstrap, --profile, OTTLA_BOOTSTRAP and OTTLA_PROFILE
    come first.

    \b
    Examples:
      ottla profile use prod
      OTTLA_PROFILE=staging ottla topic list     for once
    """
    from ottla.cli.profiles import Profiles, warn_if_hidden

    profiles = Profiles()
    bootstrap = profiles.bootstrap(name)
    profiles.in_use = name
    profiles.save()
    warn_if_hidden()
    _answer(name, f"{name} is in use: {bootstrap}.", as_json)


@app.verb()
def delete(name: Name, as_json: Json = False) -> None:
    """Forget a name; the cluster is not touched.

    \b
    Examples:
      ottla profile delete staging
    """
    from ottla.cli.profiles import Profiles

    profiles = Profiles()
    profiles.bootstrap(name)
    del profiles.bootstraps[name]
    profiles.tls.pop(name, None)
    profiles.users.pop(name, None)
    if profiles.in_use == name:
        profiles.in_use = None
    profiles.save()
    _answer(name, f"{name} is forgotten.", as_json)


def _with_tls(files: dict[str, str] | None) -> dict[str, object]:
    return {} if files is None else {"tls": files}


def _answer(name: str, words: str, as_json: bool) -> None:
    from ottla.cli.output import print_json

    if as_json:
        print_json({"profile": name})
    else:
        print(words)
