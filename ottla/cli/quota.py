"""`ottla quota`: how much clients may have."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

from ottla.cli import typed
from ottla.cli.failure import Failure
from ottla.cli.options import DEFAULT_BOOTSTRAP, Bootstrap, DryRun, Json

if TYPE_CHECKING:
    from ottla import Quota

app = typed.Group("List, set and remove quotas: how much clients may have.")

User = Annotated[str | None, typed.Option("--user", metavar="NAME", help="Of this user; '*': who has none of its own.")]
ClientId = Annotated[
    str | None, typed.Option("--client-id", metavar="ID", help="Of this client id; '*': which has none of its own.")
]
Ip = Annotated[
    str | None, typed.Option("--ip", metavar="ADDRESS", help="Of this address; '*': which has none of its own.")
]
KEYS = {
    "produce": "producer_byte_rate",
    "fetch": "consumer_byte_rate",
    "mutations": "controller_mutation_rate",
    "connections": "connection_creation_rate",
}


@app.verb("list")
def list_quotas(
    user: User = None,
    client_id: ClientId = None,
    ip: Ip = None,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    as_json: Json = False,
) -> None:
    """List quotas; of a user, those of its client ids, too.

    \b
    Examples:
      ottla quota list
      ottla quota list --user alice
    """
    from ottla.cli.connect import with_admin

    _print(with_admin(bootstrap, lambda admin: admin.list_quotas(user=user, client_id=client_id, ip=ip)), as_json)


@app.verb("set")
def set_quotas(
    user: User = None,
    client_id: ClientId = None,
    ip: Ip = None,
    produce: Annotated[
        str | None, typed.Option("--produce", metavar="SIZE", help="Bytes a second, as in 10MiB.")
    ] = None,
    fetch: Annotated[str | None, typed.Option("--fetch", metavar="SIZE", help="Bytes a second, as in 10MiB.")] = None,
    mutations: Annotated[
        float | None, typed.Option("--mutations", metavar="N", help="Partitions made or deleted a second.")
    ] = None,
    connections: Annotated[
        int | None, typed.Option("--connections", metavar="N", help="New ones a second, of an address.")
    ] = None,
    dry_run: DryRun = False,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    as_json: Json = False,
) -> None:
    """Set quotas, which count for each node by itself.

    They are of a user, a client id, a client id of a user, or an address.

    \b
    Examples:
      ottla quota set --client-id importer --produce 5MiB
      ottla quota set --user alice --client-id '*' --fetch 1MiB
      ottla quota set --user '*' --produce 10MiB --fetch 20MiB --mutations 5
      ottla quota set --ip '*' --connections 20
    """
    from ottla.cli.units import size_bytes

    given: dict[str, float | None] = {
        "produce": None if produce is None else size_bytes(produce),
        "fetch": None if fetch is None else size_bytes(fetch),
        "mutations": mutations,
        "connections": connections,
    }
    values: dict[str, float | None] = {KEYS[name]: value for name, value in given.items() if value is not None}
    if not values:
        raise Failure("INVALID_REQUEST", "nothing is to be set", "name a quota, as with --produce 5MiB")
    _alter(values, user, client_id, ip, dry_run, bootstrap, as_json)


@app.verb()
def remove(
    user: User = None,
    client_id: ClientId = None,
    ip: Ip = None,
    produce: Annotated[bool, typed.Option("--produce", help="This one alone.")] = False,
    fetch: Annotated[bool, typed.Option("--fetch", help="This one alone.")] = False,
    mutations: Annotated[bool, typed.Option("--mutations", help="This one alone.")] = False,
    connections: Annotated[bool, typed.Option("--connections", help="This one alone.")] = False,
    dry_run: DryRun = False,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    as_json: Json = False,
) -> None:
    """Remove quotas: all of the entity, or those named.

    \b
    Examples:
      ottla quota remove --client-id importer
      ottla quota remove --user alice --fetch
    """
    from ottla.protocol.quotas import KEYS as ALL

    given = {
        "produce": produce,
        "fetch": fetch,
        "mutations": mutations,
        "connections": connections,
    }
    named = [KEYS[name] for name, is_given in given.items() if is_given]
    every = [key for key, known in ALL.items() if known.of_address == (ip is not None)]
    _alter(dict.fromkeys(named or every), user, client_id, ip, dry_run, bootstrap, as_json)


def _alter(
    values: "dict[str, float | None]",
    user: str | None,
    client_id: str | None,
    ip: str | None,
    dry_run: bool,
    bootstrap: str,
    as_json: bool,
) -> None:
    """Makes a change, and shows what the entity has then."""
    from ottla.cli.connect import with_admin

    if user is None and client_id is None and ip is None:
        raise Failure("INVALID_REQUEST", "nothing says whose quotas", "name --user, --client-id or --ip")

    def left() -> "list[Quota]":
        found = with_admin(bootstrap, lambda admin: admin.list_quotas(user=user, client_id=client_id, ip=ip))
        return [each for each in found if (each.user, each.client_id, each.ip) == (user, client_id, ip)]

    with_admin(
        bootstrap,
        lambda admin: admin.alter_quotas(values, user=user, client_id=client_id, ip=ip, validate_only=dry_run),
    )
    _print(left(), as_json)


def _print(quotas: "list[Quota]", as_json: bool) -> None:
    from ottla.cli.output import print_json, print_table

    if as_json:
        print_json([asdict(each) for each in quotas])
        return
    rows = [
        (each.user or "-", each.client_id or "-", each.ip or "-", key, f"{value:.15g}")
        for each in quotas
        for key, value in each.values.items()
    ]
    print_table(("USER", "CLIENT-ID", "IP", "QUOTA", "A SECOND"), rows)
