"""`ottla user`: who may log in, and with which password."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import click

from ottla.cli import complete, typed
from ottla.cli.failure import Failure
from ottla.cli.options import DEFAULT_BOOTSTRAP, Bootstrap, DryRun, Json, Yes

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ottla import Admin

app = typed.Group("List, add and remove users, and change passwords.")

New = Annotated[str, typed.Argument(metavar="NAME")]
Name = Annotated[str, typed.Argument(metavar="NAME", shell_complete=complete.users)]
PasswordFile = Annotated[
    Path | None,
    typed.Option(
        "--password-file", metavar="FILE", help="Read the password there; else asks, or reads a line of standard input."
    ),
]
_READ_MAX = 4096


@app.verb("list")
def list_users(bootstrap: Bootstrap = DEFAULT_BOOTSTRAP, as_json: Json = False) -> None:
    """List users and how they can log in.

    \b
    Examples:
      ottla user list
    """
    from ottla.cli.connect import with_admin
    from ottla.cli.output import print_json, print_table

    users = with_admin(bootstrap, lambda admin: admin.list_users())
    if as_json:
        print_json([{"user": user.name, "credentials": dict(user.credentials)} for user in users.values()])
        return
    rows = [(user.name, how, iterations) for user in users.values() for how, iterations in user.credentials.items()]
    print_table(("USER", "MECHANISM", "ITERATIONS"), rows)


@app.verb()
def add(
    name: New,
    password_file: PasswordFile = None,
    dry_run: DryRun = False,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    as_json: Json = False,
) -> None:
    """Add a user. The password is asked for; it is never an argument.

    \b
    Examples:
      ottla user add alice
      ottla user add billing --password-file /run/secrets/billing
      openssl rand -base64 24 | tee billing.password | ottla user add billing
    """
    password = _password(name, password_file)
    _change(bootstrap, lambda admin: admin.create_user(name, password, validate_only=dry_run))
    _say(name, "could be added" if dry_run else "was added", as_json)


@app.verb()
def passwd(
    name: Name,
    password_file: PasswordFile = None,
    dry_run: DryRun = False,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    as_json: Json = False,
) -> None:
    """Change a user's password. Sessions with the old one end.

    \b
    Examples:
      ottla user passwd alice
      ottla user passwd billing --password-file /run/secrets/billing
    """
    password = _password(name, password_file)
    _change(bootstrap, lambda admin: admin.change_password(name, password, validate_only=dry_run))
    _say(name, "could get another password" if dry_run else "has another password", as_json)


@app.verb()
def remove(
    name: Name,
    sure: Yes = False,
    dry_run: DryRun = False,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    as_json: Json = False,
) -> None:
    """Remove a user, and end its sessions. Asks first on a terminal.

    \b
    Examples:
      ottla user remove alice --yes
    """
    if not sure and not dry_run and sys.stdin.isatty():
        click.confirm(f"Remove {name}?", abort=True, err=True)
    _change(bootstrap, lambda admin: admin.remove_user(name, validate_only=dry_run))
    _say(name, "could be removed" if dry_run else "was removed", as_json)


def _change(bootstrap: str, change: "Callable[[Admin], Awaitable[None]]") -> None:
    from ottla.cli.connect import with_admin

    with_admin(bootstrap, change)


def _say(name: str, what: str, as_json: bool) -> None:
    from ottla.cli.output import print_json, printable

    if as_json:
        print_json({"user": name})
    else:
        print(f"{printable(name)} {what}.")


def _password(name: str, file: Path | None) -> str:
    """From the file, the terminal or standard input: never from the command line, which others can see."""
    if file is not None:
        with file.open("rb") as opened:
            return _one_line(opened.read(_READ_MAX), str(file))
    if not sys.stdin.isatty():
        return _one_line(sys.stdin.buffer.read(_READ_MAX), "standard input")
    import getpass

    from ottla.cli.output import printable

    password = getpass.getpass(f"Password of {printable(name)}: ")
    if getpass.getpass("Once more: ") != password:
        raise Failure("INVALID_REQUEST", "the two are not the same", "type it again")
    return password


def _one_line(data: bytes, where: str) -> str:
    first, end, more = data.partition(b"\n")
    if more or len(data) >= _READ_MAX:
        raise Failure("INVALID_REQUEST", f"{where} has more than one short line", "give it the password alone")
    try:
        password = first.removesuffix(b"\r").decode() if end else first.decode()
    except UnicodeDecodeError:
        raise Failure("INVALID_REQUEST", f"the password in {where} is not UTF-8", "write it as UTF-8") from None
    if not password:
        raise Failure("INVALID_REQUEST", f"there is no password in {where}", "write it there, alone in one line")
    return password
